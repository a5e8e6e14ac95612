//! Task Scheduler starts the package at 00:00 and stops it at 04:00, night after night. The nights
//! pass in moments: both programs live by a clock that the story sets.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};
use tests_stories::{Depot, Line, OurBox, PACKAGE, packs};
use tests_support::nas::State;
use tests_support::tree::Tree;
use tests_support::{Dsm, RestServer, Shell, Telling, compare, run, wait_longer};

const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(300);

/// What gets through in one night.
const NIGHT_BYTES: u64 = 60 * MIB;
/// Everything there is to send, which cannot be made smaller.
const SOURCE_BYTES: u64 = 150 * MIB;
/// What is on its way when the line breaks: the packs that are sent at once, and what is filled.
const ON_ITS_WAY_BYTES_MAX: u64 = 2 * 17 * MIB;
/// A stop while the line stands still takes seconds, and on a busy computer a little more.
const STOP_MAX: Duration = Duration::from_secs(120);

/// The clock both programs live by: a file with the difference to the real one.
struct Clock {
    file: PathBuf,
    library: String,
}

impl Clock {
    fn within(our_box: &OurBox) -> Self {
        let said = run(Command::new("faketime").args(["-f", "+0s", "env"])).must_succeed().out;
        let library = said.lines().find_map(|line| line.strip_prefix("LD_PRELOAD="));
        let library = library.expect("faketime preloads its library").to_owned();
        Self { file: our_box.outside("clock"), library }
    }

    /// Now it is `local` (`2026-03-29 00:00`) where `zone` is; seconds since 1970.
    fn is_set(&self, zone: &str, local: &str) -> i64 {
        let mut date = Command::new("date");
        let said = run(date.env("TZ", zone).args(["-d", local, "+%s"])).must_succeed().out;
        let then: i64 = said.trim().parse().expect("a number");
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock");
        let away = then - i64::try_from(now.as_secs()).expect("a clock");
        // In one step, so that nobody reads half of it.
        let fresh = self.file.with_extension("new");
        fs::write(&fresh, format!("{away:+}s\n")).expect("a file");
        fs::rename(&fresh, &self.file).expect("a file");
        then
    }

