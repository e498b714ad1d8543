//! Listening and serving.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::metrics::counter::Counter;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};
use tower::Service;
use tracing::Instrument;

use crate::Shutdown;

/// Binds before anything starts, so that a taken port is one clear message and port 0 is known to tests.
///
/// # Errors
/// The address, why it cannot be had, and the setting that changes it.
pub async fn bind(addr: SocketAddr, setting: &str) -> anyhow::Result<TcpListener> {
    match TcpListener::bind(addr).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            anyhow::bail!("{addr} is already in use: stop the other program or choose another address by {setting}")
        }
        Err(error) => Err(error).with_context(|| format!("failed to listen on {addr} ({setting})")),
    }
}

/// What clients may take of a server.
///
/// axum's own `serve` waits for a head for ever, which lets a few slow clients take every descriptor that we have.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Connections from the address that is connected to: those of this host, among them the health check.
    pub own_max: usize,
    /// Connections from elsewhere: whoever opens many and says nothing takes nothing from the health check.
    pub others_max: usize,
    /// From the connection, or the answer before, to the last byte of the head: also how long a connection may rest.
    pub head_timeout: Duration,
    /// The largest head; None for hyper's own bound of some 400 KiB.
    pub head_bytes_max: Option<usize>,
    /// For open requests at the end; None for as long as they take.
    pub drain: Option<Duration>,
    /// Connections that were closed at once because there were too many.
    pub refused: Counter,
}

/// A request's head must be here by then, and a connection without one ends. Longer than the minute for which load
/// balancers and scrapers keep a connection: who closes first must not be us.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// No port needs more connections at once.
const CONNECTIONS_MAX: usize = 4096;

/// Of all servers that are within the bounds of the process.
static REFUSED: OnceLock<Counter> = OnceLock::new();

/// How many connections this process has refused; None where it does not serve by [`serve`].
pub(crate) fn refused() -> Option<u64> {
    REFUSED.get().map(|refused| refused.get())
}

impl Bounds {
    /// Of the files that the process may open a quarter for those of this host and an eighth for the others.
    fn of_the_process() -> Self {
        let files = open_files_max();
        let part = |part: usize| (files / part).clamp(8, CONNECTIONS_MAX);
        Bounds {
            own_max: part(4),
            others_max: part(8),
            head_timeout: HEAD_TIMEOUT,
            head_bytes_max: None,
            drain: None,
            refused: REFUSED.get_or_init(Counter::default).clone(),
        }
    }
}

/// Serves HTTP/1.1 until the shutdown is ordered, then lets open requests end. The bounds are parts of the files that
/// the process may open.
///
/// # Errors
/// None at present: what cannot be accepted is tried again.
pub async fn serve(listener: TcpListener, router: Router, shutdown: Shutdown) -> anyhow::Result<()> {
    serve_within(Bounds::of_the_process(), listener, router, shutdown).await
}

/// As [`serve`], within other bounds. A connection too many is closed at once and counted.
///
/// # Errors
/// None at present: what cannot be accepted is tried again.
pub async fn serve_within(
    bounds: Bounds,
    listener: TcpListener,
    router: Router,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let [own, others] = [bounds.own_max, bounds.others_max].map(|max| Arc::new(Semaphore::new(max)));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(bounds.head_timeout);
    if let Some(bytes) = bounds.head_bytes_max {
        http.max_buf_size(bytes);
    }
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(ended) = connections.join_next(), if !connections.is_empty() => {
                note(ended);
                continue;
            }
            () = shutdown.requested() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // One that is gone already is its own affair; too many open files pass when some are closed.
                if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
                    tracing::warn!(error = %error, "a connection cannot be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                continue;
            }
        };
        let is_own = stream.local_addr().is_ok_and(|local| local.ip() == peer.ip());
        let Ok(slot) = Arc::clone(if is_own { &own } else { &others }).try_acquire_owned() else {
            let refused = bounds.refused.inc() + 1;
            if refused.is_power_of_two() {
                tracing::warn!(peer = %peer, refused, "too many connections, the new ones are closed");
            }
            continue;
        };
        let connection = connection(http.clone(), stream, peer, router.clone(), shutdown.clone());
        let connection = async move {
            connection.await;
            drop(slot);
        };
        connections.spawn(connection.instrument(tracing::info_span!("task", task = "connection")));
    }
    drop(listener);
    let drained = async {
        while let Some(ended) = connections.join_next().await {
            note(ended);
        }
    };
    match bounds.drain {
        Some(drain) => drop(tokio::time::timeout(drain, drained).await),
        None => drained.await,
    }
    Ok(())
}

/// How a connection ends is between the two sides: what matters was answered.
async fn connection(http: http1::Builder, stream: TcpStream, peer: SocketAddr, router: Router, shutdown: Shutdown) {
    let answer = hyper::service::service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        // A router is always ready.
        let mut router = router.clone();
        async move { router.call(request).await }
    });
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), answer));
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = shutdown.requested() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = %error, "HTTP connection");
    }
}

fn note(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(error = %error, "a connection's task panicked");
    }
}

