//! Restore: one walk through the snapshot, and workers behind it.
//!
//! ```text
//! walk (makes folders, links, devices) ──pieces, in the order of the packs──▶ workers
//!                             (read what is there; fetch, verify and write what is not)
//! ```
//!
//! What is there already is compared piece by piece, and only what differs is fetched and written.
//! A file gets its attributes and its name when its last piece is written, a folder its attributes
//! when the last thing in it is finished. A file that lacks a piece has another name,
//! `….incomplete`, also when the restore is killed: nobody shall take it for the whole one; and the
//! next restore goes on with it. Further names of a file are made when it is whole. No path below
//! the target is ever followed through a link, and whatever is written was found to have the sum it
//! is named by; a write that fails or is short is a problem told.
//!
//! Where the target's file system takes less than a snapshot has, as on a stick, what can be is
//! restored: under other names ([`naming`]), without owners, with copies for links ([`abilities`]).
//!
//! What is written is left to the system to bring to the disk, as `cp` does, but for files that are
//! mended where they lie. So after a power cut in the minute after a restore, restore again: what
//! is right is only read. `--verify` adds that everything is read once more at the end.

mod abilities;
mod attributes;
mod chosen;
mod copies;
mod file;
mod incomplete;
mod links;
mod naming;
mod pieces;
mod place;
mod remove;
mod shared;
mod special;
mod visit;
mod work;
mod zeros;

use crate::blobs::Fetcher;
use crate::index::Index;
use crate::locks::HeldLock;
use crate::posix::Folder;
use crate::{Cancel, Event, Repository, Result, SnapshotInfo, TransferError};
use abilities::Abilities;
use chosen::Chosen;
use crossbeam_channel::bounded;
use engine_repository::chunker::CHUNK_BYTES_MAX;
use engine_repository::{FileKind, Snapshot};
use file::Aim;
use incomplete::Incomplete;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use pieces::{Bounds, Gatherer};
use place::Place;
use shared::{How, Shared};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use visit::Visitor;

/// More workers than this gain nothing on the boxes we are for.
const WORKERS_MAX: usize = 8;
/// So much of a pack is read at once at most.
const READ_BYTES_MAX: u64 = 4 << 20;
/// And so much where there is little memory.
const READ_BYTES_MIN: u64 = 256 << 10;

/// What to restore, and where to.
#[derive(Debug, Clone, Default)]
pub struct RestoreRequest {
    /// The folder to restore into; made when it is not there. Absolute paths of the source become
    /// paths below it.
    pub target: PathBuf,
    /// Shell patterns of paths in the snapshot (`/home/*/photos`); empty means everything.
    /// Whatever is below a path that fits is restored too.
    pub includes: Vec<String>,
    /// Read every restored file again afterwards and compare it.
    pub verify: bool,
    /// What becomes of files that are there already.
    pub overwrite: Overwrite,
    /// Remove what is in restored folders and not in the snapshot.
    pub delete: bool,
    /// Change nothing, only say what would be done.
    pub dry_run: bool,
    /// Tell of each thing what became of it: [`Event::Restored`].
    pub tells_items: bool,
}

/// What becomes of files that are there already; restic's words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Overwrite {
    /// They become those of the snapshot. Their content is read, and what is right is kept.
    #[default]
    Always,
    /// The same, but a file of the right size and time is believed to be right.
    IfChanged,
    /// Only those older than in the snapshot.
    IfNewer,
    /// They stay as they are.
    Never,
}

/// What became of one thing; restic's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemAction {
    /// It was not there.
    Restored,
    /// It was there and not right, or an older one.
    Updated,
    /// It was there and right, or was to be left as it was.
    Unchanged,
    /// It was there, and not in the snapshot.
    Deleted,
}

/// Something that could not be restored as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreProblem {
    /// Where.
    pub path: PathBuf,
    /// What and why, in one line.
    pub reason: String,
}

