//! What is there and what of it is needed: sorted by pack, on disk.
//!
//! 1. the trees of all snapshots tell which blobs are needed: sorted by blob;
//! 2. the entries of all index files are sorted by blob, and laid beside those;
//! 3. with what was found they are sorted by pack. Of a blob that is needed and has several copies,
//!    one is chosen: in a pack that has other blobs that are needed, so that more packs can go as
//!    a whole, or else in one without waste, which the work of a prune that was cut off is.

use super::must_go_on;
use super::records::{
    Ahead, BLOB_BYTES, BlobRecord, Lookup, NAMED_BYTES, PACK_BYTES, PLACED_BYTES, Placed,
    PlacedRecord, blob_of, blob_record, mark, named_record, pack_record,
};
use crate::blobs::{Fetcher, TreeNodes};
use crate::browse::each_snapshot;
use crate::index::{Index, Location, each_entry};
use crate::record_file::{RecordFile, RecordWriter};
use crate::sorter::{Sorted, Sorter};
use crate::tree_walk::{TreeWalk, Visitor};
use crate::{Cancel, Repository, Result, TransferError};
use engine_repository::{BlobKind, FileKind, Id, Node};
use engine_storage::StorageError;
use std::path::Path;

/// An index file.
pub(super) struct IndexFile {
    pub(super) id: Id,
    pub(super) blobs: usize,
}

/// What is there.
pub(super) struct Survey {
    /// The snapshots that were walked.
    pub(super) snapshots: Vec<Id>,
    pub(super) index_files: Vec<IndexFile>,
    /// Which index files name which packs; sorted by pack.
    pub(super) named: RecordFile<NAMED_BYTES>,
    /// The packs that are there, and their sizes; sorted.
    pub(super) there: RecordFile<PACK_BYTES>,
    /// Every entry of the index with its mark; packs together and sorted.
    pub(super) placed: RecordFile<PLACED_BYTES>,
    /// The trees the snapshots need; sorted.
    pub(super) trees: RecordFile<{ Id::BYTES }>,
}

/// A sorter that holds so many sixteenths of what index and pipeline may take together.
pub(super) fn sorter<const BYTES: usize>(
    repository: &Repository,
    sixteenths: u64,
) -> Sorter<BYTES> {
    let plan = repository.plan();
    let held = (plan.index_bytes + plan.pipeline_bytes) / 16 * sixteenths;
    Sorter::new(repository.cache(), usize::try_from(held).unwrap_or(usize::MAX))
}

/// Sorted records in a file, each once.
pub(super) fn kept<const BYTES: usize>(
    repository: &Repository,
    sorter: Sorter<BYTES>,
) -> Result<RecordFile<BYTES>> {
    let mut writer = RecordWriter::in_scratch(repository.cache())?;
    let mut sorted = Ahead::new(sorter.finish()?)?;
    while let Some(record) = sorted.take()? {
        writer.push(&record)?;
    }
    writer.finish()
}

impl Survey {
    /// Looks at everything. Snapshots are listed before the index is read, and the index before
    /// the packs are listed: what a backup adds meanwhile is at worst not seen.
    pub(super) fn make(repository: &Repository, cancel: &Cancel) -> Result<Self> {
        let mut roots = Vec::new();
        each_snapshot(repository, &mut |id, snapshot| roots.push((id, snapshot.tree)))?;
        let used = mark_needed(repository, &roots, cancel)?;
        let mut entries = sorter::<PLACED_BYTES>(repository, 4);
        let mut named = sorter::<NAMED_BYTES>(repository, 1);
        let index_files = read_index(repository, &mut entries, &mut named, cancel)?;
        let named = kept(repository, named)?;
        let there = list_packs(repository)?;
        let judged = judge(repository, entries.finish_aside()?, used, cancel)?;
        let placed = match judged.has_copies {
            true => choose_copies(repository, &judged.placed, &there, cancel)?,
            false => judged.placed,
        };
        let snapshots = roots.iter().map(|(id, _)| *id).collect();
        Ok(Self { snapshots, index_files, named, there, placed, trees: judged.trees })
    }
}

