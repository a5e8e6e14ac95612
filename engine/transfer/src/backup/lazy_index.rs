//! The index, read when it is asked for the first time: a run that changes nothing never asks.

use crate::index::Index;
use crate::mutex::lock;
use crate::{Cancel, Repository, Result, TransferError};
use std::sync::{Mutex, OnceLock};

/// The index of a repository, whether it was read or not.
pub(super) struct LazyIndex<'a> {
    repository: &'a Repository,
    cancel: &'a Cancel,
    index: OnceLock<Option<Index>>,
    failure: Mutex<Option<TransferError>>,
}

impl<'a> LazyIndex<'a> {
    pub(super) fn of(repository: &'a Repository, cancel: &'a Cancel) -> Self {
        Self { repository, cancel, index: OnceLock::new(), failure: Mutex::default() }
    }

    /// The index. The error is given once; whoever asks after that hears that all is ending.
    pub(super) fn get(&self) -> Result<&Index> {
        let load = || {
            let keep = |error| *lock(&self.failure) = Some(error);
            Index::load_or_stop(self.repository, self.cancel).map_err(keep).ok()
        };
        let index = self.index.get_or_init(load).as_ref();
        index.ok_or_else(|| lock(&self.failure).take().unwrap_or(TransferError::Cancelled))
    }
}
