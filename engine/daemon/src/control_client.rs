//! The command line's side of the control API.

use crate::failure::{Failure, exit};
use engine_contract::control::{MESSAGE_BYTES_MAX, Refusal};
use engine_contract::layout::Layout;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use tokio::net::UnixStream;

/// A way to the daemon of one home.
pub struct ControlClient {
    socket: PathBuf,
    runtime: tokio::runtime::Runtime,
}

impl ControlClient {
    /// A client of the daemon in this home; nothing is asked yet.
    pub fn of(layout: &Layout) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new("no event loop could be made").because(error))?;
        Ok(Self { socket: layout.control_socket(), runtime })
    }

    /// Asks, and reads the whole answer.
    pub fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        message: &impl Serialize,
    ) -> Result<T, Failure> {
        self.runtime.block_on(async {
            let response = self.send(method, path, message).await?;
            let bytes = whole(response.into_body()).await?;
            serde_json::from_slice(&bytes).map_err(not_understood)
        })
    }

    /// Asks, and hands over each line of the answer as it comes, until `each` says it was the last.
    pub fn follow<T: DeserializeOwned>(
        &self,
        path: &str,
        mut each: impl FnMut(T) -> bool,
    ) -> Result<(), Failure> {
        self.runtime.block_on(async {
            let mut body = self.send(Method::POST, path, &()).await?.into_body();
            let mut line = Vec::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(went_away)?;
                for &byte in frame.data_ref().map(Bytes::as_ref).unwrap_or_default() {
                    if byte != b'\n' {
                        line.push(byte);
                        continue;
                    }
                    if each(serde_json::from_slice(&line).map_err(not_understood)?) {
                        return Ok(());
                    }
                    line.clear();
                }
                if line.len() > MESSAGE_BYTES_MAX {
                    return Err(Failure::new("the daemon's answer is longer than any should be"));
                }
            }
            Err(Failure::new("the daemon went away before the run had ended")
                .remedy("`holdfast status` tells whether it is back; what was stored is kept"))
        })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        message: &impl Serialize,
    ) -> Result<Response<Incoming>, Failure> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| {
            Failure::new(format!("no daemon answers at {}", self.socket.display()))
                .because(error)
                .remedy("start the package, or `holdfast --home FOLDER daemon`")
        })?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(went_away)?;
        tokio::spawn(connection);
        let body = serde_json::to_vec(message).map_err(not_understood)?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "holdfast")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| Failure::new("the question cannot be asked").because(error))?;
        let response = sender.send_request(request).await.map_err(went_away)?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let bytes = whole(response.into_body()).await?;
        Err(match serde_json::from_slice::<Refusal>(&bytes) {
            Ok(refusal) => refused(refusal),
            Err(_) => Failure::new(format!("the daemon answered {status}")),
        })
    }
}

/// The daemon's refusal, as if it had happened here.
pub fn refused(refusal: Refusal) -> Failure {
    Failure::new(refusal.fact)
        .remedy_if_any(refusal.remedy)
        .code(refusal.exit_code.max(exit::FAILED))
}

async fn whole(body: Incoming) -> Result<Bytes, Failure> {
    match Limited::new(body, MESSAGE_BYTES_MAX).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) => Err(Failure::new(format!("the daemon's answer broke off: {error}"))),
    }
}

fn went_away(error: hyper::Error) -> Failure {
    Failure::new("the daemon went away").because(error).remedy("`holdfast status` tells more")
}

fn not_understood(error: serde_json::Error) -> Failure {
    Failure::new("the daemon's answer was not understood")
        .because(error)
        .remedy("command line and daemon differ in version: restart the package")
}
