//! Folders that are as they were: their trees are used again, or copied as far as they still hold.
//!
//! A folder whose sum is the catalogue's has the entries it had, and only the folders in it are
//! walked. As long as these are as they were, too, nothing is sent to the collector; at the end its
//! tree of before is its tree. When one of them is not, the nodes of all folders around it come
//! from the trees of before, but for the one that changed.

use super::ahead::Ahead;
use super::catalogue::records::{Line, Record, Records, Stretch};
use super::collect::Step;
use super::look::Look;
use super::walk::{End, Found, Inside, Walked, Walker};
use crate::blobs::TreeNodes;
use crate::names::Cursor;
use crate::posix::joined;
use engine_repository::{Id, Node};
use std::cmp::Ordering;
use std::ffi::CStr;

/// The folder around the one the walk comes to.
pub(super) enum Around<'a> {
    /// It is as it was. These are the records of the folders in it.
    Kept(&'a mut Stretch),
    /// Its entries are looked at one by one.
    Looked(&'a mut Inside),
}

impl Around<'_> {
    pub(super) fn is_kept(&self) -> bool {
        matches!(self, Self::Kept(_))
    }

    pub(super) fn known(&mut self) -> &mut Stretch {
        match self {
            Self::Kept(known) => known,
            Self::Looked(inside) => &mut inside.known,
        }
    }
}

/// What the walk has of the catalogue of before, and the places in the next one.
pub(super) struct Reuse {
    records: Option<Records>,
    /// The folders around the one the walk is in that are as they were; the outermost first.
    kept: Vec<Kept>,
    /// Where the next folder's record comes.
    end: u64,
}

/// A folder that is as it was.
struct Kept {
    name: Vec<u8>,
    tree: Id,
    /// Its own node, until it is sent. None where the tree of the folder around it has it.
    node: Option<Box<Node>>,
    /// Its nodes of before that were not copied yet; nothing until something in it has changed.
    rest: Option<Rest>,
}

struct Rest {
    nodes: TreeNodes,
    ahead: Option<Box<Node>>,
}

impl Reuse {
    pub(super) fn of(records: Option<Records>) -> Self {
        Self { records, kept: Vec::new(), end: 0 }
    }

    pub(super) fn none() -> Self {
        Self::of(None)
    }

    pub(super) fn is_believed(&self) -> bool {
        self.records.is_some()
    }

    pub(super) fn all(&self) -> Stretch {
        self.records.as_ref().map(Records::all).unwrap_or_default()
    }

    pub(super) fn find(&mut self, known: &mut Stretch, name: &[u8]) -> Option<Record> {
        self.records.as_mut()?.find(known, name)
    }

    pub(super) fn begin(&mut self, name: &[u8]) -> Line {
        Line::begin(&mut self.end, name)
    }

    pub(super) fn end(&self, line: Line, digest: Option<Id>) -> Line {
        line.end(self.end, digest)
    }

    /// Bytes of all records.
    pub(super) fn records_bytes(&self) -> u64 {
        self.end
    }
}

impl Walker<'_> {
    /// A folder that is as it was.
    pub(super) fn kept(
        &mut self,
        found: Found<'_>,
        record: &Record,
        look: Look,
        around: &Around<'_>,
    ) -> Walked {
        self.meter.at(found.path);
        self.meter.files_done(look.files + look.others, look.bytes);
        self.outcome.files_unmodified += look.files;
        self.outcome.bytes_total += look.bytes;
        self.outcome.dirs += 1;
        self.outcome.dirs_unmodified += 1;
        // The tree of a folder that is as it was has the nodes of all folders in it.
        let node = (!around.is_kept()).then(|| Box::new(self.folder_node(&found)));
        let is_unsettled_itself = std::mem::take(&mut self.is_unsettled);
        let (name, tree, mut known) = (found.name.to_bytes().to_vec(), record.tree, record.below);
        self.reuse.kept.push(Kept { name, tree, node, rest: None });
        let mut is_unsettled = false;
        let mut cursor = Cursor::default();
        let mut ahead = Ahead::of(&look.folders, &self.asked_in_all);
        loop {
            let next = look.folders.next(&mut cursor).map_err(|error| self.failed(error))?;
            let Some(name) = next else { break };
            if self.shared.is_stopped() {
                return Err(End::Stopped);
            }
            let at = joined(found.path, name);
            let seen = self.see(&mut ahead, &found.folder, name, &at)?;
            self.folder(seen, name, &at, Around::Kept(&mut known))?;
            is_unsettled |= std::mem::take(&mut self.is_unsettled);
        }
        let Some(kept) = self.reuse.kept.pop() else { return Err(End::Distrusted) };
        let digest = record.digest.filter(|_| !is_unsettled);
        let line = self.reuse.end(found.line, digest);
        self.is_unsettled = is_unsettled_itself;
        match (kept.rest, kept.node) {
            (Some(mut rest), _) => {
                while let Some(node) = rest.next()? {
                    self.step(Step::Node(node, None))?;
                }
                self.step(Step::Leave)?;
                self.step(Step::Record(Box::new(line)))
            }
            (None, node) => {
                self.shared.record(&line, &tree);
                let Some(mut node) = node else { return Ok(()) };
                node.subtree = Some(tree);
                self.step(Step::Node(node, None))
            }
        }
    }

    /// Sends all that comes before `name` in the folder the walk is in, and in those around it: all
    /// are as they were, but `name` is not. Gives its node of before.
    pub(super) fn make_way(&mut self, name: &CStr) -> Result<Option<Box<Node>>, End> {
        for place in 0..self.reuse.kept.len() {
            if self.reuse.kept[place].rest.is_some() {
                continue;
            }
            let tree = self.reuse.kept[place].tree;
            let node = match self.reuse.kept[place].node.take() {
                Some(node) => node,
                None => {
                    let name = self.reuse.kept[place].name.clone();
                    let around = place.checked_sub(1).ok_or(End::Distrusted)?;
                    self.copy_until(around, &name)?.ok_or(End::Distrusted)?
                }
            };
            let nodes = self.parents.tree(&tree).ok_or(End::Stopped)?;
            let nodes = nodes.map_err(|_| End::Distrusted)?;
            self.reuse.kept[place].rest = Some(Rest { nodes, ahead: None });
            self.step(Step::Enter(Some(node)))?;
        }
        let last = self.reuse.kept.len().checked_sub(1).ok_or(End::Distrusted)?;
        self.copy_until(last, name.to_bytes())
    }

    fn copy_until(&mut self, place: usize, name: &[u8]) -> Result<Option<Box<Node>>, End> {
        loop {
            let rest = self.reuse.kept[place].rest.as_mut().ok_or(End::Distrusted)?;
            let Some(node) = rest.next()? else { return Ok(None) };
            match node.name.as_slice().cmp(name) {
                Ordering::Less => self.step(Step::Node(node, None))?,
                Ordering::Equal => return Ok(Some(node)),
                Ordering::Greater => {
                    rest.ahead = Some(node);
                    return Ok(None);
                }
            }
        }
    }
}

impl Rest {
    fn next(&mut self) -> Result<Option<Box<Node>>, End> {
        if let Some(node) = self.ahead.take() {
            return Ok(Some(node));
        }
        self.nodes.next().transpose().map(|node| node.map(Box::new)).map_err(|_| End::Distrusted)
    }
}
