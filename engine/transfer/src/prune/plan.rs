//! Which packs stay, go, or are copied in part: decided from what is known of each pack.

use super::records::{
    Ahead, FATE_BYTES, Lookup, PACK_BYTES, Placed, blob_record, fate_record, id_at, mark, pack_of,
};
use super::survey::{Survey, kept, missing, sorter};
use super::{MaxUnused, PruneReport, PruneRequest, must_go_on};
use crate::check::contents::Known;
use crate::record_file::RecordFile;
use crate::repository::damaged;
use crate::sorter::Sorter;
use crate::{Cancel, Repository, Result};
use engine_repository::config::Version;
use engine_repository::pack::{PACK_BLOBS_TARGET, PACK_BYTES_TARGET};
use engine_repository::{BlobKind, FileKind, Id};
use engine_storage::Name;

/// What becomes of a pack that does not stay as it is.
pub(super) mod fate {
    /// What is needed of it is copied, then it goes.
    pub(crate) const REPACK: u8 = 1;
    /// It goes.
    pub(crate) const REMOVE: u8 = 2;
    /// It is gone, and nothing in it was needed.
    pub(crate) const MISSING: u8 = 3;
}

/// A pack below four fifths of what packs are filled up to is small, as for restic.
const SMALL_PACK_BYTES: u64 = PACK_BYTES_TARGET as u64 / 5 * 4;
/// Unless it has so many blobs.
const SMALL_PACK_BLOBS: u32 = PACK_BLOBS_TARGET as u32 / 5 * 4;

/// What is known of a pack.
struct Facts {
    pack: Id,
    known: Known,
    /// As listed; `None` when it is not there.
    bytes: Option<u64>,
    used_bytes: u64,
    used_blobs: u64,
    unused_bytes: u64,
    has: [bool; 2],
    has_uncompressed: bool,
    has_large: bool,
    /// A blob that is needed, for the message when the pack is not there.
    needed: Option<(BlobKind, Id)>,
}

impl Facts {
    /// Whether it would become larger together with others. One with a blob too large to be held
    /// would not: that would be alone again.
    fn is_small(&self, bytes: u64) -> bool {
        let is_full = bytes >= SMALL_PACK_BYTES || self.known.blobs >= SMALL_PACK_BLOBS;
        !is_full && !self.has_large
    }

    fn of(pack: Id) -> Self {
        Self {
            pack,
            known: Known::default(),
            bytes: None,
            used_bytes: 0,
            used_blobs: 0,
            unused_bytes: 0,
            has: [false; 2],
            has_uncompressed: false,
            has_large: false,
            needed: None,
        }
    }

    fn add(&mut self, repository: &Repository, entry: &Placed) {
        let blob = &entry.packed.blob;
        self.has_large |= repository.is_large(blob);
        self.known.add(&entry.packed);
        self.has[usize::from(blob.kind == BlobKind::Tree)] = true;
        if entry.mark == mark::NEEDED {
            self.used_blobs += 1;
            self.used_bytes += u64::from(blob.length);
            self.has_uncompressed |= blob.uncompressed_length.is_none();
            self.needed.get_or_insert((blob.kind, blob.id));
        } else {
            self.unused_bytes += u64::from(blob.length);
        }
    }
}

/// What is to be done.
pub(super) struct Plan {
    /// Packs that do not stay, sorted.
    pub(super) fates: RecordFile<FATE_BYTES>,
    pub(super) report: PruneReport,
}

