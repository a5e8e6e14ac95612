//! Which packs to read when not all are to be read: a part by number, some at random, or those not
//! read for the longest.
//!
//! When packs were last found whole is kept in the repository's cache on this computer, 40 bytes a
//! pack: its id and the second, after a head that says what it is. A file that is lost or makes no
//! sense means that no pack was read yet, which is never wrong. A pack found damaged is not noted,
//! so that it is read again next time.

use super::Checker;
use super::contents::{Known, PacksThere};
use crate::cache::failed;
use crate::repository::{now, random};
use crate::sorter::Sorter;
use crate::{Event, Repository, Result};
use engine_repository::Id;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::iter::Peekable;
use std::path::{Path, PathBuf};

/// The name of the file in the cache.
const FILE: &str = "packs-read";
/// What it begins with.
const HEAD: &[u8; 8] = b"hfread\0\x01";
/// An id, and the second, big-endian.
const RECORD_BYTES: usize = Id::BYTES + 8;
/// What decides, a pack's id, its size, and what the index says of it.
const CHOICE_BYTES: usize = 8 + Id::BYTES + 8 + 4 + 8;
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
        number: u16,
        /// Of how many.
        of: u16,
    },
    /// So many thousandths of the packs, at random.
    RandomPermille(u32),
    /// Packs of about so many bytes, at random.
    RandomBytes(u64),
    /// Thousandths of the bytes: those of the packs that were not read for the longest.
    OldestPermille(u32),
}

/// The packs to read of those that are there.
pub(super) fn choose(
    checker: &Checker<'_>,
    reading: Reading,
    there: PacksThere,
) -> Result<PacksThere> {
    let (packs, bytes) = (there.count, there.bytes);
    let share = |of: u64, permille: u32| {
        let part = u128::from(of) * u128::from(permille) / u128::from(PERMILLE);
        u64::try_from(part).unwrap_or(of)
    };
    match reading {
        Reading::None => Ok(PacksThere::none(checker)),
        Reading::All => Ok(there),
        Reading::Part { number, of } => {
            let mut chosen = PacksThere::none(checker);
            for pack in there.each()? {
                let (id, bytes, known) = pack?;
                if u16::from(id.as_bytes()[0]) % of.max(1) == number.saturating_sub(1) {
                    chosen.push(&id, bytes, known)?;
                }
            }
            Ok(chosen)
        }
        Reading::RandomPermille(permille) => {
            let packs_max = share(packs, permille).max(1);
            let order = by_chance(checker, there)?;
            take(checker, order, |chosen| chosen.count < packs_max)
        }
        Reading::RandomBytes(bytes_max) => {
            let order = by_chance(checker, there)?;
            take(checker, order, |chosen| chosen.count == 0 || chosen.bytes < bytes_max)
        }
        Reading::OldestPermille(permille) => {
            let bytes_max = share(bytes, permille);
            let order = match path(checker.repository)? {
                Some(path) => by_age(checker, there, &path)?,
                None => {
                    (checker.events)(Event::Note(
                        "without a cache nobody knows what was read: packs are read at random"
                            .to_owned(),
                    ));
                    by_chance(checker, there)?
                }
            };
            take(checker, order, |chosen| chosen.count == 0 || chosen.bytes < bytes_max)
        }
    }
}

type Order = Sorter<CHOICE_BYTES>;

fn order(checker: &Checker<'_>) -> Order {
    let held_bytes = checker.repository.plan().index_bytes / 16;
    Sorter::new(checker.repository.cache(), usize::try_from(held_bytes).unwrap_or(usize::MAX))
}

fn choice(decides: u64, (id, bytes, known): &(Id, u64, Known)) -> [u8; CHOICE_BYTES] {
    let mut record = [0; CHOICE_BYTES];
    record[..8].copy_from_slice(&decides.to_be_bytes());
    record[8..40].copy_from_slice(id.as_bytes());
    record[40..48].copy_from_slice(&bytes.to_be_bytes());
    record[48..52].copy_from_slice(&known.blobs.to_be_bytes());
    record[52..].copy_from_slice(&known.bytes.to_be_bytes());
    record
}

