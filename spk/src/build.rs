//! Turning a manifest and built programs into SPK files: one for each target and DSM.
//!
//! INFO comes first, which is kindest to readers of streams, and `package.tgz` last.
//!
//! **Invariant:** the same manifest, files and version give the same bytes, on any machine and at
//! any time. A file under its final name is a whole one.

use crate::dsm::Dsm;
pub use crate::dsm::SCRIPTS;
use crate::icon::{Icon, LARGE_PIXELS};
use crate::info::Info;
use crate::manifest::Manifest;
use crate::payload::{Packed, pack};
use crate::platform::Target;
use crate::sources::read;
pub use crate::sources::{BuildError, Sources};
use crate::tarball::Tarball;
use crate::{conf, pages};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufWriter, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Scripts of DSM 7 for packages that take another's place; they may be left out.
const REPLACING: [&str; 2] = ["prereplace", "postreplace"];

/// A hook nobody wrote: DSM 7 wants it to be there (error 261).
const IDLE_HOOK: &str = "#!/bin/sh\nexit 0\n";

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

/// Builds the package of `target` for each of `generations` into the folder `into`, with all
/// processors.
pub fn build(
    sources: &Sources<'_>,
    target: Target,
    generations: &[Dsm],
    into: &Path,
) -> Result<Vec<Built>, BuildError> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    build_with(sources, target, generations, into, processors)
}

/// The same with so many threads; the bytes do not depend on their number.
pub fn build_with(
    sources: &Sources<'_>,
    target: Target,
    generations: &[Dsm],
    into: &Path,
    threads: usize,
) -> Result<Vec<Built>, BuildError> {
    for dsm in generations {
        if target.archs(*dsm).is_empty() {
            return Err(BuildError::NoPlatform { target, dsm: *dsm });
        }
    }
    fs::create_dir_all(into).map_err(|cause| BuildError::Write { path: into.into(), cause })?;
    let mut packed = pack(sources, target, into, threads)?;
    let icon = sources.icon()?;
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
    for (language, changelog) in &package.changelogs {
        say(&format!("changelog_{language}"), changelog);
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
    wizards(sources, dsm, &mut members)?;
    let conf = [
        ("conf/privilege", conf::privilege(manifest, dsm)),
        ("conf/resource", conf::resource(manifest, dsm)),
    ];
    for (path, content) in conf {
        members.extend(content.map(|content| (path.to_owned(), 0o644, content.into_bytes())));
    }
    let folder = sources.folder.join(&manifest.scripts);
    let mut scripts = read_folder(&folder)?;
    // A hook that is misspelt would never be called, and nobody would know.
    let is_misspelt = |name: &&String| {
        let is_hook = ["pre", "post", "start"].iter().any(|start| name.starts_with(start));
        is_hook && !SCRIPTS.contains(&name.as_str()) && !REPLACING.contains(&name.as_str())
    };
    if let Some(name) = scripts.keys().find(is_misspelt) {
        return Err(BuildError::ScriptUnknown { path: folder.join(name) });
    }
    if !scripts.contains_key("start-stop-status") {
        return Err(BuildError::ScriptMissing { path: folder.join("start-stop-status") });
    }
    for name in SCRIPTS {
        scripts.entry(name.into()).or_insert_with(|| IDLE_HOOK.into());
    }
    for (name, content) in scripts {
        members.push((format!("scripts/{name}"), 0o755, content));
    }
    Ok(members)
}

/// The wizard files: those of the folder, and the pages of the manifest.
fn wizards(
    sources: &Sources<'_>,
    dsm: Dsm,
    members: &mut Vec<(String, u32, Vec<u8>)>,
) -> Result<(), BuildError> {
    let manifest = sources.manifest;
    let mut files = match &manifest.wizard.folder {
        Some(folder) => read_folder(&sources.folder.join(folder))?,
        None => BTreeMap::new(),
    };
    for (name, content) in pages::files(manifest, dsm) {
        let is_new = files.insert(name.clone(), content.into_bytes()).is_none();
        if !is_new {
            return Err(BuildError::WizardTwice { name });
        }
    }
    for (name, content) in files {
        let mode = if name.ends_with(".sh") { 0o755 } else { 0o644 };
        members.push((format!("WIZARD_UIFILES/{name}"), mode, content));
    }
    Ok(())
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
