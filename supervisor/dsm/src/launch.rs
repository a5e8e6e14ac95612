//! Starting a daemon: its own session, a clean environment, and exactly the descriptors it needs.
//!
//! The daemon finds its descriptors at fixed numbers: [`READY_DESCRIPTOR`] and [`LOCK_DESCRIPTOR`].
//! They are single digits because a daemon may be a shell script, and `dash` knows no others.

use crate::{DsmError, Result};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::stat::Mode;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Where the daemon finds the descriptor it announces its readiness on.
pub const READY_DESCRIPTOR: RawFd = 3;

/// Where the daemon finds the descriptor that holds its lock.
pub const LOCK_DESCRIPTOR: RawFd = 4;

/// Where DSM keeps programs; the `PATH` of whatever is started here.
pub const PROGRAM_FOLDERS: &str = "/usr/bin:/bin:/usr/sbin:/sbin:/usr/syno/bin:/usr/syno/sbin";

/// `ioprio_set` for one process; the idle class without a level.
const IOPRIO_WHO_PROCESS: libc::c_long = 1;
const IOPRIO_IDLE: libc::c_long = 3 << 13;

/// What to start and how.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The program and its arguments.
    pub command: &'a [OsString],
    /// Its whole environment.
    pub environment: &'a [(String, OsString)],
    /// The folder it starts in.
    pub folder: PathBuf,
    /// Where its standard output and error go.
    pub output: &'a File,
    /// Descriptors it inherits, and the numbers it finds them at.
    pub descriptors: &'a [(BorrowedFd<'a>, RawFd)],
    /// `nice` value, 0 to 19.
    pub nice: i32,
    /// Whether its disk accesses wait for everybody else's.
    pub idle_io: bool,
}

impl Launch<'_> {
    /// Starts it as the leader of a new session and returns its PID. Whoever calls must reap it.
    pub fn start(&self) -> Result<i32> {
        let Some((program, arguments)) = self.command.split_first() else {
            let cause = std::io::Error::other("the command is empty");
            return Err(DsmError::Launch { program: PathBuf::new(), source: cause });
        };
        let cannot = |source| DsmError::Launch { program: PathBuf::from(program.clone()), source };
        let output = || self.output.try_clone().map(Stdio::from).map_err(cannot);
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(output()?)
            .stderr(output()?);
        // The numbers the child wants must be taken here, or the pipe by which `spawn` learns of a
        // failed `exec` could sit on one of them and be overwritten.
        let _reserved =
            reserve(self.descriptors.iter().map(|(_, number)| *number).max()).map_err(cannot)?;
        let copies = high_copies(self.descriptors).map_err(cannot)?;
        let (nice, idle_io) = (self.nice, self.idle_io);
        let moves: Vec<(RawFd, RawFd)> =
            copies.iter().map(|(copy, number)| (copy.as_raw_fd(), *number)).collect();
        // SAFETY: between fork and exec only async-signal-safe calls are made, and nothing is
        // allocated: `moves` was made before.
        #[allow(unsafe_code)]
        unsafe {
            command.pre_exec(move || become_daemon(&moves, nice, idle_io));
        }
        let child = command.spawn().map_err(cannot)?;
        Ok(child.id() as i32)
    }
}

#[allow(unsafe_code)]
fn become_daemon(moves: &[(RawFd, RawFd)], nice: i32, idle_io: bool) -> std::io::Result<()> {
    // SAFETY: every call takes plain numbers or a signal set on our own stack.
    unsafe {
        if libc::setsid() < 0 {
            return Err(std::io::Error::last_os_error());
        }
        for (from, to) in moves {
            // dup2 clears close-on-exec on the copy, which is the whole point.
            if libc::dup2(*from, *to) < 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        let mut nothing: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut nothing);
        libc::sigprocmask(libc::SIG_SETMASK, &nothing, std::ptr::null_mut());
        for signal in [libc::SIGPIPE, libc::SIGHUP, libc::SIGCHLD] {
            libc::signal(signal, libc::SIG_DFL);
        }
        // Kindness is a wish: a kernel that refuses it does not stop the daemon.
        if nice != 0 {
            libc::setpriority(libc::PRIO_PROCESS, 0, nice);
        }
        if idle_io {
            libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0 as libc::c_long, IOPRIO_IDLE);
        }
    }
    Ok(())
}

/// Holds every number up to `highest` open until the child is started.
fn reserve(highest: Option<RawFd>) -> std::io::Result<Vec<OwnedFd>> {
    let mut held = Vec::new();
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    while let Some(highest) = highest {
        let fd = nix::fcntl::open("/dev/null", flags, Mode::empty())?;
        if fd.as_raw_fd() > highest {
            break;
        }
        held.push(fd);
    }
    Ok(held)
}