impl Plan {
    /// Packs that are `young` stay as they are.
    pub(super) fn make(
        repository: &Repository,
        survey: &Survey,
        young: Option<&RecordFile<{ Id::BYTES }>>,
        request: &PruneRequest,
        cancel: &Cancel,
    ) -> Result<Self> {
        let mut planner = Planner {
            request,
            is_compressed: repository.config().version != Version::V1,
            report: PruneReport::default(),
            left_unused: 0,
            small: [0; 2],
            fates: sorter(repository, 1),
            candidates: sorter(repository, 1),
        };
        let mut young = young.map(|young| Lookup::new(young.records())).transpose()?;
        let mut there = Ahead::new(survey.there.records())?;
        let mut facts: Option<Facts> = None;
        for record in survey.placed.records() {
            let entry = Placed::of_by_pack(&record?);
            let current = match facts.take() {
                Some(current) if current.pack == entry.pack => facts.insert(current),
                done => {
                    must_go_on(cancel)?;
                    if let Some(done) = done {
                        planner.consider(&done, &mut young)?;
                    }
                    let new = facts.insert(Facts::of(entry.pack));
                    new.bytes = planner.pass_unindexed(&mut there, Some(&entry.pack))?;
                    new
                }
            };
            current.add(repository, &entry);
        }
        if let Some(done) = facts {
            planner.consider(&done, &mut young)?;
        }
        planner.pass_unindexed(&mut there, None)?;
        planner.decide(repository)
    }
}

type Young = Lookup<crate::record_file::Records<{ Id::BYTES }>, { Id::BYTES }>;
type There = Ahead<crate::record_file::Records<PACK_BYTES>, [u8; PACK_BYTES]>;

struct Planner<'a> {
    request: &'a PruneRequest,
    is_compressed: bool,
    report: PruneReport,
    /// Unused bytes in packs that may stay.
    left_unused: u64,
    /// How many small packs there are with data, and with trees.
    small: [usize; 2],
    fates: Sorter<FATE_BYTES>,
    candidates: Sorter<CANDIDATE_BYTES>,
}

impl Planner<'_> {
    /// Counts packs that are listed before one the index names. The size of that, if it is there.
    fn pass_unindexed(&mut self, there: &mut There, until: Option<&Id>) -> Result<Option<u64>> {
        while let Some(record) = there.peek() {
            let (pack, bytes) = pack_of(record);
            if until.is_some_and(|until| pack > *until) {
                return Ok(None);
            }
            there.take()?;
            if until == Some(&pack) {
                return Ok(Some(bytes));
            }
            self.report.packs_unindexed += 1;
            self.report.bytes_unindexed += bytes;
        }
        Ok(None)
    }

    /// Takes in what is known of a pack.
    fn consider(&mut self, facts: &Facts, young: &mut Option<Young>) -> Result<()> {
        let Some(bytes) = facts.bytes else {
            if let Some((kind, id)) = &facts.needed {
                return Err(missing(Some(&blob_record(*kind, id))));
            }
            self.report.packs_missing += 1;
            return self.fates.push(fate_record(&facts.pack, fate::MISSING));
        };
        // What nobody needs goes, whatever is wrong with it.
        if facts.used_blobs > 0 && facts.known.bytes != bytes {
            let why = format!("it has {bytes} bytes, but should have {}", facts.known.bytes);
            return Err(damaged(Name::of(FileKind::Pack, facts.pack), why));
        }
        self.report.blobs_used += facts.used_blobs;
        self.report.bytes_used += facts.used_bytes;
        self.report.blobs_unused += u64::from(facts.known.blobs) - facts.used_blobs;
        self.report.bytes_unused += facts.unused_bytes;
        self.report.packs_kept += 1;
        let is_young = match young {
            Some(young) => young.find(facts.pack.as_bytes())?.is_some(),
            None => false,
        };
        if facts.used_blobs == 0 && !is_young {
            self.report.packs_kept -= 1;
            self.report.packs_removed += 1;
            return self.fates.push(fate_record(&facts.pack, fate::REMOVE));
        }
        self.left_unused += facts.unused_bytes;
        let has_trees = facts.has[1];
        if is_young || (self.request.is_cacheable_only && !has_trees) {
            return Ok(());
        }
        let candidate = Candidate {
            pack: facts.pack,
            has_trees,
            is_mixed: facts.has == [true; 2],
            is_small: self.request.is_small_repacked && facts.is_small(bytes),
            is_to_be_compressed: self.request.is_uncompressed_repacked
                && self.is_compressed
                && facts.has_uncompressed,
            used_bytes: facts.used_bytes,
            unused_bytes: facts.unused_bytes,
            bytes: facts.known.bytes,
        };
        self.small[usize::from(has_trees)] += usize::from(candidate.is_small);
        let is_wanted = candidate.is_mixed || candidate.is_small || candidate.is_to_be_compressed;
        match facts.unused_bytes > 0 || is_wanted {
            true => self.candidates.push(candidate.record()),
            false => Ok(()),
        }
    }

    /// Packs with trees and waste are always copied, as in restic: everybody reads them, so they
    /// should be few and full. Packs of data are, those with the greatest share of waste first,
    /// until little enough is left.
    fn decide(mut self, repository: &Repository) -> Result<Plan> {
        let bytes_max = self.unused_bytes_max();
        let mut repack_bytes = 0;
        for record in self.candidates.finish()? {
            let candidate = Candidate::of(&record?);
            let bytes = repack_bytes + candidate.bytes;
            let is_too_much =
                self.request.max_repack_bytes.is_some_and(|bytes_max| bytes > bytes_max);
            // One small pack alone stays small.
            let is_small = candidate.is_small && self.small[usize::from(candidate.has_trees)] > 1;
            let is_wasteful =
                candidate.unused_bytes > 0 && (candidate.has_trees || self.left_unused > bytes_max);
            let is_wanted = is_wasteful || is_small || candidate.is_to_be_compressed;
            // Data and trees may not stay in one pack.
            if !candidate.is_mixed && (!is_wanted || is_too_much) {
                continue;
            }
            self.fates.push(fate_record(&candidate.pack, fate::REPACK))?;
            repack_bytes = bytes;
            self.left_unused -= candidate.unused_bytes;
            self.report.packs_kept -= 1;
            self.report.packs_repacked += 1;
            self.report.bytes_repacked += candidate.used_bytes;
        }
        self.report.bytes_left_unused = self.left_unused;
        Ok(Plan { fates: kept(repository, self.fates)?, report: self.report })
    }

    fn unused_bytes_max(&self) -> u64 {
        match self.request.max_unused {
            MaxUnused::Unlimited => u64::MAX,
            MaxUnused::Bytes(bytes) => bytes,
            MaxUnused::Permille(share) if share >= 1000 => u64::MAX,
            MaxUnused::Permille(share) => {
                let used = u128::from(self.report.bytes_used);
                let bytes = used * u128::from(share) / u128::from(1000 - share);
                u64::try_from(bytes).unwrap_or(u64::MAX)
            }
        }
    }
}

