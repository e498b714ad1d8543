//! Posts what the log holds, oldest first, as many requests at a time as have no series in common, and decides what
//! an answer means.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, RETRY_AFTER};
use reqwest::{Method, StatusCode};
use service::Shutdown;
use service::backoff::Backoff;
use telemetry::Timestamp;
use telemetry::remote_write::Message;
use tokio::time::Instant;
use url::Url;

use super::counts::Counts;
use super::log::{Place, Record};
use super::metrics::RemoteSeries;
use super::older::as_v1;
use super::shards::{Shard, Shards};
use super::{Config, FLUSH_MAX, QueueConfig, Shared};
use crate::clock::Clock;
use crate::http_client::HttpClient;

const VERSION: HeaderName = HeaderName::from_static("x-prometheus-remote-write-version");
/// A server may ask for more; it is asked again after this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// How often it is noted what has been sent; after a kill so much is sent twice, which receivers take.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);
/// Of an answer's text, for the log.
const QUOTED_MAX: usize = 200;
/// Of bodies that were read ahead from the log.
const AHEAD_BYTES_MAX: usize = 32 << 20;

/// Reads ahead in the log, and has several requests on their way.
pub(super) struct Sender {
    shared: Arc<Shared>,
    courier: Arc<Courier>,
    ahead: VecDeque<(Place, Record)>,
    under_way: FuturesUnordered<BoxFuture<'static, (Place, Shard)>>,
    /// Of what is under way.
    shards: Vec<Shard>,
    shards_max: usize,
    capacity: u64,
    saved: Instant,
    /// When sending ends whatever is left; known once the stop was ordered.
    deadline: Option<Instant>,
}

/// Takes one batch at a time to the server, until there is nothing more to be done about it.
struct Courier {
    url: Url,
    client: HttpClient,
    series: RemoteSeries,
    clock: Clock,
    shutdown: Shutdown,
    queue: QueueConfig,
    name: String,
    /// The server has refused 2.0 as such; batches become 1.0 on their way.
    speaks_v1_only: AtomicBool,
    /// Since the last success.
    failures: AtomicU32,
}

/// What an answer means for the batch.
#[derive(Debug, PartialEq)]
enum Verdict {
    Taken,
    /// Of all so many were not.
    Partly {
        failed: Counts,
        why: String,
    },
    Again {
        after: Option<Duration>,
        why: String,
    },
    Never(String),
}

impl Sender {
    pub(super) fn new(
        config: &Config,
        url: Url,
        client: HttpClient,
        shared: Arc<Shared>,
        series: RemoteSeries,
        clock: Clock,
        shutdown: Shutdown,
    ) -> Self {
        let (name, queue) = (config.shown_name(), config.queue_config.clone());
        let shards_max = Shards::new(&queue).count_max();
        Sender {
            shared,
            shards_max,
            capacity: (queue.capacity as u64).saturating_mul(shards_max as u64),
            courier: Arc::new(Courier {
                url,
                client,
                series,
                clock,
                shutdown,
                queue,
                name,
                speaks_v1_only: AtomicBool::new(false),
                failures: AtomicU32::new(0),
            }),
            ahead: VecDeque::new(),
            under_way: FuturesUnordered::new(),
            shards: Vec::new(),
            saved: Instant::now(),
            deadline: None,
        }
    }

    /// Runs until the log is closed and empty, or until the time for flushing it is over.
    pub(super) async fn run(mut self) -> anyhow::Result<()> {
        while self.step().await {}
        self.shared.log().save();
        Ok(())
    }

    /// Sends what may be sent and waits for something to happen. False when there is no more to do.
    async fn step(&mut self) -> bool {
        // Looked at first: what comes last is there before the log is closed.
        let is_closed = self.shared.log().is_closed();
        self.read_ahead();
        self.send_off();
        if self.under_way.is_empty() {
            if is_closed && self.ahead.is_empty() {
                return false;
            }
            self.shared.log().save();
        }
        let (shutdown, shared, deadline) = (self.courier.shutdown.clone(), self.shared.clone(), self.deadline);
        tokio::select! {
            Some((place, shard)) = self.under_way.next() => self.arrived(place, shard),
            () = shared.changed.notified() => {}
            () = shutdown.requested(), if deadline.is_none() => self.deadline = Some(Instant::now() + FLUSH_MAX),
            () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => return false,
        }
        true
    }

