//! start, stop, status: real processes, as DSM's script would meet them.

mod world;

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};
use world::{GOOD, Nas, PACKAGE, QUICK, SOON_SECONDS, kill, parent_and_state, wait_for};

#[test]
fn a_daemon_is_started_seen_and_stopped_and_no_process_is_left() {
    let nas = Nas::with(GOOD);
    nas.expect_code("status", 3);
    nas.start();
    nas.expect_code("status", 0);
    assert_eq!(nas.daemon_processes().len(), 1);
    nas.expect_code("stop", 0);
    nas.expect_code("status", 3);
    nas.runs_nothing();
    assert!(!nas.var().join(format!("run/{PACKAGE}.pid")).exists());
}

#[test]
fn start_waits_until_the_daemon_is_ready_and_not_longer() {
    let nas = Nas::with("sleep 0.7; echo >&3; exec sleep 1000");
    let answer = nas.service("start");
    assert_eq!(answer.code, 0, "{}", answer.said);
    assert!((0.7..SOON_SECONDS).contains(&answer.seconds), "{}", answer.seconds);
}

#[test]
fn a_second_start_changes_nothing() {
    let nas = Nas::with(GOOD);
    nas.start();
    let before = nas.daemon_processes();
    nas.start();
    assert_eq!(nas.daemon_processes(), before);
}

#[test]
fn many_starts_at_once_give_one_daemon() {
    for round in 0..8 {
        let nas = Nas::with("sleep 0.05; echo >&3; exec sleep 1000");
        let starts: Vec<_> =
            (0..6).map(|_| nas.command(&["service", "start"]).spawn().unwrap()).collect();
        for mut start in starts {
            assert!(start.wait().unwrap().success(), "round {round}: {}", nas.log());
        }
        assert_eq!(nas.daemon_processes().len(), 1, "round {round}: {}", nas.log());
        assert_eq!(nas.supervisors().len(), 1, "round {round}: {}", nas.log());
        nas.expect_code("stop", 0);
    }
}

#[test]
fn of_many_supervisors_at_once_one_stays_and_the_others_say_who_it_is() {
    for round in 0..8 {
        let nas = Nas::with(GOOD);
        let root = nas.root().display().to_string();
        let runs = (0..4).map(|_| {
            let mut command = nas.command(&["run", "--root", &root]);
            command.stderr(std::process::Stdio::piped()).spawn().unwrap()
        });
        let mut runs: Vec<_> = runs.collect();
        wait_for("all but one have ended", || {
            let living =
                runs.iter_mut().filter_map(|run| run.try_wait().unwrap().is_none().then_some(()));
            living.count() == 1
        });
        wait_for("it runs", || nas.record().contains("\"state\":\"running\""));
        let winner = nas.pid_of("supervisor");
        assert_eq!(nas.daemon_processes().len(), 1, "round {round}: {}", nas.log());
        nas.expect_code("stop", 0);
        for run in runs {
            let is_winner = run.id() as i32 == winner;
            let ended = run.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&ended.stderr);
            let told = format!("is supervised already, by process {winner}");
            let code = if is_winner { Some(0) } else { Some(11) };
            assert_eq!(ended.status.code(), code, "round {round}: {said}");
            assert!(is_winner || said.contains(&told), "round {round}: {said}");
        }
    }
}

#[test]
fn what_is_stopped_can_be_stopped_and_what_was_never_installed_too() {
    let nas = Nas::with(GOOD);
    nas.expect_code("stop", 0);
    nas.start();
    nas.expect_code("stop", 0);
    nas.expect_code("stop", 0);
}

#[test]
fn verbs_nobody_knows_and_those_that_need_nothing_are_answered_with_success() {
    let nas = Nas::with(GOOD);
    for verb in ["prestart", "prestop", "restart-later", ""] {
        nas.expect_code(verb, 0);
    }
    let log = nas.service("log");
    assert_eq!((log.code, log.said.trim().ends_with("log/supervisor.log")), (0, true));
}

