//! Traces of the app by OTLP/HTTP: `POST /v1/traces`, protobuf or JSON, gzip or none.
//!
//! In: a request. Out: the same bytes in the queue of spans, counted but not decoded. The app is always
//! answered at once: a full queue gives up its oldest request, counted, and never slows the app.
//! A body that is no trace request is refused with the reason; OTLP logs and metrics are not served here.

mod count;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use prometheus_client::metrics::counter::Counter;
use service::metrics::Metrics;
use std::net::SocketAddr;
use telemetry::names::{sidecar as names, without_total};
use tokio::time::Instant;

use crate::pipeline::account::{Account, DropReason};
use crate::pipeline::queue::{Queue, WhenFull};
use crate::pipeline::spans::SpanBatch;

#[derive(Clone, Debug)]
pub struct Config {
    /// None: no traces are taken in.
    pub listen: Option<SocketAddr>,
    /// Of one request, as sent.
    pub body_bytes_max: usize,
}

pub const PROTOBUF: &str = "application/x-protobuf";
pub const JSON: &str = "application/json";

#[derive(Clone)]
pub struct OtlpInput {
    account: Account,
    queue: Queue<SpanBatch>,
    refused: Counter,
    body_bytes_max: usize,
}

impl Config {
    pub fn build(&self, account: Account, queue: Queue<SpanBatch>, metrics: &Metrics) -> OtlpInput {
        let refused = Counter::default();
        metrics.register(|r| {
            r.register(
                without_total(names::OTLP_REQUESTS_REFUSED_TOTAL),
                "OTLP requests that were no trace requests",
                refused.clone(),
            );
        });
        OtlpInput { account, queue, refused, body_bytes_max: self.body_bytes_max }
    }
}

impl OtlpInput {
    pub fn router(&self) -> Router {
        Router::new()
            .route("/v1/traces", post(traces))
            .fallback(|| async { (StatusCode::NOT_FOUND, "only traces are taken in here: POST /v1/traces") })
            .layer(DefaultBodyLimit::max(self.body_bytes_max))
            .with_state(self.clone())
    }

    async fn accept(&self, headers: &HeaderMap, body: Bytes) -> Result<&'static str, (StatusCode, String)> {
        let header = |name| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let content_type = match header(CONTENT_TYPE).split(';').next().unwrap_or_default().trim() {
            PROTOBUF => PROTOBUF,
            JSON => JSON,
            other => {
                let message = format!("content type {other:?} is not OTLP: send {PROTOBUF} or {JSON}");
                return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
            }
        };
        let gzip = match header(CONTENT_ENCODING) {
            "" | "identity" => false,
            "gzip" => true,
            other => {
                let message = format!("content encoding {other:?} is not supported: send gzip or none");
                return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
            }
        };
        let spans = count::spans(&body, content_type == JSON, gzip).map_err(|why| (StatusCode::BAD_REQUEST, why))?;
        if spans > 0 {
            let ticket = self.account.enter(spans);
            let batch = SpanBatch { body, content_type, gzip, received: Instant::now(), ticket };
            for displaced in self.queue.push(batch, WhenFull::DropOldest).await {
                let reason = if self.queue.is_closed() { DropReason::Stopped } else { DropReason::QueueFull };
                displaced.ticket.dropped(reason);
            }
        }
        Ok(content_type)
    }
}

/// Answers with an empty ExportTraceServiceResponse in the request's own encoding.
async fn traces(State(input): State<OtlpInput>, headers: HeaderMap, body: Result<Bytes, BytesRejection>) -> Response {
    let accepted = match body {
        Ok(body) => input.accept(&headers, body).await,
        Err(rejection) => Err((rejection.status(), rejection.body_text())),
    };
    match accepted {
        Ok(JSON) => ([(CONTENT_TYPE, JSON)], "{}").into_response(),
        Ok(content_type) => ([(CONTENT_TYPE, content_type)], Vec::new()).into_response(),
        Err((status, why)) => {
            input.refused.inc();
            (status, why).into_response()
        }
    }
}
