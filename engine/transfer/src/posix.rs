//! Files and folders reached from an open folder, never by a path that could change underneath.
//!
//! A [`Folder`] is an open descriptor; everything in it is named by one name without `/`, and no
//! symbolic link is ever followed. Sizes are 64 bits wide on every machine.

#![allow(unsafe_code)] // fstatat64: nix only has the call whose sizes are 32 bits on 32-bit ARM.

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, Whence, lseek64, unlinkat};
use std::ffi::{CStr, CString, OsString};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What kind of thing a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
    Symlink,
    BlockDevice,
    CharDevice,
    Pipe,
    Socket,
    Unknown,
}

/// What the system knows about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) kind: Kind,
    /// `st_mode`, with the type.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    /// Space it takes on the disk, in bytes.
    pub(crate) allocated_bytes: u64,
    pub(crate) inode: u64,
    pub(crate) device_id: u64,
    pub(crate) links: u64,
    /// Of a device file: which device.
    pub(crate) device: u64,
    /// Seconds since 1970, nanoseconds.
    pub(crate) mtime: (i64, u32),
    pub(crate) ctime: (i64, u32),
}

// Types in libc differ from machine to machine, so some of these do nothing on some.
#[allow(clippy::unnecessary_cast, clippy::useless_conversion)]
impl Stat {
    fn of(found: &libc::stat64) -> Self {
        let nanoseconds = |number: i64| u32::try_from(number).unwrap_or(0);
        Self {
            kind: match found.st_mode & libc::S_IFMT {
                libc::S_IFREG => Kind::File,
                libc::S_IFDIR => Kind::Folder,
                libc::S_IFLNK => Kind::Symlink,
                libc::S_IFBLK => Kind::BlockDevice,
                libc::S_IFCHR => Kind::CharDevice,
                libc::S_IFIFO => Kind::Pipe,
                libc::S_IFSOCK => Kind::Socket,
                _ => Kind::Unknown,
            },
            mode: found.st_mode as u32,
            uid: found.st_uid,
            gid: found.st_gid,
            size: u64::try_from(found.st_size).unwrap_or(0),
            allocated_bytes: u64::try_from(found.st_blocks).unwrap_or(0) * 512,
            inode: found.st_ino as u64,
            device_id: found.st_dev as u64,
            links: found.st_nlink as u64,
            device: found.st_rdev as u64,
            mtime: (i64::from(found.st_mtime), nanoseconds(found.st_mtime_nsec as i64)),
            ctime: (i64::from(found.st_ctime), nanoseconds(found.st_ctime_nsec as i64)),
        }
    }

    /// What the system knows about a path, links followed.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        let path = c_name(path.as_os_str().as_bytes()).ok_or(io::ErrorKind::InvalidInput)?;
        let mut found = MaybeUninit::<libc::stat64>::uninit();
        // SAFETY: the path ends with NUL, the buffer is as large as the call expects, and it is
        // only read when the call says it filled it.
        unsafe {
            Errno::result(libc::stat64(path.as_ptr(), found.as_mut_ptr()))?;
            Ok(Self::of(&found.assume_init()))
        }
    }

    /// What the system knows about an open file.
    pub(crate) fn of_open(file: BorrowedFd<'_>) -> io::Result<Self> {
        let mut found = MaybeUninit::<libc::stat64>::uninit();
        // SAFETY: the descriptor is open, the buffer is as large as the call expects, and it is
        // only read when the call says it filled it.
        unsafe {
            Errno::result(libc::fstat64(file.as_raw_fd(), found.as_mut_ptr()))?;
            Ok(Self::of(&found.assume_init()))
        }
    }
}

/// An open folder.
#[derive(Debug)]
pub(crate) struct Folder(OwnedFd);

const FOLDER_FLAGS: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_CLOEXEC)
    .union(OFlag::O_NONBLOCK)
    .union(OFlag::O_LARGEFILE);

