//! What the walk does with an entry that is no folder: a file whose content is known is passed
//! over, a small one goes to the helpers, a large one is read here.

use super::collect::Step;
use super::content::Content;
use super::digest::is_same;
use super::journal::FileIdentity;
use super::node::{attributes_at, attributes_of_open, is_unchanged};
use super::parent::Before;
use super::read::ReadEnd;
use super::small_files::{Batch, SmallFile, became_another, is_small};
use super::walk::{End, Walked, Walker};
use crate::mutex::lock;
use crate::posix::{Folder, Kind, Stat, c_name};
use engine_repository::{BlobKind, Id, Node, NodeKind};
use std::ffi::CStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

impl Walker<'_> {
    /// A file.
    pub(super) fn file(
        &mut self,
        folder: &Arc<Folder>,
        name: &CStr,
        path: &Path,
        stat: &Stat,
        before: &Before,
    ) -> Walked {
        self.meter.at(path);
        let mut node = self.maker.node(name.to_bytes(), stat);
        let reusable = |before| Some((self.reusable(&node, before)?, before));
        if let Some((content, before)) = before.nodes().find_map(reusable) {
            // The time of change would tell if they were others now.
            node.extended_attributes.clone_from(&before.extended_attributes);
            return self.unmodified(node, content);
        }
        let was_known = before.nodes().any(|node| node.kind == NodeKind::File);
        match self.finished_before(path, &node) {
            None if is_small(stat) => self.small_file(folder, path, node, *stat, was_known),
            finished => {
                // What is large takes its time.
                self.hand_over()?;
                self.open_file(folder, path, (node, *stat), was_known, finished)
            }
        }
    }

    fn small_file(
        &mut self,
        folder: &Arc<Folder>,
        path: &Path,
        node: Node,
        stat: Stat,
        was_known: bool,
    ) -> Walked {
        if self.batch.as_ref().is_some_and(|batch| !batch.is_in(folder)) {
            self.hand_over()?;
        }
        self.meter.file_done(stat.size);
        let folder_path = || path.parent().unwrap_or(path).to_owned();
        let batch = self.batch.get_or_insert_with(|| Batch::new(folder, folder_path()));
        batch.add(SmallFile { node: Box::new(node), stat, was_known });
        if batch.is_full() { self.hand_over() } else { Ok(()) }
    }

    /// Opens and reads a file, unless it is one that a run that was cut off read to its end.
    fn open_file(
        &mut self,
        folder: &Folder,
        path: &Path,
        (seen, looked): (Node, Stat),
        was_known: bool,
        finished: Option<Vec<Id>>,
    ) -> Walked {
        let Some(name) = c_name(&seen.name) else { return Ok(()) };
        let Some(file) = self.noted(path, folder.file(&name)) else { return Ok(()) };
        let Some(stat) = self.noted(path, Stat::of_open(file.as_fd())) else { return Ok(()) };
        self.is_unsettled |= !is_same(&looked, &stat);
        if stat.kind != Kind::File {
            self.problem(path, &became_another());
            return Ok(());
        }
        let mut node = self.maker.node(name.to_bytes(), &stat);
        node.extended_attributes = self.noted(path, attributes_of_open(&file)).unwrap_or_default();
        let identity = FileIdentity::of(&node);
        let finished = finished.filter(|_| identity == FileIdentity::of(&seen));
        if let Some(content) = finished {
            return self.unmodified(node, content);
        }
        let is_sparse = stat.allocated_bytes < stat.size;
        let meter = &mut self.meter;
        let seen = &mut |bytes| meter.bytes(bytes);
        let read = lock(&self.reader).read(&file, (path, &identity), stat.size, is_sparse, seen);
        match read {
            Ok(read) => {
                // It may have grown or shrunk: what was read is what is stored.
                self.is_unsettled |= read.bytes != stat.size;
                node.size = read.bytes;
                self.outcome.add_file(was_known, &read);
                self.meter.file_done(0);
                self.step(Step::Node(Box::new(node), Some(read.content)))
            }
            Err(ReadEnd::Failed(cause)) => {
                self.problem(path, &cause);
                Ok(())
            }
            Err(ReadEnd::Stopped) => Err(End::Stopped),
        }
    }

    fn unmodified(&mut self, node: Node, content: Vec<Id>) -> Walked {
        self.outcome.files_unmodified += 1;
        self.outcome.bytes_total += node.size;
        self.meter.file_done(node.size);
        self.step(Step::Node(Box::new(node), Some(Content::known(content))))
    }

    /// The content of before, if the file is what it was and all of it is still there.
    fn reusable(&self, now: &Node, before: &Node) -> Option<Vec<Id>> {
        let content = before.content.as_ref().filter(|_| is_unchanged(now, before))?;
        self.are_stored(content).then(|| content.clone())
    }

    /// What a run that was cut off found the file to hold, if all of it is still there.
    fn finished_before(&mut self, path: &Path, now: &Node) -> Option<Vec<Id>> {
        let content = self.finished.find(path, &FileIdentity::of(now))?;
        self.are_stored(&content).then_some(content)
    }

    fn are_stored(&self, content: &[Id]) -> bool {
        content.iter().all(|id| self.shared.is_there(BlobKind::Data, id))
    }

    /// Links, devices, pipes.
    pub(super) fn other(
        &mut self,
        folder: &Folder,
        name: &CStr,
        path: &Path,
        stat: &Stat,
    ) -> Walked {
        let mut node = self.maker.node(name.to_bytes(), stat);
        if stat.kind == Kind::Symlink {
            let Some(target) = self.noted(path, folder.link_target(name)) else { return Ok(()) };
            node.link_target = target.as_bytes().to_vec();
        } else {
            node.extended_attributes = self.noted(path, attributes_at(path)).unwrap_or_default();
        }
        self.meter.file_done(0);
        self.step(Step::Node(Box::new(node), None))
    }
}
