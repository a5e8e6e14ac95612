//! A repository on a server of restic's REST protocol, over HTTP/1.1, with or without TLS.
//!
//! What a server is believed and what not is `http`'s business; here: a listing must be closed.
//!
//! A pack grows in a temporary file without a name and is sent when it is complete, because its
//! name on the server is the sum of its content, and because sending may have to be done twice.

mod address;
mod line;
mod listing;

pub use address::{Address, AddressError};

use crate::clock::Clock;
use crate::http::{Asked, Http, must_reach, range_of};
use crate::spool::Spool;
use crate::spooled_pack::{SpooledPack, Uploads};
use crate::throttled::Pace;
use crate::{Name, PackFile, Patience, Rates, Result, Storage, StorageError};
use engine_repository::{FileKind, Id};
use line::{Line, path_of};
use listing::{Broken, Listing};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use ureq::SendBody;
use ureq::http::StatusCode;

/// Twenty million files; a longer listing is a server gone mad.
const LISTING_BYTES_MAX: u64 = 2 << 30;

/// A repository on a REST server.
pub struct Rest {
    line: Arc<Line>,
    scratch: PathBuf,
}

impl Rest {
    /// The repository at `address`. Nothing is asked yet. Packs on their way wait in the folder
    /// `scratch`, which needs room for some of them.
    pub fn at(address: Address, scratch: &Path, patience: Patience) -> Self {
        Self::with(address, scratch, patience, Pace::none())
    }

    /// The same, with bodies that are sent and taken no faster than `rates`.
    pub fn at_rates(
        address: Address,
        scratch: &Path,
        patience: Patience,
        rates: Rates,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self::with(address, scratch, patience, Pace::of(rates, clock))
    }

    fn with(address: Address, scratch: &Path, patience: Patience, pace: Pace) -> Self {
        let http = Http::to(address.to_string(), patience, Arc::new(pace));
        Self { line: Arc::new(Line { address, http }), scratch: scratch.into() }
    }
}

impl Storage for Rest {
    fn location(&self) -> String {
        self.line.http.location()
    }

    fn create(&self) -> Result<()> {
        let asked = Asked { action: "make a repository", name: None };
        let answer = self.line.send("POST", "?create=true", SendBody::none(), 0)?;
        match answer.status() {
            status if status.is_success() => {
                self.line.http.finish(answer);
                Ok(())
            }
            status => Err(self.line.http.refused(status, asked)),
        }
    }

    fn list(&self, kind: FileKind, each: &mut dyn FnMut(Id, u64) -> Result<()>) -> Result<()> {
        let asked = Asked { action: "list files", name: None };
        let answer = self.line.list(&format!("{}/", kind.folder()))?;
        match answer.status() {
            StatusCode::OK => {}
            // No such folder: nothing in it, or no repository any more.
            StatusCode::NOT_FOUND => {
                return match self.size(Name::CONFIG)? {
                    Some(_) => Ok(()),
                    None => Err(StorageError::Gone { location: self.location() }),
                };
            }
            status => return Err(self.line.http.refused(status, asked)),
        }
        let body = self.line.http.incoming(answer, LISTING_BYTES_MAX);
        let mut listing = Listing::of(BufReader::new(body));
        while let Some(entry) = listing.next().map_err(|broken| self.broken(broken))? {
            // What is no id is a file on its way in, or somebody's note.
            let Ok(id) = entry.name.parse::<Id>() else { continue };
            match entry.size {
                Some(bytes) => each(id, bytes)?,
                None => {
                    if let Some(bytes) = self.size(Name::of(kind, id))? {
                        each(id, bytes)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn read(&self, name: Name, bytes_max: u64) -> Result<Vec<u8>> {
        let asked = Asked { action: "read a file", name: Some(name) };
        let answer = self.line.get(name, None, bytes_max)?;
        if answer.status() != StatusCode::OK {
            return Err(self.line.http.refused(answer.status(), asked));
        }
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
        if start >= end {
            return must_reach(self, name, end);
        }
        let asked = Asked { action: "read a part of a file", name: Some(name) };
        let answer = self.line.get(name, Some(range_of(start, end)), end - start)?;
        match answer.status() {
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::OK => {
                self.line.http.take_part(answer, name, offset, buffer, arrived)
            }
            status => Err(self.line.http.refused(status, asked)),
        }
    }

    fn write(&self, name: Name, bytes: &[u8]) -> Result<()> {
        let mut body = bytes;
        self.line.upload(name, &mut body, bytes.len() as u64)
    }

    fn create_pack(&self) -> Result<Box<dyn PackFile>> {
        Ok(Box::new(SpooledPack { line: self.line.clone(), spool: Spool::begin(&self.scratch)? }))
    }

    fn remove(&self, name: Name) -> Result<()> {
        // A server says that it removed what was never there.
        if self.size(name)?.is_none() {
            return Err(StorageError::NotFound { location: self.location(), name });
        }
        let asked = Asked { action: "remove a file", name: Some(name) };
        let answer = self.line.ask("DELETE", &path_of(name))?;
        match answer.status() {
            status if status.is_success() => {
                self.line.http.finish(answer);
                Ok(())
            }
            status => Err(self.line.http.refused(status, asked)),
        }
    }

    fn size(&self, name: Name) -> Result<Option<u64>> {
        self.line.size(name)
    }
}

impl Rest {
    fn broken(&self, broken: Broken) -> StorageError {
        match broken {
            Broken::Line(cause) => self.line.http.broke(cause),
            Broken::Text(reason) => self.line.http.foreign(reason),
        }
    }
}
