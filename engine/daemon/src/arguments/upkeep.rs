//! Flags of the commands that look after a repository and look into it: restic's names.

use clap::{Args, Subcommand};
use engine_transfer::retention::{Span, UNLIMITED};
use engine_transfer::{Archive, GroupBy, MaxUnused, SnapshotFilter};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// List the keys; the one in use is marked with a star
    List,
    /// Add a password
    Add {
        /// A file whose first line is the new password
        #[arg(long, value_name = "FILE")]
        new_password_file: PathBuf,
    },
    /// Remove a password; never the one in use
    Remove {
        /// The key's id, or its beginning
        id: String,
    },
    /// Change the password in use
    Passwd {
        /// A file whose first line is the new password
        #[arg(long, value_name = "FILE")]
        new_password_file: PathBuf,
    },
}

/// Which snapshots a command is about.
#[derive(Debug, Args)]
pub struct Filter {
    /// Only snapshots of this computer; may be given several times
    #[arg(long = "host", value_name = "NAME")]
    pub hosts: Vec<String>,
    /// Only snapshots with all these tags (`a,b`); may be given several times
    #[arg(long = "tag", value_name = "TAGS", value_parser = tag_list)]
    pub tags: Vec<TagList>,
    /// Only snapshots with this path; may be given several times
    #[arg(long = "path", value_name = "PATH")]
    pub paths: Vec<String>,
}

impl From<Filter> for SnapshotFilter {
    fn from(filter: Filter) -> Self {
        let tags = filter.tags.into_iter().map(|list| list.0).collect();
        Self { hosts: filter.hosts, tags, paths: filter.paths }
    }
}

#[derive(Debug, Args)]
pub struct Forget {
    /// Snapshots to forget, whatever the policy: ids, their beginnings, or `latest`
    pub snapshots: Vec<String>,
    /// Keep the newest N snapshots (or `unlimited`, as with all counts)
    #[arg(short = 'l', long, value_name = "N", value_parser = count, default_value = "0")]
    pub keep_last: i32,
    /// Keep the newest of each of the last N hours that have one
    #[arg(short = 'H', long, value_name = "N", value_parser = count, default_value = "0")]
    pub keep_hourly: i32,
    /// Keep the newest of each of the last N days that have one
    #[arg(short = 'd', long, value_name = "N", value_parser = count, default_value = "0")]
    pub keep_daily: i32,
    /// Keep the newest of each of the last N weeks that have one
    #[arg(short = 'w', long, value_name = "N", value_parser = count, default_value = "0")]
    pub keep_weekly: i32,
    /// Keep the newest of each of the last N months that have one
    #[arg(short = 'm', long, value_name = "N", value_parser = count, default_value = "0")]
    pub keep_monthly: i32,
    /// Keep the newest of each of the last N years that have one
    #[arg(short = 'y', long, value_name = "N", value_parser = count, default_value = "0")]
    pub keep_yearly: i32,
    /// Keep all made within a span before the newest, such as 1y5m7d2h
    #[arg(long, value_name = "SPAN", default_value = "")]
    pub keep_within: Span,
    /// Keep hourly ones within a span
    #[arg(long, value_name = "SPAN", default_value = "")]
    pub keep_within_hourly: Span,
    /// Keep daily ones within a span
    #[arg(long, value_name = "SPAN", default_value = "")]
    pub keep_within_daily: Span,
    /// Keep weekly ones within a span
    #[arg(long, value_name = "SPAN", default_value = "")]
    pub keep_within_weekly: Span,
    /// Keep monthly ones within a span
    #[arg(long, value_name = "SPAN", default_value = "")]
    pub keep_within_monthly: Span,
    /// Keep yearly ones within a span
    #[arg(long, value_name = "SPAN", default_value = "")]
    pub keep_within_yearly: Span,
    /// Keep all with these tags (`a,b`: both); may be given several times
    #[arg(long = "keep-tag", value_name = "TAGS", value_parser = tag_list)]
    pub keep_tags: Vec<TagList>,
    #[command(flatten)]
    pub filter: Filter,
    /// What snapshots counted together have in common: any of host, paths, tags; `''` for nothing
    #[arg(short, long, value_name = "LIST", value_parser = group_by, default_value = "host,paths")]
    pub group_by: GroupBy,
    /// Let a policy remove all snapshots of a group
    #[arg(long)]
    pub unsafe_allow_remove_all: bool,
    /// Prune when snapshots were removed
    #[arg(long)]
    pub prune: bool,
    #[command(flatten)]
    pub how: Prune,
}

#[derive(Debug, Args)]
pub struct Prune {
    /// Only say what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// How much waste may stay: `5%` of the repository, a size such as `1G`, or `unlimited`
    #[arg(long, value_name = "LIMIT", value_parser = max_unused, default_value = "5%")]
    pub max_unused: MaxUnused,
    /// Copy no more than this, such as 2G
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub max_repack_size: Option<u64>,
    /// Put packs together that are much smaller than packs should be
    #[arg(long)]
    pub repack_small: bool,
    /// Compress blobs that are not, where that makes them smaller
    #[arg(long)]
    pub repack_uncompressed: bool,
    /// Copy only packs with folders, which everybody reads; packs with content only go as a whole
    #[arg(long)]
    pub repack_cacheable_only: bool,
    /// Leave packs alone that prunes of this computer first saw less long ago, such as 7d
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub keep_pack_age: Option<Duration>,
}

