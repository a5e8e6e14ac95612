//! What one command costs: by a process of its own, whose only child it is.
//!
//! The kernel adds up what a process's ended children used. With one child there is nothing to add
//! up, and the small parent's own memory cannot be taken for the child's.

use crate::cgroup;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The rest of a failed command's output that is shown, in bytes.
const LAST_WORDS_BYTES_MAX: usize = 600;

/// The exit code noted for a program that had to be ended; `timeout` uses the same.
const STUCK: i32 = 124;
/// How often a program with a time limit is looked at.
const GLANCE: Duration = Duration::from_millis(5);

/// Run one command, and write down what it cost.
#[derive(Debug, clap::Args)]
pub struct Order {
    /// Where to write what it cost
    #[arg(long)]
    result: PathBuf,
    /// Where its output goes
    #[arg(long)]
    log: PathBuf,
    /// The cgroup to run in
    #[arg(long)]
    cgroup: Option<PathBuf>,
    /// After so many seconds it is ended: in too small a box some programs neither end nor die
    #[arg(long)]
    seconds_max: Option<u64>,
    /// The command
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

impl Order {
    /// Does it.
    pub fn obey(self) -> ExitCode {
        match self.run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(cause) => {
                eprintln!("bench: {}: {cause}", self.command[0].display());
                ExitCode::FAILURE
            }
        }
    }

    fn run(&self) -> std::io::Result<()> {
        if let Some(folder) = &self.cgroup {
            cgroup::enter(folder)?;
        }
        let log = File::create(&self.log)?;
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        let begun = Instant::now();
        let status = self.wait(command.spawn()?, begun)?;
        let wall = begun.elapsed();
        let used = getrusage(UsageWho::RUSAGE_CHILDREN)?;
        let cpu = used.user_time() + used.system_time();
        let figures = json!({
            "cpu_microseconds": cpu.num_microseconds(),
            "wall_microseconds": u64::try_from(wall.as_micros()).unwrap_or(u64::MAX),
            "memory_kib": used.max_rss(),
            "code": match status {
                None => STUCK,
                Some(ended) => ended.code().unwrap_or(128 + ended.signal().unwrap_or(0)),
            },
        });
        fs::write(&self.result, figures.to_string())
    }

    /// Its end, or nothing when it had to be ended.
    fn wait(&self, mut child: Child, begun: Instant) -> std::io::Result<Option<ExitStatus>> {
        let Some(seconds_max) = self.seconds_max else { return child.wait().map(Some) };
        while begun.elapsed().as_secs() < seconds_max {
            if let Some(status) = child.try_wait()? {
                return Ok(Some(status));
            }
            std::thread::sleep(GLANCE);
        }
        child.kill()?;
        child.wait()?;
        Ok(None)
    }
}

/// What a step cost.
#[derive(Debug, Clone, Default)]
pub struct Figure {
    /// User and system time, in seconds.
    pub cpu_seconds: f64,
    /// By the clock, in seconds.
    pub wall_seconds: f64,
    /// The most that was resident at once, in MiB.
    pub memory_mib: f64,
    /// The exit code; 137 when it was killed.
    pub code: i32,
    /// What it said last, when it failed.
    pub last_words: String,
}

impl Figure {
    /// Whether it ended well.
    pub fn is_done(&self) -> bool {
        self.code == 0
    }

    /// Whether it had to be ended, because it was not done in time.
    pub fn is_stuck(&self) -> bool {
        self.code == STUCK
    }

    /// Whether the kernel killed it, or its runtime gave up for want of memory.
    pub fn is_out_of_memory(&self) -> bool {
        self.code == 128 + 9 || self.code == 128 + 6 || self.last_words.contains("out of memory")
    }
}

/// Where measuring keeps its notes.
#[derive(Debug)]
pub struct Scales {
    /// A folder for results and output.
    pub folder: PathBuf,
    /// How long a command may take inside a cgroup.
    pub seconds_max: u64,
}

impl Scales {
    fn log(&self) -> PathBuf {
        self.folder.join("output.log")
    }

    /// What the last command said.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log()).unwrap_or_default()).into_owned()
    }

    /// Runs the commands one after the other, in `cgroup` if given, with `environment`, in `place`.
    ///
    /// Times are added up, of memory the larger counts. It ends with the first that fails.
    pub fn weigh(
        &self,
        commands: &[Vec<OsString>],
        environment: &[(String, OsString)],
        place: &Path,
        cgroup: Option<&Path>,
    ) -> std::io::Result<Figure> {
        let (result, log) = (self.folder.join("result.json"), self.log());
        let mut sum = Figure::default();
        for command in commands {
            let mut order = Command::new(std::env::current_exe()?);
            order.arg("measure").arg("--result").arg(&result).arg("--log").arg(&log);
            if let Some(folder) = cgroup {
                order.arg("--cgroup").arg(folder);
                order.arg("--seconds-max").arg(self.seconds_max.to_string());
            }
            order.arg("--").args(command).current_dir(place);
            order.envs(environment.iter().map(|(name, value)| (name, value)));
            let _ = fs::remove_file(&result);
            // What another tool wrote and did not wait for is no burden of this one.
            nix::unistd::sync();
            let status = order.status()?;
            let said = fs::read(&log).unwrap_or_default();
            let figures: Value = match fs::read(&result) {
                Ok(text) if status.success() => serde_json::from_slice(&text)?,
                // Killed together with its child.
                _ => json!({ "code": status.code().unwrap_or(128 + 9) }),
            };
            let number = |name: &str| figures[name].as_f64().unwrap_or(0.0);
            sum.cpu_seconds += number("cpu_microseconds") / 1e6;
            sum.wall_seconds += number("wall_microseconds") / 1e6;
            sum.memory_mib = sum.memory_mib.max(number("memory_kib") / 1024.0);
            sum.code = i32::try_from(figures["code"].as_i64().unwrap_or(1)).unwrap_or(1);
            if sum.code != 0 {
                let tail = said.len().saturating_sub(LAST_WORDS_BYTES_MAX);
                sum.last_words = String::from_utf8_lossy(&said[tail..]).into_owned();
                break;
            }
        }
        Ok(sum)
    }
}
