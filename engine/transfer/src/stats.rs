//! How much is in a repository, and what it takes.

use crate::blobs::Fetcher;
use crate::browse::{SnapshotInfo, snapshots};
use crate::index::Index;
use crate::locks::HeldLock;
use crate::{Cancel, Repository, Result, TransferError};
use engine_repository::{BlobKind, Id, NodeKind};
use std::collections::HashSet;

/// What a repository holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Snapshots counted.
    pub snapshots: u64,
    /// Files, folders and all else a restore of each of them would make.
    pub nodes: u64,
    /// Bytes a restore of each of them would take; a file with several names counts once in each.
    pub restore_bytes: u64,
    /// Blobs they need, each once.
    pub blobs: u64,
    /// Bytes of these as they lie in packs.
    pub raw_bytes: u64,
    /// Bytes of these before compression.
    pub uncompressed_bytes: u64,
}

/// Counts some snapshots, or with none named all. Memory grows by some 100 bytes a blob.
pub fn stats(repository: &Repository, named: &[SnapshotInfo], cancel: &Cancel) -> Result<Stats> {
    let _lock = HeldLock::acquire(repository, false)?;
    let all = if named.is_empty() { snapshots(repository)? } else { named.to_vec() };
    let index = Index::load_or_stop(repository, cancel)?;
    let mut fetcher = Fetcher::new(repository, &index);
    let mut stats = Stats { snapshots: all.len() as u64, ..Stats::default() };
    let mut seen: HashSet<(BlobKind, Id)> = HashSet::new();
    let mut count = |stats: &mut Stats, kind, id: &Id| {
        if seen.insert((kind, *id)) {
            let name = if kind == BlobKind::Data { "data blob" } else { "tree" };
            let missing = TransferError::BlobMissing { kind: name, id: *id };
            let blob = index.find(kind, id)?.ok_or(missing)?.packed.blob;
            stats.blobs += 1;
            stats.raw_bytes += u64::from(blob.length);
            stats.uncompressed_bytes += u64::from(blob.plaintext_bytes());
        }
        Ok::<_, TransferError>(())
    };
    for snapshot in &all {
        let mut links = HashSet::new();
        count(&mut stats, BlobKind::Tree, &snapshot.tree)?;
        let mut open = vec![fetcher.tree(&snapshot.tree)?];
        while let Some(nodes) = open.last_mut() {
            if cancel.is_cancelled() {
                return Err(TransferError::Cancelled);
            }
            let Some(node) = nodes.next() else {
                open.pop();
                continue;
            };
            let node = node?;
            stats.nodes += 1;
            let is_new = node.links < 2
                || node.kind != NodeKind::File
                || links.insert((node.inode, node.device_id));
            if is_new {
                stats.restore_bytes += node.size;
            }
            for id in node.content.iter().flatten() {
                count(&mut stats, BlobKind::Data, id)?;
            }
            if let Some(subtree) = node.subtree {
                count(&mut stats, BlobKind::Tree, &subtree)?;
                open.push(fetcher.tree(&subtree)?);
            }
        }
    }
    Ok(stats)
}
