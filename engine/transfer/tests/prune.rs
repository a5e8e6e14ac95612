//! Prune takes what nobody needs and nothing else, whatever fails and whenever.

mod place;

use engine_repository::{FileKind, Id};
use engine_storage::testing::{Fault, Faulty};
use engine_storage::{Name, Storage, list_all};
use engine_transfer::{
    Cancel, ForgetRequest, MaxUnused, PruneReport, PruneRequest, Repository, TransferError, forget,
    prune, unlock,
};
use place::{Place, back_up, check_all, copy, noise, restore_latest};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// More changes than any prune of the small repository makes.
const CHANGES_MAX: usize = 80;

/// Two snapshots of the same folder: what only the first has is named `old`. The first is
/// forgotten.
fn with_waste(place: &Place) -> Repository {
    let source = place.source();
    fs::write(source.join("folder/noise"), noise(200_000, 1)).unwrap();
    for number in 0..4 {
        fs::write(source.join(format!("old {number}")), noise(150_000, 10 + number)).unwrap();
        fs::write(source.join(format!("kept {number}")), noise(150_000, 20 + number)).unwrap();
    }
    let repository = place.init();
    let first = back_up(&repository, &source).snapshot;
    for number in 0..4 {
        fs::remove_file(source.join(format!("old {number}"))).unwrap();
    }
    back_up(&repository, &source);
    let request = ForgetRequest { snapshots: vec![first.to_string()], ..ForgetRequest::default() };
    forget(&repository, &request).unwrap();
    repository
}

fn prune_all(repository: &Repository) -> Result<PruneReport, TransferError> {
    let request = PruneRequest { max_unused: MaxUnused::Bytes(0), ..PruneRequest::default() };
    prune(repository, &request, &|_| {}, &Cancel::new())
}

fn files(storage: &dyn Storage) -> BTreeSet<String> {
    let kinds = [FileKind::Pack, FileKind::Index, FileKind::Snapshot];
    let all = kinds.into_iter().flat_map(|kind| {
        let listed = list_all(storage, kind).unwrap();
        listed.into_iter().map(move |(id, bytes)| format!("{} {bytes}", kind.path(&id)))
    });
    all.collect()
}

#[track_caller]
fn must_be_whole(place: &Place, repository: &Repository) {
    let report = check_all(repository);
    assert!(report.is_sound(), "{:?}", report.findings);
    let target = place.path("target");
    let _ = fs::remove_dir_all(&target);
    assert_eq!(restore_latest(repository, &target).problems_total, 0);
    let source = place.path("source");
    let restored = place.restored(&target, "");
    assert!(is_alike(&source, &restored));
}

fn is_alike(a: &Path, b: &Path) -> bool {
    let names = |folder: &Path| {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect::<BTreeSet<_>>()
    };
    names(a) == names(b)
        && names(a).iter().all(|name| {
            let (a, b) = (a.join(name), b.join(name));
            if a.is_dir() { is_alike(&a, &b) } else { fs::read(a).unwrap() == fs::read(b).unwrap() }
        })
}

#[track_caller]
fn restic_must_agree(place: &Place) {
    place.restic_must(&["check", "--read-data"]);
    let target = place.path("restic's target");
    let _ = fs::remove_dir_all(&target);
    place.restic_must(&["restore", "latest", "--verify", "--target", target.to_str().unwrap()]);
    assert!(is_alike(&place.path("source"), &place.restored(&target, "")));
}

#[test]
fn what_nobody_needs_goes_and_everything_else_stays() {
    let place = Place::new();
    let repository = with_waste(&place);
    let before = files(place.folder().as_ref());
    let dry = PruneRequest { dry_run: true, max_unused: MaxUnused::Bytes(0), ..Default::default() };
    let planned = prune(&repository, &dry, &|_| {}, &Cancel::new()).unwrap();
    assert_eq!(files(place.folder().as_ref()), before, "a dry run changes nothing");
    let done = prune_all(&repository).unwrap();
    assert_eq!(done, planned);
    assert!(done.packs_repacked >= 1 && done.bytes_left_unused == 0, "{done:?}");
    assert!(done.bytes_freed() > 4 * 150_000, "{done:?}");
    must_be_whole(&place, &repository);
    restic_must_agree(&place);
    let again = prune_all(&repository).unwrap();
    assert_eq!((again.blobs_unused, again.packs_repacked, again.packs_removed), (0, 0, 0));
    assert_eq!(again.blobs_used, done.blobs_used);
}

