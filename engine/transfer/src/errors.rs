//! Why a transfer could not be done, and what the owner can do about it.

use engine_repository::Id;
use engine_storage::{Name, StorageError};
use std::io;
use std::path::PathBuf;

/// Any error of the room below that explains damage.
pub(crate) type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a transfer could not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// There is no repository at that place.
    #[error("there is no repository in {location}")]
    NoRepository {
        /// The place.
        location: String,
    },
    /// There is one already, where a new one was asked for.
    #[error("there is a repository in {location} already")]
    RepositoryExists {
        /// The place.
        location: String,
    },
    /// No key of the repository opens with the password.
    #[error("the password does not open the repository in {location}")]
    WrongPassword {
        /// The place.
        location: String,
    },
    /// Another program works in the repository and forbids what was asked.
    #[error("the repository is locked by {holder} since {since}")]
    Locked {
        /// User, computer and process that hold the lock.
        holder: String,
        /// When the lock was last refreshed.
        since: String,
    },
    /// What nobody needs is known, but it cannot be removed while others work in the repository.
    #[error("what nobody needs is not removed yet: {holder} has a lock since {since}")]
    PruneWaits {
        /// User, computer and process that hold the lock.
        holder: String,
        /// When the lock was last refreshed.
        since: String,
        /// Whether the next prune goes on from here.
        is_kept: bool,
    },
    /// Others removed index files again and again while a prune worked.
    #[error("somebody else pruned or repaired the repository at the same time")]
    Overtaken,
    /// Our own lock could not be kept up, so others may believe it abandoned.
    #[error("the lock on the repository could not be refreshed in time")]
    LockLost {
        /// Why the last refresh failed.
        #[source]
        cause: Option<StorageError>,
    },
    /// A file of the repository is not what it should be.
    #[error("{name} of the repository is damaged")]
    Damaged {
        /// The file.
        name: Name,
        /// What is wrong with it.
        #[source]
        cause: Cause,
    },
    /// A blob is in no pack that the index knows.
    #[error("{kind} {id} is missing from the repository")]
    BlobMissing {
        /// Tree or data.
        kind: &'static str,
        /// The blob.
        id: Id,
    },
    /// The destination failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// No snapshot is meant by that text.
    #[error("{reason}")]
    NoSnapshot {
        /// Why none or not exactly one fits.
        reason: String,
    },
    /// No key is meant by that text, or it is the one that must stay.
    #[error("{reason}")]
    NoKey {
        /// Why none or not exactly one fits.
        reason: String,
    },
    /// A key cannot be removed while it is the one in use.
    #[error("key {} is the one in use", id.short())]
    KeyInUse {
        /// The key.
        id: Id,
    },
    /// A policy that would leave nothing of a group.
    #[error("the policy would keep none of the {snapshots} snapshots of a group")]
    NothingKept {
        /// How many would go.
        snapshots: usize,
    },
    /// A path that is not in the snapshot, or is neither file nor folder there.
    #[error("the snapshot has no file and no folder {}", path.display())]
    NotInSnapshot {
        /// The path.
        path: PathBuf,
    },
    /// What was asked for could not be written out.
    #[error("the output could not be written")]
    Output {
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A pattern of what to leave out or to restore makes no sense.
    #[error("`{pattern}` is not a pattern: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// Why.
        reason: String,
    },
    /// A path to back up is not there. A backup set whose disk is not mounted is not empty.
    #[error("{} cannot be read", path.display())]
    Source {
        /// The path.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// Nothing was named to back up.
    #[error("nothing to back up: no path was named")]
    NothingToBackUp,
    /// The folder to restore to cannot be written.
    #[error("could not {action} {}", path.display())]
    Target {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// Whatever is not in the snapshot would be removed from the whole computer.
    #[error("deleting everything below / that is not in the snapshot is refused")]
    DeletesEverything,
    /// What is kept on this computer beside a repository cannot be read or written.
    #[error("could not {action} {}", path.display())]
    Cache {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The system gives no more threads.
    #[error("no thread could be started")]
    Thread {
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// Somebody asked to stop.
    #[error("stopped as asked")]
    Cancelled,
    /// The system gave no random numbers.
    #[error("the system gives no random numbers")]
    Random,
    /// What was sealed a moment ago does not open to what it was; nothing of it was stored.
    #[error("what was sealed a moment ago does not open to what it was")]
    Missealed {
        /// In what way.
        #[source]
        cause: Cause,
    },
    /// A value that cannot be written in the repository's format.
    #[error("{what} cannot be written to the repository")]
    Unwritable {
        /// What.
        what: &'static str,
        /// Why.
        #[source]
        cause: Cause,
    },
}

impl TransferError {
    /// What the owner can do.
    pub fn remedy(&self) -> String {
        let text = match self {
            Self::NoRepository { .. } => {
                "Check the place (is its disk connected and mounted?); a new repository is made \
                 with `holdfast init`."
            }
            Self::RepositoryExists { .. } => {
                "Use the one that is there, or name an empty folder for the new one."
            }
            Self::WrongPassword { .. } => {
                "Check the password file: its first line is the password. The recovery sheet \
                 printed when the repository was made has it too."
            }
            Self::Locked { .. } => {
                "Wait until the other program is done. If it died, its lock is ignored 30 minutes \
                 after the time shown, or at once by `holdfast unlock` or `restic unlock`."
            }
            Self::PruneWaits { is_kept: true, .. } => {
                "Prune again when the other program is done: it goes on from here and takes \
                 seconds. Or let it wait: `--retry-lock 2h`."
            }
            Self::PruneWaits { .. } => {
                "Prune again when the other program is done; what was copied is not copied again. \
                 Or let it wait: `--retry-lock 2h`."
            }
            Self::Overtaken => "Nothing was removed. Prune again when nobody else does.",
            Self::LockLost { .. } => {
                "Check the connection to the destination, then run it again: what was stored is \
                 kept."
            }
            Self::Damaged { .. } | Self::BlobMissing { .. } => {
                "Run `holdfast check --read-data` to learn what else is damaged; have disk and \
                 memory tested. A new backup stores again what the source still has."
            }
            Self::Storage(cause) => cause.remedy(),
            Self::NoSnapshot { .. } => "`holdfast snapshots` lists them; `latest` is the newest.",
            Self::NoKey { .. } => "`holdfast key list` lists them.",
            Self::KeyInUse { .. } => {
                "Open the repository with another password to remove it, or change its password \
                 with `holdfast key passwd`."
            }
            Self::NothingKept { .. } => {
                "Nothing was removed. Keep something (`--keep-last 1`), or give \
                 `--unsafe-allow-remove-all` if all shall go."
            }
            Self::NotInSnapshot { .. } => {
                "`holdfast ls SNAPSHOT` lists what is in it, with whole paths."
            }
            Self::Output { .. } => "What was written until then is not whole: do it again.",
            Self::Pattern { .. } => "Write it as a shell does: `*.tmp`, `**/cache`, `/home/*/x`.",
            Self::Source { .. } => {
                "Connect or mount its disk, or take the path out of the backup set. Nothing was \
                 changed in the repository."
            }
            Self::NothingToBackUp => "Name at least one file or folder.",
            Self::Target { .. } => {
                "Check that the folder can be written to and that its disk has space, then \
                 restore again: what is right already stays, and only the rest is fetched."
            }
            Self::DeletesEverything => {
                "Name what is to be restored with `--include`: only what fits it is deleted. Or \
                 restore into an empty folder."
            }
            Self::Cache { .. } => {
                "Check that its disk has space and that the user may write there, or name another \
                 folder with `--cache-dir`. Nothing in the cache is needed: it may be removed."
            }
            Self::Thread { .. } => "Memory or processes ran out: end other programs, try again.",
            Self::Cancelled => "Run it again to go on: what was stored is kept.",
            Self::Random => "Restart the computer; if it stays, its kernel is damaged.",
            Self::Missealed { .. } => {
                "Test this computer's memory: it or the processor changes what it is given. \
                 Nothing wrong was stored; run it again when the box is mended."
            }
            Self::Unwritable { .. } => "Report this with the message above.",
        };
        text.to_owned()
    }
}

/// An error and its causes in one line.
pub(crate) fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
