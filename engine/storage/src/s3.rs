//! A repository in a bucket of an S3 service, in restic's layout: `prefix/data/ab/ab12…` and so on.
//!
//! Requests are made and signed by `rusty-s3`, which opens no connection, and go over the same
//! HTTP as those to REST servers. `object_store` would bring Azure too, but with it an asynchronous
//! runtime, a second HTTP client and a hundred crates, and it wants each part in memory: here a
//! part comes from the scratch file through a few KiB, is paced on its way, and is sent again
//! alone. On a box of 128 MB that decided it. Google's buckets speak S3 (with HMAC keys, at
//! `storage.googleapis.com`); Azure's do not, and have no place here.
//!
//! How a file comes to be: the service is asked whether the name is taken; then the whole file is
//! put, with the MD5 sum of its bytes, which the service compares with what arrived, and with
//! `If-None-Match: *`, so that of two writers one wins. A service that knows no such condition
//! (Garage) leaves a moment between question and answer, which can harm only a config: every other
//! name is the sum of the content. Packs of more than [`WHOLE_BYTES_MAX`] go in parts: a part whose
//! sending broke is sent again and no other; what a service shows becomes one file when all parts
//! are there. A kill leaves an upload that is not complete, which no listing shows and which a rule
//! of the bucket (`AbortIncompleteMultipartUpload`) clears away.
//!
//! A listing comes in pages, and a page that broke off is asked for again by itself. A service that
//! names what it was never asked for, or turns in a circle, is not believed.

mod address;
mod answer;
mod line;
mod pack;

pub use address::{AccessKey, S3Address};

use crate::clock::Clock;
use crate::http::{Http, must_reach, range_of};
use crate::spool::Spool;
use crate::throttled::Pace;
use crate::{Name, PackFile, Patience, Persistence, Rates, Result, Storage, StorageError};
use engine_repository::{FileKind, Id};
use line::{Line, Page, sum_of};
use pack::S3Pack;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Larger packs are sent in parts.
pub const WHOLE_BYTES_MAX: u64 = 24 << 20;

/// The parts. Services take none, but for the last, of less than 5 MiB, and no more than 10,000.
pub const PART_BYTES: u64 = 8 << 20;

/// Files on a page of a listing; services give no more.
const PAGE_FILES_MAX: usize = 1000;

/// Pages of a listing: twenty million files, when they are full.
const PAGES_MAX: u32 = 20_000;

/// A repository in a bucket.
pub struct S3 {
    line: Arc<Line>,
    scratch: PathBuf,
    /// For the pages of a listing: so that not the whole has to be asked for again.
    persistence: Option<Persistence>,
    /// A place we made ourselves may be empty.
    was_created: AtomicBool,
}

impl S3 {
    /// The repository at `address`, opened with `key`. Nothing is asked yet. Packs on their way
    /// wait in the folder `scratch`, which needs room for some of them.
    pub fn at(
        address: S3Address,
        key: Option<AccessKey>,
        scratch: &Path,
        patience: Patience,
    ) -> Self {
        Self::with(address, key, scratch, patience, Pace::none())
    }

    /// The same, with bodies that are sent and taken no faster than `rates`.
    pub fn at_rates(
        address: S3Address,
        key: Option<AccessKey>,
        scratch: &Path,
        patience: Patience,
        rates: Rates,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self::with(address, key, scratch, patience, Pace::of(rates, clock))
    }

    /// The same, with pages of listings tried again one by one.
    pub fn persistent(self, persistence: Persistence) -> Self {
        Self { persistence: Some(persistence), ..self }
    }

    fn with(
        address: S3Address,
        key: Option<AccessKey>,
        scratch: &Path,
        patience: Patience,
        pace: Pace,
    ) -> Self {
        let http = Http::to(address.to_string(), patience, Arc::new(pace));
        Self {
            line: Arc::new(Line::to(address, key, http)),
            scratch: scratch.into(),
            persistence: None,
            was_created: AtomicBool::new(false),
        }
    }

    fn page(&self, kind: FileKind, token: Option<&str>) -> Result<Page> {
        match &self.persistence {
            None => self.line.page(kind, token),
            Some(persistence) => {
                persistence.keep_trying(persistence.time_max, |_| self.line.page(kind, token))
            }
        }
    }
}

impl Storage for S3 {
    fn location(&self) -> String {
        self.line.http.location()
    }

    /// Needs the bucket, which is never made here: it belongs to the owner's account, costs money,
    /// and has rules that only the owner can choose.
    fn create(&self) -> Result<()> {
        match self.line.page(FileKind::Key, None) {
            Ok(_) => {
                self.was_created.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(StorageError::Gone { location }) => {
                let bucket = self.line.address.bucket.clone();
                Err(StorageError::BucketMissing { location, bucket })
            }
            Err(error) => Err(error),
        }
    }

    fn list(&self, kind: FileKind, each: &mut dyn FnMut(Id, u64) -> Result<()>) -> Result<()> {
        let mut token: Option<String> = None;
        let mut is_empty = true;
        for _ in 0..PAGES_MAX {
            let page = self.page(kind, token.as_deref())?;
            for (id, bytes) in page.files {
                is_empty = false;
                let bytes = match bytes {
                    Some(bytes) => Some(bytes),
                    None => self.size(Name::of(kind, id))?,
                };
                if let Some(bytes) = bytes {
                    each(id, bytes)?;
                }
            }
            if page.next.is_none() {
                let may_be_new = self.was_created.load(Ordering::Relaxed);
                // A bucket has no folders: what was deleted as a whole looks as if it were new.
                if is_empty && !may_be_new && self.size(Name::CONFIG)?.is_none() {
                    return Err(StorageError::Gone { location: self.location() });
                }
                return Ok(());
            }
            if page.next == token {
                return Err(self.line.http.foreign("its listing turns in a circle"));
            }
            token = page.next;
        }
        Err(self.line.http.foreign("its listing does not end"))
    }

    fn read(&self, name: Name, bytes_max: u64) -> Result<Vec<u8>> {
        let answer = self.line.get(name, None, bytes_max)?;
        self.line.http.take_whole(answer, name, bytes_max)
    }

    fn read_range(&self, name: Name, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.read_on(name, offset, buffer, &mut 0)
    }

    fn read_on(
        &self,
        name: Name,
        offset: u64,
        buffer: &mut [u8],
        arrived: &mut usize,
    ) -> Result<()> {
        let (start, end) = (offset + *arrived as u64, offset.saturating_add(buffer.len() as u64));
        if start < end {
            let answer = self.line.get(name, Some(range_of(start, end)), end - start)?;
            return self.line.http.take_part(answer, name, offset, buffer, arrived);
        }
        must_reach(self, name, end)
    }

    fn write(&self, name: Name, bytes: &[u8]) -> Result<()> {
        if self.size(name)?.is_some() {
            return Err(StorageError::AlreadyExists { location: self.location(), name });
        }
        let sum = sum_of(bytes);
        self.line.put(name, &mut Cursor::new(bytes), bytes.len() as u64, &sum)
    }

    fn create_pack(&self) -> Result<Box<dyn PackFile>> {
        let spool = Spool::begin(&self.scratch)?;
        Ok(Box::new(S3Pack::begin(self.line.clone(), spool)))
    }

    fn remove(&self, name: Name) -> Result<()> {
        // A service says that it removed what was never there.
        if self.size(name)?.is_none() {
            return Err(StorageError::NotFound { location: self.location(), name });
        }
        self.line.delete(name)
    }

    fn size(&self, name: Name) -> Result<Option<u64>> {
        self.line.size(name)
    }
}
