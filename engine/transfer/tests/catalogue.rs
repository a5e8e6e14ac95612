//! With the catalogue a run reads what changed and nothing else, and makes the same snapshot as
//! without.

mod place;

use engine_transfer::{
    BackupOutcome, BackupRequest, Cancel, Event, ForgetRequest, ParentChoice, Repository, backup,
    diff, find_snapshot, forget,
};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use place::counting::Counting;
use place::{Place, check_all, noise, request};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

/// The kernel's clock ticks more often than that.
const TICK: Duration = Duration::from_millis(120);

struct Nas {
    place: Place,
    source: PathBuf,
    /// Keeps a cache.
    with: Repository,
    /// Keeps nothing.
    without: Repository,
    reads: Arc<Counting>,
}

impl Nas {
    /// A repository with some folders to back up, in which nothing changed just now.
    fn new() -> Self {
        let place = Place::new();
        let without = place.init();
        Self::on(place, without)
    }

    fn on(place: Place, without: Repository) -> Self {
        let reads = Counting::around(place.folder());
        let with = place.open_on(reads.clone()).with_cache(&place.path("caches"));
        let source = place.path("source");
        for folder in ["", "a", "a/b", "a/b/c", "a/d", "e", "e/f", "g"] {
            fs::create_dir_all(source.join(folder)).unwrap();
            for number in 0..4 {
                let bytes = noise(3000 + number, folder.len() as u64);
                fs::write(source.join(folder).join(format!("file {number}")), bytes).unwrap();
            }
        }
        symlink("file 1", source.join("e/link")).unwrap();
        let all = Self { place, source, with, without, reads };
        all.settle();
        all
    }

    /// Waits until the clock of the file system has ticked.
    fn settle(&self) {
        let end = SystemTime::now() + TICK;
        while SystemTime::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[track_caller]
    fn back_up(&self) -> BackupOutcome {
        run(&self.with, &request(&self.source))
    }

    /// What a run that reads everything and knows nothing makes of the source now.
    #[track_caller]
    fn judged(&self) -> BackupOutcome {
        run(&self.without, &unbiased(&self.source))
    }

    /// The paths at which two snapshots differ in anything, but for the folders on the way.
    fn differences(&self, one: &BackupOutcome, other: &BackupOutcome) -> Vec<String> {
        let find = |outcome: &BackupOutcome| {
            find_snapshot(&self.without, &outcome.snapshot.to_string()).unwrap()
        };
        let mut found = Vec::new();
        let mut each = |change, path: &Path, _| {
            if path.starts_with(&self.source) {
                found.push(format!("{change:?} {}", path.display()));
            }
        };
        let never = Cancel::new();
        diff(&self.without, &find(one), &find(other), true, &mut each, &never).unwrap();
        found
    }

    /// Backs up with the catalogue, and demands what a run without comes to.
    #[track_caller]
    fn back_up_and_judge(&self, what: &str) -> BackupOutcome {
        let outcome = self.back_up();
        assert_eq!(self.differences(&outcome, &self.judged()), [""; 0], "{what}");
        outcome
    }

    fn catalogues(&self) -> Vec<PathBuf> {
        let caches = fs::read_dir(self.place.path("caches")).unwrap();
        let files = caches.flat_map(|cache| fs::read_dir(cache.unwrap().path()).unwrap());
        let files = files.map(|file| file.unwrap().path());
        files.filter(|path| path.to_string_lossy().contains("catalogue-")).collect()
    }
}

fn unbiased(source: &Path) -> BackupRequest {
    BackupRequest { parent: ParentChoice::None, hostname: "judge".into(), ..request(source) }
}

#[track_caller]
fn run(repository: &Repository, request: &BackupRequest) -> BackupOutcome {
    backup(repository, request, &|_| {}, &Cancel::new()).unwrap()
}

/// All folders below one, itself included.
fn folders(below: &Path) -> Vec<PathBuf> {
    let mut all = vec![below.to_owned()];
    let mut next = 0;
    while let Some(folder) = all.get(next).cloned() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                all.push(entry.path());
            }
        }
        next += 1;
    }
    all.sort();
    all
}

/// Names of everything that is opened in the source while `work` is done, but folders.
fn opened_during(source: &Path, work: impl FnOnce()) -> BTreeSet<String> {
    let watch = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).unwrap();
    for folder in folders(source) {
        watch.add_watch(&folder, AddWatchFlags::IN_OPEN).unwrap();
    }
    work();
    let mut opened = BTreeSet::new();
    while let Ok(events) = watch.read_events() {
        let files =
            events.into_iter().filter(|event| !event.mask.contains(AddWatchFlags::IN_ISDIR));
        opened.extend(files.filter_map(|event| event.name?.into_string().ok()));
    }
    opened
}

