//! Reading an SPK from any stream: a download, a file, standard input.
//!
//! The stream is read once, to its end, and hashed on the way; `package.tgz` is unpacked as it
//! passes, to learn what it holds, and kept nowhere. What is kept is bounded: [`KEPT_BYTES_MAX`] of
//! scripts, icons and settings, and a list of at most [`PAYLOAD_ENTRIES_MAX`] names.
//!
//! A [`ReadError`] means "this is no package". What *is* a package but will not install, or not on
//! every DSM, is [`crate::check`]'s business.

use crate::archive::{self, ArchiveError, Bounds, Head, Kind};
use crate::info::{self, Info, InfoError};
use md5::{Digest, Md5};
use sha2::Sha256;
use std::io::{self, Read};
use std::path::Path;

/// A larger package is refused, in bytes. Synology's own largest are near 2 GB.
pub const PACKAGE_BYTES_MAX: u64 = 4 << 30;

/// A payload that unpacks to more is refused, in bytes.
pub const UNPACKED_BYTES_MAX: u64 = 16 << 30;

/// Members of the outer archive.
pub const MEMBERS_MAX: usize = 1000;

/// Files and folders in `package.tgz`.
pub const PAYLOAD_ENTRIES_MAX: usize = 100_000;

/// All names in `package.tgz` together, in bytes.
pub const PAYLOAD_NAMES_BYTES_MAX: usize = 8 << 20;

/// Scripts, icons, wizards and settings are kept up to this size each, in bytes.
pub const MEMBER_BYTES_MAX: u64 = 1 << 20;

/// And up to this together, in bytes.
pub const KEPT_BYTES_MAX: u64 = 8 << 20;

/// A longer path is refused, in bytes.
const NAME_BYTES_MAX: usize = 1024;

/// A payload file called `config` (DSM's application list) is kept up to this size, in bytes.
const CONFIG_BYTES_MAX: u64 = 64 * 1024;

/// And so many of them.
const CONFIGS_MAX: usize = 16;

/// Zeros after the end of a payload's archive: tar fills its last record, nobody fills more.
const PADDING_BYTES_MAX: u64 = 1 << 20;

/// Memory an xz payload may ask for, in bytes; `xz -9` asks for 65 MiB.
const XZ_MEMORY_BYTES_MAX: u64 = 80 << 20;

/// The member every package is about.
pub const PAYLOAD: &str = "package.tgz";

/// An SPK, as it was read.
#[derive(Debug, Clone)]
pub struct Package {
    /// What INFO says.
    pub info: Info,
    /// Every member of the outer archive, in order, `package.tgz` included.
    pub members: Vec<Member>,
    /// What `package.tgz` holds.
    pub payload: Payload,
    /// Size of the SPK in bytes.
    pub bytes: u64,
    /// MD5 of the whole SPK in lower-case hex: what a catalog must say.
    pub md5: String,
    /// SHA-256 of the whole SPK in lower-case hex.
    pub sha256: String,
}

/// A member of the outer archive.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its header.
    pub head: Head,
    /// Its bytes; `None` for folders, links and `package.tgz`.
    pub content: Option<Vec<u8>>,
}

/// What was learnt about `package.tgz` as it passed.
#[derive(Debug, Clone, Default)]
pub struct Payload {
    /// MD5 of `package.tgz` in lower-case hex: what INFO's `checksum` must say.
    pub md5: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Sum of its files' sizes in bytes.
    pub unpacked_bytes: u64,
    /// How it is compressed.
    pub compression: Compression,
    /// Files, folders and links in it, in order.
    pub entries: Vec<PayloadEntry>,
    /// How many files called `config` were kept.
    configs: usize,
}

/// A file, folder or link inside `package.tgz`.
#[derive(Debug, Clone)]
pub struct PayloadEntry {
    /// Its header; the path is relative to `target/`.
    pub head: Head,
    /// The processor it is for, when it is a program or a library.
    pub machine: Option<Machine>,
    /// The content of a small file called `config`.
    pub content: Option<Vec<u8>>,
}

