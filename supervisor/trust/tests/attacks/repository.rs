//! A repository whose keeper, or attacker, can do anything: every piece can be replaced.

use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use supervisor_trust::envelope::sign;
use supervisor_trust::json::Value;
use supervisor_trust::{
    Cache, Client, FileHash, Head, Keep, MetaFile, Moment, Offer, Role, Root, SigningKey, Snapshot,
    TargetFile, Targets, Timestamp, TrustError, UnixSeconds,
};

/// The day everything was published.
pub const TODAY: UnixSeconds = UnixSeconds::new(1_795_303_136);

pub struct Repository {
    pub keys: BTreeMap<Role, Vec<SigningKey>>,
    pub thresholds: BTreeMap<Role, usize>,
    pub root: Head,
    pub targets: Targets,
    pub snapshot: Snapshot,
    pub timestamp: Timestamp,
    /// What is served, by name.
    pub files: BTreeMap<String, Vec<u8>>,
}

pub fn key(number: u8) -> SigningKey {
    SigningKey::from_seed(&[number; 32])
}

pub fn expires(days: u32) -> UnixSeconds {
    TODAY.plus_days(days)
}

pub fn meta(version: u64, bytes: &[u8]) -> MetaFile {
    let sha256 = Some(Sha256::digest(bytes).into());
    MetaFile { version, length: Some(bytes.len() as u64), sha256 }
}

impl Repository {
    /// A sound one with one package, its root signed by two of three keys.
    pub fn sound() -> Self {
        let keys = BTreeMap::from([
            (Role::Root, vec![key(1), key(2), key(3)]),
            (Role::Targets, vec![key(4)]),
            (Role::Snapshot, vec![key(5)]),
            (Role::Timestamp, vec![key(6)]),
        ]);
        let head = |days| Head { version: 1, expires: expires(days) };
        let none = MetaFile { version: 1, length: None, sha256: None };
        let mut repository = Self {
            keys,
            thresholds: BTreeMap::from([(Role::Root, 2)]),
            root: head(1825),
            targets: Targets { head: head(400), targets: BTreeMap::new() },
            snapshot: Snapshot { head: head(21), meta: BTreeMap::new() },
            timestamp: Timestamp { head: head(21), snapshot: none },
            files: BTreeMap::new(),
        };
        let bytes = repository.root_signed_by(&[0, 1]);
        repository.files.insert("1.root.json".to_owned(), bytes);
        repository.list("Holdfast.spk", b"the package", "1.0-1");
        repository.publish();
        repository
    }

    pub fn keys_of(&self, role: Role) -> Vec<&SigningKey> {
        self.keys[&role].iter().collect()
    }

    pub fn root_value(&self) -> Root {
        let public: Vec<_> = Role::ALL
            .into_iter()
            .map(|role| {
                let keys: Vec<_> = self.keys[&role].iter().map(SigningKey::public).collect();
                (role, self.thresholds.get(&role).copied().unwrap_or(1), keys)
            })
            .collect();
        let roles: Vec<_> =
            public.iter().map(|(role, count, keys)| (*role, *count, keys.as_slice())).collect();
        Root::new(self.root, &roles)
    }

    pub fn root_signed_by(&self, places: &[usize]) -> Vec<u8> {
        let keys: Vec<_> = places.iter().map(|place| &self.keys[&Role::Root][*place]).collect();
        sign(&self.root_value().to_value(), &keys)
    }

    pub fn list(&mut self, name: &str, bytes: &[u8], version: &str) {
        let offer = Offer {
            package: "Holdfast".to_owned(),
            version: version.to_owned(),
            platforms: vec!["x86_64".to_owned()],
            channel: "stable".to_owned(),
            dsm_major: 7,
            build_min: 40_000,
            build_max: None,
        };
        let custom = Some(offer.to_value());
        let hash = FileHash::Sha256(Sha256::digest(bytes).into());
        let file = TargetFile { length: bytes.len() as u64, hash, custom };
        self.targets.targets.insert(name.to_owned(), file);
    }