#[test]
fn a_stale_pid_file_is_seen_as_death_and_does_not_hinder_a_start() {
    let nas = Nas::with(GOOD);
    fs::create_dir_all(nas.var().join("run")).unwrap();
    fs::write(nas.var().join(format!("run/{PACKAGE}.pid")), "999999\n").unwrap();
    nas.expect_code("status", 1);
    nas.start();
    nas.expect_code("status", 0);
}

#[test]
fn a_pid_that_belongs_to_another_program_now_is_neither_believed_nor_killed() {
    let nas = Nas::with(GOOD);
    nas.start();
    let (supervisor, daemon) = (nas.pid_of("supervisor"), nas.pid_of("daemon"));
    let record = nas.record();
    nas.kill_supervisor();
    kill(daemon, "-KILL");
    wait_for("the daemon is gone", || nas.daemon_processes().is_empty());
    let mut stranger = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let changed = record
        .replace(&format!("\"pid\":{daemon}"), &format!("\"pid\":{}", stranger.id()))
        .replace(&format!("\"pid\":{supervisor}"), &format!("\"pid\":{}", stranger.id()));
    assert_ne!(changed, record);
    fs::write(nas.var().join(format!("run/{PACKAGE}.state")), changed).unwrap();
    fs::write(nas.var().join(format!("run/{PACKAGE}.pid")), format!("{}\n", stranger.id()))
        .unwrap();
    nas.expect_code("status", 1);
    nas.expect_code("stop", 0);
    nas.start();
    nas.expect_code("stop", 0);
    assert!(stranger.try_wait().unwrap().is_none(), "the stranger was killed");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[test]
fn a_record_of_another_boot_is_not_believed() {
    let nas = Nas::with(GOOD);
    nas.start();
    let record = nas.record();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    nas.expect_code("stop", 0);
    let own = std::process::id();
    let stat = fs::read_to_string(format!("/proc/{own}/stat")).unwrap();
    assert!(stat.contains(' '));
    let old = record.replace(boot.trim(), "another-boot");
    assert_ne!(old, record);
    fs::write(nas.var().join(format!("run/{PACKAGE}.state")), old).unwrap();
    nas.expect_code("status", 1);
    nas.start();
}

#[test]
fn a_daemon_that_ignores_the_signal_and_its_children_are_killed() {
    let nas = Nas::with(
        "trap '' TERM HUP INT; setsid sleep 1000 & sleep 1000 & echo >&3; \
         while :; do sleep 1; done",
    );
    nas.start();
    wait_for("all three are there", || nas.daemon_processes().len() >= 3);
    let answer = nas.service("stop");
    assert_eq!(answer.code, 0, "{}", answer.said);
    assert!(answer.seconds < SOON_SECONDS, "{}", answer.seconds);
    nas.runs_nothing();
}

#[test]
fn a_daemon_that_dies_at_once_is_reported_with_its_last_words() {
    let nas = Nas::with("echo 'the disk is made of cheese' >&2; exit 1");
    let answer = nas.service("start");
    assert_eq!(answer.code, 1, "{}", answer.said);
    assert!(answer.said.contains("the disk is made of cheese"), "{}", answer.said);
    assert!(nas.message().contains("the disk is made of cheese"), "{}", nas.message());
    assert!(answer.seconds < SOON_SECONDS, "{}", answer.seconds);
    // Meanwhile it may just be tried again.
    wait_for("it is seen dead", || nas.service("status").code == 1);
    nas.expect_code("stop", 0);
    nas.expect_code("status", 3);
}

#[test]
fn a_daemon_that_is_never_ready_is_given_up_in_time_and_not_left_running() {
    let nas = Nas::with(GOOD);
    let keys = QUICK.replace("ready_seconds_max = 120", "ready_seconds_max = 1");
    nas.unpack("exec sleep 1000", &keys);
    let answer = nas.service("start");
    assert_eq!(answer.code, 1);
    assert!(answer.said.contains("not ready within 1 second"), "{}", answer.said);
    assert!((1.0..SOON_SECONDS).contains(&answer.seconds), "{}", answer.seconds);
    nas.expect_code("stop", 0);
    nas.runs_nothing();
}

#[test]
fn a_program_that_is_missing_is_reported_and_a_description_that_is_broken_needs_a_repair() {
    let nas = Nas::with(GOOD);
    let path = nas.target().join("conf/daemon.toml");
    fs::write(&path, "[daemon]\ncommand = [\"{target}/bin/none\"]\n").unwrap();
    let answer = nas.service("start");
    assert_eq!(answer.code, 1);
    assert!(
        answer.said.contains("cannot start") && answer.said.contains("bin/none"),
        "{}",
        answer.said
    );
    nas.expect_code("stop", 0);
    fs::write(&path, "nonsense").unwrap();
    nas.expect_code("status", 150);
    fs::remove_file(&path).unwrap();
    nas.expect_code("status", 150);
    nas.expect_code("stop", 0);
}

#[test]
fn a_daemon_that_dies_later_is_started_again_and_a_new_start_need_not_wait_for_it() {
    let nas = Nas::with(GOOD);
    nas.start();
    let first = nas.pid_of("daemon");
    kill(first, "-SEGV");
    wait_for("it is started again", || {
        nas.record().contains("\"state\":\"running\"") && nas.pid_of("daemon") != first
    });
    // The supervisor waits longer each time: sooner or later even a slow computer sees it wait, and
    // starts the daemon before that is over.
    let is_sooner = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0].into_iter().any(|wait_seconds| {
        let daemon = nas.pid_of("daemon");
        kill(daemon, "-SEGV");
        let mut is_seen_dead = false;
        wait_for("it died", || {
            is_seen_dead = nas.service("status").code == 1;
            is_seen_dead || nas.pid_of("daemon") != daemon
        });
        let begun = Instant::now();
        nas.start();
        is_seen_dead && begun.elapsed().as_secs_f64() < wait_seconds
    });
    assert!(is_sooner, "a start waits as long as the supervisor would: {}", nas.log());
    assert_eq!(nas.daemon_processes().len(), 1);
}

