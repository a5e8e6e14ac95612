//! The workers: hash, look whether the blob is new, compress, seal.

use super::content::Place;
use super::pack::ToPack;
use super::shared::{Claim, Shared};
use crate::budget::Share;
use crate::errors::Cause;
use crate::repository::{nonce, unwritable};
use crate::{Result, TransferError};
use crossbeam_channel::{Receiver, Sender};
use engine_repository::crypto::OVERHEAD_BYTES;
use engine_repository::{BlobKind, BlobSealer, Id, SealedBlob};

/// Something to be stored.
pub(super) enum Job {
    /// A chunk of a file.
    Chunk { bytes: Vec<u8>, share: Share, place: Place },
    /// A folder, of which it is known that the repository lacks it.
    Tree { id: Id, bytes: Vec<u8>, share: Share, claim: Claim },
}

/// A sealed blob on its way into a pack.
pub(super) struct Sealed {
    pub(super) blob: SealedBlob,
    pub(super) bytes: Vec<u8>,
    pub(super) claim: Claim,
    /// Held until the bytes are written.
    pub(super) _share: Share,
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
    let mut sealer =
        BlobSealer::new(shared.repository.key().clone(), shared.repository.compression());
    let mut added = Added::default();
    for job in jobs {
        if shared.has_failed() {
            break;
        }
        let (kind, id, bytes, share, claim) = match job {
            Job::Tree { id, bytes, share, claim } => (BlobKind::Tree, id, bytes, share, claim),
            Job::Chunk { .. } if shared.is_stopped() => continue,
            Job::Chunk { bytes, share, place } => {
                let id = Id::of(&bytes);
                let claim = shared.claim(BlobKind::Data, &id);
                // Only now: whoever knows the id may rely on its being claimed.
                place.set(id);
                let Some(claim) = claim else {
                    shared.buffers.give(bytes);
                    continue;
                };
                (BlobKind::Data, id, bytes, share, claim)
            }
        };
        match seal(shared, &mut sealer, (kind, id), &bytes, share, claim) {
            Ok(blob) => {
                added.count(kind, bytes.len(), blob.bytes.len());
                shared.buffers.give(bytes);
                if packer.send(ToPack::Blob(blob)).is_err() {
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

impl Added {
    fn count(&mut self, kind: BlobKind, bytes: usize, bytes_packed: usize) {
        match kind {
            BlobKind::Data => self.data_blobs += 1,
            BlobKind::Tree => self.tree_blobs += 1,
        }
        self.bytes += bytes as u64;
        self.bytes_packed += bytes_packed as u64;
    }
}

pub(super) fn seal(
    shared: &Shared<'_>,
    sealer: &mut BlobSealer,
    (kind, id): (BlobKind, Id),
    bytes: &[u8],
    mut share: Share,
    claim: Claim,
) -> Result<Sealed> {
    let mut out = shared.buffers.take(bytes.len() + OVERHEAD_BYTES);
    let blob = sealer
        .seal(kind, id, nonce()?, bytes, &mut out)
        .map_err(|cause| -> TransferError { unwritable("a blob", Cause::from(cause)) })?;
    // The plaintext goes now; what it became takes what it takes, filled or not.
    share.shrink(out.capacity());
    Ok(Sealed { blob, bytes: out, claim, _share: share })
}
