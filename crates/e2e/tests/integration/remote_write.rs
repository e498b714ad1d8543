//! A sidecar that nobody can scrape pushes to the collector, in both versions of remote write.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use axum::http::header::CONTENT_TYPE;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::story::named_by;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// Ended with the test, whatever its outcome.
struct Program(Child);

impl Program {
    fn start(command: &mut Command) -> Program {
        Program(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it is built"))
    }

    fn end(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).expect("a process id"));
        kill(pid, Signal::SIGTERM).expect("it runs");
        assert!(self.0.wait().expect("a child").success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").to_string()
}

/// An app with a counter that remembers a trace, a gauge and a classic histogram.
async fn app() -> String {
    let text = format!(
        "# TYPE orders counter\n# HELP orders Orders taken.\norders_total{{kind=\"new\"}} 7 # {{trace_id=\"{TRACE}\"}} 1\n\
# TYPE depth gauge\ndepth -1.5\n\
# TYPE seconds histogram\nseconds_bucket{{le=\"0.1\"}} 2\nseconds_bucket{{le=\"+Inf\"}} 3\nseconds_sum 0.75\nseconds_count 3\n# EOF\n"
    );
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let routes = axum::Router::new()
        .route("/metrics", axum::routing::get(move || async move { ([(CONTENT_TYPE, kind)], text) }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    service::task::spawn("app", async move { axum::serve(listener, routes).await });
    address
}

fn collector(binaries: &Path, dir: &Path, address: &str) -> Program {
    let config = dir.join("collector.yml");
    std::fs::write(&config, "global: {}\n").expect("written");
    let mut command = Command::new(binaries.join("collector"));
    command.args(["serve", "--listen", address]).arg("--config").arg(&config).arg("--data").arg(dir.join("data"));
    Program::start(&mut command)
}

fn sidecar(binaries: &Path, app: &str, collector: &str, version: &str, listen: &str) -> Program {
    let mut command = Command::new(binaries.join("sidecar"));
    command.arg("run").env_clear().env("SIDECAR_LISTEN", listen).env("SIDECAR_SERVICE", "order");
    command.env("SIDECAR_TASK_ID", "t1").env("SIDECAR_APP_METRICS_URL", format!("http://{app}/metrics"));
    command.env("SIDECAR_REMOTE_WRITE_URL", format!("http://{collector}/api/v1/write"));
    command.env("SIDECAR_REMOTE_WRITE_VERSION", version).env("SIDECAR_METRICS_INTERVAL", "500ms");
    for name in ["SIDECAR_APP_HEALTH_URL", "SIDECAR_OTLP_LISTEN", "SIDECAR_OTLP_GRPC_LISTEN", "SIDECAR_STATSD_LISTEN"] {
        command.env(name, "off");
    }
    Program::start(&mut command)
}

async fn json(url: &str) -> Value {
    match reqwest::get(url).await {
        Ok(answer) => answer.json().await.unwrap_or_default(),
        Err(_) => Value::Null,
    }
}

/// The values of an instant query.
async fn values(collector: &str, expr: &str) -> Vec<String> {
    let answer = json(&format!("http://{collector}/api/v1/query?query={expr}")).await;
    let result = answer["data"]["result"].as_array().cloned().unwrap_or_default();
    result.iter().filter_map(|series| Some(series["value"][1].as_str()?.to_owned())).collect()
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn pushed_by(version: &str) {
    let Some(binaries) = named_by("PICKET_BIN_DIR", "remote write from the sidecar to the collector") else { return };
    let (dir, address, own) = (tempfile::tempdir().expect("a folder"), free_address(), free_address());
    let running = collector(&binaries, dir.path(), &address);
    let mut sidecar = sidecar(&binaries, &app().await, &address, version, &own);
    let order = r#"{service="order",task_id="t1"}"#;
    for (expr, expected) in [
        (format!("orders_total{order}"), "7"),
        (format!("depth{order}"), "-1.5"),
        (r#"seconds_bucket{service="order",le="0.1"}"#.to_owned(), "2"),
        (format!("seconds_sum{order}"), "0.75"),
    ] {
        until(&expr, async || values(&address, &expr).await == [expected]).await;
    }
    if version == "2.0" {
        let asked = format!("http://{address}/api/v1/query_exemplars?query=orders_total&start=0&end=9999999999");
        until("the trace of the counter", async || json(&asked).await.to_string().contains(TRACE)).await;
    }

    // A collector that is killed and comes back: what waited is stored, nothing is dropped.
    drop(running);
    let _running = collector(&binaries, dir.path(), &address);
    let late = "count_over_time(orders_total[1m])";
    until("it answers again", async || !values(&address, late).await.is_empty()).await;
    let samples = async || values(&address, late).await.first().and_then(|count| count.parse().ok()).unwrap_or(0);
    let before: u32 = samples().await;
    until("samples go on", async || samples().await > before).await;
    let said = reqwest::get(format!("http://{own}/metrics")).await.expect("it answers").text().await.expect("text");
    let dropped = |line: &&str| line.starts_with("sidecar_metrics_out_dropped_total") && !line.ends_with(" 0");
    assert_eq!(said.lines().find(dropped), None);

    sidecar.end();
    until("the series end with the task", async || values(&address, "orders_total").await.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_sidecar_pushes_by_remote_write_1_is_stored_and_ends_with_it() {
    pushed_by("1.0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_sidecar_pushes_by_remote_write_2_is_stored_with_its_exemplars_and_ends_with_it() {
    pushed_by("2.0").await;
}
