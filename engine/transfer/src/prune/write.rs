//! New index files: each is read back before anything it replaces may go.

use super::Job;
use crate::Result;
use crate::repository::{nonce, unwritable};
use engine_repository::index::INDEX_BLOBS_MAX;
use engine_repository::{FileKind, Id, IndexWriter, PackedBlob};

/// Index files being written.
#[derive(Default)]
pub(super) struct IndexOutput {
    writer: Option<IndexWriter>,
    files: Vec<Id>,
}

impl IndexOutput {
    /// Names a pack that was found to be there.
    pub(super) fn add(&mut self, job: &Job<'_>, pack: &Id, blobs: &[PackedBlob]) -> Result<()> {
        job.lock.must_be_held()?;
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => IndexWriter::new(job.repository.config().version)
                .map_err(|cause| unwritable("an index", cause))?,
        };
        writer.add(pack, blobs).map_err(|cause| unwritable("an index", cause))?;
        match writer.blobs() < INDEX_BLOBS_MAX {
            true => self.writer = Some(writer),
            false => self.save(job, writer)?,
        }
        Ok(())
    }

    fn save(&mut self, job: &Job<'_>, writer: IndexWriter) -> Result<()> {
        let sealed = writer
            .finish(job.repository.key(), nonce()?)
            .map_err(|cause| unwritable("an index", cause))?;
        let id = job.repository.save_sealed(FileKind::Index, &sealed)?;
        drop(sealed);
        job.repository.read_sealed(FileKind::Index, id)?;
        self.files.push(id);
        Ok(())
    }

    /// The files, all of them durable and sound.
    pub(super) fn finish(mut self, job: &Job<'_>) -> Result<Vec<Id>> {
        if let Some(writer) = self.writer.take() {
            self.save(job, writer)?;
        }
        Ok(self.files)
    }
}
