//! What ours and stock restic say of the same repository: of sound ones in every shape the format
//! allows, and of damaged ones. A table holds both answers, and why they differ where they do.

use engine_repository::FileKind::{self, Index, Key, Pack, Snapshot};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tests_damaged::damage::{At, cut, files, flip, lengthen, remove, replace};
use tests_damaged::{IndexShape, Original, PASSWORD, Shape};
use tests_support::{Finished, TempHome, run};

/// A repository, and what is said of it: by `check`, `check --read-data`, `snapshots` (how many),
/// `ls latest`, `restore latest` (how much came back). A `!` says that the program failed.
struct Case {
    name: &'static str,
    shape: Shape,
    damage: fn(&Path),
    restic: &'static str,
    ours: &'static str,
    /// Why the two differ, where they do.
    why: &'static str,
}

const SOUND: &str = "sound sound 2 listed all";

fn nothing(_: &Path) {}

/// Sound repositories of every shape.
fn shapes() -> Vec<Case> {
    let one = Shape::default();
    let case =
        |name, shape| Case { name, shape, damage: nothing, restic: SOUND, ours: SOUND, why: "" };
    vec![
        case("version 2", one),
        case("version 1", Shape { version: 1, ..one }),
        case("version 1, packs of mixed kinds", Shape { version: 1, is_mixed: true, ..one }),
        case("version 2, packs of mixed kinds", Shape { is_mixed: true, ..one }),
        case("every blob in two packs", Shape { copies: 2, ..one }),
        case("an index file for each pack", Shape { index: IndexShape::OnePerPack, ..one }),
        case("every pack in two index files", Shape { index: IndexShape::Twice, ..one }),
        case("an index that supersedes", Shape { index: IndexShape::Supersedes, ..one }),
        case("another program's fields", Shape { index: IndexShape::Strange, ..one }),
        case("an empty index file", Shape { index: IndexShape::WithEmpty, ..one }),
        case("strange files everywhere", Shape { has_strangers: true, ..one }),
    ]
}

/// The file of this kind at this place, the smallest being 0. Of packs, 0 holds the trees.
fn nth(repository: &Path, kind: FileKind, place: usize) -> PathBuf {
    files(repository, kind).swap_remove(place)
}

/// Both say the same.
const SAME: &str = "";
/// Restic tells of it, lists the others, and exits as if nothing were wrong; asked for the latest
/// it then finds none. Ours lists the others, too, names the file, and exits with 1. By id both
/// restore the others; which is the latest neither guesses.
const LISTS_LESS: &str = "ours does not call a list complete that is not";
const NO_LATEST: &str = "`ls latest` of restic before 0.16 exits with 0 where there is nothing";
const UNREADABLE_LOCK: &str = "restic before 0.16 passes over it; newer ones and ours do not, for \
                               it may be somebody's";

/// What is damaged and how, and what restic and ours say of it.
type Row = (&'static str, fn(&Path), &'static str, &'static str, &'static str);

