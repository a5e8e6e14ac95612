//! What is to be backed up: the paths the owner named as one tree, and what to leave out of it.

use crate::{Result, TransferError};
use globset::{Candidate, GlobBuilder, GlobSet, GlobSetBuilder};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

/// The paths the owner named, as a tree from `/`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Branch {
    /// Everything here and below.
    Whole,
    /// Only these names: a folder on the way to something named.
    Partly(BTreeMap<Vec<u8>, Branch>),
}

impl Branch {
    /// The tree of absolute paths. A path below another named one adds nothing.
    pub(super) fn of_paths<P: AsRef<Path>>(paths: &[P]) -> Result<Self> {
        if paths.is_empty() {
            return Err(TransferError::NothingToBackUp);
        }
        let mut root = Self::Partly(BTreeMap::new());
        for path in paths {
            let path = path.as_ref();
            let mut names = Vec::new();
            for component in path.components() {
                match component {
                    Component::RootDir | Component::CurDir => {}
                    Component::Normal(name) => names.push(name),
                    _ => return Err(not_absolute(path)),
                }
            }
            if !path.is_absolute() {
                return Err(not_absolute(path));
            }
            root.insert(&names);
        }
        Ok(root)
    }

    fn insert(&mut self, names: &[&OsStr]) {
        let Self::Partly(children) = self else { return };
        let Some((first, rest)) = names.split_first() else {
            *self = Self::Whole;
            return;
        };
        children
            .entry(first.as_bytes().to_vec())
            .or_insert_with(|| Self::Partly(BTreeMap::new()))
            .insert(rest);
    }
}

fn not_absolute(path: &Path) -> TransferError {
    let cause = std::io::Error::other("it is not an absolute path without `..`");
    TransferError::Source { path: path.into(), cause }
}

/// Patterns that names or paths fit.
#[derive(Debug)]
pub(crate) struct Patterns {
    names: GlobSet,
    paths: GlobSet,
}

impl Patterns {
    /// A pattern without `/` fits a name in any folder; one with `/` fits whole paths, and one that
    /// does not start with `/` fits their ends, too.
    pub(crate) fn new(patterns: &[String]) -> Result<Self> {
        let (mut names, mut paths) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        for pattern in patterns {
            let bad = |reason: String| TransferError::Pattern { pattern: pattern.clone(), reason };
            let trimmed = match pattern.trim_end_matches('/') {
                "" => return Err(bad("it is empty".to_owned())),
                trimmed => trimmed,
            };
            let is_name = !trimmed.contains('/');
            let text = match is_name || trimmed.starts_with('/') || trimmed.starts_with("**/") {
                true => trimmed.to_owned(),
                false => format!("**/{trimmed}"),
            };
            let glob = GlobBuilder::new(&text)
                .literal_separator(true)
                .backslash_escape(true)
                .build()
                .map_err(|cause| bad(cause.kind().to_string()))?;
            if is_name {
                names.add(glob)
            } else {
                paths.add(glob)
            };
        }
        let built = |builder: GlobSetBuilder| {
            let too_many = |cause: globset::Error| TransferError::Pattern {
                pattern: patterns.join(" "),
                reason: cause.kind().to_string(),
            };
            builder.build().map_err(too_many)
        };
        Ok(Self { names: built(names)?, paths: built(paths)? })
    }

    /// Whether no path fits.
    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty() && self.paths.is_empty()
    }

    /// Whether a path fits.
    pub(crate) fn fit(&self, path: &Path) -> bool {
        let fits_name = !self.names.is_empty()
            && path.file_name().is_some_and(|name| {
                self.names.is_match_candidate(&Candidate::new(Path::new(name)))
            });
        fits_name || (!self.paths.is_empty() && self.paths.is_match(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Result<Patterns> {
        Patterns::new(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn paths_become_one_tree_and_the_wider_one_wins() {
        let tree = Branch::of_paths(&["/a/b/c", "/a/b", "/a/d/", "/e/./f"]).unwrap();
        let Branch::Partly(root) = &tree else { panic!("{tree:?}") };
        let Branch::Partly(a) = &root[&b"a"[..]] else { panic!("{tree:?}") };
        assert_eq!(a[&b"b"[..]], Branch::Whole);
        assert_eq!(a[&b"d"[..]], Branch::Whole);
        assert_eq!(Branch::of_paths(&["/x", "/"]).unwrap(), Branch::Whole);
    }

    #[test]
    fn paths_that_are_relative_or_climb_are_refused() {
        for path in ["a", "", "../a", "/a/../b"] {
            assert!(Branch::of_paths(&[path]).is_err(), "{path}");
        }
        assert!(matches!(Branch::of_paths::<&str>(&[]), Err(TransferError::NothingToBackUp)));
    }

    #[test]
    fn names_fit_anywhere_and_paths_fit_whole() {
        let some = patterns(&["*.tmp", "/home/*/cache", "build/out/"]).unwrap();
        for path in ["/a/b.tmp", "/b.tmp", "/home/ann/cache", "/x/build/out"] {
            assert!(some.fit(Path::new(path)), "{path}");
        }
        for path in ["/a.tmp/b", "/home/ann/x/cache", "/home/cache", "/x/out", "/x/build"] {
            assert!(!some.fit(Path::new(path)), "{path}");
        }
        let odd = Path::new(OsStr::from_bytes(b"/a/\xff.tmp"));
        assert!(some.fit(odd));
        assert!(patterns(&[]).unwrap().is_empty());
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for text in ["", "/", "a[", "{a"] {
            let refused = patterns(&["fine", text]).map(|_| ()).unwrap_err();
            assert!(refused.to_string().contains(&format!("`{text}`")), "{refused}");
        }
    }
}
