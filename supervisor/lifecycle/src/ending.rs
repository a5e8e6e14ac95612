//! Why a daemon ended: exits told apart, because each wants another answer.

/// How the system says a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It returned a code.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
    /// Nobody could see it: it was adopted, not started, by this supervisor.
    Unseen,
}

/// What is known besides the exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Circumstances {
    /// The supervisor itself sent `SIGKILL`.
    pub we_killed: bool,
    /// The kernel counted a process ended for want of memory meanwhile.
    pub kernel_ended_something: bool,
    /// It was the daemon, or something the daemon had started: they have a control group.
    pub kernel_ended_ours: bool,
    /// The daemon's last lines say that memory could not be had.
    pub said_out_of_memory: bool,
}

/// Exit codes with a meaning agreed with the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Codes {
    /// The settings are wrong; trying again is pointless until they change (`EX_CONFIG`).
    pub configuration: i32,
    /// Something else holds what the daemon needs; it will be let go.
    pub lock_held: Option<i32>,
}

impl Default for Codes {
    fn default() -> Self {
        Self { configuration: 78, lock_held: None }
    }
}

/// Why it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ending {
    /// With code 0: it meant to.
    Wanted,
    /// Its settings are wrong.
    Configuration,
    /// Something else holds its lock.
    LockHeld,
    /// Memory ran out, as far as one can tell.
    OutOfMemory,
    /// Any other code, signal, or unseen.
    Crash,
}

const SIGKILL: i32 = 9;
const SIGABRT: i32 = 6;

impl Ending {
    /// Classifies an exit. Old kernels do not say that memory ran out: a `SIGKILL` that nobody
    /// here sent is suspicion enough.
    pub fn of(exit: Exit, codes: &Codes, around: &Circumstances) -> Self {
        match exit {
            Exit::Code(0) => Self::Wanted,
            Exit::Code(code) if code == codes.configuration => Self::Configuration,
            Exit::Code(code) if codes.lock_held == Some(code) => Self::LockHeld,
            Exit::Signal(SIGKILL) if !around.we_killed => Self::OutOfMemory,
            Exit::Signal(SIGABRT) | Exit::Code(_) if around.said_out_of_memory => Self::OutOfMemory,
            Exit::Unseen if around.kernel_ended_something => Self::OutOfMemory,
            // A child of it, perhaps, without which it had to give up.
            Exit::Signal(_) | Exit::Code(_) if around.kernel_ended_ours => Self::OutOfMemory,
            _ => Self::Crash,
        }
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::Unseen => f.write_str("an exit nobody saw"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_end_is_told_from_the_others() {
        let codes = Codes { configuration: 78, lock_held: Some(11) };
        let plain = Circumstances::default();
        let ours = Circumstances { we_killed: true, ..plain };
        let said = Circumstances { said_out_of_memory: true, ..plain };
        let child = Circumstances { kernel_ended_ours: true, ..plain };
        let counted = Circumstances { kernel_ended_something: true, ..plain };
        for (exit, around, ending) in [
            (Exit::Code(0), plain, Ending::Wanted),
            (Exit::Code(78), plain, Ending::Configuration),
            (Exit::Code(11), plain, Ending::LockHeld),
            (Exit::Code(1), plain, Ending::Crash),
            (Exit::Signal(11), plain, Ending::Crash),
            (Exit::Signal(9), plain, Ending::OutOfMemory),
            (Exit::Signal(9), ours, Ending::Crash),
            (Exit::Signal(6), said, Ending::OutOfMemory),
            (Exit::Signal(6), plain, Ending::Crash),
            (Exit::Unseen, plain, Ending::Crash),
            (Exit::Unseen, counted, Ending::OutOfMemory),
            (Exit::Code(1), counted, Ending::Crash),
            (Exit::Code(1), child, Ending::OutOfMemory),
            (Exit::Signal(13), child, Ending::OutOfMemory),
            (Exit::Code(0), child, Ending::Wanted),
            (Exit::Code(78), child, Ending::Configuration),
        ] {
            assert_eq!(Ending::of(exit, &codes, &around), ending, "{exit} {around:?}");
        }
    }

    #[test]
    fn a_foreign_daemons_code_11_means_nothing_special() {
        let ending = Ending::of(Exit::Code(11), &Codes::default(), &Circumstances::default());
        assert_eq!(ending, Ending::Crash);
    }
}
