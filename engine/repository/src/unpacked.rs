//! Files that are sealed as a whole: snapshots, indexes, locks.
//!
//! In version 2 the plaintext is the byte 2 and then zstd-compressed JSON; in version 1 it is the
//! JSON itself, which readers of either version take.

use crate::compress::{Compression, DecompressError, Decompressor, Frames, WINDOW_LOG};
use crate::config::Version;
use crate::crypto::{CryptoError, MasterKey, NONCE_BYTES, Nonce};
use std::io::{self, Read, Write};

/// The first byte of a compressed plaintext.
const COMPRESSED: u8 = 2;

/// A snapshot or lock never has more JSON than this: 16 MiB. (Indexes are read as streams.)
pub const JSON_BYTES_MAX: usize = 16 << 20;

/// Why such a file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum UnpackedError {
    /// It does not open.
    #[error("the file cannot be opened")]
    Crypto(#[from] CryptoError),
    /// It does not decompress.
    #[error("the file cannot be decompressed")]
    Decompress(#[from] DecompressError),
    /// It starts with an unknown byte.
    #[error("the file has the encoding {first_byte}, which is not known")]
    Encoding {
        /// The byte.
        first_byte: u8,
    },
    /// The compressor failed: out of memory.
    #[error("the file cannot be compressed")]
    Compress(#[source] io::Error),
    /// The JSON does not say what it should.
    #[error("the file's JSON makes no sense")]
    Json(#[from] serde_json::Error),
}

impl UnpackedError {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Encoding { .. } => {
                "a newer program may have written the file: update Holdfast, then run `check`"
            }
            Self::Compress(_) => "give the engine more memory",
            _ => "run `check` to learn what is damaged, and test the disk and memory",
        }
    }
}

/// Writes such a file: takes its JSON piece by piece and holds only what it compresses to.
pub struct UnpackedWriter(Sink);

enum Sink {
    Plain(Vec<u8>),
    Compressed(Box<zstd::stream::write::Encoder<'static, Vec<u8>>>),
}

impl UnpackedWriter {
    /// A writer of an empty file.
    pub fn new(version: Version) -> Result<Self, UnpackedError> {
        let mut start = vec![0; NONCE_BYTES];
        if version == Version::V1 {
            return Ok(Self(Sink::Plain(start)));
        }
        start.push(COMPRESSED);
        let level = Compression::default().level;
        let encoder = zstd::stream::write::Encoder::new(start, level).and_then(|mut encoder| {
            encoder.window_log(WINDOW_LOG)?;
            Ok(encoder)
        });
        encoder
            .map(Box::new)
            .map(|encoder| Self(Sink::Compressed(encoder)))
            .map_err(UnpackedError::Compress)
    }

    /// The sealed file.
    pub fn finish(self, key: &MasterKey, nonce: Nonce) -> Result<Vec<u8>, UnpackedError> {
        let mut file = match self.0 {
            Sink::Plain(file) => file,
            Sink::Compressed(encoder) => encoder.finish().map_err(UnpackedError::Compress)?,
        };
        key.seal_in_place(nonce, &mut file, 0)?;
        Ok(file)
    }
}

impl Write for UnpackedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Sink::Plain(file) => file.write(bytes),
            Sink::Compressed(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The sealed file that holds `value` as JSON.
pub fn seal<T: serde::Serialize>(
    value: &T,
    version: Version,
    key: &MasterKey,
    nonce: Nonce,
) -> Result<Vec<u8>, UnpackedError> {
    let mut writer = UnpackedWriter::new(version)?;
    writer.write_all(&serde_json::to_vec(value)?).map_err(UnpackedError::Compress)?;
    writer.finish(key, nonce)
}

/// What a sealed file of at most [`JSON_BYTES_MAX`] bytes of JSON holds. `file` is decrypted where
/// it stands.
pub fn open<T: serde::de::DeserializeOwned>(
    file: &mut [u8],
    key: &MasterKey,
) -> Result<T, UnpackedError> {
    let json = open_json(file, key, JSON_BYTES_MAX)?;
    Ok(serde_json::from_slice(&json)?)
}

/// The JSON of a sealed file, at most `bytes_max` bytes. `file` is decrypted where it stands.
pub fn open_json(
    file: &mut [u8],
    key: &MasterKey,
    bytes_max: usize,
) -> Result<Vec<u8>, UnpackedError> {
    match contents(file, key)? {
        (false, json) if json.len() > bytes_max => {
            Err(DecompressError::TooLong { bytes_max }.into())
        }
        (false, json) => Ok(json.to_vec()),
        (true, frames) => {
            let mut json = Vec::new();
            Decompressor::new().decompress_into(frames, &mut json, bytes_max)?;
            Ok(json)
        }
    }
}

/// A reader of a sealed file's JSON that holds no more than a window of it. `file` is decrypted
/// where it stands.
pub fn open_stream<'a>(
    file: &'a mut [u8],
    key: &MasterKey,
    decompressor: &'a mut Decompressor,
) -> Result<UnpackedReader<'a>, UnpackedError> {
    Ok(UnpackedReader(match contents(file, key)? {
        (false, json) => Source::Plain(json),
        (true, frames) => Source::Frames(decompressor.reader(frames)?),
    }))
}

/// Whether the plaintext is compressed, and what follows the byte that says so.
fn contents<'a>(file: &'a mut [u8], key: &MasterKey) -> Result<(bool, &'a [u8]), UnpackedError> {
    let opened: &[u8] = key.open_in_place(file)?;
    match opened.split_first() {
        Some((&COMPRESSED, frames)) => Ok((true, frames)),
        Some((b'{' | b'[', _)) => Ok((false, opened)),
        first => Err(UnpackedError::Encoding { first_byte: first.map_or(0, |(byte, _)| *byte) }),
    }
}

/// What [`open_stream`] gives.
pub struct UnpackedReader<'a>(Source<'a>);

enum Source<'a> {
    Plain(&'a [u8]),
    Frames(Frames<'a>),
}

impl Read for UnpackedReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Source::Plain(rest) => rest.read(buffer),
            Source::Frames(frames) => frames.read(buffer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::MASTER_KEY_BYTES;

    fn key() -> MasterKey {
        MasterKey::from_bytes(&[7; MASTER_KEY_BYTES]).unwrap()
    }

    #[test]
    fn a_file_of_either_version_is_read_as_a_whole_and_as_a_stream() {
        let value = vec!["text"; 1000];
        for version in [Version::V1, Version::V2] {
            let file = seal(&value, version, &key(), [3; 16]).unwrap();
            assert_eq!(file.len() < 200, version == Version::V2);
            assert_eq!(open::<Vec<String>>(&mut file.clone(), &key()).unwrap(), value);
            let (mut decompressor, mut json) = (Decompressor::new(), Vec::new());
            let mut again = file.clone();
            let mut reader = open_stream(&mut again, &key(), &mut decompressor).unwrap();
            reader.read_to_end(&mut json).unwrap();
            assert_eq!(json, serde_json::to_vec(&value).unwrap());
            let bound = json.len() - 1;
            assert!(open_json(&mut file.clone(), &key(), bound).is_err());
            assert!(open_json(&mut file.clone(), &key(), bound + 1).is_ok());
        }
    }

    #[test]
    fn another_encoding_and_an_empty_file_are_refused() {
        for plaintext in [&b"\x01[]"[..], b"", b"\x02", b"\"text\""] {
            let mut file = Vec::new();
            key().seal_into([3; 16], plaintext, &mut file).unwrap();
            assert!(open::<Vec<String>>(&mut file, &key()).is_err(), "{plaintext:?}");
        }
    }
}
