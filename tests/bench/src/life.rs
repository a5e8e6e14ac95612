//! A repository's life, step by step, by every tool in turn.

use crate::cgroup::Limited;
use crate::corpus::{Corpus, SHARES};
use crate::measure::{Figure, Scales};
use crate::tools::{Name, Place, Step, Tool};
use crate::{Run, table};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use tests_support::compare::{Options, trees_with};

/// Places of the small box: one made there, and a copy of the large one.
const FRESH: &str = "-small";
const COPY: &str = "-copy";
/// A place for one more first backup, beside the one that is kept.
const AGAIN: &str = "-again";
/// In a box too small restic neither ends nor dies: it reads its own pages again and again.
const LIMITED_SECONDS_MIN: u64 = 60;
/// So many times what its longest step took it without a limit, and the minimum beside it.
const LIMITED_TIMES_LONGEST: f64 = 5.0;
/// The share that is restored alone.
const RESTORED_SHARE: u64 = 7;

/// One line of a table.
#[derive(Debug)]
pub struct Row {
    /// What was done.
    pub title: String,
    /// The step, for its bar.
    pub step: Step,
    /// What it cost each tool.
    pub figures: Vec<(Name, Figure)>,
}

/// Everything that was found out about one corpus.
#[derive(Debug, Default)]
pub struct Account {
    /// Without a limit.
    pub rows: Vec<Row>,
    /// Inside the cgroup.
    pub limited: Vec<Row>,
    /// Remarks for below the table.
    pub notes: Vec<String>,
    /// What our program did wrong.
    pub wrong: Vec<String>,
}

/// Tools, their places, and what was found out so far.
#[derive(Debug)]
pub struct Life<'a> {
    wanted: &'a Run,
    corpus: &'a Corpus,
    folder: PathBuf,
    scales: Scales,
    places: Vec<(Tool, Place)>,
    account: Account,
    /// Counts steps, so that each begins with another tool.
    turn: usize,
}

