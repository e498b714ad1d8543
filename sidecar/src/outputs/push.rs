//! Samples on to where they are stored, pushed at an interval: what remote write and OTLP have in common.
//!
//! In: the exposition, taken as a scraper would take it. Out: requests in a queue bounded in bytes, sent one after the
//! other and repeated by the one policy; a full queue gives up its oldest request. Every sample is delivered, waiting
//! or dropped for a reason, and counted so. AWS' own endpoints are recognised by their names and signed for (SigV4).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family as MetricFamily;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Method, StatusCode, Url};
use service::config::Secret;
use service::metrics::Metrics;
use service::sigv4::{self, Signer};
use telemetry::names::{sidecar as names, without_total};
use tokio::time::Instant;

use super::retry::{Attempt, Retry};
use crate::pipeline::account::DropReason;
use crate::pipeline::queue::{Queue, QueueMetrics, Weigh, WhenFull};

/// How a destination is reached.
#[derive(Clone, Debug)]
pub struct Config {
    pub url: String,
    /// Sent with every request, such as an API key.
    pub headers: Vec<(String, Secret)>,
    pub interval: Duration,
    pub queue_bytes: usize,
    /// A request that could not be delivered for this long is dropped.
    pub give_up_after: Duration,
}

const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Of an error's body, in messages.
const ERROR_BODY_CHARS: usize = 200;

/// One request and the samples in it.
pub struct Batch {
    pub body: Bytes,
    pub samples: u64,
    received: Instant,
    books: Books,
}

const BATCH_OVERHEAD_BYTES: usize = 128;

impl Weigh for Batch {
    fn bytes(&self) -> usize {
        self.body.len() + BATCH_OVERHEAD_BYTES
    }
}

impl Drop for Batch {
    /// What was not settled was lost to the stop.
    fn drop(&mut self) {
        self.books.dropped(std::mem::take(&mut self.samples), DropReason::Stopped);
    }
}

type ByOutput = MetricFamily<[(&'static str, &'static str); 1], Counter>;
type ByReason = MetricFamily<[(&'static str, &'static str); 2], Counter>;

/// The counts of all outputs of samples, registered once.
#[derive(Clone, Default)]
pub struct PushMetrics {
    delivered: ByOutput,
    dropped: ByReason,
    retries: ByOutput,
}

impl PushMetrics {
    pub fn register(metrics: &Metrics) -> Self {
        let own = PushMetrics::default();
        metrics.register(|r| {
            let name = without_total(names::METRICS_OUT_SAMPLES_TOTAL);
            r.register(name, "Samples that a destination has accepted", own.delivered.clone());
            let name = without_total(names::METRICS_OUT_DROPPED_TOTAL);
            r.register(name, "Samples for a destination that were lost, by reason", own.dropped.clone());
            let name = without_total(names::METRICS_OUT_RETRIES_TOTAL);
            r.register(name, "Repeated requests to a destination of samples", own.retries.clone());
        });
        own
    }
}

#[derive(Clone)]
struct Books {
    output: &'static str,
    metrics: PushMetrics,
}

impl Books {
    fn delivered(&self, samples: u64) {
        self.metrics.delivered.get_or_create(&[("output", self.output)]).inc_by(samples);
    }

    fn dropped(&self, samples: u64, reason: DropReason) {
        if samples > 0 {
            let labels = [("output", self.output), ("reason", reason.as_str())];
            self.metrics.dropped.get_or_create(&labels).inc_by(samples);
        }
    }
}

/// The queue's front: whoever makes the requests.
#[derive(Clone)]
pub struct Outbox {
    queue: Queue<Batch>,
    books: Books,
}

/// The queue's end: whoever sends them.
pub struct Sender {
    url: String,
    headers: HeaderMap,
    signer: Option<Arc<Signer>>,
    client: reqwest::Client,
    retry: Retry,
    queue: Queue<Batch>,
    books: Books,
    older: Option<Older>,
}

/// Every request in an older form too, for a receiver that does not know the one of today.
pub(super) struct Older {
    pub(super) headers: HeaderMap,
    /// None for what is no request of today's form.
    pub(super) translate: fn(&[u8]) -> Option<Vec<u8>>,
    /// A receiver that has understood a request says so by this header; one that has not may answer 200 all the same.
    pub(super) understood: &'static str,
    /// Once it is clear, for good.
    pub(super) is_needed: AtomicBool,
}

