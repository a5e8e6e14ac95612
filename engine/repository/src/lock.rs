//! Locks: files by which programs promise each other not to get in the way.
//!
//! The rules, as restic has them: list and read all locks; give up if one conflicts; write one's
//! own; wait [`RECHECK_MILLISECONDS`] and look again. Every [`REFRESH_SECONDS`] write a new lock
//! and remove the old one. Whoever could not for [`REFRESH_SECONDS_MAX`] must stop. Locks older
//! than [`STALE_SECONDS`] may be removed by anybody.
//!
//! **Not here:** the clock, and whether a process is alive: both come in as arguments.

use crate::time::Time;

/// After this long without being refreshed, a lock counts for nothing: 30 minutes.
pub const STALE_SECONDS: i64 = 30 * 60;
/// A lock is refreshed this often: 5 minutes.
pub const REFRESH_SECONDS: u64 = 5 * 60;
/// Whoever could not refresh its lock for this long must stop: 22.5 minutes, which leaves time to
/// stop before anybody may remove it.
pub const REFRESH_SECONDS_MAX: u64 = STALE_SECONDS as u64 - REFRESH_SECONDS * 3 / 2;
/// Between writing a lock and looking for others once more, where a listing may lag behind.
pub const RECHECK_MILLISECONDS: u64 = 200;

/// A lock.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Lock {
    /// When it was written.
    pub time: Time,
    /// Whether its holder cannot bear any other.
    pub exclusive: bool,
    /// The holder's computer.
    #[serde(default)]
    pub hostname: String,
    /// Who runs it.
    #[serde(default)]
    pub username: String,
    /// Its process there.
    #[serde(default)]
    pub pid: i64,
    /// Their number.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub uid: u32,
    /// Their group's.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gid: u32,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Whoever wants to judge the locks of others.
pub struct Observer<'a> {
    /// The time now.
    pub now: Time,
    /// The observer's computer.
    pub hostname: &'a str,
    /// Whether a process of that computer is alive.
    pub is_alive: &'a dyn Fn(i64) -> bool,
}

impl Lock {
    /// Whether this lock keeps out a holder of another that is `exclusive` or not.
    pub fn conflicts_with(&self, exclusive: bool) -> bool {
        self.exclusive || exclusive
    }

    /// Whether the lock counts for nothing: too old, or of a process of this computer that is gone.
    ///
    /// A lock from the future is not stale: of two clocks, which is wrong cannot be known.
    pub fn is_stale(&self, observer: &Observer<'_>) -> bool {
        let is_old = observer.now.seconds_since(&self.time) > STALE_SECONDS;
        is_old || (self.hostname == observer.hostname && !(observer.is_alive)(self.pid))
    }

    /// The sentence for an owner who is kept out.
    pub fn describe(&self) -> String {
        let how = if self.exclusive { "exclusively " } else { "" };
        format!(
            "locked {how}since {} by process {} of {} on {}",
            self.time, self.pid, self.username, self.hostname
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock() -> Lock {
        Lock {
            time: Time::utc(10_000, 0),
            exclusive: false,
            hostname: "nas".to_owned(),
            username: "root".to_owned(),
            pid: 42,
            uid: 0,
            gid: 0,
        }
    }

    fn stale_after(seconds: i64, hostname: &str, alive: bool) -> bool {
        let now = Time::utc(10_000 + seconds, 0);
        lock().is_stale(&Observer { now, hostname, is_alive: &|_| alive })
    }

    #[test]
    fn only_two_shared_locks_bear_each_other() {
        let exclusive = Lock { exclusive: true, ..lock() };
        assert!(!lock().conflicts_with(false));
        assert!(lock().conflicts_with(true));
        assert!(exclusive.conflicts_with(false));
    }

    #[test]
    fn a_lock_is_stale_when_it_is_old_or_its_process_here_is_gone() {
        assert!(!stale_after(STALE_SECONDS, "other", false));
        assert!(stale_after(STALE_SECONDS + 1, "other", true));
        assert!(stale_after(STALE_SECONDS + 1, "nas", true));
        assert!(stale_after(1, "nas", false));
        assert!(!stale_after(1, "nas", true));
        assert!(!stale_after(-100_000, "other", true));
    }

    #[test]
    fn a_lock_looks_like_restics_and_its_limits_are_restics() {
        let json = concat!(
            r#"{"time":"1970-01-01T02:46:40Z","exclusive":false,"hostname":"nas","#,
            r#""username":"root","pid":42}"#
        );
        assert_eq!(serde_json::to_string(&lock()).unwrap(), json);
        assert_eq!(serde_json::from_str::<Lock>(json).unwrap(), lock());
        assert_eq!(REFRESH_SECONDS_MAX, 1350);
    }
}
