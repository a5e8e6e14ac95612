//! Sealing, and looking again whether what was sealed opens.
//!
//! Memory and processors fail on real boxes: a bit falls over after the sum was worked out, or
//! while it is compressed, and the blob is sealed well around something else. Nobody would know
//! before a restore. restic opens every blob again. We open every folder, which all below it hangs
//! on, and of the pieces of files the first and then one in [`DATA_VERIFIED_ONE_IN`]: on boxes
//! without instructions for it to open one takes as long as to seal it, and hardware that fails
//! does not fail once.

use crate::repository::{random, unwritable};
use crate::{Repository, Result, TransferError};
use engine_repository::crypto::Nonce;
use engine_repository::{BlobKind, BlobOpener, BlobSealer, Id, SealedBlob};

/// Of so many pieces of files that are sealed one is opened again.
const DATA_VERIFIED_ONE_IN: u32 = 16;
/// So many nonces are asked of the system at a time; each is used once.
const NONCES: usize = 32;
const NONCE_BYTES: usize = size_of::<Nonce>();

/// Seals blobs, with buffers of its own: one for each worker.
pub(crate) struct CarefulSealer {
    sealer: BlobSealer,
    opener: BlobOpener,
    /// Pieces of files that were sealed, counted round.
    sealed: u32,
    nonces: [u8; NONCES * NONCE_BYTES],
    nonces_used: usize,
}

impl CarefulSealer {
    /// One for this repository.
    pub(crate) fn of(repository: &Repository) -> Self {
        let key = repository.key();
        Self {
            sealer: BlobSealer::new(key.clone(), repository.compression()),
            // It holds no plaintext: what it opens it only counts and hashes.
            opener: BlobOpener::new(key.clone(), 0),
            sealed: 0,
            nonces: [0; NONCES * NONCE_BYTES],
            nonces_used: NONCES,
        }
    }

    /// Appends the blob to `out`. `id` is the plaintext's. An error means that nothing of it may be
    /// stored.
    pub(crate) fn seal(
        &mut self,
        kind: BlobKind,
        id: Id,
        plaintext: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<SealedBlob> {
        let start = out.len();
        let nonce = self.nonce()?;
        let sealed = self.sealer.seal(kind, id, nonce, plaintext, out);
        let blob = sealed.map_err(|cause| unwritable("a blob", cause))?;
        self.verify(&blob, &out[start..])?;
        Ok(blob)
    }

    /// The same of what is compressed already, as [`BlobSealer::seal_payload`].
    pub(crate) fn seal_payload(
        &mut self,
        blob: &SealedBlob,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<SealedBlob> {
        let start = out.len();
        let nonce = self.nonce()?;
        let sealed = self.sealer.seal_payload(blob, nonce, payload, out);
        let blob = sealed.map_err(|cause| unwritable("a blob", cause))?;
        self.verify(&blob, &out[start..])?;
        Ok(blob)
    }

    fn nonce(&mut self) -> Result<Nonce> {
        if self.nonces_used == NONCES {
            (self.nonces, self.nonces_used) = (random()?, 0);
        }
        let mut nonce = Nonce::default();
        let start = self.nonces_used * NONCE_BYTES;
        nonce.copy_from_slice(&self.nonces[start..start + NONCE_BYTES]);
        self.nonces_used += 1;
        Ok(nonce)
    }

    fn verify(&mut self, blob: &SealedBlob, sealed: &[u8]) -> Result<()> {
        if blob.kind == BlobKind::Data {
            self.sealed = (self.sealed + 1) % DATA_VERIFIED_ONE_IN;
            if self.sealed != 1 {
                return Ok(());
            }
        }
        let verified = self.opener.verify(blob, sealed);
        verified.map_err(|cause| TransferError::Missealed { cause: cause.into() })
    }
}
