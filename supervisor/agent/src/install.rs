//! `update install`: a newer version from the depot, step by step, each step recorded.
//!
//! The package file is fetched (and goes on where it was cut off), compared with what was signed,
//! unpacked into a fresh slot by the packager's own bounded unpacker, and its programs are run once
//! on this very processor. Only then is the daemon stopped and started with it; from there on the
//! supervisor watches it and takes it back by itself.

use crate::installation::Installation;
use crate::payloads::{self, Candidate, UpdateRecord};
use crate::problem::{Problem, Result};
use crate::room;
use crate::service;
use crate::update::{Asked, Found, failed, find};
use nix::fcntl::OFlag;
use spk::extract::ExtractError;
use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;
use supervisor_dsm::launch::PROGRAM_FOLDERS;
use supervisor_dsm::lock::TurnLock;
use supervisor_dsm::process::wait_until;
use supervisor_dsm::{DsmError, Folder, tree};
use supervisor_fetch::{FetchError, Source};
use supervisor_lifecycle::update::{Event, Phase};
use supervisor_trust::{TargetFile, compare_versions};

/// The package file while it is fetched, in `var/update`.
pub const DOWNLOAD: &str = "download.spk";

/// Makes updates wait for each other.
pub const TURN: &str = "turn.lock";

/// Where the package's own members go while it is unpacked.
const OUTER: &str = "unpacked";

/// A slot until it is whole.
const NEW_SLOT: &str = ".new";

/// A larger package is not fetched.
const PACKAGE_BYTES_MAX: u64 = 1 << 30;

/// The whole download may take no longer; the next try goes on where it ended.
const DOWNLOAD_SECONDS_MAX: u64 = 6 * 3600;

/// A program may take no longer to answer when it is tried.
const TEST_SECONDS_MAX: u64 = 60;

/// How long a daemon that is on trial may need to be kept alive or taken back.
const SETTLE_SECONDS_MAX: u64 = 300;

/// Installs the newest version, as far as it is not installed yet; a sentence for the owner.
pub fn install(installation: &Installation, asked: &Asked, automatic: bool) -> Result<String> {
    let updates = payloads::update_folder(installation)?;
    let Some(_turn) = TurnLock::take(&updates, TURN, Duration::ZERO)? else {
        return Err(Problem::new("another update is being installed")
            .remedy("wait for it; update show tells how far it is"));
    };
    let mut record = UpdateRecord::read(installation);
    if record.progress().phase.is_in_use() {
        return Ok(record.last.unwrap_or_else(|| "an update is on trial".to_owned()));
    }
    if record.hold && automatic {
        return Ok("updates are on hold".to_owned());
    }
    let asked = asked.or_as_before(&record);
    let running = payloads::running_version(installation);
    if let (Some(pin), Some(running)) = (&record.pin, &running)
        && compare_versions(pin, running).is_eq()
    {
        let told = format!("{running} runs, and is pinned: no other is installed");
        // What was named is remembered for the day on which the pin is taken out.
        record.depot = asked.depot;
        record.channel = Some(asked.channel);
        record.write(installation)?;
        return Ok(told);
    }
    let found = find(installation, &asked)?;
    record.depot.clone_from(&asked.depot);
    record.channel = Some(asked.channel.clone());
    if let Some(nothing) = choose(installation, &mut record, &found)? {
        return Ok(nothing);
    }
    loop {
        // An owner who thinks better of it while it is fetched is heard, too.
        if automatic && UpdateRecord::read(installation).hold {
            return Ok("updates are on hold".to_owned());
        }
        match record.progress().phase {
            Phase::Fetching => fetch(installation, &mut record, &asked, &found)?,
            Phase::Fetched => unpack(installation, &mut record)?,
            Phase::Staged => test(installation, &mut record)?,
            _ => break,
        }
    }
    switch(installation)
}

