//! The names in a folder, sorted by their bytes.
//!
//! In one piece of memory while they are few: a million of them are some tens of MB less than as
//! strings of their own, but still more than a small box has. So what is more than the repository
//! holds of a folder goes in sorted runs into temporary files, which are merged into one.

use crate::posix::Folder;
use crate::spool::Spool;
use crate::{Repository, Result};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ffi::{CStr, CString};
use std::io;

/// After so many names of a large folder it is asked whether more are wanted.
const NAMES_UNASKED_MAX: usize = 1024;
/// So many runs are merged at once; more are merged in several passes.
const RUNS_MERGED_MAX: usize = 16;
/// So much of a file is read or written at once.
const BUFFER_BYTES: usize = 64 << 10;

/// All names in a folder but `.` and `..`; [`io::ErrorKind::Interrupted`] as soon as it is to end.
/// An error that is a [`crate::TransferError`] within says nothing of the folder.
pub(crate) fn names_of(
    folder: &Folder,
    repository: &Repository,
    is_stopped: &dyn Fn() -> bool,
) -> io::Result<Names> {
    let mut names = NamesBuilder::new(repository);
    folder.each_name(&mut |name| {
        if names.count.is_multiple_of(NAMES_UNASKED_MAX) && is_stopped() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        names.push(name)
    })?;
    names.finish()
}

/// Names that come in any order.
pub(crate) struct NamesBuilder<'a> {
    repository: &'a Repository,
    held: Held,
    runs: Vec<Spool>,
    count: usize,
}

impl<'a> NamesBuilder<'a> {
    pub(crate) fn new(repository: &'a Repository) -> Self {
        Self { repository, held: Held::default(), runs: Vec::new(), count: 0 }
    }

    pub(crate) fn push(&mut self, name: &CStr) -> io::Result<()> {
        if self.held.bytes.len() >= self.repository.tree_held_bytes_max() {
            self.spill().map_err(io::Error::other)?;
        }
        self.count += 1;
        self.held.push(name)
    }

    /// All of them, sorted.
    pub(crate) fn finish(mut self) -> io::Result<Names> {
        if self.runs.is_empty() {
            self.held.sort();
            return Ok(Names { held: self.held, spool: None, count: self.count });
        }
        self.spill().map_err(io::Error::other)?;
        let mut runs = self.runs;
        let spool = match runs.pop() {
            Some(only) if runs.is_empty() => only,
            last => {
                runs.extend(last);
                merge(self.repository, runs).map_err(io::Error::other)?
            }
        };
        Ok(Names { held: Held::default(), spool: Some(spool), count: self.count })
    }

    fn spill(&mut self) -> Result<()> {
        self.held.sort();
        let mut run = RunWriter::new(self.repository)?;
        for place in 0..self.held.starts.len() {
            self.held.get(place).map_or(Ok(()), |name| run.push(name.to_bytes_with_nul()))?;
        }
        self.runs.push(run.finish()?);
        self.held.bytes.clear();
        self.held.starts.clear();
        if self.runs.len() == RUNS_MERGED_MAX {
            let runs = std::mem::take(&mut self.runs);
            self.runs.push(merge(self.repository, runs)?);
        }
        Ok(())
    }
}

fn merge(repository: &Repository, runs: Vec<Spool>) -> Result<Spool> {
    let mut merged = RunWriter::new(repository)?;
    let mut readers: Vec<_> = runs.iter().map(|run| (run, RunReader::default())).collect();
    let mut heads = BinaryHeap::new();
    for (number, (run, reader)) in readers.iter_mut().enumerate() {
        let first = reader.next(run).map_err(|cause| run.unread(cause))?;
        heads.extend(first.map(|name| Reverse((name.to_owned(), number))));
    }
    while let Some(Reverse((name, number))) = heads.pop() {
        merged.push(name.as_bytes_with_nul())?;
        let (run, reader) = &mut readers[number];
        let next = reader.next(run).map_err(|cause| run.unread(cause))?;
        heads.extend(next.map(|name| Reverse((name.to_owned(), number))));
    }
    merged.finish()
}

