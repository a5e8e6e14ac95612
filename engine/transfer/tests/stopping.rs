//! A backup that is asked to stop stops, whatever it is doing.

mod place;

use engine_repository::{FileKind, Id};
use engine_storage::testing::Faulty;
use engine_storage::{Name, PackFile, Result, Storage};
use engine_transfer::{Cancel, Event, TransferError, backup};
use place::{Place, back_up, check_all, noise, request};
use std::fs;
use std::path::Path;
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

    fn read_back(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.state.pass();
        self.inner.read_back(offset, buffer)
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
        place.wait_until_unlocked();
        let report = check_all(&place.open_on(place.folder()));
        assert!(report.is_sound(), "call {stuck_from}: {:?}", report.findings);
    }
}

/// How far this process has read a file that it has open.
fn position_in(path: &Path) -> Option<u64> {
    let descriptors = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let mut of_file = descriptors.filter(|fd| fs::read_link(fd.path()).is_ok_and(|to| to == path));
    let number = of_file.next()?.file_name();
    let told = fs::read_to_string(Path::new("/proc/self/fdinfo").join(number)).ok()?;
    told.lines().find_map(|line| line.strip_prefix("pos:"))?.trim().parse().ok()
}

#[test]
fn a_huge_file_is_not_read_to_its_end() {
    let place = Place::new();
    let source = place.path("source");
    fs::create_dir_all(&source).unwrap();
    let video = source.join("video");
    fs::write(&video, noise(120_000_000, 3)).unwrap();
    place.init();
    let cancel = Cancel::new();
    let at_stop = Arc::new(Mutex::new(None));
    let (asked, read, path) = (cancel.clone(), at_stop.clone(), video.clone());
    let storage = Faulty::watched(place.folder(), move |change| {
        if change == 6 {
            asked.cancel();
            *read.lock().unwrap() = position_in(&path);
        }
    });
    let at_end = Mutex::new(0);
    let events = |event| {
        if let Event::Progress(progress) = event {
            *at_end.lock().unwrap() = progress.bytes_done;
        }
    };
    let repository = place.open_on(Arc::new(storage));
    let ended = backup(&repository, &request(&source), &events, &cancel);
    assert!(matches!(ended, Err(TransferError::Cancelled)), "{ended:?}");
    place.wait_until_unlocked();
    let (at_stop, at_end) = (at_stop.lock().unwrap().take(), at_end.into_inner().unwrap());
    assert!(at_end < 120_000_000 / 2, "{at_end} bytes were read");
    // It may have been closed by the time it was looked at.
    if let Some(at_stop) = at_stop {
        let read_after = at_end.saturating_sub(at_stop);
        assert!(read_after <= 1 << 20, "{read_after} bytes were read after the stop");
    }
}