/// A pack that may be copied in part.
struct Candidate {
    pack: Id,
    has_trees: bool,
    is_mixed: bool,
    is_small: bool,
    is_to_be_compressed: bool,
    used_bytes: u64,
    unused_bytes: u64,
    bytes: u64,
}

const CANDIDATE_BYTES: usize = 1 + 8 + Id::BYTES + 3 * 8 + 3;

impl Candidate {
    /// Packs with trees sort first, then those with most waste.
    fn record(&self) -> [u8; CANDIDATE_BYTES] {
        let mut record = [0; CANDIDATE_BYTES];
        let all = u128::from(self.unused_bytes + self.used_bytes).max(1);
        let waste_millionths = u128::from(self.unused_bytes) * 1_000_000 / all;
        let order = u64::MAX - u64::try_from(waste_millionths).unwrap_or(0);
        record[0] = u8::from(!self.has_trees);
        record[1..9].copy_from_slice(&order.to_be_bytes());
        record[9..41].copy_from_slice(self.pack.as_bytes());
        record[41..49].copy_from_slice(&self.used_bytes.to_be_bytes());
        record[49..57].copy_from_slice(&self.unused_bytes.to_be_bytes());
        record[57..65].copy_from_slice(&self.bytes.to_be_bytes());
        record[65] = u8::from(self.is_mixed);
        record[66] = u8::from(self.is_small);
        record[67] = u8::from(self.is_to_be_compressed);
        record
    }

    fn of(record: &[u8; CANDIDATE_BYTES]) -> Self {
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&record[at..at + 8]);
            u64::from_be_bytes(bytes)
        };
        Self {
            pack: id_at(record, 9),
            has_trees: record[0] == 0,
            is_mixed: record[65] == 1,
            is_small: record[66] == 1,
            is_to_be_compressed: record[67] == 1,
            used_bytes: number(41),
            unused_bytes: number(49),
            bytes: number(57),
        }
    }
}
