//! One cache for many checkouts: dependencies are compiled once, our own crates for each checkout.
//!
//! The path of the checkout must not get into a program, so the compiler is told to write another.
//! Told to all, that flag would make cargo compile every dependency anew for each checkout. So only
//! our own crates are told, by a script between cargo and the compiler ([`WRAPPER`]). Cargo knows
//! the script by its name, which is the same everywhere, and so are the bytes it makes.
//!
//! Cargo takes a crate of ours for compiled when no file of it is younger than the result,
//! whichever checkout the result was made from. [`Turn`] therefore makes it forget our crates when
//! another checkout was built last, and lets one checkout build at a time.
//!
//! **Invariant:** what cargo does not compile anew was compiled from this checkout, or is nobody's.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The script's name; cargo finds it in `PATH`.
pub const WRAPPER: &str = "holdfast-nas-rustc";
/// Where the script finds the path it is to hide.
pub const ROOT: &str = "HOLDFAST_NAS_ROOT";
/// What is written in its place.
pub const SHOWN: &str = "holdfast";

/// Cargo calls it with the compiler and what that is to do.
fn script() -> String {
    format!(
        "#!/bin/sh\n# Made by `cargo nas build`: no path of the checkout gets into a program.\n\
         exec \"$@\" \"--remap-path-prefix=${ROOT}={SHOWN}\"\n"
    )
}

/// Puts the script into `folder`.
pub fn put_wrapper(folder: &Path) -> io::Result<()> {
    let path = folder.join(WRAPPER);
    let script = script();
    if fs::read(&path).is_ok_and(|found| found == script.as_bytes()) {
        return Ok(());
    }
    fs::create_dir_all(folder)?;
    let part = folder.join(format!(".{WRAPPER}.{}", std::process::id()));
    fs::write(&part, script)?;
    fs::set_permissions(&part, fs::Permissions::from_mode(0o755))?;
    fs::rename(&part, &path)
}

/// The right to build from one checkout, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    _lock: File,
}

impl Turn {
    /// Waits for the turn of the checkout at `root` in cargo's folder `target`.
    pub fn take(root: &Path, target: &Path, profile: &str) -> io::Result<Self> {
        fs::create_dir_all(target)?;
        let path = target.join("holdfast-checkout");
        let mut options = OpenOptions::new();
        let mut lock = options.read(true).write(true).create(true).truncate(false).open(path)?;
        lock.lock()?;
        let mut before = Vec::new();
        lock.read_to_end(&mut before)?;
        let own = root.as_os_str().as_bytes();
        if before != own {
            // Cut off before all is forgotten, it is begun again.
            lock.set_len(0)?;
            forget(&members(root)?, target, profile)?;
            lock.rewind()?;
            lock.write_all(own)?;
        }
        Ok(Self { _lock: lock })
    }
}

/// Our own crates: those of the lock file that come from nowhere else.
fn members(root: &Path) -> io::Result<Vec<String>> {
    let text = fs::read_to_string(root.join("Cargo.lock"))?;
    let value = |package: &str, key: &str| {
        let line = package.lines().find_map(|line| line.strip_prefix(key))?;
        Some(line.trim_matches(['=', ' ', '"']).to_owned())
    };
    let packages = text.split("[[package]]").skip(1);
    let ours = packages.filter(|package| value(package, "source").is_none());
    Ok(ours.filter_map(|package| value(package, "name")).collect())
}

/// Removes what cargo remembers of these crates, for every target; what it compiled it then makes
/// anew.
fn forget(crates: &[String], target: &Path, profile: &str) -> io::Result<()> {
    let mut remembered: Vec<PathBuf> = vec![target.join(profile).join(".fingerprint")];
    for entry in fs::read_dir(target)? {
        remembered.push(entry?.path().join(profile).join(".fingerprint"));
    }
    for folder in remembered {
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            // A crate's name and a number.
            let crate_name = name.to_str().and_then(|name| Some(name.rsplit_once('-')?.0));
            if crate_name.is_some_and(|name| crates.iter().any(|ours| ours == name)) {
                fs::remove_dir_all(entry.path())?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = "version = 4\n\n[[package]]\nname = \"engine\"\nversion = \"1\"\n\
        dependencies = [\n \"zstd\",\n]\n\n[[package]]\nname = \"zstd\"\nversion = \"2\"\n\
        source = \"registry+https://example\"\n";

    fn remembered(target: &Path) -> Vec<String> {
        let entries = fs::read_dir(target.join("armv5/nas/.fingerprint")).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn another_checkout_keeps_the_dependencies_and_nothing_of_ours() {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("target");
        let build = |checkout: &str| {
            let root = place.path().join(checkout);
            fs::create_dir_all(&root).unwrap();
            fs::write(root.join("Cargo.lock"), LOCK).unwrap();
            drop(Turn::take(&root, &target, "nas").unwrap());
            let before = remembered_or_none(&target);
            for name in ["engine-0123", "zstd-4567", "engine-more-89ab"] {
                let folder = target.join("armv5/nas/.fingerprint").join(name);
                fs::create_dir_all(folder).unwrap();
            }
            before
        };
        assert_eq!(build("one"), [""; 0]);
        assert_eq!(build("one"), ["engine-0123", "engine-more-89ab", "zstd-4567"]);
        assert_eq!(build("another"), ["engine-more-89ab", "zstd-4567"]);
        assert_eq!(build("one"), ["engine-more-89ab", "zstd-4567"]);
    }

    fn remembered_or_none(target: &Path) -> Vec<String> {
        if target.join("armv5").exists() { remembered(target) } else { Vec::new() }
    }

    #[test]
    fn our_own_crates_are_those_of_this_workspace() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let ours = members(&root).unwrap();
        for name in ["engine-daemon", "supervisor-agent", "spk", "cross"] {
            assert!(ours.iter().any(|found| found == name), "{name}: {ours:?}");
        }
        assert!(!ours.iter().any(|name| name == "zstd" || name == "serde"), "{ours:?}");
    }

    #[test]
    fn the_script_runs_the_compiler_with_the_path_hidden() {
        let place = tempfile::tempdir().unwrap();
        put_wrapper(place.path()).unwrap();
        let script = fs::read_to_string(place.path().join(WRAPPER)).unwrap();
        // Read by a shell: another test may be starting a program, which has our file open.
        let said = std::process::Command::new("/bin/sh")
            .args(["-c", &script, "sh", "echo", "--crate-name", "a b"])
            .env(ROOT, "/home/some body/clone")
            .output()
            .unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let hidden = "--remap-path-prefix=/home/some body/clone=holdfast\n";
        assert_eq!(said, format!("--crate-name a b {hidden}"));
    }
}
