//! How fast this machine does what a backup is made of: `cargo bench -p engine-repository`.
//!
//! Counted is the time on the processor, not on the clock, so that other work beside it matters
//! little.

use engine_repository::blob::{BlobOpener, BlobSealer};
use engine_repository::compress::Compression;
use engine_repository::{
    BlobKind, Chunker, ChunkerKind, Id, IndexReader, IndexWriter, MasterKey, Node, NodeKind,
    PackedBlob, Polynomial, SealedBlob, TreeReader, TreeWriter, Version, unpacked,
};
use std::hint::black_box;
use std::sync::Arc;

const BYTES: usize = 64 << 20;
const BLOB_BYTES: usize = 1 << 20;

/// Seconds this thread has spent on a processor.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = stat.split(' ').next().and_then(|number| number.parse::<f64>().ok());
    nanoseconds.unwrap_or_default() / 1e9
}

fn measure(what: &str, bytes: usize, mut work: impl FnMut()) {
    const ROUNDS: u32 = 8;
    work();
    let started = processor_seconds();
    (0..ROUNDS).for_each(|_| work());
    let seconds = (processor_seconds() - started) / f64::from(ROUNDS);
    println!("{what:<28} {:8.0} MB/s  {:8.1} ms", bytes as f64 / 1e6 / seconds, seconds * 1e3);
}

fn noise() -> Vec<u8> {
    let mut state = 1_u64;
    let mut bytes = Vec::with_capacity(BYTES);
    while bytes.len() < BYTES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    }
    bytes
}

fn main() {
    let key = Arc::new(MasterKey::from_bytes(&[7; 64]).unwrap_or_else(|_| unreachable!()));
    let data = noise();
    chunking(&key, &data);
    sealing(&key, &data);
    lists(&key);
}

fn chunking(key: &MasterKey, data: &[u8]) {
    measure("SHA-256", BYTES, || {
        black_box(Id::of(data));
    });
    let polynomial = Polynomial::new(0x3d_a335_8b4d_c173).unwrap_or_else(|_| unreachable!());
    for kind in [ChunkerKind::Gear, ChunkerKind::Rabin] {
        let mut chunker = Chunker::for_repository(kind, key, polynomial);
        measure(&format!("{kind:?} chunker"), BYTES, || {
            let (mut rest, mut chunks) = (data, 0);
            while let Some(cut) = chunker.next_cut(rest) {
                rest = &rest[cut..];
                chunks += 1;
            }
            chunker.reset();
            black_box(chunks);
        });
    }
}

fn sealing(key: &Arc<MasterKey>, data: &[u8]) {
    let text: Vec<u8> =
        data.iter().map(|byte| b"etaoin shrdlu\n.,"[usize::from(byte & 15)]).collect();
    let mut out = Vec::with_capacity(2 * BLOB_BYTES);
    measure("seal, in place", BYTES, || {
        for blob in data.chunks(BLOB_BYTES) {
            out.clear();
            let _ = key.seal_into([1; 16], blob, &mut out);
        }
    });
    let mut copy = Vec::with_capacity(2 * BLOB_BYTES);
    measure("open, with a copy", BYTES, || {
        for _ in 0..BYTES / BLOB_BYTES {
            copy.clear();
            copy.extend_from_slice(&out);
            assert!(key.open_in_place(&mut copy).is_ok());
        }
    });
    for (what, plaintext) in [("noise", data), ("text", &text)] {
        let mut sealer = BlobSealer::new(Arc::clone(key), Some(Compression::default()));
        let mut opener = BlobOpener::new(Arc::clone(key), BLOB_BYTES);
        let mut sealed: Vec<(SealedBlob, Vec<u8>)> = Vec::new();
        measure(&format!("blobs of {what}: seal"), BYTES, || {
            sealed.clear();
            for blob in plaintext.chunks(BLOB_BYTES) {
                let mut out = Vec::with_capacity(BLOB_BYTES + 64);
                if let Ok(done) = sealer.seal(BlobKind::Data, Id::ZERO, [1; 16], blob, &mut out) {
                    sealed.push((SealedBlob { id: Id::of(blob), ..done }, out));
                }
            }
        });
        measure(&format!("blobs of {what}: open"), BYTES, || {
            for (blob, sealed) in &sealed {
                assert!(opener.open(blob, &mut sealed.clone()).is_ok());
            }
        });
    }
}

fn lists(key: &MasterKey) {
    const ENTRIES: u32 = 50_000;
    let packed = |place: u32| PackedBlob {
        blob: SealedBlob {
            id: Id::of(&place.to_le_bytes()),
            kind: BlobKind::Data,
            length: 1_000_000 + place,
            uncompressed_length: std::num::NonZeroU32::new(2_000_000),
        },
        offset: place % 1000 * 100_000,
    };
    let blobs: Vec<PackedBlob> = (0..ENTRIES).map(packed).collect();
    let mut file = Vec::new();
    measure("index of 50,000: write", blobs.len() * 180, || {
        let mut writer = IndexWriter::new(Version::V2).unwrap_or_else(|_| unreachable!());
        for blobs in blobs.chunks(1000) {
            let _ = writer.add(&Id::ZERO, blobs);
        }
        file = writer.finish(key, [1; 16]).unwrap_or_default();
    });
    let json = unpacked::open_json(&mut file.clone(), key, 1 << 30).unwrap_or_default();
    measure("index of 50,000: decode", json.len(), || {
        assert_eq!(IndexReader::new(&json[..]).filter(Result::is_ok).count(), 50_000);
    });
    let mut tree = Vec::new();
    let mut node = Node::new("", NodeKind::File);
    (node.user, node.group, node.inode) = ("admin".to_owned(), "users".to_owned(), 123_456);
    node.content = Some(vec![Id::ZERO]);
    measure("tree of 100,000: write", 40_000_000, || {
        tree.clear();
        let mut writer = TreeWriter::new(&mut tree);
        for place in 0..100_000 {
            node.name.clear();
            node.name.extend_from_slice(format!("IMG_{place:07}.jpg").as_bytes());
            let _ = writer.push(&node, &mut tree);
        }
        writer.finish(&mut tree);
    });
    measure("tree of 100,000: read", tree.len(), || {
        let mut reader = TreeReader::new(&tree[..]);
        while matches!(reader.next_into(&mut node), Ok(true)) {}
    });
}
