//! The signing keys at hand: those in the depot's `keys` folder, and those brought for one task.
//!
//! Which role a key signs for is said by the root, not by the key's file: a file of any name that
//! ends in `.key` will do. The keys that were brought are read where they are and copied nowhere.

use crate::error::DepotError;
use crate::place::{Place, read, write_whole};
use std::path::{Path, PathBuf};
use supervisor_trust::key::KEY_FILE_BYTES_MAX;
use supervisor_trust::{Role, Root, SigningKey};

/// Key files in a folder, at most: all that a root can list, several times over.
const KEY_FILES_MAX: usize = 512;

/// Keys that can sign.
pub struct Keyring {
    keys: Vec<Held>,
}

struct Held {
    key: SigningKey,
    is_here: bool,
}

impl Keyring {
    /// The keys in the depot's folder.
    pub fn of(place: &Place) -> Result<Self, DepotError> {
        let folder = place.keys();
        let mut paths = Vec::new();
        let entries = std::fs::read_dir(&folder).map_err(DepotError::file("read", &folder))?;
        for entry in entries.take(KEY_FILES_MAX) {
            let path = entry.map_err(DepotError::file("read", &folder))?.path();
            let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes()[0] == b'.');
            if path.extension().is_some_and(|end| end == "key") && !is_hidden {
                paths.push(path);
            }
        }
        paths.sort();
        let mut ring = Self { keys: Vec::new() };
        for path in &paths {
            ring.hold(read_key(path)?, true);
        }
        Ok(ring)
    }

    /// The same with keys that lie elsewhere.
    pub fn with(mut self, brought: &[PathBuf]) -> Result<Self, DepotError> {
        for path in brought {
            self.hold(read_key(path)?, false);
        }
        Ok(self)
    }

    /// Adds a key. `is_here`: it stays where the renewal runs.
    pub fn hold(&mut self, key: SigningKey, is_here: bool) {
        if !self.keys.iter().any(|held| held.key.public() == key.public()) {
            self.keys.push(Held { key, is_here });
        }
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether one of the keys made that signature.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.keys.iter().any(|held| held.key.public().verifies(message, signature))
    }

    /// The keys at hand that `root` lists for `role`.
    pub fn listed(&self, root: &Root, role: Role) -> Vec<&SigningKey> {
        let listed = &root.role(role).keyids;
        let keys = self.keys.iter().map(|held| &held.key);
        keys.filter(|key| listed.contains(&key.public().id())).collect()
    }

    /// How many of them stay in the depot's folder.
    pub fn here(&self, root: &Root, role: Role) -> usize {
        let listed = &root.role(role).keyids;
        let here = self.keys.iter().filter(|held| held.is_here);
        here.filter(|held| listed.contains(&held.key.public().id())).count()
    }

    /// Enough keys to sign for `role`, or what is missing.
    pub fn signers(
        &self,
        place: &Place,
        root: &Root,
        role: Role,
    ) -> Result<Vec<&SigningKey>, DepotError> {
        let keys = self.listed(root, role);
        let threshold = root.role(role).threshold;
        if keys.len() >= threshold {
            return Ok(keys);
        }
        Err(match (keys.len(), threshold) {
            (0, 1) => DepotError::NoKey { role, path: place.key(role) },
            (have, threshold) => DepotError::TooFewKeys { role, have, threshold },
        })
    }
}

/// Reads one key's file.
pub fn read_key(path: &Path) -> Result<SigningKey, DepotError> {
    let bytes = read(path, KEY_FILE_BYTES_MAX as u64)?;
    let text = String::from_utf8(bytes).map_err(|_| DepotError::damaged(path, "it is no text"))?;
    SigningKey::from_text(&text).map_err(|error| DepotError::damaged(path, error))
}

/// Writes a new key into `folder`; where it is.
pub fn write_key(folder: &Path, role: Role, key: &SigningKey) -> Result<PathBuf, DepotError> {
    let id = key.public().id();
    let path = folder.join(format!("{role}-{}.key", &id.as_str()[..8]));
    write_whole(&path, key.to_text().as_bytes(), 0o600)?;
    Ok(path)
}
