//! A repository in a bucket: judged by a stand-in of others' making, and by services that lie,
//! refuse and break off. What a real service says is in `tests/garage`.

mod scripted;

use engine_repository::{FileKind, Id};
use engine_storage::testing::{QuickClock, conforms};
use engine_storage::{
    AccessKey, Clock, Name, Patience, Persistence, Rates, Retrying, S3, S3Address, Storage,
    StorageError, list_all,
};
use scripted::{Asked, Heard, http, refusal, serve};
use std::sync::Arc;
use std::time::Duration;
use tests_support::stores::Moto;

const NAME: Name = Name::of(FileKind::Snapshot, Id::ZERO);

fn key() -> AccessKey {
    let (id, secret) = ("key-id".into(), "hush-hush".into());
    AccessKey { id, secret, token: None, region: None }
}

fn address(url: &str) -> S3Address {
    S3Address::parse(&format!("{url}/bucket/a/b")).unwrap()
}

fn s3(url: &str) -> S3 {
    let second = Duration::from_secs(5);
    let patience =
        Patience { connect: second, idle: second, listing: second, ..Patience::default() };
    S3::at(address(url), Some(key()), &std::env::temp_dir(), patience)
}

fn saying(answer: String) -> S3 {
    s3(&serve(move |_, _| answer.clone()).0)
}

fn by(clock: Arc<QuickClock>) -> Persistence {
    Persistence { clock, ..Persistence::default() }
}

fn targets(heard: &Heard, method: &str) -> Vec<String> {
    let heard = heard.lock().unwrap();
    let asked = heard.iter().filter(|asked| asked.method == method);
    asked.map(|asked| asked.target.clone()).collect()
}

#[test]
fn a_bucket_of_a_stand_in_conforms_rivals_included() {
    let moto = Moto::start("bucket");
    conforms(|| Arc::new(s3(&moto.url)));
}

#[test]
fn a_pack_in_parts_becomes_one_file() {
    let moto = Moto::start("bucket");
    let bucket = s3(&moto.url);
    bucket.create().unwrap();
    let bytes: Vec<u8> = (0..7_000_000u32).flat_map(|number| number.to_le_bytes()).collect();
    let id = Id::of(&bytes);
    let mut pack = bucket.create_pack().unwrap();
    for piece in bytes.chunks(777_777) {
        pack.append(piece).unwrap();
    }
    pack.commit(id).unwrap();
    assert!(bucket.read(Name::of(FileKind::Pack, id), 1 << 30).unwrap() == bytes);
    assert_eq!(list_all(&bucket, FileKind::Pack).unwrap(), [(id, 28_000_000)]);
}

#[test]
fn a_request_is_signed_and_bears_the_sum_of_what_it_carries_and_never_the_secret() {
    let (url, heard) = serve(|asked, _| match asked.method.as_str() {
        "HEAD" => http("404 No", ""),
        _ => http("200 OK\r\nETag: \"x\"", ""),
    });
    s3(&url).write(NAME, b"hello").unwrap();
    let heard = heard.lock().unwrap();
    let put = &heard[1];
    assert!(put.target.starts_with("/bucket/a/b/snapshots/0000"), "{}", put.target);
    assert!(put.target.contains("X-Amz-Signature=") && put.target.contains("key-id"));
    assert!(put.target.contains("SignedHeaders=content-md5%3Bhost%3Bif-none-match"));
    assert!(put.head.contains("content-md5: xufakrxlkna5cz2rebffkg=="), "{}", put.head);
    assert!(put.head.contains("if-none-match: *") && put.body == b"hello");
    assert!(!format!("{heard:?}").contains("hush-hush"));
}

#[test]
fn a_service_that_knows_no_conditions_is_asked_without() {
    let (url, heard) = serve(|asked: &Asked, _| match asked.method.as_str() {
        "HEAD" => http("404 No", ""),
        _ if asked.head.contains("if-none-match") => refusal("501 No", "NotImplemented"),
        _ => http("200 OK", ""),
    });
    let bucket = s3(&url);
    bucket.write(NAME, b"one").unwrap();
    bucket.write(NAME, b"two").unwrap();
    assert_eq!(targets(&heard, "PUT").len(), 3, "it is asked once whether it knows them");
    assert_eq!(heard.lock().unwrap()[2].body, b"one", "the body is sent again from its beginning");
}

