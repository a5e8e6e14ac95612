//! What phase one found, for phase two: in a file of the cache, or in one without a name.
//!
//! ```text
//! entries of packs that are to go │ packs that stay │ trees that were seen │ head (JSON)
//! │ u64be length of the head │ SHA-256 of all that
//! ```
//!
//! The marks say what was found out about *these* snapshots and *these* index files. Both are named
//! by the sums of their content, so what was found stays true whatever happens to the repository;
//! phase two asks whether they are still there, and looks at everything that came since.

use super::records::{PACK_BYTES, PLACED_BYTES};
use super::{PruneReport, PruneRequest};
use crate::cache::failed;
use crate::record_file::{RecordFile, RecordWriter, broken};
use crate::{Repository, Result};
use engine_repository::{FileKind, Hasher, Id};
use engine_storage::list_all;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

/// The name of the file in the cache's folder.
const FILE_NAME: &str = "prune-marks-1";
/// Snapshots and index files are named in it: fifty thousand of each are some 7 MB.
const HEAD_BYTES_MAX: u64 = 16 << 20;
/// The length of the head, and the sum.
const END_BYTES: u64 = 8 + Id::BYTES as u64;

/// All of it that is small.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(super) struct Head {
    pub(super) repository: Id,
    pub(super) request: PruneRequest,
    /// The snapshots that were walked.
    pub(super) snapshots: Vec<Id>,
    /// The index files that were read.
    pub(super) index_files: Vec<Id>,
    /// Those of them that are to go.
    pub(super) superseded: Vec<Id>,
    /// Those that take their place.
    pub(super) new_index_files: Vec<Id>,
    pub(super) report: PruneReport,
    /// Records of each stretch.
    pub(super) counts: [u64; 3],
}

/// What phase one found.
pub(super) struct Marks {
    pub(super) head: Head,
    /// Every entry of every pack that is to go; packs together and sorted.
    pub(super) doomed: RecordFile<PLACED_BYTES>,
    /// Packs that stay, new ones among them, with their sizes; sorted.
    pub(super) stays: RecordFile<PACK_BYTES>,
    /// Trees that were seen; sorted.
    pub(super) trees: RecordFile<{ Id::BYTES }>,
    path: Option<PathBuf>,
}

impl Marks {
    /// The marks a prune before left, if they are about this repository and this request. Marks
    /// that are damaged are as good as none.
    pub(super) fn load(repository: &Repository, request: &PruneRequest) -> Result<Option<Self>> {
        let Some(folder) = repository.cache().folder()? else { return Ok(None) };
        let path = folder.join(FILE_NAME);
        let file = match File::open(&path) {
            Ok(file) => Arc::new(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(failed("read", &path, cause)),
        };
        let Ok(Some(head)) = read_head(&file) else { return Ok(None) };
        if head.repository != repository.id() || head.request != *request {
            return Ok(None);
        }
        let doomed = RecordFile::within(file.clone(), 0, head.counts[0]);
        let stays = RecordFile::within(file.clone(), doomed.end(), head.counts[1]);
        let trees = RecordFile::within(file, stays.end(), head.counts[2]);
        Ok(Some(Self { head, doomed, stays, trees, path: Some(path) }))
    }

    /// Whether every index file of them is still there. If not, somebody else pruned or repaired.
    pub(super) fn hold(&self, index_files: &HashSet<Id>) -> bool {
        let all = self.head.index_files.iter().chain(&self.head.new_index_files);
        all.into_iter().all(|id| index_files.contains(id))
    }

    /// Whether it is worth going on from them: they hold, and nothing more was forgotten since.
    pub(super) fn are_fresh(&self, repository: &Repository) -> Result<bool> {
        let snapshots = ids(repository, FileKind::Snapshot)?;
        let index_files = ids(repository, FileKind::Index)?;
        Ok(self.hold(&index_files) && self.head.snapshots.iter().all(|id| snapshots.contains(id)))
    }

    /// Whether they are there when this process is not.
    pub(super) fn are_kept(&self) -> bool {
        self.path.is_some()
    }

    /// They are used up.
    pub(super) fn discard(self) -> Result<()> {
        let Some(path) = self.path else { return Ok(()) };
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &path, error))
            }
            _ => Ok(()),
        }
    }
}

