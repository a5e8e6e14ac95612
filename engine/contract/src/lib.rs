//! What a program and whoever runs it must agree on.
//!
//! The engine is started by a supervisor, a test, or a person. This room holds the few things that
//! both sides must read alike: the computer's [`identity`], the [`layout`] of the engine's home,
//! the [`memory`] plan, the messages of the [`control`] API, where the [`console`] is, and the
//! names of the [`environment`].
//!
//! **Entry rule:** a thing may live here only if two processes that disagreed about it would fail
//! at run time.
//!
//! **Invariant:** everything here is a value. Facts come in as arguments, text goes out.
//!
//! **Not here:** opening files, reading the environment or `/proc`, random numbers, the clock.

pub mod console;
pub mod control;
pub mod environment;
pub mod identity;
pub mod layout;
pub mod memory;
