//! What a manifest's values must be like, so that everything built from it is sound.

use super::written::{Download, Firewall, PayloadFile};
use super::{Manifest, ManifestError, targets, wizard, wrong};
use crate::archive::inner_path;
use crate::info::{LANGUAGES, name_is_safe};
use std::collections::BTreeSet;

type Checked = Result<(), ManifestError>;

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

const NAME_REMEDY: &str = "use letters, digits, `-` and `_`";

/// Addresses of one download.
const URLS_MAX: usize = 20;

/// The largest download: what the reader of packages allows a package, in bytes.
const DOWNLOAD_BYTES_MAX: u64 = 4 << 30;

pub(super) fn check(manifest: &Manifest) -> Checked {
    names(manifest)?;
    manifest.payload.iter().try_for_each(payload)?;
    let desktop = manifest.desktop_icons.as_ref();
    if let Some(folder) = desktop.filter(|to| inner_path(to).is_none_or(|path| path != **to)) {
        let remedy = "write a path relative to target/, such as ui/images";
        return Err(wrong("icon.desktop", folder, "it is no path inside", remedy));
    }
    languages(manifest)?;
    manifest.downloads.iter().try_for_each(|file| download(manifest, file))?;
    for (stage, pages) in manifest.wizard.stages() {
        wizard::check(pages).map_err(|(value, (why, remedy))| {
            wrong(&format!("wizard.{stage}"), &value, why, remedy)
        })?;
    }
    resources(manifest)?;
    if manifest.targets.is_empty() || manifest.dsm.is_empty() {
        let remedy = "write targets = [\"x86_64\"] in [package] and build = [6, 7] in [dsm]";
        return Err(wrong("package.targets", "", "there is nothing to build", remedy));
    }
    info_values(manifest)
}

fn names(manifest: &Manifest) -> Checked {
    let privilege = &manifest.privilege;
    let names = [
        ("package.name", Some(&manifest.package.name)),
        ("privilege.username", privilege.username.as_ref()),
        ("privilege.groupname", privilege.groupname.as_ref()),
        ("privilege.join_group", privilege.join_group.as_ref()),
    ];
    for (key, name) in names {
        if let Some(name) = name.filter(|name| !name_is_safe(name)) {
            return Err(wrong(key, name, "DSM makes folders and users of it", NAME_REMEDY));
        }
    }
    if privilege.join_group.as_deref() == Some("administrators") {
        let why = "DSM 7 refuses packages that join the administrators";
        return Err(wrong("privilege.join_group", "administrators", why, "leave it out"));
    }
    let known = crate::dsm::SCRIPTS;
    let unknown = privilege.root_scripts_on_6.iter().find(|name| !known.contains(&name.as_str()));
    if let Some(name) = unknown {
        let remedy = "name those of the seven scripts that must be root's, such as postinst";
        return Err(wrong("privilege.root_scripts_on_6", name, "no script of DSM's", remedy));
    }
    Ok(())
}

fn payload(file: &PayloadFile) -> Checked {
    // "." is target/ itself, for a folder whose content goes there.
    if file.to != "." && inner_path(&file.to).is_none_or(|path| path != file.to) {
        let remedy = "write a path relative to target/, such as bin/hello";
        return Err(wrong("payload.to", &file.to, "it is no path inside", remedy));
    }
    if let Some(mode) = file.mode.filter(|mode| mode & !0o777 != 0 || mode & 0o400 == 0) {
        let why = "DSM refuses setuid, and the package's user must be able to read it";
        let remedy = "write mode = 0o755 or mode = 0o644";
        return Err(wrong("payload.mode", &format!("{mode:#o}"), why, remedy));
    }
    targets(&file.targets).map(|_| ())
}

fn languages(manifest: &Manifest) -> Checked {
    let package = &manifest.package;
    let tables = [&package.displaynames, &package.descriptions, &package.changelogs];
    for language in tables.into_iter().flat_map(|table| table.keys()) {
        if !LANGUAGES.contains(&language.as_str()) {
            let remedy = "use one of DSM's three-letter codes, such as enu, ger, fre, jpn";
            return Err(wrong("package.descriptions", language, "no DSM language", remedy));
        }
    }
    Ok(())
}

fn download(manifest: &Manifest, file: &Download) -> Checked {
    let is_web = |url: &String| {
        let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        rest.is_some_and(|rest| !rest.is_empty())
            && url.bytes().all(|byte| byte.is_ascii_graphic())
            && url.len() <= 2000
    };
    if file.urls.is_empty() || file.urls.len() > URLS_MAX || !file.urls.iter().all(is_web) {
        let value = file.urls.iter().find(|url| !is_web(url)).map_or("", String::as_str);
        let remedy = "write urls = [\"https://…\"], with %20 for spaces";
        return Err(wrong("download.urls", value, "no address, or no web address", remedy));
    }
    for (key, name) in [("download.file", &file.file), ("download.share", &file.share)] {
        if !name_is_safe(name) {
            return Err(wrong(key, name, "it is no plain name of a file or folder", NAME_REMEDY));
        }
    }
    let is_sha256 = |text: &str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    if !is_sha256(&file.sha256) {
        let remedy = "write what `sha256sum FILE` says";
        return Err(wrong("download.sha256", &file.sha256, "it is no SHA-256", remedy));
    }
    if file.bytes == 0 || file.bytes > DOWNLOAD_BYTES_MAX {
        let remedy = "write what `stat -c %s FILE` says, in bytes";
        return Err(wrong("download.bytes", &file.bytes.to_string(), "it is no size", remedy));
    }
    if file.to.is_empty() || inner_path(&file.to).is_none_or(|path| path != file.to) {
        let remedy = "write a path relative to target/, such as upstream";
        return Err(wrong("download.to", &file.to, "it is no path inside", remedy));
    }
    if let Some(when) = &file.when {
        let key = when.split('=').next().unwrap_or_default();
        let asked = |pages: &[wizard::Page]| {
            pages.iter().flat_map(|page| &page.ask).any(|ask| ask.keys().any(|own| own == key))
        };
        let is_free = manifest.wizard.folder.is_some();
        if !is_free && !asked(&manifest.wizard.install) {
            let remedy = "name the key of an option, or KEY=VALUE of a list, in [wizard]";
            return Err(wrong("download.when", when, "no page of the wizard asks it", remedy));
        }
    } else if file.otherwise {
        let remedy = "leave `otherwise` out, or say `when`";
        return Err(wrong("download.otherwise", "true", "it is always fetched", remedy));
    }
    targets(&file.targets).map(|_| ())
}

