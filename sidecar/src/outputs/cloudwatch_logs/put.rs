//! One PutLogEvents: a body that is JSON in gzip, signed and sent. And the question whether it had arrived, where the
//! answer was lost.

use std::io::Read;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use serde::Deserialize;
use service::sigv4::Signer;

use super::REQUEST_TIMEOUT;
use crate::pipeline::account::DropReason;

const PUT: &str = "Logs_20140328.PutLogEvents";
const GET: &str = "Logs_20140328.GetLogEvents";
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
    /// The role may not do this.
    Denied(String),
    /// The request may have been taken: it was sent, and there was no answer.
    InDoubt(String),
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

    pub(super) async fn put(&self, body: &Bytes) -> Result<Rejected, PutError> {
        self.call(PUT, Some("gzip"), body).await.map(|answer| rejected(&answer))
    }

    /// Whether the events of this body are stored: one out of its middle, for the service takes a batch whole but for
    /// events that are too old or too new, and those stand at its ends.
    pub(super) async fn has(&self, body: &[u8]) -> Result<bool, PutError> {
        let Some((question, message, wanted)) = question(body) else { return Ok(false) };
        let answer = self.call(GET, None, &question.into()).await?;
        let stored: Stored = serde_json::from_slice(&answer).unwrap_or_default();
        Ok(stored.events.iter().filter(|event| event.message == message).count() >= wanted)
    }

    async fn call(
        &self,
        target: &'static str,
        encoding: Option<&'static str>,
        body: &Bytes,
    ) -> Result<Bytes, PutError> {
        let passing = |why: String| PutError::Passing { after: None, why };
        let mut headers = HeaderMap::from_iter([
            (CONTENT_TYPE, HeaderValue::from_static(JSON)),
            (HeaderName::from_static("x-amz-target"), HeaderValue::from_static(target)),
        ]);
        if let Some(encoding) = encoding {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        let signed = self.signer.sign(&Method::POST, &self.url, &mut headers, body, SystemTime::now()).await;
        signed.map_err(|error| passing(chain(&error)))?;
        let request = self.http.post(&self.url).timeout(REQUEST_TIMEOUT).headers(headers).body(body.clone());
        let answer = request.send().await.map_err(|error| match error.is_connect() {
            true => passing(chain(&error)),
            false => PutError::InDoubt(chain(&error)),
        })?;
        let status = answer.status();
        let after = answer.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok());
        let answer = answer.bytes().await.map_err(|error| match status.is_success() {
            true => PutError::InDoubt(chain(&error)),
            false => passing(chain(&error)),
        })?;
        if status.is_success() {
            return Ok(answer);
        }
        Err(read_error(status, &answer, after.map(Duration::from_secs)))
    }
}

/// What was sent, as far as one has to know it to ask for it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sent {
    log_group_name: String,
    log_stream_name: String,
    log_events: Vec<SentEvent>,
}

#[derive(Deserialize)]
struct SentEvent {
    timestamp: i64,
    message: String,
}

/// GetLogEvents' answer.
#[derive(Default, Deserialize)]
struct Stored {
    events: Vec<StoredEvent>,
}

#[derive(Deserialize)]
struct StoredEvent {
    message: String,
}

/// The body of a GetLogEvents for the millisecond of an event, its message, and how often the batch has it there.
fn question(body: &[u8]) -> Option<(String, String, usize)> {
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(body).read_to_end(&mut text).ok()?;
    let sent: Sent = serde_json::from_slice(&text).ok()?;
    let SentEvent { timestamp, message } = sent.log_events.get(sent.log_events.len() / 2)?;
    let same = sent.log_events.iter().filter(|e| e.timestamp == *timestamp && e.message == *message).count();
    let question = serde_json::json!({
        "logGroupName": sent.log_group_name,
        "logStreamName": sent.log_stream_name,
        "startTime": timestamp,
        "endTime": timestamp + 1,
        "startFromHead": true,
    });
    Some((question.to_string(), message.clone(), same))
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
        "AccessDeniedException" => PutError::Denied(text()),
        _ if status == 413 => PutError::Invalid(text()),
        _ => PutError::Passing { after, why: text() },
    }
}
