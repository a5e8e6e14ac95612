//! The daemon's settings: destinations and backup sets, as `settings.json` holds them.

use crate::failure::{Failure, exit};
use engine_contract::console::Listen;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A longer file is not read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// No more destinations, and no more sets, than this.
const ENTRIES_MAX: usize = 1000;

/// What the owner asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Places that hold a repository.
    pub destinations: Vec<Destination>,
    /// What to protect.
    pub sets: Vec<BackupSet>,
    /// Where the web console listens. What is as usual is not written down.
    #[serde(default, skip_serializing_if = "is_usual")]
    pub console: Listen,
}

fn is_usual(console: &Listen) -> bool {
    *console == Listen::default()
}

/// A place that holds a repository. It is known by the repository's id, not by its location.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Destination {
    /// The owner's name for it.
    pub name: String,
    /// Where it was last found.
    pub location: String,
    /// The id in the repository's config, 64 hex digits.
    pub repository_id: String,
    /// Words for `ssh`, where it is on a server to log in to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ssh_arguments: Vec<String>,
}

/// What the owner asked to protect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupSet {
    /// The owner's name for it.
    pub name: String,
    /// Absolute paths.
    pub paths: Vec<PathBuf>,
    /// Glob patterns that are left out.
    #[serde(default)]
    pub excludes: Vec<String>,
    /// The name of the destination.
    pub destination: String,
}

impl Settings {
    /// Reads the file; no file means no settings yet.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let bytes = match fs::metadata(path) {
            Ok(facts) if facts.len() > FILE_BYTES_MAX => {
                return Err(unusable(path, "it is longer than 1 MiB"));
            }
            Ok(_) => fs::read(path).map_err(|error| unusable(path, &error.to_string()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(unusable(path, &error.to_string())),
        };
        serde_json::from_slice(&bytes).map_err(|error| unusable(path, &error.to_string()))
    }

    /// Writes the file so that a power cut leaves the old one or the new one.
    pub fn write(&self, path: &Path) -> Result<(), Failure> {
        let mut bytes = serde_json::to_vec_pretty(self)
            .map_err(|error| Failure::new("the settings cannot be written").because(error))?;
        bytes.push(b'\n');
        replace_file(path, &bytes)
            .map_err(|error| Failure::new("the settings cannot be written").because(error))
    }

    /// The destination of that name.
    pub fn destination(&self, name: &str) -> Result<&Destination, Failure> {
        self.destinations.iter().find(|destination| destination.name == name).ok_or_else(|| {
            Failure::new(format!("there is no destination `{name}`")).remedy(
                "`holdfast destination list` shows what there is; \
                 `holdfast destination add NAME FOLDER` makes one",
            )
        })
    }

    /// The set of that name.
    pub fn set(&self, name: &str) -> Result<&BackupSet, Failure> {
        self.sets.iter().find(|set| set.name == name).ok_or_else(|| {
            Failure::new(format!("there is no backup set `{name}`"))
                .remedy("`holdfast set list` shows what there is")
        })
    }

    /// Adds a destination; its name must be new.
    pub fn add_destination(&mut self, destination: Destination) -> Result<(), Failure> {
        require_name(&destination.name)?;
        require_room(self.destinations.len())?;
        if self.destinations.iter().any(|known| known.name == destination.name) {
            return Err(taken("destination", &destination.name));
        }
        self.destinations.push(destination);
        Ok(())
    }

    /// Adds a set; its name must be new, its destination known, its paths absolute.
    pub fn add_set(&mut self, set: BackupSet) -> Result<(), Failure> {
        require_name(&set.name)?;
        require_room(self.sets.len())?;
        self.destination(&set.destination)?;
        if self.sets.iter().any(|known| known.name == set.name) {
            return Err(taken("backup set", &set.name));
        }
        if let Some(path) = set.paths.iter().find(|path| !path.is_absolute()) {
            return Err(Failure::new(format!("`{}` is not an absolute path", path.display()))
                .remedy("give the path from the root on, such as /volume1/photo"));
        }
        self.sets.push(set);
        Ok(())
    }

