//! Restic's chunker, bit for bit: a Rabin fingerprint over a window of 64 bytes.
//!
//! A chunk starts with an empty window into which a 1 is slid. Its first (minimum - 64) bytes are
//! passed over. From the minimum on it ends after the first byte where the lowest 20 bits of the
//! fingerprint are zero, or at the maximum.

use super::{CHUNK_BYTES_MAX, CHUNK_BYTES_MIN};
use crate::polynomial::{Polynomial, degree, remainder};

const WINDOW_BYTES: usize = 64;
const CUT_MASK: u64 = (1 << 20) - 1;

/// See the module.
#[derive(Clone)]
pub struct RabinChunker {
    /// What a byte that leaves the window takes with it.
    out: [u64; 256],
    /// What the bits that grow beyond the polynomial's degree are worth.
    modulo: [u64; 256],
    shift: u32,
    /// The last bytes, as a ring.
    window: [u8; WINDOW_BYTES],
    place: usize,
    digest: u64,
    /// Bytes of the chunk seen so far.
    length: usize,
}

impl RabinChunker {
    /// A chunker for repositories with this polynomial.
    pub fn new(polynomial: Polynomial) -> Self {
        let by = polynomial.bits();
        let top = degree(by);
        let (mut out, mut modulo) = ([0; 256], [0; 256]);
        for (byte, (out, modulo)) in (0_u64..).zip(out.iter_mut().zip(modulo.iter_mut())) {
            *out = (1..WINDOW_BYTES).fold(remainder(byte, by), |hash, _| remainder(hash << 8, by));
            *modulo = remainder(byte << top, by) | byte << top;
        }
        let shift = top - 8;
        let window = [0; WINDOW_BYTES];
        let mut chunker = Self { out, modulo, shift, window, place: 0, digest: 0, length: 0 };
        chunker.reset();
        chunker
    }

    /// See [`super::Chunker::reset`].
    pub fn reset(&mut self) {
        self.window = [0; WINDOW_BYTES];
        (self.place, self.digest, self.length) = (0, 0, 0);
        self.slide(1);
    }

    /// See [`super::Chunker::next_cut`].
    pub fn next_cut(&mut self, data: &[u8]) -> Option<usize> {
        let passed = (CHUNK_BYTES_MIN - WINDOW_BYTES).saturating_sub(self.length).min(data.len());
        let unseen = (CHUNK_BYTES_MIN - 1).saturating_sub(self.length).min(data.len());
        for byte in &data[passed..unseen.max(passed)] {
            self.slide(*byte);
        }
        self.length += unseen;
        let seen = (CHUNK_BYTES_MAX - self.length).min(data.len() - unseen);
        let rest = &data[unseen..unseen + seen];
        let cut = match self.scan(rest) {
            Some(place) => Some(unseen + place + 1),
            None if self.length + seen == CHUNK_BYTES_MAX => Some(unseen + seen),
            None => None,
        };
        match cut {
            Some(_) => self.reset(),
            None => self.length += seen,
        }
        cut
    }

    #[inline(always)]
    fn slide(&mut self, byte: u8) {
        let leaving = std::mem::replace(&mut self.window[self.place], byte);
        self.place = (self.place + 1) % WINDOW_BYTES;
        self.digest = self.moved(self.digest, leaving, byte);
    }

    #[inline(always)]
    fn moved(&self, digest: u64, leaving: u8, byte: u8) -> u64 {
        let digest = digest ^ self.out[usize::from(leaving)];
        let over = (digest >> self.shift) as u8;
        (digest << 8 | u64::from(byte)) ^ self.modulo[usize::from(over)]
    }

    /// The place of the first byte after which a chunk may end.
    fn scan(&mut self, data: &[u8]) -> Option<usize> {
        let (first, _) = data.split_at(data.len().min(WINDOW_BYTES));
        for (place, byte) in first.iter().enumerate() {
            self.slide(*byte);
            if self.digest & CUT_MASK == 0 {
                return Some(place);
            }
        }
        if data.len() <= WINDOW_BYTES {
            return None;
        }
        // From here on the byte that leaves the window stands in the slice, too.
        let mut digest = self.digest;
        let cut = data.iter().zip(&data[WINDOW_BYTES..]).position(|(leaving, byte)| {
            digest = self.moved(digest, *leaving, *byte);
            digest & CUT_MASK == 0
        });
        if cut.is_none() {
            self.digest = digest;
            self.place = 0;
            self.window.copy_from_slice(&data[data.len() - WINDOW_BYTES..]);
        }
        cut.map(|place| place + WINDOW_BYTES)
    }
}