/// The ids of all files of a kind. For kinds that are few.
pub(super) fn ids(repository: &Repository, kind: FileKind) -> Result<HashSet<Id>> {
    let listed = list_all(repository.storage().as_ref(), kind)?;
    Ok(listed.into_iter().map(|(id, _)| id).collect())
}

fn read_head(file: &File) -> io::Result<Option<Head>> {
    let bytes = file.metadata()?.len();
    let Some(end) = bytes.checked_sub(END_BYTES) else { return Ok(None) };
    let mut length = [0; 8];
    let mut sum = [0; Id::BYTES];
    file.read_exact_at(&mut length, end)?;
    file.read_exact_at(&mut sum, end + 8)?;
    if sum_of(file, end + 8)? != Id::from_bytes(sum) {
        return Ok(None);
    }
    let length = u64::from_be_bytes(length);
    let Some(start) = end.checked_sub(length).filter(|_| length <= HEAD_BYTES_MAX) else {
        return Ok(None);
    };
    let mut json = vec![0; usize::try_from(length).unwrap_or(0)];
    file.read_exact_at(&mut json, start)?;
    Ok(serde_json::from_slice(&json).ok())
}

/// The sum of a file's first bytes.
fn sum_of(file: &File, bytes: u64) -> io::Result<Id> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 64 << 10];
    let mut at = 0;
    while at < bytes {
        let some = usize::try_from(bytes - at).unwrap_or(usize::MAX).min(buffer.len());
        file.read_exact_at(&mut buffer[..some], at)?;
        hasher.update(&buffer[..some]);
        at += some as u64;
    }
    Ok(hasher.finish())
}

/// Marks being taken down. They get their name when they are whole.
pub(super) struct MarksWriter {
    /// Entries of packs that are to go, packs together and sorted.
    pub(super) doomed: RecordWriter<PLACED_BYTES>,
    file: Arc<File>,
    kept: Option<(tempfile::NamedTempFile, PathBuf)>,
}

impl MarksWriter {
    pub(super) fn new(repository: &Repository) -> Result<Self> {
        let Some(folder) = repository.cache().folder()? else {
            let file = Arc::new(repository.cache().scratch_file()?);
            return Ok(Self { doomed: RecordWriter::at(file.clone(), 0), file, kept: None });
        };
        let made = tempfile::NamedTempFile::new_in(folder);
        let named = made.map_err(|cause| failed("make a file in", folder, cause))?;
        let file = named.reopen().map_err(|cause| failed("open", named.path(), cause))?;
        let (file, path) = (Arc::new(file), folder.join(FILE_NAME));
        let doomed = RecordWriter::at(file.clone(), 0);
        Ok(Self { doomed, file, kept: Some((named, path)) })
    }

    pub(super) fn finish(
        self,
        mut head: Head,
        stays: &RecordFile<PACK_BYTES>,
        trees: &RecordFile<{ Id::BYTES }>,
    ) -> Result<Marks> {
        let doomed = self.doomed.finish()?;
        let stays = copy(stays, &self.file, doomed.end())?;
        let trees = copy(trees, &self.file, stays.end())?;
        head.counts = [doomed.count(), stays.count(), trees.count()];
        let path = match self.kept {
            None => None,
            Some((named, path)) => {
                write_end(&self.file, trees.end(), &head)?;
                let persisted = named.persist(&path).map(drop).map_err(|error| error.error);
                persisted.map_err(|cause| failed("name", &path, cause))?;
                Some(path)
            }
        };
        Ok(Marks { head, doomed, stays, trees, path })
    }
}

fn copy<const BYTES: usize>(
    records: &RecordFile<BYTES>,
    file: &Arc<File>,
    start: u64,
) -> Result<RecordFile<BYTES>> {
    let mut writer = RecordWriter::at(file.clone(), start);
    for record in records.records() {
        writer.push(&record?)?;
    }
    writer.finish()
}

fn write_end(file: &File, start: u64, head: &Head) -> Result<()> {
    let mut end = serde_json::to_vec(head).map_err(|error| broken(error.into()))?;
    end.extend_from_slice(&(end.len() as u64).to_be_bytes());
    let written = file
        .write_all_at(&end, start)
        .and_then(|()| sum_of(file, start + end.len() as u64))
        .and_then(|sum| file.write_all_at(sum.as_bytes(), start + end.len() as u64))
        .and_then(|()| file.sync_all());
    written.map_err(broken)
}
