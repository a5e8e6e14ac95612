//! `nas`: a NAS in a folder, from the command line.
//!
//! What `synopkg` and Package Center do on a real box, for demonstrations and for trying a package
//! without one. Everything is done by the library beside it.
//!
//! **Invariant:** the exit code of `status` is the package's own; of every other verb it is 0, or
//! 1 with a sentence and a remedy.
//!
//! **Not here:** how DSM works. That is `tests_support::nas`.

use clap::{Parser, Subcommand, ValueEnum};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tests_support::compare;
use tests_support::nas::{Done, Dsm, Hardware, Nas, NasError, Removal, Shell};
use tests_support::{Center, Offer};

/// A Synology NAS in a folder.
#[derive(Debug, Parser)]
#[command(name = "nas", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ShellName {
    Ash,
    Bash,
}

#[derive(Debug, clap::Args)]
struct Box_ {
    /// The folder that is the NAS.
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Answers {
    /// An answer to the package's wizard; may be given again.
    #[arg(long = "answer", value_name = "KEY=VALUE")]
    answers: Vec<String>,
}

#[derive(Debug, clap::Args)]
struct From {
    #[command(flatten)]
    nas: Box_,
    /// The package source to ask.
    #[arg(long, value_name = "URL", required_unless_present = "file")]
    source: Option<String>,
    /// A package file, as with Manual Install.
    #[arg(long, value_name = "SPK", conflicts_with_all = ["source", "package"])]
    file: Option<PathBuf>,
    /// The package to take from the source.
    #[arg(required_unless_present = "file")]
    package: Option<String>,
    #[command(flatten)]
    answers: Answers,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a NAS in an empty folder.
    Create {
        #[command(flatten)]
        nas: Box_,
        /// The generation of DSM.
        #[arg(long, value_parser = clap::value_parser!(u32).range(5..=7))]
        dsm: u32,
        /// The platform's codename.
        #[arg(long, default_value = "apollolake")]
        arch: String,
        /// The shell for scripts; by default the oldest one that DSM has.
        #[arg(long)]
        shell: Option<ShellName>,
    },
    /// Show what Package Center shows.
    List {
        #[command(flatten)]
        nas: Box_,
        /// The package source to ask.
        #[arg(long, value_name = "URL")]
        source: String,
    },
    /// Install a package and start it.
    Install(From),
    /// Upgrade a package; it runs afterwards if it ran before.
    Upgrade(From),
    /// Remove a package as DSM does.
    Uninstall {
        #[command(flatten)]
        nas: Box_,
        /// The package.
        package: String,
        /// Take its settings and data too.
        #[arg(long)]
        delete_data: bool,
        #[command(flatten)]
        answers: Answers,
    },
    /// Press Run.
    Start(Installed),
    /// Press Stop.
    Stop(Installed),
    /// Ask the package's status script; its exit code is this one's.
    Status(Installed),
    /// Switch the NAS on: start what ran before.
    Boot(Box_),
    /// Switch the NAS off: stop what runs, and remember it.
    Shutdown(Box_),
    /// Cut the power: kill every process of the NAS.
    CutPower(Box_),
    /// Make a shared folder the package may write to; prints where it is.
    Share {
        #[command(flatten)]
        nas: Box_,
        /// The shared folder's name.
        name: String,
        /// The package.
        package: String,
    },
    /// Print where a package keeps its data.
    Var(Installed),
    /// Run a program of the package as the package's user, as an owner does over SSH.
    Run {
        #[command(flatten)]
        nas: Box_,
        /// The package.
        package: String,
        /// The program below `target`, and its arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Compare every byte and every attribute of two folders.
    Compare {
        /// What it should be.
        original: PathBuf,
        /// What it is.
        copy: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
struct Installed {
    #[command(flatten)]
    nas: Box_,
    /// The package.
    package: String,
}

fn main() -> ExitCode {
    match act(Arguments::parse().verb) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("nas: {error}");
            let mut cause = std::error::Error::source(&error);
            while let Some(inner) = cause {
                eprintln!("  because: {inner}");
                cause = inner.source();
            }
            eprintln!("  what to do: {}", error.remedy());
            ExitCode::FAILURE
        }
    }
}

fn act(verb: Verb) -> Result<ExitCode, NasError> {
    match verb {
        Verb::Create { nas, dsm, arch, shell } => create(&nas.root, dsm, &arch, shell)?,
        Verb::List { nas, source } => {
            for offer in Center::with_source(&Nas::open(&nas.root)?, &source)?.offers()? {
                println!("{}", line_of(&offer));
            }
        }
        Verb::Install(from) => install(&from)?,
        Verb::Upgrade(from) => upgrade(&from)?,
        Verb::Uninstall { nas, package, delete_data, answers } => {
            let removal = if delete_data { Removal::Everything } else { Removal::AsDsm };
            let nas = Nas::open(&nas.root)?;
            tell(&package, "removed", &nas.uninstall(&package, removal, &answers.read()?)?);
        }
        Verb::Start(Installed { nas, package }) => {
            tell(&package, "started", &Nas::open(&nas.root)?.start(&package)?);
        }
        Verb::Stop(Installed { nas, package }) => {
            tell(&package, "stopped", &Nas::open(&nas.root)?.stop(&package)?);
        }
        Verb::Status(Installed { nas, package }) => {
            let state = Nas::open(&nas.root)?.status(&package)?;
            println!("{package}: {state:?}");
            return Ok(ExitCode::from(u8::try_from(state.code()).unwrap_or(1)));
        }
        Verb::Boot(nas) => {
            for failed in Nas::open(&nas.root)?.boot()? {
                println!("{failed}: did not start");
            }
        }
        Verb::Shutdown(nas) => Nas::open(&nas.root)?.shut_down()?,
        Verb::CutPower(nas) => Nas::open(&nas.root)?.cut_power(),
        Verb::Share { nas, name, package } => {
            println!("{}", Nas::open(&nas.root)?.share(&name, &package)?.display());
        }
        Verb::Var(Installed { nas, package }) => {
            println!("{}", Nas::open(&nas.root)?.var(&package).display());
        }
        Verb::Run { nas, package, words } => return run(&nas.root, &package, &words),
        Verb::Compare { original, copy } => return compared(&original, &copy),
    }
    Ok(ExitCode::SUCCESS)
}

fn create(root: &Path, dsm: u32, arch: &str, shell: Option<ShellName>) -> Result<(), NasError> {
    let place = |fact, remedy| NasError::Place { path: root.to_path_buf(), fact, remedy };
    let dsm = Dsm::from_number(dsm)
        .ok_or_else(|| place("no such generation of DSM", "choose 5, 6 or 7"))?;
    let hardware = Hardware::of(arch).ok_or_else(|| {
        place("no NAS in a folder of this platform", "choose apollolake, rtd1296, armada38x…")
    })?;
    let shell = match shell {
        Some(ShellName::Ash) => Shell::Ash,
        Some(ShellName::Bash) => Shell::Bash,
        None if dsm == Dsm::Seven => Shell::Bash,
        None => Shell::Ash,
    };
    let nas = Nas::create(root, dsm, hardware, shell)?;
    println!("{dsm} on {} in {}", nas.hardware().unique(), nas.root().display());
    Ok(())
}

fn install(from: &From) -> Result<(), NasError> {
    let nas = Nas::open(&from.nas.root)?;
    let answers = from.answers.read()?;
    let (package, done) = match (&from.file, &from.source, &from.package) {
        (Some(file), _, _) => {
            let done = nas.install(file, &answers)?;
            let package = tests_support::nas::package::name_of(file)?;
            nas.start(&package)?;
            (package, done)
        }
        (None, Some(source), Some(package)) => {
            (package.clone(), Center::with_source(&nas, source)?.install(package, &answers)?)
        }
        _ => unreachable!("clap asks for a file or a source with a package"),
    };
    tell(&package, "installed and started", &done);
    Ok(())
}

fn upgrade(from: &From) -> Result<(), NasError> {
    let nas = Nas::open(&from.nas.root)?;
    let answers = from.answers.read()?;
    let (package, done) = match (&from.file, &from.source, &from.package) {
        (Some(file), _, _) => {
            (tests_support::nas::package::name_of(file)?, nas.upgrade(file, &answers)?)
        }
        (None, Some(source), Some(package)) => {
            nas.installed(package)
                .ok_or_else(|| NasError::NotInstalled { package: package.clone() })?;
            (package.clone(), Center::with_source(&nas, source)?.install(package, &answers)?)
        }
        _ => unreachable!("clap asks for a file or a source with a package"),
    };
    tell(&package, "upgraded", &done);
    Ok(())
}

fn run(root: &Path, package: &str, words: &[String]) -> Result<ExitCode, NasError> {
    let nas = Nas::open(root)?;
    let program = nas.target(package).join(&words[0]);
    let ended = nas.as_package_user(package, &program)?.args(&words[1..]).status();
    let ended = ended.map_err(|source| NasError::Disk { path: program, source })?;
    Ok(ExitCode::from(ended.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

fn compared(original: &Path, copy: &Path) -> Result<ExitCode, NasError> {
    let account = compare::trees(original, copy)
        .map_err(|source| NasError::Disk { path: original.to_path_buf(), source })?;
    for difference in account.differences.iter().take(20) {
        println!("  {difference}");
    }
    println!(
        "{} files and {} other names, {} bytes, {} attributes compared: {}",
        account.files,
        account.entries - account.files,
        account.bytes,
        account.attributes,
        match account.differences.len() {
            0 => "all equal".to_owned(),
            1 => "1 difference".to_owned(),
            number => format!("{number} differences"),
        }
    );
    Ok(ExitCode::from(u8::from(!account.differences.is_empty())))
}

fn line_of(Offer { row, button }: &Offer) -> String {
    let size_kib = row.size / 1024;
    format!("{:8} {} {} ({size_kib} KiB): {}", button, row.dname, row.version, row.desc)
}

fn tell(package: &str, what: &str, done: &Done) {
    let version = if done.version.is_empty() { "" } else { " " };
    println!("{package}{version}{} {what}", done.version);
    for message in &done.messages {
        println!("  it says: {}", message.replace('\n', "\n           "));
    }
}

impl Answers {
    fn read(&self) -> Result<BTreeMap<String, String>, NasError> {
        self.answers
            .iter()
            .map(|answer| {
                let (key, value) = answer.split_once('=').ok_or_else(|| NasError::Place {
                    path: PathBuf::from(answer),
                    fact: "an answer is KEY=VALUE",
                    remedy: "look into the package's WIZARD_UIFILES for the keys",
                })?;
                Ok((key.to_owned(), value.to_owned()))
            })
            .collect()
    }
}
