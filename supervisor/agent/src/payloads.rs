//! Which payload runs: the one the package brought, or a newer one from the depot in a slot.
//!
//! ```text
//! var/update/record.json   how far an update is; every phase one synced record
//! var/update/state-V/      the daemon's state as it was before version V first ran
//! var/slots/V/             the payload of version V, as it would be in the target
//! ```
//!
//! What the package brought is the floor: a slot counts only while it is newer. So a reinstallation
//! with an older payload keeps the newer one that was verified, and a newer package ends a slot.
//! Phases and what they lead to are `lifecycle`'s; here they are carried out.

use crate::description::Description;
use crate::installation::Installation;
use crate::problem::{Problem, Result};
use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;
use supervisor_dsm::lock::TurnLock;
use supervisor_dsm::{Folder, Kind, clock, tree};
use supervisor_lifecycle::update::{Action, Event, Phase, Progress};
use supervisor_trust::compare_versions;

const RECORD: &str = "record.json";
const RECORD_BYTES_MAX: u64 = 64 * 1024;

/// A turn takes moments.
const TURN_PATIENCE: Duration = Duration::from_secs(60);

/// No more versions are remembered as refused; the oldest are forgotten first.
const REFUSED_MAX: usize = 64;

/// Never part of the daemon's state: the supervisor's own, and the identity, which has a
/// generation of its own.
const NEVER_STATE: [&str; 7] = ["run", "log", "update", "slots", "trust", "identity", "cache"];

/// A version on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Which one.
    pub version: String,
    /// Its file's name, as it was signed.
    pub file: String,
    /// Its length in bytes, as it was signed.
    pub length: u64,
    /// Its SHA-256, as it was signed, in hex.
    pub sha256: String,
}

/// Everything that is known about updates of this package.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpdateRecord {
    phase: String,
    tries_left: u32,
    /// The version on its way.
    pub candidate: Option<Candidate>,
    /// The version in a slot that proved itself; none: what the package brought.
    pub current: Option<String>,
    /// What was used before it.
    pub previous: Option<String>,
    /// Versions that are never taken again by themselves.
    pub refused: Vec<String>,
    /// Those of them that came since the record was read.
    #[serde(skip)]
    refused_now: Vec<String>,
    /// Whether the owner wants no updates.
    pub hold: bool,
    /// The one version that may be installed, while the owner wants no other.
    pub pin: Option<String>,
    /// The depot that was last named.
    pub depot: Option<String>,
    /// The channel that was last named.
    pub channel: Option<String>,
    /// What happened last, in a sentence, with its time.
    pub last: Option<String>,
}

impl UpdateRecord {
    /// The record; an empty one when there is none that can be read.
    pub fn read(installation: &Installation) -> Self {
        let read = || {
            let folder = installation.package.open_var().ok()?.inner("update").ok()?;
            serde_json::from_slice(&folder.read(RECORD, RECORD_BYTES_MAX).ok()??).ok()
        };
        read().unwrap_or_default()
    }

    /// Puts the record in place, so that it lasts through a power cut. What the owner wished
    /// meanwhile stays: a download takes hours.
    pub fn write(&self, installation: &Installation) -> Result<()> {
        let updates = update_folder(installation)?;
        let _turn = turn(&updates)?;
        let there = Self::read(installation);
        let mut whole = Self { hold: there.hold, pin: there.pin, ..self.clone() };
        whole.refused = there.refused;
        self.refused_now.iter().for_each(|version| whole.add_refused(version));
        whole.put(&updates)
    }

    /// Changes what the owner wishes, whatever else is going on.
    pub fn change(installation: &Installation, change: impl FnOnce(&mut Self)) -> Result<()> {
        let updates = update_folder(installation)?;
        let _turn = turn(&updates)?;
        let mut record = Self::read(installation);
        change(&mut record);
        record.put(&updates)
    }

