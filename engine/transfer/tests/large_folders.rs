//! Folders too large to be held go through temporary files, whatever is done with them; and what
//! comes of it is, byte for byte, what comes of it where all is held.
//!
//! Here little is held, so that folders of some hundred files are such; real ones have a million.

mod place;

use engine_repository::{FileKind, Id};
use engine_storage::{Folder, list_all};
use engine_transfer::testing::holding_of_trees;
use engine_transfer::{
    BackupRequest, Cancel, CopyRequest, ForgetRequest, InitRequest, MaxUnused, PruneRequest,
    RepairIndexRequest, RepairPacksRequest, RepairSnapshotsRequest, Repository, RestoreRequest,
    Version, backup, copy, diff, dump, find_snapshot, forget, ls, prune, repair_index,
    repair_packs, repair_snapshots, restore, snapshots,
};
use place::{
    PASSWORD, Place, back_up, check_all, copy as copy_folder, noise, plan, quick, request, who,
};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// So much of a folder is held: some ten files of it.
const HELD_BYTES: usize = 5000;

/// A repository in which hardly a folder is held.
fn narrow(repository: &Repository) -> Repository {
    holding_of_trees(repository.clone(), HELD_BYTES)
}

/// Another repository in the same place.
fn another(place: &Place, name: &str, version: Version) -> Repository {
    let storage = Arc::new(Folder::at(&place.path(name)));
    let request = InitRequest { version, ..quick() };
    Repository::init_as(storage, PASSWORD, &who(), &plan(), &request).unwrap()
}

/// A folder of 400 files with one of 300 in its middle, and one of 300 empty folders.
fn source(place: &Place) -> PathBuf {
    let source = place.path("source");
    for number in 0..300_u64 {
        let file = source.join(format!("many/file 150 and what is in it/below {number}"));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, noise(40, number)).unwrap();
        fs::write(source.join(format!("many/file {number}")), noise(50, 1000 + number)).unwrap();
        fs::create_dir_all(source.join(format!("folders/of many {number}"))).unwrap();
    }
    for number in 0..100 {
        symlink("../nowhere", source.join(format!("many/link {number}"))).unwrap();
    }
    fs::write(source.join("small"), "a small file").unwrap();
    source
}

/// All there is in a folder, and what is in it.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let (mut found, mut left) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let content = match () {
                () if metadata.is_dir() => b"a folder".to_vec(),
                () if metadata.is_file() => fs::read(&path).unwrap(),
                () => fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes(),
            };
            if metadata.is_dir() {
                left.push(path.clone());
            }
            found.push((path.strip_prefix(folder).unwrap().to_owned(), content));
        }
    }
    found.sort();
    found
}

#[track_caller]
fn must_be_restored(place: &Place, repository: &Repository, source: &Path) {
    let target = place.path("target");
    let _ = fs::remove_dir_all(&target);
    // What the snapshot has not goes, found in a large folder, too.
    let there = place.restored(&target, "many");
    for number in 0..200 {
        let stray = there.join(format!("file {number} stray"));
        fs::create_dir_all(stray.join("and what is in it")).unwrap();
    }
    let snapshot = find_snapshot(repository, "latest").unwrap();
    let wanted = RestoreRequest {
        target: target.clone(),
        verify: true,
        delete: true,
        includes: vec![source.display().to_string()],
        ..RestoreRequest::default()
    };
    let outcome = restore(repository, &snapshot, &wanted, &|_| {}, &Cancel::new()).unwrap();
    assert_eq!(outcome.problems, []);
    assert_eq!(outcome.files_deleted, 400);
    assert_eq!(contents(&place.restored(&target, "")), contents(source));
}

#[track_caller]
fn must_be_sound(repository: &Repository) {
    let report = check_all(repository);
    assert!(report.is_sound(), "{:?}", report.findings);
}

fn roots(repository: &Repository) -> Vec<Id> {
    let mut all: Vec<_> = snapshots(repository).unwrap();
    all.sort_by_key(|snapshot| snapshot.time.clone());
    all.iter().map(|snapshot| snapshot.tree).collect()
}

fn listed(repository: &Repository) -> Vec<String> {
    let snapshot = find_snapshot(repository, "latest").unwrap();
    let mut all = Vec::new();
    ls(repository, &snapshot, &mut |node| all.push(format!("{node:?}"))).unwrap();
    all
}

