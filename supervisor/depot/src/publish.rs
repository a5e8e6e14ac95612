//! Making a depot, and changing what is in it: each change is a new tree, put in force by one
//! rename.
//!
//! ```text
//! copy     each package beside the others, under a name nobody reads; look at it
//! keep     rename it to its hash; nothing refers to it yet
//! render   the new tree with its signed metadata, beside the old one
//! verify   the new tree as a client will, at the time of the publication
//! switch   `current`, by one rename
//! clear    trees that are two behind, and what nothing has named for a month
//! ```
//!
//! Whoever is killed at any of these leaves the old tree in force or the new one, and files that
//! nobody reads, which the next publication writes over.

use crate::error::DepotError;
use crate::intake::{Incoming, take_in};
use crate::keyring::Keyring;
use crate::metadata::{self, KeysReport, Reason, Seeds, Signed};
use crate::place::{Place, Tree, read};
use crate::rotation::{publish_root, read_spare};
use crate::shelves::{Channel, Shelves};
use crate::tokens::Token;
use std::path::{Path, PathBuf};
use supervisor_trust::UnixSeconds;
use supervisor_trust::client::ROOT_BYTES_MAX;
use supervisor_trust::coverage::WARN_DAYS;

/// What became of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The package.
    pub package: String,
    /// Its version.
    pub version: String,
    /// The name under which it is downloaded, below `/packages/`.
    pub file: String,
    /// It was not there before.
    pub is_new: bool,
}

/// A package somebody offers.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Its file.
    pub path: PathBuf,
    /// Its channel; what its INFO says, if nothing is said.
    pub channel: Option<Channel>,
    /// On whose word; the depot's keeper needs no token.
    pub token: Option<Token>,
}

impl Delivery {
    /// What the depot's keeper has in a file.
    pub fn of_keeper(path: &Path) -> Self {
        Self { path: path.to_owned(), channel: None, token: None }
    }

    fn judge(&self, mut incoming: Incoming) -> Result<Incoming, DepotError> {
        if let Some(token) = &self.token
            && !token.is_for(&incoming.item.package)
        {
            incoming.drop_copy();
            let (name, package) = (token.name.clone(), incoming.item.package);
            return Err(DepotError::NotTheirs { name, package });
        }
        incoming.item.channel = self.channel.unwrap_or(incoming.item.channel);
        Ok(incoming)
    }
}

/// A step of a publication, for tests that stop at each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Copied,
    Kept,
    Rendered,
    Switched,
    Cleared,
}

/// Called after each step; an error stops there, as a kill would.
type Watch<'a> = &'a mut dyn FnMut(Step) -> Result<(), DepotError>;

fn unwatched(_: Step) -> Result<(), DepotError> {
    Ok(())
}

/// Makes an empty depot in the folder `root`, with keys grown from `seeds`. Keys that lie there
/// already are used.
pub fn init(root: &Path, seeds: &Seeds, now: UnixSeconds) -> Result<(), DepotError> {
    let place = Place::at(root);
    place.make_folders()?;
    let _lock = place.lock()?;
    if place.current().is_ok() {
        return Err(DepotError::AlreadyThere { path: root.to_owned() });
    }
    metadata::make_keys(&place, seeds)?;
    let first = metadata::first_root(&place, now)?;
    let roots = vec![("1.root.json".to_owned(), first.clone()), ("root.json".to_owned(), first)];
    let before = Tree { number: 0, shelves: Shelves::default(), metadata: roots };
    let ring = Keyring::of(&place)?;
    change(&place, &ring, &before, Shelves::default(), &Reason::Shelves, now)
}

/// Puts packages on the shelves: all of them, or none.
pub fn publish(
    root: &Path,
    files: &[PathBuf],
    now: UnixSeconds,
) -> Result<Vec<Published>, DepotError> {
    let deliveries: Vec<_> = files.iter().map(|path| Delivery::of_keeper(path)).collect();
    publish_all(root, &deliveries, now)
}

/// The same for packages on somebody's word.
pub fn publish_all(
    root: &Path,
    deliveries: &[Delivery],
    now: UnixSeconds,
) -> Result<Vec<Published>, DepotError> {
    publish_watched(root, deliveries, now, &mut unwatched)
}

pub(crate) fn publish_watched(
    root: &Path,
    deliveries: &[Delivery],
    now: UnixSeconds,
    watch: Watch<'_>,
) -> Result<Vec<Published>, DepotError> {
    let place = Place::at(root);
    place.current()?;
    let _lock = place.lock()?;
    let before = place.read_current()?;
    let mut shelves = before.shelves.clone();
    let mut taken: Vec<(Incoming, bool)> = Vec::new();
    for (number, delivery) in deliveries.iter().enumerate() {
        let taken_in = take_in(&place, number, &delivery.path, now);
        let put = taken_in.and_then(|incoming| {
            let incoming = delivery.judge(incoming)?;
            let is_new = shelves.put(incoming.item.clone())?;
            Ok((incoming, is_new))
        });
        match put {
            Ok(done) => taken.push(done),
            Err(error) => {
                taken.iter().for_each(|(incoming, _)| incoming.drop_copy());
                place.drop_incoming(number);
                return Err(error);
            }
        }
        watch(Step::Copied)?;
    }
    for (incoming, _) in &taken {
        incoming.keep(&place)?;
        watch(Step::Kept)?;
    }
    if shelves != before.shelves {
        let ring = Keyring::of(&place)?;
        change_watched(&place, &ring, &before, shelves, &Reason::Shelves, now, watch)?;
    }
    let published = taken.into_iter().map(|(incoming, is_new)| Published {
        package: incoming.item.package,
        version: incoming.item.version,
        file: incoming.item.file,
        is_new,
    });
    Ok(published.collect())
}

