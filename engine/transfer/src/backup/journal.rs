//! The journal: what a run that is cut off leaves to the next, beside the repository's cache.
//!
//! Some files for each backup set: `packs` names packs that are or may be stored, and in no index
//! file yet; `files` the files that were read to their end in this run, with their ids, in the
//! order of the walk; `before` the same of runs before that were cut off; `part0` and `part1` the
//! chunks of a large file that is being read. The next run writes an index file for the packs that
//! are there, puts `files` and `before` together, and passes over every file in them that is what
//! it was and of which all blobs are stored. When a backup is done the journal goes.
//!
//! Records are written as they come, without waiting for the disk, so a killed program loses none;
//! a power cut those since the last index file. Nothing of this is needed: whatever is lost, torn
//! or wrong is read from the source again, and a journal that cannot be written is done without.

mod files;
mod parts;
mod records;

pub(super) use files::FinishedFiles;
pub(super) use parts::{Chunk, PARTS_FILE_BYTES_MIN};
pub(super) use records::{FileIdentity, in_walk_order};

use super::lazy_index::LazyIndex;
use super::unindexed::{Waiting, write_index};
use crate::index::Index;
use crate::mutex::lock;
use crate::patience::lock_alone;
use crate::{BackupRequest, Repository, Result};
use engine_repository::index::INDEX_BLOBS_MAX;
use engine_repository::{FileKind, Id, Node, PackedBlob};
use engine_storage::Name;
use files::{ListWriter, merge};
use parts::Parts;
use records::{Bodies, FileRecord, PackRecord, frame};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

/// The folder in the cache.
const FOLDER: &str = "unfinished";
/// Journals of sets that were not backed up for so long are removed.
const AGE_MAX: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// The journal of a running backup.
#[derive(Default)]
pub(super) struct Journal {
    kept: Option<Kept>,
    packs: Mutex<Option<File>>,
    files: Mutex<Option<ListWriter>>,
    parts: Mutex<Option<Parts>>,
}

/// All files of a journal. The one that is locked goes last.
const FILES: [&str; 5] = ["files", "before", "part0", "part1", "packs"];

/// Where the journal of a set is.
struct Kept {
    folder: PathBuf,
    set: String,
}

impl Kept {
    fn path(&self, part: &str) -> PathBuf {
        self.folder.join(format!("{}.{part}", self.set))
    }
}

impl Journal {
    /// Begins the journal of a run, and gives what runs before finished. Nothing of both when there
    /// is no cache, when it cannot be written, or when another program backs up the same set.
    pub(super) fn begin(repository: &Repository, request: &BackupRequest) -> (Self, FinishedFiles) {
        let begun = || {
            let kept = Kept { folder: folder(repository)?, set: set_name(request) };
            let packs = locked(&kept.path("packs"))?;
            take_over(&kept).ok()?;
            let files = create(&kept.path("files")).ok()?;
            let finished = FinishedFiles::read(&kept.path("before"));
            let parts = Parts::at(["part0", "part1"].map(|part| kept.path(part)));
            let journal = Self {
                kept: Some(kept),
                packs: Mutex::new(Some(packs)),
                files: Mutex::new(Some(ListWriter::new(files))),
                parts: Mutex::new(Some(parts)),
            };
            Some((journal, finished))
        };
        begun().unwrap_or_default()
    }

    /// A file was read to its end.
    pub(super) fn file_finished(&self, path: &[u8], node: &Node) {
        let Some(content) = node.content.as_ref().filter(|content| !content.is_empty()) else {
            return;
        };
        write_to(&self.files, |files| {
            let (path, content) = (path.to_vec(), content.clone());
            files.push(&FileRecord { path, identity: FileIdentity::of(node), content })
        });
    }

    /// A large file begins to be read. Gives what is known of its beginning: chunks that are still
    /// there, as `is_stored` says.
    pub(super) fn part_begins(
        &self,
        path: &Path,
        identity: &FileIdentity,
        is_stored: &dyn Fn(&Id) -> bool,
    ) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        write_to(&self.parts, |parts| {
            chunks = parts.begin(path.as_os_str().as_bytes(), identity);
            match chunks.iter().position(|(id, _)| !is_stored(id)) {
                Some(stored) => chunks.truncate(stored),
                None if chunks.is_empty() => return Ok(()),
                None => {}
            }
            parts.keep(&chunks)
        });
        chunks
    }

    /// More of the large file is known.
    pub(super) fn part_grows(&self, chunks: &[Chunk]) {
        write_to(&self.parts, |parts| parts.add(chunks));
    }

    /// A pack is about to be stored. It is named before, because the destination may have it and go
    /// before it can say so; the next run looks.
    pub(super) fn pack_comes(&self, id: Id, bytes: u64, blobs: &[PackedBlob]) {
        write_to(&self.packs, |packs| {
            let (mut body, mut framed) = (Vec::new(), Vec::new());
            PackRecord { id, bytes, blobs: blobs.to_vec() }.body(&mut body);
            if frame(&body, &mut framed) { packs.write_all(&framed) } else { Ok(()) }
        });
    }

    /// The pack is stored: files whose last blobs came into it are finished now.
    pub(super) fn pack_stored(&self) {
        write_to(&self.files, ListWriter::flush);
    }

    /// All packs that are stored are in index files.
    pub(super) fn packs_indexed(&self) {
        write_to(&self.packs, |packs| packs.set_len(0));
        write_to(&self.files, ListWriter::sync);
    }

    /// The backup is done.
    pub(super) fn remove(&self) {
        if let Some(kept) = &self.kept {
            for part in FILES {
                let _ = fs::remove_file(kept.path(part));
            }
        }
    }
}

