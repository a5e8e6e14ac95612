//! `start`, `stop`, `status` and the other verbs of DSM's start-stop-status script.
//!
//! Exit codes of `status` are DSM's: 0 running, 1 dead but a PID file is left, 3 not running,
//! 4 unknown, 150 broken. `status` reads three small files, takes no lock and changes nothing.

use crate::daemon::stop_left_behind;
use crate::description::Description;
use crate::hooks;
use crate::identity::Copies;
use crate::installation::{Installation, Names};
use crate::problem::{Problem, Result};
use crate::record::Record;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::ffi::OsString;
use std::time::{Duration, Instant};
use supervisor_dsm::Folder;
use supervisor_dsm::launch::{Launch, PROGRAM_FOLDERS};
use supervisor_dsm::lock::{SupervisorLock, TurnLock};
use supervisor_dsm::log::{BoundedLog, last_lines};
use supervisor_dsm::process::{ProcessId, wait_until};
use supervisor_lifecycle::restart::State;

/// What the supervisor itself may take beyond what its daemon may.
const GRACE: Duration = Duration::from_secs(10);

/// How often a command that waits looks again.
const LOOK_MILLISECONDS: u64 = 10;

/// What `status` found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The daemon runs.
    Running,
    /// It does not, but should: its PID file or record is left.
    Dead,
    /// It does not, and need not.
    NotRunning,
    /// It cannot be told.
    Unknown,
    /// The package must be repaired.
    Broken,
}

impl Status {
    /// DSM's exit code for it.
    pub fn code(self) -> u8 {
        match self {
            Self::Running => 0,
            Self::Dead => 1,
            Self::NotRunning => 3,
            Self::Unknown => 4,
            Self::Broken => 150,
        }
    }

    /// What it is in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Dead => "dead, although it should run",
            Self::NotRunning => "not running",
            Self::Unknown => "unknown",
            Self::Broken => "broken: repair or reinstall the package in Package Center",
        }
    }
}

/// Whether the daemon runs.
pub fn status(installation: &Installation) -> Status {
    if Description::of(&installation.payload()).is_err() {
        return Status::Broken;
    }
    let names = installation.names();
    let run = match installation.run_folder_if_any() {
        Ok(Some(run)) => run,
        Ok(None) => return Status::NotRunning,
        Err(_) => return Status::Unknown,
    };
    match Record::read(&run, &names) {
        Ok(Some(record)) if record.daemon_is_alive() => Status::Running,
        Ok(Some(_)) => Status::Dead,
        Ok(None) => {
            let is_left = [&names.pid, &names.state]
                .iter()
                .any(|name| run.kind(name).is_ok_and(|kind| kind != supervisor_dsm::Kind::Missing));
            if is_left { Status::Dead } else { Status::NotRunning }
        }
        Err(_) => Status::Unknown,
    }
}

/// Starts the daemon and returns when it is ready.
pub fn start(installation: &Installation) -> Result<()> {
    let description = installation.description()?;
    let is_supervised = installation
        .run_folder_if_any()?
        .is_some_and(|run| who(&run, &installation.names()).is_some());
    if !is_supervised {
        hooks::before_start(installation)?;
    }
    if description.identity
        && let Some(problem) = Copies::read(installation).disagreement()
    {
        return Err(problem);
    }
    let names = installation.names();
    let run = installation.run_folder()?;
    let patience = description.ready_max() + description.stop_max() + GRACE;
    let _turn = TurnLock::take(&run, &names.turn_lock, patience)?.ok_or_else(|| {
        Problem::new("another start or stop of the package does not come to an end")
            .remedy("wait a minute and try again")
    })?;
    // One that was killed this instant still holds its lock, and will look after nothing.
    wait_until(GRACE, || {
        who(&run, &names).and_then(ProcessId::of).is_none_or(|id| !id.is_ending())
    });
    let (supervisor, own_child, after_attempt) = match who(&run, &names) {
        Some(pid) => {
            // A daemon that died this instant is about to be noticed.
            let settled = || Ok::<_, Problem>(Record::read(&run, &names)?.filter(is_settled));
            wait_until(GRACE, || settled().is_ok_and(|record| record.is_some()));
            let record = settled()?;
            let attempt = record.as_ref().map_or(0, |record| record.attempt);
            match record.map(|record| record.state()) {
                Some(State::Running) => return Ok(()),
                Some(State::Waiting | State::Holding) => {
                    let _ = nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGHUP);
                    (pid, false, attempt)
                }
                Some(State::Stopping | State::Stopped) => {
                    wait_until(description.stop_max() + GRACE, || who(&run, &names).is_none());
                    (spawn(installation)?, true, 0)
                }
                _ => (pid, false, attempt.saturating_sub(1)),
            }
        }
        None => (spawn(installation)?, true, 0),
    };
    let wait = Wait { run: &run, names: &names, supervisor, own_child, after_attempt };
    wait.until_ready(installation, &description)
}

