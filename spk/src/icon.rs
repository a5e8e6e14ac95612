//! One picture, the icons of every DSM: 72 pixels up to DSM 6, 64 on DSM 7, and 256 everywhere.
//!
//! **Invariant:** the same PNG gives the same bytes: scaled by a box filter in integers, with
//! alpha weighed in so that transparent edges do not bleed, written without time or comment.

use std::io::Cursor;

/// Wider or higher pictures are refused.
pub const PIXELS_MAX: u32 = 2048;

/// Width and height of the large icon.
pub const LARGE_PIXELS: u32 = 256;

/// A square picture, four bytes a pixel: red, green, blue, alpha.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Icon {
    pixels: u32,
    rgba: Vec<u8>,
}

/// Why a file is no icon.
#[derive(Debug, thiserror::Error)]
pub enum IconError {
    /// Not a PNG, or a damaged one.
    #[error("the icon is not a PNG that can be read")]
    Png(#[source] png::DecodingError),
    /// Not square, too small or too large.
    #[error("the icon has {width} by {height} pixels")]
    Size {
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
    },
}

impl IconError {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        "give a square PNG of 256 pixels or more, up to 2048"
    }
}

impl Icon {
    /// Decodes a square PNG of 256 to 2048 pixels.
    pub fn decode(png_bytes: &[u8]) -> Result<Self, IconError> {
        let mut decoder = png::Decoder::new(Cursor::new(png_bytes));
        decoder.set_transformations(png::Transformations::normalize_to_color8());
        let mut reader = decoder.read_info().map_err(IconError::Png)?;
        let (width, height) = (reader.info().width, reader.info().height);
        if width != height || !(LARGE_PIXELS..=PIXELS_MAX).contains(&width) {
            return Err(IconError::Size { width, height });
        }
        let mut bytes = vec![0; reader.output_buffer_size().unwrap_or(0)];
        let frame = reader.next_frame(&mut bytes).map_err(IconError::Png)?;
        bytes.truncate(frame.buffer_size());
        let rgba = match frame.color_type {
            png::ColorType::Rgba => bytes,
            png::ColorType::Rgb => rgba_from(&bytes, 3, |p| [p[0], p[1], p[2], 255]),
            png::ColorType::GrayscaleAlpha => rgba_from(&bytes, 2, |p| [p[0], p[0], p[0], p[1]]),
            _ => rgba_from(&bytes, 1, |p| [p[0], p[0], p[0], 255]),
        };
        Ok(Self { pixels: width, rgba })
    }

    /// The picture scaled down to `pixels` by `pixels`: each new pixel is the mean of the area it
    /// covers, in 1/`pixels` parts of an old one.
    pub fn scaled(&self, pixels: u32) -> Self {
        let mut rgba = Vec::with_capacity((pixels * pixels * 4) as usize);
        for y in 0..pixels {
            for x in 0..pixels {
                rgba.extend(self.mean(x, y, pixels));
            }
        }
        Self { pixels, rgba }
    }

    fn mean(&self, x: u32, y: u32, pixels: u32) -> [u8; 4] {
        let (mut colour, mut alpha, mut area) = ([0_u64; 3], 0_u64, 0_u64);
        for (row, height) in covered(y, self.pixels, pixels) {
            for (column, width) in covered(x, self.pixels, pixels) {
                let at = ((row * self.pixels + column) * 4) as usize;
                let weight = u64::from(width) * u64::from(height);
                let opaque = weight * u64::from(self.rgba[at + 3]);
                for (sum, value) in colour.iter_mut().zip(&self.rgba[at..at + 3]) {
                    *sum += opaque * u64::from(*value);
                }
                alpha += opaque;
                area += weight;
            }
        }
        let [red, green, blue] = colour.map(|sum| rounded(sum, alpha));
        [red, green, blue, rounded(alpha, area)]
    }

    /// The picture as a PNG file.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, self.pixels, self.pixels);
        encoder.set_color(png::ColorType::Rgba);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_compression(png::Compression::High);
        let written = encoder.write_header().and_then(|mut writer| {
            writer.write_image_data(&self.rgba)?;
            writer.finish()
        });
        assert!(written.is_ok(), "memory takes every byte, and the picture has its right size");
        bytes
    }
}

/// Width and height of a PNG, from its first 24 bytes.
pub fn size_of_png(bytes: &[u8]) -> Option<(u32, u32)> {
    let number = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    if !bytes.starts_with(b"\x89PNG\r\n\x1a\n") || bytes.get(12..16)? != b"IHDR" {
        return None;
    }
    Some((number(16)?, number(20)?))
}

/// Old pixels that new pixel `at` covers, each with the part of it that counts.
fn covered(at: u32, old: u32, new: u32) -> impl Iterator<Item = (u32, u32)> {
    let (from, to) = (at * old, (at + 1) * old);
    (from / new..to.div_ceil(new))
        .map(move |pixel| (pixel, to.min((pixel + 1) * new) - from.max(pixel * new)))
}

fn rounded(sum: u64, of: u64) -> u8 {
    (sum + of / 2).checked_div(of).map_or(0, |mean| mean.min(255) as u8)
}

fn rgba_from(bytes: &[u8], channels: usize, pixel: impl Fn(&[u8]) -> [u8; 4]) -> Vec<u8> {
    bytes.chunks_exact(channels).flat_map(pixel).collect()
}

/// A plain square with a darker rim, for `spk init` and tests.
pub fn plain() -> Icon {
    let pixels = LARGE_PIXELS;
    let rim = |n: u32| !(16..pixels - 16).contains(&n);
    let rgba = (0..pixels * pixels).flat_map(|at| {
        if rim(at % pixels) || rim(at / pixels) { [20, 60, 90, 255] } else { [40, 120, 180, 255] }
    });
    Icon { pixels, rgba: rgba.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_survives_being_written_and_read() {
        let bytes = plain().encode();
        assert_eq!(size_of_png(&bytes), Some((256, 256)));
        assert_eq!(Icon::decode(&bytes).unwrap(), plain());
        assert_eq!(plain().scaled(256), plain());
    }

    #[test]
    fn every_dsm_gets_its_size_and_colours_do_not_bleed() {
        for pixels in [64, 72] {
            let small = plain().scaled(pixels);
            assert_eq!(size_of_png(&small.encode()), Some((pixels, pixels)));
            assert_eq!(small.rgba[..4], [20, 60, 90, 255], "the rim");
            let middle = ((pixels / 2 * pixels + pixels / 2) * 4) as usize;
            assert_eq!(small.rgba[middle..middle + 4], [40, 120, 180, 255], "the middle");
        }
        let mut half = plain();
        for pixel in half.rgba.chunks_exact_mut(4).step_by(2) {
            pixel.copy_from_slice(&[255, 0, 0, 0]);
        }
        let at = (32 * 64 + 32) * 4;
        assert_eq!(half.scaled(64).rgba[at..at + 4], [40, 120, 180, 128]);
    }

    #[test]
    fn what_is_no_icon_is_refused() {
        assert!(matches!(Icon::decode(b"GIF89a"), Err(IconError::Png(_))));
        let small = plain().scaled(72).encode();
        assert!(matches!(Icon::decode(&small), Err(IconError::Size { width: 72, height: 72 })));
        let whole = plain().encode();
        assert!(Icon::decode(&whole[..whole.len() / 2]).is_err());
    }
}