#[test]
fn a_run_with_nothing_changed_opens_no_file_reads_no_tree_and_asks_no_index() {
    let place = Place::apart();
    let without = place.init();
    let nas = Nas::on(place, without);
    let first = nas.back_up();
    assert_eq!((first.files_new, first.dirs), (32, 8 + on_the_way(&nas)));
    // Somebody may still do something in a folder on the way: then its tree changes.
    let mut last = first.tree;
    for _ in 0..20 {
        let before = nas.judged();
        nas.reads.take();
        let mut again = BackupOutcome::default();
        let opened = opened_during(&nas.source, || again = nas.back_up());
        assert_eq!(opened, BTreeSet::new());
        assert_eq!((again.files_unmodified, again.files_new, again.bytes_read), (32, 0, 0));
        assert_eq!((again.dirs, again.bytes_total), (first.dirs, first.bytes_total));
        assert_eq!(nas.differences(&again, &before), [""; 0]);
        let (blobs, indexes) = nas.reads.take();
        assert_eq!(blobs, 0, "trees were read");
        if again.tree == last {
            assert_eq!((indexes, again.tree_blobs), (0, 0), "the index was loaded");
            return;
        }
        last = again.tree;
    }
    panic!("the folders on the way never held still");
}

/// How many folders are around the source.
fn on_the_way(nas: &Nas) -> u64 {
    nas.source.components().count() as u64 - 2
}

#[test]
fn a_file_that_changed_is_the_only_one_that_is_opened_and_only_its_folders_trees_are_read() {
    let nas = Nas::new();
    nas.back_up();
    fs::write(nas.source.join("a/b/c/file 1"), "other words").unwrap();
    nas.settle();
    nas.reads.take();
    let mut outcome = BackupOutcome::default();
    let opened = opened_during(&nas.source, || outcome = nas.back_up());
    assert_eq!(opened, BTreeSet::from(["file 1".to_owned()]));
    assert_eq!((outcome.files_changed, outcome.files_unmodified), (1, 31));
    // c itself, and the three around it.
    assert_eq!(nas.reads.take().0, 4);
    assert_eq!(nas.differences(&outcome, &nas.judged()), [""; 0]);
    nas.reads.take();
    assert_eq!(nas.back_up().files_unmodified, 32);
    assert_eq!(nas.reads.take().0, 0, "the catalogue followed");
}

/// A generator that needs no clock: the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % sides
    }

    fn pick<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }
}

/// Everything but folders.
fn files(below: &Path) -> Vec<PathBuf> {
    let all = folders(below).into_iter().flat_map(|folder| fs::read_dir(folder).unwrap());
    let all = all.map(Result::unwrap).filter(|entry| !entry.file_type().unwrap().is_dir());
    let mut all: Vec<_> = all.map(|entry| entry.path()).collect();
    all.sort();
    all
}

const CHANGES: usize = 17;

/// Makes one change of a source, of one of so many kinds, and says which.
fn change(source: &Path, kind: usize, dice: &mut Dice, number: usize) -> String {
    let folder = dice.pick(&folders(source));
    let some: Vec<_> = files(source).into_iter().filter(|path| path.is_file()).collect();
    let file = dice.pick(&some);
    let new = folder.join(format!("new {number}"));
    let what = match kind {
        0 => fs::write(&new, noise(dice.below(5000), number as u64)).map(|()| "file added"),
        1 => fs::write(&file, noise(dice.below(5000), number as u64)).map(|()| "file rewritten"),
        2 => File::options().write(true).open(&file).and_then(|open| {
            open.set_modified(SystemTime::now() - Duration::from_secs(1000))?;
            Ok("touched")
        }),
        3 => {
            let mode = fs::metadata(&file).unwrap().permissions().mode() ^ 0o111;
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).map(|()| "mode changed")
        }
        4 => chown(&file, is_root().then_some(1000 + dice.below(3) as u32), None)
            .map(|()| "owner changed"),
        5 => fs::rename(&file, &new).map(|()| "file moved"),
        6 => replace_by_a_twin(&file, &new).map(|()| "replaced by one of the same size and time"),
        7 => fs::hard_link(&file, &new).map(|()| "link added"),
        8 => fs::create_dir(&new).map(|()| "folder added"),
        9 if folder != source => {
            let to = source.join(format!("moved {number}"));
            fs::rename(&folder, to).map(|()| "folder moved")
        }
        10 => xattr::set(&file, "user.note", &noise(9, number as u64)).map(|()| "noted at a file"),
        11 => {
            xattr::set(&folder, "user.note", &noise(9, number as u64)).map(|()| "noted at a folder")
        }
        12 => {
            let _ = fs::remove_file(source.join("e/link"));
            let _ = fs::create_dir(source.join("e"));
            symlink(format!("target {number}"), source.join("e/link")).map(|()| "link turned")
        }
        13 if some.len() > 8 => fs::remove_file(&file).map(|()| "file removed"),
        14 => {
            let mode = fs::metadata(&folder).unwrap().permissions().mode() ^ 0o011;
            fs::set_permissions(&folder, fs::Permissions::from_mode(mode))
                .map(|()| "mode of a folder changed")
        }
        15 if folder != source && files(&folder).len() + 8 < some.len() => {
            fs::remove_dir_all(&folder).map(|()| "folder removed")
        }
        16 => nix::unistd::mkfifo(&new, nix::sys::stat::Mode::S_IRWXU)
            .map(|()| "pipe added")
            .map_err(Into::into),
        _ => Ok("nothing"),
    };
    format!("{number}: {}, {} or {}", what.unwrap(), file.display(), folder.display())
}

