//! Tar archives of strangers, walked by hand: closed by default, bounded, streamed.
//!
//! The `tar` crate decodes the headers; everything that could reserve memory or name a place
//! (long names, extended headers, links) is read here, under limits.
//!
//! **Invariant:** a path handed to a visitor is relative, UTF-8, without `..`, without a leading
//! `./`, shorter than [`Bounds::name_bytes_max`], and new: no archive names a file twice.

use std::collections::HashSet;
use std::io::{self, Read};
use tar::EntryType;

/// What one archive may hold.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Number of members.
    pub members_max: usize,
    /// Length of one path, in bytes.
    pub name_bytes_max: usize,
    /// Length of all paths together, in bytes.
    pub names_bytes_max: usize,
    /// Sum of the members' sizes, in bytes.
    pub content_bytes_max: u64,
}

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// Another name of a file before it.
    HardLink,
    /// A device, a pipe, or something unheard of.
    Other,
}

/// A member's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Its path: relative, without `..`, without leading `./` or trailing `/`.
    pub path: String,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, with setuid and its like.
    pub mode: u32,
    /// Owner's number.
    pub owner: u64,
    /// Size in bytes.
    pub bytes: u64,
    /// Where a link points.
    pub link: Option<String>,
    /// The path was written with a leading `./`.
    pub is_dotted: bool,
    /// It needed a PAX or GNU extension to say its name.
    pub is_extended: bool,
}

/// Why an archive is not accepted. The archive's name comes from the caller.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Not tar, or cut off.
    #[error("it cannot be read as tar")]
    Unreadable(#[source] io::Error),
    /// A path that leads out, or is no text.
    #[error("its member `{path}` leads outside, or has a name that is no text")]
    Path {
        /// The path as written, its beginning.
        path: String,
    },
    /// One path, two members.
    #[error("it holds `{path}` twice")]
    Twice {
        /// The path.
        path: String,
    },
    /// Too many of something.
    #[error("it has more than {max} {what}")]
    Bound {
        /// Of what.
        what: &'static str,
        /// The limit.
        max: u64,
    },
}

/// A long name or a set of extended attributes larger than this is refused, in bytes.
const EXTENSION_BYTES_MAX: u64 = 64 * 1024;

/// And all of them together: nothing else bounds how much a small archive unpacks to in them.
const EXTENSIONS_BYTES_MAX: u64 = 64 << 20;

/// Calls `visit` for every member with its content, in order.
pub fn walk<E: From<ArchiveError>>(
    source: impl Read,
    bounds: Bounds,
    mut visit: impl FnMut(&Head, &mut dyn Read) -> Result<(), E>,
) -> Result<(), E> {
    let mut archive = tar::Archive::new(source);
    let entries = archive.entries().map_err(ArchiveError::Unreadable)?.raw(true);
    let mut seen: HashSet<String> = HashSet::new();
    let mut extension = Extension::default();
    let (mut headers, mut names_bytes, mut content_bytes) = (0_usize, 0_usize, 0_u64);
    let mut extensions_bytes = 0_u64;
    for entry in entries {
        let mut entry = entry.map_err(ArchiveError::Unreadable)?;
        headers += 1;
        // Each member may bring a few extension headers of its own.
        if seen.len() > bounds.members_max || headers > bounds.members_max.saturating_mul(4) {
            let max = bounds.members_max as u64;
            return Err(ArchiveError::Bound { what: "members", max }.into());
        }
        if extension.absorb(&mut entry)? {
            extensions_bytes += entry.size();
            if extensions_bytes > EXTENSIONS_BYTES_MAX {
                let (what, max) = ("bytes in extended headers", EXTENSIONS_BYTES_MAX);
                return Err(ArchiveError::Bound { what, max }.into());
            }
            continue;
        }
        let Some(head) = head(&entry, std::mem::take(&mut extension), bounds)? else { continue };
        names_bytes += head.path.len() + head.link.as_ref().map_or(0, String::len);
        if names_bytes > bounds.names_bytes_max {
            let max = bounds.names_bytes_max as u64;
            return Err(ArchiveError::Bound { what: "bytes of names", max }.into());
        }
        content_bytes = content_bytes.saturating_add(head.bytes);
        if content_bytes > bounds.content_bytes_max {
            let max = bounds.content_bytes_max;
            return Err(ArchiveError::Bound { what: "bytes of content", max }.into());
        }
        if !seen.insert(head.path.clone()) {
            if head.kind == Kind::Directory {
                continue;
            }
            return Err(ArchiveError::Twice { path: head.path }.into());
        }
        visit(&head, &mut entry)?;
    }
    Ok(())
}

