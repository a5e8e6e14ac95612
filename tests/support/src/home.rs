//! A temporary folder with the places a backup story needs.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A temporary folder with `source`, `repository`, `restored` and a password file.
///
/// It is readable by every user, because on DSM 7 the engine is not the user who runs the test.
/// Everything goes when it is dropped.
#[derive(Debug)]
pub struct TempHome {
    folder: tempfile::TempDir,
}

impl TempHome {
    /// A fresh one: `source` is an empty folder, `repository` and `restored` do not exist yet.
    ///
    /// # Panics
    /// When the temporary folder cannot be written.
    #[expect(clippy::new_without_default, reason = "a folder on disk is no default value")]
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("holdfast-").tempdir().expect("a folder");
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).expect("a folder");
        let home = Self { folder };
        std::fs::create_dir(home.source()).expect("a folder");
        std::fs::write(home.password_file(), "correct horse battery staple\n").expect("a file");
        home
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A path inside it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The folder to back up.
    pub fn source(&self) -> PathBuf {
        self.join("source")
    }

    /// Where the repository goes.
    pub fn repository(&self) -> PathBuf {
        self.join("repository")
    }

    /// Where restored files go.
    pub fn restored(&self) -> PathBuf {
        self.join("restored")
    }

    /// Where a restored copy of [`TempHome::source`] is found: absolute paths are kept below.
    pub fn restored_source(&self) -> PathBuf {
        let source = self.source();
        self.restored().join(source.strip_prefix("/").unwrap_or(&source))
    }

    /// The file with the repository's password.
    pub fn password_file(&self) -> PathBuf {
        self.join("password")
    }

    /// `holdfast -r REPOSITORY --password-file FILE …`, ready to run.
    pub fn holdfast<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = self.of_repository(&crate::program("holdfast"));
        command.env("HOME", self.join("home")).args(arguments);
        command
    }

    /// `restic -r REPOSITORY --password-file FILE --no-cache …`, ready to run.
    pub fn restic<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = self.of_repository(Path::new("restic"));
        command.arg("--no-cache").args(arguments);
        command
    }

    fn of_repository(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.arg("-r").arg(self.repository()).arg("--password-file").arg(self.password_file());
        command
    }
}
