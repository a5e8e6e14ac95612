//! A repository on a REST server keeps the promises of every storage: judged by the server restic's
//! authors wrote, over good lines and bad ones, and by servers that lie.

mod bad_line;
mod lies;

use bad_line::BadLine;
use engine_repository::{FileKind, Id};
use engine_storage::testing::{QuickClock, conforms_where_names_are_sums};
use engine_storage::{
    Address, Clock, Name, Patience, Persistence, Rest, Retrying, Storage, StorageError, list_all,
};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tests_support::RestServer;

fn rest(url: &str) -> Rest {
    Rest::at(Address::parse(url).unwrap(), &std::env::temp_dir(), Patience::default())
}

fn at(address: SocketAddr, path: &str) -> Rest {
    rest(&format!("http://{address}/{path}"))
}

fn untiring() -> Persistence {
    let clock = Arc::new(QuickClock::default());
    let time_max = Duration::from_secs(1_000_000);
    Persistence { clock, time_max, time_unseen_max: time_max, ..Persistence::default() }
}

/// What the suite writes is not named by its sum, so the server may not look.
const UNVERIFIED: &[&str] = &["--no-verify-upload"];

#[test]
fn a_rest_server_conforms() {
    let server = RestServer::start(UNVERIFIED, None);
    conforms_where_names_are_sums(|| Arc::new(at(server.address, "repository")));
}

#[test]
fn a_rest_server_conforms_over_a_line_that_breaks_when_we_try_again() {
    let server = RestServer::start(UNVERIFIED, None);
    let line = BadLine::to(server.address, 3000, 600_000);
    conforms_where_names_are_sums(|| {
        Arc::new(Retrying::around(Arc::new(at(line.address, "repository")), untiring()))
    });
    assert!(line.cuts() > 50, "the line broke only {} times", line.cuts());
}

#[test]
fn packs_of_many_megabytes_arrive_as_they_are_and_leave_no_temporary_file() {
    let server = RestServer::start(&[], None);
    let scratch = tempfile::tempdir().unwrap();
    let address = Address::parse(&format!("http://{}/a/b", server.address)).unwrap();
    let storage = Rest::at(address, scratch.path(), Patience::default());
    storage.create().unwrap();
    let bytes: Vec<u8> = (0..5_000_000u32).flat_map(|number| number.to_le_bytes()).collect();
    let id = Id::of(&bytes);
    for _ in 0..2 {
        let mut pack = storage.create_pack().unwrap();
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0, "it has no name");
        for piece in bytes.chunks(77_777) {
            pack.append(piece).unwrap();
        }
        pack.commit(id).unwrap();
    }
    let name = Name::of(FileKind::Pack, id);
    assert_eq!(std::fs::read(server.folder().join("a/b").join(name.path())).unwrap(), bytes);
    let mut middle = vec![0; 3_000_000];
    storage.read_range(name, 12_345_678, &mut middle).unwrap();
    assert!(middle == bytes[12_345_678..15_345_678]);
    assert_eq!(list_all(&storage, FileKind::Pack).unwrap(), [(id, 20_000_000)]);
}

#[test]
fn a_file_that_was_changed_on_its_way_is_not_taken_by_the_server() {
    let server = RestServer::start(&[], None);
    let storage = at(server.address, "repository");
    storage.create().unwrap();
    let name = Name::of(FileKind::Index, Id::of(b"what was meant"));
    let answer = storage.write(name, b"what arrived");
    assert!(matches!(answer, Err(StorageError::ServerFailed { status: 400, .. })), "{answer:?}");
    // On a line of its own: the server may close one on which it refused something.
    assert_eq!(at(server.address, "repository").size(name).unwrap(), None);
}