/// How `package.tgz` is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// gzip: every DSM.
    #[default]
    Gzip,
    /// xz: DSM 6 and later.
    Xz,
}

/// What an ELF file says about the processor it wants: `e_machine` and the word size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// `e_machine` of the ELF header.
    pub number: u16,
    /// 32 or 64.
    pub bits: u8,
}

/// Why a file is not a package that a Synology NAS will install.
///
/// `Display` says what is wrong with *this* file, in one line fit for a log. [`ReadError::remedy`]
/// says what its author should change; a terminal prints it under the message, a web page beside.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file itself could not be read.
    #[error("the package cannot be read")]
    Source(#[source] io::Error),
    /// Compressed as a whole.
    #[error("the whole package is {how}; DSM 7 refuses it (\"invalid file format\", error 263)")]
    Compressed {
        /// By what.
        how: &'static str,
    },
    /// The outer archive is unsound.
    #[error("the package is no sound archive")]
    Outer(#[source] ArchiveError),
    /// A member that must be there is not, or is not a file.
    #[error("the package has no file `{member}`")]
    MemberMissing {
        /// Its name.
        member: &'static str,
    },
    /// A member ends before its size.
    #[error("the package ends in the middle of `{member}`")]
    CutOff {
        /// Its name.
        member: String,
    },
    /// Larger than anything of its kind.
    #[error("{what} has {bytes} bytes; more than {bytes_max} are not accepted")]
    TooLarge {
        /// Member or whole.
        what: String,
        /// Its size; for a stream what was read of it.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// INFO is wrong.
    #[error("{0}")]
    Info(InfoError),
    /// `package.tgz` is unsound.
    #[error("package.tgz is no sound archive")]
    Payload(#[source] ArchiveError),
    /// `package.tgz` is neither gzip nor xz.
    #[error("package.tgz is neither gzip nor xz")]
    PayloadCompression,
}

impl ReadError {
    /// What the package's author should change.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Source(_) => "check the file's name and permissions, or download it again",
            Self::Compressed { .. } => {
                "uncompress the outer archive; only package.tgz is compressed"
            }
            Self::Outer(_) => {
                "make it a plain ustar archive; Synology's own signed packages are a format of \
                 their own, and a download that broke off looks like this too"
            }
            Self::MemberMissing { .. } => "add the file at the top of the archive",
            Self::CutOff { .. } => "download or build it again",
            Self::TooLarge { .. } => "make it smaller",
            Self::Info(error) => error.remedy(),
            Self::Payload(_) | Self::PayloadCompression => {
                "build package.tgz with tar and gzip; names inside are relative to target/"
            }
        }
    }
}

impl Package {
    /// Reads the SPK at `path`.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let file = std::fs::File::open(path).map_err(ReadError::Source)?;
        Self::read(io::BufReader::with_capacity(64 * 1024, file))
    }

    /// The same, when the payload may be one that was read before: if `package.tgz` has its
    /// checksum and size, it is hashed but not unpacked again.
    pub fn open_with(path: &Path, known: Option<Payload>) -> Result<Self, ReadError> {
        let file = std::fs::File::open(path).map_err(ReadError::Source)?;
        let source = io::BufReader::with_capacity(64 * 1024, file);
        match Self::read_with(source, known)? {
            Some(package) => Ok(package),
            None => Self::open(path),
        }
    }

    /// Reads an SPK from `source`, to its end.
    pub fn read(source: impl Read) -> Result<Self, ReadError> {
        let package = Self::read_with(source, None)?;
        package.ok_or(ReadError::MemberMissing { member: PAYLOAD })
    }

    /// `None` when the payload is not the one that is known.
    fn read_with(source: impl Read, known: Option<Payload>) -> Result<Option<Self>, ReadError> {
        let mut hashed = Hashed::new(source, Some(Sha256::new()), PACKAGE_BYTES_MAX);
        let start = start_of(&mut hashed).map_err(ReadError::Source)?;
        refuse_compressed(&start)?;
        let mut draft = Draft { known, ..Draft::default() };
        let whole = (&start[..]).chain(&mut hashed);
        let bounds = Bounds {
            members_max: MEMBERS_MAX,
            name_bytes_max: NAME_BYTES_MAX,
            names_bytes_max: MEMBERS_MAX * NAME_BYTES_MAX,
            content_bytes_max: PACKAGE_BYTES_MAX,
        };
        archive::walk(whole, bounds, |head, content| draft.take(head, content))?;
        io::copy(&mut hashed, &mut io::sink()).map_err(ReadError::Source)?;
        if hashed.is_over() {
            let bytes = hashed.bytes;
            let what = "the package".into();
            return Err(ReadError::TooLarge { what, bytes, bytes_max: PACKAGE_BYTES_MAX });
        }
        if draft.is_another {
            return Ok(None);
        }
        draft.finish(&hashed).map(Some)
    }

    /// The outer member at `path`.
    pub fn member(&self, path: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.head.path == path)
    }

    /// The bytes of the outer member at `path`.
    pub fn content(&self, path: &str) -> Option<&[u8]> {
        self.member(path)?.content.as_deref()
    }

    /// `PACKAGE_ICON.PNG`, 72 or 64 pixels wide.
    pub fn icon(&self) -> Option<&[u8]> {
        self.content("PACKAGE_ICON.PNG")
    }

    /// `PACKAGE_ICON_256.PNG`.
    pub fn icon_256(&self) -> Option<&[u8]> {
        self.content("PACKAGE_ICON_256.PNG")
    }

    /// The licence DSM shows before it installs.
    pub fn license(&self) -> Option<&[u8]> {
        self.content("LICENSE")
    }

    /// Whether a wizard asks something at `stage`: `install`, `upgrade` or `uninstall`.
    pub fn has_wizard(&self, stage: &str) -> bool {
        let prefix = format!("WIZARD_UIFILES/{stage}_uifile");
        let ends = |rest: &str| rest.is_empty() || rest.starts_with(['_', '.']);
        self.members.iter().any(|member| {
            member.content.is_some() && member.head.path.strip_prefix(&prefix).is_some_and(ends)
        })
    }

    /// The entry of `package.tgz` at `path`.
    pub fn payload_entry(&self, path: &str) -> Option<&PayloadEntry> {
        self.payload.entries.iter().find(|entry| entry.head.path == path)
    }
}

