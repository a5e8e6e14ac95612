//! Times as TUF writes them, and what to believe about the clock of a NAS.
//!
//! A time is whole seconds since 1970 in UTC; the text form is `2026-11-21T23:18:56Z` and nothing
//! else. Days are counted by the civil-calendar arithmetic of Howard Hinnant ("chrono-compatible
//! low-level date algorithms").

use std::fmt;
use std::str::FromStr;

const DAY_SECONDS: u64 = 86_400;

/// The last second that the text form can show: the year 9999.
const SECONDS_MAX: u64 = 253_402_300_799;

/// Whole seconds since 1970-01-01T00:00:00Z, at most to the end of the year 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixSeconds(u64);

/// A text that is not a time of the form `2026-11-21T23:18:56Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a time of the form 2026-11-21T23:18:56Z")]
pub struct TimeError;

impl UnixSeconds {
    /// The time `seconds` after 1970; later ones than the year 9999 become its last second.
    pub const fn new(seconds: u64) -> Self {
        Self(if seconds > SECONDS_MAX { SECONDS_MAX } else { seconds })
    }

    /// Seconds since 1970.
    pub fn seconds(self) -> u64 {
        self.0
    }

    /// The time `days` later.
    pub fn plus_days(self, days: u32) -> Self {
        Self::new(self.0 + u64::from(days) * DAY_SECONDS)
    }

    /// Whole days from this time to `later`; zero when `later` is earlier.
    pub fn days_until(self, later: Self) -> u64 {
        later.0.saturating_sub(self.0) / DAY_SECONDS
    }
}

impl fmt::Display for UnixSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil_from_days(self.0 / DAY_SECONDS);
        let second = self.0 % DAY_SECONDS;
        let (hour, minute) = (second / 3600, second / 60 % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}Z", second % 60)
    }
}

impl FromStr for UnixSeconds {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        let number = |from: usize, to: usize| -> Result<u64, TimeError> {
            let digits = text.get(from..to).ok_or(TimeError)?;
            if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(TimeError);
            }
            digits.parse().map_err(|_| TimeError)
        };
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return Err(TimeError);
        }
        let days = days_from_civil(year, month, day);
        let time = Self::new(days * DAY_SECONDS + hour * 3600 + minute * 60 + second);
        // One comparison refuses every other form: wrong marks, 31 February, 24:00:00.
        if time.to_string() == text { Ok(time) } else { Err(TimeError) }
    }
}

fn days_from_civil(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year / 400;
    let year_of_era = year % 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

/// What is known about the present: the clock, and a time that is certainly past.
///
/// A NAS with an empty clock battery wakes up in 1970 or 2000. Its clock is then not believed:
/// the present is never before `not_before`. A clock far in the future cannot be corrected, but
/// it is named as the likely cause when everything seems to have expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    clock: UnixSeconds,
    not_before: UnixSeconds,
}

/// A clock more than this after what is certain is taken for wrong once something has expired.
const FUTURE_DAYS_MAX: u64 = 20 * 365;

impl Moment {
    /// `clock` is the system's clock; `not_before` the later of the time this program was built
    /// and the [`crate::Verified::known_time`] kept from the last success.
    pub fn new(clock: UnixSeconds, not_before: UnixSeconds) -> Self {
        Self { clock, not_before }
    }

    /// What to take for the present.
    pub fn now(self) -> UnixSeconds {
        self.clock.max(self.not_before)
    }

    /// The clock shows a time that is certainly past. Worth a warning, no reason to stop.
    pub fn clock_is_behind(self) -> bool {
        self.clock < self.not_before
    }

    /// The clock is so far ahead that it, and not the metadata, is the likelier fault.
    pub fn clock_is_far_ahead(self) -> bool {
        self.not_before.days_until(self.clock) > FUTURE_DAYS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_survives_being_written_and_read() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_303_136, "2026-11-21T23:18:56Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (SECONDS_MAX, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(UnixSeconds::new(seconds).to_string(), text);
            assert_eq!(text.parse(), Ok(UnixSeconds::new(seconds)), "{text}");
        }
    }

    #[test]
    fn every_day_of_four_centuries_survives_being_written_and_read() {
        for day in 0..146_097 {
            let time = UnixSeconds::new(day * DAY_SECONDS + 86_399);
            assert_eq!(time.to_string().parse(), Ok(time));
        }
    }

    #[test]
    fn any_other_form_of_a_time_is_refused() {
        for text in [
            "",
            "2026",
            "2026-11-21",
            "2026-11-21T23:18:56",
            "2026-11-21 23:18:56Z",
            "2026-11-21T23:18:56.0Z",
            "2026-11-21T23:18:56+00:00",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:60Z",
            "1969-12-31T23:59:59Z",
            "+026-01-01T00:00:00Z",
            "２026-01-01T00:00:00Z",
            "2026-11-21T23:18:56Z ",
        ] {
            assert_eq!(text.parse::<UnixSeconds>(), Err(TimeError), "{text:?}");
        }
    }

    #[test]
    fn a_clock_that_woke_up_in_1970_is_not_believed() {
        let built = UnixSeconds::new(1_795_303_136);
        let moment = Moment::new(UnixSeconds::new(60), built);
        assert_eq!(moment.now(), built);
        assert!(moment.clock_is_behind() && !moment.clock_is_far_ahead());
        assert!(Moment::new(UnixSeconds::new(4_107_542_400), built).clock_is_far_ahead());
    }
}
