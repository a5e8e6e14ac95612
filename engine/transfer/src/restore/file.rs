//! One file of the snapshot, from the first piece of it to its name.
//!
//! A file is written beside what is there, under a name of its own, and takes its place when it
//! is whole; what is right in the old one is copied. Only a file of [`MENDED_BYTES_MIN`] or more
//! that is there is mended where it lies, because there may be no room for a second one: before
//! the first byte of it is changed, it is renamed, and that is made durable; when it is whole, and
//! durable, it gets its name back. So whatever has the file's name is the whole old one or the
//! whole new one; but where the repository turns out to lack a piece, the old one is gone from a
//! file that was mended, and from no other. A file that has other names as well, of which the
//! index lacks a piece, or that we may not write to, is never mended.
//!
//! What an earlier restore left is taken up again, and like everything that was there it is
//! believed only where its bytes have the sums the snapshot names.

use super::attributes::{self, Had};
use super::incomplete::name_of_torso;
use super::links::{self, Group};
use super::pieces::Piece;
use super::place::Place;
use super::shared::Shared;
use super::{ItemAction, zeros};
use crate::mutex::lock;
use crate::posix::{self, Folder, Kind, Stat, c_name};
use engine_repository::tree::unix_mode_of_go;
use engine_repository::{Id, Node};
use nix::fcntl::renameat;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

/// Where a hole may be, the file system is asked for it from this size on.
const ASKED_BYTES_MIN: u32 = 64 << 10;

/// For a second file that is smaller, in bytes, there is room on any disk worth restoring to.
pub(super) const MENDED_BYTES_MIN: u64 = 16 << 20;

/// What is to become of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aim {
    /// It is restored.
    Write,
    /// It is only told what would be done.
    Tell,
    /// It is compared.
    Verify,
}

/// What is there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Base {
    Nothing,
    /// An earlier restore left it under the name we write under.
    Leftover,
    /// A file under the same name, and whether it may be mended where it lies.
    Found {
        stat: Stat,
        is_mendable: bool,
    },
}

/// A file that is being restored. When the last piece lets go of it, it is finished.
pub(super) struct RestoredFile<'a> {
    pub(super) shared: &'a Shared<'a>,
    pub(super) node: Node,
    pub(super) path: PathBuf,
    pub(super) aim: Aim,
    pub(super) base: Base,
    /// Its other names, if there are any.
    pub(super) group: Option<Arc<Group<'a>>>,
    /// Kept until the file is finished: its folder gets its times after that.
    pub(super) place: Arc<Place<'a>>,
    pub(super) progress: Progress,
}

/// How far a file is.
#[derive(Default)]
pub(super) struct Progress {
    /// Pieces that are not done yet, and one while not all pieces are known.
    missing: AtomicUsize,
    /// All its pieces, and those that were written.
    pieces: AtomicUsize,
    written: AtomicUsize,
    /// Whether a problem with it was told already.
    has_problem: AtomicBool,
    /// Whether anything of it is not as it should be. Only told, when nothing is to be written.
    differs: AtomicBool,
    old: OnceLock<Option<Old>>,
    output: OnceLock<Option<Output>>,
    /// Pieces that were right in a file that cannot be mended: to be copied, if any piece was not.
    right: Mutex<Vec<(Id, u64, u32)>>,
}

impl Progress {
    /// Nothing is known of its pieces.
    pub(super) fn begun() -> Self {
        Self { missing: AtomicUsize::new(1), ..Self::default() }
    }
}

/// The file that is there, opened.
struct Old {
    file: Arc<File>,
    size: u64,
    is_mendable: bool,
}

/// Where it is written.
struct Output {
    file: Arc<File>,
    name: CString,
    /// It is new, and a hole wherever nothing was written.
    is_new: bool,
    /// It was there and is mended.
    is_mended: bool,
}

impl<'a> RestoredFile<'a> {
    pub(super) fn is_first_problem(&self) -> bool {
        !self.progress.has_problem.swap(true, Ordering::Relaxed)
    }

    /// There is one piece more.
    pub(super) fn is_one_more(&self) {
        self.progress.pieces.fetch_add(1, Ordering::Relaxed);
        self.progress.missing.fetch_add(1, Ordering::AcqRel);
    }

    /// A piece is done; or all pieces are known.
    pub(super) fn is_one_less(&self) {
        self.progress.missing.fetch_sub(1, Ordering::AcqRel);
    }

    fn differs(&self) {
        self.progress.differs.store(true, Ordering::Relaxed);
    }

