//! How long to wait for a lock that somebody else holds.

use crate::{Cancel, Result, TransferError};
use std::fs::{File, TryLockError};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The first wait between two tries; each is twice the one before.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// No wait between two tries is longer.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// So long it takes to notice that somebody asked to stop.
const STEP: Duration = Duration::from_millis(100);

/// How often the lock of a file is asked for, and how long it is waited in between: three seconds
/// in all.
const FILE_TRIES_MAX: u32 = 150;
const FILE_PAUSE: Duration = Duration::from_millis(20);

/// Locks a file for this program alone; the system gives it free when that ends. A program that is
/// being started has what its parent had open for a moment, and on a busy computer that is a while:
/// so it is not asked only once.
pub(crate) fn lock_alone(file: &File) -> std::result::Result<(), TryLockError> {
    for _ in 1..FILE_TRIES_MAX {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => sleep(FILE_PAUSE),
            done => return done,
        }
    }
    file.try_lock()
}

/// How long to try to get a lock. By default, once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Patience {
    pub(crate) wait: Duration,
    pub(crate) cancel: Cancel,
}

impl Patience {
    /// Tries until the answer is no longer that somebody holds a lock.
    pub(crate) fn wait<T>(&self, mut get: impl FnMut() -> Result<T>) -> Result<T> {
        let end = Instant::now() + self.wait;
        let mut pause = PAUSE_MIN;
        loop {
            match get() {
                Err(TransferError::Locked { .. }) if Instant::now() < end => {}
                done => return done,
            }
            let again = (Instant::now() + pause).min(end);
            while Instant::now() < again {
                if self.cancel.is_cancelled() {
                    return Err(TransferError::Cancelled);
                }
                sleep(STEP.min(again.saturating_duration_since(Instant::now())));
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locked() -> TransferError {
        TransferError::Locked { holder: "ann".into(), since: "today".into() }
    }

    #[test]
    fn a_lock_is_waited_for_until_it_is_free_or_time_is_up_or_somebody_says_stop() {
        let mut tries = 0;
        let mut free_at = |number, patience: &Patience| {
            tries = 0;
            let got = patience.wait(|| {
                tries += 1;
                if tries < number { Err(locked()) } else { Ok(()) }
            });
            (got, tries)
        };
        let (got, tries) = free_at(2, &Patience::default());
        assert!(matches!(got, Err(TransferError::Locked { .. })) && tries == 1);
        let some = Patience { wait: Duration::from_secs(30), cancel: Cancel::new() };
        let (got, tries) = free_at(2, &some);
        assert!(got.is_ok() && tries == 2);
        some.cancel.cancel();
        let (got, tries) = free_at(2, &some);
        assert!(matches!(got, Err(TransferError::Cancelled)) && tries == 1);
    }
}
