//! Restores over what is there, after what went wrong, and by what a person asks for.

mod place;

use engine_transfer::{
    Cancel, Event, ItemAction, Overwrite, Repository, RestoreOutcome, RestoreRequest,
    TransferError, find_snapshot, restore,
};
use place::counting::Counting;
use place::{Place, back_up, noise};
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

const MIB: usize = 1 << 20;

fn to(target: &Path) -> RestoreRequest {
    RestoreRequest { target: target.into(), ..Default::default() }
}

#[track_caller]
fn restored(repository: &Repository, request: &RestoreRequest) -> RestoreOutcome {
    let outcome = attempted(repository, request);
    assert_eq!(outcome.problems, [], "something went wrong");
    outcome
}

#[track_caller]
fn attempted(repository: &Repository, request: &RestoreRequest) -> RestoreOutcome {
    let snapshot = find_snapshot(repository, "latest").unwrap();
    restore(repository, &snapshot, request, &|_| {}, &Cancel::new()).unwrap()
}

/// Everything below a folder: its path, and what it is.
fn everything(folder: &Path) -> Vec<(PathBuf, String)> {
    let (mut found, mut waiting) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(next) = waiting.pop() {
        for entry in fs::read_dir(next).unwrap().flatten() {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            let what = if kind.is_dir() {
                waiting.push(path.clone());
                "folder".to_owned()
            } else if kind.is_symlink() {
                format!("to {}", fs::read_link(&path).unwrap().display())
            } else {
                engine_repository::Id::of(&fs::read(&path).unwrap()).to_string()
            };
            found.push((path.strip_prefix(folder).unwrap().to_owned(), what));
        }
    }
    found.sort();
    found
}

#[track_caller]
fn is_the_source(place: &Place, target: &Path) {
    assert_eq!(everything(&place.restored(target, "")), everything(&place.path("source")));
}

#[test]
fn of_a_large_file_that_is_almost_right_only_the_wrong_pieces_are_fetched_and_written() {
    let place = Place::new();
    let source = place.source();
    fs::write(source.join("disk image"), noise(24 * MIB, 7)).unwrap();
    let repository = place.init();
    back_up(&repository, &source);
    let target = place.path("target");
    let first = restored(&repository, &to(&target));
    assert!(first.bytes_written as usize >= 29 * MIB, "{first:?}");
    let image = place.restored(&target, "disk image");
    let before = fs::metadata(&image).unwrap();
    let file = fs::File::options().write(true).open(&image).unwrap();
    file.write_all_at(b"written over", 12 * MIB as u64).unwrap();
    file.write_all_at(b"and too long", 24 * MIB as u64).unwrap();
    let outcome = restored(&repository, &to(&target));
    is_the_source(&place, &target);
    assert_eq!((outcome.files, outcome.files_updated, outcome.files_unchanged), (1, 1, 3));
    assert!(outcome.bytes_written as usize <= 9 * MIB, "one piece: {outcome:?}");
    assert!(outcome.bytes_fetched as usize <= 9 * MIB, "one piece: {outcome:?}");
    assert_eq!(fs::metadata(&image).unwrap().ino(), before.ino(), "it was mended in its place");
    assert_eq!(fs::metadata(&image).unwrap().mtime(), before.mtime());
    assert_eq!(outcome.bytes_unchanged, first.bytes - 24 * MIB as u64);

    let changed = |name: &str| fs::metadata(place.restored(&target, name)).unwrap().ctime_nsec();
    let before = changed("folder/noise");
    let outcome = restored(&repository, &to(&target));
    assert_eq!((outcome.files, outcome.files_unchanged), (0, 4));
    assert_eq!((outcome.bytes_fetched, outcome.bytes_written), (0, 0));
    assert_eq!(changed("folder/noise"), before, "what is right is not touched");
}

