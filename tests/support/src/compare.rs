//! The judge: in which byte or attribute two trees differ.
//!
//! Compared are names (as bytes), kinds, content, permission bits, owners, times of change to the
//! nanosecond, link targets, extended attributes, device numbers, and which names share one file.
//! Not compared: times of access and of status change, inode numbers, and on which blocks a file
//! lies; that a hole stayed a hole is asked for separately ([`Options::holes`]).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// What to look at. [`Options::default`] is everything.
#[derive(Debug, Clone)]
pub struct Options {
    /// Owner and group: only root can restore them.
    pub owners: bool,
    /// Extended attributes: not every file system has them.
    pub attributes: bool,
    /// Whether a sparse file may not need much more disk than its original.
    pub holes: bool,
    /// Whether the two top folders' own attributes count, and not only what is below.
    pub top: bool,
}

impl Default for Options {
    fn default() -> Self {
        let is_root = nix::unistd::geteuid().is_root();
        Self { owners: is_root, attributes: true, holes: true, top: true }
    }
}

/// One difference: where, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The path below both tops.
    pub path: PathBuf,
    /// What differs, in words.
    pub what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.path, self.what)
    }
}

/// What was compared, and the outcome.
#[derive(Debug, Default, Clone)]
pub struct Account {
    /// Names compared, of every kind.
    pub entries: usize,
    /// Regular files among them.
    pub files: usize,
    /// Bytes of content compared.
    pub bytes: u64,
    /// Single attributes compared.
    pub attributes: usize,
    /// All differences.
    pub differences: Vec<Difference>,
}

impl Account {
    /// Nothing more than a success.
    ///
    /// # Panics
    /// When the trees differ; the message lists the first twenty differences.
    #[track_caller]
    pub fn must_be_equal(&self) {
        let mut listed = String::new();
        for difference in self.differences.iter().take(20) {
            listed.push_str(&format!("\n  {difference}"));
        }
        assert!(self.differences.is_empty(), "{} differences:{listed}", self.differences.len());
        assert!(self.entries > 0, "nothing was compared");
    }

    fn differs(&mut self, path: &Path, what: impl Into<String>) {
        self.differences.push(Difference { path: path.to_path_buf(), what: what.into() });
    }

    fn attribute<T: PartialEq + fmt::Debug>(&mut self, path: &Path, name: &str, left: T, right: T) {
        self.attributes += 1;
        if left != right {
            self.differs(path, format!("{name} is {right:?}, was {left:?}"));
        }
    }
}

/// Compares everything below `original` with what is below `copy`.
pub fn trees(original: &Path, copy: &Path) -> io::Result<Account> {
    trees_with(original, copy, &Options::default())
}

/// Compares with other [`Options`] than the strictest.
pub fn trees_with(original: &Path, copy: &Path, options: &Options) -> io::Result<Account> {
    let mut walk = Walk {
        original,
        copy,
        options,
        account: Account::default(),
        names_of_file: BTreeMap::new(),
    };
    walk.entry(Path::new(""))?;
    for (left, right) in walk.names_of_file.values() {
        if left != right {
            let path = left.union(right).next().cloned().unwrap_or_default();
            walk.account.differs(&path, format!("shares its file with {right:?}, was {left:?}"));
        }
    }
    Ok(walk.account)
}

type Names = BTreeSet<PathBuf>;

struct Walk<'a> {
    original: &'a Path,
    copy: &'a Path,
    options: &'a Options,
    account: Account,
    /// For each name of a file with several: all names of its file, left and right.
    names_of_file: BTreeMap<PathBuf, (Names, Names)>,
}

/// Which names share a file, on each side, keyed by device and inode.
#[derive(Default)]
struct Shared {
    left: BTreeMap<(u64, u64), Names>,
    right: BTreeMap<(u64, u64), Names>,
}

