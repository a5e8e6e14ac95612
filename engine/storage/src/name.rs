//! The name of one file of a repository.

use engine_repository::{FileKind, Id};
use std::fmt;
use std::io;
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

/// Names of files that are being written begin with this; readers, restic's too, pass over them.
pub(crate) const TEMPORARY: &str = "tmp-";

/// A name nobody else has for a file that is being written.
pub(crate) fn temporary() -> io::Result<String> {
    Ok(format!("{TEMPORARY}{}", random_text()?))
}

/// Letters and digits nobody else has.
pub(crate) fn random_text() -> io::Result<String> {
    let mut chance = [0; 12];
    getrandom::fill(&mut chance).map_err(|cause| io::Error::other(cause.to_string()))?;
    Ok(chance.iter().map(|byte| format!("{byte:02x}")).collect())
}
