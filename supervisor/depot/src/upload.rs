//! Publishing over HTTP, with a maintainer's token.
//!
//! ```text
//! HEAD  /publish/SHA256   Upload-Offset: how many bytes of that package are here
//! PATCH /publish/SHA256   Upload-Offset: N; appends the body, which may break off at any byte
//! POST  /publish/SHA256   publishes it, when all of it is here
//! ```
//!
//! A publication that takes its time is answered with 503 and `Retry-After`: whoever asks again is
//! told what became of it.
//!
//! Which package it is, and whether the token is for it, is read from the bytes themselves.

use crate::error::DepotError;
use crate::place::Place;
use crate::publish::{Delivery, Published};
use crate::publisher::Publisher;
use crate::tokens::{Token, Tokens};
use crate::under_way::{ASK_AGAIN_SECONDS, Outcome, UnderWay};
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use supervisor_trust::UnixSeconds;
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

/// An upload that is longer is refused.
pub const UPLOAD_BYTES_MAX: u64 = 1 << 30;
/// Uploads that wait for the rest of their bytes, at most.
const UPLOADS_MAX: usize = 16;
/// An upload that nobody went on with for so long is removed.
const UPLOAD_AGE_MAX: Duration = Duration::from_secs(24 * 3600);
/// The header that says how far an upload is.
pub const OFFSET: &str = "upload-offset";

/// A request about one upload.
pub struct Upload {
    /// The depot's folder.
    pub root: PathBuf,
    /// SHA-256 of the package, as its address says.
    pub sha256: String,
    /// The clock.
    pub clock: fn() -> UnixSeconds,
    /// Who publishes it.
    pub publisher: Arc<dyn Publisher>,
    /// What is being published.
    pub under_way: Arc<UnderWay>,
}

impl Upload {
    /// Answers a request.
    pub async fn answer(self, method: Method, headers: &HeaderMap, body: Body) -> Response<Body> {
        let is_hash = self.sha256.len() == 64 && self.sha256.bytes().all(is_lower_hex);
        let Some(token) = self.token(headers).filter(|_| is_hash) else {
            let mut refused = said(StatusCode::UNAUTHORIZED, "no token, or none of this depot");
            let bearer = HeaderValue::from_static("Bearer");
            refused.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
            return refused;
        };
        match method {
            Method::HEAD => at(StatusCode::OK, self.here(&token)),
            Method::PATCH => self.append(&token, headers, body).await,
            Method::POST => self.published(token).await,
            _ => said(StatusCode::METHOD_NOT_ALLOWED, "HEAD, PATCH and POST are known"),
        }
    }

    fn token(&self, headers: &HeaderMap) -> Option<Token> {
        let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let tokens = Tokens::of(&self.root).ok()?;
        tokens.owner(value.strip_prefix("Bearer ")?.trim()).cloned()
    }

    /// Each maintainer has a folder, so that nobody adds to what another began.
    fn folder(&self, token: &Token) -> PathBuf {
        let name = hex::encode(&Sha256::digest(token.name.as_bytes())[..8]);
        Place::at(&self.root).uploads().join(name)
    }

    fn path(&self, token: &Token) -> PathBuf {
        self.folder(token).join(&self.sha256)
    }

    fn here(&self, token: &Token) -> u64 {
        fs::metadata(self.path(token)).map_or(0, |found| found.len())
    }