/// What `spk` knows while the stream passes.
#[derive(Default)]
struct Draft {
    members: Vec<Member>,
    kept_bytes: u64,
    payload: Option<Payload>,
    /// A payload that was looked at before, until `package.tgz` is met.
    known: Option<Payload>,
    /// `package.tgz` turned out to be another.
    is_another: bool,
}

impl Draft {
    fn take(&mut self, head: &Head, content: &mut dyn Read) -> Result<(), ReadError> {
        let mut kept = None;
        if head.path == PAYLOAD && head.kind == Kind::File {
            match self.known.take() {
                None => self.payload = Some(read_payload(content, head.bytes)?),
                Some(known) => {
                    let mut hashed = Hashed::new(content, None, head.bytes);
                    io::copy(&mut hashed, &mut io::sink()).map_err(ReadError::Source)?;
                    let md5 = hex::encode(hashed.md5.finalize());
                    self.is_another = (hashed.bytes, &md5) != (known.bytes, &known.md5);
                    self.payload = Some(known);
                }
            }
        } else if head.kind == Kind::File {
            let what = || format!("`{}`", head.path);
            let bytes_max =
                if head.path == "INFO" { info::INFO_BYTES_MAX } else { MEMBER_BYTES_MAX };
            self.kept_bytes += head.bytes;
            if head.bytes > bytes_max {
                return Err(ReadError::TooLarge { what: what(), bytes: head.bytes, bytes_max });
            }
            if self.kept_bytes > KEPT_BYTES_MAX {
                let what = format!("what surrounds {PAYLOAD}");
                let (bytes, bytes_max) = (self.kept_bytes, KEPT_BYTES_MAX);
                return Err(ReadError::TooLarge { what, bytes, bytes_max });
            }
            kept = Some(read_exactly(head, content)?);
        }
        self.members.push(Member { head: head.clone(), content: kept });
        Ok(())
    }