    fn read_ahead(&mut self) {
        while self.has_room() {
            let next = self.shared.log().next();
            match next {
                Ok(Some(next)) => self.ahead.push_back(next),
                Ok(None) => return,
                Err(lost) => lost.into_iter().for_each(|(reason, counts)| self.courier.series.dropped(reason, counts)),
            }
        }
    }

    fn has_room(&self) -> bool {
        let records = self.ahead.iter().map(|(_, record)| record);
        let (items, bytes) =
            records.fold((0, 0), |(items, bytes), record| (items + record.counts.total(), bytes + record.body.len()));
        let has_room = items < self.capacity && bytes < AHEAD_BYTES_MAX && self.ahead.len() < 2 * self.shards_max;
        self.ahead.is_empty() || has_room
    }

    /// Everything that has no series in common with what is under way, or with what is older and waits.
    fn send_off(&mut self) {
        let mut i = 0;
        while i < self.ahead.len() && self.under_way.len() < self.shards_max {
            let shard = self.ahead[i].1.shard;
            let older = self.ahead.iter().take(i).map(|(_, record)| record.shard);
            if older.chain(self.shards.iter().copied()).any(|other| other.overlaps(shard)) {
                i += 1;
                continue;
            }
            let Some((place, record)) = self.ahead.remove(i) else { return };
            self.shards.push(shard);
            let courier = self.courier.clone();
            self.under_way.push(Box::pin(async move {
                courier.deliver(record).await;
                (place, shard)
            }));
        }
    }

    fn arrived(&mut self, place: Place, shard: Shard) {
        if let Some(at) = self.shards.iter().position(|other| *other == shard) {
            self.shards.swap_remove(at);
        }
        let mut log = self.shared.log();
        log.done(place);
        if self.saved.elapsed() >= SAVE_INTERVAL {
            log.save();
            self.saved = Instant::now();
        }
        let (bytes, pending, failing) = (log.bytes(), log.pending(), log.is_failing());
        drop(log);
        self.courier.series.pending(pending);
        self.courier.series.log(bytes, failing);
    }
}

impl Courier {
    async fn deliver(&self, mut record: Record) {
        let limit = self.queue.sample_age_limit;
        let is_dated = record.newest > Timestamp(i64::MIN);
        if is_dated && !limit.is_zero() && self.clock.now().since(record.newest) > limit {
            return self.series.dropped("too_old", record.counts);
        }
        let mut attempts = 0;
        loop {
            let started = Instant::now();
            match self.post(&mut record).await {
                Verdict::Taken => return self.taken(&record, Counts::NONE, started.elapsed()),
                Verdict::Partly { failed, why } => {
                    tracing::warn!(remote = self.name, ?failed, why, "remote storage refused samples");
                    return self.taken(&record, failed, started.elapsed());
                }
                Verdict::Never(why) => {
                    let refused = &record.counts;
                    tracing::error!(remote = self.name, ?refused, why, "remote storage refused a batch");
                    return self.series.failed(record.counts);
                }
                Verdict::Again { after, why } => {
                    if self.failures.fetch_add(1, Ordering::Relaxed) == 0 {
                        tracing::warn!(remote = self.name, why, "remote storage takes no samples, they wait");
                    }
                    self.series.retried(record.counts);
                    let backoff = Backoff::new(self.queue.min_backoff, self.queue.max_backoff).delay(attempts);
                    attempts = (attempts + 1).min(20);
                    self.wait(after.unwrap_or(Duration::ZERO).max(backoff)).await;
                }
            }
        }
    }

    fn taken(&self, record: &Record, failed: Counts, took: Duration) {
        self.series.failed(failed);
        self.series.sent(record.counts - failed, record.body.len(), record.newest, took);
        let failures = self.failures.swap(0, Ordering::Relaxed);
        if failures > 0 {
            tracing::info!(remote = self.name, failures, "remote storage takes samples again");
        }
    }

