//! Cutting files into chunks where their content says so.
//!
//! A file that grew in the middle is cut, before and after, where it was cut last time, so only
//! what changed is stored again. Where exactly is free in the format. New repositories are cut by
//! [`gear`], which is ten times as fast and depends on the repository's key; repositories that
//! restic made by [`rabin`], bit for bit as restic cuts, so that both find each other's chunks.
//!
//! A chunker sees a file as slices of any size, one after the other, and keeps no bytes.

mod gear;
mod rabin;

use crate::crypto::MasterKey;
use crate::polynomial::Polynomial;
pub use gear::{GearChunker, GearTable, TABLE_BYTES};
pub use rabin::RabinChunker;

/// No chunk but a file's last is shorter: 512 KiB, as in restic.
pub const CHUNK_BYTES_MIN: usize = 512 << 10;
/// No chunk is longer: 8 MiB, as in restic.
pub const CHUNK_BYTES_MAX: usize = 8 << 20;

/// Which chunker a repository is cut by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChunkerKind {
    /// Our own, keyed.
    Gear,
    /// Restic's.
    Rabin,
}

/// A chunker of either kind.
#[derive(Clone)]
pub enum Chunker {
    /// Our own, keyed.
    Gear(Box<GearChunker>),
    /// Restic's.
    Rabin(Box<RabinChunker>),
}

impl Chunker {
    /// The chunker of a repository. Making one works out tables; it is made once for each worker.
    pub fn for_repository(kind: ChunkerKind, key: &MasterKey, polynomial: Polynomial) -> Self {
        match kind {
            ChunkerKind::Gear => Self::Gear(Box::new(GearChunker::new(key))),
            ChunkerKind::Rabin => Self::Rabin(Box::new(RabinChunker::new(polynomial))),
        }
    }

    /// Looks at the next bytes of the file. `Some(n)`: the chunk ends with the first `n` of them
    /// (at least one), and what follows is to be given anew. `None`: it goes on behind `data`.
    ///
    /// Where the file ends, so does its last chunk: then call [`Chunker::reset`].
    pub fn next_cut(&mut self, data: &[u8]) -> Option<usize> {
        match self {
            Self::Gear(chunker) => chunker.next_cut(data),
            Self::Rabin(chunker) => chunker.next_cut(data),
        }
    }

    /// Starts over, with the next file.
    pub fn reset(&mut self) {
        match self {
            Self::Gear(chunker) => chunker.reset(),
            Self::Rabin(chunker) => chunker.reset(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compress::tests::noise;
    use crate::crypto::MASTER_KEY_BYTES;

    fn chunkers() -> Vec<Chunker> {
        let key = MasterKey::from_bytes(&[7; MASTER_KEY_BYTES]).unwrap();
        let polynomial = Polynomial::new(0x3d_a335_8b4d_c173).unwrap();
        [ChunkerKind::Gear, ChunkerKind::Rabin]
            .map(|kind| Chunker::for_repository(kind, &key, polynomial))
            .into()
    }

    /// The lengths of the chunks of `file`, given in slices of `slice_bytes`.
    fn cuts(chunker: &mut Chunker, file: &[u8], slice_bytes: usize) -> Vec<usize> {
        let (mut lengths, mut length) = (Vec::new(), 0);
        for mut slice in file.chunks(slice_bytes) {
            while let Some(cut) = chunker.next_cut(slice) {
                assert!(cut > 0);
                lengths.push(length + cut);
                (length, slice) = (0, &slice[cut..]);
            }
            length += slice.len();
        }
        chunker.reset();
        lengths.extend(Some(length).filter(|length| *length > 0));
        assert_eq!(lengths.iter().sum::<usize>(), file.len());
        lengths
    }

    #[test]
    fn where_a_file_is_cut_does_not_depend_on_how_it_was_read() {
        let file = noise(12 << 20, 11);
        for mut chunker in chunkers() {
            let whole = cuts(&mut chunker, &file, file.len());
            assert!(whole.len() > 4);
            for slice_bytes in [1000, 4096, 65_537, CHUNK_BYTES_MIN, 3 << 20] {
                assert_eq!(cuts(&mut chunker, &file, slice_bytes), whole, "{slice_bytes}");
            }
        }
    }

    #[test]
    fn every_chunk_but_the_last_keeps_the_limits_and_an_even_file_is_cut_too() {
        for mut chunker in chunkers() {
            for file in [noise(40 << 20, 5), vec![0; 20 << 20], vec![b'x'; 20 << 20]] {
                let mut lengths = cuts(&mut chunker, &file, 1 << 20);
                assert!(lengths.pop().unwrap() <= CHUNK_BYTES_MAX);
                for length in lengths {
                    assert!((CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX).contains(&length), "{length}");
                }
            }
        }
    }

    #[test]
    fn a_file_that_grew_in_the_middle_is_cut_as_before_around_it() {
        let file = noise(24 << 20, 7);
        let mut grown = file.clone();
        grown.splice(12 << 20..12 << 20, noise(1000, 8));
        for mut chunker in chunkers() {
            let before = cuts(&mut chunker, &file, 1 << 20);
            let after = cuts(&mut chunker, &grown, 1 << 20);
            let same_at_start = before.iter().zip(&after).take_while(|(a, b)| a == b).count();
            let same_at_end =
                before.iter().rev().zip(after.iter().rev()).take_while(|(a, b)| a == b).count();
            assert!(same_at_start + same_at_end + 4 >= before.len(), "{before:?} {after:?}");
        }
    }

    #[test]
    fn another_key_cuts_elsewhere() {
        let file = noise(12 << 20, 11);
        let mut ours = chunkers().remove(0);
        let other = MasterKey::from_bytes(&[8; MASTER_KEY_BYTES]).unwrap();
        let mut theirs = Chunker::Gear(Box::new(GearChunker::new(&other)));
        assert_ne!(cuts(&mut ours, &file, 1 << 20), cuts(&mut theirs, &file, 1 << 20));
    }

    #[test]
    fn our_own_cuts_are_never_to_change() {
        // Every byte cut elsewhere is stored again by every owner: these numbers stay.
        let lengths = cuts(&mut chunkers()[0], &noise(8 << 20, 11), 1 << 20);
        let expected = [529058, 1285739, 1290791, 1086121, 791422, 1108047, 1391133, 906297];
        assert_eq!(lengths, expected);
    }
}
