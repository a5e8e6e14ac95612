//! INFO: the `key="value"` lines that describe a package to DSM and to Package Center.
//!
//! **Invariant:** an [`Info`] that was read has a `package` that is safe as a file name and a
//! `version`; every value is one line without quotes or backslashes when we write it.

use crate::dsm::OsVersion;
use crate::version::{Version, VersionError};

/// A larger INFO is refused: real ones, with icons inside, stay below 100 kB.
pub const INFO_BYTES_MAX: u64 = 512 * 1024;

/// More keys than any INFO has.
pub const KEYS_MAX: usize = 512;

/// More platforms than Synology ever had; what `arch` lists beyond is passed over.
const ARCHS_MAX: usize = 200;

/// A name longer than this is no package's.
const NAME_BYTES_MAX: usize = 100;

/// The three-letter languages INFO, the wizards and Package Center know.
pub const LANGUAGES: [&str; 20] = [
    "enu", "cht", "chs", "krn", "ger", "fre", "ita", "spn", "jpn", "dan", "nor", "sve", "nld",
    "rus", "plk", "ptb", "ptg", "hun", "trk", "csy",
];

/// What INFO says, in the order it says it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Info {
    pairs: Vec<(String, String)>,
}

/// Why a text is not INFO.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InfoError {
    /// Not UTF-8.
    #[error("INFO is not UTF-8 text")]
    Encoding,
    /// A line that is something else.
    #[error("INFO line {line} is not key=\"value\": `{text}`")]
    Line {
        /// Counted from 1.
        line: usize,
        /// Its beginning.
        text: String,
    },
    /// A key that must be there.
    #[error("INFO has no `{key}`")]
    KeyMissing {
        /// The key.
        key: &'static str,
    },
    /// A key given two values.
    #[error("INFO says `{key}` twice")]
    KeyTwice {
        /// The key.
        key: String,
    },
    /// Too many keys.
    #[error("INFO has more than {KEYS_MAX} keys")]
    Keys,
    /// A name that cannot be a folder's.
    #[error("INFO names the package `{name}`, which is no name for a folder")]
    Name {
        /// The name's beginning.
        name: String,
    },
}

impl InfoError {
    /// What the package's author should change.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Encoding => "write INFO as UTF-8 without a byte order mark",
            Self::Line { .. } => "write one key=\"value\" on each line, with straight quotes",
            Self::KeyMissing { .. } => "add the key; every DSM needs it",
            Self::KeyTwice { .. } | Self::Keys => "leave one line for each key",
            Self::Name { .. } => "name it with letters, digits, `-`, `_` and `.` only",
        }
    }
}

