//! The signed metadata of a tree: made from what is on the shelves, the keys and the time.
//!
//! How long each role's signature lasts is chosen so that no gap can open unnoticed: at least
//! three times the interval in which it is renewed.

use crate::error::DepotError;
use crate::place::{Place, Tree, read, write_whole};
use crate::shelves::{Item, Shelves};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use supervisor_trust::envelope::sign;
use supervisor_trust::key::KEY_FILE_BYTES_MAX;
use supervisor_trust::{
    Cache, Client, Head, MetaFile, Moment, Offer, Role, Root, SigningKey, Snapshot, TargetFile,
    Targets, Timestamp, TrustError, UnixSeconds,
};

/// Renewed once a year.
const ROOT_DAYS: u32 = 5 * 365;
/// Renewed with each publication, and by `renew` when half of it is over.
const TARGETS_DAYS: u32 = 400;
/// Renewed every day by a depot that is served.
const SNAPSHOT_DAYS: u32 = 21;
/// Renewed every day by a depot that is served.
const TIMESTAMP_DAYS: u32 = 21;

/// Older snapshots and lists that stay, for clients that are in the middle of reading.
const VERSIONS_KEPT: usize = 8;

/// 32 random bytes for each key. They come from the caller, because this room has no dice.
#[derive(Clone)]
pub struct Seeds {
    /// For the root's key.
    pub root: [u8; 32],
    /// For the key of the lists.
    pub targets: [u8; 32],
    /// For the key of the snapshots.
    pub snapshot: [u8; 32],
    /// For the key of the timestamps.
    pub timestamp: [u8; 32],
}

impl Seeds {
    fn of(&self, role: Role) -> &[u8; 32] {
        match role {
            Role::Root => &self.root,
            Role::Targets => &self.targets,
            Role::Snapshot => &self.snapshot,
            Role::Timestamp => &self.timestamp,
        }
    }
}

/// What is known of a depot's keys and signatures.
#[derive(Debug, Clone)]
pub struct KeysReport {
    /// The version of the newest root.
    pub root_version: u64,
    /// The newest `root.json`: what clients are given to trust (`depot.pub`).
    pub root_json: Vec<u8>,
    /// Each role.
    pub roles: Vec<RoleReport>,
}

/// What is known of one role.
#[derive(Debug, Clone)]
pub struct RoleReport {
    /// The role.
    pub role: Role,
    /// The ids of its keys.
    pub keyids: Vec<String>,
    /// How many of them must sign.
    pub threshold: usize,
    /// Whether a key that signs for it lies in the depot's folder.
    pub key_is_here: bool,
    /// When its newest signature ends.
    pub expires: UnixSeconds,
    /// Whole days until then.
    pub days_left: u64,
}

/// Makes the keys that are not there yet.
pub fn make_keys(place: &Place, seeds: &Seeds) -> Result<(), DepotError> {
    for role in Role::ALL {
        let path = place.key(role);
        if !path.exists() {
            let key = SigningKey::from_seed(seeds.of(role));
            write_whole(&path, key.to_text().as_bytes(), 0o600)?;
        }
    }
    Ok(())
}

fn key(place: &Place, role: Role) -> Result<SigningKey, DepotError> {
    let path = place.key(role);
    if !path.exists() {
        return Err(DepotError::NoKey { role, path });
    }
    let bytes = read(&path, KEY_FILE_BYTES_MAX as u64)?;
    let text = String::from_utf8(bytes).map_err(|_| DepotError::damaged(&path, "it is no text"))?;
    SigningKey::from_text(&text).map_err(|error| DepotError::damaged(&path, error))
}

/// The first root of a depot, signed.
pub fn first_root(place: &Place, now: UnixSeconds) -> Result<Vec<u8>, DepotError> {
    let mut keys = Vec::new();
    for role in Role::ALL {
        keys.push((role, [key(place, role)?.public()]));
    }
    let roles: Vec<_> = keys.iter().map(|(role, keys)| (*role, 1, keys.as_slice())).collect();
    let head = Head { version: 1, expires: now.plus_days(ROOT_DAYS) };
    let root = Root::new(head, &roles);
    Ok(sign(&root.to_value(), &[&key(place, Role::Root)?]))
}

/// What a tree's metadata says, read as a client that trusts its root reads it.
pub struct Signed {
    root: Root,
    targets: Option<Targets>,
    snapshot: Option<Snapshot>,
    timestamp: Option<Timestamp>,
}

impl Signed {
    /// Reads the metadata of a tree, whatever the time.
    pub fn read(tree: &Tree) -> Result<Self, DepotError> {
        // Nothing has expired in 1970: a publisher must be able to renew what has run out.
        let client = follow(tree, UnixSeconds::new(0))?;
        let verified = client.verified();
        Ok(Self {
            root: client.root().clone(),
            targets: verified.map(|verified| verified.targets.clone()),
            snapshot: verified.map(|verified| verified.snapshot.clone()),
            timestamp: verified.map(|verified| verified.timestamp.clone()),
        })
    }

    fn expires(&self, role: Role) -> UnixSeconds {
        let head = match role {
            Role::Root => Some(self.root.head),
            Role::Targets => self.targets.as_ref().map(|targets| targets.head),
            Role::Snapshot => self.snapshot.as_ref().map(|snapshot| snapshot.head),
            Role::Timestamp => self.timestamp.as_ref().map(|timestamp| timestamp.head),
        };
        head.map_or(UnixSeconds::new(0), |head| head.expires)
    }

