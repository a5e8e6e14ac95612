//! How long packs have been there, as far as this computer knows.
//!
//! Storages do not say when a file was written, and the clocks of those that would are their own.
//! So whenever a prune lists packs it notes in the cache's folder which of them it sees for the
//! first time. What is lost there makes packs younger than they are, never older.

use super::PruneRequest;
use super::records::{Lookup, PACK_BYTES, pack_of, pack_record};
use crate::cache::failed;
use crate::record_file::{RecordFile, RecordWriter};
use crate::repository::now;
use crate::{Repository, Result};
use engine_repository::Id;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// The name of the file in the cache's folder: packs and the seconds since 1970, sorted.
const FILE_NAME: &str = "pack-ages-1";

/// Notes which packs are there. Those that are younger than asked for, sorted, if it was asked.
pub(super) fn young(
    repository: &Repository,
    there: &RecordFile<PACK_BYTES>,
    request: &PruneRequest,
) -> Result<Option<RecordFile<{ Id::BYTES }>>> {
    let folder = repository.cache().folder()?;
    if folder.is_none() && request.pack_age_seconds_min.is_none() {
        return Ok(None);
    }
    let known = folder.map(|folder| known(&folder.join(FILE_NAME))).transpose()?.flatten();
    let mut known = known.map(|known| Lookup::new(known.records())).transpose()?;
    let mut noted = Notes::new(repository, folder)?;
    let mut young = RecordWriter::in_scratch(repository.cache())?;
    let now = u64::try_from(now().seconds).unwrap_or(0);
    for record in there.records() {
        let (pack, _) = pack_of(&record?);
        let before = match &mut known {
            Some(known) => known.find(pack.as_bytes())?.map(|record| pack_of(&record).1),
            None => None,
        };
        let first_seen = before.unwrap_or(now);
        noted.writer.push(&pack_record(&pack, first_seen))?;
        let age = now.saturating_sub(first_seen);
        if request.pack_age_seconds_min.is_some_and(|age_min| age < age_min) {
            young.push(pack.as_bytes())?;
        }
    }
    noted.finish()?;
    let young = young.finish()?;
    Ok(request.pack_age_seconds_min.map(|_| young))
}

fn known(path: &Path) -> Result<Option<RecordFile<PACK_BYTES>>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(|cause| failed("read", path, cause))?,
    };
    let bytes = file.metadata().map_err(|cause| failed("read", path, cause))?.len();
    let records = bytes / PACK_BYTES as u64;
    Ok(Some(RecordFile::within(Arc::new(file), 0, records)))
}

/// Notes being written. They take the place of the old ones when they are whole.
struct Notes<'a> {
    writer: RecordWriter<PACK_BYTES>,
    named: Option<(tempfile::NamedTempFile, &'a Path)>,
}

impl<'a> Notes<'a> {
    fn new(repository: &Repository, folder: Option<&'a Path>) -> Result<Self> {
        let Some(folder) = folder else {
            let writer = RecordWriter::in_scratch(repository.cache())?;
            return Ok(Self { writer, named: None });
        };
        let made = tempfile::NamedTempFile::new_in(folder);
        let named = made.map_err(|cause| failed("make a file in", folder, cause))?;
        let file = named.reopen().map_err(|cause| failed("open", named.path(), cause))?;
        Ok(Self { writer: RecordWriter::at(Arc::new(file), 0), named: Some((named, folder)) })
    }

    fn finish(self) -> Result<()> {
        self.writer.finish()?;
        let Some((named, folder)) = self.named else { return Ok(()) };
        let path = folder.join(FILE_NAME);
        let persisted = named.persist(&path).map(drop).map_err(|error| error.error);
        persisted.map_err(|cause| failed("name", &path, cause))
    }
}
