//! Restore: one walk through the snapshot, and workers behind it.
//!
//! ```text
//! walk (makes folders, links, devices; opens files) ──pieces──▶ workers (fetch, verify, write)
//! ```
//!
//! A file gets its attributes and its name when its last piece is written, a folder its attributes
//! when the last thing in it is finished. A file that lacks a piece has another name,
//! `….incomplete`, also when the restore is killed: nobody shall take it for the whole one. Until
//! then what had its name before is untouched. Only files with several names get them at once. No
//! path below the target is ever followed through a link, and whatever is written was found to have
//! the sum it is named by.

mod attributes;
mod pieces;
mod place;
mod shared;
mod visit;

use crate::backup::select::Patterns;
use crate::blobs::Fetcher;
use crate::index::Index;
use crate::locks::HeldLock;
use crate::posix::Folder;
use crate::repository::random;
use crate::{Cancel, Event, Repository, Result, SnapshotInfo, TransferError};
use crossbeam_channel::bounded;
use engine_repository::Id;
use engine_repository::chunker::CHUNK_BYTES_MAX;
use place::Place;
use shared::Shared;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use visit::Visitor;

/// Pieces that wait for a worker; each may be of another open file.
const PIECES_WAITING_MAX: usize = 128;
/// More workers than this gain nothing on the boxes we are for.
const WORKERS_MAX: usize = 8;

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
}

/// Something that could not be restored as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreProblem {
    /// Where.
    pub path: PathBuf,
    /// What and why, in one line.
    pub reason: String,
}

/// What a restore did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestoreOutcome {
    /// Files written.
    pub files: u64,
    /// Folders made or kept.
    pub dirs: u64,
    /// Symlinks, devices, pipes and hard links made.
    pub others: u64,
    /// Bytes of files, holes included.
    pub bytes: u64,
    /// Files read again and found right.
    pub files_verified: u64,
    /// Things whose owner could not be set because this is not root.
    pub owners_not_set: u64,
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
    let includes = Patterns::new(&request.includes)?;
    let target = std::path::absolute(&request.target)
        .and_then(|target| std::fs::create_dir_all(&target).map(|()| target))
        .map_err(|cause| failed_target("make the folder", &request.target, cause))?;
    let lock = HeldLock::acquire(repository, false)?;
    let index = Index::load_or_stop(repository, cancel)?;
    let shared = Shared::new(repository, &index, &lock, events, cancel);
    let run = Run { shared: &shared, includes: &includes, target: &target, root: snapshot.tree };
    run.walk(false)?;
    if request.verify {
        shared.begin_again();
        run.walk(true)?;
    }
    Ok(shared.take_outcome())
}

struct Run<'a> {
    shared: &'a Shared<'a>,
    includes: &'a Patterns,
    target: &'a Path,
    root: Id,
}

impl<'a> Run<'a> {
    /// One walk and its workers.
    fn walk(&self, is_verifying: bool) -> Result<()> {
        let shared = self.shared;
        let folder = Folder::at(self.target)
            .map_err(|cause| failed_target("open the folder", self.target, cause))?;
        let mut fetcher = Fetcher::new(shared.repository, shared.index);
        let root = fetcher.tree(&self.root)?;
        let (pieces_in, pieces_out) = bounded(PIECES_WAITING_MAX);
        let mut visitor = Visitor {
            shared,
            includes: self.includes,
            fetcher,
            pieces: pieces_in,
            target: Place::target(shared, self.target, folder),
            is_verifying,
            first_names: HashMap::new(),
            restore: u32::from_ne_bytes(random()?),
            files_made: 0,
        };
        std::thread::scope(|scope| {
            for _ in 0..workers(shared.repository.plan().pipeline_bytes) {
                let pieces = pieces_out.clone();
                scope.spawn(move || pieces::work(shared, &pieces));
            }
            drop(pieces_out);
            if !is_verifying {
                scope.spawn(|| self.expect());
            }
            // Stopped or not: the verdict below knows.
            let _ = visitor.visit(root);
            drop(visitor);
        });
        shared.verdict()
    }

    /// Counts what there is to do, for the owner who waits. What cannot be read is not counted.
    fn expect(&self) {
        let mut fetcher = Fetcher::new(self.shared.repository, self.shared.index);
        let mut left = vec![(PathBuf::from("/"), self.root, self.includes.is_empty())];
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
                    left.push((at, subtree, is_included));
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
