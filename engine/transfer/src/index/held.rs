//! Every place of every blob, in memory, for whoever decides which of them are needed.
//!
//! Sorted records of 48 bytes, found by bisection.

use super::{Location, each_entry_of};
use crate::{Repository, Result};
use engine_repository::{BlobKind, Id, PackedBlob, SealedBlob};
use std::collections::HashMap;
use std::num::NonZeroU32;

/// One blob. 48 bytes.
#[derive(Clone, Copy)]
pub(crate) struct Record {
    pub(crate) id: Id,
    pub(crate) pack: u32,
    offset: u32,
    pub(crate) length: u32,
    /// 0: not compressed.
    uncompressed_length: u32,
}

impl Record {
    fn new(pack: u32, packed: &PackedBlob) -> Self {
        Self {
            id: packed.blob.id,
            pack,
            offset: packed.offset,
            length: packed.blob.length,
            uncompressed_length: packed.blob.uncompressed_length.map_or(0, NonZeroU32::get),
        }
    }

    pub(crate) fn offset(&self) -> u32 {
        self.offset
    }

    pub(crate) fn location(&self, kind: BlobKind, packs: &[Id]) -> Location {
        let uncompressed_length = NonZeroU32::new(self.uncompressed_length);
        let blob = SealedBlob { id: self.id, kind, length: self.length, uncompressed_length };
        let pack = packs.get(self.pack as usize).copied().unwrap_or(Id::ZERO);
        Location { pack, packed: PackedBlob { blob, offset: self.offset } }
    }
}

fn place(kind: BlobKind) -> usize {
    match kind {
        BlobKind::Data => 0,
        BlobKind::Tree => 1,
    }
}

/// An index being read.
#[derive(Default)]
pub(crate) struct IndexBuilder {
    packs: Vec<Id>,
    records: [Vec<Record>; 2],
}

impl IndexBuilder {
    /// Takes in one blob. Those of a pack usually come together.
    pub(crate) fn add(&mut self, pack: Id, packed: &PackedBlob) {
        if self.packs.last() != Some(&pack) {
            self.packs.push(pack);
        }
        let number = u32::try_from(self.packs.len() - 1).unwrap_or(u32::MAX);
        self.records[place(packed.blob.kind)].push(Record::new(number, packed));
    }

    /// Takes in an index file and shows each entry of it.
    pub(crate) fn add_file_with(
        &mut self,
        repository: &Repository,
        id: Id,
        each: &mut dyn FnMut(Id, &PackedBlob),
    ) -> Result<()> {
        each_entry_of(repository, id, &mut |pack, packed| {
            self.add(pack, packed);
            each(pack, packed);
            Ok(())
        })?;
        Ok(())
    }
}

/// Every place of every blob, for whoever decides which of them are needed.
impl IndexBuilder {
    /// Sorts, and keeps all copies of a blob that is in several packs. Each pack has one number.
    /// Packs that are not `there` are left out, and what lay in them.
    pub(crate) fn finish_with_copies(mut self, there: &dyn Fn(&Id) -> bool) -> Index {
        let mut numbers = HashMap::new();
        let mut packs = Vec::new();
        let known: Vec<Option<u32>> = self
            .packs
            .iter()
            .map(|pack| {
                there(pack).then(|| {
                    *numbers.entry(*pack).or_insert_with(|| {
                        packs.push(*pack);
                        u32::try_from(packs.len() - 1).unwrap_or(u32::MAX)
                    })
                })
            })
            .collect();
        for records in &mut self.records {
            records.retain_mut(|record| match known[record.pack as usize] {
                Some(number) => {
                    record.pack = number;
                    true
                }
                None => false,
            });
            records.sort_unstable_by_key(|record| (record.id, record.pack, record.offset));
            records.dedup_by_key(|record| (record.id, record.pack, record.offset));
            records.shrink_to_fit();
        }
        Index { packs, records: self.records }
    }
}

impl Index {
    /// All packs, by their numbers.
    pub(crate) fn packs(&self) -> &[Id] {
        &self.packs
    }

    /// All blobs of a kind, copies beside each other.
    pub(crate) fn records(&self, kind: BlobKind) -> &[Record] {
        &self.records[place(kind)]
    }

    /// The place of a blob's first copy among the records of its kind.
    pub(crate) fn first_place(&self, kind: BlobKind, id: &Id) -> Option<usize> {
        let records = self.records(kind);
        let at = records.partition_point(|record| record.id < *id);
        records.get(at).filter(|record| record.id == *id).map(|_| at)
    }
}

/// Where every blob lies.
pub(crate) struct Index {
    packs: Vec<Id>,
    records: [Vec<Record>; 2],
}
