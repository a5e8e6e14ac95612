//! zstd, with contexts that are kept and bounds that hold.
//!
//! A context costs a megabyte or two to make and little to use again, so each worker keeps its own.
//! Windows stay small on purpose: what a reader must hold is decided by the writer.

use std::io::{BufRead, Read};
use zstd::zstd_safe::{CCtx, CParameter, DCtx, DParameter};

/// No window we write is larger: 512 KiB, as restic's.
pub const WINDOW_LOG: u32 = 19;
/// No window we read is larger: 8 MiB, what every zstd decoder must accept.
pub const WINDOW_LOG_MAX: u32 = 23;
/// The level used when nobody asks for another.
pub const LEVEL: i32 = 3;

/// How hard to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compression {
    /// zstd's level, 1 (fast) to 19 (small).
    pub level: i32,
    /// The window's size as a power of two, up to [`WINDOW_LOG_MAX`].
    pub window_log: u32,
    /// Whether pieces of files are compressed; trees and whole files always are.
    pub is_for_data: bool,
}

impl Default for Compression {
    fn default() -> Self {
        Self { level: LEVEL, window_log: WINDOW_LOG, is_for_data: true }
    }
}

/// How hard to try, in restic's words. The format does not care: all are read alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Effort {
    /// Level 3 for all that does not look like noise.
    #[default]
    Auto,
    /// Trees and indexes only, at level 3.
    Off,
    /// Level 1.
    Fastest,
    /// Level 7: half as fast as level 3.
    Better,
    /// Level 15: a tenth as fast as level 3.
    Max,
}

impl Effort {
    /// The settings.
    pub fn compression(self) -> Compression {
        let level = match self {
            Self::Fastest => 1,
            Self::Auto | Self::Off => LEVEL,
            Self::Better => 7,
            Self::Max => 15,
        };
        Compression { level, is_for_data: self != Self::Off, ..Compression::default() }
    }
}

/// Why compressed data cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecompressError {
    /// zstd says so.
    #[error("the compressed data is damaged: {reason}")]
    Damaged {
        /// In zstd's words.
        reason: &'static str,
    },
    /// More comes out than was announced or than is allowed.
    #[error("the compressed data is longer than {bytes_max} bytes when decompressed")]
    TooLong {
        /// What is allowed.
        bytes_max: usize,
    },
}

/// A kept context for compression.
pub struct Compressor {
    context: CCtx<'static>,
}

impl Compressor {
    /// A context with these settings. Values out of range are taken as the nearest in range.
    pub fn new(compression: Compression) -> Self {
        let mut context = CCtx::create();
        let settings = [
            CParameter::CompressionLevel(compression.level.clamp(1, 19)),
            CParameter::WindowLog(compression.window_log.clamp(10, WINDOW_LOG_MAX)),
            CParameter::ContentSizeFlag(true),
            CParameter::ChecksumFlag(false),
        ];
        for setting in settings {
            // All are within zstd's own ranges, so it has no reason to refuse one.
            let set = context.set_parameter(setting);
            debug_assert!(set.is_ok());
        }
        Self { context }
    }

    /// Appends `plaintext`, compressed to one frame, to `out`. When that would take more than
    /// `bytes_max`, nothing is appended and the answer is `false`.
    pub fn compress_into(&mut self, plaintext: &[u8], out: &mut Vec<u8>, bytes_max: usize) -> bool {
        let start = out.len();
        out.resize(start + bytes_max, 0);
        match self.context.compress2(&mut out[start..], plaintext) {
            Ok(bytes) => {
                out.truncate(start + bytes);
                true
            }
            Err(_) => {
                out.truncate(start);
                false
            }
        }
    }

    /// How many bytes compressing this many can take at most.
    pub fn bytes_max(plaintext_bytes: usize) -> usize {
        zstd::zstd_safe::compress_bound(plaintext_bytes)
    }
}

/// A kept context for decompression.
pub struct Decompressor {
    context: DCtx<'static>,
}

