//! The index between two backups: others work on the repository, and accidents happen.

mod place;

use engine_transfer::Repository;
use place::{Place, back_up, check_all, noise, restore_latest};
use std::fs;
use std::path::{Path, PathBuf};

fn open(place: &Place) -> Repository {
    place.open_on(place.folder()).with_cache(&place.path("caches"))
}

/// A back-up of everything, restored by us and believed by restic.
#[track_caller]
fn is_well(place: &Place, source: &Path, name: &str) {
    let repository = open(place);
    back_up(&repository, source);
    let target = place.path(name);
    restore_latest(&repository, &target);
    for file in ["folder/text", "folder/noise"] {
        let restored = fs::read(place.restored(&target, file)).unwrap();
        assert!(restored == fs::read(source.join(file)).unwrap(), "{file} is what it was");
    }
    assert!(check_all(&repository).is_sound());
    place.restic_must(&["check", "--read-data"]);
}

/// All files of the index in the cache.
fn kept(place: &Place) -> Vec<PathBuf> {
    let caches = fs::read_dir(place.path("caches")).unwrap();
    let files = caches.flat_map(|cache| fs::read_dir(cache.unwrap().path().join("blobs")).unwrap());
    files.map(|file| file.unwrap().path()).collect()
}

#[test]
fn what_a_prune_of_restic_took_away_between_two_backups_is_stored_again() {
    let place = Place::new();
    let source = place.source();
    place.init();
    is_well(&place, &source, "first");
    // What the first snapshot alone needs goes; then it is wanted again.
    let noise_of_before = fs::read(source.join("folder/noise")).unwrap();
    fs::write(source.join("folder/noise"), noise(2_000_000, 2)).unwrap();
    is_well(&place, &source, "second");
    place.restic_must(&["forget", "--keep-last", "1", "--prune", "--max-unused", "0"]);
    fs::write(source.join("folder/noise"), noise_of_before).unwrap();
    is_well(&place, &source, "third");
}

#[test]
fn a_repository_taken_back_to_yesterday_is_not_believed_to_be_todays() {
    let place = Place::new();
    let source = place.source();
    place.init();
    is_well(&place, &source, "first");
    let yesterday = place.path("yesterday");
    let copied = |from: &Path, to: &Path| {
        let done = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status();
        assert!(done.unwrap().success());
    };
    copied(&place.path("repository"), &yesterday);
    fs::write(source.join("folder/noise"), noise(2_000_000, 2)).unwrap();
    is_well(&place, &source, "second");
    fs::remove_dir_all(place.path("repository")).unwrap();
    copied(&yesterday, &place.path("repository"));
    is_well(&place, &source, "third");
}

#[test]
fn garbage_in_place_of_the_index_in_the_cache_changes_nothing() {
    let place = Place::new();
    let source = place.source();
    place.init();
    is_well(&place, &source, "first");
    for (round, bytes) in [0, 100, 100_000].into_iter().enumerate() {
        let files = kept(&place);
        assert!(files.len() >= 3, "a run, the manifest and the lock");
        for file in files {
            fs::write(file, noise(bytes, 7)).unwrap();
        }
        // Something new each time, or the catalogue answers and the index is not asked.
        fs::write(source.join("folder/text"), noise(10_000, round as u64)).unwrap();
        is_well(&place, &source, &format!("after {bytes}"));
    }
}
