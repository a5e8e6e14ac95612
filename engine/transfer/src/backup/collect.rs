//! The collector puts nodes together into trees, in the order of the walk.

use super::catalogue::records::Line;
use super::content::Content;
use super::seal::Job;
use super::shared::Shared;
use crate::errors::Cause;
use crate::repository::unwritable;
use crate::{Result, TransferError};
use crossbeam_channel::{Receiver, Sender};
use engine_repository::{BlobKind, Id, Node, TreeWriter};

/// One step of the walk.
pub(super) enum Step {
    /// A folder begins.
    Enter,
    /// Something in the folder that began last; files come with their content, unless the node has
    /// it.
    Node(Box<Node>, Option<Content>),
    /// The folder that began last ends. This is its node; the root has none.
    Leave(Option<Box<Node>>),
    /// What the catalogue says of the folder that was left last.
    Record(Box<Line>),
    /// Everything begins again.
    Restart,
}

struct OpenTree {
    writer: TreeWriter,
    json: Vec<u8>,
}

/// Puts all trees together. Gives the root's id; `None` when the walk ended early.
pub(super) fn collect(
    shared: &Shared<'_>,
    steps: &Receiver<Step>,
    jobs: &Sender<Job>,
) -> Option<Id> {
    match collect_steps(shared, steps, jobs) {
        Ok(root) => root,
        Err(error) => {
            shared.fail(error);
            None
        }
    }
}

fn collect_steps(
    shared: &Shared<'_>,
    steps: &Receiver<Step>,
    jobs: &Sender<Job>,
) -> Result<Option<Id>> {
    let mut open: Vec<OpenTree> = Vec::new();
    let mut left = Id::ZERO;
    for step in steps {
        match step {
            Step::Enter => {
                let mut json = shared.buffers.take(0);
                open.push(OpenTree { writer: TreeWriter::new(&mut json), json });
            }
            Step::Node(mut node, content) => {
                if let Some(content) = content {
                    let Some(ids) = content.wait(shared) else { return Ok(None) };
                    node.content = Some(ids);
                }
                push(&mut open, &node)?;
            }
            Step::Leave(node) => {
                let Some(tree) = open.pop() else { return Ok(None) };
                let id = save(shared, tree, jobs);
                left = id;
                match node {
                    Some(mut node) => {
                        node.subtree = Some(id);
                        push(&mut open, &node)?;
                    }
                    None => return Ok(Some(id)),
                }
            }
            Step::Record(line) => shared.record(&line, &left),
            Step::Restart => open.clear(),
        }
    }
    Ok(None)
}

fn push(open: &mut [OpenTree], node: &Node) -> Result<()> {
    let Some(tree) = open.last_mut() else { return Ok(()) };
    let pushed = tree.writer.push(node, &mut tree.json);
    pushed.map_err(|cause| -> TransferError { unwritable("a folder", Cause::from(cause)) })
}

fn save(shared: &Shared<'_>, tree: OpenTree, jobs: &Sender<Job>) -> Id {
    let OpenTree { writer, json: mut bytes } = tree;
    writer.finish(&mut bytes);
    let id = Id::of(&bytes);
    if shared.claim(BlobKind::Tree, &id) {
        let share = shared.budget.take(2 * bytes.len());
        // If nobody takes it the backup is ending, and everybody knows.
        let _ = jobs.send(Job::Tree { id, bytes, share });
    }
    id
}
