//! The line to a server: requests with their bounds in time, and what becomes of their answers.

use super::address::Address;
use super::answer::{Asked, refused, unreachable};
use crate::{Name, Result, StorageError};
use engine_repository::FileKind;
use std::io::{self, Read};
use std::time::Duration;
use ureq::http::{Request, Response, StatusCode};
use ureq::{Agent, AsSendBody, Body, SendBody};

/// What a server says beside a refusal is read up to here, so that the connection can be kept.
const REMARK_BYTES_MAX: u64 = 16 << 10;

/// Headers of an answer.
const HEADER_BYTES_MAX: usize = 16 << 10;

/// Larger files are sent when the server said that it wants them.
const UNASKED_BYTES_MAX: u64 = 64 << 10;

/// What lists name their sizes, when it is asked for.
const LISTING_V2: &str = "application/vnd.x.restic.rest.v2";

/// How long a server may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// To be found and connected to.
    pub connect: Duration,
    /// Between two pieces of anything, and before the first.
    pub idle: Duration,
    /// Before it begins to list: it looks at every file first.
    pub listing: Duration,
    /// A line slower than this is no line; with it, the size of a file bounds its time.
    pub bytes_per_second_min: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            idle: Duration::from_secs(120),
            listing: Duration::from_secs(900),
            bytes_per_second_min: 4096,
        }
    }
}

impl Patience {
    /// For somebody who waits for an answer in front of a screen.
    pub fn brief() -> Self {
        let seconds = Duration::from_secs(10);
        Self { connect: seconds, idle: seconds, listing: seconds, ..Self::default() }
    }

    /// For a transfer of so many bytes.
    fn for_bytes(&self, bytes: u64) -> Duration {
        self.idle + Duration::from_secs(bytes / self.bytes_per_second_min.max(1))
    }
}

/// Connections to one server.
pub(super) struct Line {
    address: Address,
    agent: Agent,
    patience: Patience,
}

