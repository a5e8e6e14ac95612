//! A depot in an object store, and copies of it that serve.
//!
//! ```text
//! files/SHA256.spk, icons/SHA256.png    by content, never changed
//! trees/N/shelves.json, trees/N/metadata/NAME
//! current                               {"tree": N, "metadata": [NAME, …]}, put in one request
//! ```
//!
//! `current` is put last and read first, so whoever reads it finds everything it names. A server
//! keeps a copy in a folder, laid out as any depot: the copy's own `current` is switched when all
//! of a tree has come. Lost, it is made anew; while the store cannot be reached, it goes on.
//!
//! **Not here:** how objects are fetched and put; keys, which never leave the publisher's folder.

use crate::error::DepotError;
use crate::place::{Place, Shelf};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// The object that says which tree is in force.
pub const CURRENT: &str = "current";
/// It is not longer than this.
pub const CURRENT_BYTES_MAX: u64 = 1 << 20;
/// Lists and metadata are not longer than this.
const LIST_BYTES_MAX: u64 = 64 << 20;

/// What the object `current` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Current {
    /// The number of the tree in force.
    pub tree: u64,
    /// The files of its metadata.
    metadata: Vec<String>,
}

impl Current {
    /// Reads the object.
    pub fn read(bytes: &[u8]) -> Result<Self, DepotError> {
        let path = Path::new(CURRENT);
        let current: Self =
            serde_json::from_slice(bytes).map_err(|error| DepotError::damaged(path, error))?;
        let is_sound = |name: &String| {
            !name.starts_with('.') && name.ends_with(".json") && !name.contains(['/', '\\'])
        };
        match current.metadata.iter().all(is_sound) {
            true => Ok(current),
            false => Err(DepotError::damaged(path, "it names a file that is no metadata")),
        }
    }

    /// What the object says.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
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
    /// SHA-256 of its bytes, hex, when they never change.
    pub sha256: Option<String>,
}

impl Piece {
    /// Whether the file holds what the object must.
    pub fn is_right(&self, path: &Path) -> io::Result<bool> {
        let Some(sha256) = &self.sha256 else { return Ok(true) };
        let mut hash = Sha256::new();
        io::copy(&mut File::open(path)?, &mut hash)?;
        Ok(hex::encode(hash.finalize()) == *sha256)
    }
}

/// Everything of the tree in force of the depot in `root`, in the order in which it is to be put.
pub fn outgoing(root: &Path) -> Result<(Current, Vec<Piece>), DepotError> {
    let place = Place::at(root);
    let shelf = place.read_shelf()?;
    let metadata: Vec<String> = shelf.metadata.iter().cloned().collect();
    let current = Current { tree: shelf.number, metadata };
    let mut pieces = contents(&place, &shelf);
    pieces.extend(lists(&place, &current));
    Ok((current, pieces))
}

fn contents(place: &Place, shelf: &Shelf) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for item in shelf.shelves.offered() {
        pieces.push(Piece {
            key: format!("files/{}.spk", item.sha256),
            path: place.file(&item.sha256),
            bytes_max: item.bytes,
            sha256: Some(item.sha256.clone()),
        });
        for icon in [&item.icon, &item.icon_256].into_iter().flatten() {
            pieces.push(Piece {
                key: format!("icons/{icon}.png"),
                path: place.icon(icon),
                bytes_max: CURRENT_BYTES_MAX,
                sha256: Some(icon.clone()),
            });
        }
    }
    pieces.sort_by(|one, other| one.key.cmp(&other.key));
    pieces.dedup_by(|one, other| one.key == other.key);
    pieces
}

fn lists(place: &Place, current: &Current) -> Vec<Piece> {
    let tree = current.tree;
    let list =
        |key: String, path: PathBuf| Piece { key, path, bytes_max: LIST_BYTES_MAX, sha256: None };
    let mut pieces = vec![list(format!("trees/{tree}/shelves.json"), place.shelves(tree))];
    pieces.extend(
        current
            .metadata
            .iter()
            .map(|name| list(format!("trees/{tree}/metadata/{name}"), place.metadata(tree, name))),
    );
    pieces
}

/// A copy in a folder.
#[derive(Debug, Clone)]
pub struct Replica {
    place: Place,
}

impl Replica {
    /// The copy in `folder`, which may not be there yet.
    pub fn at(folder: &Path) -> Result<Self, DepotError> {
        let place = Place::at(folder);
        place.make_folders()?;
        Ok(Self { place })
    }

    /// The tree the copy has in force.
    pub fn tree(&self) -> Option<u64> {
        self.place.current().ok()
    }

    /// The lists of a tree, all to be fetched.
    pub fn lists(&self, current: &Current) -> Result<Vec<Piece>, DepotError> {
        self.place.make_tree(current.tree)?;
        Ok(lists(&self.place, current))
    }

    /// The packages and icons of a tree whose lists are there, as far as they are not.
    pub fn missing(&self, current: &Current) -> Result<Vec<Piece>, DepotError> {
        let shelf = self.place.read_shelf_of(current.tree)?;
        let sound = |piece: &Piece| {
            let name = piece.sha256.as_deref().unwrap_or_default();
            name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        let mut pieces = contents(&self.place, &shelf);
        if !pieces.iter().all(sound) {
            let path = self.place.shelves(current.tree);
            return Err(DepotError::damaged(&path, "a file's hash is none"));
        }
        pieces.retain(|piece| !piece.path.exists());
        Ok(pieces)
    }

    /// Puts a tree in force that is there as a whole.
    pub fn switch(&self, current: &Current) -> Result<(), DepotError> {
        self.place.switch(current.tree)?;
        self.place.clear_old_trees(current.tree)
    }
}
