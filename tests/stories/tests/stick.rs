//! Sticks and drives as they are bought, with exFAT or NTFS on them: as a destination, and to carry
//! away what was restored. They have no owners, no links, and fewer names than a snapshot.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use tests_support::{TempHome, run};

/// What is on the drive, and how it is mounted.
#[derive(Clone, Copy)]
struct Made {
    mkfs: &'static [&'static str],
    mount: &'static [&'static str],
    options: &'static [&'static str],
}

const EXFAT: Made = Made { mkfs: &["mkfs.exfat"], mount: &["mount.exfat-fuse"], options: &[] };
/// As Windows has it: no name that Windows could not open, whatever its case.
const NTFS: Made = Made {
    mkfs: &["mkntfs", "-Q", "-F"],
    mount: &["lowntfs-3g"],
    options: &["-o", "ignore_case,windows_names"],
};

/// A drive that is plugged in.
struct Stick {
    device: String,
    at: PathBuf,
}

impl Stick {
    /// `None` where the system lets nobody plug one in.
    fn plugged_in(home: &TempHome, at: &Path, made: Made) -> Option<Self> {
        let image = home.join("drive");
        fs::File::create(&image).and_then(|file| file.set_len(256 << 20)).unwrap();
        let looped = Command::new("losetup").args(["--find", "--show"]).arg(&image).output();
        let looped = looped.ok().filter(|looped| looped.status.success())?;
        let device = String::from_utf8(looped.stdout).unwrap().trim().to_owned();
        let stick = Self { device, at: at.to_owned() };
        fs::create_dir_all(at).unwrap();
        run(Command::new(made.mkfs[0]).args(&made.mkfs[1..]).arg(&stick.device)).must_succeed();
        let mut mount = Command::new(made.mount[0]);
        mount.arg(&stick.device).arg(at).args(made.options);
        let mounted = mount.output().is_ok_and(|mounted| mounted.status.success());
        mounted.then_some(stick)
    }
}

impl Drop for Stick {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.at).output();
        let _ = Command::new("losetup").args(["--detach", &self.device]).output();
    }
}

/// A home, and a drive of each kind plugged in at `at`.
fn with_each_kind_of_drive(at: &str, day: impl Fn(&TempHome, &Path)) {
    for made in [EXFAT, NTFS] {
        let home = TempHome::new();
        let at = home.join(at);
        let Some(_stick) = Stick::plugged_in(&home, &at, made) else {
            eprintln!("not tried: this system lets nobody mount a drive with {}", made.mkfs[0]);
            continue;
        };
        day(&home, &at);
    }
}

fn ours(home: &TempHome, words: &[&str]) -> String {
    run(&mut home.holdfast(words)).must_succeed().out
}

/// What ends with an account of what could not be done.
#[track_caller]
fn restored_as_far_as_it_goes(home: &TempHome, target: &Path) -> String {
    let words = ["restore", "latest", "--verify", "--delete", "--target"];
    let done = run(home.holdfast(&words).arg(target)).must_end_with(1);
    format!("{}{}", done.out, done.err)
}

#[test]
fn a_drive_of_windows_is_a_destination_like_any_other() {
    with_each_kind_of_drive("repository", |home, _| {
        let source = home.source();
        fs::create_dir_all(source.join("folder")).unwrap();
        fs::write(source.join("folder/file"), "as it was").unwrap();
        fs::write(source.join("large"), vec![7; 3 << 20]).unwrap();
        ours(home, &["init"]);
        let backup = ["backup", source.to_str().unwrap()];
        ours(home, &backup);
        fs::write(source.join("folder/file"), "as it is").unwrap();
        fs::remove_file(source.join("large")).unwrap();
        ours(home, &backup);
        ours(home, &["forget", "--keep-last", "1", "--prune"]);
        ours(home, &["check", "--read-data"]);
        run(&mut home.restic(&["check", "--read-data"])).must_succeed();
        let target = home.restored();
        ours(home, &["restore", "latest", "--verify", "--target", target.to_str().unwrap()]);
        let back = fs::read_to_string(home.restored_source().join("folder/file")).unwrap();
        assert_eq!(back, "as it is");
    });
}

