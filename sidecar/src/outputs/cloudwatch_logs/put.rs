//! One PutLogEvents: a body that is JSON in gzip, signed and sent.

use std::time::{Duration, SystemTime};

use reqwest::Method;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use serde::Deserialize;
use service::sigv4::Signer;

use super::REQUEST_TIMEOUT;
use crate::pipeline::account::DropReason;

const TARGET: &str = "Logs_20140328.PutLogEvents";
const JSON: &str = "application/x-amz-json-1.1";
/// Of an error's body, in messages.
const ERROR_BODY_CHARS: usize = 200;

/// Why events were not stored; one variant per decision.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PutError {
    /// The group or the stream does not exist.
    NotFound,
    AlreadyAccepted,
    /// As it is it will never be taken.
    Invalid(String),
    Passing {
        after: Option<Duration>,
        why: String,
    },
}

/// Events from and to, and why they were rejected.
pub(super) type Rejected = Vec<(usize, usize, DropReason)>;

pub(super) struct Requests {
    url: String,
    signer: Signer,
    http: reqwest::Client,
}

impl Requests {
    pub(super) fn new(url: String, signer: Signer, http: reqwest::Client) -> Self {
        let url = format!("{}/", url.trim_end_matches('/'));
        Requests { url, signer, http }
    }

    pub(super) async fn put(&self, body: &[u8]) -> Result<Rejected, PutError> {
        let passing = |why: String| PutError::Passing { after: None, why };
        let mut headers = HeaderMap::from_iter([
            (CONTENT_TYPE, HeaderValue::from_static(JSON)),
            (CONTENT_ENCODING, HeaderValue::from_static("gzip")),
            (HeaderName::from_static("x-amz-target"), HeaderValue::from_static(TARGET)),
        ]);
        let signed = self.signer.sign(&Method::POST, &self.url, &mut headers, body, SystemTime::now()).await;
        signed.map_err(|error| passing(chain(&error)))?;
        let request = self.http.post(&self.url).timeout(REQUEST_TIMEOUT).headers(headers).body(body.to_vec());
        let answer = request.send().await.map_err(|error| passing(chain(&error)))?;
        let status = answer.status();
        let after = answer.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok());
        let answer = answer.bytes().await.map_err(|error| passing(chain(&error)))?;
        if status.is_success() {
            return Ok(rejected(&answer));
        }
        Err(read_error(status, &answer, after.map(Duration::from_secs)))
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    rejected_log_events_info: Option<RejectedInfo>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RejectedInfo {
    too_new_log_event_start_index: Option<usize>,
    too_old_log_event_end_index: Option<usize>,
    expired_log_event_end_index: Option<usize>,
}

/// Events are in order of time, so what is too old stands in front and what is too new at the end.
fn rejected(answer: &[u8]) -> Rejected {
    let info = serde_json::from_slice::<Answer>(answer).ok().and_then(|a| a.rejected_log_events_info);
    let Some(info) = info else { return Vec::new() };
    let expired = info.expired_log_event_end_index.unwrap_or(0);
    let too_old = info.too_old_log_event_end_index.unwrap_or(0);
    let too_new = info.too_new_log_event_start_index.unwrap_or(usize::MAX);
    let ranges = [
        (0, expired, DropReason::Expired),
        (expired, too_old, DropReason::TooOld),
        (too_new, usize::MAX, DropReason::TooNew),
    ];
    ranges.into_iter().filter(|(from, to, _)| from < to).collect()
}

#[derive(Deserialize)]
struct ErrorBody {
    #[serde(rename = "__type")]
    kind: Option<String>,
    #[serde(alias = "Message")]
    message: Option<String>,
}

fn read_error(status: reqwest::StatusCode, body: &[u8], after: Option<Duration>) -> PutError {
    let parsed: Option<ErrorBody> = serde_json::from_slice(body).ok();
    // `com.amazonaws.logs#ThrottlingException` or the name alone.
    let kind = parsed.as_ref().and_then(|e| e.kind.as_deref()).unwrap_or_default();
    let kind = kind.rsplit('#').next().unwrap_or_default();
    let message = parsed.as_ref().and_then(|e| e.message.clone());
    let text = || match &message {
        Some(message) => format!("{kind}: {message}"),
        None => {
            format!("{status}: {}", String::from_utf8_lossy(body).chars().take(ERROR_BODY_CHARS).collect::<String>())
        }
    };
    match kind {
        "ResourceNotFoundException" => PutError::NotFound,
        "DataAlreadyAcceptedException" => PutError::AlreadyAccepted,
        "InvalidParameterException" | "SerializationException" | "ValidationException" => PutError::Invalid(text()),
        _ if status == 413 => PutError::Invalid(text()),
        _ => PutError::Passing { after, why: text() },
    }
}
