//! The walk through a snapshot: makes folders, links and devices itself, and hands the pieces of
//! files to the workers. A second walk, when asked for, compares instead.

use super::attributes;
use super::chosen::Chosen;
use super::file::{Aim, Base, MENDED_BYTES_MIN, Progress, RestoredFile};
use super::links::{self, Answer, Group, Name};
use super::naming::Naming;
use super::pieces::{Gatherer, Piece};
use super::place::Place;
use super::remove::{Before, clear_folder, remove_unexpected};
use super::shared::{Shared, Stopped};
use super::{ItemAction, Overwrite, special};
use crate::TransferError;
use crate::blobs::{Fetcher, TreeNodes, find};
use crate::posix::{Folder, Kind, Stat, c_name};
use engine_repository::{BlobKind, Hasher, Id, Node, NodeKind};
use nix::fcntl::renameat;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::{CStr, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// One walk.
pub(super) struct Visitor<'a> {
    pub(super) shared: &'a Shared<'a>,
    pub(super) includes: &'a Chosen,
    pub(super) fetcher: Fetcher<'a>,
    pub(super) pieces: Gatherer<'a>,
    pub(super) target: Arc<Place<'a>>,
    pub(super) aim: Aim,
    /// Files with several names, until all their names were seen.
    pub(super) groups: HashMap<Same, Seen<'a>>,
}

/// What names of one file have in common: device, inode and the sum of the content. An inode may
/// have been given to another file while the backup ran; so nobody's content is taken for
/// another's.
pub(super) type Same = (u64, u64, Id);

/// A file with several names, of which the first was seen.
pub(super) struct Seen<'a> {
    /// Where in the target its first name is.
    first: PathBuf,
    group: Arc<Group<'a>>,
    /// Names that are still to come, if all are in the snapshot.
    left: u64,
}

/// One folder of the snapshot, while it is visited.
struct Visit<'a> {
    nodes: TreeNodes,
    /// In the snapshot.
    path: PathBuf,
    place: Arc<Place<'a>>,
    /// Whether a pattern fits it or one above.
    is_included: bool,
    naming: Naming,
    /// What was in it, when what the snapshot has not is to be removed.
    before: Option<Before>,
}

/// A thing to be restored, and where.
struct Wanted<'v, 'a> {
    place: &'v Arc<Place<'a>>,
    name: &'v CStr,
    path: PathBuf,
    /// What has its name now.
    found: Option<Stat>,
}

impl<'a> Visitor<'a> {
    /// Walks through everything below a tree.
    pub(super) fn visit(&mut self, root: Id) -> Result<(), Stopped> {
        let place = self.target.clone();
        let is_included = self.includes.is_everything();
        let first = self.enter(place, "/".into(), Some(root), is_included);
        let mut open = Vec::from_iter(first);
        while let Some(visit) = open.last_mut() {
            if self.shared.is_stopped() {
                return Err(Stopped);
            }
            let node = match visit.nodes.next() {
                Some(Ok(node)) => node,
                Some(Err(error)) => {
                    self.shared.damage(visit.place.path(), error);
                    open.pop();
                    continue;
                }
                None => {
                    self.leave(visit);
                    open.pop();
                    continue;
                }
            };
            let path = visit.path.join(OsStr::from_bytes(&node.name));
            let is_included = visit.is_included || self.includes.fit(&path);
            let node = named(self.shared, visit, node, is_included && self.aim == Aim::Write);
            let expected = visit.before.as_mut().map(|before| before.expect(&node.name));
            if let Some(Err(cause)) = expected {
                // Nothing of what is there may be removed then.
                visit.before = None;
                self.shared.noted::<()>(visit.place.path(), "read the folder", Err(cause));
            }
            let place = visit.place.clone();
            if node.kind == NodeKind::Directory {
                if !is_included && !self.includes.may_be_below(&path) {
                    continue;
                }
                open.extend(self.folder(&place, node, path, is_included));
            } else if is_included {
                self.entry(&place, node)?;
            }
        }
        self.pieces.flush()
    }

