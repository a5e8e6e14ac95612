//! Commands that ask the daemon, and show its answers.

use crate::arguments::{Adopt, DestinationCommand, OverHome, SetAdd, SetCommand};
use crate::control_client::{ControlClient, refused};
use crate::failure::{Failure, exit};
use crate::output;
use crate::over_console;
use crate::progress_bar::{ProgressBar, Reached};
use crate::world::World;
use engine_contract::control::{
    AddDestination, AddSet, AdoptComputer, Adopted, DestinationState, Ended, Progress, RunSummary,
    SetState, Status,
};
use engine_contract::identity::GuidError;
use hyper::Method;
use serde_json::{Map, Value};
use std::path::PathBuf;
use std::process::ExitCode;

/// An answer with nothing in it.
type Nothing = Map<String, Value>;

/// Does what was asked.
pub fn run(world: &World, command: OverHome) -> Result<ExitCode, Failure> {
    let client = ControlClient::of(&world.layout()?)?;
    match command {
        OverHome::Status { alive: true } => {
            let _: Nothing = client.ask(Method::GET, "/v1/alive", &())?;
            Ok(ExitCode::SUCCESS)
        }
        OverHome::Status { alive: false } => show_status(world, &client),
        OverHome::Console(wanted) => over_console::run(world, &client, &wanted),
        OverHome::Guid => {
            let status: Status = client.ask(Method::GET, "/v1/status", &())?;
            world.say(&status.guid, || status.guid.to_string());
            Ok(ExitCode::SUCCESS)
        }
        OverHome::Adopt(wanted) => adopt(world, &client, wanted),
        OverHome::Destination(command) => destination(world, &client, command),
        OverHome::Set(command) => set(world, &client, command),
    }
}

fn show_status(world: &World, client: &ControlClient) -> Result<ExitCode, Failure> {
    let status: Status = client.ask(Method::GET, "/v1/status", &())?;
    world.say(&status, || status_text(&status));
    Ok(ExitCode::SUCCESS)
}

fn status_text(status: &Status) -> String {
    let mut lines = vec![
        format!("computer     {}", status.guid),
        format!("daemon       holdfast {}, process {}", status.version, status.pid),
        format!("memory plan  {}", output::bytes(status.memory.total_bytes)),
        format!("console      {}", over_console::place_text(&status.console)),
    ];
    for place in &status.destinations {
        let connection = match &place.cannot_connect {
            None => "connected".to_owned(),
            Some(why) => format!("cannot connect: {why}"),
        };
        lines.push(format!("destination  {} ({}): {connection}", place.name, place.location));
    }
    for set in &status.sets {
        lines.push(format!("set          {}: {}", set_line(set), run_text(set)));
    }
    lines.join("\n")
}

fn set_line(set: &SetState) -> String {
    let paths: Vec<_> = set.paths.iter().map(|path| path.display().to_string()).collect();
    format!("{} ({} to {})", set.name, paths.join(", "), set.destination)
}

fn run_text(set: &SetState) -> String {
    match &set.last_run {
        None => match &set.last_complete {
            None => "not run since the daemon started".into(),
            Some(complete) => format!(
                "not run since the daemon started; last complete {}, {}",
                output::moment(complete.ended_at),
                summary_text(&complete.summary)
            ),
        },
        Some(progress) => match &progress.ended {
            None => format!(
                "backing up, {} files and {} so far",
                progress.files_done,
                output::bytes(progress.bytes_done)
            ),
            Some(Ended::Done(summary)) => format!("complete, {}", summary_text(summary)),
            Some(Ended::Failed(refusal)) => format!("failed: {}", refusal.fact),
        },
    }
}

fn summary_text(summary: &RunSummary) -> String {
    let snapshot = summary.snapshot.get(..8).unwrap_or(&summary.snapshot);
    format!(
        "snapshot {snapshot}: {} new, {} changed, {} unmodified files, {} in all; \
         {} new, {} stored, in {}",
        summary.files_new,
        summary.files_changed,
        summary.files_unmodified,
        output::bytes(summary.total_bytes),
        output::bytes(summary.data_added_bytes),
        output::bytes(summary.stored_bytes),
        output::duration(summary.elapsed_ms.div_ceil(1000))
    )
}

fn adopt(world: &World, client: &ControlClient, wanted: Adopt) -> Result<ExitCode, Failure> {
    let guid = wanted.guid.parse().map_err(|error: GuidError| {
        Failure::from_error(error)
            .remedy(
                "it is printed by `holdfast guid` on the old computer, and on its recovery sheet",
            )
            .code(exit::WRONG_USE)
    })?;
    let message = AdoptComputer { guid, destination: wanted.destination };
    let adopted: Adopted = client.ask(Method::POST, "/v1/adopt", &message)?;
    world.say(&adopted, || {
        format!(
            "this computer is now {} (it was {}); {} snapshots came with it; sets set up: {}",
            adopted.guid,
            adopted.guid_before,
            adopted.snapshots,
            if adopted.sets.is_empty() { "none".into() } else { adopted.sets.join(", ") }
        )
    });
    Ok(ExitCode::SUCCESS)
}

