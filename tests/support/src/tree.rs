//! Folders made for a story: from two small files to everything that ever broke a backup.

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{Mode, UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// A folder under construction. Every method panics when the file system refuses.
#[derive(Debug, Clone)]
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    /// The folder `root`, made when it is missing.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        fs::create_dir_all(&root).unwrap_or_else(|cause| panic!("{}: {cause}", root.display()));
        Self { root }
    }

    /// Where `name` is.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.join(name)
    }

    fn place(&self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("names are below the root")).expect("a folder");
        path
    }

    /// A file with this content; its folders are made.
    pub fn file(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) -> &Self {
        let path = self.place(name);
        fs::write(&path, content).unwrap_or_else(|cause| panic!("{}: {cause}", path.display()));
        self
    }

    /// A file of `bytes` bytes that do not compress, the same ones for the same seed.
    pub fn noise(&self, name: impl AsRef<Path>, bytes: u64, seed: u64) -> &Self {
        let mut file = File::create(self.place(name)).expect("a file");
        let mut state = seed;
        let mut left = bytes;
        while left > 0 {
            let block = noise_block(&mut state);
            let now = left.min(block.len() as u64);
            file.write_all(&block[..usize::try_from(now).expect("a block is small")])
                .expect("room for a file");
            left -= now;
        }
        self
    }

    /// A file of `bytes` bytes that is a hole, but for `islands` of content at these offsets.
    pub fn sparse(&self, name: impl AsRef<Path>, bytes: u64, islands: &[(u64, &[u8])]) -> &Self {
        let mut file = File::create(self.place(name)).expect("a file");
        file.set_len(bytes).expect("a sparse file");
        for (offset, content) in islands {
            file.seek(SeekFrom::Start(*offset)).expect("a seek");
            file.write_all(content).expect("room for an island");
        }
        self
    }

    /// An empty folder.
    pub fn folder(&self, name: impl AsRef<Path>) -> &Self {
        fs::create_dir_all(self.path(name)).expect("a folder");
        self
    }

    /// A folder with `count` files of a few bytes each.
    pub fn many(&self, name: impl AsRef<Path>, count: usize) -> &Self {
        let folder = self.path(name);
        fs::create_dir_all(&folder).expect("a folder");
        for number in 0..count {
            fs::write(folder.join(format!("file {number:06}")), format!("{number}\n"))
                .expect("a file");
        }
        self
    }

    /// A symbolic link, which may point to nothing.
    pub fn link(&self, name: impl AsRef<Path>, target: impl AsRef<OsStr>) -> &Self {
        symlink(target.as_ref(), self.place(name)).expect("a symbolic link");
        self
    }

    /// Another name for the file `of`.
    pub fn hard_link(&self, name: impl AsRef<Path>, of: impl AsRef<Path>) -> &Self {
        fs::hard_link(self.path(of), self.place(name)).expect("a hard link");
        self
    }

    /// A named pipe.
    pub fn pipe(&self, name: impl AsRef<Path>) -> &Self {
        nix::unistd::mkfifo(&self.place(name), Mode::from_bits_truncate(0o640)).expect("a pipe");
        self
    }

    /// An extended attribute; nothing happens where the file system has none.
    pub fn attribute(&self, name: impl AsRef<Path>, key: &str, value: &[u8]) -> &Self {
        match xattr::set(self.path(name), key, value) {
            Err(cause) if cause.raw_os_error() != Some(libc::ENOTSUP) => panic!("{key}: {cause}"),
            _ => self,
        }
    }

    /// The permission bits, `0o4755` for example.
    pub fn mode(&self, name: impl AsRef<Path>, mode: u32) -> &Self {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).expect("a mode");
        self
    }

    /// The time of the last change; a link's own time, not its target's.
    pub fn modified(&self, name: impl AsRef<Path>, seconds: i64, nanoseconds: i64) -> &Self {
        let time = TimeSpec::new(seconds, nanoseconds);
        let path = self.path(name);
        utimensat(AT_FDCWD, &path, &time, &time, UtimensatFlags::NoFollowSymlink).expect("a time");
        self
    }
}

/// A generator that needs no crate and gives the same bytes on every machine (splitmix64).
fn noise_block(state: &mut u64) -> [u8; 4096] {
    let mut block = [0; 4096];
    for word in block.chunks_exact_mut(8) {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word.copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes());
    }
    block
}

/// A few dozen ordinary files, about `bytes` together: text, noise, folders in folders.
pub fn ordinary(root: &Path, bytes: u64) -> Tree {
    let tree = Tree::at(root);
    tree.file("letters/to the bank.txt", "Dear bank,\n".repeat(500))
        .file("letters/empty.txt", "")
        .noise("photos/2024/beach.jpg", bytes / 4, 1)
        .noise("photos/2024/harbour.jpg", bytes / 4, 2)
        .noise("photos/2025/snow.raw", bytes / 2, 3)
        .file("photos/2025/copy of snow.txt", "see snow.raw\n")
        .many("notes", 40)
        .link("latest photos", "photos/2025");
    tree
}

/// Everything that ever broke a backup, in one folder of a few megabytes.
///
/// Holes, hard links, odd names, odd times, odd rights, attributes, pipes, links to nowhere. Only
/// what an unprivileged user may make; [`add_what_only_root_can_make`] adds the rest.
pub fn odd(root: &Path) -> Tree {
    let tree = Tree::at(root);
    odd_names(&tree);
    odd_kinds(&tree);
    odd_attributes(&tree);
    tree
}

