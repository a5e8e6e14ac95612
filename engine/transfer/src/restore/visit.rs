//! The walk through a snapshot: makes folders, links and devices itself, opens files, and hands
//! their pieces to the workers. A second walk, when asked for, compares instead.

use super::attributes;
use super::pieces::{OpenFile, Piece, name_while_written};
use super::place::{Place, make_file, make_room};
use super::shared::Shared;
use crate::TransferError;
use crate::backup::select::Patterns;
use crate::blobs::{Fetcher, TreeNodes};
use crate::posix::{Folder, Kind, Stat, c_name};
use crossbeam_channel::Sender;
use engine_repository::tree::unix_mode_of_go;
use engine_repository::{BlobKind, Id, Node, NodeKind};
use nix::fcntl::AtFlags;
use nix::sys::stat::{Mode, SFlag, mknodat};
use nix::unistd::{linkat, mkfifoat, symlinkat};
use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// One walk.
pub(super) struct Visitor<'a> {
    pub(super) shared: &'a Shared<'a>,
    pub(super) includes: &'a Patterns,
    pub(super) fetcher: Fetcher<'a>,
    pub(super) pieces: Sender<Piece<'a>>,
    pub(super) target: Arc<Place<'a>>,
    /// Whether this walk only compares.
    pub(super) is_verifying: bool,
    /// Where in the target the first name of a file with several is, by device and inode.
    pub(super) first_names: HashMap<(u64, u64), PathBuf>,
    /// Tells this restore from others, in names of files that are not whole yet.
    pub(super) restore: u32,
    /// Files made so far.
    pub(super) files_made: usize,
}

/// The restore ends early.
pub(super) struct Stopped;

/// One folder of the snapshot, while it is visited.
struct Visit<'a> {
    nodes: TreeNodes,
    /// In the snapshot.
    path: PathBuf,
    place: Arc<Place<'a>>,
    /// Whether a pattern fits it or one above.
    is_included: bool,
}

impl<'a> Visitor<'a> {
    /// Walks through everything below a tree.
    pub(super) fn visit(&mut self, root: TreeNodes) -> Result<(), Stopped> {
        let place = self.target.clone();
        let is_included = self.includes.is_empty();
        let mut open = vec![Visit { nodes: root, path: "/".into(), place, is_included }];
        while let Some(visit) = open.last_mut() {
            if self.shared.is_stopped() {
                return Err(Stopped);
            }
            let node = match visit.nodes.next() {
                Some(Ok(node)) => node,
                Some(Err(error)) => {
                    self.shared.damage(visit.place.path(), &error);
                    open.pop();
                    continue;
                }
                None => {
                    open.pop();
                    continue;
                }
            };
            let path = visit.path.join(OsStr::from_bytes(&node.name));
            let is_included = visit.is_included || self.includes.fit(&path);
            let place = visit.place.clone();
            if node.kind == NodeKind::Directory {
                open.extend(self.folder(&place, node, path, is_included));
            } else if is_included {
                self.entry(&place, node)?;
            }
        }
        Ok(())
    }

