//! Commands that look after a repository: locks, keys, forget, prune, tag.

use super::{Teller, cancelled_by_signals, open, snapshot_json};
use crate::arguments::{Forget, KeyCommand, Prune, Tag};
use crate::failure::{Failure, exit};
use crate::output;
use crate::world::{World, read_password};
use engine_transfer::retention::Policy;
use engine_transfer::{
    ForgetReport, ForgetRequest, PruneReport, PruneRequest, Repository, SnapshotFilter, TagChange,
};
use serde_json::json;
use std::process::ExitCode;

type Answer = Result<ExitCode, Failure>;

pub fn unlock(world: &World, remove_all: bool) -> Answer {
    let removed = engine_transfer::unlock(&open(world)?, remove_all)?;
    if world.json {
        output::json(&json!({ "message_type": "unlocked", "removed": removed }));
    } else if !world.quiet {
        output::line(&format!("{removed} locks removed"));
    }
    Ok(ExitCode::SUCCESS)
}

pub fn key(world: &World, command: KeyCommand) -> Answer {
    let repository = open(world)?;
    let (what, id) = match command {
        KeyCommand::List => return list_keys(world, &repository),
        KeyCommand::Add { new_password_file } => {
            let password = read_password(&new_password_file)?;
            ("added", engine_transfer::key_add(&repository, &password)?)
        }
        KeyCommand::Remove { id } => ("removed", engine_transfer::key_remove(&repository, &id)?),
        KeyCommand::Passwd { new_password_file } => {
            let password = read_password(&new_password_file)?;
            ("in use", engine_transfer::key_passwd(&repository, &password)?)
        }
    };
    if world.json {
        output::json(&json!({ "message_type": "key", "key": what, "id": id.to_string() }));
    } else if !world.quiet {
        output::line(&format!("key {} {what}", id.short()));
    }
    Ok(ExitCode::SUCCESS)
}

fn list_keys(world: &World, repository: &Repository) -> Answer {
    let keys = engine_transfer::key_list(repository)?;
    if world.json {
        let all = keys.iter().map(|key| {
            json!({ "current": key.is_current, "id": key.id.to_string(),
                "userName": key.username, "hostName": key.hostname, "created": key.created })
        });
        output::json(&all.collect::<Vec<_>>());
        return Ok(ExitCode::SUCCESS);
    }
    for key in &keys {
        let star = if key.is_current { '*' } else { ' ' };
        let created = key.created.get(..19).unwrap_or(&key.created);
        output::line(&format!(
            "{star}{}  {created}  {}  {}",
            key.id.short(),
            key.hostname,
            key.username
        ));
    }
    Ok(ExitCode::SUCCESS)
}

pub fn forget(world: &World, wanted: Forget) -> Answer {
    let lists = |lists: Vec<crate::arguments::TagList>| lists.into_iter().map(|l| l.0).collect();
    let policy = Policy {
        last: wanted.keep_last,
        hourly: wanted.keep_hourly,
        daily: wanted.keep_daily,
        weekly: wanted.keep_weekly,
        monthly: wanted.keep_monthly,
        yearly: wanted.keep_yearly,
        within: wanted.keep_within,
        within_hourly: wanted.keep_within_hourly,
        within_daily: wanted.keep_within_daily,
        within_weekly: wanted.keep_within_weekly,
        within_monthly: wanted.keep_within_monthly,
        within_yearly: wanted.keep_within_yearly,
        tags: lists(wanted.keep_tags),
    };
    if policy.is_empty() && wanted.snapshots.is_empty() {
        return Err(Failure::new("neither a policy nor a snapshot was given; nothing was removed")
            .remedy("say what to keep (`--keep-last 7`), or name the snapshots to forget")
            .code(exit::WRONG_USE));
    }
    let request = ForgetRequest {
        snapshots: wanted.snapshots,
        policy,
        filter: SnapshotFilter {
            hosts: wanted.filter.hosts,
            tags: lists(wanted.filter.tags),
            paths: wanted.filter.paths,
        },
        group_by: wanted.group_by,
        dry_run: wanted.how.dry_run,
        may_remove_all: wanted.unsafe_allow_remove_all,
    };
    let repository = open(world)?;
    let report = engine_transfer::forget(&repository, &request)?;
    show_forget(world, &report, request.dry_run);
    // A dry run removed nothing, so a prune would not see what it would free.
    if !wanted.prune || report.removed() == 0 || request.dry_run {
        return Ok(ExitCode::SUCCESS);
    }
    prune_in(world, &repository, &wanted.how)
}

