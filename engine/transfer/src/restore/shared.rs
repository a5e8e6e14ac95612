//! What the threads of one restore share: the account of what was done and what was not.

use super::abilities::Abilities;
use super::incomplete::Incomplete;
use super::{ItemAction, Overwrite, RestoreOutcome, RestoreProblem};
use crate::errors::sentence;
use crate::index::Index;
use crate::locks::HeldLock;
use crate::mutex::lock;
use crate::{Cancel, Event, Progress, Repository, Result, TransferError};
use engine_repository::Id;
use engine_storage::StorageError;
use nix::errno::Errno;
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Only the first problems are kept; all are counted and told as events.
const PROBLEMS_KEPT_MAX: usize = 1000;
/// Progress is told this often at most.
const INTERVAL: Duration = Duration::from_millis(200);
/// More ids of zeros than this are not remembered.
const ZEROS_MAX: usize = 64;
/// Attributes that the file system refuses are told once per name, for so many names.
const NAMES_TOLD_MAX: usize = 64;

/// The restore ends early.
pub(super) struct Stopped;

/// How to treat what is there.
#[derive(Debug, Clone)]
pub(super) struct How {
    pub(super) overwrite: Overwrite,
    pub(super) deletes: bool,
    pub(super) is_dry: bool,
    pub(super) tells_items: bool,
    pub(super) target: PathBuf,
}

/// What the threads of one restore share.
pub(super) struct Shared<'a> {
    pub(super) repository: &'a Repository,
    pub(super) index: &'a Index,
    pub(super) how: How,
    pub(super) incomplete: Incomplete,
    pub(super) abilities: Abilities,
    events: &'a (dyn Fn(Event) + Sync),
    cancel: &'a Cancel,
    lock: &'a HeldLock,
    is_root: bool,
    has_failed: AtomicBool,
    failure: Mutex<Option<TransferError>>,
    account: Mutex<Account>,
    /// Blobs that are nothing but zeros, of which files with holes have many.
    zeros: Mutex<HashSet<Id>>,
    /// Attributes that were refused.
    names_told: Mutex<HashSet<OsString>>,
    /// Sums of paths that were passed over, when they are to be passed over again.
    passed_over: Mutex<HashSet<u64>>,
}

struct Account {
    outcome: RestoreOutcome,
    progress: Progress,
    told: Instant,
}

impl<'a> Shared<'a> {
    pub(super) fn new(
        repository: &'a Repository,
        index: &'a Index,
        (how, incomplete, abilities): (How, Incomplete, Abilities),
        lock: &'a HeldLock,
        events: &'a (dyn Fn(Event) + Sync),
        cancel: &'a Cancel,
    ) -> Self {
        let account = Account {
            outcome: RestoreOutcome::default(),
            progress: Progress::default(),
            told: Instant::now(),
        };
        Self {
            repository,
            index,
            how,
            incomplete,
            abilities,
            events,
            cancel,
            lock,
            is_root: nix::unistd::geteuid().is_root(),
            has_failed: AtomicBool::new(false),
            failure: Mutex::default(),
            account: Mutex::new(account),
            zeros: Mutex::default(),
            names_told: Mutex::default(),
            passed_over: Mutex::default(),
        }
    }

