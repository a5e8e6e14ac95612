//! The judge: stock restic, as the system has it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub const PASSWORD: &str = "correct horse battery staple";

/// Restic at work on one repository.
pub struct Restic {
    repository: PathBuf,
}

impl Restic {
    pub fn on(repository: &Path) -> Self {
        Self { repository: repository.into() }
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        Command::new("restic")
            .arg("--no-cache")
            .arg("-r")
            .arg(&self.repository)
            .args(arguments)
            .env("RESTIC_PASSWORD", PASSWORD)
            .env("TZ", "UTC")
            .output()
            .expect("restic is installed: apt-get install restic")
    }

    /// Runs restic and panics with all it said unless it is content.
    pub fn must(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "restic {arguments:?}: {said}\n{complained}");
        said
    }
}
