//! Looking into a repository: snapshots and what is in them.

use crate::{Repository, Result};
use engine_repository::Id;
use std::path::PathBuf;

/// A snapshot, as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Its id.
    pub id: Id,
    /// When it was made, as written in the snapshot (RFC 3339 with the writer's offset).
    pub time: String,
    /// The same as nanoseconds since 1970.
    pub time_nanoseconds: i128,
    /// The computer.
    pub hostname: String,
    /// The user.
    pub username: String,
    /// What was backed up.
    pub paths: Vec<PathBuf>,
    /// Its tags.
    pub tags: Vec<String>,
    /// The patterns that were left out.
    pub excludes: Vec<String>,
    /// The snapshot before it.
    pub parent: Option<Id>,
    /// Its root tree.
    pub tree: Id,
}

/// A thing in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedNode {
    /// Its path in the snapshot, from `/`.
    pub path: PathBuf,
    /// `file`, `dir`, `symlink`, … as in restic.
    pub kind: String,
    /// Bytes of a file.
    pub size: u64,
    /// Permission bits as `st_mode` has them, without the type.
    pub mode: u32,
    /// Owner and group, as numbers.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// When it was last changed, as written in the tree.
    pub mtime: String,
    /// What a symlink points to.
    pub link_target: Option<PathBuf>,
}

/// All snapshots, oldest first.
pub fn snapshots(repository: &Repository) -> Result<Vec<SnapshotInfo>> {
    let _ = repository;
    unimplemented!("soon")
}

/// The snapshot meant by `latest`, an id, or the unambiguous beginning of one.
pub fn find_snapshot(repository: &Repository, text: &str) -> Result<SnapshotInfo> {
    let _ = (repository, text);
    unimplemented!("soon")
}

/// Calls `each` for everything in a snapshot, folders before what is in them, in order of names.
pub fn ls(
    repository: &Repository,
    snapshot: &SnapshotInfo,
    each: &mut dyn FnMut(ListedNode),
) -> Result<()> {
    let _ = (repository, snapshot, each);
    unimplemented!("soon")
}
