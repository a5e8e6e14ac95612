//! The OpenPGP keys that boxes with DSM 5.1 to 6.2 are handed as `keyrings`, and believe packages
//! by that `spk sign` signed.
//!
//! They travel in `shelves.json`, so every server of the depot hands out the same ones. What is
//! handed out is written anew from the bytes of the key: text around it stays behind, and a secret
//! key never gets in.
//!
//! **Not here:** verifying. A box does, and `gpg`, and `spk verify`; this room only reads what a
//! key is called.

use crate::error::DepotError;
use crate::metadata::Reason;
use crate::place::{Place, read};
use crate::publish::on_shelves;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};
use std::path::Path;
use supervisor_trust::UnixSeconds;

/// A longer file is no key.
const KEY_BYTES_MAX: u64 = 64 * 1024;
/// Keys handed out, at most: they are in every answer.
const KEYS_MAX: usize = 8;
/// Characters of an owner's name that are kept.
const USER_CHARACTERS_MAX: usize = 200;
/// Characters of a line in armour.
const LINE_CHARACTERS: usize = 64;

const BEGIN: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
const END: &str = "-----END PGP PUBLIC KEY BLOCK-----";

/// Kinds of packets: RFC 4880, 4.3.
const SECRET_KEYS: [u8; 2] = [5, 7];
const PUBLIC_KEY: u8 = 6;
const USER_ID: u8 = 13;

/// A publisher's public key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublisherKey {
    /// Its id: the last sixteen digits of its fingerprint.
    pub id: String,
    /// Whose it is, as its owner wrote it.
    pub user: String,
    armored: String,
}

impl PublisherKey {
    /// Reads one RSA key in armour.
    fn parse(text: &str) -> Result<Self, &'static str> {
        let bytes = unarmored(text)?;
        let (mut id, mut user) = (None, None);
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (kind, body, behind) = packet(rest).ok_or("it breaks off")?;
            rest = behind;
            match kind {
                kind if SECRET_KEYS.contains(&kind) => return Err("there is a secret key in it"),
                PUBLIC_KEY if id.is_some() => return Err("there is more than one key in it"),
                PUBLIC_KEY => id = Some(key_id(body)?),
                _ if id.is_none() => return Err("it does not begin with a public key"),
                USER_ID if user.is_none() => user = Some(shown(body)),
                _ => {}
            }
        }
        let id = id.ok_or("there is no key in it")?;
        Ok(Self { id, user: user.unwrap_or_default(), armored: armored(&bytes) })
    }

    /// The key as it is handed out.
    pub fn armored(&self) -> &str {
        &self.armored
    }
}

/// Hands out the key in that file from now on. The same key again takes the place of the old form.
pub fn add_publisher(
    root: &Path,
    path: &Path,
    now: UnixSeconds,
) -> Result<PublisherKey, DepotError> {
    let refused = |what| DepotError::PublisherKey { path: path.to_owned(), what };
    let bytes = read(path, KEY_BYTES_MAX)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| refused("it is not in armour"))?;
    let key = PublisherKey::parse(text).map_err(refused)?;
    on_shelves(root, &Reason::Time, now, |shelves| {
        if shelves.publishers.contains(&key) {
            return Ok(0);
        }
        shelves.publishers.retain(|other| other.id != key.id);
        if shelves.publishers.len() >= KEYS_MAX {
            return Err(refused("the depot hands out eight others already"));
        }
        shelves.publishers.push(key.clone());
        Ok(1)
    })?;
    Ok(key)
}

/// The keys that are handed out.
pub fn publishers(root: &Path) -> Result<Vec<PublisherKey>, DepotError> {
    Ok(Place::at(root).read_shelf()?.shelves.publishers)
}

/// Hands out the key whose id ends like that no longer.
pub fn remove_publisher(root: &Path, id: &str, now: UnixSeconds) -> Result<(), DepotError> {
    let wanted = id.trim_start_matches("0x").to_uppercase();
    on_shelves(root, &Reason::Time, now, |shelves| {
        let is_meant = |key: &PublisherKey| key.id.ends_with(&wanted);
        if shelves.publishers.iter().filter(|key| is_meant(key)).count() != 1 {
            return Err(DepotError::NoSuchPublisher { id: id.chars().take(64).collect() });
        }
        shelves.publishers.retain(|key| !is_meant(key));
        Ok(1)
    })
    .map(drop)
}

