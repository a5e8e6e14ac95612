//! Which packs stay, go, or are copied in part: decided from the index, the marks and the listing.

use super::{MaxUnused, PruneReport, PruneRequest};
use crate::check::contents::Known;
use crate::index::held::Index;
use crate::repository::damaged;
use crate::{Result, TransferError};
use engine_repository::{BlobKind, FileKind, Id};
use engine_storage::Name;
use std::collections::{HashMap, HashSet};

pub(super) const KINDS: [BlobKind; 2] = [BlobKind::Data, BlobKind::Tree];

/// A bit for each record of the index.
pub(super) struct Bits(Vec<u8>);

impl Bits {
    fn none(count: usize) -> Self {
        Self(vec![0; count.div_ceil(8)])
    }

    pub(super) fn has(&self, place: usize) -> bool {
        self.0[place / 8] & (1 << (place % 8)) != 0
    }

    /// Whether it was not there before.
    fn add(&mut self, place: usize) -> bool {
        let is_new = !self.has(place);
        self.0[place / 8] |= 1 << (place % 8);
        is_new
    }
}

/// Which blobs snapshots need: a bit at the place of a blob's first copy.
pub(super) struct UsedBlobs([Bits; 2]);

impl UsedBlobs {
    pub(super) fn none(index: &Index) -> Self {
        Self(KINDS.map(|kind| Bits::none(index.records(kind).len())))
    }

    /// Whether the blob was not marked before. One that is in no pack is an error.
    pub(super) fn mark(&mut self, index: &Index, kind: BlobKind, id: &Id) -> Result<bool> {
        match index.first_place(kind, id) {
            Some(place) => Ok(self.0[kind as usize].add(place)),
            None => Err(TransferError::BlobMissing {
                kind: if kind == BlobKind::Data { "data blob" } else { "tree" },
                id: *id,
            }),
        }
    }
}

/// What becomes of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It stays.
    Keep,
    /// What is needed of it is copied, then it goes.
    Repack,
    /// It goes.
    Remove,
}

/// What is known of a pack.
#[derive(Clone, Copy, Default)]
struct Facts {
    known: Known,
    used_bytes: u64,
    used_blobs: u64,
    unused_bytes: u64,
    has: [bool; 2],
}

impl Facts {
    fn is_mixed(&self) -> bool {
        self.has == [true; 2]
    }
}

/// What is to be done.
pub(super) struct Plan<'a> {
    pub(super) index: &'a Index,
    /// For each kind, the records that are the copy to be kept of a blob that is needed.
    pub(super) kept: [Bits; 2],
    /// For each pack of the index.
    pub(super) fates: Vec<Fate>,
    pub(super) unindexed: Vec<Id>,
    pub(super) report: PruneReport,
}

impl<'a> Plan<'a> {
    pub(super) fn make(
        index: &'a Index,
        used: &UsedBlobs,
        packs: &HashMap<Id, u64>,
        request: &PruneRequest,
    ) -> Result<Self> {
        let mut facts = vec![Facts::default(); index.packs().len()];
        let kept = choose_copies(index, used, &mut facts);
        let mut report = PruneReport::default();
        for (pack, facts) in index.packs().iter().zip(&facts) {
            let bytes = packs.get(pack).copied().unwrap_or(0);
            // What nobody needs goes, whatever is wrong with it.
            if facts.used_blobs > 0 && facts.known.bytes != bytes {
                let why = format!("it has {bytes} bytes, but should have {}", facts.known.bytes);
                return Err(damaged(Name::of(FileKind::Pack, *pack), why));
            }
            report.blobs_used += facts.used_blobs;
            report.bytes_used += facts.used_bytes;
            report.blobs_unused += u64::from(facts.known.blobs) - facts.used_blobs;
            report.bytes_unused += facts.unused_bytes;
        }
        let fates = decide(&facts, request, &mut report);
        let indexed: HashSet<&Id> = index.packs().iter().collect();
        let mut unindexed = Vec::new();
        for (pack, bytes) in packs.iter().filter(|(pack, _)| !indexed.contains(pack)) {
            report.packs_unindexed += 1;
            report.bytes_unindexed += bytes;
            unindexed.push(*pack);
        }
        Ok(Self { index, kept, fates, unindexed, report })
    }
}

