//! Packages that travel between depots: believed, doubted, carried on a disk.

use super::*;
use crate::stage::{Recipe, Stage, TODAY, files_below};

/// Two depots of different keepers, the first with something on its shelves.
fn two() -> (Stage, Stage, Vec<u8>) {
    let (theirs, ours) = (Stage::new(), Stage::new());
    theirs.publish(Recipe::default());
    theirs.publish(Recipe { version: "1.1.0-2", info: "beta = \"yes\"", ..Recipe::default() });
    theirs.publish(Recipe { name: "notes", version: "2.0-1", ..Recipe::default() });
    let trust = crate::keys(&theirs.depot(), TODAY).unwrap().root_json;
    (theirs, ours, trust)
}

fn names(published: &[Published]) -> Vec<String> {
    published.iter().map(|done| format!("{} {}", done.package, done.version)).collect()
}

#[test]
fn what_one_depot_exports_another_behind_the_air_gap_offers_in_the_same_channels() {
    let (theirs, ours, trust) = two();
    let disk = theirs.depot().with_file_name("disk");
    assert_eq!(export(&theirs.depot(), &disk, TODAY).unwrap(), 3);
    assert!(export(&theirs.depot(), &disk, TODAY).is_err(), "it would write over a good one");
    let only = ["notes".to_owned()];
    let came = import(&ours.depot(), &disk, &trust, &only, TODAY).unwrap();
    assert_eq!(names(&came), ["notes 2.0-1"]);
    let came = import(&ours.depot(), &disk, &trust, &[], TODAY).unwrap();
    assert_eq!(names(&came), ["hello 1.0.0-1", "hello 1.1.0-2"]);
    assert!(import(&ours.depot(), &disk, &trust, &[], TODAY).unwrap().is_empty());
    let shelves = crate::shelves(&ours.depot()).unwrap();
    let beta = shelves.items.iter().find(|item| item.version == "1.1.0-2").unwrap();
    assert_eq!(beta.channel, Channel::Beta);
    assert_eq!(ours.verified(TODAY).unwrap().len(), 3);
}

#[test]
fn an_export_that_is_changed_old_or_of_somebody_else_brings_nothing() {
    let (theirs, ours, trust) = two();
    let old = theirs.depot().with_file_name("old");
    export(&theirs.depot(), &old, TODAY).unwrap();
    crate::renew(&theirs.depot(), TODAY).unwrap();
    let disk = theirs.depot().with_file_name("disk");
    export(&theirs.depot(), &disk, TODAY).unwrap();
    let before = files_below(&ours.depot().join("files"));
    let refused = |from: &Path, trust: &[u8], now| {
        let error = import(&ours.depot(), from, trust, &[], now).unwrap_err();
        assert!(error.remedy().is_some(), "{error}");
        assert_eq!(files_below(&ours.depot().join("files")), before, "{error}");
    };
    let other = crate::keys(&ours.depot(), TODAY).unwrap().root_json;
    let stranger = Stage::new();
    stranger.publish(Recipe { content: "of a stranger", ..Recipe::default() });
    let unsigned = stranger.depot().with_file_name("unsigned");
    export(&stranger.depot(), &unsigned, TODAY).unwrap();
    let key = stranger.depot().join("current/metadata/timestamp.json");
    let mut forged = fs::read(&key).unwrap();
    let at = forged.len() / 2;
    forged[at] ^= 1;
    fs::write(unsigned.join("metadata/timestamp.json"), forged).unwrap();
    refused(&unsigned, &other, TODAY);
    // A month later the signatures have ended.
    refused(&disk, &trust, TODAY.plus_days(31));
    let package = fs::read_dir(disk.join("packages")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&package).unwrap();
    bytes[600] ^= 1;
    fs::write(&package, bytes).unwrap();
    refused(&disk, &trust, TODAY);
    // The newer one was seen, so the older one is a rollback.
    refused(&old, &trust, TODAY);
}
