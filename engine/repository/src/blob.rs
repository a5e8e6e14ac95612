//! Blobs: the pieces of files and the folders, each sealed on its own.
//!
//! In a version 2 repository a blob may be compressed before it is sealed; whether it is, its place
//! in pack and index says. Trees are always compressed. Data that nothing makes smaller is stored
//! as it is, which restic reads just as well.

use crate::compress::{self, Compression, Compressor, DecompressError, Decompressor, Frames};
use crate::crypto::{CryptoError, MasterKey, NONCE_BYTES, Nonce, OVERHEAD_BYTES};
use crate::id::{Hasher, Id};
use std::io::{self, Read};
use std::sync::Arc;

mod large;

/// What a blob holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlobKind {
    /// A piece of a file.
    Data,
    /// A folder.
    Tree,
}

/// A sealed blob: what it is and how long. Where it lies is a [`PackedBlob`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealedBlob {
    /// SHA-256 of the plaintext.
    pub id: Id,
    /// What it holds.
    pub kind: BlobKind,
    /// Bytes it takes in a pack, nonce and tag included.
    pub length: u32,
    /// Bytes of plaintext of a compressed blob; `None` when it is not compressed.
    pub uncompressed_length: Option<std::num::NonZeroU32>,
}

impl SealedBlob {
    /// Bytes of plaintext.
    pub fn plaintext_bytes(&self) -> u32 {
        match self.uncompressed_length {
            Some(bytes) => bytes.get(),
            None => self.length.saturating_sub(OVERHEAD_BYTES as u32),
        }
    }
}

/// A blob in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedBlob {
    /// The blob.
    pub blob: SealedBlob,
    /// Where in the pack it starts, in bytes.
    pub offset: u32,
}

/// Why a blob cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// It does not fit its seal, or the key is wrong.
    #[error("blob {id} cannot be opened")]
    Crypto {
        /// The blob.
        id: Id,
        /// Why.
        #[source]
        cause: CryptoError,
    },
    /// What is in it cannot be decompressed.
    #[error("blob {id} cannot be decompressed")]
    Decompress {
        /// The blob.
        id: Id,
        /// Why.
        #[source]
        cause: DecompressError,
    },
    /// It is longer or shorter than the index or the pack says.
    #[error("blob {id} has {bytes} bytes, but {bytes_expected} are recorded")]
    Length {
        /// The blob.
        id: Id,
        /// Found.
        bytes: u64,
        /// Recorded.
        bytes_expected: u64,
    },
    /// The plaintext is not what the name says.
    #[error("blob {id} holds something else: its content has the sum {found}")]
    Content {
        /// The blob.
        id: Id,
        /// What was found.
        found: Id,
    },
    /// The compressor failed: out of memory.
    #[error("a blob cannot be compressed")]
    Compress(#[source] io::Error),
    /// What holds it cannot be read: a temporary file of this computer.
    #[error("the temporary file that holds blob {id} cannot be read")]
    Read {
        /// The blob.
        id: Id,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// Larger than there is memory for.
    #[error("blob {id} has {bytes} bytes; the limit is {bytes_max}")]
    TooLarge {
        /// The blob.
        id: Id,
        /// Its plaintext's length.
        bytes: u64,
        /// What is allowed.
        bytes_max: u64,
    },
}

impl BlobError {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } | Self::Compress(_) => {
                "give the engine more memory, or use a computer with more"
            }
            Self::Read { .. } => "have the disk tested on which this computer has temporary files",
            _ => "run `check --read-data` to learn what is damaged, and test the disk and memory",
        }
    }
}

/// What is read at a time of a blob that is looked at again.
const VERIFY_PIECE_BYTES: usize = 8 << 10;

/// A result that is not at least this fraction smaller is not worth a decompression at restore.
const GAIN_DIVISOR_MIN: usize = 64;

/// Compresses and seals blobs, with a context of its own: one for each worker.
pub struct BlobSealer {
    key: Arc<MasterKey>,
    compressor: Option<Compressor>,
    is_for_data: bool,
}

impl BlobSealer {
    /// A sealer. `compression` is `None` in a version 1 repository, which knows no compression.
    pub fn new(key: Arc<MasterKey>, compression: Option<Compression>) -> Self {
        let is_for_data = compression.is_some_and(|compression| compression.is_for_data);
        Self { key, compressor: compression.map(Compressor::new), is_for_data }
    }

