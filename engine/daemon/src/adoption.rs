//! Adopting: this computer becomes the one whose snapshots a destination holds.
//!
//! Snapshots carry the tags `guid:N` and `set:NAME`. With the old GUID, the next run of a set finds
//! the old computer's snapshots as its parents, so that nothing is sent again.

use crate::daemon::Daemon;
use crate::destination;
use crate::failure::Failure;
use crate::settings::BackupSet;
use engine_contract::control::{AdoptComputer, Adopted};
use engine_contract::identity::Guid;
use engine_transfer::SnapshotInfo;
use std::collections::BTreeSet;

const GUID_TAG: &str = "guid:";
const SET_TAG: &str = "set:";

/// The tag that says whose a snapshot is.
pub fn guid_tag(guid: Guid) -> String {
    format!("{GUID_TAG}{guid}")
}

/// The tag that says of which set a snapshot is.
pub fn set_tag(set: &str) -> String {
    format!("{SET_TAG}{set}")
}

/// Takes over the GUID, and sets up again the sets its newest snapshots tell of.
pub fn adopt(daemon: &Daemon, wanted: AdoptComputer) -> Result<Adopted, Failure> {
    let destination = daemon.known().settings.destination(&wanted.destination)?.clone();
    let repository = destination::open(daemon, &destination)?;
    let (snapshots, _) = engine_transfer::readable_snapshots(&repository)?;
    let tag = guid_tag(wanted.guid);
    let of_it: Vec<&SnapshotInfo> =
        snapshots.iter().filter(|snapshot| snapshot.tags.contains(&tag)).collect();
    if of_it.is_empty() {
        return Err(nobody(&wanted, &snapshots));
    }
    let mut sets = Vec::new();
    for set in sets_told_of(&of_it, &wanted.destination) {
        let name = set.name.clone();
        let is_known = daemon.known().settings.set(&name).is_ok();
        if !is_known {
            daemon.change_settings(|settings| settings.add_set(set))?;
            sets.push(name);
        }
    }
    let guid_before = {
        let mut known = daemon.known();
        let before = known.identity;
        if before.guid != wanted.guid {
            let after = before.adopting(wanted.guid);
            daemon.home.set_identity(after)?;
            known.identity = after;
        }
        before.guid
    };
    daemon.log(&format!("adopted computer {}; this one was {guid_before}", wanted.guid));
    Ok(Adopted { guid: wanted.guid, guid_before, snapshots: of_it.len(), sets })
}

/// The sets of these snapshots, oldest first, as the newest snapshot of each describes it.
fn sets_told_of(snapshots: &[&SnapshotInfo], destination: &str) -> Vec<BackupSet> {
    let mut sets: Vec<BackupSet> = Vec::new();
    for snapshot in snapshots {
        let Some(name) = snapshot.tags.iter().find_map(|tag| tag.strip_prefix(SET_TAG)) else {
            continue;
        };
        let set = BackupSet {
            name: name.to_owned(),
            paths: snapshot.paths.clone(),
            excludes: snapshot.excludes.clone(),
            destination: destination.to_owned(),
        };
        match sets.iter_mut().find(|known| known.name == name) {
            Some(known) => *known = set,
            None => sets.push(set),
        }
    }
    sets
}

fn nobody(wanted: &AdoptComputer, snapshots: &[SnapshotInfo]) -> Failure {
    let there: BTreeSet<&str> = snapshots
        .iter()
        .flat_map(|snapshot| &snapshot.tags)
        .filter_map(|tag| tag.strip_prefix(GUID_TAG))
        .collect();
    let fact = format!(
        "destination `{}` holds no snapshot of computer {}",
        wanted.destination, wanted.guid
    );
    if there.is_empty() {
        return Failure::new(fact)
            .remedy("no computer's snapshots are there: is it the right one?");
    }
    let there: Vec<&str> = there.into_iter().collect();
    Failure::new(fact).remedy(format!("it holds those of {}", there.join(", ")))
}
