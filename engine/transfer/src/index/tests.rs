//! The index over days of changes, accidents and neighbours.

use super::*;
use crate::repository::nonce;
use crate::{InitRequest, KdfCost, Who};
use engine_contract::memory::{MIB, MemoryPlan};
use engine_repository::index::IndexWriter;
use engine_repository::{FileKind, SealedBlob};
use engine_storage::{Folder, Name};
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

/// Little enough for filters to be folded and tables to spill in a test.
const INDEX_BYTES: u64 = 256 << 10;
const BLOBS_PER_PACK: u32 = 50;

fn plan(index_bytes: u64) -> MemoryPlan {
    MemoryPlan { index_bytes, ..MemoryPlan::of(64 * MIB) }
}

/// A repository, a cache, and what is to be found.
struct World {
    folder: tempfile::TempDir,
    repository: Repository,
    /// Each blob, and the packs it is in.
    expected: HashMap<(BlobKind, Id), (PackedBlob, Vec<Id>)>,
    files: HashMap<Id, Vec<u32>>,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let storage = Arc::new(Folder::at(&folder.path().join("repository")));
        let who = Who {
            hostname: "box".into(),
            username: "ann".into(),
            uid: 0,
            gid: 0,
            pid: std::process::id(),
        };
        let quick = KdfCost { n: 1024, r: 8, p: 1 };
        let request = InitRequest { key_cost: quick, ..InitRequest::default() };
        let plan = plan(INDEX_BYTES);
        let repository = Repository::init_as(storage, "secret", &who, &plan, &request).unwrap();
        let repository = repository.with_cache(&folder.path().join("caches"));
        Self { folder, repository, expected: HashMap::new(), files: HashMap::new() }
    }

    /// Writes an index file with the packs of these numbers.
    fn index(&mut self, packs: impl IntoIterator<Item = u32>) -> Id {
        let packs: Vec<u32> = packs.into_iter().collect();
        let mut writer = IndexWriter::new(self.repository.config().version).unwrap();
        for pack in &packs {
            let blobs = blobs_of(*pack);
            writer.add(&pack_id(*pack), &blobs).unwrap();
            self.expect(&pack_id(*pack), &blobs);
        }
        let sealed = writer.finish(self.repository.key(), nonce().unwrap()).unwrap();
        let file = self.repository.save_sealed(FileKind::Index, &sealed).unwrap();
        self.files.insert(file, packs);
        file
    }

    /// The repository without a cache.
    fn opened(&self, index_bytes: u64) -> Repository {
        let (storage, who) = (self.repository.storage().clone(), self.repository.who().clone());
        Repository::open(storage, "secret", &who, &plan(index_bytes)).unwrap()
    }

    fn expect(&mut self, pack: &Id, blobs: &[PackedBlob]) {
        for packed in blobs {
            let key = (packed.blob.kind, packed.blob.id);
            let (_, packs) = self.expected.entry(key).or_insert((*packed, Vec::new()));
            packs.push(*pack);
        }
    }

    /// Removes an index file, as a prune does.
    fn remove(&mut self, file: Id) {
        self.repository.storage().remove(Name::of(FileKind::Index, file)).unwrap();
        for pack in self.files.remove(&file).unwrap() {
            for packed in blobs_of(pack) {
                let key = (packed.blob.kind, packed.blob.id);
                let (_, packs) = self.expected.get_mut(&key).unwrap();
                let place = packs.iter().position(|id| *id == pack_id(pack)).unwrap();
                packs.swap_remove(place);
            }
        }
        self.expected.retain(|_, (_, packs)| !packs.is_empty());
    }

    fn load(&self) -> Index {
        Index::load(&self.repository).unwrap()
    }

    /// Loads the index and looks up everything.
    #[track_caller]
    fn is_right(&self) -> Index {
        let index = self.load();
        self.agrees_with(&index);
        index
    }

    #[track_caller]
    fn agrees_with(&self, index: &Index) {
        for ((kind, id), (packed, packs)) in &self.expected {
            let found = index.find(*kind, id).unwrap().expect("what is there is found");
            assert_eq!(found.packed, *packed);
            assert!(packs.contains(&found.pack), "a blob is found in a pack it is in");
            assert!(index.has(*kind, id).unwrap());
            let other = if *kind == BlobKind::Data { BlobKind::Tree } else { BlobKind::Data };
            let is_there = self.expected.contains_key(&(other, *id));
            assert_eq!(index.has(other, id).unwrap(), is_there, "data and trees are two worlds");
        }
        for number in 0..3000_u32 {
            let id = Id::of(&[&number.to_be_bytes()[..], b"new"].concat());
            assert_eq!(index.find(BlobKind::Data, &id).unwrap(), None);
            assert!(!index.has(BlobKind::Tree, &id).unwrap());
        }
    }

    fn blobs_folder(&self) -> PathBuf {
        self.repository.cache().folder().unwrap().unwrap().join("blobs")
    }

    /// The files of runs.
    fn runs(&self) -> Vec<PathBuf> {
        let is_run = |path: &PathBuf| path.file_name().is_some_and(|name| name.len() == 32);
        let entries = std::fs::read_dir(self.blobs_folder()).unwrap();
        entries.map(|entry| entry.unwrap().path()).filter(is_run).collect()
    }
}

