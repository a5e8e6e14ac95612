//! What somebody who answers in the depot's place can try, and what comes of it: one test for each
//! row of the list of attacks, under its number there.

mod repository;

use repository::{Nas, Repository, TODAY, expires, key, meta, with};
use supervisor_trust::envelope::sign;
use supervisor_trust::json::Value;
use supervisor_trust::{
    Cache, Client, Moment, Role, TargetCheck, Trouble, UnixSeconds, Wanted, compare_versions,
};

/// Expects the run to fail with that sort of trouble, and what was kept to stay as it was; but a
/// sound newer timestamp may be kept before what it lists is refused.
#[track_caller]
fn refused(nas: &mut Nas, repository: &Repository, trouble: Trouble) -> String {
    let before = nas.kept.clone();
    let error = nas.updates_from(repository).expect_err("the attack succeeded");
    assert_eq!(error.trouble(), trouble, "{error}");
    assert!(!error.remedy().is_empty());
    for (name, bytes) in before.iter().filter(|(name, _)| **name != "timestamp.json") {
        assert!(nas.kept.get(name) == Some(bytes), "{name} was changed by a failed run");
    }
    error.to_string()
}

#[test]
fn attack_0_nothing_at_all_is_verified_and_kept_as_it_came() {
    let repository = Repository::sound();
    let mut nas = Nas::that_trusts(&repository);
    assert_eq!(nas.updates_from(&repository), Ok([1, 1, 1, 1]));
    for (kept, served) in [
        ("root.json", "1.root.json"),
        ("timestamp.json", "timestamp.json"),
        ("snapshot.json", "1.snapshot.json"),
        ("targets.json", "1.targets.json"),
    ] {
        assert_eq!(nas.kept[kept], repository.files[served]);
    }
    // The second time, only what may have changed is fetched.
    assert_eq!(nas.updates_from(&repository), Ok([1, 1, 1, 1]));
    assert_eq!(nas.fetched, ["2.root.json", "timestamp.json"]);
}

#[test]
fn attack_1_software_that_nobody_signed_for() {
    let repository = Repository::sound();
    let file = &repository.targets.targets["Holdfast.spk"];
    let check = |bytes: &[u8]| {
        let mut check = TargetCheck::new("Holdfast.spk", file);
        bytes.chunks(3).try_for_each(|piece| check.update(piece))?;
        check.finish()
    };
    assert_eq!(check(b"the package"), Ok(()));
    for bytes in [&b"tHe package"[..], b"the packag", b"the package!", b""] {
        assert_eq!(check(bytes).unwrap_err().trouble(), Trouble::MixUp);
    }
    for role in [Role::Targets, Role::Snapshot, Role::Timestamp] {
        let mut repository = Repository::sound();
        let mut nas = Nas::that_trusts(&repository);
        repository.keys.insert(role, vec![key(99)]);
        repository.publish();
        refused(&mut nas, &repository, Trouble::Signature);
    }
}

#[test]
fn attack_2_metadata_rolled_back() {
    let mut repository = Repository::sound();
    let old = repository.files.clone();
    let mut nas = Nas::that_trusts(&repository);
    repository.publish_next();
    assert_eq!(nas.updates_from(&repository), Ok([1, 2, 2, 2]));

    // The whole old state.
    let new = std::mem::replace(&mut repository.files, old);
    let error = refused(&mut nas, &repository, Trouble::Rollback);
    assert_eq!(error, "the depot offers timestamp.json version 1, but version 2 was seen before");

    // A new timestamp over an old snapshot; a new snapshot over an old list.
    repository.files = new;
    repository.timestamp.head.version = 3;
    repository.snapshot.head.version = 1;
    repository.publish_snapshot();
    refused(&mut nas, &repository, Trouble::Rollback);
    repository.snapshot.head.version = 3;
    repository.targets.head.version = 1;
    repository.publish();
    refused(&mut nas, &repository, Trouble::Rollback);

    // A list that vanished from the snapshot.
    repository.targets.head.version = 3;
    repository.snapshot.head.version = 4;
    repository.timestamp.head.version = 4;
    let none = meta(1, b"");
    repository.snapshot.meta.insert("other.json".to_owned(), none);
    repository.publish();
    assert_eq!(nas.updates_from(&repository), Ok([1, 4, 4, 3]));
    repository.snapshot.meta.remove("other.json");
    repository.publish_next();
    refused(&mut nas, &repository, Trouble::MixUp);
}

