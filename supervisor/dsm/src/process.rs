//! Processes told apart for certain: a PID alone may by now belong to somebody else.
//!
//! A process is known by its PID *and* its start time (field 22 of `/proc/PID/stat`), which the
//! kernel never gives twice to one PID between two boots. Kernels before 5.3 have no pidfd, and
//! most NAS are older.

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often the tree is listed again while it is being killed: it may fork meanwhile.
const KILL_ROUNDS_MAX: usize = 50;

/// A process that cannot be mistaken for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessId {
    /// Its PID.
    pub pid: i32,
    /// Clock ticks from boot to its start.
    pub start_ticks: u64,
}

/// What `/proc/PID/stat` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessFacts {
    /// The process.
    pub id: ProcessId,
    /// Its parent's PID.
    pub parent: i32,
    /// Its session.
    pub session: i32,
    /// Dead, but not yet reaped.
    pub is_zombie: bool,
}

impl ProcessFacts {
    /// The facts of a running process; `None` when there is none, or `/proc` hides it.
    pub fn of(pid: i32) -> Option<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Self::from_stat(pid, &text)
    }

    /// Reads one line of `/proc/PID/stat`. The name in it may hold blanks and brackets.
    fn from_stat(pid: i32, text: &str) -> Option<Self> {
        let (_, after_name) = text.rsplit_once(')')?;
        let mut fields = after_name.split_ascii_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        let session = fields.nth(1)?.parse().ok()?;
        let start_ticks = fields.nth(15)?.parse().ok()?;
        let is_zombie = matches!(state, "Z" | "X" | "x");
        Some(Self { id: ProcessId { pid, start_ticks }, parent, session, is_zombie })
    }
}

impl ProcessId {
    /// The process with this PID now.
    pub fn of(pid: i32) -> Option<Self> {
        ProcessFacts::of(pid).map(|facts| facts.id)
    }

    /// Whether this very process still runs.
    pub fn is_alive(self) -> bool {
        ProcessFacts::of(self.pid).is_some_and(|facts| facts.id == self && !facts.is_zombie)
    }

    /// Sends a signal, if this very process still runs. `false` when it does not.
    pub fn signal(self, signal: Signal) -> Result<bool, Errno> {
        if !self.is_alive() {
            return Ok(false);
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Ok(()) => Ok(true),
            Err(Errno::ESRCH) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Waits until it is gone; `false` when `patience` is over first.
    pub fn wait_gone(self, patience: Duration) -> bool {
        wait_until(patience, || !self.is_alive())
    }

    /// Whether it was ended and is not gone yet: it runs no program any more, and its locks are
    /// about to be let go.
    pub fn is_ending(self) -> bool {
        let program = std::fs::read_link(format!("/proc/{}/exe", self.pid));
        program.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) || !self.is_alive()
    }

    /// The program it runs, when that may be known.
    pub fn program(self) -> Option<std::path::PathBuf> {
        std::fs::read_link(format!("/proc/{}/exe", self.pid)).ok()
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(self) -> Option<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kilobytes * 1024)
    }
}

/// Asks again every few milliseconds; only for commands that end soon, never for a loop that stays.
pub fn wait_until(patience: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + patience;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Every process the system shows.
pub fn all() -> Vec<ProcessFacts> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(ProcessFacts::of)
        .collect()
}

/// A daemon with everything it started: its session, its descendants, and whoever still holds the
/// lock it inherited (so a grandchild that made a session of its own is found too).
#[derive(Debug, Clone)]
pub struct Tree<'a> {
    /// The daemon; it leads its own session.
    pub leader: Option<ProcessId>,
    /// The file of the inherited lock.
    pub lock_file: Option<&'a Path>,
}

impl Tree<'_> {
    /// Who belongs to it and runs, the calling process excepted.
    pub fn members(&self) -> Vec<ProcessId> {
        let everybody = all();
        let lock = self.lock_file.and_then(|path| std::fs::metadata(path).ok());
        let own = std::process::id() as i32;
        let mut pids: Vec<i32> = everybody
            .iter()
            .filter(|process| {
                self.leader.is_some_and(|leader| {
                    process.id == leader || process.session == leader.pid && leads(leader, process)
                }) || lock.as_ref().is_some_and(|lock| holds_open(process.id.pid, lock))
            })
            .map(|process| process.id.pid)
            .filter(|pid| *pid != own)
            .collect();
        // Children of members, and theirs, whatever session they moved to.
        let mut at = 0;
        while at < pids.len() {
            let parent = pids[at];
            for process in &everybody {
                if process.parent == parent && !pids.contains(&process.id.pid) {
                    pids.push(process.id.pid);
                }
            }
            at += 1;
        }
        everybody
            .iter()
            .filter(|process| pids.contains(&process.id.pid) && !process.is_zombie)
            .map(|process| process.id)
            .filter(|id| id.pid != own && id.pid > 1)
            .collect()
    }

    /// Sends a signal to every member.
    pub fn signal(&self, signal: Signal) {
        for member in self.members() {
            let _ = member.signal(signal);
        }
    }

    /// Kills until nobody is left. `false` when somebody cannot be killed.
    pub fn kill(&self) -> bool {
        for _ in 0..KILL_ROUNDS_MAX {
            let members = self.members();
            if members.is_empty() {
                return true;
            }
            for member in members {
                let _ = member.signal(Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.members().is_empty()
    }
}

/// A session is named after its leader's PID, which may have been given to somebody new since:
/// only who started after the leader can be in the leader's session.
fn leads(leader: ProcessId, process: &ProcessFacts) -> bool {
    process.id.start_ticks >= leader.start_ticks
}

fn holds_open(pid: i32, file: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    let Ok(descriptors) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    descriptors.flatten().any(|descriptor| {
        std::fs::metadata(descriptor.path())
            .is_ok_and(|meta| meta.dev() == file.dev() && meta.ino() == file.ino())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_whose_name_is_made_to_confuse_is_read_right() {
        let line = "77 (a ) S 1 2) S 5 77 76 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 9 9";
        let facts = ProcessFacts::from_stat(77, line).unwrap();
        assert_eq!(facts.id, ProcessId { pid: 77, start_ticks: 123_456 });
        assert_eq!((facts.parent, facts.session, facts.is_zombie), (5, 76, false));
        assert_eq!(ProcessFacts::from_stat(77, "77 (x"), None);
    }

    #[test]
    fn a_process_that_is_not_reaped_yet_is_ending_and_one_that_works_is_not() {
        let own = ProcessId::of(std::process::id() as i32).unwrap();
        assert!(!own.is_ending());
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let id = ProcessId::of(child.id() as i32).unwrap();
        child.kill().unwrap();
        assert!(wait_until(Duration::from_secs(60), || id.is_ending()));
        child.wait().unwrap();
        assert!(id.is_ending());
    }

    #[test]
    fn the_same_pid_with_another_start_is_another_process() {
        let own = ProcessId::of(std::process::id() as i32).unwrap();
        assert!(own.is_alive());
        let earlier = ProcessId { start_ticks: own.start_ticks - 1, ..own };
        assert!(!earlier.is_alive());
        assert_eq!(earlier.signal(Signal::SIGKILL), Ok(false));
    }
}
