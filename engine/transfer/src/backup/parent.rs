//! The snapshot before, read beside the walk: both are sorted by name.

use super::shared::Shared;
use crate::Result;
use crate::blobs::{Fetcher, TreeNodes};
use engine_repository::{Id, Node};
use std::cmp::Ordering;

/// Reads trees of the snapshot before. Nothing is made ready for that until the first is asked for.
pub(super) struct Parents<'a> {
    shared: &'a Shared<'a>,
    fetcher: Option<Fetcher<'a>>,
}

impl<'a> Parents<'a> {
    pub(super) fn new(shared: &'a Shared<'a>) -> Self {
        Self { shared, fetcher: None }
    }

    /// The nodes of a tree; `None` when there is no index to find it by, and the backup is ending.
    pub(super) fn tree(&mut self, tree: &Id) -> Option<Result<TreeNodes>> {
        if self.fetcher.is_none() {
            let index = self.shared.index()?;
            self.fetcher = Some(Fetcher::new(self.shared.repository, index));
        }
        self.fetcher.as_mut().map(|fetcher| fetcher.tree(tree))
    }
}

/// One folder of the snapshot before. It is read when it is asked for the first time.
#[derive(Default)]
pub(super) struct ParentFolder {
    tree: Option<Id>,
    nodes: Option<TreeNodes>,
    /// Read already, but behind what was asked for.
    ahead: Option<Node>,
}

impl ParentFolder {
    /// The folder of that tree. One that cannot be read counts as empty: then everything in it is
    /// read from the source, which is always right.
    pub(super) fn of(tree: Option<Id>) -> Self {
        Self { tree, ..Self::default() }
    }

    /// The node of that name. Names must be asked for in order.
    pub(super) fn find(&mut self, name: &[u8], parents: &mut Parents<'_>) -> Option<Node> {
        if let Some(tree) = self.tree.take() {
            self.nodes = parents.tree(&tree)?.ok();
        }
        loop {
            let node = match self.ahead.take() {
                Some(node) => node,
                None => match self.nodes.as_mut()?.next() {
                    Some(Ok(node)) => node,
                    // Damaged or at its end: nothing more is known of this folder.
                    _ => {
                        self.nodes = None;
                        return None;
                    }
                },
            };
            match node.name.as_slice().cmp(name) {
                Ordering::Less => {}
                Ordering::Equal => return Some(node),
                Ordering::Greater => {
                    self.ahead = Some(node);
                    return None;
                }
            }
        }
    }
}
