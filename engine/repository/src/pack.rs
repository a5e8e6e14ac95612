//! Packs: many sealed blobs in one file, and behind them a sealed header that lists them.
//!
//! ```text
//! blob_1 … blob_n  sealed(header)  u32le(length of the sealed header)
//! header entry: type u8 (0 data, 1 tree), length u32le, id               37 bytes
//!               type u8 (2 data, 3 tree), length u32le, plain u32le, id  41 bytes, compressed
//! ```
//!
//! Offsets are not written: each blob starts where the one before it ends, the first at 0, and the
//! lengths must add up to the file's size exactly, or restic's prune refuses the pack.

use crate::blob::{BlobKind, PackedBlob, SealedBlob};
use crate::crypto::{CryptoError, MasterKey, Nonce, OVERHEAD_BYTES};
use crate::id::Id;
use std::num::NonZeroU32;

/// A sealed header is never longer: 16 MiB.
pub const HEADER_BYTES_MAX: u32 = 16 << 20;
/// The number at the end of the file.
const LENGTH_BYTES: usize = 4;
const ENTRY_BYTES: usize = 1 + 4 + Id::BYTES;
const ENTRY_COMPRESSED_BYTES: usize = ENTRY_BYTES + 4;
/// Reading this many bytes from the end of a pack usually catches the whole header: 15 entries.
pub const TAIL_BYTES: u32 = (15 * ENTRY_COMPRESSED_BYTES + OVERHEAD_BYTES + LENGTH_BYTES) as u32;
/// The size packs are filled up to: 16 MiB.
pub const PACK_BYTES_TARGET: u32 = 16 << 20;
/// The number of blobs packs are filled up to: whoever writes a pack or reads its header holds what
/// lies in it, which for packs of tiny blobs would be more than the pack.
pub const PACK_BLOBS_TARGET: usize = 32_768;

/// Why a file is not a sound pack.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// Its size cannot be a pack's.
    #[error("a file of {bytes} bytes is no pack")]
    FileSize {
        /// The file's size.
        bytes: u64,
    },
    /// The length at the end makes no sense.
    #[error("the pack's header claims to be {header_bytes} bytes long in a file of {bytes}")]
    HeaderLength {
        /// What is claimed.
        header_bytes: u32,
        /// The file's size.
        bytes: u64,
    },
    /// The header does not open.
    #[error("the pack's header cannot be opened")]
    Crypto(#[source] CryptoError),
    /// An entry is cut off, of an unknown type, or impossible.
    #[error("entry {place} of the pack's header makes no sense")]
    Entry {
        /// Counted from 0.
        place: usize,
    },
    /// The lengths do not add up.
    #[error("the blobs of the pack should end at byte {bytes_expected}, but end at {bytes}")]
    Sum {
        /// Where they end by the header.
        bytes: u64,
        /// Where the header begins.
        bytes_expected: u64,
    },
    /// The pack is full: sizes are 32-bit numbers, and headers bounded.
    #[error("the pack cannot take another blob")]
    Full,
    /// Data and trees never share a pack in version 2.
    #[error("a pack of data blobs was given a tree blob, or the other way round")]
    Mixed,
}

impl PackError {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Full | Self::Mixed => "report this: the engine filled a pack wrongly",
            _ => "run `check --read-data` to learn what is damaged, then repair the repository",
        }
    }
}

/// A pack being written: keeps account of what the caller appends to the file.
#[derive(Debug, Clone)]
pub struct PackBuilder {
    kind: BlobKind,
    blobs: Vec<PackedBlob>,
    bytes: u32,
    header_bytes: u32,
}

impl PackBuilder {
    /// An empty pack for blobs of one kind.
    pub fn new(kind: BlobKind) -> Self {
        Self { kind, blobs: Vec::new(), bytes: 0, header_bytes: OVERHEAD_BYTES as u32 }
    }

