//! Somebody changes what lies on a depot's shelves: nothing of it gets onto a NAS.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use tests_stories::{Depot, OurBox, PACKAGE};
use tests_support::{Center, Dsm, Finished, NasError, Shell, run};

fn flip_a_byte(path: &Path) {
    let mut bytes = fs::read(path).expect("it can be read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).expect("it is ours");
    fs::write(path, bytes).expect("it can be written");
}

/// The owner asks the supervisor on the box whether the depot can be believed.
fn update_check(our_box: &OurBox, depot: &Depot) -> Finished {
    let supervisor = our_box.nas().target(PACKAGE).join("bin/holdfast-supervisor");
    let asked = our_box.nas().as_package_user(PACKAGE, &supervisor);
    let mut command: Command = asked.expect("it is installed");
    command.env("SYNOPKG_PKGNAME", PACKAGE);
    command.env("SYNOPKG_PKGDEST", our_box.nas().target(PACKAGE));
    run(command.args(["update", "check", "--depot", depot.url()]))
}

#[test]
fn one_flipped_byte_in_a_package_and_package_center_refuses_it() {
    let mut depot = Depot::with("0.1.0-0001");
    for package in depot.files(".spk") {
        flip_a_byte(&package);
    }
    depot.restart();
    let our_box = OurBox::new(Dsm::Seven, Shell::Bash);
    let center = Center::with_source(our_box.nas(), depot.url()).expect("the depot answers");
    let refused = center.install(PACKAGE, &BTreeMap::new());
    let was_refused = matches!(
        refused,
        Err(NasError::Download { .. } | NasError::Location { .. } | NasError::NotOffered { .. })
    );
    assert!(was_refused, "{refused:?}");
    assert_eq!(our_box.nas().installed(PACKAGE), None);
}

#[test]
fn one_flipped_byte_in_any_signed_file_and_the_supervisor_refuses_the_catalog() {
    let mut depot = Depot::with("0.1.0-0001");
    let our_box = OurBox::with_our_package(Dsm::Seven, Shell::Bash, &depot);
    depot.publish("0.1.0-0002");
    let believed = update_check(&our_box, &depot).must_succeed().said();
    assert!(believed.contains("0.1.0-0002"), "{believed}");
    let signed: Vec<_> = depot
        .files(".json")
        .into_iter()
        .filter(|path| path.parent().is_some_and(|folder| folder.ends_with("metadata")))
        .collect();
    assert!(!signed.is_empty(), "no signed metadata: {:?}", depot.files(""));
    let mut refused = 0;
    for path in signed {
        let right = fs::read(&path).expect("it can be read");
        flip_a_byte(&path);
        depot.restart();
        let ended = update_check(&our_box, &depot);
        if ended.code != 0 {
            ended.must_fail_with_a_remedy();
            refused += 1;
        } else {
            assert!(is_an_old_version(&path), "{} was believed", path.display());
        }
        fs::write(&path, right).expect("it can be written");
    }
    assert!(refused >= 3, "only {refused} signed files matter");
    depot.restart();
    update_check(&our_box, &depot).must_succeed();
}

/// Versions of signed files that newer ones replaced are kept, and nobody asks for them.
fn is_an_old_version(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    name.split('.').next().is_some_and(|number| number.parse::<u32>().is_ok())
}

#[test]
fn a_depot_of_somebody_else_is_not_believed() {
    let depot = Depot::with("0.1.0-0001");
    let our_box = OurBox::with_our_package(Dsm::Seven, Shell::Bash, &depot);
    let other = Depot::with("0.1.0-0009");
    let said = update_check(&our_box, &other).must_fail_with_a_remedy().said();
    assert!(!said.contains("0.1.0-0009 is"), "{said}");
}
