//! HTTP as every server speaks it: requests with their bounds in time and in bytes, and paced ones.
//!
//! What a server is believed: nothing that can be counted. Every answer is bounded in bytes before
//! it is read and in time while it is; a file must come with its length and in that length; a part
//! of a file must be exactly the part that was asked for. A redirect is not followed, since it
//! would carry the password to whoever is named there.
//!
//! A body that broke off is no body. But the bytes that came are kept, and the next try asks only
//! for the rest: files of a repository never change, so what came first is still right.

mod answer;

pub(crate) use answer::{Asked, refused, unreachable};

use crate::throttled::{Pace, Paced};
use crate::{Name, Result, Storage, StorageError};
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;
use ureq::http::{Request, Response, StatusCode};
use ureq::{Agent, AsSendBody, Body};

/// What a server says beside a refusal is read up to here, so that the connection can be kept.
const REMARK_BYTES_MAX: u64 = 16 << 10;

/// Headers of an answer.
const HEADER_BYTES_MAX: usize = 16 << 10;

/// A line that brings less than this before it breaks is not asked again without a wait.
const RESUMED_BYTES_MIN: usize = 4096;

/// So many transfers may share a rate; each may take so many times as long.
const SHARERS: u64 = 16;

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

    /// For a transfer of so many bytes, which is held back to a rate by ourselves.
    fn for_bytes(&self, bytes: u64, rate: Option<u32>) -> Duration {
        let slowest = match rate {
            Some(rate) => self.bytes_per_second_min.min(u64::from(rate) / SHARERS),
            None => self.bytes_per_second_min,
        };
        self.idle + Duration::from_secs(bytes / slowest.max(1))
    }
}

/// Connections to one server.
pub(crate) struct Http {
    location: String,
    agent: Agent,
    patience: Patience,
    pace: Arc<Pace>,
}

impl Http {
    /// `location`: as it may be shown.
    pub fn to(location: String, patience: Patience, pace: Arc<Pace>) -> Self {
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
        Self { location, agent: Agent::new_with_config(config), patience, pace }
    }

    pub fn location(&self) -> String {
        self.location.clone()
    }

    pub fn patience(&self) -> &Patience {
        &self.patience
    }

    /// `first`: before the first byte of the answer; `bytes`: what goes or comes at most.
    pub fn run(
        &self,
        request: Request<impl AsSendBody>,
        first: Duration,
        bytes: u64,
    ) -> Result<Response<Body>> {
        let whole = |rate| Some(self.patience.for_bytes(bytes, rate));
        let request = self
            .agent
            .configure_request(request)
            .timeout_per_read(Some(first))
            .timeout_recv_response(Some(first))
            .timeout_send_body(whole(self.pace.up.rate()))
            .timeout_recv_body(whole(self.pace.down.rate()))
            .build();
        self.agent.run(request).map_err(|cause| unreachable(self.location(), cause))
    }

