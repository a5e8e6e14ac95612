//! Snapshots are copied into another repository as they are, each blob once, whoever made either.

mod place;

use engine_repository::FileKind;
use engine_storage::testing::{Fault, Faulty};
use engine_storage::{Folder, Storage, list_all};
use engine_transfer::{
    Cancel, CopyReport, CopyRequest, Event, InitRequest, Repository, TransferError, Version, copy,
    snapshots,
};
use place::{PASSWORD, Place, back_up, check_all, noise, plan, quick, restore_latest, who};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

/// More changes than any copy of the small repository makes.
const CHANGES_MAX: usize = 60;

fn folder(place: &Place) -> Arc<dyn Storage> {
    Arc::new(Folder::at(&place.path("other")))
}

fn other(place: &Place, request: &InitRequest) -> Repository {
    Repository::init_as(folder(place), PASSWORD, &who(), &plan(), request).unwrap()
}

fn copy_all(from: &Repository, to: &Repository) -> Result<CopyReport, TransferError> {
    copy(from, to, &CopyRequest::default(), &|_| {}, &Cancel::new())
}

/// Runs restic on the other repository.
#[track_caller]
fn restic_on_other(place: &Place, arguments: &[&str]) -> String {
    let output = Command::new("restic")
        .args(["--no-cache", "-r", place.path("other").to_str().unwrap()])
        .args(arguments)
        .env("RESTIC_PASSWORD", PASSWORD)
        .env("RESTIC_FROM_PASSWORD", PASSWORD)
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn two_backups(place: &Place, repository: &Repository) {
    let source = place.source();
    fs::write(source.join("large"), noise(9_000_000, 5)).unwrap();
    back_up(repository, &source);
    fs::write(source.join("later"), noise(700_000, 7)).unwrap();
    back_up(repository, &source);
}

#[track_caller]
fn must_be_alike(place: &Place, from: &Repository, to: &Repository) {
    let (theirs, ours) = (snapshots(from).unwrap(), snapshots(to).unwrap());
    assert_eq!(theirs.len(), ours.len());
    for (theirs, ours) in theirs.iter().zip(&ours) {
        assert_eq!(
            (theirs.tree, &theirs.paths, &theirs.tags),
            (ours.tree, &ours.paths, &ours.tags)
        );
        assert_eq!(ours.parent, None);
        let text = restic_on_other(place, &["cat", "snapshot", &ours.id.to_string()]);
        assert!(text.contains(&format!("\"original\": \"{}\"", theirs.id)), "{text}");
    }
    let report = check_all(to);
    assert!(report.is_sound() && report.findings_total == 0, "{:?}", report.findings);
    restic_on_other(place, &["check", "--read-data"]);
    let target = place.path("target");
    let _ = fs::remove_dir_all(&target);
    assert_eq!(restore_latest(to, &target).problems_total, 0);
}

#[test]
fn snapshots_are_copied_once_and_restic_sees_that_they_were() {
    let place = Place::new();
    let from = place.init();
    two_backups(&place, &from);
    let to = other(&place, &quick());
    let done = copy_all(&from, &to).unwrap();
    assert_eq!((done.copied.len(), done.skipped.len()), (2, 0));
    assert_eq!(done.blobs, check_all(&from).blobs);
    must_be_alike(&place, &from, &to);
    let again = copy_all(&from, &to).unwrap();
    assert_eq!((again.copied.len(), again.skipped.len(), again.blobs), (0, 2, 0));
    let first = place.path("repository");
    restic_on_other(&place, &["copy", "--from-repo", first.to_str().unwrap()]);
    assert_eq!(snapshots(&to).unwrap().len(), 2);
    // And back: they are there already.
    let back = copy_all(&to, &from).unwrap();
    assert_eq!((back.copied.len(), back.skipped.len()), (0, 2));
}

#[test]
fn what_restic_copied_is_not_copied_again_and_what_is_new_is() {
    let place = Place::new();
    let from = place.init();
    two_backups(&place, &from);
    let to = other(&place, &quick());
    let first = place.path("repository");
    restic_on_other(&place, &["copy", "--from-repo", first.to_str().unwrap()]);
    fs::write(place.path("source/newest"), "new").unwrap();
    back_up(&from, &place.path("source"));
    let done = copy_all(&from, &to).unwrap();
    assert_eq!((done.copied.len(), done.skipped.len()), (1, 2));
    must_be_alike(&place, &from, &to);
}

#[test]
fn between_versions_and_programs_each_byte_stays_and_compression_fits_the_version() {
    for (from_version, to_version) in [("1", Version::V2), ("2", Version::V1), ("1", Version::V1)] {
        let place = Place::new();
        let source = place.source();
        place.restic_must(&["init", "--repository-version", from_version]);
        place.restic_must(&["backup", source.to_str().unwrap()]);
        let from = place.open_on(place.folder());
        let to = other(&place, &InitRequest { version: to_version, ..quick() });
        copy_all(&from, &to).unwrap();
        must_be_alike(&place, &from, &to);
        let bytes = |storage: Arc<dyn Storage>| -> u64 {
            list_all(storage.as_ref(), FileKind::Pack).unwrap().iter().map(|(_, b)| b).sum()
        };
        let is_small = bytes(folder(&place)) < 3_500_000;
        assert_eq!(is_small, to_version == Version::V2, "{from_version} to {to_version:?}");
    }
}

#[test]
fn a_repository_that_cuts_like_the_first_finds_what_was_copied_and_others_do_not() {
    for is_alike in [true, false] {
        let place = Place::new();
        let from = place.init();
        two_backups(&place, &from);
        let cut_like = is_alike.then(|| from.clone());
        let to = other(&place, &InitRequest { cut_like, ..quick() });
        let notes = Mutex::new(0);
        let note = |event| {
            if let Event::Note(_) = event {
                *notes.lock().unwrap() += 1;
            }
        };
        copy(&from, &to, &CopyRequest::default(), &note, &Cancel::new()).unwrap();
        assert_eq!(*notes.lock().unwrap(), i32::from(!is_alike));
        let forced = engine_transfer::BackupRequest {
            parent: engine_transfer::ParentChoice::None,
            ..place::request(&place.path("source"))
        };
        let done = engine_transfer::backup(&to, &forced, &|_| {}, &Cancel::new()).unwrap();
        assert_eq!(done.data_blobs == 0, is_alike, "{done:?}");
        // It holds after the repository is opened anew, and for a third.
        let third = InitRequest { cut_like: Some(place.open_on(folder(&place))), ..cut(None) };
        let storage = Arc::new(Folder::at(&place.path("third")));
        let third = Repository::init_as(storage, PASSWORD, &who(), &plan(), &third).unwrap();
        let cuts = |repository: &Repository| {
            let request = engine_transfer::BackupRequest { ..forced.clone() };
            let done = engine_transfer::backup(repository, &request, &|_| {}, &Cancel::new());
            done.unwrap().data_blobs
        };
        copy_all(&to, &third).unwrap();
        assert_eq!(cuts(&third), 0);
        restic_on_other(&place, &["check"]);
    }
}

fn cut(cut_like: Option<Repository>) -> InitRequest {
    InitRequest { cut_like, ..quick() }
}

#[test]
fn restics_cuts_are_shared_with_restic() {
    let place = Place::new();
    let source = place.source();
    fs::write(source.join("large"), noise(9_000_000, 5)).unwrap();
    place.restic_must(&["init"]);
    place.restic_must(&["backup", source.to_str().unwrap()]);
    let from = place.open_on(place.folder());
    let to = other(&place, &cut(Some(from.clone())));
    copy_all(&from, &to).unwrap();
    let said = restic_on_other(&place, &["backup", "--json", "--force", source.to_str().unwrap()]);
    assert!(said.contains("\"data_blobs\":0"), "{said}");
}

#[test]
fn only_what_was_asked_for_is_copied() {
    let place = Place::new();
    let from = place.init();
    two_backups(&place, &from);
    let to = other(&place, &quick());
    let mut request = CopyRequest::default();
    request.filter.hosts.push("elsewhere".into());
    let none = copy(&from, &to, &request, &|_| {}, &Cancel::new()).unwrap();
    assert_eq!(none, CopyReport::default());
    request.snapshots.push("latest".into());
    let one = copy(&from, &to, &request, &|_| {}, &Cancel::new()).unwrap();
    assert_eq!(one.copied.len(), 1);
    let found = engine_transfer::stats(&to, &[], &Cancel::new()).unwrap();
    assert_eq!(found.blobs, check_all(&to).blobs, "nothing of the other snapshot is there");
}

#[test]
fn killed_after_any_change_the_next_copy_goes_on_and_no_snapshot_lacks_anything() {
    const SIDE_BY_SIDE: usize = 4;
    std::thread::scope(|scope| {
        for first in 0..SIDE_BY_SIDE {
            scope.spawn(move || killed_at((first..CHANGES_MAX).step_by(SIDE_BY_SIDE)));
        }
    });
}

fn killed_at(steps: impl Iterator<Item = usize>) {
    let place = Place::new();
    let from = place.init();
    two_backups(&place, &from);
    for step in steps {
        let _ = fs::remove_dir_all(place.path("other"));
        other(&place, &quick());
        let faulty = Arc::new(Faulty::around(folder(&place)));
        let to = place.open_on(faulty.clone());
        faulty.inject(Fault::GoneFrom(step));
        let ended = copy_all(&from, &to);
        let is_done = faulty.changes() <= step;
        assert!(ended.is_ok() || !is_done, "step {step}");
        faulty.heal();
        engine_transfer::unlock(&to, true).unwrap();
        let report = check_all(&to);
        assert!(report.is_sound(), "step {step}: {:?}", report.findings);
        let rest = copy_all(&from, &to).unwrap();
        assert_eq!(rest.copied.len() + rest.skipped.len(), 2);
        if is_done {
            must_be_alike(&place, &from, &to);
            return;
        }
    }
    unreachable!("it never ends");
}

#[test]
fn a_damaged_pack_stops_it_and_whoever_asks_it_to_stop_is_heard() {
    let place = Place::new();
    let from = place.init();
    two_backups(&place, &from);
    let to = other(&place, &quick());
    let faulty = Arc::new(Faulty::around(place.folder()));
    let spoilt = place.open_on(faulty.clone());
    faulty.inject(Fault::FlippedBit(FileKind::Pack));
    let refused = copy_all(&spoilt, &to).unwrap_err();
    assert!(matches!(refused, TransferError::Damaged { .. }), "{refused}");
    let cancel = Cancel::new();
    cancel.cancel();
    let stopped = copy(&from, &to, &CopyRequest::default(), &|_| {}, &cancel).unwrap_err();
    assert!(matches!(stopped, TransferError::Cancelled), "{stopped}");
    assert_eq!(snapshots(&to).unwrap(), []);
    assert!(is_unlocked(&place.path("other")) && is_unlocked(&place.path("repository")));
}

fn is_unlocked(repository: &Path) -> bool {
    fs::read_dir(repository.join("locks")).unwrap().count() == 0
}