/// Sorted names. They are asked for in order, each reader with a [`Cursor`] of its own.
#[derive(Default)]
pub(crate) struct Names {
    held: Held,
    spool: Option<Spool>,
    count: usize,
}

impl Names {
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// The next name; `None` at the end. An error is one of a temporary file.
    pub(crate) fn next<'a>(&'a self, cursor: &'a mut Cursor) -> Result<Option<&'a CStr>> {
        match &self.spool {
            Some(spool) => cursor.run.next(spool).map_err(|cause| spool.unread(cause)),
            None => {
                cursor.place += 1;
                Ok(self.held.get(cursor.place - 1))
            }
        }
    }
}

/// How far somebody has come.
#[derive(Default)]
pub(crate) struct Cursor {
    place: usize,
    run: RunReader,
}

/// Names in one piece of memory.
#[derive(Default)]
struct Held {
    /// Each name, with the NUL that ends it.
    bytes: Vec<u8>,
    /// Where each name starts.
    starts: Vec<u32>,
}

impl Held {
    fn push(&mut self, name: &CStr) -> io::Result<()> {
        let start = u32::try_from(self.bytes.len())
            .map_err(|_| io::Error::other("a folder with more than 4 GiB of names"))?;
        self.starts.push(start);
        self.bytes.extend_from_slice(name.to_bytes_with_nul());
        Ok(())
    }

    fn sort(&mut self) {
        // Names differ before the shorter one's NUL is passed, and nothing is less than NUL; so
        // what follows them need not be cut off.
        let bytes = &self.bytes;
        let rest = |start: u32| bytes.get(start as usize..);
        self.starts.sort_unstable_by(|one, other| rest(*one).cmp(&rest(*other)));
    }

    fn get(&self, place: usize) -> Option<&CStr> {
        let start = *self.starts.get(place)? as usize;
        CStr::from_bytes_until_nul(self.bytes.get(start..)?).ok()
    }
}

/// Names behind each other in a file.
struct RunWriter {
    spool: Spool,
    buffer: Vec<u8>,
}

impl RunWriter {
    fn new(repository: &Repository) -> Result<Self> {
        Ok(Self { spool: Spool::new(repository.cache())?, buffer: Vec::new() })
    }

