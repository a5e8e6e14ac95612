//! Where every blob lies: the index files of a repository, sorted, on the disk of this computer.
//!
//! Blobs of before are in runs (`run`): sorted files, kept in the cache and brought up to date
//! when the index is loaded (`shelf`). In memory there is a filter of ten bits for each blob, which
//! knows of nearly all new blobs that they are new; the beginning of each page's first id, so that
//! the place of a known blob is found by reading one page, and its pack by one more; and the pages
//! used last. Blobs of this run of the program are beside them (`recent`).
//!
//! Memory is that of [`MemoryPlan::index_bytes`](engine_contract::memory::MemoryPlan), whatever the
//! repository holds: see [`Room`]. Where the filter has no room it errs more often, and more is
//! read. The repository alone is believed: a run that is damaged, even if that only shows in the
//! middle of a backup, is made anew from it.

mod build;
mod entries;
mod filter;
mod merge;
mod page_cache;
mod pages;
mod recent;
mod record;
mod run;
mod shelf;

use crate::cache::failed;
use crate::mutex::lock;
use crate::{Cancel, Repository, Result, TransferError};
pub(crate) use build::RunBuilder;
use engine_repository::{BlobKind, Id, PackedBlob};
pub(crate) use entries::{each_entry, each_entry_of};
use filter::Filter;
use page_cache::PageCache;
use recent::Recent;
use record::Record;
use run::{Layout, Run, RunFile};
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A disk on which runs are damaged so often is not to be worked with.
const REBUILDS_MAX: usize = 3;

/// Where one blob lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) pack: Id,
    pub(crate) packed: PackedBlob,
}

/// How the memory of the index is divided.
#[derive(Debug, Clone, Copy)]
struct Room {
    filters_bytes: usize,
    fences_bytes: usize,
    pages_bytes: usize,
    recent_bytes: usize,
}

impl Room {
    /// Of 16 MiB: ten million blobs, and one million of this run, have 13.1 MiB of filters and half
    /// a MiB of fences.
    fn of(index_bytes: u64) -> Self {
        let part = usize::try_from(index_bytes / 32).unwrap_or(usize::MAX / 32);
        Self {
            filters_bytes: 27 * part,
            fences_bytes: part,
            pages_bytes: 2 * part,
            recent_bytes: 2 * part,
        }
    }

