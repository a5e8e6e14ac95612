//! What the threads of one backup share.

use super::catalogue::Draft;
use super::catalogue::records::Line;
use crate::budget::Budget;
use crate::index::Index;
use crate::locks::HeldLock;
use crate::{Cancel, Repository, Result, TransferError};
use engine_repository::{BlobKind, Id, PackedBlob};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// What the threads of one backup share.
pub(super) struct Shared<'a> {
    pub(super) repository: &'a Repository,
    index: OnceLock<Option<Index>>,
    pub(super) budget: Arc<Budget>,
    pub(super) buffers: Buffers,
    pub(super) lock: &'a HeldLock,
    cancel: &'a Cancel,
    has_failed: AtomicBool,
    /// The first failure; those after it are its consequences.
    failure: Mutex<Option<TransferError>>,
    /// Blobs on their way to a pack.
    claimed: Mutex<HashSet<(BlobKind, Id)>>,
    /// Trees of folders on the way that are there, for all the catalogue says.
    known_trees: Mutex<HashSet<Id>>,
    draft: Option<&'a Draft>,
}

impl<'a> Shared<'a> {
    pub(super) fn new(
        repository: &'a Repository,
        draft: Option<&'a Draft>,
        lock: &'a HeldLock,
        cancel: &'a Cancel,
    ) -> Self {
        let pipeline_bytes = usize::try_from(repository.plan().pipeline_bytes).unwrap_or(1 << 30);
        Self {
            repository,
            index: OnceLock::new(),
            lock,
            cancel,
            budget: Budget::of(pipeline_bytes / 4 * 3),
            buffers: Buffers { idle: Mutex::default(), idle_bytes_max: pipeline_bytes / 4 },
            has_failed: AtomicBool::new(false),
            failure: Mutex::default(),
            claimed: Mutex::default(),
            known_trees: Mutex::default(),
            draft,
        }
    }

    /// Where blobs lie: read when it is asked for the first time, for a run that changes nothing
    /// never asks. `None` when it cannot be read, and the backup ends with that.
    pub(super) fn index(&self) -> Option<&Index> {
        let load = || Index::load(self.repository).map_err(|error| self.fail(error)).ok();
        self.index.get_or_init(load).as_ref()
    }

    /// A tree that is in the repository.
    pub(super) fn knows_tree(&self, id: Id) {
        lock(&self.known_trees).insert(id);
    }

    /// The catalogue was wrong.
    pub(super) fn knows_no_tree(&self) {
        lock(&self.known_trees).clear();
    }

    /// Takes note of a folder for the next run.
    pub(super) fn record(&self, line: &Line, tree: &Id) {
        if let Some(draft) = self.draft {
            draft.record(line, tree);
        }
    }

    /// Ends the backup with this error, unless it is ending with another already.
    pub(super) fn fail(&self, error: TransferError) {
        lock(&self.failure).get_or_insert(error);
        self.has_failed.store(true, Ordering::SeqCst);
    }

    /// Whether every thread should come to an end without finishing its work.
    pub(super) fn is_stopped(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed) || self.cancel.is_cancelled()
    }

    /// The verdict, once all threads have ended.
    pub(super) fn verdict(&self) -> Result<()> {
        match lock(&self.failure).take() {
            Some(error) => Err(error),
            None if self.cancel.is_cancelled() => Err(TransferError::Cancelled),
            None => self.lock.must_be_held(),
        }
    }

    /// Whether a blob is new to the repository. If so, the caller must see to it that it is stored;
    /// nobody else will be asked to.
    pub(super) fn claim(&self, kind: BlobKind, id: &Id) -> bool {
        let is_known = kind == BlobKind::Tree && lock(&self.known_trees).contains(id);
        !is_known
            && self.index().is_some_and(|index| !index.has(kind, id))
            && lock(&self.claimed).insert((kind, *id))
    }

    /// Takes note of a pack that is durable.
    pub(super) fn stored(&self, pack: Id, blobs: &[PackedBlob]) {
        if let Some(index) = self.index() {
            index.stored(pack, blobs);
        }
        let mut claimed = lock(&self.claimed);
        for packed in blobs {
            claimed.remove(&(packed.blob.kind, packed.blob.id));
        }
    }
}

/// Buffers that are used again instead of given back to the system.
pub(super) struct Buffers {
    idle: Mutex<Idle>,
    idle_bytes_max: usize,
}

#[derive(Default)]
struct Idle {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

/// Smaller buffers are cheap to make.
const BUFFER_BYTES_MIN: usize = 64 << 10;

impl Buffers {
    /// An empty buffer with room for `bytes`, or some more.
    pub(super) fn take(&self, bytes: usize) -> Vec<u8> {
        if bytes >= BUFFER_BYTES_MIN {
            let mut idle = lock(&self.idle);
            // One that is much too large would be held by something small for long.
            let fits = |buffer: &Vec<u8>| (bytes..=2 * bytes).contains(&buffer.capacity());
            if let Some(place) = idle.buffers.iter().rposition(fits) {
                let buffer = idle.buffers.swap_remove(place);
                idle.bytes -= buffer.capacity();
                return buffer;
            }
        }
        Vec::with_capacity(bytes)
    }

    /// Gives a buffer back.
    pub(super) fn give(&self, mut buffer: Vec<u8>) {
        let bytes = buffer.capacity();
        if !(BUFFER_BYTES_MIN..=self.idle_bytes_max).contains(&bytes) {
            return;
        }
        let mut idle = lock(&self.idle);
        // The oldest go: sizes nobody asks for any more do not stay.
        while idle.bytes + bytes > self.idle_bytes_max && !idle.buffers.is_empty() {
            idle.bytes -= idle.buffers.remove(0).capacity();
        }
        buffer.clear();
        idle.bytes += bytes;
        idle.buffers.push(buffer);
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
