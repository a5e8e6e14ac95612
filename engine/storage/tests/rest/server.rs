//! The REST server restic's authors wrote, on a folder and a port of its own.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

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
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = command
            .args(["--listen", &address.to_string(), "--path"])
            .arg(folder.path())
            .args(flags)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, address, folder };
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "the server did not begin to listen"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        server
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