impl<'a> Life<'a> {
    /// Fresh places for all tools; nothing is run.
    pub fn new(wanted: &'a Run, corpus: &'a Corpus) -> io::Result<Self> {
        let folder = wanted.folder.join(format!("run-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let place = |tool: &Tool| {
            let memory = Some(wanted.memory.clone());
            let place = place_of(&folder, tool, corpus, memory, "").make()?;
            Ok((tool.clone(), place))
        };
        let places = wanted.tools.iter().map(place).collect::<io::Result<_>>()?;
        let scales = Scales { folder: folder.clone(), seconds_max: LIMITED_SECONDS_MIN };
        Ok(Self { wanted, corpus, folder, scales, places, account: Account::default(), turn: 0 })
    }

    /// From the first backup to the last prune.
    pub fn lead(mut self) -> io::Result<Account> {
        use Step::{Changed, Check, CheckData, First, Init, Restore, RestoreShare, Snapshots};
        self.row("init", Init)?;
        self.row("first backup", First)?;
        self.cold_row("first backup, cold", First)?;
        self.row("nothing changed", Step::Unchanged)?;
        self.cold_row("nothing changed, cold", Step::Unchanged)?;
        self.corpus.change()?;
        self.row("1 % of files changed", Changed)?;
        self.row("snapshots", Snapshots)?;
        self.row("check", Check)?;
        self.cold_row("check, cold", Check)?;
        self.row("check --read-data", CheckData)?;
        self.row("restore", Restore)?;
        self.row("restore of a sixteenth", RestoreShare)?;
        self.cold_row("restore of a sixteenth, cold", RestoreShare)?;
        self.in_a_small_box()?;
        let aside = self.set_half_aside()?;
        let pruned = self.back_up_and_prune();
        put_back(&aside)?;
        pruned?;
        self.judged_by_restic()?;
        self.corpus.make()?;
        let _ = fs::remove_dir_all(&self.folder);
        Ok(self.account)
    }

    /// With half of the files gone: a backup, and a prune of what they took.
    fn back_up_and_prune(&mut self) -> io::Result<()> {
        // Who was killed in the small box left a lock.
        self.everybody(Step::Unlock, Pages::Warm)?;
        self.everybody(Step::Unchanged, Pages::Warm)?;
        let small = Some(self.wanted.limit).filter(|limit| *limit > 0);
        if let Some(Ok(limited)) = small.map(|limit| Limited::of(limit << 20)) {
            for (tool, place) in self.places.clone() {
                let copy = place_of(&self.folder, &tool, self.corpus, None, COPY).make()?;
                // Files of a repository are never written to again: other names for them do.
                let both = [&place, &copy].map(|place| place.folder.join("repository"));
                link_files(&both[0], &both[1])?;
            }
            self.limited_row(Step::Prune, COPY, limited.folder())?;
        }
        self.row("forget + prune, half dropped", Step::Prune)
    }

    fn row(&mut self, title: &str, step: Step) -> io::Result<()> {
        self.row_with(title, step, Pages::Warm)
    }

    /// The same with nothing in the kernel's page cache, when asked for and possible.
    fn cold_row(&mut self, title: &str, step: Step) -> io::Result<()> {
        if !self.wanted.cold {
            return Ok(());
        }
        if let Err(cause) = forget_pages() {
            self.account.notes.push(format!("{title}: caches cannot be dropped: {cause}"));
            return Ok(());
        }
        self.row_with(title, step, Pages::Cold)
    }

    fn row_with(&mut self, title: &str, step: Step, pages: Pages) -> io::Result<()> {
        let mut figures = match (step, pages) {
            (Step::First, Pages::Cold) => self.first_again(pages)?,
            _ => self.everybody(step, pages)?,
        };
        for _ in 1..self.rounds_of(step) {
            let again = match step {
                Step::First => self.first_again(pages)?,
                _ => self.everybody(step, pages)?,
            };
            figures = figures.into_iter().zip(again).map(quicker).collect();
        }
        eprintln!("bench: {title}: {}", table::in_a_line(&figures));
        self.account.rows.push(Row { title: title.to_owned(), step, figures });
        Ok(())
    }

    /// How often a step is measured: what changes a repository for good is measured once.
    fn rounds_of(&self, step: Step) -> u32 {
        match step {
            Step::Init | Step::Changed | Step::Prune | Step::Unlock => 1,
            _ => self.wanted.rounds,
        }
    }

    /// One more first backup by every tool, in repositories that are thrown away.
    fn first_again(&mut self, pages: Pages) -> io::Result<Vec<(Name, Figure)>> {
        let again = |(tool, _): &(Tool, Place)| {
            let memory = Some(self.wanted.memory.clone());
            let place = place_of(&self.folder, tool, self.corpus, memory, AGAIN).make()?;
            Ok((tool.clone(), place))
        };
        let fresh = self.places.iter().map(again).collect::<io::Result<_>>()?;
        let kept = std::mem::replace(&mut self.places, fresh);
        let made = self.everybody(Step::Init, Pages::Warm);
        let figures = made.and_then(|_| self.everybody(Step::First, pages));
        for (_, place) in std::mem::replace(&mut self.places, kept) {
            let _ = fs::remove_dir_all(&place.folder);
        }
        figures
    }

    /// One step by every tool, each time another first.
    fn everybody(&mut self, step: Step, pages: Pages) -> io::Result<Vec<(Name, Figure)>> {
        self.turn += 1;
        let count = self.places.len();
        let mut figures = Vec::new();
        for index in 0..count {
            let (tool, place) = self.places[(self.turn + index) % count].clone();
            match (pages, step) {
                (Pages::Cold, _) => forget_pages()?,
                // A kernel may give up pages nobody read for a minute, as guests of some hosts do.
                (Pages::Warm, Step::First) => remember_pages(self.corpus.root())?,
                (Pages::Warm, _) => {}
            }
            let figure = weigh(&self.scales, &tool, &place, step, None)?;
            let complaint = match figure.is_done() {
                false => Some(format!("ended with {}: {}", figure.code, figure.last_words)),
                true => compare(&place, step, tool.name)?,
            };
            if let Some(complaint) = complaint {
                let sentence = format!("{:?}, {step:?}: {}", tool.name, complaint.trim());
                self.complain(tool.name, sentence);
            }
            figures.push((tool.name, figure));
        }
        figures.sort_by_key(|(name, _)| *name);
        Ok(figures)
    }

    /// What is wrong with ours fails the run; what is with others is only told.
    fn complain(&mut self, name: Name, sentence: String) {
        match name {
            Name::Holdfast => self.account.wrong.push(sentence),
            _ => self.account.notes.push(sentence),
        }
    }

    /// Every step once more inside a cgroup; who is killed is told, and ours must not be.
    fn in_a_small_box(&mut self) -> io::Result<()> {
        use Step::{Check, CheckData, First, Init, Restore, RestoreShare, Snapshots, Unchanged};
        if self.wanted.limit == 0 {
            return Ok(());
        }
        let limited = match Limited::of(self.wanted.limit << 20) {
            Ok(limited) => limited,
            Err(why) => {
                self.account.notes.push(format!("no memory cgroup could be made: {why}"));
                return Ok(());
            }
        };
        for step in [Unchanged, Snapshots, Check, CheckData, Restore, RestoreShare] {
            self.limited_row(step, "", limited.folder())?;
        }
        for step in [Init, First] {
            self.limited_row(step, FRESH, limited.folder())?;
        }
        Ok(())
    }

    fn limited_row(&mut self, step: Step, suffix: &str, cgroup: &Path) -> io::Result<()> {
        let mut figures = Vec::new();
        for (tool, _) in self.places.clone() {
            // In a small box ours is told nothing: it has to see for itself how small it is.
            let place = place_of(&self.folder, &tool, self.corpus, None, suffix);
            let place = if step == Step::Init { place.make()? } else { place };
            self.scales.seconds_max = LIMITED_SECONDS_MIN + self.patience_with(tool.name);
            let figure = weigh(&self.scales, &tool, &place, step, Some(cgroup))?;
            let complaint = match figure.is_done() {
                true => compare(&place, step, tool.name)?,
                // Killed is a figure of its kind; any other failure is a fault.
                false if figure.is_out_of_memory() => None,
                false => Some(figure.last_words.clone()),
            };
            // Nothing that makes files is measured after this.
            let _ = fs::remove_dir_all(place.restored());
            if let Some(complaint) = complaint.filter(|_| tool.name == Name::Holdfast) {
                self.complain(tool.name, format!("in a small box, {step:?}: {complaint}"));
            }
            figures.push((tool.name, figure));
        }
        let title = format!("{step:?}");
        eprintln!("bench: {} MiB, {title}: {}", self.wanted.limit, table::in_a_line(&figures));
        self.account.limited.push(Row { title, step, figures });
        Ok(())
    }

    /// How much longer than the minimum a tool may take in a small box, in seconds.
    fn patience_with(&self, name: Name) -> u64 {
        let all = self.account.rows.iter().flat_map(|row| &row.figures);
        let its = all.filter(|(other, _)| *other == name).map(|(_, figure)| figure.wall_seconds);
        (its.fold(0.0, f64::max) * LIMITED_TIMES_LONGEST) as u64
    }

    /// Moves every second share out of the corpus.
    fn set_half_aside(&self) -> io::Result<Vec<(PathBuf, PathBuf)>> {
        let aside = self.folder.join("aside");
        fs::create_dir_all(&aside)?;
        let mut moved = Vec::new();
        for number in (0..SHARES).step_by(2) {
            let (from, to) = (self.corpus.share(number), aside.join(number.to_string()));
            if from.exists() {
                fs::rename(&from, &to)?;
                moved.push((from, to));
            }
        }
        Ok(moved)
    }

    /// Stock restic has the last word on our repository.
    fn judged_by_restic(&mut self) -> io::Result<()> {
        let find = |name| self.places.iter().find(|(tool, _)| tool.name == name);
        let (Some((restic, _)), Some((_, ours))) = (find(Name::Restic), find(Name::Holdfast))
        else {
            self.account.notes.push("no restic here to judge our repository".to_owned());
            return Ok(());
        };
        let verdict = weigh(&self.scales, restic, ours, Step::CheckData, None)?;
        if !verdict.is_done() {
            let said = format!("restic finds our repository damaged: {}", verdict.last_words);
            self.complain(Name::Holdfast, said);
        }
        Ok(())
    }
}

/// What the kernel remembers of files before a command is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pages {
    /// Whatever the command before left.
    Warm,
    /// Nothing.
    Cold,
}

