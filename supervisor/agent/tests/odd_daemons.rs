//! Daemons that do what no daemon should, and a supervisor that is killed at every call it makes.

mod world;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use world::{GOOD, Nas, QUICK, kill, wait_for};

#[test]
fn one_that_goes_to_the_background_is_stopped_and_its_packager_told_what_to_change() {
    for script in ["sleep 1000 & exit 0", "setsid sleep 1000 & exit 0"] {
        let nas = Nas::with(script);
        let answer = nas.service("start");
        assert_eq!(answer.code, 1, "{}", answer.said);
        assert!(answer.said.contains("must be told to stay in the foreground"), "{}", answer.said);
        nas.runs_nothing();
        // It is about to end: a start is told as soon as it has failed.
        wait_for("nobody supervises any more", || nas.supervisors().is_empty());
        nas.expect_code("status", 3);
    }
}

#[test]
fn one_that_means_to_end_is_not_started_again() {
    let nas = Nas::with("echo >&3; until test -e \"$HOME/enough\"; do sleep 0.05; done");
    nas.start();
    fs::write(nas.var().join("enough"), "").unwrap();
    wait_for("nobody supervises any more", || nas.supervisors().is_empty());
    assert!(nas.log().contains("the daemon ended by itself"), "{}", nas.log());
    nas.runs_nothing();
    nas.expect_code("status", 3);
}

#[test]
fn one_that_closes_everything_it_was_given_is_found_again_and_stopped_all_the_same() {
    let nas = Nas::with("echo >&3; exec 0<&- 1>&- 2>&- 3>&- 4>&-; exec sleep 1000");
    nas.start();
    let daemon = nas.pid_of("daemon");
    nas.kill_supervisor();
    nas.expect_code("status", 0);
    nas.start();
    assert_eq!(nas.daemon_processes(), [daemon], "{}", nas.log());
    kill(daemon, "-KILL");
    wait_for("its end is noticed", || {
        let now = nas.daemon_processes();
        now.len() == 1 && now != [daemon]
    });
    nas.expect_code("stop", 0);
    nas.runs_nothing();
}

#[test]
fn one_whose_place_is_taken_says_by_whom_and_is_tried_again() {
    let nas = Nas::with("exit 11");
    nas.unpack("exit 11", &format!("{QUICK}exit_lock_held = 11\n"));
    let answer = nas.service("start");
    assert!(answer.said.contains("somebody else holds what the daemon needs"), "{}", answer.said);
    let attempt = || {
        let record: serde_json::Value = serde_json::from_str(&nas.record()).unwrap_or_default();
        record["attempt"].as_u64().unwrap_or(0)
    };
    let before = attempt();
    wait_for("it is tried again", || attempt() > before);
}

#[test]
fn one_that_cannot_have_the_memory_it_asks_for_is_given_less() {
    let script = "echo >&3; sleep 0.2; test -e \"$HOME/less\" && exec sleep 1000; \
                  touch \"$HOME/less\"; echo 'memory allocation of 67108864 bytes failed' >&2; \
                  kill -ABRT $$";
    let nas = Nas::with(script);
    // Whether the start sees it ready before it dies is chance.
    nas.service("start");
    wait_for("its plan is smaller", || nas.log().contains("memory ran out 1 time(s) before"));
    assert!(nas.log().contains("probably because memory ran out (signal 6)"), "{}", nas.log());
    wait_for("it runs", || nas.record().contains("\"state\":\"running\""));
    nas.expect_code("status", 0);
}

/// A supervisor that lives by a clock which the test sets: how much later it is, in seconds.
struct Clocked {
    nas: Nas,
    clock: PathBuf,
}

impl Clocked {
    fn runs(script: &str) -> Self {
        let nas = Nas::with(script);
        let clock = nas.path("clock");
        let asked = Command::new("faketime").args(["-f", "+0s", "env"]).output();
        let said = String::from_utf8(asked.expect("this test needs faketime").stdout).unwrap();
        let library = said.lines().find_map(|line| line.strip_prefix("LD_PRELOAD=")).unwrap();
        let clocked = Self { nas, clock };
        clocked.is_later(0);
        let mut supervisor = clocked.nas.command(&["run"]);
        supervisor.env("LD_PRELOAD", library);
        supervisor.env("FAKETIME_TIMESTAMP_FILE", &clocked.clock).env("FAKETIME_NO_CACHE", "1");
        let mut supervisor = supervisor.stdout(Stdio::null()).spawn().unwrap();
        std::thread::spawn(move || supervisor.wait());
        clocked.waits_until_it_runs(1);
        clocked
    }

    fn is_later(&self, seconds: u64) {
        let fresh = self.clock.with_extension("new");
        fs::write(&fresh, format!("+{seconds}s\n")).unwrap();
        fs::rename(&fresh, &self.clock).unwrap();
    }

    fn record(&self) -> serde_json::Value {
        serde_json::from_str(&self.nas.record()).unwrap_or_default()
    }

    fn waits_until_it_runs(&self, attempt: u64) {
        wait_for("it runs", || {
            let record = self.record();
            record["attempt"] == attempt && record["state"] == "running"
        });
    }

