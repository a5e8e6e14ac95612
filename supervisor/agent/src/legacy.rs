//! What an old CrashPlan package left on the box, read and never changed: who the computer was,
//! what it backed up and when, where friends' archives are, how much memory it had.
//!
//! Files and their fields: the package's scripts and its users' support articles. The XML is read
//! by a scanner that knows tags, attributes and text and nothing else: no entities but the five
//! that every document has, no document types, nothing fetched. What it does not know it skips.

use crate::installation::Installation;
use crate::plan::OWNER_FILE;
use engine_contract::identity::Guid;
use engine_contract::memory::parse_size;
use std::path::PathBuf;

/// No more paths, patterns or sets are taken from one file.
const ENTRIES_MAX: usize = 10_000;

/// Everything that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Legacy {
    /// The computer's GUID, and the file it was in.
    pub guid: Option<(Guid, PathBuf)>,
    /// The settings file, when there was one that could be read.
    pub settings: Option<PathBuf>,
    /// Its backup sets.
    pub sets: Vec<LegacySet>,
    /// Where friends' archives are kept.
    pub archives: Option<String>,
    /// Java's largest heap, as it was written: `512m`.
    pub heap: Option<String>,
    /// What the owner had asked for in `syno_package.vars`.
    pub heap_wish: Option<String>,
}

/// One backup set.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct LegacySet {
    /// Its name, if it had one.
    pub name: Option<String>,
    /// What was selected.
    pub included: Vec<String>,
    /// What was taken out of it.
    pub excluded: Vec<String>,
    /// Regular expressions of names to leave out.
    pub patterns: Vec<String>,
    /// When it ran; without it, always.
    pub window: Option<Window>,
    /// Destinations by number.
    pub destinations: Vec<String>,
}

/// The hours in which a set ran.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Window {
    /// `00:00`
    pub start: String,
    /// `04:00`
    pub end: String,
    /// Letters of days, as they were written.
    pub days: String,
}

/// Looks at every place an old package may have left something.
pub fn find(installation: &Installation) -> Legacy {
    let dsm = installation.package.dsm();
    let targets = installation.package.crashplan_targets();
    let mut legacy = Legacy {
        guid: installation
            .package
            .crashplan_identities()
            .into_iter()
            .find_map(|(path, text)| guid_in(&text).map(|guid| (guid, path))),
        ..Legacy::default()
    };
    for target in &targets {
        let path = target.join("conf/my.service.xml");
        if let Some(text) = dsm.system_text(&path)
            && legacy.settings.is_none()
        {
            read_settings(&text, &mut legacy);
            legacy.settings = dsm.find(&path).ok();
        }
        let vars = dsm.system_text(target.join("syno_package.vars")).unwrap_or_default();
        let wish =
            vars.lines().filter_map(|line| line.trim().strip_prefix("USR_MAX_HEAP=")).next_back();
        if let Some(wish) = wish.filter(|_| legacy.heap_wish.is_none()) {
            legacy.heap_wish = Some(wish.trim_matches(['"', '\'']).chars().take(20).collect());
        }
    }
    legacy
}

/// The GUID in a properties file.
pub fn guid_in(text: &str) -> Option<Guid> {
    text.lines().find_map(|line| line.trim().strip_prefix("guid="))?.trim().parse().ok()
}

fn read_settings(text: &str, legacy: &mut Legacy) {
    let mut open: Vec<String> = Vec::new();
    for piece in (Pieces { rest: text }).take(ENTRIES_MAX * 4) {
        match piece {
            Piece::Open { name, attributes, is_closed } => {
                let value = |wanted: &str| {
                    let found = attributes.iter().find(|(name, _)| name == wanted);
                    found.map(|(_, value)| value.clone())
                };
                take_tag(&name, &value, legacy);
                if !is_closed {
                    open.push(name);
                }
            }
            Piece::Close { name } => {
                if let Some(at) = open.iter().rposition(|other| *other == name) {
                    open.truncate(at);
                }
            }
            Piece::Text(text) => match open.last().map(String::as_str) {
                Some("manifestPath") => legacy.archives = Some(text),
                Some("javaMemoryHeapMax") => legacy.heap = Some(text),
                Some("name") if open.iter().any(|name| name == "backupSet") => {
                    if let Some(set) = legacy.sets.last_mut() {
                        set.name.get_or_insert(text);
                    }
                }
                _ => {}
            },
        }
    }
}