    /// Signs targets, snapshot and timestamp as they stand and serves them.
    pub fn publish(&mut self) {
        let bytes = sign(&self.targets.to_value(), &self.keys_of(Role::Targets));
        let version = self.targets.head.version;
        self.snapshot.meta.insert("targets.json".to_owned(), meta(version, &bytes));
        self.files.insert(format!("{version}.targets.json"), bytes);
        self.publish_snapshot();
    }

    pub fn publish_snapshot(&mut self) {
        let bytes = sign(&self.snapshot.to_value(), &self.keys_of(Role::Snapshot));
        let version = self.snapshot.head.version;
        self.timestamp.snapshot = meta(version, &bytes);
        self.files.insert(format!("{version}.snapshot.json"), bytes);
        self.publish_timestamp();
    }

    pub fn publish_timestamp(&mut self) {
        let bytes = sign(&self.timestamp.to_value(), &self.keys_of(Role::Timestamp));
        self.files.insert("timestamp.json".to_owned(), bytes);
    }

    /// One more version of everything.
    pub fn publish_next(&mut self) {
        self.targets.head.version += 1;
        self.snapshot.head.version += 1;
        self.timestamp.head.version += 1;
        self.publish();
    }

    /// Signs and serves the next root with the old and the new root keys.
    pub fn rotate(&mut self, old: &[&SigningKey], new: &[&SigningKey]) {
        self.root.version += 1;
        let mut keys = old.to_vec();
        keys.extend(new);
        let bytes = sign(&self.root_value().to_value(), &keys);
        self.files.insert(format!("{}.root.json", self.root.version), bytes);
    }
}

/// A NAS, with what it keeps between runs.
pub struct Nas {
    pub kept: BTreeMap<&'static str, Vec<u8>>,
    pub clock: UnixSeconds,
    pub fetched: Vec<String>,
}

impl Nas {
    pub fn that_trusts(repository: &Repository) -> Self {
        let kept = BTreeMap::from([("root.json", repository.files["1.root.json"].clone())]);
        Self { kept, clock: TODAY, fetched: Vec::new() }
    }

    /// One run; the versions of root, timestamp, snapshot and targets that were verified.
    pub fn updates_from(&mut self, repository: &Repository) -> Result<[u64; 4], TrustError> {
        let cache = Cache {
            timestamp: self.kept.get("timestamp.json").cloned(),
            snapshot: self.kept.get("snapshot.json").cloned(),
            targets: self.kept.get("targets.json").cloned(),
        };
        let moment = Moment::new(self.clock, TODAY);
        let mut client = Client::start(&self.kept["root.json"], cache, moment)?;
        self.fetched.clear();
        while let Some(request) = client.request() {
            let found = repository.files.get(&request.name).map(Vec::as_slice);
            self.fetched.push(request.name);
            for keep in client.answer(found)? {
                match keep {
                    Keep::Write { name, bytes } => self.kept.insert(name, bytes),
                    Keep::Forget { name } => self.kept.remove(name),
                };
            }
        }
        let verified = client.verified().expect("a run without error ends verified");
        Ok([
            verified.root.head.version,
            verified.timestamp.head.version,
            verified.snapshot.head.version,
            verified.targets.head.version,
        ])
    }
}

/// The value with one member replaced, down a path of names.
pub fn with(mut value: Value, path: &[&str], new: Value) -> Value {
    fn set(value: &mut Value, path: &[&str], new: Value) {
        let Value::Object(members) = value else { panic!("no object") };
        match path {
            [name] => drop(members.insert((*name).to_owned(), new)),
            [name, rest @ ..] => set(members.get_mut(*name).expect("a member"), rest, new),
            [] => panic!("an empty path"),
        }
    }
    set(&mut value, path, new);
    value
}
