//! Breaking single files of a repository, as disks, cables, power cuts and people do.
//!
//! Which file is broken follows from sizes and contents, never from chance.

use engine_repository::FileKind;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Where in a file a bit is flipped.
#[derive(Debug, Clone, Copy)]
pub enum At {
    /// In its first bytes.
    Start,
    /// In its middle.
    Middle,
    /// Shortly before its end: the header of a pack.
    End,
}

/// All files of a kind, the smallest first (of several alike the first by name). Packs of trees
/// are smaller than packs of files in the repositories this is for.
///
/// # Panics
/// When the repository cannot be read.
pub fn files(repository: &Path, kind: FileKind) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![repository.join(kind.folder())];
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).expect("a readable folder");
            waiting.extend(entries.map(|entry| entry.expect("readable").path()));
        } else {
            found.push(path);
        }
    }
    found.sort_by_key(|path| (path.metadata().map_or(0, |meta| meta.len()), path.clone()));
    found
}

/// Flips one bit.
///
/// # Panics
/// When the file cannot be changed.
pub fn flip(file: &Path, at: At) {
    let handle = writable(file);
    let bytes = handle.metadata().expect("a size").len();
    let offset = match at {
        At::Start => bytes.min(40) / 2,
        At::Middle => bytes / 2,
        At::End => bytes.saturating_sub(20),
    };
    let mut byte = [0];
    handle.read_exact_at(&mut byte, offset).expect("readable");
    handle.write_all_at(&[byte[0] ^ 0x10], offset).expect("writable");
}

/// Cuts a file off after so many thousandths.
///
/// # Panics
/// When the file cannot be changed.
pub fn cut(file: &Path, thousandths: u64) {
    let handle = writable(file);
    let bytes = handle.metadata().expect("a size").len();
    handle.set_len(bytes * thousandths / 1000).expect("writable");
}

/// Adds bytes behind a file's end.
///
/// # Panics
/// When the file cannot be changed.
pub fn lengthen(file: &Path) {
    let handle = writable(file);
    let bytes = handle.metadata().expect("a size").len();
    handle.write_all_at(&[0; 512], bytes).expect("writable");
}

/// Removes a file.
///
/// # Panics
/// When it is not there.
pub fn remove(file: &Path) {
    fs::remove_file(file).unwrap_or_else(|why| panic!("{}: {why}", file.display()));
}

/// Gives one file's content to another, as a confused file system does.
///
/// # Panics
/// When the files cannot be changed.
pub fn replace(file: &Path, by: &Path) {
    let content = fs::read(by).expect("readable");
    drop(writable(file));
    fs::write(file, content).expect("writable");
}

/// Stored files are read-only; damage does not care.
fn writable(file: &Path) -> fs::File {
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("it is there");
    OpenOptions::new().read(true).write(true).open(file).expect("writable")
}
