//! The computer's identity, and how copies of it are compared.
//!
//! CrashPlan kept its GUID in one file that DSM upgrades deleted; owners then sent everything
//! again. Holdfast keeps several copies, each with a checksum and a generation. Any one copy left
//! restores all. Copies that disagree are reported, never guessed about silently.
//!
//! The file is text, so that a person over SSH can read it:
//!
//! ```text
//! # Holdfast identity. It names this computer; never copy it to another one.
//! guid=6503624866600795236
//! generation=1
//! checksum=<sha256 of the lines above, hex>
//! ```

use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

/// A longer file is not an identity.
pub const FILE_BYTES_MAX: usize = 4096;

const HEADING: &str = "# Holdfast identity. It names this computer; never copy it to another one.";

/// A computer's GUID: a decimal 64-bit number, as CrashPlan's were, so an old one can be adopted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Guid(u64);

impl Guid {
    /// The GUID made from random bits. The top bit is cleared, as CrashPlan's Java `long` did; zero
    /// is not a GUID and becomes one.
    pub fn from_random(bits: u64) -> Self {
        Self((bits & (u64::MAX >> 1)).max(1))
    }

    /// The number itself.
    pub fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for Guid {
    type Err = GuidError;

    fn from_str(text: &str) -> Result<Self, GuidError> {
        let is_decimal = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse::<u64>() {
            Ok(number) if is_decimal && number != 0 => Ok(Self(number)),
            _ => Err(GuidError { text: text.chars().take(40).collect() }),
        }
    }
}

impl serde::Serialize for Guid {
    /// As a string: JavaScript and JSON tools lose digits of 64-bit numbers.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Guid {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A text that is not a GUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a computer GUID: a decimal number from 1 to 18446744073709551615")]
pub struct GuidError {
    text: String,
}

/// Who this computer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The computer's GUID.
    pub guid: Guid,
    /// Grows by one at each change, so that the newest of several copies is known.
    pub generation: u32,
}

/// Why a text is not an identity file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The checksum is missing or does not fit: the file was cut off or edited.
    #[error("the identity file is damaged: its checksum does not fit its text")]
    Checksum,
    /// The checksum fits, but a field is missing or makes no sense: a newer version wrote it.
    #[error("the identity file has no usable `{field}`")]
    Field {
        /// The field's name.
        field: &'static str,
    },
}

impl Identity {
    /// The first identity of a computer.
    pub fn new(guid: Guid) -> Self {
        Self { guid, generation: 1 }
    }

    /// The identity after taking over `guid`: one generation later than this one.
    pub fn adopting(self, guid: Guid) -> Self {
        Self { guid, generation: self.generation.saturating_add(1) }
    }

    /// The file's text.
    pub fn to_text(self) -> String {
        let body = format!("{HEADING}\nguid={}\ngeneration={}\n", self.guid, self.generation);
        let checksum = checksum_of(&body);
        format!("{body}checksum={checksum}\n")
    }

    /// Reads a file's text.
    pub fn from_text(text: &str) -> Result<Self, IdentityError> {
        let at = text.rfind("checksum=").ok_or(IdentityError::Checksum)?;
        let (body, checksum) = text.split_at(at);
        let checksum = checksum["checksum=".len()..].trim_end();
        if text.len() > FILE_BYTES_MAX || checksum_of(body) != checksum {
            return Err(IdentityError::Checksum);
        }
        let field = |name: &'static str| {
            body.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
                .ok_or(IdentityError::Field { field: name })
        };
        Ok(Self {
            guid: field("guid")?.parse().map_err(|_| IdentityError::Field { field: "guid" })?,
            generation: field("generation")?
                .parse()
                .map_err(|_| IdentityError::Field { field: "generation" })?,
        })
    }
}

fn checksum_of(body: &str) -> String {
    hex::encode(Sha256::digest(body.as_bytes()))
}

