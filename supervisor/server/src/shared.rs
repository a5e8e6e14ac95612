//! A depot that lies in an object store, and is published in by several.
//!
//! ```text
//! bring up    the work folder to what is in force there: lists alone, no packages
//! change      it there, as one changes any depot
//! put         packages first, then lists, then `current`: if that is still what it began with
//! else        begin again
//! ```
//!
//! Nobody is served from the work folder, so what was changed there in vain is seen by nobody.
//! Killed at any step, a publisher leaves the old list in force or the new.

use crate::depot::clock;
use crate::problem::{Problem, Result};
use crate::store::{self, InForce, LOOK_EVERY, Store};
use std::fs::{File, TryLockError};
use std::future::Future;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use supervisor_depot::{Delivery, DepotError, Published, Publisher, Replica};
use supervisor_trust::UnixSeconds;
use tokio::runtime::Handle;
use tokio::sync::Mutex;

/// How often a change is begun again, because somebody else's came into force first.
const TRIES_MAX: u32 = 32;
/// How often the work folder's lock is tried, and how long between.
const LOCK_TRIES_MAX: u32 = 1200;
const LOCK_WAIT: Duration = Duration::from_millis(100);

/// A depot in an object store that we may change.
pub struct Shared {
    store: Store,
    keys: PathBuf,
    work: PathBuf,
    copy: Option<Arc<Copy>>,
}

impl Shared {
    /// The depot in `store`, signed with the keys in `keys`, changed in the folder `work`.
    pub fn at(store: Store, keys: &Path, work: &Path) -> Self {
        Self { store, keys: keys.to_owned(), work: work.to_owned(), copy: None }
    }

    /// The same beside a copy that is served: it is brought up after each change.
    pub fn beside(self, copy: &Arc<Copy>) -> Self {
        Self { copy: Some(copy.clone()), ..self }
    }

    /// Makes a depot there; its keys come into the folder of keys.
    pub async fn begin<T, E: From<Problem>>(
        &self,
        act: impl Fn(&Path) -> Result<T, E>,
    ) -> Result<T, E> {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.keys);
        made.map_err(|error| self.cannot("make the folder of keys", error))?;
        if self.store.in_force().await?.is_some() {
            return Err(Problem::new("there is a depot in that place of the object store already")
                .remedy("choose another place in the bucket")
                .into());
        }
        self.carry_out(act, || async { Ok(None) }).await
    }

    /// Changes the depot there. `act` is given a folder, and may be called more than once.
    pub async fn change<T, E: From<Problem>>(
        &self,
        act: impl Fn(&Path) -> Result<T, E>,
    ) -> Result<T, E> {
        self.carry_out(act, || async { self.store.depot().await.map(Some) }).await
    }

    async fn carry_out<T, E: From<Problem>, L>(
        &self,
        act: impl Fn(&Path) -> Result<T, E>,
        look: impl Fn() -> L,
    ) -> Result<T, E>
    where
        L: Future<Output = Result<Option<InForce>>>,
    {
        let _lock = self.lock().await?;
        let work = Replica::with_keys(&self.work, &self.keys).map_err(Problem::from)?;
        for _ in 0..TRIES_MAX {
            let base = look().await?;
            self.bring_up(&work, base.as_ref()).await?;
            // Seen again when what is done now is in force, or was nothing.
            work.note(None).map_err(Problem::from)?;
            let done = act(&self.work)?;
            let current = base.as_ref().map(|base| &base.current);
            let new = supervisor_depot::outgoing(&self.work, current, clock());
            let new = new.map_err(Problem::from)?;
            let Some(mut new) = new else {
                work.note(current).map_err(Problem::from)?;
                return Ok(done);
            };
            // What is not here is there.
            new.contents.retain(|piece| piece.path.exists());
            if self.store.put_in_force(base.as_ref(), &new).await? {
                work.note(Some(&new.current)).map_err(Problem::from)?;
                self.hand_over(&work).await.map_err(Problem::from)?;
                return Ok(done);
            }
        }
        Err(Problem::new("others publish in the object store all the time")
            .remedy("try again later")
            .into())
    }

    /// Lets leave what nothing names any more. That it fails is in nobody's way.
    pub async fn collect(&self) {
        let done = async {
            let _lock = self.lock().await?;
            let work = Replica::with_keys(&self.work, &self.keys)?;
            let base = self.store.depot().await?;
            self.bring_up(&work, Some(&base)).await?;
            match self.store.collect(&self.work).await? {
                Some(current) => Ok(work.note(Some(&current))?),
                None => Ok::<_, Problem>(()),
            }
        };
        if let Err(problem) = done.await {
            tracing::warn!(problem = problem.fact(), "nothing was cleared away in the store");
        }
    }

    /// Gives the packages that came to the copy that is served; here, they are no longer needed.
    async fn hand_over(&self, work: &Replica) -> Result<(), DepotError> {
        let Some(copy) = &self.copy else { return work.drop_contents() };
        copy.replica.lock().await.take_contents(work)?;
        if let Err(problem) = copy.pull().await {
            tracing::warn!(problem = problem.fact(), "what was published comes a little later");
        }
        Ok(())
    }

    /// Makes the work folder what is in force there.
    async fn bring_up(&self, work: &Replica, base: Option<&InForce>) -> Result<()> {
        let current = base.map(|base| &base.current);
        if current.is_some() && work.is_there() && work.seen().as_ref() == current {
            return Ok(());
        }
        work.clear()?;
        if let Some(current) = current {
            self.store.pull_lists(work, current).await?;
            work.switch(current)?;
        }
        Ok(())
    }

    /// Keeps others on this machine out of the work folder, for as long as the file is open.
    async fn lock(&self) -> Result<File> {
        let path = self.work.with_extension("lock");
        let cannot = |error| self.cannot("lock the folder of work", error);
        let file = File::create(&path).map_err(cannot)?;
        for _ in 0..LOCK_TRIES_MAX {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_WAIT).await,
                Err(TryLockError::Error(error)) => return Err(cannot(error)),
            }
        }
        Err(DepotError::Busy { path: self.work.clone() }.into())
    }

    fn cannot(&self, what: &str, cause: std::io::Error) -> Problem {
        let (keys, work) = (self.keys.display(), self.work.display());
        Problem::new(format!("cannot {what} ({keys}, {work})"))
            .because(cause)
            .remedy("run it as the user who owns the keys")
    }
}

