//! A file's hash: what it must be, and what it is while the file is being read.
//!
//! The lists written here carry SHA-256. Another's may carry SHA-512 alone, which is believed as
//! well; of a file that has both, the first is checked.

use crate::json::Value;
use sha2::{Digest, Sha256, Sha512};

/// The hash that was signed for a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileHash {
    /// SHA-256: what is written here.
    Sha256([u8; 32]),
    /// SHA-512, of a file that has no other.
    Sha512([u8; 64]),
}

impl FileHash {
    /// Reads a list's `hashes`; nothing when there is none that is known here.
    pub(crate) fn read(hashes: &Value) -> Option<Self> {
        let text = |name| hashes.get(name).map(Value::as_text);
        if let Some(text) = text("sha256") {
            let mut bytes = [0; 32];
            hex::decode_to_slice(text?, &mut bytes).ok()?;
            return Some(Self::Sha256(bytes));
        }
        let mut bytes = [0; 64];
        hex::decode_to_slice(text("sha512")??, &mut bytes).ok()?;
        Some(Self::Sha512(bytes))
    }

    /// What stands in a list's `hashes`.
    pub(crate) fn to_value(self) -> Value {
        let name = match self {
            Self::Sha256(_) => "sha256",
            Self::Sha512(_) => "sha512",
        };
        Value::object([(name, Value::text(self.to_hex()))])
    }

    /// The hash in hex digits, as it stands before the name of a file that is served.
    pub fn to_hex(self) -> String {
        match self {
            Self::Sha256(bytes) => hex::encode(bytes),
            Self::Sha512(bytes) => hex::encode(bytes),
        }
    }
}

/// A file's hash while it is being read.
#[derive(Debug, Clone)]
pub(crate) enum Hasher {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    /// Of the kind that `wanted` is.
    pub(crate) fn like(wanted: FileHash) -> Self {
        match wanted {
            FileHash::Sha256(_) => Self::Sha256(Sha256::new()),
            FileHash::Sha512(_) => Self::Sha512(Sha512::new()),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Sha512(hash) => hash.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> FileHash {
        match self {
            Self::Sha256(hash) => FileHash::Sha256(hash.finalize().into()),
            Self::Sha512(hash) => FileHash::Sha512(hash.finalize().into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_hash_that_is_known_counts_and_a_broken_one_is_not_passed_over() {
        let hashes = |text: &str| FileHash::read(&Value::parse(text.as_bytes()).unwrap());
        let (short, long) = ("ab".repeat(32), "cd".repeat(64));
        let both = hashes(&format!("{{\"sha256\":\"{short}\",\"sha512\":\"{long}\"}}"));
        assert_eq!(both, Some(FileHash::Sha256([0xab; 32])));
        let one = hashes(&format!("{{\"sha512\":\"{long}\"}}"));
        assert_eq!(one, Some(FileHash::Sha512([0xcd; 64])));
        assert_eq!(one.unwrap().to_hex(), long);
        assert_eq!(hashes(&format!("{{\"sha256\":\"ab\",\"sha512\":\"{long}\"}}")), None);
        assert_eq!(hashes(&format!("{{\"sha3\":\"{long}\"}}")), None);
    }

    #[test]
    fn a_hash_of_either_kind_is_that_of_all_the_pieces() {
        for wanted in [FileHash::Sha256([0; 32]), FileHash::Sha512([0; 64])] {
            let mut hasher = Hasher::like(wanted);
            [&b"the "[..], b"", b"package"].iter().for_each(|piece| hasher.update(piece));
            let hex = hasher.finish().to_hex();
            let whole = match wanted {
                FileHash::Sha256(_) => hex::encode(Sha256::digest(b"the package")),
                FileHash::Sha512(_) => hex::encode(Sha512::digest(b"the package")),
            };
            assert_eq!(hex, whole);
        }
    }
}
