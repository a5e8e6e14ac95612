//! A repository whose keeper, or attacker, can do anything, served over HTTP, and a client that is
//! the real program.

use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use supervisor_trust::envelope::sign;
use supervisor_trust::json::Value;
use supervisor_trust::{
    Head, MetaFile, PublicKey, Role, Root, SigningKey, Snapshot, TargetFile, Targets, Timestamp,
    UnixSeconds,
};

/// The day everything was published.
pub const TODAY: UnixSeconds = UnixSeconds::new(1_795_303_136);

/// What is served under a name.
#[derive(Clone)]
pub enum Served {
    Bytes(Vec<u8>),
    /// A body that never ends.
    Endless,
    /// To that address.
    Redirect(String),
}

#[derive(Default)]
struct Shelf {
    files: BTreeMap<String, Served>,
    asked: Vec<String>,
}

/// Who is listed for a role, how many must sign, and who does.
#[derive(Clone)]
pub struct Seats {
    pub listed: Vec<u8>,
    pub threshold: usize,
    pub signing: Vec<u8>,
}

pub struct World {
    pub seats: BTreeMap<Role, Seats>,
    pub root: Head,
    pub targets: Targets,
    pub snapshot: Snapshot,
    pub timestamp: Timestamp,
    /// Lists carry lengths and hashes, not versions alone.
    pub has_hashes: bool,
    /// Changes the root before it is signed.
    pub edit_root: fn(Value) -> Value,
    shelf: Arc<Mutex<Shelf>>,
    pub url: String,
    folder: tempfile::TempDir,
    pub now: UnixSeconds,
}

/// The key of that number, the same each time.
pub fn key(number: u8) -> SigningKey {
    SigningKey::from_seed(&[number; 32])
}

impl World {
    /// A sound repository, and a client that trusts its first root.
    pub fn new() -> Self {
        let mut world = Self::without_client();
        world.publish_root();
        world.publish();
        world.init();
        world
    }

