//! A repository on a server of restic's REST protocol, over HTTP/1.1, with or without TLS.
//!
//! What a server is believed: nothing that can be counted. Every answer is bounded in bytes before
//! it is read and in time while it is; a file must come with its length and in that length; a part
//! of a file must be exactly the part that was asked for; a listing must be closed. A redirect is
//! not followed, since it would carry the password to whoever is named there.
//!
//! A pack grows in a temporary file without a name and is sent when it is complete, because its
//! name on the server is the sum of its content, and because sending may have to be done twice.

mod address;
mod answer;
mod line;
mod listing;
mod spool;

pub use address::{Address, AddressError};
pub use line::Patience;

use crate::{Name, PackFile, Result, Storage, StorageError};
use answer::Asked;
use engine_repository::{FileKind, Id};
use line::{Line, length_of, path_of};
use listing::{Broken, Listing};
use spool::Spooled;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use ureq::SendBody;
use ureq::http::{Response, StatusCode};

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
        Self { line: Arc::new(Line::to(address, patience)), scratch: scratch.into() }
    }
}

impl Storage for Rest {
    fn location(&self) -> String {
        self.line.location()
    }

    fn create(&self) -> Result<()> {
        let asked = Asked { action: "make a repository", name: None };
        let answer = self.line.send("POST", "?create=true", SendBody::none(), 0)?;
        match answer.status() {
            status if status.is_success() => self.line.finish(answer),
            status => Err(self.line.refused(status, asked)),
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
            status => return Err(self.line.refused(status, asked)),
        }
        let body = answer.into_body().into_with_config().limit(LISTING_BYTES_MAX).reader();
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
            return Err(self.line.refused(answer.status(), asked));
        }
        let bytes = self.length(&answer)?;
        if bytes > bytes_max {
            let location = self.location();
            return Err(StorageError::TooLarge { location, name, bytes, bytes_max });
        }
        let mut content = Vec::new();
        // A byte more than promised shows a server that lies.
        self.body(answer, bytes + 1)
            .read_to_end(&mut content)
            .map_err(|cause| self.line.broke(cause))?;
        match content.len() as u64 == bytes {
            true => Ok(content),
            false => Err(self.line.broke(std::io::ErrorKind::UnexpectedEof.into())),
        }
    }

    fn read_range(&self, name: Name, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let bytes = buffer.len() as u64;
        let end = offset.saturating_add(bytes);
        let short = || StorageError::Short { location: self.location(), name, end };
        if bytes == 0 {
            let location = self.location();
            let there = self.size(name)?.ok_or(StorageError::NotFound { location, name })?;
            return if there < end { Err(short()) } else { Ok(()) };
        }
        let asked = Asked { action: "read a part of a file", name: Some(name) };
        let answer = self.line.get(name, Some((offset, end - 1)), bytes)?;
        match answer.status() {
            StatusCode::PARTIAL_CONTENT => {}
            StatusCode::RANGE_NOT_SATISFIABLE => return Err(short()),
            StatusCode::OK => {
                return Err(self.foreign("it gives the whole file when asked for a part"));
            }
            status => return Err(self.line.refused(status, asked)),
        }
        let range = answer.headers().get("content-range").and_then(|value| value.to_str().ok());
        let is_ours = range.is_none_or(|range| {
            range.strip_prefix(&format!("bytes {offset}-")).is_some_and(|rest| rest.contains('/'))
        });
        if !is_ours {
            return Err(self.foreign("it gives another part of a file than it was asked for"));
        }
        match self.length(&answer)? {
            given if given < bytes => return Err(short()),
            given if given > bytes => {
                return Err(self.foreign("it gives more of a file than it was asked for"));
            }
            _ => {}
        }
        let mut body = self.body(answer, bytes + 1);
        body.read_exact(buffer).map_err(|cause| self.line.broke(cause))?;
        // Reaching the end gives the connection back.
        let _ = body.read(&mut [0]);
        Ok(())
    }

    fn write(&self, name: Name, bytes: &[u8]) -> Result<()> {
        let mut body = bytes;
        self.line.upload(name, &mut body, bytes.len() as u64)
    }

    fn create_pack(&self) -> Result<Box<dyn PackFile>> {
        Ok(Box::new(Spooled::begin(&self.line, &self.scratch)?))
    }

    fn remove(&self, name: Name) -> Result<()> {
        // A server says that it removed what was never there.
        if self.size(name)?.is_none() {
            return Err(StorageError::NotFound { location: self.location(), name });
        }
        let asked = Asked { action: "remove a file", name: Some(name) };
        let answer = self.line.ask("DELETE", &path_of(name))?;
        match answer.status() {
            status if status.is_success() => self.line.finish(answer),
            status => Err(self.line.refused(status, asked)),
        }
    }

    fn size(&self, name: Name) -> Result<Option<u64>> {
        self.line.size(name)
    }
}

impl Rest {
    fn foreign(&self, reason: &str) -> StorageError {
        StorageError::Foreign { location: self.location(), reason: reason.into() }
    }

    fn length(&self, answer: &Response<ureq::Body>) -> Result<u64> {
        length_of(answer).ok_or_else(|| self.foreign("it gives a file without its length"))
    }

    fn body(&self, answer: Response<ureq::Body>, bytes_max: u64) -> impl Read + use<> {
        answer.into_body().into_with_config().limit(bytes_max).reader()
    }

    fn broken(&self, broken: Broken) -> StorageError {
        match broken {
            Broken::Line(cause) => self.line.broke(cause),
            Broken::Text(reason) => self.foreign(reason),
        }
    }
}
