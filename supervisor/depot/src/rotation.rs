//! Changing who may sign: the next root, signed by the old root's keys and by its own.
//!
//! The next root and everything that is signed by a key it changes go into one new tree, so a
//! client meets all of it or nothing. What a changed role signs there carries the old keys'
//! signatures too: a client that has read the old root a moment ago believes it as well. Before
//! anything is written the year ahead is planned, and a change that leaves a gap is refused.

use crate::error::DepotError;
use crate::keyring::{Keyring, write_key};
use crate::metadata::{NewRoot, Reason, Signed};
use crate::place::{Place, Tree, read, write_whole};
use crate::publish::change;
use std::io;
use std::path::{Path, PathBuf};
use supervisor_trust::client::ROOT_BYTES_MAX;
use supervisor_trust::coverage::{self, Plan, RoleState, Rule};
use supervisor_trust::envelope::sign;
use supervisor_trust::{
    Envelope, Head, KeyId, PublicKey, Role, Root, SigningKey, UnixSeconds, coverage::Gap,
};

/// What is to change about a role's keys.
#[derive(Debug, Clone)]
pub enum KeyChange {
    /// Replaces one key, or all of the role's, by as many new ones.
    Rotate {
        /// The key, by the beginning of its id; `None` for all.
        keyid: Option<String>,
    },
    /// Adds new keys.
    Add {
        /// How many.
        count: usize,
        /// How many keys must sign from then on, if that changes.
        threshold: Option<usize>,
    },
    /// Takes a key off the list.
    Remove {
        /// The key, by the beginning of its id.
        keyid: String,
        /// How many keys must sign from then on, if that changes.
        threshold: Option<usize>,
    },
}

/// What a change brings along.
pub struct Means<'a> {
    /// Files of signing keys that lie elsewhere, such as the root's.
    pub brought: &'a [PathBuf],
    /// Where new keys are written; `None`: the depot's `keys` folder.
    pub keys_to: Option<&'a Path>,
    /// 32 random bytes for each new key.
    pub seed: &'a mut Dice<'a>,
}

/// Where random bytes come from, because this room has no dice.
pub type Dice<'a> = dyn FnMut() -> io::Result<[u8; 32]> + 'a;

/// What a change has done.
#[derive(Debug, Clone)]
pub struct Changed {
    /// The version of the new root.
    pub root_version: u64,
    /// The files of the new keys.
    pub new_keys: Vec<PathBuf>,
    /// The ids of the keys that no longer sign.
    pub retired: Vec<String>,
    /// A spare root lay there, and no longer follows the root in force.
    pub spare_is_void: bool,
}

/// The year ahead, as it would be from the folder as it is.
pub fn plan(root: &Path, now: UnixSeconds) -> Result<Plan, DepotError> {
    let place = Place::at(root);
    let signed = place.read_in_force(Signed::of)?;
    let states = signed.states(&Keyring::of(&place)?);
    Ok(coverage::plan(&states, spare_expires(&place, &signed), now))
}

/// The roles whose signatures end soon, with the whole days that are left.
pub fn warnings(root: &Path, now: UnixSeconds) -> Result<Vec<(Role, u64)>, DepotError> {
    let place = Place::at(root);
    let signed = place.read_in_force(Signed::of)?;
    let states = signed.states(&Keyring::of(&place)?);
    Ok(coverage::warnings(&states, spare_expires(&place, &signed), now))
}

/// Whole days until each role's newest signature ends, as of `now`: what a monitor watches.
pub fn days_left(root: &Path, now: UnixSeconds) -> Result<Vec<(Role, u64)>, DepotError> {
    let signed = Place::at(root).read_in_force(Signed::of)?;
    Ok(Role::ALL.map(|role| (role, now.days_until(signed.expires(role)))).to_vec())
}