    /// Takes note of a blob the caller appends to the file, and says where it lies.
    pub fn add(&mut self, blob: SealedBlob) -> Result<PackedBlob, PackError> {
        if blob.kind != self.kind {
            return Err(PackError::Mixed);
        }
        let bytes = self.bytes.checked_add(blob.length).ok_or(PackError::Full)?;
        let header_bytes = self.header_bytes + ENTRY_COMPRESSED_BYTES as u32;
        if header_bytes > HEADER_BYTES_MAX
            || bytes.checked_add(header_bytes + LENGTH_BYTES as u32).is_none()
        {
            return Err(PackError::Full);
        }
        let packed = PackedBlob { blob, offset: self.bytes };
        self.blobs.push(packed);
        (self.bytes, self.header_bytes) = (bytes, header_bytes);
        Ok(packed)
    }

    /// Whether all blobs of `other` would fit behind these, and it would still be a pack of the
    /// size packs are filled up to.
    pub fn has_room_for(&self, other: &Self) -> bool {
        let entries = (self.blobs.len() + other.blobs.len()) as u64 * ENTRY_COMPRESSED_BYTES as u64;
        u64::from(self.bytes) + u64::from(other.bytes) <= u64::from(PACK_BYTES_TARGET)
            && self.blobs.len() + other.blobs.len() <= PACK_BLOBS_TARGET
            && entries + OVERHEAD_BYTES as u64 <= u64::from(HEADER_BYTES_MAX)
    }

    /// Bytes of all blobs so far: the header comes on top.
    pub fn bytes(&self) -> u32 {
        self.bytes
    }

    /// Whether it is time to finish it: it has the size packs are filled up to, or as many blobs.
    pub fn is_full(&self) -> bool {
        self.bytes >= PACK_BYTES_TARGET || self.blobs.len() >= PACK_BLOBS_TARGET
    }

    /// The blobs so far.
    pub fn blobs(&self) -> &[PackedBlob] {
        &self.blobs
    }

    /// What the pack holds.
    pub fn kind(&self) -> BlobKind {
        self.kind
    }

    /// Appends the end of the file, header and length, to `out`, and gives the blobs for the index.
    pub fn finish(
        self,
        key: &MasterKey,
        nonce: Nonce,
        out: &mut Vec<u8>,
    ) -> Result<Vec<PackedBlob>, PackError> {
        let start = out.len();
        let mut header = Vec::with_capacity(self.header_bytes as usize);
        for packed in &self.blobs {
            append_entry(&packed.blob, &mut header);
        }
        key.seal_into(nonce, &header, out).map_err(PackError::Crypto)?;
        let header_bytes = u32::try_from(out.len() - start).map_err(|_| PackError::Full)?;
        out.extend_from_slice(&header_bytes.to_le_bytes());
        Ok(self.blobs)
    }
}

fn append_entry(blob: &SealedBlob, header: &mut Vec<u8>) {
    header.push(match (blob.kind, blob.uncompressed_length) {
        (BlobKind::Data, None) => 0,
        (BlobKind::Tree, None) => 1,
        (BlobKind::Data, Some(_)) => 2,
        (BlobKind::Tree, Some(_)) => 3,
    });
    header.extend_from_slice(&blob.length.to_le_bytes());
    if let Some(bytes) = blob.uncompressed_length {
        header.extend_from_slice(&bytes.get().to_le_bytes());
    }
    header.extend_from_slice(blob.id.as_bytes());
}

/// What the end of a pack told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PackTail {
    /// Every blob, in the order they lie.
    Blobs(Vec<PackedBlob>),
    /// The header is longer than the tail: read this many bytes from the end and ask again.
    NeedBytes(u32),
}

