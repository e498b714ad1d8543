//! The end: nothing that was written before it is lost, and what is lost is counted.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::setup::{Backend, Sidecar, eventually};
use crate::whole::trace_request;

#[tokio::test]
async fn lines_and_spans_that_come_after_the_order_to_stop_are_still_taken() {
    let directory = tempfile::tempdir().expect("tempdir");
    let path = directory.path().join("app.log");
    let mut file = std::fs::File::create(&path).expect("create");
    let backend = Backend::default();
    let endpoint = format!("http://{}", backend.serve().await);
    let sidecar = Sidecar::start(&[
        ("SIDECAR_LOG_FILES", path.to_str().expect("utf-8")),
        ("SIDECAR_LOG_START", "beginning"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
        ("SIDECAR_APP_METRICS_URL", "off"),
        ("SIDECAR_APP_HEALTH_URL", "off"),
    ])
    .await;
    writeln!(file, "one").expect("write");
    eventually("the first line is in", || async { sidecar.metric("sidecar_log_records_in_total").await == 1.0 }).await;
    sidecar.order.request();
    // The app is still shutting down.
    write!(file, "two\nlast words without an end").expect("write");
    assert_eq!(sidecar.post_traces("application/x-protobuf", None, trace_request(1)).await.0, 200);
    eventually("the late line is in", || async { sidecar.metric("sidecar_log_records_in_total").await == 2.0 }).await;
    assert_eq!(sidecar.get("/health/ready").await.0, 503);
    sidecar.ended.await.expect("no panic").expect("ends well");
    assert_eq!(backend.taken().len(), 1);
}

#[tokio::test]
async fn a_destination_that_is_away_does_not_hold_up_the_end() {
    let sidecar = Sidecar::start(&[
        // Nothing listens on port 1.
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"),
        ("SIDECAR_STOP_TIMEOUT", "2s"),
        ("SIDECAR_APP_METRICS_URL", "off"),
        ("SIDECAR_APP_HEALTH_URL", "off"),
    ])
    .await;
    assert_eq!(sidecar.post_traces("application/x-protobuf", None, trace_request(3)).await.0, 200);
    assert_eq!(sidecar.metric("sidecar_spans_waiting").await, 3.0);
    let begun = Instant::now();
    sidecar.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}