    fn put(&self, updates: &Folder) -> Result<()> {
        let bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        Ok(updates.write(RECORD, &bytes, 0o600)?)
    }

    /// How far the update is.
    pub fn progress(&self) -> Progress {
        let phase = Phase::from_word(&self.phase).unwrap_or(Phase::Idle);
        Progress { phase, tries_left: self.tries_left }
    }

    /// Takes in what an event led to.
    pub fn set(&mut self, progress: Progress) {
        progress.phase.word().clone_into(&mut self.phase);
        self.tries_left = progress.tries_left;
        if progress.phase == Phase::Idle {
            self.candidate = None;
        }
    }

    /// Never takes this version again by itself.
    pub fn refuse(&mut self, version: &str) {
        self.add_refused(version);
        self.refused_now.push(version.to_owned());
    }

    fn add_refused(&mut self, version: &str) {
        if !self.refused.iter().any(|refused| refused == version) {
            self.refused.push(version.to_owned());
        }
        let too_many = self.refused.len().saturating_sub(REFUSED_MAX);
        self.refused.drain(..too_many);
    }

    /// Remembers what happened, for the owner.
    pub fn tell(&mut self, sentence: &str) {
        self.last = Some(format!("{} {sentence}", clock::local(clock::now_seconds())));
    }

    /// Whether the owner refused it, or wants only another.
    fn is_unwanted(&self, version: &str) -> bool {
        let is_another = |pin: &String| compare_versions(pin, version).is_ne();
        self.pin.as_ref().is_some_and(is_another) || self.refused.iter().any(|it| it == version)
    }

    fn version_in_use(&self) -> Option<&str> {
        match &self.candidate {
            Some(candidate) if self.progress().phase.is_in_use() => Some(&candidate.version),
            _ => self.current.as_deref(),
        }
    }
}

/// Whoever changes the record, or tidies up beside it, has the folder for a moment.
fn turn(updates: &Folder) -> Result<TurnLock> {
    TurnLock::of_folder(updates, TURN_PATIENCE)?.ok_or_else(|| {
        Problem::new("another command about updates does not come to an end")
            .remedy("wait a minute and try again")
    })
}

/// The folder of the record; made when missing.
pub fn update_folder(installation: &Installation) -> Result<Folder> {
    Ok(installation.package.open_or_make_var()?.inner_or_make("update", 0o700)?)
}

/// The folder of slots; made when missing.
pub fn slots(installation: &Installation) -> Result<Folder> {
    Ok(installation.package.open_or_make_var()?.inner_or_make("slots", 0o755)?)
}

/// The version that runs, or would, and its slot, when it is not what the package brought.
pub fn slot_in_use(installation: &Installation) -> Option<(String, PathBuf)> {
    let record = UpdateRecord::read(installation);
    let version = record.version_in_use()?;
    if !is_newer_than_the_package(installation, version) {
        return None;
    }
    let slots = installation.package.open_var().ok()?.inner("slots").ok()?;
    let slot = slots.inner(version).ok()?;
    Some((version.to_owned(), slot.path().to_owned()))
}

/// Whether the package brought something older.
pub fn is_newer_than_the_package(installation: &Installation, version: &str) -> bool {
    let bundled = installation.package.info_version();
    bundled.is_none_or(|bundled| compare_versions(version, &bundled).is_gt())
}

/// The version that runs, or would.
pub fn running_version(installation: &Installation) -> Option<String> {
    slot_in_use(installation)
        .map(|(version, _)| version)
        .or_else(|| installation.package.info_version())
}

