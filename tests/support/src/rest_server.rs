//! The REST server restic's authors wrote, on a port of its own choice.

use crate::programs::peer;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// A running server; it ends with the test.
#[derive(Debug)]
pub struct RestServer {
    /// Where it listens.
    pub address: SocketAddr,
    child: Child,
    folder: PathBuf,
    _own: Option<TempDir>,
}

impl RestServer {
    /// One with more flags, over a folder of its own. A line for `.htpasswd` turns passwords on.
    ///
    /// # Panics
    /// When it cannot be had, or does not start.
    pub fn start(flags: &[&str], htpasswd: Option<&str>) -> Self {
        let own = tempfile::tempdir().expect("a folder");
        let mut server = Self::over(own.path(), flags, htpasswd);
        server._own = Some(own);
        server
    }

    /// The same over this folder, which is made if it is not there.
    ///
    /// # Panics
    /// When it cannot be had, or does not start.
    pub fn over(folder: &Path, flags: &[&str], htpasswd: Option<&str>) -> Self {
        fs::create_dir_all(folder).expect("a folder");
        let mut command = Command::new(peer("rest-server"));
        match htpasswd {
            Some(line) => fs::write(folder.join(".htpasswd"), line).expect("a file"),
            None => drop(command.arg("--no-auth")),
        }
        // It takes a port itself: one looked for here could be another's by the time it listens.
        command.args(["--listen", "127.0.0.1:0", "--path"]).arg(folder).args(flags);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let mut said = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let address = said
            .by_ref()
            .find_map(|line| line.ok()?.rsplit_once("server on ")?.1.parse().ok())
            .expect("it says where it listens");
        // It goes on writing, and must find somebody who reads.
        std::thread::spawn(move || said.for_each(drop));
        Self { address, child, folder: folder.to_owned(), _own: None }
    }

    /// What it keeps, as it lies in the folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for RestServer {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}
