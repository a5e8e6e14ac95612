//! Turning a manifest and built programs into SPK files: one for each target and DSM.
//!
//! INFO comes first, which is kindest to readers of streams, and `package.tgz` last.
//!
//! **Invariant:** the same manifest, files and version give the same bytes, on any machine and at
//! any time. A file under its final name is a whole one.

use crate::dsm::Dsm;
use crate::icon::{Icon, IconError, LARGE_PIXELS};
use crate::info::Info;
use crate::manifest::Manifest;
use crate::payload::{Packed, pack};
use crate::platform::Target;
use crate::tarball::Tarball;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufWriter, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The scripts DSM calls. Some may be left out on some versions; all seven are always right.
pub const SCRIPTS: [&str; 7] = [
    "start-stop-status",
    "preinst",
    "postinst",
    "preuninst",
    "postuninst",
    "preupgrade",
    "postupgrade",
];

/// A script, wizard or licence larger than this is refused, in bytes.
const TEXT_BYTES_MAX: u64 = 1 << 20;

/// Where everything comes from.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// What to build.
    pub manifest: &'a Manifest,
    /// The manifest's folder.
    pub folder: &'a Path,
    /// What `{programs}` stands for.
    pub programs: &'a Path,
}

/// A package that was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// Where it is.
    pub path: PathBuf,
    /// For which build.
    pub target: Target,
    /// For which DSM.
    pub dsm: Dsm,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Why a package could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A file the manifest names cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The package cannot be written.
    #[error("{} cannot be written", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A file cannot be put into an archive.
    #[error("`{path}` cannot be packed")]
    Pack {
        /// Its name in the archive.
        path: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// Two sources for one place.
    #[error("the payload's `{path}` comes from two places")]
    Twice {
        /// The place.
        path: String,
    },
    /// A link that would lead out of the package.
    #[error("{} is a link that leads out of the package", path.display())]
    LinkOutside {
        /// The link.
        path: PathBuf,
    },
    /// A device, a pipe, or a name that is no text.
    #[error("{} is neither file nor folder, or its name is no text", path.display())]
    NotAFile {
        /// What it is called.
        path: PathBuf,
    },
    /// More than an archive can say.
    #[error("{} is too large: {bytes} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// One of the seven is not there.
    #[error("{} is not there; DSM calls seven scripts", path.display())]
    ScriptMissing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The icon is not one.
    #[error("{} is no icon", path.display())]
    Icon {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: IconError,
    },
    /// No box of this DSM runs this target.
    #[error("no platform with {dsm} runs the target {target}")]
    NoPlatform {
        /// The target.
        target: Target,
        /// The DSM.
        dsm: Dsm,
    },
}

impl BuildError {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Read { .. } => {
                "build the programs first, and say where they are with --programs; other files are \
                 looked for beside package.toml"
            }
            Self::Write { .. } => "check that the folder exists, is yours and has room",
            Self::Pack { .. } => "shorten its path; an archive DSM reads takes about 100 letters",
            Self::Twice { .. } => "leave one [[payload]] for it; conf/daemon.toml is [daemon]'s",
            Self::LinkOutside { .. } => "copy the file, or make the link relative and inside",
            Self::NotAFile { .. } => "leave it out of the folder",
            Self::TooLarge { .. } => "split it, or download it when the package is installed",
            Self::ScriptMissing { .. } => "write one that says `#!/bin/sh` and `exit 0`",
            Self::Icon { cause, .. } => cause.remedy(),
            Self::NoPlatform { .. } => "leave the target or the DSM out",
        }
    }
}