#[test]
fn attack_3_a_sound_list_without_a_newer_package() {
    // What is on offer is the newest that is listed, and that is older than what is installed.
    let mut repository = Repository::sound();
    repository.list("Holdfast-9.spk", b"an older package", "0.9-99");
    let (_, _, offer) = repository.targets.newest(&OUR_BOX).unwrap();
    assert_eq!(offer.version, "1.0-1");
    assert!(compare_versions(&offer.version, "1.0-2").is_lt());
    assert!(compare_versions(&offer.version, "1.0-1").is_eq());
}

#[test]
fn attack_4_time_frozen() {
    for (role, day) in [(Role::Timestamp, 21), (Role::Root, 1825), (Role::Targets, 400)] {
        let mut repository = Repository::sound();
        // Everything but this role is signed for long.
        for head in [
            &mut repository.targets.head,
            &mut repository.snapshot.head,
            &mut repository.timestamp.head,
        ] {
            head.expires = head.expires.max(expires(3000));
        }
        match role {
            Role::Timestamp => repository.timestamp.head.expires = expires(day),
            Role::Targets => repository.targets.head.expires = expires(day),
            _ => {}
        }
        repository.publish();
        let mut nas = Nas::that_trusts(&repository);
        nas.clock = UnixSeconds::new(expires(day).seconds() - 1);
        assert!(nas.updates_from(&repository).is_ok(), "{role}");
        nas.clock = expires(day);
        let error = refused(&mut nas, &repository, Trouble::Expired);
        assert!(error.starts_with(&format!("the depot's {role} metadata expired")), "{error}");
    }
    let mut repository = Repository::sound();
    repository.timestamp.head.expires = expires(100);
    repository.publish();
    let mut nas = Nas::that_trusts(&repository);
    nas.clock = expires(21);
    let error = refused(&mut nas, &repository, Trouble::Expired);
    assert!(error.contains("snapshot"), "{error}");
}

#[test]
fn attack_5_versions_driven_sky_high_are_forgotten_with_the_key_that_signed_them() {
    let mut repository = Repository::sound();
    let mut nas = Nas::that_trusts(&repository);
    for head in [&mut repository.snapshot.head, &mut repository.timestamp.head] {
        head.version = u64::MAX;
    }
    repository.publish_snapshot();
    assert_eq!(nas.updates_from(&repository), Ok([1, u64::MAX, u64::MAX, 1]));

    repository.snapshot.head.version = 2;
    repository.timestamp.head.version = 2;
    repository.publish_snapshot();
    refused(&mut nas, &repository, Trouble::Rollback);

    repository.keys.insert(Role::Timestamp, vec![key(16)]);
    repository.keys.insert(Role::Snapshot, vec![key(15)]);
    repository.rotate(&[&key(1), &key(2)], &[]);
    repository.publish_snapshot();
    assert_eq!(nas.updates_from(&repository), Ok([2, 2, 2, 1]));
}

#[test]
fn attack_6_old_and_new_mixed() {
    let mut repository = Repository::sound();
    let mut nas = Nas::that_trusts(&repository);
    repository.list("Holdfast-2.spk", b"another package", "1.0-2");
    let first = repository.files.clone();
    repository.publish_next();
    let second = repository.files.clone();
    for (piece, other) in
        [("2.snapshot.json", "1.snapshot.json"), ("2.targets.json", "1.targets.json")]
    {
        repository.files = second.clone();
        repository.files.insert(piece.to_owned(), first[other].clone());
        refused(&mut nas, &repository, Trouble::MixUp);
        nas = Nas::that_trusts(&repository);
    }
    // Signed, of the right length and hash, but not the version it is listed as.
    repository.files = second;
    let bytes = repository.files["1.targets.json"].clone();
    repository.snapshot.meta.insert("targets.json".to_owned(), meta(2, &bytes));
    repository.files.insert("2.targets.json".to_owned(), bytes);
    repository.publish_snapshot();
    refused(&mut nas, &repository, Trouble::MixUp);
}

