//! The worked example of FORMAT.md, worked out anew: what the page says is what the code does.

use engine_repository::unpacked::UnpackedWriter;
use engine_repository::{
    BlobKind, BlobSealer, Hasher, Id, IndexWriter, MasterKey, Node, NodeKind, PackBuilder, Time,
    TreeWriter, Version,
};
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes 0 to 63.
fn key() -> MasterKey {
    MasterKey::from_bytes(&std::array::from_fn(|place| place as u8)).unwrap()
}

/// A nonce of sixteen times the same byte.
fn nonce(byte: u8) -> [u8; 16] {
    [byte; 16]
}

/// One line of the example: what it is, and its bytes in lines that fit a page.
fn line(out: &mut String, what: &str, text: &str) {
    let _ = writeln!(out, "{what}");
    let characters: Vec<char> = text.chars().collect();
    for part in characters.chunks(96) {
        let _ = writeln!(out, "    {}", part.iter().collect::<String>());
    }
}

fn tree() -> (Id, Vec<u8>) {
    let mut node = Node::new("a \"b\"", NodeKind::File);
    node.mode = 0o644;
    node.mtime = Time { seconds: 1_000_000_000, nanoseconds: 500_000_000, offset_seconds: 3600 };
    node.atime = node.mtime;
    node.ctime = node.mtime;
    node.size = 3;
    node.content = Some(vec![Id::of(b"abc")]);
    let mut json = Vec::new();
    let mut writer = TreeWriter::new(&mut json);
    writer.push(&node, &mut json).unwrap();
    writer.finish(&mut json);
    (Id::of(&json), json)
}

fn example() -> String {
    let mut out = String::new();
    let mut sealed = Vec::new();
    key().seal_into(nonce(1), b"abc", &mut sealed).unwrap();
    line(
        &mut out,
        "`seal(\"abc\")` with the nonce 01 01 … 01: nonce, three bytes, tag",
        &hex(&sealed),
    );

    let mut pack = Vec::new();
    let mut sealer = BlobSealer::new(Arc::new(key()), None);
    let blob = sealer.seal(BlobKind::Data, Id::of(b"abc"), nonce(1), b"abc", &mut pack).unwrap();
    let mut builder = PackBuilder::new(BlobKind::Data);
    builder.add(blob).unwrap();
    let blobs = builder.finish(&key(), nonce(2), &mut pack).unwrap();
    let mut hasher = Hasher::new();
    hasher.update(&pack);
    let id = hasher.finish();
    line(
        &mut out,
        "The pack of this one blob, its header sealed with the nonce 02 02 … 02",
        &hex(&pack),
    );
    line(&mut out, "The pack's id, which is the sum of these bytes", &id.to_string());
    let entry = [&[0][..], &35_u32.to_le_bytes(), Id::of(b"abc").as_bytes()].concat();
    line(&mut out, "What is in its header: type, length, id of the blob", &hex(&entry));

    let mut writer = IndexWriter::new(Version::V1).unwrap();
    writer.add(&id, &blobs).unwrap();
    let mut file = writer.finish(&key(), nonce(3)).unwrap();
    let json = key().open_in_place(&mut file).unwrap();
    let json = String::from_utf8(json.to_vec()).unwrap();
    line(
        &mut out,
        "The index that names it, before it is sealed; a newline follows",
        json.trim_end(),
    );

    let (id, json) = tree();
    let json = String::from_utf8(json).unwrap();
    line(
        &mut out,
        "The tree of a folder with one file, `a \"b\"`, of the three bytes `abc`; \
         a newline follows",
        json.trim_end(),
    );
    line(&mut out, "The tree's id", &id.to_string());
    let mut lock = UnpackedWriter::new(Version::V1).unwrap();
    lock.write_all(b"{}").unwrap();
    let file = lock.finish(&key(), nonce(4)).unwrap();
    line(&mut out, "A file of version 1 that says `{}`, with the nonce 04 04 … 04", &hex(&file));
    out
}

#[test]
fn the_worked_example_is_what_the_code_does() {
    let page = include_str!("../FORMAT.md");
    let example = example();
    assert!(page.contains(&example), "FORMAT.md should say:\n{example}");
}

#[test]
fn an_example_of_version_2_is_read_by_the_rules_of_the_page() {
    // Anybody's zstd makes other bytes, so this one is only read.
    let mut file = UnpackedWriter::new(Version::V2).unwrap();
    file.write_all(b"{}").unwrap();
    let mut file = file.finish(&key(), nonce(4)).unwrap();
    let plaintext = key().open_in_place(&mut file).unwrap();
    assert_eq!(plaintext[0], 2);
    assert_eq!(zstd::stream::decode_all(&plaintext[1..]).unwrap(), b"{}");
}
