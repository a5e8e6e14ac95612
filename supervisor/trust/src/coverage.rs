//! Coverage: is there an hour of the coming year in which a client would find nothing valid?
//!
//! Each role's signatures are intervals of time. The one in force lasts until it expires; after
//! it come those that are made without a person, by the role's [`Rule`], as long as enough of the
//! role's keys lie where the renewal runs. A root is made by people alone, except a spare one
//! that was signed in advance. The first second that some role leaves uncovered is the gap.

use crate::role::Role;
use crate::time::UnixSeconds;
use std::fmt;

/// How far ahead a plan looks.
pub const PLAN_DAYS: u32 = 365;

/// The renewal runs once in so many days.
pub const RUN_DAYS: u32 = 1;

/// From how many days before its end a signature is warned of, at the latest.
pub const WARN_DAYS: u32 = 30;

/// Renewals that may fail in a row before a signature of few days is warned of.
const MISSED_RUNS_MAX: u32 = 3;

/// How long a role's signatures last and when they are renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// A new signature lasts so many days.
    pub valid_days: u32,
    /// With fewer whole days left it is renewed without a person; `None`: only people renew it.
    pub renewed_days_left: Option<u32>,
}

impl Rule {
    /// The rule of a role: at least three times the interval in which it is renewed.
    pub const fn of(role: Role) -> Self {
        match role {
            // Rotated once a year, so that several roots that are still valid overlap.
            Role::Root => Self { valid_days: 5 * 365, renewed_days_left: None },
            // Signed with each publication, else when under a third of its life is left.
            Role::Targets => Self { valid_days: 400, renewed_days_left: Some(400 / 3) },
            // Signed anew every day.
            Role::Snapshot | Role::Timestamp => {
                Self { valid_days: 21, renewed_days_left: Some(21 - RUN_DAYS) }
            }
        }
    }

    /// Whether the daily renewal signs anew what ends at `expires`.
    pub fn is_due(self, expires: UnixSeconds, now: UnixSeconds) -> bool {
        self.renewed_days_left
            .is_some_and(|days| now.plus_days(days).seconds() >= expires.seconds())
    }

    /// With fewer whole days left than this somebody should be told.
    pub fn warn_days_left(self) -> u32 {
        match self.renewed_days_left {
            Some(days) => days.saturating_sub(MISSED_RUNS_MAX * RUN_DAYS).min(WARN_DAYS),
            None => WARN_DAYS,
        }
    }
}

/// What is known of one role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoleState {
    /// The role.
    pub role: Role,
    /// When the signature in force ends.
    pub expires: UnixSeconds,
    /// How many keys must sign.
    pub threshold: usize,
    /// How many keys the root lists for it.
    pub listed: usize,
    /// How many of them lie where the renewal runs.
    pub here: usize,
}

/// A span of time: from its first second up to, not including, its last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// The first second of it.
    pub from: UnixSeconds,
    /// The first second after it.
    pub to: UnixSeconds,
}

/// Why a role leaves a time uncovered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// More keys must sign than there are.
    NeverEnough {
        /// The keys there are.
        listed: usize,
        /// The keys there must be.
        threshold: usize,
    },
    /// It ends, and too few of its keys are where the renewal runs.
    KeysElsewhere {
        /// The keys that are there.
        here: usize,
        /// The keys there must be.
        threshold: usize,
    },
    /// The root ends, and no spare one follows.
    RootEnds,
    /// It ends before the next renewal runs.
    RunsTooLate,
}

/// The first time that is not covered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The role that leaves it.
    pub role: Role,
    /// Its first second.
    pub from: UnixSeconds,
    /// When it ends, if it ends within the plan.
    pub to: Option<UnixSeconds>,
    /// Why there is one.
    pub cause: Cause,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { role, from, to, cause } = self;
        write!(f, "from {from} ")?;
        if let Some(to) = to {
            write!(f, "to {to} ")?;
        }
        write!(f, "no {role} signature is valid: ")?;
        match cause {
            Cause::NeverEnough { listed, threshold } => {
                write!(f, "keys listed in the root: {listed}, keys that must sign: {threshold}")
            }
            Cause::KeysElsewhere { here, threshold } => write!(
                f,
                "the one in force ends, and the renewal has {here} of the {threshold} keys it needs"
            ),
            Cause::RootEnds => f.write_str("the root in force ends, and no spare root follows"),
            Cause::RunsTooLate => f.write_str("it ends before the next renewal runs"),
        }
    }
}

/// What a year looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The time that is looked at.
    pub span: Span,
    /// When each role is covered, within that time or beyond.
    pub roles: Vec<(Role, Vec<Span>)>,
    /// The first time that is not covered, if there is one.
    pub gap: Option<Gap>,
}

