//! A depot whose keys are in wrong hands signs a package that nobody honest would make. The box
//! that believes the depot unpacks it: nothing is written outside the new slot, nothing is left of
//! it, and the version that runs goes on running.

mod town;
mod world;

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use tar::EntryType::{Block, Char, Directory, Fifo, GNULongName, Link, Regular, Symlink, XHeader};
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
        self.puts(package);
        self.nas.run(&["update", "install", "--depot", &self.url])
    }

    fn puts(&self, package: &[u8]) {
        fs::write(self.update_folder().join("record.json"), &self.record).unwrap();
        fs::write(self.update_folder().join("download.spk"), package).unwrap();
    }

    /// The same where slots are on a volume of so many MiB; `None` when this machine lets nobody
    /// mount one.
    fn goes_on_in(&self, volume_mib: u32, package: &[u8]) -> Option<String> {
        const SMALL: &str = "mount -t tmpfs -o size=\"$1\" small \"$2\" || exit 99\n\
                             program=$3; shift 3; \"$program\" \"$@\"; code=$?\n\
                             test -z \"$(ls -A \"$slots\")\" && echo nothing is left there\n\
                             exit $code";
        self.puts(package);
        let slots = self.nas.var().join("slots");
        fs::create_dir_all(&slots).unwrap();
        let inner = self.nas.command(&["update", "install", "--depot", &self.url]);
        let mut command = Command::new("unshare");
        command.args(["--mount", "--map-root-user", "sh", "-c", SMALL, "sh"]);
        command.arg(format!("{volume_mib}m")).arg(&slots);
        command.arg(inner.get_program()).args(inner.get_args()).env_clear();
        command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("slots", &slots);
        let ended = command.output().ok()?;
        let said = [ended.stdout, ended.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        let is_mounted = ended.status.code() != Some(99) && !said.contains("unshare failed");
        assert!(!is_mounted || ended.status.code() == Some(1), "{said}");
        is_mounted.then_some(said)
    }

    fn honest(&self) -> Vec<u8> {
        let built = fs::read_dir(self.nas.path("workshop/1.0-0002/out")).unwrap().flatten().next();
        fs::read(built.unwrap().path()).unwrap()
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
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

fn info() -> Vec<u8> {
    file("INFO", format!("package=\"{PACKAGE}\"\nversion=\"1.0-0002\"\n").as_bytes())
}

/// The same with what it unpacks to, in kilobytes.
fn info_announcing(kilobytes: u64) -> Vec<u8> {
    let lines =
        format!("package=\"{PACKAGE}\"\nversion=\"1.0-0002\"\nextractsize=\"{kilobytes}\"\n");
    file("INFO", lines.as_bytes())
}

/// A package with a payload that is compressed already.
fn around(info: Vec<u8>, payload: &[u8]) -> Vec<u8> {
    archive(&[info, file("package.tgz", payload)])
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
        ("too many members", " members", with_payload(&[crowd])),
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

/// Compressed by the tool itself.
fn xz(bytes: impl Fn(&mut dyn Write) + Send + 'static) -> Vec<u8> {
    let mut xz = Command::new("xz");
    let mut child = xz.args(["-0", "-c"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let child = child.as_mut().expect("these tests need xz");
    let mut source = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || bytes(&mut source));
    let mut packed = Vec::new();
    std::io::Read::read_to_end(child.stdout.as_mut().unwrap(), &mut packed).unwrap();
    writer.join().unwrap();
    assert!(child.wait().unwrap().success());
    packed
}

/// Small packages that take much when they are unpacked. None announces more than 100 kB.
fn bombs() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    const MIB: usize = 1 << 20;
    // gzip lets one write the same piece again and again: three gigabytes are made in no time.
    let piece = gzip(&vec![0; MIB]);
    let films = (0..3000).map(|number| {
        let head = member(&format!("film {number}"), Regular, "", MIB as u64, b"");
        [gzip(&head), piece.clone()].concat()
    });
    let films = films.collect::<Vec<_>>().concat();
    let large = xz(|out| {
        out.write_all(&member("film", Regular, "", 64 * MIB as u64, b"")).unwrap();
        (0..64).for_each(|_| out.write_all(&vec![0; MIB]).unwrap());
        out.write_all(&[0; 1024]).unwrap();
    });
    let crowd = (0..30_000).map(|number| file(&format!("empty {number}"), b""));
    let crowd = gzip(&archive(&crowd.collect::<Vec<_>>()));
    let nested = |depth: usize| {
        let nest = |number| {
            let name = format!("{number}{}", "/a".repeat(depth));
            let named = member("long", GNULongName, "", name.len() as u64 + 1, name.as_bytes());
            [named, file("a", b"")].concat()
        };
        gzip(&archive(&(0..50).map(nest).collect::<Vec<_>>()))
    };
    let words = format!("{} comment={}\n", 60_000, "a".repeat(60_000 - 15));
    let talk = gzip(&member("talk", XHeader, "", words.len() as u64, words.as_bytes()));
    let talk = [talk.repeat(2000), gzip(&archive(&[file("a", b"")]))].concat();
    vec![
        ("gigabytes in one gzip", "bytes of content", films),
        ("a film of zeros in one xz", "bytes of content", large),
        ("a crowd of empty files", " members", crowd),
        ("folders nobody names", " members", nested(50)),
        ("a folder nobody gets to the end of", "parts in one path", nested(500)),
        ("extended headers without end", "bytes in extended headers", talk),
    ]
}

#[test]
fn a_small_package_that_unpacks_to_very_much_is_refused_and_nothing_of_it_is_left() {
    let cut = Interrupted::new();
    let slots = cut.nas.var().join("slots");
    for (what, why, payload) in bombs() {
        let answer = cut.goes_on_with(&around(info_announcing(100), &payload));
        assert_eq!(answer.code, 1, "{what}: {}", answer.said);
        assert!(answer.said.contains("is refused: "), "{what}: {}", answer.said);
        assert!(answer.said.contains(why), "{what}: {}", answer.said);
        assert_eq!(fs::read_dir(&slots).unwrap().count(), 0, "{what}");
        assert!(!cut.update_folder().join("unpacked").exists(), "{what}");
    }
    assert_eq!(cut.goes_on_with(&cut.honest()).code, 0);
}

#[test]
fn an_update_never_takes_the_last_of_a_volume_and_is_taken_once_there_is_room() {
    let cut = Interrupted::new();
    let described = format!("[daemon]\ncommand = [\"{{target}}/bin/x\"]\n{QUICK}");
    let files = (0..2000).map(|number| file(&format!("share/note {number}"), b"a"));
    let described = file("conf/daemon.toml", described.as_bytes());
    let notes = gzip(&archive(&[vec![described], files.collect()].concat()));
    for (volume_mib, announced_kib, said) in [
        // It says how much it needs, and there is not so much.
        (96, 2 << 20, "the update needs 2048 MiB, and "),
        // It needs more than it says: every small file takes a block, and there are two thousand.
        (67, 1024, " MiB of the disk that it may"),
    ] {
        let package = around(info_announcing(announced_kib), &notes);
        let Some(told) = cut.goes_on_in(volume_mib, &package) else {
            eprintln!("this machine lets nobody mount a small disk: that part was left out");
            break;
        };
        assert!(told.contains(said) && told.contains("what to do: free "), "{told}");
        assert!(told.contains("nothing is left there"), "{told}");
        assert!(!cut.update_folder().join("unpacked").exists());
        // That was not its fault: it is not refused.
        let shown = cut.nas.run(&["update", "show"]).said;
        assert!(!shown.contains("refused") && shown.contains("1.0-0002, fetched"), "{shown}");
    }
    assert_eq!(cut.goes_on_with(&cut.honest()).code, 0);
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
    let answer = cut.goes_on_with(&cut.honest());
    assert_eq!(answer.code, 0, "{}", answer.said);
}