impl Info {
    /// Reads INFO's bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, InfoError> {
        let text = std::str::from_utf8(bytes).map_err(|_| InfoError::Encoding)?;
        if text.starts_with('\u{feff}') {
            return Err(InfoError::Encoding);
        }
        let mut info = Self::default();
        for (index, line) in text.lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            let (key, value) = pair(line).ok_or_else(|| InfoError::Line {
                line: index + 1,
                text: line.chars().take(60).collect(),
            })?;
            if info.get(key).is_some() {
                return Err(InfoError::KeyTwice { key: key.into() });
            }
            info.push(key, value);
            if info.pairs.len() > KEYS_MAX {
                return Err(InfoError::Keys);
            }
        }
        let name = info.get("package").ok_or(InfoError::KeyMissing { key: "package" })?;
        if !name_is_safe(&name.replace(' ', "-")) || name.trim() != name {
            return Err(InfoError::Name { name: name.chars().take(60).collect() });
        }
        info.get("version").ok_or(InfoError::KeyMissing { key: "version" })?;
        Ok(info)
    }

    /// Adds a line at the end.
    pub(crate) fn push(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.pairs.push((key.into(), value.into()));
    }

    /// The lines as INFO's text.
    pub fn to_text(&self) -> String {
        self.pairs.iter().map(|(key, value)| format!("{key}=\"{value}\"\n")).collect()
    }

    /// The lines, in order.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// A key's value, empty or not.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.pairs().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// The package's identity, its folder below `/var/packages`.
    pub fn package(&self) -> &str {
        self.get("package").unwrap_or_default()
    }

    /// The version, byte for byte.
    pub fn version_text(&self) -> &str {
        self.get("version").unwrap_or_default()
    }

    /// The version as numbers.
    pub fn version(&self) -> Result<Version, VersionError> {
        self.version_text().parse()
    }

    /// Codenames and families the package is for; `noarch` when INFO does not say.
    pub fn archs(&self) -> Vec<&str> {
        let words = self.get("arch").unwrap_or_default().split_whitespace();
        let archs: Vec<&str> = words.take(ARCHS_MAX).collect();
        if archs.is_empty() { vec!["noarch"] } else { archs }
    }

    /// The oldest DSM it is for: `os_min_ver`, or `firmware` in packages for DSM up to 6.0.
    /// `None` when INFO says neither or something unreadable.
    pub fn os_min(&self) -> Option<OsVersion> {
        self.get("os_min_ver").or(self.get("firmware"))?.parse().ok()
    }

    /// The newest DSM it is for, when INFO sets a limit.
    pub fn os_max(&self) -> Option<OsVersion> {
        self.get("os_max_ver")?.parse().ok()
    }

    /// The name people see, in a three-letter `language` when there is one.
    pub fn displayname(&self, language: &str) -> &str {
        self.localized("displayname", language).unwrap_or_else(|| self.package())
    }

    /// The description, in a three-letter `language` when there is one.
    pub fn description(&self, language: &str) -> &str {
        self.localized("description", language).unwrap_or_default()
    }

    fn localized(&self, key: &str, language: &str) -> Option<&str> {
        self.get(&format!("{key}_{language}")).or_else(|| self.get(key))
    }

    /// Whether a yes-or-no key says yes.
    pub fn says_yes(&self, key: &str, default: bool) -> bool {
        self.get(key).map_or(default, |value| value == "yes")
    }

    /// Whether Package Center shows Run and Stop.
    pub fn is_startable(&self) -> bool {
        self.says_yes("startable", true) && self.says_yes("ctl_stop", true)
    }
}

fn pair(line: &str) -> Option<(&str, &str)> {
    let (key, rest) = line.trim_end_matches('\r').split_once('=')?;
    let value = rest.strip_prefix('"')?.strip_suffix('"')?;
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (!key.is_empty() && key.chars().all(is_word)).then_some((key, value))
}

/// Whether a package's name can be a folder's on a NAS and part of a file's name in a depot. DSM
/// knows packages with a space in their name; those are read, and found fault with.
pub fn name_is_safe(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && !name.starts_with(['.', '-'])
        && name.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = "package=\"demo\"\nversion=\"1.0-0001\"\narch=\"armv7 monaco\"\n\
        os_min_ver=\"7.0-40000\"\ndisplayname=\"Demo\"\ndisplayname_ger=\"Vorführung\"\n";

    #[test]
    fn info_is_read_and_written_back_byte_for_byte() {
        let info = Info::parse(SOUND.as_bytes()).unwrap();
        assert_eq!(info.to_text(), SOUND);
        assert_eq!((info.package(), info.version_text()), ("demo", "1.0-0001"));
        assert_eq!(info.archs(), ["armv7", "monaco"]);
        assert_eq!(info.os_min().unwrap().major(), 7);
        assert_eq!(info.displayname("ger"), "Vorführung");
        assert_eq!(info.displayname("fre"), "Demo");
    }

    #[test]
    fn windows_line_ends_and_blank_lines_are_read() {
        let info = Info::parse(b"package=\"a\"\r\n\r\nversion=\"1-1\"\r\n").unwrap();
        assert_eq!(info.version_text(), "1-1");
        assert_eq!(info.archs(), ["noarch"]);
    }

    #[test]
    fn a_wrong_info_is_refused_with_the_line_or_key_at_fault() {
        let refusal = |text: &str| Info::parse(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(
            refusal("package=\"a\"\nversion=1.0\n"),
            "INFO line 2 is not key=\"value\": `version=1.0`"
        );
        assert_eq!(refusal("package=\"a\"\n"), "INFO has no `version`");
        assert_eq!(refusal("package=\"a\"\npackage=\"b\"\n"), "INFO says `package` twice");
        assert_eq!(refusal("\u{feff}package=\"a\"\n"), "INFO is not UTF-8 text");
        for name in ["../../etc", "", ".hidden", "-rf", "a/b", " a", "a;b", "a\u{202e}b"] {
            let text = format!("package=\"{name}\"\nversion=\"1-1\"\n");
            assert!(refusal(&text).contains("no name for a folder"), "{name:?}");
        }
    }
}
