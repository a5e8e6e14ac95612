//! Objects that nothing names any more, on their way out of an object store.
//!
//! ```text
//! unnamed      `current` notes since when
//! still so     after [`GRACE_DAYS`] it notes that the object is gone; only then it is deleted
//! forgotten    an hour later the note goes, too
//! ```
//!
//! Each step is a change of `current`, and comes into force only if nobody else's did meanwhile. So
//! who is about to name an object either comes first, and it stays; or has to begin again, sees the
//! note, and does not take an object for there that is being deleted. No other lock is needed, and
//! whoever is killed at any step has deleted nothing that is named.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use supervisor_trust::coverage::Rule;
use supervisor_trust::{Role, UnixSeconds};

/// So long an object stays that nothing names: longer than a client believes what once named it.
pub const GRACE_DAYS: u32 = 30;
const _: () = assert!(GRACE_DAYS > Rule::of(Role::Timestamp).valid_days);

/// So long nobody may name an object that was deleted: no deletion is on its way for longer.
pub const GONE_SECONDS: u64 = 3600;
/// Notes at one time, at most: those that do not fit wait for their turn.
const NOTES_MAX: usize = 2048;
/// A note from further ahead than this was written by a clock that was wrong.
const CLOCKS_APART_SECONDS_MAX: u64 = 24 * 3600;
const DAY_SECONDS: u64 = 24 * 3600;

/// What `current` notes of objects that nothing names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaving {
    /// Since when nothing names them, by name.
    unnamed: BTreeMap<String, u64>,
    /// When they were deleted.
    gone: BTreeMap<String, u64>,
}

impl Leaving {
    pub fn is_empty(&self) -> bool {
        self.unnamed.is_empty() && self.gone.is_empty()
    }

    /// Whether every note is about an object that a depot may have put.
    pub fn is_sound(&self, is_ours: impl Fn(&str) -> bool) -> bool {
        let count = self.unnamed.len() + self.gone.len();
        count <= 2 * NOTES_MAX
            && self.unnamed.keys().chain(self.gone.keys()).all(|key| is_ours(key))
    }

    /// The notes once these objects are named; or one of them, and the seconds until it may be.
    pub fn naming(
        &self,
        named: &BTreeSet<String>,
        now: UnixSeconds,
    ) -> Result<Self, (String, u64)> {
        let gone = self.still_gone(now);
        if let Some((key, since)) = gone.iter().find(|(key, _)| named.contains(*key)) {
            let passed = now.seconds().saturating_sub(*since);
            return Err((key.clone(), GONE_SECONDS.saturating_sub(passed)));
        }
        let unnamed = self.unnamed.iter().filter(|(key, _)| !named.contains(*key));
        let unnamed = unnamed.map(|(key, since)| (key.clone(), *since)).collect();
        Ok(Self { unnamed, gone })
    }

    /// The next notes, and which objects go when they are in force: of those that are `there`, the
    /// `named` ones stay. Nothing when nothing changes.
    pub fn next(
        &self,
        there: &[String],
        named: &BTreeSet<String>,
        now: UnixSeconds,
    ) -> Option<(Self, Vec<String>)> {
        let (mut next, mut goes) =
            (Self { gone: self.still_gone(now), ..Self::default() }, Vec::new());
        for key in there.iter().filter(|key| !named.contains(*key)) {
            let since = match self.unnamed.get(key) {
                Some(since) if *since <= now.seconds() + CLOCKS_APART_SECONDS_MAX => *since,
                _ => now.seconds(),
            };
            let age = now.seconds().saturating_sub(since);
            if next.gone.contains_key(key) {
                // Whoever was to delete it was killed: it is noted again when this is forgotten.
            } else if age > u64::from(GRACE_DAYS) * DAY_SECONDS && next.gone.len() < NOTES_MAX {
                next.gone.insert(key.clone(), now.seconds());
                goes.push(key.clone());
            } else if next.unnamed.len() < NOTES_MAX {
                next.unnamed.insert(key.clone(), since);
            }
        }
        (next != *self).then_some((next, goes))
    }