/// Looks a year ahead of `now`. `spare_root` is when the pre-signed next root ends, if there is one
/// that fits the root in force.
pub fn plan(roles: &[RoleState], spare_root: Option<UnixSeconds>, now: UnixSeconds) -> Plan {
    let span = Span { from: now, to: now.plus_days(PLAN_DAYS) };
    let mut covered = Vec::new();
    let mut gap: Option<Gap> = None;
    for state in roles {
        let spans = spans(state, spare_root, span);
        if let Some((hole, cause)) = first_hole(&spans, span).map(|hole| (hole, cause(state)))
            && gap.is_none_or(|gap| hole.from < gap.from)
        {
            let to = Some(hole.to).filter(|to| *to < span.to);
            gap = Some(Gap { role: state.role, from: hole.from, to, cause });
        }
        covered.push((state.role, spans));
    }
    Plan { span, roles: covered, gap }
}

/// The roles whose signatures end soon although they should have been renewed, or can only be by a
/// person; with the whole days that are left.
pub fn warnings(
    roles: &[RoleState],
    spare_root: Option<UnixSeconds>,
    now: UnixSeconds,
) -> Vec<(Role, u64)> {
    let left = |state: &RoleState| {
        let spare = spare_root.filter(|_| state.role == Role::Root);
        let ends = spare.map_or(state.expires, |spare| spare.max(state.expires));
        (state.role, now.days_until(ends))
    };
    let is_short = |(role, days): &(Role, u64)| *days < Rule::of(*role).warn_days_left().into();
    roles.iter().map(left).filter(is_short).collect()
}

fn cause(state: &RoleState) -> Cause {
    let RoleState { listed, here, threshold, .. } = *state;
    if listed < threshold {
        Cause::NeverEnough { listed, threshold }
    } else if Rule::of(state.role).renewed_days_left.is_none() {
        Cause::RootEnds
    } else if here < threshold {
        Cause::KeysElsewhere { here, threshold }
    } else {
        Cause::RunsTooLate
    }
}

/// When signatures of a role are valid, from the one in force on.
fn spans(state: &RoleState, spare_root: Option<UnixSeconds>, whole: Span) -> Vec<Span> {
    if state.listed < state.threshold {
        return Vec::new();
    }
    let mut spans = vec![Span { from: UnixSeconds::new(0), to: state.expires }];
    let rule = Rule::of(state.role);
    match rule.renewed_days_left {
        None => spans.extend(spare_root.map(|to| Span { from: UnixSeconds::new(0), to })),
        Some(days_left) if state.here >= state.threshold => {
            // The first run that finds it due comes at most one run after it is.
            let run = |seconds: u64| UnixSeconds::new(seconds).plus_days(RUN_DAYS);
            let left = u64::from(days_left) * 86_400;
            let due = state.expires.seconds().saturating_sub(left).max(whole.from.seconds());
            let first = match due == whole.from.seconds() {
                true => whole.from,
                false => run(due),
            };
            // Each further one is made before the last ends, so they join: the rule says so.
            let joins = rule.valid_days > rule.valid_days - days_left + RUN_DAYS;
            let lasts = if joins { whole.to } else { first.plus_days(rule.valid_days) };
            spans.push(Span { from: first, to: lasts.max(first.plus_days(rule.valid_days)) });
        }
        Some(_) => {}
    }
    spans
}