#[derive(Debug, Args)]
pub struct Stats {
    /// Snapshots to count, instead of all
    pub snapshots: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Dump {
    /// A snapshot's id, its beginning, or `latest`
    pub snapshot: String,
    /// A file, or a folder; `/` for everything
    pub path: PathBuf,
    /// What a folder is written as: tar or zip
    #[arg(short, long, value_name = "FORMAT", value_parser = archive, default_value = "tar")]
    pub archive: Archive,
}

#[derive(Debug, Args)]
pub struct Find {
    /// Shell patterns: of names, or with `/` of whole paths
    #[arg(required = true)]
    pub patterns: Vec<String>,
    /// Look only in this snapshot; may be given several times
    #[arg(short, long = "snapshot", value_name = "SNAPSHOT")]
    pub snapshots: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Diff {
    /// The older snapshot
    pub from: String,
    /// The newer snapshot
    pub to: String,
    /// Tell changes of mode, owner and times, too
    #[arg(long)]
    pub metadata: bool,
}

#[derive(Debug, Args)]
pub struct Tag {
    /// Snapshots to change, instead of all
    pub snapshots: Vec<String>,
    /// Tags instead of those it has (`a,b`; `''` for none)
    #[arg(long, value_name = "TAGS", value_parser = tag_list)]
    pub set: Vec<TagList>,
    /// Tags to put on
    #[arg(long, value_name = "TAGS", value_parser = tag_list, conflicts_with = "set")]
    pub add: Vec<TagList>,
    /// Tags to take off
    #[arg(long, value_name = "TAGS", value_parser = tag_list, conflicts_with = "set")]
    pub remove: Vec<TagList>,
    #[command(flatten)]
    pub filter: Filter,
}

/// `a,b` as one value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagList(pub Vec<String>);

fn tag_list(text: &str) -> Result<TagList, String> {
    Ok(TagList(text.split(',').map(|tag| tag.trim().to_owned()).collect()))
}

fn archive(text: &str) -> Result<Archive, String> {
    match text {
        "tar" => Ok(Archive::Tar),
        "zip" => Ok(Archive::Zip),
        _ => Err("write tar or zip".to_owned()),
    }
}

fn count(text: &str) -> Result<i32, String> {
    match text.parse::<i32>() {
        _ if text == "unlimited" => Ok(UNLIMITED),
        Ok(number) if number >= UNLIMITED => Ok(number),
        _ => Err("write a number, or `unlimited`".to_owned()),
    }
}

fn group_by(text: &str) -> Result<GroupBy, String> {
    let mut by = GroupBy { host: false, paths: false, tags: false };
    for part in text.split(',').filter(|part| !part.is_empty()) {
        match part.trim() {
            "host" | "hosts" => by.host = true,
            "path" | "paths" => by.paths = true,
            "tag" | "tags" => by.tags = true,
            _ => return Err("write any of host, paths, tags, with commas between".to_owned()),
        }
    }
    Ok(by)
}

pub fn size(text: &str) -> Result<u64, String> {
    let bytes = engine_contract::memory::parse_size(text);
    bytes.ok_or_else(|| "write a size such as 500M or 2G".to_owned())
}

/// `90s`, `1h30m`, `7d`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let bad = || "write a duration such as 90s, 30m, 2h or 7d".to_owned();
    let (mut seconds, mut rest) = (0_u64, text);
    while !rest.is_empty() || text.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let number: u64 = rest[..end].parse().map_err(|_| bad())?;
        let unit = match rest[end..].chars().next() {
            Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3600,
            Some('d') => 86_400,
            _ => return Err(bad()),
        };
        let more = number.checked_mul(unit).filter(|more| *more < u64::from(u32::MAX));
        seconds += more.ok_or_else(bad)?;
        rest = &rest[end + 1..];
    }
    Ok(Duration::from_secs(seconds))
}

fn max_unused(text: &str) -> Result<MaxUnused, String> {
    if text == "unlimited" {
        return Ok(MaxUnused::Unlimited);
    }
    let Some(percent) = text.strip_suffix('%') else { return size(text).map(MaxUnused::Bytes) };
    match percent.trim().parse::<f64>() {
        Ok(share) if (0.0..100.0).contains(&share) => {
            Ok(MaxUnused::Permille((share * 10.0).round() as u32))
        }
        _ => Err("write a share such as 5%, below 100%".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_counts_and_groups_are_read_as_restic_reads_them() {
        assert_eq!(max_unused("5%"), Ok(MaxUnused::Permille(50)));
        assert_eq!(max_unused("0"), Ok(MaxUnused::Bytes(0)));
        assert_eq!(max_unused("1.5%"), Ok(MaxUnused::Permille(15)));
        assert_eq!(max_unused("2K"), Ok(MaxUnused::Bytes(2048)));
        assert_eq!(max_unused("unlimited"), Ok(MaxUnused::Unlimited));
        assert_eq!((count("unlimited"), count("3")), (Ok(UNLIMITED), Ok(3)));
        assert_eq!(group_by("host,paths"), Ok(GroupBy::default()));
        assert_eq!(group_by(""), Ok(GroupBy { host: false, paths: false, tags: false }));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(7 * 86_400)));
        for wrong in ["", "5", "h", "1y", "99999999999999999999s", "99999999999d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        for wrong in ["100%", "-1%", "x%", "much"] {
            assert!(max_unused(wrong).is_err(), "{wrong}");
        }
        assert!(count("-2").is_err() && count("x").is_err() && group_by("user").is_err());
    }
}
