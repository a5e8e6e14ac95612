//! Owner, mode, times and extended attributes of what was restored.
//!
//! The order matters: a change of owner clears setuid, an access list sets the mode, and everything
//! changes the time. What is right already is not set again: a file that nobody needed to touch
//! keeps its time of change, and the next backup passes it over. Whoever is not root cannot give
//! files away: that is counted, not complained about.

use super::shared::Shared;
use crate::posix::{Folder, Stat};
use engine_repository::tree::{ExtendedAttribute, go_mode_of_unix, unix_mode_of_go};
use engine_repository::{Node, NodeKind, Time};
use nix::fcntl::AtFlags;
use nix::sys::stat::{FchmodatFlags, Mode, UtimensatFlags, fchmod, fchmodat, futimens, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat};
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use xattr::FileExt;

/// Bits of a mode that are set, not its type.
const MODE_BITS: u32 = 0o7777;

/// Whether something may have extended attributes already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Had {
    /// It was made a moment ago; only its folder's access list can have given it some.
    None,
    /// It was there before.
    Some,
}

/// Gives an open file or folder what its node says. All of it is tried, whatever fails. `found` is
/// what it has now.
pub(super) fn set_of_open(
    shared: &Shared<'_>,
    file: &File,
    found: &Stat,
    node: &Node,
    path: &Path,
    had: Had,
) {
    let mut is_mode_sure = true;
    if (found.uid, found.gid) != (node.uid, node.gid) {
        let changed = fchown(file, Some(Uid::from_raw(node.uid)), Some(Gid::from_raw(node.gid)));
        shared.owner_set(path, changed.map_err(io::Error::from));
        is_mode_sure = false;
    }
    if had == Had::Some {
        is_mode_sure &= !remove_others(shared, file, node, path);
    }
    for attribute in &node.extended_attributes {
        let name = OsStr::from_bytes(&attribute.name);
        if had == Had::Some
            && file.get_xattr(name).is_ok_and(|value| value.as_ref() == Some(&attribute.value))
        {
            continue;
        }
        is_mode_sure = false;
        shared.attribute_set(path, name, file.set_xattr(name, &attribute.value));
    }
    if !is_mode_sure || found.mode & MODE_BITS != unix_mode_of_go(node.mode) & MODE_BITS {
        shared.mode_set(path, fchmod(file, mode(node)).map_err(io::Error::from));
    }
    if had == Had::None || found.mtime != (node.mtime.seconds, node.mtime.nanoseconds) {
        let (atime, mtime) = (stamp(&node.atime), stamp(&node.mtime));
        let set = futimens(file, &atime, &mtime).map_err(io::Error::from);
        shared.noted(path, "set the times", set);
    }
}

/// Gives a new file what another has, which is known to be right as far as it can be.
pub(super) fn copy(shared: &Shared<'_>, (from, has): (&File, &Stat), to: &File, path: &Path) {
    let mut node = Node::new("", NodeKind::File);
    (node.uid, node.gid) = (has.uid, has.gid);
    (_, node.mode) = go_mode_of_unix(has.mode);
    let (seconds, nanoseconds) = has.mtime;
    node.mtime = Time { seconds, nanoseconds, offset_seconds: 0 };
    node.atime = node.mtime;
    for name in from.list_xattr().into_iter().flatten() {
        if let Ok(Some(value)) = from.get_xattr(&name) {
            node.extended_attributes.push(ExtendedAttribute { name: name.into_vec(), value });
        }
    }
    let found = Stat::of_open(to.as_fd());
    if let Some(found) = shared.noted(path, "read the attributes", found) {
        set_of_open(shared, to, &found, &node, path, Had::None);
    }
}

/// Removes attributes that the node has not. Says whether there were some. What the system itself
/// puts on files may refuse to go.
fn remove_others(shared: &Shared<'_>, file: &File, node: &Node, path: &Path) -> bool {
    let Ok(names) = file.list_xattr() else { return false };
    let mut is_any_removed = false;
    for name in names {
        let is_known = |name: &OsStr| {
            node.extended_attributes.iter().any(|attribute| attribute.name == name.as_bytes())
        };
        if is_known(&name) {
            continue;
        }
        is_any_removed = true;
        let removed = file.remove_xattr(&name);
        if name.as_bytes().starts_with(b"user.") {
            shared.attribute_set(path, &name, removed);
        }
    }
    is_any_removed
}

/// Gives something that cannot be opened, a link, a pipe or a device, what its node says.
pub(super) fn set_by_name(
    shared: &Shared<'_>,
    folder: &Folder,
    name: &CStr,
    node: &Node,
    path: &Path,
) {
    let found = shared.noted(path, "read the attributes", folder.stat(name));
    if found.is_some_and(|found| (found.uid, found.gid) != (node.uid, node.gid)) {
        let (uid, gid) = (Some(Uid::from_raw(node.uid)), Some(Gid::from_raw(node.gid)));
        let changed = fchownat(folder, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW);
        shared.owner_set(path, changed.map_err(io::Error::from));
    }
    if node.kind != NodeKind::Symlink {
        let at = path_through(folder, name);
        for attribute in &node.extended_attributes {
            let name = OsStr::from_bytes(&attribute.name);
            shared.attribute_set(path, name, xattr::set(&at, name, &attribute.value));
        }
        let set = fchmodat(folder, name, mode(node), FchmodatFlags::FollowSymlink);
        shared.mode_set(path, set.map_err(io::Error::from));
    }
    let is_timed = |found: &Stat| found.mtime == (node.mtime.seconds, node.mtime.nanoseconds);
    if !found.as_ref().is_some_and(is_timed) {
        let (atime, mtime) = (stamp(&node.atime), stamp(&node.mtime));
        let set = utimensat(folder, name, &atime, &mtime, UtimensatFlags::NoFollowSymlink);
        shared.noted(path, "set the times", set.map_err(io::Error::from));
    }
}

/// A path to a name in an open folder, whatever happens to the folder's own path.
fn path_through(folder: &Folder, name: &CStr) -> PathBuf {
    let folder = format!("/proc/self/fd/{}", folder.as_fd().as_raw_fd());
    Path::new(&folder).join(OsStr::from_bytes(name.to_bytes()))
}

fn mode(node: &Node) -> Mode {
    Mode::from_bits_truncate(unix_mode_of_go(node.mode))
}

/// Where a system's time has 32 bits, times beyond them become the last ones it knows.
#[allow(clippy::unnecessary_fallible_conversions, clippy::useless_conversion)]
#[allow(deprecated)] // On musl it is to become 64-bit, which is what this asks for.
fn stamp(time: &Time) -> TimeSpec {
    let bounds = (libc::time_t::MIN, libc::time_t::MAX);
    let nearest = if time.seconds < 0 { bounds.0 } else { bounds.1 };
    let seconds = libc::time_t::try_from(time.seconds).unwrap_or(nearest);
    TimeSpec::new(seconds, libc::c_long::try_from(time.nanoseconds).unwrap_or(0))
}
