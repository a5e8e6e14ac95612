//! What index and listing say about each other.

use super::{Checker, INDEX_LOST, LOST, PACK_LOST, UNTIDY};
use crate::errors::sentence;
use crate::index::{Index, RunBuilder};
use crate::sorter::{Sorted, Sorter};
use crate::{Result, TransferError};
use engine_repository::crypto::OVERHEAD_BYTES;
use engine_repository::{FileKind, Id, PackedBlob};
use engine_storage::list_all;

/// What the index says about a pack.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) blobs: u32,
    /// The pack's size, as its blobs and its header add up.
    pub(crate) bytes: u64,
}

/// The length at the end of a pack, and the seal of its header.
const PACK_END_BYTES: u64 = 4 + OVERHEAD_BYTES as u64;
/// Bytes of a header for each blob: more if it is compressed.
const ENTRY_BYTES: u64 = 37;
const ENTRY_COMPRESSED_BYTES: u64 = 41;

impl Known {
    pub(crate) fn add(&mut self, packed: &PackedBlob) {
        if self.blobs == 0 {
            self.bytes = PACK_END_BYTES;
        }
        self.blobs += 1;
        self.bytes += u64::from(packed.blob.length);
        self.bytes += match packed.blob.uncompressed_length {
            Some(_) => ENTRY_COMPRESSED_BYTES,
            None => ENTRY_BYTES,
        };
    }
}

/// What the index files say, read from the repository whatever is in the cache.
pub(super) struct Told {
    pub(super) index: Index,
    /// A pack, the number of an index file, and what that one says of the pack; in their order.
    pub(super) packs: Sorter<PACK_BYTES>,
}

/// An id, then big-endian numbers.
const PACK_BYTES: usize = 48;
/// An id and a size, big-endian.
const LISTED_BYTES: usize = 40;
/// The same, and what the index says.
const THERE_BYTES: usize = 52;

fn sorter<const BYTES: usize>(checker: &Checker<'_>) -> Sorter<BYTES> {
    let held_bytes = checker.repository.plan().index_bytes / 16;
    Sorter::new(checker.repository.cache(), usize::try_from(held_bytes).unwrap_or(usize::MAX))
}

