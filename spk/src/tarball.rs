//! Writing tar archives that DSM, spkrepo and busybox all read, the same bytes each time.
//!
//! **Invariant:** plain ustar without extensions, names without `./`, owner root, one time stamp
//! for everything, folders 0755: a tree whose folders lost their x bits installs and cannot start.

use std::io::{self, Read, Write};
use tar::{EntryType, Header};

/// The time stamp of every member: 2020-01-01T00:00:00Z, in seconds. Zero would do for DSM, but
/// makes some tools complain.
pub const MTIME_SECONDS: u64 = 1_577_836_800;

/// The largest size a ustar header can say, in bytes.
pub const FILE_BYTES_MAX: u64 = (8 << 30) - 1;

/// Writes one archive.
pub struct Tarball<W: Write> {
    out: W,
    bytes: u64,
}

impl<W: Write> Tarball<W> {
    /// An archive into `out`.
    pub fn new(out: W) -> Self {
        Self { out, bytes: 0 }
    }

    /// An archive that goes on after `bytes` bytes that are in `out` already.
    pub fn after(out: W, bytes: u64) -> Self {
        Self { out, bytes }
    }

    /// A folder.
    pub fn folder(&mut self, path: &str) -> io::Result<()> {
        self.header(&format!("{path}/"), EntryType::Directory, 0o755, 0, None)
    }

    /// A file of `bytes` bytes; an error when `content` has more or fewer.
    pub fn file(
        &mut self,
        path: &str,
        mode: u32,
        bytes: u64,
        content: &mut dyn Read,
    ) -> io::Result<()> {
        self.header(path, EntryType::Regular, mode, bytes, None)?;
        let copied = io::copy(&mut content.take(bytes + 1), &mut self.out)?;
        if copied != bytes {
            let text = format!("it had {bytes} bytes and now has another size");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        self.bytes += copied;
        self.pad(512)
    }

    /// A symbolic link.
    pub fn symlink(&mut self, path: &str, link: &str) -> io::Result<()> {
        self.header(path, EntryType::Symlink, 0o777, 0, Some(link))
    }

    /// Ends the archive and hands its writer back.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 1024])?;
        self.bytes += 1024;
        self.pad(10_240)?;
        Ok(self.out)
    }

    fn header(
        &mut self,
        path: &str,
        kind: EntryType,
        mode: u32,
        bytes: u64,
        link: Option<&str>,
    ) -> io::Result<()> {
        let mut header = Header::new_ustar();
        header.set_path(path)?;
        if let Some(link) = link {
            header.set_link_name_literal(link)?;
        }
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(bytes);
        header.set_mtime(MTIME_SECONDS);
        header.set_uid(0);
        header.set_gid(0);
        header.set_username("root")?;
        header.set_groupname("root")?;
        header.set_device_major(0)?;
        header.set_device_minor(0)?;
        header.set_cksum();
        self.out.write_all(header.as_bytes())?;
        self.bytes += 512;
        Ok(())
    }

    fn pad(&mut self, block_bytes: u64) -> io::Result<()> {
        let bytes = self.bytes.next_multiple_of(block_bytes) - self.bytes;
        self.bytes += bytes;
        io::copy(&mut io::repeat(0).take(bytes), &mut self.out).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_plain_ustar_owned_by_root_at_one_time() {
        let mut tarball = Tarball::new(Vec::new());
        tarball.folder("scripts").unwrap();
        tarball.file("scripts/start", 0o755, 2, &mut &b"ok"[..]).unwrap();
        let bytes = tarball.finish().unwrap();
        assert_eq!(bytes.len(), 10_240);
        assert_eq!(&bytes[..9], b"scripts/\0");
        let header = Header::from_byte_slice(&bytes[512..1024]);
        assert_eq!(&header.as_ustar().unwrap().magic, b"ustar\0");
        assert_eq!((header.uid().unwrap(), header.mtime().unwrap()), (0, MTIME_SECONDS));
        assert_eq!(header.username().unwrap(), Some("root"));
    }

    #[test]
    fn a_file_that_changes_while_it_is_packed_is_noticed() {
        for content in [&b"a"[..], b"abc"] {
            let mut tarball = Tarball::new(Vec::new());
            assert!(tarball.file("x", 0o644, 2, &mut &content[..]).is_err());
        }
    }

    #[test]
    fn a_name_ustar_cannot_say_is_an_error_and_not_an_extension() {
        let mut tarball = Tarball::new(Vec::new());
        assert!(tarball.folder(&"x".repeat(200)).is_err());
        let split = format!("{}/{}", "d".repeat(90), "f".repeat(90));
        assert!(tarball.folder(&split).is_ok());
    }
}
