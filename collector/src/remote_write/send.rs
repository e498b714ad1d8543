//! Posts what the log holds, oldest first, and decides what an answer means.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, RETRY_AFTER};
use reqwest::{Method, StatusCode};
use service::Shutdown;
use service::backoff::Backoff;
use telemetry::Labels;
use telemetry::remote_write::{DecodeError, Decoder, Encoder, Limits, Message, TimeSeries, decompress};
use tokio::time::Instant;
use url::Url;

use super::log::{Place, Record};
use super::metrics::RemoteSeries;
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

pub(super) struct Sender {
    url: Url,
    client: HttpClient,
    shared: Arc<Shared>,
    series: RemoteSeries,
    clock: Clock,
    shutdown: Shutdown,
    queue: QueueConfig,
    name: String,
    /// The server has refused 2.0 as such; batches become 1.0 on their way.
    speaks_v1_only: bool,
    failures: u32,
    saved: Instant,
    /// When sending ends whatever is left; known once the stop was ordered.
    deadline: Option<Instant>,
}

/// What an answer means for the batch.
#[derive(Debug, PartialEq)]
enum Verdict {
    Taken,
    /// Of all samples so many were not.
    Partly {
        failed: u64,
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
        Sender {
            url,
            client,
            shared,
            series,
            clock,
            shutdown,
            queue,
            name,
            speaks_v1_only: false,
            failures: 0,
            saved: Instant::now(),
            deadline: None,
        }
    }

    /// Runs until the log is closed and empty, or until the time for flushing it is over.
    pub(super) async fn run(mut self) -> anyhow::Result<()> {
        while self.next().await {}
        self.shared.log().save();
        Ok(())
    }

    async fn next(&mut self) -> bool {
        if self.shutdown.is_requested() {
            let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + FLUSH_MAX);
            if Instant::now() >= deadline {
                return false;
            }
        }
        let first = self.shared.log().first();
        match first {
            Ok(Some((place, record))) => self.process(place, record).await,
            Ok(None) => {
                if self.shared.log().is_closed() {
                    return false;
                }
                self.shared.log().save();
                match self.deadline {
                    // The batcher may still have something.
                    Some(deadline) => drop(tokio::time::timeout_at(deadline, self.shared.changed.notified()).await),
                    None => tokio::select! {
                        () = self.shared.changed.notified() => {}
                        () = self.shutdown.requested() => {}
                    },
                }
            }
            Err(lost) => lost.into_iter().for_each(|(reason, samples)| self.series.dropped(reason, samples)),
        }
        true
    }

    async fn process(&mut self, place: Place, record: Record) {
        let limit = self.queue.sample_age_limit;
        if !limit.is_zero() && self.clock.now().since(record.newest) > limit {
            self.series.dropped("too_old", record.samples);
            return self.done(place, record.samples);
        }
        let started = Instant::now();
        let verdict = self.post(&record).await;
        match verdict {
            Verdict::Taken | Verdict::Partly { .. } => {
                let mut sent = record.samples;
                if let Verdict::Partly { failed, why } = verdict {
                    sent = sent.saturating_sub(failed);
                    self.series.failed(failed);
                    tracing::warn!(remote = self.name, samples = failed, why, "remote storage refused samples");
                }
                self.series.sent(sent, record.body.len(), record.newest, started.elapsed());
                if self.failures > 0 {
                    tracing::info!(remote = self.name, failures = self.failures, "remote storage takes samples again");
                }
                self.failures = 0;
                self.done(place, record.samples);
            }
            Verdict::Never(why) => {
                tracing::error!(remote = self.name, samples = record.samples, why, "remote storage refused a batch");
                self.series.failed(record.samples);
                self.done(place, record.samples);
            }
            Verdict::Again { after, why } => {
                if self.failures == 0 {
                    tracing::warn!(remote = self.name, why, "remote storage takes no samples, they wait");
                }
                self.series.retried(record.samples);
                let backoff = Backoff::new(self.queue.min_backoff, self.queue.max_backoff).delay(self.failures.min(20));
                self.failures += 1;
                self.wait(after.unwrap_or(Duration::ZERO).max(backoff)).await;
            }
        }
    }

    /// A stop cuts the wait short: to the deadline, or to one more attempt.
    async fn wait(&self, wait: Duration) {
        match self.deadline {
            Some(deadline) => tokio::time::sleep_until((Instant::now() + wait).min(deadline)).await,
            None => tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.shutdown.requested() => {}
            },
        }
    }

    fn done(&mut self, place: Place, samples: u64) {
        let mut log = self.shared.log();
        log.done(place, samples);
        if self.saved.elapsed() >= SAVE_INTERVAL {
            log.save();
            self.saved = Instant::now();
        }
        let (bytes, pending, failing) = (log.bytes(), log.pending_samples(), log.is_failing());
        drop(log);
        self.series.pending(pending);
        self.series.log(bytes, failing);
    }

    /// Sends a batch; one of 2.0 as 1.0 where the server knows no other, as the specification of 2.0 has it.
    async fn post(&mut self, record: &Record) -> Verdict {
        if record.message == Message::V2 && !self.speaks_v1_only {
            match self.post_as_is(record).await {
                Ok(verdict) => return verdict,
                Err(UnsupportedMediaType) => {
                    let why = "HTTP status 415: the server does not take remote write 2.0";
                    tracing::warn!(remote = self.name, why, "remote write falls back to 1.0");
                    self.speaks_v1_only = true;
                }
            }
        }
        let older = match record.message {
            Message::V1 => None,
            Message::V2 => match as_v1(record) {
                Ok(older) => Some(older),
                Err(error) => return Verdict::Never(format!("a batch of 2.0 that cannot be read again: {error}")),
            },
        };
        let record = older.as_ref().unwrap_or(record);
        let refused = || Verdict::Never("HTTP status 415: the server does not take remote write 1.0".to_owned());
        self.post_as_is(record).await.unwrap_or_else(|UnsupportedMediaType| refused())
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

/// A batch of 2.0 as one of 1.0.
fn as_v1(record: &Record) -> Result<Record, DecodeError> {
    let limits = Limits { message_bytes_max: usize::MAX, ..Limits::default() };
    let bytes = decompress(&record.body, &limits)?;
    let mut decoder = Decoder::new(Message::V2, &bytes, &limits)?;
    let mut encoder = Encoder::new(Message::V1);
    while let Some(series) = decoder.next_series()? {
        let labels = Labels::from_pairs(series.labels.iter().copied());
        encoder.series(&TimeSeries::of_samples(&labels, &series.samples));
    }
    let Record { samples, newest, .. } = *record;
    Ok(Record { message: Message::V1, samples, newest, body: encoder.finish().into() })
}

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
    let written = headers.get(Message::SAMPLES_WRITTEN_HEADER).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    match (status.is_success(), record.message, written) {
        (true, Message::V1, _) => Verdict::Taken,
        (true, Message::V2, None) => Verdict::Never(
            "the answer has no X-Prometheus-Remote-Write-Samples-Written: the receiver does not speak 2.0, \
             set protobuf_message to prometheus.WriteRequest"
                .to_owned(),
        ),
        (true, Message::V2, Some(written)) if written >= record.samples => Verdict::Taken,
        (_, Message::V2, Some(written)) if written > 0 => {
            Verdict::Partly { failed: record.samples.saturating_sub(written), why: why() }
        }
        _ => Verdict::Never(why()),
    }
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
