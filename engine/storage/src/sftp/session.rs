//! One `ssh` and the SFTP (version 3) spoken through it: questions that may be under way together,
//! and a thread that hands out the answers.
//!
//! Packets are written and read by `openssh-sftp-protocol`; what it takes from a server is bounded
//! here first. `ssh` is told to ask nobody anything: whoever backs up at night types no password.

use super::SshProgram;
use super::address::SftpAddress;
use crate::{Patience, Result, StorageError};
use openssh_sftp_protocol::constants::{SSH_FXP_NAME, SSH_FXP_VERSION};
use openssh_sftp_protocol::file_attrs::FileAttrs;
use openssh_sftp_protocol::request::{Hello, Request, RequestInner};
use openssh_sftp_protocol::response::{
    Extensions, NameEntry, Response, ResponseInner, ServerVersion, StatusCode, Statvfs,
};
use openssh_sftp_protocol::ssh_format::{self, Deserializer};
use openssh_sftp_protocol::{ErrorCode, HandleOwned};
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The version of the protocol we speak; servers that know later ones speak it, too.
const VERSION: u32 = 3;

/// No packet of a server is longer: OpenSSH's own bound, 256 KiB.
const PACKET_BYTES_MAX: usize = 256 << 10;

/// A name in a listing takes at least so many bytes: two lengths and the attributes' flags.
const NAME_BYTES_MIN: usize = 12;

/// What `ssh` said last, kept for the message when it ends.
const SAID_BYTES_MAX: usize = 2048;

/// How long we wait for the words of an `ssh` that has ended.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What a server answers.
pub(super) enum Answer {
    /// It is done.
    Done,
    /// There is no more.
    End,
    /// It is not done.
    Refused(ErrorCode, String),
    /// What was opened.
    Handle(HandleOwned),
    /// Some names of a folder.
    Names(Box<[NameEntry]>),
    /// What a file is like.
    Attributes(FileAttrs),
    /// A part of a file.
    Data(Vec<u8>),
    /// How full the disk is.
    Room(Statvfs),
}

/// Who waits for which answer.
#[derive(Default)]
struct Waiting {
    is_over: bool,
    number: u32,
    answers: HashMap<u32, SyncSender<Answer>>,
}

/// What the threads of a session share.
struct Shared {
    waiting: Mutex<Waiting>,
    said: Mutex<Vec<u8>>,
}

/// A running `ssh`, which ends with this.
pub(super) struct Session {
    location: String,
    child: Mutex<Child>,
    input: Mutex<ChildStdin>,
    shared: Arc<Shared>,
    extensions: Extensions,
    idle: Duration,
    said_all: Mutex<Receiver<()>>,
}

/// An answer that is on its way.
pub(super) struct Pending<'a> {
    session: &'a Session,
    answer: Receiver<Answer>,
}

