//! Signed metadata: keys, signing, and the rules a client follows before it believes anything.
//!
//! The form is TUF 1.0 (The Update Framework) in a small profile: the four top-level roles, ed25519
//! only, SHA-256 only, consistent snapshots, no delegations. Any TUF client can verify what is
//! signed here; [`client::Client`] verifies what any TUF repository of that profile signed.
//!
//! What protects against what: thresholds and hashes against false software, versions against
//! rollback, expiry against freezing, the snapshot against mixing old with new, byte limits against
//! endless answers, the chain of roots against a stolen key.
//!
//! **Invariant:** bytes that were verified are kept as they came and never written anew; nothing is
//! believed before the threshold of distinct keys has signed it.
//!
//! **Not here:** network, files, clock, random numbers. Bytes, the time and seeds are arguments;
//! what to fetch, keep and forget are answers.

pub mod client;
pub mod coverage;
pub mod digest;
pub mod envelope;
pub mod error;
pub mod json;
pub mod key;
pub mod offer;
pub mod role;
pub mod roles;
pub mod time;

pub use client::{Cache, Client, Keep, Request, TargetCheck, Verified};
pub use digest::FileHash;
pub use envelope::Envelope;
pub use error::{Trouble, TrustError};
pub use key::{KeyId, PublicKey, SigningKey};
pub use offer::{Offer, Wanted, compare_versions};
pub use role::Role;
pub use roles::{Head, MetaFile, RoleKeys, Root, Snapshot, TargetFile, Targets, Timestamp};
pub use time::{Moment, UnixSeconds};
