//! What the trees of all snapshots say: whether they open, and whether what they need is there.
//!
//! Files are not asked about one by one. Their blobs wait until there are many, and are looked for
//! in the order of the index: then a page of it is read once for all that are on it, not once for
//! each. What is found is told in the order of the trees all the same.

use super::{Checker, LOST};
use crate::blobs::Fetcher;
use crate::browse::path_text;
use crate::errors::sentence;
use crate::index::Index;
use crate::tree_walk::{TreeWalk, Visitor};
use crate::{Result, TransferError};
use engine_repository::{BlobKind, FileKind, Id, Node, NodeKind, Snapshot};
use engine_storage::StorageError;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// So much of the pipeline's memory is for what waits: one part of these.
const WAITING_PARTS: u64 = 16;
/// A blob that waits takes its id, and its place in the order.
const BLOB_BYTES: usize = Id::BYTES + size_of::<(u64, u32)>();
/// Somebody who wants to stop waits no longer than so many blobs take.
const BLOBS_AT_ONCE: usize = 256;

/// Visits every tree of every snapshot once.
pub(super) fn visit(checker: &Checker<'_>, index: &Index, snapshots: &[(Id, u64)]) -> Result<()> {
    let mut fetcher = Fetcher::new(checker.repository, index);
    let mut walk = TreeWalk::new(checker.repository, checker.cancel, |id| fetcher.tree(id))
        .each_once(checker.repository);
    let mut looking = Looking::new(checker, index);
    for (id, _) in snapshots {
        let read = checker.repository.read_unpacked::<Snapshot>(FileKind::Snapshot, *id);
        let snapshot = match read {
            Ok(snapshot) => snapshot,
            Err(TransferError::Storage(StorageError::NotFound { .. })) => continue,
            Err(error @ (TransferError::Damaged { .. } | TransferError::Storage(_))) => {
                looking.ask()?;
                checker.damage(sentence(&error), LOST);
                continue;
            }
            Err(error) => return Err(error),
        };
        checker.lock().report.snapshots += 1;
        looking.snapshot = *id;
        walk.walk(&snapshot.tree, &mut looking)?;
    }
    looking.ask()
}

/// Looks at nodes, and has files wait until their blobs are asked for.
struct Looking<'a> {
    checker: &'a Checker<'a>,
    index: &'a Index,
    snapshot: Id,
    waiting: Waiting,
    /// Places of ids in a list, in the order of the index.
    order: Vec<(u64, u32)>,
    waiting_bytes_max: usize,
}

/// Files whose blobs were not asked for yet.
#[derive(Default)]
struct Waiting {
    folders: Vec<Folder>,
    files: Vec<File>,
    /// The names of the files, one behind the other.
    names: Vec<u8>,
    /// Their blobs.
    ids: Vec<Id>,
    bytes: usize,
}

struct Folder {
    snapshot: Id,
    path: PathBuf,
}

/// A file, and where what it has ends.
struct File {
    folder: usize,
    name_end: usize,
    ids_end: usize,
}

impl Waiting {
    fn push(&mut self, snapshot: Id, folder: &Path, name: &[u8], content: &[Id]) {
        let is_in_last =
            |last: &Folder| last.snapshot == snapshot && last.path.as_os_str() == folder;
        if !self.folders.last().is_some_and(is_in_last) {
            self.folders.push(Folder { snapshot, path: folder.to_owned() });
            self.bytes += size_of::<Folder>() + folder.as_os_str().len();
        }
        self.names.extend_from_slice(name);
        self.ids.extend_from_slice(content);
        let folder = self.folders.len() - 1;
        self.files.push(File { folder, name_end: self.names.len(), ids_end: self.ids.len() });
        self.bytes += size_of::<File>() + name.len() + content.len() * BLOB_BYTES;
    }

    fn clear(&mut self) {
        self.folders.clear();
        self.files.clear();
        self.names.clear();
        self.ids.clear();
        self.bytes = 0;
    }
}

