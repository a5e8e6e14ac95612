//! The NAS: a folder that looks like the root of a Synology system.
//!
//! What DSM does to packages is in `operations`, how it runs their scripts in `scripts`, what it
//! asks of a package before it lets it in in [`package`]. A NAS keeps nothing in memory: it can be
//! opened again, by another process, from its folder alone.

mod error;
mod links;
mod operations;
pub mod package;
mod scripts;
mod system;

pub use error::NasError;
pub use operations::{Done, Removal, State};
pub use system::{Dsm, Hardware, Shell, Version};

pub(crate) use error::AtPath;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Package users get ids from here on; a real machine has none there.
const PACKAGE_UID_MIN: u32 = 65_100;
/// A process that was killed and is still there after this time will stay.
const POWER_CUT_MAX: Duration = Duration::from_secs(60);

/// A NAS in a folder.
#[derive(Debug, Clone)]
pub struct Nas {
    root: PathBuf,
    dsm: Dsm,
    hardware: Hardware,
    shell: Shell,
}

/// The user a package runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// User id, which is also the group's.
    pub uid: u32,
}

impl Nas {
    /// Makes a NAS in `root`, which must be empty or missing.
    pub fn create(
        root: &Path,
        dsm: Dsm,
        hardware: Hardware,
        shell: Shell,
    ) -> Result<Self, NasError> {
        fs::create_dir_all(root).at(root)?;
        let root = fs::canonicalize(root).at(root)?;
        if fs::read_dir(&root).at(&root)?.next().is_some() {
            return Err(NasError::Place {
                path: root,
                fact: "the folder is not empty",
                remedy: "choose a folder that does not exist yet",
            });
        }
        let nas = Self { root, dsm, hardware, shell };
        nas.everybody_may_enter()?;
        nas.make_folders()?;
        nas.make_settings()?;
        nas.make_programs()?;
        Ok(nas)
    }

    /// Opens the NAS in `root`.
    pub fn open(root: &Path) -> Result<Self, NasError> {
        let no_nas = |fact| NasError::Place {
            path: root.to_path_buf(),
            fact,
            remedy: "make one with `nas create`",
        };
        let root = fs::canonicalize(root).at(root)?;
        let value = |file: &str, key: &str| {
            let text = fs::read_to_string(root.join(file)).ok()?;
            let found = package::Info::parse(&text).ok()?;
            found.get(key).map(str::to_owned)
        };
        let dsm = value("etc.defaults/VERSION", "majorversion")
            .and_then(|number| Dsm::from_number(number.parse().ok()?))
            .ok_or_else(|| no_nas("there is no NAS in this folder"))?;
        let hardware = value("etc/synoinfo.conf", "unique")
            .and_then(|unique| Hardware::of(unique.split('_').nth(1)?))
            .ok_or_else(|| no_nas("the NAS does not know its platform"))?;
        let shell = fs::read_link(root.join("bin/sh"))
            .map_err(|_| no_nas("the NAS has no shell"))?
            .ends_with("busybox");
        let shell = if shell { Shell::Ash } else { Shell::Bash };
        Ok(Self { root, dsm, hardware, shell })
    }

    /// The folder that is its root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The DSM it runs.
    pub fn dsm(&self) -> Dsm {
        self.dsm
    }

    /// The hardware it claims to be.
    pub fn hardware(&self) -> &Hardware {
        &self.hardware
    }

    /// The shell of its scripts.
    pub fn shell(&self) -> Shell {
        self.shell
    }

