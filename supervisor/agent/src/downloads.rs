//! Files that may not be redistributed: fetched while the package is installed, after its owner
//! accepted the licence that Package Center shows first.
//!
//! `conf/download.toml` in the payload names them, each with its exact size and SHA-256: nothing
//! else is put into place. An owner without a network puts the file into a shared folder, and it is
//! taken from there. A download that breaks off goes on with the next try. What is there already
//! is not fetched again, so that the script can be run again.

use crate::installation::Installation;
use crate::problem::{Problem, Result};
use crate::room;
use crate::update::block_on;
use nix::fcntl::OFlag;
use serde::Deserialize;
use spk::extract::Limits;
use std::collections::BTreeMap;
use std::fs::File;
use supervisor_dsm::{Folder, tree};
use supervisor_fetch::{FetchError, fetch_anywhere};
use supervisor_trust::{FileHash, TargetCheck, TargetFile};

/// Where a payload says what is to be fetched.
pub const LIST_PATH: &str = "conf/download.toml";

const LIST_BYTES_MAX: u64 = 256 * 1024;

/// More files are not fetched.
const DOWNLOADS_MAX: usize = 64;

/// DSM gives a script an hour; all addresses together have half of it.
const SECONDS_MAX: u64 = 1800;

/// Each address is tried so often; a try goes on where the last one broke off.
const TRIES_MAX: usize = 3;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    #[serde(default)]
    download: Vec<Download>,
}

/// One file, as the packager described it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Download {
    urls: Vec<String>,
    file: String,
    bytes: u64,
    sha256: String,
    to: String,
    #[serde(default)]
    unpack: bool,
    #[serde(default = "public")]
    share: String,
    when: Option<String>,
    #[serde(default)]
    otherwise: bool,
}

fn public() -> String {
    "public".to_owned()
}

/// Puts everything that is to be fetched into place, in the payload that is about to be installed
/// and in the one that is.
pub fn ensure(installation: &Installation) -> Result<()> {
    let unpacked = installation.settings.context.unpacked.as_deref();
    for payload in unpacked.into_iter().chain([installation.package.target()]) {
        let Ok(folder) = Folder::open(payload) else { continue };
        for download in list(&folder)? {
            let wizard = &installation.settings.context.wizard;
            if download.is_wanted(wizard) {
                download.ensure_in(&folder, installation)?;
            }
        }
    }
    Ok(())
}

fn list(payload: &Folder) -> Result<Vec<Download>> {
    let Ok(conf) = payload.inner("conf") else { return Ok(Vec::new()) };
    let Some(text) = conf.read_text("download.toml", LIST_BYTES_MAX)? else {
        return Ok(Vec::new());
    };
    let broken = |why: String| {
        Problem::new(format!("{LIST_PATH} is not understood: {why}"))
            .remedy("this package is broken: tell whoever made it")
    };
    let list: List = toml::from_str(&text).map_err(|error| broken(error.message().to_owned()))?;
    if list.download.len() > DOWNLOADS_MAX {
        return Err(broken(format!("more than {DOWNLOADS_MAX} downloads")));
    }
    Ok(list.download)
}

impl Download {
    /// Whether the owner's answers ask for it.
    fn is_wanted(&self, answers: &BTreeMap<String, String>) -> bool {
        let Some(when) = &self.when else { return true };
        let (key, wanted) = when.split_once('=').unwrap_or((when, "true"));
        answers.get(key).map_or(self.otherwise, |answer| answer == wanted)
    }

    fn signed(&self) -> Result<TargetFile> {
        let digit = |at: usize| u8::from_str_radix(self.sha256.get(at * 2..at * 2 + 2)?, 16).ok();
        let mut sha256 = [0; 32];
        for (at, byte) in sha256.iter_mut().enumerate() {
            *byte = digit(at).ok_or_else(|| {
                Problem::new(format!("{LIST_PATH}: {:?} is no SHA-256", self.sha256))
                    .remedy("this package is broken: tell whoever made it")
            })?;
        }
        Ok(TargetFile { length: self.bytes, hash: FileHash::Sha256(sha256), custom: None })
    }

