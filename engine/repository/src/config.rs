//! The config: the one file that makes a folder a repository.
//!
//! Sealed, but never compressed. Fields of other programs are tolerated.

use crate::chunker::{Chunker, GearChunker, GearTable, RabinChunker, TABLE_BYTES};
use crate::crypto::{CryptoError, MasterKey, Nonce};
use crate::id::Id;
use crate::polynomial::Polynomial;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

/// A config has never more bytes of JSON: 64 KiB.
const CONFIG_BYTES_MAX: usize = 64 << 10;

/// The format's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// Of restic before 0.14: no compression. Made only for those who ask for it.
    V1,
    /// With compression. What we make.
    V2,
}

impl Version {
    /// The number in the config.
    pub fn number(self) -> u32 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }
}

impl serde::Serialize for Version {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.number())
    }
}

/// How files of a repository are cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cutting {
    /// As restic cuts, by the polynomial.
    Rabin,
    /// By our own chunker, its table made from the master key.
    Gear,
    /// By our own chunker with the table of another repository, so that both cut alike.
    GearOf(Box<GearTable>),
}

/// What a config says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The format's version.
    pub version: Version,
    /// The repository's name, random, by which a moved destination is found again.
    pub id: Id,
    /// What restic's chunker cuts by.
    pub chunker_polynomial: Polynomial,
    /// How we cut.
    pub cutting: Cutting,
}

/// The first version of our own chunker.
const GEAR: &str = "gear-1";

/// The fields of ours are passed over by restic, which never writes a config anew.
#[derive(serde::Serialize)]
struct Written {
    version: Version,
    id: Id,
    chunker_polynomial: Polynomial,
    #[serde(skip_serializing_if = "Option::is_none")]
    holdfast_chunker: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    holdfast_gear_table: Option<String>,
}

/// Why a config cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It does not open.
    #[error("the repository's config cannot be opened")]
    Crypto(#[from] CryptoError),
    /// It is not what a config looks like.
    #[error("the repository's config makes no sense")]
    Json(#[from] serde_json::Error),
    /// Too long.
    #[error("the repository's config has {bytes} bytes; the limit is {CONFIG_BYTES_MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Made by a newer program.
    #[error("the repository has version {version}; versions 1 and 2 are known")]
    Version {
        /// Its version.
        version: u32,
    },
}

impl ConfigError {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Version { .. } => "update Holdfast to a version that knows this repository",
            _ => "bring the file `config` back from a copy of the repository",
        }
    }
}

impl Config {
    /// The config of a new repository, cut by our own chunker; `id` holds 32 random bytes.
    pub fn new(id: Id, chunker_polynomial: Polynomial) -> Self {
        Self { version: Version::V2, id, chunker_polynomial, cutting: Cutting::Gear }
    }

    /// The chunker of the repository of this config and key. Making one works out tables.
    pub fn chunker(&self, key: &MasterKey) -> Chunker {
        match &self.cutting {
            Cutting::Rabin => Chunker::Rabin(Box::new(RabinChunker::new(self.chunker_polynomial))),
            Cutting::Gear => Chunker::Gear(Box::new(GearChunker::new(key))),
            Cutting::GearOf(table) => Chunker::Gear(Box::new(GearChunker::by(table))),
        }
    }

    /// How another repository must cut to cut as this one does. The key stays here: a table made of
    /// it goes, from which nobody learns the key.
    pub fn cutting_for_another(&self, key: &MasterKey) -> Cutting {
        match &self.cutting {
            Cutting::Gear => Cutting::GearOf(Box::new(GearTable::of_key(key))),
            same => same.clone(),
        }
    }

    /// Whether files are cut alike in two repositories, so that one finds the chunks of the other.
    pub fn cuts_like(&self, key: &MasterKey, other: &Self, other_key: &MasterKey) -> bool {
        match (self.cutting_for_another(key), other.cutting_for_another(other_key)) {
            (Cutting::Rabin, Cutting::Rabin) => self.chunker_polynomial == other.chunker_polynomial,
            (ours, theirs) => ours == theirs,
        }
    }

    /// The file.
    pub fn seal(&self, key: &MasterKey, nonce: Nonce) -> Result<Vec<u8>, ConfigError> {
        let written = Written {
            version: self.version,
            id: self.id,
            chunker_polynomial: self.chunker_polynomial,
            holdfast_chunker: (self.cutting != Cutting::Rabin).then_some(GEAR),
            holdfast_gear_table: match &self.cutting {
                Cutting::GearOf(table) => Some(BASE64.encode(table.to_bytes())),
                _ => None,
            },
        };
        let mut file = Vec::new();
        key.seal_into(nonce, &serde_json::to_vec(&written)?, &mut file)?;
        Ok(file)
    }

    /// What the file says; it is decrypted where it stands.
    pub fn open(file: &mut [u8], key: &MasterKey) -> Result<Self, ConfigError> {
        #[derive(serde::Deserialize)]
        struct Read {
            id: Id,
            chunker_polynomial: Polynomial,
            #[serde(default)]
            holdfast_chunker: serde_json::Value,
            #[serde(default)]
            holdfast_gear_table: serde_json::Value,
        }
        #[derive(serde::Deserialize)]
        struct OnlyVersion {
            version: u32,
        }
        if file.len() > CONFIG_BYTES_MAX {
            return Err(ConfigError::TooLong { bytes: file.len() });
        }
        let json = key.open_in_place(file)?;
        // The version first: a newer config may lack the rest.
        let version = match serde_json::from_slice::<OnlyVersion>(json)?.version {
            1 => Version::V1,
            2 => Version::V2,
            version => return Err(ConfigError::Version { version }),
        };
        let read: Read = serde_json::from_slice(json)?;
        let cutting = cutting(&read.holdfast_chunker, &read.holdfast_gear_table);
        Ok(Self { version, id: read.id, chunker_polynomial: read.chunker_polynomial, cutting })
    }
}

