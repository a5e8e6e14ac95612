//! The four roles and what each says: root names the keys, timestamp the newest snapshot, snapshot
//! the newest list of targets, targets the files with their lengths, hashes and meaning.
//!
//! Members this profile does not know are ignored when read, and covered by the signature all the
//! same, because what is verified is the value as it came.

use crate::digest::FileHash;
use crate::error::TrustError;
use crate::json::Value;
use crate::key::{KeyId, PublicKey};
use crate::role::Role;
use crate::time::UnixSeconds;
use std::collections::BTreeMap;

/// The version of the specification that is written.
pub const SPEC_VERSION: &str = "1.0.31";

/// Keys of one role, at most.
pub const KEYS_MAX: usize = 32;

/// What every piece of metadata begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Grows with every change.
    pub version: u64,
    /// Not to be believed from this time on.
    pub expires: UnixSeconds,
}

impl Head {
    fn read(name: &str, role: Role, signed: &Value) -> Result<Self, TrustError> {
        let wrong = |what: String| TrustError::malformed(name, what);
        let text = |member: &str| {
            signed
                .get(member)
                .and_then(Value::as_text)
                .ok_or_else(|| wrong(format!("it has no text `{member}`")))
        };
        if text("_type")? != role.name() {
            return Err(wrong(format!("it is of type `{}`", shown(text("_type")?))));
        }
        if !text("spec_version")?.starts_with("1.") {
            return Err(wrong(format!("it follows TUF {}", shown(text("spec_version")?))));
        }
        let version = signed
            .get("version")
            .and_then(Value::as_u64)
            .filter(|version| *version >= 1)
            .ok_or_else(|| wrong("its `version` is not a number from 1 on".to_owned()))?;
        let expires =
            text("expires")?.parse().map_err(|error| wrong(format!("`expires` is {error}")))?;
        Ok(Self { version, expires })
    }

    fn write<const N: usize>(self, role: Role, members: [(&str, Value); N]) -> Value {
        let Value::Object(mut object) = Value::object(members) else {
            unreachable!("object() makes objects")
        };
        object.insert("_type".to_owned(), Value::text(role.name()));
        object.insert("spec_version".to_owned(), Value::text(SPEC_VERSION));
        object.insert("version".to_owned(), Value::from(self.version));
        object.insert("expires".to_owned(), Value::text(self.expires.to_string()));
        Value::Object(object)
    }
}

fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

/// Who may sign for a role, and how many of them must.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleKeys {
    /// The ids of the keys.
    pub keyids: Vec<KeyId>,
    /// How many distinct keys must have signed.
    pub threshold: usize,
}

/// The root of trust: the keys of every role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Version and expiry.
    pub head: Head,
    /// Files of a version have the version in their name, so that old and new can be had at once.
    pub consistent_snapshot: bool,
    keys: BTreeMap<KeyId, PublicKey>,
    roles: BTreeMap<Role, RoleKeys>,
}

impl Root {
    /// A root in which each role is signed by `threshold` of its keys.
    pub fn new(head: Head, roles: &[(Role, usize, &[PublicKey])]) -> Self {
        let mut root =
            Self { head, consistent_snapshot: true, keys: BTreeMap::new(), roles: BTreeMap::new() };
        for (role, threshold, keys) in roles {
            let keyids = keys.iter().map(PublicKey::id).collect();
            root.roles.insert(*role, RoleKeys { keyids, threshold: *threshold });
            root.keys.extend(keys.iter().map(|key| (key.id(), key.clone())));
        }
        root
    }

