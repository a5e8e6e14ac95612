//! What every storage must do, as one test that runs against each of them.

use crate::{Name, Storage, StorageError, list_all};
use engine_repository::{FileKind, Id};
use std::sync::Arc;

/// Fails (by panicking) when the storage `make` gives does not keep the promises of [`Storage`].
///
/// `make` is called once and must give an empty place where nothing was created yet.
pub fn conforms(make: impl FnOnce() -> Arc<dyn Storage>) {
    let storage = make();
    keeps_every_promise_but_for_rivals(storage.as_ref());
    one_name_written_by_many_at_once_is_written_once(storage.as_ref(), Name::CONFIG);
    let name = name_of(FileKind::Lock, b"contended");
    one_name_written_by_many_at_once_is_written_once(storage.as_ref(), name);
}

/// The same for a server that lets each of several writers of one name at one time believe to have
/// been the only one. That harms nobody where the name is the sum of the content; of configs,
/// whose name is not, it too must take only one.
pub fn conforms_where_names_are_sums(make: impl FnOnce() -> Arc<dyn Storage>) {
    let storage = make();
    keeps_every_promise_but_for_rivals(storage.as_ref());
    one_name_written_by_many_at_once_is_written_once(storage.as_ref(), Name::CONFIG);
}

/// The same for a server that has no way to let only one of several writers at one time win.
pub fn conforms_but_for_rivals(make: impl FnOnce() -> Arc<dyn Storage>) {
    keeps_every_promise_but_for_rivals(make().as_ref());
}

fn keeps_every_promise_but_for_rivals(storage: &dyn Storage) {
    assert!(matches!(storage.size(Name::CONFIG), Ok(None) | Err(StorageError::Gone { .. })));
    storage.create().expect("an empty place takes a layout");
    storage.create().expect("creating again changes nothing");
    a_file_is_read_as_it_was_written(storage);
    nothing_is_ever_overwritten(storage);
    what_is_not_there_is_not_found(storage);
    ranges_are_exact(storage);
    packs_appear_when_committed_and_not_before(storage);
    listings_name_each_file_once(storage);
}

fn name_of(kind: FileKind, bytes: &[u8]) -> Name {
    Name::of(kind, Id::of(bytes))
}

fn a_file_is_read_as_it_was_written(storage: &dyn Storage) {
    let long: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
    for kind in FileKind::LISTED {
        for bytes in [&b""[..], b"x", &long] {
            let name = name_of(kind, bytes);
            storage.write(name, bytes).unwrap();
            assert_eq!(storage.read(name, bytes.len() as u64).unwrap(), bytes, "{name}");
            assert_eq!(storage.size(name).unwrap(), Some(bytes.len() as u64), "{name}");
            storage.remove(name).unwrap();
            assert_eq!(storage.size(name).unwrap(), None, "{name}");
        }
    }
    storage.write(Name::CONFIG, b"config").unwrap();
    assert_eq!(storage.read(Name::CONFIG, 100).unwrap(), b"config");
}

fn nothing_is_ever_overwritten(storage: &dyn Storage) {
    for name in [Name::CONFIG, name_of(FileKind::Key, b"key")] {
        let _ = storage.write(name, b"config");
        let again = storage.write(name, b"other");
        assert!(matches!(again, Err(StorageError::AlreadyExists { .. })), "{name}: {again:?}");
        assert_eq!(storage.read(name, 100).unwrap(), b"config");
    }
}

fn what_is_not_there_is_not_found(storage: &dyn Storage) {
    let name = name_of(FileKind::Snapshot, b"never written");
    assert!(matches!(storage.read(name, 10), Err(StorageError::NotFound { .. })));
    assert!(matches!(storage.read_range(name, 0, &mut [0]), Err(StorageError::NotFound { .. })));
    assert!(matches!(storage.remove(name), Err(StorageError::NotFound { .. })));
}

