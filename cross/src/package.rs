//! Handing the built programs to `spk`.
//!
//! Which targets and DSM versions there is a package for is said once, in the package's manifest.

use crate::Places;
use crate::run::{RunError, run};
use std::process::Command;

/// The manifest, from the root of the checkout.
const MANIFEST: &str = "scripts/package/package.toml";

/// Why there are no packages.
#[derive(Debug, thiserror::Error)]
#[error("not every package in {MANIFEST} was made")]
pub struct PackageError {
    /// What went wrong.
    #[source]
    cause: RunError,
}

impl PackageError {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        "read what `spk` said above"
    }
}

/// Makes every package of the manifest, from `dist` into `dist`.
pub fn package_all(places: &Places) -> Result<(), PackageError> {
    run(Command::new(&places.cargo)
        .args(["run", "--quiet", "--locked", "--package", "spk", "--", "build"])
        .args(["--manifest", MANIFEST, "--programs"])
        .arg(&places.dist)
        .arg("-o")
        .arg(&places.dist)
        .current_dir(&places.root))
    .map_err(|cause| PackageError { cause })
}
