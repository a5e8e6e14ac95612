//! Bad days: each ends in a sentence that says what to do, and with a repository restic calls
//! sound.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tests_stories::Depot;
use tests_support::{Finished, TempHome, compare, program, run, tree};

const MIB: u64 = 1 << 20;

/// A user nobody is.
const NOBODY_UID: u32 = 65_099;

fn a_backup() -> TempHome {
    let home = TempHome::new();
    tree::ordinary(&home.source(), 6 * MIB);
    run(&mut home.holdfast(&["init"])).must_succeed();
    let source = home.source();
    run(home.holdfast(&["backup"]).arg(&source)).must_succeed();
    home
}

#[track_caller]
fn restic_calls_it_sound(home: &TempHome) {
    run(&mut home.restic(&["unlock"])).must_succeed();
    run(&mut home.restic(&["check", "--read-data"])).must_succeed();
}

fn a_pack(home: &TempHome) -> PathBuf {
    let mut found = Vec::new();
    let mut waiting = vec![home.repository().join("data")];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                waiting.push(entry.path());
            } else {
                found.push((entry.metadata().map_or(0, |meta| meta.len()), entry.path()));
            }
        }
    }
    found.into_iter().max().expect("the repository has packs").1
}

#[test]
fn a_wrong_password_is_code_twelve_and_a_sentence() {
    let home = a_backup();
    fs::write(home.password_file(), "wrong horse\n").unwrap();
    for words in [&["snapshots"][..], &["check"], &["restore", "latest", "--target", "/nowhere"]] {
        let said =
            run(&mut home.holdfast(words)).must_end_with(12).must_fail_with_a_remedy().said();
        assert!(said.contains("password"), "{said}");
    }
    fs::write(home.password_file(), "correct horse battery staple\n").unwrap();
    restic_calls_it_sound(&home);
}

#[test]
fn no_repository_is_code_ten_and_nothing_is_made_there() {
    let home = TempHome::new();
    let said = run(home.holdfast(&["backup"]).arg(home.source()))
        .must_end_with(10)
        .must_fail_with_a_remedy()
        .said();
    assert!(said.contains("init"), "the remedy is to make one: {said}");
    assert!(!home.repository().exists());
}

#[test]
fn a_truncated_pack_is_named_and_so_is_every_file_it_takes_along() {
    let home = a_backup();
    let pack = a_pack(&home);
    let bytes = fs::metadata(&pack).unwrap().len();
    fs::set_permissions(&pack, fs::Permissions::from_mode(0o600)).unwrap();
    fs::File::options().write(true).open(&pack).unwrap().set_len(bytes / 2).unwrap();
    let name = pack.file_name().unwrap().to_string_lossy().into_owned();
    for words in [&["check"][..], &["check", "--read-data"]] {
        let said = run(&mut home.holdfast(words)).must_fail_with_a_remedy().said();
        assert!(said.contains(&name[..8]), "{words:?} does not name pack {}: {said}", &name[..8]);
    }
    let mut restore = home.holdfast(&["restore", "latest", "--target"]);
    let said = run(restore.arg(home.restored())).must_fail_with_a_remedy().said();
    let account = compare::trees(&home.source(), &home.restored_source()).unwrap();
    assert!(!account.differences.is_empty(), "half a pack was enough for everything");
    for difference in &account.differences {
        let name = difference.path.file_name().unwrap().to_string_lossy().into_owned();
        let name = name.trim_end_matches(".incomplete");
        assert!(said.contains(name), "{difference}, and nobody was told: {said}");
        let is_wrong = difference.what.starts_with("differs at byte");
        assert!(!is_wrong, "a wrong file has the right one's name: {difference}");
    }
}

