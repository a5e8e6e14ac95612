//! Where every blob lies: the index files of a repository, in memory.
//!
//! Blobs of before are sorted records of 48 bytes, found by bisection; blobs of this run are in a
//! hash table beside them. The rest of the room only uses the handful of functions here, so that
//! an index on disk can take this one's place.

mod entries;

use crate::{Repository, Result};
use engine_repository::{BlobKind, Id, PackedBlob, SealedBlob};
pub(crate) use entries::{each_entry, each_entry_of};
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{PoisonError, RwLock};

/// Where one blob lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) pack: Id,
    pub(crate) packed: PackedBlob,
}

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

    /// Sorts. A blob that is in several packs is taken from the first.
    pub(crate) fn finish(mut self) -> Index {
        for records in &mut self.records {
            records.sort_unstable_by_key(|record| (record.id, record.pack));
            records.dedup_by_key(|record| record.id);
            records.shrink_to_fit();
        }
        Index { packs: self.packs, records: self.records, recent: RwLock::default() }
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
        Index { packs, records: self.records, recent: RwLock::default() }
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

#[derive(Default)]
struct Recent {
    packs: Vec<Id>,
    records: [HashMap<Id, Record>; 2],
}

/// Where every blob lies.
pub(crate) struct Index {
    packs: Vec<Id>,
    records: [Vec<Record>; 2],
    recent: RwLock<Recent>,
}

impl Index {
    /// Reads all index files of a repository.
    pub(crate) fn load(repository: &Repository) -> Result<Self> {
        let mut builder = IndexBuilder::default();
        each_entry(repository, &mut |_, pack, packed| {
            builder.add(pack, packed);
            Ok(())
        })?;
        Ok(builder.finish())
    }

    /// Where a blob lies, `None` when it is in no pack.
    pub(crate) fn find(&self, kind: BlobKind, id: &Id) -> Option<Location> {
        let records = &self.records[place(kind)];
        if let Ok(at) = records.binary_search_by_key(id, |record| record.id) {
            return Some(records[at].location(kind, &self.packs));
        }
        let recent = self.recent.read().unwrap_or_else(PoisonError::into_inner);
        recent.records[place(kind)].get(id).map(|record| record.location(kind, &recent.packs))
    }

    /// Whether a blob is in a pack.
    pub(crate) fn has(&self, kind: BlobKind, id: &Id) -> bool {
        self.find(kind, id).is_some()
    }

    /// Takes in a pack that was just stored.
    pub(crate) fn stored(&self, pack: Id, blobs: &[PackedBlob]) {
        let mut recent = self.recent.write().unwrap_or_else(PoisonError::into_inner);
        let number = u32::try_from(recent.packs.len()).unwrap_or(u32::MAX);
        recent.packs.push(pack);
        for packed in blobs {
            recent.records[place(packed.blob.kind)]
                .insert(packed.blob.id, Record::new(number, packed));
        }
    }

    /// How many blobs of before there are.
    pub(crate) fn blobs(&self) -> u64 {
        self.records.iter().map(|records| records.len() as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(number: u32, kind: BlobKind) -> PackedBlob {
        let id = Id::of(&number.to_le_bytes());
        let blob =
            SealedBlob { id, kind, length: number, uncompressed_length: NonZeroU32::new(number) };
        PackedBlob { blob, offset: number * 2 }
    }

    #[test]
    fn every_blob_is_found_where_it_lies_and_no_other() {
        let mut builder = IndexBuilder::default();
        let pack = |number: u32| Id::of(&[number as u8; 3]);
        for number in 0..10 {
            for blob in 0..100 {
                builder.add(pack(number), &packed(number * 100 + blob, BlobKind::Data));
            }
        }
        builder.add(pack(10), &packed(5, BlobKind::Data));
        builder.add(pack(10), &packed(6, BlobKind::Tree));
        let index = builder.finish();
        index.stored(pack(11), &[packed(5000, BlobKind::Tree)]);
        assert_eq!(index.blobs(), 1001);
        for number in 0..1000 {
            let expected = packed(number, BlobKind::Data);
            let found = index.find(BlobKind::Data, &expected.blob.id).unwrap();
            assert_eq!(found, Location { pack: pack(number / 100), packed: expected });
        }
        let tree = packed(5000, BlobKind::Tree);
        assert_eq!(index.find(BlobKind::Tree, &tree.blob.id).unwrap().pack, pack(11));
        assert!(!index.has(BlobKind::Data, &tree.blob.id), "data and trees are two worlds");
        assert!(!index.has(BlobKind::Tree, &packed(7, BlobKind::Tree).blob.id));
    }

    #[test]
    fn a_blob_takes_48_bytes() {
        assert_eq!(std::mem::size_of::<Record>(), 48);
    }
}
