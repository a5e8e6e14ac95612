//! A pack that waits in a temporary file until it is complete and can be sent.

use super::Line;
use crate::spool::Spool;
use crate::{Name, PackFile, Result, StorageError};
use engine_repository::{FileKind, Id};
use std::sync::Arc;

/// A pack on its way to the server.
pub(super) struct SftpPack {
    pub line: Arc<Line>,
    pub spool: Spool,
}

impl PackFile for SftpPack {
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
