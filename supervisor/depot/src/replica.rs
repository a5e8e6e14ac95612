//! A depot in an object store, and copies of it: to be served, or to be changed.
//!
//! ```text
//! files/SHA256.spk, icons/SHA256.png, lists/SHA256    by content, never changed
//! current         which lists are in force; signed, and put in one request
//! ```
//!
//! `current` is put last and read first, so whoever reads it finds everything it names, and two who
//! publish at one time never write under one name. A server keeps a copy in a folder, laid out as
//! any depot: the copy's own `current` is switched when all of a tree has come. Lost, it is made
//! anew; while the store cannot be reached, it goes on. What nothing names leaves the store by the
//! rules of [`crate::leaving`].
//!
//! **Not here:** how objects are fetched and put; keys, which are never put anywhere.

use crate::error::DepotError;
use crate::keyring::Keyring;
use crate::leaving::Leaving;
use crate::place::{Place, Shelf, read, write_whole};
use crate::tokens;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use supervisor_trust::client::ROOT_BYTES_MAX;
use supervisor_trust::{Envelope, Role, UnixSeconds};

/// The object that says what is in force.
pub const CURRENT: &str = "current";
/// It is not longer than this.
pub const CURRENT_BYTES_MAX: u64 = 1 << 20;
/// Lists and metadata are not longer than this.
const LIST_BYTES_MAX: u64 = 64 << 20;
/// Lists in force at one time, at most.
const LISTS_MAX: usize = 4096;
/// What is signed begins so: no signature over anything else can pass for one over this.
const SEALED: &[u8] = b"holdfast depot: what is in force in the object store\n";
/// What is on the shelves.
const SHELVES: &str = "shelves.json";
/// Lists that lie beside the trees, because they are changed without a new one.
const BESIDE: [&str; 2] = ["tokens.json", "spare.root.json"];

/// What the object `current` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Current {
    /// The number of the tree in force.
    tree: u64,
    /// How many came before it.
    revision: u64,
    /// SHA-256 of each list by its name.
    lists: BTreeMap<String, String>,
    /// Lists of the one before that are no longer in force, by SHA-256. Somebody may be reading
    /// them; whoever puts the next one removes them.
    outdated: BTreeSet<String>,
    /// Objects that nothing names.
    #[serde(default, skip_serializing_if = "Leaving::is_empty")]
    leaving: Leaving,
    /// The signature of a key that signs timestamps.
    seal: Option<String>,
}

impl Current {
    /// Reads the object.
    pub fn read(bytes: &[u8]) -> Result<Self, DepotError> {
        let path = Path::new(CURRENT);
        let current: Self =
            serde_json::from_slice(bytes).map_err(|error| DepotError::damaged(path, error))?;
        let hashes = current.lists.values().chain(&current.outdated);
        let is_sound = current.lists.keys().all(|name| is_list(name))
            && hashes.into_iter().all(|hash| is_hash(hash))
            && current.lists.len() <= LISTS_MAX
            && current.lists.contains_key(SHELVES)
            && current.leaving.is_sound(is_content);
        match is_sound {
            true => Ok(current),
            false => Err(DepotError::damaged(path, "it names what is no list of a depot")),
        }
    }

    /// What the object says.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    fn sealed_bytes(&self) -> Vec<u8> {
        [SEALED, &Self { seal: None, ..self.clone() }.to_json()].concat()
    }

    /// Signs it with a key at hand that signs timestamps; without one it stays unsigned.
    fn seal(&mut self, place: &Place) -> Result<(), DepotError> {
        let path = place.metadata(self.tree, "root.json");
        let bytes = read(&path, u64::from(ROOT_BYTES_MAX))?;
        let root = Envelope::parse("root.json", &bytes)
            .and_then(|envelope| envelope.root())
            .map_err(|error| DepotError::damaged(&path, error))?;
        let ring = Keyring::of(place)?;
        let key = ring.listed(&root, Role::Timestamp).into_iter().next();
        self.seal = key.map(|key| hex::encode(key.sign(&self.sealed_bytes())));
        Ok(())
    }

    fn is_sealed_by(&self, ring: &Keyring) -> bool {
        let seal = self.seal.as_deref().and_then(|seal| hex::decode(seal).ok());
        seal.is_some_and(|seal| ring.verifies(&self.sealed_bytes(), &seal))
    }
}

fn is_list(name: &str) -> bool {
    let plain = name.strip_prefix("metadata/");
    let is_sound = |name: &str| {
        !name.starts_with('.') && name.ends_with(".json") && !name.contains(['/', '\\'])
    };
    plain.map_or(name == SHELVES || BESIDE.contains(&name), is_sound)
}

