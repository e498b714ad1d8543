//! The app's metrics by statsd and DogStatsD: datagrams by UDP and by unix socket.
//!
//! In: lines, several in a datagram. Out: series in an [`Aggregate`], which the exposition reads: counts become
//! counters, gauges gauges, timers, histograms and distributions histograms (timers in seconds), sets the number of
//! their members in a minute. Events and service checks are counted and go no further. Nobody is answered, so nobody
//! is slowed; what the kernel's buffer cannot hold is lost to it.

pub mod parse;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family as MetricFamily;
use service::metrics::Metrics;
use service::{Shutdown, Tasks};
use telemetry::LabelsBuilder;
use telemetry::names::{sidecar as names, without_total};
use tokio::net::{UdpSocket, UnixDatagram};

use self::parse::{Kind, Line, Metric};
use crate::pipeline::aggregate::{Aggregate, Event, Outcome, Shape, member};

#[derive(Clone, Debug, Default)]
pub struct Config {
    /// UDP; None: not taken in.
    pub listen: Option<SocketAddr>,
    /// The address was asked for and is not merely the default: not getting it is a fault.
    pub listen_asked_for: bool,
    /// A unix datagram socket.
    pub socket: Option<PathBuf>,
}

/// The largest datagram there is.
const DATAGRAM_MAX: usize = 64 * 1024;
/// Datagrams that are handled before others get their turn.
const TURN: usize = 64;
/// Of one metric; more labels are a mistake.
const TAGS_MAX: usize = 50;
const TAG_VALUE_MAX: usize = 250;

/// Prometheus' own default, in seconds.
pub const SECONDS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Of quantities that nobody has told the unit of.
const QUANTITIES: &[f64] = &[
    0.001, 0.01, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1e3, 2.5e3, 5e3, 1e4, 1e5, 1e6,
];

/// Bound, not yet running.
#[derive(Default)]
pub struct Sockets {
    udp: Option<UdpSocket>,
    unix: Option<UnixDatagram>,
}

impl Config {
    /// Takes the port and the socket.
    pub async fn bind(&self, problems: &mut Vec<String>) -> Sockets {
        let mut sockets = Sockets::default();
        if let Some(addr) = self.listen {
            match UdpSocket::bind(addr).await {
                Ok(socket) => sockets.udp = Some(socket),
                Err(error) if self.listen_asked_for => {
                    problems.push(format!("SIDECAR_STATSD_LISTEN (statsd.listen): no statsd on {addr}: {error}"));
                }
                Err(error) => {
                    tracing::warn!(addr = %addr, error = %error, "no statsd is taken in: the default port is taken");
                }
            }
        }
        if let Some(path) = &self.socket {
            match bind_unix(path) {
                Ok(socket) => sockets.unix = Some(socket),
                Err(error) => problems
                    .push(format!("SIDECAR_STATSD_SOCKET (statsd.socket): no statsd on {}: {error}", path.display())),
            }
        }
        sockets
    }
}

/// A socket that a killed predecessor left behind is taken over.
fn bind_unix(path: &std::path::Path) -> std::io::Result<UnixDatagram> {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};
    if std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket()) {
        std::fs::remove_file(path)?;
    }
    let socket = UnixDatagram::bind(path)?;
    // The app runs under another user.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok(socket)
}

impl Sockets {
    pub fn udp_addr(&self) -> Option<SocketAddr> {
        self.udp.as_ref().and_then(|socket| socket.local_addr().ok())
    }

    /// None where nothing is listened to.
    pub fn build(self, aggregate: Aggregate, metrics: &Metrics) -> Option<Statsd> {
        if self.udp.is_none() && self.unix.is_none() {
            return None;
        }
        let handler = Handler::new(aggregate, metrics);
        Some(Statsd { sockets: self, handler })
    }
}

pub struct Statsd {
    sockets: Sockets,
    handler: Handler,
}

