//! An opened repository: its storage, its key, and reading and writing of whole files.

use crate::cache::Cache;
use crate::errors::Cause;
use crate::locks::{Clocks, box_clocks};
use crate::patience::Patience;
use crate::{Cancel, Result, TransferError};
use engine_contract::memory::MemoryPlan;
use engine_repository::chunker::CHUNK_BYTES_MAX;
use engine_repository::compress::{Compression, Effort};
use engine_repository::config::{ConfigError, Version};
use engine_repository::crypto::OVERHEAD_BYTES;
use engine_repository::key_file::{KEY_FILE_BYTES_MAX, KeyError, SALT_BYTES};
use engine_repository::unpacked;
use engine_repository::{
    BlobKind, Chunker, Config, FileKind, Id, KdfCost, KeyFile, KeyMaker, MasterKey, Nonce,
    Polynomial, SealedBlob, Time,
};
use engine_storage::{Doubting, Name, Storage, StorageError, list_all};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Snapshots and locks are never larger; index files of restic are some MiB.
const UNPACKED_BYTES_MAX: u64 = 256 << 20;

/// A config is a few hundred bytes.
const CONFIG_BYTES_MAX: u64 = 64 << 10;

/// A repository with more passwords is not believed in.
const KEYS_MAX: usize = 100;

/// A tree of more JSON than this goes through a temporary file: 4 MiB, some ten thousand files.
const TREE_HELD_BYTES_MAX: usize = 4 << 20;

/// No piece of a file that restic or we cut is larger when sealed: 8 MiB and the seal. What another
/// program cut is moved through a temporary file beyond that.
pub(crate) const DATA_HELD_BYTES_MAX: usize = CHUNK_BYTES_MAX + OVERHEAD_BYTES;

/// Who works in the repository, for locks and keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// The computer's name.
    pub hostname: String,
    /// The user's name.
    pub username: String,
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// The process.
    pub pid: u32,
}

/// How a new repository is to be.
#[derive(Clone)]
pub struct InitRequest {
    /// The format's version: 2, or for old readers 1, without compression.
    pub version: Version,
    /// Cut files as in this repository, so that what is copied from there and what is backed up
    /// here share their chunks.
    pub cut_like: Option<Repository>,
    /// What each guess at the password costs whoever makes it, and what each opening costs us.
    pub key_cost: KdfCost,
}

impl Default for InitRequest {
    fn default() -> Self {
        Self { version: Version::V2, cut_like: None, key_cost: KdfCost::OURS }
    }
}

/// An opened repository. Clones share everything.
#[derive(Clone)]
pub struct Repository(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    storage: Arc<dyn Storage>,
    key: Arc<MasterKey>,
    key_id: Id,
    config: Config,
    effort: Effort,
    who: Who,
    plan: MemoryPlan,
    cache: Cache,
    patience: Patience,
    clocks: Arc<dyn Clocks>,
    tree_held_bytes_max: usize,
}

impl Repository {
    /// Makes a new repository of our own kind, and opens it.
    pub fn init(
        storage: Arc<dyn Storage>,
        password: &str,
        who: &Who,
        plan: &MemoryPlan,
    ) -> Result<Self> {
        Self::init_as(storage, password, who, plan, &InitRequest::default())
    }

    /// Makes a new repository, and opens it. The config is written last: a repository whose making
    /// was cut off is none, and can be made again in the same place.
    pub fn init_as(
        storage: Arc<dyn Storage>,
        password: &str,
        who: &Who,
        plan: &MemoryPlan,
        request: &InitRequest,
    ) -> Result<Self> {
        let given = storage;
        let storage = Doubting::around(given.clone());
        let exists = match storage.size(Name::CONFIG) {
            Err(StorageError::Gone { .. }) => false,
            found => found?.is_some(),
        };
        if exists {
            return Err(TransferError::RepositoryExists { location: storage.location() });
        }
        storage.create()?;
        let key =
            MasterKey::from_bytes(&random()?).map_err(|cause| unwritable("a master key", cause))?;
        let key_file = key_file(&key, password, request.key_cost, who)?;
        storage.write(Name::of(FileKind::Key, Id::of(&key_file)), &key_file)?;
        let config = new_config(request)?;
        let sealed =
            config.seal(&key, nonce()?).map_err(|cause| unwritable("the config", cause))?;
        storage.write(Name::CONFIG, &sealed)?;
        Self::open(given, password, who, plan)
    }