#[allow(unsafe_code)]
fn high_copies(descriptors: &[(BorrowedFd<'_>, RawFd)]) -> std::io::Result<Vec<(OwnedFd, RawFd)>> {
    let mut copies = Vec::new();
    for (descriptor, number) in descriptors {
        let copy = fcntl(descriptor.as_fd(), FcntlArg::F_DUPFD_CLOEXEC(16))?;
        // SAFETY: F_DUPFD_CLOEXEC just made this descriptor and nobody else knows its number.
        copies.push((unsafe { OwnedFd::from_raw_fd(copy) }, *number));
    }
    Ok(copies)
}

/// Lets go of every descriptor above standard error that whoever started us left open: DSM's
/// installer holds locks on some, and a daemon that kept them would block it for ever.
///
/// Call it before anything is opened.
#[allow(unsafe_code)]
pub fn close_inherited() {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return };
    let open: Vec<RawFd> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2)
        .collect();
    for number in open {
        // SAFETY: called before anything here owns a descriptor; the one of the listing itself is
        // closed already and answers EBADF.
        unsafe { libc::close(number) };
    }
}

/// Makes children of dead children ours, so that none is lost. Kernels before 3.4 cannot.
#[allow(unsafe_code)]
pub fn adopt_orphans() -> bool {
    let (zero, one): (libc::c_ulong, libc::c_ulong) = (0, 1);
    // SAFETY: prctl with plain numbers; an old kernel answers EINVAL.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, one, zero, zero, zero) == 0 }
}

/// Makes the kernel end this daemon before it ends anything else when memory runs out.
pub fn offer_to_oom_killer(pid: i32) {
    let newer = std::fs::write(format!("/proc/{pid}/oom_score_adj"), "200");
    if newer.is_err() {
        // Kernels before 2.6.36 have only the older, coarser file.
        let _ = std::fs::write(format!("/proc/{pid}/oom_adj"), "3");
    }
}

/// A pipe whose ends are not inherited by accident: (reading end, writing end).
pub fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
        .map_err(|errno| DsmError::io("make", std::path::Path::new("a pipe"), errno))
}

/// Becomes the user and group given, for good.
pub fn become_user(user: u32, group: u32) -> Result<()> {
    use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};
    setgroups(&[Gid::from_raw(group)])
        .and_then(|()| setgid(Gid::from_raw(group)))
        .and_then(|()| setuid(Uid::from_raw(user)))
        .map_err(|errno| {
            DsmError::io("become user", std::path::Path::new(&user.to_string()), errno)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek};

    fn run(script: &str, ready: BorrowedFd<'_>, output: &File) -> Result<i32> {
        let command: Vec<OsString> = ["/bin/sh", "-c", script].map(OsString::from).to_vec();
        Launch {
            command: &command,
            environment: &[("ONLY".to_owned(), "this".into())],
            folder: "/".into(),
            output,
            descriptors: &[(ready, READY_DESCRIPTOR)],
            nice: 5,
            idle_io: true,
        }
        .start()
    }

    fn reap(pid: i32) {
        nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None).unwrap();
    }

    #[test]
    fn a_daemon_gets_its_descriptor_a_session_and_nothing_else() {
        let (reading, writing) = pipe().unwrap();
        let mut output = tempfile::tempfile().unwrap();
        let stray = File::open("/dev/zero").unwrap();
        let script = "echo >&3; ls -l /proc/self/fd; env; cut -d' ' -f6 </proc/$$/stat";
        let pid = run(script, writing.as_fd(), &output).unwrap();
        drop(writing);
        reap(pid);
        drop(stray);
        let mut byte = [0];
        assert_eq!(nix::unistd::read(&reading, &mut byte), Ok(1));
        assert_eq!(byte, [b'\n']);
        let mut said = String::new();
        output.rewind().unwrap();
        output.read_to_string(&mut said).unwrap();
        assert!(said.contains(" 3 -> pipe:") && !said.contains("/dev/zero"), "{said}");
        assert!(said.contains("ONLY=this") && !said.contains("PATH=/"), "{said}");
        assert!(said.lines().last().unwrap() == pid.to_string(), "{said}");
    }

    #[test]
    fn a_program_that_is_not_there_is_reported_by_name() {
        let (_reading, writing) = pipe().unwrap();
        let output = tempfile::tempfile().unwrap();
        let command = [OsString::from("/nowhere/daemon")];
        let launch = Launch {
            command: &command,
            environment: &[],
            folder: "/".into(),
            output: &output,
            descriptors: &[(writing.as_fd(), READY_DESCRIPTOR)],
            nice: 0,
            idle_io: false,
        };
        let error = launch.start().unwrap_err();
        assert_eq!(error.to_string(), "cannot start /nowhere/daemon");
    }
}
