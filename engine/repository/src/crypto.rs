//! Sealing and opening: AES-256 in counter mode with Poly1305-AES.
//!
//! A sealed unit is `nonce (16) || ciphertext || tag (16)`. The nonce is the counter's first block,
//! all sixteen bytes counting big-endian, and also what the one-time key of the tag is made from:
//! `r || AES-128_k(nonce)`. The tag covers the ciphertext only. One key serves the whole
//! repository, so a nonce must be random and must never come twice.

use aes::{Aes128, Aes256};
use cipher::{BlockEncrypt, InnerIvInit, KeyInit, StreamCipher};
use poly1305::{Poly1305, universal_hash::UniversalHash};
use std::io::{self, BufRead, BufReader, Read};
use zeroize::Zeroize;

/// Length of a nonce in bytes.
pub const NONCE_BYTES: usize = 16;
/// Length of a tag in bytes.
pub const TAG_BYTES: usize = 16;
/// A sealed unit is this many bytes longer than what is in it.
pub const OVERHEAD_BYTES: usize = NONCE_BYTES + TAG_BYTES;
/// How many random bytes make a master key.
pub const MASTER_KEY_BYTES: usize = 64;

/// Cipher and authenticator take turns over pieces of this size, which stay in the first cache.
const PIECE_BYTES: usize = 8 * 1024;

/// A random number used once.
pub type Nonce = [u8; NONCE_BYTES];

/// Why a unit was not opened or sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CryptoError {
    /// Too short to hold a nonce and a tag.
    #[error("{bytes} bytes are too few for sealed data, which has at least {OVERHEAD_BYTES}")]
    TooShort {
        /// Its length.
        bytes: usize,
    },
    /// The tag does not fit: another key, or changed bytes.
    #[error("the data does not fit its seal: it was damaged, or sealed with another key")]
    Tag,
    /// A nonce or key of nothing but zeros: the source of random numbers is broken.
    #[error("a key or nonce of nothing but zeros")]
    Zero,
}

impl CryptoError {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::TooShort { .. } | Self::Tag => {
                "run `check --read-data` to learn what is damaged, and test the disk and memory"
            }
            Self::Zero => "the system's random numbers do not work: restart the computer",
        }
    }
}

/// A repository's master key (or the key a password gives), with its schedules worked out.
#[derive(Clone)]
pub struct MasterKey {
    encrypt: [u8; 32],
    mac_k: [u8; 16],
    mac_r: [u8; 16],
    cipher: Aes256,
    mac_cipher: Aes128,
}

impl MasterKey {
    /// A key from 64 bytes: 32 of the cipher, 16 of the tag's AES, 16 of Poly1305's `r`.
    ///
    /// For a new repository they are random; for a password they come from scrypt.
    pub fn from_bytes(bytes: &[u8; MASTER_KEY_BYTES]) -> Result<Self, CryptoError> {
        let part = |range: std::ops::Range<usize>| &bytes[range];
        let mut key = Self {
            encrypt: [0; 32],
            mac_k: [0; 16],
            mac_r: [0; 16],
            cipher: Aes256::new(part(0..32).into()),
            mac_cipher: Aes128::new(part(32..48).into()),
        };
        key.encrypt.copy_from_slice(part(0..32));
        key.mac_k.copy_from_slice(part(32..48));
        key.mac_r.copy_from_slice(part(48..64));
        let is_zero = |part: &[u8]| part.iter().all(|byte| *byte == 0);
        if is_zero(&key.encrypt) || is_zero(&key.mac_k) || is_zero(&key.mac_r) {
            return Err(CryptoError::Zero);
        }
        Ok(key)
    }

    /// The bytes [`MasterKey::from_bytes`] takes. Erase them after use.
    pub fn to_bytes(&self) -> [u8; MASTER_KEY_BYTES] {
        let mut bytes = [0; MASTER_KEY_BYTES];
        bytes[..32].copy_from_slice(&self.encrypt);
        bytes[32..48].copy_from_slice(&self.mac_k);
        bytes[48..].copy_from_slice(&self.mac_r);
        bytes
    }

