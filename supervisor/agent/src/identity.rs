//! The computer's identity on this box: where its copies are, how they are restored and changed.
//!
//! The rule that compares copies is the contract's; here they are read and written. DSM's upgrades,
//! reinstallations and volume moves each spare another place, so there are two or three.

use crate::installation::Installation;
use crate::problem::{Problem, Result};
use engine_contract::identity::{CopyFound, FILE_BYTES_MAX, Guid, Identity, Verdict, compare};
use std::path::PathBuf;
use supervisor_dsm::Folder;
use supervisor_dsm::machine::marks;

const FILE_NAME: &str = "identity";

/// One place of a copy.
#[derive(Debug)]
pub struct Place {
    /// Its path, for people.
    pub path: PathBuf,
    folder: Option<Folder>,
    /// What is there.
    pub found: CopyFound,
}

/// The copies of the identity.
#[derive(Debug)]
pub struct Copies {
    /// Every place, the daemon's own first.
    pub places: Vec<Place>,
}

impl Copies {
    /// Reads the copies that are there; creates nothing.
    pub fn read(installation: &Installation) -> Self {
        let package = &installation.package;
        let mut folders = vec![
            (package.var().to_owned(), package.open_var()),
            (package.etc().to_owned(), Folder::open(package.etc())),
        ];
        if package.var_is_in_target() {
            let outside = PathBuf::from("/var/lib").join(package.name().as_str());
            if let Ok(path) = package.dsm().find(outside) {
                let folder = Folder::open(&path);
                folders.push((path, folder));
            }
        }
        let place = |(path, folder): (PathBuf, supervisor_dsm::Result<Folder>)| {
            let folder = folder.ok();
            let found = folder.as_ref().map_or(CopyFound::Missing, read_copy);
            Place { path: path.join(FILE_NAME), folder, found }
        };
        Self { places: folders.into_iter().map(place).collect() }
    }

    /// The same after making the folders that are missing.
    pub fn read_or_make(installation: &Installation) -> Result<Self> {
        let package = &installation.package;
        package.open_or_make_var()?;
        package.open_or_make_etc()?;
        // The third place is a kindness: a root file system may be read-only.
        let _ = package.open_or_make_outside();
        Ok(Self::read(installation))
    }

    /// What the copies say together.
    pub fn verdict(&self) -> Verdict {
        let found: Vec<CopyFound> = self.places.iter().map(|place| place.found.clone()).collect();
        compare(&found)
    }

    /// Why nobody but the owner can say which computer this is, if that is so.
    pub fn disagreement(&self) -> Option<Problem> {
        match self.verdict() {
            Verdict::Disagreement { guids } => Some(disagreement(&guids)),
            _ => None,
        }
    }

    /// The identity, or why there is none to be had.
    pub fn known(&self) -> Result<Identity> {
        match self.verdict() {
            Verdict::Known { identity, .. } => Ok(identity),
            Verdict::Nobody => Err(Problem::new("this computer has no identity yet")
                .remedy("repair the package in Package Center: a new one is made")),
            Verdict::Disagreement { guids } => Err(disagreement(&guids)),
        }
    }

    /// Makes every copy right: from any sound one, or anew for a computer that has none.
    pub fn ensure(self) -> Result<Identity> {
        match self.verdict() {
            Verdict::Known { identity, rewrite } => {
                self.write(identity, &rewrite)?;
                Ok(identity)
            }
            Verdict::Nobody => {
                let identity = Identity::new(fresh_guid()?);
                self.write(identity, &self.everywhere())?;
                Ok(identity)
            }
            Verdict::Disagreement { guids } => Err(disagreement(&guids)),
        }
    }

    /// Gives the computer this GUID. One generation later than everything found, so that no old
    /// copy ever wins over it.
    pub fn set(self, guid: Guid) -> Result<Identity> {
        let newest = self
            .places
            .iter()
            .filter_map(|place| match &place.found {
                CopyFound::Sound(identity) => Some(*identity),
                _ => None,
            })
            .max_by_key(|identity| identity.generation);
        let identity = newest.map_or(Identity::new(guid), |newest| newest.adopting(guid));
        self.write(identity, &self.everywhere())?;
        Ok(identity)
    }

    fn everywhere(&self) -> Vec<usize> {
        (0..self.places.len()).collect()
    }

