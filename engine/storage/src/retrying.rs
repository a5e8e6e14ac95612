//! Tries again what may work in a moment: a server that is busy, a line that broke.
//!
//! Between two tries it waits a random part of a span that doubles, so that many boxes that lost
//! the same server do not come back to it in step. What no waiting changes is never tried again:
//! a file that is not there, a name that is taken, a refusal, a full disk.
//!
//! A change whose answer was lost may have been made. So when a later try meets what the first may
//! have left, that is looked at: a file with the very bytes that were to be written is success,
//! and so is a file that is gone when it was to be removed.

use crate::clock::Clock;
use crate::http::go_on;
use crate::{Name, PackFile, Result, Storage, StorageError, SystemClock};
use engine_repository::{FileKind, Id};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A listing that broke off is begun anew when no more than this was told of it: what was told is
/// remembered, so that nothing is told twice.
const TOLD_MAX: usize = 65_536;

/// So much of a file that broke off is asked for at a time.
const PIECE_BYTES_MAX: usize = 1 << 20;

/// How hard to try.
#[derive(Clone)]
pub struct Persistence {
    /// The span before the second try; it doubles with every try.
    pub wait_first: Duration,
    /// The longest span.
    pub wait_max: Duration,
    /// No try begins later than this after the first.
    pub time_max: Duration,
    /// The same while the destination never answered: it is more likely misnamed than busy.
    pub time_unseen_max: Duration,
    /// What time it is, and how to wait.
    pub clock: Arc<dyn Clock>,
    /// An even chance among all numbers.
    pub chance: Arc<dyn Fn() -> u32 + Send + Sync>,
}

impl Default for Persistence {
    fn default() -> Self {
        Self {
            wait_first: Duration::from_millis(500),
            wait_max: Duration::from_secs(60),
            time_max: Duration::from_secs(15 * 60),
            time_unseen_max: Duration::from_secs(30),
            clock: Arc::new(SystemClock::begin()),
            chance: Arc::new(|| {
                let mut bytes = [0; 4];
                // Without chance the wait is the whole span: longer, never wrong.
                match getrandom::fill(&mut bytes) {
                    Ok(()) => u32::from_le_bytes(bytes),
                    Err(_) => u32::MAX,
                }
            }),
        }
    }
}

impl Persistence {
    /// Does `attempt` until it works, fails for good, or the time is over. `attempt` is told
    /// whether one before it failed.
    pub(crate) fn keep_trying<T>(
        &self,
        time_max: Duration,
        mut attempt: impl FnMut(bool) -> Result<T>,
    ) -> Result<T> {
        let begun = self.clock.now();
        let mut span = self.wait_first;
        let mut is_again = false;
        loop {
            let error = match attempt(is_again) {
                Err(error) if error.is_passing() => error,
                other => return other,
            };
            let wait = span.mul_f64(f64::from((self.chance)()) / f64::from(u32::MAX));
            if self.clock.now().saturating_sub(begun) + wait > time_max {
                return Err(error);
            }
            self.clock.sleep(wait);
            span = (span * 2).min(self.wait_max);
            is_again = true;
        }
    }
}

/// A storage that tries again.
pub struct Retrying {
    inner: Arc<dyn Storage>,
    persistence: Persistence,
    was_seen: AtomicBool,
}

impl Retrying {
    /// A storage that does what `inner` does, and tries again.
    pub fn around(inner: Arc<dyn Storage>, persistence: Persistence) -> Self {
        Self { inner, persistence, was_seen: AtomicBool::new(false) }
    }

    fn keep_trying<T>(&self, attempt: impl FnMut(bool) -> Result<T>) -> Result<T> {
        let persistence = &self.persistence;
        let time_max = match self.was_seen.load(Ordering::Relaxed) {
            true => persistence.time_max,
            false => persistence.time_unseen_max,
        };
        let answer = persistence.keep_trying(time_max, attempt);
        if !answer.as_ref().is_err_and(StorageError::is_passing) {
            self.was_seen.store(true, Ordering::Relaxed);
        }
        answer
    }
}

