//! The server: handing out what the tree in force says.
//!
//! ```text
//! GET, POST /             the catalog, as Package Center asks for it; always 200 and JSON
//! GET /packages/FILE      a package; also as SHA256.FILE, as TUF clients ask for it
//! GET /icons/SHA256.png   an icon
//! GET /metadata/FILE      the signed metadata
//! GET /web                the page for people
//! /publish/SHA256         a maintainer's upload
//! /.well-known/acme-challenge/…   what a certificate authority asks
//! ```
//!
//! Whatever else is asked for is answered as the catalog: a source's address may have any path,
//! and an answer that is no list makes Package Center say "invalid location". A file that is not
//! there is 404 without a byte: an empty list in its place would be taken for the file. What is
//! not asked as a NAS asks is refused with a status alone; nothing is ever answered with a page.
//!
//! The tree is read whole when the link `current` has changed, so an answer is never put together
//! from two trees. Answers are made once for each sort of question and handed out again.
//!
//! Nothing is kept of who asked: the log has the method, the path without its query, the status.

use crate::asked::{Asked, QUERY_BYTES_MAX, decoded};
use crate::catalog;
use crate::challenges::Challenges;
use crate::connection::{Door, serve_until};
use crate::counts::{Counts, Kind};
use crate::error::DepotError;
use crate::files::{Content, Source, hand_out};
use crate::limits::Limits;
use crate::origin::{Peer, Proxies};
use crate::page::page;
use crate::place::{Place, Shelf};
use crate::publisher::{InFolder, Publisher};
use crate::shelves::Item;
use crate::tls::Certificates;
use crate::under_way::UnderWay;
use crate::upload::Upload;
use axum::Extension;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
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
use std::time::{Duration, Instant};
use supervisor_trust::UnixSeconds;
use tokio::net::TcpListener;

/// Kept answers together, in bytes. Beyond it they are made anew.
const ANSWERS_BYTES_MAX: usize = 8 << 20;
/// A form must be there within this.
const FORM_WAIT_MAX: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });
/// How often the counts of downloads are kept.
const COUNTS_KEPT_EVERY: Duration = Duration::from_secs(600);
/// How often a depot that is served looks whether it must sign again.
const RENEWAL_CHECK: Duration = Duration::from_secs(3600);

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
    /// Who carries out what is asked for over HTTP.
    pub publisher: Arc<dyn Publisher>,
    /// What is answered to a certificate authority.
    pub challenges: Challenges,
    /// The clock.
    pub clock: fn() -> UnixSeconds,
    /// Proxies that are believed when they say who asked, and how.
    pub proxies: Proxies,
    /// What one asker may ask in a minute; 0 is without a limit.
    pub requests_per_minute_max: u32,
}

impl ServeSettings {
    /// The depot in `root`, with no proxy in front and no limit; it does not sign.
    pub fn new(root: &Path, clock: fn() -> UnixSeconds) -> Self {
        Self {
            root: root.to_owned(),
            base_url: None,
            renew: false,
            publisher: Arc::new(InFolder(root.to_owned())),
            challenges: Challenges::default(),
            clock,
            proxies: Proxies::default(),
            requests_per_minute_max: 0,
        }
    }
}

struct Depot {
    place: Place,
    settings: ServeSettings,
    base_url: Option<String>,
    listens_on: Option<SocketAddr>,
    limits: Limits,
    counts: Counts,
    certificates: Option<Arc<Certificates>>,
    in_force: Mutex<Arc<Served>>,
    under_way: Arc<UnderWay>,
}

/// A tree as it is served.
struct Served {
    shelf: Shelf,
    /// Where each offered file stands among the items.
    by_file: HashMap<String, usize>,
    answers: Mutex<Answers>,
}

impl Served {
    fn new(shelf: Shelf) -> Self {
        let offered = shelf.shelves.items.iter().enumerate().filter(|(_, item)| !item.withdrawn);
        let by_file = offered.map(|(at, item)| (item.file.clone(), at)).collect();
        Self { shelf, by_file, answers: Mutex::default() }
    }
}

#[derive(Default)]
struct Answers {
    by_question: HashMap<(Asked, String), Answer>,
    bytes: usize,
    /// What the next one may take.
    bytes_largest: usize,
}

/// An answer and its hash.
#[derive(Clone)]
struct Answer {
    bytes: Bytes,
    sha256: Arc<str>,
}

