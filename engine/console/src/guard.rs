//! Who is let in, and how much a stranger can cost.
//!
//! Each bound is a constant here. At the largest number of connections the kernel lets newcomers
//! wait; nobody who came before is sent away.

use crate::door::Door;
use crate::page;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, header};
use engine_contract::console::Token;
use engine_contract::control::Refusal;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// So many are answered at a time; the others wait in the kernel.
pub const CONNECTIONS_MAX: usize = 16;

/// A request's line and headers are no longer together.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// A request has no more headers.
const HEADERS_MAX: usize = 64;

/// Whoever has not said by then what it wants is sent away.
const HEAD_SECONDS_MAX: u64 = 10;

/// No connection lasts longer, however slowly its answer is read.
const CONNECTION_SECONDS_MAX: u64 = 120;

/// A wrong token is answered so late.
const WRONG_TOKEN_SECONDS: u64 = 1;

/// After a connection could not be taken (too many open files) it is tried again so much later.
const ACCEPT_AGAIN_SECONDS: u64 = 1;

/// What every connection needs.
struct Guard {
    token: Token,
    api: TowerToHyperService<Router>,
}

/// Answers whoever comes, until it is dropped: the page's files to all, `api` to the token's
/// holders.
pub async fn serve(door: Door, token: Token, api: Router) -> io::Result<Infallible> {
    let listener = TcpListener::from_std(door.listener)?;
    let guard = Arc::new(Guard { token, api: TowerToHyperService::new(api) });
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
        }
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(attend(stream, Arc::clone(&guard)))),
                Err(_) => tokio::time::sleep(Duration::from_secs(ACCEPT_AGAIN_SECONDS)).await,
            },
            Some(_) = connections.join_next() => (),
        }
    }
}

/// One connection, one request.
async fn attend(stream: TcpStream, guard: Arc<Guard>) {
    let service = service_fn(move |request| {
        let guard = Arc::clone(&guard);
        async move { Ok::<_, Infallible>(guard.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(HEAD_SECONDS_MAX))
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // Whoever went away, or was too slow, gets nothing more.
    let _ = tokio::time::timeout(Duration::from_secs(CONNECTION_SECONDS_MAX), connection).await;
}

impl Guard {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        let file = if is_read { page::file(request.uri().path()) } else { None };
        let mut response = match file {
            Some(file) => file,
            None => self.ask(request).await,
        };
        page::add_headers(&mut response);
        response
    }

    async fn ask(&self, request: Request<Incoming>) -> Response<Body> {
        let given = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        match given.and_then(|value| value.strip_prefix(b"Bearer ")) {
            Some(given) if self.token.is(given) => {
                // No request to the console has a body; none is read.
                match self.api.call(request.map(|_| Body::empty())).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                }
            }
            Some(_) => {
                tokio::time::sleep(Duration::from_secs(WRONG_TOKEN_SECONDS)).await;
                refusal("this token is not the one of this computer's console")
            }
            None => refusal("the console's token is missing"),
        }
    }
}

/// What to do is the same, whether a token was wrong or missing.
fn refusal(fact: &str) -> Response<Body> {
    let refusal = Refusal {
        fact: fact.to_owned(),
        remedy: Some(
            "run `holdfast console` on this computer, over SSH: it prints the console's address \
             with the token in it"
                .to_owned(),
        ),
        exit_code: 1,
    };
    let mut response = Response::new(Body::from(serde_json::to_vec(&refusal).unwrap_or_default()));
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}