    /// What is known of the keys.
    pub fn report(&self, place: &Place, tree: &Tree, now: UnixSeconds) -> KeysReport {
        let version = self.root.head.version;
        let role = |role: Role| {
            let trusted = self.root.role(role);
            let expires = self.expires(role);
            RoleReport {
                role,
                keyids: trusted.keyids.iter().map(ToString::to_string).collect(),
                threshold: trusted.threshold,
                key_is_here: key(place, role)
                    .is_ok_and(|key| trusted.keyids.contains(&key.public().id())),
                expires,
                days_left: now.days_until(expires),
            }
        };
        KeysReport {
            root_version: version,
            root_json: tree.metadata("root.json").unwrap_or_default().to_vec(),
            roles: Role::ALL.into_iter().map(role).collect(),
        }
    }

    /// Whether the lists' signature is half over.
    fn targets_need_renewal(&self, now: UnixSeconds) -> bool {
        now.days_until(self.expires(Role::Targets)) < u64::from(TARGETS_DAYS / 2)
    }
}

/// Verifies a tree as every client will that meets it at `now`.
pub fn verify(tree: &Tree, now: UnixSeconds) -> Result<(), DepotError> {
    follow(tree, now)?
        .verified()
        .map(drop)
        .ok_or_else(|| DepotError::Trust(TrustError::Missing { name: "timestamp.json".to_owned() }))
}

/// Runs a client that trusts the tree's first root; a tree without a timestamp ends early.
fn follow(tree: &Tree, now: UnixSeconds) -> Result<Client, DepotError> {
    let first = tree.metadata("1.root.json").unwrap_or_default();
    let mut client = Client::start(first, Cache::default(), Moment::new(now, now))?;
    while let Some(request) = client.request() {
        let found = tree.metadata(&request.name);
        if found.is_none() && request.name == "timestamp.json" {
            break;
        }
        client.answer(found)?;
    }
    Ok(client)
}

/// What a new tree's metadata is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Something on the shelves changed.
    Shelves,
    /// Only time has passed.
    Time,
}

/// The metadata for `shelves` that follows `before`.
pub fn next(
    place: &Place,
    before: &Tree,
    shelves: &Shelves,
    reason: Reason,
    now: UnixSeconds,
) -> Result<Vec<(String, Vec<u8>)>, DepotError> {
    let signed = Signed::read(before)?;
    let mut files: BTreeMap<String, Vec<u8>> = kept(before);
    let targets_before = signed.targets.as_ref().map_or(0, |targets| targets.head.version);
    let renew_targets = reason == Reason::Shelves || signed.targets_need_renewal(now);
    let (version, bytes) = if renew_targets {
        let version = targets_before + 1;
        let head = Head { version, expires: now.plus_days(TARGETS_DAYS) };
        let targets = Targets { head, targets: targets(shelves) };
        (version, sign(&targets.to_value(), &[&key(place, Role::Targets)?]))
    } else {
        let name = format!("{targets_before}.targets.json");
        (targets_before, before.metadata(&name).unwrap_or_default().to_vec())
    };
    let listed = meta_file(version, &bytes);
    files.insert(format!("{version}.targets.json"), bytes);

    let version = signed.snapshot.map_or(0, |snapshot| snapshot.head.version) + 1;
    let head = Head { version, expires: now.plus_days(SNAPSHOT_DAYS) };
    let meta = BTreeMap::from([("targets.json".to_owned(), listed)]);
    let bytes = sign(&Snapshot { head, meta }.to_value(), &[&key(place, Role::Snapshot)?]);
    let snapshot = meta_file(version, &bytes);
    files.insert(format!("{version}.snapshot.json"), bytes);

    let version = signed.timestamp.map_or(0, |timestamp| timestamp.head.version) + 1;
    let head = Head { version, expires: now.plus_days(TIMESTAMP_DAYS) };
    let bytes = sign(&Timestamp { head, snapshot }.to_value(), &[&key(place, Role::Timestamp)?]);
    files.insert("timestamp.json".to_owned(), bytes);
    Ok(files.into_iter().collect())
}

fn meta_file(version: u64, bytes: &[u8]) -> MetaFile {
    let sha256 = Some(Sha256::digest(bytes).into());
    MetaFile { version, length: Some(bytes.len() as u64), sha256 }
}

/// The roots, which stay for ever, and the last snapshots and lists.
fn kept(before: &Tree) -> BTreeMap<String, Vec<u8>> {
    let is_root = |(name, _): &&(String, Vec<u8>)| name.ends_with("root.json");
    let mut files: BTreeMap<_, _> = before.metadata.iter().filter(is_root).cloned().collect();
    for kind in [".snapshot.json", ".targets.json"] {
        let version = |(name, _): &(String, Vec<u8>)| name.strip_suffix(kind)?.parse().ok();
        let mut versions: Vec<u64> = before.metadata.iter().filter_map(version).collect();
        versions.sort_unstable();
        for version in versions.iter().rev().take(VERSIONS_KEPT) {
            let name = format!("{version}{kind}");
            if let Some(bytes) = before.metadata(&name) {
                files.insert(name, bytes.to_vec());
            }
        }
    }
    files
}

fn targets(shelves: &Shelves) -> BTreeMap<String, TargetFile> {
    let newest = shelves.newest();
    newest.into_iter().map(|item| (item.file.clone(), target(item))).collect()
}

fn target(item: &Item) -> TargetFile {
    let offer = Offer {
        package: item.package.clone(),
        version: item.version.clone(),
        platforms: item.archs.clone(),
        channel: item.channel.name().to_owned(),
        dsm_major: item.dsm_major,
        build_min: item.build_min,
        build_max: item.build_max,
    };
    let mut sha256 = [0; 32];
    // The hash came out of `spk` as 64 digits; anything else would sign for a file nobody has.
    let _ = hex::decode_to_slice(&item.sha256, &mut sha256);
    TargetFile { length: item.bytes, sha256, custom: Some(offer.to_value()) }
}