    /// Opens a repository.
    pub fn open(
        storage: Arc<dyn Storage>,
        password: &str,
        who: &Who,
        plan: &MemoryPlan,
    ) -> Result<Self> {
        let sealed = match storage.read(Name::CONFIG, CONFIG_BYTES_MAX) {
            Err(StorageError::NotFound { .. } | StorageError::Gone { .. }) => {
                return Err(TransferError::NoRepository { location: storage.location() });
            }
            sealed => sealed?,
        };
        let (key_id, key, config) = unlock(storage.as_ref(), password, &sealed)?;
        let inner = Inner {
            effort: Effort::Auto,
            storage: Arc::new(Doubting::around(storage)),
            key: Arc::new(key),
            key_id,
            config,
            who: who.clone(),
            plan: *plan,
            cache: Cache::none(),
            patience: Patience::default(),
            clocks: box_clocks(),
            tree_held_bytes_max: TREE_HELD_BYTES_MAX,
        };
        Ok(Self(Arc::new(inner)))
    }

    /// The same repository, with a folder below `caches` that is its own, where what can be worked
    /// out again is kept between runs. Without one it is worked out each time.
    pub fn with_cache(self, caches: &Path) -> Self {
        let cache = Cache::below(caches, self.id());
        Self(Arc::new(Inner { cache, ..Inner::clone(&self.0) }))
    }

    /// Whether its cache can be written to; without one there is nothing to fail.
    pub fn try_cache(&self) -> Result<()> {
        match self.0.cache.folder()? {
            Some(_) => self.0.cache.scratch_file().map(drop),
            None => Ok(()),
        }
    }

    /// The same repository, what is stored in it compressed with this effort.
    pub fn with_effort(self, effort: Effort) -> Self {
        Self(Arc::new(Inner { effort, ..Inner::clone(&self.0) }))
    }

    /// The same repository, where a lock that somebody else holds is waited for so long, or until
    /// somebody asks to stop. Without this it is tried once.
    pub fn with_lock_patience(self, wait: Duration, cancel: &Cancel) -> Self {
        let patience = Patience { wait, cancel: cancel.clone() };
        Self(Arc::new(Inner { patience, ..Inner::clone(&self.0) }))
    }

    /// The same repository, reached by another way.
    pub(crate) fn with_storage(&self, storage: Arc<dyn Storage>) -> Self {
        Self(Arc::new(Inner { storage, ..Inner::clone(&self.0) }))
    }

    /// The same repository, where locks go by other clocks.
    #[cfg(test)]
    pub(crate) fn with_clocks(self, clocks: Arc<dyn Clocks>) -> Self {
        Self(Arc::new(Inner { clocks, ..Inner::clone(&self.0) }))
    }

    /// The same repository, which holds less of a tree: small folders go the way of large ones.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn holding_of_trees(self, bytes_max: usize) -> Self {
        Self(Arc::new(Inner { tree_held_bytes_max: bytes_max, ..Inner::clone(&self.0) }))
    }

    /// So much of a tree is held; what is larger goes through a temporary file.
    pub(crate) fn tree_held_bytes_max(&self) -> usize {
        self.0.tree_held_bytes_max
    }

    /// Whether a blob is too large to be held as a whole, sealed or opened.
    pub(crate) fn is_large(&self, blob: &SealedBlob) -> bool {
        let bytes_max = match blob.kind {
            BlobKind::Data => DATA_HELD_BYTES_MAX,
            BlobKind::Tree => self.0.tree_held_bytes_max,
        };
        blob.length.max(blob.plaintext_bytes()) as usize > bytes_max
    }

    /// The repository's id, by which a destination is known wherever it is connected.
    pub fn id(&self) -> Id {
        self.0.config.id
    }

    /// Where it is.
    pub fn location(&self) -> String {
        self.0.storage.location()
    }

    pub(crate) fn storage(&self) -> &Arc<dyn Storage> {
        &self.0.storage
    }

    pub(crate) fn key(&self) -> &Arc<MasterKey> {
        &self.0.key
    }

    /// The key file that the password opened.
    pub(crate) fn key_id(&self) -> Id {
        self.0.key_id
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    pub(crate) fn who(&self) -> &Who {
        &self.0.who
    }

    pub(crate) fn patience(&self) -> &Patience {
        &self.0.patience
    }

    pub(crate) fn clocks(&self) -> &Arc<dyn Clocks> {
        &self.0.clocks
    }

    pub(crate) fn cache(&self) -> &Cache {
        &self.0.cache
    }

    pub(crate) fn plan(&self) -> &MemoryPlan {
        &self.0.plan
    }

    /// The bytes of a snapshot, lock or index file, found to have the sum it is named by.
    pub(crate) fn read_sealed(&self, kind: FileKind, id: Id) -> Result<Vec<u8>> {
        let name = Name::of(kind, id);
        let bytes = self.0.storage.read(name, UNPACKED_BYTES_MAX)?;
        let found = Id::of(&bytes);
        if found != id {
            return Err(damaged(name, format!("its content has the sum {found}")));
        }
        Ok(bytes)
    }

    /// What a snapshot or lock says.
    pub(crate) fn read_unpacked<T: serde::de::DeserializeOwned>(
        &self,
        kind: FileKind,
        id: Id,
    ) -> Result<T> {
        let mut bytes = self.read_sealed(kind, id)?;
        unpacked::open(&mut bytes, &self.0.key).map_err(|cause| damaged(Name::of(kind, id), cause))
    }

    /// Stores a snapshot or lock durably and says under which id.
    pub(crate) fn save_unpacked<T: serde::Serialize>(
        &self,
        kind: FileKind,
        value: &T,
    ) -> Result<Id> {
        let sealed = unpacked::seal(value, self.0.config.version, &self.0.key, nonce()?)
            .map_err(|cause| unwritable(kind.noun(), cause))?;
        self.save_sealed(kind, &sealed)
    }

    pub(crate) fn save_sealed(&self, kind: FileKind, sealed: &[u8]) -> Result<Id> {
        let id = Id::of(sealed);
        self.0.storage.write(Name::of(kind, id), sealed)?;
        Ok(id)
    }

    /// What cuts files: as those in the repository were cut.
    pub(crate) fn chunker(&self) -> Chunker {
        self.0.config.chunker(&self.0.key)
    }

    /// How blobs are compressed; not at all in version 1.
    pub(crate) fn compression(&self) -> Option<Compression> {
        (self.0.config.version != Version::V1).then(|| self.0.effort.compression())
    }
}

