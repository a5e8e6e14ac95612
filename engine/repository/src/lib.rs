//! The restic repository format, version 2, as values.
//!
//! Everything a repository is made of can be turned into bytes and back here: [`id`]s, [`file`]
//! names, sealed units ([`crypto`]), [`blob`]s, [`pack`]s, the [`config`], [`key_file`]s,
//! [`snapshot`]s, [`lock`]s, [`index`] files, [`tree`]s; and [`chunker`] says where files are cut.
//! `FORMAT.md` beside this package says what is written, what is tolerated, and why.
//!
//! **Invariant:** what is written here, stock restic reads; trees are byte for byte what restic
//! would write. Whatever comes in is bounded before it is parsed, and no bytes, however hostile,
//! make it panic.
//!
//! **Not here:** disk, clock, network, random numbers: bytes, times and nonces come in as
//! arguments. Nor which blobs exist, or in which order files are written: that is
//! transfer's business.

pub mod blob;
pub mod blob_stream;
pub mod chunker;
pub mod compress;
pub mod config;
pub mod crypto;
pub mod file;
mod go_text;
pub mod id;
pub mod index;
pub mod json;
pub mod key_file;
pub mod lock;
pub mod pack;
pub mod polynomial;
pub mod snapshot;
pub mod time;
pub mod tree;
pub mod unpacked;

pub use blob::{BlobKind, BlobOpener, BlobSealer, PackedBlob, SealedBlob};
pub use blob_stream::BlobStream;
pub use chunker::{Chunker, ChunkerKind};
pub use config::{Config, Cutting, Version};
pub use crypto::{MasterKey, Nonce};
pub use file::FileKind;
pub use id::{Hasher, Id};
pub use index::{IndexEntry, IndexReader, IndexWriter};
pub use key_file::{KdfCost, KeyFile, KeyMaker};
pub use lock::Lock;
pub use pack::{PackBuilder, PackTail};
pub use polynomial::Polynomial;
pub use snapshot::{Snapshot, Summary};
pub use time::Time;
pub use tree::{Node, NodeKind, TreeReader, TreeWriter};