    fn folder(
        &mut self,
        parent: &Arc<Place<'a>>,
        node: Node,
        path: PathBuf,
        is_included: bool,
    ) -> Option<Visit<'a>> {
        let at = parent.path().join(OsStr::from_bytes(&node.name));
        let (name, subtree) = (node.name.clone(), node.subtree);
        let node = (self.aim == Aim::Write).then_some(node);
        let place = Place::below(parent, &name, at, node)?;
        if is_included {
            let is_there = place.folder().is_some();
            if self.aim == Aim::Tell {
                self.shared.count(|outcome| outcome.dirs += 1);
                self.shared.item(ItemAction::Restored, place.path(), 0);
            } else if !is_there {
                return None;
            }
        }
        self.enter(place, path, subtree, is_included)
    }

    /// Begins with what is in a folder.
    fn enter(
        &mut self,
        place: Arc<Place<'a>>,
        path: PathBuf,
        tree: Option<Id>,
        is_included: bool,
    ) -> Option<Visit<'a>> {
        let Some(tree) = tree else {
            self.shared.problem(place.path(), "the snapshot lacks its content".to_owned());
            return None;
        };
        let before = (self.shared.how.deletes && self.aim != Aim::Verify)
            .then(|| place.existing())
            .flatten()
            .map(|folder| Before::of(&folder, self.shared.repository));
        let before =
            before.and_then(|names| self.shared.noted(place.path(), "read the folder", names));
        if is_included && self.aim == Aim::Write {
            self.adopt_leftovers(&place, &tree);
        }
        match self.fetcher.tree(&tree) {
            Ok(nodes) => {
                let naming = self.naming(&tree);
                Some(Visit { nodes, path, place, is_included, naming, before })
            }
            Err(error) => {
                match path.parent() {
                    Some(_) => self.shared.damage(place.path(), error),
                    // Without the root there is nothing.
                    None => self.shared.fail(error),
                }
                None
            }
        }
    }

    fn naming(&mut self, tree: &Id) -> Naming {
        Naming::of(self.shared.abilities, || {
            let nodes = self.fetcher.tree(tree).ok()?;
            Some(nodes.map_while(Result::ok).map(|node| node.name))
        })
    }

    /// What a restore of another snapshot left of a file of this folder is this one's to go on
    /// with. A leftover that is in the snapshot itself is no leftover.
    fn adopt_leftovers(&mut self, place: &Place<'a>, tree: &Id) {
        let (Some(folder), Some(left)) = (place.folder(), place.left()) else { return };
        if left.others.is_empty() {
            return;
        }
        let Ok(nodes) = self.fetcher.tree(tree) else { return };
        let mut adopted: Vec<_> = left.others.iter().map(|other| (other, false)).collect();
        for node in nodes {
            // Nothing of a damaged tree is believed.
            let Ok(node) = node else { return };
            adopted.retain(|((left_as, _), _)| left_as.to_bytes() != node.name);
            for ((_, own), is_wanted) in &mut adopted {
                *is_wanted |= *own == node.name && node.kind == NodeKind::File;
            }
        }
        for ((left_as, own), _) in adopted.iter().filter(|(_, is_wanted)| *is_wanted) {
            let name = self.shared.incomplete.name_of(own);
            if let Some(name) = name.filter(|name| folder.stat(name).is_err()) {
                let _ = renameat(folder, left_as.as_c_str(), folder, name.as_c_str());
            }
        }
    }

    /// Everything of a folder was seen.
    fn leave(&self, visit: &Visit<'a>) {
        let Some(before) = &visit.before else { return };
        let Some(folder) = visit.place.existing() else { return };
        let wanted = |name: &CStr| {
            let path = visit.path.join(OsStr::from_bytes(name.to_bytes()));
            (visit.is_included || self.includes.fit(&path))
                && !visit.naming.may_be_known(name.to_bytes())
        };
        remove_unexpected(self.shared, &folder, visit.place.path(), before, &wanted);
    }

    fn entry(&mut self, place: &Arc<Place<'a>>, node: Node) -> Result<(), Stopped> {
        let path = place.path().join(OsStr::from_bytes(&node.name));
        let Some(name) = c_name(&node.name) else { return Ok(()) };
        let folder = place.folder();
        if folder.is_none() && self.aim != Aim::Tell {
            return Ok(());
        }
        let found = match folder.filter(|_| !place.is_empty()).map(|folder| folder.stat(&name)) {
            Some(Err(cause)) if cause.kind() != io::ErrorKind::NotFound => {
                self.shared.noted::<()>(&path, "look at it", Err(cause));
                return Ok(());
            }
            found => found.and_then(Result::ok),
        };
        let wanted = Wanted { place, name: &name, path, found };
        if self.aim == Aim::Verify {
            return self.entry_again(wanted, node);
        }
        let (group, first) = self.group(&node, &wanted.path);
        if wanted.found.is_some_and(|found| !self.overwrites(&found, &node)) {
            // Another name of a file has no bytes of its own.
            let bytes = if first.is_none() { node.size } else { 0 };
            self.pass_over(&wanted, bytes, group.filter(|_| first.is_none()));
            return Ok(());
        }
        match (node.kind, group, first) {
            (_, Some(group), Some(first)) => self.another_name(wanted, &node, &group, &first),
            (NodeKind::File, group, _) => self.file(wanted, node, group),
            (_, group, _) => {
                self.special(&wanted, &node, group);
                Ok(())
            }
        }
    }

    fn overwrites(&self, found: &Stat, node: &Node) -> bool {
        match self.shared.how.overwrite {
            Overwrite::Always | Overwrite::IfChanged => true,
            Overwrite::IfNewer => (node.mtime.seconds, node.mtime.nanoseconds) > found.mtime,
            Overwrite::Never => false,
        }
    }

    /// Leaves what is there as it is.
    fn pass_over(&self, wanted: &Wanted<'_, 'a>, bytes: u64, first: Option<Arc<Group<'a>>>) {
        self.shared.unchanged(&wanted.path, bytes);
        self.shared.pass_over(&wanted.path);
        self.drop_leftover(wanted);
        if let Some(group) = first {
            group.is_settled(true);
        }
        self.shared.progress(1, bytes, Some(&wanted.path));
    }

    /// What an earlier restore left of it is of no use any more.
    fn drop_leftover(&self, wanted: &Wanted<'_, 'a>) {
        let left = wanted.place.left().is_some_and(|left| !left.ours.is_empty());
        if left && self.aim == Aim::Write {
            let name = self.shared.incomplete.name_of(wanted.name.to_bytes());
            if let Some((folder, name)) = wanted.place.folder().zip(name) {
                let _ = folder.unlink(&name);
            }
        }
    }

    /// Of a file with several names, all of them together; and where the first is, when this is
    /// another one.
    fn group(&mut self, node: &Node, path: &Path) -> (Option<Arc<Group<'a>>>, Option<PathBuf>) {
        if node.links < 2 || node.inode == 0 {
            return (None, None);
        }
        match self.groups.entry((node.device_id, node.inode, sum_of_content(node))) {
            Entry::Vacant(free) => {
                let (group, left) = (Arc::<Group<'a>>::default(), node.links - 1);
                free.insert(Seen { first: path.to_owned(), group: group.clone(), left });
                (Some(group), None)
            }
            Entry::Occupied(mut seen) => {
                seen.get_mut().left -= 1;
                if seen.get().left > 0 {
                    return (Some(seen.get().group.clone()), Some(seen.get().first.clone()));
                }
                let seen = seen.remove();
                (Some(seen.group), Some(seen.first))
            }
        }
    }

    fn another_name(
        &mut self,
        wanted: Wanted<'_, 'a>,
        node: &Node,
        group: &Group<'a>,
        first: &Path,
    ) -> Result<(), Stopped> {
        self.shared.progress(1, node.size, Some(&wanted.path));
        if self.aim == Aim::Tell {
            self.shared.done(ItemAction::Restored, &wanted.path);
            return Ok(());
        }
        self.drop_leftover(&wanted);
        let (place, name) = (wanted.place.clone(), wanted.name.to_owned());
        self.pieces.enters(&place, true)?;
        match group.join(Name { place, name, path: wanted.path }) {
            Answer::Waits => {}
            Answer::Never(name) => links::never(self.shared, &name),
            Answer::Link(name) => match self.reach(first) {
                Ok((Some(folder), first)) => {
                    links::link(self.shared, Ok((&folder, &first)), &name);
                }
                Ok((None, first)) => {
                    let folder = self.target.folder().ok_or(io::ErrorKind::NotFound.into());
                    links::link(self.shared, folder.map(|folder| (folder, &*first)), &name);
                }
                Err(cause) => links::link(self.shared, Err(cause), &name),
            },
        }
        Ok(())
    }

    /// The folder of something in the target, reached without following links; `None` for the
    /// target itself.
    fn reach(&self, path: &Path) -> io::Result<(Option<Folder>, std::ffi::CString)> {
        let below = path.strip_prefix(self.target.path()).map_err(io::Error::other)?;
        let not_there = || io::Error::from(io::ErrorKind::NotFound);
        let target = self.target.folder().ok_or_else(not_there)?;
        let name = below.file_name().and_then(|name| c_name(name.as_bytes()));
        let name = name.ok_or_else(not_there)?;
        let mut within: Option<Folder> = None;
        for component in below.parent().into_iter().flat_map(Path::components) {
            let Component::Normal(step) = component else { return Err(not_there()) };
            let step = c_name(step.as_bytes()).ok_or_else(not_there)?;
            within = Some(within.as_ref().unwrap_or(target).folder(&step)?);
        }
        Ok((within, name))
    }

    fn file(
        &mut self,
        wanted: Wanted<'_, 'a>,
        node: Node,
        group: Option<Arc<Group<'a>>>,
    ) -> Result<(), Stopped> {
        let is_small = node.content.as_ref().is_none_or(|content| content.len() < 2);
        self.pieces.enters(wanted.place, is_small)?;
        if !self.makes_way(&wanted) {
            if let Some(group) = group {
                group.is_settled(false);
            }
            return Ok(());
        }
        let mut base = match wanted.found.filter(|found| found.kind == Kind::File) {
            // A file with other names, too, is not mended: they may belong to somebody else.
            Some(stat) => {
                let is_large = !is_small && node.size >= MENDED_BYTES_MIN;
                let is_mendable = is_large && stat.links == 1 && self.is_all_known(&node);
                Base::Found { stat, is_mendable }
            }
            None => Base::Nothing,
        };
        let is_trusted = self.shared.how.overwrite == Overwrite::IfChanged
            && matches!(base, Base::Found { stat, .. } if is_as_before(&stat, &node));
        if is_trusted {
            self.drop_leftover(&wanted);
        } else if self.is_left(wanted.place, &node.name) {
            base = Base::Leftover;
        }
        let file = self.restored_file(&wanted, node, base, group);
        match is_trusted {
            true => {
                file.is_one_less();
                self.shared.progress(0, file.node.size, Some(&file.path));
                Ok(())
            }
            false => self.send_pieces(file),
        }
    }

    /// Whether an earlier restore left something of a file, under our name or adopted.
    fn is_left(&self, place: &Place<'a>, name: &[u8]) -> bool {
        let Some(left) = place.left() else { return false };
        let is_ours = !left.ours.is_empty() && {
            let name = self.shared.incomplete.name_of(name);
            name.is_some_and(|name| left.ours.contains(&name))
        };
        is_ours || left.others.iter().any(|(_, own)| own == name)
    }

    /// Whether a file can be put where a folder is.
    fn makes_way(&self, wanted: &Wanted<'_, 'a>) -> bool {
        let (Some(found), Some(folder)) = (wanted.found, wanted.place.folder()) else {
            return true;
        };
        if self.aim == Aim::Tell {
            return true;
        }
        if found.kind != Kind::File && found.kind != Kind::Folder {
            self.shared.replaced();
        }
        let cleared = clear_folder(self.shared, folder, wanted.name, &found, &wanted.path);
        self.shared.noted(&wanted.path, "make the file", cleared).is_some()
    }

    /// Whether the index knows all pieces of a file, and they make up its size: before anything
    /// that is there is changed.
    fn is_all_known(&self, node: &Node) -> bool {
        let pieces = node.content.iter().flatten();
        let sizes = pieces.map(|id| {
            let location = find(self.shared.index, BlobKind::Data, id);
            location.map(|location| u64::from(location.packed.blob.plaintext_bytes()))
        });
        sizes.sum::<Result<u64, TransferError>>().is_ok_and(|bytes| bytes == node.size)
    }

    fn restored_file(
        &self,
        wanted: &Wanted<'_, 'a>,
        node: Node,
        base: Base,
        group: Option<Arc<Group<'a>>>,
    ) -> RestoredFile<'a> {
        RestoredFile {
            shared: self.shared,
            node,
            path: wanted.path.clone(),
            aim: self.aim,
            base,
            group,
            place: wanted.place.clone(),
            progress: Progress::begun(),
        }
    }

    fn entry_again(&mut self, wanted: Wanted<'_, 'a>, node: Node) -> Result<(), Stopped> {
        let (_, first) = self.group(&node, &wanted.path);
        // Another name of a file is the file, unless it had to become a copy.
        let is_copy = wanted.found.is_some_and(|found| found.links == 1);
        let is_wanted = node.kind == NodeKind::File && (first.is_none() || is_copy);
        if !is_wanted || self.shared.was_passed_over(&wanted.path) {
            self.shared.progress(1, node.size, Some(&wanted.path));
            return Ok(());
        }
        match wanted.found {
            Some(stat) if stat.kind == Kind::File && stat.size == node.size => {
                let base = Base::Found { stat, is_mendable: false };
                self.pieces.enters(wanted.place, false)?;
                self.send_pieces(self.restored_file(&wanted, node, base, None))
            }
            Some(_) => {
                let reason = "is no file of the size it has in the snapshot";
                self.shared.problem(&wanted.path, reason.to_owned());
                Ok(())
            }
            None => {
                self.shared.problem(&wanted.path, "is not there".to_owned());
                Ok(())
            }
        }
    }

    fn send_pieces(&mut self, mut file: RestoredFile<'a>) -> Result<(), Stopped> {
        let content: Vec<Id> = file.node.content.take().unwrap_or_default();
        let file = Arc::new(file);
        let mut offset = 0;
        for id in content {
            let location = match find(self.shared.index, BlobKind::Data, &id) {
                Ok(location) => location,
                Err(error) if !matches!(error, TransferError::BlobMissing { .. }) => {
                    self.shared.fail(error);
                    return Err(Stopped);
                }
                Err(error) => {
                    if file.is_first_problem() {
                        self.shared.damage(&file.path, error);
                    }
                    // Where the rest belongs cannot be known.
                    return Ok(());
                }
            };
            let length = u64::from(location.packed.blob.plaintext_bytes());
            let piece = Piece { file: file.clone(), offset, location };
            offset += length;
            if file.base == Base::Nothing && self.aim != Aim::Tell && self.shared.is_zeros(&id) {
                self.shared.progress(0, length, Some(&file.path));
                continue;
            }
            file.is_one_more();
            self.pieces.push(piece)?;
        }
        if offset == file.node.size {
            file.is_one_less();
        } else if file.is_first_problem() {
            let size = file.node.size;
            let reason = format!("its pieces have {offset} bytes, but it should have {size}");
            self.shared.problem(&file.path, reason);
        }
        Ok(())
    }

    /// Links, pipes, sockets and devices.
    fn special(&mut self, wanted: &Wanted<'_, 'a>, node: &Node, group: Option<Arc<Group<'a>>>) {
        let path = &wanted.path;
        if self.aim == Aim::Tell {
            self.shared.done(ItemAction::Restored, path);
        } else if let Some(folder) = wanted.place.folder() {
            self.drop_leftover(wanted);
            let at = (folder, wanted.name);
            let made = special::make(self.shared, at, path, wanted.found.as_ref(), node);
            let made = self.shared.noted(path, "make it", made);
            if made.is_some() {
                attributes::set_by_name(self.shared, folder, wanted.name, node, path);
                self.shared.done(ItemAction::Restored, path);
            }
            if let Some(group) = group {
                group.is_settled(made.is_some());
            }
        }
        self.shared.progress(1, 0, Some(path));
    }
}

/// A node with the name it has in the target.
fn named(shared: &Shared<'_>, visit: &mut Visit<'_>, mut node: Node, is_told: bool) -> Node {
    let Some((name, reason)) = visit.naming.give(&node.name) else { return node };
    if is_told {
        let path = visit.place.path().join(OsStr::from_bytes(&node.name));
        let name = String::from_utf8_lossy(&name);
        shared.problem(&path, format!("is called {name} here: {reason}"));
    }
    node.name = name;
    node
}

/// The same for no two nodes of which one's content would be wrong for the other.
fn sum_of_content(node: &Node) -> Id {
    let mut hasher = Hasher::new();
    hasher.update(format!("{:?} {} ", node.kind, node.device).as_bytes());
    hasher.update(&node.link_target);
    for id in node.content.iter().flatten() {
        hasher.update(id.as_bytes());
    }
    hasher.finish()
}

/// Whether size and time are those of the snapshot.
fn is_as_before(found: &Stat, node: &Node) -> bool {
    found.size == node.size && found.mtime == (node.mtime.seconds, node.mtime.nanoseconds)
}
