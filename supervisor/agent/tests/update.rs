//! `update check`: a real depot on loopback, believed, doubted and caught going back.

mod town;
mod world;

use std::path::{Path, PathBuf};
use std::process::Command;
use supervisor_trust::UnixSeconds;
use tests_support::put_program;
use town::{Served, init, init_at, now};
use world::{GOOD, Nas};

struct Town {
    nas: Nas,
    depot: PathBuf,
}

impl Town {
    fn with_an_empty_depot() -> Self {
        let nas = Nas::with(GOOD);
        let depot_root = nas.path("depot");
        init(&depot_root, 1);
        Self { nas, depot: depot_root }
    }

    fn trusts(&self, depot_root: &Path) {
        let root = supervisor_depot::keys(depot_root, now()).unwrap().root_json;
        std::fs::write(self.nas.target().join("conf/depot.pub"), root).unwrap();
    }

    fn check(&self, url: &str) -> String {
        let answer = self.nas.run(&["update", "check", "--depot", url]);
        // Nothing is on these shelves, so even a depot that is believed has nothing to offer.
        assert_eq!(answer.code, 1, "{}", answer.said);
        answer.said
    }
}

#[test]
fn an_honest_depot_is_believed_and_another_ones_key_is_not() {
    let town = Town::with_an_empty_depot();
    let served = Served::from(&town.depot);
    let other = town.nas.path("other");
    init(&other, 2);
    town.trusts(&other);
    let said = town.check(&served.url);
    assert!(said.contains("the depot is not believed"), "{said}");
    assert!(!town.nas.var().join("trust/timestamp.json").exists());
    town.trusts(&town.depot);
    let said = town.check(&served.url);
    assert!(said.contains("no sleepy, nor anything else: its shelves are empty"), "{said}");
    assert!(town.nas.var().join("trust/timestamp.json").exists());
}

#[test]
fn a_depot_that_goes_back_to_something_older_is_caught() {
    let town = Town::with_an_empty_depot();
    town.trusts(&town.depot);
    let old = town.nas.path("old");
    let copied = Command::new("cp").arg("-a").args([&town.depot, &old]).status().unwrap();
    assert!(copied.success());
    supervisor_depot::renew(&town.depot, now()).unwrap();
    let served = Served::from(&town.depot);
    town.check(&served.url);
    let kept = std::fs::read(town.nas.var().join("trust/timestamp.json")).unwrap();
    let went_back = Served::from(&old);
    let said = town.check(&went_back.url);
    assert!(said.contains("the depot is not believed"), "{said}");
    let still = std::fs::read(town.nas.var().join("trust/timestamp.json")).unwrap();
    assert_eq!(kept, still);
}

#[test]
fn a_depot_that_has_expired_stops_updates_and_never_the_engine() {
    let nas = Nas::with(GOOD);
    let depot = nas.path("depot");
    let a_month_ago = UnixSeconds::new(now().seconds() - 30 * 86_400);
    init_at(&depot, 1, a_month_ago);
    let town = Town { nas, depot };
    town.trusts(&town.depot);
    let served = Served::from(&town.depot);
    town.nas.start();
    let running = town.nas.daemon_processes();
    let said = town.check(&served.url);
    assert!(said.contains("metadata expired on"), "{said}");
    assert!(said.contains("Nothing stops working; only updates wait"), "{said}");
    // The engine runs on, and starts again as it always did.
    assert_eq!(town.nas.daemon_processes(), running);
    town.nas.expect_code("status", 0);
    town.nas.expect_code("stop", 0);
    town.nas.start();
    town.nas.expect_code("status", 0);
    // And once somebody renews the depot, updates go on.
    supervisor_depot::renew(&town.depot, now()).unwrap();
    let said = town.check(&served.url);
    assert!(!said.contains("expired") && said.contains("signed list has no"), "{said}");
    town.nas.expect_code("stop", 0);
}

#[test]
fn attack_25_a_second_check_at_once_says_so_and_changes_nothing() {
    let town = Town::with_an_empty_depot();
    town.trusts(&town.depot);
    let served = Served::from(&town.depot);
    town.check(&served.url);
    let lock = std::fs::File::open(town.nas.var().join("trust/lock")).unwrap();
    lock.lock().unwrap();
    let answer = town.nas.run(&["update", "check", "--depot", &served.url]);
    assert_eq!(answer.code, 11, "{}", answer.said);
    assert!(answer.said.contains("another check for updates is running"), "{}", answer.said);
    // Closed only, it would be held on by what another test of this process is just starting.
    lock.unlock().unwrap();
    town.check(&served.url);
}

#[test]
fn no_depot_no_root_and_no_answer_are_three_different_sentences() {
    let town = Town::with_an_empty_depot();
    let answer = town.nas.run(&["update", "check"]);
    assert_eq!(answer.code, 2);
    assert!(answer.said.contains("name it: update check --depot"), "{}", answer.said);
    let said = town.check("http://127.0.0.1:9");
    assert!(said.contains("root of trust") && said.contains("--root-key"), "{said}");
    town.trusts(&town.depot);
    let said = town.check("http://127.0.0.1:9");
    assert!(said.contains("cannot fetch http://127.0.0.1:9/metadata/"), "{said}");
}

#[test]
fn without_the_depots_program_a_keeper_is_told_which_one_to_put_where() {
    let folder = tempfile::tempdir().unwrap();
    let alone = folder.path().join("holdfast-supervisor");
    put_program(&alone, &std::fs::read(env!("CARGO_BIN_EXE_holdfast-supervisor")).unwrap());
    let depot = |path: &Path| {
        let mut command = Command::new(&alone);
        command.args(["depot", "list", "--root", "shelves"]).env("PATH", path);
        command.output().unwrap()
    };
    let nothing = depot(Path::new("/nonexistent"));
    let said = String::from_utf8(nothing.stderr).unwrap();
    assert_eq!(nothing.status.code(), Some(1), "{said}");
    assert!(said.contains("what to do:") && said.contains("holdfast-depot"), "{said}");
    let elsewhere = folder.path().join("bin");
    std::fs::create_dir(&elsewhere).unwrap();
    let script = elsewhere.join("holdfast-depot");
    put_program(&script, b"#!/bin/sh\necho \"$*\"\nexit 7\n");
    let handed_over = depot(&elsewhere);
    assert_eq!(handed_over.status.code(), Some(7));
    assert_eq!(String::from_utf8(handed_over.stdout).unwrap(), "list --root shelves\n");
}
