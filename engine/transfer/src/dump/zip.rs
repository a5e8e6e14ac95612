//! Zip archives, written front to back to something that cannot go back, a pipe for one.
//!
//! The format is PKWARE's (APPNOTE 6.3), as Info-ZIP writes it on Unix: sizes and sums of files
//! stand behind them (data descriptors), modes in the upper half of the external attributes, times
//! in seconds as extra field `UT`, owners as `ux`. What may pass four gigabytes is written with the
//! 64-bit fields of zip64, and only that, for old readers. Names that are UTF-8 are marked so;
//! others stand as their bytes, which Unix readers give back as they are.
//!
//! What looks like noise is put into deflate's stored blocks, for a stored file whose size nobody
//! knows yet could not be read from a pipe. The list at the end grows by some hundred bytes a file;
//! until then it is kept in a file without a name.

use super::deflate::Deflater;
use engine_repository::compress::looks_incompressible;
use flate2::Crc;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};

/// A file of this size or more gets 64-bit fields: deflate may add a little to what it cannot make
/// smaller.
const LARGE_BYTES_MIN: u64 = 0xf000_0000;
/// What does not fit a 32-bit field stands in the zip64 one.
const IN_ZIP64: u32 = u32::MAX;
/// Files are looked at and passed on in pieces of this size.
const PIECE_BYTES: usize = 256 << 10;
/// deflate's level: what takes half the time of the usual 6 and a few percent more room.
const LEVEL: u32 = 3;

