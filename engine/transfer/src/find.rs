//! Where in the snapshots something is.

use crate::backup::select::Patterns;
use crate::blobs::Fetcher;
use crate::browse::{ListedNode, SnapshotInfo, listed, snapshots};
use crate::index::Index;
use crate::locks::HeldLock;
use crate::tree_walk::{TreeWalk, Visitor};
use crate::{Cancel, Repository, Result};
use engine_repository::Node;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

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
    let mut found = 0;
    for snapshot in &all {
        let looking = &mut Looking { patterns: &patterns, snapshot, each, found: &mut found };
        walk.walk(&snapshot.tree, looking)?;
    }
    Ok(found)
}

struct Looking<'a> {
    patterns: &'a Patterns,
    snapshot: &'a SnapshotInfo,
    each: &'a mut dyn FnMut(&SnapshotInfo, ListedNode),
    found: &'a mut u64,
}

impl Visitor for Looking<'_> {
    fn node(&mut self, folder: &Path, node: &Node) -> Result<()> {
        let path = folder.join(OsStr::from_bytes(&node.name));
        if self.patterns.fit(&path) {
            *self.found += 1;
            (self.each)(self.snapshot, listed(path, node));
        }
        Ok(())
    }
}
