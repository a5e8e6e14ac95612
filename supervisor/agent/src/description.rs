//! `conf/daemon.toml`: the daemon a package wraps, as its `package.toml` describes it.
//!
//! Nothing here knows which daemon it is. Reading is strict: a key nobody knows is refused, because
//! a misspelt `stop_seconds_max` would be found out on the day a NAS is switched off.

use crate::problem::{Problem, Result};
use nix::sys::signal::Signal;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the description is in a payload.
pub const DESCRIPTION_PATH: &str = "conf/daemon.toml";

const DESCRIPTION_BYTES_MAX: u64 = 64 * 1024;

/// The longest time a description may ask for.
const SECONDS_MAX: u64 = 3600;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DescriptionFile {
    daemon: Description,
}

/// One daemon.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// The program and its arguments, with placeholders.
    command: Vec<String>,
    /// How it says that it is ready.
    #[serde(default)]
    pub ready: Readiness,
    /// With `ready = "alive"`: how long it must live to count as ready.
    #[serde(default = "one")]
    ready_seconds: u64,
    /// How long it may take to become ready.
    #[serde(default = "sixty")]
    ready_seconds_max: u64,
    #[serde(default = "term")]
    stop_signal: String,
    #[serde(default = "twenty")]
    stop_seconds_max: u64,
    log_path: Option<String>,
    /// Whether copies of an identity are kept for it.
    #[serde(default)]
    pub identity: bool,
    /// Its `nice` value.
    #[serde(default)]
    pub nice: i32,
    /// Whether its disk accesses wait for everybody else's.
    #[serde(default)]
    pub idle_io: bool,
    /// Exit code that means: the settings are wrong.
    #[serde(default = "configuration")]
    pub exit_configuration: i32,
    /// Exit code that means: somebody else holds what it needs.
    pub exit_lock_held: Option<i32>,
    /// What is run now and then to see whether the daemon works; empty: nothing.
    #[serde(default)]
    health_command: Vec<String>,
    /// How often. Each run wakes the box.
    #[serde(default = "three_hundred")]
    health_seconds: u64,
    /// How long one run may take.
    #[serde(default = "thirty")]
    health_seconds_max: u64,
    /// After how many failures in a row the daemon counts as hung.
    #[serde(default = "three")]
    health_failures_max: u32,
    /// How long the daemon may write nothing into `{ready_fd}` once it was ready; 0: for ever.
    #[serde(default)]
    heartbeat_seconds_max: u64,
    /// How often the depot is asked for a newer version, once one was named; 0: never.
    #[serde(default = "a_day")]
    update_seconds: u64,
    /// How long a new version from the depot is watched before it is kept.
    #[serde(default = "six_hundred")]
    probation_seconds: u64,
    /// What is run once to see whether a new version works on this processor.
    #[serde(default)]
    self_test: Vec<String>,
    /// The names in `var` that are its state, which a version taken back must not have changed;
    /// without it, all but logs and caches.
    pub state: Option<Vec<String>>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    /// What the wizard's answers must look like.
    #[serde(default)]
    pub wizard: BTreeMap<String, AnswerKind>,
}

/// How a daemon says that it is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Readiness {
    /// A newline arrives on the descriptor `{ready_fd}`.
    Descriptor,
    /// It is still alive after `ready_seconds`.
    #[default]
    Alive,
}

/// What an answer of the wizard must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AnswerKind {
    /// An absolute path without `..`.
    Path,
    /// A computer's GUID, to be adopted.
    Guid,
    /// A whole number.
    Number,
    /// `true` or `false`.
    YesNo,
    /// One line of text.
    Text,
}

fn one() -> u64 {
    1
}
fn twenty() -> u64 {
    20
}
fn sixty() -> u64 {
    60
}
fn three() -> u32 {
    3
}
fn thirty() -> u64 {
    30
}
fn three_hundred() -> u64 {
    300
}
fn a_day() -> u64 {
    24 * 3600
}
fn six_hundred() -> u64 {
    600
}
fn term() -> String {
    "TERM".to_owned()
}
fn configuration() -> i32 {
    78
}

/// What the placeholders stand for.
#[derive(Debug, Clone)]
pub struct Filling<'a> {
    /// `{target}`
    pub target: &'a Path,
    /// `{var}`
    pub var: &'a Path,
    /// `{memory_bytes}`
    pub memory_bytes: u64,
}

impl Description {
    /// Reads the description below a payload.
    pub fn of(payload: &Path) -> Result<Self> {
        use std::io::Read;
        let path = payload.join(DESCRIPTION_PATH);
        let reinstall = "repair or reinstall the package in Package Center";
        let cannot = |cause: std::io::Error| {
            Problem::new(format!("cannot read {}", path.display())).because(cause).remedy(reinstall)
        };
        let file = std::fs::File::open(&path).map_err(cannot)?;
        let mut text = String::new();
        file.take(DESCRIPTION_BYTES_MAX).read_to_string(&mut text).map_err(cannot)?;
        Self::from_text(&text).map_err(|why| {
            Problem::new(format!("{} does not describe a daemon: {why}", path.display()))
                .remedy("correct the table [daemon] in package.toml and build the package again")
        })
    }

