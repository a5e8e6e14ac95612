//! Real metadata, spoiled at random places: whatever comes of it is an answer, never a panic, never
//! a signature that should not count, never more memory than the limits allow.
//!
//! The dice are seeded by the round's number, so a round that fails can be thrown again.

use std::fs;
use std::path::Path;
use supervisor_trust::json::Value;
use supervisor_trust::{Cache, Client, Envelope, Keep, Moment, SigningKey, UnixSeconds};

#[cfg(feature = "long")]
const ROUNDS: u64 = 400_000;
#[cfg(not(feature = "long"))]
const ROUNDS: u64 = 4_000;

/// Numbers that look random and are the same each time (splitmix64).
struct Dice(u64);

impl Dice {
    fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`, which is not zero.
    fn below(&mut self, end: usize) -> usize {
        (self.throw() % end as u64) as usize
    }

    fn one_of<'a>(&mut self, texts: &[&'a str]) -> &'a str {
        texts[self.below(texts.len())]
    }
}

/// The files that python-tuf wrote, in the order a client asks for them.
const NAMES: [&str; 5] =
    ["1.root.json", "2.root.json", "timestamp.json", "5.snapshot.json", "7.targets.json"];

fn sound(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python_tuf/metadata");
    fs::read(folder.join(name)).unwrap()
}

/// What parsers have stumbled over.
const STUMBLES: [&str; 18] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\\",
    ",",
    ":",
    "null",
    "-1",
    "1e400",
    "18446744073709551616",
    "\\ud800",
    "\u{0}",
    "\u{feff}",
    "\"version\":",
    "\"_type\":\"root\"",
    "9999-12-31T23:59:59Z",
];

/// A few of the things that happen to bytes.
fn spoil(bytes: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..=dice.below(4) {
        if bytes.is_empty() {
            return;
        }
        let at = dice.below(bytes.len());
        let end = at + dice.below((bytes.len() - at).min(64) + 1);
        match dice.below(7) {
            0 => bytes[at] ^= 1 << dice.below(8),
            1 => bytes[at] = dice.throw() as u8,
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            4 => drop(bytes.splice(at..at, dice.one_of(&STUMBLES).bytes())),
            5 => drop(bytes.splice(at..end, dice.one_of(&STUMBLES).bytes())),
            _ => {
                let copy = bytes[at..end].to_vec();
                let to = dice.below(bytes.len());
                bytes.splice(to..to, copy);
            }
        }
    }
}

#[test]
fn whatever_was_read_as_json_is_read_the_same_once_it_is_written_again() {
    let mut read = 0;
    for round in 0..ROUNDS {
        let mut dice = Dice(round);
        let mut bytes = sound(NAMES[dice.below(NAMES.len())]);
        spoil(&mut bytes, &mut dice);
        let Ok(value) = Value::parse(&bytes) else { continue };
        assert_eq!(Value::parse(&value.to_json()).unwrap(), value, "round {round}");
        read += 1;
    }
    assert!(read > ROUNDS / 20, "only {read} were JSON at all: the dice are too rough");
}

#[test]
fn no_spoiled_file_makes_a_client_fall_over_or_believe_other_than_what_was_signed() {
    let whole: Vec<Value> = NAMES.map(|name| Value::parse(&sound(name)).unwrap()).into();
    let (mut refused, mut believed) = (0, 0);
    for round in 0..ROUNDS {
        let mut dice = Dice(round);
        let place = 1 + dice.below(NAMES.len() - 1);
        let mut bytes = sound(NAMES[place]);
        spoil(&mut bytes, &mut dice);
        // What a list gives a hash, the hash would catch; here it must be the signature.
        let as_read = Value::parse(&bytes).ok();
        match run(NAMES[place], &bytes) {
            Err(error) => {
                assert!(!error.to_string().is_empty() && !error.remedy().is_empty());
                refused += 1;
            }
            Ok(()) => {
                let signed = |value: &Value| value.get("signed").cloned();
                let is_what_was_signed = as_read.as_ref().and_then(signed) == signed(&whole[place]);
                assert!(is_what_was_signed, "round {round}: {} was believed", NAMES[place]);
                believed += 1;
            }
        }
    }
    assert!(refused > ROUNDS / 2 && believed > 0, "{refused} refused, {believed} believed");
}

/// A whole update in which one file is replaced.
fn run(replaced: &str, bytes: &[u8]) -> Result<(), supervisor_trust::TrustError> {
    let now: UnixSeconds = "2026-11-22T00:00:00Z".parse().unwrap();
    let start = |cache| Client::start(&sound(NAMES[0]), cache, Moment::new(now, now));
    let mut cache = Cache::default();
    let mut client = start(cache.clone())?;
    while let Some(request) = client.request() {
        let found = match NAMES.contains(&request.name.as_str()) {
            true if request.name == replaced => Some(bytes.to_vec()),
            true => Some(sound(&request.name)),
            false => None,
        };
        for keep in client.answer(found.as_deref())? {
            match keep {
                Keep::Write { name: "timestamp.json", bytes } => cache.timestamp = Some(bytes),
                Keep::Write { name: "snapshot.json", bytes } => cache.snapshot = Some(bytes),
                Keep::Write { name: "targets.json", bytes } => cache.targets = Some(bytes),
                Keep::Write { .. } | Keep::Forget { .. } => {}
            }
        }
    }
    // The same bytes as what was kept: a spoiled cache is passed over, at most.
    let name = replaced.rsplit_once('.').map_or(replaced, |(name, _)| name);
    match name.rsplit('.').next() {
        Some("timestamp") => cache.timestamp = Some(bytes.to_vec()),
        Some("snapshot") => cache.snapshot = Some(bytes.to_vec()),
        _ => cache.targets = Some(bytes.to_vec()),
    }
    let mut client = start(cache)?;
    while let Some(request) = client.request() {
        let found = NAMES.contains(&request.name.as_str()).then(|| sound(&request.name));
        client.answer(found.as_deref())?;
    }
    Ok(())
}

#[test]
fn no_spoiled_envelope_and_no_spoiled_key_file_makes_the_reader_fall_over() {
    let key = SigningKey::from_seed(&[7; 32]).to_text();
    for round in 0..ROUNDS {
        let mut dice = Dice(round);
        let mut bytes = sound(NAMES[dice.below(NAMES.len())]);
        spoil(&mut bytes, &mut dice);
        if let Ok(envelope) = Envelope::parse("a file", &bytes) {
            let _ = envelope.root();
        }
        let mut bytes = key.clone().into_bytes();
        spoil(&mut bytes, &mut dice);
        let Ok(text) = String::from_utf8(bytes) else { continue };
        if let Ok(read) = SigningKey::from_text(&text) {
            assert_eq!(read.to_text(), key, "round {round}: another key was read");
        }
    }
}