    /// Removes a destination no set uses.
    pub fn remove_destination(&mut self, name: &str) -> Result<(), Failure> {
        self.destination(name)?;
        if let Some(set) = self.sets.iter().find(|set| set.destination == name) {
            return Err(Failure::new(format!("backup set `{}` uses `{name}`", set.name))
                .remedy(format!("remove the set first: `holdfast set remove {}`", set.name)));
        }
        self.destinations.retain(|destination| destination.name != name);
        Ok(())
    }

    /// Removes a set; its snapshots stay.
    pub fn remove_set(&mut self, name: &str) -> Result<(), Failure> {
        self.set(name)?;
        self.sets.retain(|set| set.name != name);
        Ok(())
    }
}

/// Writes beside the file, syncs, and renames: a reader sees the old bytes or the new ones.
pub fn replace_file(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let folder = path.parent().unwrap_or(Path::new("."));
    let beside = path.with_extension("new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    fs::File::open(folder)?.sync_all()
}

fn unusable(path: &Path, why: &str) -> Failure {
    Failure::new(format!("the settings in {} cannot be used: {why}", path.display()))
        .remedy("mend the file, or move it away and set up destinations and sets again")
        .code(exit::CONFIGURATION)
}

fn taken(what: &str, name: &str) -> Failure {
    Failure::new(format!("there is a {what} `{name}` already"))
        .remedy(format!("choose another name, or remove the old {what} first"))
}

fn require_room(entries: usize) -> Result<(), Failure> {
    if entries >= ENTRIES_MAX {
        return Err(Failure::new(format!("there are {ENTRIES_MAX} entries already"))
            .remedy("remove some that are no longer used"));
    }
    Ok(())
}

/// Names become file names and JSON keys: letters, digits, `-`, `_`, `.`, no dot in front.
fn require_name(name: &str) -> Result<(), Failure> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.chars().all(is_plain) {
        return Err(Failure::new(format!("`{name}` cannot be a name"))
            .remedy("use 1 to 64 letters, digits, `-`, `_` and `.`, not beginning with a dot")
            .code(exit::WRONG_USE));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usb() -> Destination {
        Destination {
            name: "usb".into(),
            location: "/volumeUSB1/backup".into(),
            repository_id: "ab".repeat(32),
            ssh_arguments: Vec::new(),
        }
    }

    fn photos() -> BackupSet {
        BackupSet {
            name: "photos".into(),
            paths: vec!["/volume1/photo".into()],
            excludes: vec![],
            destination: "usb".into(),
        }
    }

    #[test]
    fn settings_come_back_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.json");
        assert_eq!(Settings::read(&path).unwrap(), Settings::default());
        let mut settings = Settings::default();
        settings.add_destination(usb()).unwrap();
        settings.add_set(photos()).unwrap();
        settings.write(&path).unwrap();
        assert_eq!(Settings::read(&path).unwrap(), settings);
    }

    #[test]
    fn garbage_in_the_file_is_a_configuration_failure_that_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.json");
        for garbage in ["", "{", "[]", "{\"sets\":7}", "{\"unheard_of\":1}", "\u{0}\u{1}"] {
            fs::write(&path, garbage).unwrap();
            let failure = Settings::read(&path).unwrap_err();
            assert_eq!(failure.exit_code(), exit::CONFIGURATION, "{garbage:?}");
            assert!(failure.remedy_text().is_some());
        }
    }

    #[test]
    fn a_name_that_would_leave_its_folder_is_refused() {
        for name in ["", ".", "..", ".hidden", "a/b", "a b", "ü", "a\n", "; reboot"] {
            let mut settings = Settings::default();
            assert!(settings.add_destination(Destination { name: name.into(), ..usb() }).is_err());
        }
    }

    #[test]
    fn a_destination_in_use_stays_until_its_set_is_gone() {
        let mut settings = Settings::default();
        settings.add_destination(usb()).unwrap();
        settings.add_set(photos()).unwrap();
        assert!(settings.remove_destination("usb").is_err());
        settings.remove_set("photos").unwrap();
        settings.remove_destination("usb").unwrap();
        assert_eq!(settings, Settings::default());
    }
}
