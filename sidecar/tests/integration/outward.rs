//! What is sent on: lines of EMF as CloudWatch wants them, signatures, samples by OTLP, chosen traces.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric::Data};
use prost::Message;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::routing::{get, post};

use crate::setup::{Sidecar, eventually, serve, serve_metadata};

#[expect(clippy::disallowed_methods, reason = "tests find their tools by the environment")]
fn var(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

const BODY: &str = "# TYPE jobs_total counter\njobs_total{queue=\"a\"} 7\n# TYPE depth gauge\ndepth 3\n\
    # TYPE wait_seconds histogram\nwait_seconds_bucket{le=\"1\"} 2\nwait_seconds_bucket{le=\"+Inf\"} 3\n\
    wait_seconds_sum 4.5\nwait_seconds_count 3\n";

async fn app() -> String {
    format!("http://{}/metrics", serve(Router::new().route("/metrics", get(|| async { BODY }))).await)
}

/// The schema of AWS' own documentation, where others' test cases lie.
#[tokio::test]
async fn lines_of_emf_are_valid_by_their_schema_and_told_what_they_cost() {
    let app = app().await;
    let directory = tempfile::tempdir().expect("tempdir");
    let out = std::fs::File::create(directory.path().join("out")).expect("created");
    let sidecar = env!("CARGO_BIN_EXE_sidecar");
    let mut child = Command::new(sidecar)
        .arg("run")
        .envs([
            ("SIDECAR_LISTEN", "127.0.0.1:0"),
            ("SIDECAR_OTLP_LISTEN", "off"),
            ("SIDECAR_OTLP_GRPC_LISTEN", "off"),
            ("SIDECAR_STATSD_LISTEN", "off"),
            ("SIDECAR_APP_HEALTH_URL", "off"),
            ("SIDECAR_APP_METRICS_URL", app.as_str()),
            ("SIDECAR_LOGS_OUTPUT", "stdout"),
            ("SIDECAR_EMF_METRICS", "jobs_total,depth,wait_seconds,sidecar_emf_cost_per_month_dollars"),
            ("SIDECAR_EMF_INTERVAL", "100ms"),
            ("LOG_LEVEL", "off"),
        ])
        .env_remove("ECS_CONTAINER_METADATA_URI_V4")
        .stdout(out)
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let lines = || -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(directory.path().join("out")).expect("readable");
        let whole = text.lines().filter(|line| line.starts_with("{\"_aws\""));
        whole.filter_map(|line| serde_json::from_str(line).ok()).collect()
    };
    eventually("three lines are out", || async { lines().len() >= 3 }).await;
    child.kill().and_then(|()| child.wait()).expect("ended");
    let lines = lines();
    let last = &lines[2];
    assert_eq!(
        (&last["depth"], &last["jobs_total"], &last["wait_seconds_count"]),
        (&serde_json::json!(3.0), &serde_json::json!(0.0), &serde_json::json!(0.0))
    );
    // Four metrics at 0.30 dollars and their lines.
    assert!(last["sidecar_emf_cost_per_month_dollars"].as_f64().expect("a number") > 1.5, "{last}");

    let (Some(python), Some(shared)) = (var("PICKET_PYTHON"), var("PICKET_SHARED")) else { return };
    let schema = PathBuf::from(shared).join("fixtures/emf-schema.json");
    let check = "import json, sys, jsonschema\nschema = jsonschema.Draft7Validator(json.load(open(sys.argv[1])))\n\
                 for line in json.load(sys.stdin): schema.validate(line)\nprint('valid')";
    let mut python = Command::new(python);
    let python = python.args(["-c", check]).arg(schema).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut check = python.spawn().expect("starts");
    let text = serde_json::to_string(&lines).expect("JSON");
    check.stdin.take().expect("piped").write_all(text.as_bytes()).expect("written");
    let output = check.wait_with_output().expect("ended");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "valid");
}

/// A receiver that does not know the newer protocol says 415, or accepts what it has not read.
#[tokio::test]
async fn an_older_receiver_gets_remote_write_1_0_and_nothing_is_lost() {
    use axum::http::{HeaderMap, StatusCode};
    use telemetry::remote_write::{Decoder, Limits, Message, decompress};
    for to_newer in [StatusCode::UNSUPPORTED_MEDIA_TYPE, StatusCode::NO_CONTENT] {
        let taken: Arc<Mutex<Vec<(Message, Bytes)>>> = Arc::default();
        let keep = taken.clone();
        let sink = post(move |headers: HeaderMap, body: Bytes| async move {
            let message = Message::from_content_type(headers["content-type"].to_str().expect("text")).expect("known");
            assert_eq!(headers["x-prometheus-remote-write-version"], message.version());
            keep.lock().expect("not poisoned").push((message, body));
            if message == Message::V2 { to_newer } else { StatusCode::NO_CONTENT }
        });
        let url = format!("http://{}/write", serve(Router::new().route("/write", sink)).await);
        let app = app().await;
        let sidecar = Sidecar::start(&[
            ("SIDECAR_APP_METRICS_URL", &app),
            ("SIDECAR_APP_HEALTH_URL", "off"),
            ("SIDECAR_REMOTE_WRITE_URL", &url),
            ("SIDECAR_REMOTE_WRITE_VERSION", "2.0"),
            ("SIDECAR_METRICS_INTERVAL", "100ms"),
        ])
        .await;
        eventually("some requests are in", || async { taken.lock().expect("not poisoned").len() >= 4 }).await;
        let delivered = sidecar.metric("sidecar_metrics_out_samples_total").await;
        assert!(delivered > 0.0 && !sidecar.get("/metrics").await.1.contains("sidecar_metrics_out_dropped_total{"));
        sidecar.stop().await;
        let taken = taken.lock().expect("not poisoned");
        let messages: Vec<Message> = taken.iter().map(|(message, _)| *message).collect();
        assert_eq!(messages[0], Message::V2);
        assert!(messages[1..].iter().all(|message| *message == Message::V1), "asked once: {messages:?}");
        let count = |(message, body): &(Message, Bytes)| {
            let bytes = decompress(body, &Limits::default()).expect("snappy");
            let (limits, mut series) = (Limits::default(), 0);
            let mut decoder = Decoder::new(*message, &bytes, &limits).expect("a request");
            while decoder.next_series().expect("sound").is_some() {
                series += 1;
            }
            series
        };
        assert!(count(&taken[0]) > 10);
        assert_eq!(count(&taken[0]), count(&taken[1]), "the same samples, said again");
    }
}

