//! One life of the daemon: started or taken over, asked to stop, killed.

use crate::description::{Description, Filling};
use crate::installation::{Installation, Names};
use crate::plan::Plan;
use crate::problem::{Problem, Result};
use crate::record::Record;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use supervisor_dsm::Folder;
use supervisor_dsm::launch::{self, LOCK_DESCRIPTOR, Launch, READY_DESCRIPTOR};
use supervisor_dsm::lock::DaemonLock;
use supervisor_dsm::memory::OomKills;
use supervisor_dsm::process::{ProcessId, Tree};

/// A daemon that runs.
#[derive(Debug)]
pub struct Daemon {
    /// Which process.
    pub id: ProcessId,
    /// Where it says that it is ready, until it did or closed it.
    pub ready: Option<OwnedFd>,
    /// For one that was taken over: where it is heard that it ended. Others are our children.
    pub gone: Option<OwnedFd>,
    /// Since when it has been ready.
    pub ready_since: Option<Instant>,
    /// How long the log was when it was started.
    pub log_bytes_before: u64,
    /// Whom the kernel had ended by then.
    pub oom_kills_before: OomKills,
    /// Whether we sent `SIGKILL`.
    pub we_killed: bool,
    /// Why it was told to stop to be started again: not ready in time, or hung.
    pub was_given_up: Option<String>,
    lock_file: PathBuf,
}

impl Daemon {
    /// Starts the daemon.
    pub fn start(
        installation: &Installation,
        description: &Description,
        plan: &Plan,
        run: &Folder,
        log: &supervisor_dsm::log::BoundedLog,
    ) -> Result<Self> {
        let names = installation.names();
        let lock = DaemonLock::take(run, &names.daemon_lock)?.ok_or_else(|| {
            Problem::new("something the daemon started before still runs and holds its lock")
        })?;
        let (ready, ready_for_daemon) = launch::pipe()?;
        let payload = installation.payload();
        let filling = installation.filling(&payload, plan.plan.total_bytes);
        let command = description.command(&filling);
        let environment = environment(installation, description, &filling);
        // The daemon's end must block, or a newline could be refused.
        nix::fcntl::fcntl(
            &ready_for_daemon,
            nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::empty()),
        )
        .map_err(|errno| Problem::new("cannot set up a pipe").because(errno))?;
        let log_bytes_before = log.bytes();
        let launch = Launch {
            command: &command,
            environment: &environment,
            folder: installation.package.var().to_owned(),
            output: log.file(),
            descriptors: &[
                (ready_for_daemon.as_fd(), READY_DESCRIPTOR),
                (lock.as_fd(), LOCK_DESCRIPTOR),
            ],
            nice: description.nice,
            idle_io: description.idle_io,
        };
        let pid = launch.start()?;
        launch::offer_to_oom_killer(pid);
        // An unreaped child keeps its PID, so this is it; a zombie still shows its start.
        let id = ProcessId::of(pid).unwrap_or(ProcessId { pid, start_ticks: 0 });
        Ok(Self {
            id,
            ready: Some(ready),
            gone: None,
            ready_since: None,
            log_bytes_before,
            oom_kills_before: OomKills::now(installation.package.dsm()),
            we_killed: false,
            was_given_up: None,
            lock_file: lock.path().to_owned(),
        })
    }

    /// Takes over a daemon that an earlier supervisor left behind. It is not our child, so its
    /// end is heard through the lock it inherited.
    pub fn adopt(
        id: ProcessId,
        installation: &Installation,
        run: &Folder,
        log_bytes: u64,
    ) -> Result<Self> {
        let names = installation.names();
        let (gone, say_gone) = launch::pipe()?;
        let folder = Folder::open(run.path())?;
        let lock_name = names.daemon_lock.clone();
        std::thread::Builder::new()
            .name("wait-for-lock".to_owned())
            .stack_size(64 * 1024)
            .spawn(move || {
                let _ = DaemonLock::wait(&folder, &lock_name);
                // A dying process closes its descriptors before it is gone. One that closed the
                // lock and lives on is looked at ever more rarely.
                let mut pause = Duration::from_millis(5);
                while id.is_alive() {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_secs(30));
                }
                let mut end = File::from(say_gone);
                let _ = std::io::Write::write_all(&mut end, b"\n");
            })
            .map_err(|error| Problem::new("cannot start a thread").because(error))?;
        Ok(Self {
            id,
            ready: None,
            gone: Some(gone),
            ready_since: Some(Instant::now()),
            log_bytes_before: log_bytes,
            oom_kills_before: OomKills::now(installation.package.dsm()),
            we_killed: false,
            was_given_up: None,
            lock_file: run.path().join(&names.daemon_lock),
        })
    }

    /// The daemon with everything it started.
    pub fn tree(&self) -> Tree<'_> {
        Tree { leader: Some(self.id), lock_file: Some(&self.lock_file) }
    }

    /// Seconds since it became ready.
    pub fn healthy_seconds(&self) -> u64 {
        self.ready_since.map_or(0, |since| since.elapsed().as_secs())
    }
}

