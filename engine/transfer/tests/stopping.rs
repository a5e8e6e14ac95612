//! A backup that is asked to stop stops, whatever it is doing.

mod place;

use engine_repository::{FileKind, Id};
use engine_storage::{Name, PackFile, Result, Storage, list_all};
use engine_transfer::{Cancel, Event, TransferError, backup};
use place::{Place, back_up, check_all, noise, request};
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

/// A destination that does not answer from one call on, until it is mended; whoever waits for it
/// has been asked to stop.
struct Stuck {
    inner: Arc<dyn Storage>,
    state: Arc<State>,
}

struct State {
    calls: AtomicUsize,
    stuck_from: usize,
    cancel: Cancel,
    is_mended: Mutex<bool>,
    mended: Condvar,
}

impl State {
    fn pass(&self) {
        if self.calls.fetch_add(1, Ordering::SeqCst) < self.stuck_from {
            return;
        }
        let mut is_mended = self.is_mended.lock().unwrap();
        if !*is_mended {
            self.cancel.cancel();
        }
        while !*is_mended {
            is_mended = self.mended.wait(is_mended).unwrap();
        }
    }
}

impl Storage for Stuck {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn create(&self) -> Result<()> {
        self.inner.create()
    }

    fn list(&self, kind: FileKind, each: &mut dyn FnMut(Id, u64) -> Result<()>) -> Result<()> {
        self.state.pass();
        self.inner.list(kind, each)
    }

    fn read(&self, name: Name, bytes_max: u64) -> Result<Vec<u8>> {
        self.state.pass();
        self.inner.read(name, bytes_max)
    }

    fn read_range(&self, name: Name, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.state.pass();
        self.inner.read_range(name, offset, buffer)
    }

    fn write(&self, name: Name, bytes: &[u8]) -> Result<()> {
        self.state.pass();
        self.inner.write(name, bytes)
    }

    fn create_pack(&self) -> Result<Box<dyn PackFile>> {
        self.state.pass();
        let inner = self.inner.create_pack()?;
        Ok(Box::new(StuckPack { inner, state: self.state.clone() }))
    }

    fn remove(&self, name: Name) -> Result<()> {
        self.state.pass();
        self.inner.remove(name)
    }

    fn size(&self, name: Name) -> Result<Option<u64>> {
        self.state.pass();
        self.inner.size(name)
    }
}

struct StuckPack {
    inner: Box<dyn PackFile>,
    state: Arc<State>,
}

impl PackFile for StuckPack {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.state.pass();
        self.inner.append(bytes)
    }

    fn settle(&mut self, id: Id) -> Result<()> {
        self.state.pass();
        self.inner.settle(id)
    }
}

#[test]
fn a_destination_that_does_not_answer_at_any_call_does_not_keep_the_owner_waiting() {
    let place = Place::new();
    let source = place.source();
    place.init();
    back_up(&place.open_on(place.folder()), &source);
    // Opening takes the first calls.
    for stuck_from in (4..40).step_by(3) {
        let name = format!("folder/new {stuck_from}");
        fs::write(source.join(name), noise(9_000_000, stuck_from as u64)).unwrap();
        let cancel = Cancel::new();
        let state = Arc::new(State {
            calls: AtomicUsize::new(0),
            stuck_from,
            cancel: cancel.clone(),
            is_mended: Mutex::default(),
            mended: Condvar::new(),
        });
        let stuck = Arc::new(Stuck { inner: place.folder(), state: state.clone() });
        let repository = place.open_on(stuck);
        let ended = backup(&repository, &request(&source), &|_| {}, &cancel);
        let was_stuck = cancel.is_cancelled();
        assert!(was_stuck || ended.is_ok(), "call {stuck_from}: {ended:?}");
        if was_stuck {
            // It came back while the call still has not.
            assert!(matches!(ended, Err(TransferError::Cancelled)), "{stuck_from}: {ended:?}");
        }
        *state.is_mended.lock().unwrap() = true;
        state.mended.notify_all();
        // What was left behind ends, and gives its lock back.
        while !list_all(place.folder().as_ref(), FileKind::Lock).unwrap().is_empty() {
            std::thread::yield_now();
        }
        let report = check_all(&place.open_on(place.folder()));
        assert!(report.is_sound(), "call {stuck_from}: {:?}", report.findings);
    }
}

#[test]
fn a_huge_file_is_not_read_to_its_end() {
    let place = Place::new();
    let source = place.path("source");
    fs::create_dir_all(&source).unwrap();
    fs::write(source.join("video"), noise(120_000_000, 3)).unwrap();
    let repository = place.init();
    let cancel = Cancel::new();
    let (at_cancel, at_end) = (Mutex::new(None), Mutex::new(0));
    let events = |event| {
        if let Event::Progress(progress) = event {
            *at_end.lock().unwrap() = progress.bytes_done;
            if progress.bytes_done > 1_000_000 {
                at_cancel.lock().unwrap().get_or_insert(progress.bytes_done);
                cancel.cancel();
            }
        }
    };
    let ended = backup(&repository, &request(&source), &events, &cancel);
    assert!(matches!(ended, Err(TransferError::Cancelled)), "{ended:?}");
    let at_cancel = at_cancel.into_inner().unwrap().expect("it was asked to stop");
    let read_after = at_end.into_inner().unwrap() - at_cancel;
    assert!(read_after <= 1 << 20, "{read_after} bytes were read after the stop");
}