impl Session {
    /// Starts `ssh` and greets the server.
    pub(super) fn start(
        address: &SftpAddress,
        program: &SshProgram,
        patience: &Patience,
    ) -> Result<Self> {
        let location = address.to_string();
        let mut child = command(address, program, patience).spawn().map_err(|cause| {
            let program = program.path.display().to_string();
            StorageError::ProgramMissing { location: location.clone(), program, cause }
        })?;
        let nothing = || io::Error::from(io::ErrorKind::BrokenPipe);
        let streams = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(input), Some(output), Some(errors)) = streams else {
            let cause = Box::new(nothing());
            return Err(StorageError::Unreachable { location, cause });
        };
        let shared = Arc::new(Shared { waiting: Mutex::default(), said: Mutex::default() });
        let (tell_version, version) = sync_channel(1);
        let (tell_said, said_all) = sync_channel(1);
        let (reads, listens) = (shared.clone(), shared.clone());
        std::thread::spawn(move || reads.read_all(output, &tell_version));
        std::thread::spawn(move || {
            listens.listen(errors);
            let _ = tell_said.send(());
        });
        let mut session = Self {
            location,
            child: Mutex::new(child),
            input: Mutex::new(input),
            shared,
            extensions: Extensions::empty(),
            idle: patience.idle,
            said_all: Mutex::new(said_all),
        };
        session.send(&Hello { version: VERSION })?;
        match version.recv_timeout(patience.connect + patience.idle) {
            Ok(Some(version)) if version.version >= VERSION => {
                session.extensions = version.extensions;
                Ok(session)
            }
            Ok(_) => Err(session.foreign("what answers there speaks no SFTP of version 3")),
            Err(RecvTimeoutError::Timeout) => Err(session.gave_up()),
            Err(RecvTimeoutError::Disconnected) => Err(session.ended()),
        }
    }

    /// Whether no answer will come any more.
    pub(super) fn is_over(&self) -> bool {
        lock(&self.shared.waiting).is_over
    }

    /// Where it leads, fit for a message.
    pub(super) fn location(&self) -> &str {
        &self.location
    }

    /// Whether the server can do this.
    pub(super) fn can(&self, extension: Extensions) -> bool {
        self.extensions.contains(extension)
    }

    /// Asks; the answer may be waited for later, or never.
    pub(super) fn ask(&self, question: RequestInner<'_>) -> Result<Pending<'_>> {
        let (sender, answer) = sync_channel(1);
        let request_id = {
            let mut waiting = lock(&self.shared.waiting);
            if waiting.is_over {
                drop(waiting);
                return Err(self.ended());
            }
            waiting.number = waiting.number.wrapping_add(1);
            let number = waiting.number;
            waiting.answers.insert(number, sender);
            number
        };
        self.send(&Request { request_id, inner: question })?;
        Ok(Pending { session: self, answer })
    }

    fn send(&self, packet: &impl serde::Serialize) -> Result<()> {
        let bytes = ssh_format::to_bytes(packet)
            .map_err(|_| self.foreign("a question to it is too long for its protocol"))?;
        let written = {
            let mut input = lock(&self.input);
            input.write_all(&bytes).and_then(|()| input.flush())
        };
        written.map_err(|_| self.ended())
    }

    /// What a session that is over ended with.
    fn ended(&self) -> StorageError {
        self.shared.end();
        // What it said may come a moment after its end.
        let _ = lock(&self.said_all).recv_timeout(LAST_WORDS);
        let said = String::from_utf8_lossy(&lock(&self.shared.said)).trim().to_owned();
        let location = self.location.clone();
        let has = |words: &str| said.to_lowercase().contains(words);
        let cause = io::Error::other(match said.is_empty() {
            true => "`ssh` ended without a word".to_owned(),
            false => format!("`ssh` said: {said}"),
        });
        if has("host key verification failed") {
            StorageError::HostUnknown { location, cause }
        } else if has("permission denied") || has("too many authentication failures") {
            StorageError::LoginRefused { location, cause }
        } else if has("subsystem request failed") {
            self.foreign("its SSH server offers no SFTP to this user")
        } else {
            StorageError::Unreachable { location, cause: Box::new(cause) }
        }
    }

    /// Nothing came for too long.
    fn gave_up(&self) -> StorageError {
        self.shared.end();
        let _ = lock(&self.child).kill();
        let cause = Box::new(io::Error::from(io::ErrorKind::TimedOut));
        StorageError::Unreachable { location: self.location.clone(), cause }
    }

    /// An answer of a kind that was not asked for.
    pub(super) fn odd(&self) -> StorageError {
        self.foreign("it answers another question than the one it was asked")
    }

    /// It answers otherwise than such a server does.
    pub(super) fn foreign(&self, reason: &str) -> StorageError {
        StorageError::Foreign { location: self.location.clone(), reason: reason.into() }
    }
}

