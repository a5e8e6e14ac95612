//! The rules, each met by a package that breaks just it.

use super::{Weight, findings};
use crate::read::Package;
use crate::tarball::Tarball;
use md5::{Digest, Md5};
use std::collections::BTreeMap;
use std::io::Write;

/// A package to be broken in one place.
#[derive(Clone)]
struct Draft {
    info: BTreeMap<String, String>,
    members: BTreeMap<String, (u32, Vec<u8>)>,
    payload: BTreeMap<String, (u32, Vec<u8>)>,
    scripts_folder: bool,
}

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
            scripts_folder: true,
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
        let icon = crate::icon::plain();
        let small = if major == 7 { 64 } else { 72 };
        draft = draft.member("PACKAGE_ICON.PNG", 0o644, &icon.scaled(small).encode());
        draft = draft.member("PACKAGE_ICON_256.PNG", 0o644, &icon.encode());
        if major == 7 {
            draft = draft.member("conf/privilege", 0o644, br#"{"defaults":{"run-as":"package"}}"#);
        }
        draft.payload("bin/hello", 0o755, &elf(64, 62))
    }

    fn member(mut self, path: &str, mode: u32, content: &[u8]) -> Self {
        self.members.insert(path.into(), (mode, content.to_vec()));
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
        let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let mut tarball = Tarball::new(gzip);
        for (path, (mode, content)) in &self.payload {
            let bytes = content.len() as u64;
            tarball.file(path, *mode, bytes, &mut &content[..]).unwrap();
        }
        let mut gzip = tarball.finish().unwrap();
        gzip.flush().unwrap();
        let packed = gzip.finish().unwrap();
        let md5 = hex::encode(Md5::digest(&packed));
        self.info.entry("checksum".into()).or_insert(md5);
        let lines = self.info.iter().map(|(key, value)| format!("{key}=\"{value}\"\n"));
        self.members.insert("INFO".into(), (0o644, lines.collect::<String>().into_bytes()));
        self.members.insert("package.tgz".into(), (0o644, packed));
        let mut tarball = Tarball::new(Vec::new());
        if self.scripts_folder {
            tarball.folder("scripts").unwrap();
        }
        for (path, (mode, content)) in &self.members {
            let bytes = content.len() as u64;
            tarball.file(path, *mode, bytes, &mut &content[..]).unwrap();
        }
        tarball.finish().unwrap()
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

fn expect(expected: &str, draft: Draft) {
    assert_eq!(draft.codes(), [expected]);
}

#[test]
fn a_sound_package_is_left_alone_on_every_dsm() {
    for major in [5, 6, 7] {
        assert_eq!(Draft::sound(major).codes(), [""; 0], "DSM {major}");
    }
}

#[test]
fn what_info_says_wrong_is_found() {
    let seven = || Draft::sound(7);
    expect("version!", seven().info("version", "1.0-beta"));
    expect("version!", seven().info("version", "1.0-2147483648"));
    expect("os-min-ver!", seven().without("os_min_ver"));
    expect("os-min-ver!", seven().info("os_min_ver", "7.0"));
    expect("os-min-ver!", seven().info("os_min_ver", "7.0-39999"));
    expect("os-min-ver!", seven().info("os_min_ver", "8.0-90000"));
    expect("firmware!", seven().info("firmware", "7.0-40000"));
    expect("os-max-ver", seven().info("os_max_ver", "7.1-42661"));
    expect("info-key-missing!", seven().without("maintainer"));
    expect("info-key-missing", Draft::sound(6).without("maintainer"));
    expect("displayname-missing", seven().without("displayname"));
    expect("checksum!", seven().info("checksum", "00000000000000000000000000000000"));
    expect("extractsize", seven().info("extractsize", "50000000"));
    expect("not-yes-or-no", seven().info("ctl_stop", "true"));
    expect("arch-unknown", seven().info("arch", "x86_64 sparc"));
    let arm = Draft::sound(7).payload("bin/hello", 0o755, &elf(32, 40));
    expect("arch-armv7-alone", arm.info("arch", "armv7"));
}

#[test]
fn scripts_dsm_cannot_run_are_found() {
    let text = b"#!/bin/sh\nexit 0\n";
    expect("script-missing!", Draft::sound(7).without("scripts/preupgrade"));
    expect("script-missing", Draft::sound(6).without("scripts/preupgrade"));
    expect("script-missing!", Draft::sound(6).without("scripts/start-stop-status"));
    expect("script-missing", Draft::sound(7).without("scripts/preinst"));
    expect("script-not-executable!", Draft::sound(7).member("scripts/preinst", 0o644, text));
    expect("script-shebang!", Draft::sound(7).member("scripts/preinst", 0o755, b"exit 0\n"));
    let windows = Draft::sound(7).member("scripts/preinst", 0o755, b"#!/bin/sh\r\nexit 0\r\n");
    expect("script-line-ends!", windows);
    expect("script-bash!", Draft::sound(5).member("scripts/preinst", 0o755, b"#!/bin/bash\n"));
    let no_entry = Draft { scripts_folder: false, ..Draft::sound(7) };
    expect("scripts-folder", no_entry);
}

#[test]
fn what_an_unsigned_package_may_not_ask_of_dsm_7_is_found() {
    let privilege = |text: &str| Draft::sound(7).member("conf/privilege", 0o644, text.as_bytes());
    expect("privilege!", Draft::sound(7).without("conf/privilege"));
    expect("privilege!", privilege("{"));
    expect("privilege!", privilege("{}"));
    expect("privilege!", privilege(r#"{"defaults":{"run-as":"system"}}"#));
    expect("privilege-root!", privilege(r#"{"defaults":{"run-as":"root"}}"#));
    for section in ["ctrl-script", "executable"] {
        let text = format!(r#"{{"defaults":{{"run-as":"package"}},"{section}":[]}}"#);
        expect("privilege-section!", privilege(&text));
    }
    let tool = r#"{"defaults":{"run-as":"package"},"tool":[{"user":"root"}]}"#;
    expect("privilege-tool!", privilege(tool));
    let resource = |text: &str| Draft::sound(7).member("conf/resource", 0o644, text.as_bytes());
    expect("resource!", resource("[]"));
    expect("resource-worker", resource(r#"{"magic":{}}"#));
    expect("resource-restricted!", resource(r#"{"sysnotify":{}}"#));
    expect("resource-file!", resource(r#"{"usr-local-linker":{"bin":["bin/gone"]}}"#));
    expect("resource-file!", resource(r#"{"port-config":{"protocol-file":"x.sc"}}"#));
    assert!(resource(r#"{"usr-local-linker":{"bin":["bin/hello"]}}"#).codes().is_empty());
}

#[test]
fn icons_wizards_and_litter_are_looked_at() {
    let icon = crate::icon::plain();
    expect("icon!", Draft::sound(7).without("PACKAGE_ICON.PNG"));
    expect("icon-256", Draft::sound(7).without("PACKAGE_ICON_256.PNG"));
    expect("icon-size", Draft::sound(7).member("PACKAGE_ICON.PNG", 0o644, &icon.encode()));
    let of_six = Draft::sound(7).member("PACKAGE_ICON.PNG", 0o644, &icon.scaled(72).encode());
    assert!(of_six.codes().is_empty(), "DSM 7 takes 72 pixels too");
    let of_seven = Draft::sound(6).member("PACKAGE_ICON.PNG", 0o644, &icon.scaled(64).encode());
    expect("icon-size", of_seven);
    let wizard = |name: &str, mode, text: &[u8]| {
        Draft::sound(7).member(&format!("WIZARD_UIFILES/{name}"), mode, text)
    };
    expect("wizard-json!", wizard("install_uifile", 0o644, b"[{}],"));
    expect("wizard-json!", wizard("install_uifile_ger", 0o644, b"{}"));
    expect("wizard-not-executable!", wizard("upgrade_uifile.sh", 0o644, b"#!/bin/sh\n"));
    assert!(wizard("install_uifile", 0o644, b"[]").codes().is_empty());
    expect("litter!", Draft::sound(7).member("._INFO", 0o644, b""));
}

#[test]
fn the_payload_is_looked_into() {
    expect("wrong-processor!", Draft::sound(7).payload("bin/hello", 0o755, &elf(32, 40)));
    expect("wrong-processor!", Draft::sound(7).info("arch", "armv8"));
    assert!(Draft::sound(7).info("arch", "apollolake avoton").codes().is_empty());
    assert!(Draft::sound(7).info("arch", "noarch").codes().is_empty());
    expect("setuid", Draft::sound(7).payload("bin/hello", 0o4755, &elf(64, 62)));
    let mut nested = Draft::sound(7);
    nested.payload.clear();
    expect("payload-folder", nested.clone().payload("demo/bin/hello", 0o755, &elf(64, 62)));
    expect("payload-empty", nested);
    expect("dsmuidir", Draft::sound(7).info("dsmuidir", "ui"));
    expect("dsmappname", Draft::sound(7).info("dsmappname", "SYNO.SDS.Demo"));
    let config = br#"{".url":{"SYNO.SDS.Demo":{"type":"url"}}}"#;
    let explained = Draft::sound(7).info("dsmappname", "SYNO.SDS.Demo");
    assert!(explained.payload("ui/config", 0o644, config).codes().is_empty());
}
