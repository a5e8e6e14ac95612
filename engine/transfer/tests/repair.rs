//! What can be saved is: an index from the packs, blobs out of damaged packs, snapshots without
//! what is lost; and whenever a repair is cut off, nothing is worse than before.

mod place;

use engine_repository::{BlobKind, FileKind, Id};
use engine_storage::list_all;
use engine_storage::testing::{Fault, Faulty};
use engine_transfer::testing::BlobIndex;
use engine_transfer::{
    Cancel, RepairIndexReport, RepairIndexRequest, RepairPacksReport, RepairPacksRequest,
    RepairSnapshotsReport, RepairSnapshotsRequest, Repository, TransferError, repair_index,
    repair_packs, repair_snapshots, snapshots, unlock,
};
use place::{Place, back_up, check_all, copy, noise, restore_latest};
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// More changes than any repair of the small repository makes.
const CHANGES_MAX: usize = 60;

fn index(repository: &Repository, read_all_packs: bool) -> RepairIndexReport {
    let request = RepairIndexRequest { read_all_packs };
    repair_index(repository, request, &|_| {}, &Cancel::new()).unwrap()
}

fn packs(place: &Place, repository: &Repository, packs: &[Id]) -> RepairPacksReport {
    try_packs(place, repository, packs).unwrap()
}

fn try_packs(
    place: &Place,
    repository: &Repository,
    packs: &[Id],
) -> Result<RepairPacksReport, TransferError> {
    let copies = place.path("copies");
    let _ = fs::remove_dir_all(&copies);
    fs::create_dir(&copies).unwrap();
    let request = RepairPacksRequest { packs: packs.to_vec(), copies };
    repair_packs(repository, &request, &|_| {}, &Cancel::new())
}

fn repair(repository: &Repository, forget: bool) -> RepairSnapshotsReport {
    let request = RepairSnapshotsRequest { forget, ..RepairSnapshotsRequest::default() };
    repair_snapshots(repository, &request, &|_| {}, &Cancel::new()).unwrap()
}

fn all(place: &Place, kind: FileKind) -> Vec<(Id, u64)> {
    list_all(place.folder().as_ref(), kind).unwrap()
}

fn path_of(place: &Place, kind: FileKind, id: Id) -> std::path::PathBuf {
    place.path("repository").join(kind.path(&id))
}

