//! Who changes a depot that is served: whoever has its folder, or somebody who must tell others.

use crate::error::DepotError;
use crate::publish::{Delivery, Published, keys, publish_all, renew};
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use supervisor_trust::{Role, UnixSeconds};

/// It is signed again when the timestamp's signature lasts fewer days than this: after one day.
const TIMESTAMP_DAYS_MIN: u64 = 20;

/// Changes a depot, while it is served. Called where waiting is allowed.
pub trait Publisher: Debug + Send + Sync {
    /// Puts packages on the shelves: all of them, or none.
    fn publish(
        &self,
        deliveries: &[Delivery],
        now: UnixSeconds,
    ) -> Result<Vec<Published>, DepotError>;

    /// Signs anew what ends soonest, once a day; whether it was time.
    fn renew_if_due(&self, now: UnixSeconds) -> Result<bool, DepotError>;

    /// Whom a publication waits for, if it waits for somebody.
    fn waits_for(&self) -> Option<String> {
        None
    }
}

/// Changes the depot in a folder.
#[derive(Debug, Clone)]
pub struct InFolder(pub PathBuf);

impl Publisher for InFolder {
    fn publish(
        &self,
        deliveries: &[Delivery],
        now: UnixSeconds,
    ) -> Result<Vec<Published>, DepotError> {
        publish_all(&self.0, deliveries, now)
    }

    fn renew_if_due(&self, now: UnixSeconds) -> Result<bool, DepotError> {
        renew_if_due(&self.0, now)
    }
}

/// Renews the depot in `root` if a day has passed since; whether it had.
pub fn renew_if_due(root: &Path, now: UnixSeconds) -> Result<bool, DepotError> {
    let report = keys(root, now)?;
    let timestamp = report.roles.iter().find(|role| role.role == Role::Timestamp);
    if timestamp.is_none_or(|role| role.days_left >= TIMESTAMP_DAYS_MIN) {
        return Ok(false);
    }
    renew(root, now)?;
    Ok(true)
}
