//! Phase one, after the plan: copies, new index files and marks. Nothing is removed.

use super::Job;
use super::copy::Copier;
use super::marks::{Head, Marks, MarksWriter};
use super::plan::{Plan, fate};
use super::records::{FATE_BYTES, Lookup, PLACED_BYTES, Placed, named_of, pack_of, pack_record};
use super::survey::{Survey, kept, sorter};
use super::write::IndexOutput;
use crate::record_file::RecordFile;
use crate::repository::damaged;
use crate::{Result, TransferError};
use engine_repository::index::INDEX_BLOBS_MAX;
use engine_repository::{FileKind, Id, PackedBlob};
use engine_storage::Name;

/// A pack's header has no room for more.
const PACK_BLOBS_MAX: usize = 500_000;
/// Index files with fewer blobs are put together when the index is written anyway.
const SMALL_INDEX_BLOBS: usize = INDEX_BLOBS_MAX / 2;

/// Copies what is needed of packs that are to go, writes index files that can take the place of
/// those that name them, and takes down what may then be removed.
pub(super) fn prepare(job: &Job<'_>, survey: Survey, plan: Plan) -> Result<Marks> {
    let mut output = IndexOutput::default();
    let mut stays = sorter(job.repository, 1);
    if plan.report.packs_repacked > 0 {
        let bytes = plan.report.bytes_repacked;
        let mut copier = Copier::new(job, &survey, bytes, &mut output, &mut stays);
        let copied = each_pack(&survey, &plan, &mut |pack, fate, entries| match fate {
            Some(fate::REPACK) => copier.copy(pack, entries),
            _ => Ok(()),
        });
        match copied.and_then(|()| copier.finish()) {
            Err(TransferError::Cancelled) => {
                // What was copied is named, so that the next prune need not copy it again.
                output.finish(job)?;
                return Err(TransferError::Cancelled);
            }
            copied => copied?,
        }
    }
    let superseded = superseded(&survey, &plan.fates)?;
    let mut named = Lookup::new(survey.named.records())?;
    let mut there = Lookup::new(survey.there.records())?;
    let mut marks = MarksWriter::new(job.repository)?;
    let mut blobs: Vec<PackedBlob> = Vec::new();
    each_pack(&survey, &plan, &mut |pack, fate, entries| {
        if matches!(fate, Some(fate::REPACK | fate::REMOVE)) {
            return entries.iter().try_for_each(|entry| marks.doomed.push(&entry.by_pack()));
        }
        job.may_go_on()?;
        let Some(found) = there.find(pack.as_bytes())? else { return Ok(()) };
        stays.push(pack_record(pack, pack_of(&found).1))?;
        let mut is_replaced = true;
        let mut name = named.find(pack.as_bytes())?;
        while let Some(record) = name {
            is_replaced &= superseded[named_of(&record).1 as usize];
            name = named.another(pack.as_bytes())?;
        }
        if !is_replaced {
            return Ok(());
        }
        blobs.clear();
        blobs.extend(entries.iter().map(|entry| entry.packed));
        blobs.sort_unstable_by_key(|packed| packed.offset);
        output.add(job, pack, &blobs)
    })?;
    let new_index_files = output.finish(job)?;
    let files = || survey.index_files.iter().zip(&superseded);
    let head = Head {
        repository: job.repository.id(),
        request: *job.request,
        superseded: files().filter(|(_, is)| **is).map(|(file, _)| file.id).collect(),
        index_files: survey.index_files.iter().map(|file| file.id).collect(),
        snapshots: survey.snapshots,
        new_index_files,
        report: plan.report,
        counts: [0; 3],
    };
    let stays = kept(job.repository, stays)?;
    marks.finish(head, &stays, &survey.trees)
}

/// For each index file, whether it is to go: because it names a pack that does, or is small.
fn superseded(survey: &Survey, fates: &RecordFile<FATE_BYTES>) -> Result<Vec<bool>> {
    let mut superseded = vec![false; survey.index_files.len()];
    let mut fates = Lookup::new(fates.records())?;
    for record in survey.named.records() {
        let (pack, number) = named_of(&record?);
        if fates.find(pack.as_bytes())?.is_some() {
            superseded[number as usize] = true;
        }
    }
    if superseded.contains(&true) {
        for (is_superseded, file) in superseded.iter_mut().zip(&survey.index_files) {
            *is_superseded |= file.blobs < SMALL_INDEX_BLOBS;
        }
    }
    Ok(superseded)
}

/// Is shown a pack, what becomes of it, and its entries.
type EachPack<'a> = dyn FnMut(&Id, Option<u8>, &[Placed]) -> Result<()> + 'a;

/// Calls `each` with every pack of the index, what becomes of it (`None`: it stays), and its
/// entries.
fn each_pack(survey: &Survey, plan: &Plan, each: &mut EachPack<'_>) -> Result<()> {
    let mut fates = Lookup::new(plan.fates.records())?;
    let mut fate_of = |pack: &Id| {
        let found = fates.find(pack.as_bytes())?;
        Ok::<_, TransferError>(found.map(|record| record[Id::BYTES]))
    };
    each_pack_of(&survey.placed, &mut |pack, entries| each(pack, fate_of(pack)?, entries))
}

/// Calls `each` with every pack of some entries.
pub(super) fn each_pack_of(
    placed: &RecordFile<PLACED_BYTES>,
    each: &mut dyn FnMut(&Id, &[Placed]) -> Result<()>,
) -> Result<()> {
    let mut entries: Vec<Placed> = Vec::new();
    for record in placed.records() {
        let entry = Placed::of_by_pack(&record?);
        if let Some(first) = entries.first()
            && first.pack != entry.pack
        {
            each(&first.pack, &entries)?;
            entries.clear();
        }
        if entries.len() == PACK_BLOBS_MAX {
            let why = format!("the index says that it has more than {PACK_BLOBS_MAX} blobs");
            return Err(damaged(Name::of(FileKind::Pack, entry.pack), why));
        }
        entries.push(entry);
    }
    match entries.first() {
        Some(first) => each(&first.pack, &entries),
        None => Ok(()),
    }
}