impl Retrying {
    /// A file whose reading broke off once, so that what arrives is kept when it does so again.
    fn read_in_pieces(&self, name: Name, bytes_max: u64) -> Result<Vec<u8>> {
        let location = self.location();
        let Some(bytes) = self.size(name)? else {
            return Err(StorageError::NotFound { location, name });
        };
        if bytes > bytes_max {
            return Err(StorageError::TooLarge { location, name, bytes, bytes_max });
        }
        let mut content = Vec::new();
        while (content.len() as u64) < bytes {
            let start = content.len();
            let missing = usize::try_from(bytes - start as u64).unwrap_or(usize::MAX);
            // What is not there yet takes no memory: a lie about the size costs nothing.
            content.resize(start + missing.min(PIECE_BYTES_MAX), 0);
            self.read_range(name, start as u64, &mut content[start..])?;
        }
        Ok(content)
    }
}

impl Storage for Retrying {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn create(&self) -> Result<()> {
        self.keep_trying(|_| self.inner.create())
    }

    fn list(&self, kind: FileKind, each: &mut dyn FnMut(Id, u64) -> Result<()>) -> Result<()> {
        let mut told: Vec<Id> = Vec::new();
        let mut is_told_too_much = false;
        self.keep_trying(|is_again| {
            if is_again {
                told.sort_unstable();
            }
            let told_before = told.len();
            // What the caller says ends the listing, whatever kind of error it is.
            let mut stopped = None;
            let listed = self.inner.list(kind, &mut |id, bytes| {
                if told[..told_before].binary_search(&id).is_ok() {
                    return Ok(());
                }
                match told.len() < TOLD_MAX {
                    true => told.push(id),
                    false => is_told_too_much = true,
                }
                each(id, bytes).map_err(|error| {
                    stopped = Some(error);
                    StorageError::Gone { location: self.inner.location() }
                })
            });
            match (listed, stopped) {
                (_, Some(error)) => Ok(Err(error)),
                (Err(error), None) if is_told_too_much => Ok(Err(error)),
                (listed, None) => listed.map(Ok),
            }
        })?
    }

    fn lists_at_once(&self) -> bool {
        self.inner.lists_at_once()
    }

    fn read(&self, name: Name, bytes_max: u64) -> Result<Vec<u8>> {
        match self.inner.read(name, bytes_max) {
            Err(error) if error.is_passing() => self.read_in_pieces(name, bytes_max),
            other => other,
        }
    }

    fn read_range(&self, name: Name, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.read_on(name, offset, buffer, &mut 0)
    }

    /// What arrived before the line broke is not asked for again.
    fn read_on(
        &self,
        name: Name,
        offset: u64,
        buffer: &mut [u8],
        arrived: &mut usize,
    ) -> Result<()> {
        self.keep_trying(|_| {
            go_on(arrived, |arrived| self.inner.read_on(name, offset, buffer, arrived))
        })
    }

    fn write(&self, name: Name, bytes: &[u8]) -> Result<()> {
        self.keep_trying(|is_again| match self.inner.write(name, bytes) {
            Err(error @ StorageError::AlreadyExists { .. }) if is_again => {
                match self.inner.read(name, bytes.len() as u64) {
                    Ok(found) if found == bytes => Ok(()),
                    Err(error) if error.is_passing() => Err(error),
                    _ => Err(error),
                }
            }
            other => other,
        })
    }

    fn create_pack(&self) -> Result<Box<dyn PackFile>> {
        let inner = self.keep_trying(|_| self.inner.create_pack())?;
        Ok(Box::new(RetryingPack { inner, persistence: self.persistence.clone() }))
    }

    fn remove(&self, name: Name) -> Result<()> {
        self.keep_trying(|is_again| match self.inner.remove(name) {
            Err(StorageError::NotFound { .. }) if is_again => Ok(()),
            other => other,
        })
    }

    fn size(&self, name: Name) -> Result<Option<u64>> {
        self.keep_trying(|_| self.inner.size(name))
    }
}

struct RetryingPack {
    inner: Box<dyn PackFile>,
    persistence: Persistence,
}

impl PackFile for RetryingPack {
    /// Not tried again: what a failed append left at the end is not known.
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.inner.append(bytes)
    }

    fn read_back(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.inner.read_back(offset, buffer)
    }

    fn settle(&mut self, id: Id) -> Result<()> {
        let time_max = self.persistence.time_max;
        self.persistence.keep_trying(time_max, |_| self.inner.settle(id))
    }
}
