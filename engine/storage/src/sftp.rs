//! A repository on a server one can log in to with `ssh`, over SFTP, in restic's layout.
//!
//! The program `ssh` makes the line, with the keys, known hosts and settings of the user it runs
//! as; here only SFTP is spoken (`session`). So whatever a user can reach with `ssh`, a backup can,
//! and there is no second place where keys must be kept right.
//!
//! How a file comes to be: its bytes go to `tmp-<random>` in the folder it will be in (packs: in
//! `data/`), which every reader passes over; the server is told to sync it, where it knows how
//! (`fsync@openssh.com`); then it is renamed, which fails when the name is taken: so the protocol
//! wants it, and OpenSSH does it by a link. No server can be told to sync a folder: a power cut
//! there right after the answer may take the last names back. Then `check` finds files missing that
//! an index names, and the next backup stores again what is gone. A kill on our side leaves a
//! `tmp-` file; one of a pack, which may be large, is swept away a day later.
//!
//! One `ssh` carries everything; what is read and written is asked for in pieces, several under way
//! at a time. A line that broke is made anew by the next call.

mod address;
mod file;
mod session;

pub use address::{SftpAddress, SftpAddressError};

use crate::folder::is_data_folder;
use crate::http::must_reach;
use crate::spool::Spool;
use crate::spooled_pack::{SpooledPack, Uploads};
use crate::{Name, PackFile, Patience, Result, Storage, StorageError};
use engine_repository::{FileKind, Id};
use file::OpenFile;
use openssh_sftp_protocol::ErrorCode;
use openssh_sftp_protocol::file_attrs::{FileAttrs, FileType, Permissions};
use openssh_sftp_protocol::request::{OpenFileRequest, RequestInner};
use session::{Answer, Session, lock, refused};
use std::borrow::Cow;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

/// Folders listed at a time: of the 256 for packs each takes three answers.
const FOLDERS_AT_ONCE: usize = 16;

/// Folders are for the owner alone.
const FOLDER_MODE: u32 = 0o700;

/// The program that makes the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshProgram {
    /// Its path, or a name to be looked for.
    pub path: PathBuf,
    /// Words for it, before ours: `-i KEY`, `-F FILE`, `-o OPTION=VALUE`.
    pub arguments: Vec<OsString>,
}

impl Default for SshProgram {
    fn default() -> Self {
        Self { path: "ssh".into(), arguments: Vec::new() }
    }
}

/// A repository on an SSH server.
pub struct Sftp {
    line: Arc<Line>,
    scratch: PathBuf,
}

impl Sftp {
    /// The repository at `address`. Nothing is started yet. Packs on their way wait in the folder
    /// `scratch`, which needs room for some of them.
    pub fn at(
        address: SftpAddress,
        program: SshProgram,
        scratch: &Path,
        patience: Patience,
    ) -> Self {
        let (session, is_swept) = (Mutex::default(), AtomicBool::default());
        let line = Line { address, program, patience, session, is_swept };
        Self { line: Arc::new(line), scratch: scratch.into() }
    }
}

/// The way to the server, made when it is needed.
struct Line {
    address: SftpAddress,
    program: SshProgram,
    patience: Patience,
    session: Mutex<Option<Arc<Session>>>,
    /// Whether old temporary files were looked for.
    is_swept: AtomicBool,
}

impl Line {
    fn location(&self) -> String {
        self.address.to_string()
    }

    fn session(&self) -> Result<Arc<Session>> {
        let mut kept = lock(&self.session);
        match kept.as_ref().filter(|session| !session.is_over()) {
            Some(session) => Ok(session.clone()),
            None => {
                let session = Session::start(&self.address, &self.program, &self.patience)?;
                Ok(kept.insert(Arc::new(session)).clone())
            }
        }
    }

    fn path_of(&self, name: Name) -> PathBuf {
        self.address.path().join(name.path())
    }

    /// For questions that are answered by being done.
    fn done(&self, action: &'static str, path: &Path, question: RequestInner<'_>) -> Result<()> {
        let session = self.session()?;
        match session.ask(question)?.wait()? {
            Answer::Done => Ok(()),
            Answer::Refused(code, text) => Err(refused(action, path, (code, &text))),
            _ => Err(session.odd()),
        }
    }

