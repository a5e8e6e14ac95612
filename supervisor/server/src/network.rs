//! Asking others over HTTP, with limits.

use crate::problem::{Problem, Result};
use std::future::Future;
use std::time::Duration;
use supervisor_fetch::FetchError;

/// Silence longer than this ends a conversation.
const SILENCE_SECONDS_MAX: u64 = 60;

/// Runs a conversation to its end.
pub fn run<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Problem::new("cannot use the network").because(error))?;
    runtime.block_on(work)
}

/// A client that follows no redirect unless `redirects` says so.
pub fn client(redirects: usize) -> Result<reqwest::Client> {
    // Somebody else may have installed it already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let policy = match redirects {
        0 => reqwest::redirect::Policy::none(),
        count => reqwest::redirect::Policy::limited(count),
    };
    let silence = Duration::from_secs(SILENCE_SECONDS_MAX);
    reqwest::Client::builder()
        .connect_timeout(silence)
        .read_timeout(silence)
        .redirect(policy)
        .user_agent("holdfast-depot")
        .build()
        .map_err(|error| {
            Problem::new("cannot use the network").because(error).remedy(
                "if it is the list of authorities (CA certificates) that is missing: install \
                 ca-certificates; into a container, bring it with \
                 -v /etc/ssl/certs:/etc/ssl/certs:ro",
            )
        })
}

/// An answer's body, if it is not longer than that.
pub async fn body(mut answer: reqwest::Response, bytes_max: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > bytes_max {
            return Err(Problem::new(format!("the answer is longer than {bytes_max} bytes")));
        }
    }
    Ok(bytes)
}

/// Nobody answers.
pub fn unreachable(cause: reqwest::Error) -> Problem {
    Problem::new("the other side does not answer")
        .because(cause)
        .remedy("check its address and the network, then run it again")
}

/// Another depot was not believed, or does not answer.
pub fn not_followed(error: FetchError) -> Problem {
    let remedy = error.remedy().unwrap_or("try again; if it stays, look at the disk");
    Problem::new("the other depot cannot be followed").because(error).remedy(remedy)
}