    /// Seals what stands in `unit` from byte `start` on. There, `unit` holds 16 bytes of room for
    /// the nonce and then the plaintext; the tag is appended.
    pub fn seal_in_place(
        &self,
        nonce: Nonce,
        unit: &mut Vec<u8>,
        start: usize,
    ) -> Result<(), CryptoError> {
        if nonce == [0; NONCE_BYTES] {
            return Err(CryptoError::Zero);
        }
        if unit.len() < start + NONCE_BYTES {
            return Err(CryptoError::TooShort { bytes: unit.len().saturating_sub(start) });
        }
        unit[start..start + NONCE_BYTES].copy_from_slice(&nonce);
        let mut sealing = self.seal_stream(nonce)?;
        sealing.update(&mut unit[start + NONCE_BYTES..]);
        unit.extend_from_slice(&sealing.finish());
        Ok(())
    }

    /// Appends `plaintext`, sealed, to `out`.
    pub fn seal_into(
        &self,
        nonce: Nonce,
        plaintext: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), CryptoError> {
        let start = out.len();
        out.reserve(plaintext.len() + OVERHEAD_BYTES);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(plaintext);
        self.seal_in_place(nonce, out, start)
    }

    /// Starts sealing a unit too large to be held: the nonce goes out first, then what
    /// [`SealStream::update`] makes of each piece, then the tag.
    pub fn seal_stream(&self, nonce: Nonce) -> Result<SealStream<'_>, CryptoError> {
        if nonce == [0; NONCE_BYTES] {
            return Err(CryptoError::Zero);
        }
        Ok(SealStream { cipher: self.counter(&nonce), tag: Tagger::new(self.one_time_key(&nonce)) })
    }

    /// Opens a sealed unit where it stands and gives the plaintext within it. Nothing is decrypted
    /// before the tag was found to fit.
    pub fn open_in_place<'a>(&self, unit: &'a mut [u8]) -> Result<&'a mut [u8], CryptoError> {
        let bytes = unit.len();
        if bytes < OVERHEAD_BYTES {
            return Err(CryptoError::TooShort { bytes });
        }
        let (nonce, rest) = unit.split_at_mut(NONCE_BYTES);
        let (text, tag) = rest.split_at_mut(bytes - OVERHEAD_BYTES);
        let mut copied = Nonce::default();
        copied.copy_from_slice(nonce);
        let nonce = copied;
        let state = Poly1305::new(&self.one_time_key(&nonce).into());
        if !is_same(&tag_of(state, text), tag) {
            return Err(CryptoError::Tag);
        }
        self.counter(&nonce).apply_keystream(text);
        Ok(text)
    }

    /// Opens a sealed unit that stays as it is: a reader of the plaintext within it, once the tag
    /// was found to fit.
    pub(crate) fn open_reader<'a>(
        &'a self,
        unit: &'a [u8],
    ) -> Result<impl BufRead + 'a, CryptoError> {
        let bytes = unit.len();
        if bytes < OVERHEAD_BYTES {
            return Err(CryptoError::TooShort { bytes });
        }
        let (nonce, rest) = unit.split_at(NONCE_BYTES);
        let (text, tag) = rest.split_at(bytes - OVERHEAD_BYTES);
        let nonce = Nonce::try_from(nonce).map_err(|_| CryptoError::TooShort { bytes })?;
        let state = Poly1305::new(&self.one_time_key(&nonce).into());
        if !is_same(&tag_of(state, text), tag) {
            return Err(CryptoError::Tag);
        }
        Ok(BufReader::with_capacity(PIECE_BYTES, self.decrypting(nonce, text)))
    }

    /// Decrypts what comes behind a unit's nonce, up to its tag. For units whose tag was found to
    /// fit: see [`MasterKey::seal_check`].
    pub(crate) fn decrypting<'a, R: Read + 'a>(&'a self, nonce: Nonce, text: R) -> impl Read + 'a {
        OpenReader { cipher: self.counter(&nonce), text }
    }

    /// Starts looking whether a unit too large to be held fits its seal.
    pub(crate) fn seal_check(&self, nonce: &Nonce) -> SealCheck {
        SealCheck(Tagger::new(self.one_time_key(nonce)))
    }

    fn one_time_key(&self, nonce: &Nonce) -> [u8; 32] {
        let mut pad = (*nonce).into();
        self.mac_cipher.encrypt_block(&mut pad);
        let mut key = [0; 32];
        key[..16].copy_from_slice(&self.mac_r);
        key[16..].copy_from_slice(&pad);
        key
    }

    /// What our chunker's table is made from.
    pub(crate) fn cipher_key(&self) -> &[u8; 32] {
        &self.encrypt
    }

    fn counter(&self, nonce: &Nonce) -> Counter<'_> {
        Counter::from_core(ctr::CtrCore::inner_iv_init(&self.cipher, nonce.into()))
    }
}

