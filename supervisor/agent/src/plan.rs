//! The memory plan of this box: facts gathered, the owner's wish read, the contract's rule applied.

use crate::installation::Installation;
use engine_contract::memory::{Facts, MemoryPlan, Reason, parse_size};
use serde::{Deserialize, Serialize};
use supervisor_dsm::Folder;
use supervisor_dsm::memory::Memory;

/// The owner's file; its name is the one CrashPlan's package used.
pub const OWNER_FILE: &str = "syno_package.vars";

const OWNER_FILE_BYTES_MAX: u64 = 64 * 1024;
const STEPS_FILE_BYTES_MAX: u64 = 4096;

/// A plan with everything that led to it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What was learnt.
    pub facts: Facts,
    /// The result.
    pub plan: MemoryPlan,
    /// What decided it.
    pub reason: Reason,
    /// Lines of the owner's file that could not be understood.
    pub complaints: Vec<String>,
}

/// How often memory ran out, and under which circumstances: others get a clean slate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Steps {
    steps_down: u32,
    ram_bytes: u64,
    wish_bytes: Option<u64>,
    package_version: Option<String>,
}

impl Plan {
    /// The plan as things are now.
    pub fn now(installation: &Installation) -> Self {
        let memory = Memory::of(installation.package.dsm());
        let (wish_bytes, complaints) = wish(installation);
        let mut facts = Facts {
            ram_bytes: memory.total_bytes,
            available_bytes: memory.available_bytes,
            cgroup_limit_bytes: memory.cgroup_limit_bytes,
            wish_bytes,
            is_32_bit: cfg!(target_pointer_width = "32"),
            steps_down: 0,
        };
        facts.steps_down = read_steps(installation, &facts);
        let (plan, reason) = MemoryPlan::for_box(&facts);
        Self { facts, plan, reason, complaints }
    }

    /// Why the plan is what it is, in a sentence.
    pub fn sentence(&self) -> String {
        let mib = |bytes: u64| bytes >> 20;
        let total = mib(self.plan.total_bytes);
        let facts = &self.facts;
        match self.reason {
            Reason::RamClass => format!("{total} MiB, for a box with {} MiB", mib(facts.ram_bytes)),
            Reason::LittleAvailable => {
                format!("{total} MiB: only {} MiB are available", mib(facts.available_bytes))
            }
            Reason::CgroupLimit => format!(
                "{total} MiB: a control group allows {} MiB",
                mib(facts.cgroup_limit_bytes.unwrap_or(0))
            ),
            Reason::OwnerWish => format!("{total} MiB, as {OWNER_FILE} asks"),
            Reason::SteppedDown => format!(
                "{total} MiB: memory ran out {} time(s) before; free some, or set USR_MAX_HEAP in \
                 {OWNER_FILE}",
                facts.steps_down
            ),
            Reason::Floor => format!("{total} MiB, the least it can work with"),
        }
    }

    /// Remembers that memory ran out, for the next start too.
    pub fn remember_steps(&self, installation: &Installation, steps_down: u32) {
        let steps = Steps {
            steps_down,
            ram_bytes: self.facts.ram_bytes,
            wish_bytes: self.facts.wish_bytes,
            package_version: installation.package.info_version(),
        };
        let names = installation.names();
        if let (Ok(folder), Ok(bytes)) = (installation.run_folder(), serde_json::to_vec(&steps)) {
            let _ = folder.write(&names.memory, &bytes, 0o640);
        }
    }
}

fn read_steps(installation: &Installation, facts: &Facts) -> u32 {
    let read = || {
        let folder = installation.run_folder_if_any().ok()??;
        let bytes = folder.read(&installation.names().memory, STEPS_FILE_BYTES_MAX).ok()??;
        serde_json::from_slice::<Steps>(&bytes).ok()
    };
    let same = |steps: &Steps| {
        steps.ram_bytes == facts.ram_bytes
            && steps.wish_bytes == facts.wish_bytes
            && steps.package_version == installation.package.info_version()
    };
    read().filter(same).map_or(0, |steps| steps.steps_down)
}

/// What the owner asked for, in `etc`, else in `var`.
fn wish(installation: &Installation) -> (Option<u64>, Vec<String>) {
    let package = &installation.package;
    let mut complaints = Vec::new();
    for folder in [Folder::open(package.etc()), package.open_var()] {
        let Ok(folder) = folder else { continue };
        match folder.read_text(OWNER_FILE, OWNER_FILE_BYTES_MAX) {
            Ok(Some(text)) => {
                let (bytes, mut said) = wish_in(&text);
                complaints.append(&mut said);
                if bytes.is_some() {
                    return (bytes, complaints);
                }
            }
            Ok(None) => {}
            Err(error) => complaints.push(error.to_string()),
        }
    }
    (None, complaints)
}

/// Reads `USR_MAX_HEAP=…` without a shell; the last one counts, as in a shell.
fn wish_in(text: &str) -> (Option<u64>, Vec<String>) {
    let mut bytes = None;
    let mut complaints = Vec::new();
    for line in text.lines() {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line);
        let Some(value) = line.strip_prefix("USR_MAX_HEAP=") else { continue };
        let value = value.split(" #").next().unwrap_or(value);
        match parse_size(value) {
            Some(size) => bytes = Some(size),
            None => {
                let value: String = value.chars().take(40).collect();
                complaints.push(format!("{OWNER_FILE}: {value:?} is not a size such as 512M"));
            }
        }
    }
    (bytes, complaints)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owners_file_is_read_and_never_run() {
        assert_eq!(wish_in("#USR_MAX_HEAP=1024M\n").0, None);
        assert_eq!(wish_in("USR_MAX_HEAP=512M\n").0, Some(512 << 20));
        assert_eq!(wish_in("export USR_MAX_HEAP=\"1G\" # more\r\n").0, Some(1 << 30));
        assert_eq!(wish_in("USR_MAX_HEAP=1M\nUSR_MAX_HEAP=2M").0, Some(2 << 20));
        let (bytes, complaints) = wish_in("USR_MAX_HEAP=$(reboot)");
        assert_eq!(bytes, None);
        assert!(complaints[0].contains("is not a size"), "{complaints:?}");
    }
}