    async fn append(&self, token: &Token, headers: &HeaderMap, body: Body) -> Response<Body> {
        let here = self.here(token);
        let offset = headers.get(OFFSET).and_then(|value| value.to_str().ok()?.parse().ok());
        if offset != Some(here) {
            return at(StatusCode::CONFLICT, here);
        }
        if let Err(error) = self.make_room(token) {
            return failed(&error);
        }
        match append(&self.path(token), here, body).await {
            Ok(true) => at(StatusCode::NO_CONTENT, self.here(token)),
            Ok(false) => said(StatusCode::PAYLOAD_TOO_LARGE, "no package may be that long"),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                at(StatusCode::CONFLICT, self.here(token))
            }
            Err(cause) => failed(&DepotError::file("write", &self.path(token))(cause)),
        }
    }

    /// Removes what nobody goes on with, and refuses to keep too many.
    fn make_room(&self, token: &Token) -> Result<(), DepotError> {
        let folder = self.folder(token);
        fs::create_dir_all(&folder).map_err(DepotError::file("make", &folder))?;
        let now = SystemTime::now();
        let mut others = 0;
        for entry in fs::read_dir(&folder).map_err(DepotError::file("read", &folder))?.flatten() {
            let modified = entry.metadata().and_then(|found| found.modified());
            let age = modified.ok().and_then(|modified| now.duration_since(modified).ok());
            if age.is_some_and(|age| age > UPLOAD_AGE_MAX) {
                let _ = fs::remove_file(entry.path());
            } else if entry.file_name() != *self.sha256 {
                others += 1;
            }
        }
        match others < UPLOADS_MAX {
            true => Ok(()),
            false => Err(DepotError::Busy { path: folder }),
        }
    }

    async fn published(self, token: Token) -> Response<Body> {
        let (under_way, publisher) = (self.under_way.clone(), self.publisher.clone());
        let what = [token.name.clone(), self.sha256.clone()];
        let outcome = under_way.publish(what, move || self.publish(&token)).await;
        if let Some((status, text)) = outcome {
            let status = StatusCode::from_u16(status);
            return json_text(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), text);
        }
        let waits = publisher.waits_for().unwrap_or_else(|| "it takes its time".to_owned());
        let mut response = json_answer(
            StatusCode::SERVICE_UNAVAILABLE,
            &json!({"error": format!("not published yet: {waits}"),
                "remedy": "ask again: it goes on meanwhile"}),
        );
        response.headers_mut().insert(header::RETRY_AFTER, ASK_AGAIN_SECONDS.into());
        response
    }

    fn publish(&self, token: &Token) -> Outcome {
        let path = self.path(token);
        match sha256_of(&path) {
            Err(_) => return outcome(StatusCode::NOT_FOUND, "nothing of this package is here"),
            Ok(found) if found != self.sha256 => {
                let here = format!("{} bytes are here, which are not all", self.here(token));
                return outcome(StatusCode::CONFLICT, &here);
            }
            Ok(_) => {}
        }
        let delivery = Delivery { path: path.clone(), channel: None, token: Some(token.clone()) };
        let published = self.publisher.publish(&[delivery], (self.clock)());
        let is_to_come = |error: &DepotError| {
            use DepotError::{Busy, JustDeleted, Store};
            matches!(error, Busy { .. } | Store { .. } | JustDeleted { .. })
        };
        if !published.as_ref().is_err_and(is_to_come) {
            let _ = fs::remove_file(&path);
        }
        match published.as_deref() {
            Ok([Published { package, version, file, is_new }]) => {
                tracing::info!(by = token.name, package, version, is_new, "published");
                let said = json!({"package": package, "version": version, "file": file,
                    "is_new": is_new});
                (200, said.to_string())
            }
            Ok(_) => outcome(StatusCode::INTERNAL_SERVER_ERROR, "nothing was published"),
            Err(error) => failure(error),
        }
    }
}

fn is_lower_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

/// Appends what comes, until it ends or breaks off. False when it is too long.
async fn append(path: &Path, here: u64, mut body: Body) -> io::Result<bool> {
    let open = fs::OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
    // Two requests at once for one upload: the second is told to look again.
    if open.try_lock().is_err() || open.metadata()?.len() != here {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    let mut file = tokio::fs::File::from_std(open);
    file.seek(io::SeekFrom::Start(here)).await?;
    let mut length = here;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { break };
        let Ok(data) = frame.into_data() else { continue };
        length += data.len() as u64;
        if length > UPLOAD_BYTES_MAX {
            return Ok(false);
        }
        file.write_all(&data).await?;
    }
    file.flush().await?;
    file.sync_all().await?;
    Ok(true)
}

fn sha256_of(path: &Path) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; 64 * 1024];
    loop {
        let count = file.read(&mut piece)?;
        if count == 0 {
            return Ok(hex::encode(hash.finalize()));
        }
        hash.update(&piece[..count]);
    }
}

fn at(status: StatusCode, offset: u64) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response.headers_mut().insert(OFFSET, HeaderValue::from(offset));
    response
}

fn said(status: StatusCode, fact: &str) -> Response<Body> {
    json_answer(status, &json!({ "error": fact }))
}

fn failed(error: &DepotError) -> Response<Body> {
    let (status, text) = failure(error);
    json_text(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), text)
}

fn outcome(status: StatusCode, fact: &str) -> Outcome {
    (status.as_u16(), json!({ "error": fact }).to_string())
}

fn failure(error: &DepotError) -> Outcome {
    let status = match error {
        DepotError::NotTheirs { .. } => StatusCode::FORBIDDEN,
        DepotError::BytesChanged { .. } | DepotError::GoesBack { .. } => StatusCode::CONFLICT,
        DepotError::Busy { .. } | DepotError::Store { .. } | DepotError::JustDeleted { .. } => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        DepotError::Unreadable { .. } | DepotError::Unsound { .. } | DepotError::NoDsm { .. } => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        error => {
            tracing::error!(%error, "an upload could not be taken");
            return outcome(StatusCode::INTERNAL_SERVER_ERROR, "the depot's log says why");
        }
    };
    // The file's name is the depot's own business.
    let fact = match error {
        DepotError::Unreadable { cause, .. } => cause.to_string(),
        DepotError::Unsound { findings, .. } => findings.join("; "),
        error => error.to_string(),
    };
    (status.as_u16(), json!({"error": fact, "remedy": error.remedy()}).to_string())
}

fn json_answer(status: StatusCode, value: &serde_json::Value) -> Response<Body> {
    json_text(status, value.to_string())
}

fn json_text(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text + "\n"));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

#[cfg(test)]
mod tests;
