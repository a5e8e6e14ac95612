//! Backup: one walk, and a pipeline behind it.
//!
//! ```text
//!        ┌──errands──▶ helpers ───chunks───┐
//! walk ──┼─────chunks of large files───────┴▶ workers ──blobs──▶ packer ──packs──▶ storer
//!        └───steps───▶ collector ───trees───▶ workers
//! ```
//!
//! The walk goes through the source in order and reads large files; helpers read small ones, some
//! at a time, and look at the folders the walk comes to next; workers hash, compress and seal; the
//! packer fills packs; the storer makes them durable; the collector puts trees together as soon as
//! the ids of their files are known. The snapshot is written when everything else is. Whoever fails
//! says so to all; every queue then runs dry, and what was packed is indexed, so that the next run
//! finds it.

mod ahead;
mod awaited;
mod catalogue;
mod checkpoint;
mod collect;
mod content;
mod digest;
mod entries;
mod errands;
mod journal;
mod lazy_index;
mod look;
mod next_folder;
mod node;
mod pack;
mod parent;
mod progress;
mod read;
mod reuse;
mod seal;
pub(crate) mod select;
mod shared;
mod small_files;
mod stop;
mod unindexed;
mod walk;

use crate::browse::{Parents, parents_like, path_text};
use crate::errors::sentence;
use crate::locks::HeldLock;
use crate::mutex::lock;
use crate::repository::now;
use crate::{Cancel, Event, Repository, Result, TransferError};
use catalogue::{Catalogue, Draft};
pub use checkpoint::CHECKPOINT_INTERVAL;
use checkpoint::Checkpoints;
pub(crate) use checkpoint::{PARENTS_MAX, is_checkpoint};
use collect::{Collector, Step};
use crossbeam_channel::{Sender, bounded};
use engine_repository::{FileKind, Id, Snapshot, Summary, Time};
use errands::Errand;
use journal::{FinishedFiles, Journal, in_walk_order};
use lazy_index::LazyIndex;
use look::Looker;
use pack::Packer;
use progress::{Meter, Totals};
use read::{FileReader, ReadFile};
use seal::Added;
use select::{Branch, Patterns};
use shared::Shared;
use small_files::Reader;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use stop::Pulse;
use walk::Walker;

/// Chunks that wait for a worker, beyond what the memory plan allows anyway.
const JOBS_WAITING_MAX: usize = 8;
/// Steps of the walk that wait for the collector: each a node, or a batch of small files.
const STEPS_WAITING_MAX: usize = 128;
/// Sealed blobs that wait for the packer.
const SEALED_WAITING_MAX: usize = 64;
/// Full packs that wait for the disk: a kill loses the one being stored and the one being filled.
const PACKS_WAITING_MAX: usize = 0;
/// More workers than this gain nothing on the boxes we are for.
const WORKERS_MAX: usize = 8;
/// Only the first problems are kept; all are counted and told as events.
const PROBLEMS_KEPT_MAX: usize = 1000;

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
    /// How old a checkpoint may get; see [`CHECKPOINT_INTERVAL`].
    pub checkpoint_interval: Duration,
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
    /// Folders that were not in the parent.
    pub dirs_new: u64,
    /// Folders that were, and have another tree now.
    pub dirs_changed: u64,
    /// Folders that were, and have the tree they had.
    pub dirs_unmodified: u64,
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

impl BackupOutcome {
    /// Counts a file that was read.
    fn add_file(&mut self, was_known: bool, read: &ReadFile) {
        match was_known {
            true => self.files_changed += 1,
            false => self.files_new += 1,
        }
        self.bytes_total += read.bytes;
        self.bytes_read += read.bytes - read.bytes_before;
    }

    /// Adds what came of small files, which others counted.
    fn add_small_files(&mut self, small: Self) {
        self.files_changed += small.files_changed;
        self.files_new += small.files_new;
        self.bytes_total += small.bytes_total;
        self.bytes_read += small.bytes_read;
        self.problems_total += small.problems_total;
        self.problems.extend(small.problems);
        self.problems.sort_by(|one, other| {
            let [one, other] = [one, other].map(|problem| problem.path.as_os_str().as_bytes());
            in_walk_order(one, other)
        });
        self.problems.truncate(PROBLEMS_KEPT_MAX);
    }

    fn add_problem(&mut self, path: PathBuf, reason: String) {
        self.problems_total += 1;
        if self.problems.len() < PROBLEMS_KEPT_MAX {
            self.problems.push(SourceProblem { path, reason });
        }
    }
}

/// Backs up. The answer is only given once the snapshot is durable.
pub fn backup(
    repository: &Repository,
    request: &BackupRequest,
    events: &(dyn Fn(Event) + Sync),
    cancel: &Cancel,
) -> Result<BackupOutcome> {
    stop::stoppable(repository, request, events, cancel, &back_up)
}

