//! Why a storage could not do what it was asked, and what the owner can do about it.

use crate::Name;
use nix::errno::Errno;
use std::io;
use std::path::{Path, PathBuf};

/// Why a storage could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The file is not there, though the destination is.
    #[error("{location} has no file {name}")]
    NotFound {
        /// The destination.
        location: String,
        /// The file.
        name: Name,
    },
    /// The name is taken; nothing was overwritten.
    #[error("{location} already has a file {name}")]
    AlreadyExists {
        /// The destination.
        location: String,
        /// The file.
        name: Name,
    },
    /// The file is larger than any sound file of its kind.
    #[error("{name} in {location} is {bytes} bytes long, more than the {bytes_max} expected")]
    TooLarge {
        /// The destination.
        location: String,
        /// The file.
        name: Name,
        /// Its size.
        bytes: u64,
        /// What the reader asked for at most.
        bytes_max: u64,
    },
    /// The file ends before the bytes that were asked for.
    #[error("{name} in {location} ends before byte {end}")]
    Short {
        /// The destination.
        location: String,
        /// The file.
        name: Name,
        /// The end of the range that was asked for.
        end: u64,
    },
    /// No room is left, or a quota is reached.
    #[error("the destination {location} is full")]
    Full {
        /// The destination.
        location: String,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The destination is not there any more, or never was.
    #[error("the destination {location} is not there")]
    Gone {
        /// The destination.
        location: String,
    },
    /// The system does not let us.
    #[error("no permission to {action} {}", path.display())]
    Denied {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// Anything else the system reported.
    #[error("could not {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
}

impl StorageError {
    /// Sorts what the system said about `path` into the kinds an owner can act on.
    ///
    /// Whether the destination is gone is not known here: see `Folder`.
    pub(crate) fn from_io(
        location: &str,
        action: &'static str,
        path: &Path,
        cause: io::Error,
    ) -> Self {
        match cause.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOSPC | Errno::EDQUOT) => Self::Full { location: location.into(), cause },
            Some(Errno::EACCES | Errno::EPERM | Errno::EROFS) => {
                Self::Denied { action, path: path.into(), cause }
            }
            // A network file system or a disk that went away under our feet.
            Some(Errno::ESTALE | Errno::ENODEV | Errno::ENXIO | Errno::ENOTCONN) => {
                Self::Gone { location: location.into() }
            }
            _ => Self::Io { action, path: path.into(), cause },
        }
    }

    /// What the owner can do.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NotFound { .. } | Self::TooLarge { .. } | Self::Short { .. } => {
                "Run `holdfast check` to see what else is damaged; files of the repository may \
                 have been deleted or cut off by another program or a failing disk."
            }
            Self::AlreadyExists { .. } => {
                "Choose another folder, or use the repository that is already there."
            }
            Self::Full { .. } => {
                "Free space at the destination or raise its quota, then run it again: what was \
                 stored completely is kept and not sent twice."
            }
            Self::Gone { .. } => {
                "Connect or mount the destination again, then run it again: what was stored \
                 completely is kept. If it moved, name its new place."
            }
            Self::Denied { .. } => {
                "Give this user permission to read and write there; check that the volume is \
                 not mounted read-only."
            }
            Self::Io { .. } => {
                "Try again; if it fails again, look in the system's log for errors of the disk \
                 or the network, and have the disk checked."
            }
        }
    }
}
