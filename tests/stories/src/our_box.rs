//! A NAS with our package on it, and what its owner does with it.

use crate::Depot;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tests_support::nas::{Removal, State};
use tests_support::{Center, Dsm, Finished, Hardware, Nas, Shell, program, run};

/// Our package's name.
pub const PACKAGE: &str = "holdfast";

/// A temporary folder that a package's own user can enter.
pub fn folder_for_everybody() -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("holdfast-").tempdir().expect("a folder");
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).expect("a folder");
    folder
}

/// A NAS somebody owns. Whatever still runs on it is ended when it is dropped.
#[derive(Debug)]
pub struct OurBox {
    nas: Nas,
    folder: tempfile::TempDir,
}

impl OurBox {
    /// A NAS just out of its carton.
    pub fn new(dsm: Dsm, shell: Shell) -> Self {
        let folder = folder_for_everybody();
        let hardware = Hardware::of("apollolake").expect("a known platform");
        let nas = Nas::create(&folder.path().join("nas"), dsm, hardware, shell);
        Self { nas: nas.expect("a NAS in a folder"), folder }
    }

    /// A NAS with our package from `depot` on it, running.
    pub fn with_our_package(dsm: Dsm, shell: Shell, depot: &Depot) -> Self {
        let our_box = Self::new(dsm, shell);
        our_box.install_from(depot);
        our_box
    }

    /// The NAS.
    pub fn nas(&self) -> &Nas {
        &self.nas
    }

    /// A folder beside the NAS, for sources and restored files.
    pub fn outside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The buttons Package Center shows for our package.
    pub fn button(&self, depot: &Depot) -> Option<(&'static str, String)> {
        let offers = Center::with_source(&self.nas, depot.url()).and_then(|center| center.offers());
        let offers = offers.expect("the depot answers");
        let ours = offers.into_iter().find(|offer| offer.row.package == PACKAGE);
        ours.map(|offer| (offer.button, offer.row.version))
    }

    /// The owner presses Install or Update.
    pub fn install_from(&self, depot: &Depot) {
        let center = Center::with_source(&self.nas, depot.url()).expect("the depot answers");
        if let Err(refusal) = center.install(PACKAGE, &BTreeMap::new()) {
            panic!("{refusal}\n  what to do: {}\n{}", refusal.remedy(), self.log());
        }
    }

    /// The owner presses Uninstall.
    pub fn uninstall(&self, removal: Removal) {
        let removed = self.nas.uninstall(PACKAGE, removal, &BTreeMap::new());
        removed.unwrap_or_else(|refusal| panic!("{refusal}\n{}", self.log()));
    }

    /// The owner presses Run.
    pub fn start(&self) {
        let started = self.nas.start(PACKAGE);
        started.unwrap_or_else(|refusal| panic!("{refusal}\n{}", self.log()));
    }

    /// The owner presses Stop.
    pub fn stop(&self) {
        let stopped = self.nas.stop(PACKAGE);
        stopped.unwrap_or_else(|refusal| panic!("{refusal}\n{}", self.log()));
    }

    /// What Package Center shows.
    pub fn state(&self) -> State {
        self.nas.status(PACKAGE).expect("it is installed")
    }

    /// Everything the package's scripts and supervisor said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.nas.package_log(PACKAGE)).unwrap_or_default()
    }

    /// `holdfast --home HOME …`, ready to run.
    pub fn holdfast(&self, words: &[&str]) -> Command {
        let mut command = Command::new(program("holdfast"));
        command.arg("--home").arg(self.nas.var(PACKAGE)).args(words);
        command
    }

    /// `holdfast --home HOME …`, which must succeed.
    #[track_caller]
    pub fn does(&self, words: &[&str]) -> Finished {
        run(&mut self.holdfast(words)).must_succeed()
    }

    /// This computer's GUID, as the engine says it.
    #[track_caller]
    pub fn guid(&self) -> String {
        let said = self.does(&["guid"]).out;
        let digits: String = said.chars().filter(char::is_ascii_digit).collect();
        assert!(!digits.is_empty(), "no GUID in: {said}");
        digits
    }

    /// The file with a destination's password.
    pub fn password_file(&self, destination: &str) -> PathBuf {
        self.nas.var(PACKAGE).join("secrets").join(destination)
    }

    /// Process ids of engines (not supervisors) of this box.
    pub fn engines(&self) -> Vec<u32> {
        let is_engine = |pid: &u32| {
            let exe = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
            exe.file_name().is_some_and(|name| name == "holdfast")
        };
        self.nas.processes().into_iter().filter(is_engine).collect()
    }
}

impl Drop for OurBox {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the package's log:\n{}", self.log());
        }
        self.nas.cut_power();
    }
}

/// All packs of a repository in a folder, by name, with their sizes in bytes: what was ever sent.
pub fn packs(repository: &Path) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![repository.join("data")];
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            match entry.path() {
                path if path.is_dir() => waiting.push(path),
                _ => drop(found.insert(name, entry.metadata().map_or(0, |meta| meta.len()))),
            }
        }
    }
    found
}

/// Nothing of the owner's files was sent since `before`.
///
/// A snapshot also holds the folders above the source, down from `/`. Those are not the owner's,
/// and in a test's temporary folder they change all the time: a pack of a few such folders passes.
///
/// # Panics
/// When more was sent.
#[track_caller]
pub fn nothing_was_sent_again(repository: &Path, before: &BTreeMap<String, u64>) {
    const FOLDERS_ABOVE_BYTES_MAX: u64 = 4096;
    let now = packs(repository);
    let lost: Vec<_> = before.keys().filter(|name| !now.contains_key(*name)).collect();
    assert!(lost.is_empty(), "packs are gone: {lost:?}");
    let new: Vec<_> = now.iter().filter(|(name, _)| !before.contains_key(*name)).collect();
    let bytes: u64 = new.iter().map(|(_, bytes)| **bytes).sum();
    assert!(bytes <= FOLDERS_ABOVE_BYTES_MAX, "{bytes} bytes were sent again, in {new:?}");
}
