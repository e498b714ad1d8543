//! A Prometheus user's file, in parts as they are found in the field, and the program itself run with it as it stands:
//! `promtool` reads the same file, but for ECS, which Debian's Prometheus 2 does not know.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use fake_aws::topology::Topology;
use fake_aws::{FakeAws, Options};
use serde_json::Value;
use service::Shutdown;

use crate::rig::Rig;

/// Here `TARGET`, `OTHER`, `ALERTMANAGER` and `RECEIVER` are addresses.
const GLOBAL: &str = r#"# my global config
global:
  scrape_interval:     1s
  scrape_timeout:      500ms
  evaluation_interval: 500ms
  external_labels:
    monitor: codelab
    replica: a

rule_files:
  - first.rules.yml
  - "rules/*.yml"

alerting:
  alert_relabel_configs:
    - regex: replica
      action: labeldrop
  alertmanagers:
    - scheme: http
      timeout: 5s
      api_version: v2
      static_configs:
        - targets: ['ALERTMANAGER']

remote_write:
  - url: http://RECEIVER/api/v1/write
    name: long-term
    remote_timeout: 10s
    send_exemplars: true
    send_native_histograms: true
    write_relabel_configs:
      - source_labels: [__name__]
        regex: go_.*
        action: drop
    queue_config:
      capacity: 5000
      max_shards: 10
      min_shards: 2
      max_samples_per_send: 1000
      batch_send_deadline: 200ms
      min_backoff: 30ms
      max_backoff: 1s
    metadata_config:
      send: true
      send_interval: 1m

scrape_configs:
  # The server itself is not listed: it is always there.
  - job_name: 'app'
    honor_labels: false
    honor_timestamps: true
    metrics_path: /metrics
    scheme: http
    params:
      module: [http_2xx]
    basic_auth:
      username: admin
      password: secret
    follow_redirects: true
    enable_http2: false
    tls_config:
      server_name: app.example.com
      min_version: TLS12
    sample_limit: 1000
    label_limit: 30
    static_configs:
      - targets: ['TARGET']
        labels:
          group: 'production'
    relabel_configs:
      - source_labels: [__address__]
        regex: '(.*):\d+'
        target_label: host
        replacement: '${1}'
    metric_relabel_configs:
      - source_labels: [__name__]
        regex: noise_.*
        action: drop

  - job_name: files
    file_sd_configs:
      - files:
          - targets/*.json
          - targets/*.yml
        refresh_interval: 1m
    relabel_configs:
      - source_labels: [__meta_filepath]
        regex: '.*/(.+)\.(?:json|yml)'
        target_label: file
"#;

const ECS: &str = r#"
  - job_name: ecs
    aws_sd_configs:
      - role: ecs
        region: us-east-1
        clusters: [demo]
        port: 9464
        refresh_interval: 1s
    relabel_configs:
      - source_labels: [__meta_ecs_last_status]
        regex: RUNNING
        action: keep
      - source_labels: [__meta_ecs_service]
        target_label: service
      - regex: __meta_ecs_tag_task_(.+)
        action: labelmap
"#;

const RULES: &str = "groups:\n- name: g\n  rules:\n  - {record: 'jobs:sum', expr: sum by (job) (jobs_total)}\n\
    \x20 - {alert: Busy, expr: 'jobs_total > 5', labels: {severity: page}, annotations: {summary: '{{ $labels.queue }}'}}\n";

/// The Alertmanager's end: the labels of what it is told.
#[derive(Clone, Default)]
struct Alerts(Arc<Mutex<Vec<Value>>>);

async fn take(State(alerts): State<Alerts>, Json(list): Json<Vec<Value>>) {
    alerts.0.lock().expect("no one panics holding it").extend(list);
}

async fn serve(router: Router, shutdown: &Shutdown) -> SocketAddr {
    let listener = service::http::bind(([127, 0, 0, 1], 0).into(), "test").await.expect("port 0");
    let addr = listener.local_addr().expect("bound");
    service::task::spawn("peer", service::http::serve(listener, router, shutdown.clone()));
    addr
}

/// The program, told where AWS is by the environment as in a task.
struct Program {
    child: std::process::Child,
    url: String,
}