fn odd_names(tree: &Tree) {
    let not_utf8 = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    tree.file("names/with spaces  and two", "1")
        .file("names/with\na newline", "2")
        .file("names/with \"quotes\", 'ticks' and \\backslash\\", "3")
        .file("names/-rf", "4")
        .file("names/*", "5")
        .file("names/$(reboot); `reboot`", "6")
        .file("names/\u{1b}[31mred\u{7}", "7")
        .file("names/Grüße, 日本語, 👩‍🚀", "8")
        .file("names/e\u{301} is not \u{e9}", "9")
        .file("names/\u{e9} is not e\u{301}", "10")
        .file("names/.hidden", "11")
        .file("names/...", "12")
        .file(Path::new("names").join("n".repeat(255)), "13")
        .file(Path::new("names").join(not_utf8(b"latin1 \xe4\xf6\xfc")), "14")
        .file(Path::new("names").join(not_utf8(b"\xff\xfe\x80/\xc3(/\xed\xa0\x80")), "15")
        .file(vec!["deep"; 200].join("/"), "at the bottom");
}

fn odd_kinds(tree: &Tree) {
    const MIB: u64 = 1 << 20;
    tree.file("empty", "")
        .folder("empty folder")
        .file("one byte", "x")
        .noise("noise", 3 * MIB + 17, 9)
        .file("zeros", vec![0; 2 * 1_048_576])
        .sparse("a hole", 64 * MIB, &[])
        .sparse(
            "islands",
            96 * MIB + 5,
            &[(0, b"first"), (48 * MIB, b"middle"), (96 * MIB, b"last!")],
        )
        .file("linked/first name", "one file, three names")
        .hard_link("linked/second name", "linked/first name")
        .hard_link("third name, elsewhere", "linked/first name")
        .link("links/to a file", "../one byte")
        .link("links/to a folder", "../empty folder")
        .link("links/to nowhere", "/no/such/place")
        .link("links/to itself", "to itself")
        .link("links/long", "x/".repeat(1500))
        .link("links/not utf-8", OsStr::from_bytes(b"\xe4\xf6"))
        .pipe("pipe")
        .many("many", 1200);
}

fn odd_attributes(tree: &Tree) {
    tree.file("rights/read only", "r")
        .mode("rights/read only", 0o400)
        .file("rights/none", "n")
        .mode("rights/none", 0o600)
        .file("rights/setuid", "s")
        .mode("rights/setuid", 0o6755)
        .folder("rights/sticky")
        .mode("rights/sticky", 0o1777)
        .file("rights/closed folder/inside", "i")
        .mode("rights/closed folder", 0o500)
        .file("times/long ago", "1")
        .modified("times/long ago", 86_400, 1)
        .file("times/before 1970", "2")
        .modified("times/before 1970", -1_000_000_000, 0)
        .file("times/after 2038", "3")
        .modified("times/after 2038", 4_000_000_000, 999_999_999)
        .link("times/a link", "long ago")
        .modified("times/a link", 1_000_000_000, 123_456_789)
        .folder("times/a folder")
        .modified("times/a folder", 1_234_567_890, 987_654_321)
        .file("attributes/text", "a")
        .attribute("attributes/text", "user.comment", "Grüße".as_bytes())
        .attribute("attributes/text", "user.empty", b"")
        .attribute("attributes/text", "user.bytes", &[0, 255, 10, 34])
        .folder("attributes/folder")
        .attribute("attributes/folder", "user.long", &[b'x'; 2000]);
}

/// Other owners and device files: a root user's part of [`odd`]. Devices may be refused in a
/// container; then there are none.
pub fn add_what_only_root_can_make(tree: &Tree) {
    use nix::sys::stat::{SFlag, makedev, mknod};
    use std::os::unix::fs::{chown, lchown};
    tree.file("owners/of somebody", "o").link("owners/link of somebody", "of somebody");
    chown(tree.path("owners/of somebody"), Some(12_345), Some(54_321)).expect("root may");
    lchown(tree.path("owners/link of somebody"), Some(12_345), Some(54_321)).expect("root may");
    tree.folder("devices");
    let mode = Mode::from_bits_truncate(0o660);
    let _ = mknod(&tree.path("devices/null"), SFlag::S_IFCHR, mode, makedev(1, 3));
    let _ = mknod(&tree.path("devices/disk"), SFlag::S_IFBLK, mode, makedev(7, 200));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_the_same_on_every_machine_and_does_not_compress() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::at(folder.path());
        tree.noise("a", 10_000, 7).noise("b", 10_000, 7).noise("c", 10_000, 8);
        let read = |name| fs::read(tree.path(name)).unwrap();
        assert_eq!(read("a"), read("b"));
        assert_ne!(read("a"), read("c"));
        assert_eq!(read("a")[..4], [215, 13, 50, 89], "not splitmix64 from seed 7");
    }

    #[test]
    fn the_odd_tree_can_be_made_by_anybody_and_really_has_holes() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().unwrap();
        let tree = odd(folder.path());
        let hole = fs::metadata(tree.path("a hole")).unwrap();
        assert_eq!(hole.len(), 64 << 20);
        assert!(hole.blocks() * 512 < 1 << 20, "the file system made {} blocks", hole.blocks());
        tree.mode("rights/closed folder", 0o700);
    }
}
