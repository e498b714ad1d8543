//! Traces, metrics and logs of the app by OTLP: over HTTP (protobuf or JSON) and over gRPC, gzip or none.
//!
//! In: a request. Out: spans in the queue of spans, with the task's attributes in their resource and otherwise as
//! they came; metrics as series for the exposition, and on to the backend; log records at the door of all log lines.
//! The app is always answered at once: a full queue gives up its oldest request, counted, and never slows the app.
//! A body that is no OTLP is refused with the reason.

pub mod body;
pub mod grpc;
pub mod json;
pub mod logs;
pub mod metrics;
pub mod resource;
pub mod spans;
pub mod wire;

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::State;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::{Bytes, BytesMut};
use prometheus_client::metrics::counter::Counter;
use service::metrics::Metrics;
use telemetry::names::{sidecar as names, without_total};
use tokio::net::TcpListener;
use tokio::time::Instant;

pub use self::body::Refusal;
use self::body::{Held, InFlight, unpack};
use self::metrics::OtlpSeries;
use self::resource::ResourceAttributes;
use self::wire::NotProtobuf;
use crate::pipeline::account::{Account, DropReason};
use crate::pipeline::intake::Intake;
use crate::pipeline::parse::Author;
use crate::pipeline::queue::{Queue, WhenFull};
use crate::pipeline::red::Red;
use crate::pipeline::route::Origin;
use crate::pipeline::sample::Sampler;
use crate::pipeline::spans::SpanBatch;

#[derive(Clone, Debug)]
pub struct Config {
    /// OTLP/HTTP; None: not taken in.
    pub listen: Option<SocketAddr>,
    /// OTLP/gRPC; None: not taken in.
    pub grpc_listen: Option<SocketAddr>,
    /// The gRPC address was asked for and is not merely the default: not getting it is a fault.
    pub grpc_asked_for: bool,
    /// Of one request, as sent.
    pub body_bytes_max: usize,
}

pub const PROTOBUF: &str = "application/x-protobuf";
pub const JSON: &str = "application/json";
/// For a body to come in.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Traces,
    Metrics,
    Logs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Protobuf,
    Json,
}

/// What becomes of what comes in.
#[derive(Clone)]
pub struct Destinations {
    pub account: Account,
    pub spans: Queue<SpanBatch>,
    pub attributes: ResourceAttributes,
    pub red: Option<Red>,
    pub sampler: Option<Sampler>,
    pub series: OtlpSeries,
    pub lines: Intake,
    pub author: Author,
}

#[derive(Clone)]
pub struct OtlpInput {
    to: Destinations,
    in_flight: InFlight,
    body_bytes_max: usize,
    refused: Counter,
    connections_refused: Counter,
    log_records: Counter,
    metric_points: Counter,
}

impl Config {
    /// Takes the port of gRPC; its default being taken is no fault.
    pub async fn bind_grpc(&self, problems: &mut Vec<String>) -> Option<TcpListener> {
        match service::http::bind(self.grpc_listen?, "SIDECAR_OTLP_GRPC_LISTEN").await {
            Ok(listener) => Some(listener),
            Err(error) if self.grpc_asked_for => {
                problems.push(format!("no OTLP over gRPC is taken in: {error:#}"));
                None
            }
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "no OTLP over gRPC is taken in");
                None
            }
        }
    }

    pub fn build(&self, to: Destinations, metrics: &Metrics) -> OtlpInput {
        let input = OtlpInput {
            to,
            in_flight: InFlight::default(),
            body_bytes_max: self.body_bytes_max,
            refused: Counter::default(),
            connections_refused: Counter::default(),
            log_records: Counter::default(),
            metric_points: Counter::default(),
        };
        for (name, help, counter) in [
            (names::OTLP_REQUESTS_REFUSED_TOTAL, "OTLP requests that were refused", &input.refused),
            (
                names::CONNECTIONS_REFUSED_TOTAL,
                "Connections refused because there were too many",
                &input.connections_refused,
            ),
            (names::OTLP_LOG_RECORDS_TOTAL, "Log records that came by OTLP", &input.log_records),
            (names::OTLP_METRIC_POINTS_TOTAL, "Data points that came by OTLP", &input.metric_points),
        ] {
            metrics.register(|r| r.register(without_total(name), help, counter.clone()));
        }
        input
    }
}

impl OtlpInput {
    pub fn router(&self) -> Router {
        Router::new()
            .route("/v1/traces", post(|input, request| answer(Signal::Traces, input, request)))
            .route("/v1/metrics", post(|input, request| answer(Signal::Metrics, input, request)))
            .route("/v1/logs", post(|input, request| answer(Signal::Logs, input, request)))
            .fallback(|| async {
                (StatusCode::NOT_FOUND, "OTLP is taken in at POST /v1/traces, /v1/metrics, /v1/logs")
            })
            .with_state(self.clone())
    }

    /// Room for a body that is to come.
    fn hold(&self) -> Held {
        self.in_flight.hold(self.body_bytes_max)
    }

    /// The count of connections that were one too many.
    pub fn connections_refused(&self) -> Counter {
        self.connections_refused.clone()
    }

    fn refused(&self) {
        self.refused.inc();
    }

    fn connection_refused(&self) {
        self.connections_refused.inc();
    }

