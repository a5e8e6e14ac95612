//! The restart policy: a rectangle of state × event.
//!
//! It slows down and never gives up for good, because nobody sits beside a NAS: waits double from
//! one second to five minutes, with chance in them so that many boxes do not come back in step.
//! Ten healthy minutes and all is forgiven. Wrong settings hold it until somebody asks again.
//! When memory ran out the plan is made one step smaller.

use crate::ending::Ending;

/// The first wait is at most this long.
pub const BACKOFF_SECONDS_MIN: u64 = 1;

/// No wait is longer.
pub const BACKOFF_SECONDS_MAX: u64 = 300;

/// A daemon that was ready for this long starts with a clean slate.
pub const FORGIVEN_AFTER_SECONDS: u64 = 600;

/// Where the daemon is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Started, not yet ready.
    Starting,
    /// Ready.
    Running,
    /// It was asked to stop because it never became ready; it will be tried again.
    Abandoning,
    /// Ended; waiting before the next try.
    Waiting,
    /// Ended over its settings; waiting for somebody to ask again.
    Holding,
    /// Asked to stop for good.
    Stopping,
    /// Ended for good.
    Stopped,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// The daemon says that it is ready.
    Ready,
    /// The time it had to become ready is over.
    ReadyLate,
    /// It ended.
    Ended(Ending),
    /// The wait before the next try is over.
    WaitOver,
    /// Somebody asked for a start while there is a supervisor.
    StartAsked,
    /// Somebody asked for a stop.
    StopAsked,
    /// The time it had to stop is over.
    StopLate,
    /// It runs, but does not work any more.
    Hung,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Nothing,
    /// Start the daemon.
    Start,
    /// Tell whoever waits that it is ready.
    SayReady,
    /// Start it after so many milliseconds.
    StartAfter {
        /// The wait, in milliseconds.
        milliseconds: u64,
    },
    /// Wait until somebody asks.
    Hold,
    /// Ask it to stop.
    AskToStop,
    /// Kill it and everything it started.
    Kill,
    /// There is nothing left to supervise.
    Finish,
}

/// A cell's verb; what it says in numbers is worked out by [`Policy::on`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Ignore,
    Start,
    Greet,
    Retry,
    Shrink,
    Hold,
    Ask,
    Kill,
    Finish,
}

const STATES: usize = 7;
const EVENTS: usize = 12;

use State::{Abandoning, Holding, Running, Starting, Stopped, Stopping, Waiting};
use Verb::{Ask, Finish, Greet, Hold, Ignore, Kill, Retry, Shrink, Start};