#[test]
fn files_that_became_longer_or_shorter_are_right_again() {
    let place = Place::new();
    let source = place.source();
    for name in ["longer", "shorter", "none", "linked"] {
        fs::write(source.join(name), "as it was in the snapshot").unwrap();
    }
    let repository = place.init();
    back_up(&repository, &source);
    let target = place.path("target");
    restored(&repository, &to(&target));
    let at = |name| place.restored(&target, name);
    fs::write(at("longer"), "as it was in the snapshot, and more").unwrap();
    fs::write(at("shorter"), "as it was").unwrap();
    fs::write(at("none"), "").unwrap();
    fs::write(at("empty"), "not any more").unwrap();
    let noise = fs::read(at("folder/noise")).unwrap();
    fs::write(at("folder/noise"), [&noise[..], b"and more"].concat()).unwrap();
    fs::hard_link(at("folder/noise"), place.path("another name")).unwrap();
    fs::write(at("folder/text"), &fs::read(at("folder/text")).unwrap()[..2_000_000]).unwrap();
    let request = RestoreRequest { verify: true, ..to(&target) };
    let outcome = restored(&repository, &request);
    is_the_source(&place, &target);
    assert_eq!((outcome.files_updated, outcome.files_unchanged), (6, 1), "{outcome:?}");
}

#[test]
fn each_way_to_treat_what_is_there_does_what_restic_does() {
    use Overwrite::{Always, IfChanged, IfNewer, Never};
    let place = Place::new();
    let source = place.source();
    let names = ["older", "newer", "same time, same size", "missing"];
    for name in names {
        fs::write(source.join(name), "right").unwrap();
    }
    let repository = place.init();
    back_up(&repository, &source);
    for (overwrite, kept) in [
        (Always, [false, false, false]),
        (IfChanged, [false, false, true]),
        (IfNewer, [false, true, true]),
        (Never, [true, true, true]),
    ] {
        let target = place.path(&format!("{overwrite:?}"));
        restored(&repository, &to(&target));
        for (name, seconds) in [("older", -60), ("newer", 60), ("same time, same size", 0)] {
            let path = place.restored(&target, name);
            let right = fs::metadata(&path).unwrap().modified().unwrap();
            fs::write(&path, "wrong").unwrap();
            let time = match seconds < 0 {
                true => right - std::time::Duration::from_secs(60),
                false => right + std::time::Duration::from_secs(seconds as u64),
            };
            fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        }
        fs::remove_file(place.restored(&target, "missing")).unwrap();
        // What was left as it was is not compared; what was believed to be right would be.
        let verify = overwrite != IfChanged;
        let request = RestoreRequest { overwrite, verify, ..to(&target) };
        let outcome = restored(&repository, &request);
        for (name, is_kept) in names.iter().zip(kept) {
            let is = fs::read_to_string(place.restored(&target, name)).unwrap();
            assert_eq!(is, if is_kept { "wrong" } else { "right" }, "{overwrite:?}: {name}");
        }
        assert!(place.restored(&target, "missing").exists());
        let kept = kept.iter().filter(|is_kept| **is_kept).count() as u64;
        assert_eq!(outcome.files, 4 - kept, "{overwrite:?}");
        assert_eq!(outcome.files_unchanged, 3 + kept, "{overwrite:?}");
    }
}

