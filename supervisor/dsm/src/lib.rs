//! Everything the supervisor does to, or learns from, the NAS it runs on.
//!
//! This room opens files, starts and ends processes and names absolute paths, so that the rooms
//! that decide need not. It is a *place*, not an interface: a [`Dsm`] is a directory that looks
//! like the root of a Synology system. On a NAS that directory is `/`; in a test it is a temporary
//! one. There is no mock, so there is nothing for the mock to get wrong.
//!
//! **Invariant:** no path leaves the root. DSM links `/var/packages/X/target` to an absolute
//! `/volume1/@appstore/X`; [`Dsm::find`] follows such a link *inside* the root. Below a package's
//! own folders, where the package's user can plant links, nothing is followed at all: there every
//! file is reached through a [`Folder`].
//!
//! **Not here:** decisions. What to do about a dead daemon is `lifecycle`'s business, what to say
//! about it is the program's. Nothing here prints, or reads the environment.

pub mod clock;
mod error;
mod folder;
mod hook;
pub mod launch;
pub mod limits;
pub mod lock;
pub mod log;
pub mod machine;
pub mod memory;
mod package;
mod place;
pub mod process;
pub mod tree;
mod version;
pub mod zone;

pub use error::DsmError;
pub use folder::{Folder, Kind};
pub use hook::{HookContext, PackageStatus, WIZARD_VALUE_BYTES_MAX};
pub use package::{Package, PackageName};
pub use place::Dsm;
pub use version::DsmVersion;

/// Shorthand for what can go wrong here.
pub type Result<T, E = DsmError> = std::result::Result<T, E>;
