//! What a manifest describes beyond files: variants, downloads, wizards, ports, shares, rights.

use serde_json::{Value, json};
use spk::build::{Sources, build};
use spk::dsm::Dsm;
use spk::manifest::Manifest;
use spk::platform::Target;
use spk::read::Package;
use std::fs;
use std::path::Path;

/// As the three CrashPlan packages were: one set of files, three names, an upstream archive that
/// may not be passed on, and a question which version the server wants.
const THREE_IN_ONE: &str = r#"
[package]
name = "vault"
version = "4.8.0-0031"
displayname = "Vault"
description = "Backs up."
maintainer = "Somebody"
license = "EULA.txt"
changelog = "Starts again."
targets = ["x86_64", "armhf"]
[package.changelogs]
ger = "Startet wieder."
[dsm]
build = [5, 6, 7]
[[payload]]
from = "files/{package}"
to = "share"
[[download]]
urls = ["https://example.org/vault_4.8.0.tgz", "http://example.com/vault_4.8.0.tgz"]
file = "vault_4.8.0.tgz"
bytes = 1000
sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
to = "upstream"
unpack = true
[daemon]
command = ["{target}/bin/vault"]
environment = { EDITION = "home" }
[scripts]
folder = "scripts"
[icon]
file = "icon.png"
[privilege]
username = "vaultuser"
join_group = "http"
own_user_on_6 = true
root_scripts_on_6 = ["postinst"]
[[share]]
name = "{{wizard_share}}"
[[share]]
name = "photo"
read_only = true
[[firewall]]
id = "vault_friends"
title = "Vault: friends"
ports = ["4242/tcp", "4244/tcp", "4242/udp"]
forward = true
[resources.usr-local-linker]
bin = ["share/vault"]

[[wizard.install]]
title = { enu = "Settings", ger = "Einstellungen" }
[[wizard.install.ask]]
kind = "text"
question = { enu = "Which shared folder?", ger = "Welcher gemeinsame Ordner?" }
key = "wizard_share"
default = "backup"
pattern = "[A-Za-z0-9_-]+"
complaint = "letters and digits"
[[wizard.install.ask]]
kind = "note"
question = "Nothing else."
[[wizard.uninstall]]
title = "Data"
[[wizard.uninstall.ask]]
kind = "choice"
question = "What of the data?"
options = [
    { key = "wizard_keep_data", label = "keep" },
    { key = "wizard_delete", label = "delete" },
]

[[variant]]
package.name = "vault"

[[variant]]
package = { name = "vault-pro", displayname = "Vault PRO" }
daemon.environment.EDITION = "pro"

[[variant]]
package = { name = "vault-proe", displayname = "Vault PROe", targets = ["x86_64"] }
[[variant.download]]
urls = ["https://example.org/vault_3.7.0.tgz"]
file = "vault_3.7.0.tgz"
bytes = 900
sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
to = "upstream"
when = "wizard_ver=3.7.0"
otherwise = true
[[variant.download]]
urls = ["https://example.org/vault_3.6.4.tgz"]
file = "vault_3.6.4.tgz"
bytes = 800
sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
to = "upstream"
when = "wizard_ver=3.6.4"
targets = ["x86_64"]
[variant.wizard]
upgrade_as_install = true
[[variant.wizard.install]]
title = "Version"
[[variant.wizard.install.ask]]
kind = "list"
key = "wizard_ver"
question = "Which version does your server need?"
options = [{ value = "3.7.0", label = "3.7.0 (new)", default = true }, { label = "3.6.4" }]
[[variant.wizard.install.ask]]
kind = "password"
key = "wizard_password"
question = "Password"
label = "of the server"
optional = true
"#;

fn workshop() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, content: &[u8]| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    write("scripts/start-stop-status", b"#!/bin/sh\nexit 0\n");
    write("EULA.txt", b"Be kind.\n");
    write("icon.png", &spk::icon::plain().encode());
    for name in ["vault", "vault-pro", "vault-proe"] {
        write(&format!("files/{name}/vault"), name.as_bytes());
    }
    folder
}

fn packages(text: &str) -> Vec<Manifest> {
    Manifest::parse_all(text).unwrap_or_else(|error| panic!("{error}: {}", error.remedy()))
}

fn built(folder: &Path, manifest: &Manifest, target: Target, dsm: Dsm) -> Package {
    let sources = Sources { manifest, folder, programs: folder };
    let path = build(&sources, target, &[dsm], &folder.join("out")).unwrap().remove(0).path;
    let package = Package::open(&path).unwrap();
    assert_eq!(spk::check::findings(&package), []);
    package
}

fn json_of(package: &Package, path: &str) -> Value {
    let content = package.content(path).unwrap_or_else(|| panic!("there is no {path}"));
    serde_json::from_slice(content).unwrap()
}