/// Whether a record says how things are, and not how they were a moment ago.
fn is_settled(record: &Record) -> bool {
    match record.state() {
        State::Starting | State::Running => record.daemon_is_alive(),
        State::Abandoning => false,
        _ => true,
    }
}

fn who(run: &Folder, names: &Names) -> Option<i32> {
    SupervisorLock::who(run, &names.supervisor_lock).ok().flatten()
}

/// Starts `holdfast-supervisor run` in a session of its own.
fn spawn(installation: &Installation) -> Result<i32> {
    spawn_self(installation, &["run"])
}

/// Starts this program with other words in a session of its own; what it says goes into the log.
pub fn spawn_self(installation: &Installation, words: &[&str]) -> Result<i32> {
    let log = BoundedLog::open(installation.log_folder()?, &installation.names().log)?;
    let settings = &installation.settings;
    let mut command: Vec<OsString> = vec![settings.program.clone().into()];
    command.extend(words.iter().map(OsString::from));
    command.extend(["--root".into(), settings.root.clone().into()]);
    command.extend(["--package".into(), installation.package.name().as_str().into()]);
    let mut environment: Vec<(String, OsString)> = vec![
        ("PATH".to_owned(), PROGRAM_FOLDERS.into()),
        ("SYNOPKG_PKGDEST".to_owned(), installation.package.target().into()),
    ];
    let version = installation.package.dsm_version();
    environment.push(("SYNOPKG_DSM_VERSION_MAJOR".to_owned(), version.major.to_string().into()));
    environment.push(("SYNOPKG_DSM_VERSION_MINOR".to_owned(), version.minor.to_string().into()));
    environment.push(("SYNOPKG_DSM_VERSION_BUILD".to_owned(), version.build.to_string().into()));
    if !installation.package.var_is_in_target() {
        environment.push(("SYNOPKG_PKGVAR".to_owned(), installation.package.var().into()));
    }
    if let Some(zone) = &settings.time_zone {
        environment.push(("TZ".to_owned(), zone.into()));
    }
    let launch = Launch {
        command: &command,
        environment: &environment,
        folder: "/".into(),
        output: log.file(),
        descriptors: &[],
        nice: 0,
        idle_io: false,
    };
    Ok(launch.start()?)
}

/// Waiting for an attempt of a supervisor to succeed or fail.
struct Wait<'a> {
    run: &'a Folder,
    names: &'a Names,
    supervisor: i32,
    own_child: bool,
    after_attempt: u32,
}

