//! What of a snapshot is to be restored, and which folders need no look because nothing of it can
//! be in them.
//!
//! Who restores one folder of a large snapshot shall not wait until the trees of all others were
//! read. A pattern that starts with `/` begins with names that stand for themselves, up to the
//! first that has a sign of its own meaning in it: whatever fits is below those. Any other pattern
//! may fit everywhere.

use crate::Result;
use crate::backup::select::Patterns;
use std::ffi::OsStr;
use std::path::{Component, Path};

/// Where one of these is in a name of a pattern, it does not stand for itself.
const SIGNS: [char; 7] = ['*', '?', '[', ']', '{', '}', '\\'];

/// What is to be restored.
#[derive(Debug)]
pub(super) struct Chosen {
    patterns: Patterns,
    /// For each pattern the names all begin with that fit it.
    ways: Vec<Vec<String>>,
}

impl Chosen {
    /// Whatever fits one of the patterns, and all below; without patterns, everything.
    pub(super) fn new(patterns: &[String]) -> Result<Self> {
        let ways = patterns.iter().map(|pattern| way(pattern)).collect();
        Ok(Self { patterns: Patterns::new(patterns)?, ways })
    }

    /// Whether everything is to be restored.
    pub(super) fn is_everything(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether a path itself fits.
    pub(super) fn fit(&self, path: &Path) -> bool {
        self.patterns.fit(path)
    }

    /// Whether a folder that does not fit may have something below that does. The path is absolute.
    pub(super) fn may_be_below(&self, folder: &Path) -> bool {
        let names = || folder.components().filter(|name| *name != Component::RootDir);
        self.ways.iter().any(|way| {
            let mut both = names().zip(way);
            both.all(|(name, wanted)| name.as_os_str() == OsStr::new(wanted))
        })
    }
}

fn way(pattern: &str) -> Vec<String> {
    let Some(below_root) = pattern.trim_end_matches('/').strip_prefix('/') else {
        return Vec::new();
    };
    let names = below_root.split('/').take_while(|name| !name.contains(SIGNS));
    names.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(patterns: &[&str]) -> Chosen {
        Chosen::new(&patterns.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn only_folders_on_the_way_to_what_is_wanted_are_looked_into() {
        let some = chosen(&["/home/ann/photos/", "/srv/*/docs", "/etc/{a,b/c}"]);
        for folder in ["/", "/home", "/home/ann", "/srv", "/srv/x", "/srv/x/y", "/etc", "/etc/b"] {
            assert!(some.may_be_below(Path::new(folder)), "{folder}");
        }
        for folder in ["/home/bob", "/home/ann/music", "/usr", "/usr/home/ann", "/photos"] {
            assert!(!some.may_be_below(Path::new(folder)), "{folder}");
        }
    }

    #[test]
    fn what_may_be_anywhere_is_looked_for_everywhere() {
        for pattern in ["*.jpg", "photos", "ann/photos", "/**/photos", "**/photos", "/*"] {
            assert!(chosen(&["/usr", pattern]).may_be_below(Path::new("/home/bob")), "{pattern}");
        }
    }

    #[test]
    fn no_folder_above_something_that_fits_is_left_out() {
        let names = ["a", "b", "a*", "[a]", "\\a"];
        let patterns = [
            "/a",
            "/a/b",
            "/a/b/",
            "/*/b",
            "/a/*",
            "/[ab]/b",
            "/{a,b/a}/b",
            "/a/**/b",
            "/\\a/b",
            "a/b",
            "/a?/b",
            "/**",
            "/a/{b,b/a}",
            "b",
            "/a\\*/b",
            "/[!x]a",
        ];
        for pattern in patterns {
            let some = chosen(&[pattern]);
            for (one, two, three) in names.iter().flat_map(|one| {
                names.iter().flat_map(move |two| names.map(|three| (*one, *two, three)))
            }) {
                let path = Path::new("/").join(one).join(two).join(three);
                for fitting in path.ancestors().filter(|path| some.fit(path)) {
                    for above in fitting.ancestors().skip(1) {
                        assert!(some.may_be_below(above), "{pattern}: {}", above.display());
                    }
                }
            }
        }
    }
}