/// Builds the package of `target` for each of `generations` into the folder `into`.
pub fn build(
    sources: &Sources<'_>,
    target: Target,
    generations: &[Dsm],
    into: &Path,
) -> Result<Vec<Built>, BuildError> {
    for dsm in generations {
        if target.archs(*dsm).is_empty() {
            return Err(BuildError::NoPlatform { target, dsm: *dsm });
        }
    }
    fs::create_dir_all(into).map_err(|cause| BuildError::Write { path: into.into(), cause })?;
    let mut packed = pack(sources, target, into)?;
    let icon = read_icon(sources)?;
    generations
        .iter()
        .map(|dsm| {
            let info = info(sources.manifest, target, *dsm, &packed);
            let members = members(sources, *dsm, &info, &icon)?;
            write(&file_name(sources.manifest, target, *dsm), into, members, &mut packed)
                .map(|(path, bytes)| Built { path, target, dsm: *dsm, bytes })
        })
        .collect()
}

/// The package's file name: `holdfast-x86_64-dsm7-0.1.0-0001.spk`.
pub fn file_name(manifest: &Manifest, target: Target, dsm: Dsm) -> String {
    let (name, version) = (&manifest.package.name, &manifest.version);
    format!("{name}-{target}-dsm{}-{version}.spk", dsm.major())
}

/// What INFO says for one target and DSM.
fn info(manifest: &Manifest, target: Target, dsm: Dsm, packed: &Packed) -> Info {
    let package = &manifest.package;
    let mut info = Info::default();
    let mut say = |key: &str, value: &str| info.push(key, value.trim().replace('\n', "<br>"));
    let yes_no = |yes: bool| if yes { "yes" } else { "no" };
    say("package", &package.name);
    say("version", manifest.version.text());
    say("arch", &target.archs(dsm).join(" "));
    let oldest = manifest.dsm.get(&dsm).cloned().unwrap_or_else(|| dsm.os_min_default());
    say(if dsm == Dsm::Five { "firmware" } else { "os_min_ver" }, &oldest.to_string());
    say("displayname", &package.displayname);
    for (language, name) in &package.displaynames {
        say(&format!("displayname_{language}"), name);
    }
    say("description", &package.description);
    for (language, description) in &package.descriptions {
        say(&format!("description_{language}"), description);
    }
    say("maintainer", &package.maintainer);
    for (key, value) in [
        ("maintainer_url", &package.maintainer_url),
        ("distributor", &package.distributor),
        ("distributor_url", &package.distributor_url),
        ("support_url", &package.support_url),
        ("changelog", &package.changelog),
    ] {
        if let Some(value) = value {
            say(key, value);
        }
    }
    say(if dsm == Dsm::Five { "startable" } else { "ctl_stop" }, yes_no(package.startable));
    if let Some(port) = &manifest.port {
        say("adminport", &port.number.to_string());
        say("adminprotocol", port.protocol.as_deref().unwrap_or("http"));
        say("adminurl", port.url.as_deref().unwrap_or("/"));
        say("checkport", yes_no(port.check));
    }
    for (key, value) in &manifest.info {
        say(key, value);
    }
    let kilobytes = packed.unpacked_bytes.div_ceil(1024);
    let size = if dsm == Dsm::Five { packed.unpacked_bytes } else { kilobytes };
    say("extractsize", &size.to_string());
    say("checksum", &packed.md5);
    info
}

/// The outer members but `package.tgz`, by path.
fn members(
    sources: &Sources<'_>,
    dsm: Dsm,
    info: &Info,
    icon: &Icon,
) -> Result<Vec<(String, u32, Vec<u8>)>, BuildError> {
    let manifest = sources.manifest;
    let mut members = vec![
        ("INFO".to_owned(), 0o644, info.to_text().into_bytes()),
        ("PACKAGE_ICON.PNG".to_owned(), 0o644, icon.scaled(dsm.icon_pixels()).encode()),
        ("PACKAGE_ICON_256.PNG".to_owned(), 0o644, icon.scaled(LARGE_PIXELS).encode()),
    ];
    if let Some(license) = &manifest.package.license {
        members.push(("LICENSE".into(), 0o644, read(&sources.folder.join(license))?));
    }
    if let Some(wizard) = &manifest.wizard {
        for (name, content) in read_folder(&sources.folder.join(wizard))? {
            let mode = if name.ends_with(".sh") { 0o755 } else { 0o644 };
            members.push((format!("WIZARD_UIFILES/{name}"), mode, content));
        }
    }
    if dsm == Dsm::Seven {
        members.push(("conf/privilege".into(), 0o644, privilege(manifest)));
    }
    if dsm != Dsm::Five && !manifest.resources.is_empty() {
        let resources = json!(manifest.resources);
        members.push(("conf/resource".into(), 0o644, format!("{resources:#}\n").into_bytes()));
    }
    let folder = sources.folder.join(&manifest.scripts);
    let scripts = read_folder(&folder)?;
    if let Some(missing) = SCRIPTS.iter().find(|name| !scripts.contains_key(**name)) {
        return Err(BuildError::ScriptMissing { path: folder.join(missing) });
    }
    for (name, content) in scripts {
        members.push((format!("scripts/{name}"), 0o755, content));
    }
    Ok(members)
}

