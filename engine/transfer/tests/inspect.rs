//! Looking into snapshots and labelling them, with restic's answers beside ours.

mod place;

use engine_transfer::{
    Cancel, Change, Repository, SnapshotInfo, TagChange, TransferError, diff, dump, find,
    find_snapshot, snapshots, stats, tag,
};
use place::counting::Counting;
use place::{Place, back_up, noise};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

fn latest(repository: &Repository) -> SnapshotInfo {
    find_snapshot(repository, "latest").unwrap()
}

fn dumped(repository: &Repository, path: &Path) -> Result<Vec<u8>, TransferError> {
    let mut out = Vec::new();
    dump(repository, &latest(repository), path, &mut out, &Cancel::new()).map(|()| out)
}

#[test]
fn a_file_is_dumped_as_its_bytes_and_what_is_no_file_or_folder_is_refused() {
    let place = Place::new();
    let source = place.source();
    fs::write(source.join("large"), noise(20_000_000, 3)).unwrap();
    symlink("large", source.join("link")).unwrap();
    let repository = place.init();
    back_up(&repository, &source);
    for name in ["large", "folder/text", "empty"] {
        let bytes = dumped(&repository, &source.join(name)).unwrap();
        assert!(bytes == fs::read(source.join(name)).unwrap(), "{name}");
    }
    for name in ["link", "no such file", "large/below"] {
        let refused = dumped(&repository, &source.join(name)).unwrap_err();
        assert!(matches!(refused, TransferError::NotInSnapshot { .. }), "{name}: {refused}");
    }
}

#[test]
fn a_folder_is_dumped_as_a_zip_archive_that_others_unpack_to_the_same_tree() {
    let place = Place::new();
    let source = place.source();
    let long = "ä".repeat(100);
    fs::create_dir(source.join(&long)).unwrap();
    fs::write(source.join(&long).join("odd \n' name"), "x").unwrap();
    symlink("../elsewhere", source.join("folder/link")).unwrap();
    fs::set_permissions(source.join("empty"), fs::Permissions::from_mode(0o6751)).unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_234_567_891);
    let times = fs::FileTimes::new().set_modified(time);
    fs::File::options().append(true).open(source.join("empty")).unwrap().set_times(times).unwrap();
    let repository = place.init();
    back_up(&repository, &source);
    let mut out = Vec::new();
    let zip = engine_transfer::Archive::Zip;
    let cancel = Cancel::new();
    let snapshot = latest(&repository);
    engine_transfer::dump_as(&repository, &snapshot, &source, zip, &mut out, &cancel).unwrap();
    assert!(out.len() < 3_500_000, "text is compressed");
    fs::write(place.path("archive.zip"), &out).unwrap();
    let judge = r#"
import os, stat, sys, zipfile
source = sys.argv[2]
archive = zipfile.ZipFile(sys.argv[1])
assert archive.testzip() is None
names = {info.filename: info for info in archive.infolist()}
for folder, folders, files in os.walk(source):
    for name in folders + files:
        path = os.path.join(folder, name)
        facts = os.lstat(path)
        inner = os.path.relpath(path, source) + ("/" if name in folders else "")
        info = names.pop(inner)
        assert info.external_attr >> 16 == facts.st_mode, (inner, oct(info.external_attr >> 16))
        extra = info.extra
        assert extra[:2] == b"UT", extra
        assert int.from_bytes(extra[5:9], "little") == int(facts.st_mtime), inner
        if stat.S_ISLNK(facts.st_mode):
            assert archive.read(info).decode() == os.readlink(path)
        elif stat.S_ISREG(facts.st_mode):
            assert archive.read(info) == open(path, "rb").read()
assert not names, names
"#;
    let mut python = Command::new("python3");
    python.arg("-c").arg(judge).arg(place.path("archive.zip")).arg(&source);
    let output = python.output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_folder_is_dumped_as_an_archive_that_tar_unpacks_to_the_same_tree() {
    let place = Place::new();
    let source = place.source();
    let long = "n".repeat(200);
    fs::create_dir(source.join("folder").join(&long)).unwrap();
    fs::write(source.join("folder").join(&long).join("deep"), "x").unwrap();
    symlink("t".repeat(150), source.join("folder/link")).unwrap();
    let repository = place.init();
    back_up(&repository, &source);
    let target = place.path("unpacked");
    fs::create_dir(&target).unwrap();
    fs::write(place.path("archive"), dumped(&repository, &source).unwrap()).unwrap();
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).current_dir(place.path("")).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    };
    run("tar", &["-xf", "archive", "-C", "unpacked"]);
    run("diff", &["-r", "--no-dereference", "source", "unpacked"]);
    let modified = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
    let seconds =
        |path: &Path| modified(path).duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let (original, unpacked) = (source.join("folder/text"), target.join("folder/text"));
    assert_eq!(seconds(&original), seconds(&unpacked));
}

