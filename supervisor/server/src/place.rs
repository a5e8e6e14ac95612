//! A depot where it lies: in a folder, or in an object store.

use crate::network;
use crate::problem::{Problem, Result};
use crate::shared::Shared;
use crate::store::{AccessKey, Store};
use std::path::{Path, PathBuf};

/// What a command needs beside its words.
pub struct Means {
    /// What opens an object store.
    pub key: AccessKey,
    /// Where the signing keys of a depot in an object store are.
    pub keys: Option<PathBuf>,
}

/// A depot.
pub enum Depot {
    /// All of it is in this folder.
    InFolder(PathBuf),
    /// It is in an object store, and its keys are elsewhere.
    InStore(Box<Shared>),
}

impl Means {
    /// The depot that `root` names.
    pub fn depot(&self, root: &Path) -> Result<Depot> {
        let location = root.to_string_lossy();
        match (location.starts_with("s3:"), &self.keys) {
            (false, None) => Ok(Depot::InFolder(root.to_owned())),
            (false, Some(_)) => Err(Problem::new("a depot in a folder has its keys in it")
                .remedy("leave out --keys, or name a depot in an object store: --root s3:…")),
            (true, None) => Err(Problem::new("a depot in an object store has no keys in it")
                .remedy("name the folder with the keys: --keys DIR")),
            (true, Some(keys)) => {
                let store = Store::at(&location, &self.key)?;
                Ok(Depot::InStore(Box::new(Shared::at(store, keys, &keys.join("work")))))
            }
        }
    }
}

impl Depot {
    /// Makes it.
    pub fn begin<T>(&self, act: impl Fn(&Path) -> Result<T>) -> Result<T> {
        match self {
            Self::InFolder(root) => act(root),
            Self::InStore(shared) => network::run(shared.begin(act)),
        }
    }

    /// Reads or changes it. `act` is given a folder with its lists, and may be called more than
    /// once: until what it did comes into force before anybody else's change.
    pub fn act<T>(&self, act: impl Fn(&Path) -> Result<T>) -> Result<T> {
        network::run(self.change(act))
    }

    /// The same in a conversation.
    pub async fn change<T>(&self, act: impl Fn(&Path) -> Result<T>) -> Result<T> {
        match self {
            Self::InFolder(root) => act(root),
            Self::InStore(shared) => shared.change(act).await,
        }
    }

    /// A folder with its lists as they are now.
    pub async fn lists(&self) -> Result<PathBuf> {
        self.change(|root| Ok(root.to_owned())).await
    }

    /// Lets leave what nothing names any more. A folder does so with each change.
    pub fn collect(&self) -> Result<()> {
        match self {
            Self::InFolder(_) => Ok(()),
            Self::InStore(shared) => network::run(async {
                shared.collect().await;
                Ok(())
            }),
        }
    }
}
