//! A place for one test: a source, a repository, and whoever works with them.

#![allow(dead_code)] // Every test file uses its own part of it.

pub mod counting;

use engine_contract::memory::{MIB, MemoryPlan};
use engine_repository::{FileKind, KdfCost};
use engine_storage::{Folder, Storage, list_all};
use engine_transfer::{
    BackupOutcome, BackupRequest, Cancel, CheckReport, CheckRequest, InitRequest, ParentChoice,
    Repository, RestoreOutcome, RestoreRequest, Who, backup, check, find_snapshot, restore,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What does not come in this time will not, however busy the computer is.
pub const PATIENCE: Duration = Duration::from_secs(120);

pub const PASSWORD: &str = "correct horse battery staple";

/// Copies a folder; its files are linked, since nobody changes those of a repository.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if from.is_dir() {
            // 256 folders of packs, most of them empty.
            copy(&from, &to);
        } else {
            fs::hard_link(from, to).unwrap();
        }
    }
}

pub struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// One in a folder that no other test uses: nobody changes the folders around it.
    pub fn apart() -> Self {
        Self { folder: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Three files and two folders.
    pub fn source(&self) -> PathBuf {
        let source = self.path("source");
        fs::create_dir_all(source.join("folder")).unwrap();
        fs::write(source.join("folder/text"), "words ".repeat(400_000)).unwrap();
        fs::write(source.join("folder/noise"), noise(3_000_000, 1)).unwrap();
        fs::write(source.join("empty"), "").unwrap();
        source
    }

    pub fn folder(&self) -> Arc<dyn Storage> {
        Arc::new(Folder::at(&self.path("repository")))
    }

    pub fn init(&self) -> Repository {
        Repository::init_as(self.folder(), PASSWORD, &who(), &plan(), &quick()).unwrap()
    }

    pub fn open_on(&self, storage: Arc<dyn Storage>) -> Repository {
        Repository::open(storage, PASSWORD, &who(), &plan()).unwrap()
    }

    /// Waits until nobody has a lock: a backup that was asked to stop while a call to its
    /// destination took long is left behind, and ends a little later.
    pub fn wait_until_unlocked(&self) {
        let begun = Instant::now();
        while !list_all(self.folder().as_ref(), FileKind::Lock).unwrap().is_empty() {
            assert!(begun.elapsed() < PATIENCE, "a lock stays");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Where a file of the source is after a restore into `target`.
    pub fn restored(&self, target: &Path, name: &str) -> PathBuf {
        target.join(self.path("source").strip_prefix("/").unwrap()).join(name)
    }

    /// Runs restic, the judge.
    pub fn restic(&self, arguments: &[&str]) -> Output {
        Command::new("restic")
            .arg("--no-cache")
            .arg("-r")
            .arg(self.path("repository"))
            .args(arguments)
            .env("RESTIC_PASSWORD", PASSWORD)
            .env("TZ", "UTC")
            .output()
            .expect("restic is installed: apt-get install restic")
    }

    /// Runs restic and panics with all it said unless it is content.
    #[track_caller]
    pub fn restic_must(&self, arguments: &[&str]) -> String {
        let output = self.restic(arguments);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "restic {arguments:?}: {said}\n{complained}");
        said
    }
}

/// A repository like any, but for a password that is quickly tried: tests open it all the time.
pub fn quick() -> InitRequest {
    InitRequest { key_cost: KdfCost { n: 1024, r: 8, p: 1 }, ..InitRequest::default() }
}

pub fn who() -> Who {
    let pid = std::process::id();
    Who { hostname: "box".into(), username: "ann".into(), uid: 0, gid: 0, pid }
}

pub fn plan() -> MemoryPlan {
    MemoryPlan::of(64 * MIB)
}

pub fn request(source: &Path) -> BackupRequest {
    BackupRequest {
        paths: vec![source.into()],
        excludes: Vec::new(),
        tags: vec!["guid:42".into()],
        hostname: "box".into(),
        username: "ann".into(),
        time: jiff::Timestamp::now(),
        zone: jiff::tz::TimeZone::UTC,
        parent: ParentChoice::SameHostAndPaths,
        checkpoint_interval: engine_transfer::CHECKPOINT_INTERVAL,
        program_version: "holdfast 0".into(),
    }
}

#[track_caller]
pub fn back_up(repository: &Repository, source: &Path) -> BackupOutcome {
    backup(repository, &request(source), &|_| {}, &Cancel::new()).unwrap()
}

#[track_caller]
pub fn restore_latest(repository: &Repository, target: &Path) -> RestoreOutcome {
    let request = RestoreRequest { target: target.into(), verify: true, ..Default::default() };
    let snapshot = find_snapshot(repository, "latest").unwrap();
    restore(repository, &snapshot, &request, &|_| {}, &Cancel::new()).unwrap()
}

#[track_caller]
pub fn check_all(repository: &Repository) -> CheckReport {
    check(repository, CheckRequest { read_data: true }, &|_| {}, &Cancel::new()).unwrap()
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..bytes.div_ceil(8)).flat_map(|_| next()).take(bytes).collect()
}
