//! Servers over a bucket of Garage, a real S3 service that takes no notice of conditions.
//!
//! Part of `scripts/test --long` only: Garage takes some minutes to build.

#[allow(dead_code, reason = "these are told to another store, too")]
mod days;
#[allow(dead_code, reason = "a keeper can do more than is done here")]
#[path = "../keeper/mod.rs"]
mod keeper;
#[allow(dead_code, reason = "it is cut here, and nothing else")]
mod line;

use days::three_servers_agree;
use keeper::{Keeper, Said};
use line::{Happens, Line};
use std::process::Stdio;
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
    let hello = keeper.builds("hello", "1.0.0-1");
    let publish =
        |place: &str| keeper.command(&[&["publish"], &days::at(place)[..], &[&hello]].concat());
    // The package, two icons, four lists, three tries whether conditions are minded, and the claim.
    let line = Line::to(garage.url.trim_start_matches("http://"), Happens::IsCutAfter(11));
    let mut command = publish(&format!("s3:{}/{BUCKET}/depot", line.url));
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    line.cut.recv().expect("it is cut");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(line.written_last().contains("/claims/"), "{}", line.written_last());
    let said = Said::from(publish(&place).output().unwrap()).well();
    assert!(said.starts_with("published hello"), "{said}");
}