/// Restic's judgement, and its answer to what is in the newest snapshot.
fn restic_must_agree(place: &Place, repository: &Repository) {
    place.restic_must(&["check", "--read-data"]);
    let told = place.restic_must(&["ls", "latest"]);
    let paths = told.lines().filter(|line| line.starts_with('/')).count();
    assert_eq!(paths, listed(repository).len());
}

/// The tree of a folder, as restic finds it: those above it change while other tests run.
fn tree_of(place: &Place, repository: &str, root: Id, path: &Path) -> Id {
    let repository = place.path(repository).display().to_string();
    path.iter().skip(1).fold(root, |tree, name| {
        let json = place.restic_must(&["-r", &repository, "cat", "blob", &tree.to_string()]);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let nodes = json["nodes"].as_array().unwrap();
        let node = nodes.iter().find(|node| node["name"].as_str() == name.to_str()).unwrap();
        node["subtree"].as_str().unwrap().parse().unwrap()
    })
}

#[test]
fn a_large_folder_is_backed_up_and_backed_up_again_to_the_trees_that_small_ones_come_to() {
    let place = Place::new();
    let source = source(&place);
    let wide = another(&place, "wide", Version::V2);
    let narrow = narrow(&place.init()).with_cache(&place.path("caches"));
    for round in 0..3 {
        let path = source.join(format!("many/file 150 and what is in it/below {round}"));
        fs::write(path, "changed").unwrap();
        // Of the first round everything is in a checkpoint at any time, too.
        let interval = if round == 0 { Duration::ZERO } else { Duration::from_secs(900) };
        let wanted = BackupRequest { checkpoint_interval: interval, ..request(&source) };
        let found = backup(&narrow, &wanted, &|_| {}, &Cancel::new()).unwrap();
        let expected = back_up(&wide, &source).tree;
        let expected = tree_of(&place, "wide", expected, &source);
        assert_eq!(tree_of(&place, "repository", found.tree, &source), expected, "{round}");
        assert_eq!(found.problems, []);
        must_be_sound(&narrow);
        restic_must_agree(&place, &narrow);
        must_be_restored(&place, &narrow, &source);
    }
    assert_eq!(listed(&narrow), listed(&wide));
    let mut archives = [Vec::new(), Vec::new()];
    for (repository, archive) in [&narrow, &wide].into_iter().zip(&mut archives) {
        let latest = find_snapshot(repository, "latest").unwrap();
        dump(repository, &latest, Path::new("/"), archive, &Cancel::new()).unwrap();
        let first = find_snapshot(repository, &snapshots(repository).unwrap()[0].id.to_string());
        let mut changes = 0;
        let mut each = |_, path: &Path, _| changes += usize::from(path.starts_with(&source));
        diff(repository, &first.unwrap(), &latest, false, &mut each, &Cancel::new()).unwrap();
        assert_eq!(changes, 2);
    }
    assert!(archives[0] == archives[1] && archives[0].len() > 300_000);
}

#[test]
fn copies_of_large_folders_are_the_same_trees_in_either_version() {
    let place = Place::new();
    let source = source(&place);
    let first = place.init();
    back_up(&narrow(&first), &source);
    fs::remove_file(source.join("many/file 7")).unwrap();
    back_up(&first, &source);
    let (mut from, wanted) = (first, CopyRequest::default());
    for (name, version) in [("two", Version::V2), ("one", Version::V1), ("again", Version::V2)] {
        let to = narrow(&another(&place, name, version));
        copy(&narrow(&from), &to, &wanted, &|_| {}, &Cancel::new()).unwrap();
        must_be_sound(&to);
        assert_eq!(roots(&to), roots(&from));
        must_be_restored(&place, &to, &source);
        from = to;
    }
}

