//! Somebody meddles between a depot and a NAS: nothing of it gets onto the NAS, and the owner is
//! told.

use std::collections::BTreeMap;
use std::process::Command;
use tests_stories::{Depot, Meddler, OurBox, PACKAGE};
use tests_support::{Center, Dsm, Finished, NasError, Shell, run};

/// The owner asks the supervisor on the box whether the depot can be believed.
fn update_check(our_box: &OurBox, url: &str) -> Finished {
    let supervisor = our_box.nas().target(PACKAGE).join("bin/holdfast-supervisor");
    let asked = our_box.nas().as_package_user(PACKAGE, &supervisor);
    let mut command: Command = asked.expect("it is installed");
    command.env("SYNOPKG_PKGNAME", PACKAGE);
    command.env("SYNOPKG_PKGDEST", our_box.nas().target(PACKAGE));
    command.env("SYNOPKG_PKGVAR", our_box.nas().var(PACKAGE));
    run(command.args(["update", "check", "--depot", url]))
}

#[test]
fn one_flipped_bit_in_a_package_and_package_center_refuses_it() {
    let depot = Depot::with("0.1.0-0001");
    let meddler = Meddler::before(depot.url());
    let our_box = OurBox::new(Dsm::Seven, Shell::Bash);
    let center = Center::with_source(our_box.nas(), meddler.url()).expect("the depot answers");
    meddler.aims_at(".spk");
    let refused = center.install(PACKAGE, &BTreeMap::new());
    assert_eq!(meddler.changed(), 1, "the package did not come by: {:?}", meddler.seen());
    assert!(matches!(refused, Err(NasError::Download { .. })), "{refused:?}");
    assert_eq!(our_box.nas().installed(PACKAGE), None);
    meddler.leaves_everything_alone();
    center.install(PACKAGE, &BTreeMap::new()).expect("the untouched package installs");
}

#[test]
fn one_flipped_bit_in_any_signed_file_and_the_supervisor_refuses_the_catalog() {
    let depot = Depot::with("0.1.0-0001");
    let our_box = OurBox::with_our_package(Dsm::Seven, Shell::Bash, &depot);
    depot.publish("0.1.0-0002");
    let meddler = Meddler::before(depot.url());
    for file in ["timestamp.json", ".snapshot.json", ".targets.json"] {
        meddler.aims_at(file);
        let ended = update_check(&our_box, meddler.url());
        let seen = meddler.seen();
        assert_eq!(meddler.changed(), 1, "{file} did not come by: {seen:?}: {}", ended.said());
        ended.must_fail_with_a_remedy();
    }
    meddler.leaves_everything_alone();
    let believed = update_check(&our_box, meddler.url()).must_succeed().said();
    assert!(believed.contains("0.1.0-0002"), "{believed}");
}

#[test]
fn a_depot_with_other_keys_is_not_believed() {
    let depot = Depot::with("0.1.0-0001");
    let our_box = OurBox::with_our_package(Dsm::Seven, Shell::Bash, &depot);
    update_check(&our_box, depot.url()).must_succeed();
    let other = Depot::with("0.1.0-0009");
    update_check(&our_box, other.url()).must_fail_with_a_remedy();
}

#[test]
fn a_depot_that_is_away_is_a_sentence_and_the_engine_runs_on() {
    let mut depot = Depot::with("0.1.0-0001");
    let our_box = OurBox::with_our_package(Dsm::Six, Shell::Ash, &depot);
    depot.close();
    update_check(&our_box, depot.url()).must_fail_with_a_remedy();
    assert_eq!(our_box.engines().len(), 1);
}
