//! The receiver of OTLP/HTTP metrics: protobuf or JSON, plain or gzip. What is stored is answered with 200, with the
//! data points that were not in `partial_success`, as the OTLP specification has it; 4xx for what can never be read.

use std::io::Read;
use std::sync::Mutex;
use std::time::Duration;

use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use flate2::read::MultiGzDecoder;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use prost::Message;
use serde::{Deserialize, Serialize};
use telemetry::Timestamp;
use telemetry::otlp::{Encoding, Output, Settings, Strategy, Translator, decode};

use super::{Inner, Pushed, Refused, text_header};
use crate::clock::Clock;

const PROTOCOL: &str = "otlp";
/// A delta stream without a point for so long has ended, as in Prometheus.
const STREAM_IDLE_MAX: Duration = Duration::from_secs(300);

/// The `otlp:` block, in Prometheus' vocabulary.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Resource attributes that become labels of every series.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub promote_resource_attributes: Vec<String>,
    /// All of them do, but for `ignore_resource_attributes`.
    pub promote_all_resource_attributes: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignore_resource_attributes: Vec<String>,
    pub translation_strategy: TranslationStrategy,
    /// `target_info` also carries what `job` and `instance` are made of.
    pub keep_identifying_resource_attributes: bool,
    /// The scope's name, version and attributes become labels.
    pub promote_scope_metadata: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum TranslationStrategy {
    #[default]
    UnderscoreEscapingWithSuffixes,
    UnderscoreEscapingWithoutSuffixes,
    #[serde(rename = "NoUTF8EscapingWithSuffixes")]
    NoUtf8EscapingWithSuffixes,
    NoTranslation,
}