/// One copy, as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyFound {
    /// A sound copy.
    Sound(Identity),
    /// No file there.
    Missing,
    /// A file that is no sound identity.
    Damaged(IdentityError),
}

/// What several copies together say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// No sound copy is left: a new computer, or an old one to be adopted.
    Nobody,
    /// One identity; the copies at these places of the list are to be written again.
    Known {
        /// Who the computer is.
        identity: Identity,
        /// Places in the list of copies that are missing, damaged or older.
        rewrite: Vec<usize>,
    },
    /// Two sound copies of one generation name different computers. Somebody must decide.
    Disagreement {
        /// The GUIDs found in the newest generation.
        guids: Vec<Guid>,
    },
}

/// Compares the copies: the newest generation wins, if it speaks with one voice.
pub fn compare(copies: &[CopyFound]) -> Verdict {
    let sound = || {
        copies.iter().filter_map(|copy| match copy {
            CopyFound::Sound(identity) => Some(*identity),
            _ => None,
        })
    };
    let Some(newest) = sound().max_by_key(|identity| identity.generation) else {
        return Verdict::Nobody;
    };
    let mut guids: Vec<Guid> = sound()
        .filter(|identity| identity.generation == newest.generation)
        .map(|identity| identity.guid)
        .collect();
    guids.sort_unstable();
    guids.dedup();
    if guids.len() > 1 {
        return Verdict::Disagreement { guids };
    }
    let rewrite = copies
        .iter()
        .enumerate()
        .filter(|(_, copy)| **copy != CopyFound::Sound(newest))
        .map(|(place, _)| place)
        .collect();
    Verdict::Known { identity: newest, rewrite }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn computer(guid: u64, generation: u32) -> Identity {
        Identity { guid: guid.to_string().parse().unwrap(), generation }
    }

    #[test]
    fn an_identity_survives_being_written_and_read() {
        let identity = computer(6_503_624_866_600_795_236, 7);
        assert_eq!(Identity::from_text(&identity.to_text()), Ok(identity));
    }

    #[test]
    fn a_file_cut_off_anywhere_or_changed_in_one_byte_is_never_believed() {
        let text = computer(6_503_624_866_600_795_236, 7).to_text();
        for cut in 0..text.len() - 1 {
            assert!(Identity::from_text(&text[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..text.len() - 1 {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            assert!(Identity::from_text(&String::from_utf8(bytes).unwrap()).is_err(), "byte {at}");
        }
    }

    #[test]
    fn any_one_copy_left_restores_all() {
        let identity = computer(42, 3);
        let copies = [
            CopyFound::Missing,
            CopyFound::Damaged(IdentityError::Checksum),
            CopyFound::Sound(identity),
            CopyFound::Sound(computer(42, 2)),
        ];
        assert_eq!(compare(&copies), Verdict::Known { identity, rewrite: vec![0, 1, 3] });
    }

    #[test]
    fn copies_that_name_two_computers_are_reported_and_not_guessed_about() {
        let copies = [CopyFound::Sound(computer(42, 3)), CopyFound::Sound(computer(43, 3))];
        let guids = vec![computer(42, 3).guid, computer(43, 3).guid];
        assert_eq!(compare(&copies), Verdict::Disagreement { guids });
    }

    #[test]
    fn an_adopted_identity_beats_the_one_it_replaced_on_every_copy() {
        let old = computer(42, 1);
        let adopted = old.adopting(computer(43, 1).guid);
        let copies = [CopyFound::Sound(old), CopyFound::Sound(adopted)];
        assert_eq!(compare(&copies), Verdict::Known { identity: adopted, rewrite: vec![0] });
    }

    #[test]
    fn no_text_but_a_decimal_number_is_a_guid() {
        for text in ["", "0", "-1", "+5", "1e3", "0x10", " 7", "18446744073709551616", "; reboot"] {
            assert!(text.parse::<Guid>().is_err(), "{text:?}");
        }
    }
}
