//! A folder when the power fails, the disk is full or goes away: at every single system call, made
//! to happen by `strace`, which stops or refuses the n-th call of a process of our own.

use engine_repository::{FileKind, Id};
use engine_storage::{Folder, Name, Storage, StorageError, list_all};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the process that is made to fail finds the folder it works in.
const ROOM: &str = "HOLDFAST_TEST_POWER_CUT";

/// No run of the small work makes more calls of a kind.
const CALLS_MAX: usize = 60;

const PACK: &[u8] = &[7; 10_000];
const INDEX: &[u8] = b"an index";

fn pack() -> Name {
    Name::of(FileKind::Pack, Id::of(PACK))
}

fn index() -> Name {
    Name::of(FileKind::Index, Id::of(INDEX))
}

fn old_index() -> Name {
    Name::of(FileKind::Index, Id::of(b"an old index"))
}

/// What is made to fail: a pack, an index that names it, and the removal of an older index.
fn work(folder: &Folder) -> Result<(), StorageError> {
    let mut open = folder.create_pack()?;
    open.append(PACK)?;
    open.commit(pack().id)?;
    folder.write(index(), INDEX)?;
    folder.remove(old_index())
}

/// Does nothing by itself; in a process of its own it is the one that fails.
#[test]
fn the_one_who_works() {
    let Some(root) = std::env::var_os(ROOM).map(PathBuf::from) else { return };
    match work(&Folder::at(&root)) {
        Ok(()) => println!("\nended: done"),
        Err(error) => println!("\nended: {error:?}\nremedy: {}", error.remedy()),
    }
}

fn a_repository(parent: &Path) -> PathBuf {
    let root = parent.join("repository");
    let folder = Folder::at(&root);
    folder.create().unwrap();
    folder.write(Name::CONFIG, b"config").unwrap();
    folder.write(old_index(), b"an old index").unwrap();
    root
}

/// Runs the work in a process of its own under `strace`; what it said, and the trace.
fn traced(root: &Path, flags: &[&str]) -> (String, String) {
    let trace = root.with_extension("trace");
    let ended = Command::new("strace")
        .args(["-f", "-y", "-qq", "-o"])
        .arg(&trace)
        .args(flags)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "the_one_who_works", "--nocapture", "--test-threads=1"])
        .env(ROOM, root)
        .output()
        .expect("these tests need strace");
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    (said, std::fs::read_to_string(trace).unwrap())
}

const CALLS: [&str; 4] = ["fsync", "link,linkat", "unlink,unlinkat", "write"];

#[test]
fn bytes_are_synced_before_their_name_and_the_name_before_the_answer() {
    let parent = tempfile::tempdir().unwrap();
    let root = a_repository(parent.path());
    let calls = "trace=fsync,fdatasync,link,linkat,rename,renameat2,unlink,unlinkat";
    let (said, trace) = traced(&root, &["-e", calls]);
    assert!(said.contains("ended: done"), "{said}");
    let steps: Vec<&str> = trace
        .lines()
        .filter(|line| line.contains(root.to_str().unwrap()))
        .map(|line| match line {
            line if line.contains("fsync(") && line.contains("tmp-") => "sync the bytes",
            line if line.contains("fsync(") => "sync the folder",
            line if line.contains("unlink") && line.contains("tmp-") => "remove the old name",
            line if line.contains("unlink") => "remove",
            line if line.contains("link") => "give the name",
            line => panic!("{line}"),
        })
        .collect();
    let a_file = ["sync the bytes", "give the name", "sync the folder", "remove the old name"];
    let wanted = [&a_file[..], &a_file[..], &["remove", "sync the folder"]].concat();
    assert_eq!(steps, wanted, "{trace}");
}

