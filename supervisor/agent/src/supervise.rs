//! `run`: the supervisor's loop. It waits for signals, readiness and the end of the daemon, asks
//! the policy what to do, and does it. Nothing wakes it when nothing happens.

use crate::daemon::{Daemon, stop_left_behind};
use crate::description::{Description, Readiness};
use crate::identity;
use crate::installation::{Installation, Names};
use crate::last_words::{self, OWN_WORD};
use crate::payloads;
use crate::plan::Plan;
use crate::problem::{Problem, Result};
use crate::record::{Process, Record, this_boot};
use crate::watchdog::Watchdog;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};
use supervisor_dsm::limits::Limits;
use supervisor_dsm::lock::SupervisorLock;
use supervisor_dsm::log::{BoundedLog, last_lines};
use supervisor_dsm::memory::OomKills;
use supervisor_dsm::process::ProcessId;
use supervisor_dsm::{Folder, clock, launch};
use supervisor_lifecycle::ending::{Circumstances, Codes, Ending, Exit};
use supervisor_lifecycle::restart::{Action, Event, Policy, State};

/// While a daemon floods its log, its size is looked at no more often than this.
const LOG_CHECK_MILLISECONDS_MIN: u64 = 200;

/// Where the log cannot be watched, its size is looked at this often.
const LOG_CHECK_SECONDS_UNWATCHED: u64 = 30;

/// The depot is asked this long after a start, at the earliest.
const UPDATE_AFTER_START: Duration = Duration::from_secs(3600);

/// One supervisor and its daemon.
struct Supervisor {
    installation: Installation,
    description: Description,
    names: Names,
    run: Folder,
    log: BoundedLog,
    signals: SignalFd,
    watch: Option<Inotify>,
    next_log_check: Option<Instant>,
    policy: Policy,
    daemon: Option<Daemon>,
    deadline: Option<(Instant, Event)>,
    watchdog: Watchdog,
    /// When the depot is asked again, if the owner ever named one.
    next_update: Option<Instant>,
    /// When a new version will have been well for long enough.
    proved_at: Option<Instant>,
    /// Whether somebody asked for a stop.
    is_asked_to_stop: bool,
    record: Record,
    limits: Limits,
    _lock: SupervisorLock,
}

/// Supervises until the daemon is stopped for good.
pub fn run(installation: Installation) -> Result<()> {
    let names = installation.names();
    let description = installation.description()?;
    let run = installation.run_folder()?;
    let lock = SupervisorLock::take(&run, &names.supervisor_lock)?.map_err(|pid| {
        let mut problem = Problem::new(format!(
            "{} is supervised already, by process {pid}",
            installation.package.name()
        ));
        problem.code = 11;
        problem
    })?;
    let log = BoundedLog::open(installation.log_folder()?, &names.log)?;
    let signals = take_signals()?;
    launch::adopt_orphans();
    let limits = Limits::raise(installation.package.dsm());
    let watch = watch_log(&log);
    let plan = Plan::now(&installation);
    let record = first_record(&installation, &plan, &limits);
    let mut supervisor = Supervisor {
        policy: Policy::starting(plan.facts.steps_down),
        next_log_check: watch.is_none().then(Instant::now),
        watch,
        daemon: None,
        deadline: None,
        watchdog: Watchdog::default(),
        next_update: None,
        proved_at: None,
        is_asked_to_stop: false,
        installation,
        description,
        names,
        run,
        log,
        signals,
        record,
        limits,
        _lock: lock,
    };
    supervisor.plan_update(UPDATE_AFTER_START);
    supervisor.begin()?;
    supervisor.attend()
}

fn first_record(installation: &Installation, plan: &Plan, limits: &Limits) -> Record {
    let own = std::process::id() as i32;
    let supervisor = ProcessId::of(own).unwrap_or(ProcessId { pid: own, start_ticks: 0 });
    Record {
        boot: this_boot(),
        supervisor: Process::from(supervisor),
        daemon: None,
        state: State::Starting.word().to_owned(),
        since: clock::now_seconds(),
        attempt: 0,
        failures: 0,
        steps_down: plan.facts.steps_down,
        next_try: None,
        last_ending: None,
        package_version: payloads::running_version(installation),
        memory: plan.plan,
        memory_reason: plan.reason,
        open_files: limits.open_files,
    }
}

