//! An opened repository.

use crate::Result;
use engine_contract::memory::MemoryPlan;
use engine_repository::Id;
use engine_storage::Storage;
use std::sync::Arc;

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

/// An opened repository. Clones share everything.
#[derive(Clone)]
pub struct Repository {
    storage: Arc<dyn Storage>,
}

impl Repository {
    /// Makes a new repository, and opens it.
    pub fn init(
        storage: Arc<dyn Storage>,
        password: &[u8],
        who: &Who,
        plan: &MemoryPlan,
    ) -> Result<Self> {
        let _ = (storage, password, who, plan);
        unimplemented!("soon")
    }

    /// Opens a repository.
    pub fn open(
        storage: Arc<dyn Storage>,
        password: &[u8],
        who: &Who,
        plan: &MemoryPlan,
    ) -> Result<Self> {
        let _ = (storage, password, who, plan);
        unimplemented!("soon")
    }

    /// The repository's id, by which a destination is known wherever it is connected.
    pub fn id(&self) -> Id {
        unimplemented!("soon")
    }

    /// Where it is.
    pub fn location(&self) -> String {
        self.storage.location()
    }
}