/// The copy from which a depot in an object store is served.
pub struct Copy {
    store: Store,
    replica: Mutex<Replica>,
}

impl Copy {
    /// The copy in that replica's folder.
    pub fn of(store: Store, replica: Replica) -> Self {
        Self { store, replica: Mutex::new(replica) }
    }

    /// Brings it up to what is in force.
    pub async fn pull(&self) -> Result<bool> {
        self.store.pull(&*self.replica.lock().await).await
    }

    /// Pulls for ever. What goes wrong is said once, and the copy goes on with what it has.
    pub async fn keep_pulled(&self) {
        let mut is_well = true;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            store::tell(&mut is_well, self.pull().await);
        }
    }
}

/// Publishes for a server whose depot lies in an object store.
pub struct OnStore {
    shared: Option<Shared>,
    runtime: Handle,
}

impl OnStore {
    /// With `shared`, the server publishes; without, it has no keys. Called on a runtime.
    pub fn new(shared: Option<Shared>) -> Self {
        Self { shared, runtime: Handle::current() }
    }
}

impl std::fmt::Debug for OnStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OnStore").finish_non_exhaustive()
    }
}

impl Publisher for OnStore {
    fn publish(
        &self,
        deliveries: &[Delivery],
        now: UnixSeconds,
    ) -> Result<Vec<Published>, DepotError> {
        let Some(shared) = &self.shared else {
            return Err(Problem::new("this server has no keys to sign with")
                .remedy("publish at one that has (serve --keys DIR)")
                .into());
        };
        let act = |root: &Path| supervisor_depot::publish_all(root, deliveries, now);
        self.runtime.block_on(shared.change(act))
    }

    fn renew_if_due(&self, now: UnixSeconds) -> Result<bool, DepotError> {
        let Some(shared) = &self.shared else { return Ok(false) };
        let act = |root: &Path| supervisor_depot::renew_if_due(root, now);
        self.runtime.block_on(async {
            let is_renewed = shared.change(act).await?;
            if is_renewed {
                shared.collect().await;
            }
            Ok(is_renewed)
        })
    }

    fn waits_for(&self) -> Option<String> {
        self.shared.as_ref()?.store.waiting()
    }
}
