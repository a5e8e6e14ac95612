//! The power fails in the middle of one of DSM's scripts: at every single call that changes the
//! disk. Then DSM, or the owner, does what comes next, and nothing is lost and nothing is half.
//!
//! `strace` ends the script with SIGKILL when it makes its n-th call of a kind, for every n.

mod world;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use world::{GOOD, Nas, PACKAGE, QUICK};

/// Calls that change the disk. Each is counted for itself.
const CALLS: [&str; 6] = ["renameat", "fsync", "unlinkat", "mkdirat", "openat", "write"];

/// No script makes more calls of a kind.
const CALLS_MAX: usize = 2000;

/// Of the frequent calls only every so many-th is a place to stop at: most of them only read. With
/// time to spare (`--features long`), each is.
fn stride(call: &str) -> usize {
    match call {
        _ if cfg!(feature = "long") => 1,
        "openat" => 23,
        "write" => 3,
        _ => 1,
    }
}

/// One thing DSM does.
#[derive(Debug, Clone, Copy)]
enum Does {
    /// Runs this script, with this word for what is going on.
    Script(&'static str, &'static str),
    /// Wipes the target.
    Wipes,
    /// Puts the payload in place.
    Unpacks,
}

use Does::{Script, Unpacks, Wipes};

const INSTALL: &[Does] = &[Script("preinst", "INSTALL"), Unpacks, Script("postinst", "INSTALL")];

const UPGRADE: &[Does] = &[
    Script("preupgrade", "UPGRADE"),
    Script("preuninst", "UPGRADE"),
    Wipes,
    Script("postuninst", "UPGRADE"),
    Script("preinst", "UPGRADE"),
    Unpacks,
    Script("postinst", "UPGRADE"),
    Script("postupgrade", "UPGRADE"),
];

const REMOVAL: &[Does] =
    &[Script("preuninst", "UNINSTALL"), Wipes, Script("postuninst", "UNINSTALL")];

/// A NAS that can be put back to how it was.
struct Story {
    major: u32,
    before: PathBuf,
    _place: tempfile::TempDir,
    answers: &'static [(&'static str, &'static str)],
    volume: &'static str,
    /// What DSM says beside.
    environment: Vec<(String, String)>,
    /// A call that is refused beside, as `strace` writes it.
    refusing: Option<&'static str>,
}

impl Story {
    /// Remembers how the NAS is now.
    fn of(nas: &Nas, major: u32) -> Self {
        let place = tempfile::tempdir().unwrap();
        let before = place.path().join("nas");
        copy(nas.root(), &before);
        let (answers, environment) = (&[], Vec::new());
        Self {
            major,
            before,
            _place: place,
            answers,
            volume: "volume1",
            environment,
            refusing: None,
        }
    }

    fn box_(&self) -> Nas {
        let mut nas = Nas::bare(self.major);
        self.volume.clone_into(&mut nas.volume);
        nas.environment.clone_from(&self.environment);
        copy(&self.before, nas.root());
        nas
    }

    fn does(&self, nas: &mut Nas, todo: &[Does]) {
        for step in todo {
            match step {
                Script(name, status) => {
                    let answer = nas.try_hook(name, status, self.answers);
                    assert_eq!(answer.code, 0, "{name}: {}", answer.said);
                }
                Wipes => nas.wipe_target(),
                Unpacks => nas.unpack(GOOD, QUICK),
            }
        }
    }