/// Folders of the store with objects by content, and how those end.
pub const CONTENTS: [(&str, &str); 3] = [("files/", ".spk"), ("icons/", ".png"), ("lists/", "")];

fn is_content(key: &str) -> bool {
    CONTENTS.into_iter().any(|(begin, end)| {
        let hash = key.strip_prefix(begin).and_then(|rest| rest.strip_suffix(end));
        hash.is_some_and(is_hash)
    })
}

fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// An object, and the file with its bytes.
#[derive(Debug, Clone)]
pub struct Piece {
    /// The object's name.
    pub key: String,
    /// The file.
    pub path: PathBuf,
    /// It is not longer than this.
    pub bytes_max: u64,
    /// SHA-256 of its bytes, hex.
    pub sha256: String,
}

impl Piece {
    /// Whether the file holds what the object must.
    pub fn is_right(&self, path: &Path) -> io::Result<bool> {
        Ok(sha256_of(path)? == self.sha256)
    }

    fn content(key: String, path: PathBuf, bytes_max: u64, sha256: &str) -> Self {
        Self { key, path, bytes_max, sha256: sha256.to_owned() }
    }
}

fn sha256_of(path: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    io::copy(&mut File::open(path)?, &mut hash)?;
    Ok(hex::encode(hash.finalize()))
}

/// What is to be put into the store to bring a folder's depot into force there.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// To be put last.
    pub current: Current,
    /// Packages and icons, to be put first.
    pub contents: Vec<Piece>,
    /// Lists that are new.
    pub lists: Vec<Piece>,
    /// Objects nobody needs once it is in force.
    pub outdated: Vec<String>,
}

/// What the depot in `root` has that `before`, which is in force in the store, has not; nothing if
/// it is the same.
pub fn outgoing(
    root: &Path,
    before: Option<&Current>,
    now: UnixSeconds,
) -> Result<Option<Outgoing>, DepotError> {
    let place = Place::at(root);
    let shelf = place.read_shelf()?;
    let mut lists = BTreeMap::new();
    let metadata = shelf.metadata.iter().map(|name| format!("metadata/{name}"));
    let beside = BESIDE.into_iter().filter(|name| root.join(name).exists()).map(str::to_owned);
    for name in metadata.chain(beside).chain([SHELVES.to_owned()]) {
        let path = origin(&place, shelf.number, &name);
        let sha256 = sha256_of(&path).map_err(DepotError::file("read", &path))?;
        lists.insert(name, sha256);
    }
    if before.is_some_and(|before| before.lists == lists) {
        return Ok(None);
    }
    let old = before.map(|before| before.lists.values().cloned().collect());
    let old: BTreeSet<String> = old.unwrap_or_default();
    let new: BTreeSet<String> = lists.values().cloned().collect();
    let contents = contents(&place, &shelf);
    let named = contents.iter().map(|piece| piece.key.clone()).chain(new.iter().map(list_key));
    let leaving = before.map(|before| &before.leaving).cloned().unwrap_or_default();
    let leaving = leaving
        .naming(&named.collect(), now)
        .map_err(|(key, seconds)| DepotError::JustDeleted { key, minutes: seconds.div_ceil(60) })?;
    let mut current = Current {
        tree: shelf.number,
        revision: before.map_or(0, |before| before.revision) + 1,
        outdated: old.difference(&new).cloned().collect(),
        lists,
        leaving,
        seal: None,
    };
    current.seal(&place)?;
    let pieces = current.lists.iter().filter(|(_, sha256)| !old.contains(*sha256));
    let lists = pieces.map(|(name, sha256)| {
        let path = origin(&place, shelf.number, name);
        Piece::content(format!("lists/{sha256}"), path, LIST_BYTES_MAX, sha256)
    });
    let outdated = before.into_iter().flat_map(|before| before.outdated.difference(&new));
    Ok(Some(Outgoing {
        lists: lists.collect(),
        outdated: outdated.map(list_key).collect(),
        contents,
        current,
    }))
}

/// What brings into force that objects leave the store, of those that are `there`; `root` has the
/// lists and a key of what is in force. Nothing if none does.
pub fn collection(
    root: &Path,
    before: &Current,
    there: &[String],
    now: UnixSeconds,
) -> Result<Option<Outgoing>, DepotError> {
    let place = Place::at(root);
    let shelf = place.read_shelf_of(before.tree)?;
    let contents = contents(&place, &shelf).into_iter().map(|piece| piece.key);
    let lists = before.lists.values().chain(&before.outdated).map(list_key);
    let there: Vec<String> = there.iter().filter(|key| is_content(key)).cloned().collect();
    let Some((leaving, outdated)) =
        before.leaving.next(&there, &contents.chain(lists).collect(), now)
    else {
        return Ok(None);
    };
    let mut current = Current { revision: before.revision + 1, leaving, ..before.clone() };
    current.seal(&place)?;
    Ok(Some(Outgoing { current, contents: Vec::new(), lists: Vec::new(), outdated }))
}

