//! Bytes from a destination nobody can vouch for: cut, flipped, and made with the key by an enemy.

use engine_repository::compress::Decompressor;
use engine_repository::crypto::MASTER_KEY_BYTES;
use engine_repository::{
    Config, IndexReader, KeyFile, Lock, MasterKey, Polynomial, Snapshot, TreeReader, pack, unpacked,
};

fn key() -> MasterKey {
    MasterKey::from_bytes(&[7; MASTER_KEY_BYTES]).unwrap()
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        ((self.0 >> 33) as usize) % below
    }
}

/// Pieces of which JSON that means something is made, and some that does not.
const PIECES: [&str; 34] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "null",
    "true",
    "0",
    "7",
    "4294967296",
    "-1",
    "1e9",
    "\"nodes\":[",
    "\"packs\":[",
    "\"blobs\":[",
    "\"id\":",
    "\"name\":\"a\"",
    "\"type\":\"file\"",
    "\"type\":\"data\"",
    "\"content\":[",
    "\"offset\":1",
    "\"length\":99",
    "\\ud800",
    "\\u00e9",
    "\"00000000000000000000000000000000000000000000000000000000000000aa\"",
    "{\"nodes\":[{",
    "{\"packs\":[{\"id\":",
    "\n",
    " ",
    "\u{e9}",
    "\"mtime\":\"2026-01-01T00:00:00Z\"",
];

#[test]
fn no_text_however_odd_harms_a_reader() {
    let mut dice = Dice(1);
    for _ in 0..30_000 {
        let mut text = String::new();
        for _ in 0..dice.roll(24) {
            text.push_str(PIECES[dice.roll(PIECES.len())]);
        }
        let _ = TreeReader::new(text.as_bytes()).filter(Result::is_ok).count();
        let _ = IndexReader::new(text.as_bytes()).filter(Result::is_ok).count();
        let _ = serde_json::from_str::<Snapshot>(&text);
        let _ = serde_json::from_str::<Lock>(&text);
        let _ = KeyFile::from_json(text.as_bytes());
        let mut sealed = Vec::new();
        key().seal_into([1; 16], text.as_bytes(), &mut sealed).unwrap();
        let _ = Config::open(&mut sealed.clone(), &key());
        let _ = unpacked::open::<Snapshot>(&mut sealed, &key());
    }
}

#[test]
fn no_bytes_sealed_with_the_right_key_harm_a_reader() {
    let mut dice = Dice(2);
    for _ in 0..20_000 {
        let mut plaintext: Vec<u8> = (0..dice.roll(200)).map(|_| dice.roll(5) as u8).collect();
        if dice.roll(2) == 0 {
            plaintext.insert(0, 2);
        }
        let mut file = Vec::new();
        key().seal_into([1; 16], &plaintext, &mut file).unwrap();
        let _ = unpacked::open_json(&mut file.clone(), &key(), 1000);
        let mut decompressor = Decompressor::new();
        if let Ok(json) = unpacked::open_stream(&mut file.clone(), &key(), &mut decompressor) {
            let _ = IndexReader::new(json).filter(Result::is_ok).count();
        }
        let length = u32::try_from(file.len()).unwrap();
        file.extend_from_slice(&length.to_le_bytes());
        let size = file.len() as u64;
        let _ = pack::read_tail(&key(), &mut file, size);
    }
}

#[test]
fn a_small_file_that_unfolds_to_gigabytes_is_refused_in_little_memory() {
    let zeros = vec![b' '; 64 << 20];
    let mut plaintext = vec![2];
    plaintext.extend(zstd::bulk::compress(&zeros, 3).unwrap());
    let mut file = Vec::new();
    key().seal_into([1; 16], &plaintext, &mut file).unwrap();
    assert!(file.len() < 10_000);
    assert!(unpacked::open::<Snapshot>(&mut file, &key()).is_err());
}

#[test]
fn every_polynomial_an_enemy_can_write_is_refused_or_can_be_cut_by() {
    let mut dice = Dice(3);
    for _ in 0..2000 {
        let bits = (dice.roll(1 << 31) as u64) << dice.roll(40) | dice.roll(1 << 31) as u64;
        if let Ok(polynomial) = Polynomial::new(bits) {
            let mut chunker = engine_repository::chunker::RabinChunker::new(polynomial);
            let _ = chunker.next_cut(&[1; 600_000]);
        }
    }
}
