use std::sync::Arc;

use storage::Storage;
use telemetry::remote_write::{Encoder, Message, Point, TimeSeries};
use telemetry::{Histogram, Labels, Matcher, Timestamp};
use tower::ServiceExt;

use super::*;
use crate::clock::Clock;
use crate::write::{Watermark, Writer};

const NOW: i64 = 1_700_000_000_000;

struct Stage {
    router: Router,
    storage: Arc<Storage>,
    metrics: Metrics,
}

fn stage(config: &Config) -> Stage {
    stage_with(config, |_| {})
}

fn stage_with(config: &Config, prepare: impl FnOnce(&mut Writer)) -> Stage {
    let (metrics, storage) = (Metrics::new(), Arc::new(Storage::new(storage::Config::default())));
    let clock = Clock::starting_at(Timestamp(NOW));
    let (mut writer, write) = Writer::new(storage.clone(), clock, &metrics);
    prepare(&mut writer);
    service::task::spawn("write", writer.run());
    Stage { router: Ingest::new(config, &otlp::Config::default(), write, clock, &metrics).router(), storage, metrics }
}

fn body(message: Message, samples: &[(&[(&str, &str)], i64)]) -> Vec<u8> {
    let mut encoder = Encoder::new(message);
    for (pairs, timestamp) in samples {
        let labels = Labels::from_pairs(pairs.iter().copied());
        encoder.series(&TimeSeries::of_samples(&labels, &[Point::new(Timestamp(*timestamp), 1.5)]));
    }
    encoder.finish()
}

async fn post(stage: &Stage, headers: &[(&str, &str)], body: Vec<u8>) -> (StatusCode, HeaderMap, String) {
    post_to(stage, "/api/v1/write", headers, body).await
}

