//! Packages built from a folder, looked at with the tools everybody has: tar, md5sum, python3.

use spk::build::{Sources, build};
use spk::dsm::Dsm;
use spk::manifest::Manifest;
use spk::platform::Target;
use spk::read::Package;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A maintainer's folder: manifest, scripts, icon and two fake programs.
struct Workshop {
    folder: tempfile::TempDir,
}

const MANIFEST: &str = r#"
[package]
name = "demo"
version = "1.2.3-0004"
displayname = "Demo"
description = "Says hello.\nAnd nothing else."
maintainer = "Somebody"
targets = ["x86_64", "armhf", "armv5"]
[dsm]
build = [5, 6, 7]
[[payload]]
from = "{programs}/{target}/hello"
to = "bin/hello"
[[payload]]
from = "data"
to = "share"
[daemon]
command = ["{target}/bin/hello"]
[scripts]
folder = "scripts"
[icon]
file = "icon.png"
[port]
number = 4243
[resources.usr-local-linker]
bin = ["bin/hello"]
"#;

impl Workshop {
    fn new() -> Self {
        let workshop = Self { folder: tempfile::tempdir().unwrap() };
        workshop.write("package.toml", MANIFEST, 0o644);
        for script in spk::build::SCRIPTS {
            workshop.write(&format!("scripts/{script}"), "#!/bin/sh\nexit 0\n", 0o644);
        }
        for target in ["x86_64", "armhf", "armv5"] {
            let text = format!("#!/bin/sh\necho hello from {target}\n");
            workshop.write(&format!("dist/{target}/hello"), &text, 0o755);
        }
        workshop.write("data/b/words", "hello\n", 0o600);
        workshop.write("data/a", "a\n", 0o640);
        symlink("b/words", workshop.path("data/link")).unwrap();
        fs::write(workshop.path("icon.png"), spk::icon::plain().encode()).unwrap();
        workshop
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn write(&self, path: &str, text: &str, mode: u32) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn edit(&self, old: &str, new: &str) {
        let text = fs::read_to_string(self.path("package.toml")).unwrap();
        assert!(text.contains(old), "{old}");
        fs::write(self.path("package.toml"), text.replacen(old, new, 1)).unwrap();
    }

    fn try_build(&self, target: Target, dsm: Dsm) -> Result<PathBuf, String> {
        let text = fs::read_to_string(self.path("package.toml")).unwrap();
        let manifest = Manifest::parse(&text).map_err(|error| error.to_string())?;
        let programs = self.path("dist");
        let sources =
            Sources { manifest: &manifest, folder: self.folder.path(), programs: &programs };
        let built = build(&sources, target, &[dsm], &self.path("out"));
        built.map(|built| built[0].path.clone()).map_err(|error| {
            assert!(!error.remedy().is_empty());
            error.to_string()
        })
    }

    fn build(&self, target: Target, dsm: Dsm) -> PathBuf {
        self.try_build(target, dsm).unwrap()
    }

    fn spk(&self, arguments: &[&str]) -> Output {
        let program = env!("CARGO_BIN_EXE_spk");
        Command::new(program).args(arguments).current_dir(self.folder.path()).output().unwrap()
    }
}

fn said(program: &str, arguments: &[&str], folder: &Path) -> String {
    let output = Command::new(program).args(arguments).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn tar_sees_an_archive_of_roots_files_with_info_first() {
    let workshop = Workshop::new();
    let path = workshop.build(Target::X86_64, Dsm::Seven);
    assert_eq!(path.file_name().unwrap(), "demo-x86_64-dsm7-1.2.3-0004.spk");
    let listing = said("tar", &["--utc", "-tvf", path.to_str().unwrap()], Path::new("/"));
    let expected = "-rw-r--r-- root/root INFO\n-rw-r--r-- root/root PACKAGE_ICON.PNG\n\
        -rw-r--r-- root/root PACKAGE_ICON_256.PNG\ndrwxr-xr-x root/root conf/\n\
        -rw-r--r-- root/root conf/privilege\n-rw-r--r-- root/root conf/resource\n\
        drwxr-xr-x root/root scripts/\n-rwxr-xr-x root/root scripts/postinst\n";
    let mut short = String::new();
    for line in listing.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[3..5], ["2020-01-01", "00:00"], "{line}");
        short += &format!("{} {} {}\n", words[0], words[1], words[5]);
    }
    assert!(short.starts_with(expected), "{short}");
    assert!(short.ends_with("-rw-r--r-- root/root package.tgz\n"), "{short}");
}