/// The soft limit, which the container's definition or its host sets.
fn open_files_max() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was read until the other side closed.
    async fn read_all(stream: &mut tokio::net::TcpStream) -> String {
        use tokio::io::AsyncReadExt;
        let mut text = Vec::new();
        drop(stream.read_to_end(&mut text).await);
        String::from_utf8_lossy(&text).into_owned()
    }

    #[tokio::test]
    async fn open_requests_end_before_the_server_does() {
        use tokio::io::AsyncWriteExt;
        let release = Arc::new(tokio::sync::Notify::new());
        let (begun, wait) = (Arc::new(tokio::sync::Notify::new()), release.clone());
        let said = begun.clone();
        let slow = move |ConnectInfo(peer): ConnectInfo<SocketAddr>| async move {
            said.notify_one();
            wait.notified().await;
            peer.ip().to_string()
        };
        let listener = bind(([127, 0, 0, 1], 0).into(), "test").await.expect("port 0");
        let addr = listener.local_addr().expect("bound");
        let shutdown = Shutdown::new();
        let router = Router::new().route("/", axum::routing::get(slow));
        let server = crate::task::spawn("server", serve(listener, router, shutdown.clone()));
        let mut stream = tokio::net::TcpStream::connect(addr).await.expect("listens");
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("written");
        begun.notified().await;
        shutdown.request();
        tokio::task::yield_now().await;
        assert!(!server.is_finished(), "a request is open");
        release.notify_one();
        let answer = read_all(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("127.0.0.1"), "{answer}");
        server.await.expect("no panic").expect("ends well");
        assert!(tokio::net::TcpStream::connect(addr).await.is_err(), "nobody listens any more");
    }

    fn tight(refused: &Counter) -> Bounds {
        Bounds {
            own_max: 3,
            others_max: 1,
            head_timeout: Duration::from_secs(30),
            head_bytes_max: Some(8 * 1024),
            drain: Some(Duration::from_secs(2)),
            refused: refused.clone(),
        }
    }

    #[tokio::test]
    async fn connections_beyond_the_bound_are_closed_and_counted() {
        use tokio::io::AsyncWriteExt;
        let listener = bind(([127, 0, 0, 1], 0).into(), "test").await.expect("port 0");
        let addr = listener.local_addr().expect("bound");
        let (refused, shutdown) = (Counter::default(), Shutdown::new());
        let router = Router::new().route("/", axum::routing::get(|| async { "hello" }));
        let serving = serve_within(tight(&refused), listener, router, shutdown.clone());
        let server = crate::task::spawn("server", serving);
        let mut idle = Vec::new();
        for _ in 0..3 {
            idle.push(TcpStream::connect(addr).await.expect("connects"));
        }
        let mut one_more = TcpStream::connect(addr).await.expect("connects");
        assert_eq!(read_all(&mut one_more).await, "", "closed");
        assert_eq!(refused.get(), 1);
        let mut first = idle.swap_remove(0);
        first.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.expect("sent");
        assert!(read_all(&mut first).await.ends_with("hello"));
        let head = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(16 * 1024));
        let mut long = idle.swap_remove(0);
        drop(long.write_all(head.as_bytes()).await);
        let answer = read_all(&mut long).await;
        assert!(!answer.contains("200 OK"), "{answer}");
        shutdown.request();
        server.await.expect("no panic").expect("ends well");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_does_not_end_is_cut_off_when_the_time_for_it_is_up() {
        use tokio::io::AsyncWriteExt;
        let listener = bind(([127, 0, 0, 1], 0).into(), "test").await.expect("port 0");
        let addr = listener.local_addr().expect("bound");
        let begun = Arc::new(tokio::sync::Notify::new());
        let said = begun.clone();
        let endless = move || async move {
            said.notify_one();
            std::future::pending::<()>().await;
        };
        let (router, shutdown) = (Router::new().route("/", axum::routing::get(endless)), Shutdown::new());
        let serving = serve_within(tight(&Counter::default()), listener, router, shutdown.clone());
        let server = crate::task::spawn("server", serving);
        let mut stream = TcpStream::connect(addr).await.expect("listens");
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("written");
        begun.notified().await;
        let ordered = tokio::time::Instant::now();
        shutdown.request();
        server.await.expect("no panic").expect("ends well");
        assert_eq!(ordered.elapsed().as_secs(), 2);
        assert_eq!(read_all(&mut stream).await, "", "cut off");
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_is_shown_the_door() {
        let listener = bind(([127, 0, 0, 1], 0).into(), "test").await.expect("port 0");
        let addr = listener.local_addr().expect("bound");
        let shutdown = Shutdown::new();
        let server = crate::task::spawn("server", serve(listener, Router::new(), shutdown.clone()));
        let mut stream = tokio::net::TcpStream::connect(addr).await.expect("listens");
        let begun = tokio::time::Instant::now();
        read_all(&mut stream).await;
        assert!(
            (HEAD_TIMEOUT..HEAD_TIMEOUT + Duration::from_secs(1)).contains(&begun.elapsed()),
            "{:?}",
            begun.elapsed()
        );
        shutdown.request();
        server.await.expect("no panic").expect("ends well");
    }

    #[tokio::test]
    async fn a_taken_port_names_the_setting_that_changes_it() {
        let first = bind(([127, 0, 0, 1], 0).into(), "--listen").await.expect("port 0");
        let taken = first.local_addr().expect("bound");
        let error = bind(taken, "--listen").await.expect_err("taken");
        assert_eq!(
            error.to_string(),
            format!("{taken} is already in use: stop the other program or choose another address by --listen")
        );
    }
}
