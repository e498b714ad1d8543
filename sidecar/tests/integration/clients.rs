//! Real clients on the other end: OpenTelemetry's SDKs, DogStatsD, Fluent's loggers, the Prometheus clients of Python and Node, and
//! Prometheus itself. Each runs where `cargo xtask test` has said where it is.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::setup::{Backend, Sidecar, eventually};

const OFF: [(&str, &str); 2] = [("SIDECAR_APP_METRICS_URL", "off"), ("SIDECAR_APP_HEALTH_URL", "off")];

#[expect(clippy::disallowed_methods, reason = "tests find their tools by the environment")]
fn var(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn script(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

/// None where the environment with the packages is not there; `cargo xtask test` makes it.
pub(crate) fn python(name: &str) -> Option<Command> {
    let mut command = Command::new(var("PICKET_PYTHON")?);
    command.arg(script(name));
    Some(command)
}

/// The same for Node's packages.
fn node(name: &str) -> Option<Command> {
    var("PICKET_SIDECAR_CLIENTS")?;
    let mut command = Command::new("node");
    command.arg(script(name));
    Some(command)
}

/// Runs it to its end; what it printed after `ok`.
async fn run(mut command: Command) -> String {
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text.strip_prefix("ok").unwrap_or_else(|| panic!("no ok: {text}")).trim().to_owned()
}

async fn taking_otlp(backend: &Backend) -> Sidecar {
    let endpoint = format!("http://{}", backend.serve().await);
    Sidecar::start(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), OFF[0], OFF[1]]).await
}