/// Reads the header from the last bytes of a pack of `file_bytes` bytes. `tail` is changed.
pub fn read_tail(key: &MasterKey, tail: &mut [u8], file_bytes: u64) -> Result<PackTail, PackError> {
    let is_pack = file_bytes >= (OVERHEAD_BYTES + LENGTH_BYTES) as u64
        && file_bytes <= u64::from(u32::MAX)
        && (LENGTH_BYTES..=file_bytes as usize).contains(&tail.len());
    if !is_pack {
        return Err(PackError::FileSize { bytes: file_bytes });
    }
    let (header, length) = tail.split_at_mut(tail.len() - LENGTH_BYTES);
    let header_bytes =
        length.try_into().map_or(0, |bytes: &mut [u8; 4]| u32::from_le_bytes(*bytes));
    let bytes_max = u64::from(HEADER_BYTES_MAX).min(file_bytes - LENGTH_BYTES as u64);
    if u64::from(header_bytes) > bytes_max || (header_bytes as usize) < OVERHEAD_BYTES {
        return Err(PackError::HeaderLength { header_bytes, bytes: file_bytes });
    }
    let Some(start) = header.len().checked_sub(header_bytes as usize) else {
        return Ok(PackTail::NeedBytes(header_bytes + LENGTH_BYTES as u32));
    };
    let entries = key.open_in_place(&mut header[start..]).map_err(PackError::Crypto)?;
    let blobs = read_entries(entries)?;
    let bytes_expected = file_bytes - LENGTH_BYTES as u64 - u64::from(header_bytes);
    let last = blobs.last().map(|last| u64::from(last.offset) + u64::from(last.blob.length));
    let bytes = last.unwrap_or(0);
    if bytes != bytes_expected {
        return Err(PackError::Sum { bytes, bytes_expected });
    }
    Ok(PackTail::Blobs(blobs))
}

fn read_entries(mut entries: &[u8]) -> Result<Vec<PackedBlob>, PackError> {
    let mut blobs = Vec::with_capacity(entries.len() / ENTRY_BYTES);
    let mut offset = 0_u32;
    while !entries.is_empty() {
        let wrong = PackError::Entry { place: blobs.len() };
        let blob = read_entry(&mut entries).ok_or(wrong.clone())?;
        blobs.push(PackedBlob { blob, offset });
        offset = offset.checked_add(blob.length).ok_or(wrong)?;
    }
    Ok(blobs)
}