impl Decompressor {
    /// A context that refuses windows beyond [`WINDOW_LOG_MAX`].
    pub fn new() -> Self {
        let mut context = DCtx::create();
        let set = context.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX));
        debug_assert!(set.is_ok());
        Self { context }
    }

    /// Replaces what is in `out` by what `compressed` holds, at most `bytes_max` bytes.
    pub fn decompress_into(
        &mut self,
        compressed: &[u8],
        out: &mut Vec<u8>,
        bytes_max: usize,
    ) -> Result<(), DecompressError> {
        out.clear();
        // Room is made for what the frame announces only when that is within the bound.
        let announced = zstd::zstd_safe::get_frame_content_size(compressed).ok().flatten();
        let announced = announced.and_then(|bytes| usize::try_from(bytes).ok());
        if announced.is_some_and(|bytes| bytes > bytes_max) {
            return Err(DecompressError::TooLong { bytes_max });
        }
        if let Some(bytes) = announced {
            out.reserve_exact(bytes);
            return match self.context.decompress(out, compressed) {
                Ok(_) => Ok(()),
                Err(code) => Err(damaged(code)),
            };
        }
        let mut reader = self.reader(compressed)?.take(bytes_max as u64 + 1);
        reader.read_to_end(out).map_err(|_| DecompressError::Damaged { reason: "broken frame" })?;
        if out.len() > bytes_max {
            out.clear();
            return Err(DecompressError::TooLong { bytes_max });
        }
        Ok(())
    }

    /// A reader of what `compressed` holds, which never holds more than a window of it.
    pub fn reader<'a>(&'a mut self, compressed: &'a [u8]) -> Result<Frames<'a>, DecompressError> {
        self.reader_of(compressed)
    }

    /// The same of bytes that come from elsewhere.
    pub(crate) fn reader_of<'a, R: BufRead>(
        &'a mut self,
        compressed: R,
    ) -> Result<zstd::stream::read::Decoder<'a, R>, DecompressError> {
        let reset = self.context.reset(zstd::zstd_safe::ResetDirective::SessionOnly);
        reset.map_err(damaged)?;
        Ok(zstd::stream::read::Decoder::with_context(compressed, &mut self.context))
    }
}

impl Default for Decompressor {
    fn default() -> Self {
        Self::new()
    }
}

/// What [`Decompressor::reader`] gives.
pub type Frames<'a> = zstd::stream::read::Decoder<'a, &'a [u8]>;

fn damaged(code: usize) -> DecompressError {
    DecompressError::Damaged { reason: zstd::zstd_safe::get_error_name(code) }
}

/// Bytes looked at to judge whether compressing is worth it.
const PROBE_BYTES: usize = 8 * 1024;
/// In this many places.
const PROBE_PLACES: usize = 16;
/// Below this many bytes, trying costs nothing worth saving.
const PROBED_BYTES_MIN: usize = 64 * 1024;