    fn folder(
        &mut self,
        parent: &Arc<Place<'a>>,
        node: Node,
        path: PathBuf,
        is_included: bool,
    ) -> Option<Visit<'a>> {
        let at = parent.path().join(OsStr::from_bytes(&node.name));
        let nodes = node.subtree.as_ref().map(|subtree| self.fetcher.tree(subtree));
        let name = node.name.clone();
        let node = (!self.is_verifying).then_some(node);
        let place = Place::below(parent, &name, at, node)?;
        if is_included {
            place.folder()?;
        }
        match nodes {
            Some(Ok(nodes)) => Some(Visit { nodes, path, place, is_included }),
            Some(Err(error)) => {
                self.shared.damage(place.path(), &error);
                None
            }
            None => {
                self.shared.problem(place.path(), "the snapshot lacks its content".to_owned());
                None
            }
        }
    }

    fn entry(&mut self, place: &Arc<Place<'a>>, node: Node) -> Result<(), Stopped> {
        let path = place.path().join(OsStr::from_bytes(&node.name));
        let (Some(name), Some(folder)) = (c_name(&node.name), place.folder()) else {
            return Ok(());
        };
        if let Some(first) = self.first_name(&node, &path) {
            if !self.is_verifying {
                let linked = self.link(&first, folder, &name);
                if self.shared.noted(&path, "make the hard link", linked).is_some() {
                    self.shared.count(|outcome| outcome.others += 1);
                }
            }
            self.shared.progress(1, node.size, Some(&path));
            return Ok(());
        }
        match (node.kind, self.is_verifying) {
            (NodeKind::File, false) => self.file(place, folder, &name, node, path),
            (NodeKind::File, true) => self.file_again(place, folder, &name, node, path),
            (_, false) => {
                self.other(folder, &name, &node, &path);
                Ok(())
            }
            (_, true) => {
                self.shared.progress(1, 0, Some(&path));
                Ok(())
            }
        }
    }

    /// Where the same file was restored already under another name.
    fn first_name(&mut self, node: &Node, path: &Path) -> Option<PathBuf> {
        if node.links < 2 || node.inode == 0 {
            return None;
        }
        let file = (node.device_id, node.inode);
        let first = self.first_names.get(&file).cloned();
        if first.is_none() {
            self.first_names.insert(file, path.to_owned());
        }
        first
    }

    /// Another name for a file that is in the target already, reached without following links.
    fn link(&self, first: &Path, folder: &Folder, name: &CStr) -> io::Result<()> {
        let below = first.strip_prefix(self.target.path()).map_err(io::Error::other)?;
        let not_there = || io::Error::from(io::ErrorKind::NotFound);
        let target = self.target.folder().ok_or_else(not_there)?;
        let first_name = below.file_name().and_then(|name| c_name(name.as_bytes()));
        let first_name = first_name.ok_or_else(not_there)?;
        let mut within: Option<Folder> = None;
        for component in below.parent().into_iter().flat_map(Path::components) {
            let Component::Normal(step) = component else { return Err(not_there()) };
            let step = c_name(step.as_bytes()).ok_or_else(not_there)?;
            within = Some(within.as_ref().unwrap_or(target).folder(&step)?);
        }
        make_room(folder, name)?;
        let from = within.as_ref().unwrap_or(target);
        Ok(linkat(from, first_name.as_c_str(), folder, name, AtFlags::empty())?)
    }

    fn file(
        &mut self,
        place: &Arc<Place<'a>>,
        folder: &Folder,
        name: &CStr,
        node: Node,
        path: PathBuf,
    ) -> Result<(), Stopped> {
        // Further names are linked to the first while it is written, so that one needs its own.
        let written_as = if node.links < 2 { self.name_while_written(&node.name) } else { None };
        let written_as = written_as.unwrap_or_else(|| name.to_owned());
        let made = make_file(folder, &written_as).and_then(|file| {
            file.set_len(node.size)?;
            Ok(file)
        });
        match self.shared.noted(&path, "make the file", made) {
            Some(file) => self.send_pieces(place, file, written_as, node, path),
            None => Ok(()),
        }
    }

    fn name_while_written(&mut self, name: &[u8]) -> Option<CString> {
        self.files_made += 1;
        c_name(&name_while_written(name, self.restore, self.files_made))
    }

    fn file_again(
        &mut self,
        place: &Arc<Place<'a>>,
        folder: &Folder,
        name: &CStr,
        node: Node,
        path: PathBuf,
    ) -> Result<(), Stopped> {
        let Some(file) = self.shared.noted(&path, "open the file again", folder.file(name)) else {
            return Ok(());
        };
        let found = Stat::of_open(file.as_fd());
        match self.shared.noted(&path, "read the attributes", found) {
            Some(found) if found.kind == Kind::File && found.size == node.size => {
                self.send_pieces(place, file, name.to_owned(), node, path)
            }
            Some(_) => {
                self.shared.problem(&path, "has another size than in the snapshot".to_owned());
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn send_pieces(
        &mut self,
        place: &Arc<Place<'a>>,
        file: std::fs::File,
        written_as: CString,
        mut node: Node,
        path: PathBuf,
    ) -> Result<(), Stopped> {
        let content: Vec<Id> = node.content.take().unwrap_or_default();
        let size = node.size;
        let file = Arc::new(OpenFile {
            shared: self.shared,
            file,
            node,
            path,
            written_as,
            is_verified: self.is_verifying,
            has_problem: AtomicBool::new(false),
            missing: AtomicUsize::new(1),
            place: place.clone(),
        });
        let mut offset = 0;
        for id in content {
            let found = self.shared.index.find(BlobKind::Data, &id).map_err(|error| {
                self.shared.fail(error);
                Stopped
            });
            let Some(location) = found? else {
                if file.is_first_problem() {
                    let missing = TransferError::BlobMissing { kind: "data blob", id };
                    self.shared.damage(&file.path, &missing);
                }
                // Where the rest belongs cannot be known.
                return Ok(());
            };
            let length = location.packed.blob.plaintext_bytes();
            let piece = Piece { file: file.clone(), id, offset, length };
            offset += u64::from(length);
            file.missing.fetch_add(1, Ordering::AcqRel);
            self.pieces.send(piece).map_err(|_| Stopped)?;
        }
        if offset == size {
            file.is_one_less();
        } else if file.is_first_problem() {
            let reason = format!("its pieces have {offset} bytes, but it should have {size}");
            self.shared.problem(&file.path, reason);
        }
        Ok(())
    }

    /// Links, pipes, sockets and devices.
    fn other(&mut self, folder: &Folder, name: &CStr, node: &Node, path: &Path) {
        let made = make_room(folder, name).and_then(|()| make_other(folder, name, node));
        if self.shared.noted(path, "make it", made).is_some() {
            attributes::set_by_name(self.shared, folder, name, node, path);
            self.shared.count(|outcome| outcome.others += 1);
        }
        self.shared.progress(1, 0, Some(path));
    }
}

fn make_other(folder: &Folder, name: &CStr, node: &Node) -> io::Result<()> {
    let mode = Mode::from_bits_truncate(unix_mode_of_go(node.mode) & 0o700);
    let special = |kind| mknodat(folder, name, kind, mode, node.device as libc::dev_t);
    let made = match node.kind {
        NodeKind::Symlink => symlinkat(OsStr::from_bytes(&node.link_target), folder, name),
        NodeKind::Fifo => mkfifoat(folder, name, mode),
        NodeKind::BlockDevice => special(SFlag::S_IFBLK),
        NodeKind::CharDevice => special(SFlag::S_IFCHR),
        NodeKind::Socket => special(SFlag::S_IFSOCK),
        _ => return Err(io::Error::other("the snapshot does not say what it is")),
    };
    Ok(made?)
}
