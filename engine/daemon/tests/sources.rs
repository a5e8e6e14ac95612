//! What is backed up is the same though it is called otherwise: a user has another name, or a path
//! was given from where somebody stood.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const PASSWORD: &str = "first";

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::write(place.path("password"), PASSWORD).unwrap();
        fs::create_dir_all(place.path("above/source/folder")).unwrap();
        fs::write(place.path("above/source/folder/file"), "content").unwrap();
        fs::write(place.path("above/source/other"), "other").unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn ours(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
        command.arg("-r").arg(self.path("repository"));
        command.arg("--password-file").arg(self.path("password"));
        command.arg("--cache-dir").arg(self.path("cache")).env_remove("HOLDFAST_MEMORY_BYTES");
        command
    }

    fn restic(&self) -> Command {
        let mut command = Command::new("restic");
        command.arg("--no-cache").arg("-r").arg(self.path("repository"));
        command.env("RESTIC_PASSWORD", PASSWORD);
        command
    }
}

#[track_caller]
fn must(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The JSON lines a program said.
fn lines(said: &str) -> Vec<serde_json::Value> {
    said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Runs `command` where the users and groups are those of two files, as after a change of
/// `/etc/passwd`. `None` where the system lets nobody have a view of files of his own.
fn where_users_are(passwd: &Path, group: &Path, command: &Command) -> Option<Output> {
    let run = |inner: &[&std::ffi::OsStr]| {
        let mut outer = Command::new("unshare");
        outer.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
        let rename = "mount --bind \"$1\" /etc/passwd && mount --bind \"$2\" /etc/group";
        outer.arg(format!("{rename} && shift 2 && exec \"$@\""));
        outer.arg("sh").arg(passwd).arg(group).args(inner);
        outer.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        outer.output().ok()
    };
    run(&["true".as_ref()]).filter(|output| output.status.success())?;
    let mut words = vec![command.get_program()];
    words.extend(command.get_args());
    run(&words)
}

#[test]
fn a_user_who_has_another_name_now_has_it_in_the_next_snapshot_as_with_restic() {
    let place = Place::new();
    must(place.ours().arg("init"));
    let (passwd, group) = (place.path("passwd"), place.path("group"));
    let source = place.path("above/source");
    let mut names = Vec::new();
    for (program, user) in [("ours", "ann"), ("ours", "eve"), ("restic", "eve"), ("ours", "eve")] {
        fs::write(&passwd, format!("{user}:x:0:0::/:/bin/sh\n")).unwrap();
        fs::write(&group, format!("{user}s:x:0:\n")).unwrap();
        let mut backup = if program == "ours" { place.ours() } else { place.restic() };
        backup.args(["backup", "--host", "box"]).arg(&source);
        let Some(output) = where_users_are(&passwd, &group, &backup) else {
            eprintln!("not tried: this system lets nobody mount, so no user can be renamed here");
            return;
        };
        assert!(output.status.success(), "{program}, {user}: {output:?}");
        let listed = must(place.restic().args(["--json", "snapshots"]));
        let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
        let newest = listed.as_array().unwrap().last().unwrap();
        let tree = newest["tree"].as_str().unwrap();
        names.push(owner_of(&place, tree, &source.join("folder/file")));
    }
    let expected = [("ann", "anns"), ("eve", "eves"), ("eve", "eves"), ("eve", "eves")];
    let expected = expected.map(|(user, group)| (user.to_owned(), group.to_owned()));
    assert_eq!(names, expected);
    must(place.restic().args(["check", "--read-data"]));
}

/// Who owns a file by its tree, as restic reads it.
fn owner_of(place: &Place, root: &str, path: &Path) -> (String, String) {
    let mut tree = root.to_owned();
    for name in path.iter().skip(1) {
        let json = must(place.restic().args(["cat", "blob", &tree]));
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let mut nodes = json["nodes"].as_array().unwrap().iter();
        let node = nodes.find(|node| node["name"].as_str() == name.to_str()).unwrap();
        match node["subtree"].as_str() {
            Some(subtree) => subtree.clone_into(&mut tree),
            None => {
                let text = |field: &str| node[field].as_str().unwrap_or_default().to_owned();
                return (text("user"), text("group"));
            }
        }
    }
    panic!("{} is a folder", path.display());
}

#[test]
fn a_path_given_from_where_one_stands_is_the_same_as_the_whole_one() {
    let place = Place::new();
    must(place.ours().arg("init"));
    let source = place.path("above/source");
    must(place.ours().args(["backup", "--host", "box"]).arg(&source));
    let relative = ["backup", "--host", "box", "--json", "source"];
    let said = must(place.ours().args(relative).current_dir(place.path("above")));
    let summary = lines(&said).pop().unwrap();
    assert_eq!(summary["files_unmodified"], 2, "{said}");
    let listed = must(place.ours().args(["--json", "snapshots"]));
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed[0]["paths"], listed[1]["paths"]);
}

#[test]
fn a_snapshot_restic_made_of_a_relative_path_is_gone_on_from_and_nothing_is_stored_twice() {
    let place = Place::new();
    must(place.restic().arg("init"));
    let above = place.path("above");
    // Its tree begins with `source`, though its path is the whole one.
    must(place.restic().args(["backup", "--host", "box", "source"]).current_dir(&above));
    must(place.restic().args(["backup", "--host", "box", "."]).current_dir(above.join("source")));
    let source = place.path("above/source");
    let said = must(place.ours().args(["backup", "--host", "box", "--json"]).arg(&source));
    let summary = lines(&said).pop().unwrap();
    assert_eq!(summary["data_blobs"], 0, "{said}");
    let again = must(place.ours().args(["backup", "--host", "box", "--json"]).arg(&source));
    let summary = lines(&again).pop().unwrap();
    assert_eq!(summary["files_unmodified"], 2, "{again}");
    // And the other way round, ours being the parent of restic's.
    must(place.restic().args(["backup", "--host", "box", "source"]).current_dir(&above));
    must(place.restic().args(["check", "--read-data"]));
    let target = place.path("target");
    let restore = ["restore", "latest", "--target", target.to_str().unwrap()];
    must(place.ours().args(restore));
    assert_eq!(fs::read_to_string(target.join("source/folder/file")).unwrap(), "content");
}
