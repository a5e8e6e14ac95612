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

/// Accounts every DSM has.
const PEOPLE: [&str; 5] = ["root", "admin", "guest", "http", "nobody"];

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
    let tools = privilege["tool"].as_array().into_iter().flatten().take(WORKER_FILES_MAX);
    for path in tools.filter_map(|tool| tool["relpath"].as_str()) {
        if package.payload_entry(path).is_none() {
            let sentence =
                format!("conf/privilege names `{path}`, which package.tgz does not hold");
            let remedy = "name it relative to target/, or leave it out (error 313)";
            report.refused(SINCE_6, "privilege-file", sentence, remedy);
        }
    }
    let user = privilege["username"].as_str().unwrap_or(package.info.package());
    if PEOPLE.contains(&user) {
        let sentence = format!("the package's user is `{user}`, an account DSM has already");
        let remedy = "give it a name of its own; removing the package may remove the account";
        report.refused(SINCE_6, "privilege-user", sentence, remedy);
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
    shares(report, &workers);
    let is_unit = |path: &str| path.starts_with("conf/systemd/pkguser-");
    if workers.contains_key("systemd-user-unit")
        && !package.members.iter().any(|member| is_unit(&member.head.path))
    {
        let sentence = "systemd-user-unit has no conf/systemd/pkguser-….service to start";
        report.refused(ONLY_7, "resource-unit", sentence, "add the unit, or leave it out");
    }
    if report.dsm == crate::dsm::Dsm::Five {
        let sentence = "DSM 5 knows no conf/resource and passes over it";
        report.advice(ALL, "resource", sentence, "do in the scripts what it was for");
    }
}

/// A share given to a user who is not the package's is given to nobody, without a word.
fn shares(report: &mut Report<'_>, workers: &serde_json::Map<String, Value>) {
    let package = report.package;
    let Some(wanted) = workers.get("data-share") else { return };
    let Some(shares) = wanted["shares"].as_array() else {
        let remedy = "write {\"shares\":[{\"name\":\"x\",\"permission\":{\"rw\":[\"USER\"]}}]}";
        report.refused(SINCE_6, "resource-share", "data-share lists no shares", remedy);
        return;
    };
    let privilege = package.content("conf/privilege").unwrap_or_default();
    let privilege: Value = serde_json::from_slice(privilege).unwrap_or_default();
    let user = privilege["username"].as_str().unwrap_or(package.info.package());
    for share in shares.iter().take(WORKER_FILES_MAX) {
        let lists = ["ro", "rw"].iter().filter_map(|how| share["permission"][how].as_array());
        let users: Vec<&str> = lists.flatten().filter_map(Value::as_str).collect();
        if !share["name"].is_string() {
            let remedy = "write {\"name\":\"x\",\"permission\":{\"rw\":[\"USER\"]}}";
            report.refused(SINCE_6, "resource-share", "a share has no name", remedy);
        } else if !users.is_empty() && !users.contains(&user) {
            let sentence = format!(
                "data-share gives `{}` to {}, not to the package's user {user}",
                share["name"].as_str().unwrap_or_default().chars().take(60).collect::<String>(),
                users.join(", ").chars().take(60).collect::<String>(),
            );
            let remedy = "name the user of conf/privilege, or the package's own name";
            report.advice(SINCE_6, "resource-share-user", sentence, remedy);
        }
    }
}