/// What a restore did; or would do, when it was only to tell that.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestoreOutcome {
    /// Files written or mended.
    pub files: u64,
    /// Those of them that were there before, and not right.
    pub files_updated: u64,
    /// Things that were there and right, or were to be left as they were.
    pub files_unchanged: u64,
    /// Things removed that were not in the snapshot, folders included.
    pub files_deleted: u64,
    /// Folders made or kept.
    pub dirs: u64,
    /// Symlinks, devices, pipes and hard links made.
    pub others: u64,
    /// Things of another kind that gave way to what the snapshot has in their place.
    pub replaced: u64,
    /// Bytes of the files written or mended, holes included.
    pub bytes: u64,
    /// Bytes of files that were there and right, or were to be left as they were.
    pub bytes_unchanged: u64,
    /// Bytes that had to be written: pieces that were right already are not.
    pub bytes_written: u64,
    /// Bytes of the repository that pieces were made from.
    pub bytes_fetched: u64,
    /// Files read again and found right.
    pub files_verified: u64,
    /// Second names of files that became copies, as the file system has no hard links.
    pub links_copied: u64,
    /// Things whose owner could not be set because this is not root, or the file system has none.
    pub owners_not_set: u64,
    /// Extended attributes that the file system has not, or that only root may set.
    pub attributes_not_set: u64,
    /// How many other problems there were.
    pub problems_total: u64,
    /// The first of them, 1000 at most.
    pub problems: Vec<RestoreProblem>,
}

/// Restores a snapshot. What could not be restored is in the outcome, with a reason each; an error
/// means that the restore did not come to its end.
pub fn restore(
    repository: &Repository,
    snapshot: &SnapshotInfo,
    request: &RestoreRequest,
    events: &(dyn Fn(Event) + Sync),
    cancel: &Cancel,
) -> Result<RestoreOutcome> {
    let includes = Chosen::new(&request.includes)?;
    let failed = |action| move |cause| failed_target(action, &request.target, cause);
    let target = std::path::absolute(&request.target).map_err(failed("find the folder"))?;
    if request.delete && includes.is_everything() && is_root_folder(&target) {
        return Err(TransferError::DeletesEverything);
    }
    let _alone = match request.dry_run {
        true => None,
        false => {
            std::fs::create_dir_all(&target).map_err(failed("make the folder"))?;
            alone_in(&target).map_err(failed("be the only restore into"))?
        }
    };
    let how = How {
        overwrite: request.overwrite,
        deletes: request.delete,
        is_dry: request.dry_run,
        tells_items: request.tells_items,
        target: target.clone(),
    };
    let incomplete = Incomplete::new(repository.id(), snapshot.id);
    let lock = HeldLock::acquire(repository, false)?;
    let index = Index::load_or_stop(repository, cancel)?;
    let abilities = match (request.dry_run, Folder::at(&target)) {
        (false, Ok(folder)) => Abilities::of(&folder, &incomplete),
        _ => Abilities::ALL,
    };
    let how = (how, incomplete, abilities);
    let shared = Shared::new(repository, &index, how, &lock, events, cancel);
    let run = Run { shared: &shared, includes: &includes, target: &target, snapshot };
    if request.dry_run {
        run.walk(Aim::Tell)?;
        return Ok(shared.take_outcome());
    }
    run.walk(Aim::Write)?;
    if request.verify {
        shared.begin_again();
        run.walk(Aim::Verify)?;
    }
    Ok(shared.take_outcome())
}

/// Also when it is called `/tmp/..` or is a link.
fn is_root_folder(path: &Path) -> bool {
    std::fs::canonicalize(path).is_ok_and(|path| path == Path::new("/"))
}

/// Two restores into one folder would write to each other's unfinished files. A file system that
/// has no locks is trusted to have one user.
fn alone_in(target: &Path) -> io::Result<Option<Flock<File>>> {
    match Flock::lock(File::open(target)?, FlockArg::LockExclusiveNonblock) {
        Ok(held) => Ok(Some(held)),
        Err((_, Errno::EWOULDBLOCK)) => Err(io::Error::other("another restore writes to it")),
        Err(_) => Ok(None),
    }
}

