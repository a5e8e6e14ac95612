//! Blobs too large to be held, sealed piece by piece: folders of millions of files.
//!
//! Neither the plaintext nor the sealed blob is ever in memory as a whole. What each piece turned
//! into goes to the caller, who puts it where the blob is to lie; id and length are known at the
//! end.

use crate::blob::{BlobError, BlobKind, SealedBlob};
use crate::compress::Compression;
use crate::crypto::{MasterKey, Nonce, OVERHEAD_BYTES, SealStream};
use crate::id::{Hasher, Id};
use std::num::NonZeroU32;
use zstd::stream::raw::{CParameter, Encoder, InBuffer, Operation, OutBuffer};

/// What the compressor is given room for at a time.
const STEP_BYTES: usize = 32 * 1024;

/// A blob being sealed.
pub struct BlobStream<'a> {
    kind: BlobKind,
    sealing: SealStream<'a>,
    encoder: Option<Encoder<'static>>,
    hasher: Hasher,
    plaintext_bytes: u64,
    sealed_bytes: u64,
}

impl<'a> BlobStream<'a> {
    /// Starts a blob at the end of `out`, which the caller may empty after each step.
    /// `compression` is `None` in a version 1 repository.
    pub fn new(
        key: &'a MasterKey,
        kind: BlobKind,
        compression: Option<Compression>,
        nonce: Nonce,
        out: &mut Vec<u8>,
    ) -> Result<Self, BlobError> {
        let crypto = |cause| BlobError::Crypto { id: Id::ZERO, cause };
        let sealing = key.seal_stream(nonce).map_err(crypto)?;
        let is_for_kind = |c: &Compression| kind == BlobKind::Tree || c.is_for_data;
        let encoder = compression.filter(is_for_kind).map(|compression| {
            let mut encoder = Encoder::new(compression.level)?;
            encoder.set_parameter(CParameter::WindowLog(compression.window_log))?;
            Ok(encoder)
        });
        let encoder = encoder.transpose().map_err(BlobError::Compress)?;
        out.extend_from_slice(&nonce);
        Ok(Self {
            kind,
            sealing,
            encoder,
            hasher: Hasher::new(),
            plaintext_bytes: 0,
            sealed_bytes: OVERHEAD_BYTES as u64,
        })
    }

    /// Takes the next bytes of plaintext, and appends to `out` what is ready.
    pub fn write(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), BlobError> {
        self.hasher.update(plaintext);
        self.plaintext_bytes += plaintext.len() as u64;
        let start = out.len();
        match &mut self.encoder {
            None => out.extend_from_slice(plaintext),
            Some(encoder) => {
                let mut input = InBuffer::around(plaintext);
                while input.pos < plaintext.len() {
                    step(out, |room| encoder.run(&mut input, room))?;
                }
            }
        }
        self.encrypt(start, out);
        Ok(())
    }

    /// Ends the blob, and says what it became.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<SealedBlob, BlobError> {
        let start = out.len();
        // Nothing at all cannot be recorded as compressed, so it is not.
        let encoder = self.encoder.take().filter(|_| self.plaintext_bytes > 0);
        let is_compressed = encoder.is_some();
        if let Some(mut encoder) = encoder {
            while step(out, |room| encoder.finish(room, true))? > 0 {}
        }
        self.encrypt(start, out);
        out.extend_from_slice(&self.sealing.finish());
        let id = self.hasher.finish();
        let too_large = |bytes| BlobError::TooLarge { id, bytes, bytes_max: u64::from(u32::MAX) };
        let plaintext_bytes =
            u32::try_from(self.plaintext_bytes).map_err(|_| too_large(self.plaintext_bytes))?;
        Ok(SealedBlob {
            id,
            kind: self.kind,
            length: u32::try_from(self.sealed_bytes).map_err(|_| too_large(self.sealed_bytes))?,
            uncompressed_length: NonZeroU32::new(plaintext_bytes).filter(|_| is_compressed),
        })
    }

    fn encrypt(&mut self, start: usize, out: &mut [u8]) {
        self.sealing.update(&mut out[start..]);
        self.sealed_bytes += (out.len() - start) as u64;
    }
}

/// Lets the compressor append up to [`STEP_BYTES`] to `out`; the answer is how many it has left.
fn step(
    out: &mut Vec<u8>,
    run: impl FnOnce(&mut OutBuffer<'_, [u8]>) -> std::io::Result<usize>,
) -> Result<usize, BlobError> {
    let start = out.len();
    out.resize(start + STEP_BYTES, 0);
    let mut room = OutBuffer::around(&mut out[start..]);
    let left = run(&mut room).map_err(BlobError::Compress);
    let written = room.pos();
    out.truncate(start + written);
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::BlobOpener;
    use crate::compress::tests::noise;
    use crate::crypto::MASTER_KEY_BYTES;
    use std::sync::Arc;

    #[test]
    fn a_blob_sealed_piece_by_piece_opens_as_any_other() {
        let key = Arc::new(MasterKey::from_bytes(&[7; MASTER_KEY_BYTES]).unwrap());
        let plaintext = [noise(300_000, 3), b"a sentence; ".repeat(30_000)].concat();
        for compression in [None, Some(Compression::default())] {
            let mut sealed = Vec::new();
            let stream =
                BlobStream::new(&key, BlobKind::Data, compression, [3; 16], &mut sealed).unwrap();
            let blob = stream.finish(&mut sealed).unwrap();
            assert_eq!((sealed.len(), blob.uncompressed_length), (OVERHEAD_BYTES, None));
            for piece_bytes in [7, 1000, 65_536, plaintext.len()] {
                let mut sealed = Vec::new();
                let mut out = Vec::new();
                let kind = BlobKind::Tree;
                let mut stream =
                    BlobStream::new(&key, kind, compression, [3; 16], &mut out).unwrap();
                for piece in plaintext.chunks(piece_bytes) {
                    stream.write(piece, &mut out).unwrap();
                    sealed.append(&mut out);
                }
                let blob = stream.finish(&mut out).unwrap();
                sealed.append(&mut out);
                assert_eq!(blob.id, Id::of(&plaintext));
                assert_eq!(blob.length as usize, sealed.len());
                assert_eq!(blob.uncompressed_length.is_some(), compression.is_some());
                let mut opener = BlobOpener::new(Arc::clone(&key), plaintext.len());
                assert_eq!(opener.open(&blob, &mut sealed).unwrap(), plaintext);
            }
        }
    }
}
