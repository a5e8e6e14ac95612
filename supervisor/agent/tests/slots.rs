//! Newer versions from a depot: installed, kept when they are well, taken back when they are not,
//! and cut off at every step.

mod town;
mod world;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use supervisor_depot::{Channel, Delivery};
use town::{Recipe, Served, init, now};
use world::{Nas, PACKAGE, wait_for};

const KEYS: &str = "ready = \"descriptor\"\nready_seconds_max = 60\nstop_seconds_max = 1\n\
                    identity = true\nstate = [\"settings.json\", \"notes\"]\n\
                    self_test = [\"/bin/sh\", \"{target}/bin/daemon.sh\", \"test\"]\n";

/// A daemon that is well, and says which version it is.
const WELL: &str = "test \"$1\" = test && exit 0\necho VERSION > \"$HOME/version\"\n\
                    echo \"of VERSION\" > \"$HOME/settings.json\"\necho >&3; exec sleep 1000";

/// One that is ready, and then dies.
const DIES: &str = "test \"$1\" = test && exit 0\necho \"of VERSION\" > \"$HOME/settings.json\"\n\
                    rm -rf \"$HOME/notes\"; echo >&3; exit 1";

/// One that this processor cannot run.
const ILLEGAL: &str = "test \"$1\" = test && kill -ILL $$\necho >&3; exec sleep 1000";

struct Town {
    nas: Nas,
    depot: PathBuf,
    served: Served,
}

impl Town {
    /// A NAS with version 1 as its package brought it, and a depot it believes.
    fn with_version_1(probation_seconds: u32) -> Self {
        let mut nas = Nas::empty(7);
        for (name, value) in [("MINOR", "2"), ("BUILD", "72806")] {
            nas.environment.push((format!("SYNOPKG_DSM_VERSION_{name}"), value.to_owned()));
        }
        let depot = nas.path("depot");
        init(&depot, 1);
        let town = Self { served: Served::from(&depot), depot, nas };
        town.brings("1.0-0001", probation_seconds);
        assert_eq!(town.nas.run(&["hook", "postinst"]).code, 0);
        town
    }

    /// DSM installs the package of this version.
    fn brings(&self, version: &str, probation_seconds: u32) {
        let keys = format!(
            "{}probation_seconds = {probation_seconds}\n",
            KEYS.replace("identity = true\n", "")
        );
        self.nas.unpack(&WELL.replace("VERSION", version), &keys);
        let root = supervisor_depot::keys(&self.depot, now()).unwrap().root_json;
        fs::write(self.nas.target().join("conf/depot.pub"), root).unwrap();
        let info = self.nas.path("var/packages").join(PACKAGE).join("INFO");
        fs::write(info, format!("package=\"{PACKAGE}\"\nversion=\"{version}\"\n")).unwrap();
    }

    fn publishes(&self, version: &str, script: &str, probation_seconds: u32) {
        self.publishes_in(Channel::Stable, version, script, probation_seconds);
    }

    fn publishes_in(&self, channel: Channel, version: &str, script: &str, probation_seconds: u32) {
        let recipe = Recipe {
            name: PACKAGE,
            version,
            script: &script.replace("VERSION", version),
            keys: &format!("{KEYS}probation_seconds = {probation_seconds}\n"),
            environment: &format!("MARK = \"{}\"\n", self.nas.root().display()),
            ballast_bytes: 600_000,
        };
        let package = recipe.build(&self.nas.path("workshop"));
        let delivery = Delivery { channel: Some(channel), ..Delivery::of_keeper(&package) };
        supervisor_depot::publish_all(&self.depot, &[delivery], now()).unwrap();
    }

    fn install(&self) -> world::Answer {
        self.nas.run(&["update", "install", "--depot", &self.served.url])
    }

    fn shown(&self) -> String {
        self.nas.run(&["update", "show"]).said
    }

    /// Which version's daemon wrote that it runs.
    fn runs(&self) -> String {
        fs::read_to_string(self.nas.var().join("version")).unwrap_or_default().trim().to_owned()
    }

