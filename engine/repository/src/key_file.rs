//! Key files: the master key, sealed by a key that scrypt makes from a password.
//!
//! The only kind of file that is plain JSON. What opening costs is written in it: by us so that a
//! box with 128 MB can pay it, by others as they like, up to a bound.

use crate::crypto::{CryptoError, MASTER_KEY_BYTES, MasterKey, Nonce};
use crate::time::Time;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::{Zeroize, Zeroizing};

/// Length of a salt in bytes.
pub const SALT_BYTES: usize = 64;
/// A key file has never more bytes: 64 KiB.
pub const KEY_FILE_BYTES_MAX: usize = 64 << 10;
/// No key is opened that needs more memory: 256 MiB, twice what rustic's keys need.
pub const KDF_MEMORY_BYTES_MAX: u64 = 256 << 20;
/// No key is opened that needs more work, counted in bytes mixed: 4 GiB, some tens of seconds.
const KDF_WORK_BYTES_MAX: u64 = 4 << 30;

/// What scrypt is to spend: `N`, `r` and `p` of RFC 7914.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KdfCost {
    /// `N`, a power of two: blocks mixed.
    pub n: u32,
    /// `r`: a block has `128 r` bytes.
    pub r: u32,
    /// `p`: how often the whole is done.
    pub p: u32,
}

impl KdfCost {
    /// What our keys cost: 16 MiB, four times over.
    pub const OURS: Self = Self { n: 16_384, r: 8, p: 4 };

    /// The memory it takes, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        128 * u64::from(self.r).saturating_mul(u64::from(self.n) + u64::from(self.p))
    }

    fn check(&self) -> Result<scrypt::Params, KeyError> {
        let invalid = KeyError::Cost { cost: *self };
        if !self.n.is_power_of_two() || self.n < 2 || self.r == 0 || self.p == 0 {
            return Err(invalid);
        }
        let bytes = self.memory_bytes();
        let work_bytes = bytes.saturating_mul(u64::from(self.p));
        if bytes > KDF_MEMORY_BYTES_MAX || work_bytes > KDF_WORK_BYTES_MAX {
            return Err(KeyError::Memory { bytes, work_bytes });
        }
        let log_n = self.n.trailing_zeros() as u8;
        scrypt::Params::new(log_n, self.r, self.p).map_err(|_| invalid)
    }
}

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The password does not open it.
    #[error("the password does not open this key")]
    WrongPassword,
    /// It is not what a key file looks like.
    #[error("the key file makes no sense")]
    Json(#[from] serde_json::Error),
    /// Too long, or a part of it is.
    #[error("the key file's {part} has a wrong length or is no base64")]
    Part {
        /// Which.
        part: &'static str,
    },
    /// Not scrypt.
    #[error("the key file asks for `{kdf}`, which is not known")]
    Kdf {
        /// What it asks for.
        kdf: String,
    },
    /// Parameters scrypt does not take.
    #[error("the key file's parameters make no sense: N={}, r={}, p={}", cost.n, cost.r, cost.p)]
    Cost {
        /// The parameters.
        cost: KdfCost,
    },
    /// Would take too much.
    #[error(
        "opening this key needs {} MiB of memory and mixes {} MiB; the limits are {} and {}",
        bytes >> 20, work_bytes >> 20, KDF_MEMORY_BYTES_MAX >> 20, KDF_WORK_BYTES_MAX >> 20
    )]
    Memory {
        /// The memory.
        bytes: u64,
        /// The memory, as often as it is mixed.
        work_bytes: u64,
    },
    /// The password fits, but the master key in it is no key.
    #[error("the key file opens, but holds no usable master key")]
    Master(#[source] CryptoError),
}

impl KeyError {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::WrongPassword => "try again: capital letters, keyboard layout, spaces at the end",
            Self::Memory { .. } => {
                "on a larger computer, add a second password with `key add`; its key needs 16 MiB"
            }
            Self::Kdf { .. } => "update Holdfast to a version that knows this key",
            _ => "use another key of the repository, or bring `keys` back from a copy",
        }
    }
}

