//! Whose lock counts, and whose is abandoned: ours and stock restic on the same lock.
//!
//! Both know a lock for abandoned by the same signs: half an hour without a refresh, or a holder on
//! this computer that is dead. They differ in one thing, on purpose: restic then still refuses to
//! work, and removes the lock when somebody types `restic unlock`; ours removes it as soon as it
//! meets it, because on a NAS nobody types.

use serde_json::json;
use std::fs;
use std::process::Command;
use tests_damaged::{Original, PASSWORD, Shape};
use tests_support::{Finished, TempHome, run};

/// A lock, and who works beside it: ours and restic with a shared lock, then with an exclusive one;
/// whether `unlock` takes it for abandoned.
struct Case {
    /// How long ago it was refreshed, on which computer, by whom, of which kind.
    lock: (&'static str, bool, bool, bool),
    ours: [bool; 2],
    restic: [bool; 2],
    is_abandoned: bool,
}

const fn case(
    lock: (&'static str, bool, bool, bool),
    ours: [bool; 2],
    restic: [bool; 2],
    is_abandoned: bool,
) -> Case {
    Case { lock, ours, restic, is_abandoned }
}

const ALIVE: bool = true;
const DEAD: bool = false;
const HERE: bool = true;
const ELSEWHERE: bool = false;
const EXCLUSIVE: bool = true;
const SHARED: bool = false;

#[rustfmt::skip]
const CASES: [Case; 10] = [
    // age, where, holder, kind                          ours            restic    abandoned
    case(("1 minute ago", HERE, ALIVE, SHARED),          [true, false],  [true, false],  false),
    case(("1 minute ago", HERE, ALIVE, EXCLUSIVE),       [false, false], [false, false], false),
    case(("1 minute ago", HERE, DEAD, SHARED),           [true, true],   [true, false],  true),
    case(("1 minute ago", HERE, DEAD, EXCLUSIVE),        [true, true],   [false, false], true),
    case(("29 minutes ago", ELSEWHERE, DEAD, SHARED),    [true, false],  [true, false],  false),
    case(("29 minutes ago", ELSEWHERE, DEAD, EXCLUSIVE), [false, false], [false, false], false),
    case(("31 minutes ago", ELSEWHERE, DEAD, SHARED),    [true, true],   [true, false],  true),
    case(("31 minutes ago", ELSEWHERE, ALIVE, EXCLUSIVE), [true, true],  [false, false], true),
    case(("31 minutes ago", HERE, ALIVE, EXCLUSIVE),     [true, true],   [false, false], true),
    // A clock that went wrong: not abandoned, however long ago it really was.
    case(("2 hours", ELSEWHERE, DEAD, EXCLUSIVE),        [false, false], [false, false], false),
];

fn a_dead_pid() -> u32 {
    let mut child = Command::new("true").spawn().unwrap();
    let pid = child.id();
    child.wait().unwrap();
    pid
}

/// Somebody alive. Restic asks by SIGHUP, which must not end whom it asks.
struct Living(std::process::Child);

impl Living {
    fn new() -> Self {
        let mut command = Command::new("sh");
        let child = command.args(["-c", "trap '' HUP; exec sleep 900"]).spawn();
        Self(child.expect("a shell"))
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

struct Place {
    home: TempHome,
    original: Original,
    living: Living,
}

impl Place {
    fn new() -> Self {
        use nix::unistd::{getegid, geteuid};
        let home = TempHome::new();
        fs::write(home.password_file(), PASSWORD).unwrap();
        fs::write(home.source().join("file"), "something").unwrap();
        let original = Original::new(geteuid().as_raw(), getegid().as_raw());
        original.write(&home.repository(), Shape::default());
        Self { home, original, living: Living::new() }
    }

    /// Nothing but this lock is in the repository's `locks`.
    fn with_lock_of(&self, case: &Case) {
        let (age, is_here, is_alive, is_exclusive) = case.lock;
        let folder = self.home.repository().join("locks");
        fs::remove_dir_all(&folder).unwrap();
        fs::create_dir(&folder).unwrap();
        let here = nix::unistd::gethostname().unwrap().into_string().unwrap();
        let time = run(Command::new("date").args(["-u", "-d", age, "+%FT%TZ"]));
        let lock = json!({
            "time": time.must_succeed().out.trim(),
            "exclusive": is_exclusive,
            "hostname": if is_here { &here } else { "another box" },
            "username": "ann",
            "pid": if is_alive { self.living.0.id() } else { a_dead_pid() },
        });
        self.original.put_lock(&self.home.repository(), &lock);
    }

    fn locks(&self) -> usize {
        fs::read_dir(self.home.repository().join("locks")).unwrap().count()
    }

    fn works(&self, finished: &Finished) -> bool {
        let is_refused = finished.said().contains("locked");
        assert!(finished.code == 0 || is_refused, "{}", finished.said());
        finished.code == 0
    }
}

#[test]
fn both_know_the_same_locks_for_abandoned_and_ours_does_not_wait_to_be_told() {
    let place = Place::new();
    let source = place.home.source();
    let source = source.to_str().unwrap();
    let shared = ["backup", source];
    // An exclusive lock in both, and nothing to do.
    let exclusive = ["forget", "--keep-last", "99"];
    for case in CASES {
        let (age, is_here, is_alive, is_exclusive) = case.lock;
        let what = format!("{age}, here: {is_here}, alive: {is_alive}, exclusive: {is_exclusive}");
        let each = |run_one: &dyn Fn(&[&str]) -> Finished| {
            [&shared[..], &exclusive[..]].map(|words| {
                place.with_lock_of(&case);
                place.works(&run_one(words))
            })
        };
        let found = each(&|words| run(&mut place.home.holdfast(words)));
        assert_eq!(found, case.ours, "ours: {what}");
        let found = each(&|words| run(&mut place.home.restic(words)));
        assert_eq!(found, case.restic, "restic: {what}");
        place.with_lock_of(&case);
        run(&mut place.home.holdfast(&["unlock"])).must_succeed();
        assert_eq!(place.locks() == 0, case.is_abandoned, "ours, unlock: {what}");
        place.with_lock_of(&case);
        run(&mut place.home.restic(&["unlock"])).must_succeed();
        assert_eq!(place.locks() == 0, case.is_abandoned, "restic, unlock: {what}");
    }
}
