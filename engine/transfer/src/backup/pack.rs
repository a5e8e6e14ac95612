//! The packer puts sealed blobs into packs; the storer makes packs durable and writes the index.
//!
//! Packs grow at the destination, two of each kind ([`OpenPacks`]), which together hold no more
//! than one has room for; a tree too large to be held comes in a pack of its own. The storer works
//! beside the packer, because waiting for a disk to have everything safe takes long and costs
//! nothing. No pack waits between the two: it would be lost to a kill, as what is in those that
//! grow is, and the one being stored.
//!
//! What becomes durable, in this order, and what a crash behind it leaves:
//!
//! 1. a pack's record in the journal: it names a pack that is not there, and the next run looks;
//! 2. the pack: in no index, so other programs take it for waste; but the journal names it, also
//!    when the destination went before it could confirm it, and the next run writes an index file
//!    for it before it does anything else. Without a cache it is stored again;
//! 3. an index file, after five minutes at the latest: nothing is stored again, whoever comes;
//! 4. a checkpoint's snapshot, when all it needs is in index files: what it has is not read again
//!    either, even without the journal. The one before goes after it is there;
//! 5. the snapshot: the backup is done; checkpoints and journal may still be there, and go with the
//!    next.

use super::checkpoint::Checkpoints;
use super::shared::{Claim, Shared};
use super::unindexed::{Waiting, write_index};
use crate::Result;
use crate::budget::Share;
use crate::open_packs::{Filled, OpenPacks};
use crossbeam_channel::{Receiver, Sender};
use engine_repository::index::INDEX_BLOBS_MAX;
use engine_repository::{Id, SealedBlob};
use std::time::{Duration, Instant};

/// An index file is written after five minutes at the latest: no more is lost to a power cut.
const INDEX_AGE_MAX: Duration = Duration::from_secs(300);

/// A sealed blob on its way into a pack.
pub(super) struct Sealed {
    pub(super) blob: SealedBlob,
    pub(super) bytes: Vec<u8>,
    pub(super) claim: Claim,
    /// Held until the bytes are written.
    pub(super) _share: Share,
}

/// What the packer is given.
pub(super) enum ToPack {
    /// A blob, or some that came together.
    Blobs(Vec<Sealed>),
    /// A pack that was filled elsewhere, with one large tree of this claim.
    Pack(Filled, Claim),
    /// A checkpoint, to be saved when every blob of these claims is stored.
    Checkpoint { tree: Id, claims: Claim },
}

/// What the storer is given.
pub(super) enum ToStore {
    /// A pack that is full.
    Pack(Filled),
    /// A checkpoint of which everything is in packs that came before.
    Checkpoint { tree: Id },
}

/// The packer.
pub(super) struct Packer<'a> {
    shared: &'a Shared<'a>,
    storer: Sender<ToStore>,
    open: OpenPacks,
    /// Waits for the last blobs it needs.
    checkpoint: Option<(Id, Claim)>,
}

impl<'a> Packer<'a> {
    pub(super) fn new(shared: &'a Shared<'a>, storer: Sender<ToStore>) -> Self {
        Self { shared, storer, open: OpenPacks::soon_stored(), checkpoint: None }
    }

    /// Fills packs until no more blobs come. Even when the backup is ending early, what came is
    /// packed: it was worked for, and the next run finds it.
    pub(super) fn pack(mut self, blobs: &Receiver<ToPack>) {
        let mut packed = Ok(());
        for given in blobs {
            packed = self.take(given);
            if packed.is_err() {
                break;
            }
        }
        if let Err(error) = packed.and_then(|()| self.close_all()) {
            self.shared.fail(error);
        }
    }

    fn take(&mut self, given: ToPack) -> Result<()> {
        match given {
            ToPack::Blobs(blobs) => blobs.into_iter().try_for_each(|blob| self.add(blob))?,
            ToPack::Pack(pack, claim) => {
                self.shared.packed(claim);
                self.send(ToStore::Pack(pack));
            }
            ToPack::Checkpoint { tree, claims } => self.checkpoint = Some((tree, claims)),
        }
        let is_ready = |(_, claims): &mut (Id, Claim)| self.shared.are_packed(*claims);
        if let Some((tree, _)) = self.checkpoint.take_if(is_ready) {
            self.close_all()?;
            self.send(ToStore::Checkpoint { tree });
        }
        Ok(())
    }

    fn add(&mut self, blob: Sealed) -> Result<()> {
        let full = self.open.add(self.shared.repository, blob.blob, &blob.bytes)?;
        self.shared.packed(blob.claim);
        self.shared.buffers.give(blob.bytes);
        full.into_iter().for_each(|pack| self.send(ToStore::Pack(pack)));
        Ok(())
    }

    fn close_all(&mut self) -> Result<()> {
        let filled = self.open.close_all(self.shared.repository)?;
        filled.into_iter().for_each(|pack| self.send(ToStore::Pack(pack)));
        Ok(())
    }

    fn send(&self, filled: ToStore) {
        // If nobody takes it the storer failed, and everybody knows.
        let _ = self.storer.send(filled);
    }
}

/// Makes packs durable and writes index files for them, the last one when no more packs come.
pub(super) fn store(
    shared: &Shared<'_>,
    checkpoints: &Checkpoints<'_>,
    filled: &Receiver<ToStore>,
) {
    let mut waiting = Waiting::new();
    let stored = store_packs(shared, checkpoints, filled, &mut waiting);
    let is_whole = stored.is_ok();
    if let Err(error) = stored {
        shared.fail(error);
    }
    // Whatever happened: packs that are there should be found by the next run. But without a lock
    // they may be gone already.
    let held = shared.lock.must_be_held();
    let indexed = held.and_then(|()| match is_whole {
        true => index_packs(shared, &mut waiting),
        // The pack that failed may be there all the same: the journal goes on naming it.
        false => write_index(shared.repository, &mut waiting),
    });
    if let Err(error) = indexed {
        shared.fail(error);
    }
}

fn store_packs(
    shared: &Shared<'_>,
    checkpoints: &Checkpoints<'_>,
    filled: &Receiver<ToStore>,
    waiting: &mut Waiting,
) -> Result<()> {
    let (mut blobs_waiting, mut since) = (0, Instant::now());
    for given in filled {
        let checkpoint = match given {
            ToStore::Checkpoint { tree } => Some(tree),
            ToStore::Pack(pack) => {
                shared.journal.pack_comes(pack.id, pack.bytes, &pack.blobs);
                pack.file.commit(pack.id)?;
                shared.journal.pack_stored();
                shared.stored(pack.id, &pack.blobs);
                blobs_waiting += pack.blobs.len();
                waiting.push((pack.id, pack.blobs));
                None
            }
        };
        let is_due = blobs_waiting >= INDEX_BLOBS_MAX || since.elapsed() >= INDEX_AGE_MAX;
        if is_due || checkpoint.is_some() {
            shared.lock.must_be_held()?;
            index_packs(shared, waiting)?;
            (blobs_waiting, since) = (0, Instant::now());
        }
        if let Some(tree) = checkpoint {
            checkpoints.save(shared, tree)?;
        }
    }
    Ok(())
}

fn index_packs(shared: &Shared<'_>, waiting: &mut Waiting) -> Result<()> {
    write_index(shared.repository, waiting)?;
    shared.journal.packs_indexed();
    Ok(())
}
