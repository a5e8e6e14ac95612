//! Turns for publishers whose object store takes no notice of conditions.
//!
//! ```text
//! claim     put claims/NAME, under a name of one's own; then list the claims
//! alone     it is our turn
//! lowest    keep the claim, and list again: the others give way
//! else      remove the claim, and wait until none is lower
//! ```
//!
//! Two who claim at one time see each other, because each puts before it lists: it is never the
//! turn of both. That needs a store whose listings show what was put, as Garage's do. A claim that
//! somebody left who was killed is removed by whoever saw it for longer than any claim is kept; no
//! clock is compared with another. A turn is short, because all that takes time was put before it:
//! in it, one object is read and one is put. Whoever waits is told for whom, and how long at most.

use crate::depot::clock;
use crate::problem::{Problem, Result};
use crate::store::{Must, PUT_MAX, Store};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Where claims are.
const CLAIMS: &str = "claims/";
/// Who waits longer claims anew, under another name.
const CLAIM_WAIT_MAX: Duration = Duration::from_secs(10);
/// After this the last object of a turn is no longer begun.
const TURN_MAX: Duration = Duration::from_secs(25);
/// A claim that was seen for longer is nobody's: a turn and its last object are over by then.
const CLAIM_AGE_MAX: Duration = Duration::from_secs(60);
/// Who waits longer is told for whom.
const TELL_AFTER: Duration = Duration::from_secs(3);
/// What a claim says is not longer than this.
const CLAIM_BYTES_MAX: usize = 512;
/// After this somebody else has the store for good.
const WAIT_MAX: Duration = Duration::from_secs(600);
/// How long between two looks; by chance up to twice as long.
const LOOK_EVERY: Duration = Duration::from_millis(200);

const _: () = assert!(CLAIM_AGE_MAX.as_secs() > TURN_MAX.as_secs() + PUT_MAX.as_secs());
const _: () = assert!(TURN_MAX.as_secs() > CLAIM_WAIT_MAX.as_secs());

/// A publisher's turn.
pub struct Turn<'a> {
    store: &'a Store,
    claim: Claim,
}

struct Claim {
    name: String,
    put: Instant,
}

impl<'a> Turn<'a> {
    /// Waits for our turn.
    pub async fn take(store: &'a Store) -> Result<Self> {
        let begun = Instant::now();
        let mut others = Others::default();
        let mut ours: Option<Claim> = None;
        let mut name = new_name(CLAIMS)?;
        while begun.elapsed() < WAIT_MAX {
            if ours.as_ref().is_some_and(|claim| claim.put.elapsed() > CLAIM_WAIT_MAX) {
                remove(store, &mut ours).await;
                name = new_name(CLAIMS)?;
            }
            let claimed = ours.is_some();
            let names = match store.names(CLAIMS).await {
                Ok(names) => names,
                Err(problem) => {
                    remove(store, &mut ours).await;
                    return Err(problem);
                }
            };
            let (lowest, is_alone) = others.look(&name, names, Instant::now());
            for left in others.left(Instant::now()) {
                store.remove(&left).await?;
            }
            if begun.elapsed() > TELL_AFTER {
                others.tell(store).await;
            }
            match (claimed, ours.take()) {
                (true, Some(claim)) if is_alone => return Ok(Self { store, claim }),
                (_, kept) if lowest => {
                    ours = match kept {
                        Some(claim) => Some(claim),
                        None => {
                            let put = Instant::now();
                            store.put_bytes(&name, who().into_bytes(), &Must::BeAnything).await?;
                            ours = Some(Claim { name: name.clone(), put });
                            continue;
                        }
                    };
                }
                (_, kept) => {
                    ours = kept;
                    remove(store, &mut ours).await;
                }
            }
            tokio::time::sleep(LOOK_EVERY.mul_f64(1.0 + chance()?)).await;
        }
        remove(store, &mut ours).await;
        Err(Problem::new("others are publishing in the object store all the time")
            .remedy("try again later"))
    }

    /// Whether it has lasted too long for another object to be begun.
    pub fn is_over(&self) -> bool {
        self.claim.put.elapsed() > TURN_MAX
    }

    /// Lets the next one in.
    pub async fn end(self) {
        remove(self.store, &mut Some(self.claim)).await;
    }
}

/// Removes a claim. One that stays is removed by others, in time.
async fn remove(store: &Store, claim: &mut Option<Claim>) {
    if let Some(claim) = claim.take() {
        let _ = store.remove(&claim.name).await;
    }
}

/// Who claims, for those who wait for it.
fn who() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{} (process {}, at {})", host.trim(), std::process::id(), clock())
}

/// The claims of others, and since when they have been seen.
#[derive(Default)]
struct Others {
    seen: BTreeMap<String, Instant>,
    /// The claim whose owner was named.
    told: String,
}

impl Others {
    /// Says once for each claim that is waited for whose it is, and until when at most.
    async fn tell(&mut self, store: &Store) {
        let Some((name, since)) = self.seen.first_key_value() else { return };
        if *name == self.told {
            return;
        }
        let left = CLAIM_AGE_MAX.saturating_sub(since.elapsed()).as_secs();
        let whose = store.text(name, CLAIM_BYTES_MAX).await.unwrap_or_default();
        let whose =
            if whose.is_empty() { "somebody who does not say who".to_owned() } else { whose };
        self.told.clone_from(name);
        store.waits_for(Some(format!(
            "{whose} is about to publish in the object store; if nothing comes of it, its turn is \
             over in {left} s"
        )));
    }

    /// Takes note of a listing; whether no other name is lower than ours, and whether none is
    /// there.
    fn look(&mut self, ours: &str, names: Vec<String>, now: Instant) -> (bool, bool) {
        let names = names.into_iter().filter(|name| name != ours);
        let seen = names.map(|name| {
            let since = self.seen.get(&name).copied().unwrap_or(now);
            (name, since)
        });
        self.seen = seen.collect();
        (self.seen.keys().all(|name| ours < name.as_str()), self.seen.is_empty())
    }

    /// Those that have been there for longer than any claim is kept.
    fn left(&self, now: Instant) -> Vec<String> {
        let is_left = |since: &Instant| now.duration_since(*since) > CLAIM_AGE_MAX;
        self.seen.iter().filter(|(_, since)| is_left(since)).map(|(name, _)| name.clone()).collect()
    }
}

/// A name that nobody else has.
pub fn new_name(begin: &str) -> Result<String> {
    let mut bytes = [0; 16];
    fill(&mut bytes)?;
    Ok(format!("{begin}{}", hex::encode(bytes)))
}

/// Between 0 and 1.
fn chance() -> Result<f64> {
    let mut bytes = [0; 1];
    fill(&mut bytes)?;
    Ok(f64::from(bytes[0]) / 255.0)
}

fn fill(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes)
        .map_err(|error| Problem::new("the system has no random numbers").because(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_claims_the_lower_stays_and_one_that_was_left_is_known_by_its_age() {
        let begun = Instant::now();
        let mut others = Others::default();
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(others.look("b", names(&["b"]), begun), (true, true));
        assert_eq!(others.look("b", names(&["b", "c"]), begun), (true, false));
        assert_eq!(others.look("b", names(&["a", "b"]), begun), (false, false));
        // `c` was away in between: whoever has it now claimed it anew.
        let later = begun + CLAIM_AGE_MAX;
        assert_eq!(others.look("b", names(&["a", "c"]), later), (false, false));
        assert!(others.left(later).is_empty());
        assert_eq!(others.left(later + Duration::from_secs(1)), ["a"]);
    }
}
