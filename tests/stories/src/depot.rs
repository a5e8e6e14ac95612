//! Somebody's depot: keys, shelves, our package in several versions, served on loopback.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use tests_support::{Dsm, Running, program, run, workspace};

/// A depot that is being served. It stops when it is dropped.
#[derive(Debug)]
pub struct Depot {
    folder: tempfile::TempDir,
    serving: Option<Running>,
    url: String,
}

impl Depot {
    /// A depot with fresh keys and empty shelves, served on a port of its own.
    pub fn open() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut depot = Self { folder, serving: None, url: String::new() };
        run(depot.supervisor(&["depot", "init"]).arg("--root").arg(depot.shelves())).must_succeed();
        depot.serve();
        depot
    }

    /// A depot that offers our package in one version, for DSM 6 and DSM 7.
    pub fn with(version: &str) -> Self {
        let depot = Self::open();
        depot.publish(version);
        depot
    }

    /// Builds our package in this version, with the depot's key inside, and publishes it.
    pub fn publish(&self, version: &str) {
        let mut publish = self.supervisor(&["depot", "publish"]);
        publish.arg("--root").arg(self.shelves()).args(self.packages(version));
        run(&mut publish).must_succeed();
    }

    /// Ends the server; the shelves stay.
    pub fn close(&mut self) {
        self.serving = None;
    }

    fn serve(&mut self) {
        let mut serve = self.supervisor(&["depot", "serve"]);
        serve.arg("--root").arg(self.shelves()).args(["--listen", "127.0.0.1:0"]);
        let (serving, line) = Running::until(&mut serve, "listening on ");
        let url = line.split("listening on ").nth(1).and_then(|rest| rest.split(' ').next());
        self.url = url.expect("it says where").trim().to_owned();
        self.serving = Some(serving);
    }

    /// What the owner types into Package Center.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The depot's folder on its keeper's disk.
    pub fn shelves(&self) -> PathBuf {
        self.folder.path().join("depot")
    }

    /// A command of our supervisor's.
    pub fn supervisor(&self, words: &[&str]) -> Command {
        let mut command = Command::new(program("holdfast-supervisor"));
        command.args(words);
        command
    }

    /// What goes into a package: the programs for this machine, and the key this depot is to be
    /// believed by.
    fn programs(&self) -> PathBuf {
        let folder = self.folder.path().join("programs");
        let place = folder.join("x86_64");
        std::fs::create_dir_all(&place).expect("a folder");
        for name in ["holdfast", "holdfast-supervisor"] {
            std::fs::copy(stripped(name), place.join(name)).expect("room for a program");
        }
        let mut export = self.supervisor(&["depot", "keys", "export"]);
        let root_of_trust = run(export.arg("--root").arg(self.shelves())).must_succeed().out;
        std::fs::write(folder.join("depot.pub"), root_of_trust).expect("room for a key");
        folder
    }

    fn packages(&self, version: &str) -> Vec<PathBuf> {
        let into = self.folder.path().join(format!("built {version}"));
        let mut build = Command::new(program("spk"));
        build
            .arg("build")
            .arg("--manifest")
            .arg(workspace().join("scripts/package/package.toml"))
            .args(["--target", "x86_64", "--dsm", "6", "--dsm", "7", "--version", version])
            .arg("--programs")
            .arg(self.programs())
            .arg("-o")
            .arg(&into);
        run(&mut build).must_succeed();
        let packages = std::fs::read_dir(&into).expect("packages were built").flatten();
        let mut packages: Vec<PathBuf> = packages.map(|entry| entry.path()).collect();
        packages.retain(|path| path.extension().is_some_and(|extension| extension == "spk"));
        packages.sort_unstable();
        assert_eq!(packages.len(), 2, "one for {:?} and one for {:?}", Dsm::Six, Dsm::Seven);
        packages
    }
}

/// A program without its symbols, which lies beside it and is made anew when it was.
pub fn stripped(name: &str) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _mine = ONE_AT_A_TIME.lock();
    let built = program(name);
    let stripped = built.with_file_name(format!("{name}.stripped"));
    let changed = |path: &Path| std::fs::metadata(path).and_then(|meta| meta.modified()).ok();
    if changed(&stripped) < changed(&built) {
        let fresh = built.with_file_name(format!("{name}.{}", std::process::id()));
        std::fs::copy(&built, &fresh).expect("room for a program");
        // Without binutils the package is larger, and nothing else.
        let _ = Command::new("strip").arg(&fresh).output();
        std::fs::rename(&fresh, &stripped).expect("a program");
    }
    stripped
}

/// What `spk build` makes when it is told so; `spk check` has nothing against it.
pub fn built_and_checked(build: &mut Command) -> PathBuf {
    let built = run(build).must_succeed();
    let line = built.out.lines().next().expect("a package").to_owned();
    let path = PathBuf::from(line.split("  ").next().expect("its path"));
    let mut check = Command::new(program("spk"));
    let said = run(check.arg("check").arg(&path)).must_succeed().said();
    assert!(said.contains("nothing to complain about"), "{said}");
    path
}