/// Changes the keys of a role and puts the next root in force.
pub fn change_keys(
    root: &Path,
    role: Role,
    key_change: &KeyChange,
    means: Means<'_>,
    now: UnixSeconds,
) -> Result<Changed, DepotError> {
    let place = Place::at(root);
    place.current()?;
    let _lock = place.lock()?;
    let before = place.read_current()?;
    let signed = Signed::read(&before)?;
    let mut ring = Keyring::of(&place)?.with(means.brought)?;
    let change = Change::of(&signed.root, role, key_change, means.seed)?;
    let plan_before = coverage::plan(&signed.states(&ring), None, now);
    let folder = means.keys_to.map_or_else(|| place.keys(), Path::to_owned);
    let stays_here = folder == place.keys();
    for seed in &change.new_seeds {
        ring.hold(SigningKey::from_seed(seed), stays_here);
    }
    let next = next_root(&signed.root, role, &change, now);
    refuse_gap(&states_after(&signed, &next, &ring, role, now), plan_before.gap, now)?;
    let new_root = signed_root(&place, &ring, &signed.root, next)?;
    let mut new_keys = Vec::new();
    // On the disk before anything names them: a root nobody can follow would be the end.
    for seed in &change.new_seeds {
        new_keys.push(write_key(&folder, role, &SigningKey::from_seed(seed))?);
    }
    let root_version = new_root.root.head.version;
    let shelves = before.shelves.clone();
    self::change(&place, &ring, &before, shelves, &Reason::Root(Box::new(new_root)), now)?;
    let spare_is_void = place.spare().exists();
    if spare_is_void {
        std::fs::remove_file(place.spare()).map_err(DepotError::file("clear", &place.spare()))?;
    }
    let retired = change.retired.iter().map(ToString::to_string).collect();
    Ok(Changed { root_version, new_keys, retired, spare_is_void })
}

/// Signs the next root in advance, with new root keys, and lays it by. Publishing it needs no key
/// of the root: it is for the day on which those are lost or stolen.
pub fn make_spare(root: &Path, means: Means<'_>, now: UnixSeconds) -> Result<Changed, DepotError> {
    let place = Place::at(root);
    place.current()?;
    let _lock = place.lock()?;
    let signed = Signed::read(&place.read_current()?)?;
    let all = KeyChange::Rotate { keyid: None };
    let change = Change::of(&signed.root, Role::Root, &all, means.seed)?;
    let mut ring = Keyring::of(&place)?.with(means.brought)?;
    for seed in &change.new_seeds {
        ring.hold(SigningKey::from_seed(seed), false);
    }
    let next = next_root(&signed.root, Role::Root, &change, now);
    let new_root = signed_root(&place, &ring, &signed.root, next)?;
    let folder = means.keys_to.map_or_else(|| place.keys(), Path::to_owned);
    let mut new_keys = Vec::new();
    for seed in &change.new_seeds {
        new_keys.push(write_key(&folder, Role::Root, &SigningKey::from_seed(seed))?);
    }
    write_whole(&place.spare(), &new_root.bytes, 0o644)?;
    let root_version = new_root.root.head.version;
    Ok(Changed { root_version, new_keys, retired: Vec::new(), spare_is_void: false })
}

/// Puts the spare root in force; its version.
pub fn publish_spare(root: &Path, now: UnixSeconds) -> Result<u64, DepotError> {
    let place = Place::at(root);
    place.current()?;
    let _lock = place.lock()?;
    let before = place.read_current()?;
    let signed = Signed::read(&before)?;
    let spare = read_spare(&place, &signed.root)?.ok_or(DepotError::NoSpare)?;
    publish_root(&place, &before, spare, now)
}

/// Puts a signed root in force that follows the one of `before`, and clears the spare one.
pub fn publish_root(
    place: &Place,
    before: &Tree,
    new_root: NewRoot,
    now: UnixSeconds,
) -> Result<u64, DepotError> {
    let version = new_root.root.head.version;
    let shelves = before.shelves.clone();
    let ring = Keyring::of(place)?;
    change(place, &ring, before, shelves, &Reason::Root(Box::new(new_root)), now)?;
    std::fs::remove_file(place.spare()).map_err(DepotError::file("clear", &place.spare()))?;
    Ok(version)
}

/// The spare root, if there is one that every client of `root` will follow.
pub fn read_spare(place: &Place, root: &Root) -> Result<Option<NewRoot>, DepotError> {
    let path = place.spare();
    if !path.exists() {
        return Ok(None);
    }
    let bytes = read(&path, u64::from(ROOT_BYTES_MAX))?;
    let damaged = |error| DepotError::damaged(&path, error);
    let spare = Envelope::parse("spare.root.json", &bytes).and_then(|envelope| envelope.root());
    if spare.map_err(damaged)?.head.version <= root.head.version {
        // Somebody was killed after it had come into force, or before a change cleared it away.
        return Ok(None);
    }
    let next = follows(root, &bytes).map_err(damaged)?;
    Ok(Some(NewRoot { root: next, bytes }))
}

/// When the spare root ends; nothing if there is none that fits.
pub fn spare_expires(place: &Place, signed: &Signed) -> Option<UnixSeconds> {
    let spare = read_spare(place, &signed.root).ok()??;
    Some(spare.root.head.expires)
}

/// What becomes of a role's list of keys.
struct Change {
    keys: Vec<PublicKey>,
    threshold: usize,
    new_seeds: Vec<[u8; 32]>,
    retired: Vec<KeyId>,
}

