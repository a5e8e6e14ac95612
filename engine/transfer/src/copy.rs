//! Copying snapshots into another repository, without reading what they were made of.
//!
//! 1. the trees of the snapshots say which blobs they need; those the other repository lacks are
//!    sorted, on disk, by where they lie;
//! 2. each pack is read once, from its beginning to its end, as far as it is needed; each blob is
//!    verified, sealed under the other key, and stored. What is compressed stays as it is;
//! 3. when everything is durable and in the index, the snapshots are written. Each names the one it
//!    is a copy of as its `original`, and has no parent.
//!
//! Cut off anywhere, what was stored is found by the next copy, which goes on behind it. Snapshots
//! that were copied before are passed over. Both repositories are locked, neither exclusively.

mod move_blobs;
mod needed;

use crate::choose::chosen;
use crate::errors::sentence;
use crate::forget::SnapshotFilter;
use crate::index::Index;
use crate::locks::HeldLock;
use crate::{Cancel, Event, Repository, Result, TransferError};
use engine_repository::{FileKind, Id, Snapshot};
use std::collections::HashMap;

/// What to copy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CopyRequest {
    /// These snapshots: ids, their beginnings, or `latest`.
    pub snapshots: Vec<String>,
    /// With none named, those that this fits.
    pub filter: SnapshotFilter,
}

/// What was copied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CopyReport {
    /// Snapshots that were copied, and what they are called in the other repository.
    pub copied: Vec<(Id, Id)>,
    /// Snapshots that had been copied before, and to which.
    pub skipped: Vec<(Id, Id)>,
    /// Snapshot files that cannot be read.
    pub unreadable: u64,
    /// Blobs that were copied.
    pub blobs: u64,
    /// Bytes they take.
    pub bytes: u64,
}

/// Copies snapshots of one repository into another.
pub fn copy(
    from: &Repository,
    to: &Repository,
    request: &CopyRequest,
    events: &(dyn Fn(Event) + Sync),
    cancel: &Cancel,
) -> Result<CopyReport> {
    let from_lock = HeldLock::acquire(from, false)?;
    let to_lock = HeldLock::acquire(to, false)?;
    let mut report = CopyReport::default();
    let mut unreadable = |_, error: &TransferError| {
        events(Event::Note(sentence(error)));
        report.unreadable += 1;
    };
    let wanted = chosen(from, &request.snapshots, &request.filter, &mut unreadable)?;
    let wanted = not_copied_yet(to, wanted, &mut report)?;
    if !from.config().cuts_like(from.key(), to.config(), to.key()) {
        events(Event::Note(
            "the two repositories cut files differently: what is copied and what is backed up \
             later will share nothing. A repository made with --copy-chunker-params would not"
                .to_owned(),
        ));
    }
    // Two at once, in the room of one.
    let from_index = Index::load_in_part(from, cancel, 2)?;
    let to_index = Index::load_in_part(to, cancel, 2)?;
    let roots: Vec<_> = wanted.iter().map(|(_, snapshot)| snapshot.tree).collect();
    let needed = needed::find((from, &from_index), (to, &to_index), &roots, cancel)?;
    let job = move_blobs::Job { from, to, locks: [&from_lock, &to_lock], events, cancel };
    job.run(&needed)?;
    (report.blobs, report.bytes) = (needed.blobs, needed.bytes);
    for (id, mut snapshot) in wanted {
        snapshot.parent = None;
        snapshot.original.get_or_insert(id);
        to_lock.must_be_held()?;
        report.copied.push((id, to.save_unpacked(FileKind::Snapshot, &snapshot)?));
    }
    Ok(report)
}

/// Leaves out snapshots of which the other repository has a copy that says the same.
fn not_copied_yet(
    to: &Repository,
    wanted: Vec<(Id, Snapshot)>,
    report: &mut CopyReport,
) -> Result<Vec<(Id, Snapshot)>> {
    let mut there: HashMap<Id, Vec<(Id, Snapshot)>> = HashMap::new();
    for (id, snapshot) in chosen(to, &[], &SnapshotFilter::default(), &mut |_, _| {})? {
        if let Some(original) = snapshot.original {
            there.entry(original).or_default().push((id, snapshot.clone()));
        }
        there.entry(id).or_default().push((id, snapshot));
    }
    let mut left = Vec::new();
    for (id, snapshot) in wanted {
        let alike = there.get(&snapshot.original.unwrap_or(id)).into_iter().flatten();
        match alike.clone().find(|(_, other)| is_alike(&snapshot, other)) {
            Some((copy, _)) => report.skipped.push((id, *copy)),
            None => left.push((id, snapshot)),
        }
    }
    Ok(left)
}

/// Whether two snapshots say the same of the same, whatever else they are called.
fn is_alike(a: &Snapshot, b: &Snapshot) -> bool {
    let sorted = |list: &[String]| {
        let mut list = list.to_vec();
        list.sort();
        list
    };
    let moment = |s: &Snapshot| (s.time.seconds, s.time.nanoseconds);
    moment(a) == moment(b)
        && (a.tree, a.uid, a.gid) == (b.tree, b.uid, b.gid)
        && (&a.hostname, &a.username) == (&b.hostname, &b.username)
        && a.excludes == b.excludes
        && sorted(&a.paths) == sorted(&b.paths)
        && sorted(&a.tags) == sorted(&b.tags)
}
