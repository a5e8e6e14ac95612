//! The config: the one file that makes a folder a repository.
//!
//! Sealed, but never compressed. Fields of other programs are tolerated.

use crate::crypto::{CryptoError, MasterKey, Nonce};
use crate::id::Id;
use crate::polynomial::Polynomial;

/// A config has never more bytes of JSON: 64 KiB.
const CONFIG_BYTES_MAX: usize = 64 << 10;

/// The format's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// Of restic before 0.14: no compression. Read and continued, never made.
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

/// What a config says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Config {
    /// The format's version.
    pub version: Version,
    /// The repository's name, random, by which a moved destination is found again.
    pub id: Id,
    /// What restic's chunker cuts by.
    pub chunker_polynomial: Polynomial,
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
    /// The config of a new repository; `id` holds 32 random bytes.
    pub fn new(id: Id, chunker_polynomial: Polynomial) -> Self {
        Self { version: Version::V2, id, chunker_polynomial }
    }

    /// The file.
    pub fn seal(&self, key: &MasterKey, nonce: Nonce) -> Result<Vec<u8>, ConfigError> {
        let mut file = Vec::new();
        key.seal_into(nonce, &serde_json::to_vec(self)?, &mut file)?;
        Ok(file)
    }

    /// What the file says; it is decrypted where it stands.
    pub fn open(file: &mut [u8], key: &MasterKey) -> Result<Self, ConfigError> {
        #[derive(serde::Deserialize)]
        struct Written {
            id: Id,
            chunker_polynomial: Polynomial,
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
        let Written { id, chunker_polynomial } = serde_json::from_slice(json)?;
        Ok(Self { version, id, chunker_polynomial })
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
        let config = Config::new(Id::of(b"abc"), polynomial);
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
}
