//! Prune: what no snapshot needs goes.
//!
//! 1. every tree of every snapshot marks the blobs it needs;
//! 2. packs of which nothing is needed, and packs in no index, are to go; of the others, those with
//!    the most waste are to be copied, until what is wasted is no more than allowed;
//! 3. what is needed of those is copied, still sealed, into new packs, each blob verified before;
//! 4. the listing is asked whether the new packs are there, each with its size; then a new index is
//!    written that names what stays, and read back;
//! 5. the old index files are removed, and only then the packs.
//!
//! Cut off before 4, new packs are waste the next prune takes; between 4 and 5, both indexes name
//! packs that are there; after it, packs are left that no index names. Nothing is lost anywhere.
//!
//! **What grows:** in memory, for each blob of the index 48 bytes (up to twice that while it is
//! read), two bits, and 4 bytes while the new index is written; 8 for each blob that is copied;
//! some 200 for each pack; the trees that are open. Packs are streamed, one blob at a time. The
//! lock is exclusive from beginning to end.

mod copy;
mod plan;
mod write;

use crate::browse::each_snapshot;
use crate::index::held::{Index, IndexBuilder};
use crate::locks::HeldLock;
use crate::{Cancel, Event, Repository, Result, TransferError};
use engine_repository::{BlobKind, FileKind, Id};
use engine_storage::{Name, StorageError, list_all};
use plan::{Fate, Plan, UsedBlobs};
use std::collections::HashMap;

/// How much waste may stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxUnused {
    /// Thousandths of what the repository then takes.
    Permille(u32),
    /// So many bytes.
    Bytes(u64),
    /// Any: only whole packs go.
    Unlimited,
}

impl Default for MaxUnused {
    fn default() -> Self {
        Self::Permille(50)
    }
}

/// How to prune.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PruneRequest {
    /// How much waste may stay; 5 % unless said otherwise.
    pub max_unused: MaxUnused,
    /// Copy no more packs than have this many bytes together.
    pub max_repack_bytes: Option<u64>,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// What a prune did, or would do. Bytes are those of sealed blobs, without headers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// Blobs that snapshots need, each once.
    pub blobs_used: u64,
    /// Their bytes.
    pub bytes_used: u64,
    /// Blobs that nobody needs, or of which there is another copy.
    pub blobs_unused: u64,
    /// Their bytes.
    pub bytes_unused: u64,
    /// Packs that stay as they are.
    pub packs_kept: u64,
    /// Packs that are copied in part, and removed.
    pub packs_repacked: u64,
    /// Bytes copied.
    pub bytes_repacked: u64,
    /// Packs removed because nothing in them is needed.
    pub packs_removed: u64,
    /// Packs removed because no index named them.
    pub packs_unindexed: u64,
    /// Their bytes.
    pub bytes_unindexed: u64,
    /// Packs the index named that are not there; nothing in them was needed.
    pub packs_missing: u64,
    /// Unused bytes that stay.
    pub bytes_left_unused: u64,
}

impl PruneReport {
    /// Bytes that become free.
    pub fn bytes_freed(&self) -> u64 {
        self.bytes_unused.saturating_sub(self.bytes_left_unused) + self.bytes_unindexed
    }
}

/// Prunes. An error before the first removal leaves everything as it was.
pub fn prune(
    repository: &Repository,
    request: &PruneRequest,
    events: &(dyn Fn(Event) + Sync),
    cancel: &Cancel,
) -> Result<PruneReport> {
    let lock = HeldLock::acquire(repository, true)?;
    let mut packs = HashMap::new();
    repository.storage().list(FileKind::Pack, &mut |id, bytes| {
        packs.insert(id, bytes);
        Ok(())
    })?;
    let (index, index_files, packs_missing) = load(repository, &packs)?;
    let used = mark(repository, &index, cancel)?;
    let mut plan = Plan::make(&index, &used, &packs, request)?;
    plan.report.packs_missing = packs_missing;
    if !request.dry_run {
        let job = Job { repository, index: &index, lock: &lock, cancel, events };
        job.carry_out(&plan, &index_files)?;
    }
    Ok(plan.report)
}

