//! Trying again and keeping to a rate, by a clock whose hours pass in no time.

use engine_repository::{FileKind, Id};
use engine_storage::testing::{QuickClock, conforms};
use engine_storage::{
    Clock, Folder, Name, PackFile, Persistence, Rates, Result, Retrying, Storage, StorageError,
    Throttled, list_all,
};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// What the next calls meet, in order; then everything works.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Meets {
    /// Nothing is done.
    Refusal,
    /// It is done, and the answer is lost; a listing breaks off after so many.
    LostAnswer(usize),
    /// The disk is full.
    Full,
}

struct Shaky {
    inner: Folder,
    script: Mutex<Vec<Meets>>,
    calls: Mutex<usize>,
}

impl Shaky {
    fn unreachable(&self) -> StorageError {
        StorageError::Unreachable { location: self.location(), cause: "cut".into() }
    }

    fn script(&self) -> MutexGuard<'_, Vec<Meets>> {
        self.script.lock().unwrap()
    }

    fn meet<T>(&self, act: impl FnOnce() -> Result<T>) -> Result<T> {
        *self.calls.lock().unwrap() += 1;
        let mut script = self.script();
        let next = if script.is_empty() { None } else { Some(script.remove(0)) };
        drop(script);
        match next {
            None => act(),
            Some(Meets::Refusal) => Err(self.unreachable()),
            Some(Meets::LostAnswer(_)) => act().and_then(|_| Err(self.unreachable())),
            Some(Meets::Full) => {
                let cause = std::io::Error::other("507");
                Err(StorageError::Full { location: self.location(), cause })
            }
        }
    }
}

impl Storage for Shaky {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn create(&self) -> Result<()> {
        self.meet(|| self.inner.create())
    }

    fn list(&self, kind: FileKind, each: &mut dyn FnMut(Id, u64) -> Result<()>) -> Result<()> {
        let told_max = match self.script().first() {
            Some(Meets::LostAnswer(told_max)) => *told_max,
            _ => usize::MAX,
        };
        self.meet(|| {
            for (id, bytes) in list_all(&self.inner, kind)?.into_iter().take(told_max) {
                each(id, bytes)?;
            }
            Ok(())
        })
    }

    fn read(&self, name: Name, bytes_max: u64) -> Result<Vec<u8>> {
        self.meet(|| self.inner.read(name, bytes_max))
    }

    fn read_range(&self, name: Name, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.meet(|| self.inner.read_range(name, offset, buffer))
    }

    fn write(&self, name: Name, bytes: &[u8]) -> Result<()> {
        self.meet(|| self.inner.write(name, bytes))
    }

    fn create_pack(&self) -> Result<Box<dyn PackFile>> {
        self.meet(|| self.inner.create_pack())
    }

    fn remove(&self, name: Name) -> Result<()> {
        self.meet(|| self.inner.remove(name))
    }

    fn size(&self, name: Name) -> Result<Option<u64>> {
        self.meet(|| self.inner.size(name))
    }
}

struct Place {
    _parent: tempfile::TempDir,
    shaky: Arc<Shaky>,
    clock: Arc<QuickClock>,
    retrying: Retrying,
}

/// `chance`: of what is possible, how much is waited.
fn a_place(chance: u32) -> Place {
    let parent = tempfile::tempdir().unwrap();
    let inner = Folder::at(&parent.path().join("repository"));
    inner.create().unwrap();
    let shaky = Arc::new(Shaky { inner, script: Mutex::default(), calls: Mutex::default() });
    let clock = Arc::new(QuickClock::default());
    let persistence = Persistence {
        clock: clock.clone(),
        chance: Arc::new(move || chance),
        ..Default::default()
    };
    let retrying = Retrying::around(shaky.clone(), persistence);
    Place { _parent: parent, shaky, clock, retrying }
}

impl Place {
    fn meets(&self, script: &[Meets]) {
        *self.shaky.script() = script.to_vec();
        *self.shaky.calls.lock().unwrap() = 0;
    }

    fn calls(&self) -> usize {
        *self.shaky.calls.lock().unwrap()
    }
}

const NAME: Name = Name::of(FileKind::Snapshot, Id::ZERO);

#[test]
fn a_storage_that_tries_again_or_keeps_to_a_rate_conforms() {
    let place = a_place(u32::MAX);
    let root = place._parent.path().join("other");
    let rates = Rates { up: Some(1 << 20), down: Some(1 << 20) };
    let paced = Throttled::by_clock(Arc::new(Folder::at(&root)), rates, place.clock.clone());
    conforms(|| Arc::new(Retrying::around(Arc::new(paced), Persistence::default())));
}

#[test]
fn waits_double_up_to_a_minute_and_end_after_a_quarter_of_an_hour() {
    let place = a_place(u32::MAX);
    place.meets(&[Meets::Refusal; 100]);
    assert!(place.retrying.size(NAME).is_err());
    let first = place.clock.now();
    assert!(first <= Duration::from_secs(30), "one that never answered is given up soon");
    place.clock.begin_again();
    place.meets(&[]);
    place.retrying.size(NAME).unwrap();
    place.meets(&[Meets::Refusal; 100]);
    let answer = place.retrying.size(NAME);
    assert!(matches!(answer, Err(StorageError::Unreachable { .. })), "{answer:?}");
    let waits = place.clock.waits();
    let halves: Vec<u64> = waits.iter().map(|wait| wait.as_millis() as u64 / 500).collect();
    assert_eq!(halves[..9], [1, 2, 4, 8, 16, 32, 64, 120, 120]);
    assert!(place.clock.now() <= Duration::from_secs(900), "{:?}", place.clock.now());
    assert_eq!(place.calls(), waits.len() + 1);
}