#[test]
fn what_the_snapshot_has_not_is_deleted_where_that_was_asked_and_nowhere_else() {
    let place = Place::new();
    let source = place.source();
    let repository = place.init();
    back_up(&repository, &source);
    let (target, outside) = (place.path("target"), place.path("outside"));
    restored(&repository, &to(&target));
    fs::create_dir_all(&outside).unwrap();
    fs::write(outside.join("mine"), "mine").unwrap();
    let extra = |name: &str| place.restored(&target, name);
    fs::create_dir_all(extra("folder/more/and more")).unwrap();
    fs::write(extra("folder/more/and more/file"), "x").unwrap();
    fs::write(extra("extra"), "x").unwrap();
    symlink(&outside, extra("folder/a link")).unwrap();
    let before = everything(&target);

    let deleting = RestoreRequest { delete: true, ..to(&target) };
    let told = Mutex::new(Vec::new());
    let tell = |event| {
        if let Event::Restored { action: ItemAction::Deleted, path, .. } = event {
            told.lock().unwrap().push(path);
        }
    };
    let snapshot = find_snapshot(&repository, "latest").unwrap();
    let dry = RestoreRequest { dry_run: true, tells_items: true, ..deleting.clone() };
    let outcome = restore(&repository, &snapshot, &dry, &tell, &Cancel::new()).unwrap();
    assert_eq!((outcome.files_deleted, outcome.files, outcome.files_unchanged), (5, 0, 3));
    assert_eq!(told.lock().unwrap().len(), 5);
    assert_eq!(everything(&target), before, "it was only told");

    let includes = vec![source.join("folder").to_str().unwrap().to_owned()];
    let partly = RestoreRequest { includes, ..deleting.clone() };
    assert_eq!(restored(&repository, &partly).files_deleted, 4);
    assert!(extra("extra").exists(), "it is not in the folder that was named");
    assert_eq!(restored(&repository, &deleting).files_deleted, 1);
    is_the_source(&place, &target);
    assert_eq!(fs::read_to_string(outside.join("mine")).unwrap(), "mine");

    let everywhere = RestoreRequest { delete: true, ..to(Path::new("/tmp/..")) };
    let refused = restore(&repository, &snapshot, &everywhere, &|_| {}, &Cancel::new());
    assert!(matches!(refused, Err(TransferError::DeletesEverything)), "{refused:?}");
}

#[test]
fn a_restore_that_was_stopped_is_gone_on_with_and_fetches_nothing_twice() {
    let place = Place::new();
    let source = place.source();
    fs::write(source.join("large"), noise(32 * MIB, 3)).unwrap();
    fs::hard_link(source.join("large"), source.join("again")).unwrap();
    back_up(&place.init(), &source);
    let target = place.path("target");
    let stopped_at = |reads: usize| {
        let storage = Counting::around(place.folder());
        let cancel = Cancel::new();
        storage.cancel_at(reads, &cancel);
        let repository = place.open_on(storage.clone());
        let snapshot = find_snapshot(&repository, "latest").unwrap();
        let ended = restore(&repository, &snapshot, &to(&target), &|_| {}, &cancel);
        (ended, storage.take().0)
    };
    let whole = restored(&place.open_on(place.folder()), &to(&place.path("elsewhere")));
    let (ended, _) = stopped_at(11);
    assert!(matches!(ended, Err(TransferError::Cancelled)), "{ended:?}");
    for name in ["large", "again"] {
        assert!(!place.restored(&target, name).exists(), "{name} is not whole");
    }
    let written: u64 = unfinished(&place.restored(&target, ""))
        .iter()
        .map(|path| fs::metadata(path).unwrap().blocks() * 512)
        .sum();
    assert!(written > MIB as u64, "nothing was written when it was stopped");
    let outcome = restored(&place.open_on(place.folder()), &to(&target));
    is_the_source(&place, &target);
    assert!(outcome.bytes_fetched + written <= whole.bytes_fetched + MIB as u64, "{outcome:?}");
    assert_eq!(unfinished(&place.restored(&target, "")), Vec::<PathBuf>::new());
    let inode = |name| fs::metadata(place.restored(&target, name)).unwrap().ino();
    assert_eq!(inode("large"), inode("again"));
}

fn unfinished(folder: &Path) -> Vec<PathBuf> {
    let found = everything(folder).into_iter().map(|(path, _)| folder.join(path));
    found.filter(|path| path.to_string_lossy().contains(".incomplete")).collect()
}

