//! Spans on to their backend by OTLP/HTTP, byte for byte as they came.
//!
//! In: the queue of spans. Out: `POST <endpoint>/v1/traces`, one request after the other, repeated by the
//! one policy. Where no endpoint is configured, everything is dropped and counted for that reason.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use service::config::Secret;
use service::metrics::Metrics;
use telemetry::names::{sidecar as names, without_total};

use super::retry::{Attempt, Retry};
use crate::pipeline::account::DropReason;
use crate::pipeline::queue::Queue;
use crate::pipeline::spans::SpanBatch;

#[derive(Clone, Debug)]
pub struct Config {
    /// The whole address of the traces endpoint; None: spans are dropped and counted.
    pub traces_url: Option<String>,
    /// Sent with every request, such as an API key.
    pub headers: Vec<(String, Secret)>,
    pub queue_bytes: usize,
    /// A request that could not be delivered for this long is dropped.
    pub give_up_after: Duration,
}

const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Of an error's body, in messages.
const ERROR_BODY_CHARS: usize = 200;

pub struct OtlpOutput {
    traces_url: Option<String>,
    headers: HeaderMap,
    client: reqwest::Client,
    retry: Retry,
}

impl Config {
    pub fn build(&self, client: reqwest::Client, metrics: &Metrics) -> OtlpOutput {
        let retries = Counter::default();
        metrics.register(|r| {
            r.register(
                without_total(names::SPAN_OUTPUT_RETRIES_TOTAL),
                "Repeated requests to the traces endpoint",
                retries.clone(),
            );
        });
        // The configuration has checked names and values.
        let headers = self.headers.iter().filter_map(|(name, value)| {
            let mut value = HeaderValue::from_str(value.expose()).ok()?;
            value.set_sensitive(true);
            Some((HeaderName::try_from(name).ok()?, value))
        });
        OtlpOutput {
            traces_url: self.traces_url.clone(),
            headers: headers.collect(),
            client,
            retry: Retry::new("traces".to_owned(), self.give_up_after, retries),
        }
    }
}

impl OtlpOutput {
    /// Sends until the queue is closed and empty.
    pub async fn run(self, queue: Queue<SpanBatch>) -> anyhow::Result<()> {
        while let Some(batch) = queue.next().await {
            match self.deliver(&batch).await {
                Ok(()) => batch.ticket.delivered(),
                Err(reason) => batch.ticket.dropped(reason),
            }
        }
        Ok(())
    }

    async fn deliver(&self, batch: &SpanBatch) -> Result<(), DropReason> {
        let Some(url) = &self.traces_url else { return Err(DropReason::NoEndpoint) };
        self.retry.until_done(batch.received, || self.attempt(url, batch)).await
    }

    async fn attempt(&self, url: &str, batch: &SpanBatch) -> Attempt<()> {
        let mut request = self
            .client
            .post(url)
            .timeout(REQUEST_TIMEOUT)
            .headers(self.headers.clone())
            .header(CONTENT_TYPE, batch.content_type);
        if batch.gzip {
            request = request.header(CONTENT_ENCODING, "gzip");
        }
        match request.body(batch.body.clone()).send().await {
            Ok(answer) if answer.status().is_success() => Attempt::Done(()),
            Ok(answer) => judge(answer).await,
            Err(error) => Attempt::Later { after: None, why: chain(&error) },
        }
    }
}

/// The answers after which OTLP/HTTP wants another attempt; any other refusal is final.
async fn judge(answer: reqwest::Response) -> Attempt<()> {
    let status = answer.status();
    let after = answer.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok()).map(Duration::from_secs);
    let body = answer.text().await.unwrap_or_default();
    let body: String = body.chars().filter(|c| !c.is_control()).take(ERROR_BODY_CHARS).collect();
    let why = format!("{status}: {body}");
    match status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Attempt::Later { after, why },
        _ => Attempt::Never { why },
    }
}

/// An error and what caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