    fn settings(&self) -> String {
        let text = fs::read_to_string(self.nas.var().join("settings.json"));
        text.unwrap_or_default().trim().to_owned()
    }
}

#[test]
fn a_newer_version_is_watched_and_kept_and_an_older_package_does_not_take_its_place() {
    let town = Town::with_version_1(1);
    town.nas.start();
    assert_eq!(town.runs(), "1.0-0001");
    town.publishes("1.0-0002", WELL, 1);
    let answer = town.install();
    assert_eq!(answer.code, 0, "{}\n{}", answer.said, town.nas.log());
    assert_eq!(town.runs(), "1.0-0002");
    wait_for("it is kept", || town.shown().contains("proved itself and is kept"));
    assert!(town.install().said.contains("1.0-0002 is the newest"));

    // The owner repairs the package, whose own payload is older.
    assert_eq!(town.nas.service("stop").code, 0);
    town.brings("1.0-0001", 1);
    town.nas.start();
    assert_eq!(town.runs(), "1.0-0002", "{}", town.shown());
    assert_eq!(town.nas.service("stop").code, 0);
    town.brings("1.0-0003", 1);
    town.nas.start();
    assert_eq!(town.runs(), "1.0-0003", "{}", town.shown());
}

#[test]
fn a_version_that_dies_is_taken_back_with_the_state_it_found_and_never_taken_again() {
    let town = Town::with_version_1(600);
    town.nas.start();
    fs::create_dir(town.nas.var().join("notes")).unwrap();
    fs::write(town.nas.var().join("notes/one"), "dear diary").unwrap();
    town.publishes("1.0-0002", DIES, 600);
    // It may look well for a moment.
    town.install();
    wait_for("it is taken back", || town.shown().contains("went back from 1.0-0002 to 1.0-0001"));
    wait_for("the old version runs", || town.nas.service("status").code == 0);
    assert_eq!(town.settings(), "of 1.0-0001");
    assert_eq!(fs::read_to_string(town.nas.var().join("notes/one")).unwrap(), "dear diary");
    let status = town.nas.run(&["status"]).said;
    assert!(status.contains("went back from 1.0-0002"), "{status}");
    let again = town.install();
    assert!(again.said.contains("was refused"), "{}", again.said);
    // The next one is not refused for that.
    town.publishes("1.0-0003", WELL, 600);
    assert_eq!(town.install().code, 0);
    assert_eq!(town.runs(), "1.0-0003");
}

#[test]
fn a_version_this_processor_cannot_run_is_refused_before_anything_is_stopped() {
    let town = Town::with_version_1(600);
    town.nas.start();
    let before = town.nas.daemon_processes();
    town.publishes("1.0-0002", ILLEGAL, 600);
    let answer = town.install();
    assert_eq!(answer.code, 1);
    assert!(answer.said.contains("was ended by signal 4"), "{}", answer.said);
    assert_eq!(town.nas.daemon_processes(), before);
    assert!(!town.nas.var().join("slots/1.0-0002").exists());
}

#[test]
fn a_depot_that_was_named_once_is_asked_again_without_anybody_there() {
    let town = Town::with_version_1(0);
    town.publishes("1.0-0001", WELL, 0);
    assert!(town.install().said.contains("1.0-0001 is the newest"));
    let description = town.nas.target().join("conf/daemon.toml");
    let text = fs::read_to_string(&description).unwrap();
    fs::write(&description, text.replace("[daemon]\n", "[daemon]\nupdate_seconds = 1\n")).unwrap();
    town.nas.start();
    assert_eq!(town.runs(), "1.0-0001");
    town.publishes("1.0-0002", WELL, 0);
    wait_for("the newer version runs", || town.runs() == "1.0-0002");
    wait_for("it is kept", || town.shown().contains("is kept"));
    wait_for("it is told in the log", || town.nas.log().contains("1.0-0002 runs"));
}

