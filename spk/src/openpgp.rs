//! OpenPGP for DSM 5.1 to 6.2: RSA keys as `gpg` writes them, detached signatures it verifies.
//!
//! Signing takes a version 4 RSA key, with a passphrase or without, and makes a binary version 4
//! signature with SHA-256: what the GnuPG in those DSMs reads. A time stamp is somebody else's
//! message around that signature.
//!
//! **Not here:** clock and network. When a signature is made is told, and who stamps it is the
//! caller's to ask.

use pgp::armor::BlockType;
use pgp::composed::{
    ArmorOptions, Deserializable, DetachedSignature, Message, SignedPublicKey, SignedSecretKey,
};
use pgp::crypto::hash::HashAlgorithm;
use pgp::crypto::public_key::PublicKeyAlgorithm;
use pgp::packet::{
    PublicKey, PublicSubkey, SignatureConfig, SignatureType, Subpacket, SubpacketData,
};
use pgp::ser::Serialize;
use pgp::types::{KeyDetails, KeyId, Password, SigningKey, Timestamp};
use std::io::{Cursor, Read};
use std::time::{Duration, UNIX_EPOCH};

/// A key file or a signature larger than this is refused, in bytes.
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// What a time stamp encloses is a signature: more is refused, in bytes.
const STAMPED_BYTES_MAX: u64 = 64 * 1024;

/// Keys in one keyring.
const KEYS_MAX: usize = 100;

/// Why there is no signature, or none to believe.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenPgpError {
    /// Not a key.
    #[error("it is no {what} of OpenPGP that can be read")]
    Unreadable {
        /// What it should be.
        what: &'static str,
        /// Why not.
        #[source]
        cause: Box<pgp::errors::Error>,
    },
    /// Larger than anything of its kind.
    #[error("it has {bytes} bytes; a key or a signature has at most {FILE_BYTES_MAX}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// A key that is not RSA.
    #[error("the key {id} is not an RSA key that may sign")]
    NotRsa {
        /// The key's id.
        id: String,
    },
    /// The key cannot be opened, or signing failed otherwise.
    #[error("the key {id} does not sign")]
    Sign {
        /// The key's id.
        id: String,
        /// Why.
        #[source]
        cause: Box<pgp::errors::Error>,
    },
    /// No key of the keyring made it.
    #[error("the signature is by the key {signer}, which the keyring does not hold")]
    Stranger {
        /// The signer's key id, as the signature says.
        signer: String,
    },
    /// It is about other bytes.
    #[error("the signature by the key {signer} does not fit: the package was changed since")]
    Wrong {
        /// The signer's key id.
        signer: String,
    },
}

impl OpenPgpError {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => {
                "export it with `gpg --armor --export KEY`, or `--export-secret-keys` to sign"
            }
            Self::TooLarge { .. } => "give one key, or a small keyring",
            Self::NotRsa { .. } => {
                "make one with `gpg --quick-generate-key NAME rsa4096 sign never`; DSM 5 and 6 \
                 know no younger kind"
            }
            Self::Sign { .. } => "give the right passphrase with --password-file",
            Self::Stranger { .. } => "give the signer's public key with --keyring",
            Self::Wrong { .. } => "do not install it; fetch the package from its maker again",
        }
    }
}

fn bounded(bytes: &[u8]) -> Result<&[u8], OpenPgpError> {
    match bytes.len() {
        0..=FILE_BYTES_MAX => Ok(bytes),
        bytes => Err(OpenPgpError::TooLarge { bytes }),
    }
}

fn unreadable(what: &'static str) -> impl Fn(pgp::errors::Error) -> OpenPgpError {
    move |cause| OpenPgpError::Unreadable { what, cause: Box::new(cause) }
}

fn is_armored(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().starts_with(b"-----BEGIN PGP ")
}

/// A key that signs.
pub struct Signer {
    key: SignedSecretKey,
    password: Password,
}

impl Signer {
    /// Reads a secret key as `gpg --export-secret-keys` writes it, with or without armour.
    pub fn parse(bytes: &[u8], password: Option<&str>) -> Result<Self, OpenPgpError> {
        let bytes = bounded(bytes)?;
        let key = if is_armored(bytes) {
            SignedSecretKey::from_armor_single(bytes).map(|(key, _)| key)
        } else {
            SignedSecretKey::from_bytes(bytes)
        };
        let key = key.map_err(unreadable("secret key"))?;
        key.verify_bindings().map_err(unreadable("sound secret key"))?;
        Ok(Self { key, password: password.map_or_else(Password::empty, Password::from) })
    }