/// A key file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct KeyFile {
    /// When it was made. rustic does not say; then it is the first moment restic can write.
    #[serde(default = "unknown_moment")]
    pub created: Time,
    /// By whom.
    #[serde(default)]
    pub username: String,
    /// On which computer.
    #[serde(default)]
    pub hostname: String,
    kdf: String,
    #[serde(rename = "N")]
    n: u32,
    r: u32,
    p: u32,
    salt: String,
    data: String,
}

/// Who makes a key file, and when. Shown in lists of keys; nothing depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyMaker {
    /// When.
    pub created: Time,
    /// By whom.
    pub username: String,
    /// On which computer.
    pub hostname: String,
}

impl KeyFile {
    /// Seals `master` by `password`, whose bytes are taken as they are. `salt` and `nonce` are
    /// random.
    pub fn create(
        master: &MasterKey,
        password: impl AsRef<[u8]>,
        cost: KdfCost,
        salt: &[u8; SALT_BYTES],
        nonce: Nonce,
        maker: KeyMaker,
    ) -> Result<Self, KeyError> {
        let user_key = derive(password.as_ref(), salt, cost)?;
        let mut sealed = Vec::new();
        let json = master_to_json(master)?;
        user_key.seal_into(nonce, &json, &mut sealed).map_err(KeyError::Master)?;
        Ok(Self {
            created: maker.created,
            username: maker.username,
            hostname: maker.hostname,
            kdf: "scrypt".to_owned(),
            n: cost.n,
            r: cost.r,
            p: cost.p,
            salt: BASE64.encode(salt),
            data: BASE64.encode(sealed),
        })
    }

    /// The file's bytes; its name is their sum.
    pub fn to_json(&self) -> Result<Vec<u8>, KeyError> {
        Ok(serde_json::to_vec(self)?)
    }

    /// Reads a key file.
    pub fn from_json(json: &[u8]) -> Result<Self, KeyError> {
        if json.len() > KEY_FILE_BYTES_MAX {
            return Err(KeyError::Part { part: "text" });
        }
        let file: Self = serde_json::from_slice(json)?;
        if file.kdf != "scrypt" {
            return Err(KeyError::Kdf { kdf: file.kdf.chars().take(40).collect() });
        }
        Ok(file)
    }

    /// What opening it costs.
    pub fn cost(&self) -> KdfCost {
        KdfCost { n: self.n, r: self.r, p: self.p }
    }

    /// The master key, if the password is right. Takes as long as [`KeyFile::cost`] says.
    pub fn open(&self, password: impl AsRef<[u8]>) -> Result<MasterKey, KeyError> {
        let salt = BASE64.decode(&self.salt).ok();
        let salt: [u8; SALT_BYTES] =
            salt.and_then(|salt| salt.try_into().ok()).ok_or(KeyError::Part { part: "salt" })?;
        let data = BASE64.decode(&self.data).map_err(|_| KeyError::Part { part: "data" })?;
        let mut data = Zeroizing::new(data);
        let user_key = derive(password.as_ref(), &salt, self.cost())?;
        match user_key.open_in_place(&mut data) {
            Ok(json) => master_from_json(json),
            Err(CryptoError::TooShort { .. }) => Err(KeyError::Part { part: "data" }),
            Err(_) => Err(KeyError::WrongPassword),
        }
    }
}

fn unknown_moment() -> Time {
    "0001-01-01T00:00:00Z".parse().expect("it is a time")
}

fn derive(password: &[u8], salt: &[u8], cost: KdfCost) -> Result<MasterKey, KeyError> {
    let params = cost.check()?;
    let mut bytes = Zeroizing::new([0; MASTER_KEY_BYTES]);
    scrypt::scrypt(password, salt, &params, bytes.as_mut()).map_err(|_| KeyError::Cost { cost })?;
    MasterKey::from_bytes(&bytes).map_err(KeyError::Master)
}

/// The master key as JSON has it.
#[derive(serde::Serialize, serde::Deserialize)]
struct MasterJson {
    mac: MacJson,
    encrypt: String,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct MacJson {
    k: String,
    r: String,
}

impl Drop for MasterJson {
    fn drop(&mut self) {
        self.mac.k.zeroize();
        self.mac.r.zeroize();
        self.encrypt.zeroize();
    }
}

fn master_to_json(master: &MasterKey) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let bytes = Zeroizing::new(master.to_bytes());
    let json = MasterJson {
        mac: MacJson { k: BASE64.encode(&bytes[32..48]), r: BASE64.encode(&bytes[48..]) },
        encrypt: BASE64.encode(&bytes[..32]),
    };
    Ok(Zeroizing::new(serde_json::to_vec(&json)?))
}

