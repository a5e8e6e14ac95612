//! The packer puts sealed blobs into packs; the storer makes packs durable and writes the index.
//!
//! A pack is written to the destination while it grows, so it takes no memory. It is hashed on the
//! way. The storer works beside the packer, because waiting for a disk to have everything safe
//! takes long and costs nothing.

use super::seal::Sealed;
use super::shared::Shared;
use crate::Result;
use crate::repository::{nonce, unwritable};
use crossbeam_channel::{Receiver, Sender};
use engine_repository::index::INDEX_BLOBS_MAX;
use engine_repository::pack::PackBuilder;
use engine_repository::{BlobKind, FileKind, Hasher, Id, IndexWriter, PackedBlob};
use engine_storage::PackFile;
use std::time::{Duration, Instant};

/// An index file is written after five minutes at the latest: no more is lost to a power cut.
const INDEX_AGE_MAX: Duration = Duration::from_secs(300);

/// A pack that is full.
pub(super) struct Filled {
    file: Box<dyn PackFile>,
    id: Id,
    blobs: Vec<PackedBlob>,
}

/// A pack that is being filled.
struct Open {
    file: Box<dyn PackFile>,
    builder: PackBuilder,
    hasher: Hasher,
}

/// Fills packs until no more blobs come. Even when the backup is ending early, what came is packed:
/// it was worked for, and the next run finds it.
pub(super) fn pack(shared: &Shared<'_>, sealed: &Receiver<Sealed>, filled: &Sender<Filled>) {
    let mut open: [Option<Open>; 2] = [None, None];
    let packed = fill(shared, sealed, filled, &mut open).and_then(|()| {
        for pack in open.iter_mut().filter_map(Option::take) {
            let _ = filled.send(finish(shared, pack)?);
        }
        Ok(())
    });
    if let Err(error) = packed {
        shared.fail(error);
    }
}

fn fill(
    shared: &Shared<'_>,
    sealed: &Receiver<Sealed>,
    filled: &Sender<Filled>,
    open: &mut [Option<Open>; 2],
) -> Result<()> {
    for blob in sealed {
        let kind = blob.blob.kind;
        let place = &mut open[usize::from(kind == BlobKind::Tree)];
        let mut pack = match place.take() {
            Some(pack) => pack,
            None => Open {
                file: shared.repository.storage().create_pack()?,
                builder: PackBuilder::new(kind),
                hasher: Hasher::new(),
            },
        };
        pack.builder.add(blob.blob).map_err(|cause| unwritable("a pack", cause))?;
        pack.file.append(&blob.bytes)?;
        pack.hasher.update(&blob.bytes);
        shared.buffers.give(blob.bytes);
        if !pack.builder.is_full() {
            *place = Some(pack);
        } else if filled.send(finish(shared, pack)?).is_err() {
            break;
        }
    }
    Ok(())
}

fn finish(shared: &Shared<'_>, mut pack: Open) -> Result<Filled> {
    let mut header = Vec::new();
    let blobs = pack
        .builder
        .finish(shared.repository.key(), nonce()?, &mut header)
        .map_err(|cause| unwritable("a pack", cause))?;
    pack.file.append(&header)?;
    pack.hasher.update(&header);
    Ok(Filled { file: pack.file, id: pack.hasher.finish(), blobs })
}

/// Makes packs durable and writes index files for them, the last one when no more packs come.
pub(super) fn store(shared: &Shared<'_>, filled: &Receiver<Filled>) {
    let mut waiting = Vec::new();
    let stored = store_packs(shared, filled, &mut waiting);
    if let Err(error) = stored {
        shared.fail(error);
    }
    // Whatever happened: packs that are there should be found by the next run.
    if let Err(error) = write_index(shared, &mut waiting) {
        shared.fail(error);
    }
}

type Waiting = Vec<(Id, Vec<PackedBlob>)>;

fn store_packs(
    shared: &Shared<'_>,
    filled: &Receiver<Filled>,
    waiting: &mut Waiting,
) -> Result<()> {
    let (mut blobs_waiting, mut since) = (0, Instant::now());
    for pack in filled {
        pack.file.commit(pack.id)?;
        shared.stored(pack.id, &pack.blobs);
        blobs_waiting += pack.blobs.len();
        waiting.push((pack.id, pack.blobs));
        if blobs_waiting >= INDEX_BLOBS_MAX || since.elapsed() >= INDEX_AGE_MAX {
            shared.lock.must_be_held()?;
            write_index(shared, waiting)?;
            (blobs_waiting, since) = (0, Instant::now());
        }
    }
    Ok(())
}

fn write_index(shared: &Shared<'_>, waiting: &mut Waiting) -> Result<()> {
    if waiting.is_empty() {
        return Ok(());
    }
    let bad = |cause| unwritable("an index", cause);
    let repository = shared.repository;
    let mut writer = IndexWriter::new(repository.config().version).map_err(bad)?;
    for (id, blobs) in waiting.iter() {
        writer.add(id, blobs).map_err(bad)?;
    }
    let sealed = writer.finish(repository.key(), nonce()?).map_err(bad)?;
    repository.save_sealed(FileKind::Index, &sealed)?;
    waiting.clear();
    Ok(())
}
