//! Which snapshots to keep: restic's policies, as a function of snapshots and time.
//!
//! A bucket is an hour, day, week (ISO 8601, from Monday), month or year by the clock on the wall
//! where the snapshot was made. Of each bucket the newest snapshot is kept, for as many buckets as
//! the policy counts; the oldest snapshot of all is kept while counts are left. Spans count back
//! from the newest snapshot that is not in the future.
//!
//! **Invariant:** nothing is asked of the world; the same arguments give the same decisions.

use engine_repository::Time;
use engine_repository::time::{civil_of_days, days_of_civil};
use std::fmt;
use std::str::FromStr;

/// A count that means all of them.
pub const UNLIMITED: i32 = -1;

/// What to keep. Nothing set keeps everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// The newest snapshots.
    pub last: i32,
    /// Of as many hours, days, weeks, months, years the newest each.
    pub hourly: i32,
    /// Days.
    pub daily: i32,
    /// Weeks.
    pub weekly: i32,
    /// Months.
    pub monthly: i32,
    /// Years.
    pub yearly: i32,
    /// All within this span.
    pub within: Span,
    /// Of each hour within this span the newest; and so on.
    pub within_hourly: Span,
    /// Days.
    pub within_daily: Span,
    /// Weeks.
    pub within_weekly: Span,
    /// Months.
    pub within_monthly: Span,
    /// Years.
    pub within_yearly: Span,
    /// All that have every tag of one of these lists; the empty tag is a snapshot without any.
    pub tags: Vec<Vec<String>>,
}

impl Policy {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A span of time by the calendar, such as `1y5m7d2h`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// Years.
    pub years: i32,
    /// Months.
    pub months: i32,
    /// Days.
    pub days: i32,
    /// Hours.
    pub hours: i32,
}

impl Span {
    /// Nothing. A span of nothing is none.
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    /// The moment that lies a span before `from`, as Go's `AddDate` counts: 31 March less one month
    /// is 3 March, or 2 March in a leap year.
    fn before(&self, from: &Time) -> (i64, u32) {
        let local = from.seconds + i64::from(from.offset_seconds);
        let (year, month, day) = civil_of_days(local.div_euclid(DAY_SECONDS));
        let months = (year - i64::from(self.years)) * 12 + month - 1 - i64::from(self.months);
        let first = days_of_civil(months.div_euclid(12), months.rem_euclid(12) + 1, 1);
        let days = first + day - 1 - i64::from(self.days);
        let local = days * DAY_SECONDS + local.rem_euclid(DAY_SECONDS);
        let seconds = local - i64::from(from.offset_seconds) - i64::from(self.hours) * 3600;
        (seconds, from.nanoseconds)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [(self.years, 'y'), (self.months, 'm'), (self.days, 'd'), (self.hours, 'h')];
        parts.iter().filter(|(n, _)| *n != 0).try_for_each(|(n, unit)| write!(f, "{n}{unit}"))
    }
}

/// A text that is no span.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a span of time such as 1y5m7d2h")]
pub struct SpanError(String);

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let bad = || SpanError(text.chars().take(40).collect());
        let (mut span, mut rest) = (Self::default(), text);
        while !rest.is_empty() {
            let end = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
            let number = rest[..end].parse::<i32>().ok().filter(|n| *n < 1_000_000);
            let number = number.ok_or_else(bad)?;
            let place = match rest[end..].chars().next() {
                Some('y') => &mut span.years,
                Some('m') => &mut span.months,
                Some('d') => &mut span.days,
                Some('h') => &mut span.hours,
                _ => return Err(bad()),
            };
            *place = number;
            rest = &rest[end + 1..];
        }
        Ok(span)
    }
}

/// A snapshot, as far as a policy looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// When it was made.
    pub time: Time,
    /// Its tags.
    pub tags: Vec<String>,
}

/// Whether a snapshot is kept, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Its place in the list that was given.
    pub place: usize,
    /// Why it is kept, in restic's words; empty: it is not.
    pub reasons: Vec<String>,
}

const DAY_SECONDS: i64 = 86_400;

struct Bucket {
    count: i32,
    within: Span,
    of: fn(&Time, usize) -> i64,
    last: i64,
    reason: &'static str,
}

/// Decides about snapshots of one group. The answer is in the order of time, newest first.
pub fn decide(policy: &Policy, snapshots: &[Candidate], now: &Time) -> Vec<Decision> {
    let moment = |time: &Time| (time.seconds, time.nanoseconds);
    let mut order: Vec<usize> = (0..snapshots.len()).collect();
    order.sort_by_key(|place| std::cmp::Reverse(moment(&snapshots[*place].time)));
    let past = order.iter().map(|place| &snapshots[*place].time);
    let latest = past.clone().find(|time| moment(time) < moment(now)).copied();
    let latest = latest.unwrap_or(Time::ZERO);
    let mut buckets = buckets(policy);
    let mut decisions = Vec::with_capacity(order.len());
    for (nr, place) in order.iter().copied().enumerate() {
        let snapshot = &snapshots[place];
        let time = &snapshot.time;
        let is_oldest = nr + 1 == order.len();
        let mut reasons = Vec::new();
        if policy.is_empty() {
            reasons.push("policy is empty".to_owned());
        }
        for tags in policy.tags.iter().filter(|tags| has_tags(&snapshot.tags, tags)) {
            reasons.push(format!("has tags [{}]", tags.join(", ")));
        }
        let is_within = |span: &Span| !span.is_zero() && moment(time) > span.before(&latest);
        if is_within(&policy.within) {
            reasons.push(format!("within {}", policy.within));
        }
        for bucket in &mut buckets {
            if bucket.count == 0 && !is_within(&bucket.within) {
                continue;
            }
            let value = (bucket.of)(time, nr);
            if value == bucket.last && !is_oldest {
                continue;
            }
            let oldest = if value == bucket.last { "oldest " } else { "" };
            bucket.last = value;
            if bucket.count > 0 {
                bucket.count -= 1;
            }
            let span =
                if bucket.within.is_zero() { String::new() } else { format!(" {}", bucket.within) };
            reasons.push(format!("{oldest}{}{span}", bucket.reason));
        }
        decisions.push(Decision { place, reasons });
    }
    decisions
}