    /// Cuts every script of `todo` at every call; `then` goes on, and judges.
    fn is_cut_everywhere(&self, todo: &[Does], then: impl Fn(&mut Nas, usize, &str)) {
        let mut cuts = 0;
        for (at, step) in todo.iter().enumerate() {
            let Script(name, status) = step else { continue };
            let mut ready = self.box_();
            self.does(&mut ready, &todo[..at]);
            let environment = self.environment.clone();
            let here = Self { volume: self.volume, environment, ..Self::of(&ready, self.major) };
            for call in CALLS {
                let mut is_done = false;
                for n in (1..CALLS_MAX).step_by(stride(call)) {
                    let mut nas = here.box_();
                    is_done =
                        nas.cut(&["hook", name], (status, self.answers), (call, n), self.refusing);
                    if is_done {
                        break;
                    }
                    cuts += 1;
                    then(&mut nas, at, &format!("DSM {}: {name}, {call} {n}", self.major));
                }
                assert!(is_done, "{name} makes more than {CALLS_MAX} calls of {call}");
            }
        }
        assert!(cuts > 1, "only {cuts} cuts were made");
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    let copied = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().unwrap();
    assert!(copied.success());
}

/// A box with our package and something of worth on it; its GUID.
fn in_use(major: u32) -> (Nas, String) {
    let mut nas = Nas::empty(major);
    nas.install(GOOD);
    fs::create_dir_all(nas.var().join("cache/deep")).unwrap();
    fs::write(nas.var().join("cache/deep/index"), "much work").unwrap();
    fs::write(nas.var().join("settings.json"), "{}").unwrap();
    let guid = nas.guid();
    (nas, guid)
}

/// Everything of worth is in its place, and nothing else was left behind.
#[track_caller]
fn all_is_well(nas: &Nas, guid: &str, when: &str) {
    assert_eq!(nas.guid(), guid, "{when}");
    let read = |name: &str| fs::read_to_string(nas.var().join(name)).unwrap_or_default();
    assert_eq!(
        (read("cache/deep/index").as_str(), read("settings.json").as_str()),
        ("much work", "{}"),
        "{when}: {:?}",
        names(&nas.var())
    );
    let odd = |name: &String| {
        name.starts_with('.') || [".new", ".before", ".dsm6"].iter().any(|it| name.contains(it))
    };
    let left: Vec<String> = names(&nas.var()).into_iter().filter(odd).collect();
    assert!(left.is_empty(), "{when}: left behind {left:?}");
    for volume in ["volume1", "volume2"] {
        let store = nas.path(volume).join("@appstore");
        let waits: Vec<String> = names(&store).into_iter().filter(|name| name != PACKAGE).collect();
        assert!(waits.is_empty(), "{when}: {waits:?} still waits");
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn an_upgrade_cut_anywhere_loses_nothing_when_it_is_done_again() {
    for major in [6, 7] {
        let (nas, guid) = in_use(major);
        let story = Story::of(&nas, major);
        story.is_cut_everywhere(UPGRADE, |nas, _, when| {
            story.does(nas, UPGRADE);
            all_is_well(nas, &guid, when);
        });
    }
}

/// DSM 6 and 7 with time to spare, else the one.
fn majors(one: u32) -> Vec<u32> {
    if cfg!(feature = "long") { vec![6, 7] } else { vec![one] }
}

/// What Repair does on DSM 7 after a script failed: the package is upgraded to itself.
const REPAIR: &[Does] = &[
    Script("preupgrade", "UPGRADE"),
    Wipes,
    Script("preinst", "UPGRADE"),
    Unpacks,
    Script("postinst", "UPGRADE"),
    Script("postupgrade", "UPGRADE"),
];

#[test]
fn a_repair_cut_anywhere_is_repaired_by_the_next() {
    for major in majors(7) {
        let (nas, guid) = in_use(major);
        let story = Story::of(&nas, major);
        story.is_cut_everywhere(REPAIR, |nas, _, when| {
            story.does(nas, REPAIR);
            nas.start();
            nas.expect_code("stop", 0);
            all_is_well(nas, &guid, when);
        });
    }
}

#[test]
fn a_downgrade_cut_anywhere_loses_nothing_and_the_newer_version_can_come_back() {
    for major in majors(6) {
        let (mut nas, guid) = in_use(major);
        // The version DSM thinks is there, which an owner who goes back has edited.
        let info = nas.path("var/packages").join(PACKAGE).join("INFO");
        fs::write(&info, format!("package=\"{PACKAGE}\"\nversion=\"2.0-0002\"\n")).unwrap();
        nas.environment.push(("SYNOPKG_OLD_PKGVER".into(), "2.0-0002".into()));
        nas.environment.push(("SYNOPKG_PKGVER".into(), "1.0-0001".into()));
        let mut story = Story::of(&nas, major);
        story.environment = nas.environment.clone();
        story.is_cut_everywhere(UPGRADE, |nas, _, when| {
            let older = format!("package=\"{PACKAGE}\"\nversion=\"1.0-0001\"\n");
            fs::write(nas.path("var/packages").join(PACKAGE).join("INFO"), older).unwrap();
            story.does(nas, UPGRADE);
            all_is_well(nas, &guid, when);
            for (_, value) in &mut nas.environment {
                *value = if value == "2.0-0002" { "1.0-0001" } else { "2.0-0002" }.to_owned();
            }
            story.does(nas, UPGRADE);
            all_is_well(nas, &guid, when);
        });
    }
}

#[test]
fn an_upgrade_cut_before_the_old_version_is_gone_leaves_the_old_version_whole() {
    let (nas, guid) = in_use(6);
    let story = Story::of(&nas, 6);
    // DSM gives up the upgrade, and starts what was there: at once or after the next boot.
    story.is_cut_everywhere(&UPGRADE[..2], |nas, _, when| {
        nas.start();
        nas.expect_code("stop", 0);
        all_is_well(nas, &guid, when);
    });
}

#[test]
fn a_first_installation_cut_anywhere_is_repaired_and_has_one_identity() {
    for major in [5, 7] {
        let story = Story::of(&Nas::empty(major), major);
        story.is_cut_everywhere(INSTALL, |nas, _, when| {
            let known = nas.run(&["identity", "guid"]);
            story.does(nas, UPGRADE);
            assert!(known.code != 0 || known.said.trim() == nas.guid(), "{when}");
            let shown = nas.run(&["identity", "show"]).said;
            assert!(shown.contains("copies agree"), "{when}: {shown}");
        });
    }
}

#[test]
fn a_removal_that_keeps_the_data_keeps_it_wherever_it_is_cut() {
    for major in [6, 7] {
        let (nas, guid) = in_use(major);
        let story = Story::of(&nas, major);
        story.is_cut_everywhere(REMOVAL, |nas, _, when| {
            story.does(nas, REMOVAL);
            story.does(nas, INSTALL);
            all_is_well(nas, &guid, when);
        });
    }
}

#[test]
fn a_removal_with_the_data_is_finished_by_whatever_comes_next_or_never_began() {
    for major in [6, 7] {
        let (nas, guid) = in_use(major);
        let mut story = Story::of(&nas, major);
        story.answers = &[("wizard_delete_data", "true")];
        story.is_cut_everywhere(&REMOVAL[..1], |nas, _, when| {
            nas.start();
            nas.expect_code("stop", 0);
            let var = nas.var();
            let has = |name: &str| var.join(name).exists();
            assert_eq!(has("settings.json"), has("cache/deep/index"), "{when}: half is left");
            assert!(!has(".deleting"), "{when}");
            assert_eq!(nas.guid(), guid, "{when}");
            story.does(nas, &REMOVAL[..1]);
            assert!(!has("settings.json") && !has("cache"), "{when}");
        });
    }
}

#[test]
fn data_of_dsm_6_reaches_its_place_on_dsm_7_wherever_the_move_is_cut() {
    let (six, guid) = in_use(6);
    let seven = Nas::empty(7);
    seven.unpack(GOOD, QUICK);
    copy(&six.var(), &seven.target().join("var"));
    let mut story = Story::of(&seven, 7);
    // As if the two were on different volumes, too: the first move is refused and becomes a copy.
    let everything = (None, UPGRADE);
    let to_another_disk = (Some("renameat:error=EXDEV:when=1"), &UPGRADE[..1]);
    for (refusing, cut) in [everything, to_another_disk] {
        story.refusing = refusing;
        let boots_first = std::cell::Cell::new(false);
        story.is_cut_everywhere(cut, |nas, at, when| {
            boots_first.set(!boots_first.get());
            if at < 2 && boots_first.get() {
                nas.start();
                nas.expect_code("stop", 0);
            }
            story.does(nas, UPGRADE);
            all_is_well(nas, &guid, when);
        });
    }
}

#[test]
fn data_follows_a_package_to_another_volume_wherever_the_move_is_cut() {
    for major in [6, 7] {
        let (mut nas, guid) = in_use(major);
        for script in ["preuninst", "postuninst"] {
            nas.hook(script, "UNINSTALL");
        }
        nas.move_to_volume("volume2");
        let mut story = Story { volume: "volume2", ..Story::of(&nas, major) };
        // The first move of data is refused; on DSM 7 a note of where from is put in place before.
        let refused = match major {
            6 => "renameat:error=EXDEV:when=1",
            _ => "renameat:error=EXDEV:when=2",
        };
        for refusing in [None, Some(refused)] {
            story.refusing = refusing;
            story.is_cut_everywhere(INSTALL, |nas, _, when| {
                story.does(nas, UPGRADE);
                all_is_well(nas, &guid, when);
            });
        }
    }
}

#[test]
fn a_dsm_upgrade_that_scrubs_the_system_partition_loses_nothing() {
    for major in [5, 6, 7] {
        let (nas, guid) = in_use(major);
        for folder in ["var/lib", "etc", "usr/local"] {
            let _ = fs::remove_dir_all(nas.path(folder));
        }
        nas.start();
        nas.expect_code("stop", 0);
        all_is_well(&nas, &guid, &format!("DSM {major}"));
        let shown = nas.run(&["identity", "show"]).said;
        assert!(shown.contains("copies agree"), "DSM {major}: {shown}");
    }
}
