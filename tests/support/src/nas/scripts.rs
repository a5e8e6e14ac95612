//! How DSM runs a package's scripts: which shell, which user, and an environment that holds
//! nothing but what DSM puts in.

use super::error::{AtPath, NasError};
use super::package::Info;
use super::system::{Dsm, Version};
use super::{Nas, User};
use crate::programs::{code_of, wait};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// A script that has not returned by then is stuck. DSM itself waits an hour.
const SCRIPT_SECONDS_MAX: u64 = 300;

/// `PATH` of non-login shells on DSM, and of package scripts.
const PATH: &str = "/usr/bin:/bin:/usr/sbin:/sbin";

/// Answers to a wizard: key and text.
pub type Answers = BTreeMap<String, String>;

/// What is going on, as far as scripts are told.
#[derive(Debug, Clone)]
pub(crate) struct Context<'a> {
    /// The package.
    pub package: &'a str,
    /// Its version; the new one during an upgrade.
    pub version: String,
    /// `INSTALL`, `UPGRADE`, `UNINSTALL`, `START`, `STOP`, or empty at boot and shutdown.
    pub status: &'static str,
    /// The version being replaced.
    pub old_version: Option<String>,
    /// Where the package was unpacked.
    pub payload: Option<PathBuf>,
    /// The file it was unpacked from.
    pub spk: Option<PathBuf>,
    /// What the owner answered.
    pub answers: Answers,
    /// Who runs it.
    pub user: Option<User>,
    /// Its port, when INFO names one.
    pub port: String,
}

impl<'a> Context<'a> {
    /// The context of an installed package that is started, stopped or removed.
    pub fn of_installed(
        nas: &Nas,
        package: &'a str,
        status: &'static str,
    ) -> Result<Self, NasError> {
        let info = Info::in_folder(&nas.package_folder(package))
            .map_err(|_| NasError::NotInstalled { package: package.to_owned() })?;
        Ok(Self {
            package,
            version: info.version().to_owned(),
            status,
            old_version: None,
            payload: None,
            spk: None,
            answers: Answers::new(),
            user: nas.user_of(package)?,
            port: info.get("adminport").unwrap_or_default().to_owned(),
        })
    }
}

/// How a script ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Exit code; 128 and the signal's number when a signal ended it.
    pub code: i32,
    /// What it wrote for the user to read.
    pub message: String,
    /// What it said, which is in the package's log too.
    pub said: String,
}

impl Nas {
    /// The scratch folder that lives from preupgrade to postupgrade, and beyond.
    pub(crate) fn upgrade_folder(&self, package: &str) -> PathBuf {
        self.root.join("volume1/@tmp/synopkg/upgrade").join(package)
    }

    /// The environment of a script, complete: nothing is inherited.
    fn environment(&self, context: &Context<'_>, message_file: &Path) -> BTreeMap<String, String> {
        let Version { major, minor, build, .. } = self.dsm.version();
        let text = |path: &Path| path.display().to_string();
        let target = self.target(context.package);
        let mut environment = BTreeMap::new();
        let mut set = |name: &str, value: String| {
            environment.insert(name.to_owned(), value);
        };
        set("PATH", PATH.to_owned());
        set("HOLDFAST_DSM_ROOT", text(&self.root));
        set("SYNOPKG_PKGNAME", context.package.to_owned());
        set("SYNOPKG_PKGVER", context.version.clone());
        set("SYNOPKG_PKGDEST", text(&target));
        set("SYNOPKG_PKGDEST_VOL", text(&self.root.join("volume1")));
        set("SYNOPKG_PKGPORT", context.port.clone());
        set("SYNOPKG_PKG_STATUS", context.status.to_owned());
        set("SYNOPKG_TEMP_LOGFILE", text(message_file));
        set("SYNOPKG_DSM_LANGUAGE", "enu".to_owned());
        set("SYNOPKG_DSM_VERSION_MAJOR", major.to_string());
        set("SYNOPKG_DSM_VERSION_MINOR", minor.to_string());
        set("SYNOPKG_DSM_VERSION_BUILD", build.to_string());
        set("SYNOPKG_DSM_ARCH", self.hardware.platform.clone());
        if let Some(payload) = &context.payload {
            set("SYNOPKG_PKGINST_TEMP_DIR", text(payload));
        }
        if let Some(spk) = &context.spk {
            set("SYNOPKG_TEMP_SPKFILE", text(spk));
        }
        if self.dsm >= Dsm::Six {
            set(
                "SYNOPKG_USERNAME",
                if context.status.is_empty() { "" } else { "admin" }.to_owned(),
            );
            set("SYNOPKG_PKG_PROGRESS_PATH", text(&self.root.join("tmp/synopkg.progress")));
            let upgrade_folder = self.upgrade_folder(context.package);
            if upgrade_folder.is_dir() {
                set("SYNOPKG_TEMP_UPGRADE_FOLDER", text(&upgrade_folder));
            }
            if let Some(old) = &context.old_version {
                set("SYNOPKG_OLD_PKGVER", old.clone());
            }
        }
        if self.dsm == Dsm::Seven {
            for (name, folder) in [("VAR", "@appdata"), ("TMP", "@apptemp"), ("HOME", "@apphome")] {
                let folder = self.root.join("volume1").join(folder).join(context.package);
                set(&format!("SYNOPKG_PKG{name}"), text(&folder));
            }
        }
        environment.extend(context.answers.clone());
        environment
    }

