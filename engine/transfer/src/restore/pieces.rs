//! The workers: fetch blobs, and write them where they belong; or, when verifying, read what is
//! there and compare.
//!
//! Pieces of one file come to several workers in any order; whoever does the last one finishes the
//! file. Zeros are not written: a new file is one hole.

use super::attributes;
use super::place::Place;
use super::shared::Shared;
use crate::blobs::Fetcher;
use crate::posix::{self, c_name};
use crossbeam_channel::Receiver;
use engine_repository::{BlobKind, Id, Node};
use nix::fcntl::renameat;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Fewer zeros than this, or zeros across a block's end, are written.
const HOLE_BYTES_MIN: usize = 16 << 10;

/// What is added to the name of a file that lacks something.
const INCOMPLETE: &str = ".incomplete";
/// So much of its own name is kept: file systems allow 255 bytes together.
const NAME_KEPT_BYTES_MAX: usize = 220;

/// A file that is being written or compared. When the last piece lets go of it, it is finished.
pub(super) struct OpenFile<'a> {
    pub(super) shared: &'a Shared<'a>,
    pub(super) file: File,
    pub(super) node: Node,
    pub(super) path: PathBuf,
    /// Its name until it is whole.
    pub(super) written_as: CString,
    pub(super) is_verified: bool,
    /// Whether a problem with it was told already.
    pub(super) has_problem: AtomicBool,
    /// Pieces that are not done yet, and one while not all pieces are known.
    pub(super) missing: AtomicUsize,
    /// Kept until the file is finished: its folder gets its times after that.
    pub(super) place: Arc<Place<'a>>,
}

/// A blob of a file.
pub(super) struct Piece<'a> {
    pub(super) file: Arc<OpenFile<'a>>,
    pub(super) id: Id,
    pub(super) offset: u64,
    pub(super) length: u32,
}

/// Works until there is no more to do, or the restore ends.
pub(super) fn work<'a>(shared: &'a Shared<'a>, pieces: &Receiver<Piece<'a>>) {
    let mut fetcher = Fetcher::new(shared.repository, shared.index);
    let mut found = Vec::new();
    for piece in pieces {
        if shared.is_stopped() {
            break;
        }
        match piece.file.is_verified {
            true => compare(shared, &piece, &mut found),
            false => write(shared, &mut fetcher, &piece),
        }
        shared.progress(0, u64::from(piece.length), Some(&piece.file.path));
    }
}

fn write<'a>(shared: &'a Shared<'a>, fetcher: &mut Fetcher<'a>, piece: &Piece<'a>) {
    if shared.is_zeros(&piece.id) {
        return piece.file.is_one_less();
    }
    let bytes = match fetcher.fetch(BlobKind::Data, &piece.id) {
        Ok(bytes) => bytes,
        Err(error) => {
            if piece.file.is_first_problem() {
                shared.damage(&piece.file.path, &error);
            }
            return;
        }
    };
    if is_all_zeros(bytes) {
        shared.remember_zeros(piece.id);
        return piece.file.is_one_less();
    }
    match write_around_zeros(&piece.file.file, bytes, piece.offset) {
        Ok(()) => piece.file.is_one_less(),
        Err(cause) if piece.file.is_first_problem() => {
            shared.noted::<()>(&piece.file.path, "write the file", Err(cause));
        }
        Err(_) => {}
    }
}

