//! Where in the snapshots something is.

use crate::backup::select::Patterns;
use crate::blobs::Fetcher;
use crate::browse::{ListedNode, SnapshotInfo, listed, snapshots};
use crate::index::Index;
use crate::locks::HeldLock;
use crate::{Cancel, Repository, Result, TransferError};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

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
    let mut found = 0;
    for snapshot in &all {
        let mut open = vec![(PathBuf::from("/"), fetcher.tree(&snapshot.tree)?)];
        while let Some((folder, nodes)) = open.last_mut() {
            if cancel.is_cancelled() {
                return Err(TransferError::Cancelled);
            }
            let Some(node) = nodes.next() else {
                open.pop();
                continue;
            };
            let node = node?;
            let path = folder.join(OsStr::from_bytes(&node.name));
            if patterns.fit(&path) {
                found += 1;
                each(snapshot, listed(path.clone(), &node));
            }
            if let Some(subtree) = node.subtree {
                open.push((path, fetcher.tree(&subtree)?));
            }
        }
    }
    Ok(found)
}
