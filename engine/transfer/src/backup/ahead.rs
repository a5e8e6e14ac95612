//! Folders that the walk comes to next, looked at by others: a disk is quicker when it is asked for
//! several at a time, and a second core helps where nothing waits for the disk.
//!
//! The walk asks for the next few folders in the one it is in, as far as helpers have nothing else
//! to do ([`super::errands`]), and takes what was seen of each when it gets there. What nobody has
//! begun by then it looks at itself, so that it never waits for a thread that waits for a core;
//! what was seen too long ago it looks at again. What is kept is bounded: [`ASKED_MAX`] folders,
//! each with its names and what was seen of 256 entries at most.

use super::errands::Errand;
use super::look::Seen;
use super::next_folder::NextFolder;
use super::shared::Shared;
use crate::names::{Cursor, Names};
use crate::posix::{Folder, joined};
use crossbeam_channel::{Sender, TrySendError};
use std::cell::Cell;
use std::cmp::Ordering;
use std::collections::VecDeque;
use std::ffi::CStr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// Folders asked for in one folder.
const ASKED_IN_ONE_MAX: usize = 8;
/// Folders asked for in all folders around the walk; below those, it goes on alone.
const ASKED_MAX: usize = 64;

/// How many folders are asked for, in all folders around the walk.
pub(super) type AskedInAll = Rc<Cell<usize>>;

/// Folders in one folder that are asked for.
pub(super) struct Ahead<'n> {
    folders: &'n Names,
    /// The first that is not asked for.
    cursor: Cursor,
    asked: VecDeque<Arc<NextFolder>>,
    /// Nobody had time for this one.
    unasked: Option<Arc<NextFolder>>,
    asked_in_all: AskedInAll,
}

impl<'n> Ahead<'n> {
    /// For the folders in one folder, of which these are the names.
    pub(super) fn of(folders: &'n Names, asked_in_all: &AskedInAll) -> Self {
        let (cursor, asked_in_all) = (Cursor::default(), asked_in_all.clone());
        Self { folders, cursor, asked: VecDeque::new(), unasked: None, asked_in_all }
    }

    /// Asks for those behind `name`, and gives what was seen of it, if anybody has looked at it;
    /// `None` when the backup ends.
    pub(super) fn take(
        &mut self,
        errands: &Sender<Errand>,
        shared: &Shared<'_>,
        (parent, around): (&Arc<Folder>, &Path),
        name: &CStr,
    ) -> Option<Option<Seen>> {
        let found = self.pop(name);
        while self.asked.len() < ASKED_IN_ONE_MAX && self.asked_in_all.get() < ASKED_MAX {
            let next = self.next_behind(name, (parent, around));
            let next = next.map_err(|error| shared.fail(error)).ok()?;
            let Some(next) = next else { break };
            match errands.try_send(Errand::Folder(next.clone())) {
                Ok(()) => {
                    self.asked.push_back(next);
                    self.asked_in_all.set(self.asked_in_all.get() + 1);
                }
                Err(TrySendError::Full(_)) => {
                    self.unasked = Some(next);
                    break;
                }
                Err(TrySendError::Disconnected(_)) => return None,
            }
        }
        match found {
            Some(folder) if !folder.begin() => {
                let seen = folder.wait(shared)?;
                Some(seen.filter(|seen| seen.is_fresh()).map(|seen| *seen))
            }
            _ => Some(None),
        }
    }

    /// The next folder to ask for; `name` is the one the walk is at.
    fn next_behind(
        &mut self,
        name: &CStr,
        (parent, around): (&Arc<Folder>, &Path),
    ) -> crate::Result<Option<Arc<NextFolder>>> {
        let unasked = self.unasked.take().filter(|folder| folder.name.as_c_str() > name);
        if unasked.is_some() {
            return Ok(unasked);
        }
        while let Some(next) = self.folders.next(&mut self.cursor)? {
            if next > name {
                let (parent, path) = (parent.clone(), joined(around, next));
                return Ok(Some(Arc::new(NextFolder::new(parent, next.to_owned(), path))));
            }
        }
        Ok(None)
    }

    fn pop(&mut self, name: &CStr) -> Option<Arc<NextFolder>> {
        while let Some(front) = self.asked.front() {
            let order = front.name.as_c_str().cmp(name);
            if order == Ordering::Greater {
                return None;
            }
            self.asked_in_all.set(self.asked_in_all.get() - 1);
            let front = self.asked.pop_front();
            if order == Ordering::Equal {
                return front;
            }
        }
        None
    }
}

impl Drop for Ahead<'_> {
    fn drop(&mut self) {
        self.asked_in_all.set(self.asked_in_all.get() - self.asked.len());
    }
}

#[cfg(test)]
mod tests {
    use super::super::journal::Journal;
    use super::super::lazy_index::LazyIndex;
    use super::super::look::Looker;
    use super::super::select::Patterns;
    use super::super::shared::repository_in;
    use super::*;
    use crate::Cancel;
    use crate::locks::HeldLock;
    use crossbeam_channel::{Receiver, bounded};
    use std::ffi::CString;
    use std::fs;
    use std::time::Duration;

