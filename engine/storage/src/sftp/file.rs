//! A file, or a folder, that is open on the server; and how a new file comes to be there.

use super::Line;
use super::session::{Answer, Pending, Session, refused};
use crate::folder::TEMPORARY_AGE_MAX;
use crate::name::TEMPORARY;
use crate::spooled_pack::Uploads;
use crate::{Name, Result, StorageError};
use engine_repository::FileKind;
use openssh_sftp_protocol::file_attrs::{FileAttrs, Permissions};
use openssh_sftp_protocol::open_options::{CreateFlags, OpenOptions};
use openssh_sftp_protocol::request::RequestInner;
use openssh_sftp_protocol::response::Extensions;
use openssh_sftp_protocol::{ErrorCode, HandleOwned};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A piece that is read or written: every server takes so much (SFTP version 3, section 3).
const PIECE_BYTES: usize = 32 << 10;

/// Pieces under way at a time, for each call: 256 KiB, which a slow line carries in a minute.
const PIECES_MAX: usize = 8;

/// Less room than this on the server's disk is none: 1 MiB.
const ROOM_BYTES_MIN: u64 = 1 << 20;

/// So many old temporary files are removed at a time.
const SWEPT_MAX: usize = 1000;

/// Files are for the owner alone.
const FILE_MODE: u32 = 0o600;

/// Open on the server, until this goes.
pub(super) struct OpenFile {
    pub session: Arc<Session>,
    pub handle: HandleOwned,
    pub path: PathBuf,
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        // Nobody waits for the answer.
        let _ = self.session.ask(RequestInner::Close(Cow::Borrowed(&self.handle)));
    }
}

impl OpenFile {
    /// Its size in bytes.
    pub fn size(&self) -> Result<u64> {
        let size = self.attributes()?.get_size();
        size.ok_or_else(|| self.session.foreign("it does not say how long a file is"))
    }

    fn attributes(&self) -> Result<FileAttrs> {
        let question = RequestInner::Fstat(Cow::Borrowed(&self.handle));
        match self.session.ask(question)?.wait()? {
            Answer::Attributes(found) => Ok(found),
            answer => Err(self.failed("look at", answer)),
        }
    }

    /// Fills the rest of `buffer`, of which `arrived` bytes are there, from the file at `offset`;
    /// `false` when the file ends before.
    pub fn read(&self, offset: u64, buffer: &mut [u8], arrived: &mut usize) -> Result<bool> {
        let mut asked: VecDeque<(usize, Pending<'_>)> = VecDeque::new();
        let mut next = *arrived;
        while *arrived < buffer.len() {
            while next < buffer.len() && asked.len() < PIECES_MAX {
                let wanted = PIECE_BYTES.min(buffer.len() - next);
                let question = RequestInner::Read {
                    handle: Cow::Borrowed(&self.handle),
                    offset: offset.saturating_add(next as u64),
                    len: wanted as u32,
                };
                asked.push_back((wanted, self.session.ask(question)?));
                next += wanted;
            }
            let Some((wanted, answer)) = asked.pop_front() else { break };
            match answer.wait()? {
                Answer::Data(data) if (1..=wanted).contains(&data.len()) => {
                    buffer[*arrived..*arrived + data.len()].copy_from_slice(&data);
                    *arrived += data.len();
                    if data.len() < wanted {
                        // Less is allowed; what follows would not fit behind it.
                        asked.clear();
                        next = *arrived;
                    }
                }
                Answer::End => return Ok(false),
                answer => return Err(self.failed("read", answer)),
            }
        }
        Ok(true)
    }

    /// Writes `bytes` bytes that `body` gives, from the start on.
    fn write(&self, body: &mut dyn Read, bytes: u64) -> Result<()> {
        let mut asked: VecDeque<Pending<'_>> = VecDeque::new();
        let done = |asked: &mut VecDeque<Pending<'_>>, left: usize| -> Result<()> {
            while asked.len() > left {
                let Some(pending) = asked.pop_front() else { break };
                match pending.wait()? {
                    Answer::Done => {}
                    answer => return Err(self.failed("write", answer)),
                }
            }
            Ok(())
        };
        let (mut offset, mut piece) = (0, vec![0; PIECE_BYTES]);
        while offset < bytes {
            let wanted = piece.len().min(usize::try_from(bytes - offset).unwrap_or(usize::MAX));
            body.read_exact(&mut piece[..wanted]).map_err(|cause| {
                let (action, path) = ("read what goes to", self.path.clone());
                StorageError::Io { action, path, cause }
            })?;
            let question = RequestInner::Write {
                handle: Cow::Borrowed(&self.handle),
                offset,
                data: Cow::Borrowed(&piece[..wanted]),
            };
            done(&mut asked, PIECES_MAX - 1)?;
            asked.push_back(self.session.ask(question)?);
            offset += wanted as u64;
        }
        done(&mut asked, 0)?;
        if self.session.can(Extensions::FSYNC) {
            let question = RequestInner::Fsync(Cow::Borrowed(&self.handle));
            match self.session.ask(question)?.wait()? {
                Answer::Done => {}
                answer => return Err(self.failed("sync", answer)),
            }
        }
        Ok(())
    }

