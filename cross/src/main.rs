//! The programs for five kinds of NAS, built and checked on one machine: `cargo nas`.
//!
//! The [`targets`] are a table with reasons. `setup` brings the [`tools`] together, `build`
//! compiles into `dist/<target>`, `check` asks each finished file whether it will start on its
//! boxes, `package` hands all of them to `spk`.
//!
//! **Invariant:** what is in `dist` was built from this checkout, and nothing is packaged that was
//! not checked.
//!
//! **Not here:** the format of packages and the platforms they list (`spk`), and running the files
//! (`tests/stories` does, under an emulator).

mod build;
mod check;
mod checkout;
mod facts;
mod package;
mod run;
mod targets;
mod tools;

use clap::{Parser, Subcommand};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use targets::{PROGRAMS, TARGETS, Target};

/// Where things are. Only `main` reads the environment; everything else gets this.
#[derive(Debug, Clone)]
pub struct Places {
    /// The checkout.
    pub root: PathBuf,
    /// `dist` in it.
    pub dist: PathBuf,
    /// What can be made again: tools, and cargo's target folder of cross builds.
    pub cache: PathBuf,
    /// Where cargo keeps the sources of dependencies.
    pub cargo_home: PathBuf,
    /// The cargo that runs us.
    pub cargo: PathBuf,
    /// Its compiler.
    pub rustc: PathBuf,
    /// The folders of `PATH`.
    pub path: Vec<PathBuf>,
}

impl Places {
    fn from_environment() -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let home = PathBuf::from(variable("HOME").unwrap_or_else(|| "/".into()));
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = here.parent().unwrap_or(here).to_owned();
        Self {
            dist: root.join("dist"),
            root,
            cache: variable("HOLDFAST_CACHE")
                .map_or_else(|| home.join(".cache/holdfast"), PathBuf::from),
            cargo_home: variable("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from),
            cargo: variable("CARGO").map_or_else(|| "cargo".into(), PathBuf::from),
            rustc: variable("RUSTC").map_or_else(|| "rustc".into(), PathBuf::from),
            path: variable("PATH")
                .map(|path| std::env::split_paths(&path).collect())
                .unwrap_or_default(),
        }
    }

    /// Scripts of ours that cargo calls.
    pub fn scripts(&self) -> PathBuf {
        self.cache.join("nas-scripts")
    }

    /// Cargo's target folder for the five; apart from the usual one, so that neither waits for the
    /// other.
    pub fn cross_target(&self) -> PathBuf {
        self.cache.join("cross-target")
    }
}

#[derive(Parser)]
#[command(
    name = "cargo nas",
    bin_name = "cargo nas",
    about = "Builds and checks the programs for the five kinds of NAS"
)]
struct Arguments {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install the tools of a cross build; `build` does it too
    Setup,
    /// Build the programs into dist/<target>, and check them
    Build {
        /// Only these targets (x86_64, aarch64, armhf, armv7, armv5)
        #[arg(long = "target", value_parser = parse_target, num_args = 1..)]
        targets: Vec<&'static Target>,
    },
    /// Check built files: dist/<target>/<program>, all by default
    Check {
        /// Files whose folder is named like their target
        files: Vec<PathBuf>,
        /// The target of FILES, when their folder is not named like it
        #[arg(long, value_parser = parse_target, requires = "files")]
        target: Option<&'static Target>,
    },
    /// Check everything, then make every package of scripts/package/package.toml
    Package,
    /// Say what each target is for and what is asked of its files
    Targets,
}

fn parse_target(name: &str) -> Result<&'static Target, String> {
    targets::target(name).ok_or_else(|| {
        let names = TARGETS.map(|target| target.name);
        format!("the targets are {}", names.join(", "))
    })
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let places = Places::from_environment();
    let done = match arguments.command {
        Verb::Setup => tools::Tools::ready(&places, &mut say)
            .map(|tools| say(&format!("ready: {}", tools.bin.display())))
            .map_err(|error| tell(&error, error.remedy())),
        Verb::Build { targets } => build_all(&targets, &places),
        Verb::Check { files, target } => check_files(&files, target, &places),
        Verb::Package => check_files(&[], None, &places).and_then(|()| {
            package::package_all(&places).map_err(|error| tell(&error, error.remedy()))
        }),
        Verb::Targets => {
            describe_targets();
            Ok(())
        }
    };
    if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The failure was told already.
