//! A backup that is cut off is gone on with: nothing that was finished is done again.

mod place;

use engine_contract::memory::MemoryPlan;
use engine_repository::FileKind;
use engine_storage::testing::{Fault, Faulty};
use engine_storage::{Name, Storage, list_all};
use engine_transfer::{
    BackupRequest, Cancel, ForgetRequest, Repository, SnapshotInfo, backup, forget, snapshots,
};
use place::{PASSWORD, Place, back_up, check_all, noise, request, who};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const FILE_BYTES: usize = 1_500_000;
const PACK_BYTES: u64 = 16 << 20;

/// Folders of files, 60 MB together: a few packs.
fn many_files(place: &Place) -> PathBuf {
    let source = place.path("source");
    for folder in 0..5 {
        let folder = source.join(format!("folder {folder}"));
        fs::create_dir_all(&folder).unwrap();
        for file in 0..8 {
            let seed = fs::read_dir(&folder).unwrap().count() as u64 * 31 + 7;
            let seed = seed * 1000 + folder.to_str().unwrap().bytes().map(u64::from).sum::<u64>();
            fs::write(folder.join(format!("file {file}")), noise(FILE_BYTES, seed)).unwrap();
        }
        fs::write(folder.with_extension("txt"), "beside the folder").unwrap();
    }
    source
}

fn open(place: &Place, storage: Arc<dyn Storage>) -> Repository {
    place.open_on(storage).with_cache(&place.path("cache"))
}

/// As when the program is killed: from one change on, nothing more reaches the destination.
fn cut_off_at(place: &Place, change: usize, request: &BackupRequest) -> bool {
    let faulty = Arc::new(Faulty::around(place.folder()));
    let repository = open(place, faulty.clone());
    faulty.inject(Fault::GoneFrom(change));
    let ended = backup(&repository, request, &|_| {}, &Cancel::new());
    faulty.heal();
    engine_transfer::unlock(&repository, true).unwrap();
    ended.is_err()
}

fn packs(place: &Place) -> (usize, u64) {
    let packs = list_all(place.folder().as_ref(), FileKind::Pack).unwrap();
    (packs.len(), packs.iter().map(|(_, bytes)| bytes).sum())
}

fn bytes_of_packs(storage: &dyn Storage) -> u64 {
    list_all(storage, FileKind::Pack).unwrap().iter().map(|(_, bytes)| bytes).sum()
}

fn is_sound(place: &Place) {
    let report = check_all(&place.open_on(place.folder()));
    assert!(report.is_sound(), "{:?}", report.findings);
}

#[test]
fn a_backup_cut_off_anywhere_is_gone_on_with_and_stores_nothing_twice() {
    let place = Place::new();
    let source = many_files(&place);
    place.init();
    back_up(&place.open_on(place.folder()), &source);
    let (_, whole_bytes) = packs(&place);
    let mut went_on = 0;
    // Each repository cuts in its own places, so how many changes there are differs: 80 or more.
    for change in (8..60).step_by(17) {
        fs::remove_dir_all(place.path("repository")).unwrap();
        let _ = fs::remove_dir_all(place.path("cache"));
        place.init();
        assert!(cut_off_at(&place, change, &request(&source)), "change {change} came too late");
        let (_, stored) = packs(&place);
        let next = back_up(&open(&place, place.folder()), &source);
        assert_eq!(next.files_new + next.files_unmodified, 45, "{next:?}");
        // One pack of each kind may have been open, one on its way.
        let repeated = (next.bytes_read + stored).saturating_sub(next.bytes_total);
        assert!(repeated <= 2 * PACK_BYTES, "change {change}: {repeated} bytes, {next:?}");
        let (_, all) = packs(&place);
        assert!(all <= whole_bytes + PACK_BYTES / 8, "change {change}: {all} of {whole_bytes}");
        went_on += usize::from(next.bytes_read < next.bytes_total);
        is_sound(&place);
        assert_eq!(journals(&place), 0, "the journal of a finished backup is of no use");
    }
    assert!(went_on >= 2, "only {went_on} runs went on with something");
}

fn journals(place: &Place) -> usize {
    let repository = fs::read_dir(place.path("cache")).unwrap().next().unwrap().unwrap();
    let folder = repository.path().join("unfinished");
    fs::read_dir(folder).map_or(0, Iterator::count)
}

