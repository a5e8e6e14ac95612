//! One node of a tree: a file, a folder, a link, a device.

use crate::id::Id;
use crate::time::Time;

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum NodeKind {
    /// A file.
    #[default]
    File,
    /// A folder.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A block device.
    BlockDevice,
    /// A character device.
    CharDevice,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// Something restic does not know either.
    Irregular,
}

impl NodeKind {
    const NAMES: [(Self, &'static str); 8] = [
        (Self::File, "file"),
        (Self::Directory, "dir"),
        (Self::Symlink, "symlink"),
        (Self::BlockDevice, "dev"),
        (Self::CharDevice, "chardev"),
        (Self::Fifo, "fifo"),
        (Self::Socket, "socket"),
        (Self::Irregular, "irregular"),
    ];

    /// The kind's name in a tree.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(kind, _)| *kind == self).map_or("irregular", |(_, name)| name)
    }

    /// The kind of that name.
    pub fn of_name(name: &[u8]) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| known.as_bytes() == name).map(|(kind, _)| *kind)
    }
}

/// One extended attribute.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExtendedAttribute {
    /// Its name, `user.comment` for one.
    pub name: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

/// One node. Zero and empty mean "not there", as in Go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The name's bytes, as the file system has them.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: NodeKind,
    /// Go's file mode: see [`super::go_mode_of_unix`].
    pub mode: u32,
    /// When its content changed.
    pub mtime: Time,
    /// When it was read; restic writes the mtime here unless told otherwise.
    pub atime: Time,
    /// When anything of it changed.
    pub ctime: Time,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The owner's name.
    pub user: String,
    /// The group's name.
    pub group: String,
    /// Number on its file system.
    pub inode: u64,
    /// Number of its file system.
    pub device_id: u64,
    /// Of files: bytes that were read.
    pub size: u64,
    /// Of all but folders: names it has.
    pub links: u64,
    /// Of symbolic links: where to, in the file system's bytes.
    pub link_target: Vec<u8>,
    /// In the order the file system lists them.
    pub extended_attributes: Vec<ExtendedAttribute>,
    /// What Windows knows of it: a JSON object, kept as it came.
    pub generic_attributes: Vec<u8>,
    /// Of devices: which.
    pub device: u64,
    /// Of files: the blobs it is made of. `None` is an error for a file, and the rule for others.
    pub content: Option<Vec<Id>>,
    /// Of folders: their tree.
    pub subtree: Option<Id>,
    /// What went wrong when it was backed up.
    pub error: String,
}

impl Node {
    /// A node of which only name and kind are known. A file gets an empty content.
    pub fn new(name: impl Into<Vec<u8>>, kind: NodeKind) -> Self {
        Self {
            name: name.into(),
            kind,
            mode: 0,
            mtime: Time::ZERO,
            atime: Time::ZERO,
            ctime: Time::ZERO,
            uid: 0,
            gid: 0,
            user: String::new(),
            group: String::new(),
            inode: 0,
            device_id: 0,
            size: 0,
            links: 0,
            link_target: Vec::new(),
            extended_attributes: Vec::new(),
            generic_attributes: Vec::new(),
            device: 0,
            content: (kind == NodeKind::File).then(Vec::new),
            subtree: None,
            error: String::new(),
        }
    }
}
