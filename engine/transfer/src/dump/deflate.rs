//! deflate for many files, one after the other, with one and the same compressor: to set a new one
//! up takes longer than to pack a small file.

use flate2::{Compress, Compression, FlushCompress, Status};
use std::io::{self, Write};

/// What comes out is passed on in pieces of this size.
const PIECE_BYTES: usize = 32 << 10;

/// A compressor of one level; all else is what deflate calls raw.
pub(super) struct Deflater {
    level: u32,
    /// None until it is needed: it takes some hundred KiB.
    compress: Option<Compress>,
    piece: Vec<u8>,
}

impl Deflater {
    pub(super) fn new(level: u32) -> Self {
        Self { level, compress: None, piece: Vec::new() }
    }

    /// Begins a file. One that was begun before and not finished is forgotten.
    pub(super) fn begin(&mut self) {
        match &mut self.compress {
            Some(compress) => compress.reset(),
            None => {
                self.compress = Some(Compress::new(Compression::new(self.level), false));
                self.piece.resize(PIECE_BYTES, 0);
            }
        }
    }

    /// Goes on with the file.
    pub(super) fn write(&mut self, bytes: &[u8], out: &mut dyn Write) -> io::Result<()> {
        self.pass(bytes, FlushCompress::None, out)
    }

    /// Ends the file.
    pub(super) fn finish(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.pass(&[], FlushCompress::Finish, out)
    }

    fn pass(
        &mut self,
        mut bytes: &[u8],
        flush: FlushCompress,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let not_begun = || io::Error::other("a file was written before it was begun");
        let compress = self.compress.as_mut().ok_or_else(not_begun)?;
        loop {
            let (taken, made) = (compress.total_in(), compress.total_out());
            let status = compress.compress(bytes, &mut self.piece, flush)?;
            // Neither is more than what it was given.
            let [taken, made] = [compress.total_in() - taken, compress.total_out() - made]
                .map(|count| usize::try_from(count).unwrap_or(usize::MAX));
            bytes = bytes.get(taken..).unwrap_or_default();
            out.write_all(self.piece.get(..made).unwrap_or_default())?;
            let is_done = match flush {
                FlushCompress::Finish => status == Status::StreamEnd,
                _ => bytes.is_empty() && made < self.piece.len(),
            };
            if is_done {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn files_packed_one_after_the_other_are_each_what_they_would_be_alone() {
        let noise: Vec<u8> = (0..300_000_u32).map(|at| (at.wrapping_mul(at) >> 7) as u8).collect();
        let files = [b"".as_slice(), b"words words words", &noise, &vec![7; 1 << 20], b"x"];
        for level in [0, 3] {
            let mut deflater = Deflater::new(level);
            for file in files {
                let packed = |deflater: &mut Deflater, piece: usize| {
                    let mut out = Vec::new();
                    deflater.begin();
                    for piece in file.chunks(piece) {
                        deflater.write(piece, &mut out).unwrap();
                    }
                    deflater.finish(&mut out).unwrap();
                    out
                };
                let (one, alone) =
                    (packed(&mut deflater, 10_000), packed(&mut Deflater::new(level), 10_000));
                assert!(one == alone, "{} bytes at level {level}", file.len());
                let mut back = Vec::new();
                flate2::read::DeflateDecoder::new(&one[..]).read_to_end(&mut back).unwrap();
                assert!(back == file);
            }
        }
    }

    #[test]
    fn a_file_that_was_left_in_the_middle_is_not_in_the_next() {
        let mut deflater = Deflater::new(3);
        deflater.begin();
        deflater.write(&[5; 100_000], &mut Vec::new()).unwrap();
        let mut out = Vec::new();
        deflater.begin();
        deflater.write(b"new", &mut out).unwrap();
        deflater.finish(&mut out).unwrap();
        let mut back = Vec::new();
        flate2::read::DeflateDecoder::new(&out[..]).read_to_end(&mut back).unwrap();
        assert_eq!(back, b"new");
    }
}
