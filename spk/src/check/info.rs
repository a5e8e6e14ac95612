//! INFO: keys, versions, platforms, checksum.

use super::{ALL, ONLY_7, Report, SINCE_6, UP_TO_6};
use crate::dsm::{Dsm, OsVersion};
use crate::info::name_is_safe;
use crate::platform::arch_is_known;

/// Keys whose value is `yes` or `no`; anything else is read as one does not expect.
const YES_NO_KEYS: [&str; 12] = [
    "startable",
    "ctl_stop",
    "ctl_uninstall",
    "checkport",
    "precheckstartstop",
    "beta",
    "install_reboot",
    "support_conf_folder",
    "support_move",
    "silent_install",
    "silent_upgrade",
    "silent_uninstall",
];

pub(super) fn check(report: &mut Report<'_>) {
    required_keys(report);
    versions(report);
    oldest_dsm(report);
    platforms(report);
    sizes(report);
    let info = &report.package.info;
    for key in YES_NO_KEYS {
        if let Some(value) = info.get(key).filter(|value| !matches!(*value, "yes" | "no")) {
            let sentence = format!("INFO says {key}=\"{value}\"");
            report.advice(ALL, "not-yes-or-no", sentence, "write \"yes\" or \"no\"");
        }
    }
    for (key, value) in info.pairs() {
        if value.contains(['"', '\\']) {
            let sentence = format!("the value of `{key}` in INFO holds a quote or a backslash");
            let remedy = "use ‘ ’ or “ ”; what DSM makes of escapes is not documented";
            report.advice(ALL, "info-escape", sentence, remedy);
        }
    }
}

fn required_keys(report: &mut Report<'_>) {
    let info = &report.package.info;
    if !name_is_safe(info.package()) {
        let sentence = format!("INFO names the package `{}`, with a space", info.package());
        let remedy = "name it without: scripts, addresses and depots trip over a space";
        report.advice(ALL, "package-name", sentence, remedy);
    }
    for key in ["description", "arch", "maintainer"] {
        if info.get(key).is_none_or(|value| value.trim().is_empty()) {
            let sentence = format!("INFO has no `{key}`");
            let remedy = "add the key; DSM 7 requires it";
            report.refused(ONLY_7, "info-key-missing", sentence.clone(), remedy);
            report.advice(UP_TO_6, "info-key-missing", sentence, remedy);
        }
    }
    if info.get("displayname").is_none() {
        let sentence = "INFO has no `displayname`: people see the package's folder name";
        report.advice(ALL, "displayname-missing", sentence, "add displayname=\"…\"");
    }
}

fn versions(report: &mut Report<'_>) {
    if let Err(error) = report.package.info.version() {
        let remedy = error.remedy();
        report.refused(ONLY_7, "version", error.to_string(), remedy);
        report.advice(UP_TO_6, "version", error.to_string(), remedy);
    }
}

fn oldest_dsm(report: &mut Report<'_>) {
    let info = &report.package.info;
    let (os_min, firmware) = (info.get("os_min_ver"), info.get("firmware"));
    if let Some(text) = os_min.or(firmware).filter(|text| text.parse::<OsVersion>().is_err()) {
        let sentence = format!("the oldest DSM in INFO, \"{text}\", is not of the form 7.0-40000");
        report.refused(ALL, "os-min-ver", sentence, "write os_min_ver=\"7.0-40000\" or newer");
    }
    if os_min.is_none() && firmware.is_none() {
        let sentence = "INFO does not say the oldest DSM it is for";
        report.refused(ONLY_7, "os-min-ver", sentence, "add os_min_ver=\"7.0-40000\"");
    }
    if firmware.is_some() {
        let sentence = "INFO says `firmware`, which DSM 7 refuses across patch levels";
        report.refused(ONLY_7, "firmware", sentence, "write os_min_ver instead");
    }
    if info.os_min().is_some_and(|version| version.major() == 7 && version.build < 40_000) {
        let sentence = "INFO's os_min_ver is older than the first DSM 7, 7.0-40000";
        report.refused(ONLY_7, "os-min-ver", sentence, "write os_min_ver=\"7.0-40000\"");
    }
    if let Some(other) = info.os_min().filter(|version| version.dsm().is_none()) {
        let sentence = format!("INFO's oldest DSM is {other}, a generation nobody has seen");
        let remedy = "its major number must be that of the DSM it is installed on: 5, 6 or 7";
        report.refused(ALL, "os-min-ver", sentence, remedy);
    }
    if info.os_max().zip(info.os_min()).is_some_and(|(newest, oldest)| newest < oldest) {
        let sentence = "INFO's os_max_ver is older than its os_min_ver: it installs nowhere";
        report.refused(ALL, "os-max-below-min", sentence, "leave os_max_ver out");
    } else if let Some(newest) = info.os_max() {
        let sentence =
            format!("INFO's os_max_ver {newest}: after a DSM update it installs no more");
        report.advice(ALL, "os-max-ver", sentence, "leave os_max_ver out unless it must be");
    }
}

fn platforms(report: &mut Report<'_>) {
    let archs = report.package.info.archs();
    for arch in &archs {
        if !arch_is_known(arch) {
            let sentence = format!("INFO's arch names `{arch}`, which no table knows");
            let remedy = "use DSM's codenames (apollolake), its families (x86_64), or noarch";
            report.advice(ALL, "arch-unknown", sentence, remedy);
        }
    }
    if archs == ["armv7"] {
        let sentence = "INFO's arch is armv7 alone, which reaches alpine and alpine4k only";
        let remedy =
            "name the others too: armada370 armadaxp armada375 armada38x comcerto2k monaco";
        report.advice(ALL, "arch-armv7-alone", sentence, remedy);
    }
}

fn sizes(report: &mut Report<'_>) {
    let package = report.package;
    let actual = &package.payload.md5;
    match package.info.get("checksum") {
        None => {
            let remedy = "add checksum=\"<md5 of package.tgz>\"";
            report.advice(ALL, "checksum-missing", "INFO has no `checksum`", remedy);
        }
        Some(said) if !said.eq_ignore_ascii_case(actual) => {
            let sentence = format!("INFO's checksum is {said}, package.tgz has {actual}");
            let remedy = "build it again; DSM 7 stops, DSM 6 asks whether to install a broken file";
            report.refused(ALL, "checksum", sentence, remedy);
        }
        Some(_) => {}
    }
    let said = package.info.get("extractsize").filter(|said| !said.is_empty());
    let Some(said) = said else { return };
    let Ok(said_number) = said.parse::<u64>() else {
        let sentence = format!("INFO's extractsize is \"{said}\"");
        report.advice(ALL, "extractsize", sentence, "write a number, in kB since DSM 6");
        return;
    };
    let bytes = package.payload.unpacked_bytes;
    let expected = if report.dsm == Dsm::Five { bytes } else { bytes.div_ceil(1024) };
    if said_number > expected.saturating_mul(100).max(1024 * 1024) {
        let sentence = format!(
            "INFO's extractsize is {said}, {} times what is needed",
            said_number / expected.max(1)
        );
        let remedy = "write it in kB; only DSM up to 5 counts bytes";
        report.advice(SINCE_6, "extractsize", sentence, remedy);
    }
}
