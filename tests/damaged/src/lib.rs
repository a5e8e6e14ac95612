//! Old, odd and damaged repositories, made on purpose.
//!
//! An [`Original`] is everything a sound repository holds, in the clear. It is written in any
//! [`Shape`] the format allows or once allowed: version 1, packs of mixed kinds, blobs stored
//! twice, index files that repeat or supersede others, strange files between. [`damage`] then
//! breaks single files, as disks, cables and power cuts do.
//!
//! **Invariant:** bytes are laid out here by the format's description, a second time: only the
//! cipher and the names of files are the engine's own, so a mistake in how the engine writes packs
//! or indexes cannot hide behind itself. The same original gives the same files, always.
//!
//! **Not here:** what anybody says of such a repository; that table is in `tests/`.

pub mod damage;
mod original;
mod shape;

pub use original::{Back, Original, PASSWORD, SOURCE};
pub use shape::{IndexShape, Shape};
