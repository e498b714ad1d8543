//! The end: nothing that was written before it is lost, and what is lost is counted.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::routing::get;
use axum::{Json, Router};
use sidecar::inputs::file_tail::STOP_QUIET;

use crate::setup::{Backend, Sidecar, eventually, serve};
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
async fn while_the_app_is_still_stopping_its_lines_are_waited_for() {
    let directory = tempfile::tempdir().expect("tempdir");
    let path = directory.path().join("app.log");
    let mut file = std::fs::File::create(&path).expect("create");
    let app_status = Arc::new(Mutex::new("RUNNING"));
    let status = app_status.clone();
    let task = move || async move {
        Json(serde_json::json!({
            "TaskARN": "arn:aws:ecs:eu-central-1:1:task/main/t", "Family": "order", "DesiredStatus": "STOPPED",
            "Containers": [
                {"DockerId": "t-1", "Name": "app", "KnownStatus": *status.lock().expect("not poisoned")},
                {"DockerId": "t-2", "Name": "sidecar", "KnownStatus": "RUNNING"},
            ],
        }))
    };
    let metadata = format!("http://{}/v4/t-2", serve(Router::new().route("/v4/t-2/task", get(task))).await);
    let sidecar = Sidecar::start(&[
        ("ECS_CONTAINER_METADATA_URI_V4", &metadata),
        ("SIDECAR_LOG_FILES", path.to_str().expect("utf-8")),
        ("SIDECAR_LOG_START", "beginning"),
        ("SIDECAR_APP_METRICS_URL", "off"),
        ("SIDECAR_APP_HEALTH_URL", "off"),
    ])
    .await;
    sidecar.order.request();
    // Longer than the quiet after which files count as ended.
    tokio::time::sleep(STOP_QUIET + Duration::from_millis(700)).await;
    assert!(!sidecar.ended.is_finished(), "the app still runs");
    writeln!(file, "connections drained").expect("write");
    *app_status.lock().expect("not poisoned") = "STOPPED";
    eventually("the late line is in", || async { sidecar.metric("sidecar_log_records_in_total").await == 1.0 }).await;
    sidecar.ended.await.expect("no panic").expect("ends well");
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

#[tokio::test]
async fn an_app_that_never_falls_silent_is_cut_off_in_time() {
    let directory = tempfile::tempdir().expect("tempdir");
    let path = directory.path().join("app.log");
    let mut file = std::fs::File::create(&path).expect("create");
    let sidecar = Sidecar::start(&[
        ("SIDECAR_LOG_FILES", path.to_str().expect("utf-8")),
        ("SIDECAR_STOP_TIMEOUT", "3s"),
        ("SIDECAR_APP_METRICS_URL", "off"),
        ("SIDECAR_APP_HEALTH_URL", "off"),
    ])
    .await;
    let begun = Instant::now();
    sidecar.order.request();
    while !sidecar.ended.is_finished() {
        writeln!(file, "still here").expect("write");
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(begun.elapsed() < Duration::from_secs(10), "it never ends");
    }
    assert!(begun.elapsed() >= Duration::from_millis(1900), "two thirds of the time are the app's");
    sidecar.ended.await.expect("no panic").expect("that is no failure");
}

#[tokio::test]
async fn every_line_is_counted_once_through_rotations_under_load() {
    const LINES: usize = 20_000;
    let directory = tempfile::tempdir().expect("tempdir");
    let pattern = directory.path().join("app.log*").to_string_lossy().into_owned();
    let sidecar = Sidecar::start(&[
        ("SIDECAR_LOG_FILES", &pattern),
        ("SIDECAR_LOG_START", "beginning"),
        // Far less than what is written: the tail has to wait for the output.
        ("SIDECAR_LOG_QUEUE", "64KiB"),
        ("SIDECAR_APP_METRICS_URL", "off"),
        ("SIDECAR_APP_HEALTH_URL", "off"),
    ])
    .await;
    let path = directory.path().join("app.log");
    let written = tokio::task::spawn_blocking(move || {
        for part in 0..4 {
            let mut file = std::io::BufWriter::new(std::fs::File::create(&path).expect("create"));
            for n in 0..LINES / 4 {
                writeln!(file, "part {part} line {n} of a service that has a lot to say").expect("write");
            }
            drop(file);
            std::fs::rename(&path, path.with_extension(format!("log.{part}"))).expect("rename");
        }
    });
    written.await.expect("written");
    eventually("all lines are in", || async { sidecar.metric("sidecar_log_records_in_total").await == LINES as f64 })
        .await;
    eventually("and delivered", || async { sidecar.metric("sidecar_log_records_waiting").await == 0.0 }).await;
    let delivered = "sidecar_log_records_delivered_total";
    assert_eq!(sidecar.metric(delivered).await, LINES as f64);
    sidecar.stop().await;
}

#[tokio::test]
async fn after_a_restart_the_tail_goes_on_where_it_left_off() {
    let directory = tempfile::tempdir().expect("tempdir");
    let path = directory.path().join("app.log");
    let mut file = std::fs::File::create(&path).expect("create");
    let start = async || {
        Sidecar::start(&[
            ("SIDECAR_LOG_FILES", path.to_str().expect("utf-8")),
            ("SIDECAR_STATE_DIR", directory.path().to_str().expect("utf-8")),
            ("SIDECAR_APP_METRICS_URL", "off"),
            ("SIDECAR_APP_HEALTH_URL", "off"),
        ])
        .await
    };
    let received = async |sidecar: &Sidecar, wanted: f64| {
        eventually("the lines are in", || async { sidecar.metric("sidecar_log_records_in_total").await == wanted })
            .await;
    };
    let first = start().await;
    eventually("the file is open", || async { first.metric("sidecar_log_files_open").await == 1.0 }).await;
    writeln!(file, "1\n2").expect("write");
    received(&first, 2.0).await;
    first.stop().await;
    writeln!(file, "written while nobody looked").expect("write");
    let second = start().await;
    received(&second, 1.0).await;
    let (_, body) = second.get("/logs/recent").await;
    assert!(body.contains("written while nobody looked"), "{body}");
    second.stop().await;
}
