//! Locks by clocks that are set by hand.

use super::*;
use crate::Who;
use engine_contract::memory::{MIB, MemoryPlan};
use engine_storage::testing::{Fault, Faulty};
use engine_storage::{Folder, Storage};

const HOUR_SECONDS: i64 = 3600;

/// Clocks that are set by hand.
struct Hands {
    now: Mutex<(Duration, Time)>,
    /// How often whoever refreshes by them looks.
    look_every: Duration,
    /// Whether anybody may wait by them.
    is_hurried: bool,
}

impl Hands {
    /// At the beginning of time; whoever refreshes by them hardly ever looks.
    fn at_rest() -> Self {
        let now = Mutex::new((Duration::ZERO, Time::utc(0, 0)));
        Self { now, look_every: Duration::from_secs(3600), is_hurried: false }
    }

    fn now_is(&self, passed_seconds: u64, wall_seconds: i64) {
        *lock(&self.now) = (Duration::from_secs(passed_seconds), Time::utc(wall_seconds, 0));
    }
}

impl Clocks for Hands {
    fn passed(&self) -> Duration {
        lock(&self.now).0
    }

    fn wall(&self) -> Time {
        lock(&self.now).1
    }

    fn sleep(&self, span: Duration) {
        assert!(!self.is_hurried, "it waited {span:?}");
    }

    fn until_next_look(&self) -> Duration {
        self.look_every
    }
}

struct Scene {
    hands: Arc<Hands>,
    storage: Arc<Faulty>,
    repository: Repository,
    held: HeldLock,
    _folder: tempfile::TempDir,
}

fn who() -> Who {
    let (hostname, username) = ("box".into(), "ann".into());
    Who { hostname, username, uid: 0, gid: 0, pid: std::process::id() }
}

fn plan() -> MemoryPlan {
    MemoryPlan::of(64 * MIB)
}

/// A lock that was just taken: both clocks show the same hour.
fn scene() -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("repository");
    let storage = Arc::new(Faulty::around(Arc::new(Folder::at(&place))));
    let repository = Repository::init(storage.clone(), "password", &who(), &plan()).unwrap();
    let hands = Arc::new(Hands::at_rest());
    hands.now_is(1000, 100 * HOUR_SECONDS);
    let held = HeldLock::acquire_by(hands.clone(), &repository, false).unwrap();
    Scene { hands, storage, repository, held, _folder: folder }
}

impl Scene {
    fn locks(&self) -> Vec<Id> {
        let locks = list_all(self.storage.as_ref(), FileKind::Lock).unwrap();
        locks.into_iter().map(|(id, _)| id).collect()
    }

    /// When the one lock there is was written, by the clock on the wall.
    fn written(&self) -> i64 {
        let [id] = self.locks()[..] else { panic!("not one lock: {:?}", self.locks()) };
        let found: Lock = self.repository.read_unpacked(FileKind::Lock, id).unwrap();
        found.time.seconds
    }

    fn somebody_removes_it(&self) {
        for id in self.locks() {
            self.storage.remove(Name::of(FileKind::Lock, id)).unwrap();
        }
    }

    fn is_lost(&self) -> bool {
        matches!(self.held.must_be_held(), Err(TransferError::LockLost { .. }))
    }
}

#[test]
fn a_lock_that_is_fresh_is_left_alone_and_an_old_one_replaced() {
    let scene = scene();
    let first = scene.locks();
    scene.hands.now_is(1000 + 299, 100 * HOUR_SECONDS + 299);
    scene.held.inner.renew().unwrap();
    assert_eq!(scene.locks(), first);
    scene.hands.now_is(1000 + 300, 100 * HOUR_SECONDS + 300);
    scene.held.inner.renew().unwrap();
    assert_eq!(scene.written(), 100 * HOUR_SECONDS + 300);
    assert!(!scene.is_lost());
}

