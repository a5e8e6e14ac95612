//! Index files: which blob lies where in which pack.
//!
//! ```json
//! {"packs":[{"id":"…","blobs":[{"id":"…","type":"data","offset":0,"length":38,
//!                               "uncompressed_length":6}]}]}
//! ```
//!
//! Both directions are streams: an index of fifty thousand blobs is ten megabytes of JSON, and
//! nobody need hold it. `supersedes`, written by old versions of restic, means nothing any more.

use crate::blob::{BlobKind, PackedBlob, SealedBlob};
use crate::config::Version;
use crate::crypto::{MasterKey, Nonce, OVERHEAD_BYTES};
use crate::id::Id;
use crate::json::{JsonError, JsonReader};
use crate::unpacked::{UnpackedError, UnpackedWriter};
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::num::NonZeroU32;

/// An index file of ours holds no more blobs, as in restic.
pub const INDEX_BLOBS_MAX: usize = 50_000;
/// A pack whose blobs come before its id is held up to this many of them; a sealed header has no
/// room for more.
const HELD_BLOBS_MAX: usize = 500_000;

/// Why an index cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// It is not what an index looks like.
    #[error("the index makes no sense")]
    Json(#[from] JsonError),
    /// A blob that cannot be.
    #[error("the index places blob {blob} impossibly: {length} bytes at {offset}")]
    Place {
        /// The blob.
        blob: Id,
        /// Where.
        offset: u32,
        /// How long.
        length: u32,
    },
    /// A part of an entry is missing.
    #[error("an entry before byte {at} of the index has no `{part}`")]
    Missing {
        /// Where, counted from 0.
        at: u64,
        /// What.
        part: &'static str,
    },
}

impl IndexError {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        "run `repair index`: it makes the index anew from the packs"
    }
}

/// Writes an index file, holding only what it compresses to.
pub struct IndexWriter {
    file: UnpackedWriter,
    json: Vec<u8>,
    packs: usize,
    blobs: usize,
}

impl IndexWriter {
    /// An empty index.
    pub fn new(version: Version) -> Result<Self, UnpackedError> {
        let file = UnpackedWriter::new(version)?;
        Ok(Self { file, json: b"{\"packs\":[".to_vec(), packs: 0, blobs: 0 })
    }

    /// Adds a pack with all its blobs.
    pub fn add(&mut self, pack: &Id, blobs: &[PackedBlob]) -> Result<(), UnpackedError> {
        if self.packs > 0 {
            self.json.push(b',');
        }
        self.json.extend_from_slice(b"{\"id\":\"");
        pack.append_text(&mut self.json);
        self.json.extend_from_slice(b"\",\"blobs\":[");
        for (place, packed) in blobs.iter().enumerate() {
            if place > 0 {
                self.json.push(b',');
            }
            append_blob(packed, &mut self.json);
            if self.json.len() > 1 << 16 {
                self.pass_on()?;
            }
        }
        self.json.extend_from_slice(b"]}");
        self.packs += 1;
        self.blobs += blobs.len();
        self.pass_on()
    }

    /// How many blobs are in it. From [`INDEX_BLOBS_MAX`] on it is time to finish.
    pub fn blobs(&self) -> usize {
        self.blobs
    }

    /// How many packs are in it.
    pub fn packs(&self) -> usize {
        self.packs
    }

    /// The sealed file.
    pub fn finish(mut self, key: &MasterKey, nonce: Nonce) -> Result<Vec<u8>, UnpackedError> {
        self.json.extend_from_slice(b"]}\n");
        self.pass_on()?;
        self.file.finish(key, nonce)
    }

    fn pass_on(&mut self) -> Result<(), UnpackedError> {
        self.file.write_all(&self.json).map_err(UnpackedError::Compress)?;
        self.json.clear();
        Ok(())
    }
}

