//! Points in time as restic writes them: RFC 3339 with nanoseconds and the writer's UTC offset.
//!
//! The offset is kept, because it is part of a tree's bytes and so of its id.

use std::fmt;
use std::str::FromStr;

const DAY_SECONDS: i64 = 86_400;
/// The Gregorian calendar repeats after 400 years.
const ERA_DAYS: i64 = 146_097;
/// From 0000-03-01 to 1970-01-01.
const EPOCH_DAYS: i64 = 719_468;

/// A point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    /// Seconds since 1970-01-01T00:00:00Z, negative before.
    pub seconds: i64,
    /// Nanoseconds after that second, below a thousand million.
    pub nanoseconds: u32,
    /// How far the writer's clock on the wall was ahead of UTC, in seconds. The format writes whole
    /// minutes.
    pub offset_seconds: i32,
}

impl Time {
    /// Go's zero time, which restic writes where it knows none: `0001-01-01T00:00:00Z`.
    pub const ZERO: Self = Self { seconds: -62_135_596_800, nanoseconds: 0, offset_seconds: 0 };

    /// A point in time, to be written in UTC.
    pub const fn utc(seconds: i64, nanoseconds: u32) -> Self {
        Self { seconds, nanoseconds, offset_seconds: 0 }
    }

    /// Whether two name the same moment, wherever they were written.
    pub fn is_same_moment(&self, other: &Self) -> bool {
        (self.seconds, self.nanoseconds) == (other.seconds, other.nanoseconds)
    }

    /// Seconds from `earlier` to here, whole ones, negative when `earlier` is later.
    pub fn seconds_since(&self, earlier: &Self) -> i64 {
        self.seconds.saturating_sub(earlier.seconds)
    }

    /// Appends the time as text. Years before 0 and after 9999 become those, as in restic.
    pub fn append_text(&self, out: &mut Vec<u8>) {
        let offset_minutes = i64::from(self.offset_seconds) / 60;
        let local = self.seconds.saturating_add(offset_minutes * 60);
        let (days, second) = (local.div_euclid(DAY_SECONDS), local.rem_euclid(DAY_SECONDS));
        let (mut year, mut month, mut day) = civil_of_days(days);
        year = year.clamp(0, 9999);
        if (month, day) == (2, 29) && !is_leap(year) {
            (month, day) = (3, 1);
        }
        append_digits(year, 4, out);
        out.push(b'-');
        append_digits(month, 2, out);
        out.push(b'-');
        append_digits(day, 2, out);
        out.push(b'T');
        append_digits(second / 3600, 2, out);
        out.push(b':');
        append_digits(second / 60 % 60, 2, out);
        out.push(b':');
        append_digits(second % 60, 2, out);
        if self.nanoseconds != 0 {
            out.push(b'.');
            append_digits(i64::from(self.nanoseconds), 9, out);
            while out.last() == Some(&b'0') {
                out.pop();
            }
        }
        if offset_minutes == 0 {
            out.push(b'Z');
            return;
        }
        out.push(if offset_minutes < 0 { b'-' } else { b'+' });
        append_digits(offset_minutes.abs() / 60, 2, out);
        out.push(b':');
        append_digits(offset_minutes.abs() % 60, 2, out);
    }

    /// Reads a time as text, `None` when it is none.
    pub fn from_text(text: &[u8]) -> Option<Self> {
        let mut rest = text;
        let year = take_digits(&mut rest, 4)?;
        take(&mut rest, b'-')?;
        let month = take_digits(&mut rest, 2).filter(|month| (1..=12).contains(month))?;
        take(&mut rest, b'-')?;
        let days = days_of_month(year, month);
        let day = take_digits(&mut rest, 2).filter(|day| (1..=days).contains(day))?;
        take(&mut rest, b'T')?;
        let hour = take_digits(&mut rest, 2).filter(|hour| *hour < 24)?;
        take(&mut rest, b':')?;
        let minute = take_digits(&mut rest, 2).filter(|minute| *minute < 60)?;
        take(&mut rest, b':')?;
        let second = take_digits(&mut rest, 2).filter(|second| *second < 60)?;
        let nanoseconds = take_fraction(&mut rest)?;
        let offset_seconds = take_offset(&mut rest)?;
        if !rest.is_empty() {
            return None;
        }
        let local =
            days_of_civil(year, month, day) * DAY_SECONDS + hour * 3600 + minute * 60 + second;
        Some(Self { seconds: local - i64::from(offset_seconds), nanoseconds, offset_seconds })
    }
}

fn append_digits(number: i64, width: u32, out: &mut Vec<u8>) {
    for place in (0..width).rev() {
        out.push(b'0' + (number / 10_i64.pow(place) % 10) as u8);
    }
}

fn take(rest: &mut &[u8], wanted: u8) -> Option<()> {
    *rest = rest.strip_prefix(&[wanted])?;
    Some(())
}

