//! The walk through the source: one thread, in the order of names, folder by folder.
//!
//! What is found goes to the collector as steps, what is read to the workers as jobs; both queues
//! are bounded, so the walk is never far ahead of them.

use super::BackupOutcome;
use super::collect::Step;
use super::content::Content;
use super::journal::{FileIdentity, FinishedFiles};
use super::node::{NodeMaker, attributes_at, attributes_of_open, is_unchanged};
use super::parent::{Before, ParentFolder};
use super::progress::Meter;
use super::read::{FileReader, ReadEnd, ReadFile};
use super::select::{Branch, Patterns};
use super::shared::Shared;
use crate::blobs::Fetcher;
use crate::posix::{Folder, Kind, Stat, joined};
use crossbeam_channel::Sender;
use engine_repository::{BlobKind, Id, Node, NodeKind};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The walk ends early, because the backup does.
pub(super) struct Stopped;

type Walked = Result<(), Stopped>;

/// The walk.
pub(super) struct Walker<'a> {
    pub(super) shared: &'a Shared<'a>,
    pub(super) excludes: &'a Patterns,
    pub(super) maker: NodeMaker,
    pub(super) reader: FileReader<'a>,
    pub(super) parents: Fetcher<'a>,
    pub(super) finished: FinishedFiles,
    pub(super) steps: Sender<Step>,
    pub(super) meter: Meter<'a>,
    pub(super) outcome: BackupOutcome,
}

