//! `package.toml`: what a package is, once, for every platform and DSM.
//!
//! ```toml
//! [package]
//! name = "demo"
//! version = "1.0.0-0001"
//! displayname = "Demo"
//! description = "Says hello."
//! maintainer = "Somebody"
//! targets = ["x86_64", "armhf"]     # or ["noarch"]
//!
//! [dsm]
//! build = [6, 7]
//!
//! [[payload]]
//! from = "{programs}/{target}/hello" # relative to this file, or below --programs
//! to = "bin/hello"                   # relative to target/ on the NAS
//! mode = 0o755
//!
//! [scripts]
//! folder = "scripts"
//!
//! [icon]
//! file = "icon.png"
//! ```
//!
//! **Invariant:** a [`Manifest`] was checked: its values fit INFO, its paths stay inside the
//! package, its version is one DSM 7 accepts.
//!
//! **Not here:** the files it names. They are opened when it is built.

use crate::dsm::{Dsm, OsVersion};
use crate::platform::{Target, TargetError};
use crate::version::{Version, VersionError};
use std::collections::BTreeMap;
use std::path::Path;

mod rules;
#[cfg(feature = "tool")]
pub mod schema;
mod variant;
pub mod wizard;
mod written;

pub use written::{Download, Firewall, Package, PayloadFile, Port, Privilege, Share, Wizard};
use written::{Written, WrittenDsm};

/// A larger `package.toml` is refused.
pub const MANIFEST_BYTES_MAX: usize = 1 << 20;

/// What `package.toml` says, checked.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The package's description for people and for DSM.
    pub package: Package,
    /// The version, checked.
    pub version: Version,
    /// The builds it is made for.
    pub targets: Vec<Target>,
    /// The generations of DSM it is made for, and the oldest version of each.
    pub dsm: BTreeMap<Dsm, OsVersion>,
    /// The files inside `package.tgz`.
    pub payload: Vec<PayloadFile>,
    /// The `[daemon]` table, carried into the payload as `conf/daemon.toml`.
    pub daemon: Option<toml::Table>,
    /// Folder of the scripts, relative to the manifest.
    pub scripts: String,
    /// What the owner is asked.
    pub wizard: Wizard,
    /// What the NAS fetches when it is installed.
    pub downloads: Vec<Download>,
    /// Shared folders it needs.
    pub shares: Vec<Share>,
    /// Ports with a name in DSM's firewall.
    pub firewall: Vec<Firewall>,
    /// The icon's PNG, relative to the manifest.
    pub icon: String,
    /// Where the desktop's icons go, relative to `target/`.
    pub desktop_icons: Option<String>,
    /// Names other than the package's own for its user and group.
    pub privilege: Privilege,
    /// Workers of DSM 6 and later: the object of `conf/resource`.
    pub resources: BTreeMap<String, toml::Value>,
    /// The web page Package Center links to.
    pub port: Option<Port>,
    /// Further lines for INFO, as they are.
    pub info: BTreeMap<String, String>,
}

/// Why a `package.toml` is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not TOML, an unknown key, a missing one, or one of another type.
    #[error("package.toml is not understood: {0}")]
    Syntax(String),
    /// A wrong version.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// A wrong target.
    #[error("package.toml: {0}")]
    Target(TargetError),
    /// A value that will not do.
    #[error("package.toml: `{key}` is {value:?}: {why}")]
    Value {
        /// Where.
        key: String,
        /// What it says.
        value: String,
        /// What is wrong with it.
        why: &'static str,
        /// What to write instead.
        remedy: &'static str,
    },
}

impl ManifestError {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Syntax(_) => "the text above marks the place; compare it with the one that \
                                `spk init` writes"
                .into(),
            Self::Version(error) => error.remedy().into(),
            Self::Target(error) => error.remedy(),
            Self::Value { remedy, .. } => (*remedy).into(),
        }
    }
}

