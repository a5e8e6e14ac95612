//! `spk`: build, check, show, compare, sign and unpack packages for Synology's DSM.
//!
//! **Invariant:** only this file reads flags. Exit codes: 0 done; 1 failed, or a package that a
//! NAS would refuse, or a difference; 2 wrong use. A failure says the fact, its causes, and on a
//! line of its own what to do.
//!
//! **Not here:** what a package is; that is the library's.

use clap::{Parser, Subcommand};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Prints a line on standard output.
macro_rules! say {
    ($($words:tt)*) => {
        crate::print_out(format_args!("{}\n", format_args!($($words)*)))
    };
}

mod commands;
mod signing;
mod starter;

/// Build, check, show, compare, sign and unpack packages for Synology's DSM.
#[derive(Parser)]
#[command(name = "spk")]
struct Flags {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Ask a few questions, and write a package that builds at once, to start from.
    Init(InitFlags),
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
    /// Sign packages for DSM 5.1 to 6.2.
    Sign(SignFlags),
    /// Say by whom packages are signed; 1 when one is not, or by somebody else.
    Verify {
        /// SPK files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// A file of public keys to believe; may be given again.
        #[arg(long)]
        keyring: Vec<PathBuf>,
    },
    /// Print the JSON schema of package.toml, for editors.
    Schema,
}

#[derive(clap::Args, Default)]
struct InitFlags {
    /// The new package's folder.
    folder: PathBuf,
    /// The package's name; without it the folder's is proposed.
    #[arg(long)]
    name: Option<String>,
    /// The name people see.
    #[arg(long)]
    displayname: Option<String>,
    /// What it does, in a sentence.
    #[arg(long)]
    description: Option<String>,
    /// Who makes it.
    #[arg(long)]
    maintainer: Option<String>,
    /// Whether something runs.
    #[arg(long)]
    purpose: Option<starter::Purpose>,
    /// A target; may be given again.
    #[arg(long)]
    target: Vec<spk::platform::Target>,
    /// A DSM: 5, 6 or 7; may be given again.
    #[arg(long, value_parser = dsm)]
    dsm: Vec<spk::dsm::Dsm>,
    /// Ask nothing: what no flag says is as proposed.
    #[arg(short, long)]
    yes: bool,
}

#[derive(clap::Args)]
struct SignFlags {
    /// SPK files; each is replaced by its signed self.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The secret RSA key, as `gpg --export-secret-keys` writes it.
    #[arg(long)]
    key: PathBuf,
    /// A file with the key's passphrase.
    #[arg(long)]
    password_file: Option<PathBuf>,
    /// Write the signed package here, and leave the other as it is; with one file only.
    #[arg(short = 'o', long)]
    into: Option<PathBuf>,
    /// A shell command that reads the signature and answers with the time-stamped one.
    #[arg(long)]
    timestamp: Option<String>,
    /// Also write the public key, for a depot's keyrings.
    #[arg(long)]
    public_key_into: Option<PathBuf>,
    /// When it was signed, in seconds after 1970; without it now.
    #[arg(long)]
    at: Option<u32>,
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
    /// Build this package of several (its package.name); may be given again. Without it, all.
    #[arg(long)]
    variant: Vec<String>,
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

/// The clock, as OpenPGP counts; 0 on a machine that does not know the time.
fn now_seconds() -> u32 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| u32::try_from(since.as_secs()).unwrap_or(u32::MAX))
}

fn main() -> ExitCode {
    let done = match Flags::parse().command {
        Command::Init(flags) => starter::init(&flags),
        Command::Build(flags) => commands::build(&flags),
        Command::Check { files } => commands::check(&files),
        Command::Show { file, json } => commands::show(&file, json),
        Command::Diff { old, new } => commands::diff(&old, &new),
        Command::Extract { file, into } => commands::extract(&file, &into),
        Command::Sign(flags) if flags.into.is_some() && flags.files.len() > 1 => {
            let facts = vec!["--into takes one signed package".into()];
            Err(Failure { facts, remedy: "sign one file at a time, or in place".into() })
        }
        Command::Sign(flags) => signing::sign(&flags, now_seconds()),
        Command::Verify { files, keyring } => signing::verify(&files, &keyring),
        Command::Schema => commands::schema(),
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

/// Prints on standard output. Nobody may be there to read it any more (`spk show | head -1`): that
/// is no failure; a full disk is one.
fn print_out(text: std::fmt::Arguments<'_>) {
    match std::io::stdout().write_fmt(text) {
        Err(cause) if cause.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!(
                "spk: the answer cannot be written: {cause}\n  \
                 what to do: give standard output a place with room, and ask again"
            );
            std::process::exit(1);
        }
        _ => {}
    }
}
