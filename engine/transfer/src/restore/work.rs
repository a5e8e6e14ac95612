//! The workers: find out which pieces are there already, fetch the others, and write them where
//! they belong; or, when verifying, read what is there and compare.
//!
//! Pieces of one file come to several workers in any order; whoever does the last one finishes the
//! file. What lies close together in a pack is read in one go.

use super::file::Aim;
use super::pieces::{GAP_BYTES_MAX, Piece, Run};
use super::shared::{Shared, is_the_end};
use super::zeros;
use crate::blobs::BLOB_BYTES_MAX;
use crate::errors::{Cause, sentence};
use crate::repository::damaged;
use crate::{Result, TransferError};
use crossbeam_channel::Receiver;
use engine_repository::{BlobOpener, FileKind};
use engine_storage::Name;

/// Works until there is no more to do, or the restore ends. No more than `read_bytes_max` are read
/// in one go, unless a blob has more.
pub(super) fn work<'a>(shared: &'a Shared<'a>, runs: &Receiver<Run<'a>>, read_bytes_max: u64) {
    let opener = BlobOpener::new(shared.repository.key().clone(), BLOB_BYTES_MAX);
    let mut worker = Worker { shared, opener, bytes: Vec::new(), read_bytes_max };
    for run in runs {
        if shared.is_stopped() {
            break;
        }
        worker.run(run);
    }
}

struct Worker<'a> {
    shared: &'a Shared<'a>,
    opener: BlobOpener,
    /// What was read of a pack, or of a file that is there.
    bytes: Vec<u8>,
    read_bytes_max: u64,
}

impl<'a> Worker<'a> {
    fn run(&mut self, run: Run<'a>) {
        let mut missing = Vec::new();
        for piece in run {
            if self.shared.is_stopped() {
                return;
            }
            let (file, length) = (&piece.file, u64::from(piece.length()));
            match file.aim {
                Aim::Verify => file.compare(&piece, &mut self.bytes),
                Aim::Tell => {
                    file.is_there(&piece, &mut self.bytes);
                }
                Aim::Write if file.is_there(&piece, &mut self.bytes) => file.is_one_less(),
                Aim::Write => {
                    missing.push(piece);
                    continue;
                }
            }
            self.shared.progress(0, length, Some(&piece.file.path));
        }
        let mut missing = missing.into_iter().peekable();
        while let Some(first) = missing.next() {
            let (start, mut end) = first.range();
            let mut span = vec![first];
            while let Some(next) = missing.next_if(|next| {
                next.range().0 <= end + GAP_BYTES_MAX
                    && next.range().1.max(end) - start <= self.read_bytes_max
            }) {
                end = end.max(next.range().1);
                span.push(next);
            }
            if self.shared.is_stopped() {
                return;
            }
            self.span(span);
        }
    }

    /// Fetches what lies side by side. What fails together is tried one by one: the rest of a
    /// damaged pack may be sound.
    fn span(&mut self, span: Run<'a>) {
        let Some(start) = span.first().map(|piece| piece.range().0) else { return };
        let end = span.iter().map(|piece| piece.range().1).max().unwrap_or(start);
        match self.read(&span[0], start, end) {
            Ok(()) => {}
            Err(error) if span.iter().all(|piece| piece.id() == span[0].id()) => {
                return self.damage(&span, error);
            }
            Err(_) => {
                let mut rest = span.into_iter().peekable();
                while let Some(first) = rest.next() {
                    let id = first.id();
                    let mut one = vec![first];
                    one.extend(std::iter::from_fn(|| rest.next_if(|next| next.id() == id)));
                    self.span(one);
                }
                return;
            }
        }
        let mut rest = span.into_iter().peekable();
        while let Some(first) = rest.next() {
            let id = first.id();
            let mut same = vec![first];
            same.extend(std::iter::from_fn(|| rest.next_if(|next| next.id() == id)));
            self.blob(same, start);
        }
    }

    fn read(&mut self, piece: &Piece<'_>, start: u64, end: u64) -> Result<()> {
        let name = Name::of(FileKind::Pack, piece.location.pack);
        let length = usize::try_from(end - start).unwrap_or(usize::MAX);
        if length > BLOB_BYTES_MAX {
            let reason = format!("the index says that blob {} has {length} bytes", piece.id());
            return Err(damaged(name, reason));
        }
        self.bytes.resize(length, 0);
        Ok(self.shared.repository.storage().read_range(name, start, &mut self.bytes)?)
    }

    /// Opens one blob of what was read, and writes it to every file that needs it.
    fn blob(&mut self, pieces: Run<'a>, read_from: u64) {
        let location = pieces[0].location;
        let (start, end) = pieces[0].range();
        let sealed = &mut self.bytes[(start - read_from) as usize..(end - read_from) as usize];
        let bytes = match self.opener.open(&location.packed.blob, sealed) {
            Ok(bytes) => bytes,
            Err(cause) => {
                let name = Name::of(FileKind::Pack, location.pack);
                return self.damage(&pieces, damaged(name, Cause::from(cause)));
            }
        };
        if zeros::is_all(bytes) {
            self.shared.remember_zeros(location.packed.blob.id);
        }
        self.shared
            .count(|outcome| outcome.bytes_fetched += u64::from(location.packed.blob.length));
        for piece in pieces {
            piece.file.write(bytes, piece.offset);
            self.shared.progress(0, bytes.len() as u64, Some(&piece.file.path));
        }
    }

    fn damage(&self, pieces: &[Piece<'a>], error: TransferError) {
        if is_the_end(&error) {
            return self.shared.fail(error);
        }
        let reason = sentence(&error);
        for piece in pieces.iter().filter(|piece| piece.file.is_first_problem()) {
            self.shared.problem(&piece.file.path, reason.clone());
        }
    }
}