impl Drop for MasterKey {
    fn drop(&mut self) {
        self.encrypt.zeroize();
        self.mac_k.zeroize();
        self.mac_r.zeroize();
    }
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey(secret)")
    }
}

type Counter<'a> = ctr::Ctr128BE<&'a Aes256>;

/// Decrypts what is read.
struct OpenReader<'a, R> {
    cipher: Counter<'a>,
    text: R,
}

impl<R: Read> Read for OpenReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.text.read(buffer)?;
        self.cipher.apply_keystream(&mut buffer[..bytes]);
        Ok(bytes)
    }
}

/// A sealed unit that is looked at piece by piece, still encrypted.
pub(crate) struct SealCheck(Tagger);

impl SealCheck {
    /// The next bytes behind the nonce and before the tag.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Whether the tag is that of all that was seen.
    pub(crate) fn finish(self, tag: &[u8; TAG_BYTES]) -> Result<(), CryptoError> {
        if is_same(&self.0.finish(), tag) { Ok(()) } else { Err(CryptoError::Tag) }
    }
}

/// A unit being sealed piece by piece.
pub struct SealStream<'a> {
    cipher: Counter<'a>,
    tag: Tagger,
}

impl SealStream<'_> {
    /// Encrypts the next bytes of plaintext where they stand.
    pub fn update(&mut self, bytes: &mut [u8]) {
        for piece in bytes.chunks_mut(PIECE_BYTES) {
            self.cipher.apply_keystream(piece);
            self.tag.update(piece);
        }
    }

    /// The tag, which ends the unit.
    pub fn finish(self) -> [u8; TAG_BYTES] {
        self.tag.finish()
    }
}

/// Poly1305 over bytes that come in pieces of any length.
struct Tagger {
    state: Poly1305,
    /// The last bytes, fewer than a block.
    rest: [u8; 16],
    rest_bytes: usize,
}

impl Tagger {
    fn new(one_time_key: [u8; 32]) -> Self {
        Self { state: Poly1305::new(&one_time_key.into()), rest: [0; 16], rest_bytes: 0 }
    }

    fn update(&mut self, mut bytes: &[u8]) {
        if self.rest_bytes > 0 {
            let taken = bytes.len().min(16 - self.rest_bytes);
            self.rest[self.rest_bytes..self.rest_bytes + taken].copy_from_slice(&bytes[..taken]);
            self.rest_bytes += taken;
            bytes = &bytes[taken..];
            if self.rest_bytes < 16 {
                return;
            }
            self.state.update_padded(&self.rest);
        }
        let (blocks, rest) = bytes.split_at(bytes.len() / 16 * 16);
        self.state.update_padded(blocks);
        self.rest[..rest.len()].copy_from_slice(rest);
        self.rest_bytes = rest.len();
    }