/// The packs that are there, sorted.
pub(super) fn list_packs(repository: &Repository) -> Result<RecordFile<PACK_BYTES>> {
    let mut there = sorter::<PACK_BYTES>(repository, 1);
    let mut failure = None;
    repository.storage().list(FileKind::Pack, &mut |id, bytes| {
        if failure.is_none() {
            failure = there.push(pack_record(&id, bytes)).err();
        }
        Ok(())
    })?;
    match failure {
        Some(error) => Err(error),
        None => kept(repository, there),
    }
}

fn read_index(
    repository: &Repository,
    entries: &mut Sorter<PLACED_BYTES>,
    named: &mut Sorter<NAMED_BYTES>,
    cancel: &Cancel,
) -> Result<Vec<IndexFile>> {
    let mut files: Vec<IndexFile> = Vec::new();
    let mut last = None;
    let all = each_entry(repository, &mut |file, pack, packed| {
        if files.last().is_none_or(|last| last.id != file) {
            files.push(IndexFile { id: file, blobs: 0 });
        }
        let number = files.len() - 1;
        files[number].blobs += 1;
        if last.replace((file, pack)) != Some((file, pack)) {
            must_go_on(cancel)?;
            named.push(named_record(&pack, u32::try_from(number).unwrap_or(u32::MAX)))?;
        }
        entries.push(Placed { pack, mark: 0, packed: *packed }.by_blob())
    })?;
    for id in all {
        // Those without entries.
        if !files.iter().any(|file| file.id == id) {
            files.push(IndexFile { id, blobs: 0 });
        }
    }
    Ok(files)
}

/// Walks trees; `known` ones are not gone into again. Gives what they need.
pub(super) struct Marking<'a> {
    pub(super) needed: Sorter<BLOB_BYTES>,
    pub(super) known: Option<&'a RecordFile<{ Id::BYTES }>>,
}

impl Visitor for Marking<'_> {
    fn enters(&mut self, _folder: &Path, tree: &Id) -> Result<bool> {
        if let Some(known) = self.known
            && known.find(tree.as_bytes())?.is_some()
        {
            return Ok(false);
        }
        self.needed.push(blob_record(BlobKind::Tree, tree))?;
        Ok(true)
    }

    fn node(&mut self, _folder: &Path, node: &Node) -> Result<()> {
        for id in node.content.iter().flatten() {
            self.needed.push(blob_record(BlobKind::Data, id))?;
        }
        Ok(())
    }
}

/// What the snapshots with these roots need.
fn mark_needed(
    repository: &Repository,
    roots: &[(Id, Id)],
    cancel: &Cancel,
) -> Result<Sorted<BLOB_BYTES>> {
    let index = Index::load_or_stop(repository, cancel)?;
    let mut marking = Marking { needed: sorter(repository, 3), known: None };
    let mut trees = Trees::new(repository, &index);
    let mut walk = TreeWalk::new(repository, cancel, |id| trees.get(id)).each_once(repository);
    for (_, root) in roots {
        walk.walk(root, &mut marking)?;
    }
    marking.needed.finish_aside()
}

/// Trees, each from the copy the index finds or, if that cannot be read, from another.
pub(super) struct Trees<'a> {
    repository: &'a Repository,
    fetcher: Fetcher<'a>,
    /// Every copy of every tree, sorted by tree; made when it is wanted.
    copies: Option<RecordFile<PLACED_BYTES>>,
}

impl<'a> Trees<'a> {
    pub(super) fn new(repository: &'a Repository, index: &'a Index) -> Self {
        Self { repository, fetcher: Fetcher::new(repository, index), copies: None }
    }

