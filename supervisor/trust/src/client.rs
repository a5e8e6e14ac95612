//! The client's workflow of TUF 1.0 as a machine without network, disk or clock.
//!
//! ```text
//! root      N+1.root.json until there is none; each signed by the old and by the new root's keys
//! timestamp signed, not older than the one kept, not expired
//! snapshot  as the timestamp lists it: length, hash, version; signed; no list older or gone
//! targets   as the snapshot lists it: length, hash, version; signed; not expired
//! ```
//!
//! The caller fetches what [`Client::request`] names, hands the bytes to [`Client::answer`], and
//! does what the returned [`Keep`]s say, in their order, before the next step. A run that fails has
//! kept only what was verified, so the next one starts from there. The bytes kept are those that
//! came.

use crate::digest::{FileHash, Hasher};
use crate::envelope::Envelope;
use crate::error::TrustError;
use crate::role::Role;
use crate::roles::{MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp};
use crate::time::{Moment, UnixSeconds};
use sha2::{Digest, Sha256};

/// A root is not read beyond this.
pub const ROOT_BYTES_MAX: u32 = 512_000;
/// A timestamp is not read beyond this.
pub const TIMESTAMP_BYTES_MAX: u32 = 16_384;
/// A snapshot is not read beyond this.
pub const SNAPSHOT_BYTES_MAX: u32 = 2_000_000;
/// A list of targets is not read beyond this.
pub const TARGETS_BYTES_MAX: u32 = 5_000_000;
/// Roots followed in one run, at most.
pub const ROOTS_MAX: u32 = 256;

/// What earlier runs kept, as bytes; what is unsound in it is passed over.
#[derive(Debug, Clone, Default)]
pub struct Cache {
    /// The kept `timestamp.json`.
    pub timestamp: Option<Vec<u8>>,
    /// The kept `snapshot.json`.
    pub snapshot: Option<Vec<u8>>,
    /// The kept `targets.json`.
    pub targets: Option<Vec<u8>>,
}

/// A file of metadata to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its name below the metadata's address.
    pub name: String,
    /// Stop reading after one byte more than this.
    pub bytes_max: u32,
    /// That there is none is an answer; for the others it is an error.
    pub may_be_missing: bool,
}

/// What to do with the files kept for the next run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keep {
    /// Replace the file of that name by these bytes, atomically.
    Write {
        /// `root.json`, `timestamp.json`, `snapshot.json` or `targets.json`.
        name: &'static str,
        /// The bytes as they came.
        bytes: Vec<u8>,
    },
    /// Delete the file of that name.
    Forget {
        /// The file's name.
        name: &'static str,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Root,
    Timestamp,
    Snapshot,
    Targets,
    Done,
    Failed,
}

/// One run of the workflow.
#[derive(Debug)]
pub struct Client {
    moment: Moment,
    cache: Cache,
    phase: Phase,
    roots_followed: u32,
    root: Root,
    timestamp: Option<Timestamp>,
    snapshot: Option<Snapshot>,
    targets: Option<Targets>,
}

/// Everything that was verified in a run.
#[derive(Debug, Clone, Copy)]
pub struct Verified<'a> {
    /// The newest root.
    pub root: &'a Root,
    /// The newest timestamp.
    pub timestamp: &'a Timestamp,
    /// The snapshot it names.
    pub snapshot: &'a Snapshot,
    /// The list of targets that names.
    pub targets: &'a Targets,
    known_time: UnixSeconds,
}

impl Verified<'_> {
    /// A time that is certainly past from now on, to be kept for the next run's [`Moment`]. It
    /// cannot be poisoned by a clock far ahead: nothing verifies after the timestamp's expiry.
    pub fn known_time(&self) -> UnixSeconds {
        self.known_time
    }

    /// Which role's metadata ends first, and when.
    pub fn first_expiry(&self) -> (Role, UnixSeconds) {
        let ends = [
            (Role::Root, self.root.head.expires),
            (Role::Targets, self.targets.head.expires),
            (Role::Snapshot, self.snapshot.head.expires),
            (Role::Timestamp, self.timestamp.head.expires),
        ];
        ends.into_iter().min_by_key(|(_, expires)| *expires).unwrap_or(ends[0])
    }
}

impl Client {
    /// A run that starts from a root that is already trusted: the one kept by the last run, or the
    /// one that came with the program. Its own expiry does not matter yet.
    pub fn start(trusted_root: &[u8], cache: Cache, moment: Moment) -> Result<Self, TrustError> {
        let envelope = Envelope::parse("the trusted root.json", trusted_root)?;
        let root = Root::read(envelope.name(), envelope.signed())?;
        envelope.verify(Role::Root, &root)?;
        Ok(Self {
            moment,
            cache,
            phase: Phase::Root,
            roots_followed: 0,
            root,
            timestamp: None,
            snapshot: None,
            targets: None,
        })
    }

