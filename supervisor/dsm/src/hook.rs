//! What DSM tells a package's script: the `SYNOPKG_*` variables and the wizard's answers.
//!
//! The caller hands in the environment as a map, so that only `main` reads the real one. Names and
//! versions: Synology's developer guide, *script environment variables*.

use crate::DsmVersion;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A longer wizard answer is refused unread.
pub const WIZARD_VALUE_BYTES_MAX: usize = 4096;

/// What Package Center is doing. At boot and shutdown DSM says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackageStatus {
    /// A new installation.
    Install,
    /// One version replaces another.
    Upgrade,
    /// The package is being removed.
    Uninstall,
    /// The Run button.
    Start,
    /// The Stop button.
    Stop,
    /// Boot, shutdown, or a person over SSH.
    Unsaid,
}

/// What DSM handed over, already typed. Everything is optional: older DSM say less, SSH nothing.
#[derive(Debug, Clone)]
pub struct HookContext {
    /// `SYNOPKG_PKGNAME`.
    pub package_name: Option<String>,
    /// `SYNOPKG_PKGVER`: the new version during an upgrade.
    pub package_version: Option<String>,
    /// `SYNOPKG_OLD_PKGVER`: the version being replaced (DSM 6 and later).
    pub old_package_version: Option<String>,
    /// `SYNOPKG_PKGDEST`: the real target folder, `/volume1/@appstore/NAME`.
    pub target: Option<PathBuf>,
    /// `SYNOPKG_PKGVAR`: the real data folder (DSM 7).
    pub var: Option<PathBuf>,
    /// `SYNOPKG_PKGINST_TEMP_DIR`: where the package was unpacked before it is installed.
    pub unpacked: Option<PathBuf>,
    /// `SYNOPKG_TEMP_LOGFILE`: what is written there, the user reads in a dialog.
    pub message_file: Option<PathBuf>,
    /// `SYNOPKG_TEMP_UPGRADE_FOLDER`: kept from preupgrade to postupgrade, and after it.
    pub upgrade_folder: Option<PathBuf>,
    /// `SYNOPKG_PKG_STATUS`.
    pub status: PackageStatus,
    /// `SYNOPKG_DSM_VERSION_MAJOR`, `_MINOR`, `_BUILD`.
    pub dsm_version: Option<DsmVersion>,
    /// `SYNOPKG_DSM_ARCH`: the platform's codename (`apollolake`).
    pub platform: Option<String>,
    /// The wizard's answers, as they came: unchecked text.
    pub wizard: BTreeMap<String, String>,
}

impl HookContext {
    /// Reads what DSM handed over from an environment.
    pub fn from_environment(environment: &BTreeMap<String, String>) -> Self {
        let text = |name: &str| environment.get(name).filter(|value| !value.is_empty()).cloned();
        let path = |name: &str| text(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let number = |name: &str| text(name).and_then(|value| value.parse().ok());
        Self {
            package_name: text("SYNOPKG_PKGNAME"),
            package_version: text("SYNOPKG_PKGVER"),
            old_package_version: text("SYNOPKG_OLD_PKGVER"),
            target: path("SYNOPKG_PKGDEST"),
            var: path("SYNOPKG_PKGVAR"),
            unpacked: path("SYNOPKG_PKGINST_TEMP_DIR"),
            message_file: path("SYNOPKG_TEMP_LOGFILE"),
            upgrade_folder: path("SYNOPKG_TEMP_UPGRADE_FOLDER"),
            status: status(text("SYNOPKG_PKG_STATUS").as_deref()),
            dsm_version: number("SYNOPKG_DSM_VERSION_MAJOR").map(|major| DsmVersion {
                major,
                minor: number("SYNOPKG_DSM_VERSION_MINOR").unwrap_or(0),
                build: number("SYNOPKG_DSM_VERSION_BUILD").unwrap_or(0),
            }),
            platform: text("SYNOPKG_DSM_ARCH"),
            wizard: wizard_answers(environment),
        }
    }

    /// Whether DSM itself asked, and not a person over SSH.
    pub fn is_from_dsm(&self) -> bool {
        self.package_name.is_some()
    }
}

/// DSM prescribes no prefix; these are the two that packages use.
fn wizard_answers(environment: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    environment
        .iter()
        .filter(|(key, _)| {
            let key = key.to_ascii_lowercase();
            key.starts_with("wizard_") || key.starts_with("pkgwizard_")
        })
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn status(text: Option<&str>) -> PackageStatus {
    match text {
        Some("INSTALL") => PackageStatus::Install,
        Some("UPGRADE") => PackageStatus::Upgrade,
        Some("UNINSTALL") => PackageStatus::Uninstall,
        Some("START") => PackageStatus::Start,
        Some("STOP") => PackageStatus::Stop,
        _ => PackageStatus::Unsaid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(pairs: &[(&str, &str)]) -> HookContext {
        let map = pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        HookContext::from_environment(&map)
    }

    #[test]
    fn dsm_5_says_little_and_a_person_over_ssh_nothing() {
        let five = told(&[("SYNOPKG_PKGNAME", "holdfast"), ("SYNOPKG_PKGDEST", "/volume1/x")]);
        assert!(five.is_from_dsm());
        assert_eq!(five.upgrade_folder, None);
        assert!(!told(&[]).is_from_dsm());
        assert_eq!(told(&[]).status, PackageStatus::Unsaid);
    }

    #[test]
    fn a_folder_that_is_not_absolute_is_not_believed() {
        assert_eq!(told(&[("SYNOPKG_PKGDEST", "../../etc")]).target, None);
        assert_eq!(told(&[("SYNOPKG_PKGVAR", "")]).var, None);
    }

    #[test]
    fn only_variables_of_the_wizard_count_as_answers() {
        let context = told(&[("wizard_folder", "/volume1/x"), ("LD_PRELOAD", "/tmp/evil.so")]);
        assert_eq!(context.wizard.keys().collect::<Vec<_>>(), ["wizard_folder"]);
    }
}