fn list_key(sha256: &String) -> String {
    format!("lists/{sha256}")
}

/// Where a list lies in a depot that is in use.
fn origin(place: &Place, tree: u64, name: &str) -> PathBuf {
    match BESIDE.contains(&name) {
        true => place.beside(name),
        false => place.list(tree, name),
    }
}

fn contents(place: &Place, shelf: &Shelf) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for item in shelf.shelves.offered() {
        let (key, path) = (format!("files/{}.spk", item.sha256), place.file(&item.sha256));
        pieces.push(Piece::content(key, path, item.bytes, &item.sha256));
        for icon in [&item.icon, &item.icon_256].into_iter().flatten() {
            let (key, path) = (format!("icons/{icon}.png"), place.icon(icon));
            pieces.push(Piece::content(key, path, CURRENT_BYTES_MAX, icon));
        }
    }
    pieces.sort_by(|one, other| one.key.cmp(&other.key));
    pieces.dedup_by(|one, other| one.key == other.key);
    pieces
}

/// A folder that is published in, and pushed to an object store.
#[derive(Debug, Clone)]
pub struct Pushed(Place);

impl Pushed {
    /// The depot in `root`.
    pub fn at(root: &Path) -> Self {
        Self(Place::at(root))
    }

    /// What the store had in force when the two were last the same.
    pub fn seen(&self) -> Option<Current> {
        Current::read(&read(&self.0.seen(), CURRENT_BYTES_MAX).ok()?).ok()
    }

    /// Notes what it has in force now; `None` when that will be seen.
    pub fn note(&self, current: Option<&Current>) -> Result<(), DepotError> {
        let path = self.0.seen();
        match current {
            Some(current) => write_whole(&path, &current.to_json(), 0o644),
            None => remove(&path),
        }
    }
}

/// A copy in a folder.
#[derive(Debug, Clone)]
pub struct Replica {
    place: Place,
}

impl Replica {
    /// The copy in `folder`, which may not be there yet. It has no keys.
    pub fn at(folder: &Path) -> Result<Self, DepotError> {
        let place = Place::at(folder);
        if place.keys().is_symlink() {
            remove(&place.keys())?;
        }
        place.make_folders()?;
        Ok(Self { place })
    }

    /// The same with the keys in another folder, so that none ever lies in the copy.
    pub fn with_keys(folder: &Path, keys: &Path) -> Result<Self, DepotError> {
        let keys = fs::canonicalize(keys).map_err(DepotError::file("open", keys))?;
        let place = Place::at(folder);
        let link = place.keys();
        if fs::read_link(&link).is_ok_and(|target| target == keys) {
            return Ok(Self { place });
        }
        let replica = Self::at(folder)?;
        // Keys in it are not ours to remove: then this fails.
        fs::remove_dir(&link)
            .and_then(|()| symlink(&keys, &link))
            .map_err(DepotError::file("replace by a link the folder", &link))?;
        Ok(replica)
    }

    /// Whether there is a tree in force.
    pub fn is_there(&self) -> bool {
        self.place.current().is_ok()
    }

    /// What the store had in force when it was last seen.
    pub fn seen(&self) -> Option<Current> {
        Pushed(self.place.clone()).seen()
    }

    /// Notes what the store has in force; `None` when that will be seen.
    pub fn note(&self, current: Option<&Current>) -> Result<(), DepotError> {
        Pushed(self.place.clone()).note(current)
    }

    /// Refuses what none of the keys at hand signed: whoever signs on top of it vouches for it.
    /// Without a key nobody does.
    pub fn judge(&self, current: &Current) -> Result<(), DepotError> {
        let ring = Keyring::of(&self.place)?;
        match ring.is_empty() || current.is_sealed_by(&ring) {
            true => Ok(()),
            false => Err(DepotError::Unsealed),
        }
    }