fn resources(manifest: &Manifest) -> Checked {
    let mut ids = BTreeSet::new();
    for entry in &manifest.firewall {
        firewall(entry)?;
        if !ids.insert(&entry.id) {
            return Err(wrong("firewall.id", &entry.id, "two have one id", "name it anew"));
        }
    }
    let written_twice = [
        ("port-config", !manifest.firewall.is_empty(), "[[firewall]] writes this worker"),
        ("data-share", !manifest.shares.is_empty(), "[[share]] writes this worker"),
    ];
    for (worker, is_made, why) in written_twice {
        if is_made && manifest.resources.contains_key(worker) {
            return Err(wrong("resources", worker, why, "say it in one place only"));
        }
    }
    let forbidden = |c: char| c.is_control() || matches!(c, '/' | '\\' | '"' | ':');
    for share in &manifest.shares {
        if share.name.is_empty() || share.name.starts_with('.') || share.name.contains(forbidden) {
            let remedy = "write its name as Control Panel shows it";
            return Err(wrong("share.name", &share.name, "no name of a shared folder", remedy));
        }
    }
    Ok(())
}

fn firewall(entry: &Firewall) -> Checked {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if entry.id.is_empty() || entry.id.len() > 60 || !entry.id.chars().all(is_word) {
        let remedy = "use letters, digits and _";
        return Err(wrong("firewall.id", &entry.id, "DSM makes a section of it", remedy));
    }
    let texts = [Some(&entry.title), entry.description.as_ref()];
    for text in texts.into_iter().flatten() {
        if text.trim().is_empty() || text.contains(|c: char| c.is_control() || c == '"') {
            return Err(wrong("firewall.title", text, "it is no plain line", "write a few words"));
        }
    }
    let is_ports = |text: &String| {
        let Some((ports, protocols)) = text.rsplit_once('/') else { return false };
        let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
        let is_range = |text: &str| match text.split_once(':') {
            Some((from, to)) => number(from).zip(number(to)).is_some_and(|(from, to)| from <= to),
            None => number(text).is_some(),
        };
        ports.split(',').all(is_range) && matches!(protocols, "tcp" | "udp" | "tcp,udp")
    };
    if entry.ports.is_empty() || !entry.ports.iter().all(is_ports) {
        let value = entry.ports.iter().find(|ports| !is_ports(ports)).map_or("", String::as_str);
        let remedy = "write ports = [\"4242/tcp\", \"6000:6010/udp\"]";
        return Err(wrong("firewall.ports", value, "no port, or none DSM reads", remedy));
    }
    Ok(())
}

fn info_values(manifest: &Manifest) -> Checked {
    if let Some(key) = manifest.info.keys().find(|key| WRITTEN_KEYS.contains(&key.as_str())) {
        let remedy = "say it in [package], [dsm] or [port]";
        return Err(wrong("info", key, "this key is written from other tables", remedy));
    }
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if let Some(key) = manifest.info.keys().find(|key| key.is_empty() || !key.chars().all(is_word))
    {
        return Err(wrong("info", key, "no key of INFO", "use letters, digits and _"));
    }
    let package = &manifest.package;
    let optional = [
        ("package.maintainer_url", &package.maintainer_url),
        ("package.distributor", &package.distributor),
        ("package.distributor_url", &package.distributor_url),
        ("package.support_url", &package.support_url),
        ("package.changelog", &package.changelog),
    ];
    let optional = optional.iter().filter_map(|(key, value)| Some((*key, value.as_ref()?)));
    let of_port = manifest.port.iter().flat_map(|port| {
        let values = [("port.protocol", &port.protocol), ("port.url", &port.url)];
        values.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?)))
    });
    let tables = [
        ("package.displaynames", &package.displaynames),
        ("package.descriptions", &package.descriptions),
        ("package.changelogs", &package.changelogs),
        ("info", &manifest.info),
    ];
    let tables =
        tables.into_iter().flat_map(|(key, table)| table.values().map(move |value| (key, value)));
    let required = [
        ("package.displayname", &package.displayname),
        ("package.description", &package.description),
        ("package.maintainer", &package.maintainer),
    ];
    for (key, value) in required.into_iter().chain(optional).chain(of_port).chain(tables) {
        if value.trim().is_empty() {
            return Err(wrong(key, value, "it is empty", "write something or leave it out"));
        }
        if value.chars().any(|c| matches!(c, '"' | '\\') || (c.is_control() && c != '\n')) {
            let why = "INFO has no sure way to write quotes, backslashes and control characters";
            return Err(wrong(key, value, why, "use ‘ ’ or “ ” for quotes"));
        }
    }
    Ok(())
}
