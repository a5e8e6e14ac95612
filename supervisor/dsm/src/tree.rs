//! Moving, copying and deleting whole folders of a package, through no link, in steps that can be
//! run again: a power cut anywhere leaves every file in the old place or the new one.

use crate::{DsmError, Folder, Kind, Result};
use nix::fcntl::OFlag;
use nix::unistd::UnlinkatFlags;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

/// A deeper folder is not walked: nothing of ours is, and a planted one must not exhaust the stack.
const DEPTH_MAX: usize = 64;

/// Begins the name of a copy until it is whole.
const PARTLY: &str = ".partly-";

/// Begins the name of what was copied whole and is to be deleted.
const COPIED: &str = ".copied-";

/// Begins the name of a folder that lay too deep to be deleted where it was.
const TOO_DEEP: &str = ".too-deep-";

/// No more names are tried for the rest of a move that was cut off.
const CANDIDATES_MAX: usize = 100;

/// Deletes `name` and everything in it, however deep that is. A link is removed, never what it
/// points to.
pub fn delete(folder: &Folder, name: &str) -> Result<()> {
    delete_os(folder, OsStr::new(name))
}

fn delete_os(folder: &Folder, name: &OsStr) -> Result<()> {
    // What lies too deep comes up here, piece by piece, and its turn comes after.
    let mut waiting = vec![name.to_owned()];
    let mut moved_up = 0;
    while let Some(name) = waiting.pop() {
        let mut deep = Vec::new();
        delete_below(folder, &name, 0, &mut |inner, child| {
            moved_up += 1;
            let up = with_prefix(TOO_DEEP, OsStr::new(&moved_up.to_string()));
            inner.move_to(child, folder, &up)?;
            deep.push(up);
            Ok(())
        })?;
        waiting.append(&mut deep);
    }
    Ok(())
}

fn delete_below(
    folder: &Folder,
    name: &OsStr,
    depth: usize,
    move_up: &mut dyn FnMut(&Folder, &OsStr) -> Result<()>,
) -> Result<()> {
    match folder.kind_os(name)? {
        Kind::Missing => return Ok(()),
        Kind::File | Kind::Other => return folder.unlink(name, UnlinkatFlags::NoRemoveDir),
        Kind::Folder if depth >= DEPTH_MAX => return move_up(folder, name),
        Kind::Folder => {}
    }
    let inner = folder.inner_os(name)?;
    for child in inner.names()? {
        delete_below(&inner, &child, depth + 1, move_up)?;
    }
    folder.unlink(name, UnlinkatFlags::RemoveDir)
}

/// Moves every entry of `from` into `to` that is not there yet; one that is there already keeps
/// its place, and the moved one is put beside it as `NAME<suffix>`.
///
/// Returns how many entries were moved. Within one volume each is a single `rename`.
pub fn merge(from: &Folder, to: &Folder, suffix: &str) -> Result<usize> {
    for copied in from.names()? {
        let Some(name) = copied.to_str().and_then(|text| text.strip_prefix(COPIED)) else {
            continue;
        };
        let partly = |free: &OsString| to.kind_os(&with_prefix(PARTLY, free));
        let mut counter = 0;
        let mut free = OsString::from(name);
        while counter < CANDIDATES_MAX && partly(&free)? == Kind::Missing {
            counter += 1;
            free = candidate(OsStr::new(name), suffix, counter);
        }
        if counter == CANDIDATES_MAX {
            free = OsString::from(name);
        }
        finish_carrying(from, OsStr::new(name), to, &free)?;
    }
    let names = from.names()?;
    for name in &names {
        let mut counter = 0;
        let mut free = name.clone();
        while to.kind_os(&free)? != Kind::Missing {
            counter += 1;
            free = candidate(name, suffix, counter);
        }
        carry(from, name, to, &free)?;
    }
    if !names.is_empty() {
        to.sync()?;
        from.sync()?;
    }
    Ok(names.len())
}

fn candidate(name: &OsStr, suffix: &str, counter: usize) -> OsString {
    let mut free = OsString::from(name);
    free.push(suffix);
    if counter > 1 {
        free.push(format!(".{counter}"));
    }
    free
}

/// Moves one entry: by `rename`, or, to another volume, by copying whole, then deleting.
///
/// A cut in the middle of a copy leaves the entry where it was; one after it leaves what
/// [`finish_carrying`] finishes.
pub fn carry(from: &Folder, name: &OsStr, to: &Folder, new_name: &OsStr) -> Result<()> {
    // Under a name of its own until it is whole, so that half a copy is never taken for the thing.
    let partly = with_prefix(PARTLY, new_name);
    delete_os(to, &partly)?;
    match from.move_to(name, to, new_name) {
        Err(DsmError::Io { source, .. }) if source.raw_os_error() == Some(nix::libc::EXDEV) => {}
        other => return other,
    }
    copy(from, name, to, &partly, 0)?;
    to.sync()?;
    // From here on the copy is the thing, and what it was made of is to go.
    from.move_to(name, from, &with_prefix(COPIED, name))?;
    from.sync()?;
    finish_carrying(from, name, to, new_name)
}

