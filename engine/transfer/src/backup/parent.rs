//! The snapshots before, read beside the walk: all are sorted by name.

use crate::blobs::{Fetcher, TreeNodes};
use engine_repository::{Id, Node};
use std::cmp::Ordering;

/// One folder as the snapshots before have it, the one to be believed first first.
#[derive(Default)]
pub(super) struct ParentFolder {
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
    /// The folder of these trees. One that cannot be read counts as empty: then everything in it is
    /// read from the source, which is always right.
    pub(super) fn of(trees: &[Id], fetcher: &mut Fetcher<'_>) -> Self {
        let side = |tree| Side { nodes: fetcher.tree(tree).ok(), ahead: None };
        Self { sides: trees.iter().map(side).collect() }
    }

    /// The nodes of that name. Names must be asked for in order.
    pub(super) fn find(&mut self, name: &[u8]) -> Before {
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