#[test]
fn waste_stays_as_long_as_it_is_no_more_than_allowed() {
    let place = Place::new();
    let repository = with_waste(&place);
    let with = |max_unused, max_repack_bytes| {
        let request =
            PruneRequest { max_unused, max_repack_bytes, dry_run: true, ..Default::default() };
        prune(&repository, &request, &|_| {}, &Cancel::new()).unwrap()
    };
    // Trees are always put together.
    let all = with(MaxUnused::Bytes(0), None);
    assert!(with(MaxUnused::Unlimited, None).bytes_left_unused > 4 * 150_000);
    assert!(with(MaxUnused::Permille(900), None).bytes_left_unused > 4 * 150_000);
    assert_eq!(with(MaxUnused::Permille(50), None), all);
    assert_eq!(with(MaxUnused::Bytes(0), Some(0)).packs_repacked, 0);
}

#[test]
fn killed_after_any_change_nothing_is_lost_and_the_next_prune_ends_it() {
    // What is kept beside the repository knows nothing of its being put back each time.
    cut_off_at_every_step(Fault::GoneFrom, true);
}

#[test]
fn with_any_change_lost_nothing_else_is_and_the_next_prune_ends_it() {
    cut_off_at_every_step(Fault::LoseAt, false);
}

#[test]
fn with_any_change_failing_nothing_is_lost_and_the_next_prune_ends_it() {
    cut_off_at_every_step(Fault::FailAt, false);
}

fn cut_off_at_every_step(fault: fn(usize) -> Fault, is_restic_asked: bool) {
    let place = Place::new();
    with_waste(&place);
    let template = place.path("template");
    fs::rename(place.path("repository"), &template).unwrap();
    let mut stopped = 0;
    for step in 0.. {
        assert!(step < CHANGES_MAX, "it never ends");
        let _ = fs::remove_dir_all(place.path("repository"));
        copy(&template, &place.path("repository"));
        let faulty = Arc::new(Faulty::around(place.folder()));
        let mut repository = place.open_on(faulty.clone());
        if is_restic_asked {
            repository = repository.with_cache(&place.path("caches"));
        }
        faulty.inject(fault(step));
        let ended = prune_all(&repository);
        let is_done = faulty.changes() <= step;
        faulty.heal();
        unlock(&repository, true).unwrap();
        must_be_whole(&place, &repository);
        if is_restic_asked {
            place.restic_must(&["check", "--read-data"]);
        }
        stopped += usize::from(ended.is_err());
        prune_all(&repository).unwrap();
        assert!(packs_are_needed(&place, &repository), "step {step}");
        if is_done {
            break;
        }
    }
    assert!(stopped >= 8, "only {stopped} were stopped");
    must_be_whole(&place, &place.open_on(place.folder()));
    restic_must_agree(&place);
}

/// As many bytes as the two snapshots' blobs need, and no more than headers beside.
fn packs_are_needed(place: &Place, repository: &Repository) -> bool {
    let needed = engine_transfer::stats(repository, &[], &Cancel::new()).unwrap().raw_bytes;
    let packs = list_all(place.folder().as_ref(), FileKind::Pack).unwrap();
    let bytes: u64 = packs.iter().map(|(_, bytes)| bytes).sum();
    (needed..needed + 5_000).contains(&bytes)
}

/// Stores everything a second time: the only index is away meanwhile.
fn back_up_once_more(place: &Place, repository: &Repository) -> Id {
    let folder = place.folder();
    let (index, _) = list_all(folder.as_ref(), FileKind::Index).unwrap()[0];
    let index = Name::of(FileKind::Index, index);
    let bytes = folder.read(index, 1 << 20).unwrap();
    folder.remove(index).unwrap();
    let force = engine_transfer::BackupRequest {
        parent: engine_transfer::ParentChoice::None,
        ..place::request(&place.path("source"))
    };
    let done = engine_transfer::backup(repository, &force, &|_| {}, &Cancel::new()).unwrap();
    folder.write(index, &bytes).unwrap();
    done.snapshot
}