/// Reads all index files. One that is damaged is a finding.
pub(super) fn load_index(checker: &Checker<'_>) -> Result<Told> {
    let (repository, cancel) = (checker.repository, checker.cancel);
    let mut builder = RunBuilder::unnamed(repository)?;
    let mut packs = sorter(checker);
    let files = list_all(repository.storage().as_ref(), FileKind::Index)?;
    for (number, (id, _)) in (0_u32..).zip(files) {
        let mut open: Option<(Id, Known)> = None;
        let added = builder.add_file(repository, id, cancel, &mut |pack, packed| {
            if let Some((done, known)) = open.take_if(|(open, _)| *open != pack) {
                packs.push(told(&done, number, known))?;
            }
            open.get_or_insert((pack, Known::default())).1.add(packed);
            Ok(())
        });
        if let Some((pack, known)) = open {
            packs.push(told(&pack, number, known))?;
        }
        match added {
            Ok(_) => {}
            Err(error @ TransferError::Damaged { .. }) => {
                checker.damage(sentence(&error), INDEX_LOST);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Told { index: Index::of_built(repository, builder, cancel)?, packs })
}

fn told(pack: &Id, file: u32, known: Known) -> [u8; PACK_BYTES] {
    let mut record = [0; PACK_BYTES];
    record[..32].copy_from_slice(pack.as_bytes());
    record[32..36].copy_from_slice(&file.to_be_bytes());
    record[36..40].copy_from_slice(&known.blobs.to_be_bytes());
    record[40..].copy_from_slice(&known.bytes.to_be_bytes());
    record
}

fn part<const BYTES: usize>(record: &[u8], at: usize) -> [u8; BYTES] {
    let mut part = [0; BYTES];
    part.copy_from_slice(&record[at..at + BYTES]);
    part
}

/// Each pack once, in order. A pack may be in several index files, with the same blobs; in one it
/// may be named in several places.
struct KnownPacks {
    records: std::iter::Peekable<Sorted<PACK_BYTES>>,
}

impl KnownPacks {
    fn next(&mut self) -> Result<Option<(Id, Known)>> {
        let Some(record) = self.records.next() else { return Ok(None) };
        let record = record?;
        let mut known = Known::default();
        known.and(&record);
        while let Some(more) = self.records.next_if(|more| match more {
            Ok(more) => more[..32] == record[..32],
            Err(_) => true,
        }) {
            let more = more?;
            if more[32..36] == record[32..36] {
                known.and(&more);
            }
        }
        Ok(Some((Id::from_bytes(part(&record, 0)), known)))
    }
}

impl Known {
    fn and(&mut self, record: &[u8; PACK_BYTES]) {
        // The end of the pack is counted once.
        let end = if self.blobs == 0 { 0 } else { PACK_END_BYTES };
        self.blobs = self.blobs.saturating_add(u32::from_be_bytes(part(record, 36)));
        self.bytes += u64::from_be_bytes(part(record, 40)).saturating_sub(end);
    }
}

/// The packs that are there and known, and their bytes.
pub(super) struct PacksThere {
    packs: Sorter<THERE_BYTES>,
    pub(super) count: u64,
    pub(super) bytes: u64,
}

impl PacksThere {
    pub(super) fn none(checker: &Checker<'_>) -> Self {
        Self { packs: sorter(checker), count: 0, bytes: 0 }
    }

    /// Each pack, its size, and what the index says of it.
    pub(super) fn each(self) -> Result<impl Iterator<Item = Result<(Id, u64, Known)>>> {
        let sorted = self.packs.finish()?;
        Ok(sorted.map(|record| {
            let record = record?;
            let blobs = u32::from_be_bytes(part(&record, 40));
            let known = Known { blobs, bytes: u64::from_be_bytes(part(&record, 44)) };
            Ok((Id::from_bytes(part(&record, 0)), u64::from_be_bytes(part(&record, 32)), known))
        }))
    }

    pub(super) fn push(&mut self, id: &Id, bytes: u64, known: Known) -> Result<()> {
        let mut record = [0; THERE_BYTES];
        record[..32].copy_from_slice(id.as_bytes());
        record[32..40].copy_from_slice(&bytes.to_be_bytes());
        record[40..44].copy_from_slice(&known.blobs.to_be_bytes());
        record[44..].copy_from_slice(&known.bytes.to_be_bytes());
        self.count += 1;
        self.bytes += bytes;
        self.packs.push(record)
    }
}

/// Compares the packs that are there with what the index says. Gives those that are there.
pub(super) fn compare_packs(
    checker: &Checker<'_>,
    packs: Sorter<PACK_BYTES>,
) -> Result<PacksThere> {
    let listed = listed_packs(checker)?;
    let mut joined = PacksThere::none(checker);
    let mut known = KnownPacks { records: packs.finish()?.peekable() };
    let mut next = known.next()?;
    let (mut unknown, mut last) = (0_u64, None);
    for record in listed {
        let record = record?;
        if last.replace(record) == Some(record) {
            continue;
        }
        let (id, bytes) = (Id::from_bytes(part(&record, 0)), u64::from_be_bytes(part(&record, 32)));
        checker.lock().report.packs += 1;
        while let Some((missing, _)) = next.filter(|(known, _)| *known < id) {
            checker.damage(format!("pack {missing} is missing"), LOST);
            next = known.next()?;
        }
        let Some((_, told_of)) = next.filter(|(known, _)| *known == id) else {
            unknown += 1;
            continue;
        };
        if told_of.bytes != bytes {
            let fact = format!("pack {id} has {bytes} bytes, but should have {}", told_of.bytes);
            checker.damage(fact, PACK_LOST);
        }
        next = known.next()?;
        joined.push(&id, bytes, told_of)?;
    }
    while let Some((missing, _)) = next {
        checker.damage(format!("pack {missing} is missing"), LOST);
        next = known.next()?;
    }
    if unknown > 0 {
        let fact = format!("{unknown} packs are in no index, as after a backup that was cut off");
        checker.untidy(fact, UNTIDY);
    }
    Ok(joined)
}

fn listed_packs(checker: &Checker<'_>) -> Result<Sorted<LISTED_BYTES>> {
    let mut listed = sorter::<LISTED_BYTES>(checker);
    let mut failure = None;
    checker.repository.storage().list(FileKind::Pack, &mut |id, bytes| {
        let mut record = [0; LISTED_BYTES];
        record[..32].copy_from_slice(id.as_bytes());
        record[32..].copy_from_slice(&bytes.to_be_bytes());
        if failure.is_none() {
            failure = listed.push(record).err();
        }
        Ok(())
    })?;
    match failure {
        Some(error) => Err(error),
        None => listed.finish(),
    }
}
