//! What an attacker on the way does to the connection, beyond the suite.

use crate::world::{Served, World};

#[test]
fn endless_answers_end_at_the_limit_of_each_file() {
    for name in ["metadata/2.root.json", "metadata/timestamp.json", "metadata/2.snapshot.json"] {
        let mut world = World::new();
        assert!(world.refresh());
        world.publish_next();
        world.serve(name, Served::Endless);
        assert!(!world.refresh(), "{name}");
        world.withdraw(name);
        assert_eq!(world.versions()[0..3], [1, 1, 1], "{name}");
    }
}

#[test]
fn an_endless_file_ends_at_its_signed_length_and_leaves_nothing() {
    let mut world = World::new();
    world.add_file("one", b"1");
    let hash = "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b";
    world.serve(&format!("targets/{hash}.one"), Served::Endless);
    world.publish_next();
    assert!(!world.download(&["one"]));
    assert_eq!(world.downloads(), Vec::<Vec<u8>>::new());
}

#[test]
fn a_redirect_is_not_followed() {
    let world = World::new();
    let other = World::new();
    let to = format!("{}/metadata/timestamp.json", other.url);
    world.serve("metadata/timestamp.json", Served::Redirect(to));
    assert!(!world.refresh());
    assert_eq!(other.asked(), [""; 0]);
}

#[test]
fn a_hole_in_the_chain_of_roots_ends_it_there() {
    let mut world = World::new();
    world.publish_root();
    world.publish_root();
    world.withdraw("metadata/2.root.json");
    assert!(world.refresh());
    assert_eq!(world.versions()[0], 1);
}

#[test]
fn a_failed_run_leaves_the_client_able_to_succeed_later() {
    let mut world = World::new();
    assert!(world.refresh());
    world.publish_next();
    for name in ["timestamp.json", "2.snapshot.json", "2.targets.json"] {
        let path = format!("metadata/{name}");
        let sound = world.served(&path);
        for cut in [0, 1, sound.len() / 2, sound.len() - 2] {
            world.put(&path, sound[..cut].to_vec());
            assert!(!world.refresh(), "{name} cut at {cut}");
        }
        world.put(&path, sound);
    }
    assert!(world.refresh());
    assert_eq!(world.versions(), [1, 2, 2, 2]);
}