    /// Runs the script in `folder`, which may be missing: then it ends with 0 and says nothing.
    pub(crate) fn run_script(
        &self,
        folder: &Path,
        script: &str,
        verb: Option<&str>,
        context: &Context<'_>,
    ) -> Result<Ended, NasError> {
        let path = folder.join(script);
        if !path.is_file() {
            return Ok(Ended { code: 0, message: String::new(), said: String::new() });
        }
        let scratch = tempfile::Builder::new()
            .prefix("synopkg-")
            .tempdir_in(self.root.join("tmp"))
            .at(&self.root)?;
        let message_file = scratch.path().join("message");
        let said_file = scratch.path().join("said");
        fs::write(&message_file, "").at(&message_file)?;
        let open = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
        fs::set_permissions(scratch.path(), open).at(scratch.path())?;
        self.give(&message_file, context.user)?;
        let said = fs::File::create(&said_file).at(&said_file)?;
        let mut command = self.shell_for(&path, context.user)?;
        command.args(verb).current_dir(&self.root).env_clear();
        command.envs(self.environment(context, &message_file));
        command.stdin(Stdio::null());
        command.stdout(said.try_clone().at(&said_file)?).stderr(said);
        let mut child = command.spawn().at(&path)?;
        let ended = wait(&mut child, Duration::from_secs(SCRIPT_SECONDS_MAX));
        if ended.is_none() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let text =
            |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        let (message, said) = (text(&message_file), text(&said_file));
        let code = ended.map_or(124, code_of);
        self.write_log(context.package, script, verb, code, &said)?;
        Ok(Ended { code, message, said })
    }

    fn shell_for(&self, script: &Path, user: Option<User>) -> Result<Command, NasError> {
        let (program, words) = self.shell.program().ok_or_else(|| NasError::Place {
            path: script.to_path_buf(),
            fact: "the shell of this NAS is gone",
            remedy: "apt-get install busybox bash",
        })?;
        let mut command = Command::new(program);
        command.args(words).arg(script);
        if let Some(User { uid }) = user {
            command.uid(uid).gid(uid);
        }
        Ok(command)
    }

    fn write_log(
        &self,
        package: &str,
        script: &str,
        verb: Option<&str>,
        code: i32,
        said: &str,
    ) -> Result<(), NasError> {
        use std::io::Write;
        let path = self.package_log(package);
        let mut log = fs::OpenOptions::new().create(true).append(true).open(&path).at(&path)?;
        let verb = verb.map_or_else(String::new, |verb| format!(" {verb}"));
        let mut text = format!("{script}{verb} ended with {code}\n");
        for line in said.lines() {
            text.push_str(&format!("  {line}\n"));
        }
        log.write_all(text.as_bytes()).at(&path)
    }
}
