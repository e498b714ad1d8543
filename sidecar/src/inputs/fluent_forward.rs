//! Log events by Fluent Forward protocol v1: from the log driver of FireLens, and from Fluent's libraries.
//!
//! In: connections on TCP and on a unix socket. Out: lines, handed to the intake; a record with a text under
//! `log` is that line, any other record becomes JSON. Promises to acknowledge a message only when it has
//! been taken over, and to read on while the pipeline is full: the oldest lines give way, counted.
//! After the order to stop it reads to the end of every stream: the log driver hands over what it still has for seconds
//! after its container has ended. No shared key, no TLS: bind to loopback.

mod clock;
pub mod decode;
mod msgpack;
mod socket;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use service::metrics::Metrics;
use telemetry::Timestamp;
use telemetry::names::{sidecar as names, without_total};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::decode::{Driven, Event, LogFields, decode};
use self::msgpack::Scanner;
use self::socket::{Socket, Source};
use super::Stop;
use crate::outputs::destination::container_of;
use crate::pipeline::intake::{Intake, Stream};
use crate::pipeline::partials::{Joined, Partials, Piece};
use crate::pipeline::route::Origin;

#[derive(Clone, Debug, Default)]
pub struct Config {
    /// TCP, usually 127.0.0.1:24224; None: not served.
    pub listen: Option<SocketAddr>,
    /// The unix socket, under FireLens /var/run/fluent.sock; None: not served.
    pub socket: Option<PathBuf>,
}

