//! Shapes a repository may have, and writing one.
//!
//! ```text
//! pack    blob_1 … blob_n  sealed(header)  u32le(length of the sealed header)
//! header  kind u8 (0 data, 1 tree; 2 and 3: compressed), length u32le, [plain u32le,] id
//! file    sealed(2, zstd(json)), in version 1 sealed(json)
//! ```

use crate::original::{Blob, Original};
use engine_repository::{FileKind, Id};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// How index files list packs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexShape {
    /// One file for all.
    One,
    /// One for each pack.
    OnePerPack,
    /// Every pack in two files.
    Twice,
    /// A file that says it supersedes the one that is still beside it.
    Supersedes,
    /// With fields only other programs write, of packs that are not there.
    Strange,
    /// An empty one beside the full one.
    WithEmpty,
}

/// A repository's shape.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// 1 or 2; version 1 knows no compression.
    pub version: u32,
    /// Whether packs hold trees and data together, as restic once wrote.
    pub is_mixed: bool,
    /// In how many packs each blob is.
    pub copies: usize,
    /// At most so many blobs in a pack.
    pub blobs_per_pack: usize,
    /// How the index lists them.
    pub index: IndexShape,
    /// Whether files lie around that belong to nobody.
    pub has_strangers: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            version: 2,
            is_mixed: false,
            copies: 1,
            blobs_per_pack: 4,
            index: IndexShape::One,
            has_strangers: false,
        }
    }
}

/// Writes one repository; nonces are counted, so that the same bytes come out every time.
struct Writer<'a> {
    original: &'a Original,
    folder: &'a Path,
    shape: Shape,
    nonces: u128,
}

impl Original {
    /// Writes everything into `folder`, in this shape.
    ///
    /// # Panics
    /// When the folder cannot be written.
    pub fn write(&self, folder: &Path, shape: Shape) {
        for name in ["keys", "locks", "snapshots", "index", "data"] {
            fs::create_dir_all(folder.join(name)).expect("a folder");
        }
        for first in 0..=255_u8 {
            fs::create_dir_all(folder.join(format!("data/{first:02x}"))).expect("a folder");
        }
        let mut writer = Writer { original: self, folder, shape, nonces: 0 };
        writer.put(FileKind::Key, &self.key_file);
        let mut config = self.config.clone();
        config["version"] = shape.version.into();
        let config = writer.sealed(config.to_string().as_bytes());
        fs::write(folder.join("config"), config).expect("room for a config");
        let packs = writer.packs();
        writer.index(&packs);
        for snapshot in &self.snapshots {
            writer.put_unpacked(FileKind::Snapshot, snapshot);
        }
        if shape.has_strangers {
            strangers(folder);
        }
    }
}

impl Original {
    /// Puts a lock into the repository in `folder` that says what `lock` says.
    ///
    /// # Panics
    /// When the folder cannot be written.
    pub fn put_lock(&self, folder: &Path, lock: &Value) {
        let shape = Shape::default();
        let mut writer = Writer { original: self, folder, shape, nonces: 1 << 64 };
        writer.put_unpacked(FileKind::Lock, lock.to_string().as_bytes());
    }
}