    /// Appends the blob to `out`. `id` is the plaintext's, which the caller worked out to learn
    /// whether the blob is known already.
    pub fn seal(
        &mut self,
        kind: BlobKind,
        id: Id,
        nonce: Nonce,
        plaintext: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<SealedBlob, BlobError> {
        let too_large = || BlobError::TooLarge {
            id,
            bytes: plaintext.len() as u64,
            bytes_max: u64::from(u32::MAX),
        };
        let start = out.len();
        out.extend_from_slice(&[0; NONCE_BYTES]);
        let is_compressed = self.compress(kind, plaintext, out);
        if !is_compressed {
            out.extend_from_slice(plaintext);
        }
        let sealed = self.key.seal_in_place(nonce, out, start);
        sealed.map_err(|cause| BlobError::Crypto { id, cause })?;
        let plaintext_bytes = u32::try_from(plaintext.len()).map_err(|_| too_large())?;
        Ok(SealedBlob {
            id,
            kind,
            length: u32::try_from(out.len() - start).map_err(|_| too_large())?,
            uncompressed_length: std::num::NonZeroU32::new(plaintext_bytes)
                .filter(|_| is_compressed),
        })
    }

    /// Appends a blob sealed under this key, of which `payload` is what [`BlobOpener::payload`]
    /// gave under another: what was compressed stays as it was compressed.
    pub fn seal_payload(
        &self,
        blob: &SealedBlob,
        nonce: Nonce,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<SealedBlob, BlobError> {
        let id = blob.id;
        self.key.seal_into(nonce, payload, out).map_err(|cause| BlobError::Crypto { id, cause })?;
        Ok(*blob)
    }

    fn compress(&mut self, kind: BlobKind, plaintext: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(compressor) = &mut self.compressor else { return false };
        match kind {
            _ if plaintext.is_empty() => false,
            BlobKind::Tree => {
                compressor.compress_into(plaintext, out, Compressor::bytes_max(plaintext.len()))
            }
            BlobKind::Data if !self.is_for_data => false,
            BlobKind::Data if compress::looks_incompressible(plaintext) => false,
            BlobKind::Data => {
                let bytes_max = plaintext.len() - plaintext.len() / GAIN_DIVISOR_MIN;
                compressor.compress_into(plaintext, out, bytes_max)
            }
        }
    }
}

/// Opens, decompresses and verifies blobs, with buffers of its own: one for each worker.
pub struct BlobOpener {
    key: Arc<MasterKey>,
    decompressor: Decompressor,
    plaintext: Vec<u8>,
    bytes_max: usize,
}

impl BlobOpener {
    /// An opener that holds no plaintext of more than `bytes_max` bytes.
    pub fn new(key: Arc<MasterKey>, bytes_max: usize) -> Self {
        Self { key, decompressor: Decompressor::new(), plaintext: Vec::new(), bytes_max }
    }

    /// The plaintext of a blob, whose sum was found to be its id. `sealed` is exactly the blob's
    /// bytes; it is decrypted where it stands, and worthless afterwards.
    pub fn open<'a>(
        &'a mut self,
        blob: &SealedBlob,
        sealed: &'a mut [u8],
    ) -> Result<&'a [u8], BlobError> {
        let id = blob.id;
        let bytes = u64::from(blob.plaintext_bytes());
        if bytes > self.bytes_max as u64 {
            return Err(BlobError::TooLarge { id, bytes, bytes_max: self.bytes_max as u64 });
        }
        let opened = open_sealed(&self.key, blob, sealed)?;
        let plaintext: &[u8] = if blob.uncompressed_length.is_some() {
            self.decompressor
                .decompress_into(opened, &mut self.plaintext, bytes as usize)
                .map_err(|cause| BlobError::Decompress { id, cause })?;
            &self.plaintext
        } else {
            opened
        };
        if plaintext.len() as u64 != bytes {
            let found = plaintext.len() as u64;
            return Err(BlobError::Length { id, bytes: found, bytes_expected: bytes });
        }
        let found = Id::of(plaintext);
        if found != id {
            return Err(BlobError::Content { id, found });
        }
        Ok(plaintext)
    }

