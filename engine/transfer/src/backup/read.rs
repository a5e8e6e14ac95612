//! Reading files and cutting them into chunks.
//!
//! A file is read in steps into the buffer of the chunk being found, so a chunk is copied only
//! where it is cut: what was read beyond it, less than a step. Holes are not read: a chunk of
//! zeros is made once, and then only named.

use super::content::Content;
use super::seal::Job;
use super::shared::Shared;
use crate::budget::Share;
use crate::posix;
use crossbeam_channel::Sender;
use engine_repository::chunker::CHUNK_BYTES_MAX;
use engine_repository::{Chunker, Id};
use nix::unistd::Whence;
use std::fs::File;
use std::io::{self, Read};

/// How much is read at once.
const STEP_BYTES: usize = 256 << 10;

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
        Self { shared, chunker, jobs, zeros: Zeros { bytes, id: None }, rest: Vec::new() }
    }

    /// The content of a file, and how many bytes were read. `seen` is told about bytes as they are
    /// read; `size` is what the file is expected to have.
    pub(super) fn read(
        &mut self,
        file: &File,
        size: u64,
        is_sparse: bool,
        seen: &mut dyn FnMut(u64),
    ) -> Result<(Content, u64), ReadEnd> {
        self.chunker.reset();
        let content = Content::default();
        let mut position = 0;
        let mut chunk = Growing::new(self.shared, size);
        loop {
            if self.shared.is_stopped() {
                return Err(ReadEnd::Stopped);
            }
            if is_sparse && chunk.bytes.is_empty() {
                position = self.pass_hole(file, position, &content, seen)?;
            }
            let before = chunk.bytes.len();
            let read = chunk.read_step(file, size.saturating_sub(position))?;
            position += read as u64;
            seen(read as u64);
            if read == 0 {
                break;
            }
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
        }
        if !chunk.bytes.is_empty() {
            self.send(chunk, &content)?;
        }
        Ok((content, position))
    }

    fn send(&self, mut chunk: Growing, content: &Content) -> Result<(), ReadEnd> {
        let bytes = std::mem::take(&mut chunk.bytes);
        // Itself, and what becomes of it.
        chunk.share.shrink(bytes.capacity() + bytes.len());
        let job = Job::Chunk { bytes, share: chunk.share, place: content.expect() };
        self.jobs.send(job).map_err(|_| ReadEnd::Stopped)
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
                Some(id) => content.push(id),
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

fn seek(file: &File, position: u64) -> Result<(), ReadEnd> {
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
