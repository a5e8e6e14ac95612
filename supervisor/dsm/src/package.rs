//! Where DSM keeps a package: target, etc, var, and the places beside them.

use crate::{Dsm, DsmError, DsmVersion, Folder, HookContext, Result};
use std::path::{Path, PathBuf};

/// The name of a package: also the name of its folder, so it must be one part of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageName(String);

impl PackageName {
    /// Checks a name: letters, digits, `-`, `_`, `.` and `+`, not hidden, at most 100 bytes.
    pub fn new(text: &str) -> Result<Self> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte);
        let is_name = !text.is_empty()
            && text.len() <= 100
            && !text.starts_with(['.', '-'])
            && text.bytes().all(fits);
        if !is_name {
            return Err(DsmError::PackageName { text: text.chars().take(40).collect() });
        }
        Ok(Self(text.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for PackageName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// One installed package (or one about to be), and its folders.
#[derive(Debug, Clone)]
pub struct Package {
    dsm: Dsm,
    name: PackageName,
    version: DsmVersion,
    target: PathBuf,
    var: PathBuf,
    etc: PathBuf,
    var_is_in_target: bool,
}

impl Package {
    /// Finds the folders: what DSM told the script counts first, then DSM's links.
    pub fn find(dsm: &Dsm, name: PackageName, context: &HookContext) -> Result<Self> {
        let home = Path::new("/var/packages").join(name.as_str());
        let newest = DsmVersion { major: 7, minor: 0, build: 0 };
        let version = dsm.version(context).unwrap_or(newest);
        let target = match &context.target {
            Some(target) => target.clone(),
            None => dsm.find(home.join("target"))?,
        };
        let var_is_in_target = !version.keeps_var();
        let var = match &context.var {
            _ if var_is_in_target => target.join("var"),
            Some(var) => var.clone(),
            None => dsm.find(home.join("var"))?,
        };
        let etc = dsm.find(home.join("etc"))?;
        Ok(Self { dsm: dsm.clone(), name, version, target, var, etc, var_is_in_target })
    }

    /// Where DSM's own link says that the payload of a package is.
    pub fn linked_target(dsm: &Dsm, name: &PackageName) -> Result<PathBuf> {
        dsm.find(Path::new("/var/packages").join(name.as_str()).join("target"))
    }

    /// The NAS it is on.
    pub fn dsm(&self) -> &Dsm {
        &self.dsm
    }

    /// Its name.
    pub fn name(&self) -> &PackageName {
        &self.name
    }

    /// The DSM it is on; one that cannot be told counts as 7.0.
    pub fn dsm_version(&self) -> DsmVersion {
        self.version
    }

    /// Where the payload is; wiped at every upgrade.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Where its data is.
    pub fn var(&self) -> &Path {
        &self.var
    }

    /// Where its settings are; survives an uninstall.
    pub fn etc(&self) -> &Path {
        &self.etc
    }

    /// Whether an upgrade wipes the data with the target (DSM 5 and 6).
    pub fn var_is_in_target(&self) -> bool {
        self.var_is_in_target
    }

    /// The data folder, held open. Below DSM 7 it is inside the target, which the package's user
    /// may be able to write: a link in its place is refused.
    pub fn open_var(&self) -> Result<Folder> {
        if self.var_is_in_target {
            return Folder::open(&self.target)?.inner("var");
        }
        Folder::open(&self.var)
    }

    /// The data folder, made with mode 0700 when it is missing.
    pub fn open_or_make_var(&self) -> Result<Folder> {
        let folder = if self.var_is_in_target {
            Folder::open_or_make(&self.target)?.inner_or_make("var", 0o700)?
        } else {
            Folder::open_or_make(&self.var)?
        };
        Ok(folder)
    }

    /// The data an earlier DSM 6 left inside the target of a package that now has its own `var`.
    pub fn open_left_behind(&self) -> Result<Option<Folder>> {
        if self.var_is_in_target {
            return Ok(None);
        }
        match Folder::open(&self.target).and_then(|target| target.inner("var")) {
            Ok(folder) => Ok(Some(folder)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The settings folder, made when it is missing.
    pub fn open_or_make_etc(&self) -> Result<Folder> {
        Folder::open_or_make(&self.etc)
    }

    /// The folders beside targets in which data may wait (`@appstore`), the target's own first: on
    /// the same volume moving is one step. A package that was removed from another volume left its
    /// data there.
    pub fn waiting_rooms(&self) -> Vec<Folder> {
        let own = self.target.parent().unwrap_or(Path::new("/")).to_owned();
        let others = self.dsm.volumes().into_iter().map(|volume| volume.join("@appstore"));
        let others: Vec<PathBuf> = others.filter(|path| *path != own).collect();
        std::iter::once(own).chain(others).filter_map(|path| Folder::open(&path).ok()).collect()
    }

    /// Folders of this package on other volumes that hold something: what it left where it was
    /// before. `store` is `@appdata` or `@appconf`; `own` is where it is now.
    pub fn elsewhere(&self, store: &str, own: &Path) -> Vec<Folder> {
        let places = self.dsm.volumes().into_iter();
        places
            .map(|volume| volume.join(store).join(self.name.as_str()))
            .filter(|path| path != own)
            .filter_map(|path| Folder::open(&path).ok())
            .filter(|folder| folder.is_empty().is_ok_and(|is_empty| !is_empty))
            .collect()
    }

    /// The third place of the identity on DSM below 7, where the root file system can be written.
    pub fn open_or_make_outside(&self) -> Result<Option<Folder>> {
        if !self.var_is_in_target {
            return Ok(None);
        }
        let path = self.dsm.find(Path::new("/var/lib").join(self.name.as_str()))?;
        Folder::open_or_make(&path).map(Some)
    }

    /// The version in the package's `INFO`, when it is installed.
    pub fn info_version(&self) -> Option<String> {
        let info = Path::new("/var/packages").join(self.name.as_str()).join("INFO");
        let text = self.dsm.system_text(info)?;
        let line = text.lines().find_map(|line| line.trim().strip_prefix("version="))?;
        Some(line.trim_matches('"').to_owned())
    }

    /// Where an old CrashPlan package was, or left its data when its upgrade broke off, as paths of
    /// the NAS. It came under three names.
    pub fn crashplan_targets(&self) -> Vec<PathBuf> {
        const NAMES: [&str; 3] = ["CrashPlan", "CrashPlanPRO", "CrashPlanPROe"];
        let linked = |name: &&str| Path::new("/var/packages").join(name).join("target");
        let mut targets: Vec<PathBuf> = NAMES.iter().map(linked).collect();
        for volume in self.dsm.volumes() {
            let Ok(inside) = volume.strip_prefix(self.dsm.root()) else { continue };
            let store = Path::new("/").join(inside).join("@appstore");
            for name in NAMES {
                targets.extend([store.join(name), store.join(format!("{name}_data_mig"))]);
            }
        }
        targets
    }

    /// Identity files that an old CrashPlan package left on the box: its own and its copies, with
    /// their places.
    pub fn crashplan_identities(&self) -> Vec<(PathBuf, String)> {
        let copies = self.crashplan_targets().into_iter();
        let copies = copies.map(|target| target.join("conf/var-backup/.identity"));
        let paths = std::iter::once(PathBuf::from("/var/lib/crashplan/.identity")).chain(copies);
        let found = |path: PathBuf| Some((self.dsm.find(&path).ok()?, self.dsm.system_text(path)?));
        paths.filter_map(found).collect()
    }

    /// DSM 7's own command for packages, where root may use it.
    pub fn synopkg(&self) -> Option<PathBuf> {
        let program = self.dsm.find("/usr/syno/bin/synopkg").ok()?;
        let is_usable = self.version.keeps_var() && nix::unistd::geteuid().is_root();
        (is_usable && program.is_file()).then_some(program)
    }

    /// Tells DSM below 7 that the package is on or off, as its own buttons do. Only for commands
    /// typed by hand: otherwise DSM does it itself. On DSM 7 there is no such file.
    pub fn show_in_package_center(&self, on: bool) -> Result<()> {
        if self.version.keeps_var() {
            return Ok(());
        }
        let home = self.dsm.find(Path::new("/var/packages").join(self.name.as_str()))?;
        let folder = Folder::open(&home)?;
        if on { folder.write("enabled", b"", 0o644) } else { folder.remove_file("enabled") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn told(pairs: &[(&str, &str)]) -> HookContext {
        let map: BTreeMap<_, _> =
            pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        HookContext::from_environment(&map)
    }

    #[test]
    fn the_data_is_in_the_target_below_dsm_7_and_outside_it_from_then_on() {
        let name = || PackageName::new("holdfast").unwrap();
        let dsm = Dsm::at("/nowhere/nas");
        let six =
            Package::find(&dsm, name(), &told(&[("SYNOPKG_DSM_VERSION_MAJOR", "6")])).unwrap();
        assert_eq!(six.var(), Path::new("/nowhere/nas/var/packages/holdfast/target/var"));
        let seven =
            Package::find(&dsm, name(), &told(&[("SYNOPKG_DSM_VERSION_MAJOR", "7")])).unwrap();
        assert_eq!(seven.var(), Path::new("/nowhere/nas/var/packages/holdfast/var"));
        assert!(six.var_is_in_target() && !seven.var_is_in_target());
    }

    #[test]
    fn no_name_leads_out_of_the_folder_of_packages() {
        for text in ["", "..", ".hidden", "a/b", "a b", "a\nb", "-rf", "ü"] {
            assert!(PackageName::new(text).is_err(), "{text:?}");
        }
        assert!(PackageName::new("holdfast-dev_1.2+x").is_ok());
    }
}
