//! The time on the box's own clock, in the box's own time zone.

use nix::libc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970.
pub fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// From now on [`local`] is the time in this zone, or in the box's own. Called once, by a program
/// that has only one thread yet.
#[allow(unsafe_code)]
pub fn live_in(zone: Option<&str>) {
    // SAFETY: nobody else reads the environment meanwhile, there being one thread.
    unsafe {
        match zone {
            Some(zone) => std::env::set_var("TZ", zone),
            None => std::env::remove_var("TZ"),
        }
    }
}

/// `2026-11-21 23:14:05` where the box is.
#[allow(unsafe_code)]
pub fn local(seconds: u64) -> String {
    // The type's width differs by platform: 32 bits end in 2038.
    let Ok(time) = seconds.try_into() else { return seconds.to_string() };
    // SAFETY: both pointers are to our own values; localtime_r fills the second or returns null.
    let parts = unsafe {
        let mut parts: libc::tm = std::mem::zeroed();
        if libc::localtime_r(&time, &mut parts).is_null() {
            return seconds.to_string();
        }
        parts
    };
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
        parts.tm_year + 1900,
        parts.tm_mon + 1,
        parts.tm_mday,
        parts.tm_hour,
        parts.tm_min,
        parts.tm_sec
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_so_that_texts_sort_as_times_do() {
        let (early, late) = (local(1_000_000_000), local(1_000_000_061));
        assert_eq!(early.len(), 19);
        assert!(early < late && early.starts_with("2001-09-"), "{early}");
    }
}