fn append_blob(packed: &PackedBlob, json: &mut Vec<u8>) {
    let blob = &packed.blob;
    json.extend_from_slice(b"{\"id\":\"");
    blob.id.append_text(json);
    json.extend_from_slice(match blob.kind {
        BlobKind::Data => b"\",\"type\":\"data\",\"offset\":",
        BlobKind::Tree => b"\",\"type\":\"tree\",\"offset\":",
    });
    append_number(u64::from(packed.offset), json);
    json.extend_from_slice(b",\"length\":");
    append_number(u64::from(blob.length), json);
    if let Some(bytes) = blob.uncompressed_length {
        json.extend_from_slice(b",\"uncompressed_length\":");
        append_number(u64::from(bytes.get()), json);
    }
    json.push(b'}');
}

/// Appends a number in decimal.
pub(crate) fn append_number(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// One line of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexEntry {
    /// The pack.
    pub pack: Id,
    /// The blob, and where in the pack it lies.
    pub packed: PackedBlob,
}

/// Reads an index's JSON, entry by entry. The same blob may come more than once.
pub struct IndexReader<R> {
    json: JsonReader<R>,
    state: State,
    /// Blobs read before their pack's id was known.
    held: VecDeque<PackedBlob>,
    pack: Option<Id>,
    is_first_pack: bool,
    is_first_member: bool,
    is_first_blob: bool,
    is_first_key: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    /// Between the keys of the outermost object.
    Keys,
    /// In the list of packs.
    Packs,
    /// Between the keys of a pack.
    Pack,
    /// In the list of a pack's blobs.
    Blobs,
    Done,
}

impl<R: Read> IndexReader<R> {
    /// A reader of the JSON `source` gives: see [`crate::unpacked::open_stream`].
    pub fn new(source: R) -> Self {
        Self {
            json: JsonReader::new(source),
            state: State::Start,
            held: VecDeque::new(),
            pack: None,
            is_first_pack: true,
            is_first_member: true,
            is_first_blob: true,
            is_first_key: true,
        }
    }

    /// The next entry; `None` at the end, which was then found to be sound.
    pub fn next_entry(&mut self) -> Result<Option<IndexEntry>, IndexError> {
        loop {
            match self.state {
                State::Start => {
                    self.json.expect(b'{', "an object")?;
                    self.state = State::Keys;
                }
                State::Keys => self.key()?,
                State::Packs => {
                    self.state = State::Keys;
                    if self.json.next_element(&mut self.is_first_pack)? {
                        self.json.expect(b'{', "a pack")?;
                        (self.pack, self.is_first_member) = (None, true);
                        self.state = State::Pack;
                    }
                }
                State::Pack => {
                    // The id may stand behind the blobs it is needed for.
                    if let (Some(pack), Some(packed)) = (self.pack, self.held.front().copied()) {
                        self.held.pop_front();
                        return Ok(Some(IndexEntry { pack, packed }));
                    }
                    self.member()?;
                }
                State::Blobs => match self.blob_of_list()? {
                    Some(packed) => match self.pack {
                        Some(pack) => return Ok(Some(IndexEntry { pack, packed })),
                        None => self.hold(packed)?,
                    },
                    None => self.state = State::Pack,
                },
                State::Done => return Ok(None),
            }
        }
    }

    fn key(&mut self) -> Result<(), IndexError> {
        match self.json.next_key(&mut self.is_first_key, &[b"packs"])? {
            Some(0) if !self.json.take_null()? => {
                self.json.expect(b'[', "a list of packs")?;
                self.is_first_pack = true;
                self.state = State::Packs;
            }
            Some(0) => {}
            Some(_) => self.json.skip()?,
            None => {
                self.json.end()?;
                self.state = State::Done;
            }
        }
        Ok(())
    }

    fn member(&mut self) -> Result<(), IndexError> {
        match self.json.next_key(&mut self.is_first_member, &[b"id", b"blobs"])? {
            Some(0) => self.pack = Some(self.json.id()?),
            Some(1) if !self.json.take_null()? => {
                self.json.expect(b'[', "a list of blobs")?;
                self.is_first_blob = true;
                self.state = State::Blobs;
            }
            Some(1) => {}
            Some(_) => self.json.skip()?,
            None if self.pack.is_none() => return self.missing("id"),
            None => self.state = State::Packs,
        }
        Ok(())
    }

