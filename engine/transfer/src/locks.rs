//! Locks, by restic's rules: see `engine_repository::lock` for what they are.
//!
//! A [`HeldLock`] is refreshed by a thread of its own as long as it lives and removed when it is
//! dropped. A refresh that fails is tried again a minute later. How old a lock is, two clocks say:
//! one that only goes forward and sleeps with the box, and the one on the wall, which others judge
//! the lock by and which jumps when it is set. The larger age counts. So after a standby, and after
//! a clock was set right, the lock is looked for and written anew before the next write that
//! depends on it; if it is still there, nobody else can have thought the repository free. If it is
//! gone, or could not be looked for, the lock is *lost* for good: somebody may have come, pruned
//! and gone, so whoever holds it must stop and begin again with what the repository then says.
//!
//! A clock that is wrong by more than half an hour and stays so makes our locks look stale to
//! others (when it is behind) and theirs to us (when it is ahead). Nobody can tell from inside.

use crate::mutex::lock;
use crate::repository::now;
use crate::{Repository, Result, TransferError};
use engine_repository::lock::{Lock, Observer, RECHECK_MILLISECONDS};
use engine_repository::lock::{REFRESH_SECONDS, REFRESH_SECONDS_MAX};
use engine_repository::{FileKind, Id, Time};
use engine_storage::{Name, StorageError, list_all};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often the refresher looks at the clocks; also how long after a refresh that failed.
const LOOK_SECONDS: u64 = 60;

/// What a lock asks about time.
pub(crate) trait Clocks: Send + Sync {
    /// Time since any fixed moment. It never jumps, and may stand still while the box sleeps.
    fn passed(&self) -> Duration;
    /// The time on the wall.
    fn wall(&self) -> Time;
    /// Waits.
    fn sleep(&self, span: Duration);
    /// How long, by the clock of the box, before the refresher looks at these again.
    fn until_next_look(&self) -> Duration;
}

/// The clocks of the box.
struct BoxClocks(Instant);

/// The clocks locks go by, unless a test has others.
pub(crate) fn box_clocks() -> Arc<dyn Clocks> {
    Arc::new(BoxClocks(Instant::now()))
}

impl Clocks for BoxClocks {
    fn passed(&self) -> Duration {
        self.0.elapsed()
    }

    fn wall(&self) -> Time {
        now()
    }

    fn sleep(&self, span: Duration) {
        std::thread::sleep(span);
    }

    fn until_next_look(&self) -> Duration {
        Duration::from_secs(LOOK_SECONDS)
    }
}

/// A lock, held.
pub(crate) struct HeldLock {
    inner: Arc<Inner>,
    /// Dropped to end the thread.
    stop: Option<Sender<()>>,
    refresher: Option<JoinHandle<()>>,
}

struct Inner {
    repository: Repository,
    exclusive: bool,
    clocks: Arc<dyn Clocks>,
    state: Mutex<State>,
    /// Held while the lock is written anew, which may take long; the state is not.
    renewing: Mutex<()>,
}

struct State {
    id: Id,
    /// By the clock that never jumps, and by the one on the wall.
    written: (Duration, Time),
    is_lost: bool,
    /// Why the last refresh failed.
    failure: Option<StorageError>,
    /// Locks of ours that could not be removed when they were replaced.
    left_over: Vec<Id>,
}

impl HeldLock {
    /// Takes a lock, waiting for it as long as the repository was told to, or says who keeps us
    /// out.
    pub(crate) fn acquire(repository: &Repository, exclusive: bool) -> Result<Self> {
        let clocks = repository.clocks();
        repository.patience().wait(|| Self::acquire_by(clocks.clone(), repository, exclusive))
    }

    fn acquire_by(
        clocks: Arc<dyn Clocks>,
        repository: &Repository,
        exclusive: bool,
    ) -> Result<Self> {
        look_for_others(repository, exclusive, clocks.wall(), None)?;
        let written = (clocks.passed(), clocks.wall());
        let id = write(repository, exclusive, written.1)?;
        // Each of two writes its lock before it looks for the last time. So where a listing shows
        // what was written, one of them sees the other, and there is nothing to wait for.
        if !repository.storage().lists_at_once() {
            clocks.sleep(Duration::from_millis(RECHECK_MILLISECONDS));
        }
        if let Err(kept_out) = look_for_others(repository, exclusive, clocks.wall(), Some(id)) {
            let _ = repository.storage().remove(Name::of(FileKind::Lock, id));
            return Err(kept_out);
        }
        let state = State { id, written, is_lost: false, failure: None, left_over: Vec::new() };
        let (state, renewing) = (Mutex::new(state), Mutex::default());
        let repository = repository.clone();
        let inner = Arc::new(Inner { repository, exclusive, clocks, state, renewing });
        let (stop, stopped) = channel();
        let mine = inner.clone();
        let refresher = std::thread::spawn(move || mine.keep_refreshing(&stopped));
        Ok(Self { inner, stop: Some(stop), refresher: Some(refresher) })
    }

