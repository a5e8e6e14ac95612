//! A NAS in a folder with one package whose daemon is a few lines of shell. Processes are real.

#![allow(dead_code)] // each file of tests uses another part

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;
pub use tests_support::wait_for;

pub const PACKAGE: &str = "sleepy";

/// A daemon that is ready at once and ends when asked.
pub const GOOD: &str = "echo >&3; exec 3>&-; exec sleep 1000";

/// Keys that make a stop short, and give a start the time a busy computer takes.
pub const QUICK: &str = "ready = \"descriptor\"\nready_seconds_max = 120\nstop_seconds_max = 1\n";

/// What takes longer waits for something it must not wait for, however busy the computer is.
pub const SOON_SECONDS: f64 = 60.0;

pub struct Nas {
    place: tempfile::TempDir,
    major: u32,
    /// Where packages are installed.
    pub volume: String,
    pub environment: Vec<(String, String)>,
}

pub struct Answer {
    pub code: i32,
    pub said: String,
    pub seconds: f64,
}

impl Nas {
    /// DSM 7 with the package installed; `script` is its daemon.
    pub fn with(script: &str) -> Self {
        Self::of(7, script)
    }

    pub fn of(major: u32, script: &str) -> Self {
        let nas = Self::empty(major);
        nas.unpack(script, QUICK);
        nas
    }

    /// A folder without anything in it.
    pub fn bare(major: u32) -> Self {
        let place = tempfile::tempdir().unwrap();
        Self { place, major, volume: "volume1".to_owned(), environment: Vec::new() }
    }

    pub fn empty(major: u32) -> Self {
        let nas = Self::bare(major);
        fs::create_dir_all(nas.path("volume1/@tmp/upgrade")).unwrap();
        nas.link_folders();
        nas
    }

    /// Makes the package's folders on its volume, and DSM's links to them.
    fn link_folders(&self) {
        let home = self.path("var/packages").join(PACKAGE);
        fs::create_dir_all(&home).unwrap();
        for (name, goal) in [("target", "@appstore"), ("etc", "@appconf"), ("var", "@appdata")] {
            if name == "var" && self.major < 7 {
                continue;
            }
            // Below DSM 7 the settings are on the system partition, which no package leaves.
            let volume = if name == "etc" && self.major < 7 { "volume1" } else { &self.volume };
            fs::create_dir_all(self.path(volume).join(goal).join(PACKAGE)).unwrap();
            let _ = fs::remove_file(home.join(name));
            symlink(format!("/{volume}/{goal}/{PACKAGE}"), home.join(name)).unwrap();
        }
    }

    /// The package is gone from its volume, and will be installed on another.
    pub fn move_to_volume(&mut self, volume: &str) {
        fs::remove_dir_all(self.target()).unwrap();
        self.volume = volume.to_owned();
        self.link_folders();
    }

    /// Puts the payload in place, as DSM does: what was there is wiped.
    pub fn unpack(&self, script: &str, keys: &str) {
        self.wipe_target();
        let target = self.target();
        fs::create_dir_all(target.join("conf")).unwrap();
        fs::create_dir_all(target.join("bin")).unwrap();
        let daemon = target.join("bin/daemon.sh");
        fs::write(&daemon, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&daemon, fs::Permissions::from_mode(0o755)).unwrap();
        let text = format!(
            "[daemon]\ncommand = [\"/bin/sh\", \"{{target}}/bin/daemon.sh\"]\nidentity = true\n\
             {keys}[daemon.environment]\nMARK = \"{}\"\n[daemon.wizard]\nwizard_guid = \"guid\"\n",
            self.root().display()
        );
        fs::write(target.join("conf/daemon.toml"), text).unwrap();
    }

    pub fn wipe_target(&self) {
        let _ = fs::remove_dir_all(self.target());
        fs::create_dir_all(self.target()).unwrap();
    }

