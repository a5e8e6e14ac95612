//! Flags and commands, as typed.

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use supervisor_trust::Role;

/// Keeps a depot: a signed source of packages for Package Center.
#[derive(Debug, Parser)]
#[command(name = "holdfast-depot", version, arg_required_else_help = true)]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub action: DepotAction,
}

#[derive(Debug, Subcommand)]
pub enum DepotAction {
    /// Make keys and empty shelves
    Init {
        #[arg(long, value_name = "DIR")]
        root: PathBuf,
    },
    /// Put packages on the shelves
    Publish {
        #[arg(long, value_name = "DIR")]
        root: PathBuf,
        #[arg(required = true, value_name = "FILE.spk")]
        files: Vec<PathBuf>,
    },
    /// Take a version of a package off the shelves
    Withdraw {
        #[arg(long, value_name = "DIR")]
        root: PathBuf,
        package: String,
        version: String,
    },
    /// Sign anew what ends soonest; a depot that is served does it itself
    Renew {
        #[arg(long, value_name = "DIR")]
        root: PathBuf,
    },
    /// List what is on the shelves
    List {
        #[arg(long, value_name = "DIR")]
        root: PathBuf,
    },
    /// Answer Package Center
    Serve {
        #[arg(long, value_name = "DIR")]
        root: PathBuf,
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8484")]
        listen: String,
        /// The address links begin with, when the depot is behind a proxy
        #[arg(long, value_name = "URL")]
        base_url: Option<String>,
    },
    /// The keys that sign
    Keys {
        #[command(subcommand)]
        action: KeysAction,
    },
}

#[derive(Debug, Subcommand)]
pub enum KeysAction {
    /// Show each role's keys and when its signatures end
    Show {
        #[arg(long, value_name = "DIR")]
        root: PathBuf,
    },
    /// Print the root of trust that packages bring as conf/depot.pub
    Export {
        #[arg(long, value_name = "DIR")]
        root: PathBuf,
    },
    /// Replace a role's keys by new ones: all of them, or one
    Rotate {
        /// root, targets, snapshot or timestamp
        #[arg(value_parser = role)]
        role: Role,
        /// Only the key whose id begins like this
        #[arg(long, value_name = "ID")]
        keyid: Option<String>,
        #[command(flatten)]
        hand: KeysAtHand,
    },
    /// Add new keys to a role, or change how many must sign
    Add {
        /// root, targets, snapshot or timestamp
        #[arg(value_parser = role)]
        role: Role,
        /// How many
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=32))]
        count: u8,
        /// How many of the role's keys must sign from then on
        #[arg(long, value_parser = clap::value_parser!(u8).range(1..=32))]
        threshold: Option<u8>,
        #[command(flatten)]
        hand: KeysAtHand,
    },
    /// Take a key off a role's list
    Remove {
        /// root, targets, snapshot or timestamp
        #[arg(value_parser = role)]
        role: Role,
        /// The beginning of the key's id
        keyid: String,
        /// How many of the role's keys must sign from then on
        #[arg(long, value_parser = clap::value_parser!(u8).range(1..=32))]
        threshold: Option<u8>,
        #[command(flatten)]
        hand: KeysAtHand,
    },
    /// Prove that every hour of the coming year is covered, or name the first that is not
    Plan {
        #[arg(long, value_name = "DIR")]
        root: PathBuf,
    },
    /// Sign anew what is due: to be run daily
    Renew {
        #[arg(long, value_name = "DIR")]
        root: PathBuf,
        /// Sign nothing; fail when something ends soon
        #[arg(long)]
        check: bool,
        /// Tell the keepers by mail what ends soon or went wrong, by the settings in this file
        #[arg(long, value_name = "FILE")]
        mail: Option<PathBuf>,
    },
    /// Meet a served depot as its clients will in the days to come
    Canary {
        /// The depot's address
        #[arg(long, value_name = "URL")]
        url: String,
        /// The root that clients were given: conf/depot.pub, the oldest that is still in use
        #[arg(long, value_name = "FILE")]
        root_key: PathBuf,
        /// Days ahead on which it must be believed; once for each [default: 0, 1, 7, 14]
        #[arg(long, value_parser = clap::value_parser!(u32).range(0..=3660))]
        days: Vec<u32>,
    },
    /// Sign the next root in advance, for the day the root's keys are lost
    Spare {
        /// Put it in force instead
        #[arg(long, conflicts_with_all = ["key", "keys_to"])]
        publish: bool,
        #[command(flatten)]
        hand: KeysAtHand,
    },
}

/// Which depot, and the keys that are not in its folder.
#[derive(Debug, Clone, Args)]
pub struct KeysAtHand {
    /// The depot
    #[arg(long, value_name = "DIR")]
    pub root: PathBuf,
    /// A signing key that is kept elsewhere, such as the root's; once for each
    #[arg(long, value_name = "FILE")]
    pub key: Vec<PathBuf>,
    /// Where new keys are written instead of into the depot's folder
    #[arg(long, value_name = "DIR")]
    pub keys_to: Option<PathBuf>,
}

fn role(text: &str) -> Result<Role, String> {
    let role = Role::ALL.into_iter().find(|role| role.name() == text);
    role.ok_or_else(|| "the roles are root, targets, snapshot and timestamp".to_owned())
}