/// Flips a bit in every blob of a pack, none of which has less than 10,000 bytes. What was there
/// before is given back.
fn damage(folder: &dyn Storage, pack: Id) -> Vec<u8> {
    let name = Name::of(FileKind::Pack, pack);
    let sound = folder.read(name, 8 << 20).unwrap();
    let mut damaged = sound.clone();
    damaged.iter_mut().step_by(10_000).for_each(|byte| *byte ^= 1);
    folder.remove(name).unwrap();
    folder.write(name, &damaged).unwrap();
    sound
}

#[test]
fn of_blobs_stored_twice_one_copy_stays_and_a_pack_that_is_missing_is_no_longer_named() {
    let place = Place::new();
    let source = place.source();
    let repository = place.init();
    back_up(&repository, &source);
    let folder = place.folder();
    let first_packs = list_all(folder.as_ref(), FileKind::Pack).unwrap();
    back_up_once_more(&place, &repository);
    let template = place.path("template");
    copy(&place.path("repository"), &template);
    let done = prune_all(&repository).unwrap();
    assert!(done.blobs_unused >= done.blobs_used - 2 && done.packs_kept > 0, "{done:?}");
    must_be_whole(&place, &repository);
    restic_must_agree(&place);
    // The same, with the first packs gone: each blob has its copy.
    fs::remove_dir_all(place.path("repository")).unwrap();
    fs::rename(&template, place.path("repository")).unwrap();
    let repository = place.open_on(place.folder());
    let lost = snapshot_ids(&place)[0].clone();
    let request = ForgetRequest { snapshots: vec![lost], ..Default::default() };
    forget(&repository, &request).unwrap();
    for (pack, _) in &first_packs {
        place.folder().remove(Name::of(FileKind::Pack, *pack)).unwrap();
    }
    assert_eq!(prune_all(&repository).unwrap().packs_missing, first_packs.len() as u64);
    must_be_whole(&place, &repository);
    restic_must_agree(&place);
}

fn snapshot_ids(place: &Place) -> Vec<String> {
    let repository = place.open_on(place.folder());
    let all = engine_transfer::snapshots(&repository).unwrap();
    all.iter().map(|snapshot| snapshot.id.to_string()).collect()
}

#[test]
fn a_pack_that_is_needed_and_missing_or_damaged_stops_it_before_anything_is_removed() {
    let place = Place::new();
    let repository = with_waste(&place);
    let before = files(place.folder().as_ref());
    let faulty = Arc::new(Faulty::around(place.folder()));
    let spoilt = place.open_on(faulty.clone());
    faulty.inject(Fault::FlippedBit(FileKind::Pack));
    let refused = prune_all(&spoilt).unwrap_err();
    assert!(matches!(refused, TransferError::Damaged { .. }), "{refused}");
    assert!(files(place.folder().as_ref()).is_superset(&before));
    prune_all(&repository).unwrap();
    let packs = list_all(place.folder().as_ref(), FileKind::Pack).unwrap();
    let (largest, _) = packs.iter().max_by_key(|(_, bytes)| *bytes).unwrap();
    place.folder().remove(Name::of(FileKind::Pack, *largest)).unwrap();
    let before = files(place.folder().as_ref());
    let refused = prune_all(&repository).unwrap_err();
    assert!(matches!(refused, TransferError::BlobMissing { .. }), "{refused}");
    assert_eq!(files(place.folder().as_ref()), before);
}

#[test]
fn a_blob_that_is_to_be_moved_and_is_damaged_stops_it_and_nothing_is_removed() {
    let place = Place::new();
    let repository = with_waste(&place);
    let folder = place.folder();
    let packs = list_all(folder.as_ref(), FileKind::Pack).unwrap();
    let (data, _) = *packs.iter().max_by_key(|(_, bytes)| *bytes).unwrap();
    let sound = damage(folder.as_ref(), data);
    let before = files(folder.as_ref());
    let refused = prune_all(&repository).unwrap_err();
    assert!(matches!(refused, TransferError::Damaged { .. }), "{refused}");
    assert!(files(folder.as_ref()).is_superset(&before));
    // Whoever has the pack elsewhere can put it back.
    let name = Name::of(FileKind::Pack, data);
    folder.remove(name).unwrap();
    folder.write(name, &sound).unwrap();
    assert!(prune_all(&repository).unwrap().packs_repacked >= 1);
    must_be_whole(&place, &repository);
    restic_must_agree(&place);
}

