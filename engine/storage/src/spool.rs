//! A temporary file for a pack that cannot be sent before it is complete.

use crate::{Result, StorageError};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A file that has no name any more: whatever ends us, nothing of it is left behind.
pub(crate) struct Spool {
    file: File,
    folder: PathBuf,
    bytes: u64,
}

impl Spool {
    /// An empty one in `folder`.
    pub fn begin(folder: &Path) -> Result<Self> {
        let failed = |action, path: &Path, cause| {
            StorageError::from_io(&folder.display().to_string(), action, path, cause)
        };
        let random = crate::name::random_text();
        let name = random.map_err(|cause| failed("read", Path::new("/dev/urandom"), cause))?;
        let path = folder.join(format!("holdfast-pack-{name}"));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|cause| failed("create", &path, cause))?;
        fs::remove_file(&path).map_err(|cause| failed("remove", &path, cause))?;
        Ok(Self { file, folder: folder.into(), bytes: 0 })
    }

    /// Adds bytes at the end.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all(bytes)
            .map_err(|cause| self.failed("write a temporary file in", cause))?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// How much is in it.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads the part from `start` on, at most `bytes_max` long.
    pub fn part(&mut self, start: u64, bytes_max: u64) -> Result<impl Read + Seek> {
        match self.file.seek(SeekFrom::Start(start)) {
            Ok(_) => Ok((&mut self.file).take(bytes_max)),
            Err(cause) => Err(self.failed("read a temporary file in", cause)),
        }
    }

    /// Reads from `offset` on as much as there is and fits.
    pub fn read_back(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let read = read_from(&self.file, offset, buffer);
        read.map_err(|cause| self.failed("read a temporary file in", cause))
    }

    fn failed(&self, action: &'static str, cause: io::Error) -> StorageError {
        let location = self.folder.display().to_string();
        StorageError::from_io(&location, action, &self.folder, cause)
    }
}

/// Fills `buffer` from `offset` on, or as much of it as the file has. Where the next bytes are
/// written stays where it was.
pub(crate) fn read_from(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(bytes) => filled += bytes,
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(filled)
}
