//! The `holdfast` program: command line, daemon and control API.
//!
//! Two families of commands share one program. Those with a repository (`-r REPO`: `init`,
//! `backup`, `restore`, …) have restic's names and flags and need nothing else. Those with a home
//! (`daemon`, `status`, `set`, `destination`, `adopt`, `guid`) are, or talk to, the daemon of one
//! computer.
//!
//! **Invariant:** flags, environment and standard streams are read and written here and nowhere
//! below; every failure ends in a fact, a remedy and a documented exit code.
//!
//! **Not here:** how a backup is made (`engine/transfer`) and what its bytes look like
//! (`engine/repository`).

mod access_key;
mod adoption;
mod allocator;
mod answers;
mod arguments;
mod cgroup;
mod complete_runs;
mod console;
mod console_port;
mod control_client;
mod daemon;
mod destination;
mod engine_failure;
mod failure;
mod history;
mod home;
mod job;
mod open_files;
mod options;
mod output;
mod over_console;
mod over_home;
mod over_repository;
mod progress_bar;
mod readiness;
mod server;
mod settings;
mod wizard;
mod world;

use arguments::{Arguments, Command};
use clap::Parser;
use failure::Failure;
use std::process::ExitCode;

fn main() -> ExitCode {
    allocator::set_up();
    open_files::allow_all();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(refusal) => return output::usage(&refusal),
    };
    match run(arguments) {
        Ok(code) => code,
        Err(failure) => output::failure(&failure),
    }
}

fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let world = world::World::read(&arguments)?;
    match arguments.command {
        Command::Daemon => server::run(&world),
        Command::OverHome(command) => answered(over_home::run(&world, command)),
        Command::OverRepository(command) => answered(over_repository::run(&world, *command)),
    }
}

fn answered(answer: Result<ExitCode, Failure>) -> Result<ExitCode, Failure> {
    let code = answer?;
    output::must_be_whole()?;
    Ok(code)
}