    /// Nothing published, nobody trusting.
    pub fn without_client() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shelf = Arc::new(Mutex::new(Shelf::default()));
        let served = Arc::clone(&shelf);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let served = Arc::clone(&served);
                std::thread::spawn(move || answer(stream, &served));
            }
        });
        let seats = Role::ALL.into_iter().zip(1..).map(|(role, number)| {
            (role, Seats { listed: vec![number], threshold: 1, signing: vec![number] })
        });
        let head = Head { version: 1, expires: TODAY.plus_days(30) };
        let unlisted = MetaFile { version: 1, length: None, sha256: None };
        let mut world = Self {
            seats: seats.collect(),
            root: Head { version: 0, ..head },
            targets: Targets { head, targets: BTreeMap::new() },
            snapshot: Snapshot { head, meta: BTreeMap::new() },
            timestamp: Timestamp { head, snapshot: unlisted.clone() },
            has_hashes: false,
            edit_root: |value| value,
            shelf,
            url,
            folder: tempfile::tempdir().unwrap(),
            now: TODAY,
        };
        world.snapshot.meta.insert("targets.json".to_owned(), unlisted);
        world
    }

    fn signed(&self, role: Role, value: &Value) -> Vec<u8> {
        let keys: Vec<SigningKey> = self.seats[&role].signing.iter().map(|n| key(*n)).collect();
        sign(value, &keys.iter().collect::<Vec<_>>())
    }

    /// Signs and serves the next root.
    pub fn publish_root(&mut self) {
        self.root.version += 1;
        let roles: Vec<(Role, usize, Vec<PublicKey>)> = self
            .seats
            .iter()
            .map(|(role, seats)| {
                let keys = seats.listed.iter().map(|number| key(*number).public()).collect();
                (*role, seats.threshold, keys)
            })
            .collect();
        let roles: Vec<_> = roles.iter().map(|(role, n, keys)| (*role, *n, &keys[..])).collect();
        let value = (self.edit_root)(Root::new(self.root, &roles).to_value());
        let bytes = self.signed(Role::Root, &value);
        self.put(&format!("metadata/{}.root.json", self.root.version), bytes);
    }

    fn listed(&self, version: u64, bytes: &[u8]) -> MetaFile {
        let length = self.has_hashes.then_some(bytes.len() as u64);
        let sha256 = self.has_hashes.then(|| Sha256::digest(bytes).into());
        MetaFile { version, length, sha256 }
    }

    /// Signs and serves targets, snapshot and timestamp with the versions they have.
    pub fn publish(&mut self) {
        let bytes = self.serve_targets();
        let listed = self.listed(self.targets.head.version, &bytes);
        self.snapshot.meta.insert("targets.json".to_owned(), listed);
        let bytes = self.serve_snapshot();
        self.timestamp.snapshot = self.listed(self.snapshot.head.version, &bytes);
        self.serve_timestamp();
    }

    /// The same, each one version on.
    pub fn publish_next(&mut self) {
        self.targets.head.version += 1;
        self.snapshot.head.version += 1;
        self.timestamp.head.version += 1;
        self.publish();
    }

    /// Serves the targets as they stand, without telling the snapshot.
    pub fn serve_targets(&mut self) -> Vec<u8> {
        let bytes = self.signed(Role::Targets, &self.targets.to_value());
        self.put(&format!("metadata/{}.targets.json", self.targets.head.version), bytes.clone());
        bytes
    }

    /// Serves the snapshot as it stands, without telling the timestamp.
    pub fn serve_snapshot(&mut self) -> Vec<u8> {
        let bytes = self.signed(Role::Snapshot, &self.snapshot.to_value());
        self.put(&format!("metadata/{}.snapshot.json", self.snapshot.head.version), bytes.clone());
        bytes
    }

    pub fn serve_timestamp(&mut self) {
        let bytes = self.signed(Role::Timestamp, &self.timestamp.to_value());
        self.put("metadata/timestamp.json", bytes);
    }

    /// Replaces all keys of a role by one other.
    pub fn rotate(&mut self, role: Role, number: u8) {
        self.seats
            .insert(role, Seats { listed: vec![number], threshold: 1, signing: vec![number] });
    }

    /// Lists and serves a file.
    pub fn add_file(&mut self, name: &str, bytes: &[u8]) {
        let sha256: [u8; 32] = Sha256::digest(bytes).into();
        let file = TargetFile { length: bytes.len() as u64, sha256, custom: None };
        self.targets.targets.insert(name.to_owned(), file);
        self.put_file(name, name, bytes);
    }

    /// Serves other bytes where the signed list says `name` is.
    pub fn put_file(&mut self, name: &str, path: &str, bytes: &[u8]) {
        let hash = hex::encode(self.targets.targets[name].sha256);
        let (folder, last) = path.rsplit_once('/').unwrap_or(("", path));
        let slash = if folder.is_empty() { "" } else { "/" };
        self.put(&format!("targets/{folder}{slash}{hash}.{last}"), bytes.to_vec());
    }

    pub fn put(&self, path: &str, bytes: Vec<u8>) {
        self.serve(path, Served::Bytes(bytes));
    }

    pub fn serve(&self, path: &str, what: Served) {
        self.shelf.lock().unwrap().files.insert(path.to_owned(), what);
    }

    pub fn withdraw(&self, path: &str) {
        self.shelf.lock().unwrap().files.remove(path);
    }

    pub fn served(&self, path: &str) -> Vec<u8> {
        match &self.shelf.lock().unwrap().files[path] {
            Served::Bytes(bytes) => bytes.clone(),
            _ => panic!("{path} is not bytes"),
        }
    }

    /// What was asked for since the last time, without `metadata/`.
    pub fn asked(&self) -> Vec<String> {
        let asked = std::mem::take(&mut self.shelf.lock().unwrap().asked);
        asked.iter().map(|path| path.replace("metadata/", "")).collect()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Tells the client to trust the first root.
    pub fn init(&self) {
        self.init_with(&self.served("metadata/1.root.json"));
    }

    pub fn init_with(&self, root: &[u8]) {
        std::fs::write(self.path("first"), root).unwrap();
        let first = self.path("first");
        assert!(self.run(&["init", first.to_str().unwrap()]));
    }

    /// Runs the client; whether it says that all is well.
    pub fn run(&self, arguments: &[&str]) -> bool {
        let status = Command::new(env!("CARGO_BIN_EXE_tuf-client"))
            .arg("--metadata-dir")
            .arg(self.path("metadata"))
            .args(["--now", &self.now.seconds().to_string()])
            .args(["--metadata-url", &format!("{}/metadata", self.url)])
            .args(arguments)
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(matches!(status.code(), Some(0 | 1)), "{status}");
        status.success()
    }

    pub fn refresh(&self) -> bool {
        self.run(&["refresh"])
    }

    pub fn download(&self, names: &[&str]) -> bool {
        let base = format!("{}/targets/", self.url);
        let folder = self.path("downloads");
        let mut arguments = vec!["--target-dir", folder.to_str().unwrap()];
        arguments.extend(["--target-base-url", &base]);
        names.iter().for_each(|name| arguments.extend(["--target-name", name]));
        arguments.push("download");
        self.run(&arguments)
    }

    /// The contents of what was downloaded, sorted.
    pub fn downloads(&self) -> Vec<Vec<u8>> {
        let Ok(entries) = std::fs::read_dir(self.path("downloads")) else { return Vec::new() };
        let mut all: Vec<_> =
            entries.map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
        all.sort();
        all
    }

    /// The file the client keeps for a role.
    pub fn kept(&self, role: Role) -> Option<Vec<u8>> {
        std::fs::read(self.path("metadata").join(format!("{role}.json"))).ok()
    }

    /// The versions the client keeps of root, targets, snapshot, timestamp; 0 for none.
    pub fn versions(&self) -> [u64; 4] {
        Role::ALL.map(|role| {
            let value = self.kept(role).map(|bytes| Value::parse(&bytes).unwrap());
            value.map_or(0, |value| {
                value.get("signed").and_then(|signed| signed.get("version")?.as_u64()).unwrap()
            })
        })
    }
}

/// What ends the head of an answer without a body.
const NOTHING: &str = "Connection: close\r\nContent-Length: 0\r\n";

fn answer(stream: TcpStream, shelf: &Mutex<Shelf>) {
    let mut lines = BufReader::new(&stream).lines();
    let Some(Ok(first)) = lines.next() else { return };
    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
    let path = first.split(' ').nth(1).unwrap_or("/").trim_start_matches('/').to_owned();
    let found = {
        let mut shelf = shelf.lock().unwrap();
        shelf.asked.push(path.clone());
        shelf.files.get(&path).cloned()
    };
    let mut out = &stream;
    // The client may have enough at any time.
    let _ = match found {
        None => write!(out, "HTTP/1.1 404 Not Found\r\n{NOTHING}\r\n"),
        Some(Served::Redirect(to)) => {
            write!(out, "HTTP/1.1 302 Found\r\nLocation: {to}\r\n{NOTHING}\r\n")
        }
        Some(Served::Bytes(bytes)) => {
            let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length:";
            write!(out, "{head} {}\r\n\r\n", bytes.len()).and_then(|()| out.write_all(&bytes))
        }
        Some(Served::Endless) => {
            let mut sent = out.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{");
            while sent.is_ok() {
                sent = out.write_all(&[b' '; 4096]);
            }
            sent
        }
    };
}