/// The config of a new repository.
fn new_config(request: &InitRequest) -> Result<Config> {
    let id = Id::from_bytes(random()?);
    let config = match &request.cut_like {
        Some(like) => {
            let cutting = like.config().cutting_for_another(like.key());
            Config { cutting, ..Config::new(id, like.config().chunker_polynomial) }
        }
        None => Config::new(id, random_polynomial()?),
    };
    Ok(Config { version: request.version, ..config })
}

fn random_polynomial() -> Result<Polynomial> {
    let mut broken = false;
    let polynomial = Polynomial::random(|| {
        let bytes = random::<8>();
        broken |= bytes.is_err();
        u64::from_le_bytes(bytes.unwrap_or_default())
    });
    if broken {
        return Err(TransferError::Random);
    }
    polynomial.map_err(|cause| unwritable("the config", cause))
}

/// The bytes of a key file that holds `key` for whoever knows `password`.
pub(crate) fn key_file(
    key: &MasterKey,
    password: &str,
    cost: KdfCost,
    who: &Who,
) -> Result<Vec<u8>> {
    let maker =
        KeyMaker { created: now(), username: who.username.clone(), hostname: who.hostname.clone() };
    let salt = random::<SALT_BYTES>()?;
    KeyFile::create(key, password, cost, &salt, nonce()?, maker)
        .and_then(|file| file.to_json())
        .map_err(|cause| unwritable("the key", cause))
}

/// Finds the key that the password opens and that opens the config.
fn unlock(storage: &dyn Storage, password: &str, sealed: &[u8]) -> Result<(Id, MasterKey, Config)> {
    let mut worst = None;
    let mut is_any_refused = false;
    for (id, _) in list_all(storage, FileKind::Key)?.into_iter().take(KEYS_MAX) {
        let name = Name::of(FileKind::Key, id);
        let json = match storage.read(name, KEY_FILE_BYTES_MAX as u64) {
            Err(StorageError::NotFound { .. }) => continue,
            json => json?,
        };
        let key = match KeyFile::from_json(&json).and_then(|file| file.open(password)) {
            Ok(key) => key,
            Err(KeyError::WrongPassword) => {
                is_any_refused = true;
                continue;
            }
            Err(cause) => {
                worst = Some(damaged(name, cause));
                continue;
            }
        };
        // A key left by a repository that was begun here and never finished opens nothing.
        match Config::open(&mut sealed.to_vec(), &key) {
            Ok(config) => return Ok((id, key, config)),
            Err(cause @ ConfigError::Crypto(_)) if worst.is_none() => {
                worst = Some(damaged(Name::CONFIG, cause));
            }
            Err(cause) => return Err(damaged(Name::CONFIG, cause)),
        }
    }
    match worst {
        Some(error) if !is_any_refused => Err(error),
        None if !is_any_refused => Err(damaged(Name::CONFIG, "no key is beside it".to_owned())),
        _ => Err(TransferError::WrongPassword { location: storage.location() }),
    }
}

/// Damage, and its cause.
pub(crate) fn damaged(name: Name, cause: impl Into<Cause>) -> TransferError {
    TransferError::Damaged { name, cause: cause.into() }
}

pub(crate) fn unwritable(what: &'static str, cause: impl Into<Cause>) -> TransferError {
    TransferError::Unwritable { what, cause: cause.into() }
}

/// Random bytes from the system.
pub(crate) fn random<const BYTES: usize>() -> Result<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).map_err(|_| TransferError::Random)?;
    Ok(bytes)
}

/// A number used once.
pub(crate) fn nonce() -> Result<Nonce> {
    random()
}

/// The time now, in UTC.
pub(crate) fn now() -> Time {
    let now = jiff::Timestamp::now();
    Time::utc(now.as_second(), now.subsec_nanosecond().unsigned_abs())
}
