//! What is sorted: entries of the index, with what becomes of them, as records of fixed size.
//!
//! Numbers are big-endian, so that bytes sort as numbers do.

use crate::Result;
use engine_repository::{BlobKind, Id, PackedBlob, SealedBlob};
use std::num::NonZeroU32;

/// A blob: its kind and its id.
pub(super) const BLOB_BYTES: usize = 1 + Id::BYTES;
/// An entry of the index, in either order.
pub(super) const PLACED_BYTES: usize = 2 + 2 * Id::BYTES + 12;
/// A pack and its size in bytes.
pub(super) const PACK_BYTES: usize = Id::BYTES + 8;
/// A pack, and the number of an index file that names it.
pub(super) const NAMED_BYTES: usize = Id::BYTES + 4;
/// A pack, and what becomes of it.
pub(super) const FATE_BYTES: usize = Id::BYTES + 1;

pub(super) type BlobRecord = [u8; BLOB_BYTES];
pub(super) type PlacedRecord = [u8; PLACED_BYTES];
pub(super) type PackRecord = [u8; PACK_BYTES];

/// What is known of an entry. Where entries of a pack are sorted by it, needed ones come first.
pub(super) mod mark {
    /// A snapshot needs it, and this is the copy that is kept.
    pub(crate) const NEEDED: u8 = 0;
    /// No snapshot needs the blob.
    pub(crate) const WASTE: u8 = 1;
    /// A snapshot needs the blob, and there are several copies, none chosen yet.
    pub(crate) const COPY: u8 = 2;
    /// A snapshot needs the blob, and another copy is kept.
    pub(crate) const SPARE: u8 = 3;
}

/// An entry of the index.
#[derive(Clone, Copy)]
pub(super) struct Placed {
    pub(super) pack: Id,
    pub(super) mark: u8,
    pub(super) packed: PackedBlob,
}

pub(super) fn kind_number(kind: BlobKind) -> u8 {
    u8::from(kind == BlobKind::Tree)
}

fn kind_of(number: u8) -> BlobKind {
    if number == 0 { BlobKind::Data } else { BlobKind::Tree }
}

pub(super) fn blob_record(kind: BlobKind, id: &Id) -> BlobRecord {
    let mut record = [0; BLOB_BYTES];
    record[0] = kind_number(kind);
    record[1..].copy_from_slice(id.as_bytes());
    record
}

pub(super) fn blob_of(record: &BlobRecord) -> (BlobKind, Id) {
    (kind_of(record[0]), id_at(record, 1))
}

pub(super) fn pack_record(pack: &Id, bytes: u64) -> PackRecord {
    let mut record = [0; PACK_BYTES];
    record[..Id::BYTES].copy_from_slice(pack.as_bytes());
    record[Id::BYTES..].copy_from_slice(&bytes.to_be_bytes());
    record
}

/// A pack and the number behind it.
pub(super) fn pack_of(record: &PackRecord) -> (Id, u64) {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&record[Id::BYTES..]);
    (id_at(record, 0), u64::from_be_bytes(bytes))
}

pub(super) fn named_record(pack: &Id, file: u32) -> [u8; NAMED_BYTES] {
    let mut record = [0; NAMED_BYTES];
    record[..Id::BYTES].copy_from_slice(pack.as_bytes());
    record[Id::BYTES..].copy_from_slice(&file.to_be_bytes());
    record
}

pub(super) fn named_of(record: &[u8; NAMED_BYTES]) -> (Id, u32) {
    (id_at(record, 0), number_at(record, Id::BYTES))
}

pub(super) fn fate_record(pack: &Id, fate: u8) -> [u8; FATE_BYTES] {
    let mut record = [fate; FATE_BYTES];
    record[..Id::BYTES].copy_from_slice(pack.as_bytes());
    record
}

/// The id that begins at a byte of a record.
pub(super) fn id_at(record: &[u8], at: usize) -> Id {
    let mut id = [0; Id::BYTES];
    id.copy_from_slice(&record[at..at + Id::BYTES]);
    Id::from_bytes(id)
}

fn number_at(record: &[u8], at: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&record[at..at + 4]);
    u32::from_be_bytes(bytes)
}

/// Where in a record the parts of an entry lie, which is the order records sort in. The lengths,
/// by which nothing is sorted, end both.
struct Layout {
    pack: usize,
    mark: usize,
    kind: usize,
    id: usize,
    offset: usize,
}

/// Sorts by pack, mark, kind and place.
const BY_PACK: Layout = Layout { pack: 0, mark: 32, kind: 33, offset: 34, id: 38 };
/// Sorts by kind, id, mark and pack. Begins as the blob's record does.
const BY_BLOB: Layout = Layout { kind: 0, id: 1, mark: 33, pack: 34, offset: 66 };
const LENGTH_AT: usize = 70;
const PLAIN_BYTES_AT: usize = 74;

impl Placed {
    /// Sorts by pack, mark, kind and place.
    pub(super) fn by_pack(&self) -> PlacedRecord {
        self.laid_out(&BY_PACK)
    }

