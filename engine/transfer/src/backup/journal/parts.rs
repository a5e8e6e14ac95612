//! The journal's files of which only a part was read: where to go on in a file of a TiB.
//!
//! There are two, used in turn: what a file that was just finished holds is needed until the list
//! of finished files has it. Each begins with a record of path and identity; the others list the
//! chunks in order. It is gone on behind the last chunk that is stored.

use super::records::{Bodies, FileIdentity, FileRecord, frame, in_walk_order};
use engine_repository::Id;
use std::cmp::Ordering;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Smaller files are read again: 32 MiB take a second.
pub(in crate::backup) const PARTS_FILE_BYTES_MIN: u64 = 32 << 20;
/// A part lists no more chunks: half a million, some 500 GiB.
const CHUNKS_MAX: usize = 1 << 19;
const CHUNK_RECORD_BYTES: usize = Id::BYTES + 4;

/// One chunk: its id and bytes.
pub(in crate::backup) type Chunk = (Id, u32);

/// The two parts.
pub(super) struct Parts {
    slots: [Slot; 2],
    /// The slot of the file being read; `None` when it is not recorded.
    current: Option<usize>,
}

struct Slot {
    path: PathBuf,
    /// The file it is about, as the walk names it.
    about: Option<(Vec<u8>, FileIdentity)>,
    file: Option<File>,
    chunks: usize,
}

impl Parts {
    pub(super) fn at(paths: [PathBuf; 2]) -> Self {
        let slot = |path: PathBuf| {
            let record = Bodies::new(File::open(&path).ok()?)
                .next()
                .and_then(|body| FileRecord::of_body(body, &[]))?;
            Some((record.path, record.identity))
        };
        let slots = paths.map(|path| {
            let about = slot(path.clone());
            Slot { path, about, file: None, chunks: 0 }
        });
        Self { slots, current: None }
    }

    /// A large file begins. Gives what is known of its beginning.
    pub(super) fn begin(&mut self, path: &[u8], identity: &FileIdentity) -> Vec<Chunk> {
        let is_it = |slot: &Slot| {
            slot.about.as_ref().is_some_and(|(its, identical)| its == path && identical == identity)
        };
        if let Some(place) = self.slots.iter().position(is_it) {
            self.current = Some(place);
            return self.slots[place].chunks();
        }
        let last = self.current;
        // One that the walk has not come to yet is kept.
        let is_free = |slot: &Slot| {
            slot.about.as_ref().is_none_or(|(its, _)| in_walk_order(its, path) != Ordering::Greater)
        };
        let mut free = (0..2).filter(|place| is_free(&self.slots[*place]));
        let first = free.next();
        self.current = if first.is_some() && first == last { free.next().or(first) } else { first };
        if let Some(place) = self.current {
            let about = Some((path.to_vec(), *identity));
            (self.slots[place].about, self.slots[place].file) = (about, None);
        }
        Vec::new()
    }

    /// Only so many of the chunks that [`Parts::begin`] gave are stored: the rest is wrong.
    pub(super) fn keep(&mut self, chunks: &[Chunk]) -> io::Result<()> {
        let Some(slot) = self.current.map(|place| &mut self.slots[place]) else { return Ok(()) };
        slot.restart()?;
        slot.append(chunks)
    }

    /// More of the file is known.
    pub(super) fn add(&mut self, chunks: &[Chunk]) -> io::Result<()> {
        let Some(slot) = self.current.map(|place| &mut self.slots[place]) else { return Ok(()) };
        if slot.file.is_none() {
            slot.restart()?;
        }
        slot.append(chunks)
    }
}

impl Slot {
    fn chunks(&self) -> Vec<Chunk> {
        let Ok(file) = File::open(&self.path) else { return Vec::new() };
        let (mut bodies, mut chunks) = (Bodies::new(file), Vec::new());
        bodies.next();
        while let Some(body) = bodies.next() {
            for chunk in body.chunks_exact(CHUNK_RECORD_BYTES) {
                let (id, bytes) = chunk.split_at(Id::BYTES);
                let (Ok(id), Ok(bytes)) = (id.try_into(), bytes.try_into()) else { break };
                chunks.push((Id::from_bytes(id), u32::from_le_bytes(bytes)));
            }
            if chunks.len() >= CHUNKS_MAX {
                break;
            }
        }
        chunks
    }

    fn restart(&mut self) -> io::Result<()> {
        let Some((path, identity)) = &self.about else { return Ok(()) };
        let mut file = create(&self.path)?;
        let record = FileRecord { path: path.clone(), identity: *identity, content: Vec::new() };
        let (mut body, mut framed) = (Vec::new(), Vec::new());
        record.body(&[], &mut body);
        frame(&body, &mut framed);
        file.write_all(&framed)?;
        (self.file, self.chunks) = (Some(file), 0);
        Ok(())
    }

    fn append(&mut self, chunks: &[Chunk]) -> io::Result<()> {
        self.chunks += chunks.len();
        let Some(file) = self.file.as_mut().filter(|_| self.chunks <= CHUNKS_MAX) else {
            return Ok(());
        };
        let (mut body, mut framed) = (Vec::new(), Vec::new());
        for (id, bytes) in chunks {
            body.extend_from_slice(id.as_bytes());
            body.extend_from_slice(&bytes.to_le_bytes());
        }
        if !body.is_empty() && frame(&body, &mut framed) {
            file.write_all(&framed)?;
        }
        Ok(())
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine_repository::{Node, NodeKind};

    fn identity(size: u64) -> FileIdentity {
        FileIdentity::of(&Node { size, ..Node::new("x", NodeKind::File) })
    }

    fn chunks(from: u32, to: u32) -> Vec<Chunk> {
        (from..to).map(|number| (Id::of(&number.to_le_bytes()), number + 1)).collect()
    }

    #[test]
    fn what_was_read_of_a_large_file_is_known_to_the_next_run_while_it_is_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let parts = || Parts::at(["0", "1"].map(|name| folder.path().join(name)));
        let mut first = parts();
        assert_eq!(first.begin(b"/b", &identity(7)), []);
        first.add(&chunks(0, 5)).unwrap();
        first.add(&chunks(5, 9)).unwrap();
        assert_eq!(parts().begin(b"/b", &identity(8)), [], "it has changed");
        let mut second = parts();
        assert_eq!(second.begin(b"/a", &identity(1)), [], "that one is new");
        second.add(&chunks(50, 60)).unwrap();
        assert_eq!(second.begin(b"/b", &identity(7)), chunks(0, 9));
        second.keep(&chunks(0, 7)).unwrap();
        second.add(&chunks(7, 12)).unwrap();
        assert_eq!(parts().begin(b"/b", &identity(7)), chunks(0, 12));
        assert_eq!(parts().begin(b"/a", &identity(1)), chunks(50, 60), "not in the list yet");
        second.begin(b"/c", &identity(1));
        second.add(&chunks(0, 1)).unwrap();
        assert_eq!(parts().begin(b"/b", &identity(7)), chunks(0, 12), "the last but one stays");
    }
}