    fn variables(&self) -> [(&'static str, String); 6] {
        [
            ("LD_PRELOAD", self.library.clone()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("NO_FAKE_STAT", "1".to_owned()),
        ]
    }
}

/// A box whose programs live by a clock of their own.
struct Clocked {
    our_box: OurBox,
    clock: Clock,
    supervisor: Option<Child>,
}

impl Clocked {
    fn new() -> Self {
        let depot = Depot::with("0.1.0-0001");
        let our_box = OurBox::with_our_package(Dsm::Six, Shell::Ash, &depot);
        our_box.stop();
        let clock = Clock::within(&our_box);
        let path = our_box.nas().target(PACKAGE).join("conf/daemon.toml");
        let described = fs::read_to_string(&path).expect("a description");
        let lines: Vec<String> =
            clock.variables().iter().map(|(name, value)| format!("{name} = '{value}'\n")).collect();
        let table = "[daemon.environment]\n";
        let changed = described.replace(table, &format!("{table}{}", lines.concat()));
        assert_ne!(changed, described);
        // The engine stops by itself, however busy this computer is, or the story fails.
        let patient = changed.replace("stop_seconds_max = 20", "stop_seconds_max = 600");
        assert_ne!(patient, changed);
        fs::write(&path, patient).expect("root may");
        Self { our_box, clock, supervisor: None }
    }

    /// What the package's script does at `start`, by this box's clock; waits until it runs.
    fn starts(&mut self, zone: Option<&str>) {
        let target = self.our_box.nas().target(PACKAGE);
        let mut supervisor = Command::new(target.join("bin/holdfast-supervisor"));
        supervisor.args(["run", "--package", PACKAGE, "--root"]).arg(self.our_box.nas().root());
        supervisor.env_clear().env("PATH", "/usr/bin:/bin").envs(self.clock.variables());
        supervisor.envs(zone.map(|zone| ("TZ", zone)));
        supervisor.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.supervisor = Some(supervisor.spawn().expect("it starts"));
        self.waits_for("it runs", |our_box| our_box.state() == State::Running);
    }

    /// Stops, which must not take long however the line is.
    fn stops(&mut self) {
        let begun = Instant::now();
        self.our_box.stop();
        assert!(begun.elapsed() < STOP_MAX, "the stop took {:?}", begun.elapsed());
        assert_eq!(self.our_box.nas().processes(), Vec::<u32>::new(), "a child was left behind");
        self.supervisor.take().expect("it was started").wait().expect("it is ours");
    }

    fn waits_for(&self, what: &str, holds: impl Fn(&OurBox) -> bool) {
        let what = Telling(|| format!("{what}\n{}", self.history()));
        wait_longer(PATIENCE, what, || holds(&self.our_box));
    }

    fn log(&self, name: &str) -> String {
        let path = self.our_box.nas().var(PACKAGE).join("log").join(name);
        fs::read_to_string(path).unwrap_or_default()
    }

    fn history(&self) -> String {
        self.log("history.log")
    }

    /// The last line of both logs that tells of this is of that minute, as `date` writes it.
    fn wrote_at(&self, zone: &str, seconds: i64, engine: &str, supervisor: &str) {
        let minutes: Vec<String> = (-1..=5).map(|later| date(zone, seconds + later * 60)).collect();
        for (log, word, has_offset) in
            [("history.log", engine, true), ("supervisor.log", supervisor, false)]
        {
            let text = self.log(log);
            let line = text.lines().rev().find(|line| line.contains(word)).expect(word);
            let is_of = |minute: &String| {
                let (time, offset) = minute.rsplit_once(' ').expect("two parts");
                line.starts_with(time) && (!has_offset || line.contains(offset))
            };
            assert!(minutes.iter().any(is_of), "{zone}: {line}, not {minutes:?}");
        }
    }
}

/// `2026-03-29 04:00 +02:00`.
fn date(zone: &str, seconds: i64) -> String {
    let mut date = Command::new("date");
    date.env("TZ", zone).args(["-d", &format!("@{seconds}"), "+%Y-%m-%d %H:%M %:z"]);
    run(&mut date).must_succeed().out.trim().to_owned()
}

/// Where the zones of this machine are, this box has them, too.
fn has_zones(our_box: &OurBox) {
    let zones = our_box.nas().path("usr/share/zoneinfo");
    fs::create_dir_all(zones.parent().expect("a folder")).expect("a folder");
    run(Command::new("cp").arg("-a").arg("/usr/share/zoneinfo").arg(&zones)).must_succeed();
}

#[test]
fn a_backup_longer_than_a_night_is_done_in_the_sum_of_its_nights() {
    let mut nas = Clocked::new();
    has_zones(&nas.our_box);
    // What Control Panel of an older DSM writes, and Task Scheduler does not tell.
    let zone = "Europe/Amsterdam";
    let conf = fs::read_to_string(nas.our_box.nas().path("etc/synoinfo.conf")).expect("a file");
    assert!(conf.contains("timezone=\"Amsterdam\""), "{conf}");
    let source = nas.our_box.outside("source");
    let tree = Tree::at(source.clone());
    for number in 0..SOURCE_BYTES / (3 * MIB) {
        tree.noise(format!("photo {number}"), 3 * MIB, number + 1);
    }
    let served = nas.our_box.outside("served");
    let server = RestServer::over(&served, &[], None);
    let line = Line::to(&server.address.to_string());
    let repository = served.join("boxes");

    // Two nights are too short. The clocks change in the second, and again in the third.
    let nights = [
        ("2026-03-28", Some(NIGHT_BYTES), "+01:00"),
        ("2026-03-29", Some(NIGHT_BYTES), "+02:00"),
        ("2026-10-25", None, "+01:00"),
    ];
    for (night, (day, bytes, offset)) in nights.into_iter().enumerate() {
        let began = nas.clock.is_set(zone, &format!("{day} 00:00"));
        line.lets_through(bytes.unwrap_or(u64::MAX / 2));
        nas.starts(None);
        nas.wrote_at(zone, began, " started", "supervisor: ready");
        if night == 0 {
            let location = format!("rest:http://{}/boxes/", line.address());
            the_owner_protects(&nas.our_box, &source, &location);
        }
        // From the second night on nobody asks for it.
        match bytes {
            Some(_) => line.wait_until_stuck(),
            None => nas.waits_for("it is complete", |_| nas.history().contains(" complete: ")),
        }
        let ended = nas.clock.is_set(zone, &format!("{day} 04:00"));
        assert!(date(zone, ended).ends_with(offset), "{}", date(zone, ended));
        nas.stops();
        nas.wrote_at(zone, ended, " stopped", "supervisor: stopped");
        println!("{day}: {} bytes sent, {} stored", line.sent(), bytes_of(&repository));
        line.is_cut();
    }
    assert!(!nas.log("supervisor.log").contains("it is killed"), "it was killed");
    let stored = bytes_of(&repository);
    assert!(stored <= SOURCE_BYTES + SOURCE_BYTES / 20, "{stored} bytes of {SOURCE_BYTES} stored");
    let lost = line.sent().saturating_sub(stored);
    assert!(lost <= 2 * ON_ITS_WAY_BYTES_MAX, "{lost} bytes of two nights were lost");
    it_is_all_there(&nas.our_box, &source, &repository);
}

fn the_owner_protects(our_box: &OurBox, source: &Path, location: &str) {
    our_box.does(&["destination", "add", "friend", location]);
    let path = source.display().to_string();
    our_box.does(&["set", "add", "photos", "--path", &path, "--destination", "friend"]);
    // Whoever asks watches; the daemon goes on without.
    let mut ask = our_box.holdfast(&["set", "run", "photos"]);
    let mut asked = ask.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    std::thread::spawn(move || asked.wait());
}

/// The server's own disk has a repository that restic calls sound and restores.
fn it_is_all_there(our_box: &OurBox, source: &Path, repository: &Path) {
    let restored = our_box.outside("restored");
    let restic = |words: &[&str]| {
        let mut restic = Command::new("restic");
        restic.arg("--no-cache").arg("-r").arg(repository);
        restic.arg("--password-file").arg(our_box.password_file("friend"));
        run(restic.args(words)).must_succeed()
    };
    let snapshots = restic(&["snapshots", "--json"]).json();
    assert_eq!(snapshots.as_array().map(Vec::len), Some(1), "{snapshots}");
    restic(&["check", "--read-data"]);
    restic(&["restore", "latest", "--target", restored.to_str().expect("a plain name")]);
    let restored = restored.join(source.strip_prefix("/").expect("an absolute path"));
    compare::trees(source, &restored).expect("both are there").must_be_equal();
}

fn bytes_of(repository: &Path) -> u64 {
    packs(repository).values().sum()
}

/// A day on which the zone's clock stands elsewhere than in winter, and one in winter.
const DAYS: [&str; 2] = ["2026-07-01 00:00", "2026-12-24 00:00"];

#[test]
fn both_logs_tell_the_time_of_the_box_whatever_its_zone_is_called() {
    let mut nas = Clocked::new();
    has_zones(&nas.our_box);
    let asked = [
        ("Europe/Vienna", "Europe/Vienna"),
        ("US/Pacific", "America/Los_Angeles"),
        ("Calcutta", "Asia/Kolkata"),
        ("NZST-12NZDT,M9.5.0,M4.1.0/3", "Pacific/Auckland"),
        // Nobody knows it: then it is what the box itself says.
        ("Atlantis", "Europe/Amsterdam"),
    ];
    for (day, (said, zone)) in DAYS.iter().cycle().zip(asked) {
        let began = nas.clock.is_set(zone, day);
        nas.starts(Some(said));
        nas.stops();
        nas.wrote_at(zone, began, " started", "supervisor: ready");
    }
}
