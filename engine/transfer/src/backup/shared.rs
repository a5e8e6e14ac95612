//! What the threads of one backup share.

use super::catalogue::Draft;
use super::catalogue::records::Line;
use super::journal::Journal;
use super::lazy_index::LazyIndex;
use crate::budget::Budget;
use crate::index::Index;
use crate::locks::HeldLock;
use crate::mutex::lock;
use crate::{Cancel, Repository, Result, TransferError};
use engine_repository::chunker::CHUNK_BYTES_MAX;
use engine_repository::{BlobKind, Id, PackedBlob};
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// What the threads of one backup share.
pub(super) struct Shared<'a> {
    pub(super) repository: &'a Repository,
    index: &'a LazyIndex<'a>,
    pub(super) budget: Arc<Budget>,
    pub(super) buffers: Buffers,
    pub(super) lock: &'a HeldLock,
    pub(super) journal: Journal,
    cancel: &'a Cancel,
    has_failed: AtomicBool,
    /// The first failure; those after it are its consequences.
    failure: Mutex<Option<TransferError>>,
    claims: Mutex<Claims>,
    /// Trees of folders on the way that are there, for all the catalogue says.
    known_trees: Mutex<HashSet<Id>>,
    /// Folders that were put together and whose trees were there already.
    trees_left_known: AtomicUsize,
    draft: Option<&'a Draft>,
}

/// Blobs on their way to a pack that is stored.
#[derive(Default)]
struct Claims {
    blobs: HashSet<(BlobKind, Id)>,
    /// How many of each claim are in no pack yet.
    unpacked: BTreeMap<Claim, usize>,
    /// The claim of those that come now.
    current: Claim,
}

/// When a blob was claimed: before which checkpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Claim(u32);

impl<'a> Shared<'a> {
    pub(super) fn new(
        repository: &'a Repository,
        index: &'a LazyIndex<'a>,
        draft: Option<&'a Draft>,
        lock: &'a HeldLock,
        journal: Journal,
        cancel: &'a Cancel,
    ) -> Self {
        let pipeline_bytes = usize::try_from(repository.plan().pipeline_bytes).unwrap_or(1 << 30);
        let in_flight_bytes = (pipeline_bytes / 4 * 3).min(in_flight_bytes_max());
        let idle_bytes_max = (pipeline_bytes / 4).min(in_flight_bytes / 4);
        Self {
            repository,
            index,
            lock,
            journal,
            cancel,
            budget: Budget::of(in_flight_bytes),
            buffers: Buffers { idle: Mutex::default(), idle_bytes_max },
            has_failed: AtomicBool::new(false),
            failure: Mutex::default(),
            claims: Mutex::default(),
            known_trees: Mutex::default(),
            trees_left_known: AtomicUsize::new(0),
            draft,
        }
    }

    /// A folder was put together, and its tree was there already.
    pub(super) fn left_known_tree(&self) {
        self.trees_left_known.fetch_add(1, Ordering::Relaxed);
    }

    /// How many such folders there were.
    pub(super) fn trees_left_known(&self) -> usize {
        self.trees_left_known.load(Ordering::Relaxed)
    }

    /// Where blobs lie; `None` when that cannot be read, and the backup ends with it.
    pub(super) fn index(&self) -> Option<&'a Index> {
        match self.index.get() {
            Ok(index) => Some(index),
            // Somebody else was told why.
            Err(TransferError::Cancelled) => None,
            Err(error) => {
                self.fail(error);
                None
            }
        }
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

    /// Whether the backup failed: then nothing more is to be stored.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }

    /// Whether the backup was asked to stop, and works: then what is finished is stored.
    pub(super) fn is_cancelled(&self) -> bool {
        !self.has_failed() && self.cancel.is_cancelled()
    }

    /// Whether every thread should come to an end without finishing its work.
    pub(super) fn is_stopped(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed) || self.cancel.is_cancelled()
    }

    /// The verdict, once all threads have ended: `tree`, if everything is in it. A stop that came
    /// too late to leave anything out is none.
    pub(super) fn verdict(&self, tree: Option<Id>) -> Result<Id> {
        if let Some(error) = lock(&self.failure).take() {
            return Err(error);
        }
        self.lock.must_be_held()?;
        tree.ok_or(TransferError::Cancelled)
    }

    /// Whether a blob is new to the repository. If so, the caller must see to it that it is stored;
    /// nobody else will be asked to.
    pub(super) fn claim(&self, kind: BlobKind, id: &Id) -> Option<Claim> {
        if kind == BlobKind::Tree && lock(&self.known_trees).contains(id) {
            return None;
        }
        // An index that cannot be read ends the backup: nothing more is to be stored.
        let is_there = self.index()?.has(kind, id).map_err(|error| self.fail(error)).ok()?;
        if is_there {
            return None;
        }
        let mut claims = lock(&self.claims);
        let claim = claims.current;
        claims.blobs.insert((kind, *id)).then(|| {
            *claims.unpacked.entry(claim).or_default() += 1;
            claim
        })
    }

    /// Whether a blob is in the repository.
    pub(super) fn is_there(&self, kind: BlobKind, id: &Id) -> bool {
        let Some(index) = self.index() else { return false };
        index.has(kind, id).unwrap_or_else(|error| {
            self.fail(error);
            false
        })
    }

    /// A blob of this claim is in a pack.
    pub(super) fn packed(&self, claim: Claim) {
        let mut claims = lock(&self.claims);
        if let Some(unpacked) = claims.unpacked.get_mut(&claim) {
            *unpacked -= 1;
            if *unpacked == 0 {
                claims.unpacked.remove(&claim);
            }
        }
    }

    /// The claim of all blobs claimed so far; those that come later have another.
    pub(super) fn claims_so_far(&self) -> Claim {
        let mut claims = lock(&self.claims);
        let claim = claims.current;
        claims.current.0 += 1;
        claim
    }

    /// Whether every blob of this claim, and of those before, is in a pack.
    pub(super) fn are_packed(&self, claim: Claim) -> bool {
        lock(&self.claims).unpacked.range(..=claim).next().is_none()
    }

    /// Takes note of a pack that is durable.
    pub(super) fn stored(&self, pack: Id, blobs: &[PackedBlob]) {
        let stored = self.index().map_or(Ok(()), |index| index.stored(pack, blobs));
        if let Err(error) = stored {
            self.fail(error);
        }
        let mut claims = lock(&self.claims);
        for packed in blobs {
            claims.blobs.remove(&(packed.blob.kind, packed.blob.id));
        }
    }
}

/// What is read and not stored yet is lost to a kill; and beyond what keeps every worker busy it
/// makes nothing faster: the largest chunk and what becomes of it, and an ordinary one for each.
fn in_flight_bytes_max() -> usize {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    2 * CHUNK_BYTES_MAX + workers.min(super::WORKERS_MAX) * (1 << 20)
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

/// A repository to try parts of a backup with.
#[cfg(test)]
pub(super) fn repository_in(folder: &std::path::Path) -> Repository {
    use crate::{InitRequest, Who};
    let storage = Arc::new(engine_storage::Folder::at(&folder.join("repository")));
    let (name, pid) = (String::from("box"), std::process::id());
    let who = Who { hostname: name.clone(), username: name, uid: 0, gid: 0, pid };
    let plan = engine_contract::memory::MemoryPlan::of(64 << 20);
    Repository::init_as(storage, "x", &who, &plan, &InitRequest::default()).unwrap()
}