    /// Reads a description, or says in one sentence what is wrong with it.
    fn from_text(text: &str) -> Result<Self, String> {
        let file: DescriptionFile = toml::from_str(text).map_err(|error| {
            let line = error.span().map(|span| text[..span.start].matches('\n').count() + 1);
            let message = error.message().replace('\n', ", ");
            line.map_or(message.clone(), |line| format!("line {line}: {message}"))
        })?;
        let description = file.daemon;
        description.check()?;
        Ok(description)
    }

    fn check(&self) -> Result<(), String> {
        if self.command.is_empty() {
            return Err("`command` is empty".to_owned());
        }
        let seconds = [
            ("ready_seconds", self.ready_seconds),
            ("ready_seconds_max", self.ready_seconds_max),
            ("stop_seconds_max", self.stop_seconds_max),
            ("probation_seconds", self.probation_seconds),
            ("health_seconds", self.health_seconds),
            ("health_seconds_max", self.health_seconds_max),
            ("heartbeat_seconds_max", self.heartbeat_seconds_max),
        ];
        if let Some((key, value)) = seconds.iter().find(|(_, value)| *value > SECONDS_MAX) {
            return Err(format!("`{key}` is {value}; at most {SECONDS_MAX} seconds make sense"));
        }
        if self.health_seconds == 0 || self.health_failures_max == 0 {
            return Err("`health_seconds` and `health_failures_max` are at least 1".to_owned());
        }
        if !(0..=19).contains(&self.nice) {
            return Err(format!("`nice` is {}; it is a number from 0 to 19", self.nice));
        }
        signal_named(&self.stop_signal)
            .ok_or_else(|| format!("`stop_signal` is {:?}; no such signal", self.stop_signal))?;
        let any = Filling { target: Path::new(""), var: Path::new(""), memory_bytes: 0 };
        let commands = self.command.iter().chain(&self.self_test).chain(&self.health_command);
        let texts = commands.chain(self.environment.values()).chain(&self.log_path);
        for text in texts {
            fill(text, &any)?;
        }
        for name in self.environment.keys() {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            if name.is_empty() || !name.bytes().all(plain) {
                return Err(format!("{name:?} cannot be the name of an environment variable"));
            }
        }
        Ok(())
    }

    /// The program and its arguments.
    pub fn command(&self, filling: &Filling<'_>) -> Vec<OsString> {
        self.command.iter().filter_map(|text| fill(text, filling).ok()).map(Into::into).collect()
    }

    /// What is run once to see whether a new version works here; empty: nothing.
    pub fn self_test(&self, filling: &Filling<'_>) -> Vec<OsString> {
        self.self_test.iter().filter_map(|text| fill(text, filling).ok()).map(Into::into).collect()
    }

    /// What is run to see whether the daemon works.
    pub fn health_command(&self, filling: &Filling<'_>) -> Vec<OsString> {
        let filled = self.health_command.iter().filter_map(|text| fill(text, filling).ok());
        filled.map(Into::into).collect()
    }

    /// How often that is run; `None`: never.
    pub fn health_every(&self) -> Option<Duration> {
        (!self.health_command.is_empty()).then(|| Duration::from_secs(self.health_seconds))
    }

    /// How long one run may take.
    pub fn health_max(&self) -> Duration {
        Duration::from_secs(self.health_seconds_max)
    }

    /// After how many failures in a row the daemon counts as hung.
    pub fn health_failures_max(&self) -> u32 {
        self.health_failures_max
    }

    /// How long the daemon may give no sign of life; `None`: for ever.
    pub fn heartbeat_max(&self) -> Option<Duration> {
        let is_asked_for = self.heartbeat_seconds_max > 0;
        is_asked_for.then(|| Duration::from_secs(self.heartbeat_seconds_max))
    }

    /// How often the depot is asked; `None`: never.
    pub fn update_every(&self) -> Option<Duration> {
        (self.update_seconds > 0).then(|| Duration::from_secs(self.update_seconds))
    }

    /// How long a new version is watched before it is kept.
    pub fn probation(&self) -> Duration {
        Duration::from_secs(self.probation_seconds)
    }

    /// The variables the daemon gets beside the few that every program needs.
    pub fn environment(&self, filling: &Filling<'_>) -> Vec<(String, OsString)> {
        let filled = |(name, text): (&String, &String)| {
            Some((name.clone(), fill(text, filling).ok()?.into()))
        };
        self.environment.iter().filter_map(filled).collect()
    }

    /// Where the daemon keeps the log that people should read.
    pub fn log_path(&self, filling: &Filling<'_>) -> Option<PathBuf> {
        fill(self.log_path.as_ref()?, filling).ok().map(PathBuf::from)
    }

    /// How long it may take to become ready; after this `start` reports a failure.
    pub fn ready_max(&self) -> Duration {
        match self.ready {
            Readiness::Descriptor => Duration::from_secs(self.ready_seconds_max),
            Readiness::Alive => self.alive_for().max(Duration::from_secs(self.ready_seconds_max)),
        }
    }

