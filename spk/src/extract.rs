//! Unpacking a package into a folder, safely.
//!
//! **Invariant:** nothing is written outside the folder, nothing there is overwritten, and no link
//! is followed: files are created anew, and symbolic links are made last, when nothing is written
//! any more. Permissions keep their low nine bits; owner and time are the caller's.

use crate::archive::{self, ArchiveError, Bounds, Head, Kind, link_stays_inside};
use crate::read::{self, MEMBERS_MAX, PACKAGE_BYTES_MAX, PAYLOAD_BOUNDS, ReadError};
use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Why a package could not be unpacked. What was written stays; the folder is the caller's.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// It is no sound package.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The folder holds something already.
    #[error("{} is not an empty folder", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// A file could not be made.
    #[error("{} cannot be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A member that is neither file, folder nor a link inside.
    #[error("`{path}` is a link that leads outside, or a device")]
    Refused {
        /// Its name in the archive.
        path: String,
    },
    /// It takes more of the disk than it may.
    #[error("it takes more than the {} MiB of the disk that it may", room_bytes >> 20)]
    NoRoom {
        /// How much that is, in bytes.
        room_bytes: u64,
    },
}

/// How much a payload may unpack to. It is tighter than what any package may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Files, folders and links, and folders that are only on the way to one.
    pub members_max: usize,
    /// Sum of the files' sizes, in bytes.
    pub content_bytes_max: u64,
    /// What it may take of the disk in whole blocks, in bytes; every name costs one, too.
    pub room_bytes: u64,
}

impl Limits {
    /// What any package may unpack to, wherever there is room for it.
    pub const OF_ANY: Self = Self {
        members_max: PAYLOAD_BOUNDS.members_max,
        content_bytes_max: PAYLOAD_BOUNDS.content_bytes_max,
        room_bytes: u64::MAX,
    };
}

/// No path in a payload has more parts: who deletes or copies a folder need not go deeper.
const PARTS_MAX: usize = 60;

/// What is taken of a disk comes in pieces of this size, in bytes.
const BLOCK_BYTES: u64 = 4096;

impl ExtractError {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Read(error) => error.remedy(),
            Self::NotEmpty { .. } => "name a folder that does not exist yet",
            Self::Write { .. } => "check that the disk has room and the folder is yours",
            Self::Refused { .. } => "do not install this package; ask whoever made it",
            Self::NoRoom { .. } => "free some space on the disk, then try again",
        }
    }
}

/// Unpacks the outer archive: INFO, scripts, icons and `package.tgz` as it is.
pub fn package(source: impl Read, into: &Path) -> Result<(), ExtractError> {
    let bounds = Bounds {
        members_max: MEMBERS_MAX,
        name_bytes_max: 1024,
        names_bytes_max: MEMBERS_MAX * 1024,
        content_bytes_max: PACKAGE_BYTES_MAX,
    };
    let mut folder = Folder::empty(into)?;
    let mut failure = None;
    archive::walk(source, bounds, |head, content| folder.step(head, content, &mut failure))
        .map_err(|error: ReadError| failure.take().unwrap_or(error.into()))?;
    folder.link()
}

/// Unpacks a `package.tgz`: what becomes `target/` on a NAS.
pub fn payload(source: impl Read, into: &Path) -> Result<(), ExtractError> {
    payload_within(source, into, Limits::OF_ANY)
}

/// The same, and no more than `limits` allow is ever written.
pub fn payload_within(
    mut source: impl Read,
    into: &Path,
    limits: Limits,
) -> Result<(), ExtractError> {
    let start = read::start_of(&mut source).map_err(ReadError::Source)?;
    let compression = read::compression_of(&start)?;
    let mut folder = Folder { limits, ..Folder::empty(into)? };
    let mut failure = None;
    let whole = (&start[..]).chain(source);
    let bounds = Bounds {
        members_max: limits.members_max.min(PAYLOAD_BOUNDS.members_max),
        content_bytes_max: limits.content_bytes_max.min(PAYLOAD_BOUNDS.content_bytes_max),
        ..PAYLOAD_BOUNDS
    };
    let visit = |head: &Head, content: &mut dyn Read| folder.step(head, content, &mut failure);
    read::unpack(whole, compression, bounds, visit)
        .map_err(|error| failure.take().unwrap_or(error.into()))?;
    folder.link()
}

