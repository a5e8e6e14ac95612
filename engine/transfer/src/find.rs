//! Where in the snapshots something is.
//!
//! Snapshots share most of their trees. A folder in which nothing was found is not looked into
//! again in the next snapshot that has the same tree at the same path.

use crate::backup::select::Patterns;
use crate::blobs::Fetcher;
use crate::browse::{ListedNode, SnapshotInfo, listed, snapshots};
use crate::id_set::IdSet;
use crate::index::Index;
use crate::locks::HeldLock;
use crate::tree_walk::{TreeWalk, Visitor};
use crate::{Cancel, Repository, Result};
use engine_repository::{Id, Node};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Calls `each` for whatever fits one of the patterns in the named snapshots, or in all. Patterns
/// are those of a backup's exclusions. Says how much was found.
pub fn find(
    repository: &Repository,
    named: &[SnapshotInfo],
    patterns: &[String],
    each: &mut dyn FnMut(&SnapshotInfo, ListedNode),
    cancel: &Cancel,
) -> Result<u64> {
    let patterns = Patterns::new(patterns)?;
    let _lock = HeldLock::acquire(repository, false)?;
    let all = if named.is_empty() { snapshots(repository)? } else { named.to_vec() };
    let index = Index::load_or_stop(repository, cancel)?;
    let mut fetcher = Fetcher::new(repository, &index);
    let mut walk = TreeWalk::new(repository, cancel, |id| fetcher.tree(id));
    let held = usize::try_from(repository.plan().pipeline_bytes / 4).unwrap_or(usize::MAX);
    let (mut barren, mut found) = (IdSet::new(repository.cache(), held), 0);
    for snapshot in &all {
        let (barren, found, open) = (&mut barren, &mut found, Vec::new());
        let mut looking = Looking { patterns: &patterns, snapshot, each, found, barren, open };
        walk.walk(&snapshot.tree, &mut looking)?;
        looking.leave(None)?;
    }
    Ok(found)
}

struct Looking<'a> {
    patterns: &'a Patterns,
    snapshot: &'a SnapshotInfo,
    each: &'a mut dyn FnMut(&SnapshotInfo, ListedNode),
    found: &'a mut u64,
    /// Sums of folders, each a path and a tree, below which nothing was found.
    barren: &'a mut IdSet,
    /// The folders around the walk.
    open: Vec<OpenFolder>,
}

struct OpenFolder {
    path: PathBuf,
    /// Of its path and its tree.
    sum: Id,
    /// How much was found before it.
    found_before: u64,
}

impl Looking<'_> {
    /// Takes note of the folders the walk has left; it is in `folder` now, or at its end.
    fn leave(&mut self, folder: Option<&Path>) -> Result<()> {
        while let Some(last) = self.open.last() {
            if folder.is_some_and(|folder| folder.starts_with(&last.path)) {
                break;
            }
            if last.found_before == *self.found {
                self.barren.insert(&last.sum)?;
            }
            self.open.pop();
        }
        Ok(())
    }
}

impl Visitor for Looking<'_> {
    fn enters(&mut self, folder: &Path, tree: &Id) -> Result<bool> {
        self.leave(folder.parent())?;
        let sum = Id::of(&[tree.as_bytes().as_slice(), folder.as_os_str().as_bytes()].concat());
        if self.barren.contains(&sum)? {
            return Ok(false);
        }
        self.open.push(OpenFolder { path: folder.to_owned(), sum, found_before: *self.found });
        Ok(true)
    }

    fn node(&mut self, folder: &Path, node: &Node) -> Result<()> {
        let path = folder.join(OsStr::from_bytes(&node.name));
        if self.patterns.fit(&path) {
            *self.found += 1;
            (self.each)(self.snapshot, listed(path, node));
        }
        Ok(())
    }
}