/// From here on these signals come through a descriptor, one after the other.
fn take_signals() -> Result<SignalFd> {
    let mut mask = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGCHLD] {
        mask.add(signal);
    }
    mask.thread_block()
        .and_then(|()| SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK))
        .map_err(|errno| Problem::new("cannot take signals").because(errno))
}

/// Wakes us when the log grows. A box may have no watch left for us: then its size is looked at
/// now and then.
fn watch_log(log: &BoundedLog) -> Option<Inotify> {
    let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok()?;
    watch.add_watch(&log.path(), AddWatchFlags::IN_MODIFY).ok()?;
    Some(watch)
}

impl Supervisor {
    fn say(&self, text: &str) {
        self.log.say(&format!("{OWN_WORD}{text}"));
    }

    /// Takes over what is there already, or starts the daemon.
    fn begin(&mut self) -> Result<()> {
        self.mend_identity();
        let earlier = Record::read(&self.run, &self.names)?;
        let running = earlier.as_ref().filter(|record| {
            record.daemon_is_alive()
                && record.state() == State::Running
                && record.package_version == self.record.package_version
        });
        if let (Some(record), Some(daemon)) = (running, earlier.as_ref().and_then(|it| it.daemon)) {
            let (id, attempt) = (ProcessId::from(daemon), record.attempt);
            let bytes = self.log.bytes();
            self.daemon = Some(Daemon::adopt(id, &self.installation, &self.run, bytes)?);
            self.policy = Policy::adopted(self.policy.steps_down);
            self.record.memory = record.memory;
            self.record.memory_reason = record.memory_reason;
            self.record.attempt = attempt + 1;
            self.note_ready();
            self.say(&format!("took over the running daemon, process {}", id.pid));
            self.note();
            return Ok(());
        }
        let description = Some(&self.description);
        if stop_left_behind(&self.installation, description, &self.run, &self.names)? {
            self.say("stopped what an earlier supervisor had left behind");
        }
        self.carry_out(Action::Start);
        Ok(())
    }

    fn mend_identity(&self) {
        if self.description.identity {
            let (mend, machine) = (identity::mend, identity::note_machine);
            for sentence in [mend, machine].iter().filter_map(|ask| ask(&self.installation)) {
                self.say(&sentence);
            }
        }
    }

    fn attend(&mut self) -> Result<()> {
        while self.policy.state != State::Stopped {
            let [signal, ready, gone, log] = self.wait()?;
            if signal {
                self.hear_signals();
            }
            if ready {
                self.hear_ready();
            }
            if gone {
                self.ended(Exit::Unseen);
            }
            if log {
                self.check_log();
            }
            if self.watchdog.wake().is_some_and(|at| Instant::now() >= at) {
                match self.watchdog.look(&self.installation, &self.description) {
                    Ok(hung) => self.consider(hung),
                    Err(problem) => self.say(&problem.fact()),
                }
            }
            if self.next_update.is_some_and(|at| Instant::now() >= at) {
                self.update();
            }
            if self.proved_at.is_some_and(|at| Instant::now() >= at) {
                self.proved_at = None;
                self.say_outcome(payloads::prove(&self.installation));
            }
            if let Some((at, event)) = self.deadline
                && Instant::now() >= at
            {
                self.deadline = None;
                self.meet(event);
            }
        }
        if self.is_asked_to_stop
            && let Err(problem) = payloads::stopped(&self.installation)
        {
            self.say(&problem.fact());
        }
        self.mend_identity();
        Record::remove(&self.run, &self.names)?;
        self.say("stopped");
        Ok(())
    }

