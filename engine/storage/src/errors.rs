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
    /// The server does not answer, or the connection broke.
    #[error("the server of {location} cannot be reached")]
    Unreachable {
        /// The destination.
        location: String,
        /// What the network said.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server says that it failed, or that it is too busy.
    #[error("the server of {location} could not {action}: it answered {status}")]
    ServerFailed {
        /// The destination.
        location: String,
        /// What was asked of it.
        action: &'static str,
        /// The HTTP status it answered with.
        status: u16,
    },
    /// The server does not accept the user and password, or wants some and got none.
    #[error("the server of {location} does not accept the user and password")]
    Unauthorized {
        /// The destination.
        location: String,
    },
    /// The server knows the user, and does not let it.
    #[error("the server of {location} does not let this user {action}")]
    Forbidden {
        /// The destination.
        location: String,
        /// What was asked of it.
        action: &'static str,
    },
    /// The server cannot show that it is the one that was named.
    #[error("the server of {location} has no certificate that can be trusted")]
    Untrusted {
        /// The destination.
        location: String,
        /// What is wrong with it.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Something answers, but not as a server of restic's protocol does.
    #[error("{location} is no server of restic repositories: {reason}")]
    Foreign {
        /// The destination.
        location: String,
        /// What it did.
        reason: String,
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

    /// Whether the same may work in a moment, with nobody doing anything.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::ServerFailed { .. } | Self::Io { .. })
    }

    /// Whether it says something about the way to the destination, and nothing about the file.
    pub fn is_of_destination(&self) -> bool {
        match self {
            Self::Gone { .. }
            | Self::Unreachable { .. }
            | Self::ServerFailed { .. }
            | Self::Unauthorized { .. }
            | Self::Forbidden { .. }
            | Self::Untrusted { .. }
            | Self::Foreign { .. } => true,
            Self::NotFound { .. }
            | Self::AlreadyExists { .. }
            | Self::TooLarge { .. }
            | Self::Short { .. }
            | Self::Full { .. }
            | Self::Denied { .. }
            | Self::Io { .. } => false,
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
            Self::Unreachable { .. } => {
                "Check that the server runs and that its name, port and the network are right, \
                 then run it again: what was stored completely is kept and not sent twice."
            }
            Self::ServerFailed { .. } => {
                "Look in the log of the server for the reason, then run it again: what was \
                 stored completely is kept and not sent twice."
            }
            Self::Unauthorized { .. } => {
                "Write user and password into the location, as in \
                 `rest:https://user:password@host:8000/path`; where every user has a place of \
                 its own, the path begins with the user's name."
            }
            Self::Forbidden { .. } => {
                "Ask whoever runs the server: it may only allow adding (`--append-only`), or \
                 keep this path for another user."
            }
            Self::Untrusted { .. } => {
                "Give the server a certificate of a known authority for the name in the \
                 location, and check that the clocks of both machines are right."
            }
            Self::Foreign { .. } => {
                "Check host, port and path of the location: what answers there is something \
                 else, or a proxy in between changes requests."
            }
            Self::Io { .. } => {
                "Try again; if it fails again, look in the system's log for errors of the disk \
                 or the network, and have the disk checked."
            }
        }
    }
}