#[test]
fn every_refusal_is_told_with_its_remedy() {
    let of = |status: &str, code: &str| {
        let error = saying(refusal(status, code)).read(NAME, 10).unwrap_err();
        assert!(error.remedy().len() > 40, "{error}");
        assert!(!format!("{error} {error:?}").contains("hush"), "{error:?}");
        error
    };
    for code in ["InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"] {
        assert!(matches!(of("403 No", code), StorageError::KeyRefused { .. }), "{code}");
    }
    assert!(matches!(of("403 No", "AccessDenied"), StorageError::Forbidden { .. }));
    assert!(matches!(of("404 No", "NoSuchKey"), StorageError::NotFound { .. }));
    assert!(matches!(of("404 No", "NoSuchBucket"), StorageError::Gone { .. }));
    assert!(matches!(of("403 No", "RequestTimeTooSkewed"), StorageError::ClockWrong { .. }));
    assert!(matches!(of("301 No", "PermanentRedirect"), StorageError::RegionWrong { .. }));
    assert!(matches!(of("403 No", "QuotaExceeded"), StorageError::Full { .. }));
    for (status, code) in [("503 No", "SlowDown"), ("429 No", ""), ("503 No", "ServiceUnavailable")]
    {
        let error = of(status, code);
        assert!(matches!(error, StorageError::Busy { .. }) && error.is_passing(), "{code}");
    }
    assert!(matches!(of("500 No", "InternalError"), StorageError::ServerFailed { .. }));
    assert!(of("400 No", "BadDigest").is_passing(), "what arrived was not what was sent");
    assert!(!of("400 No", "InvalidArgument").is_passing());
    let keyless = S3::at(address("http://h"), None, &std::env::temp_dir(), Patience::brief());
    assert!(matches!(keyless.size(NAME), Err(StorageError::KeyMissing { .. })));
}

#[test]
fn a_clock_that_is_wrong_is_told_by_the_services_own() {
    let dated = http("403 No\r\nDate: Thu, 01 Jan 2009 00:00:00 GMT", "");
    for answer in [saying(dated.clone()).size(NAME).map(drop), saying(dated).create()] {
        let Err(StorageError::ClockWrong { minutes, .. }) = answer else { panic!("{answer:?}") };
        assert!(minutes < -1_000_000, "{minutes}");
    }
}

#[test]
fn a_region_that_a_service_names_is_learned() {
    let (url, heard) = serve(|asked, _| match asked.target.contains("mars-1") {
        true => http("200 OK", "x"),
        false => http(
            "400 No",
            "<Error><Code>AuthorizationHeaderMalformed</Code><Region>mars-1</Region></Error>",
        ),
    });
    let bucket = s3(&url);
    assert_eq!(bucket.read(NAME, 10).unwrap(), b"x");
    assert_eq!(bucket.read(NAME, 10).unwrap(), b"x");
    assert_eq!(heard.lock().unwrap().len(), 3, "learned once");
}

fn listing(inside: &str) -> String {
    let text = format!(
        "<?xml version=\"1.0\"?>\
         <ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
         {inside}</ListBucketResult>"
    );
    http("200 OK", &text)
}

fn listed(key: &str, bytes: u32) -> String {
    format!("<Contents><Key>{key}</Key><Size>{bytes}</Size></Contents>")
}

#[test]
fn a_listing_is_told_page_by_page_and_a_page_that_broke_is_asked_for_again() {
    let ids: Vec<Id> = (0..3u8).map(|number| Id::of(&[number])).collect();
    let pages = ids.clone();
    let (url, heard) = serve(move |asked, number| {
        let page = |number: usize| listed(&format!("a/b/keys/{}", pages[number]), number as u32);
        let next = |token| {
            format!(
                "<IsTruncated>true</IsTruncated>\
                 <NextContinuationToken>{token}</NextContinuationToken>"
            )
        };
        match asked.target.split_once("continuation-token=").map(|(_, rest)| &rest[..1]) {
            None => listing(&(page(0) + &next("1"))),
            Some("1") if number < 3 => refusal("503 Later", "SlowDown"),
            Some("1") => listing(&(page(1) + &next("2") + &listed("a/b/keys/README", 9))),
            _ => listing(&page(2)),
        }
    });
    let clock = Arc::new(QuickClock::default());
    let found = list_all(&s3(&url).persistent(by(clock.clone())), FileKind::Key).unwrap();
    assert_eq!(found, ids.into_iter().zip(0..).collect::<Vec<_>>());
    assert_eq!(heard.lock().unwrap().len(), 5);
    assert_eq!(clock.waits().len(), 2, "it waited before it asked again");
}

