//! The server: handing out what the tree in force says.
//!
//! ```text
//! GET, POST /             the catalog, as Package Center asks for it; always 200 and JSON
//! GET /packages/FILE      a package; also as SHA256.FILE, as TUF clients ask for it
//! GET /icons/SHA256.png   an icon
//! GET /metadata/FILE      the signed metadata
//! GET /web                the page for people
//! ```
//!
//! The tree is read whole when the link `current` has changed, so an answer is never put together
//! from two trees. Answers are made once for each sort of question and handed out again.
//!
//! Nothing is kept of who asked: the log has the method, the path without its query, the status.

use crate::asked::{Asked, QUERY_BYTES_MAX, decoded};
use crate::catalog;
use crate::connection::serve_until;
use crate::error::DepotError;
use crate::files::{Content, Source, hand_out};
use crate::page::page;
use crate::place::{Place, Tree};
use crate::shelves::Item;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path as UrlPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use axum::middleware::Next;
use axum::routing::{any, get};
use http_body_util::{BodyExt, Limited};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use supervisor_trust::{Role, UnixSeconds};
use tokio::net::TcpListener;

/// Kept answers together, in bytes. Beyond it they are made anew.
const ANSWERS_BYTES_MAX: usize = 4 << 20;
/// A form must be there within this.
const FORM_WAIT_MAX: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });
/// A host's name in a request is not longer than this.
const HOST_BYTES_MAX: usize = 255;
/// How often a depot that is served looks whether it must sign again.
const RENEWAL_CHECK: Duration = Duration::from_secs(3600);
/// It signs again when the timestamp's signature lasts fewer days than this: after one day.
const TIMESTAMP_DAYS_MIN: u64 = 20;

/// What the server is told.
#[derive(Debug, Clone)]
pub struct ServeSettings {
    /// The depot's folder.
    pub root: PathBuf,
    /// The address that links begin with, without a slash at the end. Without it, links begin with
    /// `http://` and the host that was asked: say it when the depot is behind a TLS proxy.
    pub base_url: Option<String>,
    /// Sign the timestamp again each day, while the keys lie in the folder.
    pub renew: bool,
    /// The clock.
    pub clock: fn() -> UnixSeconds,
}

struct Depot {
    place: Place,
    base_url: Option<String>,
    listens_on: Option<SocketAddr>,
    in_force: Mutex<Arc<Served>>,
}

/// A tree as it is served.
struct Served {
    tree: Tree,
    answers: Mutex<Answers>,
}

#[derive(Default)]
struct Answers {
    by_question: HashMap<(Asked, String), Bytes>,
    bytes: usize,
}

/// Serves the depot until `shutdown` is done.
///
/// To be awaited on a tokio runtime with time and I/O enabled; a current-thread one will do.
pub async fn serve(
    listener: TcpListener,
    settings: ServeSettings,
    shutdown: impl Future<Output = ()>,
) -> Result<(), DepotError> {
    let base_url = settings.base_url.as_deref().map(checked_base_url).transpose()?;
    let place = Place::at(&settings.root);
    let tree = place.read_current()?;
    let depot = Arc::new(Depot {
        place,
        base_url,
        listens_on: listener.local_addr().ok(),
        in_force: Mutex::new(Arc::new(Served { tree, answers: Mutex::default() })),
    });
    let renewal = async {
        match settings.renew {
            true => keep_renewed(&settings.root, settings.clock).await,
            false => std::future::pending().await,
        }
    };
    tokio::select! {
        () = serve_until(listener, router(depot), shutdown) => Ok(()),
        () = renewal => Ok(()),
    }
}