impl Config {
    /// `fixed` are the headers that the protocol wants.
    pub fn build(
        &self,
        output: &'static str,
        fixed: &[(&'static str, &'static str)],
        client: reqwest::Client,
        (metrics, queues): (&PushMetrics, &QueueMetrics),
    ) -> (Outbox, Sender) {
        let queue = Queue::new(output, self.queue_bytes, queues);
        let books = Books { output, metrics: metrics.clone() };
        books.delivered(0);
        let headers = self.headers_with(fixed);
        let retries = metrics.retries.get_or_create_owned(&[("output", output)]);
        let sender = Sender {
            signer: signer_of(&self.url).map(Arc::new),
            url: self.url.clone(),
            headers,
            client,
            retry: Retry::new(output.to_owned(), self.give_up_after, retries),
            queue: queue.clone(),
            books: books.clone(),
            older: None,
        };
        (Outbox { queue, books }, sender)
    }
}

impl Config {
    pub(super) fn headers_with(&self, fixed: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = headers_of(&self.headers);
        for (name, value) in fixed {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }
}

/// The configuration has checked names and values.
pub(super) fn headers_of(headers: &[(String, Secret)]) -> HeaderMap {
    let of_one = |(name, value): &(String, Secret)| {
        let mut value = HeaderValue::from_str(value.expose()).ok()?;
        value.set_sensitive(true);
        Some((HeaderName::try_from(name).ok()?, value))
    };
    headers.iter().filter_map(of_one).collect()
}

/// For AWS' own endpoints: `<service>.<region>.amazonaws.com`.
pub(super) fn signer_of(url: &str) -> Option<Signer> {
    let (service, region) = aws_service_of(url)?;
    let config = sigv4::Config { region: Some(region), ..sigv4::Config::default() };
    Some(Signer::new(service, config))
}

fn aws_service_of(url: &str) -> Option<(&'static str, String)> {
    let url = Url::parse(url).ok()?;
    let host = url.host_str()?;
    let labels = host.strip_suffix(".amazonaws.com").or_else(|| host.strip_suffix(".amazonaws.com.cn"))?;
    // An interface endpoint of a VPC: vpce-1-2.xray.eu-west-1.vpce.amazonaws.com.
    let labels = labels.strip_suffix(".vpce").unwrap_or(labels);
    let (service, region) = labels.rsplit_once('.')?;
    let service = match service.rsplit('.').next()? {
        "aps-workspaces" => "aps",
        "xray" => "xray",
        "logs" => "logs",
        "monitoring" => "monitoring",
        _ => return None,
    };
    Some((service, region.to_owned()))
}

impl Outbox {
    pub async fn push(&self, body: Vec<u8>, samples: u64) {
        // A compressor takes room for the worst case; what waits must not cost more than it counts.
        let body = Bytes::from(body.into_boxed_slice());
        let batch = Batch { body, samples, received: Instant::now(), books: self.books.clone() };
        for mut displaced in self.queue.push(batch, WhenFull::DropOldest).await {
            let reason = if self.queue.is_closed() { DropReason::Stopped } else { DropReason::QueueFull };
            self.books.dropped(std::mem::take(&mut displaced.samples), reason);
        }
    }

    /// Nothing more will come.
    pub fn close(&self) {
        self.queue.close();
    }
}

impl Sender {
    /// Sends until the queue is closed and empty.
    pub async fn run(self) -> anyhow::Result<()> {
        drain(&self.queue, &self.books, &self.retry, |body| self.attempt(body)).await;
        Ok(())
    }

    pub(super) fn or_older(mut self, older: Older) -> Self {
        self.older = Some(older);
        self
    }

