//! The daemon: it keeps settings, runs backup sets, and answers on the control socket.

use crate::console::{self, Console};
use crate::daemon::Daemon;
use crate::failure::{Failure, exit};
use crate::home::Home;
use crate::job::Jobs;
use crate::settings::{BackupSet, Destination};
use crate::world::World;
use crate::{adoption, destination, wizard};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router, body};
use engine_contract::control::{
    AddDestination, AddSet, AdoptComputer, Adopted, ChangeConsole, ConsoleAccess, DestinationState,
    MESSAGE_BYTES_MAX, SetState, Status,
};
use http_body_util::channel::Channel;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// What requests are answered from.
pub struct Server {
    /// What the daemon is.
    pub daemon: Arc<Daemon>,
    /// What it does.
    pub jobs: Jobs,
    /// Where its console is.
    pub console: Console,
}

/// Runs until it is told to stop.
pub fn run(world: &World) -> Result<ExitCode, Failure> {
    tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stderr).init();
    let daemon = Arc::new(Daemon::of(world, Home::take(world.layout()?)?)?);
    let (console, asked) = Console::of(&daemon, world.console.clone())?;
    let server = Arc::new(Server { daemon, jobs: Jobs::default(), console });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new("no event loop could be made").because(error))?;
    runtime.block_on(serve(world, &server, asked))?;
    server.jobs.stop_all();
    server.daemon.log("holdfast stopped");
    Ok(ExitCode::SUCCESS)
}

async fn serve(
    world: &World,
    server: &Arc<Server>,
    asked: mpsc::Receiver<console::Moved>,
) -> Result<(), Failure> {
    let daemon = &server.daemon;
    let socket = daemon.home.layout().control_socket();
    let failed = |error: std::io::Error| {
        Failure::new(format!("{} cannot be listened at", socket.display()))
            .because(error)
            .remedy("a socket's path must be shorter than 108 bytes, in a folder we may write")
    };
    // The lock on the home is ours, so that whoever left this socket behind is dead.
    if let Err(error) = std::fs::remove_file(&socket)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(failed(error));
    }
    let listener = UnixListener::bind(&socket).map_err(failed)?;
    // Restic asks by this signal whether the holder of a lock lives; it is caught, and no more.
    let _asked = signal(SignalKind::hangup()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    daemon.log(&format!("holdfast {} started", env!("CARGO_PKG_VERSION")));
    let door = server.console.open(daemon);
    crate::readiness::announce(world.ready_descriptor)?;
    let answered = Arc::clone(server);
    tokio::task::spawn_blocking(move || {
        wizard::follow(&answered.daemon, &answered.jobs);
        answered.jobs.go_on(&answered.daemon);
    });
    let router = router(Arc::clone(server));
    tokio::select! {
        served = async { axum::serve(listener, router).await } => served.map_err(failed)?,
        never = console::keep(server, door, asked) => match never {},
        _ = terminate.recv() => (),
        _ = interrupt.recv() => (),
    }
    // Nobody can be answered any more; the file would only make clients wait.
    let _ = std::fs::remove_file(&socket);
    Ok(())
}

fn router(server: Arc<Server>) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/alive", get(alive))
        .route("/v1/destinations", post(add_destination))
        .route("/v1/destinations/{name}", delete(remove_destination))
        .route("/v1/sets", get(console::sets).post(add_set))
        .route("/v1/sets/{name}", delete(remove_set))
        .route("/v1/sets/{name}/run", post(run_set))
        .route("/v1/adopt", post(adopt))
        .route("/v1/console", get(console_access).post(change_console))
        .layer(DefaultBodyLimit::max(MESSAGE_BYTES_MAX))
        .with_state(server)
}

/// How a request gets at it.
pub type Shared = State<Arc<Server>>;
type Answer<T> = Result<Json<T>, Failure>;
/// The answer of a request that has nothing to tell.
pub type Nothing = serde_json::Map<String, serde_json::Value>;

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = match self.exit_code() {
            exit::WRONG_USE => StatusCode::BAD_REQUEST,
            exit::LOCKED => StatusCode::CONFLICT,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        (status, Json(self.refusal())).into_response()
    }
}

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

async fn status(State(server): Shared) -> Answer<Status> {
    apart(move || Ok(Json(status_now(&server)))).await
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

async fn console_access(State(server): Shared) -> Answer<ConsoleAccess> {
    apart(move || Ok(Json(server.console.access(&server.daemon)))).await
}

async fn change_console(
    State(server): Shared,
    Json(wanted): Json<ChangeConsole>,
) -> Answer<ConsoleAccess> {
    server.console.change(&server.daemon, wanted).await.map(Json)
}

async fn add_destination(
    State(server): Shared,
    Json(wanted): Json<AddDestination>,
) -> Answer<DestinationState> {
    apart(move || destination::add(&server.daemon, wanted).map(Json)).await
}

async fn remove_destination(State(server): Shared, Path(name): Path<String>) -> Answer<Nothing> {
    server.daemon.change_settings(|settings| settings.remove_destination(&name))?;
    server.daemon.log(&format!("destination {name} removed from the settings"));
    Ok(Json(Nothing::new()))
}

async fn add_set(State(server): Shared, Json(wanted): Json<AddSet>) -> Answer<Nothing> {
    let line = format!("backup set {} added", wanted.name);
    let set = BackupSet {
        name: wanted.name,
        paths: wanted.paths,
        excludes: wanted.excludes,
        destination: wanted.destination,
    };
    server.daemon.change_settings(|settings| settings.add_set(set))?;
    server.daemon.log(&line);
    Ok(Json(Nothing::new()))
}

async fn remove_set(State(server): Shared, Path(name): Path<String>) -> Answer<Nothing> {
    server.daemon.change_settings(|settings| settings.remove_set(&name))?;
    server.daemon.home.note_finished(&name);
    server.daemon.complete.forget(&server.daemon.home, &name);
    server.daemon.log(&format!("backup set {name} removed; its snapshots stay"));
    Ok(Json(Nothing::new()))
}

async fn adopt(State(server): Shared, Json(wanted): Json<AdoptComputer>) -> Answer<Adopted> {
    apart(move || adoption::adopt(&server.daemon, wanted).map(Json)).await
}

/// How many lines of progress may wait for a slow reader.
const LINES_WAITING_MAX: usize = 4;

async fn run_set(State(server): Shared, Path(name): Path<String>) -> Result<Response, Failure> {
    let mut progress = server.jobs.start(&server.daemon, &name)?;
    let (mut lines, body) = Channel::<body::Bytes>::new(LINES_WAITING_MAX);
    tokio::spawn(async move {
        loop {
            let now = progress.borrow_and_update().clone();
            let mut line = serde_json::to_vec(&now).unwrap_or_default();
            line.push(b'\n');
            let reader_left = lines.send_data(line.into()).await.is_err();
            if reader_left || now.is_over() || progress.changed().await.is_err() {
                return;
            }
        }
    });
    let response = Response::builder().header("content-type", "application/x-ndjson");
    response
        .body(body::Body::new(body))
        .map_err(|error| Failure::new("the answer cannot be sent").because(error))
}
