//! A repository on an SSH server keeps the promises of every storage: judged by OpenSSH's own
//! server, over good lines and bad ones; and each of its refusals is a sentence of its own.

#[path = "../rest/bad_line.rs"]
mod bad_line;

use bad_line::BadLine;
use engine_repository::{FileKind, Id};
use engine_storage::testing::{QuickClock, conforms};
use engine_storage::{
    Name, Patience, Persistence, Retrying, Sftp, SftpAddress, SshProgram, Storage, StorageError,
    list_all,
};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tests_support::{SshServer, sftp_server};

/// A repository on the server, reached through `line`.
fn through(server: &SshServer, line: SocketAddr, path: &str, program: SshProgram) -> Sftp {
    let path = server.folder().join(path);
    let text = format!("//127.0.0.1:{}/{}", line.port(), path.display());
    let address = SftpAddress::parse(&text).unwrap();
    Sftp::at(address, program, &std::env::temp_dir(), Patience::default())
}

fn logs_in(server: &SshServer, key: &str, known: &str) -> SshProgram {
    let arguments = server.words(key, known).into_iter().map(Into::into).collect();
    SshProgram { path: server.client(), arguments }
}

fn at(server: &SshServer, path: &str) -> Sftp {
    through(server, server.address, path, logs_in(server, "mine", "known"))
}

fn untiring() -> Persistence {
    let clock = Arc::new(QuickClock::default());
    let time_max = Duration::from_secs(1_000_000);
    Persistence { clock, time_max, time_unseen_max: time_max, ..Persistence::default() }
}

#[test]
fn an_ssh_server_conforms() {
    let server = SshServer::start(&sftp_server());
    conforms(|| Arc::new(at(&server, "some/repository")));
}

#[test]
fn an_ssh_server_conforms_over_a_line_that_breaks_when_we_try_again() {
    let server = SshServer::start(&sftp_server());
    let line = BadLine::to(server.address, 200_000, 600_000);
    conforms(|| {
        let sftp = through(&server, line.address, "repository", logs_in(&server, "mine", "known"));
        Arc::new(Retrying::around(Arc::new(sftp), untiring()))
    });
    assert!(line.cuts() > 5, "the line broke only {} times", line.cuts());
}

#[test]
fn packs_of_many_megabytes_arrive_as_they_are_and_leave_no_temporary_file() {
    let server = SshServer::start(&sftp_server());
    let storage = at(&server, "repository");
    storage.create().unwrap();
    let bytes: Vec<u8> = (0..5_000_000u32).flat_map(|number| number.to_le_bytes()).collect();
    let id = Id::of(&bytes);
    for _ in 0..2 {
        let mut pack = storage.create_pack().unwrap();
        for piece in bytes.chunks(77_777) {
            pack.append(piece).unwrap();
        }
        pack.commit(id).unwrap();
    }
    let name = Name::of(FileKind::Pack, id);
    let data = server.folder().join("repository/data");
    assert_eq!(std::fs::read(server.folder().join("repository").join(name.path())).unwrap(), bytes);
    let left = std::fs::read_dir(data).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(left.collect::<Vec<_>>(), [&id.to_string()[..2]], "a folder of packs, nothing else");
    let mut middle = vec![0; 3_000_000];
    storage.read_range(name, 12_345_678, &mut middle).unwrap();
    assert!(middle == bytes[12_345_678..15_345_678]);
    assert_eq!(list_all(&storage, FileKind::Pack).unwrap(), [(id, 20_000_000)]);
}

#[test]
fn more_files_are_open_and_closed_than_a_server_allows_at_one_time() {
    let server = SshServer::start(&sftp_server());
    let storage = at(&server, "repository");
    storage.create().unwrap();
    let name = Name::of(FileKind::Index, Id::of(b"read again and again"));
    storage.write(name, b"read again and again").unwrap();
    for _ in 0..3000 {
        let mut buffer = [0; 5];
        storage.read_range(name, 5, &mut buffer).unwrap();
        assert_eq!(&buffer, b"again");
    }
}

#[test]
fn a_repository_that_was_deleted_is_gone_and_is_not_made_again_by_a_write() {
    let server = SshServer::start(&sftp_server());
    let storage = at(&server, "repository");
    storage.create().unwrap();
    storage.write(Name::CONFIG, b"config").unwrap();
    assert_eq!(list_all(&storage, FileKind::Snapshot).unwrap(), []);
    let place = server.folder().join("repository");
    std::fs::remove_dir_all(&place).unwrap();
    for kind in [FileKind::Snapshot, FileKind::Pack] {
        let listed = list_all(&storage, kind);
        assert!(matches!(listed, Err(StorageError::Gone { .. })), "{listed:?}");
    }
    let written = storage.write(Name::of(FileKind::Lock, Id::of(b"a lock")), b"a lock");
    assert!(matches!(written, Err(StorageError::Gone { .. })), "{written:?}");
    let mut pack = storage.create_pack().unwrap();
    pack.append(b"a pack").unwrap();
    let settled = pack.commit(Id::of(b"a pack"));
    assert!(matches!(settled, Err(StorageError::Gone { .. })), "{settled:?}");
    assert!(!place.exists());
}

