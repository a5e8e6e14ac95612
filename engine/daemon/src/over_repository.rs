//! Commands over one repository, with restic's names, flags and exit codes.

mod inspect;
mod restore;
mod upkeep;
mod whole;

use crate::arguments::{Backup, OverRepository};
use crate::failure::{Failure, exit};
use crate::output;
use crate::progress_bar::{ProgressBar, Reached};
use crate::world::{World, who_we_are};
use engine_transfer::{
    BackupOutcome, BackupRequest, Cancel, CheckReport, Event, ListedNode, ParentChoice, Progress,
    Reading, Repository, SnapshotInfo, Who,
};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;

/// Does what was asked.
pub fn run(world: &World, command: OverRepository) -> Result<ExitCode, Failure> {
    match command {
        OverRepository::Init(wanted) => whole::init(world, &wanted),
        OverRepository::Backup(wanted) => backup(world, wanted),
        OverRepository::Snapshots => snapshots(world),
        OverRepository::Ls { snapshot } => ls(world, &snapshot),
        OverRepository::Restore(wanted) => restore::restore(world, wanted),
        OverRepository::Check(wanted) => check(world, wanted.reading()),
        OverRepository::Repair(wanted) => whole::repair(world, wanted),
        OverRepository::Copy(wanted) => whole::copy(world, wanted),
        OverRepository::Unlock { remove_all } => upkeep::unlock(world, remove_all),
        OverRepository::Key(command) => upkeep::key(world, command),
        OverRepository::Forget(wanted) => upkeep::forget(world, wanted),
        OverRepository::Prune(wanted) => upkeep::prune(world, &wanted),
        OverRepository::Stats(wanted) => inspect::stats(world, &wanted),
        OverRepository::Dump(wanted) => inspect::dump(world, &wanted),
        OverRepository::Find(wanted) => inspect::find(world, &wanted),
        OverRepository::Diff(wanted) => inspect::diff(world, &wanted),
        OverRepository::Tag(wanted) => upkeep::tag(world, wanted),
    }
}

fn who(world: &World) -> Who {
    who_we_are(&world.hostname, &world.username)
}

fn open(world: &World) -> Result<Repository, Failure> {
    let storage = engine_storage::open_by(world.repository()?, &world.way)?;
    let password = world.password()?;
    let repository = Repository::open(storage, &password, &who(world), &world.memory)?;
    let repository = with_caches(world, repository).with_effort(world.effort);
    Ok(match world.lock_wait {
        Some(wait) => repository.with_lock_patience(wait, &cancelled_by_signals()?),
        None => repository,
    })
}

/// The usual folder is done without where it cannot be written to: nothing in it is needed.
fn with_caches(world: &World, repository: Repository) -> Repository {
    let Some(caches) = &world.caches else { return repository };
    let cached = repository.clone().with_cache(caches);
    match cached.try_cache() {
        Err(error) if !world.is_cache_named => {
            if !world.quiet && !world.json {
                eprintln!("holdfast: nothing is kept for the next run: {error}");
            }
            repository
        }
        _ => cached,
    }
}

/// Stops the transfer in order at the first signal; a second one ends the program at once.
fn cancelled_by_signals() -> Result<Cancel, Failure> {
    let cancel = Cancel::new();
    let at_signal = cancel.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new("no event loop could be made").because(error))?;
    std::thread::spawn(move || {
        runtime.block_on(async move {
            use tokio::signal::unix::{SignalKind, signal};
            // Restic asks whether the holder of a lock lives by sending it SIGHUP, which ends
            // whoever does not catch it; this handler does nothing, and stays.
            let _asked = signal(SignalKind::hangup());
            let both = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
            let (Ok(mut interrupt), Ok(mut terminate)) = both else { return };
            for is_second in [false, true] {
                tokio::select! { _ = interrupt.recv() => (), _ = terminate.recv() => () }
                if is_second {
                    std::process::exit(i32::from(exit::FAILED));
                }
                at_signal.cancel();
            }
        });
    });
    Ok(cancel)
}

/// Shows what a transfer tells, on standard error.
struct Teller<'a> {
    world: &'a World,
    bar: Mutex<(ProgressBar, Reached)>,
}

