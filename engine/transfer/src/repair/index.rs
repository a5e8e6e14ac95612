//! The index, made to agree with the packs that are there.
//!
//! 1. every index file says its packs; one that cannot be read is to go;
//! 2. packs that are there and in no index, or with another size than the index says, are asked for
//!    their own headers; with `read_all_packs`, all are, and no index file is believed;
//! 3. new index files say what the headers said, and what the old ones say of all other packs;
//! 4. index files that could not be read, or name packs that are gone or changed, are removed.
//!
//! Packs are never touched. In memory are some 100 bytes for each pack, and one index file.

use crate::check::contents::Known;
use crate::errors::sentence;
use crate::index::each_entry_of;
use crate::locks::HeldLock;
use crate::repository::damaged;
use crate::store::{IndexFiles, is_of_file, must_be_gone, remove_all};
use crate::{Cancel, Event, Progress, Repository, Result, TransferError};
use crossbeam_channel::{Receiver, Sender, bounded};
use engine_repository::pack::{PackTail, TAIL_BYTES, read_tail};
use engine_repository::{FileKind, Id, PackedBlob};
use engine_storage::{Name, list_all};
use std::collections::{HashMap, HashSet};

/// How many headers are asked for at once: a server far away answers as fast as one nearby then.
const READERS: usize = 4;
/// Headers that wait to be written down.
const HEADERS_WAITING_MAX: usize = 4;

/// How to repair the index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RepairIndexRequest {
    /// Believe no index file: read the header of every pack.
    pub read_all_packs: bool,
}

/// What a repair of the index did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairIndexReport {
    /// Packs whose headers were read and are in the index now.
    pub packs_added: u64,
    /// Packs that are there and whose headers cannot be read. They are in no index.
    pub packs_unreadable: Vec<Id>,
    /// Packs the index named that are not there. It names them no longer.
    pub packs_missing: u64,
    /// Index files that could not be read.
    pub index_files_unreadable: u64,
    /// Index files written.
    pub index_files_written: u64,
    /// Index files removed.
    pub index_files_removed: u64,
}

/// Makes the index agree with the packs that are there.
pub fn repair_index(
    repository: &Repository,
    request: RepairIndexRequest,
    events: &(dyn Fn(Event) + Sync),
    cancel: &Cancel,
) -> Result<RepairIndexReport> {
    let lock = HeldLock::acquire(repository, true)?;
    let mut report = RepairIndexReport::default();
    let survey = Survey::make(repository, request, events, &mut report)?;
    let mut rewritten = Vec::new();
    for file in survey.readable {
        if cancel.is_cancelled() {
            return Err(TransferError::Cancelled);
        }
        if names_any(repository, file, &survey.doubtful)? {
            rewritten.push(file);
        }
    }
    let mut files = IndexFiles::new(repository, &lock);
    read_headers(repository, &survey.to_read, &mut files, (events, cancel), &mut report)?;
    for file in &rewritten {
        files.add_file(*file, &survey.doubtful)?;
    }
    let old = [survey.not_believed, rewritten].concat();
    if cancel.is_cancelled() {
        return Err(TransferError::Cancelled);
    }
    report.index_files_written = files.finish()?;
    remove_all(repository, &lock, FileKind::Index, &old)?;
    must_be_gone(repository, FileKind::Index, &old)?;
    report.index_files_removed = old.len() as u64;
    Ok(report)
}

/// What index and listing say.
struct Survey {
    /// Packs whose headers are to be read, with their sizes.
    to_read: Vec<(Id, u64)>,
    /// Packs of which no old index file is believed.
    doubtful: HashSet<Id>,
    /// Index files that can be read and need not all go.
    readable: Vec<Id>,
    /// Index files that go, whatever they say.
    not_believed: Vec<Id>,
}

