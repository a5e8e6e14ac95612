//! The bytes all buffers of a pipeline may take together.

use crate::mutex::lock;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// A number of bytes that is shared. Whoever asks for more than is left waits.
#[derive(Debug)]
pub(crate) struct Budget {
    capacity: usize,
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    used: usize,
    /// To wake nobody is a call of the system, too, and most of the time there is nobody.
    waiting: usize,
}

impl Budget {
    pub(crate) fn of(capacity: usize) -> Arc<Self> {
        Arc::new(Self { capacity, state: Mutex::default(), freed: Condvar::new() })
    }

    /// Takes `bytes`, as soon as they are free. Who asks for more than everything gets everything,
    /// when all others are done: a chunk larger than the budget passes alone and never blocks.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize) -> Share {
        let bytes = bytes.min(self.capacity);
        self.take_more(bytes);
        Share { budget: self.clone(), bytes }
    }

    fn take_more(&self, bytes: usize) {
        let mut state = self.lock();
        while state.used + bytes > self.capacity {
            state.waiting += 1;
            state = self.freed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        state.used += bytes;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// A part of a budget, given back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Share {
    /// Takes more, as soon as it is free, until it is `bytes`. Only one thread may hold a share and
    /// ask for more: two could wait for each other.
    pub(crate) fn grow(&mut self, bytes: usize) {
        let bytes = bytes.min(self.budget.capacity);
        let Some(more) = bytes.checked_sub(self.bytes).filter(|more| *more > 0) else { return };
        self.budget.take_more(more);
        self.bytes = bytes;
    }

    /// Takes a part of it away, at most all of it.
    pub(crate) fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { budget: self.budget.clone(), bytes }
    }

    /// Gives back all but `bytes`.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        if bytes < self.bytes {
            let mut state = self.budget.lock();
            state.used -= self.bytes - bytes;
            self.bytes = bytes;
            if state.waiting > 0 {
                self.budget.freed.notify_all();
            }
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn who_asks_for_too_much_waits_until_it_is_given_back() {
        let budget = Budget::of(100);
        let mut first = budget.take(80);
        let (sender, receiver) = std::sync::mpsc::channel();
        let asking = budget.clone();
        let waiting = std::thread::spawn(move || {
            let share = asking.take(50);
            sender.send(()).unwrap();
            drop(share);
        });
        assert!(receiver.recv_timeout(Duration::from_millis(50)).is_err());
        first.shrink(50);
        receiver.recv_timeout(Duration::from_secs(60)).unwrap();
        waiting.join().unwrap();
        drop(first);
        assert_eq!(budget.lock().used, 0);
    }

    #[test]
    fn a_chunk_larger_than_the_budget_passes_alone() {
        let budget = Budget::of(10);
        drop(budget.take(1000));
        assert_eq!(budget.lock().used, 0);
    }
}
