//! What the engine writes is a repository that stock restic finds nothing wrong with.

mod place;

use engine_storage::testing::Faulty;
use engine_transfer::{Cancel, Repository, TransferError, backup};
use place::{PASSWORD, Place, back_up, check_all, plan, request, restore_latest, who};
use std::fs;
use std::sync::{Arc, Mutex};

/// At this change of the destination a backup is asked to stop: a few packs of it are stored.
const CHANGE_OF_STOP: usize = 45;
/// What is done then: some twenty pieces that were on their way, two packs put together, which
/// takes eight, trees, the ends of packs, index and checkpoint. Reading on would take 80.
const CHANGES_AFTER_STOP_MAX: usize = 55;
/// So often restic checks until it is seen to hold its lock.
const CHECKS_MAX: usize = 60;

#[test]
fn restic_finds_nothing_wrong_with_what_we_wrote_and_can_restore_it() {
    let place = Place::new();
    let source = place.source();
    let outcome = back_up(&place.init(), &source);
    assert_eq!((outcome.files_new, outcome.problems_total), (3, 0));
    place.restic_must(&["check", "--read-data"]);
    let target = place.path("target");
    place.restic_must(&["restore", "latest", "--verify", "--target", target.to_str().unwrap()]);
    for name in ["folder/text", "folder/noise", "empty"] {
        let restored = fs::read(place.restored(&target, name)).unwrap();
        assert!(restored == fs::read(source.join(name)).unwrap(), "{name}");
    }
}

#[test]
fn a_second_run_reads_no_file_and_adds_nothing() {
    let place = Place::new();
    let source = place.source();
    let repository = place.init();
    let first = back_up(&repository, &source);
    let second = back_up(&repository, &source);
    assert_eq!(second.parent, Some(first.snapshot));
    assert_eq!((second.files_unmodified, second.bytes_read), (3, 0));
    assert_eq!(second.data_blobs, 0);
    // The folder for temporary files is on the way to the source, and others use it, too.
    assert!(second.tree_blobs <= 1, "{second:?}");
}

#[test]
fn a_changed_file_is_read_again_and_only_what_is_new_in_it_stored() {
    let place = Place::new();
    let source = place.source();
    let repository = place.init();
    fs::write(source.join("large"), place::noise(20_000_000, 7)).unwrap();
    back_up(&repository, &source);
    let mut longer = place::noise(20_000_000, 7);
    longer.splice(9_000_000..9_000_000, *b"a few bytes more");
    fs::write(source.join("large"), &longer).unwrap();
    let second = back_up(&repository, &source);
    assert_eq!((second.files_changed, second.files_unmodified), (1, 3));
    assert!((1..=3).contains(&second.data_blobs), "{second:?}");
    let target = place.path("target");
    assert_eq!(restore_latest(&repository, &target).problems_total, 0);
    assert!(fs::read(place.restored(&target, "large")).unwrap() == longer);
}

#[test]
fn a_wrong_password_and_a_place_without_a_repository_are_told_apart() {
    let place = Place::new();
    let open = |password| Repository::open(place.folder(), password, &who(), &plan()).map(|_| ());
    assert!(matches!(open(PASSWORD), Err(TransferError::NoRepository { .. })));
    place.init();
    assert!(open(PASSWORD).is_ok());
    assert!(matches!(open("wrong"), Err(TransferError::WrongPassword { .. })));
    let again = Repository::init(place.folder(), PASSWORD, &who(), &plan()).map(|_| ());
    assert!(matches!(again, Err(TransferError::RepositoryExists { .. })));
}

#[test]
fn a_key_left_by_an_init_that_was_cut_off_does_not_stand_in_the_way() {
    let place = Place::new();
    place.init();
    fs::remove_file(place.path("repository/config")).unwrap();
    let repository = place.init();
    back_up(&repository, &place.source());
    assert_eq!(fs::read_dir(place.path("repository/keys")).unwrap().count(), 2);
    assert!(check_all(&place.open_on(place.folder())).is_sound());
}

#[test]
fn a_path_that_is_not_there_stops_the_backup_and_makes_no_snapshot() {
    let place = Place::new();
    let source = place.source();
    let repository = place.init();
    let mut wanted = request(&source);
    wanted.paths.push(place.path("disk that is not mounted"));
    let refused = backup(&repository, &wanted, &|_| {}, &Cancel::new()).unwrap_err();
    assert!(matches!(refused, TransferError::Source { .. }), "{refused}");
    assert_eq!(engine_transfer::snapshots(&repository).unwrap(), []);
}

#[test]
fn what_is_excluded_is_not_there_and_everything_else_is() {
    let place = Place::new();
    let source = place.source();
    let repository = place.init();
    fs::write(source.join("folder/a.tmp"), "x").unwrap();
    let mut wanted = request(&source);
    wanted.excludes = vec!["*.tmp".into(), format!("{}/empty", source.display())];
    backup(&repository, &wanted, &|_| {}, &Cancel::new()).unwrap();
    let listed = place.restic_must(&["ls", "latest"]);
    assert!(listed.contains("folder/text"), "{listed}");
    assert!(!listed.contains("a.tmp") && !listed.contains("/empty"), "{listed}");
}