#[test]
fn a_daemon_that_gives_no_more_signs_of_life_is_started_again() {
    let nas = Nas::with("while :; do echo >&3; sleep 0.1; done");
    let keys = format!("{QUICK}heartbeat_seconds_max = 2\n");
    nas.unpack("while :; do echo >&3; sleep 0.1; done", &keys);
    nas.start();
    let first = nas.pid_of("daemon");
    kill(first, "-STOP");
    wait_for("it is started again", || {
        nas.record().contains("\"state\":\"running\"") && nas.pid_of("daemon") != first
    });
    assert!(nas.log().contains("no sign of life for 2 seconds"), "{}", nas.log());
    nas.expect_code("status", 0);
}

#[test]
fn a_daemon_that_runs_but_fails_its_checks_is_started_again_and_checks_leave_nothing() {
    let nas = Nas::with(GOOD);
    let health = "health_command = [\"/bin/sh\", \"{target}/bin/daemon.sh\", \"check\"]\n\
                  health_seconds = 1\nhealth_seconds_max = 1\nhealth_failures_max = 2\n";
    let script = "case \"$1\" in check) test -e \"$HOME/ill\" || exit 0; sleep 1000 & wait;; esac\n\
                  rm -f \"$HOME/ill\"; echo >&3; exec sleep 1000";
    nas.unpack(script, &format!("{QUICK}{health}"));
    nas.start();
    let first = nas.pid_of("daemon");
    fs::write(nas.var().join("ill"), "").unwrap();
    wait_for("it is started again", || {
        nas.record().contains("\"state\":\"running\"") && nas.pid_of("daemon") != first
    });
    assert!(nas.log().contains("the daemon hangs: no answer"), "{}", nas.log());
    nas.expect_code("stop", 0);
    nas.runs_nothing();
}

