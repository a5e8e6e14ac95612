//! Writing around zeros: a file has holes where it may.

use nix::fcntl::{FallocateFlags, fallocate};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Fewer zeros than this, or zeros across a block's end, are written.
const HOLE_BYTES_MIN: usize = 16 << 10;

/// Writes all but blocks of zeros, where the file is a hole so far. Zeros at its end may be left
/// out: who calls sees to the size.
pub(super) fn write_around(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    // What is to be written next, and where the look for zeros is.
    let (mut start, mut at) = (0, 0);
    while at < bytes.len() {
        let into_block = (offset + at as u64) % HOLE_BYTES_MIN as u64;
        let end = bytes.len().min(at + HOLE_BYTES_MIN - into_block as usize);
        // Less than a block becomes no hole anyway.
        if end - at == HOLE_BYTES_MIN && is_all(&bytes[at..end]) {
            if start < at {
                file.write_all_at(&bytes[start..at], offset + start as u64)?;
            }
            start = end;
        }
        at = end;
    }
    if start < bytes.len() {
        file.write_all_at(&bytes[start..], offset + start as u64)?;
    }
    Ok(())
}

/// Writes over what is there. A hole is made where much of it is zeros, if the file system can.
pub(super) fn write_over(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    let has_hole = bytes.chunks_exact(HOLE_BYTES_MIN).any(is_all);
    if has_hole && punch(file, bytes.len(), offset) {
        return write_around(file, bytes, offset);
    }
    file.write_all_at(bytes, offset)
}

/// Whether a part of a file is a hole now. Kernels before 2.6.38 and many file systems cannot.
fn punch(file: &File, bytes: usize, offset: u64) -> bool {
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    match (libc::off_t::try_from(offset), libc::off_t::try_from(bytes)) {
        (Ok(offset), Ok(bytes)) => fallocate(file, flags, offset, bytes).is_ok(),
        _ => false,
    }
}

/// Whether there is nothing but zeros.
pub(super) fn is_all(bytes: &[u8]) -> bool {
    // Most data shows at once that it is something.
    let (words, rest) = bytes.as_chunks::<16>();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn mostly_zeros() -> Vec<u8> {
        let mut bytes = vec![0; 3 << 20];
        bytes[5000] = 1;
        bytes[1 << 20] = 2;
        bytes[(2 << 20) - 1] = 3;
        *bytes.last_mut().unwrap() = 4;
        bytes
    }

    fn is_as_expected(file: &File, expected: &[u8]) {
        let mut found = vec![9; expected.len()];
        file.read_exact_at(&mut found, 0).unwrap();
        assert!(found == expected);
    }

    fn is_mostly_holes(file: &File) {
        let allocated = file.metadata().unwrap().blocks() * 512;
        assert!(allocated <= 8 * HOLE_BYTES_MIN as u64, "{allocated} bytes allocated");
    }

    #[test]
    fn zeros_become_holes_and_everything_else_is_where_it_belongs() {
        let file = tempfile::tempfile().unwrap();
        let expected = mostly_zeros();
        file.set_len(expected.len() as u64).unwrap();
        let (first, second) = expected.split_at(1_000_001);
        write_around(&file, first, 0).unwrap();
        write_around(&file, second, first.len() as u64).unwrap();
        is_as_expected(&file, &expected);
        is_mostly_holes(&file);
    }

    #[test]
    fn zeros_written_over_something_are_zeros() {
        let file = tempfile::tempfile().unwrap();
        let expected = mostly_zeros();
        file.write_all_at(&vec![7; expected.len()], 0).unwrap();
        write_over(&file, &expected, 0).unwrap();
        is_as_expected(&file, &expected);
    }
}