impl<'a> Looking<'a> {
    fn new(checker: &'a Checker<'a>, index: &'a Index) -> Self {
        let bytes_max = checker.repository.plan().pipeline_bytes / WAITING_PARTS;
        Self {
            checker,
            index,
            snapshot: Id::ZERO,
            waiting: Waiting::default(),
            order: Vec::new(),
            waiting_bytes_max: usize::try_from(bytes_max).unwrap_or(usize::MAX),
        }
    }

    fn file(&mut self, folder: &Path, name: &[u8], content: &[Id]) -> Result<()> {
        if content.len() * BLOB_BYTES < self.waiting_bytes_max {
            self.waiting.push(self.snapshot, folder, name, content);
            return match self.waiting.bytes < self.waiting_bytes_max {
                true => Ok(()),
                false => self.ask(),
            };
        }
        self.ask()?;
        let (mut all, mut first) = (0, None);
        for some in content.chunks((self.waiting_bytes_max / BLOB_BYTES).max(1)) {
            let missing = missing(self.checker, self.index, &mut self.order, some)?;
            all += missing.len();
            first = first.or(missing.first().map(|place| some[*place]));
        }
        if let Some(first) = first {
            let path = folder.join(OsStr::from_bytes(name));
            tell_missing(self.checker, self.snapshot, &path, (all, content.len()), first);
        }
        Ok(())
    }

    /// Asks for the blobs of all that waits, and tells of the files that lack some.
    fn ask(&mut self) -> Result<()> {
        let waiting = &mut self.waiting;
        let missing = missing(self.checker, self.index, &mut self.order, &waiting.ids)?;
        let mut missing = missing.into_iter().peekable();
        let (mut name_start, mut ids_start) = (0, 0);
        for file in &waiting.files {
            let first = missing.peek().map(|place| waiting.ids[*place]);
            let mut all = 0;
            while missing.next_if(|place| *place < file.ids_end).is_some() {
                all += 1;
            }
            if let Some(first) = first.filter(|_| all > 0) {
                let Folder { snapshot, path } = &waiting.folders[file.folder];
                let name = OsStr::from_bytes(&waiting.names[name_start..file.name_end]);
                let blobs = (all, file.ids_end - ids_start);
                tell_missing(self.checker, *snapshot, &path.join(name), blobs, first);
            }
            (name_start, ids_start) = (file.name_end, file.ids_end);
        }
        waiting.clear();
        Ok(())
    }

    /// Something is wrong with what is at this path, beside missing blobs.
    fn lost(&mut self, path: &Path, why: &str) -> Result<()> {
        // What came before is told before.
        self.ask()?;
        tell(self.checker, self.snapshot, path, why);
        Ok(())
    }
}

impl Visitor for Looking<'_> {
    fn node(&mut self, folder: &Path, node: &Node) -> Result<()> {
        let path = || folder.join(OsStr::from_bytes(&node.name));
        match (node.kind, &node.content, &node.subtree) {
            (NodeKind::File, None, _) => self.lost(&path(), "it has no list of content"),
            (NodeKind::File, Some(content), _) => self.file(folder, &node.name, content),
            (NodeKind::Directory, _, None) => self.lost(&path(), "it has no content"),
            _ => Ok(()),
        }
    }

    fn unreadable(&mut self, folder: &Path, error: TransferError) -> Result<()> {
        self.lost(folder, &sentence(&error))
    }
}

/// The places of the ids that are in no pack, in their order.
fn missing(
    checker: &Checker<'_>,
    index: &Index,
    order: &mut Vec<(u64, u32)>,
    ids: &[Id],
) -> Result<Vec<usize>> {
    order.clear();
    order.extend(ids.iter().map(beginning).zip(0_u32..));
    order.sort_unstable();
    let mut missing = Vec::new();
    let mut last = None;
    for some in order.chunks(BLOBS_AT_ONCE) {
        if checker.cancel.is_cancelled() {
            return Err(TransferError::Cancelled);
        }
        for (_, place) in some {
            let place = *place as usize;
            let is_there = match last {
                Some((id, is_there)) if id == ids[place] => is_there,
                _ => index.has(BlobKind::Data, &ids[place])?,
            };
            last = Some((ids[place], is_there));
            if !is_there {
                missing.push(place);
            }
        }
    }
    missing.sort_unstable();
    Ok(missing)
}

