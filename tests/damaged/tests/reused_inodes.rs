//! Files that say they are one, and are not: an inode was given to another file while the backup
//! ran. Each comes back with its own content.

use nix::unistd::{getegid, geteuid};
use std::fs;
use tests_damaged::{Original, PASSWORD, SOURCE, Shape};
use tests_support::{TempHome, run};

#[track_caller]
fn ours(home: &TempHome, words: &[&str]) {
    let done = run(home.holdfast(words).arg("--no-cache").current_dir(home.path()));
    assert_eq!(done.code, 0, "{words:?}: {}{}", done.out, done.err);
}

#[test]
fn files_of_one_inode_and_different_content_come_back_as_files_of_their_own() {
    let home = TempHome::new();
    fs::write(home.password_file(), PASSWORD).unwrap();
    let original = Original::with_one_inode(geteuid().as_raw(), getegid().as_raw());
    original.write(&home.repository(), Shape::default());
    let target = home.join("target");
    // Anew; over what was spoiled meanwhile; and where all is as it should be.
    for spoiled in [None, Some("file1"), None] {
        if let Some(name) = spoiled {
            fs::write(target.join(SOURCE).join(name), "spoiled").unwrap();
        }
        ours(&home, &["restore", "latest", "--verify", "--target", target.to_str().unwrap()]);
        let back = original.come_back(&target);
        assert_eq!((back.right, back.wrong), (original.files().len(), 0), "{back:?}");
    }
}
