//! DSM's scripts, carried out: the steps come from `lifecycle`, each looks at the disk and can be
//! run again after a power cut.
//!
//! Below DSM 7 the data waits out an upgrade (or a removal that keeps it) as `@appstore/NAME.kept`
//! beside the target: one `rename` there, one back. Where that is refused, DSM's own upgrade folder
//! is used. Which steps were begun, and when, is in `etc/hooks.log`.

use crate::answers;
use crate::description::Description;
use crate::downloads;
use crate::identity::{self, Copies};
use crate::installation::Installation;
use crate::problem::{Problem, Result};
use crate::service;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::Duration;
use supervisor_dsm::lock::TurnLock;
use supervisor_dsm::log::BoundedLog;
use supervisor_dsm::{DsmError, Folder, Kind, PackageStatus, tree};
use supervisor_lifecycle::hooks::{DataPlace, Hook, Occasion, Step, steps};

/// Made in the data before it is deleted and removed last: who finds it goes on deleting.
const DELETING: &str = ".deleting";

/// Names the folder on another volume that is being emptied, until it is.
const MOVING: &str = ".moving-from";

/// In `etc`, which nothing moves or deletes: hooks and starts take turns by it.
const HOOK_LOCK: &str = "hook.lock";

/// In `etc`: every step that was begun, with its time. For people: no step believes it.
const HOOK_LOG: &str = "hooks.log";

/// A hook waits this long for another to end; DSM itself never runs two at once.
const TURN_PATIENCE: Duration = Duration::from_secs(120);

/// Runs a hook. A name DSM may invent tomorrow is answered with success.
pub fn run(installation: &Installation, name: &str) -> Result<()> {
    match Hook::from_name(name) {
        Some(hook) => run_steps(installation, name, hook),
        None => Ok(()),
    }
}

/// Finishes or undoes what a broken-off script left, before the daemon is started.
pub fn before_start(installation: &Installation) -> Result<()> {
    run_steps(installation, "start", Hook::BeforeStart)
}

fn run_steps(installation: &Installation, name: &str, hook: Hook) -> Result<()> {
    let place = match installation.package.var_is_in_target() {
        true => DataPlace::InTarget,
        false => DataPlace::Beside,
    };
    // Before the first installation there is no such folder, and nothing to take turns about.
    let etc = Folder::open(installation.package.etc()).ok();
    let turn = match &etc {
        Some(etc) => match TurnLock::take(etc, HOOK_LOCK, TURN_PATIENCE) {
            Ok(turn) => turn.map(Some),
            // A package user of DSM 6 may not write there. DSM runs its scripts one by one.
            Err(error) if error.is_forbidden() => Some(None),
            Err(error) => return Err(error.into()),
        },
        None => Some(None),
    };
    let _turn = turn.ok_or_else(|| {
        Problem::new("another script of the package does not come to an end")
            .remedy("wait a minute and try again")
    })?;
    for folder in etc.iter().chain(&installation.package.open_var().ok()) {
        // What cannot be swept away is no reason to fail.
        let _ = folder.sweep();
    }
    let log = etc.and_then(|etc| BoundedLog::open(etc, HOOK_LOG).ok());
    for step in steps(hook, place, occasion(installation)) {
        // A start is an everyday matter; its steps are worth a line only when they do something.
        if let Some(log) = log.as_ref().filter(|_| hook != Hook::BeforeStart) {
            log.say(&format!("{name}: {step:?}"));
        }
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
        Step::FetchDownloads => downloads::ensure(installation),
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
        Step::MoveDataOfOtherVolumes => move_data_of_other_volumes(installation),
        Step::DeleteData => delete_data(installation),
        Step::FinishDeletion => finish_deletion(installation),
        Step::CheckNothingIsLeftAside => check_nothing_is_left_aside(installation),
    }
}

/// Where data may wait, the best place first.
fn waiting_rooms(installation: &Installation) -> Vec<(Folder, String)> {
    let package = &installation.package;
    let kept = format!("{}.kept", package.name());
    let rooms = package.waiting_rooms();
    let mut rooms: Vec<(Folder, String)> =
        rooms.into_iter().map(|room| (room, kept.clone())).collect();
    if let Some(path) = &installation.settings.context.upgrade_folder
        && let Ok(folder) = Folder::open(path)
    {
        rooms.push((folder, kept));
    }
    rooms
}

