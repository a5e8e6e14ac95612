//! Our repositories are restic's, and restic's are ours: each restores, checks, continues and
//! prunes what the other wrote, and both write the same trees to the last byte.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tests_support::compare::{Options, trees, trees_with};
use tests_support::tree::{Tree, add_what_only_root_can_make, odd};
use tests_support::{Finished, TempHome, run};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Everything that ever broke a backup, on a file system that knows extended attributes.
fn an_odd_source(home: &TempHome) -> Tree {
    let tree = odd(&home.source());
    if nix::unistd::geteuid().is_root() {
        add_what_only_root_can_make(&tree);
    }
    tree
}

/// The same zone for both, so that both write times alike.
fn in_vienna(command: &mut Command) -> &mut Command {
    command.env("TZ", "Europe/Vienna")
}

#[track_caller]
fn holdfast(home: &TempHome, arguments: &[&str]) -> Finished {
    run(in_vienna(&mut home.holdfast(arguments))).must_succeed()
}

#[track_caller]
fn restic(home: &TempHome, arguments: &[&str]) -> Finished {
    run(in_vienna(&mut home.restic(arguments))).must_succeed()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the names of test folders are UTF-8")
}

/// Backs the source up with ours and gives the summary.
#[track_caller]
fn our_backup(home: &TempHome, more: &[&str]) -> serde_json::Value {
    let source = home.source();
    let arguments = [&["--json", "backup", text(&source)], more].concat();
    last_line(&holdfast(home, &arguments))
}

#[track_caller]
fn restics_backup(home: &TempHome, more: &[&str]) -> serde_json::Value {
    let source = home.source();
    let arguments = [&["--json", "backup", text(&source)], more].concat();
    last_line(&restic(home, &arguments))
}

#[track_caller]
fn last_line(said: &Finished) -> serde_json::Value {
    let line = said.out.lines().rfind(|line| line.contains("\"summary\""));
    let line = line.unwrap_or_else(|| panic!("no summary in: {}", said.said()));
    serde_json::from_str(line).expect("a summary is JSON")
}

/// The id of the source folder's own tree in a snapshot. The folders above it are used by everyone.
#[track_caller]
fn tree_of_source(home: &TempHome, snapshot: &str) -> String {
    let found = restic(home, &["cat", "snapshot", snapshot]).json();
    let mut id = found["tree"].as_str().expect("a snapshot has a tree").to_owned();
    for name in home.source().iter().skip(1) {
        let tree = restic(home, &["cat", "blob", &id]).json();
        let nodes = tree["nodes"].as_array().expect("a tree has nodes").clone();
        let node = nodes.iter().find(|node| node["name"] == text(Path::new(name)));
        let subtree = node.and_then(|node| node["subtree"].as_str());
        id = subtree.unwrap_or_else(|| panic!("no folder {name:?} in {nodes:?}")).to_owned();
    }
    id
}

#[test]
fn what_we_wrote_restic_checks_lists_and_restores_to_the_last_attribute() {
    let home = TempHome::new();
    let tree = an_odd_source(&home);
    // Restic before 0.16 does not know how to keep the bytes of such a target.
    fs::remove_file(tree.path("links/not utf-8")).unwrap();
    holdfast(&home, &["init"]);
    let summary = our_backup(&home, &[]);
    assert_eq!(summary["problems"], 0, "{summary}");
    restic(&home, &["check", "--read-data"]);
    assert!(restic(&home, &["snapshots"]).out.contains("1 snapshots"));
    let listed = restic(&home, &["ls", "--json", "latest"]).out.lines().count();
    assert!(listed > 1300, "{listed} lines");
    let restored = home.restored();
    restic(&home, &["restore", "latest", "--verify", "--target", text(&restored)]);
    // Restic before 0.15 makes no holes.
    let options = Options { holes: false, ..Options::default() };
    trees_with(&home.source(), &home.restored_source(), &options).unwrap().must_be_equal();
}

#[test]
fn what_restic_wrote_we_restore_to_the_last_attribute() {
    let home = TempHome::new();
    let tree = an_odd_source(&home);
    fs::remove_file(tree.path("links/not utf-8")).unwrap();
    restic(&home, &["init"]);
    restics_backup(&home, &[]);
    let restored = home.restored();
    holdfast(&home, &["restore", "latest", "--verify", "--target", text(&restored)]);
    trees(&home.source(), &home.restored_source()).unwrap().must_be_equal();
    holdfast(&home, &["check", "--read-data"]);
}

