//! A family keeps its own package source on its own NAS: the depot as a package, as it is built.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tests_stories::{built_and_checked, folder_for_everybody, stripped};
use tests_support::nas::{Removal, State};
use tests_support::{Center, Dsm, Hardware, Nas, Shell, fetch, program, run, workspace};

const NAME: &str = "holdfast-depot";

/// Starting takes seconds; this long only when something is wrong.
const PATIENCE: Duration = Duration::from_secs(120);

/// Builds the package in one version; `spk check` has nothing against it.
fn packed(place: &Path, dsm: &str, version: &str) -> PathBuf {
    let programs = place.join("dist/x86_64");
    std::fs::create_dir_all(&programs).expect("a folder");
    for name in [NAME, "holdfast-supervisor"] {
        std::fs::copy(stripped(name), programs.join(name)).expect("room for a program");
    }
    let mut build = Command::new(program("spk"));
    build.args(["build", "--target", "x86_64", "--dsm", dsm, "--version", version]);
    build.arg("--manifest").arg(workspace().join("scripts/depot/package.toml"));
    build.arg("--programs").arg(place.join("dist")).arg("-o").arg(place.join("out"));
    built_and_checked(&mut build)
}

fn nas(folder: &Path, dsm: Dsm, shell: Shell) -> Nas {
    let hardware = Hardware::of("apollolake").expect("a known platform");
    Nas::create(folder, dsm, hardware, shell).expect("a NAS in a folder")
}

/// The owner installs it, names a port, and presses Run; the source's address.
fn installed(nas: &Nas, spk: &Path) -> String {
    let begun = Instant::now();
    loop {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.expect("a port").port().to_string();
        let answers = BTreeMap::from([("wizard_port".to_owned(), port.clone())]);
        match nas.installed(NAME) {
            None => nas.install(spk, &answers).map(drop).expect("it installs"),
            Some(_) => nas.upgrade(spk, &answers).map(drop).expect("it installs again"),
        }
        if nas.start(NAME).is_ok() {
            return format!("http://127.0.0.1:{port}");
        }
        // Somebody may have taken the port meanwhile. What the depot keeps outlives its package.
        let log = std::fs::read_to_string(nas.package_log(NAME)).unwrap_or_default();
        assert!(begun.elapsed() < PATIENCE, "it never started:\n{log}");
        nas.uninstall(NAME, Removal::AsDsm, &BTreeMap::new()).expect("it goes");
    }
}

fn list(url: &str) -> Option<String> {
    let query = "?arch=apollolake&major=7&minor=2&build=72806&language=enu";
    let answer = fetch(&format!("{url}/{query}")).ok()?;
    Some(String::from_utf8_lossy(&answer.body).into_owned())
}

/// The owner types a command of the depot's on the NAS.
fn types(nas: &Nas, words: &[&str]) -> String {
    let tool = nas.target(NAME).join("bin").join(NAME);
    let mut command = nas.as_package_user(NAME, &tool).expect("the package's user");
    command.args(words).arg("--root").arg(nas.var(NAME).join("depot"));
    run(&mut command).must_succeed().out
}

/// A NAS on which nothing runs any longer when its owner is gone.
struct Owned(Nas);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.cut_power();
    }
}

#[test]
fn a_depot_on_a_nas_is_made_at_its_first_start() {
    let place = folder_for_everybody();
    let own = Owned(nas(&place.path().join("nas"), Dsm::Six, Shell::Ash));
    let url = installed(&own.0, &packed(place.path(), "6", "0.1.0-0001"));
    assert_eq!(own.0.status(NAME).expect("a status"), State::Running);
    assert_eq!(list(&url).as_deref(), Some(r#"{"packages":[]}"#));
    own.0.stop(NAME).expect("it stops");
    assert_eq!(list(&url), None, "it is still served");
    assert_eq!(own.0.status(NAME).expect("a status"), State::Stopped);
}

#[test]
fn a_neighbour_finds_what_its_owner_published_and_an_upgrade_keeps_the_shelves_and_the_keys() {
    let place = folder_for_everybody();
    let own = Owned(nas(&place.path().join("own"), Dsm::Seven, Shell::Bash));
    let url = installed(&own.0, &packed(place.path(), "7", "0.1.0-0001"));
    let trusted = types(&own.0, &["keys", "export"]);
    let manifest = workspace().join("spk/examples/heartbeat/package.toml");
    let mut build = Command::new(program("spk"));
    build.args(["build", "--dsm", "7", "--manifest"]).arg(manifest);
    let offered = built_and_checked(build.arg("-o").arg(own.0.var(NAME).join("offered")));
    types(&own.0, &["publish", offered.to_str().expect("a name")]);

    let neighbour = Owned(nas(&place.path().join("neighbour"), Dsm::Seven, Shell::Bash));
    let center = Center::with_source(&neighbour.0, &url).expect("a source");
    center.install("heartbeat", &BTreeMap::new()).expect("it installs from the source");
    assert!(neighbour.0.installed("heartbeat").is_some());

    own.0.stop(NAME).expect("it stops");
    let url = installed(&own.0, &packed(place.path(), "7", "0.1.0-0002"));
    let listed = list(&url).expect("a list");
    assert!(listed.contains("\"package\":\"heartbeat\""), "{listed}");
    assert_eq!(types(&own.0, &["keys", "export"]), trusted);
}
