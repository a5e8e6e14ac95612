//! The daemon's side of the web console: its port and its token. What may be asked there is in
//! [`crate::console_port`].
//!
//! No port and no `.ui_info` that could not be written keeps the daemon from backing up: what is
//! not as wanted is a line in the history, in `holdfast status` and on the page.

use crate::daemon::Daemon;
use crate::destination::new_password;
use crate::failure::{Failure, exit};
use crate::settings::replace_file;
use engine_console::Door;
use engine_contract::console::{FILE_BYTES_MAX, Listen, PORT, Token, UiInfo, UiInfoError};
use engine_contract::control::{ChangeConsole, ConsoleAccess, ConsolePlace};
use engine_contract::environment;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, MutexGuard};
use tokio::sync::{mpsc, oneshot};

/// What is told to whoever waits for the console to have moved.
pub type Moved = oneshot::Sender<()>;

/// Where the console is and what lets a reader in.
pub struct Console {
    /// What the environment says, which counts before the settings.
    given: Option<String>,
    state: Mutex<Now>,
    /// Held while `.ui_info` is looked at and written.
    writing: Mutex<()>,
    moves: mpsc::Sender<Moved>,
}

/// What changes while the daemon runs.
struct Now {
    token: Token,
    place: ConsolePlace,
}

impl Console {
    /// Takes the token from `.ui_info`, or makes one; nothing listens yet.
    pub fn of(
        daemon: &Daemon,
        given: Option<String>,
    ) -> Result<(Self, mpsc::Receiver<Moved>), Failure> {
        let path = daemon.home.layout().ui_info();
        let token = match read(&path) {
            Ok(info) => info.token,
            Err(why) => {
                daemon.log(&format!(
                    "a new token for the console was made, since {} {why}; `holdfast console` \
                     prints the address with it",
                    path.display()
                ));
                new_token()?
            }
        };
        let (moves, asked) = mpsc::channel(1);
        let state = Mutex::new(Now { token, place: ConsolePlace::default() });
        Ok((Self { given, state, writing: Mutex::default(), moves }, asked))
    }

    fn state(&self) -> MutexGuard<'_, Now> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// What lets a reader in.
    pub fn token(&self) -> Token {
        self.state().token.clone()
    }

    /// Where it is.
    pub fn place(&self) -> ConsolePlace {
        self.state().place.clone()
    }

    /// Where it is wanted; what is not understood is `Off`, since it was meant to forbid something.
    fn wanted(&self, daemon: &Daemon) -> (Listen, Option<String>) {
        match self.given.as_deref().map(str::parse) {
            None => (daemon.known().settings.console, None),
            Some(Ok(wanted)) => (wanted, None),
            Some(Err(error)) => (Listen::Off, Some(format!("{}: {error}", environment::CONSOLE))),
        }
    }

    /// Takes a port if one is wanted and to be had, and says where it is.
    pub fn open(&self, daemon: &Daemon) -> Option<Door> {
        let (wanted, mut trouble) = self.wanted(daemon);
        let door = match wanted {
            Listen::Off => None,
            Listen::At(at) => match engine_console::open(at) {
                Ok(door) => Some((door, at)),
                Err(error) => {
                    let remedy = error.remedy();
                    let failure = Failure::from_error(error);
                    trouble = Some(format!("there is no console: {failure}; {remedy}"));
                    None
                }
            },
        };
        let address = door.as_ref().map(|(door, _)| door.address);
        if let Some((door, at)) = &door
            && at.port() != 0
            && at.port() != door.address.port()
        {
            trouble = Some(moved(at.port(), door.address.port()));
        }
        match (&trouble, address) {
            (Some(trouble), _) => daemon.log(trouble),
            (None, Some(address)) => {
                daemon.log(&format!("the console listens at port {}", address.port()));
            }
            (None, None) => daemon.log("the console is switched off"),
        }
        self.state().place = ConsolePlace {
            wanted,
            address: address.map(|address| address.ip()),
            port: address.map(|address| address.port()),
            trouble,
        };
        self.write(daemon);
        door.map(|(door, _)| door)
    }

    /// Makes `.ui_info` say what is so; whether it said something else before.
    fn write(&self, daemon: &Daemon) -> bool {
        let _alone = self.writing.lock();
        let info = {
            let state = self.state();
            let address = state.place.address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
            UiInfo { port: state.place.port.unwrap_or(0), token: state.token.clone(), address }
        };
        let path = daemon.home.layout().ui_info();
        if is_private(&path) && read(&path).is_ok_and(|there| there == info) {
            return false;
        }
        match replace_file(&path, info.to_text().as_bytes()) {
            Ok(()) => true,
            Err(error) => {
                daemon.log(&format!("{} cannot be written: {error}", path.display()));
                false
            }
        }
    }

    /// Where it is and what lets a reader in. The file says the same from now on.
    pub fn access(&self, daemon: &Daemon) -> ConsoleAccess {
        if self.write(daemon) {
            let path = daemon.home.layout().ui_info();
            daemon.log(&format!("{} was lost or changed, and written again", path.display()));
        }
        let state = self.state();
        ConsoleAccess { place: state.place.clone(), token: state.token.clone() }
    }

    /// Another place, or another token, from now on.
    pub async fn change(
        &self,
        daemon: &Daemon,
        wanted: ChangeConsole,
    ) -> Result<ConsoleAccess, Failure> {
        if let Some(listen) = wanted.listen {
            if self.given.is_some() {
                return Err(Failure::new(format!(
                    "{} says where the console listens",
                    environment::CONSOLE
                ))
                .remedy("change or remove it where the daemon is started")
                .code(exit::WRONG_USE));
            }
            daemon.change_settings(|settings| {
                settings.console = listen;
                Ok(())
            })?;
        }
        if wanted.new_token {
            let token = new_token()?;
            self.state().token = token;
            daemon.log("a new token for the console was made, as its owner asked");
        }
        let (told, moved) = oneshot::channel();
        // Only a daemon that stops listens no more; then there is nobody to tell, either.
        if self.moves.send(told).await.is_ok() {
            let _ = moved.await;
        }
        Ok(self.access(daemon))
    }
}

fn new_token() -> Result<Token, Failure> {
    new_password()?.parse().map_err(|error: UiInfoError| Failure::from_error(error))
}

/// Why the console is not where its owner expects it.
fn moved(wanted: u16, port: u16) -> String {
    let icon = if wanted == PORT { "; the icon on DSM's desktop does not lead to it" } else { "" };
    format!(
        "port {wanted} is taken by another program, so the console listens at port {port}{icon}: \
         `holdfast console` prints its address"
    )
}

/// What the file says, or why it says nothing, after its name.
fn read(path: &std::path::Path) -> Result<UiInfo, String> {
    let file = File::open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => "was not there".to_owned(),
        _ => format!("cannot be read: {error}"),
    })?;
    let mut text = String::new();
    file.take(FILE_BYTES_MAX as u64 + 1)
        .read_to_string(&mut text)
        .map_err(|error| format!("cannot be read: {error}"))?;
    UiInfo::from_text(&text).map_err(|error| format!("is damaged: {error}"))
}

/// Whether nobody else can read it.
fn is_private(path: &std::path::Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|facts| facts.permissions().mode().trailing_zeros() >= 6)
}