impl<'a> Teller<'a> {
    fn new(world: &'a World) -> Self {
        let bar = ProgressBar::new(world.quiet || world.json);
        Self { world, bar: Mutex::new((bar, Reached::default())) }
    }

    fn tell(&self, event: Event) {
        let Ok(mut bar) = self.bar.lock() else { return };
        match event {
            Event::Progress(now) => {
                bar.1 = reached(&now);
                let reached = bar.1;
                bar.0.show(reached);
            }
            Event::SourceProblem { path, reason } | Event::TargetProblem { path, reason } => {
                if self.world.json {
                    output::json(&json!({ "message_type": "error",
                        "item": path.to_string_lossy(), "error": { "message": reason } }));
                } else {
                    bar.0.abandon();
                    eprintln!("holdfast: {}: {reason}", path.display());
                }
            }
            Event::Restored { action, path, bytes } => {
                bar.0.abandon();
                restore::show_item(self.world, action, &path, bytes);
            }
            Event::Note(text) if !self.world.quiet && !self.world.json => eprintln!("{text}"),
            _ => (),
        }
    }

    fn end(&self, is_done: bool) {
        let Ok(mut bar) = self.bar.lock() else { return };
        let reached = bar.1;
        if is_done { bar.0.finish(reached) } else { bar.0.abandon() }
    }
}

fn reached(now: &Progress) -> Reached {
    Reached {
        files_done: now.files_done,
        bytes_done: now.bytes_done,
        bytes_total: now.is_total_known.then_some(now.bytes_total),
    }
}

fn backup(world: &World, wanted: Backup) -> Result<ExitCode, Failure> {
    let repository = open(world)?;
    let parent = match (&wanted.parent, wanted.force) {
        (_, true) => ParentChoice::None,
        (Some(text), _) => {
            ParentChoice::Given(engine_transfer::find_snapshot(&repository, text)?.id)
        }
        (None, _) => ParentChoice::SameHostAndPaths,
    };
    let request = BackupRequest {
        paths: wanted.paths.iter().map(|path| absolute(path)).collect::<Result<_, _>>()?,
        excludes: wanted.excludes,
        tags: wanted.tags,
        hostname: wanted.host.unwrap_or_else(|| world.hostname.clone()),
        username: world.username.clone(),
        time: jiff::Timestamp::now(),
        zone: jiff::tz::TimeZone::system(),
        parent,
        checkpoint_interval: engine_transfer::CHECKPOINT_INTERVAL,
        program_version: concat!("holdfast ", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    let teller = Teller::new(world);
    let cancel = cancelled_by_signals()?;
    let result =
        engine_transfer::backup(&repository, &request, &|event| teller.tell(event), &cancel);
    teller.end(result.is_ok());
    let outcome = result?;
    show_backup(world, &outcome);
    if outcome.problems_total == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::new(format!(
        "{} could not be read; everything else is in the snapshot",
        outcome.problems_total
    ))
    .remedy("give the user permission to read them, or leave them out with --exclude")
    .code(exit::INCOMPLETE))
}

/// Without following a link in the last place: a link that was named is backed up as a link.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|error| Failure::new(format!("{} has no place", path.display())).because(error))
}

fn show_backup(world: &World, outcome: &BackupOutcome) {
    if world.json {
        output::json(&json!({
            "message_type": "summary",
            "files_new": outcome.files_new,
            "files_changed": outcome.files_changed,
            "files_unmodified": outcome.files_unmodified,
            "dirs": outcome.dirs,
            "data_blobs": outcome.data_blobs,
            "tree_blobs": outcome.tree_blobs,
            "data_added": outcome.data_added,
            "data_added_packed": outcome.data_added_packed,
            "total_bytes_processed": outcome.bytes_total,
            "bytes_read": outcome.bytes_read,
            "problems": outcome.problems_total,
            "parent": outcome.parent.map(|parent| parent.to_string()),
            "tree": outcome.tree.to_string(),
            "snapshot_id": outcome.snapshot.to_string(),
        }));
    } else if !world.quiet {
        output::line(&format!(
            "files        {} new, {} changed, {} unmodified",
            outcome.files_new, outcome.files_changed, outcome.files_unmodified
        ));
        output::line(&format!(
            "data         {} in all, {} new, {} stored",
            output::bytes(outcome.bytes_total),
            output::bytes(outcome.data_added),
            output::bytes(outcome.data_added_packed)
        ));
        output::line(&format!("snapshot     {}", outcome.snapshot.short()));
    }
}