/// Takes packs in their order as long as some are wanted.
fn take(
    checker: &Checker<'_>,
    order: Order,
    is_wanted: impl Fn(&PacksThere) -> bool,
) -> Result<PacksThere> {
    let mut chosen = PacksThere::none(checker);
    for record in order.finish()? {
        if !is_wanted(&chosen) {
            break;
        }
        let record = record?;
        let mut id = [0; Id::BYTES];
        id.copy_from_slice(&record[8..40]);
        let blobs = u32::try_from(number(&record[48..52])).unwrap_or(u32::MAX);
        let known = Known { blobs, bytes: number(&record[52..]) };
        chosen.push(&Id::from_bytes(id), number(&record[40..48]), known)?;
    }
    Ok(chosen)
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// In an order by chance.
fn by_chance(checker: &Checker<'_>, there: PacksThere) -> Result<Order> {
    let chance = random::<32>()?;
    let mut order = order(checker);
    for pack in there.each()? {
        let pack = pack?;
        let drawn = Id::of(&[&chance[..], pack.0.as_bytes()].concat());
        order.push(choice(number(&drawn.as_bytes()[..8]), &pack))?;
    }
    Ok(order)
}

/// Those never read first, then those not read for the longest. What is remembered of packs that
/// are gone is forgotten.
fn by_age(checker: &Checker<'_>, there: PacksThere, path: &Path) -> Result<Order> {
    let mut order = order(checker);
    let mut kept = Writer::begin(path)?;
    let mut read = Remembered::open(path).peekable();
    for pack in there.each()? {
        let pack = pack?;
        let second = read.at(&pack.0);
        if second > 0 {
            kept.push(&pack.0, second)?;
        }
        order.push(choice(second, &pack))?;
    }
    kept.finish()?;
    Ok(order)
}

/// A pack was read, and is as it should be.
pub(super) fn note(checker: &Checker<'_>, id: &Id) -> Result<()> {
    let mut state = checker.lock();
    let whole = state.whole.get_or_insert_with(|| {
        let held_bytes = checker.repository.plan().index_bytes / 16;
        let held_bytes = usize::try_from(held_bytes).unwrap_or(usize::MAX);
        Sorter::new(checker.repository.cache(), held_bytes)
    });
    whole.push(*id.as_bytes())
}

/// Remembers which packs were found whole now.
pub(super) fn remember(checker: &Checker<'_>, reading: Reading) -> Result<()> {
    let Some(path) = path(checker.repository)? else { return Ok(()) };
    let Some(whole) = checker.lock().whole.take() else { return Ok(()) };
    let second = u64::try_from(now().seconds).unwrap_or(1);
    // After all were read, what was remembered of others is of packs that are gone or damaged.
    let before = match reading {
        Reading::All if !checker.cancel.is_cancelled() => None,
        _ => Some(Remembered::open(&path)),
    };
    let mut before = before.into_iter().flatten().peekable();
    let mut kept = Writer::begin(&path)?;
    for id in whole.finish()? {
        let id = Id::from_bytes(id?);
        while let Some((other, at)) = before.next_if(|(other, _)| *other <= id) {
            if other != id {
                kept.push(&other, at)?;
            }
        }
        kept.push(&id, second)?;
    }
    before.try_for_each(|(other, at)| kept.push(&other, at))?;
    kept.finish()
}

fn path(repository: &Repository) -> Result<Option<PathBuf>> {
    Ok(repository.cache().folder()?.map(|folder| folder.join(FILE)))
}

/// When packs were last found whole, in the order of their ids. It ends where it makes no sense.
struct Remembered {
    file: Option<BufReader<File>>,
    last: Option<Id>,
}

impl Remembered {
    fn open(path: &Path) -> Self {
        let file = File::open(path).ok().map(BufReader::new);
        let file = file.and_then(|mut file| {
            let mut head = [0; HEAD.len()];
            file.read_exact(&mut head).ok().filter(|()| head == *HEAD).map(|()| file)
        });
        Self { file, last: None }
    }
}

impl Iterator for Remembered {
    type Item = (Id, u64);

    fn next(&mut self) -> Option<(Id, u64)> {
        let mut record = [0; RECORD_BYTES];
        let read = self.file.as_mut()?.read_exact(&mut record);
        let mut id = [0; Id::BYTES];
        id.copy_from_slice(&record[..Id::BYTES]);
        let id = Id::from_bytes(id);
        if read.is_err() || self.last >= Some(id) {
            self.file = None;
            return None;
        }
        self.last = Some(id);
        Some((id, number(&record[Id::BYTES..])))
    }
}

/// Asked about ids in their order.
trait At {
    /// The second, 0 for one that is not remembered.
    fn at(&mut self, id: &Id) -> u64;
}

impl At for Peekable<Remembered> {
    fn at(&mut self, id: &Id) -> u64 {
        while self.next_if(|(other, _)| other < id).is_some() {}
        self.next_if(|(other, _)| other == id).map_or(0, |(_, second)| second)
    }
}

/// Writes the file anew beside the old one.
struct Writer {
    path: PathBuf,
    new: PathBuf,
    file: BufWriter<File>,
}

impl Writer {
    fn begin(path: &Path) -> Result<Self> {
        let new = path.with_extension("new");
        let begun = File::create(&new).and_then(|file| {
            let mut file = BufWriter::new(file);
            file.write_all(HEAD).map(|()| file)
        });
        match begun {
            Ok(file) => Ok(Self { path: path.into(), new, file }),
            Err(cause) => Err(failed("write", &new, cause)),
        }
    }

    fn push(&mut self, id: &Id, second: u64) -> Result<()> {
        let written = self.file.write_all(id.as_bytes());
        written
            .and_then(|()| self.file.write_all(&second.to_be_bytes()))
            .map_err(|cause| failed("write", &self.new, cause))
    }

    fn finish(self) -> Result<()> {
        let written = self.file.into_inner().map_err(io::IntoInnerError::into_error);
        written
            .and_then(|file| file.sync_all())
            .and_then(|()| fs::rename(&self.new, &self.path))
            .map_err(|cause| failed("write", &self.path, cause))
    }
}
