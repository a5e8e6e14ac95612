//! What the command line means once the world was asked: environment, program's place, RAM.

use crate::access_key;
use crate::arguments::Arguments;
use crate::failure::{Failure, exit};
use crate::output;
use engine_contract::layout::Layout;
use engine_contract::memory::{Facts, MIB, MemoryPlan, parse_size};
use engine_contract::{environment, memory};
use engine_storage::{Rates, Way};
use engine_transfer::{Effort, Who};
use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A password file is one line; a longer one is something else.
const PASSWORD_BYTES_MAX: u64 = 4096;

/// Flags, environment and facts of the machine, read once.
#[derive(Debug)]
pub struct World {
    repository: Option<String>,
    password_file: Option<PathBuf>,
    home: Option<PathBuf>,
    /// Where caches of repositories are kept, if they are.
    pub caches: Option<PathBuf>,
    /// Whether that folder was named, and is not only the usual one.
    pub is_cache_named: bool,
    /// How to go to the repository.
    pub way: Way,
    /// How long to wait for a lock.
    pub lock_wait: Option<Duration>,
    /// How much memory to use.
    pub memory: MemoryPlan,
    /// Where to say that the daemon is ready.
    pub ready_descriptor: Option<RawFd>,
    /// Where the owner wants the console, as the environment says it.
    pub console: Option<String>,
    /// How hard to compress.
    pub effort: Effort,
    /// Whether output is JSON.
    pub json: bool,
    /// Whether only errors are printed.
    pub quiet: bool,
    /// This computer's name.
    pub hostname: String,
    /// The name of the user we run as.
    pub username: String,
}

impl World {
    /// Shows a result: as JSON, as text, or not at all.
    pub fn say(&self, value: &impl serde::Serialize, text: impl FnOnce() -> String) {
        if self.json {
            output::json(value);
        } else if !self.quiet {
            output::line(&text());
        }
    }

    /// Reads the world once, for the whole program.
    pub fn read(arguments: &Arguments) -> Result<Self, Failure> {
        let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        let text = |value: OsString| value.to_string_lossy().into_owned();
        let path = |name: &str| variable(name).map(PathBuf::from);
        Ok(Self {
            repository: arguments
                .repo
                .clone()
                .or_else(|| variable(environment::REPOSITORY).map(text)),
            password_file: arguments
                .password_file
                .clone()
                .or_else(|| path(environment::PASSWORD_FILE)),
            home: arguments
                .home
                .clone()
                .or_else(|| path(environment::HOME))
                .or_else(|| home_beside(&env::current_exe().ok()?))
                .or_else(|| Some(path("HOME")?.join(".local/state/holdfast"))),
            is_cache_named: arguments.cache_dir.is_some(),
            caches: arguments
                .cache_dir
                .clone()
                .or_else(|| Some(path("XDG_CACHE_HOME")?.join("holdfast/repositories")))
                .or_else(|| Some(path("HOME")?.join(".cache/holdfast/repositories")))
                .filter(|_| !arguments.no_cache),
            way: Way {
                scratch: path("TMPDIR").unwrap_or_else(scratch),
                rates: Rates {
                    up: arguments.limit_upload.map(bytes_per_second),
                    down: arguments.limit_download.map(bytes_per_second),
                },
                access_key: match &arguments.access_key_file {
                    Some(path) => Some(access_key::read(path)?),
                    None => access_key::from_variables(|name| variable(name).map(text)),
                },
                ssh: crate::options::ssh_of(&arguments.option)?,
                is_patient: true,
            },
            lock_wait: arguments.retry_lock,
            memory: memory_plan(arguments.memory.as_deref(), variable(environment::MEMORY_BYTES))?,
            ready_descriptor: variable(environment::READY_DESCRIPTOR)
                .and_then(|value| text(value).parse().ok())
                .filter(|descriptor| *descriptor > 2),
            console: variable(environment::CONSOLE).map(text),
            effort: arguments.compression.effort(),
            json: arguments.json,
            quiet: arguments.quiet,
            hostname: hostname(),
            username: username(),
        })
    }

    /// The repository's location, or how to name one.
    pub fn repository(&self) -> Result<&str, Failure> {
        self.repository.as_deref().ok_or_else(|| {
            Failure::new("no repository was named")
                .remedy(format!("give `-r LOCATION`, or set {}", environment::REPOSITORY))
                .code(exit::WRONG_USE)
        })
    }

    /// Whether a password file was named.
    pub fn has_password_file(&self) -> bool {
        self.password_file.is_some()
    }

    /// The repository's password, read from its file.
    pub fn password(&self) -> Result<String, Failure> {
        let path = self.password_file.as_deref().ok_or_else(|| {
            Failure::new("no password file was named")
                .remedy(format!(
                    "give `--password-file FILE`, or set {}",
                    environment::PASSWORD_FILE
                ))
                .code(exit::WRONG_USE)
        })?;
        read_password(path)
    }

    /// The engine's home, or how to name one.
    pub fn layout(&self) -> Result<Layout, Failure> {
        let home = self.home.clone().ok_or_else(|| {
            Failure::new("the engine's home is not known")
                .remedy(format!("give `--home FOLDER`, or set {}", environment::HOME))
                .code(exit::WRONG_USE)
        })?;
        Ok(Layout::below(home))
    }
}

