//! Moving data between a computer's folders and a repository: backup, restore, check;
//! and looking after the repository: keys, locks, forget, prune, tags.
//!
//! Everything starts with a [`Repository`], opened on a storage with a password. [`backup`],
//! [`restore`] and [`check`] are pipelines of a few threads; every queue between them is bounded,
//! and the bytes in all buffers together by the memory plan. They tell what happens as [`Event`]s
//! and can be stopped by a [`Cancel`] within a second, at any point, leaving the repository sound.
//! A folder of a million files is one blob: it passes through temporary files, never through memory
//! as a whole.
//!
//! **Invariant:** packs are written before the index that names them, the index before the
//! snapshot that needs it; so whatever happens in between, no snapshot lacks data. What is restored
//! was found to have the sums it is named by. Nothing is written outside a restore's target.
//!
//! **Not here:** flags, settings, printing, schedules. What to keep is decided
//! in [`retention`], a function without a clock. Nor what the bytes of a
//! repository look like: that is the repository room's.

mod backup;
mod blobs;
mod browse;
mod budget;
mod cache;
mod careful;
mod check;
mod choose;
mod copy;
mod diff;
mod dump;
mod errors;
mod events;
mod find;
mod forget;
mod id_set;
mod index;
mod keys;
mod large;
mod locks;
mod mutex;
mod names;
mod open_packs;
mod patience;
mod posix;
mod prune;
mod record_file;
mod repair;
mod repository;
mod restore;
pub mod retention;
mod sorter;
mod spool;
mod stats;
mod store;
mod tag;
#[cfg(feature = "testing")]
pub mod testing;
mod tree_buffer;
mod tree_walk;

pub use backup::{
    BackupOutcome, BackupRequest, CHECKPOINT_INTERVAL, ParentChoice, SourceProblem, backup,
};
pub use browse::{ListedNode, SnapshotInfo, find_snapshot, ls, readable_snapshots, snapshots};
pub use check::{CheckReport, CheckRequest, Finding, Reading, check, check_reading};
pub use copy::{CopyReport, CopyRequest, copy};
pub use diff::{Change, diff};
pub use dump::{Archive, dump, dump_as};
pub use engine_repository::compress::Effort;
pub use engine_repository::{Id, KdfCost, NodeKind, Version};
pub use errors::TransferError;
pub use events::{Cancel, Event, Progress};
pub use find::find;
pub use forget::{ForgetGroup, ForgetReport, ForgetRequest, GroupBy, Kept, SnapshotFilter, forget};
pub use keys::{KeyInfo, key_add, key_list, key_passwd, key_remove};
pub use locks::unlock;
pub use prune::{MaxUnused, PruneReport, PruneRequest, prune};
pub use repair::{
    RepairIndexReport, RepairIndexRequest, RepairPacksReport, RepairPacksRequest,
    RepairSnapshotsReport, RepairSnapshotsRequest, RepairedSnapshot, repair_index, repair_packs,
    repair_snapshots,
};
pub use repository::{InitRequest, Repository, Who};
pub use restore::{ItemAction, Overwrite, RestoreOutcome, RestoreProblem, RestoreRequest, restore};
pub use stats::{Stats, stats};
pub use tag::{TagChange, tag};

/// What the calls of this room answer.
pub type Result<T> = std::result::Result<T, TransferError>;
