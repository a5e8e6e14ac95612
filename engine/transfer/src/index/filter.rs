//! A filter that knows of most blobs that are new, that they are: no disk need be asked.
//!
//! Blocks of 64 bytes, ten bits for each blob; of the block an id falls into, five bits are set.
//! Ids are SHA-256 sums, so any of their bits will do. Blocks follow each other as ids do, so that
//! a filter is written in the order of a sorted run, one block at a time. Where memory is short,
//! several neighbouring blocks are laid upon each other: the filter is smaller and errs more often,
//! always to the safe side.

pub(super) const BLOCK_BYTES: usize = 64;
const BITS_PER_BLOB: u64 = 10;
const BITS_SET: u32 = 5;
/// Into how many blocks one may be laid. All divide the number of blocks of every filter.
const FOLDS: [u32; 8] = [1, 2, 3, 4, 6, 8, 12, 24];
const BLOCKS_MULTIPLE: u64 = 24;

pub(super) type Block = [u8; BLOCK_BYTES];

/// How many blocks the filter of so many blobs has.
pub(super) fn blocks_for(blobs: u64) -> u64 {
    let blocks = (blobs * BITS_PER_BLOB).div_ceil(8 * BLOCK_BYTES as u64);
    blocks.max(1).next_multiple_of(BLOCKS_MULTIPLE)
}

/// Into which of so many blocks an id falls. It grows with the id.
fn block_of(id: &[u8], blocks: u64) -> u64 {
    let mut start = [0; 4];
    start.copy_from_slice(&id[..4]);
    (u64::from(u32::from_be_bytes(start)) * blocks) >> 32
}

/// The bits of an id, each 0 to 511.
fn bits_of(id: &[u8]) -> impl Iterator<Item = usize> {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&id[8..16]);
    let bits = u64::from_be_bytes(bytes);
    (0..BITS_SET).map(move |place| (bits >> (9 * place)) as usize % (8 * BLOCK_BYTES))
}

/// Makes the blocks of a filter from ids that come in order.
pub(super) struct FilterWriter {
    blocks: u64,
    /// The number of the block being made.
    at: u64,
    block: Block,
}

impl FilterWriter {
    pub(super) fn new(blobs: u64) -> Self {
        Self { blocks: blocks_for(blobs), at: 0, block: [0; BLOCK_BYTES] }
    }

    /// Takes in an id, not smaller than the one before. Gives the blocks that are ready.
    pub(super) fn add<E>(
        &mut self,
        id: &[u8],
        ready: &mut dyn FnMut(&Block) -> Result<(), E>,
    ) -> Result<(), E> {
        let target = block_of(id, self.blocks);
        self.go_to(target, ready)?;
        for bit in bits_of(id) {
            self.block[bit / 8] |= 1 << (bit % 8);
        }
        Ok(())
    }

    fn go_to<E>(
        &mut self,
        target: u64,
        ready: &mut dyn FnMut(&Block) -> Result<(), E>,
    ) -> Result<(), E> {
        while self.at < target {
            ready(&self.block)?;
            self.block = [0; BLOCK_BYTES];
            self.at += 1;
        }
        Ok(())
    }

    /// Gives the blocks that are left.
    pub(super) fn finish<E>(
        mut self,
        ready: &mut dyn FnMut(&Block) -> Result<(), E>,
    ) -> Result<(), E> {
        self.go_to(self.blocks, ready)
    }
}

/// A filter in memory.
#[derive(Default)]
pub(super) struct Filter {
    /// How many blocks of the whole filter are laid upon each other in one here.
    fold: u32,
    /// None: the filter would take more memory than there is, and everything may be there.
    bytes: Vec<u8>,
}

impl Filter {
    /// How many blocks of filters that have so many altogether are to be laid upon each other, so
    /// that they take so many bytes at most. `None` when they cannot.
    pub(super) fn fold_for(blocks: u64, bytes_max: usize) -> Option<u32> {
        let fits = |fold: &u32| blocks / u64::from(*fold) * BLOCK_BYTES as u64 <= bytes_max as u64;
        FOLDS.into_iter().find(fits)
    }

    /// One of so many blocks, still to be taken in.
    pub(super) fn empty(blocks: u64, fold: Option<u32>) -> Self {
        let Some(fold) = fold else { return Self::default() };
        let bytes = blocks / u64::from(fold) * BLOCK_BYTES as u64;
        Self { fold, bytes: vec![0; usize::try_from(bytes).unwrap_or(0)] }
    }