#[test]
fn what_we_wrote_we_restore_to_the_last_attribute() {
    let home = TempHome::new();
    an_odd_source(&home);
    holdfast(&home, &["init"]);
    our_backup(&home, &[]);
    let restored = home.restored();
    holdfast(&home, &["restore", "latest", "--verify", "--target", text(&restored)]);
    trees(&home.source(), &home.restored_source()).unwrap().must_be_equal();
    // Over what is there already, too, some of which is other than it was.
    fs::remove_file(home.restored_source().join("one byte")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", home.restored_source().join("one byte")).unwrap();
    fs::write(home.restored_source().join("empty"), "not any more").unwrap();
    holdfast(&home, &["restore", "latest", "--verify", "--target", text(&restored)]);
    trees(&home.source(), &home.restored_source()).unwrap().must_be_equal();
}

#[test]
fn in_restics_repository_both_write_the_same_trees_and_store_nothing_twice() {
    let home = TempHome::new();
    let tree = an_odd_source(&home);
    tree.noise("large", 24 * MIB, 77);
    fs::remove_file(tree.path("links/not utf-8")).unwrap();
    restic(&home, &["init"]);
    let theirs = restics_backup(&home, &[]);
    let theirs = theirs["snapshot_id"].as_str().unwrap();
    // Every file is read and cut again: what is cut alike is not stored again.
    let ours = our_backup(&home, &["--force"]);
    assert!(ours["bytes_read"].as_u64().unwrap() > 24 * MIB, "{ours}");
    assert_eq!(ours["data_blobs"], 0, "{ours}");
    let snapshot = ours["snapshot_id"].as_str().unwrap();
    assert_eq!(tree_of_source(&home, snapshot), tree_of_source(&home, theirs));
    restic(&home, &["check", "--read-data"]);
}

#[test]
fn each_takes_the_others_snapshot_as_parent_and_reads_no_file_again() {
    let home = TempHome::new();
    let tree = an_odd_source(&home);
    fs::remove_file(tree.path("links/not utf-8")).unwrap();
    holdfast(&home, &["init"]);
    our_backup(&home, &["--host", "box"]);
    let theirs = restics_backup(&home, &["--host", "box"]);
    assert_eq!(theirs["files_unmodified"], theirs["total_files_processed"], "{theirs}");
    assert_eq!(theirs["data_blobs"], 0, "{theirs}");
    let ours = our_backup(&home, &["--host", "box"]);
    assert_eq!(ours["bytes_read"], 0, "{ours}");
    assert!(ours["tree_blobs"].as_u64().unwrap() <= 2, "{ours}");
    assert!(ours["parent"].as_str().unwrap().starts_with(theirs["snapshot_id"].as_str().unwrap()));
}

#[test]
fn after_restic_forgot_and_pruned_in_our_repository_everything_left_is_sound() {
    let home = TempHome::new();
    let tree = Tree::at(home.source());
    tree.noise("goes", 20 * MIB, 1).noise("stays", 5 * MIB, 2).many("few", 50);
    holdfast(&home, &["init"]);
    let first = our_backup(&home, &[]);
    fs::remove_file(tree.path("goes")).unwrap();
    our_backup(&home, &[]);
    let first = first["snapshot_id"].as_str().unwrap().to_owned();
    restic(&home, &["forget", &first]);
    restic(&home, &["prune", "--max-unused", "0"]);
    holdfast(&home, &["check", "--read-data"]);
    let restored = home.restored();
    holdfast(&home, &["restore", "latest", "--verify", "--target", text(&restored)]);
    trees(&home.source(), &home.restored_source()).unwrap().must_be_equal();
    // What was pruned is stored again when it is needed again.
    tree.noise("goes", 20 * MIB, 1);
    our_backup(&home, &[]);
    restic(&home, &["check", "--read-data"]);
}

#[test]
fn a_file_beyond_four_gigabytes_and_a_folder_of_twenty_thousand_come_back() {
    let home = TempHome::new();
    let tree = Tree::at(home.source());
    let size = 4 * GIB + 3 * MIB + 1;
    tree.many("many", 20_000).sparse(
        "huge",
        size,
        &[(0, b"the beginning"), (4 * GIB - 3, b"across four gigabytes"), (size - 7, b"the end")],
    );
    holdfast(&home, &["init"]);
    our_backup(&home, &[]);
    restic(&home, &["check", "--read-data"]);
    let stored: u64 = size_of(&home.repository());
    assert!(stored < 30 * MIB, "{stored} bytes for a file of holes");
    let restored = home.restored();
    holdfast(&home, &["restore", "latest", "--verify", "--target", text(&restored)]);
    let apart = Tree::at(home.join("apart"));
    for (place, name) in [(home.source(), "source"), (home.restored_source(), "restored")] {
        // Compared apart: reading four gigabytes of zeros byte by byte proves nothing more.
        fs::rename(place.join("huge"), apart.path(name)).unwrap();
    }
    let options = Options { top: false, ..Options::default() };
    trees_with(&home.source(), &home.restored_source(), &options).unwrap().must_be_equal();
    the_islands_are_the_same(&apart.path("source"), &apart.path("restored"));
}

fn size_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let sizes = entries.map(|entry| match entry.metadata().unwrap() {
        found if found.is_dir() => size_of(&entry.path()),
        found => found.len(),
    });
    sizes.sum()
}

fn the_islands_are_the_same(one: &PathBuf, other: &PathBuf) {
    use std::os::unix::fs::{FileExt, MetadataExt};
    let (one, other) = (fs::File::open(one).unwrap(), fs::File::open(other).unwrap());
    let (found, expected) = (other.metadata().unwrap(), one.metadata().unwrap());
    assert_eq!((found.len(), found.mtime()), (expected.len(), expected.mtime()));
    assert!(found.blocks() * 512 < 64 * MIB, "{} blocks: the holes are gone", found.blocks());
    for start in [0, 2 * GIB, 4 * GIB - 4096, found.len() - 8192] {
        let (mut left, mut right) = ([0; 8192], [1; 8192]);
        one.read_exact_at(&mut left, start).unwrap();
        other.read_exact_at(&mut right, start).unwrap();
        assert!(left == right, "at {start}");
    }
}