fn read_entry(entries: &mut &[u8]) -> Option<SealedBlob> {
    let (first, rest) = entries.split_first()?;
    let (kind, is_compressed) = match first {
        0 => (BlobKind::Data, false),
        1 => (BlobKind::Tree, false),
        2 => (BlobKind::Data, true),
        3 => (BlobKind::Tree, true),
        _ => return None,
    };
    let (length, mut rest) = rest.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length);
    let mut uncompressed_length = None;
    if is_compressed {
        let (bytes, after) = rest.split_first_chunk::<4>()?;
        uncompressed_length = Some(NonZeroU32::new(u32::from_le_bytes(*bytes))?);
        rest = after;
    }
    let (id, rest) = rest.split_first_chunk::<{ Id::BYTES }>()?;
    *entries = rest;
    let blob = SealedBlob { id: Id::from_bytes(*id), kind, length, uncompressed_length };
    Some(blob).filter(|blob| blob.length as usize >= OVERHEAD_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::MASTER_KEY_BYTES;

    fn key() -> MasterKey {
        MasterKey::from_bytes(&[7; MASTER_KEY_BYTES]).unwrap()
    }

    fn blob(place: u32) -> SealedBlob {
        SealedBlob {
            id: Id::of(&place.to_le_bytes()),
            kind: BlobKind::Tree,
            length: 40 + place,
            uncompressed_length: NonZeroU32::new(place % 3 * 100),
        }
    }

    /// A pack of blobs whose bytes do not matter.
    fn pack(count: u32) -> (Vec<u8>, Vec<PackedBlob>) {
        let mut builder = PackBuilder::new(BlobKind::Tree);
        let mut file = Vec::new();
        for place in 0..count {
            let packed = builder.add(blob(place)).unwrap();
            assert_eq!(packed.offset as usize, file.len());
            file.resize(file.len() + packed.blob.length as usize, 0);
        }
        let blobs = builder.finish(&key(), [3; 16], &mut file).unwrap();
        (file, blobs)
    }

    #[test]
    fn a_header_is_read_back_from_the_tail_in_one_step_or_two() {
        for count in [0, 1, 15, 16, 300] {
            let (file, blobs) = pack(count);
            let size = file.len() as u64;
            let from = file.len().saturating_sub(TAIL_BYTES as usize);
            let mut answer = read_tail(&key(), &mut file[from..].to_vec(), size).unwrap();
            if let PackTail::NeedBytes(bytes) = answer {
                assert!(count > 15);
                let from = file.len() - bytes as usize;
                answer = read_tail(&key(), &mut file[from..].to_vec(), size).unwrap();
            }
            assert_eq!(answer, PackTail::Blobs(blobs));
        }
    }

    #[test]
    fn lengths_that_do_not_add_up_to_the_file_are_refused() {
        let (mut file, _) = pack(5);
        file.insert(0, 0);
        let size = file.len() as u64;
        let refused = read_tail(&key(), &mut file, size).unwrap_err();
        assert!(matches!(refused, PackError::Sum { .. }), "{refused}");
    }

    #[test]
    fn a_pack_cut_anywhere_or_changed_in_the_header_is_refused() {
        let (file, blobs) = pack(5);
        for cut in 0..file.len() {
            let tail = &mut file[..cut].to_vec();
            let answer = read_tail(&key(), tail, cut as u64);
            assert!(!matches!(answer, Ok(PackTail::Blobs(_))), "cut at {cut}");
        }
        let header_at = blobs.iter().map(|packed| packed.blob.length as usize).sum();
        for at in header_at..file.len() {
            let mut changed = file.clone();
            changed[at] ^= 1;
            let answer = read_tail(&key(), &mut changed, file.len() as u64);
            assert!(!matches!(answer, Ok(PackTail::Blobs(_))), "byte {at}");
        }
    }

    #[test]
    fn a_sealed_header_of_nonsense_is_refused() {
        let mut long = [2; ENTRY_COMPRESSED_BYTES];
        long[1..5].copy_from_slice(&u32::MAX.to_le_bytes());
        for entries in [&[4; ENTRY_BYTES][..], &[0; ENTRY_BYTES - 1], &[9], &long.repeat(2)] {
            let mut file = Vec::new();
            key().seal_into([3; 16], entries, &mut file).unwrap();
            let length = u32::try_from(file.len()).unwrap();
            file.extend_from_slice(&length.to_le_bytes());
            let size = file.len() as u64;
            let refused = read_tail(&key(), &mut file, size).unwrap_err();
            assert!(matches!(refused, PackError::Entry { .. }), "{refused}");
        }
    }

    #[test]
    fn a_pack_of_tiny_blobs_is_full_early_and_can_be_read_back_also_when_its_header_is() {
        let mut builder = PackBuilder::new(BlobKind::Data);
        let length = OVERHEAD_BYTES as u32;
        let tiny =
            SealedBlob { kind: BlobKind::Data, length, uncompressed_length: None, ..blob(1) };
        while !builder.is_full() {
            builder.add(tiny).unwrap();
        }
        assert_eq!(builder.blobs().len(), PACK_BLOBS_TARGET);
        let mut other = PackBuilder::new(BlobKind::Data);
        other.add(tiny).unwrap();
        assert!(!builder.has_room_for(&other) && other.has_room_for(&other.clone()));
        // As other programs make them.
        while builder.add(tiny).is_ok() {}
        assert_eq!(builder.add(tiny), Err(PackError::Full));
        assert!(builder.bytes() < PACK_BYTES_TARGET);
        let mut tail = Vec::new();
        let size = u64::from(builder.bytes());
        let blobs = builder.finish(&key(), [3; 16], &mut tail).unwrap();
        let size = size + tail.len() as u64;
        assert_eq!(read_tail(&key(), &mut tail, size), Ok(PackTail::Blobs(blobs)));
    }

    #[test]
    fn data_and_trees_never_share_a_pack_and_no_pack_outgrows_its_numbers() {
        let mut builder = PackBuilder::new(BlobKind::Data);
        assert_eq!(builder.add(blob(1)), Err(PackError::Mixed));
        let huge = SealedBlob { kind: BlobKind::Data, length: u32::MAX - 50, ..blob(1) };
        assert_eq!(builder.add(huge), Err(PackError::Full));
    }
}
