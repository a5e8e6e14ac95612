//! Trees: folders, each one blob of JSON whatever its size.
//!
//! A blob's id is the sum of its bytes, so the bytes must be exactly those restic would write:
//! `{"nodes":[` nodes `]}` and a newline, sorted by name, fields in a fixed order. `restic rewrite`
//! writes every tree anew and refuses the repository when a byte differs. A folder of a million
//! files is still one blob, so both directions are streams of nodes.

mod mode;
mod node;
mod read;
mod write;

#[cfg(test)]
mod tests;

pub use mode::{go_mode_of_unix, unix_mode_of_go};
pub use node::{ExtendedAttribute, Node, NodeKind};
pub use read::TreeReader;
pub use write::TreeWriter;

use crate::json::JsonError;

/// A node's name is never longer, counted in bytes before quoting.
pub const NAME_BYTES_MAX: usize = 4096;
/// A link target, a user's name, an error: never longer. 64 KiB.
pub const TEXT_BYTES_MAX: usize = 64 << 10;
/// All extended attributes of a node together, as well as its generic ones: 4 MiB.
pub const ATTRIBUTES_BYTES_MAX: usize = 4 << 20;
/// A file is never cut into more pieces: four million, some 4 TiB.
pub const CONTENT_BLOBS_MAX: usize = 4 << 20;

/// Why a tree cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// It is not what a tree looks like.
    #[error("the tree makes no sense")]
    Json(#[from] JsonError),
    /// A name no file can have.
    #[error("the tree has a node named `{}`, which no file can be called", name.escape_ascii())]
    Name {
        /// The name.
        name: Vec<u8>,
    },
    /// Nodes must come in the order of their names' bytes, each once.
    #[error("node `{}` does not come after `{}`", name.escape_ascii(), before.escape_ascii())]
    Order {
        /// The one that came before.
        before: Vec<u8>,
        /// The one that came too late.
        name: Vec<u8>,
    },
    /// A part is missing or too large.
    #[error("node `{}` has no usable {part}", name.escape_ascii())]
    Part {
        /// The node.
        name: Vec<u8>,
        /// What.
        part: &'static str,
    },
}

impl TreeError {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Order { .. } => "run `repair snapshots`: it sorts what another program wrote",
            _ => "run `check --read-data` to learn what is damaged, then `repair snapshots`",
        }
    }
}

/// Whether a file can be called so. Anything else in a tree is an attack or damage: at a restore it
/// would leave the folder it is in.
pub fn is_file_name(name: &[u8]) -> bool {
    let is_plain = !name.is_empty() && name != b"." && name != b"..";
    is_plain && name.len() <= NAME_BYTES_MAX && !name.iter().any(|byte| matches!(byte, b'/' | 0))
}
