//! Locks, by restic's rules: see `engine_repository::lock` for what they are.
//!
//! A [`HeldLock`] is refreshed by a thread of its own as long as it lives and removed when it is
//! dropped. A refresh that fails is tried again a minute later; a lock that could not be refreshed
//! for too long is *lost*: whoever holds it must stop, because others may believe it abandoned.

use crate::repository::now;
use crate::{Repository, Result, TransferError};
use engine_repository::lock::{Lock, Observer, RECHECK_MILLISECONDS};
use engine_repository::lock::{REFRESH_SECONDS, REFRESH_SECONDS_MAX};
use engine_repository::{FileKind, Id};
use engine_storage::{Name, StorageError, list_all};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// After a refresh that failed.
const RETRY_SECONDS: u64 = 60;

/// A lock, held.
pub(crate) struct HeldLock {
    state: Arc<Mutex<State>>,
    repository: Repository,
    /// Dropped to end the thread.
    stop: Option<Sender<()>>,
    refresher: Option<JoinHandle<()>>,
}

struct State {
    id: Id,
    refreshed: Instant,
    failure: Option<StorageError>,
}

impl HeldLock {
    /// Takes a lock, waiting for it as long as the repository was told to, or says who keeps us
    /// out.
    pub(crate) fn acquire(repository: &Repository, exclusive: bool) -> Result<Self> {
        repository.patience().wait(|| Self::acquire_now(repository, exclusive))
    }

    fn acquire_now(repository: &Repository, exclusive: bool) -> Result<Self> {
        look_for_others(repository, exclusive, None)?;
        let id = write(repository, exclusive)?;
        std::thread::sleep(Duration::from_millis(RECHECK_MILLISECONDS));
        if let Err(kept_out) = look_for_others(repository, exclusive, Some(id)) {
            let _ = repository.storage().remove(Name::of(FileKind::Lock, id));
            return Err(kept_out);
        }
        let state = State { id, refreshed: Instant::now(), failure: None };
        let state = Arc::new(Mutex::new(state));
        let (stop, stopped) = channel();
        let (shared, mine) = (state.clone(), repository.clone());
        let refresher =
            std::thread::spawn(move || keep_refreshing(&mine, exclusive, &shared, &stopped));
        let repository = repository.clone();
        Ok(Self { state, repository, stop: Some(stop), refresher: Some(refresher) })
    }

    /// Fails when the lock could not be refreshed for too long.
    pub(crate) fn must_be_held(&self) -> Result<()> {
        let mut state = lock(&self.state);
        match state.refreshed.elapsed() > Duration::from_secs(REFRESH_SECONDS_MAX) {
            true => Err(TransferError::LockLost { cause: state.failure.take() }),
            false => Ok(()),
        }
    }
}

impl Drop for HeldLock {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(refresher) = self.refresher.take() {
            let _ = refresher.join();
        }
        let id = lock(&self.state).id;
        // A destination that is gone keeps the lock; it is stale half an hour later.
        let _ = self.repository.storage().remove(Name::of(FileKind::Lock, id));
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn keep_refreshing(
    repository: &Repository,
    exclusive: bool,
    state: &Mutex<State>,
    stopped: &Receiver<()>,
) {
    let mut wait = REFRESH_SECONDS;
    while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(Duration::from_secs(wait)) {
        wait = match refresh(repository, exclusive, state) {
            Ok(()) => REFRESH_SECONDS,
            Err(TransferError::Storage(cause)) => {
                lock(state).failure = Some(cause);
                RETRY_SECONDS
            }
            Err(_) => RETRY_SECONDS,
        };
    }
}

/// Writes a new lock, then removes the old one: there is always one.
fn refresh(repository: &Repository, exclusive: bool, state: &Mutex<State>) -> Result<()> {
    let old = lock(state).id;
    if repository.storage().size(Name::of(FileKind::Lock, old))?.is_none() {
        // Somebody found it stale. What was written since may have been judged without us.
        return Err(TransferError::LockLost { cause: None });
    }
    let id = write(repository, exclusive)?;
    *lock(state) = State { id, refreshed: Instant::now(), failure: None };
    repository.storage().remove(Name::of(FileKind::Lock, old))?;
    Ok(())
}

fn write(repository: &Repository, exclusive: bool) -> Result<Id> {
    let who = repository.who();
    let lock = Lock {
        time: now(),
        exclusive,
        hostname: who.hostname.clone(),
        username: who.username.clone(),
        pid: i64::from(who.pid),
        uid: who.uid,
        gid: who.gid,
    };
    repository.save_unpacked(FileKind::Lock, &lock)
}

/// Fails when somebody else's lock forbids ours. Stale locks are removed.
fn look_for_others(repository: &Repository, exclusive: bool, own: Option<Id>) -> Result<()> {
    let storage = repository.storage();
    let observer =
        Observer { now: now(), hostname: &repository.who().hostname, is_alive: &is_alive };
    for (id, bytes) in list_all(storage.as_ref(), FileKind::Lock)? {
        // An empty lock is what a full disk leaves; restic passes over it, too.
        if Some(id) == own || bytes == 0 {
            continue;
        }
        let other: Lock = match repository.read_unpacked(FileKind::Lock, id) {
            // Removed since it was listed.
            Err(TransferError::Storage(StorageError::NotFound { .. })) => continue,
            other => other?,
        };
        if other.is_stale(&observer) {
            let _ = storage.remove(Name::of(FileKind::Lock, id));
        } else if other.conflicts_with(exclusive) {
            return Err(TransferError::Locked {
                holder: format!(
                    "process {} of {} on {}",
                    other.pid, other.username, other.hostname
                ),
                since: other.time.to_string(),
            });
        }
    }
    Ok(())
}

/// Removes locks nobody holds any more; with `remove_all` those of others too, who are then no
/// longer safe. Says how many were removed. A lock that cannot be read is only removed with all.
pub fn unlock(repository: &Repository, remove_all: bool) -> Result<usize> {
    let storage = repository.storage();
    let observer =
        Observer { now: now(), hostname: &repository.who().hostname, is_alive: &is_alive };
    let mut removed = 0;
    for (id, _) in list_all(storage.as_ref(), FileKind::Lock)? {
        let is_abandoned = || match repository.read_unpacked::<Lock>(FileKind::Lock, id) {
            Ok(lock) => Ok(lock.is_stale(&observer)),
            Err(TransferError::Damaged { .. }) => Ok(false),
            Err(TransferError::Storage(StorageError::NotFound { .. })) => Ok(false),
            Err(error) => Err(error),
        };
        if !remove_all && !is_abandoned()? {
            continue;
        }
        match storage.remove(Name::of(FileKind::Lock, id)) {
            Err(StorageError::NotFound { .. }) => {}
            done => {
                done?;
                removed += 1;
            }
        }
    }
    Ok(removed)
}

/// Whether a process of this computer is alive. One of another user is.
fn is_alive(pid: i64) -> bool {
    match i32::try_from(pid) {
        Ok(pid) if pid > 0 => {
            let answer = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None);
            answer != Err(nix::errno::Errno::ESRCH)
        }
        // Nobody's number: a lock that says so is only judged by its age.
        _ => true,
    }
}
