//! Flags of the commands about a repository as a whole: making, checking, repairing and copying
//! one. restic's names.

use super::upkeep::{Filter, size};
use clap::{Args, Subcommand, ValueEnum};
use engine_transfer::{Effort, Reading, Version};
use std::path::PathBuf;

/// Another repository, to take from.
#[derive(Debug, Args)]
pub struct FromRepository {
    /// The other repository, named as with -r
    #[arg(long, value_name = "LOCATION")]
    pub from_repo: Option<String>,
    /// A file whose first line is the other repository's password
    #[arg(long, value_name = "FILE", requires = "from_repo")]
    pub from_password_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Init {
    /// The format's version: 1 for old readers, without compression; 2, stable or latest
    #[arg(long, value_name = "VERSION", value_parser = version, default_value = "stable")]
    pub repository_version: Version,
    #[command(flatten)]
    pub from: FromRepository,
    /// Cut files as in the other repository, so that what is copied from there is found again
    #[arg(long, requires = "from_repo")]
    pub copy_chunker_params: bool,
}

#[derive(Debug, Args)]
pub struct Check {
    /// Read every pack, and test every byte
    #[arg(long)]
    pub read_data: bool,
    /// Read a part: `n/t` is part n of t, `5%` and `2G` are as many packs at random
    #[arg(long, value_name = "PART", value_parser = subset, conflicts_with = "read_data")]
    pub read_data_subset: Option<Reading>,
    /// Read a share such as 5%, of what was not read for the longest
    #[arg(long, value_name = "SHARE", value_parser = share,
        conflicts_with_all = ["read_data", "read_data_subset"])]
    pub read_data_share: Option<Reading>,
}

impl Check {
    /// How much to read.
    pub fn reading(&self) -> Reading {
        let part = self.read_data_subset.or(self.read_data_share);
        part.unwrap_or(if self.read_data { Reading::All } else { Reading::None })
    }
}

#[derive(Debug, Subcommand)]
pub enum RepairCommand {
    /// Make the index agree with the packs that are there
    Index {
        /// Believe no index: read the header of every pack
        #[arg(long)]
        read_all_packs: bool,
    },
    /// Save what can be read of damaged packs; copies of them are left in the current folder
    Packs {
        /// The packs' ids, as `check --read-data` names them
        #[arg(required = true, value_name = "ID")]
        packs: Vec<String>,
    },
    /// Replace snapshots that lack something by ones that are whole without it
    Snapshots(RepairSnapshots),
}

#[derive(Debug, Args)]
pub struct RepairSnapshots {
    /// Snapshots to repair, instead of all
    pub snapshots: Vec<String>,
    #[command(flatten)]
    pub filter: Filter,
    /// Remove the old ones
    #[arg(long)]
    pub forget: bool,
    /// Only say what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct Copy {
    /// Snapshots to copy, instead of all
    pub snapshots: Vec<String>,
    #[command(flatten)]
    pub from: FromRepository,
    #[command(flatten)]
    pub filter: Filter,
}

/// How hard to compress, in restic's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Compression {
    /// What suits most: zstd's level 3, and nothing for what looks like noise
    Auto,
    /// Folders and indexes only
    Off,
    /// zstd's level 1
    Fastest,
    /// zstd's level 7
    Better,
    /// zstd's level 15
    Max,
}

impl Compression {
    /// The engine's word for it.
    pub fn effort(self) -> Effort {
        match self {
            Self::Auto => Effort::Auto,
            Self::Off => Effort::Off,
            Self::Fastest => Effort::Fastest,
            Self::Better => Effort::Better,
            Self::Max => Effort::Max,
        }
    }
}

fn version(text: &str) -> Result<Version, String> {
    match text {
        "1" => Ok(Version::V1),
        "2" | "stable" | "latest" | "" => Ok(Version::V2),
        _ => Err("write 1, 2, stable or latest".to_owned()),
    }
}

fn permille(text: &str) -> Option<u32> {
    let percent = text.strip_suffix('%')?.trim().parse::<f64>().ok()?;
    let is_share = percent > 0.0 && percent <= 100.0;
    is_share.then(|| ((percent * 10.0).round() as u32).max(1))
}

fn subset(text: &str) -> Result<Reading, String> {
    if let Some((number, of)) = text.split_once('/') {
        return match (number.parse::<u16>(), of.parse::<u16>()) {
            (Ok(number), Ok(of)) if (1..=256).contains(&of) && (1..=of).contains(&number) => {
                Ok(Reading::Part { number, of })
            }
            _ => Err("write n/t with n from 1 to t, and t up to 256".to_owned()),
        };
    }
    if text.ends_with('%') {
        let share = permille(text).map(Reading::RandomPermille);
        return share.ok_or_else(|| "write a share such as 5%, up to 100%".to_owned());
    }
    size(text).map(Reading::RandomBytes)
}

fn share(text: &str) -> Result<Reading, String> {
    let share = permille(text).map(Reading::OldestPermille);
    share.ok_or_else(|| "write a share such as 5%, up to 100%".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_shares_and_versions_are_read_as_restic_reads_them() {
        assert_eq!(subset("2/256"), Ok(Reading::Part { number: 2, of: 256 }));
        assert_eq!(subset("2.5%"), Ok(Reading::RandomPermille(25)));
        assert_eq!(subset("0.01%"), Ok(Reading::RandomPermille(1)));
        assert_eq!(subset("2K"), Ok(Reading::RandomBytes(2048)));
        assert_eq!(share("100%"), Ok(Reading::OldestPermille(1000)));
        for wrong in ["0/3", "4/3", "1/257", "/", "0%", "101%", "x%", "much"] {
            assert!(subset(wrong).is_err(), "{wrong}");
        }
        assert!(share("5").is_err());
        assert!(matches!(version("1"), Ok(Version::V1)));
        assert!(version("3").is_err());
    }
}
