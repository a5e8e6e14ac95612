//! `keys canary`: what a client will meet in the days to come, found out today.
//!
//! The client is the one every NAS uses, asking over the network as it does; only its clock is set
//! on. It must believe the depot for as long as a keeper may be away, and it must refuse it once
//! the daily signature has ended: a depot that is still believed then cannot protect anybody from
//! being kept on old packages.

use crate::problem::{Problem, Result};
use std::io::Read;
use std::path::Path;
use supervisor_fetch::{FetchError, Source};
use supervisor_trust::client::ROOT_BYTES_MAX;
use supervisor_trust::coverage::{Rule, WARN_DAYS};
use supervisor_trust::{Cache, Client, Moment, Role, Trouble, UnixSeconds};

/// The days ahead at which the depot must be believed as it is served now, even if nobody renews it
/// any more: tomorrow, in a week, and in a fortnight's holiday.
pub const DAYS: [u32; 4] = [0, 1, 7, 14];

/// What is asked: a depot, and the root its clients were given.
pub struct Asked<'a> {
    /// The depot's address.
    pub url: &'a str,
    /// The root that clients trust, such as a package's `conf/depot.pub`.
    pub root: &'a Path,
    /// The days ahead at which it must be believed.
    pub days: &'a [u32],
}

/// Runs the client under each clock; says what it found, and fails at the first that is wrong.
pub fn run(asked: &Asked<'_>, now: UnixSeconds) -> Result<()> {
    let root = read_root(asked.root)?;
    let source = Source::at(&format!("{}/metadata", asked.url.trim_end_matches('/')));
    let source = source.map_err(|error| unread(0, error))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Problem::new("cannot use the network").because(error))?;
    let meet = |days: u32| -> Result<Client, FetchError> {
        let moment = Moment::new(now.plus_days(days), now);
        let client = Client::start(&root, Cache::default(), moment);
        let mut client = client.map_err(FetchError::Untrusted)?;
        runtime.block_on(source.follow(&mut client, |_| Ok(())))?;
        Ok(client)
    };
    let mut ends = None;
    for days in asked.days {
        let client = meet(*days).map_err(|error| unread(*days, error))?;
        say!("  in {days:>4} days  believed");
        ends = client.verified().map(|verified| {
            let (root, targets) = (verified.root.head.expires, verified.targets.head.expires);
            [(Role::Root, root), (Role::Targets, targets)]
        });
    }
    for (role, expires) in ends.into_iter().flatten() {
        let days = now.days_until(expires);
        if days < u64::from(WARN_DAYS) {
            return Err(Problem::new(format!("the {role} signature ends in {days} days")).remedy(
                format!("renew it by then: see `holdfast-depot keys plan` for the {role}"),
            ));
        }
        say!("  in {days:>4} days  the {role} signature ends");
    }
    let frozen = Rule::of(Role::Timestamp).valid_days + 1;
    match meet(frozen) {
        Err(FetchError::Untrusted(error)) if error.trouble() == Trouble::Expired => {
            say!("  in {frozen:>4} days  refused, unless it is renewed: as it must be");
            Ok(())
        }
        Err(error) => Err(unread(frozen, error)),
        Ok(_) => Err(Problem::new(format!(
            "in {frozen} days the depot would still be believed, even if nobody renewed it"
        ))
        .remedy("its timestamp is signed for too long: run `holdfast-depot keys renew`")),
    }
}

fn read_root(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(u64::from(ROOT_BYTES_MAX)).read_to_end(&mut bytes))
        .map_err(|error| {
            Problem::new(format!("cannot read {}", path.display()))
                .because(error)
                .remedy("export it: holdfast-depot keys export --root DIR > depot.pub")
        })?;
    Ok(bytes)
}

fn unread(days: u32, error: FetchError) -> Problem {
    let remedy = match &error {
        FetchError::Untrusted(error) if error.trouble() == Trouble::Expired => {
            "run `holdfast-depot keys renew`, every day; `keys plan` names what it lacks".to_owned()
        }
        error => error.remedy().unwrap_or("try it again").to_owned(),
    };
    let fact = match days {
        0 => "a client of today is not served".to_owned(),
        days => format!("a client in {days} days would not be served"),
    };
    Problem::new(fact).because(error).remedy(remedy)
}
