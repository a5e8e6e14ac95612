//! Looking into a repository: snapshots and what is in them.

use crate::backup::{PARENTS_MAX, is_checkpoint};
use crate::blobs::Fetcher;
use crate::index::Index;
use crate::locks::HeldLock;
use crate::tree_walk::{TreeWalk, Visitor};
use crate::{BackupRequest, Cancel, ParentChoice, Repository, Result, TransferError};
use engine_repository::tree::unix_mode_of_go;
use engine_repository::{FileKind, Id, Node, NodeKind, Snapshot};
use engine_storage::{StorageError, list_all};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

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
    /// Whether it is what was finished of a backup that went on, or was cut off.
    pub is_checkpoint: bool,
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

impl SnapshotInfo {
    pub(crate) fn of(id: Id, snapshot: &Snapshot) -> Self {
        let time = &snapshot.time;
        Self {
            id,
            time: time.to_string(),
            time_nanoseconds: i128::from(time.seconds) * 1_000_000_000
                + i128::from(time.nanoseconds),
            hostname: snapshot.hostname.clone(),
            username: snapshot.username.clone(),
            paths: snapshot.paths.iter().map(PathBuf::from).collect(),
            tags: snapshot.tags.clone(),
            excludes: snapshot.excludes.clone(),
            parent: snapshot.parent,
            tree: snapshot.tree,
            is_checkpoint: is_checkpoint(snapshot),
        }
    }
}

/// Calls `each` for every snapshot, in any order. One that is damaged is an error: whoever removes
/// what no snapshot needs has to know them all.
pub(crate) fn each_snapshot(
    repository: &Repository,
    each: &mut dyn FnMut(Id, Snapshot),
) -> Result<()> {
    match each_readable(repository, each)?.pop() {
        Some(damage) => Err(damage),
        None => Ok(()),
    }
}

/// Calls `each` for every snapshot that can be read, in any order. Gives what is wrong with the
/// others.
fn each_readable(
    repository: &Repository,
    each: &mut dyn FnMut(Id, Snapshot),
) -> Result<Vec<TransferError>> {
    let mut damage = Vec::new();
    for (id, _) in list_all(repository.storage().as_ref(), FileKind::Snapshot)? {
        match repository.read_unpacked::<Snapshot>(FileKind::Snapshot, id) {
            Ok(snapshot) => each(id, snapshot),
            // Forgotten by somebody since it was listed.
            Err(TransferError::Storage(StorageError::NotFound { .. })) => {}
            Err(error @ TransferError::Damaged { .. }) => damage.push(error),
            Err(error) => return Err(error),
        }
    }
    Ok(damage)
}

/// All snapshots, oldest first. One that is damaged is an error.
pub fn snapshots(repository: &Repository) -> Result<Vec<SnapshotInfo>> {
    match readable_snapshots(repository)? {
        (all, damage) if damage.is_empty() => Ok(all),
        (_, mut damage) => Err(damage.swap_remove(0)),
    }
}

/// The snapshots that can be read, oldest first, and what is wrong with the others.
pub fn readable_snapshots(
    repository: &Repository,
) -> Result<(Vec<SnapshotInfo>, Vec<TransferError>)> {
    let mut all = Vec::new();
    let damage =
        each_readable(repository, &mut |id, found| all.push(SnapshotInfo::of(id, &found)))?;
    all.sort_by_key(|info| (info.time_nanoseconds, info.id));
    Ok((all, damage))
}

/// The snapshot meant by `latest`, an id, or the unambiguous beginning of one.
pub fn find_snapshot(repository: &Repository, text: &str) -> Result<SnapshotInfo> {
    let none = |reason: String| Err(TransferError::NoSnapshot { reason });
    if text == "latest" {
        // What is not complete is only meant when there is nothing else.
        let newest = |all: Vec<SnapshotInfo>| all.into_iter().max_by_key(|it| !it.is_checkpoint);
        return match newest(snapshots(repository)?) {
            Some(newest) => Ok(newest),
            None => none(format!("{} has no snapshots yet", repository.location())),
        };
    }
    let is_prefix = (1..=Id::TEXT_BYTES).contains(&text.len())
        && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !is_prefix {
        let text: String = text.chars().take(Id::TEXT_BYTES + 1).collect();
        return none(format!("`{text}` is not the beginning of a snapshot's id"));
    }
    let mut found = Vec::new();
    for (id, _) in list_all(repository.storage().as_ref(), FileKind::Snapshot)? {
        if id.to_string().starts_with(text) {
            found.push(id);
        }
    }
    match found[..] {
        [] => none(format!("no snapshot has an id that begins with `{text}`")),
        [id] => {
            let snapshot = repository.read_unpacked(FileKind::Snapshot, id)?;
            Ok(SnapshotInfo::of(id, &snapshot))
        }
        _ => none(format!("{} snapshots have ids that begin with `{text}`", found.len())),
    }
}

