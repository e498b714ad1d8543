//! Log events by Fluent Forward protocol v1: from the log driver of FireLens, and from Fluent's libraries.
//!
//! In: connections on TCP and on a unix socket. Out: lines, handed to the intake; a record with a text under
//! `log` is that line, any other record becomes JSON. Promises to acknowledge a message only when it has
//! been taken over, and to read on while the pipeline is full: the oldest lines give way, counted.
//! No shared key, no TLS: bind to loopback.

mod decode;
mod msgpack;

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use service::metrics::Metrics;
use telemetry::names::{sidecar as names, without_total};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::decode::{Event, decode};
use self::msgpack::Scanner;
use super::Stop;
use super::file_tail::STOP_QUIET;
use crate::pipeline::intake::Intake;
use crate::pipeline::partials::{Joined, Partials, Piece};
use crate::pipeline::queue::WhenFull;

#[derive(Clone, Debug, Default)]
pub struct Config {
    /// TCP, usually 127.0.0.1:24224; None: not served.
    pub listen: Option<SocketAddr>,
    /// The unix socket, under FireLens /var/run/fluent.sock; None: not served.
    pub socket: Option<PathBuf>,
}

/// Of one message. Fluent Bit sends chunks of up to 2 MB.
const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
const READ_BYTES: usize = 16 * 1024;
/// A buffer that grew for a large message is given back when it is empty.
const KEPT_BUFFER_BYTES: usize = 64 * 1024;
/// A task has ten containers at most, each with one connection; more come from a client that leaks them.
const CONNECTIONS_MAX: usize = 64;

/// The two listeners, bound before anything starts.
#[derive(Default)]
pub struct Listeners {
    tcp: Option<TcpListener>,
    unix: Option<UnixListener>,
}

pub struct FluentForward {
    listeners: Listeners,
    connection: Connection,
}

/// What every connection needs.
#[derive(Clone)]
struct Connection {
    intake: Intake,
    open: Gauge,
    refused: Counter,
}

impl Config {
    /// Takes what can be had; what cannot is a fault to be told of.
    pub async fn bind(&self, problems: &mut Vec<String>) -> Listeners {
        let mut listeners = Listeners::default();
        if let Some(addr) = self.listen {
            match service::http::bind(addr, "SIDECAR_FLUENT_LISTEN").await {
                Ok(listener) => listeners.tcp = Some(listener),
                Err(error) => problems.push(format!("no log events are taken in by TCP: {error:#}")),
            }
        }
        if let Some(path) = &self.socket {
            // A socket that was left behind keeps its name.
            let _ = std::fs::remove_file(path);
            match UnixListener::bind(path) {
                Ok(listener) => listeners.unix = Some(listener),
                Err(error) => problems.push(format!(
                    "no log events are taken in by SIDECAR_FLUENT_SOCKET: cannot make {}: {error}",
                    path.display()
                )),
            }
        }
        listeners
    }
}

impl Listeners {
    pub fn tcp_addr(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|l| l.local_addr().ok())
    }

    /// None where nothing is to be served.
    pub fn build(self, intake: Intake, metrics: &Metrics) -> Option<FluentForward> {
        if self.tcp.is_none() && self.unix.is_none() {
            return None;
        }
        let (open, refused) = (Gauge::default(), Counter::default());
        metrics.register(|r| {
            r.register(names::FORWARD_CONNECTIONS, "Open connections of Fluent Forward", open.clone());
            r.register(
                without_total(names::FORWARD_REFUSED_TOTAL),
                "Messages of Fluent Forward that could not be taken",
                refused.clone(),
            );
        });
        Some(FluentForward { listeners: self, connection: Connection { intake, open, refused } })
    }
}

impl FluentForward {
    /// Serves until it is told to stop and every connection has ended or is quiet.
    pub async fn run(self, stop: Stop) -> anyhow::Result<()> {
        let FluentForward { listeners: Listeners { tcp, unix }, connection } = self;
        let mut connections = JoinSet::new();
        loop {
            let full = connections.len() >= CONNECTIONS_MAX;
            tokio::select! {
                accepted = accept_tcp(tcp.as_ref()), if !full => {
                    let stream = accepted.context("failed to accept a connection of Fluent Forward")?;
                    connections.spawn(connection.clone().serve(stream, stop.clone()));
                }
                accepted = accept_unix(unix.as_ref()), if !full => {
                    let stream = accepted.context("failed to accept a connection on the Fluent socket")?;
                    connections.spawn(connection.clone().serve(stream, stop.clone()));
                }
                Some(ended) = connections.join_next() => ended.context("a connection of Fluent Forward panicked")?,
                () = stop.when_quiet.requested() => break,
            }
        }
        while let Some(ended) = connections.join_next().await {
            ended.context("a connection of Fluent Forward panicked")?;
        }
        Ok(())
    }
}

