//! The name of one file of a repository.

use engine_repository::{FileKind, Id};
use std::fmt;
use std::path::PathBuf;

/// One file of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Name {
    /// What it is.
    pub kind: FileKind,
    /// Which one; [`Id::ZERO`] for the config, of which there is one.
    pub id: Id,
}

impl Name {
    /// The repository's configuration.
    pub const CONFIG: Self = Self { kind: FileKind::Config, id: Id::ZERO };

    /// A file of a kind of which there are many.
    pub const fn of(kind: FileKind, id: Id) -> Self {
        Self { kind, id }
    }

    /// The path in restic's layout, relative to the repository.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(self.kind.path(&self.id))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind.path(&self.id))
    }
}
