//! Blobs of no bytes, which no program of today writes, and the format allows: whoever has them in
//! an old repository can do everything with it.

use nix::unistd::{getegid, geteuid};
use std::fs;
use std::path::Path;
use tests_damaged::{Original, PASSWORD, Shape};
use tests_support::{TempHome, run};

fn a_repository_in(home: &TempHome, shape: Shape) -> Original {
    fs::write(home.password_file(), PASSWORD).unwrap();
    let original = Original::with_empty_blobs(geteuid().as_raw(), getegid().as_raw());
    original.write(&home.repository(), shape);
    original
}

#[track_caller]
fn ours(home: &TempHome, words: &[&str]) -> String {
    let done = run(home.holdfast(words).arg("--no-cache").current_dir(home.path()));
    assert_eq!(done.code, 0, "{words:?}: {}{}", done.out, done.err);
    done.out
}

#[track_caller]
fn restics(home: &TempHome, words: &[&str]) {
    let done = run(&mut home.restic(words));
    assert_eq!(done.code, 0, "{words:?}: {}{}", done.out, done.err);
}

fn comes_back_whole(home: &TempHome, original: &Original, target: &Path) {
    let words = ["restore", "latest", "--verify", "--target", target.to_str().unwrap()];
    ours(home, &words);
    assert_eq!(original.come_back(target).right, original.files().len());
}

#[test]
fn files_that_end_with_nothing_come_back_are_moved_and_copied_and_restic_agrees() {
    for version in [1, 2] {
        let home = TempHome::new();
        let original = a_repository_in(&home, Shape { version, ..Shape::default() });
        ours(&home, &["check", "--read-data"]);
        restics(&home, &["check", "--read-data"]);
        comes_back_whole(&home, &original, &home.join("first"));
        // Everything is moved, and the index made anew from the packs.
        ours(&home, &["prune", "--repack-small", "--repack-uncompressed", "--max-unused", "0"]);
        ours(&home, &["repair", "index", "--read-all-packs"]);
        ours(&home, &["check", "--read-data"]);
        restics(&home, &["check", "--read-data"]);
        comes_back_whole(&home, &original, &home.join("second"));
        // Into a repository of ours, which compresses.
        let other = TempHome::new();
        fs::write(other.password_file(), PASSWORD).unwrap();
        ours(&other, &["init"]);
        let (from, password) = (home.repository(), home.password_file());
        let from = ["--from-repo", from.to_str().unwrap()];
        let with = ["--from-password-file", password.to_str().unwrap()];
        ours(&other, &[&["copy"][..], &from, &with].concat());
        ours(&other, &["check", "--read-data"]);
        restics(&other, &["check", "--read-data"]);
        comes_back_whole(&other, &original, &other.join("third"));
    }
}
