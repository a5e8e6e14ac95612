//! `package.tgz`: the files a manifest lists, packed once per target and used for every DSM.
//!
//! gzip, because DSM 5 unpacks nothing else and every later one does.

use crate::archive::link_stays_inside;
use crate::compress::Gzip;
use crate::conf;
use crate::manifest::{Download, PayloadFile, source_of};
use crate::platform::Target;
use crate::sources::{BuildError, Sources};
use crate::tarball::{FILE_BYTES_MAX, Tarball};
use md5::{Digest, Md5};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where the `[daemon]` table goes.
pub const DAEMON_FILE: &str = "conf/daemon.toml";

/// Where what the NAS must fetch is listed.
pub const DOWNLOAD_FILE: &str = "conf/download.toml";

/// Width and height of the icons DSM's desktop asks for, in pixels.
const DESKTOP_PIXELS: [u32; 7] = [16, 24, 32, 48, 64, 72, 256];

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
    Made { content: Vec<u8> },
    Symlink { link: String },
}

/// Packs the payload of one target into a temporary file in `scratch`, with so many threads.
pub fn pack(
    sources: &Sources<'_>,
    target: Target,
    scratch: &Path,
    threads: usize,
) -> Result<Packed, BuildError> {
    let items = gather(sources, target)?;
    let failed = |cause| BuildError::Write { path: scratch.into(), cause };
    let file = tempfile::tempfile_in(scratch).map_err(failed)?;
    let hashed = Hashed { out: BufWriter::new(file), md5: Md5::new(), bytes: 0 };
    let gzip = Gzip::new(hashed, threads).map_err(failed)?;
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
            tarball.file(path, 0o644, bytes, &mut &content[..]).map_err(failed)?;
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
        let package = &sources.manifest.package.name;
        let source = source_of(file, package, target, sources.folder, sources.programs);
        if file.optional && !source.exists() {
            continue;
        }
        let to = if file.to == "." { "" } else { &file.to };
        add(&mut items, to, &source, file, 0)?;
    }
    if let Some(daemon) = &sources.manifest.daemon {
        let mut table = toml::Table::new();
        table.insert("daemon".into(), daemon.clone().into());
        insert(&mut items, DAEMON_FILE, Item::Made { content: table.to_string().into() })?;
    }
    let downloads: Vec<&Download> = sources.manifest.downloads_of(target).collect();
    if !downloads.is_empty() {
        let content = toml::to_string(&BTreeMap::from([("download", downloads)]));
        let content = content.map_err(|cause| BuildError::Pack {
            path: DOWNLOAD_FILE.into(),
            cause: io::Error::other(cause),
        })?;
        insert(&mut items, DOWNLOAD_FILE, Item::Made { content: content.into() })?;
    }
    if let Some(content) = conf::port_file(sources.manifest) {
        let content = content.into();
        insert(&mut items, &conf::port_file_path(sources.manifest), Item::Made { content })?;
    }
    if let Some(folder) = &sources.manifest.desktop_icons {
        let icon = sources.icon()?;
        for pixels in DESKTOP_PIXELS {
            let content = icon.scaled(pixels).encode();
            let path = format!("{folder}/icon_{pixels}.png");
            insert(&mut items, &path, Item::Made { content })?;
        }
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
    if metadata.is_file() && !path.is_empty() {
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
    if !path.is_empty() {
        insert(items, path, Item::Folder)?;
    }
    for child in fs::read_dir(source).map_err(unreadable)? {
        let child = child.map_err(unreadable)?;
        let name = child.file_name();
        let named = name.to_str().filter(|name| !name.chars().any(char::is_control));
        let name = named.ok_or_else(|| BuildError::NotAFile { path: child.path() })?;
        let below = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
        add(items, &below, &child.path(), file, depth + 1)?;
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
