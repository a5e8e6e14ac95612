//! What a sound repository holds: a few files, in two snapshots.

use engine_repository::key_file::{KdfCost, KeyFile, KeyMaker, SALT_BYTES};
use engine_repository::{Id, MasterKey};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// The password of every repository made here.
pub const PASSWORD: &str = "damaged on purpose";
/// The folder that was backed up.
pub const SOURCE: &str = "source";
/// Opened in a moment: nothing is secret here.
const COST: KdfCost = KdfCost { n: 1024, r: 8, p: 1 };
/// An irreducible polynomial, which restic demands.
const POLYNOMIAL: &str = "3da3358b4dc173";
const MOMENT: &str = "2026-03-01T12:00:00Z";

/// One blob, in the clear.
#[derive(Debug, Clone)]
pub(crate) struct Blob {
    pub(crate) id: Id,
    pub(crate) is_tree: bool,
    pub(crate) plaintext: Vec<u8>,
}

/// Everything in a repository, in the clear, in an order that is always the same.
#[derive(Debug)]
pub struct Original {
    pub(crate) key: MasterKey,
    pub(crate) key_file: Vec<u8>,
    pub(crate) config: Value,
    /// Data as it was read, then trees from the deepest up; the newest snapshot's come last.
    pub(crate) blobs: Vec<Blob>,
    pub(crate) snapshots: Vec<Vec<u8>>,
    files: Vec<(String, Vec<u8>)>,
    oddity: Oddity,
}

/// What no program writes today, or only by bad luck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Oddity {
    Nothing,
    EmptyBlobs,
    OneInode,
}

/// How many files came back, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Back {
    /// With their content.
    pub right: usize,
    /// With their name alone: a repaired snapshot says so of a file whose content is lost.
    pub emptied: usize,
    /// With their name and something else, which is worse than nothing.
    pub wrong: usize,
}

impl Original {
    /// Eight files, six of them in the older of two snapshots. `uid` and `gid` own them.
    ///
    /// # Panics
    /// Never: nothing here comes from outside.
    pub fn new(uid: u32, gid: u32) -> Self {
        Self::made(uid, gid, Oddity::Nothing)
    }

    /// The same by a program that ends every file with a blob of no bytes, so that an empty file
    /// has one blob, and not none.
    ///
    /// # Panics
    /// Never: nothing here comes from outside.
    pub fn with_empty_blobs(uid: u32, gid: u32) -> Self {
        Self::made(uid, gid, Oddity::EmptyBlobs)
    }

    /// The same, but every file says that it has a second name, and all that they are one inode:
    /// as if each had been removed while the backup ran, and its inode given to the next.
    ///
    /// # Panics
    /// Never: nothing here comes from outside.
    pub fn with_one_inode(uid: u32, gid: u32) -> Self {
        Self::made(uid, gid, Oddity::OneInode)
    }

    fn made(uid: u32, gid: u32, oddity: Oddity) -> Self {
        let mut secret = [0; 64];
        secret.iter_mut().zip(1..).for_each(|(byte, number)| *byte = number);
        let key = MasterKey::from_bytes(&secret).expect("no part of it is zero");
        let maker = KeyMaker {
            created: MOMENT.parse().expect("a time"),
            username: "ann".into(),
            hostname: "box".into(),
        };
        let salt = [7; SALT_BYTES];
        let key_file = KeyFile::create(&key, PASSWORD, COST, &salt, [9; 16], maker);
        let mut original = Self {
            key_file: key_file.and_then(|file| file.to_json()).expect("a key file"),
            key,
            config: json!({
                "version": 2, "id": "c0".repeat(32), "chunker_polynomial": POLYNOMIAL
            }),
            blobs: Vec::new(),
            snapshots: Vec::new(),
            oddity,
            files: (0..8).map(|number| (format!("file{number}"), content(number))).collect(),
        };
        original.snapshot(6, MOMENT, None, (uid, gid));
        let older = Some("0f".repeat(32));
        original.snapshot(8, "2026-03-02T12:00:00Z", older, (uid, gid));
        original
    }

    /// The files of the newest snapshot, by the names they have below [`SOURCE`].
    pub fn files(&self) -> &[(String, Vec<u8>)] {
        &self.files
    }

    /// What of them was restored below `target`.
    pub fn come_back(&self, target: &Path) -> Back {
        let mut back = Back::default();
        for (name, content) in &self.files {
            match fs::read(target.join(SOURCE).join(name)) {
                Ok(found) if found == *content => back.right += 1,
                Ok(found) if found.is_empty() => back.emptied += 1,
                Ok(_) => back.wrong += 1,
                Err(_) => {}
            }
        }
        back
    }

    fn snapshot(&mut self, count: usize, time: &str, parent: Option<String>, owner: (u32, u32)) {
        let attributes = |name: &str, mode: u32| {
            // In the order restic writes them.
            let kind = if mode > 0o7777 { "dir" } else { "file" };
            format!(r#""name":"{name}","type":"{kind}","mode":{mode},"#)
                + &format!(r#""mtime":"{MOMENT}","atime":"{MOMENT}","ctime":"{MOMENT}","#)
                + &format!(r#""uid":{},"gid":{}"#, owner.0, owner.1)
        };
        let mut nodes = Vec::new();
        for (name, content) in self.files.clone().into_iter().take(count) {
            let attributes = attributes(&name, 0o644);
            let size = match content.len() {
                0 => String::new(),
                bytes => format!(r#""size":{bytes},"#),
            };
            let empty = Some(Vec::new()).filter(|_| self.oddity == Oddity::EmptyBlobs);
            let pieces = Some(content).filter(|content| !content.is_empty()).into_iter();
            let ids = pieces.chain(empty).map(|piece| format!("\"{}\"", self.blob(false, piece)));
            let ids = ids.collect::<Vec<_>>().join(",");
            let (inode, links) = match self.oddity {
                Oddity::OneInode => (r#""inode":7,"device_id":1,"#, 2),
                _ => ("", 1),
            };
            let links = format!(r#"{inode}{size}"links":{links}"#);
            nodes.push(format!(r#"{{{attributes},{links},"content":[{ids}]}}"#));
        }
        let tree = self.blob(true, tree_of(&nodes));
        let folder = attributes(SOURCE, (1 << 31) | 0o755);
        let folder = format!(r#"{{{folder},"content":null,"subtree":"{tree}"}}"#);
        let root = self.blob(true, tree_of(&[folder]));
        let mut snapshot = json!({
            "time": time, "tree": root.to_string(), "paths": [format!("/{SOURCE}")],
            "hostname": "box", "username": "ann",
        });
        if let Some(parent) = parent {
            snapshot["parent"] = parent.into();
        }
        self.snapshots.push(snapshot.to_string().into_bytes());
    }

    fn blob(&mut self, is_tree: bool, plaintext: Vec<u8>) -> Id {
        let id = Id::of(&plaintext);
        if self.blobs.iter().all(|blob| blob.id != id) {
            self.blobs.push(Blob { id, is_tree, plaintext });
        }
        id
    }
}

fn tree_of(nodes: &[String]) -> Vec<u8> {
    format!("{{\"nodes\":[{}]}}\n", nodes.join(",")).into_bytes()
}

/// Every third file compresses; one is empty.
fn content(number: u32) -> Vec<u8> {
    if number == 4 {
        return Vec::new();
    }
    if number.is_multiple_of(3) {
        return format!("line of file {number}\n").repeat(3000).into_bytes();
    }
    let mut state = u64::from(number) | 1 << 40;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).take(5000 + 500 * number as usize).flatten().collect()
}
