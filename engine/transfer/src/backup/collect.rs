//! The collector puts nodes together into trees, in the order of the walk, and begins checkpoints.
//!
//! Small files are read by others while the walk goes on; what became of them is looked at here, in
//! their place.
//!
//! It is the one thread that knows what is finished: files whose ids are known go to the journal
//! from here, and a checkpoint is made of the open folders as they are, without waiting for it: the
//! packer and the storer do the rest when everything that was claimed before is packed.

use super::BackupOutcome;
use super::catalogue::records::Line;
use super::checkpoint::Checkpoints;
use super::content::Content;
use super::pack::ToPack;
use super::progress::tell_problem;
use super::seal::{Job, seal};
use super::shared::Shared;
use super::small_files::{Answer, Found};
use crate::careful::CarefulSealer;
use crate::large;
use crate::repository::unwritable;
use crate::tree_buffer::{ShownTree, TreeBuffer, WrittenTree, make_room_in};
use crate::{Event, Result};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use engine_repository::{BlobKind, Id, Node};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How often it looks whether a checkpoint is due while nothing comes: a file of a TiB is being
/// read.
const LOOK: Duration = Duration::from_millis(200);

/// One step of the walk.
pub(super) enum Step {
    /// A folder begins. This is its node; the root has none.
    Enter(Option<Box<Node>>),
    /// Something in the folder that began last; files come with their content, unless their node
    /// has what it was before.
    Node(Box<Node>, Option<Content>),
    /// Files in it that others read meanwhile.
    Files(Arc<Answer>),
    /// The folder that began last ends.
    Leave,
    /// What the catalogue says of the folder that ended last.
    Record(Box<Line>),
    /// Everything begins again.
    Restart,
}

/// A folder that is not finished.
struct OpenTree {
    node: Option<Box<Node>>,
    tree: TreeBuffer,
    /// Not everything in it came out as it is.
    is_unsettled: bool,
}

/// The collector.
pub(super) struct Collector<'a> {
    pub(super) shared: &'a Shared<'a>,
    pub(super) checkpoints: &'a Checkpoints<'a>,
    /// Trees of finished folders.
    pub(super) jobs: Sender<Job>,
    /// Trees of checkpoints, and the checkpoints.
    pub(super) packer: Sender<ToPack>,
    events: &'a (dyn Fn(Event) + Sync),
    open: Vec<OpenTree>,
    /// The path of the folder that began last.
    path: Vec<u8>,
    /// The tree of the folder that ended last, and whether all of it came out as it is.
    ended: (Id, bool),
    /// What came of the small files: how many there are, and problems with them.
    outcome: BackupOutcome,
    /// Something was finished since the last checkpoint that no snapshot has.
    is_anything_new: bool,
}

impl<'a> Collector<'a> {
    pub(super) fn new(
        shared: &'a Shared<'a>,
        checkpoints: &'a Checkpoints<'a>,
        jobs: Sender<Job>,
        packer: Sender<ToPack>,
        events: &'a (dyn Fn(Event) + Sync),
    ) -> Self {
        Self {
            shared,
            checkpoints,
            jobs,
            packer,
            events,
            open: Vec::new(),
            path: Vec::new(),
            ended: (Id::ZERO, true),
            outcome: BackupOutcome::default(),
            is_anything_new: false,
        }
    }

    /// Puts all trees together. Gives the root's id, `None` when the walk ended early, and what came
    /// of the small files. A walk that was asked to stop leaves a checkpoint.
    pub(super) fn collect(mut self, steps: &Receiver<Step>) -> (Option<Id>, BackupOutcome) {
        let collected = self.all_steps(steps).and_then(|root| {
            if root.is_none() && self.shared.is_cancelled() {
                self.checkpoint()?;
            }
            Ok(root)
        });
        let root = collected.unwrap_or_else(|error| {
            self.shared.fail(error);
            None
        });
        (root, self.outcome)
    }

