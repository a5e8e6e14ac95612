//! What things are called in the target, where its file system takes less than a snapshot has.
//!
//! On a drive that does not tell upper from lower case, one of `Photo.jpg` and `photo.jpg` would
//! replace the other; on one of Windows nothing can be called `12:30`. Such things get a name of
//! their own: `photo~3f2a1c.jpg`, `12_30~9be04d`. It depends on the name and its folder in the
//! snapshot alone, so the next restore finds them again.

use super::abilities::Abilities;
use super::shared::sum_of;
use engine_repository::Id;
use std::borrow::Cow;
use std::collections::HashSet;

/// Names of more things in one folder are not compared, which takes 8 bytes each: there, one that
/// is taken already is a problem told, and nothing is removed for not being in the snapshot.
const COMPARED_MAX: usize = 500_000;
/// No file system takes longer names.
const NAME_BYTES_MAX: usize = 255;
/// What names cannot have on drives of Windows.
const SIGNS: &[char] = &['"', '*', ':', '<', '>', '?', '\\', '|'];

/// What the things in one folder are called.
#[derive(Debug)]
pub(super) struct Naming {
    abilities: Abilities,
    /// Sums of all names, without case, sorted; where the file system does not tell it.
    folded: Vec<u64>,
    /// The same of names that were given.
    given: HashSet<u64>,
    is_compared: bool,
}

impl Naming {
    /// For a folder with these names in the snapshot. They are only asked for where they matter.
    pub(super) fn of<I: Iterator<Item = Vec<u8>>>(
        abilities: Abilities,
        names: impl FnOnce() -> Option<I>,
    ) -> Self {
        let names = if abilities.tells_case { None } else { names() };
        let names = names.into_iter().flatten().take(COMPARED_MAX + 1);
        let mut folded: Vec<u64> = names.map(|name| sum_of(&folded(&name))).collect();
        let is_compared = folded.len() <= COMPARED_MAX;
        if !is_compared {
            folded = Vec::new();
        }
        folded.sort_unstable();
        Self { abilities, folded, given: HashSet::new(), is_compared }
    }

    /// What a thing is called here, and why, if not by its own name.
    pub(super) fn give(&mut self, name: &[u8]) -> Option<(Vec<u8>, &'static str)> {
        let possible = match self.abilities.takes_all_names {
            true => Cow::Borrowed(name),
            false => possible(name),
        };
        let reason = match possible == name {
            false => "no such name is possible on this drive",
            true if self.is_double(name) => {
                "this drive takes upper and lower case for the same, and another has its name"
            }
            true => return None,
        };
        let given = told_apart(&possible, name);
        self.is_compared &= self.given.len() < COMPARED_MAX;
        if !self.abilities.tells_case && self.is_compared {
            self.given.insert(sum_of(&folded(&given)));
        }
        Some((given, reason))
    }

    /// Whether a name that is there may be that of a thing of the snapshot, once all have names.
    pub(super) fn may_be_known(&self, name: &[u8]) -> bool {
        if self.abilities.tells_case {
            return false;
        }
        let sum = sum_of(&folded(name));
        !self.is_compared || self.folded.binary_search(&sum).is_ok() || self.given.contains(&sum)
    }

    fn is_double(&self, name: &[u8]) -> bool {
        if self.abilities.tells_case {
            return false;
        }
        let sum = sum_of(&folded(name));
        let at = self.folded.partition_point(|other| *other < sum);
        self.folded.get(at + 1) == Some(&sum)
    }
}

/// The name with what is not possible replaced.
fn possible(name: &[u8]) -> Cow<'_, [u8]> {
    let is_possible = |sign: char| !sign.is_control() && !SIGNS.contains(&sign);
    let text = String::from_utf8_lossy(name);
    let ends_well = !text.ends_with(['.', ' ']);
    if matches!(text, Cow::Borrowed(_)) && ends_well && text.chars().all(is_possible) {
        return Cow::Borrowed(name);
    }
    let replaced = text.chars().map(|sign| match is_possible(sign) && sign != '\u{fffd}' {
        true => sign,
        false => '_',
    });
    let mut replaced: String = replaced.collect();
    if !ends_well {
        replaced.pop();
        replaced.push('_');
    }
    Cow::Owned(replaced.into_bytes())
}

