//! Asking the depot: fetches its signed metadata, verifies it, says what is newest for this box.
//! It installs nothing; that is `install`'s.
//!
//! What was verified is kept in `var/trust`, so that a depot which goes back to something older is
//! noticed. Everything is bounded: each answer by `trust`'s limit, the whole by a time.

use crate::installation::Installation;
use crate::payloads::{self, UpdateRecord};
use crate::problem::{Problem, Result};
use crate::report::Report;
use nix::fcntl::OFlag;
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;
use supervisor_dsm::machine::Machine;
use supervisor_dsm::{Folder, clock};
use supervisor_fetch::{FetchError, Source};
use supervisor_trust::{
    Cache, Client, FileHash, Keep, Moment, Offer, TargetFile, TrustError, UnixSeconds, Verified,
    Wanted, client as limits, compare_versions,
};

/// The whole check may take no longer.
const CHECK_SECONDS_MAX: u64 = 300;

/// Where a package brings the root it trusts.
const ROOT_PATH: &str = "conf/depot.pub";

const KNOWN_TIME: &str = "known_time";

/// No clock is believed before this: 2026-01-01, when this program did not yet exist.
const BUILT_AFTER_SECONDS: u64 = 1_767_225_600;

/// What was typed.
#[derive(Debug)]
pub struct Asked {
    /// `--depot`
    pub depot: Option<String>,
    /// `--root-key`
    pub root_key: Option<PathBuf>,
    /// `--channel`
    pub channel: String,
    /// The only version that is asked for; without it, the newest.
    pub version: Option<String>,
}

impl Asked {
    /// The same, with what was named before in the place of what was not named now.
    pub fn or_as_before(&self, record: &UpdateRecord) -> Self {
        let channel = Some(self.channel.clone()).filter(|channel| !channel.is_empty());
        let before = || record.channel.clone().filter(|channel| !channel.is_empty());
        Self {
            depot: self.depot.clone().or_else(|| record.depot.clone()),
            root_key: self.root_key.clone(),
            channel: channel.or_else(before).unwrap_or_else(|| "stable".to_owned()),
            version: self.version.clone().or_else(|| record.pin.clone()),
        }
    }
}

/// The newest version that a depot signed for this box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which one.
    pub version: String,
    /// Its file's name.
    pub file: String,
    /// Its length in bytes.
    pub length: u64,
    /// Its hash.
    pub hash: FileHash,
    /// Whether the depot puts hashes before names.
    pub consistent_snapshot: bool,
}

/// Checks, and tells what is newest.
pub fn find(installation: &Installation, asked: &Asked) -> Result<Found> {
    let client = followed(installation, asked)?;
    let verified = client.verified().ok_or_else(|| Problem::new("nothing was verified"))?;
    with_newest(installation, asked, &verified, |file, target, offer| Found {
        version: offer.version.clone(),
        file: file.to_owned(),
        length: target.length,
        hash: target.hash,
        consistent_snapshot: verified.root.consistent_snapshot,
    })
}

/// Checks, and reports what is newest.
pub fn check(installation: &Installation, asked: &Asked) -> Result<Report> {
    let client = followed(installation, asked)?;
    let verified = client.verified().ok_or_else(|| Problem::new("nothing was verified"))?;
    report(installation, asked, &verified)
}

/// Runs the client's workflow to its end and keeps what it verified.
fn followed(installation: &Installation, asked: &Asked) -> Result<Client> {
    let depot = asked.depot.as_deref().ok_or_else(|| {
        let mut problem = Problem::new("no depot is named")
            .remedy("name it: update check --depot http://HOST:PORT");
        problem.code = 2;
        problem
    })?;
    let state = installation.package.open_or_make_var()?.inner_or_make("trust", 0o700)?;
    let _lock = alone(&state)?;
    let root = trusted_root(installation, asked, &state)?;
    let kept = |name, bytes_max: u32| state.read(name, u64::from(bytes_max)).ok().flatten();
    let cache = Cache {
        timestamp: kept("timestamp.json", limits::TIMESTAMP_BYTES_MAX),
        snapshot: kept("snapshot.json", limits::SNAPSHOT_BYTES_MAX),
        targets: kept("targets.json", limits::TARGETS_BYTES_MAX),
    };
    let known: u64 = state
        .read_text(KNOWN_TIME, 64)
        .ok()
        .flatten()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0);
    let moment = Moment::new(
        UnixSeconds::new(clock::now_seconds()),
        UnixSeconds::new(known.max(BUILT_AFTER_SECONDS)),
    );
    let mut client = Client::start(&root, cache, moment).map_err(untrusted)?;
    block_on(CHECK_SECONDS_MAX, follow(&mut client, depot, &state))?;
    let verified = client.verified().ok_or_else(|| Problem::new("nothing was verified"))?;
    let seconds = verified.known_time().seconds().to_string();
    state.write(KNOWN_TIME, seconds.as_bytes(), 0o600)?;
    Ok(client)
}

/// Waits for work on the network, but no longer than so many seconds.
pub fn block_on<T>(seconds_max: u64, work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Problem::new("cannot use the network").because(error))?;
    let limit = Duration::from_secs(seconds_max);
    runtime.block_on(async {
        tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
            Err(Problem::new(format!("the depot took longer than {seconds_max} seconds"))
                .remedy("try again later"))
        })
    })
}

