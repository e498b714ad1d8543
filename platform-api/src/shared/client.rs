//! Calls to the neighbours: signed, traced, timed out, tried again where trying again is safe.
//!
//! Everything that is asked this way is idempotent, so a lost answer may be asked for once more. One
//! retry policy per path: the callers above do not retry again.

use std::time::Duration;

use axum::http::StatusCode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use service::backoff::Backoff;
use tracing::Instrument;

use super::auth::internal::{SIGNATURE_HEADER, ServiceKeys};
use super::trace;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// One attempt; three of them fit well into the request timeout.
const CALL_TIMEOUT: Duration = Duration::from_millis(2500);
const ATTEMPTS: u32 = 3;
const RETRY: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(400));

/// Where the domains are; each may be the same address.
#[derive(Clone)]
pub struct Neighbours {
    pub product: Neighbour,
    pub analytics: Neighbour,
    pub notification: Neighbour,
}

/// One service as the others call it.
#[derive(Clone)]
pub struct Neighbour {
    name: &'static str,
    url: String,
    http: reqwest::Client,
    keys: ServiceKeys,
}

/// Why a call brought no answer to use.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The neighbour understood and said no; trying again changes nothing.
    #[error("{service} answered {status}: {code}: {detail}")]
    Refused { service: &'static str, status: StatusCode, code: String, detail: String, problem: serde_json::Value },
    /// It could not be reached, or failed, as often as we asked.
    #[error("{service} cannot be used: {why}")]
    Unavailable { service: &'static str, why: String },
}

/// # Errors
/// The TLS roots of this machine cannot be read.
pub fn http_client() -> anyhow::Result<reqwest::Client> {
    let client = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).timeout(CALL_TIMEOUT).no_proxy();
    Ok(client.build()?)
}

impl Neighbour {
    pub fn new(name: &'static str, url: &str, http: reqwest::Client, keys: ServiceKeys) -> Self {
        Neighbour { name, url: url.trim_end_matches('/').to_owned(), http, keys }
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    /// POSTs `body` to `path` once, for callers that have their own time to try again.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn post_once<B: Serialize, A: DeserializeOwned>(&self, path: &str, body: &B) -> Result<A, CallError> {
        let body = serde_json::to_vec(body).map_err(|e| self.unavailable(format!("request: {e}")))?;
        let span = trace::call_span("POST", self.name, &format!("{}{path}", self.url));
        self.attempt(path, body).instrument(span).await
    }

    /// POSTs `body` to `path` until there is an answer, at most three times.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn post<B: Serialize, A: DeserializeOwned>(&self, path: &str, body: &B) -> Result<A, CallError> {
        let body = serde_json::to_vec(body).map_err(|e| self.unavailable(format!("request: {e}")))?;
        let mut attempt = 0;
        loop {
            let span = trace::call_span("POST", self.name, &format!("{}{path}", self.url));
            match self.attempt(path, body.clone()).instrument(span).await {
                Err(CallError::Unavailable { why, .. }) if attempt + 1 < ATTEMPTS => {
                    tracing::warn!(attempt = attempt + 1, error = why, "call to {} failed, trying again", self.name);
                    tokio::time::sleep(RETRY.delay(attempt)).await;
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    async fn attempt<A: DeserializeOwned>(&self, path: &str, body: Vec<u8>) -> Result<A, CallError> {
        let now = super::auth::jwt::now();
        let signature =
            self.keys.sign("POST", path, &body, now).await.map_err(|e| self.unavailable(format!("{e:#}")))?;
        let mut request = self
            .http
            .post(format!("{}{path}", self.url))
            .header("content-type", "application/json")
            .header(SIGNATURE_HEADER, signature)
            .body(body);
        if let Some(parent) = trace::current() {
            request = request.header(trace::TRACEPARENT, parent.to_string());
        }
        let response = request.send().await.map_err(|e| self.unavailable(chain(&e)))?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(|e| self.unavailable(chain(&e)))?;
        if status.is_success() {
            let json = if bytes.is_empty() { b"null" } else { &bytes[..] };
            return serde_json::from_slice(json).map_err(|e| self.unavailable(format!("answer not understood: {e}")));
        }
        let problem: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let text = |member: &str| problem[member].as_str().unwrap_or_default().to_owned();
        let (code, detail) = (text("code"), text("detail"));
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(self.unavailable(format!("{status} {code}")));
        }
        Err(CallError::Refused { service: self.name, status, code, detail, problem })
    }

    fn unavailable(&self, why: String) -> CallError {
        CallError::Unavailable { service: self.name, why }
    }
}

/// reqwest names the URL and hides the reason in its sources.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}
