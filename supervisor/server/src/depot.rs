//! Each command: the depot's library with flags in front of it.

use crate::command_line::{DepotAction, PublisherAction, TokenAction};
use crate::problem::{Problem, Result};
use crate::store::{AccessKey, Store};
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
pub fn run(action: DepotAction, key: &AccessKey) -> Result<()> {
    match action {
        DepotAction::Init { root } => init(&root),
        DepotAction::Publish { root: Some(root), files, .. } => {
            say(&supervisor_depot::publish(&root, &files, clock())?);
            Ok(())
        }
        DepotAction::Publish { to, token_file, files, .. } => {
            let (to, token_file) = (to.unwrap_or_default(), token_file.unwrap_or_default());
            network::run(far::publish(&to, &token_file, &files))
        }
        DepotAction::Promote { root, package, version, to } => {
            let now = clock();
            let count = supervisor_depot::promote(&root, &package, &version, to, now)?;
            println!("{count} file(s) of {package} {version} moved to {}", to.name());
            Ok(())
        }
        DepotAction::Mirror { root, url, from } => {
            let published = match &from.trust {
                Some(trust) => network::run(far::mirror(&root, &url, trust, &from.package)),
                None => network::run(plain_source::mirror(&root, &url, &from)),
            }?;
            say(&published);
            Ok(())
        }
        DepotAction::Export { root, to } => {
            let count = supervisor_depot::export(&root, &to, clock())?;
            println!("exported {count} file(s) to {}", to.display());
            Ok(())
        }
        DepotAction::Push { root, to } => {
            let store = Store::at(&to, key)?;
            let is_new = network::run(store.push(&root))?;
            println!("{}", if is_new { "pushed" } else { "already there" });
            Ok(())
        }
        DepotAction::Import { root, trust, package, from } => {
            let trust = supervisor_depot::read_trust(&trust)?;
            say(&supervisor_depot::import(&root, &from, &trust, &package, clock())?);
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
                let (archs, channel) = (item.archs.join(" "), item.channel.name());
                println!("{} {} ({archs}) {channel}", item.package, item.version);
            }
            Ok(())
        }
        DepotAction::Token { action } => token(action),
        DepotAction::Publisher { action } => publisher(action),
        DepotAction::Downloads { root } => {
            for (file, count) in supervisor_depot::downloads(&root) {
                println!("{count:>10} {file}");
            }
            Ok(())
        }
        DepotAction::Serve(serving) => serving::serve(serving, key),
        DepotAction::Keys { action } => depot_keys::run(action),
    }
}

fn say(published: &[Published]) {
    for done in published {
        let what = if done.is_new { "published" } else { "already there:" };
        println!("{what} {} {} ({})", done.package, done.version, done.file);
    }
}

fn random() -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| Problem::new("the system has no random numbers").because(error))?;
    Ok(bytes)
}

fn token(action: TokenAction) -> Result<()> {
    match action {
        TokenAction::Add { root, name, package } => {
            let token = supervisor_depot::add_token(&root, &name, &package, &random()?)?;
            println!("{token}");
            eprintln!("this is {name}'s token; it is not kept and not shown again");
        }
        TokenAction::List { root } => {
            for token in Tokens::of(&root)?.all() {
                println!("{} ({})", token.name, token.packages.join(" "));
            }
        }
        TokenAction::Remove { root, name } => supervisor_depot::remove_token(&root, &name)?,
    }
    Ok(())
}

fn publisher(action: PublisherAction) -> Result<()> {
    match action {
        PublisherAction::Add { root, key } => {
            let key = supervisor_depot::add_publisher(&root, &key, clock())?;
            println!("boxes with DSM 5.1 to 6.2 are handed {} ({})", key.id, key.user);
        }
        PublisherAction::List { root } => {
            for key in supervisor_depot::publishers(&root)? {
                println!("{} ({})", key.id, key.user);
            }
        }
        PublisherAction::Export { root } => {
            for key in supervisor_depot::publishers(&root)? {
                print!("{}", key.armored());
            }
        }
        PublisherAction::Remove { root, id } => {
            supervisor_depot::remove_publisher(&root, &id, clock())?;
        }
    }
    Ok(())
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