    /// Whether a blob, which stays as it is, opens to the plaintext of its id. Holds no more than a
    /// window of it. For whoever sealed it a moment ago: memory and processors fail, too.
    pub fn verify(&mut self, blob: &SealedBlob, sealed: &[u8]) -> Result<(), BlobError> {
        let (id, bytes_expected) = (blob.id, u64::from(blob.plaintext_bytes()));
        let key = self.key.clone();
        let opened = key.open_reader(sealed).map_err(|cause| BlobError::Crypto { id, cause })?;
        let read = match blob.uncompressed_length {
            None => sum_of(opened, bytes_expected),
            Some(_) => {
                let frames = self.decompressor.reader_of(opened);
                let frames = frames.map_err(|cause| BlobError::Decompress { id, cause })?;
                sum_of(frames, bytes_expected)
            }
        };
        let (found, bytes) = read.map_err(|error| unread(id, error))?;
        if bytes != bytes_expected || sealed.len() as u64 != u64::from(blob.length) {
            return Err(BlobError::Length { id, bytes, bytes_expected });
        }
        if found == id { Ok(()) } else { Err(BlobError::Content { id, found }) }
    }

    /// What was sealed, decrypted and verified, but still compressed if the blob is: to be sealed
    /// again under another key. However long the blob is, no more than a window of its plaintext is
    /// held.
    pub fn payload<'a>(
        &mut self,
        blob: &SealedBlob,
        sealed: &'a mut [u8],
    ) -> Result<&'a [u8], BlobError> {
        {
            let mut reader = self.open_stream(blob, sealed)?;
            let read = io::copy(&mut reader, &mut io::sink());
            read.map_err(|error| unread(blob.id, error))?;
        }
        let end = sealed.len() - (OVERHEAD_BYTES - NONCE_BYTES);
        Ok(&sealed[NONCE_BYTES..end])
    }

    /// A reader of a blob's plaintext that holds no more than a window of it, for folders of
    /// millions of files. Length and sum are verified where it ends: an error there means that what
    /// was read before is not to be believed.
    pub fn open_stream<'a>(
        &'a mut self,
        blob: &SealedBlob,
        sealed: &'a mut [u8],
    ) -> Result<BlobReader<'a>, BlobError> {
        let opened = open_sealed(&self.key, blob, sealed)?;
        let source = if blob.uncompressed_length.is_some() {
            let frames = self.decompressor.reader(opened);
            Source::Frames(frames.map_err(|cause| BlobError::Decompress { id: blob.id, cause })?)
        } else {
            Source::Plain(opened)
        };
        Ok(BlobReader { source, blob: *blob, hasher: Some(Hasher::new()), bytes: 0 })
    }
}

/// The sum and the length of what is read, which is not read much beyond `bytes_max`.
fn sum_of(mut reader: impl Read, bytes_max: u64) -> io::Result<(Id, u64)> {
    let (mut hasher, mut bytes, mut buffer) = (Hasher::new(), 0, [0; VERIFY_PIECE_BYTES]);
    while bytes <= bytes_max {
        match reader.read(&mut buffer)? {
            0 => break,
            read => {
                hasher.update(&buffer[..read]);
                bytes += read as u64;
            }
        }
    }
    Ok((hasher.finish(), bytes))
}

/// The error within the one a reader must give.
fn unread(id: Id, error: io::Error) -> BlobError {
    match error.downcast::<BlobError>() {
        Ok(cause) => cause,
        // The decompressor has no numbers of the system.
        Err(cause) if cause.raw_os_error().is_some() => BlobError::Read { id, cause },
        Err(_) => {
            let cause = DecompressError::Damaged { reason: "broken frame" };
            BlobError::Decompress { id, cause }
        }
    }
}

fn open_sealed<'a>(
    key: &MasterKey,
    blob: &SealedBlob,
    sealed: &'a mut [u8],
) -> Result<&'a [u8], BlobError> {
    let (bytes, bytes_expected) = (sealed.len() as u64, u64::from(blob.length));
    if bytes != bytes_expected {
        return Err(BlobError::Length { id: blob.id, bytes, bytes_expected });
    }
    match key.open_in_place(sealed) {
        Ok(opened) => Ok(opened),
        Err(cause) => Err(BlobError::Crypto { id: blob.id, cause }),
    }
}

