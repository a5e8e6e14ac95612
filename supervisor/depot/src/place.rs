//! The depot's folder: where things lie, and how a file or a tree comes to be there whole.
//!
//! Everything new is written under a name nobody reads, synced, and renamed. A name that begins
//! with `.new-` is what a killed publisher left behind; the next one removes it.

use crate::error::DepotError;
use crate::shelves::Shelves;
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;
use supervisor_trust::Role;

/// A longer `shelves.json` is not read: some 20 000 packages.
const SHELVES_BYTES_MAX: u64 = 64 << 20;

/// Files of metadata in a tree, at most.
const METADATA_FILES_MAX: usize = 4096;

/// How often the lock is tried, and how long between, before somebody else is said to have it.
const LOCK_TRIES: u32 = 50;
const LOCK_WAIT: Duration = Duration::from_millis(100);

/// A depot's folder.
#[derive(Debug, Clone)]
pub struct Place {
    root: PathBuf,
}

/// A tree as it lies on the disk, read whole.
#[derive(Debug, Clone)]
pub struct Tree {
    /// Its number.
    pub number: u64,
    /// What is on the shelves.
    pub shelves: Shelves,
    /// The files of metadata by name.
    pub metadata: Vec<(String, Vec<u8>)>,
}

/// What a server needs of a tree; the metadata stays on the disk.
#[derive(Debug, Clone)]
pub struct Shelf {
    /// The tree's number.
    pub number: u64,
    /// What is on the shelves.
    pub shelves: Shelves,
    /// The names of the files of metadata.
    pub metadata: BTreeSet<String>,
}

impl Tree {
    /// The metadata file of that name.
    pub fn metadata(&self, name: &str) -> Option<&[u8]> {
        self.metadata.iter().find(|(file, _)| file == name).map(|(_, bytes)| bytes.as_slice())
    }
}

impl Place {
    /// The depot in `root`, which may not be there yet.
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The package with these bytes.
    pub fn file(&self, sha256: &str) -> PathBuf {
        self.root.join("files").join(format!("{sha256}.spk"))
    }

    /// The icon with these bytes.
    pub fn icon(&self, sha256: &str) -> PathBuf {
        self.root.join("icons").join(format!("{sha256}.png"))
    }

    /// The signing key of a role.
    pub fn key(&self, role: Role) -> PathBuf {
        self.root.join("keys").join(format!("{role}.key"))
    }

    /// The folder with the signing keys.
    pub fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    /// Who may publish over HTTP.
    pub fn tokens(&self) -> PathBuf {
        self.root.join("tokens.json")
    }

    /// What is kept of the other depot whose root of trust has this hash.
    pub fn mirror(&self, sha256: &str) -> PathBuf {
        self.root.join("mirrors").join(sha256)
    }

    /// Where packages wait until all of their bytes came over HTTP.
    pub fn uploads(&self) -> PathBuf {
        self.root.join("uploads")
    }

    /// How often each package was downloaded.
    pub fn downloads(&self) -> PathBuf {
        self.root.join("downloads.json")
    }

    /// The next root, signed in advance; nobody is served it until it is put in force.
    pub fn spare(&self) -> PathBuf {
        self.root.join("spare.root.json")
    }

    /// What an object store had in force when this folder and the store were last the same.
    pub fn seen(&self) -> PathBuf {
        self.root.join("store.json")
    }

    /// What lies beside the trees under that name.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Where a package waits while it is being looked at.
    pub fn incoming(&self, number: usize) -> PathBuf {
        self.root.join("files").join(format!(".new-{number}"))
    }

    /// Removes a package that was looked at and refused. If that fails it is in nobody's way: the
    /// next publication writes over it.
    pub fn drop_incoming(&self, number: usize) {
        let _ = fs::remove_file(self.incoming(number));
    }