async fn post_to(
    stage: &Stage,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> (StatusCode, HeaderMap, String) {
    let mut request = Request::post(path).body(Body::from(body)).expect("a request");
    for (name, value) in headers {
        let name = HeaderName::try_from(*name).expect("a name");
        request.headers_mut().insert(name, HeaderValue::try_from(*value).expect("a value"));
    }
    let response = stage.router.clone().oneshot(request).await.expect("an answer");
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
    (parts.status, parts.headers, String::from_utf8(body.to_vec()).expect("text"))
}

/// With a series of each name, of job `a`.
async fn push_names(stage: &Stage, names: &[&str], at: i64) -> (StatusCode, String) {
    let pairs: Vec<[(&str, &str); 2]> = names.iter().map(|name| [("__name__", *name), ("job", "a")]).collect();
    let samples: Vec<(&[(&str, &str)], i64)> = pairs.iter().map(|pairs| (pairs.as_slice(), at)).collect();
    let (status, _, text) = post(stage, &[], body(Message::V1, &samples)).await;
    (status, text)
}

#[tokio::test(start_paused = true)]
async fn what_is_pushed_is_held_to_the_series_limit_of_its_job_by_new_series_alone() {
    let config = |limit: u64| {
        let yaml = format!("scrape_configs: [{{job_name: a, series_limit: {limit}}}]\nglobal: {{series_limit: 7}}\n");
        Arc::new(service::config::parse_yaml(&yaml, std::path::Path::new("c.yml")).expect("a configuration"))
    };
    let (sender, watched) = tokio::sync::watch::channel(config(2));
    let stage = stage_with(&Config::default(), |writer| writer.limit_pushed(watched));
    assert_eq!(push_names(&stage, &["x", "y"], NOW).await.0, StatusCode::NO_CONTENT);
    let refused = (StatusCode::BAD_REQUEST, "1 job_series_limit\n".to_owned());
    assert_eq!(push_names(&stage, &["x", "z", "y"], NOW + 1).await, refused);
    assert_eq!(stage.storage.stats().series, 2);
    let shown = stage.metrics.expose();
    assert!(shown.contains("collector_storage_samples_refused_total{reason=\"job_series_limit\"} 1"), "{shown}");
    // A reload reaches it.
    sender.send(config(3)).expect("the writer listens");
    assert_eq!(push_names(&stage, &["x", "z", "y"], NOW + 2).await.0, StatusCode::NO_CONTENT);
}

#[tokio::test(start_paused = true)]
async fn no_new_series_are_taken_while_memory_is_over_the_mark() {
    let used = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let reading = used.clone();
    let read = move || Some(reading.load(std::sync::atomic::Ordering::Relaxed));
    let stage = stage_with(&Config::default(), |writer| writer.watch_memory(Some(Watermark::new(100, read))));
    assert_eq!(push_names(&stage, &["x"], NOW).await.0, StatusCode::NO_CONTENT);
    let looked = || tokio::time::sleep(Duration::from_secs(3));
    used.store(101, std::sync::atomic::Ordering::Relaxed);
    looked().await;
    let refused = (StatusCode::BAD_REQUEST, "1 memory_limit\n".to_owned());
    assert_eq!(push_names(&stage, &["x", "y"], NOW + 1).await, refused);
    assert!(stage.metrics.expose().contains("collector_storage_memory_short 1\n"));
    used.store(90, std::sync::atomic::Ordering::Relaxed);
    looked().await;
    assert_eq!(push_names(&stage, &["x", "y"], NOW + 2).await.0, StatusCode::NO_CONTENT);
    assert!(stage.metrics.expose().contains("collector_storage_memory_short 0\n"));
}

const UP: &[(&str, &str)] = &[("__name__", "up"), ("job", "a")];

#[tokio::test(start_paused = true)]
async fn what_is_pushed_in_is_stored_under_both_protocols() {
    let stage = stage(&Config::default());
    let v2 = [("content-type", Message::V2.content_type()), ("content-encoding", "snappy")];
    let (status, headers, _) = post(&stage, &v2, body(Message::V2, &[(UP, NOW - 2_000)])).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(headers["x-prometheus-remote-write-samples-written"], "1");
    assert_eq!(headers["x-prometheus-remote-write-histograms-written"], "0");
    assert_eq!(headers["x-prometheus-remote-write-exemplars-written"], "0");
    // A sender of 1.0 without any header.
    let (status, headers, _) = post(&stage, &[], body(Message::V1, &[(UP, NOW - 1_000)])).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert!(!headers.contains_key("x-prometheus-remote-write-samples-written"));
    let series = stage.storage.select(&[Matcher::equal("job", "a")], Timestamp(0), Timestamp(NOW));
    assert_eq!(series[0].samples, [(Timestamp(NOW - 2_000), 1.5), (Timestamp(NOW - 1_000), 1.5)]);
}

fn some_histogram() -> Histogram {
    Histogram { count: 3.0, sum: 4.5, positive: vec![(2, 1.0), (3, 2.0)], ..Histogram::default() }
}

fn a_trace(timestamp: i64) -> Exemplar {
    let labels = Labels::from_pairs([("trace_id", "4bf92f3577b34da6a3ce929d0e0e4736")]);
    Exemplar { labels, value: 1.5, timestamp: Some(Timestamp(timestamp)) }
}

#[tokio::test(start_paused = true)]
async fn histograms_and_exemplars_are_stored_under_both_protocols() {
    let stage = stage(&Config::default());
    let labels = Labels::from_pairs([("__name__", "wait_seconds"), ("job", "a")]);
    let histogram = some_histogram();
    // Its buckets hold more than it counts.
    let broken = Histogram { count: 1.0, ..some_histogram() };
    for (message, at, code, written) in [
        (Message::V2, NOW - 3_000, StatusCode::NO_CONTENT, "1"),
        (Message::V1, NOW - 2_000, StatusCode::NO_CONTENT, "-"),
        // Again: what is there already is not refused, and what is broken is.
        (Message::V2, NOW - 1_000, StatusCode::BAD_REQUEST, "1"),
    ] {
        let mut histograms = vec![(Timestamp(at), &histogram)];
        if code == StatusCode::BAD_REQUEST {
            histograms.push((Timestamp(at + 1), &broken));
        }
        let mut encoder = Encoder::new(message);
        let exemplars = [a_trace(at)];
        encoder.series(&TimeSeries {
            histograms: &histograms,
            exemplars: &exemplars,
            ..TimeSeries::of_samples(&labels, &[])
        });
        let (status, headers, text) = post(&stage, &[("content-type", message.content_type())], encoder.finish()).await;
        assert_eq!(status, code, "{text}");
        let count = |kind: &str| {
            let header = headers.get(format!("x-prometheus-remote-write-{kind}-written"));
            header.map_or("-".to_owned(), |value| value.to_str().expect("text").to_owned())
        };
        assert_eq!((count("histograms"), count("exemplars")), (written.to_owned(), written.to_owned()));
    }
    let series = stage.storage.select(&[Matcher::equal("job", "a")], Timestamp(0), Timestamp(NOW));
    let times: Vec<i64> = series[0].histograms.iter().map(|(at, _)| NOW - at.0).collect();
    assert_eq!(times, [3_000, 2_000, 1_000]);
    assert_eq!(series[0].histograms[0].1.positive, histogram.positive);
    let found = stage.storage.exemplars().select(&[vec![Matcher::equal("job", "a")]], Timestamp(0), Timestamp(NOW));
    assert_eq!(found.iter().map(|(_, exemplars)| exemplars.len()).sum::<usize>(), 3);
    let metrics = stage.metrics.expose();
    let line = "collector_ingest_refused_total{protocol=\"remote_write_2\",reason=\"invalid_histogram\"} 1";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test(start_paused = true)]
async fn the_sound_part_of_a_request_is_stored_and_the_rest_is_named_and_counted() {
    let stage = stage(&Config::default());
    let samples: &[(&[(&str, &str)], i64)] =
        &[(UP, NOW), (UP, NOW - 60_000), (&[("job", "nameless")], NOW), (&[("__name__", "old")], NOW - 7 * 3_600_000)];
    let headers = [("content-type", Message::V2.content_type())];
    let (status, headers, text) = post(&stage, &headers, body(Message::V2, samples)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(headers["x-prometheus-remote-write-samples-written"], "1");
    for part in ["no metric name", "1 out_of_order", "1 too_old"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let metrics = stage.metrics.expose();
    for line in [
        "collector_ingest_refused_total{protocol=\"remote_write_2\",reason=\"invalid_labels\"} 1",
        "collector_ingest_refused_total{protocol=\"remote_write_2\",reason=\"out_of_order\"} 1",
        "collector_ingest_samples_total{protocol=\"remote_write_2\"} 1",
        "collector_ingest_requests_total{protocol=\"remote_write_2\",code=\"400\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_refused_by_its_kind() {
    let stage = stage(&Config { body_size_limit: 1_000, ..Config::default() });
    let good = || body(Message::V1, &[(UP, NOW)]);
    // Compresses to less than the limit, but not below it when read.
    let wide = Labels::from_pairs([("__name__", "up"), ("a", &"x".repeat(2_000))]);
    let mut encoder = Encoder::new(Message::V1);
    encoder.series(&TimeSeries::of_samples(&wide, &[]));
    for (headers, body, expected) in [
        (&[("content-type", "application/json")][..], good(), StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (&[("content-type", "application/x-protobuf;proto=other")], good(), StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (&[("content-encoding", "zstd")], good(), StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (&[], b"not snappy at all".to_vec(), StatusCode::BAD_REQUEST),
        (&[], b"\x03\x08\x0a\x05\x00".to_vec(), StatusCode::BAD_REQUEST),
        (&[], vec![0; 2_000], StatusCode::PAYLOAD_TOO_LARGE),
        (&[], encoder.finish(), StatusCode::PAYLOAD_TOO_LARGE),
        (&[], good(), StatusCode::NO_CONTENT),
    ] {
        let (status, _, text) = post(&stage, headers, body).await;
        assert_eq!(status, expected, "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_finds_no_place_is_told_when_to_come_back() {
    let stage = stage(&Config { concurrency_max: 1, ..Config::default() });
    // A body that never ends holds the only place.
    let endless = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
    let held = stage.router.clone().oneshot(Request::post("/api/v1/write").body(endless).expect("a request"));
    let held = service::task::spawn("held", held);
    tokio::task::yield_now().await;
    let (status, headers, _) = post(&stage, &[], body(Message::V1, &[(UP, NOW)])).await;
    assert_eq!((status, headers["retry-after"].as_bytes()), (StatusCode::SERVICE_UNAVAILABLE, &b"5"[..]));
    held.abort();
}

#[tokio::test]
async fn each_protocol_can_be_switched_off() {
    let stage = stage(&Config { remote_write: false, otlp: false, ..Config::default() });
    assert_eq!(post(&stage, &[], Vec::new()).await.0, StatusCode::NOT_FOUND);
    assert_eq!(post_to(&stage, OTLP, &[], Vec::new()).await.0, StatusCode::NOT_FOUND);
}

const OTLP: &str = "/api/v1/otlp/v1/metrics";

fn otlp_body(points: serde_json::Value) -> Vec<u8> {
    let name = serde_json::json!({"key": "service.name", "value": {"stringValue": "order"}});
    let sum = serde_json::json!({"aggregationTemporality": 2, "isMonotonic": true, "dataPoints": points});
    let metrics = serde_json::json!([{"name": "jobs", "sum": sum}]);
    serde_json::json!({"resourceMetrics": [{"resource": {"attributes": [name]}, "scopeMetrics": [{"metrics": metrics}]}]})
        .to_string()
        .into_bytes()
}

#[tokio::test(start_paused = true)]
async fn otlp_exponential_histograms_and_exemplars_are_stored() {
    let stage = stage(&Config::default());
    let at = (NOW * 1_000_000).to_string();
    let exemplar = serde_json::json!({"timeUnixNano": at, "asDouble": 1.5, "traceId": "4bf92f3577b34da6a3ce929d0e0e4736",
        "spanId": "00f067aa0ba902b7"});
    let point = serde_json::json!({"timeUnixNano": at, "count": "3", "sum": 4.5, "scale": 0, "exemplars": [exemplar],
        "positive": {"offset": 1, "bucketCounts": ["1", "2"]}});
    let metric = serde_json::json!({"name": "wait", "unit": "s",
        "exponentialHistogram": {"aggregationTemporality": 2, "dataPoints": [point]}});
    let body = serde_json::json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}).to_string();
    let json = [("content-type", "application/json")];
    let (status, _, text) = post_to(&stage, OTLP, &json, body.into_bytes()).await;
    assert_eq!((status, text.as_str()), (StatusCode::OK, "{}"));
    let wait = [Matcher::equal("__name__", "wait_seconds")];
    let series = stage.storage.select(&wait, Timestamp(0), Timestamp(NOW));
    assert_eq!(
        (series[0].histograms[0].1.count, &series[0].histograms[0].1.positive[..]),
        (3.0, &[(2, 1.0), (3, 2.0)][..])
    );
    let found = stage.storage.exemplars().select(&[wait.to_vec()], Timestamp(0), Timestamp(NOW));
    assert_eq!(found[0].1[0].labels.get("trace_id"), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
}

#[tokio::test(start_paused = true)]
async fn otlp_metrics_are_stored_and_what_is_not_is_told() {
    use std::io::Write as _;

    let stage = stage(&Config { body_size_limit: 5_000, ..Config::default() });
    let at = |ms: i64| (ms * 1_000_000).to_string();
    let points = serde_json::json!([
        {"timeUnixNano": at(NOW), "asInt": "3"},
        {"timeUnixNano": at(NOW - 8 * 3_600_000), "asInt": "3"},
    ]);
    let json = [("content-type", "application/json"), ("content-encoding", "gzip")];
    let zip = |body: &[u8]| {
        let mut zip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        zip.write_all(body).expect("in memory");
        zip.finish().expect("in memory")
    };
    let (status, headers, text) = post_to(&stage, OTLP, &json, zip(&otlp_body(points))).await;
    assert_eq!((status, headers["content-type"].as_bytes()), (StatusCode::OK, &b"application/json"[..]));
    assert_eq!(text, r#"{"partialSuccess":{"errorMessage":"1 too_old","rejectedDataPoints":"1"}}"#);
    let series = stage.storage.select(&[Matcher::equal("__name__", "jobs_total")], Timestamp(0), Timestamp(NOW));
    assert_eq!((series[0].labels.to_string(), series[0].samples[0].1), (r#"jobs_total{job="order"}"#.to_owned(), 3.0));

    let plain = [("content-type", "application/json")];
    let good = serde_json::json!([{"timeUnixNano": at(NOW + 1_000), "asInt": "4"}]);
    assert_eq!(post_to(&stage, OTLP, &plain, otlp_body(good)).await.2, "{}");
    for (headers, body, expected) in [
        (&plain[..], b"{".to_vec(), StatusCode::BAD_REQUEST),
        (&json, b"no gzip".to_vec(), StatusCode::BAD_REQUEST),
        (&json, zip(&[b' '; 6_000]), StatusCode::PAYLOAD_TOO_LARGE),
        (&[("content-type", "text/plain")], Vec::new(), StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (
            &[("content-type", "application/json"), ("content-encoding", "br")],
            Vec::new(),
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ),
        (&[("content-type", "application/x-protobuf")], Vec::new(), StatusCode::OK),
    ] {
        let (status, _, text) = post_to(&stage, OTLP, headers, body).await;
        assert_eq!(status, expected, "{text}");
    }
}
