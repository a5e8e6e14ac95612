//! Whether a daemon that runs also works: a check that is run now and then, or signs of life.
//!
//! The contract is in the daemon's description, so that any daemon can keep it:
//!
//! - `health_command` is run every `health_seconds`; it has `health_seconds_max` to end with 0.
//!   After `health_failures_max` failures in a row the daemon counts as hung.
//! - `heartbeat_seconds_max`: the daemon itself writes something into `{ready_fd}`, where it said
//!   that it is ready, at least so often.

use crate::daemon::check_launch;
use crate::description::Description;
use crate::installation::Installation;
use crate::plan::Plan;
use crate::problem::Result;
use std::fs::File;
use std::time::Instant;
use supervisor_dsm::process::{ProcessId, Tree};

/// Watches one life of the daemon; nothing while it is not ready.
#[derive(Debug, Default)]
pub struct Watchdog {
    next_check: Option<Instant>,
    check: Option<(ProcessId, Instant)>,
    beat_by: Option<Instant>,
    failures: u32,
}

impl Watchdog {
    /// The daemon is ready: watched from now on, as far as its description says how. One that was
    /// taken over cannot be heard: its descriptor ended with the supervisor before.
    pub fn begin(&mut self, description: &Description, is_heard: bool) {
        self.end();
        self.next_check = description.health_every().map(|every| Instant::now() + every);
        if is_heard {
            self.beat(description);
        }
    }

    /// The daemon is gone, or about to be.
    pub fn end(&mut self) {
        if let Some((check, _)) = self.check.take() {
            Tree { leader: Some(check), lock_file: None }.kill();
        }
        *self = Self::default();
    }

    /// A sign of life.
    pub fn beat(&mut self, description: &Description) {
        self.beat_by = description.heartbeat_max().map(|within| Instant::now() + within);
    }

    /// When it has something to do.
    pub fn wake(&self) -> Option<Instant> {
        let timeout = self.check.map(|(_, until)| until);
        [self.next_check, timeout, self.beat_by].into_iter().flatten().min()
    }

    /// Does what is due. Why the daemon counts as hung, if it does.
    pub fn look(
        &mut self,
        installation: &Installation,
        description: &Description,
    ) -> Result<Option<String>> {
        let now = Instant::now();
        let is_over = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        if is_over(self.beat_by) {
            self.beat_by = None;
            let seconds = description.heartbeat_max().map_or(0, |within| within.as_secs());
            return Ok(Some(format!("the daemon gave no sign of life for {seconds} seconds")));
        }
        if let Some((check, until)) = self.check
            && now >= until
        {
            self.check = None;
            Tree { leader: Some(check), lock_file: None }.kill();
            let seconds = description.health_max().as_secs();
            return Ok(self.failed(&format!("no answer within {seconds} seconds"), description));
        }
        if is_over(self.next_check) {
            self.next_check = None;
            let plan = Plan::now(installation);
            let nowhere = File::options().write(true).open("/dev/null").map_err(|error| {
                crate::problem::Problem::new("cannot open /dev/null").because(error)
            })?;
            let id = check_launch(installation, description, &plan, &nowhere)?;
            self.check = Some((id, now + description.health_max()));
        }
        Ok(None)
    }

    /// A child ended: `None` when it was no check, else why the daemon counts as hung, if it does.
    pub fn ended(
        &mut self,
        pid: i32,
        is_success: bool,
        description: &Description,
    ) -> Option<Option<String>> {
        let (check, _) = self.check.filter(|(check, _)| check.pid == pid)?;
        self.check = None;
        // What it left running is of no more use.
        Tree { leader: Some(check), lock_file: None }.kill();
        if is_success {
            self.failures = 0;
            self.again(description);
            return Some(None);
        }
        Some(self.failed("an answer that is none", description))
    }

    fn failed(&mut self, what: &str, description: &Description) -> Option<String> {
        self.failures += 1;
        let failures_max = description.health_failures_max();
        if self.failures >= failures_max {
            let times = self.failures;
            return Some(format!("the daemon hangs: {what}, {times} time(s) in a row"));
        }
        self.again(description);
        None
    }

    fn again(&mut self, description: &Description) {
        self.next_check = description.health_every().map(|every| Instant::now() + every);
    }
}
