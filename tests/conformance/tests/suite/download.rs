//! The suite's `test_file_download`: only the signed bytes arrive, each once.

use crate::world::World;

#[test]
fn test_client_downloads_expected_file() {
    let mut world = World::new();
    world.add_file("target_file.txt", b"contents");
    world.publish_next();
    assert!(world.refresh());
    assert_eq!(world.downloads(), Vec::<Vec<u8>>::new());
    assert!(world.download(&["target_file.txt"]));
    assert_eq!(world.downloads(), [b"contents"]);
}

#[test]
fn test_client_downloads_expected_file_in_sub_dir() {
    let mut world = World::new();
    world.add_file("path/to/a/target_file.txt", b"contents");
    world.publish_next();
    assert!(world.download(&["path/to/a/target_file.txt"]));
    assert_eq!(world.downloads(), [b"contents"]);
}

#[test]
fn test_repository_substitutes_target_file() {
    let mut world = World::new();
    world.add_file("one", b"first file");
    world.add_file("two", b"other file");
    world.publish_next();
    assert!(world.download(&["one"]));
    for malicious in [&b"malicious!"[..], b"malicious, and longer than that"] {
        world.put_file("one", "one", malicious);
        world.put_file("two", "two", malicious);
        world.download(&["one"]);
        assert_eq!(world.downloads(), [b"first file"]);
        assert!(!world.download(&["two"]));
        assert_eq!(world.downloads(), [b"first file"]);
    }
}

#[test]
fn test_multiple_changes_to_target() {
    let mut world = World::new();
    let mut others: Vec<Vec<u8>> = Vec::new();
    for turn in 0..11 {
        let contents = format!("contents {turn}").into_bytes();
        let new = format!("new contents {turn}").into_bytes();
        world.add_file("target", &contents);
        world.add_file(&format!("new-{turn}"), &new);
        world.publish_next();
        // The client sees every fifth of them.
        if turn % 5 == 0 {
            assert!(world.download(&["target", &format!("new-{turn}")]), "{turn}");
            others.push(new);
            let mut wanted = others.clone();
            wanted.push(contents);
            wanted.sort();
            assert_eq!(world.downloads(), wanted, "{turn}");
            world.put_file("target", "target", b"malicious");
            world.publish_next();
            world.download(&["target"]);
            assert_eq!(world.downloads(), wanted, "{turn}");
        }
    }
}

#[test]
fn test_artifact_cache_and_several_names_in_one_run() {
    let mut world = World::new();
    world.add_file("one", b"1");
    world.add_file("two", b"2");
    world.publish_next();
    assert!(world.download(&["one"]));
    world.asked();
    assert!(world.download(&["one", "two"]));
    let asked = world.asked();
    let files: Vec<_> = asked.iter().filter(|path| path.starts_with("targets/")).collect();
    assert_eq!(files.len(), 1, "what is there was fetched again: {asked:?}");
    assert!(files[0].ends_with(".two"));
    // The first that fails ends the run.
    assert!(!world.download(&["missing", "two"]));
}

#[test]
fn test_quoting_issues() {
    let names = ["?", "#", "a b", "%2e%2e", "../up", "/rooted", "..", ".hidden", "ü", "a\\b"];
    for name in names {
        let mut world = World::new();
        world.add_file(name, name.as_bytes());
        let quoted: String = name
            .split_inclusive('/')
            .map(|part| match part.trim_end_matches('/') {
                ".." => part.replace('.', "%2E"),
                _ => part
                    .bytes()
                    .map(|byte| match byte {
                        b'.' | b'/' | b'a'..=b'z' | b'0'..=b'9' => char::from(byte).to_string(),
                        _ => format!("%{byte:02X}"),
                    })
                    .collect(),
            })
            .collect();
        world.put_file(name, &quoted, name.as_bytes());
        world.publish_next();
        world.download(&[name]);
        // Fetched or not, nothing lies anywhere but in the folder for downloads.
        assert!(!world.path("up").exists(), "{name}");
        let beside = std::fs::read_dir(world.path(".")).unwrap();
        let mut beside: Vec<_> = beside.map(|entry| entry.unwrap().file_name()).collect();
        beside.sort();
        assert_eq!(beside, ["downloads", "first", "metadata"], "{name}");
        if !name.contains("..") && !name.starts_with('/') {
            assert_eq!(world.downloads(), [name.as_bytes()], "{name}");
        }
    }
}
