//! Commands that look into a repository: stats, dump, find, diff.

use super::{cancelled_by_signals, open};
use crate::arguments::{Diff, Dump, Find, Stats};
use crate::failure::Failure;
use crate::output;
use crate::world::World;
use engine_transfer::{ListedNode, NodeKind, Repository, SnapshotInfo, find_snapshot};
use serde_json::json;
use std::io::Write;
use std::process::ExitCode;

type Answer = Result<ExitCode, Failure>;

/// What the program answers when nothing was found, as `grep` does.
const NOTHING_FOUND: u8 = 1;

/// The snapshots meant, each by an id, its beginning, or `latest`.
pub fn named(repository: &Repository, texts: &[String]) -> Result<Vec<SnapshotInfo>, Failure> {
    texts.iter().map(|text| Ok(find_snapshot(repository, text)?)).collect()
}

pub fn stats(world: &World, wanted: &Stats) -> Answer {
    let repository = open(world)?;
    let snapshots = named(&repository, &wanted.snapshots)?;
    let stats = engine_transfer::stats(&repository, &snapshots, &cancelled_by_signals()?)?;
    if world.json {
        output::json(&json!({
            "message_type": "summary",
            "snapshots_count": stats.snapshots,
            "total_file_count": stats.nodes,
            "total_size": stats.restore_bytes,
            "total_blob_count": stats.blobs,
            "total_raw_size": stats.raw_bytes,
            "total_uncompressed_size": stats.uncompressed_bytes,
        }));
        return Ok(ExitCode::SUCCESS);
    }
    let bytes = output::bytes;
    output::line(&format!("snapshots    {}", stats.snapshots));
    output::line(&format!("restored     {} files, {}", stats.nodes, bytes(stats.restore_bytes)));
    output::line(&format!(
        "stored       {} blobs, {} ({} before compression)",
        stats.blobs,
        bytes(stats.raw_bytes),
        bytes(stats.uncompressed_bytes)
    ));
    Ok(ExitCode::SUCCESS)
}

pub fn dump(world: &World, wanted: &Dump) -> Answer {
    let repository = open(world)?;
    let snapshot = find_snapshot(&repository, &wanted.snapshot)?;
    let cancel = cancelled_by_signals()?;
    let mut stdout = std::io::BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    let (path, archive) = (&wanted.path, wanted.archive);
    engine_transfer::dump_as(&repository, &snapshot, path, archive, &mut stdout, &cancel)?;
    stdout.flush().map_err(|error| {
        Failure::new("the output could not be written")
            .because(error)
            .remedy("what was written until then is not whole: do it again")
    })?;
    Ok(ExitCode::SUCCESS)
}

pub fn find(world: &World, wanted: &Find) -> Answer {
    let repository = open(world)?;
    let snapshots = named(&repository, &wanted.snapshots)?;
    let cancel = cancelled_by_signals()?;
    let mut last = None;
    let mut each = |snapshot: &SnapshotInfo, node: ListedNode| {
        if world.json {
            output::json(&json!({ "snapshot": snapshot.id.to_string(),
                "path": node.path.to_string_lossy(), "type": node.kind, "size": node.size,
                "mtime": node.mtime }));
            return;
        }
        if last != Some(snapshot.id) && !world.quiet {
            let time = snapshot.time.get(..19).unwrap_or(&snapshot.time);
            output::line(&format!("in snapshot {} of {time}:", snapshot.id.short()));
        }
        last = Some(snapshot.id);
        output::path(&node.path);
    };
    let found =
        engine_transfer::find(&repository, &snapshots, &wanted.patterns, &mut each, &cancel)?;
    Ok(if found > 0 { ExitCode::SUCCESS } else { ExitCode::from(NOTHING_FOUND) })
}

pub fn diff(world: &World, wanted: &Diff) -> Answer {
    let repository = open(world)?;
    let from = find_snapshot(&repository, &wanted.from)?;
    let to = find_snapshot(&repository, &wanted.to)?;
    let cancel = cancelled_by_signals()?;
    let mut each = |change: engine_transfer::Change, path: &std::path::Path, kind| {
        let path = path.to_string_lossy();
        let slash = if kind == NodeKind::Directory { "/" } else { "" };
        let letter = change.letter();
        if world.json {
            output::json(&json!({ "message_type": "change", "path": format!("{path}{slash}"),
                "modifier": letter.to_string() }));
        } else {
            output::line(&format!("{letter}    {path}{slash}"));
        }
    };
    engine_transfer::diff(&repository, &from, &to, wanted.metadata, &mut each, &cancel)?;
    Ok(ExitCode::SUCCESS)
}
