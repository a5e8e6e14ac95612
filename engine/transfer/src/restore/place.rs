//! Places in the target: folders that are made when something is put into them.
//!
//! A [`Place`] is a folder of the snapshot. It is opened or made in its parent, itself reached the
//! same way, so that no link anywhere below the target is ever followed. What is no folder gives
//! way to one. When the last that uses a place lets go of it, nothing will be put into it any more,
//! and it gets its mode and times.

use super::attributes::{self, Had};
use super::incomplete::Leftovers;
use super::shared::Shared;
use super::{ItemAction, Overwrite};
use crate::posix::{Folder, Stat, c_name};
use engine_repository::Node;
use nix::errno::Errno;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use xattr::FileExt;

/// A folder of the target.
pub(super) struct Place<'a> {
    shared: &'a Shared<'a>,
    /// `None` for the target itself.
    inner: Option<Below<'a>>,
    path: PathBuf,
    opened: OnceLock<Option<Opened>>,
}

struct Below<'a> {
    parent: Arc<Place<'a>>,
    name: CString,
    /// What it becomes in the end; `None` where nothing is changed, as when verifying.
    node: Option<Node>,
}

struct Opened {
    folder: Folder,
    /// Nothing was in it when it was opened.
    is_empty: bool,
    /// What is made in it gets an access list from it.
    hands_down: bool,
    left: Leftovers,
}

impl<'a> Place<'a> {
    /// The target. `None` when it is not there, and nothing is to be made.
    pub(super) fn target(
        shared: &'a Shared<'a>,
        path: &Path,
        folder: Option<Folder>,
    ) -> io::Result<Arc<Self>> {
        let opened = folder.map(|folder| opened(shared, folder)).transpose()?;
        let opened = OnceLock::from(opened);
        Ok(Arc::new(Self { shared, inner: None, path: path.into(), opened }))
    }

    /// A folder in `parent`; nothing is made yet. `node` is given when it may be made.
    pub(super) fn below(
        parent: &Arc<Self>,
        name: &[u8],
        path: PathBuf,
        node: Option<Node>,
    ) -> Option<Arc<Self>> {
        let inner = Some(Below { parent: parent.clone(), name: c_name(name)?, node });
        Some(Arc::new(Self { shared: parent.shared, inner, path, opened: OnceLock::new() }))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The folder, opened, and made before when that is allowed. `None` when it cannot be, which
    /// was told when it was tried first; or when it is not there and nothing is to be made.
    pub(super) fn folder(&self) -> Option<&Folder> {
        self.opened().map(|opened| &opened.folder)
    }

    fn opened(&self) -> Option<&Opened> {
        self.opened.get_or_init(|| self.open()).as_ref()
    }

    /// Whether nothing was in it when it was opened, so that no name in it needs a look.
    pub(super) fn is_empty(&self) -> bool {
        self.opened().is_none_or(|opened| opened.is_empty)
    }

    /// What a file that is made in it may have.
    pub(super) fn had(&self) -> Had {
        match self.opened().is_some_and(|opened| opened.hands_down) {
            true => Had::Some,
            false => Had::None,
        }
    }

    /// What an earlier restore left in it.
    pub(super) fn left(&self) -> Option<&Leftovers> {
        self.opened().map(|opened| &opened.left)
    }

    /// The folder, if it is there; nothing is made and nothing told.
    pub(super) fn existing(&self) -> Option<Folder> {
        if let Some(opened) = self.opened.get() {
            return opened.as_ref()?.folder.folder(c".").ok();
        }
        let below = self.inner.as_ref()?;
        below.parent.existing()?.folder(&below.name).ok()
    }

    fn open(&self) -> Option<Opened> {
        let Below { parent, name, node } = self.inner.as_ref()?;
        let folder = parent.folder()?;
        let mut is_new = false;
        if node.is_some() {
            let made = self.make(folder, name);
            is_new = self.shared.noted(&self.path, "make the folder", made)?;
            self.shared.count(|outcome| outcome.dirs += 1);
        } else if self.shared.is_dry() {
            let found = folder.folder(name).and_then(|folder| opened(self.shared, folder));
            return found.ok();
        }
        let found = folder.folder(name).and_then(|folder| match is_new {
            true => {
                let hands_down = hands_down(&folder);
                Ok(Opened { folder, is_empty: true, hands_down, left: Leftovers::default() })
            }
            false => opened(self.shared, folder),
        });
        self.shared.noted(&self.path, "open the folder", found)
    }

    /// Whether it had to be made. What is there and no folder gives way, as with restic; unless
    /// nothing that is there may be touched.
    fn make(&self, folder: &Folder, name: &CStr) -> io::Result<bool> {
        let mode = Mode::from_bits_truncate(0o700);
        match mkdirat(folder, name, mode) {
            Ok(()) => return Ok(true),
            Err(Errno::EEXIST) => {}
            Err(cause) => return Err(cause.into()),
        }
        match folder.folder(name) {
            Ok(_) => return Ok(false),
            Err(cause) => match cause.raw_os_error().map(Errno::from_raw) {
                Some(Errno::ENOTDIR | Errno::ELOOP) => {}
                _ => return Err(cause),
            },
        }
        if self.shared.how.overwrite == Overwrite::Never {
            let reason = "what is in its place is no folder, and nothing is to be overwritten";
            return Err(io::Error::other(reason));
        }
        unlinkat(folder, name, UnlinkatFlags::NoRemoveDir)?;
        self.shared.replaced();
        mkdirat(folder, name, mode)?;
        Ok(true)
    }
}

fn opened(shared: &Shared<'_>, folder: Folder) -> io::Result<Opened> {
    let (left, is_empty) = shared.incomplete.left_in(&folder)?;
    let hands_down = hands_down(&folder);
    Ok(Opened { folder, is_empty, hands_down, left })
}

/// Whether a folder has an access list for whatever is made in it.
fn hands_down(folder: &Folder) -> bool {
    let list = folder.as_file().and_then(|file| file.get_xattr("system.posix_acl_default"));
    list.is_ok_and(|list| list.is_some())
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let node = self.inner.as_ref().and_then(|inner| inner.node.as_ref());
        if let (Some(node), Some(Some(opened))) = (node, self.opened.get()) {
            let opened = opened.folder.as_file().and_then(|file| {
                let found = Stat::of_open(file.as_fd())?;
                Ok((file, found))
            });
            let opened = self.shared.noted(&self.path, "open the folder", opened);
            if let Some((file, found)) = opened {
                attributes::set_of_open(self.shared, &file, &found, node, &self.path, Had::Some);
            }
            self.shared.item(ItemAction::Restored, &self.path, 0);
        }
    }
}
