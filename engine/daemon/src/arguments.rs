//! What the user typed, and nothing the world had to be asked for.

mod upkeep;
mod whole;

pub use upkeep::{Diff, Dump, Find, Forget, KeyCommand, Prune, Stats, Tag, TagList};
pub use whole::{Check, Compression, Copy, FromRepository, Init, RepairCommand, RepairSnapshots};

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

/// Backup that survives the NAS.
#[derive(Debug, Parser)]
#[command(name = "holdfast", version, propagate_version = true)]
pub struct Arguments {
    /// The repository: a folder, file:///folder, rest:https://user:password@host:8000/path,
    /// s3:https://host/bucket/path, or sftp:user@host:/path
    /// [environment: HOLDFAST_REPOSITORY]
    #[arg(short, long, global = true, value_name = "LOCATION")]
    pub repo: Option<String>,

    /// A file whose first line is the repository's password [environment: HOLDFAST_PASSWORD_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    pub password_file: Option<PathBuf>,

    /// A file of a bucket's access key, in lines like AWS_ACCESS_KEY_ID=… [environment: these]
    #[arg(long, global = true, value_name = "FILE")]
    pub access_key_file: Option<PathBuf>,

    /// What one kind of destination is told besides: `sftp.args=WORDS` for `ssh`
    #[arg(short, long, global = true, value_name = "KEY=VALUE")]
    pub option: Vec<String>,

    /// The engine's home, where identity and settings are kept [environment: HOLDFAST_HOME]
    #[arg(long, global = true, value_name = "FOLDER")]
    pub home: Option<PathBuf>,

    /// Where indexes and catalogues of repositories are kept between runs; nothing in it is needed
    #[arg(long, global = true, value_name = "FOLDER")]
    pub cache_dir: Option<PathBuf>,

    /// Keep nothing between runs
    #[arg(long, global = true, conflicts_with = "cache_dir")]
    pub no_cache: bool,

    /// Print JSON, one document a line, for programs to read
    #[arg(long, global = true)]
    pub json: bool,

    /// Print nothing but errors
    #[arg(short, long, global = true)]
    pub quiet: bool,

    /// Send no faster than this, in KiB a second
    #[arg(long, global = true, value_name = "RATE", value_parser = rate())]
    pub limit_upload: Option<u32>,

    /// Fetch no faster than this, in KiB a second
    #[arg(long, global = true, value_name = "RATE", value_parser = rate())]
    pub limit_download: Option<u32>,

    /// Wait so long for a lock that another program holds, such as 30m or 2h
    #[arg(long, global = true, value_name = "DURATION", value_parser = upkeep::duration)]
    pub retry_lock: Option<Duration>,

    /// How much memory to use, such as 64M; without it, what suits this computer
    #[arg(long, global = true, value_name = "SIZE")]
    pub memory: Option<String>,

    /// How hard to compress what is stored; a repository of version 1 is never compressed
    #[arg(long, global = true, value_name = "HOW", value_enum, default_value = "auto")]
    pub compression: Compression,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Be the daemon of this computer
    Daemon,
    #[command(flatten)]
    OverHome(OverHome),
    #[command(flatten)]
    OverRepository(Box<OverRepository>),
}

/// Commands that talk to the daemon.
#[derive(Debug, Subcommand)]
pub enum OverHome {
    /// What the daemon is doing, and how each backup set stands
    Status {
        /// Only whether it answers; no disk and no line is asked for it
        #[arg(long)]
        alive: bool,
    },
    /// Backup sets: what to protect, and where to
    #[command(subcommand)]
    Set(SetCommand),
    /// Destinations: places that hold a repository
    #[command(subcommand)]
    Destination(DestinationCommand),
    /// The web console: print its address with the token in it, or move it
    Console(Console),
    /// Print this computer's GUID
    Guid,
    /// Take over another computer's GUID and history from a destination
    Adopt(Adopt),
}

#[derive(Debug, Args)]
pub struct Console {
    /// Where it listens from now on: `off`, `everywhere`, an address, or ADDRESS:PORT
    #[arg(long, value_name = "WHERE")]
    pub listen: Option<engine_contract::console::Listen>,
    /// Make a new token; who has the old one is let in no more
    #[arg(long)]
    pub new_token: bool,
}

#[derive(Debug, Args)]
pub struct Adopt {
    /// The GUID to take over
    pub guid: String,
    /// The destination that holds the old computer's snapshots
    #[arg(long, value_name = "NAME")]
    pub destination: String,
}

