//! Blobs too large to be held, on their way between packs and temporary files.
//!
//! Folders of hundreds of thousands of files are single blobs. Whatever a repository does not hold
//! as a whole ([`Repository::is_large`]) is moved in pieces: out of a pack into a [`Spool`], where
//! its seal is looked at before anything of it is believed, and into a pack of its own, of which
//! nothing waits for another blob.

use crate::index::Location;
use crate::open_packs::{Filled, LonePack};
use crate::repository::{damaged, nonce, unwritable};
use crate::spool::Spool;
use crate::{Repository, Result, TransferError};
use engine_repository::blob::BlobError;
use engine_repository::crypto::NONCE_BYTES;
use engine_repository::{BlobKind, BlobOpener, BlobStream, FileKind, Id, SealedBlob};
use engine_storage::{Name, StorageError};
use std::io::Read;

/// So much is moved at once: 1 MiB.
pub(crate) const PIECE_BYTES: usize = 1 << 20;

/// What moving one takes, counted against the memory plan: pieces, what becomes of them, and the
/// windows of compressor and decompressor.
pub(crate) const MOVING_BYTES: usize = 4 << 20;

/// Copies a sealed blob out of its pack, as it is: nothing of it is verified.
pub(crate) fn fetch(repository: &Repository, location: &Location) -> Result<Spool> {
    let name = Name::of(FileKind::Pack, location.pack);
    let start = u64::from(location.packed.offset);
    let bytes = u64::from(location.packed.blob.length);
    let mut spool = Spool::new(repository.cache())?;
    let mut piece = Vec::new();
    while spool.bytes() < bytes {
        let left = usize::try_from(bytes - spool.bytes()).unwrap_or(usize::MAX);
        piece.resize(left.min(PIECE_BYTES), 0);
        repository.storage().read_range(name, start + spool.bytes(), &mut piece)?;
        spool.append(&piece)?;
    }
    Ok(spool)
}

/// Whether a blob that came out of a pack is what its name says.
pub(crate) fn verify(
    opener: &mut BlobOpener,
    blob: &SealedBlob,
    pack: &Id,
    sealed: &Spool,
) -> Result<()> {
    let verified = opener.verify_from(blob, sealed.reader());
    verified.map_err(|cause| of_pack(pack, sealed, cause))
}

/// What is wrong with a blob: its pack, unless the temporary file cannot be read.
pub(crate) fn of_pack(pack: &Id, sealed: &Spool, cause: BlobError) -> TransferError {
    match cause {
        BlobError::Read { cause, .. } => sealed.unread(cause),
        cause => damaged(Name::of(FileKind::Pack, *pack), cause),
    }
}

/// Seals a tree into a pack of its own and opens it again, as whoever seals a folder does.
pub(crate) fn seal_tree(repository: &Repository, id: &Id, json: &Spool) -> Result<Filled> {
    let pack = LonePack::begin(repository, BlobKind::Tree)?;
    let named = (BlobKind::Tree, "a folder");
    let (pack, blob) = seal(repository, pack, named, json, json.reader())?;
    if blob.id != *id {
        let cause = BlobError::Content { id: *id, found: blob.id };
        return Err(TransferError::Missealed { cause: cause.into() });
    }
    verified(repository, pack, blob)
}

/// Puts a blob that was verified into a pack of its own, sealed as it is.
pub(crate) fn store_sealed(
    repository: &Repository,
    blob: &SealedBlob,
    sealed: &Spool,
) -> Result<Filled> {
    let mut pack = LonePack::begin(repository, blob.kind)?;
    each_piece(sealed, sealed.reader(), &mut |piece| pack.append(piece))?;
    pack.close(repository, *blob)
}

/// Puts a blob that was verified into a pack of its own in another repository. What is compressed
/// stays as it is, unless the other repository knows no compression.
pub(crate) fn carry(
    opener: &mut BlobOpener,
    to: &Repository,
    blob: &SealedBlob,
    sealed: &Spool,
) -> Result<Filled> {
    let unread = |cause| match cause {
        BlobError::Read { cause, .. } => sealed.unread(cause),
        cause => TransferError::Missealed { cause: cause.into() },
    };
    let mut pack = LonePack::begin(to, blob.kind)?;
    if blob.uncompressed_length.is_some() && to.compression().is_some() {
        let nonce = nonce()?;
        let bad = |cause| unwritable("a blob", cause);
        let mut sealing = to.key().seal_stream(nonce).map_err(bad)?;
        pack.append(&nonce[..NONCE_BYTES])?;
        let payload = opener.payload_from(blob, sealed.reader()).map_err(unread)?;
        each_piece(sealed, payload, &mut |piece| {
            sealing.update(piece);
            pack.append(piece)
        })?;
        pack.append(&sealing.finish())?;
        return verified(to, pack, *blob);
    }
    let plaintext = opener.open_from(blob, sealed.reader()).map_err(unread)?;
    let (pack, blob) = seal(to, pack, (blob.kind, "a blob"), sealed, plaintext)?;
    verified(to, pack, blob)
}

/// Seals what a reader of a spool gives into an empty pack. Errors call it by its name.
fn seal(
    repository: &Repository,
    mut pack: LonePack,
    (kind, name): (BlobKind, &'static str),
    spool: &Spool,
    plaintext: impl Read,
) -> Result<(LonePack, SealedBlob)> {
    let bad = |cause| unwritable(name, cause);
    let (compression, mut out) = (repository.compression(), Vec::new());
    let stream = BlobStream::new(repository.key(), kind, compression, nonce()?, &mut out);
    let mut stream = stream.map_err(bad)?;
    each_piece(spool, plaintext, &mut |piece| {
        stream.write(piece, &mut out).map_err(bad)?;
        pack.append(&out)?;
        out.clear();
        Ok(())
    })?;
    let blob = stream.finish(&mut out).map_err(bad)?;
    pack.append(&out)?;
    Ok((pack, blob))
}

/// Opens again what was sealed into a pack.
fn verified(repository: &Repository, mut pack: LonePack, blob: SealedBlob) -> Result<Filled> {
    let mut opener = BlobOpener::new(repository.key().clone(), 0);
    match opener.verify_from(&blob, pack.reader()) {
        Ok(()) => pack.close(repository, blob),
        Err(BlobError::Read { cause, .. }) => match cause.downcast::<StorageError>() {
            Ok(cause) => Err(cause.into()),
            Err(cause) => Err(TransferError::Missealed { cause: cause.into() }),
        },
        Err(cause) => Err(TransferError::Missealed { cause: cause.into() }),
    }
}

/// Shows what a reader of a spool gives, piece by piece.
fn each_piece(
    spool: &Spool,
    mut reader: impl Read,
    each: &mut dyn FnMut(&mut [u8]) -> Result<()>,
) -> Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match reader.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(bytes) => each(&mut piece[..bytes])?,
            Err(cause) if cause.kind() == std::io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(spool.unread(cause)),
        }
    }
}
