//! Reading files that may be large, one at a time, and cutting them into chunks.
//!
//! A file is read in steps into the buffer of the chunk being found, so a chunk is copied only
//! where it is cut: what was read beyond it, less than a step. Holes are not read: a chunk of
//! zeros is made once, and then only named.
//!
//! Of a large file the journal is told as it is read, and a run that comes after one that was cut
//! off goes on where that one came to: cuts depend on nothing before the last.

use super::content::Content;
use super::journal::{Chunk, FileIdentity, PARTS_FILE_BYTES_MIN};
use super::seal::{Job, ReadChunk};
use super::shared::Shared;
use crate::budget::Share;
use crate::posix;
use crossbeam_channel::Sender;
use engine_repository::chunker::CHUNK_BYTES_MAX;
use engine_repository::{BlobKind, Chunker, Id};
use nix::unistd::Whence;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// How much is read at once.
const STEP_BYTES: usize = 256 << 10;

/// After so many chunks of a large file the journal is told.
const CHUNKS_UNTOLD_MAX: usize = 8;

/// What a file held, and how many bytes of it were read now and before.
pub(super) struct ReadFile {
    pub(super) content: Content,
    pub(super) bytes: u64,
    pub(super) bytes_before: u64,
}

/// Why a file's content did not come.
pub(super) enum ReadEnd {
    /// The system says so.
    Failed(io::Error),
    /// The backup is coming to an end.
    Stopped,
}

/// Reads files, one after the other.
pub(super) struct FileReader<'a> {
    shared: &'a Shared<'a>,
    chunker: Chunker,
    jobs: Sender<Job>,
    zeros: Zeros,
    /// What was read beyond a cut.
    rest: Vec<u8>,
    /// Bytes of the chunks of a large file the journal was not told of yet, and the number of the
    /// first of them.
    untold: (Vec<u32>, usize),
    is_large: bool,
}

/// The chunk that zeros are cut into.
struct Zeros {
    bytes: usize,
    /// Known once it was stored.
    id: Option<Id>,
}

impl<'a> FileReader<'a> {
    pub(super) fn new(shared: &'a Shared<'a>, mut chunker: Chunker, jobs: Sender<Job>) -> Self {
        let bytes = length_of_zero_chunk(&mut chunker);
        let zeros = Zeros { bytes, id: None };
        let (rest, untold) = (Vec::new(), (Vec::new(), 0));
        Self { shared, chunker, jobs, zeros, rest, untold, is_large: false }
    }

    /// The content of the file at `path`. `seen` is told about bytes as they are read; `size` is
    /// what the file is expected to have.
    pub(super) fn read(
        &mut self,
        file: &File,
        (path, identity): (&Path, &FileIdentity),
        size: u64,
        is_sparse: bool,
        seen: &mut dyn FnMut(u64),
    ) -> Result<ReadFile, ReadEnd> {
        self.chunker.reset();
        let content = Content::default();
        let bytes_before = self.go_on(file, path, identity, size, &content)?;
        let mut position = bytes_before;
        seen(position);
        let mut chunk = Growing::new(self.shared, size);
        loop {
            if self.shared.is_stopped() {
                return Err(ReadEnd::Stopped);
            }
            if is_sparse && chunk.bytes.is_empty() {
                position = self.pass_hole(file, position, &content, seen)?;
            }
            let before = chunk.bytes.len();
            let left = size.saturating_sub(position);
            let read = chunk.read_step(file, left)?;
            position += read as u64;
            seen(read as u64);
            if read == 0 {
                break;
            }
            // There was one byte more to read, and the system said there is none.
            let is_whole = read as u64 == left && left < STEP_BYTES as u64;
            let mut start = before;
            while let Some(cut) = self.chunker.next_cut(&chunk.bytes[start..]) {
                let end = start + cut;
                self.rest.clear();
                if is_sparse && end < chunk.bytes.len() {
                    // Read it again: there may be a hole right here.
                    position -= (chunk.bytes.len() - end) as u64;
                    seek(file, position)?;
                } else {
                    self.rest.extend_from_slice(&chunk.bytes[end..]);
                }
                chunk.bytes.truncate(end);
                // Gone before the next one asks for its share.
                self.send(chunk, &content)?;
                chunk = Growing::new(self.shared, size.saturating_sub(position));
                chunk.append(&self.rest);
                start = 0;
            }
            if is_whole && position == size {
                break;
            }
        }
        if !chunk.bytes.is_empty() {
            self.send(chunk, &content)?;
        }
        Ok(ReadFile { content, bytes: position, bytes_before })
    }

