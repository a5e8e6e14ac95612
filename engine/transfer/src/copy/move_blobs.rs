//! Blobs on their way from one repository into another: workers read, verify and seal; the one who
//! called stores.
//!
//! Blobs that lie beside each other are read together. What is read and what it becomes is counted
//! against the memory plan before it is read.

use super::needed::Needed;
use crate::budget::{Budget, Share};
use crate::careful::CarefulSealer;
use crate::index::Location;
use crate::large;
use crate::locks::HeldLock;
use crate::open_packs::Filled;
use crate::repository::{DATA_HELD_BYTES_MAX, damaged};
use crate::store::Store;
use crate::{Cancel, Event, Progress, Repository, Result, TransferError};
use crossbeam_channel::{Receiver, Sender, bounded};
use engine_repository::{BlobOpener, FileKind, Id, PackedBlob, SealedBlob};
use engine_storage::Name;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Blobs that lie beside each other are read together up to so many bytes: 2 MiB.
const RUN_BYTES_MAX: usize = 2 << 20;
/// More workers than this gain nothing on the boxes we are for.
const WORKERS_MAX: usize = 8;
/// Runs that wait for a worker, or to be stored.
const RUNS_WAITING_MAX: usize = 8;
/// Progress is told this often at most.
const INTERVAL: Duration = Duration::from_millis(200);

pub(super) struct Job<'a> {
    pub(super) from: &'a Repository,
    pub(super) to: &'a Repository,
    pub(super) locks: [&'a HeldLock; 2],
    pub(super) events: &'a (dyn Fn(Event) + Sync),
    pub(super) cancel: &'a Cancel,
}

/// Blobs that lie beside each other in a pack.
struct Run {
    pack: Id,
    start: u32,
    bytes: usize,
    blobs: Vec<PackedBlob>,
}

/// What they became.
struct Moved {
    became: Became,
    bytes_read: usize,
    /// Held until it is stored.
    _share: Share,
}

enum Became {
    Blobs(Vec<SealedBlob>, Vec<u8>),
    /// One too large to be held is in a pack already.
    Pack(Filled),
}

impl Job<'_> {
    /// Everything needed is durable and in the index after this. When it fails, so is what was
    /// moved until then.
    pub(super) fn run(&self, needed: &Needed) -> Result<()> {
        let pipeline_bytes = self.from.plan().pipeline_bytes.min(self.to.plan().pipeline_bytes);
        let budget = Budget::of(usize::try_from(pipeline_bytes / 2).unwrap_or(1 << 30));
        let failure = Mutex::new(None);
        let fail = |error: TransferError| {
            failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        };
        let (runs_in, runs_out) = bounded(RUNS_WAITING_MAX);
        let (moved_in, moved_out) = bounded(RUNS_WAITING_MAX);
        let mut store = Store::new(self.to, self.locks[1]);
        let workers_max = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..workers_max.min(WORKERS_MAX) {
                let (runs, moved, budget) = (runs_out.clone(), moved_in.clone(), &budget);
                scope.spawn(move || self.work(budget, &runs, &moved));
            }
            drop((runs_out, moved_in));
            scope.spawn(|| {
                let runs_in = runs_in;
                if let Err(error) = cut_into_runs(self.from, needed, &runs_in) {
                    fail(error);
                }
            });
            if let Err(error) = self.store(needed, &mut store, moved_out) {
                fail(error);
            }
        });
        // Whatever happened: what is there should be found by the next copy.
        let stored = store.finish();
        failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(stored, Err)
    }

    fn store(
        &self,
        needed: &Needed,
        store: &mut Store<'_>,
        moved: Receiver<Result<Moved>>,
    ) -> Result<()> {
        let mut told = Instant::now();
        let mut progress =
            Progress { bytes_total: needed.bytes, is_total_known: true, ..Progress::default() };
        for run in moved {
            let run = run?;
            match run.became {
                Became::Pack(pack) => store.add_pack(pack)?,
                Became::Blobs(blobs, bytes) => {
                    let mut at = 0;
                    for blob in &blobs {
                        let end = at + blob.length as usize;
                        store.add_sealed(blob, &bytes[at..end])?;
                        at = end;
                    }
                }
            }
            progress.bytes_done += run.bytes_read as u64;
            if told.elapsed() >= INTERVAL {
                told = Instant::now();
                self.locks[0].must_be_held()?;
                (self.events)(Event::Progress(progress.clone()));
            }
        }
        (self.events)(Event::Progress(progress));
        match self.cancel.is_cancelled() {
            true => Err(TransferError::Cancelled),
            false => Ok(()),
        }
    }

    fn work(&self, budget: &Arc<Budget>, runs: &Receiver<Run>, moved: &Sender<Result<Moved>>) {
        let mut hands = Hands {
            opener: BlobOpener::new(self.from.key().clone(), DATA_HELD_BYTES_MAX),
            sealer: CarefulSealer::of(self.to),
            is_compressing: self.to.compression().is_some(),
        };
        for run in runs {
            if self.cancel.is_cancelled() {
                return;
            }
            let done = match &run.blobs[..] {
                [alone] if self.from.is_large(&alone.blob) => {
                    let share = budget.take(large::MOVING_BYTES);
                    let location = Location { pack: run.pack, packed: *alone };
                    hands.carry_large(self.from, self.to, &location, share)
                }
                _ => {
                    let share = budget.take(2 * run.bytes);
                    hands.carry(self.from, &run, share)
                }
            };
            let is_over = done.is_err();
            if moved.send(done).is_err() || is_over {
                return;
            }
        }
    }
}

