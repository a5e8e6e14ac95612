//! start-stop-status: what DSM asks a package, through the package's own script, in both shells.

use nix::sys::signal::Signal;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;
use tests_stories::{Depot, OurBox, PACKAGE};
use tests_support::nas::State;
use tests_support::{Dsm, Shell, Telling, wait_longer};

const EVERYWHERE: [(Dsm, Shell); 2] = [(Dsm::Six, Shell::Ash), (Dsm::Seven, Shell::Bash)];

fn on_every_box(story: impl Fn(&OurBox)) {
    let depot = Depot::with("0.1.0-0001");
    for (dsm, shell) in EVERYWHERE {
        story(&OurBox::with_our_package(dsm, shell, &depot));
    }
}

fn service(our_box: &OurBox, verb: &str) -> i32 {
    our_box.nas().service(PACKAGE, verb).expect("it is installed")
}

#[track_caller]
fn the_engine(our_box: &OurBox) -> u32 {
    match our_box.engines()[..] {
        [pid] => pid,
        ref others => panic!("not one engine but {others:?}"),
    }
}

#[test]
fn a_second_start_changes_nothing_and_a_second_stop_neither() {
    on_every_box(|our_box| {
        let engine = the_engine(our_box);
        assert_eq!(service(our_box, "start"), 0);
        assert_eq!(the_engine(our_box), engine, "a second engine, or another one");
        assert_eq!(service(our_box, "status"), 0);
        assert_eq!(service(our_box, "stop"), 0);
        assert_eq!(service(our_box, "status"), 3);
        assert_eq!(our_box.nas().processes(), Vec::<u32>::new(), "a child was left behind");
        assert_eq!(service(our_box, "stop"), 0);
        assert_eq!(service(our_box, "status"), 3);
    });
}

#[test]
fn every_verb_is_answered_and_unknown_ones_with_zero() {
    on_every_box(|our_box| {
        for verb in ["prestart", "prestop", "log", "no-such-verb", ""] {
            assert_eq!(service(our_box, verb), 0, "verb `{verb}`");
        }
        assert_eq!(our_box.state(), State::Running, "a question changed something");
    });
}

#[test]
fn the_log_verb_names_a_log_with_something_in_it() {
    on_every_box(|our_box| {
        let (code, said) = our_box.nas().service_says(PACKAGE, "log").expect("it is installed");
        assert_eq!(code, 0);
        let log = Path::new(said.trim());
        assert!(fs::metadata(log).is_ok_and(|meta| meta.len() > 0), "`{said}` is no log");
    });
}

#[test]
fn after_a_power_cut_the_stale_pid_file_fools_nobody() {
    on_every_box(|our_box| {
        our_box.nas().cut_power();
        let state = our_box.state();
        assert!(matches!(state, State::Dead(1) | State::Stopped), "{state:?}");
        assert_eq!(our_box.nas().boot().expect("it boots"), Vec::<String>::new());
        assert_eq!(our_box.state(), State::Running);
        the_engine(our_box);
    });
}

#[test]
fn a_pid_that_another_program_got_meanwhile_is_not_taken_for_ours_and_not_killed() {
    on_every_box(|our_box| {
        let pids: Vec<u32> = our_box.nas().processes();
        our_box.nas().cut_power();
        let stranger = Stranger::start();
        let told = write_over(&our_box.nas().var(PACKAGE), &pids, stranger.0.id());
        assert!(told > 0, "no file remembers a PID, so this story tells nothing");
        assert_ne!(our_box.state(), State::Running, "a stranger was taken for the engine");
        assert_eq!(service(our_box, "stop"), 0);
        assert!(stranger.is_alive(), "a stranger was killed");
        assert_eq!(service(our_box, "start"), 0);
        assert_eq!(our_box.state(), State::Running);
        assert!(stranger.is_alive());
        the_engine(our_box);
    });
}

