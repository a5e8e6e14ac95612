//! Which snapshots a command is about: those named, or those a filter fits, the oldest first.

use crate::browse::{SnapshotInfo, find_snapshot};
use crate::forget::SnapshotFilter;
use crate::store::is_of_file;
use crate::{Repository, Result, TransferError};
use engine_repository::{FileKind, Id, Snapshot};
use engine_storage::{StorageError, list_all};

/// The snapshots named or, with none named, those the filter fits. One that cannot be read is
/// shown to `unreadable` and passed over.
pub(crate) fn chosen(
    repository: &Repository,
    named: &[String],
    filter: &SnapshotFilter,
    unreadable: &mut dyn FnMut(Id, &TransferError),
) -> Result<Vec<(Id, Snapshot)>> {
    let mut chosen: Vec<(Id, Snapshot)> = Vec::new();
    for text in named {
        let id = find_snapshot(repository, text)?.id;
        if chosen.iter().all(|(other, _)| *other != id) {
            chosen.push((id, repository.read_unpacked(FileKind::Snapshot, id)?));
        }
    }
    if named.is_empty() {
        for (id, _) in list_all(repository.storage().as_ref(), FileKind::Snapshot)? {
            match repository.read_unpacked::<Snapshot>(FileKind::Snapshot, id) {
                Ok(snapshot) if filter.fits(&SnapshotInfo::of(id, &snapshot)) => {
                    chosen.push((id, snapshot));
                }
                Ok(_) | Err(TransferError::Storage(StorageError::NotFound { .. })) => {}
                Err(error) if is_of_file(&error) => unreadable(id, &error),
                Err(error) => return Err(error),
            }
        }
    }
    let moment = |snapshot: &Snapshot| (snapshot.time.seconds, snapshot.time.nanoseconds);
    chosen.sort_by_key(|(id, snapshot)| (moment(snapshot), *id));
    Ok(chosen)
}
