//! Destinations that lie: what each lie is called, when, and that it harms nobody.

mod place;

use engine_repository::FileKind;
use engine_storage::StorageError;
use engine_storage::testing::{Fault, Faulty};
use engine_transfer::{Cancel, PruneRequest, TransferError, backup, prune, snapshots};
use place::{Place, back_up, check_all, noise, request, restore_latest};
use std::fs;
use std::sync::Arc;

/// Enough for any backup of the small source.
const CHANGES_MAX: usize = 200;

#[test]
fn a_write_that_was_confirmed_and_lost_fails_the_backup_wherever_it_was() {
    let place = Place::new();
    let source = place.source();
    place.init();
    let mut noticed = 0;
    for step in 0..CHANGES_MAX {
        let faulty = Arc::new(Faulty::around(place.folder()));
        let repository = place.open_on(faulty.clone());
        fs::write(source.join("changing"), noise(700_000, step as u64)).unwrap();
        let before = snapshots(&repository).unwrap().len();
        faulty.inject(Fault::LoseAt(step));
        let ended = backup(&repository, &request(&source), &|_| {}, &Cancel::new());
        let changes = faulty.changes();
        faulty.heal();
        let report = check_all(&repository);
        assert!(report.is_sound(), "step {step}: {:?}", report.findings);
        match ended {
            // What was lost was the making of an empty pack file, or a removal.
            Ok(_) => assert_eq!(snapshots(&repository).unwrap().len(), before + 1, "step {step}"),
            Err(TransferError::Storage(error)) => {
                let is_named =
                    matches!(error, StorageError::Lost { .. } | StorageError::Altered { .. });
                assert!(is_named, "step {step}: {error:?}");
                assert!(error.remedy().contains("Do not trust this destination"));
                assert_eq!(snapshots(&repository).unwrap().len(), before, "step {step}");
                noticed += 1;
            }
            Err(error) => panic!("step {step}: {error:?}"),
        }
        if step >= changes {
            break;
        }
    }
    assert!(noticed >= 5, "only {noticed} lies were noticed");
    place.restic_must(&["unlock", "--remove-all"]);
    place.restic_must(&["check", "--read-data"]);
}

#[test]
fn where_listings_lag_behind_nothing_is_pruned() {
    let place = Place::new();
    let source = place.source();
    place.init();
    for kind in [FileKind::Pack, FileKind::Index, FileKind::Snapshot] {
        let faulty = Arc::new(Faulty::around(place.folder()));
        let repository = place.open_on(faulty.clone());
        faulty.inject(Fault::OldLists(kind));
        fs::write(source.join("changing"), noise(300_000, kind as u64)).unwrap();
        back_up(&repository, &source);
        let pruned = prune(&repository, &PruneRequest::default(), &|_| {}, &Cancel::new());
        let Err(TransferError::Storage(error @ StorageError::OldListing { .. })) = pruned else {
            panic!("{kind:?}: {pruned:?}");
        };
        assert!(error.to_string().contains("out of its listing"), "{error}");
        assert!(error.remedy().contains("prune"));
        faulty.heal();
        assert!(check_all(&repository).is_sound(), "{kind:?}");
    }
    place.restic_must(&["check", "--read-data"]);
}

#[test]
fn files_that_are_given_short_are_never_believed() {
    let place = Place::new();
    let source = place.source();
    let repository = place.init();
    back_up(&repository, &source);
    for kind in [FileKind::Pack, FileKind::Index, FileKind::Snapshot] {
        let faulty = Arc::new(Faulty::around(place.folder()));
        let repository = place.open_on(faulty.clone());
        faulty.inject(Fault::ShortReads(kind));
        assert!(!check_all(&repository).is_sound(), "{kind:?}");
        faulty.heal();
        assert!(check_all(&repository).is_sound(), "{kind:?}");
    }
    let target = place.path("target");
    assert_eq!(restore_latest(&place.open_on(place.folder()), &target).problems_total, 0);
}