/// Keeps a second check from reading what the first is writing, for as long as the file is open.
fn alone(state: &Folder) -> Result<std::fs::File> {
    let file = state.open_file("lock", OFlag::O_CREAT | OFlag::O_RDWR, 0o600)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            let mut problem = Problem::new("another check for updates is running")
                .remedy("wait until it has ended, then try again");
            problem.code = 11;
            Err(problem)
        }
        Err(std::fs::TryLockError::Error(error)) => {
            Err(Problem::new("cannot lock the folder of the depot's metadata").because(error))
        }
    }
}

/// The root kept from the last success, else what the package or the owner brought.
fn trusted_root(installation: &Installation, asked: &Asked, state: &Folder) -> Result<Vec<u8>> {
    let bytes_max = u64::from(limits::ROOT_BYTES_MAX);
    if asked.root_key.is_none()
        && let Some(kept) = state.read("root.json", bytes_max)?
    {
        return Ok(kept);
    }
    let path =
        asked.root_key.clone().unwrap_or_else(|| installation.package.target().join(ROOT_PATH));
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(&path)
        .and_then(|file| file.take(bytes_max).read_to_end(&mut bytes))
        .map_err(|error| {
            Problem::new(format!("cannot read the depot's root of trust {}", path.display()))
                .because(error)
                .remedy("get depot.pub from whoever keeps the depot, and name it: --root-key FILE")
        })?;
    Ok(bytes)
}

fn untrusted(error: TrustError) -> Problem {
    let remedy = error.remedy();
    let fact = match &error {
        // It is believed: it just has nothing.
        TrustError::NoSuchTarget { .. } => "the depot has nothing to offer",
        _ => "the depot is not believed",
    };
    Problem::new(fact).because(error).remedy(remedy)
}

/// What a failure of the network or of trust means to the owner.
pub fn failed(error: FetchError) -> Problem {
    let remedy = error.remedy().unwrap_or("try again; if it stays, look at the NAS's disk");
    match error {
        FetchError::Untrusted(error) => untrusted(error),
        error => Problem::new("the depot was not read").because(error).remedy(remedy),
    }
}

async fn follow(client: &mut Client, depot: &str, state: &Folder) -> Result<()> {
    let source =
        Source::at(&format!("{}/metadata", depot.trim_end_matches('/'))).map_err(failed)?;
    let keep = |item| match item {
        Keep::Write { name, bytes } => state.write(name, &bytes, 0o600),
        Keep::Forget { name } => state.remove_file(name),
    };
    source.follow(client, |item| keep(item).map_err(std::io::Error::other)).await.map_err(failed)
}

/// Does something with the newest version for this box, or the one that was asked for.
fn with_newest<T>(
    installation: &Installation,
    asked: &Asked,
    verified: &Verified<'_>,
    act: impl FnOnce(&str, &TargetFile, &Offer) -> T,
) -> Result<T> {
    let package = &installation.package;
    let version = package.dsm_version();
    let architecture = Machine::now().architecture;
    let platforms = package.dsm().platforms(&installation.settings.context, &architecture);
    let platforms: Vec<&str> = platforms.iter().map(String::as_str).collect();
    let wanted = Wanted {
        package: package.name().as_str(),
        platforms: &platforms,
        channel: &asked.channel,
        dsm_major: version.major,
        dsm_build: version.build,
    };
    let found = match &asked.version {
        Some(version) => verified.targets.of_version(&wanted, version),
        None => verified.targets.newest(&wanted),
    };
    let (file, target, offer) = found.map_err(untrusted)?;
    Ok(act(file, target, &offer))
}

fn report(installation: &Installation, asked: &Asked, verified: &Verified<'_>) -> Result<Report> {
    let own = |file: &str, target: &TargetFile, offer: &Offer| {
        (file.to_owned(), target.length, offer.clone())
    };
    let (file, length, offer) = with_newest(installation, asked, verified, own)?;
    let installed = payloads::running_version(installation);
    let is_newer = installed
        .as_deref()
        .is_none_or(|installed| compare_versions(&offer.version, installed).is_gt());
    let (role, expires) = verified.first_expiry();
    let versions = [
        verified.root.head.version,
        verified.timestamp.head.version,
        verified.snapshot.head.version,
        verified.targets.head.version,
    ];
    let json = json!({
        "package": offer.package, "newest": offer.version, "installed": installed,
        "is_newer": is_newer, "file": file, "bytes": length, "channel": offer.channel,
        "verified": {"root": versions[0], "timestamp": versions[1], "snapshot": versions[2],
            "targets": versions[3], "first_expiry": expires.to_string(),
            "expires_first": role.name()},
    });
    let have = installed.unwrap_or_else(|| "none".to_owned());
    let news = if is_newer { "newer than" } else { "not newer than" };
    let text = format!(
        "{} {}: {news} the installed {have}\n  file      {file}, {} bytes\n  verified  root {}, \
         timestamp {}, snapshot {}, targets {}; {} ends first, {expires}",
        offer.package,
        offer.version,
        length,
        versions[0],
        versions[1],
        versions[2],
        versions[3],
        role.name(),
    );
    Ok(Report { json, text })
}