    /// Sleeps until something happens; says what: signal, ready, gone, log.
    fn wait(&self) -> Result<[bool; 4]> {
        let mut polled = vec![(0, PollFd::new(self.signals.as_fd(), PollFlags::POLLIN))];
        let mut add = |what, descriptor| {
            polled.push((what, PollFd::new(descriptor, PollFlags::POLLIN)));
        };
        if let Some(daemon) = &self.daemon {
            daemon.ready.iter().for_each(|ready| add(1, ready.as_fd()));
            daemon.gone.iter().for_each(|gone| add(2, gone.as_fd()));
        }
        let now = Instant::now();
        let log_check = self.next_log_check.filter(|_| self.daemon.is_some());
        if let (Some(watch), None) = (&self.watch, log_check) {
            add(3, watch.as_fd());
        }
        let wake = self.deadline.map(|(at, _)| at).into_iter();
        let wake = wake.chain(log_check).chain(self.proved_at).chain(self.watchdog.wake());
        let wake = wake.chain(self.next_update).min();
        let timeout = wake.map_or(PollTimeout::NONE, |at| {
            // One more, so that the deadline is over when we wake and not almost.
            let milliseconds = at.saturating_duration_since(now).as_millis() + 1;
            PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX)
        });
        let mut descriptors: Vec<PollFd<'_>> = polled.iter().map(|(_, fd)| fd.clone()).collect();
        match poll(&mut descriptors, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(Problem::new("cannot wait for the daemon").because(errno)),
        }
        let mut happened = [false; 4];
        for ((what, _), descriptor) in polled.iter().zip(&descriptors) {
            happened[*what] |= descriptor.any().unwrap_or(false);
        }
        happened[3] |= log_check.is_some_and(|at| Instant::now() >= at);
        Ok(happened)
    }

    fn hear_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            match Signal::try_from(signal.ssi_signo as i32) {
                Ok(Signal::SIGTERM | Signal::SIGINT) => self.meet(Event::StopAsked),
                Ok(Signal::SIGHUP) => self.meet(Event::StartAsked),
                Ok(Signal::SIGCHLD) => self.reap(),
                _ => {}
            }
        }
    }

    /// Collects every dead child, also those that only became ours when their parent died.
    fn reap(&mut self) {
        loop {
            let (pid, exit) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid.as_raw(), Exit::Code(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    (pid.as_raw(), Exit::Signal(signal as i32))
                }
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            if self.daemon.as_ref().is_some_and(|daemon| daemon.id.pid == pid) {
                self.ended(exit);
            } else if let Some(hung) =
                self.watchdog.ended(pid, exit == Exit::Code(0), &self.description)
            {
                self.consider(hung);
            }
        }
    }

    fn hear_ready(&mut self) {
        let Some(daemon) = &mut self.daemon else { return };
        let Some(ready) = &daemon.ready else { return };
        let mut bytes = [0; 64];
        match nix::unistd::read(ready, &mut bytes) {
            Ok(0) => daemon.ready = None,
            Ok(_) if daemon.ready_since.is_some() => self.watchdog.beat(&self.description),
            Ok(count) if bytes[..count].contains(&b'\n') => {
                // Kept open only for a daemon that goes on giving signs of life.
                if self.description.heartbeat_max().is_none() {
                    daemon.ready = None;
                }
                self.meet(Event::Ready);
            }
            _ => {}
        }
    }

    fn check_log(&mut self) {
        if let Some(watch) = &self.watch {
            while watch.read_events().is_ok_and(|events| !events.is_empty()) {}
        }
        let _ = self.log.turn();
        // After a look, a pause; then the watch is listened to again.
        let again = Duration::from_secs(LOG_CHECK_SECONDS_UNWATCHED);
        self.next_log_check = match (&self.watch, self.next_log_check) {
            (None, _) => Some(Instant::now() + again),
            (Some(_), Some(_)) => None,
            (Some(_), None) => {
                Some(Instant::now() + Duration::from_millis(LOG_CHECK_MILLISECONDS_MIN))
            }
        };
    }

    /// The daemon ended: what it left running is killed, then the policy decides.
    fn ended(&mut self, exit: Exit) {
        let Some(daemon) = self.daemon.take() else { return };
        let left_running = daemon.tree().members().len();
        daemon.tree().kill();
        self.deadline = None;
        self.proved_at = None;
        self.watchdog.end();
        let folder = self.installation.log_folder();
        let lines = folder.map_or_else(
            |_| Vec::new(),
            |folder| last_lines(&folder, &self.names.log, daemon.log_bytes_before, 8),
        );
        let lines: Vec<String> =
            lines.into_iter().filter(|line| !last_words::are_own(line)).collect();
        let kills = OomKills::now(self.installation.package.dsm());
        let around = Circumstances {
            we_killed: daemon.we_killed,
            kernel_ended_something: kills.has_any_since(&daemon.oom_kills_before),
            kernel_ended_ours: kills.has_ours_since(&daemon.oom_kills_before),
            said_out_of_memory: lines.iter().any(|line| last_words::speak_of_memory(line)),
        };
        let codes = Codes {
            configuration: self.description.exit_configuration,
            lock_held: self.description.exit_lock_held,
        };
        let ending = match Ending::of(exit, &codes, &around) {
            // A new version that goes away by itself has not proved itself.
            Ending::Wanted if payloads::is_on_trial(&self.installation) => Ending::Crash,
            ending => ending,
        };
        // A daemon that was given up ended by our signal; why it was given up is the news.
        let sentence = match daemon.was_given_up {
            Some(ref why) => why.clone(),
            None if exit == Exit::Code(0) && !self.is_asked_to_stop && left_running > 0 => {
                last_words::of_one_in_the_background(left_running)
            }
            None => last_words::sentence(exit, ending, &lines),
        };
        self.say(&sentence);
        self.record.last_ending = Some(sentence);
        self.record.daemon = None;
        let healthy = daemon.healthy_seconds();
        let action = self.policy.on(Event::Ended(ending), healthy, chance());
        if self.policy.steps_down != self.record.steps_down {
            let steps = self.policy.steps_down;
            Plan::now(&self.installation).remember_steps(&self.installation, steps);
        }
        self.carry_out(action);
    }

    /// Says why the daemon is told to stop although nobody asked for it.
    fn give_up(&mut self, why: String) {
        self.say(&why);
        self.record.last_ending = Some(why.clone());
        if let Some(daemon) = &mut self.daemon {
            daemon.was_given_up = Some(why);
        }
    }

    fn consider(&mut self, hung: Option<String>) {
        if let Some(why) = hung {
            self.give_up(why);
            self.watchdog.end();
            self.meet(Event::Hung);
        }
    }

    fn meet(&mut self, event: Event) {
        if let (Event::Ready, Some(daemon)) = (event, &mut self.daemon) {
            daemon.ready_since = Some(Instant::now());
        }
        self.is_asked_to_stop |= event == Event::StopAsked;
        if event == Event::ReadyLate {
            let seconds = self.description.ready_max().as_secs();
            self.give_up(format!("the daemon was not ready within {seconds} seconds"));
        }
        let healthy = self.daemon.as_ref().map_or(0, Daemon::healthy_seconds);
        let action = self.policy.on(event, healthy, chance());
        self.carry_out(action);
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Nothing => return,
            Action::Start => self.start(),
            Action::SayReady => {
                self.deadline = None;
                self.say("ready");
                self.note_ready();
            }
            Action::StartAfter { milliseconds } => {
                let wait = Duration::from_millis(milliseconds);
                self.deadline = Some((Instant::now() + wait, Event::WaitOver));
                self.record.next_try = Some(clock::now_seconds() + wait.as_secs().max(1));
                self.say(&format!("will be tried again in {} s", milliseconds.div_ceil(1000)));
            }
            Action::Hold => {
                self.deadline = None;
                self.say("waits until its settings are corrected and it is started again");
            }
            Action::AskToStop => {
                self.watchdog.end();
                if let Some(daemon) = &self.daemon {
                    let _ = daemon.id.signal(self.description.stop_signal());
                    let _ = daemon.id.signal(Signal::SIGCONT);
                }
                let late = Instant::now() + self.description.stop_max();
                self.deadline = Some((late, Event::StopLate));
            }
            Action::Kill => {
                self.say("does not stop when asked; it is killed");
                if let Some(daemon) = &mut self.daemon {
                    daemon.we_killed = true;
                    daemon.tree().kill();
                }
            }
            Action::Finish => self.deadline = None,
        }
        self.note();
    }

    /// A new version that became ready is watched from now on.
    fn note_ready(&mut self) {
        let is_heard = self.daemon.as_ref().is_some_and(|daemon| daemon.ready.is_some());
        self.watchdog.begin(&self.description, is_heard);
        match payloads::ready(&self.installation) {
            Ok(true) => self.proved_at = Some(Instant::now() + self.description.probation()),
            Ok(false) => {}
            Err(problem) => self.say(&problem.fact()),
        }
    }

    /// The depot is asked after this long, and up to as much longer by chance, so that not all
    /// boxes come at once. Without a depot nothing wakes us for it.
    fn plan_update(&mut self, at_most: Duration) {
        let has_depot = payloads::UpdateRecord::read(&self.installation).depot.is_some();
        let every = self.description.update_every().filter(|_| has_depot);
        self.next_update = every.map(|every| {
            let wait = every.min(at_most);
            Instant::now() + wait + wait.mul_f64(f64::from(chance()) / f64::from(u32::MAX))
        });
    }

    /// A program of its own asks and installs: what it needs for that is gone again afterwards. It
    /// stops and starts the daemon, and us, as an owner would.
    fn update(&mut self) {
        self.plan_update(Duration::MAX);
        let words = ["update", "install", "--automatic"];
        if let Err(problem) = crate::service::spawn_self(&self.installation, &words) {
            self.say(&problem.fact());
        }
    }

    fn say_outcome(&self, outcome: Result<Option<String>>) {
        match outcome {
            Ok(Some(sentence)) => self.say(&sentence),
            Ok(None) => {}
            Err(problem) => self.say(&problem.fact()),
        }
    }

    /// Which version it will be, and how that one is described.
    fn choose_payload(&mut self) {
        self.say_outcome(payloads::before_start(&self.installation));
        match self.installation.description() {
            Ok(description) => self.description = description,
            Err(problem) => self.say(&problem.fact()),
        }
        self.record.package_version = payloads::running_version(&self.installation);
    }

    fn start(&mut self) {
        self.choose_payload();
        let plan = Plan::now(&self.installation);
        self.record.attempt += 1;
        self.record.next_try = None;
        self.record.memory = plan.plan;
        self.record.memory_reason = plan.reason;
        self.limits = Limits::now(self.installation.package.dsm());
        let (installation, description) = (&self.installation, &self.description);
        match Daemon::start(installation, description, &plan, &self.run, &self.log) {
            Ok(daemon) => {
                self.say(&format!("started, process {}, {}", daemon.id.pid, plan.sentence()));
                self.daemon = Some(daemon);
                self.deadline = Some(match self.description.ready {
                    Readiness::Descriptor => {
                        (Instant::now() + self.description.ready_max(), Event::ReadyLate)
                    }
                    Readiness::Alive => {
                        (Instant::now() + self.description.alive_for(), Event::Ready)
                    }
                });
            }
            Err(problem) => {
                self.say(&problem.fact());
                self.record.last_ending = Some(problem.fact());
                let action = self.policy.on(Event::Ended(Ending::Crash), 0, chance());
                self.carry_out(action);
            }
        }
    }

    /// Writes down how things are, for everybody who asks.
    fn note(&mut self) {
        let word = self.policy.state.word();
        if self.record.state != word {
            self.record.state = word.to_owned();
            self.record.since = clock::now_seconds();
        }
        self.record.daemon = self.daemon.as_ref().map(|daemon| Process::from(daemon.id));
        self.record.failures = self.policy.failures;
        self.record.steps_down = self.policy.steps_down;
        self.record.open_files = self.limits.open_files;
        if let Err(error) = self.record.write(&self.run, &self.names) {
            self.say(&error.fact());
        }
    }
}

/// Chance for the waits. Without any, boxes come back in step, which is no disaster.
fn chance() -> u32 {
    getrandom::u32().unwrap_or(0)
}
