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

use crate::archive::inner_path;
use crate::dsm::{Dsm, OsVersion};
use crate::info::{LANGUAGES, name_is_safe};
use crate::platform::{Target, TargetError};
use crate::version::{Version, VersionError};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// A larger `package.toml` is refused.
pub const MANIFEST_BYTES_MAX: usize = 1 << 20;

/// Keys of INFO that come from other tables than `[info]`.
const WRITTEN_KEYS: [&str; 14] = [
    "package",
    "version",
    "arch",
    "firmware",
    "os_min_ver",
    "displayname",
    "description",
    "maintainer",
    "startable",
    "ctl_stop",
    "adminport",
    "adminurl",
    "extractsize",
    "checksum",
];

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
    /// Folder of the wizards, relative to the manifest.
    pub wizard: Option<String>,
    /// The icon's PNG, relative to the manifest.
    pub icon: String,
    /// Names other than the package's own for its user and group.
    pub privilege: Privilege,
    /// Workers of DSM 6 and later: the object of `conf/resource`.
    pub resources: BTreeMap<String, toml::Value>,
    /// The web page Package Center links to.
    pub port: Option<Port>,
    /// Further lines for INFO, as they are.
    pub info: BTreeMap<String, String>,
}

/// `[package]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Its identity and folder; never change it.
    pub name: String,
    version: String,
    /// The name people see.
    pub displayname: String,
    /// What it does, in a sentence or two.
    pub description: String,
    /// Who makes it.
    pub maintainer: String,
    /// Their page.
    pub maintainer_url: Option<String>,
    /// Who distributes it, when somebody else does.
    pub distributor: Option<String>,
    /// Their page.
    pub distributor_url: Option<String>,
    /// Where to get help.
    pub support_url: Option<String>,
    /// What is new in this version.
    pub changelog: Option<String>,
    /// A text to accept before installing, relative to the manifest.
    pub license: Option<String>,
    /// Whether Package Center shows Run and Stop; without it yes.
    #[serde(default = "yes")]
    pub startable: bool,
    /// Names by three-letter language.
    #[serde(default)]
    pub displaynames: BTreeMap<String, String>,
    /// Descriptions by three-letter language.
    #[serde(default)]
    pub descriptions: BTreeMap<String, String>,
    #[serde(default)]
    targets: Vec<String>,
}

fn yes() -> bool {
    true
}

/// A `[[payload]]`: a file or a whole folder for `package.tgz`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PayloadFile {
    /// Where it comes from: relative to the manifest, or `{programs}/…`; may hold `{target}`.
    pub from: String,
    /// Where it goes, relative to `target/` on the NAS.
    pub to: String,
    /// Permission bits of files; without it 0755 for what is executable and 0644 for the rest.
    pub mode: Option<u32>,
    /// For these targets only; without it for all.
    #[serde(default)]
    pub targets: Vec<String>,
    /// Whether the package can be built without it.
    #[serde(default)]
    pub optional: bool,
}

/// `[privilege]`: DSM 7 runs packages as their own user, and nothing else can be asked for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Privilege {
    /// The user's name when it shall not be the package's.
    pub username: Option<String>,
    /// The group's name when it shall not be the package's.
    pub groupname: Option<String>,
}

