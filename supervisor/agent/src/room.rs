//! How much of its volume an update may take: no more than it announced, and never so much that
//! nothing is left for everybody else.
//!
//! What a package unpacks to is announced by INFO's `extractsize`, which is in the file the depot
//! signed. One that says nothing is taken for a few times its signed length. A package larger than
//! it says is broken, or hostile, and will never be any better; one the volume has no room for is
//! neither.

use crate::problem::{Problem, Result};
use spk::extract::Limits;
use supervisor_dsm::Folder;

/// No update unpacks to more, whatever it announces, in bytes.
const CONTENT_BYTES_MAX: u64 = 4 << 30;

/// So much more than it announced is borne, in bytes: other tools count other things. A quarter of
/// what was announced is borne beside.
const CONTENT_BYTES_SLACK: u64 = 16 << 20;

/// A package that announces nothing is taken for so many times its length.
const UNSAID_TIMES: u64 = 8;

/// Names that any package may have.
const MEMBERS_MIN: u64 = 1000;

/// And one more for each so many bytes that it announces.
const MEMBER_BYTES: u64 = 256;

/// This share of the volume is left alone: a twentieth, but within these bounds, in bytes.
const RESERVE_SHARE: u64 = 20;
const RESERVE_BYTES_MIN: u64 = 64 << 20;
const RESERVE_BYTES_MAX: u64 = 1 << 30;

/// What a payload may take that announces so many bytes, where so many are to be had.
pub fn limits(announced_bytes: u64, room_bytes: u64) -> Limits {
    let quarter = announced_bytes / 4;
    let content = announced_bytes.saturating_add(quarter).saturating_add(CONTENT_BYTES_SLACK);
    let members = MEMBERS_MIN.saturating_add(announced_bytes / MEMBER_BYTES);
    Limits {
        members_max: usize::try_from(members).unwrap_or(usize::MAX),
        content_bytes_max: content.min(CONTENT_BYTES_MAX),
        room_bytes,
    }
}

/// What INFO announces, in bytes. Up to DSM 5.2 it counts bytes, since then kilobytes.
pub fn announced_bytes(extractsize: Option<&str>, dsm_major: u32, package_bytes: u64) -> u64 {
    let unit = if dsm_major < 6 { 1 } else { 1024 };
    match extractsize.and_then(|text| text.trim().parse::<u64>().ok()) {
        Some(number) => number.saturating_mul(unit).min(CONTENT_BYTES_MAX),
        None => package_bytes.saturating_mul(UNSAID_TIMES).min(CONTENT_BYTES_MAX),
    }
}

/// What may be written to the volume of a folder, in bytes. Where the system does not say, nothing
/// but the package's own word is a limit.
pub fn in_volume_of(folder: &Folder) -> u64 {
    folder.volume_bytes().map_or(u64::MAX, |(all, free)| free.saturating_sub(reserve_bytes(all)))
}

fn reserve_bytes(volume_bytes: u64) -> u64 {
    (volume_bytes / RESERVE_SHARE).clamp(RESERVE_BYTES_MIN, RESERVE_BYTES_MAX)
}

/// Goes on only when there is room for so many bytes beside a folder.
pub fn must_be_for(what: &str, bytes: u64, folder: &Folder) -> Result<()> {
    let room_bytes = in_volume_of(folder);
    if bytes <= room_bytes {
        return Ok(());
    }
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let (needed, room) = (mib(bytes), room_bytes >> 20);
    let place = folder.path().display();
    Err(Problem::new(format!("{what} needs {needed} MiB, and {place} has room for {room} MiB"))
        .remedy(format!(
            "free {} MiB on that volume, then try again; nothing was changed, and some of the \
             volume is always left for everything else",
            mib(bytes - room_bytes)
        )))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn an_update_may_unpack_to_what_it_announced_and_a_little_more() {
        let honest = limits(100 * MIB, 300 * MIB);
        assert_eq!(honest.content_bytes_max, 141 * MIB);
        assert_eq!((honest.members_max, honest.room_bytes), (1000 + 409_600, 300 * MIB));
        assert_eq!(limits(0, 0).content_bytes_max, 16 * MIB);
        assert_eq!(limits(u64::MAX, 0).content_bytes_max, CONTENT_BYTES_MAX);
    }

    #[test]
    fn what_is_announced_is_read_in_the_unit_of_its_dsm_and_never_believed_beyond_reason() {
        for (said, major, bytes) in [
            (Some("2048"), 7, 2 * MIB),
            (Some("2048"), 6, 2 * MIB),
            (Some("2048"), 5, 2048),
            (None, 7, 8 * MIB),
            (Some("much"), 7, 8 * MIB),
            (Some("-1"), 7, 8 * MIB),
            (Some("99999999999999"), 7, CONTENT_BYTES_MAX),
        ] {
            assert_eq!(announced_bytes(said, major, MIB), bytes, "{said:?} on DSM {major}");
        }
    }

    #[test]
    fn a_share_of_every_volume_is_left_alone() {
        for (volume, reserve) in [(500 * MIB, 64), (4096 * MIB, 204), (1 << 40, 1024)] {
            assert_eq!(reserve_bytes(volume) >> 20, reserve);
        }
    }
}
