//! A run made of entries of index files, in any order, with bounded memory.

use super::entries::each_entry_of;
use super::record::{RECORD_BYTES, Record};
use super::run::{RunFile, RunWriter};
use crate::sorter::Sorter;
use crate::{Cancel, Repository, Result, TransferError};
use engine_repository::{Id, PackedBlob};
use std::fs::File;

/// Takes in entries of index files.
pub(crate) struct RunBuilder {
    writer: RunWriter,
    sorter: Sorter<RECORD_BYTES>,
    files: Vec<Id>,
    /// The pack whose blobs come, and how many came.
    pack: Option<(Id, u32)>,
    records: u64,
}

impl RunBuilder {
    /// Makes a run that nobody else will see.
    pub(crate) fn unnamed(repository: &Repository) -> Result<Self> {
        let file = repository.cache().scratch_file()?;
        Ok(Self::into_file(repository, RunWriter::new(file, repository.id(), RunFile::new_salt()?)))
    }

    /// Makes a run in a file of the caller's.
    pub(super) fn into_file(repository: &Repository, writer: RunWriter) -> Self {
        let held_bytes = usize::try_from(repository.plan().index_bytes / 4).unwrap_or(usize::MAX);
        let sorter = Sorter::new(repository.cache(), held_bytes);
        Self { writer, sorter, files: Vec::new(), pack: None, records: 0 }
    }

    /// Takes in an index file: see [`each_entry_of`].
    pub(crate) fn add_file(
        &mut self,
        repository: &Repository,
        file: Id,
        cancel: &Cancel,
        each: &mut dyn FnMut(Id, &PackedBlob) -> Result<()>,
    ) -> Result<bool> {
        self.files.push(file);
        let added = each_entry_of(repository, file, &mut |pack, packed| {
            if self.records.is_multiple_of(1024) && cancel.is_cancelled() {
                return Err(TransferError::Cancelled);
            }
            self.add(pack, packed)?;
            each(pack, packed)
        });
        // The next file may begin with the pack this one ended with.
        self.end_pack()?;
        if let Ok(false) = added {
            self.files.pop();
        }
        added
    }

    fn add(&mut self, pack: Id, packed: &PackedBlob) -> Result<()> {
        match &mut self.pack {
            Some((open, blobs)) if *open == pack => *blobs += 1,
            _ => {
                self.end_pack()?;
                self.pack = Some((pack, 1));
            }
        }
        self.records += 1;
        // The open pack will have the next number.
        self.sorter.push(Record::new(self.writer.next_pack(), packed).0)
    }

    fn end_pack(&mut self) -> Result<()> {
        match self.pack.take() {
            Some((pack, blobs)) => {
                let file = self.files.len().saturating_sub(1) as u32;
                self.writer.add_pack(&pack, file, blobs)
            }
            None => Ok(()),
        }
    }

    /// The run.
    pub(super) fn finish(mut self) -> Result<RunFile> {
        self.end_pack()?;
        let mut sorted = self.sorter.finish()?.map(|record| record.map(Record));
        self.writer.finish(&self.files, self.records, &mut sorted)
    }
}

/// A run of blobs that are sorted already, of packs that have so many of them each.
pub(super) fn sorted_run(
    repository: Id,
    file: File,
    packs: &[(Id, u32)],
    count: u64,
    records: &mut dyn Iterator<Item = Result<Record>>,
) -> Result<RunFile> {
    let mut writer = RunWriter::new(file, repository, RunFile::new_salt()?);
    for (pack, blobs) in packs {
        writer.add_pack(pack, 0, *blobs)?;
    }
    writer.finish(&[Id::ZERO], count, records)
}