    /// A path of the NAS as the machine sees it; links above the last part are followed inside.
    pub fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        links::resolve(&self.root, inside.as_ref())
    }

    /// `/var/packages/NAME`.
    pub fn package_folder(&self, package: &str) -> PathBuf {
        self.root.join("var/packages").join(package)
    }

    /// `target`, where the payload is.
    pub fn target(&self, package: &str) -> PathBuf {
        self.root.join("volume1/@appstore").join(package)
    }

    /// What the package keeps: `var` on DSM 7, `target/var` by convention before.
    pub fn var(&self, package: &str) -> PathBuf {
        match self.dsm {
            Dsm::Seven => self.root.join("volume1/@appdata").join(package),
            _ => self.target(package).join("var"),
        }
    }

    /// `etc` of the package.
    pub fn etc(&self, package: &str) -> PathBuf {
        match self.dsm {
            Dsm::Seven => self.root.join("volume1/@appconf").join(package),
            _ => self.root.join("usr/syno/etc/packages").join(package),
        }
    }

    /// The log with everything the package's scripts and daemon said.
    pub fn package_log(&self, package: &str) -> PathBuf {
        self.root.join("var/log/packages").join(format!("{package}.log"))
    }

    /// Everything DSM's own programs were asked, a line each.
    pub fn asked(&self) -> String {
        fs::read_to_string(self.root.join("var/log/asked.log")).unwrap_or_default()
    }

    /// The version installed, when the package is installed.
    pub fn installed(&self, package: &str) -> Option<String> {
        let info = package::Info::in_folder(&self.package_folder(package)).ok()?;
        Some(info.version().to_owned())
    }

    /// A shared folder that the package may write to, as the owner makes it in Control Panel.
    pub fn share(&self, name: &str, package: &str) -> Result<PathBuf, NasError> {
        let folder = self.root.join("volume1").join(name);
        fs::create_dir_all(&folder).at(&folder)?;
        self.give(&folder, self.user_of(package)?)?;
        Ok(folder)
    }

    /// Package users are people of the outside world: they must be able to reach the root.
    fn everybody_may_enter(&self) -> Result<(), NasError> {
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&self.root, open).at(&self.root)?;
        if self.dsm != Dsm::Seven || !is_root() {
            return Ok(());
        }
        for folder in self.root.ancestors() {
            if fs::metadata(folder).at(folder)?.permissions().mode() & 0o001 == 0 {
                return Err(NasError::Place {
                    path: folder.to_path_buf(),
                    fact: "a package's own user cannot enter the folder",
                    remedy: "make the NAS in a folder everybody may enter, below /tmp or /var/tmp",
                });
            }
        }
        Ok(())
    }

    fn make_folders(&self) -> Result<(), NasError> {
        let mut folders = vec![
            "bin",
            "etc",
            "etc.defaults",
            "run/synopkg/lock",
            "tmp",
            "usr/local/etc",
            "usr/syno/bin",
            "usr/syno/etc/packages",
            "usr/syno/sbin",
            "var/log/packages",
            "var/packages",
            "var/run",
            "volume1/@appstore",
            "volume1/@tmp",
        ];
        if self.dsm == Dsm::Seven {
            folders.extend(["volume1/@appconf", "volume1/@appdata", "volume1/@apphome"]);
            folders.extend(["volume1/@apptemp", "usr/local/lib/systemd/system"]);
            folders.push("etc/systemd/system/syno-low-priority-packages.target.wants");
        }
        for folder in folders {
            let folder = self.root.join(folder);
            fs::create_dir_all(&folder).at(&folder)?;
        }
        for shared in ["tmp", "volume1/@tmp", "var/run"] {
            let folder = self.root.join(shared);
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o1777)).at(&folder)?;
        }
        Ok(())
    }

    fn make_settings(&self) -> Result<(), NasError> {
        let Some((shell, _)) = self.shell.program() else {
            return Err(NasError::Place {
                path: self.root.clone(),
                fact: "this machine lacks the shell the NAS is to use",
                remedy: "apt-get install busybox bash",
            });
        };
        let Hardware { model, .. } = &self.hardware;
        let unique = self.hardware.unique();
        let synoinfo = format!(
            "unique=\"{unique}\"\nupnpmodelname=\"DS{model}\"\nlanguage=\"enu\"\n\
             timezone=\"Amsterdam\"\nsupport_systemd=\"{}\"\n",
            if self.dsm == Dsm::Seven { "yes" } else { "no" }
        );
        for (file, text) in [
            ("etc.defaults/VERSION", self.dsm.version_file()),
            ("etc/VERSION", self.dsm.version_file()),
            ("etc.defaults/synoinfo.conf", synoinfo.clone()),
            ("etc/synoinfo.conf", synoinfo),
            ("etc/passwd", "root:x:0:0::/root:/bin/sh\n".to_owned()),
            ("var/log/asked.log", String::new()),
            ("var/log/synopkg.log", String::new()),
        ] {
            let path = self.root.join(file);
            fs::write(&path, text).at(&path)?;
        }
        let asked = self.root.join("var/log/asked.log");
        fs::set_permissions(&asked, fs::Permissions::from_mode(0o666)).at(&asked)?;
        let sh = self.root.join("bin/sh");
        symlink(&shell, &sh).at(&sh)
    }

    /// DSM's programs: each writes down what it was asked; the two that look things up do so.
    fn make_programs(&self) -> Result<(), NasError> {
        let root = self.root.display().to_string().replace('\'', "'\\''");
        let write_down = format!(
            "#!/bin/sh\n# Part of a NAS in a folder: writes down what it was asked.\n\
             echo \"${{0##*/}} $*\" >>'{root}/var/log/asked.log'\n"
        );
        let look_up =
            format!("{write_down}sed -n \"s/^$2=\\\"\\\\(.*\\\\)\\\"$/\\\\1/p\" \"$1\"\n");
        let no_conflict = format!("{write_down}echo 'IsConflict: false'\n");
        for (path, text) in [
            ("usr/syno/bin/synopkg", &write_down),
            ("usr/syno/bin/synoshare", &write_down),
            ("usr/syno/bin/synonotify", &write_down),
            ("usr/syno/bin/synosystemctl", &write_down),
            ("usr/syno/bin/servicetool", &no_conflict),
            ("usr/syno/bin/synogetkeyvalue", &look_up),
            ("usr/syno/sbin/synopkghelper", &write_down),
            ("usr/syno/sbin/synoservice", &write_down),
            ("bin/get_key_value", &look_up),
        ] {
            let path = self.root.join(path);
            fs::write(&path, text).at(&path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).at(&path)?;
        }
        Ok(())
    }

    /// Who the package's scripts and daemon are. `None`: whoever runs this NAS.
    pub fn user_of(&self, package: &str) -> Result<Option<User>, NasError> {
        if self.dsm != Dsm::Seven || !is_root() {
            return Ok(None);
        }
        let path = self.root.join("etc/passwd");
        let text = fs::read_to_string(&path).at(&path)?;
        let known = text.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(package)).then(|| fields.nth(1)?.parse().ok())?
        });
        Ok(known.map(|uid| User { uid }))
    }

    /// Makes the package's own user, who stays when the package goes.
    fn make_user(&self, package: &str) -> Result<Option<User>, NasError> {
        if self.dsm != Dsm::Seven || !is_root() {
            return Ok(None);
        }
        if let Some(user) = self.user_of(package)? {
            return Ok(Some(user));
        }
        let path = self.root.join("etc/passwd");
        let mut text = fs::read_to_string(&path).at(&path)?;
        let mine = text.lines().count() as u32 - 1;
        let taken = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let is_free = |uid: &u32| !taken.contains(&format!(":{uid}:"));
        let uid = (PACKAGE_UID_MIN + mine..).find(is_free).unwrap_or(PACKAGE_UID_MIN);
        text.push_str(&format!("{package}:x:{uid}:{uid}::/var/packages/{package}/home:/bin/sh\n"));
        fs::write(&path, text).at(&path)?;
        Ok(Some(User { uid }))
    }

    /// Gives a path and all below it to the package's user.
    fn give(&self, path: &Path, user: Option<User>) -> Result<(), NasError> {
        let Some(User { uid }) = user else { return Ok(()) };
        let meta = fs::symlink_metadata(path).at(path)?;
        std::os::unix::fs::lchown(path, Some(uid), Some(uid)).at(path)?;
        if meta.is_dir() {
            for entry in fs::read_dir(path).at(path)? {
                self.give(&entry.at(path)?.path(), user)?;
            }
        } else if !meta.is_symlink() {
            // chown clears setuid bits, as a package's own files never had them.
            chown(path, Some(uid), Some(uid)).at(path)?;
        }
        Ok(())
    }

    /// Processes whose program lies in this NAS, or that were told where its root is.
    pub fn processes(&self) -> Vec<u32> {
        let told = format!("HOLDFAST_DSM_ROOT={}", self.root.display());
        let is_ours = |pid: u32| {
            let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            exe.starts_with(&self.root)
                || environment.split(|byte| *byte == 0).any(|entry| entry == told.as_bytes())
        };
        let mut found: Vec<u32> = fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|pid| *pid != std::process::id() && is_ours(*pid))
            .collect();
        found.sort_unstable();
        found
    }

    /// Cuts the power: every process of this NAS is killed, nothing is told to anybody.
    pub fn cut_power(&self) {
        let begun = Instant::now();
        while begun.elapsed() < POWER_CUT_MAX {
            let left = self.processes();
            for pid in &left {
                let pid = nix::unistd::Pid::from_raw(pid.cast_signed());
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            }
            if left.is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Whether this process may change owners and users.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_nas(dsm: Dsm) -> (tempfile::TempDir, Nas) {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let hardware = Hardware::of("apollolake").unwrap();
        let root = folder.path().join("it's a nas");
        let nas = Nas::create(&root, dsm, hardware, Shell::Bash).unwrap();
        (folder, nas)
    }

    #[test]
    fn a_nas_is_known_from_its_folder_alone() {
        for dsm in [Dsm::Five, Dsm::Six, Dsm::Seven] {
            let (_folder, nas) = a_nas(dsm);
            let again = Nas::open(nas.root()).unwrap();
            assert_eq!((again.dsm(), again.shell()), (dsm, Shell::Bash));
            assert_eq!(again.hardware(), nas.hardware());
        }
        assert!(Nas::open(Path::new("/proc")).is_err());
    }

    #[test]
    fn its_programs_write_down_what_they_are_asked_and_look_up_what_they_know() {
        let (_folder, nas) = a_nas(Dsm::Six);
        let ask = |program: &str, arguments: &[&str]| {
            let mut command = std::process::Command::new(nas.root().join(program));
            crate::run(command.args(arguments)).must_succeed().out
        };
        ask("usr/syno/bin/synopkg", &["start", "holdfast"]);
        let synoinfo = nas.root().join("etc/synoinfo.conf").display().to_string();
        let unique = ask("bin/get_key_value", &[&synoinfo, "unique"]);
        assert_eq!(unique, "synology_apollolake_918+\n");
        assert!(nas.asked().starts_with("synopkg start holdfast\n"), "{}", nas.asked());
    }
}