    /// What to fetch next; nothing when the run is done or has failed.
    pub fn request(&self) -> Option<Request> {
        let versioned = |version: u64, name: &str| match self.root.consistent_snapshot {
            true => format!("{version}.{name}"),
            false => name.to_owned(),
        };
        let listed = |file: &MetaFile, name: &str, bytes_max: u32| Request {
            name: versioned(file.version, name),
            bytes_max: file
                .length
                .and_then(|length| u32::try_from(length).ok())
                .map_or(bytes_max, |length| length.min(bytes_max)),
            may_be_missing: false,
        };
        match self.phase {
            Phase::Root => Some(Request {
                name: format!("{}.root.json", self.root.head.version.checked_add(1)?),
                bytes_max: ROOT_BYTES_MAX,
                may_be_missing: true,
            }),
            Phase::Timestamp => Some(Request {
                name: "timestamp.json".to_owned(),
                bytes_max: TIMESTAMP_BYTES_MAX,
                may_be_missing: false,
            }),
            Phase::Snapshot => {
                let file = &self.timestamp.as_ref()?.snapshot;
                Some(listed(file, "snapshot.json", SNAPSHOT_BYTES_MAX))
            }
            Phase::Targets => {
                let file = self.snapshot.as_ref()?.meta.get("targets.json")?;
                Some(listed(file, "targets.json", TARGETS_BYTES_MAX))
            }
            Phase::Done | Phase::Failed => None,
        }
    }

    /// Takes what was fetched, or that there is none. After an error the run is over.
    pub fn answer(&mut self, found: Option<&[u8]>) -> Result<Vec<Keep>, TrustError> {
        let request = self.request().ok_or_else(|| TrustError::malformed("answer", "unasked"))?;
        let mut keep = Vec::new();
        match self.take(&request, found, &mut keep) {
            Ok(()) => Ok(keep),
            Err(error) => {
                self.phase = Phase::Failed;
                Err(error)
            }
        }
    }

    /// The newest root that was verified so far.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The timestamp and the snapshot that were verified so far; `None` where the run has not come
    /// to them.
    pub fn so_far(&self) -> (Option<&Timestamp>, Option<&Snapshot>) {
        match self.phase {
            Phase::Targets | Phase::Done => (self.timestamp.as_ref(), self.snapshot.as_ref()),
            Phase::Snapshot => (self.timestamp.as_ref(), None),
            _ => (None, None),
        }
    }

