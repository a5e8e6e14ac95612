//! Is the repository sound?

use crate::{Cancel, Event, Repository, Result};

/// What to check.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CheckRequest {
    /// Read every pack and verify every blob; without it, what index, listing and trees tell.
    pub read_data: bool,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong, in one line.
    pub fact: String,
    /// What to do about it.
    pub remedy: &'static str,
    /// Whether something is lost or at risk; otherwise it is only untidy.
    pub is_damage: bool,
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Everything that is not as it should be, the first 1000.
    pub findings: Vec<Finding>,
    /// How many there were altogether.
    pub findings_total: u64,
    /// How many of them are damage.
    pub damage_total: u64,
    /// Snapshots looked at.
    pub snapshots: u64,
    /// Packs looked at.
    pub packs: u64,
    /// Blobs the index knows.
    pub blobs: u64,
    /// Bytes of packs read and verified.
    pub bytes_read: u64,
}

impl CheckReport {
    /// Whether nothing is lost or at risk.
    pub fn is_sound(&self) -> bool {
        self.damage_total == 0
    }
}

/// Checks. An error means that checking was not possible; what is wrong is in the report.
pub fn check(
    repository: &Repository,
    request: CheckRequest,
    events: &(dyn Fn(Event) + Sync),
    cancel: &Cancel,
) -> Result<CheckReport> {
    let _ = (repository, request, events, cancel);
    unimplemented!("soon")
}