struct Told;

fn say(line: &str) {
    println!("{line}");
}

fn tell(error: &dyn Error, remedy: &str) -> Told {
    eprintln!("cargo nas: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  because: {error}");
        cause = error.source();
    }
    eprintln!("  what to do: {remedy}");
    Told
}

fn build_all(wanted: &[&'static Target], places: &Places) -> Result<(), Told> {
    let tools = tools::Tools::ready(places, &mut say).map_err(|e| tell(&e, e.remedy()))?;
    let all: Vec<&'static Target> = TARGETS.iter().collect();
    let mut is_good = true;
    for target in if wanted.is_empty() { &all } else { wanted } {
        let start = Instant::now();
        let files = build::build(target, places, &tools).map_err(|e| tell(&e, e.remedy()))?;
        say(&format!("{}: built in {} s", target.name, start.elapsed().as_secs()));
        for file in files {
            is_good &= check_file(&file, target, places).is_ok();
        }
    }
    if is_good { Ok(()) } else { Err(Told) }
}

fn check_files(
    files: &[PathBuf],
    target: Option<&'static Target>,
    places: &Places,
) -> Result<(), Told> {
    let mut wanted: Vec<(PathBuf, Option<&'static Target>)> = files
        .iter()
        .map(|file| (file.clone(), target.or_else(|| target_of_folder(file))))
        .collect();
    if wanted.is_empty() {
        for target in &TARGETS {
            for program in PROGRAMS {
                wanted.push((places.dist.join(target.name).join(program.name), Some(target)));
            }
        }
    }
    let mut is_good = true;
    for (file, target) in wanted {
        is_good &= match target {
            Some(target) => check_file(&file, target, places).is_ok(),
            None => {
                eprintln!("cargo nas: {}: its folder is not named like a target", file.display());
                eprintln!("  what to do: name the target with --target");
                false
            }
        };
    }
    if is_good { Ok(()) } else { Err(Told) }
}

fn target_of_folder(file: &Path) -> Option<&'static Target> {
    targets::target(file.parent()?.file_name()?.to_str()?)
}

/// Checks one file and prints a line about it.
fn check_file(file: &Path, target: &'static Target, places: &Places) -> Result<(), Told> {
    let shown = file.strip_prefix(&places.root).unwrap_or(file).display();
    let complain = |fact: &dyn std::fmt::Display, remedy: &str| {
        eprintln!("cargo nas: {shown}: {fact}");
        eprintln!("  what to do: {remedy}");
    };
    let bytes = std::fs::read(file).map_err(|cause| {
        complain(&cause, "build it with `cargo nas build`");
        Told
    })?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let program = targets::program(&name).unwrap_or(&PROGRAMS[0]);
    let facts = facts::Facts::read(&bytes).map_err(|why| {
        complain(&why, "build it again with `cargo nas build`");
        Told
    })?;
    let faults = check::faults(&facts, program, target);
    for fault in &faults {
        complain(fault, fault.remedy());
    }
    if !faults.is_empty() {
        return Err(Told);
    }
    let needs = match facts.newest_glibc() {
        Some((glibc, symbol)) => format!("glibc {glibc} ({symbol}), {}", facts.libraries.join(" ")),
        None => "static".to_owned(),
    };
    say(&format!("{shown}: good; {} bytes, {needs}", facts.file_bytes));
    Ok(())
}

fn describe_targets() {
    for target in TARGETS {
        say(&format!(
            "{:8} {}\n         {}",
            target.name,
            target.triple_with_floor(),
            target.reason
        ));
    }
}