/// Writes over a file of the repository, which are all read-only.
fn spoil(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

/// The tree of a folder, as restic finds it.
fn tree_of(place: &Place, root: Id, path: &Path) -> Id {
    path.iter().skip(1).fold(root, |tree, name| {
        let json = place.restic_must(&["cat", "blob", &tree.to_string()]);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let nodes = json["nodes"].as_array().unwrap();
        let node = nodes.iter().find(|node| node["name"].as_str() == name.to_str()).unwrap();
        node["subtree"].as_str().unwrap().parse().unwrap()
    })
}

/// The largest pack: one of data.
fn largest_pack(place: &Place) -> Id {
    all(place, FileKind::Pack).into_iter().max_by_key(|(_, bytes)| *bytes).unwrap().0
}

/// The smallest pack: one of trees.
fn smallest_pack(place: &Place) -> Id {
    all(place, FileKind::Pack).into_iter().min_by_key(|(_, bytes)| *bytes).unwrap().0
}

#[track_caller]
fn must_be_whole(place: &Place, repository: &Repository) {
    let report = check_all(repository);
    assert!(report.is_sound() && report.findings_total == 0, "{:?}", report.findings);
    place.restic_must(&["check", "--read-data"]);
    let target = place.path("target");
    let _ = fs::remove_dir_all(&target);
    assert_eq!(restore_latest(repository, &target).problems_total, 0);
}

/// A repository of two backups, the second of which added some.
fn two_backups(place: &Place) -> Repository {
    let source = place.source();
    let repository = place.init();
    back_up(&repository, &source);
    fs::write(source.join("folder/later"), noise(700_000, 7)).unwrap();
    back_up(&repository, &source);
    repository
}

#[test]
fn an_index_that_was_lost_is_made_anew_from_the_packs() {
    let place = Place::new();
    let repository = two_backups(&place);
    let blobs = check_all(&repository).blobs;
    for (id, _) in all(&place, FileKind::Index) {
        fs::remove_file(path_of(&place, FileKind::Index, id)).unwrap();
    }
    assert!(!place.restic(&["check"]).status.success());
    let done = index(&repository, false);
    assert_eq!(done.packs_added, all(&place, FileKind::Pack).len() as u64);
    assert_eq!(check_all(&repository).blobs, blobs);
    must_be_whole(&place, &repository);
    // Nothing to do is nothing done.
    let files = all(&place, FileKind::Index);
    assert_eq!(index(&repository, false), RepairIndexReport::default());
    assert_eq!(all(&place, FileKind::Index), files);
    let all_read = index(&repository, true);
    assert_eq!(all_read.index_files_removed, files.len() as u64);
    must_be_whole(&place, &repository);
}

#[test]
fn an_index_file_that_cannot_be_read_goes_and_what_it_knew_is_found_again() {
    let changes: [fn(&mut Vec<u8>); 3] =
        [|bytes| bytes[40] ^= 1, |bytes| bytes.truncate(30), |bytes| bytes.clear()];
    for change in changes {
        let place = Place::new();
        let repository = two_backups(&place);
        let (spoilt, _) = all(&place, FileKind::Index)[0];
        spoil(&path_of(&place, FileKind::Index, spoilt), change);
        assert!(!place.restic(&["check"]).status.success());
        let done = index(&repository, false);
        assert_eq!((done.index_files_unreadable, done.index_files_removed), (1, 1), "{done:?}");
        assert!(done.packs_added >= 2 && done.packs_unreadable.is_empty(), "{done:?}");
        must_be_whole(&place, &repository);
    }
}

#[test]
fn packs_that_are_gone_or_cut_off_are_named_no_longer_as_restic_does() {
    for is_cut in [false, true] {
        let place = Place::new();
        let repository = two_backups(&place);
        let pack = path_of(&place, FileKind::Pack, largest_pack(&place));
        match is_cut {
            true => spoil(&pack, |bytes| bytes.truncate(bytes.len() - 100)),
            false => fs::remove_file(&pack).unwrap(),
        }
        copy(&place.path("repository"), &place.path("other"));
        let done = index(&repository, false);
        assert_eq!(done.packs_missing, u64::from(!is_cut));
        assert_eq!(done.packs_unreadable.len(), usize::from(is_cut));
        let ours = check_all(&repository);
        fs::rename(place.path("repository"), place.path("ours")).unwrap();
        fs::rename(place.path("other"), place.path("repository")).unwrap();
        place.restic_must(&["rebuild-index"]);
        let restics = check_all(&place.open_on(place.folder()));
        assert_eq!((ours.blobs, ours.damage_total), (restics.blobs, restics.damage_total));
    }
}

#[test]
fn a_pack_with_a_changed_byte_gives_what_is_still_good_and_is_kept_aside() {
    let place = Place::new();
    let repository = two_backups(&place);
    let blobs = check_all(&repository).blobs;
    let pack = largest_pack(&place);
    let path = path_of(&place, FileKind::Pack, pack);
    spoil(&path, |bytes| bytes[100] ^= 1);
    let spoilt = fs::read(&path).unwrap();
    let done = packs(&place, &repository, &[pack]);
    assert_eq!((done.packs, done.blobs_lost), (1, 1));
    assert!(done.blobs_saved > 1 && !path.exists(), "{done:?}");
    assert!(fs::read(place.path("copies").join(format!("pack-{pack}"))).unwrap() == spoilt);
    assert_eq!(check_all(&repository).blobs, blobs - 1);
    let repaired = repair(&repository, true);
    assert_eq!((repaired.snapshots, repaired.changed.len(), repaired.changes), (2, 2, 2));
    must_be_whole(&place, &repository);
    // The source still has it: a backup stores it again.
    assert_eq!(back_up(&repository, &place.path("source")).data_blobs, 1);
    must_be_whole(&place, &repository);
}

#[test]
fn a_pack_with_something_behind_it_or_cut_off_gives_all_that_is_in_it() {
    let changes: [fn(&mut Vec<u8>); 2] =
        [|bytes| bytes.extend_from_slice(b"more"), |bytes| bytes.truncate(bytes.len() - 10)];
    for change in changes {
        let place = Place::new();
        let repository = two_backups(&place);
        let pack = largest_pack(&place);
        spoil(&path_of(&place, FileKind::Pack, pack), change);
        assert!(!check_all(&repository).is_sound());
        let done = packs(&place, &repository, &[pack]);
        assert_eq!((done.packs, done.blobs_lost), (1, 0));
        must_be_whole(&place, &repository);
    }
}

#[test]
fn a_copy_that_is_there_already_is_not_written_over_and_a_pack_that_is_not_there_is_named() {
    let place = Place::new();
    let repository = two_backups(&place);
    let pack = largest_pack(&place);
    let copies = place.path("copies");
    fs::create_dir(&copies).unwrap();
    fs::write(copies.join(format!("pack-{pack}")), "mine").unwrap();
    let request = RepairPacksRequest { packs: vec![pack], copies: copies.clone() };
    let refused = repair_packs(&repository, &request, &|_| {}, &Cancel::new()).unwrap_err();
    assert!(matches!(refused, TransferError::Target { .. }), "{refused}");
    assert_eq!(fs::read(copies.join(format!("pack-{pack}"))).unwrap(), b"mine");
    let refused = try_packs(&place, &repository, &[Id::of(b"none")]).unwrap_err();
    assert!(matches!(refused, TransferError::Storage(_)), "{refused}");
    must_be_whole(&place, &repository);
}

#[test]
fn a_file_keeps_what_is_left_of_it_and_the_old_snapshot_stays_unless_it_is_to_go() {
    let place = Place::new();
    let repository = two_backups(&place);
    let path = path_of(&place, FileKind::Pack, largest_pack(&place));
    spoil(&path, |bytes| bytes[100] ^= 1);
    packs(&place, &repository, &[largest_pack(&place)]);
    let before = all(&place, FileKind::Snapshot);
    let dry = RepairSnapshotsRequest { dry_run: true, ..RepairSnapshotsRequest::default() };
    let planned = repair_snapshots(&repository, &dry, &|_| {}, &Cancel::new()).unwrap();
    assert_eq!(planned.changed.len(), 2);
    assert_eq!(all(&place, FileKind::Snapshot), before, "a dry run changes nothing");
    let done = repair(&repository, false);
    assert_eq!(done.changed.len(), 2);
    let listed = snapshots(&repository).unwrap();
    assert_eq!(listed.len(), 4);
    let is_repaired = |tags: &[String]| tags.iter().any(|tag| tag == "repaired");
    assert_eq!(listed.iter().filter(|snapshot| is_repaired(&snapshot.tags)).count(), 2);
    let text = place.restic_must(&["cat", "snapshot", &done.changed[0].new.unwrap().to_string()]);
    assert!(text.contains(&format!("\"original\": \"{}\"", done.changed[0].old)), "{text}");
    // Repaired ones are whole; what is repaired twice stays as it is.
    let again = repair(&repository, true);
    assert_eq!((again.snapshots, again.changed.len()), (4, 2));
    must_be_whole(&place, &repository);
    let source = place.path("source");
    let kept = |name: &str| {
        let restored = fs::read(place.restored(&place.path("target"), name)).unwrap();
        (restored.len() as u64, fs::metadata(source.join(name)).unwrap().len())
    };
    let parts = ["folder/noise", "folder/text", "folder/later"].map(kept);
    assert_eq!(parts.iter().filter(|(left, whole)| left < whole).count(), 1, "{parts:?}");
}

#[test]
fn a_folder_that_cannot_be_read_becomes_an_empty_one_and_a_snapshot_without_root_goes() {
    let place = Place::new();
    let source = place.source();
    fs::create_dir(source.join("folder/below")).unwrap();
    fs::write(source.join("folder/below/file"), "x").unwrap();
    let repository = place.init();
    let outcome = back_up(&repository, &source);
    let below = tree_of(&place, outcome.tree, &source.join("folder/below"));
    let index_of_blobs = BlobIndex::load(&repository).unwrap();
    let (trees, found) = index_of_blobs.find(BlobKind::Tree, &below).unwrap().unwrap();
    assert_eq!(trees, smallest_pack(&place));
    let whole = fs::read(path_of(&place, FileKind::Pack, trees)).unwrap();
    let middle = (found.offset + found.blob.length / 2) as usize;
    spoil(&path_of(&place, FileKind::Pack, trees), |bytes| bytes[middle] ^= 1);
    packs(&place, &repository, &[trees]);
    let done = repair(&repository, true);
    assert_eq!((done.changed.len(), done.changes), (1, 1));
    must_be_whole(&place, &repository);
    let below = place.restored(&place.path("target"), "folder/below");
    assert_eq!(fs::read_dir(below).unwrap().count(), 0);
    assert!(place.restored(&place.path("target"), "folder/text").exists());
    // Now all trees are lost.
    assert!(!whole.is_empty());
    for (pack, _) in all(&place, FileKind::Pack) {
        if place.restic_must(&["list", "packs"]).contains(&pack.to_string()) {
            fs::remove_file(path_of(&place, FileKind::Pack, pack)).unwrap();
        }
    }
    index(&repository, false);
    let done = repair(&repository, false);
    assert_eq!((done.changed.len(), done.changed[0].new), (1, None));
    assert_eq!(all(&place, FileKind::Snapshot), []);
    place.restic_must(&["check", "--read-data"]);
}

#[test]
fn what_is_sound_is_not_touched_whoever_wrote_it() {
    for version in ["1", "2"] {
        let place = Place::new();
        let source = place.source();
        place.restic_must(&["init", "--repository-version", version]);
        place.restic_must(&["backup", source.to_str().unwrap()]);
        let repository = place.open_on(place.folder());
        let before = all(&place, FileKind::Snapshot);
        assert_eq!(repair(&repository, true).changed, []);
        assert_eq!(all(&place, FileKind::Snapshot), before);
        let data = largest_pack(&place);
        let done = packs(&place, &repository, &[data]);
        assert_eq!((done.packs, done.blobs_lost), (1, 0));
        index(&repository, true);
        must_be_whole(&place, &repository);
    }
}

#[test]
fn a_repair_of_the_index_killed_after_any_change_leaves_nothing_worse() {
    cut_off_at_every_step(
        |place| {
            let repository = two_backups(place);
            let (gone, _) = all(place, FileKind::Index)[0];
            fs::remove_file(path_of(place, FileKind::Index, gone)).unwrap();
            drop(repository);
        },
        |_, repository| {
            repair_index(repository, RepairIndexRequest::default(), &|_| {}, &Cancel::new())
                .map(|_| ())
        },
    );
}

#[test]
fn a_repair_of_packs_killed_after_any_change_leaves_nothing_worse() {
    cut_off_at_every_step(
        |place| drop(two_backups(place)),
        |place, repository| match all(place, FileKind::Pack).is_empty() {
            true => Ok(()),
            false => try_packs(place, repository, &[largest_pack(place)]).map(|_| ()),
        },
    );
}

#[test]
fn a_repair_of_snapshots_killed_after_any_change_leaves_nothing_worse() {
    cut_off_at_every_step(
        |place| {
            let repository = two_backups(place);
            let path = path_of(place, FileKind::Pack, largest_pack(place));
            spoil(&path, |bytes| bytes[100] ^= 1);
            packs(place, &repository, &[largest_pack(place)]);
        },
        |_, repository| {
            let request = RepairSnapshotsRequest { forget: true, ..Default::default() };
            repair_snapshots(repository, &request, &|_| {}, &Cancel::new()).map(|_| ())
        },
    );
}

/// Stops a repair at each of its changes, in three ways; then it is done again, and all is well,
/// with as many snapshots as before.
fn cut_off_at_every_step(
    prepare: fn(&Place),
    repair: fn(&Place, &Repository) -> Result<(), TransferError>,
) {
    let faults: [fn(usize) -> Fault; 3] = [Fault::GoneFrom, Fault::LoseAt, Fault::FailAt];
    std::thread::scope(|scope| {
        for fault in faults {
            scope.spawn(move || cut_off_by(fault, prepare, repair));
        }
    });
}

fn cut_off_by(
    fault: fn(usize) -> Fault,
    prepare: fn(&Place),
    repair: fn(&Place, &Repository) -> Result<(), TransferError>,
) {
    let place = Place::new();
    prepare(&place);
    let template = place.path("template");
    fs::rename(place.path("repository"), &template).unwrap();
    let mut stopped = 0;
    for step in 0.. {
        assert!(step < CHANGES_MAX, "it never ends");
        let _ = fs::remove_dir_all(place.path("repository"));
        copy(&template, &place.path("repository"));
        let before = all(&place, FileKind::Snapshot).len();
        let faulty = Arc::new(Faulty::around(place.folder()));
        let repository = place.open_on(faulty.clone());
        faulty.inject(fault(step));
        let ended = repair(&place, &repository);
        let is_done = faulty.changes() <= step;
        faulty.heal();
        unlock(&repository, true).unwrap();
        stopped += usize::from(ended.is_err());
        assert!(all(&place, FileKind::Snapshot).len() >= before, "step {step}");
        if ended.is_err() {
            repair(&place, &repository).unwrap();
        }
        let report = check_all(&repository);
        assert!(report.is_sound(), "{:?} {:?}", fault(step), report.findings);
        if is_done {
            break;
        }
    }
    assert!(stopped >= 1, "none was stopped");
    index(&place.open_on(place.folder()), false);
    let report = check_all(&place.open_on(place.folder()));
    assert!(report.is_sound(), "{:?}", report.findings);
    place.restic_must(&["check", "--read-data"]);
}

#[test]
fn who_asks_to_stop_is_heard_and_nothing_was_removed() {
    let place = Place::new();
    let repository = two_backups(&place);
    let cancel = Cancel::new();
    cancel.cancel();
    let before = all(&place, FileKind::Index);
    let request = RepairIndexRequest { read_all_packs: true };
    let stopped = repair_index(&repository, request, &|_| {}, &cancel).unwrap_err();
    assert!(matches!(stopped, TransferError::Cancelled), "{stopped}");
    let request = RepairSnapshotsRequest::default();
    let stopped = repair_snapshots(&repository, &request, &|_| {}, &cancel).unwrap_err();
    assert!(matches!(stopped, TransferError::Cancelled), "{stopped}");
    assert_eq!(all(&place, FileKind::Index), before);
    assert_eq!(all(&place, FileKind::Lock), []);
}
