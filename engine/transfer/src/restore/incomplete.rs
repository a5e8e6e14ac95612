//! Names of files that are not whole yet, and what an earlier restore left under such names.
//!
//! `photo.jpg` is written as `photo.jpg.incomplete-` and 24 digits: eight of the snapshot's id, and
//! sixteen of a sum of repository, snapshot and name. So the next restore of the same snapshot
//! finds what a killed one left; no file of that snapshot can have the name, because nobody knows a
//! snapshot's id before it is made; and what another program called so is not taken for ours.

use crate::posix::{Folder, c_name};
use engine_repository::Id;
use std::ffi::CString;
use std::fmt::Write;
use std::io;

/// What is added to the name of a file that lacks something.
const SUFFIX: &str = ".incomplete";
/// So much of a file's own name is kept in it. Encrypted folders of a NAS allow 143 bytes together.
const NAME_KEPT_BYTES_MAX: usize = 100;
/// Longer, and a file that lacks something keeps the name it was written under.
const NAME_BYTES_MAX: usize = 143;
/// Digits of the snapshot's id.
const SNAPSHOT_DIGITS: usize = 8;
/// Digits of the sum.
const SUM_DIGITS: usize = 16;
/// In a folder are never more of them than this: some for each restore that was killed.
const LEFTOVERS_MAX: usize = 1024;

/// The names of one restore.
#[derive(Debug)]
pub(super) struct Incomplete {
    repository: Id,
    snapshot: String,
}

/// What an earlier restore left in a folder.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    /// Of the same snapshot: names as [`Incomplete::name_of`] makes them.
    pub(super) ours: Vec<CString>,
    /// Of other snapshots, and the names their files were to get.
    pub(super) others: Vec<(CString, Vec<u8>)>,
}

impl Incomplete {
    pub(super) fn new(repository: Id, snapshot: Id) -> Self {
        let snapshot = snapshot.to_string()[..SNAPSHOT_DIGITS].to_owned();
        Self { repository, snapshot }
    }

    /// The name of a file while it is written.
    pub(super) fn name_of(&self, name: &[u8]) -> Option<CString> {
        c_name(&self.made(&self.snapshot, name))
    }

    fn made(&self, snapshot: &str, name: &[u8]) -> Vec<u8> {
        let sum = Id::of(&[self.repository.as_bytes(), snapshot.as_bytes(), name].concat());
        let mut suffix = format!("{SUFFIX}-{snapshot}");
        for byte in &sum.as_bytes()[..SUM_DIGITS / 2] {
            let _ = write!(suffix, "{byte:02x}");
        }
        [&name[..name.len().min(NAME_KEPT_BYTES_MAX)], suffix.as_bytes()].concat()
    }

    /// Whether a name is one of this restore's, of whatever file.
    pub(super) fn is_like_ours(&self, name: &[u8]) -> bool {
        parts(name).is_some_and(|(_, snapshot)| snapshot == self.snapshot)
    }

    /// What was left in a folder, and whether there is anything in it at all.
    pub(super) fn left_in(&self, folder: &Folder) -> io::Result<(Leftovers, bool)> {
        let (mut left, mut is_empty) = (Leftovers::default(), true);
        folder.each_name(&mut |name| {
            is_empty = false;
            let Some((kept, snapshot)) = parts(name.to_bytes()) else { return Ok(()) };
            if snapshot == self.snapshot && left.ours.len() < LEFTOVERS_MAX {
                left.ours.push(name.to_owned());
            } else if self.made(snapshot, kept) == name.to_bytes()
                && left.others.len() < LEFTOVERS_MAX
            {
                left.others.push((name.to_owned(), kept.to_vec()));
            }
            Ok(())
        })?;
        Ok((left, is_empty))
    }
}

/// A name without what was added, and the digits of the snapshot.
fn parts(name: &[u8]) -> Option<(&[u8], &str)> {
    let at = name.len().checked_sub(SUFFIX.len() + 1 + SNAPSHOT_DIGITS + SUM_DIGITS)?;
    let (kept, added) = name.split_at(at);
    let digits = added.strip_prefix(SUFFIX.as_bytes())?.strip_prefix(b"-")?;
    let is_hex = digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    let snapshot = std::str::from_utf8(&digits[..SNAPSHOT_DIGITS]).ok()?;
    is_hex.then_some((kept, snapshot))
}

/// The name of a file of which the repository has not everything: one that nobody takes for that of
/// the whole file. `None` when its own name is too long for that.
pub(super) fn name_of_torso(name: &[u8]) -> Option<CString> {
    let fits = name.len() + SUFFIX.len() <= NAME_BYTES_MAX;
    fits.then(|| [name, SUFFIX.as_bytes()].concat()).and_then(|name| c_name(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_again_and_those_of_others_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let (repository, snapshot) = (Id::of(b"repository"), Id::of(b"snapshot"));
        let now = Incomplete::new(repository, snapshot);
        let before = Incomplete::new(repository, Id::of(b"another snapshot"));
        let elsewhere = Incomplete::new(Id::of(b"elsewhere"), Id::of(b"another snapshot"));
        let long = vec![b'x'; 255];
        let name = now.name_of(&long).unwrap();
        assert!(name.to_bytes().len() <= NAME_BYTES_MAX);
        assert_ne!(name, now.name_of(&long[1..]).unwrap());
        let (ours, others) = (now.name_of(b"a").unwrap(), before.name_of(b"a").unwrap());
        assert_eq!(ours, now.name_of(b"a").unwrap(), "the next restore finds it");
        let foreign = elsewhere.name_of(b"a").unwrap();
        for name in [&ours, &others, &foreign, &c"a.incomplete".to_owned()] {
            std::fs::write(folder.path().join(name.to_str().unwrap()), "x").unwrap();
        }
        let (left, is_empty) = now.left_in(&Folder::at(folder.path()).unwrap()).unwrap();
        assert!(!is_empty);
        assert_eq!(left.ours, [ours]);
        assert_eq!(left.others, [(others, b"a".to_vec())]);
    }

    #[test]
    fn a_torso_is_called_so_where_there_is_room_for_it() {
        assert_eq!(name_of_torso(b"a").unwrap().to_bytes(), b"a.incomplete");
        assert_eq!(name_of_torso(&[b'a'; 140]), None);
    }
}
