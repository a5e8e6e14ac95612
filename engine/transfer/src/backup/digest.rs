//! What a folder is like, in one sum: everything of it and its entries that enters its tree and
//! that can be told without opening anything.
//!
//! SHA-256, whole: nobody can make two folders of one sum. Of folders in it only the names are in
//! the sum; what they are like is in their own.

use crate::posix::{Kind, Stat};
use engine_repository::{Hasher, Id};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The slowest clock of a kernel ticks 100 times a second: what changed so shortly ago may change
/// again without its time of change telling.
const TICK_MAX: Duration = Duration::from_millis(100);
/// So much is gathered before it is hashed.
const GATHERED_BYTES: usize = 8 << 10;
/// Numbers of one entry.
const STAT_BYTES: usize = 80;

/// The sum of one folder, while it is looked at.
pub(super) struct FolderDigest {
    hasher: Hasher,
    gathered: Vec<u8>,
    newest: (i64, u32),
}

impl FolderDigest {
    /// Begins with the folder itself.
    pub(super) fn of(own: &Stat) -> Self {
        let gathered = Vec::with_capacity(GATHERED_BYTES + 512);
        let mut digest = Self { hasher: Hasher::new(), gathered, newest: own.ctime };
        // Neither is in a folder's node, and both change with what the sums of others tell.
        digest.stat(&Stat { size: 0, links: 0, ..*own });
        digest
    }

    /// The next entry, in the order of names.
    pub(super) fn entry(&mut self, name: &[u8], stat: &Stat) {
        // No name has 64 KiB.
        self.gathered.extend_from_slice(&(name.len() as u16).to_le_bytes());
        self.gathered.extend_from_slice(name);
        match stat.kind {
            Kind::Folder => self.gathered.push(1),
            _ => {
                self.gathered.push(0);
                self.stat(stat);
                self.newest = self.newest.max(stat.ctime);
            }
        }
        if self.gathered.len() >= GATHERED_BYTES {
            self.hasher.update(&self.gathered);
            self.gathered.clear();
        }
    }

    fn stat(&mut self, stat: &Stat) {
        self.gathered.extend_from_slice(&numbers(stat));
    }

    /// The sum; and whether it tells all changes since `looked_at`.
    pub(super) fn finish(mut self, looked_at: SystemTime) -> (Id, bool) {
        self.hasher.update(&self.gathered);
        let (seconds, nanoseconds) = self.newest;
        let newest = Duration::new(u64::try_from(seconds).unwrap_or(0), nanoseconds);
        let looked_at = looked_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        (self.hasher.finish(), newest.saturating_add(TICK_MAX) < looked_at)
    }
}

/// Whether two looks at a file saw the same.
pub(super) fn is_same(one: &Stat, other: &Stat) -> bool {
    numbers(one) == numbers(other)
}

fn numbers(stat: &Stat) -> [u8; STAT_BYTES] {
    let (mtime, ctime) = (stat.mtime, stat.ctime);
    let words = [
        u64::from(stat.mode) | u64::from(stat.uid) << 32,
        u64::from(stat.gid) | u64::from(mtime.1) << 32,
        u64::from(ctime.1),
        stat.size,
        stat.inode,
        stat.device_id,
        stat.links,
        stat.device,
        mtime.0.cast_unsigned(),
        ctime.0.cast_unsigned(),
    ];
    let mut bytes = [0; STAT_BYTES];
    for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}
