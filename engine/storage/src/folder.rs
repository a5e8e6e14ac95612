//! A repository in a folder, in restic's layout, on any file system.
//!
//! How a file comes to be, and what a power cut leaves at each step:
//!
//! 1. its bytes are written to `tmp-<random>` in the folder it will be in (packs: in `data/`),
//!    a name every reader passes over. Cut here: a temporary file, swept away a day later.
//! 2. the temporary file is made read-only and synced. Cut here: the same.
//! 3. it is linked to its final name, which fails when the name is taken, and the temporary name
//!    is removed. File systems without links (FAT, some shares): renamed, after a look that the
//!    name is free. Cut here: a complete file under one or both names.
//! 4. the folder is synced. Only now the call returns: the file is there for good.
//!
//! A removal is synced, too, for what others refer from: an index or a snapshot must not come back
//! by a power cut when the packs it names are gone. A pack or a lock that comes back harms nobody.
//!
//! The root is known by its device and inode from the first access on. A write that finds its
//! folder missing makes it again only when the root is still that one; so nothing is ever written
//! into the empty mount point of a disk that was unplugged.

use crate::{Name, PackFile, Result, Storage, StorageError, spool};
use engine_repository::{FileKind, Id};
use nix::sys::statfs::{
    BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, FsType, MSDOS_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC,
    TMPFS_MAGIC, statfs,
};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Older temporary files were left by a power cut or a kill.
pub(crate) const TEMPORARY_AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// File systems of this box alone, whose listings show what was written. On a share of another box
/// (NFS, SMB, what FUSE brings) this box may remember an older listing.
const AT_ONCE: [FsType; 5] =
    [EXT4_SUPER_MAGIC, BTRFS_SUPER_MAGIC, TMPFS_MAGIC, OVERLAYFS_SUPER_MAGIC, MSDOS_SUPER_MAGIC];

/// A repository in a folder.
pub struct Folder {
    place: Arc<Place>,
    was_swept: AtomicBool,
}

/// What packs on their way in share with their folder.
struct Place {
    root: PathBuf,
    /// Device and inode of the root, from the first time it was seen.
    identity: OnceLock<(u64, u64)>,
}

impl Folder {
    /// The folder at `root`. Nothing is touched yet.
    pub fn at(root: &Path) -> Self {
        let place = Place { root: root.into(), identity: OnceLock::new() };
        Self { place: Arc::new(place), was_swept: AtomicBool::new(false) }
    }