/// What we do not know is cut as restic cuts, which is never wrong.
fn cutting(chunker: &serde_json::Value, table: &serde_json::Value) -> Cutting {
    if chunker != GEAR {
        return Cutting::Rabin;
    }
    let Some(text) = table.as_str() else { return Cutting::Gear };
    let bytes = BASE64.decode(text).ok();
    match bytes.and_then(|bytes| <[u8; TABLE_BYTES]>::try_from(bytes).ok()) {
        Some(bytes) => Cutting::GearOf(Box::new(GearTable::from_bytes(&bytes))),
        None => Cutting::Rabin,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::MASTER_KEY_BYTES;

    fn key() -> MasterKey {
        MasterKey::from_bytes(&[7; MASTER_KEY_BYTES]).unwrap()
    }

    fn read(json: &str) -> Result<Config, ConfigError> {
        let mut file = Vec::new();
        key().seal_into([3; 16], json.as_bytes(), &mut file).unwrap();
        Config::open(&mut file, &key())
    }

    #[test]
    fn a_config_survives_being_written_and_read_and_looks_like_restics() {
        let polynomial = Polynomial::new(0x3d_a335_8b4d_c173).unwrap();
        let ours = Config::new(Id::of(b"abc"), polynomial);
        let config = Config { cutting: Cutting::Rabin, ..ours };
        let mut file = config.seal(&key(), [3; 16]).unwrap();
        assert_eq!(Config::open(&mut file.clone(), &key()).unwrap(), config);
        let json = key().open_in_place(&mut file).unwrap().to_vec();
        let expected = format!(
            r#"{{"version":2,"id":"{}","chunker_polynomial":"3da3358b4dc173"}}"#,
            config.id
        );
        assert_eq!(String::from_utf8(json).unwrap(), expected);
    }

    #[test]
    fn fields_of_other_programs_are_tolerated_and_other_versions_are_not() {
        let id = Id::of(b"abc");
        let with = |version: u32, polynomial: &str| {
            read(&format!(
                r#"{{"version":{version},"id":"{id}","chunker_polynomial":"{polynomial}","x":[1]}}"#
            ))
        };
        assert_eq!(with(1, "3da3358b4dc173").unwrap().version, Version::V1);
        assert!(matches!(with(3, "x"), Err(ConfigError::Version { version: 3 })));
        assert!(matches!(with(2, "3da3358b4dc172"), Err(ConfigError::Json(_))));
        assert!(matches!(read("{}"), Err(ConfigError::Json(_))));
    }

    #[test]
    fn how_files_are_cut_is_remembered_and_can_be_shared_without_the_key() {
        let polynomial = Polynomial::new(0x3d_a335_8b4d_c173).unwrap();
        let ours = Config::new(Id::of(b"abc"), polynomial);
        let other_key = MasterKey::from_bytes(&[9; MASTER_KEY_BYTES]).unwrap();
        let shared = Config { cutting: ours.cutting_for_another(&key()), ..ours.clone() };
        let restics = Config { cutting: Cutting::Rabin, ..ours.clone() };
        for config in [&ours, &shared, &restics] {
            let mut file = config.seal(&key(), [3; 16]).unwrap();
            assert_eq!(&Config::open(&mut file, &key()).unwrap(), config);
        }
        assert_eq!(shared.cutting_for_another(&other_key), shared.cutting);
        assert!(ours.cuts_like(&key(), &shared, &other_key));
        assert!(!ours.cuts_like(&key(), &ours, &other_key));
        assert!(restics.cuts_like(&key(), &restics, &other_key));
        assert!(!restics.cuts_like(&key(), &ours, &key()));
        let file = crate::compress::tests::noise(6 << 20, 3);
        let cut = |config: &Config, key: &MasterKey| config.chunker(key).next_cut(&file);
        assert_eq!(cut(&shared, &other_key), cut(&ours, &key()));
        assert_ne!(cut(&ours, &other_key), cut(&ours, &key()));
    }

    #[test]
    fn a_chunker_we_do_not_know_is_taken_for_restics() {
        let id = Id::of(b"abc");
        let with = |field: &str| {
            let polynomial = "3da3358b4dc173";
            let start = format!(r#"{{"version":2,"id":"{id}","chunker_polynomial":"{polynomial}""#);
            read(&format!("{start}{field}}}")).unwrap().cutting
        };
        assert_eq!(with(""), Cutting::Rabin);
        assert_eq!(with(r#","holdfast_chunker":"gear-1""#), Cutting::Gear);
        for other in [r#""gear-2""#, "7", r#""gear-1","holdfast_gear_table":"AAAA""#] {
            assert_eq!(with(&format!(r#","holdfast_chunker":{other}"#)), Cutting::Rabin, "{other}");
        }
    }
}