impl Survey {
    fn make(
        repository: &Repository,
        request: RepairIndexRequest,
        events: &(dyn Fn(Event) + Sync),
        report: &mut RepairIndexReport,
    ) -> Result<Self> {
        let (mut readable, mut not_believed) = (Vec::new(), Vec::new());
        let mut known: HashMap<Id, Known> = HashMap::new();
        let mut doubtful = HashSet::new();
        for (file, _) in list_all(repository.storage().as_ref(), FileKind::Index)? {
            if request.read_all_packs {
                not_believed.push(file);
                continue;
            }
            match packs_of(repository, file) {
                Ok(packs) => {
                    for (pack, says) in packs {
                        if *known.entry(pack).or_insert(says) != says {
                            doubtful.insert(pack);
                        }
                    }
                    readable.push(file);
                }
                Err(error) if is_of_file(&error) => {
                    events(Event::Note(sentence(&error)));
                    report.index_files_unreadable += 1;
                    not_believed.push(file);
                }
                Err(error) => return Err(error),
            }
        }
        let mut to_read = Vec::new();
        repository.storage().list(FileKind::Pack, &mut |pack, bytes| {
            let says = known.remove(&pack);
            if says.is_none_or(|says| says.bytes != bytes) || doubtful.contains(&pack) {
                doubtful.insert(pack);
                to_read.push((pack, bytes));
            }
            Ok(())
        })?;
        report.packs_missing = known.len() as u64;
        doubtful.extend(known.into_keys());
        Ok(Self { to_read, doubtful, readable, not_believed })
    }
}

/// What an index file says about its packs.
fn packs_of(repository: &Repository, file: Id) -> Result<HashMap<Id, Known>> {
    let mut packs: HashMap<Id, Known> = HashMap::new();
    each_entry_of(repository, file, &mut |pack, packed| {
        packs.entry(pack).or_default().add(packed);
        Ok(())
    })?;
    Ok(packs)
}

/// Whether an index file names any of these packs.
pub(super) fn names_any(repository: &Repository, file: Id, packs: &HashSet<Id>) -> Result<bool> {
    let mut is_any = false;
    if packs.is_empty() {
        return Ok(false);
    }
    each_entry_of(repository, file, &mut |pack, _| {
        is_any |= packs.contains(&pack);
        Ok(())
    })?;
    Ok(is_any)
}

type Header = (Id, Result<Vec<PackedBlob>>);

/// Reads headers, several at a time, and writes down what they say.
fn read_headers(
    repository: &Repository,
    packs: &[(Id, u64)],
    files: &mut IndexFiles<'_>,
    (events, cancel): (&(dyn Fn(Event) + Sync), &Cancel),
    report: &mut RepairIndexReport,
) -> Result<()> {
    let mut progress =
        Progress { files_total: packs.len() as u64, is_total_known: true, ..Progress::default() };
    let (packs_in, packs_out) = bounded(READERS);
    let (headers_in, headers_out) = bounded(HEADERS_WAITING_MAX);
    std::thread::scope(|scope| {
        for _ in 0..READERS.min(packs.len()) {
            let (packs, headers) = (packs_out.clone(), headers_in.clone());
            scope.spawn(move || read_some(repository, &packs, &headers));
        }
        drop((packs_out, headers_in));
        scope.spawn(move || {
            let _ = packs.iter().try_for_each(|pack| packs_in.send(*pack));
        });
        for (pack, header) in headers_out {
            if cancel.is_cancelled() {
                return Err(TransferError::Cancelled);
            }
            match header {
                Ok(blobs) => {
                    files.add(&pack, &blobs)?;
                    report.packs_added += 1;
                }
                Err(error) if is_of_file(&error) => {
                    events(Event::Note(sentence(&error)));
                    report.packs_unreadable.push(pack);
                }
                Err(error) => return Err(error),
            }
            progress.files_done += 1;
            events(Event::Progress(progress.clone()));
        }
        Ok(())
    })
}

fn read_some(repository: &Repository, packs: &Receiver<(Id, u64)>, headers: &Sender<Header>) {
    for (pack, bytes) in packs {
        let header = read_header(repository, pack, bytes);
        if headers.send((pack, header)).is_err() {
            return;
        }
    }
}

/// What a pack says about its blobs.
pub(super) fn read_header(
    repository: &Repository,
    pack: Id,
    bytes: u64,
) -> Result<Vec<PackedBlob>> {
    let name = Name::of(FileKind::Pack, pack);
    let mut tail_bytes = bytes.min(u64::from(TAIL_BYTES));
    loop {
        let mut tail = vec![0; usize::try_from(tail_bytes).unwrap_or(0)];
        repository.storage().read_range(name, bytes - tail_bytes, &mut tail)?;
        match read_tail(repository.key(), &mut tail, bytes) {
            Ok(PackTail::Blobs(blobs)) => return Ok(blobs),
            Ok(PackTail::NeedBytes(needed)) if u64::from(needed) > tail_bytes => {
                tail_bytes = u64::from(needed).min(bytes);
            }
            Ok(PackTail::NeedBytes(_)) => return Err(damaged(name, "no end of header".to_owned())),
            Err(cause) => return Err(damaged(name, cause)),
        }
    }
}