/// What extension headers said about the member after them.
#[derive(Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    is_used: bool,
}

impl Extension {
    /// Takes in an extension header; false when `entry` is a real member.
    fn absorb<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>) -> Result<bool, ArchiveError> {
        let kind = entry.header().entry_type();
        let is_extension = matches!(
            kind,
            EntryType::GNULongName
                | EntryType::GNULongLink
                | EntryType::XHeader
                | EntryType::XGlobalHeader
        );
        if !is_extension {
            return Ok(false);
        }
        if entry.size() > EXTENSION_BYTES_MAX {
            let max = EXTENSION_BYTES_MAX;
            return Err(ArchiveError::Bound { what: "bytes in an extended header", max });
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(ArchiveError::Unreadable)?;
        self.is_used = true;
        match kind {
            EntryType::GNULongName => self.path = Some(until_zero(bytes)),
            EntryType::GNULongLink => self.link = Some(until_zero(bytes)),
            EntryType::XHeader => self.absorb_pax(&bytes)?,
            _ => {}
        }
        Ok(true)
    }

    fn absorb_pax(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        for record in tar::PaxExtensions::new(bytes) {
            let record = record.map_err(ArchiveError::Unreadable)?;
            match record.key_bytes() {
                b"path" => self.path = Some(record.value_bytes().to_vec()),
                b"linkpath" => self.link = Some(record.value_bytes().to_vec()),
                b"size" => {
                    let refused = io::Error::other("a size in an extended header");
                    return Err(ArchiveError::Unreadable(refused));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn until_zero(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

/// The member's header, checked; `None` for the archive's own root (`./`).
fn head<R: Read>(
    entry: &tar::Entry<'_, R>,
    extension: Extension,
    bounds: Bounds,
) -> Result<Option<Head>, ArchiveError> {
    let header = entry.header();
    let raw_path = extension.path.unwrap_or_else(|| header.path_bytes().into_owned());
    let shown: String = String::from_utf8_lossy(&raw_path).chars().take(80).collect();
    let refused = || ArchiveError::Path { path: shown.clone() };
    if raw_path.len() > bounds.name_bytes_max {
        return Err(refused());
    }
    let written = String::from_utf8(raw_path).map_err(|_| refused())?;
    let kind = match header.entry_type() {
        EntryType::Regular | EntryType::Continuous if written.ends_with('/') => Kind::Directory,
        EntryType::Regular | EntryType::Continuous => Kind::File,
        EntryType::Directory => Kind::Directory,
        EntryType::Symlink => Kind::Symlink,
        EntryType::Link => Kind::HardLink,
        _ => Kind::Other,
    };
    let is_dotted = written == "." || written.starts_with("./");
    let Some(path) = inner_path(&written) else { return Err(refused()) };
    if path.is_empty() {
        return if is_dotted && kind == Kind::Directory { Ok(None) } else { Err(refused()) };
    }
    let link = match kind {
        Kind::Symlink | Kind::HardLink => {
            let bytes = match extension.link {
                Some(bytes) => bytes,
                None => header.link_name_bytes().map(|b| b.into_owned()).unwrap_or_default(),
            };
            Some(String::from_utf8(bytes).map_err(|_| refused())?)
        }
        _ => None,
    };
    Ok(Some(Head {
        path,
        kind,
        mode: header.mode().map_err(ArchiveError::Unreadable)? & 0o7777,
        owner: header.uid().map_err(ArchiveError::Unreadable)?,
        bytes: entry.size(),
        link,
        is_dotted,
        is_extended: extension.is_used,
    }))
}

/// A path as written, without `.` parts; `None` when it would lead outside.
pub fn inner_path(written: &str) -> Option<String> {
    if written.starts_with('/') || written.chars().any(char::is_control) {
        return None;
    }
    let mut parts = Vec::new();
    for part in written.split('/') {
        match part {
            "" | "." => {}
            ".." => return None,
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Whether a symbolic link at `path` that says `link` stays inside the archive's own tree.
pub fn link_stays_inside(path: &str, link: &str) -> bool {
    if link.is_empty() || link.starts_with('/') || link.contains('\0') {
        return false;
    }
    let mut depth = path.split('/').count() - 1;
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." if depth == 0 => return false,
            ".." => depth -= 1,
            _ => depth += 1,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Bounds = Bounds {
        members_max: 8,
        name_bytes_max: 90,
        names_bytes_max: 200,
        content_bytes_max: 10_000,
    };

    /// One member with its name and link written raw, as no honest tool would.
    fn member(path: &str, kind: EntryType, link: &str, content: &[u8]) -> Vec<u8> {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_size(content.len() as u64);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }

    fn file(path: &str) -> Vec<u8> {
        member(path, EntryType::Regular, "", b"content")
    }

    fn walked(members: &[Vec<u8>]) -> Result<Vec<Head>, ArchiveError> {
        let mut bytes = members.concat();
        bytes.extend([0; 1024]);
        let mut heads = Vec::new();
        walk(&bytes[..], SMALL, |head, _| {
            heads.push(head.clone());
            Ok::<(), ArchiveError>(())
        })?;
        Ok(heads)
    }

    #[test]
    fn no_name_leads_outside() {
        for path in ["/etc/passwd", "../x", "a/../../x", "a/..", "..", "a\nb", "a\u{7f}"] {
            let refused = walked(&[file(path)]).unwrap_err();
            assert!(matches!(refused, ArchiveError::Path { .. }), "{path:?}: {refused}");
        }
        let long = member("x", EntryType::GNULongName, "", b"../../etc/passwd\0");
        assert!(matches!(walked(&[long, file("x")]), Err(ArchiveError::Path { .. })));
        let pax = member("x", EntryType::XHeader, "", b"16 path=../../x\n");
        assert!(matches!(walked(&[pax, file("x")]), Err(ArchiveError::Path { .. })));
    }

    #[test]
    fn dots_are_taken_off_and_remembered() {
        let root = member("./", EntryType::Directory, "", b"");
        let heads = walked(&[root, file("./INFO"), file("scripts//start")]).unwrap();
        assert_eq!((heads[0].path.as_str(), heads[0].is_dotted), ("INFO", true));
        assert_eq!((heads[1].path.as_str(), heads[1].is_dotted), ("scripts/start", false));
    }

    #[test]
    fn an_archive_names_each_file_once_however_it_is_spelt() {
        let refused = walked(&[file("INFO"), file("./INFO")]).unwrap_err();
        assert!(matches!(refused, ArchiveError::Twice { .. }), "{refused}");
    }

    #[test]
    fn every_count_and_size_is_bounded() {
        let many: Vec<_> = (0..10).map(|n| file(&format!("f{n}"))).collect();
        assert!(matches!(walked(&many), Err(ArchiveError::Bound { what: "members", .. })));
        let wordy: Vec<_> = (0..3).map(|n| file(&format!("{n}{}", "x".repeat(80)))).collect();
        assert!(matches!(walked(&wordy), Err(ArchiveError::Bound { what: "bytes of names", .. })));
        let mut huge = tar::Header::new_ustar();
        huge.set_path("huge").unwrap();
        huge.set_size(1 << 40);
        huge.set_mode(0o644);
        huge.set_uid(0);
        huge.set_cksum();
        let refused = walked(&[huge.as_bytes().to_vec()]).unwrap_err();
        assert!(matches!(refused, ArchiveError::Bound { what: "bytes of content", .. }));
        huge.set_entry_type(EntryType::GNULongName);
        huge.set_cksum();
        assert!(matches!(walked(&[huge.as_bytes().to_vec()]), Err(ArchiveError::Bound { .. })));
        let names: Vec<_> =
            (0..40).map(|_| member("x", EntryType::GNULongName, "", b"y\0")).collect();
        assert!(matches!(walked(&names), Err(ArchiveError::Bound { .. })));
    }

    #[test]
    fn an_archive_cut_off_is_not_read_as_a_shorter_one() {
        let whole = file("INFO");
        let mut heads = Vec::new();
        let read = walk(&whole[..514], SMALL, |head, content| {
            heads.push(head.clone());
            io::copy(content, &mut io::sink()).map_err(ArchiveError::Unreadable)?;
            Ok::<(), ArchiveError>(())
        });
        assert!(read.is_err() || heads[0].bytes == 7, "the reader of the content must notice");
    }

    #[test]
    fn a_link_stays_inside_or_is_known_not_to() {
        assert!(link_stays_inside("lib/libx.so", "libx.so.1"));
        assert!(link_stays_inside("bin/x", "../lib/x"));
        assert!(!link_stays_inside("bin/x", "../../x"));
        assert!(!link_stays_inside("x", ".."));
        assert!(!link_stays_inside("x", "/etc/passwd"));
        assert!(!link_stays_inside("x", "a/../../b"));
    }
}
