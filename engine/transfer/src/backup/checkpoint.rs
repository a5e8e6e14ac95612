//! Checkpoints: what is finished so far, as a snapshot that other programs see and can restore.
//!
//! A checkpoint holds the trees of finished folders, and of those being walked what is finished of
//! them. It has the tags of its set and [`TAG`], and says in its program's version that we wrote
//! it: only a snapshot with both is ever removed, so that an owner may use the tag, too. The next
//! backup of the same computer and paths compares with it beside the newest complete snapshot, so
//! one that lost its journal, or began on another disk, starts where the checkpoint was made. When
//! a snapshot is complete, the checkpoints before it go.

use super::shared::Shared;
use super::{BackupRequest, save_snapshot};
use crate::mutex::lock;
use crate::{Repository, Result};
use engine_repository::{FileKind, Id, Snapshot};
use engine_storage::{Name, StorageError};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How old a checkpoint gets unless the request says otherwise: 15 minutes.
pub const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(15 * 60);

/// What a checkpoint is tagged with.
pub(crate) const TAG: &str = "checkpoint";
/// How the version of a checkpoint's program ends.
const VERSION_END: &str = " (checkpoint)";

/// Checkpoints a backup compares with. Those of runs that came less far tell nothing new.
pub(crate) const PARENTS_MAX: usize = 2;

/// Whether a snapshot is a checkpoint of ours.
pub(crate) fn is_checkpoint(snapshot: &Snapshot) -> bool {
    snapshot.program_version.ends_with(VERSION_END) && snapshot.tags.iter().any(|tag| tag == TAG)
}

/// The checkpoints of one run.
pub(super) struct Checkpoints<'a> {
    request: &'a BackupRequest,
    parent: Option<Id>,
    begun: Instant,
    state: Mutex<State>,
}

struct State {
    asked: Instant,
    is_under_way: bool,
    saved: Option<Id>,
}

impl<'a> Checkpoints<'a> {
    pub(super) fn of(request: &'a BackupRequest, parent: Option<Id>) -> Self {
        let begun = Instant::now();
        let state = Mutex::new(State { asked: begun, is_under_way: false, saved: None });
        Self { request, parent, begun, state }
    }

    /// Whether it is time for one.
    pub(super) fn is_due(&self) -> bool {
        let state = lock(&self.state);
        !state.is_under_way && state.asked.elapsed() >= self.request.checkpoint_interval
    }

    /// One is under way: the next is not asked for before it is saved.
    pub(super) fn asked(&self) {
        let mut state = lock(&self.state);
        (state.asked, state.is_under_way) = (Instant::now(), true);
    }

    /// Saves one, whose tree and all it needs are stored and indexed, and removes the one before.
    pub(super) fn save(&self, shared: &Shared<'_>, tree: Id) -> Result<()> {
        let id = save_snapshot(shared.repository, &self.as_asked(), tree, self.parent, None)?;
        let mut state = lock(&self.state);
        state.is_under_way = false;
        match state.saved.replace(id) {
            Some(before) if before != id => remove(shared.repository, before),
            _ => Ok(()),
        }
    }

    /// Removes those of this run, and the needless ones `before` it, now that all is complete.
    pub(super) fn remove_all(&self, repository: &Repository, before: &[Id]) -> Result<()> {
        let saved = lock(&self.state).saved.take();
        before.iter().copied().chain(saved).try_for_each(|id| remove(repository, id))
    }

    /// The request, as that of a checkpoint made now.
    fn as_asked(&self) -> BackupRequest {
        let mut request = self.request.clone();
        request.tags.push(TAG.to_owned());
        request.tags.dedup();
        request.program_version.push_str(VERSION_END);
        let passed = i64::try_from(self.begun.elapsed().as_secs()).unwrap_or(0);
        let now = request.time.checked_add(jiff::SignedDuration::from_secs(passed));
        request.time = now.unwrap_or(request.time);
        request
    }
}

fn remove(repository: &Repository, checkpoint: Id) -> Result<()> {
    match repository.storage().remove(Name::of(FileKind::Snapshot, checkpoint)) {
        Err(StorageError::NotFound { .. }) => Ok(()),
        removed => Ok(removed?),
    }
}