#[test]
fn a_daemon_taken_over_is_not_taken_for_hung_because_nobody_hears_its_signs_of_life() {
    let script = "case \"$1\" in check) echo >>\"$HOME/checks\"; exit 0;; esac\n\
                  trap '' PIPE; while :; do echo 2>/dev/null >&3; sleep 0.1; done";
    let nas = Nas::with(script);
    let health = "health_command = [\"/bin/sh\", \"{target}/bin/daemon.sh\", \"check\"]\n\
                  health_seconds = 1\n";
    nas.unpack(script, &format!("{QUICK}heartbeat_seconds_max = 2\n{health}"));
    nas.start();
    nas.kill_supervisor();
    let daemon = nas.daemon_processes()[0];
    nas.start();
    let checks = nas.var().join("checks");
    let checked = || fs::read_to_string(&checks).unwrap_or_default().lines().count();
    let before = checked();
    // It is checked once a second at most: then the time for a sign of life is long over.
    wait_for("it is checked", || checked() >= before + 4);
    assert!(nas.daemon_processes().contains(&daemon), "{}", nas.log());
    assert!(!nas.log().contains("no sign of life"), "{}", nas.log());
}

#[test]
fn orphans_of_a_daemon_are_the_supervisors_and_no_zombie_stays_of_them() {
    let nas = Nas::with(
        "for each in 1 2 3; do (sleep 1000 &); done; sleep 1000 & echo >&3; exec sleep 1000",
    );
    nas.start();
    let (supervisor, daemon) = (nas.pid_of("supervisor"), nas.pid_of("daemon"));
    let parent = |pid: &i32| parent_and_state(*pid).map(|(parent, _)| parent);
    let orphans = || -> Vec<i32> {
        let all = nas.daemon_processes();
        all.into_iter().filter(|pid| *pid != daemon && parent(pid) == Some(supervisor)).collect()
    };
    wait_for("their parents are gone", || orphans().len() == 3);
    let (orphans, all) = (orphans(), nas.daemon_processes());
    for orphan in &orphans {
        kill(*orphan, "-KILL");
    }
    wait_for("they are reaped", || orphans.iter().all(|pid| parent_and_state(*pid).is_none()));
    assert_eq!(parent_and_state(daemon).map(|(parent, _)| parent), Some(supervisor));

    // Its own child it never waits for. When it is gone, that one is ours, too.
    let child = all.into_iter().find(|pid| parent(pid) == Some(daemon)).unwrap();
    kill(child, "-KILL");
    wait_for("it is a zombie", || parent_and_state(child) == Some((daemon, 'Z')));
    kill(daemon, "-SEGV");
    wait_for("both are reaped", || {
        parent_and_state(child).is_none() && parent_and_state(daemon).is_none()
    });
}

#[test]
fn wrong_settings_hold_the_daemon_until_somebody_asks_again() {
    let nas = Nas::with("test -e \"$0.good\" && { echo >&3; exec sleep 1000; }; exit 78");
    let answer = nas.service("start");
    assert!(answer.said.contains("refuses its settings"), "{}", answer.said);
    std::thread::sleep(Duration::from_millis(1500));
    assert!(nas.record().contains("\"attempt\":1"), "{}", nas.record());
    fs::write(nas.target().join("bin/daemon.sh.good"), "").unwrap();
    nas.start();
    nas.expect_code("status", 0);
}

#[test]
fn a_killed_supervisors_daemon_is_found_again_and_never_doubled() {
    for round in 0..5 {
        let nas = Nas::with(GOOD);
        nas.start();
        let daemon = nas.pid_of("daemon");
        nas.kill_supervisor();
        nas.expect_code("status", 0);
        nas.start();
        assert_eq!(nas.daemon_processes(), [daemon], "round {round}: {}", nas.log());
        assert!(nas.log().contains("took over the running daemon"));
        if round % 2 == 0 {
            nas.expect_code("stop", 0);
            nas.runs_nothing();
        } else {
            kill(daemon, "-KILL");
            wait_for("the end of the daemon taken over is noticed", || {
                let now = nas.daemon_processes();
                now.len() == 1 && now != [daemon]
            });
        }
    }
}

