//! Object stores written by others: moto, a stand-in for S3 that keeps its objects in memory, and
//! Garage, a real service.
//!
//! moto pages its listings and minds `If-Match` and `If-None-Match`, and looks neither at
//! signatures nor at sums. Garage looks at those, and takes no notice of conditions.

use crate::programs::peer;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A node that does not answer after this will never.
const ANSWER_SECONDS_MAX: u64 = 120;
/// How often a node is started on other ports, because somebody took one of them first.
const STARTS_MAX: u32 = 5;
/// The bucket that Garage is given.
pub const BUCKET: &str = "bucket";

/// What opens a bucket.
#[derive(Debug, Clone)]
pub struct Access {
    /// The key's id.
    pub id: String,
    /// Its secret.
    pub secret: String,
    /// The region that signatures name.
    pub region: String,
}

/// A running moto; it ends with the test.
#[derive(Debug)]
pub struct Moto {
    child: Child,
    /// Where it listens: `http://127.0.0.1:PORT`.
    pub url: String,
}

impl Moto {
    /// Starts it, with an empty bucket.
    pub fn start(bucket: &str) -> Self {
        let mut child = Command::new(peer("moto"))
            .args(["-H", "127.0.0.1", "-p", "0"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("moto starts");
        let mut said = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let url = said
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| Some(line.split_once("Running on ")?.1.trim().to_owned()))
            .expect("moto says where it listens");
        // It goes on writing, and must find somebody who reads.
        std::thread::spawn(move || said.for_each(drop));
        let moto = Self { child, url };
        let ask = format!("PUT /{bucket} HTTP/1.0\r\nHost: s3\r\nContent-Length: 0\r\n\r\n");
        let mut line = TcpStream::connect(moto.address()).expect("moto listens");
        let mut answer = String::new();
        line.write_all(ask.as_bytes())
            .and_then(|()| line.read_to_string(&mut answer))
            .expect("moto answers");
        assert!(answer.contains(" 200 "), "{answer}");
        moto
    }

    /// Where it listens: `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}

/// One Garage node in a folder, on ports of its own, with a bucket and a key.
#[derive(Debug)]
pub struct Garage {
    child: Child,
    program: PathBuf,
    folder: tempfile::TempDir,
    /// Where it speaks S3: `http://127.0.0.1:PORT`.
    pub url: String,
    /// A key that may do everything with the bucket.
    pub key: Access,
}

impl Garage {
    /// Starts a node, gives it a layout of one, a key and a bucket.
    pub fn start() -> Self {
        let program = peer("garage");
        let mut node = (0..STARTS_MAX)
            .find_map(|_| Self::try_start(&program))
            .expect("garage starts on ports that were free");
        node.says(&["bucket", "create", BUCKET]);
        node.key = node.new_key("owner");
        node.says(&["bucket", "allow", "--read", "--write", "--owner", BUCKET, "--key", "owner"]);
        node
    }

    /// A node with a layout; nothing when it ended at once.
    fn try_start(program: &Path) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let [s3, rpc, admin] = free_ports();
        let at = folder.path().display();
        let settings = format!(
            "metadata_dir = \"{at}/meta\"\ndata_dir = \"{at}/data\"\ndb_engine = \"sqlite\"\n\
             replication_factor = 1\nrpc_bind_addr = \"127.0.0.1:{rpc}\"\n\
             rpc_public_addr = \"127.0.0.1:{rpc}\"\nrpc_secret = \"{}\"\n\
             [s3_api]\ns3_region = \"garage\"\napi_bind_addr = \"127.0.0.1:{s3}\"\n\
             [admin]\napi_bind_addr = \"127.0.0.1:{admin}\"\n",
            "4f".repeat(32),
        );
        std::fs::write(folder.path().join("garage.toml"), settings).expect("its settings");
        let log = std::fs::File::create(folder.path().join("log")).expect("its log");
        let child = Command::new(program)
            .arg("-c")
            .arg(folder.path().join("garage.toml"))
            .arg("server")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("garage starts");
        let key = Access { id: String::new(), secret: String::new(), region: "garage".to_owned() };
        let url = format!("http://127.0.0.1:{s3}");
        let mut node = Self { child, program: program.to_owned(), folder, url, key };
        let id = node.id()?;
        node.says(&["layout", "assign", "-z", "here", "-c", "1G", &id]);
        node.says(&["layout", "apply", "--version", "1"]);
        Some(node)
    }

    /// What the node wrote down.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// What a command of Garage's own program says.
    pub fn says(&self, words: &[&str]) -> String {
        self.try_says(words)
            .unwrap_or_else(|told| panic!("garage {words:?}: {told}\n{}", self.log()))
    }

    fn try_says(&self, words: &[&str]) -> Result<String, String> {
        let said = Command::new(&self.program)
            .arg("-c")
            .arg(self.folder.path().join("garage.toml"))
            .args(words)
            .output()
            .expect("garage starts");
        match said.status.success() {
            true => Ok(String::from_utf8_lossy(&said.stdout).into_owned()),
            false => Err(String::from_utf8_lossy(&said.stderr).into_owned()),
        }
    }

    /// Another key, which may do nothing yet.
    pub fn new_key(&self, name: &str) -> Access {
        let said = self.says(&["key", "create", name]);
        let field = |name: &str| {
            let line = said.lines().find_map(|line| line.split_once(name));
            line.unwrap_or_else(|| panic!("no {name} in {said}")).1.trim().to_owned()
        };
        let region = "garage".to_owned();
        Access { id: field("Key ID:"), secret: field("Secret key:"), region }
    }

    /// Asks for the node's id until the node answers; nothing when it ended.
    fn id(&mut self) -> Option<String> {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(ANSWER_SECONDS_MAX) {
            if self.child.try_wait().expect("a child").is_some() {
                return None;
            }
            if let Ok(said) = self.try_says(&["status"])
                && let Some(line) = said.lines().find(|line| line.contains("127.0.0.1"))
            {
                return line.split_whitespace().next().map(str::to_owned);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("garage does not answer:\n{}", self.log());
    }
}

impl Drop for Garage {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}

/// Garage does not say which port it took, so it is told; looked for all at once, so that no two
/// are the same.
fn free_ports() -> [u16; 3] {
    let held = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    held.map(|listener| listener.local_addr().expect("an address").port())
}