impl Config {
    /// # Errors
    /// Lists that contradict each other.
    pub fn check(&self) -> Result<(), String> {
        check_attributes("promote_resource_attributes", &self.promote_resource_attributes)?;
        check_attributes("ignore_resource_attributes", &self.ignore_resource_attributes)?;
        match self.promote_all_resource_attributes {
            true if !self.promote_resource_attributes.is_empty() => {
                Err("otlp: promote_all_resource_attributes and promote_resource_attributes exclude each other"
                    .to_owned())
            }
            false if !self.ignore_resource_attributes.is_empty() => {
                Err("otlp: ignore_resource_attributes needs promote_all_resource_attributes".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn settings(&self) -> Settings {
        Settings {
            strategy: match self.translation_strategy {
                TranslationStrategy::UnderscoreEscapingWithSuffixes => Strategy::UnderscoreEscapingWithSuffixes,
                TranslationStrategy::UnderscoreEscapingWithoutSuffixes => Strategy::UnderscoreEscapingWithoutSuffixes,
                TranslationStrategy::NoUtf8EscapingWithSuffixes => Strategy::NoUtf8EscapingWithSuffixes,
                TranslationStrategy::NoTranslation => Strategy::NoTranslation,
            },
            promote_resource_attributes: trimmed(&self.promote_resource_attributes),
            promote_all_resource_attributes: self.promote_all_resource_attributes,
            ignore_resource_attributes: trimmed(&self.ignore_resource_attributes),
            keep_identifying_resource_attributes: self.keep_identifying_resource_attributes,
            promote_scope_metadata: self.promote_scope_metadata,
        }
    }
}

fn trimmed(names: &[String]) -> Vec<String> {
    names.iter().map(|name| name.trim().to_owned()).collect()
}

/// Blanks around a name are nothing, as in Prometheus.
fn check_attributes(key: &str, names: &[String]) -> Result<(), String> {
    let names = trimmed(names);
    for (place, name) in names.iter().enumerate() {
        if name.is_empty() {
            return Err(format!("otlp: {key} has an empty name: take it out"));
        }
        if names[..place].contains(name) {
            return Err(format!("otlp: {key} names {name:?} twice"));
        }
    }
    Ok(())
}

/// Translates; the totals of delta streams outlive the requests.
pub(super) struct Otlp {
    clock: Clock,
    state: Mutex<State>,
}

struct State {
    translator: Translator,
    cleaned: Timestamp,
}

impl Otlp {
    pub(super) fn new(config: &Config, clock: Clock) -> Self {
        let state = State { translator: Translator::new(config.settings()), cleaned: clock.now() };
        Otlp { clock, state: Mutex::new(state) }
    }

    fn translate(&self, request: &ExportMetricsServiceRequest) -> Output {
        let now = self.clock.now();
        let mut state = self.state.lock().expect("no one panics holding it");
        if now.since(state.cleaned) > STREAM_IDLE_MAX / 5 {
            state.translator.forget_streams(now - STREAM_IDLE_MAX);
            state.cleaned = now;
        }
        state.translator.translate(request, now)
    }
}

pub(super) async fn handle(ingest: &Inner, request: Request) -> Response {
    let response = match receive(ingest, request).await {
        Ok(response) => response,
        Err(refused) => {
            ingest.metrics.refused(PROTOCOL, refused.reason, 1);
            refused.into_response()
        }
    };
    ingest.answered(PROTOCOL, response)
}

async fn receive(ingest: &Inner, request: Request) -> Result<Response, Refused> {
    let unsupported = |message| Refused::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message);
    let content_type = text_header(request.headers(), &header::CONTENT_TYPE);
    let encoding = Encoding::from_content_type(content_type).ok_or_else(|| {
        unsupported(format!("content type {content_type:?}: send application/x-protobuf or application/json"))
    })?;
    let compressed = match text_header(request.headers(), &header::CONTENT_ENCODING) {
        "" | "identity" => false,
        "gzip" => true,
        other => return Err(unsupported(format!("content encoding {other:?} is not accepted, only gzip"))),
    };
    let _place = ingest.place().await?;
    let body = ingest.body(request.into_body()).await?;
    let limit = ingest.config.body_size_limit;
    let reading = move || {
        let body = if compressed { gunzip(&body, limit)? } else { body.into() };
        decode(&body, encoding).map_err(|e| Refused::new(StatusCode::BAD_REQUEST, "malformed", e.to_string()))
    };
    let decoded = service::task::beside(reading).await?;
    let output = ingest.otlp.translate(&decoded);
    let mut rejected = Vec::new();
    let mut count = 0;
    for (fault, points) in &output.faults {
        ingest.metrics.refused(PROTOCOL, fault.as_str(), *points);
        rejected.push(format!("{points} {}", fault.as_str()));
        count += points;
    }
    let sent = output.samples.len() + output.histograms.len();
    let Output { samples, histograms, exemplars, .. } = output;
    let stored = ingest.store(PROTOCOL, Pushed { samples, histograms, exemplars, ..Pushed::default() }).await?;
    count += sent.saturating_sub(stored.samples + stored.histograms);
    rejected.extend(stored.refused);
    Ok(answer(encoding, count, &rejected.join(", ")))
}

fn gunzip(body: &[u8], limit: u64) -> Result<Vec<u8>, Refused> {
    let mut plain = Vec::new();
    // One more than allowed tells too much from just enough.
    let read = MultiGzDecoder::new(body).take(limit.saturating_add(1)).read_to_end(&mut plain);
    read.map_err(|e| Refused::new(StatusCode::BAD_REQUEST, "malformed", format!("the body is no gzip: {e}")))?;
    if plain.len() as u64 > limit {
        let message = format!("the body is larger than {limit} bytes (ingest.body_size_limit)");
        return Err(Refused::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message));
    }
    Ok(plain)
}

fn answer(encoding: Encoding, rejected: usize, why: &str) -> Response {
    let partial_success = (rejected > 0).then(|| ExportMetricsPartialSuccess {
        rejected_data_points: i64::try_from(rejected).unwrap_or(i64::MAX),
        error_message: why.to_owned(),
    });
    match encoding {
        Encoding::Protobuf => {
            let body = ExportMetricsServiceResponse { partial_success }.encode_to_vec();
            ([(header::CONTENT_TYPE, "application/x-protobuf")], body).into_response()
        }
        Encoding::Json => {
            let body = match partial_success {
                // int64 is a string in protobuf's JSON.
                Some(partial) => serde_json::json!({"partialSuccess": {
                    "rejectedDataPoints": partial.rejected_data_points.to_string(),
                    "errorMessage": partial.error_message,
                }}),
                None => serde_json::json!({}),
            };
            ([(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
        }
    }
}
