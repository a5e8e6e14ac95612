//! A check that reads a part of the data each time, until everything was read.

mod place;

use engine_repository::FileKind;
use engine_storage::list_all;
use engine_transfer::{Cancel, CheckReport, Reading, Repository, check_reading};
use place::{Place, back_up, noise};
use std::fs;

/// A repository of some ten packs, and a cache.
fn many_packs(place: &Place) -> Repository {
    let source = place.path("source");
    fs::create_dir(&source).unwrap();
    let repository = place.init().with_cache(&place.path("caches"));
    for number in 0..5 {
        fs::write(source.join(number.to_string()), noise(400_000, 1 + number)).unwrap();
        back_up(&repository, &source);
    }
    repository
}

fn read(repository: &Repository, reading: Reading) -> CheckReport {
    check_reading(repository, reading, &|_| {}, &Cancel::new()).unwrap()
}

fn bytes(place: &Place) -> u64 {
    let packs = list_all(place.folder().as_ref(), FileKind::Pack).unwrap();
    packs.iter().map(|(_, bytes)| bytes).sum()
}

#[test]
fn a_share_at_a_time_every_pack_is_read_once_before_any_is_read_twice() {
    let place = Place::new();
    let repository = many_packs(&place);
    let share = Reading::OldestPermille(250);
    let file = place.path("caches").join(repository.id().to_string()).join("packs-read");
    let packs = list_all(place.folder().as_ref(), FileKind::Pack).unwrap();
    let remembered = || fs::metadata(&file).map_or(0, |facts| (facts.len() as usize - 8) / 40);
    let (mut sum, mut rounds, mut last) = (0, 0, 0);
    while remembered() < packs.len() {
        let done = read(&repository, share);
        assert!(done.is_sound() && done.bytes_read > 0);
        (sum, last) = (sum + done.bytes_read, done.bytes_read);
        rounds += 1;
        assert!(rounds <= 10, "some packs are read twice and some never");
    }
    assert!(rounds >= 3 && sum - last < bytes(&place), "{rounds} {sum}");
    // What is lost or makes no sense only means that all begins anew.
    for nonsense in [&b""[..], b"hfread\0\x01 and more", b"something else"] {
        fs::write(&file, nonsense).unwrap();
        assert!(read(&repository, share).is_sound());
    }
    fs::remove_file(&file).unwrap();
    assert!(read(&repository, share).is_sound());
}

#[test]
fn a_damaged_pack_is_found_by_a_share_and_found_again_until_it_is_repaired() {
    let place = Place::new();
    let repository = many_packs(&place);
    let packs = list_all(place.folder().as_ref(), FileKind::Pack).unwrap();
    let (damaged, _) = packs.iter().max_by_key(|(_, bytes)| *bytes).unwrap();
    let path = place.path("repository").join(FileKind::Pack.path(damaged));
    let mut content = fs::read(&path).unwrap();
    content[100] ^= 1;
    fs::remove_file(&path).unwrap();
    fs::write(&path, content).unwrap();
    let whole = read(&repository, Reading::All);
    assert_eq!(whole.damage_total, 1);
    // Everything else was read just now.
    let share = read(&repository, Reading::OldestPermille(1));
    assert_eq!(share.damage_total, 1, "{:?}", share.findings);
}

#[test]
fn parts_by_number_are_restics_and_make_up_the_whole() {
    let place = Place::new();
    let repository = many_packs(&place);
    let parts = 1..=3;
    let mut sum = 0;
    for number in parts {
        let read = read(&repository, Reading::Part { number, of: 3 }).bytes_read;
        let subset = format!("--read-data-subset={number}/3");
        let said = place.restic_must(&["check", &subset]);
        assert!(said.contains("no errors were found"), "{said}");
        let packs = list_all(place.folder().as_ref(), FileKind::Pack).unwrap();
        let of_part = packs.iter().filter(|(id, _)| u16::from(id.as_bytes()[0]) % 3 == number - 1);
        let count = of_part.clone().count();
        assert!(count == 0 || said.contains(&format!("{count} / {count} packs")), "{said}");
        assert_eq!(read, of_part.map(|(_, bytes)| bytes).sum::<u64>());
        sum += read;
    }
    assert_eq!(sum, bytes(&place));
}

#[test]
fn at_random_as_much_is_read_as_was_asked_for() {
    let place = Place::new();
    let repository = place.open_on(place_with_packs(&place));
    let all = bytes(&place);
    let some = read(&repository, Reading::RandomPermille(500)).bytes_read;
    assert!(some > 0 && some < all);
    assert_eq!(read(&repository, Reading::RandomPermille(1000)).bytes_read, all);
    let some = read(&repository, Reading::RandomBytes(500_000)).bytes_read;
    assert!((400_000..all).contains(&some), "{some}");
    assert_eq!(read(&repository, Reading::RandomBytes(u64::MAX)).bytes_read, all);
    assert_eq!(read(&repository, Reading::None).bytes_read, 0);
}

fn place_with_packs(place: &Place) -> std::sync::Arc<dyn engine_storage::Storage> {
    drop(many_packs(place));
    place.folder()
}
