//! What the tests of every room that uses a storage need: the conformance suite that each storage
//! must pass, and [`Faulty`], a storage that fails on purpose.

mod conformance;
mod faulty;

pub use conformance::{conforms, conforms_but_for_rivals, conforms_where_names_are_sums};
pub use faulty::{Fault, Faulty};
