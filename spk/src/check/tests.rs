//! The rules, each met by a package that breaks just it.

use super::{Weight, findings};
use crate::read::Package;
use crate::tarball::Tarball;
use md5::{Digest, Md5};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

/// A package to be broken in one place.
#[derive(Clone)]
struct Draft {
    info: BTreeMap<String, String>,
    members: BTreeMap<String, (u32, Vec<u8>)>,
    payload: BTreeMap<String, (u32, Vec<u8>)>,
    /// Folders with an entry of their own.
    folders: BTreeSet<String>,
    /// What follows the members, and the payload's files, as no honest tool writes it.
    raw_members: Vec<u8>,
    raw_payload: Vec<u8>,
    is_xz: bool,
}

/// A header with fields as they come; `bytes` of content belong behind it.
fn header(path: &str, kind: tar::EntryType, mode: u32, owner: u64, link: &str) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
    header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(owner);
    header.set_size(0);
    header.set_cksum();
    header.as_bytes().to_vec()
}

/// A picture of 64, 72 and 256 pixels.
static ICONS: std::sync::LazyLock<[Vec<u8>; 3]> =
    std::sync::LazyLock::new(|| [64, 72, 256].map(|at| crate::icon::plain().scaled(at).encode()));

/// An ELF file's first twenty bytes.
fn elf(bits: u8, machine: u16) -> Vec<u8> {
    let mut start = vec![0x7f, b'E', b'L', b'F', bits / 32, 1];
    start.resize(18, 0);
    start.extend(machine.to_le_bytes());
    start
}