/// Of one message. Fluent Bit sends chunks of up to 2 MB.
const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
const READ_BYTES: usize = 64 * 1024;
/// Between two reads of a stream of which much comes: a driver writes record by record, and waking up for each would
/// cost more than everything else. A unix socket holds a good ninety records, at 10,000 a second those of nine
/// milliseconds.
const PAUSE: Duration = Duration::from_millis(8);
/// The same where little comes. At 1,000 records a second a look costs as much as a dozen records: what it needs has left the
/// caches since the last one. Longer pauses save more, but what lies in the socket is lost with a killed process.
const PAUSE_QUIET: Duration = Duration::from_millis(25);
/// More than this at a time behind the long pause is much …
const MUCH_BYTES: usize = 48 * 1024;
/// … and less than this behind the short one is little.
const LITTLE_BYTES: usize = 16 * 1024;
/// So many messages at a time come from a busy stream, which is looked at by the clock (see [`socket`]).
const MANY_MESSAGES: usize = 4;
/// After the order to stop, a stream that has not ended by itself is read until it was silent for this long …
const STOP_QUIET: Duration = Duration::from_secs(2);
/// … and for as long as the log driver lingers behind a container that has ended (5 s, at most 12).
const STOP_LINGER: Duration = Duration::from_secs(6);
/// And for so long a stream may still be opened: a container that lived for a moment is only now connecting.
const STOP_OPEN: Duration = Duration::from_secs(1);
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
        let (mut stopping, mut last_change) = (false, Instant::now());
        loop {
            let full = connections.len() >= CONNECTIONS_MAX;
            let alone = stopping && connections.is_empty();
            tokio::select! {
                accepted = accept_tcp(tcp.as_ref()), if !full => {
                    let stream = accepted.context("failed to accept a connection of Fluent Forward")?;
                    connections.spawn(connection.clone().serve(stream, stop.clone()));
                    last_change = Instant::now();
                }
                accepted = accept_unix(unix.as_ref()), if !full => {
                    let stream = accepted.context("failed to accept a connection on the Fluent socket")?;
                    connections.spawn(connection.clone().serve(stream, stop.clone()));
                    last_change = Instant::now();
                }
                Some(ended) = connections.join_next() => {
                    ended.context("a connection of Fluent Forward panicked")?;
                    last_change = Instant::now();
                }
                () = stop.when_quiet.requested(), if !stopping => (stopping, last_change) = (true, Instant::now()),
                () = tokio::time::sleep_until(last_change + STOP_OPEN), if alone => break,
                () = stop.now.requested() => break,
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

/// What a connection remembers between its messages.
#[derive(Default)]
struct Lines {
    partials: Partials,
    /// The streams of this connection; a driver has two.
    streams: Vec<(Origin, Stream)>,
    tag: Vec<u8>,
}

/// A connection with more tags than this is no log driver's; their streams are looked up each time.
const STREAMS_KEPT: usize = 8;

impl Connection {
    async fn serve<S: Socket>(self, stream: S, stop: Stop) {
        self.open.inc();
        let mut lines = Lines::default();
        if let Err(error) = self.read(stream, &mut lines, stop).await {
            tracing::warn!(error = format!("{error:#}"), "connection of Fluent Forward closed");
        }
        // Whatever the reason, the stream has ended: so have its lines.
        let rest = lines.partials.finish();
        lines.hand_on(&self.intake, rest);
        self.intake.commit();
        self.open.dec();
    }

    async fn read<S: Socket>(&self, stream: S, lines: &mut Lines, stop: Stop) -> anyhow::Result<()> {
        let mut source = Source::new(stream);
        // What has come and is no whole message yet stands in the first `filled` bytes.
        let (mut buffer, mut filled) = (vec![0; READ_BYTES], 0);
        let mut scanner = Scanner::new();
        let (mut last_bytes, mut stopping, mut pause) = (Instant::now(), None, PAUSE_QUIET);
        // Asked for once: to ask anew with every read would be to queue up and leave again each time.
        let (stop_when_quiet, stop_now) = (stop.when_quiet.requested(), stop.now.requested());
        tokio::pin!(stop_when_quiet, stop_now);
        loop {
            let linger = stopping.map_or(last_bytes, |since: Instant| since + STOP_LINGER);
            let quiet_at = linger.max(last_bytes + STOP_QUIET);
            let overdue_at = lines.partials.next_overdue();
            if buffer.len() < filled + READ_BYTES / 2 {
                buffer.resize(filled + READ_BYTES, 0);
            }
            let (room, mut came) = (buffer.len() - filled, 0);
            // Made when they are waited for.
            let sleep_until = async |at: Instant| tokio::time::sleep_until(at).await;
            tokio::select! {
                read = source.read(&mut buffer[filled..]) => match read.context("failed to read")? {
                    0 => return Ok(()),
                    length => (last_bytes, came) = (Instant::now(), length),
                },
                () = sleep_until(overdue_at.unwrap_or(quiet_at)), if overdue_at.is_some() => {
                    let overdue = lines.partials.overdue();
                    lines.hand_on(&self.intake, overdue);
                }
                // The quiet time counts from the order to stop.
                () = &mut stop_when_quiet, if stopping.is_none() => {
                    (stopping, last_bytes) = (Some(Instant::now()), Instant::now());
                }
                () = &mut stop_now => return Ok(()),
                () = sleep_until(quiet_at), if stopping.is_some() => return Ok(()),
            }
            filled += came;
            let (mut taken, mut messages, mut acks) = (0, 0, Vec::new());
            loop {
                while let Some((length, count)) = lines.add_driven(&self.intake, &buffer[taken..filled]) {
                    (taken, messages) = (taken + length, messages + count);
                    scanner = Scanner::new();
                }
                let Some(end) = scanner.end(&buffer[taken..filled])? else { break };
                acks.extend(self.take(&buffer[taken..taken + end], lines));
                (taken, messages) = (taken + end, messages + 1);
                scanner = Scanner::new();
            }
            self.intake.commit();
            for chunk in &acks {
                source.write_all(&decode::ack(chunk)).await.context("failed to acknowledge")?;
            }
            anyhow::ensure!(
                scanner.needed() <= MESSAGE_BYTES_MAX,
                "a message is larger than {} MiB",
                MESSAGE_BYTES_MAX >> 20
            );
            buffer.copy_within(taken..filled, 0);
            filled -= taken;
            if filled == 0 && buffer.len() > KEPT_BUFFER_BYTES {
                buffer = vec![0; READ_BYTES];
            }
            // A read that filled the buffer has left something behind.
            if taken > 0 && came < room {
                let much = if pause == PAUSE { LITTLE_BYTES } else { MUCH_BYTES };
                pause = if came < much { PAUSE_QUIET } else { PAUSE };
                source.pause(pause, messages >= MANY_MESSAGES && acks.is_empty()).await.context("failed to pause")?;
            }
        }
    }

    /// Decodes one message; the id to acknowledge it by, where it asks for that.
    fn take(&self, message: &[u8], lines: &mut Lines) -> Option<Vec<u8>> {
        match decode(message, |tag, event| lines.add(&self.intake, tag, &event)) {
            Ok(wants) => wants.ack,
            Err(error) => {
                self.refused.inc();
                tracing::warn!(error = %error, "message of Fluent Forward refused");
                None
            }
        }
    }
}

impl Lines {
    fn add(&mut self, intake: &Intake, tag: &[u8], event: &Event<'_>) {
        let fields = event.log_fields();
        if fields.log.is_some() {
            return self.add_fields(intake, tag, event.time, fields);
        }
        // No log driver's: the record is the line.
        let Some(json) = event.to_json() else { return };
        let fields = LogFields { log: Some(json.as_bytes()), partial: None, ..fields };
        self.add_fields(intake, tag, event.time, fields);
    }

    /// Takes the log driver's messages that stand at the beginning and go together: one piece of a line, or all lines up to
    /// one of another stream. How many bytes and messages these are; None where none is whole.
    fn add_driven(&mut self, intake: &Intake, bytes: &[u8]) -> Option<(usize, usize)> {
        let first = Driven::line(bytes)?;
        if first.fields.partial.is_some() {
            self.add_fields(intake, first.tag, first.time, first.fields);
            return Some((first.length, 1));
        }
        self.set_tag(first.tag);
        let stream = self.stream(intake, first.fields.source.unwrap_or_default(), first.fields.container_name);
        let (mut next, mut length, mut count) = (Some(first), 0, 0);
        let lines = std::iter::from_fn(|| {
            let others = || Driven::line(&bytes[length..]).filter(|message| message.goes_with(&first));
            let message = next.take().or_else(others)?;
            (length, count) = (length + message.length, count + 1);
            Some((message.fields.log.unwrap_or_default(), message.time.unwrap_or_else(super::now)))
        });
        intake.accept_all(&stream, lines, None);
        Some((length, count))
    }

    fn add_fields(&mut self, intake: &Intake, tag: &[u8], time: Option<Timestamp>, fields: LogFields<'_>) {
        let time = time.unwrap_or_else(super::now);
        self.set_tag(tag);
        let LogFields { log, source, container_name, partial } = fields;
        let (source, text) = (source.unwrap_or_default(), log.unwrap_or_default());
        if let Some((id, last)) = partial {
            let whole = self.partials.add(Piece { id, source, last, text, time });
            return self.hand_on(intake, whole);
        }
        let stream = self.stream(intake, source, container_name);
        intake.accept(&stream, text, time, None);
    }

    fn set_tag(&mut self, tag: &[u8]) {
        if self.tag != tag {
            self.tag = tag.to_vec();
        }
    }

    fn hand_on(&mut self, intake: &Intake, lines: Vec<Joined>) {
        for line in lines {
            let stream = self.stream(intake, &line.source, None);
            intake.accept(&stream, &line.text, line.time, None);
        }
    }

    fn stream(&mut self, intake: &Intake, source: &[u8], container: Option<&[u8]>) -> Stream {
        let known = |origin: &Origin| origin.tag.as_bytes() == self.tag && origin.source.as_bytes() == source;
        if let Some((_, stream)) = self.streams.iter().find(|(origin, _)| known(origin)) {
            return stream.clone();
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let tag = text(&self.tag);
        let container = match container_of(&tag) {
            whole if whole == tag => container.map_or(tag.clone(), text),
            container => container.to_owned(),
        };
        let origin = Origin { container, source: text(source), tag };
        let stream = intake.stream(&origin);
        if self.streams.len() < STREAMS_KEPT {
            self.streams.push((origin, stream.clone()));
        }
        stream
    }
}

#[cfg(test)]
mod tests;
