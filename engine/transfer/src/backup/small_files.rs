//! Small files, read by helpers: a disk is quicker when it is asked for several at a time, and a
//! message for each of them would cost more than hashing it.
//!
//! The walk hands over some files of one folder together, a [`Batch`]; helpers open and read
//! them, send what was in them to the workers, and leave in the batch's answer what the collector
//! needs to know. Everything a batch may take of the budget is taken before the first file is
//! opened, and nobody asks for more with some of it in hand: threads never wait for each other's
//! memory. A file that is not as small as it looked waits until the batch is done, and is then
//! read as large ones are, by one thread at a time.

use super::awaited::Awaited;
use super::content::{Content, Place};
use super::digest::is_same;
use super::journal::FileIdentity;
use super::node::{NodeMaker, attributes_of_open};
use super::read::{FileReader, ReadEnd, ReadFile, seek};
use super::seal::{Job, ReadChunk};
use super::shared::Shared;
use crate::mutex::lock;
use crate::posix::{Folder, Kind, Stat, c_name};
use crossbeam_channel::Sender;
use engine_repository::Node;
use engine_repository::chunker::CHUNK_BYTES_MIN;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// A batch is handed over when it has so many files, or such a number of bytes in them.
const FILES_MAX: usize = 16;
const BYTES_MAX: u64 = 128 << 10;

/// What the collector gets to know of a batch, once it is read.
pub(super) type Answer = Awaited<Option<Vec<Found>>>;

/// Some small files of one folder, in the order of names.
pub(super) struct Batch {
    folder: Arc<Folder>,
    path: PathBuf,
    files: Vec<SmallFile>,
    bytes: u64,
    pub(super) answer: Arc<Answer>,
}

/// A file as the walk saw it.
pub(super) struct SmallFile {
    pub(super) node: Box<Node>,
    pub(super) stat: Stat,
    /// Whether a snapshot before has a file of that name.
    pub(super) was_known: bool,
}

/// What became of a file.
pub(super) struct Found {
    pub(super) node: Box<Node>,
    pub(super) was_known: bool,
    /// It did not come out as it is: the next run looks again.
    pub(super) is_unsettled: bool,
    /// What was in it, or why that is not known.
    pub(super) read: io::Result<ReadFile>,
    /// Why its extended attributes are not known.
    pub(super) problem: Option<io::Error>,
}

/// Whether a file is one for a batch: it is never cut, and no hole in it is worth passing over.
pub(super) fn is_small(stat: &Stat) -> bool {
    stat.size < CHUNK_BYTES_MIN as u64
}

impl Batch {
    pub(super) fn new(folder: &Arc<Folder>, path: PathBuf) -> Self {
        let files = Vec::with_capacity(FILES_MAX);
        Self { folder: folder.clone(), path, files, bytes: 0, answer: Arc::default() }
    }

    pub(super) fn is_in(&self, folder: &Arc<Folder>) -> bool {
        Arc::ptr_eq(&self.folder, folder)
    }

    pub(super) fn add(&mut self, file: SmallFile) {
        self.bytes += file.stat.size;
        self.files.push(file);
    }

    pub(super) fn is_full(&self) -> bool {
        self.files.len() >= FILES_MAX || self.bytes >= BYTES_MAX
    }
}

/// Reads batches, one at a time.
pub(super) struct Reader<'a, 'b> {
    shared: &'a Shared<'a>,
    /// What reads what turned out not to be small.
    large: Arc<Mutex<FileReader<'b>>>,
    /// For files that changed since the walk saw them.
    maker: NodeMaker,
    jobs: Sender<Job>,
}

/// What is to be done about a file that was opened.
enum Left {
    /// Nothing: there is nothing in it, or it cannot be read.
    Nothing,
    /// To have its only chunk named and stored.
    Chunk(Vec<u8>, Place),
    /// To read it: there is more in it than it looked.
    Everything(File, Stat),
}

impl<'a, 'b> Reader<'a, 'b> {
    pub(super) fn new(
        shared: &'a Shared<'a>,
        large: Arc<Mutex<FileReader<'b>>>,
        maker: NodeMaker,
        jobs: Sender<Job>,
    ) -> Self {
        Self { shared, large, maker, jobs }
    }

