//! A computer with our daemon on it, whose console is asked over the network.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use tests_support::{Finished, PATIENCE, TempHome, program, run, wait_for};

/// Somebody who may not read everything, also where tests are run by root.
const NOBODY_UID: u32 = 65534;

/// A computer. Its daemon is ended when it is dropped.
#[derive(Debug)]
pub struct Computer {
    /// Its folders.
    pub home: TempHome,
    /// What its environment says of the console.
    listen: Option<String>,
    daemon: Option<Child>,
}

/// What the console answered.
#[derive(Debug)]
pub struct Reply {
    /// 200 and the like; 0 when there was no answer.
    pub status: u16,
    /// The headers, in small letters.
    pub head: String,
    /// What was said.
    pub body: String,
}

impl Reply {
    fn of(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let head = head.to_ascii_lowercase();
        Self { status: status.unwrap_or(0), head, body: body.to_owned() }
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|cause| panic!("{cause}: {self:?}"))
    }
}

impl Computer {
    /// A computer whose daemon runs, with the console where `listen` says; without, where the
    /// settings say.
    pub fn with_console(listen: Option<&str>) -> Self {
        let home = TempHome::new();
        let engine = home.join("engine");
        std::fs::create_dir(&engine).expect("a folder");
        std::fs::create_dir(home.repository()).expect("a folder");
        // Another program copies it: what this one had open for writing while it starts others,
        // nobody could run yet.
        run(Command::new("cp").arg(program("holdfast")).arg(home.join("holdfast"))).must_succeed();
        if nix::unistd::geteuid().is_root() {
            for folder in [&engine, &home.repository()] {
                chown(folder, Some(NOBODY_UID), Some(NOBODY_UID)).expect("root may do that");
            }
        }
        let mut computer = Self { home, listen: listen.map(str::to_owned), daemon: None };
        computer.starts();
        computer
    }

    /// `holdfast --home HOME …`, as the daemon's user.
    pub fn holdfast(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.home.join("holdfast"));
        command.env_remove("HOLDFAST_CONSOLE").arg("--home").arg(self.home.join("engine"));
        command.args(words);
        if nix::unistd::geteuid().is_root() {
            command.uid(NOBODY_UID).gid(NOBODY_UID);
        }
        command
    }

    /// The same, which must succeed.
    #[track_caller]
    pub fn does(&self, words: &[&str]) -> Finished {
        run(&mut self.holdfast(words)).must_succeed()
    }

    /// Starts the daemon, and waits until it answers.
    pub fn starts(&mut self) {
        let mut daemon = self.holdfast(&["daemon"]);
        if let Some(listen) = &self.listen {
            daemon.env("HOLDFAST_CONSOLE", listen);
        }
        daemon.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.daemon = Some(daemon.spawn().expect("the daemon starts"));
        wait_for("the daemon answers", || {
            run(&mut self.holdfast(&["status", "--alive"])).code == 0
        });
    }

    /// Stops the daemon, as DSM does.
    pub fn stops(&mut self) {
        let Some(mut daemon) = self.daemon.take() else { return };
        let pid = nix::unistd::Pid::from_raw(daemon.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        wait_for("the daemon ends", || daemon.try_wait().ok().flatten());
    }

    /// The daemon's process id.
    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().expect("it runs").id()
    }

    /// A file of the daemon's home.
    pub fn file(&self, name: &str) -> PathBuf {
        self.home.join("engine").join(name)
    }

    /// What the daemon wrote down.
    pub fn history(&self) -> String {
        std::fs::read_to_string(self.file("log/history.log")).unwrap_or_default()
    }

    /// What `holdfast console` tells.
    #[track_caller]
    pub fn console(&self) -> serde_json::Value {
        self.does(&["console", "--json"]).json()
    }

    /// The port the console listens at.
    #[track_caller]
    pub fn port(&self) -> u16 {
        let told = self.console();
        let port = told["port"].as_u64().and_then(|port| port.try_into().ok());
        port.unwrap_or_else(|| panic!("no port in {told}"))
    }

    /// What lets a reader in.
    #[track_caller]
    pub fn token(&self) -> String {
        self.console()["token"].as_str().expect("a token").to_owned()
    }

    /// A connection to the console.
    pub fn line(&self) -> TcpStream {
        line_to(self.port())
    }

    /// Asks the console.
    pub fn asked(&self, method: &str, path: &str, token: Option<&str>) -> Reply {
        let token =
            token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        self.told(format!("{method} {path} HTTP/1.1\r\nHost: nas\r\n{token}\r\n").as_bytes())
    }

    /// Says something to the console, and listens until it has said all.
    pub fn told(&self, words: &[u8]) -> Reply {
        let mut line = self.line();
        // Whoever says too much is cut off in the middle; what was answered counts.
        let _ = line.write_all(words);
        let mut answer = Vec::new();
        let _ = line.read_to_end(&mut answer);
        Reply::of(&answer)
    }

    /// Protects the folder of sources, as the set `photos`.
    pub fn protects_its_photos(&self) {
        let path = |path: PathBuf| path.display().to_string();
        self.does(&["destination", "add", "disk", &path(self.home.repository())]);
        let source = path(self.home.source());
        self.does(&["set", "add", "photos", "--path", &source, "--destination", "disk"]);
    }
}

/// A connection to a port of this machine, on which nobody waits for ever.
pub fn line_to(port: u16) -> TcpStream {
    let line = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).expect("a console");
    line.set_read_timeout(Some(PATIENCE)).expect("a socket");
    line
}

impl Drop for Computer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the history:\n{}", self.history());
        }
        if let Some(mut daemon) = self.daemon.take() {
            let _ = (daemon.kill(), daemon.wait());
        }
    }
}