/// What a worker works with.
struct Hands {
    opener: BlobOpener,
    sealer: CarefulSealer,
    is_compressing: bool,
}

impl Hands {
    fn carry(&mut self, from: &Repository, run: &Run, share: Share) -> Result<Moved> {
        let name = Name::of(FileKind::Pack, run.pack);
        let mut read = vec![0; run.bytes];
        from.storage().read_range(name, u64::from(run.start), &mut read)?;
        let mut bytes = Vec::with_capacity(run.bytes);
        let mut blobs = Vec::with_capacity(run.blobs.len());
        let mut rest = &mut read[..];
        for packed in &run.blobs {
            let (sealed, behind) = rest.split_at_mut(packed.blob.length as usize);
            rest = behind;
            blobs.push(self.carry_one(name, &packed.blob, sealed, &mut bytes)?);
        }
        let became = Became::Blobs(blobs, bytes);
        Ok(Moved { became, bytes_read: run.bytes, _share: share })
    }

    /// Carries a blob too large to be held, through a temporary file.
    fn carry_large(
        &mut self,
        from: &Repository,
        to: &Repository,
        location: &Location,
        share: Share,
    ) -> Result<Moved> {
        let blob = &location.packed.blob;
        let sealed = large::fetch(from, location)?;
        large::verify(&mut self.opener, blob, &location.pack, &sealed)?;
        let became = Became::Pack(large::carry(&mut self.opener, to, blob, &sealed)?);
        Ok(Moved { became, bytes_read: blob.length as usize, _share: share })
    }

    fn carry_one(
        &mut self,
        name: Name,
        blob: &SealedBlob,
        sealed: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Result<SealedBlob> {
        // What is compressed here and may be there need not be compressed again.
        if blob.uncompressed_length.is_some() && self.is_compressing {
            let payload =
                self.opener.payload(blob, sealed).map_err(|cause| damaged(name, cause))?;
            self.sealer.seal_payload(blob, payload, out)
        } else {
            let plaintext = self.opener.open(blob, sealed).map_err(|cause| damaged(name, cause))?;
            self.sealer.seal(blob.kind, blob.id, plaintext, out)
        }
    }
}

/// Puts together what lies beside each other. A blob too large to be held is alone.
fn cut_into_runs(from: &Repository, needed: &Needed, runs: &Sender<Run>) -> Result<()> {
    let mut open: Option<Run> = None;
    let is_large = |packed: &PackedBlob| from.is_large(&packed.blob);
    for location in needed.locations() {
        let Location { pack, packed } = location?;
        let length = packed.blob.length as usize;
        if let Some(run) = &mut open
            && run.pack == pack
            && u64::from(run.start) + run.bytes as u64 == u64::from(packed.offset)
            && run.bytes + length <= RUN_BYTES_MAX
            && !is_large(&packed)
            && !run.blobs.iter().any(is_large)
        {
            run.bytes += length;
            run.blobs.push(packed);
            continue;
        }
        let run = Run { pack, start: packed.offset, bytes: length, blobs: vec![packed] };
        if let Some(full) = open.replace(run)
            && runs.send(full).is_err()
        {
            return Ok(());
        }
    }
    if let Some(last) = open {
        // If nobody takes it the copy is ending, and everybody knows.
        let _ = runs.send(last);
    }
    Ok(())
}
