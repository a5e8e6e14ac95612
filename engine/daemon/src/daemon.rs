//! What the daemon is: a home of its own, who this computer is, and what its owner asked for.
//!
//! Memory and disk say the same: every change is on disk before it is believed.

use crate::complete_runs::CompleteRuns;
use crate::failure::Failure;
use crate::home::Home;
use crate::settings::Settings;
use crate::world::World;
use engine_contract::identity::Identity;
use engine_contract::memory::MemoryPlan;
use std::sync::{Mutex, MutexGuard};

/// Everything the daemon holds.
pub struct Daemon {
    /// The folder it alone works in.
    pub home: Home,
    /// How much memory it may use.
    pub memory: MemoryPlan,
    /// This computer's name, for snapshots.
    pub hostname: String,
    /// The name of the user it runs as, for snapshots.
    pub username: String,
    /// When it started, in seconds since 1970.
    pub started_at: i64,
    /// The last complete run of each set.
    pub complete: CompleteRuns,
    known: Mutex<Known>,
}

/// What may change while the daemon runs; the files hold the same.
pub struct Known {
    /// Who this computer is.
    pub identity: Identity,
    /// Destinations and sets.
    pub settings: Settings,
}

impl Daemon {
    /// A daemon that has taken its home.
    pub fn of(world: &World, home: Home) -> Result<Self, Failure> {
        let known = Known { identity: home.identity()?, settings: home.settings()? };
        Ok(Self {
            memory: world.memory,
            hostname: world.hostname.clone(),
            username: world.username.clone(),
            started_at: jiff::Timestamp::now().as_second(),
            complete: CompleteRuns::load(&home, &known.settings),
            known: Mutex::new(known),
            home,
        })
    }

    /// Identity and settings. The lock is held for moments only, never while a disk is read.
    pub fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Changes the settings, on disk first.
    pub fn change_settings(
        &self,
        change: impl FnOnce(&mut Settings) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut known = self.known();
        let mut settings = known.settings.clone();
        change(&mut settings)?;
        self.home.set_settings(&settings)?;
        known.settings = settings;
        Ok(())
    }

    /// Adds a line to the history. A full disk is the backup's to report, not the log's.
    pub fn log(&self, text: &str) {
        if let Err(error) = self.home.history().add(text) {
            tracing::warn!("the history cannot be written: {error}");
        }
    }
}