/// What a refusal means, but for those the caller knows better.
pub(super) fn refused(
    action: &'static str,
    path: &Path,
    (code, text): (ErrorCode, &str),
) -> StorageError {
    let (path, said) = (path.to_owned(), text.trim());
    let cause = io::Error::other(match said.is_empty() {
        true => format!("the server answered {code:?}"),
        false => format!("the server answered: {said}"),
    });
    match code {
        ErrorCode::PermDenied => StorageError::Denied { action, path, cause },
        _ => StorageError::Io { action, path, cause },
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Pending<'_> {
    /// The answer.
    pub(super) fn wait(self) -> Result<Answer> {
        match self.answer.recv_timeout(self.session.idle) {
            Ok(answer) => Ok(answer),
            Err(RecvTimeoutError::Timeout) => Err(self.session.gave_up()),
            Err(RecvTimeoutError::Disconnected) => Err(self.session.ended()),
        }
    }
}

impl Shared {
    /// Hands out answers until there are no more.
    fn read_all(&self, mut output: ChildStdout, version: &SyncSender<Option<ServerVersion>>) {
        if let Ok(packet) = next_packet(&mut output) {
            let _ = version.send(version_of(&packet));
            while let Ok(packet) = next_packet(&mut output) {
                let Some((number, answer)) = answer_of(&packet) else { break };
                let waits = lock(&self.waiting).answers.remove(&number);
                // Whoever asked may have stopped waiting.
                let _ = waits.map(|waits| waits.send(answer));
            }
        }
        self.end();
    }

    /// Keeps what `ssh` says last.
    fn listen(&self, mut errors: impl Read) {
        let mut buffer = [0; 512];
        while let Ok(count @ 1..) = errors.read(&mut buffer) {
            let mut said = lock(&self.said);
            said.extend_from_slice(&buffer[..count]);
            let too_much = said.len().saturating_sub(SAID_BYTES_MAX);
            said.drain(..too_much);
        }
    }

    /// Nobody waits for anything any more.
    fn end(&self) {
        let mut waiting = lock(&self.waiting);
        waiting.is_over = true;
        waiting.answers.clear();
    }
}

/// `ssh`, told to ask nobody and to notice when the line is dead. What the owner adds comes first,
/// because `ssh` goes by the first it hears.
fn command(address: &SftpAddress, program: &SshProgram, patience: &Patience) -> Command {
    let mut command = Command::new(&program.path);
    command.args(&program.arguments);
    let connect = format!("ConnectTimeout={}", patience.connect.as_secs().max(1));
    for option in ["BatchMode=yes", &connect, "ServerAliveInterval=20", "ServerAliveCountMax=3"] {
        command.args(["-o", option]);
    }
    command.args(address.words());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A Ctrl-C is for us, who still have a checkpoint to send through it.
    command.process_group(0);
    command
}

fn next_packet(output: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    output.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > PACKET_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut packet = vec![0; length];
    output.read_exact(&mut packet)?;
    Ok(packet)
}

fn version_of(packet: &[u8]) -> Option<ServerVersion> {
    match packet.first() {
        Some(&SSH_FXP_VERSION) => {
            ServerVersion::deserialize(&mut Deserializer::from_bytes(packet)).ok()
        }
        _ => None,
    }
}

fn answer_of(packet: &[u8]) -> Option<(u32, Answer)> {
    let (kind, number) = (*packet.first()?, number_at(packet, 1)?);
    if Response::is_data(kind) {
        let (length, data) = (number_at(packet, 5)? as usize, packet.get(9..)?);
        return Some((number, Answer::Data(data.get(..length)?.to_vec())));
    }
    if Response::is_extended_reply(kind) {
        let (room, _) = ssh_format::from_bytes::<Statvfs>(packet.get(5..)?).ok()?;
        return Some((number, Answer::Room(room)));
    }
    // Room for so many names is made before the first is read.
    let names = || number_at(packet, 5).map_or(0, |count| count as usize);
    if kind == SSH_FXP_NAME && names() > packet.len() / NAME_BYTES_MIN {
        return None;
    }
    let (response, _) = ssh_format::from_bytes::<Response>(packet).ok()?;
    let answer = match response.response_inner {
        ResponseInner::Status { status_code: StatusCode::Success, .. } => Answer::Done,
        ResponseInner::Status { status_code: StatusCode::Eof, .. } => Answer::End,
        ResponseInner::Status { status_code: StatusCode::Failure(code), err_msg } => {
            Answer::Refused(code, err_msg.get().0.to_owned())
        }
        ResponseInner::Handle(handle) => Answer::Handle(handle),
        ResponseInner::Name(names) => Answer::Names(names),
        ResponseInner::Attrs(attributes) => Answer::Attributes(attributes),
    };
    Some((number, answer))
}

fn number_at(packet: &[u8], offset: usize) -> Option<u32> {
    let bytes = packet.get(offset..offset + 4)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_talks_nonsense_is_never_given_room_for_it() {
        let names = |count: u32| {
            let mut packet = vec![SSH_FXP_NAME, 0, 0, 0, 7];
            packet.extend(count.to_be_bytes());
            packet.extend([0; 12]);
            packet
        };
        assert!(answer_of(&names(u32::MAX)).is_none());
        assert!(answer_of(&names(2)).is_none(), "two names are announced, and one is there");
        assert!(matches!(answer_of(&names(1)), Some((7, Answer::Names(_)))));
        let data = [103, 0, 0, 0, 1, 0, 0, 0, 9, b'x'];
        assert!(answer_of(&data).is_none(), "less data than announced");
        assert!(answer_of(&[]).is_none() && answer_of(&[101, 0, 0]).is_none());
        assert!(answer_of(&[77, 0, 0, 0, 1, 0, 0, 0, 0]).is_none(), "no such kind of packet");
        let long = (PACKET_BYTES_MAX as u32 + 1).to_be_bytes();
        assert!(next_packet(&mut &long[..]).is_err(), "before a byte of it is read");
    }

    #[test]
    fn a_status_that_no_standard_knows_is_a_refusal() {
        let mut packet = vec![101, 0, 0, 0, 3, 0, 0, 0, 99];
        packet.extend([0, 0, 0, 2, b'n', b'o', 0, 0, 0, 0]);
        let answer = answer_of(&packet);
        assert!(matches!(answer, Some((3, Answer::Refused(_, text))) if text == "no"));
    }
}