/// Decides which payload the start that follows uses; says so when it is news.
pub fn before_start(installation: &Installation) -> Result<Option<String>> {
    let mut record = UpdateRecord::read(installation);
    let Some(candidate) = record.candidate.clone() else { return Ok(None) };
    let version = candidate.version;
    let is_unwanted = record.is_unwanted(&version) && !record.progress().phase.is_in_use();
    if is_unwanted || !is_newer_than_the_package(installation, &version) {
        record.set(record.progress().on(Event::Revoked).0);
        record.tell(&match is_unwanted {
            true => format!("{version} was fetched, and is not wanted any more"),
            false => format!("the package itself is not older than {version}"),
        });
        record.write(installation)?;
        clean(installation, &record)?;
        return Ok(record.last);
    }
    let (next, action) = record.progress().on(Event::Starting);
    match action {
        Action::KeepStateAndSwitch => {
            keep_state(installation, &version)?;
            record.set(next);
            record.tell(&format!("{version} is tried"));
            record.write(installation)?;
            Ok(record.last)
        }
        Action::Retry => {
            record.set(next);
            record.write(installation)?;
            Ok(None)
        }
        Action::RollBack => roll_back(installation, &mut record, "it did not stay alive").map(Some),
        _ => Ok(None),
    }
}

/// The daemon is ready. Whether it is on probation now.
pub fn ready(installation: &Installation) -> Result<bool> {
    note(installation, Event::Ready).map(|phase| phase == Phase::Probation)
}

/// The owner stopped the daemon.
pub fn stopped(installation: &Installation) -> Result<()> {
    note(installation, Event::Stopped).map(drop)
}

/// Whether the daemon that runs has yet to prove itself.
pub fn is_on_trial(installation: &Installation) -> bool {
    UpdateRecord::read(installation).progress().phase.is_in_use()
}

fn note(installation: &Installation, event: Event) -> Result<Phase> {
    let mut record = UpdateRecord::read(installation);
    let (next, _) = record.progress().on(event);
    if next != record.progress() && record.candidate.is_some() {
        record.set(next);
        record.write(installation)?;
    }
    Ok(record.progress().phase)
}

/// The daemon was healthy for the whole of its probation: it is kept.
pub fn prove(installation: &Installation) -> Result<Option<String>> {
    let mut record = UpdateRecord::read(installation);
    let (next, action) = record.progress().on(Event::Proved);
    let (Action::Commit, Some(candidate)) = (action, record.candidate.clone()) else {
        return Ok(None);
    };
    record.previous = record.current.replace(candidate.version.clone());
    record.set(next);
    record.tell(&format!("{} proved itself and is kept", candidate.version));
    record.write(installation)?;
    clean(installation, &record)?;
    Ok(record.last)
}

/// Goes back to what ran before a version on trial, with the state it had.
pub fn roll_back(
    installation: &Installation,
    record: &mut UpdateRecord,
    why: &str,
) -> Result<String> {
    let Some(candidate) = record.candidate.clone() else { return Ok(String::new()) };
    // First the state, then the record: a cut in between restores it once more.
    restore_state(installation, &candidate.version)?;
    let (next, _) = record.progress().on(Event::Revoked);
    record.set(next);
    record.refuse(&candidate.version);
    let back = record.current.clone().or_else(|| installation.package.info_version());
    let back = back.unwrap_or_else(|| "what the package brought".to_owned());
    record.tell(&format!("went back from {} to {back}: {why}", candidate.version));
    record.write(installation)?;
    clean(installation, record)?;
    Ok(record.last.clone().unwrap_or_default())
}

/// Deletes slots, downloads and kept states that nothing leads to any more.
pub fn clean(installation: &Installation, record: &UpdateRecord) -> Result<()> {
    let wanted = [
        record.candidate.as_ref().map(|candidate| candidate.version.as_str()),
        record.current.as_deref(),
        record.previous.as_deref(),
    ];
    let is_wanted = |name: &OsString| wanted.iter().flatten().any(|wanted| name == wanted);
    let slots = slots(installation)?;
    for name in slots.names()?.iter().filter(|name| !is_wanted(name)) {
        tree::delete(&slots, &name.to_string_lossy())?;
    }
    let updates = update_folder(installation)?;
    // Or what somebody is just writing would be tidied away.
    let _turn = turn(&updates)?;
    let states: Vec<OsString> =
        wanted[..2].iter().flatten().map(|version| state_name(version).into()).collect();
    for name in updates.names()? {
        let is_of_use = name == RECORD
            || name == crate::install::TURN
            || states.contains(&name)
            || (record.candidate.is_some() && name == crate::install::DOWNLOAD);
        if !is_of_use {
            tree::delete(&updates, &name.to_string_lossy())?;
        }
    }
    Ok(())
}