/// The first part of `whole` that no span covers.
fn first_hole(spans: &[Span], whole: Span) -> Option<Span> {
    let mut sorted = spans.to_vec();
    sorted.sort_unstable();
    let mut reached = whole.from;
    for span in sorted {
        if span.from > reached {
            return Some(Span { from: reached, to: span.from.min(whole.to) });
        }
        reached = reached.max(span.to);
        if reached >= whole.to {
            return None;
        }
    }
    Some(Span { from: reached, to: whole.to })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TODAY: UnixSeconds = UnixSeconds::new(1_795_303_136);

    fn healthy() -> [RoleState; 4] {
        Role::ALL.map(|role| RoleState {
            role,
            expires: TODAY.plus_days(Rule::of(role).valid_days),
            threshold: 1,
            listed: 1,
            here: usize::from(role != Role::Root),
        })
    }

    fn gap_when(change: impl Fn(&mut RoleState)) -> Option<Gap> {
        let mut roles = healthy();
        roles.iter_mut().for_each(change);
        plan(&roles, None, TODAY).gap
    }

    #[test]
    fn with_its_online_keys_at_hand_a_depot_is_covered_for_the_year() {
        assert_eq!(plan(&healthy(), None, TODAY).gap, None);
        assert_eq!(warnings(&healthy(), None, TODAY), []);
    }

    #[test]
    fn without_the_timestamp_key_the_gap_opens_when_its_signature_ends_and_not_before() {
        let gap = gap_when(|state| {
            if state.role == Role::Timestamp {
                state.here = 0;
            }
        });
        let gap = gap.unwrap();
        assert_eq!((gap.role, gap.from, gap.to), (Role::Timestamp, TODAY.plus_days(21), None));
        assert!(gap.to_string().contains("has 0 of the 1 keys"), "{gap}");
    }

    #[test]
    fn no_leap_day_no_turn_of_the_year_and_no_change_of_clocks_makes_an_hour_uncovered() {
        // All is UTC. Each of these is a moment at which a clock or the calendar jumps somewhere.
        for day in [
            "2026-03-29T01:00:00Z",
            "2026-10-25T01:00:00Z",
            "2026-11-01T06:00:00Z",
            "2026-12-31T23:59:59Z",
            "2027-03-01T00:00:00Z",
            "2028-02-28T23:59:59Z",
            "2028-02-29T00:00:00Z",
            "2100-02-28T23:59:59Z",
        ] {
            let begin: UnixSeconds = day.parse().unwrap();
            let mut roles = healthy();
            for state in &mut roles {
                state.expires = begin.plus_days(Rule::of(state.role).valid_days);
            }
            let year = plan(&roles, None, begin);
            assert_eq!(year.gap, None, "{day}");
            assert_eq!(year.span.to.seconds() - begin.seconds(), 365 * 24 * 3600, "{day}");
            // And a signature that ends one second too early is a gap of that second.
            roles[0].expires = UnixSeconds::new(year.span.to.seconds() - 1);
            let gap = plan(&roles, None, begin).gap.unwrap();
            assert_eq!((gap.role, gap.from), (Role::Root, roles[0].expires), "{day}");
        }
    }

    #[test]
    fn the_earliest_gap_of_all_roles_is_named() {
        let gap = gap_when(|state| match state.role {
            Role::Root => state.expires = TODAY.plus_days(100),
            Role::Targets => (state.expires, state.here) = (TODAY.plus_days(99), 0),
            _ => {}
        });
        assert_eq!(gap.unwrap().role, Role::Targets);
    }

    #[test]
    fn a_root_that_ends_within_the_year_is_covered_only_by_a_spare_that_lasts() {
        let mut roles = healthy();
        roles[0].expires = TODAY.plus_days(200);
        let gap = plan(&roles, None, TODAY).gap.unwrap();
        assert_eq!((gap.from, gap.cause), (TODAY.plus_days(200), Cause::RootEnds));
        assert_eq!(plan(&roles, Some(TODAY.plus_days(365)), TODAY).gap, None);
        let short = TODAY.plus_days(364);
        assert_eq!(plan(&roles, Some(short), TODAY).gap.unwrap().from, short);
    }

    #[test]
    fn what_ran_out_while_the_keys_were_at_hand_is_repaired_by_the_run_of_today() {
        let mut roles = healthy();
        roles[3].expires = UnixSeconds::new(TODAY.seconds() - 1);
        assert_eq!(plan(&roles, None, TODAY).gap, None);
        assert_eq!(warnings(&roles, None, TODAY), [(Role::Timestamp, 0)]);
        roles[3].here = 0;
        assert_eq!(plan(&roles, None, TODAY).gap.unwrap().from, TODAY);
    }

    #[test]
    fn more_signatures_than_keys_is_a_gap_from_the_first_second() {
        let gap = gap_when(|state| state.threshold = 2).unwrap();
        assert_eq!(gap.from, TODAY);
        assert_eq!(gap.cause, Cause::NeverEnough { listed: 1, threshold: 2 });
    }

    /// Plays the rules hour by hour, which the plan must not do but must agree with.
    #[test]
    fn the_plan_agrees_with_a_clock_that_goes_through_every_hour() {
        for role in Role::ALL {
            for (expires_hours, here) in
                [(1, 1), (30, 1), (24 * 19, 1), (24 * 21, 0), (24 * 300, 1), (24 * 364 + 23, 0)]
            {
                let hour = |hours: u64| UnixSeconds::new(TODAY.seconds() + hours * 3600);
                let expires = hour(expires_hours);
                let state = RoleState { role, expires, threshold: 1, listed: 1, here };
                let mut ends = expires;
                let mut first = None;
                for hours in 0..u64::from(PLAN_DAYS) * 24 {
                    let now = hour(hours);
                    if hours % 24 == 0 && here == 1 && Rule::of(role).is_due(ends, now) {
                        ends = now.plus_days(Rule::of(role).valid_days);
                    }
                    if now >= ends && first.is_none() {
                        first = Some(now);
                    }
                }
                let gap = plan(&[state], None, TODAY).gap.map(|gap| gap.from);
                assert_eq!(gap, first, "{role} ends after {expires_hours} h, {here} key here");
            }
        }
    }
}
