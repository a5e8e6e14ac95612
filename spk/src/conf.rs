//! `conf/privilege`, `conf/resource` and the firewall's port file, from a manifest.

use crate::dsm::Dsm;
use crate::manifest::Manifest;
use serde_json::{Map, Value, json};

/// `conf/privilege`: required by DSM 7, where an unsigned package may ask for nothing but its own
/// user; possible on DSM 6; unknown to DSM 5.
pub fn privilege(manifest: &Manifest, dsm: Dsm) -> Option<String> {
    let wishes = &manifest.privilege;
    let is_own_user = match dsm {
        Dsm::Five => return None,
        Dsm::Six => wishes.own_user_on_6,
        Dsm::Seven => true,
    };
    if !is_own_user {
        return None;
    }
    let mut privilege = json!({ "defaults": { "run-as": "package" } });
    let names = [
        ("username", &wishes.username),
        ("groupname", &wishes.groupname),
        ("join-groupname", &wishes.join_group),
    ];
    for (key, name) in names {
        if let Some(name) = name {
            privilege[key] = json!(name);
        }
    }
    if dsm == Dsm::Six && !wishes.root_scripts_on_6.is_empty() {
        let scripts = wishes.root_scripts_on_6.iter();
        let actions = scripts.map(|script| json!({ "action": script, "run-as": "root" }));
        privilege["ctrl-script"] = actions.collect();
    }
    Some(format!("{privilege:#}\n"))
}

/// `conf/resource`: the manifest's own workers, and those its tables stand for. DSM 5 has none.
pub fn resource(manifest: &Manifest, dsm: Dsm) -> Option<String> {
    if dsm == Dsm::Five {
        return None;
    }
    let mut workers: Map<String, Value> =
        manifest.resources.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    if !manifest.firewall.is_empty() {
        let file = json!({ "protocol-file": port_file_path(manifest) });
        workers.insert("port-config".into(), file);
    }
    if !manifest.shares.is_empty() {
        // A name that is no user's would give the share to nobody, without a word.
        let user = manifest.username();
        let shares = manifest.shares.iter().map(|share| {
            let how = if share.read_only { "ro" } else { "rw" };
            json!({ "name": share.name, "permission": { how: [user] } })
        });
        workers.insert("data-share".into(), json!({ "shares": shares.collect::<Vec<_>>() }));
    }
    (!workers.is_empty()).then(|| format!("{:#}\n", Value::Object(workers)))
}

/// Where the firewall's port file is, relative to `target/`.
pub fn port_file_path(manifest: &Manifest) -> String {
    format!("conf/{}.sc", manifest.package.name)
}

/// The port file: names for the firewall's list of rules. It opens nothing.
///
/// Whether one section may name ports of several protocols is not documented, so each protocol
/// has a section of its own.
pub fn port_file(manifest: &Manifest) -> Option<String> {
    let mut sections = Vec::new();
    for entry in &manifest.firewall {
        let description = entry.description.as_ref().unwrap_or(&entry.title);
        let forward = if entry.forward { "yes" } else { "no" };
        for (at, (protocol, ports)) in by_protocol(&entry.ports).into_iter().enumerate() {
            let words = protocol.replace(',', "_");
            let suffix = if at == 0 { String::new() } else { format!("_{words}") };
            let (id, title, ports) = (&entry.id, &entry.title, ports.join(","));
            sections.push(format!(
                "[{id}{suffix}]\ntitle=\"{title}\"\ndesc=\"{description}\"\n\
                 port_forward=\"{forward}\"\ndst.ports=\"{ports}/{protocol}\"\n"
            ));
        }
    }
    (!sections.is_empty()).then(|| sections.join("\n"))
}

/// `80/tcp`, `53/udp`, `443/tcp` as tcp: 80, 443 and udp: 53.
fn by_protocol(ports: &[String]) -> Vec<(&str, Vec<&str>)> {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for entry in ports {
        let Some((numbers, protocol)) = entry.rsplit_once('/') else { continue };
        match groups.iter_mut().find(|(known, _)| *known == protocol) {
            Some((_, all)) => all.push(numbers),
            None => groups.push((protocol, vec![numbers])),
        }
    }
    groups
}
