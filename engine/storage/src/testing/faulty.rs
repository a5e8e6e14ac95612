//! A storage that fails on purpose, around one that works.
//!
//! Operations that change the storage are counted from zero: each `write`, `remove`,
//! `create_pack`, `append` and `commit` is one. So a test can fail each of them in turn.

use crate::{Name, PackFile, Result, Storage, StorageError};
use engine_repository::{FileKind, Id};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// From the change with this number on, every change says the destination is full.
    FullFrom(usize),
    /// From the change with this number on, everything says the destination is gone.
    GoneFrom(usize),
    /// The change with this number fails, once, with an error of the disk.
    FailAt(usize),
    /// The change with this number says it worked, and did nothing.
    LoseAt(usize),
    /// Reads of files of this kind give one byte less than there are.
    ShortReads(FileKind),
    /// Listings of this kind leave out what was written since this was injected.
    OldLists(FileKind),
    /// Reads of files of this kind have one bit flipped in the middle.
    FlippedBit(FileKind),
}

/// A storage that fails on purpose.
pub struct Faulty {
    inner: Arc<dyn Storage>,
    state: Arc<State>,
}

/// What is told of each change before it is made.
type Watcher = Box<dyn Fn(usize) + Send + Sync>;

struct State {
    faults: Mutex<Vec<Fault>>,
    changes: AtomicUsize,
    watcher: OnceLock<Watcher>,
    /// Since the last fault was injected.
    written: Mutex<Vec<Name>>,
    location: String,
}

impl Faulty {
    /// A storage that works as `inner` does, until told otherwise.
    pub fn around(inner: Arc<dyn Storage>) -> Self {
        let location = inner.location();
        let state = State {
            faults: Mutex::default(),
            changes: AtomicUsize::new(0),
            watcher: OnceLock::new(),
            written: Mutex::default(),
            location,
        };
        Self { inner, state: Arc::new(state) }
    }

    /// Adds a fault. Numbers of changes count from now.
    pub fn inject(&self, fault: Fault) {
        self.state.changes.store(0, Ordering::SeqCst);
        self.state.written().clear();
        self.state.faults.lock().unwrap_or_else(|e| e.into_inner()).push(fault);
    }

    /// A storage that does what `inner` does and, before each change, tells `watcher` its number:
    /// a test acts at the same point of the work, however fast the computer is.
    pub fn watched(
        inner: Arc<dyn Storage>,
        watcher: impl Fn(usize) + Send + Sync + 'static,
    ) -> Self {
        let faulty = Self::around(inner);
        let _ = faulty.state.watcher.set(Box::new(watcher));
        faulty
    }

    /// Everything works again.
    pub fn heal(&self) {
        self.state.faults.lock().unwrap_or_else(|e| e.into_inner()).clear();
    }

    /// How many changes were asked for since the last fault was injected.
    pub fn changes(&self) -> usize {
        self.state.changes.load(Ordering::SeqCst)
    }
}

impl State {
    fn faults(&self) -> Vec<Fault> {
        self.faults.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    fn written(&self) -> MutexGuard<'_, Vec<Name>> {
        self.written.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn gone(&self) -> StorageError {
        StorageError::Gone { location: self.location.clone() }
    }

    /// Counts a change; `Ok(false)` means: say it worked, and do nothing.
    fn change(&self) -> Result<bool> {
        let number = self.changes.fetch_add(1, Ordering::SeqCst);
        if let Some(watcher) = self.watcher.get() {
            watcher(number);
        }
        let mut is_done = true;
        for fault in self.faults() {
            match fault {
                Fault::FullFrom(from) if number >= from => {
                    let cause = io::Error::from_raw_os_error(nix::errno::Errno::ENOSPC as i32);
                    return Err(StorageError::Full { location: self.location.clone(), cause });
                }
                Fault::GoneFrom(from) if number >= from => return Err(self.gone()),
                Fault::FailAt(at) if number == at => {
                    let cause = io::Error::from_raw_os_error(nix::errno::Errno::EIO as i32);
                    let path = self.location.clone().into();
                    return Err(StorageError::Io { action: "write", path, cause });
                }
                Fault::LoseAt(at) if number == at => is_done = false,
                _ => {}
            }
        }
        Ok(is_done)
    }

    fn look(&self) -> Result<()> {
        let changes = self.changes.load(Ordering::SeqCst);
        let is_gone = |fault: &Fault| matches!(fault, Fault::GoneFrom(from) if changes > *from);
        if self.faults().iter().any(is_gone) { Err(self.gone()) } else { Ok(()) }
    }

    fn spoil(&self, kind: FileKind, bytes: &mut [u8]) {
        let middle = bytes.len() / 2;
        if let Some(byte) = bytes.get_mut(middle)
            && self.faults().contains(&Fault::FlippedBit(kind))
        {
            *byte ^= 1;
        }
    }
}

impl Storage for Faulty {
    fn location(&self) -> String {
        self.state.location.clone()
    }

    fn create(&self) -> Result<()> {
        self.state.look()?;
        self.inner.create()
    }

    fn list(&self, kind: FileKind, each: &mut dyn FnMut(Id, u64) -> Result<()>) -> Result<()> {
        self.state.look()?;
        if !self.state.faults().contains(&Fault::OldLists(kind)) {
            return self.inner.list(kind, each);
        }
        let young = self.state.written().clone();
        self.inner.list(kind, &mut |id, bytes| match young.contains(&Name::of(kind, id)) {
            true => Ok(()),
            false => each(id, bytes),
        })
    }

    fn read(&self, name: Name, bytes_max: u64) -> Result<Vec<u8>> {
        self.state.look()?;
        let mut bytes = self.inner.read(name, bytes_max)?;
        if self.state.faults().contains(&Fault::ShortReads(name.kind)) {
            bytes.pop();
        }
        self.state.spoil(name.kind, &mut bytes);
        Ok(bytes)
    }

    fn read_range(&self, name: Name, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.state.look()?;
        if self.state.faults().contains(&Fault::ShortReads(name.kind)) {
            let end = offset + buffer.len() as u64;
            return Err(StorageError::Short { location: self.location(), name, end });
        }
        self.inner.read_range(name, offset, buffer)?;
        self.state.spoil(name.kind, buffer);
        Ok(())
    }

    fn write(&self, name: Name, bytes: &[u8]) -> Result<()> {
        if !self.state.change()? {
            return Ok(());
        }
        self.inner.write(name, bytes)?;
        self.state.written().push(name);
        Ok(())
    }

    fn create_pack(&self) -> Result<Box<dyn PackFile>> {
        self.state.change()?;
        Ok(Box::new(FaultyPack { inner: self.inner.create_pack()?, state: self.state.clone() }))
    }

    fn remove(&self, name: Name) -> Result<()> {
        if self.state.change()? { self.inner.remove(name) } else { Ok(()) }
    }

    fn size(&self, name: Name) -> Result<Option<u64>> {
        self.state.look()?;
        self.inner.size(name)
    }
}

struct FaultyPack {
    inner: Box<dyn PackFile>,
    state: Arc<State>,
}

impl PackFile for FaultyPack {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if self.state.change()? { self.inner.append(bytes) } else { Ok(()) }
    }

    fn read_back(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.state.look()?;
        self.inner.read_back(offset, buffer)
    }

    fn settle(&mut self, id: Id) -> Result<()> {
        if !self.state.change()? {
            return Ok(());
        }
        self.inner.settle(id)?;
        self.state.written().push(Name::of(FileKind::Pack, id));
        Ok(())
    }
}
