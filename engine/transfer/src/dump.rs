//! One file of a snapshot as its bytes, one folder as a tar or zip archive.
//!
//! In a tar archive are files, folders, links and devices with names, modes, owners, times and
//! extended attributes; sockets have no place in one and are left out. In a zip archive are files,
//! folders and links with names, modes, owners and times. Names are relative to the folder that is
//! dumped, but for `/` whole paths without the first `/`.

mod deflate;
mod zip;

use crate::blobs::Fetcher;
use crate::browse::SnapshotInfo;
use crate::index::Index;
use crate::locks::HeldLock;
use crate::repository::damaged;
use crate::{Cancel, Repository, Result, TransferError};
use engine_repository::tree::unix_mode_of_go;
use engine_repository::{BlobKind, FileKind, Id, Node, NodeKind};
use engine_storage::Name;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use zip::{Entry, ZipWriter};

/// What a folder is dumped as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Archive {
    /// With everything a restore would give.
    #[default]
    Tar,
    /// For those who have no tar: without devices, pipes and extended attributes.
    Zip,
}

/// [`dump_as`] a tar archive.
pub fn dump(
    repository: &Repository,
    snapshot: &SnapshotInfo,
    path: &Path,
    out: &mut dyn Write,
    cancel: &Cancel,
) -> Result<()> {
    dump_as(repository, snapshot, path, Archive::Tar, out, cancel)
}

/// Writes what is at `path` in a snapshot to `out`. A failure in the middle is an error: what was
/// written until then is not whole.
pub fn dump_as(
    repository: &Repository,
    snapshot: &SnapshotInfo,
    path: &Path,
    kind: Archive,
    out: &mut dyn Write,
    cancel: &Cancel,
) -> Result<()> {
    let _lock = HeldLock::acquire(repository, false)?;
    let index = Index::load_or_stop(repository, cancel)?;
    let mut fetcher = Fetcher::new(repository, &index);
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.as_bytes()),
        _ => None,
    });
    let (mut tree, mut found) = (Some(snapshot.tree), None);
    for name in names {
        let Some(folder) = tree else { return Err(missing(path)) };
        let node = find(&mut fetcher, &folder, name)?.ok_or_else(|| missing(path))?;
        tree = node.subtree;
        found = Some(node);
    }
    match (found, tree) {
        (Some(node), _) if node.kind == NodeKind::File => {
            let mut content = Content::new(&mut fetcher, &node, snapshot.id, cancel);
            let copied = io::copy(&mut content, out);
            content.ended(copied.map(|_| ()))
        }
        (_, Some(tree)) if kind == Archive::Zip => {
            let list = repository.cache().scratch_file()?;
            let zip = ZipWriter::new(out, list);
            zip_archive(&mut fetcher, tree, snapshot.id, zip, cancel)
        }
        (_, Some(tree)) => archive(&mut fetcher, tree, snapshot.id, out, cancel),
        _ => Err(missing(path)),
    }
}

fn missing(path: &Path) -> TransferError {
    TransferError::NotInSnapshot { path: path.into() }
}

fn find(fetcher: &mut Fetcher<'_>, tree: &Id, name: &[u8]) -> Result<Option<Node>> {
    for node in fetcher.tree(tree)? {
        let node = node?;
        if node.name == name {
            return Ok(Some(node));
        }
    }
    Ok(None)
}

fn archive(
    fetcher: &mut Fetcher<'_>,
    root: Id,
    snapshot: Id,
    out: &mut dyn Write,
    cancel: &Cancel,
) -> Result<()> {
    let written = |done: io::Result<()>| done.map_err(|cause| TransferError::Output { cause });
    let mut archive = tar::Builder::new(out);
    let mut open = vec![(PathBuf::new(), fetcher.tree(&root)?)];
    while let Some((folder, nodes)) = open.last_mut() {
        let Some(node) = nodes.next() else {
            open.pop();
            continue;
        };
        let node = node?;
        let path = folder.join(OsStr::from_bytes(&node.name));
        let Some(mut header) = header(&node) else { continue };
        let attributes: Vec<_> = node
            .extended_attributes
            .iter()
            .filter_map(|attribute| {
                let name = std::str::from_utf8(&attribute.name).ok()?;
                Some((format!("SCHILY.xattr.{name}"), &attribute.value[..]))
            })
            .collect();
        if !attributes.is_empty() {
            let pairs = attributes.iter().map(|(name, value)| (name.as_str(), *value));
            written(archive.append_pax_extensions(pairs))?;
        }
        match node.kind {
            NodeKind::File => {
                let mut content = Content::new(fetcher, &node, snapshot, cancel);
                let appended = archive.append_data(&mut header, &path, &mut content);
                content.ended(appended)?;
            }
            NodeKind::Symlink => {
                let target = OsStr::from_bytes(&node.link_target);
                written(archive.append_link(&mut header, &path, target))?;
            }
            NodeKind::Directory => {
                // A name that ends in `/` is a folder to every tar.
                written(archive.append_data(&mut header, path.join(""), io::empty()))?;
            }
            _ => written(archive.append_data(&mut header, &path, io::empty()))?,
        }
        if let Some(subtree) = node.subtree {
            open.push((path, fetcher.tree(&subtree)?));
        }
    }
    written(archive.finish())
}

