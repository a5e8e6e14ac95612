//! How each tool is told to do each step: the same thing, in its own words.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// One password for all.
const PASSWORD: &str = "correct horse battery staple";

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    /// Ours.
    Holdfast,
    /// The format's own program.
    Restic,
    /// The format's other program.
    Rustic,
    /// Another format.
    Borg,
}

/// A program that backs up.
#[derive(Debug, Clone)]
pub struct Tool {
    /// Which one.
    pub name: Name,
    program: PathBuf,
}

/// A step of a backup's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Make a repository.
    Init,
    /// The first backup.
    First,
    /// A run with nothing changed.
    Unchanged,
    /// A run after a day's work.
    Changed,
    /// List the snapshots.
    Snapshots,
    /// Is it sound, without reading data?
    Check,
    /// Is it sound, every byte of it?
    CheckData,
    /// Restore everything.
    Restore,
    /// Restore a sixteenth.
    RestoreShare,
    /// Keep the newest snapshot, and no waste at all.
    Prune,
    /// Remove what a killed process left.
    Unlock,
}

/// Where a tool works.
#[derive(Debug, Clone)]
pub struct Place {
    /// Everything of this tool is below it.
    pub folder: PathBuf,
    /// What is backed up.
    pub source: PathBuf,
    /// The sixteenth that is restored alone.
    pub share: PathBuf,
    /// What ours may use, as in `--memory`; nothing: it finds out by itself.
    pub memory: Option<String>,
}

impl Place {
    /// A fresh one; what was there before is gone.
    pub fn make(self) -> io::Result<Self> {
        let _ = fs::remove_dir_all(&self.folder);
        for below in ["home", "cache"] {
            fs::create_dir_all(self.folder.join(below))?;
        }
        fs::write(self.folder.join("password"), PASSWORD)?;
        Ok(self)
    }

    fn at(&self, below: &str) -> OsString {
        self.folder.join(below).into_os_string()
    }

    /// Where restored files go.
    pub fn restored(&self) -> PathBuf {
        self.folder.join("restored")
    }

    /// Where a restored copy of `original` is: every tool keeps absolute paths below its target.
    pub fn copy_of(&self, original: &Path) -> PathBuf {
        self.restored().join(original.strip_prefix("/").unwrap_or(original))
    }
}

type Words = Vec<OsString>;