/// Compares what the depot offers with what there is, and records what is to be fetched. A
/// sentence when there is nothing to do.
fn choose(
    installation: &Installation,
    record: &mut UpdateRecord,
    found: &Found,
) -> Result<Option<String>> {
    let known = record.candidate.as_ref().map(|candidate| candidate.sha256.clone());
    if known == Some(found.hash.to_hex()) {
        // The same as before the cut.
        return Ok(None);
    }
    if known.is_some() {
        // It was withdrawn, or there is a newer one.
        record.set(record.progress().on(Event::Revoked).0);
        payloads::clean(installation, record)?;
    }
    let running = payloads::running_version(installation);
    let version = &found.version;
    let is_newer =
        running.as_deref().is_none_or(|running| compare_versions(version, running).is_gt());
    let nothing = match (&running, &record.pin) {
        _ if record.refused.contains(version) => {
            Some(format!("{version} is the newest, and was refused: see update show"))
        }
        (Some(running), Some(pin)) if !is_newer => {
            Some(format!("{running} runs, and {pin} is pinned: update roll-back goes back"))
        }
        (Some(running), None) if !is_newer => Some(format!("{running} is the newest")),
        _ => None,
    };
    if nothing.is_none() {
        if found.length > PACKAGE_BYTES_MAX || !is_one_part(version) {
            return Err(Problem::new(format!("the depot's {version} is not taken"))
                .remedy("its file is larger than 1 GiB, or its version cannot name a folder"));
        }
        record.candidate = Some(Candidate {
            version: version.clone(),
            file: found.file.clone(),
            length: found.length,
            sha256: found.hash.to_hex(),
        });
        record.set(record.progress().on(Event::Chosen).0);
    }
    record.write(installation)?;
    Ok(nothing)
}

fn is_one_part(version: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte);
    !version.is_empty()
        && version.len() <= 100
        && !version.starts_with('.')
        && version.bytes().all(fits)
}

fn candidate(record: &UpdateRecord) -> Result<Candidate> {
    record.candidate.clone().ok_or_else(|| Problem::new("no update is on its way"))
}

fn fetch(
    installation: &Installation,
    record: &mut UpdateRecord,
    asked: &Asked,
    found: &Found,
) -> Result<()> {
    let candidate = candidate(record)?;
    let updates = payloads::update_folder(installation)?;
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_APPEND;
    let mut kept = updates.open_file(DOWNLOAD, flags, 0o600)?;
    let kept_bytes = kept.metadata().map_or(0, |meta| meta.len());
    // Once as it is fetched, and once taken apart.
    let missing = (candidate.length * 2).saturating_sub(kept_bytes);
    room::must_be_for("the update's file", missing, &updates)?;
    let mut sink = updates.open_file(DOWNLOAD, flags, 0o600)?;
    let file = TargetFile { length: candidate.length, hash: found.hash, custom: None };
    let depot = asked.depot.as_deref().unwrap_or_default().trim_end_matches('/');
    let source = Source::at(&format!("{depot}/packages")).map_err(failed)?;
    let target = (candidate.file.as_str(), &file, found.consistent_snapshot);
    let done = crate::update::block_on(DOWNLOAD_SECONDS_MAX, async {
        Ok(source.download_rest(target, &mut kept, &mut sink).await)
    })?;
    match done {
        Ok(()) => {
            sink.sync_all()
                .map_err(|error| Problem::new("cannot keep what was fetched").because(error))?;
            updates.sync()?;
            record.set(record.progress().on(Event::Fetched).0);
            record.write(installation)
        }
        Err(error @ FetchError::Untrusted(_)) => {
            updates.remove_file(DOWNLOAD)?;
            record.set(record.progress().on(Event::Unfit).0);
            record.write(installation)?;
            Err(failed(error))
        }
        // What came so far stays: the next try goes on there.
        Err(error) => Err(failed(error)),
    }
}

