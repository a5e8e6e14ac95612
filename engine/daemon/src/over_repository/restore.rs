//! The command that brings files back.

use super::{Teller, absolute, cancelled_by_signals, open};
use crate::arguments::{OverwriteChoice, Restore};
use crate::failure::Failure;
use crate::output;
use crate::world::World;
use engine_transfer::{ItemAction, Overwrite, RestoreOutcome, RestoreRequest};
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;

pub fn restore(world: &World, wanted: Restore) -> Result<ExitCode, Failure> {
    let repository = open(world)?;
    let snapshot = engine_transfer::find_snapshot(&repository, &wanted.snapshot)?;
    let request = RestoreRequest {
        target: absolute(&wanted.target)?,
        includes: wanted.includes,
        verify: wanted.verify,
        overwrite: match wanted.overwrite {
            OverwriteChoice::Always => Overwrite::Always,
            OverwriteChoice::IfChanged => Overwrite::IfChanged,
            OverwriteChoice::IfNewer => Overwrite::IfNewer,
            OverwriteChoice::Never => Overwrite::Never,
        },
        delete: wanted.delete,
        dry_run: wanted.dry_run,
        tells_items: wanted.verbose && !world.quiet,
    };
    let teller = Teller::new(world);
    let cancel = cancelled_by_signals()?;
    let result = engine_transfer::restore(
        &repository,
        &snapshot,
        &request,
        &|event| teller.tell(event),
        &cancel,
    );
    teller.end(result.is_ok());
    let outcome = result?;
    show(world, &outcome, &request);
    if outcome.problems_total == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::new(format!(
        "{} things could not be restored as they were",
        outcome.problems_total
    ))
    .remedy(
        "each is named above with its reason; if the repository is damaged, \
             `holdfast check --read-data` tells more, and an older snapshot may have them whole",
    ))
}

/// One thing that was restored, or would be.
pub fn show_item(world: &World, action: ItemAction, path: &Path, bytes: u64) {
    let word = match action {
        ItemAction::Restored => "restored",
        ItemAction::Updated => "updated",
        ItemAction::Unchanged => "unchanged",
        ItemAction::Deleted => "deleted",
    };
    if world.json {
        output::json(&json!({ "message_type": "verbose_status", "action": word,
            "item": path.to_string_lossy(), "size": bytes }));
    } else {
        output::line(&format!("{word:<12} {}", path.display()));
    }
}

/// The names that restic has, too, count as its do: folders and links are files there.
fn show(world: &World, outcome: &RestoreOutcome, request: &RestoreRequest) {
    if world.json {
        let restored = outcome.files + outcome.dirs + outcome.others;
        output::json(&json!({
            "message_type": "summary",
            "dry_run": request.dry_run,
            "total_files": restored,
            "files_restored": restored,
            "files_skipped": outcome.files_unchanged,
            "files_deleted": outcome.files_deleted,
            "total_bytes": outcome.bytes,
            "bytes_restored": outcome.bytes,
            "bytes_skipped": outcome.bytes_unchanged,
            "files": outcome.files,
            "files_updated": outcome.files_updated,
            "dirs": outcome.dirs,
            "others": outcome.others,
            "replaced": outcome.replaced,
            "bytes_written": outcome.bytes_written,
            "bytes_fetched": outcome.bytes_fetched,
            "files_verified": outcome.files_verified,
            "links_copied": outcome.links_copied,
            "owners_not_set": outcome.owners_not_set,
            "attributes_not_set": outcome.attributes_not_set,
            "problems": outcome.problems_total,
        }));
    } else if !world.quiet {
        show_to_people(outcome, request);
    }
}

fn show_to_people(outcome: &RestoreOutcome, request: &RestoreRequest) {
    let bytes = output::bytes;
    let would = if request.dry_run { "would be " } else { "" };
    output::line(&format!(
        "{would}restored     {} files, {} folders, {} others, {}",
        outcome.files,
        outcome.dirs,
        outcome.others,
        bytes(outcome.bytes)
    ));
    if outcome.files_updated > 0 {
        let (files, written) = (outcome.files_updated, bytes(outcome.bytes_written));
        output::line(&format!("updated      {files} of them; {written} written in all"));
    }
    if outcome.files_unchanged > 0 {
        let (files, size) = (outcome.files_unchanged, bytes(outcome.bytes_unchanged));
        output::line(&format!("unchanged    {files} files, {size}"));
    }
    if outcome.files_deleted > 0 {
        output::line(&format!("{would}deleted      {} things", outcome.files_deleted));
    }
    if outcome.replaced > 0 {
        output::line(&format!("replaced     {} things of another kind", outcome.replaced));
    }
    if request.verify {
        output::line(&format!("verified     {} files", outcome.files_verified));
    }
    if outcome.links_copied > 0 {
        output::line(&format!(
            "hard links   {} became copies: the file system cannot have them",
            outcome.links_copied
        ));
    }
    if outcome.owners_not_set > 0 {
        output::line(&format!(
            "owners       {} not set: only root may give files to others, where files have owners",
            outcome.owners_not_set
        ));
    }
    if outcome.attributes_not_set > 0 {
        output::line(&format!(
            "attributes   {} not set: the file system does not take them",
            outcome.attributes_not_set
        ));
    }
}
