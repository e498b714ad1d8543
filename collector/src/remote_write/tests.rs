use std::collections::{HashSet, VecDeque};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use hmac_of_the_test::signature;
use telemetry::exposition::{Exemplar, MetricKind};
use telemetry::remote_write::{Decoder, HistogramPoint, Limits, Message, decompress};
use telemetry::{Histogram, HistogramSample, Sample, Timestamp};
use tokio::sync::Barrier;

use super::*;

mod kinds;

/// A server that answers as it was told, then 204, and keeps what it took.
#[derive(Clone, Default)]
struct Fake(Arc<Mutex<FakeState>>, Option<Arc<Barrier>>);

#[derive(Default)]
struct FakeState {
    answers: VecDeque<(u16, Option<&'static str>)>,
    requests: usize,
    taken: Vec<(String, i64, f64)>,
    histograms: Vec<(String, i64, Histogram)>,
    exemplars: Vec<(String, Exemplar)>,
    /// Name, kind and help, however they came.
    metadata: HashSet<(String, MetricKind, String)>,
    headers: Vec<HeaderMap>,
    bodies: Vec<Bytes>,
}

impl Fake {
    fn answering(answers: &[(u16, Option<&'static str>)]) -> Self {
        let fake = Fake::default();
        fake.state().answers = answers.iter().copied().collect();
        fake
    }

    fn state(&self) -> std::sync::MutexGuard<'_, FakeState> {
        self.0.lock().unwrap()
    }

    fn take(&self, headers: &HeaderMap, body: &Bytes) -> Response {
        let mut state = self.state();
        state.requests += 1;
        state.headers.push(headers.clone());
        state.bodies.push(body.clone());
        let (status, retry_after) = state.answers.pop_front().unwrap_or((204, None));
        let mut response = StatusCode::from_u16(status).unwrap().into_response();
        if let Some(seconds) = retry_after {
            response.headers_mut().insert("retry-after", seconds.parse().unwrap());
        }
        if !response.status().is_success() {
            return response;
        }
        let message = Message::from_content_type(headers["content-type"].to_str().unwrap()).unwrap();
        let bytes = decompress(body, &Limits::default()).unwrap();
        let mut decoder = Decoder::new(message, &bytes, &Limits::default()).unwrap();
        let (mut count, mut histograms, mut exemplars) = (0, 0, 0);
        while let Some(series) = decoder.next_series().unwrap() {
            let labels = series.to_labels().unwrap().to_string();
            count += series.samples.len();
            state.taken.extend(series.samples.iter().map(|s| (labels.clone(), s.timestamp.0, s.value)));
            let sound = |point: &HistogramPoint| point.histogram.clone().unwrap();
            state.histograms.extend(series.histograms.iter().map(|p| (labels.clone(), p.timestamp.0, sound(p))));
            state.exemplars.extend(series.exemplars.iter().map(|exemplar| (labels.clone(), exemplar.clone())));
            histograms += series.histograms.len();
            exemplars += series.exemplars.len();
            let name = series.to_labels().unwrap().metric_name().unwrap().to_owned();
            state.metadata.extend(series.metadata.map(|m| (name, m.kind, m.help.to_owned())));
        }
        let of_families = decoder.metadata().iter().map(|(name, m)| ((*name).to_owned(), m.kind, m.help.to_owned()));
        state.metadata.extend(of_families);
        if message == Message::V2 {
            response.headers_mut().insert("x-prometheus-remote-write-samples-written", count.into());
            response.headers_mut().insert("x-prometheus-remote-write-histograms-written", histograms.into());
            response.headers_mut().insert("x-prometheus-remote-write-exemplars-written", exemplars.into());
        }
        response
    }

    async fn serve(&self, shutdown: &Shutdown) -> String {
        let listener = service::http::bind(([127, 0, 0, 1], 0).into(), "test").await.unwrap();
        let url = format!("http://{}/workspaces/ws-1/api/v1/remote_write", listener.local_addr().unwrap());
        let fake = self.clone();
        let handle = move |headers: HeaderMap, body: Bytes| async move {
            if let Some(meeting) = &fake.1 {
                meeting.wait().await;
            }
            fake.take(&headers, &body)
        };
        let router = Router::new().route("/workspaces/ws-1/api/v1/remote_write", post(handle));
        service::task::spawn("fake", service::http::serve(listener, router, shutdown.clone()));
        url
    }

    async fn until_taken(&self, count: usize) {
        self.until(|state| state.taken.len() >= count).await;
    }

    async fn until(&self, holds: impl Fn(&FakeState) -> bool) {
        let wait = async {
            while !holds(&self.state()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(40), wait).await.expect("it arrives");
    }
}

/// The stage over one server; quick to send and to retry.
struct Stage {
    taps: Taps,
    tasks: Tasks,
    metrics: Metrics,
    shutdown: Shutdown,
}

fn config(url: &str, more: &str) -> Config {
    let yaml = format!(
        "{{url: '{url}', name: there, queue_config: {{max_samples_per_send: 10, batch_send_deadline: 20ms, min_backoff: 5ms, max_backoff: 20ms}}, {more}}}"
    );
    service::config::parse_yaml(&yaml, Path::new("test.yml")).unwrap()
}

fn start(config: &Config, data: &Path, external_labels: &Labels) -> Stage {
    let (mut tasks, metrics, shutdown) = (Tasks::new(), Metrics::new(), Shutdown::new());
    let configs = std::slice::from_ref(config);
    Config::check_all(configs).unwrap();
    let inputs = Inputs { configs, external_labels, data, clock: Clock::System, rules_write: None };
    let taps = spawn(&mut tasks, inputs, &metrics, &shutdown).unwrap();
    Stage { taps, tasks, metrics, shutdown }
}

impl Stage {
    /// As the program stops: nothing is written any more, then the stages end.
    async fn stop(self) -> String {
        self.shutdown.request();
        drop(self.taps);
        self.tasks.run(self.shutdown, Duration::from_secs(9)).await.unwrap();
        self.metrics.expose()
    }
}

fn samples(range: std::ops::Range<i64>) -> Vec<Sample> {
    let labels = Labels::from_pairs([("__name__", "orders_total"), ("service", "order")]);
    range.map(|n| Sample { labels: labels.clone(), timestamp: Timestamp(n), value: n as f64 }).collect()
}

fn metric<'t>(text: &'t str, name: &str) -> &'t str {
    let line = text.lines().find(|line| line.starts_with(name) && line[name.len()..].starts_with('{'));
    line.unwrap_or_else(|| panic!("{name} in {text}")).rsplit_once(' ').unwrap().1
}

#[tokio::test]
async fn throttled_and_broken_requests_are_repeated_in_order_and_refused_ones_are_not() {
    for (message, content_type) in [
        ("prometheus.WriteRequest", "application/x-protobuf"),
        ("io.prometheus.write.v2.Request", "application/x-protobuf;proto=io.prometheus.write.v2.Request"),
    ] {
        // The first batch meets trouble, the second is refused for good.
        let fake = Fake::answering(&[(500, None), (429, Some("0")), (503, None), (204, None), (400, None)]);
        let shutdown = Shutdown::new();
        let url = fake.serve(&shutdown).await;
        let data = tempfile::tempdir().unwrap();
        let config = config(&url, &format!("protobuf_message: {message}"));
        let stage = start(&config, data.path(), &Labels::empty());
        stage.taps.samples(samples(0..35));
        fake.until_taken(25).await;
        let text = stage.stop().await;
        let state = fake.state();
        let expected: Vec<i64> = (0..10).chain(20..35).collect();
        assert_eq!(state.taken.iter().map(|(_, at, _)| *at).collect::<Vec<_>>(), expected);
        assert_eq!(state.taken[0].0, r#"orders_total{service="order"}"#);
        assert_eq!(state.headers[0]["content-type"], content_type);
        assert_eq!(state.headers[0]["content-encoding"], "snappy");
        assert_eq!(metric(&text, "prometheus_remote_storage_samples_in_total"), "35");
        assert_eq!(metric(&text, "prometheus_remote_storage_samples_total"), "25");
        assert_eq!(metric(&text, "prometheus_remote_storage_samples_failed_total"), "10");
        assert_eq!(metric(&text, "prometheus_remote_storage_samples_retried_total"), "30");
        assert_eq!(metric(&text, "prometheus_remote_storage_samples_pending"), "0");
        shutdown.request();
    }
}

#[tokio::test]
async fn a_server_that_does_not_know_2_0_gets_1_0_and_misses_nothing() {
    let fake = Fake::answering(&[(415, None)]);
    let (shutdown, data) = (Shutdown::new(), tempfile::tempdir().unwrap());
    let config = config(&fake.serve(&shutdown).await, "protobuf_message: io.prometheus.write.v2.Request");
    let stage = start(&config, data.path(), &Labels::empty());
    stage.taps.samples(samples(0..25));
    fake.until_taken(25).await;
    let text = stage.stop().await;
    let state = fake.state();
    assert_eq!(state.taken.iter().map(|(_, at, _)| *at).collect::<Vec<_>>(), (0..25).collect::<Vec<_>>());
    assert_eq!(state.taken[3], (r#"orders_total{service="order"}"#.to_owned(), 3, 3.0));
    let messages: Vec<_> = state.headers.iter().map(|headers| headers["content-type"].to_str().unwrap()).collect();
    let (v1, v2) = (Message::V1.content_type(), Message::V2.content_type());
    assert_eq!(messages, [v2, v1, v1, v1], "it is asked for 2.0 once");
    assert!(state.headers[1..].iter().all(|headers| headers["x-prometheus-remote-write-version"] == "0.1.0"));
    assert_eq!(metric(&text, "prometheus_remote_storage_samples_total"), "25");
    shutdown.request();
}

#[tokio::test]
async fn what_a_dead_server_has_not_taken_arrives_after_a_restart() {
    let data = tempfile::tempdir().unwrap();
    // A port that nobody listens on.
    let free = service::http::bind(([127, 0, 0, 1], 0).into(), "test").await.unwrap().local_addr().unwrap();
    let dead = config(&format!("http://{free}/"), "");
    let stage = start(&dead, data.path(), &Labels::empty());
    stage.taps.samples(samples(0..25));
    let text = stage.stop().await;
    assert_eq!(metric(&text, "prometheus_remote_storage_samples_pending"), "25");

    let (fake, shutdown) = (Fake::default(), Shutdown::new());
    // The same name, so the same log; the address may change.
    let alive = config(&fake.serve(&shutdown).await, "");
    let stage = start(&alive, data.path(), &Labels::empty());
    stage.taps.samples(samples(25..30));
    fake.until_taken(30).await;
    stage.stop().await;
    let times: Vec<i64> = fake.state().taken.iter().map(|(_, at, _)| *at).collect();
    assert_eq!(times, (0..30).collect::<Vec<_>>());
    shutdown.request();
}

#[tokio::test]
async fn series_are_relabelled_and_carry_the_external_labels() {
    let (fake, shutdown, data) = (Fake::default(), Shutdown::new(), tempfile::tempdir().unwrap());
    let rules = "write_relabel_configs: [{source_labels: [service], regex: user, action: drop}, {regex: pod, action: labeldrop}]";
    let config = config(&fake.serve(&shutdown).await, rules);
    let external = Labels::from_pairs([("cluster", "prod"), ("service", "never")]);
    let stage = start(&config, data.path(), &external);
    let sample = |pairs: &[(&str, &str)]| Sample {
        labels: Labels::from_pairs(pairs.iter().copied()),
        timestamp: Timestamp(1),
        value: 1.0,
    };
    let up = |service| sample(&[("__name__", "up"), ("service", service), ("pod", "x")]);
    stage.taps.samples(vec![up("order"), up("user"), up("order")]);
    fake.until_taken(2).await;
    let text = stage.stop().await;
    assert!(fake.state().taken.iter().all(|(labels, ..)| labels == r#"up{cluster="prod", service="order"}"#));
    let dropped = r#"reason="dropped_series"} 1"#;
    assert!(text.contains(dropped), "{text}");
    shutdown.request();
}

/// The signature is worked out anew from what arrived.
#[tokio::test]
async fn requests_are_signed_for_amazon_managed_prometheus() {
    let (fake, shutdown, data) = (Fake::default(), Shutdown::new(), tempfile::tempdir().unwrap());
    let keys = "sigv4: {region: eu-central-1, access_key: AKIDEXAMPLE, secret_key: not-a-secret}";
    let config = config(&fake.serve(&shutdown).await, keys);
    let stage = start(&config, data.path(), &Labels::empty());
    stage.taps.samples(samples(0..3));
    fake.until_taken(3).await;
    stage.stop().await;
    let state = fake.state();
    let (headers, body) = (&state.headers[0], &state.bodies[0]);
    let authorization = headers["authorization"].to_str().unwrap();
    let expected = signature(headers, "/workspaces/ws-1/api/v1/remote_write", body, "not-a-secret");
    assert!(authorization.contains("/eu-central-1/aps/aws4_request, "), "{authorization}");
    assert!(authorization.ends_with(&format!("Signature={expected}")), "{authorization}, expected {expected}");
    shutdown.request();
}

#[tokio::test]
async fn a_server_is_reached_by_a_proxy_with_a_token_and_headers_of_one_s_own() {
    let (fake, shutdown, data) = (Fake::default(), Shutdown::new(), tempfile::tempdir().unwrap());
    let url = fake.serve(&shutdown).await;
    let (proxy, path) = url.split_at(url.find("/workspaces").unwrap());
    let listener = service::http::bind(([127, 0, 0, 1], 0).into(), "test").await.unwrap();
    let issuer = listener.local_addr().unwrap();
    let token = Router::new().route("/token", post(async || r#"{"access_token": "t1"}"#));
    service::task::spawn("issuer", service::http::serve(listener, token, shutdown.clone()));
    let more = format!(
        "proxy_url: '{proxy}', http_headers: {{x-key: {{secrets: [hunter2]}}}}, \
         oauth2: {{client_id: me, client_secret: s, token_url: 'http://{issuer}/token'}}"
    );
    // Nobody knows this name: the proxy alone is asked.
    let config = config(&format!("http://far.invalid{path}"), &more);
    let stage = start(&config, data.path(), &Labels::empty());
    stage.taps.samples(samples(0..5));
    fake.until_taken(5).await;
    stage.stop().await;
    let state = fake.state();
    assert_eq!(
        (&state.headers[0]["authorization"], &state.headers[0]["x-key"]),
        (&"Bearer t1".parse().unwrap(), &"hunter2".parse().unwrap())
    );
    assert_eq!(state.headers[0]["host"], "far.invalid");
}

#[test]
fn what_cannot_be_sent_to_is_refused_by_name() {
    for (yaml, part) in [
        ("{url: 'ftp://x/'}", "is not http or https"),
        ("{url: 'http://x/', sigv4: {access_key: a}}", "access_key and secret_key go together"),
        ("{url: 'http://x/', sigv4: {}, authorization: {credentials: a}}", "at most one of"),
        ("{url: 'http://x/', tls_config: {cert_file: a}}", "cert_file needs key_file"),
        ("{url: 'http://x/', queue_config: {max_samples_per_send: 0}}", "max_samples_per_send"),
        (
            "{url: 'http://x/', queue_config: {min_shards: 5, max_shards: 4}}",
            "min_shards must lie between 1 and max_shards",
        ),
        ("{url: 'http://x/', queue_config: {max_shards: 100000}}", "max_shards cannot be above 1024"),
        ("{url: 'http://x/', metadata_config: {send_interval: 0s}}", "metadata_config"),
        ("{url: 'http://x/', log_size_max: 1KiB}", "log_size_max"),
    ] {
        let config: Config = service::config::parse_yaml(yaml, Path::new("test.yml")).unwrap();
        let error = Config::check_all(&[config]).unwrap_err();
        assert!(error.contains(part), "{yaml}: {error}");
    }
    let twice = config("http://x/", "");
    assert!(Config::check_all(&[twice.clone(), twice]).unwrap_err().contains("two remote_write entries"));
    let unknown = service::config::parse_yaml::<Config>("{url: 'http://x/', proxy_url: y}", Path::new("test.yml"));
    assert!(unknown.unwrap_err().to_string().contains("proxy_url"));
}

/// AWS Signature Version 4 from its description, with nothing of the signer's code.
mod hmac_of_the_test {
    use axum::http::HeaderMap;
    use sha2::{Digest, Sha256};

    fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
        let mut block = if key.len() > 64 { Sha256::digest(key).to_vec() } else { key.to_vec() };
        block.resize(64, 0);
        let padded = |with: u8| block.iter().map(|byte| byte ^ with).collect::<Vec<u8>>();
        let inner = Sha256::digest([padded(0x36), text.to_vec()].concat());
        Sha256::digest([padded(0x5c), inner.to_vec()].concat()).to_vec()
    }

    pub(super) fn signature(headers: &HeaderMap, path: &str, body: &[u8], secret: &str) -> String {
        let authorization = headers["authorization"].to_str().unwrap();
        let part = |name: &str| authorization.split_once(name).unwrap().1.split(',').next().unwrap().trim();
        let scope = part("Credential=").split_once('/').unwrap().1;
        let names = part("SignedHeaders=");
        let lines = names.split(';').map(|name| format!("{name}:{}\n", headers[name].to_str().unwrap().trim()));
        let lines: String = lines.collect();
        let body = hex::encode(Sha256::digest(body));
        let canonical = format!("POST\n{path}\n\n{lines}\n{names}\n{body}");
        let date = headers["x-amz-date"].to_str().unwrap();
        let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex::encode(Sha256::digest(canonical)));
        let first = format!("AWS4{secret}").into_bytes();
        let key = scope.split('/').fold(first, |key, part| hmac(&key, part.as_bytes()));
        hex::encode(hmac(&key, text.as_bytes()))
    }
}