async fn keep_renewed(root: &Path, clock: fn() -> UnixSeconds) {
    loop {
        let root = root.to_owned();
        let renewal = move || -> Result<bool, DepotError> {
            let now = clock();
            let report = crate::keys(&root, now)?;
            let timestamp = report.roles.iter().find(|role| role.role == Role::Timestamp);
            if timestamp.is_none_or(|role| role.days_left >= TIMESTAMP_DAYS_MIN) {
                return Ok(false);
            }
            crate::renew(&root, now)?;
            for (role, days) in crate::warnings(&root, now)? {
                tracing::warn!(%role, days, "a signature ends soon; see `depot keys plan`");
            }
            Ok(true)
        };
        match tokio::task::spawn_blocking(renewal).await {
            Ok(Ok(true)) => tracing::info!("the depot's signatures were renewed"),
            Ok(Ok(false)) => {}
            Ok(Err(error)) => {
                let remedy = error.remedy().unwrap_or_default();
                tracing::warn!(%error, remedy, "the depot's signatures could not be renewed");
            }
            Err(error) => tracing::warn!(%error, "the renewal of signatures broke off"),
        }
        tokio::time::sleep(RENEWAL_CHECK).await;
    }
}

fn checked_base_url(url: &str) -> Result<String, DepotError> {
    let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let is_plain = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}?#".contains(&byte))
    };
    match host {
        Some(host) if !host.is_empty() && !host.starts_with('/') && is_plain(host) => {
            Ok(url.trim_end_matches('/').to_owned())
        }
        _ => Err(DepotError::BaseUrl { url: url.chars().take(200).collect() }),
    }
}

fn router(depot: Arc<Depot>) -> Router {
    Router::new()
        .route("/", any(catalog_page))
        .route("/packages/{file}", get(package))
        .route("/icons/{file}", get(icon))
        .route("/metadata/{file}", get(metadata))
        .route("/web", get(web))
        .with_state(depot)
        .layer(axum::middleware::from_fn(log))
}

async fn log(request: Request, next: Next) -> Response<Body> {
    let method = request.method().clone();
    let path: String = request.uri().path().chars().take(200).collect();
    let response = next.run(request).await;
    tracing::info!(%method, path, status = response.status().as_u16(), "answered");
    response
}

impl Depot {
    /// The tree in force, read anew if it is another than last time.
    fn served(&self) -> Arc<Served> {
        let mut in_force = locked(&self.in_force);
        let number = in_force.tree.number;
        if self.place.current().is_ok_and(|current| current != number) {
            match self.place.read_current() {
                Ok(tree) => {
                    *in_force = Arc::new(Served { tree, answers: Mutex::default() });
                }
                Err(error) => {
                    tracing::error!(%error, "the new tree cannot be read; serving the old")
                }
            }
        }
        in_force.clone()
    }

    fn base_url(&self, headers: &HeaderMap) -> String {
        if let Some(url) = &self.base_url {
            return url.clone();
        }
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        match (host.filter(|host| is_host(host)), self.listens_on) {
            (Some(host), _) => format!("http://{host}"),
            (None, Some(address)) => format!("http://{address}"),
            (None, None) => String::new(),
        }
    }
}

/// A name or address with an optional port, and nothing that could become part of a path.
fn is_host(host: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    !host.is_empty() && host.len() <= HOST_BYTES_MAX && host.bytes().all(allowed)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn catalog_page(State(depot): State<Arc<Depot>>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let mut asked = Asked::read(head.uri.query().unwrap_or_default());
    if head.method == Method::POST {
        if hyper::body::Body::size_hint(&body).lower() > QUERY_BYTES_MAX as u64 {
            return plain(StatusCode::PAYLOAD_TOO_LARGE);
        }
        let form = Limited::new(body, QUERY_BYTES_MAX).collect();
        match tokio::time::timeout(FORM_WAIT_MAX, form).await {
            Ok(Ok(form)) => {
                let form = String::from_utf8_lossy(&form.to_bytes()).into_owned();
                asked = Asked::read(&form).or(asked);
            }
            Ok(Err(_)) => return plain(StatusCode::PAYLOAD_TOO_LARGE),
            Err(_) => return plain(StatusCode::REQUEST_TIMEOUT),
        }
    } else if !matches!(head.method, Method::GET | Method::HEAD) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED);
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
        return response;
    }
    let base_url = depot.base_url(&head.headers);
    let answer = depot.served().answer(asked, base_url);
    let length = answer.len();
    let body = if head.method == Method::HEAD { Body::empty() } else { Body::from(answer) };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

