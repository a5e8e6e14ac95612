//! gzip in blocks: as many processors as one likes, the same bytes with every number of them.
//!
//! The input is cut every [`BLOCK_BYTES`], each block is deflated on its own and ended on a byte's
//! border, and the blocks one after another are one ordinary gzip member, as `pigz` writes it. A
//! block cannot refer to the one before, which costs about a hundredth in size.
//!
//! **Invariant:** the bytes depend on the input alone. No name and no time is in the header.

use flate2::{Compress, Compression, Crc, FlushCompress};
use std::io::{self, Write};

/// Where the input is cut, in bytes. Another value gives other packages.
pub const BLOCK_BYTES: usize = 1 << 20;

/// The compressor's level: one more gives a hundredth less and takes half as long again.
const LEVEL: u32 = 6;

/// What a block that cannot be compressed may grow by beyond an eighth, in bytes.
const SPARE_BYTES: usize = 64 * 1024;

/// Threads beyond these wait for the disk.
const THREADS_MAX: usize = 16;

/// A writer that compresses into `out`.
pub struct Gzip<W: Write> {
    out: W,
    workers: Vec<Worker>,
    /// Full blocks, fewer than there are workers, and the one that is being filled.
    full: Vec<Vec<u8>>,
    filling: Vec<u8>,
    crc: Crc,
}

/// What one thread works with.
struct Worker {
    packed: Vec<u8>,
    crc: Crc,
}

impl<W: Write> Gzip<W> {
    /// Compresses into `out` with so many threads.
    pub fn new(mut out: W, threads: usize) -> io::Result<Self> {
        out.write_all(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255])?;
        let worker = || Worker { packed: Vec::new(), crc: Crc::new() };
        let workers = (0..threads.clamp(1, THREADS_MAX)).map(|_| worker()).collect();
        let filling = Vec::with_capacity(BLOCK_BYTES);
        Ok(Self { out, workers, full: Vec::new(), filling, crc: Crc::new() })
    }

    /// Ends the archive and hands the writer back.
    pub fn finish(mut self) -> io::Result<W> {
        self.pack(FlushCompress::Sync)?;
        self.full.push(std::mem::take(&mut self.filling));
        self.pack(FlushCompress::Finish)?;
        self.out.write_all(&self.crc.sum().to_le_bytes())?;
        self.out.write_all(&self.crc.amount().to_le_bytes())?;
        Ok(self.out)
    }

    /// Compresses the full blocks, one a thread, and writes them in order.
    fn pack(&mut self, flush: FlushCompress) -> io::Result<()> {
        let mut pairs: Vec<_> = self.workers.iter_mut().zip(&self.full).collect();
        if let [(worker, block)] = &mut pairs[..] {
            worker.pack(block, flush)?;
        } else {
            std::thread::scope(|scope| {
                let each = pairs.iter_mut();
                let running: Vec<_> = each
                    .map(|(worker, block)| scope.spawn(move || worker.pack(block, flush)))
                    .collect();
                running.into_iter().try_for_each(|thread| {
                    thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread died")))
                })
            })?;
        }
        for (worker, _) in pairs {
            self.out.write_all(&worker.packed)?;
            self.crc.combine(&worker.crc);
        }
        self.full.clear();
        Ok(())
    }
}

impl Worker {
    fn pack(&mut self, block: &[u8], flush: FlushCompress) -> io::Result<()> {
        let mut deflate = Compress::new(Compression::new(LEVEL), false);
        self.packed.clear();
        self.crc = Crc::new();
        self.crc.update(block);
        // Room for all of it at once: where the compressor must stop for want of room it forgets
        // what it looked ahead at, and gives other bytes.
        self.packed.reserve(block.len() + block.len() / 8 + SPARE_BYTES);
        let done = deflate.compress_vec(block, &mut self.packed, flush);
        done.map_err(io::Error::other)?;
        let is_whole = deflate.total_in() as usize == block.len();
        let has_room = self.packed.len() < self.packed.capacity();
        if is_whole && has_room { Ok(()) } else { Err(io::Error::other("a block outgrew itself")) }
    }
}

impl<W: Write> Write for Gzip<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = buffer.len().min(BLOCK_BYTES - self.filling.len());
        self.filling.extend_from_slice(&buffer[..count]);
        if self.filling.len() == BLOCK_BYTES {
            let next = Vec::with_capacity(BLOCK_BYTES);
            self.full.push(std::mem::replace(&mut self.filling, next));
            if self.full.len() == self.workers.len() {
                self.pack(FlushCompress::Sync)?;
            }
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn packed(bytes: &[u8], threads: usize) -> Vec<u8> {
        let mut gzip = Gzip::new(Vec::new(), threads).unwrap();
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    }

    /// Neither all alike nor noise.
    fn words(bytes: usize) -> Vec<u8> {
        let mut state = 7_u32;
        let words = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            [b"hold", b"fast", b"pack", b"age "][(state >> 30) as usize]
        });
        words.flatten().copied().take(bytes).collect()
    }

    #[test]
    fn every_number_of_threads_gives_the_same_bytes_and_they_unpack() {
        let around = [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 5 * BLOCK_BYTES];
        for bytes in around {
            let plain = words(bytes);
            let alone = packed(&plain, 1);
            for threads in [2, 3, 8] {
                assert!(packed(&plain, threads) == alone, "{bytes} bytes, {threads} threads");
            }
            // One member, for readers that stop after the first.
            let mut unpacked = Vec::new();
            flate2::read::GzDecoder::new(&alone[..]).read_to_end(&mut unpacked).unwrap();
            assert!(unpacked == plain, "{bytes} bytes");
        }
    }

    #[test]
    fn noise_that_grows_when_it_is_compressed_is_packed_too() {
        let mut state = 1_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .take(3 * BLOCK_BYTES / 2)
        .collect();
        let mut unpacked = Vec::new();
        let packed = packed(&noise, 2);
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut unpacked).unwrap();
        assert!(unpacked == noise);
    }
}