fn buckets(policy: &Policy) -> Vec<Bucket> {
    let counted =
        |count, of, reason| Bucket { count, within: Span::default(), of, last: -1, reason };
    let within = |within, of, reason| Bucket { count: 0, within, of, last: -1, reason };
    vec![
        counted(policy.last, |_, nr| nr as i64, "last snapshot"),
        counted(policy.hourly, hour, "hourly snapshot"),
        counted(policy.daily, day, "daily snapshot"),
        counted(policy.weekly, week, "weekly snapshot"),
        counted(policy.monthly, month, "monthly snapshot"),
        counted(policy.yearly, year, "yearly snapshot"),
        within(policy.within_hourly, hour, "hourly within"),
        within(policy.within_daily, day, "daily within"),
        within(policy.within_weekly, week, "weekly within"),
        within(policy.within_monthly, month, "monthly within"),
        within(policy.within_yearly, year, "yearly within"),
    ]
}

/// Whether a snapshot with these `tags` has all that are `wanted`.
pub fn has_tags(tags: &[String], wanted: &[String]) -> bool {
    for tag in wanted {
        if tag.is_empty() && tags.is_empty() {
            return true;
        }
        if !tags.contains(tag) {
            return false;
        }
    }
    true
}

fn local_days(time: &Time) -> i64 {
    (time.seconds + i64::from(time.offset_seconds)).div_euclid(DAY_SECONDS)
}

fn hour(time: &Time, nr: usize) -> i64 {
    let local = time.seconds + i64::from(time.offset_seconds);
    day(time, nr) * 100 + local.rem_euclid(DAY_SECONDS) / 3600
}

fn day(time: &Time, _: usize) -> i64 {
    let (year, month, day) = civil_of_days(local_days(time));
    year * 10_000 + month * 100 + day
}

/// The week by ISO 8601: it belongs to the year its Thursday is in.
fn week(time: &Time, _: usize) -> i64 {
    let days = local_days(time);
    // 1970-01-01 was a Thursday.
    let thursday = days - (days + 3).rem_euclid(7) + 3;
    let (year, _, _) = civil_of_days(thursday);
    year * 100 + (thursday - days_of_civil(year, 1, 1)) / 7 + 1
}

fn month(time: &Time, _: usize) -> i64 {
    let (year, month, _) = civil_of_days(local_days(time));
    year * 100 + month
}

fn year(time: &Time, _: usize) -> i64 {
    civil_of_days(local_days(time)).0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Candidate {
        Candidate { time: text.parse().unwrap(), tags: Vec::new() }
    }

    fn kept(policy: &Policy, times: &[&str]) -> Vec<usize> {
        let all: Vec<_> = times.iter().map(|text| at(text)).collect();
        let now = "2030-01-01T00:00:00Z".parse().unwrap();
        let decisions = decide(policy, &all, &now);
        decisions.iter().filter(|d| !d.reasons.is_empty()).map(|d| d.place).collect()
    }

    #[test]
    fn the_week_belongs_to_the_year_of_its_thursday() {
        for (text, expected) in [
            ("2021-01-03T12:00:00Z", 2020 * 100 + 53),
            ("2021-01-04T12:00:00Z", 2021 * 100 + 1),
            ("2024-12-30T12:00:00Z", 2025 * 100 + 1),
            ("1970-01-01T12:00:00Z", 1970 * 100 + 1),
        ] {
            assert_eq!(week(&at(text).time, 0), expected, "{text}");
        }
    }

    #[test]
    fn the_newest_of_each_day_is_kept_for_as_many_days_as_are_counted() {
        let times = [
            "2026-01-03T10:00:00Z",
            "2026-01-03T09:00:00Z",
            "2026-01-02T23:00:00-02:00",
            "2026-01-01T08:00:00Z",
            "2026-01-01T07:00:00Z",
        ];
        assert_eq!(kept(&Policy { daily: 2, ..Policy::default() }, &times), [0, 2]);
        assert_eq!(kept(&Policy { daily: UNLIMITED, ..Policy::default() }, &times), [0, 2, 3, 4]);
        assert_eq!(kept(&Policy::default(), &times), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_span_counts_back_by_the_calendar_from_the_newest_snapshot_not_in_the_future() {
        let within = |text: &str| Policy { within: text.parse().unwrap(), ..Policy::default() };
        let times = [
            "2031-01-01T00:00:00Z",
            "2026-03-31T12:00:00Z",
            "2026-03-03T12:00:01Z",
            "2026-03-03T12:00:00Z",
        ];
        assert_eq!(kept(&within("1m"), &times), [0, 1, 2]);
        assert_eq!(kept(&within("27d24h"), &times), [0, 1, 2]);
        assert_eq!(kept(&within("28d1h"), &times), [0, 1, 2, 3]);
    }

    #[test]
    fn spans_are_read_and_written_as_restic_does_and_other_texts_are_refused() {
        assert_eq!("1y5m7d2h".parse::<Span>().unwrap().to_string(), "1y5m7d2h");
        for wrong in ["1", "y", "1w", "-1d", "1d 2h", "99999999999d"] {
            assert!(wrong.parse::<Span>().is_err(), "{wrong}");
        }
    }
}
