//! Snapshots: the root of one backup.

use crate::id::Id;
use crate::time::Time;
use std::collections::BTreeMap;

/// One backup. Fields are in restic's order.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Snapshot {
    /// When it was made.
    pub time: Time,
    /// The snapshot it was compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Id>,
    /// The tree of the root folder.
    pub tree: Id,
    /// What was to be backed up: absolute paths.
    #[serde(deserialize_with = "null_as_default")]
    pub paths: Vec<String>,
    /// The computer.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// Who ran it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// Their number.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub uid: u32,
    /// Their group's.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gid: u32,
    /// Patterns that were left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_as_default")]
    pub excludes: Vec<String>,
    /// Words people and programs put on it. Whatever is ours and not restic's is said in a tag.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_as_default")]
    pub tags: Vec<String>,
    /// The snapshot this one was before somebody edited it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<Id>,
    /// Who wrote it: name and version.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub program_version: String,
    /// What there was to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
    /// Fields of other programs, kept as they came.
    #[serde(flatten)]
    pub others: BTreeMap<String, serde_json::Value>,
}

/// What one backup found and did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
#[allow(missing_docs)] // The names say it, and they are restic's.
pub struct Summary {
    pub backup_start: Time,
    pub backup_end: Time,
    pub files_new: u64,
    pub files_changed: u64,
    pub files_unmodified: u64,
    pub dirs_new: u64,
    pub dirs_changed: u64,
    pub dirs_unmodified: u64,
    /// Blobs added.
    pub data_blobs: i64,
    /// Trees added.
    pub tree_blobs: i64,
    /// Bytes added, before compression.
    pub data_added: u64,
    /// Bytes added, as stored.
    pub data_added_packed: u64,
    pub total_files_processed: u64,
    pub total_bytes_processed: u64,
}

impl Default for Summary {
    fn default() -> Self {
        Self {
            backup_start: Time::ZERO,
            backup_end: Time::ZERO,
            files_new: 0,
            files_changed: 0,
            files_unmodified: 0,
            dirs_new: 0,
            dirs_changed: 0,
            dirs_unmodified: 0,
            data_blobs: 0,
            tree_blobs: 0,
            data_added: 0,
            data_added_packed: 0,
            total_files_processed: 0,
            total_bytes_processed: 0,
        }
    }
}

impl Snapshot {
    /// A snapshot of `tree` at `time`, with nothing else said.
    pub fn new(time: Time, tree: Id, paths: Vec<String>) -> Self {
        Self {
            time,
            parent: None,
            tree,
            paths,
            hostname: String::new(),
            username: String::new(),
            uid: 0,
            gid: 0,
            excludes: Vec::new(),
            tags: Vec::new(),
            original: None,
            program_version: String::new(),
            summary: None,
            others: BTreeMap::new(),
        }
    }
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Go writes a list it never made as `null`.
fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: serde::Deserialize<'de> + Default,
{
    Ok(<Option<T> as serde::Deserialize>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_of_restic_and_of_another_program_survives_being_read_and_written() {
        let id = Id::of(b"abc");
        let json = format!(
            concat!(
                r#"{{"time":"2026-03-01T14:05:09.25+01:00","parent":"{0}","tree":"{0}","#,
                r#""paths":["/home"],"hostname":"nas","username":"root","uid":3,"gid":4,"#,
                r#""excludes":["*.tmp"],"tags":["a","b"],"original":"{0}","#,
                r#""program_version":"restic 0.19.1","summary":{{"#,
                r#""backup_start":"2026-03-01T14:05:09Z","backup_end":"2026-03-01T14:05:10Z","#,
                r#""files_new":1,"files_changed":2,"files_unmodified":3,"dirs_new":4,"#,
                r#""dirs_changed":5,"dirs_unmodified":6,"data_blobs":7,"tree_blobs":8,"#,
                r#""data_added":9,"data_added_packed":10,"total_files_processed":11,"#,
                r#""total_bytes_processed":12}},"label":"kept"}}"#
            ),
            id
        );
        let snapshot: Snapshot = serde_json::from_str(&json).unwrap();
        assert_eq!(snapshot.summary.as_ref().unwrap().dirs_unmodified, 6);
        assert_eq!(serde_json::to_string(&snapshot).unwrap(), json);
    }

    #[test]
    fn what_is_not_known_is_not_written() {
        let snapshot = Snapshot::new(Time::utc(0, 0), Id::ZERO, Vec::new());
        let json = serde_json::to_string(&snapshot).unwrap();
        let zero = Id::ZERO;
        let expected = format!(r#"{{"time":"1970-01-01T00:00:00Z","tree":"{zero}","paths":[]}}"#);
        assert_eq!(json, expected);
        let nulls = json.replace("[]", "null").replace("}", r#","tags":null}"#);
        assert_eq!(serde_json::from_str::<Snapshot>(&nulls).unwrap(), snapshot);
    }
}