#[test]
fn an_owner_holds_refuses_and_goes_back_by_hand() {
    let town = Town::with_version_1(0);
    town.publishes("1.0-0002", WELL, 0);
    assert_eq!(town.nas.run(&["update", "hold"]).code, 0);
    let url = town.served.url.clone();
    let held = town.nas.run(&["update", "install", "--automatic", "--depot", &url]);
    assert!(held.said.contains("on hold"), "{}", held.said);
    assert_eq!(town.nas.run(&["update", "hold", "--off"]).code, 0);
    assert_eq!(town.nas.run(&["update", "refuse", "1.0-0002"]).code, 0);
    assert!(town.install().said.contains("was refused"));
    assert_eq!(town.nas.run(&["update", "allow", "1.0-0002"]).code, 0);
    let answer = town.install();
    assert!(answer.said.contains("from the next start on"), "{}", answer.said);
    town.nas.start();
    assert_eq!(town.runs(), "1.0-0002");
    wait_for("it is kept", || town.shown().contains("is kept"));
    let back = town.nas.run(&["update", "roll-back"]);
    assert!(back.said.contains("went back from 1.0-0002 to 1.0-0001"), "{}", back.said);
    assert_eq!(town.runs(), "1.0-0001");
    assert!(town.install().said.contains("was refused"), "{}", town.shown());
}

#[test]
fn an_owner_follows_a_channel_until_another_is_named() {
    let town = Town::with_version_1(0);
    town.publishes("1.0-0002", WELL, 0);
    town.publishes_in(Channel::Beta, "1.0-0003", WELL, 0);
    let told = town.install().said;
    assert!(told.contains("1.0-0002 will be used"), "{told}");
    town.nas.start();
    assert_eq!(town.runs(), "1.0-0002");
    wait_for("it is kept", || town.shown().contains("is kept"));
    assert!(town.install().said.contains("1.0-0002 is the newest"));
    let beta = ["update", "install", "--channel", "beta"];
    assert_eq!(town.nas.run(&beta).code, 0);
    wait_for("the beta is kept", || town.shown().contains("1.0-0003 proved itself and is kept"));
    assert_eq!(town.runs(), "1.0-0003");
    // From now on, until told otherwise; what is stable is taken, too, when it is newer.
    for (channel, version) in [(Channel::Beta, "1.0-0004"), (Channel::Stable, "1.0-0005")] {
        town.publishes_in(channel, version, WELL, 0);
        assert_eq!(town.install().code, 0);
        wait_for("it is kept", || town.shown().contains(&format!("{version} proved itself")));
        assert_eq!(town.runs(), version);
    }
    town.publishes_in(Channel::Beta, "1.0-0006", WELL, 0);
    let back = ["update", "install", "--channel", "stable"];
    assert!(town.nas.run(&back).said.contains("1.0-0005 is the newest"));
}

#[test]
fn a_pinned_version_stays_whatever_the_depot_offers() {
    let town = Town::with_version_1(0);
    town.nas.start();
    let pin = |words: &[&str]| {
        let words = [&["update", "pin"], words].concat();
        assert_eq!(town.nas.run(&words).code, 0);
    };
    pin(&["1.0-0001"]);
    town.publishes("1.0-0002", WELL, 0);
    let told = town.install();
    assert!(told.code == 0 && told.said.contains("1.0-0001 runs, and is pinned"), "{}", told.said);
    assert!(town.shown().contains("pinned    1.0-0001"), "{}", town.shown());
    // One that nobody offers is not replaced by another.
    pin(&["1.0-0007"]);
    let told = town.install();
    assert!(told.code == 1 && told.said.contains("no sleepy 1.0-0007"), "{}", told.said);
    assert_eq!(town.runs(), "1.0-0001");
    pin(&["1.0-0002"]);
    town.publishes_in(Channel::Beta, "1.0-0003", WELL, 0);
    assert_eq!(town.nas.run(&["update", "install", "--channel", "beta"]).code, 0);
    wait_for("it is kept", || town.shown().contains("1.0-0002 proved itself and is kept"));
    assert_eq!(town.runs(), "1.0-0002");
    let told = town.install();
    assert!(told.said.contains("is pinned"), "{}\n{}", told.said, town.shown());
    pin(&["--off"]);
    assert_eq!(town.install().code, 0);
    wait_for("the newest runs", || town.runs() == "1.0-0003");
}

