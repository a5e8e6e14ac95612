//! A restore that is killed leaves no file that could be taken for the whole one, and the next one
//! goes on where it stopped.

use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tests_support::{TempHome, compare, run, tree};

const MIB: u64 = 1 << 20;

/// So many files an ordinary tree has, and the other names of two.
const FILES: usize = 46 + 2;

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

/// Every file below a folder, each under its first name only.
fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    let mut waiting = vec![folder.to_path_buf()];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let kind = entry.file_type().expect("a kind");
            if kind.is_dir() {
                waiting.push(entry.path());
            } else if kind.is_file() && seen.insert(entry.ino()) {
                found.push(entry.path());
            }
        }
    }
    found
}

fn is_unfinished(path: &Path) -> bool {
    path.to_string_lossy().contains(".incomplete")
}

fn unfinished(folder: &Path) -> Vec<PathBuf> {
    files(folder).into_iter().filter(|path| is_unfinished(path)).collect()
}

/// Bytes of the files that are whole.
fn whole_bytes(folder: &Path) -> u64 {
    let whole = files(folder).into_iter().filter(|path| !is_unfinished(path));
    whole.map(|path| fs::metadata(path).expect("it is there").len()).sum()
}

/// A restore that takes a second or two: a busy computer, too, kills it before it is done.
fn slow_restore(home: &TempHome, target: &Path) -> Command {
    let mut restore =
        home.holdfast(&["--limit-download", "16000", "restore", "latest", "--target"]);
    restore.arg(target).stdout(Stdio::null()).stderr(Stdio::null());
    restore
}

/// A number of the summary.
fn number(said: &str, field: &str) -> u64 {
    let lines = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut summaries = lines.filter(|line| line["message_type"] == "summary");
    summaries.next().expect("a summary")[field].as_u64().expect("a number")
}

#[test]
fn killed_while_it_mends_a_large_file_and_finished_by_the_next_restore() {
    let home = TempHome::new();
    let source = home.source();
    tree::Tree::at(&source).noise("image", 24 * MIB, 1).file("notes", "n");
    run(&mut home.holdfast(&["init"])).must_succeed();
    run(home.holdfast(&["backup"]).arg(&source)).must_succeed();
    let mut restore = home.holdfast(&["restore", "latest", "--target"]);
    run(restore.arg(home.restored())).must_succeed();
    let image = home.restored_source().join("image");
    let right = fs::read(&image).unwrap();
    let mut older = right.clone();
    older.iter_mut().step_by(1 << 18).for_each(|byte| *byte ^= 1);
    let mut absent = 0;
    for round in 1..=ROUNDS / 2 {
        // The owner's older image is back, and a restore is to bring the newer one.
        unfinished(&home.restored()).iter().for_each(|path| fs::remove_file(path).unwrap());
        fs::write(&image, &older).unwrap();
        let mut restore = slow_restore(&home, &home.restored()).spawn().unwrap();
        while image.exists() && restore.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
        std::thread::sleep(Duration::from_millis(20 * (round - 1)));
        restore.kill().unwrap();
        restore.wait().unwrap();
        match fs::read(&image) {
            Ok(found) => assert!(found == right || found == older, "neither old nor new"),
            Err(_) => absent += 1,
        }
    }
    assert!(absent > 0, "no restore was killed in the middle");
    run(home.holdfast(&["restore", "latest", "--target"]).arg(home.restored())).must_succeed();
    assert!(fs::read(&image).unwrap() == right);
    assert_eq!(unfinished(&home.restored()), Vec::<PathBuf>::new());
}

#[test]
fn killed_at_any_moment_and_finished_by_the_next_restore() {
    let home = TempHome::new();
    let source = home.source();
    let tree = tree::ordinary(&source, 48 * MIB);
    let mut photos = files(&tree.path("photos"));
    photos.sort_by_key(|photo| std::cmp::Reverse(fs::metadata(photo).unwrap().len()));
    for (number, photo) in photos.iter().take(2).enumerate() {
        fs::hard_link(photo, tree.path(format!("album {number}"))).unwrap();
    }
    run(&mut home.holdfast(&["init"])).must_succeed();
    run(home.holdfast(&["backup"]).arg(&source)).must_succeed();
    let below = source.strip_prefix("/").expect("an absolute path");
    let target = |round: u64| home.path().join(format!("target {round}"));
    let mut cut_short = 0;
    for round in 1..=ROUNDS {
        let mut restore = slow_restore(&home, &target(round)).spawn().unwrap();
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

    for target in (1..=ROUNDS).map(target) {
        let whole_before = whole_bytes(&target.join(below));
        let mut again = home.holdfast(&["--json", "restore", "latest", "--verify", "--target"]);
        let said = run(again.arg(&target)).must_succeed().out;
        let files = whole_or_absent(&source, &target.join(below));
        assert_eq!(files, FILES);
        assert_eq!(unfinished(&target.join(below)), Vec::<PathBuf>::new());
        let written = number(&said, "bytes_written");
        let all = number(&said, "bytes_restored") + number(&said, "bytes_skipped");
        assert!(written + whole_before <= all, "{written} of {all} were written once more");
    }
    let fresh = home.path().join("fresh");
    run(home.holdfast(&["restore", "latest", "--verify", "--target"]).arg(&fresh)).must_succeed();
    compare::trees(&source, &fresh.join(below)).expect("both are there").must_be_equal();
}
