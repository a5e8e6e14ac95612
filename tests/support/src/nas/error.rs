//! Why the NAS refuses, in DSM's terms.

use std::io;
use std::path::{Path, PathBuf};

/// Why something was not done. `Display` is the fact; [`NasError::remedy`] says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NasError {
    /// The folder under the NAS failed, not the NAS.
    #[error("{}: the folder cannot be used", path.display())]
    Disk {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The folder is no place for a NAS.
    #[error("{}: {fact}", path.display())]
    Place {
        /// Where.
        path: PathBuf,
        /// What is wrong with it.
        fact: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// DSM's installer refuses the package; `code` is what `synopkg` reports.
    #[error("DSM refuses the package (error {code}): {reason}")]
    Refused {
        /// The number in `synopkg.log`.
        code: u16,
        /// Why.
        reason: String,
    },
    /// A script ended with another code than 0, which ends the operation.
    #[error("the package's script `{script}` ended with {code}{}", message_of(message))]
    Script {
        /// Its name.
        script: String,
        /// Its exit code; 128 and the signal's number when a signal ended it.
        code: i32,
        /// What it wrote for the user.
        message: String,
        /// Whether the package is now one that Package Center offers to repair.
        corrupted: bool,
        /// The log with the script's output.
        log: PathBuf,
    },
    /// Package Center says "Invalid location".
    #[error("invalid location {url}: {reason}")]
    Location {
        /// The source, or a file of it.
        url: String,
        /// Why.
        reason: String,
    },
    /// What was downloaded is not what the catalog promised.
    #[error("{url} is not what the catalog promises: {reason}")]
    Download {
        /// The file.
        url: String,
        /// The difference.
        reason: String,
    },
    /// The catalog has no such package for this NAS.
    #[error("the source offers no package `{package}` for this NAS")]
    NotOffered {
        /// Its name.
        package: String,
    },
    /// No such package is installed.
    #[error("`{package}` is not installed")]
    NotInstalled {
        /// Its name.
        package: String,
    },
    /// It is installed already, in this version or a higher one.
    #[error("`{package}` {installed} is installed; {offered} is no upgrade")]
    NoUpgrade {
        /// Its name.
        package: String,
        /// What is there.
        installed: String,
        /// What was to be installed.
        offered: String,
    },
}

fn message_of(message: &str) -> String {
    if message.trim().is_empty() { String::new() } else { format!(": {}", message.trim()) }
}

impl NasError {
    /// What the person at the terminal should do.
    pub fn remedy(&self) -> String {
        match self {
            Self::Disk { .. } => "look at the folder's rights and at the room left".to_owned(),
            Self::Place { remedy, .. } => (*remedy).to_owned(),
            Self::Refused { .. } => "change the package; `spk check` explains each rule".to_owned(),
            Self::Script { log, .. } => format!("read {}", log.display()),
            Self::Location { .. } => "open the URL in a browser; is the depot running?".to_owned(),
            Self::Download { .. } => "do not install it; publish the package again".to_owned(),
            Self::NotOffered { .. } => {
                "look at `nas list`; publish a package for this platform and DSM".to_owned()
            }
            Self::NotInstalled { .. } => "install it first".to_owned(),
            Self::NoUpgrade { .. } => "publish a higher version, or uninstall first".to_owned(),
        }
    }

    pub(crate) fn refused(code: u16, reason: impl Into<String>) -> Self {
        Self::Refused { code, reason: reason.into() }
    }
}

/// Names the path in an error of the disk.
pub(crate) trait AtPath<T> {
    fn at(self, path: &Path) -> Result<T, NasError>;
}

impl<T> AtPath<T> for io::Result<T> {
    fn at(self, path: &Path) -> Result<T, NasError> {
        self.map_err(|source| NasError::Disk { path: path.to_path_buf(), source })
    }
}

impl<T> AtPath<T> for nix::Result<T> {
    fn at(self, path: &Path) -> Result<T, NasError> {
        self.map_err(io::Error::from).at(path)
    }
}
