//! A depot's keeper: types commands, on any day, and serves the depot.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_holdfast-depot");

pub struct Keeper {
    folder: tempfile::TempDir,
}

/// The exit code and everything that was said.
pub struct Answer {
    pub code: i32,
    pub said: String,
}

impl Keeper {
    /// A depot that was made so many days from today.
    pub fn who_began(days: i64) -> Self {
        let keeper = Self { folder: tempfile::tempdir().unwrap() };
        let answer = keeper.depot_command(days, &["init"]);
        assert_eq!(answer.code, 0, "{}", answer.said);
        let answer = keeper.keys(days, &["export"]);
        std::fs::write(keeper.path("depot.pub"), answer.said).unwrap();
        keeper
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// `holdfast-depot COMMAND… --root DEPOT`, on that day.
    pub fn depot_command(&self, days: i64, arguments: &[&str]) -> Answer {
        let depot = self.text("depot");
        run(days, PROGRAM, &[arguments, &["--root", &depot]].concat())
    }

    pub fn keys(&self, days: i64, arguments: &[&str]) -> Answer {
        self.depot_command(days, &[&["keys"], arguments].concat())
    }

    /// The same, which must succeed, with the root's keys that are in the safe.
    pub fn keys_with_safe(&self, days: i64, arguments: &[&str]) -> String {
        let mut all: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        for key in std::fs::read_dir(self.path("safe")).unwrap() {
            all.extend(["--key".to_owned(), key.unwrap().path().to_str().unwrap().to_owned()]);
        }
        let answer = self.keys(days, &all.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(answer.code, 0, "{}", answer.said);
        answer.said
    }

    /// Takes the root's key out of the depot and makes it two of three.
    pub fn keeps_the_root_in_a_safe(&self) {
        let safe = self.path("safe");
        std::fs::create_dir(&safe).unwrap();
        std::fs::rename(self.path("depot/keys/root.key"), safe.join("root.key")).unwrap();
        let to = self.text("safe");
        let add = ["add", "root", "--count", "2", "--threshold", "2", "--keys-to", &to];
        self.keys_with_safe(0, &add);
    }

    pub fn loses(&self, key: &str) {
        std::fs::remove_file(self.path("depot/keys").join(key)).unwrap();
    }

    pub fn serves(&self) -> Server {
        let depot = self.text("depot");
        let arguments = ["serve", "--root", &depot, "--listen", "127.0.0.1:0"];
        let mut child =
            Command::new(PROGRAM).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        Server { child, url }
    }
}

/// A server that runs until it is dropped.
pub struct Server {
    child: Child,
    pub url: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a program with its clock set that many days on, or back.
pub fn run(days: i64, program: &str, arguments: &[&str]) -> Answer {
    let mut command = match days {
        0 => Command::new(program),
        days => {
            let mut command = Command::new("faketime");
            command.args(["-f", &format!("{days:+}d"), program]);
            command
        }
    };
    let output = command.args(arguments).output().unwrap();
    let mut said = String::from_utf8(output.stdout).unwrap();
    said.push_str(&String::from_utf8(output.stderr).unwrap());
    Answer { code: output.status.code().unwrap_or(-1), said }
}

/// The Python that has python-tuf and a mail server.
pub fn python() -> String {
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/peers");
    let answer = run(0, peers.to_str().unwrap(), &["python-tuf"]);
    assert_eq!(answer.code, 0, "{}", answer.said);
    answer.said.trim().to_owned()
}
