//! A depot's keeper at a terminal: packages to publish, commands to type, a server that runs.

use spk::build::{SCRIPTS, Sources, build};
use spk::dsm::Dsm;
use spk::manifest::Manifest;
use spk::platform::Target;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tests_support::stores::Access;

/// A folder with depots and packages in it.
pub struct Keeper {
    folder: tempfile::TempDir,
    access: Option<Access>,
}

/// What a command said, and its exit code.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Said {
    #[track_caller]
    pub fn well(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    #[track_caller]
    #[allow(dead_code, reason = "not every test of this package sees a refusal")]
    pub fn with_a_remedy(self) -> String {
        assert_eq!(self.code, 1, "{self:?}");
        assert!(self.err.contains("what to do:"), "{self:?}");
        self.err
    }
}

impl Keeper {
    /// A keeper with an empty depot in `depot`.
    pub fn new() -> Self {
        let keeper = Self { folder: tempfile::tempdir().unwrap(), access: None };
        keeper.types(&["init", "--root", "depot"]).well();
        keeper
    }

    /// The same with a key to an object store in the environment.
    #[allow(dead_code, reason = "not every test of this package has a store")]
    pub fn with_access(access: Access) -> Self {
        Self { access: Some(access), ..Self::new() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A command of ours, typed in the keeper's folder.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast-depot"));
        command.args(words).current_dir(self.folder.path());
        let names = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"];
        let access = self.access.as_ref().map(|key| [&key.id, &key.secret, &key.region]);
        for (at, name) in names.into_iter().enumerate() {
            match access {
                Some(words) => command.env(name, words[at]),
                None => command.env_remove(name),
            };
        }
        command.env_remove("AWS_SESSION_TOKEN");
        command
    }

    pub fn types(&self, words: &[&str]) -> Said {
        self.command(words).output().unwrap().into()
    }

    /// Somebody else's program, run in the keeper's folder.
    pub fn runs(&self, program: &str, words: &[&str]) -> Said {
        Command::new(program).args(words).current_dir(self.folder.path()).output().unwrap().into()
    }

    /// Builds a package for x86_64 and DSM 7; the name of its file.
    #[allow(dead_code, reason = "not every test of this package wants one")]
    pub fn builds(&self, name: &str, version: &str) -> String {
        self.builds_for(Dsm::Seven, name, version)
    }

    /// The same with what its one file says.
    #[allow(dead_code, reason = "not every test of this package wants one")]
    pub fn builds_with(&self, name: &str, version: &str, content: &[u8]) -> String {
        self.builds_all(Dsm::Seven, name, version, content)
    }

    /// The same for another DSM.
    pub fn builds_for(&self, dsm: Dsm, name: &str, version: &str) -> String {
        self.builds_all(dsm, name, version, name.as_bytes())
    }

    fn builds_all(&self, dsm: Dsm, name: &str, version: &str, content: &[u8]) -> String {
        let source = self.path("source");
        let write = |path: &str, bytes: &[u8]| {
            let path = source.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, bytes).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        };
        write("hello", content);
        write("icon.png", &spk::icon::plain().encode());
        for script in SCRIPTS {
            write(&format!("scripts/{script}"), b"#!/bin/sh\nexit 0\n");
        }
        let manifest = Manifest::parse(&format!(
            "[package]\nname = \"{name}\"\nversion = \"{version}\"\ndisplayname = \"Hello\"\n\
             description = \"Says hello\"\nmaintainer = \"Somebody\"\ntargets = [\"x86_64\"]\n\
             [dsm]\nbuild = [{}]\n[[payload]]\nfrom = \"hello\"\nto = \"share/hello\"\n\
             [scripts]\nfolder = \"scripts\"\n[icon]\nfile = \"icon.png\"\n",
            dsm.major()
        ));
        let manifest = manifest.unwrap();
        let sources = Sources { manifest: &manifest, folder: &source, programs: &source };
        let built = build(&sources, Target::X86_64, &[dsm], self.folder.path()).unwrap();
        built[0].path.file_name().unwrap().to_str().unwrap().to_owned()
    }

    /// Builds a package and puts it on the shelf of `depot`.
    #[allow(dead_code, reason = "not every test of this package wants one")]
    pub fn publishes(&self, name: &str, version: &str) {
        let file = self.builds(name, version);
        self.types(&["publish", "--root", "depot", &file]).well();
    }

    /// Serves a depot; the flags come after `serve --root ROOT --listen …:0`.
    #[allow(dead_code, reason = "not every test of this package wants one")]
    pub fn serves(&self, root: &str, flags: &[&str], places: usize) -> Serving {
        let mut command = self.command(&["serve", "--root", root, "--listen", "127.0.0.1:0"]);
        let mut process = command.args(flags).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let urls = lines.take(places).map(|line| {
            let line = line.unwrap();
            line.split(" on ").nth(1).expect("it says where").to_owned()
        });
        Serving { urls: urls.collect(), process }
    }
}

/// A depot that is served until this is dropped.
pub struct Serving {
    /// Where it says that it is.
    pub urls: Vec<String>,
    pub process: Child,
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[allow(dead_code, reason = "not every test of this package pins a file")]
/// SHA-256 of a file, as anybody would ask for it.
pub fn sha256(keeper: &Keeper, file: &Path) -> String {
    let said = keeper.runs("sha256sum", &[file.to_str().unwrap()]).well();
    said.split(' ').next().unwrap().to_owned()
}