#[test]
fn python_and_md5sum_agree_with_info() {
    let workshop = Workshop::new();
    let path = workshop.build(Target::Armhf, Dsm::Six);
    let script = "import sys,tarfile,hashlib,io\n\
        outer = tarfile.open(sys.argv[1], 'r:')\n\
        assert outer.getmember('scripts').isdir() and outer.getmember('conf').isdir()\n\
        assert not any(m.pax_headers for m in outer)\n\
        packed = outer.extractfile('package.tgz').read()\n\
        inner = tarfile.open(fileobj=io.BytesIO(packed), mode='r:gz')\n\
        print(hashlib.md5(packed).hexdigest())\n\
        for m in inner: print(m.name, oct(m.mode), m.linkname)\n";
    let listing = said("python3", &["-c", script, path.to_str().unwrap()], Path::new("/"));
    let (md5, names) = listing.split_once('\n').unwrap();
    let package = Package::open(&path).unwrap();
    assert_eq!(package.info.get("checksum"), Some(md5));
    assert_eq!(
        names,
        "bin 0o755 \nbin/hello 0o755 \nconf 0o755 \nconf/daemon.toml 0o644 \nshare 0o755 \n\
         share/a 0o644 \nshare/b 0o755 \nshare/b/words 0o644 \nshare/link 0o777 b/words\n"
    );
    let whole = said("md5sum", &[path.to_str().unwrap()], Path::new("/"));
    assert!(whole.starts_with(&package.md5));
    let unpacked = workshop.path("unpacked");
    assert!(workshop.spk(&["extract", path.to_str().unwrap(), "-o", "unpacked"]).status.success());
    let daemon = fs::read_to_string(unpacked.join("target/conf/daemon.toml")).unwrap();
    assert_eq!(daemon, "[daemon]\ncommand = [\"{target}/bin/hello\"]\n");
    assert_eq!(fs::read_to_string(unpacked.join("target/share/link")).unwrap(), "hello\n");
    assert_eq!(said("bin/hello", &[], &unpacked.join("target")), "hello from armhf\n");
}

#[test]
fn each_dsm_gets_the_keys_it_reads() {
    let workshop = Workshop::new();
    let package = |dsm| Package::open(&workshop.build(Target::Armhf, dsm)).unwrap();
    let (five, six, seven) = (package(Dsm::Five), package(Dsm::Six), package(Dsm::Seven));
    let get = |package: &Package, key: &str| package.info.get(key).unwrap_or("-").to_owned();
    assert_eq!(get(&five, "firmware"), "5.2-5644");
    assert_eq!((get(&six, "firmware"), get(&six, "os_min_ver")), ("-".into(), "6.1-15047".into()));
    assert_eq!(get(&seven, "os_min_ver"), "7.0-40000");
    assert_eq!((get(&five, "startable"), get(&five, "ctl_stop")), ("yes".into(), "-".into()));
    assert_eq!((get(&seven, "startable"), get(&seven, "ctl_stop")), ("-".into(), "yes".into()));
    let bytes = five.payload.unpacked_bytes;
    assert_eq!(get(&five, "extractsize"), bytes.to_string());
    assert_eq!(get(&six, "extractsize"), bytes.div_ceil(1024).to_string());
    assert_eq!(get(&six, "description"), "Says hello.<br>And nothing else.");
    assert_eq!(get(&six, "adminport"), "4243");
    let has = |package: &Package, path: &str| package.member(path).is_some();
    assert_eq!([&five, &six, &seven].map(|p| has(p, "conf/privilege")), [false, false, true]);
    assert_eq!([&five, &six, &seven].map(|p| has(p, "conf/resource")), [false, true, true]);
    let icon = |p: &Package| spk::icon::size_of_png(p.icon().unwrap()).unwrap().0;
    assert_eq!([&five, &six, &seven].map(icon), [72, 72, 64]);
    for package in [&five, &six, &seven] {
        assert_eq!(spk::check::findings(package), [], "{:?}", package.info.os_min());
        assert_eq!(package.payload.md5, five.payload.md5, "one payload for every DSM");
    }
}

#[test]
fn the_same_sources_give_the_same_bytes_on_any_day_in_any_order() {
    let (monday, tuesday) = (Workshop::new(), Workshop::new());
    // Written in another order, and under another umask.
    for path in ["data/a", "dist/x86_64/hello", "data/b/words"] {
        let content = fs::read(tuesday.path(path)).unwrap();
        let mode = fs::metadata(tuesday.path(path)).unwrap().permissions().mode();
        fs::remove_file(tuesday.path(path)).unwrap();
        fs::write(tuesday.path(path), content).unwrap();
        let mode = fs::Permissions::from_mode(mode & 0o700);
        fs::set_permissions(tuesday.path(path), mode).unwrap();
    }
    for dsm in Dsm::ALL {
        let bytes = |workshop: &Workshop| fs::read(workshop.build(Target::X86_64, dsm)).unwrap();
        assert_eq!(bytes(&monday), bytes(&tuesday), "{dsm}");
    }
    tuesday.write("data/a", "b\n", 0o644);
    let changed = tuesday.build(Target::X86_64, Dsm::Seven);
    let unchanged = monday.build(Target::X86_64, Dsm::Seven);
    assert_ne!(fs::read(&changed).unwrap(), fs::read(&unchanged).unwrap());
}

