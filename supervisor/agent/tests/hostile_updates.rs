//! A depot whose keys are in wrong hands signs a package that nobody honest would make. The box
//! that believes the depot unpacks it: nothing is written outside the new slot, nothing is left of
//! it, and the version that runs goes on running.

mod town;
mod world;

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use tar::EntryType::{Block, Char, Directory, Fifo, Link, Regular, Symlink};
use town::{Recipe, Served, init, now};
use world::{GOOD, Nas, PACKAGE, QUICK};

/// More headers than the members a payload may have can need.
const TOO_MANY: usize = 400_001;

/// A box whose update was cut off after the file was verified, and before it was unpacked: what it
/// goes on with is what the depot signed, as far as it knows.
struct Interrupted {
    nas: Nas,
    url: String,
    record: Vec<u8>,
    _served: Served,
}

impl Interrupted {
    fn new() -> Self {
        let mut nas = Nas::of(7, GOOD);
        for (name, value) in [("MINOR", "2"), ("BUILD", "72806")] {
            nas.environment.push((format!("SYNOPKG_DSM_VERSION_{name}"), value.to_owned()));
        }
        let depot = nas.path("depot");
        init(&depot, 1);
        let root = supervisor_depot::keys(&depot, now()).unwrap().root_json;
        fs::write(nas.target().join("conf/depot.pub"), root).unwrap();
        let info = nas.path("var/packages").join(PACKAGE).join("INFO");
        fs::write(info, format!("package=\"{PACKAGE}\"\nversion=\"1.0-0001\"\n")).unwrap();
        assert_eq!(nas.run(&["hook", "postinst"]).code, 0);
        let (version, keys) = ("1.0-0002", QUICK);
        let recipe = Recipe {
            name: PACKAGE,
            version,
            script: GOOD,
            keys,
            environment: "",
            ballast_bytes: 1000,
        };
        let package = recipe.build(&nas.path("workshop"));
        supervisor_depot::publish(&depot, &[package], now()).unwrap();
        let served = Served::from(&depot);
        let url = served.url.clone();
        let record = nas.var().join("update/record.json");
        let is_fetched = || fs::read_to_string(&record).is_ok_and(|it| it.contains("\"fetched\""));
        for n in 1..200 {
            let words = ["update", "install", "--depot", &url];
            assert!(!nas.cut(&words, ("", &[]), ("mkdirat", n), None), "it was never fetched");
            if is_fetched() {
                break;
            }
        }
        assert!(is_fetched(), "{}", nas.log());
        let record = fs::read(record).unwrap();
        Self { nas, url, record, _served: served }
    }

    fn update_folder(&self) -> PathBuf {
        self.nas.var().join("update")
    }

    /// Goes on with `package` in the place of what was fetched; what is said of it.
    fn goes_on_with(&self, package: &[u8]) -> world::Answer {
        fs::write(self.update_folder().join("record.json"), &self.record).unwrap();
        fs::write(self.update_folder().join("download.spk"), package).unwrap();
        self.nas.run(&["update", "install", "--depot", &self.url])
    }
}

fn member(path: &str, kind: tar::EntryType, link: &str, bytes: u64, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
    header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o4755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(bytes);
    header.set_cksum();
    let mut member = [header.as_bytes(), content].concat();
    member.resize(member.len().next_multiple_of(512), 0);
    member
}

fn file(path: &str, content: &[u8]) -> Vec<u8> {
    member(path, Regular, "", content.len() as u64, content)
}

