//! Wizards in a small form: pages that ask, in as many languages as their texts have.
//!
//! ```toml
//! [[wizard.install]]
//! title = { enu = "Version", ger = "Version" }
//!
//! [[wizard.install.ask]]
//! kind = "choice"
//! question = { enu = "Which version does your server need?", ger = "Welche Version?" }
//! options = [
//!     { key = "wizard_ver_370", label = "3.7.0", default = true },
//!     { key = "wizard_ver_364", label = "3.6.4" },
//! ]
//! ```
//!
//! **Invariant:** checked pages have keys a shell can name, each once, and every text in English
//! or in one language for all.

use crate::info::LANGUAGES;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// A wizard with more pages is not one people finish.
pub const PAGES_MAX: usize = 20;

/// Questions on one page.
pub const ASKS_MAX: usize = 40;

/// Options of one question.
pub const OPTIONS_MAX: usize = 100;

/// A text, in one language or in several.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "tool", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Text {
    /// For every language.
    Same(String),
    /// By DSM's three-letter language; `enu` stands in for those that are missing.
    Languages(BTreeMap<String, String>),
}

impl Text {
    /// The text in a language; in English, or whatever there is, when it was not translated.
    pub fn in_language(&self, language: &str) -> &str {
        match self {
            Self::Same(text) => text,
            Self::Languages(texts) => texts
                .get(language)
                .or_else(|| texts.get("enu"))
                .or_else(|| texts.values().next())
                .map_or("", String::as_str),
        }
    }

    /// The languages it is written in; none when it is the same for all.
    pub fn languages(&self) -> impl Iterator<Item = &str> {
        let texts = match self {
            Self::Same(_) => None,
            Self::Languages(texts) => Some(texts),
        };
        texts.into_iter().flat_map(BTreeMap::keys).map(String::as_str)
    }
}

/// A page of a wizard.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "tool", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// Its heading. DSM 5 to 7.
    pub title: Text,
    /// What it asks, from top to bottom. DSM 5 to 7.
    pub ask: Vec<Ask>,
}

/// What kind of question it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "tool", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum AskKind {
    /// Only says something.
    Note,
    /// A line of text.
    Text,
    /// A line of text that is not shown.
    Password,
    /// One of several: each option is a key whose answer is true or false.
    Choice,
    /// Any of several: each option is a key whose answer is true or false.
    Checks,
    /// One of a list: one key, whose answer is the value of an option.
    List,
}

/// A question, or a note.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "tool", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// note, text, password, choice, checks or list. DSM 5 to 7.
    pub kind: AskKind,
    /// The question, or the note; simple HTML is shown as such. DSM 5 to 7.
    pub question: Text,
    /// The environment variable of the answer; for text, password and list. Without it: the
    /// options have their own. DSM 5 to 7.
    pub key: Option<String>,
    /// Words beside the field. Without it: none. DSM 5 to 7.
    pub label: Option<Text>,
    /// The answer that is there already, for text and list. Without it: none. DSM 5 to 7.
    pub default: Option<String>,
    /// A pale example in an empty field. Without it: none. DSM 5 to 7.
    pub hint: Option<Text>,
    /// Whether the field may stay empty. Without it: false. DSM 5 to 7.
    #[serde(default)]
    pub optional: bool,
    /// A regular expression the whole answer must fit. Without it: any text. DSM 5 to 7.
    pub pattern: Option<String>,
    /// What is said about an answer that does not fit. Without it: DSM's own words. DSM 5 to 7.
    pub complaint: Option<Text>,
    /// The shortest answer, in letters (number). Without it: none. DSM 5 to 7.
    pub length_min: Option<u32>,
    /// The longest answer, in letters (number). Without it: none. DSM 5 to 7.
    pub length_max: Option<u32>,
    /// What can be chosen, for choice, checks and list. Without it: nothing. DSM 5 to 7.
    #[serde(default)]
    pub options: Vec<Choice>,
}

/// Something that can be chosen.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "tool", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// Its environment variable, true or false; for choice and checks. Without it: the list has
    /// a key. DSM 5 to 7.
    pub key: Option<String>,
    /// The answer it stands for; for list. Without it: the label. DSM 5 to 7.
    pub value: Option<String>,
    /// What is shown. DSM 5 to 7.
    pub label: Text,
    /// Whether it is chosen already. Without it: false. DSM 5 to 7.
    #[serde(default)]
    pub default: bool,
}