    /// A failed write or read, told once a file.
    pub(super) fn failed(&self, action: &'static str, cause: io::Error) {
        if self.is_first_problem() {
            self.shared.noted::<()>(&self.path, action, Err(cause));
        }
    }

    fn own_name(&self) -> Option<CString> {
        c_name(self.path.file_name()?.as_bytes())
    }

    fn old(&self) -> Option<&Old> {
        self.progress.old.get_or_init(|| self.open_old()).as_ref()
    }

    /// What cannot be opened is written anew.
    fn open_old(&self) -> Option<Old> {
        let folder = self.place.folder()?;
        let (name, is_mendable) = match self.base {
            Base::Nothing => return None,
            Base::Leftover => {
                let name = self.shared.incomplete.name_of(&self.node.name)?;
                let file = folder.file_to_change(&name).ok()?;
                let found = Stat::of_open(file.as_fd()).ok()?;
                // Ours has one name, or its second one was made when it was whole.
                let is_ours = found.kind == Kind::File
                    && found.links == 1
                    && found.uid == nix::unistd::geteuid().as_raw();
                let old = Old { file: Arc::new(file), size: found.size, is_mendable: true };
                return is_ours.then_some(old);
            }
            Base::Found { is_mendable, .. } => (self.own_name()?, is_mendable),
        };
        let opened = is_mendable.then(|| folder.file_to_change(&name)).and_then(Result::ok);
        let is_mendable = opened.is_some();
        let file = opened.or_else(|| folder.file(&name).ok())?;
        let found = Stat::of_open(file.as_fd()).ok()?;
        let old = Old { file: Arc::new(file), size: found.size, is_mendable };
        (found.kind == Kind::File).then_some(old)
    }

    /// Whether a piece is there already. `bytes` is room to read it.
    pub(super) fn is_there(&self, piece: &Piece<'_>, bytes: &mut Vec<u8>) -> bool {
        if self.base == Base::Nothing {
            self.differs();
            return false;
        }
        let is_there = self.is_in_old(piece, bytes).unwrap_or(false);
        if !is_there {
            self.differs();
        } else if self.old().is_some_and(|old| !old.is_mendable) {
            let mut right = lock(&self.progress.right);
            right.push((piece.id(), piece.offset, piece.length()));
        }
        is_there
    }

    fn is_in_old(&self, piece: &Piece<'_>, bytes: &mut Vec<u8>) -> io::Result<bool> {
        let Some(old) = self.old() else { return Ok(false) };
        let (start, length) = (piece.offset, piece.length());
        let end = start + u64::from(length);
        if end > old.size {
            return Ok(false);
        }
        let is_hole = length >= ASKED_BYTES_MIN
            && posix::end_of_hole(&old.file, start).is_ok_and(|at| at >= end);
        if is_hole {
            // Other zeros than those are fetched, and then known.
            return Ok(self.shared.is_zeros(&piece.id()));
        }
        bytes.resize(length as usize, 0);
        old.file.read_exact_at(bytes, start)?;
        Ok(Id::of(bytes) == piece.id())
    }

    /// Writes a piece, whose bytes are known to be the right ones.
    pub(super) fn write(&self, bytes: &[u8], offset: u64) {
        // That there is none was told when it was tried first.
        let Some(output) = self.output() else { return };
        let written = match output.is_new {
            true => zeros::write_around(&output.file, bytes, offset),
            false => zeros::write_over(&output.file, bytes, offset),
        };
        if let Err(cause) = written {
            return self.failed("write the file", cause);
        }
        self.shared.count(|outcome| outcome.bytes_written += bytes.len() as u64);
        self.progress.written.fetch_add(1, Ordering::AcqRel);
        self.is_one_less();
    }

    fn output(&self) -> Option<&Output> {
        let make = || {
            let made = self.make_output();
            if made.is_err() && !self.is_first_problem() {
                return None;
            }
            self.shared.noted(&self.path, "make the file", made)
        };
        self.progress.output.get_or_init(make).as_ref()
    }

