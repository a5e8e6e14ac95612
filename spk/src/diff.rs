//! How two packages differ, as sentences: what a maintainer reads before publishing.

use crate::archive::{Head, Kind};
use crate::read::Package;
use std::collections::BTreeMap;

/// Compares two packages; nothing when they say and hold the same.
///
/// Files inside `package.tgz` are compared by size, mode and kind; `package.tgz` as a whole by
/// checksum, so that a change inside a file never goes unsaid.
pub fn differences(old: &Package, new: &Package) -> Vec<String> {
    let mut lines = Vec::new();
    info_lines(old, new, &mut lines);
    let member = |package: &Package| {
        let members = package.members.iter().map(|member| {
            let summary = (described(&member.head), member.content.clone());
            (member.head.path.clone(), summary)
        });
        members.filter(|(path, _)| path != "INFO").collect::<BTreeMap<_, _>>()
    };
    table_lines("", &member(old), &member(new), &mut lines);
    let entry = |package: &Package| {
        let entries = package.payload.entries.iter();
        let each = entries.map(|entry| (entry.head.path.clone(), (described(&entry.head), None)));
        each.collect::<BTreeMap<_, _>>()
    };
    table_lines("target/", &entry(old), &entry(new), &mut lines);
    if old.payload.md5 != new.payload.md5 {
        lines.push(format!("package.tgz: {} -> {}", old.payload.md5, new.payload.md5));
    }
    lines
}

fn info_lines(old: &Package, new: &Package, lines: &mut Vec<String>) {
    for (key, value) in old.info.pairs() {
        match new.info.get(key) {
            None => lines.push(format!("INFO {key}: \"{value}\" is gone")),
            Some(now) if now != value => {
                lines.push(format!("INFO {key}: \"{value}\" -> \"{now}\""));
            }
            Some(_) => {}
        }
    }
    let added = new.info.pairs().filter(|(key, _)| old.info.get(key).is_none());
    lines.extend(added.map(|(key, value)| format!("INFO {key}: \"{value}\" is new")));
}

type Table = BTreeMap<String, (String, Option<Vec<u8>>)>;

fn table_lines(prefix: &str, old: &Table, new: &Table, lines: &mut Vec<String>) {
    for (path, (was, content)) in old {
        match new.get(path) {
            None => lines.push(format!("{prefix}{path} is gone")),
            Some((now, _)) if now != was && path != crate::read::PAYLOAD => {
                lines.push(format!("{prefix}{path}: {was} -> {now}"));
            }
            Some((_, new_content)) if new_content != content => {
                lines.push(format!("{prefix}{path} has another content"));
            }
            Some(_) => {}
        }
    }
    let added = new.iter().filter(|(path, _)| !old.contains_key(*path));
    lines.extend(added.map(|(path, (now, _))| format!("{prefix}{path} is new: {now}")));
}

/// A member's kind, mode and size in a few words.
pub fn described(head: &Head) -> String {
    let link = head.link.as_deref().unwrap_or_default();
    match head.kind {
        Kind::File => format!("{} bytes, mode {:o}", head.bytes, head.mode),
        Kind::Directory => format!("folder, mode {:o}", head.mode),
        Kind::Symlink => format!("link to {link}"),
        Kind::HardLink => format!("same file as {link}"),
        Kind::Other => "neither file nor folder".into(),
    }
}
