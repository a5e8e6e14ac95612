//! INFO's optional keys: what they name must be something the DSM at hand knows.

use super::{ALL, ONLY_7, Report, SINCE_6, UP_TO_5};
use crate::archive::Kind;
use crate::dsm::Dsm;
use crate::info::{LANGUAGES, name_is_safe};
use crate::platform::Platform;

/// Services a package may wait for, by DSM; another name keeps it from being installed.
const SERVICES: [(Dsm, &[&str]); 3] = [
    (Dsm::Five, &["apache-web", "php_disable_safe_exec_dir", "ssh", "pgsql", "mysql"]),
    (Dsm::Six, &["ssh", "pgsql"]),
    (
        Dsm::Seven,
        &[
            "ssh-shell",
            "pgsql",
            "network.target",
            "network-online.target",
            "nginx.service",
            "avahi.service",
            "atalk.service",
            "crond.service",
            "nfs-server.service",
        ],
    ),
];

/// Names in one list that are looked at.
const NAMES_MAX: usize = 100;

pub(super) fn check(report: &mut Report<'_>) {
    ports(report);
    dependencies(report);
    services(report);
    languages(report);
    silence(report);
    gone(report);
    if report.package.info.get("beta").is_some() || report.package.info.get("report_url").is_some()
    {
        let sentence = "INFO says beta or report_url: Package Center of DSM 7 shows no betas";
        let remedy = "leave both out for DSM 7, whatever state it is in";
        report.advice(ONLY_7, "beta", sentence, remedy);
    }
    let has_conf = report
        .package
        .members
        .iter()
        .any(|member| member.head.kind == Kind::File && member.head.path.starts_with("conf/"));
    if has_conf && !report.package.info.says_yes("support_conf_folder", false) {
        let sentence = "there is a conf folder, which DSM 5 reads only when INFO says so";
        let remedy = "add support_conf_folder=\"yes\"";
        report.advice(UP_TO_5, "conf-folder", sentence, remedy);
    }
}

fn ports(report: &mut Report<'_>) {
    let info = &report.package.info;
    let is_port = |text: &str| text.parse::<u16>().is_ok_and(|port| port > 0);
    // Some say nothing and write the key all the same.
    if let Some(port) = info.get("adminport").filter(|port| !port.is_empty() && !is_port(port)) {
        let sentence = format!("INFO's adminport is \"{port}\"");
        report.refused(ALL, "adminport", sentence, "write a port number, 1 to 65535");
    }
    let protocol = info.get("adminprotocol").filter(|name| !matches!(*name, "http" | "https"));
    if let Some(protocol) = protocol {
        let sentence = format!("INFO's adminprotocol is \"{protocol}\"");
        report.advice(ALL, "adminprotocol", sentence, "write \"http\" or \"https\"");
    }
}

/// `pkgA>2.2:pkgB>=1.0:pkgC`.
fn dependencies(report: &mut Report<'_>) {
    let info = &report.package.info;
    let keys = [
        "install_dep_packages",
        "install_conflict_packages",
        "install_break_packages",
        "install_replace_packages",
    ];
    for key in keys {
        let entries = info.get(key).unwrap_or_default().split(':').take(NAMES_MAX);
        let is_sound = |entry: &str| {
            let name = entry.split(['<', '>', '=']).next().unwrap_or_default();
            name_is_safe(name.trim())
        };
        let Some(wrong) = entries.clone().find(|entry| !entry.is_empty() && !is_sound(entry))
        else {
            continue;
        };
        let sentence = format!("INFO's {key} holds `{}`", short(wrong));
        let remedy = "write names with a colon between: pkgA>2.2:pkgB>=1.0:pkgC";
        report.refused(ALL, "dependency", sentence, remedy);
    }
    for path in ["conf/PKG_DEPS", "conf/PKG_CONX"] {
        let Some(content) = report.package.content(path) else { continue };
        let text = String::from_utf8_lossy(content);
        let is_sound = |line: &str| {
            let line = line.trim();
            let is_section = line.starts_with('[') && line.ends_with(']');
            line.is_empty() || line.starts_with('#') || is_section || line.contains('=')
        };
        let first = text.lines().map(str::trim).find(|line| !line.is_empty());
        let wrong = text.lines().find(|line| !is_sound(line));
        let wrong = wrong.or(first.filter(|line| !line.starts_with(['[', '#'])));
        if let Some(line) = wrong {
            let sentence = format!("{path} holds `{}`, outside of any package", short(line));
            let remedy = "write [package] and below it key=value, such as pkg_min_ver=1.0";
            report.refused(ALL, "dependency-file", sentence, remedy);
        }
    }
}

fn services(report: &mut Report<'_>) {
    let info = &report.package.info;
    let known = SERVICES.iter().find(|(dsm, _)| *dsm == report.dsm).map_or(&[][..], |row| row.1);
    for key in ["install_dep_services", "start_dep_services"] {
        let names = info.get(key).unwrap_or_default().split([' ', ':']).take(NAMES_MAX);
        let mut names = names.filter(|name| !name.is_empty());
        if let Some(unknown) = names.find(|name| !known.contains(name)) {
            let sentence =
                format!("INFO's {key} names `{}`, no service of {}", short(unknown), report.dsm);
            let remedy = "on DSM 7 nginx.service, pgsql and the like; on DSM 6 ssh and pgsql only";
            report.advice(ALL, "dependency-service", sentence, remedy);
        }
    }
}

fn languages(report: &mut Report<'_>) {
    let info = &report.package.info;
    let unknown = info.pairs().map(|(key, _)| key).find(|key| {
        let code = key.strip_prefix("displayname_").or(key.strip_prefix("description_"));
        code.is_some_and(|code| !LANGUAGES.contains(&code))
    });
    if let Some(key) = unknown {
        let sentence = format!("INFO says `{}`, in no language of DSM", short(key));
        report.advice(ALL, "language", sentence, "use enu, ger, fre, jpn and the like");
    }
}

fn silence(report: &mut Report<'_>) {
    let package = report.package;
    for stage in ["install", "upgrade", "uninstall"] {
        let key = format!("silent_{stage}");
        if package.info.says_yes(&key, false) && package.has_wizard(stage) {
            let sentence = format!("INFO says {key}, so nobody ever sees the {stage} wizard");
            let remedy = "leave one of them out";
            report.advice(ALL, "silent-wizard", sentence, remedy);
        }
    }
}

/// Platforms that were there before this DSM, or after.
fn gone(report: &mut Report<'_>) {
    let dsm = report.dsm;
    let archs = report.package.info.archs();
    let platforms: Vec<&Platform> = archs.iter().filter_map(|arch| Platform::find(arch)).collect();
    let is_gone = |platform: &&&Platform| {
        let (first, last) = platform.dsm;
        dsm.major() < first.0 || dsm.major() > last.0
    };
    if platforms.len() < archs.len() {
        return; // a family, or noarch, reaches others
    }
    if platforms.iter().all(|platform| is_gone(&platform)) {
        let sentence = format!("no box of `{}` runs {dsm}", archs.join(" "));
        let remedy = "build it for a DSM those boxes have: `spk build --dsm`";
        report.advice(SINCE_6, "platform-gone", sentence, remedy);
    }
}

/// A stranger's words, their beginning.
fn short(text: &str) -> String {
    text.chars().take(60).collect()
}
