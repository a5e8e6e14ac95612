//! The suite's `test_keys` and `test_updater_key_rotations`: who counts as a signer, and how the
//! root passes from one set of keys to the next.

use crate::world::{Seats, World, key};
use supervisor_trust::Role;
use supervisor_trust::json::Value;

fn seats(listed: &[u8], threshold: usize, signing: &[u8]) -> Seats {
    Seats { listed: listed.to_vec(), threshold, signing: signing.to_vec() }
}

/// A name, whether the last is accepted, and of each root its keys, threshold and signers.
type Rotation<'a> = (&'a str, bool, &'a [(&'a [u8], usize, &'a [u8])]);

const FIVE: &[u8] = &[20, 21, 22, 23, 24];
const FIVE_ONE_CHANGED: &[u8] = &[20, 21, 23, 24, 25];
const FIVE_OTHERS: &[u8] = &[30, 31, 32, 33, 34];

const ROTATIONS: &[Rotation<'_>] = &[
    ("1-of-1", true, &[(&[9], 1, &[9]), (&[8], 1, &[8, 9]), (&[8], 1, &[8])]),
    ("1-of-1, unused signatures", true, &[(&[9], 1, &[7, 9, 6]), (&[8], 1, &[7, 8, 9, 6])]),
    (
        "3-of-5, signed by different ones",
        true,
        &[(FIVE, 3, &[20, 22, 24]), (FIVE, 3, &[20, 24, 21]), (FIVE, 3, &[20, 21, 23])],
    ),
    (
        "3-of-5, one key rotated",
        true,
        &[(FIVE, 3, &[20, 22, 24]), (FIVE_ONE_CHANGED, 3, &[20, 24, 21])],
    ),
    (
        "3-of-5, one key rotated with a step between",
        true,
        &[
            (FIVE, 3, &[20, 22, 24]),
            (FIVE_ONE_CHANGED, 3, &[20, 22, 24, 25]),
            (FIVE_ONE_CHANGED, 3, &[20, 24, 25]),
        ],
    ),
    (
        "3-of-5, all keys rotated",
        true,
        &[
            (FIVE, 3, &[20, 22, 24]),
            (FIVE_OTHERS, 3, &[20, 22, 24, 30, 31, 32]),
            (FIVE_OTHERS, 3, &[30, 31, 32]),
        ],
    ),
    ("1-of-3 to 2-of-3", true, &[(&[7, 8, 9], 1, &[7]), (&[7, 8, 9], 2, &[7, 8])]),
    ("2-of-3 to 1-of-3", true, &[(&[7, 8, 9], 2, &[7, 8]), (&[7, 8, 9], 1, &[7, 8])]),
    ("1-of-1 to 2-of-2", true, &[(&[8], 1, &[8]), (&[8, 9], 2, &[8, 9])]),
    ("not signed by the old key", false, &[(&[9], 1, &[9]), (&[8], 1, &[8, 7])]),
    ("not signed by the new key", false, &[(&[9], 1, &[9]), (&[8], 1, &[9, 7])]),
    (
        "not signed by 3 new keys",
        false,
        &[(FIVE, 3, &[20, 22, 24]), (FIVE_ONE_CHANGED, 3, &[20, 22, 24])],
    ),
    (
        "not signed by 3 old keys",
        false,
        &[(FIVE, 3, &[20, 22, 24]), (FIVE_ONE_CHANGED, 3, &[20, 24, 25])],
    ),
    ("new threshold not reached", false, &[(&[7, 8, 9], 1, &[7]), (&[7, 8, 9], 2, &[8])]),
    ("old threshold not reached", false, &[(&[7, 8, 9], 2, &[7, 8]), (&[7, 8, 9], 1, &[7])]),
];

#[test]
fn test_root_rotation() {
    for (name, is_well, versions) in ROTATIONS {
        let mut world = World::without_client();
        for (listed, threshold, signing) in *versions {
            world.seats.insert(Role::Root, seats(listed, *threshold, signing));
            world.publish_root();
        }
        world.publish();
        world.init();
        assert_eq!(world.refresh(), *is_well, "{name}");
        let last = versions.len() - usize::from(!is_well);
        let wanted = world.served(&format!("metadata/{last}.root.json"));
        assert_eq!(world.kept(Role::Root).unwrap(), wanted, "{name}");
    }
}

