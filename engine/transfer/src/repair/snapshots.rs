//! Snapshots that lack something, replaced by ones that are whole without it.
//!
//! New trees are durable and in the index, then new snapshots are written and read back, and only
//! then, and only if asked, the old ones go. A new snapshot names the one it was made of as its
//! `original` and, beside the old one, is tagged `repaired`. A snapshot whose root cannot be read
//! holds nothing, and goes. All of this is as restic does it.

use super::trees::Rewriter;
use crate::blobs::Fetcher;
use crate::choose::chosen;
use crate::errors::sentence;
use crate::forget::SnapshotFilter;
use crate::id_set::IdSet;
use crate::index::Index;
use crate::locks::HeldLock;
use crate::store::{Store, must_be_gone, remove_all};
use crate::{Cancel, Event, Repository, Result};
use engine_repository::{FileKind, Id, Snapshot};
use std::collections::{HashMap, HashSet};

/// The tag of a snapshot that was repaired.
const REPAIRED: &str = "repaired";

/// Which snapshots to repair, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairSnapshotsRequest {
    /// These: ids, their beginnings, or `latest`.
    pub snapshots: Vec<String>,
    /// With none named, those that this fits.
    pub filter: SnapshotFilter,
    /// Remove the old ones.
    pub forget: bool,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// A snapshot that lacked something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairedSnapshot {
    /// The old one.
    pub old: Id,
    /// The new one: `None` in a dry run, or when the old one's root cannot be read.
    pub new: Option<Id>,
    /// Whether the old one goes.
    pub is_old_removed: bool,
}

/// What a repair of snapshots did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairSnapshotsReport {
    /// Snapshots looked at.
    pub snapshots: u64,
    /// Those that lacked something.
    pub changed: Vec<RepairedSnapshot>,
    /// Snapshot files that cannot be read; they are left alone.
    pub unreadable: u64,
    /// Files and folders that lost something; each was told as a note.
    pub changes: u64,
}

/// Repairs snapshots.
pub fn repair_snapshots(
    repository: &Repository,
    request: &RepairSnapshotsRequest,
    events: &(dyn Fn(Event) + Sync),
    cancel: &Cancel,
) -> Result<RepairSnapshotsReport> {
    let lock = HeldLock::acquire(repository, !request.dry_run)?;
    let mut report = RepairSnapshotsReport::default();
    let snapshots = chosen(repository, &request.snapshots, &request.filter, &mut |_, error| {
        events(Event::Note(sentence(error)));
        report.unreadable += 1;
    })?;
    report.snapshots = snapshots.len() as u64;
    let index = Index::load_or_stop(repository, cancel)?;
    let seen_bytes_max = usize::try_from(repository.plan().pipeline_bytes / 4).unwrap_or(1 << 20);
    let mut rewriter = Rewriter {
        repository,
        index: &index,
        fetcher: Fetcher::new(repository, &index),
        store: (!request.dry_run).then(|| Store::new(repository, &lock)),
        events,
        cancel,
        seen: IdSet::new(repository.cache(), seen_bytes_max),
        replaced: HashMap::new(),
        stored: HashSet::new(),
        changes: 0,
    };
    let mut damaged = Vec::new();
    for (id, snapshot) in snapshots {
        events(Event::Note(format!("snapshot {} of {}", id.short(), snapshot.time)));
        let tree = rewriter.rewrite(snapshot.tree)?;
        if tree != Some(snapshot.tree) {
            damaged.push((id, snapshot, tree));
        }
    }
    report.changes = rewriter.changes;
    if let Some(store) = &mut rewriter.store {
        store.finish()?;
    }
    let mut gone = Vec::new();
    for (old, snapshot, tree) in damaged {
        let is_old_removed = request.forget || tree.is_none();
        let new = match tree.filter(|_| !request.dry_run) {
            Some(tree) => Some(save(repository, &lock, (old, snapshot, tree), request.forget)?),
            None => None,
        };
        report.changed.push(RepairedSnapshot { old, new, is_old_removed });
        gone.extend(is_old_removed.then_some(old));
    }
    if !request.dry_run {
        remove_all(repository, &lock, FileKind::Snapshot, &gone)?;
        must_be_gone(repository, FileKind::Snapshot, &gone)?;
    }
    Ok(report)
}

fn save(
    repository: &Repository,
    lock: &HeldLock,
    (old, mut snapshot, tree): (Id, Snapshot, Id),
    forget: bool,
) -> Result<Id> {
    snapshot.tree = tree;
    snapshot.original = Some(old);
    if !forget && snapshot.tags.iter().all(|tag| tag != REPAIRED) {
        snapshot.tags.push(REPAIRED.to_owned());
    }
    lock.must_be_held()?;
    let id = repository.save_unpacked(FileKind::Snapshot, &snapshot)?;
    // Read back before the old one goes.
    let _: Snapshot = repository.read_unpacked(FileKind::Snapshot, id)?;
    Ok(id)
}