#[test]
fn a_user_needs_the_password_and_no_message_holds_it() {
    // The sum of `se:c/r@t`, as `htpasswd -s` writes it.
    let line = "alice:{SHA}SNWJPhTAHOXx+48aLrtOliMf8Uc=";
    let server = RestServer::start(&["--private-repos"], Some(line));
    let host = server.address;
    let good = rest(&format!("http://alice:se%3Ac%2Fr%40t@{host}/alice/photos"));
    good.create().unwrap();
    good.write(Name::CONFIG, b"config").unwrap();
    assert_eq!(good.read(Name::CONFIG, 10).unwrap(), b"config");
    let wrong = rest(&format!("http://alice:wrong-one@{host}/alice/photos"));
    let none = at(host, "alice/photos");
    let elsewhere = rest(&format!("http://alice:se%3Ac%2Fr%40t@{host}/bob/photos"));
    for storage in [wrong, none, elsewhere] {
        for answer in [storage.create(), storage.size(Name::CONFIG).map(drop)] {
            let error = answer.unwrap_err();
            assert!(matches!(error, StorageError::Unauthorized { .. }), "{error:?}");
            assert!(!error.is_passing(), "asking again changes nothing");
            let told = format!("{error} {error:?} {}", storage.location());
            assert!(!told.contains("wrong-one") && !told.contains("%40t"), "{told}");
        }
    }
}

#[test]
fn a_server_that_only_takes_more_is_told_from_one_that_has_the_name() {
    let server = RestServer::start(&["--append-only"], None);
    let storage = at(server.address, "repository");
    storage.create().unwrap();
    let (pack, lock) = (Id::of(b"pack"), Id::of(b"lock"));
    storage.write(Name::of(FileKind::Pack, pack), b"pack").unwrap();
    storage.write(Name::of(FileKind::Lock, lock), b"lock").unwrap();
    let again = storage.write(Name::of(FileKind::Pack, pack), b"pack");
    assert!(matches!(again, Err(StorageError::AlreadyExists { .. })), "{again:?}");
    let removed = storage.remove(Name::of(FileKind::Pack, pack));
    assert!(matches!(removed, Err(StorageError::Forbidden { .. })), "{removed:?}");
    storage.remove(Name::of(FileKind::Lock, lock)).unwrap();
    assert!(removed.unwrap_err().remedy().contains("append-only"));
}

#[test]
fn a_quota_that_is_reached_is_called_full_and_not_tried_again() {
    let server = RestServer::start(&["--max-size", "100000"], None);
    let retrying = Retrying::around(Arc::new(at(server.address, "repository")), untiring());
    retrying.create().unwrap();
    let bytes = vec![7; 1_000_000];
    let mut pack = retrying.create_pack().unwrap();
    pack.append(&bytes).unwrap();
    let answer = pack.commit(Id::of(&bytes));
    assert!(matches!(answer, Err(StorageError::Full { .. })), "{answer:?}");
    assert_eq!(list_all(&retrying, FileKind::Pack).unwrap(), []);
}

#[test]
fn a_repository_that_was_deleted_is_gone_and_not_empty() {
    let server = RestServer::start(&[], None);
    let storage = at(server.address, "repository");
    storage.create().unwrap();
    storage.write(Name::CONFIG, b"config").unwrap();
    assert_eq!(list_all(&storage, FileKind::Snapshot).unwrap(), []);
    std::fs::remove_dir_all(server.folder().join("repository")).unwrap();
    let listed = list_all(&storage, FileKind::Snapshot);
    assert!(matches!(listed, Err(StorageError::Gone { .. })), "{listed:?}");
    assert_eq!(storage.size(Name::CONFIG).unwrap(), None);
}

#[test]
fn a_server_that_was_stopped_is_unreachable_for_as_long_as_we_try() {
    let server = RestServer::start(&[], None);
    let storage = Arc::new(at(server.address, "repository"));
    let clock = Arc::new(QuickClock::default());
    let persistence = Persistence { clock: clock.clone(), ..Persistence::default() };
    let retrying = Retrying::around(storage, persistence);
    retrying.create().unwrap();
    drop(server);
    let answer = retrying.size(Name::CONFIG);
    assert!(matches!(answer, Err(StorageError::Unreachable { .. })), "{answer:?}");
    let waited = clock.now();
    let (least, most) = (Duration::from_secs(13 * 60), Duration::from_secs(15 * 60));
    assert!((least..=most).contains(&waited), "waited {waited:?}");
}
