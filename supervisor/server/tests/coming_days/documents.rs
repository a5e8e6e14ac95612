//! What the documents tell a keeper to type, typed.

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

#[test]
fn every_command_of_rotate_keys_works_as_it_is_written_one_after_the_other() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../depot/ROTATE-KEYS.md");
    let document = std::fs::read_to_string(path).unwrap();
    let script = commands(&document);
    assert!(script.matches("holdfast-depot").count() > 10, "{script}");
    let folder = tempfile::tempdir().unwrap();
    let programs = Path::new(crate::keeper::PROGRAM).parent().unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let output = Command::new("sh")
        .args(["-c", &script])
        .env("PATH", path)
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
