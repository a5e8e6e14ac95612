//! Records of folders, in the order the walk comes to them: a folder before what is in it.
//!
//! The walk keeps the place for a folder's record when it enters it, and it is filled when its tree
//! is known; so records are read in the order of the walk and written in any. Each has a sum over
//! the file's seed, its place and itself: one that was not written, or is of another file, is none.
//!
//! ```text
//! sum 16 | name's bytes u16 | believable u8 | next u64 | digest 32 | tree 32 | name
//! ```
//!
//! `next` is where the record comes of what follows the folder and everything below it.

use engine_repository::tree::NAME_BYTES_MAX;
use engine_repository::{Hasher, Id};
use std::fs::File;
use std::os::unix::fs::FileExt;

const SUM_BYTES: usize = 16;
const FIXED_BYTES: usize = SUM_BYTES + 2 + 1 + 8 + 2 * Id::BYTES;
/// So much of the file is read at once.
const WINDOW_BYTES: usize = 32 << 10;

/// What is to be written about a folder, but for its tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::backup) struct Line {
    pub(super) offset: u64,
    next: u64,
    /// What it was like; `None` where the next run has to look at each file.
    digest: Option<Id>,
    name: Vec<u8>,
}

impl Line {
    /// The place of a folder's record, at the end of those there are.
    pub(in crate::backup) fn begin(end: &mut u64, name: &[u8]) -> Self {
        let offset = *end;
        *end += (FIXED_BYTES + name.len()) as u64;
        Self { offset, next: *end, digest: None, name: name.to_vec() }
    }

    /// The folder and everything below it have their places.
    pub(in crate::backup) fn end(self, end: u64, digest: Option<Id>) -> Self {
        Self { next: end, digest, ..self }
    }

    /// The next run has to look at each file after all.
    pub(in crate::backup) fn forget_digest(&mut self) {
        self.digest = None;
    }

    pub(super) fn to_bytes(&self, seed: &Id, tree: &Id) -> Vec<u8> {
        let mut bytes = vec![0; SUM_BYTES];
        bytes.extend_from_slice(&u16::try_from(self.name.len()).unwrap_or(0).to_le_bytes());
        bytes.push(u8::from(self.digest.is_some()));
        bytes.extend_from_slice(&self.next.to_le_bytes());
        bytes.extend_from_slice(self.digest.unwrap_or(Id::ZERO).as_bytes());
        bytes.extend_from_slice(tree.as_bytes());
        bytes.extend_from_slice(&self.name);
        let sum = sum(seed, self.offset, &bytes[SUM_BYTES..]);
        bytes[..SUM_BYTES].copy_from_slice(&sum);
        bytes
    }
}

fn sum(seed: &Id, offset: u64, bytes: &[u8]) -> [u8; SUM_BYTES] {
    let mut hasher = Hasher::new();
    hasher.update(seed.as_bytes());
    hasher.update(&offset.to_le_bytes());
    hasher.update(bytes);
    let mut sum = [0; SUM_BYTES];
    sum.copy_from_slice(&hasher.finish().as_bytes()[..SUM_BYTES]);
    sum
}

/// A folder of before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::backup) struct Record {
    pub(in crate::backup) digest: Option<Id>,
    pub(in crate::backup) tree: Id,
    /// What is in it.
    pub(in crate::backup) below: Stretch,
}

/// The records of what is in one folder, as far as they are still ahead.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::backup) struct Stretch {
    at: u64,
    end: u64,
}

/// All records of a catalogue, read forwards.
pub(in crate::backup) struct Records {
    file: File,
    seed: Id,
    end: u64,
    window: Vec<u8>,
    window_at: u64,
}

impl Records {
    pub(super) fn new(file: File, seed: Id, end: u64) -> Self {
        Self { file, seed, end, window: Vec::new(), window_at: 0 }
    }

    /// The folders at the top.
    pub(in crate::backup) fn all(&self) -> Stretch {
        Stretch { at: 0, end: self.end }
    }

    /// The folder of that name. Names must be asked for in order.
    pub(in crate::backup) fn find(&mut self, stretch: &mut Stretch, name: &[u8]) -> Option<Record> {
        while stretch.at < stretch.end {
            let Some((found, record, next)) = self.read(*stretch) else {
                // Damaged: nothing more is known of this folder.
                *stretch = Stretch::default();
                return None;
            };
            match found.as_slice().cmp(name) {
                std::cmp::Ordering::Less => stretch.at = next,
                std::cmp::Ordering::Equal => {
                    stretch.at = next;
                    return Some(record);
                }
                std::cmp::Ordering::Greater => return None,
            }
        }
        None
    }

