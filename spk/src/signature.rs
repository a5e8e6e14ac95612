//! What DSM 5.1 to 6.2 verify about a package: which bytes a signature is about, and where it is.
//!
//! A signature is an OpenPGP one in the member `syno_signature.asc`, the last of the archive. It
//! is about the contents, without names or lengths, of INFO, LICENSE, the icons of 72, 120 and 256
//! pixels, the wizards, everything in `conf`, `package.tgz` and everything in `scripts`, in this
//! order, each group sorted by name. Other members are not signed. DSM trusts what Synology's time
//! stamp server countersigned; DSM 7 knows no such signatures and passes over the member.
//!
//! **Not here:** OpenPGP itself. It is large, needed by packagers only, and in `openpgp`.

use crate::archive::inner_path;
use crate::read::{PAYLOAD, Package, ReadError};
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The member a signature is in.
pub const MEMBER: &str = "syno_signature.asc";

/// What a package says about its origin, without a key to believe it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No signature.
    Unsigned,
    /// A detached signature of the packager, without a time stamp.
    Signed,
    /// A message of somebody who saw the signature: the time stamp server.
    Stamped,
    /// A member of that name that is no signature.
    Unreadable,
}

impl State {
    /// What the package carries.
    pub fn of(package: &Package) -> Self {
        let Some(member) = package.member(MEMBER) else { return Self::Unsigned };
        let text = member.content.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
        if text.contains("-----BEGIN PGP SIGNATURE-----") {
            Self::Signed
        } else if text.contains("-----BEGIN PGP MESSAGE-----") {
            Self::Stamped
        } else {
            Self::Unreadable
        }
    }

    /// In words.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Unsigned => {
                "not signed: DSM 5 and 6 install it with the trust level \"Any publisher\" only; \
                 DSM 7 shows one warning"
            }
            Self::Signed => {
                "signed without a time stamp: `spk verify` can tell by whom; DSM 5 and 6 want \
                 Synology's time stamp as well, DSM 7 does not look"
            }
            Self::Stamped => "signed and time-stamped; `spk verify` can tell by whom",
            Self::Unreadable => "its syno_signature.asc is no OpenPGP signature",
        }
    }
}

/// The members a signature is about, in its order.
pub fn signed_members(package: &Package) -> Vec<&str> {
    let files = package.members.iter().filter(|member| {
        let is_payload = member.head.path == PAYLOAD;
        is_payload || member.content.is_some()
    });
    let mut members: Vec<(usize, &str)> = files
        .filter_map(|member| Some((group(&member.head.path)?, member.head.path.as_str())))
        .collect();
    members.sort_unstable();
    members.into_iter().map(|(_, path)| path).collect()
}

/// Which group of signed members a path belongs to.
fn group(path: &str) -> Option<usize> {
    const ICONS: [&str; 3] = ["PACKAGE_ICON.PNG", "PACKAGE_ICON_120.PNG", "PACKAGE_ICON_256.PNG"];
    let below = |folder: &str| path.strip_prefix(folder).is_some_and(|rest| !rest.is_empty());
    match path {
        "INFO" => Some(0),
        "LICENSE" => Some(1),
        path if ICONS.contains(&path) => Some(2),
        path if path.strip_prefix("WIZARD_UIFILES/").is_some_and(is_wizard) => Some(3),
        _ if below("conf/") => Some(4),
        PAYLOAD => Some(5),
        _ if below("scripts/") => Some(6),
        _ => None,
    }
}

/// `install_uifile`, `upgrade_uifile_ger`, `uninstall_uifile.sh` and so on.
fn is_wizard(name: &str) -> bool {
    let name = name.strip_suffix(".sh").unwrap_or(name);
    ["install", "upgrade", "uninstall"].iter().any(|stage| {
        let rest = name.strip_prefix(stage).and_then(|rest| rest.strip_prefix("_uifile"));
        rest.is_some_and(|rest| {
            let language = rest.strip_prefix('_');
            let is_code =
                |code: &str| code.len() == 3 && code.bytes().all(|b| b.is_ascii_lowercase());
            rest.is_empty() || language.is_some_and(is_code)
        })
    })
}

/// The bytes a signature is about, as a stream.
pub struct Signed<'a> {
    parts: Vec<Part<'a>>,
}

enum Part<'a> {
    Kept(Cursor<&'a [u8]>),
    Payload { file: File, rest: u64 },
}