impl Folder {
    /// The folder at a path. Links in the path are followed: it is what the owner named.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        let fd = nix::fcntl::open(path, FOLDER_FLAGS, Mode::empty())?;
        Ok(Self(fd))
    }

    /// The folder at a path, which one may be allowed to pass through, but not to look into.
    pub(crate) fn on_the_way(path: &Path) -> io::Result<Self> {
        match nix::fcntl::open(path, FOLDER_FLAGS | OFlag::O_PATH, Mode::empty()) {
            Ok(fd) => Ok(Self(fd)),
            // Kernels before 2.6.39 have no such thing.
            Err(_) => Self::at(path),
        }
    }

    /// A folder in this one; not a link to one.
    pub(crate) fn folder(&self, name: &CStr) -> io::Result<Self> {
        Ok(Self(openat(&self.0, name, FOLDER_FLAGS | OFlag::O_NOFOLLOW, Mode::empty())?))
    }

    /// A file in this one, to be read. It is opened without waiting (it may be a pipe by now), and
    /// without leaving a trace in its access time where that is allowed.
    pub(crate) fn file(&self, name: &CStr) -> io::Result<File> {
        let flags = OFlag::O_RDONLY
            | OFlag::O_NOFOLLOW
            | OFlag::O_CLOEXEC
            | OFlag::O_NONBLOCK
            | OFlag::O_NOCTTY
            | OFlag::O_LARGEFILE;
        let quiet = openat(&self.0, name, flags | OFlag::O_NOATIME, Mode::empty());
        let opened = match quiet {
            // Only the owner and root may ask for that.
            Err(Errno::EPERM) => openat(&self.0, name, flags, Mode::empty()),
            other => other,
        };
        Ok(File::from(opened?))
    }

    /// A file in this one, to be changed where it lies.
    pub(crate) fn file_to_change(&self, name: &CStr) -> io::Result<File> {
        let flags = OFlag::O_RDWR
            | OFlag::O_NOFOLLOW
            | OFlag::O_CLOEXEC
            | OFlag::O_NONBLOCK
            | OFlag::O_NOCTTY
            | OFlag::O_LARGEFILE;
        Ok(File::from(openat(&self.0, name, flags, Mode::empty())?))
    }

    /// Makes a file that is new and ours alone, removing what had its name before. Of its mode it
    /// has what the process's mask leaves.
    pub(crate) fn make_file(&self, name: &CStr, mode: u32) -> io::Result<File> {
        let flags = OFlag::O_RDWR
            | OFlag::O_CREAT
            | OFlag::O_EXCL
            | OFlag::O_NOFOLLOW
            | OFlag::O_CLOEXEC
            | OFlag::O_LARGEFILE;
        let mode = Mode::from_bits_truncate(mode & 0o777);
        let made = match openat(&self.0, name, flags, mode) {
            Err(Errno::EEXIST) => {
                self.unlink(name)?;
                openat(&self.0, name, flags, mode)
            }
            made => made,
        };
        Ok(File::from(made?))
    }

    /// Removes a name, if it is there. A folder is not removed.
    pub(crate) fn unlink(&self, name: &CStr) -> io::Result<()> {
        match unlinkat(&self.0, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(Errno::EISDIR) => Err(io::Error::other("a folder is in its place")),
            Err(cause) => Err(cause.into()),
        }
    }

    /// What the system knows about a name here.
    pub(crate) fn stat(&self, name: &CStr) -> io::Result<Stat> {
        let mut found = MaybeUninit::<libc::stat64>::uninit();
        // SAFETY: the descriptor is open, the name ends with NUL, the buffer is as large as the
        // call expects, and it is only read when the call says it filled it.
        unsafe {
            let flags = libc::AT_SYMLINK_NOFOLLOW;
            let fd = self.0.as_raw_fd();
            Errno::result(libc::fstatat64(fd, name.as_ptr(), found.as_mut_ptr(), flags))?;
            Ok(Stat::of(&found.assume_init()))
        }
    }

    /// What the system knows about the folder itself.
    pub(crate) fn own_stat(&self) -> io::Result<Stat> {
        Stat::of_open(self.0.as_fd())
    }

    /// Makes the names in the folder durable. Some network file systems cannot and need not.
    pub(crate) fn sync(&self) -> io::Result<()> {
        match nix::unistd::fsync(&self.0) {
            Ok(()) | Err(Errno::EINVAL | Errno::EOPNOTSUPP) => Ok(()),
            Err(cause) => Err(cause.into()),
        }
    }

    /// The same folder as a file, which extended attributes are asked of and written to.
    pub(crate) fn as_file(&self) -> io::Result<File> {
        Ok(File::from(self.0.try_clone()?))
    }

    /// What a symbolic link here points to.
    pub(crate) fn link_target(&self, name: &CStr) -> io::Result<OsString> {
        Ok(nix::fcntl::readlinkat(&self.0, name)?)
    }

    /// Shows each name in the folder but `.` and `..`, in any order.
    pub(crate) fn each_name(
        &self,
        each: &mut dyn FnMut(&CStr) -> io::Result<()>,
    ) -> io::Result<()> {
        // A descriptor of its own, because reading moves the position of all that share one.
        let fd = openat(&self.0, c".", FOLDER_FLAGS, Mode::empty())?;
        for entry in Dir::from_fd(fd)?.iter() {
            let entry = entry?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                each(name)?;
            }
        }
        Ok(())
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Moves a file's position and says where it is then.
pub(crate) fn seek(file: &File, position: u64, whence: Whence) -> io::Result<u64> {
    let offset = i64::try_from(position).unwrap_or(i64::MAX);
    Ok(u64::try_from(lseek64(file, offset, whence)?).unwrap_or(0))
}

/// Where data comes again, if there is a hole at `start`; `start` itself if there is none. Kernels
/// before 3.1 cannot tell. Moves the file's position.
pub(crate) fn end_of_hole(file: &File, start: u64) -> io::Result<u64> {
    if seek(file, start, Whence::SeekHole)? != start {
        return Ok(start);
    }
    match seek(file, start, Whence::SeekData) {
        // No more data: the hole ends with the file.
        Err(cause) if cause.raw_os_error() == Some(libc::ENXIO) => seek(file, 0, Whence::SeekEnd),
        other => other,
    }
}

/// A name as the system takes it, `None` when it holds a NUL.
pub(crate) fn c_name(name: &[u8]) -> Option<CString> {
    CString::new(name).ok()
}

/// A path's bytes below a folder's path.
pub(crate) fn joined(folder: &Path, name: &CStr) -> std::path::PathBuf {
    folder.join(std::ffi::OsStr::from_bytes(name.to_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_seen_and_never_followed() {
        let outer = tempfile::tempdir().unwrap();
        std::fs::create_dir(outer.path().join("folder")).unwrap();
        std::fs::write(outer.path().join("file"), b"x").unwrap();
        symlink("folder", outer.path().join("to folder")).unwrap();
        symlink("file", outer.path().join("to file")).unwrap();
        let folder = Folder::at(outer.path()).unwrap();
        assert_eq!(folder.stat(c"to folder").unwrap().kind, Kind::Symlink);
        assert!(folder.folder(c"to folder").is_err());
        assert!(folder.file(c"to file").is_err());
        assert!(folder.folder(c"folder").is_ok());
        assert_eq!(folder.link_target(c"to file").unwrap(), "file");
    }
}
