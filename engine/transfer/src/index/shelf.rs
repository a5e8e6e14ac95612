//! The runs that are kept between two runs of the program, and how they follow the repository.
//!
//! ```text
//! blobs/manifest          which runs count; written anew and renamed
//! blobs/lock              held (flock) by whoever brings the runs up to date
//! blobs/5f0c…             a run, named by its salt
//! ```
//!
//! 1. The index files of the repository are listed.
//! 2. Those that no run has are read into a new run.
//! 3. Runs that have files which are gone are written anew without them.
//! 4. Runs are merged so that each is at least four times as large as the next, and few.
//! 5. The manifest is replaced; only then what it no longer names is removed.
//!
//! Killed anywhere, the old manifest or the new one counts. A run that is missing or damaged is
//! not one of the manifest: its index files are read again. Readers hold their files open, so
//! nothing is taken from under them; without `flock` two at once at worst undo each other's work.

use super::build::RunBuilder;
use super::merge::{Input, merge};
use super::pages::Salt;
use super::run::{RunFile, RunWriter, unwritten};
use crate::cache::failed;
use crate::{Cancel, Repository, Result, TransferError};
use engine_repository::{FileKind, Id};
use engine_storage::list_all;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// There are no more runs than this after they were brought up to date.
const RUNS_MAX: usize = 8;
/// A run is so many times as large as the next at least.
const RATIO_MIN: u64 = 4;
/// A manifest that is larger is none.
const MANIFEST_BYTES_MAX: u64 = 64 << 10;
/// Whoever brings the runs up to date longer than this is not waited for.
const WAIT_MAX: Duration = Duration::from_secs(900);
const WAIT_STEP: Duration = Duration::from_millis(50);
/// So often the listing is asked again when index files vanish while they are read.
const ROUNDS_MAX: usize = 5;

const TITLE: &str = "holdfast blob index 1";

/// A run and its index files.
struct Kept {
    run: RunFile,
    files: Vec<Id>,
}

/// Brings the runs up to date. Those of before are believed if `trusted`, as far as they are sound.
pub(super) fn up_to_date(
    repository: &Repository,
    trusted: bool,
    cancel: &Cancel,
) -> Result<Vec<RunFile>> {
    let Some(shelf) = Shelf::of(repository)? else { return unnamed(repository, cancel) };
    let Some(_lock) = shelf.lock(cancel)? else { return unnamed(repository, cancel) };
    if trusted {
        let named = shelf.manifest().unwrap_or_default();
        match shelf.bring_up_to_date(cancel, &named) {
            // Something of before that could not be read, for instance.
            Err(TransferError::Cache { .. }) => {}
            done => return done,
        }
    }
    shelf.bring_up_to_date(cancel, &[])
}

/// One run of everything, which nobody else will see.
fn unnamed(repository: &Repository, cancel: &Cancel) -> Result<Vec<RunFile>> {
    let make = || RunBuilder::unnamed(repository);
    let mut runs = Vec::new();
    follow(repository, cancel, &mut runs, &make)?;
    Ok(runs.into_iter().map(|kept| kept.run).collect())
}

/// Reads into new runs what no run has yet. Gives the index files there are, in order.
fn follow(
    repository: &Repository,
    cancel: &Cancel,
    runs: &mut Vec<Kept>,
    make: &dyn Fn() -> Result<RunBuilder>,
) -> Result<Vec<Id>> {
    let mut rounds = 0;
    loop {
        let listed = list_all(repository.storage().as_ref(), FileKind::Index)?;
        let mut listed: Vec<Id> = listed.into_iter().map(|(id, _)| id).collect();
        listed.sort_unstable();
        let mut known: Vec<Id> = runs.iter().flat_map(|kept| kept.files.iter().copied()).collect();
        known.sort_unstable();
        let is_new = |id: &&Id| known.binary_search(id).is_err();
        let new: Vec<Id> = listed.iter().filter(is_new).copied().collect();
        if new.is_empty() {
            return Ok(listed);
        }
        let mut builder = make()?;
        let mut vanished = false;
        for id in new {
            vanished |= !builder.add_file(repository, id, cancel, &mut |_, _| Ok(()))?;
        }
        let run = builder.finish()?;
        let files = run.files().map_err(unwritten)?;
        runs.push(Kept { run, files });
        rounds += 1;
        // What a prune removed since the listing, it first wrote elsewhere: look again.
        if !vanished || rounds == ROUNDS_MAX {
            return Ok(listed);
        }
    }
}

