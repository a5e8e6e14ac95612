//! What can still be read of damaged packs, moved into new ones.
//!
//! 1. each pack is copied, as it is, into a folder of the caller's: nothing is thrown away;
//! 2. its blobs, as the index or its own header places them, are read; those that are what their
//!    names say go, sealed as they are, into new packs, which are durable and in the index then;
//! 3. index files that name the old packs are written anew without them, and removed;
//! 4. the old packs are removed.
//!
//! What was lost is missing from the index then, so that a backup stores it again if the source
//! still has it, and [`super::repair_snapshots`] knows what to take out.

use super::index::{names_any, read_header};
use crate::errors::sentence;
use crate::index::{Location, each_entry};
use crate::large;
use crate::locks::HeldLock;
use crate::repository::{DATA_HELD_BYTES_MAX, damaged};
use crate::store::{IndexFiles, Store, is_of_file, must_be_gone, remove_all};
use crate::{Cancel, Event, Progress, Repository, Result, TransferError};
use engine_repository::{BlobKind, BlobOpener, FileKind, Id, PackedBlob};
use engine_storage::{Name, StorageError, list_all};
use std::collections::{HashMap, HashSet};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Packs are copied in pieces of this size; what cannot be read of one is zeros in the copy.
const PIECE_BYTES: usize = 256 << 10;

/// Which packs to take apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairPacksRequest {
    /// The packs, as a check names them.
    pub packs: Vec<Id>,
    /// Where copies of them are put, as `pack-ID`. None may be there yet.
    pub copies: PathBuf,
}

/// What was saved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairPacksReport {
    /// Packs taken apart.
    pub packs: u64,
    /// Blobs that could be read.
    pub blobs_saved: u64,
    /// Bytes they take.
    pub bytes_saved: u64,
    /// Blobs that could not, and are in no other pack.
    pub blobs_lost: u64,
}

/// Takes damaged packs apart.
pub fn repair_packs(
    repository: &Repository,
    request: &RepairPacksRequest,
    events: &(dyn Fn(Event) + Sync),
    cancel: &Cancel,
) -> Result<RepairPacksReport> {
    let lock = HeldLock::acquire(repository, true)?;
    let packs: HashSet<Id> = request.packs.iter().copied().collect();
    let mut sizes = Vec::new();
    for pack in &packs {
        let name = Name::of(FileKind::Pack, *pack);
        let location = repository.location();
        let missing = StorageError::NotFound { location, name };
        sizes.push((*pack, repository.storage().size(name)?.ok_or(missing)?));
    }
    sizes.sort();
    for (pack, bytes) in &sizes {
        copy(repository, (*pack, *bytes), &request.copies, events, cancel)?;
    }
    let mut job = Salvage::new(repository, &lock, events, cancel);
    job.look_up(&packs)?;
    for (pack, bytes) in &sizes {
        job.salvage(*pack, *bytes)?;
    }
    job.store.finish()?;
    job.report.blobs_lost = job.lost(&packs)?;
    let report = job.report;
    let mut old = Vec::new();
    for (file, _) in list_all(repository.storage().as_ref(), FileKind::Index)? {
        if names_any(repository, file, &packs)? {
            old.push(file);
        }
    }
    let mut files = IndexFiles::new(repository, &lock);
    for file in &old {
        files.add_file(*file, &packs)?;
    }
    if cancel.is_cancelled() {
        return Err(TransferError::Cancelled);
    }
    files.finish()?;
    remove_all(repository, &lock, FileKind::Index, &old)?;
    must_be_gone(repository, FileKind::Index, &old)?;
    remove_all(repository, &lock, FileKind::Pack, &request.packs)?;
    Ok(report)
}

/// Copies a pack into a folder of this computer, durably.
fn copy(
    repository: &Repository,
    (pack, bytes): (Id, u64),
    folder: &Path,
    events: &(dyn Fn(Event) + Sync),
    cancel: &Cancel,
) -> Result<()> {
    let path = folder.join(format!("pack-{pack}"));
    let failed = |cause| TransferError::Target { action: "make", path: path.clone(), cause };
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(failed)?;
    let name = Name::of(FileKind::Pack, pack);
    let mut at = 0;
    while at < bytes {
        if cancel.is_cancelled() {
            return Err(TransferError::Cancelled);
        }
        let length = PIECE_BYTES.min(usize::try_from(bytes - at).unwrap_or(PIECE_BYTES));
        let mut piece = vec![0; length];
        match repository.storage().read_range(name, at, &mut piece) {
            Ok(()) => {}
            Err(error) if error.is_of_destination() => return Err(error.into()),
            Err(error) => {
                piece.fill(0);
                events(Event::Note(sentence(&error)));
            }
        }
        file.write_all(&piece).map_err(failed)?;
        at += length as u64;
    }
    file.sync_all().map_err(failed)
}

type Key = (BlobKind, Id);

