//! Waiting for what is about to be so, however slow the computer is.
//!
//! A test asks again and again until it holds, and fails only when it never does. It never sleeps
//! for luck and never asserts right after it set something going.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// So long is waited for anything that does not say otherwise.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A look is taken this often.
const PAUSE: Duration = Duration::from_millis(10);

/// What a look found: `bool`, or a thing that may not be there yet.
pub trait Found {
    /// What is there once it is.
    type Value;
    /// It, or nothing yet.
    fn found(self) -> Option<Self::Value>;
}

impl Found for bool {
    type Value = ();

    fn found(self) -> Option<()> {
        self.then_some(())
    }
}

impl<T> Found for Option<T> {
    type Value = T;

    fn found(self) -> Self {
        self
    }
}

/// Looks again and again until it is so.
///
/// # Panics
/// When [`PATIENCE`] is over, saying what was waited for.
#[track_caller]
pub fn wait_for<F: Found>(what: impl Display, look: impl FnMut() -> F) -> F::Value {
    wait_longer(PATIENCE, what, look)
}

/// The same for what may take longer.
///
/// # Panics
/// When `patience` is over, saying what was waited for.
#[track_caller]
pub fn wait_longer<F: Found>(
    patience: Duration,
    what: impl Display,
    mut look: impl FnMut() -> F,
) -> F::Value {
    let end = Instant::now() + patience;
    loop {
        if let Some(value) = look().found() {
            return value;
        }
        assert!(Instant::now() < end, "waited in vain for {patience:?}: {what}");
        std::thread::sleep(PAUSE);
    }
}

/// Words that are made only when somebody reads them: a log, as it is by then.
pub struct Telling<F>(pub F);

impl<F: Fn() -> String> Display for Telling<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&(self.0)())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_late_is_found_and_what_never_comes_is_named() {
        let mut looks = 0;
        wait_for("the third look", || {
            looks += 1;
            looks == 3
        });
        assert_eq!(wait_for("a number", || Some(7)), 7);
        let never = || wait_longer(Duration::ZERO, Telling(|| "snow in May".to_owned()), || false);
        let panic = std::panic::catch_unwind(never).unwrap_err();
        assert!(panic.downcast_ref::<String>().unwrap().ends_with("snow in May"));
    }
}
