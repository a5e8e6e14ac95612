//! Pieces of files, gathered and sorted on their way from the walk to the workers.
//!
//! A repository's packs are read in the order of their bytes, as far as memory and the number of
//! open files let the walk run ahead: so a spinning disk seeks little, a server is asked seldom,
//! and a blob that several files share is fetched once. What is sorted together is a batch; what
//! lies close together in one pack, a run, which one worker takes.

use super::file::RestoredFile;
use super::place::Place;
use super::shared::Stopped;
use crate::index::Location;
use crossbeam_channel::Sender;
use engine_repository::Id;
use nix::sys::resource::{Resource, getrlimit};
use std::sync::Arc;

/// Memory that a piece and its file take while they wait, in bytes; long names more.
const WAITING_BYTES: u64 = 1 << 10;
/// So much of the pipeline's memory is for what waits: one part of these.
const WAITING_PARTS: u64 = 8;
/// More pieces than this are not worth the wait.
const BATCH_PIECES_MAX: u64 = 8192;
/// Bytes in a pack that are read to throw them away rather than ask twice.
pub(super) const GAP_BYTES_MAX: u64 = 64 << 10;
/// One worker takes no more at once; where there are several, each shall have some.
const RUN_BYTES_MAX: u64 = 16 << 20;
/// Systems that do not say how many files may be open allow at least these.
const OPEN_FILES: u64 = 256;

/// A blob of a file, and where it lies.
pub(super) struct Piece<'a> {
    pub(super) file: Arc<RestoredFile<'a>>,
    pub(super) offset: u64,
    pub(super) location: Location,
}

impl Piece<'_> {
    pub(super) fn id(&self) -> Id {
        self.location.packed.blob.id
    }

    /// Bytes of the file.
    pub(super) fn length(&self) -> u32 {
        self.location.packed.blob.plaintext_bytes()
    }

    /// Where in its pack it starts and ends.
    pub(super) fn range(&self) -> (u64, u64) {
        let start = u64::from(self.location.packed.offset);
        (start, start + u64::from(self.location.packed.blob.length))
    }
}

/// How far the walk may run ahead.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pieces: usize,
    /// Folders, and as many files of several pieces; both are held open.
    folders: usize,
    run_pieces: usize,
}

impl Bounds {
    /// For so many workers, from the memory of the pipeline and the files this process may have
    /// open. Half of those are for what waits: in the batch being gathered, the one being sent, the
    /// runs in the queue and with the workers, which may all be of different batches.
    pub(super) fn new(pipeline_bytes: u64, workers: usize) -> Self {
        let open = getrlimit(Resource::RLIMIT_NOFILE).map_or(OPEN_FILES, |(soft, _)| soft);
        let open = usize::try_from(open.clamp(OPEN_FILES, 1 << 16)).unwrap_or(1 << 16);
        let batches = 2 * workers + 2;
        let pieces = (pipeline_bytes / WAITING_PARTS / WAITING_BYTES).clamp(128, BATCH_PIECES_MAX);
        Self {
            pieces: usize::try_from(pieces).unwrap_or(128),
            folders: (open / 4 / batches).clamp(4, 256),
            run_pieces: (open / 4 / workers).clamp(8, 512),
        }
    }
}

/// Pieces of one pack, one after the other in it.
pub(super) type Run<'a> = Vec<Piece<'a>>;

/// Gathers pieces, and sends them on in order.
pub(super) struct Gatherer<'a> {
    pieces: Vec<Piece<'a>>,
    bounds: Bounds,
    /// Without it, the files' own order is kept.
    is_sorting: bool,
    folders: usize,
    large: usize,
    last_folder: *const Place<'a>,
    out: Sender<Run<'a>>,
}

impl<'a> Gatherer<'a> {
    pub(super) fn new(bounds: Bounds, is_sorting: bool, out: Sender<Run<'a>>) -> Self {
        let last_folder = std::ptr::null();
        Self { pieces: Vec::new(), bounds, is_sorting, folders: 0, large: 0, last_folder, out }
    }

    /// A file is coming, or another name that waits for one.
    pub(super) fn enters(
        &mut self,
        folder: &Arc<Place<'a>>,
        is_small: bool,
    ) -> Result<(), Stopped> {
        self.large += usize::from(!is_small);
        // Only told apart, never followed.
        let folder = Arc::as_ptr(folder);
        if self.last_folder != folder {
            self.last_folder = folder;
            self.folders += 1;
        }
        if self.folders > self.bounds.folders || self.large > self.bounds.folders {
            self.flush()?;
        }
        Ok(())
    }

    pub(super) fn push(&mut self, piece: Piece<'a>) -> Result<(), Stopped> {
        self.pieces.push(piece);
        if self.pieces.len() >= self.bounds.pieces {
            self.flush()?;
        }
        Ok(())
    }

    /// Sends everything on.
    pub(super) fn flush(&mut self) -> Result<(), Stopped> {
        (self.folders, self.large, self.last_folder) = (0, 0, std::ptr::null());
        if self.is_sorting {
            // Pieces of one blob stay in the order of their files.
            self.pieces.sort_by_key(|piece| (piece.location.pack, piece.location.packed.offset));
        }
        let mut run = Vec::new();
        let mut bytes = 0;
        for piece in self.pieces.drain(..) {
            let is_next =
                self.is_sorting.then(|| run.last().is_none_or(|last| follows(last, &piece)));
            if bytes >= RUN_BYTES_MAX
                || run.len() >= self.bounds.run_pieces
                || is_next == Some(false)
            {
                self.out.send(std::mem::take(&mut run)).map_err(|_| Stopped)?;
                bytes = 0;
            }
            bytes += u64::from(piece.length());
            run.push(piece);
        }
        if !run.is_empty() {
            self.out.send(run).map_err(|_| Stopped)?;
        }
        Ok(())
    }
}

/// Whether the one lies in a pack not far behind the other.
fn follows(last: &Piece<'_>, next: &Piece<'_>) -> bool {
    let (_, end) = last.range();
    last.location.pack == next.location.pack && next.range().0 <= end + RUN_BYTES_MAX / 4
}
