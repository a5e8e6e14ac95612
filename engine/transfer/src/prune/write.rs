//! The index of what stays, and the question whether all that was written is there.

use super::Job;
use super::copy::NewPack;
use super::plan::{Fate, KINDS, Plan};
use crate::Result;
use crate::repository::{damaged, nonce, unwritable};
use engine_repository::index::INDEX_BLOBS_MAX;
use engine_repository::{FileKind, Id, IndexWriter, PackedBlob};
use engine_storage::{Name, list_all};
use std::collections::HashMap;

impl Job<'_> {
    /// Writes index files of everything that stays. Gives their ids.
    pub(super) fn write_index(&self, plan: &Plan<'_>, new: &[NewPack]) -> Result<Vec<Id>> {
        let mut files = Vec::new();
        let mut writer = self.new_writer()?;
        let mut blobs: Vec<PackedBlob> = Vec::new();
        // Packs that stay hold one kind each: mixed ones are always copied.
        for kind in KINDS {
            let records = plan.index.records(kind);
            let stays = |at: &u32| plan.fates[records[*at as usize].pack as usize] == Fate::Keep;
            let count = u32::try_from(records.len()).unwrap_or(u32::MAX);
            let mut places: Vec<u32> = (0..count).filter(stays).collect();
            places.sort_unstable_by_key(|at| {
                let record = &records[*at as usize];
                (record.pack, record.offset())
            });
            let pack_of = |at: &u32| records[*at as usize].pack;
            for pack in places.chunk_by(|a, b| pack_of(a) == pack_of(b)) {
                blobs.clear();
                let packs = plan.index.packs();
                blobs.extend(
                    pack.iter().map(|at| records[*at as usize].location(kind, packs).packed),
                );
                let id = packs[pack_of(&pack[0]) as usize];
                writer = self.add(writer, id, &blobs, &mut files)?;
            }
        }
        for pack in new {
            writer = self.add(writer, pack.id, &pack.blobs, &mut files)?;
        }
        if writer.packs() > 0 {
            files.push(self.save(writer)?);
        }
        Ok(files)
    }

    fn new_writer(&self) -> Result<IndexWriter> {
        IndexWriter::new(self.repository.config().version)
            .map_err(|cause| unwritable("an index", cause))
    }

    fn add(
        &self,
        mut writer: IndexWriter,
        pack: Id,
        blobs: &[PackedBlob],
        files: &mut Vec<Id>,
    ) -> Result<IndexWriter> {
        self.may_go_on()?;
        writer.add(&pack, blobs).map_err(|cause| unwritable("an index", cause))?;
        if writer.blobs() < INDEX_BLOBS_MAX {
            return Ok(writer);
        }
        files.push(self.save(writer)?);
        self.new_writer()
    }

    fn save(&self, writer: IndexWriter) -> Result<Id> {
        let sealed = writer
            .finish(self.repository.key(), nonce()?)
            .map_err(|cause| unwritable("an index", cause))?;
        self.repository.save_sealed(FileKind::Index, &sealed)
    }

    /// Before an index names them: new packs are there, each with its size.
    pub(super) fn must_be_there(&self, packs: &[NewPack]) -> Result<()> {
        let storage = self.repository.storage();
        let mut expected: HashMap<Id, u64> = packs.iter().map(|p| (p.id, p.bytes)).collect();
        storage.list(FileKind::Pack, &mut |id, bytes| {
            if expected.get(&id) == Some(&bytes) {
                expected.remove(&id);
            }
            Ok(())
        })?;
        if let Some((id, bytes)) = expected.into_iter().next() {
            let why = format!("it was written with {bytes} bytes, and is not listed so");
            return Err(damaged(Name::of(FileKind::Pack, id), why));
        }
        Ok(())
    }

    /// Before anything is removed: each new index file has the sum it is named by.
    pub(super) fn must_read_back(&self, index_files: &[Id]) -> Result<()> {
        for id in index_files {
            self.repository.read_sealed(FileKind::Index, *id)?;
        }
        self.may_go_on()
    }
}

impl Job<'_> {
    /// Before packs are removed: no index file is left that names them.
    pub(super) fn must_be_gone(&self, index_files: &[Id]) -> Result<()> {
        for (id, _) in list_all(self.repository.storage().as_ref(), FileKind::Index)? {
            if index_files.contains(&id) {
                let why = "it was removed, and is still listed".to_owned();
                return Err(damaged(Name::of(FileKind::Index, id), why));
            }
        }
        Ok(())
    }
}