#[test]
fn an_unreadable_file_is_named_and_everything_else_is_saved() {
    let home = TempHome::new();
    tree::ordinary(&home.source(), MIB).file("secret diary", "d").mode("secret diary", 0o000);
    // Root can read everything, so somebody else makes this backup, with a copy of the program.
    let ours = home.join("holdfast");
    // Another program copies it: what this one had open for writing while it starts others, nobody
    // could run yet.
    run(Command::new("cp").arg(program("holdfast")).arg(&ours)).must_succeed();
    fs::create_dir(home.repository()).unwrap();
    let somebody = nix::unistd::geteuid().is_root().then_some(NOBODY_UID);
    if let Some(uid) = somebody {
        chown(home.repository(), Some(uid), Some(uid)).unwrap();
    }
    let holdfast = |words: &[&str]| {
        let mut command = Command::new(&ours);
        command.env("HOME", home.join("nowhere")).arg("-r").arg(home.repository());
        command.arg("--password-file").arg(home.password_file()).args(words);
        if let Some(uid) = somebody {
            command.uid(uid).gid(uid);
        }
        command
    };
    run(&mut holdfast(&["init"])).must_succeed();
    let said = run(holdfast(&["backup"]).arg(home.source())).must_end_with(3).said();
    assert!(said.contains("secret diary") && said.contains("what to do:"), "{said}");
    restic_calls_it_sound(&home);
    run(home.restic(&["restore", "latest", "--target"]).arg(home.restored())).must_succeed();
    let account = compare::trees(&home.source(), &home.restored_source()).unwrap();
    let missing: Vec<_> = account.differences.iter().map(|found| &found.path).collect();
    assert_eq!(missing, [Path::new("secret diary")]);
}

#[test]
fn a_destination_that_vanishes_in_the_middle_loses_nothing_and_is_not_made_anew() {
    let home = TempHome::new();
    tree::Tree::at(home.source()).noise("large", 96 * MIB, 1);
    run(&mut home.holdfast(&["init"])).must_succeed();
    let (log, gone) = (home.join("log"), home.join("unplugged"));
    // Slow enough that it is in the middle when a busy computer comes to take the disk away.
    let mut backup = home.holdfast(&["--limit-upload", "16000", "backup"]);
    backup.arg(home.source()).stdin(Stdio::null());
    let file = fs::File::create(&log).unwrap();
    let mut backup = backup.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
    let begun = Instant::now();
    while tests_stories::packs(&home.repository()).is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(120), "no pack was ever written");
        assert!(backup.try_wait().unwrap().is_none(), "it ended too early to tell");
        std::thread::sleep(Duration::from_millis(2));
    }
    fs::rename(home.repository(), &gone).unwrap();
    let code = backup.wait().unwrap().code().unwrap_or(128);
    let said = fs::read_to_string(&log).unwrap();
    let ended =
        Finished { line: "holdfast backup".to_owned(), code, out: String::new(), err: said };
    ended.must_fail_with_a_remedy();
    assert!(!home.repository().exists(), "a new folder was made where the old one was");
    fs::rename(&gone, home.repository()).unwrap();
    restic_calls_it_sound(&home);
    let source = home.source();
    run(home.holdfast(&["backup"]).arg(&source)).must_succeed();
    restic_calls_it_sound(&home);
}

/// On a disk of 24 MiB: a backup that fits, one that does not, restic's verdict, room made, again.
const ON_A_SMALL_DISK: &str = r#"
set -eu
disk=$1 small=$2 large=$3 holdfast=$4 password=$5 small_disk=$6
case $small_disk in
mount) mount -t tmpfs -o size=24m small "$disk" ;;
limit) trap '' XFSZ ;;
esac
engine() { "$holdfast" -r "$disk/repository" --password-file "$password" "$@"; }
judge() {
    restic -r "$disk/repository" --password-file "$password" --no-cache unlock
    restic -r "$disk/repository" --password-file "$password" --no-cache check --read-data
}
engine init
engine backup "$small"
code=0
if [ "$small_disk" = limit ]; then
    (ulimit -f 2048; engine backup "$large") || code=$?
else
    engine backup "$large" || code=$?