    fn hold(&mut self, packed: PackedBlob) -> Result<(), IndexError> {
        if self.held.len() == HELD_BLOBS_MAX {
            return self.missing("id");
        }
        self.held.push_back(packed);
        Ok(())
    }

    fn missing<T>(&self, part: &'static str) -> Result<T, IndexError> {
        Err(IndexError::Missing { at: self.json.position(), part })
    }

    fn blob_of_list(&mut self) -> Result<Option<PackedBlob>, IndexError> {
        const KEYS: &[&[u8]] = &[b"id", b"type", b"offset", b"length", b"uncompressed_length"];
        if !self.json.next_element(&mut self.is_first_blob)? {
            return Ok(None);
        }
        self.json.expect(b'{', "a blob")?;
        let (mut id, mut kind, mut offset, mut length) = (None, None, None, None);
        let mut uncompressed_length = None;
        let mut is_first = true;
        while let Some(place) = self.json.next_key(&mut is_first, KEYS)? {
            match place {
                0 => id = Some(self.json.id()?),
                1 => kind = Some(self.kind()?),
                2 => offset = Some(self.json.number_u32()?),
                3 => length = Some(self.json.number_u32()?),
                // rustic writes `null` for what is not compressed.
                4 if self.json.take_null()? => {}
                4 => uncompressed_length = NonZeroU32::new(self.json.number_u32()?),
                _ => self.json.skip()?,
            }
        }
        let Some(id) = id else { return self.missing("id") };
        let Some(kind) = kind else { return self.missing("type") };
        let Some(offset) = offset else { return self.missing("offset") };
        let Some(length) = length else { return self.missing("length") };
        if (length as usize) < OVERHEAD_BYTES || offset.checked_add(length).is_none() {
            return Err(IndexError::Place { blob: id, offset, length });
        }
        let blob = SealedBlob { id, kind, length, uncompressed_length };
        Ok(Some(PackedBlob { blob, offset }))
    }

    fn kind(&mut self) -> Result<BlobKind, IndexError> {
        let mut text = Vec::with_capacity(4);
        self.json.string(&mut text, 32)?;
        match &text[..] {
            b"data" => Ok(BlobKind::Data),
            b"tree" => Ok(BlobKind::Tree),
            _ => Ok(self.json.wrong("after `data` or `tree`")?),
        }
    }
}

impl<R: Read> Iterator for IndexReader<R> {
    type Item = Result<IndexEntry, IndexError>;

