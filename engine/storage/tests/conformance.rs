//! Every storage, and the one that fails on purpose, keeps the same promises; and what is special
//! about a folder.

use engine_repository::{FileKind, Id};
use engine_storage::testing::{Fault, Faulty, conforms};
use engine_storage::{Doubting, Folder, Name, Storage, StorageError, list_all};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

fn a_folder() -> (tempfile::TempDir, std::path::PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let root = parent.path().join("repository");
    (parent, root)
}

fn a_name(kind: FileKind) -> Name {
    Name::of(kind, Id::of(b"some file"))
}

#[test]
fn a_folder_conforms() {
    let (_parent, root) = a_folder();
    conforms(|| Arc::new(Folder::at(&root)));
}

#[test]
fn a_storage_that_is_looked_after_conforms() {
    let (_parent, root) = a_folder();
    conforms(|| Arc::new(Doubting::around(Arc::new(Folder::at(&root)))));
}

#[test]
fn what_was_confirmed_and_is_not_there_is_told_at_once() {
    let (_parent, root) = a_folder();
    let faulty = Arc::new(Faulty::around(Arc::new(Folder::at(&root))));
    let doubting = Doubting::around(faulty.clone());
    doubting.create().unwrap();
    faulty.inject(Fault::LoseAt(0));
    let answer = doubting.write(a_name(FileKind::Index), b"x");
    assert!(matches!(answer, Err(StorageError::Lost { .. })), "{answer:?}");
    for (lost, is_cut) in [(1, true), (3, false)] {
        faulty.heal();
        faulty.inject(Fault::LoseAt(lost));
        let mut pack = doubting.create_pack().unwrap();
        pack.append(b"one").unwrap();
        pack.append(b"two").unwrap();
        let error = pack.commit(Id::of(&[lost as u8])).unwrap_err();
        match is_cut {
            true => assert!(matches!(error, StorageError::Altered { bytes: 6, found: 3, .. })),
            false => assert!(matches!(error, StorageError::Lost { .. }), "{error:?}"),
        }
        assert!(!error.is_passing(), "a lie is not tried again");
    }
}

#[test]
fn a_listing_that_leaves_out_what_was_just_written_is_told_and_a_removal_is_not() {
    let (_parent, root) = a_folder();
    let faulty = Arc::new(Faulty::around(Arc::new(Folder::at(&root))));
    let doubting = Doubting::around(faulty.clone());
    doubting.create().unwrap();
    faulty.inject(Fault::OldLists(FileKind::Snapshot));
    let name = a_name(FileKind::Snapshot);
    doubting.write(name, b"x").unwrap();
    let listed = list_all(&doubting, FileKind::Snapshot);
    assert!(matches!(listed, Err(StorageError::OldListing { .. })), "{listed:?}");
    Folder::at(&root).remove(name).unwrap();
    assert_eq!(list_all(&doubting, FileKind::Snapshot).unwrap(), [], "another removed it");
}

#[test]
fn the_faulty_storage_conforms_while_nothing_is_injected() {
    let (_parent, root) = a_folder();
    conforms(|| Arc::new(Faulty::around(Arc::new(Folder::at(&root)))));
}

#[test]
fn a_folder_has_restics_layout_and_files_nobody_writes_to() {
    let (_parent, root) = a_folder();
    let folder = Folder::at(&root);
    folder.create().unwrap();
    assert_eq!(fs::read_dir(root.join("data")).unwrap().count(), 256);
    for kind in [FileKind::Key, FileKind::Pack] {
        folder.write(a_name(kind), b"x").unwrap();
        let found = fs::metadata(root.join(a_name(kind).path())).unwrap();
        assert_eq!(found.permissions().mode() & 0o7777, 0o400);
    }
    let id = Id::of(b"some file").to_string();
    assert!(root.join("data").join(&id[..2]).join(&id).is_file());
}

#[test]
fn names_that_are_no_ids_are_passed_over() {
    let (_parent, root) = a_folder();
    let folder = Folder::at(&root);
    folder.create().unwrap();
    let id = Id::of(b"some file").to_string();
    for noise in ["data/ab/tmp-x", "data/README", "data/xyz/f", "locks/@eaDir", "data/tmp-1"] {
        let path = root.join(noise);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"noise").unwrap();
    }
    fs::write(root.join("locks").join(format!("{id}-tmp-12")), b"noise").unwrap();
    fs::create_dir(root.join("locks").join(&id)).unwrap();
    assert_eq!(list_all(&folder, FileKind::Pack).unwrap(), []);
    assert_eq!(list_all(&folder, FileKind::Lock).unwrap(), []);
}