/// `conf/privilege` of DSM 7: an unsigned package may ask for nothing else.
fn privilege(manifest: &Manifest) -> Vec<u8> {
    let mut privilege = json!({ "defaults": { "run-as": "package" } });
    if let Some(groupname) = &manifest.privilege.groupname {
        privilege["groupname"] = json!(groupname);
    }
    if let Some(username) = &manifest.privilege.username {
        privilege["username"] = json!(username);
    }
    format!("{privilege:#}\n").into_bytes()
}

fn write(
    name: &str,
    into: &Path,
    members: Vec<(String, u32, Vec<u8>)>,
    packed: &mut Packed,
) -> Result<(PathBuf, u64), BuildError> {
    let path = into.join(name);
    let failed = |cause| BuildError::Write { path: path.clone(), cause };
    packed.file.rewind().map_err(failed)?;
    let partial = tempfile::Builder::new()
        .prefix(".spk-")
        .permissions(fs::Permissions::from_mode(0o644))
        .tempfile_in(into)
        .map_err(failed)?;
    let mut tarball = Tarball::new(BufWriter::new(partial));
    let mut folder = String::new();
    for (path, mode, content) in &members {
        let unpackable = |cause| BuildError::Pack { path: path.clone(), cause };
        if let Some((parent, _)) = path.split_once('/').filter(|(parent, _)| *parent != folder) {
            tarball.folder(parent).map_err(unpackable)?;
            folder = parent.into();
        }
        tarball.file(path, *mode, content.len() as u64, &mut &content[..]).map_err(unpackable)?;
    }
    tarball.file(crate::read::PAYLOAD, 0o644, packed.bytes, &mut packed.file).map_err(failed)?;
    let mut out = tarball.finish().map_err(failed)?;
    out.flush().map_err(failed)?;
    let partial = out.into_inner().map_err(|error| failed(error.into_error()))?;
    let bytes = partial.as_file().metadata().map_err(failed)?.len();
    partial.persist(&path).map_err(|error| failed(error.error))?;
    Ok((path, bytes))
}

fn read_icon(sources: &Sources<'_>) -> Result<Icon, BuildError> {
    let path = sources.folder.join(&sources.manifest.icon);
    Icon::decode(&read(&path)?).map_err(|cause| BuildError::Icon { path, cause })
}

fn read(path: &Path) -> Result<Vec<u8>, BuildError> {
    let unreadable = |cause| BuildError::Read { path: path.into(), cause };
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(BuildError::NotAFile { path: path.into() });
    }
    if metadata.len() > TEXT_BYTES_MAX {
        return Err(BuildError::TooLarge { path: path.into(), bytes: metadata.len() });
    }
    fs::read(path).map_err(unreadable)
}

/// The files directly in a folder, by name; hidden ones, an editor's or a Mac's, are passed over.
fn read_folder(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>, BuildError> {
    let unreadable = |cause| BuildError::Read { path: folder.into(), cause };
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| BuildError::NotAFile { path: path.clone() })?;
        if !name.starts_with('.') {
            files.insert(name.to_owned(), read(&path)?);
        }
    }
    Ok(files)
}
