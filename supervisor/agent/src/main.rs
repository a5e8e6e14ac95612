//! `holdfast-supervisor`: any daemon as a well-behaved DSM package.
//!
//! `main` reads flags and environment once, into [`installation::Settings`]; everything below
//! gets them as arguments.
//!
//! **Invariant:** at most one daemon of a package runs, whoever is killed whenever: a supervisor
//! holds a lock as long as it lives, and its daemon inherits another.
//!
//! **Not here:** what a backup is. The daemon is described in `conf/daemon.toml`, and any daemon
//! will do. Decisions are `lifecycle`'s, DSM is `dsm`'s, trust is `trust`'s. A depot is kept by
//! `holdfast-depot`, to which `depot …` hands over.

mod answers;
mod command_line;
mod daemon;
mod depot;
mod description;
mod downloads;
mod hooks;
mod identity;
mod install;
mod installation;
mod last_words;
mod legacy;
mod payloads;
mod plan;
mod problem;
mod record;
mod report;
mod room;
mod service;
mod supervise;
mod update;
mod watchdog;

use crate::payloads::UpdateRecord;
use clap::Parser;
use command_line::{Command, CommandLine, IdentityAction, Place, UpdateAction};
use engine_contract::identity::Guid;
use installation::{Installation, Settings};
use problem::{Problem, Result};
use report::Report;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use supervisor_dsm::{Dsm, HookContext};

/// Where the NAS's root is, when it is a folder; tests and demonstrations set it.
const ROOT_VARIABLE: &str = "HOLDFAST_DSM_ROOT";

/// A message for DSM's dialog is cut there.
const MESSAGE_BYTES_MAX: usize = 2000;

/// Prints a line. Nobody may be there to read it any more (`status | head -1`): that is no failure.
macro_rules! say {
    ($($words:tt)*) => {
        drop(writeln!(std::io::stdout(), $($words)*))
    };
}