const DAMAGES: &[Row] = &[
    (
        "a bit of a file's data",
        |it| flip(&nth(it, Pack, 1), At::Middle),
        "sound damaged 2 listed part!",
        "sound damaged 2 listed part!",
        SAME,
    ),
    (
        "a bit of a pack's header",
        |it| flip(&nth(it, Pack, 1), At::End),
        "sound damaged 2 listed all",
        "sound damaged 2 listed all",
        SAME,
    ),
    (
        "a bit of an old tree",
        |it| flip(&nth(it, Pack, 0), At::Start),
        "damaged damaged 2 listed all",
        "damaged damaged 2 listed all",
        SAME,
    ),
    (
        "a bit of the header of the trees' pack",
        |it| flip(&nth(it, Pack, 0), At::End),
        "sound damaged 2 listed all",
        "sound damaged 2 listed all",
        SAME,
    ),
    (
        "a pack cut in half",
        |it| cut(&nth(it, Pack, 1), 500),
        "damaged damaged 2 listed part!",
        "damaged damaged 2 listed part!",
        SAME,
    ),
    (
        "a pack of no bytes",
        |it| cut(&nth(it, Pack, 1), 0),
        "damaged damaged 2 listed part!",
        "damaged damaged 2 listed part!",
        SAME,
    ),
    (
        "a pack that grew",
        |it| lengthen(&nth(it, Pack, 1)),
        "damaged damaged 2 listed all",
        "damaged damaged 2 listed all",
        SAME,
    ),
    (
        "a pack with another's content",
        |it| {
            replace(&nth(it, Pack, 1), &nth(it, Pack, 2));
        },
        "damaged damaged 2 listed part!",
        "damaged damaged 2 listed part!",
        SAME,
    ),
    (
        "a data pack is gone",
        |it| remove(&nth(it, Pack, 1)),
        "damaged damaged 2 listed part!",
        "damaged damaged 2 listed part!",
        SAME,
    ),
    (
        "a bit of the index",
        |it| flip(&nth(it, Index, 0), At::Middle),
        "damaged damaged 2 unlisted! none!",
        "damaged damaged 2 unlisted! none!",
        SAME,
    ),
    (
        "the index cut in half",
        |it| cut(&nth(it, Index, 0), 500),
        "damaged damaged 2 unlisted! none!",
        "damaged damaged 2 unlisted! none!",
        SAME,
    ),
    (
        "an index of no bytes",
        |it| cut(&nth(it, Index, 0), 0),
        "damaged damaged 2 unlisted! none!",
        "damaged damaged 2 unlisted! none!",
        SAME,
    ),
    (
        "the index is gone",
        |it| remove(&nth(it, Index, 0)),
        "damaged damaged 2 unlisted! none!",
        "damaged damaged 2 unlisted! none!",
        SAME,
    ),
    (
        "an index with a snapshot's content",
        |it| {
            replace(&nth(it, Index, 0), &nth(it, Snapshot, 0));
        },
        "damaged damaged 2 unlisted! none!",
        "damaged damaged 2 unlisted! none!",
        SAME,
    ),
    (
        "a bit of the newest snapshot",
        |it| flip(&nth(it, Snapshot, 1), At::Middle),
        "damaged damaged 1 unlisted none!",
        "damaged damaged 1! unlisted! none!",
        LISTS_LESS,
    ),
    (
        "a bit of the oldest snapshot",
        |it| flip(&nth(it, Snapshot, 0), At::Middle),
        "damaged damaged 1 unlisted none!",
        "damaged damaged 1! unlisted! none!",
        LISTS_LESS,
    ),
    (
        "a snapshot of no bytes",
        |it| cut(&nth(it, Snapshot, 0), 0),
        "damaged damaged 1 unlisted none!",
        "damaged damaged 1! unlisted! none!",
        LISTS_LESS,
    ),
    (
        "a snapshot is gone",
        |it| remove(&nth(it, Snapshot, 0)),
        "sound sound 1 listed all",
        "sound sound 1 listed all",
        SAME,
    ),
    (
        "all snapshots are gone",
        |it| files(it, Snapshot).iter().for_each(|f| remove(f)),
        "sound sound 0 unlisted none!",
        "sound sound 0 unlisted! none!",
        NO_LATEST,
    ),
    (
        "a bit of the config",
        |it| flip(&it.join("config"), At::Middle),
        "damaged damaged 0! unlisted! none!",
        "damaged damaged 0! unlisted! none!",
        SAME,
    ),
    (
        "a config of no bytes",
        |it| cut(&it.join("config"), 0),
        "damaged damaged 0! unlisted! none!",
        "damaged damaged 0! unlisted! none!",
        SAME,
    ),
    (
        "the config is gone",
        |it| remove(&it.join("config")),
        "damaged damaged 0! unlisted! none!",
        "damaged damaged 0! unlisted! none!",
        SAME,
    ),
    (
        "a bit of the key",
        |it| flip(&nth(it, Key, 0), At::Middle),
        "damaged damaged 0! unlisted! none!",
        "damaged damaged 0! unlisted! none!",
        SAME,
    ),
    (
        "a key cut in half",
        |it| cut(&nth(it, Key, 0), 500),
        "damaged damaged 0! unlisted! none!",
        "damaged damaged 0! unlisted! none!",
        SAME,
    ),
    (
        "the key is gone",
        |it| remove(&nth(it, Key, 0)),
        "damaged damaged 0! unlisted! none!",
        "damaged damaged 0! unlisted! none!",
        SAME,
    ),
    (
        "a damaged key beside a good one",
        |it| {
            let good = nth(it, Key, 0);
            let bad = it.join("keys").join("00".repeat(32));
            fs::copy(good, &bad).unwrap();
            flip(&bad, At::Middle);
        },
        "sound sound 2 listed all",
        "sound sound 2 listed all",
        SAME,
    ),
    (
        "a lock nobody can read",
        |it| {
            fs::write(it.join("locks").join("ab".repeat(32)), "not a lock at all, but long")
                .unwrap();
        },
        "sound sound 2 listed all",
        "damaged damaged 2 unlisted! none!",
        UNREADABLE_LOCK,
    ),
];

