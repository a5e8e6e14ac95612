//! Records of the journal: each with its length and a sum, so that a torn one is seen.
//!
//! ```text
//! length u32le, first 8 bytes of the body's SHA-256, body
//! file body: shared u32, rest u32, rest of the path, size u64, mtime s i64 + ns u32,
//!            ctime s i64 + ns u32, inode u64, ids 32 bytes each
//! pack body: id 32 bytes, bytes of the file u64, and for each blob
//!            kind u8, id 32 bytes, offset u32, length u32, length uncompressed u32 (0: it is not)
//! ```
//!
//! Of a path only what differs from the one before is written.

use engine_repository::{BlobKind, Id, Node, PackedBlob, SealedBlob};
use std::cmp::Ordering;
use std::io::{BufReader, Read};
use std::num::NonZeroU32;

/// No record is longer: 16 MiB are the ids of a file of half a TiB.
pub(super) const RECORD_BYTES_MAX: usize = 16 << 20;
const SUM_BYTES: usize = 8;
/// Linux knows no longer ones; what is longer comes from damage.
const PATH_BYTES_MAX: usize = 64 << 10;

/// By what a file is known not to have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::backup) struct FileIdentity {
    size: u64,
    mtime: (i64, u32),
    ctime: (i64, u32),
    inode: u64,
}

impl FileIdentity {
    /// The identity of the file of this node.
    pub(in crate::backup) fn of(node: &Node) -> Self {
        Self {
            size: node.size,
            mtime: (node.mtime.seconds, node.mtime.nanoseconds),
            ctime: (node.ctime.seconds, node.ctime.nanoseconds),
            inode: node.inode,
        }
    }

    /// Bytes of the file.
    pub(super) fn size(&self) -> u64 {
        self.size
    }
}

/// A file that was read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileRecord {
    pub(super) path: Vec<u8>,
    pub(super) identity: FileIdentity,
    pub(super) content: Vec<Id>,
}

/// A pack that was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PackRecord {
    pub(super) id: Id,
    pub(super) bytes: u64,
    pub(super) blobs: Vec<PackedBlob>,
}

/// The order of the walk: folder by folder, in each by the bytes of the names.
pub(in crate::backup) fn in_walk_order(one: &[u8], other: &[u8]) -> Ordering {
    // No name holds a zero, so a folder's end sorts before everything.
    let key = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
    one.iter().map(key).cmp(other.iter().map(key))
}

/// Puts a body into a frame at the end of `out`; `false`, and nothing there, when it is too long.
pub(super) fn frame(body: &[u8], out: &mut Vec<u8>) -> bool {
    let Some(length) = u32::try_from(body.len()).ok().filter(|_| body.len() <= RECORD_BYTES_MAX)
    else {
        return false;
    };
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&sum(body));
    out.extend_from_slice(body);
    true
}

fn sum(body: &[u8]) -> [u8; SUM_BYTES] {
    let mut sum = [0; SUM_BYTES];
    sum.copy_from_slice(&Id::of(body).as_bytes()[..SUM_BYTES]);
    sum
}

/// Reads bodies until the end, or the first that is not whole.
pub(super) struct Bodies<R> {
    source: BufReader<R>,
    body: Vec<u8>,
}

impl<R: Read> Bodies<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source: BufReader::with_capacity(64 << 10, source), body: Vec::new() }
    }

    pub(super) fn next(&mut self) -> Option<&[u8]> {
        let mut head = [0; 4 + SUM_BYTES];
        self.source.read_exact(&mut head).ok()?;
        let mut head = Fields(&head);
        let length = head.u32()? as usize;
        self.body.clear();
        if length > RECORD_BYTES_MAX {
            return None;
        }
        (&mut self.source).take(length as u64).read_to_end(&mut self.body).ok()?;
        let is_whole = self.body.len() == length && sum(&self.body) == head.take::<SUM_BYTES>()?;
        is_whole.then_some(&self.body)
    }
}

impl FileRecord {
    /// Writes the record of a file that comes after the one at `before`.
    pub(super) fn body(&self, before: &[u8], out: &mut Vec<u8>) {
        let pairs = self.path.iter().zip(before);
        let shared = pairs.take_while(|(one, other)| one == other).count();
        let rest = &self.path[shared..];
        for length in [shared, rest.len()] {
            out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
        }
        out.extend_from_slice(rest);
        append_identity(&self.identity, out);
        for id in &self.content {
            out.extend_from_slice(id.as_bytes());
        }
    }

    /// Reads the record of a file that comes after the one at `before`.
    pub(super) fn of_body(body: &[u8], before: &[u8]) -> Option<Self> {
        let mut fields = Fields(body);
        let (shared, rest) = (fields.u32()? as usize, fields.u32()? as usize);
        if shared > before.len() || shared.saturating_add(rest) > PATH_BYTES_MAX {
            return None;
        }
        let mut path = before[..shared].to_vec();
        path.extend_from_slice(fields.bytes(rest)?);
        let identity = identity(&mut fields)?;
        let mut content = Vec::with_capacity(fields.0.len() / Id::BYTES);
        while !fields.0.is_empty() {
            content.push(fields.id()?);
        }
        Some(Self { path, identity, content })
    }
}