fn show_forget(world: &World, report: &ForgetReport, is_dry: bool) {
    if world.json {
        let groups = report.groups.iter().map(|group| {
            let keep = group.keep.iter().map(|kept| snapshot_json(&kept.snapshot));
            let reasons = group.keep.iter().map(|kept| {
                json!({ "snapshot": snapshot_json(&kept.snapshot), "matches": kept.reasons })
            });
            json!({ "host": group.host, "paths": group.paths, "tags": group.tags,
                "keep": keep.collect::<Vec<_>>(),
                "remove": group.remove.iter().map(snapshot_json).collect::<Vec<_>>(),
                "reasons": reasons.collect::<Vec<_>>() })
        });
        output::json(&groups.collect::<Vec<_>>());
        return;
    }
    if world.quiet {
        return;
    }
    for group in &report.groups {
        let parts = [
            group.host.clone(),
            group.paths.as_ref().map(|paths| paths.join(" ")),
            group.tags.as_ref().map(|tags| format!("[{}]", tags.join(","))),
        ];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        if !parts.is_empty() {
            output::line(&format!("of {}:", parts.join(" ")));
        }
        let shown = |time: &str| time.get(..19).unwrap_or(time).to_owned();
        for kept in &group.keep {
            let time = shown(&kept.snapshot.time);
            let reasons = kept.reasons.join(", ");
            output::line(&format!("keep    {}  {time}  {reasons}", kept.snapshot.id.short()));
        }
        for gone in &group.remove {
            output::line(&format!("forget  {}  {}", gone.id.short(), shown(&gone.time)));
        }
    }
    let done = if is_dry { "would be forgotten" } else { "forgotten" };
    output::line(&format!("{} snapshots {done}", report.removed()));
}

pub fn prune(world: &World, wanted: &Prune) -> Answer {
    prune_in(world, &open(world)?, wanted)
}

fn prune_in(world: &World, repository: &Repository, wanted: &Prune) -> Answer {
    let request = PruneRequest {
        max_unused: wanted.max_unused,
        max_repack_bytes: wanted.max_repack_size,
        is_small_repacked: wanted.repack_small,
        is_uncompressed_repacked: wanted.repack_uncompressed,
        is_cacheable_only: wanted.repack_cacheable_only,
        pack_age_seconds_min: wanted.keep_pack_age.map(|age| age.as_secs()),
        dry_run: wanted.dry_run,
    };
    let teller = Teller::new(world);
    let cancel = cancelled_by_signals()?;
    let done = engine_transfer::prune(repository, &request, &|event| teller.tell(event), &cancel);
    teller.end(done.is_ok());
    show_prune(world, &done?, wanted.dry_run);
    Ok(ExitCode::SUCCESS)
}

fn show_prune(world: &World, report: &PruneReport, is_dry: bool) {
    if world.json {
        output::json(&json!({
            "message_type": "summary",
            "dry_run": is_dry,
            "blobs_used": report.blobs_used,
            "bytes_used": report.bytes_used,
            "blobs_unused": report.blobs_unused,
            "bytes_unused": report.bytes_unused,
            "packs_kept": report.packs_kept,
            "packs_repacked": report.packs_repacked,
            "bytes_repacked": report.bytes_repacked,
            "packs_removed": report.packs_removed,
            "packs_unindexed": report.packs_unindexed,
            "packs_missing": report.packs_missing,
            "packs_spared": report.packs_spared,
            "bytes_freed": report.bytes_freed(),
            "bytes_left_unused": report.bytes_left_unused,
        }));
        return;
    }
    if world.quiet {
        return;
    }
    let line = |name: &str, blobs: u64, bytes: u64| {
        output::line(&format!("{name:<12} {blobs} blobs, {}", output::bytes(bytes)));
    };
    line("needed", report.blobs_used, report.bytes_used);
    line("not needed", report.blobs_unused, report.bytes_unused);
    output::line(&format!(
        "packs        {} kept, {} copied in part ({}), {} removed, {} of no index removed",
        report.packs_kept,
        report.packs_repacked,
        output::bytes(report.bytes_repacked),
        report.packs_removed,
        report.packs_unindexed
    ));
    if report.packs_spared > 0 {
        let packs = report.packs_spared;
        output::line(&format!("spared       {packs} packs that a new backup needs after all"));
    }
    output::line(&format!(
        "freed        {}{}, {} not needed stay",
        output::bytes(report.bytes_freed()),
        if is_dry { " would be" } else { "" },
        output::bytes(report.bytes_left_unused)
    ));
}

pub fn tag(world: &World, wanted: Tag) -> Answer {
    let all = |lists: &[crate::arguments::TagList]| {
        lists.iter().flat_map(|list| list.0.clone()).collect::<Vec<_>>()
    };
    let change = TagChange {
        set: (!wanted.set.is_empty()).then(|| all(&wanted.set)),
        add: all(&wanted.add),
        remove: all(&wanted.remove),
    };
    if change == TagChange::default() {
        return Err(Failure::new("no change of tags was given")
            .remedy("give --set, --add or --remove")
            .code(exit::WRONG_USE));
    }
    let repository = open(world)?;
    let filter = SnapshotFilter {
        hosts: wanted.filter.hosts,
        tags: wanted.filter.tags.into_iter().map(|list| list.0).collect(),
        paths: wanted.filter.paths,
    };
    let mut snapshots = super::inspect::named(&repository, &wanted.snapshots)?;
    if snapshots.is_empty() {
        snapshots = engine_transfer::snapshots(&repository)?;
        snapshots.retain(|snapshot| filter.fits(snapshot));
    }
    let changed = engine_transfer::tag(&repository, &snapshots, &change)?;
    for (old, new) in &changed {
        if world.json {
            output::json(&json!({ "message_type": "changed",
                "old_snapshot_id": old.to_string(), "new_snapshot_id": new.to_string() }));
        }
    }
    if !world.json && !world.quiet {
        output::line(&format!("{} snapshots changed", changed.len()));
    }
    Ok(ExitCode::SUCCESS)
}
