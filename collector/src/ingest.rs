//! Samples pushed in, by tasks that nobody can scrape: remote write 1.0 and 2.0 at `POST /api/v1/write`, OTLP metrics
//! at `POST /api/v1/otlp/v1/metrics`.
//!
//! In: requests. Out: batches to the writer; the answer waits until they are stored. What is sound in a request is
//! stored even where another part of it is not: then the answer is 400, which senders do not repeat. Every refusal is
//! counted by its reason. Bodies and the requests that are read at a time are bounded; one that finds no place within
//! [`PLACE_WAIT`] is answered with 503 and a time to come back.

pub mod otlp;
mod remote_write;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use serde::{Deserialize, Serialize};
use service::metrics::Metrics;
use storage::{AppendReport, RefusedCounts};
use telemetry::exposition::Exemplar;
use telemetry::{HistogramSample, Labels, Sample, Timestamp};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::clock::Clock;
use crate::remote_write::FamilyMetadata;
use crate::write::{Origin, WriteHandle};

/// How long a request waits for its turn before it is sent away.
const PLACE_WAIT: Duration = Duration::from_secs(5);
/// What it is told then.
const RETRY_AFTER_SECS: &str = "5";

/// The `ingest:` block.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Take remote write.
    pub remote_write: bool,
    /// Take OTLP metrics.
    pub otlp: bool,
    /// Of a request, after decompression.
    #[serde(with = "service::config::byte_size")]
    pub body_size_limit: u64,
    /// Requests that are read at the same time: together with the limit of their size, the memory that they take.
    pub concurrency_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config { remote_write: true, otlp: true, body_size_limit: 32 << 20, concurrency_max: 8 }
    }
}

impl Config {
    /// # Errors
    /// A limit under which nothing could come in.
    pub fn check(&self) -> Result<(), String> {
        match () {
            () if self.concurrency_max == 0 => Err("ingest: concurrency_max cannot be 0".to_owned()),
            () if self.body_size_limit == 0 => Err("ingest: body_size_limit cannot be 0".to_owned()),
            () => Ok(()),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    protocol: &'static str,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProtocolLabels {
    protocol: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedLabels {
    protocol: &'static str,
    reason: &'static str,
}

#[derive(Clone, Default)]
struct IngestMetrics {
    requests: Family<RequestLabels, Counter>,
    samples: Family<ProtocolLabels, Counter>,
    refused: Family<RefusedLabels, Counter>,
}

impl IngestMetrics {
    fn register(metrics: &Metrics) -> Self {
        let own = IngestMetrics::default();
        metrics.register(|r| {
            r.register("collector_ingest_requests", "Requests that push samples in, by answer", own.requests.clone());
            r.register("collector_ingest_samples", "Samples pushed in and stored", own.samples.clone());
            let help = "Samples, histograms and exemplars pushed in and not stored, by reason";
            r.register("collector_ingest_refused", help, own.refused.clone());
        });
        own
    }

    fn stored(&self, protocol: &'static str, count: usize) {
        self.samples.get_or_create(&ProtocolLabels { protocol }).inc_by(count as u64);
    }

    fn refused(&self, protocol: &'static str, reason: &'static str, count: usize) {
        if count > 0 {
            self.refused.get_or_create(&RefusedLabels { protocol, reason }).inc_by(count as u64);
        }
    }

    fn refused_by_storage(&self, protocol: &'static str, refused: &RefusedCounts) {
        for (reason, count) in refused.iter() {
            self.refused(protocol, reason.as_str(), usize::try_from(count).unwrap_or(usize::MAX));
        }
    }
}

/// The stage; cheap to clone.
#[derive(Clone)]
pub struct Ingest(Arc<Inner>);

struct Inner {
    config: Config,
    write: WriteHandle,
    clock: Clock,
    metrics: IngestMetrics,
    places: Semaphore,
    otlp: otlp::Otlp,
}

impl Ingest {
    pub fn new(config: &Config, otlp: &otlp::Config, write: WriteHandle, clock: Clock, metrics: &Metrics) -> Self {
        Ingest(Arc::new(Inner {
            config: config.clone(),
            write,
            clock,
            metrics: IngestMetrics::register(metrics),
            places: Semaphore::new(config.concurrency_max),
            otlp: otlp::Otlp::new(otlp, clock),
        }))
    }

    /// What the configuration lets in.
    pub fn router(&self) -> Router {
        let mut router = Router::new();
        if self.0.config.remote_write {
            let ingest = self.clone();
            let handle = move |request: Request| async move { remote_write::handle(&ingest.0, request).await };
            router = router.route("/api/v1/write", post(handle));
        }
        if self.0.config.otlp {
            let ingest = self.clone();
            let handle = move |request: Request| async move { otlp::handle(&ingest.0, request).await };
            router = router.route("/api/v1/otlp/v1/metrics", post(handle));
        }
        router
    }
}

/// A request that is not read; the text is for the sender's log.
#[derive(Debug)]
struct Refused {
    status: StatusCode,
    /// Also the metric's label.
    reason: &'static str,
    message: String,
}

impl Refused {
    fn new(status: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Refused { status, reason, message: message.into() }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = (self.status, format!("{}\n", self.message)).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECS));
        }
        response
    }
}