    /// Some folders, and what can be done with them.
    struct Source<'a> {
        looker: Looker<'a>,
        path: &'a Path,
        folder: Arc<Folder>,
        names: Names,
    }

    impl Source<'_> {
        /// A source with so many folders, each with a file.
        fn with_folders(count: usize, test: impl FnOnce(Source<'_>)) {
            let place = tempfile::tempdir().unwrap();
            let path = place.path().join("source");
            for number in 0..count {
                let folder = path.join(format!("{number:03}"));
                fs::create_dir_all(&folder).unwrap();
                fs::write(folder.join("file"), number.to_string()).unwrap();
            }
            let repository = repository_in(place.path());
            let cancel = Cancel::new();
            let lock_file = HeldLock::acquire(&repository, false).unwrap();
            let index = LazyIndex::of(&repository, &cancel);
            let journal = Journal::default();
            let shared = &Shared::new(&repository, &index, None, &lock_file, journal, &cancel);
            let looker = Looker { shared, excludes: &Patterns::new(&[]).unwrap() };
            let folder = Arc::new(Folder::at(&path).unwrap());
            let names = looker.names(&folder).unwrap();
            test(Source { looker, path: &path, folder, names });
        }

        fn take(
            &self,
            ahead: &mut Ahead<'_>,
            errands: &Sender<Errand>,
            name: &str,
        ) -> Option<Seen> {
            let name = CString::new(name).unwrap();
            let around = (&self.folder, self.path);
            ahead.take(errands, self.looker.shared, around, &name).expect("it does not end")
        }

        /// Looks at the next folder that was asked for.
        fn help(&self, errands: &Receiver<Errand>) -> Arc<NextFolder> {
            let Ok(Errand::Folder(next)) = errands.try_recv() else { panic!("nothing asked for") };
            next.look(self.looker);
            next
        }
    }

    fn names_of_few(seen: Option<Seen>) -> Option<Vec<String>> {
        let (names, look) = seen?.few?;
        assert_eq!(look.stats.len(), names.len());
        let mut cursor = Cursor::default();
        let name = || Some(names.next(&mut cursor).unwrap()?.to_str().unwrap().to_owned());
        Some(std::iter::from_fn(name).collect())
    }

    #[test]
    fn what_helpers_saw_is_taken_and_what_they_had_no_time_for_is_left_to_the_walk() {
        Source::with_folders(6, |source| {
            let (errands, helpers) = bounded(2);
            let asked_in_all = AskedInAll::default();
            let mut ahead = Ahead::of(&source.names, &asked_in_all);
            // The walk is at the first, so the next two are asked for.
            assert!(source.take(&mut ahead, &errands, "000").is_none());
            assert_eq!(source.help(&helpers).name.as_c_str(), c"001");
            fs::write(source.path.join("001/later"), "").unwrap();
            let seen = source.take(&mut ahead, &errands, "001");
            assert_eq!(names_of_few(seen).unwrap(), ["file"]);
            // Nobody had begun with this one; whoever comes to it now has nothing to do.
            assert!(source.take(&mut ahead, &errands, "002").is_none());
            assert_eq!(source.help(&helpers).name.as_c_str(), c"002");
            // There was no room for more; none is forgotten for that.
            assert_eq!(source.help(&helpers).name.as_c_str(), c"003");
            let seen = source.take(&mut ahead, &errands, "003");
            assert_eq!(names_of_few(seen).unwrap(), ["file"]);
            assert_eq!(source.help(&helpers).name.as_c_str(), c"004");
            assert_eq!(source.help(&helpers).name.as_c_str(), c"005");
            // One the walk does not come to is passed over.
            assert!(source.take(&mut ahead, &errands, "005").is_some());
            assert!(helpers.try_recv().is_err());
            assert_eq!(asked_in_all.get(), 0);
        });
    }

    #[test]
    fn what_was_seen_long_ago_or_could_not_be_seen_is_looked_at_again() {
        Source::with_folders(3, |source| {
            let (errands, helpers) = bounded(8);
            let mut ahead = Ahead::of(&source.names, &AskedInAll::default());
            fs::rename(source.path.join("002"), source.path.join("elsewhere")).unwrap();
            assert!(source.take(&mut ahead, &errands, "000").is_none());
            source.help(&helpers).grow_older(Duration::from_secs(3));
            source.help(&helpers);
            fs::rename(source.path.join("elsewhere"), source.path.join("002")).unwrap();
            assert!(source.take(&mut ahead, &errands, "001").is_none());
            assert!(source.take(&mut ahead, &errands, "002").is_none());
        });
    }

    #[test]
    fn however_deep_the_walk_is_no_more_folders_are_kept_than_there_is_room_for() {
        Source::with_folders(20, |source| {
            let (errands, _helpers) = bounded(1000);
            let asked_in_all = AskedInAll::default();
            let mut around: Vec<_> =
                (0..20).map(|_| Ahead::of(&source.names, &asked_in_all)).collect();
            for ahead in &mut around {
                assert!(source.take(ahead, &errands, "000").is_none());
                assert!(ahead.asked.len() <= ASKED_IN_ONE_MAX);
            }
            assert_eq!((asked_in_all.get(), errands.len()), (ASKED_MAX, ASKED_MAX));
            drop(around);
            assert_eq!(asked_in_all.get(), 0);
        });
    }

    #[test]
    fn a_folder_of_many_entries_is_left_to_the_walk() {
        Source::with_folders(2, |source| {
            (0..300).for_each(|number| {
                fs::write(source.path.join(format!("001/{number}")), "").unwrap();
            });
            let (errands, helpers) = bounded(8);
            let mut ahead = Ahead::of(&source.names, &AskedInAll::default());
            assert!(source.take(&mut ahead, &errands, "000").is_none());
            source.help(&helpers);
            let seen = source.take(&mut ahead, &errands, "001").unwrap();
            assert!(seen.few.is_none());
        });
    }
}
