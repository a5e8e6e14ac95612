//! `keys …`: who may sign for a depot, and is the year ahead covered.

use crate::canary;
use crate::command_line::{KeysAction, KeysAtHand};
use crate::depot::clock;
use crate::mail::Mail;
use crate::place::{self, Depot};
use crate::problem::{Problem, Result};
use std::cell::RefCell;
use std::path::Path;
use supervisor_depot::{Changed, KeyChange, Means};
use supervisor_trust::{Role, coverage};

/// Carries a command out.
pub fn run(action: KeysAction, means: &place::Means) -> Result<()> {
    let depot = |root: &Path| means.depot(root);
    match action {
        KeysAction::Show { root } => {
            let shown = depot(&root)?.act(show)?;
            crate::print_out(format_args!("{shown}"));
            Ok(())
        }
        KeysAction::Export { root } => {
            let report = depot(&root)?.act(|root| Ok(supervisor_depot::keys(root, clock())?))?;
            crate::print_out(format_args!("{}", String::from_utf8_lossy(&report.root_json)));
            Ok(())
        }
        KeysAction::Rotate { role, keyid, hand } => {
            change(&depot(&hand.root)?, role, &KeyChange::Rotate { keyid }, &hand)
        }
        KeysAction::Add { role, count, threshold, hand } => {
            let threshold = threshold.map(usize::from);
            let add = KeyChange::Add { count: count.into(), threshold };
            change(&depot(&hand.root)?, role, &add, &hand)
        }
        KeysAction::Remove { role, keyid, threshold, hand } => {
            let threshold = threshold.map(usize::from);
            let remove = KeyChange::Remove { keyid, threshold };
            change(&depot(&hand.root)?, role, &remove, &hand)
        }
        KeysAction::Plan { root } => plan(&depot(&root)?),
        KeysAction::Renew { root, check, mail } => {
            let mail = mail.as_deref().map(Mail::open).transpose()?;
            let depot = depot(&root)?;
            let done = depot.act(|root| Ok(renew(root, check)));
            let done = done
                .unwrap_or_else(|problem| Renewal { failed: Some(problem), warnings: Vec::new() });
            done.say();
            if done.failed.is_none() && !check {
                depot.collect()?;
            }
            tell_by_mail(mail.as_ref(), &root, done)
        }
        KeysAction::Canary { url, root_key, days } => {
            let days = if days.is_empty() { canary::DAYS.to_vec() } else { days };
            canary::run(&canary::Asked { url: &url, root: &root_key, days: &days }, clock())
        }
        KeysAction::Spare { publish, hand } => spare(&depot(&hand.root)?, publish, &hand),
    }
}

fn show(root: &Path) -> Result<String> {
    let report = supervisor_depot::keys(root, clock())?;
    let mut text = format!("root of trust, version {}\n", report.root_version);
    for role in report.roles {
        let (name, days, here) = (role.role.name(), role.days_left, role.key_is_here);
        let here = if here { "key here" } else { "key elsewhere" };
        let (threshold, count) = (role.threshold, role.keyids.len());
        text.push_str(&format!(
            "  {name:<10} until {} ({days} days), {threshold} of {count} must sign, {here}\n",
            role.expires
        ));
        role.keyids.iter().for_each(|keyid| text.push_str(&format!("    {keyid}\n")));
    }
    Ok(text)
}

/// The new keys of one command: what is done again is done with the same ones.
#[derive(Default)]
struct Seeds(RefCell<Vec<[u8; 32]>>);

impl Seeds {
    fn with_means<T>(&self, hand: &KeysAtHand, act: impl FnOnce(Means<'_>) -> T) -> T {
        let mut taken = 0;
        let mut seed = || {
            let mut made = self.0.borrow_mut();
            if taken == made.len() {
                let mut bytes = [0; 32];
                getrandom::fill(&mut bytes)?;
                made.push(bytes);
            }
            taken += 1;
            Ok(made[taken - 1])
        };
        act(Means { brought: &hand.key, keys_to: hand.keys_to.as_deref(), seed: &mut seed })
    }
}

fn change(depot: &Depot, role: Role, key_change: &KeyChange, hand: &KeysAtHand) -> Result<()> {
    let seeds = Seeds::default();
    let changed = depot.act(|root| {
        let act = |means: Means<'_>| {
            supervisor_depot::change_keys(root, role, key_change, means, clock())
        };
        Ok(seeds.with_means(hand, act)?)
    })?;
    say!("root {} is in force", changed.root_version);
    tell_keys(depot, role, &changed, hand);
    for keyid in &changed.retired {
        say!("  retired   {keyid}");
    }
    if changed.spare_is_void {
        say!("  what to do: make a new spare root, the old one no longer follows this root");
    }
    if matches!(depot, Depot::InStore(_)) && role != Role::Root && !changed.new_keys.is_empty() {
        say!("  what to do: bring the new keys into the folder of keys of each server");
    }
    Ok(())
}

