//! `holdfast-depot`: keeps a depot, and serves it.
//!
//! It is what `holdfast-supervisor depot …` hands over to: the program on every NAS stays small,
//! and what only a keeper of a depot needs is here.
//!
//! **Invariant:** only this file reads flags and the environment; below it, everything is an
//! argument.
//!
//! **Not here:** what a depot is (`supervisor-depot`), what a signature is worth
//! (`supervisor-trust`), anything of a NAS.

/// Prints a line on standard output.
macro_rules! say {
    ($($words:tt)*) => {
        crate::print_out(format_args!("{}\n", format_args!($($words)*)))
    };
}

mod acme;
mod canary;
mod command_line;
mod depot;
mod depot_keys;
mod far;
mod log;
mod mail;
mod network;
mod place;
mod plain_source;
mod problem;
mod serving;
mod shared;
mod store;
mod turn;

use clap::Parser;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let word = |name| std::env::var(name).ok().filter(|word| !word.is_empty());
    let key = store::AccessKey {
        id: word("AWS_ACCESS_KEY_ID").unwrap_or_default(),
        secret: word("AWS_SECRET_ACCESS_KEY").unwrap_or_default(),
        token: word("AWS_SESSION_TOKEN"),
        region: word("AWS_DEFAULT_REGION"),
    };
    let typed = command_line::CommandLine::parse();
    match depot::run(typed.action, &place::Means { key, keys: typed.keys }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("holdfast-depot: {}", problem.for_people());
            ExitCode::from(problem.code)
        }
    }
}

/// Prints on standard output. Nobody may be there to read it any more (`keys show | head -1`): that
/// is no failure; a full disk is one.
fn print_out(text: std::fmt::Arguments<'_>) {
    match std::io::stdout().write_fmt(text) {
        Err(cause) if cause.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!(
                "holdfast-depot: the answer cannot be written: {cause}\n  \
                 what to do: give standard output a place with room, and ask again"
            );
            std::process::exit(1);
        }
        _ => {}
    }
}
