//! A repository on a server one can log in to: ours over the line, then restic's over a line of its
//! own and from the server's disk, and the other way round.

use std::path::Path;
use std::process::Command;
use tests_support::compare::trees;
use tests_support::tree::ordinary;
use tests_support::{Finished, SshServer, TempHome, program, run, sftp_server, wait_for};

/// A box that may log in to a server.
struct Scene {
    home: TempHome,
    server: SshServer,
}

impl Scene {
    fn set() -> Self {
        let home = TempHome::new();
        ordinary(&home.source(), 20 << 20);
        Self { home, server: SshServer::start(&sftp_server()) }
    }

    /// A location below the server's folder.
    fn location(&self, name: &str) -> String {
        let path = self.server.folder().join(name);
        format!("sftp://127.0.0.1:{}/{}", self.server.address.port(), path.display())
    }

    fn words(&self) -> String {
        self.server.words("mine", "known").join(" ")
    }

    /// Runs ours on a repository there, logging in with these words.
    fn ours(&self, name: &str, words: &str, arguments: &[&str]) -> Finished {
        let mut command = Command::new(program("holdfast"));
        let ssh = self.server.client();
        command.env("PATH", path_with(ssh.parent().unwrap()));
        command.args(["-r", &self.location(name), "--password-file"]);
        command.arg(self.home.password_file()).arg("-o").arg(format!("sftp.args={words}"));
        run(command.args(arguments))
    }

    /// Runs restic on it, over a line of its own.
    fn restic(&self, name: &str, arguments: &[&str]) -> Finished {
        let (ssh, words) = (self.server.client(), self.words());
        let port = self.server.address.port();
        let line = format!("{} {words} -p {port} -s 127.0.0.1 sftp", ssh.display());
        let mut command = Command::new("restic");
        command.args(["-r", &self.location(name), "--no-cache", "--password-file"]);
        command.arg(self.home.password_file()).arg("-o").arg(format!("sftp.command={line}"));
        run(command.args(arguments))
    }
}

/// This PATH, with a folder in front.
fn path_with(folder: &Path) -> std::ffi::OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = [folder.to_owned()].into_iter().chain(std::env::split_paths(&path));
    std::env::join_paths(folders).unwrap()
}

#[test]
fn what_we_sent_to_a_server_one_logs_in_to_comes_back_by_ours_and_by_restic() {
    let scene = Scene::set();
    let ours = |arguments: &[&str]| {
        scene.ours("ours", &scene.words(), arguments).must_succeed();
    };
    let (source, restored) = (scene.home.source(), scene.home.restored());
    ours(&["init"]);
    ours(&["backup", source.to_str().unwrap()]);
    ours(&["check", "--read-data"]);
    ours(&["restore", "latest", "--verify", "--target", restored.to_str().unwrap()]);
    trees(&source, &scene.home.restored_source()).unwrap().must_be_equal();
    scene.restic("ours", &["check", "--read-data"]).must_succeed();

    let strange = scene.server.words("strange", "known").join(" ");
    let said = scene.ours("ours", &strange, &["snapshots"]).must_fail_with_a_remedy();
    assert!(said.said().contains("does not let us log in"), "{}", said.said());
}

#[test]
fn what_restic_sent_there_is_gone_on_with_by_ours() {
    let scene = Scene::set();
    let source = scene.home.source();
    let source = source.to_str().unwrap();
    scene.restic("theirs", &["init"]).must_succeed();
    scene.restic("theirs", &["backup", source]).must_succeed();
    let ours = |arguments: &[&str]| scene.ours("theirs", &scene.words(), arguments).must_succeed();
    ours(&["backup", source]);
    ours(&["forget", "--keep-last", "1", "--prune"]);
    ours(&["check", "--read-data"]);
    scene.restic("theirs", &["check", "--read-data"]).must_succeed();
}

#[test]
fn a_daemon_remembers_how_to_log_in_to_its_destination() {
    let scene = Scene::set();
    let home = scene.home.join("engine");
    let engine = |arguments: &[&str]| {
        let mut command = Command::new(program("holdfast"));
        command.env("PATH", path_with(scene.server.client().parent().unwrap()));
        command.arg("--home").arg(&home).args(arguments);
        command
    };
    let _daemon = RunningDaemon(engine(&["daemon"]).spawn().unwrap());
    wait_for("the daemon answers", || run(&mut engine(&["status"])).code == 0);
    let words = format!("sftp.args={}", scene.words());
    let location = scene.location("friend");
    let added = ["-o", &words, "destination", "add", "friend", &location];
    run(&mut engine(&added)).must_succeed();
    let source = scene.home.source();
    let set =
        ["set", "add", "photos", "--path", source.to_str().unwrap(), "--destination", "friend"];
    run(&mut engine(&set)).must_succeed();
    run(&mut engine(&["set", "run", "photos"])).must_succeed();
    let snapshots = scene.server.folder().join("friend/snapshots");
    assert_eq!(std::fs::read_dir(snapshots).unwrap().count(), 1);
}

struct RunningDaemon(std::process::Child);

impl Drop for RunningDaemon {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}
