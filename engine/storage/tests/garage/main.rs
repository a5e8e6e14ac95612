//! A repository in a bucket, judged by Garage, a real S3 service, and by stock restic.
//!
//! Part of `scripts/test --long` only: Garage takes some minutes to build.

#[path = "../rest/bad_line.rs"]
mod bad_line;

use bad_line::BadLine;
use engine_repository::{FileKind, Id};
use engine_storage::testing::{QuickClock, conforms_but_for_rivals};
use engine_storage::{
    AccessKey, Name, Patience, Persistence, Retrying, S3, S3Address, Storage, StorageError,
    list_all,
};
use std::sync::Arc;
use std::time::Duration;
use tests_support::stores::{Access, BUCKET, Garage};

fn s3(url: &str, path: &str, key: &Access) -> S3 {
    let address = S3Address::parse(&format!("{url}/{path}")).unwrap();
    S3::at(address, Some(opening(key)), &std::env::temp_dir(), Patience::default())
}

fn opening(key: &Access) -> AccessKey {
    let Access { id, secret, region } = key.clone();
    AccessKey { id, secret, token: None, region: Some(region) }
}

fn in_bucket(garage: &Garage, prefix: &str) -> S3 {
    s3(&garage.url, &format!("{BUCKET}/{prefix}"), &garage.key)
}

fn untiring() -> Persistence {
    let clock = Arc::new(QuickClock::default());
    let time_max = Duration::from_secs(1_000_000);
    Persistence { clock, time_max, time_unseen_max: time_max, ..Persistence::default() }
}

#[test]
fn a_bucket_conforms() {
    let garage = Garage::start();
    conforms_but_for_rivals(|| Arc::new(in_bucket(&garage, "a/repository")));
}

#[test]
fn a_bucket_conforms_over_a_line_that_breaks_when_we_try_again() {
    let garage = Garage::start();
    let garage_at = garage.url.strip_prefix("http://").unwrap().parse().unwrap();
    let line = BadLine::to(garage_at, 3000, 600_000);
    let url = format!("http://{}", line.address);
    conforms_but_for_rivals(|| {
        let bucket = s3(&url, &format!("{BUCKET}/repository"), &garage.key);
        Arc::new(Retrying::around(Arc::new(bucket.persistent(untiring())), untiring()))
    });
    assert!(line.cuts() > 20, "the line broke only {} times", line.cuts());
}

#[test]
fn a_pack_in_parts_arrives_as_it_is_over_a_line_that_breaks() {
    let garage = Garage::start();
    let direct = in_bucket(&garage, "p");
    direct.create().unwrap();
    let garage_at = garage.url.strip_prefix("http://").unwrap().parse().unwrap();
    let line = BadLine::to(garage_at, 3000, 6 << 20);
    let url = format!("http://{}", line.address);
    let bucket = s3(&url, &format!("{BUCKET}/p"), &garage.key);
    let retrying = Retrying::around(Arc::new(bucket), untiring());
    let bytes: Vec<u8> = (0..8_000_000u32).flat_map(|number| number.to_le_bytes()).collect();
    let id = Id::of(&bytes);
    let mut pack = retrying.create_pack().unwrap();
    for piece in bytes.chunks(777_777) {
        pack.append(piece).unwrap();
    }
    pack.commit(id).unwrap();
    assert!(line.cuts() > 0, "the line held");
    let name = Name::of(FileKind::Pack, id);
    assert_eq!(list_all(&direct, FileKind::Pack).unwrap(), [(id, 32_000_000)]);
    let mut middle = vec![0; 20_000_000];
    retrying.read_range(name, 5_000_000, &mut middle).unwrap();
    assert!(middle == bytes[5_000_000..25_000_000]);
    assert!(retrying.read(name, 1 << 30).unwrap() == bytes);
}

#[test]
fn each_refusal_of_a_service_is_a_sentence_of_its_own() {
    let garage = Garage::start();
    let good = in_bucket(&garage, "x");
    good.create().unwrap();
    good.write(Name::CONFIG, b"config").unwrap();

    let stranger = garage.new_key("stranger");
    let mut liar = garage.key.clone();
    liar.secret = "0".repeat(64);
    let mut elsewhere = garage.key.clone();
    elsewhere.region = "mars".into();
    let of = |key: &Access, path: &str| s3(&garage.url, path, key);
    let path = format!("{BUCKET}/x");
    let answer = of(&liar, &path).size(Name::CONFIG).unwrap_err();
    assert!(matches!(answer, StorageError::KeyRefused { .. }), "{answer:?}");
    let answer = of(&stranger, &path).size(Name::CONFIG).unwrap_err();
    assert!(matches!(answer, StorageError::Forbidden { .. }), "{answer:?}");
    assert_eq!(of(&elsewhere, &path).size(Name::CONFIG).unwrap(), Some(6), "Garage tells where");
    let nowhere = of(&garage.key, "no-such-bucket/x");
    let answer = nowhere.create().unwrap_err();
    assert!(matches!(answer, StorageError::BucketMissing { .. }), "{answer:?}");
    let answer = nowhere.size(Name::CONFIG).unwrap_err();
    assert!(matches!(answer, StorageError::Gone { .. }), "{answer:?}");
    for error in [of(&liar, &path).create(), of(&stranger, &path).create()] {
        let error = error.unwrap_err();
        let told = format!("{error} {error:?}");
        assert!(!told.contains(&garage.key.secret) && !told.contains("0000000"), "{told}");
    }
}

#[test]
fn what_was_deleted_as_a_whole_is_gone_and_not_empty() {
    let garage = Garage::start();
    let made = in_bucket(&garage, "x");
    made.create().unwrap();
    assert_eq!(list_all(&made, FileKind::Snapshot).unwrap(), [], "it was just made");
    made.write(Name::CONFIG, b"config").unwrap();
    let found = in_bucket(&garage, "x");
    assert_eq!(list_all(&found, FileKind::Snapshot).unwrap(), []);
    found.remove(Name::CONFIG).unwrap();
    let listed = list_all(&found, FileKind::Snapshot);
    assert!(matches!(listed, Err(StorageError::Gone { .. })), "{listed:?}");
}

#[test]
fn a_bucket_that_reached_its_quota_is_called_full() {
    let garage = Garage::start();
    garage.says(&["bucket", "set-quotas", "--max-size", "1MiB", BUCKET]);
    let bucket = in_bucket(&garage, "x");
    bucket.create().unwrap();
    let bytes = vec![7; 2_000_000];
    let mut pack = bucket.create_pack().unwrap();
    pack.append(&bytes).unwrap();
    let answer = pack.commit(Id::of(&bytes));
    assert!(matches!(answer, Err(StorageError::Full { .. })), "{answer:?}");
    assert_eq!(list_all(&bucket, FileKind::Pack).unwrap(), []);
}
