//! Connections: how many, how patient, how they end.
//!
//! A depot may stand in the open. It reads no more than it must, waits for nobody for ever, and
//! keeps the number of guests below what a small NAS can carry; who comes later waits in the
//! kernel's queue.

use crate::origin::Peer;
use crate::tls::Certificates;
use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::HOST;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, Sleep, sleep};

/// Tests would rather not wait that long.
const HASTE: u64 = if cfg!(test) { 10 } else { 1 };
/// Connections at one time.
const CONNECTIONS_MAX: usize = 256;
/// A request's head must be there within this.
const HEAD_SECONDS_MAX: u64 = 15;
/// A request's head in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Lines in a request's head.
const HEAD_LINES_MAX: usize = 64;
/// A connection on which nothing moves is closed after this.
const IDLE_SECONDS_MAX: u64 = 30;
/// Who reads fewer than [`WINDOW_BYTES_MIN`] in this time is not downloading but holding a place.
const WINDOW_SECONDS: u64 = 60;
/// See [`WINDOW_SECONDS`].
const WINDOW_BYTES_MIN: usize = 16 * 1024;
/// When the depot stops, downloads get this long to end.
const FAREWELL: Duration = Duration::from_secs(5);
/// When no connection can be accepted (too many open files), how long to wait.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Streams of one connection of HTTP/2 at one time.
const STREAMS_MAX: u32 = 32;

/// A place to knock at.
pub struct Door {
    /// Where connections come in.
    pub listener: TcpListener,
    /// What the depot shows for itself; without it, everybody can read along.
    pub tls: Option<Arc<Certificates>>,
}

/// Serves until `shutdown` is done.
pub async fn serve_until(doors: Vec<Door>, router: Router, shutdown: impl Future<Output = ()>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (stop, stopping) = watch::channel(());
    let mut keepers = tokio::task::JoinSet::new();
    for door in doors {
        keepers.spawn(welcome(door, router.clone(), places.clone(), stopping.clone()));
    }
    shutdown.await;
    keepers.shutdown().await;
    drop(stopping);
    let _ = stop.send(());
    let _ = tokio::time::timeout(FAREWELL, stop.closed()).await;
}

/// Lets in who knocks, until it is stopped itself.
async fn welcome(
    door: Door,
    router: Router,
    places: Arc<Semaphore>,
    stopping: watch::Receiver<()>,
) {
    loop {
        let place = places.clone().acquire_owned().await;
        match door.listener.accept().await {
            Ok((stream, address)) => {
                let (router, stopping) = (router.clone(), stopping.clone());
                let tls = door.tls.as_ref().map(|certificates| certificates.in_use());
                tokio::spawn(async move {
                    converse(stream, address, tls, router, stopping).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "no connection could be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn converse(
    stream: TcpStream,
    address: SocketAddr,
    tls: Option<Arc<rustls::ServerConfig>>,
    router: Router,
    stopping: watch::Receiver<()>,
) {
    let _ = stream.set_nodelay(true);
    let stream = Patience::new(stream);
    let peer = Peer { address, is_tls: tls.is_some() };
    let Some(config) = tls else {
        return converse_http1(stream, peer, router, stopping).await;
    };
    let handshake = tokio_rustls::TlsAcceptor::from(config).accept(stream);
    let limit = Duration::from_secs(HEAD_SECONDS_MAX / HASTE);
    match tokio::time::timeout(limit, handshake).await {
        Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
            converse_http2(stream, peer, router, stopping).await;
        }
        Ok(Ok(stream)) => converse_http1(stream, peer, router, stopping).await,
        Ok(Err(error)) => tracing::debug!(%error, "no TLS came about"),
        Err(_) => tracing::debug!("no TLS came about in time"),
    }
}

async fn converse_http1(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    router: Router,
    stopping: watch::Receiver<()>,
) {
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(HEAD_SECONDS_MAX / HASTE))
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEAD_LINES_MAX)
        .serve_connection(TokioIo::new(stream), introduced(peer, router));
    let connection = std::pin::pin!(connection);
    drive(connection, |connection| connection.graceful_shutdown(), stopping).await;
}

async fn converse_http2(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    router: Router,
    stopping: watch::Receiver<()>,
) {
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .max_concurrent_streams(STREAMS_MAX)
        .serve_connection(TokioIo::new(stream), introduced(peer, router));
    let connection = std::pin::pin!(connection);
    drive(connection, |connection| connection.graceful_shutdown(), stopping).await;
}

/// The router, told who asks.
fn introduced(
    peer: Peer,
    router: Router,
) -> impl Service<
    Request<Incoming>,
    Response = hyper::Response<axum::body::Body>,
    Error = std::convert::Infallible,
    Future: Send + 'static,
> {
    let router = TowerToHyperService::new(router);
    hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        // HTTP/2 names the host elsewhere; everything behind this reads it in one place.
        if let Some(host) = request.uri().authority().map(|host| host.as_str().parse())
            && let Ok(host) = host
            && !request.headers().contains_key(HOST)
        {
            request.headers_mut().insert(HOST, host);
        }
        router.call(request)
    })
}

async fn drive<C: Future<Output = hyper::Result<()>>>(
    mut connection: Pin<&mut C>,
    end: impl FnOnce(Pin<&mut C>),
    mut stopping: watch::Receiver<()>,
) {
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stopping.changed() => {
            end(connection.as_mut());
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// A stream that gives up on a peer that does not move.
struct Patience {
    stream: TcpStream,
    idle: Pin<Box<Sleep>>,
    window_ends: Instant,
    window_bytes: usize,
}

impl Patience {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            idle: Box::pin(sleep(Duration::from_secs(IDLE_SECONDS_MAX / HASTE))),
            window_ends: Instant::now() + Duration::from_secs(WINDOW_SECONDS),
            window_bytes: 0,
        }
    }

    fn judge<T>(
        &mut self,
        cx: &mut Context<'_>,
        moved: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let now = Instant::now();
        if moved.is_ready() {
            self.idle.as_mut().reset(now + Duration::from_secs(IDLE_SECONDS_MAX / HASTE));
            return moved;
        }
        match self.idle.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }

    /// The same for bytes that were sent: some must be taken in time.
    fn judge_written(
        &mut self,
        cx: &mut Context<'_>,
        moved: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match moved {
            Poll::Ready(Ok(count)) => self.window_bytes += count,
            Poll::Pending if self.is_dawdling() => {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            _ => {}
        }
        self.judge(cx, moved)
    }

    /// Whether the peer takes bytes too slowly to be a downloader.
    fn is_dawdling(&mut self) -> bool {
        let now = Instant::now();
        if now < self.window_ends {
            return false;
        }
        let dawdles = self.window_bytes < WINDOW_BYTES_MIN;
        self.window_ends = now + Duration::from_secs(WINDOW_SECONDS);
        self.window_bytes = 0;
        dawdles
    }
}

impl AsyncRead for Patience {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let moved = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.judge(cx, moved)
    }
}

impl AsyncWrite for Patience {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let moved = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.judge_written(cx, moved)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let moved = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.judge_written(cx, moved)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