impl Manifest {
    /// Reads and checks the text of a manifest that describes one package.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let mut all = Self::parse_all(text)?;
        match (all.pop(), all.is_empty()) {
            (Some(only), true) => Ok(only),
            _ => {
                let remedy = "say which one is meant: its package.name";
                Err(wrong("variant", "", "it describes several packages", remedy))
            }
        }
    }

    /// Reads and checks a manifest's text: one package, or each of its variants, in their order.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, ManifestError> {
        if text.len() > MANIFEST_BYTES_MAX {
            return Err(ManifestError::Syntax(format!("it has {} bytes", text.len())));
        }
        let syntax = |error: toml::de::Error| ManifestError::Syntax(error.to_string());
        // Read whole first: only this way a mistake is told with its line.
        let base: Written = toml::from_str(text).map_err(syntax)?;
        if base.variant.is_empty() {
            return Ok(vec![Self::of(base)?]);
        }
        let variants = variant::tables(toml::from_str(text).map_err(syntax)?)?;
        let of_table = |table: toml::Table| {
            let name = variant::name_of(&table);
            let written = table.try_into().map_err(|error: toml::de::Error| {
                ManifestError::Syntax(format!("variant `{name}`: {error}"))
            })?;
            Self::of(written)
        };
        variants.into_iter().map(of_table).collect()
    }

    fn of(written: Written) -> Result<Self, ManifestError> {
        let manifest = Self {
            version: written.package.version.parse()?,
            targets: targets(&written.package.targets)?,
            dsm: generations(&written.dsm)?,
            package: written.package,
            payload: written.payload,
            daemon: written.daemon,
            scripts: written.scripts.folder,
            wizard: written.wizard.unwrap_or_default(),
            downloads: written.download,
            shares: written.share,
            firewall: written.firewall,
            icon: written.icon.file,
            desktop_icons: written.icon.desktop,
            privilege: written.privilege,
            resources: written.resources,
            port: written.port,
            info: written.info,
        };
        rules::check(&manifest)?;
        Ok(manifest)
    }

    /// The manifest with another version.
    pub fn with_version(mut self, text: &str) -> Result<Self, ManifestError> {
        self.version = text.parse()?;
        Ok(self)
    }

    /// The payload files of one target.
    pub fn payload_of(&self, target: Target) -> impl Iterator<Item = &PayloadFile> {
        self.payload.iter().filter(move |file| is_for(&file.targets, target))
    }

    /// The downloads of one target.
    pub fn downloads_of(&self, target: Target) -> impl Iterator<Item = &Download> {
        self.downloads.iter().filter(move |file| is_for(&file.targets, target))
    }

    /// The name of the package's user where it has one of its own.
    pub fn username(&self) -> &str {
        self.privilege.username.as_deref().unwrap_or(&self.package.name)
    }
}

fn is_for(targets: &[String], target: Target) -> bool {
    targets.is_empty() || targets.iter().any(|name| name == target.name())
}

fn wrong(key: &str, value: &str, why: &'static str, remedy: &'static str) -> ManifestError {
    let value = value.chars().take(80).collect();
    ManifestError::Value { key: key.into(), value, why, remedy }
}

fn targets(names: &[String]) -> Result<Vec<Target>, ManifestError> {
    names.iter().map(|name| name.parse().map_err(ManifestError::Target)).collect()
}

fn generations(written: &WrittenDsm) -> Result<BTreeMap<Dsm, OsVersion>, ManifestError> {
    let mut generations = BTreeMap::new();
    for major in &written.build {
        let Some(dsm) = Dsm::from_major(*major) else {
            let remedy = "write build = [6, 7]; 5 is possible too";
            return Err(wrong("dsm.build", &major.to_string(), "no such DSM is known", remedy));
        };
        generations.insert(dsm, dsm.os_min_default());
    }
    for (major, text) in &written.os_min_ver {
        let remedy = "write the generation and its oldest version: 7 = \"7.0-40000\"";
        let why = "a DSM must be listed in `build` and have the same major number";
        let version = text.parse::<OsVersion>().ok();
        let fits = version.filter(|version| version.major().to_string() == *major);
        match fits.and_then(|version| Some((version.dsm()?, version))) {
            Some((dsm, version)) if generations.contains_key(&dsm) => {
                generations.insert(dsm, version);
            }
            _ => return Err(wrong("dsm.os_min_ver", text, why, remedy)),
        }
    }
    Ok(generations)
}

/// Where a payload file comes from: placeholders filled in, relative to the manifest's folder.
pub fn source_of(
    file: &PayloadFile,
    package: &str,
    target: Target,
    folder: &Path,
    programs: &Path,
) -> std::path::PathBuf {
    let from = file.from.replace("{target}", target.name()).replace("{package}", package);
    match from.strip_prefix("{programs}/") {
        Some(below) => programs.join(below),
        None => folder.join(from),
    }
}

#[cfg(test)]
mod tests;