    /// What is sent, no faster than it may be.
    pub fn outgoing<'a>(&'a self, body: &'a mut dyn Read) -> Paced<'a, &'a mut dyn Read> {
        Paced::by(&self.pace.up, body)
    }

    /// What comes, no faster than it may, and never more than `bytes_max`.
    pub fn incoming(&self, answer: Response<Body>, bytes_max: u64) -> impl Read + use<'_> {
        let body = answer.into_body().into_with_config().limit(bytes_max).reader();
        Paced::by(&self.pace.down, body)
    }

    /// Reads what is left of a small answer, so that the connection can be used again.
    pub fn finish(&self, answer: Response<Body>) {
        let _ = self.remark(answer);
    }

    /// What a server says beside a status, as far as it can be read.
    pub fn remark(&self, answer: Response<Body>) -> String {
        let rest = answer.into_body().into_with_config().limit(REMARK_BYTES_MAX).reader();
        let mut remark = Vec::new();
        let _ = rest.take(REMARK_BYTES_MAX).read_to_end(&mut remark);
        String::from_utf8_lossy(&remark).into_owned()
    }

    pub fn refused(&self, status: StatusCode, asked: Asked) -> StorageError {
        refused(self.location(), status, asked)
    }

    pub fn foreign(&self, reason: impl Into<String>) -> StorageError {
        StorageError::Foreign { location: self.location(), reason: reason.into() }
    }

    /// The connection failed while a body was on its way.
    pub fn broke(&self, cause: io::Error) -> StorageError {
        unreachable(self.location(), ureq::Error::from(cause))
    }

    /// Takes a file from an answer that says it has it.
    pub fn take_whole(
        &self,
        answer: Response<Body>,
        name: Name,
        bytes_max: u64,
    ) -> Result<Vec<u8>> {
        let bytes =
            length_of(&answer).ok_or_else(|| self.foreign("it gives a file without its length"))?;
        if bytes > bytes_max {
            let location = self.location();
            return Err(StorageError::TooLarge { location, name, bytes, bytes_max });
        }
        // A byte more than promised shows a server that lies. What is not there yet takes no
        // memory: a lie about the length costs nothing.
        let mut content = Vec::new();
        self.incoming(answer, bytes + 1)
            .read_to_end(&mut content)
            .map_err(|cause| self.broke(cause))?;
        match content.len() as u64 == bytes {
            true => Ok(content),
            false => Err(self.broke(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    /// Takes a part of a file, which begins at `offset`, from an answer to a request for a range.
    /// `arrived` counts on with every byte.
    pub fn take_part(
        &self,
        answer: Response<Body>,
        name: Name,
        offset: u64,
        buffer: &mut [u8],
        arrived: &mut usize,
    ) -> Result<()> {
        let bytes = (buffer.len() - *arrived) as u64;
        let (start, end) = (offset + *arrived as u64, offset + buffer.len() as u64);
        let short = || StorageError::Short { location: self.location(), name, end };
        match answer.status() {
            StatusCode::RANGE_NOT_SATISFIABLE => return Err(short()),
            StatusCode::OK => {
                return Err(self.foreign("it gives the whole file when asked for a part"));
            }
            _ => {}
        }
        let range = answer.headers().get("content-range").and_then(|value| value.to_str().ok());
        let is_ours = range.is_none_or(|range| {
            range.strip_prefix(&format!("bytes {start}-")).is_some_and(|rest| rest.contains('/'))
        });
        if !is_ours {
            return Err(self.foreign("it gives another part of a file than it was asked for"));
        }
        match length_of(&answer) {
            None => return Err(self.foreign("it gives a file without its length")),
            Some(given) if given < bytes => return Err(short()),
            Some(given) if given > bytes => {
                return Err(self.foreign("it gives more of a file than it was asked for"));
            }
            Some(_) => {}
        }
        let mut body = self.incoming(answer, bytes + 1);
        while *arrived < buffer.len() {
            match body.read(&mut buffer[*arrived..]) {
                Ok(0) => return Err(self.broke(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => *arrived += count,
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(self.broke(cause)),
            }
        }
        // Reaching the end gives the connection back.
        let _ = body.read(&mut [0]);
        Ok(())
    }
}

/// The length an answer says it has.
pub(crate) fn length_of(answer: &Response<Body>) -> Option<u64> {
    answer.headers().get("content-length")?.to_str().ok()?.parse().ok()
}

/// Whether a file is there up to `end`, for a read of no bytes: a server is not asked for those.
pub(crate) fn must_reach(storage: &dyn Storage, name: Name, end: u64) -> Result<()> {
    let location = storage.location();
    match storage.size(name)? {
        None => Err(StorageError::NotFound { location, name }),
        Some(bytes) if bytes < end => Err(StorageError::Short { location, name, end }),
        Some(_) => Ok(()),
    }
}

/// The value of the header that asks for the part of a file from `start` to before `end`.
pub(crate) fn range_of(start: u64, end: u64) -> String {
    format!("bytes={start}-{}", end.saturating_sub(1))
}

/// Goes on where a broken line stopped, without a wait, for as long as each try brings something.
pub(crate) fn go_on(
    arrived: &mut usize,
    mut attempt: impl FnMut(&mut usize) -> Result<()>,
) -> Result<()> {
    loop {
        let before = *arrived;
        match attempt(arrived) {
            Err(error) if error.is_passing() && *arrived >= before + RESUMED_BYTES_MIN => {}
            other => return other,
        }
    }
}
