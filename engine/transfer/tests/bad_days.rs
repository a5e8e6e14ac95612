//! Whatever fails, and whenever: a sentence with a remedy, a sound repository, and the next run
//! works.

mod place;

use engine_repository::FileKind;
use engine_storage::testing::{Fault, Faulty};
use engine_storage::{Name, StorageError};
use engine_transfer::{Cancel, TransferError, backup, readable_snapshots, snapshots};
use place::{Place, back_up, check_all, request, restore_latest};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

/// Enough for any backup of the small source: locks, a pack of each kind, an index, a snapshot.
const CHANGES_MAX: usize = 200;

fn fails_at_every_step(
    make: impl Fn(usize) -> Fault,
    is_expected: impl Fn(&TransferError) -> bool,
) {
    let place = Place::new();
    let source = place.source();
    let folder = place.folder();
    place.init();
    let mut failed = 0;
    for step in 0..CHANGES_MAX {
        let faulty = Arc::new(Faulty::around(folder.clone()));
        let repository = place.open_on(faulty.clone());
        fs::write(source.join("changing"), place::noise(700_000, step as u64)).unwrap();
        faulty.inject(make(step));
        let before = snapshots(&repository).map_or(0, |all| all.len());
        let ended = backup(&repository, &request(&source), &|_| {}, &Cancel::new());
        faulty.heal();
        let report = check_all(&repository);
        assert!(report.is_sound(), "step {step}: {:?}", report.findings);
        match ended {
            // The last steps only tidy up: that failing is no failure.
            Ok(_) if step > 5 => break,
            Ok(_) => {}
            Err(error) => {
                failed += 1;
                assert!(is_expected(&error), "step {step}: {error:?}");
                assert!(error.remedy().len() > 20, "step {step}: {error}");
                assert_eq!(snapshots(&repository).unwrap().len(), before, "step {step}");
            }
        }
    }
    assert!(failed >= 8, "only {failed} steps failed");
    // Locks could not be removed everywhere, which is what `unlock` is for.
    place.restic_must(&["unlock", "--remove-all"]);
    place.restic_must(&["check", "--read-data"]);
    let repository = place.open_on(folder);
    back_up(&repository, &source);
    let target = place.path("target");
    assert_eq!(restore_latest(&repository, &target).problems_total, 0);
}

#[test]
fn a_destination_that_is_full_from_any_step_on() {
    fails_at_every_step(Fault::FullFrom, |error| {
        matches!(error, TransferError::Storage(StorageError::Full { .. }))
    });
}

#[test]
fn a_destination_that_is_gone_from_any_step_on() {
    fails_at_every_step(Fault::GoneFrom, |error| {
        matches!(error, TransferError::Storage(StorageError::Gone { .. }))
    });
}

#[test]
fn a_disk_that_fails_once_at_any_step() {
    fails_at_every_step(Fault::FailAt, |error| {
        matches!(error, TransferError::Storage(StorageError::Io { .. }))
    });
}

#[test]
fn a_flipped_bit_is_found_by_check_and_never_restored_as_if_it_were_right() {
    let place = Place::new();
    let source = place.source();
    back_up(&place.init(), &source);
    let faulty = Arc::new(Faulty::around(place.folder()));
    let repository = place.open_on(faulty.clone());
    faulty.inject(Fault::FlippedBit(FileKind::Pack));
    let report = check_all(&repository);
    assert!(report.damage_total > 0 && !report.is_sound());
    let snapshot = engine_transfer::find_snapshot(&repository, "latest").unwrap();
    let request =
        engine_transfer::RestoreRequest { target: place.path("target"), ..Default::default() };
    let restored =
        engine_transfer::restore(&repository, &snapshot, &request, &|_| {}, &Cancel::new());
    assert!(matches!(restored, Err(TransferError::Damaged { .. })), "{restored:?}");
}