fn unpack(installation: &Installation, record: &mut UpdateRecord) -> Result<()> {
    let candidate = candidate(record)?;
    let updates = payloads::update_folder(installation)?;
    let slots = payloads::slots(installation)?;
    let tidy = || tree::delete(&updates, OUTER).and_then(|()| tree::delete(&slots, NEW_SLOT));
    tidy()?;
    let slot = match take_apart(installation, &candidate, &updates, &slots) {
        Ok(slot) => slot,
        Err(Refusal::Unfit(why)) => return unfit(installation, record, &why),
        Err(Refusal::NotItsFault(problem)) => {
            tidy()?;
            return Err(problem);
        }
    };
    tree::sync(&slot)?;
    tree::delete(&slots, &candidate.version)?;
    slots.move_to(OsStr::new(NEW_SLOT), &slots, OsStr::new(&candidate.version))?;
    slots.sync()?;
    record.set(record.progress().on(Event::Unpacked).0);
    record.write(installation)?;
    updates.remove_file(DOWNLOAD)?;
    Ok(tree::delete(&updates, OUTER)?)
}

/// Why a package was not taken apart.
enum Refusal {
    /// It is no good, and never will be any better.
    Unfit(String),
    /// The disk has no room, or cannot be written.
    NotItsFault(Problem),
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::NotItsFault(problem)
    }
}

impl From<DsmError> for Refusal {
    fn from(error: DsmError) -> Self {
        Self::NotItsFault(error.into())
    }
}

impl Refusal {
    /// A full disk is not the package's fault. One whose names are in each other's way, or that
    /// lacks its payload, is.
    fn of(error: ExtractError) -> Self {
        use std::io::ErrorKind::{
            AlreadyExists, InvalidFilename, IsADirectory, NotADirectory, NotFound,
        };
        let is_the_disks_fault = match &error {
            ExtractError::Write { cause, .. } => !matches!(
                cause.kind(),
                AlreadyExists | InvalidFilename | IsADirectory | NotADirectory | NotFound
            ),
            ExtractError::NoRoom { .. } => true,
            _ => false,
        };
        let remedy = error.remedy();
        if !is_the_disks_fault {
            return Self::Unfit(Problem::new("").because(error).fact());
        }
        let problem = Problem::new("the update cannot be unpacked").because(error);
        Self::NotItsFault(problem.remedy(remedy))
    }
}

/// Unpacks the package, looks whether it is the one that was signed, and unpacks its payload into a
/// fresh slot, within what it announced and what the volume has room for.
fn take_apart(
    installation: &Installation,
    candidate: &Candidate,
    updates: &Folder,
    slots: &Folder,
) -> std::result::Result<Folder, Refusal> {
    let package = updates.open_file(DOWNLOAD, OFlag::O_RDONLY, 0)?;
    let outer = updates.inner_or_make(OUTER, 0o700)?;
    let slot = slots.inner_or_make(NEW_SLOT, 0o755)?;
    room::must_be_for("the update's file", candidate.length, updates)?;
    spk::extract::package(package, outer.path()).map_err(Refusal::of)?;
    let inner = outer.path().join(spk::read::PAYLOAD);
    let payload = std::fs::File::open(&inner)
        .map_err(|cause| Refusal::of(ExtractError::Write { path: inner, cause }))?;
    let extractsize =
        is_what_was_signed(&outer, candidate, installation).map_err(Refusal::Unfit)?;
    let dsm_major = installation.package.dsm_version().major;
    let announced = room::announced_bytes(extractsize.as_deref(), dsm_major, candidate.length);
    room::must_be_for("the update", announced, slots)?;
    let limits = room::limits(announced, room::in_volume_of(slots));
    spk::extract::payload_within(payload, slot.path(), limits).map_err(Refusal::of)?;
    payloads::description_in(&slot).map_err(|problem| Refusal::Unfit(problem.fact()))?;
    Ok(slot)
}

