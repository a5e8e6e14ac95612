//! Holdfast's own package: its manifest builds for every target and DSM without a finding, and its
//! scripts do the same in every shell a NAS may have.

use spk::build::{SCRIPTS, Sources, build};
use spk::dsm::Dsm;
use spk::manifest::Manifest;
use spk::read::Package;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

const SHELLS: [&[&str]; 3] = [&["sh"], &["bash"], &["busybox", "ash"]];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/package")
}

fn write_program(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn the_manifest_builds_for_every_target_and_dsm_without_a_finding() {
    let text = fs::read_to_string(folder().join("package.toml")).unwrap();
    let manifest = Manifest::parse(&text).unwrap();
    let place = tempfile::tempdir().unwrap();
    let mut names = Vec::new();
    for target in &manifest.targets {
        for program in ["holdfast", "holdfast-supervisor"] {
            let path = place.path().join("dist").join(target.name()).join(program);
            write_program(&path, "#!/bin/sh\n");
        }
        let programs = place.path().join("dist");
        let sources = Sources { manifest: &manifest, folder: &folder(), programs: &programs };
        let possible = |dsm: &Dsm| !target.archs(*dsm).is_empty();
        let generations: Vec<Dsm> = Dsm::ALL.into_iter().filter(possible).collect();
        for built in build(&sources, *target, &generations, &place.path().join("out")).unwrap() {
            let package = Package::open(&built.path).unwrap();
            assert_eq!(spk::check::findings(&package), [], "{}", built.path.display());
            assert!(package.has_wizard("install") && package.has_wizard("uninstall"));
            assert!(package.payload_entry("conf/daemon.toml").is_some());
            let asks = package.content("conf/resource").map(|text| String::from_utf8_lossy(text));
            assert_eq!(asks.is_some(), built.dsm != Dsm::Five, "DSM 5 knows no such file");
            for part in [
                r#""protocol-file": "conf/holdfast.sc""#,
                r#""usr-local-linker""#,
                r#""bin/holdfast""#,
                r#""data-share""#,
                r#""rw": ["holdfast"]"#,
            ] {
                let plain = |text: &str| text.split_whitespace().collect::<String>();
                let has = |asks: &str| plain(asks).contains(&plain(part));
                assert!(asks.as_deref().is_none_or(has), "no {part} in {asks:?}");
            }
            names.push(format!("{target} {}", built.dsm.major()));
        }
    }
    let expected = "x86_64 5, x86_64 6, x86_64 7, aarch64 6, aarch64 7, armhf 5, armhf 6, \
        armhf 7, armv7 5, armv7 6, armv5 5, armv5 6";
    assert_eq!(names.join(", "), expected);
}

/// A NAS's folder with the package installed; its supervisor writes down what it was asked.
struct Installed {
    place: tempfile::TempDir,
    shell: &'static [&'static str],
}

impl Installed {
    fn new(shell: &'static [&'static str]) -> Self {
        let place = tempfile::tempdir().unwrap();
        let package = place.path().join("var/packages/holdfast");
        for script in SCRIPTS {
            let text = fs::read_to_string(folder().join("scripts").join(script)).unwrap();
            write_program(&package.join("scripts").join(script), &text);
        }
        symlink("/volume1/@appstore/holdfast", package.join("target")).unwrap();
        let nas = Self { place, shell };
        nas.put_supervisor("volume1/@appstore/holdfast");
        nas
    }

    fn at(&self, path: &str) -> PathBuf {
        self.place.path().join(path)
    }

    fn put_supervisor(&self, folder: &str) {
        let text = format!("#!/bin/sh\necho \"{folder}: $*\"\nexit 150\n");
        write_program(&self.at(folder).join("bin/holdfast-supervisor"), &text);
    }

    /// Runs a script; its exit code and what it said.
    fn run(&self, script: &str, argument: &str, environment: &[(&str, PathBuf)]) -> (i32, String) {
        let output = Command::new(self.shell[0])
            .args(&self.shell[1..])
            .arg(self.at("var/packages/holdfast/scripts").join(script))
            .arg(argument)
            .env_clear()
            .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
            .envs(environment.iter().map(|(name, value)| (*name, value)))
            .output()
            .unwrap_or_else(|error| panic!("{} is needed for this test: {error}", self.shell[0]));
        let code = output.status.code().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let complained = String::from_utf8(output.stderr).unwrap();
        (code, format!("{said}{complained}"))
    }
}

