//! Packages and icons in a depot's folder that nothing names any more: withdrawn ones, and those of
//! a publisher who was killed. They go a month later, with the next change.
//!
//! Since when nothing names a file is its time of change, set before it is taken off the shelves.
//! Everything here happens under the depot's lock, so nobody is about to name what goes.

use crate::error::DepotError;
use crate::leaving::GRACE_DAYS;
use crate::place::Place;
use crate::shelves::{Item, Shelves};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use supervisor_trust::UnixSeconds;

impl Place {
    /// Notes on the files that only `before` names that nothing does from now on.
    pub fn note_unnamed(&self, before: &Shelves, after: &Shelves, now: UnixSeconds) {
        let stays: BTreeSet<PathBuf> =
            after.offered().flat_map(|item| self.contents(item)).collect();
        let leaving = before.offered().flat_map(|item| self.contents(item));
        for path in leaving.filter(|path| !stays.contains(path)) {
            // Where that fails it goes earlier, which hurts nobody: no list names it.
            let file = File::options().write(true).open(&path);
            let _ = file.and_then(|file| file.set_modified(time(now)));
        }
    }

    /// Removes what none of these shelves has named for a month.
    pub fn clear_unnamed(&self, shelves: &[&Shelves], now: UnixSeconds) -> Result<(), DepotError> {
        let offered = shelves.iter().flat_map(|shelves| shelves.offered());
        let named: BTreeSet<PathBuf> = offered.flat_map(|item| self.contents(item)).collect();
        let grace = Duration::from_secs(u64::from(GRACE_DAYS) * 24 * 3600);
        for folder in ["files", "icons"] {
            let folder = self.beside(folder);
            let entries = fs::read_dir(&folder).map_err(DepotError::file("read", &folder))?;
            for path in entries.flatten().map(|entry| entry.path()) {
                let is_named = named.contains(&path);
                let changed = || path.metadata().and_then(|found| found.modified()).ok();
                let is_old = |at| time(now).duration_since(at).is_ok_and(|age| age > grace);
                if !is_named && changed().is_some_and(is_old) {
                    fs::remove_file(&path).map_err(DepotError::file("clear", &path))?;
                }
            }
        }
        Ok(())
    }

    fn contents(&self, item: &Item) -> impl Iterator<Item = PathBuf> {
        let icons = [&item.icon, &item.icon_256].into_iter().flatten();
        let icons: Vec<PathBuf> = icons.map(|sha256| self.icon(sha256)).collect();
        icons.into_iter().chain([self.file(&item.sha256)])
    }
}

fn time(now: UnixSeconds) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(now.seconds())
}
