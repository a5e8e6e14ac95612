//! The chunker of new repositories: a gear hash with two masks (FastCDC's normalised chunking), its
//! table made from the master key, so that the sizes of chunks tell nobody what is in them.
//!
//! ```text
//! table[i]  = the i-th u64le of HMAC-SHA-256(k, "holdfast gear table 1" || block u8), blocks 0..64
//! k         = the 32 bytes of the master key's cipher key
//! hash      = (hash << 1) + table[byte], from byte (minimum - 64) of a chunk on, starting at 0
//! cut after the first byte, from the minimum on, where the topmost bits of the hash are zero:
//!   22 of them before the middle (1 MiB), 18 behind it; or at the maximum
//! ```

use super::{CHUNK_BYTES_MAX, CHUNK_BYTES_MIN};
use crate::crypto::MasterKey;
use hmac::{Hmac, Mac};
use std::fmt;
use zeroize::Zeroize;

/// What makes the table ours, and this its first version.
const LABEL: &[u8] = b"holdfast gear table 1";
/// Bytes that still show in the hash: it has 64 bits, and each byte moves them by one.
const WINDOW_BYTES: usize = 64;
/// Where cutting becomes sixteen times as likely: 1 MiB.
const MIDDLE_BYTES: usize = 1 << 20;
const MASK_BEFORE: u64 = !0 << (64 - 22);
const MASK_BEHIND: u64 = !0 << (64 - 18);

/// Bytes of a table.
pub const TABLE_BYTES: usize = 256 * 8;

/// What a gear chunker cuts by. It tells nothing about the key it was made of; but whoever knows it
/// can tell from the sizes of chunks which known files are in a repository.
#[derive(Clone, PartialEq, Eq)]
pub struct GearTable([u64; 256]);

impl GearTable {
    /// The table of the repository of this key.
    pub fn of_key(key: &MasterKey) -> Self {
        let mut bytes = [0; TABLE_BYTES];
        for (block, part) in (0_u8..).zip(bytes.chunks_exact_mut(32)) {
            part.copy_from_slice(&expand(key, block));
        }
        let table = Self::from_bytes(&bytes);
        bytes.zeroize();
        table
    }

    /// The numbers one after the other, each with its lowest byte first.
    pub fn from_bytes(bytes: &[u8; TABLE_BYTES]) -> Self {
        let mut table = [0; 256];
        for (entry, part) in table.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *entry = u64::from_le_bytes(*part);
        }
        Self(table)
    }

    /// As [`GearTable::from_bytes`] takes it.
    pub fn to_bytes(&self) -> [u8; TABLE_BYTES] {
        let mut bytes = [0; TABLE_BYTES];
        for (entry, part) in self.0.iter().zip(bytes.as_chunks_mut::<8>().0) {
            *part = entry.to_le_bytes();
        }
        bytes
    }
}

impl fmt::Debug for GearTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GearTable")
    }
}

impl Drop for GearTable {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// See the module.
#[derive(Clone)]
pub struct GearChunker {
    table: [u64; 256],
    /// The table's numbers shifted by one.
    twice: [u64; 256],
    hash: u64,
    /// Bytes of the chunk seen so far.
    length: usize,
}

impl GearChunker {
    /// A chunker for the repository of this key.
    pub fn new(key: &MasterKey) -> Self {
        Self::by(&GearTable::of_key(key))
    }

    /// A chunker that cuts by a table.
    pub fn by(table: &GearTable) -> Self {
        let table = table.0;
        Self { table, twice: table.map(|entry| entry << 1), hash: 0, length: 0 }
    }

    /// See [`super::Chunker::next_cut`].
    pub fn next_cut(&mut self, data: &[u8]) -> Option<usize> {
        let mut at = 0;
        // Nothing is cut here, and what stands here has left the hash before something is.
        at += self.pass_over(data, CHUNK_BYTES_MIN - WINDOW_BYTES);
        // The byte that makes the minimum full may be the last one, so hash up to it unseen.
        let unseen = (CHUNK_BYTES_MIN - 1).saturating_sub(self.length).min(data.len() - at);
        for byte in &data[at..at + unseen] {
            self.roll(*byte);
        }
        at += unseen;
        self.length += unseen;
        for (end, mask) in [(MIDDLE_BYTES, MASK_BEFORE), (CHUNK_BYTES_MAX, MASK_BEHIND)] {
            let seen = end.saturating_sub(self.length).min(data.len() - at);
            if let Some(place) = self.scan(&data[at..at + seen], mask) {
                self.reset();
                return Some(at + place + 1);
            }
            at += seen;
            self.length += seen;
        }
        if self.length == CHUNK_BYTES_MAX {
            self.reset();
            return Some(at);
        }
        None
    }

    /// See [`super::Chunker::reset`].
    pub fn reset(&mut self) {
        (self.hash, self.length) = (0, 0);
    }

    fn pass_over(&mut self, data: &[u8], until: usize) -> usize {
        let passed = until.saturating_sub(self.length).min(data.len());
        self.length += passed;
        passed
    }

    #[inline(always)]
    fn roll(&mut self, byte: u8) {
        self.hash = (self.hash << 1).wrapping_add(self.table[usize::from(byte)]);
    }

    /// The place of the first byte after which the bits of `mask` are zero.
    ///
    /// Two bytes a step: the second hash is worked out from the one before the first, so that the
    /// processor need not wait for the first.
    #[inline]
    fn scan(&mut self, data: &[u8], mask: u64) -> Option<usize> {
        let (table, twice, mut hash) = (&self.table, &self.twice, self.hash);
        let (pairs, last) = data.as_chunks::<2>();
        for (place, [first, second]) in pairs.iter().enumerate() {
            let (first, second) = (usize::from(*first), usize::from(*second));
            let between = (hash << 1).wrapping_add(table[first]);
            hash = (hash << 2).wrapping_add(twice[first].wrapping_add(table[second]));
            if between & mask == 0 {
                return Some(2 * place);
            }
            if hash & mask == 0 {
                return Some(2 * place + 1);
            }
        }
        self.hash = hash;
        let last = *last.first()?;
        self.roll(last);
        (self.hash & mask == 0).then_some(data.len() - 1)
    }
}

impl Drop for GearChunker {
    fn drop(&mut self) {
        self.table.zeroize();
        self.twice.zeroize();
    }
}

fn expand(key: &MasterKey, block: u8) -> [u8; 32] {
    // HMAC takes a key of any length, so this cannot fail; an empty block would be no secret.
    let Ok(mut mac) = Hmac::<sha2::Sha256>::new_from_slice(key.cipher_key()) else {
        return [0; 32];
    };
    mac.update(LABEL);
    mac.update(&[block]);
    mac.finalize().into_bytes().into()
}