fn pack_id(pack: u32) -> Id {
    Id::of(&[&pack.to_be_bytes()[..], b"pack"].concat())
}

/// A tree, two blobs that the pack before has too, one that is data here and a tree there, others.
fn blobs_of(pack: u32) -> Vec<PackedBlob> {
    let first = pack * BLOBS_PER_PACK;
    let data = (first.saturating_sub(2)..first + BLOBS_PER_PACK).map(|n| (BlobKind::Data, n));
    data.chain([(BlobKind::Tree, first), (BlobKind::Tree, first + 7)]).map(packed).collect()
}

fn packed((kind, number): (BlobKind, u32)) -> PackedBlob {
    let blob = SealedBlob {
        id: Id::of(&number.to_be_bytes()),
        kind,
        length: number + 100,
        uncompressed_length: NonZeroU32::new(number % 3),
    };
    PackedBlob { blob, offset: number ^ 5 }
}

#[test]
fn over_many_backups_every_blob_is_found_and_the_runs_stay_few() {
    let mut world = World::new();
    assert_eq!(world.is_right().blobs(), 0);
    let mut pack = 0;
    for day in 0..30 {
        let packs = [1, 3, 40, 2, 7][day % 5];
        world.index(pack..pack + packs);
        pack += packs;
        let index = world.is_right();
        let runs = read(&index.kept).runs.len();
        assert!(runs <= 8, "{runs} runs");
        assert_eq!(world.runs().len(), runs, "nothing is left of what was merged");
        assert!(index.blobs() as usize >= world.expected.len());
    }
    // What is all there is not written again.
    let before = world.runs();
    world.is_right();
    assert_eq!(world.runs(), before);
}

#[test]
fn what_index_files_said_that_are_gone_is_forgotten_and_what_others_say_too_is_not() {
    let mut world = World::new();
    let large = world.index(0..200);
    let copy = world.index(150..250);
    world.is_right();
    let small = world.index(300..301);
    world.is_right();
    world.remove(copy);
    world.is_right();
    // As a prune does: all that stays is in a new file, and the old ones go.
    world.index(0..100);
    world.remove(large);
    world.remove(small);
    let index = world.is_right();
    assert_eq!(index.blobs() as usize, world.expected.len());
    for file in world.files.keys().copied().collect::<Vec<_>>() {
        world.remove(file);
    }
    assert_eq!(world.is_right().blobs(), 0);
    assert_eq!(world.runs().len(), 0);
}

