//! Phase two, alone in the repository: what came since phase one is looked at, then the index is
//! switched, and what nobody needs is removed.
//!
//! Packs that hold what a new snapshot needs, or that a new index file names, are *spared*: they
//! stay, and a new index file names them.

use super::Job;
use super::PruneReport;
use super::ages;
use super::marks::{Marks, ids};
use super::prepare::each_pack_of;
use super::records::{
    Ahead, BLOB_BYTES, Lookup, PACK_BYTES, PLACED_BYTES, Placed, blob_of, mark, pack_of,
};
use super::survey::{Marking, Trees, kept, list_packs, missing, sorter};
use super::write::IndexOutput;
use crate::index::{Index, each_entry_of};
use crate::locks::HeldLock;
use crate::record_file::{RecordFile, RecordWriter};
use crate::repository::damaged;
use crate::tree_walk::TreeWalk;
use crate::{Cancel, Event, Repository, Result, TransferError};
use engine_repository::{FileKind, Id, PackedBlob, Snapshot};
use engine_storage::{Name, StorageError, list_all};
use std::collections::HashSet;

type Ids = RecordFile<{ Id::BYTES }>;

/// Removes what the marks say and nothing new needs. `None` when they do not hold any more: then
/// nothing was removed.
pub(super) fn sweep(
    repository: &Repository,
    marks: &Marks,
    events: &(dyn Fn(Event) + Sync),
    cancel: &Cancel,
) -> Result<Option<PruneReport>> {
    let lock = match HeldLock::acquire(repository, true) {
        Err(TransferError::Locked { holder, since }) => {
            let is_kept = marks.are_kept();
            return Err(TransferError::PruneWaits { holder, since, is_kept });
        }
        lock => lock?,
    };
    let job = Job { repository, request: &marks.head.request, lock: &lock, cancel, events };
    Sweep { job: &job, marks }.run()
}

struct Sweep<'a> {
    job: &'a Job<'a>,
    marks: &'a Marks,
}