impl Statsd {
    pub async fn run(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let Statsd { sockets: Sockets { udp, unix }, handler } = self;
        let mut tasks = Tasks::new();
        if let Some(socket) = udp {
            let (handler, shutdown) = (handler.clone(), shutdown.clone());
            tasks.spawn("statsd_udp", async move {
                let mut buffer = vec![0; DATAGRAM_MAX];
                loop {
                    tokio::select! {
                        ready = socket.readable() => ready?,
                        () = shutdown.requested() => return Ok(()),
                    }
                    for _ in 0..TURN {
                        let Ok(length) = socket.try_recv(&mut buffer) else { break };
                        handler.datagram(&buffer[..length]);
                    }
                    tokio::task::yield_now().await;
                }
            });
        }
        if let Some(socket) = unix {
            let shutdown = shutdown.clone();
            tasks.spawn("statsd_unix", async move {
                let mut buffer = vec![0; DATAGRAM_MAX];
                loop {
                    tokio::select! {
                        ready = socket.readable() => ready?,
                        () = shutdown.requested() => return Ok(()),
                    }
                    for _ in 0..TURN {
                        let Ok(length) = socket.try_recv(&mut buffer) else { break };
                        handler.datagram(&buffer[..length]);
                    }
                    tokio::task::yield_now().await;
                }
            });
        }
        tasks.run(shutdown, std::time::Duration::from_secs(1)).await
    }
}

type ByWhat = MetricFamily<[(&'static str, &'static str); 1], Counter>;

/// Turns datagrams into events.
#[derive(Clone)]
pub struct Handler {
    aggregate: Aggregate,
    lines: ByWhat,
    refused: ByWhat,
    known: [&'static str; 3],
    /// Gauges that were once changed by `+n`: of these alone `-n` is a change as well, as statsd has it. To DogStatsD,
    /// which never writes a plus, it is a value below zero.
    relative: Arc<Mutex<HashSet<String>>>,
}

/// More gauges than this are not remembered as relative.
const RELATIVE_MAX: usize = 1000;

impl Handler {
    pub fn new(aggregate: Aggregate, metrics: &Metrics) -> Self {
        let (lines, refused) = (ByWhat::default(), ByWhat::default());
        let known = ["metric", "event", "service_check"];
        for what in known {
            drop(lines.get_or_create(&[("kind", what)]));
        }
        for reason in ["malformed", "value", "conflict_or_too_many"] {
            drop(refused.get_or_create(&[("reason", reason)]));
        }
        metrics.register(|r| {
            r.register(without_total(names::STATSD_LINES_TOTAL), "Lines of statsd taken in", lines.clone());
            r.register(without_total(names::STATSD_REFUSED_TOTAL), "Lines of statsd refused", refused.clone());
        });
        Handler { aggregate, lines, refused, known, relative: Arc::default() }
    }

    pub fn datagram(&self, datagram: &[u8]) {
        for line in datagram.split(|b| *b == b'\n').map(<[u8]>::trim_ascii_end).filter(|line| !line.is_empty()) {
            let what = match parse::parse(line) {
                None => {
                    self.refuse("malformed");
                    continue;
                }
                Some(Line::Event) => self.known[1],
                Some(Line::ServiceCheck) => self.known[2],
                Some(Line::Metric(metric)) => {
                    self.metric(&metric);
                    self.known[0]
                }
            };
            self.lines.get_or_create(&[("kind", what)]).inc();
        }
    }

    fn refuse(&self, reason: &'static str) {
        self.refused.get_or_create(&[("reason", reason)]).inc();
    }