    /// Removes temporary files a power cut left long ago. Failing to is no harm.
    fn sweep_once(&self) {
        if self.was_swept.swap(true, Ordering::Relaxed) {
            return;
        }
        let folders = FileKind::LISTED.map(|kind| self.place.root.join(kind.folder()));
        for entry in
            folders.into_iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten()
        {
            let is_ours =
                entry.file_name().as_encoded_bytes().starts_with(crate::name::TEMPORARY.as_bytes());
            let age = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
            if is_ours && age().is_some_and(|age| age > TEMPORARY_AGE_MAX) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

impl Storage for Folder {
    fn location(&self) -> String {
        self.place.location()
    }

    fn create(&self) -> Result<()> {
        let place = &self.place;
        let root = &place.root;
        make_folder(root, 0o700).map_err(|cause| match cause.kind() {
            io::ErrorKind::NotFound => StorageError::Gone { location: place.location() },
            _ => place.error("create the folder", root, cause),
        })?;
        place.seen()?;
        for kind in FileKind::LISTED {
            let folder = root.join(kind.folder());
            make_folder(&folder, 0o700)
                .map_err(|cause| place.error("create the folder", &folder, cause))?;
        }
        let data = root.join(FileKind::Pack.folder());
        for first in 0..=255u8 {
            let folder = data.join(format!("{first:02x}"));
            make_folder(&folder, 0o700)
                .map_err(|cause| place.error("create the folder", &folder, cause))?;
        }
        place.sync_folder(&data)?;
        place.sync_folder(root)?;
        match root.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => place.sync_folder(parent),
            None => Ok(()),
        }
    }

    fn list(&self, kind: FileKind, each: &mut dyn FnMut(Id, u64) -> Result<()>) -> Result<()> {
        let folder = self.place.root.join(kind.folder());
        if kind != FileKind::Pack {
            return self.place.list_folder(&folder, each);
        }
        let Some(entries) = self.place.entries(&folder)? else { return Ok(()) };
        for entry in entries {
            let entry = entry.map_err(|e| self.place.error("list", &folder, e))?;
            if is_data_folder(&entry.file_name()) {
                self.place.list_folder(&entry.path(), each)?;
            }
        }
        Ok(())
    }

    fn lists_at_once(&self) -> bool {
        let kind = statfs(&self.place.root).map(|found| found.filesystem_type());
        kind.is_ok_and(|kind| AT_ONCE.contains(&kind))
    }

    fn read(&self, name: Name, bytes_max: u64) -> Result<Vec<u8>> {
        let (file, path, size) = self.place.open(name)?;
        if size > bytes_max {
            let location = self.place.location();
            return Err(StorageError::TooLarge { location, name, bytes: size, bytes_max });
        }
        let mut bytes = Vec::with_capacity(size as usize);
        file.take(size)
            .read_to_end(&mut bytes)
            .map_err(|cause| self.place.error("read", &path, cause))?;
        match bytes.len() as u64 == size {
            true => Ok(bytes),
            false => Err(self.place.short(name, size)),
        }
    }

    fn read_range(&self, name: Name, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let (mut file, path, _) = self.place.open(name)?;
        file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(buffer)).map_err(|cause| {
            match cause.kind() {
                io::ErrorKind::UnexpectedEof => {
                    self.place.short(name, offset.saturating_add(buffer.len() as u64))
                }
                _ => self.place.error("read", &path, cause),
            }
        })
    }

    fn write(&self, name: Name, bytes: &[u8]) -> Result<()> {
        let path = self.place.root.join(name.path());
        let folder = path.parent().unwrap_or(&self.place.root);
        let mut temporary = Temporary::create(&self.place, folder)?;
        temporary.append(bytes)?;
        temporary.settle_as(name)
    }

    fn create_pack(&self) -> Result<Box<dyn PackFile>> {
        self.sweep_once();
        let data = self.place.root.join(FileKind::Pack.folder());
        Ok(Box::new(Temporary::create(&self.place, &data)?))
    }

    fn remove(&self, name: Name) -> Result<()> {
        let path = self.place.root.join(name.path());
        fs::remove_file(&path).map_err(|cause| match cause.kind() {
            io::ErrorKind::NotFound => self.place.missing(name),
            _ => self.place.error("remove", &path, cause),
        })?;
        match name.kind {
            FileKind::Pack | FileKind::Lock => Ok(()),
            _ => self.place.sync_folder(path.parent().unwrap_or(&self.place.root)),
        }
    }

    fn size(&self, name: Name) -> Result<Option<u64>> {
        match self.place.open(name) {
            Ok((_, _, size)) => Ok(Some(size)),
            Err(StorageError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Place {
    fn location(&self) -> String {
        self.root.display().to_string()
    }

    fn short(&self, name: Name, end: u64) -> StorageError {
        StorageError::Short { location: self.location(), name, end }
    }

    /// What an error means: the destination may have gone while we worked.
    fn error(&self, action: &'static str, path: &Path, cause: io::Error) -> StorageError {
        let location = self.location();
        let may_be_gone =
            cause.kind() == io::ErrorKind::NotFound || cause.raw_os_error() == Some(libc_eio());
        match may_be_gone && self.seen().is_err() {
            true => StorageError::Gone { location },
            false => StorageError::from_io(&location, action, path, cause),
        }
    }

    fn missing(&self, name: Name) -> StorageError {
        match self.seen() {
            Ok(()) => StorageError::NotFound { location: self.location(), name },
            Err(gone) => gone,
        }
    }

    /// Looks that the root is there and is the one it was from the start.
    fn seen(&self) -> Result<()> {
        let gone = || StorageError::Gone { location: self.location() };
        let found = fs::metadata(&self.root).map_err(|_| gone())?;
        let identity = (found.dev(), found.ino());
        match found.is_dir() && *self.identity.get_or_init(|| identity) == identity {
            true => Ok(()),
            false => Err(gone()),
        }
    }

    fn open(&self, name: Name) -> Result<(File, PathBuf, u64)> {
        let path = self.root.join(name.path());
        let file = File::open(&path).map_err(|cause| match cause.kind() {
            io::ErrorKind::NotFound => self.missing(name),
            _ => self.error("read", &path, cause),
        })?;
        let found = file.metadata().map_err(|cause| self.error("read", &path, cause))?;
        match found.is_file() {
            true => {
                if self.identity.get().is_none() {
                    self.seen()?;
                }
                Ok((file, path, found.len()))
            }
            false => Err(self.missing(name)),
        }
    }

    /// The entries of a folder; `None` when the root is there but the folder is not.
    fn entries(&self, folder: &Path) -> Result<Option<fs::ReadDir>> {
        match fs::read_dir(folder) {
            Ok(entries) => Ok(Some(entries)),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => self.seen().map(|()| None),
            Err(cause) => Err(self.error("list", folder, cause)),
        }
    }

    fn list_folder(
        &self,
        folder: &Path,
        each: &mut dyn FnMut(Id, u64) -> Result<()>,
    ) -> Result<()> {
        let Some(entries) = self.entries(folder)? else { return Ok(()) };
        for entry in entries {
            let entry = entry.map_err(|cause| self.error("list", folder, cause))?;
            let name = entry.file_name();
            let Some(id) = name.to_str().and_then(|name| name.parse::<Id>().ok()) else {
                continue;
            };
            match entry.metadata() {
                Ok(found) if found.is_file() => each(id, found.len())?,
                Ok(_) => {}
                // Removed by somebody between the two calls: not there.
                Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
                Err(cause) => return Err(self.error("list", &entry.path(), cause)),
            }
        }
        Ok(())
    }

    /// Makes a shelf's folder again, inside a root that is still the one it was.
    fn restore_folder(&self, folder: &Path) -> Result<()> {
        self.seen()?;
        let data = self.root.join(FileKind::Pack.folder());
        let missing = if folder.starts_with(&data) { vec![&*data, folder] } else { vec![folder] };
        for folder in missing {
            make_folder(folder, self.folder_mode())
                .map_err(|cause| self.error("create the folder", folder, cause))?;
            self.sync_folder(folder.parent().unwrap_or(&self.root))?;
        }
        Ok(())
    }

    fn sync_folder(&self, folder: &Path) -> Result<()> {
        let synced = File::open(folder).and_then(|opened| opened.sync_all());
        match synced {
            // Some file systems (CIFS, FUSE) cannot sync a folder and say so.
            Err(cause) if cause.kind() == io::ErrorKind::InvalidInput => Ok(()),
            Err(cause) => Err(self.error("sync the folder", folder, cause)),
            Ok(()) => Ok(()),
        }
    }

    /// As restic: whoever may read `config` may read the rest.
    fn is_group_readable(&self) -> bool {
        let config = fs::metadata(self.root.join(Name::CONFIG.path()));
        config.is_ok_and(|found| found.mode() & 0o040 != 0)
    }

    fn folder_mode(&self) -> u32 {
        if self.is_group_readable() { 0o750 } else { 0o700 }
    }

    fn file_mode(&self) -> u32 {
        if self.is_group_readable() { 0o440 } else { 0o400 }
    }
}

/// A file on its way in, under a temporary name.
struct Temporary {
    place: Arc<Place>,
    path: PathBuf,
    file: File,
}

impl Temporary {
    fn create(place: &Arc<Place>, folder: &Path) -> Result<Self> {
        if place.identity.get().is_none() {
            place.seen()?;
        }
        let path = folder.join(temporary_name(place)?);
        let open = || {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create_new(true).mode(0o600).open(&path)
        };
        let opened = match open() {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                place.restore_folder(folder)?;
                open()
            }
            other => other,
        };
        let file = opened.map_err(|cause| place.error("create", &path, cause))?;
        Ok(Self { place: place.clone(), path, file })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|cause| self.place.error("write", &self.path, cause))
    }

    /// Steps 2 to 4 of the module's story.
    fn settle_as(&self, name: Name) -> Result<()> {
        let place = &self.place;
        let mode = Permissions::from_mode(place.file_mode());
        // File systems without permissions refuse; nothing depends on it.
        let _ = self.file.set_permissions(mode);
        self.file.sync_all().map_err(|cause| place.error("sync", &self.path, cause))?;
        let path = place.root.join(name.path());
        let folder = path.parent().unwrap_or(&place.root);
        let moved = match move_to_free_name(&self.path, &path) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                place.restore_folder(folder)?;
                move_to_free_name(&self.path, &path)
            }
            other => other,
        };
        moved.map_err(|cause| match cause.kind() {
            io::ErrorKind::AlreadyExists => {
                StorageError::AlreadyExists { location: place.location(), name }
            }
            _ => place.error("create", &path, cause),
        })?;
        place.sync_folder(folder)
    }
}

impl PackFile for Temporary {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        Temporary::append(self, bytes)
    }