/// Restores the newest snapshot until some MiB are there, and stops.
fn begin(place: &Place, target: &Path) -> PathBuf {
    let storage = Counting::around(place.folder());
    let cancel = Cancel::new();
    storage.cancel_at(11, &cancel);
    let repository = place.open_on(storage);
    let snapshot = find_snapshot(&repository, "latest").unwrap();
    restore(&repository, &snapshot, &to(target), &|_| {}, &cancel).unwrap_err();
    let left = unfinished(target);
    left.into_iter().find(|path| path.to_string_lossy().contains("large")).expect("a beginning")
}

#[test]
fn what_the_restore_of_another_snapshot_left_is_used_as_far_as_it_is_right() {
    let place = Place::new();
    let source = place.source();
    let mut content = noise(32 * MIB, 3);
    fs::write(source.join("large"), &content).unwrap();
    let repository = place.init();
    back_up(&repository, &source);
    let target = place.path("target");
    let left = begin(&place, &target);
    content[1000] ^= 1;
    fs::write(source.join("large"), &content).unwrap();
    fs::write(source.join("large.incomplete"), "the owner's own").unwrap();
    back_up(&repository, &source);
    let whole = restored(&repository, &to(&place.path("elsewhere")));
    // One wrong bit in what was left.
    let file = fs::File::options().read(true).write(true).open(&left).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 0).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 0).unwrap();
    let outcome = restored(&repository, &to(&target));
    is_the_source(&place, &target);
    assert!(outcome.bytes_fetched + 2 * MIB as u64 <= whole.bytes_fetched, "{outcome:?}");
}

#[test]
fn what_only_looks_like_a_beginning_of_ours_is_not_followed_nor_written_to() {
    let place = Place::new();
    let source = place.source();
    fs::write(source.join("large"), noise(32 * MIB, 3)).unwrap();
    back_up(&place.init(), &source);
    let target = place.path("target");
    let left = begin(&place, &target);
    let victim = place.path("victim");
    fs::write(&victim, noise(32 * MIB, 4)).unwrap();
    let before = fs::read(&victim).unwrap();
    for make in [fs::hard_link::<&Path, &Path>, |to, at| symlink(to, at)] {
        fs::remove_dir_all(&target).unwrap();
        fs::create_dir_all(left.parent().unwrap()).unwrap();
        make(&victim, &left).unwrap();
        restored(&place.open_on(place.folder()), &to(&target));
        is_the_source(&place, &target);
        assert!(fs::read(&victim).unwrap() == before, "the victim was written to");
    }
}

#[test]
fn a_file_with_other_names_is_replaced_and_those_names_keep_what_they_had() {
    let place = Place::new();
    let source = place.source();
    fs::write(source.join("large"), noise(20 * MIB, 3)).unwrap();
    let repository = place.init();
    back_up(&repository, &source);
    let target = place.path("target");
    restored(&repository, &to(&target));
    let (large, other) = (place.restored(&target, "large"), place.path("another name"));
    fs::File::options().write(true).open(&large).unwrap().write_all_at(b"x", 100).unwrap();
    fs::hard_link(&large, &other).unwrap();
    let before = fs::read(&other).unwrap();
    let outcome = restored(&repository, &to(&target));
    is_the_source(&place, &target);
    assert!(fs::read(&other).unwrap() == before, "another name of the file was changed");
    assert!(outcome.bytes_fetched as usize <= 9 * MIB, "the rest was copied: {outcome:?}");
}

