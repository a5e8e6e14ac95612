//! A copy in place of a hard link, where the file system has none, or no more for this file.

use super::attributes;
use super::remove::clear_folder;
use super::shared::Shared;
use super::zeros;
use crate::posix::{Folder, Kind, Stat};
use nix::errno::Errno;
use nix::fcntl::renameat;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// So much is copied at once, twice of it when compared.
const COPIED_BYTES: usize = 64 << 10;

/// Whether a second name was refused for reasons that a copy helps against.
pub(super) fn help_against(cause: &io::Error) -> bool {
    use Errno::{EMLINK, ENOSYS, EOPNOTSUPP, EPERM, EXDEV};
    let cause = cause.raw_os_error().map(Errno::from_raw);
    matches!(cause, Some(EPERM | EMLINK | ENOSYS | EOPNOTSUPP | EXDEV))
}

/// Makes a file that has the content and the attributes of another, unless it is there already.
/// Says whether it had to be made.
pub(super) fn copy(
    shared: &Shared<'_>,
    (from, first): (&Folder, &CStr),
    (to, name): (&Folder, &CStr),
    path: &Path,
) -> io::Result<bool> {
    let file = from.file(first)?;
    let wanted = Stat::of_open(file.as_fd())?;
    if wanted.kind != Kind::File {
        return Err(io::Error::other("the file system has no second names for such things"));
    }
    match to.stat(name) {
        Ok(found) if is_copy(shared, &file, &wanted, &found, (to, name))? => return Ok(false),
        Ok(found) => clear_folder(shared, to, name, &found, path)?,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
        Err(cause) => return Err(cause),
    }
    let unfinished = shared.incomplete.name_of(name.to_bytes());
    let unfinished = unfinished.ok_or(io::ErrorKind::InvalidInput)?;
    let copied = to.make_file(&unfinished, 0o600).and_then(|made| {
        each_part(shared, &file, &mut |bytes, offset| {
            zeros::write_around(&made, bytes, offset).map(|()| true)
        })?;
        made.set_len(wanted.size)?;
        attributes::copy(shared, (&file, &wanted), &made, path);
        Ok(renameat(to, unfinished.as_c_str(), to, name)?)
    });
    if copied.is_err() {
        let _ = to.unlink(&unfinished);
    }
    copied.map(|()| true)
}

/// Whether a file has the content already.
fn is_copy(
    shared: &Shared<'_>,
    file: &File,
    wanted: &Stat,
    found: &Stat,
    (to, name): (&Folder, &CStr),
) -> io::Result<bool> {
    if found.kind != Kind::File || found.size != wanted.size {
        return Ok(false);
    }
    let Ok(there) = to.file(name) else { return Ok(false) };
    let mut bytes_there = vec![0; COPIED_BYTES];
    each_part(shared, file, &mut |bytes, offset| {
        let bytes_there = &mut bytes_there[..bytes.len()];
        Ok(there.read_exact_at(bytes_there, offset).is_ok() && bytes_there == bytes)
    })
}

/// Shows all of a file, part by part, as long as `each` wants more. Says whether it saw all.
fn each_part(
    shared: &Shared<'_>,
    file: &File,
    each: &mut dyn FnMut(&[u8], u64) -> io::Result<bool>,
) -> io::Result<bool> {
    let (mut bytes, mut offset) = (vec![0; COPIED_BYTES], 0);
    loop {
        if shared.is_stopped() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let read = match file.read_at(&mut bytes, offset) {
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        if read == 0 {
            return Ok(true);
        }
        if !each(&bytes[..read], offset)? {
            return Ok(false);
        }
        offset += read as u64;
    }
}
