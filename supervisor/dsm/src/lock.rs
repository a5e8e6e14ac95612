//! Two locks, each with one meaning.
//!
//! [`SupervisorLock`] is held by a living supervisor and by nobody else. It is a POSIX lock, which
//! a child does not inherit and about which anybody may ask, without touching it, *which process*
//! holds it: a PID no file can be wrong about.
//!
//! [`DaemonLock`] is an `flock` on a descriptor that the daemon inherits and that lives as long as
//! the daemon or anything it started. A supervisor that comes back after `SIGKILL` finds it taken.

use crate::{DsmError, Folder, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use std::fs::{File, TryLockError};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// A living supervisor's lock. Dropping it, or dying, gives it back.
#[derive(Debug)]
pub struct SupervisorLock {
    _file: File,
}

impl SupervisorLock {
    /// Takes the lock, or says which process holds it.
    ///
    /// The process must never open the same file again: POSIX locks end with the first `close`.
    pub fn take(folder: &Folder, name: &str) -> Result<std::result::Result<Self, i32>> {
        let path = folder.path().join(name);
        let file = folder.open_file(name, OFlag::O_RDWR | OFlag::O_CREAT, 0o600)?;
        let cannot = |errno: Errno| DsmError::io("lock", &path, errno);
        let lock = whole_file();
        match fcntl(&file, FcntlArg::F_SETLK(&lock)) {
            Ok(_) => Ok(Ok(Self { _file: file })),
            Err(Errno::EAGAIN | Errno::EACCES) => {
                Ok(Err(holder(&file).map_err(cannot)?.unwrap_or(0)))
            }
            Err(errno) => Err(cannot(errno)),
        }
    }

    /// The PID of the living supervisor, if there is one. Reads only, changes nothing.
    pub fn who(folder: &Folder, name: &str) -> Result<Option<i32>> {
        let path = folder.path().join(name);
        let file = match folder.open_file(name, OFlag::O_RDONLY, 0) {
            Ok(file) => file,
            Err(error) if error.is_missing() => return Ok(None),
            Err(error) => return Err(error),
        };
        holder(&file).map_err(|errno| DsmError::io("ask about the lock", &path, errno))
    }
}

fn whole_file() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as _,
        l_whence: libc::SEEK_SET as _,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

fn holder(file: &File) -> std::result::Result<Option<i32>, Errno> {
    let mut lock = whole_file();
    fcntl(file, FcntlArg::F_GETLK(&mut lock))?;
    Ok((lock.l_type != libc::F_UNLCK as libc::c_short).then_some(lock.l_pid))
}

/// The lock a daemon inherits. Dropping it closes our descriptor and unlocks nothing: the lock
/// lives as long as the last copy of the descriptor.
#[derive(Debug)]
pub struct DaemonLock {
    lock: File,
    path: PathBuf,
}

impl DaemonLock {
    /// Takes the lock for a new daemon; `None` when an old one, or something it started, lives.
    pub fn take(folder: &Folder, name: &str) -> Result<Option<Self>> {
        let path = folder.path().join(name);
        let file = folder.open_file(name, OFlag::O_RDWR | OFlag::O_CREAT, 0o600)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { lock: file, path })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(DsmError::io("lock", &path, error)),
        }
    }

    /// Waits until the last holder is gone. For a thread of its own: it may take weeks.
    pub fn wait(folder: &Folder, name: &str) -> Result<()> {
        let path = folder.path().join(name);
        let file = folder.open_file(name, OFlag::O_RDWR | OFlag::O_CREAT, 0o600)?;
        loop {
            match file.lock() {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(DsmError::io("lock", &path, error)),
            }
        }
    }

    /// The file, to find who else holds it.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for DaemonLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }
}

/// Makes commands that start or stop wait for each other. Given back when dropped.
#[derive(Debug)]
pub struct TurnLock {
    _file: File,
}

impl TurnLock {
    /// Waits for the turn; `None` when `patience` is over first.
    pub fn take(
        folder: &Folder,
        name: &str,
        patience: std::time::Duration,
    ) -> Result<Option<Self>> {
        let path = folder.path().join(name);
        let file = folder.open_file(name, OFlag::O_RDWR | OFlag::O_CREAT, 0o600)?;
        Self::wait(file, &path, patience)
    }

    /// The same by the folder itself, where a file for it would only be in the way.
    pub fn of_folder(folder: &Folder, patience: std::time::Duration) -> Result<Option<Self>> {
        Self::wait(folder.opened_again()?, folder.path(), patience)
    }

    fn wait(file: File, path: &Path, patience: std::time::Duration) -> Result<Option<Self>> {
        let mut answer = Err(TryLockError::WouldBlock);
        crate::process::wait_until(patience, || {
            answer = file.try_lock();
            !matches!(answer, Err(TryLockError::WouldBlock))
        });
        match answer {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(DsmError::io("lock", path, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asking_who_supervises_changes_nothing_and_creates_nothing() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        assert_eq!(SupervisorLock::who(&folder, "x.lock").unwrap(), None);
        assert!(folder.is_empty().unwrap());
    }

    #[test]
    fn a_daemons_lock_is_taken_as_long_as_any_copy_of_it_lives() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        let lock = DaemonLock::take(&folder, "x.lock").unwrap().unwrap();
        let inherited = lock.as_fd().try_clone_to_owned().unwrap();
        drop(lock);
        assert!(DaemonLock::take(&folder, "x.lock").unwrap().is_none());
        drop(inherited);
        // A program another test is just starting has a copy for a moment, too.
        let patience = std::time::Duration::from_secs(60);
        let is_taken = || DaemonLock::take(&folder, "x.lock").unwrap().is_some();
        assert!(crate::process::wait_until(patience, is_taken));
    }
}
