//! Publications that were asked for over HTTP and take their time: a large package on its way into
//! an object store, or others whose turn it is.
//!
//! A connection on which nothing moves is closed after half a minute. Whoever asked is answered
//! before that, goes on asking, and is told in the end: the publication goes on whether anybody
//! waits for it or not, and is carried out once. What became of it is said again to whoever did not
//! hear it, until the same is uploaded anew.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// So long somebody waits for an answer, in one request.
pub const WAIT_MAX: Duration = Duration::from_millis(if cfg!(test) { 500 } else { 20_000 });
/// How soon to ask again, in seconds.
pub const ASK_AGAIN_SECONDS: u16 = 2;
/// What became of publications is kept for so many of them.
const KEPT_MAX: usize = 64;

/// What is said in the end.
pub type Outcome = (u16, String);

type Told = watch::Receiver<Option<Outcome>>;

/// What is being published, by what it is and who does it.
#[derive(Debug, Default)]
pub struct UnderWay(Mutex<HashMap<[String; 2], Told>>);

impl UnderWay {
    /// Publishes, or joins who does so already or has done it; not that, if it `is_there` to be
    /// published. Nothing when it is not done in time.
    pub async fn publish(
        &self,
        what: [String; 2],
        is_there: bool,
        publish: impl FnOnce() -> Outcome + Send + 'static,
    ) -> Option<Outcome> {
        let mut told = self.join(what, is_there, publish);
        let done = tokio::time::timeout(WAIT_MAX, told.wait_for(Option::is_some)).await;
        match done {
            Err(_) => None,
            Ok(Ok(outcome)) => outcome.clone(),
            Ok(Err(_)) => Some((500, "{\"error\":\"broke off\"}".to_owned())),
        }
    }

    fn join(
        &self,
        what: [String; 2],
        is_there: bool,
        publish: impl FnOnce() -> Outcome + Send + 'static,
    ) -> Told {
        let mut table = self.table();
        // Who tells goes away at the end.
        let goes_on = |told: &Told| told.has_changed().is_ok();
        if let Some(told) = table.get(&what).filter(|told| goes_on(told) || !is_there) {
            return told.clone();
        }
        if table.len() >= KEPT_MAX {
            table.retain(|_, told| goes_on(told));
        }
        let (tell, told) = watch::channel(None);
        table.insert(what, told.clone());
        tokio::task::spawn_blocking(move || tell.send(Some(publish())));
        told
    }

    fn table(&self) -> std::sync::MutexGuard<'_, HashMap<[String; 2], Told>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