/// Writes to a part of the journal, unless it failed before: one with a hole tells lies.
fn write_to<T>(part: &Mutex<Option<T>>, write: impl FnOnce(&mut T) -> io::Result<()>) {
    let mut part = lock(part);
    if part.as_mut().is_some_and(|part| write(part).is_err()) {
        *part = None;
    }
}

/// Finds packs that runs before stored and named in no index file, and writes one for them. They
/// need not belong to the same set.
pub(super) fn adopt_packs(repository: &Repository, index: &LazyIndex<'_>) -> Result<()> {
    let entries = folder(repository).and_then(|folder| fs::read_dir(folder).ok());
    for entry in entries.into_iter().flatten().flatten() {
        let path = entry.path();
        let is_old = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
        if path.extension().is_none_or(|extension| extension != "packs") {
            continue;
        }
        // One that is locked belongs to a run that will write the index itself.
        let Some(packs) = locked(&path) else { continue };
        let is_old = is_old().is_some_and(|age| age > AGE_MAX);
        adopt_packs_of(repository, index, &packs)?;
        let _ = packs.set_len(0);
        if is_old {
            for part in FILES {
                let _ = fs::remove_file(path.with_extension(part));
            }
        }
    }
    Ok(())
}

fn adopt_packs_of(repository: &Repository, index: &LazyIndex<'_>, packs: &File) -> Result<()> {
    let mut bodies = Bodies::new(packs);
    let (mut waiting, mut blobs_waiting) = (Waiting::new(), 0);
    while let Some(pack) = bodies.next().and_then(PackRecord::of_body) {
        let index = index.get()?;
        if is_indexed(index, &pack.blobs)? {
            continue;
        }
        // A prune may have removed it meanwhile: nobody needed it then.
        let bytes = repository.storage().size(Name::of(FileKind::Pack, pack.id))?;
        if bytes != Some(pack.bytes) {
            continue;
        }
        blobs_waiting += pack.blobs.len();
        index.stored(pack.id, &pack.blobs)?;
        waiting.push((pack.id, pack.blobs));
        if blobs_waiting >= INDEX_BLOBS_MAX {
            write_index(repository, &mut waiting)?;
            blobs_waiting = 0;
        }
    }
    write_index(repository, &mut waiting)
}

fn is_indexed(index: &Index, blobs: &[PackedBlob]) -> Result<bool> {
    for packed in blobs {
        if !index.has(packed.blob.kind, &packed.blob.id)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What the run before finished becomes part of what runs before did. Cut off at any point, it is
/// done again by the next.
fn take_over(kept: &Kept) -> io::Result<()> {
    let (files, before) = (kept.path("files"), kept.path("before"));
    if fs::metadata(&files).is_ok_and(|found| found.len() > 0) {
        let both = kept.path("both");
        merge(&files, &before, create(&both)?)?;
        fs::rename(&both, &before)?;
    }
    Ok(())
}

/// The folder of all journals of a repository.
fn folder(repository: &Repository) -> Option<PathBuf> {
    let folder = repository.cache().folder().ok()??.join(FOLDER);
    DirBuilder::new().recursive(true).mode(0o700).create(&folder).ok()?;
    Some(folder)
}

/// A set is known by what makes its snapshots comparable, and by what is left out.
fn set_name(request: &BackupRequest) -> String {
    let mut paths: Vec<_> = request.paths.iter().map(|path| path.as_os_str()).collect();
    paths.sort();
    let text = format!("{:?} {paths:?} {:?}", request.hostname, request.excludes);
    Id::of(text.as_bytes()).to_string()
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// Opens a file that only one program may have.
fn locked(path: &Path) -> Option<File> {
    let mut options = OpenOptions::new();
    let file = options.read(true).append(true).create(true).mode(0o600).open(path).ok()?;
    lock_alone(&file).ok()?;
    Some(file)
}
