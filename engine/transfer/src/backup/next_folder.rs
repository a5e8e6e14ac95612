//! A folder that somebody is to look at before the walk gets there, and what was seen of it.
//!
//! Whoever comes first looks at it, a helper or the walk, and nobody else.

use super::awaited::Awaited;
use super::look::{Looker, Seen};
use super::shared::Shared;
use crate::posix::Folder;
use std::ffi::CString;
use std::path::PathBuf;
use std::sync::Arc;

/// A folder to be looked at.
pub(super) struct NextFolder {
    parent: Arc<Folder>,
    pub(super) name: CString,
    path: PathBuf,
    state: Awaited<State>,
}

#[derive(Default)]
enum State {
    #[default]
    Asked,
    /// By a thread, or by the walk, which then needs no answer.
    Begun,
    /// What was seen; nothing where that failed.
    Done(Option<Box<Seen>>),
}

impl NextFolder {
    pub(super) fn new(parent: Arc<Folder>, name: CString, path: PathBuf) -> Self {
        Self { parent, name, path, state: Awaited::default() }
    }

    /// Looks at it, unless somebody has begun to.
    pub(super) fn look(&self, looker: Looker<'_>) {
        if self.begin() {
            let seen = looker.see(&self.parent, &self.name, &self.path);
            let seen = seen.ok().map(Box::new);
            self.state.change(|state| {
                *state = State::Done(seen);
                true
            });
        }
    }

    /// Whether it falls to the one who asks.
    pub(super) fn begin(&self) -> bool {
        let mut is_mine = false;
        self.state.change(|state| {
            is_mine = matches!(state, State::Asked);
            if is_mine {
                *state = State::Begun;
            }
            false
        });
        is_mine
    }

    /// What was seen, once whoever began has ended; `None` when the backup ends.
    pub(super) fn wait(&self, shared: &Shared<'_>) -> Option<Option<Box<Seen>>> {
        let take = |state: &mut State| match state {
            State::Done(seen) => Some(seen.take()),
            State::Asked | State::Begun => None,
        };
        self.state.wait(shared, take)
    }

    /// As if it had been looked at so much earlier.
    #[cfg(test)]
    pub(super) fn grow_older(&self, by: std::time::Duration) {
        self.state.change(|state| {
            let State::Done(Some(seen)) = state else { panic!("nothing was seen") };
            seen.grow_older(by);
            false
        });
    }
}
