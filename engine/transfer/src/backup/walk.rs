//! The walk through the source: one thread, in the order of names, folder by folder.
//!
//! What is found goes to the collector as steps, small files to the helpers in batches, and chunks
//! of large ones to the workers; all queues are bounded, so the walk is never far ahead of them.
//! Helpers look at the next folders before it comes to them ([`super::ahead`]). Folders the
//! catalogue knows to be as they were are passed over in [`super::reuse`]; here, each entry is
//! compared with the snapshot before.

use super::BackupOutcome;
use super::ahead::{Ahead, AskedInAll};
use super::catalogue::records::{Line, Record, Stretch};
use super::collect::Step;
use super::digest::FolderDigest;
use super::errands::Errand;
use super::journal::FinishedFiles;
use super::look::{Look, Looker, Seen};
use super::node::{NodeMaker, attributes_of_open};
use super::parent::{ParentFolder, Parents};
use super::progress::Meter;
use super::read::FileReader;
use super::reuse::{Around, Reuse};
use super::select::Branch;
use super::shared::Shared;
use super::small_files::Batch;
use crate::TransferError;
use crate::names::{Cursor, Names};
use crate::posix::{Folder, Kind, Stat, joined};
use crossbeam_channel::Sender;
use engine_repository::{Id, Node, NodeKind};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

/// No path the system takes names a folder in more folders than these (`PATH_MAX`), so nobody could
/// restore what is in it. The walk is one call of itself in another for each.
pub(super) const FOLDERS_DEEP_MAX: usize = 2048;

/// Why the walk ends early.
pub(super) enum End {
    /// Because the backup does.
    Stopped,
    /// The snapshot before lacks what the catalogue says is in it.
    Distrusted,
}

pub(super) type Walked = Result<(), End>;

/// The walk.
pub(super) struct Walker<'a> {
    pub(super) shared: &'a Shared<'a>,
    pub(super) looker: Looker<'a>,
    pub(super) maker: NodeMaker,
    pub(super) reader: Arc<Mutex<FileReader<'a>>>,
    pub(super) errands: Sender<Errand>,
    pub(super) asked_in_all: AskedInAll,
    /// Small files that were not handed over yet.
    pub(super) batch: Option<Batch>,
    pub(super) parents: Parents<'a>,
    pub(super) reuse: Reuse,
    pub(super) finished: FinishedFiles,
    pub(super) steps: Sender<Step>,
    pub(super) meter: Meter<'a>,
    pub(super) outcome: BackupOutcome,
    /// Something of the entry the walk is at did not come out as it is: the next run looks again.
    pub(super) is_unsettled: bool,
    /// In so many folders is the walk.
    pub(super) depth: usize,
}

/// A folder whose entries are looked at one by one.
#[derive(Default)]
pub(super) struct Inside {
    pub(super) parent: ParentFolder,
    /// What the catalogue knows of the folders in it.
    pub(super) known: Stretch,
    digest: Digest,
    is_unsettled: bool,
}

/// The sum of a folder whose entries are looked at one by one.
#[derive(Default)]
enum Digest {
    /// It has none.
    #[default]
    None,
    /// The entries so far are in it.
    Growing(FolderDigest),
    /// All of them were looked at before; and whether it tells all changes since then.
    Complete(Id, bool),
}

/// A folder the walk came to.
pub(super) struct Found<'f> {
    pub(super) folder: Arc<Folder>,
    pub(super) name: &'f CStr,
    pub(super) path: &'f Path,
    pub(super) stat: Stat,
    /// When its entries were not seen yet.
    looked_at: SystemTime,
    /// Its place in the next catalogue.
    pub(super) line: Line,
}