impl Draft {
    /// A package nothing is wrong with, for DSM 5, 6 or 7.
    fn sound(major: u32) -> Self {
        let oldest = ["5.2-5644", "6.1-15047", "7.0-40000"][major as usize - 5];
        let mut draft = Self {
            info: BTreeMap::new(),
            members: BTreeMap::new(),
            payload: BTreeMap::new(),
            folders: BTreeSet::from(["scripts".into()]),
            raw_members: Vec::new(),
            raw_payload: Vec::new(),
            is_xz: false,
        };
        for (key, value) in [
            ("package", "demo"),
            ("version", "1.0-0001"),
            ("arch", "x86_64"),
            ("displayname", "Demo"),
            ("description", "Says hello."),
            ("maintainer", "Somebody"),
        ] {
            draft.info.insert(key.into(), value.into());
        }
        let key = if major == 5 { "firmware" } else { "os_min_ver" };
        draft.info.insert(key.into(), oldest.into());
        for script in crate::build::SCRIPTS {
            draft = draft.member(&format!("scripts/{script}"), 0o755, b"#!/bin/sh\nexit 0\n");
        }
        let [small, middle, large] = &*ICONS;
        let small = if major == 7 { small } else { middle };
        draft = draft.member("PACKAGE_ICON.PNG", 0o644, small);
        draft = draft.member("PACKAGE_ICON_256.PNG", 0o644, large);
        if major == 7 {
            draft = draft.member("conf/privilege", 0o644, br#"{"defaults":{"run-as":"package"}}"#);
            draft = draft.folder("conf");
        }
        draft.payload("bin/hello", 0o755, &elf(64, 62))
    }

    fn member(mut self, path: &str, mode: u32, content: &[u8]) -> Self {
        self.members.insert(path.into(), (mode, content.to_vec()));
        self
    }

    fn folder(mut self, path: &str) -> Self {
        self.folders.insert(path.into());
        self
    }

    fn renamed(mut self, old: &str, new: &str) -> Self {
        let member = self.members.remove(old).unwrap();
        // The `tar` crate takes `./` off, as ours never writes it.
        let mut raw = header(new, tar::EntryType::Regular, member.0, 0, "");
        let mut head = tar::Header::new_ustar();
        head.as_mut_bytes().copy_from_slice(&raw);
        head.set_size(member.1.len() as u64);
        head.set_cksum();
        raw = head.as_bytes().to_vec();
        raw.extend(&member.1);
        raw.resize(raw.len().next_multiple_of(512), 0);
        self.raw_members = raw;
        self
    }

    fn raw(mut self, kind: tar::EntryType, path: &str, content: &str) -> Self {
        let mut head = tar::Header::new_ustar();
        head.as_mut_bytes().copy_from_slice(&header(path, kind, 0o644, 0, "x"));
        head.set_size(content.len() as u64);
        head.set_cksum();
        self.raw_members.extend(head.as_bytes());
        self.raw_members.extend(content.as_bytes());
        let whole = self.raw_members.len().next_multiple_of(512);
        self.raw_members.resize(whole, 0);
        if kind == tar::EntryType::XHeader {
            self = self.raw_owner("NOTE", 0);
        }
        self
    }

    fn raw_owner(mut self, path: &str, owner: u64) -> Self {
        self.raw_members.extend(header(path, tar::EntryType::Regular, 0o644, owner, ""));
        self
    }

    fn payload(mut self, path: &str, mode: u32, content: &[u8]) -> Self {
        self.payload.insert(path.into(), (mode, content.to_vec()));
        self
    }

    fn info(mut self, key: &str, value: &str) -> Self {
        self.info.insert(key.into(), value.into());
        self
    }

    fn without(mut self, path: &str) -> Self {
        assert!(self.members.remove(path).is_some() || self.info.remove(path).is_some(), "{path}");
        self
    }

    fn spk(mut self) -> Vec<u8> {
        let mut tarball = Tarball::new(self.raw_payload);
        for (path, (mode, content)) in &self.payload {
            let bytes = content.len() as u64;
            tarball.file(path, *mode, bytes, &mut &content[..]).unwrap();
        }
        let plain = tarball.finish().unwrap();
        let packed = if self.is_xz {
            let mut xz = xz2::write::XzEncoder::new(Vec::new(), 0);
            xz.write_all(&plain).unwrap();
            xz.finish().unwrap()
        } else {
            let fast = flate2::Compression::fast();
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), fast);
            gzip.write_all(&plain).unwrap();
            gzip.finish().unwrap()
        };
        let md5 = hex::encode(Md5::digest(&packed));
        self.info.entry("checksum".into()).or_insert(md5);
        self.info.retain(|_, value| value != "-");
        let lines = self.info.iter().map(|(key, value)| format!("{key}=\"{value}\"\n"));
        self.members.insert("INFO".into(), (0o644, lines.collect::<String>().into_bytes()));
        self.members.insert("package.tgz".into(), (0o644, packed));
        let mut tarball = Tarball::new(Vec::new());
        for folder in &self.folders {
            tarball.folder(folder).unwrap();
        }
        for (path, (mode, content)) in &self.members {
            let bytes = content.len() as u64;
            tarball.file(path, *mode, bytes, &mut &content[..]).unwrap();
        }
        let mut whole = tarball.finish().unwrap();
        // Before the two empty blocks at the end and their padding.
        let end = whole.chunks(512).rposition(|block| block.iter().any(|byte| *byte != 0));
        whole.truncate((end.unwrap() + 1) * 512);
        whole.extend(&self.raw_members);
        whole.extend([0; 1024]);
        whole
    }

    /// Every finding as `code` or, when DSM refuses, `code!`.
    fn codes(self) -> Vec<String> {
        let package = Package::read(&self.spk()[..]).unwrap();
        let found = findings(&package);
        for finding in &found {
            assert!(!finding.remedy.is_empty() && !finding.sentence.is_empty());
        }
        let shown = |weight| if weight == Weight::Refused { "!" } else { "" };
        found.iter().map(|f| format!("{}{}", f.code, shown(f.weight))).collect()
    }
}

