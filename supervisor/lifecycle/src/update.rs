//! An update's life, as a rectangle of phase × event: fetched, unpacked, tried, watched, and kept
//! or taken back by itself.
//!
//! Each phase is one record on disk. An action is done *before* the next phase is recorded and can
//! be done again, so that a power cut anywhere repeats one action and skips none. A new version
//! has [`TRIES_MAX`] starts to prove itself; one is taken away before each, and who has none left
//! is taken back before it is started.

/// How many starts a new version has to live through its probation.
pub const TRIES_MAX: u32 = 3;

/// How far an update is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// There is none.
    Idle,
    /// One was chosen; its file is being fetched.
    Fetching,
    /// Its file is there and is what was signed.
    Fetched,
    /// It is unpacked in a slot of its own.
    Staged,
    /// Its programs run on this processor. The next start is its first.
    Proven,
    /// It was started, and was not ready yet.
    Switched,
    /// It was ready, and has to stay so for a while.
    Probation,
}

/// What happened to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// The depot offers a version worth having.
    Chosen,
    /// Its file was fetched and verified.
    Fetched,
    /// It was unpacked.
    Unpacked,
    /// Its programs answered.
    Tested,
    /// It is no good: not what it should be, or it does not run here.
    Unfit,
    /// The daemon is about to be started.
    Starting,
    /// The daemon is ready.
    Ready,
    /// The daemon was stopped by the owner: that is nobody's fault.
    Stopped,
    /// It was healthy for the whole of its probation.
    Proved,
    /// The owner wants it gone.
    Revoked,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Nothing,
    /// Fetch the file.
    Fetch,
    /// Unpack it.
    Unpack,
    /// Try its programs.
    Test,
    /// Say that it will be used from the next start on.
    Announce,
    /// Copy the daemon's state, so that the old version finds it as it was; then use the new one.
    KeepStateAndSwitch,
    /// Use the new one again.
    Retry,
    /// Watch it.
    Watch,
    /// Keep it for good.
    Commit,
    /// Go back to the old version and its state; never take this one again.
    RollBack,
    /// Delete what was fetched, and never take this version again.
    Refuse,
    /// Delete what was fetched.
    Discard,
}

#[derive(Clone, Copy)]
enum Verb {
    Do(Action),
    Try,
}

use Action::{
    Announce, Commit, Discard, Fetch, KeepStateAndSwitch, Nothing, Refuse, RollBack, Test, Unpack,
    Watch,
};
use Phase::{Fetched, Fetching, Idle, Probation, Proven, Staged, Switched};
use Verb::{Do, Try};

const PHASES: usize = 7;
const EVENTS: usize = 10;

/// The table. Rows are phases, columns are events, in the order of their types.
#[rustfmt::skip]
const TABLE: [[(Phase, Verb); EVENTS]; PHASES] = [
    // Idle
    [(Fetching, Do(Fetch)),     (Idle, Do(Nothing)),        (Idle, Do(Nothing)),
     (Idle, Do(Nothing)),       (Idle, Do(Nothing)),        (Idle, Do(Nothing)),
     (Idle, Do(Nothing)),       (Idle, Do(Nothing)),        (Idle, Do(Nothing)),
     (Idle, Do(Nothing))],
    // Fetching
    [(Fetching, Do(Fetch)),     (Fetched, Do(Unpack)),      (Fetching, Do(Nothing)),
     (Fetching, Do(Nothing)),   (Idle, Do(Discard)),        (Fetching, Do(Nothing)),
     (Fetching, Do(Nothing)),   (Fetching, Do(Nothing)),    (Fetching, Do(Nothing)),
     (Idle, Do(Discard))],
    // Fetched
    [(Fetched, Do(Unpack)),     (Fetched, Do(Unpack)),      (Staged, Do(Test)),
     (Fetched, Do(Nothing)),    (Idle, Do(Refuse)),         (Fetched, Do(Nothing)),
     (Fetched, Do(Nothing)),    (Fetched, Do(Nothing)),     (Fetched, Do(Nothing)),
     (Idle, Do(Discard))],
    // Staged
    [(Staged, Do(Test)),        (Staged, Do(Nothing)),      (Staged, Do(Test)),
     (Proven, Do(Announce)),    (Idle, Do(Refuse)),         (Staged, Do(Nothing)),
     (Staged, Do(Nothing)),     (Staged, Do(Nothing)),      (Staged, Do(Nothing)),
     (Idle, Do(Discard))],
    // Proven
    [(Proven, Do(Announce)),    (Proven, Do(Nothing)),      (Proven, Do(Nothing)),
     (Proven, Do(Announce)),    (Idle, Do(Refuse)),         (Switched, Do(KeepStateAndSwitch)),
     (Proven, Do(Nothing)),     (Proven, Do(Nothing)),      (Proven, Do(Nothing)),
     (Idle, Do(Discard))],
    // Switched
    [(Switched, Do(Nothing)),   (Switched, Do(Nothing)),    (Switched, Do(Nothing)),
     (Switched, Do(Nothing)),   (Idle, Do(RollBack)),       (Switched, Try),
     (Probation, Do(Watch)),    (Switched, Do(Nothing)),    (Switched, Do(Nothing)),
     (Idle, Do(RollBack))],
    // Probation
    [(Probation, Do(Nothing)),  (Probation, Do(Nothing)),   (Probation, Do(Nothing)),
     (Probation, Do(Nothing)),  (Idle, Do(RollBack)),       (Switched, Try),
     (Probation, Do(Watch)),    (Probation, Do(Nothing)),   (Idle, Do(Commit)),
     (Idle, Do(RollBack))],
];