const VERSION: u16 = 20;
const VERSION_ZIP64: u16 = 45;
/// Made on Unix.
const MADE_BY: u16 = 3 << 8 | VERSION_ZIP64;
const FLAG_DESCRIPTOR: u16 = 1 << 3;
const FLAG_UTF8: u16 = 1 << 11;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// What is said of a file, link or folder.
pub(super) struct Entry {
    /// Its path in the archive; a folder's ends in `/`.
    pub(super) name: Vec<u8>,
    /// `st_mode`, type included.
    pub(super) mode: u32,
    /// Seconds since 1970.
    pub(super) mtime: i64,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// What the list at the end says of one.
struct Sums {
    flags: u16,
    method: u16,
    crc: u32,
    compressed: u64,
    bytes: u64,
    is_large: bool,
}

/// Writes an archive.
pub(super) struct ZipWriter<W> {
    out: Counted<W>,
    list: BufWriter<File>,
    list_bytes: u64,
    entries: u64,
    /// A piece of the file that is being packed.
    piece: Vec<u8>,
    deflater: Deflater,
    /// For what looks like noise.
    storer: Deflater,
}

struct Counted<W> {
    inner: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(buffer)?;
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<W: Write> ZipWriter<W> {
    /// Writes to `out`; `list` is an empty file for what comes at the end.
    pub(super) fn new(out: W, list: File) -> Self {
        let out = Counted { inner: out, bytes: 0 };
        Self {
            out,
            list: BufWriter::new(list),
            list_bytes: 0,
            entries: 0,
            piece: Vec::with_capacity(PIECE_BYTES),
            deflater: Deflater::new(LEVEL),
            storer: Deflater::new(0),
        }
    }

    /// Something whose whole content is known: a folder's is empty, a link's is where it points.
    pub(super) fn small(&mut self, entry: &Entry, content: &[u8]) -> io::Result<()> {
        let at = self.out.bytes;
        let mut crc = Crc::new();
        crc.update(content);
        let bytes = content.len() as u64;
        let sums = Sums {
            flags: utf8_flag(&entry.name),
            method: STORED,
            crc: crc.sum(),
            compressed: bytes,
            bytes,
            is_large: false,
        };
        self.local_header(entry, &sums)?;
        self.out.write_all(content)?;
        self.note(entry, &sums, at)
    }

    /// A file of about `size` bytes.
    pub(super) fn file(
        &mut self,
        entry: &Entry,
        size: u64,
        content: &mut dyn Read,
    ) -> io::Result<()> {
        let at = self.out.bytes;
        let is_large = size >= LARGE_BYTES_MIN;
        let flags = utf8_flag(&entry.name) | FLAG_DESCRIPTOR;
        let (crc, compressed, bytes) = (0, 0, 0);
        let mut sums = Sums { flags, method: DEFLATED, crc, compressed, bytes, is_large };
        self.local_header(entry, &sums)?;
        let start = self.out.bytes;
        let mut crc = Crc::new();
        fill(content, &mut self.piece)?;
        let deflater = match looks_incompressible(&self.piece) {
            true => &mut self.storer,
            false => &mut self.deflater,
        };
        deflater.begin();
        while !self.piece.is_empty() {
            crc.update(&self.piece);
            sums.bytes += self.piece.len() as u64;
            deflater.write(&self.piece, &mut self.out)?;
            fill(content, &mut self.piece)?;
        }
        deflater.finish(&mut self.out)?;
        sums.crc = crc.sum();
        sums.compressed = self.out.bytes - start;
        let mut behind = Vec::new();
        behind.put_u32(0x0807_4b50);
        behind.put_u32(sums.crc);
        for number in [sums.compressed, sums.bytes] {
            match is_large {
                true => behind.put_u64(number),
                false => behind.put_u32(small(number)?),
            }
        }
        self.out.write_all(&behind)?;
        self.note(entry, &sums, at)
    }

    fn local_header(&mut self, entry: &Entry, sums: &Sums) -> io::Result<()> {
        let mut extra = Vec::new();
        let sizes = if sums.is_large { [IN_ZIP64; 2] } else { sizes(sums)? };
        if sums.is_large {
            extra.put_u16(1);
            extra.put_u16(16);
            extra.extend_from_slice(&[0; 16]);
        }
        put_extra(entry, &mut extra);
        let mut header = Vec::new();
        header.put_u32(0x0403_4b50);
        put_start(entry, sums, &mut header);
        header.put_u32(sums.crc);
        header.put_u32(sizes[0]);
        header.put_u32(sizes[1]);
        put_lengths(entry, &extra, &mut header)?;
        header.extend_from_slice(&entry.name);
        header.extend_from_slice(&extra);
        self.out.write_all(&header)
    }

    /// Takes note for the list at the end.
    fn note(&mut self, entry: &Entry, sums: &Sums, at: u64) -> io::Result<()> {
        let mut large = Vec::new();
        let sizes = if sums.is_large { [IN_ZIP64; 2] } else { sizes(sums)? };
        if sums.is_large {
            large.put_u64(sums.bytes);
            large.put_u64(sums.compressed);
        }
        let offset = small(at).unwrap_or(IN_ZIP64);
        if offset == IN_ZIP64 {
            large.put_u64(at);
        }
        let mut extra = Vec::new();
        if !large.is_empty() {
            extra.put_u16(1);
            extra.put_u16(large.len() as u16);
            extra.extend_from_slice(&large);
        }
        put_extra(entry, &mut extra);
        let mut record = Vec::new();
        record.put_u32(0x0201_4b50);
        record.put_u16(MADE_BY);
        put_start(entry, sums, &mut record);
        record.put_u32(sums.crc);
        record.put_u32(sizes[0]);
        record.put_u32(sizes[1]);
        put_lengths(entry, &extra, &mut record)?;
        // No comment, first disk, no internal attributes.
        record.extend_from_slice(&[0; 6]);
        let is_folder = entry.name.ends_with(b"/");
        record.put_u32(entry.mode << 16 | u32::from(is_folder) << 4);
        record.put_u32(offset);
        record.extend_from_slice(&entry.name);
        record.extend_from_slice(&extra);
        self.list.write_all(&record)?;
        self.list_bytes += record.len() as u64;
        self.entries += 1;
        Ok(())
    }

    /// Writes the list, and what finds it.
    pub(super) fn finish(mut self) -> io::Result<()> {
        let start = self.out.bytes;
        let mut list = self.list.into_inner().map_err(io::IntoInnerError::into_error)?;
        list.seek(SeekFrom::Start(0))?;
        io::copy(&mut BufReader::new(list), &mut self.out)?;
        let mut end = Vec::new();
        let count = u16::try_from(self.entries).unwrap_or(u16::MAX);
        let (bytes, at) = (small(self.list_bytes), small(start));
        if count == u16::MAX || bytes.is_err() || at.is_err() {
            let found_at = self.out.bytes;
            end.put_u32(0x0606_4b50);
            end.put_u64(44);
            end.put_u16(MADE_BY);
            end.put_u16(VERSION_ZIP64);
            end.extend_from_slice(&[0; 8]);
            for number in [self.entries, self.entries, self.list_bytes, start] {
                end.put_u64(number);
            }
            end.put_u32(0x0706_4b50);
            end.put_u32(0);
            end.put_u64(found_at);
            end.put_u32(1);
        }
        end.put_u32(0x0605_4b50);
        end.extend_from_slice(&[0; 4]);
        end.put_u16(count);
        end.put_u16(count);
        end.put_u32(bytes.unwrap_or(IN_ZIP64));
        end.put_u32(at.unwrap_or(IN_ZIP64));
        end.put_u16(0);
        self.out.write_all(&end)?;
        self.out.flush()
    }
}

/// Little-endian numbers.
trait Put {
    fn put_u16(&mut self, number: u16);
    fn put_u32(&mut self, number: u32);
    fn put_u64(&mut self, number: u64);
}

impl Put for Vec<u8> {
    fn put_u16(&mut self, number: u16) {
        self.extend_from_slice(&number.to_le_bytes());
    }

