//! The NAS itself, tried with packages made by `tar` alone: order, environment, users, leftovers.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use tests_support::nas::{Removal, State};
use tests_support::{Dsm, Hardware, Nas, NasError, Shell};

const SCRIPTS: [&str; 7] = [
    "preinst",
    "postinst",
    "preuninst",
    "postuninst",
    "preupgrade",
    "postupgrade",
    "start-stop-status",
];

/// Writes one line a call into the shared folder `calls`, and does what `extra` says.
fn script(name: &str, version: &str, extra: &str) -> String {
    format!(
        "#!/bin/sh\necho \"{version}:{name} $1 $SYNOPKG_PKG_STATUS\" \
         >>\"$SYNOPKG_PKGDEST_VOL/@tmp/calls\"\n{extra}\nexit 0\n"
    )
}

struct Maker {
    folder: tempfile::TempDir,
}

impl Maker {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder }
    }

    fn nas(&self, dsm: Dsm, shell: Shell) -> Nas {
        let hardware = Hardware::of("apollolake").unwrap();
        let nas = Nas::create(&self.folder.path().join("nas"), dsm, hardware, shell).unwrap();
        let calls = nas.root().join("volume1/@tmp/calls");
        fs::write(&calls, "").unwrap();
        fs::set_permissions(&calls, fs::Permissions::from_mode(0o666)).unwrap();
        nas
    }

    /// A package whose scripts tell when they are called; `extra` is added to the named ones.
    fn spk(&self, dsm: Dsm, version: &str, extra: &[(&str, &str)]) -> PathBuf {
        let stage = self.folder.path().join(format!("stage {version}"));
        let _ = fs::remove_dir_all(&stage);
        fs::create_dir_all(stage.join("scripts")).unwrap();
        fs::create_dir_all(stage.join("conf")).unwrap();
        fs::create_dir_all(stage.join("payload/bin")).unwrap();
        fs::write(stage.join("payload/bin/tool"), version).unwrap();
        for name in SCRIPTS {
            let extra = extra.iter().find(|(script, _)| *script == name).map_or("", |row| row.1);
            let path = stage.join("scripts").join(name);
            fs::write(&path, script(name, version, extra)).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::write(stage.join("conf/privilege"), r#"{"defaults":{"run-as":"package"}}"#).unwrap();
        tar(&["--create", "--gzip", "--file"], &stage.join("package.tgz"), &stage.join("payload"));
        let checksum = tests_support::md5(&stage.join("package.tgz")).unwrap();
        let lowest = if dsm == Dsm::Seven { "7.0-40000" } else { "6.1-15047" };
        let info = format!(
            "package=\"probe\"\nversion=\"{version}\"\nos_min_ver=\"{lowest}\"\narch=\"noarch\"\n\
             description=\"d\"\nmaintainer=\"m\"\nchecksum=\"{checksum}\"\n"
        );
        fs::write(stage.join("INFO"), info).unwrap();
        fs::remove_dir_all(stage.join("payload")).unwrap();
        let spk = self.folder.path().join(format!("{version}.spk"));
        tar(&["--create", "--format=ustar", "--file"], &spk, &stage);
        spk
    }
}

fn tar(options: &[&str], file: &Path, folder: &Path) {
    let mut tar = Command::new("tar");
    let names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    tar.args(options).arg(file).arg("--directory").arg(folder).args(names);
    tests_support::run(&mut tar).must_succeed();
}

fn calls(nas: &Nas) -> Vec<String> {
    let path = nas.root().join("volume1/@tmp/calls");
    let lines = fs::read_to_string(&path).unwrap();
    fs::write(&path, "").unwrap();
    lines.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

fn nothing() -> BTreeMap<String, String> {
    BTreeMap::new()
}

#[test]
fn scripts_are_called_in_dsm_order_under_ash_and_under_bash() {
    for (dsm, shell) in [(Dsm::Six, Shell::Ash), (Dsm::Seven, Shell::Bash)] {
        let maker = Maker::new();
        let nas = maker.nas(dsm, shell);
        nas.install(&maker.spk(dsm, "1.0-1", &[]), &nothing()).unwrap();
        nas.start("probe").unwrap();
        assert_eq!(
            calls(&nas),
            [
                "1.0-1:preinst INSTALL",
                "1.0-1:postinst INSTALL",
                "1.0-1:start-stop-status prestart START",
                "1.0-1:start-stop-status start START",
            ]
        );
        nas.upgrade(&maker.spk(dsm, "1.0-2", &[]), &nothing()).unwrap();
        assert_eq!(
            calls(&nas),
            [
                "1.0-1:start-stop-status status",
                "1.0-1:start-stop-status prestop UPGRADE",
                "1.0-1:start-stop-status stop UPGRADE",
                "1.0-2:preupgrade UPGRADE",
                "1.0-1:preuninst UPGRADE",
                "1.0-1:postuninst UPGRADE",
                "1.0-2:preinst UPGRADE",
                "1.0-2:postinst UPGRADE",
                "1.0-2:postupgrade UPGRADE",
                "1.0-2:start-stop-status prestart UPGRADE",
                "1.0-2:start-stop-status start UPGRADE",
            ]
        );
        nas.shut_down().unwrap();
        assert_eq!(nas.boot().unwrap(), Vec::<String>::new());
        assert_eq!(
            calls(&nas),
            [
                "1.0-2:start-stop-status stop",
                "1.0-2:start-stop-status prestart",
                "1.0-2:start-stop-status start",
            ]
        );
        nas.uninstall("probe", Removal::AsDsm, &nothing()).unwrap();
        assert_eq!(calls(&nas).last().unwrap(), "1.0-2:postuninst UNINSTALL");
        assert!(!nas.target("probe").exists() && !nas.package_folder("probe").exists());
        assert!(nas.etc("probe").is_dir(), "DSM keeps etc");
    }
}

#[test]
fn an_upgrade_wipes_target_and_keeps_what_dsm_keeps() {
    for dsm in [Dsm::Six, Dsm::Seven] {
        let maker = Maker::new();
        let nas = maker.nas(dsm, Shell::Ash);
        nas.install(&maker.spk(dsm, "1.0-1", &[]), &nothing()).unwrap();
        fs::create_dir_all(nas.var("probe")).unwrap();
        fs::write(nas.var("probe").join("kept?"), "").unwrap();
        fs::write(nas.etc("probe").join("kept"), "").unwrap();
        fs::write(nas.target("probe").join("made later"), "").unwrap();
        nas.upgrade(&maker.spk(dsm, "1.0-2", &[]), &nothing()).unwrap();
        assert_eq!(fs::read_to_string(nas.target("probe").join("bin/tool")).unwrap(), "1.0-2");
        assert!(!nas.target("probe").join("made later").exists());
        assert!(nas.etc("probe").join("kept").exists());
        assert_eq!(nas.var("probe").join("kept?").exists(), dsm == Dsm::Seven);
        assert_eq!(nas.path("/var/packages/probe/target/bin"), nas.target("probe").join("bin"));
    }
}

#[test]
fn the_environment_holds_what_dsm_puts_in_and_nothing_else() {
    let maker = Maker::new();
    let nas = maker.nas(Dsm::Seven, Shell::Bash);
    let spk = maker.spk(
        Dsm::Seven,
        "1.0-1",
        &[("postinst", "env >\"$SYNOPKG_PKGVAR/seen\"; id -u >\"$SYNOPKG_PKGVAR/uid\"")],
    );
    let answers = BTreeMap::from([("wizard_share".to_owned(), "my backup; reboot".to_owned())]);
    nas.install(&spk, &answers).unwrap();
    let seen = fs::read_to_string(nas.var("probe").join("seen")).unwrap();
    let names: Vec<&str> = seen.lines().filter_map(|line| line.split('=').next()).collect();
    assert!(seen.contains("wizard_share=my backup; reboot\n"), "{seen}");
    assert!(seen.contains(&format!("SYNOPKG_PKGDEST={}\n", nas.target("probe").display())));
    for foreign in ["HOME", "CARGO", "LANG", "USER"] {
        assert!(!names.contains(&foreign), "{foreign} came in from outside");
    }
    if nix::unistd::geteuid().is_root() {
        let uid = fs::read_to_string(nas.var("probe").join("uid")).unwrap();
        assert_ne!(uid.trim(), "0", "the script ran as root on DSM 7");
        let owner = fs::metadata(nas.target("probe").join("bin/tool")).unwrap().uid();
        assert_eq!(owner.to_string(), uid.trim());
    }
}

#[test]
fn a_failing_script_aborts_or_corrupts_and_its_message_reaches_the_owner() {
    let maker = Maker::new();
    let nas = maker.nas(Dsm::Seven, Shell::Ash);
    let says = "echo 'no room' >\"$SYNOPKG_TEMP_LOGFILE\"; exit 7";
    let refused = nas.install(&maker.spk(Dsm::Seven, "1.0-1", &[("preinst", says)]), &nothing());
    match refused {
        Err(NasError::Script { script, code: 7, message, corrupted: false, .. }) => {
            assert_eq!((script.as_str(), message.as_str()), ("preinst", "no room\n"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(nas.installed("probe"), None);
    let broken = nas.install(&maker.spk(Dsm::Seven, "1.0-1", &[("postinst", says)]), &nothing());
    assert!(matches!(broken, Err(NasError::Script { corrupted: true, .. })), "{broken:?}");
    assert!(nas.package_folder("probe").join("corrupted").exists());
}

#[test]
fn a_damaged_package_a_package_of_root_and_a_downgrade_are_refused() {
    let maker = Maker::new();
    let nas = maker.nas(Dsm::Seven, Shell::Ash);
    let good = maker.spk(Dsm::Seven, "1.0-2", &[]);
    let refusal = |path: &Path| match nas.install(path, &nothing()) {
        Err(NasError::Refused { code, .. }) => code,
        other => panic!("{other:?}"),
    };
    let mut bytes = fs::read(&good).unwrap();
    let start = bytes.windows(11).position(|window| window == b"package.tgz").unwrap();
    bytes[start + 512 + 64] ^= 1;
    let damaged = maker.folder.path().join("damaged.spk");
    fs::write(&damaged, bytes).unwrap();
    assert_eq!(refusal(&damaged), 263);
    let gzipped = maker.folder.path().join("gzipped.spk");
    tar(&["--create", "--gzip", "--file"], &gzipped, &maker.folder.path().join("stage 1.0-2"));
    assert_eq!(refusal(&gzipped), 263);
    assert_eq!(refusal(&maker.spk(Dsm::Six, "1.0-9", &[])), 261);
    nas.install(&good, &nothing()).unwrap();
    assert_eq!(nas.status("probe").unwrap(), State::Running);
    let older = nas.upgrade(&maker.spk(Dsm::Seven, "1.0-1", &[]), &nothing());
    assert!(matches!(older, Err(NasError::NoUpgrade { .. })), "{older:?}");
}
