//! A month of random days: files come and go, and whoever is at hand backs them up, forgets,
//! prunes, checks and restores; at its end all tools must agree.
//!
//! Ours, stock restic and, when it is given, rustic take turns, never two at once: rustic takes no
//! locks. What must be in the repository is kept beside it: for each snapshot a copy of the source
//! as it was. A seed decides everything, and is the first thing printed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tests_support::compare::{Options, trees_with};
use tests_support::tree::Tree;
use tests_support::{Finished, TempHome, run};

/// Files and folders of the source at most; beyond, a day only removes.
const FILES_MAX: usize = 120;
const HOST: &str = "box";

/// Who is at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tool {
    Ours,
    Restic,
    Rustic,
}

/// One repository, its source, and what must be in it.
#[derive(Debug)]
pub struct Month {
    home: TempHome,
    seed: u64,
    dice: u64,
    tools: Vec<Tool>,
    rustic: Option<PathBuf>,
    /// Snapshots in the order they were made, with the copy of what they hold.
    snapshots: Vec<(String, PathBuf)>,
    /// Everything that was done, for the message of a failure.
    diary: Vec<String>,
}

impl Month {
    /// A month that follows from `seed`; with the program `rustic`, when there is one.
    pub fn new(seed: u64, rustic: Option<PathBuf>) -> Self {
        let home = TempHome::new();
        let mut tools = vec![Tool::Ours, Tool::Restic];
        tools.extend(rustic.as_ref().map(|_| Tool::Rustic));
        let dice = seed ^ 0x5851_f42d_4c95_7f2d;
        let (snapshots, diary) = (Vec::new(), Vec::new());
        Self { home, seed, dice, tools, rustic, snapshots, diary }
    }

    /// Lives so many days, and asks everybody at the end.
    ///
    /// # Panics
    /// When somebody fails, or two disagree; the message tells the seed and what was done.
    pub fn live(mut self, days: u64) {
        let with = if self.rustic.is_some() { " --rustic PROGRAM" } else { "" };
        println!(
            "a month of seed {seed}: cargo run -p tests-stories --bin month -- \
             --seed {seed} --days {days}{with}",
            seed = self.seed
        );
        let maker = self.anybody();
        self.does(maker, &["init"]);
        let tree = Tree::at(self.home.source());
        tree.noise("large", 3 << 20, self.seed).many("few", 12).file("empty", "");
        for day in 1..=days {
            self.diary.push(format!("day {day}"));
            for _ in 0..self.below(6) {
                self.owner_works();
            }
            self.back_up();
            if self.below(3) == 0 {
                self.forget();
            }
            if self.below(3) == 0 {
                self.prune();
            }
            if self.below(4) == 0 {
                let tool = self.anybody();
                self.does(tool, &["check"]);
            }
            if self.below(2) == 0 {
                let (tool, which) = (self.anybody(), self.below(self.snapshots.len()));
                self.restore(tool, which);
            }
        }
        self.everybody_agrees();
        // Ours cuts files in its own way where it made the repository, else in restic's.
        if maker != Tool::Ours {
            self.both_write_the_same_tree();
        }
    }

