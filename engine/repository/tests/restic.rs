//! What restic wrote is read, and written again byte for byte.

use engine_repository::blob::BlobOpener;
use engine_repository::compress::Decompressor;
use engine_repository::file::FileKind;
use engine_repository::pack::{self, PackTail};
use engine_repository::{
    BlobKind, Chunker, ChunkerKind, Config, Id, IndexReader, KeyFile, MasterKey, Node, NodeKind,
    PackedBlob, Polynomial, Snapshot, TreeReader, TreeWriter, Version, unpacked,
};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A repository restic wrote, with everything in it read.
struct Repository {
    folder: PathBuf,
    key: Arc<MasterKey>,
    config: Config,
    blobs: HashMap<Id, (Id, PackedBlob)>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

impl Repository {
    fn open(name: &str) -> Self {
        let folder = fixtures().join(name);
        let (_, key_json) = files(&folder, FileKind::Key).remove(0);
        let key_file = KeyFile::from_json(&key_json).unwrap();
        let key = Arc::new(key_file.open("fixture").unwrap());
        let mut config = fs::read(folder.join("config")).unwrap();
        let config = Config::open(&mut config, &key).unwrap();
        let mut blobs = HashMap::new();
        for (_, mut file) in files(&folder, FileKind::Index) {
            let mut decompressor = Decompressor::new();
            let json = unpacked::open_stream(&mut file, &key, &mut decompressor).unwrap();
            for entry in IndexReader::new(json) {
                let entry = entry.unwrap();
                blobs.insert(entry.packed.blob.id, (entry.pack, entry.packed));
            }
        }
        Self { folder, key, config, blobs }
    }

    fn snapshots(&self) -> Vec<Snapshot> {
        let sealed = files(&self.folder, FileKind::Snapshot);
        let read = |(_, mut file): (Id, Vec<u8>)| unpacked::open(&mut file, &self.key).unwrap();
        sealed.into_iter().map(read).collect()
    }

    fn blob(&self, id: &Id) -> Vec<u8> {
        let (pack, packed) = self.blobs[id];
        let file = fs::read(self.folder.join(FileKind::Pack.path(&pack))).unwrap();
        let mut sealed = file[packed.offset as usize..][..packed.blob.length as usize].to_vec();
        let mut opener = BlobOpener::new(Arc::clone(&self.key), 16 << 20);
        opener.open(&packed.blob, &mut sealed).unwrap().to_vec()
    }

    /// Every node of a tree and the trees below it, after each tree was found to be written again
    /// as it was.
    fn nodes(&self, tree: &Id) -> Vec<Node> {
        let bytes = self.blob(tree);
        let mut again = Vec::new();
        let mut writer = TreeWriter::new(&mut again);
        let mut nodes = Vec::new();
        for node in TreeReader::new(&bytes[..]) {
            let node = node.unwrap();
            writer.push(&node, &mut again).unwrap();
            if let Some(subtree) = &node.subtree {
                nodes.extend(self.nodes(subtree));
            }
            nodes.push(node);
        }
        writer.finish(&mut again);
        // This restic lost what is not UTF-8 in a link's target, and reads its own escape as a
        // character that needs none: it would not write that byte for byte either.
        let bytes = String::from_utf8(bytes).unwrap().replace(r"no\ufffdwhere", "no\u{fffd}where");
        let again = String::from_utf8(again).unwrap();
        let same = again.bytes().zip(bytes.bytes()).take_while(|(a, b)| a == b).count();
        assert!(again == bytes, "{:?}, not {:?}", again.get(same..), bytes.get(same..));
        nodes
    }
}

fn files(folder: &Path, kind: FileKind) -> Vec<(Id, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.join(kind.folder())];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.file_name().unwrap().to_str().unwrap();
            let id = FileKind::id_of_name(name).unwrap();
            found.push((id, fs::read(&path).unwrap()));
        }
    }
    found
}

#[test]
fn a_repository_of_either_version_opens_with_its_password_and_no_other() {
    for (name, version) in [("v1", Version::V1), ("v2", Version::V2)] {
        assert_eq!(Repository::open(name).config.version, version);
        let (id, json) = files(&fixtures().join(name), FileKind::Key).remove(0);
        assert_eq!(Id::of(&json), id);
        let file = KeyFile::from_json(&json).unwrap();
        assert!(file.open("Fixture").is_err());
        assert_eq!(file.to_json().unwrap(), json);
    }
}