    fn finish<R>(self, hashed: &Hashed<R>) -> Result<Package, ReadError> {
        let found = self.members.iter().find(|member| member.head.path == "INFO");
        let text = found
            .and_then(|member| member.content.as_deref())
            .ok_or(ReadError::MemberMissing { member: "INFO" })?;
        let info = Info::parse(text).map_err(ReadError::Info)?;
        let payload = self.payload.ok_or(ReadError::MemberMissing { member: PAYLOAD })?;
        Ok(Package {
            info,
            members: self.members,
            payload,
            bytes: hashed.bytes,
            md5: hex::encode(hashed.md5.clone().finalize()),
            sha256: hashed
                .sha256
                .clone()
                .map(|sha256| hex::encode(sha256.finalize()))
                .unwrap_or_default(),
        })
    }
}

fn read_exactly(head: &Head, content: &mut dyn Read) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    content.read_to_end(&mut bytes).map_err(ReadError::Source)?;
    if bytes.len() as u64 != head.bytes {
        return Err(ReadError::CutOff { member: head.path.clone() });
    }
    Ok(bytes)
}

fn refuse_compressed(start: &[u8]) -> Result<(), ReadError> {
    let how = match start {
        [0x1f, 0x8b, ..] => "gzipped",
        [0xfd, b'7', b'z', b'X', b'Z', ..] => "compressed with xz",
        [b'B', b'Z', b'h', ..] => "compressed with bzip2",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "compressed with zstd",
        _ => return Ok(()),
    };
    Err(ReadError::Compressed { how })
}

fn read_payload(content: &mut dyn Read, bytes: u64) -> Result<Payload, ReadError> {
    let mut hashed = Hashed::new(content, None, bytes);
    let mut payload = Payload::default();
    let start = start_of(&mut hashed).map_err(ReadError::Source)?;
    let whole = (&start[..]).chain(&mut hashed);
    payload.compression = compression_of(&start)?;
    unpack(whole, payload.compression, PAYLOAD_BOUNDS, |head, content| {
        payload.take(head, content)
    })?;
    io::copy(&mut hashed, &mut io::sink()).map_err(ReadError::Source)?;
    if hashed.bytes != bytes {
        return Err(ReadError::CutOff { member: PAYLOAD.into() });
    }
    payload.bytes = hashed.bytes;
    payload.md5 = hex::encode(hashed.md5.finalize());
    Ok(payload)
}

/// How a stream that starts like this is compressed.
pub(crate) fn compression_of(start: &[u8]) -> Result<Compression, ReadError> {
    match start {
        [0x1f, 0x8b, ..] => Ok(Compression::Gzip),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => Ok(Compression::Xz),
        _ => Err(ReadError::PayloadCompression),
    }
}

/// What any `package.tgz` may hold.
pub(crate) const PAYLOAD_BOUNDS: Bounds = Bounds {
    members_max: PAYLOAD_ENTRIES_MAX,
    name_bytes_max: NAME_BYTES_MAX,
    names_bytes_max: PAYLOAD_NAMES_BYTES_MAX,
    content_bytes_max: UNPACKED_BYTES_MAX,
};