/// `[port]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// `adminport`.
    pub number: u16,
    /// `adminprotocol`; http without it.
    pub protocol: Option<String>,
    /// `adminurl`.
    pub url: Option<String>,
    /// `checkport`: whether DSM refuses to install when the port is taken.
    #[serde(default = "yes")]
    pub check: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    package: Package,
    dsm: WrittenDsm,
    #[serde(default)]
    payload: Vec<PayloadFile>,
    daemon: Option<toml::Table>,
    scripts: Folder,
    wizard: Option<Folder>,
    icon: Icon,
    #[serde(default)]
    privilege: Privilege,
    #[serde(default)]
    resources: BTreeMap<String, toml::Value>,
    port: Option<Port>,
    #[serde(default)]
    info: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenDsm {
    build: Vec<u32>,
    #[serde(default)]
    os_min_ver: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Folder {
    folder: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Icon {
    file: String,
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
    /// Reads and checks a manifest's text.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        if text.len() > MANIFEST_BYTES_MAX {
            return Err(ManifestError::Syntax(format!("it has {} bytes", text.len())));
        }
        let written: Written =
            toml::from_str(text).map_err(|error| ManifestError::Syntax(error.to_string()))?;
        let version = written.package.version.parse()?;
        let targets = targets(&written.package.targets)?;
        let dsm = generations(&written.dsm)?;
        let manifest = Self {
            version,
            targets,
            dsm,
            package: written.package,
            payload: written.payload,
            daemon: written.daemon,
            scripts: written.scripts.folder,
            wizard: written.wizard.map(|wizard| wizard.folder),
            icon: written.icon.file,
            privilege: written.privilege,
            resources: written.resources,
            port: written.port,
            info: written.info,
        };
        manifest.check_names()?;
        manifest.check_info_values()?;
        Ok(manifest)
    }

    /// The manifest with another version.
    pub fn with_version(mut self, text: &str) -> Result<Self, ManifestError> {
        self.version = text.parse()?;
        Ok(self)
    }

    /// The payload files of one target.
    pub fn payload_of(&self, target: Target) -> impl Iterator<Item = &PayloadFile> {
        self.payload.iter().filter(move |file| {
            file.targets.is_empty() || file.targets.iter().any(|name| name == target.name())
        })
    }

    fn check_names(&self) -> Result<(), ManifestError> {
        let name_remedy = "use letters, digits, `-` and `_`";
        let names = [
            ("package.name", Some(&self.package.name)),
            ("privilege.username", self.privilege.username.as_ref()),
            ("privilege.groupname", self.privilege.groupname.as_ref()),
        ];
        for (key, name) in names {
            if let Some(name) = name.filter(|name| !name_is_safe(name)) {
                return Err(wrong(key, name, "DSM makes folders and users of it", name_remedy));
            }
        }
        for file in &self.payload {
            if inner_path(&file.to).is_none_or(|path| path != file.to) {
                let remedy = "write a path relative to target/, such as bin/hello";
                return Err(wrong("payload.to", &file.to, "it is no path inside", remedy));
            }
            if let Some(mode) = file.mode.filter(|mode| mode & !0o777 != 0 || mode & 0o400 == 0) {
                let why = "DSM refuses setuid, and the package's user must be able to read it";
                let remedy = "write mode = 0o755 or mode = 0o644";
                return Err(wrong("payload.mode", &format!("{mode:#o}"), why, remedy));
            }
            targets(&file.targets)?;
        }
        let languages = self.package.displaynames.keys().chain(self.package.descriptions.keys());
        for language in languages {
            if !LANGUAGES.contains(&language.as_str()) {
                let remedy = "use one of DSM's three-letter codes, such as enu, ger, fre, jpn";
                return Err(wrong("package.descriptions", language, "no DSM language", remedy));
            }
        }
        Ok(())
    }

    fn check_info_values(&self) -> Result<(), ManifestError> {
        if let Some(key) = self.info.keys().find(|key| WRITTEN_KEYS.contains(&key.as_str())) {
            let remedy = "say it in [package], [dsm] or [port]";
            return Err(wrong("info", key, "this key is written from other tables", remedy));
        }
        if self.targets.is_empty() || self.dsm.is_empty() {
            let remedy = "write targets = [\"x86_64\"] in [package] and build = [6, 7] in [dsm]";
            return Err(wrong("package.targets", "", "there is nothing to build", remedy));
        }
        let package = &self.package;
        let optional = [
            ("package.maintainer_url", &package.maintainer_url),
            ("package.distributor", &package.distributor),
            ("package.distributor_url", &package.distributor_url),
            ("package.support_url", &package.support_url),
            ("package.changelog", &package.changelog),
        ];
        let optional = optional.iter().filter_map(|(key, value)| Some((*key, value.as_ref()?)));
        let tables = (package.displaynames.values().map(|value| ("package.displaynames", value)))
            .chain(package.descriptions.values().map(|value| ("package.descriptions", value)))
            .chain(self.info.values().map(|value| ("info", value)));
        let required = [
            ("package.displayname", &package.displayname),
            ("package.description", &package.description),
            ("package.maintainer", &package.maintainer),
        ];
        for (key, value) in required.into_iter().chain(optional).chain(tables) {
            if value.trim().is_empty() {
                return Err(wrong(key, value, "it is empty", "write something or leave it out"));
            }
            if value.chars().any(|c| matches!(c, '"' | '\\') || (c.is_control() && c != '\n')) {
                let why =
                    "INFO has no sure way to write quotes, backslashes and control characters";
                return Err(wrong(key, value, why, "use ‘ ’ or “ ” for quotes"));
            }
        }
        Ok(())
    }
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
    target: Target,
    folder: &Path,
    programs: &Path,
) -> std::path::PathBuf {
    let from = file.from.replace("{target}", target.name());
    match from.strip_prefix("{programs}/") {
        Some(below) => programs.join(below),
        None => folder.join(from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALLEST: &str = r#"
        [package]
        name = "demo"
        version = "1.0.0-0001"
        displayname = "Demo"
        description = "Says hello."
        maintainer = "Somebody"
        targets = ["x86_64"]
        [dsm]
        build = [6, 7]
        [[payload]]
        from = "{programs}/{target}/hello"
        to = "bin/hello"
        mode = 0o755
        [scripts]
        folder = "scripts"
        [icon]
        file = "icon.png"
    "#;

    fn with(old: &str, new: &str) -> Result<Manifest, ManifestError> {
        assert!(SMALLEST.contains(old), "{old}");
        Manifest::parse(&SMALLEST.replacen(old, new, 1))
    }

    #[test]
    fn the_smallest_manifest_says_all_that_is_needed() {
        let manifest = Manifest::parse(SMALLEST).unwrap();
        assert_eq!(manifest.version.text(), "1.0.0-0001");
        assert_eq!(manifest.dsm[&Dsm::Seven].to_string(), "7.0-40000");
        let file = &manifest.payload[0];
        let from = source_of(file, Target::Armhf, Path::new("/m"), Path::new("dist"));
        assert_eq!(from, Path::new("dist/armhf/hello"));
    }

    #[test]
    fn a_key_nobody_knows_is_refused_where_it_stands() {
        let refused = with("name = \"demo\"", "name = \"demo\"\ncolour = \"red\"").unwrap_err();
        assert!(refused.to_string().contains("colour"), "{refused}");
        assert!(with("[scripts]\n        folder = \"scripts\"", "").is_err());
    }

    #[test]
    fn each_wrong_value_is_named_with_what_to_write_instead() {
        for (old, new, expected) in [
            ("1.0.0-0001", "1.0.0-beta1", "`b`"),
            ("\"demo\"", "\"../demo\"", "package.name"),
            ("bin/hello", "../hello", "payload.to"),
            ("bin/hello", "/bin/hello", "payload.to"),
            ("bin/hello", "./bin/hello", "payload.to"),
            ("0o755", "0o4755", "setuid"),
            ("Says hello.", "Says \\\"hello\\\".", "quotes"),
            ("[6, 7]", "[4]", "dsm.build"),
            ("[\"x86_64\"]", "[\"qoriq\"]", "PowerPC"),
            ("[dsm]", "[info]\nchecksum = \"0\"\n[dsm]", "written from other tables"),
            ("[\"x86_64\"]", "[]", "nothing to build"),
            ("[dsm]", "[package.descriptions]\nenglish = \"x\"\n[dsm]", "language"),
            ("[[payload]]", "[dsm.os_min_ver]\n7 = \"6.2-23739\"\n[[payload]]", "os_min_ver"),
        ] {
            let refused = with(old, new).unwrap_err();
            assert!(refused.to_string().contains(expected), "{new}: {refused}");
            assert!(!refused.remedy().is_empty());
        }
    }

    #[test]
    fn the_oldest_dsm_can_be_chosen_for_each_generation() {
        let chosen = with("[[payload]]", "[dsm.os_min_ver]\n7 = \"7.1-42661\"\n[[payload]]");
        assert_eq!(chosen.unwrap().dsm[&Dsm::Seven].to_string(), "7.1-42661");
    }
}