    /// A number below `end`.
    fn below(&mut self, end: usize) -> usize {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.dice;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end.max(1) as u64) as usize
    }

    fn anybody(&mut self) -> Tool {
        let which = self.below(self.tools.len());
        self.tools[which]
    }

    /// One thing the owner of the files does.
    fn owner_works(&mut self) {
        let files = files_below(&self.home.source());
        let tree = Tree::at(self.home.source());
        let some = files.get(self.below(files.len())).cloned();
        let number = self.below(1_000_000);
        let name = format!("folder {}/{}/file {number}", self.below(4), self.below(3));
        let seed = number as u64;
        match (self.below(9), some) {
            (0..=1, Some(file)) if files.len() > 5 => drop(fs::remove_file(file)),
            _ if files.len() > FILES_MAX => {}
            (2, Some(file)) => {
                let to = tree.path(&name);
                fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
                fs::rename(file, to).expect("it moves");
            }
            (3, Some(file)) => {
                let mut content = fs::read(&file).expect("it reads");
                content.extend_from_slice(format!("one more line {number}\n").as_bytes());
                fs::write(file, content).expect("room for a line");
            }
            (4, Some(file)) => {
                let below = file.strip_prefix(self.home.source()).expect("below").to_owned();
                tree.modified(&below, 1_000_000_000 + number as i64, 5).mode(&below, 0o640);
            }
            (5, _) => drop(tree.file(&name, "words and words\n".repeat(1 + number % 4000))),
            (6, _) => drop(tree.link(&name, "../nowhere")),
            (7, _) => drop(tree.many(format!("many {number}"), 1 + number % 9)),
            _ => drop(tree.noise(&name, 1 + seed % 900_000, seed)),
        }
    }

    fn back_up(&mut self) {
        let tool = self.anybody();
        let source = self.home.source();
        let source = source.to_str().expect("UTF-8");
        let said = self.does(tool, &["backup", "--json", "--host", HOST, source]);
        let field = if tool == Tool::Rustic { "id" } else { "snapshot_id" };
        let id = json_field(&said.out, field).unwrap_or_else(|| self.fails("no snapshot", &said));
        let copy = self.home.join(format!("copy {}", self.diary.len()));
        run(Command::new("cp").arg("-a").arg(self.home.source()).arg(&copy)).must_succeed();
        // Restic prints the beginning of the id, and older ones only that.
        let id = id.chars().take(8).collect();
        self.snapshots.push((id, copy));
    }

    fn forget(&mut self) {
        let (tool, keep) = (self.anybody(), 2 + self.below(4));
        let count = keep.to_string();
        self.does(tool, &["forget", "--keep-last", &count, "--group-by", "host"]);
        while self.snapshots.len() > keep {
            let (_, copy) = self.snapshots.remove(0);
            fs::remove_dir_all(copy).expect("a copy goes");
        }
        let judge = self.anybody();
        self.lists_what_it_must(judge);
    }

    fn prune(&mut self) {
        let tool = self.anybody();
        let waste = ["0", "5%", "unlimited"][self.below(3)];
        let mut words = vec!["prune", "--max-unused", waste];
        if tool == Tool::Rustic {
            words[2] = if waste == "0" { "0%" } else { waste };
            words.push("--instant-delete");
        }
        self.does(tool, &words);
    }

    fn restore(&mut self, tool: Tool, which: usize) {
        let (id, copy) = self.snapshots[which].clone();
        let target = self.home.restored();
        let _ = fs::remove_dir_all(&target);
        let into = target.to_str().expect("UTF-8");
        match tool {
            Tool::Rustic => self.does(tool, &["restore", &id, into]),
            _ => self.does(tool, &["restore", &id, "--target", into]),
        };
        // Stock restic makes no holes; and the copy's own folder is younger than its original.
        let options = Options { holes: false, top: false, ..Options::default() };
        let account = trees_with(&copy, &self.home.restored_source(), &options);
        let account = account.expect("both trees are there");
        if let Some(first) = account.differences.first() {
            panic!("{tool:?} restores {id} otherwise: {first}\n{}", self.diary.join("\n"));
        }
    }

    fn lists_what_it_must(&mut self, tool: Tool) {
        let said = self.does(tool, &["snapshots", "--json"]);
        let mut found: Vec<String> = ids_in(&said.out);
        found.sort_unstable();
        let mut wanted: Vec<String> = self.snapshots.iter().map(|(id, _)| id.clone()).collect();
        wanted.sort_unstable();
        assert_eq!(found, wanted, "{tool:?} lists others than were made: {}", said.said());
    }

    fn everybody_agrees(&mut self) {
        for tool in self.tools.clone() {
            self.lists_what_it_must(tool);
            self.does(tool, &["check", "--read-data"]);
            for which in [0, self.snapshots.len() - 1] {
                self.restore(tool, which);
            }
        }
    }

    /// Of the same files, to the last byte.
    fn both_write_the_same_tree(&mut self) {
        let mut trees = BTreeMap::new();
        for tool in [Tool::Ours, Tool::Restic] {
            let source = self.home.source();
            let words = ["backup", "--json", "--force", "--host", HOST];
            let said = self.does(tool, &[&words[..], &[source.to_str().expect("UTF-8")]].concat());
            let id = json_field(&said.out, "snapshot_id").expect("a snapshot");
            trees.insert(self.tree_of_source(&id), tool);
        }
        assert_eq!(trees.len(), 1, "two trees of one source: {trees:?}");
    }

    /// The id of the source's own tree. The folders above it are used by everyone.
    fn tree_of_source(&mut self, snapshot: &str) -> String {
        let found = self.does(Tool::Restic, &["cat", "snapshot", snapshot]).json();
        let mut id = found["tree"].as_str().expect("a tree").to_owned();
        for name in self.home.source().iter().skip(1).map(|name| name.to_string_lossy()) {
            let tree = self.does(Tool::Restic, &["cat", "blob", &id]).json();
            let nodes = tree["nodes"].as_array().expect("nodes").iter();
            let node = nodes.clone().find(|node| node["name"] == *name).expect("the folder");
            id = node["subtree"].as_str().expect("a folder").to_owned();
        }
        id
    }

    /// Runs a tool, which must succeed.
    fn does(&mut self, tool: Tool, words: &[&str]) -> Finished {
        self.diary.push(format!("  {tool:?} {}", words.join(" ")));
        let mut command = match tool {
            Tool::Ours => self.home.holdfast(words),
            Tool::Restic => self.home.restic(words),
            Tool::Rustic => {
                let mut command = Command::new(self.rustic.as_ref().expect("rustic was given"));
                command.arg("-r").arg(self.home.repository()).arg("--password-file");
                command.arg(self.home.password_file()).args(["--no-cache", "--no-progress"]);
                command.args(words).env("HOME", self.home.join("home"));
                command
            }
        };
        let said = run(command.env("TZ", "UTC"));
        if said.code != 0 { self.fails("it failed", &said) } else { said }
    }

    fn fails<T>(&self, why: &str, said: &Finished) -> T {
        let (seed, diary) = (self.seed, self.diary.join("\n"));
        panic!("seed {seed}: {why} (ended with {}):\n{}\n{diary}", said.code, said.said())
    }
}

