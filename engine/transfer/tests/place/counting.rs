//! A storage that counts what is read of it, and pulls a cord at a number of reads.

use engine_repository::{FileKind, Id};
use engine_storage::{Name, PackFile, Result, Storage};
use engine_transfer::Cancel;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

pub struct Counting {
    inner: Arc<dyn Storage>,
    /// Reads of blobs, or of several next to each other.
    blobs: AtomicUsize,
    /// Reads of index files.
    indexes: AtomicUsize,
    cord: Mutex<Option<(usize, Cancel)>>,
}

impl Counting {
    pub fn around(inner: Arc<dyn Storage>) -> Arc<Self> {
        let (blobs, indexes) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { inner, blobs, indexes, cord: Mutex::default() })
    }

    /// How many reads of blobs and of index files there were since it was asked last.
    pub fn take(&self) -> (usize, usize) {
        (self.blobs.swap(0, Ordering::SeqCst), self.indexes.swap(0, Ordering::SeqCst))
    }

    /// Asks for an end as soon as so many blobs were read.
    pub fn cancel_at(&self, blobs: usize, cancel: &Cancel) {
        *self.cord.lock().unwrap() = Some((blobs, cancel.clone()));
    }

    fn count(&self, kind: FileKind) {
        if kind == FileKind::Index {
            self.indexes.fetch_add(1, Ordering::SeqCst);
            return;
        }
        let blobs = self.blobs.fetch_add(1, Ordering::SeqCst) + 1;
        let cord = self.cord.lock().unwrap();
        if let Some((_, cancel)) = cord.as_ref().filter(|cord| cord.0 == blobs) {
            cancel.cancel();
        }
    }
}

impl Storage for Counting {
    fn location(&self) -> String {
        self.inner.location()
    }
    fn create(&self) -> Result<()> {
        self.inner.create()
    }
    fn list(&self, kind: FileKind, each: &mut dyn FnMut(Id, u64) -> Result<()>) -> Result<()> {
        self.inner.list(kind, each)
    }
    fn read(&self, name: Name, bytes_max: u64) -> Result<Vec<u8>> {
        if name.kind == FileKind::Index {
            self.count(name.kind);
        }
        self.inner.read(name, bytes_max)
    }
    fn read_range(&self, name: Name, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.count(name.kind);
        self.inner.read_range(name, offset, buffer)
    }
    fn write(&self, name: Name, bytes: &[u8]) -> Result<()> {
        self.inner.write(name, bytes)
    }
    fn create_pack(&self) -> Result<Box<dyn PackFile>> {
        self.inner.create_pack()
    }
    fn remove(&self, name: Name) -> Result<()> {
        self.inner.remove(name)
    }
    fn size(&self, name: Name) -> Result<Option<u64>> {
        self.inner.size(name)
    }
}