    async fn attempt(&self, body: Bytes) -> Attempt<()> {
        let (client, signer) = (&self.client, self.signer.as_deref());
        let post = |headers: &HeaderMap, body| Post {
            url: &self.url,
            headers: headers.clone(),
            body,
            timeout: REQUEST_TIMEOUT,
        };
        let Some(older) = &self.older else { return post(&self.headers, body).send(client, signer, may_pass).await };
        if !older.is_needed.load(Ordering::Relaxed) {
            let answer = match post(&self.headers, body.clone()).ask(client, signer).await {
                Ok(answer) => answer,
                Err(why) => return Attempt::Later { after: None, why },
            };
            let (status, understood) = (answer.status(), answer.headers().contains_key(older.understood));
            match status {
                StatusCode::UNSUPPORTED_MEDIA_TYPE => {}
                _ if status.is_success() && understood => return Attempt::Done(()),
                _ if status.is_success() => {}
                _ => return judge(answer, may_pass).await,
            }
            tracing::warn!(
                url = self.url,
                status = status.as_u16(),
                "the receiver is older, it gets the older protocol"
            );
            older.is_needed.store(true, Ordering::Relaxed);
        }
        match (older.translate)(&body) {
            Some(body) => post(&older.headers, body.into()).send(client, signer, may_pass).await,
            None => Attempt::Never { why: "the request cannot be said in the older protocol".to_owned() },
        }
    }
}

/// In remote write every failure of the receiver's own is worth another attempt.
fn may_pass(status: StatusCode) -> bool {
    status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
}

/// Sends batch after batch until the queue is closed and empty.
async fn drain<Fut: Future<Output = Attempt<()>>>(
    queue: &Queue<Batch>,
    books: &Books,
    retry: &Retry,
    attempt: impl Fn(Bytes) -> Fut,
) {
    while let Some(mut batch) = queue.next().await {
        let sent = retry.until_done(batch.received, || attempt(batch.body.clone())).await;
        let samples = std::mem::take(&mut batch.samples);
        match sent {
            Ok(()) => books.delivered(samples),
            Err(reason) => books.dropped(samples, reason),
        }
    }
}

/// One request, signed where there is a signer.
pub(super) struct Post<'a> {
    pub(super) url: &'a str,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) timeout: Duration,
}

impl Post<'_> {
    /// `later` says after which answers beside 429 another attempt is worth it.
    pub(super) async fn send(
        self,
        client: &reqwest::Client,
        signer: Option<&Signer>,
        later: impl Fn(StatusCode) -> bool,
    ) -> Attempt<()> {
        match self.ask(client, signer).await {
            Ok(answer) if answer.status().is_success() => Attempt::Done(()),
            Ok(answer) => judge(answer, later).await,
            Err(why) => Attempt::Later { after: None, why },
        }
    }

    /// The answer, or why there is none.
    async fn ask(mut self, client: &reqwest::Client, signer: Option<&Signer>) -> Result<reqwest::Response, String> {
        if let Some(signer) = signer {
            let signed = signer.sign(&Method::POST, self.url, &mut self.headers, &self.body, SystemTime::now()).await;
            signed.map_err(|error| chain(&error))?;
        }
        let request = client.post(self.url).timeout(self.timeout).headers(self.headers).body(self.body);
        request.send().await.map_err(|error| chain(&error))
    }
}

async fn judge(mut answer: reqwest::Response, later: impl Fn(StatusCode) -> bool) -> Attempt<()> {
    let status = answer.status();
    let after = answer.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok()).map(Duration::from_secs);
    // The first piece is enough for a message, and the rest may have no end.
    let piece = answer.chunk().await.ok().flatten().unwrap_or_default();
    let text = String::from_utf8_lossy(&piece);
    let text: String = text.chars().filter(|c| !c.is_control()).take(ERROR_BODY_CHARS).collect();
    let why = format!("{status}: {text}");
    if status == StatusCode::TOO_MANY_REQUESTS || later(status) {
        Attempt::Later { after, why }
    } else {
        Attempt::Never { why }
    }
}

