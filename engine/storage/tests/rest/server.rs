//! The REST server restic's authors wrote, on a folder and a port of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A running server; it ends with the test.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Server {
    /// Starts it with more flags. A line for `.htpasswd` turns passwords on.
    pub fn start(flags: &[&str], htpasswd: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(program());
        if let Some(line) = htpasswd {
            std::fs::write(folder.path().join(".htpasswd"), line).unwrap();
        } else {
            command.arg("--no-auth");
        }
        // It takes a port itself: one looked for here could be another's by the time it listens.
        let mut child = command
            .args(["--listen", "127.0.0.1:0", "--path"])
            .arg(folder.path())
            .args(flags)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = said
            .by_ref()
            .find_map(|line| line.unwrap().rsplit_once("server on ")?.1.parse().ok())
            .expect("the server says where it listens");
        // It goes on writing, and must find somebody who reads.
        std::thread::spawn(move || said.for_each(drop));
        Self { child, address, folder }
    }

    /// What it keeps, as it lies in the folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/peers");
    let found = Command::new(&script).arg("rest-server").output().unwrap();
    let told = String::from_utf8_lossy(&found.stderr).into_owned();
    assert!(found.status.success(), "these tests need a rest-server: {told}");
    PathBuf::from(String::from_utf8(found.stdout).unwrap().trim())
}