fn replace_by_a_twin(file: &Path, beside: &Path) -> std::io::Result<()> {
    let before = fs::metadata(file)?;
    let bytes = usize::try_from(before.size()).unwrap();
    fs::write(beside, noise(bytes, before.ino()))?;
    File::options().write(true).open(beside)?.set_modified(before.modified()?)?;
    fs::rename(beside, file)
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[test]
fn whatever_changes_the_catalogue_comes_to_the_snapshot_a_full_read_comes_to() {
    for seed in [1, 2] {
        let nas = Nas::new();
        nas.back_up_and_judge("the first");
        let mut dice = Dice(seed);
        let mut is_any_tree_spared = false;
        for run in 0..30 {
            let mut what = String::new();
            for number in 0..dice.below(4) {
                let kind = dice.below(CHANGES);
                what += &change(&nas.source, kind, &mut dice, 10 * run + number);
                what += "; ";
            }
            if dice.below(2) == 0 {
                nas.settle();
            }
            nas.reads.take();
            nas.back_up_and_judge(&format!("seed {seed}: {what}"));
            is_any_tree_spared |= nas.reads.take().0 < folders(&nas.source).len();
        }
        assert!(is_any_tree_spared, "the catalogue was of no use");
        assert!(check_all(&nas.without).is_sound());
    }
}

#[test]
fn in_a_repository_restic_made_each_kind_of_change_comes_to_restics_own_tree() {
    let place = Place::new();
    fs::create_dir_all(place.path("source")).unwrap();
    place.restic_must(&["init"]);
    let without = place.open_on(place.folder());
    let nas = Nas::on(place, without);
    nas.back_up();
    let mut dice = Dice(3);
    for kind in 0..=CHANGES {
        let what = change(&nas.source, kind, &mut dice, 1000 + kind);
        nas.settle();
        let ours = nas.back_up();
        let source = nas.source.to_str().unwrap();
        nas.place.restic_must(&["backup", "--force", "--host", "judge", source]);
        let newest = find_snapshot(&nas.without, "latest").unwrap();
        assert_eq!(newest.hostname, "judge");
        let theirs = BackupOutcome { snapshot: newest.id, ..BackupOutcome::default() };
        assert_eq!(nas.differences(&ours, &theirs), [""; 0], "{what}");
    }
    nas.place.restic_must(&["check", "--read-data"]);
}

#[test]
fn a_catalogue_that_is_damaged_cut_off_or_not_one_is_passed_over_and_written_anew() {
    let nas = Nas::new();
    nas.back_up();
    let [path] = &nas.catalogues()[..] else { panic!("{:?}", nas.catalogues()) };
    let whole = fs::read(path).unwrap();
    let mut spoilt = vec![Vec::new(), b"not a catalogue at all, whatever its name is".to_vec()];
    for eighth in 0..8 {
        let place = whole.len() * eighth / 8 + 3;
        spoilt.push(whole[..place].to_vec());
        let mut flipped = whole.clone();
        flipped[place] ^= 4;
        spoilt.push(flipped);
        let mut zeroed = whole.clone();
        zeroed[place..(place + 40).min(whole.len())].fill(0);
        spoilt.push(zeroed);
    }
    // A length beyond all bounds.
    let mut long = whole.clone();
    long.splice(whole.len() - 8.., u64::MAX.to_le_bytes());
    spoilt.push(long);
    for (number, bytes) in spoilt.iter().enumerate() {
        fs::write(path, bytes).unwrap();
        let outcome = nas.back_up_and_judge(&format!("{number}"));
        assert_eq!((outcome.files_unmodified, outcome.problems_total), (32, 0), "{number}");
        nas.reads.take();
        nas.back_up();
        assert_eq!(nas.reads.take().0, 0, "{number}: it was not written anew");
    }
}

#[test]
fn the_catalogue_of_a_snapshot_that_was_forgotten_is_not_believed() {
    let nas = Nas::new();
    let first = nas.back_up();
    fs::write(nas.source.join("a/file 1"), "other words").unwrap();
    nas.settle();
    let second = nas.back_up();
    let gone = ForgetRequest { snapshots: vec![second.snapshot.to_string()], ..Default::default() };
    forget(&nas.without, &gone).unwrap();
    let third = nas.back_up_and_judge("the second was forgotten");
    assert_eq!((third.parent, third.files_changed), (Some(first.snapshot), 1));
}

#[test]
fn what_somebody_lost_and_took_out_of_the_index_is_read_and_stored_again() {
    let nas = Nas::new();
    let first = nas.back_up().snapshot;
    let packs = nas.place.path("repository/data");
    for pack in files(&packs) {
        fs::remove_file(pack).unwrap();
    }
    nas.place.restic_must(&["rebuild-index"]);
    let healed = nas.back_up();
    assert_eq!(healed.bytes_read, healed.bytes_total);
    let lost = ForgetRequest { snapshots: vec![first.to_string()], ..Default::default() };
    forget(&nas.without, &lost).unwrap();
    assert!(check_all(&nas.without).is_sound());
    nas.place.restic_must(&["check", "--read-data"]);
}

#[test]
fn where_a_tree_cannot_be_read_any_more_all_is_compared_without_the_catalogue() {
    let place = Place::apart();
    let without = place.init();
    let nas = Nas::on(place, without);
    nas.back_up();
    fs::write(nas.source.join("a/b/c/file 1"), "other words").unwrap();
    nas.settle();
    let known: BTreeSet<_> = files(&nas.place.path("repository/data")).into_iter().collect();
    for _ in 0..20 {
        let judged = nas.judged();
        // Only what was there before: the index still names it.
        for pack in &known {
            let _ = fs::remove_file(pack);
        }
        let outcome = nas.back_up();
        assert_eq!((outcome.problems_total, outcome.bytes_total), (0, judged.bytes_total));
        if outcome.tree == judged.tree {
            return;
        }
        for path in nas.catalogues() {
            fs::remove_file(path).unwrap();
        }
    }
    panic!("the folders on the way never held still");
}

#[test]
fn a_file_nobody_may_read_is_told_about_in_every_run() {
    let nas = Nas::new();
    let secret = nas.source.join("a/b/file 2");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    if is_root() {
        fs::create_dir(nas.place.path("caches")).unwrap();
        give_away(&nas.place.path(""), &secret);
    }
    nas.settle();
    let run = || {
        // Only of this thread, which walks, and of those it starts.
        is_root().then(|| nix::unistd::setfsuid(65_534.into()));
        let outcome = nas.back_up();
        is_root().then(|| nix::unistd::setfsuid(0.into()));
        outcome
    };
    for number in 0..3 {
        let outcome = run();
        assert_eq!(outcome.problems_total, 1, "run {number}: {:?}", outcome.problems);
        assert_eq!(outcome.problems[0].path, secret);
        assert_eq!(outcome.files_new + outcome.files_unmodified, 31, "run {number}");
    }
}

/// Makes everything but `not` a nobody's.
fn give_away(path: &Path, not: &Path) {
    for folder in folders(path) {
        chown(&folder, Some(65_534), None).unwrap();
    }
    for file in files(path).into_iter().filter(|file| file != not && !file.is_symlink()) {
        chown(&file, Some(65_534), None).unwrap();
    }
}

#[test]
fn other_excludes_and_another_zone_are_another_backup() {
    let nas = Nas::new();
    nas.back_up();
    let mut wanted = request(&nas.source);
    wanted.excludes = vec!["file 3".into()];
    wanted.zone = jiff::tz::TimeZone::fixed(jiff::tz::offset(2));
    for run_number in 0..2 {
        nas.reads.take();
        let outcome = run(&nas.with, &wanted);
        let judged = BackupRequest { excludes: wanted.excludes.clone(), ..unbiased(&nas.source) };
        let judged = BackupRequest { zone: wanted.zone.clone(), ..judged };
        let judged = run(&nas.without, &judged);
        assert_eq!(nas.differences(&outcome, &judged), [""; 0], "run {run_number}");
        assert_eq!(nas.reads.take().0 == 0, run_number == 1);
    }
}

#[test]
fn how_much_there_is_to_do_is_known_from_the_start_when_it_was_done_before() {
    let nas = Nas::new();
    let first = nas.back_up();
    let told = Mutex::new(Vec::new());
    let events = |event| {
        if let Event::Progress(progress) = event {
            told.lock().unwrap().push(progress);
        }
    };
    backup(&nas.with, &request(&nas.source), &events, &Cancel::new()).unwrap();
    let told = told.into_inner().unwrap();
    let last = told.last().unwrap();
    // 32 files and a link.
    assert_eq!((last.files_done, last.files_total), (33, 33));
    assert_eq!((last.bytes_done, last.bytes_total), (first.bytes_total, first.bytes_total));
    assert!(told.iter().all(|progress| progress.is_total_known));
}