/// The policy itself. Rows are states, columns are events, in the order of their types.
#[rustfmt::skip]
const TABLE: [[(State, Verb); EVENTS]; STATES] = [
    // Starting
    [(Running, Greet),      (Abandoning, Ask),     (Stopped, Finish),     (Holding, Hold),
     (Waiting, Retry),      (Waiting, Shrink),     (Waiting, Retry),      (Starting, Ignore),
     (Starting, Ignore),    (Stopping, Ask),       (Starting, Ignore),       (Starting, Ignore)],
    // Running
    [(Running, Ignore),     (Running, Ignore),     (Stopped, Finish),     (Holding, Hold),
     (Waiting, Retry),      (Waiting, Shrink),     (Waiting, Retry),      (Running, Ignore),
     (Running, Ignore),     (Stopping, Ask),       (Running, Ignore),       (Abandoning, Ask)],
    // Abandoning
    [(Abandoning, Ignore),  (Abandoning, Ignore),  (Waiting, Retry),      (Holding, Hold),
     (Waiting, Retry),      (Waiting, Shrink),     (Waiting, Retry),      (Abandoning, Ignore),
     (Abandoning, Ignore),  (Stopping, Ask),       (Abandoning, Kill),       (Abandoning, Ignore)],
    // Waiting
    [(Waiting, Ignore),     (Waiting, Ignore),     (Waiting, Ignore),     (Waiting, Ignore),
     (Waiting, Ignore),     (Waiting, Ignore),     (Waiting, Ignore),     (Starting, Start),
     (Starting, Start),     (Stopped, Finish),     (Waiting, Ignore),       (Waiting, Ignore)],
    // Holding
    [(Holding, Ignore),     (Holding, Ignore),     (Holding, Ignore),     (Holding, Ignore),
     (Holding, Ignore),     (Holding, Ignore),     (Holding, Ignore),     (Holding, Ignore),
     (Starting, Start),     (Stopped, Finish),     (Holding, Ignore),       (Holding, Ignore)],
    // Stopping
    [(Stopping, Ignore),    (Stopping, Ignore),    (Stopped, Finish),     (Stopped, Finish),
     (Stopped, Finish),     (Stopped, Finish),     (Stopped, Finish),     (Stopping, Ignore),
     (Stopping, Ignore),    (Stopping, Ignore),    (Stopping, Kill),       (Stopping, Ignore)],
    // Stopped
    [(Stopped, Ignore),     (Stopped, Ignore),     (Stopped, Ignore),     (Stopped, Ignore),
     (Stopped, Ignore),     (Stopped, Ignore),     (Stopped, Ignore),     (Stopped, Ignore),
     (Stopped, Ignore),     (Stopped, Ignore),     (Stopped, Ignore),       (Stopped, Ignore)],
];

impl State {
    fn row(self) -> usize {
        match self {
            Starting => 0,
            Running => 1,
            Abandoning => 2,
            Waiting => 3,
            Holding => 4,
            Stopping => 5,
            Stopped => 6,
        }
    }

    /// One word for it, as the state file and `status` write it.
    pub fn word(self) -> &'static str {
        match self {
            Starting => "starting",
            Running => "running",
            Abandoning => "abandoning",
            Waiting => "waiting",
            Holding => "holding",
            Stopping => "stopping",
            Stopped => "stopped",
        }
    }

    /// The state of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Starting, Running, Abandoning, Waiting, Holding, Stopping, Stopped]
            .into_iter()
            .find(|state| state.word() == word)
    }
}

impl Event {
    fn column(self) -> usize {
        match self {
            Self::Ready => 0,
            Self::ReadyLate => 1,
            Self::Ended(Ending::Wanted) => 2,
            Self::Ended(Ending::Configuration) => 3,
            Self::Ended(Ending::LockHeld) => 4,
            Self::Ended(Ending::OutOfMemory) => 5,
            Self::Ended(Ending::Crash) => 6,
            Self::WaitOver => 7,
            Self::StartAsked => 8,
            Self::StopAsked => 9,
            Self::StopLate => 10,
            Self::Hung => 11,
        }
    }
}

/// One daemon's life so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Where it is.
    pub state: State,
    /// Endings in a row that were not forgiven.
    pub failures: u32,
    /// How often the memory plan was made smaller.
    pub steps_down: u32,
}

impl Policy {
    /// The policy of a daemon that is being started now.
    pub fn starting(steps_down: u32) -> Self {
        Self { state: Starting, failures: 0, steps_down }
    }

    /// The policy of a daemon that was found running.
    pub fn adopted(steps_down: u32) -> Self {
        Self { state: Running, failures: 0, steps_down }
    }

    /// Takes in an event. `healthy_seconds` is how long the daemon had been ready, `chance` any
    /// number: the wait's share of luck.
    pub fn on(&mut self, event: Event, healthy_seconds: u64, chance: u32) -> Action {
        let (next, verb) = TABLE[self.state.row()][event.column()];
        if self.state == Running && healthy_seconds >= FORGIVEN_AFTER_SECONDS {
            self.failures = 0;
        }
        self.state = next;
        match verb {
            Ignore => Action::Nothing,
            Start => Action::Start,
            Greet => Action::SayReady,
            Hold => Action::Hold,
            Ask => Action::AskToStop,
            Kill => Action::Kill,
            Finish => Action::Finish,
            Retry => self.retry(chance),
            Shrink => {
                self.steps_down = self.steps_down.saturating_add(1);
                self.retry(chance)
            }
        }
    }

