//! Publishing: what is refused, what a kill leaves behind, what clients make of it.

use super::*;
use crate::stage::{Recipe, Stage, TODAY, files_below};
use spk::dsm::Dsm;
use spk::platform::Target;
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[test]
fn a_new_depot_has_keys_for_its_owner_alone_and_empty_shelves_that_verify() {
    let stage = Stage::new();
    assert_eq!(stage.verified(TODAY), Ok(vec![]));
    for role in ["root", "targets", "snapshot", "timestamp"] {
        let path = stage.depot().join(format!("keys/{role}.key"));
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600, "{role}");
    }
    let keys = fs::metadata(stage.depot().join("keys")).unwrap();
    assert_eq!(keys.permissions().mode() & 0o777, 0o700);
    let report = super::keys(&stage.depot(), TODAY).unwrap();
    assert_eq!(report.root_version, 1);
    assert!(report.roles.iter().all(|role| role.key_is_here && role.threshold == 1));
    let days: Vec<_> = report.roles.iter().map(|role| role.days_left).collect();
    assert_eq!(days, [1825, 400, 21, 21]);
    assert_eq!(
        report.root_json,
        fs::read(stage.depot().join("current/metadata/1.root.json")).unwrap()
    );
    let seeds = Seeds { root: [9; 32], targets: [9; 32], snapshot: [9; 32], timestamp: [9; 32] };
    let again = init(&stage.depot(), &seeds, TODAY);
    assert!(matches!(again, Err(DepotError::AlreadyThere { .. })), "{again:?}");
}

#[test]
fn a_published_package_is_on_the_shelf_signed_for_and_kept_by_its_hash() {
    let stage = Stage::new();
    let file = stage.build(Recipe::default());
    let published = publish(&stage.depot(), std::slice::from_ref(&file), TODAY).unwrap();
    assert_eq!(published[0].file, "hello-1.0.0-1-dsm7-x86_64.spk");
    assert!(published[0].is_new);
    let bytes = fs::read(&file).unwrap();
    assert_eq!(
        stage.verified(TODAY),
        Ok(vec![("hello-1.0.0-1-dsm7-x86_64.spk".to_owned(), bytes.len() as u64)])
    );
    let shelves = shelves(&stage.depot()).unwrap();
    let item = &shelves.items[0];
    assert_eq!(fs::read(stage.depot().join(format!("files/{}.spk", item.sha256))).unwrap(), bytes);
    assert_eq!(item.build_min, 40_000);
    for icon in [item.icon.as_ref(), item.icon_256.as_ref()] {
        assert!(stage.depot().join(format!("icons/{}.png", icon.unwrap())).exists());
    }
    // Once more is nothing new, and makes no new tree.
    let number = Place::at(&stage.depot()).current().unwrap();
    assert!(!publish(&stage.depot(), &[file], TODAY).unwrap()[0].is_new);
    assert_eq!(Place::at(&stage.depot()).current().unwrap(), number);
}

#[test]
fn what_must_not_be_published_is_refused_and_changes_nothing() {
    let stage = Stage::new();
    stage.publish(Recipe { version: "1.0.0-2", ..Recipe::default() });
    let before = files_below(&stage.depot());
    let sound = stage.build(Recipe { version: "1.0.0-3", ..Recipe::default() });
    let refusal = |file: PathBuf| {
        // A sound package in the same call is not published either.
        let error = publish(&stage.depot(), &[sound.clone(), file], TODAY).unwrap_err();
        assert!(error.remedy().is_some(), "{error}");
        assert_eq!(files_below(&stage.depot()), before, "{error}");
        error
    };
    let file = stage.depot().with_file_name("nonsense.spk");
    fs::write(&file, b"nonsense").unwrap();
    assert!(matches!(refusal(file.clone()), DepotError::Unreadable { .. }));
    assert!(matches!(refusal(stage.depot().join("nothing.spk")), DepotError::File { .. }));

    // Cut off in the middle of its payload.
    let whole = fs::read(&sound).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    assert!(matches!(refusal(file.clone()), DepotError::Unreadable { .. }));

    // Readable, but no DSM would install it: INFO's checksum is that of another payload.
    let mut broken = whole.clone();
    let at = broken.windows(10).position(|ten| ten == b"checksum=\"").unwrap() + 10;
    broken[at] = if broken[at] == b'0' { b'1' } else { b'0' };
    fs::write(&file, broken).unwrap();
    assert!(matches!(refusal(file), DepotError::Unsound { .. }));

    let lower = stage.build(Recipe { version: "1.0.0-1", ..Recipe::default() });
    assert!(matches!(refusal(lower), DepotError::GoesBack { .. }));
    let changed = stage.build(Recipe { version: "1.0.0-2", content: "other", ..Recipe::default() });
    assert!(matches!(refusal(changed), DepotError::BytesChanged { .. }));
}

