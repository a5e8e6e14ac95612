//! What DSM does to packages, in its order: install, upgrade, uninstall, start, stop, boot.
//!
//! ```text
//! install    preinst, files, postinst, [prestart, start]
//! upgrade    prestop, stop, NEW preupgrade, OLD preuninst, target wiped, OLD postuninst,
//!            NEW preinst, files, NEW postinst, NEW postupgrade, [prestart, start]
//! uninstall  prestop, stop, preuninst, files removed, postuninst
//! boot       prestart, start                  shutdown   stop
//! ```
//! Source: Synology's developer guide, page "scripts".

use super::error::{AtPath, NasError};
use super::package::{Info, Unpacked, compare_versions};
use super::scripts::{Answers, Context, Ended};
use super::system::Dsm;
use super::{Nas, User};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

/// Members of the package that stay beside `target`.
const BESIDE_TARGET: [&str; 4] = ["INFO", "scripts", "conf", "WIZARD_UIFILES"];

/// What was done, and what the package said to the owner meanwhile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done {
    /// The version that is installed now; empty after an uninstall.
    pub version: String,
    /// Messages of the scripts, each of which DSM shows in a dialog.
    pub messages: Vec<String>,
}

impl Done {
    fn heard(&mut self, ended: &Ended) {
        if !ended.message.trim().is_empty() {
            self.messages.push(ended.message.trim().to_owned());
        }
    }
}

/// What Package Center shows for a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Exit code 0.
    Running,
    /// Exit code 3.
    Stopped,
    /// Exit codes 1 and 2: dead, but something of it is left.
    Dead(i32),
    /// Exit code 150: Package Center offers to repair.
    Broken,
    /// Any other code.
    Unknown(i32),
}

impl State {
    /// What a status script's exit code means.
    pub fn of_code(code: i32) -> Self {
        match code {
            0 => Self::Running,
            1 | 2 => Self::Dead(code),
            3 => Self::Stopped,
            150 => Self::Broken,
            other => Self::Unknown(other),
        }
    }

    /// The exit code again.
    pub fn code(self) -> i32 {
        match self {
            Self::Running => 0,
            Self::Stopped => 3,
            Self::Broken => 150,
            Self::Dead(code) | Self::Unknown(code) => code,
        }
    }
}

/// What an uninstall takes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// As DSM does: `etc` stays, and on DSM 7 `var` and `home`.
    AsDsm,
    /// Everything that is named after the package, as if this were another NAS.
    Everything,
}

impl Nas {
    /// Installs a package file, without starting it.
    pub fn install(&self, spk: &Path, answers: &Answers) -> Result<Done, NasError> {
        let unpacked = self.unpack(spk)?;
        let info = unpacked.info.clone();
        if let Some(installed) = self.installed(info.package()) {
            return Err(no_upgrade(&info, installed));
        }
        let user = self.make_user(info.package())?;
        let context = context_of(&unpacked, spk, "INSTALL", answers, user);
        let mut done = Done { version: info.version().to_owned(), ..Done::default() };
        let outcome = self.place(&unpacked, &context, &mut done);
        let _ = fs::remove_dir_all(&unpacked.folder);
        self.note("install", info.package(), info.version(), outcome.is_ok())?;
        outcome.map(|()| done)
    }

    /// Installs a higher version over the one that is there, and starts it when it was running.
    pub fn upgrade(&self, spk: &Path, answers: &Answers) -> Result<Done, NasError> {
        let unpacked = self.unpack(spk)?;
        let info = unpacked.info.clone();
        let name = info.package();
        let Some(old) = self.installed(name) else {
            return Err(NasError::NotInstalled { package: name.to_owned() });
        };
        if compare_versions(info.version(), &old).is_le() {
            return Err(no_upgrade(&info, old));
        }
        let user = self.make_user(name)?;
        let mut context = context_of(&unpacked, spk, "UPGRADE", answers, user);
        context.old_version = Some(old);
        let mut done = Done { version: info.version().to_owned(), ..Done::default() };
        let outcome = self.replace(&unpacked, &context, &mut done);
        let _ = fs::remove_dir_all(&unpacked.folder);
        self.note("upgrade", name, info.version(), outcome.is_ok())?;
        outcome.map(|()| done)
    }

