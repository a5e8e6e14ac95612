//! Prune: what no snapshot needs goes. In two phases, so that it works beside backups.
//!
//! **Phase one**, under a lock that others share:
//! 1. every tree of every snapshot marks the blobs it needs ([`survey`]);
//! 2. packs of which nothing is needed are to go; of the others, those with the most waste are to
//!    be copied, until what is wasted is no more than allowed ([`plan`]);
//! 3. what is needed of those is copied, still sealed, into new packs, each blob verified before;
//!    each new pack is asked for, with its size, before an index names it ([`copy`]);
//! 4. index files are written that name what stays, and read back; what was found is taken down in
//!    the cache's folder ([`prepare`], [`marks`]). So far nothing was removed: there is only more.
//!
//! **Phase two**, under a lock nobody shares, and short ([`sweep`]):
//! 5. if an index file of phase one is gone, its marks are thrown away, and all begins again;
//! 6. snapshots that are new are walked: packs with what they need are *spared*, and so are packs
//!    that new index files name. New index files stay as they are;
//! 7. the index files of before are removed, and only then packs: those that were to go, and those
//!    that no index names.
//!
//! When the second lock cannot be had, phase one's work is kept, and the next prune begins with
//! phase two. Cut off in phase one, some blobs are there twice, or packs in no index: the next
//! prune takes them. Cut off in phase two, both indexes name packs that are there, or packs are
//! left that no index names. Nothing is lost anywhere.
//!
//! **What grows:** nothing in memory but an id for each snapshot and index file, and the entries of
//! one pack. All else is sorted on disk, within what the plan has for index and pipeline.

mod ages;
mod copy;
mod marks;
mod plan;
mod prepare;
mod records;
mod survey;
mod sweep;
mod write;

use crate::locks::HeldLock;
use crate::{Cancel, Event, Repository, Result, TransferError};
use marks::Marks;
use plan::Plan;
use survey::Survey;

/// After so many times that somebody else pruned between our two phases, we give up.
const ROUNDS_MAX: usize = 3;

/// How much waste may stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum MaxUnused {
    /// Thousandths of what the repository then takes.
    Permille(u32),
    /// So many bytes.
    Bytes(u64),
    /// Any: only whole packs go.
    Unlimited,
}

impl Default for MaxUnused {
    fn default() -> Self {
        Self::Permille(50)
    }
}

/// How to prune.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PruneRequest {
    /// How much waste may stay; 5 % unless said otherwise.
    pub max_unused: MaxUnused,
    /// Copy no more packs than have this many bytes together.
    pub max_repack_bytes: Option<u64>,
    /// Copy packs much smaller than packs should be, too, when there are several.
    pub is_small_repacked: bool,
    /// Copy packs with blobs that are not compressed, too, compressing what gets smaller by it.
    pub is_uncompressed_repacked: bool,
    /// Copy only packs with trees.
    pub is_cacheable_only: bool,
    /// Leave packs alone that prunes of this computer have known for fewer seconds than this.
    /// When they were first seen is kept in the cache: without one, all are left alone.
    pub pack_age_seconds_min: Option<u64>,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// What a prune did, or would do. Bytes are those of sealed blobs, without headers.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PruneReport {
    /// Blobs that snapshots need, each once.
    pub blobs_used: u64,
    /// Their bytes.
    pub bytes_used: u64,
    /// Blobs that nobody needs, or of which there is another copy.
    pub blobs_unused: u64,
    /// Their bytes.
    pub bytes_unused: u64,
    /// Packs that stay as they are.
    pub packs_kept: u64,
    /// Packs that are copied in part, and removed.
    pub packs_repacked: u64,
    /// Bytes copied.
    pub bytes_repacked: u64,
    /// Packs removed because nothing in them is needed.
    pub packs_removed: u64,
    /// Packs removed because no index named them.
    pub packs_unindexed: u64,
    /// Their bytes.
    pub bytes_unindexed: u64,
    /// Packs the index named that are not there; nothing in them was needed.
    pub packs_missing: u64,
    /// Packs of those to be removed that stay all the same, because a backup that ended meanwhile
    /// needs something in them.
    pub packs_spared: u64,
    /// Unused bytes that stay.
    pub bytes_left_unused: u64,
}

impl PruneReport {
    /// Bytes that become free.
    pub fn bytes_freed(&self) -> u64 {
        self.bytes_unused.saturating_sub(self.bytes_left_unused) + self.bytes_unindexed
    }

    /// Whether anything is to be removed.
    fn is_work(&self) -> bool {
        let packs = [self.packs_repacked, self.packs_removed, self.packs_unindexed];
        packs.iter().any(|packs| *packs > 0) || self.packs_missing > 0
    }
}

/// Prunes. An error before the first removal leaves all that was there.
pub fn prune(
    repository: &Repository,
    request: &PruneRequest,
    events: &(dyn Fn(Event) + Sync),
    cancel: &Cancel,
) -> Result<PruneReport> {
    let mut marks = match request.dry_run {
        true => None,
        false => Marks::load(repository, request)?,
    };
    if let Some(old) = marks.take() {
        match old.are_fresh(repository)? {
            true => marks = Some(old),
            false => old.discard()?,
        }
    }
    for _ in 0..ROUNDS_MAX {
        let found = match marks.take() {
            Some(found) => found,
            None => match phase_one(repository, request, events, cancel)? {
                PhaseOne::Done(report) => return Ok(report),
                PhaseOne::Marked(found) => *found,
            },
        };
        let swept = sweep::sweep(repository, &found, events, cancel)?;
        found.discard()?;
        if let Some(report) = swept {
            return Ok(report);
        }
    }
    Err(TransferError::Overtaken)
}

/// Fails when somebody asked to stop.
fn must_go_on(cancel: &Cancel) -> Result<()> {
    if cancel.is_cancelled() { Err(TransferError::Cancelled) } else { Ok(()) }
}

enum PhaseOne {
    /// There is nothing to remove, or nothing shall be.
    Done(PruneReport),
    Marked(Box<Marks>),
}

fn phase_one(
    repository: &Repository,
    request: &PruneRequest,
    events: &(dyn Fn(Event) + Sync),
    cancel: &Cancel,
) -> Result<PhaseOne> {
    let lock = HeldLock::acquire(repository, false)?;
    let survey = Survey::make(repository, cancel)?;
    let young = ages::young(repository, &survey.there, request)?;
    let plan = Plan::make(repository, &survey, young.as_ref(), request, cancel)?;
    if request.dry_run || !plan.report.is_work() {
        return Ok(PhaseOne::Done(plan.report));
    }
    let job = Job { repository, request, lock: &lock, cancel, events };
    let marks = prepare::prepare(&job, survey, plan)?;
    job.may_go_on()?;
    Ok(PhaseOne::Marked(Box::new(marks)))
}

/// What carrying out a plan needs.
struct Job<'a> {
    repository: &'a Repository,
    request: &'a PruneRequest,
    lock: &'a HeldLock,
    cancel: &'a Cancel,
    events: &'a (dyn Fn(Event) + Sync),
}

impl Job<'_> {
    /// Whether nobody asked to stop, and the lock is still ours.
    fn may_go_on(&self) -> Result<()> {
        must_go_on(self.cancel)?;
        self.lock.must_be_held()
    }
}