/// An error and what caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_signed_request_carries_service_region_and_body_hash() {
        let (send, receive) = std::sync::mpsc::channel();
        let take = move |headers: axum::http::HeaderMap| async move { send.send(headers).map_err(|e| e.to_string()) };
        let router = axum::Router::new().route("/v1/traces", axum::routing::post(take));
        let listener = service::http::bind(([127, 0, 0, 1], 0).into(), "test").await.expect("port 0");
        let url = format!("http://{}/v1/traces", listener.local_addr().expect("bound"));
        service::task::spawn("sink", service::http::serve(listener, router, service::Shutdown::new()));
        let config = sigv4::Config {
            region: Some("eu-west-1".into()),
            access_key: Some("AKIDEXAMPLE".into()),
            secret_key: Some(Secret::new("secret")),
            ..sigv4::Config::default()
        };
        let (signer, client) = (Signer::new("xray", config), reqwest::Client::new());
        let post = Post { url: &url, headers: HeaderMap::new(), body: "spans".into(), timeout: REQUEST_TIMEOUT };
        assert_eq!(post.send(&client, Some(&signer), |_| false).await, Attempt::Done(()));
        let headers = receive.recv().expect("a request");
        let authorization = headers["authorization"].to_str().expect("text");
        assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"), "{authorization}");
        assert!(authorization.contains("/eu-west-1/xray/aws4_request, SignedHeaders="), "{authorization}");
        assert!(headers.contains_key("x-amz-date"));
    }

    /// Delivered, and dropped because the queue was full, after an hour in which the destination was away.
    async fn an_hour_away(queue_bytes: usize) -> (u64, u64) {
        let metrics = PushMetrics::default();
        let queue = Queue::new("test", queue_bytes, &QueueMetrics::default());
        let books = Books { output: "test", metrics: metrics.clone() };
        let outbox = Outbox { queue: queue.clone(), books: books.clone() };
        let give_up_after = Duration::from_secs(2 * 3600);
        let retry = Retry::new("test".to_owned(), give_up_after, Counter::default());
        let back_at = Instant::now() + Duration::from_secs(3600);
        let attempt = |_body| async move {
            match Instant::now() < back_at {
                true => Attempt::Later { after: None, why: "away".to_owned() },
                false => Attempt::Done(()),
            }
        };
        let collect = async {
            // An exposition of a few hundred series every fifteen seconds, and a minute after the return.
            for _ in 0..244 {
                outbox.push(vec![0; 20_000], 300).await;
                tokio::time::sleep(Duration::from_secs(15)).await;
            }
            outbox.close();
        };
        tokio::join!(collect, drain(&queue, &books, &retry, attempt));
        let dropped = |reason: DropReason| {
            metrics.dropped.get_or_create(&[("output", "test"), ("reason", reason.as_str())]).get()
        };
        let delivered = metrics.delivered.get_or_create(&[("output", "test")]).get();
        assert_eq!(delivered + dropped(DropReason::QueueFull), 244 * 300, "every sample is accounted for");
        (delivered, dropped(DropReason::QueueFull))
    }

    #[tokio::test(start_paused = true)]
    async fn a_destination_that_is_away_for_an_hour_gets_everything_that_there_was_room_for() {
        assert_eq!(an_hour_away(8 << 20).await, (244 * 300, 0));
        let (delivered, dropped) = an_hour_away(1 << 20).await;
        // A megabyte holds 52 batches, and one is on its way; the newest are those that were kept.
        assert!((50 * 300..60 * 300).contains(&delivered), "{delivered}");
        assert_eq!(dropped, 244 * 300 - delivered);
    }

    #[test]
    fn aws_endpoints_are_known_by_their_names() {
        for (url, service) in [
            ("https://aps-workspaces.eu-central-1.amazonaws.com/workspaces/ws-1/api/v1/remote_write", Some("aps")),
            ("https://xray.us-east-1.amazonaws.com/v1/traces", Some("xray")),
            ("https://monitoring.us-east-1.amazonaws.com/v1/metrics", Some("monitoring")),
            ("https://vpce-1-2.xray.eu-west-1.vpce.amazonaws.com/v1/traces", Some("xray")),
            ("https://logs.cn-north-1.amazonaws.com.cn/v1/logs", Some("logs")),
            ("https://example.com/xray.us-east-1.amazonaws.com", None),
            ("https://xray.us-east-1.amazonaws.com.example.com/v1/traces", None),
            ("https://s3.us-east-1.amazonaws.com/", None),
        ] {
            assert_eq!(aws_service_of(url).map(|(service, _)| service), service, "{url}");
        }
        let (_, region) = aws_service_of("https://xray.eu-west-1.amazonaws.com/v1/traces").expect("AWS");
        assert_eq!(region, "eu-west-1");
    }
}