fn take_tag(name: &str, value: &dyn Fn(&str) -> Option<String>, legacy: &mut Legacy) {
    if name == "backupSet" && legacy.sets.len() < ENTRIES_MAX {
        legacy.sets.push(LegacySet { name: value("name"), ..LegacySet::default() });
    }
    // The oldest files have one nameless set without a tag of its own.
    let belongs_to_a_set = ["path", "pattern", "backupRunWindow"].contains(&name);
    if belongs_to_a_set && legacy.sets.is_empty() {
        legacy.sets.push(LegacySet::default());
    }
    let Some(set) = legacy.sets.last_mut() else { return };
    let add = |list: &mut Vec<String>, text: Option<String>| {
        if let Some(text) = text.filter(|_| list.len() < ENTRIES_MAX) {
            list.push(text);
        }
    };
    match name {
        "path" => {
            add(&mut set.included, value("include"));
            add(&mut set.excluded, value("exclude"));
        }
        "pattern" => add(&mut set.patterns, value("regex")),
        "destination" => add(&mut set.destinations, value("id")),
        "backupRunWindow" if value("always").as_deref() != Some("true") => {
            let text = |name| value(name).unwrap_or_default();
            let (start, end) = (text("startTimeOfDay"), text("endTimeOfDay"));
            set.window = Some(Window { start, end, days: text("days") });
        }
        _ => {}
    }
}

enum Piece {
    Open { name: String, attributes: Vec<(String, String)>, is_closed: bool },
    Close { name: String },
    Text(String),
}

/// Walks a document; ends at whatever makes no sense.
struct Pieces<'a> {
    rest: &'a str,
}

impl Iterator for Pieces<'_> {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        loop {
            let at = self.rest.find('<')?;
            let text = self.rest[..at].trim();
            if !text.is_empty() {
                let text = plain(text);
                self.rest = &self.rest[at..];
                return Some(Piece::Text(text));
            }
            self.rest = &self.rest[at..];
            if let Some(comment) = self.rest.strip_prefix("<!--") {
                self.rest = &comment[comment.find("-->")? + 3..];
                continue;
            }
            let end = end_of_tag(self.rest)?;
            let tag = &self.rest[1..end];
            self.rest = &self.rest[end + 1..];
            if tag.starts_with(['?', '!']) {
                continue;
            }
            if let Some(name) = tag.strip_prefix('/') {
                return Some(Piece::Close { name: name.trim().to_owned() });
            }
            let is_closed = tag.ends_with('/');
            let tag = tag.trim_end_matches('/');
            let (name, attributes) = tag.split_once(char::is_whitespace).unwrap_or((tag, ""));
            let attributes = attributes_in(attributes);
            return Some(Piece::Open { name: name.to_owned(), attributes, is_closed });
        }
    }
}

/// Where a tag ends: at the first `>` that is in no quotes.
fn end_of_tag(text: &str) -> Option<usize> {
    let mut quote = None;
    text.char_indices().find_map(|(at, letter)| {
        match (quote, letter) {
            (None, '>') => return Some(at),
            (None, '"' | '\'') => quote = Some(letter),
            (Some(open), _) if open == letter => quote = None,
            _ => {}
        }
        None
    })
}

fn attributes_in(mut rest: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    while let Some((name, after)) = rest.split_once('=') {
        let after = after.trim_start();
        let Some(quote) = after.chars().next().filter(|letter| ['"', '\''].contains(letter)) else {
            break;
        };
        let Some((value, after)) = after[1..].split_once(quote) else { break };
        found.push((name.trim().to_owned(), plain(value)));
        rest = after;
    }
    found
}