    fn read_back(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let read = spool::read_from(&self.file, offset, buffer);
        read.map_err(|cause| self.place.error("read", &self.path, cause))
    }

    fn settle(&mut self, id: Id) -> Result<()> {
        let name = Name::of(FileKind::Pack, id);
        let written = self.file.metadata().map(|found| found.len()).unwrap_or(0);
        match self.settle_as(name) {
            Err(StorageError::AlreadyExists { .. }) if self.place.open(name)?.2 == written => {
                Ok(())
            }
            other => other,
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename the name is gone already; after a link it must go now.
        let _ = fs::remove_file(&self.path);
    }
}

/// Gives the file its final name, or fails because the name is taken.
fn move_to_free_name(from: &Path, to: &Path) -> io::Result<()> {
    let linked = fs::hard_link(from, to);
    let Err(cause) = &linked else { return Ok(()) };
    if matches!(cause.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) {
        return linked;
    }
    match fs::symlink_metadata(to) {
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => fs::rename(from, to),
        Err(cause) => Err(cause),
    }
}

fn make_folder(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => other,
    }
}

/// Whether packs are kept in a folder of this name: two hexadecimal digits.
pub(crate) fn is_data_folder(name: &std::ffi::OsStr) -> bool {
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let name = name.as_encoded_bytes();
    name.len() == 2 && name.iter().all(is_digit)
}

fn temporary_name(place: &Place) -> Result<String> {
    let made = crate::name::temporary();
    made.map_err(|cause| place.error("read", Path::new("/dev/urandom"), cause))
}

/// What a disk that was unplugged answers.
fn libc_eio() -> i32 {
    nix::errno::Errno::EIO as i32
}
