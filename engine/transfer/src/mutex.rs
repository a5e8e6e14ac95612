//! Locks whose holder may have panicked: what it held is used as it is, for each is held only while
//! something small is changed, and a panic ends the program anyway.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The value, once nobody else has it.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
