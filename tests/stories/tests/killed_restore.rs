//! A restore that is killed leaves no file that could be taken for the whole one.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tests_support::{TempHome, compare, run, tree};

const MIB: u64 = 1 << 20;

/// So many files an ordinary tree has.
const FILES: usize = 46;

/// Each round is killed a little later than the one before.
const ROUNDS: u64 = 12;

/// Files of the source, whole or not there at all below `restored`; how many are whole.
fn whole_or_absent(source: &Path, restored: &Path) -> usize {
    let mut whole = 0;
    let mut waiting = vec![source.to_path_buf()];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder).expect("the source").flatten() {
            let path = entry.path();
            let kind = entry.file_type().expect("a kind");
            let there = restored.join(path.strip_prefix(source).expect("below the source"));
            if kind.is_dir() {
                waiting.push(path);
            } else if kind.is_file() && there.exists() {
                let is_same = fs::read(&there).expect("it reads") == fs::read(&path).expect("too");
                assert!(is_same, "{} has its name and not its content", there.display());
                whole += 1;
            }
        }
    }
    whole
}

#[test]
fn killed_at_any_moment_and_finished_by_the_next_restore() {
    let home = TempHome::new();
    let source = home.source();
    tree::ordinary(&source, 48 * MIB);
    run(&mut home.holdfast(&["init"])).must_succeed();
    run(home.holdfast(&["backup"]).arg(&source)).must_succeed();
    let below = source.strip_prefix("/").expect("an absolute path");
    let target = |round: u64| home.path().join(format!("target {round}"));
    let mut cut_short = 0;
    for round in 1..=ROUNDS {
        let mut restore = home.holdfast(&["restore", "latest", "--target"]);
        let restore = restore.arg(target(round)).stdout(Stdio::null()).stderr(Stdio::null());
        let mut restore = restore.spawn().unwrap();
        let restored = target(round).join(below).join("photos");
        while !restored.exists() && restore.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
        std::thread::sleep(Duration::from_millis(4 * (round - 1)));
        restore.kill().unwrap();
        let was_cut_short = !restore.wait().unwrap().success();
        let whole = whole_or_absent(&source, &target(round).join(below));
        cut_short += usize::from(was_cut_short && whole < FILES);
    }
    assert!(cut_short > 0, "no restore was killed in the middle");

    let target = target(1);
    run(home.holdfast(&["restore", "latest", "--verify", "--target"]).arg(&target)).must_succeed();
    let files = whole_or_absent(&source, &target.join(below));
    assert_eq!(files, FILES);
    let fresh = home.path().join("fresh");
    run(home.holdfast(&["restore", "latest", "--verify", "--target"]).arg(&fresh)).must_succeed();
    compare::trees(&source, &fresh.join(below)).expect("both are there").must_be_equal();
}
