//! What may be asked over TCP, at the console's door.
//!
//! A holder of the token may look (`/v1/status`, `/v1/sets`, `/v1/alive`) and begin a backup of a
//! set there is (`/v1/sets/NAME/run`); the worst that a token in wrong hands does is reading names
//! and starting a backup that is due some day anyway. Passwords, other sources, other destinations
//! and other identities go over the Unix socket alone, whose file mode says who its clients are: on
//! its way through the house this port is not encrypted.

use crate::answers::{Nothing, Server, Shared, alive, apart, sets, status_now};
use crate::console::Moved;
use crate::failure::{Failure, exit};
use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use engine_console::Door;
use engine_contract::control::{Progress, Status};
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Answers at the door, and at another one when the owner wants that.
pub async fn keep(
    server: &Arc<Server>,
    mut door: Option<Door>,
    mut asked: mpsc::Receiver<Moved>,
) -> Infallible {
    loop {
        let token = server.console.token();
        let told = match door {
            Some(open) => tokio::select! {
                Err(error) = engine_console::serve(open, token, router(Arc::clone(server))) => {
                    server.daemon.log(&format!("the console cannot be served: {error}"));
                    asked.recv().await
                }
                told = asked.recv() => told,
            },
            None => asked.recv().await,
        };
        // Nothing of the old door is left here: its port is free again.
        door = server.console.open(&server.daemon);
        match told {
            Some(told) => drop(told.send(())),
            None => std::future::pending().await,
        }
    }
}

/// What is served over TCP.
fn router(server: Arc<Server>) -> Router {
    // Destinations are asked for one reader at a time, however many and impatient they are.
    let turn = Arc::new(tokio::sync::Mutex::new(()));
    let status = move |State(server): Shared| async move {
        let turn = turn.lock_owned().await;
        apart(move || {
            let _mine = turn;
            Ok(Json::<Status>(status_now(&server)))
        })
        .await
    };
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/sets", get(sets))
        .route("/v1/alive", get(alive))
        .route("/v1/sets/{name}/run", post(start_set))
        .fallback(elsewhere)
        .method_not_allowed_fallback(elsewhere)
        .with_state(server)
}

/// Begins a run and does not wait for its end; [`sets`] tells how far it is.
async fn start_set(
    State(server): Shared,
    Path(name): Path<String>,
) -> Result<Json<Progress>, Failure> {
    let progress = server.jobs.start(&server.daemon, &name)?;
    let now = progress.borrow().clone();
    Ok(Json(now))
}

async fn elsewhere() -> Result<Json<Nothing>, Failure> {
    Err(Failure::new("this cannot be asked for over the network")
        .remedy("use the `holdfast` command on this computer itself")
        .code(exit::WRONG_USE))
}
