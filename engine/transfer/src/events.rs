//! What a running transfer tells, and how it is told to stop.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Tells a running transfer to stop. Clones share one state.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Not cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks to stop. Safe to call from a signal handler's thread, any number of times.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether somebody asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Something that happened in a running transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// How far it is; a few times a second at most.
    Progress(Progress),
    /// A file, folder or attribute of the source could not be read; the backup goes on without it.
    SourceProblem {
        /// What.
        path: PathBuf,
        /// Why, in one line.
        reason: String,
    },
    /// Something could not be restored as it was; the restore goes on.
    TargetProblem {
        /// What.
        path: PathBuf,
        /// Why, in one line.
        reason: String,
    },
    /// What became of one thing in a restore that was asked to tell.
    Restored {
        /// What was done.
        action: crate::ItemAction,
        /// Its path in the snapshot.
        path: PathBuf,
        /// Bytes of a file.
        bytes: u64,
    },
    /// Something the owner may want to know and need not act on.
    Note(String),
}

/// How far a transfer is. Totals are an estimate until `is_total_known`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Files (and links, devices) done.
    pub files_done: u64,
    /// Files there are, as far as known.
    pub files_total: u64,
    /// Bytes of files done, read or known to be unchanged.
    pub bytes_done: u64,
    /// Bytes there are, as far as known.
    pub bytes_total: u64,
    /// Whether the totals are complete.
    pub is_total_known: bool,
    /// What is being worked on.
    pub current: PathBuf,
}