    /// How long it must live to count as ready.
    pub fn alive_for(&self) -> Duration {
        Duration::from_secs(self.ready_seconds)
    }

    /// How long it may take to stop.
    pub fn stop_max(&self) -> Duration {
        Duration::from_secs(self.stop_seconds_max)
    }

    /// The signal that asks it to stop.
    pub fn stop_signal(&self) -> Signal {
        signal_named(&self.stop_signal).unwrap_or(Signal::SIGTERM)
    }
}

fn signal_named(name: &str) -> Option<Signal> {
    let bare = name.strip_prefix("SIG").unwrap_or(name);
    let known = ["TERM", "INT", "QUIT", "HUP", "USR1", "USR2"];
    known.contains(&bare).then(|| format!("SIG{bare}").parse().ok())?
}

/// Replaces the placeholders; a brace that is none is refused.
fn fill(text: &str, filling: &Filling<'_>) -> Result<String, String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        filled.push_str(&rest[..at]);
        let (name, after) = rest[at..]
            .strip_prefix('{')
            .and_then(|inner| inner.split_once('}'))
            .ok_or_else(|| format!("a brace in {text:?} has no partner"))?;
        match name {
            "target" => filled.push_str(&filling.target.to_string_lossy()),
            "var" => filled.push_str(&filling.var.to_string_lossy()),
            "memory_bytes" => filled.push_str(&filling.memory_bytes.to_string()),
            "ready_fd" => filled.push_str(&supervisor_dsm::launch::READY_DESCRIPTOR.to_string()),
            "lock_fd" => filled.push_str(&supervisor_dsm::launch::LOCK_DESCRIPTOR.to_string()),
            _ => {
                return Err(format!(
                    "{{{name}}} in {text:?} stands for nothing; there are {{target}}, {{var}}, \
                     {{memory_bytes}}, {{ready_fd}} and {{lock_fd}}"
                ));
            }
        }
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENGINE: &str = r#"
        [daemon]
        command = ["{target}/bin/holdfast", "daemon", "--home", "{var}"]
        ready = "descriptor"
        ready_seconds_max = 60
        stop_signal = "TERM"
        stop_seconds_max = 20
        log_path = "{var}/log/history.log"
        identity = true
        [daemon.environment]
        HOLDFAST_MEMORY_BYTES = "{memory_bytes}"
        HOLDFAST_READY_FD = "{ready_fd}"
        HOLDFAST_LOCK_FD = "{lock_fd}"
    "#;

    fn filling() -> Filling<'static> {
        Filling { target: Path::new("/t"), var: Path::new("/v"), memory_bytes: 7 }
    }

    #[test]
    fn a_description_is_filled_in_with_what_is_known_only_on_the_nas() {
        let daemon = Description::from_text(ENGINE).unwrap();
        assert_eq!(daemon.command(&filling()), ["/t/bin/holdfast", "daemon", "--home", "/v"]);
        let environment = daemon.environment(&filling());
        assert!(environment.contains(&("HOLDFAST_MEMORY_BYTES".to_owned(), "7".into())));
        assert!(environment.contains(&("HOLDFAST_LOCK_FD".to_owned(), "4".into())));
        assert_eq!(daemon.log_path(&filling()), Some("/v/log/history.log".into()));
    }

    #[test]
    fn two_lines_describe_a_foreign_daemon() {
        let daemon = Description::from_text("[daemon]\ncommand = [\"/bin/sleep\", \"9\"]").unwrap();
        assert_eq!(daemon.ready, Readiness::Alive);
        assert_eq!(daemon.stop_max(), Duration::from_secs(20));
        assert!(!daemon.identity);
    }

    #[test]
    fn what_is_wrong_is_said_in_a_sentence_with_its_line() {
        for (text, sentence) in [
            ("[daemon]\ncommand = []", "`command` is empty"),
            ("[daemon]\ncommand=[\"x\"]\nstop_second_max=3", "line 3: unknown field"),
            ("[daemon]\ncommand=[\"{vra}/x\"]", "{vra} in \"{vra}/x\" stands for nothing"),
            ("[daemon]\ncommand=[\"{var\"]", "has no partner"),
            ("[daemon]\ncommand=[\"x\"]\nstop_signal=\"KILL\"", "no such signal"),
            ("[daemon]\ncommand=[\"x\"]\nnice=-5", "from 0 to 19"),
            ("[daemon]\ncommand=[\"x\"]\nready_seconds_max=99999", "at most 3600"),
            ("[daemon]\ncommand=[\"x\"]\n[daemon.environment]\n\"A=B\"=\"\"", "cannot be the name"),
            ("command=[\"x\"]", "unknown field `command`"),
        ] {
            let said = Description::from_text(text).unwrap_err();
            assert!(said.contains(sentence), "{text}: {said}");
            assert!(!said.contains('\n'), "{said}");
        }
    }
}
