//! One Garage node in a folder, on ports of its own, with a bucket and a key.

use engine_storage::AccessKey;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A running node; it ends with the test.
pub struct Garage {
    child: Child,
    program: PathBuf,
    folder: tempfile::TempDir,
    /// Where it speaks S3: `http://127.0.0.1:PORT`.
    pub url: String,
    /// A key that may do everything with the bucket.
    pub key: AccessKey,
}

/// The bucket every test uses.
pub const BUCKET: &str = "bucket";

impl Garage {
    /// Starts a node, gives it a layout of one, a key and a bucket.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = program();
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
        std::fs::write(folder.path().join("garage.toml"), settings).unwrap();
        let child = Command::new(&program)
            .arg("-c")
            .arg(folder.path().join("garage.toml"))
            .arg("server")
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let key = AccessKey {
            id: String::new(),
            secret: String::new(),
            token: None,
            region: Some("garage".into()),
        };
        let url = format!("http://127.0.0.1:{s3}");
        let mut node = Self { child, program, folder, url, key };
        let id = node.id();
        node.says(&["layout", "assign", "-z", "here", "-c", "1G", &id]);
        node.says(&["layout", "apply", "--version", "1"]);
        node.says(&["bucket", "create", BUCKET]);
        node.key = node.new_key("owner");
        node.says(&["bucket", "allow", "--read", "--write", "--owner", BUCKET, "--key", "owner"]);
        node
    }

    /// What the node wrote down.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
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
            .unwrap();
        match said.status.success() {
            true => Ok(String::from_utf8(said.stdout).unwrap()),
            false => Err(String::from_utf8_lossy(&said.stderr).into_owned()),
        }
    }

    /// Another key, which may do nothing yet.
    pub fn new_key(&self, name: &str) -> AccessKey {
        let said = self.says(&["key", "create", name]);
        let field = |name: &str| {
            let line = said.lines().find_map(|line| line.split_once(name)).unwrap();
            line.1.trim().to_owned()
        };
        let region = Some("garage".into());
        AccessKey { id: field("Key ID:"), secret: field("Secret key:"), token: None, region }
    }

    /// Asks for the node's id until the node answers.
    fn id(&mut self) -> String {
        for _ in 0..300 {
            assert!(self.child.try_wait().unwrap().is_none(), "garage ended");
            if let Ok(said) = self.try_says(&["status"]) {
                let line = said.lines().find(|line| line.contains("127.0.0.1")).unwrap();
                return line.split_whitespace().next().unwrap().to_owned();
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("garage does not answer");
    }
}

impl Drop for Garage {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Garage does not say which port it took, so it is told; looked for all at once, so that no two
/// are the same.
fn free_ports() -> [u16; 3] {
    let held = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

fn program() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/peers");
    let found = Command::new(&script).arg("garage").output().unwrap();
    let told = String::from_utf8_lossy(&found.stderr).into_owned();
    assert!(found.status.success(), "these tests need garage: {told}");
    PathBuf::from(String::from_utf8(found.stdout).unwrap().trim())
}
