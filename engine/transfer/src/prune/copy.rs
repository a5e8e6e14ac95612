//! Copies what is needed out of packs that are to go, sealed as it is, each blob verified.
//!
//! Blobs that lie near each other are read together; one too large to be held goes through a
//! temporary file into a pack of its own. A blob whose copy is damaged is taken from another, if
//! there is one.

use super::Job;
use super::records::{PACK_BYTES, Placed, mark, pack_record};
use super::survey::{Survey, is_of_pack};
use super::write::IndexOutput;
use crate::careful::CarefulSealer;
use crate::index::Location;
use crate::large;
use crate::open_packs::{Filled, OpenPacks};
use crate::repository::{DATA_HELD_BYTES_MAX, damaged};
use crate::sorter::Sorter;
use crate::spool::Spool;
use crate::{Event, Progress, Result, TransferError};
use engine_repository::{BlobOpener, FileKind, Id, PackedBlob, SealedBlob};
use engine_storage::Name;

/// So many bytes are read together at most, unless a blob is larger.
const SPAN_BYTES_MAX: u64 = 4 << 20;
/// Fewer bytes than this between two blobs are read and passed over.
const GAP_BYTES_MAX: u64 = 32 << 10;

/// Copies blobs into new packs, and names these in index files.
pub(super) struct Copier<'a> {
    job: &'a Job<'a>,
    survey: &'a Survey,
    opener: BlobOpener,
    /// For blobs that are to be compressed.
    sealer: Option<CarefulSealer>,
    open: OpenPacks,
    output: &'a mut IndexOutput,
    /// The new packs and their sizes.
    written: &'a mut Sorter<PACK_BYTES>,
    progress: Progress,
    span: Vec<u8>,
    tested: Vec<u8>,
}

impl<'a> Copier<'a> {
    pub(super) fn new(
        job: &'a Job<'a>,
        survey: &'a Survey,
        bytes_total: u64,
        output: &'a mut IndexOutput,
        written: &'a mut Sorter<PACK_BYTES>,
    ) -> Self {
        let key = job.repository.key();
        let is_compressing =
            job.request.is_uncompressed_repacked && job.repository.compression().is_some();
        let sealer = is_compressing.then(|| CarefulSealer::of(job.repository));
        let progress = Progress { bytes_total, is_total_known: true, ..Progress::default() };
        Self {
            job,
            survey,
            opener: BlobOpener::new(key.clone(), DATA_HELD_BYTES_MAX),
            sealer,
            open: OpenPacks::full(),
            output,
            written,
            progress,
            span: Vec::new(),
            tested: Vec::new(),
        }
    }

    /// Copies what is needed of a pack.
    pub(super) fn copy(&mut self, pack: &Id, entries: &[Placed]) -> Result<()> {
        let mut needed: Vec<PackedBlob> = entries
            .iter()
            .filter(|entry| entry.mark == mark::NEEDED)
            .map(|entry| entry.packed)
            .collect();
        needed.sort_unstable_by_key(|packed| packed.offset);
        let mut rest = &needed[..];
        while !rest.is_empty() {
            let is_large = |packed: &PackedBlob| self.job.repository.is_large(&packed.blob);
            let alone = rest.first().filter(|first| is_large(first));
            let (near, far) = match alone {
                Some(_) => rest.split_at(1),
                None => rest.split_at(span_of(rest, &is_large)),
            };
            match alone {
                Some(alone) => self.copy_large(pack, alone)?,
                None => self.copy_near(pack, near)?,
            }
            rest = far;
        }
        Ok(())
    }

    /// Copies a blob too large to be held.
    fn copy_large(&mut self, pack: &Id, packed: &PackedBlob) -> Result<()> {
        self.job.may_go_on()?;
        self.progress.bytes_done += u64::from(packed.blob.length);
        let repository = self.job.repository;
        let first = self.fetched(Location { pack: *pack, packed: *packed });
        let (blob, sealed) = match first {
            Err(error) if is_of_pack(&error) => self.other_large_copy(packed, error)?,
            first => (packed.blob, first?),
        };
        let is_compressing = self.sealer.is_some() && blob.uncompressed_length.is_none();
        let filled = match is_compressing {
            true => large::carry(&mut self.opener, repository, &blob, &sealed)?,
            false => large::store_sealed(repository, &blob, &sealed)?,
        };
        self.settle(filled)
    }

    /// A large blob in a temporary file, verified.
    fn fetched(&mut self, location: Location) -> Result<Spool> {
        let sealed = large::fetch(self.job.repository, &location)?;
        large::verify(&mut self.opener, &location.packed.blob, &location.pack, &sealed)?;
        Ok(sealed)
    }

    /// Another copy of a large blob; the error when there is none.
    fn other_large_copy(
        &mut self,
        packed: &PackedBlob,
        error: TransferError,
    ) -> Result<(SealedBlob, Spool)> {
        let (kind, id) = (packed.blob.kind, packed.blob.id);
        for record in self.survey.placed.records() {
            let Placed { pack, packed, .. } = Placed::of_by_pack(&record?);
            if (packed.blob.kind, packed.blob.id) != (kind, id) {
                continue;
            }
            match self.fetched(Location { pack, packed }) {
                Err(error) if is_of_pack(&error) => {}
                sealed => return Ok((packed.blob, sealed?)),
            }
        }
        Err(error)
    }

