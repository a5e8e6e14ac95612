//! Backup.

mod select;

use crate::{Cancel, Event, Repository, Result};
use engine_repository::Id;
use std::path::PathBuf;

/// What to back up, and how the snapshot is to be known.
#[derive(Debug, Clone)]
pub struct BackupRequest {
    /// Absolute paths of files and folders. One that is not there stops the backup.
    pub paths: Vec<PathBuf>,
    /// Shell patterns of what to leave out. One without `/` fits a name anywhere; one with `/` fits
    /// whole paths.
    pub excludes: Vec<String>,
    /// The snapshot's tags.
    pub tags: Vec<String>,
    /// The computer's name in the snapshot.
    pub hostname: String,
    /// The user's name in the snapshot.
    pub username: String,
    /// When the backup was started.
    pub time: jiff::Timestamp,
    /// The zone times are written in. Changing it changes every tree, so keep it.
    pub zone: jiff::tz::TimeZone,
    /// Which older snapshot tells what did not change.
    pub parent: ParentChoice,
    /// Name and version of the program, for the snapshot.
    pub program_version: String,
}

/// Which older snapshot tells what did not change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ParentChoice {
    /// The newest with the same hostname and paths.
    #[default]
    SameHostAndPaths,
    /// The newest with this tag and the same paths, whatever the hostname; or, when there is none,
    /// the newest with the same hostname and paths.
    Tagged(String),
    /// This one.
    Given(Id),
    /// None: read everything.
    None,
}

/// Something of the source that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceProblem {
    /// What.
    pub path: PathBuf,
    /// Why, in one line.
    pub reason: String,
}

/// What a backup did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BackupOutcome {
    /// The new snapshot.
    pub snapshot: Id,
    /// The snapshot's tree.
    pub tree: Id,
    /// The snapshot it was compared with.
    pub parent: Option<Id>,
    /// Files that were not in the parent.
    pub files_new: u64,
    /// Files that were, and were read again.
    pub files_changed: u64,
    /// Files that were, and were not read.
    pub files_unmodified: u64,
    /// Folders, all of them.
    pub dirs: u64,
    /// Bytes of all files.
    pub bytes_total: u64,
    /// Bytes of files read.
    pub bytes_read: u64,
    /// Data blobs that were new to the repository.
    pub data_blobs: u64,
    /// Tree blobs that were new to the repository.
    pub tree_blobs: u64,
    /// Plaintext bytes of new blobs.
    pub data_added: u64,
    /// Bytes new blobs take in packs.
    pub data_added_packed: u64,
    /// How many problems there were with the source; the snapshot lacks those things.
    pub problems_total: u64,
    /// The first of them, 1000 at most.
    pub problems: Vec<SourceProblem>,
}

/// Backs up. The answer is only given once the snapshot is durable.
pub fn backup(
    repository: &Repository,
    request: &BackupRequest,
    events: &(dyn Fn(Event) + Sync),
    cancel: &Cancel,
) -> Result<BackupOutcome> {
    let _ = (repository, request, events, cancel);
    unimplemented!("soon")
}
