//! What index, listing and trees say about each other.

use super::{Checker, INDEX_LOST, LOST, PACK_LOST, UNTIDY};
use crate::blobs::Fetcher;
use crate::browse::path_text;
use crate::errors::sentence;
use crate::index::{Index, IndexBuilder};
use crate::tree_walk::{TreeWalk, Visitor};
use crate::{Result, TransferError};
use engine_repository::crypto::OVERHEAD_BYTES;
use engine_repository::{BlobKind, FileKind, Id, Node, NodeKind, PackedBlob, Snapshot};
use engine_storage::{StorageError, list_all};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What the index says about a pack.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) blobs: u32,
    /// The pack's size, as its blobs and its header add up.
    pub(crate) bytes: u64,
}

/// The length at the end of a pack, and the seal of its header.
const PACK_END_BYTES: u64 = 4 + OVERHEAD_BYTES as u64;
/// Bytes of a header for each blob: more if it is compressed.
const ENTRY_BYTES: u64 = 37;
const ENTRY_COMPRESSED_BYTES: u64 = 41;

impl Known {
    pub(crate) fn add(&mut self, packed: &PackedBlob) {
        if self.blobs == 0 {
            self.bytes = PACK_END_BYTES;
        }
        self.blobs += 1;
        self.bytes += u64::from(packed.blob.length);
        self.bytes += match packed.blob.uncompressed_length {
            Some(_) => ENTRY_COMPRESSED_BYTES,
            None => ENTRY_BYTES,
        };
    }
}

/// Reads all index files. One that is damaged is a finding.
pub(super) fn load_index(checker: &Checker<'_>) -> Result<(Index, HashMap<Id, Known>)> {
    let mut builder = IndexBuilder::default();
    let mut known: HashMap<Id, Known> = HashMap::new();
    let storage = checker.repository.storage();
    for (id, _) in list_all(storage.as_ref(), FileKind::Index)? {
        // A pack may be in several index files, with the same blobs.
        let mut here: HashMap<Id, Known> = HashMap::new();
        let added = builder.add_file_with(checker.repository, id, &mut |pack, packed| {
            here.entry(pack).or_default().add(packed);
        });
        match added {
            Ok(()) => {}
            Err(error @ TransferError::Damaged { .. }) => {
                checker.damage(sentence(&error), INDEX_LOST);
            }
            Err(error) => return Err(error),
        }
        for (pack, found) in here {
            known.entry(pack).or_insert(found);
        }
    }
    Ok((builder.finish(), known))
}

/// Compares the packs that are there with what the index says. Gives those that are there.
pub(super) fn compare_packs(
    checker: &Checker<'_>,
    known: &HashMap<Id, Known>,
) -> Result<HashMap<Id, u64>> {
    let mut there = HashMap::new();
    let mut unknown = 0_u64;
    checker.repository.storage().list(FileKind::Pack, &mut |id, bytes| {
        there.insert(id, bytes);
        Ok(())
    })?;
    for (id, bytes) in &there {
        match known.get(id) {
            None => unknown += 1,
            Some(known) if known.bytes != *bytes => checker.damage(
                format!("pack {id} has {bytes} bytes, but should have {}", known.bytes),
                PACK_LOST,
            ),
            Some(_) => {}
        }
    }
    if unknown > 0 {
        let fact = format!("{unknown} packs are in no index, as after a backup that was cut off");
        checker.untidy(fact, UNTIDY);
    }
    for id in known.keys().filter(|id| !there.contains_key(id)) {
        checker.damage(format!("pack {id} is missing"), LOST);
    }
    checker.lock().report.packs = there.len() as u64;
    Ok(there)
}

/// Visits every tree of every snapshot once.
pub(super) fn visit_trees(
    checker: &Checker<'_>,
    index: &Index,
    snapshots: &[(Id, u64)],
) -> Result<()> {
    let mut fetcher = Fetcher::new(checker.repository, index);
    let mut walk = TreeWalk::new(checker.repository, checker.cancel, |id| fetcher.tree(id))
        .each_once(checker.repository);
    for (id, _) in snapshots {
        let read = checker.repository.read_unpacked::<Snapshot>(FileKind::Snapshot, *id);
        let snapshot = match read {
            Ok(snapshot) => snapshot,
            Err(TransferError::Storage(StorageError::NotFound { .. })) => continue,
            Err(error @ (TransferError::Damaged { .. } | TransferError::Storage(_))) => {
                checker.damage(sentence(&error), LOST);
                continue;
            }
            Err(error) => return Err(error),
        };
        checker.lock().report.snapshots += 1;
        walk.walk(&snapshot.tree, &mut Looking { checker, index, snapshot: *id })?;
    }
    Ok(())
}

struct Looking<'a> {
    checker: &'a Checker<'a>,
    index: &'a Index,
    snapshot: Id,
}

impl Visitor for Looking<'_> {
    fn node(&mut self, folder: &Path, node: &Node) -> Result<()> {
        let path = || folder.join(OsStr::from_bytes(&node.name));
        match (node.kind, &node.content, &node.subtree) {
            (NodeKind::File, None, _) => self.lost(&path(), "it has no list of content"),
            (NodeKind::File, Some(content), _) => {
                let missing = |id: &&Id| !self.index.has(BlobKind::Data, id);
                if let Some(id) = content.iter().find(missing) {
                    let all = content.iter().filter(missing).count();
                    let why =
                        format!("{all} of its {} blobs are missing ({id} first)", content.len());
                    self.lost(&path(), &why);
                }
            }
            (NodeKind::Directory, _, None) => self.lost(&path(), "it has no content"),
            _ => {}
        }
        Ok(())
    }

    fn unreadable(&mut self, folder: &Path, error: TransferError) -> Result<()> {
        self.lost(folder, &sentence(&error));
        Ok(())
    }
}

impl Looking<'_> {
    fn lost(&self, path: &Path, why: &str) {
        let (snapshot, path) = (self.snapshot.short(), path_text(path));
        self.checker.damage(format!("snapshot {snapshot}: {path}: {why}"), LOST);
    }
}
