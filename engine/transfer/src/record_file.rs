//! Records of a fixed size in a file: written once from front to back, read as often as wanted.
//!
//! What a [`Sorter`](crate::sorter::Sorter) gives can be read once; kept here it can be read again,
//! and looked up by bisection. Reading is by place, so that any number of readers share one file,
//! and several stretches of records may lie in one. Each reader has one small buffer.

use crate::cache::{Cache, failed};
use crate::{Result, TransferError};
use std::cmp::Ordering;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// Each reader and writer has a buffer of about this size.
const BUFFER_BYTES: usize = 64 << 10;

/// Writes records behind each other.
pub(crate) struct RecordWriter<const BYTES: usize> {
    file: Arc<File>,
    start: u64,
    count: u64,
    buffer: Vec<u8>,
}

impl<const BYTES: usize> RecordWriter<BYTES> {
    /// Writes into a file without a name.
    pub(crate) fn in_scratch(cache: &Cache) -> Result<Self> {
        Ok(Self::at(Arc::new(cache.scratch_file()?), 0))
    }

    /// Writes into a file, from the byte `start` on.
    pub(crate) fn at(file: Arc<File>, start: u64) -> Self {
        Self { file, start, count: 0, buffer: Vec::with_capacity(BUFFER_BYTES + BYTES) }
    }

    pub(crate) fn push(&mut self, record: &[u8; BYTES]) -> Result<()> {
        self.buffer.extend_from_slice(record);
        self.count += 1;
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let end = self.start + self.count * BYTES as u64;
        let at = end - self.buffer.len() as u64;
        self.file.write_all_at(&self.buffer, at).map_err(broken)?;
        self.buffer.clear();
        Ok(())
    }

    /// All that was written, for reading.
    pub(crate) fn finish(mut self) -> Result<RecordFile<BYTES>> {
        self.flush()?;
        Ok(RecordFile { file: self.file, start: self.start, count: self.count })
    }
}

/// Records that were written.
#[derive(Clone)]
pub(crate) struct RecordFile<const BYTES: usize> {
    file: Arc<File>,
    start: u64,
    count: u64,
}

impl<const BYTES: usize> RecordFile<BYTES> {
    /// So many records that lie in a file from the byte `start` on.
    pub(crate) fn within(file: Arc<File>, start: u64, count: u64) -> Self {
        Self { file, start, count }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The byte behind the last of them.
    pub(crate) fn end(&self) -> u64 {
        self.start + self.count * BYTES as u64
    }

    /// All of them, in the order they were written.
    pub(crate) fn records(&self) -> Records<BYTES> {
        Records { file: self.clone(), next: 0, buffer: Vec::new(), at: 0 }
    }

    /// The first record that begins with `prefix`, if they are sorted.
    pub(crate) fn find(&self, prefix: &[u8]) -> Result<Option<[u8; BYTES]>> {
        let at = self.place_of(prefix)?;
        let record = if at < self.count { Some(self.get(at)?) } else { None };
        Ok(record.filter(|record| record.starts_with(prefix)))
    }

    /// All records that begin with `prefix`, if they are sorted, and whatever comes after them.
    pub(crate) fn records_from(&self, prefix: &[u8]) -> Result<Records<BYTES>> {
        Ok(Records { next: self.place_of(prefix)?, ..self.records() })
    }

    /// Where the first record is that does not sort before `prefix`.
    fn place_of(&self, prefix: &[u8]) -> Result<u64> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.get(middle)?[..prefix.len()].cmp(prefix) {
                Ordering::Less => low = middle + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }

    fn get(&self, at: u64) -> Result<[u8; BYTES]> {
        let mut record = [0; BYTES];
        self.file.read_exact_at(&mut record, self.start + at * BYTES as u64).map_err(broken)?;
        Ok(record)
    }
}

/// Records, one after the other.
pub(crate) struct Records<const BYTES: usize> {
    file: RecordFile<BYTES>,
    /// The first record that is not in the buffer.
    next: u64,
    buffer: Vec<u8>,
    at: usize,
}

impl<const BYTES: usize> Records<BYTES> {
    fn fill(&mut self) -> Result<()> {
        let held_max = (BUFFER_BYTES / BYTES).max(1) as u64;
        let count = held_max.min(self.file.count - self.next);
        self.buffer.resize(usize::try_from(count).unwrap_or(0) * BYTES, 0);
        let start = self.file.start + self.next * BYTES as u64;
        self.file.file.read_exact_at(&mut self.buffer, start).map_err(broken)?;
        (self.at, self.next) = (0, self.next + count);
        Ok(())
    }
}

impl<const BYTES: usize> Iterator for Records<BYTES> {
    type Item = Result<[u8; BYTES]>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at == self.buffer.len() {
            if self.next == self.file.count {
                return None;
            }
            if let Err(error) = self.fill() {
                self.next = self.file.count;
                self.buffer.clear();
                self.at = 0;
                return Some(Err(error));
            }
        }
        let mut record = [0; BYTES];
        record.copy_from_slice(&self.buffer[self.at..self.at + BYTES]);
        self.at += BYTES;
        Some(Ok(record))
    }
}

pub(crate) fn broken(cause: io::Error) -> TransferError {
    failed("keep records in a file", Path::new("of the cache"), cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_again_and_again_and_found() {
        let cache = Cache::none();
        let mut writer = RecordWriter::<8>::in_scratch(&cache).unwrap();
        for number in 0..50_000_u32 {
            let mut record = [0; 8];
            record[..4].copy_from_slice(&(number / 2 * 3).to_be_bytes());
            record[4..].copy_from_slice(&number.to_be_bytes());
            writer.push(&record).unwrap();
        }
        let file = writer.finish().unwrap();
        for _ in 0..2 {
            let numbers = file.records().map(|record| record.unwrap()[4..].try_into().unwrap());
            assert!(numbers.map(u32::from_be_bytes).eq(0..50_000));
        }
        for number in 0..1000_u32 {
            let found = file.find(&number.to_be_bytes()).unwrap();
            let second = found.map(|record| u32::from_be_bytes(record[4..].try_into().unwrap()));
            assert_eq!(second, number.is_multiple_of(3).then_some(number / 3 * 2));
        }
        let from = file.records_from(&300_u32.to_be_bytes()).unwrap();
        assert_eq!(from.count(), 50_000 - 200);
        assert_eq!(file.find(&u32::MAX.to_be_bytes()).unwrap(), None);
        let second = RecordWriter::<2>::at(file.file.clone(), file.end());
        assert_eq!(second.finish().unwrap().records().count(), 0);
    }
}