    fn retry(&mut self, chance: u32) -> Action {
        self.failures = self.failures.saturating_add(1);
        Action::StartAfter { milliseconds: backoff_milliseconds(self.failures, chance) }
    }
}

/// The wait after so many failures in a row: between half and the whole of a doubling time.
pub fn backoff_milliseconds(failures: u32, chance: u32) -> u64 {
    let doublings = failures.saturating_sub(1).min(20);
    let whole = (BACKOFF_SECONDS_MIN << doublings).min(BACKOFF_SECONDS_MAX) * 1000;
    let half = whole / 2;
    (half + u64::from(chance) % (half + 1)).max(BACKOFF_SECONDS_MIN * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Chance that always picks the longest wait would depend on its length; this story uses
    /// none, and so half of each doubling.
    struct Nas {
        policy: Policy,
        last: Action,
        healthy_seconds: u64,
    }

    impl Nas {
        fn boots() -> Self {
            Self { policy: Policy::starting(0), last: Action::Start, healthy_seconds: 0 }
        }

        fn meets(&mut self, event: Event) -> &mut Self {
            self.last = self.policy.on(event, self.healthy_seconds, 0);
            self
        }

        fn daemon_dies(&mut self) -> &mut Self {
            self.meets(Event::Ended(Ending::Crash))
        }

        fn memory_runs_out(&mut self) -> &mut Self {
            self.meets(Event::Ended(Ending::OutOfMemory))
        }

        fn daemon_is_ready_for(&mut self, seconds: u64) -> &mut Self {
            self.meets(Event::Ready).expect(Action::SayReady);
            self.healthy_seconds = seconds;
            self
        }

        fn the_wait_is_over(&mut self) -> &mut Self {
            self.meets(Event::WaitOver)
        }

        fn expect(&mut self, action: Action) -> &mut Self {
            assert_eq!(self.last, action);
            self
        }

        fn expect_a_wait_of(&mut self, seconds: u64) -> &mut Self {
            self.expect(Action::StartAfter { milliseconds: seconds * 1000 })
        }
    }

    #[test]
    fn a_daemon_that_keeps_dying_is_started_ever_more_slowly_and_forgiven_once_it_works() {
        let mut nas = Nas::boots();
        for seconds in [1, 1, 2, 4, 8, 16, 32, 64, 128, 150, 150] {
            nas.daemon_dies().expect_a_wait_of(seconds);
            nas.the_wait_is_over().expect(Action::Start);
        }
        nas.daemon_is_ready_for(599).daemon_dies().expect_a_wait_of(150);
        nas.the_wait_is_over().daemon_is_ready_for(600).daemon_dies().expect_a_wait_of(1);
    }

    #[test]
    fn it_never_gives_up_for_good() {
        let mut nas = Nas::boots();
        for _ in 0..100_000 {
            nas.daemon_dies();
            nas.the_wait_is_over().expect(Action::Start);
        }
    }

    #[test]
    fn every_wait_is_between_one_second_and_five_minutes_whatever_chance_says() {
        for failures in [0, 1, 2, 9, 10, 11, 33, u32::MAX] {
            for chance in [0, 1, 149_999, 150_000, u32::MAX] {
                let wait = backoff_milliseconds(failures, chance);
                assert!((1000..=300_000).contains(&wait), "{failures} {chance}: {wait}");
            }
        }
        assert_eq!(backoff_milliseconds(20, 150_000), 300_000);
    }

    #[test]
    fn when_memory_runs_out_the_plan_gets_smaller_and_a_plain_crash_leaves_it() {
        let mut nas = Nas::boots();
        nas.daemon_is_ready_for(5).memory_runs_out();
        nas.the_wait_is_over().expect(Action::Start);
        nas.daemon_is_ready_for(5).daemon_dies();
        assert_eq!(nas.policy.steps_down, 1);
    }

    #[test]
    fn wrong_settings_hold_it_until_somebody_asks() {
        let mut nas = Nas::boots();
        nas.meets(Event::Ended(Ending::Configuration)).expect(Action::Hold);
        nas.the_wait_is_over().expect(Action::Nothing);
        nas.meets(Event::StartAsked).expect(Action::Start);
        assert_eq!(nas.policy.state, State::Starting);
    }

    #[test]
    fn a_daemon_that_is_never_ready_is_asked_then_killed_then_tried_again() {
        let mut nas = Nas::boots();
        nas.meets(Event::ReadyLate).expect(Action::AskToStop);
        nas.meets(Event::StopLate).expect(Action::Kill);
        nas.daemon_dies().expect_a_wait_of(1);
    }

    #[test]
    fn a_daemon_that_hangs_is_asked_then_killed_then_started_again() {
        let mut nas = Nas::boots();
        nas.meets(Event::Hung).expect(Action::Nothing);
        nas.daemon_is_ready_for(5).meets(Event::Hung).expect(Action::AskToStop);
        nas.meets(Event::Hung).expect(Action::Nothing);
        nas.meets(Event::StopLate).expect(Action::Kill);
        nas.daemon_dies().expect_a_wait_of(1);
        nas.the_wait_is_over().expect(Action::Start);
    }

    #[test]
    fn a_crash_loop_settles_at_one_start_in_five_minutes_on_the_clock() {
        for ending in [Ending::Crash, Ending::OutOfMemory, Ending::LockHeld] {
            let mut nas = Nas::boots();
            let (mut clock, mut starts) = (0, Vec::new());
            while clock < 24 * 3600 * 1000 {
                nas.last = nas.policy.on(Event::Ended(ending), 0, u32::MAX - 12_345);
                let Action::StartAfter { milliseconds } = nas.last else { panic!("it gave up") };
                clock += milliseconds;
                starts.push(clock);
                nas.the_wait_is_over().expect(Action::Start);
            }
            let last_hour = starts.iter().filter(|at| **at > 23 * 3600 * 1000).count();
            // Jitter halves a wait at the most: between 12 and 24 starts in an hour.
            assert!((11..=25).contains(&last_hour), "{ending:?}: {last_hour} in the last hour");
        }
    }

    #[test]
    fn a_stop_is_asked_for_once_then_enforced_then_final() {
        let mut nas = Nas::boots();
        nas.daemon_is_ready_for(5).meets(Event::StopAsked).expect(Action::AskToStop);
        nas.meets(Event::StopAsked).expect(Action::Nothing);
        nas.meets(Event::StopLate).expect(Action::Kill);
        nas.memory_runs_out().expect(Action::Finish);
        nas.meets(Event::StartAsked).expect(Action::Nothing);
    }

    #[test]
    fn a_stop_while_it_waits_or_holds_is_done_at_once() {
        let mut nas = Nas::boots();
        nas.daemon_dies().meets(Event::StopAsked).expect(Action::Finish);
        let mut nas = Nas::boots();
        nas.meets(Event::Ended(Ending::Configuration)).meets(Event::StopAsked);
        nas.expect(Action::Finish);
    }

    #[test]
    fn a_daemon_that_means_to_end_is_left_alone() {
        let mut nas = Nas::boots();
        nas.daemon_is_ready_for(5).meets(Event::Ended(Ending::Wanted)).expect(Action::Finish);
    }

    #[test]
    fn every_state_is_known_by_its_word() {
        for row in [Starting, Running, Abandoning, Waiting, Holding, Stopping, Stopped] {
            assert_eq!(State::from_word(row.word()), Some(row));
        }
    }
}