fn place_of(
    folder: &Path,
    tool: &Tool,
    corpus: &Corpus,
    memory: Option<String>,
    suffix: &str,
) -> Place {
    Place {
        folder: folder.join(format!("{:?}{suffix}", tool.name).to_lowercase()),
        source: corpus.root().to_path_buf(),
        share: corpus.share(RESTORED_SHARE),
        memory,
    }
}

fn weigh(
    scales: &Scales,
    tool: &Tool,
    place: &Place,
    step: Step,
    cgroup: Option<&Path>,
) -> io::Result<Figure> {
    let restored = place.restored();
    set_aside(place)?;
    fs::create_dir_all(&restored)?;
    scales.weigh(&tool.commands(step, place), &tool.environment(place), &restored, cgroup)
}

/// Of one tool's two runs the one that took less time, unless only the other one ended well.
fn quicker((one, other): ((Name, Figure), (Name, Figure))) -> (Name, Figure) {
    let key = |(_, figure): &(Name, Figure)| (!figure.is_done(), figure.wall_seconds);
    if key(&other) < key(&one) { other } else { one }
}

/// Keeps what was restored under another name until all is over. Whoever makes files where ext4 has
/// just removed some pays for it: for a minute it looks past every inode that was given free.
fn set_aside(place: &Place) -> io::Result<()> {
    let restored = place.restored();
    if !restored.exists() {
        return Ok(());
    }
    let mut names = (0..).map(|number| place.folder.join(format!("restored-{number}")));
    let free = names.find(|name| !name.exists());
    free.map_or(Ok(()), |name| fs::rename(&restored, name))
}

