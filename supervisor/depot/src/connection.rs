//! Connections: how many, how patient, how they end.
//!
//! A depot may stand in the open. It reads no more than it must, waits for nobody for ever, and
//! keeps the number of guests below what a small NAS can carry; who comes later waits in the
//! kernel's queue.

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::future::Future;
use std::io;
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

/// Serves until `shutdown` is done.
pub async fn serve_until(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (stop, stopping) = watch::channel(());
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = &mut shutdown => break,
            next = next => next,
        };
        match accepted {
            Ok((stream, _)) => {
                let (router, stopping) = (router.clone(), stopping.clone());
                tokio::spawn(async move {
                    converse(stream, router, stopping).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "no connection could be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    drop(stopping);
    let _ = stop.send(());
    let _ = tokio::time::timeout(FAREWELL, stop.closed()).await;
}

async fn converse(stream: TcpStream, router: Router, mut stopping: watch::Receiver<()>) {
    let _ = stream.set_nodelay(true);
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(HEAD_SECONDS_MAX / HASTE))
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEAD_LINES_MAX)
        .serve_connection(TokioIo::new(Patience::new(stream)), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stopping.changed() => {
            connection.as_mut().graceful_shutdown();
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
        match moved {
            Poll::Ready(Ok(count)) => self.window_bytes += count,
            Poll::Pending if self.is_dawdling() => {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            _ => {}
        }
        self.judge(cx, moved)
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
        match moved {
            Poll::Ready(Ok(count)) => self.window_bytes += count,
            Poll::Pending if self.is_dawdling() => {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            _ => {}
        }
        self.judge(cx, moved)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
