//! Each command: the depot's library with flags in front of it.

use crate::command_line::{DepotAction, LogForm, PublisherAction, TokenAction};
use crate::place::Means;
use crate::problem::{Problem, Result};
use crate::store::Store;
use crate::{depot_keys, far, network, plain_source, serving};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use supervisor_depot::{Published, Seeds, Tokens};
use supervisor_trust::UnixSeconds;

/// The time now, as the depot counts it.
pub fn clock() -> UnixSeconds {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    UnixSeconds::new(since.map_or(0, |since| since.as_secs()))
}

/// Carries a command out.
pub fn run(action: DepotAction, means: &Means) -> Result<()> {
    if !matches!(action, DepotAction::Serve(_)) {
        crate::log::begin("warn", LogForm::Text);
    }
    match action {
        DepotAction::Publish { root: None, to, token_file, files } => {
            let (to, token_file) = (to.unwrap_or_default(), token_file.unwrap_or_default());
            network::run(far::publish(&to, &token_file, &files))
        }
        DepotAction::Mirror { root, url, from } => {
            let depot = means.depot(&root)?;
            let published = match &from.trust {
                Some(trust) => network::run(far::mirror(&depot, &url, trust, &from.package)),
                None => network::run(plain_source::mirror(&depot, &url, &from)),
            }?;
            crate::print_out(format_args!("{}", said(&published)));
            Ok(())
        }
        DepotAction::Push { root, to } => {
            let store = Store::at(&to, &means.key)?;
            let is_new = network::run(store.push(&root))?;
            say!("{}", if is_new { "pushed" } else { "already there" });
            Ok(())
        }
        DepotAction::Serve(serving) => serving::serve(*serving, means),
        DepotAction::Keys { action } => depot_keys::run(action, means),
        action => {
            let root = action.root().to_owned();
            let depot = means.depot(&root)?;
            let act = |root: &Path| carry_out(&action, root);
            let text = match action {
                DepotAction::Init { .. } => depot.begin(act),
                DepotAction::Renew { .. } => depot.act(act).and_then(|text| {
                    depot.collect()?;
                    Ok(text)
                }),
                _ => depot.act(act),
            };
            crate::print_out(format_args!("{}", text?));
            Ok(())
        }
    }
}

/// Carries out what reads or changes the depot in a folder; what there is to say.
fn carry_out(action: &DepotAction, root: &Path) -> Result<String> {
    let now = clock();
    match action {
        DepotAction::Init { .. } => init(root).map(|()| String::new()),
        DepotAction::Publish { files, .. } => {
            Ok(said(&supervisor_depot::publish(root, files, now)?))
        }
        DepotAction::Promote { package, version, to, .. } => {
            let count = supervisor_depot::promote(root, package, version, *to, now)?;
            Ok(format!("{count} file(s) of {package} {version} moved to {}\n", to.name()))
        }
        DepotAction::Export { to, .. } => {
            let count = supervisor_depot::export(root, to, now)?;
            Ok(format!("exported {count} file(s) to {}\n", to.display()))
        }
        DepotAction::Import { trust, package, from, .. } => {
            let trust = supervisor_depot::read_trust(trust)?;
            Ok(said(&supervisor_depot::import(root, from, &trust, package, now)?))
        }
        DepotAction::Withdraw { package, version, .. } => {
            let count = supervisor_depot::withdraw(root, package, version, now)?;
            Ok(format!("withdrew {count} file(s) of {package} {version}\n"))
        }
        DepotAction::Renew { .. } => {
            supervisor_depot::renew(root, now)?;
            Ok(String::new())
        }
        DepotAction::List { .. } => {
            let shelves = supervisor_depot::shelves(root)?;
            let lines = shelves.offered().map(|item| {
                let (archs, channel) = (item.archs.join(" "), item.channel.name());
                format!("{} {} ({archs}) {channel}\n", item.package, item.version)
            });
            Ok(lines.collect())
        }
        DepotAction::Token { action } => token(action, root),
        DepotAction::Publisher { action } => publisher(action, root),
        DepotAction::Downloads { .. } => {
            let downloads = supervisor_depot::downloads(root);
            Ok(downloads.iter().map(|(file, count)| format!("{count:>10} {file}\n")).collect())
        }
        // These have no folder to be carried out in.
        DepotAction::Mirror { .. }
        | DepotAction::Push { .. }
        | DepotAction::Serve(_)
        | DepotAction::Keys { .. } => Ok(String::new()),
    }
}

fn said(published: &[Published]) -> String {
    let line = |done: &Published| {
        let what = if done.is_new { "published" } else { "already there:" };
        format!("{what} {} {} ({})\n", done.package, done.version, done.file)
    };
    published.iter().map(line).collect()
}

fn random() -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| Problem::new("the system has no random numbers").because(error))?;
    Ok(bytes)
}

fn token(action: &TokenAction, root: &Path) -> Result<String> {
    match action {
        TokenAction::Add { name, package, .. } => {
            let token = supervisor_depot::add_token(root, name, package, &random()?)?;
            eprintln!("this is {name}'s token; it is not kept and not shown again");
            Ok(format!("{token}\n"))
        }
        TokenAction::List { .. } => {
            let tokens = Tokens::of(root)?;
            let lines = tokens.all().iter();
            Ok(lines.map(|one| format!("{} ({})\n", one.name, one.packages.join(" "))).collect())
        }
        TokenAction::Remove { name, .. } => {
            supervisor_depot::remove_token(root, name)?;
            Ok(String::new())
        }
    }
}

fn publisher(action: &PublisherAction, root: &Path) -> Result<String> {
    match action {
        PublisherAction::Add { key, .. } => {
            let key = supervisor_depot::add_publisher(root, key, clock())?;
            Ok(format!("boxes with DSM 5.1 to 6.2 are handed {} ({})\n", key.id, key.user))
        }
        PublisherAction::List { .. } => {
            let keys = supervisor_depot::publishers(root)?;
            Ok(keys.iter().map(|key| format!("{} ({})\n", key.id, key.user)).collect())
        }
        PublisherAction::Export { .. } => {
            let keys = supervisor_depot::publishers(root)?;
            Ok(keys.iter().map(|key| key.armored()).collect())
        }
        PublisherAction::Remove { id, .. } => {
            supervisor_depot::remove_publisher(root, id, clock())?;
            Ok(String::new())
        }
    }
}

/// Makes an empty depot with fresh keys.
pub fn init(root: &Path) -> Result<()> {
    let seeds =
        Seeds { root: random()?, targets: random()?, snapshot: random()?, timestamp: random()? };
    supervisor_depot::init(root, &seeds, clock())?;
    eprintln!("an empty depot in {}", root.display());
    eprintln!(
        "  keys: {}; move root.key to a place that is not online",
        root.join("keys").display()
    );
    Ok(())
}