/// Serves the depot at one place without TLS until `shutdown` is done.
pub async fn serve(
    listener: TcpListener,
    settings: ServeSettings,
    shutdown: impl Future<Output = ()>,
) -> Result<(), DepotError> {
    serve_at(vec![Door { listener, tls: None }], None, settings, shutdown).await
}

/// Serves the depot at several places until `shutdown` is done; at `metrics`, what was counted.
///
/// To be awaited on a tokio runtime with time and I/O enabled; a current-thread one will do.
pub async fn serve_at(
    doors: Vec<Door>,
    metrics: Option<TcpListener>,
    settings: ServeSettings,
    shutdown: impl Future<Output = ()>,
) -> Result<(), DepotError> {
    let base_url = settings.base_url.as_deref().map(checked_base_url).transpose()?;
    let place = Place::at(&settings.root);
    let shelf = place.read_shelf()?;
    let counts = Counts::kept(&place);
    let depot = Arc::new(Depot {
        place,
        base_url,
        listens_on: doors.first().and_then(|door| door.listener.local_addr().ok()),
        limits: Limits::new(settings.requests_per_minute_max),
        counts,
        certificates: doors.iter().find_map(|door| door.tls.clone()),
        in_force: Mutex::new(Arc::new(Served::new(shelf))),
        under_way: Arc::default(),
        settings,
    });
    let renewal = async {
        match depot.settings.renew {
            true => keep_renewed(&depot.settings).await,
            false => std::future::pending().await,
        }
    };
    let counted = async {
        match metrics {
            Some(listener) => {
                let door = Door { listener, tls: None };
                let router = Router::new().route("/metrics", get(metrics_page));
                let router = router.with_state(depot.clone());
                serve_until(vec![door], router, std::future::pending()).await;
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = serve_until(doors, router(depot.clone()), shutdown) => {}
        () = renewal => {}
        () = counted => {}
        () = keep_counts(&depot) => {}
    }
    depot.counts.keep(&depot.place);
    Ok(())
}

async fn keep_counts(depot: &Depot) {
    loop {
        tokio::time::sleep(COUNTS_KEPT_EVERY).await;
        depot.counts.keep(&depot.place);
    }
}

async fn keep_renewed(settings: &ServeSettings) {
    loop {
        let (publisher, root, clock) =
            (settings.publisher.clone(), settings.root.clone(), settings.clock);
        let renewal = move || -> Result<bool, DepotError> {
            let is_renewed = publisher.renew_if_due(clock())?;
            for (role, days) in if is_renewed { crate::warnings(&root, clock())? } else { vec![] } {
                tracing::warn!(%role, days, "a signature ends soon; see `depot keys plan`");
            }
            Ok(is_renewed)
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
        .route("/packages/{*file}", get(package))
        .route("/icons/{*file}", get(icon))
        .route("/metadata/{*file}", get(metadata))
        .route("/web", any(web))
        .route("/publish/{sha256}", any(publish))
        .route("/.well-known/acme-challenge/{token}", get(challenge))
        .fallback(catalog_page)
        .layer(axum::middleware::from_fn_with_state(depot.clone(), watch))
        .with_state(depot)
}

/// Counts and logs each answer, and turns away who asks too much.
async fn watch(
    State(depot): State<Arc<Depot>>,
    Extension(peer): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response<Body> {
    let asker = depot.settings.proxies.asker(peer, request.headers());
    if !depot.limits.allow(asker, Instant::now()) {
        depot.counts.refused();
        let mut response = bare(StatusCode::TOO_MANY_REQUESTS);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
        return response;
    }
    let method = request.method().clone();
    let path: String = request.uri().path().chars().take(200).collect();
    let response = next.run(request).await;
    depot.counts.answered(Kind::of(&path), response.status());
    tracing::info!(%method, path, status = response.status().as_u16(), "answered");
    response
}

impl Depot {
    /// The tree in force, read anew if it is another than last time.
    fn served(&self) -> Arc<Served> {
        let mut in_force = locked(&self.in_force);
        let number = in_force.shelf.number;
        if self.place.current().is_ok_and(|current| current != number) {
            match self.place.read_shelf() {
                Ok(shelf) => *in_force = Arc::new(Served::new(shelf)),
                Err(error) => {
                    tracing::error!(%error, "the new tree cannot be read; serving the old")
                }
            }
        }
        in_force.clone()
    }

    fn base_url(&self, peer: Peer, headers: &HeaderMap) -> String {
        if let Some(url) = &self.base_url {
            return url.clone();
        }
        match (self.settings.proxies.asked_by(peer, headers), self.listens_on) {
            ((scheme, Some(host)), _) => format!("{scheme}://{host}"),
            ((scheme, None), Some(address)) => format!("{scheme}://{address}"),
            ((_, None), None) => String::new(),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn catalog_page(
    State(depot): State<Arc<Depot>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response<Body> {
    let (mut head, body) = request.into_parts();
    let mut asked = Asked::read(head.uri.query().unwrap_or_default());
    let base_url = depot.base_url(peer, &head.headers);
    if head.method == Method::POST {
        if hyper::body::Body::size_hint(&body).lower() > QUERY_BYTES_MAX as u64 {
            return bare(StatusCode::PAYLOAD_TOO_LARGE);
        }
        let form = Limited::new(body, QUERY_BYTES_MAX).collect();
        match tokio::time::timeout(FORM_WAIT_MAX, form).await {
            Ok(Ok(form)) => {
                let form = String::from_utf8_lossy(&form.to_bytes()).into_owned();
                asked = Asked::read(&form).or(asked);
                // Conditions and ranges are for what a GET names.
                head.headers.clear();
            }
            Ok(Err(_)) => return bare(StatusCode::PAYLOAD_TOO_LARGE),
            Err(_) => return bare(StatusCode::REQUEST_TIMEOUT),
        }
    } else if !matches!(head.method, Method::GET | Method::HEAD) {
        let mut response = bare(StatusCode::METHOD_NOT_ALLOWED);
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
        return response;
    }
    let answer = depot.served().answer(asked, base_url);
    let content = Content {
        media_type: "application/json",
        tag: &answer.sha256,
        cache_control: "no-cache",
        source: Source::Bytes(answer.bytes),
    };
    handed_out(&head.method, &head.headers, content).await
}

impl Served {
    fn answer(&self, asked: Asked, base_url: String) -> Answer {
        let question = (asked, base_url);
        let mut answers = locked(&self.answers);
        if let Some(answer) = answers.by_question.get(&question) {
            return answer.clone();
        }
        let (asked, base_url) = &question;
        if answers.bytes + answers.bytes_largest > ANSWERS_BYTES_MAX {
            // Before the next one is made, so that they are not there together.
            *answers = Answers::default();
        }
        let bytes = Bytes::from(catalog::answer(&self.shelf.shelves, asked, base_url));
        let sha256 = hex::encode(Sha256::digest(&bytes)).into();
        let answer = Answer { bytes, sha256 };
        // What a kept answer costs beyond its bytes: the question and its place in the table.
        let cost = answer.bytes.len() + 512;
        if answers.bytes + cost > ANSWERS_BYTES_MAX {
            *answers = Answers::default();
        }
        answers.bytes += cost;
        answers.bytes_largest = answers.bytes_largest.max(cost);
        answers.by_question.insert(question, answer.clone());
        answer
    }

    /// The package of that file name, also when its hash stands before it.
    fn item(&self, file: &str) -> Option<&Item> {
        let offered = |name: &str| self.by_file.get(name).map(|at| &self.shelf.shelves.items[*at]);
        offered(file).or_else(|| {
            let (sha256, name) = file.split_once('.')?;
            offered(name).filter(|item| item.sha256 == sha256)
        })
    }
}

async fn package(
    State(depot): State<Arc<Depot>>,
    name: Named,
    method: Method,
    headers: HeaderMap,
) -> Response<Body> {
    let (served, file) = (depot.served(), file_name(name));
    let Some(item) = served.item(&file).or_else(|| served.item(&decoded(&file))) else {
        return bare(StatusCode::NOT_FOUND);
    };
    let path = depot.place.file(&item.sha256);
    let media_type = "application/octet-stream";
    let answer = file_of(&method, &headers, media_type, &item.sha256, &path).await;
    if answer.status() == StatusCode::OK && method == Method::GET {
        depot.counts.downloaded(&item.file);
    }
    answer
}

async fn icon(
    State(depot): State<Arc<Depot>>,
    name: Named,
    method: Method,
    headers: HeaderMap,
) -> Response<Body> {
    let (served, file) = (depot.served(), file_name(name));
    let known = file.strip_suffix(".png").and_then(|sha256| {
        let items = served.shelf.shelves.offered();
        let mut icons = items.flat_map(|item| [&item.icon, &item.icon_256]);
        icons.find_map(|icon| icon.as_ref().filter(|icon| *icon == sha256))
    });
    let Some(sha256) = known else { return bare(StatusCode::NOT_FOUND) };
    file_of(&method, &headers, "image/png", sha256, &depot.place.icon(sha256)).await
}

/// Hands out a file that is kept by its hash and never changes.
async fn file_of(
    method: &Method,
    headers: &HeaderMap,
    media_type: &'static str,
    sha256: &str,
    path: &Path,
) -> Response<Body> {
    let cache_control = "public, max-age=86400";
    let content = Content { media_type, tag: sha256, cache_control, source: Source::File(path) };
    handed_out(method, headers, content).await
}

async fn metadata(
    State(depot): State<Arc<Depot>>,
    name: Named,
    method: Method,
    headers: HeaderMap,
) -> Response<Body> {
    let (served, file) = (depot.served(), file_name(name));
    let Some(name) = served.shelf.metadata.get(&file) else { return bare(StatusCode::NOT_FOUND) };
    let content = Content {
        media_type: "application/json",
        // A file of a tree is never changed.
        tag: &format!("{}-{name}", served.shelf.number),
        // A cache that holds on to old metadata looks like an attack to the client.
        cache_control: match file.as_str() {
            "timestamp.json" | "root.json" => "no-cache",
            _ => "public, max-age=300",
        },
        source: Source::File(&depot.place.metadata(served.shelf.number, name)),
    };
    handed_out(&method, &headers, content).await
}

async fn challenge(
    State(depot): State<Arc<Depot>>,
    UrlPath(token): UrlPath<String>,
) -> Response<Body> {
    match depot.settings.challenges.answer(&token) {
        Some(answer) => {
            let mut response = Response::new(Body::from(answer));
            let plain = HeaderValue::from_static("application/octet-stream");
            response.headers_mut().insert(header::CONTENT_TYPE, plain);
            response
        }
        None => bare(StatusCode::NOT_FOUND),
    }
}

async fn publish(
    State(depot): State<Arc<Depot>>,
    UrlPath(sha256): UrlPath<String>,
    method: Method,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    let ServeSettings { root, clock, publisher, .. } = depot.settings.clone();
    let under_way = depot.under_way.clone();
    let upload = Upload { root, sha256, clock, publisher, under_way };
    upload.answer(method, &headers, body).await
}

async fn metrics_page(State(depot): State<Arc<Depot>>) -> Response<Body> {
    let served = depot.served();
    let mut text = depot.counts.text(|file| {
        let item = &served.shelf.shelves.items[*served.by_file.get(file)?];
        Some([item.package.clone(), item.version.clone(), item.archs.join(" ")])
    });
    let (root, clock) = (depot.settings.root.clone(), depot.settings.clock);
    let report = tokio::task::spawn_blocking(move || crate::keys(&root, clock())).await;
    text.push_str(
        "# HELP holdfast_depot_signature_days Whole days until a role's signature ends.\n\
         # TYPE holdfast_depot_signature_days gauge\n",
    );
    for role in report.ok().and_then(Result::ok).into_iter().flat_map(|report| report.roles) {
        text.push_str(&format!(
            "holdfast_depot_signature_days{{role=\"{}\"}} {}\n",
            role.role, role.days_left
        ));
    }
    text.push_str(&format!(
        "# HELP holdfast_depot_packages Files on the shelves.\n\
         # TYPE holdfast_depot_packages gauge\nholdfast_depot_packages {}\n",
        served.by_file.len()
    ));
    if let Some(certificates) = &depot.certificates {
        text.push_str(&format!(
            "# HELP holdfast_depot_certificate_days Whole days until the TLS certificate ends.\n\
             # TYPE holdfast_depot_certificate_days gauge\nholdfast_depot_certificate_days {}\n",
            certificates.days_left((depot.settings.clock)())
        ));
    }
    let mut response = Response::new(Body::from(text));
    let media_type = HeaderValue::from_static("text/plain; version=0.0.4");
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    response
}

/// The page, but for a NAS whose owner gave it the page's address as the source's.
async fn web(depot: State<Arc<Depot>>, peer: Extension<Peer>, request: Request) -> Response<Body> {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    if request.uri().query().is_some() || !is_read {
        return catalog_page(depot, peer, request).await;
    }
    let page = page(&depot.served().shelf.shelves, &depot.base_url(peer.0, request.headers()));
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
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => bare(StatusCode::NOT_FOUND),
        Err(error) => {
            tracing::error!(%error, "a published file cannot be read");
            bare(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

/// What stands behind the folder in an address; an address that is no text names nothing.
type Named = Result<UrlPath<String>, PathRejection>;

fn file_name(named: Named) -> String {
    named.map(|UrlPath(file)| file).unwrap_or_default()
}

/// A status, and nothing that Package Center could take for a list, or a client for a file.
fn bare(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests;
