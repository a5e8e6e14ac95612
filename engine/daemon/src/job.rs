//! Runs of backup sets: one at a time for each set, each on a thread of its own.
//!
//! A run that did not come to a good end, because the daemon was stopped or killed, the power
//! failed or the disk was away, begins again when the daemon starts. So a box that is on for four
//! hours a night goes on night after night, and nobody has to ask it to.

use crate::adoption::{guid_tag, set_tag};
use crate::daemon::Daemon;
use crate::destination;
use crate::failure::{Failure, exit};
use crate::settings::BackupSet;
use engine_contract::control::{CompleteRun, Ended, Progress, RunSummary, UNREADABLE_MAX};
use engine_transfer::{BackupOutcome, BackupRequest, Cancel, Event, ParentChoice};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Instant;
use tokio::sync::watch;

/// The runs of a daemon: those under way, and the last of each set.
#[derive(Default)]
pub struct Jobs {
    by_set: Mutex<BTreeMap<String, Job>>,
    is_stopping: AtomicBool,
}

struct Job {
    progress: watch::Receiver<Progress>,
    cancel: Cancel,
    thread: Option<JoinHandle<()>>,
}

impl Jobs {
    fn by_set(&self) -> MutexGuard<'_, BTreeMap<String, Job>> {
        self.by_set.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// How the last run of a set stands.
    pub fn last_run(&self, set: &str) -> Option<Progress> {
        self.by_set().get(set).map(|job| job.progress.borrow().clone())
    }

    /// Starts a run of a set; one already under way is a failure.
    pub fn start(
        &self,
        daemon: &Arc<Daemon>,
        name: &str,
    ) -> Result<watch::Receiver<Progress>, Failure> {
        let set = daemon.known().settings.set(name)?.clone();
        let mut by_set = self.by_set();
        if self.is_stopping.load(Ordering::SeqCst) {
            return Err(Failure::new("the daemon is stopping").remedy("start it again first"));
        }
        if by_set.get(name).is_some_and(|job| !job.progress.borrow().is_over()) {
            return Err(Failure::new(format!("backup set `{name}` is being backed up already"))
                .remedy("`holdfast status` tells how far it is")
                .code(exit::LOCKED));
        }
        let (sender, receiver) = watch::channel(Progress {
            set: name.to_owned(),
            started_at: jiff::Timestamp::now().as_second(),
            files_done: 0,
            files_total: None,
            bytes_done: 0,
            bytes_total: None,
            current: None,
            ended: None,
        });
        let cancel = Cancel::new();
        let thread = std::thread::Builder::new()
            .name(format!("set {name}"))
            .spawn({
                let (daemon, cancel) = (Arc::clone(daemon), cancel.clone());
                move || run(&daemon, &set, &sender, &cancel)
            })
            .map_err(|error| Failure::new("no thread could be started").because(error))?;
        let job = Job { progress: receiver.clone(), cancel, thread: Some(thread) };
        by_set.insert(name.to_owned(), job);
        Ok(receiver)
    }

    /// Begins again, one after the other, what did not come to a good end before.
    pub fn go_on(&self, daemon: &Arc<Daemon>) {
        for set in daemon.home.unfinished() {
            if daemon.known().settings.set(&set).is_err() {
                daemon.home.note_finished(&set);
                continue;
            }
            let Ok(mut progress) = self.start(daemon, &set) else { continue };
            daemon.log(&format!("the last backup of set {set} was not finished and goes on"));
            let is_over = progress.wait_for(Progress::is_over);
            let _ = tokio::runtime::Handle::current().block_on(is_over);
        }
    }

    /// Stops what runs, and waits for it: what was stored so far stays of use.
    pub fn stop_all(&self) {
        let mut by_set = self.by_set();
        self.is_stopping.store(true, Ordering::SeqCst);
        for job in by_set.values() {
            job.cancel.cancel();
        }
        let threads: Vec<_> = by_set.values_mut().filter_map(|job| job.thread.take()).collect();
        drop(by_set);
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a backup ended in a panic");
            }
        }
    }
}

