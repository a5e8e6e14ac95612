//! Stories: a user's day, told with the real programs. They live in `tests/`, one file a theme.
//!
//! A story says what the owner of a NAS does and what must then be true, in words of
//! `tests-support`. It starts real processes and reads real files; there is nothing to pretend.
//!
//! **Invariant:** a story depends on `tests-support` alone, so it cannot know more about our
//! programs than a user can.
//!
//! **Not here:** anything a unit test beside the code says better. A story proves the wiring.