    /// Fails when others may believe the repository free, or may have. To be asked before every
    /// write that depends on their not having changed anything.
    pub(crate) fn must_be_held(&self) -> Result<()> {
        if self.inner.age_seconds() > REFRESH_SECONDS_MAX {
            // The box slept, its clock was set, or the destination did not answer for long.
            let _ = self.inner.renew();
        }
        let is_old = self.inner.age_seconds() > REFRESH_SECONDS_MAX;
        let mut state = lock(&self.inner.state);
        match state.is_lost || is_old {
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
        let mut state = lock(&self.inner.state);
        let id = state.id;
        for id in state.left_over.drain(..).chain([id]) {
            // A destination that is gone keeps the lock; it is stale half an hour later.
            let _ = self.inner.repository.storage().remove(Name::of(FileKind::Lock, id));
        }
    }
}

impl Inner {
    fn keep_refreshing(&self, stopped: &Receiver<()>) {
        let wait = || self.clocks.until_next_look();
        while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(wait()) {
            if self.age_seconds() >= REFRESH_SECONDS {
                let _ = self.renew();
            }
        }
    }

    /// How old the lock is, by the clock that says more.
    fn age_seconds(&self) -> u64 {
        let (passed, wall) = lock(&self.state).written;
        let passed = self.clocks.passed().saturating_sub(passed).as_secs();
        // A clock that was set back makes it old, too: others may judge by a better one.
        passed.max(self.clocks.wall().seconds_since(&wall).unsigned_abs())
    }

    /// Writes a new lock, then removes the old one: there is always one.
    fn renew(&self) -> Result<()> {
        let _renewing = lock(&self.renewing);
        if self.age_seconds() < REFRESH_SECONDS {
            return Ok(());
        }
        let renewed = self.renew_alone();
        let mut state = lock(&self.state);
        match renewed {
            Ok((id, written)) => {
                let old = std::mem::replace(&mut state.id, id);
                (state.written, state.failure) = (written, None);
                state.left_over.push(old);
                let mut left_over = std::mem::take(&mut state.left_over);
                drop(state);
                let storage = self.repository.storage();
                left_over.retain(|old| {
                    let removed = storage.remove(Name::of(FileKind::Lock, *old));
                    !matches!(removed, Ok(()) | Err(StorageError::NotFound { .. }))
                });
                lock(&self.state).left_over = left_over;
                Ok(())
            }
            Err(TransferError::Storage(cause)) => {
                state.failure = Some(cause);
                Err(TransferError::LockLost { cause: None })
            }
            Err(error) => {
                state.is_lost |= matches!(error, TransferError::LockLost { .. });
                Err(error)
            }
        }
    }

    fn renew_alone(&self) -> Result<(Id, (Duration, Time))> {
        let (storage, old) = (self.repository.storage(), lock(&self.state).id);
        let must_be_there = || match storage.size(Name::of(FileKind::Lock, old))? {
            Some(_) => Ok(()),
            // Somebody found it stale. What was written since may have been judged without us.
            None => Err(TransferError::LockLost { cause: None }),
        };
        if lock(&self.state).is_lost {
            return Err(TransferError::LockLost { cause: None });
        }
        must_be_there()?;
        let was_stale = self.age_seconds() > REFRESH_SECONDS_MAX;
        let written = (self.clocks.passed(), self.clocks.wall());
        let id = write(&self.repository, self.exclusive, written.1)?;
        if was_stale {
            // Whoever found it stale a moment ago removes it now.
            self.clocks.sleep(Duration::from_millis(RECHECK_MILLISECONDS));
            if let Err(gone) = must_be_there() {
                let _ = storage.remove(Name::of(FileKind::Lock, id));
                return Err(gone);
            }
        }
        Ok((id, written))
    }
}

fn write(repository: &Repository, exclusive: bool, time: Time) -> Result<Id> {
    let who = repository.who();
    let lock = Lock {
        time,
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
fn look_for_others(
    repository: &Repository,
    exclusive: bool,
    now: Time,
    own: Option<Id>,
) -> Result<()> {
    let storage = repository.storage();
    let observer = Observer { now, hostname: &repository.who().hostname, is_alive: &is_alive };
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

#[cfg(test)]
mod tests;