/// What the package says of itself, in its INFO, must be what the depot signed. Its `extractsize`.
fn is_what_was_signed(
    outer: &Folder,
    candidate: &Candidate,
    installation: &Installation,
) -> std::result::Result<Option<String>, String> {
    const INFO_BYTES_MAX: u64 = 256 * 1024;
    let text = outer.read_text("INFO", INFO_BYTES_MAX).ok().flatten().unwrap_or_default();
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        Some(line.trim().trim_matches('"').to_owned())
    };
    let (package, version) = (value("package"), value("version"));
    let is_right = package.as_deref() == Some(installation.package.name().as_str())
        && version.as_deref() == Some(candidate.version.as_str());
    match is_right {
        true => Ok(value("extractsize")),
        false => Err(format!(
            "its INFO says {} {}",
            package.unwrap_or_default(),
            version.unwrap_or_default()
        )),
    }
}

/// Runs the programs once, on this processor: an illegal instruction shows itself here, and not
/// when nobody is there to help.
fn test(installation: &Installation, record: &mut UpdateRecord) -> Result<()> {
    let candidate = candidate(record)?;
    let slot = payloads::slots(installation)?.inner(&candidate.version)?;
    let description = payloads::description_in(&slot)?;
    let filling = crate::description::Filling {
        target: slot.path(),
        var: installation.package.var(),
        memory_bytes: 0,
    };
    let command = description.self_test(&filling);
    if let Some((program, arguments)) = command.split_first() {
        let answer = answer_of(Command::new(program).args(arguments), slot.path());
        let why = match answer {
            Ok(status) if status.success() => None,
            Ok(status) => Some(match (status.code(), status.signal()) {
                (Some(code), _) => format!("ended with code {code}"),
                (None, signal) => format!("was ended by signal {}", signal.unwrap_or(0)),
            }),
            Err(why) => Some(why),
        };
        if let Some(why) = why {
            let name = Path::new(program).file_name().unwrap_or(program).to_string_lossy();
            return unfit(installation, record, &format!("{name}, tried on this NAS, {why}"));
        }
    }
    record.set(record.progress().on(Event::Tested).0);
    record.write(installation)
}

fn answer_of(command: &mut Command, folder: &Path) -> std::result::Result<ExitStatus, String> {
    let mut child = command
        .env_clear()
        .env("PATH", PROGRAM_FOLDERS)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("does not start: {error}"))?;
    let mut ended = None;
    wait_until(Duration::from_secs(TEST_SECONDS_MAX), || {
        ended = child.try_wait().ok().flatten();
        ended.is_some()
    });
    ended.ok_or_else(|| {
        let _ = child.kill();
        let _ = child.wait();
        format!("gave no answer within {TEST_SECONDS_MAX} seconds")
    })
}

/// It is no good, and never will be: it is remembered, told and thrown away.
fn unfit(installation: &Installation, record: &mut UpdateRecord, why: &str) -> Result<()> {
    let version = candidate(record)?.version;
    let why = why.trim_start_matches(": ");
    record.set(record.progress().on(Event::Unfit).0);
    record.refuse(&version);
    record.tell(&format!("{version} was refused: {why}"));
    record.write(installation)?;
    payloads::clean(installation, record)?;
    Err(Problem::new(format!("{version} is refused: {why}"))
        .remedy("nothing was changed; tell whoever keeps the depot"))
}

/// Lets a running daemon make room for the new version, and waits until that is settled.
fn switch(installation: &Installation) -> Result<String> {
    let version = candidate(&UpdateRecord::read(installation))?.version;
    if service::status(installation) == service::Status::NotRunning {
        return Ok(format!("{version} will be used from the next start on"));
    }
    service::stop(installation)?;
    let started = service::start(installation);
    let settled = || {
        let progress = UpdateRecord::read(installation).progress();
        matches!(progress.phase, Phase::Idle | Phase::Probation)
    };
    wait_until(Duration::from_secs(SETTLE_SECONDS_MAX), settled);
    let record = UpdateRecord::read(installation);
    if record.refused.contains(&version) {
        let fact = record.last.unwrap_or_else(|| format!("{version} was taken back"));
        return Err(Problem::new(fact).remedy("the old version runs; tell whoever keeps the depot"));
    }
    started?;
    Ok(match record.progress().phase {
        Phase::Idle => format!("{version} runs, proved itself and is kept"),
        _ => format!("{version} runs; it is kept when it stays well, or taken back"),
    })
}