    /// The daemon's own copy must be written; a further one that cannot be is no reason to fail.
    fn write(&self, identity: Identity, which: &[usize]) -> Result<()> {
        let text = identity.to_text();
        let mut written = 0;
        let mut refused = None;
        // The copies first, the one in use last: a power cut between leaves it to be restored.
        for place in which.iter().rev().filter_map(|at| self.places.get(*at)) {
            let Some(folder) = &place.folder else { continue };
            match folder.write(FILE_NAME, text.as_bytes(), 0o600) {
                Ok(()) => written += 1,
                Err(error) => refused = Some(error),
            }
        }
        match refused {
            Some(error) if written == 0 => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// A GUID nobody has.
pub fn fresh_guid() -> Result<Guid> {
    let bits = getrandom::u64()
        .map_err(|error| Problem::new("the system has no random numbers").because(error))?;
    Ok(Guid::from_random(bits))
}

fn read_copy(folder: &Folder) -> CopyFound {
    use engine_contract::identity::IdentityError;
    match folder.read_text(FILE_NAME, FILE_BYTES_MAX as u64) {
        Ok(None) => CopyFound::Missing,
        Ok(Some(text)) => match Identity::from_text(&text) {
            Ok(identity) => CopyFound::Sound(identity),
            Err(error) => CopyFound::Damaged(error),
        },
        // Unreadable, a link, too large: whatever it is, it is no identity.
        Err(_) => CopyFound::Damaged(IdentityError::Checksum),
    }
}

fn disagreement(guids: &[Guid]) -> Problem {
    let list: Vec<String> = guids.iter().map(Guid::to_string).collect();
    Problem::new(format!("copies of the identity name different computers: {}", list.join(", ")))
        .remedy("decide which one this computer is: holdfast-supervisor identity set GUID")
}

/// Makes the copies agree again, as far as that needs nobody's decision; a sentence when it does.
/// The daemon may have taken over another computer since they were written.
pub fn mend(installation: &Installation) -> Option<String> {
    // A DSM upgrade may have deleted a place with its copy.
    let copies = Copies::read_or_make(installation).ok()?;
    match copies.verdict() {
        Verdict::Known { rewrite, .. } if rewrite.is_empty() => None,
        Verdict::Nobody => None,
        _ => copies.ensure().err().map(|problem| problem.for_people()),
    }
}

/// In `var`: the marks of the machine this identity was last used on.
const MACHINE_FILE: &str = "machine";
const MACHINE_BYTES_MAX: u64 = 8 * 1024;

/// A sentence when this identity was last used on a machine that has nothing in common with this
/// one: its disks were moved, or copied, and then there are two computers with one GUID.
pub fn other_machine(installation: &Installation) -> Option<String> {
    let now = marks(installation.package.dsm());
    let var = installation.package.open_var().ok()?;
    let before = var.read_text(MACHINE_FILE, MACHINE_BYTES_MAX).ok()??;
    let before: Vec<&str> = before.lines().collect();
    let has_nothing_in_common = !now.iter().any(|mark| before.contains(&mark.as_str()));
    (has_nothing_in_common && !now.is_empty() && !before.is_empty()).then(|| {
        format!(
            "this computer's GUID was last used on another machine ({}). If that one is gone: \
             holdfast-supervisor identity keep. If it still works: holdfast-supervisor identity \
             new",
            before.first().unwrap_or(&"unknown")
        )
    })
}

/// Remembers this machine as the identity's own, unless it belongs to another one so far.
pub fn note_machine(installation: &Installation) -> Option<String> {
    let other = other_machine(installation);
    if other.is_none() {
        claim_machine(installation).err().map(|problem| problem.fact())
    } else {
        other
    }
}

/// Remembers this machine as the identity's own, whatever was before.
pub fn claim_machine(installation: &Installation) -> Result<()> {
    let now = marks(installation.package.dsm());
    if now.is_empty() {
        return Ok(());
    }
    let var = installation.package.open_or_make_var()?;
    let text = now.join("\n") + "\n";
    if var.read_text(MACHINE_FILE, MACHINE_BYTES_MAX)?.as_deref() != Some(text.as_str()) {
        var.write(MACHINE_FILE, text.as_bytes(), 0o600)?;
    }
    Ok(())
}

/// The GUID an old CrashPlan package left on this box, and where.
pub fn legacy(installation: &Installation) -> Option<(Guid, PathBuf)> {
    crate::legacy::find(installation).guid
}

/// What is at a place, in words.
pub fn words(found: &CopyFound) -> String {
    match found {
        CopyFound::Sound(identity) => {
            format!("{} (generation {})", identity.guid, identity.generation)
        }
        CopyFound::Missing => "missing".to_owned(),
        CopyFound::Damaged(error) => format!("damaged: {error}"),
    }
}
