//! A set of ids of any size in memory of a fixed size: which trees were seen already.
//!
//! A million trees are 32 MB of ids, which a small box has not. So only the newest are held; when
//! they are too many they go into a hash table in a file without a name, whole, because believing
//! sixty-four bits of an id would now and then take one tree for another, and prune would then
//! remove what the other needs. Ids are evenly spread sums, so their first bits are the place, and
//! those that go into the table together go in order. A question costs one read of the file, which
//! the system's page cache answers while it has room.

use crate::Result;
use crate::cache::Cache;
use crate::record_file::broken;
use engine_repository::Id;
use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Bytes a held id takes: itself, and its mark in the hash table.
const HELD_ID_BYTES: usize = Id::BYTES + 1;
/// Fewer are not worth a file.
const HELD_IDS_MIN: usize = 1 << 10;
/// Slots that are read at once.
const SLOTS_READ: u64 = 8;
const SLOT_BYTES: u64 = Id::BYTES as u64;

/// Ids, each once.
pub(crate) struct IdSet {
    cache: Cache,
    held: HashSet<Id>,
    held_max: usize,
    table: Option<Table>,
}

impl IdSet {
    /// Takes no more memory than `held_bytes_max`.
    pub(crate) fn new(cache: &Cache, held_bytes_max: usize) -> Self {
        // A hash table has a power of two of places, an eighth of them free.
        let places = (held_bytes_max / HELD_ID_BYTES + 1).next_power_of_two() / 2;
        let held_max = (places / 8 * 7).max(HELD_IDS_MIN);
        Self { cache: cache.clone(), held: HashSet::new(), held_max, table: None }
    }

    pub(crate) fn contains(&self, id: &Id) -> Result<bool> {
        if self.held.contains(id) {
            return Ok(true);
        }
        match &self.table {
            Some(table) if *id != Id::ZERO => Ok(table.find(id)?.is_none()),
            _ => Ok(false),
        }
    }

    /// Whether it was not in the set before.
    pub(crate) fn insert(&mut self, id: &Id) -> Result<bool> {
        if self.contains(id)? {
            return Ok(false);
        }
        if self.held.len() >= self.held_max {
            self.spill()?;
        }
        self.held.insert(*id);
        Ok(true)
    }

    fn spill(&mut self) -> Result<()> {
        let mut ids: Vec<Id> = self.held.drain().collect();
        ids.sort_unstable();
        let needed = self.table.as_ref().map_or(0, |table| table.used) + ids.len() as u64;
        let mut table = match self.table.take() {
            Some(table) if needed * 2 <= table.slots() => table,
            old => Table::with_room_for(needed, &self.cache, old.as_ref())?,
        };
        for id in ids {
            // All zeros is what an empty slot looks like: that one is always held.
            if id == Id::ZERO {
                self.held.insert(id);
            } else {
                table.put(&id)?;
            }
        }
        self.table = Some(table);
        Ok(())
    }
}

/// A hash table in a file, at most half full; an empty slot is zeros.
struct Table {
    file: File,
    /// The number of slots is two to the power of this.
    bits: u32,
    used: u64,
}

impl Table {
    fn with_room_for(ids: u64, cache: &Cache, old: Option<&Self>) -> Result<Self> {
        let bits = (ids * 4).next_power_of_two().trailing_zeros().clamp(4, 48);
        let file = cache.scratch_file()?;
        let mut table = Self { file, bits, used: 0 };
        table.file.set_len(table.slots() * SLOT_BYTES).map_err(broken)?;
        if let Some(old) = old {
            for first in (0..old.slots()).step_by(SLOTS_READ as usize) {
                for id in old.read(first)?.iter().filter(|id| **id != Id::ZERO) {
                    table.put(id)?;
                }
            }
        }
        Ok(table)
    }

    fn slots(&self) -> u64 {
        1 << self.bits
    }

    fn read(&self, first: u64) -> Result<[Id; SLOTS_READ as usize]> {
        let mut bytes = [0; (SLOTS_READ * SLOT_BYTES) as usize];
        self.file.read_exact_at(&mut bytes, first * SLOT_BYTES).map_err(broken)?;
        let mut ids = [Id::ZERO; SLOTS_READ as usize];
        for (id, bytes) in ids.iter_mut().zip(bytes.chunks_exact(Id::BYTES)) {
            let mut whole = [0; Id::BYTES];
            whole.copy_from_slice(bytes);
            *id = Id::from_bytes(whole);
        }
        Ok(ids)
    }

    /// The slot an id that is not there belongs into; `None` when it is there.
    fn find(&self, id: &Id) -> Result<Option<u64>> {
        let mut first_bits = [0; 8];
        first_bits.copy_from_slice(&id.as_bytes()[..8]);
        let wanted = u64::from_be_bytes(first_bits) >> (64 - self.bits);
        let mut first = wanted / SLOTS_READ * SLOTS_READ;
        let mut passed = wanted - first;
        // It is never full, so this ends.
        loop {
            for (slot, there) in (first..).zip(self.read(first)?).skip(passed as usize) {
                if there == *id {
                    return Ok(None);
                }
                if there == Id::ZERO {
                    return Ok(Some(slot));
                }
            }
            (first, passed) = ((first + SLOTS_READ) % self.slots(), 0);
        }
    }

    fn put(&mut self, id: &Id) -> Result<()> {
        if let Some(slot) = self.find(id)? {
            self.file.write_all_at(id.as_bytes(), slot * SLOT_BYTES).map_err(broken)?;
            self.used += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_new_once_however_many_there_are() {
        let mut set = IdSet::new(&Cache::none(), 0);
        let ids = || (0..20_000_u32).map(|number| Id::of(&number.to_le_bytes()));
        for id in ids().chain([Id::ZERO]) {
            assert!(set.insert(&id).unwrap());
            assert!(!set.insert(&id).unwrap());
        }
        assert!(set.held.len() <= HELD_IDS_MIN && set.table.is_some());
        for id in ids().chain([Id::ZERO]) {
            assert!(!set.insert(&id).unwrap());
        }
        // Ids that want the same slot lie behind each other, over the end of the file.
        let alike = |number: u8| {
            let mut bytes = [255; Id::BYTES];
            bytes[31] = number;
            Id::from_bytes(bytes)
        };
        let mut table = Table::with_room_for(20, &Cache::none(), None).unwrap();
        for number in 0..20 {
            assert!(table.find(&alike(number)).unwrap().is_some());
            table.put(&alike(number)).unwrap();
            table.put(&alike(number)).unwrap();
            assert!(table.find(&alike(number)).unwrap().is_none());
        }
        assert_eq!(table.used, 20);
    }
}
