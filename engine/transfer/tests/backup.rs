//! What the engine writes is a repository that stock restic finds nothing wrong with.

mod place;

use engine_transfer::{Cancel, Event, Repository, TransferError, backup};
use place::{PASSWORD, Place, back_up, check_all, plan, request, restore_latest, who};
use std::fs;
use std::sync::Mutex;
use std::time::{Duration, Instant};

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
fn a_backup_that_is_cancelled_ends_within_a_second_and_leaves_a_sound_repository() {
    let place = Place::new();
    let source = place.source();
    for number in 0..40 {
        fs::write(source.join(format!("{number}")), place::noise(8_000_000, number)).unwrap();
    }
    let repository = place.init();
    let cancel = Cancel::new();
    let cancelled_at = Mutex::new(None);
    let events = |event| {
        if matches!(event, Event::Progress(ref progress) if progress.bytes_done > 50_000_000) {
            cancel.cancel();
            cancelled_at.lock().unwrap().get_or_insert(Instant::now());
        }
    };
    let ended = backup(&repository, &request(&source), &events, &cancel).unwrap_err();
    let took = cancelled_at.into_inner().unwrap().expect("it was cancelled").elapsed();
    assert!(matches!(ended, TransferError::Cancelled), "{ended}");
    assert!(took < Duration::from_secs(2), "it took {took:?} to stop");
    let left = engine_transfer::snapshots(&repository).unwrap();
    assert!(left.len() == 1 && left[0].is_checkpoint, "{left:?}");
    place.restic_must(&["check", "--read-data"]);
    // What was finished is not read again.
    let next = back_up(&repository, &source);
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
    let place = Place::new();
    let source = place.source();
    let repository = place.init();
    back_up(&repository, &source);
    fs::write(source.join("large"), place::noise(40_000_000, 9)).unwrap();
    let answers = Mutex::new(None);
    let events = |event| {
        let mut answers = answers.lock().unwrap();
        if matches!(event, Event::Progress(_)) && answers.is_none() {
            let prune = place.restic(&["prune"]);
            let backup = place.restic(&["backup", place.path("source/folder").to_str().unwrap()]);
            *answers = Some((prune, backup));
        }
    };
    backup(&repository, &request(&source), &events, &Cancel::new()).unwrap();
    let (prune, their_backup) = answers.into_inner().unwrap().expect("there was progress");
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

/// The lock restic takes to check, which it wants to be alone for.
fn restics_exclusive_lock(place: &Place) -> (String, Vec<u8>) {
    std::thread::scope(|scope| {
        let restic = scope.spawn(|| place.restic_must(&["check", "--read-data"]));
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < Duration::from_secs(60), "restic took no lock");
            for name in locks(place) {
                if let Ok(bytes) = fs::read(place.path("repository/locks").join(&name)) {
                    restic.join().unwrap();
                    return (name, bytes);
                }
            }
        }
    })
}
