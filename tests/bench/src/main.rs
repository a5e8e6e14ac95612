//! `tests-bench`: ours beside restic, rustic and borg, on the same files, in one run.
//!
//! Every step of a backup's life is done by every tool in turn, each in a repository and a cache of
//! its own, so that what else the machine does meanwhile hits them alike. Measured are processor
//! seconds (user and system), time by the clock and peak resident memory. Then every command is
//! done again inside a memory cgroup of 64 MB, where the kernel kills what needs more. The answer
//! is one Markdown table a corpus, each row with its bars and by how much they are met or missed.
//!
//! **Invariant:** figures never fail a run, wrong results always do: what is restored is compared
//! byte for byte with the corpus, and stock restic checks our repository at the end. The corpora
//! are the same bytes on every machine for the same seed and scale.
//!
//! **Not here:** fetching and building what is measured; `scripts/bench` does that.

mod bars;
mod cgroup;
mod corpus;
mod life;
mod measure;
mod noise;
mod table;
mod tools;

use clap::{Parser, Subcommand};
use corpus::{Corpus, Kind};
use life::Life;
use std::error::Error;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use tools::Tool;

/// What can be asked of the bench.
#[derive(Debug, Parser)]
#[command(name = "tests-bench", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make the corpora, run every tool on them, print the tables
    Run(Run),
    /// Run one command inside a memory cgroup, and print what it said and cost
    Limited(Boxed),
    /// Run one command and write down what it cost; the bench calls itself with this
    #[command(hide = true)]
    Measure(measure::Order),
}

/// Long enough for any command in a small box, at full scale.
const LIMITED_SECONDS_MAX: u64 = 3600;

/// A command in a small box.
#[derive(Debug, clap::Args)]
struct Boxed {
    /// The memory cgroup's limit, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 64)]
    limit: u64,
    /// A folder for notes
    #[arg(long, value_name = "FOLDER")]
    folder: PathBuf,
    /// The command
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// How much of it, and with whom.
#[derive(Debug, clap::Args)]
pub struct Run {
    /// The corpora's size, in percent of the full one
    #[arg(long, value_name = "PERCENT", default_value_t = 5,
          value_parser = clap::value_parser!(u32).range(1..=100))]
    scale: u32,
    /// Only this corpus: mixed or small1m
    #[arg(long, value_name = "NAME")]
    corpus: Option<Kind>,
    /// Other bytes, of the same kind
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// How much memory ours may plan with outside a cgroup
    #[arg(long, value_name = "SIZE", default_value = "64M")]
    memory: String,
    /// The memory cgroup's limit, in MiB; 0 leaves the small box out
    #[arg(long, value_name = "MIB", default_value_t = 64)]
    limit: u64,
    /// Measure each step that can be repeated so many times; the quickest counts
    #[arg(long, value_name = "NUMBER", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=20))]
    rounds: u32,
    /// Also measure with cold page caches (root only)
    #[arg(long)]
    cold: bool,
    /// Where corpora and repositories are kept
    #[arg(long, value_name = "FOLDER")]
    folder: PathBuf,
    /// Our program, and those of others: holdfast=PATH, restic=PATH, …
    #[arg(long = "tool", value_name = "NAME=PATH", value_parser = Tool::parse)]
    tools: Vec<Tool>,
}

fn main() -> ExitCode {
    match Arguments::parse().verb {
        Verb::Measure(order) => order.obey(),
        Verb::Limited(boxed) => match limited(&boxed) {
            Ok(figure) => {
                print!("{}", figure.last_words);
                let cell = table::cell(&figure);
                println!("\ninside {} MiB, CPU s / clock s / peak MiB: {cell}", boxed.limit);
                ExitCode::SUCCESS
            }
            Err(failure) => {
                eprintln!(
                    "bench: {failure}\n  what to do: run it as root, on a kernel with cgroups"
                );
                ExitCode::FAILURE
            }
        },
        Verb::Run(wanted) => match run(&wanted) {
            Ok(wrong) if wrong.is_empty() => ExitCode::SUCCESS,
            Ok(wrong) => {
                eprintln!("bench: wrong results:");
                for sentence in wrong {
                    eprintln!("  {sentence}");
                }
                eprintln!("  what to do: these are faults, not figures; find them first");
                ExitCode::FAILURE
            }
            Err(failure) => {
                eprintln!("bench: {failure}");
                eprintln!("  what to do: see that the folder has room and can be written");
                ExitCode::FAILURE
            }
        },
    }
}

/// Runs one command in a cgroup of its own; what it said is in the figure's last words.
fn limited(boxed: &Boxed) -> Result<measure::Figure, Box<dyn Error>> {
    let cgroup = cgroup::Limited::of(boxed.limit << 20)?;
    let scales = measure::Scales { folder: boxed.folder.clone(), seconds_max: LIMITED_SECONDS_MAX };
    let commands = [boxed.command.clone()];
    let mut figure = scales.weigh(&commands, &[], &boxed.folder, Some(cgroup.folder()))?;
    figure.last_words = scales.said();
    Ok(figure)
}

/// Runs everything and prints the tables; gives what was wrong, in sentences.
fn run(wanted: &Run) -> Result<Vec<String>, Box<dyn Error>> {
    let kinds = wanted.corpus.map_or(vec![Kind::Mixed, Kind::Small], |kind| vec![kind]);
    let mut wrong = Vec::new();
    for kind in kinds {
        let corpus = Corpus::new(&wanted.folder, kind, wanted.scale, wanted.seed);
        eprintln!("bench: making {corpus}");
        corpus.make()?;
        let account = Life::new(wanted, &corpus)?.lead()?;
        println!("{}", table::markdown(&corpus, wanted, &account));
        wrong.extend(account.wrong);
    }
    Ok(wrong)
}