#[test]
fn after_a_night_in_standby_a_lock_that_is_still_there_is_written_anew_before_the_next_write() {
    let scene = scene();
    // The clock that counts work stood still.
    scene.hands.now_is(1001, 108 * HOUR_SECONDS);
    assert!(!scene.is_lost());
    assert_eq!(scene.written(), 108 * HOUR_SECONDS);
}

#[test]
fn after_a_night_in_standby_a_lock_that_somebody_removed_is_lost_for_good() {
    let scene = scene();
    scene.hands.now_is(1001, 108 * HOUR_SECONDS);
    scene.somebody_removes_it();
    assert!(scene.is_lost());
    assert_eq!(scene.locks(), [], "nothing pretends that it was held all the time");
    scene.hands.now_is(1002, 100 * HOUR_SECONDS);
    assert!(scene.is_lost(), "and a clock that is set does not bring it back");
}

#[test]
fn a_clock_that_is_set_forward_or_back_makes_the_lock_be_written_anew() {
    let scene = scene();
    for hour in [490_000, 3, 100] {
        scene.hands.now_is(1001, hour * HOUR_SECONDS);
        assert!(!scene.is_lost());
        assert_eq!(scene.written(), hour * HOUR_SECONDS);
    }
}

#[test]
fn a_destination_that_does_not_answer_is_borne_for_22_minutes_and_no_longer() {
    let scene = scene();
    scene.storage.inject(Fault::GoneFrom(0));
    for (minutes, is_lost) in [(6, false), (22, false), (23, true)] {
        scene.hands.now_is(1000 + minutes * 60, 100 * HOUR_SECONDS + minutes as i64 * 60);
        let _ = scene.held.inner.renew();
        assert_eq!(scene.is_lost(), is_lost, "after {minutes} minutes");
    }
    // It is back, and so is our lock: nobody was there meanwhile.
    scene.storage.heal();
    assert!(!scene.is_lost());
    assert_eq!(scene.locks().len(), 1);
}

#[test]
fn a_lock_of_another_box_is_stale_by_the_clock_on_the_wall_and_not_before() {
    let scene = scene();
    let mut who = scene.repository.who().clone();
    who.hostname = "another".into();
    let plan = MemoryPlan::of(64 * MIB);
    let other = Repository::open(scene.storage.clone(), "password", &who, &plan).unwrap();
    let comes = |hands: &Arc<Hands>| HeldLock::acquire_by(hands.clone(), &other, true);
    for (seconds, is_kept_out) in [(-HOUR_SECONDS, true), (1800, true), (1801, false)] {
        let hands = Arc::new(Hands::at_rest());
        hands.now_is(0, 100 * HOUR_SECONDS + seconds);
        assert_eq!(comes(&hands).is_err(), is_kept_out, "{seconds} seconds later");
    }
    scene.hands.now_is(1001, 100 * HOUR_SECONDS + 1801);
    assert!(scene.is_lost(), "it was removed by the one who came");
}

/// At this change of the destination the backup is in the middle of a pack.
const CHANGE_AT_WORK: usize = 2;

