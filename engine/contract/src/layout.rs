//! Where things are inside the engine's home, one folder that survives package upgrades.
//!
//! On DSM 7 the home is `/var/packages/holdfast/var`, on DSM 5 and 6 `target/var`.

use std::path::{Path, PathBuf};

/// The paths below one home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    home: PathBuf,
}

impl Layout {
    /// The layout below `home`; nothing is created.
    pub fn below(home: impl Into<PathBuf>) -> Self {
        Self { home: home.into() }
    }

    /// The home itself.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The computer's identity: see [`crate::identity`].
    pub fn identity(&self) -> PathBuf {
        self.home.join("identity")
    }

    /// Backup sets and destinations, written by the daemon only.
    pub fn settings(&self) -> PathBuf {
        self.home.join("settings.json")
    }

    /// What the owner answered in Package Center's wizard: a JSON object of texts. The supervisor
    /// writes it while DSM installs; the daemon does what it says and renames it.
    pub fn answers(&self) -> PathBuf {
        self.home.join("answers.json")
    }

    /// The folder of repository passwords, one file a destination, mode 0700.
    pub fn secrets(&self) -> PathBuf {
        self.home.join("secrets")
    }

    /// What can be lost without losing anything but time: local indexes and catalogues.
    pub fn cache(&self) -> PathBuf {
        self.home.join("cache")
    }

    /// Logs, bounded and rotated.
    pub fn logs(&self) -> PathBuf {
        self.home.join("log")
    }

    /// Sockets, PID files and locks; worthless after a reboot.
    pub fn run(&self) -> PathBuf {
        self.home.join("run")
    }

    /// Where the web console is, and what lets a reader in: see [`crate::console`]. Mode 0600.
    pub fn ui_info(&self) -> PathBuf {
        self.home.join(".ui_info")
    }

    /// The last complete run of each backup set, one file a set, written by the daemon only.
    pub fn complete_runs(&self) -> PathBuf {
        self.home.join("complete")
    }

    /// The Unix socket of the control API (HTTP/JSON), mode 0600.
    pub fn control_socket(&self) -> PathBuf {
        self.run().join("control.sock")
    }
}