/// A name that no other thing gets: with a few digits of the sum of its own name, before what says
/// which program opens it.
fn told_apart(possible: &[u8], name: &[u8]) -> Vec<u8> {
    let digits = &Id::of(name).to_string()[..6];
    let text = String::from_utf8_lossy(possible);
    let (stem, extension) = match text.rfind('.') {
        Some(at) if at > 0 => text.split_at(at),
        _ => (&*text, ""),
    };
    let room = NAME_BYTES_MAX.saturating_sub(extension.len() + 1 + digits.len());
    let end = (0..=room.min(stem.len())).rev().find(|end| stem.is_char_boundary(*end));
    let stem = &stem[..end.unwrap_or(0)];
    format!("{stem}~{digits}{extension}").into_bytes()
}

/// The same for all names that differ in case alone.
fn folded(name: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(name) {
        Ok(text) => text.to_uppercase().into_bytes(),
        Err(_) => name.to_ascii_uppercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naming(abilities: Abilities, names: &[&str]) -> Naming {
        Naming::of(abilities, || Some(names.iter().map(|name| name.as_bytes().to_vec())))
    }

    fn given(naming: &mut Naming, name: &[u8]) -> String {
        let given = naming.give(name).map_or(name.to_vec(), |(given, _)| given);
        String::from_utf8(given).unwrap()
    }

    #[test]
    fn where_everything_is_possible_everything_keeps_its_name() {
        let mut naming = naming(Abilities::ALL, &["a", "A"]);
        for name in [&b"a"[..], b"A", b"12:30", b"\xff", b"end."] {
            assert_eq!(naming.give(name), None);
            assert!(!naming.may_be_known(name));
        }
    }

    #[test]
    fn names_that_differ_in_case_alone_are_told_apart_and_others_keep_theirs() {
        let abilities = Abilities { tells_case: false, ..Abilities::ALL };
        let names = ["Photo.jpg", "photo.jpg", "ÄRGER", "ärger", "other", ".rc", ".RC"];
        let mut naming = naming(abilities, &names);
        let mut all: Vec<_> =
            names.iter().map(|name| given(&mut naming, name.as_bytes())).collect();
        assert_eq!(all[4], "other");
        assert!(all[0].starts_with("Photo~") && all[0].ends_with(".jpg"), "{all:?}");
        assert!(all[5].starts_with(".rc~"), "{all:?}");
        all.iter_mut().for_each(|name| *name = name.to_uppercase());
        all.sort();
        all.dedup();
        assert_eq!(all.len(), names.len());
        // Some drives list all names in lower case.
        assert!(all.iter().all(|name| naming.may_be_known(name.to_lowercase().as_bytes())));
        assert!(naming.may_be_known(b"OTHER") && !naming.may_be_known(b"another"));
    }

    #[test]
    fn names_that_windows_does_not_take_are_replaced_by_such_as_it_does() {
        let abilities = Abilities { takes_all_names: false, ..Abilities::ALL };
        let mut naming = naming(abilities, &[]);
        let odd = [&b"12:30.txt"[..], b"12?30.txt", b"caf\xe9", b"end.", b"end ", b"\x07"];
        let mut all: Vec<_> = odd.iter().map(|name| given(&mut naming, name)).collect();
        assert!(all[0].starts_with("12_30~") && all[0].ends_with(".txt"), "{all:?}");
        assert!(all[2].starts_with("caf_~"), "{all:?}");
        for name in &all {
            assert_eq!(possible(name.as_bytes()), name.as_bytes(), "is taken");
        }
        all.sort();
        all.dedup();
        assert_eq!(all.len(), odd.len());
        let long = [&[b'x'; 250][..], "ü:".as_bytes()].concat();
        assert!(given(&mut naming, &long).len() <= NAME_BYTES_MAX);
        assert_eq!(given(&mut naming, "grün ~.txt".as_bytes()), "grün ~.txt");
    }
}