impl Change {
    fn of(
        root: &Root,
        role: Role,
        change: &KeyChange,
        seed: &mut Dice<'_>,
    ) -> Result<Self, DepotError> {
        let listed = root.role(role);
        let find = |text: &str| {
            let mut found =
                listed.keyids.iter().filter(|id| !text.is_empty() && id.as_str().starts_with(text));
            match (found.next(), found.next()) {
                (Some(id), None) => Ok(vec![id.clone()]),
                _ => Err(DepotError::NoSuchKey { role, keyid: text.chars().take(64).collect() }),
            }
        };
        let (retired, count, threshold) = match change {
            KeyChange::Rotate { keyid: None } => (listed.keyids.clone(), listed.keyids.len(), None),
            KeyChange::Rotate { keyid: Some(keyid) } => (find(keyid)?, 1, None),
            KeyChange::Add { count, threshold } => (Vec::new(), *count, *threshold),
            KeyChange::Remove { keyid, threshold } => (find(keyid)?, 0, *threshold),
        };
        let new_seeds: Vec<[u8; 32]> =
            (0..count).map(|_| seed()).collect::<io::Result<_>>().map_err(DepotError::NoDice)?;
        let stays = listed.keyids.iter().filter(|id| !retired.contains(id));
        let mut keys: Vec<PublicKey> = stays.filter_map(|id| root.key(id).cloned()).collect();
        keys.extend(new_seeds.iter().map(|seed| SigningKey::from_seed(seed).public()));
        let threshold = threshold.unwrap_or(listed.threshold).max(1);
        Ok(Self { keys, threshold, new_seeds, retired })
    }
}

fn next_root(root: &Root, role: Role, change: &Change, now: UnixSeconds) -> Root {
    let same = |role: Role| {
        let listed = root.role(role);
        let keys = listed.keyids.iter().filter_map(|id| root.key(id).cloned()).collect();
        (role, listed.threshold, keys)
    };
    let roles: Vec<(Role, usize, Vec<PublicKey>)> = Role::ALL
        .into_iter()
        .map(|one| match one == role {
            true => (role, change.threshold, change.keys.clone()),
            false => same(one),
        })
        .collect();
    let roles: Vec<_> =
        roles.iter().map(|(role, count, keys)| (*role, *count, &keys[..])).collect();
    let expires = now.plus_days(Rule::of(Role::Root).valid_days);
    Root::new(Head { version: root.head.version + 1, expires }, &roles)
}

/// Signs a root with every key at hand of the old one and of its own, and tries it as a client.
fn signed_root(
    place: &Place,
    ring: &Keyring,
    old: &Root,
    next: Root,
) -> Result<NewRoot, DepotError> {
    let mut keys = ring.signers(place, old, Role::Root)?;
    for key in ring.signers(place, &next, Role::Root)? {
        if !keys.iter().any(|other| other.public() == key.public()) {
            keys.push(key);
        }
    }
    let bytes = sign(&next.to_value(), &keys);
    let root = follows(old, &bytes)?;
    Ok(NewRoot { root, bytes })
}

/// Reads a root that clients of `old` will follow.
fn follows(old: &Root, bytes: &[u8]) -> Result<Root, supervisor_trust::TrustError> {
    let version = old.head.version + 1;
    let name = format!("{version}.root.json");
    let envelope = Envelope::parse(&name, bytes)?;
    envelope.verify(Role::Root, old)?;
    let root = envelope.root()?;
    envelope.verify(Role::Root, &root)?;
    match root.head.version == version {
        true => Ok(root),
        false => Err(supervisor_trust::TrustError::Rollback {
            name,
            offered: root.head.version,
            known: old.head.version,
        }),
    }
}

/// The roles as they are once the change is in force: what it re-signs lasts from now on.
fn states_after(
    signed: &Signed,
    next: &Root,
    ring: &Keyring,
    changed: Role,
    now: UnixSeconds,
) -> Vec<RoleState> {
    let is_signed_anew = |role: Role| role != Role::Targets || changed == Role::Targets;
    let state = |role: Role| RoleState {
        role,
        expires: match is_signed_anew(role) {
            true => now.plus_days(Rule::of(role).valid_days),
            false => signed.expires(role),
        },
        threshold: next.role(role).threshold,
        listed: next.role(role).keyids.len(),
        here: ring.here(next, role),
    };
    Role::ALL.into_iter().map(state).collect()
}

/// Refuses what leaves a gap, unless there was one already that comes no sooner.
fn refuse_gap(
    states: &[RoleState],
    before: Option<Gap>,
    now: UnixSeconds,
) -> Result<(), DepotError> {
    match coverage::plan(states, None, now).gap {
        Some(gap) if before.is_none_or(|before| gap.from < before.from) => {
            Err(DepotError::Gap { gap })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