    /// An answer that is not the one hoped for. The protocol has no word for a full disk.
    fn failed(&self, action: &'static str, answer: Answer) -> StorageError {
        let Answer::Refused(code, text) = answer else { return self.session.odd() };
        match refused(action, &self.path, (code, &text)) {
            StorageError::Io { cause, .. } if action == "write" && self.is_disk_full() => {
                StorageError::Full { location: self.session.location().to_owned(), cause }
            }
            error => error,
        }
    }

    fn is_disk_full(&self) -> bool {
        if !self.session.can(Extensions::FSTATVFS) {
            return false;
        }
        let question = RequestInner::Fstatvfs(Cow::Borrowed(&self.handle));
        match self.session.ask(question).and_then(Pending::wait) {
            Ok(Answer::Room(room)) => room.bavail.saturating_mul(room.frsize) < ROOM_BYTES_MIN,
            _ => false,
        }
    }
}

impl Uploads for Line {
    /// Stores a file: under another name first, then under its own, if that is free.
    fn upload(&self, name: Name, body: &mut dyn Read, bytes: u64) -> Result<()> {
        let taken = || StorageError::AlreadyExists { location: self.location(), name };
        if self.size(name)?.is_some() {
            return Err(taken());
        }
        let path = self.path_of(name);
        let temporary = match name.kind {
            FileKind::Config => self.address.path().join(temporary_name(self)?),
            kind => self.address.path().join(kind.folder()).join(temporary_name(self)?),
        };
        let written = self.create(&temporary).and_then(|file| {
            if name.kind == FileKind::Pack && !self.is_swept.swap(true, Ordering::Relaxed) {
                // What cannot be swept today is swept another day.
                let _ = self.sweep(&file);
            }
            file.write(body, bytes)?;
            match file.size()? {
                found if found == bytes => Ok(()),
                found => {
                    let location = self.location();
                    Err(StorageError::Altered { location, name, bytes, found })
                }
            }
        });
        let named = written.and_then(|()| match self.rename(&temporary, &path) {
            // It may be done, and only the answer lost: whoever tries again finds out.
            Err(error) if error.is_of_destination() => Err(error),
            Err(_) if self.size(name)?.is_some() => Err(taken()),
            Err(_) if name.kind == FileKind::Pack => {
                // Of the folders for packs each is made when the first pack comes.
                self.make_folder(path.parent().unwrap_or(&path))?;
                self.rename(&temporary, &path)
            }
            other => other,
        });
        if named.is_err()
            && let Ok(session) = self.session()
        {
            let _ = session.ask(RequestInner::Remove(Cow::Borrowed(&temporary)));
        }
        named
    }

    fn size(&self, name: Name) -> Result<Option<u64>> {
        let Some(attributes) = self.attributes(&self.path_of(name))? else { return Ok(None) };
        match attributes.get_size() {
            Some(bytes) => Ok(Some(bytes)),
            None => Err(self.session()?.foreign("it does not say how long a file is")),
        }
    }
}

impl Line {
    /// Removes packs that a kill or a broken line left half written a day ago, by the clock of the
    /// server: the file that was just made bears its time.
    fn sweep(&self, fresh: &OpenFile) -> Result<()> {
        let time_of = |found: FileAttrs| Some(u64::from(found.get_time()?.1.into_raw()));
        let Some(now) = time_of(fresh.attributes()?) else { return Ok(()) };
        let is_old = |time: u64| time + TEMPORARY_AGE_MAX.as_secs() < now;
        let folder = self.address.path().join(FileKind::Pack.folder());
        let mut old = Vec::new();
        self.each_name(std::slice::from_ref(&folder), &mut |name, found| {
            let is_ours = name.as_os_str().as_encoded_bytes().starts_with(TEMPORARY.as_bytes());
            if is_ours && old.len() < SWEPT_MAX && time_of(found).is_some_and(is_old) {
                old.push(folder.join(name));
            }
            Ok(())
        })?;
        let remove = |path| self.done("remove", path, RequestInner::Remove(Cow::Borrowed(path)));
        old.iter().try_for_each(|path| remove(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let question =
            RequestInner::Rename { oldpath: Cow::Borrowed(from), newpath: Cow::Borrowed(to) };
        self.done("name the file", to, question)
    }

    fn create(&self, path: &Path) -> Result<OpenFile> {
        let session = self.session()?;
        let mut attributes = FileAttrs::new();
        attributes.set_permissions(Permissions::from_bits_truncate(FILE_MODE));
        let options = OpenOptions::new().write(true);
        let question = options.create(Cow::Borrowed(path), CreateFlags::Excl, attributes);
        match session.ask(RequestInner::Open(question))?.wait()? {
            Answer::Handle(handle) => {
                Ok(OpenFile { session: session.clone(), handle, path: path.to_owned() })
            }
            // Folders are made with the repository; where they are missing, it is.
            Answer::Refused(ErrorCode::NoSuchFile, _) => {
                Err(StorageError::Gone { location: self.location() })
            }
            Answer::Refused(code, text) => Err(refused("create", path, (code, &text))),
            _ => Err(session.odd()),
        }
    }
}

fn temporary_name(line: &Line) -> Result<String> {
    crate::name::temporary().map_err(|cause| {
        let source = Path::new("/dev/urandom");
        StorageError::from_io(&line.location(), "read", source, cause)
    })
}
