//! Commands about a repository as a whole: making, repairing and copying one.

use super::{Teller, cancelled_by_signals, open, who, with_caches};
use crate::arguments::{Copy, FromRepository, Init, RepairCommand, RepairSnapshots};
use crate::failure::{Failure, exit};
use crate::output;
use crate::world::{World, read_password};
use engine_contract::memory::MemoryPlan;
use engine_transfer::{
    CopyReport, CopyRequest, InitRequest, RepairIndexReport, RepairIndexRequest, RepairPacksReport,
    RepairPacksRequest, RepairSnapshotsReport, RepairSnapshotsRequest, Repository,
};
use serde_json::json;
use std::process::ExitCode;

type Answer = Result<ExitCode, Failure>;

/// Opens the repository to take from, with half of the memory.
fn open_from(world: &World, from: &FromRepository) -> Result<Option<Repository>, Failure> {
    let Some(location) = &from.from_repo else { return Ok(None) };
    let path = from.from_password_file.as_deref().ok_or_else(|| {
        Failure::new("no password file of the other repository was named")
            .remedy("give `--from-password-file FILE`")
            .code(exit::WRONG_USE)
    })?;
    let storage = engine_storage::open_by(location, &world.way)?;
    let plan = halved(world);
    let repository = Repository::open(storage, &read_password(path)?, &who(world), &plan)?;
    Ok(Some(with_caches(world, repository)))
}

/// Two repositories are open at once.
fn halved(world: &World) -> MemoryPlan {
    MemoryPlan::of(world.memory.total_bytes / 2)
}

pub fn init(world: &World, wanted: &Init) -> Answer {
    let other = open_from(world, &wanted.from)?;
    let storage = engine_storage::open_by(world.repository()?, &world.way)?;
    let password = world.password()?;
    let request = InitRequest {
        version: wanted.repository_version,
        cut_like: other.filter(|_| wanted.copy_chunker_params),
        ..InitRequest::default()
    };
    let repository = Repository::init_as(storage, &password, &who(world), &world.memory, &request)?;
    let id = repository.id().to_string();
    if world.json {
        output::json(&json!({ "message_type": "initialized", "id": id,
            "repository": repository.location() }));
    } else if !world.quiet {
        output::line(&format!("repository {} made in {}", &id[..10], repository.location()));
        output::line("without its password nothing in it can be read: keep a copy of the password");
    }
    Ok(ExitCode::SUCCESS)
}

pub fn copy(world: &World, wanted: Copy) -> Answer {
    let Some(from) = open_from(world, &wanted.from)? else {
        return Err(Failure::new("no repository to copy from was named")
            .remedy("give `--from-repo LOCATION` and `--from-password-file FILE`")
            .code(exit::WRONG_USE));
    };
    let storage = engine_storage::open_by(world.repository()?, &world.way)?;
    let plan = halved(world);
    let to = Repository::open(storage, &world.password()?, &who(world), &plan)?;
    let to = with_caches(world, to).with_effort(world.effort);
    let request = CopyRequest { snapshots: wanted.snapshots, filter: wanted.filter.into() };
    let teller = Teller::new(world);
    let cancel = cancelled_by_signals()?;
    let done = engine_transfer::copy(&from, &to, &request, &|event| teller.tell(event), &cancel);
    teller.end(done.is_ok());
    let report = done?;
    show_copy(world, &report);
    if report.unreadable == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::new(format!("{} snapshots cannot be read", report.unreadable))
        .remedy("each is named above; `holdfast check` on the other repository tells more"))
}

fn show_copy(world: &World, report: &CopyReport) {
    if world.json {
        let pairs = |list: &[(_, _)]| -> Vec<_> {
            list.iter()
                .map(|(from, to): &(engine_transfer::Id, engine_transfer::Id)| {
                    json!({ "from": from.to_string(), "to": to.to_string() })
                })
                .collect()
        };
        output::json(&json!({ "message_type": "summary", "copied": pairs(&report.copied),
            "skipped": pairs(&report.skipped), "blobs": report.blobs, "bytes": report.bytes }));
    } else if !world.quiet {
        for (from, to) in &report.copied {
            output::line(&format!("copied       {} as {}", from.short(), to.short()));
        }
        for (from, to) in &report.skipped {
            output::line(&format!("was there    {} as {}", from.short(), to.short()));
        }
        output::line(&format!(
            "copied       {} snapshots, {} blobs, {}",
            report.copied.len(),
            report.blobs,
            output::bytes(report.bytes)
        ));
    }
}

pub fn repair(world: &World, wanted: RepairCommand) -> Answer {
    match wanted {
        RepairCommand::Index { read_all_packs } => repair_index(world, read_all_packs),
        RepairCommand::Packs { packs } => repair_packs(world, &packs),
        RepairCommand::Snapshots(wanted) => repair_snapshots(world, wanted),
    }
}

