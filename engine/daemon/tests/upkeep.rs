//! The program itself: a repository is looked after, and every answer has its exit code.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::write(place.path("password"), "first\n").unwrap();
        fs::create_dir(place.path("source")).unwrap();
        fs::write(place.path("source/file"), "content").unwrap();
        place.must(&["init"]);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_holdfast"))
            .arg("-r")
            .arg(self.path("repository"))
            .arg("--password-file")
            .arg(self.path("password"))
            .args(arguments)
            .env_remove("HOLDFAST_MEMORY_BYTES")
            .output()
            .unwrap()
    }

    #[track_caller]
    fn must(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    fn must_fail(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn snapshots_are_forgotten_pruned_compared_and_looked_into() {
    let place = Place::new();
    let source = place.path("source");
    place.must(&["backup", text(&source)]);
    fs::write(source.join("file"), "other content").unwrap();
    place.must(&["backup", "--tag", "second", text(&source)]);
    let file = source.join("file");
    assert_eq!(place.must(&["dump", "latest", text(&file)]), "other content");
    assert!(place.must(&["dump", "latest", text(&source)]).contains("other content"));
    assert!(place.must(&["find", "fil?"]).contains(text(&file)));
    place.must_fail(1, &["find", "nothing"]);
    let listed: serde_json::Value =
        serde_json::from_str(&place.must(&["--json", "snapshots"])).unwrap();
    let id = |number: usize| listed[number]["id"].as_str().unwrap().to_owned();
    let changed = format!("M    {}\n", text(&file));
    assert_eq!(place.must(&["diff", &id(0), &id(1)]), changed);
    assert!(place.must_fail(2, &["forget"]).contains("what to do: say what to keep"));
    let planned = place.must(&["forget", "--keep-last", "1", "--dry-run"]);
    assert!(planned.contains("1 snapshots would be forgotten"), "{planned}");
    place.must_fail(1, &["forget", "--keep-tag", "no such"]);
    let done = place.must(&["forget", "--keep-last", "1", "--prune", "--max-unused", "0"]);
    assert!(done.contains("1 snapshots forgotten") && done.contains("0 B not needed"), "{done}");
    let stats: serde_json::Value = serde_json::from_str(&place.must(&["--json", "stats"])).unwrap();
    assert_eq!((&stats["snapshots_count"], &stats["total_size"]), (&1.into(), &13.into()));
    place.must(&["tag", "--add", "kept", "--remove", "second"]);
    assert!(place.must(&["snapshots"]).contains("kept"));
    place.must_fail(2, &["tag"]);
    place.must(&["check", "--read-data"]);
}

#[test]
fn passwords_are_changed_and_the_one_in_use_is_not_removed() {
    let place = Place::new();
    let new = place.path("new");
    fs::write(&new, "second\n").unwrap();
    let list = || -> serde_json::Value {
        serde_json::from_str(&place.must(&["--json", "key", "list"])).unwrap()
    };
    let first = list()[0]["id"].as_str().unwrap().to_owned();
    assert!(place.must_fail(2, &["key", "remove", &first]).contains("is the one in use"));
    place.must(&["key", "add", "--new-password-file", text(&new)]);
    assert_eq!(list().as_array().unwrap().len(), 2);
    fs::write(place.path("password"), "second\n").unwrap();
    place.must(&["key", "remove", &first[..10]]);
    fs::write(&new, "third\n").unwrap();
    place.must(&["key", "passwd", "--new-password-file", text(&new)]);
    place.must_fail(12, &["key", "list"]);
    fs::write(place.path("password"), "third\n").unwrap();
    assert_eq!(list().as_array().unwrap().len(), 1);
    assert!(place.must(&["unlock"]).contains("0 locks removed"));
}

#[test]
fn a_prune_beside_a_backup_says_that_it_waits_and_the_next_one_ends_it() {
    let place = Place::new();
    place.must(&["backup", text(&place.path("source"))]);
    fs::write(place.path("source/file"), "other content").unwrap();
    place.must(&["backup", text(&place.path("source"))]);
    place.must(&["forget", "--keep-last", "1"]);
    let mut restic = Command::new("restic")
        .args(["--no-cache", "backup", "--stdin", "--repo", text(&place.path("repository"))])
        .env("RESTIC_PASSWORD_FILE", place.path("password"))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("restic is installed: apt-get install restic");
    let locks = place.path("repository/locks");
    while fs::read_dir(&locks).unwrap().next().is_none() {
        assert!(restic.try_wait().unwrap().is_none(), "restic ended by itself");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let cache = place.path("cache");
    let prune = ["--cache-dir", text(&cache), "prune", "--max-unused", "0", "--repack-small"];
    let said = place.must_fail(11, &prune);
    assert!(said.contains("what nobody needs is not removed yet"), "{said}");
    assert!(said.contains("what to do: Prune again when the other program is done"), "{said}");
    restic.stdin.take().unwrap().write_all(b"words").unwrap();
    assert!(restic.wait().unwrap().success());
    let mut waiting = vec!["--retry-lock", "1m"];
    waiting.extend(prune);
    assert!(place.must(&waiting).contains("0 B not needed stay"));
    place.must(&["check", "--read-data"]);
    place.must_fail(2, &["prune", "--keep-pack-age", "soon"]);
}

#[test]
fn a_damaged_repository_is_checked_repaired_and_copied_away() {
    let place = Place::new();
    let source = place.path("source");
    place.must(&["backup", "--compression", "max", text(&source)]);
    assert!(place.must(&["check", "--read-data-subset", "1/1"]).contains("sound"));
    assert!(place.must(&["check", "--read-data-subset", "50%"]).contains("sound"));
    place.must_fail(2, &["check", "--read-data-subset", "2/1"]);
    let caches = place.path("caches");
    let share = ["--cache-dir", text(&caches), "check", "--read-data-share", "100%"];
    assert!(place.must(&share).contains("sound"));
    // The index is lost.
    for entry in fs::read_dir(place.path("repository/index")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let said = place.must_fail(1, &["check"]);
    assert!(said.contains("holdfast repair index"), "{said}");
    let said = place.must(&["repair", "index"]);
    assert!(said.contains("2 read into the index"), "{said}");
    let said = place.must(&["repair", "snapshots", "--dry-run"]);
    assert!(said.contains("1 looked at, 0 changed"), "{said}");
    // The pack of data is lost.
    let listed: serde_json::Value =
        serde_json::from_str(&place.must(&["--json", "repair", "index", "--read-all-packs"]))
            .unwrap();
    assert_eq!(listed["packs_added"], 2);
    fs::write(place.path("other password"), "second\n").unwrap();
    let other = place.path("other");
    let first = place.path("repository");
    let (password, other_password) = (place.path("password"), place.path("other password"));
    let into_other = |arguments: &[&str]| {
        let mut all = vec!["-r", text(&other), "--password-file", text(&other_password)];
        all.extend(arguments);
        let output = Command::new(env!("CARGO_BIN_EXE_holdfast")).args(&all).output().unwrap();
        assert!(output.status.success(), "{all:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let from = ["--from-repo", text(&first), "--from-password-file", text(&password)];
    into_other(&[&["init", "--copy-chunker-params"][..], &from].concat());
    assert!(into_other(&[&["copy"][..], &from].concat()).contains("1 snapshots"));
    assert!(into_other(&[&["copy", "latest"][..], &from].concat()).contains("was there"));
    assert!(into_other(&["check", "--read-data"]).contains("sound"));
    place.must_fail(2, &["copy"]);
    place.must_fail(2, &["repair", "packs", "something"]);
}

#[test]
fn an_old_repository_is_made_for_old_readers_and_a_folder_written_as_zip() {
    let place = Place::new();
    let source = place.path("source");
    let old = place.path("old");
    let password = place.path("password");
    let run = |arguments: &[&str]| {
        let mut all = vec!["-r", text(&old), "--password-file", text(&password)];
        all.extend(arguments);
        let output = Command::new(env!("CARGO_BIN_EXE_holdfast")).args(&all).output().unwrap();
        assert!(output.status.success(), "{all:?}: {output:?}");
        output.stdout
    };
    run(&["init", "--repository-version", "1"]);
    run(&["backup", text(&source)]);
    run(&["check", "--read-data"]);
    let zip = run(&["dump", "--archive", "zip", "latest", text(&source)]);
    assert!(zip.starts_with(b"PK\x03\x04"));
    let restic = Command::new("restic")
        .args(["--no-cache", "-r", text(&old), "--password-file", text(&password)])
        .args(["cat", "config"])
        .output()
        .unwrap();
    let config: serde_json::Value = serde_json::from_slice(&restic.stdout).unwrap();
    assert_eq!(config["version"], 1);
}
