//! A package in a memory cgroup, as DSM's slices and containers make them: the engine lives inside
//! its plan, and a daemon that does not is noticed, tried with less, and its owner told.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tests_stories::{Depot, OurBox, PACKAGE};
use tests_support::nas::State;
use tests_support::tree::Tree;
use tests_support::{Dsm, Shell, Telling, TempHome, run, wait_longer};

const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(if cfg!(feature = "long") { 3600 } else { 600 });

/// Files of the owner; with time to spare (`--features long`), as many as a NAS of a family has.
const FILES: usize = if cfg!(feature = "long") { 200_000 } else { 10_000 };

/// Files in one folder of the owner: with time to spare a million, whose names alone are 12 MB.
const FILES_OF_ONE_FOLDER: usize = if cfg!(feature = "long") { 1_000_000 } else { 15_000 };

/// A cgroup with a limit; it is removed when dropped.
struct Group {
    folder: PathBuf,
    is_second: bool,
}

impl Group {
    /// A group below the one of this test, in whichever version this machine has.
    fn of(bytes: u64) -> Self {
        let first = Path::new("/sys/fs/cgroup/memory");
        let (top, limit, is_second) = match first.is_dir() {
            true => (first, "memory.limit_in_bytes", false),
            false => (Path::new("/sys/fs/cgroup"), "memory.max", true),
        };
        let name = tempfile::Builder::new().prefix("holdfast-story-").tempdir().expect("a name");
        let folder = top.join(name.path().file_name().expect("a name"));
        let made =
            fs::create_dir(&folder).and_then(|()| fs::write(folder.join(limit), bytes.to_string()));
        made.unwrap_or_else(|cause| {
            panic!(
                "this story needs a memory cgroup, and {} cannot be made: {cause}\n  what to do: \
                 run it as root, where {} may be written (docker run --privileged)",
                folder.display(),
                top.display()
            )
        });
        // A kernel that does not count swap has no such file; then swap is not limited.
        let swap = if is_second { "memory.swap.max" } else { "memory.memsw.limit_in_bytes" };
        let swap_bytes = if is_second { 0 } else { bytes };
        let _ = fs::write(folder.join(swap), swap_bytes.to_string());
        Self { folder, is_second }
    }

    /// Runs a program in it to its end, which must be a good one.
    #[track_caller]
    fn must(&self, program: &Command) -> String {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ >\"$0/cgroup.procs\" && exec \"$@\""]).arg(&self.folder);
        command.arg(program.get_program()).args(program.get_args());
        command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let done = command.stdin(Stdio::null()).output().expect("a shell");
        let told = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{program:?}: {}: {told}", done.status);
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    /// How many processes the kernel ended in it for want of memory.
    fn kills(&self) -> u64 {
        let file = if self.is_second { "memory.events" } else { "memory.oom_control" };
        let text = fs::read_to_string(self.folder.join(file)).expect("the kernel counts");
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok());
        count.expect("kernels count since 4.13")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // It is busy for a moment after its last process ended.
        let end = Instant::now() + PATIENCE;
        while fs::remove_dir(&self.folder).is_err() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A box whose package lives in a cgroup.
struct Narrow {
    // Dropped first: its processes are in the group.
    our_box: OurBox,
    supervisor: Option<Child>,
    group: Group,
}

impl Narrow {
    fn of(bytes: u64) -> Self {
        let group = Group::of(bytes);
        let depot = Depot::with("0.1.0-0001");
        let our_box = OurBox::with_our_package(Dsm::Six, Shell::Ash, &depot);
        our_box.stop();
        Self { our_box, supervisor: None, group }
    }

    fn starts(&mut self) {
        let mut supervisor = Command::new("sh");
        supervisor.args(["-c", "echo $$ >\"$0/cgroup.procs\" && exec \"$@\""]);
        supervisor.arg(&self.group.folder);
        supervisor.arg(self.our_box.nas().target(PACKAGE).join("bin/holdfast-supervisor"));
        supervisor.args(["run", "--package", PACKAGE, "--root"]).arg(self.our_box.nas().root());
        supervisor.env_clear().env("PATH", "/usr/bin:/bin");
        supervisor.stdin(Stdio::null()).stdout(Stdio::null());
        self.supervisor = Some(supervisor.spawn().expect("it starts"));
    }

    fn stops(&mut self) {
        self.our_box.stop();
        self.supervisor.take().expect("it was started").wait().expect("it is ours");
    }

    fn log(&self) -> String {
        let path = self.our_box.nas().var(PACKAGE).join("log/supervisor.log");
        fs::read_to_string(path).unwrap_or_default()
    }

    fn waits_for(&self, what: &str, holds: impl FnMut() -> bool) {
        wait_longer(PATIENCE, Telling(|| format!("{what}\n{}", self.log())), holds);
    }

    fn supervisor(&self, words: &[&str]) -> String {
        let program = self.our_box.nas().target(PACKAGE).join("bin/holdfast-supervisor");
        let mut command = Command::new(program);
        command.args(words).args(["--package", PACKAGE, "--root"]);
        run(command.arg(self.our_box.nas().root())).said()
    }
}

/// What a process has of its own in memory; nothing when it is gone.
fn own_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) << 10
}