/// In what the restored files differ from the corpus, if in anything.
fn compare(place: &Place, step: Step, name: Name) -> io::Result<Option<String>> {
    let original = match step {
        Step::Restore => &place.source,
        Step::RestoreShare => &place.share,
        _ => return Ok(None),
    };
    // Attributes of folders above the files are nobody's contest.
    let options = Options { top: name == Name::Holdfast, ..Options::default() };
    let found = trees_with(original, &place.copy_of(original), &options)?;
    let count = found.differences.len();
    Ok(found.differences.first().map(|first| format!("{count} differences, first {first}")))
}

fn put_back(moved: &[(PathBuf, PathBuf)]) -> io::Result<()> {
    moved.iter().try_for_each(|(from, to)| fs::rename(to, from))
}

/// The same folders with other names for the same files.
fn link_files(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        match entry.file_type()?.is_dir() {
            true => link_files(&from, &to)?,
            false => fs::hard_link(from, to)?,
        }
    }
    Ok(())
}

/// Reads every file, so that nobody measures the disk who is not asked to.
fn remember_pages(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()? {
            kind if kind.is_dir() => remember_pages(&entry.path())?,
            kind if kind.is_file() => {
                io::copy(&mut fs::File::open(entry.path())?, &mut io::sink())?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn forget_pages() -> io::Result<()> {
    nix::unistd::sync();
    fs::write("/proc/sys/vm/drop_caches", "3")
}