/// Two packs with the same blobs, of which one is needed and another is not.
fn with_everything_stored_twice(place: &Place) -> (Repository, Vec<Id>) {
    let (source, folder) = (place.source(), place.folder());
    for (name, seed) in [("kept", 1), ("old", 2)] {
        fs::write(source.join(name), noise(300_000, seed)).unwrap();
    }
    let repository = place.init();
    let mut snapshots = vec![back_up(&repository, &source).snapshot];
    snapshots.push(back_up_once_more(place, &repository));
    fs::remove_file(source.join("old")).unwrap();
    back_up(&repository, &source);
    let snapshots = snapshots.iter().map(ToString::to_string).collect();
    forget(&repository, &ForgetRequest { snapshots, ..ForgetRequest::default() }).unwrap();
    let packs = list_all(folder.as_ref(), FileKind::Pack).unwrap();
    let large = packs.into_iter().filter(|(_, bytes)| *bytes > 600_000).map(|(pack, _)| pack);
    (repository, large.collect())
}

#[test]
fn of_a_blob_stored_twice_the_sound_copy_is_moved_whichever_that_is() {
    let mut moved = 0;
    for damaged in 0..2 {
        let place = Place::new();
        let (repository, packs) = with_everything_stored_twice(&place);
        assert_eq!(packs.len(), 2);
        damage(place.folder().as_ref(), packs[damaged]);
        moved += prune_all(&repository).unwrap().packs_repacked;
        must_be_whole(&place, &repository);
        restic_must_agree(&place);
    }
    assert!(moved >= 2, "nothing had to be moved");
}

#[test]
fn packs_no_index_names_go() {
    let place = Place::new();
    let repository = with_waste(&place);
    prune_all(&repository).unwrap();
    let before = files(place.folder().as_ref());
    fs::write(place.path("source/later"), noise(300_000, 99)).unwrap();
    let later = back_up(&repository, &place.path("source")).snapshot;
    let indexes = list_all(place.folder().as_ref(), FileKind::Index).unwrap();
    for (id, _) in
        indexes.iter().filter(|(id, _)| !before.iter().any(|f| f.contains(&id.to_string())))
    {
        place.folder().remove(Name::of(FileKind::Index, *id)).unwrap();
    }
    place.folder().remove(Name::of(FileKind::Snapshot, later)).unwrap();
    let done = prune_all(&repository).unwrap();
    assert!(done.packs_unindexed >= 2 && done.bytes_unindexed > 300_000, "{done:?}");
    assert_eq!(files(place.folder().as_ref()), before);
    fs::remove_file(place.path("source/later")).unwrap();
    restic_must_agree(&place);
}

#[test]
fn what_restic_wrote_in_either_version_is_pruned_to_its_content() {
    for version in ["1", "2"] {
        let place = Place::new();
        let source = place.source();
        place.restic_must(&["init", "--repository-version", version]);
        fs::write(source.join("old"), noise(3_000_000, 5)).unwrap();
        place.restic_must(&["backup", source.to_str().unwrap()]);
        fs::remove_file(source.join("old")).unwrap();
        place.restic_must(&["backup", source.to_str().unwrap()]);
        place.restic_must(&["forget", "--keep-last", "1"]);
        let repository = place.open_on(place.folder());
        let done = prune_all(&repository).unwrap();
        assert!(done.bytes_freed() > 3_000_000, "version {version}: {done:?}");
        must_be_whole(&place, &repository);
        restic_must_agree(&place);
        let said = place.restic_must(&["prune", "--max-unused", "0"]);
        assert!(said.contains("total prune:") && said.contains("0 blobs / 0 B"), "{said}");
    }
}

/// A repository of ten small packs of data, none of which has waste.
fn with_small_packs(place: &Place) -> Repository {
    let source = place.path("source");
    fs::create_dir(&source).unwrap();
    let repository = place.init();
    for number in 0..10 {
        fs::write(source.join(format!("file {number}")), noise(100_000, number)).unwrap();
        back_up(&repository, &source);
    }
    repository
}

