//! Places in the target: folders that are made when something is put into them.
//!
//! A [`Place`] is a folder of the snapshot. It is opened or made in its parent, itself reached the
//! same way, so that no link anywhere below the target is ever followed. When the last that uses a
//! place lets go of it, nothing will be put into it any more, and it gets its mode and times.

use super::attributes;
use super::shared::Shared;
use crate::posix::{Folder, c_name};
use engine_repository::Node;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// A folder of the target.
pub(super) struct Place<'a> {
    shared: &'a Shared<'a>,
    /// `None` for the target itself.
    inner: Option<Below<'a>>,
    path: PathBuf,
    opened: OnceLock<Option<Folder>>,
}

struct Below<'a> {
    parent: Arc<Place<'a>>,
    name: CString,
    /// What it becomes in the end; `None` where nothing is changed, as when verifying.
    node: Option<Node>,
}

impl<'a> Place<'a> {
    /// The target.
    pub(super) fn target(shared: &'a Shared<'a>, path: &Path, folder: Folder) -> Arc<Self> {
        let opened = OnceLock::from(Some(folder));
        Arc::new(Self { shared, inner: None, path: path.into(), opened })
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
    /// was told when it was tried first.
    pub(super) fn folder(&self) -> Option<&Folder> {
        self.opened.get_or_init(|| self.open()).as_ref()
    }

    fn open(&self) -> Option<Folder> {
        let Below { parent, name, node } = self.inner.as_ref()?;
        let folder = parent.folder()?;
        if node.is_some() {
            match mkdirat(folder, name.as_c_str(), Mode::from_bits_truncate(0o700)) {
                Ok(()) => {}
                Err(Errno::EEXIST) => {}
                Err(cause) => {
                    return self.shared.noted(&self.path, "make the folder", Err(cause.into()));
                }
            }
            self.shared.count(|outcome| outcome.dirs += 1);
        }
        self.shared.noted(&self.path, "open the folder", folder.folder(name))
    }
}

/// Makes a file that is new and ours alone, removing what had its name before.
pub(super) fn make_file(folder: &Folder, name: &CStr) -> io::Result<File> {
    let flags = OFlag::O_RDWR
        | OFlag::O_CREAT
        | OFlag::O_EXCL
        | OFlag::O_NOFOLLOW
        | OFlag::O_CLOEXEC
        | OFlag::O_LARGEFILE;
    let mode = Mode::from_bits_truncate(0o600);
    let made = match nix::fcntl::openat(folder, name, flags, mode) {
        Err(Errno::EEXIST) => {
            make_room(folder, name)?;
            nix::fcntl::openat(folder, name, flags, mode)
        }
        made => made,
    };
    Ok(File::from(made?))
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let node = self.inner.as_ref().and_then(|inner| inner.node.as_ref());
        if let (Some(node), Some(Some(folder))) = (node, self.opened.get()) {
            let file = self.shared.noted(&self.path, "open the folder", folder.as_file());
            if let Some(file) = file {
                attributes::set_of_open(self.shared, &file, node, &self.path);
            }
        }
    }
}

/// Removes what is there, unless it is a folder: what is in that, nobody asked to remove.
pub(super) fn make_room(folder: &Folder, name: &CStr) -> io::Result<()> {
    match unlinkat(folder, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(Errno::EISDIR) => Err(io::Error::other("a folder is in its place")),
        Err(cause) => Err(cause.into()),
    }
}