#[test]
fn attack_7_endless_data() {
    let repository = Repository::sound();
    let root = &repository.files["1.root.json"];
    let mut client = Client::start(root, Cache::default(), Moment::new(TODAY, TODAY)).unwrap();
    let mut limits = Vec::new();
    while let Some(request) = client.request() {
        limits.push((request.name.clone(), request.bytes_max));
        let endless = vec![b' '; request.bytes_max as usize + 1];
        let mut greedy = Client::start(root, Cache::default(), Moment::new(TODAY, TODAY)).unwrap();
        while greedy.request().is_some_and(|other| other.name != request.name) {
            let name = greedy.request().unwrap().name;
            greedy.answer(repository.files.get(&name).map(Vec::as_slice)).unwrap();
        }
        assert_eq!(greedy.answer(Some(&endless)).unwrap_err().trouble(), Trouble::Malformed);
        assert_eq!(greedy.request(), None, "a failed run asks for nothing more");
        client.answer(repository.files.get(&request.name).map(Vec::as_slice)).unwrap();
    }
    // What a signed list gives a length, is not read beyond it.
    let length = |name: &str| repository.files[name].len() as u32;
    assert_eq!(limits[2], ("1.snapshot.json".to_owned(), length("1.snapshot.json")));
    assert_eq!(limits[3], ("1.targets.json".to_owned(), length("1.targets.json")));
}

const OUR_BOX: Wanted<'static> = Wanted {
    package: "Holdfast",
    platforms: &["apollolake", "x86_64"],
    channel: "stable",
    dsm_major: 7,
    dsm_build: 72_806,
};

#[test]
fn attack_8_members_that_ask_for_other_packages() {
    // Signed by the right key: the depot's keeper was careless, or worse.
    let mut repository = Repository::sound();
    let sound = repository.targets.newest(&OUR_BOX).unwrap().2;
    let file = repository.targets.targets.get_mut("Holdfast.spk").unwrap();
    for member in ["deppkgs", "install_dep_packages", "depends", "dependencies"] {
        let evil = Value::List(vec![Value::text("Evil")]);
        file.custom = file.custom.take().map(|custom| with(custom, &[member], evil));
    }
    repository.publish_next();
    let mut nas = Nas::that_trusts(&repository);
    nas.updates_from(&repository).unwrap();
    // One file is named, and nothing but what it says of itself is read.
    let (name, _, offer) = repository.targets.newest(&OUR_BOX).unwrap();
    assert_eq!((name, offer), ("Holdfast.spk", sound));
}

#[test]
fn attack_9_a_file_signed_for_another_box() {
    let repository = Repository::sound();
    let wanted = OUR_BOX;
    let (name, ..) = repository.targets.newest(&wanted).unwrap();
    assert_eq!(name, "Holdfast.spk");
    for other in [
        Wanted { platforms: &["armada38x"], ..wanted.clone() },
        Wanted { package: "holdfast", ..wanted.clone() },
        Wanted { dsm_major: 6, dsm_build: 25_556, ..wanted.clone() },
    ] {
        let error = repository.targets.newest(&other).unwrap_err();
        assert_eq!(error.trouble(), Trouble::Missing);
    }
    let mut beta = Repository::sound();
    let file = beta.targets.targets.get_mut("Holdfast.spk").unwrap();
    file.custom = file.custom.take().map(|custom| with(custom, &["channel"], Value::text("beta")));
    assert!(beta.targets.newest(&wanted).is_err());
    assert!(beta.targets.newest(&Wanted { channel: "beta", ..wanted }).is_ok());
}

#[test]
fn attack_10_a_threshold_reached_by_counting_one_key_twice() {
    let repository = Repository::sound();
    let root = repository.root_value().to_value();
    let moment = Moment::new(TODAY, TODAY);
    let start = |bytes: &[u8]| Client::start(bytes, Cache::default(), moment).map(drop);
    assert!(start(&sign(&root, &[&key(1), &key(2)])).is_ok());
    let alone = start(&sign(&root, &[&key(1)])).unwrap_err();
    assert_eq!(alone.trouble(), Trouble::Signature);
    assert_eq!(start(&sign(&root, &[&key(1), &key(99)])).unwrap_err(), alone);
    // The same signature, or the same key id, twice.
    let twice = start(&sign(&root, &[&key(1), &key(1)])).unwrap_err();
    assert_eq!(twice.trouble(), Trouble::Malformed);
    // The same key under a second, made-up id, listed for the role.
    let id = key(1).public().id();
    let alias = "ab".repeat(32);
    let ids = Value::List([id.as_str(), &alias].map(Value::text).to_vec());
    let root = with(root, &["roles", "root", "keyids"], ids);
    let root = with(root, &["keys", &alias], key(1).public().to_value());
    let signed = sign(&root, &[&key(1)]);
    let mut envelope = Value::parse(&signed).unwrap();
    let Value::Object(members) = &mut envelope else { unreachable!() };
    let Some(Value::List(signatures)) = members.get_mut("signatures") else { unreachable!() };
    let copy = with(signatures[0].clone(), &["keyid"], Value::text(&alias));
    signatures.push(copy);
    assert_eq!(start(&envelope.to_json()).unwrap_err(), alone);
}

