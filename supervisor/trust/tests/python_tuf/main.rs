//! The reference implementation's metadata, read by ours. `make.py` wrote it; the other way round,
//! python-tuf reading what a depot serves, needs a network and is not run here.

use std::fs;
use std::path::Path;
use supervisor_trust::json::Value;
use supervisor_trust::{Cache, Client, Keep, Moment, TargetCheck, Trouble, UnixSeconds, Wanted};

fn read(name: &str) -> Option<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python_tuf/metadata");
    fs::read(folder.join(name)).ok()
}

fn client() -> Client {
    let now: UnixSeconds = "2026-11-22T00:00:00Z".parse().unwrap();
    Client::start(&read("1.root.json").unwrap(), Cache::default(), Moment::new(now, now)).unwrap()
}

#[test]
fn what_python_tuf_signed_is_verified_through_a_change_of_root() {
    let mut client = client();
    let mut kept = Vec::new();
    while let Some(request) = client.request() {
        let found = read(&request.name);
        for keep in client.answer(found.as_deref()).unwrap() {
            match keep {
                Keep::Write { name, .. } => kept.push(name.to_owned()),
                Keep::Forget { name } => kept.push(format!("not {name}")),
            }
        }
    }
    let steps = "root.json, not timestamp.json, not snapshot.json, timestamp.json, snapshot.json, \
                 targets.json";
    assert_eq!(kept.join(", "), steps);
    let verified = client.verified().unwrap();
    assert_eq!(verified.timestamp.head.version, 9);
    let wanted = Wanted {
        package: "Holdfast",
        platforms: &["avoton", "x86_64"],
        channel: "stable",
        dsm_major: 7,
        dsm_build: 72_806,
    };
    let (name, file, offer) = verified.targets.newest(&wanted).unwrap();
    assert_eq!((name, offer.version.as_str()), ("Holdfast ä.spk", "1.0-1"));
    let mut check = TargetCheck::new(name, file);
    check.update(b"the package\n").unwrap();
    assert_eq!(check.finish(), Ok(()));
}

#[test]
fn one_changed_letter_anywhere_in_what_was_signed_is_noticed() {
    // The timestamp: nothing but its signature stands between it and a forger.
    let sound = read("timestamp.json").unwrap();
    let value = Value::parse(&sound).unwrap();
    let signed = sound.windows(8).position(|eight| eight == b"\"signed\"").unwrap();
    let mut tried = 0;
    for at in (signed + 9..sound.len()).filter(|at| sound[*at].is_ascii_alphanumeric()) {
        let mut changed = sound.clone();
        changed[at] ^= 1;
        if Value::parse(&changed).is_ok_and(|changed| changed == value) {
            continue;
        }
        let mut client = client();
        while client.request().is_some_and(|request| request.name != "timestamp.json") {
            let name = client.request().unwrap().name;
            client.answer(read(&name).as_deref()).unwrap();
        }
        let trouble = client.answer(Some(&changed)).map_err(|error| error.trouble()).err();
        assert!(matches!(trouble, Some(Trouble::Signature | Trouble::Malformed)), "at {at}");
        tried += 1;
    }
    assert!(tried > 150, "{tried}");
}
