//! Handing the built programs to `spk`, once for each target and DSM version.

use crate::Places;
use crate::run::{RunError, run};
use crate::targets::{DSM_VERSIONS, TARGETS};
use std::process::Command;

/// Why a package was not made.
#[derive(Debug, thiserror::Error)]
#[error("no package for {target} and DSM {dsm}")]
pub struct PackageError {
    target: &'static str,
    dsm: u32,
    #[source]
    cause: RunError,
}

impl PackageError {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        "read what `spk` said above; the package is described in scripts/package/package.toml"
    }
}

/// Makes every package, into `dist`.
pub fn package_all(places: &Places, say: &mut dyn FnMut(&str)) -> Result<(), PackageError> {
    for target in TARGETS {
        for dsm in DSM_VERSIONS {
            let mut command = Command::new(&places.cargo);
            command
                .args(["run", "--quiet", "--package", "spk", "--", "build"])
                .args(["--manifest", "scripts/package/package.toml", "--programs", "dist"])
                .args(["--target", target.name, "--dsm", &dsm.to_string(), "-o", "dist"])
                .current_dir(&places.root);
            run(&mut command).map_err(|cause| PackageError { target: target.name, dsm, cause })?;
            say(&format!("{} for DSM {dsm}: packaged", target.name));
        }
    }
    Ok(())
}