    pub(super) fn get(&mut self, id: &Id) -> Result<TreeNodes> {
        match self.fetcher.tree(id) {
            Err(error) if is_of_pack(&error) => {
                self.other_copy(id).transpose().unwrap_or(Err(error))
            }
            tree => tree,
        }
    }

    fn other_copy(&mut self, id: &Id) -> Result<Option<TreeNodes>> {
        let copies = match &self.copies {
            Some(copies) => copies,
            None => {
                let mut copies = sorter::<PLACED_BYTES>(self.repository, 2);
                each_entry(self.repository, &mut |_, pack, packed| match packed.blob.kind {
                    BlobKind::Data => Ok(()),
                    BlobKind::Tree => {
                        copies.push(Placed { pack, mark: 0, packed: *packed }.by_blob())
                    }
                })?;
                self.copies.insert(kept(self.repository, copies)?)
            }
        };
        let wanted = blob_record(BlobKind::Tree, id);
        for record in copies.records_from(&wanted)? {
            let record = record?;
            if !record.starts_with(&wanted) {
                break;
            }
            let Placed { pack, packed, .. } = Placed::of_by_blob(&record);
            match self.fetcher.tree_at(&Location { pack, packed }) {
                Err(error) if is_of_pack(&error) => {}
                tree => return tree.map(Some),
            }
        }
        Ok(None)
    }
}

/// Whether another pack may help.
pub(super) fn is_of_pack(error: &TransferError) -> bool {
    use StorageError::{NotFound, Short};
    matches!(
        error,
        TransferError::Damaged { .. } | TransferError::Storage(NotFound { .. } | Short { .. })
    )
}

/// Of an entry sorted by blob, what says where which blob lies.
const PLACE_BYTES: usize = PLACED_BYTES - 8;

struct Judged {
    placed: RecordFile<PLACED_BYTES>,
    has_copies: bool,
    trees: RecordFile<{ Id::BYTES }>,
}

/// Lays entries beside what is needed. A blob that is needed and in no index stops everything.
fn judge(
    repository: &Repository,
    entries: Sorted<PLACED_BYTES>,
    used: Sorted<BLOB_BYTES>,
    cancel: &Cancel,
) -> Result<Judged> {
    let mut placed = sorter::<PLACED_BYTES>(repository, 4);
    let mut trees = RecordWriter::in_scratch(repository.cache())?;
    let mut has_copies = false;
    let mut entries = Ahead::new(entries)?;
    let mut used = Ahead::new(used)?;
    let blob_of_entry = |record: &PlacedRecord| {
        let mut blob = [0; BLOB_BYTES];
        blob.copy_from_slice(&record[..BLOB_BYTES]);
        blob
    };
    let mut last: Option<(BlobRecord, bool)> = None;
    let mut last_place = None;
    while let Some(record) = entries.take()? {
        must_go_on(cancel)?;
        // Two index files may say different things about one place.
        let mut place = [0; PLACE_BYTES];
        place.copy_from_slice(&record[..PLACE_BYTES]);
        if last_place.replace(place) == Some(place) {
            continue;
        }
        let blob = blob_of_entry(&record);
        let is_another = last.is_some_and(|(last, _)| last == blob);
        let is_used = match last {
            Some((last, is_used)) if last == blob => is_used,
            _ => {
                if used.peek().is_some_and(|used| *used < blob) {
                    return Err(missing(used.peek()));
                }
                let is_used = used.peek() == Some(&blob);
                if is_used {
                    used.take()?;
                    push_tree(&mut trees, &blob)?;
                }
                is_used
            }
        };
        last = Some((blob, is_used));
        let has_more = entries.peek().is_some_and(|next| next.starts_with(&blob));
        let mut entry = Placed::of_by_blob(&record);
        entry.mark = match (is_used, is_another || has_more) {
            (false, _) => mark::WASTE,
            (true, false) => mark::NEEDED,
            (true, true) => mark::COPY,
        };
        has_copies |= entry.mark == mark::COPY;
        placed.push(entry.by_pack())?;
    }
    if used.peek().is_some() {
        return Err(missing(used.peek()));
    }
    drop((entries, used));
    Ok(Judged { placed: kept(repository, placed)?, has_copies, trees: trees.finish()? })
}