    fn finish(self) -> [u8; TAG_BYTES] {
        self.state.compute_unpadded(&self.rest[..self.rest_bytes]).into()
    }
}

fn tag_of(mut state: Poly1305, text: &[u8]) -> [u8; TAG_BYTES] {
    let (blocks, rest) = text.split_at(text.len() / 16 * 16);
    state.update_padded(blocks);
    state.compute_unpadded(rest).into()
}

/// Compares without telling by its duration where two tags differ.
fn is_same(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len()
        && left.iter().zip(right).fold(0, |differs, (left, right)| differs | (left ^ right)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> MasterKey {
        let mut bytes = [0; MASTER_KEY_BYTES];
        for (place, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::try_from(place).unwrap() ^ 0x5a;
        }
        MasterKey::from_bytes(&bytes).unwrap()
    }

    #[test]
    fn the_tag_is_the_one_of_bernsteins_paper() {
        // "The Poly1305-AES message-authentication code", appendix B, second sample.
        let mut bytes = [7; MASTER_KEY_BYTES];
        bytes[32..48].copy_from_slice(&hex::decode("ec074c835580741701425b623235add6").unwrap());
        bytes[48..].copy_from_slice(&hex::decode("851fc40c3467ac0be05cc20404f3f700").unwrap());
        let nonce = hex::decode("fb447350c4e868c52ac3275cf9d4327e").unwrap().try_into().unwrap();
        let key = MasterKey::from_bytes(&bytes).unwrap();
        let tag = tag_of(Poly1305::new(&key.one_time_key(&nonce).into()), &[0xf3, 0xf6]);
        assert_eq!(hex::encode(tag), "f4c633c3044fc145f84f335cb81953de");
    }

    #[test]
    fn what_was_sealed_opens_again_at_every_length_and_however_it_was_cut() {
        for length in (0..100).chain([4095, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES + 7]) {
            let text: Vec<u8> = (0..length).map(|place| (place % 251) as u8).collect();
            let mut unit = b"before".to_vec();
            key().seal_into([9; 16], &text, &mut unit).unwrap();
            assert_eq!(unit.len(), 6 + length + OVERHEAD_BYTES);
            let key = key();
            let mut sealing = key.seal_stream([9; 16]).unwrap();
            let mut pieces = text.clone();
            for piece in pieces.chunks_mut(1 + length / 7) {
                sealing.update(piece);
            }
            assert_eq!(pieces, unit[22..22 + length]);
            assert_eq!(sealing.finish(), unit[22 + length..]);
            assert_eq!(key.open_in_place(&mut unit[6..]).unwrap(), text);
        }
    }

    #[test]
    fn one_changed_bit_or_a_cut_anywhere_is_noticed() {
        let mut sealed = Vec::new();
        key()
            .seal_into([9; 16], b"forty-two bytes of plaintext are sealed in", &mut sealed)
            .unwrap();
        for at in 0..sealed.len() {
            for bit in 0..8 {
                let mut changed = sealed.clone();
                changed[at] ^= 1 << bit;
                assert_eq!(key().open_in_place(&mut changed), Err(CryptoError::Tag), "byte {at}");
            }
            let mut cut = sealed[..at].to_vec();
            assert!(key().open_in_place(&mut cut).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn zeros_from_a_broken_random_source_are_refused() {
        assert_eq!(key().seal_into([0; 16], b"", &mut Vec::new()), Err(CryptoError::Zero));
        assert!(MasterKey::from_bytes(&[0; MASTER_KEY_BYTES]).is_err());
    }

    #[test]
    fn the_counter_carries_over_all_sixteen_bytes() {
        let mut unit = Vec::new();
        key().seal_into([0xff; 16], &[0; 32], &mut unit).unwrap();
        let mut second = Default::default();
        Aes256::new(&key().encrypt.into()).encrypt_block(&mut second);
        assert_eq!(unit[32..48], second[..]);
    }
}
