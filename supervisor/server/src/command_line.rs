//! Flags and commands, as typed.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::{Path, PathBuf};
use supervisor_depot::{Channel, Net};
use supervisor_trust::Role;

/// Keeps a depot: a signed source of packages for Package Center.
#[derive(Debug, Parser)]
#[command(name = "holdfast-depot", version, arg_required_else_help = true)]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub action: DepotAction,
    /// The folder of signing keys for a depot in an object store (--root s3:…); its owner's alone
    #[arg(long, value_name = "DIR", global = true)]
    pub keys: Option<PathBuf>,
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
        #[arg(long, value_name = "DIR", required_unless_present = "to")]
        root: Option<PathBuf>,
        /// A depot elsewhere, over HTTP
        #[arg(long, value_name = "URL", conflicts_with = "root", requires = "token_file")]
        to: Option<String>,
        /// The file with the token its keeper gave you
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
        #[arg(required = true, value_name = "FILE.spk")]
        files: Vec<PathBuf>,
    },
    /// Bring a version of a package from one channel to another
    Promote {
        #[arg(long, value_name = "DIR")]
        root: PathBuf,
        package: String,
        version: String,
        /// stable or beta
        #[arg(long, default_value = "stable", value_parser = channel)]
        to: Channel,
    },
    /// Take over what another source offers
    Mirror {
        #[arg(long, value_name = "DIR")]
        root: PathBuf,
        /// The source's address, as given to Package Center
        url: String,
        #[command(flatten)]
        from: MirrorFrom,
    },
    /// Lay out what is offered in a new folder, to be carried to a depot without a network
    Export {
        #[arg(long, value_name = "DIR")]
        root: PathBuf,
        /// The new folder
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
    },
    /// Put what another depot's export holds on the shelves
    Import {
        #[arg(long, value_name = "DIR")]
        root: PathBuf,
        /// The other depot's root of trust: its depot.pub
        #[arg(long, value_name = "FILE")]
        trust: PathBuf,
        /// Only this package; once for each
        #[arg(long, value_name = "NAME")]
        package: Vec<String>,
        /// The folder that was exported
        from: PathBuf,
    },
    /// Put the depot into an object store, for servers elsewhere
    Push {
        #[arg(long, value_name = "DIR")]
        root: PathBuf,
        /// s3:https://HOST/BUCKET/PREFIX
        to: String,
    },
    /// Who may publish over HTTP
    Token {
        #[command(subcommand)]
        action: TokenAction,
    },
    /// Whose OpenPGP keys boxes with DSM 5.1 to 6.2 are handed to believe packages by
    Publisher {
        #[command(subcommand)]
        action: PublisherAction,
    },
    /// Show how often each file was downloaded
    Downloads {
        #[arg(long, value_name = "DIR")]
        root: PathBuf,
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
    Serve(Box<Serving>),
    /// The keys that sign
    Keys {
        #[command(subcommand)]
        action: KeysAction,
    },
}

impl DepotAction {
    /// The depot it is about.
    pub fn root(&self) -> &Path {
        match self {
            Self::Init { root }
            | Self::Promote { root, .. }
            | Self::Mirror { root, .. }
            | Self::Export { root, .. }
            | Self::Import { root, .. }
            | Self::Push { root, .. }
            | Self::Downloads { root }
            | Self::Withdraw { root, .. }
            | Self::Renew { root }
            | Self::List { root } => root,
            Self::Publish { root, .. } => root.as_deref().unwrap_or(Path::new("")),
            Self::Serve(serving) => &serving.root,
            Self::Token { action } => match action {
                TokenAction::Add { root, .. }
                | TokenAction::List { root }
                | TokenAction::Remove { root, .. } => root,
            },
            Self::Publisher { action } => match action {
                PublisherAction::Add { root, .. }
                | PublisherAction::List { root }
                | PublisherAction::Export { root }
                | PublisherAction::Remove { root, .. } => root,
            },
            Self::Keys { .. } => Path::new(""),
        }
    }
}