fn push_tree(trees: &mut RecordWriter<{ Id::BYTES }>, blob: &BlobRecord) -> Result<()> {
    match blob_of(blob) {
        (BlobKind::Tree, id) => trees.push(id.as_bytes()),
        _ => Ok(()),
    }
}

pub(super) fn missing(blob: Option<&BlobRecord>) -> TransferError {
    let (kind, id) = blob.map_or((BlobKind::Data, Id::ZERO), blob_of);
    let kind = if kind == BlobKind::Data { "data blob" } else { "tree" };
    TransferError::BlobMissing { kind, id }
}

/// The best packs to keep a copy in come first.
mod rank {
    pub(super) const HAS_NEEDED: u8 = 0;
    pub(super) const HAS_NEEDED_AND_WASTE: u8 = 1;
    pub(super) const HAS_COPIES_ONLY: u8 = 2;
    pub(super) const HAS_WASTE: u8 = 3;
    pub(super) const IS_MISSING: u8 = 4;
}

/// Decides for each blob that is needed which of its copies is.
fn choose_copies(
    repository: &Repository,
    placed: &RecordFile<PLACED_BYTES>,
    there: &RecordFile<PACK_BYTES>,
    cancel: &Cancel,
) -> Result<RecordFile<PLACED_BYTES>> {
    let mut copies = sorter::<PLACED_BYTES>(repository, 4);
    let mut there = Lookup::new(there.records())?;
    let (mut pack, mut has_needed, mut has_waste) = (None, false, false);
    for record in placed.records() {
        must_go_on(cancel)?;
        let mut entry = Placed::of_by_pack(&record?);
        if pack.replace(entry.pack) != Some(entry.pack) {
            (has_needed, has_waste) = (false, false);
        }
        // Copies come after all else in their pack.
        has_needed |= entry.mark == mark::NEEDED;
        has_waste |= entry.mark == mark::WASTE;
        if entry.mark == mark::COPY {
            let is_there = there.find(entry.pack.as_bytes())?.is_some();
            entry.mark = match (is_there, has_needed, has_waste) {
                (false, ..) => rank::IS_MISSING,
                (true, true, false) => rank::HAS_NEEDED,
                (true, true, true) => rank::HAS_NEEDED_AND_WASTE,
                (true, false, false) => rank::HAS_COPIES_ONLY,
                (true, false, true) => rank::HAS_WASTE,
            };
            copies.push(entry.by_blob())?;
        }
    }
    let mut chosen = sorter::<PLACED_BYTES>(repository, 4);
    let mut last = None;
    for record in copies.finish_aside()? {
        let mut entry = Placed::of_by_blob(&record?);
        let blob = blob_record(entry.packed.blob.kind, &entry.packed.blob.id);
        if last.replace(blob) == Some(blob) {
            continue;
        }
        if entry.mark == rank::IS_MISSING {
            return Err(missing(Some(&blob)));
        }
        entry.mark = mark::COPY;
        chosen.push(entry.by_pack())?;
    }
    let mut chosen = Lookup::new(chosen.finish()?)?;
    let mut decided = RecordWriter::in_scratch(repository.cache())?;
    for record in placed.records() {
        let record = record?;
        let mut entry = Placed::of_by_pack(&record);
        if entry.mark == mark::COPY {
            let is_chosen = chosen.find(&record)?.is_some();
            entry.mark = if is_chosen { mark::NEEDED } else { mark::SPARE };
        }
        decided.push(&entry.by_pack())?;
    }
    decided.finish()
}