struct Folder<'a> {
    root: &'a Path,
    files: HashSet<String>,
    links: Vec<(PathBuf, String)>,
    limits: Limits,
    names: usize,
    taken_bytes: u64,
}

impl<'a> Folder<'a> {
    fn empty(root: &'a Path) -> Result<Self, ExtractError> {
        let failed = |cause| ExtractError::Write { path: root.into(), cause };
        fs::create_dir_all(root).map_err(failed)?;
        if fs::read_dir(root).map_err(failed)?.next().is_some() {
            return Err(ExtractError::NotEmpty { path: root.into() });
        }
        let (files, links) = (HashSet::new(), Vec::new());
        Ok(Self { root, files, links, limits: Limits::OF_ANY, names: 0, taken_bytes: 0 })
    }

    /// Takes a member; the walk ends with a read error whose true cause is left in `failure`.
    fn step(
        &mut self,
        head: &Head,
        content: &mut dyn Read,
        failure: &mut Option<ExtractError>,
    ) -> Result<(), ReadError> {
        self.take(head, content).map_err(|error| {
            *failure = Some(error);
            ReadError::Source(io::Error::other("unpacking stopped"))
        })
    }

    fn take(&mut self, head: &Head, content: &mut dyn Read) -> Result<(), ExtractError> {
        let path = self.root.join(&head.path);
        let failed = |cause| ExtractError::Write { path: path.clone(), cause };
        self.charge(&path, head.bytes)?;
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        let link = head.link.as_deref().unwrap_or_default();
        match head.kind {
            Kind::Directory => fs::create_dir_all(&path).map_err(failed)?,
            Kind::File => {
                let mut file = OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(&path)
                    .map_err(failed)?;
                let copied = io::copy(content, &mut file).map_err(failed)?;
                if copied != head.bytes {
                    return Err(ReadError::CutOff { member: head.path.clone() }.into());
                }
                let mode = fs::Permissions::from_mode(head.mode & 0o777);
                file.set_permissions(mode).map_err(failed)?;
                self.files.insert(head.path.clone());
            }
            Kind::Symlink if link_stays_inside(&head.path, link) => {
                self.links.push((path, link.to_owned()));
            }
            Kind::HardLink if self.files.contains(link) => {
                fs::hard_link(self.root.join(link), &path).map_err(failed)?;
            }
            Kind::Symlink | Kind::HardLink | Kind::Other => {
                return Err(ExtractError::Refused { path: head.path.clone() });
            }
        }
        Ok(())
    }

    /// Counts what a member takes, the folders included that nobody names but its path.
    fn charge(&mut self, path: &Path, bytes: u64) -> Result<(), ExtractError> {
        let unnamed = path.ancestors().skip(1).take_while(|folder| !folder.exists()).count();
        self.names += 1 + unnamed;
        let Limits { members_max, room_bytes, .. } = self.limits;
        let parts = path.strip_prefix(self.root).unwrap_or(path).components().count();
        for (count, what, max) in
            [(self.names, "members", members_max), (parts, "parts in one path", PARTS_MAX)]
        {
            if count > max {
                let bound = ArchiveError::Bound { what, max: max as u64 };
                return Err(ReadError::Payload(bound).into());
            }
        }
        let blocks = bytes.div_ceil(BLOCK_BYTES).saturating_add(1 + unnamed as u64);
        self.taken_bytes = self.taken_bytes.saturating_add(blocks.saturating_mul(BLOCK_BYTES));
        match self.taken_bytes > room_bytes {
            true => Err(ExtractError::NoRoom { room_bytes }),
            false => Ok(()),
        }
    }

    fn link(self) -> Result<(), ExtractError> {
        for (path, link) in self.links {
            symlink(link, &path).map_err(|cause| ExtractError::Write { path, cause })?;
        }
        Ok(())
    }
}
