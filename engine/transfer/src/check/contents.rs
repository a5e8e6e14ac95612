//! What index, listing and trees say about each other.

use super::{Checker, INDEX_LOST, LOST, PACK_LOST, UNTIDY};
use crate::blobs::{Fetcher, TreeNodes};
use crate::browse::path_text;
use crate::errors::sentence;
use crate::index::{Index, IndexBuilder};
use crate::{Result, TransferError};
use engine_repository::crypto::OVERHEAD_BYTES;
use engine_repository::{BlobKind, FileKind, Id, Node, NodeKind, PackedBlob, Snapshot};
use engine_storage::{StorageError, list_all};
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

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
    let mut visitor = Visitor {
        checker,
        index,
        fetcher: Fetcher::new(checker.repository, index),
        seen: HashSet::new(),
    };
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
        visitor.visit(*id, snapshot.tree)?;
    }
    Ok(())
}

struct Visitor<'a> {
    checker: &'a Checker<'a>,
    index: &'a Index,
    fetcher: Fetcher<'a>,
    seen: HashSet<Id>,
}

impl Visitor<'_> {
    fn visit(&mut self, snapshot: Id, root: Id) -> Result<()> {
        let mut open: Vec<(PathBuf, TreeNodes)> = Vec::new();
        open.extend(self.tree(snapshot, Path::new("/"), root)?);
        while let Some((path, nodes)) = open.last_mut() {
            if self.checker.cancel.is_cancelled() {
                return Err(TransferError::Cancelled);
            }
            match nodes.next() {
                None => {
                    open.pop();
                }
                Some(Err(error)) => {
                    self.lost(snapshot, path, &sentence(&error));
                    open.pop();
                }
                Some(Ok(node)) => {
                    let at = path.join(OsStr::from_bytes(&node.name));
                    self.node(snapshot, &at, &node);
                    if let Some(subtree) = node.subtree {
                        open.extend(self.tree(snapshot, &at, subtree)?);
                    }
                }
            }
        }
        Ok(())
    }

    /// The nodes of a tree, unless it was visited already.
    fn tree(&mut self, snapshot: Id, path: &Path, id: Id) -> Result<Option<(PathBuf, TreeNodes)>> {
        if !self.seen.insert(id) {
            return Ok(None);
        }
        match self.fetcher.tree(&id) {
            Ok(nodes) => Ok(Some((path.into(), nodes))),
            Err(TransferError::Storage(error)) if error.is_of_destination() => Err(error.into()),
            Err(error) => {
                self.lost(snapshot, path, &sentence(&error));
                Ok(None)
            }
        }
    }

    fn node(&self, snapshot: Id, path: &Path, node: &Node) {
        match (node.kind, &node.content, &node.subtree) {
            (NodeKind::File, None, _) => self.lost(snapshot, path, "it has no list of content"),
            (NodeKind::File, Some(content), _) => {
                let missing = |id: &&Id| !self.index.has(BlobKind::Data, id);
                if let Some(id) = content.iter().find(missing) {
                    let all = content.iter().filter(missing).count();
                    let why =
                        format!("{all} of its {} blobs are missing ({id} first)", content.len());
                    self.lost(snapshot, path, &why);
                }
            }
            (NodeKind::Directory, _, None) => self.lost(snapshot, path, "it has no content"),
            _ => {}
        }
    }

    fn lost(&self, snapshot: Id, path: &Path, why: &str) {
        let path = path_text(path);
        self.checker.damage(format!("snapshot {}: {path}: {why}", snapshot.short()), LOST);
    }
}