fn state_name(version: &str) -> String {
    format!("state-{version}")
}

/// The names in `var` that are the daemon's state.
fn state_names(installation: &Installation, var: &Folder) -> Result<Vec<OsString>> {
    let listed = installation.description().ok().and_then(|description| description.state);
    let is_state = |name: &OsString| match &listed {
        Some(listed) => listed.iter().any(|listed| name == listed.as_str()),
        None => !NEVER_STATE.iter().any(|never| name == never),
    };
    let hidden = |name: &OsString| name.to_str().is_none_or(|name| name.starts_with('.'));
    Ok(var.names()?.into_iter().filter(|name| is_state(name) && !hidden(name)).collect())
}

/// Copies the daemon's state to where a version that goes wrong cannot reach it.
fn keep_state(installation: &Installation, version: &str) -> Result<()> {
    let var = installation.package.open_or_make_var()?;
    let updates = update_folder(installation)?;
    let name = state_name(version);
    let unfinished = format!("{name}.unfinished");
    tree::delete(&updates, &unfinished)?;
    tree::delete(&updates, &name)?;
    let kept = updates.inner_or_make(&unfinished, 0o700)?;
    for entry in state_names(installation, &var)? {
        tree::copy_whole(&var, &entry, &kept)?;
    }
    kept.sync()?;
    updates.move_to(OsStr::new(&unfinished), &updates, OsStr::new(&name))?;
    Ok(updates.sync()?)
}

/// Puts the state back as it was. What the new version made is kept aside until it is all done.
fn restore_state(installation: &Installation, version: &str) -> Result<()> {
    let var = installation.package.open_or_make_var()?;
    let updates = update_folder(installation)?;
    let name = state_name(version);
    if updates.kind(&name)? != Kind::Folder {
        return Ok(());
    }
    let kept = updates.inner(&name)?;
    let aside = updates.inner_or_make("of-the-refused", 0o700)?;
    for entry in state_names(installation, &var)? {
        tree::delete(&aside, &entry.to_string_lossy())?;
        tree::carry(&var, &entry, &aside, &entry)?;
    }
    for entry in kept.names()? {
        tree::copy_whole(&kept, &entry, &var)?;
    }
    Ok(var.sync()?)
}

/// Goes back by hand to what ran before the current version. The daemon's state stays as it is,
/// unless it is asked for as it was before the current version first ran.
pub fn go_back(installation: &Installation, with_state: bool) -> Result<String> {
    let mut record = UpdateRecord::read(installation);
    if record.progress().phase.is_in_use() {
        return roll_back(installation, &mut record, "its owner asked for it");
    }
    let Some(current) = record.current.clone() else {
        return Err(Problem::new("there is nothing to go back to: no update was installed")
            .remedy("for an older package, install it by hand in Package Center"));
    };
    if with_state {
        restore_state(installation, &current)?;
    }
    record.set(record.progress().on(Event::Revoked).0);
    let previous = record.previous.take();
    record.current = previous.filter(|version| is_newer_than_the_package(installation, version));
    record.refuse(&current);
    let back = record.current.clone().or_else(|| installation.package.info_version());
    let back = back.unwrap_or_else(|| "what the package brought".to_owned());
    record.tell(&format!("went back from {current} to {back}: its owner asked for it"));
    record.write(installation)?;
    clean(installation, &record)?;
    Ok(record.last.unwrap_or_default())
}

/// The description in a slot, or why it is none.
pub fn description_in(slot: &Folder) -> Result<Description> {
    Description::of(slot.path())
}
