//! What a repository's index files say, as a stream.
//!
//! One index file is held at a time, as sealed as it was stored: some MiB. Its JSON, which is ten
//! times that, is never whole in memory.

use crate::errors::Cause;
use crate::repository::damaged;
use crate::{Repository, Result, TransferError};
use engine_repository::compress::Decompressor;
use engine_repository::{FileKind, Id, IndexReader, PackedBlob, unpacked};
use engine_storage::{Name, StorageError, list_all};

/// Shows every entry of every index file: the index file, the pack, and the blob with its place
/// in the pack. Entries of one pack in one index file come together. Says which files were read.
///
/// An index file that was removed since it was listed is passed over; one that is damaged, or an
/// error of `each`, ends it.
pub(crate) fn each_entry(
    repository: &Repository,
    each: &mut dyn FnMut(Id, Id, &PackedBlob) -> Result<()>,
) -> Result<Vec<Id>> {
    let mut files = Vec::new();
    for (file, _) in list_all(repository.storage().as_ref(), FileKind::Index)? {
        if each_entry_of(repository, file, &mut |pack, packed| each(file, pack, packed))? {
            files.push(file);
        }
    }
    Ok(files)
}

/// Shows every entry of one index file. `false` when the file is not there: a prune removed it,
/// or something merged it into another.
///
/// Of a damaged file, entries may have been shown before the damage was found.
pub(crate) fn each_entry_of(
    repository: &Repository,
    file: Id,
    each: &mut dyn FnMut(Id, &PackedBlob) -> Result<()>,
) -> Result<bool> {
    let spoilt = |cause| damaged(Name::of(FileKind::Index, file), cause);
    let mut sealed = match repository.read_sealed(FileKind::Index, file) {
        Err(TransferError::Storage(StorageError::NotFound { .. })) => return Ok(false),
        sealed => sealed?,
    };
    let mut decompressor = Decompressor::new();
    let json = unpacked::open_stream(&mut sealed, repository.key(), &mut decompressor)
        .map_err(|cause| spoilt(Cause::from(cause)))?;
    for entry in IndexReader::new(json) {
        let entry = entry.map_err(|cause| spoilt(Cause::from(cause)))?;
        each(entry.pack, &entry.packed)?;
    }
    Ok(true)
}