/// A package that breaks one rule, and the rule's name; with `!` when DSM refuses it.
type Row = (&'static str, Draft);

fn seven() -> Draft {
    Draft::sound(7)
}

fn file(path: &str, content: &str) -> Draft {
    seven().member(path, 0o644, content.as_bytes())
}

#[test]
fn a_sound_package_is_left_alone_on_every_dsm() {
    for major in [5, 6, 7] {
        assert_eq!(Draft::sound(major).codes(), [""; 0], "DSM {major}");
    }
    let icon = crate::icon::plain();
    for draft in [
        seven().info("arch", "apollolake avoton"),
        seven().info("arch", "noarch"),
        // DSM 7 takes 72 pixels too.
        seven().member("PACKAGE_ICON.PNG", 0o644, &icon.scaled(72).encode()),
        file("conf/resource", r#"{"usr-local-linker":{"bin":["bin/hello"]}}"#),
        file("WIZARD_UIFILES/install_uifile", "[]").folder("WIZARD_UIFILES"),
        seven().info("dsmappname", "SYNO.SDS.Demo").payload(
            "ui/config",
            0o644,
            br#"{".url":{"SYNO.SDS.Demo":{"type":"url"}}}"#,
        ),
        seven().info("install_dep_packages", "WebStation>=3.0.0-0214:Node.js_v18"),
        file("conf/PKG_DEPS", "# ours\n[WebStation]\npkg_min_ver=3.0\n"),
        seven().info("install_dep_services", "nginx.service"),
        file(
            "conf/resource",
            r#"{"data-share":{"shares":[{"name":"x","permission":{"rw":["demo"]}}]}}"#,
        ),
    ] {
        assert_eq!(draft.codes(), [""; 0]);
    }
}

fn rows_of_info() -> Vec<Row> {
    let arm = seven().payload("bin/hello", 0o755, &elf(32, 40));
    vec![
        ("version!", seven().info("version", "1.0-beta")),
        ("version!", seven().info("version", "1.0-2147483648")),
        ("version", Draft::sound(6).info("version", "1.0-beta")),
        ("os-min-ver!", seven().without("os_min_ver")),
        ("os-min-ver!", seven().info("os_min_ver", "7.0")),
        ("os-min-ver!", seven().info("os_min_ver", "7.0-39999")),
        ("os-min-ver!", seven().info("os_min_ver", "8.0-90000")),
        ("firmware!", seven().info("firmware", "7.0-40000")),
        ("os-max-ver", seven().info("os_max_ver", "7.1-42661")),
        ("os-max-below-min!", seven().info("os_max_ver", "6.2-25556")),
        ("info-key-missing!", seven().without("maintainer")),
        ("info-key-missing!", seven().info("description", " ")),
        ("info-key-missing", Draft::sound(6).without("maintainer")),
        ("displayname-missing", seven().without("displayname")),
        ("package-name", seven().info("package", "Hello World")),
        ("checksum!", seven().info("checksum", "00000000000000000000000000000000")),
        ("checksum-missing", seven().info("checksum", "-")),
        ("extractsize", seven().info("extractsize", "50000000")),
        ("extractsize", seven().info("extractsize", "much")),
        ("not-yes-or-no", seven().info("ctl_stop", "true")),
        ("info-escape", seven().info("description", "C:\\x")),
        ("arch-unknown", seven().info("arch", "x86_64 sparc")),
        ("arch-armv7-alone", arm.info("arch", "armv7")),
        ("platform-gone", seven().info("arch", "x86")),
        ("adminport!", seven().info("adminport", "80000")),
        ("adminprotocol", seven().info("adminprotocol", "gopher")),
        ("dependency!", seven().info("install_dep_packages", "WebStation, Node.js")),
        ("dependency!", seven().info("install_conflict_packages", "../x")),
        ("dependency-file!", file("conf/PKG_DEPS", "WebStation\n")),
        ("dependency-file!", file("conf/PKG_CONX", "pkg_min_ver=1\n[X]\n")),
        ("dependency-service", seven().info("install_dep_services", "apache-web")),
        ("language", seven().info("description_english", "Says hello.")),
        ("beta", seven().info("beta", "yes")),
        (
            "silent-wizard",
            file("WIZARD_UIFILES/install_uifile", "[]")
                .folder("WIZARD_UIFILES")
                .info("silent_install", "yes"),
        ),
        ("conf-folder", Draft::sound(5).member("conf/PKG_DEPS", 0o644, b"[a]\n").folder("conf")),
    ]
}

fn rows_of_scripts() -> Vec<Row> {
    let text = b"#!/bin/sh\nexit 0\n";
    vec![
        ("script-missing!", seven().without("scripts/preupgrade")),
        ("script-missing", Draft::sound(6).without("scripts/preupgrade")),
        ("script-missing!", Draft::sound(6).without("scripts/start-stop-status")),
        ("script-missing", seven().without("scripts/preinst")),
        ("script-not-executable!", seven().member("scripts/preinst", 0o644, text)),
        ("script-shebang!", seven().member("scripts/preinst", 0o755, b"exit 0\n")),
        ("script-line-ends!", seven().member("scripts/preinst", 0o755, b"#!/bin/sh\r\nexit 0\r\n")),
        ("script-bash!", Draft::sound(5).member("scripts/preinst", 0o755, b"#!/bin/bash\n")),
        ("scripts-folder", Draft { folders: ["conf".into()].into(), ..seven() }),
    ]
}

fn rows_of_rights() -> Vec<Row> {
    let privilege = |text: &str| file("conf/privilege", text);
    let package = r#"{"defaults":{"run-as":"package"}"#;
    let resource = |text: &str| file("conf/resource", text);
    vec![
        ("privilege!", seven().without("conf/privilege")),
        ("privilege!", privilege("{")),
        ("privilege!", privilege("{}")),
        ("privilege!", privilege(r#"{"defaults":{"run-as":"system"}}"#)),
        ("privilege-root!", privilege(r#"{"defaults":{"run-as":"root"}}"#)),
        ("privilege-section!", privilege(&format!("{package},\"ctrl-script\":[]}}"))),
        ("privilege-section!", privilege(&format!("{package},\"executable\":[]}}"))),
        ("privilege-tool!", privilege(&format!(r#"{package},"tool":[{{"user":"root"}}]}}"#))),
        (
            "privilege-tool!",
            privilege(&format!(
                r#"{package},"tool":[{{"relpath":"bin/hello","user":"package",{}}}]}}"#,
                r#""capabilities":"x""#
            )),
        ),
        (
            "privilege-file!",
            privilege(&format!(
                r#"{package},"tool":[{{"relpath":"bin/gone","user":"package"}}]}}"#
            )),
        ),
        ("privilege-user!", privilege(&format!(r#"{package},"username":"admin"}}"#))),
        (
            "privilege-group!",
            privilege(&format!(r#"{package},"join-groupname":"administrators"}}"#)),
        ),
        ("resource!", resource("[]")),
        (
            "resource",
            Draft::sound(5)
                .member("conf/resource", 0o644, b"{}")
                .folder("conf")
                .info("support_conf_folder", "yes"),
        ),
        ("resource-worker", resource(r#"{"magic":{}}"#)),
        ("resource-restricted!", resource(r#"{"sysnotify":{}}"#)),
        ("resource-file!", resource(r#"{"usr-local-linker":{"bin":["bin/gone"]}}"#)),
        ("resource-file!", resource(r#"{"port-config":{"protocol-file":"x.sc"}}"#)),
        ("resource-unit!", resource(r#"{"systemd-user-unit":{}}"#)),
        ("resource-share!", resource(r#"{"data-share":{}}"#)),
        ("resource-share!", resource(r#"{"data-share":{"shares":[{}]}}"#)),
        (
            "resource-share-user",
            resource(r#"{"data-share":{"shares":[{"name":"x","permission":{"rw":["sc-demo"]}}]}}"#),
        ),
    ]
}

fn rows_of_members() -> Vec<Row> {
    let icon = crate::icon::plain();
    let wizard = |name: &str, mode, text: &[u8]| {
        seven().member(&format!("WIZARD_UIFILES/{name}"), mode, text).folder("WIZARD_UIFILES")
    };
    let asks = |item: &str| {
        let text = format!(r#"[{{"step_title":"x","items":[{item}]}}]"#);
        wizard("install_uifile", 0o644, text.as_bytes())
    };
    vec![
        ("icon!", seven().without("PACKAGE_ICON.PNG")),
        ("icon", seven().member("PACKAGE_ICON.PNG", 0o644, b"GIF89a")),
        ("icon-256", seven().without("PACKAGE_ICON_256.PNG")),
        ("icon-256", seven().member("PACKAGE_ICON_256.PNG", 0o644, b"GIF89a")),
        ("icon-size", seven().member("PACKAGE_ICON.PNG", 0o644, &icon.encode())),
        ("icon-size", Draft::sound(6).member("PACKAGE_ICON.PNG", 0o644, &icon.scaled(64).encode())),
        ("wizard-json!", wizard("install_uifile", 0o644, b"[{}],")),
        ("wizard-json!", wizard("install_uifile_ger", 0o644, b"{}")),
        ("wizard-not-executable!", wizard("upgrade_uifile.sh", 0o644, b"#!/bin/sh\n")),
        ("wizard-shebang!", wizard("upgrade_uifile.sh", 0o755, b"echo\n")),
        ("wizard-type", asks(r#"{"type":"slider","subitems":[{"key":"a"}]}"#)),
        ("wizard-key", asks(r#"{"type":"textfield","subitems":[{"desc":"a"}]}"#)),
        ("folder-entry", Draft { folders: ["scripts".into()].into(), ..seven() }),
        ("litter!", seven().member("._INFO", 0o644, b"")),
        ("dot-slash", seven().renamed("PACKAGE_ICON.PNG", "./PACKAGE_ICON.PNG")),
        ("not-ustar", seven().raw(tar::EntryType::XHeader, "PaxHeaders/x", "11 mtime=1\n")),
        ("owner", seven().raw_owner("NOTE", 1026)),
        ("member-kind!", seven().raw(tar::EntryType::Symlink, "NOTE", "")),
        ("license-text", seven().member("LICENSE", 0o644, b"\xff\xfe")),
        ("signature!", Draft::sound(6).member("syno_signature.asc", 0o644, b"<html>")),
        (
            "signature-place",
            Draft::sound(6)
                .member("syno_signature.asc", 0o644, b"-----BEGIN PGP SIGNATURE-----")
                .raw_owner("NOTE", 0),
        ),
    ]
}

fn rows_of_the_payload() -> Vec<Row> {
    let mut empty = seven();
    empty.payload.clear();
    let with = |raw: Vec<u8>| Draft { raw_payload: raw, ..seven() };
    let header = |path, kind, mode| header(path, kind, mode, 0, "/etc/passwd");
    vec![
        ("wrong-processor!", seven().payload("bin/hello", 0o755, &elf(32, 40))),
        ("wrong-processor!", seven().info("arch", "armv8")),
        ("setuid", seven().payload("bin/hello", 0o4755, &elf(64, 62))),
        ("program-mode", seven().payload("bin/hello", 0o644, &elf(64, 62))),
        ("folder-mode!", with(header("data/", tar::EntryType::Directory, 0o644))),
        ("link-outside", with(header("data", tar::EntryType::Symlink, 0o777))),
        ("payload-kind!", with(header("data", tar::EntryType::Fifo, 0o644))),
        ("payload-folder", empty.clone().payload("demo/bin/hello", 0o755, &elf(64, 62))),
        ("payload-empty", empty),
        ("payload-xz!", Draft { is_xz: true, ..Draft::sound(5) }),
        ("dsmuidir", seven().info("dsmuidir", "ui")),
        ("dsmappname", seven().info("dsmappname", "SYNO.SDS.Demo")),
    ]
}

/// Every reason, a row each.
fn rows() -> Vec<Row> {
    let parts = [
        rows_of_info(),
        rows_of_scripts(),
        rows_of_rights(),
        rows_of_members(),
        rows_of_the_payload(),
    ];
    parts.into_iter().flatten().collect()
}

#[test]
fn each_reason_dsm_has_is_found_in_a_package_that_gives_just_it() {
    let wrong: Vec<_> = rows()
        .into_iter()
        .map(|(expected, draft)| (expected, draft.codes()))
        .filter(|(expected, codes)| codes[..] != [*expected])
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_rule_is_without_a_package_that_breaks_it() {
    let sources = [
        include_str!("conf.rs"),
        include_str!("info.rs"),
        include_str!("keys.rs"),
        include_str!("members.rs"),
        include_str!("payload.rs"),
    ];
    let mut rules = BTreeSet::new();
    for source in sources {
        for (at, call) in
            ["report.refused(", "report.advice("].iter().flat_map(|call| source.match_indices(call))
        {
            let arguments = source[at + call.len()..].split_once('"').expect("a code").1;
            rules.insert(arguments.split_once('"').expect("its end").0);
        }
    }
    let tried: BTreeSet<&str> = rows().iter().map(|(code, _)| code.trim_end_matches('!')).collect();
    assert!(rules.len() > 50, "{rules:?}");
    let missing: Vec<_> = rules.difference(&tried).collect();
    assert!(missing.is_empty(), "no row for {missing:?}");
}

#[test]
fn a_key_that_says_nothing_is_no_fault() {
    for key in ["adminport", "install_dep_packages", "os_max_ver", "extractsize"] {
        assert_eq!(seven().info(key, "").codes(), [""; 0], "{key}");
    }
}
