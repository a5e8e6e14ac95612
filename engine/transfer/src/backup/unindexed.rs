//! Packs that are stored and that no index file names yet: the ones of this run, and those that the
//! journal of a run that was cut off remembers.

use crate::repository::{nonce, unwritable};
use crate::{Repository, Result};
use engine_repository::{FileKind, Id, IndexWriter, PackedBlob};

/// Packs that are stored and in no index file.
pub(super) type Waiting = Vec<(Id, Vec<PackedBlob>)>;

/// Writes an index file for packs that are stored.
pub(super) fn write_index(repository: &Repository, waiting: &mut Waiting) -> Result<()> {
    if waiting.is_empty() {
        return Ok(());
    }
    let bad = |cause| unwritable("an index", cause);
    let mut writer = IndexWriter::new(repository.config().version).map_err(bad)?;
    for (id, blobs) in waiting.iter() {
        writer.add(id, blobs).map_err(bad)?;
    }
    let sealed = writer.finish(repository.key(), nonce()?).map_err(bad)?;
    repository.save_sealed(FileKind::Index, &sealed)?;
    waiting.clear();
    Ok(())
}