    /// The id of the key that signs.
    pub fn id(&self) -> String {
        match self.subkey() {
            Some(subkey) => subkey.key.legacy_key_id().to_string(),
            None => self.key.primary_key.legacy_key_id().to_string(),
        }
    }

    /// The signing subkey, if there is one: `gpg` prefers it too.
    fn subkey(&self) -> Option<&pgp::composed::SignedSecretSubKey> {
        let may_sign = |subkey: &&pgp::composed::SignedSecretSubKey| {
            subkey.signatures.iter().any(|signature| signature.key_flags().sign())
        };
        self.key.secret_subkeys.iter().rfind(may_sign)
    }

    /// A binary detached signature about `data`, made so many seconds after 1970.
    pub fn sign(&self, data: impl Read, at_seconds: u32) -> Result<Vec<u8>, OpenPgpError> {
        match self.subkey() {
            Some(subkey) => self.sign_with(&subkey.key, data, at_seconds),
            None => self.sign_with(&self.key.primary_key, data, at_seconds),
        }
    }

    fn sign_with(
        &self,
        key: &impl SigningKey,
        data: impl Read,
        at_seconds: u32,
    ) -> Result<Vec<u8>, OpenPgpError> {
        let id = key.legacy_key_id().to_string();
        if key.algorithm() != PublicKeyAlgorithm::RSA {
            return Err(OpenPgpError::NotRsa { id });
        }
        let failed = |cause| OpenPgpError::Sign { id: id.clone(), cause: Box::new(cause) };
        let at = UNIX_EPOCH + Duration::from_secs(at_seconds.into());
        let at = Timestamp::try_from(at).unwrap_or_default();
        let mut config =
            SignatureConfig::v4(SignatureType::Binary, key.algorithm(), HashAlgorithm::Sha256);
        let subpacket = |data| Subpacket::regular(data).map_err(failed);
        config.hashed_subpackets = vec![
            subpacket(SubpacketData::IssuerFingerprint(key.fingerprint()))?,
            subpacket(SubpacketData::SignatureCreationTime(at))?,
        ];
        config.unhashed_subpackets =
            vec![subpacket(SubpacketData::IssuerKeyId(key.legacy_key_id()))?];
        let signature = config.sign(key, &self.password, data).map_err(failed)?;
        DetachedSignature::new(signature).to_bytes().map_err(failed)
    }

    /// The public key, in armour: what a depot hands to NAS boxes as one of its `keyrings`.
    pub fn public_key(&self) -> Result<String, OpenPgpError> {
        let key = self.key.to_public_key();
        key.to_armored_string(ArmorOptions::default()).map_err(unreadable("public key"))
    }
}

/// A binary signature in armour, as `syno_signature.asc` has it when nobody stamps it.
pub fn armored(signature: &[u8]) -> Result<Vec<u8>, OpenPgpError> {
    let mut text = Vec::new();
    let signature = DetachedSignature::from_bytes(bounded(signature)?);
    let signature = signature.map_err(unreadable("signature"))?;
    pgp::armor::write(&signature, BlockType::Signature, &mut text, None, true)
        .map_err(unreadable("signature"))?;
    Ok(text)
}

/// Public keys somebody trusts.
pub struct Keyring {
    keys: Vec<SignedPublicKey>,
}

/// A signature that fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The id of the key that made it.
    pub signer: String,
    /// Whose key it is, as its owner wrote it.
    pub user: String,
    /// Who stamped it: `None` when nobody did, an empty id when the keyring does not know.
    pub stamp: Option<String>,
}

impl Keyring {
    /// Reads public keys as `gpg --export` writes them, with or without armour.
    pub fn parse(bytes: &[u8]) -> Result<Self, OpenPgpError> {
        let bytes = bounded(bytes)?;
        let keys: Result<Vec<SignedPublicKey>, _> = if is_armored(bytes) {
            SignedPublicKey::from_armor_many(bytes)
                .and_then(|(keys, _)| keys.take(KEYS_MAX).collect())
        } else {
            SignedPublicKey::from_bytes_many(bytes).and_then(|keys| keys.take(KEYS_MAX).collect())
        };
        let keys = keys.map_err(unreadable("public key"))?;
        for key in &keys {
            key.verify_bindings().map_err(unreadable("sound public key"))?;
        }
        if keys.is_empty() {
            let cause = pgp::errors::Error::from(std::io::Error::other("there is no key in it"));
            return Err(unreadable("public key")(cause));
        }
        Ok(Self { keys })
    }

