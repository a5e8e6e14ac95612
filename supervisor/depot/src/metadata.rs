//! The signed metadata of a tree: made from what is on the shelves, the keys and the time.
//!
//! How long each role's signature lasts is `supervisor_trust::coverage`'s [`Rule`]. A renewal that
//! finds no key for the lists leaves them as they are as long as they are valid: the timestamp must
//! not end because somebody keeps the lists' key elsewhere.

use crate::error::DepotError;
use crate::keyring::Keyring;
use crate::place::{Place, Tree, read, write_whole};
use crate::shelves::{Item, Shelves};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use supervisor_trust::client::{SNAPSHOT_BYTES_MAX, TARGETS_BYTES_MAX};
use supervisor_trust::coverage::{RoleState, Rule};
use supervisor_trust::envelope::sign;
use supervisor_trust::{
    Cache, Client, FileHash, Head, MetaFile, Moment, Offer, PublicKey, Role, Root, SigningKey,
    Snapshot, TargetFile, Targets, Timestamp, TrustError, UnixSeconds,
};

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
    /// Whether enough keys that sign for it lie in the depot's folder.
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

/// The first root of a depot, signed: one key for each role.
pub fn first_root(place: &Place, now: UnixSeconds) -> Result<Vec<u8>, DepotError> {
    let mut keys: Vec<(Role, SigningKey)> = Vec::new();
    for role in Role::ALL {
        keys.push((role, crate::keyring::read_key(&place.key(role))?));
    }
    let public: Vec<(Role, [PublicKey; 1])> =
        keys.iter().map(|(role, key)| (*role, [key.public()])).collect();
    let roles: Vec<_> = public.iter().map(|(role, keys)| (*role, 1, keys.as_slice())).collect();
    let root = Root::new(Head { version: 1, expires: ends(Role::Root, now) }, &roles);
    let signers: Vec<&SigningKey> =
        keys.iter().filter(|(role, _)| *role == Role::Root).map(|(_, key)| key).collect();
    Ok(sign(&root.to_value(), &signers))
}

/// When what is signed for a role now ends.
fn ends(role: Role, now: UnixSeconds) -> UnixSeconds {
    now.plus_days(Rule::of(role).valid_days)
}

/// What a tree's metadata says, read as a client that trusts its root reads it. Of the list of
/// files only the head is kept: the snapshot names the list by its hash, and as a value ten
/// thousand files take more memory than the server.
pub struct Signed {
    /// The newest root.
    pub root: Root,
    targets: Option<Head>,
    snapshot: Option<Snapshot>,
    timestamp: Option<Timestamp>,
}

impl Signed {
    /// Reads the metadata of a tree, whatever the time.
    pub fn read(tree: &Tree) -> Result<Self, DepotError> {
        Self::follow(&Source::Memory(tree), UnixSeconds::new(0))
    }

    /// The same of a tree on the disk.
    pub fn of(place: &Place, number: u64) -> Result<Self, DepotError> {
        // Nothing has expired in 1970: a publisher must be able to renew what has run out.
        Self::follow(&Source::Disk(place, number), UnixSeconds::new(0))
    }

    /// The same as a client reads it at `now`, to whom nothing may have expired.
    pub fn at(place: &Place, number: u64, now: UnixSeconds) -> Result<Self, DepotError> {
        let signed = Self::follow(&Source::Disk(place, number), now)?;
        let (role, expires) = (Role::Targets, signed.expires(Role::Targets));
        match now < expires {
            true => Ok(signed),
            false => Err(DepotError::Trust(TrustError::Expired { role, expires, now })),
        }
    }

    fn follow(source: &Source<'_>, now: UnixSeconds) -> Result<Self, DepotError> {
        let first = source.file("1.root.json")?.unwrap_or_default();
        let mut client = Client::start(&first, Cache::default(), Moment::new(now, now))?;
        while let Some(request) = client.request() {
            if let (_, Some(snapshot)) = client.so_far() {
                let listed = snapshot.meta.get("targets.json");
                let targets = listed.map(|listed| source.list_head(&request.name, listed));
                return Self::so_far(&client, targets.transpose()?);
            }
            let found = source.file(&request.name)?;
            if found.is_none() && request.name == "timestamp.json" {
                break;
            }
            client.answer(found.as_deref())?;
        }
        Self::so_far(&client, None)
    }