    /// What is there, links followed; `None` when nothing is.
    fn attributes(&self, path: &Path) -> Result<Option<FileAttrs>> {
        let session = self.session()?;
        match session.ask(RequestInner::Stat(Cow::Borrowed(path)))?.wait()? {
            Answer::Attributes(attributes) => Ok(Some(attributes)),
            Answer::Refused(ErrorCode::NoSuchFile, _) => Ok(None),
            Answer::Refused(code, text) => Err(refused("look at", path, (code, &text))),
            _ => Err(session.odd()),
        }
    }

    fn make_folder(&self, path: &Path) -> Result<()> {
        let mut attrs = FileAttrs::new();
        attrs.set_permissions(Permissions::from_bits_truncate(FOLDER_MODE));
        let question = RequestInner::Mkdir { path: Cow::Borrowed(path), attrs };
        let made = self.done("create the folder", path, question);
        let Err(error) = made else { return Ok(()) };
        // The protocol has no word for a name that is taken.
        let is_folder = |found: FileAttrs| found.get_filetype() == Some(FileType::Directory);
        match self.attributes(path) {
            Ok(Some(found)) if is_folder(found) => Ok(()),
            _ => Err(error),
        }
    }

    fn open_to_read(&self, name: Name) -> Result<OpenFile> {
        let (session, path) = (self.session()?, self.path_of(name));
        let question = OpenFileRequest::open(Cow::Borrowed(&*path));
        match session.ask(RequestInner::Open(question))?.wait()? {
            Answer::Handle(handle) => Ok(OpenFile { session: session.clone(), handle, path }),
            Answer::Refused(ErrorCode::NoSuchFile, _) => {
                Err(StorageError::NotFound { location: self.location(), name })
            }
            Answer::Refused(code, text) => Err(refused("open", &path, (code, &text))),
            _ => Err(session.odd()),
        }
    }

    /// Opens folders to be listed; those that are not there are passed over.
    fn open_folders(&self, paths: &[PathBuf]) -> Result<Vec<OpenFile>> {
        let session = self.session()?;
        let ask = |path| session.ask(RequestInner::Opendir(Cow::Borrowed(path)));
        let asked = paths.iter().map(|path| ask(path)).collect::<Result<Vec<_>>>()?;
        let mut open = Vec::new();
        for (path, answer) in paths.iter().zip(asked) {
            match answer.wait()? {
                Answer::Handle(handle) => {
                    open.push(OpenFile { session: session.clone(), handle, path: path.clone() });
                }
                Answer::Refused(ErrorCode::NoSuchFile, _) => {}
                Answer::Refused(code, text) => {
                    return Err(refused("list the folder", path, (code, &text)));
                }
                _ => return Err(session.odd()),
            }
        }
        Ok(open)
    }

    /// Calls `each` with every name in these folders. Gives how many of them are there.
    fn each_name(
        &self,
        paths: &[PathBuf],
        each: &mut dyn FnMut(&Path, FileAttrs) -> Result<()>,
    ) -> Result<usize> {
        let mut open = self.open_folders(paths)?;
        let count = open.len();
        while !open.is_empty() {
            let ask = |folder: &OpenFile| RequestInner::Readdir(Cow::Owned(folder.handle.clone()));
            let asked = open.iter().map(|folder| folder.session.ask(ask(folder)));
            let asked = asked.collect::<Result<Vec<_>>>()?;
            let mut is_more = Vec::new();
            for (folder, answer) in open.iter().zip(asked) {
                match answer.wait()? {
                    Answer::Names(names) => {
                        for entry in &names {
                            each(&entry.filename, entry.attrs)?;
                        }
                        is_more.push(true);
                    }
                    Answer::End => is_more.push(false),
                    Answer::Refused(code, text) => {
                        let path = &folder.path;
                        return Err(refused("list the folder", path, (code, &text)));
                    }
                    _ => return Err(folder.session.odd()),
                }
            }
            let mut is_more = is_more.into_iter();
            open.retain(|_| is_more.next() == Some(true));
        }
        Ok(count)
    }
}

impl Storage for Sftp {
    fn location(&self) -> String {
        self.line.location()
    }

    fn create(&self) -> Result<()> {
        let line = &self.line;
        let root = line.address.path();
        let mut above: Vec<&Path> =
            root.ancestors().filter(|path| !path.as_os_str().is_empty()).collect();
        above.reverse();
        let is_there = |path: &Path| line.attributes(path).is_ok_and(|found| found.is_some());
        for path in above {
            // Whoever may not make a folder in `/` may still use one below it.
            if !is_there(path) {
                line.make_folder(path)?;
            }
        }
        for kind in FileKind::LISTED {
            line.make_folder(&root.join(kind.folder()))?;
        }
        Ok(())
    }