    fn all_steps(&mut self, steps: &Receiver<Step>) -> Result<Option<Id>> {
        loop {
            if self.shared.is_stopped() {
                return Ok(None);
            }
            if self.checkpoints.is_due() {
                self.checkpoint()?;
            }
            match steps.recv_timeout(LOOK) {
                Ok(Step::Enter(node)) => self.enter(node)?,
                Ok(Step::Node(node, content)) => {
                    if !self.node(node, content)? {
                        return Ok(None);
                    }
                }
                Ok(Step::Files(answer)) => {
                    if !self.files(&answer)? {
                        return Ok(None);
                    }
                }
                Ok(Step::Leave) => {
                    let root = self.leave()?;
                    if root.is_some() {
                        return Ok(root);
                    }
                }
                Ok(Step::Record(mut line)) => {
                    let (tree, is_settled) = self.ended;
                    if !is_settled {
                        line.forget_digest();
                    }
                    self.shared.record(&line, &tree);
                }
                Ok(Step::Restart) => {
                    self.open.clear();
                    self.path.clear();
                    self.outcome = BackupOutcome::default();
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
            }
        }
    }

    fn enter(&mut self, node: Option<Box<Node>>) -> Result<()> {
        if let Some(node) = &node {
            self.path.push(b'/');
            self.path.extend_from_slice(&node.name);
        }
        make_room_in(self.shared.repository, &mut self.open, |open| &mut open.tree)?;
        let tree = TreeBuffer::new(self.shared.buffers.take(0));
        self.open.push(OpenTree { node, tree, is_unsettled: false });
        Ok(())
    }

    /// Takes in what is finished; `false` when the backup ends before it is.
    fn node(&mut self, mut node: Box<Node>, content: Option<Content>) -> Result<bool> {
        if let Some(content) = content {
            let is_new = !content.is_known();
            let Some(ids) = content.wait(self.shared) else { return Ok(false) };
            node.content = Some(ids);
            if is_new {
                self.is_anything_new = true;
                let folder = self.path.len();
                self.path.push(b'/');
                self.path.extend_from_slice(&node.name);
                self.shared.journal.file_finished(&self.path, &node);
                self.path.truncate(folder);
            }
        }
        self.push(&node)?;
        Ok(true)
    }

    /// Takes in files that others read; `false` when the backup ends before they have.
    fn files(&mut self, answer: &Answer) -> Result<bool> {
        let Some(files) = answer.wait(self.shared, Option::take) else { return Ok(false) };
        for Found { node, was_known, is_unsettled, problem, read } in files {
            let open = self.open.last_mut();
            let has_problem = problem.is_some() || read.is_err();
            open.into_iter().for_each(|open| open.is_unsettled |= is_unsettled || has_problem);
            if let Some(cause) = problem {
                self.problem(&node.name, &cause);
            }
            match read {
                Ok(read) => {
                    self.outcome.add_file(was_known, &read);
                    if !self.node(node, Some(read.content))? {
                        return Ok(false);
                    }
                }
                Err(cause) => self.problem(&node.name, &cause),
            }
        }
        Ok(true)
    }

    fn problem(&mut self, name: &[u8], cause: &io::Error) {
        let folder = Path::new(OsStr::from_bytes(&self.path));
        let path = Path::new("/").join(folder).join(OsStr::from_bytes(name));
        tell_problem(self.events, &path, cause);
        self.outcome.add_problem(path, cause.to_string());
    }

    fn leave(&mut self) -> Result<Option<Id>> {
        let Some(open) = self.open.pop() else { return Ok(None) };
        let OpenTree { node, tree, is_unsettled } = open;
        let tree = tree.finish()?;
        let (WrittenTree::Held(id, _) | WrittenTree::Spooled(id, _)) = tree;
        self.ended = (id, !is_unsettled);
        if let Some(claim) = self.shared.claim(BlobKind::Tree, &id) {
            let job = match tree {
                WrittenTree::Held(id, bytes) => {
                    let share = self.shared.budget.take(2 * bytes.len());
                    Job::Tree { id, bytes, share, claim }
                }
                WrittenTree::Spooled(id, json) => {
                    let share = self.shared.budget.take(large::MOVING_BYTES);
                    Job::LargeTree { id, json, share, claim }
                }
            };
            // If nobody takes it the backup is ending, and everybody knows.
            let _ = self.jobs.send(job);
        } else if node.is_some() {
            self.shared.left_known_tree();
        }
        let Some(mut node) = node else { return Ok(Some(id)) };
        self.path.truncate(self.path.len() - node.name.len() - 1);
        node.subtree = Some(id);
        self.push(&node)?;
        Ok(None)
    }

    fn push(&mut self, node: &Node) -> Result<()> {
        match self.open.last_mut() {
            Some(open) => {
                open.tree.push(node).map_err(|cause| unwritable("a folder", cause))?;
                open.tree.make_room(self.shared.repository)
            }
            None => Ok(()),
        }
    }

    /// Stores all open folders as they are and asks for a snapshot of them.
    fn checkpoint(&mut self) -> Result<()> {
        if !self.is_anything_new {
            return Ok(());
        }
        let mut sealer = CarefulSealer::of(self.shared.repository);
        let store = |sealer: &mut _, tree: ShownTree<'_>| {
            stored_for_now(self.shared, &self.packer, sealer, tree)
        };
        let mut root = None;
        for place in (0..self.open.len()).rev() {
            let (above, below) = self.open.split_at_mut(place + 1);
            let Some(open) = above.last_mut() else { continue };
            let node = below.first().and_then(|below| below.node.as_ref()).zip(root);
            let node = node.map(|(node, id)| Node { subtree: Some(id), ..Node::clone(node) });
            root = Some(open.tree.show(node.as_ref(), |tree| store(&mut sealer, tree))?);
        }
        let Some(tree) = root else { return Ok(()) };
        self.is_anything_new = false;
        self.checkpoints.asked();
        let claims = self.shared.claims_so_far();
        let _ = self.packer.send(ToPack::Checkpoint { tree, claims });
        Ok(())
    }
}

/// Sees to it that an open folder as it is comes into a pack, and says its id.
fn stored_for_now(
    shared: &Shared<'_>,
    packer: &Sender<ToPack>,
    sealer: &mut CarefulSealer,
    tree: ShownTree<'_>,
) -> Result<Id> {
    let (ShownTree::Held(id, _) | ShownTree::Spooled(id, _)) = tree;
    let Some(claim) = shared.claim(BlobKind::Tree, &id) else { return Ok(id) };
    let sealed = match tree {
        ShownTree::Held(id, json) => {
            let share = shared.budget.take(json.len());
            let sealed = seal(shared, sealer, (BlobKind::Tree, id), json, share, claim)?;
            ToPack::Blobs(vec![sealed])
        }
        ShownTree::Spooled(id, json) => {
            let _share = shared.budget.take(large::MOVING_BYTES);
            ToPack::Pack(large::seal_tree(shared.repository, &id, json)?, claim)
        }
    };
    let _ = packer.send(sealed);
    Ok(id)
}