#[test]
fn a_wait_is_any_part_of_its_span() {
    for (chance, wait_ms) in [(0, 0), (u32::MAX / 2, 250), (u32::MAX, 500)] {
        let place = a_place(chance);
        place.meets(&[Meets::Refusal]);
        place.retrying.size(NAME).unwrap();
        let waited = place.clock.waits()[0].as_secs_f64() * 1000.0;
        assert!((waited - f64::from(wait_ms)).abs() < 1.0, "{waited}");
    }
}

#[test]
fn what_no_waiting_changes_is_asked_once() {
    let place = a_place(0);
    place.meets(&[]);
    let answer = place.retrying.read(NAME, 10);
    assert!(matches!(answer, Err(StorageError::NotFound { .. })));
    assert_eq!(place.calls(), 1);
    place.meets(&[Meets::Full; 9]);
    let answer = place.retrying.write(NAME, b"x");
    assert!(matches!(answer, Err(StorageError::Full { .. })));
    assert_eq!(place.calls(), 1);
    place.meets(&[]);
    place.retrying.write(NAME, b"0123456789").unwrap();
    place.meets(&[]);
    let answers = [
        place.retrying.read_range(NAME, 9, &mut [0; 2]),
        place.retrying.read(NAME, 9).map(drop),
        place.retrying.write(NAME, b"0123456789"),
    ];
    assert!(matches!(answers[0], Err(StorageError::Short { .. })), "{:?}", answers[0]);
    assert!(matches!(answers[1], Err(StorageError::TooLarge { .. })), "{:?}", answers[1]);
    assert!(matches!(answers[2], Err(StorageError::AlreadyExists { .. })), "{:?}", answers[2]);
    assert_eq!(place.calls(), 3);
    assert!(place.clock.waits().is_empty());
}

#[test]
fn a_write_whose_answer_was_lost_is_found_done_and_a_rivals_is_not() {
    let place = a_place(0);
    place.meets(&[Meets::LostAnswer(0), Meets::Refusal]);
    place.retrying.write(NAME, b"ours").unwrap();
    place.shaky.inner.remove(NAME).unwrap();
    for rivals in [&b"another"[..], b"ruos", b""] {
        place.shaky.inner.write(NAME, rivals).unwrap();
        place.meets(&[Meets::Refusal]);
        let answer = place.retrying.write(NAME, b"ours");
        assert!(matches!(answer, Err(StorageError::AlreadyExists { .. })), "{answer:?}");
        place.shaky.inner.remove(NAME).unwrap();
    }
}

#[test]
fn a_removal_whose_answer_was_lost_is_done() {
    let place = a_place(0);
    place.shaky.inner.write(NAME, b"x").unwrap();
    place.meets(&[Meets::LostAnswer(0)]);
    place.retrying.remove(NAME).unwrap();
    place.meets(&[]);
    assert!(matches!(place.retrying.remove(NAME), Err(StorageError::NotFound { .. })));
}

#[test]
fn a_listing_that_broke_off_tells_each_file_once() {
    let place = a_place(0);
    let mut written: Vec<Id> = (0..100u8).map(|number| Id::of(&[number])).collect();
    for id in &written {
        place.shaky.inner.write(Name::of(FileKind::Key, *id), b"key").unwrap();
    }
    place.meets(&[Meets::LostAnswer(30), Meets::Refusal, Meets::LostAnswer(70)]);
    let mut listed = list_all(&place.retrying, FileKind::Key).unwrap();
    listed.sort_unstable();
    written.sort_unstable();
    assert_eq!(listed.iter().map(|(id, _)| *id).collect::<Vec<_>>(), written);
    assert_eq!(place.calls(), 4);

    place.meets(&[]);
    let mut told = 0;
    let stopped = place.retrying.list(FileKind::Key, &mut |_, _| {
        told += 1;
        Err(StorageError::Unreachable { location: "told to stop".into(), cause: "x".into() })
    });
    assert!(stopped.unwrap_err().to_string().contains("told to stop"));
    assert_eq!((told, place.calls()), (1, 1), "what the caller says is not tried again");
}

#[test]
fn bytes_take_the_time_their_rate_gives_them() {
    let place = a_place(0);
    let rates = Rates { up: Some(1000), down: Some(500) };
    let clock = place.clock.clone();
    let inner = Arc::new(Folder::at(&place._parent.path().join("repository")));
    let paced = Throttled::by_clock(inner, rates, clock.clone());
    paced.write(NAME, &[7; 1000]).unwrap();
    assert_eq!(clock.now(), Duration::ZERO, "a second's worth is in the bucket");
    let mut pack = paced.create_pack().unwrap();
    for _ in 0..10 {
        pack.append(&[7; 300]).unwrap();
    }
    pack.commit(Id::of(b"pack")).unwrap();
    assert_eq!(clock.now().as_millis(), 3000);
    for _ in 0..3 {
        paced.read(NAME, 1000).unwrap();
        paced.read_range(NAME, 0, &mut [0; 500]).unwrap();
    }
    assert_eq!(clock.now().as_millis(), 3000 + 8000);
}
