//! Restore.

use crate::{Cancel, Event, Repository, Result, SnapshotInfo};
use std::path::PathBuf;

/// What to restore, and where to.
#[derive(Debug, Clone, Default)]
pub struct RestoreRequest {
    /// The folder to restore into; made when it is not there. Absolute paths of the source become
    /// paths below it.
    pub target: PathBuf,
    /// Shell patterns of paths in the snapshot (`/home/*/photos`); empty means everything.
    /// Whatever is below a path that fits is restored too.
    pub includes: Vec<String>,
    /// Read every restored file again afterwards and compare it.
    pub verify: bool,
}

/// Something that could not be restored as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreProblem {
    /// Where.
    pub path: PathBuf,
    /// What and why, in one line.
    pub reason: String,
}

/// What a restore did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestoreOutcome {
    /// Files written.
    pub files: u64,
    /// Folders made or kept.
    pub dirs: u64,
    /// Symlinks, devices, pipes and hard links made.
    pub others: u64,
    /// Bytes of files, holes included.
    pub bytes: u64,
    /// Files read again and found right.
    pub files_verified: u64,
    /// Things whose owner could not be set because this is not root.
    pub owners_not_set: u64,
    /// How many other problems there were.
    pub problems_total: u64,
    /// The first of them, 1000 at most.
    pub problems: Vec<RestoreProblem>,
}

/// Restores a snapshot.
pub fn restore(
    repository: &Repository,
    snapshot: &SnapshotInfo,
    request: &RestoreRequest,
    events: &(dyn Fn(Event) + Sync),
    cancel: &Cancel,
) -> Result<RestoreOutcome> {
    let _ = (repository, snapshot, request, events, cancel);
    unimplemented!("soon")
}