/// Where packs wait on their way to a server: on a disk. `/tmp` of a NAS is a piece of its memory.
fn scratch() -> PathBuf {
    let on_disk = Path::new("/var/tmp");
    if on_disk.is_dir() { on_disk.into() } else { env::temp_dir() }
}

fn bytes_per_second(kib: u32) -> u32 {
    kib.saturating_mul(1024)
}

/// Who works in a repository, for its locks.
pub fn who_we_are(hostname: &str, username: &str) -> Who {
    Who {
        hostname: hostname.to_owned(),
        username: username.to_owned(),
        uid: nix::unistd::getuid().as_raw(),
        gid: nix::unistd::getgid().as_raw(),
        pid: std::process::id(),
    }
}

/// The first line of a password file.
pub fn read_password(path: &Path) -> Result<String, Failure> {
    let failed = |why: String| {
        Failure::new(format!("the password file {} cannot be used: {why}", path.display()))
            .remedy("name a file whose first line is the repository's password")
    };
    let facts = fs::metadata(path).map_err(|error| failed(error.to_string()))?;
    if !facts.is_file() || facts.len() > PASSWORD_BYTES_MAX {
        return Err(failed(format!("it is no file of at most {PASSWORD_BYTES_MAX} bytes")));
    }
    let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err(failed("its first line is empty".into())),
    }
}

/// Where the home of an installed package is: `VOLUME/@appstore/NAME/bin/holdfast` belongs to
/// `VOLUME/@appdata/NAME` on DSM 7, and to `VOLUME/@appstore/NAME/var` before.
fn home_beside(program: &Path) -> Option<PathBuf> {
    let target = program.parent()?.parent()?;
    let (name, store) = (target.file_name()?, target.parent()?);
    if store.file_name()? != "@appstore" {
        return None;
    }
    let on_dsm_7 = store.parent()?.join("@appdata").join(name);
    let before = target.join("var");
    [on_dsm_7, before].into_iter().find(|home| home.is_dir())
}

fn memory_plan(flag: Option<&str>, given: Option<OsString>) -> Result<MemoryPlan, Failure> {
    if let Some(text) = flag {
        let bytes = parse_size(text).ok_or_else(|| {
            Failure::new(format!("`{text}` is not a size"))
                .remedy("write it like 64M or 1G")
                .code(exit::WRONG_USE)
        })?;
        return Ok(MemoryPlan::of(bytes));
    }
    if let Some(bytes) = given.and_then(|value| value.to_str().and_then(parse_size)) {
        return Ok(MemoryPlan::of(bytes));
    }
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let bytes = |name| meminfo_bytes(&meminfo, name);
    let ram_bytes = bytes("MemTotal").unwrap_or(256 * MIB);
    let (plan, _) = MemoryPlan::for_box(&Facts {
        ram_bytes,
        available_bytes: bytes("MemAvailable").unwrap_or(ram_bytes),
        cgroup_limit_bytes: crate::cgroup::memory_limit_bytes(Path::new("/"), ram_bytes),
        wish_bytes: None,
        is_32_bit: cfg!(target_pointer_width = "32"),
        steps_down: 0,
    });
    debug_assert!(plan.total_bytes >= memory::TOTAL_BYTES_MIN);
    Ok(plan)
}

fn meminfo_bytes(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

fn hostname() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".into())
}

fn username() -> String {
    let uid = nix::unistd::getuid();
    match nix::unistd::User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        _ => uid.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_home_of_an_installed_package_is_found_from_where_its_program_is() {
        let volume = tempfile::tempdir().unwrap();
        let program = volume.path().join("@appstore/holdfast/bin/holdfast");
        assert_eq!(home_beside(&program), None);
        let before = volume.path().join("@appstore/holdfast/var");
        fs::create_dir_all(&before).unwrap();
        assert_eq!(home_beside(&program), Some(before));
        let on_dsm_7 = volume.path().join("@appdata/holdfast");
        fs::create_dir_all(&on_dsm_7).unwrap();
        assert_eq!(home_beside(&program), Some(on_dsm_7));
        assert_eq!(home_beside(Path::new("/usr/bin/holdfast")), None);
    }

    #[test]
    fn ram_is_read_as_the_kernel_writes_it() {
        let meminfo = "MemTotal:         249640 kB\nMemFree:            5120 kB\n";
        assert_eq!(meminfo_bytes(meminfo, "MemTotal"), Some(249_640 * 1024));
        assert_eq!(meminfo_bytes(meminfo, "MemAvailable"), None);
        assert_eq!(meminfo_bytes("MemTotal: lots", "MemTotal"), None);
    }

    #[test]
    fn an_empty_password_file_and_a_missing_one_say_what_is_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        assert!(read_password(&path).unwrap_err().remedy_text().is_some());
        fs::write(&path, "\nsecond line").unwrap();
        assert!(read_password(&path).is_err());
        fs::write(&path, "geheim \r\nsecond line").unwrap();
        assert_eq!(read_password(&path).unwrap(), "geheim ");
    }
}
