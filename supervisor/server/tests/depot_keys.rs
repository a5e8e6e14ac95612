//! `depot keys …` as its keeper types it: what is said, and the exit code a timer acts on.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A depot whose root key lies in a safe.
struct Keeper {
    folder: tempfile::TempDir,
}

/// The exit code and everything that was said.
struct Answer {
    code: i32,
    said: String,
}

impl Keeper {
    fn new() -> Self {
        let keeper = Self { folder: tempfile::tempdir().unwrap() };
        let depot = keeper.depot();
        assert_eq!(depot_command(&["init", "--root", depot.to_str().unwrap()]).code, 0);
        std::fs::create_dir(keeper.path("safe")).unwrap();
        std::fs::rename(depot.join("keys/root.key"), keeper.path("safe/root.key")).unwrap();
        keeper
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn depot(&self) -> PathBuf {
        self.path("depot")
    }

    fn keys(&self, arguments: &[&str]) -> Answer {
        let depot = self.depot();
        let mut all = vec!["keys"];
        all.extend(arguments);
        all.extend(["--root", depot.to_str().unwrap()]);
        depot_command(&all)
    }

    /// The same with every key of the safe, where new ones go too.
    fn keys_with_safe(&self, arguments: &[&str]) -> Answer {
        let mut all: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        all.extend(["--keys-to".to_owned(), text(&self.path("safe"))]);
        for key in std::fs::read_dir(self.path("safe")).unwrap() {
            all.extend(["--key".to_owned(), text(&key.unwrap().path())]);
        }
        self.keys(&all.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn depot_command(arguments: &[&str]) -> Answer {
    let output =
        Command::new(env!("CARGO_BIN_EXE_holdfast-depot")).args(arguments).output().unwrap();
    let mut said = String::from_utf8(output.stdout).unwrap();
    said.push_str(&String::from_utf8(output.stderr).unwrap());
    Answer { code: output.status.code().unwrap(), said }
}

#[test]
fn a_keeper_makes_the_root_two_of_three_rotates_it_and_the_year_stays_covered() {
    let keeper = Keeper::new();
    let answer = keeper.keys_with_safe(&["add", "root", "--count", "2", "--threshold", "2"]);
    assert_eq!(answer.code, 0, "{}", answer.said);
    assert!(keeper.keys(&["show"]).said.contains("2 of 3 must sign, key elsewhere"));
    let answer = keeper.keys_with_safe(&["rotate", "root"]);
    assert!(answer.said.starts_with("root 3 is in force"), "{}", answer.said);
    assert_eq!(answer.said.matches("retired").count(), 3, "{}", answer.said);
    let plan = keeper.keys(&["plan"]);
    assert_eq!(plan.code, 0);
    assert!(plan.said.contains("every hour from"), "{}", plan.said);
    for timer in [&["renew"][..], &["renew", "--check"]] {
        assert_eq!(keeper.keys(timer).code, 0);
    }
}

#[test]
fn without_the_roots_keys_nothing_changes_but_the_spare_root_needs_none() {
    let keeper = Keeper::new();
    let answer = keeper.keys(&["rotate", "timestamp"]);
    assert_eq!(answer.code, 1);
    assert!(answer.said.contains("the root key is not in"), "{}", answer.said);
    let answer = keeper.keys_with_safe(&["spare"]);
    assert!(answer.said.starts_with("root 2 is signed and laid by"), "{}", answer.said);
    std::fs::remove_dir_all(keeper.path("safe")).unwrap();
    let answer = keeper.keys(&["spare", "--publish"]);
    assert!(answer.said.contains("root 2, the spare one, is in force"), "{}", answer.said);
}

#[test]
fn a_gap_in_the_year_is_an_exit_code_and_a_removal_that_makes_one_is_refused() {
    let keeper = Keeper::new();
    let shown = keeper.keys(&["show"]).said;
    let timestamp = shown.lines().last().unwrap().trim().to_owned();
    let answer = keeper.keys_with_safe(&["remove", "timestamp", &timestamp[..12]]);
    assert_eq!(answer.code, 1);
    assert!(answer.said.contains("would leave a gap"), "{}", answer.said);
    assert!(answer.said.contains("depot keys add timestamp"), "{}", answer.said);
    // The ids, not the days left: one may have ended meanwhile.
    let ids = |said: &str| -> Vec<String> {
        let lines = said.lines().filter(|line| line.starts_with("    "));
        lines.filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()
    };
    assert!(ids(&shown).len() >= 4, "{shown}");
    assert_eq!(ids(&keeper.keys(&["show"]).said), ids(&shown));
    std::fs::remove_file(keeper.depot().join("keys/snapshot.key")).unwrap();
    let plan = keeper.keys(&["plan"]);
    assert_eq!(plan.code, 1);
    assert!(plan.said.contains("no snapshot signature is valid"), "{}", plan.said);
}