impl Tool {
    /// Reads `restic=/usr/bin/restic`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, program) = text.split_once('=').ok_or("write NAME=PATH")?;
        let name = match name {
            "holdfast" => Name::Holdfast,
            "restic" => Name::Restic,
            "rustic" => Name::Rustic,
            "borg" => Name::Borg,
            _ => return Err("name one of holdfast, restic, rustic, borg".to_owned()),
        };
        Ok(Self { name, program: program.into() })
    }

    /// What each of its processes finds in the environment.
    pub fn environment(&self, place: &Place) -> Vec<(String, OsString)> {
        let mut all = vec![("HOME", place.at("home")), ("TZ", "UTC".into())];
        if self.name == Name::Borg {
            all.extend([
                ("BORG_REPO", place.at("repository")),
                ("BORG_PASSPHRASE", PASSWORD.into()),
                ("BORG_BASE_DIR", place.at("home")),
                ("BORG_CACHE_DIR", place.at("cache")),
                ("BORG_RELOCATED_REPO_ACCESS_IS_OK", "yes".into()),
            ]);
        }
        all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// The commands of a step, run in the folder for restored files.
    pub fn commands(&self, step: Step, place: &Place) -> Vec<Words> {
        let source = place.source.as_os_str();
        let target = place.restored().into_os_string();
        let share = place.share.as_os_str();
        let words = |of: &[&str]| of.iter().map(OsString::from).collect::<Words>();
        let and = |of: &[&str], more: &[&OsStr]| {
            let more = more.iter().map(|word| (*word).to_owned());
            words(of).into_iter().chain(more).collect::<Words>()
        };
        let told: Vec<Words> = match (self.name, step) {
            (Name::Borg, step) => borg(step, source, share),
            (_, Step::Init) => vec![words(&["init"])],
            // It takes no locks.
            (Name::Rustic, Step::Unlock) => vec![],
            (_, Step::Unlock) => vec![words(&["unlock"])],
            (_, Step::First | Step::Unchanged | Step::Changed) => {
                vec![and(&["backup"], &[source])]
            }
            (_, Step::Snapshots) => vec![words(&["snapshots"])],
            (_, Step::Check) => vec![words(&["check"])],
            (_, Step::CheckData) => vec![words(&["check", "--read-data"])],
            (Name::Rustic, Step::Restore) => vec![and(&["restore", "latest"], &[&target])],
            (_, Step::Restore) => vec![and(&["restore", "latest", "--target"], &[&target])],
            (Name::Rustic, Step::RestoreShare) => {
                let part = format!("latest:{}", place.share.display());
                let into = place.copy_of(&place.share);
                vec![and(&["restore", &part], &[into.as_os_str()])]
            }
            (_, Step::RestoreShare) => {
                let all: [&OsStr; 3] = [&target, "--include".as_ref(), share];
                vec![and(&["restore", "latest", "--target"], &all)]
            }
            (Name::Rustic, Step::Prune) => vec![
                words(&["forget", "--keep-last", "1", "--group-by", "host"]),
                words(&["prune", "--max-unused", "0B", "--instant-delete"]),
            ],
            (_, Step::Prune) => {
                let keep = ["forget", "--keep-last", "1", "--group-by", ""];
                vec![words(&[&keep[..], &["--prune", "--max-unused", "0"]].concat())]
            }
        };
        let begin = self.beginning(place);
        told.into_iter().map(|rest| begin.iter().cloned().chain(rest).collect()).collect()
    }

    /// The program and the flags of all its commands.
    fn beginning(&self, place: &Place) -> Words {
        let mut words: Words = vec![self.program.clone().into_os_string()];
        if self.name == Name::Borg {
            return words;
        }
        words.extend(["-r".into(), place.at("repository")]);
        words.extend(["--password-file".into(), place.at("password")]);
        words.extend(["--cache-dir".into(), place.at("cache")]);
        match (self.name, &place.memory) {
            (Name::Rustic, _) => words.extend(["--no-progress".into()]),
            (Name::Holdfast, Some(memory)) => {
                words.extend(["-q".into(), "--memory".into(), memory.into()]);
            }
            _ => words.push("-q".into()),
        }
        words
    }
}

/// An archive is called by its name, not by `latest`; restored is the one after a day's work.
const CHANGED: &str = "::changed";

fn borg(step: Step, source: &OsStr, share: &OsStr) -> Vec<Words> {
    let words = |of: &[&str]| of.iter().map(OsString::from).collect::<Words>();
    let create = |archive: &str| vec![vec!["create".into(), archive.into(), source.to_owned()]];
    match step {
        Step::Unlock => vec![words(&["break-lock"])],
        Step::Init => vec![words(&["init", "--encryption", "repokey"])],
        Step::First => create("::first"),
        Step::Unchanged => create("::unchanged-{now:%s.%f}"),
        Step::Changed => create(CHANGED),
        Step::Snapshots => vec![words(&["list"])],
        Step::Check => vec![words(&["check"])],
        Step::CheckData => vec![words(&["check", "--verify-data"])],
        Step::Restore => vec![words(&["extract", CHANGED])],
        Step::RestoreShare => {
            let below = share.to_string_lossy();
            vec![words(&["extract", CHANGED, below.trim_start_matches('/')])]
        }
        Step::Prune => {
            vec![words(&["prune", "--keep-last", "1"]), words(&["compact", "--threshold", "0"])]
        }
    }
}