    fn metric(&self, metric: &Metric<'_>) {
        let mut builder = LabelsBuilder::default();
        for (key, value) in parse::tags(metric.tags).take(TAGS_MAX) {
            let end = value.char_indices().nth(TAG_VALUE_MAX).map_or(value.len(), |(at, _)| at);
            let name = parse::plain_name(key);
            // `le` is the histogram's own; a name with two underscores in front belongs to Prometheus.
            let name = if name == "le" || name.starts_with("__") { format!("tag_{name}") } else { name };
            builder.set(&name, &value[..end]);
        }
        let labels = builder.build();
        let plain = parse::plain_name(metric.name);
        let (name, shape, help) = match metric.kind {
            Kind::Count if plain.ends_with("_total") => (plain, Shape::Counter, "Counter by statsd."),
            Kind::Count => (format!("{plain}_total"), Shape::Counter, "Counter by statsd."),
            Kind::Gauge => (plain, Shape::Gauge, "Gauge by statsd."),
            Kind::Timer if plain.ends_with("_seconds") => (plain, Shape::Histogram(SECONDS), "Timer by statsd."),
            Kind::Timer => (format!("{plain}_seconds"), Shape::Histogram(SECONDS), "Timer by statsd."),
            Kind::Histogram => (plain, Shape::Histogram(QUANTITIES), "Histogram by statsd."),
            Kind::Set => (plain, Shape::Set, "Members of a set by statsd, within a minute."),
        };
        for text in metric.values.iter() {
            let Some(event) = self.event(metric, text) else {
                self.refuse("value");
                continue;
            };
            if self.aggregate.take((&name, help), &labels, shape, &event, None) == Outcome::Refused {
                self.refuse("conflict_or_too_many");
            }
        }
    }

    fn event(&self, metric: &Metric<'_>, text: &str) -> Option<Event> {
        if metric.kind == Kind::Set {
            return Some(Event::Member(member(text.as_bytes())));
        }
        let value: f64 = text.parse().ok().filter(|value: &f64| value.is_finite())?;
        Some(match metric.kind {
            // A counter does not go back.
            Kind::Count if value < 0.0 => return None,
            Kind::Count => Event::Add(value / metric.rate),
            Kind::Gauge if self.is_change(metric.name, text) => Event::Add(value),
            Kind::Gauge => Event::Set(value),
            Kind::Timer => Event::Observe { value: value / 1000.0, weight: 1.0 / metric.rate },
            Kind::Histogram | Kind::Set => Event::Observe { value, weight: 1.0 / metric.rate },
        })
    }

    fn is_change(&self, name: &str, text: &str) -> bool {
        let mut relative = self.relative.lock().expect("no one panics holding it");
        match text.as_bytes().first() {
            Some(b'+') => {
                if relative.len() < RELATIVE_MAX && !relative.contains(name) {
                    relative.insert(name.to_owned());
                }
                true
            }
            Some(b'-') => relative.contains(name),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use telemetry::exposition::{Format, write};

    fn handler() -> (Handler, Metrics) {
        let metrics = Metrics::new();
        (Handler::new(Aggregate::new(100, 10), &metrics), metrics)
    }

    #[test]
    fn a_datagram_of_every_kind_becomes_series() {
        let (handler, metrics) = handler();
        handler.datagram(
            b"below:-3|g\ntemp:-1|g\npage.views:1|c|#path:/,service:web\npage.views:1|c|@0.1|#path:/,service:web\ntemp:20|g\ntemp:+2|g\ntemp:-1|g\n\
              req:250|ms\nsize:3:300|d|@0.5\nusers:a|s\nusers:b|s\nusers:a|s\n_e{1,1}:a|b\n_sc|db|0\nrubbish\nc:-1|c\ntemp:1|c\n",
        );
        let text = write(&handler.aggregate.families(), Format::Prometheus);
        for line in [
            r#"page_views_total{path="/",service="web"} 11"#,
            "temp 21",
            "below -3",
            "temp_total 1",
            r#"req_seconds_bucket{le="0.1"} 0"#,
            r#"req_seconds_bucket{le="0.25"} 1"#,
            "req_seconds_sum 0.25",
            "size_count 4",
            "size_sum 606",
            "users 2",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\nnot in\n{text}");
        }
        let own = metrics.expose();
        for line in [
            "sidecar_statsd_lines_total{kind=\"metric\"} 14",
            "sidecar_statsd_lines_total{kind=\"event\"} 1",
            "sidecar_statsd_lines_total{kind=\"service_check\"} 1",
            "sidecar_statsd_refused_total{reason=\"malformed\"} 1",
            "sidecar_statsd_refused_total{reason=\"value\"} 1",
        ] {
            assert!(own.lines().any(|l| l == line), "{line}\nnot in\n{own}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
            handler().0.datagram(&body);
        }
    }
}