/// A text field of the last JSON line, or of JSON over many lines, that has it.
fn json_field(text: &str, name: &str) -> Option<String> {
    let of = |text: &str| {
        let value: serde_json::Value = serde_json::from_str(text).ok()?;
        Some(value.get(name)?.as_str()?.to_owned())
    };
    of(text).or_else(|| text.lines().rev().find_map(of))
}

/// The beginnings of all snapshots' ids in a list of them, grouped or not.
fn ids_in(text: &str) -> Vec<String> {
    fn gather(value: &serde_json::Value, into: &mut Vec<String>) {
        match value {
            serde_json::Value::Array(all) => all.iter().for_each(|each| gather(each, into)),
            serde_json::Value::Object(fields) => match (fields.get("tree"), fields.get("id")) {
                (Some(_), Some(id)) => {
                    let id = id.as_str().unwrap_or_default();
                    into.push(id.chars().take(8).collect());
                }
                _ => fields.values().for_each(|each| gather(each, into)),
            },
            _ => {}
        }
    }
    let mut found = Vec::new();
    for line in serde_json::Deserializer::from_str(text).into_iter::<serde_json::Value>() {
        gather(&line.unwrap_or_default(), &mut found);
    }
    found
}

/// Regular files below a folder, sorted.
fn files_below(root: &Path) -> Vec<PathBuf> {
    let (mut found, mut waiting) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.file_type().map(|kind| (kind.is_dir(), kind.is_file())) {
                Ok((true, _)) => waiting.push(entry.path()),
                Ok((_, true)) => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found.sort_unstable();
    found
}
