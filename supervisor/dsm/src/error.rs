//! What can go wrong between the supervisor and the NAS, as facts with a remedy.

use std::io;
use std::path::{Path, PathBuf};

/// A fact about the NAS that stopped the work: `Display` tells it, [`DsmError::remedy`] the cure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DsmError {
    /// The system refused something.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried: `read`, `write`, `lock`…
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A link where only the package's own files may be.
    #[error("{} is a link; it is not followed", path.display())]
    Link {
        /// The link.
        path: PathBuf,
    },
    /// A file that should be small is not.
    #[error("{} is larger than {bytes_max} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// How large it may be.
        bytes_max: u64,
    },
    /// A text that cannot be the name of a package.
    #[error("`{text}` is not the name of a package")]
    PackageName {
        /// The text, shortened.
        text: String,
    },
    /// DSM's own links lead in a circle.
    #[error("the links at {} lead in a circle", path.display())]
    LinkLoop {
        /// Where the walk began.
        path: PathBuf,
    },
    /// A process or its descriptors could not be had.
    #[error("cannot start {}", program.display())]
    Launch {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl DsmError {
    /// The system's refusal, with what was tried on which path.
    pub fn io(action: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        if source.raw_os_error() == Some(nix::libc::ELOOP) {
            return Self::Link { path: path.to_owned() };
        }
        Self::Io { action, path: path.to_owned(), source }
    }

    /// Whether nothing was there.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Whether the owner of the process may not do it.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }

    /// What to do about it.
    pub fn remedy(&self) -> Option<String> {
        let text = match self {
            Self::Io { source, .. } | Self::Launch { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => {
                    "run the command as root (sudo), or as the package's own user"
                }
                io::ErrorKind::NotFound => "repair or reinstall the package in Package Center",
                io::ErrorKind::StorageFull => "free some space on the volume, then try again",
                io::ErrorKind::ReadOnlyFilesystem => {
                    "the volume is read-only: look at Storage Manager, it may be damaged"
                }
                _ => return None,
            },
            Self::Link { .. } => "somebody put a link there: look at it, then remove it",
            Self::TooLarge { .. } => "it is not what it should be: move it away and try again",
            Self::PackageName { .. } => "use letters, digits, `-`, `_` and `.`",
            Self::LinkLoop { .. } => "repair or reinstall the package in Package Center",
        };
        Some(text.to_owned())
    }
}
