//! Following DSM's absolute links inside the folder that plays the root.

use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// As many links as Linux itself follows.
const LINKS_MAX: usize = 40;

/// Where `inside`, a path of the NAS, lies on this machine. Links are followed as if `root` were
/// `/`, so that none leads out; parts that do not exist are taken as they are.
pub(crate) fn resolve(root: &Path, inside: &Path) -> PathBuf {
    let mut waiting: Vec<OsString> = parts_of(inside);
    waiting.reverse();
    let mut found = PathBuf::new();
    let mut links = 0;
    while let Some(part) = waiting.pop() {
        if part == ".." {
            found.pop();
            continue;
        }
        let here = root.join(&found).join(&part);
        match fs::read_link(&here) {
            Ok(target) if links < LINKS_MAX => {
                links += 1;
                if target.is_absolute() {
                    found = PathBuf::new();
                }
                waiting.extend(parts_of(&target).into_iter().rev());
            }
            _ => found.push(part),
        }
    }
    root.join(found)
}

fn parts_of(path: &Path) -> Vec<OsString> {
    path.components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn an_absolute_link_is_followed_inside_the_root_and_none_leads_out() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        fs::create_dir_all(root.join("volume1/@appstore/x")).unwrap();
        fs::create_dir_all(root.join("var/packages/x")).unwrap();
        symlink("/volume1/@appstore/x", root.join("var/packages/x/target")).unwrap();
        symlink("/../../../etc/passwd", root.join("out")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let at = |inside: &str| resolve(root, Path::new(inside));
        assert_eq!(at("/var/packages/x/target/bin"), root.join("volume1/@appstore/x/bin"));
        assert_eq!(at("out"), root.join("etc/passwd"));
        assert_eq!(at("../../x"), root.join("x"));
        assert!(at("loop").starts_with(root));
    }
}