    /// A stop cuts the wait short, to one more attempt; further ones are cut off by the sender's deadline.
    async fn wait(&self, wait: Duration) {
        let was_requested = self.shutdown.is_requested();
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = self.shutdown.requested(), if !was_requested => {}
        }
    }

    /// Sends a batch; one of 2.0 becomes 1.0 where the server knows no other, as the specification of 2.0 has it.
    async fn post(&self, record: &mut Record) -> Verdict {
        loop {
            if record.message == Message::V2 && self.speaks_v1_only.load(Ordering::Relaxed) {
                match as_v1(record) {
                    Ok((older, lost)) => {
                        self.series.dropped("nhcb_in_rw1_not_supported", lost);
                        *record = older;
                    }
                    Err(error) => return Verdict::Never(format!("a batch of 2.0 that cannot be read again: {error}")),
                }
            }
            match self.post_as_is(record).await {
                Ok(verdict) => return verdict,
                Err(UnsupportedMediaType) if record.message == Message::V2 => {
                    let why = "HTTP status 415: the server does not take remote write 2.0";
                    if !self.speaks_v1_only.swap(true, Ordering::Relaxed) {
                        tracing::warn!(remote = self.name, why, "remote write falls back to 1.0");
                    }
                }
                Err(UnsupportedMediaType) => {
                    return Verdict::Never("HTTP status 415: the server does not take remote write 1.0".to_owned());
                }
            }
        }
    }

    async fn post_as_is(&self, record: &Record) -> Result<Verdict, UnsupportedMediaType> {
        let message = record.message;
        let headers = [
            (CONTENT_TYPE, message.content_type()),
            (CONTENT_ENCODING, Message::ENCODING),
            (VERSION, message.version()),
        ];
        let response = match self.client.send(Method::POST, &self.url, &headers, record.body.clone()).await {
            Ok(response) => response,
            Err(error) => return Ok(Verdict::Again { after: None, why: error.to_string() }),
        };
        if response.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            return Err(UnsupportedMediaType);
        }
        let (status, headers) = (response.status(), response.headers().clone());
        let text = if status.is_success() { String::new() } else { first_line(response).await };
        Ok(judge(status, &headers, &text, record, &self.queue, self.clock.now().as_millis()))
    }
}

/// The server does not know the message.
struct UnsupportedMediaType;

fn judge(
    status: StatusCode,
    headers: &HeaderMap,
    text: &str,
    record: &Record,
    queue: &QueueConfig,
    now_ms: i64,
) -> Verdict {
    let why = || format!("HTTP status {status}: {text}");
    let throttled = status == StatusCode::TOO_MANY_REQUESTS && queue.retry_on_http_429;
    if status.is_server_error() || throttled {
        return Verdict::Again { after: retry_after(headers, now_ms), why: why() };
    }
    if record.message == Message::V1 {
        return if status.is_success() { Verdict::Taken } else { Verdict::Never(why()) };
    }
    let Some(written) = written(headers) else {
        return Verdict::Never(match status.is_success() {
            true => "the answer has no X-Prometheus-Remote-Write-Samples-Written: the receiver does not speak 2.0, \
                     set protobuf_message to prometheus.WriteRequest"
                .to_owned(),
            false => why(),
        });
    };
    // Metadata goes with its series; nobody says what became of it.
    let failed = Counts { metadata: 0, ..record.counts - written };
    match failed.is_none() {
        true => Verdict::Taken,
        false if status.is_success() || !written.is_none() => Verdict::Partly { failed, why: why() },
        false => Verdict::Never(why()),
    }
}

/// What a receiver of 2.0 says that it has stored; a header that is not there says nothing of its kind was.
fn written(headers: &HeaderMap) -> Option<Counts> {
    let names =
        [Message::SAMPLES_WRITTEN_HEADER, Message::HISTOGRAMS_WRITTEN_HEADER, Message::EXEMPLARS_WRITTEN_HEADER];
    let [samples, histograms, exemplars] =
        names.map(|name| headers.get(name).and_then(|value| value.to_str().ok()?.parse::<u64>().ok()));
    let says_any = samples.or(histograms).or(exemplars).is_some();
    says_any.then(|| Counts::of([samples, histograms, exemplars, None].map(Option::unwrap_or_default)))
}

/// Seconds, or a date.
fn retry_after(headers: &HeaderMap, now_ms: i64) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
            Duration::from_millis(u64::try_from(at.as_millisecond() - now_ms).unwrap_or(0))
        }
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

async fn first_line(mut response: reqwest::Response) -> String {
    let mut body = Vec::new();
    while body.len() < QUOTED_MAX {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            _ => break,
        }
    }
    body.truncate(QUOTED_MAX);
    String::from_utf8_lossy(&body).lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
