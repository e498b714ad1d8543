//! The door through which every log line comes: choose, join, parse, strike out secrets, remember, hand on.
//!
//! One [`Stream`] per container and source: its lines belong together, its route is decided once. Everything happens
//! while the line lies in the input's buffer; a record is copied once, into the batches of its destinations.

mod turn;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use service::metrics::Metrics;
use telemetry::Timestamp;
use telemetry::log_record::Level;
use telemetry::names::{sidecar as names, without_total};
use tokio::sync::Notify;

use self::turn::Turn;
use super::account::{Account, Balance, DropReason};
use super::batch::Mark;
use super::choose::{self, Chooser};
use super::multiline::{Joined, Multiline, QUIET, Rule};
use super::parse::{self, Additions, Author, Scratch, write};
use super::redact::Patterns;
use super::route::{Origin, Route, Routes};
use super::signature::Signatures;
use crate::identity::Identity;
use crate::outputs::delivery::Delivery;
use crate::outputs::destination::LogsOutput;
use crate::outputs::sink::Sink;
use crate::recent::Recent;

/// What is done to lines.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where lines go that no route says anything of.
    pub output: LogsOutput,
    pub routes: Routes,
    pub choose: choose::Config,
    pub redact: Patterns,
    /// The trace id in X-Ray's form beside W3C's.
    pub xray: bool,
    /// By container's name; `None` stands for all others.
    pub multiline: Vec<(Option<String>, Rule)>,
    /// A longer line is cut and marked.
    pub line_bytes_max: usize,
}

impl Config {
    fn multiline_of(&self, container: &str) -> Rule {
        let named = self.multiline.iter().find(|(name, _)| name.as_deref() == Some(container));
        let others = || self.multiline.iter().find(|(name, _)| name.is_none());
        named.or_else(others).map_or(Rule::default(), |(_, rule)| *rule)
    }
}

/// Tags come from outside: beyond so many streams they share one.
const STREAMS_MAX: usize = 128;

const OTHER: &str = "other";