/// Whether `plaintext` looks like pictures, video or archives, which nothing makes smaller.
///
/// Counts how often two bytes of a sample are alike. Random bytes are alike once in 256; text and
/// programs several times as often. Integers only: the smallest boxes have no floating point unit.
pub fn looks_incompressible(plaintext: &[u8]) -> bool {
    if plaintext.len() < PROBED_BYTES_MIN {
        return false;
    }
    let mut counts = [0_u32; 256];
    let piece_bytes = PROBE_BYTES / PROBE_PLACES;
    let stride = (plaintext.len() - piece_bytes) / (PROBE_PLACES - 1);
    for place in 0..PROBE_PLACES {
        for byte in &plaintext[place * stride..place * stride + piece_bytes] {
            counts[usize::from(*byte)] += 1;
        }
    }
    let alike: u32 = counts.iter().map(|count| count * count.saturating_sub(1)).sum();
    let of_random = (PROBE_BYTES * (PROBE_BYTES - 1) / 256) as u32;
    alike < of_random + of_random / 16
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Bytes nobody can compress, the same each time.
    pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
        let mut state = seed | 1;
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }

    #[test]
    fn what_was_compressed_comes_back_and_no_bound_is_exceeded() {
        let text = b"a sentence that is said again and again; ".repeat(5000);
        let mut out = b"before".to_vec();
        let mut compressor = Compressor::new(Compression::default());
        assert!(compressor.compress_into(&text, &mut out, text.len()));
        assert!(out.len() < text.len() / 10);
        let mut decompressor = Decompressor::new();
        let mut back = Vec::new();
        decompressor.decompress_into(&out[6..], &mut back, text.len()).unwrap();
        assert_eq!(back, text);
        assert_eq!(
            decompressor.decompress_into(&out[6..], &mut back, text.len() - 1),
            Err(DecompressError::TooLong { bytes_max: text.len() - 1 })
        );
        back.clear();
        decompressor.reader(&out[6..]).unwrap().read_to_end(&mut back).unwrap();
        assert_eq!(back, text);
    }

    #[test]
    fn a_frame_that_does_not_say_its_length_is_bounded_too() {
        let text = vec![b'x'; 300_000];
        let frame = zstd::stream::encode_all(&text[..], 3).unwrap();
        assert_eq!(zstd::zstd_safe::get_frame_content_size(&frame).ok().flatten(), None);
        let (mut decompressor, mut back) = (Decompressor::new(), Vec::new());
        decompressor.decompress_into(&frame, &mut back, text.len()).unwrap();
        assert_eq!(back, text);
        assert!(decompressor.decompress_into(&frame, &mut back, text.len() - 1).is_err());
    }

    #[test]
    fn more_effort_makes_it_smaller_and_all_of_it_is_read_alike() {
        let words: Vec<_> = noise(1 << 12, 3).chunks(5).map(<[u8]>::to_vec).collect();
        let mut text = Vec::new();
        for place in noise(200_000, 5) {
            text.extend_from_slice(&words[usize::from(place) * 3]);
        }
        let mut lengths = Vec::new();
        for effort in [Effort::Fastest, Effort::Auto, Effort::Better, Effort::Max] {
            let (mut out, mut back) = (Vec::new(), Vec::new());
            let mut compressor = Compressor::new(effort.compression());
            assert!(compressor.compress_into(&text, &mut out, text.len()));
            Decompressor::new().decompress_into(&out, &mut back, text.len()).unwrap();
            assert!(back == text);
            lengths.push(out.len());
        }
        assert!(lengths[0] > lengths[3], "{lengths:?}");
        assert_eq!(Effort::Off.compression().level, LEVEL);
    }

    #[test]
    fn a_result_without_gain_is_not_kept() {
        let mut compressor = Compressor::new(Compression::default());
        let mut out = b"before".to_vec();
        assert!(!compressor.compress_into(&noise(100_000, 1), &mut out, 99_000));
        assert_eq!(out, b"before");
    }

    #[test]
    fn noise_looks_incompressible_and_text_does_not() {
        for seed in 1..50 {
            assert!(looks_incompressible(&noise(1 << 20, seed)), "{seed}");
        }
        assert!(!looks_incompressible(&b"a sentence that is said again; ".repeat(50_000)));
        assert!(!looks_incompressible(&vec![0; 1 << 20]));
        assert!(!looks_incompressible(&noise(1000, 1)));
    }

    #[test]
    fn damaged_frames_are_refused_and_never_harm() {
        let frame = zstd::bulk::compress(&b"some text ".repeat(100), 3).unwrap();
        let (mut decompressor, mut back) = (Decompressor::new(), Vec::new());
        for at in 0..frame.len() {
            assert!(decompressor.decompress_into(&frame[..at], &mut back, 10_000).is_err());
            let mut changed = frame.clone();
            changed[at] ^= 0x40;
            let _ = decompressor.decompress_into(&changed, &mut back, 10_000);
        }
    }
}