fn destination(
    world: &World,
    client: &ControlClient,
    command: DestinationCommand,
) -> Result<ExitCode, Failure> {
    match command {
        DestinationCommand::Add { name, location } => {
            let password = if world.has_password_file() { Some(world.password()?) } else { None };
            let is_bucket = location.starts_with("s3:");
            let access_key = world.way.access_key.as_ref().filter(|_| is_bucket);
            let access_key = access_key.map(crate::access_key::to_text);
            let words = world.way.ssh.arguments.iter();
            let ssh_arguments = words.map(|word| word.to_string_lossy().into_owned()).collect();
            let message = AddDestination { name, location, password, access_key, ssh_arguments };
            let state: DestinationState = client.ask(Method::POST, "/v1/destinations", &message)?;
            world.say(&state, || {
                format!(
                    "destination {} holds repository {}; its password is in {}: \
                     keep a copy where this computer is not",
                    state.name,
                    state.repository_id.get(..10).unwrap_or(&state.repository_id),
                    state.password_file.display()
                )
            });
        }
        DestinationCommand::List => {
            let status: Status = client.ask(Method::GET, "/v1/status", &())?;
            let line = |place: &DestinationState| format!("{}  {}", place.name, place.location);
            let text = || status.destinations.iter().map(line).collect::<Vec<_>>().join("\n");
            world.say(&status.destinations, text);
        }
        DestinationCommand::Remove { name } => {
            let _: Nothing =
                client.ask(Method::DELETE, &format!("/v1/destinations/{name}"), &())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn set(world: &World, client: &ControlClient, command: SetCommand) -> Result<ExitCode, Failure> {
    match command {
        SetCommand::Add(wanted) => add_set(client, wanted)?,
        SetCommand::List => {
            let status: Status = client.ask(Method::GET, "/v1/status", &())?;
            let text = || status.sets.iter().map(set_line).collect::<Vec<_>>().join("\n");
            world.say(&status.sets, text);
        }
        SetCommand::Run { name } => return run_set(world, client, &name),
        SetCommand::Remove { name } => {
            let _: Nothing = client.ask(Method::DELETE, &format!("/v1/sets/{name}"), &())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn add_set(client: &ControlClient, wanted: SetAdd) -> Result<(), Failure> {
    if let Some(path) = wanted.paths.iter().find(|path| path.to_str().is_none()) {
        return Err(Failure::new(format!("`{}` is not UTF-8", path.display()))
            .remedy("name the folder above it: what is inside may have any name"));
    }
    let paths: Vec<PathBuf> = wanted.paths.iter().map(|path| absolute(path)).collect();
    let message = AddSet {
        name: wanted.name,
        paths,
        excludes: wanted.excludes,
        destination: wanted.destination,
    };
    let _: Nothing = client.ask(Method::POST, "/v1/sets", &message)?;
    Ok(())
}

fn absolute(path: &std::path::Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn run_set(world: &World, client: &ControlClient, name: &str) -> Result<ExitCode, Failure> {
    let mut bar = ProgressBar::new(world.quiet || world.json);
    let mut last = None;
    client.follow(&format!("/v1/sets/{name}/run"), |progress: Progress| {
        if world.json {
            output::json(&progress);
        }
        bar.show(reached(&progress));
        let is_over = progress.is_over();
        last = Some(progress);
        is_over
    })?;
    let Some(progress) = last else {
        return Err(Failure::new("the daemon did not say how it ended"));
    };
    match progress.ended {
        Some(Ended::Done(ref summary)) => {
            bar.finish(reached(&progress));
            if !world.json && !world.quiet {
                output::line(&summary_text(summary));
            }
            Ok(unreadable(world, summary))
        }
        Some(Ended::Failed(refusal)) => {
            bar.abandon();
            Err(refused(refusal))
        }
        None => Err(Failure::new("the daemon did not say how it ended")),
    }
}

fn reached(progress: &Progress) -> Reached {
    Reached {
        files_done: progress.files_done,
        bytes_done: progress.bytes_done,
        bytes_total: progress.bytes_total,
    }
}

/// Names what could not be read; exit code 3 when there is such a thing.
fn unreadable(world: &World, summary: &RunSummary) -> ExitCode {
    if summary.unreadable_count == 0 {
        return ExitCode::SUCCESS;
    }
    if !world.json {
        for line in &summary.unreadable {
            eprintln!("holdfast: {line}");
        }
        eprintln!(
            "holdfast: {} could not be read; everything else is in the snapshot\n  \
             what to do: give the daemon's user read permission, or exclude them",
            summary.unreadable_count
        );
    }
    ExitCode::from(exit::INCOMPLETE)
}