fn back_up(
    repository: &Repository,
    request: &BackupRequest,
    pulse: &Pulse,
    events: &(dyn Fn(Event) + Sync),
    cancel: &Cancel,
) -> Result<BackupOutcome> {
    let begun = now();
    let branch = Branch::of_paths(&request.paths)?;
    let excludes = Patterns::new(&request.excludes)?;
    for path in &request.paths {
        std::fs::symlink_metadata(path)
            .map_err(|cause| TransferError::Source { path: path.clone(), cause })?;
    }
    let lock = HeldLock::acquire(repository, false)?;
    // Snapshots first, then the index: a parent listed here has all its blobs in what is loaded.
    let parents = parents_like(repository, request)?;
    let index = LazyIndex::of(repository, cancel);
    journal::adopt_packs(repository, &index)?;
    let (journal, mut finished) = Journal::begin(repository, request);
    if request.parent == ParentChoice::None {
        finished = FinishedFiles::default();
    }
    let catalogue = Catalogue::open(repository, request);
    let draft = told(events, Draft::begin(repository, request)).flatten();
    let shared = Shared::new(repository, &index, draft.as_ref(), &lock, journal, cancel);
    let parent = parents.complete.as_ref().map(|(id, _)| *id);
    let checkpoints = Checkpoints::of(request, parent);
    let run = Run {
        request,
        branch: &branch,
        excludes: &excludes,
        parents: &parents,
        totals: &Mutex::new(totals_of_before(catalogue.as_ref(), &parents)),
        draft: draft.as_ref(),
        checkpoints: &checkpoints,
    };
    pulse.begin();
    let (mut outcome, tree) = run.all_threads(&shared, (catalogue, finished), events);
    outcome.tree = shared.verdict(tree)?;
    outcome.parent = parent;
    // A tree that was there already is a folder that is as it was.
    let known_trees = u64::try_from(shared.trees_left_known()).unwrap_or(0);
    let unmodified = known_trees.min(outcome.dirs_changed);
    outcome.dirs_changed -= unmodified;
    outcome.dirs_unmodified += unmodified;
    let summary = Some(summary(&outcome, begun));
    outcome.snapshot = save_snapshot(repository, request, outcome.tree, parent, summary)?;
    shared.journal.remove();
    drop(shared);
    if let Some(draft) = draft {
        told(events, draft.finish(repository, outcome.snapshot));
    }
    // The snapshot is there: what could not be tidied up goes after the next.
    let _ = checkpoints.remove_all(repository, parents.needless());
    Ok(outcome)
}

/// What came out; or nothing, and why is told: a backup is none the worse for it.
fn told<T>(events: &(dyn Fn(Event) + Sync), result: Result<T>) -> Option<T> {
    let tell = |error: TransferError| events(Event::Note(sentence(&error)));
    result.map_err(tell).ok()
}

/// How much there was to do the last time, where that is known.
fn totals_of_before(catalogue: Option<&Catalogue>, parents: &Parents) -> Totals {
    let complete = parents.complete.as_ref();
    let summary = complete.and_then(|(_, snapshot)| snapshot.summary.as_ref());
    let of_summary = summary.map(|summary| catalogue::Walked {
        files: summary.total_files_processed,
        bytes: summary.total_bytes_processed,
    });
    catalogue.map(Catalogue::totals).or(of_summary).map(Totals::as_before).unwrap_or_default()
}

/// What the threads of one backup are told.
struct Run<'a> {
    request: &'a BackupRequest,
    branch: &'a Branch,
    excludes: &'a Patterns,
    parents: &'a Parents,
    totals: &'a Mutex<Totals>,
    draft: Option<&'a Draft>,
    checkpoints: &'a Checkpoints<'a>,
}