fn archive(members: &[Vec<u8>]) -> Vec<u8> {
    [members.concat(), vec![0; 1024]].concat()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

fn info() -> Vec<u8> {
    file("INFO", format!("package=\"{PACKAGE}\"\nversion=\"1.0-0002\"\n").as_bytes())
}

/// A package with this payload, which is a sound one up to the hostile members.
fn with_payload(hostile: &[Vec<u8>]) -> Vec<u8> {
    let described = format!("[daemon]\ncommand = [\"{{target}}/bin/x\"]\n{QUICK}");
    let sound = [file("conf/daemon.toml", described.as_bytes()), file("bin/x", b"#!/bin/sh\n")];
    let payload = archive(&[&sound[..], hostile].concat());
    archive(&[info(), file("package.tgz", &gzip(&payload))])
}

fn hostile_packages() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let one = |path: &str, kind, link: &str| with_payload(&[member(path, kind, link, 0, b"")]);
    let through = with_payload(&[member("a", Symlink, "bin", 0, b""), file("a/x", b"x")]);
    let whole = with_payload(&[file("share/x", &[7; 5000])]);
    let crowd = member("d", Directory, "", 0, b"").repeat(TOO_MANY);
    vec![
        ("an absolute path", "leads outside", with_payload(&[file("/escaped", b"x")])),
        ("a path that climbs out", "leads outside", with_payload(&[file("../escaped", b"x")])),
        (
            "one that climbs far out",
            "leads outside",
            with_payload(&[file("a/../../../../escaped", b"x")]),
        ),
        ("a link out", "leads outside", one("a", Symlink, "../../../escaped")),
        ("an absolute link", "leads outside", one("a", Symlink, "/etc/passwd")),
        ("a hard link out", "leads outside", one("a", Link, "../../settings.json")),
        ("an absolute hard link", "leads outside", one("a", Link, "/etc/passwd")),
        ("a file through a link", "File exists", through),
        ("a device of blocks", "or a device", one("a", Block, "")),
        ("a device of characters", "or a device", one("a", Char, "")),
        ("a pipe", "or a device", one("a", Fifo, "")),
        ("a file twice", "twice", with_payload(&[file("bin/x", b"x")])),
        ("too many members", "more than 100000 members", with_payload(&[crowd])),
        (
            "too large a file",
            "bytes of content",
            with_payload(&[member("a", Regular, "", 20 << 30, b"")]),
        ),
        ("zeros without end", "after its end", with_payload(&[vec![0; 32 << 20], file("a", b"a")])),
        (
            "cut off in the payload",
            "no sound archive",
            archive(&[info(), file("package.tgz", &gzip(&[7; 700]))]),
        ),
        ("cut off in the middle", "ends in the middle", whole[..whole.len() / 2].to_vec()),
        ("no payload", "No such file", archive(&[info()])),
        (
            "an outer path that climbs out",
            "leads outside",
            archive(&[info(), file("../escaped", b"x")]),
        ),
        (
            "an outer link out",
            "leads outside",
            archive(&[info(), member("a", Symlink, "/etc", 0, b"")]),
        ),
        ("an outer device", "or a device", archive(&[info(), member("a", Char, "", 0, b"")])),
        ("nothing", "No such file", Vec::new()),
        ("noise", "no sound archive", vec![0x5a; 4096]),
    ]
}

#[test]
fn no_signed_package_however_hostile_leaves_its_slot_or_anything_behind() {
    let cut = Interrupted::new();
    let var = cut.nas.var();
    fs::write(var.join("settings.json"), "{}").unwrap();
    cut.nas.start();
    let daemon = cut.nas.daemon_processes();
    let everything = || {
        let mut names: Vec<_> = fs::read_dir(cut.nas.root()).unwrap().flatten().collect();
        names.extend(fs::read_dir(&var).unwrap().flatten());
        names.extend(fs::read_dir(cut.nas.path("volume1")).unwrap().flatten());
        let mut names: Vec<_> = names.iter().map(|entry| entry.path()).collect();
        names.sort();
        names
    };
    assert_eq!(cut.goes_on_with(b"noise").code, 1);
    let before = everything();
    for (what, why, package) in hostile_packages() {
        let answer = cut.goes_on_with(&package);
        assert_eq!(answer.code, 1, "{what}: {}", answer.said);
        assert!(answer.said.contains("is refused: "), "{what}: {}", answer.said);
        assert!(answer.said.contains(why), "{what}: {}", answer.said);
        let slots: Vec<_> = fs::read_dir(var.join("slots")).unwrap().flatten().collect();
        assert!(slots.is_empty(), "{what}: {slots:?}");
        assert_eq!(everything(), before, "{what}");
        assert!(!PathBuf::from("/escaped").exists(), "{what}");
        assert_eq!(fs::read_to_string(var.join("settings.json")).unwrap(), "{}", "{what}");
        assert_eq!(cut.nas.daemon_processes(), daemon, "{what}");
    }
    // An honest one would have been taken.
    let recipe = fs::read_dir(cut.nas.path("workshop/1.0-0002/out")).unwrap().flatten().next();
    let answer = cut.goes_on_with(&fs::read(recipe.unwrap().path()).unwrap());
    assert_eq!(answer.code, 0, "{}", answer.said);
}