#[derive(Debug, Subcommand)]
pub enum SetCommand {
    /// Protect folders
    Add(SetAdd),
    /// List the sets
    List,
    /// Back a set up now, and wait for the end
    Run {
        /// The set's name
        name: String,
    },
    /// Protect no longer; snapshots stay where they are
    Remove {
        /// The set's name
        name: String,
    },
}

#[derive(Debug, Args)]
pub struct SetAdd {
    /// The set's name
    pub name: String,
    /// A folder or file to protect; may be given several times
    #[arg(long = "path", value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,
    /// A glob pattern to leave out; may be given several times
    #[arg(long = "exclude", value_name = "PATTERN")]
    pub excludes: Vec<String>,
    /// The destination's name
    #[arg(long, value_name = "NAME")]
    pub destination: String,
}

#[derive(Debug, Subcommand)]
pub enum DestinationCommand {
    /// Use a place; a repository is made there when there is none
    Add {
        /// The destination's name
        name: String,
        /// Where it is: a folder, `rest:https://host/path`, `s3:https://host/bucket` or
        /// `sftp:user@host:/path`
        location: String,
    },
    /// List the destinations
    List,
    /// Use a place no longer; what it holds is not touched
    Remove {
        /// The destination's name
        name: String,
    },
}

/// Commands over one repository, named as restic's.
#[derive(Debug, Subcommand)]
pub enum OverRepository {
    /// Make a new repository
    Init(Init),
    /// Back files and folders up into a new snapshot
    Backup(Backup),
    /// List snapshots
    Snapshots,
    /// List what a snapshot holds
    Ls {
        /// A snapshot's id, its beginning, or `latest`
        snapshot: String,
    },
    /// Restore a snapshot into a folder
    Restore(Restore),
    /// Test whether the repository is sound
    Check(Check),
    /// Save what can be saved of a damaged repository
    #[command(subcommand)]
    Repair(RepairCommand),
    /// Copy snapshots of another repository into this one
    Copy(Copy),
    /// Remove locks that nobody holds any more
    Unlock {
        /// Remove those of living programs, too, and unreadable ones
        #[arg(long)]
        remove_all: bool,
    },
    /// Passwords: list, add, remove, change
    #[command(subcommand)]
    Key(KeyCommand),
    /// Remove snapshots: those named, or those a policy does not keep
    Forget(Forget),
    /// Remove what no snapshot needs
    Prune(Prune),
    /// How much is in the repository, and what it takes
    Stats(Stats),
    /// Write a file, or a folder as an archive, to standard output
    Dump(Dump),
    /// Look for files and folders in snapshots
    Find(Find),
    /// What changed from one snapshot to another
    Diff(Diff),
    /// Change the tags of snapshots
    Tag(Tag),
}

#[derive(Debug, Args)]
pub struct Backup {
    /// What to back up
    #[arg(required = true)]
    pub paths: Vec<PathBuf>,
    /// A glob pattern to leave out; may be given several times
    #[arg(short, long = "exclude", value_name = "PATTERN")]
    pub excludes: Vec<String>,
    /// A tag for the snapshot; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// The computer's name in the snapshot, instead of this one's
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// The snapshot to compare with, instead of the newest of the same host and paths
    #[arg(long, value_name = "SNAPSHOT")]
    pub parent: Option<String>,
    /// Read every file again, whatever its attributes say
    #[arg(short, long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct Restore {
    /// A snapshot's id, its beginning, or `latest`
    pub snapshot: String,
    /// The folder to restore into
    #[arg(short, long, value_name = "FOLDER")]
    pub target: PathBuf,
    /// Read every restored file again and compare
    #[arg(long)]
    pub verify: bool,
    /// Restore only what fits this pattern, and what is below it; may be given several times
    #[arg(short, long = "include", value_name = "PATTERN")]
    pub includes: Vec<String>,
    /// What becomes of files that are there already: all become those of the snapshot; or those
    /// whose size or time differs; or those that are older; or none
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    pub overwrite: OverwriteChoice,
    /// Delete from restored folders what is not in the snapshot; try it with --dry-run -v first
    #[arg(long)]
    pub delete: bool,
    /// Change nothing, only show what would be done
    #[arg(long, conflicts_with = "verify")]
    pub dry_run: bool,
    /// Say of each thing what became of it
    #[arg(short, long)]
    pub verbose: bool,
}

/// restic's words.
#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
pub enum OverwriteChoice {
    #[default]
    Always,
    IfChanged,
    IfNewer,
    Never,
}

/// KiB a second; none at all is no rate.
fn rate() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..)
}