const WORDS: [(Phase, &str); PHASES] = [
    (Idle, "idle"),
    (Fetching, "fetching"),
    (Fetched, "fetched"),
    (Staged, "staged"),
    (Proven, "proven"),
    (Switched, "switched"),
    (Probation, "probation"),
];

impl Phase {
    /// One word for it, as the record has it.
    pub fn word(self) -> &'static str {
        WORDS[self as usize].1
    }

    /// The phase of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        WORDS.iter().find(|(_, known)| *known == word).map(|(phase, _)| *phase)
    }

    /// Whether the new version is what is started.
    pub fn is_in_use(self) -> bool {
        matches!(self, Switched | Probation)
    }
}

/// Where an update is, and how many starts it has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// How far.
    pub phase: Phase,
    /// Starts left, while it has to prove itself.
    pub tries_left: u32,
}

impl Progress {
    /// Takes in an event. The caller does the action, then records what this has become.
    #[must_use]
    pub fn on(self, event: Event) -> (Self, Action) {
        let (phase, verb) = TABLE[self.phase as usize][event as usize];
        let next = |phase, tries_left| Self { phase, tries_left };
        match verb {
            Do(KeepStateAndSwitch) => (next(phase, TRIES_MAX - 1), KeepStateAndSwitch),
            // The owner stopped what had just been started: that start did not count.
            Do(action) if event == Event::Stopped && self.phase.is_in_use() => {
                (next(phase, (self.tries_left + 1).min(TRIES_MAX)), action)
            }
            Do(action) => (next(phase, self.tries_left), action),
            Try if self.tries_left == 0 => (next(Idle, 0), RollBack),
            Try => (next(phase, self.tries_left - 1), Action::Retry),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lives_through(events: &[Event]) -> (Progress, Vec<Action>) {
        let mut progress = Progress { phase: Idle, tries_left: 0 };
        let mut actions = Vec::new();
        for event in events {
            let (next, action) = progress.on(*event);
            progress = next;
            actions.push(action);
        }
        (progress, actions)
    }

    const UNTIL_PROVEN: [Event; 4] =
        [Event::Chosen, Event::Fetched, Event::Unpacked, Event::Tested];

    #[test]
    fn a_good_version_is_fetched_tried_watched_and_kept() {
        let events = [&UNTIL_PROVEN[..], &[Event::Starting, Event::Ready, Event::Proved]].concat();
        let (end, actions) = lives_through(&events);
        assert_eq!(end.phase, Idle);
        assert_eq!(actions, [Fetch, Unpack, Test, Announce, KeepStateAndSwitch, Watch, Commit]);
    }

    #[test]
    fn a_version_that_dies_is_tried_three_times_and_taken_back_before_a_fourth() {
        for dies_after_ready in [false, true] {
            let mut events = UNTIL_PROVEN.to_vec();
            for _ in 0..4 {
                events.push(Event::Starting);
                if dies_after_ready {
                    events.push(Event::Ready);
                }
            }
            let (_, actions) = lives_through(&events);
            let starts = |action: &&Action| matches!(action, KeepStateAndSwitch | Action::Retry);
            assert_eq!(actions.iter().filter(starts).count(), 3);
            assert_eq!(actions.iter().filter(|action| **action == RollBack).count(), 1);
        }
    }

    #[test]
    fn a_box_that_is_switched_off_every_night_takes_nothing_back_for_that() {
        let mut events = UNTIL_PROVEN.to_vec();
        for _ in 0..30 {
            events.extend([Event::Starting, Event::Ready, Event::Stopped]);
        }
        let (end, actions) = lives_through(&events);
        assert!(end.phase.is_in_use() && !actions.contains(&RollBack));
    }

    #[test]
    fn what_is_no_good_is_refused_for_good_but_a_download_that_fails_is_not_its_fault() {
        for (known, action) in [(1, Discard), (2, Refuse), (3, Refuse), (4, Refuse)] {
            let (progress, _) = lives_through(&UNTIL_PROVEN[..known]);
            assert_eq!(progress.on(Event::Unfit).1, action, "{progress:?}");
        }
    }

    #[test]
    fn the_owner_can_take_it_back_at_any_time() {
        for (phase, _) in WORDS.iter().skip(1) {
            let (end, action) = Progress { phase: *phase, tries_left: 2 }.on(Event::Revoked);
            assert_eq!(end.phase, Idle);
            assert!(matches!(action, Discard | RollBack), "{phase:?}");
        }
    }

    #[test]
    fn after_a_cut_the_event_that_was_not_recorded_comes_again_and_means_the_same() {
        // What was recorded last is where it goes on; asking again repeats the action.
        for (phase, action) in [(Fetching, Fetch), (Fetched, Unpack), (Staged, Test)] {
            let here = Progress { phase, tries_left: 0 };
            assert_eq!(here.on(Event::Chosen), (here, action));
        }
    }

    #[test]
    fn every_phase_is_known_by_its_word() {
        for (at, (phase, word)) in WORDS.iter().enumerate() {
            assert_eq!((*phase as usize, phase.word()), (at, *word));
            assert_eq!(Phase::from_word(word), Some(*phase));
        }
        assert_eq!(Phase::from_word("done"), None);
    }
}
