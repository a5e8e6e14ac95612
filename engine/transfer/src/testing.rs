//! For tests and benchmarks: the blob index without a backup around it; folders of a few files that
//! go the way of large ones.

use crate::index::Index;
use crate::repository::{nonce, unwritable};
use crate::{Cancel, Repository, Result};
use engine_repository::index::IndexWriter;
use engine_repository::{BlobKind, FileKind, Id, PackedBlob};

/// The blob index of a repository.
pub struct BlobIndex(Index);

impl BlobIndex {
    /// Brings the index up to date with the repository.
    pub fn load(repository: &Repository) -> Result<Self> {
        Index::load_or_stop(repository, &Cancel::new()).map(Self)
    }

    /// Whether a blob is in a pack.
    pub fn has(&self, kind: BlobKind, id: &Id) -> Result<bool> {
        self.0.has(kind, id)
    }

    /// In which pack a blob is, and where there.
    pub fn find(&self, kind: BlobKind, id: &Id) -> Result<Option<(Id, PackedBlob)>> {
        Ok(self.0.find(kind, id)?.map(|location| (location.pack, location.packed)))
    }

    /// Takes in a pack that was just stored.
    pub fn stored(&self, pack: Id, blobs: &[PackedBlob]) -> Result<()> {
        self.0.stored(pack, blobs)
    }

    /// How many blobs of before there are.
    pub fn blobs(&self) -> u64 {
        self.0.blobs()
    }

    /// Bytes of memory held.
    pub fn held_bytes(&self) -> usize {
        self.0.held_bytes()
    }
}

/// The repository, which holds no more of a tree than so many bytes: folders with more go through
/// temporary files, as those of a hundred thousand files do otherwise.
pub fn holding_of_trees(repository: Repository, bytes_max: usize) -> Repository {
    repository.holding_of_trees(bytes_max)
}

/// Stores an index file that names these packs, which nobody wrote.
pub fn write_index(repository: &Repository, packs: &[(Id, Vec<PackedBlob>)]) -> Result<Id> {
    let bad = |cause| unwritable("an index", cause);
    let mut writer = IndexWriter::new(repository.config().version).map_err(bad)?;
    for (id, blobs) in packs {
        writer.add(id, blobs).map_err(bad)?;
    }
    let sealed = writer.finish(repository.key(), nonce()?).map_err(bad)?;
    repository.save_sealed(FileKind::Index, &sealed)
}
