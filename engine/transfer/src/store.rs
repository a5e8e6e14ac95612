//! Blobs put into packs, and packs into index files, in order: what repair and copy store with.
//!
//! Packs are durable, and asked for by their sizes, before an index file names them; an index file
//! is read back once it was written. Whatever is cut off before leaves packs no index names, which
//! the next prune removes.

use crate::careful::CarefulSealer;
use crate::index::each_entry_of;
use crate::large;
use crate::locks::HeldLock;
use crate::open_packs::{Filled, OpenPacks};
use crate::repository::{damaged, nonce, unwritable};
use crate::tree_buffer::WrittenTree;
use crate::{Repository, Result, TransferError};
use engine_repository::index::INDEX_BLOBS_MAX;
use engine_repository::{BlobKind, FileKind, Id, IndexWriter, PackedBlob, SealedBlob};
use engine_storage::{Name, StorageError, list_all};
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// An index file is written after five minutes at the latest: no more is lost to a power cut.
const INDEX_AGE_MAX: Duration = Duration::from_secs(300);

/// A pack that is durable.
struct Stored {
    id: Id,
    bytes: u64,
    blobs: Vec<PackedBlob>,
}

/// Takes blobs, and makes packs and index files of them.
pub(crate) struct Store<'a> {
    repository: &'a Repository,
    lock: &'a HeldLock,
    sealer: CarefulSealer,
    open: OpenPacks,
    sealed: Vec<u8>,
    /// Packs no index names yet.
    waiting: Vec<Stored>,
    blobs_waiting: usize,
    indexed: Instant,
}

impl<'a> Store<'a> {
    pub(crate) fn new(repository: &'a Repository, lock: &'a HeldLock) -> Self {
        Self {
            repository,
            lock,
            sealer: CarefulSealer::of(repository),
            open: OpenPacks::full(),
            sealed: Vec::new(),
            waiting: Vec::new(),
            blobs_waiting: 0,
            indexed: Instant::now(),
        }
    }

    /// Takes a blob's plaintext, and says its id.
    pub(crate) fn add(&mut self, kind: BlobKind, plaintext: &[u8]) -> Result<Id> {
        let id = Id::of(plaintext);
        let mut sealed = std::mem::take(&mut self.sealed);
        sealed.clear();
        let blob = self.sealer.seal(kind, id, plaintext, &mut sealed)?;
        self.add_sealed(&blob, &sealed)?;
        self.sealed = sealed;
        Ok(id)
    }

    /// Takes a tree.
    pub(crate) fn add_tree(&mut self, tree: &WrittenTree) -> Result<()> {
        match tree {
            WrittenTree::Held(_, json) => self.add(BlobKind::Tree, json).map(drop),
            WrittenTree::Spooled(id, json) => {
                let pack = large::seal_tree(self.repository, id, json)?;
                self.add_pack(pack)
            }
        }
    }

    /// Takes a blob that is sealed under this repository's key.
    pub(crate) fn add_sealed(&mut self, blob: &SealedBlob, sealed: &[u8]) -> Result<()> {
        match self.open.add(self.repository, *blob, sealed)? {
            Some(full) => self.add_pack(full),
            None => Ok(()),
        }
    }

    /// Takes a pack that is full.
    pub(crate) fn add_pack(&mut self, full: Filled) -> Result<()> {
        self.settle(full)?;
        if self.blobs_waiting >= INDEX_BLOBS_MAX || self.indexed.elapsed() >= INDEX_AGE_MAX {
            self.write_index()?;
        }
        Ok(())
    }

    fn settle(&mut self, Filled { file, id, bytes, blobs }: Filled) -> Result<()> {
        file.commit(id)?;
        self.blobs_waiting += blobs.len();
        self.waiting.push(Stored { id, bytes, blobs });
        Ok(())
    }

    /// Makes everything durable and findable.
    pub(crate) fn finish(&mut self) -> Result<()> {
        for filled in self.open.close_all(self.repository)? {
            self.settle(filled)?;
        }
        self.write_index()
    }