#[test]
fn a_process_that_ends_at_any_call_leaves_whole_files_or_none() {
    for calls in CALLS {
        let mut cuts = 0;
        for step in 1..CALLS_MAX {
            let parent = tempfile::tempdir().unwrap();
            let root = a_repository(parent.path());
            let cut = format!("inject={calls}:signal=KILL:when={step}");
            let (said, _) = traced(&root, &["-e", &format!("trace={calls}"), "-e", &cut]);
            let is_done = said.contains("ended: done");
            cuts += usize::from(!is_done);
            let folder = Folder::at(&root);
            for (name, bytes) in [(pack(), PACK), (index(), INDEX)] {
                match folder.read(name, 1 << 20) {
                    Ok(found) => assert!(found == bytes, "{calls} {step}: {name}"),
                    Err(StorageError::NotFound { .. }) => assert!(!is_done, "{calls} {step}"),
                    Err(error) => panic!("{calls} {step}: {error:?}"),
                }
            }
            let has = |name| folder.size(name).unwrap().is_some();
            assert!(has(pack()) || !has(index()), "{calls} {step}: an index without its pack");
            assert!(has(index()) || has(old_index()), "{calls} {step}: no index at all");
            for kind in FileKind::LISTED {
                list_all(&folder, kind).unwrap();
            }
            if is_done {
                break;
            }
        }
        assert!(cuts > 0, "{calls} was never cut");
    }
}

/// Refuses every call of a kind from the n-th on, for every n, until the work is done.
fn refused(calls: &str, error: &str, is_expected: impl Fn(&str) -> bool) {
    let mut refusals = 0;
    for step in 1..CALLS_MAX {
        let parent = tempfile::tempdir().unwrap();
        let root = a_repository(parent.path());
        let refuse = format!("inject={calls}:error={error}:when={step}+");
        let (said, _) = traced(&root, &["-e", &format!("trace={calls}"), "-e", &refuse]);
        if said.contains("ended: done") {
            break;
        }
        refusals += 1;
        assert!(is_expected(&said), "{calls} {error} {step}: {said}");
        assert!(said.contains("remedy: "), "{said}");
        let folder = Folder::at(&root);
        for (name, bytes) in [(pack(), PACK), (index(), INDEX)] {
            if let Ok(found) = folder.read(name, 1 << 20) {
                assert!(found == bytes, "{calls} {error} {step}: {name}");
            }
        }
        work(&folder).or_else(already).expect("the next run works");
    }
    assert!(refusals > 0, "{calls} was never refused");
}

/// What a run before it finished is met by the next, which knows.
fn already(error: StorageError) -> Result<(), StorageError> {
    match error {
        StorageError::AlreadyExists { .. } | StorageError::NotFound { .. } => Ok(()),
        error => Err(error),
    }
}

#[test]
fn a_disk_that_fails_to_sync_is_never_believed() {
    refused("fsync", "EIO", |said| said.contains("Io {") && said.contains("sync"));
}

#[test]
fn a_volume_that_became_read_only_is_named_with_its_remedy() {
    refused("fsync", "EROFS", |said| said.contains("Denied") && said.contains("read-only"));
}

#[test]
fn a_quota_that_shows_only_when_syncing_is_called_full() {
    refused("fsync", "EDQUOT", |said| said.contains("Full"));
}

#[test]
fn files_of_no_bytes_that_a_power_cut_left_are_told_from_files() {
    let parent = tempfile::tempdir().unwrap();
    let root = a_repository(parent.path());
    let folder = Folder::at(&root);
    let path = root.join(pack().path());
    std::fs::write(&path, b"").unwrap();
    let error = work(&folder).unwrap_err();
    assert!(matches!(error, StorageError::AlreadyExists { .. }), "{error:?}");
    assert_eq!(list_all(&folder, FileKind::Pack).unwrap(), [(pack().id, 0)], "`check` sees it");
    let short = folder.read_range(pack(), 0, &mut [0; 4]);
    assert!(matches!(short, Err(StorageError::Short { .. })), "{short:?}");
    std::fs::write(root.join("data/tmp-cut"), b"").unwrap();
    assert_eq!(list_all(&folder, FileKind::Pack).unwrap().len(), 1, "on its way in is no file");
    folder.remove(pack()).unwrap();
    work(&folder).unwrap();
}
