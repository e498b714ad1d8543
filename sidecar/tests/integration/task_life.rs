//! A task's life as its metadata tells it, from the first pull to the stop, and what `/metrics` makes of it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};

use crate::setup::{Sidecar, eventually, serve};

/// What the endpoint says next; changed by the test as the task lives on.
#[derive(Clone)]
struct Script(Arc<Mutex<Scene>>);

struct Scene {
    status: u16,
    slow: bool,
    task: Value,
    stats: Value,
    asked: u64,
}

impl Script {
    fn set(&self, change: impl FnOnce(&mut Scene)) {
        change(&mut self.0.lock().expect("not poisoned"));
    }

    /// Waits until the endpoint was asked for both answers anew.
    async fn played(&self) {
        let asked = || self.0.lock().expect("not poisoned").asked;
        let before = asked();
        eventually("the endpoint is polled", || async { asked() >= before + 4 }).await;
    }

    fn answer(&self, pick: impl FnOnce(&Scene) -> &Value) -> (bool, Response) {
        let mut scene = self.0.lock().expect("not poisoned");
        scene.asked += 1;
        let response = match scene.status {
            200 => axum::Json(pick(&scene)).into_response(),
            status => StatusCode::from_u16(status).expect("a status").into_response(),
        };
        (scene.slow, response)
    }
}

async fn serve_script(script: &Script) -> String {
    async fn answer(State(script): State<Script>) -> Response {
        respond(script.answer(|scene| &scene.task)).await
    }
    async fn stats(State(script): State<Script>) -> Response {
        respond(script.answer(|scene| &scene.stats)).await
    }
    async fn respond((slow, response): (bool, Response)) -> Response {
        if slow {
            std::future::pending::<()>().await;
        }
        response
    }
    let router =
        Router::new().route("/v4/t/task", get(answer)).route("/v4/t/task/stats", get(stats)).with_state(script.clone());
    format!("http://{}/v4/t", serve(router).await)
}

fn task(desired: &str, app: Value) -> Value {
    let mut container =
        json!({"DockerId": "a", "Name": "app", "Image": "shop:1", "ImageID": "sha256:ab", "Limits": {"CPU": 2}});
    container.as_object_mut().expect("object").extend(app.as_object().expect("object").clone());
    json!({
        "Cluster": "main", "TaskARN": "arn:aws:ecs:eu-central-1:1:task/main/t", "Family": "order", "Revision": "7",
        "DesiredStatus": desired, "KnownStatus": "RUNNING", "AvailabilityZone": "eu-central-1a",
        "Limits": {"CPU": 0.25, "Memory": 512},
        "PullStartedAt": "1970-01-01T00:00:10Z", "PullStoppedAt": "1970-01-01T00:00:12.5Z",
        "Containers": [container],
    })
}

/// `second` since 1970 is when it was read; ten seconds after the reading before.
fn stats(second: u64, cpu_ms: u64, before_ms: u64, usage_mib: u64) -> Value {
    let time = |s: u64| format!("1970-01-01T00:{:02}:{:02}Z", s / 60, s % 60);
    json!({"a": {
        "read": time(second), "preread": time(second - 10),
        "cpu_stats": {"cpu_usage": {"total_usage": cpu_ms * 1_000_000}},
        "precpu_stats": {"cpu_usage": {"total_usage": before_ms * 1_000_000}},
        "memory_stats": {"usage": usage_mib << 20, "stats": {"total_inactive_file": 0, "total_rss": usage_mib << 20}},
    }})
}

const LABELS: &str = r#"az="eu-central-1a",container_name="app",environment="dev",family="order",revision="7",service="order",task_id="t""#;

/// Value (and time, where it has one) of one of the app's series.
async fn app(sidecar: &Sidecar, name: &str) -> Option<String> {
    let (_, text) = sidecar.get("/metrics").await;
    let series = format!("{name}{{{LABELS}}} ");
    text.lines().find_map(|line| Some(line.strip_prefix(&series)?.to_owned()))
}

async fn stop_reason(sidecar: &Sidecar) -> Option<String> {
    let (_, text) = sidecar.get("/metrics").await;
    let line = text.lines().find(|line| line.starts_with("ecs_container_stopped_info{"))?;
    Some(line.split("reason=\"").nth(1)?.split('"').next()?.to_owned())
}

