//! Is the repository sound?
//!
//! Without reading data: index files open and agree with the packs that are there and their sizes;
//! every tree of every snapshot opens, and every blob it needs is in the index. With: every pack
//! has the sum it is named by, its header agrees with the index, every blob opens and has its sum.
//!
//! What restic would call an error is damage here, too; what its `prune` tidies up is not.

pub(crate) mod contents;
mod packs;
mod share;
mod trees;

use crate::locks::HeldLock;
use crate::sorter::Sorter;
use crate::{Cancel, Event, Progress, Repository, Result, TransferError};
use contents::Told;
use engine_repository::{FileKind, Id};
use engine_storage::list_all;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Only the first findings are kept; all are counted.
const FINDINGS_KEPT_MAX: usize = 1000;
/// Progress is told this often at most.
const INTERVAL: Duration = Duration::from_millis(200);

const LOST: &str = "Run `holdfast repair index`: a pack no index names may have it. Then back up \
                    again: what the source still has is stored anew. At last `holdfast repair \
                    snapshots --forget` takes out of old snapshots what is lost.";
const INDEX_LOST: &str = "Make the index anew from the packs: `holdfast repair index`.";
const PACK_LOST: &str = "Have the disk and its cables tested. Then `holdfast repair packs` saves \
                         what is still readable; back up again afterwards.";
const UNTIDY: &str = "Nothing is lost. `holdfast prune` removes what nobody needs.";

/// What to check.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CheckRequest {
    /// Read every pack and verify every blob; without it, what index, listing and trees tell.
    pub read_data: bool,
}

pub use share::Reading;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong, in one line.
    pub fact: String,
    /// What to do about it.
    pub remedy: &'static str,
    /// Whether something is lost or at risk; otherwise it is only untidy.
    pub is_damage: bool,
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Everything that is not as it should be, the first 1000.
    pub findings: Vec<Finding>,
    /// How many there were altogether.
    pub findings_total: u64,
    /// How many of them are damage.
    pub damage_total: u64,
    /// Snapshots looked at.
    pub snapshots: u64,
    /// Packs looked at.
    pub packs: u64,
    /// Blobs the index knows.
    pub blobs: u64,
    /// Bytes of packs read and verified.
    pub bytes_read: u64,
}

impl CheckReport {
    /// Whether nothing is lost or at risk.
    pub fn is_sound(&self) -> bool {
        self.damage_total == 0
    }
}

impl CheckReport {
    fn add(&mut self, fact: String, remedy: &'static str, is_damage: bool) {
        self.findings_total += 1;
        self.damage_total += u64::from(is_damage);
        if self.findings.len() < FINDINGS_KEPT_MAX {
            self.findings.push(Finding { fact, remedy, is_damage });
        }
    }
}

/// Checks. An error means that checking was not possible; what is wrong is in the report.
pub fn check(
    repository: &Repository,
    request: CheckRequest,
    events: &(dyn Fn(Event) + Sync),
    cancel: &Cancel,
) -> Result<CheckReport> {
    let reading = if request.read_data { Reading::All } else { Reading::None };
    check_reading(repository, reading, events, cancel)
}

/// Checks, and reads all of the data or a part of it.
pub fn check_reading(
    repository: &Repository,
    reading: Reading,
    events: &(dyn Fn(Event) + Sync),
    cancel: &Cancel,
) -> Result<CheckReport> {
    let lock = HeldLock::acquire(repository, false)?;
    let checker = Checker::new(repository, events, cancel);
    // Snapshots are listed before the index is read: what is added meanwhile is not missed.
    let snapshots = list_all(repository.storage().as_ref(), FileKind::Snapshot)?;
    let Told { index, packs } = contents::load_index(&checker)?;
    let packs = contents::compare_packs(&checker, packs)?;
    trees::visit(&checker, &index, &snapshots)?;
    if reading != Reading::None {
        packs::read_all(&checker, share::choose(&checker, reading, packs)?)?;
        share::remember(&checker, reading)?;
    }
    if cancel.is_cancelled() {
        return Err(TransferError::Cancelled);
    }
    lock.must_be_held()?;
    checker.tell(true);
    let mut report = checker.report();
    report.blobs = index.blobs();
    Ok(report)
}

/// What everything that checks shares.
struct Checker<'a> {
    repository: &'a Repository,
    events: &'a (dyn Fn(Event) + Sync),
    cancel: &'a Cancel,
    state: Mutex<State>,
}

struct State {
    report: CheckReport,
    progress: Progress,
    told: Instant,
    /// Packs that were read and are as they should be.
    whole: Option<Sorter<{ Id::BYTES }>>,
}

impl<'a> Checker<'a> {
    fn new(
        repository: &'a Repository,
        events: &'a (dyn Fn(Event) + Sync),
        cancel: &'a Cancel,
    ) -> Self {
        let state = State {
            report: CheckReport::default(),
            progress: Progress::default(),
            told: Instant::now(),
            whole: None,
        };
        Self { repository, events, cancel, state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(self) -> CheckReport {
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner).report
    }

    /// Something is lost or at risk.
    fn damage(&self, fact: String, remedy: &'static str) {
        (self.events)(Event::Note(fact.clone()));
        self.lock().report.add(fact, remedy, true);
    }

    /// Something is untidy.
    fn untidy(&self, fact: String, remedy: &'static str) {
        self.lock().report.add(fact, remedy, false);
    }

    fn progress(&self, add: impl FnOnce(&mut Progress)) {
        add(&mut self.lock().progress);
        self.tell(false);
    }

    fn tell(&self, always: bool) {
        let mut state = self.lock();
        if always || state.told.elapsed() >= INTERVAL {
            state.told = Instant::now();
            let progress = state.progress.clone();
            drop(state);
            (self.events)(Event::Progress(progress));
        }
    }
}
