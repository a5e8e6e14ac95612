//! The snapshots before, read beside the walk: all are sorted by name.

use super::shared::Shared;
use crate::Result;
use crate::blobs::{Fetcher, TreeNodes};
use engine_repository::{Id, Node};
use std::cmp::Ordering;

/// Reads trees of the snapshots before. Nothing is made ready for that until one is asked for.
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

/// One folder as the snapshots before have it, the one to be believed first first.
/// They are read when they are asked for the first time.
#[derive(Default)]
pub(super) struct ParentFolder {
    unread: Vec<Id>,
    sides: Vec<Side>,
}

/// The folder in one snapshot.
struct Side {
    nodes: Option<TreeNodes>,
    /// Read already, but behind what was asked for.
    ahead: Option<Node>,
}

/// What the snapshots before have under one name.
#[derive(Default)]
pub(super) struct Before {
    first: Option<Node>,
    others: Vec<Node>,
}

impl Before {
    /// The nodes, the one to be believed first first.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.first.iter().chain(&self.others)
    }

    /// The trees of a folder of that name.
    pub(super) fn subtrees(&self) -> Vec<Id> {
        let mut trees: Vec<Id> = self.nodes().filter_map(|node| node.subtree).collect();
        // A folder that is the same in all need not be read twice.
        trees.dedup();
        trees
    }
}

impl ParentFolder {
    /// Whether no snapshot before has it.
    pub(super) fn is_empty(&self) -> bool {
        self.unread.is_empty() && self.sides.is_empty()
    }

    /// The folder of these trees. One that cannot be read counts as empty: then everything in it is
    /// read from the source, which is always right.
    pub(super) fn of(trees: Vec<Id>) -> Self {
        Self { unread: trees, sides: Vec::new() }
    }

    /// The nodes of that name. Names must be asked for in order.
    pub(super) fn find(&mut self, name: &[u8], parents: &mut Parents<'_>) -> Before {
        for tree in std::mem::take(&mut self.unread) {
            let nodes = parents.tree(&tree).and_then(Result::ok);
            self.sides.push(Side { nodes, ahead: None });
        }
        let mut found = self.sides.iter_mut().filter_map(|side| side.find(name));
        Before { first: found.next(), others: found.collect() }
    }
}

impl Side {
    fn find(&mut self, name: &[u8]) -> Option<Node> {
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
