//! One blob as 48 bytes that sort by its id.

use engine_repository::{BlobKind, Id, PackedBlob, SealedBlob};
use std::num::NonZeroU32;

/// An id; then, each in 4 bytes, big-endian: twice the pack's number, and 1 more for a tree; the
/// offset; the length; the length before compression, 0 when it is not compressed.
pub(super) const RECORD_BYTES: usize = 48;

/// A run has no more packs.
pub(super) const PACKS_MAX: u32 = u32::MAX >> 1;

/// One blob in a run.
#[derive(Clone, Copy)]
pub(super) struct Record(pub(super) [u8; RECORD_BYTES]);

impl Record {
    /// A blob of the pack of this number in a run.
    pub(super) fn new(pack: u32, packed: &PackedBlob) -> Self {
        let mut bytes = [0; RECORD_BYTES];
        bytes[..32].copy_from_slice(packed.blob.id.as_bytes());
        let kind = u32::from(packed.blob.kind == BlobKind::Tree);
        let uncompressed = packed.blob.uncompressed_length.map_or(0, NonZeroU32::get);
        let numbers = [pack << 1 | kind, packed.offset, packed.blob.length, uncompressed];
        for (place, number) in numbers.into_iter().enumerate() {
            bytes[32 + 4 * place..][..4].copy_from_slice(&number.to_be_bytes());
        }
        Self(bytes)
    }

    fn number(&self, place: usize) -> u32 {
        number_at(&self.0, 32 + 4 * place)
    }

    pub(super) fn id_bytes(&self) -> &[u8] {
        &self.0[..Id::BYTES]
    }

    pub(super) fn kind(&self) -> BlobKind {
        match self.number(0) & 1 {
            0 => BlobKind::Data,
            _ => BlobKind::Tree,
        }
    }

    pub(super) fn pack(&self) -> u32 {
        self.number(0) >> 1
    }

    /// The same blob, its pack having another number.
    pub(super) fn in_pack(mut self, pack: u32) -> Self {
        let number = pack << 1 | self.number(0) & 1;
        self.0[32..36].copy_from_slice(&number.to_be_bytes());
        self
    }

    pub(super) fn packed(&self) -> PackedBlob {
        let mut id = [0; Id::BYTES];
        id.copy_from_slice(self.id_bytes());
        let blob = SealedBlob {
            id: Id::from_bytes(id),
            kind: self.kind(),
            length: self.number(2),
            uncompressed_length: NonZeroU32::new(self.number(3)),
        };
        PackedBlob { blob, offset: self.number(1) }
    }
}

/// The big-endian number at this place.
pub(super) fn number_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_be_bytes(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_into_48_bytes_is_read_from_them() {
        for (kind, uncompressed) in [(BlobKind::Data, 0), (BlobKind::Tree, u32::MAX)] {
            let blob = SealedBlob {
                id: Id::of(b"a blob"),
                kind,
                length: u32::MAX - 1,
                uncompressed_length: NonZeroU32::new(uncompressed),
            };
            let packed = PackedBlob { blob, offset: 0x0102_0304 };
            let record = Record::new(PACKS_MAX, &packed);
            assert_eq!((record.pack(), record.packed()), (PACKS_MAX, packed));
            let moved = record.in_pack(7);
            assert_eq!((moved.pack(), moved.packed()), (7, packed));
        }
    }
}
