//! Blobs too large to be held, opened from where they lie: a temporary file.
//!
//! What holds the sealed blob is read twice: once to see that it fits its seal, and only then to be
//! decrypted, decompressed and hashed. In memory are a window of the plaintext and some buffers.

use super::{BlobError, BlobOpener, BlobReader, SealedBlob, Source, unread};
use crate::crypto::{CryptoError, MasterKey, NONCE_BYTES, Nonce, OVERHEAD_BYTES, TAG_BYTES};
use crate::id::Hasher;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

/// So much is read at a time.
const PIECE_BYTES: usize = 64 << 10;

impl BlobOpener {
    /// A reader of the plaintext of a blob that `sealed` holds from its beginning on. As with
    /// [`BlobOpener::open_stream`], length and sum are verified where it ends.
    pub fn open_from<'a, R: Read + Seek + 'a>(
        &'a mut self,
        blob: &SealedBlob,
        sealed: R,
    ) -> Result<BlobReader<'a>, BlobError> {
        let id = blob.id;
        let payload = BufReader::with_capacity(PIECE_BYTES, payload(&self.key, blob, sealed)?);
        let reader: Box<dyn Read + 'a> = match blob.uncompressed_length {
            None => Box::new(payload),
            Some(_) => {
                let frames = self.decompressor.reader_of(payload);
                Box::new(frames.map_err(|cause| BlobError::Decompress { id, cause })?)
            }
        };
        let source = Source::Elsewhere(reader);
        Ok(BlobReader { source, blob: *blob, hasher: Some(Hasher::new()), bytes: 0 })
    }

    /// Whether a blob that `sealed` holds opens to the plaintext of its id.
    pub fn verify_from<R: Read + Seek>(
        &mut self,
        blob: &SealedBlob,
        sealed: R,
    ) -> Result<(), BlobError> {
        let mut reader = self.open_from(blob, sealed)?;
        let read = io::copy(&mut reader, &mut io::sink());
        read.map(|_| ()).map_err(|error| unread(blob.id, error))
    }

    /// A reader of what is sealed in a blob, decrypted, but still compressed if the blob is: to be
    /// sealed again under another key. What it gives fits its seal, but whether it is what the id
    /// says is for [`BlobOpener::verify_from`] to find out.
    pub fn payload_from<'a, R: Read + Seek + 'a>(
        &'a self,
        blob: &SealedBlob,
        sealed: R,
    ) -> Result<impl Read + 'a, BlobError> {
        payload(&self.key, blob, sealed)
    }
}

/// Looks whether a blob fits its seal, and decrypts it then.
fn payload<'a, R: Read + Seek + 'a>(
    key: &'a MasterKey,
    blob: &SealedBlob,
    mut sealed: R,
) -> Result<impl Read + 'a, BlobError> {
    let id = blob.id;
    let bytes = blob.length as usize;
    let Some(text_bytes) = bytes.checked_sub(OVERHEAD_BYTES) else {
        return Err(BlobError::Crypto { id, cause: CryptoError::TooShort { bytes } });
    };
    let checked = check(key, &mut sealed, text_bytes);
    let (nonce, fits) = checked.map_err(|cause| BlobError::Read { id, cause })?;
    fits.map_err(|cause| BlobError::Crypto { id, cause })?;
    let text = sealed.seek(SeekFrom::Start(NONCE_BYTES as u64));
    text.map_err(|cause| BlobError::Read { id, cause })?;
    Ok(key.decrypting(nonce, sealed.take(text_bytes as u64)))
}

/// The nonce, and whether all behind it fits the tag at its end.
fn check(
    key: &MasterKey,
    sealed: &mut (impl Read + Seek),
    text_bytes: usize,
) -> io::Result<(Nonce, Result<(), CryptoError>)> {
    let (mut nonce, mut tag) = ([0; NONCE_BYTES], [0; TAG_BYTES]);
    sealed.seek(SeekFrom::Start(0))?;
    sealed.read_exact(&mut nonce)?;
    let mut seal = key.seal_check(&nonce);
    let (mut left, mut buffer) = (text_bytes, vec![0; PIECE_BYTES]);
    while left > 0 {
        let piece = &mut buffer[..left.min(PIECE_BYTES)];
        sealed.read_exact(piece)?;
        seal.update(piece);
        left -= piece.len();
    }
    sealed.read_exact(&mut tag)?;
    Ok((nonce, seal.finish(&tag)))
}

#[cfg(test)]
mod tests {
    use crate::blob::{BlobError, BlobKind, BlobOpener, BlobSealer, SealedBlob};
    use crate::compress::{Compression, tests::noise};
    use crate::crypto::{MASTER_KEY_BYTES, MasterKey};
    use crate::id::Id;
    use std::io::{Cursor, Read};
    use std::sync::Arc;

    fn sealed(plaintext: &[u8], compression: Option<Compression>) -> (SealedBlob, Vec<u8>) {
        let mut out = Vec::new();
        let mut sealer = BlobSealer::new(key(), compression);
        let id = Id::of(plaintext);
        let blob = sealer.seal(BlobKind::Tree, id, [3; 16], plaintext, &mut out).unwrap();
        (blob, out)
    }

    fn key() -> Arc<MasterKey> {
        Arc::new(MasterKey::from_bytes(&[7; MASTER_KEY_BYTES]).unwrap())
    }

    #[test]
    fn a_blob_is_opened_from_where_it_lies_and_one_changed_byte_is_noticed_before_any_is_given() {
        let plaintext = [noise(150_000, 3), b"a sentence; ".repeat(30_000)].concat();
        for compression in [None, Some(Compression::default())] {
            let (blob, mut sealed) = sealed(&plaintext, compression);
            let mut opener = BlobOpener::new(key(), 0);
            let mut read = Vec::new();
            let reader = opener.open_from(&blob, Cursor::new(&sealed));
            reader.unwrap().read_to_end(&mut read).unwrap();
            assert_eq!(read, plaintext);
            opener.verify_from(&blob, Cursor::new(&sealed)).unwrap();
            let (mut payload, held) = (Vec::new(), sealed.clone());
            let reader = opener.payload_from(&blob, Cursor::new(&held));
            reader.unwrap().read_to_end(&mut payload).unwrap();
            assert_eq!(opener.payload(&blob, &mut held.clone()).unwrap(), payload);
            let other = SealedBlob { id: Id::of(b"another"), ..blob };
            let found = opener.verify_from(&other, Cursor::new(&sealed));
            assert!(matches!(found, Err(BlobError::Content { .. })), "{found:?}");
            for at in [0, 16, 70_000, sealed.len() - 1] {
                sealed[at] ^= 1;
                let found = opener.open_from(&blob, Cursor::new(&sealed)).map(drop);
                assert!(matches!(found, Err(BlobError::Crypto { .. })), "byte {at}: {found:?}");
                sealed[at] ^= 1;
            }
            let cut = Cursor::new(&sealed[..sealed.len() - 1]);
            let found = opener.open_from(&blob, cut).map(drop);
            assert!(matches!(found, Err(BlobError::Read { .. })), "{found:?}");
        }
    }
}