/// One run, from the first look at the source to the last line of the log.
fn run(daemon: &Daemon, set: &BackupSet, progress: &watch::Sender<Progress>, cancel: &Cancel) {
    daemon.log(&format!("backup of set {} began", set.name));
    daemon.home.note_unfinished(&set.name);
    let begun = Instant::now();
    let ended = match back_up(daemon, set, progress, cancel) {
        Ok(outcome) => {
            let summary = summary(&outcome, begun);
            daemon.home.note_finished(&set.name);
            let ended_at = jiff::Timestamp::now().as_second();
            if daemon.known().settings.set(&set.name).is_ok() {
                let run = CompleteRun { ended_at, summary: summary.clone() };
                daemon.complete.note(&daemon.home, &set.name, run);
            }
            daemon.log(&format!(
                "backup of set {} complete: snapshot {}, {} new, {} changed, {} unmodified files, \
                 {} could not be read, {} bytes stored",
                set.name,
                &summary.snapshot[..8],
                summary.files_new,
                summary.files_changed,
                summary.files_unmodified,
                summary.unreadable_count,
                summary.stored_bytes
            ));
            Ended::Done(summary)
        }
        Err(failure) => {
            daemon.log(&format!("backup of set {} failed: {failure}", set.name));
            Ended::Failed(failure.refusal())
        }
    };
    progress.send_modify(|progress| progress.ended = Some(ended));
}

fn back_up(
    daemon: &Daemon,
    set: &BackupSet,
    progress: &watch::Sender<Progress>,
    cancel: &Cancel,
) -> Result<BackupOutcome, Failure> {
    let (guid, destination) = {
        let known = daemon.known();
        (known.identity.guid, known.settings.destination(&set.destination)?.clone())
    };
    let repository = destination::open(daemon, &destination)?;
    let request = BackupRequest {
        paths: set.paths.clone(),
        excludes: set.excludes.clone(),
        tags: vec![guid_tag(guid), set_tag(&set.name)],
        hostname: daemon.hostname.clone(),
        username: daemon.username.clone(),
        time: jiff::Timestamp::now(),
        // Times of files are written with an offset. UTC stays the same wherever the box moves, so
        // that unchanged folders keep their trees.
        zone: jiff::tz::TimeZone::UTC,
        parent: ParentChoice::Tagged(guid_tag(guid)),
        checkpoint_interval: engine_transfer::CHECKPOINT_INTERVAL,
        program_version: concat!("holdfast ", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    let tell = |event: Event| match event {
        Event::Progress(now) => progress.send_modify(|progress| {
            progress.files_done = now.files_done;
            progress.bytes_done = now.bytes_done;
            progress.files_total = now.is_total_known.then_some(now.files_total);
            progress.bytes_total = now.is_total_known.then_some(now.bytes_total);
            progress.current = Some(now.current.display().to_string());
        }),
        Event::SourceProblem { path, reason } => {
            daemon.log(&format!("not backed up: {}: {reason}", path.display()));
        }
        Event::Note(text) => daemon.log(&text),
        _ => (),
    };
    Ok(engine_transfer::backup(&repository, &request, &tell, cancel)?)
}

fn summary(outcome: &BackupOutcome, begun: Instant) -> RunSummary {
    RunSummary {
        snapshot: outcome.snapshot.to_string(),
        parent: outcome.parent.map(|parent| parent.to_string()),
        files_new: outcome.files_new,
        files_changed: outcome.files_changed,
        files_unmodified: outcome.files_unmodified,
        unreadable: outcome
            .problems
            .iter()
            .take(UNREADABLE_MAX)
            .map(|problem| format!("{}: {}", problem.path.display(), problem.reason))
            .collect(),
        unreadable_count: outcome.problems_total,
        data_added_bytes: outcome.data_added,
        stored_bytes: outcome.data_added_packed,
        total_bytes: outcome.bytes_total,
        elapsed_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
    }
}