    /// Takes in a block by its number.
    pub(super) fn lay(&mut self, number: u64, block: &[u8]) {
        let start = (number / u64::from(self.fold.max(1))) as usize * BLOCK_BYTES;
        if let Some(here) = self.bytes.get_mut(start..start + BLOCK_BYTES) {
            here.iter_mut().zip(block).for_each(|(here, more)| *here |= more);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    #[cfg(any(test, feature = "testing"))]
    pub(super) fn held_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Lays more blocks upon each other, so that it fits `fold`.
    pub(super) fn fold_to(&mut self, fold: Option<u32>) {
        let more = match fold {
            Some(fold) if self.fold == 0 || fold <= self.fold => return,
            Some(fold) => FOLDS
                .into_iter()
                .find(|to| *to >= fold && to.is_multiple_of(self.fold))
                .map(|to| (to, to / self.fold)),
            None => None,
        };
        let Some((fold, times)) = more else {
            *self = Self::default();
            return;
        };
        let blocks = self.bytes.len() / BLOCK_BYTES;
        for block in 0..blocks {
            let to = block / times as usize * BLOCK_BYTES;
            let from = block * BLOCK_BYTES;
            for byte in 0..BLOCK_BYTES {
                let bits = self.bytes[from + byte];
                match from == to || block.is_multiple_of(times as usize) {
                    true => self.bytes[to + byte] = bits,
                    false => self.bytes[to + byte] |= bits,
                }
            }
        }
        self.bytes.truncate(blocks / times as usize * BLOCK_BYTES);
        self.bytes.shrink_to_fit();
        self.fold = fold;
    }

    /// Whether a blob may be there. `false` is certain.
    pub(super) fn may_have(&self, id: &[u8]) -> bool {
        if self.bytes.is_empty() {
            return true;
        }
        let blocks = (self.bytes.len() / BLOCK_BYTES) as u64;
        let block = &self.bytes[block_of(id, blocks) as usize * BLOCK_BYTES..][..BLOCK_BYTES];
        bits_of(id).all(|bit| block[bit / 8] & (1 << (bit % 8)) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine_repository::Id;
    use std::convert::Infallible;

    fn id(number: u32) -> Id {
        Id::of(&number.to_be_bytes())
    }

    /// The filter of the first `count` ids.
    fn filter(count: u32, fold: Option<u32>) -> Filter {
        let mut ids: Vec<Id> = (0..count).map(id).collect();
        ids.sort_unstable();
        let mut blocks: Vec<Block> = Vec::new();
        let mut keep = |block: &Block| {
            blocks.push(*block);
            Ok::<_, Infallible>(())
        };
        let mut writer = FilterWriter::new(u64::from(count));
        for id in &ids {
            let Ok(()) = writer.add(id.as_bytes(), &mut keep);
        }
        let Ok(()) = writer.finish(&mut keep);
        assert_eq!(blocks.len() as u64, blocks_for(u64::from(count)));
        let mut filter = Filter::empty(blocks.len() as u64, fold);
        for (number, block) in blocks.iter().enumerate() {
            filter.lay(number as u64, block);
        }
        filter
    }

    /// How many thousandths of new blobs it takes for known.
    fn errs_permille(filter: &Filter) -> usize {
        (1 << 20..(1 << 20) + 10_000).filter(|n| filter.may_have(id(*n).as_bytes())).count() / 10
    }

    #[test]
    fn what_is_there_is_never_denied_and_what_is_not_seldom_claimed() {
        const COUNT: u32 = 20_000;
        let mut before = 0;
        for (fold, errs_max) in [(1, 20), (2, 130), (3, 350), (4, 550), (24, 1000)] {
            let filter = filter(COUNT, Some(fold));
            assert!((0..COUNT).all(|number| filter.may_have(id(number).as_bytes())));
            let errs = errs_permille(&filter);
            assert!(errs <= errs_max, "{fold} blocks in one: {errs} of 1000");
            assert!(errs >= before);
            before = errs;
        }
        assert!(filter(COUNT, None).may_have(id(COUNT + 1).as_bytes()));
        for few in [0, 1, 2] {
            assert!((0..few).all(|number| filter(few, Some(1)).may_have(id(number).as_bytes())));
        }
    }

    #[test]
    fn a_filter_made_smaller_later_is_as_one_made_so() {
        const COUNT: u32 = 5_000;
        for (fold, later) in [(1, 2), (1, 3), (2, 4), (3, 6), (4, 24), (2, 2), (4, 2)] {
            let mut folded = filter(COUNT, Some(fold));
            folded.fold_to(Some(later));
            let expected = filter(COUNT, Some(later.max(fold)));
            assert!(folded.bytes == expected.bytes && folded.fold == expected.fold);
            assert_eq!(folded.held_bytes(), folded.bytes.len());
        }
        let mut odd = filter(COUNT, Some(3));
        odd.fold_to(Some(4));
        assert_eq!(odd.fold, 6, "the next that is possible");
        odd.fold_to(None);
        assert!(odd.is_empty());
    }

    #[test]
    fn ten_million_blobs_fit_into_twelve_mebibytes_and_twice_as_many_too() {
        for (blobs, fold) in [(10_000_000, 1), (20_000_000, 2), (60_000_000, 6)] {
            let blocks = blocks_for(blobs);
            assert_eq!(Filter::fold_for(blocks, 12 << 20), Some(fold));
        }
        assert_eq!(Filter::fold_for(blocks_for(1 << 40), 12 << 20), None);
    }
}