const PLACE: &str = "volume1/@appstore/holdfast";

#[test]
fn every_script_hands_over_to_the_supervisor_and_passes_its_exit_code_on() {
    for shell in SHELLS {
        let nas = Installed::new(shell);
        let dest = [("SYNOPKG_PKGDEST", nas.at(PLACE))];
        for script in SCRIPTS.iter().filter(|name| **name != "start-stop-status") {
            let expected = (150, format!("{PLACE}: hook {script}\n"));
            assert_eq!(nas.run(script, "", &dest), expected, "{shell:?}");
        }
        for verb in ["start", "stop", "status", "prestart", "prestop", "log", "dance; reboot"] {
            let expected = (150, format!("{PLACE}: service {verb}\n"));
            assert_eq!(nas.run("start-stop-status", verb, &dest), expected, "{shell:?}");
        }
    }
}

#[test]
fn by_hand_the_scripts_own_place_leads_to_the_supervisor() {
    for shell in SHELLS {
        let nas = Installed::new(shell);
        let root = [("HOLDFAST_DSM_ROOT", nas.at(""))];
        let root =
            root.map(|(name, path)| (name, path.to_str().unwrap().trim_end_matches('/').into()));
        let expected = (150, format!("{PLACE}: service status\n"));
        assert_eq!(nas.run("start-stop-status", "status", &root), expected, "{shell:?}");
    }
}

#[test]
fn before_files_are_in_place_the_unpacked_supervisor_is_asked() {
    for shell in SHELLS {
        let nas = Installed::new(shell);
        nas.put_supervisor("tmp/new version");
        let told = [
            ("SYNOPKG_PKGDEST", nas.at(PLACE)),
            ("SYNOPKG_PKGINST_TEMP_DIR", nas.at("tmp/new version")),
        ];
        for script in ["preinst", "preupgrade"] {
            let expected = (150, format!("tmp/new version: hook {script}\n"));
            assert_eq!(nas.run(script, "", &told), expected, "{shell:?}");
        }
        // The old version's own scripts ask the old version.
        let expected = (150, format!("{PLACE}: hook preuninst\n"));
        assert_eq!(nas.run("preuninst", "", &told), expected, "{shell:?}");
    }
}

#[test]
fn without_a_supervisor_a_package_can_still_be_removed_and_says_that_it_is_not_running() {
    for shell in SHELLS {
        let nas = Installed::new(shell);
        fs::remove_dir_all(nas.at("volume1")).unwrap();
        let message = nas.at("message");
        let told = [("SYNOPKG_PKGDEST", nas.at(PLACE)), ("SYNOPKG_TEMP_LOGFILE", message.clone())];
        let code = |script: &str, verb: &str| nas.run(script, verb, &told).0;
        for script in ["preinst", "preupgrade", "preuninst", "postuninst"] {
            assert_eq!(code(script, ""), 0, "{script} {shell:?}");
        }
        for script in ["postinst", "postupgrade"] {
            assert_eq!(code(script, ""), 1, "{script} {shell:?}");
            let said = fs::read_to_string(&message).unwrap();
            assert!(said.contains("install the package again"), "{said}");
            fs::remove_file(&message).unwrap();
        }
        let verbs = [("status", 3), ("start", 1), ("stop", 0), ("prestart", 0), ("log", 0)];
        for (verb, expected) in verbs {
            assert_eq!(code("start-stop-status", verb), expected, "{verb} {shell:?}");
        }
        assert_eq!(nas.run("start-stop-status", "status", &[]).0, 3, "{shell:?}, nothing known");
    }
}