#[test]
fn a_publisher_killed_at_any_step_leaves_the_old_tree_or_the_new_and_the_next_one_goes_through() {
    let steps = [Step::Copied, Step::Kept, Step::Rendered, Step::Switched, Step::Cleared];
    for last in steps {
        let stage = Stage::new();
        stage.publish(Recipe::default());
        let old = stage.verified(TODAY).unwrap();
        let file = stage.build(Recipe { version: "1.0.0-2", ..Recipe::default() });
        let killed =
            publish_watched(&stage.depot(), &[Delivery::of_keeper(&file)], TODAY, &mut |step| {
                match step == last {
                    true => Err(DepotError::Busy { path: PathBuf::new() }),
                    false => Ok(()),
                }
            });
        assert!(killed.is_err(), "{last:?} was never reached");
        let seen = stage.verified(TODAY).unwrap();
        let is_new = matches!(last, Step::Switched | Step::Cleared);
        assert_eq!(seen != old, is_new, "{last:?}");
        for item in shelves(&stage.depot()).unwrap().offered() {
            let path = stage.depot().join(format!("files/{}.spk", item.sha256));
            assert_eq!(fs::metadata(path).unwrap().len(), item.bytes, "{last:?}");
        }
        let published = publish(&stage.depot(), &[file], TODAY).unwrap();
        assert_eq!(published[0].is_new, !is_new, "{last:?}");
        let seen = stage.verified(TODAY).unwrap();
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].0, "hello-1.0.0-2-dsm7-x86_64.spk", "{last:?}");
        let left = files_below(&stage.depot().join("files"));
        assert_eq!(left.len(), 2, "{last:?} left something behind: {:?}", left.keys());
    }
}

#[test]
fn withdrawing_brings_the_version_before_back_and_the_withdrawn_bytes_stay_bound() {
    let stage = Stage::new();
    stage.publish(Recipe::default());
    let second = stage.build(Recipe { version: "1.0.0-2", ..Recipe::default() });
    publish(&stage.depot(), std::slice::from_ref(&second), TODAY).unwrap();
    assert_eq!(withdraw(&stage.depot(), "hello", "1.0.0-2", TODAY).unwrap(), 1);
    let names = |stage: &Stage| stage.verified(TODAY).unwrap()[0].0.clone();
    assert_eq!(names(&stage), "hello-1.0.0-1-dsm7-x86_64.spk");
    let other = stage.build(Recipe { version: "1.0.0-2", content: "x", ..Recipe::default() });
    assert!(publish(&stage.depot(), &[other], TODAY).is_err());
    // The path was built over; the same recipe gives the same bytes again.
    let second = stage.build(Recipe { version: "1.0.0-2", ..Recipe::default() });
    assert!(publish(&stage.depot(), &[second], TODAY).unwrap()[0].is_new);
    assert_eq!(names(&stage), "hello-1.0.0-2-dsm7-x86_64.spk");
}