    /// The last packs.
    pub(super) fn finish(mut self) -> Result<()> {
        let last = self.open.close_all(self.job.repository)?;
        last.into_iter().try_for_each(|filled| self.settle(filled))
    }

    /// Copies blobs that lie near each other.
    fn copy_near(&mut self, pack: &Id, near: &[PackedBlob]) -> Result<()> {
        let Some(first) = near.first() else { return Ok(()) };
        self.job.may_go_on()?;
        let name = Name::of(FileKind::Pack, *pack);
        let start = first.offset;
        let length = near.iter().map(end_of).max().unwrap_or(0) - u64::from(start);
        let mut span = std::mem::take(&mut self.span);
        span.resize(usize::try_from(length).unwrap_or(usize::MAX), 0);
        let read = self.job.repository.storage().read_range(name, start.into(), &mut span);
        if let Err(error) = read {
            let error = TransferError::from(error);
            if !is_of_pack(&error) {
                return Err(error);
            }
            // Each blob will be found wrong, and looked for elsewhere.
            span.fill(0);
        }
        for packed in near {
            let from = (packed.offset - start) as usize;
            let sealed = &span[from..from + packed.blob.length as usize];
            self.copy_one(name, packed, sealed)?;
        }
        self.span = span;
        Ok(())
    }

    fn copy_one(&mut self, name: Name, packed: &PackedBlob, sealed: &[u8]) -> Result<()> {
        self.progress.bytes_done += u64::from(packed.blob.length);
        self.tested.clear();
        self.tested.extend_from_slice(sealed);
        match self.opener.open(&packed.blob, &mut self.tested) {
            Err(cause) => {
                let found = self.other_copy(packed, damaged(name, cause))?;
                let sealed = std::mem::take(&mut self.span);
                self.append(found, &sealed)
            }
            Ok(plaintext) => {
                if let Some(sealer) = &mut self.sealer
                    && packed.blob.uncompressed_length.is_none()
                {
                    let (kind, id) = (packed.blob.kind, packed.blob.id);
                    let mut out = Vec::new();
                    let blob = sealer.seal(kind, id, plaintext, &mut out)?;
                    return self.append(blob, &out);
                }
                self.append(packed.blob, sealed)
            }
        }
    }

    /// Reads another copy of a blob into the buffer for reading. Looks through the whole index:
    /// it is not often that one is damaged.
    fn other_copy(&mut self, packed: &PackedBlob, error: TransferError) -> Result<SealedBlob> {
        let (kind, id) = (packed.blob.kind, packed.blob.id);
        for record in self.survey.placed.records() {
            let other = Placed::of_by_pack(&record?);
            let blob = other.packed.blob;
            if blob.kind != kind || blob.id != id || self.job.repository.is_large(&blob) {
                continue;
            }
            let name = Name::of(FileKind::Pack, other.pack);
            self.span.resize(blob.length as usize, 0);
            let storage = self.job.repository.storage();
            match storage.read_range(name, other.packed.offset.into(), &mut self.span) {
                Ok(()) => {}
                Err(error) if error.is_of_destination() => return Err(error.into()),
                Err(_) => continue,
            }
            self.tested.clear();
            self.tested.extend_from_slice(&self.span);
            if self.opener.open(&blob, &mut self.tested).is_ok() {
                return Ok(blob);
            }
        }
        Err(error)
    }

    fn append(&mut self, blob: SealedBlob, sealed: &[u8]) -> Result<()> {
        match self.open.add(self.job.repository, blob, sealed)? {
            Some(full) => self.settle(full),
            None => Ok(()),
        }
    }

    /// Stores a pack and, once it is found to be there, names it in the index.
    fn settle(&mut self, Filled { file, id, bytes, blobs }: Filled) -> Result<()> {
        let repository = self.job.repository;
        file.commit(id)?;
        let name = Name::of(FileKind::Pack, id);
        if repository.storage().size(name)? != Some(bytes) {
            let why = format!("it was written with {bytes} bytes, and is not there so");
            return Err(damaged(name, why));
        }
        self.output.add(self.job, &id, &blobs)?;
        self.written.push(pack_record(&id, bytes))?;
        (self.job.events)(Event::Progress(self.progress.clone()));
        Ok(())
    }
}

fn end_of(packed: &PackedBlob) -> u64 {
    u64::from(packed.offset) + u64::from(packed.blob.length)
}

/// How many of the first blobs are read together, none of which is large.
fn span_of(blobs: &[PackedBlob], is_large: &dyn Fn(&PackedBlob) -> bool) -> usize {
    let Some(first) = blobs.first() else { return 0 };
    let (start, mut end) = (u64::from(first.offset), end_of(first));
    let is_far = |packed: &PackedBlob| {
        let is_behind_gap = u64::from(packed.offset) > end + GAP_BYTES_MAX;
        end = end.max(end_of(packed));
        is_behind_gap || end - start > SPAN_BYTES_MAX || is_large(packed)
    };
    blobs[1..].iter().position(is_far).map_or(blobs.len(), |near| near + 1)
}
