//! The workspace's programs, built once per test process, and how a story runs them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A program that says nothing for this long is stuck, and is ended.
pub const RUN_SECONDS_MAX: u64 = 600;

/// The programs stories run.
const PROGRAMS: [&str; 5] = ["holdfast", "holdfast-supervisor", "holdfast-depot", "spk", "nas"];

/// The packages that build them; always asked for together, because another choice of packages is
/// to Cargo another choice of features, and half of all dependencies would be built twice.
const PACKAGES: [&str; 5] =
    ["engine-daemon", "supervisor-agent", "supervisor-server", "spk", "tests-support"];

/// The path of a program of this workspace, built from today's sources.
///
/// It lies beside the running test, in the same profile. Cargo decides whether anything is to be
/// built; one process asks once a program.
///
/// # Panics
/// When there is no such program, or it cannot be built: Cargo's own words are in the message.
pub fn program(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    assert!(PROGRAMS.contains(&name), "no package of this workspace builds a program `{name}`");
    BUILT.get_or_init(build).join(name)
}

/// Builds all programs, and gives the folder they are in.
fn build() -> PathBuf {
    let (target_folder, profile) = build_place();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--locked", "--bins", "--profile", &profile]);
    for package in PACKAGES {
        cargo.args(["--package", package]);
    }
    cargo.arg("--target-dir").arg(&target_folder).current_dir(workspace());
    // What Cargo told this test about its own package would make it build ring anew, whose build
    // script asks for these names, and with it everything above: once for each package's tests.
    let is_of_package = |name: &str| {
        ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|start| name.starts_with(start))
    };
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_of_package) {
            cargo.env_remove(name);
        }
    }
    let built = cargo.output().unwrap_or_else(|cause| panic!("cargo does not start: {cause}"));
    assert!(
        built.status.success(),
        "the programs could not be built:\n{}",
        String::from_utf8_lossy(&built.stderr)
    );
    target_folder.join(if profile == "dev" { "debug" } else { &profile })
}

/// A program of others that judges ours, found or fetched by `scripts/peers`.
///
/// # Panics
/// When it cannot be had.
pub fn peer(name: &str) -> PathBuf {
    // Building one takes as long as it takes.
    let found = Command::new(workspace().join("scripts/peers")).arg(name).output();
    let found = found.expect("scripts/peers starts");
    let told = String::from_utf8_lossy(&found.stderr);
    assert!(found.status.success(), "this test needs {name}: {told}");
    PathBuf::from(String::from_utf8_lossy(&found.stdout).trim())
}

/// The target folder and profile the running test was built in.
fn build_place() -> (PathBuf, String) {
    let this = std::env::current_exe().expect("a test knows its own path");
    let mut folder = this.parent().expect("a program lies in a folder");
    if folder.ends_with("deps") {
        folder = folder.parent().expect("deps lies in a profile's folder");
    }
    let profile = folder.file_name().map(|name| name.to_string_lossy().into_owned());
    let profile = match profile.as_deref() {
        Some("debug") | None => "dev".to_owned(),
        Some(other) => other.to_owned(),
    };
    (folder.parent().unwrap_or(Path::new("target")).to_path_buf(), profile)
}

/// The root of the checkout.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("this room is two folders deep").to_path_buf()
}

/// Puts a program in place that is run at once.
///
/// Another process writes it: had this one the file open, whatever another test starts meanwhile
/// would have it open, too, for a moment longer, and nobody may run what is open for writing.
///
/// # Panics
/// When it cannot be written.
#[track_caller]
pub fn put_program(path: &Path, bytes: &[u8]) {
    let mut shell = Command::new("sh");
    shell.args(["-c", "cat >\"$0\" && chmod 755 \"$0\""]).arg(path).stdin(Stdio::piped());
    let mut shell = shell.spawn().expect("a shell");
    let mut input = shell.stdin.take().expect("it is piped");
    input.write_all(bytes).expect("the shell reads");
    drop(input);
    assert!(shell.wait().expect("it is ours").success(), "no program in {}", path.display());
}

/// A program's end, and everything it said.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The command line, for messages.
    pub line: String,
    /// The exit code; 128 and the signal's number when a signal ended it.
    pub code: i32,
    /// What it said on standard output, invalid UTF-8 replaced.
    pub out: String,
    /// What it said on standard error, invalid UTF-8 replaced.
    pub err: String,
}

impl Finished {
    /// Both outputs, as a person at a terminal saw them.
    pub fn said(&self) -> String {
        format!("{}{}", self.out, self.err)
    }

    /// This end, when the program succeeded.
    ///
    /// # Panics
    /// When it did not; the message is what it said.
    #[track_caller]
    pub fn must_succeed(self) -> Self {
        assert!(self.code == 0, "`{}` ended with {}:\n{}", self.line, self.code, self.said());
        self
    }

