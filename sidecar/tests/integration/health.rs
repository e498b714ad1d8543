//! Probes by configuration, their relaying, and the end of a process that is stuck.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::setup::{FakeApp, Sidecar, eventually};

#[tokio::test]
async fn what_the_app_depends_on_is_measured_and_only_deep_checks_depend_on_it() {
    let app = FakeApp::default();
    app.set_ready(true);
    let health_url = format!("http://{}/health/ready", app.serve().await);
    let open = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("port 0");
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("port 0").local_addr().expect("bound");
    let probes = format!("queue=tcp://{},db=postgres://{closed}", open.local_addr().expect("bound"));
    let sidecar = Sidecar::start(&[
        ("SIDECAR_APP_METRICS_URL", "off"),
        ("SIDECAR_APP_HEALTH_URL", &health_url),
        ("SIDECAR_APP_HEALTH_INTERVAL", "50ms"),
        ("SIDECAR_PROBES", &probes),
        // A destination that is down.
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"),
    ])
    .await;
    eventually("the probes were asked", || async { sidecar.get("/health/app").await.0 == 200 }).await;
    let (_, metrics) = sidecar.get("/metrics").await;
    let value = |name: &str, probe: &str| -> f64 {
        let (name, label) = (format!("{name}{{"), format!("probe=\"{probe}\""));
        let line = metrics.lines().find(|line| line.starts_with(&name) && line.contains(&label));
        let line = line.unwrap_or_else(|| panic!("{name}{label}: {metrics}"));
        line.rsplit_once(' ').expect("a value").1.parse().expect("a number")
    };
    assert_eq!((value("app_probe_up", "queue"), value("app_probe_up", "db")), (1.0, 0.0));
    assert!(value("app_probe_duration_seconds", "queue") > 0.0);
    assert!(value("app_probe_changed_timestamp_seconds", "db") > 1.6e9);

    let (status, body) = sidecar.get("/health/app/deep").await;
    let report: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((status, &report["probes"]["db"]["up"], &report["checks"]["queue"]), (503, &false.into(), &"ok".into()));
    assert!(report["probes"]["ready"]["latency_seconds"].as_f64().is_some_and(|s| s > 0.0), "{body}");
    assert!(report["checks"]["db"].as_str().is_some_and(|why| why.starts_with("no connection to")), "{body}");
    for (path, status) in [
        ("/health/live", 200),
        ("/health/ready", 200),
        ("/health/deep", 200),
        ("/health/app/ready", 200),
        ("/health/app/startup", 404),
    ] {
        assert_eq!(sidecar.get(path).await.0, status, "{path}");
    }
    app.set_ready(false);
    eventually("the app is sick", || async { sidecar.get("/health/app/ready").await.0 == 503 }).await;
    assert_eq!(sidecar.get("/health/deep").await.0, 200, "the sidecar is not");
    sidecar.stop().await;
}

#[tokio::test]
async fn a_fault_of_the_configuration_shows_in_a_deep_check_alone() {
    let sidecar = Sidecar::start(&[
        ("SIDECAR_APP_METRICS_URL", "off"),
        ("SIDECAR_APP_HEALTH_URL", "off"),
        ("SIDECAR_PROBES", "db=mysql://user:hunter2@db"),
    ])
    .await;
    assert_eq!(sidecar.get("/health/live").await.0, 200);
    let (status, body) = sidecar.get("/health/deep").await;
    assert!(status == 503 && body.contains("db: a probe needs no password") && !body.contains("hunter2"), "{body}");
    sidecar.stop().await;
}

/// The file that says where to go on is a pipe that nobody writes to: opening it waits for ever, as a hanging file
/// system does.
#[test]
fn a_process_that_is_stuck_ends_itself() {
    let directory = tempfile::tempdir().expect("tempdir");
    let pipe = directory.path().join("log-offsets.json");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    let mut sidecar = Command::new(env!("CARGO_BIN_EXE_sidecar"))
        .arg("run")
        .env_clear()
        .env("SIDECAR_LISTEN", "127.0.0.1:0")
        .env("SIDECAR_OTLP_LISTEN", "off")
        .env("SIDECAR_STATE_DIR", directory.path())
        .env("SIDECAR_LOG_FILES", directory.path().join("app.log"))
        .env("SIDECAR_STUCK_AFTER", "2s")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = sidecar.try_wait().expect("waits") {
            break status;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "it hangs for ever");
        std::thread::sleep(Duration::from_millis(50));
    };
    let mut said = String::new();
    sidecar.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    assert_eq!(status.code(), Some(70), "{said}");
    assert!(said.contains("the event loop has been stuck for 2s, exiting to be restarted"), "{said}");
    assert!(begun.elapsed() >= Duration::from_secs(2), "too early");
}