#[test]
fn test_non_root_rotations() {
    for (name, is_well, (listed, threshold, signing)) in [
        ("1-of-1", true, (&[8][..], 1, &[8][..])),
        ("1-of-1, unused signatures", true, (&[8], 1, &[7, 8, 6])),
        ("1-of-1, not signed by the new key", false, (&[8], 1, &[2, 3, 4])),
        ("3-of-5, one of the signers is no longer listed", false, (FIVE, 3, &[20, 25, 24])),
        ("3-of-5, two signatures", false, (FIVE, 3, &[20, 24])),
        ("3-of-5, first, third, fifth", true, (FIVE, 3, &[20, 22, 24])),
        ("3-of-5, first, fifth, second", true, (FIVE, 3, &[20, 24, 21])),
        ("3-of-5, the middle", true, (FIVE, 3, &[21, 22, 23])),
        ("3-of-5, the last", true, (FIVE, 3, &[22, 23, 24])),
    ] {
        for role in [Role::Timestamp, Role::Snapshot, Role::Targets] {
            let mut world = World::new();
            assert!(world.refresh());
            world.seats.insert(role, seats(listed, threshold, signing));
            world.publish_root();
            world.publish_next();
            assert_eq!(world.refresh(), is_well, "{name}, {role}");
            let place = Role::ALL.iter().position(|one| *one == role).unwrap();
            let kept = world.versions()[place];
            // A key taken back makes the client forget what it vouched for.
            assert_eq!(kept == 2, is_well, "{name}, {role}: {kept}");
        }
    }
}

#[test]
fn test_snapshot_threshold() {
    let mut world = World::new();
    assert!(world.refresh());
    world.seats.insert(Role::Snapshot, seats(&[3, 41, 42, 43, 44], 6, &[3, 41, 42, 43, 44]));
    world.publish_root();
    world.publish_next();
    assert!(!world.refresh());
    assert_eq!(world.versions()[2], 1);
}

#[test]
fn test_root_has_keys_but_not_snapshot() {
    let mut world = World::new();
    assert!(world.refresh());
    // The keys sign and the root knows them, but for another role.
    world.seats.insert(Role::Snapshot, seats(&[3, 41], 3, &[3, 41, 4, 2]));
    world.publish_root();
    world.publish_next();
    assert!(!world.refresh());
    assert_eq!(world.versions(), [2, 1, 1, 2]);
}

#[test]
fn test_wrong_hashing_algorithm() {
    let mut world = World::new();
    assert!(world.refresh());
    world.seats.insert(Role::Snapshot, seats(FIVE, 5, FIVE));
    // A member that is none of TUF's, in a key whose id stays what it was.
    world.edit_root = |value| {
        let Value::Object(mut members) = value else { panic!("no object") };
        let Some(Value::Object(keys)) = members.get_mut("keys") else { panic!("no keys") };
        let Some(Value::Object(one)) = keys.get_mut(key(20).public().id().as_str()) else {
            panic!("no key")
        };
        one.insert("keyid_hash_algorithms".to_owned(), Value::List(vec![Value::text("md5")]));
        Value::Object(members)
    };
    world.publish_root();
    world.publish_next();
    assert!(world.refresh());
    assert_eq!(world.versions(), [2, 2, 2, 2]);
}

#[test]
fn test_duplicate_keys_root() {
    let mut world = World::new();
    assert!(world.refresh());
    world.seats.insert(Role::Snapshot, seats(&[3, 40, 41], 2, &[3, 40, 41]));
    // All three ids are of one key.
    world.edit_root = |value| {
        let Value::Object(mut members) = value else { panic!("no object") };
        let Some(Value::Object(keys)) = members.get_mut("keys") else { panic!("no keys") };
        for number in [40, 41] {
            keys.insert(key(number).public().id().to_string(), key(3).public().to_value());
        }
        Value::Object(members)
    };
    world.publish_root();
    world.publish_next();
    assert!(!world.refresh());
    assert_eq!(world.versions()[2], 1);
}

#[test]
fn test_duplicate_sig_keyids() {
    let mut world = World::new();
    assert!(world.refresh());
    world.seats.insert(Role::Snapshot, seats(&[3, 41], 2, &[3, 3]));
    world.publish_root();
    world.publish_next();
    assert!(!world.refresh());
    assert_eq!(world.versions()[2], 1);
    assert_ne!(key(3).public(), key(41).public());
}