#[test]
fn a_version_that_waits_for_the_next_start_is_dropped_when_its_owner_thinks_better_of_it() {
    for (thinks, undoes) in [
        (["update", "refuse", "1.0-0002"], ["update", "allow", "1.0-0002"]),
        (["update", "pin", "1.0-0001"], ["update", "pin", "--off"]),
    ] {
        let town = Town::with_version_1(0);
        town.publishes("1.0-0002", WELL, 0);
        assert!(town.install().said.contains("from the next start on"));
        assert_eq!(town.nas.run(&thinks).code, 0);
        town.nas.start();
        assert_eq!(town.runs(), "1.0-0001", "{}", town.shown());
        assert!(town.shown().contains("is not wanted any more"), "{}", town.shown());
        assert_eq!(fs::read_dir(town.nas.var().join("slots")).unwrap().count(), 0);
        assert_eq!(town.nas.run(&undoes).code, 0);
        assert_eq!(town.install().code, 0);
        wait_for("the newer version runs", || town.runs() == "1.0-0002");
    }
}

#[test]
fn what_an_owner_wishes_while_an_update_is_on_its_way_is_not_forgotten() {
    let town = Town::with_version_1(0);
    town.publishes("1.0-0002", WELL, 0);
    let url = town.served.url.clone();
    let calls = town.nas.path("calls");
    let inner = town.nas.command(&["update", "install", "--depot", &url]);
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-e", "trace=connect", "-o"]).arg(&calls);
    command.args(["-e", "inject=connect:signal=STOP:when=1"]);
    command.arg(inner.get_program()).args(inner.get_args()).env_clear();
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let mut install = command.spawn().expect("these tests need strace");
    let stopped = wait_for("it asks the depot", || {
        let text = fs::read_to_string(&calls).unwrap_or_default();
        let line = text.lines().find(|line| line.contains("stopped by SIGSTOP"))?;
        line.split(' ').next()?.parse::<i32>().ok()
    });
    for wish in [&["update", "hold"][..], &["update", "refuse", "0.9-0001"]] {
        assert_eq!(town.nas.run(wish).code, 0);
    }
    world::kill(stopped, "-CONT");
    assert!(install.wait().unwrap().success());
    let shown = town.shown();
    for part in ["on hold", "refused   0.9-0001", "1.0-0002, proven"] {
        assert!(shown.contains(part), "{part:?} is not in:\n{shown}");
    }
}

#[test]
fn an_installation_cut_anywhere_goes_on_and_never_leaves_half_a_version() {
    let mut cuts = 0;
    for call in ["renameat", "fsync", "unlinkat", "mkdirat", "write"] {
        let stride = if call == "write" { 25 } else { 3 };
        for n in (1..400).step_by(if cfg!(feature = "long") { 1 } else { stride }) {
            let mut town = Town::with_version_1(0);
            town.publishes("1.0-0002", WELL, 0);
            let url = town.served.url.clone();
            let words = ["update", "install", "--depot", &url];
            let done = town.nas.cut(&words, ("", &[]), (call, n), None);
            cuts += usize::from(!done);
            let answer = town.install();
            assert_eq!(answer.code, 0, "{call} {n}: {}", answer.said);
            town.nas.start();
            assert_eq!(town.runs(), "1.0-0002", "{call} {n}: {}", town.shown());
            wait_for("it is kept", || town.shown().contains("is kept"));
            town.nas.expect_code("stop", 0);
            let mut left: Vec<_> = fs::read_dir(town.nas.var().join("update")).unwrap().collect();
            left.retain(|entry| {
                let name = entry.as_ref().unwrap().file_name();
                !["record.json", "turn.lock", "state-1.0-0002"].iter().any(|known| name == *known)
            });
            assert!(left.is_empty(), "{call} {n}: {left:?}");
            if done {
                break;
            }
        }
    }
    assert!(cuts > 10, "only {cuts} cuts were made");
}