/// Takes every file of a version off the shelves; how many there were.
pub fn withdraw(
    root: &Path,
    package: &str,
    version: &str,
    now: UnixSeconds,
) -> Result<usize, DepotError> {
    on_shelves(root, &Reason::Shelves, now, |shelves| shelves.withdraw(package, version))
}

/// Brings every file of a version from one channel to another; how many there were.
pub fn promote(
    root: &Path,
    package: &str,
    version: &str,
    to: Channel,
    now: UnixSeconds,
) -> Result<usize, DepotError> {
    on_shelves(root, &Reason::Shelves, now, |shelves| shelves.promote(package, version, to))
}

/// Changes what is on the shelves, and signs it if anything changed; how many things that were.
pub(crate) fn on_shelves(
    root: &Path,
    reason: &Reason,
    now: UnixSeconds,
    work: impl FnOnce(&mut Shelves) -> Result<usize, DepotError>,
) -> Result<usize, DepotError> {
    let place = Place::at(root);
    place.current()?;
    let _lock = place.lock()?;
    let before = place.read_current()?;
    let mut shelves = before.shelves.clone();
    let count = work(&mut shelves)?;
    if count > 0 {
        place.note_unnamed(&before.shelves, &shelves, now);
        change(&place, &Keyring::of(&place)?, &before, shelves, reason, now)?;
    }
    Ok(count)
}

/// Signs anew what ends soonest, so that clients go on believing the depot. To be done daily; a
/// depot that is served does it itself. A root that is about to end is followed by the spare one.
pub fn renew(root: &Path, now: UnixSeconds) -> Result<(), DepotError> {
    let place = Place::at(root);
    place.current()?;
    let _lock = place.lock()?;
    let number = place.current()?;
    let signed = Signed::of(&place, number)?;
    let ends_soon = now.days_until(signed.root.head.expires) < u64::from(WARN_DAYS);
    let spare = if ends_soon { read_spare(&place, &signed.root)? } else { None };
    if spare.is_none()
        && let Some(next) = metadata::next_day(&place, &Keyring::of(&place)?, number, &signed, now)?
    {
        // Nothing else of the tree is read: a long list would take more memory than the server.
        let next = place.write_next(number, &next.stays, &next.new)?;
        Signed::at(&place, next, now)?;
        place.switch(next)?;
        return place.clear_old_trees(next);
    }
    let before = place.read_current()?;
    if let Some(spare) = spare {
        return publish_root(&place, &before, spare, now).map(drop);
    }
    let shelves = before.shelves.clone();
    change(&place, &Keyring::of(&place)?, &before, shelves, &Reason::Time, now)
}

/// What is known of the depot's keys and signatures.
pub fn keys(root: &Path, now: UnixSeconds) -> Result<KeysReport, DepotError> {
    let place = Place::at(root);
    let (signed, root_json) = place.read_in_force(|place, number| {
        let path = place.metadata(number, "root.json");
        Ok((Signed::of(place, number)?, read(&path, u64::from(ROOT_BYTES_MAX))?))
    })?;
    Ok(signed.report(&Keyring::of(&place)?, root_json, now))
}

/// What is on the shelves.
pub fn shelves(root: &Path) -> Result<Shelves, DepotError> {
    Ok(Place::at(root).read_current()?.shelves)
}

/// Makes the next tree and puts it in force.
pub fn change(
    place: &Place,
    ring: &Keyring,
    before: &Tree,
    shelves: Shelves,
    reason: &Reason,
    now: UnixSeconds,
) -> Result<(), DepotError> {
    change_watched(place, ring, before, shelves, reason, now, &mut unwatched)
}

fn change_watched(
    place: &Place,
    ring: &Keyring,
    before: &Tree,
    shelves: Shelves,
    reason: &Reason,
    now: UnixSeconds,
    watch: Watch<'_>,
) -> Result<(), DepotError> {
    let metadata = metadata::next(place, ring, before, &shelves, reason, now)?;
    let tree = Tree { number: before.number + 1, shelves, metadata };
    metadata::verify(&tree, now)?;
    place.write_tree(&tree, before)?;
    watch(Step::Rendered)?;
    place.switch(tree.number)?;
    watch(Step::Switched)?;
    place.clear_old_trees(tree.number)?;
    place.clear_unnamed(&[&tree.shelves, &before.shelves], now)?;
    watch(Step::Cleared)
}

#[cfg(test)]
mod tests;
