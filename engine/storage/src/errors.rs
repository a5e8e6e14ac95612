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
    /// The SSH server does not let us log in.
    #[error("the server of {location} does not let us log in")]
    LoginRefused {
        /// The destination.
        location: String,
        /// What `ssh` said.
        #[source]
        cause: io::Error,
    },
    /// The SSH server's key is not known here, or another than it was.
    #[error("the server of {location} has a host key that is not known here")]
    HostUnknown {
        /// The destination.
        location: String,
        /// What `ssh` said.
        #[source]
        cause: io::Error,
    },
    /// The program that makes the line cannot be started.
    #[error("the program {program}, which leads to {location}, cannot be started")]
    ProgramMissing {
        /// The destination.
        location: String,
        /// Its path, or its name.
        program: String,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The service wants an access key, and was given none.
    #[error("no access key was given for {location}")]
    KeyMissing {
        /// The destination.
        location: String,
    },
    /// The service does not know the access key, or its secret is another.
    #[error("the service of {location} does not accept the access key")]
    KeyRefused {
        /// The destination.
        location: String,
    },
    /// The service is there, and has no bucket of that name.
    #[error("there is no bucket {bucket} for {location}")]
    BucketMissing {
        /// The destination.
        location: String,
        /// Its bucket.
        bucket: String,
    },
    /// The bucket is in another region than the one requests are signed for.
    #[error("the bucket of {location} is in another region{}", named(region))]
    RegionWrong {
        /// The destination.
        location: String,
        /// Where it is, when the service tells.
        region: Option<String>,
    },
    /// Signatures bear the time, and the service has another.
    #[error("the clocks of this machine and of {location} are {} minutes apart", minutes.abs())]
    ClockWrong {
        /// The destination.
        location: String,
        /// By how much the service's is ahead of ours.
        minutes: i64,
    },
    /// The service asks to be asked less often.
    #[error("the service of {location} is asked more than it wants to be")]
    Busy {
        /// The destination.
        location: String,
    },
    /// What was stored a moment ago, and confirmed, is not there.
    #[error("{location} confirmed that it stored {name}, and does not have it")]
    Lost {
        /// The destination.
        location: String,
        /// The file.
        name: Name,
    },
    /// What was stored a moment ago is there in another length.
    #[error("{location} was given {bytes} bytes of {name}, and has {found}")]
    Altered {
        /// The destination.
        location: String,
        /// The file.
        name: Name,
        /// What was stored.
        bytes: u64,
        /// What is there.
        found: u64,
    },
    /// A file is there, was there before the listing began, and is not in it.
    #[error("{location} leaves {name} out of its listing, though it has it")]
    OldListing {
        /// The destination.
        location: String,
        /// The file.
        name: Name,
    },
    /// Something answers, but not as a server for repositories does.
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
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::ServerFailed { .. }
                | Self::Busy { .. }
                | Self::Io { .. }
        )
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
            | Self::LoginRefused { .. }
            | Self::HostUnknown { .. }
            | Self::ProgramMissing { .. }
            | Self::KeyMissing { .. }
            | Self::KeyRefused { .. }
            | Self::BucketMissing { .. }
            | Self::RegionWrong { .. }
            | Self::ClockWrong { .. }
            | Self::Busy { .. }
            | Self::OldListing { .. }
            | Self::Foreign { .. } => true,
            Self::NotFound { .. }
            | Self::AlreadyExists { .. }
            | Self::TooLarge { .. }
            | Self::Short { .. }
            | Self::Lost { .. }
            | Self::Altered { .. }
            | Self::Full { .. }
            | Self::Denied { .. }
            | Self::Io { .. } => false,
        }
    }

    /// What the owner can do.
    pub fn remedy(&self) -> &'static str {
        let special = self.remedy_at_a_service().or_else(|| self.remedy_over_ssh());
        special.unwrap_or_else(|| self.usual_remedy())
    }

    fn usual_remedy(&self) -> &'static str {
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
            _ => {
                "Try again; if it fails again, look in the system's log for errors of the disk \
                 or the network, and have the disk checked."
            }
        }
    }

    /// For what only `ssh` says.
    fn remedy_over_ssh(&self) -> Option<&'static str> {
        Some(match self {
            Self::LoginRefused { .. } => {
                "See that `ssh` gets there without asking for anything, as the user the backup \
                 runs as: make a key with `ssh-keygen` (no passphrase), and add its public part to \
                 `.ssh/authorized_keys` on the server."
            }
            Self::HostUnknown { .. } => {
                "Log in there once by hand with `ssh`, as the user the backup runs as, and compare \
                 the key it shows. If the key was another before, ask whoever runs the server why."
            }
            Self::ProgramMissing { .. } => {
                "Install OpenSSH's client, or see that `ssh` is in a folder that PATH names."
            }
            _ => return None,
        })
    }

    /// For what only a service of buckets says, and what only a lie shows.
    fn remedy_at_a_service(&self) -> Option<&'static str> {
        Some(match self {
            Self::KeyMissing { .. } => {
                "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give a destination its file \
                 of them with `--access-key-file`."
            }
            Self::KeyRefused { .. } => {
                "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN, which \
                 lasts only for hours); at some services the region must be right, too."
            }
            Self::BucketMissing { .. } => {
                "Make the bucket with the tools of whoever runs the service, or check its name: \
                 behind the host comes the bucket, and behind it the path in it."
            }
            Self::RegionWrong { .. } => {
                "Set AWS_DEFAULT_REGION (or `region` in the destination's file) to the region of \
                 the bucket, as the one who runs the service calls it."
            }
            Self::ClockWrong { .. } => {
                "Set the clock of this machine, best by switching its network time on; if it is \
                 right, the service's is wrong."
            }
            Self::Busy { .. } => {
                "Run it again later, or with `--limit-upload`; what was stored completely is kept \
                 and not sent twice."
            }
            Self::Lost { .. } | Self::Altered { .. } => {
                "Do not trust this destination before it is known why: look in its log and at its \
                 disks; then run it again and run `holdfast check`."
            }
            Self::OldListing { .. } => {
                "Run it again in some minutes. If it stays so, use another destination: where \
                 listings lag behind, `prune` could remove what is in use."
            }
            _ => return None,
        })
    }
}

fn named(region: &Option<String>) -> String {
    region.as_ref().map(|region| format!(", {region}")).unwrap_or_default()
}