fn compare(shared: &Shared<'_>, piece: &Piece<'_>, found: &mut Vec<u8>) {
    let end = piece.offset + u64::from(piece.length);
    let is_hole = || posix::end_of_hole(&piece.file.file, piece.offset).is_ok_and(|at| at >= end);
    if shared.is_zeros(&piece.id) && is_hole() {
        return piece.file.is_one_less();
    }
    found.resize(piece.length as usize, 0);
    let read = piece.file.file.read_exact_at(found, piece.offset);
    let is_same = read.map(|()| Id::of(found) == piece.id);
    let reason = match is_same {
        Ok(true) => return piece.file.is_one_less(),
        Ok(false) => format!("differs from the snapshot in the bytes from {} on", piece.offset),
        Err(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => "is too short".to_owned(),
        Err(cause) => format!("could not read it again: {cause}"),
    };
    if piece.file.is_first_problem() {
        piece.file.shared.problem(&piece.file.path, reason);
    }
}

/// Writes all but blocks of zeros.
fn write_around_zeros(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    // What is to be written next, and where the look for zeros is.
    let (mut start, mut at) = (0, 0);
    while at < bytes.len() {
        let into_block = (offset + at as u64) % HOLE_BYTES_MIN as u64;
        let end = bytes.len().min(at + HOLE_BYTES_MIN - into_block as usize);
        if is_all_zeros(&bytes[at..end]) {
            file.write_all_at(&bytes[start..at], offset + start as u64)?;
            start = end;
        }
        at = end;
    }
    file.write_all_at(&bytes[start..], offset + start as u64)
}

fn is_all_zeros(bytes: &[u8]) -> bool {
    // Most data shows at once that it is something.
    let (words, rest) = bytes.as_chunks::<16>();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|byte| *byte == 0)
}

impl OpenFile<'_> {
    pub(super) fn is_first_problem(&self) -> bool {
        !self.has_problem.swap(true, Ordering::Relaxed)
    }

    /// A piece is done; or all pieces are known.
    pub(super) fn is_one_less(&self) {
        self.missing.fetch_sub(1, Ordering::AcqRel);
    }

    /// Gives it the name under which the owner finds it: its own when it is whole; otherwise one
    /// that nobody takes for that of the whole file.
    fn name_it(&self, is_whole: bool) -> bool {
        let own = self.path.file_name().unwrap_or_default().as_bytes();
        let name = if is_whole { own.to_vec() } else { with_suffix(own, INCOMPLETE) };
        let (Some(folder), Some(name)) = (self.place.folder(), c_name(&name)) else {
            return false;
        };
        if name == self.written_as {
            return true;
        }
        let named = renameat(folder, self.written_as.as_c_str(), folder, name.as_c_str());
        self.shared.noted(&self.path, "give the file its name", named.map_err(Into::into)).is_some()
    }
}

/// The name of a file until it is whole: one that no other file has, now or in the snapshot. What a
/// restore that was killed leaves behind has such a name, and the owner's own file is untouched.
pub(super) fn name_while_written(name: &[u8], restore: u32, count: usize) -> Vec<u8> {
    with_suffix(name, &format!("{INCOMPLETE}-{restore:08x}-{count:x}"))
}

fn with_suffix(name: &[u8], suffix: &str) -> Vec<u8> {
    let kept = &name[..name.len().min(NAME_KEPT_BYTES_MAX)];
    [kept, suffix.as_bytes()].concat()
}

impl Drop for OpenFile<'_> {
    fn drop(&mut self) {
        let is_whole = *self.missing.get_mut() == 0;
        if self.is_verified {
            self.shared.count(|outcome| outcome.files_verified += u64::from(is_whole));
            return self.shared.progress(1, 0, Some(&self.path));
        }
        attributes::set_of_open(self.shared, &self.file, &self.node, &self.path);
        if self.name_it(is_whole) && is_whole {
            self.shared.count(|outcome| {
                outcome.files += 1;
                outcome.bytes += self.node.size;
            });
        }
        self.shared.progress(1, 0, Some(&self.path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn zeros_become_holes_and_everything_else_is_where_it_belongs() {
        let file = tempfile::tempfile().unwrap();
        let mut expected = vec![0; 3 << 20];
        file.set_len(expected.len() as u64).unwrap();
        expected[5000] = 1;
        expected[1 << 20] = 2;
        expected[(2 << 20) - 1] = 3;
        *expected.last_mut().unwrap() = 4;
        let (first, second) = expected.split_at(1_000_001);
        write_around_zeros(&file, first, 0).unwrap();
        write_around_zeros(&file, second, first.len() as u64).unwrap();
        let mut found = vec![9; expected.len()];
        file.read_exact_at(&mut found, 0).unwrap();
        assert!(found == expected);
        let allocated = file.metadata().unwrap().blocks() * 512;
        assert!(allocated <= 8 * HOLE_BYTES_MIN as u64, "{allocated} bytes allocated");
    }
}