impl Program {
    async fn start(dir: &Path, aws: &str) -> Program {
        let log = dir.join("log");
        let file = std::fs::File::create(&log).expect("a file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_collector"));
        command.args(["serve", "--config", "prometheus.yml", "--data", "data", "--listen", "127.0.0.1:0"]);
        command.current_dir(dir).stdin(Stdio::null()).stdout(file.try_clone().expect("a file")).stderr(file);
        command.env("AWS_ENDPOINT_URL", aws).env("AWS_REGION", "us-east-1");
        command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
        let mut program = Program { child: command.spawn().expect("it starts"), url: String::new() };
        for _ in 0..1_000 {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let listening = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let addr = listening
                .filter(|line| line["message"] == "listening")
                .find_map(|line| Some(line["data"]["addr"].as_str()?.to_owned()));
            if let Some(addr) = addr {
                program.url = format!("http://{addr}");
                return program;
            }
            assert!(program.child.try_wait().expect("a child").is_none(), "{text}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("it does not listen: {}", std::fs::read_to_string(&log).unwrap_or_default());
    }

    /// The instant query's result, once it passes.
    async fn until(&self, query: &str, holds: impl Fn(&Value) -> bool) {
        let mut last = Value::Null;
        for _ in 0..800 {
            let request = reqwest::Client::new().get(format!("{}/api/v1/query", self.url));
            if let Ok(answer) = request.query(&[("query", query)]).send().await {
                last = answer.json().await.expect("JSON");
                if holds(&last["data"]["result"]) {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{query} never was what was expected, last: {last:#}");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It is a test's own child; a second kill does no harm.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is(value: &str) -> impl Fn(&Value) -> bool {
    move |result| result[0]["value"][1] == value && result[1].is_null()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prometheus_user_s_file_runs_as_it_stands() {
    let shutdown = Shutdown::new();
    let metrics = |text: &'static str| Router::new().route("/metrics", get(move || async move { text }));
    let body = "# TYPE jobs_total counter\njobs_total{queue=\"mail\"} 7\nnoise_total 1\ngo_goroutines 3\n";
    let target = serve(metrics(body), &shutdown).await;
    let other = serve(metrics("# TYPE other gauge\nother 5\n"), &shutdown).await;
    let alerts = Alerts::default();
    let router = Router::new().route("/api/v2/alerts", post(take)).with_state(alerts.clone());
    let alertmanager = serve(router, &shutdown).await;
    let receiver = Rig::start("").await;

    let dir = tempfile::tempdir().expect("a directory");
    let container = "{name: app, image: sleep, command: [sleep, '1000'], stop_timeout: 1s}";
    let topology = format!(
        "network: \"127.47\"\nclusters: {{demo: {{services: {{order: {{desired_count: 2, task_definition: \
         {{family: order, containers: [{container}]}}}}}}}}}}"
    );
    let options = Options {
        listen: ([127, 0, 0, 1], 0).into(),
        topology: Topology::parse(&topology).expect("valid"),
        file_sd: None,
        log_dir: dir.path().to_owned(),
    };
    let aws = FakeAws::start(options).await.expect("the local AWS starts");

    let addresses: HashMap<&str, SocketAddr> =
        [("TARGET", target), ("ALERTMANAGER", alertmanager), ("RECEIVER", receiver.addr)].into();
    let filled = addresses.iter().fold(GLOBAL.to_owned(), |text, (name, at)| text.replace(name, &at.to_string()));
    std::fs::create_dir_all(dir.path().join("targets")).expect("made");
    std::fs::create_dir_all(dir.path().join("rules")).expect("made");
    let list = format!("[{{\"targets\": [\"{other}\"], \"labels\": {{\"team\": \"core\"}}}}]");
    std::fs::write(dir.path().join("targets/web.json"), list).expect("written");
    std::fs::write(dir.path().join("first.rules.yml"), RULES).expect("written");
    std::fs::write(dir.path().join("rules/second.yml"), "groups: [{name: h, rules: [{record: one, expr: '1'}]}]")
        .expect("written");
    let file = dir.path().join("prometheus.yml");

    // Debian's promtool reads it, too.
    std::fs::write(&file, &filled).expect("written");
    if let Ok(checked) = Command::new("promtool").args(["check", "config"]).arg(&file).output() {
        let text = String::from_utf8_lossy(&checked.stdout) + String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success(), "{text}");
    }
    std::fs::write(&file, filled + ECS).expect("written");
    let program = Program::start(dir.path(), &aws.url()).await;

    program.until("jobs_total{job=\"app\",group=\"production\",host=\"127.0.0.1\"}", is("7")).await;
    program.until("other{job=\"files\",team=\"core\",file=\"web\"}", is("5")).await;
    program.until("count(up{job=\"ecs\",service=\"order\"})", is("2")).await;
    program.until("jobs:sum{job=\"app\"}", is("7")).await;
    program.until("one", is("1")).await;
    program.until("ALERTS{alertname=\"Busy\",alertstate=\"firing\"}", is("1")).await;
    program.until("absent(noise_total)", is("1")).await;
    let path = "/api/v1/query?query=jobs:sum{monitor=\"codelab\",replica=\"a\"}";
    receiver.until(path, |data| data["result"][0]["value"][1] == "7").await;
    // The collector itself is scraped, and its samples pass the same rules.
    let path = "/api/v1/query?query=absent(go_goroutines{monitor=\"codelab\"})";
    receiver.until(path, |data| data["result"][0]["value"][1] == "1").await;
    for _ in 0..800 {
        if !alerts.0.lock().unwrap().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let told = alerts.0.lock().unwrap()[0].clone();
    assert_eq!(told["labels"]["alertname"], "Busy");
    assert_eq!((&told["labels"]["monitor"], &told["labels"]["replica"]), (&Value::from("codelab"), &Value::Null));
    assert_eq!(told["annotations"]["summary"], "mail");
    drop(program);
    aws.stop().await.unwrap();
    shutdown.request();
}

/// What we do not support is refused by name, line and column, wherever it stands.
#[test]
fn what_is_not_supported_is_refused_by_name_line_and_column() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("prometheus.yml");
    for (text, line, column, name) in [
        ("remote_read:\n- url: http://x/\n", 1, 1, "remote_read"),
        ("tracing:\n  endpoint: x\n", 1, 1, "tracing"),
        ("global:\n  query_log_file: x\n", 2, 3, "query_log_file"),
        ("scrape_configs:\n- job_name: a\n  kubernetes_sd_configs: []\n", 3, 3, "kubernetes_sd_configs"),
        ("scrape_configs:\n- job_name: a\n  proxy_url: socks5://x\n", 3, 14, "proxy_url"),
        ("scrape_configs:\n- job_name: a\n  proxy_connect_header: {}\n", 3, 3, "proxy_connect_header"),
        ("scrape_configs:\n- job_name: a\n  http_headers: {Host: {values: [x]}}\n", 3, 17, "http_headers"),
        ("scrape_configs:\n- job_name: a\n  oauth2: {client_id: x}\n", 3, 12, "oauth2: missing field `token_url`"),
        ("scrape_configs:\n- job_name: a\n  oauth2: {grant_type: x}\n", 3, 12, "grant_type"),
        ("scrape_configs:\n- job_name: a\n  convert_classic_histograms_to_nhcb: true\n", 3, 3, "convert_classic"),
        ("scrape_configs:\n- job_name: a\n  scrape_protocols: [PrometheusProto, Morse]\n", 3, 39, "Morse"),
        ("scrape_configs:\n- job_name: a\n  tls_config: {max_version: TLS12}\n", 3, 16, "max_version"),
        ("remote_write:\n- url: http://x/\n  azuread: {}\n", 3, 3, "azuread"),
        ("remote_write:\n- url: http://x/\n  queue_config: {shards: 3}\n", 3, 18, "shards"),
        ("alerting:\n  alertmanagers:\n  - consul_sd_configs: []\n", 3, 5, "consul_sd_configs"),
        ("storage:\n  tsdb: {out_of_order_time_window: 1h}\n", 2, 3, "tsdb"),
        ("scrape_configs:\n- job_name: a\n  aws_sd_configs:\n  - {role: ecs, filters: []}\n", 4, 17, "filters"),
    ] {
        std::fs::write(&file, text).expect("written");
        let error = collector::config::Config::load(&file).expect_err(text).to_string();
        assert!(error.contains(&format!("prometheus.yml:{line}:{column}: ")), "{text}: {error}");
        assert!(error.contains(name), "{text}: {error}");
    }
}
