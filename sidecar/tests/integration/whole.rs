//! What comes in, comes out: metrics, health, log lines, traces.

use axum::Router;
use axum::routing::get;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use std::io::Write;
use telemetry::exposition;

use crate::setup::{Backend, FakeApp, Sidecar, TASK_ID, eventually, serve, serve_metadata};

/// A request with this many spans.
pub(crate) fn trace_request(spans: usize) -> Vec<u8> {
    let span = Span { name: "GET /".into(), trace_id: vec![1; 16], span_id: vec![2; 8], ..Span::default() };
    let scope_spans = vec![ScopeSpans { spans: vec![span; spans], ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

#[tokio::test]
async fn metrics_of_the_app_and_the_task_carry_the_standard_labels_in_both_formats() {
    let (metadata, app) = (serve_metadata().await, FakeApp::default().serve().await);
    let metrics_url = format!("http://{app}/metrics");
    let sidecar = Sidecar::start(&[
        ("ECS_CONTAINER_METADATA_URI_V4", &metadata),
        ("ENVIRONMENT", "prod"),
        ("SIDECAR_APP_METRICS_URL", &metrics_url),
        ("SIDECAR_APP_HEALTH_URL", "off"),
    ])
    .await;
    eventually("the task's metrics are there", || async {
        sidecar.get("/metrics").await.1.contains("ecs_task_cpu_limit_vcpus")
    })
    .await;

    let (_, text) = sidecar.get("/metrics").await;
    let standard = "environment=\"prod\",";
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        assert!(line.contains(standard) && line.contains(&format!("task_id=\"{TASK_ID}\"")), "{line}");
    }
    for line in [
        format!(
            "http_requests_total{{az=\"eu-central-1a\",environment=\"prod\",family=\"dev-order\",method=\"GET\",path=\"/\",revision=\"1\",service=\"order\",status=\"200\",task_id=\"{TASK_ID}\"}} 42"
        ),
        format!(
            "payments_total{{az=\"eu-central-1a\",environment=\"prod\",exported_service=\"stripe\",family=\"dev-order\",revision=\"1\",service=\"order\",task_id=\"{TASK_ID}\"}} 7"
        ),
        // Ours, not the 99 of the app that took our name.
        format!(
            "ecs_task_cpu_limit_vcpus{{az=\"eu-central-1a\",environment=\"prod\",family=\"dev-order\",revision=\"1\",service=\"order\",task_id=\"{TASK_ID}\"}} 0.25"
        ),
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\nnot in\n{text}");
    }
    assert_eq!(sidecar.metric("sidecar_app_scrape_up").await, 1.0);
    assert_eq!(sidecar.metric("sidecar_app_scrape_series").await, 3.0);

    let request = reqwest::Client::new().get(format!("{}/metrics", sidecar.url));
    let answer = request.header("accept", "application/openmetrics-text;version=1.0.0").send().await.expect("answers");
    assert!(answer.headers()["content-type"].to_str().expect("text").starts_with("application/openmetrics-text"));
    let text = answer.text().await.expect("text");
    exposition::strict::check(text.as_bytes()).expect("OpenMetrics 1.0");
    sidecar.stop().await;
}

#[tokio::test]
async fn an_app_that_hangs_costs_its_own_metrics_alone() {
    let hangs = Router::new().route("/metrics", get(std::future::pending::<&str>));
    let metrics_url = format!("http://{}/metrics", serve(hangs).await);
    let sidecar = Sidecar::start(&[("SIDECAR_APP_METRICS_URL", &metrics_url), ("SIDECAR_APP_HEALTH_URL", "off")]).await;
    let request = reqwest::Client::new().get(format!("{}/metrics", sidecar.url));
    let begun = std::time::Instant::now();
    let answer = request.header("x-prometheus-scrape-timeout-seconds", "0.5").send().await.expect("answers");
    let text = answer.text().await.expect("text");
    assert!(begun.elapsed() < std::time::Duration::from_secs(4), "not the five seconds of the default");
    assert!(text.contains("\nsidecar_app_scrape_up{environment=\"dev\",service=\"unknown\",task_id=\"unknown\"} 0\n"));
    sidecar.stop().await;
}

#[tokio::test]
async fn a_metric_with_too_many_series_is_cut_and_its_total_stays_right() {
    let body: String = (0..50).map(|n| format!("logins_total{{user=\"{n:02}\"}} 2\n")).collect();
    let body = format!("# TYPE logins_total counter\n{body}");
    let app = Router::new().route("/metrics", get(move || std::future::ready(body.clone())));
    let metrics_url = format!("http://{}/metrics", serve(app).await);
    let sidecar = Sidecar::start(&[
        ("SIDECAR_APP_METRICS_URL", &metrics_url),
        ("SIDECAR_APP_SERIES_MAX", "10"),
        ("SIDECAR_APP_HEALTH_URL", "off"),
    ])
    .await;
    let (_, text) = sidecar.get("/metrics").await;
    assert_eq!(text.lines().filter(|l| l.starts_with("logins_total{")).count(), 11);
    let overflow = r#"logins_total{environment="dev",service="unknown",task_id="unknown",user="overflow"}"#;
    assert_eq!(sidecar.metric(overflow).await, 80.0, "forty of fifty users with two logins each");
    assert_eq!(sidecar.metric("sidecar_app_series_cut{").await, 40.0);
    sidecar.stop().await;
}

#[tokio::test]
async fn readiness_relays_the_app_and_liveness_does_not() {
    let app = FakeApp::default();
    let health_url = format!("http://{}/health/ready", app.serve().await);
    let sidecar = Sidecar::start(&[
        ("SIDECAR_APP_METRICS_URL", "off"),
        ("SIDECAR_APP_HEALTH_URL", &health_url),
        ("SIDECAR_APP_HEALTH_INTERVAL", "50ms"),
    ])
    .await;
    eventually("the app was probed", || async { sidecar.get("/metrics").await.1.contains("app_probe_up") }).await;
    let (status, body) = sidecar.get("/health/app").await;
    assert_eq!(status, 503);
    assert!(body.contains("answered 503 Service Unavailable: no database"), "{body}");
    assert_eq!(sidecar.get("/health/ready").await.0, 503);
    assert_eq!(sidecar.get("/health/live").await.0, 200);
    assert_eq!(sidecar.metric("app_probe_up{").await, 0.0);

    app.set_ready(true);
    eventually("the app is ready", || async { sidecar.get("/health/app").await.0 == 200 }).await;
    // The readiness report serves a check's answer for two seconds.
    eventually("the sidecar is ready", || async { sidecar.get("/health/ready").await.0 == 200 }).await;
    assert_eq!(sidecar.metric("app_probe_up{").await, 1.0, "live and startup do not exist in this app");
    sidecar.stop().await;
}

#[tokio::test]
async fn log_lines_are_served_while_they_are_fresh() {
    let directory = tempfile::tempdir().expect("tempdir");
    let path = directory.path().join("app.log");
    let mut file = std::fs::File::create(&path).expect("create");
    let sidecar = Sidecar::start(&[
        ("SIDECAR_SERVICE", "order"),
        ("SIDECAR_LOG_FILES", path.to_str().expect("utf-8")),
        ("SIDECAR_APP_METRICS_URL", "off"),
        ("SIDECAR_APP_HEALTH_URL", "off"),
    ])
    .await;
    eventually("the file is open", || async {
        sidecar
            .get("/metrics")
            .await
            .1
            .contains("sidecar_log_files_open{environment=\"dev\",service=\"order\",task_id=\"unknown\"} 1")
    })
    .await;
    let line = r#"{"timestamp":"2026-01-15T10:30:00.000Z","level":"error","service":"order","version":"1","environment":"dev","trace_id":"0af7651916cd43dd8448eb211c80319c","message":"card refused","data":{"token":"x"}}"#;
    writeln!(file, "starting up\n{line}\nWARN slow").expect("write");
    eventually("three lines are in", || async { sidecar.metric("sidecar_log_records_in_total").await == 3.0 }).await;

    let (status, body) = sidecar.get("/logs/recent?level=error&limit=5").await;
    let kept = line
        .replace(r#""token":"x"}}"#, r#""token":"[redacted]"},"xray_trace_id":"1-0af76519-16cd43dd8448eb211c80319c"}"#);
    assert_eq!((status, body), (200, format!(r#"{{"records":[{kept}],"dropped":0}}"#)));
    let (_, body) = sidecar.get("/logs/recent?trace_id=0af7651916cd43dd8448eb211c80319c").await;
    assert_eq!(body.matches("card refused").count(), 1);
    assert_eq!(sidecar.get("/logs/recent?level=loud").await.0, 400);
    assert_eq!(sidecar.metric("sidecar_log_values_redacted_total").await, 1.0);
    sidecar.stop().await;
}

#[tokio::test]
async fn traces_go_on_byte_for_byte_and_are_repeated_until_they_are_taken() {
    let backend = Backend::answering([503, 429]);
    let endpoint = format!("http://{}", backend.serve().await);
    let sidecar = Sidecar::start(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=k1"),
        ("SIDECAR_APP_METRICS_URL", "off"),
        ("SIDECAR_APP_HEALTH_URL", "off"),
    ])
    .await;
    let plain = trace_request(3);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&trace_request(2)).expect("memory");
    let gzip = gzip.finish().expect("memory");
    assert_eq!(sidecar.post_traces("application/x-protobuf", None, plain.clone()).await, (200, String::new()));
    assert_eq!(sidecar.post_traces("application/x-protobuf", Some("gzip"), gzip.clone()).await.0, 200);
    assert_eq!(sidecar.post_traces("text/plain", None, plain.clone()).await.0, 415);
    assert_eq!(sidecar.post_traces("application/x-protobuf", None, b"nonsense".to_vec()).await.0, 400);

    eventually("both requests arrived", || async { backend.taken().len() == 2 }).await;
    assert_eq!(backend.requests(), 4, "two refusals, two acceptances");
    let taken = backend.taken();
    assert_eq!((&taken[0].1[..], &taken[1].1[..]), (&plain[..], &gzip[..]));
    assert_eq!(taken[0].0["content-type"], "application/x-protobuf");
    assert_eq!(taken[0].0["api-key"], "k1");
    assert_eq!(taken[1].0["content-encoding"], "gzip");
    eventually("the books are settled", || async { sidecar.metric("sidecar_spans_waiting").await == 0.0 }).await;
    assert_eq!(sidecar.metric("sidecar_spans_in_total").await, 5.0);
    assert_eq!(sidecar.metric("sidecar_spans_delivered_total").await, 5.0);
    assert_eq!(sidecar.metric("sidecar_otlp_requests_refused_total").await, 2.0);
    sidecar.stop().await;
}

#[tokio::test]
async fn a_request_that_is_too_large_or_asks_for_something_else_is_told_so() {
    let sidecar = Sidecar::start(&[
        ("SIDECAR_OTLP_BODY_MAX", "1KiB"),
        ("SIDECAR_APP_METRICS_URL", "off"),
        ("SIDECAR_APP_HEALTH_URL", "off"),
    ])
    .await;
    let (status, body) = sidecar.post_traces("application/x-protobuf", None, trace_request(100)).await;
    assert_eq!(status, 413, "{body}");
    assert_eq!(sidecar.metric("sidecar_otlp_requests_refused_total").await, 1.0);
    let profiles = sidecar.otlp_url.replace("/v1/traces", "/v1development/profiles");
    let answer = reqwest::Client::new().post(profiles).send().await.expect("answers");
    assert_eq!(answer.status(), 404);
    assert_eq!(answer.text().await.expect("text"), "OTLP is taken in at POST /v1/traces, /v1/metrics, /v1/logs");
    sidecar.stop().await;
}

#[tokio::test]
async fn traces_without_an_endpoint_are_dropped_and_counted_for_that() {
    let sidecar = Sidecar::start(&[("SIDECAR_APP_METRICS_URL", "off"), ("SIDECAR_APP_HEALTH_URL", "off")]).await;
    assert_eq!(sidecar.post_traces("application/x-protobuf", None, trace_request(4)).await.0, 200);
    eventually("they are counted", || async {
        let series = "sidecar_spans_dropped_total{environment=\"dev\",reason=\"no_endpoint\"";
        sidecar.metric(series).await == 4.0
    })
    .await;
    sidecar.stop().await;
}

#[tokio::test]
async fn a_bad_configuration_starts_degraded_and_says_so() {
    let sidecar = Sidecar::start(&[
        ("SIDECAR_LOGS_OUTPUT", "carrier-pigeon"),
        ("SIDECAR_APP_METRICS_URL", "off"),
        ("SIDECAR_APP_HEALTH_URL", "off"),
    ])
    .await;
    let (status, body) = sidecar.get("/health").await;
    assert_eq!(status, 503);
    assert!(body.contains("carrier-pigeon"), "{body}");
    assert_eq!(sidecar.get("/health/live").await.0, 200);
    assert_eq!(sidecar.metric("sidecar_config_problems").await, 1.0);
    sidecar.stop().await;
}
