//! Stories: a user's day, told with the real programs. They live in `tests/`, one file a theme.
//!
//! A story says what the owner of a NAS does and what must then be true. It starts real processes
//! and reads real files; there is nothing to pretend. What owners and keepers of depots do is said
//! once, here: [`Depot`] is somebody's package source, [`OurBox`] a NAS with our package on it,
//! [`Meddler`] somebody between them, [`Computer`] a box asked
//! over the network by [`Browser`], [`Line`] a line that is too thin.
//!
//! **Invariant:** a story depends on `tests-support` alone and uses our programs as anybody may:
//! by their command lines.
//!
//! **Not here:** anything a unit test beside the code says better. A story proves the wiring.

mod browser;
mod computer;
mod depot;
mod line;
mod meddler;
mod month;
mod our_box;

pub use browser::Browser;
pub use computer::{Computer, Reply, line_to};
pub use depot::{Depot, built_and_checked, stripped};
pub use line::Line;
pub use meddler::Meddler;
pub use month::Month;
pub use our_box::{OurBox, PACKAGE, folder_for_everybody, nothing_was_sent_again, packs};
