//! Trees, written anew without what is missing.
//!
//! As restic does it: a file loses the pieces that are in no pack and keeps the others, with the
//! size they add up to; a folder that cannot be read becomes an empty one; a node of no known kind
//! goes. A tree in which nothing changes keeps its id, and one another program wrote otherwise than
//! restic would is written as restic would.
//!
//! In memory are the trees from the root to the one at hand, as far as they are written (a large
//! one, or what is too much of all together, is in a temporary file), and an id for each tree that
//! changes. Those that were seen are in an [`IdSet`], which is bounded. Only a tree that another
//! program wrote unsorted is held whole while it is sorted.

use crate::blobs::Fetcher;
use crate::browse::path_text;
use crate::id_set::IdSet;
use crate::index::Index;
use crate::repository::unwritable;
use crate::store::{Store, is_of_file};
use crate::tree_buffer::{TreeBuffer, WrittenTree, make_room_in};
use crate::{Cancel, Event, Repository, Result, TransferError};
use engine_repository::tree::TreeError;
use engine_repository::{BlobKind, Id, Node, NodeKind};
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Writes trees anew.
pub(super) struct Rewriter<'a> {
    pub(super) repository: &'a Repository,
    pub(super) index: &'a Index,
    pub(super) fetcher: Fetcher<'a>,
    /// `None` when nothing is to be changed.
    pub(super) store: Option<Store<'a>>,
    pub(super) events: &'a (dyn Fn(Event) + Sync),
    pub(super) cancel: &'a Cancel,
    /// Trees that were looked at.
    pub(super) seen: IdSet,
    /// Those of them that are not as they should be, and what they became: nothing, if they cannot
    /// be read.
    pub(super) replaced: HashMap<Id, Option<Id>>,
    pub(super) stored: HashSet<Id>,
    /// Things that lost something.
    pub(super) changes: u64,
}

/// A tree being written anew.
struct Open {
    id: Id,
    path: PathBuf,
    nodes: Nodes,
    tree: TreeBuffer,
    /// The folder's node, which waits for the tree's new id.
    node: Option<Node>,
}

impl Open {
    fn new(id: Id, path: PathBuf, nodes: Nodes, node: Option<Node>) -> Self {
        Self { id, path, nodes, tree: TreeBuffer::new(Vec::new()), node }
    }
}

type Nodes = Box<dyn Iterator<Item = Result<Node>>>;

/// What came of beginning a tree.
enum Entered {
    /// It was looked at, and is now this one; `None`: it cannot be read.
    Known(Option<Id>),
    New(Nodes),
}

/// What one step came to.
enum Step {
    Go,
    Into(Box<Open>),
    /// The tree at hand is now this one; `None`: it cannot be read.
    Done(Option<Id>),
}

