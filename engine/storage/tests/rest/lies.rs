//! Servers that lie, break off or take their time are noticed, and never believed.

use engine_repository::{FileKind, Id};
use engine_storage::{Address, Name, Patience, Rest, Result, Storage, StorageError, list_all};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

const NAME: Name = Name::of(FileKind::Snapshot, Id::ZERO);

/// How long a test waits for a server that answers, however busy the computer is.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it waits for one that does not.
const NO_PATIENCE: Duration = Duration::from_millis(300);

/// A server that gives this answer to every request, whatever it says, and hangs up.
fn answering(answer: impl Into<Vec<u8>>) -> Rest {
    let answer = answer.into();
    let serve = move |client: &mut TcpStream| {
        let _ = client.write_all(&answer);
    };
    served_by(serve, PATIENCE)
}

fn served_by(serve: impl Fn(&mut TcpStream) + Send + 'static, patience: Duration) -> Rest {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte).is_ok_and(|n| n == 1) {
                head.push(byte[0]);
            }
            serve(&mut client);
            let _ = client.shutdown(Shutdown::Both);
        }
    });
    let patience = Patience {
        connect: PATIENCE,
        idle: patience,
        listing: patience,
        bytes_per_second_min: 1 << 40,
    };
    let address = Address::parse(&format!("http://me:secret@{address}/")).unwrap();
    Rest::at(address, &std::env::temp_dir(), patience)
}

fn http(head: &str, body: &str) -> String {
    format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn read(storage: &Rest) -> Result<Vec<u8>> {
    storage.read(NAME, 1000)
}

fn range(storage: &Rest) -> Result<()> {
    storage.read_range(NAME, 10, &mut [0; 5])
}

#[test]
fn a_body_shorter_than_it_was_promised_is_a_broken_line() {
    let cut = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this";
    let answer = read(&answering(cut));
    assert!(matches!(answer, Err(StorageError::Unreachable { .. })), "{answer:?}");
    let cut = "HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\n\r\n1234";
    let answer = range(&answering(cut));
    assert!(matches!(answer, Err(StorageError::Unreachable { .. })), "{answer:?}");
}

#[test]
fn a_part_that_is_not_the_one_asked_for_is_refused() {
    let wrong = [
        http("200 OK", "0123456789abcdef"),
        http("206 Partial Content", "123456"),
        http("206 Partial Content\r\nContent-Range: bytes 0-4/20", "12345"),
        "HTTP/1.1 206 Partial Content\r\n\r\n12345".into(),
    ];
    for text in wrong {
        let answer = range(&answering(text.as_str()));
        assert!(matches!(answer, Err(StorageError::Foreign { .. })), "{text}: {answer:?}");
    }
    for text in [http("206 Partial Content", "1234"), http("416 No", "")] {
        let answer = range(&answering(text.as_str()));
        assert!(matches!(answer, Err(StorageError::Short { .. })), "{text}: {answer:?}");
    }
    range(&answering(http("206 Yes\r\nContent-Range: bytes 10-14/20", "12345"))).unwrap();
}

#[test]
fn a_file_without_a_length_or_larger_than_any_is_not_read() {
    let endless = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
    assert!(matches!(read(&answering(endless)), Err(StorageError::Foreign { .. })));
    let huge = "HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\nabc";
    assert!(matches!(read(&answering(huge)), Err(StorageError::TooLarge { bytes: 1001, .. })));
}

#[test]
fn a_listing_that_breaks_off_or_is_no_listing_is_never_a_short_list() {
    let id = "a".repeat(64);
    let whole = format!("[{{\"name\":\"{id}\",\"size\":3}},{{\"name\":\"x\",\"size\":1}}]");
    let list = |text: String| list_all(&answering(text), FileKind::Pack);
    assert_eq!(list(http("200 OK", &whole)).unwrap(), [(id.parse().unwrap(), 3)]);
    for cut in [http("200 OK", &whole[..whole.len() - 1]), http("200 OK", "")] {
        let answer = list(cut);
        assert!(matches!(answer, Err(StorageError::Foreign { .. })), "{answer:?}");
    }
    let promised = format!("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{whole}");
    assert!(matches!(list(promised), Err(StorageError::Unreachable { .. })));
    let closed = format!("HTTP/1.1 200 OK\r\n\r\n{}", &whole[..50]);
    assert!(list(closed).is_err(), "the end of the connection is not the end of the list");
    assert!(list(http("200 OK", "<html>Welcome to the router</html>")).is_err());
}

#[test]
fn what_is_no_server_of_the_protocol_is_called_so() {
    let strange = [
        "SSH-2.0-OpenSSH_9.2\r\n\r\n".to_owned(),
        http("301 Moved\r\nLocation: http://elsewhere/", ""),
        http("405 Method Not Allowed", ""),
        format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(100_000)),
    ];
    for text in strange {
        let answer = read(&answering(text.as_str()));
        assert!(matches!(answer, Err(StorageError::Foreign { .. })), "{text:.60}: {answer:?}");
    }
}

#[test]
fn a_failure_of_the_server_passes_and_is_never_taken_for_absence() {
    for head in ["500 Oh", "502 Oh", "503 Oh", "429 Later"] {
        let storage = answering(http(head, "Traceback"));
        let failed = [
            read(&storage).map(drop),
            storage.size(NAME).map(drop),
            storage.write(NAME, b"x"),
            storage.create(),
            list_all(&storage, FileKind::Key).map(drop),
        ];
        for answer in failed {
            let error = answer.unwrap_err();
            assert!(matches!(error, StorageError::ServerFailed { .. }), "{head}: {error:?}");
            assert!(error.is_passing() && error.is_of_destination());
            assert!(!format!("{error:?}").contains("secret"));
        }
    }
}

#[test]
fn a_server_that_says_nothing_or_one_letter_at_a_time_is_given_up() {
    // They go on for longer than the test waits for whoever gives them up.
    let silent = served_by(|_| std::thread::sleep(2 * PATIENCE), NO_PATIENCE);
    let drip = |head: &'static str, letter: &'static [u8]| {
        let serve = move |client: &mut TcpStream| {
            let begun = Instant::now();
            let _ = client.write_all(head.as_bytes());
            while begun.elapsed() < 2 * PATIENCE && client.write_all(letter).is_ok() {
                std::thread::sleep(Duration::from_millis(100));
            }
        };
        served_by(serve, NO_PATIENCE)
    };
    let file = drip("HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", b" ");
    let header = drip("HTTP/1.1 200 OK\r\n", b"x");
    let list = drip("HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n[", b" ");
    let given_up = |ask: &dyn Fn() -> Result<()>| {
        let begun = Instant::now();
        let answer = ask();
        assert!(matches!(answer, Err(StorageError::Unreachable { .. })), "{answer:?}");
        assert!(begun.elapsed() < PATIENCE, "it took {:?}", begun.elapsed());
    };
    for storage in [silent, file, header] {
        given_up(&|| read(&storage).map(drop));
    }
    given_up(&|| list_all(&list, FileKind::Index).map(drop));
}
