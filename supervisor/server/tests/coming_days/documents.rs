//! What the documents tell a keeper to type, typed.

use crate::packager::Keeper as Packager;
use std::path::Path;
use std::process::Command;

/// The commands in a document, as one script; the first block builds the program, which is done.
fn commands(document: &str) -> String {
    let mut script = String::from("set -eux\n");
    for block in document.split("\n```sh\n").skip(2) {
        let (commands, _) = block.split_once("\n```").unwrap();
        script.push_str(commands);
        script.push('\n');
    }
    script
}

/// Types every command of a document in `folder`.
fn type_all(document: &str, folder: &Path) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../depot").join(document);
    let script = commands(&std::fs::read_to_string(path).unwrap());
    assert!(script.matches("holdfast-depot").count() > 10, "{script}");
    let programs = Path::new(crate::keeper::PROGRAM).parent().unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let output = Command::new("sh")
        .args(["-c", &script])
        .env("PATH", path)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_command_of_rotate_keys_works_as_it_is_written_one_after_the_other() {
    type_all("ROTATE-KEYS.md", tempfile::tempdir().unwrap().path());
}

#[test]
fn every_command_of_run_your_own_source_works_as_it_is_written_one_after_the_other() {
    let packager = Packager::new();
    let built = packager.path(&packager.builds("hello", "1.0.0-0001"));
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(built, folder.path().join("hello.spk")).unwrap();
    type_all("RUN-YOUR-OWN-SOURCE.md", folder.path());
}
