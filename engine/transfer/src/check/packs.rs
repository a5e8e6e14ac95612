//! Every pack, read and verified to the last byte, by as many threads as there are cores.

use super::contents::{Known, PacksThere};
use super::{Checker, INDEX_LOST, PACK_LOST, share};
use crate::errors::sentence;
use crate::large::PIECE_BYTES;
use crate::repository::DATA_HELD_BYTES_MAX;
use crate::spool::Spool;
use crate::{Repository, Result, TransferError};
use crossbeam_channel::{Receiver, bounded};
use engine_repository::blob::BlobError;
use engine_repository::chunker::CHUNK_BYTES_MAX;
use engine_repository::pack::{PackTail, TAIL_BYTES, read_tail};
use engine_repository::{BlobOpener, FileKind, Hasher, Id, PackedBlob};
use engine_storage::Name;
use std::sync::Mutex;

/// More threads than this gain nothing on the boxes we are for.
const THREADS_MAX: usize = 8;

/// Reads all packs that the index knows.
pub(super) fn read_all(checker: &Checker<'_>, there: PacksThere) -> Result<()> {
    checker.progress(|progress| {
        progress.bytes_total = there.bytes;
        progress.files_total = there.count;
        progress.is_total_known = true;
    });
    let all = there.each()?;
    let failure = Mutex::new(None);
    let fail = |error| {
        failure.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(error);
    };
    let (packs_in, packs_out) = bounded(1);
    std::thread::scope(|scope| {
        for _ in 0..threads(checker.repository.plan().pipeline_bytes) {
            let packs = packs_out.clone();
            let fail = &fail;
            scope.spawn(move || read_some(checker, &packs).unwrap_or_else(fail));
        }
        drop(packs_out);
        for pack in all {
            match pack {
                Ok(pack) if !checker.cancel.is_cancelled() && packs_in.send(pack).is_ok() => {}
                Ok(_) => break,
                Err(error) => {
                    fail(error);
                    break;
                }
            }
        }
        drop(packs_in);
    });
    failure.into_inner().unwrap_or_else(|e| e.into_inner()).map_or(Ok(()), Err)
}

fn threads(pipeline_bytes: u64) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let affordable = pipeline_bytes / (2 * CHUNK_BYTES_MAX as u64);
    cores.min(THREADS_MAX).min(usize::try_from(affordable).unwrap_or(1)).max(1)
}

fn read_some(checker: &Checker<'_>, packs: &Receiver<(Id, u64, Known)>) -> Result<()> {
    let mut reader = PackReader {
        repository: checker.repository,
        opener: BlobOpener::new(checker.repository.key().clone(), DATA_HELD_BYTES_MAX),
        buffer: Vec::new(),
    };
    for (id, bytes, known) in packs {
        if checker.cancel.is_cancelled() {
            return Ok(());
        }
        match reader.verify(id, bytes) {
            Ok(found) if found != known => checker.damage(
                format!("pack {id} has {} blobs, but the index says {}", found.blobs, known.blobs),
                INDEX_LOST,
            ),
            Ok(_) => share::note(checker, &id)?,
            Err(Wrong::Pack(why)) => checker.damage(format!("pack {id}: {why}"), PACK_LOST),
            Err(Wrong::Other(error)) => return Err(error),
        }
        checker.lock().report.bytes_read += bytes;
        checker.progress(|progress| {
            progress.bytes_done += bytes;
            progress.files_done += 1;
        });
    }
    Ok(())
}

/// What came in the way of a sound pack.
enum Wrong {
    /// The pack itself.
    Pack(String),
    /// Something that has nothing to do with this pack.
    Other(TransferError),
}

struct PackReader<'a> {
    repository: &'a Repository,
    opener: BlobOpener,
    buffer: Vec<u8>,
}

impl PackReader<'_> {
    /// Reads a pack once, from its beginning to its end.
    fn verify(&mut self, id: Id, bytes: u64) -> std::result::Result<Known, Wrong> {
        let name = Name::of(FileKind::Pack, id);
        let blobs = self.header(name, bytes)?;
        let mut hasher = Hasher::new();
        let mut known = Known::default();
        let (mut end, mut broken) = (0, None);
        for packed in &blobs {
            let length = packed.blob.length;
            let opened = match self.repository.is_large(&packed.blob) {
                true => self.read_large(name, packed, &mut hasher)?,
                false => {
                    self.read(name, u64::from(packed.offset), length as usize)?;
                    hasher.update(&self.buffer);
                    self.opener.open(&packed.blob, &mut self.buffer).map(drop)
                }
            };
            if let Err(cause) = opened {
                broken.get_or_insert(sentence(&cause));
            }
            known.add(packed);
            end = u64::from(packed.offset) + u64::from(length);
        }
        let rest = bytes.saturating_sub(end);
        self.read(name, end, usize::try_from(rest).unwrap_or(0))?;
        hasher.update(&self.buffer);
        let found = hasher.finish();
        match broken {
            Some(why) => Err(Wrong::Pack(why)),
            None if found != id => Err(Wrong::Pack(format!("its content has the sum {found}"))),
            None => Ok(known),
        }
    }

    /// Reads a blob that is too large to be held, and opens it.
    fn read_large(
        &mut self,
        name: Name,
        packed: &PackedBlob,
        hasher: &mut Hasher,
    ) -> std::result::Result<std::result::Result<(), BlobError>, Wrong> {
        let mut spool = Spool::new(self.repository.cache()).map_err(Wrong::Other)?;
        let (start, bytes) = (u64::from(packed.offset), u64::from(packed.blob.length));
        while spool.bytes() < bytes {
            let left = usize::try_from(bytes - spool.bytes()).unwrap_or(usize::MAX);
            self.read(name, start + spool.bytes(), left.min(PIECE_BYTES))?;
            hasher.update(&self.buffer);
            spool.append(&self.buffer).map_err(Wrong::Other)?;
        }
        match self.opener.verify_from(&packed.blob, spool.reader()) {
            Err(BlobError::Read { cause, .. }) => Err(Wrong::Other(spool.unread(cause))),
            opened => Ok(opened),
        }
    }

    fn header(&mut self, name: Name, bytes: u64) -> std::result::Result<Vec<PackedBlob>, Wrong> {
        let mut tail_bytes = bytes.min(u64::from(TAIL_BYTES)) as usize;
        loop {
            self.read(name, bytes - tail_bytes as u64, tail_bytes)?;
            match read_tail(self.repository.key(), &mut self.buffer, bytes) {
                Ok(PackTail::Blobs(blobs)) => return Ok(blobs),
                Ok(PackTail::NeedBytes(needed)) if needed as usize > tail_bytes => {
                    tail_bytes = needed as usize;
                }
                Ok(PackTail::NeedBytes(_)) => return Err(Wrong::Pack("no end of header".into())),
                Err(cause) => return Err(Wrong::Pack(sentence(&cause))),
            }
        }
    }

    fn read(&mut self, name: Name, offset: u64, bytes: usize) -> std::result::Result<(), Wrong> {
        self.buffer.resize(bytes, 0);
        match self.repository.storage().read_range(name, offset, &mut self.buffer) {
            Ok(()) => Ok(()),
            Err(error) if error.is_of_destination() => Err(Wrong::Other(error.into())),
            Err(error) => Err(Wrong::Pack(sentence(&error))),
        }
    }
}
