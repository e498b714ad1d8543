//! Spans on to their backend by OTLP/HTTP: any that takes it, and X-Ray's endpoint with a signature (SigV4).
//!
//! In: the queue of spans. Out: `POST <endpoint>/v1/traces`, one request after the other, repeated by the
//! one policy. Where no endpoint is configured, everything is dropped and counted for that reason.

use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use service::config::Secret;
use service::metrics::Metrics;
use service::sigv4::Signer;
use telemetry::names::{sidecar as names, without_total};

use super::push::{Post, headers_of, signer_of};
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
    /// By gzip, what came uncompressed.
    pub compress: bool,
    pub queue_bytes: usize,
    /// A request that could not be delivered for this long is dropped.
    pub give_up_after: Duration,
}

const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

pub struct OtlpOutput {
    traces_url: Option<String>,
    headers: HeaderMap,
    /// For X-Ray's own endpoint.
    signer: Option<Signer>,
    compress: bool,
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
        OtlpOutput {
            traces_url: self.traces_url.clone(),
            headers: headers_of(&self.headers),
            signer: self.traces_url.as_deref().and_then(signer_of),
            compress: self.compress,
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
        let mut headers = self.headers.clone();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(batch.content_type));
        let (body, gzip) = match self.compress && !batch.gzip {
            true => (compressed(&batch.body), true),
            false => (batch.body.clone(), batch.gzip),
        };
        if gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let request = Post { url, headers, body, timeout: REQUEST_TIMEOUT };
        // The answers after which OTLP/HTTP wants another attempt, beside 429; any other refusal is final.
        let later = |status| {
            matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
        };
        request.send(&self.client, self.signer.as_ref(), later).await
    }
}

fn compressed(body: &Bytes) -> Bytes {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body).and_then(|()| encoder.finish()).expect("writing to memory cannot fail").into()
}