    fn crashes(&self) {
        kill(self.nas.pid_of("daemon"), "-SEGV");
    }
}

#[test]
fn one_that_dies_after_an_hour_is_forgiven_what_went_before() {
    let clocked = Clocked::runs(GOOD);
    for attempt in [2, 3] {
        clocked.crashes();
        clocked.waits_until_it_runs(attempt);
        assert_eq!(clocked.record()["failures"], attempt - 1, "{}", clocked.nas.log());
    }
    clocked.is_later(3600);
    clocked.crashes();
    clocked.waits_until_it_runs(4);
    assert_eq!(clocked.record()["failures"], 1, "{}", clocked.nas.log());
    clocked.nas.expect_code("stop", 0);
}

/// The supervisor in the foreground, with calls that `strace` refuses or answers with a signal.
fn traced(nas: &Nas, injection: &str) -> Command {
    let inner = nas.command(&["run"]);
    let mut command = Command::new("strace");
    let call = injection.split(':').next().unwrap();
    // Without -f: what the supervisor starts is not watched, and goes on.
    command.args(["-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e"]);
    command.arg(format!("inject={injection}"));
    command.arg(inner.get_program()).args(inner.get_args()).env_clear();
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).stdin(Stdio::null());
    command
}

/// Runs the supervisor until its n-th call of a kind kills it; `true` when the daemon runs before.
fn start_is_cut(nas: &Nas, call: &str, n: usize) -> bool {
    let mut traced = traced(nas, &format!("{call}:signal=KILL:when={n}")).spawn();
    let traced = traced.as_mut().expect("these tests need strace");
    let mut is_running = false;
    wait_for("it is cut, or the daemon runs", || {
        is_running = nas.record().contains("\"state\":\"running\"");
        is_running || traced.try_wait().unwrap().is_some()
    });
    // It may have been cut just after it wrote that.
    let supervisor = is_running.then(|| nas.pid_of("supervisor").to_string());
    let is_killed = supervisor.is_some_and(|pid| {
        Command::new("kill").args(["-KILL", &pid]).status().is_ok_and(|ended| ended.success())
    });
    traced.wait().unwrap();
    is_killed
}

#[test]
fn on_a_kernel_that_gives_orphans_to_nobody_none_outlives_the_daemon() {
    let nas = Nas::with("(setsid sleep 1000 & sleep 1000 &); echo >&3; exec sleep 1000");
    let mut supervisor = traced(&nas, "prctl:error=EINVAL").spawn().unwrap();
    wait_for("it runs", || nas.record().contains("\"state\":\"running\""));
    wait_for("all three are there", || nas.daemon_processes().len() == 3);
    nas.expect_code("stop", 0);
    nas.runs_nothing();
    supervisor.wait().unwrap();
}

#[test]
fn a_supervisor_killed_at_any_call_of_a_start_leaves_one_daemon_to_the_next() {
    let (mut cuts, mut left) = (0, 0);
    for (call, stride) in [("clone", 1), ("renameat", 1), ("write", 2), ("openat", 9)] {
        let stride = if cfg!(feature = "long") { 1 } else { stride };
        for n in (1..1000).step_by(stride) {
            let nas = Nas::with(GOOD);
            let is_done = start_is_cut(&nas, call, n);
            cuts += usize::from(!is_done);
            left += usize::from(!nas.daemon_processes().is_empty());
            nas.start();
            wait_for("one daemon", || nas.daemon_processes().len() == 1);
            nas.expect_code("status", 0);
            nas.expect_code("stop", 0);
            nas.runs_nothing();
            if is_done {
                break;
            }
        }
    }
    assert!(cuts > 5 && left > 0, "{cuts} cuts, after {left} of which the daemon was left");
}

#[test]
fn a_daemon_is_as_kind_to_others_as_its_description_says_and_has_the_limits_that_are_told() {
    let script = "(nice; ionice; ulimit -n) >\"$HOME/seen\"; echo >&3; exec sleep 1000";
    let nas = Nas::with(script);
    nas.unpack(script, &format!("{QUICK}nice = 19\nidle_io = true\n"));
    nas.start();
    let seen = fs::read_to_string(nas.var().join("seen")).unwrap();
    let said = nas.run(&["status", "--json"]).said;
    let told: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(seen, format!("19\nidle\n{}\n", told["open_files"]));
}

#[test]
fn what_a_package_may_not_raise_is_told_with_the_one_task_that_does() {
    let nas = Nas::with(GOOD);
    let put = |name: &str| {
        let path = nas.path("proc/sys/fs").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "8192\n").unwrap();
    };
    put("file-max");
    put("inotify/max_user_watches");
    nas.start();
    let said = nas.run(&["status"]).said;
    let command = "sysctl -w fs.file-max=65536 fs.inotify.max_user_watches=524288";
    for part in [
        "open files of the NAS: 8192 instead of 65536",
        "watched folders: 8192 instead of 524288",
        "Control Panel, Task Scheduler, Create, Triggered Task, user root, event Boot-up",
        command,
    ] {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }
    let said = nas.run(&["status", "--json"]).said;
    let told: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(told["as_root_at_boot"], command);
}