    /// Reads what was signed. Keys of other kinds are left out: they can sign nothing. An id is a
    /// name, not a claim: it need not be the key's hash, because a key is told from another by
    /// itself and one key under two names is one signer.
    pub(crate) fn read(name: &str, signed: &Value) -> Result<Self, TrustError> {
        let wrong = |what: String| TrustError::malformed(name, what);
        let head = Head::read(name, Role::Root, signed)?;
        let listed = signed
            .get("keys")
            .and_then(Value::as_object)
            .ok_or_else(|| wrong("it has no `keys`".to_owned()))?;
        let keys = listed
            .iter()
            .map(|(id, key)| (KeyId::named(id), key))
            .filter_map(|(id, key)| Some((id, PublicKey::from_value(key)?)))
            .collect();
        let mut roles = BTreeMap::new();
        for role in Role::ALL {
            let entry = signed
                .get("roles")
                .and_then(|roles| roles.get(role.name()))
                .ok_or_else(|| wrong(format!("it names no keys for {role}")))?;
            roles.insert(role, read_role(name, role, entry)?);
        }
        let consistent_snapshot = signed.get("consistent_snapshot") == Some(&Value::Bool(true));
        Ok(Self { head, consistent_snapshot, keys, roles })
    }

    /// What is to be signed.
    pub fn to_value(&self) -> Value {
        let keys = self.keys.iter().map(|(id, key)| (id.to_string(), key.to_value())).collect();
        let roles = self.roles.iter().map(|(role, keys)| {
            let ids = keys.keyids.iter().map(|id| Value::text(id.as_str())).collect();
            let value = Value::object([
                ("keyids", Value::List(ids)),
                ("threshold", Value::from(keys.threshold as u64)),
            ]);
            (role.name().to_owned(), value)
        });
        self.head.write(
            Role::Root,
            [
                ("consistent_snapshot", Value::Bool(self.consistent_snapshot)),
                ("keys", Value::Object(keys)),
                ("roles", Value::Object(roles.collect())),
            ],
        )
    }

    /// Who may sign for `role`.
    pub fn role(&self, role: Role) -> &RoleKeys {
        // Both ways of making a root fill in every role, or are refused.
        self.roles.get(&role).unwrap_or(&NOBODY)
    }

    /// The key of that id.
    pub fn key(&self, id: &KeyId) -> Option<&PublicKey> {
        self.keys.get(id)
    }
}

/// The keys of a role that a root forgot: none, and one of none is needed, so nothing verifies.
static NOBODY: RoleKeys = RoleKeys { keyids: Vec::new(), threshold: 1 };

fn read_role(name: &str, role: Role, entry: &Value) -> Result<RoleKeys, TrustError> {
    let wrong = |what: &str| TrustError::malformed(name, format!("for {role}, {what}"));
    let listed = entry
        .get("keyids")
        .and_then(Value::as_list)
        .filter(|list| list.len() <= KEYS_MAX)
        .ok_or_else(|| wrong("`keyids` is not a list of at most 32"))?;
    let mut keyids = Vec::new();
    for id in listed {
        let id = KeyId::named(id.as_text().ok_or_else(|| wrong("a key id is not a text"))?);
        if keyids.contains(&id) {
            return Err(wrong("a key id is there twice"));
        }
        keyids.push(id);
    }
    let threshold = entry
        .get("threshold")
        .and_then(Value::as_u64)
        .and_then(|threshold| usize::try_from(threshold).ok())
        .filter(|threshold| *threshold >= 1)
        .ok_or_else(|| wrong("`threshold` is not a number from 1 on"))?;
    Ok(RoleKeys { keyids, threshold })
}

/// What a signed list says about a piece of metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetaFile {
    /// Its version.
    pub version: u64,
    /// Its length in bytes, if said.
    pub length: Option<u64>,
    /// Its SHA-256, if said.
    pub sha256: Option<[u8; 32]>,
}

impl MetaFile {
    fn read(name: &str, value: &Value) -> Result<Self, TrustError> {
        let wrong = |what: &str| TrustError::malformed(name, what);
        let version = value
            .get("version")
            .and_then(Value::as_u64)
            .filter(|version| *version >= 1)
            .ok_or_else(|| wrong("a listed file has no version"))?;
        let length = match value.get("length") {
            None => None,
            Some(length) => Some(length.as_u64().ok_or_else(|| wrong("a length is no number"))?),
        };
        let sha256 = match value.get("hashes") {
            None => None,
            Some(hashes) => match FileHash::read(hashes) {
                Some(FileHash::Sha256(sha256)) => Some(sha256),
                _ => return Err(wrong("a listed file has no sha256")),
            },
        };
        Ok(Self { version, length, sha256 })
    }