#[test]
fn sums_are_restics() {
    let place = Place::new();
    let source = place.source();
    fs::hard_link(source.join("folder/noise"), source.join("second name")).unwrap();
    let repository = place.init();
    back_up(&repository, &source);
    fs::write(source.join("more"), noise(400_000, 8)).unwrap();
    back_up(&repository, &source);
    let ours = stats(&repository, &[], &Cancel::new()).unwrap();
    let restics = |mode: &str| -> serde_json::Value {
        let said = place.restic_must(&["stats", "--json", "--mode", mode]);
        serde_json::from_str(said.lines().last().unwrap()).unwrap()
    };
    let (size, raw) = (restics("restore-size"), restics("raw-data"));
    assert_eq!(ours.snapshots, 2);
    assert_eq!(size["total_size"], ours.restore_bytes);
    assert_eq!(size["total_file_count"], ours.nodes);
    assert_eq!(
        (&raw["total_size"], &raw["total_blob_count"]),
        (&ours.raw_bytes.into(), &ours.blobs.into())
    );
    let named = stats(&repository, &[latest(&repository)], &Cancel::new()).unwrap();
    assert!(named.snapshots == 1 && named.restore_bytes > ours.restore_bytes / 2);
}

#[test]
fn a_difference_is_told_as_restic_tells_it() {
    let place = Place::new();
    let source = place.source();
    fs::create_dir(source.join("goes")).unwrap();
    fs::write(source.join("goes/too"), "x").unwrap();
    fs::write(source.join("turns"), "x").unwrap();
    let repository = place.init();
    back_up(&repository, &source);
    fs::remove_dir_all(source.join("goes")).unwrap();
    fs::remove_file(source.join("turns")).unwrap();
    fs::create_dir_all(source.join("turns/inner")).unwrap();
    fs::write(source.join("turns/inner/file"), "y").unwrap();
    fs::write(source.join("folder/text"), "other words").unwrap();
    back_up(&repository, &source);
    let all = snapshots(&repository).unwrap();
    let mut ours = Vec::new();
    let mut each = |change: Change, path: &Path, kind: engine_transfer::NodeKind| {
        let slash = if kind == engine_transfer::NodeKind::Directory { "/" } else { "" };
        ours.push(format!("{}    {}{slash}", change.letter(), path.display()));
    };
    diff(&repository, &all[0], &all[1], false, &mut each, &Cancel::new()).unwrap();
    assert!(ours.iter().any(|line| line.ends_with("/turns/inner/file")), "{ours:?}");
    let said = place.restic_must(&["diff", &all[0].id.to_string(), &all[1].id.to_string()]);
    let is_change = |line: &&str| line.contains("    /");
    let mut restics: Vec<_> = said.lines().filter(is_change).map(str::to_owned).collect();
    // restic does not look into a folder that was a file; we tell what is in it, too.
    ours.retain(|line| !line.contains("/turns/inner"));
    restics.sort();
    ours.sort();
    assert_eq!(ours, restics);
    assert!(ours.len() == 4, "{ours:?}");
    let mut same = 0;
    diff(&repository, &all[0], &all[0], true, &mut |_, _, _| same += 1, &Cancel::new()).unwrap();
    assert_eq!(same, 0);
}

#[test]
fn what_fits_is_found_in_every_snapshot_or_in_those_named() {
    let place = Place::new();
    let source = place.source();
    let repository = place.init();
    back_up(&repository, &source);
    fs::write(source.join("folder/text.new"), "x").unwrap();
    back_up(&repository, &source);
    let found_in = |named: &[SnapshotInfo], pattern: &str| {
        let mut paths = Vec::new();
        let mut each = |_: &SnapshotInfo, node: engine_transfer::ListedNode| paths.push(node.path);
        let patterns = [pattern.to_owned()];
        find(&repository, named, &patterns, &mut each, &Cancel::new()).unwrap();
        paths
    };
    let text = source.join("folder/text");
    assert_eq!(found_in(&[], "text"), [text.clone(), text]);
    assert_eq!(found_in(&[], "folder/*.new"), [source.join("folder/text.new")]);
    assert_eq!(found_in(&[latest(&repository)], "text*").len(), 2);
    assert_eq!(found_in(&[], "no such").len(), 0);
}

