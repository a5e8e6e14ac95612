//! What the walk has others do: look at the folders it comes to next, and read small files.
//!
//! The helpers are threads that take one errand after the other, in the order they were given. None
//! of them waits for the walk or for what another was given.

use super::look::Looker;
use super::next_folder::NextFolder;
use super::small_files::{Batch, Reader};
use crossbeam_channel::Receiver;
use std::sync::Arc;

/// Threads that do errands. More help no disk we know, and each takes a stack.
pub(super) const HELPERS: usize = 4;
/// Errands that nobody has begun; each holds a folder open.
pub(super) const ERRANDS_WAITING_MAX: usize = 8;

/// What the walk has done by a helper.
pub(super) enum Errand {
    /// To look at a folder. It is only asked for where a helper has time.
    Folder(Arc<NextFolder>),
    /// To read small files. The walk waits until it can leave them.
    Files(Batch),
}

/// Does errands until there are no more, or the backup ends.
pub(super) fn help(looker: Looker<'_>, mut reader: Reader<'_, '_>, errands: &Receiver<Errand>) {
    for errand in errands {
        // When the backup ends nobody waits for an answer.
        if looker.shared.is_stopped() {
            return;
        }
        match errand {
            Errand::Folder(folder) => folder.look(looker),
            Errand::Files(batch) => match reader.read(batch) {
                Some(()) => {}
                None => return,
            },
        }
    }
}