#[test]
fn a_backup_that_is_cancelled_does_little_more_and_leaves_a_sound_repository() {
    let place = Place::new();
    let source = place.source();
    for number in 0..40 {
        fs::write(source.join(format!("{number}")), place::noise(3_000_000, number)).unwrap();
    }
    place.init();
    let cancel = Cancel::new();
    let asked = cancel.clone();
    let storage = Arc::new(Faulty::watched(place.folder(), move |change| {
        if change == CHANGE_OF_STOP {
            asked.cancel();
        }
    }));
    let repository = place.open_on(storage.clone());
    let ended = backup(&repository, &request(&source), &|_| {}, &cancel).unwrap_err();
    assert!(matches!(ended, TransferError::Cancelled), "{ended}");
    place.wait_until_unlocked();
    let more = storage.changes() - CHANGE_OF_STOP;
    assert!(more <= CHANGES_AFTER_STOP_MAX, "{more} changes were made after the stop");
    let left = engine_transfer::snapshots(&repository).unwrap();
    assert!(left.len() == 1 && left[0].is_checkpoint, "{left:?}");
    place.restic_must(&["check", "--read-data"]);
    // What was finished is not read again.
    let next = back_up(&place.open_on(place.folder()), &source);
    assert!(next.files_unmodified > 3 && next.bytes_read < next.bytes_total / 100 * 95, "{next:?}");
    assert_eq!(engine_transfer::snapshots(&repository).unwrap().len(), 1);
    place.restic_must(&["check", "--read-data"]);
}

#[test]
fn whoever_locks_the_repository_alone_keeps_others_out_and_is_named() {
    let place = Place::new();
    let source = place.source();
    let repository = place.init();
    back_up(&repository, &source);
    assert_eq!(locks(&place), [""; 0], "ours is gone");
    let (name, lock) = restics_exclusive_lock(&place);
    assert_eq!(locks(&place), [""; 0], "restic's is gone");
    fs::write(place.path("repository/locks").join(&name), lock).unwrap();
    let back_up_again = || backup(&repository, &request(&source), &|_| {}, &Cancel::new());
    let kept_out = back_up_again().unwrap_err();
    assert!(matches!(kept_out, TransferError::Locked { .. }), "{kept_out}");
    let message = format!("{kept_out}: {}", kept_out.remedy());
    assert!(message.contains("process") && message.contains("restic unlock"), "{message}");
    assert_eq!(locks(&place), [name], "nobody else's lock was touched, and ours is gone");
    place.restic_must(&["unlock", "--remove-all"]);
    back_up_again().unwrap();
}

#[test]
fn our_lock_keeps_restics_prune_out_and_not_its_backup() {
    let place = Arc::new(Place::new());
    let source = place.source();
    back_up(&place.init(), &source);
    fs::write(source.join("large"), place::noise(20_000_000, 9)).unwrap();
    let answers = Arc::new(Mutex::new(None));
    let (beside, told) = (place.clone(), answers.clone());
    let storage = Faulty::watched(place.folder(), move |change| {
        // The lock was the first change.
        if change == 2 {
            let prune = beside.restic(&["prune"]);
            let source = beside.path("source/folder");
            let backup = beside.restic(&["backup", source.to_str().unwrap()]);
            *told.lock().unwrap() = Some((prune, backup));
        }
    });
    back_up(&place.open_on(Arc::new(storage)), &source);
    let (prune, their_backup) = answers.lock().unwrap().take().expect("there were changes");
    let said = String::from_utf8_lossy(&prune.stderr).into_owned();
    assert!(!prune.status.success() && said.contains("already locked"), "{said}");
    assert!(their_backup.status.success(), "{their_backup:?}");
    place.restic_must(&["check", "--read-data"]);
}

fn locks(place: &Place) -> Vec<String> {
    let entries = fs::read_dir(place.path("repository/locks")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.len() == 64).collect()
}

/// The lock restic takes to check, which it wants to be alone for. It has it for a moment only, so
/// restic checks until it was seen.
fn restics_exclusive_lock(place: &Place) -> (String, Vec<u8>) {
    for _ in 0..CHECKS_MAX {
        let found = std::thread::scope(|scope| {
            let restic = scope.spawn(|| place.restic_must(&["check", "--read-data"]));
            let mut found = None;
            while found.is_none() && !restic.is_finished() {
                found = locks(place).into_iter().find_map(|name| {
                    let path = place.path("repository/locks").join(&name);
                    Some((name, fs::read(path).ok()?))
                });
            }
            restic.join().unwrap();
            found
        });
        if let Some(found) = found {
            return found;
        }
    }
    panic!("restic was never seen to take a lock");
}
