//! Going through the trees of snapshots, depth first, in order of names.
//!
//! A [`TreeWalk`] shows every node to a [`Visitor`], which says where to go in. If it is to visit
//! each tree once, it knows those it has seen in an [`IdSet`], whose memory is bounded.
//!
//! Trees on the way from the root to where the walk is are held only as far as they fit: those
//! nearest to the root are dropped first, being returned to last, and read again then. What is
//! left to grow is a path for each level.

use crate::blobs::TreeNodes;
use crate::id_set::IdSet;
use crate::{Cancel, Repository, Result, TransferError};
use engine_repository::{Id, Node};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Whoever looks at trees.
pub(crate) trait Visitor {
    /// Whether to go into a tree. Of a walk that visits each tree once, each is asked about once.
    fn enters(&mut self, _folder: &Path, _tree: &Id) -> Result<bool> {
        Ok(true)
    }

    /// A node, before what is in it.
    fn node(&mut self, folder: &Path, node: &Node) -> Result<()>;

    /// A tree cannot be read, or not to its end; the walk goes on behind it unless this fails.
    fn unreadable(&mut self, _folder: &Path, error: TransferError) -> Result<()> {
        Err(error)
    }
}

/// Where the nodes of a tree come from.
pub(crate) type TreeSource<'a> = dyn FnMut(&Id) -> Result<TreeNodes> + 'a;

/// A walk through any number of trees.
pub(crate) struct TreeWalk<'a> {
    source: Box<TreeSource<'a>>,
    cancel: &'a Cancel,
    seen: Option<IdSet>,
    held_bytes_max: usize,
}

/// A tree on the way to where the walk is.
struct Level {
    folder: PathBuf,
    tree: Id,
    /// `None` when it was dropped to make room.
    nodes: Option<TreeNodes>,
    nodes_read: usize,
}

impl<'a> TreeWalk<'a> {
    /// A walk that goes into a tree as often as it meets it.
    pub(crate) fn new(
        repository: &Repository,
        cancel: &'a Cancel,
        source: impl FnMut(&Id) -> Result<TreeNodes> + 'a,
    ) -> Self {
        let held = repository.plan().pipeline_bytes / 4;
        let held_bytes_max = usize::try_from(held).unwrap_or(usize::MAX);
        Self { source: Box::new(source), cancel, seen: None, held_bytes_max }
    }

    /// The same, visiting each tree once.
    pub(crate) fn each_once(mut self, repository: &Repository) -> Self {
        self.seen = Some(IdSet::new(repository.cache(), self.held_bytes_max));
        self
    }

    /// Goes through a tree and all below it.
    pub(crate) fn walk(&mut self, root: &Id, visitor: &mut dyn Visitor) -> Result<()> {
        self.walk_from(Path::new("/"), root, visitor)
    }

    /// Goes through the tree of a folder and all below it.
    pub(crate) fn walk_from(
        &mut self,
        folder: &Path,
        root: &Id,
        visitor: &mut dyn Visitor,
    ) -> Result<()> {
        let mut open = Vec::new();
        open.extend(self.level(folder.to_owned(), root, visitor)?);
        loop {
            if self.cancel.is_cancelled() {
                return Err(TransferError::Cancelled);
            }
            let Some(level) = open.last_mut() else { return Ok(()) };
            let node = match self.next(level) {
                Ok(Some(node)) => node,
                Ok(None) => {
                    open.pop();
                    continue;
                }
                Err(error) => {
                    unreadable(visitor, &level.folder, error)?;
                    open.pop();
                    continue;
                }
            };
            visitor.node(&level.folder, &node)?;
            if let Some(subtree) = node.subtree {
                let folder = level.folder.join(OsStr::from_bytes(&node.name));
                if let Some(below) = self.level(folder, &subtree, visitor)? {
                    open.push(below);
                    self.make_room(&mut open);
                }
            }
        }
    }

    fn level(
        &mut self,
        folder: PathBuf,
        tree: &Id,
        visitor: &mut dyn Visitor,
    ) -> Result<Option<Level>> {
        if let Some(seen) = &mut self.seen
            && !seen.insert(tree)?
        {
            return Ok(None);
        }
        if !visitor.enters(&folder, tree)? {
            return Ok(None);
        }
        match (self.source)(tree) {
            Ok(nodes) => Ok(Some(Level { folder, tree: *tree, nodes: Some(nodes), nodes_read: 0 })),
            Err(error) => {
                unreadable(visitor, &folder, error)?;
                Ok(None)
            }
        }
    }

    fn next(&mut self, level: &mut Level) -> Result<Option<Node>> {
        let nodes = match &mut level.nodes {
            Some(nodes) => nodes,
            dropped => {
                let mut nodes = (self.source)(&level.tree)?;
                for _ in 0..level.nodes_read {
                    nodes.next().transpose()?;
                }
                dropped.insert(nodes)
            }
        };
        level.nodes_read += 1;
        nodes.next().transpose()
    }

    /// Drops trees, those nearest to the root first, but never the one the walk is in.
    fn make_room(&self, open: &mut [Level]) {
        let bytes = |level: &Level| level.nodes.as_ref().map_or(0, TreeNodes::held_bytes);
        let mut held: usize = open.iter().map(bytes).sum();
        let above = open.len().saturating_sub(1);
        for level in &mut open[..above] {
            if held <= self.held_bytes_max {
                return;
            }
            held -= bytes(level);
            level.nodes = None;
        }
    }
}

/// A destination that is gone is no tree that cannot be read.
fn unreadable(visitor: &mut dyn Visitor, folder: &Path, error: TransferError) -> Result<()> {
    match error {
        TransferError::Storage(cause) if cause.is_of_destination() => Err(cause.into()),
        error @ (TransferError::Cancelled | TransferError::Cache { .. }) => Err(error),
        error => visitor.unreadable(folder, error),
    }
}
