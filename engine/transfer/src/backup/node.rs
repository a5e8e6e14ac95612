//! What the file system says about a file, as restic writes it down.

use crate::posix::{Kind, Stat};
use engine_repository::tree::{ExtendedAttribute, go_mode_of_unix};
use engine_repository::{Node, NodeKind, Time};
use jiff::tz::TimeZone;
use nix::unistd::{Gid, Group, Uid, User};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use xattr::FileExt;

/// Makes nodes, and remembers names of users and groups.
pub(super) struct NodeMaker {
    zone: TimeZone,
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

/// Names of users and groups, as they were looked up; empty where there is none.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct OwnerNames {
    users: BTreeMap<u32, String>,
    groups: BTreeMap<u32, String>,
}

impl OwnerNames {
    pub(super) fn len(&self) -> usize {
        self.users.len() + self.groups.len()
    }
}

impl NodeMaker {
    pub(super) fn new(zone: TimeZone) -> Self {
        Self { zone, users: HashMap::new(), groups: HashMap::new() }
    }

    /// Whether all these users and groups have the names they had.
    pub(super) fn agrees(&mut self, names: &OwnerNames) -> bool {
        names.users.iter().all(|(uid, name)| self.user(*uid) == *name)
            && names.groups.iter().all(|(gid, name)| self.group(*gid) == *name)
    }

    /// All names that were looked up.
    pub(super) fn names(&self) -> OwnerNames {
        let sorted = |names: &HashMap<u32, String>| names.clone().into_iter().collect();
        OwnerNames { users: sorted(&self.users), groups: sorted(&self.groups) }
    }

    /// The node of a file, but for content, link target and extended attributes.
    pub(super) fn node(&mut self, name: &[u8], stat: &Stat) -> Node {
        let (kind, mode) = go_mode_of_unix(stat.mode);
        let mtime = self.time(stat.mtime);
        let mut node = Node::new(name, kind);
        node.mode = mode;
        node.mtime = mtime;
        // As restic does unless told otherwise: an access is no change worth a new tree.
        node.atime = mtime;
        node.ctime = if stat.ctime == stat.mtime { mtime } else { self.time(stat.ctime) };
        node.uid = stat.uid;
        node.gid = stat.gid;
        node.user = self.user(stat.uid);
        node.group = self.group(stat.gid);
        node.inode = stat.inode;
        node.device_id = stat.device_id;
        match stat.kind {
            Kind::File | Kind::Symlink => node.links = stat.links,
            Kind::BlockDevice | Kind::CharDevice => {
                (node.links, node.device) = (stat.links, stat.device);
            }
            _ => {}
        }
        if kind == NodeKind::File {
            node.size = stat.size;
        }
        node
    }

    fn time(&self, (seconds, nanoseconds): (i64, u32)) -> Time {
        let stamp = jiff::Timestamp::new(seconds, i32::try_from(nanoseconds).unwrap_or(0));
        let offset_seconds = stamp.map_or(0, |stamp| self.zone.to_offset(stamp).seconds());
        Time { seconds, nanoseconds, offset_seconds }
    }

    fn user(&mut self, uid: u32) -> String {
        let look = || User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name);
        self.users.entry(uid).or_insert_with(|| look().unwrap_or_default()).clone()
    }

    fn group(&mut self, gid: u32) -> String {
        let look = || Group::from_gid(Gid::from_raw(gid)).ok().flatten().map(|group| group.name);
        self.groups.entry(gid).or_insert_with(|| look().unwrap_or_default()).clone()
    }
}

/// The extended attributes of an open file or folder, in the order the system lists them.
pub(super) fn attributes_of_open(file: &File) -> io::Result<Vec<ExtendedAttribute>> {
    collect(file.list_xattr(), |name| file.get_xattr(name))
}

/// The extended attributes of something that is not opened, such as a pipe.
pub(super) fn attributes_at(path: &Path) -> io::Result<Vec<ExtendedAttribute>> {
    collect(xattr::list(path), |name| xattr::get(path, name))
}

fn collect(
    names: io::Result<xattr::XAttrs>,
    get: impl Fn(&OsString) -> io::Result<Option<Vec<u8>>>,
) -> io::Result<Vec<ExtendedAttribute>> {
    let names = match names {
        // A file system without attributes has none.
        Err(cause) if cause.raw_os_error() == Some(libc::ENOTSUP) => return Ok(Vec::new()),
        names => names?,
    };
    let mut attributes = Vec::new();
    for name in names {
        // One that was removed since it was listed is not there.
        if let Some(value) = get(&name)? {
            attributes.push(ExtendedAttribute { name: name.into_vec(), value });
        }
    }
    Ok(attributes)
}

/// Whether a file is, by all one can tell without reading, what it was in `before`.
pub(super) fn is_unchanged(now: &Node, before: &Node) -> bool {
    before.kind == NodeKind::File
        && before.content.is_some()
        && now.size == before.size
        && now.inode == before.inode
        && now.mtime.is_same_moment(&before.mtime)
        && now.ctime.is_same_moment(&before.ctime)
}