    /// The lists of what is in force, as far as they have to be fetched.
    pub fn lists(&self, current: &Current) -> Result<Vec<Piece>, DepotError> {
        let here = self.place.current().ok();
        if here != Some(current.tree) {
            self.place.clear_tree(current.tree)?;
        }
        self.place.make_tree(current.tree)?;
        let mut pieces = Vec::new();
        for (name, sha256) in &current.lists {
            let path = self.place.list(current.tree, name);
            let key = format!("lists/{sha256}");
            let piece = Piece::content(key, path.clone(), LIST_BYTES_MAX, sha256);
            if piece.is_right(&path).is_ok_and(|is_right| is_right) {
                continue;
            }
            if here == Some(current.tree) && !BESIDE.contains(&name.as_str()) {
                // One number for two trees: the store was emptied and begun anew.
                let what = "the store has another depot in force; remove the copy, and start again";
                return Err(DepotError::damaged(&path, what));
            }
            let before = here.map(|tree| self.place.list(tree, name));
            let before = before.filter(|old| piece.is_right(old).is_ok_and(|is_right| is_right));
            // Files of a tree are never changed, so that two trees may share them.
            if before.is_none_or(|old| fs::hard_link(old, &path).is_err()) {
                pieces.push(piece);
            }
        }
        Ok(pieces)
    }

    /// The packages and icons of a tree whose lists are there, as far as they are not.
    pub fn missing(&self, current: &Current) -> Result<Vec<Piece>, DepotError> {
        let shelf = self.place.read_shelf_of(current.tree)?;
        let mut pieces = contents(&self.place, &shelf);
        if !pieces.iter().all(|piece| is_hash(&piece.sha256)) {
            let path = self.place.shelves(current.tree);
            return Err(DepotError::damaged(&path, "a file's hash is none"));
        }
        pieces.retain(|piece| !piece.path.exists());
        Ok(pieces)
    }

    /// Puts in force what is there as a whole. What no tree needs goes, so that the copy does not
    /// grow beyond what is on the shelves.
    pub fn switch(&self, current: &Current) -> Result<(), DepotError> {
        let place = &self.place;
        let before = place.current().ok().filter(|before| *before != current.tree);
        for name in BESIDE {
            let path = place.beside(name);
            match current.lists.contains_key(name) {
                true => {
                    let bytes = read(&place.list(current.tree, name), tokens::TABLE_BYTES_MAX)?;
                    write_whole(&path, &bytes, 0o600)?;
                }
                false => remove(&path)?,
            }
        }
        place.switch(current.tree)?;
        let kept: Vec<u64> = [current.tree].into_iter().chain(before).collect();
        place.clear_trees_but(&kept)?;
        self.sweep(&kept)?;
        self.note(Some(current))
    }

    /// Removes packages and icons that none of these trees has on its shelves.
    fn sweep(&self, trees: &[u64]) -> Result<(), DepotError> {
        let mut needed = BTreeSet::new();
        for tree in trees {
            let shelf = self.place.read_shelf_of(*tree)?;
            needed.extend(contents(&self.place, &shelf).into_iter().map(|piece| piece.path));
        }
        for folder in ["files", "icons"] {
            let folder = self.place.beside(folder);
            let entries = fs::read_dir(&folder).map_err(DepotError::file("read", &folder))?;
            for path in entries.flatten().map(|entry| entry.path()) {
                if !needed.contains(&path) {
                    remove(&path)?;
                }
            }
        }
        Ok(())
    }

    /// Takes the packages and icons of another copy that this one has not; the other loses all.
    pub fn take_contents(&self, other: &Self) -> Result<(), DepotError> {
        for folder in ["files", "icons"] {
            let from = other.place.beside(folder);
            let entries = fs::read_dir(&from).map_err(DepotError::file("read", &from))?;
            for entry in entries.flatten() {
                let to = self.place.beside(folder).join(entry.file_name());
                let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
                // On another disk it is fetched again, which is as good.
                if is_hidden || to.exists() || fs::rename(entry.path(), &to).is_err() {
                    remove(&entry.path())?;
                }
            }
        }
        Ok(())
    }

    /// Removes the packages and icons.
    pub fn drop_contents(&self) -> Result<(), DepotError> {
        self.sweep(&[])
    }

    /// Empties it but for its keys.
    pub fn clear(&self) -> Result<(), DepotError> {
        remove(&self.place.seen())?;
        remove(&self.place.beside("current"))?;
        BESIDE.into_iter().try_for_each(|name| remove(&self.place.beside(name)))?;
        for folder in ["trees", "files", "icons"] {
            let path = self.place.beside(folder);
            fs::remove_dir_all(&path).map_err(DepotError::file("clear", &path))?;
            fs::create_dir(&path).map_err(DepotError::file("make", &path))?;
        }
        Ok(())
    }
}

fn remove(path: &Path) -> Result<(), DepotError> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
            Err(DepotError::file("clear", path)(cause))
        }
        _ => Ok(()),
    }
}
