//! The files to back up: what is in them follows from kind, scale and seed, and from nothing else.
//!
//! A corpus is a list of files, each with its bytes' seed and its time; so whatever was changed in
//! it can be put back without making the rest again. Sixteen top folders hold a sixteenth each.

use crate::noise::{Dice, Stuff, fill};
use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Top folders; a restore of one is a restore of a sixteenth.
pub const SHARES: u64 = 16;
/// One file in so many is changed by [`Corpus::change`].
const CHANGED_ONE_IN: usize = 100;
/// Larger ones are left alone by [`Corpus::change`].
const CHANGED_BYTES_MAX: u64 = 32 << 20;
/// Files are made in pieces of this size.
const PIECE_BYTES: u64 = 1 << 20;
const KB: u64 = 1000;
const MB: u64 = 1_000_000;

/// Which files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// What a family's NAS holds: 6.8 GB in 90,000 files of every kind.
    #[value(name = "mixed")]
    Mixed,
    /// A million files of two kilobytes in 25,000 folders.
    #[value(name = "small1m")]
    Small,
}

/// A folder full of files.
#[derive(Debug)]
pub struct Corpus {
    /// Which files.
    pub kind: Kind,
    scale: u32,
    seed: u64,
    root: PathBuf,
}

/// One file of it.
#[derive(Debug)]
struct Planned {
    path: String,
    stuff: Stuff,
    bytes: u64,
    seed: u64,
}

impl fmt::Display for Corpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (files, bytes) = self.size();
        let megabytes = bytes / MB;
        write!(f, "{}, {} %: {files} files, {megabytes} MB", self.name(), self.scale)
    }
}

impl Corpus {
    /// The corpus of this kind in its folder below `folder`; nothing is made yet.
    pub fn new(folder: &Path, kind: Kind, scale: u32, seed: u64) -> Self {
        let mut corpus = Self { kind, scale, seed, root: PathBuf::new() };
        corpus.root = folder.join(format!("corpus-{}-{scale}-{seed}", corpus.name()));
        corpus
    }

    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Mixed => "mixed",
            Kind::Small => "small1m",
        }
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// One of its sixteen folders.
    pub fn share(&self, number: u64) -> PathBuf {
        self.root.join(format!("share{number:02}"))
    }

    /// Files and bytes.
    pub fn size(&self) -> (usize, u64) {
        let planned = self.planned();
        (planned.len(), planned.iter().map(|file| file.bytes).sum())
    }

    fn planned(&self) -> Vec<Planned> {
        match self.kind {
            Kind::Mixed => self.mixed(),
            Kind::Small => self.small(),
        }
    }

    /// So many at full scale, at this scale.
    fn scaled(&self, full: u64) -> u64 {
        (full * u64::from(self.scale) / 100).max(1)
    }

    fn mixed(&self) -> Vec<Planned> {
        use Stuff::{Binary, Database, Log, Photo, Text};
        let mut dice = Dice::of(self.seed);
        let mut files = Vec::new();
        let mut add = |path: String, stuff, bytes, seed| {
            files.push(Planned { path, stuff, bytes, seed });
        };
        for (name, stuff, count, from, to) in [
            ("sources", Text, 80_000, 200, 24 * KB),
            ("logs", Log, 60, 2 * MB, 18 * MB),
            ("programs", Binary, 2_000, 20 * KB, 1100 * KB),
            ("photos", Photo, 360, 300 * KB, 12 * MB),
            ("raw photos", Photo, 24, 12 * MB, 25 * MB),
        ] {
            for number in 0..self.scaled(count) {
                let (share, folder) = (number % SHARES, number / SHARES / 40);
                let path = format!("share{share:02}/{name}/{folder:03}/{number:06}");
                let (bytes, seed) = (dice.between(from, to), dice.roll());
                if name == "photos" && number % 6 == 0 {
                    add(format!("share{share:02}/copies/{number:06}"), stuff, bytes, seed);
                }
                add(path, stuff, bytes, seed);
            }
        }
        add("share03/video".into(), Photo, self.scaled(400 * MB), dice.roll());
        add("share05/database".into(), Database, self.scaled(700 * MB), dice.roll());
        files
    }

    fn small(&self) -> Vec<Planned> {
        let mut dice = Dice::of(self.seed);
        let count = self.scaled(1_000_000);
        let file = |number: u64| {
            let folder = number / 40;
            let (share, upper) = (folder % SHARES, folder / SHARES / 40);
            let path = format!("share{share:02}/{upper:03}/{folder:05}/{number:07}");
            let stuff = if dice.between(0, 5) < 4 { Stuff::Text } else { Stuff::Photo };
            Planned { path, stuff, bytes: dice.between(100, 4100), seed: dice.roll() }
        };
        (0..count).map(file).collect()
    }

    /// Makes what is missing, puts back what was changed, and removes what does not belong.
    pub fn make(&self) -> io::Result<()> {
        let mut belongs = BTreeSet::new();
        for file in self.planned() {
            let path = self.root.join(&file.path);
            let time = file.time();
            let found = fs::symlink_metadata(&path);
            let is_there = found.is_ok_and(|found| {
                found.len() == file.bytes && found.modified().is_ok_and(|found| found == time)
            });
            if !is_there {
                file.write(&path, time)?;
            }
            belongs.insert(file.path);
        }
        for path in files_below(&self.root)? {
            let name = path.strip_prefix(&self.root).unwrap_or(&path).to_string_lossy();
            if !belongs.contains(&*name) {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// A day's work: one file in a hundred gets other content, as many are new.
    pub fn change(&self) -> io::Result<()> {
        let mut dice = Dice::of(self.seed ^ 0xc0ffee);
        for file in self.planned().iter().step_by(CHANGED_ONE_IN) {
            if file.bytes > CHANGED_BYTES_MAX {
                continue;
            }
            let path = self.root.join(&file.path);
            let mut content = fs::read(&path)?;
            let middle = content.len() / 2;
            let mut more = Vec::new();
            fill(file.stuff, 100, &mut dice, &mut more);
            content.splice(middle..middle, more);
            fs::write(&path, &content)?;
            if dice.between(0, 10) == 0 {
                let mut fresh = Vec::new();
                fill(file.stuff, content.len(), &mut dice, &mut fresh);
                fs::write(path.with_extension("new"), fresh)?;
            }
        }
        Ok(())
    }
}

impl Planned {
    /// Some second of the years before the bench was written.
    fn time(&self) -> SystemTime {
        let second = Dice::of(self.seed).between(1_400_000_000, 1_760_000_000);
        SystemTime::UNIX_EPOCH + Duration::new(second, (self.seed % 1_000_000_000) as u32)
    }

    fn write(&self, path: &Path, time: SystemTime) -> io::Result<()> {
        fs::create_dir_all(path.parent().unwrap_or(path))?;
        let mut file = File::create(path)?;
        let mut dice = Dice::of(self.seed);
        let mut left = self.bytes;
        let mut piece = Vec::new();
        while left > 0 {
            piece.clear();
            let now = left.min(PIECE_BYTES);
            fill(self.stuff, usize::try_from(now).unwrap_or(usize::MAX), &mut dice, &mut piece);
            file.write_all(&piece)?;
            left -= now;
        }
        file.set_modified(time)
    }
}

/// All files below a folder, in no order.
fn files_below(root: &Path) -> io::Result<Vec<PathBuf>> {
    let (mut found, mut waiting) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => waiting.push(entry.path()),
                false => found.push(entry.path()),
            }
        }
    }
    Ok(found)
}