/// Finishes a [`carry`] to another volume that was cut off after everything was copied.
pub fn finish_carrying(from: &Folder, name: &OsStr, to: &Folder, new_name: &OsStr) -> Result<()> {
    let (copied, partly) = (with_prefix(COPIED, name), with_prefix(PARTLY, new_name));
    if from.kind_os(&copied)? == Kind::Missing {
        return Ok(());
    }
    if to.kind_os(&partly)? == Kind::Missing && to.kind_os(new_name)? == Kind::Missing {
        // Somebody deleted the copy: what it was made of is all there is.
        from.move_to(&copied, from, name)?;
        return from.sync();
    }
    if to.kind_os(&partly)? != Kind::Missing {
        if to.kind_os(new_name)? == Kind::Folder && to.kind_os(&partly)? == Kind::Folder {
            // Made since the cut.
            merge(&to.inner_os(new_name)?, &to.inner_os(&partly)?, ".new")?;
            delete_os(to, new_name)?;
        } else if to.kind_os(new_name)? != Kind::Missing {
            to.move_to(new_name, to, &candidate(new_name, ".new", 1))?;
        }
        to.move_to(&partly, to, new_name)?;
        to.sync()?;
    }
    delete_os(from, &copied)?;
    from.sync()
}

fn with_prefix(prefix: &str, name: &OsStr) -> OsString {
    let mut text = OsString::from(prefix);
    text.push(name);
    text
}

/// Copies one entry, with everything in it, under the same name; it is whole or not there.
pub fn copy_whole(from: &Folder, name: &OsStr, to: &Folder) -> Result<()> {
    let partly = with_prefix(PARTLY, name);
    delete_os(to, &partly)?;
    copy(from, name, to, &partly, 0)?;
    if to.kind_os(&partly)? == Kind::Missing {
        return Ok(());
    }
    delete_os(to, name)?;
    to.move_to(&partly, to, name)?;
    to.sync()
}

/// Makes every file and name in a folder last through a power cut.
pub fn sync(folder: &Folder) -> Result<()> {
    sync_below(folder, 0)
}

fn sync_below(folder: &Folder, depth: usize) -> Result<()> {
    check_depth(folder, depth)?;
    for name in folder.names()? {
        match folder.kind_os(&name)? {
            Kind::Folder => sync_below(&folder.inner_os(&name)?, depth + 1)?,
            Kind::File => {
                let file = folder.open_file_os(&name, OFlag::O_RDONLY, 0)?;
                let path = folder.path().join(&name);
                file.sync_all().map_err(|error| DsmError::io("sync", &path, error))?;
            }
            Kind::Missing | Kind::Other => {}
        }
    }
    folder.sync()
}

fn copy(from: &Folder, name: &OsStr, to: &Folder, new_name: &OsStr, depth: usize) -> Result<()> {
    let meta = from.metadata_of(name)?;
    if meta.is_dir() {
        let inner = from.inner_os(name)?;
        check_depth(&inner, depth)?;
        let made = to.inner_or_make(&new_name.to_string_lossy(), 0o700)?;
        for child in inner.names()? {
            copy(&inner, &child, &made, &child, depth + 1)?;
        }
        made.set_mode(meta.permissions().mode())?;
        made.sync()?;
    } else if meta.is_file() {
        let mut source = from.open_file_os(name, OFlag::O_RDONLY, 0)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
        let mut made = to.open_file_os(new_name, flags, 0o600)?;
        let path = to.path().join(new_name);
        let cannot = |error| DsmError::io("copy to", &path, error);
        std::io::copy(&mut source, &mut made).map_err(cannot)?;
        made.set_permissions(meta.permissions()).map_err(cannot)?;
        if let Ok(modified) = meta.modified() {
            let _ = made.set_modified(modified);
        }
        made.flush().and_then(|()| made.sync_all()).map_err(cannot)?;
    } else if meta.file_type().is_symlink() {
        let points_to = from.read_link(name)?;
        nix::unistd::symlinkat(points_to.as_os_str(), to, new_name)
            .map_err(|errno| DsmError::io("copy to", &to.path().join(new_name), errno))?;
    } else {
        // Sockets and pipes are worthless without the process that made them.
        return Ok(());
    }
    if nix::unistd::geteuid().is_root() {
        to.give(new_name, meta.uid(), meta.gid())?;
    }
    Ok(())
}