    /// This end, when the exit code is `code`.
    ///
    /// # Panics
    /// When it is another; the message is what it said.
    #[track_caller]
    pub fn must_end_with(self, code: i32) -> Self {
        assert!(
            self.code == code,
            "`{}` ended with {}, not {code}:\n{}",
            self.line,
            self.code,
            self.said()
        );
        self
    }

    /// This end, when the program failed as a good program does: a sentence and a remedy.
    ///
    /// # Panics
    /// When it succeeded, said no `what to do:`, or panicked.
    #[track_caller]
    pub fn must_fail_with_a_remedy(self) -> Self {
        let said = self.said();
        assert!(self.code != 0, "`{}` succeeded, and should not have:\n{said}", self.line);
        assert!(self.code < 128, "`{}` was ended by a signal:\n{said}", self.line);
        assert!(!said.contains("panicked at"), "`{}` panicked:\n{said}", self.line);
        assert!(said.contains("what to do:"), "`{}` names no remedy:\n{said}", self.line);
        self
    }

    /// Standard output as JSON.
    ///
    /// # Panics
    /// When it is not JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out)
            .unwrap_or_else(|cause| panic!("`{}`: {cause}:\n{}", self.line, self.said()))
    }
}

/// Runs a command to its end, within [`RUN_SECONDS_MAX`].
///
/// Output goes through files, not pipes: a daemon the command leaves behind would keep a pipe open.
///
/// # Panics
/// When the command does not start, or does not end in time.
#[track_caller]
pub fn run(command: &mut Command) -> Finished {
    let line = line_of(command);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (out, err) = (folder.path().join("out"), folder.path().join("err"));
    command.stdin(Stdio::null());
    command.stdout(std::fs::File::create(&out).expect("a temporary file"));
    command.stderr(std::fs::File::create(&err).expect("a temporary file"));
    let mut child =
        command.spawn().unwrap_or_else(|cause| panic!("`{line}` does not start: {cause}"));
    let ended = wait(&mut child, Duration::from_secs(RUN_SECONDS_MAX));
    let text = |path: &Path| {
        String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
    };
    let (out, err) = (text(&out), text(&err));
    let Some(status) = ended else {
        let _ = child.kill();
        let _ = child.wait();
        panic!("`{line}` did not end within {RUN_SECONDS_MAX} s:\n{out}{err}");
    };
    Finished { line, code: code_of(status), out, err }
}

/// Waits for a child, but not for ever.
pub(crate) fn wait(child: &mut Child, at_most: Duration) -> Option<ExitStatus> {
    let begun = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if begun.elapsed() < at_most => {
                std::thread::sleep(Duration::from_millis(5));
            }
            _ => return None,
        }
    }
}

/// The exit code as a shell would report it.
pub(crate) fn code_of(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

fn line_of(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

/// A program running in the background; it is ended when this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
}

impl Running {
    /// Starts `command` and waits until a line of its output contains `ready`; gives that line.
    ///
    /// # Panics
    /// When it ends, or says nothing of the kind within 60 seconds.
    #[track_caller]
    pub fn until(command: &mut Command, ready: &str) -> (Self, String) {
        let line = line_of(command);
        let log = tempfile::NamedTempFile::new().expect("a temporary file");
        command.stdin(Stdio::null());
        command.stdout(log.reopen().expect("a temporary file"));
        command.stderr(log.reopen().expect("a temporary file"));
        let child =
            command.spawn().unwrap_or_else(|cause| panic!("`{line}` does not start: {cause}"));
        let mut running = Self { child };
        let begun = Instant::now();
        loop {
            let said = std::fs::read(log.path()).unwrap_or_default();
            let said = String::from_utf8_lossy(&said).into_owned();
            let whole_lines = said.rfind('\n').map_or("", |end| &said[..end]);
            if let Some(found) = whole_lines.lines().find(|line| line.contains(ready)) {
                return (running, found.to_owned());
            }
            let ended = running.child.try_wait().ok().flatten();
            assert!(
                ended.is_none() && begun.elapsed() < Duration::from_secs(60),
                "`{line}` never said `{ready}` (ended: {ended:?}):\n{said}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        if wait(&mut self.child, Duration::from_secs(5)).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_leaves_a_daemon_behind_does_not_keep_the_story_waiting() {
        let begun = Instant::now();
        let ended = run(Command::new("sh").args(["-c", "echo said; sleep 300 & exit 3"]));
        assert_eq!((ended.code, ended.out.as_str()), (3, "said\n"));
        assert!(begun.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn a_background_program_is_ended_with_its_story() {
        let (running, line) =
            Running::until(Command::new("sh").args(["-c", "echo ready at 7; exec sleep 99"]), "at");
        assert_eq!(line, "ready at 7");
        let pid = nix::unistd::Pid::from_raw(running.pid().cast_signed());
        drop(running);
        assert!(nix::sys::signal::kill(pid, None).is_err(), "it is still there");
    }
}
