//! Removing what the snapshot has not, where the owner asked for that.
//!
//! Links are removed, never followed; other file systems that are mounted below are left alone.

use super::ItemAction;
use super::shared::Shared;
use crate::Repository;
use crate::names::{Cursor, Finder, Names, names_of};
use crate::posix::{Folder, Kind, Stat, joined};
use nix::errno::Errno;
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::CStr;
use std::io;
use std::path::Path;

/// What was in a folder when its restore began.
pub(super) struct Before {
    names: Names,
    is_expected: Vec<bool>,
    finder: Finder,
}

impl Before {
    pub(super) fn of(folder: &Folder, repository: &Repository) -> io::Result<Self> {
        let names = names_of(folder, repository, &|| false)?;
        let is_expected = vec![false; names.len()];
        Ok(Self { names, is_expected, finder: Finder::default() })
    }

    /// The snapshot has this name. After an error nothing of it is to be believed.
    pub(super) fn expect(&mut self, name: &[u8]) -> io::Result<()> {
        if let Some(at) = self.finder.place(&self.names, name).map_err(io::Error::other)? {
            self.is_expected[at] = true;
        }
        Ok(())
    }
}

/// Removes what a folder had and the snapshot has not, as far as it is `wanted`. What is ours and
/// not whole yet stays: a file may be waiting for it.
pub(super) fn remove_unexpected(
    shared: &Shared<'_>,
    folder: &Folder,
    path: &Path,
    before: &Before,
    wanted: &dyn Fn(&CStr) -> bool,
) {
    let mut cursor = Cursor::default();
    for is_expected in &before.is_expected {
        let next = before.names.next(&mut cursor).map_err(io::Error::other);
        let Some(Some(name)) = shared.noted(path, "read the folder", next) else { return };
        if shared.is_stopped() {
            return;
        }
        if *is_expected {
            continue;
        }
        if shared.incomplete.is_like_ours(name.to_bytes()) || !wanted(name) {
            continue;
        }
        let path = joined(path, name);
        let removed = remove_all(shared, folder, name, &path);
        shared.noted(&path, "delete it", removed);
    }
}

/// Removes a name and whatever is below it.
fn remove_all(shared: &Shared<'_>, folder: &Folder, name: &CStr, path: &Path) -> io::Result<()> {
    let found = match folder.stat(name) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if found.kind == Kind::Folder {
        if found.device_id != folder.own_stat()?.device_id {
            return Err(io::Error::other("another file system is mounted there"));
        }
        let inner = folder.folder(name)?;
        let names = names_of(&inner, shared.repository, &|| false)?;
        let mut cursor = Cursor::default();
        while let Some(below) = names.next(&mut cursor).map_err(io::Error::other)? {
            if shared.is_stopped() {
                return Ok(());
            }
            remove_all(shared, &inner, below, &joined(path, below))?;
        }
        if !shared.is_dry() {
            unlinkat(folder, name, UnlinkatFlags::RemoveDir)?;
        }
    } else if !shared.is_dry() {
        folder.unlink(name)?;
    }
    shared.count(|outcome| outcome.files_deleted += 1);
    shared.item(ItemAction::Deleted, path, 0);
    Ok(())
}

/// Makes way for something that is no folder: an empty folder goes; one that is not empty only
/// where the owner asked to delete what the snapshot has not.
pub(super) fn clear_folder(
    shared: &Shared<'_>,
    folder: &Folder,
    name: &CStr,
    found: &Stat,
    path: &Path,
) -> io::Result<()> {
    if found.kind != Kind::Folder {
        return Ok(());
    }
    if shared.how.deletes {
        remove_all(shared, folder, name, path)?;
        shared.replaced();
        return Ok(());
    }
    match unlinkat(folder, name, UnlinkatFlags::RemoveDir) {
        Ok(()) => {
            shared.replaced();
            Ok(())
        }
        Err(Errno::ENOTEMPTY | Errno::EEXIST) => {
            Err(io::Error::other("a folder that is not empty is in its place"))
        }
        Err(cause) => Err(cause.into()),
    }
}
