//! The workers: hash, look whether the blob is new, compress, seal.

use super::content::Place;
use super::pack::{Sealed, ToPack};
use super::shared::{Claim, Shared};
use crate::Result;
use crate::budget::Share;
use crate::careful::CarefulSealer;
use crate::large;
use crate::spool::Spool;
use crossbeam_channel::{Receiver, Sender};
use engine_repository::crypto::OVERHEAD_BYTES;
use engine_repository::{BlobKind, Id};

/// Something to be stored.
pub(super) enum Job {
    /// Chunks of files: a large one, or some small ones, which are not worth a message each.
    Chunks(Vec<ReadChunk>),
    /// A folder, of which it is known that the repository lacks it.
    Tree { id: Id, bytes: Vec<u8>, share: Share, claim: Claim },
    /// The same of one too large to be held.
    LargeTree { id: Id, json: Spool, share: Share, claim: Claim },
}

/// A chunk of a file, as it was read.
pub(super) struct ReadChunk {
    pub(super) bytes: Vec<u8>,
    pub(super) share: Share,
    pub(super) place: Place,
}

/// What a worker did.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Added {
    pub(super) data_blobs: u64,
    pub(super) tree_blobs: u64,
    pub(super) bytes: u64,
    pub(super) bytes_packed: u64,
}

impl Added {
    /// Both together.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            data_blobs: self.data_blobs + other.data_blobs,
            tree_blobs: self.tree_blobs + other.tree_blobs,
            bytes: self.bytes + other.bytes,
            bytes_packed: self.bytes_packed + other.bytes_packed,
        }
    }
}

/// Works until there is no more to do, or the backup ends. When it was asked to stop, folders that
/// are claimed are still stored, because a checkpoint needs them; chunks are not.
pub(super) fn work(shared: &Shared<'_>, jobs: &Receiver<Job>, packer: &Sender<ToPack>) -> Added {
    let mut sealer = CarefulSealer::of(shared.repository);
    let mut added = Added::default();
    for job in jobs {
        if shared.has_failed() {
            break;
        }
        let sealed = match job {
            Job::Chunks(_) if shared.is_stopped() => continue,
            Job::Chunks(chunks) => {
                seal_chunks(shared, &mut sealer, chunks, &mut added).map(ToPack::Blobs)
            }
            Job::Tree { id, bytes, share, claim } => {
                let named = (BlobKind::Tree, id);
                let sealed = seal(shared, &mut sealer, named, &bytes, share, claim);
                sealed.map(|sealed| ToPack::Blobs(vec![added.with(sealed, shared, bytes)]))
            }
            Job::LargeTree { id, json, share, claim } => {
                let pack = large::seal_tree(shared.repository, &id, &json);
                drop(share);
                pack.map(|pack| {
                    added.count(BlobKind::Tree, json.bytes(), pack.bytes_of_blobs());
                    ToPack::Pack(pack, claim)
                })
            }
        };
        match sealed {
            Ok(ToPack::Blobs(sealed)) if sealed.is_empty() => {}
            Ok(sealed) => {
                if packer.send(sealed).is_err() {
                    break;
                }
            }
            Err(error) => {
                shared.fail(error);
                break;
            }
        }
    }
    added
}

/// Names all chunks, and seals those that are new.
fn seal_chunks(
    shared: &Shared<'_>,
    sealer: &mut CarefulSealer,
    chunks: Vec<ReadChunk>,
    added: &mut Added,
) -> Result<Vec<Sealed>> {
    let mut all = Vec::with_capacity(chunks.len());
    for ReadChunk { bytes, share, place } in chunks {
        let id = Id::of(&bytes);
        let claim = shared.claim(BlobKind::Data, &id);
        // Only now: whoever knows the id may rely on its being claimed.
        place.set(id);
        match claim {
            Some(claim) => {
                let sealed = seal(shared, sealer, (BlobKind::Data, id), &bytes, share, claim)?;
                all.push(added.with(sealed, shared, bytes));
            }
            None => shared.buffers.give(bytes),
        }
    }
    Ok(all)
}

impl Added {
    /// Counts what became of `bytes`, and gives them back.
    fn with(&mut self, sealed: Sealed, shared: &Shared<'_>, bytes: Vec<u8>) -> Sealed {
        self.count(sealed.blob.kind, bytes.len() as u64, sealed.bytes.len() as u64);
        shared.buffers.give(bytes);
        sealed
    }

    fn count(&mut self, kind: BlobKind, bytes: u64, bytes_packed: u64) {
        match kind {
            BlobKind::Data => self.data_blobs += 1,
            BlobKind::Tree => self.tree_blobs += 1,
        }
        self.bytes += bytes;
        self.bytes_packed += bytes_packed;
    }
}

pub(super) fn seal(
    shared: &Shared<'_>,
    sealer: &mut CarefulSealer,
    (kind, id): (BlobKind, Id),
    bytes: &[u8],
    mut share: Share,
    claim: Claim,
) -> Result<Sealed> {
    let mut out = shared.buffers.take(bytes.len() + OVERHEAD_BYTES);
    let blob = sealer.seal(kind, id, bytes, &mut out)?;
    // The plaintext goes now; what it became takes what it takes, filled or not.
    share.shrink(out.capacity());
    Ok(Sealed { blob, bytes: out, claim, _share: share })
}

#[cfg(test)]
mod tests {
    use super::super::journal::Journal;
    use super::super::lazy_index::LazyIndex;
    use super::super::shared::repository_in;
    use super::*;
    use crate::locks::HeldLock;
    use crate::{Cancel, TransferError};

    #[test]
    fn a_folder_that_a_bad_memory_changed_ends_the_backup_before_anything_of_it_is_stored() {
        let place = tempfile::tempdir().unwrap();
        let repository = repository_in(place.path());
        let (cancel, lock) = (Cancel::new(), HeldLock::acquire(&repository, false).unwrap());
        let index = LazyIndex::of(&repository, &cancel);
        let shared = Shared::new(&repository, &index, None, &lock, Journal::default(), &cancel);
        let (jobs_in, jobs) = crossbeam_channel::unbounded();
        let (packer, packed) = crossbeam_channel::unbounded();
        let bytes = br#"{"nodes":[]}"#.to_vec();
        // The sum was worked out; then a bit fell over.
        let job = |bytes: &[u8], id: Id| Job::Tree {
            id,
            bytes: bytes.to_vec(),
            share: shared.budget.take(100),
            claim: shared.claim(BlobKind::Tree, &id).unwrap(),
        };
        jobs_in.send(job(&bytes, Id::of(&bytes))).unwrap();
        jobs_in.send(job(&bytes, Id::of(br#"{"nodes":[ }"#))).unwrap();
        drop(jobs_in);
        work(&shared, &jobs, &packer);
        drop(packer);
        assert_eq!(packed.iter().count(), 1, "only what is right comes to the packer");
        let ended = shared.verdict(None).unwrap_err();
        assert!(matches!(ended, TransferError::Missealed { .. }), "{ended}");
        assert!(ended.remedy().contains("memory"), "{}", ended.remedy());
    }
}
