//! The catalogue: what every folder of a backup set was like when its last snapshot was made, so
//! that a run finds unchanged folders without opening a file or reading a tree.
//!
//! It is a file in the repository's cache folder: one record a folder (see [`records`]), then a
//! [`Footer`] that says what they were made for. It is believed only while the snapshot it was made
//! for is the one compared with, while every index file that was there still is (so nothing the
//! snapshot needs was taken away or found missing since), while users and groups have the names
//! they had, and while everything that shapes a tree (excludes, zone, program, rights) is the same.
//! Otherwise, and where a record is damaged, the walk compares file by file with the snapshot.
//!
//! A snapshot made with the catalogue is, byte for byte, the one made without.

pub(super) mod records;

use super::BackupRequest;
use super::node::OwnerNames;
use crate::cache::failed;
use crate::mutex::lock;
use crate::repository::random;
use crate::{Repository, Result};
use engine_repository::{FileKind, Hasher, Id};
use engine_storage::list_all;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use records::{Line, Records};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Raised whenever records or digests change their meaning.
const FORMAT_VERSION: u32 = 1;
/// A footer is never larger: 8 MiB.
const FOOTER_BYTES_MAX: u64 = 8 << 20;
/// A repository with more index files gets no catalogue: `prune` merges them.
const INDEXES_MAX: usize = 65_536;
/// A source with more owners gets no catalogue.
const OWNERS_MAX: usize = 4096;
/// Sum and length of the footer, which end the file.
const TAIL_BYTES: usize = Id::BYTES + 8;

/// What the records were made for, and what they rest on.
#[derive(Debug, Serialize, Deserialize)]
struct Footer {
    format: u32,
    /// Random: records of another file do not fit.
    seed: Id,
    /// Of everything that shapes a tree but the source itself.
    settings: Id,
    snapshot: Id,
    records_bytes: u64,
    /// All index files there were.
    indexes: Vec<Id>,
    names: OwnerNames,
    totals: Walked,
}

/// How much the walk went through.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Walked {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

/// A catalogue of before.
pub(super) struct Catalogue {
    file: File,
    footer: Footer,
    is_current: bool,
}

impl Catalogue {
    /// The catalogue of the backup set; `None` when there is none that is whole.
    pub(super) fn open(repository: &Repository, request: &BackupRequest) -> Option<Self> {
        let folder = repository.cache().folder().ok()??;
        let file = File::open(folder.join(file_name(request))).ok()?;
        let footer = read_footer(&file)?;
        let is_current = footer.settings == settings(repository, request);
        Some(Self { file, footer, is_current })
    }

    /// What the last run went through: near what this one will.
    pub(super) fn totals(&self) -> Walked {
        self.footer.totals
    }

    /// The records, if they may be believed in a run that compares with `parent`.
    pub(super) fn believed(
        self,
        repository: &Repository,
        parent: Option<Id>,
        owners: &mut dyn FnMut(&OwnerNames) -> bool,
    ) -> Option<Records> {
        let Footer { seed, snapshot, records_bytes, indexes, names, .. } = self.footer;
        let is_fit = self.is_current && Some(snapshot) == parent && owners(&names);
        let there = is_fit.then(|| index_files(repository).ok()).flatten()?;
        let is_whole = indexes.iter().all(|id| there.contains(id));
        is_whole.then(|| Records::new(self.file, seed, records_bytes))
    }
}

fn index_files(repository: &Repository) -> Result<BTreeSet<Id>> {
    let listed = list_all(repository.storage().as_ref(), FileKind::Index)?;
    Ok(listed.into_iter().map(|(id, _)| id).collect())
}

fn read_footer(file: &File) -> Option<Footer> {
    let end = file.metadata().ok()?.len().checked_sub(TAIL_BYTES as u64)?;
    let mut tail = [0; TAIL_BYTES];
    file.read_exact_at(&mut tail, end).ok()?;
    let (sum, length) = tail.split_at(Id::BYTES);
    let bytes = u64::from_le_bytes(length.try_into().ok()?);
    let start = end.checked_sub(bytes).filter(|_| bytes <= FOOTER_BYTES_MAX)?;
    let mut json = vec![0; usize::try_from(bytes).ok()?];
    file.read_exact_at(&mut json, start).ok()?;
    if Id::of(&json).as_bytes() != sum {
        return None;
    }
    let footer: Footer = serde_json::from_slice(&json).ok()?;
    (footer.format == FORMAT_VERSION && footer.records_bytes <= start).then_some(footer)
}

/// The next catalogue, while it is written. It becomes the catalogue when the snapshot is made, and
/// is gone when it is not. That it cannot be written is no reason for a backup to fail.
pub(super) struct Draft {
    file: File,
    written: PathBuf,
    wanted: PathBuf,
    seed: Id,
    settings: Id,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    names: OwnerNames,
    totals: Walked,
    records_bytes: u64,
    failure: Option<io::Error>,
}