fn repair_index(world: &World, read_all_packs: bool) -> Answer {
    let repository = open(world)?;
    let teller = Teller::new(world);
    let cancel = cancelled_by_signals()?;
    let request = RepairIndexRequest { read_all_packs };
    let done =
        engine_transfer::repair_index(&repository, request, &|event| teller.tell(event), &cancel);
    teller.end(done.is_ok());
    show_repair_index(world, &done?);
    Ok(ExitCode::SUCCESS)
}

fn show_repair_index(world: &World, report: &RepairIndexReport) {
    let unreadable: Vec<_> = report.packs_unreadable.iter().map(ToString::to_string).collect();
    if world.json {
        output::json(&json!({ "message_type": "summary", "packs_added": report.packs_added,
            "packs_missing": report.packs_missing, "packs_unreadable": unreadable,
            "index_files_unreadable": report.index_files_unreadable,
            "index_files_written": report.index_files_written,
            "index_files_removed": report.index_files_removed }));
        return;
    }
    if world.quiet {
        return;
    }
    output::line(&format!(
        "packs        {} read into the index, {} missing and no longer in it, {} unreadable",
        report.packs_added,
        report.packs_missing,
        unreadable.len()
    ));
    output::line(&format!(
        "index        {} files written, {} removed",
        report.index_files_written, report.index_files_removed
    ));
    if !unreadable.is_empty() {
        output::line(&format!("next         holdfast repair packs {}", unreadable.join(" ")));
    }
}

fn repair_packs(world: &World, packs: &[String]) -> Answer {
    let packs = packs.iter().map(|text| {
        text.parse().map_err(|_| {
            Failure::new(format!("`{text}` is not the id of a pack"))
                .remedy("`holdfast check --read-data` names damaged packs, with whole ids")
                .code(exit::WRONG_USE)
        })
    });
    let packs = packs.collect::<Result<Vec<_>, _>>()?;
    let copies = super::absolute(".".as_ref())?;
    let repository = open(world)?;
    let teller = Teller::new(world);
    let cancel = cancelled_by_signals()?;
    let request = RepairPacksRequest { packs, copies };
    let done =
        engine_transfer::repair_packs(&repository, &request, &|event| teller.tell(event), &cancel);
    teller.end(done.is_ok());
    show_repair_packs(world, &done?);
    Ok(ExitCode::SUCCESS)
}

fn show_repair_packs(world: &World, report: &RepairPacksReport) {
    if world.json {
        output::json(&json!({ "message_type": "summary", "packs": report.packs,
            "blobs_saved": report.blobs_saved, "bytes_saved": report.bytes_saved,
            "blobs_lost": report.blobs_lost }));
    } else if !world.quiet {
        output::line(&format!(
            "packs        {} taken apart; copies of them are in this folder",
            report.packs
        ));
        output::line(&format!(
            "blobs        {} saved ({}), {} lost",
            report.blobs_saved,
            output::bytes(report.bytes_saved),
            report.blobs_lost
        ));
        if report.blobs_lost > 0 {
            output::line("next         back up again, then holdfast repair snapshots --forget");
        }
    }
}

fn repair_snapshots(world: &World, wanted: RepairSnapshots) -> Answer {
    let request = RepairSnapshotsRequest {
        snapshots: wanted.snapshots,
        filter: wanted.filter.into(),
        forget: wanted.forget,
        dry_run: wanted.dry_run,
    };
    let repository = open(world)?;
    let teller = Teller::new(world);
    let cancel = cancelled_by_signals()?;
    let done = engine_transfer::repair_snapshots(
        &repository,
        &request,
        &|event| teller.tell(event),
        &cancel,
    );
    teller.end(done.is_ok());
    show_repair_snapshots(world, &done?, wanted.dry_run);
    Ok(ExitCode::SUCCESS)
}

fn show_repair_snapshots(world: &World, report: &RepairSnapshotsReport, is_dry: bool) {
    if world.json {
        let changed = report.changed.iter().map(|changed| {
            json!({ "old": changed.old.to_string(),
                "new": changed.new.map(|new| new.to_string()),
                "is_old_removed": changed.is_old_removed })
        });
        output::json(&json!({ "message_type": "summary", "dry_run": is_dry,
            "snapshots": report.snapshots, "changed": changed.collect::<Vec<_>>(),
            "unreadable": report.unreadable, "changes": report.changes }));
        return;
    }
    if world.quiet {
        return;
    }
    for changed in &report.changed {
        let old = changed.old.short();
        let what = match (changed.new, changed.is_old_removed, is_dry) {
            (Some(new), true, _) => format!("{old} replaced by {}", new.short()),
            (Some(new), false, _) => format!("{old} repaired as {}", new.short()),
            (None, _, true) => format!("{old} would be repaired"),
            (None, _, false) => format!("{old} removed: nothing in it can be read"),
        };
        output::line(&what);
    }
    output::line(&format!(
        "snapshots    {} looked at, {} changed, {} things lost something, {} unreadable",
        report.snapshots,
        report.changed.len(),
        report.changes,
        report.unreadable
    ));
}
