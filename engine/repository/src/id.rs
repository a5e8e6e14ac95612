//! Names of everything in a repository: SHA-256 sums.
//!
//! A blob is named by the sum of its *plaintext*, a file by the sum of its bytes as stored. Both
//! are an [`Id`]; what it names is said by where it stands.

use std::fmt;
use std::str::FromStr;

/// A SHA-256 sum that names a blob or a file. Written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Id([u8; Id::BYTES]);

impl Id {
    /// Length of an id in bytes.
    pub const BYTES: usize = 32;
    /// Length of an id as text.
    pub const TEXT_BYTES: usize = 64;
    /// All zeros: stands for "no id" where the format needs one.
    pub const ZERO: Self = Self([0; Self::BYTES]);

    /// The id whose bytes these are.
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// The id of these bytes: their SHA-256 sum.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(bytes);
        hasher.finish()
    }

    /// The id's bytes.
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// The first eight digits, as people quote ids.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..4])
    }

    /// The id written as exactly 64 lower-case hexadecimal digits, `None` for anything else.
    pub fn from_text(text: &[u8]) -> Option<Self> {
        if text.len() != Self::TEXT_BYTES {
            return None;
        }
        let mut bytes = [0; Self::BYTES];
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(bytes))
    }

    /// Appends the id as text.
    pub fn append_text(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.text());
    }

    fn text(&self) -> [u8; Self::TEXT_BYTES] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; Self::TEXT_BYTES];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        text
    }
}

/// The value of each byte as a lower-case hexadecimal digit; 255 is none.
const DIGIT_VALUES: [u8; 256] = {
    let mut values = [255; 256];
    let mut digit = 0;
    while digit < 16 {
        values[b"0123456789abcdef"[digit as usize] as usize] = digit;
        digit += 1;
    }
    values
};

fn digit(byte: u8) -> Option<u8> {
    Some(DIGIT_VALUES[usize::from(byte)]).filter(|value| *value < 16)
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text();
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an id: 64 lower-case hexadecimal digits")]
pub struct IdError {
    text: String,
}

impl FromStr for Id {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::from_text(text.as_bytes())
            .ok_or_else(|| IdError { text: text.chars().take(Self::TEXT_BYTES + 1).collect() })
    }
}

impl serde::Serialize for Id {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Id {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = Id;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an id of 64 lower-case hexadecimal digits")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Id, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// Computes an [`Id`] from bytes that come piece by piece.
///
/// Hardware is used where it is found at run time: SHA-NI by `sha2`; on ARM, where `sha2` has no
/// fast path, NEON and the SHA extension by ring.
#[derive(Clone)]
pub struct Hasher(Backend);

#[cfg(not(any(target_arch = "arm", target_arch = "aarch64")))]
type Backend = sha2::Sha256;
#[cfg(any(target_arch = "arm", target_arch = "aarch64"))]
type Backend = ring::digest::Context;

impl Hasher {
    /// A hasher that has seen nothing.
    #[cfg(not(any(target_arch = "arm", target_arch = "aarch64")))]
    pub fn new() -> Self {
        Self(<sha2::Sha256 as sha2::Digest>::new())
    }

    /// A hasher that has seen nothing.
    #[cfg(any(target_arch = "arm", target_arch = "aarch64"))]
    pub fn new() -> Self {
        Self(ring::digest::Context::new(&ring::digest::SHA256))
    }

    /// Takes in the next bytes.
    #[cfg(not(any(target_arch = "arm", target_arch = "aarch64")))]
    pub fn update(&mut self, bytes: &[u8]) {
        sha2::Digest::update(&mut self.0, bytes);
    }

    /// Takes in the next bytes.
    #[cfg(any(target_arch = "arm", target_arch = "aarch64"))]
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The id of all bytes taken in.
    #[cfg(not(any(target_arch = "arm", target_arch = "aarch64")))]
    pub fn finish(self) -> Id {
        Id(sha2::Digest::finalize(self.0).into())
    }

    /// The id of all bytes taken in.
    #[cfg(any(target_arch = "arm", target_arch = "aarch64"))]
    pub fn finish(self) -> Id {
        let mut bytes = [0; Id::BYTES];
        bytes.copy_from_slice(self.0.finish().as_ref());
        Id(bytes)
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Self::new()
    }
}

impl std::io::Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF_ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn the_id_of_bytes_is_their_sha256_however_they_come() {
        assert_eq!(Id::of(b"abc").to_string(), OF_ABC);
        let mut hasher = Hasher::new();
        hasher.update(b"a");
        hasher.update(b"");
        hasher.update(b"bc");
        assert_eq!(hasher.finish(), OF_ABC.parse().unwrap());
    }

    #[test]
    fn only_64_lower_case_hexadecimal_digits_are_an_id() {
        assert!(OF_ABC.parse::<Id>().is_ok());
        for wrong in [&OF_ABC[1..], &OF_ABC.to_uppercase(), &OF_ABC.replace('b', "g"), ""] {
            assert!(wrong.parse::<Id>().is_err(), "{wrong}");
        }
        assert!(format!("{OF_ABC}0").parse::<Id>().is_err());
    }

    #[test]
    fn an_id_is_a_string_in_json() {
        let id = Id::of(b"abc");
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, format!("\"{OF_ABC}\""));
        assert_eq!(serde_json::from_str::<Id>(&json).unwrap(), id);
    }
}