impl Wait<'_> {
    fn until_ready(&self, installation: &Installation, description: &Description) -> Result<()> {
        let patience = description.ready_max() + description.stop_max() + GRACE;
        let end = Instant::now() + patience;
        let failed = |why: &str| {
            Problem::new(format!("{} did not start: {why}", installation.package.name())).remedy(
                format!(
                    "read {}, correct the cause, and start the package again",
                    installation.package.var().join("log").join(&self.names.log).display()
                ),
            )
        };
        loop {
            let record = Record::read(self.run, self.names)?
                .filter(|record| record.supervisor.pid == self.supervisor)
                .filter(|record| record.attempt > self.after_attempt);
            let why = record.as_ref().and_then(|record| record.last_ending.clone());
            match record.as_ref().map(Record::state) {
                Some(State::Running) => return Ok(()),
                Some(State::Waiting | State::Holding | State::Stopped | State::Abandoning) => {
                    return Err(failed(&why.unwrap_or_else(|| "it ended".to_owned())));
                }
                _ => {}
            }
            if !self.supervisor_lives() {
                let log = installation.log_folder()?;
                let lines = last_lines(&log, &self.names.log, 0, 3).join(" / ");
                return Err(failed(&format!("the supervisor ended. Last lines: {lines}")));
            }
            if Instant::now() >= end {
                return Err(failed("nothing was heard of it in time"));
            }
            std::thread::sleep(Duration::from_millis(LOOK_MILLISECONDS));
        }
    }

    fn supervisor_lives(&self) -> bool {
        let pid = Pid::from_raw(self.supervisor);
        if self.own_child {
            let status = waitpid(pid, Some(WaitPidFlag::WNOHANG));
            return matches!(status, Ok(WaitStatus::StillAlive));
        }
        who(self.run, self.names).is_some()
    }
}

/// Stops the daemon and everything it started. What does not run is stopped already.
pub fn stop(installation: &Installation) -> Result<()> {
    let names = installation.names();
    let Some(run) = installation.run_folder_if_any()? else { return Ok(()) };
    let description = installation.description().ok();
    let stop_max = description.as_ref().map_or(Duration::from_secs(20), Description::stop_max);
    // Before waiting for our turn: a start that never ends is ended by this.
    ask_supervisor(&run, &names)?;
    let ready_max = description.as_ref().map_or(Duration::ZERO, Description::ready_max);
    let turn = TurnLock::take(&run, &names.turn_lock, ready_max + stop_max + GRACE)?;
    if let Some(supervisor) = ask_supervisor(&run, &names)? {
        let gone = wait_until(stop_max + GRACE, || who(&run, &names).is_none());
        if !gone {
            // It hangs; its daemon is dealt with below, through the lock it inherited.
            let _ = supervisor.signal(Signal::SIGKILL);
            supervisor.wait_gone(Duration::from_secs(2));
        }
    }
    stop_left_behind(installation, description.as_ref(), &run, &names)?;
    Record::remove(&run, &names)?;
    drop(turn);
    Ok(())
}

/// Asks a living supervisor to stop; says who it is.
fn ask_supervisor(run: &Folder, names: &Names) -> Result<Option<ProcessId>> {
    let Some(pid) = SupervisorLock::who(run, &names.supervisor_lock)? else { return Ok(None) };
    // The lock named a living process; whatever has this PID now must be that one.
    let Some(id) = ProcessId::of(pid) else { return Ok(None) };
    if SupervisorLock::who(run, &names.supervisor_lock)? != Some(pid) {
        return Ok(None);
    }
    match id.signal(Signal::SIGTERM) {
        Ok(_) => {
            let _ = id.signal(Signal::SIGCONT);
            Ok(Some(id))
        }
        Err(errno) => Err(Problem::new(format!("cannot stop process {pid}"))
            .because(errno)
            .remedy("run the command as root (sudo), or as the package's own user")),
    }
}

/// The path of the log that people should read.
pub fn log_path(installation: &Installation) -> std::path::PathBuf {
    let payload = installation.payload();
    let filling = installation.filling(&payload, 0);
    installation
        .description()
        .ok()
        .and_then(|description| description.log_path(&filling))
        .unwrap_or_else(|| installation.package.var().join("log").join(installation.names().log))
}