#[test]
fn each_way_not_to_get_in_is_a_sentence_of_its_own() {
    let server = SshServer::start(&sftp_server());
    let told = |storage: Sftp| {
        let error = storage.size(Name::CONFIG).unwrap_err();
        assert!(error.is_of_destination(), "{error:?}");
        error
    };
    let with = |key, known| through(&server, server.address, "r", logs_in(&server, key, known));
    let strange = told(with("strange", "known"));
    assert!(matches!(strange, StorageError::LoginRefused { .. }), "{strange:?}");
    assert!(strange.remedy().contains("ssh-keygen") && !strange.is_passing());
    let unknown = told(with("mine", "known-otherwise"));
    assert!(matches!(unknown, StorageError::HostUnknown { .. }), "{unknown:?}");
    assert!(unknown.remedy().contains("by hand") && !unknown.is_passing());
    let path = "/nowhere/ssh".into();
    let missing = SshProgram { path, arguments: Vec::new() };
    let missing = told(through(&server, server.address, "r", missing));
    assert!(missing.to_string().contains("/nowhere/ssh"), "{missing}");
    assert!(missing.remedy().contains("OpenSSH") && !missing.is_passing());
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, program) = (nobody.local_addr().unwrap(), logs_in(&server, "mine", "known"));
    drop(nobody);
    let away = told(through(&server, address, "r", program));
    assert!(matches!(away, StorageError::Unreachable { .. }) && away.is_passing(), "{away:?}");
}

#[test]
fn a_server_that_speaks_no_sftp_is_none_of_ours() {
    for subsystem in ["/bin/false", "/bin/echo hello, who are you?"] {
        let server = SshServer::start(subsystem);
        let error = at(&server, "repository").size(Name::CONFIG).unwrap_err();
        let is_told =
            matches!(error, StorageError::Foreign { .. } | StorageError::Unreachable { .. });
        assert!(is_told, "{subsystem}: {error:?}");
    }
}

#[test]
fn what_a_kill_left_half_written_is_swept_away_a_day_later_and_nothing_else() {
    let server = SshServer::start(&sftp_server());
    at(&server, "repository").create().unwrap();
    let data = server.folder().join("repository/data");
    let day = Duration::from_secs(24 * 60 * 60);
    let now = std::time::SystemTime::now();
    let files = [("tmp-old", 2 * day), ("tmp-of-today", day / 2), ("a-note-of-the-owner", 2 * day)];
    for (name, age) in files {
        let file = std::fs::File::create(data.join(name)).unwrap();
        file.set_modified(now - age).unwrap();
    }
    let storage = at(&server, "repository");
    let mut pack = storage.create_pack().unwrap();
    pack.append(b"a pack").unwrap();
    pack.commit(Id::of(b"a pack")).unwrap();
    let left = files.map(|(name, _)| data.join(name).exists());
    assert_eq!(left, [false, true, true]);
}

#[test]
fn a_full_disk_on_the_server_is_called_full_and_leaves_no_half_a_pack() {
    let root = nix::unistd::geteuid().is_root();
    let spaces = if root { "unshare --mount" } else { "unshare --map-root-user --mount" };
    let disk = tempfile::tempdir().unwrap();
    let mount = format!("mount -t tmpfs -o size=3m small '{}'", disk.path().display());
    let script = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&script, format!("{mount} && exec {}", sftp_server())).unwrap();
    let server = SshServer::start(&format!("{spaces} sh {}", script.path().display()));
    let storage = at(&server, disk.path().join("repository").to_str().unwrap());
    storage.create().unwrap();
    let bytes = vec![7; 8 << 20];
    for _ in 0..2 {
        let mut pack = storage.create_pack().unwrap();
        pack.append(&bytes).unwrap();
        let settled = pack.commit(Id::of(&bytes));
        assert!(matches!(settled, Err(StorageError::Full { .. })), "{settled:?}");
    }
    assert_eq!(list_all(&storage, FileKind::Pack).unwrap(), []);
    // What half a pack took is free again.
    let name = Name::of(FileKind::Index, Id::of(b"an index"));
    storage.write(name, &bytes[..1 << 20]).unwrap();
    assert_eq!(storage.size(name).unwrap(), Some(1 << 20));
}
