//! `keys …`: who may sign for a depot, and is the year ahead covered.

use crate::command_line::{KeysAction, KeysAtHand};
use crate::depot::clock;
use crate::problem::{Problem, Result};
use std::path::Path;
use supervisor_depot::{Changed, KeyChange, Means};
use supervisor_trust::{Role, coverage};

/// Carries a command out.
pub fn run(action: KeysAction) -> Result<()> {
    match action {
        KeysAction::Show { root } => show(&root),
        KeysAction::Export { root } => {
            let report = supervisor_depot::keys(&root, clock())?;
            print!("{}", String::from_utf8_lossy(&report.root_json));
            Ok(())
        }
        KeysAction::Rotate { role, keyid, hand } => {
            change(role, &KeyChange::Rotate { keyid }, &hand)
        }
        KeysAction::Add { role, count, threshold, hand } => {
            let threshold = threshold.map(usize::from);
            change(role, &KeyChange::Add { count: count.into(), threshold }, &hand)
        }
        KeysAction::Remove { role, keyid, threshold, hand } => {
            let threshold = threshold.map(usize::from);
            change(role, &KeyChange::Remove { keyid, threshold }, &hand)
        }
        KeysAction::Plan { root } => plan(&root),
        KeysAction::Renew { root, check } => renew(&root, check),
        KeysAction::Spare { publish, hand } => spare(publish, &hand),
    }
}

fn show(root: &Path) -> Result<()> {
    let report = supervisor_depot::keys(root, clock())?;
    println!("root of trust, version {}", report.root_version);
    for role in report.roles {
        let (name, days, here) = (role.role.name(), role.days_left, role.key_is_here);
        let here = if here { "key here" } else { "key elsewhere" };
        let (threshold, count) = (role.threshold, role.keyids.len());
        println!(
            "  {name:<10} until {} ({days} days), {threshold} of {count} must sign, {here}",
            role.expires
        );
        for keyid in role.keyids {
            println!("    {keyid}");
        }
    }
    Ok(())
}

fn with_means<T>(hand: &KeysAtHand, act: impl FnOnce(Means<'_>) -> T) -> T {
    let mut seed = || {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(bytes)
    };
    act(Means { brought: &hand.key, keys_to: hand.keys_to.as_deref(), seed: &mut seed })
}

fn change(role: Role, key_change: &KeyChange, hand: &KeysAtHand) -> Result<()> {
    let act = |means: Means<'_>| {
        supervisor_depot::change_keys(&hand.root, role, key_change, means, clock())
    };
    let changed = with_means(hand, act)?;
    println!("root {} is in force", changed.root_version);
    tell_keys(role, &changed, hand);
    for keyid in &changed.retired {
        println!("  retired   {keyid}");
    }
    if changed.spare_is_void {
        println!("  what to do: make a new spare root, the old one no longer follows this root");
    }
    Ok(())
}

fn tell_keys(role: Role, changed: &Changed, hand: &KeysAtHand) {
    for path in &changed.new_keys {
        println!("  new key   {}", path.display());
    }
    if role == Role::Root && hand.keys_to.is_none() && !changed.new_keys.is_empty() {
        println!("  what to do: move the root's keys to places that are not online");
    }
}

fn spare(publish: bool, hand: &KeysAtHand) -> Result<()> {
    if publish {
        let version = supervisor_depot::publish_spare(&hand.root, clock())?;
        println!("root {version}, the spare one, is in force");
        return Ok(());
    }
    let act = |means: Means<'_>| supervisor_depot::make_spare(&hand.root, means, clock());
    let made = with_means(hand, act)?;
    println!("root {} is signed and laid by", made.root_version);
    tell_keys(Role::Root, &made, hand);
    Ok(())
}

fn plan(root: &Path) -> Result<()> {
    let plan = supervisor_depot::plan(root, clock())?;
    for (role, spans) in &plan.roles {
        let end = spans.iter().map(|span| span.to.min(plan.span.to)).max();
        let until = end.map_or_else(|| "never".to_owned(), |end| format!("until {end}"));
        println!("  {:<10} covered {until}", role.name());
    }
    match plan.gap {
        None => {
            println!("every hour from {} to {} is covered", plan.span.from, plan.span.to);
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

/// Renews, unless it is only to look; then says what ends soon all the same, each in a line.
fn renew(root: &Path, check: bool) -> Result<()> {
    if !check {
        supervisor_depot::renew(root, clock())?;
    }
    let warnings = supervisor_depot::warnings(root, clock())?;
    for (role, days) in &warnings {
        eprintln!("holdfast-depot: warning: the {role} signature ends in {days} days");
    }
    match warnings.first() {
        Some((role, days)) if check => {
            let fact = format!("the {role} signature ends in {days} days and nothing renews it");
            Err(Problem::new(fact).remedy(
                "run `depot keys renew` daily with the keys in the depot's folder; `depot keys \
                 plan` names what is missing",
            ))
        }
        _ => Ok(()),
    }
}