impl Line {
    pub(super) fn to(address: Address, patience: Patience) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // The environment is read by the program, not here.
            .proxy(None)
            .user_agent(concat!("holdfast/", env!("CARGO_PKG_VERSION")))
            .max_response_header_size(HEADER_BYTES_MAX)
            .timeout_resolve(Some(patience.connect))
            .timeout_connect(Some(patience.connect))
            .timeout_send_request(Some(patience.idle))
            .timeout_await_100(Some(patience.idle.min(Duration::from_secs(5))))
            .timeout_per_read(Some(patience.idle))
            .timeout_per_write(Some(patience.idle))
            .build();
        Self { address, agent: Agent::new_with_config(config), patience }
    }

    pub(super) fn location(&self) -> String {
        self.address.to_string()
    }

    /// A request without a body, answered with little or nothing.
    pub(super) fn ask(&self, method: &str, path: &str) -> Result<Response<Body>> {
        self.run(self.request(method, path, &[])?, self.patience.idle, 0)
    }

    /// A listing. Its time has a bound for the whole, too: it is not for ever.
    pub(super) fn list(&self, path: &str) -> Result<Response<Body>> {
        let request = self.request("GET", path, &[])?;
        self.run(request, self.patience.listing, super::LISTING_BYTES_MAX)
    }

    /// A file, or the part of it between two bytes, both included.
    pub(super) fn get(
        &self,
        name: Name,
        range: Option<(u64, u64)>,
        bytes_max: u64,
    ) -> Result<Response<Body>> {
        let range = range.map(|(first, last)| format!("bytes={first}-{last}"));
        let headers: Vec<_> = range.iter().map(|range| ("range", &**range)).collect();
        let request = self.request("GET", &path_of(name), &headers)?;
        self.run(request, self.patience.idle, bytes_max)
    }

    /// A request with a body of known length.
    pub(super) fn send(
        &self,
        method: &str,
        path: &str,
        body: SendBody<'_>,
        bytes: u64,
    ) -> Result<Response<Body>> {
        let length = bytes.to_string();
        let mut headers = vec![("content-length", &*length)];
        if bytes > UNASKED_BYTES_MAX {
            headers.push(("expect", "100-continue"));
        }
        let request = self.request(method, path, &headers)?.map(|()| body);
        self.run(request, self.patience.idle, bytes)
    }

    /// Sends a file. A server overwrites nothing; when it says so, it is found out whether the
    /// name is taken or adding is forbidden.
    pub(super) fn upload(&self, name: Name, body: &mut dyn Read, bytes: u64) -> Result<()> {
        let asked = Asked { action: "store a file", name: Some(name) };
        let body = SendBody::from_reader(body);
        let answer = self.send("POST", &path_of(name), body, bytes)?;
        match answer.status() {
            status if status.is_success() => self.finish(answer),
            StatusCode::FORBIDDEN => match self.size(name)? {
                Some(_) => Err(StorageError::AlreadyExists { location: self.location(), name }),
                None => Err(self.refused(StatusCode::FORBIDDEN, asked)),
            },
            StatusCode::NOT_FOUND => Err(StorageError::Gone { location: self.location() }),
            status => Err(self.refused(status, asked)),
        }
    }

    pub(super) fn size(&self, name: Name) -> Result<Option<u64>> {
        let asked = Asked { action: "look for a file", name: Some(name) };
        let answer = self.ask("HEAD", &path_of(name))?;
        match answer.status() {
            StatusCode::OK => match length_of(&answer) {
                Some(bytes) => Ok(Some(bytes)),
                None => Err(StorageError::Foreign {
                    location: self.location(),
                    reason: "it does not say how long a file is".into(),
                }),
            },
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(self.refused(status, asked)),
        }
    }

    /// Reads what is left of a small answer, so that the connection can be used again.
    pub(super) fn finish(&self, answer: Response<Body>) -> Result<()> {
        let mut rest = answer.into_body().into_with_config().limit(REMARK_BYTES_MAX).reader();
        let _ = io::copy(&mut rest, &mut io::sink());
        Ok(())
    }

    pub(super) fn refused(&self, status: StatusCode, asked: Asked) -> StorageError {
        refused(self.location(), status, asked)
    }

    /// The connection failed while a body was on its way.
    pub(super) fn broke(&self, cause: io::Error) -> StorageError {
        unreachable(self.location(), ureq::Error::from(cause))
    }

    fn request(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Result<Request<()>> {
        let mut request = Request::builder().method(method).uri(self.address.url_of(path));
        request = request.header("accept", LISTING_V2);
        if let Some(authorization) = self.address.authorization() {
            request = request.header("authorization", authorization);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let cause = |cause| unreachable(self.location(), ureq::Error::Http(cause));
        request.body(()).map_err(cause)
    }

    /// `first`: before the first byte of the answer; `bytes`: what goes or comes at most.
    fn run(
        &self,
        request: Request<impl AsSendBody>,
        first: Duration,
        bytes: u64,
    ) -> Result<Response<Body>> {
        let whole = self.patience.for_bytes(bytes);
        let request = self
            .agent
            .configure_request(request)
            .timeout_per_read(Some(first))
            .timeout_recv_response(Some(first))
            .timeout_send_body(Some(whole))
            .timeout_recv_body(Some(whole))
            .build();
        self.agent.run(request).map_err(|cause| unreachable(self.location(), cause))
    }
}

/// The length an answer says it has.
pub(super) fn length_of(answer: &Response<Body>) -> Option<u64> {
    answer.headers().get("content-length")?.to_str().ok()?.parse().ok()
}

/// The path of a file below the repository. Unlike in a folder, packs are in no sub-folders.
pub(super) fn path_of(name: Name) -> String {
    match name.kind {
        FileKind::Config => name.kind.folder().to_owned(),
        kind => format!("{}/{}", kind.folder(), name.id),
    }
}
