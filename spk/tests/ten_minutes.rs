//! The README's commands, run as they are written there.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

/// The commands of every block of shell in the document, in order.
fn blocks(document: &str) -> Vec<&str> {
    let starts = document.split("```sh\n").skip(1);
    starts.map(|rest| rest.split_once("```").expect("a block ends").0).collect()
}

#[test]
fn a_stranger_who_types_what_the_readme_says_has_packages_that_are_sound_and_signed() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let (install, typed) = blocks(&readme).split_first().map(|(a, b)| (*a, b.to_vec())).unwrap();
    // Building the tool is what has just been done for this test.
    assert_eq!(install, "cargo install --locked --path spk\n");
    assert!(typed.len() >= 7, "{} blocks", typed.len());

    let place = tempfile::tempdir().unwrap();
    let bin = place.path().join("bin");
    fs::create_dir(&bin).unwrap();
    symlink(env!("CARGO_BIN_EXE_spk"), bin.join("spk")).unwrap();
    let home = place.path().join("home");
    fs::create_dir(&home).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    for block in typed {
        let mut shell = Command::new("sh");
        shell.args(["-eu", "-c", block]).current_dir(&home).env("PATH", &path);
        let output = shell.env("GNUPGHOME", &home).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(output.status.success(), "{block}\n{said}");
        assert!(!said.contains("refused") && !said.contains("advice"), "{block}\n{said}");
    }
    let built = fs::read_dir(home.join("next")).unwrap().count();
    assert_eq!(built, 2, "the next version, for two DSMs");
    let newest = home.join("next/hello-noarch-dsm7-0.1.1-0002.spk");
    let package = spk::read::Package::open(&newest).unwrap();
    assert!(package.has_wizard("install") && package.payload_entry("bin/hello").is_some());
}