    fn make_output(&self) -> io::Result<Output> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        let folder = self.place.folder().ok_or_else(invalid)?;
        let name = self.shared.incomplete.name_of(&self.node.name).ok_or_else(invalid)?;
        match self.old() {
            Some(old) if self.base == Base::Leftover => {
                let file = old.file.clone();
                Ok(Output { file, name, is_new: false, is_mended: false })
            }
            Some(old) if old.is_mendable => {
                self.is_still_itself(folder, old)?;
                let own = self.own_name().ok_or_else(invalid)?;
                renameat(folder, own.as_c_str(), folder, name.as_c_str())?;
                folder.sync()?;
                let file = old.file.clone();
                Ok(Output { file, name, is_new: false, is_mended: true })
            }
            _ => {
                let mode = unix_mode_of_go(self.node.mode);
                let file = Arc::new(folder.make_file(&name, mode)?);
                Ok(Output { file, name, is_new: true, is_mended: false })
            }
        }
    }

    /// Whether the name is still that of the file we opened.
    fn is_still_itself(&self, folder: &Folder, old: &Old) -> io::Result<()> {
        let name = self.own_name().ok_or(io::ErrorKind::InvalidInput)?;
        let (now, opened) = (folder.stat(&name)?, Stat::of_open(old.file.as_fd())?);
        match (now.device_id, now.inode) == (opened.device_id, opened.inode) {
            true => Ok(()),
            false => Err(io::Error::other("somebody changed it meanwhile")),
        }
    }

    /// Copies what was right in the old file; it is read and verified once more. Says how many
    /// pieces that were.
    fn copy_what_was_right(&self, output: &Output) -> io::Result<usize> {
        let Some(old) = self.old().filter(|old| !Arc::ptr_eq(&old.file, &output.file)) else {
            return Ok(0);
        };
        let right = lock(&self.progress.right);
        let mut bytes = Vec::new();
        for (id, offset, length) in right.iter() {
            bytes.resize(*length as usize, 0);
            old.file.read_exact_at(&mut bytes, *offset)?;
            if Id::of(&bytes) != *id {
                return Err(io::Error::other("somebody changed it meanwhile"));
            }
            zeros::write_around(&output.file, &bytes, *offset)?;
            self.shared.count(|outcome| outcome.bytes_written += u64::from(*length));
        }
        Ok(right.len())
    }

    /// Whether the file that was there is right to the last byte.
    fn is_right_already(&self) -> bool {
        let is_same = matches!(self.base, Base::Found { stat, .. } if stat.size == self.node.size);
        is_same && self.progress.output.get().is_none() && self.old().is_some()
    }

    fn finish(&mut self) {
        let is_whole = *self.progress.missing.get_mut() == 0;
        if self.shared.is_stopped() && !is_whole {
            return; // What is there keeps its name for the next restore.
        }
        if is_whole && self.is_right_already() {
            return self.is_unchanged();
        }
        // A file that could be mended, but of which only what is wrong cannot be had, stays.
        let is_begun = self.progress.output.get().is_some();
        let is_kept = !is_begun && self.old().is_some_and(|old| old.is_mendable);
        if !is_whole && is_kept && self.base != Base::Leftover {
            return self.settle(false);
        }
        let is_whole = self.output().is_some_and(|output| self.complete(output, is_whole));
        if is_whole {
            let is_update = matches!(self.base, Base::Found { .. });
            self.shared.count(|outcome| {
                outcome.files += 1;
                outcome.files_updated += u64::from(is_update);
                outcome.bytes += self.node.size;
            });
            let action = if is_update { ItemAction::Updated } else { ItemAction::Restored };
            self.shared.item(action, &self.path, self.node.size);
        }
        self.settle(is_whole);
    }

    fn is_unchanged(&self) {
        if let Some(old) = self.old() {
            let found = Stat::of_open(old.file.as_fd());
            let found = self.shared.noted(&self.path, "read the attributes", found);
            if let Some(found) = found {
                let (file, node, path) = (&old.file, &self.node, &self.path);
                attributes::set_of_open(self.shared, file, &found, node, path, Had::Some);
            }
        }
        self.shared.unchanged(&self.path, self.node.size);
        self.settle(true);
    }

    /// Whether each piece of a new file was written to it: what was found right was so elsewhere.
    fn has_every_piece(&self, output: &Output, copied: usize) -> io::Result<()> {
        let written = self.progress.written.load(Ordering::Acquire) + copied;
        match !output.is_new || written == self.progress.pieces.load(Ordering::Relaxed) {
            true => Ok(()),
            false => Err(io::Error::other("pieces were not written")),
        }
    }

    /// Size, attributes, name.
    fn complete(&self, output: &Output, is_whole: bool) -> bool {
        let copied = self.copy_what_was_right(output).and_then(|copied| match is_whole {
            true => self.has_every_piece(output, copied),
            false => Ok(()),
        });
        let is_copied = copied.is_ok();
        if let Err(cause) = copied {
            self.failed("copy what was right already", cause);
        }
        let found = Stat::of_open(output.file.as_fd()).and_then(|found| {
            if found.size != self.node.size {
                output.file.set_len(self.node.size)?;
            }
            Ok(found)
        });
        let Some(found) = self.shared.noted(&self.path, "set the size", found) else {
            return false;
        };
        let had = if output.is_new { self.place.had() } else { Had::Some };
        let found = match output.is_new {
            true => found,
            // Times are to be set again, whatever they are.
            false => Stat { mtime: (i64::MIN, 0), ..found },
        };
        attributes::set_of_open(self.shared, &output.file, &found, &self.node, &self.path, had);
        if output.is_mended {
            let synced = output.file.sync_data();
            if self.shared.noted(&self.path, "write it to the disk", synced).is_none() {
                return false;
            }
        }
        let is_whole = is_whole && is_copied;
        self.name_it(output, is_whole) && is_whole
    }

    /// Gives it the name under which the owner finds it: its own when it is whole; otherwise one
    /// that nobody takes for that of the whole file.
    fn name_it(&self, output: &Output, is_whole: bool) -> bool {
        let name = match is_whole {
            true => self.own_name(),
            false => name_of_torso(&self.node.name),
        };
        let (Some(folder), Some(name)) = (self.place.folder(), name) else { return false };
        // On such drives different names may be one in more ways than we know of.
        let is_taken = !self.shared.abilities.tells_case
            && self.base == Base::Nothing
            && folder.stat(&name).is_ok();
        let named = match is_taken {
            true => Err(io::Error::other("something else has it meanwhile")),
            false => renameat(folder, output.name.as_c_str(), folder, name.as_c_str())
                .map_err(io::Error::from),
        };
        self.shared.noted(&self.path, "give the file its name", named).is_some()
    }

    /// Its other names follow, if it is whole.
    fn settle(&self, is_whole: bool) {
        let waiting = self.group.as_ref().map(|group| group.is_settled(is_whole));
        for name in waiting.into_iter().flatten() {
            if !is_whole {
                links::never(self.shared, &name);
                continue;
            }
            let own = self.own_name();
            let first = self.place.folder().zip(own.as_deref());
            let first: io::Result<(&Folder, &CStr)> =
                first.ok_or_else(|| io::ErrorKind::NotFound.into());
            links::link(self.shared, first, &name);
        }
    }

    /// Says what would be done.
    fn tell(&self) {
        let differs = self.progress.differs.load(Ordering::Relaxed);
        match self.base {
            Base::Found { stat, .. } if !differs && stat.size == self.node.size => {
                self.shared.unchanged(&self.path, self.node.size);
            }
            base => {
                let is_update = base != Base::Nothing;
                self.shared.count(|outcome| {
                    outcome.files += 1;
                    outcome.files_updated += u64::from(is_update);
                    outcome.bytes += self.node.size;
                });
                let action = if is_update { ItemAction::Updated } else { ItemAction::Restored };
                self.shared.item(action, &self.path, self.node.size);
            }
        }
    }
}

