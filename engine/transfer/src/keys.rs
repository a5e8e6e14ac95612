//! The passwords of a repository: each is a key file of its own that seals the same master key.
//!
//! A new key is written, read back and opened before any old one is removed; the key in use is
//! never removed by `key_remove`. Adding takes a shared lock, removing an exclusive one, as in
//! restic. A password that is changed was known to whoever kept a copy of the old key file: they
//! still have the master key.

use crate::locks::HeldLock;
use crate::repository::{damaged, key_file};
use crate::{Repository, Result, TransferError};
use engine_repository::key_file::KEY_FILE_BYTES_MAX;
use engine_repository::{FileKind, Id, KdfCost, KeyFile};
use engine_storage::{Name, StorageError, list_all};

/// A key, as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// Its id.
    pub id: Id,
    /// Whether it is the one the repository was opened with.
    pub is_current: bool,
    /// Who made it.
    pub username: String,
    /// On which computer.
    pub hostname: String,
    /// When (RFC 3339).
    pub created: String,
}

/// All keys, oldest first.
pub fn key_list(repository: &Repository) -> Result<Vec<KeyInfo>> {
    let _lock = HeldLock::acquire(repository, false)?;
    let mut keys = Vec::new();
    for (id, _) in list_all(repository.storage().as_ref(), FileKind::Key)? {
        let file = match read(repository, id) {
            Err(TransferError::Storage(StorageError::NotFound { .. })) => continue,
            file => file?,
        };
        let is_current = id == repository.key_id();
        let created = (file.created, file.created.to_string());
        keys.push((
            created.0,
            KeyInfo {
                id,
                is_current,
                username: file.username,
                hostname: file.hostname,
                created: created.1,
            },
        ));
    }
    keys.sort_by_key(|(created, key)| (*created, key.id));
    Ok(keys.into_iter().map(|(_, key)| key).collect())
}

/// Adds a password. The answer is its key, which was found to open with it.
pub fn key_add(repository: &Repository, password: &str) -> Result<Id> {
    let _lock = HeldLock::acquire(repository, false)?;
    add(repository, password)
}

/// Removes the key that is meant by the unambiguous beginning of an id.
pub fn key_remove(repository: &Repository, text: &str) -> Result<Id> {
    let lock = HeldLock::acquire(repository, true)?;
    let mut found = Vec::new();
    for (id, _) in list_all(repository.storage().as_ref(), FileKind::Key)? {
        if !text.is_empty() && id.to_string().starts_with(text) {
            found.push(id);
        }
    }
    let text: String = text.chars().take(Id::TEXT_BYTES).collect();
    let none = |reason: String| Err(TransferError::NoKey { reason });
    match found[..] {
        [] => none(format!("no key has an id that begins with `{text}`")),
        [id] if id == repository.key_id() => Err(TransferError::KeyInUse { id }),
        [id] => {
            lock.must_be_held()?;
            repository.storage().remove(Name::of(FileKind::Key, id))?;
            Ok(id)
        }
        _ => none(format!("{} keys have ids that begin with `{text}`", found.len())),
    }
}

/// Replaces the password the repository was opened with. The answer is the new key.
pub fn key_passwd(repository: &Repository, password: &str) -> Result<Id> {
    let lock = HeldLock::acquire(repository, true)?;
    let id = add(repository, password)?;
    lock.must_be_held()?;
    repository.storage().remove(Name::of(FileKind::Key, repository.key_id()))?;
    Ok(id)
}

fn add(repository: &Repository, password: &str) -> Result<Id> {
    let bytes = key_file(repository.key(), password, KdfCost::OURS, repository.who())?;
    let id = repository.save_sealed(FileKind::Key, &bytes)?;
    let opened = read(repository, id).and_then(|file| {
        file.open(password).map_err(|cause| damaged(Name::of(FileKind::Key, id), cause))
    });
    match opened {
        Ok(master) if master.to_bytes() == repository.key().to_bytes() => Ok(id),
        other => {
            let _ = repository.storage().remove(Name::of(FileKind::Key, id));
            let cause = "it holds another master key after being written".to_owned();
            Err(other.err().unwrap_or_else(|| damaged(Name::of(FileKind::Key, id), cause)))
        }
    }
}

fn read(repository: &Repository, id: Id) -> Result<KeyFile> {
    let name = Name::of(FileKind::Key, id);
    let bytes = repository.storage().read(name, KEY_FILE_BYTES_MAX as u64)?;
    KeyFile::from_json(&bytes).map_err(|cause| damaged(name, cause))
}
