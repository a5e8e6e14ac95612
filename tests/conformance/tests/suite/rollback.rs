//! The suite's `test_rollback`: nothing goes back, unless the keys that went too far are replaced.

use crate::world::World;
use supervisor_trust::Role;

#[test]
fn test_simple_snapshot_rollback() {
    let mut world = World::new();
    world.publish_next();
    assert!(world.refresh());
    world.asked();
    // The snapshot goes back, the timestamp does not say so: there is nothing to fetch.
    world.snapshot.head.version -= 1;
    world.serve_snapshot();
    assert!(world.refresh());
    assert_eq!(world.asked().last().unwrap(), "timestamp.json");
    assert_eq!(world.versions()[2], 2);
}

#[test]
fn test_new_timestamp_version_rollback() {
    let mut world = World::new();
    world.publish_next();
    assert!(world.refresh());
    world.timestamp.head.version -= 1;
    world.serve_timestamp();
    assert!(!world.refresh());
    assert_eq!(world.versions()[3], 2);
    assert_eq!(world.asked().last().unwrap(), "timestamp.json");
}

#[test]
fn test_snapshot_rollback() {
    for has_hashes in [false, true] {
        let mut world = World::new();
        world.has_hashes = has_hashes;
        world.publish_next();
        assert!(world.refresh());
        world.snapshot.head.version = 1;
        world.timestamp.head.version += 1;
        world.publish();
        assert!(!world.refresh());
        assert_eq!(world.versions(), [1, 2, 2, 2], "with hashes: {has_hashes}");
        assert_eq!(world.asked().last().unwrap(), "timestamp.json");
    }
}

#[test]
fn test_targets_rollback() {
    for has_hashes in [false, true] {
        let mut world = World::new();
        world.has_hashes = has_hashes;
        world.publish_next();
        assert!(world.refresh());
        world.targets.head.version = 1;
        world.snapshot.head.version += 1;
        world.timestamp.head.version += 1;
        world.publish();
        assert!(!world.refresh());
        assert_eq!(world.versions()[1..3], [2, 2], "with hashes: {has_hashes}");
    }
}

#[test]
fn test_new_timestamp_fast_forward_recovery() {
    let mut world = World::new();
    world.timestamp.head.version = 100;
    world.serve_timestamp();
    assert!(world.refresh());
    world.timestamp.head.version = 1;
    world.serve_timestamp();
    assert!(!world.refresh());
    world.rotate(Role::Timestamp, 50);
    world.publish_root();
    world.serve_timestamp();
    assert!(world.refresh());
    assert_eq!(world.versions()[3], 1);
}

#[test]
fn test_new_snapshot_fast_forward_recovery() {
    let mut world = World::new();
    world.snapshot.head.version = 99_999;
    world.timestamp.head.version += 1;
    world.publish();
    assert!(world.refresh());
    world.rotate(Role::Snapshot, 50);
    world.rotate(Role::Timestamp, 51);
    world.publish_root();
    world.snapshot.head.version = 1;
    world.timestamp.head.version += 1;
    world.publish();
    assert!(world.refresh());
    assert_eq!(world.versions()[2], 1);
}

#[test]
fn test_new_targets_fast_forward_recovery() {
    let mut world = World::new();
    world.targets.head.version = 100;
    world.snapshot.head.version += 1;
    world.timestamp.head.version += 1;
    world.publish();
    assert!(world.refresh());
    world.rotate(Role::Snapshot, 50);
    world.publish_root();
    world.targets.head.version = 2;
    world.snapshot.head.version += 1;
    world.timestamp.head.version += 1;
    world.publish();
    assert!(world.refresh());
    assert_eq!(world.versions()[1], 2);
}

#[test]
fn test_new_snapshot_version_mismatch() {
    let mut world = World::new();
    world.snapshot.head.version = 2;
    let newer = world.serve_snapshot();
    world.put("metadata/1.snapshot.json", newer);
    assert!(!world.refresh());
    assert_eq!(world.versions(), [1, 0, 0, 1]);
    assert_eq!(world.asked().last().unwrap(), "1.snapshot.json");
}
