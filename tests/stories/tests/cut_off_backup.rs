//! A first backup that is cut off: killed, or stopped in order. The next run goes on.

use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;
use tests_support::tree::Tree;
use tests_support::{TempHome, compare, run};

const MIB: u64 = 1 << 20;
/// What a pack is filled up to.
const PACK_BYTES: u64 = 16 * MIB;
/// Pieces of the same file are spread between two packs, so what was read of one is read again
/// from the first piece on that is in an open pack; it is not stored again.
const SPREAD_BYTES: u64 = PACK_BYTES / 2;
/// How fast a backup is that is to be cut off.
const KIB_PER_SECOND: &str = "25000";
/// How often a backup is stopped until the destination answers in time.
const STOPS_MAX: usize = 10;
/// Everything in the source.
const FILES: u64 = 12 * 10 + 300 + 1;

/// 150 MB: photos in folders, small texts, and a video of a third of it all.
fn source(home: &TempHome) -> &Path {
    let tree = Tree::at(home.source());
    for folder in 0..12u64 {
        for photo in 0..10u64 {
            let (name, seed) = (format!("album {folder}/photo {photo}"), folder * 100 + photo);
            tree.noise(name, 600_000 + seed * 300, seed + 1);
        }
    }
    tree.noise("film", 50 * MIB, 7777);
    tree.many("letters", 300);
    home.path()
}

fn bytes_below(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let bytes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => bytes_below(&entry.path()),
        Ok(found) if entry.file_name().len() == 64 => found.len(),
        _ => 0,
    });
    bytes.sum()
}

/// Bytes of all packs that are stored.
fn stored(home: &TempHome) -> u64 {
    bytes_below(&home.repository().join("data"))
}

fn back_up(home: &TempHome) -> Value {
    let finished = run(home.holdfast(&["--json", "backup"]).arg(home.source())).must_succeed();
    let summary = finished.out.lines().last().expect("a summary");
    serde_json::from_str(summary).expect("JSON")
}

fn number(summary: &Value, key: &str) -> u64 {
    summary[key].as_u64().unwrap_or_else(|| panic!("no {key} in {summary}"))
}

