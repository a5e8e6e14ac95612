//! The snapshot before, read beside the walk: both are sorted by name.

use crate::blobs::{Fetcher, TreeNodes};
use engine_repository::{Id, Node};

/// One folder of the snapshot before.
#[derive(Default)]
pub(super) struct ParentFolder {
    nodes: Option<TreeNodes>,
    /// Read already, but behind what was asked for.
    ahead: Option<Node>,
}

impl ParentFolder {
    /// The folder of that tree. One that cannot be read counts as empty: then everything in it is
    /// read from the source, which is always right.
    pub(super) fn of(tree: Option<Id>, fetcher: &mut Fetcher<'_>) -> Self {
        Self { nodes: tree.and_then(|tree| fetcher.tree(&tree).ok()), ahead: None }
    }

    /// The node of that name. Names must be asked for in order.
    pub(super) fn find(&mut self, name: &[u8]) -> Option<Node> {
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
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => return Some(node),
                std::cmp::Ordering::Greater => {
                    self.ahead = Some(node);
                    return None;
                }
            }
        }
    }
}
