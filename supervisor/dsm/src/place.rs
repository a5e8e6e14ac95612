//! A directory that looks like the root of a Synology system, and paths inside it.

use crate::{DsmError, DsmVersion, HookContext, Result};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// More links on one way are a circle (the kernel's own number).
const LINKS_MAX: usize = 40;

/// A system file larger than this is not read: none that matters here comes near it.
pub(crate) const SYSTEM_FILE_BYTES_MAX: u64 = 1 << 20;

/// The NAS, or a folder that looks like one.
#[derive(Debug, Clone)]
pub struct Dsm {
    root: PathBuf,
}

impl Dsm {
    /// The NAS whose root is at `root`: `/` on a real one.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The root itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether this is the running system and not a folder that looks like one.
    pub fn is_real(&self) -> bool {
        self.root == Path::new("/")
    }

    /// The real path of a path of the NAS (`/var/packages/X/target`), every link on the way
    /// followed inside the root. What does not exist is returned as it would be called.
    ///
    /// Only for DSM's own places: never for one that the package's user can write.
    pub fn find(&self, path: impl AsRef<Path>) -> Result<PathBuf> {
        let path = path.as_ref();
        let mut todo: VecDeque<OsString> = parts(path).collect();
        let mut found = self.root.clone();
        let mut depth = 0_usize;
        let mut links = 0;
        while let Some(part) = todo.pop_front() {
            if part == ".." {
                if depth > 0 {
                    found.pop();
                    depth -= 1;
                }
                continue;
            }
            let next = found.join(&part);
            let Ok(link) = std::fs::read_link(&next) else {
                found = next;
                depth += 1;
                continue;
            };
            links += 1;
            if links > LINKS_MAX {
                return Err(DsmError::LinkLoop { path: path.to_owned() });
            }
            if link.is_absolute() {
                found.clone_from(&self.root);
                depth = 0;
            }
            for part in parts(&link).collect::<Vec<_>>().into_iter().rev() {
                todo.push_front(part);
            }
        }
        Ok(found)
    }

    /// The volumes, in order: `/volume1`, `/volume2`…
    pub fn volumes(&self) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(&self.root) else { return Vec::new() };
        let number = |name: &str| name.strip_prefix("volume")?.parse::<u32>().ok();
        let mut found: Vec<(u32, PathBuf)> = entries
            .flatten()
            .filter_map(|entry| Some((number(entry.file_name().to_str()?)?, entry.path())))
            .collect();
        found.sort();
        found.into_iter().map(|(_, path)| path).collect()
    }

    /// Text of one of DSM's own small files, or `None` when it is missing or cannot be read.
    pub fn system_text(&self, path: impl AsRef<Path>) -> Option<String> {
        use std::io::Read;
        let mut bytes = Vec::new();
        let file = std::fs::File::open(self.find(path).ok()?).ok()?;
        file.take(SYSTEM_FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Which DSM this is: what DSM told the hook, else `etc.defaults/VERSION`.
    pub fn version(&self, context: &HookContext) -> Option<DsmVersion> {
        context.dsm_version.or_else(|| {
            let text = self
                .system_text("/etc.defaults/VERSION")
                .or_else(|| self.system_text("/etc/VERSION"))?;
            DsmVersion::from_file(&text)
        })
    }
}

impl Dsm {
    /// The platform's codename, and the family its processor belongs to: what a package's `arch`
    /// may name. The codename is DSM's word, else the middle of `unique="synology_apollolake_918+"`
    /// in `synoinfo.conf`.
    ///
    /// Of the 32-bit ARM platforms only two are a family of packages (`armv7`); the others must be
    /// named themselves.
    pub fn platforms(&self, context: &HookContext, architecture: &str) -> Vec<String> {
        let written = || {
            let text = self.system_text("/etc.defaults/synoinfo.conf")?;
            let line = text.lines().find_map(|line| line.trim().strip_prefix("unique="))?;
            Some(line.trim_matches('"').split('_').nth(1)?.to_owned())
        };
        let codename = context.platform.clone().or_else(written);
        let is_alpine = matches!(codename.as_deref(), Some("alpine" | "alpine4k"));
        let family = match architecture {
            "x86_64" => Some("x86_64"),
            "aarch64" => Some("armv8"),
            "armv7l" if is_alpine => Some("armv7"),
            "armv5tel" => Some("armv5"),
            "i686" | "i586" => Some("i686"),
            _ => None,
        };
        codename.into_iter().chain(family.map(str::to_owned)).collect()
    }
}

fn parts(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|component| match component {
        Component::Normal(part) => Some(part.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn an_absolute_link_of_dsm_is_followed_inside_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir_all(root.join("volume1/@appstore/holdfast")).unwrap();
        std::fs::create_dir_all(root.join("var/packages/holdfast")).unwrap();
        symlink("/volume1/@appstore/holdfast", root.join("var/packages/holdfast/target")).unwrap();
        let found = Dsm::at(root).find("/var/packages/holdfast/target/bin/x").unwrap();
        assert_eq!(found, root.join("volume1/@appstore/holdfast/bin/x"));
    }

    #[test]
    fn a_platform_is_known_by_its_codename_and_its_family() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("etc.defaults")).unwrap();
        let synoinfo = folder.path().join("etc.defaults/synoinfo.conf");
        let silent = HookContext::from_environment(&std::collections::BTreeMap::new());
        let dsm = Dsm::at(folder.path());
        for (unique, machine, platforms) in [
            ("synology_apollolake_918+", "x86_64", vec!["apollolake", "x86_64"]),
            ("synology_alpine_ds2015xs", "armv7l", vec!["alpine", "armv7"]),
            ("synology_armada38x_ds416j", "armv7l", vec!["armada38x"]),
        ] {
            std::fs::write(&synoinfo, format!("unique=\"{unique}\"\n")).unwrap();
            assert_eq!(dsm.platforms(&silent, machine), platforms);
        }
    }

    #[test]
    fn no_way_up_leaves_the_root_and_no_circle_is_walked_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        symlink("../../../../etc", root.join("out")).unwrap();
        assert_eq!(Dsm::at(root).find("/out/passwd").unwrap(), root.join("etc/passwd"));
        symlink("/b", root.join("a")).unwrap();
        symlink("/a", root.join("b")).unwrap();
        assert!(matches!(Dsm::at(root).find("/a/x"), Err(DsmError::LinkLoop { .. })));
    }
}