#[test]
fn a_prune_moves_large_folders_as_they_are_sealed_and_compresses_them_where_that_is_asked_for() {
    let place = Place::new();
    let source = source(&place);
    let old = another(&place, "repository", Version::V1);
    // Small folders share packs with what will be waste.
    let first = back_up(&old, &source).snapshot;
    fs::remove_dir_all(source.join("folders")).unwrap();
    back_up(&old, &source);
    let gone = ForgetRequest { snapshots: vec![first.to_string()], ..ForgetRequest::default() };
    forget(&old, &gone).unwrap();
    let wanted = PruneRequest { max_unused: MaxUnused::Bytes(0), ..PruneRequest::default() };
    let of = |repository: &Repository, wanted| {
        prune(&narrow(repository), wanted, &|_| {}, &Cancel::new()).unwrap().packs_repacked
    };
    assert!(of(&old, &wanted) > 0);
    must_be_sound(&old);
    restic_must_agree(&place, &narrow(&old));
    must_be_restored(&place, &old, &source);
    // restic says they are compressed now, and does nothing about it.
    place.restic_must(&["migrate", "upgrade_repo_v2"]);
    let new = place.open_on(place.folder());
    let wanted = PruneRequest { is_uncompressed_repacked: true, ..PruneRequest::default() };
    assert!(of(&new, &wanted) > 0);
    let wanted = PruneRequest { is_small_repacked: true, ..PruneRequest::default() };
    let _ = of(&new, &wanted);
    assert_eq!(of(&new, &wanted), 0, "a large folder's pack is as large as it can be");
    must_be_sound(&new);
    restic_must_agree(&place, &narrow(&new));
    must_be_restored(&place, &new, &source);
}

#[test]
fn what_of_a_large_folder_is_lost_is_taken_out_as_of_a_small_one() {
    let place = Place::new();
    let source = source(&place);
    let found = narrow(&place.init());
    back_up(&found, &source);
    fs::write(source.join("many/file 99"), "stored last, and alone in its pack").unwrap();
    let packs = || list_all(place.folder().as_ref(), FileKind::Pack).unwrap();
    let before = packs();
    back_up(&found, &source);
    let data = packs().into_iter().filter(|pack| !before.contains(pack)).min_by_key(|it| it.1);
    fs::remove_file(place.path("repository").join(FileKind::Pack.path(&data.unwrap().0))).unwrap();
    copy_folder(&place.path("repository"), &place.path("wide"));
    let wide = place.open_on(Arc::new(Folder::at(&place.path("wide"))));
    let repaired = [&found, &wide].map(|repository| {
        let cancel = Cancel::new();
        repair_index(repository, RepairIndexRequest::default(), &|_| {}, &cancel).unwrap();
        let wanted = RepairSnapshotsRequest { forget: true, ..RepairSnapshotsRequest::default() };
        let report = repair_snapshots(repository, &wanted, &|_| {}, &cancel).unwrap();
        assert_eq!((report.changed.len(), report.changes), (1, 1), "{report:?}");
        must_be_sound(repository);
        roots(repository)
    });
    assert_eq!(repaired[0], repaired[1]);
    restic_must_agree(&place, &found);
}

#[test]
fn a_large_folder_in_a_damaged_pack_is_noticed_and_what_is_whole_is_saved() {
    let place = Place::new();
    let source = source(&place);
    let repository = narrow(&place.init());
    back_up(&repository, &source);
    let packs = list_all(place.folder().as_ref(), FileKind::Pack).unwrap();
    // Every large folder has a pack of its own; the largest is the one of 400 files.
    let broken = |id: &Id| {
        let path = place.path("repository").join(FileKind::Pack.path(id));
        let mut bytes = fs::read(&path).unwrap();
        bytes[100] ^= 1;
        fs::remove_file(&path).unwrap();
        fs::write(path, bytes).unwrap();
    };
    let trees: Vec<_> = packs.iter().filter(|(_, bytes)| *bytes < 60_000).collect();
    let (pack, _) = trees.iter().max_by_key(|(_, bytes)| *bytes).unwrap();
    broken(pack);
    let report = check_all(&repository);
    assert!(!report.is_sound());
    let told = format!("{:?}", report.findings);
    assert!(told.contains(&pack.to_string()) && told.contains("does not fit its seal"), "{told}");
    let copies = place.path("copies");
    fs::create_dir(&copies).unwrap();
    let wanted = packs.iter().map(|(id, _)| *id).collect();
    let wanted = RepairPacksRequest { packs: wanted, copies };
    let report = repair_packs(&repository, &wanted, &|_| {}, &Cancel::new()).unwrap();
    assert_eq!(report.blobs_lost, 1, "{report:?}");
    // The source still has what was lost.
    back_up(&repository, &source);
    must_be_sound(&repository);
    restic_must_agree(&place, &repository);
    must_be_restored(&place, &repository, &source);
}