#[test]
fn every_tree_is_written_again_byte_for_byte() {
    for name in ["v1", "v2"] {
        let repository = Repository::open(name);
        let snapshots = repository.snapshots();
        assert_eq!(snapshots.len(), 2);
        let nodes: Vec<Node> =
            snapshots.iter().flat_map(|snapshot| repository.nodes(&snapshot.tree)).collect();
        let kinds = |kind| nodes.iter().filter(|node| node.kind == kind).count();
        assert!(kinds(NodeKind::File) > 70);
        for kind in [NodeKind::CharDevice, NodeKind::BlockDevice, NodeKind::Fifo] {
            assert_eq!(kinds(kind), 2, "{kind:?}");
        }
        let named = |name: &[u8]| nodes.iter().find(|node| node.name == name).unwrap();
        assert_eq!(named(b"setuid").mode, 12_583_405);
        assert_eq!(named(b"plain").extended_attributes[0].value, b"h\xc3\xa9llo \x00 world");
        assert_eq!(named(b"\xff\xfe not utf-8").size, 9);
        assert_eq!(named(b"new\nline").links, 1);
        assert_eq!(named(b"linked one").inode, named(b"linked two").inode);
        assert_eq!(named(b"late").mtime.nanoseconds, 1);
    }
}

#[test]
fn every_blob_and_every_pack_is_sound_and_the_index_agrees() {
    for name in ["v1", "v2"] {
        let repository = Repository::open(name);
        for id in repository.blobs.keys() {
            assert_eq!(Id::of(&repository.blob(id)), *id);
        }
        let mut kinds = Vec::new();
        let mut blobs = 0;
        for (pack, mut file) in files(&repository.folder, FileKind::Pack) {
            assert_eq!(Id::of(&file), pack);
            let size = file.len() as u64;
            let from = file.len().saturating_sub(pack::TAIL_BYTES as usize);
            let mut tail = pack::read_tail(&repository.key, &mut file.clone()[from..], size);
            if let Ok(PackTail::NeedBytes(bytes)) = tail {
                let from = file.len() - bytes as usize;
                tail = pack::read_tail(&repository.key, &mut file[from..], size);
            }
            let Ok(PackTail::Blobs(packed)) = tail else { panic!("{tail:?}") };
            for packed in &packed {
                assert_eq!(repository.blobs[&packed.blob.id], (pack, *packed));
            }
            blobs += packed.len();
            kinds.extend(packed.iter().map(|packed| packed.blob.kind));
        }
        assert_eq!(blobs, repository.blobs.len());
        assert!(kinds.contains(&BlobKind::Data) && kinds.contains(&BlobKind::Tree));
    }
}

#[test]
fn snapshots_say_what_restic_was_told() {
    for name in ["v1", "v2"] {
        let snapshots = Repository::open(name).snapshots();
        let first = snapshots.iter().find(|snapshot| snapshot.tags == ["one"]).unwrap();
        assert_eq!(first.hostname, "fixture");
        assert_eq!(first.excludes, ["*.none"]);
        assert_eq!(first.time.offset_seconds, 3600);
        assert!(first.paths[0].ends_with("/source"));
        assert!(first.others.is_empty(), "{:?}", first.others);
        let second = snapshots.iter().find(|snapshot| snapshot.tags.is_empty()).unwrap();
        assert_eq!(second.time.offset_seconds, 0);
        assert!(second.parent.is_some());
    }
}

/// The file `make.sh` describes.
fn noise() -> Vec<u8> {
    let (mut state, mut file) = (20_261_121_u64 | 1, Vec::new());
    for _ in 0..24 << 17 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        file.extend_from_slice(&state.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    }
    file.resize(file.len() + (3 << 20), 0);
    file.extend_from_slice(&b"end".repeat(100_000));
    file
}

#[test]
fn a_file_is_cut_where_restic_cuts_it() {
    let text = fs::read_to_string(fixtures().join("cuts.txt")).unwrap();
    let mut lines = text.lines().map(|line| line.split_once(' ').unwrap());
    let (_, polynomial) = lines.next().unwrap();
    let polynomial = Polynomial::new(u64::from_str_radix(polynomial, 16).unwrap()).unwrap();
    let expected: Vec<(usize, Id)> =
        lines.map(|(length, id)| (length.parse().unwrap(), id.parse().unwrap())).collect();
    let key = MasterKey::from_bytes(&[7; 64]).unwrap();
    let mut chunker = Chunker::for_repository(ChunkerKind::Rabin, &key, polynomial);
    let file = noise();
    let (mut rest, mut found) = (&file[..], Vec::new());
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(chunker.next_cut(rest).unwrap_or(rest.len()));
        found.push((chunk.len(), Id::of(chunk)));
        rest = after;
    }
    assert_eq!(found, expected);
}
