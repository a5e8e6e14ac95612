//! What changed from one snapshot to another.
//!
//! Folders with the same tree are not opened: only what differs is read.

use crate::blobs::{Fetcher, TreeNodes};
use crate::browse::SnapshotInfo;
use crate::index::Index;
use crate::locks::HeldLock;
use crate::{Cancel, Repository, Result, TransferError};
use engine_repository::{Id, Node, NodeKind};
use std::cmp::Ordering;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What became of a path, in restic's letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// `+`
    Added,
    /// `-`
    Removed,
    /// `M`: a file's content.
    Content,
    /// `T`: a file became a folder, or the like.
    Kind,
    /// `U`: only mode, owner, times or the like.
    Metadata,
}

impl Change {
    /// restic's letter.
    pub fn letter(self) -> char {
        match self {
            Self::Added => '+',
            Self::Removed => '-',
            Self::Content => 'M',
            Self::Kind => 'T',
            Self::Metadata => 'U',
        }
    }
}

/// Calls `each` for every path that differs, folders before what is in them. Changes of metadata
/// alone are told when `with_metadata` is set.
pub fn diff(
    repository: &Repository,
    from: &SnapshotInfo,
    to: &SnapshotInfo,
    with_metadata: bool,
    each: &mut dyn FnMut(Change, &Path, NodeKind),
    cancel: &Cancel,
) -> Result<()> {
    let _lock = HeldLock::acquire(repository, false)?;
    let index = Index::load_or_stop(repository, cancel)?;
    let mut differ = Differ {
        fetcher: Fetcher::new(repository, &index),
        with_metadata,
        each,
        cancel,
        open: Vec::new(),
    };
    differ.enter(PathBuf::from("/"), Some(from.tree), Some(to.tree))?;
    differ.run()
}

/// One side of a folder: what is left of its nodes.
struct Side(Option<TreeNodes>, Option<Node>);

impl Side {
    fn next(&mut self) -> Result<()> {
        self.1 = self.0.as_mut().and_then(Iterator::next).transpose()?;
        Ok(())
    }
}

struct Differ<'a> {
    fetcher: Fetcher<'a>,
    with_metadata: bool,
    each: &'a mut dyn FnMut(Change, &Path, NodeKind),
    cancel: &'a Cancel,
    open: Vec<(PathBuf, Side, Side)>,
}

impl Differ<'_> {
    /// Opens a folder of both sides, or of the one that has it.
    fn enter(&mut self, path: PathBuf, from: Option<Id>, to: Option<Id>) -> Result<()> {
        if from == to {
            return Ok(());
        }
        let mut side = |tree: Option<Id>| -> Result<Side> {
            let nodes = tree.map(|tree| self.fetcher.tree(&tree)).transpose()?;
            let mut side = Side(nodes, None);
            side.next()?;
            Ok(side)
        };
        let sides = (side(from)?, side(to)?);
        self.open.push((path, sides.0, sides.1));
        Ok(())
    }

    fn run(&mut self) -> Result<()> {
        while let Some((folder, from, to)) = self.open.last_mut() {
            if self.cancel.is_cancelled() {
                return Err(TransferError::Cancelled);
            }
            let order = match (&from.1, &to.1) {
                (None, None) => {
                    self.open.pop();
                    continue;
                }
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(a), Some(b)) => a.name.cmp(&b.name),
            };
            let (mut old, mut new) = (None, None);
            if order != Ordering::Greater {
                old = from.1.take();
                from.next()?;
            }
            if order != Ordering::Less {
                new = to.1.take();
                to.next()?;
            }
            let name = old.as_ref().or(new.as_ref()).map(|node| node.name.clone());
            let path = folder.join(OsStr::from_bytes(&name.unwrap_or_default()));
            self.compare(path, old.as_ref(), new.as_ref())?;
        }
        Ok(())
    }

    fn compare(&mut self, path: PathBuf, old: Option<&Node>, new: Option<&Node>) -> Result<()> {
        let kind = new.or(old).map_or(NodeKind::Irregular, |node| node.kind);
        let change = match (old, new) {
            (Some(old), Some(new)) if old.kind != new.kind => Some(Change::Kind),
            (Some(old), Some(new)) if old.content != new.content => Some(Change::Content),
            (Some(old), Some(new)) if self.with_metadata && is_changed(old, new) => {
                Some(Change::Metadata)
            }
            (Some(_), Some(_)) => None,
            (None, _) => Some(Change::Added),
            (_, None) => Some(Change::Removed),
        };
        if let Some(change) = change {
            (self.each)(change, &path, kind);
        }
        let tree = |node: Option<&Node>| node.and_then(|node| node.subtree);
        self.enter(path, tree(old), tree(new))
    }
}

fn is_changed(old: &Node, new: &Node) -> bool {
    Node { subtree: None, ..old.clone() } != Node { subtree: None, ..new.clone() }
}
