//! `spk`: build, check, show, compare and unpack packages for Synology's DSM.
//!
//! **Invariant:** only this file reads flags. Exit codes: 0 done; 1 failed, or a package that a
//! NAS would refuse, or a difference; 2 wrong use. A failure says the fact, its causes, and on a
//! line of its own what to do.
//!
//! **Not here:** what a package is; that is the library's.

use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

mod commands;
mod starter;

/// Build, check, show, compare and unpack packages for Synology's DSM.
#[derive(Parser)]
#[command(name = "spk")]
struct Flags {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write a package.toml, seven scripts and an icon to start from.
    Init {
        /// The new package's folder; its name becomes the package's.
        folder: PathBuf,
    },
    /// Build one SPK for each target and DSM.
    Build(BuildFlags),
    /// Say what a NAS would refuse or dislike about packages.
    Check {
        /// SPK files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Say what a package is and holds.
    Show {
        /// An SPK file.
        file: PathBuf,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Say how two packages differ; 1 when they do.
    Diff {
        /// The older one.
        old: PathBuf,
        /// The newer one.
        new: PathBuf,
    },
    /// Unpack a package into a new folder, its payload into `target` below.
    Extract {
        /// An SPK file.
        file: PathBuf,
        /// The folder.
        #[arg(short = 'o', long = "into")]
        into: PathBuf,
    },
}

#[derive(clap::Args)]
struct BuildFlags {
    /// What to build.
    #[arg(long, default_value = "package.toml")]
    manifest: PathBuf,
    /// Build for this target; may be given again. Without it, for all in the manifest.
    #[arg(long)]
    target: Vec<spk::platform::Target>,
    /// Build for this DSM: 5, 6 or 7; may be given again. Without it, for all in the manifest.
    #[arg(long, value_parser = dsm)]
    dsm: Vec<spk::dsm::Dsm>,
    /// Another version than the manifest's.
    #[arg(long)]
    version: Option<String>,
    /// Where the built programs are: what {programs} stands for.
    #[arg(long, default_value = "dist")]
    programs: PathBuf,
    /// Where the packages go.
    #[arg(short = 'o', long = "into", default_value = "dist")]
    into: PathBuf,
}

fn dsm(text: &str) -> Result<spk::dsm::Dsm, String> {
    let known = text.parse().ok().and_then(spk::dsm::Dsm::from_major);
    known.ok_or_else(|| "say 5, 6 or 7".into())
}

/// A failure as a person reads it.
struct Failure {
    facts: Vec<String>,
    remedy: String,
}

impl Failure {
    /// Collects an error with its causes.
    fn new(error: &dyn std::error::Error, remedy: impl Into<String>) -> Self {
        let mut facts = vec![error.to_string()];
        let mut cause = error.source();
        while let Some(error) = cause {
            facts.push(error.to_string());
            cause = error.source();
        }
        Self { facts, remedy: remedy.into() }
    }

    /// Says which file it is about.
    fn about(mut self, path: &Path) -> Self {
        self.facts[0] = format!("{}: {}", path.display(), self.facts[0]);
        self
    }
}

fn main() -> ExitCode {
    let done = match Flags::parse().command {
        Command::Init { folder } => starter::init(&folder),
        Command::Build(flags) => commands::build(&flags),
        Command::Check { files } => commands::check(&files),
        Command::Show { file, json } => commands::show(&file, json),
        Command::Diff { old, new } => commands::diff(&old, &new),
        Command::Extract { file, into } => commands::extract(&file, &into),
    };
    match done {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("spk: {}", failure.facts.join(": "));
            eprintln!("  what to do: {}", failure.remedy);
            ExitCode::FAILURE
        }
    }
}