impl Walk<'_> {
    fn entry(&mut self, top: &Path) -> io::Result<()> {
        let mut shared = Shared::default();
        let mut waiting = vec![top.to_path_buf()];
        while let Some(path) = waiting.pop() {
            let (left, right) = (join(self.original, &path), join(self.copy, &path));
            let left_meta = fs::symlink_metadata(&left).map_err(|cause| named(&left, cause))?;
            let Ok(right_meta) = fs::symlink_metadata(&right) else {
                self.account.differs(&path, "is missing");
                continue;
            };
            self.account.entries += 1;
            self.compare_one(&path, (&left, &left_meta), (&right, &right_meta))?;
            if left_meta.is_dir() && right_meta.is_dir() {
                self.names(&path, &left, &right, &mut waiting)?;
            } else if left_meta.nlink() > 1 || right_meta.nlink() > 1 {
                let key = |meta: &Metadata| (meta.dev(), meta.ino());
                shared.left.entry(key(&left_meta)).or_default().insert(path.clone());
                shared.right.entry(key(&right_meta)).or_default().insert(path);
            }
        }
        for names in shared.left.into_values() {
            for name in &names {
                self.names_of_file.entry(name.clone()).or_default().0 = names.clone();
            }
        }
        for names in shared.right.into_values() {
            for name in &names {
                self.names_of_file.entry(name.clone()).or_default().1 = names.clone();
            }
        }
        Ok(())
    }

    fn names(
        &mut self,
        path: &Path,
        left: &Path,
        right: &Path,
        waiting: &mut Vec<PathBuf>,
    ) -> io::Result<()> {
        let (left, right) = (names_in(left)?, names_in(right)?);
        for surplus in right.difference(&left) {
            self.account.differs(&path.join(surplus), "was not there before");
        }
        waiting.extend(left.iter().map(|name| path.join(name)));
        Ok(())
    }

    fn compare_one(
        &mut self,
        path: &Path,
        (left, left_meta): (&Path, &Metadata),
        (right, right_meta): (&Path, &Metadata),
    ) -> io::Result<()> {
        let (left_kind, right_kind) = (kind_of(left_meta), kind_of(right_meta));
        if left_kind != right_kind {
            self.account.differs(path, format!("is a {right_kind}, was a {left_kind}"));
            return Ok(());
        }
        match left_kind {
            "file" => self.content(path, (left, left_meta), (right, right_meta))?,
            "link" => {
                let (left, right) = (fs::read_link(left)?, fs::read_link(right)?);
                self.account.attribute(path, "link target", left, right);
            }
            "device" => {
                self.account.attribute(path, "device", left_meta.rdev(), right_meta.rdev());
            }
            _ => {}
        }
        if path.as_os_str().is_empty() && !self.options.top {
            return Ok(());
        }
        let time = |meta: &Metadata| (meta.mtime(), meta.mtime_nsec());
        self.account.attribute(path, "time of change", time(left_meta), time(right_meta));
        if left_kind != "link" {
            let mode = |meta: &Metadata| format!("{:04o}", meta.mode() & 0o7777);
            self.account.attribute(path, "mode", mode(left_meta), mode(right_meta));
        }
        if self.options.owners {
            self.account.attribute(path, "owner", left_meta.uid(), right_meta.uid());
            self.account.attribute(path, "group", left_meta.gid(), right_meta.gid());
        }
        if self.options.attributes {
            let (left, right) = (attributes_of(left)?, attributes_of(right)?);
            self.account.attribute(path, "extended attributes", left, right);
        }
        Ok(())
    }

    fn content(
        &mut self,
        path: &Path,
        (left, left_meta): (&Path, &Metadata),
        (right, right_meta): (&Path, &Metadata),
    ) -> io::Result<()> {
        self.account.files += 1;
        self.account.attribute(path, "size", left_meta.len(), right_meta.len());
        if left_meta.len() != right_meta.len() {
            return Ok(());
        }
        self.account.bytes += left_meta.len();
        if let Some(at) = first_difference(left, right)? {
            self.account.differs(path, format!("differs at byte {at}"));
        }
        // A file system may round a file up; a hole that was filled is far beyond that.
        let disk_bytes = |meta: &Metadata| meta.blocks() * 512;
        let disk_bytes_max = disk_bytes(left_meta) * 2 + (4 << 20);
        let was_sparse = disk_bytes(left_meta) * 2 < left_meta.len();
        if self.options.holes && was_sparse && disk_bytes(right_meta) > disk_bytes_max {
            let (now, before) = (disk_bytes(right_meta), disk_bytes(left_meta));
            self.account.differs(path, format!("takes {now} bytes of disk, took {before}"));
        }
        Ok(())
    }
}

/// A path with its name in front of the cause: `io::Error` alone never says which file.
fn named(path: &Path, cause: io::Error) -> io::Error {
    io::Error::new(cause.kind(), format!("{}: {cause}", path.display()))
}

fn join(top: &Path, below: &Path) -> PathBuf {
    if below.as_os_str().is_empty() { top.to_path_buf() } else { top.join(below) }
}

fn names_in(folder: &Path) -> io::Result<BTreeSet<OsString>> {
    let entries = fs::read_dir(folder).map_err(|cause| named(folder, cause))?;
    entries.map(|entry| Ok(entry?.file_name())).collect()
}