impl Run<'_> {
    /// Starts all threads and waits until the last one ended.
    fn all_threads(
        &self,
        shared: &Shared<'_>,
        before: (Option<Catalogue>, FinishedFiles),
        events: &(dyn Fn(Event) + Sync),
    ) -> (BackupOutcome, Option<Id>) {
        let is_walked = AtomicBool::new(false);
        let (jobs_in, jobs_out) = bounded(JOBS_WAITING_MAX);
        let (steps_in, steps_out) = bounded(STEPS_WAITING_MAX);
        let (sealed_in, sealed_out) = bounded(SEALED_WAITING_MAX);
        let (filled_in, filled_out) = bounded(PACKS_WAITING_MAX);
        let workers_max = std::thread::available_parallelism().map_or(1, usize::from);
        let (errands_in, errands_out) = bounded(errands::ERRANDS_WAITING_MAX);
        let large = FileReader::new(shared, shared.repository.chunker(), jobs_in.clone());
        let large = Arc::new(Mutex::new(large));
        std::thread::scope(|scope| {
            scope.spawn(move || pack::store(shared, self.checkpoints, &filled_out));
            scope.spawn(move || Packer::new(shared, filled_in).pack(&sealed_out));
            let workers: Vec<_> = (0..workers_max.min(WORKERS_MAX))
                .map(|_| {
                    let (jobs, sealed) = (jobs_out.clone(), sealed_in.clone());
                    scope.spawn(move || seal::work(shared, &jobs, &sealed))
                })
                .collect();
            drop(jobs_out);
            let looker = Looker { shared, excludes: self.excludes };
            for _ in 0..errands::HELPERS {
                let maker = node::NodeMaker::new(self.request.zone.clone());
                let reader = Reader::new(shared, large.clone(), maker, jobs_in.clone());
                let errands = errands_out.clone();
                scope.spawn(move || errands::help(looker, reader, &errands));
            }
            drop(errands_out);
            let collector = Collector::new(shared, self.checkpoints, jobs_in, sealed_in, events);
            let collector = scope.spawn(move || collector.collect(&steps_out));
            if !lock(self.totals).is_complete() {
                scope.spawn(|| {
                    let is_done = || is_walked.load(Ordering::Relaxed);
                    progress::scan(shared, self.branch, self.excludes, self.totals, &is_done);
                });
            }
            let meter = Meter::new(events, self.totals);
            let queues = (large, errands_in, steps_in);
            let mut outcome = self.walk(looker, before, queues, meter);
            is_walked.store(true, Ordering::Relaxed);
            let (tree, small_files) = collector.join().unwrap_or_default();
            outcome.add_small_files(small_files);
            let added = workers.into_iter().filter_map(|worker| worker.join().ok());
            let added = added.fold(Added::default(), Added::and);
            outcome.data_blobs = added.data_blobs;
            outcome.tree_blobs = added.tree_blobs;
            outcome.data_added = added.bytes;
            outcome.data_added_packed = added.bytes_packed;
            (outcome, tree)
        })
    }

    fn walk<'a>(
        &'a self,
        looker: Looker<'a>,
        (catalogue, finished): (Option<Catalogue>, FinishedFiles),
        (reader, errands, steps): (Arc<Mutex<FileReader<'a>>>, Sender<Errand>, Sender<Step>),
        meter: Meter<'a>,
    ) -> BackupOutcome {
        let shared = looker.shared;
        let repository = shared.repository;
        let mut maker = node::NodeMaker::new(self.request.zone.clone());
        // A checkpoint has what the catalogue's snapshot has not.
        let parent = self.parents.only().map(|(id, _)| *id);
        let records = catalogue.and_then(|catalogue| {
            catalogue.believed(repository, parent, &mut |names| maker.agrees(names))
        });
        let mut walker = Walker {
            shared,
            looker,
            maker,
            reader,
            errands,
            asked_in_all: ahead::AskedInAll::default(),
            batch: None,
            parents: parent::Parents::new(shared),
            reuse: reuse::Reuse::of(records),
            finished,
            steps,
            meter,
            outcome: BackupOutcome::default(),
            is_unsettled: false,
            depth: 0,
        };
        // Stopped or not: what was seen is told, and the queues end here.
        let _ = walker.walk(self.branch, &self.parents.trees());
        walker.meter.tell();
        if let Some(draft) = self.draft {
            let (names, totals) = (walker.maker.names(), walker.meter.walked());
            draft.walked(names, totals, walker.reuse.records_bytes());
        }
        walker.outcome
    }
}

/// What restic shows beside a snapshot.
fn summary(outcome: &BackupOutcome, begun: Time) -> Summary {
    let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    Summary {
        backup_start: begun,
        backup_end: now(),
        files_new: outcome.files_new,
        files_changed: outcome.files_changed,
        files_unmodified: outcome.files_unmodified,
        dirs_new: outcome.dirs_new,
        dirs_changed: outcome.dirs_changed,
        dirs_unmodified: outcome.dirs_unmodified,
        data_blobs: count(outcome.data_blobs),
        tree_blobs: count(outcome.tree_blobs),
        data_added: outcome.data_added,
        data_added_packed: outcome.data_added_packed,
        total_files_processed: outcome.files_new + outcome.files_changed + outcome.files_unmodified,
        total_bytes_processed: outcome.bytes_total,
    }
}

fn save_snapshot(
    repository: &Repository,
    request: &BackupRequest,
    tree: Id,
    parent: Option<Id>,
    summary: Option<Summary>,
) -> Result<Id> {
    let (seconds, nanoseconds) =
        (request.time.as_second(), request.time.subsec_nanosecond().unsigned_abs());
    let offset_seconds = request.zone.to_offset(request.time).seconds();
    let time = Time { seconds, nanoseconds, offset_seconds };
    let paths = request.paths.iter().map(|path| path_text(path)).collect();
    let who = repository.who();
    let snapshot = Snapshot {
        parent,
        hostname: request.hostname.clone(),
        username: request.username.clone(),
        uid: who.uid,
        gid: who.gid,
        excludes: request.excludes.clone(),
        tags: request.tags.clone(),
        program_version: request.program_version.clone(),
        summary,
        ..Snapshot::new(time, tree, paths)
    };
    repository.save_unpacked(FileKind::Snapshot, &snapshot)
}
