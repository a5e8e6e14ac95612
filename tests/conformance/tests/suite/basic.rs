//! The suite's `test_basic`: the workflow, what is asked for, what is kept.

use crate::world::World;
use supervisor_trust::Role;
use supervisor_trust::json::Value;

#[test]
fn test_basic_init_and_refresh() {
    let world = World::new();
    assert!(world.refresh());
    let asked = ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"];
    assert_eq!(world.asked(), asked);
    assert_eq!(world.versions(), [1, 1, 1, 1]);
}

#[test]
fn test_metadata_bytes_match() {
    let world = World::new();
    // White space the signature does not cover: a client that writes anew would lose it.
    for name in ["timestamp.json", "1.snapshot.json", "1.targets.json"] {
        let mut bytes = world.served(&format!("metadata/{name}"));
        bytes.extend(b"  \n\t\n");
        world.put(&format!("metadata/{name}"), bytes);
    }
    assert!(world.refresh());
    for (role, name) in [
        (Role::Root, "1.root.json"),
        (Role::Timestamp, "timestamp.json"),
        (Role::Snapshot, "1.snapshot.json"),
        (Role::Targets, "1.targets.json"),
    ] {
        assert_eq!(world.kept(role).unwrap(), world.served(&format!("metadata/{name}")));
    }
}

#[test]
fn test_implicit_refresh() {
    let world = World::new();
    assert!(!world.download(&["nonexistent artifact"]));
    assert_eq!(world.asked().len(), 4);
    assert_eq!(world.versions(), [1, 1, 1, 1]);
}

#[test]
fn test_invalid_initial_root() {
    let world = World::new();
    let text = String::from_utf8(world.served("metadata/1.root.json")).unwrap();
    world.init_with(text.replace("\"version\":1", "\"inversion\":1").as_bytes());
    assert!(!world.refresh());
    assert_eq!(world.asked(), [""; 0]);
}

#[test]
fn test_unsigned_initial_root() {
    let world = World::new();
    let other = String::from_utf8(world.served("metadata/timestamp.json")).unwrap();
    let signature = |text: &str| {
        let value = Value::parse(text.as_bytes()).unwrap();
        let list = value.get("signatures").unwrap().as_list().unwrap().to_vec();
        list[0].get("sig").unwrap().as_text().unwrap().to_owned()
    };
    let text = String::from_utf8(world.served("metadata/1.root.json")).unwrap();
    world.init_with(text.replace(&signature(&text), &signature(&other)).as_bytes());
    assert!(!world.refresh());
    assert_eq!(world.asked(), [""; 0]);
}

#[test]
fn test_timestamp_content_changes_and_test_timestamp_eq_versions_check() {
    let mut world = World::new();
    assert!(world.refresh());
    let kept = world.kept(Role::Timestamp);
    world.timestamp.snapshot.version = 100;
    world.serve_timestamp();
    world.refresh();
    assert_eq!(world.kept(Role::Timestamp), kept);
}

#[test]
fn test_new_targets_hash_mismatch() {
    let mut world = World::new();
    world.has_hashes = true;
    world.publish_next();
    assert!(world.refresh());
    // The snapshot gives the new version with the old one's hash.
    world.targets.head.version += 1;
    world.serve_targets();
    let meta = world.snapshot.meta.get_mut("targets.json").unwrap();
    meta.version = world.targets.head.version;
    world.snapshot.head.version += 1;
    world.has_hashes = false;
    world.timestamp.head.version += 1;
    world.serve_snapshot();
    world.timestamp.snapshot.version = world.snapshot.head.version;
    (world.timestamp.snapshot.length, world.timestamp.snapshot.sha256) = (None, None);
    world.serve_timestamp();
    assert!(!world.refresh());
    assert_eq!(world.versions(), [1, 2, 3, 3]);
}

#[test]
fn test_new_targets_version_mismatch() {
    let mut world = World::new();
    assert!(world.refresh());
    world.targets.head.version += 1;
    world.serve_targets();
    assert!(world.refresh());
    assert_eq!(world.versions(), [1, 1, 1, 1]);
}

#[test]
fn test_url_and_metadata_version_mismatch() {
    let mut world = World::new();
    assert!(world.refresh());
    world.publish_next();
    for name in ["snapshot.json", "targets.json"] {
        let newest = world.served(&format!("metadata/2.{name}"));
        world.put(&format!("metadata/2.{name}"), world.served(&format!("metadata/1.{name}")));
        assert!(!world.refresh(), "{name}");
        world.put(&format!("metadata/2.{name}"), newest);
    }
    assert!(world.refresh());
    world.put("metadata/2.root.json", world.served("metadata/1.root.json"));
    assert!(!world.refresh());
    assert_eq!(world.versions()[0], 1);
}

#[test]
fn test_snapshot_hash_mismatch() {
    let mut world = World::new();
    world.has_hashes = true;
    world.publish_next();
    let mut bytes = world.served("metadata/2.snapshot.json");
    bytes.push(b'\n');
    world.put("metadata/2.snapshot.json", bytes);
    assert!(!world.refresh());
    assert_eq!(world.versions(), [1, 0, 0, 2]);
}

#[test]
fn test_unsigned_metadata() {
    for (name, kept) in [
        ("timestamp.json", [1, 0, 0, 0]),
        ("1.snapshot.json", [1, 0, 0, 1]),
        ("1.targets.json", [1, 0, 1, 1]),
    ] {
        let world = World::new();
        let bytes = world.served(&format!("metadata/{name}"));
        let Ok(Value::Object(mut members)) = Value::parse(&bytes) else { panic!("{name}") };
        members.insert("signatures".to_owned(), Value::List(Vec::new()));
        world.put(&format!("metadata/{name}"), Value::Object(members).to_json());
        assert!(!world.refresh(), "{name}");
        assert_eq!(world.versions(), kept, "{name}");
    }
}

#[test]
fn test_custom_fields() {
    let mut world = World::new();
    assert!(world.refresh());
    world.edit_root = |value| {
        let Value::Object(mut members) = value else { panic!("no object") };
        members.insert("custom-field".to_owned(), Value::text("value"));
        let Some(Value::Object(keys)) = members.get_mut("keys") else { panic!("no keys") };
        // Of every key, the root's too, while its id stays what it was.
        for key in keys.values_mut() {
            let Value::Object(key) = key else { panic!("no key") };
            key.insert("extra-field".to_owned(), Value::object([("a", Value::from(1))]));
        }
        let Some(Value::Object(roles)) = members.get_mut("roles") else { panic!("no roles") };
        let Some(Value::Object(role)) = roles.get_mut("targets") else { panic!("no role") };
        role.insert("another-field".to_owned(), Value::text("value"));
        Value::Object(members)
    };
    world.publish_root();
    assert!(world.refresh());
    assert_eq!(world.versions()[0], 2);
}