/// Walks `package.tgz`, and makes sure that nothing but padding follows its archive.
pub(crate) fn unpack(
    packed: impl Read,
    compression: Compression,
    bounds: Bounds,
    mut visit: impl FnMut(&Head, &mut dyn Read) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    let unreadable = |error| ReadError::Payload(ArchiveError::Unreadable(error));
    let mut plain: Box<dyn Read + '_> = match compression {
        Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(packed)),
        Compression::Xz => {
            let stream = xz2::stream::Stream::new_stream_decoder(XZ_MEMORY_BYTES_MAX, 0)
                .map_err(|error| unreadable(error.into()))?;
            Box::new(xz2::read::XzDecoder::new_stream(packed, stream))
        }
    };
    let inner = |error| match error {
        ReadError::Outer(error) => ReadError::Payload(error),
        other => other,
    };
    archive::walk(&mut plain, bounds, |head, content| visit(head, content)).map_err(inner)?;
    let mut rest = plain.take(PADDING_BYTES_MAX);
    if io::copy(&mut rest, &mut io::sink()).map_err(unreadable)? == PADDING_BYTES_MAX {
        let max = PADDING_BYTES_MAX;
        let what = "bytes after its end";
        return Err(ReadError::Payload(ArchiveError::Bound { what, max }));
    }
    Ok(())
}

impl Payload {
    fn take(&mut self, head: &Head, content: &mut dyn Read) -> Result<(), ReadError> {
        let unreadable = |error| ReadError::Payload(ArchiveError::Unreadable(error));
        let mut entry = PayloadEntry { head: head.clone(), machine: None, content: None };
        if head.kind == Kind::File {
            let mut start = Vec::new();
            let wants_all = head.path.ends_with("/config")
                && head.bytes <= CONFIG_BYTES_MAX
                && self.configs < CONFIGS_MAX;
            self.configs += usize::from(wants_all);
            let bytes_wanted = if wants_all { CONFIG_BYTES_MAX } else { 20 };
            content.take(bytes_wanted).read_to_end(&mut start).map_err(unreadable)?;
            self.unpacked_bytes += head.bytes;
            entry.machine = Machine::of(&start);
            entry.content = wants_all.then_some(start);
        }
        self.entries.push(entry);
        Ok(())
    }
}

impl Machine {
    /// Reads the beginning of an ELF file.
    fn of(start: &[u8]) -> Option<Self> {
        let (word, number) = match start {
            [0x7f, b'E', b'L', b'F', word, 1, ..] if start.len() >= 20 => {
                (*word, u16::from_le_bytes([start[18], start[19]]))
            }
            [0x7f, b'E', b'L', b'F', word, 2, ..] if start.len() >= 20 => {
                (*word, u16::from_be_bytes([start[18], start[19]]))
            }
            _ => return None,
        };
        Some(Self { number, bits: if word == 2 { 64 } else { 32 } })
    }
}

impl From<ArchiveError> for ReadError {
    fn from(error: ArchiveError) -> Self {
        Self::Outer(error)
    }
}

/// A reader that hashes and counts what passes, and stops soon after a limit.
struct Hashed<R> {
    source: R,
    md5: Md5,
    sha256: Option<Sha256>,
    bytes: u64,
    bytes_max: u64,
}

impl<R: Read> Hashed<R> {
    fn new(source: R, sha256: Option<Sha256>, bytes_max: u64) -> Self {
        Self { source, md5: Md5::new(), sha256, bytes: 0, bytes_max }
    }

    fn is_over(&self) -> bool {
        self.bytes > self.bytes_max
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_over() {
            return Ok(0);
        }
        let count = self.source.read(buffer)?;
        self.md5.update(&buffer[..count]);
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(&buffer[..count]);
        }
        self.bytes += count as u64;
        Ok(count)
    }
}

/// The first bytes of a stream, enough to know what it is.
pub(crate) fn start_of(source: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    source.take(6).read_to_end(&mut start)?;
    Ok(start)
}