struct Salvage<'a> {
    repository: &'a Repository,
    store: Store<'a>,
    opener: BlobOpener,
    events: &'a (dyn Fn(Event) + Sync),
    cancel: &'a Cancel,
    /// What the index says of each pack.
    placed: HashMap<Id, Vec<PackedBlob>>,
    saved: HashSet<Key>,
    unread: HashSet<Key>,
    report: RepairPacksReport,
    progress: Progress,
}

impl<'a> Salvage<'a> {
    fn new(
        repository: &'a Repository,
        lock: &'a HeldLock,
        events: &'a (dyn Fn(Event) + Sync),
        cancel: &'a Cancel,
    ) -> Self {
        Self {
            repository,
            store: Store::new(repository, lock),
            opener: BlobOpener::new(repository.key().clone(), DATA_HELD_BYTES_MAX),
            events,
            cancel,
            placed: HashMap::new(),
            saved: HashSet::new(),
            unread: HashSet::new(),
            report: RepairPacksReport::default(),
            progress: Progress::default(),
        }
    }

    fn look_up(&mut self, packs: &HashSet<Id>) -> Result<()> {
        let placed = &mut self.placed;
        each_entry(self.repository, &mut |_, pack, packed| {
            if packs.contains(&pack) {
                placed.entry(pack).or_default().push(*packed);
            }
            Ok(())
        })?;
        Ok(())
    }

    fn salvage(&mut self, pack: Id, bytes: u64) -> Result<()> {
        let mut blobs = self.placed.remove(&pack).unwrap_or_default();
        match read_header(self.repository, pack, bytes) {
            Ok(header) => blobs.extend(header),
            Err(error) if is_of_file(&error) => {}
            Err(error) => return Err(error),
        }
        if blobs.is_empty() {
            let text = format!("neither the index nor its header knows a blob of pack {pack}");
            (self.events)(Event::Note(text));
        }
        blobs.sort_by_key(|packed| (packed.offset, packed.blob.kind, packed.blob.id));
        blobs.dedup_by_key(|packed| (packed.offset, packed.blob.kind, packed.blob.id));
        for packed in &blobs {
            if self.cancel.is_cancelled() {
                return Err(TransferError::Cancelled);
            }
            let key = (packed.blob.kind, packed.blob.id);
            if self.saved.contains(&key) {
                continue;
            }
            match self.save(pack, packed) {
                Ok(()) => {
                    self.saved.insert(key);
                    self.report.blobs_saved += 1;
                    self.report.bytes_saved += u64::from(packed.blob.length);
                }
                Err(error) if is_of_file(&error) => {
                    (self.events)(Event::Note(sentence(&error)));
                    self.unread.insert(key);
                }
                Err(error) => return Err(error),
            }
        }
        self.report.packs += 1;
        self.progress.files_done += 1;
        self.progress.bytes_done += bytes;
        (self.events)(Event::Progress(self.progress.clone()));
        Ok(())
    }

    /// Reads a blob and stores it again, sealed as it is. Only a failure to read says something
    /// about the pack.
    fn save(&mut self, pack: Id, packed: &PackedBlob) -> Result<()> {
        let name = Name::of(FileKind::Pack, pack);
        if self.repository.is_large(&packed.blob) {
            let sealed = large::fetch(self.repository, &Location { pack, packed: *packed })?;
            large::verify(&mut self.opener, &packed.blob, &pack, &sealed)?;
            let filled = large::store_sealed(self.repository, &packed.blob, &sealed);
            return filled.and_then(|full| self.store.add_pack(full)).map_err(of_the_store);
        }
        let mut sealed = vec![0; packed.blob.length as usize];
        self.repository.storage().read_range(name, u64::from(packed.offset), &mut sealed)?;
        let opened = self.opener.payload(&packed.blob, &mut sealed.clone()).map(|_| ());
        opened.map_err(|cause| damaged(name, cause))?;
        self.store.add_sealed(&packed.blob, &sealed).map_err(of_the_store)
    }

    /// How many blobs could not be read and are in no pack that stays.
    fn lost(&mut self, packs: &HashSet<Id>) -> Result<u64> {
        let saved = &self.saved;
        self.unread.retain(|key| !saved.contains(key));
        let unread = &mut self.unread;
        if !unread.is_empty() {
            each_entry(self.repository, &mut |_, pack, packed| {
                if !packs.contains(&pack) {
                    unread.remove(&(packed.blob.kind, packed.blob.id));
                }
                Ok(())
            })?;
        }
        Ok(unread.len() as u64)
    }
}

/// A new pack that cannot be written must end the repair, whatever the reason.
fn of_the_store(error: TransferError) -> TransferError {
    match error {
        error if is_of_file(&error) => {
            let what = "what was saved of a pack";
            TransferError::Unwritable { what, cause: Box::new(error) }
        }
        error => error,
    }
}
