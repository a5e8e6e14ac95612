//! The envelope `{"signatures":[{keyid,sig}],"signed":{…}}`: who signed it, and is that enough.

use crate::error::TrustError;
use crate::json::Value;
use crate::key::{KeyId, SigningKey};
use crate::role::Role;
use crate::roles::Root;

/// Signatures in one envelope, at most.
pub const SIGNATURES_MAX: usize = 64;

/// A signed piece of metadata, read but not yet believed.
#[derive(Debug, Clone)]
pub struct Envelope {
    name: String,
    signed: Value,
    signatures: Vec<(KeyId, Vec<u8>)>,
}

impl Envelope {
    /// Reads the file `name`.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self, TrustError> {
        let mut value =
            Value::parse(bytes).map_err(|error| TrustError::malformed(name, error.to_string()))?;
        let wrong = |what: &str| TrustError::malformed(name, what);
        // Taken out, not copied: a list of ten thousand files is there once.
        let signed = match value.take("signed") {
            Some(signed @ Value::Object(_)) => signed,
            _ => return Err(wrong("it has no `signed` object")),
        };
        let list = value
            .get("signatures")
            .and_then(Value::as_list)
            .ok_or_else(|| wrong("it has no list of `signatures`"))?;
        if list.len() > SIGNATURES_MAX {
            return Err(wrong("it has too many signatures"));
        }
        let mut signatures: Vec<(KeyId, Vec<u8>)> = Vec::new();
        for entry in list {
            let text = |member| entry.get(member).and_then(Value::as_text);
            let (Some(id), Some(signature)) = (text("keyid"), text("sig")) else {
                return Err(wrong("a signature has no `keyid` and `sig`"));
            };
            let id = KeyId::named(id);
            if signatures.iter().any(|(other, _)| *other == id) {
                return Err(wrong("one key id signs twice"));
            }
            // What is not hex can be no signature; it counts as a wrong one.
            signatures.push((id, hex::decode(signature).unwrap_or_default()));
        }
        Ok(Self { name: name.to_owned(), signed, signatures })
    }

    /// The root in it, for a publisher who lays it by; to be believed only after
    /// [`Envelope::verify`] by the root before it and by itself.
    pub fn root(&self) -> Result<Root, TrustError> {
        Root::read(&self.name, &self.signed)
    }

    /// What was signed; to be believed only after [`Envelope::verify`].
    pub(crate) fn signed(&self) -> &Value {
        &self.signed
    }

    /// The file's name, for messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether enough distinct keys that `root` trusts for `role` signed it.
    pub fn verify(&self, role: Role, root: &Root) -> Result<(), TrustError> {
        let trusted = root.role(role);
        let message = self.signed.canonical();
        let mut signers: Vec<&[u8; 32]> = Vec::new();
        for (id, signature) in &self.signatures {
            let Some(key) = root.key(id).filter(|_| trusted.keyids.contains(id)) else { continue };
            // Distinct by the key itself: one key under two names is one signer.
            if !signers.contains(&key.bytes()) && key.verifies(&message, signature) {
                signers.push(key.bytes());
            }
        }
        if signers.len() < trusted.threshold {
            let (valid, threshold) = (signers.len(), trusted.threshold);
            return Err(TrustError::Signature { role, valid, threshold });
        }
        Ok(())
    }
}

/// The bytes of `signed` in an envelope, signed by each of `keys`.
pub fn sign(signed: &Value, keys: &[&SigningKey]) -> Vec<u8> {
    let message = signed.canonical();
    let signatures = keys.iter().map(|key| {
        Value::object([
            ("keyid", Value::text(key.public().id().as_str())),
            ("sig", Value::text(hex::encode(key.sign(&message)))),
        ])
    });
    let envelope = Value::object([
        ("signatures", Value::List(signatures.collect())),
        ("signed", signed.clone()),
    ]);
    let mut bytes = envelope.to_json();
    bytes.push(b'\n');
    bytes
}
