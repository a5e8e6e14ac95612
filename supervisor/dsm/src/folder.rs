//! A folder held open, in which names are single parts and no link is ever followed.
//!
//! The package's user can write below its own folders, and hooks may run as root: a link planted
//! there must never lead a write or a delete elsewhere. Every step is `openat` with `O_NOFOLLOW`
//! from a descriptor, so a link swapped in between two steps is refused as well.
//!
//! Files are written whole: a temporary file, `fsync`, `rename`, `fsync` of the folder. A power cut
//! leaves the old file or the new one.

use crate::{DsmError, Result};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat, renameat};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const FOLDER_FLAGS: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC).union(OFlag::O_NOFOLLOW);

/// What a name in a folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing there.
    Missing,
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A link, a device, a socket, a pipe.
    Other,
}

/// A folder held open.
#[derive(Debug)]
pub struct Folder {
    descriptor: OwnedFd,
    path: PathBuf,
}

impl Folder {
    /// Opens a folder of DSM's own choosing: links *on the way* are DSM's and are followed, the
    /// last part is not. Use [`crate::Dsm::find`] first.
    pub fn open(path: &Path) -> Result<Self> {
        let descriptor = nix::fcntl::open(path, FOLDER_FLAGS, Mode::empty())
            .map_err(|errno| refused("open the folder", path, errno))?;
        Ok(Self { descriptor, path: path.to_owned() })
    }

    /// Opens such a folder, making it and its parents when they are missing (mode 0755).
    pub fn open_or_make(path: &Path) -> Result<Self> {
        std::fs::create_dir_all(path).map_err(|error| DsmError::io("make", path, error))?;
        Self::open(path)
    }

    /// Where the folder was when it was opened. For messages, and for a daemon's arguments.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A folder inside this one; a link in its place is refused.
    pub fn inner(&self, name: &str) -> Result<Self> {
        self.inner_os(OsStr::new(name))
    }

    pub(crate) fn inner_os(&self, name: &OsStr) -> Result<Self> {
        let path = self.child(name)?;
        let descriptor = openat(&self.descriptor, name, FOLDER_FLAGS, Mode::empty())
            .map_err(|errno| refused("open the folder", &path, errno))?;
        Ok(Self { descriptor, path })
    }

    /// A folder inside this one, made with `mode` when it is missing.
    pub fn inner_or_make(&self, name: &str, mode: u32) -> Result<Self> {
        let path = self.child(OsStr::new(name))?;
        match mkdirat(&self.descriptor, name, mode_of(mode)) {
            Ok(()) | Err(Errno::EEXIST) => self.inner(name),
            Err(errno) => Err(refused("make", &path, errno)),
        }
    }

    /// Sets the folder's own mode.
    pub fn set_mode(&self, mode: u32) -> Result<()> {
        fchmod(&self.descriptor, mode_of(mode))
            .map_err(|errno| refused("set the mode of", &self.path, errno))
    }

    /// What `name` is, without following it.
    pub fn kind(&self, name: &str) -> Result<Kind> {
        self.kind_os(OsStr::new(name))
    }