fn snapshots(world: &World) -> Result<ExitCode, Failure> {
    let repository = open(world)?;
    let (list, damage) = engine_transfer::readable_snapshots(&repository)?;
    if world.json {
        output::json(&list.iter().map(snapshot_json).collect::<Vec<_>>());
    } else {
        show_snapshots(world, &list);
    }
    if damage.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    for error in &damage {
        eprintln!("holdfast: {error}");
    }
    let fact = format!("{} more cannot be read", damage.len());
    Err(Failure::new(fact).remedy(
        "those listed are to be had by their ids; `holdfast check` tells what else is damaged",
    ))
}

fn show_snapshots(world: &World, list: &[SnapshotInfo]) {
    for snapshot in list {
        let paths: Vec<_> = snapshot.paths.iter().map(|path| path.display().to_string()).collect();
        output::line(&format!(
            "{}  {}  {}  {}  {}",
            snapshot.id.short(),
            snapshot.time.get(..19).unwrap_or(&snapshot.time),
            snapshot.hostname,
            snapshot.tags.join(","),
            paths.join(" ")
        ));
    }
    if !world.quiet {
        output::line(&format!("{} snapshots", list.len()));
    }
}

fn snapshot_json(snapshot: &SnapshotInfo) -> serde_json::Value {
    json!({
        "id": snapshot.id.to_string(),
        "short_id": snapshot.id.short(),
        "time": snapshot.time,
        "tree": snapshot.tree.to_string(),
        "parent": snapshot.parent.map(|parent| parent.to_string()),
        "hostname": snapshot.hostname,
        "username": snapshot.username,
        "paths": snapshot.paths.iter().map(|path| path.to_string_lossy()).collect::<Vec<_>>(),
        "tags": snapshot.tags,
    })
}

fn ls(world: &World, text: &str) -> Result<ExitCode, Failure> {
    let repository = open(world)?;
    let snapshot = engine_transfer::find_snapshot(&repository, text)?;
    if world.json {
        output::json(&snapshot_json(&snapshot));
    }
    engine_transfer::ls(&repository, &snapshot, &mut |node: ListedNode| {
        if world.json {
            output::json(&json!({
                "path": node.path.to_string_lossy(), "type": node.kind, "size": node.size,
                "mode": node.mode, "uid": node.uid, "gid": node.gid, "mtime": node.mtime,
                "linktarget": node.link_target.map(|target| target.to_string_lossy().into_owned()),
            }));
        } else {
            output::path(&node.path);
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

fn check(world: &World, reading: Reading) -> Result<ExitCode, Failure> {
    let repository = open(world)?;
    let teller = Teller::new(world);
    let cancel = cancelled_by_signals()?;
    let result =
        engine_transfer::check_reading(&repository, reading, &|event| teller.tell(event), &cancel);
    teller.end(result.is_ok());
    let report = result?;
    show_check(world, &report);
    if report.is_sound() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::new(format!("the repository is damaged: {} findings", report.damage_total))
        .remedy(
            "each finding above has its own; back up again first: \
         what the source still has is stored anew",
        ))
}

fn show_check(world: &World, report: &CheckReport) {
    if world.json {
        let findings: Vec<_> = report
            .findings
            .iter()
            .map(|finding| {
                json!({ "fact": finding.fact, "remedy": finding.remedy,
                    "is_damage": finding.is_damage })
            })
            .collect();
        output::json(&json!({
            "message_type": "summary",
            "is_sound": report.is_sound(),
            "damage": report.damage_total,
            "snapshots": report.snapshots,
            "packs": report.packs,
            "blobs": report.blobs,
            "bytes_read": report.bytes_read,
            "findings": findings,
        }));
        return;
    }
    for finding in &report.findings {
        eprintln!("holdfast: {}\n  what to do: {}", finding.fact, finding.remedy);
    }
    if !world.quiet {
        output::line(&format!(
            "checked      {} snapshots, {} packs, {} blobs, {} read: {}",
            report.snapshots,
            report.packs,
            report.blobs,
            output::bytes(report.bytes_read),
            if report.is_sound() { "sound" } else { "damaged" }
        ));
    }
}
