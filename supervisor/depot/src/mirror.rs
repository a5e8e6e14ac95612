//! Packages from elsewhere: another depot, over the network or carried over on a disk.
//!
//! What another depot offers is believed by the rules of its signed metadata, from the root of
//! trust its keeper gave away, and never older than what was seen before. Then it is looked at
//! again like any package, and signed for with this depot's own keys.
//!
//! An export is a folder laid out as a depot is served (`metadata/`, `packages/`): any TUF client
//! verifies it, and any web server can serve it to one.

use crate::error::DepotError;
use crate::metadata;
use crate::place::{Place, read, write_whole};
use crate::publish::{Delivery, Published, publish_all};
use crate::shelves::Channel;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use supervisor_trust::client::{ROOT_BYTES_MAX, TARGETS_BYTES_MAX};
use supervisor_trust::{Cache, Client, Keep, Moment, Offer, TargetCheck, TargetFile, UnixSeconds};

/// Read and checked at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// What is kept of another depot between two runs, and the run itself.
#[derive(Debug)]
pub struct Mirror {
    root: PathBuf,
    folder: PathBuf,
    /// The client that follows the other depot's metadata.
    pub client: Client,
}

/// A package another depot signed for that is not on our shelves.
#[derive(Debug, Clone)]
pub struct Parcel {
    /// Its name in the other depot's metadata.
    pub name: String,
    /// What was signed for.
    pub file: TargetFile,
    /// The channel it is in there.
    pub channel: Channel,
    /// Where its bytes are to be put.
    pub path: PathBuf,
}

impl Mirror {
    /// Begins a run. `trust` is the other depot's root of trust; for the same one, a later run goes
    /// on from the root the last one ended with.
    pub fn open(root: &Path, trust: &[u8], now: UnixSeconds) -> Result<Self, DepotError> {
        let place = Place::at(root);
        place.current()?;
        let folder = place.mirror(&hex::encode(Sha256::digest(trust)));
        fs::create_dir_all(&folder).map_err(DepotError::file("make", &folder))?;
        let kept = |name: &str| {
            let path = folder.join(name);
            match path.exists() {
                true => read(&path, u64::from(TARGETS_BYTES_MAX)).map(Some),
                false => Ok(None),
            }
        };
        let cache = Cache {
            timestamp: kept("timestamp.json")?,
            snapshot: kept("snapshot.json")?,
            targets: kept("targets.json")?,
        };
        let start = kept("root.json")?.unwrap_or_else(|| trust.to_vec());
        let client = Client::start(&start, cache, Moment::new(now, now))?;
        Ok(Self { root: root.to_owned(), folder, client })
    }

    /// The folder of what is kept, for [`keep`].
    pub fn folder(&self) -> PathBuf {
        self.folder.clone()
    }

    /// What the other depot signed for and our shelves lack; of the packages named, or of all.
    pub fn parcels(&self, packages: &[String]) -> Result<Vec<Parcel>, DepotError> {
        let shelves = crate::shelves(&self.root)?;
        let mut parcels = Vec::new();
        let verified = self.client.verified().map(|verified| verified.targets);
        for (name, file) in verified.into_iter().flat_map(|targets| &targets.targets) {
            let Some(offer) = Offer::read(file) else { continue };
            let sha256 = file.hash.to_hex();
            let is_here = shelves.items.iter().any(|item| item.sha256 == sha256);
            // No depot names a package like a path; a name that is one leads out of the folder.
            if name.contains('/')
                || is_here
                || !(packages.is_empty() || packages.contains(&offer.package))
            {
                continue;
            }
            let channel = if offer.channel == "beta" { Channel::Beta } else { Channel::Stable };
            let path = self.folder.join(format!(".new-{sha256}"));
            parcels.push(Parcel { name: name.clone(), file: file.clone(), channel, path });
        }
        Ok(parcels)
    }

    /// Puts what came on our shelves: all, or none.
    pub fn publish(
        &self,
        parcels: &[Parcel],
        now: UnixSeconds,
    ) -> Result<Vec<Published>, DepotError> {
        let published = Self::put(&self.root, parcels, now);
        Self::clear(parcels);
        published
    }

