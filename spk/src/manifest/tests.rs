//! Manifests that are right, and each way of being wrong.

use super::*;

const SMALLEST: &str = r#"
    [package]
    name = "demo"
    version = "1.0.0-0001"
    displayname = "Demo"
    description = "Says hello."
    maintainer = "Somebody"
    targets = ["x86_64"]
    [dsm]
    build = [6, 7]
    [[payload]]
    from = "{programs}/{target}/hello"
    to = "bin/hello"
    mode = 0o755
    [scripts]
    folder = "scripts"
    [icon]
    file = "icon.png"
"#;

fn with(old: &str, new: &str) -> Result<Manifest, ManifestError> {
    assert!(SMALLEST.contains(old), "{old}");
    Manifest::parse(&SMALLEST.replacen(old, new, 1))
}

#[test]
fn the_smallest_manifest_says_all_that_is_needed() {
    let manifest = Manifest::parse(SMALLEST).unwrap();
    assert_eq!(manifest.version.text(), "1.0.0-0001");
    assert_eq!(manifest.dsm[&Dsm::Seven].to_string(), "7.0-40000");
    let file = &manifest.payload[0];
    let from = source_of(file, "demo", Target::Armhf, Path::new("/m"), Path::new("dist"));
    assert_eq!(from, Path::new("dist/armhf/hello"));
}

#[test]
fn a_key_nobody_knows_is_refused_where_it_stands() {
    let refused = with("name = \"demo\"", "name = \"demo\"\ncolour = \"red\"").unwrap_err();
    assert!(refused.to_string().contains("colour"), "{refused}");
    assert!(with("[scripts]\n    folder = \"scripts\"", "").is_err());
}

#[test]
fn each_wrong_value_is_named_with_what_to_write_instead() {
    for (old, new, expected) in [
        ("1.0.0-0001", "1.0.0-beta1", "`b`"),
        ("\"demo\"", "\"../demo\"", "package.name"),
        ("bin/hello", "../hello", "payload.to"),
        ("bin/hello", "/bin/hello", "payload.to"),
        ("bin/hello", "./bin/hello", "payload.to"),
        ("0o755", "0o4755", "setuid"),
        ("Says hello.", "Says \\\"hello\\\".", "quotes"),
        ("[6, 7]", "[4]", "dsm.build"),
        ("[\"x86_64\"]", "[\"qoriq\"]", "PowerPC"),
        ("[dsm]", "[info]\nchecksum = \"0\"\n[dsm]", "written from other tables"),
        ("[\"x86_64\"]", "[]", "nothing to build"),
        ("[dsm]", "[package.descriptions]\nenglish = \"x\"\n[dsm]", "language"),
        ("[[payload]]", "[dsm.os_min_ver]\n7 = \"6.2-23739\"\n[[payload]]", "os_min_ver"),
    ] {
        let refused = with(old, new).unwrap_err();
        assert!(refused.to_string().contains(expected), "{new}: {refused}");
        assert!(!refused.remedy().is_empty());
    }
}

#[test]
fn the_oldest_dsm_can_be_chosen_for_each_generation() {
    let chosen = with("[[payload]]", "[dsm.os_min_ver]\n7 = \"7.1-42661\"\n[[payload]]");
    assert_eq!(chosen.unwrap().dsm[&Dsm::Seven].to_string(), "7.1-42661");
}
