//! Leaves others room on the line: no more bytes a second than the owner gave us.
//!
//! Each direction has a bucket that fills at its rate and holds one second's worth. What is
//! written or read is taken from it, and debt is waited for. Servers are paced where their bytes
//! are: inside the bodies that are sent and received, in pieces of a second's worth at most
//! ([`Pace`]). A folder, which has no line of its own, is paced around its calls ([`Throttled`]).

use crate::clock::Clock;
use crate::{Name, PackFile, Result, Storage, SystemClock};
use engine_repository::{FileKind, Id};
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How fast, in bytes a second. `None`: as fast as it goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    /// To the destination.
    pub up: Option<u32>,
    /// From the destination.
    pub down: Option<u32>,
}

/// A storage that keeps to rates.
pub struct Throttled {
    inner: Arc<dyn Storage>,
    pace: Arc<Pace>,
}

impl Throttled {
    /// A storage that does what `inner` does, no faster than `rates`.
    pub fn around(inner: Arc<dyn Storage>, rates: Rates) -> Self {
        Self::by_clock(inner, rates, Arc::new(SystemClock::begin()))
    }

    /// The same, by another clock.
    pub fn by_clock(inner: Arc<dyn Storage>, rates: Rates, clock: Arc<dyn Clock>) -> Self {
        Self { inner, pace: Arc::new(Pace::of(rates, clock)) }
    }
}

/// Both directions of a line.
pub(crate) struct Pace {
    /// To the destination.
    pub up: Bucket,
    /// From the destination.
    pub down: Bucket,
}

impl Pace {
    /// No faster than `rates`.
    pub fn of(rates: Rates, clock: Arc<dyn Clock>) -> Self {
        Self { up: Bucket::new(rates.up, clock.clone()), down: Bucket::new(rates.down, clock) }
    }

    /// As fast as it goes.
    pub fn none() -> Self {
        Self::of(Rates::default(), Arc::new(SystemClock::begin()))
    }
}

/// Bytes that are read no faster than their bucket fills.
pub(crate) struct Paced<'a, R> {
    bucket: &'a Bucket,
    inner: R,
}

impl<'a, R> Paced<'a, R> {
    pub fn by(bucket: &'a Bucket, inner: R) -> Self {
        Self { bucket, inner }
    }
}

impl<R: Read> Read for Paced<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let piece = self.bucket.piece(buffer.len());
        let count = self.inner.read(&mut buffer[..piece])?;
        self.bucket.take(count);
        Ok(count)
    }
}

/// Bytes that may be moved now.
pub(crate) struct Bucket {
    rate: Option<u32>,
    clock: Arc<dyn Clock>,
    level: Mutex<Level>,
}

struct Level {
    /// Less than nothing: debt.
    bytes: f64,
    at: Duration,
}

impl Bucket {
    fn new(rate: Option<u32>, clock: Arc<dyn Clock>) -> Self {
        let rate = rate.map(|rate| rate.max(1));
        let level = Level { bytes: f64::from(rate.unwrap_or_default()), at: clock.now() };
        Self { rate, clock, level: Mutex::new(level) }
    }

    /// In bytes a second.
    pub fn rate(&self) -> Option<u32> {
        self.rate
    }

    /// Of so many bytes, how many to move at a time: never so many that the line falls silent for
    /// long, which the other end would take for its end.
    fn piece(&self, bytes: usize) -> usize {
        self.rate.map_or(bytes, |rate| bytes.min(rate as usize))
    }

    /// Takes bytes out, and waits until the bucket is no longer in debt.
    fn take(&self, bytes: usize) {
        let Some(rate) = self.rate.map(f64::from) else { return };
        let debt = {
            let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
            let now = self.clock.now();
            let refill = now.saturating_sub(level.at).as_secs_f64() * rate;
            level.bytes = (level.bytes + refill).min(rate) - bytes as f64;
            level.at = now;
            -level.bytes
        };
        if debt > 0.0 {
            self.clock.sleep(Duration::from_secs_f64(debt / rate));
        }
    }
}

impl Storage for Throttled {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn create(&self) -> Result<()> {
        self.inner.create()
    }

    fn list(&self, kind: FileKind, each: &mut dyn FnMut(Id, u64) -> Result<()>) -> Result<()> {
        self.inner.list(kind, each)
    }

    fn lists_at_once(&self) -> bool {
        self.inner.lists_at_once()
    }

    fn read(&self, name: Name, bytes_max: u64) -> Result<Vec<u8>> {
        let bytes = self.inner.read(name, bytes_max)?;
        self.pace.down.take(bytes.len());
        Ok(bytes)
    }

    fn read_range(&self, name: Name, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.pace.down.take(buffer.len());
        self.inner.read_range(name, offset, buffer)
    }

    fn read_on(
        &self,
        name: Name,
        offset: u64,
        buffer: &mut [u8],
        arrived: &mut usize,
    ) -> Result<()> {
        self.pace.down.take(buffer.len() - *arrived);
        self.inner.read_on(name, offset, buffer, arrived)
    }

    fn write(&self, name: Name, bytes: &[u8]) -> Result<()> {
        self.pace.up.take(bytes.len());
        self.inner.write(name, bytes)
    }

    fn create_pack(&self) -> Result<Box<dyn PackFile>> {
        Ok(Box::new(ThrottledPack { inner: self.inner.create_pack()?, pace: self.pace.clone() }))
    }

    fn remove(&self, name: Name) -> Result<()> {
        self.inner.remove(name)
    }

    fn size(&self, name: Name) -> Result<Option<u64>> {
        self.inner.size(name)
    }
}

struct ThrottledPack {
    inner: Box<dyn PackFile>,
    pace: Arc<Pace>,
}

impl PackFile for ThrottledPack {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.pace.up.take(bytes.len());
        self.inner.append(bytes)
    }

    fn read_back(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.inner.read_back(offset, buffer)
    }

    fn settle(&mut self, id: Id) -> Result<()> {
        self.inner.settle(id)
    }
}
