//! What the file system of the target can do.
//!
//! A volume of a NAS can do everything a snapshot asks for, and is believed to. On a stick or a
//! share (FAT, exFAT, NTFS, SMB, NFS) it is tried, with two empty files that are removed at once:
//! what cannot be is counted then and told once, not complained about for every file. Only the
//! target itself is tried, not what is mounted below it.

use super::incomplete::Incomplete;
use crate::posix::{Folder, c_name};
use nix::sys::stat::{Mode, fchmod};
use nix::sys::statfs::{BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, FsType, TMPFS_MAGIC, fstatfs};
use nix::unistd::{Gid, Uid, fchown};
use std::io;
use std::os::fd::AsFd;

/// File systems that can do everything.
const ABLE: [FsType; 3] = [EXT4_SUPER_MAGIC, BTRFS_SUPER_MAGIC, TMPFS_MAGIC];
/// The file that is made; it is called so besides what all unfinished files are called.
const TRIED: &[u8] = b"Holdfast tries what this drive can do";
/// What names on drives of Windows cannot have, and a byte that is no UTF-8.
const ODD: &[u8] = b"Holdfast tries \"*:<>?\\|\xff";

/// What the file system of the target can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Abilities {
    /// Root can give a file to somebody.
    pub(super) has_owners: bool,
    /// A file can have any mode.
    pub(super) has_modes: bool,
    /// Two names can differ in upper and lower case alone.
    pub(super) tells_case: bool,
    /// A name can have any byte but a slash.
    pub(super) takes_all_names: bool,
}

impl Abilities {
    /// Those of a file system that can do everything.
    pub(super) const ALL: Self =
        Self { has_owners: true, has_modes: true, tells_case: true, takes_all_names: true };

    /// Those of a folder's file system. Where nothing can be tried, nothing is known to be missing.
    pub(super) fn of(folder: &Folder, incomplete: &Incomplete) -> Self {
        let kind = fstatfs(folder.as_fd()).map(|found| found.filesystem_type());
        match kind.is_ok_and(|kind| ABLE.contains(&kind)) {
            true => Self::ALL,
            false => tried(folder, incomplete).unwrap_or(Self::ALL),
        }
    }
}

fn tried(folder: &Folder, incomplete: &Incomplete) -> io::Result<Abilities> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    let name = incomplete.name_of(TRIED).ok_or_else(invalid)?;
    let other_case = c_name(&name.to_bytes().to_ascii_lowercase()).ok_or_else(invalid)?;
    let odd = incomplete.name_of(ODD).ok_or_else(invalid)?;
    let file = folder.make_file(&name, 0o600)?;
    let abilities = Abilities {
        tells_case: folder.stat(&other_case).is_err(),
        has_owners: fchown(&file, Some(Uid::from_raw(1)), Some(Gid::from_raw(1))).is_ok(),
        has_modes: fchmod(&file, Mode::from_bits_truncate(0o7600)).is_ok(),
        takes_all_names: folder.make_file(&odd, 0o600).is_ok(),
    };
    if abilities.takes_all_names {
        folder.unlink(&odd)?;
    }
    folder.unlink(&name)?;
    Ok(abilities)
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine_repository::Id;

    #[test]
    fn a_disk_of_this_machine_can_do_everything_and_nothing_stays_of_trying_it() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::at(place.path()).unwrap();
        let incomplete = Incomplete::new(Id::of(b"repository"), Id::of(b"snapshot"));
        let expected = Abilities { has_owners: nix::unistd::geteuid().is_root(), ..Abilities::ALL };
        assert_eq!(tried(&folder, &incomplete).unwrap(), expected);
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
    }
}
