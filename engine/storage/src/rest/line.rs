//! The line to a REST server: what is asked of it, and what becomes of its answers.

use super::address::Address;
use crate::http::{Asked, Http, length_of};
use crate::spooled_pack::Uploads;
use crate::{Name, Result, StorageError};
use engine_repository::FileKind;
use std::io::Read;
use ureq::http::{Request, Response, StatusCode};
use ureq::{Body, SendBody};

/// Larger files are sent when the server said that it wants them.
const UNASKED_BYTES_MAX: u64 = 64 << 10;

/// What lists name their sizes, when it is asked for.
const LISTING_V2: &str = "application/vnd.x.restic.rest.v2";

/// Connections to one server.
pub(super) struct Line {
    pub address: Address,
    pub http: Http,
}

impl Line {
    /// A request without a body, answered with little or nothing.
    pub fn ask(&self, method: &str, path: &str) -> Result<Response<Body>> {
        self.http.run(self.request(method, path, &[])?, self.http.patience().idle, 0)
    }

    /// A listing. Its time has a bound for the whole, too: it is not for ever.
    pub fn list(&self, path: &str) -> Result<Response<Body>> {
        let request = self.request("GET", path, &[])?;
        self.http.run(request, self.http.patience().listing, super::LISTING_BYTES_MAX)
    }

    /// A file, or a part of it.
    pub fn get(&self, name: Name, range: Option<String>, bytes_max: u64) -> Result<Response<Body>> {
        let headers: Vec<_> = range.iter().map(|range| ("range", &**range)).collect();
        let request = self.request("GET", &path_of(name), &headers)?;
        self.http.run(request, self.http.patience().idle, bytes_max)
    }

    /// A request with a body of known length.
    pub fn send(
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
        self.http.run(request, self.http.patience().idle, bytes)
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
        request.body(()).map_err(|_| self.http.foreign("no request can be made for it"))
    }
}

impl Uploads for Line {
    /// Sends a file. A server overwrites nothing; when it says so, it is found out whether the
    /// name is taken or adding is forbidden.
    fn upload(&self, name: Name, body: &mut dyn Read, bytes: u64) -> Result<()> {
        let asked = Asked { action: "store a file", name: Some(name) };
        let mut body = self.http.outgoing(body);
        let body = SendBody::from_reader(&mut body);
        let answer = self.send("POST", &path_of(name), body, bytes)?;
        let location = self.http.location();
        match answer.status() {
            status if status.is_success() => {
                self.http.finish(answer);
                Ok(())
            }
            StatusCode::FORBIDDEN => match self.size(name)? {
                Some(_) => Err(StorageError::AlreadyExists { location, name }),
                None => Err(self.http.refused(StatusCode::FORBIDDEN, asked)),
            },
            StatusCode::NOT_FOUND => Err(StorageError::Gone { location }),
            status => Err(self.http.refused(status, asked)),
        }
    }

    fn size(&self, name: Name) -> Result<Option<u64>> {
        let asked = Asked { action: "look for a file", name: Some(name) };
        let answer = self.ask("HEAD", &path_of(name))?;
        match answer.status() {
            StatusCode::OK => match length_of(&answer) {
                Some(bytes) => Ok(Some(bytes)),
                None => Err(self.http.foreign("it does not say how long a file is")),
            },
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(self.http.refused(status, asked)),
        }
    }
}

/// The path of a file below the repository. Unlike in a folder, packs are in no sub-folders.
pub(super) fn path_of(name: Name) -> String {
    match name.kind {
        FileKind::Config => name.kind.folder().to_owned(),
        kind => format!("{}/{}", kind.folder(), name.id),
    }
}