/// The bytes in the armour, whatever stands around it.
fn unarmored(text: &str) -> Result<Vec<u8>, &'static str> {
    if text.contains("-----BEGIN PGP PRIVATE KEY BLOCK-----") {
        return Err("there is a secret key in it");
    }
    let (_, inner) = text.split_once(BEGIN).ok_or("there is no public key in armour in it")?;
    let (inner, behind) = inner.split_once(END).ok_or("its armour has no end")?;
    if behind.contains(BEGIN) {
        return Err("there is more than one key in it");
    }
    let mut lines = inner.lines().map(str::trim);
    // Its own line's end, then lines such as `Comment: …`, then an empty one.
    lines.next();
    lines.by_ref().find(|line| line.is_empty());
    let (mut code, mut sum) = (String::new(), None);
    for line in lines {
        match line.strip_prefix('=') {
            Some(digits) => sum = Some(digits),
            None => code.push_str(line),
        }
    }
    let decoded = BASE64_STANDARD.decode(&code);
    let bytes = decoded.ok().filter(|bytes| !bytes.is_empty()).ok_or("its armour is damaged")?;
    match sum {
        Some(sum) if sum != BASE64_STANDARD.encode(checksum(&bytes)) => {
            Err("its armour is damaged")
        }
        _ => Ok(bytes),
    }
}

fn armored(bytes: &[u8]) -> String {
    let code = BASE64_STANDARD.encode(bytes);
    let mut text = format!("{BEGIN}\n\n");
    let mut rest = code.as_str();
    while !rest.is_empty() {
        let (line, behind) = rest.split_at(rest.len().min(LINE_CHARACTERS));
        text.push_str(line);
        text.push('\n');
        rest = behind;
    }
    text.push_str(&format!("={}\n{END}\n", BASE64_STANDARD.encode(checksum(bytes))));
    text
}

/// The checksum of armour: RFC 4880, 6.1.
fn checksum(bytes: &[u8]) -> [u8; 3] {
    let mut sum: u32 = 0x00b7_04ce;
    for byte in bytes {
        sum ^= u32::from(*byte) << 16;
        for _ in 0..8 {
            sum <<= 1;
            if sum & 0x0100_0000 != 0 {
                sum ^= 0x0186_4cfb;
            }
        }
    }
    let [_, sum @ ..] = sum.to_be_bytes();
    sum
}

/// The kind and the body of the first packet, and what stands behind it: RFC 4880, 4.2.
fn packet(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&head, rest) = bytes.split_first()?;
    let number = |count: usize| {
        let digits = rest.get(..count)?;
        let value = digits.iter().fold(0, |value, byte| value << 8 | usize::from(*byte));
        Some((value, rest.get(count..)?))
    };
    let is_new = head & 0x40 != 0;
    let (length, rest) = match (is_new, head & 3, rest.first()?) {
        _ if head & 0x80 == 0 => return None,
        (false, 0, _) | (true, _, 0..=191) => number(1)?,
        (false, 1, _) => number(2)?,
        (false, 2, _) => number(4)?,
        (true, _, 192..=223) => {
            let (value, rest) = number(2)?;
            (value - (192 << 8) + 192, rest)
        }
        // 255 and four bytes; no key is so long that it must come in parts.
        (true, _, 255) => (number(5)?.0 & 0xffff_ffff, rest.get(5..)?),
        _ => return None,
    };
    let kind = if is_new { head & 0x3f } else { (head & 0x3c) >> 2 };
    Some((kind, rest.get(..length)?, rest.get(length..)?))
}