impl Drop for RestoredFile<'_> {
    fn drop(&mut self) {
        match self.aim {
            Aim::Write => self.finish(),
            Aim::Tell => self.tell(),
            Aim::Verify => {
                let is_whole = *self.progress.missing.get_mut() == 0;
                self.shared.count(|outcome| outcome.files_verified += u64::from(is_whole));
            }
        }
        self.shared.progress(1, 0, Some(&self.path));
    }
}

/// Comparing, after everything was written.
impl RestoredFile<'_> {
    /// Reads a piece again.
    pub(super) fn compare(&self, piece: &Piece<'_>, bytes: &mut Vec<u8>) {
        let reason = match self.is_in_old(piece, bytes) {
            Ok(true) => return self.is_one_less(),
            Ok(false) if self.is_zeros_now(piece, bytes) => return self.is_one_less(),
            Ok(false) => format!("differs from the snapshot in the bytes from {} on", piece.offset),
            Err(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => "is too short".to_owned(),
            Err(cause) => format!("could not read it again: {cause}"),
        };
        if self.is_first_problem() {
            self.shared.problem(&self.path, reason);
        }
    }

    /// A hole is right where the snapshot has zeros that nobody came across.
    fn is_zeros_now(&self, piece: &Piece<'_>, bytes: &mut Vec<u8>) -> bool {
        let Some(old) = self.old() else { return false };
        bytes.resize(piece.length() as usize, 0);
        let read = old.file.read_exact_at(bytes, piece.offset);
        let is_right = read.is_ok() && zeros::is_all(bytes) && Id::of(bytes) == piece.id();
        if is_right {
            self.shared.remember_zeros(piece.id());
        }
        is_right
    }
}
