//! Flags and commands, as typed.

use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;

/// Wraps any daemon as a well-behaved DSM package, and keeps the depot it is updated from.
#[derive(Debug, Parser)]
#[command(name = "holdfast-supervisor", version, arg_required_else_help = true)]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Which NAS, which package.
#[derive(Debug, Clone, Default, Args)]
pub struct Place {
    /// The root of the NAS, when it is a folder.
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// The package, when it cannot be told from where this program is.
    #[arg(long, value_name = "NAME")]
    pub package: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run one of DSM's scripts: preinst, postinst, preuninst, postuninst, preupgrade, postupgrade
    Hook {
        name: String,
        #[command(flatten)]
        place: Place,
    },
    /// Answer DSM's start-stop-status script
    Service {
        #[arg(default_value = "")]
        verb: String,
        #[command(flatten)]
        place: Place,
    },
    /// Start the daemon; returns when it is ready
    Start {
        #[command(flatten)]
        place: Place,
    },
    /// Stop the daemon and everything it started
    Stop {
        #[command(flatten)]
        place: Place,
    },
    /// Show how things are
    Status {
        /// For programs
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Supervise in the foreground; `start` does it in the background
    Run {
        #[command(flatten)]
        place: Place,
    },
    /// Show the memory plan and what led to it
    Plan {
        /// For programs
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Show or change who this computer is
    Identity {
        #[command(subcommand)]
        action: IdentityAction,
    },
    /// Show what an old CrashPlan package left on this box
    Legacy {
        /// For programs
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Newer versions from the depot
    Update {
        #[command(subcommand)]
        action: UpdateAction,
    },
    /// Keep a depot, a signed source of packages for Package Center, with `holdfast-depot`
    #[command(disable_help_flag = true)]
    Depot {
        /// What that program is told
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
        arguments: Vec<OsString>,
    },
}

#[derive(Debug, Subcommand)]
pub enum IdentityAction {
    /// Show every copy
    Show {
        /// For programs
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Print the GUID alone
    Guid {
        #[command(flatten)]
        place: Place,
    },
    /// Settle a disagreement between copies, or correct the GUID
    Set {
        guid: String,
        #[command(flatten)]
        place: Place,
    },
    /// This machine took the place of the one that used this GUID
    Keep {
        #[command(flatten)]
        place: Place,
    },
    /// Give this machine a GUID of its own: the one it has belongs to another that still works
    New {
        #[command(flatten)]
        place: Place,
    },
    /// Take over another computer's GUID and history
    Adopt {
        guid: String,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, Subcommand)]
pub enum UpdateAction {
    /// Install the newest version from the depot: verified, tried, watched, taken back if it fails
    Install {
        /// The depot's address; without it, the one named before
        #[arg(long, value_name = "URL")]
        depot: Option<String>,
        /// The depot's root of trust, when the package brought none
        #[arg(long, value_name = "FILE")]
        root_key: Option<PathBuf>,
        /// stable or beta; without it, the one named before
        #[arg(long)]
        channel: Option<String>,
        /// Do nothing while updates are on hold
        #[arg(long)]
        automatic: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Show which version runs, how far an update is, and what was refused
    Show {
        /// For programs
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Install no updates by itself from now on
    Hold {
        /// End the hold
        #[arg(long)]
        off: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Install this version and no other, until that is ended
    Pin {
        /// Which one
        #[arg(required_unless_present = "off")]
        version: Option<String>,
        /// End it: the newest again
        #[arg(long, conflicts_with = "version")]
        off: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Never install this version by itself
    Refuse {
        version: String,
        #[command(flatten)]
        place: Place,
    },
    /// Take back a refusal
    Allow {
        version: String,
        #[command(flatten)]
        place: Place,
    },
    /// Go back to the version that ran before; the one that runs is refused from then on
    RollBack {
        /// Bring back the daemon's state of then, too
        #[arg(long)]
        state: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Fetch and verify what the depot offers; installs nothing
    Check {
        /// The depot's address, as given to Package Center
        #[arg(long, value_name = "URL")]
        depot: Option<String>,
        /// The depot's root of trust, when the package brought none
        #[arg(long, value_name = "FILE")]
        root_key: Option<PathBuf>,
        /// stable or beta
        #[arg(long, default_value = "stable")]
        channel: String,
        /// For programs
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
}

impl Command {
    /// Which NAS and package the command is about; a depot's commands are about none.
    pub fn place(&self) -> Option<&Place> {
        Some(match self {
            Self::Hook { place, .. }
            | Self::Service { place, .. }
            | Self::Start { place }
            | Self::Stop { place }
            | Self::Status { place, .. }
            | Self::Run { place }
            | Self::Legacy { place, .. }
            | Self::Plan { place, .. } => place,
            Self::Identity { action } => match action {
                IdentityAction::Show { place, .. }
                | IdentityAction::Guid { place }
                | IdentityAction::Keep { place }
                | IdentityAction::New { place }
                | IdentityAction::Set { place, .. }
                | IdentityAction::Adopt { place, .. } => place,
            },
            Self::Update { action } => match action {
                UpdateAction::Check { place, .. }
                | UpdateAction::Install { place, .. }
                | UpdateAction::Show { place, .. }
                | UpdateAction::Hold { place, .. }
                | UpdateAction::Pin { place, .. }
                | UpdateAction::Refuse { place, .. }
                | UpdateAction::Allow { place, .. }
                | UpdateAction::RollBack { place, .. } => place,
            },
            Self::Depot { .. } => return None,
        })
    }
}
