//! What the owner answered in Package Center's wizard becomes a destination and a backup set.
//!
//! The answers are followed once: the file is renamed when they are settled. Answers that cannot be
//! followed yet, because a disk is not connected, are tried again at the next start; each time the
//! history says why.

use crate::daemon::Daemon;
use crate::destination;
use crate::failure::Failure;
use crate::job::Jobs;
use crate::settings::BackupSet;
use engine_contract::control::AddDestination;
use serde::Deserialize;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A longer file is none of the wizard's.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The name of the destination the wizard asks for.
const DESTINATION_NAME: &str = "backup";

/// The answers the engine follows; the supervisor follows the one about the GUID.
#[derive(Debug, Default, Deserialize)]
struct Answers {
    /// The folder to protect.
    #[serde(default)]
    pkgwizard_source: String,
    /// The folder the repository goes into.
    #[serde(default)]
    pkgwizard_destination: String,
}

/// Follows the answers, if there are any; what goes wrong is told in the history.
pub fn follow(daemon: &Arc<Daemon>, jobs: &Jobs) {
    let path = daemon.home.layout().answers();
    let Some(answers) = read(&path) else { return };
    match settle(daemon, &answers) {
        Ok(set) => {
            // Were they followed twice, the second time would find everything set up.
            let _ = fs::rename(&path, path.with_extension("followed.json"));
            if let Some(set) = set
                && let Err(failure) = jobs.start(daemon, &set)
            {
                daemon.log(&format!("the first backup of set {set} was not started: {failure}"));
            }
        }
        Err(failure) => daemon.log(&format!(
            "what was answered at the installation could not be set up: {failure}; {}",
            failure.remedy_text().unwrap_or("it is tried again at the next start")
        )),
    }
}

fn read(path: &Path) -> Option<Answers> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?,
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!("{} cannot be read: {error}", path.display());
            return None;
        }
    };
    match serde_json::from_slice(&bytes) {
        Ok(answers) => Some(answers),
        Err(error) => {
            tracing::warn!("{} is not what the wizard writes: {error}", path.display());
            None
        }
    }
}

/// Sets up what was answered; the name of the set, when there is one to run.
fn settle(daemon: &Daemon, answers: &Answers) -> Result<Option<String>, Failure> {
    if answers.pkgwizard_destination.is_empty() {
        return Ok(None);
    }
    let is_known = daemon.known().settings.destination(DESTINATION_NAME).is_ok();
    if !is_known {
        let wanted = AddDestination {
            name: DESTINATION_NAME.to_owned(),
            location: answers.pkgwizard_destination.clone(),
            password: None,
            access_key: None,
            ssh_arguments: Vec::new(),
        };
        destination::add(daemon, wanted)?;
    }
    if answers.pkgwizard_source.is_empty() {
        return Ok(None);
    }
    let path = PathBuf::from(&answers.pkgwizard_source);
    let name = set_name(&path);
    let is_known = daemon.known().settings.set(&name).is_ok();
    if !is_known {
        daemon.change_settings(|settings| {
            settings.add_set(BackupSet {
                name: name.clone(),
                paths: vec![path],
                excludes: Vec::new(),
                destination: DESTINATION_NAME.to_owned(),
            })
        })?;
        daemon.log(&format!("backup set {name} set up as answered at the installation"));
    }
    Ok(Some(name))
}

/// The folder's own name, as far as it can be a set's.
fn set_name(path: &Path) -> String {
    let own = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let plain: String = own
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' })
        .collect();
    let plain = plain.trim_start_matches('.');
    if plain.is_empty() { "everything".to_owned() } else { plain.chars().take(64).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_named_after_its_folder_whatever_the_folder_is_called() {
        for (path, name) in [
            ("/volume1/photo", "photo"),
            ("/volume1/Meine Bilder", "Meine_Bilder"),
            ("/volume1/.hidden", "hidden"),
            ("/", "everything"),
            ("/volume1/写真", "__"),
        ] {
            assert_eq!(set_name(Path::new(path)), name);
        }
        assert_eq!(set_name(Path::new(&format!("/{}", "x".repeat(200)))).len(), 64);
    }

    #[test]
    fn a_file_the_wizard_did_not_write_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("answers.json");
        assert!(read(&path).is_none());
        fs::write(&path, "8000; rm -rf /").unwrap();
        assert!(read(&path).is_none());
        fs::write(&path, r#"{"pkgwizard_source":"/volume1/photo","other":"x"}"#).unwrap();
        assert_eq!(read(&path).unwrap().pkgwizard_source, "/volume1/photo");
    }
}