    /// Takes over what a run before read of a large file, and says where it goes on.
    fn go_on(
        &mut self,
        file: &File,
        path: &Path,
        identity: &FileIdentity,
        size: u64,
        content: &Content,
    ) -> Result<u64, ReadEnd> {
        self.is_large = size >= PARTS_FILE_BYTES_MIN;
        self.untold = (Vec::new(), 0);
        if !self.is_large {
            return Ok(0);
        }
        let is_stored = |id: &Id| self.shared.is_there(BlobKind::Data, id);
        let known = self.shared.journal.part_begins(path, identity, &is_stored);
        let mut position = 0;
        for (id, bytes) in &known {
            content.push(*id);
            position += u64::from(*bytes);
        }
        self.untold.1 = known.len();
        if position > 0 {
            seek(file, position)?;
        }
        Ok(position)
    }

    /// Tells the journal what is known of a large file, now that another chunk is.
    fn tell(&mut self, bytes: usize, content: &Content) {
        if !self.is_large {
            return;
        }
        let (untold, first) = &mut self.untold;
        untold.push(u32::try_from(bytes).unwrap_or(u32::MAX));
        if untold.len() < CHUNKS_UNTOLD_MAX {
            return;
        }
        let known = content.known_from(*first);
        let chunks: Vec<Chunk> = known.into_iter().zip(untold.iter().copied()).collect();
        self.shared.journal.part_grows(&chunks);
        untold.drain(..chunks.len());
        *first += chunks.len();
    }

    fn send(&mut self, mut chunk: Growing, content: &Content) -> Result<(), ReadEnd> {
        let bytes = std::mem::take(&mut chunk.bytes);
        let length = bytes.len();
        // Itself, and what becomes of it.
        chunk.share.shrink(bytes.capacity() + bytes.len());
        let chunk = ReadChunk { bytes, share: chunk.share, place: content.expect() };
        self.jobs.send(Job::Chunks(vec![chunk])).map_err(|_| ReadEnd::Stopped)?;
        self.tell(length, content);
        Ok(())
    }

    /// Names chunks of zeros as long as there is a hole, and says where it goes on.
    fn pass_hole(
        &mut self,
        file: &File,
        start: u64,
        content: &Content,
        seen: &mut dyn FnMut(u64),
    ) -> Result<u64, ReadEnd> {
        let Ok(end) = posix::end_of_hole(file, start) else {
            seek(file, start)?;
            return Ok(start);
        };
        let step = self.zeros.bytes as u64;
        let mut position = start;
        while end.saturating_sub(position) >= step {
            match self.zeros.id {
                Some(id) => {
                    content.push(id);
                    self.tell(self.zeros.bytes, content);
                }
                None => {
                    let mut chunk = Growing::new(self.shared, step);
                    chunk.append(&vec![0; self.zeros.bytes]);
                    self.zeros.id = Some(Id::of(&chunk.bytes));
                    self.send(chunk, content)?;
                }
            }
            position += step;
            seen(step);
        }
        seek(file, position)?;
        Ok(position)
    }
}

/// A chunk whose end is not found yet.
struct Growing {
    bytes: Vec<u8>,
    share: Share,
}

impl Growing {
    /// An empty chunk of a file of which so many bytes are left.
    fn new(shared: &Shared<'_>, bytes_left: u64) -> Self {
        let bytes = usize::try_from(bytes_left).map_or(STEP_BYTES, |left| left.min(STEP_BYTES));
        // Its plaintext, and what becomes of it.
        let share = shared.budget.take(2 * bytes);
        Self { bytes: shared.buffers.take(bytes + 1), share }
    }

    fn append(&mut self, bytes: &[u8]) {
        self.share.grow(2 * (self.bytes.len() + bytes.len()));
        self.bytes.extend_from_slice(bytes);
    }

    /// Reads the next step; 0 is the end of the file.
    fn read_step(&mut self, mut file: &File, bytes_left: u64) -> Result<usize, ReadEnd> {
        // One byte more than is expected, to find the end with one call.
        let step = usize::try_from(bytes_left).map_or(STEP_BYTES, |left| STEP_BYTES.min(left + 1));
        self.share.grow(2 * (self.bytes.len() + step));
        if self.bytes.capacity() - self.bytes.len() < step {
            let more = self.bytes.len().max(step).min(CHUNK_BYTES_MAX);
            self.bytes.reserve_exact(more);
        }
        Read::take(&mut file, step as u64).read_to_end(&mut self.bytes).map_err(ReadEnd::Failed)
    }
}

pub(super) fn seek(file: &File, position: u64) -> Result<(), ReadEnd> {
    posix::seek(file, position, Whence::SeekSet).map(|_| ()).map_err(ReadEnd::Failed)
}

/// What zeros are cut into, which a chunker that forgets everything at a cut does always alike.
fn length_of_zero_chunk(chunker: &mut Chunker) -> usize {
    chunker.reset();
    let zeros = vec![0; STEP_BYTES];
    let mut bytes = 0;
    loop {
        match chunker.next_cut(&zeros) {
            Some(cut) => return bytes + cut,
            None => bytes += zeros.len(),
        }
    }
}
