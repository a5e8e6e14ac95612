//! The content of one file: ids of its chunks, which come from several threads in any order.

use super::shared::{Shared, lock};
use engine_repository::Id;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How often a waiting thread looks whether the backup has ended.
const LOOK_MILLISECONDS: u64 = 100;

/// The ids of a file's chunks, some of which are still being worked out.
#[derive(Debug, Clone, Default)]
pub(super) struct Content(Arc<Shelf>);

#[derive(Debug, Default)]
struct Shelf {
    /// Known from the start: nothing was read.
    is_known: bool,
    state: Mutex<State>,
    completed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    ids: Vec<Id>,
    missing: usize,
    /// To wake nobody is a call of the system, too.
    is_awaited: bool,
}

impl Content {
    /// What is known from the start.
    pub(super) fn known(ids: Vec<Id>) -> Self {
        let state = Mutex::new(State { ids, missing: 0, is_awaited: false });
        Self(Arc::new(Shelf { is_known: true, state, completed: Condvar::new() }))
    }

    /// Whether it was known from the start.
    pub(super) fn is_known(&self) -> bool {
        self.0.is_known
    }

    /// Adds a chunk at the end, whose id comes by [`Place::set`].
    pub(super) fn expect(&self) -> Place {
        let mut state = lock(&self.0.state);
        state.ids.push(Id::ZERO);
        state.missing += 1;
        Place { content: self.clone(), number: state.ids.len() - 1 }
    }

    /// Adds a chunk at the end whose id is known.
    pub(super) fn push(&self, id: Id) {
        lock(&self.0.state).ids.push(id);
    }

    /// Ids that are known without a gap, from the one with this number on.
    pub(super) fn known_from(&self, first: usize) -> Vec<Id> {
        let state = lock(&self.0.state);
        let ids = state.ids.get(first..).unwrap_or_default();
        ids.iter().take_while(|id| **id != Id::ZERO).copied().collect()
    }

    /// All ids, as soon as they are known; `None` when the backup ends before.
    pub(super) fn wait(&self, shared: &Shared<'_>) -> Option<Vec<Id>> {
        let mut state = lock(&self.0.state);
        while state.missing > 0 {
            if shared.is_stopped() {
                return None;
            }
            state.is_awaited = true;
            let timeout = Duration::from_millis(LOOK_MILLISECONDS);
            let waited = self.0.completed.wait_timeout(state, timeout);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Some(std::mem::take(&mut state.ids))
    }
}

/// Where the id of one chunk goes.
#[derive(Debug)]
pub(super) struct Place {
    content: Content,
    number: usize,
}

impl Place {
    /// Says which id it is.
    pub(super) fn set(self, id: Id) {
        let mut state = lock(&self.content.0.state);
        state.ids[self.number] = id;
        state.missing -= 1;
        if state.missing == 0 && state.is_awaited {
            self.content.0.completed.notify_all();
        }
    }
}
