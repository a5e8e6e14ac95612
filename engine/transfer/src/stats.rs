//! How much is in a repository, and what it takes.

use crate::blobs::Fetcher;
use crate::browse::{SnapshotInfo, snapshots};
use crate::index::Index;
use crate::locks::HeldLock;
use crate::sorter::Sorter;
use crate::tree_walk::{TreeWalk, Visitor};
use crate::{Cancel, Repository, Result, TransferError};
use engine_repository::{BlobKind, Id, Node, NodeKind};
use std::path::Path;

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

/// Counts some snapshots, or with none named all. What is counted once is sorted on disk, so that
/// memory does not grow with it.
pub fn stats(repository: &Repository, named: &[SnapshotInfo], cancel: &Cancel) -> Result<Stats> {
    let _lock = HeldLock::acquire(repository, false)?;
    let all = if named.is_empty() { snapshots(repository)? } else { named.to_vec() };
    let index = Index::load_or_stop(repository, cancel)?;
    let mut fetcher = Fetcher::new(repository, &index);
    let mut walk = TreeWalk::new(repository, cancel, |id| fetcher.tree(id));
    let stats = Stats { snapshots: all.len() as u64, ..Stats::default() };
    let mut counter = Counter { stats, blobs: sorter(repository, 4), links: sorter(repository, 8) };
    for snapshot in &all {
        walk.walk(&snapshot.tree, &mut counter)?;
        counter.count_links(repository)?;
    }
    let Counter { mut stats, blobs, .. } = counter;
    let mut last = None;
    for record in blobs.finish()? {
        let record = record?;
        if last.replace(record) == Some(record) {
            continue;
        }
        let (kind, id) = blob_of(&record);
        let name = if kind == BlobKind::Data { "data blob" } else { "tree" };
        let missing = TransferError::BlobMissing { kind: name, id };
        let blob = index.find(kind, &id)?.ok_or(missing)?.packed.blob;
        stats.blobs += 1;
        stats.raw_bytes += u64::from(blob.length);
        stats.uncompressed_bytes += u64::from(blob.plaintext_bytes());
    }
    Ok(stats)
}

/// One that holds a fraction of what the pipeline may.
fn sorter<const BYTES: usize>(repository: &Repository, divisor: u64) -> Sorter<BYTES> {
    let held = repository.plan().pipeline_bytes / divisor;
    Sorter::new(repository.cache(), usize::try_from(held).unwrap_or(usize::MAX))
}

/// A blob as it is sorted.
const BLOB_BYTES: usize = 1 + Id::BYTES;

fn record_of(kind: BlobKind, id: &Id) -> [u8; BLOB_BYTES] {
    let mut record = [0; BLOB_BYTES];
    record[0] = u8::from(kind == BlobKind::Tree);
    record[1..].copy_from_slice(id.as_bytes());
    record
}

fn blob_of(record: &[u8; BLOB_BYTES]) -> (BlobKind, Id) {
    let mut id = [0; Id::BYTES];
    id.copy_from_slice(&record[1..]);
    let kind = if record[0] == 0 { BlobKind::Data } else { BlobKind::Tree };
    (kind, Id::from_bytes(id))
}

struct Counter {
    stats: Stats,
    blobs: Sorter<BLOB_BYTES>,
    /// Of files with several names in this snapshot: device, inode, size.
    links: Sorter<24>,
}

impl Counter {
    /// Counts the files of a snapshot that have several names, each once.
    fn count_links(&mut self, repository: &Repository) -> Result<()> {
        let links = std::mem::replace(&mut self.links, sorter(repository, 8));
        let mut last = None;
        for record in links.finish()? {
            let record = record?;
            if last.replace(record).is_none_or(|last| last[..16] != record[..16]) {
                let mut size = [0; 8];
                size.copy_from_slice(&record[16..]);
                self.stats.restore_bytes += u64::from_be_bytes(size);
            }
        }
        Ok(())
    }
}

impl Visitor for Counter {
    fn enters(&mut self, _folder: &Path, tree: &Id) -> Result<bool> {
        self.blobs.push(record_of(BlobKind::Tree, tree))?;
        Ok(true)
    }

    fn node(&mut self, _folder: &Path, node: &Node) -> Result<()> {
        self.stats.nodes += 1;
        if node.links < 2 || node.kind != NodeKind::File {
            self.stats.restore_bytes += node.size;
        } else {
            let mut link = [0; 24];
            link[..8].copy_from_slice(&node.device_id.to_be_bytes());
            link[8..16].copy_from_slice(&node.inode.to_be_bytes());
            link[16..].copy_from_slice(&node.size.to_be_bytes());
            self.links.push(link)?;
        }
        for id in node.content.iter().flatten() {
            self.blobs.push(record_of(BlobKind::Data, id))?;
        }
        Ok(())
    }
}
