//! What is damaged is mended: whatever shape a repository has and whichever pack was hit, after
//! repairing everybody calls it sound, and all that was not in the damaged place comes back.

use engine_repository::FileKind::Pack;
use nix::unistd::{getegid, geteuid};
use std::fs;
use std::path::Path;
use tests_damaged::damage::{At, files, flip};
use tests_damaged::{Original, PASSWORD, Shape};
use tests_support::{TempHome, run};

/// Flips a bit in the middle of a pack, repairs, and says how many of the newest snapshot's files
/// are there then.
fn cured(shape: Shape, place: usize) -> usize {
    let home = TempHome::new();
    fs::write(home.password_file(), PASSWORD).unwrap();
    let original = Original::new(geteuid().as_raw(), getegid().as_raw());
    original.write(&home.repository(), shape);
    let hit = files(&home.repository(), Pack).swap_remove(place);
    flip(&hit, At::Middle);
    let ours =
        |words: &[&str]| run(home.holdfast(words).arg("--no-cache").current_dir(home.join("")));
    assert_ne!(ours(&["check", "--read-data"]).code, 0, "{shape:?}, pack {place}");
    let name = hit.file_name().unwrap().to_str().unwrap();
    for words in [&["repair", "packs", name][..], &["repair", "snapshots", "--forget"]] {
        let done = ours(words);
        assert_eq!(done.code, 0, "{shape:?}, pack {place}, {words:?}: {}", done.err);
    }
    let check = run(&mut home.restic(&["check", "--read-data"]));
    assert_eq!(check.code, 0, "{shape:?}, pack {place}: {}{}", check.out, check.err);
    let target = home.join("restored");
    let words = ["restore", "latest", "--target", target.to_str().unwrap()];
    let restore = ours(&words);
    let back = original.come_back(Path::new(&target));
    // When the newest tree itself was hit, no file is left to name.
    assert!(restore.code == 0 || back.right == 0, "{shape:?}, pack {place}: {}", restore.err);
    assert_eq!(back.wrong, 0, "{shape:?}, pack {place}");
    back.right
}

#[test]
fn one_damaged_pack_costs_what_was_in_the_damaged_place_and_nothing_more() {
    let one = Shape::default();
    for shape in [
        one,
        Shape { version: 1, ..one },
        Shape { version: 1, is_mixed: true, ..one },
        Shape { is_mixed: true, ..one },
    ] {
        let packs = packs_of(shape);
        let left: Vec<usize> = (0..packs).map(|place| cured(shape, place)).collect();
        // A file is one blob here: each bit costs one, or a tree, which costs all of its own.
        assert!(left.iter().all(|left| [0, 7, 8].contains(left)), "{shape:?}: {left:?}");
        assert!(left.contains(&7), "no file's data was hit: {shape:?}: {left:?}");
    }
}

#[test]
fn what_is_in_two_packs_is_not_lost_with_one() {
    let twice = Shape { copies: 2, ..Shape::default() };
    for place in 0..packs_of(twice) {
        assert_eq!(cured(twice, place), 8, "pack {place}");
    }
}

fn packs_of(shape: Shape) -> usize {
    let folder = tempfile::tempdir().unwrap();
    Original::new(0, 0).write(folder.path(), shape);
    files(folder.path(), Pack).len()
}
