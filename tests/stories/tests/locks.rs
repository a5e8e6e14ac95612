//! Two programs in one repository at once: whoever comes second is refused, and nothing is lost.
//!
//! Nobody sleeps for luck here: a program is stopped (SIGSTOP) when so many files of it are seen in
//! the repository, the other one runs meanwhile, and then the first one goes on.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tests_stories::packs;
use tests_support::compare::trees;
use tests_support::tree::Tree;
use tests_support::{Finished, TempHome, run};

const MIB: u64 = 1 << 20;
/// How fast a program is that is to be stopped.
const KIB_PER_SECOND: &str = "25000";
/// Our exit code for a repository somebody else holds.
const LOCKED: i32 = 11;

/// A program at work, which can be made to hold its breath.
struct AtWork(Child, tempfile::NamedTempFile);

/// Whether the program was still at work when it was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caught {
    InTheMiddle,
    Done,
}

impl AtWork {
    fn start(command: &mut Command) -> Self {
        let log = tempfile::NamedTempFile::new().expect("a file");
        // A group of its own: the kernel hangs up on a group with a stopped program in it when
        // whoever connects it with its session ends.
        command.process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(log.reopen().expect("a file"));
        Self(command.spawn().expect("it starts"), log)
    }

    fn signal(&self, signal: Signal) {
        // One that is gone already is nobody's concern.
        let _ = kill(Pid::from_raw(self.0.id().cast_signed()), signal);
    }

    /// Stops it as soon as `is_reached` says so.
    fn stopped_when(&mut self, mut is_reached: impl FnMut() -> bool) -> Caught {
        loop {
            if self.0.try_wait().expect("a child").is_some() {
                return Caught::Done;
            }
            if is_reached() {
                self.signal(Signal::SIGSTOP);
                return Caught::InTheMiddle;
            }
            std::thread::yield_now();
        }
    }

    #[track_caller]
    fn goes_on_and_succeeds(mut self) {
        self.signal(Signal::SIGCONT);
        let ended = self.0.wait().expect("a child");
        let said = fs::read_to_string(self.1.path()).unwrap_or_default();
        assert!(ended.success(), "{ended}:\n{said}");
    }

