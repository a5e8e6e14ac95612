//! What the tests of every room that uses a storage need: the conformance suite that each storage
//! must pass, [`Faulty`], a storage that fails on purpose, and [`QuickClock`], which waits for
//! nothing.

mod conformance;
mod faulty;
mod quick_clock;

pub use conformance::{conforms, conforms_but_for_rivals, conforms_where_names_are_sums};
pub use faulty::{Fault, Faulty};
pub use quick_clock::QuickClock;