impl Sweep<'_> {
    fn run(&self) -> Result<Option<PruneReport>> {
        let snapshots = self.new_snapshots()?;
        let index_files = ids(self.job.repository, FileKind::Index)?;
        if !self.marks.hold(&index_files) {
            return Ok(None);
        }
        let mut report = self.marks.head.report.clone();
        let named = self.named_since(&index_files)?;
        let needed = self.needed_since(&snapshots)?;
        let there = list_packs(self.job.repository)?;
        let spared = self.spared(&named, &needed, &there)?;
        let Some(going) = self.going(&there, &named, &spared, &mut report)? else {
            return Ok(None);
        };
        self.name_spared(&spared, &there, &mut report)?;
        for id in &self.marks.head.superseded {
            self.job.may_go_on()?;
            self.remove(Name::of(FileKind::Index, *id))?;
        }
        self.must_be_gone(&self.marks.head.superseded)?;
        for pack in going.records() {
            self.job.lock.must_be_held()?;
            self.remove(Name::of(FileKind::Pack, Id::from_bytes(pack?)))?;
        }
        Ok(Some(report))
    }

    /// Roots of snapshots that phase one did not see.
    fn new_snapshots(&self) -> Result<Vec<Id>> {
        let walked: HashSet<&Id> = self.marks.head.snapshots.iter().collect();
        let repository = self.job.repository;
        let mut roots = Vec::new();
        for (id, _) in list_all(repository.storage().as_ref(), FileKind::Snapshot)? {
            if walked.contains(&id) {
                continue;
            }
            match repository.read_unpacked::<Snapshot>(FileKind::Snapshot, id) {
                Err(TransferError::Storage(StorageError::NotFound { .. })) => {}
                snapshot => roots.push(snapshot?.tree),
            }
        }
        Ok(roots)
    }

    /// Packs that index files name which came since phase one.
    fn named_since(&self, index_files: &HashSet<Id>) -> Result<Ids> {
        let head = &self.marks.head;
        let known: HashSet<&Id> = head.index_files.iter().chain(&head.new_index_files).collect();
        let mut named = sorter(self.job.repository, 1);
        let mut last = None;
        for file in index_files.iter().filter(|id| !known.contains(id)) {
            self.job.may_go_on()?;
            each_entry_of(self.job.repository, *file, &mut |pack, _| match last.replace(pack)
                == Some(pack)
            {
                true => Ok(()),
                false => named.push(*pack.as_bytes()),
            })?;
        }
        kept(self.job.repository, named)
    }

    /// Blobs that snapshots need which came since phase one. Trees that were seen then are not
    /// gone into: all they need stays.
    fn needed_since(&self, roots: &[Id]) -> Result<RecordFile<BLOB_BYTES>> {
        let repository = self.job.repository;
        let mut needed = RecordWriter::in_scratch(repository.cache())?;
        if roots.is_empty() {
            return needed.finish();
        }
        let index = Index::load_or_stop(repository, self.job.cancel)?;
        let mut trees = Trees::new(repository, &index);
        let known = Some(&self.marks.trees);
        let mut marking = Marking { needed: sorter(repository, 3), known };
        let mut walk =
            TreeWalk::new(repository, self.job.cancel, |id| trees.get(id)).each_once(repository);
        for root in roots {
            walk.walk(root, &mut marking)?;
        }
        drop(walk);
        let mut sorted = Ahead::new(marking.needed.finish()?)?;
        while let Some(blob) = sorted.take()? {
            let (kind, id) = blob_of(&blob);
            if !index.has(kind, &id)? {
                return Err(missing(Some(&blob)));
            }
            needed.push(&blob)?;
        }
        needed.finish()
    }

    /// Packs that were to go and have to stay, sorted.
    fn spared(
        &self,
        named: &Ids,
        needed: &RecordFile<BLOB_BYTES>,
        there: &RecordFile<PACK_BYTES>,
    ) -> Result<Ids> {
        let repository = self.job.repository;
        let mut spared = sorter(repository, 1);
        let mut named = Lookup::new(named.records())?;
        let mut there = Lookup::new(there.records())?;
        let mut waste = sorter::<PLACED_BYTES>(repository, 4);
        each_pack_of(&self.marks.doomed, &mut |pack, entries| {
            if named.find(pack.as_bytes())?.is_some() {
                spared.push(*pack.as_bytes())?;
            }
            let is_looked_at = needed.count() > 0 && there.find(pack.as_bytes())?.is_some();
            let of_waste = |entry: &&Placed| is_looked_at && entry.mark == mark::WASTE;
            entries.iter().filter(of_waste).try_for_each(|entry| waste.push(entry.by_blob()))
        })?;
        let mut waste = Lookup::new(waste.finish()?)?;
        for blob in needed.records() {
            if let Some(record) = waste.find(&blob?)? {
                spared.push(*Placed::of_by_blob(&record).pack.as_bytes())?;
            }
        }
        drop(waste);
        kept(repository, spared)
    }

    /// Packs that may be removed now, sorted. `None` when one that is to stay is not there.
    fn going(
        &self,
        there: &RecordFile<PACK_BYTES>,
        named: &Ids,
        spared: &Ids,
        report: &mut PruneReport,
    ) -> Result<Option<Ids>> {
        let repository = self.job.repository;
        let young = ages::young(repository, there, self.job.request)?;
        let mut young = young.as_ref().map(|young| Lookup::new(young.records())).transpose()?;
        let mut stays = Ahead::new(self.marks.stays.records())?;
        let mut doomed = Lookup::new(self.marks.doomed.records())?;
        let (mut named, mut spared) =
            (Lookup::new(named.records())?, Lookup::new(spared.records())?);
        let mut going = RecordWriter::in_scratch(repository.cache())?;
        (report.packs_unindexed, report.bytes_unindexed) = (0, 0);
        for record in there.records() {
            let record = record?;
            let (pack, bytes) = pack_of(&record);
            if stays.peek().is_some_and(|stays| *stays < record) {
                return Ok(None);
            }
            let id = pack.as_bytes();
            if stays.peek() == Some(&record) {
                stays.take()?;
                continue;
            }
            if named.find(id)?.is_some() || spared.find(id)?.is_some() {
                continue;
            }
            let is_doomed = doomed.find(id)?.is_some();
            if let Some(young) = &mut young
                && !is_doomed
                && young.find(id)?.is_some()
            {
                continue;
            }
            report.packs_unindexed += u64::from(!is_doomed);
            report.bytes_unindexed += if is_doomed { 0 } else { bytes };
            going.push(id)?;
        }
        if stays.peek().is_some() {
            return Ok(None);
        }
        going.finish().map(Some)
    }

    /// Writes index files of packs that have to stay.
    fn name_spared(
        &self,
        spared: &Ids,
        there: &RecordFile<PACK_BYTES>,
        report: &mut PruneReport,
    ) -> Result<()> {
        let mut output = IndexOutput::default();
        let mut there = Lookup::new(there.records())?;
        let mut spared = Lookup::new(spared.records())?;
        each_pack_of(&self.marks.doomed, &mut |pack, entries| {
            let is_spared = spared.find(pack.as_bytes())?.is_some();
            if !is_spared || there.find(pack.as_bytes())?.is_none() {
                return Ok(());
            }
            let mut blobs: Vec<PackedBlob> = entries.iter().map(|entry| entry.packed).collect();
            blobs.sort_unstable_by_key(|packed| packed.offset);
            let unused = entries.iter().filter(|entry| entry.mark != mark::NEEDED);
            report.packs_spared += 1;
            report.bytes_left_unused +=
                unused.map(|entry| u64::from(entry.packed.blob.length)).sum::<u64>();
            output.add(self.job, pack, &blobs)
        })?;
        output.finish(self.job).map(drop)
    }

    /// Before packs are removed: no index file is left that names them.
    fn must_be_gone(&self, index_files: &[Id]) -> Result<()> {
        let listed = ids(self.job.repository, FileKind::Index)?;
        match index_files.iter().find(|id| listed.contains(id)) {
            None => Ok(()),
            Some(id) => {
                let why = "it was removed, and is still listed".to_owned();
                Err(damaged(Name::of(FileKind::Index, *id), why))
            }
        }
    }

    fn remove(&self, name: Name) -> Result<()> {
        match self.job.repository.storage().remove(name) {
            Ok(()) | Err(StorageError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