fn append_identity(identity: &FileIdentity, out: &mut Vec<u8>) {
    out.extend_from_slice(&identity.size.to_le_bytes());
    for (seconds, nanoseconds) in [identity.mtime, identity.ctime] {
        out.extend_from_slice(&seconds.to_le_bytes());
        out.extend_from_slice(&nanoseconds.to_le_bytes());
    }
    out.extend_from_slice(&identity.inode.to_le_bytes());
}

fn identity(fields: &mut Fields<'_>) -> Option<FileIdentity> {
    Some(FileIdentity {
        size: fields.u64()?,
        mtime: (fields.u64()?.cast_signed(), fields.u32()?),
        ctime: (fields.u64()?.cast_signed(), fields.u32()?),
        inode: fields.u64()?,
    })
}

impl PackRecord {
    pub(super) fn body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.id.as_bytes());
        out.extend_from_slice(&self.bytes.to_le_bytes());
        for PackedBlob { blob, offset } in &self.blobs {
            out.push(u8::from(blob.kind == BlobKind::Tree));
            out.extend_from_slice(blob.id.as_bytes());
            let uncompressed_length = blob.uncompressed_length.map_or(0, NonZeroU32::get);
            for number in [*offset, blob.length, uncompressed_length] {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
    }

    pub(super) fn of_body(body: &[u8]) -> Option<Self> {
        let mut fields = Fields(body);
        let (id, bytes) = (fields.id()?, fields.u64()?);
        let mut blobs = Vec::new();
        while !fields.0.is_empty() {
            let kind = match fields.take::<1>()? {
                [0] => BlobKind::Data,
                [1] => BlobKind::Tree,
                _ => return None,
            };
            let id = fields.id()?;
            let (offset, length) = (fields.u32()?, fields.u32()?);
            let uncompressed_length = NonZeroU32::new(fields.u32()?);
            let blob = SealedBlob { id, kind, length, uncompressed_length };
            blobs.push(PackedBlob { blob, offset });
        }
        Some(Self { id, bytes, blobs })
    }
}

/// What is left of a body.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, left) = self.0.split_at_checked(count)?;
        self.0 = left;
        Some(taken)
    }

    fn take<const COUNT: usize>(&mut self) -> Option<[u8; COUNT]> {
        self.bytes(COUNT)?.try_into().ok()
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn id(&mut self) -> Option<Id> {
        self.take::<{ Id::BYTES }>().map(Id::from_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, chunks: u8) -> FileRecord {
        let node =
            Node { inode: 7, size: 12, ..Node::new(path, engine_repository::NodeKind::File) };
        let content = (0..chunks).map(|number| Id::of(&[number])).collect();
        FileRecord { path: path.into(), identity: FileIdentity::of(&node), content }
    }

    #[test]
    fn what_was_written_is_read_again_up_to_a_torn_end_and_garbage_is_nothing() {
        let (mut bytes, mut body, mut before) = (Vec::new(), Vec::new(), Vec::new());
        let all = [file("/a/b", 1), file("/a/bc", 0), file("/a.txt", 3)];
        for record in &all {
            body.clear();
            record.body(&before, &mut body);
            assert!(frame(&body, &mut bytes));
            before.clone_from(&record.path);
        }
        for end in 0..=bytes.len() {
            let (mut bodies, mut before) = (Bodies::new(&bytes[..end]), Vec::new());
            let mut found = 0;
            while let Some(record) =
                bodies.next().and_then(|body| FileRecord::of_body(body, &before))
            {
                assert_eq!(record, all[found]);
                before = record.path;
                found += 1;
            }
            assert_eq!(found == all.len(), end == bytes.len(), "{found} of {end} bytes");
        }
        bytes[40] ^= 1;
        assert!(Bodies::new(&bytes[..]).next().is_none());
        assert!(Bodies::new(&[0xff; 100][..]).next().is_none());
        assert!(FileRecord::of_body(&[0xff; 100], b"/a").is_none());
        assert!(PackRecord::of_body(&[0xff; 100]).is_none());
    }

    #[test]
    fn a_pack_is_read_as_it_was_written() {
        let blob = |kind, length: u32| SealedBlob {
            id: Id::of(&length.to_le_bytes()),
            kind,
            length,
            uncompressed_length: NonZeroU32::new(length / 2),
        };
        let packed = |kind, length| PackedBlob { blob: blob(kind, length), offset: length * 3 };
        let blobs = vec![packed(BlobKind::Data, 1), packed(BlobKind::Tree, 500)];
        let record = PackRecord { id: Id::of(b"pack"), bytes: 1 << 40, blobs };
        let mut body = Vec::new();
        record.body(&mut body);
        assert_eq!(PackRecord::of_body(&body), Some(record));
    }

    #[test]
    fn the_order_is_that_of_the_walk_where_a_folder_comes_before_what_only_begins_like_it() {
        let sorted = ["/a", "/a/z", "/a/z/z", "/a.txt", "/a0", "/b"];
        for pair in sorted.windows(2) {
            assert_eq!(in_walk_order(pair[0].as_bytes(), pair[1].as_bytes()), Ordering::Less);
        }
    }
}