#[test]
fn a_killed_supervisor_whose_record_is_lost_leaves_a_daemon_that_is_stopped_first() {
    let nas = Nas::with(GOOD);
    nas.start();
    let daemon = nas.pid_of("daemon");
    nas.kill_supervisor();
    fs::remove_file(nas.var().join(format!("run/{PACKAGE}.state"))).unwrap();
    nas.start();
    let now = nas.daemon_processes();
    assert!(now.len() == 1 && now != [daemon], "{now:?} after {daemon}");
    nas.kill_supervisor();
    nas.expect_code("stop", 0);
    nas.runs_nothing();
}

#[test]
fn a_supervisor_killed_at_any_moment_of_a_start_never_leads_to_two_daemons() {
    for milliseconds in [0, 2, 4, 6, 8, 12, 16, 25, 40, 60] {
        let nas = Nas::with("sleep 0.03; echo >&3; exec sleep 1000");
        let mut start =
            nas.command(&["service", "start"]).stderr(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(milliseconds));
        nas.kill_supervisor();
        start.wait().unwrap();
        nas.start();
        let now = nas.daemon_processes();
        assert_eq!(now.len(), 1, "after {milliseconds} ms: {now:?}\n{}", nas.log());
    }
}

#[test]
fn a_flood_of_output_stays_bounded() {
    let nas = Nas::with("echo >&3; exec yes a-line-of-a-talkative-daemon");
    nas.start();
    let log = nas.var().join("log/supervisor.log");
    let older = nas.var().join("log/supervisor.log.1");
    wait_for("a log is full", || older.exists());
    let first = fs::metadata(&older).unwrap().modified().unwrap();
    let is_next = || fs::metadata(&older).is_ok_and(|next| next.modified().unwrap() != first);
    wait_for("and another", is_next);
    kill(nas.pid_of("daemon"), "-STOP");
    wait_for("the log is cut", || fs::metadata(&log).unwrap().len() <= 1 << 20);
    assert!(fs::metadata(nas.var().join("log/supervisor.log.1")).unwrap().len() <= 1 << 20);
    nas.expect_code("stop", 0);
}

#[test]
fn links_planted_where_the_package_may_write_are_refused_and_their_goal_is_untouched() {
    let nas = Nas::with(GOOD);
    let outside = nas.path("precious");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "precious").unwrap();
    symlink(&outside, nas.var().join("run")).unwrap();
    let answer = nas.service("start");
    assert_eq!(answer.code, 1);
    assert!(answer.said.contains("is a link"), "{}", answer.said);
    fs::remove_file(nas.var().join("run")).unwrap();
    fs::create_dir_all(nas.var().join("run")).unwrap();
    let pid = nas.var().join(format!("run/{PACKAGE}.pid"));
    symlink(outside.join("file"), &pid).unwrap();
    nas.start();
    nas.expect_code("stop", 0);
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "precious");
}

#[test]
fn the_daemon_gets_what_its_description_says_and_nothing_of_dsms() {
    let nas = Nas::with("env > \"$0.env\"; ulimit -n >> \"$0.env\"; echo >&3; exec sleep 1000");
    nas.start();
    let seen = fs::read_to_string(nas.target().join("bin/daemon.sh.env")).unwrap();
    assert!(seen.contains("MARK=") && seen.contains("PATH=/usr/bin"), "{seen}");
    assert!(!seen.contains("SYNOPKG") && !seen.contains("HOLDFAST_DSM_ROOT"), "{seen}");
}

/// How many of the NAS's own files a status may open. How long it takes is measured by
/// `scripts/bench-supervisor`; here is counted what could make it slow.
const FILES_OF_STATUS_MAX: usize = 24;