    fn killed(mut self) {
        self.signal(Signal::SIGKILL);
        self.0.wait().expect("a child");
    }
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// Locks that are there for everybody to see: until it has its name, a file is none.
fn locks(home: &TempHome) -> usize {
    let is_named = |path: &PathBuf| path.file_name().is_some_and(|name| name.len() == 64);
    files_in(&home.repository().join("locks")).iter().filter(|path| is_named(path)).count()
}

fn ours(home: &TempHome, words: &[&str]) -> Finished {
    run(&mut home.holdfast(words))
}

fn restic(home: &TempHome, words: &[&str]) -> Finished {
    run(&mut home.restic(words))
}

/// A backup of ours that takes its time: a busy computer, too, sees it in the middle.
fn slow_backup(home: &TempHome) -> Command {
    home.holdfast(&["--limit-upload", KIB_PER_SECOND, "backup"])
}

/// The same with restic.
fn slow_restic(home: &TempHome, words: &[&str]) -> Command {
    let rates = ["--limit-upload", KIB_PER_SECOND, "--limit-download", KIB_PER_SECOND];
    home.restic(&[&rates[..], words].concat())
}

/// A source of noise, and a repository in which an older snapshot and some waste are.
fn a_used_repository() -> (TempHome, Tree) {
    let home = TempHome::new();
    let tree = Tree::at(home.source());
    tree.noise("old", 20 * MIB, 1).noise("stays", 9 * MIB, 2).many("few", 30);
    ours(&home, &["init"]).must_succeed();
    let source = home.source();
    let source = source.to_str().unwrap();
    ours(&home, &["backup", source]).must_succeed();
    fs::remove_file(tree.path("old")).unwrap();
    ours(&home, &["backup", source]).must_succeed();
    ours(&home, &["forget", "--keep-last", "1"]).must_succeed();
    (home, tree)
}

/// Both tools find everything sound, and the newest snapshot is the source.
#[track_caller]
fn nothing_is_lost(home: &TempHome) {
    restic(home, &["check", "--read-data"]).must_succeed();
    ours(home, &["check", "--read-data"]).must_succeed();
    let target = home.restored();
    let _ = fs::remove_dir_all(&target);
    ours(home, &["restore", "latest", "--target", target.to_str().unwrap()]).must_succeed();
    trees(&home.source(), &home.restored_source()).unwrap().must_be_equal();
}

/// Restic was refused because of a lock. (From version 0.17 on it ends with 11.)
#[track_caller]
fn must_be_refused(finished: &Finished) {
    assert!(finished.code == 1 || finished.code == LOCKED, "{}", finished.said());
    assert!(finished.said().contains("already locked"), "{}", finished.said());
}

/// Ours may tidy up beside a backup as far as that is safe; otherwise it says who is there.
#[track_caller]
fn refused_or_done(finished: &Finished) {
    assert!(finished.code == 0 || finished.code == LOCKED, "{}", finished.said());
}

#[test]
fn restics_prune_and_forget_are_refused_at_every_moment_of_our_backup() {
    let (home, tree) = a_used_repository();
    let source = home.source();
    let mut caught = 0;
    // After so many packs of the new backup; none at all: as soon as its lock is there.
    for after in [0, 1, 2, 4] {
        tree.noise("new", 80 * MIB, 100 + after);
        let before = packs(&home.repository()).len();
        let mut backup = AtWork::start(slow_backup(&home).arg(&source));
        let is_reached = || {
            let written = packs(&home.repository()).len().saturating_sub(before) as u64;
            locks(&home) > 0 && written >= after
        };
        if backup.stopped_when(is_reached) == Caught::InTheMiddle {
            caught += 1;
            must_be_refused(&restic(&home, &["prune"]));
            must_be_refused(&restic(&home, &["forget", "latest"]));
            // Who holds it is alive: it is no abandoned lock.
            restic(&home, &["unlock"]).must_succeed();
            assert_eq!(locks(&home), 1, "restic took the lock of a living backup away");
            refused_or_done(&ours(&home, &["prune", "--max-unused", "0"]));
        }
        backup.goes_on_and_succeeds();
        nothing_is_lost(&home);
        restic(&home, &["prune", "--max-unused", "0"]).must_succeed();
        nothing_is_lost(&home);
    }
    assert!(caught >= 3, "only {caught} backups were caught in the middle");
}

#[test]
fn restics_backup_beside_our_prune_is_refused_or_loses_nothing_at_any_moment() {
    let mut caught = 0;
    for moment in 0..4 {
        let (home, _tree) = a_used_repository();
        let source = home.source();
        let before = packs(&home.repository());
        let index = files_in(&home.repository().join("index"));
        let mut prune = AtWork::start(&mut home.holdfast(&["prune", "--max-unused", "0"]));
        let is_reached = || match moment {
            0 => locks(&home) > 0,
            1 => packs(&home.repository()).len() > before.len(),
            2 => files_in(&home.repository().join("index")) != index,
            _ => before.keys().any(|name| !packs(&home.repository()).contains_key(name)),
        };
        if prune.stopped_when(is_reached) == Caught::InTheMiddle && locks(&home) > 0 {
            caught += 1;
            let backup = run(home.restic(&["backup"]).arg(&source));
            if backup.code != 0 {
                must_be_refused(&backup);
            }
        }
        prune.goes_on_and_succeeds();
        run(home.restic(&["backup"]).arg(&source)).must_succeed();
        nothing_is_lost(&home);
    }
    assert!(caught >= 1, "no prune was caught in the middle");
}

#[test]
fn our_backup_is_refused_while_restic_prunes_and_ours_prunes_not_beside_restics_backup() {
    let (home, tree) = a_used_repository();
    let source = home.source();
    let mut prune = AtWork::start(&mut slow_restic(&home, &["prune", "--max-unused", "0"]));
    let caught = prune.stopped_when(|| locks(&home) > 0);
    assert_eq!(caught, Caught::InTheMiddle, "restic prunes without a lock");
    let refused = run(home.holdfast(&["backup"]).arg(&source)).must_fail_with_a_remedy();
    assert_eq!(refused.code, LOCKED, "{}", refused.said());
    prune.goes_on_and_succeeds();
    run(home.holdfast(&["backup"]).arg(&source)).must_succeed();

    tree.noise("new", 60 * MIB, 50);
    let before = packs(&home.repository()).len();
    let mut backup = AtWork::start(slow_restic(&home, &["backup"]).arg(&source));
    let caught = backup.stopped_when(|| packs(&home.repository()).len() > before);
    assert_eq!(caught, Caught::InTheMiddle, "60 MiB in one pack");
    for words in [&["prune"][..], &["forget", "latest"]] {
        refused_or_done(&ours(&home, words));
    }
    backup.goes_on_and_succeeds();
    nothing_is_lost(&home);
}

#[test]
fn what_a_killed_program_leaves_keeps_nobody_out_for_long_and_loses_nothing() {
    let (home, tree) = a_used_repository();
    let source = home.source();
    tree.noise("new", 80 * MIB, 60);
    let before = packs(&home.repository()).len();
    let begun = |home: &TempHome| packs(&home.repository()).len() > before;

    let mut backup = AtWork::start(slow_backup(&home).arg(&source));
    assert_eq!(backup.stopped_when(|| begun(&home)), Caught::InTheMiddle);
    backup.killed();
    assert_eq!(locks(&home), 1, "a killed program takes its lock along");
    // Restic tells abandoned locks apart when asked to unlock; ours whenever it meets one.
    restic(&home, &["unlock"]).must_succeed();
    assert_eq!(locks(&home), 0, "restic does not see that the holder of our lock is dead");
    restic(&home, &["prune", "--max-unused", "0"]).must_succeed();
    run(home.holdfast(&["backup"]).arg(&source)).must_succeed();
    nothing_is_lost(&home);

    for words in [&["prune", "--max-unused", "0"][..], &["check", "--read-data"]] {
        let mut at_work = AtWork::start(&mut slow_restic(&home, words));
        assert_eq!(at_work.stopped_when(|| locks(&home) > 0), Caught::InTheMiddle, "{words:?}");
        at_work.killed();
        run(home.holdfast(&["backup"]).arg(&source)).must_succeed();
        assert_eq!(locks(&home), 0, "ours leaves the lock of dead `restic {words:?}`");
        nothing_is_lost(&home);
    }
}