/// Finishes a move between volumes, there or back, before anything is decided: half of one is in
/// a folder that DSM may be about to wipe.
fn finish_carrying(target: &Folder, installation: &Installation) -> Result<()> {
    let var = OsStr::new("var");
    for (room, kept) in waiting_rooms(installation) {
        tree::finish_carrying(target, var, &room, OsStr::new(&kept))?;
        tree::finish_carrying(&room, OsStr::new(&kept), target, var)?;
    }
    Ok(())
}

fn set_data_aside(installation: &Installation) -> Result<()> {
    let package = &installation.package;
    let target = match Folder::open(package.target()) {
        Ok(target) => target,
        Err(error) if error.is_missing() => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    finish_carrying(&target, installation)?;
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
    if let Ok(target) = Folder::open(package.target()) {
        finish_carrying(&target, installation)?;
    }
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
    // What it says, `status` says too; an installation does not fail for it.
    let _ = identity::note_machine(installation);
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

/// A package that was removed from one volume and installed on another finds its data again.
/// Only a folder that is new, or that was being filled when a cut came, is filled.
fn move_data_of_other_volumes(installation: &Installation) -> Result<()> {
    let package = &installation.package;
    let var = package.open_or_make_var()?;
    move_from_elsewhere(package.elsewhere("@appdata", package.var()), &var)?;
    let etc = package.open_or_make_etc()?;
    move_from_elsewhere(package.elsewhere("@appconf", package.etc()), &etc)
}

fn move_from_elsewhere(others: Vec<Folder>, own: &Folder) -> Result<()> {
    const PATH_BYTES_MAX: u64 = 4096;
    /// What is made anew in a new folder before anything is moved into it.
    const OF_NO_WORTH: [&str; 5] = ["run", "log", HOOK_LOCK, HOOK_LOG, MOVING];
    let begun = own.read_text(MOVING, PATH_BYTES_MAX)?;
    let is_of_worth = |name: &OsString| !OF_NO_WORTH.iter().any(|other| name == other);
    let is_new = !own.names()?.iter().any(is_of_worth);
    let other = others.into_iter().find(|other| match &begun {
        Some(path) => Path::new(path) == other.path(),
        None => is_new,
    });
    let Some(other) = other else { return Ok(own.remove_file(MOVING)?) };
    own.write(MOVING, other.path().as_os_str().as_encoded_bytes(), 0o600)?;
    for name in ["run", HOOK_LOCK] {
        tree::delete(&other, name)?;
    }
    tree::merge(&other, own, ".before")?;
    own.sync()?;
    Ok(own.remove_file(MOVING)?)
}

/// Deletes the data and everything of it that waits. The identity's copy in `etc`, which DSM
/// itself keeps, stays: it is no secret, and a later installation may want it.
///
/// A mark is made first and removed last, so that a cut leaves all of the data, or a deletion that
/// whoever comes next finishes.
fn delete_data(installation: &Installation) -> Result<()> {
    let package = &installation.package;
    let var = match package.open_var() {
        Ok(var) => Some(var),
        Err(error) if error.is_missing() => None,
        Err(error) => return Err(error.into()),
    };
    if let Some(var) = &var {
        var.write(DELETING, b"the owner chose to delete this data\n", 0o600)?;
    }
    for (room, kept) in waiting_rooms(installation) {
        tree::delete(&room, &kept)?;
    }
    let Some(var) = var else { return Ok(()) };
    for name in var.names()?.iter().filter(|name| *name != DELETING) {
        tree::delete(&var, &name.to_string_lossy())?;
    }
    var.sync()?;
    Ok(var.remove_file(DELETING)?)
}

fn finish_deletion(installation: &Installation) -> Result<()> {
    match installation.package.open_var() {
        Ok(var) if var.kind(DELETING)? == Kind::Missing => Ok(()),
        Ok(_) => delete_data(installation),
        Err(error) if error.is_missing() => Ok(()),
        Err(error) => Err(error.into()),
    }
}