    fn so_far(client: &Client, targets: Option<Head>) -> Result<Self, DepotError> {
        let (timestamp, snapshot) = client.so_far();
        let (timestamp, snapshot) = (timestamp.cloned(), snapshot.cloned());
        Ok(Self { root: client.root().clone(), targets, snapshot, timestamp })
    }

    /// When a role's newest signature ends; 1970 when there is none.
    pub fn expires(&self, role: Role) -> UnixSeconds {
        let head = match role {
            Role::Root => Some(self.root.head),
            Role::Targets => self.targets,
            Role::Snapshot => self.snapshot.as_ref().map(|snapshot| snapshot.head),
            Role::Timestamp => self.timestamp.as_ref().map(|timestamp| timestamp.head),
        };
        head.map_or(UnixSeconds::new(0), |head| head.expires)
    }

    /// What is known of the keys.
    pub fn report(&self, ring: &Keyring, root_json: Vec<u8>, now: UnixSeconds) -> KeysReport {
        let version = self.root.head.version;
        let role = |role: Role| {
            let trusted = self.root.role(role);
            let expires = self.expires(role);
            RoleReport {
                role,
                keyids: trusted.keyids.iter().map(ToString::to_string).collect(),
                threshold: trusted.threshold,
                key_is_here: ring.here(&self.root, role) >= trusted.threshold,
                expires,
                days_left: now.days_until(expires),
            }
        };
        KeysReport {
            root_version: version,
            root_json,
            roles: Role::ALL.into_iter().map(role).collect(),
        }
    }

    /// What a plan needs to know of each role.
    pub fn states(&self, ring: &Keyring) -> Vec<RoleState> {
        let state = |role: Role| RoleState {
            role,
            expires: self.expires(role),
            threshold: self.root.role(role).threshold,
            listed: self.root.role(role).keyids.len(),
            here: ring.here(&self.root, role),
        };
        Role::ALL.into_iter().map(state).collect()
    }
}

/// Where the metadata of a tree is.
enum Source<'a> {
    Memory(&'a Tree),
    Disk(&'a Place, u64),
}

impl Source<'_> {
    /// A file that is not long.
    fn file(&self, name: &str) -> Result<Option<Vec<u8>>, DepotError> {
        match self {
            Self::Memory(tree) => Ok(tree.metadata(name).map(<[u8]>::to_vec)),
            Self::Disk(place, number) => match place.metadata(*number, name) {
                path if path.exists() => read(&path, u64::from(SNAPSHOT_BYTES_MAX)).map(Some),
                _ => Ok(None),
            },
        }
    }

    /// The head of a list, if that is the one with this hash.
    fn list_head(&self, name: &str, listed: &MetaFile) -> Result<Head, DepotError> {
        match self {
            Self::Memory(tree) => {
                list_head(tree.metadata(name).unwrap_or_default(), Path::new(name), listed)
            }
            Self::Disk(place, number) => {
                let path = place.metadata(*number, name);
                let file = File::open(&path).map_err(DepotError::file("read", &path))?;
                list_head(BufReader::new(file), &path, listed)
            }
        }
    }
}

/// The head of a list, which goes by and is kept nowhere.
fn list_head(list: impl Read, path: &Path, listed: &MetaFile) -> Result<Head, DepotError> {
    #[derive(Deserialize)]
    struct List {
        signed: Signed,
    }
    #[derive(Deserialize)]
    struct Signed {
        version: u64,
        expires: String,
    }
    let wrong = || DepotError::damaged(path, "it is not the list that the snapshot names");
    let mut passing =
        Passing { from: list.take(u64::from(TARGETS_BYTES_MAX)), hash: Sha256::new() };
    let list: List =
        serde_json::from_reader(&mut passing).map_err(|error| DepotError::damaged(path, error))?;
    io::copy(&mut passing, &mut io::sink()).map_err(DepotError::file("read", path))?;
    let expires = list.signed.expires.parse().map_err(|_| wrong())?;
    let head = Head { version: list.signed.version, expires };
    let is_listed = listed.sha256.is_some_and(|sha256| passing.hash.finalize()[..] == sha256);
    if is_listed && head.version == listed.version { Ok(head) } else { Err(wrong()) }
}