fn zip_archive(
    fetcher: &mut Fetcher<'_>,
    root: Id,
    snapshot: Id,
    mut archive: ZipWriter<&mut dyn Write>,
    cancel: &Cancel,
) -> Result<()> {
    let written = |done: io::Result<()>| done.map_err(|cause| TransferError::Output { cause });
    let mut open = vec![(PathBuf::new(), fetcher.tree(&root)?)];
    while let Some((folder, nodes)) = open.last_mut() {
        if cancel.is_cancelled() {
            return Err(TransferError::Cancelled);
        }
        let Some(node) = nodes.next() else {
            open.pop();
            continue;
        };
        let node = node?;
        let path = folder.join(OsStr::from_bytes(&node.name));
        let kind_bits = match node.kind {
            NodeKind::File => libc::S_IFREG,
            NodeKind::Directory => libc::S_IFDIR,
            NodeKind::Symlink => libc::S_IFLNK,
            _ => continue,
        };
        let mut entry = Entry {
            name: path.as_os_str().as_bytes().to_vec(),
            mode: unix_mode_of_go(node.mode) & 0o7777 | kind_bits,
            mtime: node.mtime.seconds,
            uid: node.uid,
            gid: node.gid,
        };
        match node.kind {
            NodeKind::File => {
                let mut content = Content::new(fetcher, &node, snapshot, cancel);
                let done = archive.file(&entry, node.size, &mut content);
                content.ended(done)?;
            }
            NodeKind::Symlink => written(archive.small(&entry, &node.link_target))?,
            _ => {
                entry.name.push(b'/');
                written(archive.small(&entry, &[]))?;
            }
        }
        if let Some(subtree) = node.subtree {
            open.push((path, fetcher.tree(&subtree)?));
        }
    }
    written(archive.finish())
}

fn header(node: &Node) -> Option<tar::Header> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(match node.kind {
        NodeKind::File => tar::EntryType::Regular,
        NodeKind::Directory => tar::EntryType::Directory,
        NodeKind::Symlink => tar::EntryType::Symlink,
        NodeKind::BlockDevice => tar::EntryType::Block,
        NodeKind::CharDevice => tar::EntryType::Char,
        NodeKind::Fifo => tar::EntryType::Fifo,
        NodeKind::Socket | NodeKind::Irregular => return None,
    });
    if matches!(node.kind, NodeKind::BlockDevice | NodeKind::CharDevice) {
        // As Linux packs them.
        let device = node.device;
        let major = (device >> 8 & 0xfff) as u32 | (device >> 32) as u32 & !0xfff;
        let minor = (device & 0xff) as u32 | (device >> 12) as u32 & !0xff;
        header.set_device_major(major).and_then(|()| header.set_device_minor(minor)).ok()?;
    }
    header.set_mode(unix_mode_of_go(node.mode));
    header.set_uid(u64::from(node.uid));
    header.set_gid(u64::from(node.gid));
    // Names too long for the field are left to the numbers.
    let _ = header.set_username(&node.user);
    let _ = header.set_groupname(&node.group);
    header.set_mtime(u64::try_from(node.mtime.seconds).unwrap_or(0));
    header.set_size(if node.kind == NodeKind::File { node.size } else { 0 });
    Some(header)
}

/// A file's bytes, blob by blob; exactly as many as its size says.
struct Content<'a, 'b> {
    fetcher: &'a mut Fetcher<'b>,
    ids: std::slice::Iter<'a, Id>,
    bytes: Vec<u8>,
    at: usize,
    left: u64,
    snapshot: Id,
    cancel: &'a Cancel,
    failure: Option<TransferError>,
}

impl<'a, 'b> Content<'a, 'b> {
    fn new(fetcher: &'a mut Fetcher<'b>, node: &'a Node, snapshot: Id, cancel: &'a Cancel) -> Self {
        let ids = node.content.as_deref().unwrap_or_default().iter();
        let (bytes, left) = (Vec::new(), node.size);
        Self { fetcher, ids, bytes, at: 0, left, snapshot, cancel, failure: None }
    }

    /// The verdict: a failure of the repository comes before one of the output.
    fn ended(self, done: io::Result<()>) -> Result<()> {
        match (self.failure, done) {
            (Some(failure), _) => Err(failure),
            (None, Err(cause)) => Err(TransferError::Output { cause }),
            (None, Ok(())) => Ok(()),
        }
    }

    fn next_blob(&mut self) -> Result<bool> {
        if self.cancel.is_cancelled() {
            return Err(TransferError::Cancelled);
        }
        let Some(id) = self.ids.next() else {
            return if self.left == 0 { Ok(false) } else { Err(self.wrong_length("shorter")) };
        };
        let blob = self.fetcher.fetch(BlobKind::Data, id)?;
        self.bytes.clear();
        self.bytes.extend_from_slice(blob);
        self.at = 0;
        let left = self.left.checked_sub(self.bytes.len() as u64);
        self.left = left.ok_or_else(|| self.wrong_length("longer"))?;
        Ok(true)
    }

    fn wrong_length(&self, how: &str) -> TransferError {
        let why = format!("a file in it is {how} than its size says");
        damaged(Name::of(FileKind::Snapshot, self.snapshot), why)
    }
}

impl Read for Content<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.bytes.len() {
            match self.next_blob() {
                Ok(true) => {}
                Ok(false) => return Ok(0),
                Err(error) => {
                    let text = error.to_string();
                    self.failure = Some(error);
                    return Err(io::Error::other(text));
                }
            }
        }
        let count = (&self.bytes[self.at..]).read(buffer)?;
        self.at += count;
        Ok(count)
    }
}