#[test]
fn one_target_is_signed_for_each_package_platform_and_dsm() {
    let stage = Stage::new();
    for (version, target, dsm) in [
        ("1.0.0-1", Target::X86_64, Dsm::Seven),
        ("1.0.0-1", Target::Armhf, Dsm::Seven),
        ("1.0.0-1", Target::X86_64, Dsm::Six),
        ("1.0.0-2", Target::X86_64, Dsm::Seven),
    ] {
        stage.publish(Recipe { version, target, dsm, ..Recipe::default() });
    }
    let names: Vec<_> = stage.verified(TODAY).unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(names.contains(&"hello-1.0.0-2-dsm7-x86_64.spk".to_owned()));
    assert!(names.contains(&"hello-1.0.0-1-dsm6-x86_64.spk".to_owned()));
    assert!(
        names.iter().any(|name| name == "hello-1.0.0-1-dsm7-armv7-and-6-more.spk"),
        "{names:?}"
    );
}

#[test]
fn a_depot_that_is_renewed_daily_never_expires_and_one_that_is_not_does_after_three_weeks() {
    let stage = Stage::new();
    stage.publish(Recipe::default());
    assert!(stage.verified(TODAY.plus_days(20)).is_ok());
    assert!(stage.verified(TODAY.plus_days(21)).is_err());
    // Two years of renewals; a client that looks three weeks later than any of them still believes.
    for day in (0..730).step_by(10) {
        let now = TODAY.plus_days(day);
        renew(&stage.depot(), now).unwrap();
        assert!(stage.verified(now.plus_days(20)).is_ok(), "day {day}");
    }
    let trees = fs::read_dir(stage.depot().join("trees")).unwrap().count();
    assert_eq!(trees, 2);
    let metadata = fs::read_dir(stage.depot().join("current/metadata")).unwrap().count();
    assert!(metadata < 24, "{metadata} files of metadata were kept");
}

#[test]
fn a_renewal_needs_the_online_keys_only() {
    let stage = Stage::new();
    stage.publish(Recipe::default());
    let key = |role: &str| stage.depot().join(format!("keys/{role}.key"));
    fs::remove_file(key("root")).unwrap();
    let targets_key = fs::read(key("targets")).unwrap();
    fs::remove_file(key("targets")).unwrap();
    renew(&stage.depot(), TODAY.plus_days(10)).unwrap();
    assert!(stage.verified(TODAY.plus_days(30)).is_ok());
    let file = stage.build(Recipe { version: "1.0.0-2", ..Recipe::default() });
    let error = publish(&stage.depot(), std::slice::from_ref(&file), TODAY).unwrap_err();
    assert_eq!(
        error.remedy().unwrap(),
        "Put targets.key back in its place for as long as the work takes."
    );
    fs::write(key("targets"), targets_key).unwrap();
    publish(&stage.depot(), &[file], TODAY).unwrap();
}

#[test]
fn two_publishers_at_once_both_get_through() {
    let stage = Stage::new();
    let files: Vec<_> = ["one", "two", "three"]
        .iter()
        .map(|name| stage.build(Recipe { name, ..Recipe::default() }))
        .collect();
    std::thread::scope(|scope| {
        for file in &files {
            scope.spawn(|| publish(&stage.depot(), std::slice::from_ref(file), TODAY).unwrap());
        }
    });
    assert_eq!(stage.verified(TODAY).unwrap().len(), 3);
}