    /// Takes a whole request in.
    ///
    /// # Errors
    /// Where it is no request of this kind.
    pub async fn take(&self, signal: Signal, encoding: Encoding, gzip: bool, body: Bytes) -> Result<(), Refusal> {
        let unpacked = if gzip { Bytes::from(unpack(&body)?) } else { body.clone() };
        let protobuf = match (encoding, signal) {
            (Encoding::Protobuf, _) => unpacked,
            (Encoding::Json, signal) => {
                let message = match signal {
                    Signal::Traces => &json::TRACES,
                    Signal::Metrics => &json::METRICS,
                    Signal::Logs => &json::LOGS,
                };
                Bytes::from(json::to_protobuf(&unpacked, message).map_err(Refusal::Malformed)?)
            }
        };
        let taken = match signal {
            Signal::Traces => self.traces(protobuf, (encoding, gzip, body)).await,
            Signal::Metrics => self.metrics(&protobuf),
            Signal::Logs => self.logs(&protobuf),
        };
        taken.map_err(|NotProtobuf| Refusal::Malformed(format!("body is not an OTLP {signal:?} request in protobuf")))
    }

    async fn traces(
        &self,
        request: Bytes,
        (encoding, gzip, original): (Encoding, bool, Bytes),
    ) -> Result<(), NotProtobuf> {
        let count = spans::count(&request)?;
        if count == 0 {
            return Ok(());
        }
        if let Some(red) = &self.to.red {
            red.observe(&request)?;
        }
        let batch = match (self.to.attributes.is_empty() && self.to.sampler.is_none(), encoding) {
            // Nothing to add: as it came.
            (true, encoding) => {
                let content_type = if encoding == Encoding::Json { JSON } else { PROTOBUF };
                let ticket = self.to.account.enter(count);
                SpanBatch { body: original, content_type, gzip, received: Instant::now(), ticket }
            }
            (false, _) => {
                let with = self.to.attributes.add_to(&request)?;
                if let Some(sampler) = &self.to.sampler {
                    return sampler.take(&with, &self.to.account).await;
                }
                let ticket = self.to.account.enter(count);
                let (content_type, received) = (PROTOBUF, Instant::now());
                SpanBatch { body: with.into_boxed_slice().into(), content_type, gzip: false, received, ticket }
            }
        };
        for displaced in self.to.spans.push(batch, WhenFull::DropOldest).await {
            let reason = if self.to.spans.is_closed() { DropReason::Stopped } else { DropReason::QueueFull };
            displaced.ticket.dropped(reason);
        }
        Ok(())
    }

    fn metrics(&self, request: &[u8]) -> Result<(), NotProtobuf> {
        self.metric_points.inc_by(self.to.series.take(request)?);
        Ok(())
    }

    fn logs(&self, request: &[u8]) -> Result<(), NotProtobuf> {
        let stream = self.to.lines.stream(&Origin { container: "otlp".to_owned(), ..Origin::default() });
        let take = |line: &[u8], at| self.to.lines.accept(&stream, line, at, None);
        let count = logs::lines(request, &self.to.author, super::now(), take)?;
        self.log_records.inc_by(count);
        self.to.lines.commit();
        Ok(())
    }
}

/// Answers with an empty Export…ServiceResponse in the request's own encoding.
async fn answer(signal: Signal, State(input): State<OtlpInput>, request: axum::extract::Request) -> Response {
    let (head, body) = request.into_parts();
    match over_http(signal, &input, &head.headers, body).await {
        Ok(Encoding::Json) => ([(CONTENT_TYPE, JSON)], "{}").into_response(),
        Ok(Encoding::Protobuf) => ([(CONTENT_TYPE, PROTOBUF)], Vec::new()).into_response(),
        Err((status, why)) => {
            input.refused();
            (status, why).into_response()
        }
    }
}

async fn over_http(
    signal: Signal,
    input: &OtlpInput,
    headers: &HeaderMap,
    body: Body,
) -> Result<Encoding, (StatusCode, String)> {
    let header = |name| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let unsupported = |message: String| Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    let encoding = match header(CONTENT_TYPE).split(';').next().unwrap_or_default().trim() {
        PROTOBUF => Encoding::Protobuf,
        JSON => Encoding::Json,
        other => return unsupported(format!("content type {other:?} is not OTLP: send {PROTOBUF} or {JSON}")),
    };
    let gzip = match header(CONTENT_ENCODING) {
        "" | "identity" => false,
        "gzip" => true,
        other => return unsupported(format!("content encoding {other:?} is not supported: send gzip or none")),
    };
    let mut held = input.hold();
    let read = tokio::time::timeout(PATIENCE, read(body, &mut held)).await;
    let late = (StatusCode::REQUEST_TIMEOUT, format!("the body was not complete within {PATIENCE:?}"));
    let body = read.map_err(|_| late)??;
    input.take(signal, encoding, gzip, body).await.map_err(status_of)?;
    Ok(encoding)
}

async fn read(mut body: Body, held: &mut Held) -> Result<Bytes, (StatusCode, String)> {
    // A body that announces itself as too large need not be read.
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    held.check(announced).map_err(status_of)?;
    // Exactly as much as it says: what waits in a queue must not cost more than it counts.
    let mut all = BytesMut::with_capacity(announced);
    loop {
        let frame = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await;
        let Some(frame) = frame else { return Ok(all.freeze()) };
        let frame = frame.map_err(|error| (StatusCode::BAD_REQUEST, format!("the body broke off: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        held.grow(data.len()).map_err(status_of)?;
        all.extend_from_slice(&data);
    }
}

fn status_of(refusal: Refusal) -> (StatusCode, String) {
    let status = match refusal {
        Refusal::Malformed(_) => StatusCode::BAD_REQUEST,
        Refusal::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
        Refusal::Busy => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, refusal.into_why())
}
