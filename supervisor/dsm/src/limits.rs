//! Limits of the system that a backup meets: open files, files of the whole system, watches.

use crate::Dsm;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// How many open files a process should be allowed.
pub const OPEN_FILES_WANTED: u64 = 65_536;

/// How many open files the whole system should be allowed.
pub const SYSTEM_FILES_WANTED: u64 = 65_536;

/// How many inotify watches a user should be allowed; the kernel's own number is 8192.
pub const WATCHES_WANTED: u64 = 524_288;

/// What was reached. `None` where the system does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Open files of this process and what it starts.
    pub open_files: u64,
    /// Open files of the system (`fs.file-max`).
    pub system_files: Option<u64>,
    /// Watches of a user (`fs.inotify.max_user_watches`).
    pub watches: Option<u64>,
}

impl Limits {
    /// The limits as they are.
    #[allow(clippy::unnecessary_cast)] // 32 bits wide on 32-bit boxes
    pub fn now(dsm: &Dsm) -> Self {
        let number = |path: &str| dsm.system_text(path)?.trim().parse().ok();
        Self {
            open_files: getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft as u64),
            system_files: number("/proc/sys/fs/file-max"),
            watches: number("/proc/sys/fs/inotify/max_user_watches"),
        }
    }

    /// Raises what may be raised, and tells what was reached. What needs root is done as root and
    /// only on the running system, never in a folder that looks like one.
    pub fn raise(dsm: &Dsm) -> Self {
        if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
            let wanted = OPEN_FILES_WANTED as nix::libc::rlim_t;
            let raised = soft < wanted
                && (setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted)).is_ok()
                    || setrlimit(Resource::RLIMIT_NOFILE, hard.min(wanted).max(soft), hard)
                        .is_ok());
            let _ = raised;
        }
        let reached = Self::now(dsm);
        if dsm.is_real() && nix::unistd::geteuid().is_root() {
            if reached.system_files.is_some_and(|files| files < SYSTEM_FILES_WANTED) {
                let _ = std::fs::write("/proc/sys/fs/file-max", SYSTEM_FILES_WANTED.to_string());
            }
            if reached.watches.is_some_and(|watches| watches < WATCHES_WANTED) {
                let path = "/proc/sys/fs/inotify/max_user_watches";
                let _ = std::fs::write(path, WATCHES_WANTED.to_string());
            }
            return Self::now(dsm);
        }
        reached
    }

    /// What is lower than wanted, each with the one command that changes it as root.
    pub fn shortfalls(&self) -> Vec<Shortfall> {
        let mut list = Vec::new();
        if self.open_files < OPEN_FILES_WANTED {
            list.push(Shortfall {
                what: "open files of the daemon",
                reached: self.open_files,
                wanted: OPEN_FILES_WANTED,
                // A hard limit is set by whoever starts us; root may start with a higher one.
                command: None,
            });
        }
        let mut system = |what, reached: Option<u64>, wanted, name: &str| {
            if let Some(reached) = reached.filter(|reached| *reached < wanted) {
                let command = Some(format!("sysctl -w {name}={wanted}"));
                list.push(Shortfall { what, reached, wanted, command });
            }
        };
        system("open files of the NAS", self.system_files, SYSTEM_FILES_WANTED, "fs.file-max");
        let watches = "fs.inotify.max_user_watches";
        system("watched folders", self.watches, WATCHES_WANTED, watches);
        list
    }
}

/// The one command that, as root, sets all that is lower than wanted; `None` when nothing is.
pub fn one_command(shortfalls: &[Shortfall]) -> Option<String> {
    let each =
        shortfalls.iter().filter_map(|short| short.command.as_ref()?.strip_prefix("sysctl "));
    let settings: Vec<&str> = each.filter_map(|text| text.strip_prefix("-w ")).collect();
    (!settings.is_empty()).then(|| format!("sysctl -w {}", settings.join(" ")))
}

/// One limit that is lower than wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortfall {
    /// What is limited.
    pub what: &'static str,
    /// To how many.
    pub reached: u64,
    /// How many there should be.
    pub wanted: u64,
    /// The one command that changes it, as root; in Task Scheduler as a boot task, to last.
    pub command: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_a_package_user_may_not_set_is_one_command_for_task_scheduler() {
        for (files, watches, command) in [
            (8192, 8192, Some("sysctl -w fs.file-max=65536 fs.inotify.max_user_watches=524288")),
            (8192, 600_000, Some("sysctl -w fs.file-max=65536")),
            (99_999, 8192, Some("sysctl -w fs.inotify.max_user_watches=524288")),
            (99_999, 600_000, None),
        ] {
            let reached =
                Limits { open_files: 1024, system_files: Some(files), watches: Some(watches) };
            assert_eq!(one_command(&reached.shortfalls()).as_deref(), command);
        }
    }

    #[test]
    fn what_is_too_low_is_said_with_the_command_that_changes_it() {
        let limits =
            Limits { open_files: 4096, system_files: Some(9000), watches: Some(WATCHES_WANTED) };
        let said = limits.shortfalls();
        assert_eq!(said.len(), 2);
        assert_eq!(said[1].command.as_deref(), Some("sysctl -w fs.file-max=65536"));
        let fine = Limits { open_files: 65_536, system_files: None, watches: None };
        assert_eq!(fine.shortfalls(), []);
    }
}