async fn accept_tcp(listener: Option<&TcpListener>) -> std::io::Result<tokio::net::TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

async fn accept_unix(listener: Option<&UnixListener>) -> std::io::Result<tokio::net::UnixStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

/// What one message comes to, in order.
#[derive(Default)]
struct Lines {
    partials: Partials,
    ready: Vec<Joined>,
}

impl Connection {
    async fn serve<S: AsyncRead + AsyncWrite + Unpin>(self, stream: S, stop: Stop) {
        self.open.inc();
        let mut lines = Lines::default();
        if let Err(error) = self.read(stream, &mut lines, stop).await {
            tracing::warn!(error = format!("{error:#}"), "connection of Fluent Forward closed");
        }
        // Whatever the reason, the stream has ended: so have its lines.
        let rest = lines.partials.finish();
        lines.ready.extend(rest);
        self.hand_on(&mut lines).await;
        self.open.dec();
    }

    async fn read<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut stream: S,
        lines: &mut Lines,
        stop: Stop,
    ) -> anyhow::Result<()> {
        let mut buffer: Vec<u8> = Vec::with_capacity(READ_BYTES);
        let mut scanner = Scanner::new();
        let (mut last_bytes, mut stopping) = (Instant::now(), false);
        loop {
            let quiet_at = last_bytes + STOP_QUIET;
            let overdue_at = lines.partials.next_overdue();
            buffer.reserve(READ_BYTES);
            tokio::select! {
                read = stream.read_buf(&mut buffer) => match read.context("failed to read")? {
                    0 => return Ok(()),
                    _ => last_bytes = Instant::now(),
                },
                () = tokio::time::sleep_until(overdue_at.unwrap_or(quiet_at)), if overdue_at.is_some() => {
                    let overdue = lines.partials.overdue();
                    lines.ready.extend(overdue);
                }
                // The quiet time counts from the order to stop.
                () = stop.when_quiet.requested(), if !stopping => (stopping, last_bytes) = (true, Instant::now()),
                () = stop.now.requested() => return Ok(()),
                () = tokio::time::sleep_until(quiet_at), if stopping => return Ok(()),
            }
            let mut taken = 0;
            while let Some(end) = scanner.end(&buffer[taken..])? {
                let ack = self.take(&buffer[taken..taken + end], lines);
                self.hand_on(lines).await;
                if let Some(chunk) = ack {
                    stream.write_all(&decode::ack(&chunk)).await.context("failed to acknowledge")?;
                }
                taken += end;
                scanner = Scanner::new();
            }
            self.hand_on(lines).await;
            anyhow::ensure!(
                scanner.needed() <= MESSAGE_BYTES_MAX,
                "a message is larger than {} MiB",
                MESSAGE_BYTES_MAX >> 20
            );
            buffer.drain(..taken);
            if buffer.is_empty() && buffer.capacity() > KEPT_BUFFER_BYTES {
                buffer = Vec::with_capacity(READ_BYTES);
            }
        }
    }

    /// Decodes one message; the id to acknowledge it by, where it asks for that.
    fn take(&self, message: &[u8], lines: &mut Lines) -> Option<Vec<u8>> {
        match decode(message, |_tag, event| lines.add(&event)) {
            Ok(wants) => wants.ack,
            Err(error) => {
                self.refused.inc();
                tracing::warn!(error = %error, "message of Fluent Forward refused");
                None
            }
        }
    }

    async fn hand_on(&self, lines: &mut Lines) {
        for line in lines.ready.drain(..) {
            self.intake.accept(&line.text, line.time, WhenFull::DropOldest).await;
        }
    }
}

impl Lines {
    fn add(&mut self, event: &Event<'_>) {
        let time = event.time.unwrap_or_else(super::now);
        let Some(text) = event.text("log") else {
            return self.ready.extend(event.to_json().map(|json| Joined { text: json.into_bytes(), time }));
        };
        if event.text("partial_message") == Some(b"true") {
            let field = |key| event.text(key).unwrap_or_default();
            let (id, source, last) = (field("partial_id"), field("source"), field("partial_last") == b"true");
            return self.ready.extend(self.partials.add(Piece { id, source, last, text, time }));
        }
        self.ready.push(Joined { text: text.to_vec(), time });
    }
}

#[cfg(test)]
mod tests;