    fn unpack(&self, spk: &Path) -> Result<Unpacked, NasError> {
        let folder = self.root.join("volume1/@tmp/pkginstall");
        Unpacked::unpack(spk, &folder, self.dsm, &self.hardware)
    }

    /// preinst, files, postinst.
    fn place(
        &self,
        unpacked: &Unpacked,
        context: &Context<'_>,
        done: &mut Done,
    ) -> Result<(), NasError> {
        self.give(&unpacked.payload, context.user)?;
        let new_scripts = unpacked.folder.join("scripts");
        done.heard(&self.step(&new_scripts, "preinst", None, context, false)?);
        self.put_files(unpacked, context.user)?;
        let scripts = self.package_folder(context.package).join("scripts");
        done.heard(&self.step(&scripts, "postinst", None, context, true)?);
        Ok(())
    }

    /// Everything an upgrade does between the old version running and the new one running.
    fn replace(
        &self,
        unpacked: &Unpacked,
        context: &Context<'_>,
        done: &mut Done,
    ) -> Result<(), NasError> {
        let name = context.package;
        let was_running = self.status(name)? == State::Running;
        if was_running {
            self.stop_with(&Context { answers: Answers::new(), ..context.clone() })?;
        }
        self.give(&unpacked.payload, context.user)?;
        let scratch = self.upgrade_folder(name);
        if self.dsm >= Dsm::Six {
            let _ = fs::remove_dir_all(&scratch);
            fs::create_dir_all(&scratch).at(&scratch)?;
            self.give(&scratch, context.user)?;
        }
        let (old, new) =
            (self.package_folder(name).join("scripts"), unpacked.folder.join("scripts"));
        done.heard(&self.step(&new, "preupgrade", None, context, false)?);
        done.heard(&self.step(&old, "preuninst", None, context, false)?);
        self.wipe(name)?;
        done.heard(&self.step(&old, "postuninst", None, context, false)?);
        self.place(unpacked, context, done)?;
        let scripts = self.package_folder(name).join("scripts");
        done.heard(&self.step(&scripts, "postupgrade", None, context, true)?);
        if was_running {
            self.start_with(context)?;
        }
        Ok(())
    }

    /// Runs one script; another code than 0 is an error.
    fn step(
        &self,
        folder: &Path,
        script: &str,
        verb: Option<&str>,
        context: &Context<'_>,
        corrupted: bool,
    ) -> Result<Ended, NasError> {
        let ended = self.run_script(folder, script, verb, context)?;
        if ended.code == 0 {
            return Ok(ended);
        }
        if corrupted {
            let mark = self.package_folder(context.package).join("corrupted");
            fs::write(&mark, format!("{script}\n")).at(&mark)?;
        }
        Err(NasError::Script {
            script: verb.map_or_else(|| script.to_owned(), |verb| format!("{script} {verb}")),
            code: ended.code,
            message: ended.message,
            corrupted,
            log: self.package_log(context.package),
        })
    }