type Label = [(&'static str, String); 2];

/// Handed to every input that reads log lines; clones share everything.
#[derive(Clone)]
pub struct Intake(Arc<Inner>);

struct Inner {
    config: Config,
    author: Author,
    identity: Identity,
    account: Account,
    recent: Recent,
    delivery: Delivery,
    streams: Mutex<HashMap<Origin, Stream>>,
    buffers: Mutex<Buffers>,
    lines: Family<Label, Counter>,
    redacted: Counter,
    truncated: Counter,
    signatures: Signatures,
    /// A stream has begun to hold a line back.
    held: Notify,
}

/// Used again for every line.
#[derive(Default)]
struct Buffers {
    scratch: Scratch,
    line: Vec<u8>,
}

/// Where the lines of one container and source go, and what was held back of them.
#[derive(Clone)]
pub struct Stream(Arc<StreamState>);

struct StreamState {
    /// A sink, and what is added to lines that go there.
    outputs: Vec<(Sink, Additions)>,
    route: Route,
    counters: [Counter; 5],
    held: Mutex<Held>,
}

struct Held {
    multiline: Multiline,
    chooser: Chooser,
}

impl Intake {
    pub fn new(
        config: Config,
        identity: &Identity,
        account: Account,
        recent: Recent,
        delivery: Delivery,
        metrics: &Metrics,
    ) -> Self {
        let (redacted, truncated, lines) =
            (Counter::default(), Counter::default(), Family::<Label, Counter>::default());
        metrics.register(|r| {
            r.register(
                without_total(names::LOG_VALUES_REDACTED_TOTAL),
                "Values of secret keys struck out of log lines",
                redacted.clone(),
            );
            r.register(
                without_total(names::LOG_LINES_TRUNCATED_TOTAL),
                "Log lines cut at the longest allowed length",
                truncated.clone(),
            );
            r.register(
                without_total(names::LOG_RECORDS_TOTAL),
                "Log records by level and container, those that were left out included",
                lines.clone(),
            );
        });
        let author = Author {
            service: identity.service.clone(),
            version: identity.version.clone(),
            environment: identity.environment.clone(),
        };
        let signatures = Signatures::register(metrics);
        Intake(Arc::new(Inner {
            config,
            author,
            identity: identity.clone(),
            account,
            recent,
            delivery,
            streams: Mutex::default(),
            buffers: Mutex::default(),
            lines,
            redacted,
            truncated,
            signatures,
            held: Notify::new(),
        }))
    }

    /// The books of what was taken in, by all inputs together.
    pub fn balance(&self) -> Balance {
        self.0.account.balance()
    }

    /// The stream of an origin; ask once and keep it.
    pub fn stream(&self, origin: &Origin) -> Stream {
        let mut streams = self.0.streams.lock().expect("no one panics holding it");
        if let Some(stream) = streams.get(origin) {
            return stream.clone();
        }
        let stream = match streams.len() < STREAMS_MAX {
            true => self.build(origin),
            // The route is the tag's all the same; what is shared is the container's name on it.
            false => self.build(&Origin { container: OTHER.to_owned(), ..origin.clone() }),
        };
        if streams.len() < STREAMS_MAX {
            streams.insert(origin.clone(), stream.clone());
        }
        stream
    }

    fn build(&self, origin: &Origin) -> Stream {
        let config = &self.0.config;
        let mut route = config.routes.of(origin);
        if origin.container == OTHER {
            // Nobody holds such a stream, so nobody would let go what it holds back.
            route.multiline = Some(Rule::Off);
        }
        if route.outputs.is_empty() {
            route.outputs.push((config.output.clone(), false));
        }
        let outputs = route.outputs.iter().map(|(output, bare)| {
            let sink = self.0.delivery.sink(output.destination(&origin.tag, &self.0.identity));
            let members = if *bare { Vec::new() } else { members(origin, &route) };
            (sink, Additions { members, xray: config.xray })
        });
        let rule = route.multiline.unwrap_or_else(|| config.multiline_of(&origin.container));
        let container = if origin.container.is_empty() { "file" } else { &origin.container };
        let counters = Level::ALL.map(|level| {
            let label = [("level", level.as_str().to_owned()), ("container", container.to_owned())];
            self.0.lines.get_or_create_owned(&label)
        });
        Stream(Arc::new(StreamState {
            outputs: outputs.collect(),
            counters,
            held: Mutex::new(Held { multiline: Multiline::new(rule), chooser: Chooser::default() }),
            route,
        }))
    }

    /// Takes one line in, which was read at `now`. Never waits.
    pub fn accept(&self, stream: &Stream, line: &[u8], now: Timestamp, mark: Option<&Mark>) {
        self.accept_all(stream, std::iter::once((line, now)), mark);
    }

    /// Takes lines in, each with the time when it was read. Whoever has several does so at once: it costs less.
    pub fn accept_all<'l>(
        &self,
        stream: &Stream,
        lines: impl Iterator<Item = (&'l [u8], Timestamp)>,
        mark: Option<&Mark>,
    ) {
        let Held { multiline, chooser } = &mut *stream.0.held.lock().expect("no one panics holding it");
        let mut turn = Turn::begin(&self.0, stream);
        for (line, now) in lines {
            let line = line.trim_ascii_end();
            if line.is_empty() {
                continue;
            }
            let unwanted = stream.0.route.filters.iter().any(|(pattern, exclude)| pattern.is_match(line) == *exclude);
            if unwanted || !self.0.config.choose.wants_line(line) {
                self.0.account.enter_dropped(1, DropReason::Filtered);
                continue;
            }
            if multiline.passes(line) {
                turn.take(chooser, line, now, 1, mark);
                continue;
            }
            let (done, own) = multiline.add(line, now, mark);
            for Joined { text, at, lines, mark } in done.into_iter().chain(own) {
                turn.take(chooser, &text, at, lines, mark.as_ref());
            }
        }
        if multiline.holds() {
            self.0.held.notify_one();
        }
    }

    /// Takes a line of our own, which is what it should be: to the output that is configured, as it is.
    pub fn put(&self, line: &[u8], at: Timestamp, level: Level) {
        for (sink, _) in &self.stream(&Origin::default()).0.outputs {
            sink.push(line, at, level, 1, None);
        }
    }

    pub fn author(&self) -> &Author {
        &self.0.author
    }

    /// After a turn of an input: what was taken in survives the process, where there is a disk.
    pub fn commit(&self) {
        self.0.delivery.commit();
    }

    /// Lets go of lines whose continuation has not come, until it is dropped. Wakes while a line is held and only then.
    pub async fn watch_held(self) -> anyhow::Result<()> {
        loop {
            self.0.held.notified().await;
            while self.let_go(Multiline::overdue) {
                tokio::time::sleep(QUIET / 2).await;
            }
        }
    }

    /// The inputs have ended: nothing is held back any more.
    pub fn finish(&self) {
        self.let_go(Multiline::take);
    }

    /// Whether a line is still held.
    fn let_go(&self, of: impl Fn(&mut Multiline) -> Option<Joined>) -> bool {
        let streams: Vec<Stream> = self.0.streams.lock().expect("no one panics holding it").values().cloned().collect();
        let (mut any, mut holds) = (false, false);
        for stream in streams {
            let mut held = stream.0.held.lock().expect("no one panics holding it");
            if let Some(Joined { text, at, lines, mark }) = of(&mut held.multiline) {
                Turn::begin(&self.0, &stream).take(&mut held.chooser, &text, at, lines, mark.as_ref());
                any = true;
            }
            holds |= held.multiline.holds();
        }
        if any {
            self.commit();
        }
        holds
    }
}

impl Inner {
    fn count_signature(&self, line: &[u8]) {
        let line = std::str::from_utf8(line).expect("the parser writes UTF-8");
        let Some(message) = parse::scan::member(line, "message") else { return };
        match message.plain() {
            Some(text) => self.signatures.count(text),
            None => {
                let text = serde_json::from_str::<String>(message.value);
                self.signatures.count(text.as_deref().unwrap_or(message.value));
            }
        }
    }
}

impl Stream {
    /// Returns when there is room for more: for inputs that are buffers themselves.
    pub async fn room(&self) {
        for (sink, _) in &self.0.outputs {
            sink.room().await;
        }
    }

    pub fn has_room(&self) -> bool {
        self.0.outputs.iter().all(|(sink, _)| sink.has_room())
    }
}

/// The container's name and what the configuration adds.
fn members(origin: &Origin, route: &Route) -> Vec<u8> {
    let mut out = Vec::new();
    let own = [("container_name", &origin.container), ("source", &origin.source)];
    let own = own.into_iter().filter(|(_, value)| !value.is_empty());
    for (key, value) in own.chain(route.members.iter().map(|(key, value)| (key.as_str(), value))) {
        out.push(b',');
        write::quoted(key.as_bytes(), &mut out);
        out.push(b':');
        write::quoted(value.as_bytes(), &mut out);
    }
    out
}

fn marked_truncated(additions: &Additions) -> Additions {
    let mut marked = additions.clone();
    marked.members.extend_from_slice(b",\"truncated\":true");
    marked
}

/// An intake whose records go nowhere; what it took in is to be seen in its ring of recent lines.
#[cfg(test)]
pub mod testing {
    use super::*;
    use crate::outputs::delivery;

    pub fn config() -> Config {
        Config {
            output: LogsOutput::None,
            routes: Routes::default(),
            choose: choose::Config::default(),
            redact: Patterns::default(),
            xray: false,
            multiline: vec![(None, Rule::Off)],
            line_bytes_max: 1000,
        }
    }

    pub fn intake(config: Config, recent: Recent) -> (Intake, Metrics) {
        let metrics = Metrics::new();
        let account = Account::of_logs(&metrics, "none");
        let setup = delivery::to_nowhere(&account);
        let identity = setup.identity.clone();
        let delivery = Delivery::new(setup, &metrics);
        (Intake::new(config, &identity, account, recent, delivery, &metrics), metrics)
    }
}

#[cfg(test)]
#[path = "intake_tests.rs"]
mod tests;