fn master_from_json(json: &[u8]) -> Result<MasterKey, KeyError> {
    let json: MasterJson = serde_json::from_slice(json)?;
    let mut bytes = Zeroizing::new([0; MASTER_KEY_BYTES]);
    let parts = [(&json.encrypt, 0..32), (&json.mac.k, 32..48), (&json.mac.r, 48..64)];
    for (text, range) in parts {
        let part = Zeroizing::new(BASE64.decode(text).unwrap_or_default());
        if part.len() != range.len() {
            return Err(KeyError::Part { part: "master key" });
        }
        bytes[range].copy_from_slice(&part);
    }
    MasterKey::from_bytes(&bytes).map_err(KeyError::Master)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: KdfCost = KdfCost { n: 16, r: 1, p: 1 };

    fn master() -> MasterKey {
        let mut bytes = [7; MASTER_KEY_BYTES];
        bytes[40] = 9;
        MasterKey::from_bytes(&bytes).unwrap()
    }

    fn file(cost: KdfCost) -> KeyFile {
        let maker = KeyMaker {
            created: Time::utc(1, 0),
            username: "admin".to_owned(),
            hostname: "nas".to_owned(),
        };
        KeyFile::create(&master(), "secret", cost, &[5; SALT_BYTES], [3; 16], maker).unwrap()
    }

    #[test]
    fn the_right_password_gives_the_master_key_back_and_no_other_does() {
        let read = KeyFile::from_json(&file(CHEAP).to_json().unwrap()).unwrap();
        assert_eq!(read, file(CHEAP));
        assert_eq!(read.open("secret").unwrap().to_bytes(), master().to_bytes());
        for wrong in ["", "Secret", "secret ", "secret\n"] {
            assert!(matches!(read.open(wrong), Err(KeyError::WrongPassword)), "{wrong:?}");
        }
    }

    #[test]
    fn a_key_that_does_not_say_who_made_it_when_opens_as_rustics_do() {
        let json = file(CHEAP).to_json().unwrap();
        let mut json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        for name in ["created", "username", "hostname"] {
            json.as_object_mut().unwrap().remove(name);
        }
        let read = KeyFile::from_json(json.to_string().as_bytes()).unwrap();
        assert_eq!(read.open("secret").unwrap().to_bytes(), master().to_bytes());
    }

    #[test]
    fn our_own_keys_need_sixteen_mebibytes() {
        assert_eq!(KdfCost::OURS.memory_bytes() >> 20, 16);
        assert!(file(KdfCost::OURS).open("secret").is_ok());
    }

    #[test]
    fn costs_that_make_no_sense_or_would_exhaust_the_box_are_refused() {
        let json = String::from_utf8(file(CHEAP).to_json().unwrap()).unwrap();
        let with = |cost: &str| {
            let json = json.replace(r#""N":16,"r":1,"p":1"#, cost);
            KeyFile::from_json(json.as_bytes()).unwrap().open("secret").unwrap_err()
        };
        for cost in [r#""N":0,"r":1,"p":1"#, r#""N":17,"r":1,"p":1"#, r#""N":16,"r":0,"p":1"#] {
            assert!(matches!(with(cost), KeyError::Cost { .. }), "{cost}");
        }
        for cost in [r#""N":1048576,"r":8,"p":1"#, r#""N":16384,"r":8,"p":1000000"#] {
            assert!(matches!(with(cost), KeyError::Memory { .. }), "{cost}");
        }
    }

    #[test]
    fn a_cut_or_changed_key_file_is_refused() {
        let json = file(CHEAP).to_json().unwrap();
        for at in 0..json.len() {
            let cut = KeyFile::from_json(&json[..at]);
            assert!(cut.is_err(), "cut at {at}");
            let mut changed = json.clone();
            changed[at] = changed[at].wrapping_add(1);
            if let Ok(file) = KeyFile::from_json(&changed)
                && let Ok(key) = file.open("secret")
            {
                assert_eq!(key.to_bytes(), master().to_bytes());
            }
        }
    }
}