#[tokio::test]
async fn samples_go_out_by_otlp_under_opentelemetry_s_names() {
    let taken: Arc<Mutex<Vec<Bytes>>> = Arc::default();
    let keep = taken.clone();
    let sink = post(move |body: Bytes| async move { keep.lock().expect("not poisoned").push(body) });
    let endpoint = format!("http://{}/v1/metrics", serve(Router::new().route("/v1/metrics", sink)).await);
    let (app, metadata) = (app().await, serve_metadata().await);
    let sidecar = Sidecar::start(&[
        ("ECS_CONTAINER_METADATA_URI_V4", &metadata),
        ("SIDECAR_APP_METRICS_URL", &app),
        ("SIDECAR_APP_HEALTH_URL", "off"),
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", &endpoint),
        ("SIDECAR_METRICS_INTERVAL", "100ms"),
    ])
    .await;
    let decode = |body: &Bytes| {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut plain).expect("gzip");
        ExportMetricsServiceRequest::decode(&plain[..]).expect("decodes")
    };
    let last = || taken.lock().expect("not poisoned").last().map(decode);
    let has_cpu = |request: &ExportMetricsServiceRequest| {
        request.resource_metrics[0].scope_metrics[0].metrics.iter().any(|m| m.name == "container.cpu.time")
    };
    eventually("figures of the task arrive", || async { last().as_ref().is_some_and(has_cpu) }).await;
    let request = last().expect("as before");
    let resource = request.resource_metrics[0].resource.clone().expect("a resource");
    let keys: Vec<&str> = resource.attributes.iter().map(|pair| pair.key.as_str()).collect();
    for key in ["service.name", "aws.ecs.task.arn", "cloud.region", "cloud.availability_zone"] {
        assert_eq!(keys.iter().filter(|known| **known == key).count(), 1, "{key} in {keys:?}");
    }
    let metrics: BTreeMap<&str, &Metric> =
        request.resource_metrics[0].scope_metrics[0].metrics.iter().map(|m| (m.name.as_str(), m)).collect();
    let Some(Data::Sum(jobs)) = &metrics["jobs"].data else { panic!("{:?}", metrics["jobs"]) };
    assert!(jobs.is_monotonic && jobs.aggregation_temporality == 2);
    let attributes: Vec<&str> = jobs.data_points[0].attributes.iter().map(|pair| pair.key.as_str()).collect();
    assert_eq!(attributes, ["queue"], "what the resource says is not said again");
    let Some(Data::Histogram(wait)) = &metrics["wait_seconds"].data else { panic!("{:?}", metrics["wait_seconds"]) };
    let point = &wait.data_points[0];
    assert_eq!(
        (point.count, point.sum, &point.bucket_counts[..], &point.explicit_bounds[..]),
        (3, Some(4.5), &[2, 1][..], &[1.0][..])
    );
    sidecar.stop().await;
}

/// One that speaks the protobuf format alone: a histogram with a classic bucket, and a native one.
#[tokio::test]
async fn an_app_that_exposes_protobuf_is_read_and_what_has_no_place_is_counted() {
    let body = [&b"\x21\x0a\x01w\x18\x04\x22\x1a\x3a\x18\x08\x03\x11\0\0\0\0\0\0\xf0\x3f\x1a\x0b\x08\x02\x11\0\0\0\0\0\0\xe0\x3f"[..], b"\x1d\x0a\x01n\x18\x04\x22\x16\x3a\x14\x08\x03\x28\x061\0\0\0\0\0\0\xf0\x3fb\x02\x10\x01j\x01\x06"].concat();
    let content_type = telemetry::exposition::protobuf::CONTENT_TYPE;
    let answer = move || std::future::ready(([("content-type", content_type)], body.clone()));
    let app = serve(Router::new().route("/metrics", get(answer))).await;
    let url = format!("http://{app}/metrics");
    let sidecar = Sidecar::start(&[("SIDECAR_APP_METRICS_URL", &url), ("SIDECAR_APP_HEALTH_URL", "off")]).await;
    for (series, value) in [
        (r#"w_bucket{environment="dev",le="0.5""#, 2.0),
        (r#"w_bucket{environment="dev",le="+Inf""#, 3.0),
        ("w_sum{", 1.0),
        ("n_count{", 3.0),
        ("sidecar_app_native_histograms_reduced", 1.0),
        ("sidecar_app_scrape_up", 1.0),
    ] {
        assert_eq!(sidecar.metric(series).await, value, "{series}");
    }
    sidecar.stop().await;
}