#[test]
fn a_damaged_snapshot_keeps_no_backup_from_being_made_and_no_other_from_being_listed() {
    let place = Place::new();
    let source = place.source();
    let repository = place.init();
    let old = back_up(&repository, &source);
    let kept = back_up(&repository, &source);
    let file = place.path("repository/snapshots").join(old.snapshot.to_string());
    let mut bytes = fs::read(&file).unwrap();
    bytes[40] ^= 1;
    let mut permissions = fs::metadata(&file).unwrap().permissions();
    #[allow(clippy::permissions_set_readonly_false)] // It is made by us, and goes with the test.
    permissions.set_readonly(false);
    fs::set_permissions(&file, permissions).unwrap();
    fs::write(&file, bytes).unwrap();
    let next = back_up(&repository, &source);
    assert_eq!(next.parent, Some(kept.snapshot));
    let (listed, damage) = readable_snapshots(&repository).unwrap();
    let listed: Vec<_> = listed.iter().map(|snapshot| snapshot.id).collect();
    assert_eq!((listed, damage.len()), (vec![kept.snapshot, next.snapshot], 1));
    assert!(damage[0].to_string().contains(&old.snapshot.to_string()), "{}", damage[0]);
    // Which is the latest nobody knows, and what the damaged one needs neither.
    assert!(matches!(snapshots(&repository), Err(TransferError::Damaged { .. })));
}

#[test]
fn a_file_of_which_a_piece_is_lost_is_told_and_called_incomplete() {
    let place = Place::new();
    let source = place.source();
    let repository = place.init();
    back_up(&repository, &source);
    // Larger than any chunk, so that what it begins with is in a chunk that stays as it is.
    let bytes = place::noise(10 << 20, 5);
    fs::write(source.join("later"), &bytes[..9 << 20]).unwrap();
    back_up(&repository, &source);
    let storage = place.folder();
    let packs = || engine_storage::list_all(storage.as_ref(), FileKind::Pack).unwrap();
    let before = packs();
    fs::write(source.join("later"), &bytes).unwrap();
    back_up(&repository, &source);
    // The packs of the last run hold nothing but what was appended, and its trees.
    let is_of_later =
        |(id, bytes): &(_, u64)| *bytes > 100_000 && before.iter().all(|(other, _)| other != id);
    let (lost, _) = packs().into_iter().find(is_of_later).unwrap();
    storage.remove(Name::of(FileKind::Pack, lost)).unwrap();
    let report = check_all(&repository);
    assert!(report.findings.iter().any(|found| found.fact.contains(&lost.to_string())));
    let target = place.path("target");
    let older = place.restored(&target, "later");
    fs::create_dir_all(older.parent().unwrap()).unwrap();
    fs::write(&older, "the owner's older file").unwrap();
    let outcome = restore_latest(&repository, &target);
    assert!(outcome.problems.iter().all(|problem| problem.path.ends_with("later")));
    assert!(outcome.problems_total >= 1, "{outcome:?}");
    assert_eq!(fs::read_to_string(&older).unwrap(), "the owner's older file");
    assert!(place.restored(&target, "later.incomplete").exists());
    assert!(
        fs::read(place.restored(&target, "folder/noise")).unwrap()
            == fs::read(source.join("folder/noise")).unwrap()
    );
}

#[test]
fn a_restore_never_follows_a_link_out_of_its_target() {
    let place = Place::new();
    let source = place.source();
    let repository = place.init();
    back_up(&repository, &source);
    let (target, outside) = (place.path("target"), place.path("outside"));
    fs::create_dir_all(&outside).unwrap();
    fs::write(outside.join("text"), "mine").unwrap();
    fs::write(outside.join("victim"), "mine").unwrap();
    // Where a folder should go is a link to somewhere else; where a file should, a link to a file.
    fs::create_dir_all(place.restored(&target, "")).unwrap();
    symlink(&outside, place.restored(&target, "folder")).unwrap();
    symlink(outside.join("victim"), place.restored(&target, "empty")).unwrap();
    let outcome = restore_latest(&repository, &target);
    assert_eq!(outcome.problems_total, 0, "{:?}", outcome.problems);
    assert_eq!(outcome.replaced, 2, "both links gave way");
    assert_eq!(names(&outside), ["text", "victim"]);
    assert_eq!(fs::read_to_string(outside.join("text")).unwrap(), "mine");
    assert_eq!(fs::read_to_string(outside.join("victim")).unwrap(), "mine");
    let empty = fs::symlink_metadata(place.restored(&target, "empty")).unwrap();
    assert!(empty.is_file() && empty.len() == 0, "the file took the link's place");
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