impl Served {
    fn answer(&self, asked: Asked, base_url: String) -> Bytes {
        let question = (asked, base_url);
        let mut answers = locked(&self.answers);
        if let Some(answer) = answers.by_question.get(&question) {
            return answer.clone();
        }
        let (asked, base_url) = &question;
        let rows = catalog::rows(&self.tree.shelves, asked);
        let answer = Bytes::from(catalog::answer(&rows, asked, base_url));
        // What a kept answer costs beyond its bytes: the question and its place in the table.
        let cost = answer.len() + 512;
        if answers.bytes + cost > ANSWERS_BYTES_MAX {
            *answers = Answers::default();
        }
        answers.bytes += cost;
        answers.by_question.insert(question, answer.clone());
        answer
    }

    /// The package of that file name, also when its hash stands before it.
    fn item(&self, file: &str) -> Option<&Item> {
        let offered = |name: &str| self.tree.shelves.offered().find(|item| item.file == name);
        offered(file).or_else(|| {
            let (sha256, name) = file.split_once('.')?;
            offered(name).filter(|item| item.sha256 == sha256)
        })
    }
}

async fn package(
    State(depot): State<Arc<Depot>>,
    UrlPath(file): UrlPath<String>,
    method: Method,
    headers: HeaderMap,
) -> Response<Body> {
    let served = depot.served();
    let Some(item) = served.item(&file).or_else(|| served.item(&decoded(&file))) else {
        return plain(StatusCode::NOT_FOUND);
    };
    let path = depot.place.file(&item.sha256);
    let content = Content {
        media_type: "application/octet-stream",
        sha256: &item.sha256,
        cache_control: "public, max-age=86400",
        source: Source::File(&path, item.bytes),
    };
    handed_out(&method, &headers, content).await
}

async fn icon(
    State(depot): State<Arc<Depot>>,
    UrlPath(file): UrlPath<String>,
    method: Method,
    headers: HeaderMap,
) -> Response<Body> {
    let served = depot.served();
    let known = file.strip_suffix(".png").and_then(|sha256| {
        let mut icons = served.tree.shelves.offered().flat_map(|item| [&item.icon, &item.icon_256]);
        icons.find_map(|icon| icon.as_ref().filter(|icon| *icon == sha256))
    });
    let Some(sha256) = known else { return plain(StatusCode::NOT_FOUND) };
    let path = depot.place.icon(sha256);
    let Ok(length) = tokio::fs::metadata(&path).await.map(|found| found.len()) else {
        return plain(StatusCode::NOT_FOUND);
    };
    let content = Content {
        media_type: "image/png",
        sha256,
        cache_control: "public, max-age=86400",
        source: Source::File(&path, length),
    };
    handed_out(&method, &headers, content).await
}

async fn metadata(
    State(depot): State<Arc<Depot>>,
    UrlPath(file): UrlPath<String>,
    method: Method,
    headers: HeaderMap,
) -> Response<Body> {
    let served = depot.served();
    let Some(bytes) = served.tree.metadata(&file) else { return plain(StatusCode::NOT_FOUND) };
    let content = Content {
        media_type: "application/json",
        sha256: &hex::encode(Sha256::digest(bytes)),
        // A cache that holds on to old metadata looks like an attack to the client.
        cache_control: match file.as_str() {
            "timestamp.json" | "root.json" => "no-cache",
            _ => "public, max-age=300",
        },
        source: Source::Bytes(Bytes::copy_from_slice(bytes)),
    };
    handed_out(&method, &headers, content).await
}

async fn web(State(depot): State<Arc<Depot>>, headers: HeaderMap) -> Response<Body> {
    let page = page(&depot.served().tree.shelves, &depot.base_url(&headers));
    let mut response = Response::new(Body::from(page));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    let policy = "default-src 'none'; style-src 'unsafe-inline'";
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    response
}

async fn handed_out(method: &Method, headers: &HeaderMap, content: Content<'_>) -> Response<Body> {
    match hand_out(method, headers, content).await {
        Ok(response) => response,
        Err(error) => {
            tracing::error!(%error, "a published file cannot be read");
            plain(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

fn plain(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{status}\n")));
    *response.status_mut() = status;
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    response
}

#[cfg(test)]
mod tests;