/// Of each blob that is needed, the copy that is kept: one in a pack that has other blobs that are
/// needed, if there is one, so that more packs can go as a whole.
fn choose_copies(index: &Index, used: &UsedBlobs, facts: &mut [Facts]) -> [Bits; 2] {
    let mut kept = KINDS.map(|kind| Bits::none(index.records(kind).len()));
    for is_second_round in [false, true] {
        for kind in KINDS {
            let records = index.records(kind);
            let mut from = 0;
            while from < records.len() {
                let copies = records[from..].partition_point(|r| r.id == records[from].id);
                let is_used = used.0[kind as usize].has(from);
                if (is_used && copies > 1) == is_second_round {
                    let all = from..from + copies;
                    let best =
                        all.clone().find(|at| facts[records[*at].pack as usize].used_blobs > 0);
                    let best = is_used.then(|| best.unwrap_or(from));
                    for at in all {
                        let facts = &mut facts[records[at].pack as usize];
                        let bytes = u64::from(records[at].length);
                        facts.known.add(&records[at].location(kind, index.packs()).packed);
                        facts.has[kind as usize] = true;
                        if best == Some(at) {
                            kept[kind as usize].add(at);
                            facts.used_blobs += 1;
                            facts.used_bytes += bytes;
                        } else {
                            facts.unused_bytes += bytes;
                        }
                    }
                }
                from += copies;
            }
        }
    }
    kept
}

/// Packs with trees and waste are always copied, as in restic: everybody reads them, so they should
/// be few and full. Packs of data are, those with the greatest share of waste first, until little
/// enough is left.
fn decide(facts: &[Facts], request: &PruneRequest, report: &mut PruneReport) -> Vec<Fate> {
    let mut fates = vec![Fate::Keep; facts.len()];
    let mut candidates = Vec::new();
    let mut left_unused = 0;
    for (number, facts) in facts.iter().enumerate() {
        if facts.used_blobs == 0 {
            fates[number] = Fate::Remove;
            report.packs_removed += 1;
        } else if facts.unused_bytes > 0 || facts.is_mixed() {
            left_unused += facts.unused_bytes;
            candidates.push(number);
        }
    }
    let waste = |number: &usize| {
        let facts = &facts[*number];
        facts.unused_bytes as f64 / (facts.unused_bytes + facts.used_bytes) as f64
    };
    candidates.sort_by(|a, b| {
        let has_trees = |number: &usize| facts[*number].has[BlobKind::Tree as usize];
        has_trees(b).cmp(&has_trees(a)).then(waste(b).total_cmp(&waste(a)))
    });
    let bytes_max = match request.max_unused {
        MaxUnused::Unlimited => u64::MAX,
        MaxUnused::Bytes(bytes) => bytes,
        MaxUnused::Permille(share) if share >= 1000 => u64::MAX,
        MaxUnused::Permille(share) => {
            let bytes =
                u128::from(report.bytes_used) * u128::from(share) / u128::from(1000 - share);
            u64::try_from(bytes).unwrap_or(u64::MAX)
        }
    };
    let mut repack_bytes = 0;
    for number in candidates {
        let facts = &facts[number];
        let is_data = !facts.has[BlobKind::Tree as usize];
        let bytes = repack_bytes + facts.known.bytes;
        let is_too_much = request.max_repack_bytes.is_some_and(|bytes_max| bytes > bytes_max);
        // An index names a pack once, with one kind of blobs: mixed packs cannot stay.
        if (is_data && left_unused <= bytes_max) || (is_too_much && !facts.is_mixed()) {
            continue;
        }
        fates[number] = Fate::Repack;
        repack_bytes = bytes;
        left_unused -= facts.unused_bytes;
        report.packs_repacked += 1;
        report.bytes_repacked += facts.used_bytes;
    }
    report.packs_kept = facts.len() as u64 - report.packs_repacked - report.packs_removed;
    report.bytes_left_unused = left_unused;
    fates
}
