//! Files with several names: the first name is written, the others follow when it is whole.
//!
//! Where a file can have no second name, the others become copies ([`super::copies`]).
//!
//! So no name of such a file is there before its content is. What waits for a file holds its folder
//! open; the walk is never far ahead of what is being written, so these are few.

use super::place::Place;
use super::remove;
use super::shared::Shared;
use super::{ItemAction, copies};
use crate::mutex::lock;
use crate::posix::Folder;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, renameat};
use nix::unistd::linkat;
use std::ffi::{CStr, CString};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

/// One file with several names.
#[derive(Default)]
pub(super) struct Group<'a>(Mutex<State<'a>>);

enum State<'a> {
    /// It is being written; these wait for it.
    Unfinished(Vec<Name<'a>>),
    Whole,
    Failed,
}

impl Default for State<'_> {
    fn default() -> Self {
        Self::Unfinished(Vec::new())
    }
}

/// Another name.
pub(super) struct Name<'a> {
    pub(super) place: Arc<Place<'a>>,
    pub(super) name: CString,
    pub(super) path: PathBuf,
}

/// Whether what a name waits for is there.
pub(super) enum Answer<'a> {
    /// It is made as soon as it can be.
    Waits,
    /// The file is whole: link it.
    Link(Name<'a>),
    /// The file will never be whole.
    Never(Name<'a>),
}

impl<'a> Group<'a> {
    /// Another name of the file.
    pub(super) fn join(&self, name: Name<'a>) -> Answer<'a> {
        match &mut *self.lock() {
            State::Unfinished(waiting) => {
                waiting.push(name);
                Answer::Waits
            }
            State::Whole => Answer::Link(name),
            State::Failed => Answer::Never(name),
        }
    }

    /// The file is whole under its first name, or never will be. Says who waited.
    pub(super) fn is_settled(&self, is_whole: bool) -> Vec<Name<'a>> {
        let state = if is_whole { State::Whole } else { State::Failed };
        match std::mem::replace(&mut *self.lock(), state) {
            State::Unfinished(waiting) => waiting,
            State::Whole | State::Failed => Vec::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<'a>> {
        lock(&self.0)
    }
}

/// Gives a file one more name, and tells how that went.
pub(super) fn link(shared: &Shared<'_>, first: io::Result<(&Folder, &CStr)>, name: &Name<'_>) {
    let linked = first.and_then(|first| {
        let not_there = || io::Error::from(io::ErrorKind::NotFound);
        let to = (name.place.folder().ok_or_else(not_there)?, &*name.name);
        match make_link(shared, first, to, name) {
            Err(cause) if copies::help_against(&cause) => {
                let copied = copies::copy(shared, first, to, &name.path);
                if copied.is_ok() {
                    shared.count(|outcome| outcome.links_copied += 1);
                }
                copied
            }
            linked => linked,
        }
    });
    match shared.noted(&name.path, "make the hard link", linked) {
        Some(true) => shared.done(ItemAction::Restored, &name.path),
        Some(false) => shared.done(ItemAction::Unchanged, &name.path),
        None => {}
    }
}

/// The file under another name will never be whole.
pub(super) fn never(shared: &Shared<'_>, name: &Name<'_>) {
    let reason = "is another name of a file that could not be restored whole";
    shared.problem(&name.path, reason.to_owned());
}

/// Whether it had to be made. What had the name before keeps it until it is made.
fn make_link(
    shared: &Shared<'_>,
    (from, first): (&Folder, &CStr),
    (to, name): (&Folder, &CStr),
    described: &Name<'_>,
) -> io::Result<bool> {
    match linkat(from, first, to, name, AtFlags::empty()) {
        Ok(()) => return Ok(true),
        Err(Errno::EEXIST) => {}
        Err(cause) => return Err(cause.into()),
    }
    let (wanted, found) = (from.stat(first)?, to.stat(name)?);
    if (wanted.device_id, wanted.inode) == (found.device_id, found.inode) {
        return Ok(false);
    }
    remove::clear_folder(shared, to, name, &found, &described.path)?;
    let named = shared.incomplete.name_of(name.to_bytes()).ok_or(io::ErrorKind::InvalidInput)?;
    to.unlink(&named)?;
    linkat(from, first, to, named.as_c_str(), AtFlags::empty())?;
    renameat(to, named.as_c_str(), to, name)?;
    Ok(true)
}
