//! The daemon's own folder: identity, settings and secrets, with one daemon at a time in it.

use crate::failure::{Failure, exit};
use crate::history::History;
use crate::settings::{Settings, replace_file};
use engine_contract::control::{CompleteRun, MESSAGE_BYTES_MAX};
use engine_contract::identity::{FILE_BYTES_MAX, Guid, Identity};
use engine_contract::layout::Layout;
use std::fs::{self, DirBuilder, File};
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// A home this process alone works in, until it is dropped.
#[derive(Debug)]
pub struct Home {
    layout: Layout,
    /// Holds the `flock`; the kernel lets go of it when the process ends, however it ends.
    lock: File,
}

impl Drop for Home {
    fn drop(&mut self) {
        // Closing alone would not do while a program that is just being started has a copy of it.
        let _ = self.lock.unlock();
    }
}

impl Home {
    /// Creates what is missing and takes the lock.
    pub fn take(layout: Layout) -> Result<Self, Failure> {
        for folder in [layout.run(), layout.secrets(), layout.logs(), layout.cache()] {
            private_folder(&folder)?;
        }
        let lock_path = layout.run().join("daemon.lock");
        let lock = File::create(&lock_path).map_err(|error| cannot_use(&lock_path, error))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { layout, lock }),
            Err(fs::TryLockError::WouldBlock) => {
                Err(Failure::new(format!("a daemon works in {} already", layout.home().display()))
                    .remedy("`holdfast status` asks it; stop it first to start another")
                    .code(exit::LOCKED))
            }
            Err(fs::TryLockError::Error(error)) => Err(cannot_use(&lock_path, error)),
        }
    }

    /// The paths of this home.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The log of what happened.
    pub fn history(&self) -> History {
        History::within(&self.layout.logs())
    }

    /// Who this computer is; the first call on a new home decides it.
    pub fn identity(&self) -> Result<Identity, Failure> {
        let path = self.layout.identity();
        let damaged = |why: String| {
            Failure::new(format!("the identity in {} cannot be used: {why}", path.display()))
                .remedy(
                    "stop and start the package: the supervisor restores it from another copy; \
                     without a supervisor, put a copy of the file back",
                )
                .code(exit::CONFIGURATION)
        };
        match File::open(&path) {
            Ok(file) => {
                let mut text = String::new();
                file.take(FILE_BYTES_MAX as u64 + 1)
                    .read_to_string(&mut text)
                    .map_err(|error| damaged(error.to_string()))?;
                Identity::from_text(&text).map_err(|error| damaged(error.to_string()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let bits = getrandom::u64().map_err(|error| damaged(error.to_string()))?;
                let identity = Identity::new(Guid::from_random(bits));
                self.set_identity(identity)?;
                Ok(identity)
            }
            Err(error) => Err(damaged(error.to_string())),
        }
    }

    /// Becomes another computer.
    pub fn set_identity(&self, identity: Identity) -> Result<(), Failure> {
        let path = self.layout.identity();
        replace_file(&path, identity.to_text().as_bytes()).map_err(|error| cannot_use(&path, error))
    }

    /// Destinations and sets.
    pub fn settings(&self) -> Result<Settings, Failure> {
        Settings::read(&self.layout.settings())
    }

    /// Writes destinations and sets.
    pub fn set_settings(&self, settings: &Settings) -> Result<(), Failure> {
        settings.write(&self.layout.settings())
    }

    /// The sets whose last run did not come to a good end, by name.
    pub fn unfinished(&self) -> Vec<String> {
        let entries = fs::read_dir(self.unfinished_folder()).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// A run of a set begins. A full disk must not hinder it, so that nothing is said of one.
    pub fn note_unfinished(&self, set: &str) {
        let folder = self.unfinished_folder();
        let _ = private_folder(&folder).map(|()| File::create(folder.join(set)));
    }

    /// It came to a good end, or there is no such set any more.
    pub fn note_finished(&self, set: &str) {
        let _ = fs::remove_file(self.unfinished_folder().join(set));
    }

    fn unfinished_folder(&self) -> PathBuf {
        self.layout.home().join("unfinished")
    }

    /// The last complete run of a set, from before this start.
    pub fn complete_run(&self, set: &str) -> Option<CompleteRun> {
        let file = File::open(self.layout.complete_runs().join(set)).ok()?;
        let mut bytes = Vec::new();
        file.take(MESSAGE_BYTES_MAX as u64).read_to_end(&mut bytes).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Keeps the last complete run of a set. A full disk must not hinder it, so that nothing is
    /// said of one.
    pub fn keep_complete_run(&self, set: &str, run: &CompleteRun) {
        let folder = self.layout.complete_runs();
        let Ok(bytes) = serde_json::to_vec(run) else { return };
        let _ = private_folder(&folder).map(|()| replace_file(&folder.join(set), &bytes));
    }

    /// There is no such set any more.
    pub fn forget_complete_run(&self, set: &str) {
        let _ = fs::remove_file(self.layout.complete_runs().join(set));
    }

    /// The file of a destination's password; the name was checked when the destination was added.
    pub fn password_file(&self, destination: &str) -> PathBuf {
        self.layout.secrets().join(destination)
    }

    /// The file of the access key of a destination that is a bucket. No destination's name holds
    /// a `@`.
    pub fn access_key_file(&self, destination: &str) -> PathBuf {
        self.layout.secrets().join(format!("{destination}@s3"))
    }

    /// Keeps a destination's access key.
    pub fn keep_access_key(&self, destination: &str, lines: &str) -> Result<(), Failure> {
        let path = self.access_key_file(destination);
        replace_file(&path, lines.as_bytes()).map_err(|error| cannot_use(&path, error))
    }

    /// Keeps a destination's password.
    pub fn keep_password(&self, destination: &str, password: &str) -> Result<(), Failure> {
        let path = self.password_file(destination);
        replace_file(&path, format!("{password}\n").as_bytes())
            .map_err(|error| cannot_use(&path, error))
    }
}

fn private_folder(path: &Path) -> Result<(), Failure> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| cannot_use(path, error))
}

fn cannot_use(path: &Path, error: std::io::Error) -> Failure {
    Failure::new(format!("{} cannot be written", path.display()))
        .because(error)
        .remedy("give the user the daemon runs as write permission there, and free disk space")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_home_gets_a_guid_and_keeps_it() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::below(folder.path().join("var"));
        let guid = Home::take(layout.clone()).unwrap().identity().unwrap().guid;
        assert_eq!(Home::take(layout).unwrap().identity().unwrap().guid, guid);
    }

    #[test]
    fn a_damaged_identity_is_never_replaced_by_a_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::below(folder.path());
        let home = Home::take(layout.clone()).unwrap();
        home.identity().unwrap();
        fs::write(layout.identity(), "guid=7\n").unwrap();
        assert_eq!(home.identity().unwrap_err().exit_code(), exit::CONFIGURATION);
        assert_eq!(fs::read_to_string(layout.identity()).unwrap(), "guid=7\n");
    }

    #[test]
    fn what_was_begun_is_known_until_it_is_finished() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::take(Layout::below(folder.path())).unwrap();
        assert!(home.unfinished().is_empty());
        home.note_unfinished("photos");
        home.note_unfinished("letters");
        assert_eq!(home.unfinished(), ["letters", "photos"]);
        home.note_finished("letters");
        assert_eq!(home.unfinished(), ["photos"]);
    }

    #[test]
    fn two_daemons_never_work_in_one_home() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::below(folder.path());
        let first = Home::take(layout.clone()).unwrap();
        assert_eq!(Home::take(layout.clone()).unwrap_err().exit_code(), exit::LOCKED);
        drop(first);
        assert!(Home::take(layout).is_ok());
    }
}