/// All copies of all blobs in packs that are there; the index files; packs that are missing.
fn load(repository: &Repository, packs: &HashMap<Id, u64>) -> Result<(Index, Vec<Id>, u64)> {
    let mut builder = IndexBuilder::default();
    let mut files = Vec::new();
    let mut missing = std::collections::HashSet::new();
    for (id, _) in list_all(repository.storage().as_ref(), FileKind::Index)? {
        builder.add_file_with(repository, id, &mut |pack, _| {
            if !packs.contains_key(&pack) {
                missing.insert(pack);
            }
        })?;
        files.push(id);
    }
    let index = builder.finish_with_copies(&|pack| packs.contains_key(pack));
    Ok((index, files, missing.len() as u64))
}

/// Marks what the snapshots need. A blob that is needed and not there stops everything.
fn mark(repository: &Repository, index: &Index, cancel: &Cancel) -> Result<UsedBlobs> {
    let mut used = UsedBlobs::none(index);
    let mut roots = Vec::new();
    each_snapshot(repository, &mut |_, snapshot| roots.push(snapshot.tree))?;
    let places = crate::index::Index::load_or_stop(repository, cancel)?;
    let mut fetcher = crate::blobs::Fetcher::new(repository, &places);
    for root in roots {
        let mut open = Vec::new();
        if used.mark(index, BlobKind::Tree, &root)? {
            open.push(fetcher.tree(&root)?);
        }
        while let Some(nodes) = open.last_mut() {
            if cancel.is_cancelled() {
                return Err(TransferError::Cancelled);
            }
            let Some(node) = nodes.next() else {
                open.pop();
                continue;
            };
            let node = node?;
            for id in node.content.iter().flatten() {
                used.mark(index, BlobKind::Data, id)?;
            }
            if let Some(subtree) = node.subtree
                && used.mark(index, BlobKind::Tree, &subtree)?
            {
                open.push(fetcher.tree(&subtree)?);
            }
        }
    }
    Ok(used)
}

/// What carrying out a plan needs.
struct Job<'a> {
    repository: &'a Repository,
    index: &'a Index,
    lock: &'a HeldLock,
    cancel: &'a Cancel,
    events: &'a (dyn Fn(Event) + Sync),
}

impl Job<'_> {
    fn carry_out(&self, plan: &Plan<'_>, index_files: &[Id]) -> Result<()> {
        let new_packs = self.copy(plan)?;
        let is_index_changed = !new_packs.is_empty()
            || plan.report.packs_missing > 0
            || plan.fates.iter().any(|fate| *fate != Fate::Keep);
        if is_index_changed {
            self.must_be_there(&new_packs)?;
            let new_files = self.write_index(plan, &new_packs)?;
            self.must_read_back(&new_files)?;
            for id in index_files {
                self.may_go_on()?;
                self.remove(Name::of(FileKind::Index, *id))?;
            }
            self.must_be_gone(index_files)?;
        }
        for (pack, fate) in self.index.packs().iter().zip(&plan.fates) {
            if *fate != Fate::Keep {
                self.lock.must_be_held()?;
                self.remove(Name::of(FileKind::Pack, *pack))?;
            }
        }
        for pack in &plan.unindexed {
            self.lock.must_be_held()?;
            self.remove(Name::of(FileKind::Pack, *pack))?;
        }
        Ok(())
    }

    /// Whether nobody asked to stop, and the lock is still ours.
    fn may_go_on(&self) -> Result<()> {
        match self.cancel.is_cancelled() {
            true => Err(TransferError::Cancelled),
            false => self.lock.must_be_held(),
        }
    }

    fn remove(&self, name: Name) -> Result<()> {
        match self.repository.storage().remove(name) {
            Ok(()) | Err(StorageError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
