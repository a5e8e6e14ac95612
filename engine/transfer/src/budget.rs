//! The bytes all buffers of a pipeline may take together.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// A number of bytes that is shared. Whoever asks for more than is left waits.
#[derive(Debug)]
pub(crate) struct Budget {
    capacity: usize,
    used: Mutex<usize>,
    freed: Condvar,
}

impl Budget {
    pub(crate) fn of(capacity: usize) -> Arc<Self> {
        Arc::new(Self { capacity, used: Mutex::new(0), freed: Condvar::new() })
    }

    /// Takes `bytes`, as soon as they are free. Who asks for more than everything gets everything,
    /// when all others are done: a chunk larger than the budget passes alone and never blocks.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize) -> Share {
        let bytes = bytes.min(self.capacity);
        let mut used = self.lock();
        while *used + bytes > self.capacity {
            used = self.freed.wait(used).unwrap_or_else(PoisonError::into_inner);
        }
        *used += bytes;
        Share { budget: self.clone(), bytes }
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut used = self.budget.lock();
        while *used + more > self.budget.capacity {
            used = self.budget.freed.wait(used).unwrap_or_else(PoisonError::into_inner);
        }
        *used += more;
        drop(used);
        self.bytes = bytes;
    }

    /// Gives back all but `bytes`.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        if bytes < self.bytes {
            *self.budget.lock() -= self.bytes - bytes;
            self.bytes = bytes;
            self.budget.freed.notify_all();
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
        receiver.recv_timeout(Duration::from_secs(10)).unwrap();
        waiting.join().unwrap();
        drop(first);
        assert_eq!(*budget.lock(), 0);
    }

    #[test]
    fn a_chunk_larger_than_the_budget_passes_alone() {
        let budget = Budget::of(10);
        drop(budget.take(1000));
        assert_eq!(*budget.lock(), 0);
    }
}