#[test]
fn cut_off_night_after_night_it_is_done_in_the_sum_of_its_nights() {
    let place = Place::new();
    let source = many_files(&place);
    // As much again: more than two nights are good for.
    let more = source.join("more");
    fs::create_dir(&more).unwrap();
    for file in 0..40 {
        fs::write(more.join(format!("file {file}")), noise(FILE_BYTES, 5_000_000 + file)).unwrap();
    }
    place.init();
    let mut nights = 0;
    // Enough for what is open at the end and never stored before: 16 MiB in pieces of half a MiB
    // or more, once more when two packs become one, and the folders.
    while cut_off_at(&place, 70, &request(&source)) {
        nights += 1;
        assert!(nights < 12, "it never gets done");
    }
    assert!(nights >= 2, "it was done in {nights}");
    is_sound(&place);
    place.restic_must(&["check", "--read-data"]);
}

#[test]
fn a_file_larger_than_a_night_is_read_on_where_the_night_before_ended() {
    let place = Place::new();
    let source = place.path("source");
    fs::create_dir_all(&source).unwrap();
    let video = source.join("video");
    fs::write(&video, noise(90_000_000, 5)).unwrap();
    place.init();
    assert!(cut_off_at(&place, 60, &request(&source)));
    let (_, stored) = packs(&place);
    assert!(stored > 30_000_000, "only {stored} bytes were stored before it was cut off");
    let next = back_up(&open(&place, place.folder()), &source);
    assert!(next.bytes_read + stored < 90_000_000 + 2 * PACK_BYTES, "{stored}, {next:?}");
    assert_eq!(next.bytes_total, 90_000_000);
    let target = place.path("target");
    let repository = open(&place, place.folder());
    assert_eq!(place::restore_latest(&repository, &target).problems_total, 0);
    let restored = fs::read(place.restored(&target, "video")).unwrap();
    assert!(restored == fs::read(video).unwrap());
    is_sound(&place);
}

#[test]
fn a_journal_that_is_torn_or_garbage_costs_time_and_nothing_else() {
    let place = Place::new();
    let source = many_files(&place);
    place.init();
    assert!(cut_off_at(&place, 40, &request(&source)));
    let repository = fs::read_dir(place.path("cache")).unwrap().next().unwrap().unwrap();
    for entry in fs::read_dir(repository.path().join("unfinished")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes.truncate(middle + 3);
        bytes.extend_from_slice(&noise(5000, 3));
        fs::write(&path, bytes).unwrap();
    }
    let next = back_up(&open(&place, place.folder()), &source);
    assert_eq!(next.problems_total, 0);
    is_sound(&place);
}

#[test]
fn what_changed_since_it_was_finished_is_read_again() {
    let place = Place::new();
    let source = many_files(&place);
    place.init();
    assert!(cut_off_at(&place, 60, &request(&source)));
    let changed = source.join("folder 0/file 1");
    fs::write(&changed, noise(FILE_BYTES, 99)).unwrap();
    fs::remove_file(source.join("folder 0/file 2")).unwrap();
    let repository = open(&place, place.folder());
    let next = back_up(&repository, &source);
    assert!(next.files_unmodified > 0, "{next:?}");
    let target = place.path("target");
    assert_eq!(place::restore_latest(&repository, &target).problems_total, 0);
    let restored = fs::read(place.restored(&target, "folder 0/file 1")).unwrap();
    assert!(restored == fs::read(changed).unwrap());
    assert!(!place.restored(&target, "folder 0/file 2").exists());
}

#[test]
fn packs_a_prune_removed_meanwhile_are_stored_again() {
    let place = Place::new();
    let source = many_files(&place);
    place.init();
    assert!(cut_off_at(&place, 60, &request(&source)));
    let storage = place.folder();
    let (lost, _) = list_all(storage.as_ref(), FileKind::Pack).unwrap()[0];
    storage.remove(Name::of(FileKind::Pack, lost)).unwrap();
    back_up(&open(&place, place.folder()), &source);
    is_sound(&place);
    place.restic_must(&["check", "--read-data"]);
}

/// A backup that makes a checkpoint whenever it can, and is asked to stop when packs of so many
/// bytes came to the destination; what snapshots there were while it ran. How many checkpoints it
/// makes by then is a matter of time, so changes of the destination say little of how far it is.
/// It has little memory, so that it reads at most 24 MB more than the packs hold that it closed:
/// whoever had read everything when it was asked to stop would go on to the end.
fn with_checkpoints(place: &Place, source: &Path, stop_after: Option<u64>) -> Vec<SnapshotInfo> {
    let wanted = BackupRequest { checkpoint_interval: Duration::ZERO, ..request(source) };
    let (cancel, seen) = (Cancel::new(), Arc::new(Mutex::new(Vec::new())));
    let (watched, asked, found) = (place.open_on(place.folder()), cancel.clone(), seen.clone());
    let (folder, (_, before)) = (place.folder(), packs(place));
    let storage = Faulty::watched(place.folder(), move |_| {
        found.lock().unwrap().extend(snapshots(&watched).unwrap());
        let stored = bytes_of_packs(folder.as_ref()) - before;
        if stop_after.is_some_and(|bytes| stored >= bytes) {
            asked.cancel();
        }
    });
    let little = MemoryPlan::of(24 << 20);
    let repository = Repository::open(Arc::new(storage), PASSWORD, &who(), &little).unwrap();
    let ended = backup(&repository, &wanted, &|_| {}, &cancel);
    assert_eq!(ended.is_err(), stop_after.is_some());
    place.wait_until_unlocked();
    let mut seen = seen.lock().unwrap();
    std::mem::take(&mut seen)
}

