//! A tree being written: in memory while it is small, in a spool when it is not.
//!
//! A tree of a folder with a million files is some 350 MB of JSON. Beyond what the repository
//! holds of a tree it goes into a [`Spool`], hashed as it goes; smaller ones, nearly all, never see
//! a file.

use crate::repository::unwritable;
use crate::spool::Spool;
use crate::{Repository, Result};
use engine_repository::tree::TreeError;
use engine_repository::{Hasher, Id, Node, TreeWriter};

/// What of a spooled tree is written at once: 256 KiB.
const PIECE_BYTES: usize = 256 << 10;

/// A tree that is not ended.
pub(crate) struct TreeBuffer {
    writer: TreeWriter,
    /// All of it, or of a spooled one what is not written yet.
    held: Vec<u8>,
    spooled: Option<Spooled>,
}

struct Spooled {
    spool: Spool,
    hasher: Hasher,
}

/// A tree that is ended, with its id.
pub(crate) enum WrittenTree {
    Held(Id, Vec<u8>),
    Spooled(Id, Spool),
}

/// A tree as if it were ended.
pub(crate) enum ShownTree<'a> {
    Held(Id, &'a [u8]),
    Spooled(Id, &'a Spool),
}

impl TreeBuffer {
    /// An empty tree, written into an empty buffer.
    pub(crate) fn new(mut buffer: Vec<u8>) -> Self {
        let writer = TreeWriter::new(&mut buffer);
        Self { writer, held: buffer, spooled: None }
    }

    /// Appends a node. [`TreeBuffer::make_room`] is to be called now and then.
    pub(crate) fn push(&mut self, node: &Node) -> std::result::Result<(), TreeError> {
        self.writer.push(node, &mut self.held)
    }

    /// Bytes in memory.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held.len()
    }

    /// Holds no more than the repository says is held of a tree.
    pub(crate) fn make_room(&mut self, repository: &Repository) -> Result<()> {
        let held_max = match self.spooled {
            None => repository.tree_held_bytes_max(),
            Some(_) => repository.tree_held_bytes_max().min(PIECE_BYTES),
        };
        if self.held.len() > held_max { self.spill(repository) } else { Ok(()) }
    }

    /// Holds next to nothing from now on.
    pub(crate) fn spill(&mut self, repository: &Repository) -> Result<()> {
        let spooled = match &mut self.spooled {
            Some(spooled) => spooled,
            empty => {
                let spool = Spool::new(repository.cache())?;
                empty.insert(Spooled { spool, hasher: Hasher::new() })
            }
        };
        spooled.add(&self.held)?;
        self.held.clear();
        self.held.shrink_to(PIECE_BYTES);
        Ok(())
    }

    /// Ends the tree.
    pub(crate) fn finish(self) -> Result<WrittenTree> {
        let Self { writer, mut held, spooled } = self;
        writer.finish(&mut held);
        match spooled {
            None => Ok(WrittenTree::Held(Id::of(&held), held)),
            Some(mut spooled) => {
                spooled.add(&held)?;
                Ok(WrittenTree::Spooled(spooled.hasher.finish(), spooled.spool))
            }
        }
    }

    /// Shows the tree as if it ended here, behind `last`. It is ended where it is and opened again:
    /// a copy of a large one has no room.
    pub(crate) fn show<T>(
        &mut self,
        last: Option<&Node>,
        look: impl FnOnce(ShownTree<'_>) -> Result<T>,
    ) -> Result<T> {
        let (mut writer, held_bytes) = (self.writer.clone(), self.held.len());
        if let Some(node) = last {
            let pushed = writer.push(node, &mut self.held);
            pushed.map_err(|cause| unwritable("a folder", cause))?;
        }
        writer.finish(&mut self.held);
        let looked = match &mut self.spooled {
            None => look(ShownTree::Held(Id::of(&self.held), &self.held)),
            Some(Spooled { spool, hasher }) => {
                let (mut hasher, bytes) = (hasher.clone(), spool.bytes());
                hasher.update(&self.held);
                spool.append(&self.held)?;
                let looked = look(ShownTree::Spooled(hasher.finish(), spool));
                spool.truncate(bytes)?;
                looked
            }
        };
        self.held.truncate(held_bytes);
        looked
    }
}

impl Spooled {
    fn add(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.spool.append(bytes)
    }
}

/// Of trees that are open at the same time the largest go to the disk, until all together hold no
/// more than one may alone. To be called before another one is opened.
pub(crate) fn make_room_in<T>(
    repository: &Repository,
    open: &mut [T],
    tree: impl Fn(&mut T) -> &mut TreeBuffer,
) -> Result<()> {
    let mut held: usize = open.iter_mut().map(|open| tree(open).held_bytes()).sum();
    while held > repository.tree_held_bytes_max() {
        let largest = open.iter_mut().map(&tree).max_by_key(|tree| tree.held_bytes());
        let Some(largest) = largest else { break };
        held -= largest.held_bytes();
        largest.spill(repository)?;
    }
    Ok(())
}