async fn python_sdk(protocol: &str) {
    let Some(mut command) = python("otel.py") else { return };
    let backend = Backend::default();
    let sidecar = taking_otlp(&backend).await;
    let http = sidecar.otlp_url.replace("/v1/traces", "");
    let endpoint = if protocol == "grpc" { sidecar.grpc_addr.to_string() } else { http };
    command.args([protocol, &endpoint]);
    let trace_id = run(command).await;

    let all_spans = || async { sidecar.metric("sidecar_spans_delivered_total").await == 3.0 };
    eventually("three spans went on", all_spans).await;
    let requests = r#"http_requests_total{environment="dev",method="GET",path="/orders/{id}",service="unknown",status="200",task_id="unknown"}"#;
    assert_eq!(sidecar.metric(requests).await, 1.0);
    let request = reqwest::Client::new().get(format!("{}/metrics", sidecar.url));
    let text = request.header("accept", "application/openmetrics-text").send().await.expect("answers").text().await;
    assert!(text.expect("text").contains(&format!("trace_id=\"{trace_id}\"}} 1.0")), "the exemplar");

    assert_eq!(sidecar.metric("sidecar_otlp_log_records_total").await, 2.0);
    let (_, recent) = sidecar.get("/logs/recent?level=error&limit=5").await;
    assert!(
        recent.contains(&format!(r#""service":"python-{protocol}""#)) && recent.contains("card refused"),
        "{recent}"
    );
    assert_eq!(sidecar.metric("sidecar_otlp_requests_refused_total").await, 0.0);
    sidecar.stop().await;
}

#[tokio::test]
async fn the_python_sdk_sends_by_grpc() {
    python_sdk("grpc").await;
}

#[tokio::test]
async fn the_python_sdk_sends_by_http() {
    python_sdk("http").await;
}

#[tokio::test]
async fn the_node_sdk_sends_by_grpc_protobuf_and_json() {
    for protocol in ["grpc", "proto", "json"] {
        let Some(mut command) = node("otel.mjs") else { return };
        let backend = Backend::default();
        let sidecar = taking_otlp(&backend).await;
        let http = sidecar.otlp_url.replace("/v1/traces", "");
        let grpc = format!("http://{}", sidecar.grpc_addr);
        command.args([protocol, if protocol == "grpc" { &grpc } else { &http }]);
        run(command).await;

        let all_spans = || async { sidecar.metric("sidecar_spans_delivered_total").await == 2.0 };
        eventually("two spans went on", all_spans).await;
        let requests = r#"http_requests_total{environment="dev",method="POST",path="/cart",service="unknown",status="201",task_id="unknown"}"#;
        assert_eq!(sidecar.metric(requests).await, 1.0, "{protocol}");
        assert_eq!(sidecar.metric("sidecar_otlp_log_records_total").await, 2.0, "{protocol}");
        let (_, recent) = sidecar.get("/logs/recent?level=warn&limit=5").await;
        assert!(recent.contains(r#""message":"cart is large""#) && recent.contains(r#""items":99"#), "{recent}");
        assert_eq!(sidecar.metric("sidecar_otlp_requests_refused_total").await, 0.0, "{protocol}");
        sidecar.stop().await;
    }
}

#[tokio::test]
async fn a_dogstatsd_client_sends_by_udp_and_by_unix_socket() {
    let Some(mut by_udp) = python("statsd.py") else { return };
    let directory = tempfile::tempdir().expect("tempdir");
    let socket = directory.path().join("dsd.socket");
    let socket = socket.to_str().expect("utf-8");
    let sidecar = Sidecar::start(&[("SIDECAR_STATSD_SOCKET", socket), OFF[0], OFF[1]]).await;
    by_udp.args(["udp", "127.0.0.1", &sidecar.statsd_addr.port().to_string()]);
    run(by_udp).await;
    let mut by_unix = python("statsd.py").expect("as before");
    by_unix.args(["unix", socket]);
    run(by_unix).await;

    // Eight metrics, an event and a check, each way.
    let lines = |kind: &'static str| {
        let sidecar = &sidecar;
        let series = format!("sidecar_statsd_lines_total{{environment=\"dev\",kind=\"{kind}\"");
        async move { sidecar.metric(&series).await }
    };
    eventually("everything is in", || async { lines("metric").await == 16.0 }).await;
    assert_eq!((lines("event").await, lines("service_check").await), (2.0, 2.0));
    for by in ["udp", "unix"] {
        let series = |name: &str, labels: &str| {
            format!("{name}{{by=\"{by}\",environment=\"dev\",{labels}service=\"unknown\",task_id=\"unknown\"}}")
        };
        for (name, labels, value) in [
            ("page_views_total", "path=\"/\",", 3.0),
            ("queue_depth", "", -4.0),
            ("request_time_seconds_sum", "", 0.25),
            ("payload_size_count", "", 1.0),
            ("checkout_total_sum", "", 42.5),
            ("users_unique", "", 2.0),
        ] {
            assert_eq!(sidecar.metric(&series(name, labels)).await, value, "{by} {name}");
        }
    }
    sidecar.stop().await;
}

/// The recent lines of a level that have this in them.
async fn recent(sidecar: &Sidecar, level: &str, text: &str) -> usize {
    sidecar.get(&format!("/logs/recent?level={level}&limit=200")).await.1.matches(text).count()
}

#[tokio::test]
async fn the_fluent_logger_of_python_sends_by_tcp_and_by_unix_socket() {
    let Some(mut by_tcp) = python("fluent_loggers.py") else { return };
    let directory = tempfile::tempdir().expect("tempdir");
    let socket = directory.path().join("fluent.sock");
    let socket = socket.to_str().expect("utf-8");
    let listen = ("SIDECAR_FLUENT_LISTEN", "127.0.0.1:0");
    let sidecar = Sidecar::start(&[listen, ("SIDECAR_FLUENT_SOCKET", socket), OFF[0], OFF[1]]).await;
    let port = sidecar.fluent_addr.expect("it listens").port().to_string();
    by_tcp.args(["127.0.0.1", &port]);
    run(by_tcp).await;
    let mut by_unix = python("fluent_loggers.py").expect("as before");
    by_unix.arg(format!("unix://{socket}"));
    run(by_unix).await;

    eventually("all records are in", || async { sidecar.metric("sidecar_log_records_in_total").await == 206.0 }).await;
    assert_eq!(recent(&sidecar, "warn", r#""message":"whole seconds","data":{"order":{"id":7}}"#).await, 2);
    assert_eq!(recent(&sidecar, "info", r#""message":"a line under log""#).await, 2);
    assert_eq!(recent(&sidecar, "error", r#""message":"nanoseconds""#).await, 2);
    assert_eq!(recent(&sidecar, "info", r#""message":"queued 99""#).await, 2);
    assert_eq!(sidecar.metric("sidecar_forward_refused_total").await, 0.0);
    sidecar.stop().await;
}

#[tokio::test]
async fn the_fluent_loggers_of_node_are_acknowledged_in_every_mode() {
    let Some(mut command) = node("fluent_loggers.mjs") else { return };
    let sidecar = Sidecar::start(&[("SIDECAR_FLUENT_LISTEN", "127.0.0.1:0"), OFF[0], OFF[1]]).await;
    command.args(["127.0.0.1", &sidecar.fluent_addr.expect("it listens").port().to_string()]);
    run(command).await;

    assert_eq!(sidecar.metric("sidecar_log_records_in_total").await, 41.0, "whoever has its acknowledgement is in");
    for mode in ["Message", "Forward", "PackedForward", "CompressedPackedForward"] {
        assert_eq!(recent(&sidecar, "warn", &format!(r#""message":"{mode} "#)).await, 10, "{mode}");
    }
    assert_eq!(recent(&sidecar, "error", r#""message":"from fluent-logger""#).await, 1);
    assert_eq!(sidecar.metric("sidecar_forward_refused_total").await, 0.0);
    sidecar.stop().await;
}

/// Serves metrics until it is dropped.
struct App {
    child: Child,
    url: String,
}

impl App {
    fn start(mut command: Command) -> App {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("starts");
        let mut port = String::new();
        BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut port).expect("a port");
        App { child, url: format!("http://127.0.0.1:{}/metrics", port.trim()) }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn python_and_node_prometheus_clients_are_scraped() {
    for (command, series) in [
        (
            python("prometheus_app.py"),
            &[
                (r#"logins_total{environment="dev",kind="password""#, 3.0),
                ("temperature_celsius{", -2.5),
                (r#"wait_seconds_bucket{environment="dev",le="1.0""#, 1.0),
                ("size_bytes_sum{", 10.0),
                ("build_info{", 1.0),
            ][..],
        ),
        (
            node("prometheus_app.mjs"),
            &[
                (r#"clicks_total{environment="dev",page="/""#, 4.0),
                (r#"render_seconds_bucket{environment="dev",le="0.1""#, 1.0),
            ][..],
        ),
    ] {
        let Some(command) = command else { return };
        let app = App::start(command);
        let sidecar = Sidecar::start(&[("SIDECAR_APP_METRICS_URL", &app.url), OFF[1]]).await;
        for (start, value) in series {
            assert_eq!(sidecar.metric(start).await, *value, "{start}");
        }
        assert_eq!(sidecar.metric("sidecar_app_scrape_up").await, 1.0);
        sidecar.stop().await;
    }
}
