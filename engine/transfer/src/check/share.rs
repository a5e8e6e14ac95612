//! Which packs to read when not all are to be read: a part by number, some at random, or those not
//! read for the longest.
//!
//! When packs were last found whole is kept in the repository's cache on this computer, 40 bytes a
//! pack: its id and the second, after a head that says what it is. A file that is lost or makes no
//! sense means that no pack was read yet, which is never wrong. A pack found damaged is not noted,
//! so that it is read again next time.

use crate::cache::failed;
use crate::repository::{now, random};
use crate::{Repository, Result};
use engine_repository::Id;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

/// The name of the file in the cache.
const FILE: &str = "packs-read";
/// What it begins with.
const HEAD: &[u8; 8] = b"hfread\0\x01";
const RECORD_BYTES: usize = Id::BYTES + 8;
/// What a share is counted in.
const PERMILLE: u64 = 1000;

/// How much data a check reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reading {
    /// None.
    #[default]
    None,
    /// Every pack.
    All,
    /// One of so many parts, counted from 1; after all of them every pack was read. restic picks
    /// the same.
    Part {
        /// Which, from 1 on.
        number: u8,
        /// Of how many.
        of: u8,
    },
    /// So many thousandths of the packs, at random.
    RandomPermille(u32),
    /// Packs of about so many bytes, at random.
    RandomBytes(u64),
    /// Thousandths of the bytes: those of the packs that were not read for the longest.
    OldestPermille(u32),
}

/// The packs to read.
pub(super) fn choose(
    repository: &Repository,
    reading: Reading,
    there: &HashMap<Id, u64>,
) -> Result<HashMap<Id, u64>> {
    let total: u64 = there.values().sum();
    let with_size = |ids: Vec<Id>| ids.into_iter().map(|id| (id, there[&id])).collect();
    Ok(match reading {
        Reading::None => HashMap::new(),
        Reading::All => there.clone(),
        Reading::Part { number, of } => {
            let is_in = |id: &&Id| id.as_bytes()[0] % of.max(1) == number.saturating_sub(1);
            with_size(there.keys().filter(is_in).copied().collect())
        }
        Reading::RandomPermille(share) => {
            let count = there.len() as u64 * u64::from(share) / PERMILLE;
            let mut ids = shuffled(there)?;
            ids.truncate(usize::try_from(count.max(1)).unwrap_or(usize::MAX));
            with_size(ids)
        }
        Reading::RandomBytes(bytes) => with_size(up_to(shuffled(there)?, there, bytes)),
        Reading::OldestPermille(share) => {
            let read = remembered(repository)?;
            let mut ids: Vec<Id> = there.keys().copied().collect();
            ids.sort_by_key(|id| (read.get(id).copied().unwrap_or(0), *id));
            let bytes = u128::from(total) * u128::from(share) / u128::from(PERMILLE);
            with_size(up_to(ids, there, u64::try_from(bytes).unwrap_or(total)))
        }
    })
}

/// The first of them that have so many bytes together; at least one.
fn up_to(mut ids: Vec<Id>, there: &HashMap<Id, u64>, bytes: u64) -> Vec<Id> {
    let mut sum = 0_u64;
    let count = ids.iter().take_while(|id| {
        let is_wanted = sum == 0 || sum < bytes;
        sum += there[*id];
        is_wanted
    });
    let count = count.count();
    ids.truncate(count);
    ids
}

/// All packs, in an order by chance.
fn shuffled(there: &HashMap<Id, u64>) -> Result<Vec<Id>> {
    let chance = random::<32>()?;
    let mut ids: Vec<(Id, Id)> = there
        .keys()
        .map(|id| (Id::of(&[&chance[..], id.as_bytes()].concat()), *id))
        .collect();
    ids.sort_unstable();
    Ok(ids.into_iter().map(|(_, id)| id).collect())
}

fn path(repository: &Repository) -> Result<Option<PathBuf>> {
    Ok(repository.cache().folder()?.map(|folder| folder.join(FILE)))
}

/// When packs were last found whole, in seconds since 1970.
fn remembered(repository: &Repository) -> Result<HashMap<Id, u64>> {
    let Some(path) = path(repository)? else { return Ok(HashMap::new()) };
    let bytes = fs::read(path).unwrap_or_default();
    let records = bytes.strip_prefix(HEAD).unwrap_or_default();
    if records.len() % RECORD_BYTES != 0 {
        return Ok(HashMap::new());
    }
    let records = records.as_chunks::<RECORD_BYTES>().0;
    let read = records.iter().filter_map(|record| {
        let (id, second) = record.split_first_chunk::<{ Id::BYTES }>()?;
        Some((Id::from_bytes(*id), u64::from_be_bytes(second.try_into().ok()?)))
    });
    Ok(read.collect())
}

/// Notes that these packs were found whole, and forgets packs that are not there any more.
pub(super) fn remember(
    repository: &Repository,
    whole: &[Id],
    there: &HashMap<Id, u64>,
) -> Result<()> {
    let Some(path) = path(repository)? else { return Ok(()) };
    if whole.is_empty() {
        return Ok(());
    }
    let mut read = remembered(repository)?;
    let whole: HashSet<&Id> = whole.iter().collect();
    let second = u64::try_from(now().seconds).unwrap_or(1);
    let new = path.with_extension("new");
    let mut write = || {
        let mut file = BufWriter::new(fs::File::create(&new)?);
        file.write_all(HEAD)?;
        for id in there.keys() {
            let at = match whole.contains(id) {
                true => Some(second),
                false => read.remove(id),
            };
            if let Some(at) = at {
                file.write_all(id.as_bytes())?;
                file.write_all(&at.to_be_bytes())?;
            }
        }
        file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&new, &path)
    };
    write().map_err(|cause| failed("write", &path, cause))
}
