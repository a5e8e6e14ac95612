//! Publications that were asked for over HTTP and take their time: a large package on its way into
//! an object store, or others whose turn it is.
//!
//! A connection on which nothing moves is closed after half a minute. Whoever asked is answered
//! before that, goes on asking, and is told in the end: the publication goes on whether anybody
//! waits for it or not, and is carried out once.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// So long somebody waits for an answer, in one request.
pub const WAIT_MAX: Duration = Duration::from_millis(if cfg!(test) { 500 } else { 20_000 });
/// How soon to ask again, in seconds.
pub const ASK_AGAIN_SECONDS: u16 = 2;
/// What became of publications nobody came back for is kept for so many of them.
const KEPT_MAX: usize = 64;

/// What is said in the end.
pub type Outcome = (u16, String);

type Told = watch::Receiver<Option<Outcome>>;

/// What is being published, by what it is and who does it.
#[derive(Debug, Default)]
pub struct UnderWay(Mutex<HashMap<[String; 2], Told>>);

impl UnderWay {
    /// Publishes, or joins who does so already. Nothing when it is not done in time.
    pub async fn publish(
        &self,
        what: [String; 2],
        publish: impl FnOnce() -> Outcome + Send + 'static,
    ) -> Option<Outcome> {
        let mut told = self.join(&what, publish);
        let done = tokio::time::timeout(WAIT_MAX, told.wait_for(Option::is_some)).await;
        let outcome = match done {
            Err(_) => return None,
            Ok(Ok(outcome)) => outcome.clone(),
            // It broke off; what it left behind is asked for by a new one.
            Ok(Err(_)) => Some((500, "{\"error\":\"broke off\"}".to_owned())),
        };
        self.table().remove(&what);
        outcome
    }

    fn join(&self, what: &[String; 2], publish: impl FnOnce() -> Outcome + Send + 'static) -> Told {
        let mut table = self.table();
        if let Some(told) = table.get(what) {
            return told.clone();
        }
        if table.len() >= KEPT_MAX {
            table.retain(|_, told| told.borrow().is_none() && told.has_changed().is_ok());
        }
        let (tell, told) = watch::channel(None);
        table.insert(what.clone(), told.clone());
        tokio::task::spawn_blocking(move || tell.send(Some(publish())));
        told
    }

    fn table(&self) -> std::sync::MutexGuard<'_, HashMap<[String; 2], Told>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
