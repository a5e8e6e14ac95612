//! Believes no destination that something was stored, and looks.
//!
//! A destination that
//! - confirms a write it lost is found out by the question for the size after every write and pack
//!   ([`StorageError::Lost`]);
//! - keeps only a part of what it confirmed, by the same question ([`StorageError::Altered`]);
//! - lists what was, not what is, by the next listing, which must name what this process wrote
//!   ([`StorageError::OldListing`]);
//! - gives fewer bytes than it has, or others, by whoever reads them: by lengths, and by the sums
//!   that are the names;
//! - confirms a removal it did not make, by nobody here: the file is listed and removed again;
//! - loses a file later, by `check`, which compares listing and index.
//!
//! A listing that leaves out what *others* wrote a moment ago cannot be told from one that is
//! right. So what this process wrote stands for it: a place that leaves ours out is refused before
//! anything is removed there.
//!
//! It costs one question a file: a look into the folder, or a request without a body.

use crate::{Name, PackFile, Result, Storage, StorageError};
use engine_repository::{FileKind, Id};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// So many of the files written last must be in every listing.
const RECENT_NAMES_MAX: usize = 1024;

/// A storage whose word is not taken.
pub struct Doubting {
    inner: Arc<dyn Storage>,
    recent: Arc<Recent>,
}

/// What was written last, oldest first.
#[derive(Default)]
struct Recent(Mutex<VecDeque<Name>>);

impl Recent {
    fn names(&self) -> MutexGuard<'_, VecDeque<Name>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes sure that the file is there in its length, and remembers it.
    fn look_for(&self, storage: &dyn Storage, name: Name, bytes: u64) -> Result<()> {
        let location = storage.location();
        match storage.size(name)? {
            None => return Err(StorageError::Lost { location, name }),
            Some(found) if found != bytes => {
                return Err(StorageError::Altered { location, name, bytes, found });
            }
            Some(_) => {}
        }
        let mut names = self.names();
        if names.len() == RECENT_NAMES_MAX {
            names.pop_front();
        }
        names.push_back(name);
        Ok(())
    }
}

impl Doubting {
    /// A storage that does what `inner` does, and looks whether it did.
    pub fn around(inner: Arc<dyn Storage>) -> Self {
        Self { inner, recent: Arc::default() }
    }
}

impl Storage for Doubting {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn create(&self) -> Result<()> {
        self.inner.create()
    }

    fn list(&self, kind: FileKind, each: &mut dyn FnMut(Id, u64) -> Result<()>) -> Result<()> {
        let mut missing: Vec<Id> = {
            let names = self.recent.names();
            names.iter().filter(|name| name.kind == kind).map(|name| name.id).collect()
        };
        missing.sort_unstable();
        missing.dedup();
        let mut is_told = vec![false; missing.len()];
        self.inner.list(kind, &mut |id, bytes| {
            if let Ok(at) = missing.binary_search(&id) {
                is_told[at] = true;
            }
            each(id, bytes)
        })?;
        for (id, is_told) in missing.into_iter().zip(is_told) {
            let name = Name::of(kind, id);
            // One that is not there was removed by somebody: the listing is right.
            if !is_told && self.inner.size(name)?.is_some() {
                return Err(StorageError::OldListing { location: self.location(), name });
            }
        }
        Ok(())
    }

    fn lists_at_once(&self) -> bool {
        self.inner.lists_at_once()
    }

    fn read(&self, name: Name, bytes_max: u64) -> Result<Vec<u8>> {
        self.inner.read(name, bytes_max)
    }

    fn read_range(&self, name: Name, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.inner.read_range(name, offset, buffer)
    }

    fn read_on(
        &self,
        name: Name,
        offset: u64,
        buffer: &mut [u8],
        arrived: &mut usize,
    ) -> Result<()> {
        self.inner.read_on(name, offset, buffer, arrived)
    }

    fn write(&self, name: Name, bytes: &[u8]) -> Result<()> {
        self.inner.write(name, bytes)?;
        self.recent.look_for(self.inner.as_ref(), name, bytes.len() as u64)
    }

    fn create_pack(&self) -> Result<Box<dyn PackFile>> {
        let (storage, recent) = (self.inner.clone(), self.recent.clone());
        Ok(Box::new(DoubtedPack { inner: self.inner.create_pack()?, storage, recent, bytes: 0 }))
    }

    fn remove(&self, name: Name) -> Result<()> {
        self.recent.names().retain(|recent| *recent != name);
        self.inner.remove(name)
    }

    fn size(&self, name: Name) -> Result<Option<u64>> {
        self.inner.size(name)
    }
}

struct DoubtedPack {
    inner: Box<dyn PackFile>,
    storage: Arc<dyn Storage>,
    recent: Arc<Recent>,
    bytes: u64,
}

impl PackFile for DoubtedPack {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.inner.append(bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    fn read_back(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.inner.read_back(offset, buffer)
    }

    fn settle(&mut self, id: Id) -> Result<()> {
        self.inner.settle(id)?;
        let name = Name::of(FileKind::Pack, id);
        self.recent.look_for(self.storage.as_ref(), name, self.bytes)
    }
}