    pub fn root(&self) -> &Path {
        self.place.path()
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    pub fn target(&self) -> PathBuf {
        self.path(&self.volume).join("@appstore").join(PACKAGE)
    }

    pub fn var(&self) -> PathBuf {
        if self.major >= 7 {
            self.path(&self.volume).join("@appdata").join(PACKAGE)
        } else {
            self.target().join("var")
        }
    }

    pub fn etc(&self) -> PathBuf {
        let volume = if self.major < 7 { "volume1" } else { &self.volume };
        self.path(volume).join("@appconf").join(PACKAGE)
    }

    pub fn message_file(&self) -> PathBuf {
        self.path("volume1/@tmp/message")
    }

    /// A command as DSM would run it.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast-supervisor"));
        command
            .args(arguments)
            .env_clear()
            .env("HOLDFAST_DSM_ROOT", self.root())
            .env("SYNOPKG_PKGNAME", PACKAGE)
            .env("SYNOPKG_PKGDEST", self.target())
            .env("SYNOPKG_DSM_VERSION_MAJOR", self.major.to_string())
            .env("SYNOPKG_TEMP_LOGFILE", self.message_file())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        if self.major >= 7 {
            command.env("SYNOPKG_PKGVAR", self.var());
        }
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Answer {
        let begun = Instant::now();
        let Output { status, stdout, stderr } = self.command(arguments).output().unwrap();
        let said =
            format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        let code = status.code().unwrap_or(-1);
        Answer { code, said, seconds: begun.elapsed().as_secs_f64() }
    }

    pub fn service(&self, verb: &str) -> Answer {
        self.run(&["service", verb])
    }

    /// Runs a script with DSM's word for what is going on, and expects it to succeed.
    pub fn hook(&mut self, name: &str, status: &str) -> Answer {
        let answer = self.try_hook(name, status, &[]);
        assert_eq!(answer.code, 0, "{name}: {}", answer.said);
        answer
    }

    pub fn try_hook(&mut self, name: &str, status: &str, answers: &[(&str, &str)]) -> Answer {
        let before = self.environment.clone();
        self.tell(status, answers);
        let answer = self.run(&["hook", name]);
        self.environment = before;
        answer
    }

    fn tell(&mut self, status: &str, answers: &[(&str, &str)]) {
        self.environment.push(("SYNOPKG_PKG_STATUS".into(), status.into()));
        let folder = self.path("volume1/@tmp/upgrade").display().to_string();
        self.environment.push(("SYNOPKG_TEMP_UPGRADE_FOLDER".into(), folder));
        for (key, value) in answers {
            self.environment.push((key.to_string(), value.to_string()));
        }
    }

    /// Runs a script that is killed at its n-th call of a kind; `true` when it makes fewer and
    /// comes to its end. `refusing` is what `strace` is to refuse beside.
    pub fn cut(
        &mut self,
        words: &[&str],
        (status, answers): (&str, &[(&str, &str)]),
        (call, n): (&str, usize),
        refusing: Option<&str>,
    ) -> bool {
        let before = self.environment.clone();
        self.tell(status, answers);
        let inner = self.command(words);
        self.environment = before;
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o", "/dev/null"]);
        let calls: Vec<&str> = refusing.iter().filter_map(|it| it.split(':').next()).collect();
        command.arg("-e").arg(format!("trace={}", [&[call], &calls[..]].concat().join(",")));
        for refused in refusing.iter().filter(|it| !it.starts_with(call)) {
            command.arg("-e").arg(format!("inject={refused}"));
        }
        command.arg("-e").arg(format!("inject={call}:signal=KILL:when={n}"));
        command.arg(inner.get_program()).args(inner.get_args()).env_clear();
        command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let ended = command.stdin(Stdio::null()).output().expect("these tests need strace");
        if ended.status.code() == Some(0) {
            return true;
        }
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(
            ended.status.code().is_none() || ended.status.code() == Some(137),
            "{words:?}, {call} {n}: {said}"
        );
        false
    }

    /// What a command that succeeds asks of the kernel, as `strace` writes it down.
    pub fn calls_of(&self, words: &[&str]) -> String {
        let written = self.path("calls");
        let inner = self.command(words);
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o"]).arg(&written);
        command.arg(inner.get_program()).args(inner.get_args()).env_clear();
        command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let ended = command.stdin(Stdio::null()).output().expect("these tests need strace");
        assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
        fs::read_to_string(written).unwrap()
    }

    /// DSM's scripts around a first installation.
    pub fn install(&mut self, script: &str) {
        self.hook("preinst", "INSTALL");
        self.unpack(script, QUICK);
        self.hook("postinst", "INSTALL");
    }

    /// DSM's scripts around an upgrade, the wiping of the target included.
    pub fn upgrade(&mut self, script: &str) {
        assert_eq!(self.service("stop").code, 0);
        for name in ["preupgrade", "preuninst", "postuninst", "preinst"] {
            self.hook(name, "UPGRADE");
        }
        self.unpack(script, QUICK);
        self.hook("postinst", "UPGRADE");
        self.hook("postupgrade", "UPGRADE");
    }

    pub fn message(&self) -> String {
        fs::read_to_string(self.message_file()).unwrap_or_default()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.var().join("log/supervisor.log")).unwrap_or_default()
    }