/// A file of the payload, unpacked.
fn payload_file(folder: &Path, package: &Package, path: &str) -> String {
    let spk = fs::read_dir(folder.join("out")).unwrap().flatten().map(|entry| entry.path());
    let spk = spk.into_iter().find(|path| Package::open(path).unwrap().md5 == package.md5).unwrap();
    let into = tempfile::tempdir().unwrap();
    let (outer, target) = (into.path().join("outer"), into.path().join("target"));
    spk::extract::package(fs::File::open(spk).unwrap(), &outer).unwrap();
    let packed = fs::File::open(outer.join("package.tgz")).unwrap();
    spk::extract::payload(packed, &target).unwrap();
    fs::read_to_string(target.join(path)).unwrap()
}

#[test]
fn three_packages_come_from_one_manifest_and_each_has_its_own_files_and_words() {
    let folder = workshop();
    let manifests = packages(THREE_IN_ONE);
    let names: Vec<&str> = manifests.iter().map(|one| one.package.name.as_str()).collect();
    assert_eq!(names, ["vault", "vault-pro", "vault-proe"]);
    let titles: Vec<String> = manifests
        .iter()
        .map(|one| {
            let package = built(folder.path(), one, Target::X86_64, Dsm::Seven);
            let file = payload_file(folder.path(), &package, "share/vault");
            assert_eq!(file, one.package.name, "{{package}} in payload.from");
            package.info.displayname("enu").to_owned()
        })
        .collect();
    assert_eq!(titles, ["Vault", "Vault PRO", "Vault PROe"]);
    let daemon = |one: &Manifest| one.daemon.as_ref().unwrap()["environment"].to_string();
    assert!(daemon(&manifests[0]).contains("home") && daemon(&manifests[1]).contains("pro"));
    assert_eq!((manifests[1].targets.len(), manifests[2].targets.len()), (2, 1));
    let refused = Manifest::parse(THREE_IN_ONE).unwrap_err().to_string();
    assert!(refused.contains("several packages"), "{refused}");
}

#[test]
fn a_payload_the_nas_must_fetch_is_described_with_size_and_checksum() {
    let folder = workshop();
    let manifests = packages(THREE_IN_ONE);
    let package = built(folder.path(), &manifests[0], Target::Armhf, Dsm::Seven);
    assert!(package.license().is_some(), "the licence is shown before anything is fetched");
    let text = payload_file(folder.path(), &package, "conf/download.toml");
    let file: toml::Table = toml::from_str(&text).unwrap();
    let expected = toml::from_str::<toml::Table>(
        r#"[[download]]
        urls = ["https://example.org/vault_4.8.0.tgz", "http://example.com/vault_4.8.0.tgz"]
        file = "vault_4.8.0.tgz"
        bytes = 1000
        sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        to = "upstream"
        unpack = true
        share = "public"
        otherwise = false"#,
    );
    assert_eq!(file, expected.unwrap());
    let package = built(folder.path(), &manifests[2], Target::X86_64, Dsm::Six);
    let text = payload_file(folder.path(), &package, "conf/download.toml");
    assert!(text.contains("when = \"wizard_ver=3.7.0\"\notherwise = true"), "{text}");
    assert_eq!(text.matches("[[download]]").count(), 2);
}

#[test]
fn questions_become_wizards_in_every_language_they_are_written_in() {
    let folder = workshop();
    let manifests = packages(THREE_IN_ONE);
    let seven = built(folder.path(), &manifests[0], Target::X86_64, Dsm::Seven);
    let english = json_of(&seven, "WIZARD_UIFILES/install_uifile");
    let expected = json!([{
        "step_title": "Settings",
        "invalid_next_disabled": true,
        "invalid_next_disabled_v2": true,
        "items": [
            { "type": "textfield", "desc": "Which shared folder?", "subitems": [{
                "key": "wizard_share",
                "defaultValue": "backup",
                "validator": {
                    "allowBlank": false,
                    "regex": {
                        "expr": "/^(?:[A-Za-z0-9_-]+)$/",
                        "errorText": "letters and digits"
                    }
                }
            }] },
            { "desc": "Nothing else." }
        ]
    }]);
    assert_eq!(english, expected);
    let german = json_of(&seven, "WIZARD_UIFILES/install_uifile_ger");
    assert_eq!(german[0]["step_title"], "Einstellungen");
    assert_eq!(german[0]["items"][1]["desc"], "Nothing else.", "what was not translated");
    let removal = json_of(&seven, "WIZARD_UIFILES/uninstall_uifile");
    let first = &removal[0]["items"][0]["subitems"][0];
    assert_eq!(first["defaultValue"], true, "one of them must be chosen");
    let five = built(folder.path(), &manifests[0], Target::X86_64, Dsm::Five);
    let step = &json_of(&five, "WIZARD_UIFILES/install_uifile")[0];
    assert!(step.get("invalid_next_disabled_v2").is_none(), "DSM 7 alone knows it");

    // A choice among versions, asked again when it is upgraded.
    let proe = built(folder.path(), &manifests[2], Target::X86_64, Dsm::Seven);
    let asked = json_of(&proe, "WIZARD_UIFILES/upgrade_uifile");
    assert_eq!(asked, json_of(&proe, "WIZARD_UIFILES/install_uifile"));
    let list = &asked[0]["items"][0];
    assert_eq!(list["type"], "combobox");
    assert_eq!(list["subitems"][0]["defaultValue"], "3.7.0");
    let rows = json!([["3.7.0", "3.7.0 (new)"], ["3.6.4", "3.6.4"]]);
    assert_eq!(list["subitems"][0]["store"]["data"], rows);
    assert_eq!(asked[0]["items"][1]["type"], "password");
}

