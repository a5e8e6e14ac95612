//! The blob index of a repository as large as is asked for: how fast, and in how much memory.
//!
//! `index_of_ten_million make FOLDER COUNT` makes a repository of index files only, with so many
//! blobs. `index_of_ten_million measure FOLDER COUNT` reads it: once without a cache of before (as
//! after its loss), once with, with a few index files more, and after half of them are gone; it
//! looks up known and new blobs, stores a million, and prints rates and the peak of its memory.
//! In two steps, so that the second can be put into a memory cgroup. COUNT alone does both in a
//! folder that goes afterwards.

use engine_contract::memory::{MIB, MemoryPlan};
use engine_repository::{BlobKind, FileKind, Id, PackedBlob, SealedBlob};
use engine_storage::{Folder, Name, Storage, list_all};
use engine_transfer::testing::{BlobIndex, write_index};
use engine_transfer::{Repository, Who};
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const BLOBS_PER_PACK: u64 = 16;
const PACKS_PER_INDEX: u64 = 3125;
const LOOKUPS: u64 = 200_000;
const STORED: u64 = 1_000_000;
/// Blobs from here on are not in the repository.
const NEW: u64 = 1 << 40;

type Answer<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Answer<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["make", folder, count] => make(Path::new(folder), count.parse()?),
        ["measure", folder, count] => measure(Path::new(folder), count.parse()?),
        [count] => {
            let folder = tempfile::tempdir()?;
            make(folder.path(), count.parse()?)?;
            measure(folder.path(), count.parse()?)
        }
        _ => Err("say: [make|measure FOLDER] COUNT".into()),
    }
}

fn storage(folder: &Path) -> Arc<dyn Storage> {
    Arc::new(Folder::at(&folder.join("repository")))
}

fn who() -> Who {
    let pid = std::process::id();
    Who { hostname: "bench".into(), username: "bench".into(), uid: 0, gid: 0, pid }
}

fn open(folder: &Path) -> Answer<Repository> {
    let plan = MemoryPlan::of(64 * MIB);
    let repository = Repository::open(storage(folder), "bench", &who(), &plan)?;
    Ok(repository.with_cache(&folder.join("caches")))
}

fn make(folder: &Path, count: u64) -> Answer<()> {
    std::fs::create_dir_all(folder)?;
    Repository::init(storage(folder), "bench", &who(), &MemoryPlan::of(64 * MIB))?;
    add_index_files(&open(folder)?, 0, count)
}

fn add_index_files(repository: &Repository, from: u64, to: u64) -> Answer<()> {
    let mut packs = Vec::new();
    let mut blob = from;
    while blob < to {
        let end = to.min(blob + BLOBS_PER_PACK);
        packs.push((Id::of(&(NEW + blob).to_be_bytes()), (blob..end).map(packed).collect()));
        blob = end;
        if packs.len() as u64 == PACKS_PER_INDEX || blob == to {
            write_index(repository, &packs)?;
            packs.clear();
        }
    }
    Ok(())
}

fn packed(number: u64) -> PackedBlob {
    let id = Id::of(&number.to_be_bytes());
    let kind = if number.is_multiple_of(16) { BlobKind::Tree } else { BlobKind::Data };
    let length = 100_000 + (number % 900_000) as u32;
    let uncompressed_length = NonZeroU32::new(2 * length);
    let blob = SealedBlob { id, kind, length, uncompressed_length };
    PackedBlob { blob, offset: (number % BLOBS_PER_PACK) as u32 * 1_000_000 }
}

fn measure(folder: &Path, count: u64) -> Answer<()> {
    let caches = folder.join("caches");
    if caches.exists() {
        std::fs::remove_dir_all(&caches)?;
    }
    println!("| what | how long | rate | peak RSS |\n|---|---|---|---|");
    let timed = |what: &str, number: u64, since: Instant| -> Answer<()> {
        let took = since.elapsed().max(Duration::from_nanos(1));
        let rate = number as f64 / took.as_secs_f64();
        let peak = peak_bytes()? as f64 / MIB as f64;
        println!("| {what} | {:.2} s | {rate:.0}/s | {peak:.1} MiB |", took.as_secs_f64());
        Ok(())
    };
    let since = Instant::now();
    let repository = open(folder)?;
    timed("open the repository", 1, since)?;
    let since = Instant::now();
    let index = BlobIndex::load(&repository)?;
    timed("build: all blobs", count, since)?;
    if index.blobs() != count {
        return Err(format!("{} blobs, not {count}", index.blobs()).into());
    }
    drop(index);
    let since = Instant::now();
    let index = BlobIndex::load(&repository)?;
    timed("load again: nothing new", count, since)?;
    let bytes = index.held_bytes();
    println!("| memory held | | {:.1} bits a blob | |", bytes as f64 * 8.0 / count as f64);

    let since = Instant::now();
    look_up(&index, 0..LOOKUPS.min(count), &|place| mixed(place) % count, true)?;
    timed("look up: known, at random", LOOKUPS.min(count), since)?;
    let since = Instant::now();
    look_up(&index, 0..5 * LOOKUPS, &|place| NEW + mixed(place) % NEW, false)?;
    timed("look up: new", 5 * LOOKUPS, since)?;
    let since = Instant::now();
    for pack in 0..STORED / BLOBS_PER_PACK {
        let first = 2 * NEW + pack * BLOBS_PER_PACK;
        let blobs: Vec<_> = (first..first + BLOBS_PER_PACK).map(packed).collect();
        index.stored(Id::of(&pack.to_be_bytes()), &blobs)?;
    }
    timed("store new blobs", STORED, since)?;
    let since = Instant::now();
    look_up(&index, 0..LOOKUPS, &|place| 2 * NEW + mixed(place) % STORED, true)?;
    timed("look up: just stored", LOOKUPS, since)?;
    println!("| memory held | | {:.1} MiB | |", index.held_bytes() as f64 / MIB as f64);
    drop(index);

    add_index_files(&repository, count, count + count / 100)?;
    let since = Instant::now();
    let index = BlobIndex::load(&repository)?;
    timed("load: 1 % new", count / 100, since)?;
    drop(index);
    let files = list_all(storage(folder).as_ref(), FileKind::Index)?;
    for (file, _) in &files[..files.len() / 2] {
        storage(folder).remove(Name::of(FileKind::Index, *file))?;
    }
    let since = Instant::now();
    let index = BlobIndex::load(&repository)?;
    timed("load: half is gone", index.blobs(), since)
}

/// Numbers in no order.
fn mixed(place: u64) -> u64 {
    let mixed = place.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed ^ mixed >> 31).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 8
}

fn look_up(
    index: &BlobIndex,
    places: std::ops::Range<u64>,
    number_of: &dyn Fn(u64) -> u64,
    expected: bool,
) -> Answer<()> {
    for place in places {
        let blob = packed(number_of(place));
        let found = index.find(blob.blob.kind, &blob.blob.id)?;
        if found.is_some() != expected || found.is_some_and(|(_, packed)| packed != blob) {
            return Err(format!("a wrong answer: {found:?}, not {blob:?}").into());
        }
    }
    Ok(())
}

/// The most memory the process ever had.
fn peak_bytes() -> Answer<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = peak.and_then(|peak| peak.split_whitespace().next());
    Ok(number.ok_or("the system tells no peak of memory")?.parse::<u64>()? * 1024)
}
