//! The journal's list of finished files: written in the order of the walk, and read beside it.

use super::records::{Bodies, FileIdentity, FileRecord, frame, in_walk_order};
use engine_repository::Id;
use std::cmp::Ordering;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The list grows no further: 1 GiB, some ten million files. Checkpoints still help then.
const LIST_BYTES_MAX: u64 = 1 << 30;
/// So much is held before it is written.
const HELD_BYTES_MAX: usize = 64 << 10;
/// After files of so many bytes together the list is written, whatever is held: 16 MiB, as in a
/// pack.
const UNWRITTEN_FILE_BYTES_MAX: u64 = 16 << 20;

/// Writes a list.
pub(super) struct ListWriter {
    file: File,
    held: Vec<u8>,
    body: Vec<u8>,
    /// The path written last.
    before: Vec<u8>,
    bytes: u64,
    unwritten_file_bytes: u64,
}

impl ListWriter {
    pub(super) fn new(file: File) -> Self {
        Self {
            file,
            held: Vec::new(),
            body: Vec::new(),
            before: Vec::new(),
            bytes: 0,
            unwritten_file_bytes: 0,
        }
    }

    /// Adds a file. One out of order, or too large to be told, is left out: it is read again.
    pub(super) fn push(&mut self, record: &FileRecord) -> io::Result<()> {
        let is_next = in_walk_order(&self.before, &record.path) == Ordering::Less;
        if !is_next || self.bytes >= LIST_BYTES_MAX {
            return Ok(());
        }
        self.body.clear();
        record.body(&self.before, &mut self.body);
        let held = self.held.len();
        if frame(&self.body, &mut self.held) {
            self.before.clone_from(&record.path);
        }
        self.bytes += (self.held.len() - held) as u64;
        self.unwritten_file_bytes += record.identity.size();
        let is_much = self.held.len() >= HELD_BYTES_MAX
            || self.unwritten_file_bytes >= UNWRITTEN_FILE_BYTES_MAX;
        if is_much { self.flush() } else { Ok(()) }
    }

    /// Gives the system what is held: it survives us now.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let written = self.file.write_all(&self.held);
        self.held.clear();
        self.unwritten_file_bytes = 0;
        written
    }

    /// Makes it survive a power cut.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        self.file.sync_data()
    }
}

/// Reads a list, up to where it is damaged or torn.
struct ListReader {
    bodies: Bodies<File>,
    before: Vec<u8>,
}

impl Iterator for ListReader {
    type Item = FileRecord;

    fn next(&mut self) -> Option<FileRecord> {
        let record = FileRecord::of_body(self.bodies.next()?, &self.before)?;
        self.before.clone_from(&record.path);
        Some(record)
    }
}

fn read(path: &Path) -> Option<ListReader> {
    Some(ListReader { bodies: Bodies::new(File::open(path).ok()?), before: Vec::new() })
}

/// Puts two lists together; where both know a file, what `newer` says holds.
pub(super) fn merge(newer: &Path, older: &Path, out: File) -> io::Result<()> {
    let mut writer = ListWriter::new(out);
    let mut newer = read(newer).into_iter().flatten().peekable();
    let mut older = read(older).into_iter().flatten().peekable();
    loop {
        let order = match (newer.peek(), older.peek()) {
            (Some(new), Some(old)) => in_walk_order(&new.path, &old.path),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return writer.sync(),
        };
        if order != Ordering::Less {
            let old = older.next();
            if let (Some(old), Ordering::Greater) = (old, order) {
                writer.push(&old)?;
            }
        }
        if order != Ordering::Greater
            && let Some(new) = newer.next()
        {
            writer.push(&new)?;
        }
    }
}

/// Files that runs before finished, read beside the walk. Holds one at a time.
#[derive(Default)]
pub(in crate::backup) struct FinishedFiles {
    records: Option<ListReader>,
    /// Read already, but behind what was asked for.
    ahead: Option<FileRecord>,
}

impl FinishedFiles {
    pub(super) fn read(path: &Path) -> Self {
        Self { records: read(path), ahead: None }
    }

    /// What the file held, if it is still the one that was finished. Paths must be asked for in the
    /// order of the walk.
    pub(in crate::backup) fn find(
        &mut self,
        path: &Path,
        identity: &FileIdentity,
    ) -> Option<Vec<Id>> {
        loop {
            let record = match self.ahead.take() {
                Some(record) => record,
                None => match self.records.as_mut()?.next() {
                    Some(record) => record,
                    None => {
                        self.records = None;
                        return None;
                    }
                },
            };
            match in_walk_order(&record.path, path.as_os_str().as_bytes()) {
                Ordering::Less => {}
                Ordering::Equal => {
                    return (record.identity == *identity).then_some(record.content);
                }
                Ordering::Greater => {
                    self.ahead = Some(record);
                    return None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine_repository::{Node, NodeKind};
    use std::fs;

    fn file(path: &str, version: u64) -> FileRecord {
        let node = Node { size: version, ..Node::new("x", NodeKind::File) };
        let content = vec![Id::of(format!("{path} {version}").as_bytes())];
        FileRecord { path: path.into(), identity: FileIdentity::of(&node), content }
    }

    fn write(path: &Path, files: &[FileRecord]) {
        let mut writer = ListWriter::new(File::create(path).unwrap());
        files.iter().for_each(|file| writer.push(file).unwrap());
        writer.flush().unwrap();
    }

    #[test]
    fn two_runs_that_were_cut_off_are_remembered_together_and_the_later_is_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        write(&path("older"), &[file("/a/b", 1), file("/a/c", 1), file("/a.x", 1), file("/z", 1)]);
        write(&path("newer"), &[file("/a/a", 2), file("/a/c", 2), file("/a.x", 1)]);
        merge(&path("newer"), &path("older"), File::create(path("both")).unwrap()).unwrap();
        let mut finished = FinishedFiles::read(&path("both"));
        let mut find = |name: &str, version| {
            let known = file(name, version);
            finished.find(Path::new(name), &known.identity) == Some(known.content)
        };
        assert!(find("/a/a", 2) && find("/a/b", 1));
        assert!(!find("/a/bb", 1), "nobody knows it");
        assert!(find("/a/c", 2) && find("/a.x", 1));
        assert!(!find("/z", 2), "it is another now");
    }

    #[test]
    fn a_list_that_is_torn_or_not_there_tells_what_it_can() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        let (one, two) = (file("/1", 1), file("/2", 1));
        assert!(FinishedFiles::read(&path).find(Path::new("/1"), &one.identity).is_none());
        write(&path, &[one.clone(), two.clone()]);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        let mut finished = FinishedFiles::read(&path);
        assert!(finished.find(Path::new("/1"), &one.identity).is_some());
        assert!(finished.find(Path::new("/2"), &two.identity).is_none());
    }
}
