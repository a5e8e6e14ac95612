//! Several runs become one; what index files said that are gone is left out.

use super::pages::SectionReader;
use super::record::{RECORD_BYTES, Record};
use super::run::{RunFile, RunWriter, unwritten};
use crate::{Cancel, Result, TransferError};
use engine_repository::Id;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A run to be merged, and which of its index files are gone.
pub(super) struct Input<'a> {
    pub(super) run: &'a RunFile,
    pub(super) files: &'a [Id],
    pub(super) is_gone: &'a dyn Fn(&Id) -> bool,
}

/// Merges. Memory: a buffer for each run, and for each pack of theirs two bits at most.
pub(super) fn merge(
    inputs: &[Input<'_>],
    mut writer: RunWriter,
    cancel: &Cancel,
) -> Result<RunFile> {
    let mut files = Vec::new();
    let mut count = 0;
    let mut numbers = Vec::new();
    for input in inputs {
        let mut places = Vec::with_capacity(input.files.len());
        for file in input.files {
            if (input.is_gone)(file) {
                places.push(None);
                continue;
            }
            // Runs of none have one name for it.
            if files.last() != Some(file) {
                files.push(*file);
            }
            places.push(Some(files.len() as u32 - 1));
        }
        let mut kept = Numbers::from(writer.next_pack());
        input.run.each_pack(&mut |pack, file, blobs| {
            let place = places.get(file as usize).copied().flatten();
            kept.push(place.is_some());
            if let Some(file) = place {
                count += u64::from(blobs);
                writer.add_pack(&pack, file, blobs)?;
            }
            Ok(())
        })?;
        numbers.push(kept);
    }
    let readers = inputs.iter().map(|input| input.run.records()).collect();
    let mut merge = Merge { inputs, numbers, readers, heads: BinaryHeap::new(), cancel, seen: 0 };
    for input in 0..inputs.len() {
        merge.refill(input)?;
    }
    writer.finish(&files, count, &mut merge)
}

/// The new numbers of a run's packs, of which some are left out.
struct Numbers {
    first: u32,
    /// For each pack, whether it is kept.
    kept: Vec<u32>,
    /// How many are kept before each 32.
    before: Vec<u32>,
    packs: u32,
    kept_count: u32,
}

impl Numbers {
    fn from(first: u32) -> Self {
        Self { first, kept: Vec::new(), before: Vec::new(), packs: 0, kept_count: 0 }
    }

    fn push(&mut self, is_kept: bool) {
        if self.packs.is_multiple_of(32) {
            self.kept.push(0);
            self.before.push(self.kept_count);
        }
        if let Some(bits) = self.kept.last_mut() {
            *bits |= u32::from(is_kept) << (self.packs % 32);
        }
        self.packs += 1;
        self.kept_count += u32::from(is_kept);
    }

    fn of(&self, pack: u32) -> Option<u32> {
        let place = (pack / 32) as usize;
        let bits = *self.kept.get(place)?;
        let bit = 1 << (pack % 32);
        (bits & bit != 0).then(|| self.first + self.before[place] + (bits & (bit - 1)).count_ones())
    }
}

struct Merge<'a> {
    inputs: &'a [Input<'a>],
    numbers: Vec<Numbers>,
    readers: Vec<SectionReader>,
    /// The next record of each run, and the run's place.
    heads: BinaryHeap<Reverse<([u8; RECORD_BYTES], usize)>>,
    cancel: &'a Cancel,
    seen: usize,
}

impl Merge<'_> {
    /// The next record of a run that is kept.
    fn refill(&mut self, input: usize) -> Result<()> {
        let file = &self.inputs[input].run.file;
        while let Some(item) = self.readers[input].next(file).map_err(unwritten)? {
            let mut record = Record([0; RECORD_BYTES]);
            record.0.copy_from_slice(item);
            if let Some(pack) = self.numbers[input].of(record.pack()) {
                self.heads.push(Reverse((record.in_pack(pack).0, input)));
                break;
            }
        }
        Ok(())
    }
}

/// Records of a run stay in order under their new numbers, so merging them is enough.
impl Iterator for Merge<'_> {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse((record, input)) = self.heads.pop()?;
        self.seen = self.seen.wrapping_add(1);
        if self.seen.is_multiple_of(1024) && self.cancel.is_cancelled() {
            return Some(Err(TransferError::Cancelled));
        }
        Some(self.refill(input).map(|()| Record(record)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_that_are_kept_are_numbered_without_gaps() {
        let mut numbers = Numbers::from(10);
        (0..100).for_each(|pack| numbers.push(pack % 3 != 0));
        let found: Vec<u32> = (0..120).filter_map(|pack| numbers.of(pack)).collect();
        assert_eq!(found, (10..10 + 66).collect::<Vec<_>>());
        assert_eq!((numbers.of(0), numbers.of(1), numbers.of(97)), (None, Some(10), Some(74)));
    }
}
