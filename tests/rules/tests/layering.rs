//! Walls are packages; the arrows between them are this table.

use std::collections::{BTreeMap, BTreeSet};
use tests_rules::{expect_none, rooms, root};

/// Every allowed arrow, and why it is there. A new one is a decision, not an edit.
const ARROWS: [(&str, &str, &str); 32] = [
    ("engine-storage", "engine-repository", "a stored file is named by its id and kind"),
    ("engine-storage", "tests-support", "its tests run object stores of others"),
    ("engine-transfer", "engine-contract", "it keeps to the memory plan"),
    ("engine-transfer", "engine-repository", "it moves packs, trees and snapshots"),
    ("engine-transfer", "engine-storage", "it moves them to and from destinations"),
    ("engine-console", "engine-contract", "both know the port, the token and a refusal"),
    ("engine-daemon", "engine-console", "it lets the page in where its own settings say"),
    ("engine-daemon", "engine-contract", "the program is one side of the contract"),
    ("engine-daemon", "engine-storage", "it opens the destinations its settings name"),
    ("engine-daemon", "engine-transfer", "it is what backs up and restores"),
    ("supervisor-fetch", "supervisor-trust", "it fetches what that room's client asks for"),
    ("supervisor-depot", "spk", "it reads the packages it is given"),
    ("supervisor-depot", "supervisor-trust", "it signs the catalog"),
    ("supervisor-agent", "engine-contract", "it is the other side of the contract"),
    ("supervisor-agent", "supervisor-dsm", "it acts on the NAS"),
    ("supervisor-agent", "supervisor-lifecycle", "it asks what to do about a dead engine"),
    ("supervisor-agent", "supervisor-trust", "it verifies what the depot signed"),
    ("supervisor-agent", "supervisor-fetch", "its update check asks the depot over HTTP"),
    ("supervisor-agent", "spk", "it unpacks what the depot signed, as bounded as the packager"),
    ("supervisor-agent", "supervisor-depot", "its tests open a depot to be updated from"),
    ("supervisor-agent", "tests-support", "its tests wait as all others do"),
    ("supervisor-server", "supervisor-depot", "its commands are that room's, with flags"),
    ("supervisor-server", "spk", "its tests build packages to publish"),
    ("supervisor-server", "supervisor-fetch", "it follows other depots over HTTP"),
    ("supervisor-server", "supervisor-trust", "a command names a role, and a plan its gap"),
    ("supervisor-server", "tests-support", "its tests run object stores of others"),
    ("tests-conformance", "supervisor-trust", "the client under test"),
    ("tests-conformance", "supervisor-fetch", "the client fetches as the supervisor does"),
    ("tests-stories", "tests-support", "stories speak its words"),
    (
        "tests-damaged",
        "engine-repository",
        "ciphers and names; the layout is written a second time",
    ),
    ("tests-damaged", "tests-support", "it runs our program and restic's on what it made"),
    ("tests-bench", "tests-support", "its judge says whether restored files are the same"),
];

#[test]
fn no_arrow_that_is_not_in_the_table() {
    let mut complaints = Vec::new();
    for room in rooms() {
        for to in room.arrows.iter().filter(|to| **to != room.name) {
            if !ARROWS.iter().any(|(from, target, _)| *from == room.name && target == to) {
                complaints.push(format!(
                    "{} depends on {to}, and no row of ARROWS says why: add the row with its \
                     reason, or do without",
                    room.name
                ));
            }
        }
    }
    expect_none(&complaints);
}

#[test]
fn no_row_of_the_table_is_idle() {
    let drawn: BTreeSet<(String, String)> = rooms()
        .into_iter()
        .flat_map(|room| room.arrows.into_iter().map(move |to| (room.name.clone(), to)))
        .collect();
    let idle = ARROWS
        .iter()
        .filter(|(from, to, _)| !drawn.contains(&((*from).to_owned(), (*to).to_owned())));
    let complaints: Vec<String> = idle
        .map(|(from, to, _)| format!("{from} no longer depends on {to}: remove the row of ARROWS"))
        .collect();
    expect_none(&complaints);
}

#[test]
fn a_package_is_named_as_its_path() {
    let mut complaints = Vec::new();
    for room in rooms() {
        let wanted = room.folder.to_string_lossy().replace('/', "-");
        if room.name != wanted {
            complaints.push(format!(
                "the package in {} is named {}: name it {wanted}",
                room.folder.display(),
                room.name
            ));
        }
    }
    expect_none(&complaints);
}

#[test]
fn every_manifest_belongs_to_a_room() {
    let rooms: BTreeSet<_> = rooms().into_iter().map(|room| room.folder).collect();
    let mut complaints = Vec::new();
    for source in tests_rules::sources() {
        if !source.path.ends_with("Cargo.toml") || source.path.iter().count() == 1 {
            continue;
        }
        let folder = source.path.parent().expect("a manifest lies in a folder");
        if !rooms.contains(folder) {
            complaints.push(format!("{} is no member of the workspace", folder.display()));
        }
        if !source.text.contains("[lints]\nworkspace = true") {
            complaints.push(format!("{}: add `[lints] workspace = true`", source.path.display()));
        }
    }
    expect_none(&complaints);
}

#[test]
fn the_readme_maps_every_room_and_no_other() {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("a README");
    let mut mapped: BTreeMap<String, usize> = BTreeMap::new();
    let lines = readme.lines().skip_while(|line| *line != "| room | what it holds |").skip(2);
    for line in lines.take_while(|line| line.starts_with('|')) {
        let room = line.split('`').nth(1).expect("a room in backticks").to_owned();
        *mapped.entry(room).or_default() += 1;
    }
    let wanted: BTreeMap<String, usize> =
        rooms().iter().map(|room| (room.folder.display().to_string(), 1)).collect();
    assert_eq!(mapped, wanted, "README, \"What is inside\": one line for each member, no other");
}