    fn read(&mut self, Stretch { at, end }: Stretch) -> Option<(Vec<u8>, Record, u64)> {
        let seed = self.seed;
        let name_bytes = {
            let fixed = self.bytes(at, FIXED_BYTES)?;
            usize::from(u16::from_le_bytes([fixed[SUM_BYTES], fixed[SUM_BYTES + 1]]))
        };
        if name_bytes > NAME_BYTES_MAX {
            return None;
        }
        let bytes = self.bytes(at, FIXED_BYTES + name_bytes)?;
        let (found, content) = bytes.split_at(SUM_BYTES);
        if found != sum(&seed, at, content) {
            return None;
        }
        let (numbers, rest) = content.split_at(11);
        let (digest, rest) = rest.split_at(Id::BYTES);
        let (tree, name) = rest.split_at(Id::BYTES);
        let next = u64::from_le_bytes(numbers[3..].try_into().ok()?);
        let below = at + (FIXED_BYTES + name_bytes) as u64;
        if next < below || next > end {
            return None;
        }
        let id = |bytes: &[u8]| bytes.try_into().ok().map(Id::from_bytes);
        let digest = if numbers[2] == 1 { id(digest) } else { None };
        let record = Record { digest, tree: id(tree)?, below: Stretch { at: below, end: next } };
        Some((name.to_vec(), record, next))
    }

    fn bytes(&mut self, at: u64, bytes: usize) -> Option<&[u8]> {
        if at.checked_add(bytes as u64)? > self.end {
            return None;
        }
        let window_end = self.window_at + self.window.len() as u64;
        if at < self.window_at || at + bytes as u64 > window_end {
            let left = usize::try_from(self.end - at).unwrap_or(usize::MAX);
            self.window.resize(left.min(WINDOW_BYTES.max(bytes)), 0);
            self.window_at = at;
            if self.file.read_exact_at(&mut self.window, at).is_err() {
                self.window.clear();
                return None;
            }
        }
        let start = usize::try_from(at - self.window_at).ok()?;
        self.window.get(start..start + bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> Id {
        Id::of(text.as_bytes())
    }

    /// `a`, in which are `x` and `y`; and `b`.
    fn written(file: &File, seed: &Id) -> u64 {
        let mut end = 0;
        let mut lines = Vec::new();
        let a = Line::begin(&mut end, b"a");
        for name in ["x", "y"] {
            let line = Line::begin(&mut end, name.as_bytes());
            lines.push((line.end(end, Some(id(name))), id("tree")));
        }
        lines.push((a.end(end, None), id("tree of a")));
        let b = Line::begin(&mut end, b"b");
        lines.push((b.end(end, Some(id("b"))), id("tree")));
        for (line, tree) in lines.iter().rev() {
            file.write_all_at(&line.to_bytes(seed, tree), line.offset).unwrap();
        }
        end
    }

    #[test]
    fn folders_are_found_in_order_whatever_came_and_went_between_them() {
        let file = tempfile::tempfile().unwrap();
        let end = written(&file, &id("seed"));
        let mut records = Records::new(file, id("seed"), end);
        let mut top = records.all();
        let a = records.find(&mut top, b"a").unwrap();
        assert_eq!((a.digest, a.tree), (None, id("tree of a")));
        let mut below = a.below;
        assert_eq!(records.find(&mut below, b"new"), None);
        assert_eq!(records.find(&mut below, b"y").unwrap().digest, Some(id("y")));
        assert_eq!(records.find(&mut below, b"z"), None);
        assert_eq!(records.find(&mut top, b"b").unwrap().digest, Some(id("b")));
        assert_eq!(records.find(&mut top, b"c"), None);
    }

    #[test]
    fn a_record_with_one_bit_wrong_or_of_another_file_is_none() {
        let file = tempfile::tempfile().unwrap();
        let end = written(&file, &id("seed"));
        let mut whole = vec![0; usize::try_from(end).unwrap()];
        file.read_exact_at(&mut whole, 0).unwrap();
        let b_found = |bytes: &[u8], seed| {
            let file = tempfile::tempfile().unwrap();
            file.write_all_at(bytes, 0).unwrap();
            let mut records = Records::new(file, seed, end);
            let mut top = records.all();
            records.find(&mut top, b"b").is_some()
        };
        assert!(b_found(&whole, id("seed")));
        assert!(!b_found(&whole, id("another seed")));
        assert!(!b_found(&whole[..whole.len() - 1], id("seed")));
        for place in (whole.len() - FIXED_BYTES - 1)..whole.len() {
            let mut spoilt = whole.clone();
            spoilt[place] ^= 1;
            assert!(!b_found(&spoilt, id("seed")), "{place}");
        }
    }
}
