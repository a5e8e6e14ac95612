//! Packages for Synology's DSM 5, 6 and 7 as values: described, built, read, checked, compared.
//!
//! A [`manifest`] says what a package is; [`build`] turns it and built programs into SPK files,
//! byte for byte the same each time; [`read`] makes a value of any SPK, however hostile; [`check`]
//! says what a NAS will not like about it. The table of platforms is [`platform`].
//!
//! **Invariant:** nothing a package says is trusted. Names stay inside, sizes and counts are
//! bounded before memory is reserved, and `package.tgz` is hashed as a stream.
//!
//! **Not here:** what a package is *for*. This room knows no other room; a manifest's `[daemon]`
//! table is carried, not understood. No network and no clock either.

pub mod archive;
pub mod build;
pub mod check;
pub mod compress;
pub mod conf;
pub mod diff;
pub mod dsm;
pub mod extract;
pub mod icon;
pub mod info;
pub mod manifest;
#[cfg(feature = "openpgp")]
pub mod openpgp;
pub mod pages;
pub mod payload;
pub mod platform;
pub mod read;
pub mod signature;
pub mod sources;
pub mod tarball;
pub mod version;
