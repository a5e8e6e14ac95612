//! Symlinks, pipes, sockets and devices: what is not a folder and has no content.

use super::remove::clear_folder;
use super::shared::Shared;
use crate::posix::{Folder, Kind, Stat};
use engine_repository::tree::unix_mode_of_go;
use engine_repository::{Node, NodeKind};
use nix::errno::Errno;
use nix::fcntl::renameat;
use nix::sys::stat::{Mode, SFlag, mknodat};
use nix::unistd::{mkfifoat, symlinkat};
use std::ffi::{CStr, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Makes one in a folder, unless it is there already. What has its name (`found`) keeps it until
/// there is something else to have it.
pub(super) fn make(
    shared: &Shared<'_>,
    (folder, name): (&Folder, &CStr),
    path: &Path,
    found: Option<&Stat>,
    node: &Node,
) -> io::Result<()> {
    let Some(found) = found else { return make_anew(folder, name, node) };
    if is_same(folder, name, found, node) {
        return Ok(());
    }
    clear_folder(shared, folder, name, found, path)?;
    if found.kind == Kind::File {
        shared.replaced();
    }
    let unfinished = shared.incomplete.name_of(&node.name).ok_or(io::ErrorKind::InvalidInput)?;
    folder.unlink(&unfinished)?;
    make_anew(folder, &unfinished, node)?;
    Ok(renameat(folder, unfinished.as_c_str(), folder, name)?)
}

/// Whether what is there is what is wanted already.
fn is_same(folder: &Folder, name: &CStr, found: &Stat, node: &Node) -> bool {
    match node.kind {
        NodeKind::Symlink => {
            let target = folder.link_target(name);
            target.is_ok_and(|target| target.as_bytes() == node.link_target)
        }
        NodeKind::Fifo => found.kind == Kind::Pipe,
        _ => false,
    }
}

fn make_anew(folder: &Folder, name: &CStr, node: &Node) -> io::Result<()> {
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
    match made {
        // A driver that made an empty file of it and then wondered (exFAT by FUSE); a disk that
        // fails will say so again at the next file.
        Err(Errno::EIO) => {
            let _ = folder.unlink(name);
            Err(io::Error::other("the file system knows no such thing"))
        }
        made => Ok(made?),
    }
}