    /// Reads all files of a batch; `None` when the backup ends.
    pub(super) fn read(&mut self, batch: Batch) -> Option<()> {
        let Batch { folder, path, files, bytes, answer } = batch;
        let mut share = self.shared.budget.take(room_for(bytes, files.len()));
        let mut all = Vec::with_capacity(files.len());
        let (mut chunks, mut grown) = (Vec::with_capacity(files.len()), Vec::new());
        for file in files {
            let room = room_for(file.stat.size, 1);
            let (found, left) = self.open(&folder, file);
            match left {
                Left::Nothing => {}
                Left::Chunk(bytes, place) => {
                    let mut share = share.split(room);
                    share.shrink(bytes.capacity() + bytes.len());
                    chunks.push(ReadChunk { bytes, share, place });
                }
                Left::Everything(file, stat) => grown.push((all.len(), file, stat)),
            }
            all.push(found);
        }
        drop((folder, share));
        if !chunks.is_empty() {
            self.jobs.send(Job::Chunks(chunks)).ok()?;
        }
        for (place, file, stat) in grown {
            self.read_on(&mut all[place], &path, &file, &stat)?;
        }
        answer.change(|answer| {
            *answer = Some(all);
            true
        });
        Some(())
    }

    /// Opens a file and reads it, if it is as small as it looked.
    fn open(&mut self, folder: &Folder, file: SmallFile) -> (Found, Left) {
        let SmallFile { node, stat: looked, was_known } = file;
        let (is_unsettled, problem) = (false, None);
        let read = Ok(ReadFile { content: Content::default(), bytes: 0, bytes_before: 0 });
        let mut found = Found { node, was_known, is_unsettled, problem, read };
        let left = self.look_into(folder, &looked, &mut found).unwrap_or_else(|cause| {
            found.read = Err(cause);
            Left::Nothing
        });
        (found, left)
    }

    fn look_into(&mut self, folder: &Folder, looked: &Stat, found: &mut Found) -> io::Result<Left> {
        let name = c_name(&found.node.name).ok_or(io::ErrorKind::InvalidInput)?;
        let file = folder.file(&name)?;
        let stat = Stat::of_open(file.as_fd())?;
        if !is_same(looked, &stat) {
            found.is_unsettled = true;
            if stat.kind != Kind::File {
                return Err(became_another());
            }
            *found.node = self.maker.node(name.to_bytes(), &stat);
        }
        match attributes_of_open(&file) {
            Ok(attributes) => found.node.extended_attributes = attributes,
            Err(cause) => found.problem = Some(cause),
        }
        if stat.size > looked.size {
            return Ok(Left::Everything(file, stat));
        }
        let mut bytes = self.shared.buffers.take(room_for(looked.size, 1) / 2);
        if !is_all(&file, stat.size, &mut bytes)? {
            return Ok(Left::Everything(file, stat));
        }
        let Ok(read) = &mut found.read else { return Ok(Left::Nothing) };
        read.bytes = bytes.len() as u64;
        found.node.size = read.bytes;
        found.is_unsettled |= read.bytes != stat.size;
        match bytes.is_empty() {
            true => Ok(Left::Nothing),
            false => Ok(Left::Chunk(bytes, read.content.expect())),
        }
    }

    /// Reads a file of which more was there than was told; `None` when the backup ends.
    fn read_on(&self, found: &mut Found, folder: &Path, file: &File, stat: &Stat) -> Option<()> {
        let path = folder.join(OsStr::from_bytes(&found.node.name));
        let known = (path.as_path(), &FileIdentity::of(&found.node));
        let is_sparse = stat.allocated_bytes < stat.size;
        let read = seek(file, 0).and_then(|()| {
            let seen = &mut |_| {};
            lock(&self.large).read(file, known, stat.size, is_sparse, seen)
        });
        found.read = match read {
            Err(ReadEnd::Stopped) => return None,
            Err(ReadEnd::Failed(cause)) => Err(cause),
            Ok(read) => {
                found.is_unsettled |= read.bytes != stat.size;
                found.node.size = read.bytes;
                Ok(read)
            }
        };
        Some(())
    }
}

