//! Passwords and locks, with restic as the other side.

mod place;

use engine_repository::FileKind;
use engine_storage::testing::{Fault, Faulty};
use engine_transfer::{
    Repository, TransferError, key_add, key_list, key_passwd, key_remove, unlock,
};
use place::{PASSWORD, Place, back_up, plan, who};
use std::fs;
use std::sync::Arc;

fn opens(place: &Place, password: &str) -> bool {
    Repository::open(place.folder(), password, &who(), &plan()).is_ok()
}

#[test]
fn each_password_opens_until_it_is_removed_and_the_one_in_use_stays() {
    let place = Place::new();
    let repository = place.init();
    back_up(&repository, &place.source());
    let first = key_list(&repository).unwrap()[0].clone();
    assert!(first.is_current && first.username == "ann" && first.hostname == "box");
    let second = key_add(&repository, "second").unwrap();
    assert!(opens(&place, PASSWORD) && opens(&place, "second"));
    let keys = key_list(&repository).unwrap();
    assert_eq!(keys.iter().filter(|key| key.is_current).count(), 1);
    assert!(place.restic_must(&["key", "list"]).contains(&second.short()));
    let refused = key_remove(&repository, &first.id.to_string()).unwrap_err();
    assert!(matches!(refused, TransferError::KeyInUse { .. }), "{refused}");
    assert!(matches!(key_remove(&repository, ""), Err(TransferError::NoKey { .. })));
    assert_eq!(key_remove(&repository, &second.to_string()[..12]).unwrap(), second);
    assert!(opens(&place, PASSWORD) && !opens(&place, "second"));
    place.restic_must(&["check", "--read-data"]);
}

#[test]
fn a_changed_password_opens_and_the_old_one_does_not_for_restic_too() {
    let place = Place::new();
    let repository = place.init();
    back_up(&repository, &place.source());
    key_passwd(&repository, "new").unwrap();
    assert!(opens(&place, "new") && !opens(&place, PASSWORD));
    assert!(!place.restic(&["snapshots"]).status.success());
    assert_eq!(fs::read_dir(place.path("repository/keys")).unwrap().count(), 1);
}

#[test]
fn whatever_fails_while_a_password_is_changed_one_of_the_two_opens() {
    let place = Place::new();
    place.init();
    let keys = place.path("repository/keys");
    let first = fs::read_dir(&keys).unwrap().next().unwrap().unwrap().path();
    let key = fs::read(&first).unwrap();
    // A lock, the new key, the old key, the lock.
    for step in 0..4 {
        for fault in [Fault::FailAt(step), Fault::LoseAt(step)] {
            let faulty = Arc::new(Faulty::around(place.folder()));
            let repository = place.open_on(faulty.clone());
            faulty.inject(fault);
            let changed = key_passwd(&repository, "new");
            faulty.heal();
            let is_changed = opens(&place, "new");
            assert!(is_changed || opens(&place, PASSWORD), "{fault:?}");
            assert!(is_changed || changed.is_err(), "{fault:?}");
            unlock(&repository, true).unwrap();
            fs::remove_dir_all(&keys).unwrap();
            fs::create_dir(&keys).unwrap();
            fs::write(&first, &key).unwrap();
        }
    }
}

#[test]
fn a_lock_nobody_holds_is_removed_and_a_living_one_only_with_all() {
    let place = Place::new();
    let repository = place.init();
    let faulty = Arc::new(Faulty::around(place.folder()));
    let lost = place.open_on(faulty.clone());
    // Listing takes a lock (change 0) and could not give it back (change 1).
    faulty.inject(Fault::FailAt(1));
    key_list(&lost).unwrap();
    fs::write(place.path("repository/locks").join("0".repeat(64)), "no lock").unwrap();
    let count = || engine_storage::list_all(place.folder().as_ref(), FileKind::Lock).unwrap().len();
    assert_eq!((count(), unlock(&repository, false).unwrap(), count()), (2, 0, 2));
    let kept_out = key_remove(&repository, "0").unwrap_err();
    assert!(matches!(kept_out, TransferError::Damaged { .. } | TransferError::Locked { .. }));
    assert_eq!((unlock(&repository, true).unwrap(), count()), (2, 0));
    key_list(&repository).unwrap();
}