/// The folder of the runs of one repository.
struct Shelf<'a> {
    repository: &'a Repository,
    folder: PathBuf,
}

impl<'a> Shelf<'a> {
    fn of(repository: &'a Repository) -> Result<Option<Self>> {
        let Some(folder) = repository.cache().folder()? else { return Ok(None) };
        let shelf = Self { repository, folder: folder.join("blobs") };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&shelf.folder)
            .map_err(|cause| shelf.failed(cause))?;
        Ok(Some(shelf))
    }

    fn failed(&self, cause: io::Error) -> TransferError {
        failed("keep the blob index in", &self.folder, cause)
    }

    /// The lock; `None` if somebody holds it for too long.
    fn lock(&self, cancel: &Cancel) -> Result<Option<File>> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(self.folder.join("lock"))
            .map_err(|cause| self.failed(cause))?;
        let since = Instant::now();
        loop {
            match file.try_lock() {
                // A file system without locks does without: nothing depends on them.
                Ok(()) | Err(TryLockError::Error(_)) => return Ok(Some(file)),
                Err(TryLockError::WouldBlock) if since.elapsed() > WAIT_MAX => return Ok(None),
                Err(TryLockError::WouldBlock) if cancel.is_cancelled() => {
                    return Err(TransferError::Cancelled);
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(WAIT_STEP),
            }
        }
    }

    /// Those of these runs that are sound.
    fn runs(&self, salts: &[Salt]) -> Vec<Kept> {
        let mut runs: Vec<Kept> = Vec::new();
        for salt in salts {
            let opened = File::open(self.path(*salt)).and_then(|file| {
                let run = RunFile::open(file, self.repository.id(), *salt)?;
                let files = run.files()?;
                Ok(Kept { run, files })
            });
            let is_new = |id: &Id| !runs.iter().any(|kept| kept.files.contains(id));
            if let Ok(kept) = opened
                && kept.files.iter().all(is_new)
            {
                runs.push(kept);
            }
        }
        runs
    }

    fn path(&self, salt: Salt) -> PathBuf {
        self.folder.join(name_of(salt))
    }

    fn writer(&self) -> Result<RunWriter> {
        let salt = RunFile::new_salt()?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.path(salt))
            .map_err(|cause| self.failed(cause))?;
        Ok(RunWriter::new(file, self.repository.id(), salt))
    }

    /// Brings the runs of this manifest up to date.
    fn bring_up_to_date(&self, cancel: &Cancel, named: &[Salt]) -> Result<Vec<RunFile>> {
        let mut runs = self.runs(named);
        let make = || Ok(RunBuilder::into_file(self.repository, self.writer()?));
        let listed = follow(self.repository, cancel, &mut runs, &make)?;
        let is_gone = |id: &Id| listed.binary_search(id).is_err();
        let has_gone = |kept: &Kept| kept.files.iter().any(is_gone);
        runs.retain(|kept| kept.files.is_empty() || !kept.files.iter().all(is_gone));
        runs.sort_unstable_by_key(|kept| std::cmp::Reverse(kept.run.layout.records.items));
        let sizes: Vec<u64> = runs.iter().map(|kept| kept.run.layout.records.items).collect();
        let (mut stay, mut merged) = (Vec::new(), Vec::new());
        for (place, kept) in runs.into_iter().enumerate() {
            let list = match place < apart(&sizes) && !has_gone(&kept) {
                true => &mut stay,
                false => &mut merged,
            };
            list.push(kept);
        }
        if !merged.is_empty() {
            let inputs: Vec<_> = merged
                .iter()
                .map(|kept| Input { run: &kept.run, files: &kept.files, is_gone: &is_gone })
                .collect();
            let run = merge(&inputs, self.writer()?, cancel)?;
            stay.push(Kept { files: Vec::new(), run });
        }
        let runs: Vec<RunFile> = stay.into_iter().map(|kept| kept.run).collect();
        let is_same = runs.len() == named.len() && runs.iter().all(|r| named.contains(&r.salt));
        if !is_same {
            self.write_manifest(&runs, named).map_err(|cause| self.failed(cause))?;
            self.clear(&runs);
        }
        Ok(runs)
    }

    /// The salts of the runs that count.
    fn manifest(&self) -> Option<Vec<Salt>> {
        let mut text = String::new();
        let file = File::open(self.folder.join("manifest")).ok()?;
        file.take(MANIFEST_BYTES_MAX).read_to_string(&mut text).ok()?;
        let (body, sum) = text.split_at_checked(text.rfind("sum ")?)?;
        if sum.strip_prefix("sum ")?.trim_end() != Id::of(body.as_bytes()).to_string() {
            return None;
        }
        let mut lines = body.lines();
        if lines.next()? != TITLE || lines.next()? != self.repository.id().to_string() {
            return None;
        }
        lines.map(salt_of).collect()
    }

    fn write_manifest(&self, runs: &[RunFile], before: &[Salt]) -> io::Result<()> {
        let mut text = format!("{TITLE}\n{}\n", self.repository.id());
        for run in runs {
            // Not needed to be right, but a power cut should not cost all the reading again.
            if !before.contains(&run.salt) {
                run.file.sync_data()?;
            }
            text.push_str(&name_of(run.salt));
            text.push('\n');
        }
        let sum = Id::of(text.as_bytes());
        text.push_str(&format!("sum {sum}\n"));
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_data()?;
        file.persist(self.folder.join("manifest")).map_err(|error| error.error)?;
        Ok(())
    }

    /// Removes what does not count any more. What cannot be removed now can the next time.
    fn clear(&self, runs: &[RunFile]) {
        let mut names: Vec<String> = runs.iter().map(|run| name_of(run.salt)).collect();
        names.extend(["lock".to_owned(), "manifest".to_owned()]);
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            if !names.iter().any(|name| **name == *entry.file_name()) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

fn name_of(salt: Salt) -> String {
    format!("{:032x}", u128::from_be_bytes(salt.0))
}

fn salt_of(name: &str) -> Option<Salt> {
    let salt = Salt(u128::from_str_radix(name, 16).ok()?.to_be_bytes());
    (name_of(salt) == name).then_some(salt)
}

/// How many runs, of these sizes, the greatest first, stay as they are when the others are merged.
pub(super) fn apart(sizes: &[u64]) -> usize {
    let mut merged = sizes.to_vec();
    loop {
        let is_near = |pair: &[u64]| pair[0] < RATIO_MIN.saturating_mul(pair[1]);
        let from = match merged.windows(2).position(is_near) {
            Some(from) => from,
            None if merged.len() > RUNS_MAX => merged.len() - 2,
            None if merged.len() == sizes.len() => return merged.len(),
            None => return merged.len() - 1,
        };
        let sum = merged.drain(from..).sum();
        merged.push(sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_stay_apart_while_each_is_much_larger_than_the_next_and_they_are_few() {
        assert_eq!(apart(&[]), 0);
        assert_eq!(apart(&[5]), 1);
        assert_eq!(apart(&[100, 20, 5]), 3);
        assert_eq!(apart(&[100, 20, 6]), 0, "20 and 6 are 26, and those are near 100");
        assert_eq!(apart(&[1000, 20, 6]), 1);
        assert_eq!(apart(&[1000, 100, 20, 6]), 1);
        assert_eq!(apart(&[1000, 200, 20, 6]), 2);
        let nine: Vec<u64> = (0..9).rev().map(|power| 4_u64.pow(power)).collect();
        assert_eq!(apart(&nine), 0);
        let nine: Vec<u64> = (0..9).rev().map(|power| 10_u64.pow(power)).collect();
        assert_eq!(apart(&nine), 7);
    }

    #[test]
    fn runs_are_named_by_their_salts() {
        let salt = Salt([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255]);
        assert_eq!(salt_of(&name_of(salt)), Some(salt));
        for odd in ["", "ff", "../../etc/passwd", "000102030405060708090A0B0C0D0EFF"] {
            assert_eq!(salt_of(odd), None, "{odd}");
        }
    }
}