#[test]
fn a_checkpoint_is_a_snapshot_restic_restores_and_a_box_without_a_journal_goes_on_from() {
    let place = Place::new();
    let source = many_files(&place);
    place.init();
    with_checkpoints(&place, &source, Some(20_000_000));
    let left = snapshots(&place.open_on(place.folder())).unwrap();
    assert!(left.len() == 1 && left[0].is_checkpoint, "{left:?}");
    assert_eq!(left[0].tags, ["guid:42", "checkpoint"]);
    let listed = place.restic_must(&["snapshots", "--tag", "checkpoint"]);
    assert!(listed.contains("1 snapshots"), "{listed}");
    place.restic_must(&["check", "--read-data"]);
    let target = place.path("target");
    place.restic_must(&["restore", "latest", "--verify", "--target", target.to_str().unwrap()]);
    let finished = "folder 0/file 3";
    let restored = fs::read(place.restored(&target, finished)).unwrap();
    assert!(restored == fs::read(source.join(finished)).unwrap());
    let next = back_up(&place.open_on(place.folder()), &source);
    assert!(next.bytes_read < next.bytes_total / 4 * 3, "{next:?}");
    assert_eq!(next.files_new + next.files_unmodified, 45, "{next:?}");
    let left = snapshots(&place.open_on(place.folder())).unwrap();
    assert!(left.len() == 1 && !left[0].is_checkpoint, "{left:?}");
    place.restic_must(&["check", "--read-data"]);
}

#[test]
fn checkpoints_replace_each_other_and_the_complete_snapshot_replaces_them() {
    let place = Place::new();
    let source = many_files(&place);
    place.init();
    let seen = with_checkpoints(&place, &source, None);
    assert!(seen.iter().any(|snapshot| snapshot.is_checkpoint));
    let left = snapshots(&place.open_on(place.folder())).unwrap();
    assert!(left.len() == 1 && !left[0].is_checkpoint, "{left:?}");
    assert!(seen.iter().all(|snapshot| snapshot.is_checkpoint || snapshot.id == left[0].id));
    is_sound(&place);
}

#[test]
fn an_owners_own_tag_checkpoint_is_no_checkpoint_and_never_removed() {
    let place = Place::new();
    let source = place.source();
    let repository = place.init();
    let mut wanted = request(&source);
    wanted.tags = vec!["checkpoint".into()];
    for _ in 0..2 {
        backup(&repository, &wanted, &|_| {}, &Cancel::new()).unwrap();
    }
    let kept = snapshots(&repository).unwrap();
    assert!(kept.len() == 2 && kept.iter().all(|snapshot| !snapshot.is_checkpoint), "{kept:?}");
}

#[test]
fn forget_counts_no_checkpoint_and_removes_those_a_complete_snapshot_came_after() {
    let place = Place::new();
    let source = many_files(&place);
    let repository = place.init();
    back_up(&repository, &source);
    fs::write(source.join("folder 0/file 0"), noise(FILE_BYTES, 77)).unwrap();
    fs::write(source.join("folder 4/file 0"), noise(40 * FILE_BYTES, 78)).unwrap();
    with_checkpoints(&place, &source, Some(4_000_000));
    let all = snapshots(&repository).unwrap();
    assert!(all.len() == 2 && all[1].is_checkpoint, "{all:?}");
    let mut wanted = ForgetRequest::default();
    wanted.policy.last = 1;
    let report = forget(&repository, &wanted).unwrap();
    assert_eq!(report.removed(), 0, "the only complete snapshot counts, and the checkpoint stays");
    assert_eq!(report.groups[0].keep.len(), 2);
    // An older checkpoint is of no use.
    let storage = place.folder();
    let checkpoint = Name::of(FileKind::Snapshot, all[1].id);
    let bytes = storage.read(checkpoint, 1 << 20).unwrap();
    back_up(&repository, &source);
    storage.write(checkpoint, &bytes).unwrap();
    wanted.policy.last = 5;
    let report = forget(&repository, &wanted).unwrap();
    let removed: Vec<_> = report.groups[0].remove.iter().map(|snapshot| snapshot.id).collect();
    assert_eq!(removed, [all[1].id]);
}
