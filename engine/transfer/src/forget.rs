//! Forgetting snapshots: chosen by a policy, or named.
//!
//! Only snapshot files are removed; what only they needed goes with the next [`crate::prune`].
//!
//! A policy is about complete snapshots. A checkpoint is never one of those it counts: it stays as
//! long as the next backup goes on from it, and goes as soon as a complete snapshot of its group is
//! newer. (restic, which knows no checkpoints, counts them as any snapshot; so does ours when one
//! is named.)

use crate::backup::is_checkpoint;
use crate::browse::{SnapshotInfo, each_snapshot, find_snapshot};
use crate::locks::HeldLock;
use crate::repository::now;
use crate::retention::{Candidate, Policy, decide, has_tags};
use crate::{Repository, Result, TransferError};
use engine_repository::{FileKind, Id, Snapshot};
use engine_storage::{Name, StorageError};
use std::collections::BTreeMap;

/// Which snapshots are meant. Nothing set means all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotFilter {
    /// Of one of these computers.
    pub hosts: Vec<String>,
    /// With all tags of one of these lists.
    pub tags: Vec<Vec<String>>,
    /// With all of these paths.
    pub paths: Vec<String>,
}

impl SnapshotFilter {
    /// Whether a snapshot is meant.
    pub fn fits(&self, snapshot: &SnapshotInfo) -> bool {
        (self.hosts.is_empty() || self.hosts.contains(&snapshot.hostname))
            && (self.tags.is_empty() || self.tags.iter().any(|t| has_tags(&snapshot.tags, t)))
            && self
                .paths
                .iter()
                .all(|path| snapshot.paths.iter().any(|p| p.as_os_str() == &path[..]))
    }
}

/// What snapshots must have in common for a policy to count them together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupBy {
    /// The computer.
    pub host: bool,
    /// The paths.
    pub paths: bool,
    /// The tags.
    pub tags: bool,
}

impl Default for GroupBy {
    fn default() -> Self {
        Self { host: true, paths: true, tags: false }
    }
}

/// What to forget.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForgetRequest {
    /// These snapshots: ids or beginnings of ids. Then the policy is not asked.
    pub snapshots: Vec<String>,
    /// What to keep.
    pub policy: Policy,
    /// Which snapshots the policy is about.
    pub filter: SnapshotFilter,
    /// How they are grouped.
    pub group_by: GroupBy,
    /// Only say what would be forgotten.
    pub dry_run: bool,
    /// A group of which nothing would be left may go all the same.
    pub may_remove_all: bool,
}

/// A snapshot that is kept, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The snapshot.
    pub snapshot: SnapshotInfo,
    /// Why, in restic's words.
    pub reasons: Vec<String>,
}

/// Snapshots the policy counted together. What is not part of the grouping is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForgetGroup {
    /// The computer.
    pub host: Option<String>,
    /// The paths.
    pub paths: Option<Vec<String>>,
    /// The tags.
    pub tags: Option<Vec<String>>,
    /// What stays, newest first.
    pub keep: Vec<Kept>,
    /// What goes, newest first.
    pub remove: Vec<SnapshotInfo>,
}

/// What was forgotten, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForgetReport {
    /// The groups; one without a key when snapshots were named.
    pub groups: Vec<ForgetGroup>,
}

impl ForgetReport {
    /// How many snapshots go.
    pub fn removed(&self) -> usize {
        self.groups.iter().map(|group| group.remove.len()).sum()
    }
}

/// Forgets. Everything is decided before the first snapshot is removed.
pub fn forget(repository: &Repository, request: &ForgetRequest) -> Result<ForgetReport> {
    let lock = HeldLock::acquire(repository, !request.dry_run)?;
    let groups = if request.snapshots.is_empty() {
        by_policy(repository, request)?
    } else {
        let mut group = ForgetGroup::default();
        for text in &request.snapshots {
            let found = find_snapshot(repository, text)?;
            if !group.remove.contains(&found) {
                group.remove.push(found);
            }
        }
        vec![group]
    };
    if !request.dry_run {
        for snapshot in groups.iter().flat_map(|group| &group.remove) {
            lock.must_be_held()?;
            match repository.storage().remove(Name::of(FileKind::Snapshot, snapshot.id)) {
                Ok(()) | Err(StorageError::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(ForgetReport { groups })
}

type Key = (Option<String>, Option<Vec<String>>, Option<Vec<String>>);

fn by_policy(repository: &Repository, request: &ForgetRequest) -> Result<Vec<ForgetGroup>> {
    let mut groups: BTreeMap<Key, Vec<(Id, Snapshot)>> = BTreeMap::new();
    let sorted = |list: &[String]| {
        let mut list = list.to_vec();
        list.sort();
        list
    };
    let GroupBy { host, paths, tags } = request.group_by;
    each_snapshot(repository, &mut |id, snapshot| {
        if request.filter.fits(&SnapshotInfo::of(id, &snapshot)) {
            let key = (
                host.then(|| snapshot.hostname.clone()),
                paths.then(|| sorted(&snapshot.paths)),
                tags.then(|| sorted(&snapshot.tags)),
            );
            groups.entry(key).or_default().push((id, snapshot));
        }
    })?;
    let now = now();
    let mut decided = Vec::new();
    for ((host, paths, tags), mut snapshots) in groups {
        snapshots.sort_by_key(|(id, _)| *id);
        let mut group = ForgetGroup { host, paths, tags, ..ForgetGroup::default() };
        let checkpoints = split_checkpoints(&mut snapshots, &mut group);
        let candidates: Vec<_> = snapshots
            .iter()
            .map(|(_, snapshot)| Candidate { time: snapshot.time, tags: snapshot.tags.clone() })
            .collect();
        for decision in decide(&request.policy, &candidates, &now) {
            let (id, snapshot) = &snapshots[decision.place];
            let snapshot = SnapshotInfo::of(*id, snapshot);
            match decision.reasons.is_empty() {
                true => group.remove.push(snapshot),
                false => group.keep.push(Kept { snapshot, reasons: decision.reasons }),
            }
        }
        if group.keep.is_empty() && !snapshots.is_empty() && !request.may_remove_all {
            return Err(TransferError::NothingKept { snapshots: group.remove.len() });
        }
        group.keep.extend(checkpoints);
        decided.push(group);
    }
    Ok(decided)
}

/// Takes the checkpoints out of a group: needless ones are removed, the others given back.
fn split_checkpoints(snapshots: &mut Vec<(Id, Snapshot)>, group: &mut ForgetGroup) -> Vec<Kept> {
    let when = |snapshot: &Snapshot| (snapshot.time.seconds, snapshot.time.nanoseconds);
    let complete = snapshots.iter().map(|(_, snapshot)| snapshot).filter(|it| !is_checkpoint(it));
    let newest = complete.map(when).max();
    let mut kept = Vec::new();
    snapshots.retain(|(id, snapshot)| {
        if !is_checkpoint(snapshot) {
            return true;
        }
        let info = SnapshotInfo::of(*id, snapshot);
        match newest > Some(when(snapshot)) {
            true => group.remove.push(info),
            false => kept.push(Kept { snapshot: info, reasons: vec!["checkpoint".to_owned()] }),
        }
        false
    });
    kept
}