fn main() -> ExitCode {
    let command = CommandLine::parse().command;
    let environment: BTreeMap<String, String> = std::env::vars_os()
        .map(|(name, value)| {
            (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
        })
        .collect();
    let context = HookContext::from_environment(&environment);
    let message_file = context.message_file.clone();
    let is_for_dialog = matches!(command, Command::Hook { .. } | Command::Service { .. });
    match carry_out(command, context, &environment) {
        Ok(code) => ExitCode::from(code),
        Err(problem) => {
            eprintln!("holdfast-supervisor: {}", problem.for_people());
            if let Some(path) = message_file.filter(|_| is_for_dialog) {
                tell_user(&path, &problem);
            }
            ExitCode::from(problem.code)
        }
    }
}

/// Writes what the user reads in DSM's dialog. The file is DSM's own; a failure changes nothing.
fn tell_user(path: &Path, problem: &Problem) {
    let text: String = problem.for_people().chars().take(MESSAGE_BYTES_MAX).collect();
    let _ = std::fs::write(path, text.replace("\n  ", "<br>"));
}

fn carry_out(
    command: Command,
    context: HookContext,
    environment: &BTreeMap<String, String>,
) -> Result<u8> {
    let Some(place) = command.place().cloned() else {
        let Command::Depot { arguments } = command else { return Ok(0) };
        let search = environment.get("PATH").map(String::as_str).unwrap_or_default();
        return Err(depot::hand_over(&arguments, search));
    };
    if matches!(command, Command::Run { .. }) {
        supervisor_dsm::launch::close_inherited();
    }
    let installation = Installation::find(settings(&place, context, environment)?)?;
    if let Some(code) = by_synopkg(&installation, &command)? {
        return Ok(code);
    }
    installation.become_package_user()?;
    match command {
        Command::Hook { name, .. } => hooks::run(&installation, &name).map(|()| 0),
        Command::Service { verb, .. } => service_verb(&installation, &verb),
        Command::Start { .. } => {
            start(&installation)?;
            say!("{} runs", installation.package.name());
            Ok(0)
        }
        Command::Stop { .. } => {
            stop(&installation)?;
            say!("{} is stopped", installation.package.name());
            Ok(0)
        }
        Command::Status { json, .. } => {
            let (status, report) = report::of_status(&installation);
            print_report(&report, json);
            Ok(status.code())
        }
        Command::Run { .. } => supervise::run(installation).map(|()| 0),
        Command::Plan { json, .. } => {
            print_report(&report::of_plan(&installation), json);
            Ok(0)
        }
        Command::Identity { action } => identity_action(&installation, action).map(|()| 0),
        Command::Legacy { json, .. } => {
            print_report(&report::of_legacy(&installation), json);
            Ok(0)
        }
        Command::Update { action } => update_action(&installation, action).map(|()| 0),
        Command::Depot { .. } => Ok(0),
    }
}

fn settings(
    place: &Place,
    context: HookContext,
    environment: &BTreeMap<String, String>,
) -> Result<Settings> {
    let program = std::env::current_exe()
        .map_err(|error| Problem::new("cannot find this program's own file").because(error))?;
    let root = place
        .root
        .clone()
        .or_else(|| environment.get(ROOT_VARIABLE).map(PathBuf::from))
        .unwrap_or_else(|| PathBuf::from("/"));
    let root = std::path::absolute(&root)
        .map_err(|error| Problem::new("cannot use --root").because(error))?;
    let said = environment.get("TZ").map(String::as_str);
    let time_zone = supervisor_dsm::zone::of(&Dsm::at(&root), said);
    supervisor_dsm::clock::live_in(time_zone.as_deref());
    Ok(Settings { root, package: place.package.clone(), program, context, time_zone })
}

fn service_verb(installation: &Installation, verb: &str) -> Result<u8> {
    match verb {
        "start" => start(installation).map(|()| 0),
        "stop" => stop(installation).map(|()| 0),
        "status" => Ok(service::status(installation).code()),
        "log" => {
            say!("{}", service::log_path(installation).display());
            Ok(0)
        }
        // prestart, prestop, and whatever DSM thinks of next.
        _ => Ok(0),
    }
}

/// DSM 7 believes only its own command. A start or stop by hand is handed to it, which comes back
/// here by the package's script; so Package Center shows what is.
fn by_synopkg(installation: &Installation, command: &Command) -> Result<Option<u8>> {
    let verb = match command {
        Command::Start { .. } => "start",
        Command::Stop { .. } => "stop",
        Command::Service { verb, .. } if verb == "start" || verb == "stop" => verb,
        _ => return Ok(None),
    };
    let Some(program) = installation.package.synopkg() else { return Ok(None) };
    if installation.settings.context.is_from_dsm() {
        return Ok(None);
    }
    let name = installation.package.name().as_str();
    let ended = std::process::Command::new(&program).args([verb, name]).status();
    let ended = ended.map_err(|error| {
        Problem::new(format!("cannot run {}", program.display())).because(error)
    })?;
    match ended.code() {
        Some(0) => Ok(Some(0)),
        code => Err(Problem::new(format!(
            "synopkg could not {verb} {name}: it ended with {}",
            code.map_or_else(|| "a signal".to_owned(), |code| format!("code {code}"))
        ))
        .remedy(format!("read {}", service::log_path(installation).display()))),
    }
}

/// Starts; by hand also tells Package Center below DSM 7, which otherwise would not know.
fn start(installation: &Installation) -> Result<()> {
    service::start(installation)?;
    show(installation, true);
    Ok(())
}

fn stop(installation: &Installation) -> Result<()> {
    service::stop(installation)?;
    show(installation, false);
    Ok(())
}

fn show(installation: &Installation, on: bool) {
    if !installation.settings.context.is_from_dsm() {
        // Only a sign in a list: not worth failing for.
        let _ = installation.package.show_in_package_center(on);
    }
}

fn identity_action(installation: &Installation, action: IdentityAction) -> Result<()> {
    let parse = |text: &str| {
        text.parse::<Guid>().map_err(|error| {
            let mut problem = Problem::new("cannot use that GUID").because(error);
            problem.code = 2;
            problem
        })
    };
    match action {
        IdentityAction::Show { json, .. } => print_report(&report::of_identity(installation), json),
        IdentityAction::Guid { .. } => {
            say!("{}", identity::Copies::read(installation).known()?.guid);
        }
        IdentityAction::Keep { .. } => identity::claim_machine(installation)?,
        IdentityAction::New { .. } => {
            let copies = identity::Copies::read_or_make(installation)?;
            let identity = copies.set(identity::fresh_guid()?)?;
            identity::claim_machine(installation)?;
            say!("this computer is {} from now on", identity.guid);
        }
        IdentityAction::Set { guid, .. } | IdentityAction::Adopt { guid, .. } => {
            let copies = identity::Copies::read_or_make(installation)?;
            let identity = copies.set(parse(&guid)?)?;
            say!("this computer is {} (generation {})", identity.guid, identity.generation);
            if service::status(installation) == service::Status::Running {
                say!("  what to do: stop and start the package, for the daemon to see it");
            }
        }
    }
    Ok(())
}

fn update_action(installation: &Installation, action: UpdateAction) -> Result<()> {
    use UpdateAction::{Allow, Check, Hold, Install, Pin, Refuse, RollBack, Show};
    let change = |change: &dyn Fn(&mut UpdateRecord)| UpdateRecord::change(installation, change);
    match action {
        Check { depot, root_key, channel, json, .. } => {
            let asked = update::Asked { depot, root_key, channel, version: None };
            print_report(&update::check(installation, &asked)?, json);
        }
        Install { depot, root_key, channel, automatic, .. } => {
            let channel = channel.unwrap_or_default();
            let asked = update::Asked { depot, root_key, channel, version: None };
            say!("{}", install::install(installation, &asked, automatic)?);
        }
        Show { json, .. } => print_report(&report::of_update(installation), json),
        Hold { off, .. } => change(&|record| record.hold = !off)?,
        Pin { version, .. } => change(&|record| record.pin.clone_from(&version))?,
        Refuse { version, .. } => change(&|record| record.refuse(&version))?,
        Allow { version, .. } => change(&|record| record.refused.retain(|it| *it != version))?,
        RollBack { state, .. } => {
            let runs = service::status(installation) != service::Status::NotRunning;
            if runs {
                service::stop(installation)?;
            }
            say!("{}", payloads::go_back(installation, state)?);
            if runs {
                service::start(installation)?;
            }
        }
    }
    Ok(())
}

fn print_report(report: &Report, json: bool) {
    if json {
        say!("{}", serde_json::to_string_pretty(&report.json).unwrap_or_default());
    } else {
        say!("{}", report.text);
    }
}