    /// Ends the restore with this error, unless it is ending with another already.
    pub(super) fn fail(&self, error: TransferError) {
        lock(&self.failure).get_or_insert(error);
        self.has_failed.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed) || self.cancel.is_cancelled()
    }

    /// The verdict, once all threads have ended.
    pub(super) fn verdict(&self) -> Result<()> {
        match lock(&self.failure).take() {
            Some(error) => Err(error),
            None if self.cancel.is_cancelled() => Err(TransferError::Cancelled),
            None => self.lock.must_be_held(),
        }
    }

    /// What was done. Nothing is known of it afterwards.
    pub(super) fn take_outcome(&self) -> RestoreOutcome {
        self.tell(&mut lock(&self.account));
        std::mem::take(&mut lock(&self.account).outcome)
    }

    /// Counts something.
    pub(super) fn count(&self, add: impl FnOnce(&mut RestoreOutcome)) {
        add(&mut lock(&self.account).outcome);
    }

    /// Counts what is done of what the owner waits for.
    pub(super) fn progress(&self, files: u64, bytes: u64, path: Option<&Path>) {
        let mut account = lock(&self.account);
        account.progress.files_done += files;
        account.progress.bytes_done += bytes;
        if account.told.elapsed() >= INTERVAL {
            if let Some(path) = path {
                account.progress.current = path.into();
            }
            self.tell(&mut account);
        }
    }

    /// From here on progress is that of the second walk, which compares.
    pub(super) fn begin_again(&self) {
        let mut account = lock(&self.account);
        (account.progress.files_done, account.progress.bytes_done) = (0, 0);
    }

    /// Counts what there is to do.
    pub(super) fn expect(&self, files: u64, bytes: u64, is_complete: bool) {
        let mut account = lock(&self.account);
        account.progress.files_total += files;
        account.progress.bytes_total += bytes;
        account.progress.is_total_known |= is_complete;
    }

    fn tell(&self, account: &mut Account) {
        account.told = Instant::now();
        let mut progress = account.progress.clone();
        progress.files_total = progress.files_total.max(progress.files_done);
        progress.bytes_total = progress.bytes_total.max(progress.bytes_done);
        (self.events)(Event::Progress(progress));
    }

    /// Whether nothing is to be changed.
    pub(super) fn is_dry(&self) -> bool {
        self.how.is_dry
    }

    /// Something of another kind gave way.
    pub(super) fn replaced(&self) {
        self.count(|outcome| outcome.replaced += 1);
    }

    /// What became of one thing, for who wants to know of each.
    pub(super) fn item(&self, action: ItemAction, path: &Path, bytes: u64) {
        if self.how.tells_items {
            let path = path.strip_prefix(&self.how.target).unwrap_or(path);
            (self.events)(Event::Restored { action, path: Path::new("/").join(path), bytes });
        }
    }

    /// A link, pipe or device, or another name of a file, is what it should be.
    pub(super) fn done(&self, action: ItemAction, path: &Path) {
        self.count(|outcome| outcome.others += 1);
        self.item(action, path, 0);
    }

    /// Remembers that what is at a path is none of the restore's business. 8 bytes each.
    pub(super) fn pass_over(&self, path: &Path) {
        lock(&self.passed_over).insert(sum_of(path.as_os_str().as_encoded_bytes()));
    }

    pub(super) fn was_passed_over(&self, path: &Path) -> bool {
        let passed_over = lock(&self.passed_over);
        !passed_over.is_empty()
            && passed_over.contains(&sum_of(path.as_os_str().as_encoded_bytes()))
    }

    /// Something could not be restored as it was.
    pub(super) fn problem(&self, path: &Path, reason: String) {
        let (path, told) = (path.to_owned(), reason.clone());
        (self.events)(Event::TargetProblem { path: path.clone(), reason: told });
        let mut account = lock(&self.account);
        account.outcome.problems_total += 1;
        if account.outcome.problems.len() < PROBLEMS_KEPT_MAX {
            account.outcome.problems.push(RestoreProblem { path, reason });
        }
    }

    /// The value; or, when there is none, a problem more. A disk that is full, failing or gone ends
    /// the restore: every further file would be a problem more, and the owner would not see the
    /// wood. What is whole until then stays.
    pub(super) fn noted<T>(
        &self,
        path: &Path,
        action: &'static str,
        value: io::Result<T>,
    ) -> Option<T> {
        value.map_err(|cause| self.failed(path, action, cause)).ok()
    }

    fn failed(&self, path: &Path, action: &'static str, cause: io::Error) {
        match cause.raw_os_error().map(Errno::from_raw) {
            Some(
                Errno::ENOSPC
                | Errno::EDQUOT
                | Errno::EROFS
                | Errno::EIO
                | Errno::ENODEV
                | Errno::ESTALE,
            ) => self.fail(TransferError::Target { action, path: path.into(), cause }),
            Some(Errno::EPERM) if self.is_root && self.abilities.has_owners => {
                let reason = format!("could not {action}: {cause}; is it marked immutable?");
                self.problem(path, reason);
            }
            _ => self.problem(path, format!("could not {action}: {cause}")),
        }
    }

    /// Owners can only be set by root, as everybody knows, and not on a stick: whoever restores
    /// gets a number then, not a list.
    pub(super) fn owner_set(&self, path: &Path, set: io::Result<()>) {
        match set {
            Err(_) if !self.is_root || !self.abilities.has_owners => {
                self.count(|outcome| outcome.owners_not_set += 1);
            }
            set => {
                self.noted(path, "set the owner", set);
            }
        }
    }

    /// Where the file system does not have all modes, those it refused are counted, and told once.
    pub(super) fn mode_set(&self, path: &Path, set: io::Result<()>) {
        match set {
            Err(cause) if !self.abilities.has_modes => {
                let reason = format!("could not set the mode: {cause}");
                self.refused(path, OsStr::new("mode"), &reason);
            }
            set => {
                self.noted(path, "set the mode", set);
            }
        }
    }

    /// Attributes that this file system has not, or that only root may set, are counted, and told
    /// once per name.
    pub(super) fn attribute_set(&self, path: &Path, name: &OsStr, set: io::Result<()>) {
        let Err(cause) = set else { return };
        let is_refused = match cause.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EOPNOTSUPP) => true,
            Some(Errno::EPERM | Errno::EACCES) => !self.is_root,
            _ => false,
        };
        let reason = format!("could not set the attribute {}: {cause}", name.display());
        if !is_refused {
            return self.problem(path, reason);
        }
        self.refused(path, name, &reason);
    }

    fn refused(&self, path: &Path, name: &OsStr, reason: &str) {
        self.count(|outcome| outcome.attributes_not_set += 1);
        let mut told = lock(&self.names_told);
        if told.len() < NAMES_TOLD_MAX && told.insert(name.to_owned()) {
            let text = format!("{}: {reason}; nor for others", path.display());
            (self.events)(Event::Note(text));
        }
    }

    /// Something of the repository could not be read. What it is needed for is incomplete.
    pub(super) fn damage(&self, path: &Path, error: TransferError) {
        if is_the_end(&error) { self.fail(error) } else { self.problem(path, sentence(&error)) }
    }

    /// A file that was there is right, or is to be left as it is.
    pub(super) fn unchanged(&self, path: &Path, bytes: u64) {
        self.count(|outcome| {
            outcome.files_unchanged += 1;
            outcome.bytes_unchanged += bytes;
        });
        self.item(ItemAction::Unchanged, path, bytes);
    }

    pub(super) fn is_zeros(&self, id: &Id) -> bool {
        lock(&self.zeros).contains(id)
    }

    pub(super) fn remember_zeros(&self, id: Id) {
        let mut zeros = lock(&self.zeros);
        if zeros.len() < ZEROS_MAX {
            zeros.insert(id);
        }
    }
}

/// Whether nothing of the repository can be read any more.
pub(super) fn is_the_end(error: &TransferError) -> bool {
    use StorageError::{Gone, Unreachable};
    matches!(error, TransferError::Storage(Gone { .. } | Unreachable { .. }))
}

/// A sum that stands for a name or a path well enough.
pub(super) fn sum_of(name: &[u8]) -> u64 {
    let sum = Id::of(name);
    sum.as_bytes()[..8].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}
