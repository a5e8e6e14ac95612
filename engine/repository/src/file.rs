//! The kinds of files a repository is made of, and where each lies.
//!
//! ```text
//! config                       keys/<id>        locks/<id>
//! data/<first two digits>/<id> snapshots/<id>   index/<id>
//! ```

use crate::id::Id;

/// One kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    /// The one file that makes a folder a repository.
    Config,
    /// The master key, sealed by a password.
    Key,
    /// A promise of a running program.
    Lock,
    /// The root of one backup.
    Snapshot,
    /// Where blobs lie in packs.
    Index,
    /// Blobs.
    Pack,
}

impl FileKind {
    /// Every kind that is a folder of files named by ids, that is all but the config.
    pub const LISTED: [Self; 5] = [Self::Key, Self::Lock, Self::Snapshot, Self::Index, Self::Pack];

    /// The kind's folder, as in the REST protocol's URLs; for the config its file name.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Key => "keys",
            Self::Lock => "locks",
            Self::Snapshot => "snapshots",
            Self::Index => "index",
            Self::Pack => "data",
        }
    }

    /// What a person calls such a file.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Key => "key",
            Self::Lock => "lock",
            Self::Snapshot => "snapshot",
            Self::Index => "index",
            Self::Pack => "pack",
        }
    }

    /// The path of a file below the repository's root, with `/`. The config has no id; its `id` is
    /// ignored.
    pub fn path(self, id: &Id) -> String {
        match self {
            Self::Config => self.folder().to_owned(),
            Self::Pack => {
                let text = id.to_string();
                format!("data/{}/{text}", &text[..2])
            }
            _ => format!("{}/{id}", self.folder()),
        }
    }

    /// The id a file name stands for. Readers ignore every other name: temporary files of several
    /// programs lie beside the real ones.
    pub fn id_of_name(name: &str) -> Option<Id> {
        Id::from_text(name.as_bytes())
    }

    /// The kind and id of a path below the root, `None` when it is no file of a repository. The
    /// config's id is [`Id::ZERO`].
    pub fn of_path(path: &str) -> Option<(Self, Id)> {
        if path == Self::Config.folder() {
            return Some((Self::Config, Id::ZERO));
        }
        let (folder, rest) = path.split_once('/')?;
        let kind = Self::LISTED.into_iter().find(|kind| kind.folder() == folder)?;
        let name = match kind {
            Self::Pack => {
                let (shelf, name) = rest.split_once('/')?;
                Some(name).filter(|name| shelf.len() == 2 && name.starts_with(shelf))?
            }
            _ => rest,
        };
        Some((kind, Self::id_of_name(name)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_lies_where_restic_looks_for_it_and_is_recognised_there() {
        let id = Id::of(b"abc");
        assert_eq!(FileKind::Pack.path(&id), format!("data/ba/{id}"));
        assert_eq!(FileKind::Snapshot.path(&id), format!("snapshots/{id}"));
        for kind in FileKind::LISTED {
            assert_eq!(FileKind::of_path(&kind.path(&id)), Some((kind, id)));
        }
        assert_eq!(FileKind::Config.path(&id), "config");
        assert_eq!(FileKind::of_path("config"), Some((FileKind::Config, Id::ZERO)));
    }

    #[test]
    fn a_name_that_is_no_id_is_no_file_of_a_repository() {
        let id = Id::of(b"abc");
        let paths = [
            format!("data/{id}"),
            format!("data/00/{id}"),
            format!("data/ba/{id}-tmp-1"),
            format!("keys/../keys/{id}"),
            format!("other/{id}"),
            "keys/".to_owned(),
            "keys".to_owned(),
            String::new(),
        ];
        for path in paths {
            assert_eq!(FileKind::of_path(&path), None, "{path}");
        }
    }
}
