//! One Alertmanager: takes batches from its own queue and posts them, patiently.
//!
//! A request that failed for a reason that may pass is tried again with the newest state of each alert; one
//! that was refused is not. What nobody wants to know any more is dropped and counted.

use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::AUTHORIZATION;
use service::backoff::Backoff;
use url::Url;

use super::PostableAlert;
use super::endpoints::Endpoint;
use super::metrics::NotifyMetrics;
use super::queue::Queue;
use super::status::Status;
use crate::clock::Clock;
use crate::rules::alerting::{Notice, RESOLVED_RETENTION};
use crate::scrape::Auth;

/// Alerts in one request, as Prometheus sends them.
const BATCH_LEN_MAX: usize = 256;
/// An Alertmanager that is away is back within seconds or not for a while.
const RETRY: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(15));

/// Owns the requests to one Alertmanager.
pub(super) struct Sender {
    pub(super) endpoint: Endpoint,
    /// The address without credentials or path: its name in metrics and status.
    pub(super) name: String,
    pub(super) queue: Arc<Queue>,
    pub(super) client: reqwest::Client,
    pub(super) auth: Option<Auth>,
    pub(super) clock: Clock,
    pub(super) external_url: Url,
    pub(super) metrics: NotifyMetrics,
    pub(super) status: Status,
}

/// Why a request failed; also the metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FailureReason {
    Connect,
    Timeout,
    /// 5xx or 429: it may take the same request later.
    Unavailable,
    /// Any other status: it will never take this request.
    Refused,
    /// The file with the password or token cannot be read.
    Credentials,
    Other,
}

impl FailureReason {
    fn as_str(self) -> &'static str {
        match self {
            FailureReason::Connect => "connect",
            FailureReason::Timeout => "timeout",
            FailureReason::Unavailable => "unavailable",
            FailureReason::Refused => "refused",
            FailureReason::Credentials => "credentials",
            FailureReason::Other => "other",
        }
    }
}

impl Sender {
    /// Sends until the queue is closed and empty; a closed queue gets one attempt, no retries.
    pub(super) async fn run(self) {
        let mut failures = 0;
        while let Some(batch) = self.queue.take(BATCH_LEN_MAX).await {
            let batch = self.without_expired(batch);
            self.metrics.queued(&self.name, self.queue.len());
            if batch.is_empty() {
                continue;
            }
            let result = self.post(&batch).await;
            let error = result.as_ref().err().map(|(_, message)| message.as_str());
            let fingerprints = batch.iter().map(|notice| notice.fingerprint);
            self.status.attempted(&self.name, fingerprints, self.clock.now(), error, self.queue.len());
            match result {
                Ok(()) => {
                    self.metrics.sent(&self.name, batch.len());
                    if failures > 0 {
                        tracing::info!(alertmanager = self.name, failures, "alertmanager takes alerts again");
                    }
                    failures = 0;
                }
                Err((reason, message)) => {
                    self.metrics.failed(&self.name, reason.as_str());
                    if failures == 0 {
                        tracing::error!(alertmanager = self.name, error = message, "failed to send alerts");
                    }
                    self.give_back(batch, reason);
                    if !self.queue.is_closed() && reason != FailureReason::Refused {
                        tokio::select! {
                            () = tokio::time::sleep(RETRY.delay(failures)) => {}
                            () = self.queue.until_closed() => {}
                        }
                    }
                    failures += 1;
                }
            }
        }
    }

    fn give_back(&self, batch: Vec<Notice>, reason: FailureReason) {
        let count = batch.len();
        let dropped = match (reason, self.queue.is_closed()) {
            (FailureReason::Refused, _) => ("refused", count),
            (_, true) => ("stopping", count),
            (_, false) => ("queue_full", self.queue.put_back(batch)),
        };
        self.metrics.dropped(dropped.0, dropped.1);
    }

    /// A firing alert past its end would arrive as resolved; a resolved one is news for a quarter of an hour.
    fn without_expired(&self, batch: Vec<Notice>) -> Vec<Notice> {
        let (before, now) = (batch.len(), self.clock.now());
        let is_news = |notice: &Notice| match notice.resolved {
            true => now.since(notice.ends_at) <= RESOLVED_RETENTION,
            false => notice.ends_at > now,
        };
        let batch: Vec<_> = batch.into_iter().filter(is_news).collect();
        self.metrics.dropped("expired", before - batch.len());
        batch
    }

    async fn post(&self, batch: &[Notice]) -> Result<(), (FailureReason, String)> {
        let alerts: Vec<_> = batch.iter().map(|notice| PostableAlert::new(notice, &self.external_url)).collect();
        let mut request = self.client.post(self.endpoint.url.clone()).json(&alerts);
        if let Some(auth) = &self.auth {
            // Read anew each time, so that it can be rotated.
            let header = auth.header().await.map_err(|error| (FailureReason::Credentials, error))?;
            request = request.header(AUTHORIZATION, header);
        }
        let response = request.send().await.map_err(|error| {
            let reason = match () {
                () if error.is_timeout() => FailureReason::Timeout,
                () if error.is_connect() => FailureReason::Connect,
                () => FailureReason::Other,
            };
            (reason, format!("{:#}", anyhow::Error::from(error.without_url())))
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let reason = match status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            true => FailureReason::Unavailable,
            false => FailureReason::Refused,
        };
        // The body names the alert and the label that Alertmanager did not like.
        let body = response.text().await.unwrap_or_default();
        let body: String = body.trim().chars().take(300).collect();
        Err((reason, format!("answered {status}: {body}")))
    }
}

/// `http://10.0.0.1:9093`, the prefix included: what people know an Alertmanager by.
pub(super) fn name(url: &Url) -> String {
    let mut url = url.clone();
    // A URL with a host always takes these.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.as_str().trim_end_matches("/api/v2/alerts").to_owned()
}
