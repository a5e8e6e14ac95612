//! Something that one thread waits for and others work out.

use super::shared::Shared;
use crate::mutex::lock;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How often a waiting thread looks whether the backup has ended.
const LOOK_MILLISECONDS: u64 = 100;

/// A value that is being worked out.
#[derive(Debug, Default)]
pub(super) struct Awaited<T> {
    state: Mutex<State<T>>,
    completed: Condvar,
}

#[derive(Debug, Default)]
struct State<T> {
    value: T,
    /// To wake nobody is a call of the system, too.
    is_awaited: bool,
}

impl<T> Awaited<T> {
    pub(super) fn of(value: T) -> Self {
        let state = Mutex::new(State { value, is_awaited: false });
        Self { state, completed: Condvar::new() }
    }

    /// Works on it; whoever waits is woken where this says that it is complete.
    pub(super) fn change(&self, work: impl FnOnce(&mut T) -> bool) {
        let mut state = lock(&self.state);
        if work(&mut state.value) && state.is_awaited {
            self.completed.notify_all();
        }
    }

    /// Looks at it as it is.
    pub(super) fn now<A>(&self, look: impl FnOnce(&T) -> A) -> A {
        look(&lock(&self.state).value)
    }

    /// What `take` gives, as soon as it gives something; `None` when the backup ends before.
    pub(super) fn wait<A>(
        &self,
        shared: &Shared<'_>,
        mut take: impl FnMut(&mut T) -> Option<A>,
    ) -> Option<A> {
        let mut state = lock(&self.state);
        loop {
            if let Some(taken) = take(&mut state.value) {
                return Some(taken);
            }
            if shared.is_stopped() {
                return None;
            }
            state.is_awaited = true;
            let timeout = Duration::from_millis(LOOK_MILLISECONDS);
            let waited = self.completed.wait_timeout(state, timeout);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