#[test]
fn a_destination_that_vanished_is_gone_and_is_not_made_again() {
    let (_parent, root) = a_folder();
    let folder = Folder::at(&root);
    folder.create().unwrap();
    let pack = folder.create_pack().unwrap();
    fs::remove_dir_all(&root).unwrap();
    let gone = |answer: Result<(), StorageError>| {
        assert!(matches!(answer, Err(StorageError::Gone { .. })), "{answer:?}");
    };
    gone(pack.commit(Id::of(b"pack")));
    gone(folder.write(a_name(FileKind::Pack), b"x"));
    gone(folder.write(Name::CONFIG, b"x"));
    gone(folder.read(a_name(FileKind::Index), 10).map(drop));
    gone(folder.remove(a_name(FileKind::Index)));
    gone(list_all(&folder, FileKind::Snapshot).map(drop));
    gone(folder.size(Name::CONFIG).map(drop));
    gone(folder.create_pack().map(drop));
    assert!(!root.exists(), "nothing was created again");
}

#[test]
fn an_empty_mount_point_in_place_of_the_destination_is_not_written_into() {
    let (_parent, root) = a_folder();
    let folder = Folder::at(&root);
    folder.create().unwrap();
    fs::rename(&root, root.with_extension("unplugged")).unwrap();
    fs::create_dir(&root).unwrap();
    let answer = folder.write(a_name(FileKind::Snapshot), b"x");
    assert!(matches!(answer, Err(StorageError::Gone { .. })), "{answer:?}");
    assert!(matches!(folder.create_pack().map(drop), Err(StorageError::Gone { .. })));
    assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
}

#[test]
fn a_missing_shelf_of_a_repository_that_is_there_is_made_again() {
    let (_parent, root) = a_folder();
    let folder = Folder::at(&root);
    folder.create().unwrap();
    fs::remove_dir_all(root.join("data")).unwrap();
    fs::remove_dir(root.join("locks")).unwrap();
    assert_eq!(list_all(&folder, FileKind::Lock).unwrap(), []);
    assert_eq!(list_all(&folder, FileKind::Pack).unwrap(), []);
    for kind in [FileKind::Pack, FileKind::Lock] {
        folder.write(a_name(kind), b"x").unwrap();
        assert_eq!(folder.read(a_name(kind), 1).unwrap(), b"x");
    }
}

#[test]
fn a_parent_that_does_not_exist_is_not_created_for_a_new_repository() {
    let (parent, _) = a_folder();
    let folder = Folder::at(&parent.path().join("not/mounted/repository"));
    assert!(matches!(folder.create(), Err(StorageError::Gone { .. })));
    assert!(!parent.path().join("not").exists());
}

#[test]
fn a_full_disk_is_called_full() {
    // `/dev/full` is Linux's own full disk; a shelf that is a link to its folder cannot be made,
    // so the error is taken where it arises.
    let (_parent, root) = a_folder();
    let folder = Arc::new(Folder::at(&root));
    folder.create().unwrap();
    let faulty = Faulty::around(folder);
    faulty.inject(Fault::FullFrom(1));
    let mut pack = faulty.create_pack().unwrap();
    let answer = pack.append(b"x");
    assert!(matches!(answer, Err(StorageError::Full { .. })), "{answer:?}");
    drop(pack);
    assert_eq!(leftovers(&root), 0);
    assert!(answer.unwrap_err().remedy().contains("Free space"));
}

#[test]
fn an_open_pack_that_is_dropped_leaves_nothing() {
    let (_parent, root) = a_folder();
    let folder = Folder::at(&root);
    folder.create().unwrap();
    let mut pack = folder.create_pack().unwrap();
    pack.append(&[1; 10_000]).unwrap();
    assert_eq!(leftovers(&root), 1);
    drop(pack);
    assert_eq!(leftovers(&root), 0);
}

#[test]
fn old_temporary_files_are_swept_and_young_ones_left_alone() {
    let (_parent, root) = a_folder();
    Folder::at(&root).create().unwrap();
    let old = fs::File::create(root.join("data/tmp-old")).unwrap();
    let two_days_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(48 * 3600);
    old.set_modified(two_days_ago).unwrap();
    fs::write(root.join("data/tmp-young"), b"").unwrap();
    drop(Folder::at(&root).create_pack().unwrap());
    assert!(!root.join("data/tmp-old").exists());
    assert!(root.join("data/tmp-young").exists());
}

fn leftovers(root: &Path) -> usize {
    let is_temporary = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with("tmp-");
    let entries = fs::read_dir(root.join("data")).unwrap();
    entries.filter(|entry| is_temporary(&entry.as_ref().unwrap().file_name())).count()
}