#[test]
fn in_a_small_cgroup_the_engine_backs_up_many_files_inside_its_plan() {
    let mut nas = Narrow::of(80 * MIB);
    let source = nas.our_box.outside("files");
    let tree = Tree::at(source.clone());
    for folder in 0..FILES / 1000 {
        tree.many(format!("folder {folder}"), 1000);
    }
    nas.starts();
    nas.waits_for("it runs", || nas.our_box.state() == State::Running);
    let plan = 64 * MIB;
    assert!(
        nas.log().contains("64 MiB: a control group allows 80 MiB"),
        "the plan is not made for the group: {}",
        nas.log()
    );
    let repository = nas.our_box.nas().share("backups", PACKAGE).expect("a share");
    nas.our_box.does(&["destination", "add", "disk", &repository.display().to_string()]);
    let path = source.display().to_string();
    nas.our_box.does(&["set", "add", "all", "--path", &path, "--destination", "disk"]);
    let engine = nas.our_box.engines()[0];
    let mut asked = nas.our_box.holdfast(&["--json", "set", "run", "all"]);
    let mut asked = asked.stdout(Stdio::null()).spawn().expect("it starts");
    let mut most = 0;
    nas.waits_for("it is backed up", || {
        most = most.max(own_bytes(engine));
        asked.try_wait().expect("it is ours").is_some()
    });
    assert!(asked.wait().expect("it is ours").success(), "{}", nas.log());
    assert_eq!(nas.our_box.engines(), [engine], "it was started again: {}", nas.log());
    assert_eq!(nas.group.kills(), 0);
    println!("{FILES} files, {} MiB of a plan of {}", most >> 20, plan >> 20);
    assert!(most > 0 && most <= plan, "{most} bytes of a plan of {plan}");
    nas.stops();
}

#[test]
fn one_huge_folder_and_all_that_is_done_with_a_repository_need_no_more_than_64_mib() {
    let (group, home) = (Group::of(64 * MIB), TempHome::new());
    let tree = Tree::at(home.source());
    tree.many("messages", FILES_OF_ONE_FOLDER);
    let source = home.source().display().to_string();
    let must = |words: &[&str]| group.must(&home.holdfast(words));
    must(&["init"]);
    must(&["backup", &source]);
    let first = fs::read_dir(home.source().join("messages")).expect("a folder").next();
    let first = first.expect("a file").expect("a file").path();
    fs::write(&first, "changed").expect("a file");
    let told = must(&["--json", "backup", &source]);
    assert!(told.contains("\"files_changed\":1"), "{told}");
    must(&["check"]);
    must(&["check", "--read-data"]);
    assert_eq!(must(&["ls", "latest"]).matches("/messages/").count(), FILES_OF_ONE_FOLDER);
    let restored = home.restored().display().to_string();
    must(&["restore", "latest", "--target", &restored, "--delete"]);
    must_be_alike(&home.source(), &home.restored_source());
    must(&["repair", "index", "--read-all-packs"]);
    must(&["repair", "snapshots"]);
    let old = home.repository().display().to_string();
    let password = home.password_file().display().to_string();
    let new = home.join("copy").display().to_string();
    let of_copy = |words: &[&str]| {
        let words = [&["-r", &new, "--password-file", &password], words].concat();
        let mut holdfast = Command::new(tests_support::program("holdfast"));
        group.must(holdfast.env("HOME", home.join("home")).args(words))
    };
    of_copy(&["init"]);
    of_copy(&["copy", "--from-repo", &old, "--from-password-file", &password]);
    of_copy(&["check", "--read-data"]);
    must(&["forget", "--keep-last", "1", "--prune", "--max-unused", "0"]);
    assert_eq!(group.kills(), 0);
    run(&mut home.restic(&["check", "--read-data"])).must_succeed();
}

/// Two folders of files hold the same.
fn must_be_alike(one: &Path, other: &Path) {
    let names = |folder: &Path| {
        let entries = fs::read_dir(folder.join("messages")).expect("a folder");
        let mut names: Vec<_> = entries.map(|entry| entry.expect("a name").file_name()).collect();
        names.sort();
        names
    };
    let found = names(one);
    assert!(found == names(other) && found.len() == FILES_OF_ONE_FOLDER);
    for name in found {
        let read = |folder: &Path| fs::read(folder.join("messages").join(&name)).expect("a file");
        assert!(read(one) == read(other), "{name:?}");
    }
}

#[test]
fn a_daemon_that_eats_all_memory_gets_less_each_time_and_its_owner_is_told_what_to_do() {
    let mut nas = Narrow::of(96 * MIB);
    // A child eats, so that the daemon itself is not ended; only the kernel can tell why it fails.
    let eater = "echo >&3; sleep 0.2; tail /dev/zero || exit 1";
    let described = format!(
        "[daemon]\ncommand = ['/bin/sh', '-c', '{eater}']\nready = 'descriptor'\n\
         ready_seconds_max = 120\nstop_seconds_max = 5\n"
    );
    let path = nas.our_box.nas().target(PACKAGE).join("conf/daemon.toml");
    fs::write(path, described).expect("root may");
    nas.starts();
    nas.waits_for("the plan gets smaller twice", || {
        nas.log().contains("memory ran out 2 time(s) before; free some, or set USR_MAX_HEAP")
    });
    assert!(nas.group.kills() >= 2, "the kernel ended nothing: {}", nas.log());
    let log = nas.log();
    assert!(log.contains("probably because memory ran out (exit code 1)"), "{log}");
    assert!(log.contains("76 MiB: a control group allows 96 MiB"), "{log}");
    assert!(log.contains("57 MiB: memory ran out 1 time(s) before"), "{log}");
    assert!(log.contains("will be tried again in"), "{log}");
    let told = nas.supervisor(&["status"]);
    assert!(told.contains("probably because memory ran out"), "{told}");
    nas.stops();
    // The next start does not begin at the top again.
    let before = nas.log().matches("supervisor: started, process").count();
    nas.starts();
    nas.waits_for("it is started again", || {
        nas.log().matches("supervisor: started, process").count() > before
    });
    assert_eq!(nas.log().matches("76 MiB").count(), 1, "{}", nas.log());
    nas.stops();
}
