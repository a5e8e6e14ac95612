//! Sorts more records than fit into memory: sorted runs in files without names, merged.
//!
//! Records have a fixed size and are compared as bytes, so numbers in them are big-endian. Memory
//! has one bound, given at the start; equal records all come out.

use crate::cache::{Cache, failed};
use crate::{Result, TransferError};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Each run is read through a buffer of this size while they are merged.
const RUN_BUFFER_BYTES: usize = 32 << 10;
/// So many runs are merged at once; more are merged in several passes.
const RUNS_MERGED_MAX: usize = 64;
/// Fewer bytes than this are not worth a run.
const HELD_BYTES_MIN: usize = 256 << 10;

/// Takes records in any order.
pub(crate) struct Sorter<const BYTES: usize> {
    cache: Cache,
    held: Vec<[u8; BYTES]>,
    held_max: usize,
    runs: Vec<File>,
}

impl<const BYTES: usize> Sorter<BYTES> {
    /// Holds so many bytes of records at most, and while merging `RUNS_MERGED_MAX` buffers.
    pub(crate) fn new(cache: &Cache, held_bytes_max: usize) -> Self {
        let held_max = held_bytes_max.max(HELD_BYTES_MIN) / BYTES;
        Self { cache: cache.clone(), held: Vec::new(), held_max, runs: Vec::new() }
    }

    /// Takes in a record.
    pub(crate) fn push(&mut self, record: [u8; BYTES]) -> Result<()> {
        if self.held.len() == self.held_max {
            self.spill()?;
        }
        if self.held.capacity() == self.held.len() {
            // Doubling would pass the bound.
            let more = self.held.len().max(1024).min(self.held_max - self.held.len());
            self.held.reserve_exact(more);
        }
        self.held.push(record);
        Ok(())
    }

    fn spill(&mut self) -> Result<()> {
        self.held.sort_unstable();
        let held = self.held.iter().map(|record| Ok(*record));
        self.runs.push(write_run(&self.cache, held)?);
        self.held.clear();
        if self.runs.len() == RUNS_MERGED_MAX {
            let runs = std::mem::take(&mut self.runs);
            let merged = Merge::<BYTES>::of(runs, Vec::new())?;
            self.runs.push(write_run(&self.cache, merged)?);
        }
        Ok(())
    }

    /// As [`Sorter::finish`], but what is held goes to the disk, too, unless it is little: for
    /// records that wait while another sorter needs the memory.
    pub(crate) fn finish_aside(mut self) -> Result<Sorted<BYTES>> {
        if self.held.len() * BYTES > HELD_BYTES_MIN {
            self.spill()?;
            self.held = Vec::new();
        }
        self.finish()
    }

    /// All records, the smallest first.
    pub(crate) fn finish(mut self) -> Result<Sorted<BYTES>> {
        self.held.sort_unstable();
        Ok(Sorted(Merge::of(self.runs, self.held)?))
    }
}

/// Sorted records.
pub(crate) struct Sorted<const BYTES: usize>(Merge<BYTES>);

impl<const BYTES: usize> Iterator for Sorted<BYTES> {
    type Item = Result<[u8; BYTES]>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

struct Merge<const BYTES: usize> {
    runs: Vec<BufReader<File>>,
    held: std::vec::IntoIter<[u8; BYTES]>,
    /// The next record of each run, and the run's number; that of what is held comes after them.
    heads: BinaryHeap<Reverse<([u8; BYTES], usize)>>,
}

impl<const BYTES: usize> Merge<BYTES> {
    fn of(runs: Vec<File>, held: Vec<[u8; BYTES]>) -> Result<Self> {
        let runs: Vec<_> =
            runs.into_iter().map(|run| BufReader::with_capacity(RUN_BUFFER_BYTES, run)).collect();
        let mut merge = Self { heads: BinaryHeap::new(), held: held.into_iter(), runs };
        for number in 0..=merge.runs.len() {
            merge.refill(number)?;
        }
        Ok(merge)
    }

    fn refill(&mut self, number: usize) -> Result<()> {
        let next = match self.runs.get_mut(number) {
            Some(run) => read_record(run).map_err(broken)?,
            None => self.held.next(),
        };
        self.heads.extend(next.map(|record| Reverse((record, number))));
        Ok(())
    }
}

impl<const BYTES: usize> Iterator for Merge<BYTES> {
    type Item = Result<[u8; BYTES]>;

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse((record, number)) = self.heads.pop()?;
        Some(self.refill(number).map(|()| record))
    }
}

fn write_run<const BYTES: usize>(
    cache: &Cache,
    records: impl Iterator<Item = Result<[u8; BYTES]>>,
) -> Result<File> {
    let mut run = BufWriter::with_capacity(RUN_BUFFER_BYTES, cache.scratch_file()?);
    for record in records {
        run.write_all(&record?).map_err(broken)?;
    }
    let mut run = run.into_inner().map_err(|error| broken(error.into_error()))?;
    run.seek(SeekFrom::Start(0)).map_err(broken)?;
    Ok(run)
}

/// `None` at the end.
fn read_record<const BYTES: usize>(run: &mut impl Read) -> io::Result<Option<[u8; BYTES]>> {
    let mut record = [0; BYTES];
    let mut filled = 0;
    while filled < BYTES {
        match run.read(&mut record[filled..]) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(bytes) => filled += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Some(record))
}

fn broken(cause: io::Error) -> TransferError {
    failed("sort in a file without a name", Path::new("of the cache"), cause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine_repository::Id;

    #[test]
    fn more_records_than_are_held_come_out_in_order_and_all_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::below(folder.path(), Id::of(b"a repository"));
        let mut sorter = Sorter::<16>::new(&cache, 0);
        // A hundred runs of 256 KiB, so that they are merged in passes.
        let count = 100 * (HELD_BYTES_MIN / 16) as u64;
        let number = |place: u64| place.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
        for place in 0..count {
            let mut record = [0; 16];
            record[..8].copy_from_slice(&number(place).to_be_bytes());
            sorter.push(record).unwrap();
        }
        assert!(sorter.held.capacity() * 16 <= HELD_BYTES_MIN, "the bound is kept");
        let mut expected: Vec<u64> = (0..count).map(number).collect();
        expected.sort_unstable();
        let sorted = sorter.finish().unwrap();
        let found = sorted.map(|r| u64::from_be_bytes(r.unwrap()[..8].try_into().unwrap()));
        assert!(found.eq(expected));
        let left = std::fs::read_dir(cache.folder().unwrap().unwrap()).unwrap().count();
        assert_eq!(left, 0, "no file has a name");
    }

    #[test]
    fn what_waits_is_on_the_disk_unless_it_is_little() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::below(folder.path(), Id::of(b"a repository"));
        for (count, is_held) in [(1000_u64, true), (HELD_BYTES_MIN as u64 / 4, false)] {
            let mut sorter = Sorter::<8>::new(&cache, 8 * HELD_BYTES_MIN);
            for number in (0..count).rev() {
                sorter.push(number.to_be_bytes()).unwrap();
            }
            let sorted = sorter.finish_aside().unwrap();
            assert_eq!(sorted.0.held.len() > 0, is_held, "{count} records");
            assert!(sorted.map(|record| u64::from_be_bytes(record.unwrap())).eq(0..count));
        }
    }

    #[test]
    fn nothing_sorted_is_nothing() {
        let sorter = Sorter::<8>::new(&Cache::none(), 1 << 20);
        assert_eq!(sorter.finish().unwrap().count(), 0);
    }
}
