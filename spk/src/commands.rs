//! What each of the tool's verbs does: the library's answers, as text for a terminal or as JSON.

use crate::{BuildFlags, Failure};
use spk::build::{Sources, build as build_packages};
use spk::check::{Finding, Weight, findings};
use spk::dsm::Dsm;
use spk::manifest::Manifest;
use spk::platform::Target;
use spk::read::Package;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

type Done = Result<ExitCode, Failure>;

pub fn build(flags: &BuildFlags) -> Done {
    let manifest = read_manifest(&flags.manifest)?;
    let manifest = match &flags.version {
        Some(version) => {
            manifest.with_version(version).map_err(|error| Failure::new(&error, error.remedy()))?
        }
        None => manifest,
    };
    let folder = flags.manifest.parent().unwrap_or(Path::new("")).to_owned();
    let sources = Sources { manifest: &manifest, folder: &folder, programs: &flags.programs };
    let targets = if flags.target.is_empty() { &manifest.targets } else { &flags.target };
    let jobs: Vec<(Target, Vec<Dsm>)> = targets
        .iter()
        .map(|target| (*target, generations(&manifest, *target, flags)))
        .filter(|(_, generations)| !generations.is_empty())
        .collect();
    let work = |(target, generations): &(Target, Vec<Dsm>)| {
        let built = build_packages(&sources, *target, generations, &flags.into)
            .map_err(|error| Failure::new(&error, error.remedy()))?;
        let checked = built.into_iter().map(|package| {
            let findings = findings(&open(&package.path)?);
            Ok((package, findings))
        });
        checked.collect::<Result<Vec<_>, Failure>>()
    };
    let mut is_sound = true;
    for done in in_parallel(&jobs, work) {
        for (package, findings) in done? {
            println!("{}  {} bytes", package.path.display(), package.bytes);
            is_sound &= print_findings(&package.path, &findings);
        }
    }
    Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Does `work` on every job, as many at a time as there are processors; answers in the jobs' order.
fn in_parallel<J: Sync, R: Send>(jobs: &[J], work: impl Fn(&J) -> R + Sync) -> Vec<R> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let answers = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..processors.min(jobs.len()) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = jobs.get(at) else { break };
                    let answer = work(job);
                    answers.lock().unwrap_or_else(|poison| poison.into_inner()).insert(at, answer);
                }
            });
        }
    });
    answers.into_inner().unwrap_or_else(|poison| poison.into_inner()).into_values().collect()
}

/// What was asked for by name must be possible; of the rest, what is.
fn generations(manifest: &Manifest, target: Target, flags: &BuildFlags) -> Vec<Dsm> {
    let wanted = match flags.dsm.as_slice() {
        [] => manifest.dsm.keys().copied().collect(),
        named => named.to_vec(),
    };
    let is_by_name = !flags.target.is_empty() && !flags.dsm.is_empty();
    let possible = |dsm: &Dsm| is_by_name || !target.archs(*dsm).is_empty();
    wanted.into_iter().filter(possible).collect()
}

fn read_manifest(path: &Path) -> Result<Manifest, Failure> {
    let text = fs::read_to_string(path).map_err(|error| {
        let remedy = "say where it is with --manifest, or make one with `spk init FOLDER`";
        Failure::new(&error, remedy).about(path)
    })?;
    Manifest::parse(&text).map_err(|error| Failure::new(&error, error.remedy()))
}

fn open(path: &Path) -> Result<Package, Failure> {
    Package::open(path).map_err(|error| Failure::new(&error, error.remedy()).about(path))
}

pub fn check(files: &[PathBuf]) -> Done {
    let mut is_sound = true;
    for file in files {
        match open(file) {
            Ok(package) => {
                let findings = findings(&package);
                if findings.is_empty() {
                    println!("{}: nothing to complain about", file.display());
                }
                is_sound &= print_findings(file, &findings);
            }
            Err(failure) => {
                is_sound = false;
                eprintln!("{}", failure.facts.join(": "));
                eprintln!("  what to do: {}", failure.remedy);
            }
        }
    }
    Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints what was found; false when a NAS would refuse the package.
fn print_findings(file: &Path, findings: &[Finding]) -> bool {
    for finding in findings {
        let weight = match finding.weight {
            Weight::Refused => "refused",
            Weight::Advice => "advice",
        };
        eprintln!("{}: {weight} ({}): {}", file.display(), finding.dsm(), finding.sentence);
        eprintln!("  what to do: {}", finding.remedy);
    }
    findings.iter().all(|finding| finding.weight != Weight::Refused)
}

pub fn show(file: &Path, as_json: bool) -> Done {
    let package = open(file)?;
    if as_json {
        println!("{:#}", as_value(&package));
        return Ok(ExitCode::SUCCESS);
    }
    println!("{}: {} bytes, md5 {}", file.display(), package.bytes, package.md5);
    println!("sha256 {}\n", package.sha256);
    for (key, value) in package.info.pairs() {
        let value: String = value.chars().take(200).collect();
        println!("{key:>20}  {}", shown(&value));
    }
    println!();
    for member in &package.members {
        println!("{}  ({})", shown(&member.head.path), spk::diff::described(&member.head));
    }
    println!("\npackage.tgz, {} bytes unpacked:", package.payload.unpacked_bytes);
    for entry in &package.payload.entries {
        println!("target/{}  ({})", shown(&entry.head.path), spk::diff::described(&entry.head));
    }
    Ok(ExitCode::SUCCESS)
}

/// A stranger's text without the characters that steer a terminal.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn as_value(package: &Package) -> serde_json::Value {
    let info: serde_json::Map<_, _> =
        package.info.pairs().map(|(key, value)| (key.to_owned(), value.into())).collect();
    let head = |head: &spk::archive::Head| {
        serde_json::json!({
            "path": head.path,
            "kind": format!("{:?}", head.kind).to_lowercase(),
            "mode": format!("{:04o}", head.mode),
            "bytes": head.bytes,
            "link": head.link,
        })
    };
    let members: Vec<_> = package.members.iter().map(|member| head(&member.head)).collect();
    let entries: Vec<_> = package.payload.entries.iter().map(|entry| head(&entry.head)).collect();
    let stages = ["install", "upgrade", "uninstall"].into_iter();
    let wizards: Vec<_> = stages.filter(|stage| package.has_wizard(stage)).collect();
    serde_json::json!({
        "bytes": package.bytes,
        "md5": package.md5,
        "sha256": package.sha256,
        "info": info,
        "members": members,
        "payload": {
            "bytes": package.payload.bytes,
            "md5": package.payload.md5,
            "unpacked_bytes": package.payload.unpacked_bytes,
            "entries": entries,
        },
        "wizards": wizards,
        "license": package.license().is_some(),
    })
}

pub fn diff(old: &Path, new: &Path) -> Done {
    let differences = spk::diff::differences(&open(old)?, &open(new)?);
    for line in &differences {
        println!("{}", shown(line));
    }
    Ok(if differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub fn extract(file: &Path, into: &Path) -> Done {
    let failed = |error: spk::extract::ExtractError| Failure::new(&error, error.remedy());
    let source = |path: &Path| {
        fs::File::open(path).map_err(|error| {
            Failure::new(&error, "check the file's name and permissions").about(path)
        })
    };
    spk::extract::package(std::io::BufReader::new(source(file)?), into).map_err(failed)?;
    let payload = into.join(spk::read::PAYLOAD);
    spk::extract::payload(source(&payload)?, &into.join("target")).map_err(failed)?;
    println!("{} is unpacked in {}", file.display(), into.display());
    Ok(ExitCode::SUCCESS)
}