    pub(crate) fn kind_os(&self, name: &OsStr) -> Result<Kind> {
        match std::fs::symlink_metadata(self.way_to(name)) {
            Ok(meta) if meta.is_file() => Ok(Kind::File),
            Ok(meta) if meta.is_dir() => Ok(Kind::Folder),
            Ok(_) => Ok(Kind::Other),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Kind::Missing),
            Err(error) => Err(DsmError::io("look at", &self.path.join(name), error)),
        }
    }

    /// The names in the folder, in order, without `.` and `..`.
    pub fn names(&self) -> Result<Vec<OsString>> {
        let cannot = |errno| refused("list", &self.path, errno);
        let mut list = nix::dir::Dir::openat(&self.descriptor, ".", FOLDER_FLAGS, Mode::empty())
            .map_err(cannot)?;
        let mut names = Vec::new();
        for entry in list.iter() {
            let entry = entry.map_err(cannot)?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// Whether the folder holds nothing.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.names()?.is_empty())
    }

    /// Opens a regular file, and refuses anything else, with `flags` beside `O_NOFOLLOW|O_CLOEXEC`.
    pub fn open_file(&self, name: &str, flags: OFlag, mode: u32) -> Result<File> {
        self.open_file_os(OsStr::new(name), flags, mode)
    }

    pub(crate) fn open_file_os(&self, name: &OsStr, flags: OFlag, mode: u32) -> Result<File> {
        let path = self.child(name)?;
        // A pipe planted in the file's place would block an open for reading for ever.
        let flags = flags
            | OFlag::O_NOFOLLOW
            | OFlag::O_CLOEXEC
            | OFlag::O_NONBLOCK
            | OFlag::O_NOCTTY
            | OFlag::O_LARGEFILE;
        let descriptor = openat(&self.descriptor, name, flags, mode_of(mode))
            .map_err(|errno| refused("open", &path, errno))?;
        let file = File::from(descriptor);
        let meta = file.metadata().map_err(|error| DsmError::io("look at", &path, error))?;
        if !meta.is_file() {
            let cause = std::io::Error::other("it is not a regular file");
            return Err(DsmError::Io { action: "open", path, source: cause });
        }
        Ok(file)
    }

    /// The bytes of a file, `None` when there is none; one above `bytes_max` is refused.
    pub fn read(&self, name: &str, bytes_max: u64) -> Result<Option<Vec<u8>>> {
        let file = match self.open_file(name, OFlag::O_RDONLY, 0) {
            Ok(file) => file,
            Err(error) if error.is_missing() => return Ok(None),
            Err(error) => return Err(error),
        };
        let path = self.path.join(name);
        let mut bytes = Vec::new();
        file.take(bytes_max + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| DsmError::io("read", &path, error))?;
        if bytes.len() as u64 > bytes_max {
            return Err(DsmError::TooLarge { path, bytes_max });
        }
        Ok(Some(bytes))
    }

    /// The text of a file; bytes that are not UTF-8 are replaced.
    pub fn read_text(&self, name: &str, bytes_max: u64) -> Result<Option<String>> {
        Ok(self.read(name, bytes_max)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Puts a whole file in place, so that a power cut leaves the old one or the new one.
    pub fn write(&self, name: &str, bytes: &[u8], mode: u32) -> Result<()> {
        self.put(name, bytes, mode, true)
    }

    /// The same without `fsync`, for what is worthless after a reboot: no disk need wake up.
    pub fn write_lightly(&self, name: &str, bytes: &[u8], mode: u32) -> Result<()> {
        self.put(name, bytes, mode, false)
    }

    fn put(&self, name: &str, bytes: &[u8], mode: u32, lasting: bool) -> Result<()> {
        let path = self.child(OsStr::new(name))?;
        let temporary = format!(".{name}.{}.new", std::process::id());
        let cannot = |error| DsmError::io("write", &path, error);
        self.remove_file(&temporary)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
        let mut file = self.open_file(&temporary, flags, 0o600)?;
        let written = file
            .write_all(bytes)
            .and_then(|()| fchmod(&file, mode_of(mode)).map_err(Into::into))
            .and_then(|()| if lasting { file.sync_all() } else { Ok(()) })
            .and_then(|()| {
                renameat(&self.descriptor, temporary.as_str(), &self.descriptor, name)
                    .map_err(Into::into)
            });
        if let Err(error) = written {
            let _ = self.remove_file(&temporary);
            return Err(cannot(error));
        }
        if lasting { self.sync() } else { Ok(()) }
    }

    /// Removes what a [`Folder::write`] left that a power cut ended. Nobody else may be writing.
    pub fn sweep(&self) -> Result<()> {
        for name in self.names()? {
            if name.to_str().is_some_and(is_unfinished) {
                self.unlink(&name, UnlinkatFlags::NoRemoveDir)?;
            }
        }
        Ok(())
    }

    /// The size of the volume the folder is on, and what may still be written there, in bytes.
    pub fn volume_bytes(&self) -> Result<(u64, u64)> {
        // Not `statvfs`: on 32-bit boxes it refuses to answer for volumes above 16 TiB.
        let found = nix::sys::statfs::fstatfs(&self.descriptor)
            .map_err(|errno| refused("look at the volume of", &self.path, errno))?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.block_size() as u64);
        Ok((bytes(found.blocks()), bytes(found.blocks_available())))
    }

    /// The folder once more, for a lock of its own.
    pub(crate) fn opened_again(&self) -> Result<File> {
        openat(&self.descriptor, ".", FOLDER_FLAGS, Mode::empty())
            .map(File::from)
            .map_err(|errno| refused("open the folder", &self.path, errno))
    }

    /// Makes names put into, moved or removed from the folder last through a power cut.
    pub fn sync(&self) -> Result<()> {
        nix::unistd::fsync(&self.descriptor).map_err(|errno| refused("sync", &self.path, errno))
    }

    /// Removes a file or a link (never what it points to). Nothing there is fine.
    pub fn remove_file(&self, name: &str) -> Result<()> {
        self.unlink(OsStr::new(name), UnlinkatFlags::NoRemoveDir)
    }

    pub(crate) fn unlink(&self, name: &OsStr, flags: UnlinkatFlags) -> Result<()> {
        let path = self.child(name)?;
        match unlinkat(&self.descriptor, name, flags) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(refused("remove", &path, errno)),
        }
    }

    /// Moves `name` into another folder in one step. Fails when they are on different volumes.
    pub fn move_to(&self, name: &OsStr, other: &Self, new_name: &OsStr) -> Result<()> {
        let path = self.child(name)?;
        other.child(new_name)?;
        renameat(&self.descriptor, name, &other.descriptor, new_name)
            .map_err(|errno| refused("move", &path, errno))
    }

    pub(crate) fn read_link(&self, name: &OsStr) -> Result<OsString> {
        readlinkat(&self.descriptor, name)
            .map_err(|errno| refused("read the link", &self.path.join(name), errno))
    }

    pub(crate) fn metadata_of(&self, name: &OsStr) -> Result<std::fs::Metadata> {
        std::fs::symlink_metadata(self.way_to(name))
            .map_err(|error| DsmError::io("look at", &self.path.join(name), error))
    }

    /// Gives `name` an owner without following it.
    pub(crate) fn give(&self, name: &OsStr, owner: u32, group: u32) -> Result<()> {
        let (owner, group) = (nix::unistd::Uid::from_raw(owner), nix::unistd::Gid::from_raw(group));
        let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
        nix::unistd::fchownat(&self.descriptor, name, Some(owner), Some(group), flags)
            .map_err(|errno| refused("give away", &self.path.join(name), errno))
    }

    /// A path through this very descriptor. The standard library then uses calls that know
    /// files above 2 GiB on 32-bit boxes, which the raw ones here do not.
    fn way_to(&self, name: &OsStr) -> PathBuf {
        Path::new("/proc/self/fd").join(self.descriptor.as_raw_fd().to_string()).join(name)
    }

    /// The path of a child, if its name is one part and nothing else.
    fn child(&self, name: &OsStr) -> Result<PathBuf> {
        let bytes = name.as_bytes();
        if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.contains(&b'/') {
            let cause = std::io::Error::other("the name is not one part of a path");
            return Err(DsmError::io("use", &self.path.join(name), cause));
        }
        Ok(self.path.join(name))
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Whether [`Folder::write`] makes such names: `.NAME.PID.new`.
fn is_unfinished(name: &str) -> bool {
    name.strip_prefix('.')
        .and_then(|rest| rest.strip_suffix(".new")?.rsplit_once('.'))
        .is_some_and(|(_, pid)| pid.parse::<u32>().is_ok())
}

fn mode_of(mode: u32) -> Mode {
    Mode::from_bits_truncate(mode as nix::libc::mode_t)
}

/// `O_DIRECTORY` with `O_NOFOLLOW` answers `ENOTDIR` for a link: say what it is.
fn refused(action: &'static str, path: &Path, errno: Errno) -> DsmError {
    let is_link =
        || std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_symlink());
    if matches!(errno, Errno::ELOOP | Errno::ENOTDIR) && is_link() {
        return DsmError::Link { path: path.to_owned() };
    }
    DsmError::io(action, path, errno)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_file_is_replaced_whole_and_leaves_nothing_beside_it() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        folder.write("identity", b"one", 0o600).unwrap();
        folder.write("identity", b"two", 0o600).unwrap();
        assert_eq!(folder.read("identity", 10).unwrap().unwrap(), b"two");
        assert_eq!(folder.names().unwrap(), ["identity"]);
        let mode = std::fs::metadata(place.path().join("identity")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_planted_link_is_neither_read_nor_written_through() {
        let place = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let victim = outside.path().join("shadow");
        std::fs::write(&victim, "root:x").unwrap();
        symlink(&victim, place.path().join("identity")).unwrap();
        symlink(outside.path(), place.path().join("run")).unwrap();
        let folder = Folder::open(place.path()).unwrap();
        assert!(matches!(folder.read("identity", 100), Err(DsmError::Link { .. })));
        assert!(matches!(folder.inner_or_make("run", 0o700), Err(DsmError::Link { .. })));
        folder.write("identity", b"ours", 0o600).unwrap();
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "root:x");
        assert_eq!(folder.read("identity", 100).unwrap().unwrap(), b"ours");
    }

    #[test]
    fn what_a_cut_off_write_left_is_swept_away_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        for name in [".identity.4711.new", "..moving-from.1.new", ".mine.new", "settings.1.new"] {
            folder.write(name, b"x", 0o600).unwrap();
        }
        folder.sweep().unwrap();
        assert_eq!(folder.names().unwrap(), [".mine.new", "settings.1.new"]);
    }

    #[test]
    fn a_pipe_in_the_place_of_a_file_does_not_block() {
        let place = tempfile::tempdir().unwrap();
        nix::unistd::mkfifo(&place.path().join("state"), Mode::S_IRWXU).unwrap();
        let folder = Folder::open(place.path()).unwrap();
        assert!(folder.read("state", 100).is_err());
    }

    #[test]
    fn a_name_with_more_than_one_part_is_refused_and_a_large_file_is_not_read() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        assert!(folder.write("../x", b"", 0o600).is_err());
        assert!(folder.inner("..").is_err());
        folder.write("big", &[0; 101], 0o600).unwrap();
        assert!(matches!(folder.read("big", 100), Err(DsmError::TooLarge { .. })));
    }
}