    fn ensure_in(&self, payload: &Folder, installation: &Installation) -> Result<()> {
        let file = self.signed()?;
        let short = self.sha256.get(..16).unwrap_or_default();
        let (mark, part) = (format!(".fetched-{short}"), format!(".fetching-{short}"));
        if payload.read(&mark, 16)?.is_some() {
            return Ok(());
        }
        if !self.is_whole(payload, &part, &file)?
            && !self.take_from_share(payload, &part, &file, installation)?
        {
            self.fetch(payload, &part, &file)?;
        }
        self.put_into_place(payload, &part)?;
        Ok(payload.write(&mark, b"", 0o644)?)
    }

    /// Whether the file is there already, and what it should be.
    fn is_whole(&self, folder: &Folder, name: &str, file: &TargetFile) -> Result<bool> {
        match folder.open_file(name, OFlag::O_RDONLY, 0) {
            Ok(found) => Ok(self.copy_checked(found, &mut std::io::sink(), file).is_ok()),
            Err(error) if error.is_missing() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Copies and compares; an error when it is not what it should be.
    fn copy_checked(
        &self,
        mut from: File,
        to: &mut impl std::io::Write,
        file: &TargetFile,
    ) -> std::io::Result<()> {
        use std::io::Read;
        let mut check = TargetCheck::new(&self.file, file);
        let mut piece = [0; 16 * 1024];
        loop {
            let count = from.read(&mut piece)?;
            if count == 0 {
                return check.finish().map_err(std::io::Error::other);
            }
            check.update(&piece[..count]).map_err(std::io::Error::other)?;
            to.write_all(&piece[..count])?;
        }
    }

    /// Takes the file the owner put into the shared folder, on whichever volume that is.
    fn take_from_share(
        &self,
        payload: &Folder,
        part: &str,
        file: &TargetFile,
        installation: &Installation,
    ) -> Result<bool> {
        for volume in installation.package.dsm().volumes() {
            let share = Folder::open(&volume).and_then(|volume| volume.inner(&self.share));
            // A link, a pipe or a folder of that name is not the file.
            let Ok(found) = share.and_then(|it| it.open_file(&self.file, OFlag::O_RDONLY, 0))
            else {
                continue;
            };
            payload.remove_file(part)?;
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
            let mut sink = payload.open_file(part, flags, 0o600)?;
            if self.copy_checked(found, &mut sink, file).is_ok() {
                return Ok(true);
            }
            payload.remove_file(part)?;
        }
        Ok(false)
    }

    fn fetch(&self, payload: &Folder, part: &str, file: &TargetFile) -> Result<()> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_APPEND;
        room::must_be_for(&self.file, self.bytes, payload)?;
        let mut last = None;
        for url in self.urls.iter().flat_map(|url| std::iter::repeat_n(url, TRIES_MAX)) {
            let mut kept = payload.open_file(part, flags, 0o600)?;
            let mut sink = payload.open_file(part, flags, 0o600)?;
            let work = fetch_anywhere(url, (&self.file, file), &mut kept, &mut sink);
            match block_on(SECONDS_MAX, async { Ok(work.await) }) {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => {
                    if matches!(error, FetchError::Untrusted(_)) {
                        payload.remove_file(part)?;
                    }
                    last = Some(Problem::new("").because(error).fact());
                }
                Err(problem) => last = Some(problem.fact()),
            }
        }
        let why = last.unwrap_or_else(|| "no address is known".to_owned());
        let why = why.trim_start_matches(": ").to_owned();
        Err(Problem::new(format!("{} cannot be fetched: {why}", self.file)).remedy(format!(
            "see that this NAS reaches the internet; or get the file from {} yourself, put it into \
             the shared folder `{}`, and install the package again",
            self.urls.first().map_or("whoever makes it", String::as_str),
            self.share
        )))
    }

    /// Gives the file its name, or unpacks it, in folders made on the way.
    fn put_into_place(&self, payload: &Folder, part: &str) -> Result<()> {
        let broken = || {
            Problem::new(format!("{LIST_PATH}: {:?} is no path inside", self.to))
                .remedy("this package is broken: tell whoever made it")
        };
        let mut parts: Vec<&str> = self.to.split('/').collect();
        let last = parts.pop().ok_or_else(broken)?;
        let mut folder = Folder::open(payload.path())?;
        for part in parts {
            folder = folder.inner_or_make(part, 0o755)?;
        }
        if !self.unpack {
            payload.move_to(part.as_ref(), &folder, last.as_ref())?;
            let file = folder.open_file(last, OFlag::O_RDONLY, 0)?;
            use std::os::unix::fs::PermissionsExt;
            let open = std::fs::Permissions::from_mode(0o644);
            let cannot = |error| Problem::new(format!("cannot open up {last}")).because(error);
            return file.set_permissions(open).map_err(cannot);
        }
        tree::delete(&folder, last)?;
        let into = folder.inner_or_make(last, 0o755)?;
        self.unpack_into(&payload.open_file(part, OFlag::O_RDONLY, 0)?, &into)?;
        Ok(payload.remove_file(part)?)
    }

    /// The packager knows what is in it; only the last of the volume is not for it to take.
    fn unpack_into(&self, archive: &File, into: &Folder) -> Result<()> {
        use std::io::{Read, Seek, SeekFrom};
        let unreadable = |error| Problem::new(format!("cannot read {}", self.file)).because(error);
        let mut start = Vec::new();
        let mut reader = archive;
        reader.take(2).read_to_end(&mut start).map_err(unreadable)?;
        reader.seek(SeekFrom::Start(0)).map_err(unreadable)?;
        let is_packed = matches!(start[..], [0x1f, 0x8b] | [0xfd, b'7']);
        let unpacked = match is_packed {
            true => {
                let limits = Limits { room_bytes: room::in_volume_of(into), ..Limits::OF_ANY };
                spk::extract::payload_within(archive, into.path(), limits)
            }
            false => spk::extract::package(archive, into.path()),
        };
        unpacked.map_err(|error| {
            let remedy = error.remedy();
            Problem::new(format!("cannot unpack {}", self.file)).because(error).remedy(remedy)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn download(when: Option<&str>, otherwise: bool) -> Download {
        Download {
            urls: Vec::new(),
            file: "upstream.tgz".to_owned(),
            bytes: 1,
            sha256: "ab".repeat(32),
            to: "upstream".to_owned(),
            unpack: false,
            share: public(),
            when: when.map(str::to_owned),
            otherwise,
        }
    }

    #[test]
    fn a_download_follows_the_wizard_and_a_silent_installation_what_the_packager_said() {
        let answers = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect()
        };
        for (when, otherwise, given, wanted) in [
            (None, false, answers(&[]), true),
            (Some("wizard_new"), false, answers(&[("wizard_new", "true")]), true),
            (Some("wizard_new"), true, answers(&[("wizard_new", "false")]), false),
            (Some("wizard_new"), true, answers(&[]), true),
            (Some("wizard_new"), false, answers(&[]), false),
            (Some("wizard_v=3.7"), false, answers(&[("wizard_v", "3.7")]), true),
            (Some("wizard_v=3.7"), false, answers(&[("wizard_v", "3.6")]), false),
        ] {
            let is_wanted = download(when, otherwise).is_wanted(&given);
            assert_eq!(is_wanted, wanted, "{when:?} {otherwise} {given:?}");
        }
    }

    #[test]
    fn a_broken_sum_is_no_reason_to_take_whatever_comes() {
        for sum in ["", "ab", "zz", &"ä".repeat(32)] {
            let broken = Download { sha256: sum.to_owned(), ..download(None, false) };
            assert!(broken.signed().is_err(), "{sum}");
        }
    }
}