#[test]
fn what_is_of_another_kind_gives_way_but_a_full_folder_only_when_deleting() {
    let place = Place::new();
    let source = place.source();
    symlink("empty", source.join("link")).unwrap();
    let repository = place.init();
    back_up(&repository, &source);
    let target = place.path("target");
    let at = |name| place.restored(&target, name);
    fs::create_dir_all(at("empty")).unwrap();
    fs::create_dir_all(at("link/with")).unwrap();
    fs::write(at("link/with/content"), "x").unwrap();
    fs::write(at("folder"), "no folder").unwrap();
    let outcome = attempted(&repository, &to(&target));
    assert_eq!(outcome.problems_total, 1, "{outcome:?}");
    assert!(outcome.problems[0].path.ends_with("link"), "{outcome:?}");
    assert!(outcome.problems[0].reason.contains("not empty"), "{outcome:?}");
    assert_eq!(outcome.replaced, 2);
    assert_eq!(fs::read_to_string(at("link/with/content")).unwrap(), "x");
    restored(&repository, &RestoreRequest { delete: true, ..to(&target) });
    is_the_source(&place, &target);
}

#[test]
fn nothing_is_changed_by_a_restore_that_only_tells_and_it_tells_what_would_be() {
    let place = Place::new();
    let source = place.source();
    let repository = place.init();
    back_up(&repository, &source);
    let target = place.path("target");
    let dry = RestoreRequest { dry_run: true, ..to(&target) };
    let told = restored(&repository, &dry);
    assert!(!target.exists());
    let done = restored(&repository, &to(&target));
    assert_eq!((told.files, told.dirs, told.bytes), (done.files, done.dirs, done.bytes));
    fs::write(place.restored(&target, "folder/text"), "changed").unwrap();
    let before = everything(&target);
    let told = restored(&repository, &dry);
    assert_eq!((told.files, told.files_updated, told.files_unchanged), (1, 1, 2));
    assert_eq!(everything(&target), before);
}

#[test]
fn many_small_files_are_fetched_with_few_reads() {
    let place = Place::new();
    let source = place.source();
    for number in 0..500 {
        fs::write(source.join(format!("file {number}")), noise(3000, number + 10)).unwrap();
    }
    // The same content once more, in the other order.
    for number in 0..500 {
        let from = source.join(format!("file {number}"));
        fs::copy(from, source.join(format!("x{:03}", 500 - number))).unwrap();
    }
    back_up(&place.init(), &source);
    let storage = Counting::around(place.folder());
    let repository = place.open_on(storage.clone());
    restored(&repository, &to(&place.path("target")));
    is_the_source(&place, &place.path("target"));
    let reads = storage.take().0;
    assert!(reads < 60, "{reads} reads for a thousand files");
}

#[test]
fn only_one_restore_at_a_time_writes_to_a_folder() {
    let place = Place::new();
    let source = place.source();
    let repository = place.init();
    back_up(&repository, &source);
    let target = place.path("target");
    fs::create_dir(&target).unwrap();
    let held = fs::File::open(&target).unwrap();
    held.lock().unwrap();
    let snapshot = find_snapshot(&repository, "latest").unwrap();
    let refused = restore(&repository, &snapshot, &to(&target), &|_| {}, &Cancel::new());
    assert!(matches!(refused, Err(TransferError::Target { .. })), "{refused:?}");
    held.unlock().unwrap();
    restored(&repository, &to(&target));
}

#[test]
fn who_wants_one_folder_of_many_waits_for_no_other() {
    let place = Place::new();
    let source = place.source();
    for number in 0..200 {
        let folder = source.join(format!("folder {number}/below"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("file"), format!("file {number}")).unwrap();
    }
    back_up(&place.init(), &source);
    let storage = Counting::around(place.folder());
    let repository = place.open_on(storage.clone());
    let target = place.path("target");
    let wanted = source.join("folder 77").to_str().unwrap().to_owned();
    let request = RestoreRequest { includes: vec![wanted], verify: true, ..to(&target) };
    let outcome = restored(&repository, &request);
    assert_eq!((outcome.files, outcome.files_verified), (1, 1), "{outcome:?}");
    let file = fs::read(place.restored(&target, "folder 77/below/file")).unwrap();
    assert_eq!(file, b"file 77");
    let reads = storage.take().0;
    assert!(reads < 100, "{reads} reads for one of two hundred folders");
}