fn kind_of(meta: &Metadata) -> &'static str {
    let kind = meta.file_type();
    match () {
        () if kind.is_dir() => "folder",
        () if kind.is_symlink() => "link",
        () if kind.is_fifo() => "pipe",
        () if kind.is_socket() => "socket",
        () if kind.is_char_device() || kind.is_block_device() => "device",
        () => "file",
    }
}

fn attributes_of(path: &Path) -> io::Result<BTreeMap<OsString, Vec<u8>>> {
    let names = match xattr::list(path) {
        Ok(names) => names,
        Err(cause) if cause.raw_os_error() == Some(libc::ENOTSUP) => return Ok(BTreeMap::new()),
        Err(cause) => return Err(named(path, cause)),
    };
    names
        .map(|name| {
            let value = xattr::get(path, &name)?.unwrap_or_default();
            Ok((name, value))
        })
        .collect()
}

fn first_difference(left: &Path, right: &Path) -> io::Result<Option<u64>> {
    let open = |path: &Path| File::open(path).map_err(|cause| named(path, cause));
    let (mut left, mut right) = (open(left)?, open(right)?);
    let (mut one, mut other) = (vec![0; 1 << 17], vec![0; 1 << 17]);
    let mut at = 0u64;
    loop {
        let (read, also) = (fill(&mut left, &mut one)?, fill(&mut right, &mut other)?);
        let common = read.min(also);
        if one[..common] != other[..common] {
            let place = (0..common).find(|place| one[*place] != other[*place]).unwrap_or(0);
            return Ok(Some(at + place as u64));
        }
        if read != also {
            return Ok(Some(at + common as u64));
        }
        if read == 0 {
            return Ok(None);
        }
        at += read as u64;
    }
}

fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{self, Tree};

    /// Two copies of the odd tree; the second one is then changed by `change`.
    fn difference_made_by(change: impl FnOnce(&Tree)) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let (left, right) = (folder.path().join("left"), folder.path().join("right"));
        tree::odd(&left).mode("rights/closed folder", 0o700);
        let copied = std::process::Command::new("cp")
            .args(["--archive", "--sparse=always"])
            .args([&left, &right])
            .status()
            .unwrap();
        assert!(copied.success());
        trees(&left, &right).unwrap().must_be_equal();
        change(&Tree::at(&right));
        let account = trees(&left, &right).unwrap();
        account.differences.iter().map(ToString::to_string).collect()
    }

    #[track_caller]
    fn expect(found: &[String], wanted: &str) {
        assert!(found.iter().any(|line| line.contains(wanted)), "no `{wanted}` in {found:#?}");
    }

    #[test]
    fn one_changed_byte_a_lost_name_and_a_surplus_one_are_found() {
        let found = difference_made_by(|copy| {
            let mut noise = fs::read(copy.path("noise")).unwrap();
            noise[1_000_000] ^= 1;
            fs::write(copy.path("noise"), noise).unwrap();
            fs::remove_file(copy.path("names/*")).unwrap();
            copy.file("names/new", "");
        });
        expect(&found, "\"noise\": differs at byte 1000000");
        expect(&found, "\"names/*\": is missing");
        expect(&found, "\"names/new\": was not there before");
    }

    #[test]
    fn every_attribute_counts() {
        let found = difference_made_by(|copy| {
            copy.mode("rights/setuid", 0o755)
                .modified("times/a link", 1_000_000_000, 123_456_788)
                .modified("times/a folder", 1_234_567_890, 987_654_320)
                .attribute("attributes/text", "user.empty", b"no more");
            fs::remove_file(copy.path("links/to nowhere")).unwrap();
            copy.link("links/to nowhere", "/no/such/Place");
        });
        expect(&found, "mode is \"0755\", was \"6755\"");
        expect(&found, "\"times/a link\": time of change");
        expect(&found, "\"times/a folder\": time of change");
        expect(&found, "\"links/to nowhere\": link target");
        expect(&found, "extended attributes");
    }

    #[test]
    fn a_hard_link_that_became_a_copy_and_a_hole_that_was_filled_are_found() {
        let found = difference_made_by(|copy| {
            fs::remove_file(copy.path("third name, elsewhere")).unwrap();
            copy.file("third name, elsewhere", "one file, three names");
            copy.file("a hole", vec![0; 64 << 20]);
        });
        expect(&found, "shares its file with");
        expect(&found, "of disk, took");
    }
}
