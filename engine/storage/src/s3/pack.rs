//! A pack on its way into a bucket: it waits in a temporary file until its name is known.

use super::line::{Line, Upload};
use super::{PART_BYTES, WHOLE_BYTES_MAX};
use crate::spool::Spool;
use crate::{Name, PackFile, Result, StorageError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use engine_repository::{FileKind, Id};
use md5::{Digest, Md5};
use std::io::{self, Read};
use std::sync::Arc;

/// A pack on its way.
pub(super) struct S3Pack {
    line: Arc<Line>,
    spool: Spool,
    /// An upload in parts that was begun; the next try goes on with it.
    upload: Option<Upload>,
    /// Of the part that begins there: it is worked out once, however often the part is sent.
    sum: Option<(u64, String)>,
}

impl S3Pack {
    pub fn begin(line: Arc<Line>, spool: Spool) -> Self {
        Self { line, spool, upload: None, sum: None }
    }

    fn sum_of_part(&mut self, start: u64, bytes: u64) -> Result<String> {
        if let Some((of, sum)) = &self.sum
            && *of == start
        {
            return Ok(sum.clone());
        }
        let (mut sum, mut buffer) = (Md5::new(), [0; 8192]);
        let mut part = self.spool.part(start, bytes)?;
        loop {
            match part.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => sum.update(&buffer[..count]),
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(self.line.http.broke(cause)),
            }
        }
        let sum = STANDARD.encode(sum.finalize());
        drop(part);
        self.sum = Some((start, sum.clone()));
        Ok(sum)
    }

    fn send_whole(&mut self, name: Name) -> Result<()> {
        let bytes = self.spool.bytes();
        let sum = self.sum_of_part(0, bytes)?;
        self.line.put(name, &mut self.spool.part(0, bytes)?, bytes, &sum)
    }

    /// Sends the parts that are not there yet. What is done stays done when this fails.
    fn send_parts(&mut self, name: Name) -> Result<()> {
        let bytes = self.spool.bytes();
        if self.upload.as_ref().is_none_or(|upload| upload.name != name) {
            self.upload = Some(self.line.begin_parts(name)?);
        }
        loop {
            let done = self.upload.as_ref().map_or(0, |upload| upload.etags.len() as u64);
            let start = done * PART_BYTES;
            if start >= bytes {
                break;
            }
            let part_bytes = PART_BYTES.min(bytes - start);
            let sum = self.sum_of_part(start, part_bytes)?;
            let mut part = self.spool.part(start, part_bytes)?;
            let Some(upload) = &mut self.upload else { break };
            if let Err(error) = self.line.send_part(upload, &mut part, part_bytes, &sum) {
                drop(part);
                return Err(self.forget_what_the_service_forgot(error));
            }
        }
        let Some(upload) = &self.upload else { return Ok(()) };
        match self.line.finish_parts(upload) {
            Ok(()) => self.upload = None,
            Err(error) => return Err(self.forget_what_the_service_forgot(error)),
        }
        // The sums of the parts were compared; that they make this file shows in its size.
        match self.line.size(name)? {
            Some(found) if found == bytes => Ok(()),
            _ => Err(StorageError::Lost { location: self.line.http.location(), name }),
        }
    }

    /// An upload that was cleared away is begun anew by the next try.
    fn forget_what_the_service_forgot(&mut self, error: StorageError) -> StorageError {
        if matches!(error, StorageError::ServerFailed { status: 404, .. }) {
            self.upload = None;
        }
        error
    }
}

impl PackFile for S3Pack {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.sum = None;
        self.spool.append(bytes)
    }

    fn read_back(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.spool.read_back(offset, buffer)
    }

    fn settle(&mut self, id: Id) -> Result<()> {
        let name = Name::of(FileKind::Pack, id);
        let bytes = self.spool.bytes();
        match self.line.size(name)? {
            // The same id is the same content; the size shows a pack that was cut off there. It
            // may be ours, too, from a try whose answer was lost.
            Some(found) if found == bytes => return Ok(()),
            Some(_) => {
                let location = self.line.http.location();
                return Err(StorageError::AlreadyExists { location, name });
            }
            None => {}
        }
        match bytes > WHOLE_BYTES_MAX {
            true => self.send_parts(name),
            false => self.send_whole(name),
        }
    }
}

impl Drop for S3Pack {
    fn drop(&mut self) {
        if let Some(upload) = &self.upload {
            self.line.abandon_parts(upload);
        }
    }
}