    /// Moves the unpacked package to where DSM keeps packages, and makes its links.
    fn put_files(&self, unpacked: &Unpacked, user: Option<User>) -> Result<(), NasError> {
        let name = unpacked.info.package();
        let (home, target) = (self.package_folder(name), self.target(name));
        fs::create_dir_all(&home).at(&home)?;
        fs::rename(&unpacked.payload, &target).at(&target)?;
        self.give(&target, user)?;
        for member in BESIDE_TARGET {
            let (from, to) = (unpacked.folder.join(member), home.join(member));
            if to.is_dir() {
                fs::remove_dir_all(&to).at(&to)?;
            }
            if from.exists() {
                fs::rename(&from, &to).at(&to)?;
            }
        }
        let mut kept = vec![("target", "/volume1/@appstore")];
        match self.dsm {
            Dsm::Seven => kept.extend([
                ("etc", "/volume1/@appconf"),
                ("var", "/volume1/@appdata"),
                ("tmp", "/volume1/@apptemp"),
                ("home", "/volume1/@apphome"),
            ]),
            _ => kept.push(("etc", "/usr/syno/etc/packages")),
        }
        for (link, parent) in kept {
            let inside = format!("{parent}/{name}");
            let folder = self.root.join(&inside[1..]);
            if !folder.exists() {
                fs::create_dir_all(&folder).at(&folder)?;
                self.give(&folder, user)?;
            }
            let mode = if link == "home" { 0o700 } else { 0o755 };
            fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).at(&folder)?;
            let link = home.join(link);
            let _ = fs::remove_file(&link);
            symlink(&inside, &link).at(&link)?;
        }
        Ok(())
    }

    /// Removes what neither an upgrade nor an uninstall keeps: `target` and `tmp`.
    fn wipe(&self, package: &str) -> Result<(), NasError> {
        for folder in [self.target(package), self.root.join("volume1/@apptemp").join(package)] {
            if folder.exists() {
                fs::remove_dir_all(&folder).at(&folder)?;
            }
        }
        Ok(())
    }

    /// Removes a package.
    pub fn uninstall(
        &self,
        package: &str,
        removal: Removal,
        answers: &Answers,
    ) -> Result<Done, NasError> {
        let mut context = Context::of_installed(self, package, "UNINSTALL")?;
        if self.status(package)? == State::Running {
            self.stop_with(&context)?;
        }
        context.answers = answers.clone();
        let mut done = Done::default();
        let home = self.package_folder(package);
        let scripts = home.join("scripts");
        done.heard(&self.step(&scripts, "preuninst", None, &context, false)?);
        self.wipe(package)?;
        let last = self.step(&scripts, "postuninst", None, &context, false);
        fs::remove_dir_all(&home).at(&home)?;
        let _ = fs::remove_file(self.enabled_mark(package));
        if removal == Removal::Everything {
            self.forget(package)?;
        }
        self.note("uninstall", package, &context.version, last.is_ok())?;
        done.heard(&last?);
        Ok(done)
    }

    /// Removes whatever is named after the package, on the volume and on the system partition.
    fn forget(&self, package: &str) -> Result<(), NasError> {
        let volume = ["@appstore", "@appconf", "@appdata", "@apptemp", "@apphome"];
        let system = ["usr/syno/etc/packages", "var/lib", "volume1/@tmp/synopkg/upgrade"];
        let folders = volume.iter().map(|name| self.root.join("volume1").join(name));
        for folder in folders.chain(system.iter().map(|name| self.root.join(name))) {
            for entry in fs::read_dir(&folder).into_iter().flatten() {
                let entry = entry.at(&folder)?;
                if entry.file_name().to_string_lossy().starts_with(package) {
                    fs::remove_dir_all(entry.path()).at(&entry.path())?;
                }
            }
        }
        Ok(())
    }

    /// What the package's status script says.
    pub fn status(&self, package: &str) -> Result<State, NasError> {
        self.service(package, "status").map(State::of_code)
    }

    /// Asks `start-stop-status` for any verb, and gives its exit code.
    pub fn service(&self, package: &str, verb: &str) -> Result<i32, NasError> {
        self.service_says(package, verb).map(|(code, _)| code)
    }

    /// Like [`Nas::service`], with what the script printed.
    pub fn service_says(&self, package: &str, verb: &str) -> Result<(i32, String), NasError> {
        let status = match verb {
            "start" | "prestart" => "START",
            "stop" | "prestop" => "STOP",
            _ => "",
        };
        let context = Context::of_installed(self, package, status)?;
        let scripts = self.package_folder(package).join("scripts");
        let ended = self.run_script(&scripts, "start-stop-status", Some(verb), &context)?;
        Ok((ended.code, ended.said))
    }

    /// The owner presses Run.
    pub fn start(&self, package: &str) -> Result<Done, NasError> {
        self.start_with(&Context::of_installed(self, package, "START")?)
    }

    /// The owner presses Stop.
    pub fn stop(&self, package: &str) -> Result<Done, NasError> {
        self.stop_with(&Context::of_installed(self, package, "STOP")?)
    }

    fn start_with(&self, context: &Context<'_>) -> Result<Done, NasError> {
        let done = self.service_steps(context, &["prestart", "start"])?;
        let mark = self.enabled_mark(context.package);
        let _ = fs::remove_file(&mark);
        match self.dsm {
            Dsm::Seven => {
                let unit =
                    format!("/usr/local/lib/systemd/system/pkgctl-{}.service", context.package);
                symlink(unit, &mark).at(&mark)?;
            }
            _ => fs::write(&mark, "").at(&mark)?,
        }
        Ok(done)
    }

    fn stop_with(&self, context: &Context<'_>) -> Result<Done, NasError> {
        let done = self.service_steps(context, &["prestop", "stop"])?;
        let _ = fs::remove_file(self.enabled_mark(context.package));
        Ok(done)
    }

    fn service_steps(&self, context: &Context<'_>, verbs: &[&str]) -> Result<Done, NasError> {
        let home = self.package_folder(context.package);
        let asks_before = Info::in_folder(&home)?.get("precheckstartstop") != Some("no");
        let mut done = Done { version: context.version.clone(), ..Done::default() };
        for verb in verbs {
            if verb.starts_with("pre") && !asks_before {
                continue;
            }
            let ended =
                self.step(&home.join("scripts"), "start-stop-status", Some(verb), context, false)?;
            done.heard(&ended);
        }
        Ok(done)
    }

    /// The NAS is switched on: what was running before is started. Gives the packages that failed.
    pub fn boot(&self) -> Result<Vec<String>, NasError> {
        let mut failed = Vec::new();
        for package in self.enabled()? {
            let context = Context::of_installed(self, &package, "")?;
            if self.service_steps(&context, &["prestart", "start"]).is_err() {
                failed.push(package);
            }
        }
        Ok(failed)
    }

    /// The NAS is switched off: what runs is stopped, and remembered as running.
    pub fn shut_down(&self) -> Result<(), NasError> {
        for package in self.enabled()? {
            self.service_steps(&Context::of_installed(self, &package, "")?, &["stop"])?;
        }
        Ok(())
    }

    /// The packages DSM starts at boot.
    fn enabled(&self) -> Result<Vec<String>, NasError> {
        let packages = self.root.join("var/packages");
        let mut found = Vec::new();
        for entry in fs::read_dir(&packages).at(&packages)? {
            let name = entry.at(&packages)?.file_name().to_string_lossy().into_owned();
            if fs::symlink_metadata(self.enabled_mark(&name)).is_ok() {
                found.push(name);
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// How DSM remembers that a package is to run: a file on DSM 5 and 6, a wants link on DSM 7.
    fn enabled_mark(&self, package: &str) -> std::path::PathBuf {
        match self.dsm {
            Dsm::Seven => self
                .root
                .join("etc/systemd/system/syno-low-priority-packages.target.wants")
                .join(format!("pkgctl-{package}.service")),
            _ => self.package_folder(package).join("enabled"),
        }
    }

    fn note(&self, what: &str, name: &str, version: &str, good: bool) -> Result<(), NasError> {
        use std::io::Write;
        let path = self.root.join("var/log/synopkg.log");
        let outcome = if good { "successfully" } else { "failed" };
        let mut log = fs::OpenOptions::new().create(true).append(true).open(&path).at(&path)?;
        writeln!(log, "{what} {name} {version} {outcome}").at(&path)
    }

    /// Runs a program of the package as its user, as an owner does over SSH with `sudo -u`.
    pub fn as_package_user(&self, package: &str, program: &Path) -> Result<Command, NasError> {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new(program);
        if let Some(User { uid }) = self.user_of(package)? {
            command.uid(uid).gid(uid);
        }
        command.env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin");
        command.env("HOLDFAST_DSM_ROOT", &self.root).current_dir(&self.root);
        Ok(command)
    }
}

fn no_upgrade(info: &Info, installed: String) -> NasError {
    NasError::NoUpgrade {
        package: info.package().to_owned(),
        installed,
        offered: info.version().to_owned(),
    }
}

fn context_of<'a>(
    unpacked: &'a Unpacked,
    spk: &Path,
    status: &'static str,
    answers: &Answers,
    user: Option<User>,
) -> Context<'a> {
    Context {
        package: unpacked.info.package(),
        version: unpacked.info.version().to_owned(),
        status,
        old_version: None,
        payload: Some(unpacked.payload.clone()),
        spk: Some(spk.to_path_buf()),
        answers: answers.clone(),
        user,
        port: unpacked.info.get("adminport").unwrap_or_default().to_owned(),
    }
}
