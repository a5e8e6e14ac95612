//! Leaves others room on the line: no more bytes a second than the owner gave us.
//!
//! Each direction has a bucket that fills at its rate and holds one second's worth. What is
//! written or read is taken from it, and debt is waited for. A pack is paced while it grows: a
//! storage that sends it in one go when it is complete sends it at the line's own speed, and the
//! rate holds over several packs.

use crate::clock::Clock;
use crate::{Name, PackFile, Result, Storage, SystemClock};
use engine_repository::{FileKind, Id};
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
    up: Arc<Bucket>,
    down: Arc<Bucket>,
}

impl Throttled {
    /// A storage that does what `inner` does, no faster than `rates`.
    pub fn around(inner: Arc<dyn Storage>, rates: Rates) -> Self {
        Self::by_clock(inner, rates, Arc::new(SystemClock::begin()))
    }

    /// The same, by another clock.
    pub fn by_clock(inner: Arc<dyn Storage>, rates: Rates, clock: Arc<dyn Clock>) -> Self {
        let bucket = |rate| Arc::new(Bucket::new(rate, clock.clone()));
        Self { inner, up: bucket(rates.up), down: bucket(rates.down) }
    }
}

/// Bytes that may be moved now.
struct Bucket {
    rate: Option<f64>,
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
        let rate = rate.map(|rate| f64::from(rate.max(1)));
        let level = Level { bytes: rate.unwrap_or_default(), at: clock.now() };
        Self { rate, clock, level: Mutex::new(level) }
    }

    /// Takes bytes out, and waits until the bucket is no longer in debt.
    fn take(&self, bytes: usize) {
        let Some(rate) = self.rate else { return };
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

    fn read(&self, name: Name, bytes_max: u64) -> Result<Vec<u8>> {
        let bytes = self.inner.read(name, bytes_max)?;
        self.down.take(bytes.len());
        Ok(bytes)
    }

    fn read_range(&self, name: Name, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.down.take(buffer.len());
        self.inner.read_range(name, offset, buffer)
    }

    fn write(&self, name: Name, bytes: &[u8]) -> Result<()> {
        self.up.take(bytes.len());
        self.inner.write(name, bytes)
    }

    fn create_pack(&self) -> Result<Box<dyn PackFile>> {
        Ok(Box::new(ThrottledPack { inner: self.inner.create_pack()?, up: self.up.clone() }))
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
    up: Arc<Bucket>,
}

impl PackFile for ThrottledPack {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.up.take(bytes.len());
        self.inner.append(bytes)
    }

    fn settle(&mut self, id: Id) -> Result<()> {
        self.inner.settle(id)
    }
}
