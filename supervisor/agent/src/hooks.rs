//! DSM's scripts, carried out: the steps come from `lifecycle`, each looks at the disk and can be
//! run again after a power cut.
//!
//! Below DSM 7 the data waits out an upgrade (or a removal that keeps it) as `@appstore/NAME.kept`
//! beside the target: one `rename` there, one back. Where that is refused, DSM's own upgrade folder
//! is used.

use crate::answers;
use crate::description::Description;
use crate::identity::Copies;
use crate::installation::Installation;
use crate::problem::{Problem, Result};
use crate::service;
use std::ffi::OsStr;
use supervisor_dsm::{DsmError, Folder, Kind, PackageStatus, tree};
use supervisor_lifecycle::hooks::{DataPlace, Hook, Occasion, Step, steps};

/// Runs a hook. A name DSM may invent tomorrow is answered with success.
pub fn run(installation: &Installation, name: &str) -> Result<()> {
    let Some(hook) = Hook::from_name(name) else { return Ok(()) };
    let place = match installation.package.var_is_in_target() {
        true => DataPlace::InTarget,
        false => DataPlace::Beside,
    };
    for step in steps(hook, place, occasion(installation)) {
        carry_out(installation, *step)?;
    }
    Ok(())
}

fn occasion(installation: &Installation) -> Occasion {
    let context = &installation.settings.context;
    match context.status {
        PackageStatus::Upgrade => Occasion::RemovalForUpgrade,
        PackageStatus::Uninstall if answers::wants_data_deleted(&context.wizard) => {
            Occasion::RemovalWithData
        }
        _ => Occasion::Ordinary,
    }
}

fn carry_out(installation: &Installation, step: Step) -> Result<()> {
    let package = &installation.package;
    let wizard = &installation.settings.context.wizard;
    let description = installation.description().ok();
    let kinds = description.as_ref().map(|it| it.wizard.clone()).unwrap_or_default();
    match step {
        Step::CheckAnswers => answers::check(wizard, &kinds),
        Step::Stop => service::stop(installation),
        Step::SetDataAside => set_data_aside(installation),
        Step::MakeFolders => {
            package.open_or_make_var()?.set_mode(0o700)?;
            package.open_or_make_etc()?;
            Ok(())
        }
        Step::BringDataBack => bring_data_back(installation),
        Step::MoveDataOfDsm6 => move_data_of_dsm_6(installation),
        Step::EnsureIdentity => ensure_identity(installation, description.as_ref()),
        Step::KeepAnswers => answers::keep(wizard, &package.open_or_make_var()?),
        Step::DeleteData => delete_data(installation),
        Step::CheckNothingIsLeftAside => check_nothing_is_left_aside(installation),
    }
}

/// Where data may wait, the best place first.
fn waiting_rooms(installation: &Installation) -> Vec<(Folder, String)> {
    let package = &installation.package;
    let mut rooms: Vec<(Folder, String)> = package.waiting_room().into_iter().collect();
    if let Some(path) = &installation.settings.context.upgrade_folder
        && let Ok(folder) = Folder::open(path)
    {
        rooms.push((folder, format!("{}.kept", package.name())));
    }
    rooms
}

fn set_data_aside(installation: &Installation) -> Result<()> {
    let package = &installation.package;
    let target = match Folder::open(package.target()) {
        Ok(target) => target,
        Err(error) if error.is_missing() => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    match target.kind("var")? {
        Kind::Folder => {}
        Kind::Missing => return Ok(()),
        Kind::File | Kind::Other => {
            return Err(DsmError::Link { path: package.var().to_owned() }.into());
        }
    }
    let var = target.inner("var")?;
    if var.is_empty()? {
        return Ok(());
    }
    let mut refused = None;
    for (room, kept) in waiting_rooms(installation) {
        let moved = (|| {
            if room.kind(&kept)? == Kind::Folder {
                // Something waited already, from an upgrade that never ended: what is in use now
                // counts, the rest joins it.
                tree::merge(&room.inner(&kept)?, &var, ".before")?;
                tree::delete(&room, &kept)?;
            }
            tree::carry(&target, OsStr::new("var"), &room, OsStr::new(&kept))?;
            room.sync()?;
            target.sync()
        })();
        match moved {
            Ok(()) => return Ok(()),
            Err(error) => refused = Some(error),
        }
    }
    match refused {
        Some(error) => Err(error.into()),
        None => Err(Problem::new("there is no place to keep the data during the upgrade")
            .remedy("free some space on the volume of the package, then try again")),
    }
}

fn bring_data_back(installation: &Installation) -> Result<()> {
    let package = &installation.package;
    for (room, kept) in waiting_rooms(installation) {
        if room.kind(&kept)? != Kind::Folder {
            continue;
        }
        let target = Folder::open_or_make(package.target())?;
        let waiting = room.inner(&kept)?;
        if target.kind("var")? == Kind::Folder {
            // What waited is the owner's; what is there now was made since, by us or the payload.
            tree::merge(&target.inner("var")?, &waiting, ".new")?;
            tree::delete(&target, "var")?;
        }
        tree::carry(&room, OsStr::new(&kept), &target, OsStr::new("var"))?;
        target.sync()?;
        room.sync()?;
    }
    Ok(())
}

fn check_nothing_is_left_aside(installation: &Installation) -> Result<()> {
    for (room, kept) in waiting_rooms(installation) {
        if room.kind(&kept)? != Kind::Missing {
            let path = room.path().join(&kept);
            return Err(Problem::new(format!("data still waits in {}", path.display()))
                .remedy("repair the package in Package Center; nothing is lost"));
        }
    }
    Ok(())
}

fn move_data_of_dsm_6(installation: &Installation) -> Result<()> {
    let package = &installation.package;
    let Some(old) = package.open_left_behind()? else { return Ok(()) };
    let var = package.open_or_make_var()?;
    tree::merge(&old, &var, ".dsm6")?;
    Ok(tree::delete(&Folder::open(package.target())?, "var")?)
}

fn ensure_identity(installation: &Installation, description: Option<&Description>) -> Result<()> {
    let Some(description) = description.filter(|description| description.identity) else {
        return Ok(());
    };
    let copies = Copies::read_or_make(installation)?;
    let wizard = &installation.settings.context.wizard;
    match answers::guid_to_adopt(wizard, &description.wizard) {
        // The same answer may come again in the next script: once is enough.
        Some(guid) if copies.known().ok().map(|known| known.guid) != Some(guid) => {
            copies.set(guid).map(drop)
        }
        // A broken installation would help nobody: `start` refuses, and says who must decide what.
        _ if copies.disagreement().is_some() => Ok(()),
        _ => copies.ensure().map(drop),
    }
}

/// Deletes the data and everything of it that waits. The identity's copy in `etc`, which DSM
/// itself keeps, stays: it is no secret, and a later installation may want it.
fn delete_data(installation: &Installation) -> Result<()> {
    let package = &installation.package;
    for (room, kept) in waiting_rooms(installation) {
        tree::delete(&room, &kept)?;
    }
    match package.open_var() {
        Ok(var) => {
            for name in var.names()? {
                tree::delete(&var, &name.to_string_lossy())?;
            }
            Ok(())
        }
        Err(error) if error.is_missing() => Ok(()),
        Err(error) => Err(error.into()),
    }
}