#[test]
fn what_cannot_be_built_is_said_and_leaves_nothing_behind() {
    for (break_it, expected) in [
        (
            (|w: &Workshop| fs::remove_file(w.path("dist/x86_64/hello")).unwrap()) as fn(&Workshop),
            "hello cannot be read",
        ),
        (|w| fs::remove_file(w.path("scripts/start-stop-status")).unwrap(), "is not there"),
        (|w| w.write("scripts/postint", "#!/bin/sh\n", 0o755), "none of the scripts DSM calls"),
        (|w| fs::write(w.path("icon.png"), "GIF89a").unwrap(), "icon.png is no icon"),
        (|w| symlink("/etc/passwd", w.path("data/out")).unwrap(), "leads out of the package"),
        (|w| symlink("../../../x", w.path("data/b/out")).unwrap(), "leads out of the package"),
        (|w| w.edit("\"share\"", "\"bin/hello\""), "comes from two places"),
        (|w| w.edit("\"share\"", "\"bin/hello/x\""), "comes from two places"),
        (|w| w.edit("\"share\"", "\"conf/daemon.toml\""), "comes from two places"),
        (|w| w.write(&format!("data/{}", "x".repeat(200)), "", 0o644), "cannot be packed"),
    ] {
        let workshop = Workshop::new();
        break_it(&workshop);
        let refused = workshop.try_build(Target::X86_64, Dsm::Seven).unwrap_err();
        assert!(refused.contains(expected), "{refused}");
        let left = fs::read_dir(workshop.path("out")).map_or(0, |files| files.count());
        assert_eq!(left, 0, "{expected}");
    }
    let workshop = Workshop::new();
    let refused = workshop.try_build(Target::Armv5, Dsm::Seven).unwrap_err();
    assert_eq!(refused, "no platform with DSM 7 runs the target armv5");
}

#[test]
fn the_tool_builds_what_is_asked_and_says_what_went_wrong() {
    let workshop = Workshop::new();
    let built = workshop.spk(&["build", "-o", "out"]);
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    // armv5 boxes never saw DSM 7.
    assert_eq!(fs::read_dir(workshop.path("out")).unwrap().count(), 8);
    let one = ["build", "-o", "new", "--target", "x86_64", "--dsm", "7", "--version", "1.2.4-0005"];
    assert!(workshop.spk(&one).status.success());
    let (old, new) = ("out/demo-x86_64-dsm7-1.2.3-0004.spk", "new/demo-x86_64-dsm7-1.2.4-0005.spk");
    let differing = workshop.spk(&["diff", old, new]);
    assert_eq!(differing.status.code(), Some(1));
    let lines = String::from_utf8(differing.stdout).unwrap();
    assert_eq!(lines, "INFO version: \"1.2.3-0004\" -> \"1.2.4-0005\"\n");
    assert_eq!(workshop.spk(&["diff", old, old]).status.code(), Some(0));
    assert_eq!(workshop.spk(&["check", old, new]).status.code(), Some(0));
    let shown = workshop.spk(&["show", "--json", new]);
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["info"]["version"], "1.2.4-0005");
    for (arguments, code, expected) in [
        (vec!["build", "--target", "qoriq"], 2, "PowerPC"),
        (vec!["build", "--dsm", "8"], 2, "5, 6 or 7"),
        (vec!["build", "--version", "1.0b-1"], 1, "what to do: write a feature version"),
        (vec!["build", "--target", "armv5", "--dsm", "7"], 1, "what to do: leave the target"),
        (vec!["build", "--programs", "nowhere"], 1, "what to do: build the programs first"),
        (vec!["show", "package.toml"], 1, "what to do: make it a plain ustar archive"),
        (vec!["check", "nowhere.spk"], 1, "No such file"),
        (vec!["extract", old, "-o", "data"], 1, "is not an empty folder"),
        (vec!["sing"], 2, "unrecognized subcommand"),
    ] {
        let output = workshop.spk(&arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.contains(expected), "{arguments:?}: {text}");
    }
}

#[test]
fn what_init_writes_builds_at_once() {
    let workshop = Workshop::new();
    assert!(workshop.spk(&["init", "mine", "--yes"]).status.success());
    let arguments = ["build", "--manifest", "mine/package.toml", "-o", "built"];
    let built = workshop.spk(&arguments);
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    assert_eq!(fs::read_dir(workshop.path("built")).unwrap().count(), 2);
    assert_eq!(
        workshop.spk(&["init", "mine", "--yes"]).status.code(),
        Some(1),
        "nothing is overwritten"
    );
}