/// What is wrong with a page: the fact and what to write instead.
pub(super) type Wrong = (&'static str, &'static str);

impl Page {
    /// Every text on it.
    pub fn texts(&self) -> impl Iterator<Item = &Text> {
        std::iter::once(&self.title).chain(self.ask.iter().flat_map(Ask::texts))
    }
}

impl Ask {
    fn texts(&self) -> impl Iterator<Item = &Text> {
        let optional = [&self.label, &self.hint, &self.complaint].into_iter().flatten();
        std::iter::once(&self.question)
            .chain(optional)
            .chain(self.options.iter().map(|option| &option.label))
    }

    /// The keys its answers arrive under.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        let of_options = self.options.iter().filter_map(|option| option.key.as_deref());
        self.key.as_deref().into_iter().chain(of_options)
    }

    fn check(&self) -> Result<(), Wrong> {
        let keyed = self.options.iter().filter(|option| option.key.is_some()).count();
        let all = self.options.len();
        match self.kind {
            AskKind::Note if self.key.is_none() && all == 0 => Ok(()),
            AskKind::Note => Err(("a note asks nothing", "leave key and options out")),
            AskKind::Text | AskKind::Password if self.key.is_some() && all == 0 => Ok(()),
            AskKind::Text | AskKind::Password => {
                Err(("a field has a key and no options", "write key = \"wizard_…\""))
            }
            AskKind::Choice | AskKind::Checks if self.key.is_none() && all > 0 && keyed == all => {
                Ok(())
            }
            AskKind::Choice | AskKind::Checks => Err((
                "each option has its own key",
                "write options = [{ key = \"wizard_…\", label = \"…\" }] and no other key",
            )),
            AskKind::List if self.key.is_some() && all > 0 && keyed == 0 => Ok(()),
            AskKind::List => Err((
                "a list has one key, and options with values",
                "write key = \"wizard_…\" and options = [{ value = \"…\", label = \"…\" }]",
            )),
        }
    }
}

/// Looks at the pages of one stage.
pub(super) fn check(pages: &[Page]) -> Result<(), (String, Wrong)> {
    let shown = |text: &Text| text.in_language("enu").to_owned();
    if pages.len() > PAGES_MAX {
        return Err((pages.len().to_string(), ("too many pages", "ask less: 20 are the limit")));
    }
    let mut keys = BTreeSet::new();
    for page in pages {
        if page.ask.is_empty() || page.ask.len() > ASKS_MAX {
            let remedy = "write one to forty [[wizard.….ask]] below each page";
            return Err((shown(&page.title), ("a page without questions, or too many", remedy)));
        }
        for ask in &page.ask {
            ask.check().map_err(|wrong| (shown(&ask.question), wrong))?;
            if ask.options.len() > OPTIONS_MAX {
                return Err((shown(&ask.question), ("too many options", "100 are the limit")));
            }
            if ask.kind == AskKind::Choice && ask.options.iter().filter(|o| o.default).count() > 1 {
                let remedy = "let one option say default = true";
                return Err((shown(&ask.question), ("two options are chosen already", remedy)));
            }
            for key in ask.keys() {
                if !is_variable(key) {
                    let remedy = "begin with wizard_ and use letters, digits and _";
                    return Err((key.into(), ("no shell variable, or one that is taken", remedy)));
                }
                if !keys.insert(key) {
                    return Err((key.into(), ("two questions with one key", "name it anew")));
                }
            }
        }
        for text in page.texts() {
            check_text(text).map_err(|wrong| (shown(text), wrong))?;
        }
    }
    Ok(())
}

fn check_text(text: &Text) -> Result<(), Wrong> {
    if text.in_language("enu").trim().is_empty() {
        return Err(("an empty text", "write something or leave the key out"));
    }
    if text.languages().any(|language| !LANGUAGES.contains(&language)) {
        return Err(("no DSM language", "use three-letter codes, such as enu, ger, fre, jpn"));
    }
    Ok(())
}

/// Names the scripts need for themselves; a wizard's answer must not take their place.
const TAKEN: [&str; 8] = ["PATH", "HOME", "IFS", "ENV", "PWD", "SHELL", "USER", "LD_PRELOAD"];

fn is_variable(key: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    key.len() <= 64
        && key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && key.chars().all(is_word)
        && !TAKEN.contains(&key)
        && !["SYNOPKG_", "LD_", "HOLDFAST_"].iter().any(|start| key.starts_with(start))
}