/// Hashes what goes by.
struct Passing<R> {
    from: R,
    hash: Sha256,
}

impl<R: Read> Read for Passing<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(into)?;
        self.hash.update(&into[..count]);
        Ok(count)
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

/// A root that follows the one in force, with its bytes.
#[derive(Debug, Clone)]
pub struct NewRoot {
    /// What it says.
    pub root: Root,
    /// The signed file.
    pub bytes: Vec<u8>,
}

/// What a new tree's metadata is made for.
#[derive(Debug, Clone)]
pub enum Reason {
    /// Something on the shelves changed.
    Shelves,
    /// Only time has passed.
    Time,
    /// The next root comes into force.
    Root(Box<NewRoot>),
}

/// Who signs: by the root that comes into force, and where that changes a role's keys by the one
/// before it too, so that a client between the two believes either way.
struct Signers<'a> {
    place: &'a Place,
    ring: &'a Keyring,
    old: &'a Root,
    new: &'a Root,
}

impl Signers<'_> {
    fn sign(
        &self,
        role: Role,
        value: &supervisor_trust::json::Value,
    ) -> Result<Vec<u8>, DepotError> {
        let mut keys = self.ring.signers(self.place, self.new, role)?;
        for key in self.ring.listed(self.old, role) {
            if !keys.iter().any(|other| other.public() == key.public()) {
                keys.push(key);
            }
        }
        Ok(sign(value, &keys))
    }

    /// Whether what the old root's keys signed no longer suffices, or will not for long.
    fn changes(&self, role: Role) -> bool {
        self.old.role(role) != self.new.role(role)
    }
}

/// The metadata for `shelves` that follows `before`.
pub fn next(
    place: &Place,
    ring: &Keyring,
    before: &Tree,
    shelves: &Shelves,
    reason: &Reason,
    now: UnixSeconds,
) -> Result<Vec<(String, Vec<u8>)>, DepotError> {
    let signed = Signed::read(before)?;
    let mut files: BTreeMap<String, Vec<u8>> = kept(before);
    let mut signers = Signers { place, ring, old: &signed.root, new: &signed.root };
    if let Reason::Root(new) = reason {
        signers.new = &new.root;
        files.insert(format!("{}.root.json", new.root.head.version), new.bytes.clone());
        files.insert("root.json".to_owned(), new.bytes.clone());
    }
    let (version, bytes) = next_targets(&signers, &signed, before, shelves, reason, now)?;
    let listed = meta_file(version, &bytes);
    files.insert(format!("{version}.targets.json"), bytes);
    files.extend(daily(&signers, &signed, listed, now)?);
    Ok(files.into_iter().collect())
}

/// What is signed anew every day: the snapshot that names the list `listed`, and the timestamp.
fn daily(
    signers: &Signers<'_>,
    signed: &Signed,
    listed: MetaFile,
    now: UnixSeconds,
) -> Result<[(String, Vec<u8>); 2], DepotError> {
    let version = signed.snapshot.as_ref().map_or(0, |snapshot| snapshot.head.version) + 1;
    let head = Head { version, expires: ends(Role::Snapshot, now) };
    let meta = BTreeMap::from([("targets.json".to_owned(), listed)]);
    let bytes = signers.sign(Role::Snapshot, &Snapshot { head, meta }.to_value())?;
    let snapshot = meta_file(version, &bytes);
    let new_snapshot = (format!("{version}.snapshot.json"), bytes);

    let version = signed.timestamp.as_ref().map_or(0, |timestamp| timestamp.head.version) + 1;
    let head = Head { version, expires: ends(Role::Timestamp, now) };
    let bytes = signers.sign(Role::Timestamp, &Timestamp { head, snapshot }.to_value())?;
    Ok([new_snapshot, ("timestamp.json".to_owned(), bytes)])
}

