//! `serve`: opening the doors, reading certificates again at SIGHUP, stopping in peace.

use crate::acme;
use crate::command_line::Serving;
use crate::depot::clock;
use crate::place::Means;
use crate::problem::{Problem, Result};
use crate::shared::{Copy, OnStore, Shared};
use crate::store::{self, Store};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use supervisor_depot::{Certificates, Door, Proxies, Replica, ServeSettings};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// The wizard's question for the port, as in the package that runs a depot on a NAS.
const PORT_KEY: &str = "wizard_port";
/// A longer file of answers is cut off, and then understood no more.
const ANSWERS_BYTES_MAX: u64 = 1 << 20;

/// Serves the depot until it is asked to stop.
pub fn serve(serving: Serving, means: &Means) -> Result<()> {
    crate::log::begin(&serving.log, serving.log_format);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Problem::new("cannot start the server").because(error))?;
    runtime.block_on(open(serving, means))
}

async fn open(mut serving: Serving, means: &Means) -> Result<()> {
    let exchange = exchange(&mut serving, means).await?;
    if serving.make && !serving.root.join("current").is_symlink() {
        crate::depot::init(&serving.root)?;
    }
    let certificates = match (&serving.tls_cert, &serving.tls_key) {
        (Some(chain), Some(key)) => Some(Arc::new(Certificates::read(chain, key)?)),
        _ if !serving.acme.is_empty() => Some(Arc::new(acme::at_hand(&serving.root)?)),
        _ => None,
    };
    let place = match &serving.answers {
        Some(file) => answered(&serving.listen, file)?,
        None => serving.listen.clone(),
    };
    let plain = listen(&place, "http", "--listen").await?;
    let mut doors = vec![Door { listener: plain, tls: None }];
    if let (Some(address), Some(certificates)) = (&serving.listen_tls, &certificates) {
        let listener = listen(address, "https", "--listen-tls").await?;
        doors.push(Door { listener, tls: Some(certificates.clone()) });
    }
    let metrics = match &serving.metrics {
        Some(address) => Some(listen(address, "http", "--metrics").await?),
        None => None,
    };
    let usual = ServeSettings::new(&serving.root, clock);
    let settings = ServeSettings {
        base_url: serving.base_url,
        renew: true,
        publisher: match &exchange {
            Exchange::Pull(_, publisher) => publisher.clone(),
            _ => usual.publisher.clone(),
        },
        proxies: Proxies(serving.trust_proxy),
        requests_per_minute_max: serving.requests_per_minute,
        ..usual
    };
    let root = serving.root.clone();
    let asking = acme::Asking {
        names: serving.acme,
        directory: serving.acme_directory,
        mail: serving.acme_mail,
        folder: acme::folder(&root),
        challenges: settings.challenges.clone(),
    };
    let certified = async {
        match &certificates {
            Some(certificates) if !asking.names.is_empty() => {
                acme::keep_certified(&asking, certificates).await;
            }
            _ => std::future::pending().await,
        }
    };
    let exchanging = async {
        match &exchange {
            Exchange::Nothing => std::future::pending().await,
            Exchange::Pull(copy, _) => copy.keep_pulled().await,
            Exchange::Push(store) => store::keep_pushed(store, &root).await,
        }
    };
    let stop = async {
        tokio::select! {
            () = asked_to_stop() => {}
            () = read_again(certificates.clone()) => {}
            () = certified => {}
            () = exchanging => {}
        }
    };
    Ok(supervisor_depot::serve_at(doors, metrics, settings, stop).await?)
}

/// What is exchanged with an object store while the depot is served.
enum Exchange {
    Nothing,
    Pull(Arc<Copy>, Arc<OnStore>),
    Push(Box<Store>),
}

/// Opens the object store, if there is one. A depot that is in one is served from a copy of it.
async fn exchange(serving: &mut Serving, means: &Means) -> Result<Exchange> {
    let location = serving.root.to_string_lossy().into_owned();
    if !location.starts_with("s3:") {
        return match &serving.push_to {
            Some(location) => Ok(Exchange::Push(Box::new(Store::at(location, &means.key)?))),
            None => Ok(Exchange::Nothing),
        };
    }
    let Some(folder) = serving.copy.clone() else {
        let problem = Problem::new("a depot in an object store is served from a copy");
        return Err(problem.remedy("name a folder for it: --copy DIR"));
    };
    let store = Store::at(&location, &means.key)?;
    let replica = match &means.keys {
        Some(keys) => Replica::with_keys(&folder, keys)?,
        None => Replica::at(&folder)?,
    };
    let is_there = replica.is_there();
    let copy = Arc::new(Copy::of(store.clone(), replica));
    match copy.pull().await {
        // The store is away, and here is what it said last.
        Err(problem) if is_there => tracing::warn!("{}", problem.for_people()),
        done => drop(done?),
    }
    let shared = means.keys.as_deref().map(|keys| Shared::at(store, keys, &folder.join("work")));
    let shared = shared.map(|shared| shared.beside(&copy));
    serving.root = folder;
    Ok(Exchange::Pull(copy, Arc::new(OnStore::new(shared))))
}

/// The address with the port the wizard was told, if it was told one.
fn answered(address: &str, file: &Path) -> Result<String> {
    let answers = match std::fs::File::open(file) {
        Ok(answers) => answers,
        // A silent installation asks nothing.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(address.to_owned()),
        Err(error) => {
            return Err(Problem::new(format!("cannot read {}", file.display())).because(error));
        }
    };
    let mut text = String::new();
    let read = answers.take(ANSWERS_BYTES_MAX).read_to_string(&mut text);
    let said: Option<serde_json::Value> = read.ok().and_then(|_| serde_json::from_str(&text).ok());
    let port = said.as_ref().and_then(|said| said.get(PORT_KEY)).and_then(|port| port.as_str());
    match (port.filter(|port| !port.is_empty()), address.rsplit_once(':')) {
        (None, _) => Ok(address.to_owned()),
        (Some(port), Some((host, _))) if port.parse::<u16>().is_ok() => {
            Ok(format!("{host}:{port}"))
        }
        (Some(port), _) => {
            Err(Problem::new(format!("`{port:.20}` in {} is no port", file.display()))
                .remedy("install the package again, and name a port from 1024 to 65535"))
        }
    }
}

async fn listen(address: &str, scheme: &str, flag: &str) -> Result<TcpListener> {
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Problem::new(format!("cannot listen on {address}"))
            .because(error)
            .remedy(format!("choose another port: {flag} 127.0.0.1:PORT"))
    })?;
    let address =
        listener.local_addr().map_err(|error| Problem::new("cannot listen").because(error))?;
    // A server serves even where there is no room for what it says.
    let mut stdout = std::io::stdout();
    let _ = match flag {
        "--metrics" => writeln!(stdout, "metrics on {scheme}://{address}/metrics"),
        _ => writeln!(stdout, "listening on {scheme}://{address}"),
    };
    let _ = stdout.flush();
    Ok(listener)
}

/// Reads the certificates again at each SIGHUP. Connections go on.
async fn read_again(certificates: Option<Arc<Certificates>>) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        return std::future::pending().await;
    };
    while hangup.recv().await.is_some() {
        match certificates.as_ref().map(|certificates| certificates.reload()) {
            Some(Err(error)) => tracing::warn!(%error, "the old certificate stays"),
            Some(Ok(())) => tracing::info!("the certificate was read again"),
            None => {}
        }
    }
    std::future::pending().await
}

async fn asked_to_stop() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