#[test]
fn attack_11_the_online_keys_stolen_cannot_offer_anything_new() {
    let mut repository = Repository::sound();
    let mut nas = Nas::that_trusts(&repository);
    // The thief has the keys of timestamp and snapshot, not that of targets.
    repository.list("Evil.spk", b"evil", "9.9-9");
    repository.keys.insert(Role::Targets, vec![key(99)]);
    repository.publish_next();
    refused(&mut nas, &repository, Trouble::Signature);
}

#[test]
fn attack_12_one_stolen_root_key_of_three() {
    let mut repository = Repository::sound();
    let mut nas = Nas::that_trusts(&repository);
    let stolen = key(3);
    repository.keys.insert(Role::Root, vec![stolen, key(98), key(99)]);
    repository.rotate(&[&key(3)], &[&key(98), &key(99)]);
    refused(&mut nas, &repository, Trouble::Signature);
    // Enough old keys, but not enough of the new ones.
    let mut repository = Repository::sound();
    repository.keys.insert(Role::Root, vec![key(97), key(98), key(99)]);
    repository.rotate(&[&key(1), &key(2)], &[&key(97)]);
    refused(&mut nas, &repository, Trouble::Signature);
    // And the honest change of all keys.
    let mut repository = Repository::sound();
    repository.keys.insert(Role::Root, vec![key(97), key(98), key(99)]);
    repository.rotate(&[&key(1), &key(2)], &[&key(97), &key(98)]);
    assert_eq!(nas.updates_from(&repository), Ok([2, 1, 1, 1]));
    assert_eq!(nas.kept["root.json"], repository.files["2.root.json"]);
}

#[test]
fn attack_13_a_hole_in_the_chain_of_roots() {
    let mut repository = Repository::sound();
    let mut nas = Nas::that_trusts(&repository);
    repository.rotate(&[&key(1), &key(2)], &[]);
    repository.rotate(&[&key(1), &key(2)], &[]);
    let second = repository.files.remove("2.root.json").unwrap();
    // The third is never reached; the first still holds while it lasts.
    assert_eq!(nas.updates_from(&repository), Ok([1, 1, 1, 1]));
    nas.clock = expires(1825);
    refused(&mut nas, &repository, Trouble::Expired);
    // Neither a root in another's place, nor an old one again.
    nas.clock = TODAY;
    let third = repository.files["3.root.json"].clone();
    repository.files.insert("2.root.json".to_owned(), third);
    refused(&mut nas, &repository, Trouble::MixUp);
    let first = repository.files["1.root.json"].clone();
    repository.files.insert("2.root.json".to_owned(), first);
    refused(&mut nas, &repository, Trouble::Rollback);
    repository.files.insert("2.root.json".to_owned(), second);
    assert_eq!(nas.updates_from(&repository), Ok([3, 1, 1, 1]));
}

#[test]
fn attack_13_an_expired_root_that_came_with_the_program_leads_to_the_new_one() {
    let mut repository = Repository::sound();
    let mut nas = Nas::that_trusts(&repository);
    nas.clock = expires(2000);
    refused(&mut nas, &repository, Trouble::Expired);
    repository.root.expires = expires(4000);
    repository.rotate(&[&key(1), &key(2)], &[]);
    for head in [
        &mut repository.targets.head,
        &mut repository.snapshot.head,
        &mut repository.timestamp.head,
    ] {
        head.expires = expires(4000);
    }
    repository.publish_next();
    assert_eq!(nas.updates_from(&repository), Ok([2, 2, 2, 2]));
}