    fn list(&self, kind: FileKind, each: &mut dyn FnMut(Id, u64) -> Result<()>) -> Result<()> {
        let folder = self.line.address.path().join(kind.folder());
        if kind == FileKind::Pack {
            let mut folders = Vec::new();
            let count = self.line.each_name(std::slice::from_ref(&folder), &mut |name, _| {
                if is_data_folder(name.as_os_str()) {
                    folders.push(folder.join(name));
                }
                Ok(())
            })?;
            return match count {
                0 => self.must_be_there(),
                _ => folders.chunks(FOLDERS_AT_ONCE).try_for_each(|some| {
                    self.line
                        .each_name(some, &mut |name, found| self.told(kind, name, found, each))
                        .map(drop)
                }),
            };
        }
        let told = &mut |name: &Path, found| self.told(kind, name, found, each);
        match self.line.each_name(&[folder], told)? {
            0 => self.must_be_there(),
            _ => Ok(()),
        }
    }

    fn read(&self, name: Name, bytes_max: u64) -> Result<Vec<u8>> {
        let file = self.line.open_to_read(name)?;
        let bytes = file.size()?;
        let location = self.location();
        if bytes > bytes_max {
            return Err(StorageError::TooLarge { location, name, bytes, bytes_max });
        }
        let mut content = vec![0; bytes as usize];
        match file.read(0, &mut content, &mut 0)? {
            true => Ok(content),
            false => Err(StorageError::Short { location, name, end: bytes }),
        }
    }

    fn read_range(&self, name: Name, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.read_on(name, offset, buffer, &mut 0)
    }

    fn read_on(
        &self,
        name: Name,
        offset: u64,
        buffer: &mut [u8],
        arrived: &mut usize,
    ) -> Result<()> {
        let end = offset.saturating_add(buffer.len() as u64);
        if *arrived == buffer.len() {
            return must_reach(self, name, end);
        }
        match self.line.open_to_read(name)?.read(offset, buffer, arrived)? {
            true => Ok(()),
            false => Err(StorageError::Short { location: self.location(), name, end }),
        }
    }

    fn write(&self, name: Name, bytes: &[u8]) -> Result<()> {
        let mut body = bytes;
        self.line.upload(name, &mut body, bytes.len() as u64)
    }

    fn create_pack(&self) -> Result<Box<dyn PackFile>> {
        let spool = Spool::begin(&self.scratch)?;
        Ok(Box::new(SpooledPack { line: self.line.clone(), spool }))
    }

    fn remove(&self, name: Name) -> Result<()> {
        let path = self.line.path_of(name);
        let session = self.line.session()?;
        match session.ask(RequestInner::Remove(Cow::Borrowed(&path)))?.wait()? {
            Answer::Done => Ok(()),
            Answer::Refused(ErrorCode::NoSuchFile, _) => {
                Err(StorageError::NotFound { location: self.location(), name })
            }
            Answer::Refused(code, text) => Err(refused("remove", &path, (code, &text))),
            _ => Err(session.odd()),
        }
    }

    fn size(&self, name: Name) -> Result<Option<u64>> {
        self.line.size(name)
    }
}

impl Sftp {
    /// One name of a listing; what is no id is a file on its way in, or somebody's note.
    fn told(
        &self,
        kind: FileKind,
        name: &Path,
        found: FileAttrs,
        each: &mut dyn FnMut(Id, u64) -> Result<()>,
    ) -> Result<()> {
        let id = name.to_str().and_then(|name| name.parse::<Id>().ok());
        let Some(id) = id else { return Ok(()) };
        let size = match found.get_size() {
            Some(bytes) => Some(bytes),
            None => self.size(Name::of(kind, id))?,
        };
        size.map_or(Ok(()), |bytes| each(id, bytes))
    }

    /// A folder is missing: it is empty where a repository is, and gone where none is.
    fn must_be_there(&self) -> Result<()> {
        match self.size(Name::CONFIG)? {
            Some(_) => Ok(()),
            None => Err(StorageError::Gone { location: self.location() }),
        }
    }
}
