//! File modes: Go's, which trees hold, and Unix's, which the kernel gives.

use super::NodeKind;

const GO_SETUID: u32 = 1 << 23;
const GO_SETGID: u32 = 1 << 22;
const GO_STICKY: u32 = 1 << 20;
const UNIX_SETUID: u32 = 0o4000;
const UNIX_SETGID: u32 = 0o2000;
const UNIX_STICKY: u32 = 0o1000;
const PERMISSIONS: u32 = 0o777;
const UNIX_KIND: u32 = 0o170_000;

/// Kind, Go's bits for it, and Unix's.
const KINDS: [(NodeKind, u32, u32); 7] = [
    (NodeKind::File, 0, 0o100_000),
    (NodeKind::Directory, 1 << 31, 0o040_000),
    (NodeKind::Symlink, 1 << 27, 0o120_000),
    (NodeKind::BlockDevice, 1 << 26, 0o060_000),
    (NodeKind::CharDevice, 1 << 26 | 1 << 21, 0o020_000),
    (NodeKind::Fifo, 1 << 25, 0o010_000),
    (NodeKind::Socket, 1 << 24, 0o140_000),
];
const GO_IRREGULAR: u32 = 1 << 19;

/// Bits and what they become, one way or the other.
const SPECIAL: [(u32, u32); 3] =
    [(GO_SETUID, UNIX_SETUID), (GO_SETGID, UNIX_SETGID), (GO_STICKY, UNIX_STICKY)];

/// What kind of node a file with this `st_mode` is, and its mode in a tree.
pub fn go_mode_of_unix(st_mode: u32) -> (NodeKind, u32) {
    let (kind, bits) = KINDS
        .iter()
        .find(|(_, _, unix)| *unix == st_mode & UNIX_KIND)
        .map_or((NodeKind::Irregular, GO_IRREGULAR), |(kind, go, _)| (*kind, *go));
    let special = SPECIAL.iter().filter(|(_, unix)| st_mode & unix != 0).map(|(go, _)| go);
    (kind, special.fold(bits | st_mode & PERMISSIONS, |mode, bit| mode | bit))
}

/// The permission bits of a mode in a tree as `chmod` takes them: twelve of them, no kind.
pub fn unix_mode_of_go(mode: u32) -> u32 {
    let special = SPECIAL.iter().filter(|(go, _)| mode & go != 0).map(|(_, unix)| unix);
    special.fold(mode & PERMISSIONS, |mode, bit| mode | bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_the_ones_restic_was_seen_to_write() {
        for (st_mode, kind, go) in [
            (0o040_755, NodeKind::Directory, 2_147_484_141),
            (0o060_640, NodeKind::BlockDevice, 67_109_280),
            (0o020_644, NodeKind::CharDevice, 69_206_436),
            (0o010_644, NodeKind::Fifo, 33_554_852),
            (0o120_777, NodeKind::Symlink, 134_218_239),
            (0o106_755, NodeKind::File, 12_583_405),
            (0o041_777, NodeKind::Directory, 2_148_532_735),
        ] {
            assert_eq!(go_mode_of_unix(st_mode), (kind, go), "{st_mode:o}");
            assert_eq!(unix_mode_of_go(go), st_mode & 0o7777);
        }
    }
}
