//! Prune beside backups: what a backup needs that ends between the two phases stays.

mod place;

use engine_repository::{FileKind, Id};
use engine_storage::{Name, PackFile, Result as Stored, Storage, list_all};
use engine_transfer::{
    Cancel, ForgetRequest, MaxUnused, PruneReport, PruneRequest, Repository, TransferError, forget,
    prune,
};
use place::{PATIENCE, Place, back_up, check_all, noise, request};
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

fn everything() -> PruneRequest {
    PruneRequest { max_unused: MaxUnused::Bytes(0), ..PruneRequest::default() }
}

fn prune_all(repository: &Repository) -> Result<PruneReport, TransferError> {
    prune(repository, &everything(), &|_| {}, &Cancel::new())
}

fn with_cache(place: &Place, repository: Repository) -> Repository {
    repository.with_cache(&place.path("caches"))
}

fn packs(place: &Place) -> BTreeSet<Id> {
    let listed = list_all(place.folder().as_ref(), FileKind::Pack).unwrap();
    listed.into_iter().map(|(id, _)| id).collect()
}

/// A backup by restic that has its lock, and waits for what it is to back up.
struct Waiting(Child);

impl Waiting {
    fn begin(place: &Place) -> Self {
        let mut restic = Command::new("restic");
        restic.arg("--no-cache").arg("-r").arg(place.path("repository"));
        restic.args(["backup", "--stdin", "--stdin-filename", "again"]);
        restic.env("RESTIC_PASSWORD", place::PASSWORD);
        let child = restic.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        while list_all(place.folder().as_ref(), FileKind::Lock).unwrap().is_empty() {
            assert!(begun.elapsed() < PATIENCE, "restic takes no lock");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self(child)
    }

    fn end(mut self, content: &[u8]) {
        self.0.stdin.take().unwrap().write_all(content).unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

/// What restic backed up of a file, of half of it, and of something else; only the half and the
/// something are not forgotten.
fn forgotten_by_restic(place: &Place, content: &[u8]) {
    let parts = place.path("parts");
    fs::create_dir(&parts).unwrap();
    fs::write(parts.join("file"), content).unwrap();
    fs::write(parts.join("other"), noise(2_000_000, 8)).unwrap();
    place.restic_must(&["init"]);
    place.restic_must(&["backup", parts.to_str().unwrap()]);
    fs::write(parts.join("file"), &content[..content.len() / 2]).unwrap();
    place.restic_must(&["backup", parts.to_str().unwrap()]);
    place.restic_must(&["forget", "--keep-last", "1"]);
}

#[test]
fn a_backup_of_restic_that_ends_between_the_phases_keeps_the_old_blobs_it_found() {
    for is_cached in [true, false] {
        let place = Place::new();
        let content = noise(9_000_000, 7);
        forgotten_by_restic(&place, &content);
        let mut repository = place.open_on(place.folder());
        if is_cached {
            repository = with_cache(&place, repository);
        }
        let before = packs(&place);
        let restic = Waiting::begin(&place);
        match prune_all(&repository).unwrap_err() {
            TransferError::PruneWaits { is_kept, .. } => assert_eq!(is_kept, is_cached),
            other => panic!("{other}"),
        }
        let copied = packs(&place);
        assert!(copied.is_superset(&before) && copied.len() > before.len(), "phase one removes");
        restic.end(&content);
        let done = prune_all(&repository).unwrap();
        if is_cached {
            assert!(done.packs_spared > 0, "{done:?}");
            assert!(packs(&place).intersection(&copied).count() > 0);
        }
        place.restic_must(&["check", "--read-data"]);
        let dumped = place.restic(&["dump", "latest", "/again"]).stdout;
        assert!(dumped == content, "{} bytes of {}", dumped.len(), content.len());
        // What was spared is tidied up the next time, and nothing else.
        assert_eq!(prune_all(&repository).unwrap().packs_spared, 0);
        let last = prune_all(&repository).unwrap();
        assert_eq!((last.bytes_unused, last.packs_unindexed), (0, 0), "{last:?}");
        place.restic_must(&["check", "--read-data"]);
        assert!(place.restic(&["dump", "latest", "/again"]).stdout == content);
    }
}

#[test]
fn the_next_prune_goes_on_where_one_had_to_wait_unless_others_pruned_or_the_marks_are_damaged() {
    #[derive(Clone, Copy, PartialEq)]
    enum Between {
        Nothing,
        ResticPruned,
        MarksSpoilt,
        MoreForgotten,
    }
    for between in
        [Between::Nothing, Between::ResticPruned, Between::MarksSpoilt, Between::MoreForgotten]
    {
        let place = Place::new();
        forgotten_by_restic(&place, &noise(9_000_000, 7));
        let repository = with_cache(&place, place.open_on(place.folder()));
        let restic = Waiting::begin(&place);
        prune_all(&repository).unwrap_err();
        restic.end(&noise(3_000_000, 9));
        let folder = place.path("caches").join(repository.id().to_string());
        let marks = folder.join("prune-marks-1");
        let written = fs::read(&marks).unwrap();
        match between {
            Between::Nothing => {}
            Between::ResticPruned => drop(place.restic_must(&["prune", "--max-unused", "0"])),
            Between::MarksSpoilt => {
                let mut spoilt = written.clone();
                spoilt[written.len() / 3] ^= 1;
                fs::write(&marks, &spoilt).unwrap();
            }
            Between::MoreForgotten => {
                let all = engine_transfer::snapshots(&repository).unwrap();
                let snapshots = vec![all[0].id.to_string()];
                forget(&repository, &ForgetRequest { snapshots, ..Default::default() }).unwrap();
            }
        }
        let before = packs(&place);
        let done = prune_all(&repository).unwrap();
        let new = packs(&place).difference(&before).count();
        assert!(between != Between::Nothing || new == 0, "it copied again");
        assert_eq!(done.packs_spared, 0);
        assert!(!marks.exists() || fs::read(&marks).unwrap() != written);
        place.restic_must(&["check", "--read-data"]);
        let said = place.restic_must(&["prune", "--max-unused", "0"]);
        assert!(said.contains("0 blobs / 0 B"), "{said}");
        assert!(place.restic(&["dump", "latest", "/again"]).stdout == noise(3_000_000, 9));
    }
}

type Call = Box<dyn FnOnce() + Send>;

/// A storage in whose midst something happens: just before a snapshot is saved.
struct Midst {
    inner: Arc<dyn Storage>,
    call: Mutex<Option<Call>>,
}

impl Storage for Midst {
    fn location(&self) -> String {
        self.inner.location()
    }
    fn create(&self) -> Stored<()> {
        self.inner.create()
    }
    fn list(&self, kind: FileKind, each: &mut dyn FnMut(Id, u64) -> Stored<()>) -> Stored<()> {
        self.inner.list(kind, each)
    }
    fn read(&self, name: Name, bytes_max: u64) -> Stored<Vec<u8>> {
        self.inner.read(name, bytes_max)
    }
    fn read_range(&self, name: Name, offset: u64, buffer: &mut [u8]) -> Stored<()> {
        self.inner.read_range(name, offset, buffer)
    }
    fn write(&self, name: Name, bytes: &[u8]) -> Stored<()> {
        if name.kind == FileKind::Snapshot
            && let Some(call) = self.call.lock().unwrap().take()
        {
            call();
        }
        self.inner.write(name, bytes)
    }
    fn create_pack(&self) -> Stored<Box<dyn PackFile>> {
        self.inner.create_pack()
    }
    fn remove(&self, name: Name) -> Stored<()> {
        self.inner.remove(name)
    }
    fn size(&self, name: Name) -> Stored<Option<u64>> {
        self.inner.size(name)
    }
}

#[test]
fn a_backup_of_ours_that_ends_between_the_phases_keeps_the_old_blobs_it_found() {
    let place = Place::new();
    let source = place.source();
    fs::write(source.join("gone"), noise(5_000_000, 5)).unwrap();
    let repository = with_cache(&place, place.init());
    let first = back_up(&repository, &source).snapshot;
    fs::remove_file(source.join("gone")).unwrap();
    back_up(&repository, &source);
    let snapshots = vec![first.to_string()];
    forget(&repository, &ForgetRequest { snapshots, ..Default::default() }).unwrap();
    fs::write(source.join("gone"), noise(5_000_000, 5)).unwrap();
    fs::write(source.join("new"), noise(1_000_000, 6)).unwrap();
    let pruning = repository.clone();
    let call: Call = Box::new(move || {
        let waits = prune_all(&pruning).unwrap_err();
        assert!(matches!(waits, TransferError::PruneWaits { is_kept: true, .. }), "{waits}");
    });
    let midst = Midst { inner: place.folder(), call: Mutex::new(Some(call)) };
    let beside = place.open_on(Arc::new(midst));
    engine_transfer::backup(&beside, &request(&source), &|_| {}, &Cancel::new()).unwrap();
    let done = prune_all(&repository).unwrap();
    assert!(done.packs_spared > 0, "{done:?}");
    let report = check_all(&repository);
    assert!(report.is_sound(), "{:?}", report.findings);
    place.restic_must(&["check", "--read-data"]);
    prune_all(&repository).unwrap();
    let target = place.path("target");
    assert_eq!(place::restore_latest(&repository, &target).problems_total, 0);
    for name in ["gone", "new", "folder/noise"] {
        let restored = fs::read(place.restored(&target, name)).unwrap();
        assert!(restored == fs::read(source.join(name)).unwrap(), "{name}");
    }
    place.restic_must(&["check", "--read-data"]);
}

#[test]
fn a_lock_is_waited_for_if_asked_and_the_wait_can_be_ended() {
    let place = Place::new();
    forgotten_by_restic(&place, &noise(4_000_000, 7));
    let restic = Waiting::begin(&place);
    let cancel = Cancel::new();
    let hours = Duration::from_secs(3600);
    let repository = place.open_on(place.folder()).with_lock_patience(hours, &cancel);
    let pruning = {
        let repository = repository.clone();
        std::thread::spawn(move || prune_all(&repository))
    };
    restic.end(b"words");
    pruning.join().unwrap().unwrap();
    let restic = Waiting::begin(&place);
    cancel.cancel();
    let forgotten = forget(&repository, &ForgetRequest::default());
    assert!(matches!(forgotten, Err(TransferError::Cancelled)));
    restic.end(b"more");
    place.restic_must(&["check", "--read-data"]);
}