/// The metadata of a tree that differs little from the one before.
pub struct NextDay {
    /// The names of the files that stay.
    pub stays: BTreeSet<String>,
    /// The files that are new.
    pub new: [(String, Vec<u8>); 2],
}

/// The metadata that follows tree `number` when only a day has passed. Nothing when the list of
/// files must be signed anew, too.
pub fn next_day(
    place: &Place,
    ring: &Keyring,
    number: u64,
    signed: &Signed,
    now: UnixSeconds,
) -> Result<Option<NextDay>, DepotError> {
    let expires = signed.expires(Role::Targets);
    let listed = signed.snapshot.as_ref().and_then(|snapshot| snapshot.meta.get("targets.json"));
    let Some(listed) = listed.filter(|_| !Rule::of(Role::Targets).is_due(expires, now)) else {
        return Ok(None);
    };
    let signers = Signers { place, ring, old: &signed.root, new: &signed.root };
    let new = daily(&signers, signed, listed.clone(), now)?;
    let names = place.metadata_names(number)?;
    let mut stays = kept_names(&names);
    stays.retain(|name| new.iter().all(|(other, _)| other != name));
    Ok(Some(NextDay { stays, new }))
}

/// The lists' version and bytes: signed anew if there is a reason to.
fn next_targets(
    signers: &Signers<'_>,
    signed: &Signed,
    before: &Tree,
    shelves: &Shelves,
    reason: &Reason,
    now: UnixSeconds,
) -> Result<(u64, Vec<u8>), DepotError> {
    let expires = signed.expires(Role::Targets);
    let version = signed.targets.map_or(0, |head| head.version);
    let is_wanted = match reason {
        Reason::Shelves => true,
        Reason::Root(_) => signers.changes(Role::Targets),
        Reason::Time => Rule::of(Role::Targets).is_due(expires, now),
    };
    if is_wanted {
        let head = Head { version: version + 1, expires: ends(Role::Targets, now) };
        let value = Targets { head, targets: targets(shelves) }.to_value();
        match signers.sign(Role::Targets, &value) {
            Err(DepotError::NoKey { .. } | DepotError::TooFewKeys { .. })
                if matches!(reason, Reason::Time) && now < expires => {}
            done => return done.map(|bytes| (version + 1, bytes)),
        }
    }
    let name = format!("{version}.targets.json");
    Ok((version, before.metadata(&name).unwrap_or_default().to_vec()))
}

fn meta_file(version: u64, bytes: &[u8]) -> MetaFile {
    let sha256 = Some(Sha256::digest(bytes).into());
    MetaFile { version, length: Some(bytes.len() as u64), sha256 }
}

/// The roots, which stay for ever, and the last snapshots and lists.
fn kept(before: &Tree) -> BTreeMap<String, Vec<u8>> {
    let names: Vec<String> = before.metadata.iter().map(|(name, _)| name.clone()).collect();
    let stays = kept_names(&names);
    before.metadata.iter().filter(|(name, _)| stays.contains(name)).cloned().collect()
}

fn kept_names(names: &[String]) -> BTreeSet<String> {
    let is_root = |name: &&String| name.ends_with("root.json");
    let mut stays: BTreeSet<String> = names.iter().filter(is_root).cloned().collect();
    for kind in [".snapshot.json", ".targets.json"] {
        let version = |name: &String| name.strip_suffix(kind)?.parse().ok();
        let mut versions: Vec<u64> = names.iter().filter_map(version).collect();
        versions.sort_unstable();
        let newest = versions.iter().rev().take(VERSIONS_KEPT);
        stays.extend(newest.map(|version| format!("{version}{kind}")));
    }
    stays
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
    let hash = FileHash::Sha256(sha256);
    TargetFile { length: item.bytes, hash, custom: Some(offer.to_value()) }
}