struct Run<'a> {
    shared: &'a Shared<'a>,
    includes: &'a Chosen,
    target: &'a Path,
    snapshot: &'a SnapshotInfo,
}

impl<'a> Run<'a> {
    /// One walk and its workers.
    fn walk(&self, aim: Aim) -> Result<()> {
        let shared = self.shared;
        let failed = |cause| failed_target("open the folder", self.target, cause);
        let folder = match Folder::at(self.target) {
            Err(cause) if aim == Aim::Tell && cause.kind() == io::ErrorKind::NotFound => None,
            folder => Some(folder.map_err(failed)?),
        };
        let pipeline_bytes = shared.repository.plan().pipeline_bytes;
        let workers = workers(pipeline_bytes);
        let read_bytes_max = pipeline_bytes / 4 / workers as u64;
        let read_bytes_max = read_bytes_max.clamp(READ_BYTES_MIN, READ_BYTES_MAX);
        let (runs_in, runs_out) = bounded(workers);
        let bounds = Bounds::new(pipeline_bytes, workers);
        let mut visitor = Visitor {
            shared,
            includes: self.includes,
            fetcher: Fetcher::new(shared.repository, shared.index),
            pieces: Gatherer::new(bounds, aim != Aim::Verify, runs_in),
            target: Place::target(shared, self.target, folder).map_err(failed)?,
            aim,
            groups: HashMap::new(),
        };
        std::thread::scope(|scope| {
            for _ in 0..workers {
                let runs = runs_out.clone();
                scope.spawn(move || work::work(shared, &runs, read_bytes_max));
            }
            drop(runs_out);
            if aim != Aim::Verify && !self.is_expected() {
                scope.spawn(|| self.expect());
            }
            // Stopped or not: the verdict below knows.
            let _ = visitor.visit(self.snapshot.tree);
            drop(visitor);
        });
        shared.verdict()
    }

    /// Whether the snapshot itself says what there is to do.
    fn is_expected(&self) -> bool {
        if !self.includes.is_everything() {
            return false;
        }
        let (repository, id) = (self.shared.repository, self.snapshot.id);
        let snapshot = repository.read_unpacked::<Snapshot>(FileKind::Snapshot, id);
        let summary = snapshot.ok().and_then(|snapshot| snapshot.summary);
        if let Some(found) = summary.filter(|found| found.total_files_processed > 0) {
            self.shared.expect(found.total_files_processed, found.total_bytes_processed, true);
            return true;
        }
        false
    }

    /// Counts what there is to do, for the owner who waits. What cannot be read is not counted.
    fn expect(&self) {
        let mut fetcher = Fetcher::new(self.shared.repository, self.shared.index);
        let mut left =
            vec![(PathBuf::from("/"), self.snapshot.tree, self.includes.is_everything())];
        while let Some((path, tree, is_included)) = left.pop() {
            let (mut files, mut bytes) = (0, 0);
            let Ok(nodes) = fetcher.tree(&tree) else { continue };
            for node in nodes.map_while(Result::ok) {
                if self.shared.is_stopped() {
                    return;
                }
                let at = path.join(OsStr::from_bytes(&node.name));
                let is_included = is_included || self.includes.fit(&at);
                if let Some(subtree) = node.subtree {
                    if is_included || self.includes.may_be_below(&at) {
                        left.push((at, subtree, is_included));
                    }
                } else if is_included {
                    files += 1;
                    bytes += node.size;
                }
            }
            self.shared.expect(files, bytes, false);
        }
        self.shared.expect(0, 0, true);
    }
}

/// As many as there are cores, but each may hold a chunk twice.
fn workers(pipeline_bytes: u64) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let affordable = pipeline_bytes / (2 * CHUNK_BYTES_MAX as u64);
    cores.min(WORKERS_MAX).min(usize::try_from(affordable).unwrap_or(1)).max(1)
}

fn failed_target(action: &'static str, path: &Path, cause: std::io::Error) -> TransferError {
    TransferError::Target { action, path: path.into(), cause }
}