fn ranges_are_exact(storage: &dyn Storage) {
    let name = name_of(FileKind::Index, b"0123456789");
    storage.write(name, b"0123456789").unwrap();
    let mut buffer = [0; 4];
    storage.read_range(name, 3, &mut buffer).unwrap();
    assert_eq!(&buffer, b"3456");
    storage.read_range(name, 10, &mut []).unwrap();
    for offset in [7, 10, 11, u64::from(u32::MAX) + 9] {
        let short = storage.read_range(name, offset, &mut buffer);
        assert!(matches!(short, Err(StorageError::Short { .. })), "{offset}: {short:?}");
    }
    let cut = storage.read(name, 9);
    assert!(matches!(cut, Err(StorageError::TooLarge { bytes: 10, bytes_max: 9, .. })), "{cut:?}");
    storage.remove(name).unwrap();
}

fn packs_appear_when_committed_and_not_before(storage: &dyn Storage) {
    let id = Id::of(b"onetwo");
    let mut pack = storage.create_pack().unwrap();
    pack.append(b"one").unwrap();
    assert_eq!(list_all(storage, FileKind::Pack).unwrap(), [], "an open pack is not listed");
    let mut buffer = [0; 8];
    assert_eq!(pack.read_back(1, &mut buffer).unwrap(), 2, "an open pack can be read again");
    assert_eq!(&buffer[..2], b"ne");
    pack.append(b"two").unwrap();
    assert_eq!(pack.read_back(2, &mut buffer[..3]).unwrap(), 3, "and goes on where it ended");
    assert_eq!(&buffer[..3], b"etw");
    assert_eq!(pack.read_back(6, &mut buffer).unwrap(), 0);
    pack.commit(id).unwrap();
    assert_eq!(storage.read(Name::of(FileKind::Pack, id), 100).unwrap(), b"onetwo");

    let mut again = storage.create_pack().unwrap();
    again.append(b"onetwo").unwrap();
    again.commit(id).expect("the same pack once more is kept once");
    let mut other = storage.create_pack().unwrap();
    other.append(b"another content").unwrap();
    assert!(matches!(other.commit(id), Err(StorageError::AlreadyExists { .. })));

    let mut dropped = storage.create_pack().unwrap();
    dropped.append(b"never finished").unwrap();
    drop(dropped);
    assert_eq!(list_all(storage, FileKind::Pack).unwrap(), [(id, 6)]);
    storage.remove(Name::of(FileKind::Pack, id)).unwrap();
}

fn listings_name_each_file_once(storage: &dyn Storage) {
    for kind in [FileKind::Pack, FileKind::Lock] {
        assert_eq!(list_all(storage, kind).unwrap(), [], "{kind:?}");
        let mut expected: Vec<(Id, u64)> = (0..300u32)
            .map(|number| {
                let bytes = vec![7; number as usize];
                let id = Id::of(&number.to_le_bytes());
                storage.write(Name::of(kind, id), &bytes).unwrap();
                (id, u64::from(number))
            })
            .collect();
        expected.sort_unstable();
        let mut found = list_all(storage, kind).unwrap();
        found.sort_unstable();
        assert_eq!(found, expected, "{kind:?}");
        let mut seen = 0;
        let stopped = storage.list(kind, &mut |_, _| {
            seen += 1;
            Err(StorageError::Gone { location: "told to stop".into() })
        });
        assert!(stopped.is_err() && seen == 1, "{kind:?}: a listing ends when told to");
        for (id, _) in expected {
            storage.remove(Name::of(kind, id)).unwrap();
        }
    }
}

fn one_name_written_by_many_at_once_is_written_once(storage: &dyn Storage, name: Name) {
    if storage.size(name).unwrap().is_some() {
        storage.remove(name).unwrap();
    }
    let winners: usize = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..8u8)
            .map(|number| scope.spawn(move || storage.write(name, &[number; 500]).is_ok()))
            .collect();
        writers.into_iter().map(|writer| usize::from(writer.join().unwrap())).sum()
    });
    assert_eq!(winners, 1);
    let bytes = storage.read(name, 500).unwrap();
    assert!(bytes.len() == 500 && bytes.iter().all(|byte| *byte == bytes[0]));
    storage.remove(name).unwrap();
}