    /// How filters and fences of such runs are to be held, so that they fit.
    fn fitting<'a>(&self, layouts: impl Iterator<Item = &'a Layout>) -> Fitting {
        let (mut blocks, mut fences) = (0, 0);
        for layout in layouts {
            blocks += layout.filter_blocks();
            fences += layout.fence_count();
        }
        let stride = (4 * fences).div_ceil(self.fences_bytes.max(4) as u64).max(1);
        Fitting {
            fold: Filter::fold_for(blocks, self.filters_bytes),
            stride: u32::try_from(stride).unwrap_or(u32::MAX),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Fitting {
    fold: Option<u32>,
    stride: u32,
}

/// The blobs of before.
struct Kept {
    runs: Vec<Run>,
    /// How often damage was found.
    rebuilds: usize,
}

/// Where every blob lies.
pub(crate) struct Index {
    repository: Repository,
    cancel: Cancel,
    room: Room,
    pages: PageCache,
    /// Locked before `recent`.
    kept: RwLock<Kept>,
    recent: RwLock<Recent>,
    /// Held by whoever stores.
    storing: Mutex<()>,
}

impl Index {
    /// Brings the index up to date with the repository's index files.
    pub(crate) fn load(repository: &Repository) -> Result<Self> {
        Self::load_or_stop(repository, &Cancel::new())
    }

    /// As [`Index::load`], which takes minutes when everything has to be read, and can be stopped.
    pub(crate) fn load_or_stop(repository: &Repository, cancel: &Cancel) -> Result<Self> {
        Self::load_in_part(repository, cancel, 1)
    }

    /// As [`Index::load_or_stop`], where so many are needed at once that they share the room.
    pub(crate) fn load_in_part(
        repository: &Repository,
        cancel: &Cancel,
        parts: u64,
    ) -> Result<Self> {
        let room = Room::of(repository.plan().index_bytes / parts);
        let kept = kept(repository, &room, &[], true, cancel)?;
        Ok(Self::of_kept(repository, room, kept, cancel))
    }

    /// The index of what a builder took in, whatever is in the cache.
    pub(crate) fn of_built(
        repository: &Repository,
        built: RunBuilder,
        cancel: &Cancel,
    ) -> Result<Self> {
        let room = Room::of(repository.plan().index_bytes);
        let run = built.finish()?;
        let fitting = room.fitting([&run.layout].into_iter());
        let run = run.load(fitting.fold, fitting.stride).map_err(unreadable)?;
        let kept = Kept { runs: vec![run], rebuilds: 0 };
        Ok(Self::of_kept(repository, room, kept, cancel))
    }

    fn of_kept(repository: &Repository, room: Room, kept: Kept, cancel: &Cancel) -> Self {
        Self {
            repository: repository.clone(),
            cancel: cancel.clone(),
            room,
            pages: PageCache::new(room.pages_bytes),
            kept: RwLock::new(kept),
            recent: RwLock::new(Recent::new(room.recent_bytes)),
            storing: Mutex::default(),
        }
    }

    /// Where a blob lies, `None` when it is in no pack.
    pub(crate) fn find(&self, kind: BlobKind, id: &Id) -> Result<Option<Location>> {
        if let Some(location) = read(&self.recent).find(&self.pages, kind, id)? {
            return Ok(Some(location));
        }
        self.in_kept(&|run| {
            let Some(record) = run.find(&self.pages, kind, id)? else { return Ok(None) };
            let pack = run.pack(&self.pages, record.pack())?;
            Ok(Some(Location { pack, packed: record.packed() }))
        })
    }

    /// Whether a blob is in a pack.
    pub(crate) fn has(&self, kind: BlobKind, id: &Id) -> Result<bool> {
        if read(&self.recent).has(&self.pages, kind, id)? {
            return Ok(true);
        }
        let found = self.in_kept(&|run| run.find(&self.pages, kind, id))?;
        Ok(found.as_ref().map(Record::kind) == Some(kind))
    }

    /// The first answer of a run of before. Where one is found damaged, all are made anew.
    fn in_kept<T>(&self, look: &dyn Fn(&Run) -> io::Result<Option<T>>) -> Result<Option<T>> {
        let look_in = |kept: &Kept| -> io::Result<Option<T>> {
            for run in &kept.runs {
                if let Some(answer) = look(run)? {
                    return Ok(Some(answer));
                }
            }
            Ok(None)
        };
        let (cause, rebuilds) = {
            let kept = read(&self.kept);
            match look_in(&kept) {
                Ok(answer) => return Ok(answer),
                Err(cause) => (cause, kept.rebuilds),
            }
        };
        if rebuilds == REBUILDS_MAX {
            return Err(unreadable(cause));
        }
        let mut now = write(&self.kept);
        // Another thread may have been faster.
        if now.rebuilds == rebuilds {
            now.runs.clear();
            let recent = read(&self.recent);
            *now = kept(&self.repository, &self.room, &recent.runs, false, &self.cancel)?;
            now.rebuilds = rebuilds + 1;
        }
        look_in(&now).map_err(unreadable)
    }

    /// Takes in a pack that was just stored.
    pub(crate) fn stored(&self, pack: Id, blobs: &[PackedBlob]) -> Result<()> {
        let _one = lock(&self.storing);
        let at_once = read(&self.recent).places_max();
        for blobs in blobs.chunks(at_once) {
            if !read(&self.recent).has_room(blobs.len()) {
                self.spill()?;
            }
            write(&self.recent).add(pack, blobs);
        }
        Ok(())
    }

    /// Writes the recent blobs into a run, so that there is room for more.
    fn spill(&self) -> Result<()> {
        let (run, stay) = {
            let recent = read(&self.recent);
            let run = recent.spilled(&self.repository)?;
            recent.merged(&self.repository, run)?
        };
        let mut kept = write(&self.kept);
        let mut recent = write(&self.recent);
        recent.runs.truncate(stay);
        let all = kept.runs.iter().chain(&recent.runs).map(Run::layout);
        let fitting = self.room.fitting(all.chain([&run.layout]));
        kept.runs.iter_mut().for_each(|run| run.fold_filter(fitting.fold));
        recent.runs.iter_mut().for_each(|run| run.fold_filter(fitting.fold));
        let run = run.load(fitting.fold, fitting.stride).map_err(unreadable)?;
        recent.spilled_to(run);
        Ok(())
    }

    /// How many blobs of before there are.
    pub(crate) fn blobs(&self) -> u64 {
        read(&self.kept).runs.iter().map(|run| run.layout().distinct).sum()
    }

    /// Bytes of memory held.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn held_bytes(&self) -> usize {
        let kept: usize = read(&self.kept).runs.iter().map(Run::held_bytes).sum();
        kept + read(&self.recent).held_bytes() + self.pages.held_bytes()
    }
}

/// The runs of before, ready for lookups beside those `recent` ones.
fn kept(
    repository: &Repository,
    room: &Room,
    recent: &[Run],
    trusted: bool,
    cancel: &Cancel,
) -> Result<Kept> {
    let found = shelf::up_to_date(repository, trusted, cancel)?;
    let layouts = found.iter().map(|run| &run.layout);
    let fitting = room.fitting(layouts.chain(recent.iter().map(Run::layout)));
    let load = |run: RunFile| run.load(fitting.fold, fitting.stride);
    match found.into_iter().map(load).collect() {
        Ok(runs) => Ok(Kept { runs, rebuilds: 0 }),
        Err(_) if trusted => kept(repository, room, recent, false, cancel),
        Err(cause) => Err(unreadable(cause)),
    }
}

fn unreadable(cause: io::Error) -> TransferError {
    failed("read the blob index in", Path::new("the cache"), cause)
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