/// The snapshots a backup is compared with.
#[derive(Default)]
pub(crate) struct Parents {
    /// The newest that is complete.
    pub(crate) complete: Option<(Id, Snapshot)>,
    /// Checkpoints made since, newest first.
    checkpoints: Vec<Snapshot>,
    /// All checkpoints of the same, which the next complete snapshot makes needless.
    needless: Vec<Id>,
}

impl Parents {
    /// The complete one, when there is nothing else.
    pub(crate) fn only(&self) -> Option<&(Id, Snapshot)> {
        self.complete.as_ref().filter(|_| self.checkpoints.is_empty())
    }

    /// Checkpoints to be removed when the backup is done.
    pub(crate) fn needless(&self) -> &[Id] {
        &self.needless
    }

    /// The roots of all, the complete one first.
    pub(crate) fn trees(&self) -> Vec<Id> {
        let complete = self.complete.iter().map(|(_, snapshot)| snapshot);
        complete.chain(&self.checkpoints).map(|snapshot| snapshot.tree).collect()
    }
}

/// Finds the snapshots a backup is compared with.
pub(crate) fn parents_like(repository: &Repository, request: &BackupRequest) -> Result<Parents> {
    match &request.parent {
        ParentChoice::None => {
            let Parents { needless, .. } = newest(repository, request, None)?;
            Ok(Parents { needless, ..Parents::default() })
        }
        ParentChoice::Given(id) => {
            let snapshot = repository.read_unpacked(FileKind::Snapshot, *id)?;
            let Parents { needless, .. } = newest(repository, request, None)?;
            Ok(Parents { complete: Some((*id, snapshot)), checkpoints: Vec::new(), needless })
        }
        ParentChoice::SameHostAndPaths => newest(repository, request, None),
        ParentChoice::Tagged(tag) => newest(repository, request, Some(tag)),
    }
}

fn newest(
    repository: &Repository,
    request: &BackupRequest,
    tag: Option<&String>,
) -> Result<Parents> {
    let (mut found, mut best_rank) = (Parents::default(), None);
    let when = |snapshot: &Snapshot| (snapshot.time.seconds, snapshot.time.nanoseconds);
    // One that is damaged is for `check` to tell of: it must not keep new backups from being made.
    each_readable(repository, &mut |id, snapshot| {
        let has_tag = tag.is_some_and(|tag| snapshot.tags.contains(tag));
        let is_like = has_tag || snapshot.hostname == request.hostname;
        if !is_like || !has_paths(&snapshot, request) {
            return;
        }
        if is_checkpoint(&snapshot) {
            found.needless.push(id);
            found.checkpoints.push(snapshot);
            found.checkpoints.sort_by_key(|one| std::cmp::Reverse(when(one)));
            found.checkpoints.truncate(PARENTS_MAX);
            return;
        }
        let rank = Some((has_tag, when(&snapshot)));
        if rank > best_rank {
            (best_rank, found.complete) = (rank, Some((id, snapshot)));
        }
    })?;
    if let Some((_, complete)) = &found.complete {
        found.checkpoints.retain(|checkpoint| when(checkpoint) > when(complete));
    }
    Ok(found)
}

/// Whether a snapshot is of the paths a backup is asked for.
pub(crate) fn has_paths(snapshot: &Snapshot, request: &BackupRequest) -> bool {
    let mut wanted: Vec<_> = request.paths.iter().map(|path| path_text(path)).collect();
    let mut paths: Vec<_> = snapshot.paths.iter().collect();
    wanted.sort();
    paths.sort();
    paths.into_iter().eq(&wanted)
}

/// A path as a snapshot lists it: JSON has no bytes that are not UTF-8.
pub(crate) fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Calls `each` for everything in a snapshot, folders before what is in them, in order of names.
pub fn ls(
    repository: &Repository,
    snapshot: &SnapshotInfo,
    each: &mut dyn FnMut(ListedNode),
) -> Result<()> {
    let _lock = HeldLock::acquire(repository, false)?;
    let index = Index::load(repository)?;
    let mut fetcher = Fetcher::new(repository, &index);
    let never = Cancel::new();
    let mut walk = TreeWalk::new(repository, &never, |id| fetcher.tree(id));
    walk.walk(&snapshot.tree, &mut Listing { each })
}

struct Listing<'a> {
    each: &'a mut dyn FnMut(ListedNode),
}

impl Visitor for Listing<'_> {
    fn node(&mut self, folder: &Path, node: &Node) -> Result<()> {
        (self.each)(listed(folder.join(OsStr::from_bytes(&node.name)), node));
        Ok(())
    }
}

pub(crate) fn listed(path: PathBuf, node: &Node) -> ListedNode {
    let target = (node.kind == NodeKind::Symlink).then(|| OsStr::from_bytes(&node.link_target));
    ListedNode {
        path,
        kind: node.kind.name().to_owned(),
        size: node.size,
        mode: unix_mode_of_go(node.mode),
        uid: node.uid,
        gid: node.gid,
        mtime: node.mtime.to_string(),
        link_target: target.map(PathBuf::from),
    }
}