/// Runs the supervisor until its n-th call of a kind kills it; `true` when `done` came first.
fn trial_is_cut(nas: &Nas, call: &str, n: usize, done: impl Fn() -> bool) -> bool {
    let inner = nas.command(&["run"]);
    let mut command = Command::new("strace");
    // Without -f: what the supervisor starts is not watched, and goes on.
    command.args(["-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e"]);
    command.arg(format!("inject={call}:signal=KILL:when={n}"));
    command.arg(inner.get_program()).args(inner.get_args()).env_clear();
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let mut traced = command.spawn().expect("these tests need strace");
    let mut is_done = false;
    wait_for("it is cut or done", || {
        is_done = done();
        is_done || traced.try_wait().unwrap().is_some()
    });
    if is_done {
        nas.expect_code("stop", 0);
    }
    traced.wait().unwrap();
    is_done
}

#[test]
fn a_trial_cut_anywhere_ends_as_it_would_have_ended() {
    for (script, version, told) in [
        (WELL, "1.0-0002", "proved itself and is kept"),
        (DIES, "1.0-0001", "went back from 1.0-0002"),
    ] {
        let mut cuts = 0;
        for call in ["renameat", "fsync", "unlinkat"] {
            for n in (1..400).step_by(if cfg!(feature = "long") { 1 } else { 5 }) {
                let town = Town::with_version_1(0);
                town.nas.start();
                town.nas.expect_code("stop", 0);
                fs::create_dir(town.nas.var().join("notes")).unwrap();
                fs::write(town.nas.var().join("notes/one"), "dear diary").unwrap();
                town.publishes("1.0-0002", script, if script == WELL { 0 } else { 600 });
                assert!(town.install().said.contains("from the next start on"));
                let is_over = || town.shown().contains(told) && town.runs() == version;
                let done = trial_is_cut(&town.nas, call, n, is_over);
                cuts += usize::from(!done);
                // After the power is back; a version that dies makes this fail once or twice.
                town.nas.service("start");
                wait_for("it is over", is_over);
                wait_for("it runs", || town.nas.service("status").code == 0);
                let settings = format!("of {version}");
                wait_for(format!("{call} {n}: its state is back"), || town.settings() == settings);
                assert!(town.nas.var().join("notes/one").exists(), "{call} {n}");
                if done {
                    break;
                }
            }
        }
        assert!(cuts > 5, "only {cuts} cuts were made");
    }
}

#[test]
fn a_download_goes_on_where_it_was_cut_off_and_the_whole_of_it_is_verified() {
    let mut town = Town::with_version_1(0);
    town.publishes("1.0-0002", WELL, 0);
    let url = town.served.url.clone();
    let download = town.nas.var().join("update/download.spk");
    let bytes = || fs::metadata(&download).map_or(0, |meta| meta.len());
    for n in (5..300).step_by(5) {
        town.nas.cut(&["update", "install", "--depot", &url], ("", &[]), ("write", n), None);
        if bytes() > 20_000 {
            break;
        }
        fs::remove_dir_all(town.nas.var().join("update")).unwrap();
    }
    let kept = bytes();
    assert!((20_000..600_000).contains(&kept), "{kept}");
    let good = fs::read(&download).unwrap();
    // What came first is part of the whole: were it fetched again, this would not be noticed.
    fs::write(&download, vec![0; good.len()]).unwrap();
    let answer = town.install();
    assert!(answer.said.contains("not believed"), "{}", answer.said);
    assert!(!download.exists());
    // As it was after the cut.
    let record = town.nas.var().join("update/record.json");
    fs::remove_file(&record).unwrap();
    assert_eq!(town.install().code, 0);
}