#[test]
fn a_status_opens_a_few_files_waits_for_nothing_and_changes_nothing() {
    let nas = Nas::with(GOOD);
    nas.start();
    let before = nas.record();
    let calls = nas.calls_of(&["service", "status"]);
    let of = |names: &[&str]| -> Vec<&str> {
        let is_one = |call: &&str| names.iter().any(|name| call.starts_with(&format!("{name}(")));
        calls
            .lines()
            .filter_map(|line| line.split_once(' ').map(|it| it.1.trim()))
            .filter(is_one)
            .collect()
    };
    let waits =
        of(&["nanosleep", "clock_nanosleep", "poll", "ppoll", "select", "wait4", "connect"]);
    // What the program itself begins with asks once whether its three descriptors are open.
    let waits: Vec<_> = waits.into_iter().filter(|call| !call.contains("{fd=0,")).collect();
    assert!(waits.is_empty(), "{waits:?}");
    let starts = of(&["clone", "clone3", "fork", "vfork"]);
    assert!(starts.is_empty(), "{starts:?}");
    let writes = of(&[
        "flock",
        "fsync",
        "fdatasync",
        "rename",
        "renameat",
        "renameat2",
        "unlink",
        "unlinkat",
        "mkdir",
        "mkdirat",
        "ftruncate",
        "kill",
        "fchmod",
    ]);
    assert!(writes.is_empty(), "{writes:?}");
    let opened = of(&["open", "openat"]);
    assert!(!opened.iter().any(|call| call.contains("O_CREAT")), "{opened:?}");
    let root = nas.root().display().to_string();
    let own = opened.iter().filter(|call| call.contains(&root) || !call.contains("\"/")).count();
    assert!((1..=FILES_OF_STATUS_MAX).contains(&own), "{own}: {opened:#?}");
    assert_eq!(nas.record(), before);
}

#[test]
fn nobody_has_to_read_what_a_status_says() {
    let nas = Nas::with(GOOD);
    nas.start();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ended = nas.command(&["status"]).stdout(writer).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!((ended.status.code(), said.as_ref()), (Some(0), ""));
}

#[test]
fn the_supervisor_is_small_and_sleeps() {
    let nas = Nas::with(GOOD);
    nas.start();
    let supervisor = nas.pid_of("supervisor");
    let number = |file: &str, name: &str| -> u64 {
        let text = fs::read_to_string(format!("/proc/{supervisor}/{file}")).unwrap();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    // What it still has to do for the start may take a while.
    wait_for("it does not wake up for three seconds", || {
        let before = number("status", "voluntary_ctxt_switches");
        std::thread::sleep(Duration::from_secs(3));
        number("status", "voluntary_ctxt_switches") == before
    });
    let own = number("status", "RssAnon");
    assert!(own < 2048, "{own} kB of its own");
}

/// How long a process sleeps in `poll` unless something happens: its third argument, in
/// milliseconds; -1: for ever. `None` when it does something else.
#[cfg(target_arch = "x86_64")]
fn sleeps_milliseconds(pid: i32) -> Option<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/syscall")).ok()?;
    let timeout = text.strip_prefix("7 ")?.split(' ').nth(2)?.strip_prefix("0x")?;
    // Its upper half means nothing.
    u64::from_str_radix(timeout, 16).ok().map(|number| number as u32 as i32)
}

#[test]
#[cfg(target_arch = "x86_64")]
fn nothing_wakes_the_supervisor_of_an_idle_daemon_but_a_check_that_is_due() {
    let idle = Nas::with(GOOD);
    idle.start();
    let supervisor = idle.pid_of("supervisor");
    wait_for("it sleeps for ever", || sleeps_milliseconds(supervisor) == Some(-1));
    let checked = Nas::with(GOOD);
    checked.unpack(GOOD, &format!("{QUICK}health_command = [\"/bin/true\"]\n"));
    checked.start();
    let supervisor = checked.pid_of("supervisor");
    let asleep = || sleeps_milliseconds(supervisor);
    wait_for("it sleeps until the check", || asleep().is_some_and(|time| time > 200_000));
}