impl Walker<'_> {
    /// Walks through everything. `parents` are the roots of the snapshots before.
    pub(super) fn walk(&mut self, branch: &Branch, parents: &[Id]) -> Walked {
        let walked = self.walk_all(branch, parents);
        if !matches!(walked, Err(End::Distrusted)) {
            return walked;
        }
        self.reuse = Reuse::none();
        self.shared.knows_no_tree();
        self.outcome = BackupOutcome::default();
        self.meter.restart();
        self.step(Step::Restart)?;
        self.walk_all(branch, parents)
    }

    fn walk_all(&mut self, branch: &Branch, parents: &[Id]) -> Walked {
        let known = self.reuse.all();
        for parent in parents.iter().filter(|_| self.reuse.is_believed()) {
            self.shared.knows_tree(*parent);
        }
        let parent = ParentFolder::of(parents.to_vec());
        let mut inside = Inside { parent, known, ..Inside::default() };
        self.step(Step::Enter(None))?;
        let root = Path::new("/");
        match branch {
            Branch::Partly(_) => self.named_only(root, branch, &mut inside)?,
            Branch::Whole => {
                let names = |folder: &_| self.looker.names(folder);
                match Folder::at(root).and_then(|folder| Ok((names(&folder)?, folder))) {
                    Ok((names, folder)) => {
                        let (folder, look) = (Arc::new(folder), Look::default());
                        self.entries((&folder, root), &names, &look, &mut inside)?
                    }
                    Err(cause) => self.unlisted(root, cause)?,
                }
            }
        }
        self.step(Step::Leave)
    }

    pub(super) fn step(&mut self, step: Step) -> Walked {
        self.hand_over()?;
        self.steps.send(step).map_err(|_| End::Stopped)
    }

    /// Has the small files read that were seen so far, and their places kept.
    pub(super) fn hand_over(&mut self) -> Walked {
        let Some(batch) = self.batch.take() else { return Ok(()) };
        let step = Step::Files(batch.answer.clone());
        self.errands.send(Errand::Files(batch)).map_err(|_| End::Stopped)?;
        self.steps.send(step).map_err(|_| End::Stopped)
    }

    /// A folder on the way to something the owner named: only that, and links in it are followed.
    fn named_only(&mut self, path: &Path, branch: &Branch, inside: &mut Inside) -> Walked {
        let Branch::Partly(children) = branch else { return Ok(()) };
        for (name, child) in children {
            let at = path.join(std::ffi::OsStr::from_bytes(name));
            let Ok(c_name) = CString::new(name.as_slice()) else { continue };
            match child {
                Branch::Whole => match Folder::on_the_way(path) {
                    Ok(folder) => {
                        let (folder, nothing) = (Arc::new(folder), Names::default());
                        let mut ahead = Ahead::of(&nothing, &self.asked_in_all);
                        self.entry((&folder, &mut ahead), &c_name, &at, None, inside)?
                    }
                    Err(cause) => self.problem(&at, &cause),
                },
                Branch::Partly(_) => {
                    let node = folder_on_the_way(&mut self.maker, name, &at);
                    let Some(node) = self.noted(&at, node) else { continue };
                    let line = self.reuse.begin(name);
                    let mut below = self.below(name, inside);
                    match below.parent.is_empty() {
                        true => self.outcome.dirs_new += 1,
                        false => self.outcome.dirs_changed += 1,
                    }
                    self.step(Step::Enter(Some(Box::new(node))))?;
                    self.named_only(&at, child, &mut below)?;
                    self.outcome.dirs += 1;
                    self.step(Step::Leave)?;
                    // It is looked at each time.
                    let line = self.reuse.end(line, None);
                    self.step(Step::Record(Box::new(line)))?;
                }
            }
        }
        Ok(())
    }

    /// What is known of a folder on the way.
    fn below(&mut self, name: &[u8], inside: &mut Inside) -> Inside {
        let (trees, known) = match self.reuse.find(&mut inside.known, name) {
            Some(record) => {
                self.shared.knows_tree(record.tree);
                (vec![record.tree], record.below)
            }
            None => {
                let before = inside.parent.find(name, &mut self.parents);
                (before.subtrees(), Stretch::default())
            }
        };
        Inside { parent: ParentFolder::of(trees), known, ..Inside::default() }
    }

    /// Everything in a folder, entry by entry. Some of it may have been looked at already.
    fn entries(
        &mut self,
        (folder, path): (&Arc<Folder>, &Path),
        names: &Names,
        look: &Look,
        inside: &mut Inside,
    ) -> Walked {
        let mut ahead = Ahead::of(&look.folders, &self.asked_in_all);
        let mut cursor = Cursor::default();
        for place in 0..names.len() {
            let next = names.next(&mut cursor).map_err(|error| self.failed(error))?;
            let Some(name) = next else { break };
            let at = joined(path, name);
            if self.looker.excludes.is_empty() || !self.looker.excludes.fit(&at) {
                let stat = look.stats.get(place).copied().flatten();
                self.entry((folder, &mut ahead), name, &at, stat, inside)?;
                inside.is_unsettled |= std::mem::take(&mut self.is_unsettled);
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        (folder, ahead): (&Arc<Folder>, &mut Ahead<'_>),
        name: &CStr,
        path: &Path,
        stat: Option<Stat>,
        inside: &mut Inside,
    ) -> Walked {
        if self.shared.is_stopped() {
            return Err(End::Stopped);
        }
        let stat = stat.map_or_else(|| folder.stat(name), Ok);
        let Some(stat) = self.noted(path, stat) else { return Ok(()) };
        if let (Digest::Growing(digest), true) = (&mut inside.digest, stat.kind != Kind::Socket) {
            digest.entry(name.to_bytes(), &stat);
        }
        match stat.kind {
            Kind::Folder => {
                let seen = self.see(ahead, folder, name, path)?;
                self.folder(seen, name, path, Around::Looked(inside))
            }
            Kind::File => {
                let before = inside.parent.find(name.to_bytes(), &mut self.parents);
                self.file(folder, name, path, &stat, &before)
            }
            // A socket without its program is nothing; restic leaves them out, too.
            Kind::Socket => Ok(()),
            Kind::Unknown => {
                self.problem(path, &io::Error::other("it is of no kind that is known"));
                Ok(())
            }
            _ => self.other(folder, name, path, &stat),
        }
    }

    /// Opens a folder and looks at it, unless somebody has done so.
    pub(super) fn see(
        &self,
        ahead: &mut Ahead<'_>,
        parent: &Arc<Folder>,
        name: &CStr,
        path: &Path,
    ) -> Result<io::Result<Seen>, End> {
        let around = path.parent().unwrap_or(path);
        let seen = ahead.take(&self.errands, self.shared, (parent, around), name);
        let seen = seen.ok_or(End::Stopped)?;
        Ok(seen.map_or_else(|| self.looker.see(parent, name, path), Ok))
    }

    /// A folder; `around` is the one it is in.
    pub(super) fn folder(
        &mut self,
        seen: io::Result<Seen>,
        name: &CStr,
        path: &Path,
        around: Around<'_>,
    ) -> Walked {
        let too_deep =
            || io::Error::other(format!("it is in more than {FOLDERS_DEEP_MAX} folders"));
        let seen = if self.depth < FOLDERS_DEEP_MAX { seen } else { Err(too_deep()) };
        self.depth += 1;
        let walked = self.folder_seen(seen, name, path, around);
        self.depth -= 1;
        walked
    }

    fn folder_seen(
        &mut self,
        seen: io::Result<Seen>,
        name: &CStr,
        path: &Path,
        mut around: Around<'_>,
    ) -> Walked {
        let Some(seen) = self.noted(path, seen) else {
            // It is left out, even if all around it is as it was.
            return if around.is_kept() { self.make_way(name).map(drop) } else { Ok(()) };
        };
        let line = self.reuse.begin(name.to_bytes());
        let record = self.reuse.find(around.known(), name.to_bytes());
        let Seen { folder, stat, looked_at, few, .. } = seen;
        let found = Found { folder, name, path, stat, looked_at, line };
        let is_summed = record.as_ref().is_some_and(|record| record.digest.is_some());
        let (names, look) = match few {
            Some((names, look)) => (Ok(names), look),
            None => self.many(&found, is_summed)?,
        };
        let digest = look.digest.map(|(digest, _)| digest);
        match record {
            Some(record) if is_summed && digest == record.digest => {
                drop(names);
                self.kept(found, &record, look, &around)
            }
            record => self.changed(found, record, names, &look, around),
        }
    }

    /// The names of a folder of many entries; and what they are, if their sum can be compared.
    fn many(&self, found: &Found<'_>, is_summed: bool) -> Result<(io::Result<Names>, Look), End> {
        let names = self.looker.names(&found.folder);
        if self.shared.is_stopped() {
            return Err(End::Stopped);
        }
        let folder = (&*found.folder, found.path);
        let look = match &names {
            Ok(names) if is_summed => {
                let look = self.looker.look(folder, &found.stat, found.looked_at, names);
                look.map_err(|error| self.failed(error))?
            }
            _ => Look::default(),
        };
        Ok((names, look))
    }

    /// A folder that is new, or not as it was, or of which that is not known.
    fn changed(
        &mut self,
        found: Found<'_>,
        record: Option<Record>,
        names: io::Result<Names>,
        look: &Look,
        around: Around<'_>,
    ) -> Walked {
        let before = match around {
            Around::Kept(_) => self.make_way(found.name)?.and_then(|before| before.subtree),
            Around::Looked(_) => None,
        };
        let (trees, known) = match (record, around) {
            (Some(record), _) => (vec![record.tree], record.below),
            (None, Around::Kept(_)) => (before.into_iter().collect(), Stretch::default()),
            (None, Around::Looked(inside)) => {
                let before = inside.parent.find(found.name.to_bytes(), &mut self.parents);
                (before.subtrees(), Stretch::default())
            }
        };
        match trees.is_empty() {
            true => self.outcome.dirs_new += 1,
            false => self.outcome.dirs_changed += 1,
        }
        let node = self.folder_node(&found);
        let is_unsettled = std::mem::take(&mut self.is_unsettled);
        let digest = match names.as_ref().ok().and_then(|names| look.digest_of_all(names)) {
            Some((digest, is_telling)) => Digest::Complete(digest, is_telling),
            None => Digest::Growing(FolderDigest::of(&found.stat)),
        };
        let parent = ParentFolder::of(trees);
        let mut inside = Inside { parent, known, digest, is_unsettled: false };
        self.step(Step::Enter(Some(Box::new(node))))?;
        match names {
            Ok(names) => {
                self.entries((&found.folder, found.path), &names, look, &mut inside)?;
            }
            Err(cause) => {
                self.unlisted(found.path, cause)?;
                inside.is_unsettled = true;
            }
        }
        self.is_unsettled = is_unsettled;
        self.outcome.dirs += 1;
        self.step(Step::Leave)?;
        let line = self.reuse.end(found.line, inside.digest(found.looked_at));
        self.step(Step::Record(Box::new(line)))
    }

    pub(super) fn folder_node(&mut self, found: &Found<'_>) -> Node {
        let mut node = self.maker.node(found.name.to_bytes(), &found.stat);
        let attributes = found.folder.as_file().and_then(|file| attributes_of_open(&file));
        node.extended_attributes = self.noted(found.path, attributes).unwrap_or_default();
        node
    }

    /// A folder whose names did not come: a problem of the source, unless this computer has no room
    /// for so many of them.
    fn unlisted(&mut self, path: &Path, cause: io::Error) -> Walked {
        match cause.downcast::<TransferError>() {
            Ok(error) => Err(self.failed(error)),
            Err(cause) => {
                self.problem(path, &cause);
                Ok(())
            }
        }
    }

    /// Ends the backup.
    pub(super) fn failed(&self, error: TransferError) -> End {
        self.shared.fail(error);
        End::Stopped
    }

    /// The value; or, when there is none, a problem more.
    pub(super) fn noted<T>(&mut self, path: &Path, value: io::Result<T>) -> Option<T> {
        value.map_err(|cause| self.problem(path, &cause)).ok()
    }

    pub(super) fn problem(&mut self, path: &Path, cause: &io::Error) {
        self.outcome.add_problem(path.to_owned(), cause.to_string());
        self.meter.problem(path, cause);
        self.is_unsettled = true;
    }
}

impl Inside {
    /// The folder's sum, if the next run may rest on it.
    fn digest(self, looked_at: SystemTime) -> Option<Id> {
        let (digest, is_telling) = match self.digest {
            Digest::None => return None,
            Digest::Growing(digest) => digest.finish(looked_at),
            Digest::Complete(digest, is_telling) => (digest, is_telling),
        };
        (is_telling && !self.is_unsettled).then_some(digest)
    }
}

/// The node of a folder on the way to something named.
fn folder_on_the_way(maker: &mut NodeMaker, name: &[u8], path: &PathBuf) -> io::Result<Node> {
    let stat = Stat::at(path)?;
    let mut node = maker.node(name, &stat);
    if node.kind != NodeKind::Directory {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    // Whoever may pass through need not be allowed to look.
    node.extended_attributes =
        File::open(path).and_then(|file| attributes_of_open(&file)).unwrap_or_default();
    Ok(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_run_rests_on_a_sum_only_if_it_tells_all_and_everything_came_out_as_it_is() {
        let id = Id::of(b"entries");
        let inside = |is_telling, is_unsettled| {
            let digest = Digest::Complete(id, is_telling);
            Inside { digest, is_unsettled, ..Inside::default() }.digest(SystemTime::now())
        };
        assert_eq!(inside(true, false), Some(id));
        assert_eq!(inside(false, false), None);
        assert_eq!(inside(true, true), None);
    }
}