fi
echo "the large backup ended with $code"
judge
if [ "$small_disk" = mount ]; then mount -o remount,size=256m "$disk"; fi
engine backup "$large"
judge
echo "all is well"
"#;

#[test]
fn a_full_disk_is_a_sentence_and_the_repository_stays_sound() {
    let home = TempHome::new();
    tree::Tree::at(home.join("small")).noise("letter", 2 * MIB, 1);
    tree::Tree::at(home.join("large")).noise("film", 60 * MIB, 2);
    let disk = home.join("disk");
    fs::create_dir(&disk).unwrap();
    let can = |words: &[&str]| {
        let mut tried = Command::new("unshare");
        tried.args(words).args(["mount", "-t", "tmpfs", "x"]).arg(&disk);
        tried.output().is_ok_and(|ended| ended.status.success())
    };
    let (wrapper, small_disk): (&[&str], &str) = if can(&["--mount"]) {
        (&["unshare", "--mount"], "mount")
    } else if can(&["--mount", "--map-root-user"]) {
        (&["unshare", "--mount", "--map-root-user"], "mount")
    } else {
        (&["env"], "limit")
    };
    let mut command = Command::new(wrapper[0]);
    command.args(&wrapper[1..]).args(["sh", "-c", ON_A_SMALL_DISK, "sh"]);
    command.arg(&disk).arg(home.join("small")).arg(home.join("large"));
    command.arg(program("holdfast")).arg(home.password_file()).arg(small_disk);
    command.env("HOME", home.join("nowhere"));
    let ended = run(&mut command).must_succeed();
    let said = ended.said();
    assert!(said.contains("the large backup ended with 1\n"), "{said}");
    assert!(said.contains("what to do:") && said.contains("all is well"));
}

/// The end of a program whose standard output is not a file of the test's.
fn with_output(asked: &mut Command, output: impl Into<Stdio>) -> Finished {
    let finished = asked.stdin(Stdio::null()).stdout(output).output().expect("it starts");
    let err = String::from_utf8_lossy(&finished.stderr).into_owned();
    let code = finished.status.code().expect("no signal ended it");
    Finished { line: format!("{asked:?}"), code, out: String::new(), err }
}

#[test]
fn an_answer_nobody_reads_to_its_end_is_no_failure_and_one_that_finds_no_room_is() {
    let (home, depot) = (a_backup(), Depot::open());
    let spk = || {
        let mut spk = Command::new(program("spk"));
        spk.arg("schema");
        spk
    };
    let keys = || {
        let mut keys = depot.supervisor(&["depot", "keys", "show", "--root"]);
        keys.arg(depot.shelves());
        keys
    };
    for mut asked in [home.holdfast(&["ls", "latest"]), spk(), keys()] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        with_output(&mut asked, writer).must_succeed();
    }
    for mut asked in [home.holdfast(&["ls", "latest"]), spk(), keys()] {
        let full = fs::File::options().write(true).open("/dev/full").expect("a full disk");
        let said = with_output(&mut asked, full).must_fail_with_a_remedy().said();
        assert!(said.contains("the answer") && said.contains("No space left"), "{said}");
    }
}

#[test]
fn a_shell_that_allows_few_open_files_keeps_no_deep_folder_from_being_saved() {
    let home = TempHome::new();
    fs::create_dir_all(home.source().join("d/".repeat(300))).unwrap();
    fs::write(home.source().join("d/".repeat(300)).join("file"), "at the bottom").unwrap();
    run(&mut home.holdfast(&["init"])).must_succeed();
    let source = home.source().display().to_string();
    let backup = home.holdfast(&["backup", &source]);
    let mut narrow = Command::new("sh");
    narrow.args(["-c", "ulimit -Sn 128; exec \"$@\"", "sh"]).arg(backup.get_program());
    narrow.args(backup.get_args());
    narrow.envs(backup.get_envs().filter_map(|(name, value)| Some((name, value?))));
    run(&mut narrow).must_succeed();
    restic_calls_it_sound(&home);
}