#[tokio::test]
async fn a_task_s_life_gives_the_series_that_one_expects() {
    let script = Script(Arc::new(Mutex::new(Scene {
        status: 200,
        slow: false,
        task: task("RUNNING", json!({"KnownStatus": "PULLED"})),
        stats: json!({"a": null}),
        asked: 0,
    })));
    let metadata = serve_script(&script).await;
    let sidecar = Sidecar::start(&[
        ("ECS_CONTAINER_METADATA_URI_V4", &metadata),
        ("SIDECAR_ECS_REFRESH", "20ms"),
        ("SIDECAR_APP_METRICS_URL", "off"),
        ("SIDECAR_APP_HEALTH_URL", "off"),
    ])
    .await;

    // Pulled, not yet started: limits and pull times are known, usage is not.
    script.played().await;
    assert_eq!(app(&sidecar, "ecs_container_memory_limit_bytes").await.as_deref(), Some("536870912"));
    assert_eq!(app(&sidecar, "ecs_container_cpu_usage_seconds_total").await, None);
    assert_eq!(app(&sidecar, "ecs_container_started_timestamp_seconds").await, None);
    assert_eq!(sidecar.metric("ecs_task_image_pull_stop_timestamp_seconds").await, 12.5);

    // It runs: 500 ms of CPU in 10 s of 0.25 vCPU are a fifth. Samples carry the time of the reading: 100 s.
    let running = json!({"KnownStatus": "RUNNING", "StartedAt": "1970-01-01T00:00:20Z", "RestartCount": 0});
    script.set(|scene| {
        scene.task = task("RUNNING", running.clone());
        scene.stats = stats(100, 1_500, 1_000, 100);
    });
    script.played().await;
    assert_eq!(app(&sidecar, "ecs_container_cpu_usage_seconds_total").await.as_deref(), Some("1.5 100000"));
    assert_eq!(app(&sidecar, "ecs_container_cpu_utilization_ratio").await.as_deref(), Some("0.2 100000"));
    assert_eq!(app(&sidecar, "ecs_container_memory_working_set_bytes").await.as_deref(), Some("104857600 100000"));
    assert_eq!(sidecar.metric("ecs_task_cpu_utilization_ratio").await, 0.2);

    // The endpoint fails, is too busy, hangs: the last figures stay, and the failures are counted.
    for status in [500, 429] {
        let before = sidecar.metric("sidecar_ecs_metadata_failures_total").await;
        script.set(|scene| scene.status = status);
        script.played().await;
        assert!(sidecar.metric("sidecar_ecs_metadata_failures_total").await > before, "{status}");
        assert_eq!(sidecar.metric("sidecar_ecs_metadata_up").await, 0.0);
        assert_eq!(app(&sidecar, "ecs_container_cpu_usage_seconds_total").await.as_deref(), Some("1.5 100000"));
    }
    script.set(|scene| scene.status = 200);
    eventually("it answers again", || async { sidecar.metric("sidecar_ecs_metadata_up").await == 1.0 }).await;

    // It crashes and is restarted: the counter begins anew, the restart is counted, the ratio waits for two readings.
    script.set(|scene| {
        scene.task = task("RUNNING", {
            let mut restarted = running.clone();
            restarted["RestartCount"] = 1.into();
            restarted["StartedAt"] = "1970-01-01T00:01:45Z".into();
            restarted
        });
        scene.stats = stats(110, 30, 1_500, 40);
    });
    script.played().await;
    assert_eq!(app(&sidecar, "ecs_container_restarts_total").await.as_deref(), Some("1"));
    assert_eq!(app(&sidecar, "ecs_container_cpu_usage_seconds_total").await.as_deref(), Some("0.03 110000"));
    assert_eq!(app(&sidecar, "ecs_container_cpu_utilization_ratio").await, None);
    assert_eq!(app(&sidecar, "ecs_container_started_timestamp_seconds").await.as_deref(), Some("105"));

    // It grows and is killed while nobody asked it to stop: most likely the memory. The last reading, which is gone
    // from the endpoint, is still told; the task's own sums have forgotten it.
    script.set(|scene| scene.stats = stats(120, 130, 30, 500));
    script.played().await;
    let killed = json!({"KnownStatus": "STOPPED", "ExitCode": 137, "FinishedAt": "1970-01-01T00:02:03Z"});
    script.set(|scene| {
        scene.task = task("RUNNING", killed);
        scene.stats = json!({"a": null});
    });
    script.played().await;
    assert_eq!(stop_reason(&sidecar).await.as_deref(), Some("out_of_memory_suspected"));
    assert_eq!(app(&sidecar, "ecs_container_exit_code").await.as_deref(), Some("137"));
    assert_eq!(app(&sidecar, "ecs_container_finished_timestamp_seconds").await.as_deref(), Some("123"));
    // 500 MiB
    assert_eq!(app(&sidecar, "ecs_container_memory_working_set_bytes").await.as_deref(), Some("524288000 120000"));
    assert!(!sidecar.get("/metrics").await.1.contains("ecs_task_memory_utilization_ratio"));

    // A kill that was ordered is none of memory's.
    script.set(|scene| scene.task["DesiredStatus"] = "STOPPED".into());
    script.played().await;
    assert_eq!(stop_reason(&sidecar).await.as_deref(), Some("killed"));

    // A hanging endpoint holds up nobody who asks for metrics.
    script.set(|scene| scene.slow = true);
    let begun = std::time::Instant::now();
    assert_eq!(app(&sidecar, "ecs_container_exit_code").await.as_deref(), Some("137"));
    assert!(begun.elapsed() < Duration::from_secs(2));
    script.set(|scene| scene.slow = false);
    sidecar.stop().await;
}
