//! What the owner sees while a backup runs.

use super::catalogue::Walked;
use super::select::{Branch, Patterns};
use super::shared::Shared;
use crate::mutex::lock;
use crate::posix::{Folder, Kind, joined};
use crate::{Event, Progress};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Progress is told this often at most.
const INTERVAL: Duration = Duration::from_millis(200);

/// No more folders wait to be counted: some MB of paths.
const FOLDERS_LEFT_MAX: usize = 32_768;

/// What there is to do, counted beside the backup.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Totals {
    files: u64,
    bytes: u64,
    is_complete: bool,
}

impl Totals {
    /// As many as the last time: near enough not to look at everything twice.
    pub(super) fn as_before(walked: Walked) -> Self {
        Self { files: walked.files, bytes: walked.bytes, is_complete: true }
    }

    pub(super) fn is_complete(self) -> bool {
        self.is_complete
    }
}

/// Counts what was done and tells about it now and then.
pub(super) struct Meter<'a> {
    events: &'a (dyn Fn(Event) + Sync),
    totals: &'a Mutex<Totals>,
    progress: Progress,
    told: Instant,
}

impl<'a> Meter<'a> {
    pub(super) fn new(events: &'a (dyn Fn(Event) + Sync), totals: &'a Mutex<Totals>) -> Self {
        Self { events, totals, progress: Progress::default(), told: Instant::now() }
    }

    /// A file is begun.
    pub(super) fn at(&mut self, path: &Path) {
        if self.told.elapsed() >= INTERVAL {
            self.progress.current = path.into();
            self.tell();
        }
    }

    /// Bytes of it were read.
    pub(super) fn bytes(&mut self, bytes: u64) {
        self.progress.bytes_done += bytes;
        if self.told.elapsed() >= INTERVAL {
            self.tell();
        }
    }

    /// A file is done, with bytes that were not counted yet.
    pub(super) fn file_done(&mut self, bytes: u64) {
        self.progress.files_done += 1;
        self.progress.bytes_done += bytes;
    }

    /// Files of a folder are done, all of them as they were.
    pub(super) fn files_done(&mut self, files: u64, bytes: u64) {
        self.progress.files_done += files;
        self.progress.bytes_done += bytes;
    }

    /// What was gone through so far.
    pub(super) fn walked(&self) -> Walked {
        Walked { files: self.progress.files_done, bytes: self.progress.bytes_done }
    }

    /// All is done again from the start.
    pub(super) fn restart(&mut self) {
        self.progress = Progress::default();
    }

    pub(super) fn problem(&self, path: &Path, cause: &io::Error) {
        tell_problem(self.events, path, cause);
    }

    pub(super) fn tell(&mut self) {
        let totals = *lock(self.totals);
        self.progress.files_total = totals.files.max(self.progress.files_done);
        self.progress.bytes_total = totals.bytes.max(self.progress.bytes_done);
        self.progress.is_total_known = totals.is_complete;
        (self.events)(Event::Progress(self.progress.clone()));
        self.told = Instant::now();
    }
}

/// Tells of something in the source that could not be read.
pub(super) fn tell_problem(events: &(dyn Fn(Event) + Sync), path: &Path, cause: &io::Error) {
    events(Event::SourceProblem { path: path.to_owned(), reason: cause.to_string() });
}

/// Counts what there is to do. What cannot be looked at is not counted; the walk reports it. Where
/// more folders are to be looked into than have room, it stays unknown how much there is.
pub(super) fn scan(
    shared: &Shared<'_>,
    branch: &Branch,
    excludes: &Patterns,
    totals: &Mutex<Totals>,
    is_done: &dyn Fn() -> bool,
) {
    let mut left = vec![(PathBuf::from("/"), Some(branch))];
    while let Some((path, branch)) = left.pop() {
        if shared.is_stopped() || is_done() || left.len() > FOLDERS_LEFT_MAX {
            return;
        }
        match branch {
            Some(Branch::Partly(children)) => {
                for (name, child) in children {
                    left.push((path.join(std::ffi::OsStr::from_bytes(name)), Some(child)));
                }
            }
            _ => scan_folder(&path, excludes, totals, &mut left, is_done),
        }
    }
    lock(totals).is_complete = true;
}

fn scan_folder(
    path: &Path,
    excludes: &Patterns,
    totals: &Mutex<Totals>,
    left: &mut Vec<(PathBuf, Option<&Branch>)>,
    is_done: &dyn Fn() -> bool,
) {
    let mut found = Totals::default();
    match Folder::at(path) {
        Ok(folder) => {
            // What of it cannot be listed is not counted.
            let _ = folder.each_name(&mut |name| {
                let at = joined(path, name);
                if !excludes.is_empty() && excludes.fit(&at) {
                    return Ok(());
                }
                match folder.stat(name) {
                    Ok(stat) if stat.kind == Kind::Folder => left.push((at, None)),
                    Ok(stat) if stat.kind == Kind::File => {
                        found.files += 1;
                        found.bytes += stat.size;
                    }
                    Ok(stat) if stat.kind != Kind::Socket => found.files += 1,
                    _ => {}
                }
                match left.len() > FOLDERS_LEFT_MAX || is_done() {
                    true => Err(std::io::ErrorKind::Interrupted.into()),
                    false => Ok(()),
                }
            });
        }
        // A file named by itself.
        Err(_) => match std::fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_file() => {
                (found.files, found.bytes) = (1, metadata.len());
            }
            _ => {}
        },
    }
    let mut totals = lock(totals);
    totals.files += found.files;
    totals.bytes += found.bytes;
}