fn check_depth(folder: &Folder, depth: usize) -> Result<()> {
    if depth >= DEPTH_MAX {
        let cause = std::io::Error::other(format!("more than {DEPTH_MAX} folders deep"));
        return Err(DsmError::io("walk", folder.path(), cause));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn deleting_a_folder_with_a_link_in_it_deletes_nothing_elsewhere() {
        let (place, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("precious"), "x").unwrap();
        fs::create_dir_all(place.path().join("var/log")).unwrap();
        symlink(outside.path(), place.path().join("var/log/out")).unwrap();
        let folder = Folder::open(place.path()).unwrap();
        delete(&folder, "var").unwrap();
        assert!(folder.is_empty().unwrap());
        assert!(outside.path().join("precious").exists());
    }

    #[test]
    fn a_folder_deeper_than_anybody_walks_is_deleted_all_the_same() {
        let place = tempfile::tempdir().unwrap();
        let root = Folder::open(place.path()).unwrap();
        for branch in ["a", "b"] {
            let mut folder = root.inner_or_make("deep", 0o700).unwrap();
            for depth in 0..DEPTH_MAX * 3 {
                folder = folder.inner_or_make(branch, 0o700).unwrap();
                folder.write(&format!("file {depth}"), b"x", 0o600).unwrap();
            }
        }
        delete(&root, "deep").unwrap();
        assert_eq!(root.names().unwrap(), Vec::<OsString>::new());
    }

    #[test]
    fn what_is_there_already_keeps_its_place_and_nothing_is_lost() {
        let place = tempfile::tempdir().unwrap();
        for (path, text) in
            [("old/identity", "1"), ("old/settings", "old"), ("new/settings", "new")]
        {
            fs::create_dir_all(place.path().join(path).parent().unwrap()).unwrap();
            fs::write(place.path().join(path), text).unwrap();
        }
        let root = Folder::open(place.path()).unwrap();
        let (old, new) = (root.inner("old").unwrap(), root.inner("new").unwrap());
        assert_eq!(merge(&old, &new, ".dsm6").unwrap(), 2);
        assert_eq!(new.names().unwrap(), ["identity", "settings", "settings.dsm6"]);
        assert_eq!(new.read("settings", 9).unwrap().unwrap(), b"new");
        assert_eq!(merge(&old, &new, ".dsm6").unwrap(), 0);
    }

    #[test]
    fn a_copy_that_somebody_deleted_before_it_had_its_name_costs_nothing() {
        let place = tempfile::tempdir().unwrap();
        for folder in ["old/.copied-var", "new"] {
            fs::create_dir_all(place.path().join(folder)).unwrap();
        }
        fs::write(place.path().join("old/.copied-var/identity"), "1").unwrap();
        let root = Folder::open(place.path()).unwrap();
        let (old, new) = (root.inner("old").unwrap(), root.inner("new").unwrap());
        finish_carrying(&old, OsStr::new("var"), &new, OsStr::new("var")).unwrap();
        assert_eq!(old.names().unwrap(), ["var"]);
        // The same, where the copy has its name already: then it is what counts.
        fs::rename(place.path().join("old/var"), place.path().join("old/.copied-var")).unwrap();
        fs::create_dir(place.path().join("new/var")).unwrap();
        assert_eq!(merge(&old, &new, ".before").unwrap(), 0);
        assert!(old.is_empty().unwrap());
    }

    #[test]
    fn a_copy_to_another_volume_keeps_modes_times_and_links() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir_all(place.path().join("a/in")).unwrap();
        fs::create_dir(place.path().join("b")).unwrap();
        fs::write(place.path().join("a/in/secret"), "s").unwrap();
        let secret = fs::File::open(place.path().join("a/in/secret")).unwrap();
        secret.set_permissions(fs::Permissions::from_mode(0o600)).unwrap();
        secret.set_modified(std::time::UNIX_EPOCH).unwrap();
        symlink("secret", place.path().join("a/in/link")).unwrap();
        let root = Folder::open(place.path()).unwrap();
        let (a, b) = (root.inner("a").unwrap(), root.inner("b").unwrap());
        copy(&a, OsStr::new("in"), &b, OsStr::new("in"), 0).unwrap();
        let meta = fs::metadata(place.path().join("b/in/secret")).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, 0o600);
        assert_eq!(meta.modified().unwrap(), std::time::UNIX_EPOCH);
        assert_eq!(fs::read_link(place.path().join("b/in/link")).unwrap().to_str(), Some("secret"));
    }
}