    fn push(&mut self, name_with_nul: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(name_with_nul);
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.spool.append(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<Spool> {
        self.flush()?;
        Ok(self.spool)
    }
}

#[derive(Default)]
struct RunReader {
    buffer: Vec<u8>,
    at: usize,
    /// So many bytes of the file came into the buffer.
    read: u64,
}

impl RunReader {
    fn next(&mut self, run: &Spool) -> io::Result<Option<&CStr>> {
        let mut searched = 0;
        let length = loop {
            let rest = &self.buffer[self.at..];
            if let Some(end) = rest[searched..].iter().position(|byte| *byte == 0) {
                break searched + end + 1;
            }
            searched = rest.len();
            self.buffer.drain(..self.at);
            self.at = 0;
            self.buffer.resize(searched + BUFFER_BYTES, 0);
            let bytes = run.read_at(&mut self.buffer[searched..], self.read)?;
            self.buffer.truncate(searched + bytes);
            self.read += bytes as u64;
            match (bytes, searched) {
                (0, 0) => return Ok(None),
                // Each name was written with its end.
                (0, _) => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ => {}
            }
        };
        let name = &self.buffer[self.at..self.at + length];
        self.at += length;
        CStr::from_bytes_with_nul(name).map(Some).map_err(io::Error::other)
    }
}

/// Finds names that are asked for in order among those of a folder.
#[derive(Default)]
pub(crate) struct Finder {
    cursor: Cursor,
    /// The last that was read, and its place.
    ahead: Option<(usize, CString)>,
    read: usize,
    asked: Vec<u8>,
}

impl Finder {
    /// The place of a name. One that comes out of order makes it begin again.
    pub(crate) fn place(&mut self, names: &Names, name: &[u8]) -> Result<Option<usize>> {
        if name < &self.asked[..] {
            *self = Self::default();
        }
        self.asked.clear();
        self.asked.extend_from_slice(name);
        loop {
            if let Some((place, ahead)) = &self.ahead {
                match ahead.as_bytes().cmp(name) {
                    std::cmp::Ordering::Less => {}
                    std::cmp::Ordering::Equal => return Ok(Some(*place)),
                    std::cmp::Ordering::Greater => return Ok(None),
                }
            }
            let Some(next) = names.next(&mut self.cursor)? else { return Ok(None) };
            self.ahead = Some((self.read, next.to_owned()));
            self.read += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Who;
    use engine_contract::memory::MemoryPlan;
    use std::cell::Cell;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::sync::Arc;

    /// A repository that holds so many bytes of a folder.
    fn holding(bytes_max: usize) -> (tempfile::TempDir, Repository) {
        let place = tempfile::tempdir().unwrap();
        let storage = Arc::new(engine_storage::Folder::at(&place.path().join("repository")));
        let name = String::from("box");
        let who = Who { hostname: name.clone(), username: name, uid: 0, gid: 0, pid: 1 };
        let repository = Repository::init(storage, "x", &who, &MemoryPlan::of(64 << 20)).unwrap();
        (place, repository.holding_of_trees(bytes_max))
    }

    fn all(names: &Names) -> Vec<Vec<u8>> {
        let (mut cursor, mut all) = (Cursor::default(), Vec::new());
        while let Some(name) = names.next(&mut cursor).unwrap() {
            all.push(name.to_bytes().to_vec());
        }
        all
    }

    #[test]
    fn names_come_sorted_by_their_bytes_whatever_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let names: [&[u8]; 6] = [b"a\nb", b"a", b"\xff\xfe", b"B", "é".as_bytes(), b"a b"];
        for name in names {
            std::fs::write(folder.path().join(OsStr::from_bytes(name)), b"").unwrap();
        }
        let mut expected: Vec<_> = names.iter().map(|name| name.to_vec()).collect();
        expected.sort();
        for bytes_max in [1, 1 << 20] {
            let (_place, repository) = holding(bytes_max);
            let found = Folder::at(folder.path()).unwrap();
            let found = names_of(&found, &repository, &|| false).unwrap();
            assert_eq!(all(&found), expected);
            assert_eq!(found.len(), expected.len());
            assert_eq!(found.spool.is_some(), bytes_max == 1);
        }
    }

    #[test]
    fn more_names_than_are_held_are_sorted_on_disk_in_several_passes() {
        let (_place, repository) = holding(2000);
        let mut builder = NamesBuilder::new(&repository);
        let name = |number: u32| {
            let number = number.wrapping_mul(2_654_435_761);
            CString::new(format!("{:0width$x}", number, width = (number % 60) as usize)).unwrap()
        };
        let mut expected: Vec<_> = (0..5000).map(|number| name(number).into_bytes()).collect();
        (0..5000).for_each(|number| builder.push(&name(number)).unwrap());
        let names = builder.finish().unwrap();
        expected.sort();
        assert_eq!(all(&names), expected);
        // What a snapshot has is found among them, also when its tree is not sorted.
        let mut finder = Finder::default();
        for asked in (0..expected.len()).step_by(7).chain([3, 4000, 2]) {
            assert_eq!(finder.place(&names, &expected[asked]).unwrap(), Some(asked));
            let between = [&expected[asked][..], b"!"].concat();
            assert_eq!(finder.place(&names, &between).unwrap(), None);
        }
        assert_eq!(finder.place(&names, b"~").unwrap(), None);
    }

    #[test]
    fn a_huge_folder_is_not_listed_to_its_end_when_nobody_waits_for_it() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..3 * NAMES_UNASKED_MAX {
            std::fs::write(folder.path().join(number.to_string()), b"").unwrap();
        }
        let asked = Cell::new(0);
        let is_stopped = || {
            asked.set(asked.get() + 1);
            asked.get() == 2
        };
        let (_place, repository) = holding(1 << 20);
        let ended = names_of(&Folder::at(folder.path()).unwrap(), &repository, &is_stopped);
        assert_eq!(ended.err().unwrap().kind(), io::ErrorKind::Interrupted);
        assert_eq!(asked.get(), 2);
    }
}
