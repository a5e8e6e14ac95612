//! Stopping within a second, whatever the destination does.
//!
//! A backup runs on a thread of its own; the caller's thread hands on its events and looks whether
//! it was asked to stop. Then the backup is given the time it needs to leave a checkpoint, as long
//! as the destination answers. A call that does not come back cannot be broken off: after
//! [`PATIENCE`] without one that ended, the caller gets its answer and the thread is left behind.
//! It ends with its call, keeps its lock until then, and leaves the same as a run that was killed:
//! on a disk that takes longer than that to have a pack safe there may be no checkpoint of the
//! stop. Nothing is done twice for it, as the journal has what was stored, and a box without the
//! journal has the checkpoint before, which is as old as the request allows.

use super::{BackupOutcome, BackupRequest};
use crate::{Cancel, Event, Repository, Result, TransferError};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use engine_repository::{FileKind, Id};
use engine_storage::{Name, PackFile, Storage};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long a call may take when the backup was asked to stop.
const PATIENCE: Duration = Duration::from_millis(800);
/// Room for a walk as deep as it goes: of an optimised program each folder takes some 7 KiB, of
/// another some 11. It is room of the address space; memory is taken as far down as the walk comes.
const STACK_BYTES: usize = 32 << 20;
/// How often the caller's thread looks.
const LOOK: Duration = Duration::from_millis(50);

/// What the caller's thread knows of the backup.
#[derive(Default)]
pub(super) struct Pulse {
    /// There is something a checkpoint could keep.
    has_begun: AtomicBool,
    calls_begun: AtomicUsize,
    calls_ended: AtomicUsize,
}

impl Pulse {
    /// From now on a stop leaves a checkpoint.
    pub(super) fn begin(&self) {
        self.has_begun.store(true, Ordering::SeqCst);
    }

    fn call<T>(&self, call: impl FnOnce() -> T) -> T {
        self.calls_begun.fetch_add(1, Ordering::SeqCst);
        let answer = call();
        self.calls_ended.fetch_add(1, Ordering::SeqCst);
        answer
    }
}

type Body = dyn Fn(
        &Repository,
        &BackupRequest,
        &Pulse,
        &(dyn Fn(Event) + Sync),
        &Cancel,
    ) -> Result<BackupOutcome>
    + Send
    + Sync;

/// Runs a backup so that it can be stopped at any time.
pub(super) fn stoppable(
    repository: &Repository,
    request: &BackupRequest,
    events: &(dyn Fn(Event) + Sync),
    cancel: &Cancel,
    body: &'static Body,
) -> Result<BackupOutcome> {
    let pulse = Arc::new(Pulse::default());
    let inner = repository.storage().clone();
    let watched = Arc::new(Watched { inner, pulse: pulse.clone() });
    let repository = repository.with_storage(watched);
    let (tell, told) = bounded(0);
    let (request, asked, its_pulse) = (request.clone(), cancel.clone(), pulse.clone());
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
        let events = |event| hand_over(&tell, event);
        body(&repository, &request, &its_pulse, &events, &asked)
    });
    let thread = thread.map_err(|cause| TransferError::Thread { cause })?;
    hand_on(&told, &pulse, events, cancel)?;
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// An event, and where to say that it was handled.
type Told = (Event, Sender<()>);

/// Tells an event and waits until it was handled, or nobody listens any more.
fn hand_over(tell: &Sender<Told>, event: Event) {
    let (done, is_done) = bounded(1);
    if tell.send((event, done)).is_ok() {
        let _ = is_done.recv();
    }
}

/// Hands on events until the backup has ended; an error when it is left behind.
fn hand_on(
    told: &Receiver<Told>,
    pulse: &Pulse,
    events: &(dyn Fn(Event) + Sync),
    cancel: &Cancel,
) -> Result<()> {
    let mut quiet_since = (Instant::now(), 0);
    loop {
        match told.recv_timeout(LOOK) {
            Ok((event, done)) => {
                events(event);
                drop(done);
            }
            Err(RecvTimeoutError::Timeout) => {}
            // The thread has its answer and gives it now.
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        let ended = pulse.calls_ended.load(Ordering::SeqCst);
        let is_waiting = pulse.calls_begun.load(Ordering::SeqCst) != ended;
        let is_quiet = is_waiting || !pulse.has_begun.load(Ordering::SeqCst);
        if !cancel.is_cancelled() || !is_quiet || quiet_since.1 != ended {
            quiet_since = (Instant::now(), ended);
        } else if quiet_since.0.elapsed() >= PATIENCE {
            return Err(TransferError::Cancelled);
        }
    }
}

/// A storage whose calls are counted.
struct Watched {
    inner: Arc<dyn Storage>,
    pulse: Arc<Pulse>,
}

type Answer<T> = engine_storage::Result<T>;

impl Storage for Watched {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn create(&self) -> Answer<()> {
        self.pulse.call(|| self.inner.create())
    }

    fn list(&self, kind: FileKind, each: &mut dyn FnMut(Id, u64) -> Answer<()>) -> Answer<()> {
        self.pulse.call(|| self.inner.list(kind, each))
    }

    fn lists_at_once(&self) -> bool {
        self.inner.lists_at_once()
    }

    fn read(&self, name: Name, bytes_max: u64) -> Answer<Vec<u8>> {
        self.pulse.call(|| self.inner.read(name, bytes_max))
    }

    fn read_range(&self, name: Name, offset: u64, buffer: &mut [u8]) -> Answer<()> {
        self.pulse.call(|| self.inner.read_range(name, offset, buffer))
    }

    fn write(&self, name: Name, bytes: &[u8]) -> Answer<()> {
        self.pulse.call(|| self.inner.write(name, bytes))
    }

    fn create_pack(&self) -> Answer<Box<dyn PackFile>> {
        let pack = self.pulse.call(|| self.inner.create_pack())?;
        Ok(Box::new(WatchedPack { inner: pack, pulse: self.pulse.clone() }))
    }

    fn remove(&self, name: Name) -> Answer<()> {
        self.pulse.call(|| self.inner.remove(name))
    }

    fn size(&self, name: Name) -> Answer<Option<u64>> {
        self.pulse.call(|| self.inner.size(name))
    }
}

struct WatchedPack {
    inner: Box<dyn PackFile>,
    pulse: Arc<Pulse>,
}

impl PackFile for WatchedPack {
    fn append(&mut self, bytes: &[u8]) -> Answer<()> {
        self.pulse.call(|| self.inner.append(bytes))
    }

    fn read_back(&mut self, offset: u64, buffer: &mut [u8]) -> Answer<usize> {
        self.pulse.call(|| self.inner.read_back(offset, buffer))
    }

    fn settle(&mut self, id: Id) -> Answer<()> {
        self.pulse.call(|| self.inner.settle(id))
    }
}