/// The id of a version 4 RSA key: RFC 4880, 12.2.
fn key_id(body: &[u8]) -> Result<String, &'static str> {
    match body {
        [4, _, _, _, _, 1 | 3, ..] => {}
        [4, ..] => return Err("DSM 5 and 6 know no other keys than RSA"),
        _ => return Err("DSM 5 and 6 know keys of version 4 alone"),
    }
    let length = u16::try_from(body.len()).map_err(|_| "it is too long")?.to_be_bytes();
    let digest = Sha1::new().chain_update([0x99]).chain_update(length).chain_update(body);
    let fingerprint = hex::encode_upper(digest.finalize());
    Ok(fingerprint[fingerprint.len() - 16..].to_owned())
}

fn shown(user: &[u8]) -> String {
    let text = String::from_utf8_lossy(user);
    text.chars().filter(|letter| !letter.is_control()).take(USER_CHARACTERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::{Stage, TODAY};

    fn key(algorithm: u8) -> Vec<u8> {
        // An old-format public key, a new-format name.
        let body = [&[4, 0, 0, 0, 1, algorithm, 0, 8, 0xff][..], &[0, 2, 3]].concat();
        let mut bytes = vec![0x98, u8::try_from(body.len()).unwrap()];
        bytes.extend(body);
        bytes.extend([0xcd, 4]);
        bytes.extend(b"anna");
        bytes
    }

    #[test]
    fn a_key_is_handed_out_as_it_was_without_what_stood_around_it() {
        let text = armored(&key(1));
        let plain = PublisherKey::parse(&text).unwrap();
        assert_eq!((plain.user.as_str(), plain.id.len()), ("anna", 16));
        let around = text.replace("BLOCK-----\n\n", "BLOCK-----\nComment: <script>\nA: b\n\n");
        let around = format!("dear keeper,\r\n{}\r\nyours", around.replace('\n', "\r\n"));
        assert_eq!(PublisherKey::parse(&around).unwrap(), plain);
        assert_eq!(plain.armored(), text);
    }

    #[test]
    fn what_no_old_dsm_could_use_and_what_nobody_must_see_is_refused() {
        let sound = armored(&key(1));
        let secret = [&key(1)[..], &[0x9c, 1, 0]].concat();
        let two = [key(1), key(1)].concat();
        for (text, why) in [
            (String::new(), "no public key"),
            ("-----BEGIN PGP PRIVATE KEY BLOCK-----".to_owned(), "a secret key"),
            (armored(&secret), "a secret key"),
            (armored(&two), "more than one"),
            (format!("{sound}{sound}"), "more than one"),
            (armored(&key(22)), "no other keys than RSA"),
            (armored(&[0x98, 1, 6]), "version 4 alone"),
            (armored(&key(1)[..9]), "breaks off"),
            (armored(&key(1)[14..]), "does not begin"),
            (sound.replace(END, ""), "no end"),
            (sound.replacen("\n\nmA", "\n\nmB", 1), "damaged"),
            (sound.replacen("\n\n", "\n\n!", 1), "damaged"),
        ] {
            let error = PublisherKey::parse(&text).unwrap_err();
            assert!(error.contains(why), "{error}: {why}");
        }
        // Whatever comes, it ends.
        for length in 0..20 {
            for byte in 0..=255 {
                let _ = PublisherKey::parse(&armored(&vec![byte; length + 1]));
            }
        }
    }

    #[test]
    fn a_publisher_is_handed_out_until_he_is_removed_and_nothing_needs_the_lists_key() {
        let stage = Stage::new();
        std::fs::remove_file(stage.depot().join("keys/targets.key")).unwrap();
        let path = stage.depot().with_file_name("public.asc");
        std::fs::write(&path, armored(&key(1))).unwrap();
        let added = add_publisher(&stage.depot(), &path, TODAY).unwrap();
        assert_eq!(add_publisher(&stage.depot(), &path, TODAY).unwrap(), added);
        assert_eq!(publishers(&stage.depot()).unwrap(), std::slice::from_ref(&added));
        let wrong = remove_publisher(&stage.depot(), "0123", TODAY);
        assert!(matches!(wrong, Err(DepotError::NoSuchPublisher { .. })), "{wrong:?}");
        let end = format!("0x{}", added.id[8..].to_lowercase());
        remove_publisher(&stage.depot(), &end, TODAY).unwrap();
        assert_eq!(publishers(&stage.depot()).unwrap(), []);
        stage.verified(TODAY).unwrap();
    }
}