    /// What was verified, once the run is done.
    pub fn verified(&self) -> Option<Verified<'_>> {
        if self.phase != Phase::Done {
            return None;
        }
        Some(Verified {
            root: &self.root,
            timestamp: self.timestamp.as_ref()?,
            snapshot: self.snapshot.as_ref()?,
            targets: self.targets.as_ref()?,
            known_time: self.moment.now(),
        })
    }

    fn take(
        &mut self,
        request: &Request,
        found: Option<&[u8]>,
        keep: &mut Vec<Keep>,
    ) -> Result<(), TrustError> {
        let name = request.name.as_str();
        let Some(bytes) = found else {
            return match request.may_be_missing {
                true => self.root_is_newest(),
                false => Err(TrustError::Missing { name: name.to_owned() }),
            };
        };
        if bytes.len() as u64 > u64::from(request.bytes_max) {
            let bytes_max = request.bytes_max;
            return Err(TrustError::TooLong { name: name.to_owned(), bytes_max });
        }
        match self.phase {
            Phase::Root => self.take_root(name, bytes, keep),
            Phase::Timestamp => self.take_timestamp(name, bytes, keep),
            Phase::Snapshot => self.take_snapshot(name, bytes, keep),
            Phase::Targets => self.take_targets(name, bytes, keep),
            Phase::Done | Phase::Failed => Ok(()),
        }
    }

    fn take_root(
        &mut self,
        name: &str,
        bytes: &[u8],
        keep: &mut Vec<Keep>,
    ) -> Result<(), TrustError> {
        let envelope = Envelope::parse(name, bytes)?;
        envelope.verify(Role::Root, &self.root)?;
        let next = Root::read(name, envelope.signed())?;
        envelope.verify(Role::Root, &next)?;
        let (offered, known) = (next.head.version, self.root.head.version);
        if offered <= known {
            return Err(TrustError::Rollback { name: name.to_owned(), offered, known });
        }
        if offered != known + 1 {
            return Err(TrustError::mix_up(name, format!("it is version {offered}")));
        }
        self.roots_followed += 1;
        if self.roots_followed > ROOTS_MAX {
            return Err(TrustError::malformed(name, format!("more than {ROOTS_MAX} roots")));
        }
        keep.push(Keep::Write { name: "root.json", bytes: bytes.to_vec() });
        // A key that was taken back may have signed versions so high that nothing sound could
        // follow them: what such keys vouched for is forgotten.
        let taken_back = |role| {
            let ids = &next.role(role).keyids;
            self.root.role(role).keyids.iter().any(|id| !ids.contains(id))
        };
        if taken_back(Role::Timestamp) || taken_back(Role::Snapshot) {
            self.cache.timestamp = None;
            self.cache.snapshot = None;
            keep.push(Keep::Forget { name: "timestamp.json" });
            keep.push(Keep::Forget { name: "snapshot.json" });
        }
        self.root = next;
        Ok(())
    }

    fn root_is_newest(&mut self) -> Result<(), TrustError> {
        self.not_expired(Role::Root, self.root.head.expires)?;
        self.phase = Phase::Timestamp;
        if let Some(bytes) = self.cache.timestamp.take() {
            self.timestamp = self.read_timestamp("timestamp.json", &bytes).ok();
        }
        Ok(())
    }

    fn read_timestamp(&self, name: &str, bytes: &[u8]) -> Result<Timestamp, TrustError> {
        let envelope = Envelope::parse(name, bytes)?;
        envelope.verify(Role::Timestamp, &self.root)?;
        Timestamp::read(name, envelope.signed())
    }

    fn take_timestamp(
        &mut self,
        name: &str,
        bytes: &[u8],
        keep: &mut Vec<Keep>,
    ) -> Result<(), TrustError> {
        let new = self.read_timestamp(name, bytes)?;
        let mut is_new = true;
        if let Some(known) = &self.timestamp {
            not_older(name, new.head.version, known.head.version)?;
            is_new = new.head.version != known.head.version;
            if is_new {
                not_older("snapshot.json", new.snapshot.version, known.snapshot.version)?;
            }
        }
        if is_new {
            self.not_expired(Role::Timestamp, new.head.expires)?;
            keep.push(Keep::Write { name: "timestamp.json", bytes: bytes.to_vec() });
            self.timestamp = Some(new);
        } else if let Some(known) = &self.timestamp {
            self.not_expired(Role::Timestamp, known.head.expires)?;
        }
        self.phase = Phase::Snapshot;
        self.use_kept_snapshot()
    }

    /// The kept snapshot is the one wanted, or else what the new one is measured against.
    fn use_kept_snapshot(&mut self) -> Result<(), TrustError> {
        let Some(bytes) = self.cache.snapshot.take() else { return Ok(()) };
        let Ok(kept) = self.read_snapshot("snapshot.json", &bytes) else { return Ok(()) };
        let wanted = self.timestamp.as_ref().map(|timestamp| timestamp.snapshot.clone());
        let is_wanted = wanted.is_some_and(|file| {
            file.version == kept.head.version && as_listed("snapshot.json", &bytes, &file).is_ok()
        });
        let expires = kept.head.expires;
        self.snapshot = Some(kept);
        if is_wanted {
            self.not_expired(Role::Snapshot, expires)?;
            self.phase = Phase::Targets;
            self.use_kept_targets()?;
        }
        Ok(())
    }

    fn read_snapshot(&self, name: &str, bytes: &[u8]) -> Result<Snapshot, TrustError> {
        let envelope = Envelope::parse(name, bytes)?;
        envelope.verify(Role::Snapshot, &self.root)?;
        Snapshot::read(name, envelope.signed())
    }

    fn take_snapshot(
        &mut self,
        name: &str,
        bytes: &[u8],
        keep: &mut Vec<Keep>,
    ) -> Result<(), TrustError> {
        let missing = || TrustError::Missing { name: "timestamp.json".to_owned() };
        let file = self.timestamp.as_ref().ok_or_else(missing)?.snapshot.clone();
        as_listed(name, bytes, &file)?;
        let new = self.read_snapshot(name, bytes)?;
        has_version(name, new.head.version, &file)?;
        for (listed, known) in self.snapshot.iter().flat_map(|known| &known.meta) {
            match new.meta.get(listed) {
                Some(file) => not_older(listed, file.version, known.version)?,
                None => return Err(TrustError::mix_up(name, format!("{listed} is gone"))),
            }
        }
        self.not_expired(Role::Snapshot, new.head.expires)?;
        keep.push(Keep::Write { name: "snapshot.json", bytes: bytes.to_vec() });
        self.snapshot = Some(new);
        self.phase = Phase::Targets;
        self.use_kept_targets()
    }

    fn use_kept_targets(&mut self) -> Result<(), TrustError> {
        let Some(bytes) = self.cache.targets.take() else { return Ok(()) };
        match self.read_targets("targets.json", &bytes) {
            Ok(kept) => {
                self.targets = Some(kept);
                self.phase = Phase::Done;
                Ok(())
            }
            Err(error @ (TrustError::Expired { .. } | TrustError::ClockWrong { .. })) => Err(error),
            Err(_) => Ok(()),
        }
    }

    fn read_targets(&self, name: &str, bytes: &[u8]) -> Result<Targets, TrustError> {
        let missing = || TrustError::Missing { name: "targets.json".to_owned() };
        let snapshot = self.snapshot.as_ref().ok_or_else(missing)?;
        let file = snapshot.meta.get("targets.json").ok_or_else(missing)?;
        as_listed(name, bytes, file)?;
        let envelope = Envelope::parse(name, bytes)?;
        envelope.verify(Role::Targets, &self.root)?;
        let targets = Targets::read(name, envelope.signed())?;
        has_version(name, targets.head.version, file)?;
        self.not_expired(Role::Targets, targets.head.expires)?;
        Ok(targets)
    }

    fn take_targets(
        &mut self,
        name: &str,
        bytes: &[u8],
        keep: &mut Vec<Keep>,
    ) -> Result<(), TrustError> {
        self.targets = Some(self.read_targets(name, bytes)?);
        keep.push(Keep::Write { name: "targets.json", bytes: bytes.to_vec() });
        self.phase = Phase::Done;
        Ok(())
    }

    fn not_expired(&self, role: Role, expires: UnixSeconds) -> Result<(), TrustError> {
        let now = self.moment.now();
        if now < expires {
            return Ok(());
        }
        Err(match self.moment.clock_is_far_ahead() {
            true => TrustError::ClockWrong { role, expires, now },
            false => TrustError::Expired { role, expires, now },
        })
    }
}

