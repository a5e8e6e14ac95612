//! The suite's `test_expiration` and its faked clocks: what ended is refused, what is kept helps.

use crate::world::{TODAY, World};

#[test]
fn test_root_expired() {
    let mut world = World::new();
    assert!(world.refresh());
    world.root.expires = TODAY;
    world.publish_root();
    world.publish_next();
    // The root is kept, and nothing after it.
    assert!(!world.refresh());
    assert_eq!(world.versions(), [2, 1, 1, 1]);
    // It was only one in the middle.
    world.root.expires = TODAY.plus_days(9);
    world.publish_root();
    assert!(world.refresh());
    assert_eq!(world.versions(), [3, 2, 2, 2]);
}

#[test]
fn test_timestamp_expired() {
    let mut world = World::new();
    assert!(world.refresh());
    world.timestamp.head.expires = TODAY;
    world.publish_next();
    assert!(!world.refresh());
    assert_eq!(world.versions(), [1, 1, 1, 1]);
}

#[test]
fn test_snapshot_expired() {
    let mut world = World::new();
    assert!(world.refresh());
    world.snapshot.head.expires = TODAY;
    world.publish_next();
    assert!(!world.refresh());
    assert_eq!(world.versions(), [1, 1, 1, 2]);
}

#[test]
fn test_targets_expired() {
    let mut world = World::new();
    assert!(world.refresh());
    world.targets.head.expires = TODAY;
    world.publish_next();
    assert!(!world.refresh());
    assert_eq!(world.versions(), [1, 1, 2, 2]);
}

#[test]
fn test_expired_metadata() {
    let mut world = World::new();
    world.timestamp.head.expires = TODAY.plus_days(7);
    world.snapshot.head.expires = TODAY.plus_days(7);
    world.publish();
    assert!(world.refresh());
    world.timestamp.head.expires = TODAY.plus_days(21);
    world.snapshot.head.expires = TODAY.plus_days(21);
    world.publish_next();
    world.now = TODAY.plus_days(18);
    assert!(world.refresh());
    assert_eq!(world.versions(), [1, 2, 2, 2]);
}

#[test]
fn test_expired_local_root() {
    let mut world = World::new();
    assert!(world.refresh());
    world.root.expires = TODAY.plus_days(60);
    world.publish_root();
    world.targets.head.expires = TODAY.plus_days(60);
    world.snapshot.head.expires = TODAY.plus_days(60);
    world.timestamp.head.expires = TODAY.plus_days(60);
    world.publish_next();
    world.now = TODAY.plus_days(40);
    assert!(world.refresh());
    assert_eq!(world.versions(), [2, 2, 2, 2]);
}

#[test]
fn test_expired_local_timestamp() {
    let mut world = World::new();
    world.timestamp.head.expires = TODAY.plus_days(1);
    world.publish();
    assert!(world.refresh());
    world.now = TODAY.plus_days(2);
    assert!(!world.refresh(), "a timestamp that ended is no better for being known");
    // An older one, still valid by its date, is a rollback all the same.
    world.timestamp.head.version = 5;
    world.timestamp.head.expires = TODAY.plus_days(9);
    world.publish();
    assert!(world.refresh());
    world.timestamp.head.version = 4;
    world.publish();
    assert!(!world.refresh());
    assert_eq!(world.versions()[3], 5);
}

#[test]
fn test_faketime() {
    let mut world = World::new();
    assert!(world.refresh());
    for (days, is_well) in [(0, true), (7, true), (29, true), (30, false), (31, false)] {
        world.now = TODAY.plus_days(days);
        assert_eq!(world.refresh(), is_well, "{days} days later");
    }
}
