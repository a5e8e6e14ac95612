//! Each command: the depot's library with flags in front of it.

use crate::command_line::DepotAction;
use crate::depot_keys;
use crate::problem::{Problem, Result};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use supervisor_depot::{Seeds, ServeSettings};
use supervisor_trust::UnixSeconds;

/// The time now, as the depot counts it.
pub fn clock() -> UnixSeconds {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    UnixSeconds::new(since.map_or(0, |since| since.as_secs()))
}

/// Carries a command out.
pub fn run(action: DepotAction) -> Result<()> {
    match action {
        DepotAction::Init { root } => init(&root),
        DepotAction::Publish { root, files } => {
            for done in supervisor_depot::publish(&root, &files, clock())? {
                let what = if done.is_new { "published" } else { "already there:" };
                println!("{what} {} {} ({})", done.package, done.version, done.file);
            }
            Ok(())
        }
        DepotAction::Withdraw { root, package, version } => {
            let now = clock();
            let count = supervisor_depot::withdraw(&root, &package, &version, now)?;
            println!("withdrew {count} file(s) of {package} {version}");
            Ok(())
        }
        DepotAction::Renew { root } => Ok(supervisor_depot::renew(&root, clock())?),
        DepotAction::List { root } => {
            let shelves = supervisor_depot::shelves(&root)?;
            for item in shelves.offered() {
                println!("{} {} ({})", item.package, item.version, item.archs.join(" "));
            }
            Ok(())
        }
        DepotAction::Serve { root, listen, base_url } => serve(&root, &listen, base_url),
        DepotAction::Keys { action } => depot_keys::run(action),
    }
}

fn init(root: &Path) -> Result<()> {
    let seed = || {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)
            .map_err(|error| Problem::new("the system has no random numbers").because(error))?;
        Ok::<_, Problem>(bytes)
    };
    let seeds = Seeds { root: seed()?, targets: seed()?, snapshot: seed()?, timestamp: seed()? };
    supervisor_depot::init(root, &seeds, clock())?;
    println!("an empty depot in {}", root.display());
    println!(
        "  keys: {}; move root.key to a place that is not online",
        root.join("keys").display()
    );
    Ok(())
}

fn serve(root: &Path, listen: &str, base_url: Option<String>) -> Result<()> {
    use std::io::Write;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Problem::new("cannot start the server").because(error))?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(listen).await.map_err(|error| {
            Problem::new(format!("cannot listen on {listen}"))
                .because(error)
                .remedy("choose another port: --listen 127.0.0.1:PORT")
        })?;
        let address =
            listener.local_addr().map_err(|error| Problem::new("cannot listen").because(error))?;
        println!("listening on http://{address}");
        let _ = std::io::stdout().flush();
        let settings = ServeSettings { root: root.to_owned(), base_url, renew: true, clock };
        Ok(supervisor_depot::serve(listener, settings, asked_to_stop()).await?)
    })
}

async fn asked_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