impl Draft {
    /// Begins one, if anything is kept between runs.
    pub(super) fn begin(repository: &Repository, request: &BackupRequest) -> Result<Option<Self>> {
        let Some(folder) = repository.cache().folder()? else { return Ok(None) };
        let wanted = folder.join(file_name(request));
        // Two backups of one set write over each other here. Their seeds differ, so what comes of
        // it is not believed.
        let written = wanted.with_extension("new");
        let file = File::create(&written)
            .map_err(|cause| failed("write the catalogue", &written, cause))?;
        let seed = Id::from_bytes(random()?);
        let settings = settings(repository, request);
        Ok(Some(Self { file, written, wanted, seed, settings, state: Mutex::default() }))
    }

    /// Writes what is known of a folder, which has that tree now.
    pub(super) fn record(&self, line: &Line, tree: &Id) {
        let bytes = line.to_bytes(&self.seed, tree);
        if let Err(cause) = self.file.write_all_at(&bytes, line.offset) {
            lock(&self.state).failure.get_or_insert(cause);
        }
    }

    /// The walk is over.
    pub(super) fn walked(&self, names: OwnerNames, totals: Walked, records_bytes: u64) {
        let mut state = lock(&self.state);
        (state.names, state.totals, state.records_bytes) = (names, totals, records_bytes);
    }

    /// The snapshot is made: from now on this is the catalogue. To be called while the repository
    /// is locked, so that no index file the snapshot needs can have gone.
    pub(super) fn finish(self, repository: &Repository, snapshot: Id) -> Result<()> {
        let State { names, totals, records_bytes, failure } = std::mem::take(&mut *self.state());
        let bad = |cause| failed("write the catalogue", &self.written, cause);
        if let Some(cause) = failure {
            return Err(bad(cause));
        }
        let indexes: Vec<Id> = index_files(repository)?.into_iter().collect();
        if indexes.len() > INDEXES_MAX || names.len() > OWNERS_MAX {
            return Ok(());
        }
        let (seed, settings) = (self.seed, self.settings);
        let format = FORMAT_VERSION;
        let footer =
            Footer { format, seed, settings, snapshot, records_bytes, indexes, names, totals };
        self.write_footer(&footer).and_then(|()| self.put_in_place()).map_err(bad)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn write_footer(&self, footer: &Footer) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(footer)?;
        let (sum, length) = (Id::of(&bytes), bytes.len() as u64);
        bytes.extend_from_slice(sum.as_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        self.file.write_all_at(&bytes, footer.records_bytes)?;
        self.file.set_len(footer.records_bytes + bytes.len() as u64)
    }

    fn put_in_place(&self) -> io::Result<()> {
        self.file.sync_all()?;
        std::fs::rename(&self.written, &self.wanted)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Gone already when it was put in place.
        let _ = std::fs::remove_file(&self.written);
    }
}

/// One file for each backup set; settings that change do not leave files behind.
fn file_name(request: &BackupRequest) -> PathBuf {
    let mut hasher = Hasher::new();
    text(&mut hasher, request.hostname.as_bytes());
    for path in sorted(&request.paths) {
        text(&mut hasher, path.as_os_str().as_bytes());
    }
    PathBuf::from(format!("catalogue-{}", &hasher.finish().to_string()[..32]))
}

/// The sum of everything that shapes a tree and is not the source.
fn settings(repository: &Repository, request: &BackupRequest) -> Id {
    let mut hasher = Hasher::new();
    text(&mut hasher, repository.id().as_bytes());
    text(&mut hasher, request.program_version.as_bytes());
    // Some attributes are only shown to root.
    text(&mut hasher, &nix::unistd::geteuid().as_raw().to_le_bytes());
    hash_zone(&mut hasher, &request.zone);
    let lists: [Vec<&[u8]>; 2] = [
        sorted(&request.paths).iter().map(|path| path.as_os_str().as_bytes()).collect(),
        request.excludes.iter().map(|pattern| pattern.as_bytes()).collect(),
    ];
    for list in lists {
        hasher.update(&(list.len() as u64).to_le_bytes());
        list.into_iter().for_each(|item| text(&mut hasher, item));
    }
    hasher.finish()
}

/// A zone is what it makes of times: new rules under an old name are another zone.
fn hash_zone(hasher: &mut Hasher, zone: &TimeZone) {
    let (first, last) = (Timestamp::from_second(-2_500_000_000), Timestamp::from_second(4 << 30));
    let (Ok(first), Ok(last)) = (first, last) else { return };
    hasher.update(&zone.to_offset(first).seconds().to_le_bytes());
    for change in zone.following(first).take_while(|change| change.timestamp() < last) {
        hasher.update(&change.timestamp().as_second().to_le_bytes());
        hasher.update(&change.offset().seconds().to_le_bytes());
    }
    hasher.update(b"zone");
}

fn sorted(paths: &[PathBuf]) -> Vec<&Path> {
    let mut paths: Vec<_> = paths.iter().map(PathBuf::as_path).collect();
    paths.sort();
    paths
}

fn text(hasher: &mut Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}
