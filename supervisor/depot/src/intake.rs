//! From a file somebody offers to an item that may be put on a shelf.
//!
//! The file is copied first and looked at afterwards, so that what was checked is what is kept,
//! whatever happens to the original meanwhile.

use crate::error::DepotError;
use crate::place::{Place, rename_synced, write_whole};
use crate::shelves::{Channel, Item};
use sha2::{Digest, Sha256};
use spk::check::{Finding, Weight};
use spk::read::{PACKAGE_BYTES_MAX, Package};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use supervisor_trust::UnixSeconds;

/// Texts of INFO that people see, or that Package Center is told.
const TEXT_KEYS: [&str; 11] = [
    "changelog",
    "description",
    "displayname",
    "distributor",
    "distributor_url",
    "install_conflict_packages",
    "install_dep_packages",
    "maintainer",
    "maintainer_url",
    "report_url",
    "support_url",
];

/// A text is cut off after this many characters: a catalog is read by small boxes.
const TEXT_CHARACTERS_MAX: usize = 8192;

/// A package that was copied in and found sound, not yet under its name.
pub struct Incoming {
    /// What it is.
    pub item: Item,
    icons: Vec<Vec<u8>>,
    copied_to: std::path::PathBuf,
}

/// Copies the package in `path` to the depot and looks at it.
pub fn take_in(
    place: &Place,
    number: usize,
    path: &Path,
    now: UnixSeconds,
) -> Result<Incoming, DepotError> {
    let copied_to = place.incoming(number);
    copy(path, &copied_to)?;
    let package = Package::open(&copied_to)
        .map_err(|cause| DepotError::Unreadable { path: path.to_owned(), cause })?;
    // DSM takes a name with a space; a list of signed files, and addresses, had better not.
    let is_wrong =
        |finding: &Finding| finding.weight == Weight::Refused || finding.code == "package-name";
    let findings: Vec<String> = spk::check::findings(&package)
        .into_iter()
        .filter(is_wrong)
        .map(|finding| finding.sentence)
        .collect();
    if !findings.is_empty() {
        return Err(DepotError::Unsound { path: path.to_owned(), findings });
    }
    let icons = [package.icon(), package.icon_256()];
    let item = describe(&package, icons, path, now)?;
    let icons = icons.into_iter().flatten().map(<[u8]>::to_vec).collect();
    Ok(Incoming { item, icons, copied_to })
}

impl Incoming {
    /// Puts the package and its icons under their names. Nothing refers to them yet.
    pub fn keep(&self, place: &Place) -> Result<(), DepotError> {
        for icon in &self.icons {
            let path = place.icon(&hex::encode(Sha256::digest(icon)));
            if !path.exists() {
                write_whole(&path, icon, 0o644)?;
            }
        }
        rename_synced(&self.copied_to, &place.file(&self.item.sha256))
    }

    /// Removes the copy.
    pub fn drop_copy(&self) {
        // It is in nobody's way: the next publisher writes over it.
        let _ = fs::remove_file(&self.copied_to);
    }
}

fn copy(from: &Path, to: &Path) -> Result<(), DepotError> {
    let source = File::open(from).map_err(DepotError::file("read", from))?;
    let _ = fs::remove_file(to);
    let mut target = File::create_new(to).map_err(DepotError::file("write", to))?;
    io::copy(&mut source.take(PACKAGE_BYTES_MAX + 1), &mut target)
        .map_err(DepotError::file("copy", from))?;
    target.sync_all().map_err(DepotError::file("write", to))
}

fn describe(
    package: &Package,
    icons: [Option<&[u8]>; 2],
    path: &Path,
    now: UnixSeconds,
) -> Result<Item, DepotError> {
    let info = &package.info;
    let os_min = info.os_min().ok_or_else(|| DepotError::NoDsm { path: path.to_owned() })?;
    let archs: Vec<String> = info.archs().into_iter().map(str::to_owned).collect();
    let is_beta = info.says_yes("beta", false) || info.get("report_url").is_some();
    let hash = |icon: Option<&[u8]>| icon.map(|bytes| hex::encode(Sha256::digest(bytes)));
    Ok(Item {
        package: info.package().to_owned(),
        version: info.version_text().to_owned(),
        file: file_name(info.package(), info.version_text(), os_min.major(), &archs),
        archs,
        dsm_major: os_min.major(),
        build_min: os_min.build,
        build_max: info.os_max().map(|os_max| os_max.build),
        channel: if is_beta { Channel::Beta } else { Channel::Stable },
        sha256: package.sha256.clone(),
        md5: package.md5.clone(),
        bytes: package.bytes,
        icon: hash(icons[0]),
        icon_256: hash(icons[1]),
        has_licence: package.license().is_some(),
        has_install_wizard: package.has_wizard("install"),
        has_upgrade_wizard: package.has_wizard("upgrade"),
        is_startable: info.is_startable(),
        texts: texts(info),
        published_seconds: now.seconds(),
        withdrawn: false,
    })
}

/// One name for one package, version, DSM and set of platforms.
fn file_name(package: &str, version: &str, dsm_major: u32, archs: &[String]) -> String {
    let platforms = match archs {
        [] => "noarch".to_owned(),
        [only] => only.clone(),
        [first, others @ ..] => format!("{first}-and-{}-more", others.len()),
    };
    format!("{package}-{version}-dsm{dsm_major}-{platforms}.spk")
}

fn texts(info: &spk::info::Info) -> BTreeMap<String, String> {
    let is_shown = |key: &str| {
        let plain = key.rsplit_once('_').map_or(key, |(plain, _)| plain);
        TEXT_KEYS.contains(&key) || ["displayname", "description"].contains(&plain)
    };
    info.pairs()
        .filter(|(key, _)| is_shown(key))
        .map(|(key, text)| (key.to_owned(), text.chars().take(TEXT_CHARACTERS_MAX).collect()))
        .collect()
}