#[test]
fn whatever_happens_to_the_cache_the_repository_is_believed() {
    let mut world = World::new();
    world.index(0..120);
    world.load();
    world.index(120..125);
    world.load();
    assert_eq!(world.runs().len(), 2);
    let accidents: [fn(&World, &PathBuf); 5] = [
        |_, path| std::fs::remove_file(path).unwrap(),
        |_, path| std::fs::write(path, b"").unwrap(),
        |_, path| {
            let bytes = std::fs::metadata(path).unwrap().len();
            std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(bytes / 2).unwrap();
        },
        |_, path| {
            let bytes = std::fs::read(path).unwrap();
            std::fs::write(path, [bytes.clone(), bytes].concat()).unwrap();
        },
        // Another run under its name.
        |world, path| {
            let other = world.runs().into_iter().find(|other| other != path);
            std::fs::copy(other.unwrap_or(world.blobs_folder().join("lock")), path).unwrap();
        },
    ];
    for accident in accidents {
        let runs = world.runs();
        for path in runs.iter().chain([&world.blobs_folder().join("manifest")]) {
            accident(&world, path);
            world.is_right();
        }
    }
    // All of it is lost; then a file is in its place.
    std::fs::remove_dir_all(world.blobs_folder()).unwrap();
    world.is_right();
    // An old state of the whole cache comes back.
    let old = world.folder.path().join("old");
    copy_folder(&world.blobs_folder(), &old);
    let (file, _) = world.files.iter().find(|(_, packs)| packs.len() == 5).unwrap();
    let file = *file;
    world.index(200..220);
    world.is_right();
    world.remove(file);
    std::fs::remove_dir_all(world.blobs_folder()).unwrap();
    copy_folder(&old, &world.blobs_folder());
    world.is_right();
}

fn copy_folder(from: &PathBuf, to: &PathBuf) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn a_flipped_bit_on_any_page_is_noticed_at_the_latest_when_it_is_looked_at() {
    let mut world = World::new();
    world.index(0..30);
    world.load();
    let pages = std::fs::metadata(&world.runs()[0]).unwrap().len() / 4096;
    assert!(pages > 20, "{pages} pages");
    for page in 0..pages {
        let run = std::fs::OpenOptions::new().read(true).write(true).open(&world.runs()[0]);
        let run = run.unwrap();
        let at = page * 4096 + page * 131 % 4096;
        let mut byte = [0];
        run.read_exact_at(&mut byte, at).unwrap();
        run.write_all_at(&[byte[0] ^ 1 << (page % 8)], at).unwrap();
        world.is_right();
        assert_eq!(world.runs().len(), 1);
    }
    // In the middle of a run of the program, with blobs of its own beside.
    let index = world.load();
    let pack = pack_id(1000);
    index.stored(pack, &blobs_of(1000)).unwrap();
    world.expect(&pack, &blobs_of(1000));
    let run = std::fs::OpenOptions::new().write(true).open(&world.runs()[0]).unwrap();
    run.write_all_at(&vec![0; (pages as usize - 1) * 4096], 4096).unwrap();
    world.agrees_with(&index);
    assert_eq!(read(&index.kept).rebuilds, 1);
}

#[test]
fn the_cache_of_another_repository_is_not_believed() {
    let mut world = World::new();
    world.index(0..10);
    world.load();
    let mut other = World::new();
    other.index(20..30);
    other.load();
    copy_folder(&world.blobs_folder(), &other.blobs_folder());
    other.is_right();
}

#[test]
fn without_a_cache_all_is_found_and_nothing_is_left() {
    let mut world = World::new();
    world.index(0..40);
    let folder = world.folder.path().join("nowhere");
    world.repository = world.opened(INDEX_BYTES);
    assert!(world.repository.cache().folder().unwrap().is_none());
    world.is_right();
    assert!(!folder.exists());
}

