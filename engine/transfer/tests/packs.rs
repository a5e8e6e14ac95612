//! How blobs are put into packs: spread by chance, and yet few and full.

mod place;

use engine_repository::{BlobKind, FileKind, Id};
use engine_storage::list_all;
use engine_transfer::testing::BlobIndex;
use engine_transfer::{Cancel, ForgetRequest, copy, forget, prune};
use engine_transfer::{CopyRequest, PruneRequest, Repository};
use place::{Place, back_up, check_all, noise, restore_latest};
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

const PACK_BYTES: u64 = 16 << 20;
const FILE_BYTES: usize = 20_000;
const FILES: u64 = 2000;

/// 40 MB in files of one blob each, which are walked in the order of their names.
fn many_blobs(place: &Place) -> (PathBuf, Vec<Id>) {
    let source = place.path("source");
    fs::create_dir_all(&source).unwrap();
    let blobs = (0..FILES).map(|number| {
        let bytes = noise(FILE_BYTES, number + 1);
        fs::write(source.join(format!("{number:05}")), &bytes).unwrap();
        Id::of(&bytes)
    });
    let blobs = blobs.collect();
    (source, blobs)
}

/// How often the pack changes from one blob to the next, and how many packs there are.
fn changes_of_pack(repository: &Repository, blobs: &[Id]) -> (usize, usize) {
    let index = BlobIndex::load(repository).unwrap();
    let pack_of = |id| index.find(BlobKind::Data, id).unwrap().unwrap().0;
    let packs: Vec<_> = blobs.iter().map(pack_of).collect();
    let changes = packs.windows(2).filter(|pair| pair[0] != pair[1]).count();
    (changes, packs.iter().collect::<BTreeSet<_>>().len())
}

fn sizes_of_packs(place: &Place) -> Vec<u64> {
    let packs = list_all(place.folder().as_ref(), FileKind::Pack).unwrap();
    let mut sizes: Vec<_> = packs.into_iter().map(|(_, bytes)| bytes).collect();
    sizes.sort_unstable();
    sizes
}

#[test]
fn whoever_sees_the_packs_does_not_see_which_pieces_are_neighbours() {
    let place = Place::new();
    let (source, blobs) = many_blobs(&place);
    let repository = place.init();
    back_up(&repository, &source);
    // One pack after the other would change two times; half of 2000 is what chance makes of it.
    let (changes, packs) = changes_of_pack(&repository, &blobs);
    assert!(changes > 300, "{changes} changes between {packs} packs");
    assert!((3..=5).contains(&packs), "{packs} packs");
    assert!(sizes_of_packs(&place).iter().all(|bytes| *bytes < PACK_BYTES + PACK_BYTES / 8));
    assert!(check_all(&repository).is_sound());
    place.restic_must(&["check", "--read-data"]);
    // The same where they are moved: to another repository, and by a prune.
    let other = Place::new();
    let twin = other.init();
    copy(&repository, &twin, &CopyRequest::default(), &|_| {}, &Cancel::new()).unwrap();
    assert!(changes_of_pack(&twin, &blobs).0 > 300);
    let left = &blobs[..blobs.len() - 200];
    for number in FILES - 200..FILES {
        fs::remove_file(source.join(format!("{number:05}"))).unwrap();
    }
    back_up(&repository, &source);
    let mut wanted = ForgetRequest::default();
    wanted.policy.last = 1;
    forget(&repository, &wanted).unwrap();
    let all = PruneRequest { is_small_repacked: true, ..PruneRequest::default() };
    prune(&repository, &all, &|_| {}, &Cancel::new()).unwrap();
    assert!(changes_of_pack(&repository, left).0 > 300);
    // What a prune writes is of full size: the next has nothing to do.
    let again = prune(&repository, &all, &|_| {}, &Cancel::new()).unwrap();
    assert_eq!(again.packs_repacked, 0, "{again:?}");
    place.restic_must(&["check", "--read-data"]);
    assert_eq!(restore_latest(&repository, &place.path("target")).problems_total, 0);
}

#[test]
fn a_small_backup_is_one_pack_of_each_kind() {
    let place = Place::new();
    let source = place.path("source");
    for number in 0..40 {
        let folder = source.join(format!("folder {number}"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("file"), noise(60_000, number + 1)).unwrap();
    }
    let repository = place.init();
    back_up(&repository, &source);
    let sizes = sizes_of_packs(&place);
    assert_eq!(sizes.len(), 2, "{sizes:?}");
    assert!(sizes[1] > 40 * 60_000, "{sizes:?}");
    let folder = place.path("repository/data");
    let strays = fs::read_dir(&folder).unwrap().flatten().filter(|entry| entry.path().is_file());
    assert_eq!(strays.count(), 0, "nothing is left of the packs that were put together");
    place.restic_must(&["check", "--read-data"]);
}