impl Inner {
    /// A place among the requests that are read.
    async fn place(&self) -> Result<SemaphorePermit<'_>, Refused> {
        match tokio::time::timeout(PLACE_WAIT, self.places.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "too many requests at a time")),
        }
    }

    /// The body as sent, within the limit.
    async fn body(&self, body: Body) -> Result<Bytes, Refused> {
        let limit = usize::try_from(self.config.body_size_limit).unwrap_or(usize::MAX);
        let mut stream = body.into_data_stream();
        let mut bytes = BytesMut::new();
        while let Some(chunk) = stream.next().await {
            let broken =
                |e| Refused::new(StatusCode::BAD_REQUEST, "broken_off", format!("failed to read the body: {e}"));
            let chunk = chunk.map_err(broken)?;
            if bytes.len() + chunk.len() > limit {
                let message = format!("the body is larger than {limit} bytes (ingest.body_size_limit)");
                return Err(Refused::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    }

    /// Stores what came in and counts what became of it. Exemplars that are not kept are no fault of the sender: the
    /// store's metrics tell of them.
    async fn store(&self, protocol: &'static str, pushed: Pushed) -> Result<Stored, Refused> {
        let stopping = |_| Refused::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "the collector is stopping");
        let mut stored = Stored::default();
        if !pushed.samples.is_empty() {
            let report = self.write.write(pushed.samples, Origin::Pushed).await.map_err(stopping)?;
            stored.samples = self.count(protocol, &report, "", &mut stored.refused);
        }
        if !pushed.histograms.is_empty() {
            let report = self.write.write_histograms(pushed.histograms, Origin::Pushed).await.map_err(stopping)?;
            stored.histograms = self.count(protocol, &report, " histograms", &mut stored.refused);
        }
        if !pushed.metadata.is_empty() {
            self.write.metadata(pushed.metadata.into_values().collect());
        }
        let now = self.clock.now();
        let exemplars = pushed.exemplars.into_iter().map(|(series, exemplar)| (series, dated(exemplar, now)));
        stored.exemplars = self.write.exemplars(exemplars.collect());
        Ok(stored)
    }

    /// Counts a report; returns how many were stored.
    fn count(&self, protocol: &'static str, report: &AppendReport, what: &str, refused: &mut Vec<String>) -> usize {
        self.metrics.stored(protocol, report.appended);
        self.metrics.refused_by_storage(protocol, &report.refused);
        refused.extend(report.refused.iter().map(|(reason, count)| format!("{count}{what} {}", reason.as_str())));
        report.appended
    }

    /// Counts a request by its answer.
    fn answered(&self, protocol: &'static str, response: Response) -> Response {
        let labels = RequestLabels { protocol, code: response.status().as_u16() };
        self.metrics.requests.get_or_create(&labels).inc();
        response
    }
}

/// What a request brings.
#[derive(Debug, Default)]
struct Pushed {
    samples: Vec<Sample>,
    histograms: Vec<HistogramSample>,
    /// With the labels of their series.
    exemplars: Vec<(Labels, Exemplar)>,
    /// By metric family, for those that it is sent on to.
    metadata: HashMap<String, FamilyMetadata>,
}

/// An exemplar as the store has it; one without a time is as old as its arrival.
fn dated(exemplar: Exemplar, now: Timestamp) -> storage::Exemplar {
    let Exemplar { labels, value, timestamp } = exemplar;
    storage::Exemplar { labels, value, timestamp: timestamp.unwrap_or(now) }
}

/// What of a batch was stored, and why the rest was not.
#[derive(Debug, Default)]
struct Stored {
    samples: usize,
    histograms: usize,
    exemplars: usize,
    /// `12 out_of_order`
    refused: Vec<String>,
}

fn text_header<'h>(headers: &'h HeaderMap, name: &HeaderName) -> &'h str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
