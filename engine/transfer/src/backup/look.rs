//! What a folder is like: opened, listed, and all its entries looked at.
//!
//! A folder of few entries is looked at whole, by the walk or by one of the threads that look
//! ahead of it ([`super::ahead`]). Of one with many only what is needed for its sum is kept, and
//! only the walk looks at it. Nothing here compares a folder with what it was before.

use super::digest::FolderDigest;
use super::select::Patterns;
use super::shared::Shared;
use crate::names::{Cursor, Names, NamesBuilder, names_of};
use crate::posix::{Folder, Kind, Stat, joined};
use crate::{Result, TransferError};
use engine_repository::Id;
use std::ffi::CStr;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// What was seen of the entries of a folder with no more than these is kept, so that they need not
/// be looked at again if it changed.
const STATS_KEPT_MAX: usize = 256;
/// So many entries are looked at between two looks whether the backup ends.
const LOOKS_AT_ONCE: usize = 1024;
/// What was seen longer ago is looked at again: files come and go.
const FRESH_FOR: Duration = Duration::from_secs(2);

/// Looks at folders, for whoever wants to.
#[derive(Clone, Copy)]
pub(super) struct Looker<'a> {
    pub(super) shared: &'a Shared<'a>,
    pub(super) excludes: &'a Patterns,
}

/// A folder that was opened.
pub(super) struct Seen {
    pub(super) folder: Arc<Folder>,
    pub(super) stat: Stat,
    /// When what follows was not seen yet.
    pub(super) looked_at: SystemTime,
    begun: Instant,
    /// Its names and what they are, unless they are many or could not be looked at.
    pub(super) few: Option<(Names, Look)>,
}

/// What a look at all entries of a folder found.
#[derive(Default)]
pub(super) struct Look {
    /// The folder's sum, and whether it tells all changes since the look.
    pub(super) digest: Option<(Id, bool)>,
    /// In the order of names; empty in a large folder.
    pub(super) stats: Vec<Option<Stat>>,
    /// Those of its entries that are folders.
    pub(super) folders: Names,
    pub(super) files: u64,
    /// Links, devices, pipes.
    pub(super) others: u64,
    /// Bytes of all files.
    pub(super) bytes: u64,
}

impl Seen {
    pub(super) fn is_fresh(&self) -> bool {
        self.begun.elapsed() < FRESH_FOR
    }

    /// As if it had been seen so much earlier.
    #[cfg(test)]
    pub(super) fn grow_older(&mut self, by: Duration) {
        self.begun = self.begun.checked_sub(by).expect("the machine has run for longer");
    }
}

impl Look {
    /// The sum of the folder with these names, if what is kept here is all that is in it.
    pub(super) fn digest_of_all(&self, names: &Names) -> Option<(Id, bool)> {
        self.digest.filter(|_| self.stats.len() == names.len())
    }
}

impl Looker<'_> {
    /// Opens a folder in another, and looks at its entries if they are few.
    pub(super) fn see(&self, parent: &Folder, name: &CStr, path: &Path) -> io::Result<Seen> {
        let (looked_at, begun) = (SystemTime::now(), Instant::now());
        let folder = parent.folder(name)?;
        let stat = folder.own_stat()?;
        let mut seen = Seen { folder: Arc::new(folder), stat, looked_at, begun, few: None };
        // Where that fails, the walk finds out why.
        seen.few = self.few_names(&seen.folder).and_then(|names| {
            let look = self.look((&seen.folder, path), &stat, looked_at, &names).ok()?;
            Some((names, look))
        });
        Ok(seen)
    }

    fn few_names(&self, folder: &Folder) -> Option<Names> {
        let mut names = NamesBuilder::new(self.shared.repository);
        let mut count = 0;
        let listed = folder.each_name(&mut |name| {
            count += 1;
            if count > STATS_KEPT_MAX {
                return Err(io::ErrorKind::Interrupted.into());
            }
            names.push(name)
        });
        listed.and_then(|()| names.finish()).ok()
    }

    /// The names in a folder of any size.
    pub(super) fn names(&self, folder: &Folder) -> io::Result<Names> {
        names_of(folder, self.shared.repository, &|| self.shared.is_stopped())
    }

    /// Looks at all entries of a folder. There is no sum if one of them cannot be looked at; they
    /// are looked at again then, and it is told. An error says that there is no room for so many.
    pub(super) fn look(
        &self,
        (folder, path): (&Folder, &Path),
        own: &Stat,
        looked_at: SystemTime,
        names: &Names,
    ) -> Result<Look> {
        let mut look = Look::default();
        let mut folders = NamesBuilder::new(self.shared.repository);
        let no_room = |cause: io::Error| match cause.downcast::<TransferError>() {
            Ok(error) => error,
            Err(cause) => crate::cache::failed("sort names in", path, cause),
        };
        let mut digest = FolderDigest::of(own);
        let is_small = names.len() <= STATS_KEPT_MAX;
        look.stats.reserve_exact(if is_small { names.len() } else { 0 });
        let mut cursor = Cursor::default();
        for place in 0..names.len() {
            let Some(name) = names.next(&mut cursor)? else { break };
            if place % LOOKS_AT_ONCE == LOOKS_AT_ONCE - 1 && self.shared.is_stopped() {
                return Ok(Look::default());
            }
            if !self.excludes.is_empty() && self.excludes.fit(&joined(path, name)) {
                look.stats.extend(is_small.then_some(None));
                continue;
            }
            let Ok(stat) = folder.stat(name) else { return Ok(Look::default()) };
            look.stats.extend(is_small.then_some(Some(stat)));
            match stat.kind {
                Kind::Unknown => return Ok(Look::default()),
                Kind::Socket => continue,
                Kind::Folder => folders.push(name).map_err(no_room)?,
                Kind::File => {
                    look.files += 1;
                    look.bytes += stat.size;
                }
                _ => look.others += 1,
            }
            digest.entry(name.to_bytes(), &stat);
        }
        look.digest = Some(digest.finish(looked_at));
        look.folders = folders.finish().map_err(no_room)?;
        Ok(look)
    }
}

#[cfg(test)]
mod tests {
    use super::super::journal::Journal;
    use super::super::lazy_index::LazyIndex;
    use super::super::shared::repository_in;
    use super::*;
    use crate::Cancel;
    use crate::locks::HeldLock;
    use std::fs;
    use std::time::UNIX_EPOCH;

    #[test]
    fn the_sum_of_a_folder_in_which_something_changed_just_before_the_look_does_not_tell_all() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("source");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("file"), "x").unwrap();
        let repository = repository_in(place.path());
        let cancel = Cancel::new();
        let lock_file = HeldLock::acquire(&repository, false).unwrap();
        let index = LazyIndex::of(&repository, &cancel);
        let journal = Journal::default();
        let shared = &Shared::new(&repository, &index, None, &lock_file, journal, &cancel);
        let looker = Looker { shared, excludes: &Patterns::new(&[]).unwrap() };
        let folder = Folder::at(&path).unwrap();
        let own = folder.own_stat().unwrap();
        let (names, file) = (looker.names(&folder).unwrap(), folder.stat(c"file").unwrap());
        let newest = own.ctime.max(file.ctime);
        let newest = UNIX_EPOCH + Duration::new(newest.0.cast_unsigned(), newest.1);
        let summed = |after: Duration| {
            let look = looker.look((&folder, &path), &own, newest + after, &names).unwrap();
            look.digest_of_all(&names).unwrap()
        };
        let (early, late) = (summed(Duration::from_millis(50)), summed(Duration::from_millis(150)));
        assert_eq!((early.1, late), (false, (early.0, true)));
    }
}
