//! A pack that waits in a temporary file until it is complete and can be sent.

use super::line::Line;
use crate::{Name, PackFile, Result, StorageError};
use engine_repository::{FileKind, Id};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file that has no name any more: whatever ends us, nothing of it is left behind.
pub(super) struct Spooled {
    line: Arc<Line>,
    file: File,
    folder: PathBuf,
    bytes: u64,
}

impl Spooled {
    pub(super) fn begin(line: &Arc<Line>, folder: &Path) -> Result<Self> {
        let failed = |action, path: &Path, cause| {
            StorageError::from_io(&folder.display().to_string(), action, path, cause)
        };
        let mut chance = [0; 12];
        getrandom::fill(&mut chance).map_err(|cause| {
            failed("read", Path::new("/dev/urandom"), io::Error::other(cause.to_string()))
        })?;
        let name: String = chance.iter().map(|byte| format!("{byte:02x}")).collect();
        let path = folder.join(format!("holdfast-pack-{name}"));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|cause| failed("create", &path, cause))?;
        fs::remove_file(&path).map_err(|cause| failed("remove", &path, cause))?;
        Ok(Self { line: line.clone(), file, folder: folder.into(), bytes: 0 })
    }

    fn failed(&self, action: &'static str, cause: io::Error) -> StorageError {
        let location = self.folder.display().to_string();
        StorageError::from_io(&location, action, &self.folder, cause)
    }
}

impl PackFile for Spooled {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all(bytes)
            .map_err(|cause| self.failed("write a temporary file in", cause))?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    fn settle(&mut self, id: Id) -> Result<()> {
        let name = Name::of(FileKind::Pack, id);
        self.file
            .seek(SeekFrom::Start(0))
            .map_err(|cause| self.failed("read a temporary file in", cause))?;
        match self.line.upload(name, &mut self.file, self.bytes) {
            // The same id is the same content; the size shows a pack that was cut off there.
            Err(StorageError::AlreadyExists { .. })
                if self.line.size(name)? == Some(self.bytes) =>
            {
                Ok(())
            }
            other => other,
        }
    }
}