    /// The same back.
    pub(super) fn of_by_pack(record: &PlacedRecord) -> Self {
        Self::of(record, &BY_PACK)
    }

    /// Sorts by kind, id, mark and pack. Begins as the blob's record does.
    pub(super) fn by_blob(&self) -> PlacedRecord {
        self.laid_out(&BY_BLOB)
    }

    /// The same back.
    pub(super) fn of_by_blob(record: &PlacedRecord) -> Self {
        Self::of(record, &BY_BLOB)
    }

    fn laid_out(&self, at: &Layout) -> PlacedRecord {
        let blob = &self.packed.blob;
        let mut record = [0; PLACED_BYTES];
        let mut put = |at: usize, bytes: &[u8]| {
            record[at..at + bytes.len()].copy_from_slice(bytes);
        };
        put(at.pack, self.pack.as_bytes());
        put(at.mark, &[self.mark]);
        put(at.kind, &[kind_number(blob.kind)]);
        put(at.id, blob.id.as_bytes());
        put(at.offset, &self.packed.offset.to_be_bytes());
        put(LENGTH_AT, &blob.length.to_be_bytes());
        put(PLAIN_BYTES_AT, &plain_bytes(blob).to_be_bytes());
        record
    }

    fn of(record: &PlacedRecord, at: &Layout) -> Self {
        let blob = SealedBlob {
            id: id_at(record, at.id),
            kind: kind_of(record[at.kind]),
            length: number_at(record, LENGTH_AT),
            uncompressed_length: NonZeroU32::new(number_at(record, PLAIN_BYTES_AT)),
        };
        let packed = PackedBlob { blob, offset: number_at(record, at.offset) };
        Self { pack: id_at(record, at.pack), mark: record[at.mark], packed }
    }
}

/// 0: not compressed.
fn plain_bytes(blob: &SealedBlob) -> u32 {
    blob.uncompressed_length.map_or(0, NonZeroU32::get)
}

/// Sorted records, of which the next can be looked at before it is taken, and equal ones come once.
pub(super) struct Ahead<I, T> {
    rest: I,
    next: Option<T>,
}

impl<T: Copy + PartialEq, I: Iterator<Item = Result<T>>> Ahead<I, T> {
    pub(super) fn new(mut records: I) -> Result<Self> {
        let next = records.next().transpose()?;
        Ok(Self { rest: records, next })
    }

    pub(super) fn peek(&self) -> Option<&T> {
        self.next.as_ref()
    }

    pub(super) fn take(&mut self) -> Result<Option<T>> {
        let taken = self.next;
        while self.next == taken && taken.is_some() {
            self.next = self.rest.next().transpose()?;
        }
        Ok(taken)
    }
}

/// Sorted records that are asked about in order.
pub(super) struct Lookup<I, const BYTES: usize>(Ahead<I, [u8; BYTES]>);

impl<const BYTES: usize, I: Iterator<Item = Result<[u8; BYTES]>>> Lookup<I, BYTES> {
    pub(super) fn new(records: I) -> Result<Self> {
        Ok(Self(Ahead::new(records)?))
    }

    /// The first record that begins so. No later question may be about an earlier beginning.
    pub(super) fn find(&mut self, prefix: &[u8]) -> Result<Option<[u8; BYTES]>> {
        while let Some(next) = self.0.peek()
            && next[..prefix.len()] < *prefix
        {
            self.0.take()?;
        }
        Ok(self.0.peek().filter(|next| next.starts_with(prefix)).copied())
    }

    /// The record after the one just found, if it begins so, too.
    pub(super) fn another(&mut self, prefix: &[u8]) -> Result<Option<[u8; BYTES]>> {
        self.0.take()?;
        Ok(self.0.peek().filter(|next| next.starts_with(prefix)).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_survives_both_orders_and_lookups_pass_over_what_is_not_asked_for() {
        let blob = SealedBlob {
            id: Id::of(b"blob"),
            kind: BlobKind::Tree,
            length: 70_000,
            uncompressed_length: NonZeroU32::new(3),
        };
        let packed = PackedBlob { blob, offset: 1 << 20 };
        let placed = Placed { pack: Id::of(b"pack"), mark: mark::SPARE, packed };
        for back in [Placed::of_by_pack(&placed.by_pack()), Placed::of_by_blob(&placed.by_blob())] {
            assert_eq!((back.pack, back.mark, back.packed), (placed.pack, placed.mark, packed));
        }
        assert!(placed.by_blob().starts_with(&blob_record(blob.kind, &blob.id)));
        let records = [[1, 1], [1, 1], [1, 2], [3, 1], [5, 0]];
        let mut lookup = Lookup::new(records.into_iter().map(Ok)).unwrap();
        assert_eq!(lookup.find(&[0]).unwrap(), None);
        assert_eq!(lookup.find(&[1]).unwrap(), Some([1, 1]));
        assert_eq!(lookup.another(&[1]).unwrap(), Some([1, 2]));
        assert_eq!(lookup.another(&[1]).unwrap(), None);
        assert_eq!(lookup.find(&[4]).unwrap(), None);
        assert_eq!(lookup.find(&[5]).unwrap(), Some([5, 0]));
    }
}
