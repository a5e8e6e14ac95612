//! The messages of the control API: HTTP/JSON on the Unix socket of [`crate::layout`], and a part
//! of it over TCP, for the web console, to whoever has the token of [`crate::console`].
//!
//! | request | answer | over TCP |
//! |---|---|---|
//! | `GET /v1/status` | [`Status`] | yes |
//! | `GET /v1/sets` | a list of [`SetState`], at once: no disk is asked for it | yes |
//! | `GET /v1/alive` | `{}`, at once: no disk and no line is asked for it | yes |
//! | `POST /v1/sets/NAME/run` | a [`Progress`] a line, until [`Progress::is_over`] | one only |
//! | `POST /v1/destinations` [`AddDestination`] | [`DestinationState`] | no |
//! | `DELETE /v1/destinations/NAME` | `{}` | no |
//! | `POST /v1/sets` [`AddSet`] | `{}` | no |
//! | `DELETE /v1/sets/NAME` | `{}` | no |
//! | `POST /v1/adopt` [`AdoptComputer`] | [`Adopted`] | no |
//! | `GET /v1/console` | [`ConsoleAccess`] | no |
//! | `POST /v1/console` [`ChangeConsole`] | [`ConsoleAccess`] | no |
//!
//! Any answer with a status of 400 or more is a [`Refusal`]. Times are seconds since 1970, UTC.

use crate::console::{Listen, Token};
use crate::identity::Guid;
use crate::memory::MemoryPlan;
use core::net::IpAddr;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Neither side reads a longer message.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// What the daemon is doing, and how things stand.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// This computer.
    pub guid: Guid,
    /// The engine's version.
    pub version: String,
    /// The daemon's process id.
    pub pid: u32,
    /// When the daemon started.
    pub started_at: i64,
    /// The memory plan the daemon keeps to.
    pub memory: MemoryPlan,
    /// All destinations.
    pub destinations: Vec<DestinationState>,
    /// All backup sets.
    pub sets: Vec<SetState>,
    /// Where the web console is.
    #[serde(default)]
    pub console: ConsolePlace,
}

/// Where the web console is, without what lets a reader in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsolePlace {
    /// Where it is wanted.
    pub wanted: Listen,
    /// Where it listens, if it does.
    pub address: Option<IpAddr>,
    /// The port it listens at, if it does.
    pub port: Option<u16>,
    /// What is not as it was wanted, in one sentence.
    pub trouble: Option<String>,
}

/// Where the web console is, and what lets a reader in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConsoleAccess {
    /// Where it is.
    pub place: ConsolePlace,
    /// What lets a reader in.
    pub token: Token,
}

/// Asks for another place for the console, or another token.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ChangeConsole {
    /// Where it is to listen from now on.
    #[serde(default)]
    pub listen: Option<Listen>,
    /// Whether to make a new token; whoever has the old one is let in no more.
    #[serde(default)]
    pub new_token: bool,
}

/// A destination and whether it can be reached.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DestinationState {
    /// The owner's name for it.
    pub name: String,
    /// Where it was last found.
    pub location: String,
    /// The id of the repository in it.
    pub repository_id: String,
    /// The file that holds the repository's password.
    pub password_file: PathBuf,
    /// `None` when it can be reached; else why not, in one sentence.
    pub cannot_connect: Option<String>,
}

/// A backup set and its last run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SetState {
    /// The owner's name for it.
    pub name: String,
    /// What is protected.
    pub paths: Vec<PathBuf>,
    /// Patterns that are left out.
    pub excludes: Vec<String>,
    /// The destination's name.
    pub destination: String,
    /// The run under way, or the last one since the daemon started.
    pub last_run: Option<Progress>,
    /// The last run that wrote a snapshot, also one before the daemon started.
    #[serde(default)]
    pub last_complete: Option<CompleteRun>,
}

/// A run that wrote a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompleteRun {
    /// When it ended.
    pub ended_at: i64,
    /// What it did.
    pub summary: RunSummary,
}

/// Asks for a destination.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AddDestination {
    /// The owner's name for it.
    pub name: String,
    /// Where it is.
    pub location: String,
    /// The password of the repository that is there already; without it a new one is made.
    pub password: Option<String>,
    /// The access key, where the place is a bucket, in lines as the environment has them.
    #[serde(default)]
    pub access_key: Option<String>,
    /// Words for `ssh`, where the place is on a server to log in to.
    #[serde(default)]
    pub ssh_arguments: Vec<String>,
}

/// Asks for a backup set.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AddSet {
    /// The owner's name for it.
    pub name: String,
    /// What to protect: absolute paths.
    pub paths: Vec<PathBuf>,
    /// Glob patterns to leave out.
    #[serde(default)]
    pub excludes: Vec<String>,
    /// The destination's name.
    pub destination: String,
}

/// Asks to take over a computer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AdoptComputer {
    /// The GUID to take over.
    pub guid: Guid,
    /// The destination that holds its snapshots.
    pub destination: String,
}

/// What was taken over.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Adopted {
    /// The GUID this computer has now.
    pub guid: Guid,
    /// The GUID it had before.
    pub guid_before: Guid,
    /// How many snapshots of the old computer there are.
    pub snapshots: usize,
    /// The backup sets set up again from its snapshots.
    pub sets: Vec<String>,
}

/// How a run of a backup set stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The set's name.
    pub set: String,
    /// When the run began.
    pub started_at: i64,
    /// Files done so far.
    pub files_done: u64,
    /// Files to do, once they were counted.
    pub files_total: Option<u64>,
    /// Bytes of files done so far.
    pub bytes_done: u64,
    /// Bytes of files to do, once they were counted.
    pub bytes_total: Option<u64>,
    /// The file being read, for people; not exact.
    pub current: Option<String>,
    /// How it ended.
    pub ended: Option<Ended>,
}

impl Progress {
    /// Whether nothing more will come.
    pub fn is_over(&self) -> bool {
        self.ended.is_some()
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// A snapshot was written.
    Done(RunSummary),
    /// Nothing new was written that counts; what was there is untouched.
    Failed(Refusal),
}

/// What a completed run did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSummary {
    /// The new snapshot's id, 64 hex digits.
    pub snapshot: String,
    /// The id of the snapshot it was compared with.
    pub parent: Option<String>,
    /// Files not seen before.
    pub files_new: u64,
    /// Files read again because their attributes differ.
    pub files_changed: u64,
    /// Files that were not read because nothing about them changed.
    pub files_unmodified: u64,
    /// Files that could not be read, with the reason; at most [`UNREADABLE_MAX`] are named.
    pub unreadable: Vec<String>,
    /// How many files could not be read.
    pub unreadable_count: u64,
    /// Bytes of file contents that were new to the repository, before compression.
    pub data_added_bytes: u64,
    /// Bytes written to the destination for file contents and folders, compressed and sealed.
    pub stored_bytes: u64,
    /// Bytes of all files in the snapshot.
    pub total_bytes: u64,
    /// Wall-clock time, in milliseconds.
    pub elapsed_ms: u64,
}

/// A run names no more unreadable files than this.
pub const UNREADABLE_MAX: usize = 100;

/// A failure, as it crosses the socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What happened.
    pub fact: String,
    /// What to do about it.
    pub remedy: Option<String>,
    /// The exit code a command line ends with.
    pub exit_code: u8,
}
