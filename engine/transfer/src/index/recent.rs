//! The blobs that this run of the program stored: a table in memory, and sorted runs in files
//! without names for what does not fit into it.

use super::build::sorted_run;
use super::merge::{Input, merge};
use super::page_cache::PageCache;
use super::record::Record;
use super::run::{Run, RunFile, RunWriter};
use super::shelf::apart;
use super::{Location, unreadable};
use crate::{Cancel, Repository, Result};
use engine_repository::{BlobKind, Id, PackedBlob, SealedBlob};
use std::collections::HashMap;
use std::num::NonZeroU32;

/// What a slot of the table takes: the key, the record's other half, and the table's own byte.
const SLOT_BYTES: usize = 54;
/// A table that is smaller spills all the time.
const SLOTS_MIN: usize = 128;

/// Packs that have fewer blobs fill the table before its places are taken.
const BLOBS_PER_PACK_MIN: usize = 8;

/// An id and the kind.
type Key = [u8; Id::BYTES + 1];

fn key_of(kind: BlobKind, id: &Id) -> Key {
    let mut key = [0; Id::BYTES + 1];
    key[..Id::BYTES].copy_from_slice(id.as_bytes());
    key[Id::BYTES] = kind as u8;
    key
}

/// Where a blob of the table lies.
#[derive(Clone, Copy)]
struct Place {
    pack: u32,
    offset: u32,
    length: u32,
    uncompressed_length: u32,
}

impl Place {
    fn packed(&self, kind: BlobKind, id: Id) -> PackedBlob {
        let uncompressed_length = NonZeroU32::new(self.uncompressed_length);
        let blob = SealedBlob { id, kind, length: self.length, uncompressed_length };
        PackedBlob { blob, offset: self.offset }
    }
}

/// The blobs that this run of the program stored.
pub(super) struct Recent {
    packs: Vec<Id>,
    places: HashMap<Key, Place>,
    places_max: usize,
    pub(super) runs: Vec<Run>,
}

impl Recent {
    /// The table takes so many bytes at most, and 32 for each pack in it.
    pub(super) fn new(bytes_max: usize) -> Self {
        // The table doubles, and holds seven eighths of its slots.
        let slots = (bytes_max / SLOT_BYTES).max(SLOTS_MIN);
        let slots = if slots.is_power_of_two() { slots } else { slots.next_power_of_two() / 2 };
        let places_max = slots / 8 * 7;
        Self { packs: Vec::new(), places: HashMap::new(), places_max, runs: Vec::new() }
    }

    pub(super) fn find(
        &self,
        pages: &PageCache,
        kind: BlobKind,
        id: &Id,
    ) -> Result<Option<Location>> {
        if let Some(place) = self.places.get(&key_of(kind, id)) {
            let pack = self.packs.get(place.pack as usize).copied().unwrap_or(Id::ZERO);
            return Ok(Some(Location { pack, packed: place.packed(kind, *id) }));
        }
        for run in &self.runs {
            if let Some(record) = run.find(pages, kind, id).map_err(unreadable)? {
                let pack = run.pack(pages, record.pack()).map_err(unreadable)?;
                return Ok(Some(Location { pack, packed: record.packed() }));
            }
        }
        Ok(None)
    }

    pub(super) fn has(&self, pages: &PageCache, kind: BlobKind, id: &Id) -> Result<bool> {
        if self.places.contains_key(&key_of(kind, id)) {
            return Ok(true);
        }
        for run in &self.runs {
            if run.find(pages, kind, id).map_err(unreadable)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// How many blobs there is ever room for.
    pub(super) fn places_max(&self) -> usize {
        self.places_max
    }

    /// Whether there is room for so many blobs more, of another pack.
    pub(super) fn has_room(&self, blobs: usize) -> bool {
        self.places.len() + blobs <= self.places_max
            && self.packs.len() < self.places_max / BLOBS_PER_PACK_MIN
    }

    /// Takes in blobs of a pack, for which there is room.
    pub(super) fn add(&mut self, pack: Id, blobs: &[PackedBlob]) {
        if self.places.capacity() == 0 {
            self.places.reserve(self.places_max);
        }
        let number = self.packs.len() as u32;
        self.packs.push(pack);
        for packed in blobs {
            let place = Place {
                pack: number,
                offset: packed.offset,
                length: packed.blob.length,
                uncompressed_length: packed.blob.uncompressed_length.map_or(0, |n| n.get()),
            };
            self.places.insert(key_of(packed.blob.kind, &packed.blob.id), place);
        }
    }

    /// The table as a run. What is found does not change until [`Recent::spilled_to`].
    pub(super) fn spilled(&self, repository: &Repository) -> Result<RunFile> {
        let mut packs: Vec<(Id, u32)> = self.packs.iter().map(|pack| (*pack, 0)).collect();
        let mut sorted: Vec<(&Key, &Place)> = self.places.iter().collect();
        sorted.sort_unstable_by_key(|(key, _)| **key);
        for (_, place) in &sorted {
            packs[place.pack as usize].1 += 1;
        }
        let mut records = sorted.iter().map(|(key, place)| {
            let (kind, id) = parts(key);
            Ok(Record::new(place.pack, &place.packed(kind, id)))
        });
        let file = repository.cache().scratch_file()?;
        sorted_run(repository.id(), file, &packs, sorted.len() as u64, &mut records)
    }

    /// Merges runs with another one, as long as they are not much larger. Gives the new one, and
    /// how many stay beside it.
    pub(super) fn merged(&self, repository: &Repository, new: RunFile) -> Result<(RunFile, usize)> {
        let files = self.runs.iter().map(Run::file).chain([&new]);
        let sizes: Vec<u64> = files.clone().map(|run| run.layout.records.items).collect();
        let stay = apart(&sizes).min(self.runs.len());
        let inputs: Vec<_> = files
            .skip(stay)
            .map(|run| Input { run, files: &[Id::ZERO], is_gone: &|_| false })
            .collect();
        if inputs.len() == 1 {
            return Ok((new, stay));
        }
        let file = repository.cache().scratch_file()?;
        let writer = RunWriter::new(file, repository.id(), RunFile::new_salt()?);
        Ok((merge(&inputs, writer, &Cancel::new())?, stay))
    }

    /// Puts the run that has all of the table in its place.
    pub(super) fn spilled_to(&mut self, run: Run) {
        self.runs.push(run);
        self.packs.clear();
        self.places.clear();
    }

    #[cfg(any(test, feature = "testing"))]
    pub(super) fn held_bytes(&self) -> usize {
        let slots = (self.places.capacity() / 7 * 8).next_power_of_two();
        let table = if self.places.capacity() == 0 { 0 } else { slots * SLOT_BYTES };
        let runs: usize = self.runs.iter().map(Run::held_bytes).sum();
        table + self.packs.capacity() * Id::BYTES + runs
    }
}

fn parts(key: &Key) -> (BlobKind, Id) {
    let mut id = [0; Id::BYTES];
    id.copy_from_slice(&key[..Id::BYTES]);
    let kind = if key[Id::BYTES] == BlobKind::Tree as u8 { BlobKind::Tree } else { BlobKind::Data };
    (kind, Id::from_bytes(id))
}
