//! `package.tgz`: the files a manifest lists, packed once per target and used for every DSM.
//!
//! gzip, because DSM 5 unpacks nothing else and every later one does; level fixed, no name, no
//! time.

use crate::archive::link_stays_inside;
use crate::build::{BuildError, Sources};
use crate::manifest::{PayloadFile, source_of};
use crate::platform::Target;
use crate::tarball::{FILE_BYTES_MAX, Tarball};
use md5::{Digest, Md5};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where the `[daemon]` table goes.
pub const DAEMON_FILE: &str = "conf/daemon.toml";

/// The compressor's level: beyond it programs get a hundredth smaller and packing takes thrice as
/// long.
const GZIP_LEVEL: u32 = 6;

/// Folders are followed to this depth and no further.
const FOLDERS_DEEP_MAX: usize = 40;

/// A packed payload, in a file without a name.
#[derive(Debug)]
pub struct Packed {
    pub(crate) file: File,
    /// MD5 of `package.tgz` in hex.
    pub md5: String,
    /// Size of `package.tgz` in bytes.
    pub bytes: u64,
    /// Sum of its files' sizes in bytes.
    pub unpacked_bytes: u64,
}

enum Item {
    Folder,
    File { source: PathBuf, mode: u32, bytes: u64 },
    Made { content: String },
    Symlink { link: String },
}

/// Packs the payload of one target into a temporary file in `scratch`.
pub fn pack(sources: &Sources<'_>, target: Target, scratch: &Path) -> Result<Packed, BuildError> {
    let items = gather(sources, target)?;
    let failed = |cause| BuildError::Write { path: scratch.into(), cause };
    let file = tempfile::tempfile_in(scratch).map_err(failed)?;
    let hashed = Hashed { out: BufWriter::new(file), md5: Md5::new(), bytes: 0 };
    let gzip = flate2::GzBuilder::new()
        .mtime(0)
        .operating_system(255)
        .write(hashed, flate2::Compression::new(GZIP_LEVEL));
    let mut tarball = Tarball::new(gzip);
    let mut unpacked_bytes = 0;
    for (path, item) in &items {
        unpacked_bytes += write(&mut tarball, path, item)?;
    }
    let gzip = tarball.finish().map_err(failed)?;
    let hashed = gzip.finish().map_err(failed)?;
    let mut file = hashed.out.into_inner().map_err(|error| failed(error.into_error()))?;
    file.rewind().map_err(failed)?;
    let md5 = hex::encode(hashed.md5.finalize());
    Ok(Packed { file, md5, bytes: hashed.bytes, unpacked_bytes })
}

fn write<W: Write>(tarball: &mut Tarball<W>, path: &str, item: &Item) -> Result<u64, BuildError> {
    let failed = |cause| BuildError::Pack { path: path.into(), cause };
    match item {
        Item::Folder => tarball.folder(path).map_err(failed).map(|()| 0),
        Item::Symlink { link } => tarball.symlink(path, link).map_err(failed).map(|()| 0),
        Item::Made { content } => {
            let bytes = content.len() as u64;
            tarball.file(path, 0o644, bytes, &mut content.as_bytes()).map_err(failed)?;
            Ok(bytes)
        }
        Item::File { source, mode, bytes } => {
            let unreadable = |cause| BuildError::Read { path: source.clone(), cause };
            let mut content = File::open(source).map_err(unreadable)?;
            tarball.file(path, *mode, *bytes, &mut content).map_err(failed)?;
            Ok(*bytes)
        }
    }
}

/// Everything that goes in, by path; folders before what is in them.
fn gather(sources: &Sources<'_>, target: Target) -> Result<BTreeMap<String, Item>, BuildError> {
    let mut items = BTreeMap::new();
    for file in sources.manifest.payload_of(target) {
        let source = source_of(file, target, sources.folder, sources.programs);
        if file.optional && !source.exists() {
            continue;
        }
        add(&mut items, &file.to, &source, file, 0)?;
    }
    if let Some(daemon) = &sources.manifest.daemon {
        let mut table = toml::Table::new();
        table.insert("daemon".into(), daemon.clone().into());
        insert(&mut items, DAEMON_FILE, Item::Made { content: table.to_string() })?;
    }
    Ok(items)
}

fn add(
    items: &mut BTreeMap<String, Item>,
    path: &str,
    source: &Path,
    file: &PayloadFile,
    depth: usize,
) -> Result<(), BuildError> {
    let unreadable = |cause| BuildError::Read { path: source.into(), cause };
    // What the manifest names may be a link; what is found below it is taken as it is.
    let is_named = depth == 0;
    let metadata = if is_named { fs::metadata(source) } else { fs::symlink_metadata(source) };
    let metadata = metadata.map_err(unreadable)?;
    if metadata.is_symlink() {
        let link = fs::read_link(source).map_err(unreadable)?;
        let link = link.to_str().filter(|link| link_stays_inside(path, link));
        let link = link.ok_or_else(|| BuildError::LinkOutside { path: source.into() })?;
        return insert(items, path, Item::Symlink { link: link.into() });
    }
    if metadata.is_file() {
        let is_program = metadata.permissions().mode() & 0o100 != 0;
        let mode = file.mode.unwrap_or(if is_program { 0o755 } else { 0o644 });
        let bytes = metadata.len();
        if bytes > FILE_BYTES_MAX {
            return Err(BuildError::TooLarge { path: source.into(), bytes });
        }
        return insert(items, path, Item::File { source: source.into(), mode, bytes });
    }
    if !metadata.is_dir() || depth >= FOLDERS_DEEP_MAX {
        return Err(BuildError::NotAFile { path: source.into() });
    }
    insert(items, path, Item::Folder)?;
    for child in fs::read_dir(source).map_err(unreadable)? {
        let child = child.map_err(unreadable)?;
        let name = child.file_name();
        let named = name.to_str().filter(|name| !name.chars().any(char::is_control));
        let name = named.ok_or_else(|| BuildError::NotAFile { path: child.path() })?;
        add(items, &format!("{path}/{name}"), &child.path(), file, depth + 1)?;
    }
    Ok(())
}

fn insert(items: &mut BTreeMap<String, Item>, path: &str, item: Item) -> Result<(), BuildError> {
    for (at, _) in path.match_indices('/') {
        let parent = items.entry(path[..at].into()).or_insert(Item::Folder);
        if !matches!(parent, Item::Folder) {
            return Err(BuildError::Twice { path: path[..at].into() });
        }
    }
    match (items.get(path), &item) {
        (Some(Item::Folder), Item::Folder) => Ok(()),
        (Some(_), _) => Err(BuildError::Twice { path: path.into() }),
        (None, _) => {
            items.insert(path.into(), item);
            Ok(())
        }
    }
}

struct Hashed<W> {
    out: W,
    md5: Md5,
    bytes: u64,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.out.write(buffer)?;
        self.md5.update(&buffer[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