    pub fn guid(&self) -> String {
        let answer = self.run(&["identity", "guid"]);
        assert_eq!(answer.code, 0, "{}", answer.said);
        answer.said.trim().to_owned()
    }

    pub fn record(&self) -> String {
        let name = format!("run/{PACKAGE}.state");
        fs::read_to_string(self.var().join(name)).unwrap_or_default()
    }

    /// A number in the supervisor's record, such as `"supervisor":{"pid":`.
    pub fn pid_of(&self, whom: &str) -> i32 {
        let record = self.record();
        let (_, rest) = record.split_once(&format!("\"{whom}\":{{\"pid\":")).expect(&record);
        rest.split([',', '}']).next().unwrap().parse().unwrap()
    }

    /// Every living process of the daemon: those that inherited its environment.
    pub fn daemon_processes(&self) -> Vec<i32> {
        let mark = format!("MARK={}", self.root().display());
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok())
            else {
                continue;
            };
            let environment = environment_of(&entry.path());
            if environment.split(|byte| *byte == 0).any(|pair| pair == mark.as_bytes()) {
                found.push(pid);
            }
        }
        found
    }

    /// No process of the daemon is left.
    #[track_caller]
    pub fn runs_nothing(&self) {
        let left = self.daemon_processes();
        assert!(left.is_empty(), "{left:?} still run\n{}", self.log());
    }

    /// Every supervisor of this NAS, by its own command line.
    pub fn supervisors(&self) -> Vec<i32> {
        let root = self.root().display().to_string();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok())
            else {
                continue;
            };
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
            if words.get(1) == Some(&b"run".as_slice()) && words.contains(&root.as_bytes()) {
                found.push(pid);
            }
        }
        found
    }

    /// SIGKILL for the supervisor, and wait until it is gone.
    pub fn kill_supervisor(&self) {
        let killed = self.supervisors();
        for pid in &killed {
            let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
        }
        // Its command line goes first, its locks later: it is gone when it is dead for good.
        let is_gone = |pid: &i32| parent_and_state(*pid).is_none_or(|(_, state)| state == 'Z');
        wait_for("the supervisor is gone", || killed.iter().all(is_gone));
    }

    pub fn expect_code(&self, verb: &str, code: i32) {
        let answer = self.service(verb);
        assert_eq!(answer.code, code, "{verb}: {}\n{}", answer.said, self.log());
    }

    pub fn start(&self) {
        self.expect_code("start", 0);
    }
}

/// A process's parent and state, as `/proc` tells.
pub fn parent_and_state(pid: i32) -> Option<(i32, char)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((fields.next()?.parse().ok()?, state))
}

/// The environment of a process. One that just becomes another program has none for a moment, as
/// those that are no programs never have.
fn environment_of(process: &Path) -> Vec<u8> {
    loop {
        let environment = fs::read(process.join("environ")).unwrap_or_default();
        let is_program = || fs::read_link(process.join("exe")).is_ok();
        let has_arguments = || fs::read(process.join("cmdline")).is_ok_and(|all| !all.is_empty());
        if !environment.is_empty() || !is_program() || has_arguments() {
            return environment;
        }
    }
}

pub fn kill(pid: i32, signal: &str) {
    let status = Command::new("kill").args([signal, &pid.to_string()]).status().unwrap();
    assert!(status.success());
}

impl Drop for Nas {
    fn drop(&mut self) {
        if self.var().exists() {
            let _ = self.service("stop");
        }
        for pid in self.daemon_processes() {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        }
    }
}