    fn to_value(&self) -> Value {
        let mut members = BTreeMap::from([("version".to_owned(), Value::from(self.version))]);
        if let Some(length) = self.length {
            members.insert("length".to_owned(), Value::from(length));
        }
        if let Some(sha256) = self.sha256 {
            members.insert("hashes".to_owned(), FileHash::Sha256(sha256).to_value());
        }
        Value::Object(members)
    }
}

/// Says which snapshot is the newest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timestamp {
    /// Version and expiry.
    pub head: Head,
    /// The newest snapshot.
    pub snapshot: MetaFile,
}

impl Timestamp {
    pub(crate) fn read(name: &str, signed: &Value) -> Result<Self, TrustError> {
        let head = Head::read(name, Role::Timestamp, signed)?;
        let entry = signed
            .get("meta")
            .and_then(|meta| meta.get("snapshot.json"))
            .ok_or_else(|| TrustError::malformed(name, "it names no snapshot.json"))?;
        Ok(Self { head, snapshot: MetaFile::read(name, entry)? })
    }

    /// What is to be signed.
    pub fn to_value(&self) -> Value {
        let meta = Value::object([("snapshot.json", self.snapshot.to_value())]);
        self.head.write(Role::Timestamp, [("meta", meta)])
    }
}

/// Says which lists of targets belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Version and expiry.
    pub head: Head,
    /// Every list by its file name; `targets.json` is always there.
    pub meta: BTreeMap<String, MetaFile>,
}

impl Snapshot {
    pub(crate) fn read(name: &str, signed: &Value) -> Result<Self, TrustError> {
        let head = Head::read(name, Role::Snapshot, signed)?;
        let mut meta = BTreeMap::new();
        for (file, entry) in signed.get("meta").and_then(Value::as_object).into_iter().flatten() {
            meta.insert(file.clone(), MetaFile::read(name, entry)?);
        }
        if !meta.contains_key("targets.json") {
            return Err(TrustError::malformed(name, "it names no targets.json"));
        }
        Ok(Self { head, meta })
    }

    /// What is to be signed.
    pub fn to_value(&self) -> Value {
        let meta = self.meta.iter().map(|(name, file)| (name.clone(), file.to_value()));
        self.head.write(Role::Snapshot, [("meta", Value::Object(meta.collect()))])
    }
}

/// A file that was signed for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetFile {
    /// Its length in bytes.
    pub length: u64,
    /// Its hash.
    pub hash: FileHash,
    /// What it is; see [`crate::offer::Offer`].
    pub custom: Option<Value>,
}

impl TargetFile {
    fn read(value: &Value) -> Option<Self> {
        let length = value.get("length")?.as_u64()?;
        let hash = FileHash::read(value.get("hashes")?)?;
        Some(Self { length, hash, custom: value.get("custom").cloned() })
    }

    fn to_value(&self) -> Value {
        let mut members = BTreeMap::from([
            ("length".to_owned(), Value::from(self.length)),
            ("hashes".to_owned(), self.hash.to_value()),
        ]);
        if let Some(custom) = &self.custom {
            members.insert("custom".to_owned(), custom.clone());
        }
        Value::Object(members)
    }
}

/// The list of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Targets {
    /// Version and expiry.
    pub head: Head,
    /// The files by name. Those without a hash that is known here are left out when read.
    pub targets: BTreeMap<String, TargetFile>,
}

impl Targets {
    pub(crate) fn read(name: &str, signed: &Value) -> Result<Self, TrustError> {
        let head = Head::read(name, Role::Targets, signed)?;
        let listed = signed
            .get("targets")
            .and_then(Value::as_object)
            .ok_or_else(|| TrustError::malformed(name, "it has no `targets`"))?;
        let targets = listed
            .iter()
            .filter_map(|(path, value)| Some((path.clone(), TargetFile::read(value)?)))
            .collect();
        Ok(Self { head, targets })
    }

    /// What is to be signed.
    pub fn to_value(&self) -> Value {
        let targets = self.targets.iter().map(|(name, file)| (name.clone(), file.to_value()));
        self.head.write(Role::Targets, [("targets", Value::Object(targets.collect()))])
    }
}