fn damages() -> Vec<Case> {
    let case = |(name, damage, restic, ours, why): &Row| Case {
        name,
        shape: Shape::default(),
        damage: *damage,
        restic,
        ours,
        why,
    };
    DAMAGES.iter().map(case).collect()
}

/// Both tools, on one repository.
struct Judges {
    home: TempHome,
    original: Original,
}

impl Judges {
    fn of(case: &Case) -> Self {
        use nix::unistd::{getegid, geteuid};
        let home = TempHome::new();
        fs::write(home.password_file(), PASSWORD).unwrap();
        let original = Original::new(geteuid().as_raw(), getegid().as_raw());
        original.write(&home.repository(), case.shape);
        (case.damage)(&home.repository());
        Self { home, original }
    }

    fn restic(&self, words: &[&str]) -> Finished {
        run(&mut self.home.restic(words))
    }

    fn ours(&self, words: &[&str]) -> Finished {
        run(self.home.holdfast(words).arg("--no-cache"))
    }

    /// What a tool says, in one line.
    fn verdict(&self, tool: fn(&Self, &[&str]) -> Finished, name: &str) -> String {
        let check = |words: &[&str]| match tool(self, words).code {
            0 => "sound",
            _ => "damaged",
        };
        let (structure, data) = (check(&["check"]), check(&["check", "--read-data"]));
        let snapshots = tool(self, &["snapshots", "--json"]);
        let listed = snapshots.out.matches("\"tree\"").count();
        let ls = tool(self, &["ls", "latest"]);
        let last = &self.original.files().last().unwrap().0;
        let target = self.home.join(name);
        let restore = tool(self, &["restore", "latest", "--target", target.to_str().unwrap()]);
        let failed = |finished: &Finished| if finished.code == 0 { "" } else { "!" };
        format!(
            "{structure} {data} {listed}{} {}{} {}{}",
            failed(&snapshots),
            if ls.out.contains(last) { "listed" } else { "unlisted" },
            failed(&ls),
            self.restored(&target),
            failed(&restore),
        )
    }

    /// How much of the newest snapshot is there.
    fn restored(&self, target: &Path) -> &'static str {
        let back = self.original.come_back(target);
        match back.right {
            _ if back.wrong + back.emptied > 0 => "wrong",
            0 => "none",
            right if right == self.original.files().len() => "all",
            _ => "part",
        }
    }
}

/// Cases looked at at once: restic tries what is cut off ten times, and mostly waits.
const THREADS: usize = 12;

/// Both verdicts of every case, and a line for each that is not the table's.
#[track_caller]
fn everybody_says_what_the_table_says(cases: &[Case]) {
    let (next, complaints) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let look = || {
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let judges = Judges::of(case);
            let restic = judges.verdict(Judges::restic, "by restic");
            let ours = judges.verdict(Judges::ours, "by ours");
            println!("{:42} restic: {restic:32} ours: {ours}", case.name);
            if (&*restic, &*ours) != (case.restic, case.ours) {
                let complaint = format!(
                    "{}: restic says `{restic}` (table: `{}`), ours `{ours}` (table: `{}`)",
                    case.name, case.restic, case.ours
                );
                complaints.lock().unwrap().push(complaint);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(look);
        }
    });
    let complaints = complaints.into_inner().unwrap();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn repositories_of_every_shape_are_sound_to_both_and_come_back_whole() {
    everybody_says_what_the_table_says(&shapes());
}

#[test]
fn of_damaged_repositories_both_say_what_is_lost_and_ours_restores_no_less() {
    let cases = damages();
    for case in &cases {
        assert_eq!(case.restic != case.ours, !case.why.is_empty(), "{}: say why", case.name);
    }
    everybody_says_what_the_table_says(&cases);
}