#[test]
fn a_listing_that_is_none_is_never_a_short_list() {
    let circle = "<IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken>";
    let other = format!("c/{}", Id::ZERO);
    for text in [
        listing(circle),
        listing("<IsTruncated>true</IsTruncated>"),
        listing(&listed(&other, 1)),
        http("200 OK", "<html>Welcome to the router</html>"),
        http("200 OK", ""),
        http("200 OK", &"x".repeat(5 << 20)),
    ] {
        let answer = list_all(&saying(text.clone()), FileKind::Key);
        assert!(answer.is_err(), "{text:.200}: {answer:?}");
    }
}

#[test]
fn a_part_that_broke_is_sent_again_and_no_other() {
    let (url, heard) = serve(|asked, number| match asked.method.as_str() {
        "HEAD" if number < 9 => http("404 No", ""),
        "HEAD" => "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 27262976\r\n\r\n".into(),
        "POST" if asked.target.contains("uploads=") => http(
            "200 OK",
            "<InitiateMultipartUploadResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <UploadId>u</UploadId></InitiateMultipartUploadResult>",
        ),
        "PUT" if number == 3 || number == 4 => String::new(),
        "PUT" => http("200 OK\r\nETag: \"e\"", ""),
        _ => http(
            "200 OK",
            "<CompleteMultipartUploadResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <ETag>e</ETag></CompleteMultipartUploadResult>",
        ),
    });
    let clock = Arc::new(QuickClock::default());
    let retrying = Retrying::around(Arc::new(s3(&url)), by(clock));
    let mut pack = retrying.create_pack().unwrap();
    pack.append(&vec![7; 26 << 20]).unwrap();
    pack.commit(Id::of(b"pack")).unwrap();
    let parts: Vec<String> = targets(&heard, "PUT")
        .iter()
        .map(|target| target.split_once("partNumber=").unwrap().1[..1].to_owned())
        .collect();
    let begun = targets(&heard, "POST").iter().filter(|t| t.contains("uploads=")).count();
    assert_eq!((begun, parts.concat()), (1, "12234".into()), "{:?}", targets(&heard, "HEAD").len());
}

#[test]
fn a_read_that_broke_off_asks_only_for_the_rest() {
    let bytes: Vec<u8> = (0..40_000u32).map(|number| b'a' + (number % 26) as u8).collect();
    let text = String::from_utf8(bytes.clone()).unwrap();
    let (url, heard) = serve(move |asked, _| {
        let range = asked.head.lines().find_map(|line| line.strip_prefix("range: bytes=")).unwrap();
        let (first, last) = range.split_once('-').unwrap();
        let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
        let (length, end) = (last + 1 - first, (first + 15_000).min(last + 1));
        format!(
            "HTTP/1.1 206 Yes\r\nConnection: close\r\nContent-Range: bytes {first}-{last}/40000\r\n\
             Content-Length: {length}\r\n\r\n{}",
            &text[first..end]
        )
    });
    let clock = Arc::new(QuickClock::default());
    let retrying = Retrying::around(Arc::new(s3(&url)), by(clock.clone()));
    let mut buffer = vec![0; 39_000];
    retrying.read_range(NAME, 1000, &mut buffer).unwrap();
    assert!(buffer == bytes[1000..]);
    let ranges: Vec<String> =
        heard.lock().unwrap().iter().map(|asked| asked.head.clone()).collect();
    for (head, range) in ranges.iter().zip(["1000-", "16000-", "31000-"]) {
        assert!(head.contains(&format!("range: bytes={range}")), "{head}");
    }
    assert_eq!((ranges.len(), clock.waits().len()), (3, 0), "progress needs no wait");
}

#[test]
fn a_body_is_paced_while_it_is_sent_and_while_it_comes() {
    let (url, _) = serve(|asked, _| match asked.method.as_str() {
        "HEAD" => http("404 No", ""),
        "GET" => http("200 OK", &"x".repeat(5000)),
        _ => http("200 OK\r\nETag: \"e\"", ""),
    });
    let clock = Arc::new(QuickClock::default());
    let rates = Rates { up: Some(10_000), down: Some(1000) };
    let patience = Patience::default();
    let scratch = std::env::temp_dir();
    let bucket = S3::at_rates(address(&url), Some(key()), &scratch, patience, rates, clock.clone());
    let mut pack = bucket.create_pack().unwrap();
    pack.append(&[7; 60_000]).unwrap();
    assert_eq!(clock.now(), Duration::ZERO, "nothing was sent yet");
    pack.commit(Id::of(b"pack")).unwrap();
    // A second's worth was in the bucket.
    assert_eq!(clock.now(), Duration::from_secs(5));
    let waits = clock.waits();
    assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(1)), "{waits:?}");
    assert!(waits.len() >= 5, "{waits:?}");
    bucket.read(NAME, 10_000).unwrap();
    assert_eq!(clock.now().as_secs(), 9);
}