    /// The same on the shelves in `root`; what came stays, for it may have to be done again.
    pub fn put(
        root: &Path,
        parcels: &[Parcel],
        now: UnixSeconds,
    ) -> Result<Vec<Published>, DepotError> {
        let deliveries: Vec<_> = parcels
            .iter()
            .map(|parcel| Delivery {
                path: parcel.path.clone(),
                channel: Some(parcel.channel),
                token: None,
            })
            .collect();
        publish_all(root, &deliveries, now)
    }

    /// Removes what came.
    pub fn clear(parcels: &[Parcel]) {
        // Copies; a later run writes over what cannot be removed now.
        parcels.iter().for_each(|parcel| drop(fs::remove_file(&parcel.path)));
    }
}

/// Keeps a verified file of another depot for the next run.
pub fn keep(folder: &Path, keep: Keep) -> io::Result<()> {
    match keep {
        Keep::Write { name, bytes } => {
            write_whole(&folder.join(name), &bytes, 0o644).map_err(io::Error::other)
        }
        Keep::Forget { name } => match fs::remove_file(folder.join(name)) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(cause),
            _ => Ok(()),
        },
    }
}

/// Lays out everything that is signed for in the new folder `to`, to be carried elsewhere. How many
/// packages that were.
pub fn export(root: &Path, to: &Path, now: UnixSeconds) -> Result<usize, DepotError> {
    let place = Place::at(root);
    let _lock = place.lock()?;
    let tree = place.read_current()?;
    metadata::verify(&tree, now)?;
    if to.exists() {
        let cause = io::Error::from(io::ErrorKind::AlreadyExists);
        return Err(DepotError::file("make", to)(cause));
    }
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    let new = to.with_file_name(format!(".new-{name}"));
    if new.exists() {
        fs::remove_dir_all(&new).map_err(DepotError::file("clear", &new))?;
    }
    for folder in ["metadata", "packages"] {
        let path = new.join(folder);
        fs::create_dir_all(&path).map_err(DepotError::file("make", &path))?;
    }
    for (name, bytes) in &tree.metadata {
        write_whole(&new.join("metadata").join(name), bytes, 0o644)?;
    }
    let newest = tree.shelves.newest();
    for item in &newest {
        let path = new.join("packages").join(format!("{}.{}", item.sha256, item.file));
        fs::copy(place.file(&item.sha256), &path).map_err(DepotError::file("write", &path))?;
        File::open(&path)
            .and_then(|file| file.sync_all())
            .map_err(DepotError::file("write", &path))?;
    }
    crate::place::rename_synced(&new, to)?;
    Ok(newest.len())
}

/// Puts what an export brought on our shelves, if the depot it is of can be believed from `trust`.
pub fn import(
    root: &Path,
    from: &Path,
    trust: &[u8],
    packages: &[String],
    now: UnixSeconds,
) -> Result<Vec<Published>, DepotError> {
    let mut mirror = Mirror::open(root, trust, now)?;
    while let Some(request) = mirror.client.request() {
        let path = from.join("metadata").join(&request.name);
        let found = match path.exists() {
            true => Some(read(&path, u64::from(request.bytes_max))?),
            false => None,
        };
        for item in mirror.client.answer(found.as_deref())? {
            keep(&mirror.folder, item).map_err(DepotError::file("write", &mirror.folder))?;
        }
    }
    let parcels = mirror.parcels(packages)?;
    for parcel in &parcels {
        let name = format!("{}.{}", parcel.file.hash.to_hex(), parcel.name);
        copy_checked(&from.join("packages").join(name), parcel)?;
    }
    mirror.publish(&parcels, now)
}

fn copy_checked(from: &Path, parcel: &Parcel) -> Result<(), DepotError> {
    let mut source = File::open(from).map_err(DepotError::file("read", from))?;
    let to = &parcel.path;
    let mut target = File::create(to).map_err(DepotError::file("write", to))?;
    let mut check = TargetCheck::new(&parcel.name, &parcel.file);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = source.read(&mut piece).map_err(DepotError::file("read", from))?;
        if count == 0 {
            return Ok(check.finish()?);
        }
        check.update(&piece[..count])?;
        target.write_all(&piece[..count]).map_err(DepotError::file("write", to))?;
    }
}

/// Reads another depot's root of trust.
pub fn read_trust(path: &Path) -> Result<Vec<u8>, DepotError> {
    read(path, u64::from(ROOT_BYTES_MAX))
}

#[cfg(test)]
mod tests;