    fn write_index(&mut self) -> Result<()> {
        let mut files = IndexFiles::new(self.repository, self.lock);
        for pack in &self.waiting {
            let name = Name::of(FileKind::Pack, pack.id);
            if self.repository.storage().size(name)? != Some(pack.bytes) {
                let why = format!("it was written with {} bytes, and is not there so", pack.bytes);
                return Err(damaged(name, why));
            }
            files.add(&pack.id, &pack.blobs)?;
        }
        files.finish()?;
        self.waiting.clear();
        (self.blobs_waiting, self.indexed) = (0, Instant::now());
        Ok(())
    }
}

/// Index files being written, one after the other.
pub(crate) struct IndexFiles<'a> {
    repository: &'a Repository,
    lock: &'a HeldLock,
    writer: Option<IndexWriter>,
    written: u64,
}

impl<'a> IndexFiles<'a> {
    pub(crate) fn new(repository: &'a Repository, lock: &'a HeldLock) -> Self {
        Self { repository, lock, writer: None, written: 0 }
    }

    /// Takes a pack with all its blobs.
    pub(crate) fn add(&mut self, pack: &Id, blobs: &[PackedBlob]) -> Result<()> {
        let bad = |cause| unwritable("an index", cause);
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => IndexWriter::new(self.repository.config().version).map_err(bad)?,
        };
        writer.add(pack, blobs).map_err(bad)?;
        match writer.blobs() < INDEX_BLOBS_MAX {
            true => self.writer = Some(writer),
            false => self.save(writer)?,
        }
        Ok(())
    }

    /// Takes what an index file says but for some packs.
    pub(crate) fn add_file(&mut self, file: Id, without: &HashSet<Id>) -> Result<()> {
        let mut pack: Option<(Id, Vec<PackedBlob>)> = None;
        each_entry_of(self.repository, file, &mut |id, packed| {
            if without.contains(&id) {
                return Ok(());
            }
            match &mut pack {
                Some((open, blobs)) if *open == id => blobs.push(*packed),
                _ => {
                    if let Some((id, blobs)) = pack.replace((id, vec![*packed])) {
                        self.add(&id, &blobs)?;
                    }
                }
            }
            Ok(())
        })?;
        pack.map_or(Ok(()), |(id, blobs)| self.add(&id, &blobs))
    }

    fn save(&mut self, writer: IndexWriter) -> Result<()> {
        self.lock.must_be_held()?;
        let sealed = writer
            .finish(self.repository.key(), nonce()?)
            .map_err(|cause| unwritable("an index", cause))?;
        let id = self.repository.save_sealed(FileKind::Index, &sealed)?;
        self.repository.read_sealed(FileKind::Index, id)?;
        self.written += 1;
        Ok(())
    }

    /// Writes the last one. Says how many there are; all of them were read back.
    pub(crate) fn finish(mut self) -> Result<u64> {
        if let Some(writer) = self.writer.take() {
            self.save(writer)?;
        }
        Ok(self.written)
    }
}

/// Removes files; those that are gone already are none the worse.
pub(crate) fn remove_all(
    repository: &Repository,
    lock: &HeldLock,
    kind: FileKind,
    ids: &[Id],
) -> Result<()> {
    for id in ids {
        lock.must_be_held()?;
        match repository.storage().remove(Name::of(kind, *id)) {
            Ok(()) | Err(StorageError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// After files were removed, and before what they named is: none of them is left.
pub(crate) fn must_be_gone(repository: &Repository, kind: FileKind, removed: &[Id]) -> Result<()> {
    let gone: HashSet<_> = removed.iter().collect();
    if gone.is_empty() {
        return Ok(());
    }
    for (id, _) in list_all(repository.storage().as_ref(), kind)? {
        if gone.contains(&id) {
            let why = "it was removed, and is still listed".to_owned();
            return Err(damaged(Name::of(kind, id), why));
        }
    }
    Ok(())
}

/// Whether an error says that a file cannot be read, and nothing about the way to it.
pub(crate) fn is_of_file(error: &TransferError) -> bool {
    match error {
        TransferError::Damaged { .. } | TransferError::BlobMissing { .. } => true,
        TransferError::Storage(error) => !error.is_of_destination(),
        _ => false,
    }
}