impl<'a> Signed<'a> {
    /// What is signed of the `package` that was read from the file at `path`.
    pub fn of(package: &'a Package, path: &Path) -> io::Result<Self> {
        let mut parts = Vec::new();
        for name in signed_members(package) {
            parts.push(if name == PAYLOAD {
                let mut file = File::open(path)?;
                let place = members(&mut file)?.into_iter().find(|member| member.path == PAYLOAD);
                let place = place.ok_or(io::ErrorKind::UnexpectedEof)?;
                file.seek(SeekFrom::Start(place.content_from))?;
                Part::Payload { file, rest: place.bytes }
            } else {
                Part::Kept(Cursor::new(package.content(name).unwrap_or_default()))
            });
        }
        parts.reverse();
        Ok(Self { parts })
    }
}

impl Read for Signed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(part) = self.parts.last_mut() {
            let count = match part {
                Part::Kept(bytes) => bytes.read(buffer)?,
                Part::Payload { file, rest } => {
                    let count = file.take(*rest).read(buffer)?;
                    *rest -= count as u64;
                    if count == 0 && *rest > 0 && !buffer.is_empty() {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    count
                }
            };
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            self.parts.pop();
        }
        Ok(0)
    }
}

/// Where a member lies in the outer archive, in bytes from its start.
struct Place {
    path: String,
    header_from: u64,
    content_from: u64,
    bytes: u64,
}

impl Place {
    fn end(&self) -> u64 {
        self.content_from + self.bytes.next_multiple_of(512)
    }
}

/// The headers of an archive that was read before, extension headers among them.
fn members(file: &mut File) -> io::Result<Vec<Place>> {
    file.rewind()?;
    let mut archive = tar::Archive::new(file);
    let mut places = Vec::new();
    for entry in archive.entries_with_seek()?.raw(true) {
        let entry = entry?;
        if places.len() > 4 * crate::read::MEMBERS_MAX {
            return Err(io::Error::other("too many members"));
        }
        places.push(Place {
            path: inner_path(&String::from_utf8_lossy(&entry.path_bytes())).unwrap_or_default(),
            header_from: entry.raw_header_position(),
            content_from: entry.raw_file_position(),
            bytes: entry.size(),
        });
    }
    Ok(places)
}

/// Why a package could not be given a signature, or not be read for one.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// It is no sound package.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A file cannot be read or written.
    #[error("{} cannot be read or written", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
}

impl SignatureError {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Read(error) => error.remedy(),
            Self::File { .. } => "check that the file is there and its folder yours, with room",
        }
    }
}

/// Writes the package at `from` to `to` with `signature` as its last member, in place of any it
/// had. `to` may be `from`; it is replaced when the new one is whole.
pub fn attach(from: &Path, signature: &[u8], to: &Path) -> Result<(), SignatureError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |cause| SignatureError::File { path, cause }
    };
    let mut source = File::open(from).map_err(failed(from))?;
    let places = members(&mut source).map_err(failed(from))?;
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty());
    let partial = tempfile::Builder::new()
        .prefix(".spk-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(folder.unwrap_or(Path::new(".")))
        .map_err(failed(to))?;
    let write = |mut out: &File| -> io::Result<()> {
        for place in places.iter().filter(|place| place.path != MEMBER) {
            source.seek(SeekFrom::Start(place.header_from))?;
            let bytes = place.end() - place.header_from;
            if io::copy(&mut (&source).take(bytes), &mut out)? != bytes {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let mut tarball = crate::tarball::Tarball::after(io::BufWriter::new(out), {
            let kept = places.iter().filter(|place| place.path != MEMBER);
            kept.map(|place| place.end() - place.header_from).sum()
        });
        tarball.file(MEMBER, 0o644, signature.len() as u64, &mut &signature[..])?;
        tarball.finish()?.flush()
    };
    let mut write = write;
    write(partial.as_file()).map_err(failed(to))?;
    partial.persist(to).map_err(|error| failed(to)(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_is_what_dsm_looks_at() {
        for (path, expected) in [
            ("INFO", Some(0)),
            ("LICENSE", Some(1)),
            ("PACKAGE_ICON_120.PNG", Some(2)),
            ("PACKAGE_ICON_72.PNG", None),
            ("WIZARD_UIFILES/install_uifile", Some(3)),
            ("WIZARD_UIFILES/upgrade_uifile_ger.sh", Some(3)),
            ("WIZARD_UIFILES/install_uifile_german", None),
            ("WIZARD_UIFILES/other", None),
            ("conf/privilege", Some(4)),
            ("conf", None),
            ("package.tgz", Some(5)),
            ("scripts/postinst", Some(6)),
            ("CHANGELOG", None),
            (MEMBER, None),
        ] {
            assert_eq!(group(path), expected, "{path}");
        }
    }
}