    /// Makes the folders, the one with the keys for the owner alone.
    pub fn make_folders(&self) -> Result<(), DepotError> {
        for (name, mode) in
            [("", 0o755), ("keys", 0o700), ("files", 0o755), ("icons", 0o755), ("trees", 0o755)]
        {
            let path = self.root.join(name);
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true).mode(mode);
            builder.create(&path).map_err(DepotError::file("make", &path))?;
        }
        Ok(())
    }

    /// Locks the depot against other publishers for as long as the file is kept open.
    pub fn lock(&self) -> Result<File, DepotError> {
        let path = self.root.join("lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(DepotError::file("open", &path))?;
        for _ in 0..LOCK_TRIES {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(fs::TryLockError::WouldBlock) => std::thread::sleep(LOCK_WAIT),
                Err(fs::TryLockError::Error(cause)) => {
                    return Err(DepotError::File { what: "lock", path, cause });
                }
            }
        }
        Err(DepotError::Busy { path: self.root.clone() })
    }

    /// The number of the tree in force.
    pub fn current(&self) -> Result<u64, DepotError> {
        let link = self.root.join("current");
        let no_depot = || DepotError::NoDepot { path: self.root.clone() };
        let target = fs::read_link(&link).map_err(|_| no_depot())?;
        let name = target.strip_prefix("trees").ok().and_then(Path::to_str);
        name.and_then(|name| name.parse().ok())
            .ok_or_else(|| DepotError::damaged(&link, "it points to no tree"))
    }

    /// Reads the tree in force.
    pub fn read_current(&self) -> Result<Tree, DepotError> {
        self.read_in_force(Self::read_tree)
    }

    /// Reads what a server needs of the tree in force.
    pub fn read_shelf(&self) -> Result<Shelf, DepotError> {
        self.read_in_force(Self::read_shelf_of)
    }

    /// The same of any tree.
    pub fn read_shelf_of(&self, number: u64) -> Result<Shelf, DepotError> {
        let metadata = self.metadata_names(number)?.into_iter().collect();
        Ok(Shelf { number, shelves: self.read_shelves(number)?, metadata })
    }

    /// A tree's list of what is on the shelves.
    pub fn shelves(&self, number: u64) -> PathBuf {
        self.tree(number).join("shelves.json")
    }

    /// What lies in a tree under that name.
    pub fn list(&self, number: u64, name: &str) -> PathBuf {
        self.tree(number).join(name)
    }

    /// Removes what is left of a tree that was never put in force.
    pub fn clear_tree(&self, number: u64) -> Result<(), DepotError> {
        let path = self.tree(number);
        match fs::remove_dir_all(&path) {
            Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
                Err(DepotError::file("clear", &path)(cause))
            }
            _ => Ok(()),
        }
    }

    /// Makes the folders of a tree.
    pub fn make_tree(&self, number: u64) -> Result<(), DepotError> {
        let path = self.tree(number).join("metadata");
        fs::create_dir_all(&path).map_err(DepotError::file("make", &path))
    }

    /// Reads something of the tree in force.
    pub fn read_in_force<T>(
        &self,
        read: impl Fn(&Self, u64) -> Result<T, DepotError>,
    ) -> Result<T, DepotError> {
        // A tree may be cleared away between reading the link and reading the tree.
        for _ in 0..8 {
            let number = self.current()?;
            match read(self, number) {
                Err(_) if self.current()? != number => {}
                done => return done,
            }
        }
        let number = self.current()?;
        read(self, number)
    }

    fn tree(&self, number: u64) -> PathBuf {
        self.root.join("trees").join(number.to_string())
    }

    /// A file of a tree's metadata.
    pub fn metadata(&self, number: u64, name: &str) -> PathBuf {
        self.tree(number).join("metadata").join(name)
    }

    fn read_shelves(&self, number: u64) -> Result<Shelves, DepotError> {
        let path = self.shelves(number);
        Shelves::from_json(&read(&path, SHELVES_BYTES_MAX)?)
            .map_err(|what| DepotError::damaged(&path, what))
    }

    /// The names of a tree's files of metadata.
    pub fn metadata_names(&self, number: u64) -> Result<Vec<String>, DepotError> {
        let folder = self.tree(number).join("metadata");
        let mut names = Vec::new();
        let entries = fs::read_dir(&folder).map_err(DepotError::file("read", &folder))?;
        for entry in entries.take(METADATA_FILES_MAX) {
            let entry = entry.map_err(DepotError::file("read", &folder))?;
            names.extend(entry.file_name().into_string());
        }
        names.sort();
        Ok(names)
    }

    fn read_tree(&self, number: u64) -> Result<Tree, DepotError> {
        let (shelves, metadata) = (self.read_shelves(number)?, self.read_metadata(number)?);
        Ok(Tree { number, shelves, metadata })
    }

    fn read_metadata(&self, number: u64) -> Result<Vec<(String, Vec<u8>)>, DepotError> {
        let mut metadata = Vec::new();
        for name in self.metadata_names(number)? {
            let bytes_max = u64::from(supervisor_trust::client::TARGETS_BYTES_MAX);
            let bytes = read(&self.metadata(number, &name), bytes_max)?;
            metadata.push((name, bytes));
        }
        Ok(metadata)
    }

    /// Writes a tree beside the others. Nobody sees it yet. What is the same in the tree before is
    /// linked, not written again: files of a tree are never changed.
    pub fn write_tree(&self, tree: &Tree, before: &Tree) -> Result<(), DepotError> {
        let folder = self.tree(tree.number);
        if folder.exists() {
            // A publisher was killed before it put this one in force.
            fs::remove_dir_all(&folder).map_err(DepotError::file("clear", &folder))?;
        }
        let metadata = folder.join("metadata");
        fs::create_dir_all(&metadata).map_err(DepotError::file("make", &metadata))?;
        write_synced(&folder.join("shelves.json"), &tree.shelves.to_json(), 0o644)?;
        let metadata_before = self.tree(before.number).join("metadata");
        for (name, bytes) in &tree.metadata {
            let is_same = before.metadata(name) == Some(bytes);
            if !is_same || fs::hard_link(metadata_before.join(name), metadata.join(name)).is_err() {
                write_synced(&metadata.join(name), bytes, 0o644)?;
            }
        }
        sync_folder(&metadata)?;
        sync_folder(&folder)?;
        sync_folder(&self.root.join("trees"))
    }

    /// Writes a tree that differs from the one before in a few files of metadata: what stays is
    /// linked and not even read. Nobody sees it yet.
    pub fn write_next(
        &self,
        before: u64,
        stays: &BTreeSet<String>,
        new: &[(String, Vec<u8>)],
    ) -> Result<u64, DepotError> {
        let number = before + 1;
        self.clear_tree(number)?;
        self.make_tree(number)?;
        let stays = stays.iter().map(|name| format!("metadata/{name}"));
        for name in stays.chain(["shelves.json".to_owned()]) {
            let (from, to) = (self.list(before, &name), self.list(number, &name));
            if fs::hard_link(&from, &to).is_err() {
                fs::copy(&from, &to).map_err(DepotError::file("write", &to))?;
                let copied = File::open(&to).and_then(|file| file.sync_all());
                copied.map_err(DepotError::file("write", &to))?;
            }
        }
        for (name, bytes) in new {
            write_synced(&self.metadata(number, name), bytes, 0o644)?;
        }
        sync_folder(&self.tree(number).join("metadata"))?;
        sync_folder(&self.tree(number))?;
        sync_folder(&self.root.join("trees"))?;
        Ok(number)
    }

    /// Puts a tree in force, by one rename.
    pub fn switch(&self, number: u64) -> Result<(), DepotError> {
        let new = self.root.join(".new-current");
        let link = self.root.join("current");
        match fs::remove_file(&new) {
            Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
                return Err(DepotError::file("clear", &new)(cause));
            }
            _ => {}
        }
        symlink(Path::new("trees").join(number.to_string()), &new)
            .map_err(DepotError::file("make", &new))?;
        fs::rename(&new, &link).map_err(DepotError::file("put in force", &link))?;
        sync_folder(&self.root)
    }

    /// Removes trees other than the one in force and the one before it.
    pub fn clear_old_trees(&self, current: u64) -> Result<(), DepotError> {
        self.clear_trees_but(&[current, current.saturating_sub(1)])
    }

    /// Removes trees other than these.
    pub fn clear_trees_but(&self, kept: &[u64]) -> Result<(), DepotError> {
        let folder = self.root.join("trees");
        for entry in fs::read_dir(&folder).map_err(DepotError::file("read", &folder))? {
            let entry = entry.map_err(DepotError::file("read", &folder))?;
            let number = entry.file_name().to_str().and_then(|name| name.parse::<u64>().ok());
            if number.is_some_and(|number| !kept.contains(&number)) {
                let path = entry.path();
                fs::remove_dir_all(&path).map_err(DepotError::file("clear", &path))?;
            }
        }
        Ok(())
    }
}

