//! A pack that waits in a temporary file until it is complete and can be sent whole.

use crate::spool::Spool;
use crate::{Name, PackFile, Result, StorageError};
use engine_repository::{FileKind, Id};
use std::io::Read;
use std::sync::Arc;

/// A line to a server that takes whole files of known length.
pub(crate) trait Uploads: Send + Sync {
    /// Stores a file; [`StorageError::AlreadyExists`] when the name is taken.
    fn upload(&self, name: Name, body: &mut dyn Read, bytes: u64) -> Result<()>;

    /// The file's size in bytes, `None` when it is not there.
    fn size(&self, name: Name) -> Result<Option<u64>>;
}

/// A pack on its way to the server.
pub(crate) struct SpooledPack<L> {
    pub line: Arc<L>,
    pub spool: Spool,
}

impl<L: Uploads> PackFile for SpooledPack<L> {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.spool.append(bytes)
    }

    fn read_back(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.spool.read_back(offset, buffer)
    }

    fn settle(&mut self, id: Id) -> Result<()> {
        let name = Name::of(FileKind::Pack, id);
        let bytes = self.spool.bytes();
        match self.line.upload(name, &mut self.spool.part(0, bytes)?, bytes) {
            // The same id is the same content; the size shows a pack that was cut off there.
            Err(StorageError::AlreadyExists { .. }) if self.line.size(name)? == Some(bytes) => {
                Ok(())
            }
            other => other,
        }
    }
}