#[test]
fn a_backup_of_an_hour_writes_its_lock_anew_all_the_time_and_keeps_prune_out_to_its_end() {
    let place = tempfile::tempdir().unwrap();
    let source = place.path().join("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("file"), "content".repeat(100_000)).unwrap();
    let folder: Arc<dyn Storage> = Arc::new(Folder::at(&place.path().join("repository")));
    let (username, pid) = (String::from("ann"), std::process::id());
    let who = Who { hostname: "box".into(), username, uid: 0, gid: 0, pid };
    let plan = MemoryPlan::of(64 * MIB);
    let direct = Repository::init(folder.clone(), "password", &who, &plan).unwrap();
    let (arrive, arrived) = channel();
    let (let_go, may_go) = channel::<()>();
    let gate = Mutex::new((arrive, may_go));
    let storage = Faulty::watched(folder, move |change| {
        if change == CHANGE_AT_WORK {
            let gate = lock(&gate);
            gate.0.send(()).unwrap();
            let _ = gate.1.recv();
        }
    });
    let clocks = Arc::new(Hands { look_every: Duration::from_millis(5), ..Hands::at_rest() });
    let tell = |seconds: u64| {
        clocks.now_is(1000 + seconds, 100 * HOUR_SECONDS + seconds as i64);
    };
    tell(0);
    let repository = Repository::open(Arc::new(storage), "password", &who, &plan).unwrap();
    let repository = repository.with_clocks(clocks.clone());
    let request = hour_long(&source);
    let backup = std::thread::spawn(move || {
        crate::backup(&repository, &request, &|_| {}, &crate::Cancel::new())
    });
    arrived.recv_timeout(Duration::from_secs(120)).unwrap();
    for refresh in 1..=12 {
        tell(refresh * REFRESH_SECONDS);
        wait_for_lock_of(&direct, clocks.wall().seconds);
    }
    let mut elsewhere = direct.who().clone();
    elsewhere.hostname = "another".into();
    let (storage, hands) = (direct.storage().clone(), clocks.clone());
    let other = Repository::open(storage, "password", &elsewhere, &plan).unwrap();
    let kept_out = HeldLock::acquire_by(hands, &other, true).map(drop);
    assert!(matches!(kept_out, Err(TransferError::Locked { .. })), "{kept_out:?}");
    let_go.send(()).unwrap();
    backup.join().unwrap().unwrap();
    let left = list_all(direct.storage().as_ref(), FileKind::Lock).unwrap();
    assert_eq!(left, [], "no lock stays behind");
}

fn hour_long(source: &std::path::Path) -> crate::BackupRequest {
    crate::BackupRequest {
        paths: vec![source.into()],
        excludes: Vec::new(),
        tags: Vec::new(),
        hostname: "box".into(),
        username: "ann".into(),
        time: jiff::Timestamp::now(),
        zone: jiff::tz::TimeZone::UTC,
        parent: crate::ParentChoice::None,
        checkpoint_interval: crate::CHECKPOINT_INTERVAL,
        program_version: "holdfast 0".into(),
    }
}

/// Waits until the lock is one that was written at `seconds`. There always is one.
fn wait_for_lock_of(repository: &Repository, seconds: i64) {
    let begun = Instant::now();
    loop {
        let mut times = Vec::new();
        let list = || list_all(repository.storage().as_ref(), FileKind::Lock).unwrap();
        let mut locks = list();
        if locks.is_empty() {
            // The old one went after the folder was opened, before the new one was seen in it.
            locks = list();
        }
        for (id, _) in &locks {
            match repository.read_unpacked::<Lock>(FileKind::Lock, *id) {
                Ok(lock) => times.push(lock.time.seconds),
                Err(TransferError::Storage(StorageError::NotFound { .. })) => {}
                Err(error) => panic!("{error}"),
            }
        }
        assert!(!locks.is_empty(), "the backup is without a lock");
        if times == [seconds] {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "{times:?}, and not {seconds}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn on_a_local_disk_nobody_waits_and_yet_no_two_have_the_repository_for_themselves() {
    let scene = scene();
    drop(scene.held);
    let place = scene._folder.path().join("repository");
    let repository = Repository::open(Arc::new(Folder::at(&place)), "password", &who(), &plan());
    let repository = repository.unwrap();
    let hurried = Arc::new(Hands { is_hurried: true, ..Hands::at_rest() });
    let inside = Mutex::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..25 {
                    let Ok(held) = HeldLock::acquire_by(hurried.clone(), &repository, true) else {
                        continue;
                    };
                    *lock(&inside) += 1;
                    std::thread::yield_now();
                    assert_eq!(*lock(&inside), 1, "two have it");
                    *lock(&inside) -= 1;
                    drop(held);
                }
            });
        }
    });
    HeldLock::acquire_by(hurried, &repository, true).unwrap();
}
