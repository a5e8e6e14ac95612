//! Reading blobs and trees out of packs.

use crate::errors::Cause;
use crate::index::{Index, Location};
use crate::repository::damaged;
use crate::{Repository, Result, TransferError};
use engine_repository::tree::TreeError;
use engine_repository::{BlobKind, BlobOpener, FileKind, Id, Node, TreeReader};
use engine_storage::Name;
use std::io::Cursor;
use std::sync::mpsc::{Receiver, sync_channel};

/// No blob is held whole that is larger: 512 MiB. restic's chunks have 8 MiB at most; a tree of a
/// folder with a million files has some 300.
pub(crate) const BLOB_BYTES_MAX: usize = 512 << 20;

/// A tree of more JSON than this is read node by node as it is decompressed.
const TREE_HELD_BYTES_MAX: u32 = 4 << 20;

/// How many nodes of such a tree are read ahead.
const NODES_AHEAD: usize = 256;

/// What such a tree takes beside its sealed bytes: nodes read ahead, and the decompressor's window.
const LARGE_TREE_BYTES: usize = 1 << 20;

/// Reads blobs, with buffers of its own: one for each thread.
pub(crate) struct Fetcher<'a> {
    repository: &'a Repository,
    index: &'a Index,
    opener: BlobOpener,
    sealed: Vec<u8>,
}

impl<'a> Fetcher<'a> {
    pub(crate) fn new(repository: &'a Repository, index: &'a Index) -> Self {
        let opener = BlobOpener::new(repository.key().clone(), BLOB_BYTES_MAX);
        Self { repository, index, opener, sealed: Vec::new() }
    }

    /// The plaintext of a blob, verified.
    pub(crate) fn fetch(&mut self, kind: BlobKind, id: &Id) -> Result<&[u8]> {
        let location = find(self.index, kind, id)?;
        read_sealed(self.repository, &location, &mut self.sealed)?;
        self.opener
            .open(&location.packed.blob, &mut self.sealed)
            .map_err(|cause| damaged(Name::of(FileKind::Pack, location.pack), Cause::from(cause)))
    }

    /// The nodes of a tree, one by one.
    pub(crate) fn tree(&mut self, id: &Id) -> Result<TreeNodes> {
        let location = find(self.index, BlobKind::Tree, id)?;
        self.tree_at(&location)
    }

    /// The nodes of the tree that lies there, one by one.
    pub(crate) fn tree_at(&mut self, location: &Location) -> Result<TreeNodes> {
        let blob = &location.packed.blob;
        if blob.plaintext_bytes() > TREE_HELD_BYTES_MAX {
            return large_tree(self.repository, *location);
        }
        read_sealed(self.repository, location, &mut self.sealed)?;
        let json = self
            .opener
            .open(blob, &mut self.sealed)
            .map_err(|cause| damaged(Name::of(FileKind::Pack, location.pack), Cause::from(cause)))?
            .to_vec();
        let held_bytes = json.len();
        let source = Source::Held(TreeReader::new(Cursor::new(json)));
        Ok(TreeNodes { pack: location.pack, source, held_bytes })
    }
}

/// Where a blob lies; an error when it is in no pack.
pub(crate) fn find(index: &Index, kind: BlobKind, id: &Id) -> Result<Location> {
    index.find(kind, id)?.ok_or_else(|| TransferError::BlobMissing {
        kind: match kind {
            BlobKind::Data => "data blob",
            BlobKind::Tree => "tree",
        },
        id: *id,
    })
}

fn read_sealed(repository: &Repository, location: &Location, out: &mut Vec<u8>) -> Result<()> {
    let name = Name::of(FileKind::Pack, location.pack);
    let length = location.packed.blob.length as usize;
    if length > BLOB_BYTES_MAX {
        let reason =
            format!("the index says that blob {} has {length} bytes", location.packed.blob.id);
        return Err(damaged(name, reason));
    }
    out.resize(length, 0);
    repository.storage().read_range(name, u64::from(location.packed.offset), out)?;
    Ok(())
}

/// A thread of its own decompresses a large tree, because what it holds refers to what it reads.
/// It ends when the nodes are no longer wanted.
fn large_tree(repository: &Repository, location: Location) -> Result<TreeNodes> {
    let mut sealed = Vec::new();
    read_sealed(repository, &location, &mut sealed)?;
    let held_bytes = sealed.len() + LARGE_TREE_BYTES;
    let mut opener = BlobOpener::new(repository.key().clone(), BLOB_BYTES_MAX);
    let (sender, nodes) = sync_channel(NODES_AHEAD);
    std::thread::spawn(move || {
        let opened = opener.open_stream(&location.packed.blob, &mut sealed);
        let reader = match opened {
            Ok(reader) => reader,
            Err(cause) => return drop(sender.send(Err(Cause::from(cause)))),
        };
        for node in TreeReader::new(reader) {
            if sender.send(node.map_err(Cause::from)).is_err() {
                return;
            }
        }
    });
    Ok(TreeNodes { pack: location.pack, source: Source::Streamed(nodes), held_bytes })
}

/// The nodes of a tree. An error among them means that those before it are not to be believed
/// either.
pub(crate) struct TreeNodes {
    pack: Id,
    source: Source,
    held_bytes: usize,
}

impl TreeNodes {
    /// About how much memory it takes.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes
    }
}

enum Source {
    Held(TreeReader<Cursor<Vec<u8>>>),
    Streamed(Receiver<std::result::Result<Node, Cause>>),
}

impl Iterator for TreeNodes {
    type Item = Result<Node>;

    fn next(&mut self) -> Option<Result<Node>> {
        let node = match &mut self.source {
            Source::Held(reader) => reader.next()?.map_err(|cause: TreeError| Cause::from(cause)),
            Source::Streamed(nodes) => nodes.recv().ok()?,
        };
        let name = Name::of(FileKind::Pack, self.pack);
        Some(node.map_err(|cause| damaged(name, cause)))
    }
}