/// Bytes of the budget that files take: what is in them, one byte more of each to find its end
/// with, and as much again for what becomes of them.
fn room_for(bytes: u64, files: usize) -> usize {
    2 * (usize::try_from(bytes).unwrap_or(usize::MAX / 4) + files)
}

/// What is told of a file that was a file when it was looked at.
pub(super) fn became_another() -> io::Error {
    io::Error::other("it became something else while it was opened")
}

/// Reads a file that should have so many bytes; `false` when it has more.
fn is_all(mut file: &File, size: u64, bytes: &mut Vec<u8>) -> io::Result<bool> {
    let size = usize::try_from(size).unwrap_or(usize::MAX - 1);
    bytes.resize(size + 1, 0);
    let mut at = 0;
    loop {
        match file.read(&mut bytes[at..]) {
            Ok(0) => break,
            Ok(read) => at += read,
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => continue,
            Err(cause) => return Err(cause),
        }
        if at > size {
            return Ok(false);
        }
        // One byte more was asked for than came, and no less came than was told: this is the end.
        if at == size {
            break;
        }
    }
    bytes.truncate(at);
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::super::errands::{ERRANDS_WAITING_MAX, Errand, HELPERS, help};
    use super::super::journal::Journal;
    use super::super::lazy_index::LazyIndex;
    use super::super::look::Looker;
    use super::super::select::Patterns;
    use super::super::shared::repository_in;
    use super::*;
    use crate::Cancel;
    use crate::budget::Budget;
    use crate::locks::HeldLock;
    use engine_repository::{Id, NodeKind};
    use std::collections::HashMap;
    use std::fs;

    /// The batch of these files as they are now.
    fn batch(folder: &Path, names: &[&str]) -> Batch {
        let open = Arc::new(Folder::at(folder).unwrap());
        let mut batch = Batch::new(&open, folder.to_owned());
        for name in names {
            let stat = open.stat(&c_name(name.as_bytes()).unwrap()).unwrap();
            let node = Box::new(Node::new(*name, NodeKind::File));
            batch.add(SmallFile { node, stat, was_known: false });
        }
        batch
    }

    /// What came of a file: whether the next run looks again, and what was in it.
    type Came = (bool, io::Result<Vec<u8>>);

    /// Has batches read by all readers in so many bytes of memory, while the walk reads `large`.
    fn read(batches: Vec<Batch>, memory_bytes: usize, large: &Path) -> Vec<Came> {
        let place = tempfile::tempdir().unwrap();
        let repository = repository_in(place.path());
        let (cancel, lock_file) = (Cancel::new(), HeldLock::acquire(&repository, false).unwrap());
        let index = LazyIndex::of(&repository, &cancel);
        let journal = Journal::default();
        let mut shared = Shared::new(&repository, &index, None, &lock_file, journal, &cancel);
        shared.budget = Budget::of(memory_bytes);
        let (shared, excludes) = (&shared, &Patterns::new(&[]).unwrap());
        let (errands_in, errands_out) = crossbeam_channel::bounded(ERRANDS_WAITING_MAX);
        let (jobs_in, jobs) = crossbeam_channel::bounded(1);
        let reader = FileReader::new(shared, repository.chunker(), jobs_in.clone());
        let reader = Arc::new(Mutex::new(reader));
        let answers: Vec<_> = batches.iter().map(|batch| batch.answer.clone()).collect();
        std::thread::scope(|scope| {
            for _ in 0..HELPERS {
                let maker = NodeMaker::new(jiff::tz::TimeZone::UTC);
                let small = Reader::new(shared, reader.clone(), maker, jobs_in.clone());
                let (looker, errands) = (Looker { shared, excludes }, errands_out.clone());
                scope.spawn(move || help(looker, small, &errands));
            }
            drop((jobs_in, errands_out));
            let worker = scope.spawn(move || {
                let mut chunks = HashMap::new();
                while let Ok(Job::Chunks(job)) = jobs.recv() {
                    for ReadChunk { bytes, place, share } in job {
                        let id = Id::of(&bytes);
                        place.set(id);
                        chunks.insert(id, bytes);
                        drop(share);
                    }
                }
                chunks
            });
            for batch in batches {
                let file = File::open(large).unwrap();
                let known = (large, &FileIdentity::of(&Node::new("large", NodeKind::File)));
                let bytes = file.metadata().unwrap().len();
                let read = lock(&reader).read(&file, known, bytes, false, &mut |_| {});
                assert!(read.is_ok_and(|read| read.bytes == bytes));
                errands_in.send(Errand::Files(batch)).unwrap();
            }
            drop((errands_in, reader));
            let found = answers.iter().map(|answer| answer.wait(shared, Option::take).unwrap());
            let found: Vec<_> = found.flatten().collect();
            let chunks = worker.join().unwrap();
            let came = |file: Found| {
                let ids = file.read.map(|read| read.content.wait(shared).unwrap());
                let bytes = ids.map(|ids| ids.iter().flat_map(|id| chunks[id].clone()).collect());
                (file.is_unsettled, bytes)
            };
            found.into_iter().map(came).collect()
        })
    }

    #[test]
    fn files_that_change_between_a_look_and_the_reading_are_stored_as_they_are_read() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        let names = ["empty", "gone", "grown", "pipe", "same", "shrunk"];
        names.iter().for_each(|name| fs::write(at(name), vec![7; 3000]).unwrap());
        fs::write(at("empty"), "").unwrap();
        let batch = batch(place.path(), &names);
        fs::remove_file(at("gone")).unwrap();
        let grown: Vec<u8> = (0..3 << 20).map(|at: u32| (at / 7) as u8).collect();
        fs::write(at("grown"), &grown).unwrap();
        fs::remove_file(at("pipe")).unwrap();
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::write(at("shrunk"), "little").unwrap();
        let came = read(vec![batch], 1 << 20, &at("grown"));
        let [empty, gone, grown_came, pipe, same, shrunk] = came.try_into().unwrap();
        assert!(matches!(empty, (false, Ok(bytes)) if bytes.is_empty()));
        assert_eq!(gone.1.unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(matches!(grown_came, (true, Ok(bytes)) if bytes == grown));
        assert!(matches!(pipe, (true, Err(cause)) if cause.to_string().contains("something else")));
        assert!(matches!(same, (false, Ok(bytes)) if bytes == vec![7; 3000]));
        assert!(matches!(shrunk, (true, Ok(bytes)) if bytes == b"little"));
    }

    #[test]
    fn a_file_whose_size_says_nothing_is_read_to_its_end() {
        // Those of the kernel have no size before they are read.
        let told = fs::read("/proc/self/limits").unwrap();
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("large"), "x").unwrap();
        let folder = Path::new("/proc/self");
        let came = read(vec![batch(folder, &["limits"])], 1 << 20, &place.path().join("large"));
        assert!(matches!(&came[..], [(true, Ok(bytes))] if *bytes == told));
    }

    #[test]
    fn readers_with_too_little_memory_for_all_of_them_never_wait_for_each_other() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        let names: Vec<String> = (0..FILES_MAX).map(|number| format!("{number:02}")).collect();
        names.iter().for_each(|name| fs::write(at(name), vec![1; 9000]).unwrap());
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let batches: Vec<_> = (0..40).map(|_| batch(place.path(), &names)).collect();
        // Each fourth is not small any more, in every batch.
        let is_grown = |place: usize| place.is_multiple_of(4);
        for (_, name) in names.iter().enumerate().filter(|(place, _)| is_grown(*place)) {
            fs::write(at(name), vec![2; 1 << 20]).unwrap();
        }
        // One batch takes more than there is.
        let came = read(batches, 100_000, &at("00"));
        assert_eq!(came.len(), 40 * FILES_MAX);
        for (place, (is_unsettled, bytes)) in came.into_iter().enumerate() {
            let bytes_now = if is_grown(place) { 1 << 20 } else { 9000 };
            assert_eq!((is_unsettled, bytes.unwrap().len()), (is_grown(place), bytes_now));
        }
    }
}