#[test]
fn attack_20_a_clock_that_is_wrong() {
    let repository = Repository::sound();
    let mut nas = Nas::that_trusts(&repository);
    // Dead battery: the depot's metadata is not from the future, the clock is from the past.
    nas.clock = UnixSeconds::new(60);
    assert_eq!(nas.updates_from(&repository), Ok([1, 1, 1, 1]));
    // Decades ahead: said so, and nothing is kept that would poison the time when it is set right.
    nas.clock = UnixSeconds::new(4_107_542_400);
    let error = refused(&mut nas, &repository, Trouble::ClockWrong);
    assert!(error.starts_with("this computer's clock says 2100-03-01T00:00:00Z"), "{error}");
    nas.clock = TODAY;
    assert_eq!(nas.updates_from(&repository), Ok([1, 1, 1, 1]));
}

#[test]
fn attack_23_signatures_taken_off() {
    for file in ["timestamp.json", "1.snapshot.json", "1.targets.json"] {
        let mut repository = Repository::sound();
        let mut nas = Nas::that_trusts(&repository);
        // Lists without lengths and hashes, so that only the signature stands in the way.
        for listed in repository.snapshot.meta.values_mut() {
            (listed.length, listed.sha256) = (None, None);
        }
        repository.publish_snapshot();
        let snapshot = &mut repository.timestamp.snapshot;
        (snapshot.length, snapshot.sha256) = (None, None);
        repository.publish_timestamp();
        assert!(Nas::that_trusts(&repository).updates_from(&repository).is_ok());
        let sound = Value::parse(&repository.files[file]).unwrap();
        let mut bare = |value: Value, trouble| {
            repository.files.insert(file.to_owned(), value.to_json());
            refused(&mut nas, &repository, trouble);
        };
        bare(with(sound.clone(), &["signatures"], Value::List(vec![])), Trouble::Signature);
        bare(with(sound.clone(), &["signatures"], Value::Null), Trouble::Malformed);
        bare(sound.get("signed").unwrap().clone(), Trouble::Malformed);
    }
}

#[test]
fn attack_24_a_text_with_two_meanings() {
    let repository = Repository::sound();
    let sound = String::from_utf8(repository.files["timestamp.json"].clone()).unwrap();
    for (what, text) in [
        ("a key twice", sound.replacen("\"version\":1", "\"version\":9,\"version\":1", 1)),
        ("a fraction", sound.replace("\"version\":1", "\"version\":1.0")),
        ("an exponent", sound.replace("\"version\":1", "\"version\":1e0")),
        ("a mark of byte order", format!("\u{feff}{sound}")),
        ("something after it", format!("{sound}{{}}")),
        ("depth", format!("{{\"signed\":{}{}", "[".repeat(10_000), sound)),
        ("nothing", String::new()),
        ("a page of a hotel's network", "<html>Welcome</html>".to_owned()),
    ] {
        let mut attacked = Repository::sound();
        let mut nas = Nas::that_trusts(&attacked);
        assert_ne!(text, sound, "{what}");
        attacked.files.insert("timestamp.json".to_owned(), text.into_bytes());
        refused(&mut nas, &attacked, Trouble::Malformed);
    }
    // White space and order have no meaning, so they may differ.
    let mut spaced = Repository::sound();
    let mut nas = Nas::that_trusts(&spaced);
    let text = format!(" {}\n", sound.replace("\",\"", "\" ,\n\""));
    spaced.files.insert("timestamp.json".to_owned(), text.into_bytes());
    assert!(nas.updates_from(&spaced).is_ok());
}

#[test]
fn attack_25_metadata_of_one_role_in_the_place_of_another() {
    let mut repository = Repository::sound();
    let mut nas = Nas::that_trusts(&repository);
    // Even where one key signs for both.
    repository.keys.insert(Role::Timestamp, vec![key(5)]);
    repository.rotate(&[&key(1), &key(2)], &[]);
    let snapshot = repository.files["1.snapshot.json"].clone();
    repository.files.insert("timestamp.json".to_owned(), snapshot);
    let error = nas.updates_from(&repository).unwrap_err();
    assert_eq!(error.trouble(), Trouble::Malformed);
}

#[test]
fn damaged_files_kept_from_the_last_run_only_cost_a_fetch() {
    let repository = Repository::sound();
    for name in ["timestamp.json", "snapshot.json", "targets.json"] {
        let mut nas = Nas::that_trusts(&repository);
        nas.updates_from(&repository).unwrap();
        for damage in [b"".to_vec(), b"{}".to_vec(), vec![0xff; 10]] {
            nas.kept.insert(name, damage);
            assert_eq!(nas.updates_from(&repository), Ok([1, 1, 1, 1]), "{name}");
        }
    }
}