enum Source<'a> {
    Plain(&'a [u8]),
    Frames(Frames<'a>),
    /// From where it lies.
    Elsewhere(Box<dyn Read + 'a>),
}

/// A blob's plaintext as a stream: see [`BlobOpener::open_stream`] and [`BlobOpener::open_from`].
pub struct BlobReader<'a> {
    source: Source<'a>,
    blob: SealedBlob,
    /// Taken when the end was verified.
    hasher: Option<Hasher>,
    bytes: u64,
}

impl BlobReader<'_> {
    fn verify_end(&mut self) -> Result<(), BlobError> {
        let Some(hasher) = self.hasher.take() else { return Ok(()) };
        let (id, bytes_expected) = (self.blob.id, u64::from(self.blob.plaintext_bytes()));
        if self.bytes != bytes_expected {
            return Err(BlobError::Length { id, bytes: self.bytes, bytes_expected });
        }
        let found = hasher.finish();
        if found != id {
            return Err(BlobError::Content { id, found });
        }
        Ok(())
    }
}

impl Read for BlobReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let bytes = match &mut self.source {
            Source::Plain(rest) => rest.read(buffer)?,
            Source::Frames(frames) => frames.read(buffer)?,
            Source::Elsewhere(reader) => reader.read(buffer)?,
        };
        if bytes == 0 {
            self.verify_end().map_err(|cause| io::Error::new(io::ErrorKind::InvalidData, cause))?;
            return Ok(0);
        }
        self.bytes += bytes as u64;
        if self.bytes > u64::from(self.blob.plaintext_bytes()) {
            self.verify_end().map_err(|cause| io::Error::new(io::ErrorKind::InvalidData, cause))?;
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..bytes]);
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compress::tests::noise;
    use crate::crypto::MASTER_KEY_BYTES;

    const ROOM: usize = 16 << 20;

    fn key() -> Arc<MasterKey> {
        Arc::new(MasterKey::from_bytes(&[7; MASTER_KEY_BYTES]).unwrap())
    }

    fn seal(kind: BlobKind, plaintext: &[u8]) -> (SealedBlob, Vec<u8>) {
        let mut out = Vec::new();
        let blob = BlobSealer::new(key(), Some(Compression::default()))
            .seal(kind, Id::of(plaintext), [1; 16], plaintext, &mut out)
            .unwrap();
        (blob, out)
    }

    #[test]
    fn what_was_sealed_is_looked_at_again_without_touching_it() {
        let text = b"words, words, words ".repeat(40_000);
        for (kind, plaintext) in [
            (BlobKind::Data, noise(100_000, 3)),
            (BlobKind::Data, text.clone()),
            (BlobKind::Tree, text.clone()),
            (BlobKind::Data, Vec::new()),
        ] {
            let (blob, sealed) = seal(kind, &plaintext);
            let mut opener = BlobOpener::new(key(), 0);
            opener.verify(&blob, &sealed).unwrap();
            opener.verify(&blob, &sealed).unwrap();
            for place in [0, 16, sealed.len() / 2, sealed.len() - 1] {
                let mut broken = sealed.clone();
                broken[place] ^= 4;
                let refused = opener.verify(&blob, &broken).unwrap_err();
                assert!(matches!(refused, BlobError::Crypto { .. }), "{refused}");
            }
            // A bit fell over after the sum was worked out, and before it was sealed.
            let (mut other, sealed) = seal(kind, &[&plaintext[..], b"x"].concat());
            other.id = blob.id;
            let refused = opener.verify(&other, &sealed).unwrap_err();
            assert!(matches!(refused, BlobError::Content { .. }), "{refused}");
            let longer = SealedBlob {
                uncompressed_length: blob.uncompressed_length.map(|bytes| bytes.saturating_add(1)),
                length: blob.length + u32::from(blob.uncompressed_length.is_none()),
                ..blob
            };
            assert!(matches!(
                opener.verify(&longer, &seal(kind, &plaintext).1),
                Err(BlobError::Length { .. })
            ));
        }
    }

    #[test]
    fn blobs_of_every_kind_and_length_come_back() {
        let mut opener = BlobOpener::new(key(), ROOM);
        for kind in [BlobKind::Data, BlobKind::Tree] {
            for length in [0, 1, 31, 32, 1000, 65_536, 700_000] {
                for plaintext in [noise(length, 3), vec![b'a'; length]] {
                    let (blob, mut sealed) = seal(kind, &plaintext);
                    assert_eq!(blob.length as usize, sealed.len());
                    assert_eq!(blob.plaintext_bytes() as usize, length);
                    let mut again = sealed.clone();
                    assert_eq!(opener.open(&blob, &mut sealed).unwrap(), plaintext);
                    let mut streamed = Vec::new();
                    let mut reader = opener.open_stream(&blob, &mut again).unwrap();
                    reader.read_to_end(&mut streamed).unwrap();
                    assert_eq!(streamed, plaintext);
                }
            }
        }
    }

    #[test]
    fn data_nothing_makes_smaller_is_stored_as_it_is_and_trees_never() {
        let plaintext = noise(1 << 20, 5);
        assert_eq!(seal(BlobKind::Data, &plaintext).0.uncompressed_length, None);
        assert!(seal(BlobKind::Tree, &plaintext).0.uncompressed_length.is_some());
        assert_eq!(seal(BlobKind::Tree, b"").0.uncompressed_length, None);
    }

    #[test]
    fn a_blob_is_sealed_under_another_key_without_being_compressed_again() {
        let other = Arc::new(MasterKey::from_bytes(&[9; MASTER_KEY_BYTES]).unwrap());
        let sealer = BlobSealer::new(other.clone(), None);
        let mut opener = BlobOpener::new(key(), 1);
        for plaintext in [vec![b'a'; 700_000], noise(100_000, 3), Vec::new()] {
            let (blob, mut sealed) = seal(BlobKind::Data, &plaintext);
            let mut damaged = sealed.clone();
            let mut moved = Vec::new();
            let payload = opener.payload(&blob, &mut sealed).unwrap();
            let again = sealer.seal_payload(&blob, [2; 16], payload, &mut moved).unwrap();
            assert_eq!((again, moved.len()), (blob, sealed.len()));
            let mut others = BlobOpener::new(other.clone(), ROOM);
            assert!(others.open(&blob, &mut moved).unwrap() == plaintext);
            damaged[20] ^= 1;
            assert!(opener.payload(&blob, &mut damaged).is_err());
            let lies = SealedBlob { id: Id::of(b"other"), ..blob };
            let mut sealed = seal(BlobKind::Data, &plaintext).1;
            let refused = opener.payload(&lies, &mut sealed);
            assert!(matches!(refused, Err(BlobError::Content { .. })));
        }
    }

    #[test]
    fn with_no_effort_trees_are_compressed_and_data_is_not() {
        let compression = crate::compress::Effort::Off.compression();
        let mut sealer = BlobSealer::new(key(), Some(compression));
        let plaintext = vec![b'a'; 10_000];
        for (kind, is_compressed) in [(BlobKind::Data, false), (BlobKind::Tree, true)] {
            let id = Id::of(&plaintext);
            let blob = sealer.seal(kind, id, [1; 16], &plaintext, &mut Vec::new()).unwrap();
            assert_eq!(blob.uncompressed_length.is_some(), is_compressed);
        }
    }

    #[test]
    fn a_blob_with_another_content_than_its_name_says_is_refused() {
        let mut out = Vec::new();
        let id = Id::of(b"what it should be");
        let blob = BlobSealer::new(key(), None)
            .seal(BlobKind::Data, id, [1; 16], b"what it is", &mut out)
            .unwrap();
        let mut again = out.clone();
        let mut opener = BlobOpener::new(key(), ROOM);
        let refused = opener.open(&blob, &mut out).unwrap_err();
        assert!(matches!(refused, BlobError::Content { .. }), "{refused}");
        let mut reader = opener.open_stream(&blob, &mut again).unwrap();
        assert!(reader.read_to_end(&mut Vec::new()).is_err());
    }

    #[test]
    fn a_wrong_length_on_record_is_noticed_and_a_bound_holds() {
        let plaintext = b"text ".repeat(1000);
        let (blob, sealed) = seal(BlobKind::Data, &plaintext);
        for wrong in [4999, 5001] {
            let wrong =
                SealedBlob { uncompressed_length: std::num::NonZeroU32::new(wrong), ..blob };
            let mut opener = BlobOpener::new(key(), ROOM);
            assert!(opener.open(&wrong, &mut sealed.clone()).is_err());
            let mut again = sealed.clone();
            let mut reader = opener.open_stream(&wrong, &mut again).unwrap();
            assert!(reader.read_to_end(&mut Vec::new()).is_err());
        }
        let mut opener = BlobOpener::new(key(), 4999);
        let refused = opener.open(&blob, &mut sealed.clone()).unwrap_err();
        assert!(matches!(refused, BlobError::TooLarge { .. }), "{refused}");
        let mut short = sealed[1..].to_vec();
        assert!(matches!(opener.open_stream(&blob, &mut short), Err(BlobError::Length { .. })));
    }
}
