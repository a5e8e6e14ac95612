//! Why a daemon ended, in a sentence for its owner, from its exit and what it wrote last.

use supervisor_lifecycle::ending::{Ending, Exit};

/// Begins what the supervisor says, after the time; the rest of the log is the daemon's.
pub const OWN_WORD: &str = "supervisor: ";

/// Whether a line is the supervisor's: `2026-11-21 23:14:05 supervisor: …`.
pub fn are_own(line: &str) -> bool {
    line.get(20..).is_some_and(|said| said.starts_with(OWN_WORD))
}

/// Whether a line says that memory could not be had.
pub fn speak_of_memory(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    ["memory allocation of", "out of memory", "cannot allocate memory"]
        .iter()
        .any(|words| line.contains(words))
}

/// Why it ended.
pub fn sentence(exit: Exit, ending: Ending, lines: &[String]) -> String {
    let why = match ending {
        Ending::Wanted => "the daemon ended by itself".to_owned(),
        Ending::Configuration => format!("the daemon refuses its settings ({exit})"),
        Ending::LockHeld => format!("somebody else holds what the daemon needs ({exit})"),
        Ending::OutOfMemory => {
            format!("the daemon ended, probably because memory ran out ({exit})")
        }
        Ending::Crash => format!("the daemon ended unexpectedly ({exit})"),
    };
    match lines.last() {
        Some(line) => format!("{why}; its last words: {line}"),
        None => why,
    }
}

/// The same for one that ended as if all was well, and left so many processes running.
pub fn of_one_in_the_background(left_running: usize) -> String {
    format!(
        "the daemon ended by itself and left {left_running} process(es) running, which are \
         stopped: a daemon that goes to the background must be told to stay in the foreground"
    )
}