impl Walker<'_> {
    /// Walks through everything. `parents` are the roots of the snapshots before.
    pub(super) fn walk(&mut self, branch: &Branch, parents: &[Id]) -> Walked {
        let mut parent = ParentFolder::of(parents, &mut self.parents);
        self.step(Step::Enter(None))?;
        let root = Path::new("/");
        match branch {
            Branch::Partly(_) => self.named_only(root, branch, &mut parent)?,
            Branch::Whole => match Folder::at(root) {
                Ok(folder) => self.everything_in(&folder, root, &mut parent)?,
                Err(cause) => self.problem(root, &cause),
            },
        }
        self.step(Step::Leave)
    }

    fn step(&self, step: Step) -> Walked {
        self.steps.send(step).map_err(|_| Stopped)
    }

    /// A folder on the way to something the owner named: only that, and links in it are followed.
    fn named_only(&mut self, path: &Path, branch: &Branch, parent: &mut ParentFolder) -> Walked {
        let Branch::Partly(children) = branch else { return Ok(()) };
        for (name, child) in children {
            let at = path.join(std::ffi::OsStr::from_bytes(name));
            let Ok(c_name) = CString::new(name.as_slice()) else { continue };
            match child {
                Branch::Whole => match Folder::on_the_way(path) {
                    Ok(folder) => self.entry(&folder, &c_name, &at, parent)?,
                    Err(cause) => self.problem(&at, &cause),
                },
                Branch::Partly(_) => {
                    let node = folder_on_the_way(&mut self.maker, name, &at);
                    let Some(node) = self.noted(&at, node) else { continue };
                    let subtrees = parent.find(name).subtrees();
                    let mut below = ParentFolder::of(&subtrees, &mut self.parents);
                    self.step(Step::Enter(Some(Box::new(node))))?;
                    self.named_only(&at, child, &mut below)?;
                    self.outcome.dirs += 1;
                    self.step(Step::Leave)?;
                }
            }
        }
        Ok(())
    }

    fn everything_in(&mut self, folder: &Folder, path: &Path, parent: &mut ParentFolder) -> Walked {
        let is_stopped = || self.shared.is_stopped();
        let names = match folder.names_unless(&is_stopped) {
            Ok(names) => names,
            Err(_) if self.shared.is_stopped() => return Err(Stopped),
            Err(cause) => {
                self.problem(path, &cause);
                return Ok(());
            }
        };
        for place in 0..names.len() {
            let Some(name) = names.get(place) else { continue };
            let at = joined(path, name);
            if self.excludes.is_empty() || !self.excludes.fit(&at) {
                self.entry(folder, name, &at, parent)?;
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        folder: &Folder,
        name: &CStr,
        path: &Path,
        parent: &mut ParentFolder,
    ) -> Walked {
        if self.shared.is_stopped() {
            return Err(Stopped);
        }
        let Some(stat) = self.noted(path, folder.stat(name)) else { return Ok(()) };
        let before = parent.find(name.to_bytes());
        match stat.kind {
            Kind::Folder => self.folder(folder, name, path, before),
            Kind::File => self.file(folder, name, path, &stat, &before),
            // A socket without its program is nothing; restic leaves them out, too.
            Kind::Socket => Ok(()),
            Kind::Unknown => {
                self.problem(path, &io::Error::other("it is of no kind that is known"));
                Ok(())
            }
            _ => self.other(folder, name, path, &stat),
        }
    }

    fn folder(&mut self, parent: &Folder, name: &CStr, path: &Path, before: Before) -> Walked {
        let Some(folder) = self.noted(path, parent.folder(name)) else { return Ok(()) };
        let Some(stat) = self.noted(path, folder.own_stat()) else { return Ok(()) };
        let mut node = self.maker.node(name.to_bytes(), &stat);
        let attributes = folder.as_file().and_then(|file| attributes_of_open(&file));
        node.extended_attributes = self.noted(path, attributes).unwrap_or_default();
        let mut below = ParentFolder::of(&before.subtrees(), &mut self.parents);
        drop(before);
        self.step(Step::Enter(Some(Box::new(node))))?;
        self.everything_in(&folder, path, &mut below)?;
        self.outcome.dirs += 1;
        self.step(Step::Leave)
    }

    fn file(
        &mut self,
        folder: &Folder,
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
        let Some(file) = self.noted(path, folder.file(name)) else { return Ok(()) };
        let Some(stat) = self.noted(path, Stat::of_open(file.as_fd())) else { return Ok(()) };
        if stat.kind != Kind::File {
            self.problem(path, &io::Error::other("it became something else while it was opened"));
            return Ok(());
        }
        node = self.maker.node(name.to_bytes(), &stat);
        node.extended_attributes = self.noted(path, attributes_of_open(&file)).unwrap_or_default();
        if let Some(content) = self.finished_before(path, &node) {
            return self.unmodified(node, content);
        }
        let is_sparse = stat.allocated_bytes < stat.size;
        let meter = &mut self.meter;
        let known = (path, &FileIdentity::of(&node));
        let seen = &mut |bytes| meter.bytes(bytes);
        match self.reader.read(&file, known, stat.size, is_sparse, seen) {
            Ok(read) => {
                // It may have grown or shrunk: what was read is what is stored.
                node.size = read.bytes;
                self.count(before.nodes().any(|node| node.kind == NodeKind::File), &read);
                self.step(Step::Node(Box::new(node), Some(read.content)))
            }
            Err(ReadEnd::Failed(cause)) => {
                self.problem(path, &cause);
                Ok(())
            }
            Err(ReadEnd::Stopped) => Err(Stopped),
        }
    }

    fn unmodified(&mut self, node: Node, content: Vec<Id>) -> Walked {
        self.outcome.files_unmodified += 1;
        self.outcome.bytes_total += node.size;
        self.meter.file_done(node.size);
        self.step(Step::Node(Box::new(node), Some(Content::known(content))))
    }

    fn count(&mut self, was_known: bool, read: &ReadFile) {
        match was_known {
            true => self.outcome.files_changed += 1,
            false => self.outcome.files_new += 1,
        }
        self.outcome.bytes_total += read.bytes;
        self.outcome.bytes_read += read.bytes - read.bytes_before;
        self.meter.file_done(0);
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
    fn other(&mut self, folder: &Folder, name: &CStr, path: &Path, stat: &Stat) -> Walked {
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

    /// The value; or, when there is none, a problem more.
    fn noted<T>(&mut self, path: &Path, value: io::Result<T>) -> Option<T> {
        value.map_err(|cause| self.problem(path, &cause)).ok()
    }

    fn problem(&mut self, path: &Path, cause: &io::Error) {
        self.outcome.add_problem(path.to_owned(), cause.to_string());
        self.meter.problem(path, cause);
    }
}

/// The node of a folder on the way to something named.
fn folder_on_the_way(maker: &mut NodeMaker, name: &[u8], path: &PathBuf) -> io::Result<Node> {
    let stat = Stat::at(path)?;
    let mut node = maker.node(name, &stat);
    if node.kind != NodeKind::Directory {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    // Whoever may pass through need not be allowed to look.
    node.extended_attributes =
        File::open(path).and_then(|file| attributes_of_open(&file)).unwrap_or_default();
    Ok(node)
}
