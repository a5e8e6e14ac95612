//! What the engine writes is a repository that stock restic finds nothing wrong with.

mod restic;

use engine_contract::memory::{MIB, MemoryPlan};
use engine_storage::{Folder, Storage};
use engine_transfer::{
    BackupOutcome, BackupRequest, Cancel, ParentChoice, Repository, TransferError, Who, backup,
};
use restic::{PASSWORD, Restic};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A place for one test: a source, a repository, and whoever works with them.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn source(&self) -> PathBuf {
        let source = self.path("source");
        fs::create_dir_all(source.join("folder")).unwrap();
        fs::write(source.join("folder/text"), "words ".repeat(400_000)).unwrap();
        fs::write(source.join("empty"), "").unwrap();
        source
    }

    fn storage(&self) -> Arc<dyn Storage> {
        Arc::new(Folder::at(&self.path("repository")))
    }

    fn init(&self) -> Repository {
        Repository::init(self.storage(), PASSWORD, &who(), &plan()).unwrap()
    }

    fn restic(&self) -> Restic {
        Restic::on(&self.path("repository"))
    }
}

fn who() -> Who {
    Who { hostname: "box".into(), username: "ann".into(), uid: 0, gid: 0, pid: std::process::id() }
}

fn plan() -> MemoryPlan {
    MemoryPlan::of(64 * MIB)
}

fn request(source: &Path) -> BackupRequest {
    BackupRequest {
        paths: vec![source.into()],
        excludes: Vec::new(),
        tags: vec!["guid:42".into()],
        hostname: "box".into(),
        username: "ann".into(),
        time: jiff::Timestamp::now(),
        zone: jiff::tz::TimeZone::UTC,
        parent: ParentChoice::SameHostAndPaths,
        program_version: "holdfast 0".into(),
    }
}

fn back_up(repository: &Repository, source: &Path) -> BackupOutcome {
    backup(repository, &request(source), &|_| {}, &Cancel::new()).unwrap()
}

#[test]
fn restic_finds_nothing_wrong_with_what_we_wrote_and_can_restore_it() {
    let place = Place::new();
    let source = place.source();
    let outcome = back_up(&place.init(), &source);
    assert_eq!((outcome.files_new, outcome.problems_total), (2, 0));
    place.restic().must(&["check", "--read-data"]);
    let target = place.path("target");
    place.restic().must(&["restore", "latest", "--verify", "--target", target.to_str().unwrap()]);
    let restored = target.join(source.strip_prefix("/").unwrap());
    assert_eq!(
        fs::read(restored.join("folder/text")).unwrap(),
        fs::read(source.join("folder/text")).unwrap()
    );
}

#[test]
fn a_second_run_reads_no_file_and_adds_nothing() {
    let place = Place::new();
    let source = place.source();
    let repository = place.init();
    let first = back_up(&repository, &source);
    let second = back_up(&repository, &source);
    assert_eq!(second.parent, Some(first.snapshot));
    assert_eq!((second.files_unmodified, second.bytes_read), (2, 0));
    assert_eq!(second.data_blobs, 0);
    // The folder for temporary files is on the way to the source, and others use it, too.
    assert!(second.tree_blobs <= 1, "{second:?}");
}

#[test]
fn a_wrong_password_and_a_place_without_a_repository_are_told_apart() {
    let place = Place::new();
    let open = |password| Repository::open(place.storage(), password, &who(), &plan()).map(|_| ());
    assert!(matches!(open(PASSWORD), Err(TransferError::NoRepository { .. })));
    place.init();
    assert!(open(PASSWORD).is_ok());
    assert!(matches!(open("wrong"), Err(TransferError::WrongPassword { .. })));
    let again = Repository::init(place.storage(), PASSWORD, &who(), &plan()).map(|_| ());
    assert!(matches!(again, Err(TransferError::RepositoryExists { .. })));
}