#[test]
fn rights_shares_and_ports_are_asked_of_each_dsm_in_its_own_words() {
    let folder = workshop();
    let manifest = packages(THREE_IN_ONE).remove(0);
    let package = |dsm| built(folder.path(), &manifest, Target::X86_64, dsm);
    let (five, six, seven) = (package(Dsm::Five), package(Dsm::Six), package(Dsm::Seven));
    let names = json!({
        "defaults": { "run-as": "package" }, "username": "vaultuser", "join-groupname": "http"
    });
    assert_eq!(json_of(&seven, "conf/privilege"), names);
    let mut with_root = names;
    with_root["ctrl-script"] = json!([{ "action": "postinst", "run-as": "root" }]);
    assert_eq!(json_of(&six, "conf/privilege"), with_root);
    assert!(five.member("conf/privilege").is_none() && five.member("conf/resource").is_none());
    let resource = json_of(&seven, "conf/resource");
    let expected = json!({
        "data-share": { "shares": [
            { "name": "{{wizard_share}}", "permission": { "rw": ["vaultuser"] } },
            { "name": "photo", "permission": { "ro": ["vaultuser"] } },
        ] },
        "port-config": { "protocol-file": "conf/vault.sc" },
        "usr-local-linker": { "bin": ["share/vault"] },
    });
    assert_eq!(resource, expected);
    assert_eq!(
        payload_file(folder.path(), &seven, "conf/vault.sc"),
        "[vault_friends]\ntitle=\"Vault: friends\"\ndesc=\"Vault: friends\"\n\
         port_forward=\"yes\"\ndst.ports=\"4242,4244/tcp\"\n\n\
         [vault_friends_udp]\ntitle=\"Vault: friends\"\ndesc=\"Vault: friends\"\n\
         port_forward=\"yes\"\ndst.ports=\"4242/udp\"\n"
    );
    assert_eq!(seven.info.get("changelog"), Some("Starts again."));
    assert_eq!(seven.info.get("changelog_ger"), Some("Startet wieder."));
}

#[test]
fn what_cannot_be_meant_is_refused_with_what_to_write_instead() {
    for (old, new, expected) in [
        ("package.name = \"vault\"\n", "package.displayname = \"x\"\n", "no name of its own"),
        ("name = \"vault-pro\",", "name = \"vault\",", "two have one name"),
        ("name = \"vault-pro\",", "name = \"vault-pro\", colour = \"red\",", "variant `vault-pro`"),
        ("bytes = 1000", "bytes = 0", "download.bytes"),
        ("\"https://example.org/vault_4.8.0.tgz\"", "\"ftp://example.org/x\"", "no web address"),
        ("sha256 = \"e3", "sha256 = \"x3", "no SHA-256"),
        ("file = \"vault_4.8.0.tgz\"", "file = \"../x\"", "download.file"),
        ("to = \"upstream\"\nunpack", "to = \"../up\"\nunpack", "download.to"),
        ("when = \"wizard_ver=3.7.0\"", "when = \"wizard_other\"", "no page of the wizard"),
        ("unpack = true", "otherwise = true", "always fetched"),
        ("key = \"wizard_share\"", "key = \"PATH\"", "one that is taken"),
        ("key = \"wizard_share\"", "key = \"LD_PRELOAD_X\"", "one that is taken"),
        ("key = \"wizard_share\"", "key = \"a;b\"", "no shell variable"),
        ("key = \"wizard_delete\"", "key = \"wizard_keep_data\"", "two questions with one key"),
        ("kind = \"note\"", "kind = \"text\"", "a field has a key"),
        ("kind = \"choice\"", "kind = \"list\"", "a list has one key"),
        ("ger = \"Einstellungen\"", "german = \"x\"", "no DSM language"),
        ("root_scripts_on_6 = [\"postinst\"]", "root_scripts_on_6 = [\"x\"]", "no script of DSM's"),
        ("join_group = \"http\"", "join_group = \"administrators\"", "join the administrators"),
        ("4242/tcp", "70000/tcp", "no port"),
        ("id = \"vault_friends\"", "id = \"a]b\"", "firewall.id"),
        ("name = \"photo\"", "name = \"../photo\"", "share.name"),
        ("[resources.usr-local-linker]", "[resources.port-config]", "writes this worker"),
    ] {
        assert!(THREE_IN_ONE.contains(old), "{old}");
        let refused = Manifest::parse_all(&THREE_IN_ONE.replacen(old, new, 1));
        let Err(refused) = refused else { panic!("{new} is accepted") };
        assert!(refused.to_string().contains(expected), "{new}: {refused}");
        assert!(!refused.remedy().is_empty());
    }
}