impl Rewriter<'_> {
    /// What the tree became; `None` when the root itself cannot be read.
    pub(super) fn rewrite(&mut self, root: Id) -> Result<Option<Id>> {
        let mut open = match self.enter(root, Path::new("/"))? {
            Entered::Known(id) => return Ok(id),
            Entered::New(nodes) => vec![Open::new(root, "/".into(), nodes, None)],
        };
        while let Some(top) = open.last_mut() {
            if self.cancel.is_cancelled() {
                return Err(TransferError::Cancelled);
            }
            match self.step(top)? {
                Step::Go => {}
                Step::Into(below) => {
                    make_room_in(self.repository, &mut open, |open| &mut open.tree)?;
                    open.push(*below);
                }
                Step::Done(id) => {
                    let done = open.pop().and_then(|done| done.node);
                    let (Some(node), Some(above)) = (done, open.last_mut()) else {
                        return Ok(id);
                    };
                    self.push_folder(above, node, id)?;
                }
            }
        }
        Ok(None)
    }

    /// Begins a tree, unless it was looked at already or cannot be read.
    fn enter(&mut self, id: Id, path: &Path) -> Result<Entered> {
        if !self.seen.insert(&id)? {
            return Ok(Entered::Known(self.replaced.get(&id).copied().unwrap_or(Some(id))));
        }
        match self.fetcher.tree(&id) {
            Ok(nodes) => Ok(Entered::New(Box::new(nodes))),
            Err(error) if is_of_file(&error) => {
                self.tell(path, "cannot be read");
                self.replaced.insert(id, None);
                Ok(Entered::Known(None))
            }
            Err(error) => Err(error),
        }
    }

    /// A folder, whose tree is now this one, or cannot be read.
    fn push_folder(&mut self, open: &mut Open, mut node: Node, tree: Option<Id>) -> Result<()> {
        node.subtree = Some(match tree {
            Some(id) => id,
            None => self.empty_tree()?,
        });
        self.push(open, &node)
    }

    fn step(&mut self, top: &mut Open) -> Result<Step> {
        match top.nodes.next() {
            Some(Ok(node)) => self.node(top, node),
            Some(Err(error)) if is_of_file(&error) => {
                self.tell(&top.path, "cannot be read to its end");
                self.replaced.insert(top.id, None);
                Ok(Step::Done(None))
            }
            Some(Err(error)) => Err(error),
            None => {
                let tree = std::mem::replace(&mut top.tree, TreeBuffer::new(Vec::new()));
                let tree = tree.finish()?;
                let (WrittenTree::Held(id, _) | WrittenTree::Spooled(id, _)) = tree;
                if id != top.id {
                    self.save(&tree)?;
                    self.replaced.insert(top.id, Some(id));
                }
                Ok(Step::Done(Some(id)))
            }
        }
    }

    fn node(&mut self, top: &mut Open, mut node: Node) -> Result<Step> {
        let path = top.path.join(OsStr::from_bytes(&node.name));
        match node.kind {
            NodeKind::Irregular => {
                self.tell(&path, "is of no known kind, and is left out");
                return Ok(Step::Go);
            }
            NodeKind::File => self.file(&path, &mut node)?,
            NodeKind::Directory => {
                let subtree = node.subtree.unwrap_or(Id::ZERO);
                return match self.enter(subtree, &path)? {
                    Entered::Known(id) => self.push_folder(top, node, id).map(|()| Step::Go),
                    Entered::New(nodes) => {
                        let below = Open::new(subtree, path, nodes, Some(node));
                        Ok(Step::Into(Box::new(below)))
                    }
                };
            }
            _ => {}
        }
        self.push(top, &node)?;
        Ok(Step::Go)
    }

    fn file(&mut self, path: &Path, node: &mut Node) -> Result<()> {
        let content = node.content.take().unwrap_or_default();
        let (before, mut size) = (content.len(), 0);
        let mut kept = Vec::with_capacity(before);
        for id in content {
            if let Some(found) = self.index.find(BlobKind::Data, &id)? {
                size += u64::from(found.packed.blob.plaintext_bytes());
                kept.push(id);
            }
        }
        if kept.len() < before {
            let lost = before - kept.len();
            self.tell(path, &format!("lost {lost} of its {before} pieces"));
        } else if size != node.size {
            self.tell(path, &format!("has {size} bytes, not {}", node.size));
        }
        node.content = Some(kept);
        node.size = size;
        Ok(())
    }

    fn push(&mut self, open: &mut Open, node: &Node) -> Result<()> {
        match open.tree.push(node) {
            Ok(()) => open.tree.make_room(self.repository),
            // Another program wrote it, in an order of its own: begin again, sorted.
            Err(TreeError::Order { .. }) => {
                let nodes = self.fetcher.tree(&open.id)?;
                let mut nodes = nodes.collect::<Result<Vec<_>>>()?;
                nodes.sort_by(|a, b| a.name.cmp(&b.name));
                nodes.dedup_by(|a, b| a.name == b.name);
                open.nodes = Box::new(nodes.into_iter().map(Ok));
                open.tree = TreeBuffer::new(Vec::new());
                Ok(())
            }
            Err(cause) => Err(unwritable("a folder", cause)),
        }
    }

    fn empty_tree(&mut self) -> Result<Id> {
        let tree = TreeBuffer::new(Vec::new()).finish()?;
        let (WrittenTree::Held(id, _) | WrittenTree::Spooled(id, _)) = tree;
        self.save(&tree)?;
        Ok(id)
    }

    fn save(&mut self, tree: &WrittenTree) -> Result<()> {
        let (WrittenTree::Held(id, _) | WrittenTree::Spooled(id, _)) = tree;
        if let Some(store) = &mut self.store
            && !self.index.has(BlobKind::Tree, id)?
            && self.stored.insert(*id)
        {
            store.add_tree(tree)?;
        }
        Ok(())
    }

    fn tell(&mut self, path: &Path, what: &str) {
        self.changes += 1;
        (self.events)(Event::Note(format!("{} {what}", path_text(path))));
    }
}