fn number_of_packs(place: &Place) -> usize {
    list_all(place.folder().as_ref(), FileKind::Pack).unwrap().len()
}

#[test]
fn packs_that_are_much_too_small_are_put_together_when_asked_and_then_left_alone() {
    let place = Place::new();
    let repository = with_small_packs(&place);
    assert_eq!(number_of_packs(&place), 20);
    assert_eq!(prune_all(&repository).unwrap().packs_repacked, 0);
    let small = PruneRequest { is_small_repacked: true, ..PruneRequest::default() };
    let prune_small = |request| prune(&repository, &request, &|_| {}, &Cancel::new()).unwrap();
    let some = PruneRequest { max_repack_bytes: Some(350_000), ..small };
    assert_eq!(prune_small(PruneRequest { dry_run: true, ..some }).packs_kept, 7);
    let trees_only = PruneRequest { is_cacheable_only: true, ..small };
    assert_eq!(prune_small(trees_only).packs_repacked, 10);
    assert_eq!(number_of_packs(&place), 11);
    assert_eq!(prune_small(small).packs_repacked, 10);
    assert_eq!(number_of_packs(&place), 2);
    assert_eq!(list_all(place.folder().as_ref(), FileKind::Index).unwrap().len(), 1);
    assert_eq!(prune_small(small).packs_repacked, 0);
    must_be_whole(&place, &repository);
    restic_must_agree(&place);
}

#[test]
fn packs_first_seen_a_short_while_ago_are_left_alone_when_asked() {
    let place = Place::new();
    with_waste(&place);
    let repository = place.open_on(place.folder()).with_cache(&place.path("caches"));
    let before = files(place.folder().as_ref());
    let aged = |seconds| {
        let max_unused = MaxUnused::Bytes(0);
        let pack_age_seconds_min = Some(seconds);
        let request = PruneRequest { max_unused, pack_age_seconds_min, ..Default::default() };
        prune(&repository, &request, &|_| {}, &Cancel::new()).unwrap()
    };
    let left = aged(3600);
    assert_eq!((left.packs_repacked, left.packs_removed), (0, 0));
    assert_eq!(left.bytes_left_unused, left.bytes_unused);
    assert_eq!(files(place.folder().as_ref()), before);
    // As if an hour had passed: the seconds behind each id.
    let folder = place.path("caches").join(repository.id().to_string());
    let path = folder.join("pack-ages-1");
    let mut ages = fs::read(&path).unwrap();
    for age in ages.chunks_mut(40) {
        let seconds = u64::from_be_bytes(age[32..].try_into().unwrap());
        age[32..].copy_from_slice(&(seconds - 3600).to_be_bytes());
    }
    fs::write(&path, &ages).unwrap();
    assert_eq!(aged(3600).bytes_left_unused, 0);
    must_be_whole(&place, &repository);
    restic_must_agree(&place);
    let without = place.open_on(place.folder());
    let request = PruneRequest { pack_age_seconds_min: Some(1), ..PruneRequest::default() };
    assert_eq!(prune(&without, &request, &|_| {}, &Cancel::new()).unwrap().packs_removed, 0);
}

#[test]
fn what_was_stored_uncompressed_is_compressed_when_asked_where_that_gains_something() {
    let place = Place::new();
    let source = place.source();
    place.restic_must(&["init"]);
    place.restic_must(&["backup", "--compression", "off", source.to_str().unwrap()]);
    let repository = place.open_on(place.folder());
    assert_eq!(prune_all(&repository).unwrap().packs_repacked, 0);
    let request = PruneRequest { is_uncompressed_repacked: true, ..PruneRequest::default() };
    let done = prune(&repository, &request, &|_| {}, &Cancel::new()).unwrap();
    assert!(done.packs_repacked > 0, "{done:?}");
    let stats = engine_transfer::stats(&repository, &[], &Cancel::new()).unwrap();
    // The text became nearly nothing, the noise stayed as it was.
    assert!((3_000_000..3_100_000).contains(&stats.raw_bytes), "{stats:?}");
    must_be_whole(&place, &repository);
    restic_must_agree(&place);
}