/// Starts a backup and waits until so many bytes are stored. It is slow enough that what follows
/// meets it in the middle on a busy computer, too.
fn begun(home: &TempHome, bytes_stored: u64) -> Child {
    let mut backup = home.holdfast(&["--limit-upload", KIB_PER_SECOND, "backup"]);
    let backup = backup.arg(home.source()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut backup = backup.spawn().expect("it starts");
    while stored(home) < bytes_stored {
        assert!(backup.try_wait().expect("it is ours").is_none(), "it ended before it was cut off");
        std::thread::sleep(Duration::from_millis(5));
    }
    backup
}

fn signal(child: &Child, signal: nix::sys::signal::Signal) {
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::kill(pid, signal).expect("it is ours");
}

/// Kills a backup; how many bytes it had read by then.
fn kill(mut child: Child) -> u64 {
    // Standing still, it can be asked exactly.
    signal(&child, nix::sys::signal::Signal::SIGSTOP);
    let told = fs::read_to_string(format!("/proc/{}/io", child.id())).expect("Linux tells");
    let read = told.lines().find_map(|line| line.strip_prefix("rchar: ")).expect("a number");
    child.kill().expect("it is ours");
    child.wait().expect("it is ours");
    read.parse().expect("a number")
}

fn start_anew(home: &TempHome) {
    let _ = fs::remove_dir_all(home.repository());
    let _ = fs::remove_dir_all(home.join("home"));
    run(&mut home.holdfast(&["init"])).must_succeed();
}

fn snapshots(home: &TempHome) -> Vec<Value> {
    let listed = run(&mut home.restic(&["snapshots", "--json"])).must_succeed().json();
    listed.as_array().cloned().unwrap_or_default()
}

#[test]
fn killed_at_any_moment_it_repeats_a_twentieth_and_a_pack_of_each_kind_at_most() {
    let home = TempHome::new();
    source(&home);
    start_anew(&home);
    let clean = back_up(&home);
    let (all_bytes, clean_stored) = (number(&clean, "bytes_read"), stored(&home));
    for packs in [1, 3, 6] {
        start_anew(&home);
        let done = kill(begun(&home, packs * PACK_BYTES));
        let next = back_up(&home);
        assert_eq!(number(&next, "files_new") + number(&next, "files_unmodified"), FILES);
        let repeated = (done + number(&next, "bytes_read")).saturating_sub(all_bytes);
        let allowed = done / 20 + 2 * PACK_BYTES + SPREAD_BYTES;
        println!("killed after {packs} packs, {done} bytes read: {repeated} read again");
        assert!(repeated <= allowed, "{repeated} of {done} bytes were read again: {next}");
        let twice = stored(&home).saturating_sub(clean_stored);
        assert!(twice <= done / 20, "{twice} of {done} bytes were stored twice");
        run(&mut home.restic(&["check"])).must_succeed();
    }
    run(home.restic(&["restore", "latest", "--target"]).arg(home.restored())).must_succeed();
    let compared = compare::trees(&home.source(), &home.restored_source());
    compared.expect("both are there").must_be_equal();
}

#[test]
fn killed_again_and_again_it_is_done_in_the_sum_of_its_runs() {
    let home = TempHome::new();
    source(&home);
    start_anew(&home);
    let mut read = 0;
    for packs in [2, 4, 6] {
        read += kill(begun(&home, packs * PACK_BYTES));
    }
    let last = back_up(&home);
    let all_bytes = number(&last, "total_bytes_processed");
    read += number(&last, "bytes_read");
    assert!(read <= all_bytes + all_bytes / 20 + 3 * 2 * PACK_BYTES, "{read} of {all_bytes}");
    run(&mut home.restic(&["check", "--read-data"])).must_succeed();
}

/// Stops a backup; the snapshots it left. Where a disk takes almost a second for one call, the
/// backup does not wait for it and leaves none: that is no fault, and another one is stopped.
fn stopped_with_something_left(home: &TempHome) -> Vec<Value> {
    for _ in 0..STOPS_MAX {
        start_anew(home);
        let mut child = begun(home, 3 * PACK_BYTES);
        signal(&child, nix::sys::signal::Signal::SIGTERM);
        assert!(!child.wait().expect("it is ours").success());
        let left = snapshots(home);
        if !left.is_empty() {
            return left;
        }
    }
    panic!("it never leaves a checkpoint");
}

#[test]
fn stopped_in_order_it_leaves_a_checkpoint_that_restic_restores_and_the_next_backup_replaces() {
    let home = TempHome::new();
    source(&home);
    let left = stopped_with_something_left(&home);
    assert!(left.len() == 1 && left[0]["tags"][0] == "checkpoint", "{left:?}");
    run(home.restic(&["restore", "latest", "--verify", "--target"]).arg(home.restored()))
        .must_succeed();
    let photo = "album 0/photo 3";
    let restored = fs::read(home.restored_source().join(photo)).expect("it was finished");
    assert!(restored == fs::read(home.source().join(photo)).expect("it is there"));
    run(&mut home.restic(&["check", "--read-data"])).must_succeed();

    // The box was set up anew: all that is left is what the repository has.
    fs::remove_dir_all(home.join("home")).expect("it was there");
    let next = back_up(&home);
    let (read, all) = (number(&next, "bytes_read"), number(&next, "total_bytes_processed"));
    assert!(read < all - 2 * PACK_BYTES, "{read} of {all} bytes were read again");
    let left = snapshots(&home);
    assert!(left.len() == 1 && left[0]["tags"].is_null(), "{left:?}");
    run(&mut home.restic(&["check", "--read-data"])).must_succeed();
}