    /// The keyring with the keys of another.
    pub fn with(mut self, other: Self) -> Self {
        self.keys.extend(other.keys);
        self
    }

    /// Verifies the text of `syno_signature.asc` about the bytes that `data` opens.
    pub fn verify<R: Read>(
        &self,
        member: &[u8],
        mut data: impl FnMut() -> std::io::Result<R>,
    ) -> Result<Verified, OpenPgpError> {
        let member = bounded(member)?;
        let (signature, stamp) = match DetachedSignature::from_armor_single(member) {
            Ok((signature, _)) => (signature, None),
            Err(_) => {
                let (signature, stamp) = self.unstamped(member)?;
                (signature, Some(stamp))
            }
        };
        let signer = signer_of(&signature);
        let mut is_known = false;
        for (key, user) in self.verifying() {
            if !signature.signature.issuer_key_id().contains(&&key.id()) {
                continue;
            }
            is_known = true;
            let data = data().map_err(|cause| unreadable("signed package")(cause.into()))?;
            if key.fits(&signature, data) {
                return Ok(Verified { signer, user, stamp });
            }
        }
        Err(if is_known {
            OpenPgpError::Wrong { signer }
        } else {
            OpenPgpError::Stranger { signer }
        })
    }

    /// The signature inside a time stamp, and the id of the stamp's key when it is known.
    fn unstamped(&self, member: &[u8]) -> Result<(DetachedSignature, String), OpenPgpError> {
        let what = "signature";
        let source = Cursor::new(member.to_vec());
        let (message, _) = Message::from_armor(source).map_err(unreadable(what))?;
        let mut message = message.decompress().map_err(unreadable(what))?;
        let mut inner = Vec::new();
        let read = (&mut message).take(STAMPED_BYTES_MAX).read_to_end(&mut inner);
        read.map_err(|cause| unreadable(what)(cause.into()))?;
        let stamped = self.verifying().find(|(key, _)| key.made(&message));
        let by = stamped.map_or(String::new(), |(key, _)| key.id().to_string());
        let signature = if is_armored(&inner) {
            DetachedSignature::from_armor_single(&inner[..]).map(|(signature, _)| signature)
        } else {
            DetachedSignature::from_bytes(&inner[..])
        };
        Ok((signature.map_err(unreadable(what))?, by))
    }

    /// Every key that could have signed, with its owner's name.
    fn verifying(&self) -> impl Iterator<Item = (Verifier<'_>, String)> {
        self.keys.iter().flat_map(|key| {
            let user = key.details.users.first();
            let user = user.map(|user| String::from_utf8_lossy(user.id.id()).into_owned());
            let user = user.unwrap_or_default();
            let subkeys = key.public_subkeys.iter().map(|subkey| Verifier::Sub(&subkey.key));
            let all = std::iter::once(Verifier::Primary(&key.primary_key)).chain(subkeys);
            all.map(move |key| (key, user.clone()))
        })
    }
}

/// A key of a keyring: its owner's own, or one below it.
enum Verifier<'a> {
    Primary(&'a PublicKey),
    Sub(&'a PublicSubkey),
}

impl Verifier<'_> {
    fn id(&self) -> KeyId {
        match self {
            Self::Primary(key) => key.legacy_key_id(),
            Self::Sub(key) => key.legacy_key_id(),
        }
    }

    fn fits(&self, signature: &DetachedSignature, data: impl Read) -> bool {
        match self {
            Self::Primary(key) => signature.signature.verify(*key, data).is_ok(),
            Self::Sub(key) => signature.signature.verify(*key, data).is_ok(),
        }
    }

    fn made(&self, message: &Message<'_>) -> bool {
        match self {
            Self::Primary(key) => message.verify(*key).is_ok(),
            Self::Sub(key) => message.verify(*key).is_ok(),
        }
    }
}

fn signer_of(signature: &DetachedSignature) -> String {
    let ids = signature.signature.issuer_key_id();
    ids.first().map_or_else(|| "without an id".to_owned(), |id| id.to_string())
}