#[test]
fn blobs_of_this_run_are_found_however_many_they_are_in_bounded_memory() {
    let mut world = World::new();
    world.index(0..20);
    let index = world.load();
    for pack in 20..400 {
        let blobs = blobs_of(pack);
        index.stored(pack_id(pack), &blobs).unwrap();
        world.expect(&pack_id(pack), &blobs);
        assert!(index.held_bytes() as u64 <= INDEX_BYTES);
    }
    // A pack that is larger than the table.
    let many: Vec<_> = (1_000_000..1_002_000).map(|n| packed((BlobKind::Data, n))).collect();
    index.stored(pack_id(1000), &many).unwrap();
    world.expect(&pack_id(1000), &many);
    world.agrees_with(&index);
    let runs = read(&index.recent).runs.len();
    assert!((1..=8).contains(&runs), "{runs} runs");
    assert!(index.held_bytes() as u64 <= INDEX_BYTES);
}

#[test]
fn memory_stays_inside_the_plan_where_the_whole_filter_would_not() {
    const INDEX_BYTES: u64 = 64 << 10;
    let mut world = World::new();
    for part in 0..4 {
        world.index(part * 250..part * 250 + 250);
    }
    world.repository = world.opened(INDEX_BYTES).with_cache(&world.folder.path().join("caches"));
    let index = world.load();
    // At ten bits a blob: 65 KB for the filter alone.
    assert_eq!(index.blobs(), 52_000);
    for pack in 5000..5100 {
        index.stored(pack_id(pack), &blobs_of(pack)).unwrap();
        world.expect(&pack_id(pack), &blobs_of(pack));
    }
    world.agrees_with(&index);
    let held = index.held_bytes() as u64;
    assert!(held <= INDEX_BYTES && held > INDEX_BYTES / 3, "{held} bytes");
    // Nearly none: still right, only slower.
    let index = Index::load(&world.opened(8 << 10)).unwrap();
    let held = read(&index.kept).runs.iter().map(Run::held_bytes).sum::<usize>();
    assert!(held <= 7 << 10, "{held} bytes");
    for number in (0..50_000).step_by(97) {
        let expected = packed((BlobKind::Data, number));
        let found = index.find(BlobKind::Data, &expected.blob.id).unwrap().unwrap();
        assert_eq!(found.packed, expected);
    }
}

#[test]
fn two_programs_at_once_do_not_hurt_each_other() {
    let mut world = World::new();
    world.index(0..20);
    for round in 0..6 {
        world.index(20 + round * 5..25 + round * 5);
        std::thread::scope(|scope| {
            let loads: Vec<_> = (0..4).map(|_| scope.spawn(|| world.is_right())).collect();
            for load in loads {
                // Runs that another removed meanwhile are still held open.
                world.agrees_with(&load.join().unwrap());
            }
        });
    }
    let index = world.load();
    assert_eq!(world.runs().len(), read(&index.kept).runs.len());
}

#[test]
fn lookups_are_right_while_others_store() {
    let mut world = World::new();
    world.index(0..100);
    let index = world.load();
    std::thread::scope(|scope| {
        let index = &index;
        for storer in 0..2 {
            scope.spawn(move || {
                for pack in (100..300).filter(|pack| pack % 2 == storer) {
                    index.stored(pack_id(pack), &blobs_of(pack)).unwrap();
                    // What was stored is found from then on.
                    for packed in blobs_of(pack) {
                        assert!(index.has(packed.blob.kind, &packed.blob.id).unwrap());
                    }
                }
            });
        }
        scope.spawn(|| (0..3).for_each(|_| world.agrees_with_old(index)));
    });
    (100..300).for_each(|pack| world.expect(&pack_id(pack), &blobs_of(pack)));
    world.agrees_with(&index);
}

impl World {
    /// Everything of before is found, wherever.
    fn agrees_with_old(&self, index: &Index) {
        for ((kind, id), (packed, _)) in &self.expected {
            assert_eq!(index.find(*kind, id).unwrap().unwrap().packed, *packed);
        }
    }
}

#[test]
fn stopped_while_it_reads_the_index_is_no_worse_off() {
    let mut world = World::new();
    world.index(0..50);
    let cancel = Cancel::new();
    cancel.cancel();
    let stopped = Index::load_or_stop(&world.repository, &cancel);
    assert!(matches!(stopped, Err(TransferError::Cancelled)));
    world.is_right();
    assert_eq!(world.runs().len(), 1, "what was begun is gone");
}
