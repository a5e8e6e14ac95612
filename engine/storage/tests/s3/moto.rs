//! moto, a stand-in for Amazon's services written by others: it keeps objects in memory, pages its
//! listings and knows `If-None-Match`, and looks neither at signatures nor at sums.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A running server; it ends with the test.
pub struct Moto {
    child: Child,
    /// Where it listens: `http://127.0.0.1:PORT`.
    pub url: String,
}

impl Moto {
    /// Starts it, with an empty bucket.
    pub fn start(bucket: &str) -> Self {
        let mut child = Command::new(program())
            .args(["-H", "127.0.0.1", "-p", "0"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        let url = said
            .by_ref()
            .find_map(|line| Some(line.unwrap().split_once("Running on ")?.1.trim().to_owned()))
            .expect("the server says where it listens");
        // It goes on writing, and must find somebody who reads.
        std::thread::spawn(move || said.for_each(drop));
        ureq::put(format!("{url}/{bucket}")).send_empty().unwrap();
        Self { child, url }
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/peers");
    let found = Command::new(&script).arg("moto").output().unwrap();
    let told = String::from_utf8_lossy(&found.stderr).into_owned();
    assert!(found.status.success(), "these tests need moto: {told}");
    PathBuf::from(String::from_utf8(found.stdout).unwrap().trim())
}
