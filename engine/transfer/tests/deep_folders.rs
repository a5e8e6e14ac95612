//! Folders in folders in folders: as many as a path can name come back, and more are told.

mod place;

use engine_transfer::{Cancel, RestoreRequest, SourceProblem, backup, find_snapshot, restore};
use nix::fcntl::{OFlag, openat};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, mkdirat};
use place::{Place, check_all, request};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The deepest folder of a path that ends in folders called `d`; they are made where they are not.
fn descend(top: &Path, folders: usize) -> OwnedFd {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut folder = OwnedFd::from(File::open(top).unwrap());
    for _ in 0..folders {
        let _ = mkdirat(&folder, "d", Mode::S_IRWXU);
        folder = openat(&folder, "d", flags, Mode::empty()).unwrap();
    }
    folder
}

fn write_below(top: &Path, folders: usize, text: &str) {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC;
    let file = openat(descend(top, folders), "file", flags, Mode::S_IRWXU).unwrap();
    File::from(file).write_all(text.as_bytes()).unwrap();
}

fn read_below(top: &Path, folders: usize) -> String {
    let file = openat(descend(top, folders), "file", OFlag::O_RDONLY, Mode::empty()).unwrap();
    let mut text = String::new();
    File::from(file).read_to_string(&mut text).unwrap();
    text
}

/// A source, and the number of folders it is in.
fn source(place: &Place) -> (PathBuf, usize) {
    let source = place.path("source");
    fs::create_dir(&source).unwrap();
    // Each folder on the way is held open; many systems allow 1024 unless they are asked.
    let (now, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, now.max(most.min(16_384)), most).unwrap();
    let folders = source.components().count() - 1;
    (source, folders)
}

/// As the system's own tool does it: deeper than a path can name.
fn remove(folder: &Path) {
    assert!(Command::new("rm").arg("-rf").arg(folder).status().unwrap().success());
}

#[test]
fn a_file_in_as_many_folders_as_a_path_can_name_comes_back_from_us_and_from_restic() {
    const FOLDERS: usize = 1900;
    let place = Place::new();
    let (source, _) = source(&place);
    write_below(&source, FOLDERS, "at the bottom");
    let repository = place.init().with_cache(&place.path("caches"));
    let back_up = || backup(&repository, &request(&source), &|_| {}, &Cancel::new()).unwrap();
    assert_eq!((back_up().files_new, back_up().files_unmodified), (1, 1));
    write_below(&source, FOLDERS, "changed");
    let changed = back_up();
    assert_eq!((changed.files_changed, changed.problems), (1, vec![]));
    check_all(&repository);
    let target = place.path("restored");
    let wanted = RestoreRequest { target: target.clone(), ..RestoreRequest::default() };
    let snapshot = find_snapshot(&repository, "latest").unwrap();
    let restored = restore(&repository, &snapshot, &wanted, &|_| {}, &Cancel::new()).unwrap();
    assert_eq!(restored.problems, []);
    let below = |target: &Path| target.join(source.strip_prefix("/").unwrap());
    assert_eq!(read_below(&below(&target), FOLDERS), "changed");
    let others = place.path("others");
    place.restic_must(&["check", "--read-data"]);
    place.restic_must(&["restore", "latest", "--target", others.to_str().unwrap()]);
    assert_eq!(read_below(&below(&others), FOLDERS), "changed");
    [source, target, others].iter().for_each(|folder| remove(folder));
}

#[test]
fn what_is_in_more_folders_than_a_path_can_name_is_told_and_all_above_it_is_saved() {
    let place = Place::new();
    let (source, folders_around) = source(&place);
    write_below(&source, 2100, "out of reach");
    write_below(&source, 2000, "in reach");
    let repository = place.init().with_cache(&place.path("caches"));
    for (files_new, files_unmodified) in [(1, 0), (0, 1)] {
        let outcome = backup(&repository, &request(&source), &|_| {}, &Cancel::new()).unwrap();
        let counts = (outcome.files_new, outcome.files_unmodified, outcome.problems_total);
        assert_eq!(counts, (files_new, files_unmodified, 1));
        let [SourceProblem { path, reason }] = &outcome.problems[..] else { panic!("one problem") };
        assert_eq!(path.components().count() - 2, 2048 + folders_around - 1, "{reason}");
        assert!(reason.contains("more than 2048 folders"), "{reason}");
    }
    check_all(&repository);
    remove(&source);
}
