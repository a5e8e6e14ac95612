//! Tags put on snapshots and taken off. A snapshot is a file named by its content, so a changed one
//! is a new file that remembers the first (`original`); the old one is removed after it is there.

use crate::browse::SnapshotInfo;
use crate::locks::HeldLock;
use crate::{Repository, Result};
use engine_repository::{FileKind, Id, Snapshot};
use engine_storage::Name;

/// How tags change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TagChange {
    /// These and no others, when given.
    pub set: Option<Vec<String>>,
    /// These too.
    pub add: Vec<String>,
    /// These no longer.
    pub remove: Vec<String>,
}

impl TagChange {
    fn of(&self, tags: &[String]) -> Vec<String> {
        let mut tags = match &self.set {
            Some(set) => set.iter().filter(|tag| !tag.is_empty()).cloned().collect(),
            None => tags.to_vec(),
        };
        for tag in &self.add {
            if !tags.contains(tag) {
                tags.push(tag.clone());
            }
        }
        tags.retain(|tag| !self.remove.contains(tag));
        tags
    }
}

/// Changes the tags of snapshots. Gives old and new ids of those that were changed.
pub fn tag(
    repository: &Repository,
    snapshots: &[SnapshotInfo],
    change: &TagChange,
) -> Result<Vec<(Id, Id)>> {
    let lock = HeldLock::acquire(repository, true)?;
    let mut changed = Vec::new();
    for info in snapshots {
        let mut snapshot: Snapshot = repository.read_unpacked(FileKind::Snapshot, info.id)?;
        let tags = change.of(&snapshot.tags);
        if tags == snapshot.tags {
            continue;
        }
        snapshot.tags = tags;
        snapshot.original.get_or_insert(info.id);
        lock.must_be_held()?;
        let id = repository.save_unpacked(FileKind::Snapshot, &snapshot)?;
        // Read back before the old one goes.
        let _: Snapshot = repository.read_unpacked(FileKind::Snapshot, id)?;
        repository.storage().remove(Name::of(FileKind::Snapshot, info.id))?;
        changed.push((info.id, id));
    }
    Ok(changed)
}
