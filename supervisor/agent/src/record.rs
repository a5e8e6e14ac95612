//! What the supervisor writes down for `status`, for a second `start`, and for its successor.
//!
//! It lives in `var/run` and is worthless after a reboot, so it is never synced: no disk wakes up
//! for it. A record of another boot is not believed: PIDs and start times begin anew.

use crate::installation::Names;
use crate::problem::Result;
use engine_contract::memory::{MemoryPlan, Reason};
use serde::{Deserialize, Serialize};
use supervisor_dsm::Folder;
use supervisor_dsm::process::ProcessId;
use supervisor_lifecycle::restart::State;

const RECORD_BYTES_MAX: u64 = 16 * 1024;

/// A process, in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its PID.
    pub pid: i32,
    /// Its start, in clock ticks since boot.
    pub start_ticks: u64,
}

impl From<ProcessId> for Process {
    fn from(id: ProcessId) -> Self {
        Self { pid: id.pid, start_ticks: id.start_ticks }
    }
}

impl From<Process> for ProcessId {
    fn from(process: Process) -> Self {
        Self { pid: process.pid, start_ticks: process.start_ticks }
    }
}

/// The state of one daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Which boot of the NAS wrote it.
    pub boot: String,
    /// Who wrote it.
    pub supervisor: Process,
    /// The daemon, while there is one.
    pub daemon: Option<Process>,
    /// See [`State::word`].
    pub state: String,
    /// When it came into this state, seconds since 1970.
    pub since: u64,
    /// How often this supervisor started the daemon (or took one over).
    pub attempt: u32,
    /// Endings in a row that were not forgiven.
    pub failures: u32,
    /// How often the memory plan was made smaller.
    pub steps_down: u32,
    /// When it will be tried again, seconds since 1970.
    pub next_try: Option<u64>,
    /// Why the daemon last ended, in a sentence.
    pub last_ending: Option<String>,
    /// The package's version when the daemon was started.
    pub package_version: Option<String>,
    /// How much memory the daemon was told it may use.
    pub memory: MemoryPlan,
    /// What decided that.
    pub memory_reason: Reason,
    /// How many files it may open.
    pub open_files: u64,
}

impl Record {
    /// The record, if there is one of this boot that can be read.
    pub fn read(folder: &Folder, names: &Names) -> Result<Option<Self>> {
        let Some(bytes) = folder.read(&names.state, RECORD_BYTES_MAX)? else { return Ok(None) };
        let record: Option<Self> = serde_json::from_slice(&bytes).ok();
        Ok(record.filter(|record| record.boot == this_boot()))
    }

    /// Puts the record, and the PID file, in place.
    pub fn write(&self, folder: &Folder, names: &Names) -> Result<()> {
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        folder.write_lightly(&names.state, &bytes, 0o640)?;
        match self.daemon {
            Some(daemon) => {
                folder.write_lightly(&names.pid, format!("{}\n", daemon.pid).as_bytes(), 0o640)?;
            }
            None => folder.remove_file(&names.pid)?,
        }
        Ok(())
    }

    /// Removes both.
    pub fn remove(folder: &Folder, names: &Names) -> Result<()> {
        folder.remove_file(&names.pid)?;
        Ok(folder.remove_file(&names.state)?)
    }

    /// The state as a value.
    pub fn state(&self) -> State {
        State::from_word(&self.state).unwrap_or(State::Stopped)
    }

    /// Whether the daemon it speaks of lives, and is not somebody else with its PID.
    pub fn daemon_is_alive(&self) -> bool {
        self.daemon.is_some_and(|daemon| ProcessId::from(daemon).is_alive())
    }
}

/// A text that is another one after every boot.
pub fn this_boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