#[test]
fn folders_that_hold_nothing_are_searched_once_in_however_many_snapshots() {
    let place = Place::new();
    let source = place.path("source");
    for number in 0..50 {
        let folder = source.join(format!("folder {number}"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("file"), number.to_string()).unwrap();
    }
    let repository = place.init();
    for number in 0..4 {
        fs::write(source.join("folder 7/wanted"), number.to_string()).unwrap();
        back_up(&repository, &source);
    }
    // Where it was looked for in vain it is looked for again, if the folder is another's.
    fs::rename(source.join("folder 8"), source.join("moved")).unwrap();
    back_up(&repository, &source);
    let storage = Counting::around(place.folder());
    let repository = place.open_on(storage.clone());
    let found_in = |pattern: &str, named: &[SnapshotInfo]| {
        let mut paths = Vec::new();
        let mut each = |_: &SnapshotInfo, node: engine_transfer::ListedNode| paths.push(node.path);
        storage.take();
        find(&repository, named, &[pattern.to_owned()], &mut each, &Cancel::new()).unwrap();
        (paths, storage.take().0)
    };
    let (once, reads_of_one) = found_in("wanted", &[latest(&repository)]);
    assert_eq!(once, [source.join("folder 7/wanted")]);
    let (all, reads) = found_in("wanted", &[]);
    assert_eq!(all, vec![source.join("folder 7/wanted"); 5]);
    // In each further one, the folders around what changed, and what was moved.
    let on_the_way = source.components().count();
    assert!(reads <= reads_of_one + 4 * (on_the_way + 1) + 1, "{reads} and {reads_of_one}");
    assert_eq!(found_in("moved/file", &[]).0, [source.join("moved/file")]);
    assert_eq!(found_in("folder 8/file", &[]).0.len(), 4);
}

#[test]
fn tags_are_put_on_and_taken_off_and_restic_sees_them() {
    let place = Place::new();
    let repository = place.init();
    let first = back_up(&repository, &place.source()).snapshot;
    let change = TagChange {
        add: vec!["kept".into(), "kept".into()],
        remove: vec!["guid:42".into()],
        ..TagChange::default()
    };
    let changed = tag(&repository, &[latest(&repository)], &change).unwrap();
    assert_eq!((changed.len(), changed[0].0), (1, first));
    assert_eq!(latest(&repository).tags, ["kept"]);
    assert!(tag(&repository, &[latest(&repository)], &change).unwrap().is_empty());
    let said = place.restic_must(&["snapshots", "--json", "--tag", "kept"]);
    assert!(said.contains(&format!("\"original\":\"{first}\"")), "{said}");
    let change = TagChange { set: Some(vec![]), ..TagChange::default() };
    tag(&repository, &[latest(&repository)], &change).unwrap();
    assert_eq!(latest(&repository).tags, [""; 0]);
    assert_eq!(snapshots(&repository).unwrap().len(), 1);
    place.restic_must(&["check", "--read-data"]);
}

#[test]
fn a_snapshot_says_what_the_backup_found_and_did_as_restic_says_it() {
    let place = Place::new();
    let source = place.source();
    let repository = place.init();
    let first = back_up(&repository, &source);
    fs::write(source.join("folder/new"), "new").unwrap();
    let second = back_up(&repository, &source);
    let summary = |id: engine_transfer::Id| -> serde_json::Value {
        place.restic_must(&["cat", "snapshot", &id.to_string()]);
        repository_says(&place, id)["summary"].clone()
    };
    let on_the_way = source.components().count() as u64 - 1;
    let said = summary(first.snapshot);
    assert_eq!(said["files_new"], 3);
    assert_eq!(said["dirs_new"], on_the_way + 1);
    assert_eq!((&said["dirs_changed"], &said["dirs_unmodified"]), (&0.into(), &0.into()));
    assert_eq!(said["total_files_processed"], 3);
    assert_eq!(said["total_bytes_processed"], first.bytes_total);
    assert_eq!(said["data_blobs"], first.data_blobs);
    let said = summary(second.snapshot);
    assert_eq!((&said["files_new"], &said["files_unmodified"]), (&1.into(), &3.into()));
    assert_eq!((&said["dirs_new"], &said["dirs_changed"]), (&0.into(), &(on_the_way + 1).into()));
    let third = back_up(&repository, &source);
    let said = summary(third.snapshot);
    // What is above the source changes as it likes.
    let number = |name: &str| said[name].as_u64().unwrap();
    assert_eq!(number("dirs_unmodified") + number("dirs_changed"), on_the_way + 1);
    assert!(number("dirs_unmodified") >= 2);
    assert_eq!((number("data_blobs"), number("files_unmodified")), (0, 4));
}

/// A snapshot's JSON, read by the format's own rules.
fn repository_says(place: &Place, id: engine_transfer::Id) -> serde_json::Value {
    use engine_repository::{FileKind, KeyFile, unpacked};
    let folder = place.path("repository");
    let key = fs::read_dir(folder.join("keys")).unwrap().next().unwrap().unwrap().path();
    let key = KeyFile::from_json(&fs::read(key).unwrap()).unwrap().open(place::PASSWORD).unwrap();
    let mut sealed = fs::read(folder.join(FileKind::Snapshot.path(&id))).unwrap();
    unpacked::open(&mut sealed, &key).unwrap()
}
