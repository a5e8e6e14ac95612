//! A Synology NAS in a folder, and what else a story needs: programs, trees of odd files, a judge.
//!
//! This room plays every part that is not ours. [`Nas`] is a folder that looks like the root of a
//! Synology system; it installs, starts, upgrades and removes packages as DSM does: in its order,
//! with its environment, its users and its links. [`Center`] asks a depot as Package Center asks.
//! [`tree`] makes the files that break backups, [`compare`] says in which byte or attribute two
//! trees differ, [`program`] finds (and builds) the real programs of the workspace, [`stores`]
//! starts object stores, [`RestServer`] and [`SshServer`] are other places for repositories,
//! [`wait_for`] waits for what is about to be so.
//!
//! **Invariant:** nothing here is shared with what it judges. Packages are unpacked by the
//! system's `tar` and their INFO is read by DSM's rules written down a second time: a mistake in
//! `spk` cannot hide behind itself.
//!
//! **Not here:** knowledge of our own programs, except the names of their packages. Stories have
//! that.

mod center;
pub mod compare;
mod home;
mod http;
pub mod nas;
mod patience;
mod programs;
mod rest_server;
mod ssh_server;
pub mod stores;
pub mod tree;

pub use center::{Center, Offer, Row, fetch, md5};
pub use home::TempHome;
pub use http::Answer;
pub use nas::{Dsm, Hardware, Nas, NasError, Shell};
pub use patience::{Found, PATIENCE, Telling, wait_for, wait_longer};
pub use programs::{Finished, Running, peer, program, put_program, run, workspace};
pub use rest_server::RestServer;
pub use ssh_server::{SshServer, sftp_server};
