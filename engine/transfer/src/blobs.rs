//! Reading blobs and trees out of packs.

use crate::cache::failed;
use crate::errors::Cause;
use crate::index::{Index, Location};
use crate::large;
use crate::repository::damaged;
use crate::spool::Spool;
use crate::{Repository, Result, TransferError};
use engine_repository::blob::BlobError;
use engine_repository::json::JsonError;
use engine_repository::tree::TreeError;
use engine_repository::{BlobKind, BlobOpener, FileKind, Id, Node, TreeReader};
use engine_storage::Name;
use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};

/// No piece of a file is restored or dumped that is larger: 512 MiB. restic's chunks have 8 MiB at
/// most.
pub(crate) const BLOB_BYTES_MAX: usize = 512 << 20;

/// How many nodes of a large tree are read ahead.
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
        if blob.plaintext_bytes() as usize > self.repository.tree_held_bytes_max() {
            return large_tree(self.repository, *location);
        }
        read_sealed(self.repository, location, &mut self.sealed)?;
        let json = self
            .opener
            .open(blob, &mut self.sealed)
            .map_err(|cause| damaged(Name::of(FileKind::Pack, location.pack), Cause::from(cause)))?
            .to_vec();
        let held_bytes = json.len() + size_of::<TreeNodes>();
        let source = Source::Held(TreeReader::held(json));
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

/// The sealed bytes of a large tree.
enum Sealed {
    Held(Vec<u8>),
    Spooled(Spool),
}

/// A thread of its own decompresses a large tree, because what it holds refers to what it reads.
/// It ends when the nodes are no longer wanted.
fn large_tree(repository: &Repository, location: Location) -> Result<TreeNodes> {
    let blob = location.packed.blob;
    let (sealed, held_bytes) = match blob.length as usize > repository.tree_held_bytes_max() {
        true => (Sealed::Spooled(large::fetch(repository, &location)?), 0),
        false => {
            let mut sealed = Vec::new();
            read_sealed(repository, &location, &mut sealed)?;
            let held_bytes = sealed.len();
            (Sealed::Held(sealed), held_bytes)
        }
    };
    let mut opener = BlobOpener::new(repository.key().clone(), 0);
    let (sender, nodes) = sync_channel(NODES_AHEAD);
    let mut give = move |node| sender.send(node).is_ok();
    let reading = move || match sealed {
        Sealed::Held(mut sealed) => {
            give_nodes(opener.open_stream(&blob, &mut sealed), &mut give);
        }
        Sealed::Spooled(spool) => give_nodes(opener.open_from(&blob, spool.reader()), &mut give),
    };
    let thread = std::thread::Builder::new().spawn(reading);
    thread.map_err(|cause| TransferError::Thread { cause })?;
    let held_bytes = held_bytes + LARGE_TREE_BYTES;
    Ok(TreeNodes { pack: location.pack, source: Source::Streamed(nodes), held_bytes })
}

/// Why a node of a large tree did not come.
type NodeResult = std::result::Result<Node, TreeCause>;

enum TreeCause {
    /// The tree.
    Damaged(Cause),
    /// The file that holds it on this computer.
    Unread(std::io::Error),
}

fn give_nodes(
    opened: std::result::Result<impl Read, BlobError>,
    give: &mut dyn FnMut(NodeResult) -> bool,
) {
    let reader = match opened {
        Ok(reader) => reader,
        Err(BlobError::Read { cause, .. }) => {
            give(Err(TreeCause::Unread(cause)));
            return;
        }
        Err(cause) => {
            give(Err(TreeCause::Damaged(cause.into())));
            return;
        }
    };
    for node in TreeReader::new(reader) {
        let node = node.map_err(|cause| match cause {
            // Only the system numbers its errors.
            TreeError::Json(JsonError::Read(cause)) if cause.raw_os_error().is_some() => {
                TreeCause::Unread(cause)
            }
            cause => TreeCause::Damaged(cause.into()),
        });
        if !give(node) {
            return;
        }
    }
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
    Held(TreeReader<io::Empty>),
    Streamed(Receiver<NodeResult>),
}

impl Iterator for TreeNodes {
    type Item = Result<Node>;

    fn next(&mut self) -> Option<Result<Node>> {
        let node = match &mut self.source {
            Source::Held(reader) => {
                reader.next()?.map_err(|cause| TreeCause::Damaged(cause.into()))
            }
            Source::Streamed(nodes) => nodes.recv().ok()?,
        };
        Some(node.map_err(|cause| match cause {
            TreeCause::Damaged(cause) => damaged(Name::of(FileKind::Pack, self.pack), cause),
            TreeCause::Unread(cause) => {
                failed("read a temporary file", Path::new("of a tree"), cause)
            }
        }))
    }
}
