//! Servers over a bucket of Garage, a real S3 service that takes no notice of conditions.
//!
//! Part of `scripts/test --long` only: Garage takes some minutes to build.

#[allow(dead_code, reason = "these are told to another store, too")]
mod days;
#[path = "../keeper/mod.rs"]
mod keeper;

use days::three_servers_agree;
use keeper::Keeper;
use tests_support::stores::{BUCKET, Garage};

#[test]
fn three_servers_over_garage_are_published_on_at_one_moment_and_lose_nothing() {
    let garage = Garage::start();
    let keeper = Keeper::with_access(garage.key.clone());
    three_servers_agree(&keeper, &format!("s3:{}/{BUCKET}/depot", garage.url));
}

#[test]
fn a_claim_that_a_killed_publisher_left_is_removed_in_time() {
    let garage = Garage::start();
    let keeper = Keeper::with_access(garage.key.clone());
    let place = format!("s3:{}/{BUCKET}/depot", garage.url);
    days::open(&keeper, &place);
    std::fs::write(keeper.path("empty"), b"").unwrap();
    let claim = format!("{}/{BUCKET}/depot/claims/{}", garage.url, "0".repeat(32));
    let (user, provider) =
        (format!("{}:{}", garage.key.id, garage.key.secret), "aws:amz:garage:s3");
    let signed = ["--aws-sigv4", provider, "--user", &user];
    days::curl(&keeper, &[&signed[..], &["-T", "empty", &claim]].concat()).expect("the claim");
    let hello = keeper.builds("hello", "1.0.0-1");
    let publish = [&["publish"], &days::at(&place)[..], &[&hello]].concat();
    assert!(keeper.types(&publish).well().starts_with("published hello"));
    assert!(days::curl(&keeper, &[&signed[..], &[&claim]].concat()).is_none(), "it is gone");
}