/// Reads a file that must not be longer than `bytes_max`.
pub fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, DepotError> {
    let file = File::open(path).map_err(DepotError::file("read", path))?;
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(DepotError::file("read", path))?;
    if bytes.len() as u64 > bytes_max {
        return Err(DepotError::damaged(path, format!("it is longer than {bytes_max} bytes")));
    }
    Ok(bytes)
}

/// Writes a new file and waits until it is on the disk.
pub fn write_synced(path: &Path, bytes: &[u8], mode: u32) -> Result<(), DepotError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .map_err(DepotError::file("write", path))?;
    file.write_all(bytes).map_err(DepotError::file("write", path))?;
    file.sync_all().map_err(DepotError::file("write", path))
}

/// Puts a file in its place under its content's name: whole or not at all.
pub fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> Result<(), DepotError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".new-{name}"));
    // Made anew, so that the mode is ours and not that of something left behind.
    let _ = fs::remove_file(&new);
    write_synced(&new, bytes, mode)?;
    rename_synced(&new, path)
}

/// Renames within one folder and waits until that is on the disk.
pub fn rename_synced(from: &Path, to: &Path) -> Result<(), DepotError> {
    fs::rename(from, to).map_err(DepotError::file("write", to))?;
    to.parent().map_or(Ok(()), sync_folder)
}

fn sync_folder(path: &Path) -> Result<(), DepotError> {
    // The folder of a plain name is the one we are in.
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let folder = File::open(path).map_err(DepotError::file("write", path))?;
    folder.sync_all().map_err(DepotError::file("write", path))
}
