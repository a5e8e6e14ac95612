//! Bytes too many to be held, in a file without a name: folders of millions of files on their way.
//!
//! The file lies in the repository's cache folder, never in the repository, and is gone when it is
//! closed, whatever ends us. How much may be in it is for whoever fills it to bound: the JSON of
//! one tree, or a sealed blob, of which the format has none above 4 GiB; the names of one folder.

use crate::cache::{Cache, failed};
use crate::{Result, TransferError};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Such a file.
pub(crate) struct Spool {
    file: File,
    folder: PathBuf,
    bytes: u64,
}

impl Spool {
    /// An empty one.
    pub(crate) fn new(cache: &Cache) -> Result<Self> {
        Ok(Self { file: cache.scratch_file()?, folder: cache.scratch_folder().into(), bytes: 0 })
    }

    /// Adds bytes at the end.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.file.write_all_at(bytes, self.bytes);
        written.map_err(|cause| failed("write a temporary file in", &self.folder, cause))?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// How many there are.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Forgets all but the first so many.
    pub(crate) fn truncate(&mut self, bytes: u64) -> Result<()> {
        self.bytes = self.bytes.min(bytes);
        let cut = self.file.set_len(self.bytes);
        cut.map_err(|cause| failed("cut a temporary file in", &self.folder, cause))
    }

    /// Reads from `at` on, as the system does: fewer bytes than asked for are no end.
    pub(crate) fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let left = self.bytes.saturating_sub(at);
        let wanted = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        if wanted == 0 {
            return Ok(0);
        }
        loop {
            match self.file.read_at(&mut buffer[..wanted], at) {
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }

    /// Reads all of it, from the beginning on. Any number may read at the same time.
    pub(crate) fn reader(&self) -> SpoolReader<'_> {
        SpoolReader { spool: self, at: 0 }
    }

    /// The error of a [`SpoolReader`], as everybody knows it.
    pub(crate) fn unread(&self, cause: io::Error) -> TransferError {
        failed("read a temporary file in", &self.folder, cause)
    }
}

/// Reads a spool. Its errors are the system's own.
pub(crate) struct SpoolReader<'a> {
    spool: &'a Spool,
    at: u64,
}

impl Read for SpoolReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.spool.read_at(buffer, self.at)?;
        self.at += bytes as u64;
        Ok(bytes)
    }
}

impl Seek for SpoolReader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.spool.bytes.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine_repository::Id;

    #[test]
    fn what_was_put_in_is_read_by_several_at_once_and_what_was_cut_off_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::below(folder.path(), Id::of(b"a repository"));
        let mut spool = Spool::new(&cache).unwrap();
        let bytes: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        bytes.chunks(30_001).try_for_each(|piece| spool.append(piece)).unwrap();
        spool.append(b"the end of a checkpoint").unwrap();
        spool.truncate(bytes.len() as u64).unwrap();
        assert_eq!(spool.bytes(), bytes.len() as u64);
        let (mut one, mut other) = (spool.reader(), spool.reader());
        let (mut first, mut whole) = ([0; 10], Vec::new());
        one.read_exact(&mut first).unwrap();
        other.read_to_end(&mut whole).unwrap();
        assert!(whole == bytes && first == bytes[..10]);
        assert_eq!(one.seek(SeekFrom::End(-4)).unwrap(), bytes.len() as u64 - 4);
        whole.clear();
        one.read_to_end(&mut whole).unwrap();
        assert_eq!(whole, bytes[bytes.len() - 4..]);
        assert!(one.seek(SeekFrom::Start(u64::MAX)).is_ok() && one.read(&mut first).unwrap() == 0);
        let kept = cache.folder().unwrap().unwrap();
        assert_eq!(std::fs::read_dir(kept).unwrap().count(), 0, "it has no name");
    }

    #[test]
    fn a_disk_that_is_full_is_told_with_what_to_do_about_it() {
        let Ok(file) = File::options().read(true).write(true).open("/dev/full") else { return };
        let mut spool = Spool { file, folder: "/volume1/cache".into(), bytes: 0 };
        let error = spool.append(b"something").unwrap_err();
        assert!(error.to_string().contains("/volume1/cache"), "{error}");
        assert!(error.remedy().contains("has space"), "{}", error.remedy());
    }
}
