//! Somebody's depot, served on loopback by this very process, and packages to put on its shelves.

#![allow(dead_code)] // each file of tests uses another part

use spk::build::{Sources, build};
use spk::dsm::Dsm;
use spk::manifest::Manifest;
use spk::platform::Target;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{SystemTime, UNIX_EPOCH};
use supervisor_depot::{Seeds, ServeSettings};
use supervisor_trust::UnixSeconds;
use tokio::sync::oneshot;

pub fn now() -> UnixSeconds {
    UnixSeconds::new(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs())
}

/// An empty depot with keys of its own.
pub fn init(root: &Path, seed: u8) {
    init_at(root, seed, now());
}

/// One that was made at another time.
pub fn init_at(root: &Path, seed: u8, made: UnixSeconds) {
    let of = |role: u8| [seed * 4 + role; 32];
    let seeds = Seeds { root: of(0), targets: of(1), snapshot: of(2), timestamp: of(3) };
    supervisor_depot::init(root, &seeds, made).unwrap();
}

/// A depot that is served until it is dropped.
pub struct Served {
    pub url: String,
    stop: Option<oneshot::Sender<()>>,
    server: Option<std::thread::JoinHandle<()>>,
}

impl Served {
    pub fn from(root: &Path) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let (say, said) = mpsc::channel();
        let root = root.to_owned();
        let server = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                say.send(format!("http://{}", listener.local_addr().unwrap())).unwrap();
                let settings = ServeSettings::new(&root, now);
                let shutdown = async { drop(stopped.await) };
                supervisor_depot::serve(listener, settings, shutdown).await.unwrap();
            });
        });
        Self { url: said.recv().unwrap(), stop: Some(stop), server: Some(server) }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(server) = self.server.take() {
            server.join().unwrap();
        }
    }
}

/// A package to be built: its daemon is a few lines of shell.
pub struct Recipe<'a> {
    pub name: &'a str,
    pub version: &'a str,
    pub script: &'a str,
    /// Lines of `[daemon]`.
    pub keys: &'a str,
    /// Lines of `[daemon.environment]`.
    pub environment: &'a str,
    /// How many bytes that nothing makes smaller are in it.
    pub ballast_bytes: usize,
}

impl Recipe<'_> {
    /// Builds it for Intel boxes with DSM 7; its path.
    pub fn build(&self, into: &Path) -> PathBuf {
        let folder = into.join(self.version);
        let write = |path: &str, bytes: &[u8]| {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        for script in spk::build::SCRIPTS {
            write(&format!("scripts/{script}"), b"#!/bin/sh\nexit 0\n");
        }
        write("payload/bin/daemon.sh", format!("#!/bin/sh\n{}\n", self.script).as_bytes());
        let mut number = 1_u32;
        let noise = (0..self.ballast_bytes).map(|_| {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (number >> 24) as u8
        });
        write("payload/share/ballast", &noise.collect::<Vec<u8>>());
        write("icon.png", &spk::icon::plain().encode());
        let text = format!(
            "[package]\nname = \"{}\"\nversion = \"{}\"\ndisplayname = \"Demo\"\n\
             description = \"Sleeps.\"\nmaintainer = \"Somebody\"\ntargets = [\"x86_64\"]\n\
             [dsm]\nbuild = [7]\n[[payload]]\nfrom = \"payload/bin\"\nto = \"bin\"\n\
             [[payload]]\nfrom = \"payload/share\"\nto = \"share\"\n[scripts]\n\
             folder = \"scripts\"\n[icon]\nfile = \"icon.png\"\n[daemon]\n\
             command = [\"/bin/sh\", \"{{target}}/bin/daemon.sh\"]\n{}[daemon.environment]\n{}",
            self.name, self.version, self.keys, self.environment
        );
        let manifest = Manifest::parse(&text).unwrap();
        let sources = Sources { manifest: &manifest, folder: &folder, programs: &folder };
        let built = build(&sources, Target::X86_64, &[Dsm::Seven], &folder.join("out"));
        built.unwrap()[0].path.clone()
    }
}