impl Writer<'_> {
    fn sealed(&mut self, plaintext: &[u8]) -> Vec<u8> {
        self.nonces += 1;
        let mut sealed = Vec::new();
        let nonce = self.nonces.to_be_bytes();
        self.original.key.seal_into(nonce, plaintext, &mut sealed).expect("a nonce");
        sealed
    }

    fn put(&self, kind: FileKind, bytes: &[u8]) -> Id {
        let id = Id::of(bytes);
        fs::write(self.folder.join(kind.path(&id)), bytes).expect("room for a file");
        id
    }

    fn put_unpacked(&mut self, kind: FileKind, json: &[u8]) -> Id {
        let sealed = match self.shape.version {
            1 => self.sealed(json),
            _ => {
                let mut content = vec![2];
                content.extend(zstd::bulk::compress(json, 3).expect("it compresses"));
                self.sealed(&content)
            }
        };
        self.put(kind, &sealed)
    }

    /// Writes all packs, and gives their entries of the index.
    fn packs(&mut self) -> Vec<Value> {
        let original = self.original;
        let (trees, data): (Vec<&Blob>, Vec<&Blob>) =
            original.blobs.iter().partition(|blob| blob.is_tree);
        let groups = match self.shape.is_mixed {
            // As they come, trees after the files in them.
            true => vec![original.blobs.iter().collect::<Vec<_>>()],
            false => vec![trees, data],
        };
        let mut entries = Vec::new();
        for _ in 0..self.shape.copies {
            for group in &groups {
                for blobs in group.chunks(self.shape.blobs_per_pack) {
                    entries.push(self.pack(blobs));
                }
            }
        }
        entries
    }

    fn pack(&mut self, blobs: &[&Blob]) -> Value {
        let (mut pack, mut header, mut listed) = (Vec::new(), Vec::new(), Vec::new());
        for blob in blobs {
            let is_compressed = self.shape.version > 1 && !blob.plaintext.is_empty();
            let sealed = match is_compressed {
                true => {
                    let small = zstd::bulk::compress(&blob.plaintext, 3).expect("it compresses");
                    self.sealed(&small)
                }
                false => self.sealed(&blob.plaintext),
            };
            let number = |length: usize| u32::try_from(length).expect("small").to_le_bytes();
            header.push(u8::from(blob.is_tree) + if is_compressed { 2 } else { 0 });
            header.extend(number(sealed.len()));
            let mut entry = json!({
                "id": blob.id.to_string(),
                "type": if blob.is_tree { "tree" } else { "data" },
                "offset": pack.len(),
                "length": sealed.len(),
            });
            if is_compressed {
                header.extend(number(blob.plaintext.len()));
                entry["uncompressed_length"] = blob.plaintext.len().into();
            }
            header.extend(blob.id.as_bytes());
            listed.push(entry);
            pack.extend(sealed);
        }
        let header = self.sealed(&header);
        pack.extend(&header);
        pack.extend(u32::try_from(header.len()).expect("small").to_le_bytes());
        let id = self.put(FileKind::Pack, &pack);
        json!({ "id": id.to_string(), "blobs": listed })
    }

    fn index(&mut self, packs: &[Value]) {
        let all = json!({ "packs": packs });
        let shape = self.shape.index;
        let mut put =
            |index: &Value| self.put_unpacked(FileKind::Index, format!("{index}\n").as_bytes());
        match shape {
            IndexShape::One => drop(put(&all)),
            IndexShape::OnePerPack => {
                for pack in packs {
                    put(&json!({ "packs": [pack] }));
                }
            }
            IndexShape::Twice => {
                put(&all);
                put(&json!({ "supersedes": [], "packs": packs }));
            }
            IndexShape::Supersedes => {
                let old = put(&json!({ "packs": &packs[..packs.len() / 2] }));
                put(&json!({ "supersedes": [old.to_string()], "packs": packs }));
            }
            IndexShape::Strange => {
                let gone = "5f".repeat(32);
                let blob = json!({ "id": "ab".repeat(32), "type": "data", "offset": 0,
                                   "length": 100 });
                put(&json!({ "packs": packs, "packs_to_delete":
                    [{ "id": gone, "blobs": [blob], "time": "2026-01-02T03:04:05Z" }] }));
            }
            IndexShape::WithEmpty => {
                put(&all);
                put(&json!({ "packs": [] }));
            }
        }
    }
}

/// Files programs and people leave lying: none has a name of the format.
fn strangers(folder: &Path) {
    for name in [
        "README.txt",
        "@eaDir",
        "data/00/@eaDir",
        "data/README",
        "index/.nfs0001",
        "snapshots/Thumbs.db",
        "keys/key.backup",
        "data/5a/5a5a-tmp-1234",
        "locks/.gitkeep",
    ] {
        fs::write(folder.join(name), "left by somebody").expect("room for a file");
    }
    // What a disk that was full leaves of a lock.
    fs::write(folder.join("locks").join("ab".repeat(32)), "").expect("room for a file");
}