#[test]
fn a_stop_ends_the_engine_even_when_the_supervisor_was_killed() {
    on_every_box(|our_box| {
        let engine = the_engine(our_box);
        for pid in our_box.nas().processes().into_iter().filter(|pid| *pid != engine) {
            kill(pid);
        }
        assert_eq!(the_engine(our_box), engine, "the engine went with its supervisor");
        assert_eq!(service(our_box, "start"), 0);
        assert_eq!(our_box.engines().len(), 1, "a second engine was started beside the first");
        assert_eq!(service(our_box, "stop"), 0);
        assert_eq!(our_box.nas().processes(), Vec::<u32>::new());
        assert_eq!(service(our_box, "status"), 3);
    });
}

#[test]
fn an_engine_that_hangs_is_noticed_and_started_again_and_its_owner_can_read_why() {
    let depot = Depot::with("0.1.0-0001");
    let our_box = OurBox::with_our_package(Dsm::Seven, Shell::Bash, &depot);
    our_box.stop();
    // What the package asks every five minutes is asked every second.
    let path = our_box.nas().target(PACKAGE).join("conf/daemon.toml");
    let described = fs::read_to_string(&path).expect("a description");
    let hurried = described
        .replace("health_seconds = 300", "health_seconds = 1")
        .replace("health_seconds_max = 60", "health_seconds_max = 2");
    assert!(described.contains("\"--alive\"") && described != hurried, "{described}");
    fs::write(&path, hurried).expect("root may");
    our_box.start();
    // On a busy computer it may have been taken for hung already.
    let hung = loop {
        if let [engine] = our_box.engines()[..] {
            break engine;
        }
    };
    signal(hung, Signal::SIGSTOP);
    let log = our_box.nas().var(PACKAGE).join("log/supervisor.log");
    let said = || fs::read_to_string(&log).unwrap_or_default();
    let what = Telling(|| format!("it is noticed: {}", said()));
    wait_longer(Duration::from_secs(300), what, || {
        !our_box.engines().contains(&hung) && our_box.state() == State::Running
    });
    assert!(said().contains("the daemon hangs: no answer within 2 seconds"), "{}", said());
    let told = Command::new(our_box.nas().target(PACKAGE).join("bin/holdfast-supervisor"))
        .args(["status", "--package", PACKAGE, "--root"])
        .arg(our_box.nas().root())
        .output()
        .expect("it starts");
    let told = String::from_utf8_lossy(&told.stdout);
    assert!(told.contains("the daemon hangs"), "{told}");
}

fn kill(pid: u32) {
    signal(pid, Signal::SIGKILL);
}

fn signal(pid: u32, signal: Signal) {
    let pid = nix::unistd::Pid::from_raw(pid.cast_signed());
    let _ = nix::sys::signal::kill(pid, signal);
}

/// Somebody else's program.
struct Stranger(Child);

impl Stranger {
    fn start() -> Self {
        Self(Command::new("sleep").arg("600").env_clear().spawn().expect("sleep starts"))
    }

    fn is_alive(&self) -> bool {
        let state = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap_or_default();
        state.contains("(sleep)") && !state.contains(") Z")
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Wherever a small text file below `folder` has one of `pids` as a word, `pid` is written instead.
fn write_over(folder: &Path, pids: &[u32], pid: u32) -> usize {
    let mut waiting: Vec<PathBuf> = vec![folder.to_path_buf()];
    let mut told = 0;
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                waiting.push(path);
                continue;
            }
            let is_log = path.extension().is_some_and(|extension| extension == "log");
            let Ok(text) = fs::read_to_string(&path) else { continue };
            let mut words: Vec<String> = Vec::new();
            for word in text.split_inclusive(|letter: char| !letter.is_ascii_digit()) {
                let digits = word.trim_end_matches(|letter: char| !letter.is_ascii_digit());
                let is_pid = pids.iter().any(|pid| pid.to_string() == digits);
                words.push(if is_pid {
                    word.replace(digits, &pid.to_string())
                } else {
                    word.into()
                });
            }
            let changed: String = words.concat();
            if !is_log && changed != text && fs::write(&path, changed).is_ok() {
                told += 1;
            }
        }
    }
    told
}
