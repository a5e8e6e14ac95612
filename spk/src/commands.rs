//! What each of the tool's verbs does: the library's answers, as text for a terminal or as JSON.

use crate::{BuildFlags, Failure};
use spk::build::{Built, Sources, build_with};
use spk::check::{Finding, Weight, findings};
use spk::dsm::Dsm;
use spk::manifest::{Manifest, ManifestError};
use spk::platform::Target;
use spk::read::Package;
use spk::signature::State;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

pub type Done = Result<ExitCode, Failure>;

/// One payload to pack, and the packages made of it.
struct Job<'a> {
    manifest: &'a Manifest,
    target: Target,
    generations: Vec<Dsm>,
}

pub fn build(flags: &BuildFlags) -> Done {
    let manifests = read_manifests(flags)?;
    let folder = flags.manifest.parent().unwrap_or(Path::new("")).to_owned();
    let jobs: Vec<Job<'_>> = manifests
        .iter()
        .flat_map(|manifest| {
            let named = if flags.target.is_empty() { &manifest.targets } else { &flags.target };
            named.iter().map(move |target| Job {
                manifest,
                target: *target,
                generations: generations(manifest, *target, flags),
            })
        })
        .filter(|job| !job.generations.is_empty())
        .collect();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    // Packages side by side first; what is left of the processors works on one payload's blocks.
    let threads = processors.div_ceil(jobs.len().max(1));
    let work = |job: &Job<'_>| {
        let (manifest, programs) = (job.manifest, &flags.programs);
        let sources = Sources { manifest, folder: &folder, programs };
        let built = build_with(&sources, job.target, &job.generations, &flags.into, threads)
            .map_err(|error| Failure::new(&error, error.remedy()))?;
        let mut checked: Vec<(Built, Vec<Finding>)> = Vec::new();
        let mut payload = None;
        for package in built {
            // One payload for every DSM: it is unpacked and looked at once.
            let read = Package::open_with(&package.path, payload.take())
                .map_err(|error| Failure::new(&error, error.remedy()).about(&package.path))?;
            checked.push((package, findings(&read)));
            payload = Some(read.payload);
        }
        Ok(checked)
    };
    let mut is_sound = true;
    for done in in_parallel(processors, &jobs, work) {
        for (package, findings) in done? {
            say!("{}  {} bytes", package.path.display(), package.bytes);
            is_sound &= print_findings(&package.path, &findings);
        }
    }
    Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Does `work` on every job, as many at a time as there are processors; answers in the jobs' order.
fn in_parallel<J: Sync, R: Send>(
    processors: usize,
    jobs: &[J],
    work: impl Fn(&J) -> R + Sync,
) -> Vec<R> {
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

/// The packages the manifest describes, those asked for by name, with the version asked for.
fn read_manifests(flags: &BuildFlags) -> Result<Vec<Manifest>, Failure> {
    let path = &flags.manifest;
    let text = fs::read_to_string(path).map_err(|error| {
        let remedy = "say where it is with --manifest, or make one with `spk init FOLDER`";
        Failure::new(&error, remedy).about(path)
    })?;
    let failed = |error: ManifestError| Failure::new(&error, error.remedy());
    let mut manifests = Manifest::parse_all(&text).map_err(failed)?;
    let names: Vec<String> = manifests.iter().map(|one| one.package.name.clone()).collect();
    if let Some(unknown) = flags.variant.iter().find(|name| !names.contains(name)) {
        let facts = vec![format!("{} describes no package `{unknown}`", path.display())];
        return Err(Failure { facts, remedy: format!("say one of: {}", names.join(", ")) });
    }
    manifests.retain(|one| flags.variant.is_empty() || flags.variant.contains(&one.package.name));
    match &flags.version {
        Some(version) => {
            manifests.into_iter().map(|one| one.with_version(version).map_err(failed)).collect()
        }
        None => Ok(manifests),
    }
}

pub fn open(path: &Path) -> Result<Package, Failure> {
    Package::open(path).map_err(|error| Failure::new(&error, error.remedy()).about(path))
}

pub fn check(files: &[PathBuf]) -> Done {
    let mut is_sound = true;
    for file in files {
        match open(file) {
            Ok(package) => {
                let findings = findings(&package);
                if findings.is_empty() {
                    say!("{}: nothing to complain about", file.display());
                }
                is_sound &= print_findings(file, &findings);
                say!("{}: {}", file.display(), State::of(&package).sentence());
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
        say!("{:#}", as_value(&package));
        return Ok(ExitCode::SUCCESS);
    }
    say!("{}: {} bytes, md5 {}", file.display(), package.bytes, package.md5);
    say!("sha256 {}", package.sha256);
    say!("{}\n", State::of(&package).sentence());
    for (key, value) in package.info.pairs() {
        let value: String = value.chars().take(200).collect();
        say!("{key:>20}  {}", shown(&value));
    }
    say!("");
    for member in &package.members {
        say!("{}  ({})", shown(&member.head.path), spk::diff::described(&member.head));
    }
    say!("\npackage.tgz, {} bytes unpacked:", package.payload.unpacked_bytes);
    for entry in &package.payload.entries {
        say!("target/{}  ({})", shown(&entry.head.path), spk::diff::described(&entry.head));
    }
    Ok(ExitCode::SUCCESS)
}

/// A stranger's text without the characters that steer a terminal.
pub fn shown(text: &str) -> String {
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
        "signature": format!("{:?}", State::of(package)).to_lowercase(),
    })
}

/// The schema of `package.toml`.
pub fn schema() -> Done {
    say!("{:#}", spk::manifest::schema::schema());
    Ok(ExitCode::SUCCESS)
}

pub fn diff(old: &Path, new: &Path) -> Done {
    let differences = spk::diff::differences(&open(old)?, &open(new)?);
    for line in &differences {
        say!("{}", shown(line));
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
    say!("{} is unpacked in {}", file.display(), into.display());
    Ok(ExitCode::SUCCESS)
}
