//! What the daemon answers requests from, and the answers that are the same however they come.

use crate::console::Console;
use crate::daemon::Daemon;
use crate::destination;
use crate::failure::Failure;
use crate::job::Jobs;
use crate::settings::{BackupSet, Destination};
use axum::Json;
use axum::extract::State;
use engine_contract::control::{SetState, Status};
use std::sync::Arc;

/// What requests are answered from.
pub struct Server {
    /// What the daemon is.
    pub daemon: Arc<Daemon>,
    /// What it does.
    pub jobs: Jobs,
    /// Where its console is.
    pub console: Console,
}

/// How a request gets at it.
pub type Shared = State<Arc<Server>>;
/// A request's answer, or why there is none.
pub type Answer<T> = Result<Json<T>, Failure>;
/// The answer of a request that has nothing to tell.
pub type Nothing = serde_json::Map<String, serde_json::Value>;

/// Does what touches a disk on a thread of its own, so that the event loop goes on answering.
pub async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Failure::new("the daemon failed while working on it").because(error))?
}

/// Whoever watches the daemon asks this. It needs the event loop and the settings, as every request
/// does, and no disk: one that sleeps is not woken, one that hangs is not the daemon's fault.
pub async fn alive(State(server): Shared) -> Json<Nothing> {
    drop(server.daemon.known());
    Json(Nothing::new())
}

/// All sets, from memory.
pub async fn sets(State(server): Shared) -> Json<Vec<SetState>> {
    Json(sets_now(&server))
}

/// How everything stands; each destination is looked at.
pub fn status_now(server: &Server) -> Status {
    let daemon = &server.daemon;
    let (identity, settings) = {
        let known = daemon.known();
        (known.identity, known.settings.clone())
    };
    let state = |destination: &Destination| destination::state(daemon, destination);
    Status {
        guid: identity.guid,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        started_at: daemon.started_at,
        memory: daemon.memory,
        destinations: settings.destinations.iter().map(state).collect(),
        sets: sets_now(server),
        console: server.console.place(),
    }
}

/// How the sets stand, as it is known in memory.
pub fn sets_now(server: &Server) -> Vec<SetState> {
    let sets = server.daemon.known().settings.sets.clone();
    sets.into_iter().map(|set| set_state(server, set)).collect()
}

fn set_state(server: &Server, set: BackupSet) -> SetState {
    let last_run = server.jobs.last_run(&set.name);
    let mut last_complete = server.daemon.complete.of(&set.name);
    if let (Some(_), Some(complete)) = (&last_run, &mut last_complete) {
        // The run since then tells its own; an answer has a bound.
        complete.summary.unreadable = Vec::new();
    }
    SetState {
        last_run,
        last_complete,
        name: set.name,
        paths: set.paths,
        excludes: set.excludes,
        destination: set.destination,
    }
}
