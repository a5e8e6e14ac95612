//! What snapshots need and another repository lacks, in the order it lies in packs.

use crate::blobs::Fetcher;
use crate::index::{Index, Location};
use crate::record_file::{RecordFile, RecordWriter};
use crate::sorter::Sorter;
use crate::tree_walk::{TreeWalk, Visitor};
use crate::{Cancel, Repository, Result, TransferError};
use engine_repository::{BlobKind, Id, Node, PackedBlob, SealedBlob};
use std::num::NonZeroU32;
use std::path::Path;

/// Pack, offset, kind, blob, its length, its plaintext's length.
const RECORD_BYTES: usize = 32 + 4 + 1 + 32 + 4 + 4;

/// Blobs to be copied, each once.
pub(super) struct Needed {
    records: RecordFile<RECORD_BYTES>,
    pub(super) blobs: u64,
    /// Bytes they take, sealed.
    pub(super) bytes: u64,
}

impl Needed {
    /// All of them, in the order of their packs, and of their places in these.
    pub(super) fn locations(&self) -> impl Iterator<Item = Result<Location>> + use<> {
        self.records.records().map(|record| record.map(|record| location(&record)))
    }
}

/// Looks through the trees below some roots.
pub(super) fn find(
    (from, from_index): (&Repository, &Index),
    (to, to_index): (&Repository, &Index),
    roots: &[Id],
    cancel: &Cancel,
) -> Result<Needed> {
    let held_bytes_max = usize::try_from(from.plan().pipeline_bytes / 4).unwrap_or(1 << 20);
    let sorter = Sorter::new(from.cache(), held_bytes_max);
    let mut finder = Finder { from_index, to_index, sorter };
    let mut fetcher = Fetcher::new(from, from_index);
    let mut walk = TreeWalk::new(from, cancel, |id| fetcher.tree(id)).each_once(from);
    for root in roots {
        walk.walk(root, &mut finder)?;
    }
    drop(walk);
    let mut writer = RecordWriter::in_scratch(to.cache())?;
    let (mut last, mut blobs, mut bytes) = (None, 0, 0);
    for record in finder.sorter.finish()? {
        let record = record?;
        if last.replace(record) != Some(record) {
            writer.push(&record)?;
            blobs += 1;
            bytes += u64::from(location(&record).packed.blob.length);
        }
    }
    Ok(Needed { records: writer.finish()?, blobs, bytes })
}

struct Finder<'a> {
    from_index: &'a Index,
    to_index: &'a Index,
    sorter: Sorter<RECORD_BYTES>,
}

impl Finder<'_> {
    fn need(&mut self, kind: BlobKind, id: &Id) -> Result<()> {
        if self.to_index.has(kind, id)? {
            return Ok(());
        }
        let noun = if kind == BlobKind::Data { "data blob" } else { "tree" };
        let missing = TransferError::BlobMissing { kind: noun, id: *id };
        let location = self.from_index.find(kind, id)?.ok_or(missing)?;
        self.sorter.push(record(&location))
    }
}

impl Visitor for Finder<'_> {
    fn enters(&mut self, _folder: &Path, tree: &Id) -> Result<bool> {
        self.need(BlobKind::Tree, tree)?;
        Ok(true)
    }

    fn node(&mut self, _folder: &Path, node: &Node) -> Result<()> {
        node.content.iter().flatten().try_for_each(|id| self.need(BlobKind::Data, id))
    }
}

fn record(location: &Location) -> [u8; RECORD_BYTES] {
    let PackedBlob { blob, offset } = &location.packed;
    let mut record = [0; RECORD_BYTES];
    record[..32].copy_from_slice(location.pack.as_bytes());
    record[32..36].copy_from_slice(&offset.to_be_bytes());
    record[36] = u8::from(blob.kind == BlobKind::Tree);
    record[37..69].copy_from_slice(blob.id.as_bytes());
    record[69..73].copy_from_slice(&blob.length.to_be_bytes());
    let uncompressed = blob.uncompressed_length.map_or(0, NonZeroU32::get);
    record[73..].copy_from_slice(&uncompressed.to_be_bytes());
    record
}

fn location(record: &[u8; RECORD_BYTES]) -> Location {
    let number = |at: usize| {
        record[at..at + 4].iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
    };
    let id = |at: usize| {
        let mut bytes = [0; Id::BYTES];
        bytes.copy_from_slice(&record[at..at + Id::BYTES]);
        Id::from_bytes(bytes)
    };
    let blob = SealedBlob {
        id: id(37),
        kind: if record[36] == 1 { BlobKind::Tree } else { BlobKind::Data },
        length: number(69),
        uncompressed_length: NonZeroU32::new(number(73)),
    };
    Location { pack: id(0), packed: PackedBlob { blob, offset: number(32) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_survives_being_sorted() {
        for (kind, uncompressed_length) in
            [(BlobKind::Data, None), (BlobKind::Tree, NonZeroU32::new(0x1234_5678))]
        {
            let id = Id::of(b"blob");
            let blob = SealedBlob { id, kind, length: 0xfedc_ba98, uncompressed_length };
            let packed = PackedBlob { blob, offset: 0x0102_0304 };
            let place = Location { pack: Id::of(b"pack"), packed };
            assert_eq!(location(&record(&place)), place);
        }
    }
}