/// Runs the description's check of the daemon's health, in a session of its own.
pub fn check_launch(
    installation: &Installation,
    description: &Description,
    plan: &Plan,
    output: &File,
) -> Result<ProcessId> {
    let payload = installation.payload();
    let filling = installation.filling(&payload, plan.plan.total_bytes);
    let launch = Launch {
        command: &description.health_command(&filling),
        environment: &environment(installation, description, &filling),
        folder: installation.package.var().to_owned(),
        output,
        descriptors: &[],
        nice: 0,
        idle_io: false,
    };
    let pid = launch.start()?;
    Ok(ProcessId::of(pid).unwrap_or(ProcessId { pid, start_ticks: 0 }))
}

/// What every program needs, then what the description says.
fn environment(
    installation: &Installation,
    description: &Description,
    filling: &Filling<'_>,
) -> Vec<(String, OsString)> {
    let mut environment: Vec<(String, OsString)> = vec![
        ("PATH".to_owned(), launch::PROGRAM_FOLDERS.into()),
        ("HOME".to_owned(), installation.package.var().into()),
        ("LANG".to_owned(), "C.UTF-8".into()),
    ];
    if let Some(zone) = &installation.settings.time_zone {
        environment.push(("TZ".to_owned(), zone.into()));
    }
    environment.extend(description.environment(filling));
    environment
}

/// Stops whatever an earlier supervisor left behind: asks, waits, kills. Returns whether there was
/// anything.
pub fn stop_left_behind(
    installation: &Installation,
    description: Option<&Description>,
    run: &Folder,
    names: &Names,
) -> Result<bool> {
    let record = Record::read(run, names)?;
    let leader = record
        .and_then(|record| record.daemon)
        .map(ProcessId::from)
        .filter(|daemon| daemon.is_alive());
    let is_locked = || Ok::<_, Problem>(DaemonLock::take(run, &names.daemon_lock)?.is_none());
    if leader.is_none() && !is_locked()? {
        return Ok(false);
    }
    let lock_file = run.path().join(&names.daemon_lock);
    let tree = Tree { leader, lock_file: Some(&lock_file) };
    let signal = description.map_or(nix::sys::signal::Signal::SIGTERM, Description::stop_signal);
    match leader {
        Some(leader) => drop(leader.signal(signal)),
        None => tree.signal(signal),
    }
    let patience = description.map_or(Duration::from_secs(20), Description::stop_max);
    let stopped = supervisor_dsm::process::wait_until(patience, || match leader {
        Some(leader) => !leader.is_alive(),
        None => DaemonLock::take(run, &names.daemon_lock).is_ok_and(|lock| lock.is_some()),
    });
    let _ = stopped;
    if !tree.kill() {
        return Err(Problem::new(format!(
            "some processes of {} cannot be stopped",
            installation.package.name()
        ))
        .remedy(
            "they wait for a disk that does not answer, or belong to another user: \
             stop as root, or restart the NAS",
        ));
    }
    Ok(true)
}
