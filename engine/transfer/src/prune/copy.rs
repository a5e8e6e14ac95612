//! Copies what is needed out of packs that are to go, sealed as it is, each blob verified.

use super::Job;
use super::plan::{Fate, KINDS, Plan};
use crate::index::Location;
use crate::repository::{damaged, nonce, unwritable};
use crate::{Event, Progress, Result, TransferError};
use engine_repository::pack::{PACK_BYTES_TARGET, PackBuilder};
use engine_repository::{BlobKind, BlobOpener, FileKind, Hasher, Id, PackedBlob};
use engine_storage::{Name, PackFile, StorageError};

/// No blob is held that is larger.
const BLOB_BYTES_MAX: usize = 512 << 20;

/// A pack that was written, and how many bytes it has.
pub(super) struct NewPack {
    pub(super) id: Id,
    pub(super) bytes: u64,
    pub(super) blobs: Vec<PackedBlob>,
}

struct Open {
    file: Box<dyn PackFile>,
    builder: PackBuilder,
    hasher: Hasher,
}

impl Job<'_> {
    /// The new packs, all of them durable.
    pub(super) fn copy(&self, plan: &Plan<'_>) -> Result<Vec<NewPack>> {
        let mut opener = BlobOpener::new(self.repository.key().clone(), BLOB_BYTES_MAX);
        let mut sealed = Vec::new();
        let mut written = Vec::new();
        let mut progress = Progress {
            bytes_total: plan.report.bytes_repacked,
            is_total_known: true,
            ..Progress::default()
        };
        for kind in KINDS {
            let mut open: Option<Open> = None;
            for at in to_copy(plan, kind) {
                self.may_go_on()?;
                let location = self.read_sound(kind, at, &mut opener, &mut sealed)?;
                let mut pack = match open.take() {
                    Some(pack) => pack,
                    None => Open {
                        file: self.repository.storage().create_pack()?,
                        builder: PackBuilder::new(kind),
                        hasher: Hasher::new(),
                    },
                };
                pack.builder
                    .add(location.packed.blob)
                    .map_err(|cause| unwritable("a pack", cause))?;
                pack.file.append(&sealed)?;
                pack.hasher.update(&sealed);
                progress.bytes_done += sealed.len() as u64;
                if pack.builder.bytes() < PACK_BYTES_TARGET {
                    open = Some(pack);
                } else {
                    written.push(self.finish(pack)?);
                    (self.events)(Event::Progress(progress.clone()));
                }
            }
            if let Some(pack) = open {
                written.push(self.finish(pack)?);
            }
        }
        (self.events)(Event::Progress(progress));
        Ok(written)
    }

    /// Reads a blob and verifies it: the copy at a place of the index or, if that is damaged,
    /// another.
    fn read_sound(
        &self,
        kind: BlobKind,
        at: usize,
        opener: &mut BlobOpener,
        sealed: &mut Vec<u8>,
    ) -> Result<Location> {
        let records = self.index.records(kind);
        let first = self.index.first_place(kind, &records[at].id).unwrap_or(at);
        let others = (first..records.len()).take_while(|o| records[*o].id == records[at].id);
        let mut failure = None;
        for place in std::iter::once(at).chain(others.filter(|other| *other != at)) {
            let location = records[place].location(kind, self.index.packs());
            let name = Name::of(FileKind::Pack, location.pack);
            let read = self.read(&location, sealed).and_then(|()| {
                let mut tested = sealed.clone();
                let opened = opener.open(&location.packed.blob, &mut tested);
                opened.map(|_| ()).map_err(|cause| damaged(name, cause))
            });
            match read {
                Ok(()) => return Ok(location),
                Err(error @ TransferError::Storage(StorageError::Gone { .. })) => {
                    return Err(error);
                }
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        let kind = if kind == BlobKind::Data { "data blob" } else { "tree" };
        Err(failure.unwrap_or(TransferError::BlobMissing { kind, id: records[at].id }))
    }

    fn read(&self, location: &Location, sealed: &mut Vec<u8>) -> Result<()> {
        let name = Name::of(FileKind::Pack, location.pack);
        let length = location.packed.blob.length as usize;
        if length > BLOB_BYTES_MAX {
            let id = location.packed.blob.id;
            return Err(damaged(name, format!("the index says that {id} has {length} bytes")));
        }
        sealed.resize(length, 0);
        let offset = u64::from(location.packed.offset);
        Ok(self.repository.storage().read_range(name, offset, sealed)?)
    }

    fn finish(&self, mut pack: Open) -> Result<NewPack> {
        let mut header = Vec::new();
        let bytes = u64::from(pack.builder.bytes());
        let blobs = pack
            .builder
            .finish(self.repository.key(), nonce()?, &mut header)
            .map_err(|cause| unwritable("a pack", cause))?;
        pack.file.append(&header)?;
        pack.hasher.update(&header);
        let id = pack.hasher.finish();
        pack.file.commit(id)?;
        Ok(NewPack { id, bytes: bytes + header.len() as u64, blobs })
    }
}

/// The records to copy, in the order they lie in their packs.
fn to_copy(plan: &Plan<'_>, kind: BlobKind) -> Vec<usize> {
    let records = plan.index.records(kind);
    let kept = &plan.kept[kind as usize];
    let is_repacked = |at: &usize| plan.fates[records[*at].pack as usize] == Fate::Repack;
    let mut places: Vec<usize> =
        (0..records.len()).filter(|at| kept.has(*at)).filter(is_repacked).collect();
    places.sort_unstable_by_key(|at| (records[*at].pack, records[*at].offset()));
    places
}
