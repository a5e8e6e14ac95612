//! Keys: their ids, their files, and what a signature of one is worth.
//!
//! A key id is the SHA-256 of the key's canonical form, in hex, as TUF defines it. A signing key's
//! file is text, so that a person can tell what it is and copy it to paper; it must be kept where
//! only its owner can read it (mode 0600):
//!
//! ```text
//! # Holdfast depot signing key. Whoever has it can sign for the depot: keep it secret.
//! keyid=<sha256 of the public key's canonical form, hex>
//! secret=<32 bytes, hex>
//! ```

use crate::error::TrustError;
use crate::json::Value;
use ed25519_dalek::Signer;
use sha2::{Digest, Sha256};
use std::fmt;

/// A longer file is no key file.
pub const KEY_FILE_BYTES_MAX: usize = 4096;

const HEADING: &str =
    "# Holdfast depot signing key. Whoever has it can sign for the depot: keep it secret.";

/// The name of a key: 64 hex digits for keys of ours.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(String);

impl KeyId {
    /// An id as a file gives it. Whether a key of that name exists is another question.
    pub fn named(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The id's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A key that signatures are checked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey(ed25519_dalek::VerifyingKey);

impl PublicKey {
    /// The key in a root's `keys`, or nothing if it is of a kind this profile does not use.
    pub fn from_value(value: &Value) -> Option<Self> {
        let member = |name| value.get(name).and_then(Value::as_text);
        if member("keytype") != Some("ed25519") || member("scheme") != Some("ed25519") {
            return None;
        }
        let text = value.get("keyval")?.get("public")?.as_text()?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        ed25519_dalek::VerifyingKey::from_bytes(&bytes).ok().map(Self)
    }

    /// The form that stands in a root's `keys`.
    pub fn to_value(&self) -> Value {
        Value::object([
            ("keytype", Value::text("ed25519")),
            ("keyval", Value::object([("public", Value::text(hex::encode(self.bytes())))])),
            ("scheme", Value::text("ed25519")),
        ])
    }

    /// The key's id.
    pub fn id(&self) -> KeyId {
        id_of(&self.to_value())
    }

    /// The 32 bytes of the key.
    pub fn bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Whether `signature` (64 bytes) over `message` is this key's. Small-order keys and
    /// non-canonical forms are refused.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        ed25519_dalek::Signature::from_slice(signature)
            .is_ok_and(|signature| self.0.verify_strict(message, &signature).is_ok())
    }
}

/// The id that a key's form has, whatever kind of key it is.
pub(crate) fn id_of(key: &Value) -> KeyId {
    KeyId(hex::encode(Sha256::digest(key.canonical())))
}

/// A key that signs. It has no `Debug`, and is wiped from memory when dropped.
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// The key made from 32 random bytes.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// The key that checks what this one signs.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// The signature over `message`.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }

    /// The text of the key's file.
    pub fn to_text(&self) -> String {
        format!(
            "{HEADING}\nkeyid={}\nsecret={}\n",
            self.public().id(),
            hex::encode(self.0.as_bytes())
        )
    }

    /// Reads the text of a key's file; the id in it proves that the secret is whole.
    pub fn from_text(text: &str) -> Result<Self, TrustError> {
        let wrong = |what: &str| TrustError::KeyFile { what: what.to_owned() };
        if text.len() > KEY_FILE_BYTES_MAX {
            return Err(wrong("it is too long"));
        }
        let field =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        let secret = field("secret").ok_or_else(|| wrong("it has no `secret`"))?;
        let id = field("keyid").ok_or_else(|| wrong("it has no `keyid`"))?;
        let mut seed = [0; 32];
        hex::decode_to_slice(secret.trim_end(), &mut seed)
            .map_err(|_| wrong("its secret is not 64 hex digits"))?;
        let key = Self::from_seed(&seed);
        if key.public().id().as_str() != id.trim_end() {
            return Err(wrong("its secret does not belong to its keyid"));
        }
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_file_and_a_damaged_file_is_refused() {
        let key = SigningKey::from_seed(&[7; 32]);
        let text = key.to_text();
        assert_eq!(SigningKey::from_text(&text).unwrap().public(), key.public());
        let at = text.rfind("secret=").unwrap() + 10;
        let mut damaged = text.clone().into_bytes();
        damaged[at] = if damaged[at] == b'0' { b'1' } else { b'0' };
        assert!(SigningKey::from_text(&String::from_utf8(damaged).unwrap()).is_err());
        for cut in 0..text.len() - 1 {
            assert!(SigningKey::from_text(&text[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn a_key_id_is_the_hash_of_the_canonical_key() {
        // The id that python's securesystemslib gives the public key of RFC 8032's first test.
        let mut seed = [0; 32];
        hex::decode_to_slice(
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            &mut seed,
        )
        .unwrap();
        let public = SigningKey::from_seed(&seed).public();
        let form = format!(
            r#"{{"keytype":"ed25519","keyval":{{"public":"{}"}},"scheme":"ed25519"}}"#,
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        );
        assert_eq!(String::from_utf8(public.to_value().canonical()).unwrap(), form);
        assert_eq!(public.id().as_str(), hex::encode(Sha256::digest(form)));
    }

    #[test]
    fn a_small_order_key_verifies_nothing() {
        // The neutral element: plain verification would accept one signature for any message.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let value = Value::object([
            ("keytype", Value::text("ed25519")),
            ("keyval", Value::object([("public", Value::text(hex::encode(neutral)))])),
            ("scheme", Value::text("ed25519")),
        ]);
        let key = PublicKey::from_value(&value).unwrap();
        let mut signature = [0; 64];
        signature[0] = 1;
        assert!(!key.verifies(b"anything", &signature));
    }
}