    /// After an error there is nothing more.
    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_entry().transpose();
        if matches!(next, Some(Err(_))) {
            self.state = State::Done;
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compress::Decompressor;
    use crate::crypto::MASTER_KEY_BYTES;
    use crate::unpacked;

    fn key() -> MasterKey {
        MasterKey::from_bytes(&[7; MASTER_KEY_BYTES]).unwrap()
    }

    fn packed(place: u32) -> PackedBlob {
        PackedBlob {
            blob: SealedBlob {
                id: Id::of(&place.to_le_bytes()),
                kind: if place.is_multiple_of(2) { BlobKind::Data } else { BlobKind::Tree },
                length: 38 + place,
                uncompressed_length: NonZeroU32::new(place % 3),
            },
            offset: place * 100,
        }
    }

    fn read(json: &str) -> Result<Vec<IndexEntry>, IndexError> {
        IndexReader::new(json.as_bytes()).collect()
    }

    #[test]
    fn an_index_survives_being_written_and_read_in_both_versions() {
        for version in [Version::V1, Version::V2] {
            let mut writer = IndexWriter::new(version).unwrap();
            let mut expected = Vec::new();
            for pack in [Id::of(b"a"), Id::of(b"b"), Id::of(b"c")] {
                let blobs: Vec<PackedBlob> = (0..500).map(packed).collect();
                writer.add(&pack, &blobs).unwrap();
                expected.extend(blobs.iter().map(|packed| IndexEntry { pack, packed: *packed }));
            }
            assert_eq!((writer.packs(), writer.blobs()), (3, 1500));
            let mut file = writer.finish(&key(), [3; 16]).unwrap();
            let mut decompressor = Decompressor::new();
            let source = unpacked::open_stream(&mut file, &key(), &mut decompressor).unwrap();
            let entries: Vec<_> = IndexReader::new(source).map(Result::unwrap).collect();
            assert_eq!(entries, expected);
        }
    }

    #[test]
    fn an_index_is_written_as_restic_writes_it() {
        let mut writer = IndexWriter::new(Version::V1).unwrap();
        writer.add(&Id::of(b"a"), &[packed(0), packed(1)]).unwrap();
        let mut file = writer.finish(&key(), [3; 16]).unwrap();
        let json = unpacked::open_json(&mut file, &key(), 10_000).unwrap();
        let expected = format!(
            concat!(
                r#"{{"packs":[{{"id":"{}","blobs":["#,
                r#"{{"id":"{}","type":"data","offset":0,"length":38}},"#,
                r#"{{"id":"{}","type":"tree","offset":100,"length":39,"uncompressed_length":1}}"#,
                "]}}]}}\n"
            ),
            Id::of(b"a"),
            packed(0).blob.id,
            packed(1).blob.id,
        );
        assert_eq!(String::from_utf8(json).unwrap(), expected);
    }

    #[test]
    fn what_other_programs_write_is_tolerated() {
        let (a, b) = (Id::of(b"a"), Id::of(b"b"));
        let blob = format!(r#"{{"x":[],"length":40,"offset":7,"type":"data","id":"{b}"}}"#);
        let json = format!(
            concat!(
                r#"{{"supersedes":["{a}"],"packs":["#,
                r#"{{"blobs":[{blob},{blob}],"time":"x","id":"{a}"}},{{"id":"{b}","blobs":null}}"#,
                r#"],"packs_to_delete":[{{"id":"{b}","blobs":[{blob}]}}]}}"#
            ),
            a = a,
            b = b,
            blob = blob
        );
        let entries = read(&json).unwrap();
        assert_eq!(entries.len(), 2);
        assert!(entries.iter().all(|entry| entry.pack == a && entry.packed.blob.id == b));
        assert_eq!(read("{}").unwrap(), []);
        assert_eq!(read(r#"{"packs":null}"#).unwrap(), []);
        let json = format!(
            r#"{{"packs":[{{"id":"{a}","blobs":[{{"id":"{a}","type":"data","offset":0,"#,
            a = Id::of(b"a")
        ) + r#""length":40,"uncompressed_length":null}]}]}"#;
        assert_eq!(read(&json).unwrap()[0].packed.blob.uncompressed_length, None);
    }

    #[test]
    fn entries_that_cannot_be_and_files_cut_anywhere_are_refused() {
        let id = Id::of(b"a");
        let with = |blob: &str| read(&format!(r#"{{"packs":[{{"id":"{id}","blobs":[{blob}]}}]}}"#));
        let sound = format!(r#"{{"id":"{id}","type":"data","offset":1,"length":32}}"#);
        assert_eq!(with(&sound).unwrap().len(), 1);
        for (part, other) in [
            (r#""length":32"#, r#""length":31"#),
            (r#""length":32"#, r#""x":0"#),
            (r#""offset":1"#, r#""offset":4294967295"#),
            (r#""offset":1"#, r#""offset":-1"#),
            (r#""data""#, r#""other""#),
            (r#""id""#, r#""name""#),
        ] {
            assert!(with(&sound.replace(part, other)).is_err(), "{other}");
        }
        let whole = format!(r#"{{"packs":[{{"id":"{id}","blobs":[{sound}]}}]}}"#);
        for at in 0..whole.len() {
            assert!(read(&whole[..at]).is_err(), "cut at {at}");
        }
        assert!(read(&format!("{whole}x")).is_err());
        assert!(read(r#"{"packs":[{"blobs":[]}]}"#).is_err());
    }
}