/// Text without entities and without what a terminal would obey.
fn plain(text: &str) -> String {
    let text = text
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&amp;", "&");
    text.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}

/// What was found, for people, with what to do about it on this box.
pub fn text(legacy: &Legacy, installation: &Installation) -> String {
    let package = &installation.package;
    let mut lines = Vec::new();
    if let Some((guid, path)) = &legacy.guid {
        lines.push(format!("computer  {guid} ({})", path.display()));
        lines.push(format!("  to take over: holdfast-supervisor identity adopt {guid}"));
    }
    for set in &legacy.sets {
        lines.push(format!("set       {}", set.name.as_deref().unwrap_or("without a name")));
        lines.extend(set.included.iter().map(|path| format!("  backed up    {path}")));
        lines.extend(set.excluded.iter().map(|path| format!("  left out     {path}")));
        lines.extend(set.patterns.iter().map(|text| format!("  pattern      {text}")));
        lines.push(match &set.window {
            Some(window) => {
                format!("  ran          {} to {} on {}", window.start, window.end, window.days)
            }
            None => "  ran          always".to_owned(),
        });
    }
    // Without a set that ran always, hours were what its owner wanted.
    let windows: Option<Vec<&Window>> = legacy.sets.iter().map(|set| set.window.as_ref()).collect();
    if let Some([window, ..]) = windows.as_deref() {
        let name = package.name();
        lines.push(format!(
            "  to keep to these hours: Control Panel, Task Scheduler, user root: at {} `synopkg \
             start {name}`, at {} `synopkg stop {name}`",
            window.start, window.end
        ));
    }
    if let Some(archives) = &legacy.archives {
        lines.push(format!("archives  {archives}: friends' backups; nothing of ours touches them"));
    }
    if let Some(heap) = legacy.heap_wish.as_ref().or(legacy.heap.as_ref()) {
        lines.push(format!("memory    {heap} for Java; Holdfast plans its own, see plan"));
        // Only a number is put into a command that somebody may type.
        if let Some(mib) = parse_size(heap).map(|bytes| bytes >> 20).filter(|mib| *mib > 0) {
            let file = package.etc().join(OWNER_FILE);
            let file = file.display();
            lines.push(format!("  to give it as much: echo USR_MAX_HEAP={mib}M >>{file}"));
        }
    }
    if lines.is_empty() {
        lines.push("no CrashPlan was on this box, or nothing is left of it".to_owned());
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Legacy {
        let mut legacy = Legacy::default();
        read_settings(text, &mut legacy);
        legacy
    }

    #[test]
    fn a_file_that_is_cut_off_or_hostile_is_read_as_far_as_it_makes_sense() {
        let text = "<config><backupSet name='a'><path include=\"/volume1/a&amp;b\"/><path incl";
        assert_eq!(read(text).sets[0].included, ["/volume1/a&b"]);
        let bomb = "<!DOCTYPE x [<!ENTITY a \"aaaa\">]><path include=\"&a;\u{1b}[2J\"/>";
        let sets = read(bomb).sets;
        assert!(sets.iter().all(|set| set.included.iter().all(|path| !path.contains('\u{1b}'))));
        for text in ["", "<", "<a", "<a b=", "<a b='", "</", "<!--", "<a/><", "<a b=c>"] {
            read(text);
        }
        let many = "<path include=\"/x\"/>".repeat(ENTRIES_MAX * 5);
        assert!(read(&many).sets[0].included.len() <= ENTRIES_MAX);
    }

    #[test]
    fn a_tag_with_a_bracket_in_quotes_is_one_tag() {
        let sets = read("<pattern regex=\".*>\\.iso\"/><pattern regex=\"b\"/>").sets;
        assert_eq!(sets[0].patterns, [".*>\\.iso", "b"]);
    }
}