fn tell_keys(depot: &Depot, role: Role, changed: &Changed, hand: &KeysAtHand) {
    for path in &changed.new_keys {
        // In the work folder of a depot in an object store the keys are behind a link.
        let path = match depot {
            Depot::InFolder(_) => path.clone(),
            Depot::InStore(_) => path.canonicalize().unwrap_or_else(|_| path.clone()),
        };
        say!("  new key   {}", path.display());
    }
    if role == Role::Root && hand.keys_to.is_none() && !changed.new_keys.is_empty() {
        say!("  what to do: move the root's keys to places that are not online");
    }
}

fn spare(depot: &Depot, publish: bool, hand: &KeysAtHand) -> Result<()> {
    if publish {
        let version = depot.act(|root| Ok(supervisor_depot::publish_spare(root, clock())?))?;
        say!("root {version}, the spare one, is in force");
        return Ok(());
    }
    let seeds = Seeds::default();
    let made = depot.act(|root| {
        let act = |means: Means<'_>| supervisor_depot::make_spare(root, means, clock());
        Ok(seeds.with_means(hand, act)?)
    })?;
    say!("root {} is signed and laid by", made.root_version);
    tell_keys(depot, Role::Root, &made, hand);
    Ok(())
}

fn plan(depot: &Depot) -> Result<()> {
    let plan = depot.act(|root| Ok(supervisor_depot::plan(root, clock())?))?;
    for (role, spans) in &plan.roles {
        let end = spans.iter().map(|span| span.to.min(plan.span.to)).max();
        let until = end.map_or_else(|| "never".to_owned(), |end| format!("until {end}"));
        say!("  {:<10} covered {until}", role.name());
    }
    match plan.gap {
        None => {
            say!("every hour from {} to {} is covered", plan.span.from, plan.span.to);
            Ok(())
        }
        Some(gap) => Err(Problem::new(format!("the year has a gap: {gap}")).remedy(remedy(&gap))),
    }
}

fn remedy(gap: &coverage::Gap) -> String {
    let role = gap.role;
    match gap.cause {
        coverage::Cause::RootEnds => "rotate it: depot keys rotate root".to_owned(),
        coverage::Cause::KeysElsewhere { .. } => {
            format!("bring the {role} keys into the depot's folder by then, and renew")
        }
        coverage::Cause::NeverEnough { .. } => format!("add keys: depot keys add {role}"),
        coverage::Cause::RunsTooLate => "run depot keys renew now, and every day".to_owned(),
    }
}

/// What a run of the renewal found: whether it failed, and what ends soon all the same.
struct Renewal {
    failed: Option<Problem>,
    warnings: Vec<(Role, u64)>,
}

impl Renewal {
    /// Says what ends soon, each in a line.
    fn say(&self) {
        for (role, days) in &self.warnings {
            eprintln!("holdfast-depot: warning: {}", ends_soon(*role, *days));
        }
    }
}

/// Renews, unless it is only to look; then looks what ends soon all the same.
fn renew(root: &Path, check: bool) -> Renewal {
    let renewed = if check { Ok(()) } else { supervisor_depot::renew(root, clock()) };
    let warned = supervisor_depot::warnings(root, clock());
    let (warnings, unread) = match warned {
        Ok(warnings) => (warnings, None),
        Err(error) => (Vec::new(), Some(Problem::from(error))),
    };
    let failed = match (renewed, warnings.first()) {
        (Err(error), _) => Some(Problem::from(error)),
        (Ok(()), Some((role, days))) if check => {
            let fact = format!("{} and nothing renews it", ends_soon(*role, *days));
            Some(Problem::new(fact).remedy(
                "run `holdfast-depot keys renew` daily with the keys in the depot's folder; `keys \
                 plan` names what is missing",
            ))
        }
        _ => unread,
    };
    Renewal { failed, warnings }
}

fn ends_soon(role: Role, days: u64) -> String {
    format!("the {role} signature ends in {days} days")
}

/// Writes to the keepers, if there is something they must know, and ends as the renewal did. That
/// the mail could not be sent is said too, and is a failure of its own.
fn tell_by_mail(mail: Option<&Mail>, root: &Path, done: Renewal) -> Result<()> {
    let mut text: String =
        done.warnings.iter().map(|(role, days)| ends_soon(*role, *days) + ".\n").collect();
    if let Some(problem) = &done.failed {
        text.push_str(&format!("\n{}\n", problem.for_people()));
    }
    let sent = match mail {
        Some(mail) if !text.is_empty() => {
            let what = if done.failed.is_some() { "needs its keeper" } else { "ends soon" };
            let text = format!(
                "The depot in {} says:\n\n{text}\nUntil it ends nothing changes for anybody; after \
                 that, updates wait. What is installed goes on working.\n",
                root.display()
            );
            mail.send(&format!("Depot: a signature {what}"), &text)
        }
        _ => Ok(()),
    };
    match (done.failed, sent) {
        (Some(problem), Err(unsent)) => {
            eprintln!("holdfast-depot: {}", unsent.for_people());
            Err(problem)
        }
        (Some(problem), Ok(())) => Err(problem),
        (None, sent) => sent,
    }
}
