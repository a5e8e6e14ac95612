//! `conf/privilege` and `conf/resource`: what a package may ask of DSM.

use super::{ALL, ONLY_7, Report, SINCE_6};
use serde_json::Value;

/// Workers DSM documents, and those packagers use.
const WORKERS: [&str; 18] = [
    "data-share",
    "port-config",
    "usr-local-linker",
    "syslog-config",
    "systemd-user-unit",
    "indexdb",
    "webservice",
    "docker",
    "docker-project",
    "web-config",
    "mariadb10-db",
    "php",
    "apache22",
    "video-driver",
    "sysnotify",
    "certificate-config",
    "service-cfg",
    "db-config",
];

/// Workers DSM 7 keeps for packages Synology signed.
const RESTRICTED_WORKERS: [&str; 3] = ["sysnotify", "certificate-config", "service-cfg"];

/// Files of one worker that are looked for in the payload.
const WORKER_FILES_MAX: usize = 100;

pub(super) fn check(report: &mut Report<'_>) {
    privilege(report);
    resource(report);
}

fn privilege(report: &mut Report<'_>) {
    let package = report.package;
    let Some(text) = package.content("conf/privilege") else {
        let remedy = "add {\"defaults\":{\"run-as\":\"package\"}}";
        report.refused(ONLY_7, "privilege", "there is no conf/privilege (error 319)", remedy);
        return;
    };
    let Ok(privilege) = serde_json::from_slice::<Value>(text) else {
        report.refused(SINCE_6, "privilege", "conf/privilege is not JSON", "correct the JSON");
        return;
    };
    let run_as = &privilege["defaults"]["run-as"];
    match run_as.as_str() {
        Some("package") => {}
        Some("root") => {
            let sentence =
                "conf/privilege asks to run as root; DSM 7 refuses unsigned packages that do";
            let remedy = "run as \"package\"; what needs root is a command the owner runs once";
            report.refused(ONLY_7, "privilege-root", sentence, remedy);
        }
        Some(_) | None => {
            let sentence = "conf/privilege has no defaults.run-as of \"package\" (error 319)";
            let remedy = "write {\"defaults\":{\"run-as\":\"package\"}}";
            report.refused(ONLY_7, "privilege", sentence, remedy);
        }
    }
    for section in ["ctrl-script", "executable"] {
        if privilege.get(section).is_some() {
            let sentence = format!("conf/privilege has a section `{section}` (error 319)");
            let remedy = "leave it out on DSM 7; only packages Synology signed may have it";
            report.refused(ONLY_7, "privilege-section", sentence, remedy);
        }
    }
    for tool in privilege["tool"].as_array().into_iter().flatten() {
        if tool.get("capabilities").is_some() || tool["user"] != "package" {
            let sentence = "conf/privilege gives a tool capabilities or another user (error 319)";
            let remedy = "leave the tool out on DSM 7";
            report.refused(ONLY_7, "privilege-tool", sentence, remedy);
        }
    }
    if privilege["join-groupname"] == "administrators" {
        let sentence = "conf/privilege joins the administrators (error 319)";
        report.refused(ONLY_7, "privilege-group", sentence, "join no group, or `http`");
    }
}

fn resource(report: &mut Report<'_>) {
    let package = report.package;
    let Some(text) = package.content("conf/resource") else { return };
    let Ok(Value::Object(workers)) = serde_json::from_slice::<Value>(text) else {
        let sentence = "conf/resource is not a JSON object";
        report.refused(SINCE_6, "resource", sentence, "correct the JSON");
        return;
    };
    for (worker, wanted) in &workers {
        if !WORKERS.contains(&worker.as_str()) {
            let sentence = format!("conf/resource names the worker `{worker}`, which nobody knows");
            report.advice(SINCE_6, "resource-worker", sentence, "compare it with Synology's guide");
        }
        if RESTRICTED_WORKERS.contains(&worker.as_str()) {
            let sentence = format!("conf/resource names `{worker}`, kept for signed packages");
            report.refused(ONLY_7, "resource-restricted", sentence, "leave it out on DSM 7");
        }
        let files: Vec<&str> = match worker.as_str() {
            "port-config" => wanted["protocol-file"].as_str().into_iter().collect(),
            "usr-local-linker" => ["bin", "lib", "etc"]
                .iter()
                .filter_map(|kind| wanted[kind].as_array())
                .flatten()
                .filter_map(Value::as_str)
                .collect(),
            _ => Vec::new(),
        };
        for file in files.into_iter().take(WORKER_FILES_MAX) {
            if package.payload_entry(file).is_none() {
                let sentence = format!("{worker} names `{file}`, which package.tgz does not hold");
                let remedy = "add the file, or name it relative to target/";
                report.refused(SINCE_6, "resource-file", sentence, remedy);
            }
        }
    }
    if report.dsm == crate::dsm::Dsm::Five {
        let sentence = "DSM 5 knows no conf/resource and passes over it";
        report.advice(ALL, "resource", sentence, "do in the scripts what it was for");
    }
}