    fn put_u32(&mut self, number: u32) {
        self.extend_from_slice(&number.to_le_bytes());
    }

    fn put_u64(&mut self, number: u64) {
        self.extend_from_slice(&number.to_le_bytes());
    }
}

fn fill(content: &mut dyn Read, piece: &mut Vec<u8>) -> io::Result<()> {
    piece.clear();
    content.take(PIECE_BYTES as u64).read_to_end(piece).map(|_| ())
}

fn utf8_flag(name: &[u8]) -> u16 {
    if std::str::from_utf8(name).is_ok() { FLAG_UTF8 } else { 0 }
}

fn sizes(sums: &Sums) -> io::Result<[u32; 2]> {
    Ok([small(sums.compressed)?, small(sums.bytes)?])
}

/// A number for a 32-bit field, whose largest value means something else.
fn small(number: u64) -> io::Result<u32> {
    let fits = u32::try_from(number).ok().filter(|number| *number != IN_ZIP64);
    fits.ok_or_else(|| io::Error::other("a file is larger than its size says"))
}

/// What local header and list have in common, up to the date.
fn put_start(entry: &Entry, sums: &Sums, out: &mut Vec<u8>) {
    out.put_u16(if sums.is_large { VERSION_ZIP64 } else { VERSION });
    out.put_u16(sums.flags);
    out.put_u16(sums.method);
    let (date, time) = dos_time(entry.mtime);
    out.put_u16(time);
    out.put_u16(date);
}

fn put_lengths(entry: &Entry, extra: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    for bytes in [&entry.name, extra] {
        let length = u16::try_from(bytes.len());
        out.put_u16(length.map_err(|_| io::Error::other("a path is too long for a zip archive"))?);
    }
    Ok(())
}

fn put_extra(entry: &Entry, out: &mut Vec<u8>) {
    if let Ok(seconds) = i32::try_from(entry.mtime) {
        out.extend_from_slice(b"UT");
        out.put_u16(5);
        out.push(1);
        out.extend_from_slice(&seconds.to_le_bytes());
    }
    out.extend_from_slice(b"ux");
    out.put_u16(11);
    out.extend_from_slice(&[1, 4]);
    out.put_u32(entry.uid);
    out.push(4);
    out.put_u32(entry.gid);
}

/// Date and time as DOS wrote them, in UTC, to two seconds; what it cannot say as the nearest.
fn dos_time(seconds: i64) -> (u16, u16) {
    const FIRST: i64 = 315_532_800; // 1980-01-01
    const LAST: i64 = 4_354_819_198; // 2107-12-31 23:59:58
    let moment = jiff::Timestamp::from_second(seconds.clamp(FIRST, LAST)).unwrap_or_default();
    let moment = moment.to_zoned(jiff::tz::TimeZone::UTC);
    let part = |number: i8| number.unsigned_abs() as u16;
    let year = moment.year().unsigned_abs().saturating_sub(1980);
    let date = year << 9 | part(moment.month()) << 5 | part(moment.day());
    let time = part(moment.hour()) << 11 | part(moment.minute()) << 5 | (part(moment.second()) / 2);
    (date, time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dos_times_and_never_out_of_range() {
        assert_eq!(dos_time(0), (1 << 5 | 1, 0));
        assert_eq!(dos_time(i64::MAX), (127 << 9 | 12 << 5 | 31, 23 << 11 | 59 << 5 | 29));
        assert_eq!(dos_time(1_700_000_000), (43 << 9 | 11 << 5 | 14, 22 << 11 | 13 << 5 | 10));
    }
}
