//! The daemon: it keeps settings, runs backup sets, and answers on the control socket.

use crate::answers::{Answer, Nothing, Server, Shared, alive, apart, sets, status_now};
use crate::console::{Console, Moved};
use crate::daemon::Daemon;
use crate::failure::{Failure, exit};
use crate::home::Home;
use crate::job::Jobs;
use crate::settings::BackupSet;
use crate::world::World;
use crate::{adoption, console_port, destination, wizard};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router, body};
use engine_contract::control::{
    AddDestination, AddSet, AdoptComputer, Adopted, ChangeConsole, ConsoleAccess, DestinationState,
    MESSAGE_BYTES_MAX, Status,
};
use http_body_util::channel::Channel;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

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
    asked: mpsc::Receiver<Moved>,
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
        never = console_port::keep(server, door, asked) => match never {},
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
        .route("/v1/sets", get(sets).post(add_set))
        .route("/v1/sets/{name}", delete(remove_set))
        .route("/v1/sets/{name}/run", post(run_set))
        .route("/v1/adopt", post(adopt))
        .route("/v1/console", get(console_access).post(change_console))
        .layer(DefaultBodyLimit::max(MESSAGE_BYTES_MAX))
        .with_state(server)
}

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

async fn status(State(server): Shared) -> Answer<Status> {
    apart(move || Ok(Json(status_now(&server)))).await
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