/// Ids are sums: their first bits say nearly always which comes first.
fn beginning(id: &Id) -> u64 {
    id.as_bytes()[..8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn tell_missing(
    checker: &Checker<'_>,
    snapshot: Id,
    path: &Path,
    (missing, all): (usize, usize),
    first: Id,
) {
    let why = format!("{missing} of its {all} blobs are missing ({first} first)");
    tell(checker, snapshot, path, &why);
}

fn tell(checker: &Checker<'_>, snapshot: Id, path: &Path, why: &str) {
    let (snapshot, path) = (snapshot.short(), path_text(path));
    checker.damage(format!("snapshot {snapshot}: {path}: {why}"), LOST);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cancel, InitRequest, KdfCost, Repository, Who};
    use engine_contract::memory::{MIB, MemoryPlan};
    use engine_repository::{PackedBlob, SealedBlob};
    use std::sync::Arc;

    /// What is told of a few files when so much memory may be used.
    fn told_with(pipeline_bytes: u64) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let storage = Arc::new(engine_storage::Folder::at(folder.path()));
        let (hostname, username) = ("box".to_owned(), "ann".to_owned());
        let who = Who { hostname, username, uid: 0, gid: 0, pid: std::process::id() };
        let key_cost = KdfCost { n: 1024, r: 8, p: 1 };
        let request = InitRequest { key_cost, ..InitRequest::default() };
        let plan = MemoryPlan { pipeline_bytes, ..MemoryPlan::of(64 * MIB) };
        let repository = Repository::init_as(storage, "secret", &who, &plan, &request).unwrap();
        let index = Index::load(&repository).unwrap();
        let blob = |number: u32| {
            let id = Id::of(&number.to_be_bytes());
            let blob =
                SealedBlob { kind: BlobKind::Data, id, length: 100, uncompressed_length: None };
            PackedBlob { blob, offset: number * 100 }
        };
        // Every third is missing.
        let there: Vec<_> = (0..300).filter(|number| number % 3 > 0).map(blob).collect();
        index.stored(Id::of(b"pack"), &there).unwrap();
        let (cancel, events) = (Cancel::new(), |_| {});
        let checker = Checker::new(&repository, &events, &cancel);
        let mut looking = Looking::new(&checker, &index);
        for number in 0..60_u32 {
            looking.snapshot = Id::of(&[number as u8 / 30]);
            let folder = format!("/folder {}", number / 7);
            let mut node = Node::new(format!("file {number}"), NodeKind::File);
            let ids = (number..number + number % 50).map(|number| blob(number).blob.id);
            node.content = (number != 33).then(|| ids.collect());
            looking.node(Path::new(&folder), &node).unwrap();
        }
        looking.ask().unwrap();
        checker.report().findings.into_iter().map(|finding| finding.fact).collect()
    }

    #[test]
    fn however_little_may_wait_the_same_is_told_in_the_order_of_the_trees() {
        let told = told_with(32 * MIB);
        let expected = |number: u32| {
            let missing = (number..number + number % 50).filter(|number| number % 3 == 0);
            match number {
                33 => Some("it has no list of content".to_owned()),
                number => missing.clone().next().map(|first| {
                    let (missing, first) = (missing.count(), Id::of(&first.to_be_bytes()));
                    format!("{missing} of its {} blobs are missing ({first} first)", number % 50)
                }),
            }
        };
        let expected: Vec<_> = (0..60_u32)
            .filter_map(|number| {
                let snapshot = Id::of(&[number as u8 / 30]).short();
                let path = format!("/folder {}/file {number}", number / 7);
                Some(format!("snapshot {snapshot}: {path}: {}", expected(number)?))
            })
            .collect();
        assert_eq!(told, expected);
        for blobs in [0, 1, 5, 17, 49, 50, 51, 400] {
            let bytes = blobs * WAITING_PARTS * BLOB_BYTES as u64;
            assert_eq!(told_with(bytes), expected, "room for {blobs} blobs");
        }
    }
}