    fn still_gone(&self, now: UnixSeconds) -> BTreeMap<String, u64> {
        let is_recent = |since: &u64| now.seconds().abs_diff(*since) < GONE_SECONDS;
        let gone = self.gone.iter().filter(|(_, since)| is_recent(since));
        gone.map(|(key, since)| (key.clone(), *since)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TODAY: UnixSeconds = UnixSeconds::new(1_795_303_136);

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn named(list: &[&str]) -> BTreeSet<String> {
        names(list).into_iter().collect()
    }

    #[test]
    fn what_nothing_names_is_deleted_after_the_grace_and_what_is_named_again_stays() {
        let there = names(&["a", "b", "c"]);
        let (noted, goes) = Leaving::default().next(&there, &named(&["c"]), TODAY).unwrap();
        assert!(goes.is_empty());
        assert_eq!(noted.next(&there, &named(&["c"]), TODAY), None, "nothing to do");
        let noted = noted.naming(&named(&["b", "c"]), TODAY).unwrap();
        let last_day = TODAY.plus_days(GRACE_DAYS);
        assert_eq!(noted.next(&there, &named(&["b", "c"]), last_day), None);
        let after = TODAY.plus_days(GRACE_DAYS + 1);
        let (gone, goes) = noted.next(&there, &named(&["b", "c"]), after).unwrap();
        assert_eq!(goes, ["a"]);
        // While it may be on its way out nobody names it; then anybody may.
        let (key, seconds) = gone.naming(&named(&["a"]), after).unwrap_err();
        assert_eq!((key.as_str(), seconds), ("a", GONE_SECONDS));
        let later = UnixSeconds::new(after.seconds() + GONE_SECONDS);
        assert!(gone.naming(&named(&["a"]), later).unwrap().is_empty());
    }

    #[test]
    fn who_was_killed_before_it_deleted_leaves_an_object_that_is_noted_once_more() {
        let there = names(&["a"]);
        let (noted, _) = Leaving::default().next(&there, &named(&[]), TODAY).unwrap();
        let after = TODAY.plus_days(GRACE_DAYS + 1);
        let (gone, goes) = noted.next(&there, &named(&[]), after).unwrap();
        assert_eq!(goes, ["a"]);
        assert_eq!(gone.next(&there, &named(&[]), after), None, "it is not deleted twice");
        let (again, goes) = gone.next(&there, &named(&[]), after.plus_days(1)).unwrap();
        assert!(goes.is_empty());
        let (_, goes) = again.next(&there, &named(&[]), after.plus_days(GRACE_DAYS + 2)).unwrap();
        assert_eq!(goes, ["a"]);
    }

    #[test]
    fn a_clock_that_was_wrong_keeps_nothing_for_ever_and_deletes_nothing_at_once() {
        let there = names(&["a"]);
        let (noted, _) =
            Leaving::default().next(&there, &named(&[]), TODAY.plus_days(36_500)).unwrap();
        let (noted, goes) = noted.next(&there, &named(&[]), TODAY).unwrap();
        assert!(goes.is_empty());
        let after = TODAY.plus_days(GRACE_DAYS + 1);
        assert_eq!(noted.next(&there, &named(&[]), after).unwrap().1, ["a"]);
    }

    #[test]
    fn however_much_lies_about_the_notes_stay_short() {
        let there: Vec<String> = (0..3 * NOTES_MAX).map(|at| format!("{at:05}")).collect();
        let (noted, _) = Leaving::default().next(&there, &named(&[]), TODAY).unwrap();
        assert_eq!(noted.unnamed.len(), NOTES_MAX);
        let after = TODAY.plus_days(GRACE_DAYS + 1);
        let (next, goes) = noted.next(&there, &named(&[]), after).unwrap();
        assert_eq!((goes.len(), next.unnamed.len()), (NOTES_MAX, NOTES_MAX));
        assert!(next.is_sound(|_| true));
    }
}
