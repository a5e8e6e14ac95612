//! What the tests of this room are played on: a depot in a temporary folder, real packages built by
//! `spk` to put in it, and NAS that ask over a real connection.

use crate::{Seeds, ServeSettings};
use spk::build::{SCRIPTS, Sources, build};
use spk::dsm::Dsm;
use spk::manifest::Manifest;
use spk::platform::Target;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use supervisor_trust::{Cache, Client, Moment, TrustError, UnixSeconds};
use tempfile::TempDir;

/// The day on which everything happens.
pub const TODAY: UnixSeconds = UnixSeconds::new(1_795_303_136);

/// A folder with a depot in it, and room to build packages.
pub struct Stage {
    folder: TempDir,
}

/// A package to build.
#[derive(Clone, Copy)]
pub struct Recipe<'a> {
    pub name: &'a str,
    pub version: &'a str,
    pub target: Target,
    pub dsm: Dsm,
    /// What its one file says.
    pub content: &'a str,
    /// Further lines of the manifest's `[info]`.
    pub info: &'a str,
    pub has_wizard: bool,
}

impl Default for Recipe<'_> {
    fn default() -> Self {
        Self {
            name: "hello",
            version: "1.0.0-1",
            target: Target::X86_64,
            dsm: Dsm::Seven,
            content: "hello",
            info: "",
            has_wizard: false,
        }
    }
}

impl Stage {
    /// An empty depot.
    pub fn new() -> Self {
        let stage = Self { folder: tempfile::tempdir().unwrap() };
        let seeds =
            Seeds { root: [1; 32], targets: [2; 32], snapshot: [3; 32], timestamp: [4; 32] };
        crate::init(&stage.depot(), &seeds, TODAY).unwrap();
        stage
    }

    /// The depot's folder.
    pub fn depot(&self) -> PathBuf {
        self.folder.path().join("depot")
    }

    /// Builds a package; its path.
    pub fn build(&self, recipe: Recipe<'_>) -> PathBuf {
        let folder = self.folder.path().join("source");
        let write = |path: &str, bytes: &[u8]| {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        let _ = fs::remove_dir_all(&folder);
        write("hello", recipe.content.as_bytes());
        write("icon.png", &spk::icon::plain().encode());
        for script in SCRIPTS {
            write(&format!("scripts/{script}"), b"#!/bin/sh\nexit 0\n");
        }
        let mut wizard = "";
        if recipe.has_wizard {
            write("wizard/install_uifile", br#"[{"step_title":"A","items":[]}]"#);
            wizard = "[wizard]\nfolder = \"wizard\"\n";
        }
        let manifest = Manifest::parse(&format!(
            "[package]\nname = \"{}\"\nversion = \"{}\"\ndisplayname = \"Hello\"\n\
             description = \"Says \\u00abhello\\u00bb.\"\nmaintainer = \"Somebody\"\n\
             targets = [\"{}\"]\n[package.displaynames]\nger = \"Hallo\"\n\
             [dsm]\nbuild = [{}]\n[[payload]]\nfrom = \"hello\"\nto = \"share/hello\"\n\
             [scripts]\nfolder = \"scripts\"\n{wizard}[icon]\nfile = \"icon.png\"\n[info]\n{}\n",
            recipe.name,
            recipe.version,
            recipe.target,
            recipe.dsm.major(),
            recipe.info,
        ));
        let manifest = manifest.unwrap();
        let sources = Sources { manifest: &manifest, folder: &folder, programs: &folder };
        let built = build(&sources, recipe.target, &[recipe.dsm], self.folder.path()).unwrap();
        built[0].path.clone()
    }

    /// Builds a package and puts it on the shelf.
    pub fn publish(&self, recipe: Recipe<'_>) {
        let path = self.build(recipe);
        crate::publish(&self.depot(), &[path], TODAY).unwrap();
    }

    /// What a TUF client that trusts the depot's first root verifies, from the folder itself: the
    /// versions and what `what` reads out of the list of targets.
    pub fn verified(&self, now: UnixSeconds) -> Result<Vec<(String, u64)>, TrustError> {
        let folder = self.depot().join("current/metadata");
        let read = |name: &str| fs::read(folder.join(name)).ok();
        let root = read("1.root.json").unwrap();
        let mut client = Client::start(&root, Cache::default(), Moment::new(now, TODAY))?;
        while let Some(request) = client.request() {
            client.answer(read(&request.name).as_deref())?;
        }
        let targets = &client.verified().unwrap().targets.targets;
        Ok(targets.iter().map(|(name, file)| (name.clone(), file.length)).collect())
    }

    /// Serves the depot until the returned value goes away.
    pub fn serve(&self, base_url: Option<&str>) -> Server {
        self.serve_with(|settings| settings.base_url = base_url.map(str::to_owned))
    }

    /// The same with other settings.
    pub fn serve_with(&self, change: impl FnOnce(&mut ServeSettings)) -> Server {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let mut settings = ServeSettings::new(&self.depot(), || TODAY);
        change(&mut settings);
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let shutdown = async { drop(stopped.await) };
                crate::serve(listener, settings, shutdown).await.unwrap();
            });
        });
        Server { address, stop: Some(stop), thread: Some(thread) }
    }
}

/// A depot that is being served.
pub struct Server {
    pub address: SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().map(std::thread::JoinHandle::join);
    }
}

/// An answer as it came over the connection.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("an answer in JSON")
    }
}

impl Server {
    /// Sends bytes and reads until the server has nothing more to say.
    pub fn send(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        // The server may refuse before everything was sent.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer
    }

    /// Asks once on a connection of its own.
    pub fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        self.ask_bytes(method, path, headers, body.as_bytes())
    }

    /// The same with a body that is no text.
    pub fn ask_bytes(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let host = match headers.contains("Host:") {
            true => String::new(),
            false => format!("Host: {}\r\n", self.address),
        };
        let length = match method {
            "POST" | "PATCH" => format!("Content-Length: {}\r\n", body.len()),
            _ => String::new(),
        };
        let head =
            format!("{method} {path} HTTP/1.1\r\n{host}{length}{headers}Connection: close\r\n\r\n");
        read_answer(&self.send(&[head.as_bytes(), body].concat()))
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", "")
    }
}

fn read_answer(bytes: &[u8]) -> Answer {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole head");
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_lowercase(), value.to_owned())
    });
    Answer { status, headers: headers.collect(), body: bytes[end + 4..].to_vec() }
}

/// Every file below a folder with its bytes.
pub fn files_below(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.symlink_metadata().unwrap().is_dir() {
            files.extend(files_below(&path));
        } else if path.is_file() {
            files.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    files
}
