//! The architecture rules, as tests that run.
//!
//! What may depend on what, which texts are banned where and what to write instead, how long a
//! file may be, what a room's first comment must say. Each rule prints the sentence a reviewer
//! would write. The rules are in `tests/`; this is only how they read the workspace.
//!
//! **Invariant:** the workspace is read as text. No rule needs a build of what it judges, so a
//! broken room is still told about its manners.
//!
//! **Not here:** what the compiler and clippy can say; see `clippy.toml`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Folders that are no part of the sources.
const NOT_SOURCES: [&str; 4] = [".git", "target", "dist", "node_modules"];

/// One package of the workspace.
#[derive(Debug, Clone)]
pub struct Room {
    /// The package's name.
    pub name: String,
    /// Its folder, from the root.
    pub folder: PathBuf,
    /// Packages of this workspace it depends on, for whatever purpose.
    pub arrows: Vec<String>,
}

/// One text file of the checkout.
#[derive(Debug, Clone)]
pub struct Source {
    /// From the root.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}

impl Source {
    /// Whether it lies at or below `folder`.
    pub fn is_in(&self, folder: &str) -> bool {
        self.path.starts_with(folder)
    }

    /// Whether it is Rust.
    pub fn is_rust(&self) -> bool {
        self.path.extension().is_some_and(|extension| extension == "rs")
    }

    /// The lines a program is made of, numbered from 1: without tests, benches and examples,
    /// without the unit tests at a file's end, and without comments.
    pub fn program_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let is_trial =
            |part: &std::ffi::OsStr| ["tests", "benches", "examples"].iter().any(|of| part == *of);
        let is_test = self.path.iter().any(is_trial);
        let lines = self.text.lines().enumerate().take_while(|(_, line)| *line != "#[cfg(test)]");
        lines
            .filter(move |_| !is_test)
            .map(|(number, line)| (number + 1, line.split("//").next().unwrap_or(line)))
    }
}

/// The root of the checkout.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("this room is two folders deep").to_path_buf()
}

/// All rooms, in the order of the root manifest.
pub fn rooms() -> Vec<Room> {
    let manifest = manifest_of(&root());
    let members = manifest["workspace"]["members"].as_array().expect("a list of members");
    let folders: Vec<PathBuf> =
        members.iter().map(|member| PathBuf::from(member.as_str().expect("a folder"))).collect();
    let manifests: Vec<toml::Table> =
        folders.iter().map(|folder| manifest_of(&root().join(folder))).collect();
    let name = |manifest: &toml::Table| {
        manifest["package"]["name"].as_str().expect("a package has a name").to_owned()
    };
    let names: Vec<String> = manifests.iter().map(name).collect();
    let room = |(folder, manifest): (&PathBuf, &toml::Table)| Room {
        name: name(manifest),
        folder: folder.clone(),
        arrows: dependencies(manifest).into_iter().filter(|to| names.contains(to)).collect(),
    };
    folders.iter().zip(&manifests).map(room).collect()
}

fn manifest_of(folder: &Path) -> toml::Table {
    let path = folder.join("Cargo.toml");
    let text = fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    text.parse().unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

/// The names of all dependencies: normal, of tests, of build scripts, of single targets.
fn dependencies(manifest: &toml::Table) -> Vec<String> {
    let mut found = Vec::new();
    for (key, value) in manifest {
        let Some(table) = value.as_table() else { continue };
        if key.ends_with("dependencies") {
            found.extend(table.keys().cloned());
        } else if key == "target" {
            found.extend(table.values().filter_map(toml::Value::as_table).flat_map(dependencies));
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// Every text file of the checkout, sorted by path.
pub fn sources() -> Vec<Source> {
    let root = root();
    let mut found = BTreeMap::new();
    let mut waiting = vec![root.clone()];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder).expect("the checkout can be read").flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type().expect("the checkout can be read");
            if kind.is_dir() && !NOT_SOURCES.contains(&name.as_str()) {
                waiting.push(path);
            } else if kind.is_file()
                // A worktree's `.git` is a file, and says where the checkout lies.
                && name != ".git"
                && let Ok(text) = fs::read_to_string(&path)
            {
                let below = path.strip_prefix(&root).expect("it lies below the root");
                found.insert(below.to_path_buf(), text);
            }
        }
    }
    found.into_iter().map(|(path, text)| Source { path, text }).collect()
}

/// Fails with all sentences at once, so that one run tells everything.
///
/// # Panics
/// When there is a sentence.
#[track_caller]
pub fn expect_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}
