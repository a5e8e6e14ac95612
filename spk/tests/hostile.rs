//! Packages nobody honest would make, and honest ones that broke on the way.

use spk::extract::ExtractError;
use spk::read::{Package, ReadError};
use spk::tarball::Tarball;
use std::fs;
use std::io::Write;
use std::path::Path;

const INFO: &[u8] = b"package=\"demo\"\nversion=\"1.0-0001\"\n";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tarball = Tarball::new(Vec::new());
    for (path, content) in members {
        tarball.file(path, 0o644, content.len() as u64, &mut &content[..]).unwrap();
    }
    tarball.finish().unwrap()
}

/// A member written as no honest tool would: its name and link are not looked at.
fn raw_member(path: &str, kind: tar::EntryType, link: &str) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
    header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_size(0);
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn with_payload(payload: &[u8]) -> Vec<u8> {
    archive(&[("INFO", INFO), ("package.tgz", payload)])
}

fn sound() -> Vec<u8> {
    with_payload(&gzip(&archive(&[("bin/hello", b"#!/bin/sh\n")])))
}

fn refusal(bytes: &[u8]) -> ReadError {
    let error = Package::read(bytes).expect_err("it must be refused");
    assert!(!error.remedy().is_empty());
    error
}

#[test]
fn a_package_cut_off_anywhere_is_never_read_as_a_whole_one() {
    let whole = sound();
    let end = whole.len() - 10_240; // tar's padding may be missing
    for cut in 0..end {
        if let Ok(package) = Package::read(&whole[..cut]) {
            assert_eq!(package.payload.md5, Package::read(&whole[..]).unwrap().payload.md5);
        }
    }
    assert!(Package::read(&whole[..1024]).is_err());
}

#[test]
fn no_byte_changed_makes_the_reader_fall_over() {
    let whole = sound();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= [0x01, 0x80, 0xff][at % 3];
        let _ = Package::read(&bytes[..]).map(|package| spk::check::findings(&package));
    }
}

#[test]
fn the_usual_mistakes_are_named() {
    let says = |bytes: &[u8]| refusal(bytes).to_string();
    assert!(says(&gzip(&sound())).contains("gzipped; DSM 7 refuses it"));
    assert!(says(&archive(&[("INFO", INFO)])).contains("no file `package.tgz`"));
    assert!(says(&archive(&[("package.tgz", &gzip(&archive(&[])))])).contains("no file `INFO`"));
    assert!(says(&with_payload(b"PK\x03\x04zip")).contains("neither gzip nor xz"));
    assert!(says(&with_payload(&gzip(b"no tar at all"))).contains("package.tgz is no sound"));
    let wrong_info = archive(&[("INFO", b"version=1.0\n"), ("package.tgz", b"")]);
    assert!(!says(&wrong_info).is_empty());
    assert!(says(b"").contains("no file `INFO`"));
    assert!(says(&[0x5a; 2048]).contains("no sound archive"));
}

#[test]
fn a_small_file_that_unpacks_to_a_large_one_stops_early() {
    // 64 MiB of zeros behind the end of the payload's archive.
    let mut inner = archive(&[("a", b"a")]);
    inner.resize(inner.len() + (64 << 20), 0);
    assert!(matches!(refusal(&with_payload(&gzip(&inner))), ReadError::Payload(_)));
    let huge = vec![0; 2 << 20];
    let scripts = archive(&[("INFO", INFO), ("scripts/preinst", &huge)]);
    assert!(matches!(refusal(&scripts), ReadError::TooLarge { .. }));
    let info = archive(&[("INFO", &huge)]);
    assert!(matches!(refusal(&info), ReadError::TooLarge { .. }));
}

#[test]
fn nothing_is_unpacked_outside_the_folder() {
    use tar::EntryType::{Block, Link, Regular, Symlink};
    for (path, kind, link) in [
        ("../escaped", Regular, ""),
        ("/tmp/escaped-from-spk", Regular, ""),
        ("a", Symlink, "../escaped"),
        ("a", Symlink, "/etc/passwd"),
        ("a", Link, "../escaped"),
        ("a", Link, "/etc/passwd"),
        ("a", Link, "missing"),
        ("a", Block, ""),
    ] {
        let mut inner = raw_member(path, kind, link);
        inner.extend(archive(&[("z", b"z")]));
        let folder = tempfile::tempdir().unwrap();
        let into = folder.path().join("target");
        let refused = spk::extract::payload(&gzip(&inner)[..], &into).unwrap_err();
        assert!(!refused.remedy().is_empty());
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().collect();
        assert_eq!(names.len(), 1, "{path} {kind:?} {link}: {refused}");
        assert!(fs::symlink_metadata(into.join("a")).is_err(), "{kind:?} {link}");
        assert!(!Path::new("/tmp/escaped-from-spk").exists());
    }
}

#[test]
fn no_file_is_written_through_a_link_of_the_same_archive() {
    use tar::EntryType::Symlink;
    // A link to a sibling is fine; a file below its name then has nowhere to go.
    let mut inner = raw_member("a", Symlink, "b");
    inner.extend(archive(&[("b/x", b"x"), ("a/y", b"y")]));
    let folder = tempfile::tempdir().unwrap();
    let refused = spk::extract::payload(&gzip(&inner)[..], &folder.path().join("target"));
    assert!(matches!(refused, Err(ExtractError::Write { .. })));
    assert!(!folder.path().join("target/b/y").exists());
}

#[test]
fn a_folder_with_something_in_it_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("INFO"), "mine").unwrap();
    let refused = spk::extract::package(&sound()[..], folder.path()).unwrap_err();
    assert!(matches!(refused, ExtractError::NotEmpty { .. }));
    assert_eq!(fs::read_to_string(folder.path().join("INFO")).unwrap(), "mine");
}
