//! Where a repository's cache lies on this computer, and files without names beside it.
//!
//! Nothing in the cache is needed: whatever is lost, older than the repository or damaged is worked
//! out again from the repository, which alone is believed. The repository's id names the folder, so
//! a destination that moved finds its cache again.

use crate::{Result, TransferError};
use engine_repository::Id;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The cache of one repository.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    kept: Option<PathBuf>,
    scratch: PathBuf,
}

impl Cache {
    /// Nothing is kept between runs.
    pub(crate) fn none() -> Self {
        Self { kept: None, scratch: std::env::temp_dir() }
    }

    /// The cache of a repository below a folder of caches. Nothing is made yet.
    pub(crate) fn below(caches: &Path, repository: Id) -> Self {
        let folder = caches.join(repository.to_string());
        Self { kept: Some(folder.clone()), scratch: folder }
    }

    /// The folder that is kept between runs, made when it was not there: nobody else may look into
    /// it. `None` when nothing is to be kept.
    pub(crate) fn folder(&self) -> Result<Option<&Path>> {
        let Some(folder) = self.kept.as_deref() else { return Ok(None) };
        make(folder).map_err(|cause| failed("make the folder", folder, cause))?;
        Ok(Some(folder))
    }

    /// Where files without names are.
    pub(crate) fn scratch_folder(&self) -> &Path {
        &self.scratch
    }

    /// A file without a name, which is gone when it is closed, whatever happens.
    pub(crate) fn scratch_file(&self) -> Result<File> {
        make(&self.scratch)
            .and_then(|()| tempfile::tempfile_in(&self.scratch))
            .map_err(|cause| failed("make a file in", &self.scratch, cause))
    }
}

fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

pub(crate) fn failed(action: &'static str, path: &Path, cause: io::Error) -> TransferError {
    TransferError::Cache { action, path: path.into(), cause }
}
