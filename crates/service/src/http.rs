//! Listening and serving.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tower::Service;

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

/// A request's head must be here by then, and a connection without one ends. Longer than the minute for which load
/// balancers and scrapers keep a connection: who closes first must not be us.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// No port needs more connections at once.
const CONNECTIONS_MAX: usize = 4096;

/// Connections that were closed at once because there were too many.
static REFUSED: OnceLock<AtomicU64> = OnceLock::new();

/// How many connections this process has refused; None where it does not serve by [`serve`].
pub(crate) fn refused() -> Option<u64> {
    REFUSED.get().map(|refused| refused.load(Ordering::Relaxed))
}

/// Serves HTTP/1.1 until the shutdown is ordered, then lets open requests end.
///
/// Connections have a bound, of the files that the process may open a quarter for those of this host and an eighth
/// for the others: a stranger who opens many and says nothing takes nothing from the health check. One too many is
/// closed at once and counted.
///
/// # Errors
/// None at present: what cannot be accepted is tried again.
pub async fn serve(listener: TcpListener, router: Router, shutdown: Shutdown) -> anyhow::Result<()> {
    let (open, refused) = (GracefulShutdown::new(), REFUSED.get_or_init(AtomicU64::default));
    let slots = |part: usize| Arc::new(Semaphore::new((open_files_max() / part).clamp(8, CONNECTIONS_MAX)));
    let (own, others) = (slots(4), slots(8));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
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
        let slots = if is_own { &own } else { &others };
        let Ok(slot) = Arc::clone(slots).try_acquire_owned() else {
            let before = refused.fetch_add(1, Ordering::Relaxed);
            if before == 0 || before.is_power_of_two() {
                tracing::warn!(peer = %peer, refused = before + 1, "too many connections, the new ones are closed");
            }
            continue;
        };
        let router = router.clone();
        let answer = hyper::service::service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            // A router is always ready.
            let mut router = router.clone();
            async move { router.call(request).await }
        });
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
        let connection = open.watch(http.serve_connection(TokioIo::new(stream), answer));
        crate::task::spawn("connection", async move {
            // How a connection ends is between the two sides: what matters was answered.
            drop(connection.await);
            drop(slot);
        });
    }
    drop(listener);
    open.shutdown().await;
    Ok(())
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
