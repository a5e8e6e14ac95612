//! `tuf-client`: our TUF client with the command line that theupdateframework's conformance suite
//! drives: `init`, `refresh`, `download`; exit code 0 is success, anything else is not.
//!
//! What it verifies with is `supervisor-trust`, what it fetches with `supervisor-fetch`: what
//! `update check` uses on a NAS.
//!
//! **Invariant:** the metadata folder holds verified bytes as they came, under names without
//! versions, and nothing else; the target folder only whole files whose hash is right.
//!
//! **Not here:** the soft clock of a NAS. This client believes the system's clock, so that a faked
//! one works.

use clap::{Parser, Subcommand};
use sha2::{Digest, Sha256};
use std::error::Error;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};
use supervisor_fetch::Source;
use supervisor_trust::{
    Cache, Client, Keep, Moment, TargetCheck, TargetFile, UnixSeconds, client as limits,
};

#[derive(Debug, Parser)]
#[command(name = "tuf-client")]
struct CommandLine {
    /// Where verified metadata is kept
    #[arg(long, value_name = "DIR")]
    metadata_dir: PathBuf,
    /// Where the repository's metadata is
    #[arg(long, value_name = "URL")]
    metadata_url: Option<String>,
    /// A file to download; may be said several times
    #[arg(long, value_name = "NAME")]
    target_name: Vec<String>,
    /// Where downloaded files go
    #[arg(long, value_name = "DIR")]
    target_dir: Option<PathBuf>,
    /// Where the repository's files are
    #[arg(long, value_name = "URL")]
    target_base_url: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Trust this root
    Init { root: PathBuf },
    /// Bring the metadata up to date
    Refresh,
    /// Bring the metadata up to date and download files
    Download,
}

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    match carry_out(&CommandLine::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = error.to_string();
            let mut cause = error.source();
            while let Some(error) = cause {
                text.push_str(&format!(": {error}"));
                cause = error.source();
            }
            eprintln!("tuf-client: {text}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(asked: &CommandLine) -> Result<()> {
    if let Command::Init { root } = &asked.command {
        std::fs::create_dir_all(&asked.metadata_dir)?;
        std::fs::copy(root, asked.metadata_dir.join("root.json"))?;
        return Ok(());
    }
    let url = asked.metadata_url.as_deref().ok_or("--metadata-url is missing")?;
    let clock = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let now = UnixSeconds::new(clock);
    // One at a time on a folder; the next one finds what this one kept.
    let lock = std::fs::File::open(&asked.metadata_dir)?;
    lock.lock()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = refresh(url, &asked.metadata_dir, now).await?;
        match asked.command {
            Command::Download => download(&client, asked).await,
            _ => Ok(()),
        }
    })
}

async fn refresh(url: &str, folder: &Path, now: UnixSeconds) -> Result<Client> {
    let kept = |name: &str, bytes_max: u32| -> Option<Vec<u8>> {
        let file = std::fs::File::open(folder.join(name)).ok()?;
        let mut bytes = Vec::new();
        file.take(u64::from(bytes_max)).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    };
    let root = kept("root.json", limits::ROOT_BYTES_MAX).ok_or("init was not run")?;
    let cache = Cache {
        timestamp: kept("timestamp.json", limits::TIMESTAMP_BYTES_MAX),
        snapshot: kept("snapshot.json", limits::SNAPSHOT_BYTES_MAX),
        targets: kept("targets.json", limits::TARGETS_BYTES_MAX),
    };
    let mut client = Client::start(&root, cache, Moment::new(now, now))?;
    let keep = |item: Keep| match item {
        Keep::Write { name, bytes } => replace(&folder.join(name), &bytes),
        Keep::Forget { name } => match std::fs::remove_file(folder.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
    };
    Source::at(url)?.follow(&mut client, keep).await?;
    Ok(client)
}

async fn download(client: &Client, asked: &CommandLine) -> Result<()> {
    let folder = asked.target_dir.as_deref().ok_or("--target-dir is missing")?;
    let url = asked.target_base_url.as_deref().ok_or("--target-base-url is missing")?;
    let verified = client.verified().ok_or("nothing was verified")?;
    std::fs::create_dir_all(folder)?;
    let source = Source::at(url)?;
    for name in &asked.target_name {
        let file = verified.targets.targets.get(name).ok_or_else(|| format!("no file {name:?}"))?;
        let path = folder.join(local_name(name));
        if is_there(&path, file) {
            continue;
        }
        let part = folder.join(".part");
        let mut sink = std::fs::File::create(&part)?;
        let is_hashed = verified.root.consistent_snapshot;
        if let Err(error) = source.download(name, file, is_hashed, &mut sink).await {
            std::fs::remove_file(&part)?;
            return Err(error.into());
        }
        std::fs::rename(&part, &path)?;
    }
    Ok(())
}

/// A name without folders, whatever the file's name in the metadata is: letters, digits, `-` and
/// `_` stay, and `.` behind the first place; names too long for a file system become their hash.
fn local_name(name: &str) -> String {
    let mut out = String::new();
    for (place, byte) in name.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => out.push(char::from(byte)),
            b'.' if place > 0 => out.push('.'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    if out.len() > 200 { hex::encode(Sha256::digest(name)) } else { out }
}

fn is_there(path: &Path, file: &TargetFile) -> bool {
    let has_length = path.metadata().is_ok_and(|found| found.len() == file.length);
    let is_right = |bytes: Vec<u8>| {
        let mut check = TargetCheck::new("", file);
        check.update(&bytes).and_then(|()| check.finish()).is_ok()
    };
    has_length && std::fs::read(path).is_ok_and(is_right)
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, bytes)?;
    std::fs::rename(&new, path)
}