fn take_digits(rest: &mut &[u8], width: usize) -> Option<i64> {
    let (digits, after) = rest.split_at_checked(width)?;
    *rest = after;
    digits.iter().try_fold(0, |number, byte| {
        byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0'))
    })
}

fn take_fraction(rest: &mut &[u8]) -> Option<u32> {
    if take(rest, b'.').is_none() {
        return Some(0);
    }
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (fraction, after) = rest.split_at(digits);
    *rest = after;
    let nanoseconds = (0..9).fold(0, |number, place| {
        number * 10 + fraction.get(place).map_or(0, |byte| u32::from(byte - b'0'))
    });
    (digits > 0).then_some(nanoseconds)
}

fn take_offset(rest: &mut &[u8]) -> Option<i32> {
    if take(rest, b'Z').is_some() {
        return Some(0);
    }
    let (sign, after) = rest.split_first()?;
    let sign = match sign {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    *rest = after;
    let hours = take_digits(rest, 2).filter(|hours| *hours < 24)?;
    take(rest, b':')?;
    let minutes = take_digits(rest, 2).filter(|minutes| *minutes < 60)?;
    i32::try_from(sign * (hours * 3600 + minutes * 60)).ok()
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a date. Years are counted from March, so that leap days come last.
pub fn days_of_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * ERA_DAYS + day_of_era - EPOCH_DAYS
}

/// Year, month and day of a number of days since 1970-01-01.
pub fn civil_of_days(days: i64) -> (i64, i64, i64) {
    let days = days + EPOCH_DAYS;
    let (era, day_of_era) = (days.div_euclid(ERA_DAYS), days.rem_euclid(ERA_DAYS));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = (shifted_month + 2) % 12 + 1;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::with_capacity(35);
        self.append_text(&mut text);
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

/// A text that is not a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a time such as 2026-03-01T14:05:09.25+01:00")]
pub struct TimeError {
    text: String,
}

impl FromStr for Time {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        Self::from_text(text.as_bytes())
            .ok_or_else(|| TimeError { text: text.chars().take(40).collect() })
    }
}

impl serde::Serialize for Time {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Time {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(seconds: i64, nanoseconds: u32, offset_seconds: i32) -> String {
        Time { seconds, nanoseconds, offset_seconds }.to_string()
    }

    #[test]
    fn times_are_written_as_go_writes_them() {
        assert_eq!(text(3598, 500_000_000, 3600), "1970-01-01T01:59:58.5+01:00");
        assert_eq!(text(0, 0, 0), "1970-01-01T00:00:00Z");
        assert_eq!(text(-1, 999_999_999, 0), "1969-12-31T23:59:59.999999999Z");
        assert_eq!(text(951_782_400, 120, -34_200), "2000-02-28T14:30:00.00000012-09:30");
        assert_eq!(Time::ZERO.to_string(), "0001-01-01T00:00:00Z");
    }

    #[test]
    fn years_beyond_the_four_digits_become_the_first_and_the_last() {
        assert_eq!(text(-62_198_755_200, 0, 0), "0000-01-01T00:00:00Z");
        assert_eq!(text(253_402_300_800, 7, 0), "9999-01-01T00:00:00.000000007Z");
        // 29 February of the year 12000, which 9999 does not have.
        let leap_day = days_of_civil(12_000, 2, 29) * DAY_SECONDS;
        assert_eq!(text(leap_day, 0, 0), "9999-03-01T00:00:00Z");
        for seconds in [i64::MIN, i64::MAX] {
            assert!(Time::from_text(text(seconds, 0, 3600).as_bytes()).is_some());
        }
    }

    #[test]
    fn what_was_written_is_read_back_for_every_kind_of_day() {
        for day in (-719_528..2_932_896).step_by(97) {
            for (second, offset_seconds) in [(0, 0), (86_399, 19_800), (40_000, -43_200)] {
                let seconds = day * DAY_SECONDS + second;
                let time = Time { seconds, nanoseconds: 40_000, offset_seconds };
                let is_clamped = !(0..=9999).contains(
                    &civil_of_days((seconds + i64::from(offset_seconds)).div_euclid(DAY_SECONDS)).0,
                );
                if !is_clamped {
                    assert_eq!(time.to_string().parse(), Ok(time));
                }
            }
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "1970-01-01",
            "1970-01-01T00:00:00",
            "1970-02-29T00:00:00Z",
            "1970-13-01T00:00:00Z",
            "1970-01-01T24:00:00Z",
            "1970-01-01T00:00:60Z",
            "1970-01-01T00:00:00.Z",
            "1970-01-01T00:00:00+24:00",
            "1970-01-01 00:00:00Z",
            "1970-01-01T00:00:00Zz",
            "+970-01-01T00:00:00Z",
        ] {
            assert!(text.parse::<Time>().is_err(), "{text}");
        }
    }
}