/// Files of every kind that such a drive does not know.
fn a_source_of_everything(source: &Path) {
    for folder in ["Letters", "letters", "photos"] {
        fs::create_dir_all(source.join(folder)).unwrap();
        fs::write(source.join(folder).join("one"), folder).unwrap();
    }
    for (name, text) in [("Photo.jpg", "upper"), ("photo.jpg", "lower"), ("12:30?", "odd")] {
        fs::write(source.join("photos").join(name), text).unwrap();
    }
    fs::write(source.join("film"), vec![3; 700_000]).unwrap();
    fs::hard_link(source.join("film"), source.join("photos/the same film")).unwrap();
    chown(source.join("film"), Some(1026), Some(100)).unwrap();
    symlink("film", source.join("link")).unwrap();
    nix::unistd::mkfifo(&source.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
}

/// What is in all whose names are like these, whatever their case: such drives may show another.
fn contents(folder: &Path, start: &str, end: &str) -> Vec<String> {
    let found = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let fits = |entry: &fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap().to_lowercase();
        name.starts_with(start) && name.ends_with(end)
    };
    let found = found.filter(fits).map(|entry| entry.path());
    let files = found.map(|found| if found.is_dir() { found.join("one") } else { found });
    let mut contents: Vec<_> = files.map(|file| fs::read_to_string(file).unwrap()).collect();
    contents.sort();
    contents
}

#[test]
fn everything_is_restored_to_a_drive_of_windows_that_it_can_hold_and_the_rest_is_told() {
    with_each_kind_of_drive("stick", |home, stick| {
        let source = home.source();
        a_source_of_everything(&source);
        ours(home, &["init"]);
        let backup = ["backup", source.to_str().unwrap()];
        ours(home, &backup);
        let target = stick.join("restored");
        let back = target.join(source.strip_prefix("/").unwrap());
        // The second time, all that can be there is.
        for is_first in [true, false] {
            let said = restored_as_far_as_it_goes(home, &target);
            for name in ["Letters", "letters", "Photo.jpg", "photo.jpg", "12:30?"] {
                assert!(said.contains(&format!("/{name}: is called ")), "{name}: {said}");
            }
            assert!(!said.contains("updated"), "{said}");
            assert_eq!(said.contains("unchanged"), !is_first, "{said}");
            assert_eq!(contents(&back.join("photos"), "photo~", ".jpg"), ["lower", "upper"]);
            assert_eq!(contents(&back.join("photos"), "12_30_~", ""), ["odd"]);
            assert_eq!(contents(&back, "letters~", ""), ["Letters", "letters"]);
            for name in ["film", "photos/the same film"] {
                assert_eq!(fs::read(back.join(name)).unwrap(), [3; 700_000], "{name}");
            }
            assert_eq!(fs::read_dir(stick).unwrap().count(), 1, "something was left");
            assert_eq!(fs::read_dir(&target).unwrap().count(), 1, "something was left");
        }
        // Another name for the drive is the same name: it is not removed for being another.
        fs::rename(source.join("film"), source.join("FILM")).unwrap();
        ours(home, &backup);
        let said = restored_as_far_as_it_goes(home, &target);
        assert!(!said.contains("deleted"), "{said}");
        assert_eq!(fs::read(back.join("FILM")).unwrap(), [3; 700_000]);
        // One of two is alone now, and has its name.
        fs::remove_file(source.join("photos/Photo.jpg")).unwrap();
        ours(home, &backup);
        restored_as_far_as_it_goes(home, &target);
        assert_eq!(contents(&back.join("photos"), "photo", ".jpg"), ["lower"]);
    });
}