/// Where the depot is served, and how.
#[derive(Debug, Args)]
pub struct Serving {
    /// The depot: a folder, or s3:https://HOST/BUCKET/PREFIX
    #[arg(long, value_name = "DIR or s3:URL")]
    pub root: PathBuf,
    /// Make an empty depot first, if there is none
    #[arg(long)]
    pub make: bool,
    /// The folder of the copy from which a depot in an object store is served
    #[arg(long, value_name = "DIR")]
    pub copy: Option<PathBuf>,
    /// The place in an object store that is to have what is published in this folder
    #[arg(long, value_name = "s3:URL", conflicts_with = "copy")]
    pub push_to: Option<String>,
    /// Where plain HTTP is spoken, as old boxes need it
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8484")]
    pub listen: String,
    /// Where HTTPS is spoken
    #[arg(long, value_name = "ADDR", requires = "certificate")]
    pub listen_tls: Option<String>,
    /// The chain of certificates, in PEM; read again at SIGHUP
    #[arg(long, value_name = "FILE", requires = "tls_key", group = "certificate")]
    pub tls_cert: Option<PathBuf>,
    /// Its key, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Ask an authority for a certificate for this name, and renew it; once for each. The name has
    /// to lead to --listen at port 80
    #[arg(long, value_name = "NAME", group = "certificate", conflicts_with = "tls_cert")]
    #[arg(requires = "listen_tls")]
    pub acme: Vec<String>,
    /// The authority's directory
    #[arg(long, value_name = "URL", requires = "acme")]
    #[arg(default_value = "https://acme-v02.api.letsencrypt.org/directory")]
    pub acme_directory: String,
    /// Where the authority may write to when something is wrong with a certificate
    #[arg(long, value_name = "ADDRESS", requires = "acme")]
    pub acme_mail: Option<String>,
    /// Where Prometheus may ask for /metrics
    #[arg(long, value_name = "ADDR")]
    pub metrics: Option<String>,
    /// The address links begin with, whatever the depot was asked by
    #[arg(long, value_name = "URL")]
    pub base_url: Option<String>,
    /// A proxy that is believed in X-Forwarded-For, -Host and -Proto; once for each
    #[arg(long, value_name = "ADDR or NET")]
    pub trust_proxy: Vec<Net>,
    /// What one address may ask in a minute; 0 is without a limit
    #[arg(long, value_name = "N", default_value_t = 600)]
    pub requests_per_minute: u32,
    /// What goes into the log on standard error
    #[arg(long, default_value = "warn", value_parser = ["error", "warn", "info", "debug"])]
    pub log: String,
    /// How: lines for people, or a JSON document a line
    #[arg(long, value_name = "FORM", default_value = "text", value_enum)]
    pub log_format: LogForm,
    /// A package's wizard wrote its answers into this file: the port in it is listened at
    #[arg(long, value_name = "FILE")]
    pub answers: Option<PathBuf>,
}

/// The form of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogForm {
    Text,
    Json,
}

/// What is believed of another source.
#[derive(Debug, Args)]
pub struct MirrorFrom {
    /// It is a depot, and this its root of trust: its depot.pub
    #[arg(long, value_name = "FILE", required_unless_present = "pin", conflicts_with = "pin")]
    pub trust: Option<PathBuf>,
    /// Only this package; once for each
    #[arg(long, value_name = "NAME", conflicts_with = "pin")]
    pub package: Vec<String>,
    /// It signs nothing: take this package if its file has this SHA-256; once for each
    #[arg(long, value_name = "NAME=SHA256", value_parser = pin)]
    #[arg(requires_all = ["platform", "build"])]
    pub pin: Vec<Pin>,
    /// Ask as a box of this platform
    #[arg(long, value_name = "CODENAME")]
    pub platform: Option<String>,
    /// Ask as a box with this DSM build
    #[arg(long, value_name = "N")]
    pub build: Option<u32>,
}

/// A package and the one file that is meant.
#[derive(Debug, Clone)]
pub struct Pin {
    pub package: String,
    pub sha256: String,
}

#[derive(Debug, Subcommand)]
pub enum TokenAction {
    /// Make a token for a maintainer, and show it this once
    Add {
        #[arg(long, value_name = "DIR")]
        root: PathBuf,
        /// The maintainer
        name: String,
        /// A package it is for, or `*`; once for each
        #[arg(long, required = true, value_name = "NAME")]
        package: Vec<String>,
    },
    /// Show who has one
    List {
        #[arg(long, value_name = "DIR")]
        root: PathBuf,
    },
    /// Take a maintainer's away
    Remove {
        #[arg(long, value_name = "DIR")]
        root: PathBuf,
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum PublisherAction {
    /// Hand out this key, as one of the catalog's keyrings
    Add {
        #[arg(long, value_name = "DIR")]
        root: PathBuf,
        /// The public key, in armour: what `spk sign --public-key-into` wrote
        key: PathBuf,
    },
    /// Show whose keys are handed out
    List {
        #[arg(long, value_name = "DIR")]
        root: PathBuf,
    },
    /// Print the keys as they are handed out
    Export {
        #[arg(long, value_name = "DIR")]
        root: PathBuf,
    },
    /// Hand out that key no longer
    Remove {
        #[arg(long, value_name = "DIR")]
        root: PathBuf,
        /// The end of its id
        id: String,
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

fn channel(text: &str) -> Result<Channel, String> {
    let both = [Channel::Stable, Channel::Beta];
    let channel = both.into_iter().find(|channel| channel.name() == text);
    channel.ok_or_else(|| "the channels are stable and beta".to_owned())
}

fn pin(text: &str) -> Result<Pin, String> {
    let (package, sha256) = text.split_once('=').unwrap_or((text, ""));
    let is_hash = sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
    match is_hash && !package.is_empty() {
        true => Ok(Pin { package: package.to_owned(), sha256: sha256.to_lowercase() }),
        false => Err("say it as NAME=SHA256, with 64 digits".to_owned()),
    }
}
