//! What the threads of one restore share: the account of what was done and what was not.

use super::{RestoreOutcome, RestoreProblem};
use crate::errors::sentence;
use crate::index::Index;
use crate::locks::HeldLock;
use crate::{Cancel, Event, Progress, Repository, Result, TransferError};
use engine_repository::Id;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Only the first problems are kept; all are counted and told as events.
const PROBLEMS_KEPT_MAX: usize = 1000;
/// Progress is told this often at most.
const INTERVAL: Duration = Duration::from_millis(200);
/// More ids of zeros than this are not remembered.
const ZEROS_MAX: usize = 64;

/// What the threads of one restore share.
pub(super) struct Shared<'a> {
    pub(super) repository: &'a Repository,
    pub(super) index: &'a Index,
    events: &'a (dyn Fn(Event) + Sync),
    cancel: &'a Cancel,
    lock: &'a HeldLock,
    is_root: bool,
    has_failed: AtomicBool,
    failure: Mutex<Option<TransferError>>,
    account: Mutex<Account>,
    /// Blobs that are nothing but zeros, of which files with holes have many.
    zeros: Mutex<HashSet<Id>>,
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
            events,
            cancel,
            lock,
            is_root: nix::unistd::geteuid().is_root(),
            has_failed: AtomicBool::new(false),
            failure: Mutex::default(),
            account: Mutex::new(account),
            zeros: Mutex::default(),
        }
    }

    /// Ends the restore with this error, unless it is ending with another already.
    pub(super) fn fail(&self, error: TransferError) {
        locked(&self.failure).get_or_insert(error);
        self.has_failed.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed) || self.cancel.is_cancelled()
    }

    /// The verdict, once all threads have ended.
    pub(super) fn verdict(&self) -> Result<()> {
        match locked(&self.failure).take() {
            Some(error) => Err(error),
            None if self.cancel.is_cancelled() => Err(TransferError::Cancelled),
            None => self.lock.must_be_held(),
        }
    }

    /// What was done. Nothing is known of it afterwards.
    pub(super) fn take_outcome(&self) -> RestoreOutcome {
        self.tell(&mut locked(&self.account));
        std::mem::take(&mut locked(&self.account).outcome)
    }

    /// Counts something.
    pub(super) fn count(&self, add: impl FnOnce(&mut RestoreOutcome)) {
        add(&mut locked(&self.account).outcome);
    }

    /// Counts what is done of what the owner waits for.
    pub(super) fn progress(&self, files: u64, bytes: u64, path: Option<&Path>) {
        let mut account = locked(&self.account);
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
        let mut account = locked(&self.account);
        (account.progress.files_done, account.progress.bytes_done) = (0, 0);
    }

    /// Counts what there is to do.
    pub(super) fn expect(&self, files: u64, bytes: u64, is_complete: bool) {
        let mut account = locked(&self.account);
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

    /// Something could not be restored as it was.
    pub(super) fn problem(&self, path: &Path, reason: String) {
        let (path, told) = (path.to_owned(), reason.clone());
        (self.events)(Event::TargetProblem { path: path.clone(), reason: told });
        let mut account = locked(&self.account);
        account.outcome.problems_total += 1;
        if account.outcome.problems.len() < PROBLEMS_KEPT_MAX {
            account.outcome.problems.push(RestoreProblem { path, reason });
        }
    }

    /// The value; or, when there is none, a problem more. A full disk ends the restore: every
    /// further file would be a problem more, and the owner would not see the wood.
    pub(super) fn noted<T>(
        &self,
        path: &Path,
        action: &'static str,
        value: io::Result<T>,
    ) -> Option<T> {
        value.map_err(|cause| self.failed(path, action, cause)).ok()
    }

    fn failed(&self, path: &Path, action: &'static str, cause: io::Error) {
        match cause.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                self.fail(TransferError::Target { action, path: path.into(), cause });
            }
            _ => self.problem(path, format!("could not {action}: {cause}")),
        }
    }

    /// Owners can only be set by root, as everybody knows: others get a number, not a list.
    pub(super) fn owner_set(&self, path: &Path, set: io::Result<()>) {
        match set {
            Err(_) if !self.is_root => self.count(|outcome| outcome.owners_not_set += 1),
            set => {
                self.noted(path, "set the owner", set);
            }
        }
    }

    pub(super) fn attribute_set(&self, path: &Path, name: &OsStr, set: io::Result<()>) {
        if let Err(cause) = set {
            self.problem(path, format!("could not set the attribute {}: {cause}", name.display()));
        }
    }

    /// Something of the repository could not be read. What it is needed for is incomplete.
    pub(super) fn damage(&self, path: &Path, error: &TransferError) {
        self.problem(path, sentence(error));
    }

    pub(super) fn is_zeros(&self, id: &Id) -> bool {
        locked(&self.zeros).contains(id)
    }

    pub(super) fn remember_zeros(&self, id: Id) {
        let mut zeros = locked(&self.zeros);
        if zeros.len() < ZEROS_MAX {
            zeros.insert(id);
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