#[test]
fn a_folder_that_is_no_depot_is_said_to_be_none() {
    let folder = tempfile::tempdir().unwrap();
    let error = publish(folder.path(), &[], TODAY).unwrap_err();
    assert!(matches!(error, DepotError::NoDepot { .. }));
    assert!(error.remedy().unwrap().contains("depot init --root"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_beta_that_proved_itself_becomes_stable_and_never_pushes_a_higher_one_back() {
    let stage = Stage::new();
    stage.publish(Recipe::default());
    stage.publish(Recipe { version: "1.1.0-2", info: "beta = \"yes\"", ..Recipe::default() });
    assert_eq!(stage.verified(TODAY).unwrap().len(), 2);
    assert_eq!(promote(&stage.depot(), "hello", "1.1.0-2", Channel::Stable, TODAY).unwrap(), 1);
    let names: Vec<_> = stage.verified(TODAY).unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["hello-1.1.0-2-dsm7-x86_64.spk"]);
    // Once more is nothing new.
    assert_eq!(promote(&stage.depot(), "hello", "1.1.0-2", Channel::Stable, TODAY).unwrap(), 0);
    let missing = promote(&stage.depot(), "hello", "9.9", Channel::Stable, TODAY);
    assert!(matches!(missing, Err(DepotError::NotThere { .. })), "{missing:?}");
    stage.publish(Recipe { version: "1.2.0-3", info: "beta = \"yes\"", ..Recipe::default() });
    stage.publish(Recipe { version: "1.3.0-4", ..Recipe::default() });
    let back = promote(&stage.depot(), "hello", "1.2.0-3", Channel::Stable, TODAY);
    assert!(matches!(back, Err(DepotError::GoesBack { .. })), "{back:?}");
}

#[test]
fn a_days_renewal_links_what_stays_and_takes_no_list_for_granted() {
    let stage = Stage::new();
    stage.publish(Recipe::default());
    let depot = stage.depot();
    let tomorrow = TODAY.plus_days(1);
    let inode = |tree: u64, name: &str| {
        let path = depot.join(format!("trees/{tree}")).join(name);
        std::os::unix::fs::MetadataExt::ino(&path.metadata().unwrap())
    };
    renew(&depot, tomorrow).unwrap();
    for name in ["shelves.json", "metadata/2.targets.json", "metadata/1.root.json"] {
        assert_eq!(inode(2, name), inode(3, name), "{name}");
    }
    assert_ne!(inode(2, "metadata/timestamp.json"), inode(3, "metadata/timestamp.json"));
    // Three weeks after that one clients still believe it, and the report says the same.
    assert_eq!(stage.verified(TODAY.plus_days(21)).unwrap().len(), 1);
    let days = |role: usize| keys(&depot, tomorrow).unwrap().roles[role].days_left;
    assert_eq!([0, 1, 2, 3].map(days), [1824, 399, 21, 21]);
    // No more snapshots are kept than a client in the middle of reading may want.
    for day in 2..14 {
        renew(&depot, TODAY.plus_days(day)).unwrap();
    }
    let names = fs::read_dir(depot.join("current/metadata")).unwrap();
    let is_snapshot = |name: &str| name.ends_with(".snapshot.json");
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| is_snapshot(name)).count(), 9);

    let list = depot.join("current/metadata/2.targets.json");
    let mut bytes = fs::read(&list).unwrap();
    let at = bytes.windows(5).position(|five| five == b"hello").unwrap();
    bytes[at] = b'j';
    fs::remove_file(&list).unwrap();
    fs::write(&list, bytes).unwrap();
    let error = renew(&depot, TODAY.plus_days(15)).unwrap_err();
    assert!(error.to_string().contains("is not the list that the snapshot names"), "{error}");
}

#[test]
fn what_was_withdrawn_leaves_the_folder_with_the_first_change_after_a_month() {
    let stage = Stage::new();
    for name in ["hello", "notes"] {
        stage.publish(Recipe { name, content: name, ..Recipe::default() });
    }
    let depot = stage.depot();
    let files = || files_below(&depot.join("files")).len();
    withdraw(&depot, "hello", "1.0.0-1", TODAY).unwrap();
    let to = |channel, day| {
        promote(&depot, "notes", "1.0.0-1", channel, TODAY.plus_days(day)).unwrap();
    };
    to(Channel::Beta, 30);
    assert_eq!(files(), 2, "it may be brought back");
    to(Channel::Stable, 31);
    assert_eq!(files(), 1);
    assert_eq!(files_below(&depot.join("icons")).len(), 2, "the other package has the same");
    let again = stage.build(Recipe { content: "hello", ..Recipe::default() });
    publish(&depot, &[again], TODAY.plus_days(32)).unwrap();
    assert_eq!(files(), 2);
    to(Channel::Beta, 80);
    assert_eq!(files(), 2);
}