fn not_older(name: &str, offered: u64, known: u64) -> Result<(), TrustError> {
    match offered < known {
        true => Err(TrustError::Rollback { name: name.to_owned(), offered, known }),
        false => Ok(()),
    }
}

fn has_version(name: &str, version: u64, file: &MetaFile) -> Result<(), TrustError> {
    match version == file.version {
        true => Ok(()),
        false => Err(TrustError::mix_up(
            name,
            format!("it is version {version}, listed is {}", file.version),
        )),
    }
}

fn as_listed(name: &str, bytes: &[u8], file: &MetaFile) -> Result<(), TrustError> {
    if let Some(length) = file.length.filter(|length| *length != bytes.len() as u64) {
        let what = format!("it has {} bytes, listed are {length}", bytes.len());
        return Err(TrustError::mix_up(name, what));
    }
    if file.sha256.is_some_and(|sha256| sha256[..] != Sha256::digest(bytes)[..]) {
        return Err(TrustError::mix_up(name, "its SHA-256 differs"));
    }
    Ok(())
}

/// Checks a file against what was signed for it, while it is being read.
#[derive(Debug, Clone)]
pub struct TargetCheck {
    name: String,
    left: u64,
    length: u64,
    wanted: FileHash,
    hasher: Hasher,
}

impl TargetCheck {
    /// A check of the file that was signed as `name`.
    pub fn new(name: &str, file: &TargetFile) -> Self {
        Self {
            name: name.to_owned(),
            left: file.length,
            length: file.length,
            wanted: file.hash,
            hasher: Hasher::like(file.hash),
        }
    }

    /// Takes the next bytes; an error as soon as there are too many.
    pub fn update(&mut self, bytes: &[u8]) -> Result<(), TrustError> {
        self.left = self.left.checked_sub(bytes.len() as u64).ok_or_else(|| {
            TrustError::mix_up(&self.name, format!("it has more than {} bytes", self.length))
        })?;
        self.hasher.update(bytes);
        Ok(())
    }

    /// Whether it was all of the file, and no other.
    pub fn finish(self) -> Result<(), TrustError> {
        if self.left > 0 {
            let what = format!("{} of its {} bytes are missing", self.left, self.length);
            return Err(TrustError::mix_up(self.name, what));
        }
        match self.hasher.finish() == self.wanted {
            true => Ok(()),
            false => Err(TrustError::mix_up(self.name, "its hash differs")),
        }
    }
}
