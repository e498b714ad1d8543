//! The folder, the programs and the outside of one test: a target that is scraped and a receiver that is told.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use collector::state::{AlertRow, Config as StateConfig};
use reqwest::Client;
use serde_json::Value;
use service::Shutdown;
use service::config::{Env, ProcessEnv};
use service::metrics::Metrics;
use tokio::sync::Notify;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Four scrapes and evaluations a second. Alertmanager takes an alert for over that was not sent again for four resend
/// delays: long enough for a killed collector to be back on a busy machine.
pub(super) const QUICK: &str = "\
global: {scrape_interval: 250ms, scrape_timeout: 250ms, evaluation_interval: 250ms}
rules: {resend_delay: 2s}";

/// The list of Alertmanagers that listen on these ports.
pub(super) fn entry(ports: &[u16]) -> String {
    let list: Vec<_> = ports.iter().map(|port| format!("'127.0.0.1:{port}'")).collect();
    format!("[{{static_configs: [{{targets: [{}]}}]}}]", list.join(", "))
}

pub(super) const RULES: &str = r#"
groups:
  - name: now
    rules:
      - alert: Failing
        expr: max by (service) (failing) > 0
        labels: {severity: critical}
        annotations: {summary: '{{ $labels.service }} fails'}
      - alert: Slow
        expr: max by (service) (slow) > 0
        labels: {severity: warning}
      - alert: Lasting
        expr: max by (service) (lasting) > 0
        for: 5s
        labels: {severity: critical}
"#;

const ROUTES: &str = "
route: {receiver: hook, group_by: [alertname], group_wait: 500ms, group_interval: 500ms, repeat_interval: 1h}
inhibit_rules:
  - {source_matchers: [severity=critical], target_matchers: [severity=warning], equal: [service]}
";

fn alertmanager_program() -> Option<PathBuf> {
    let path = ProcessEnv.get("PATH").unwrap_or_default();
    let names = ["prometheus-alertmanager", "alertmanager"];
    let found = std::env::split_paths(&path).flat_map(|dir| names.map(|n| dir.join(n))).find(|file| file.is_file());
    if found.is_none() {
        assert_ne!(ProcessEnv.get("CI").as_deref(), Some("true"), "Alertmanager is not installed");
        eprintln!(
            "Alertmanager is not installed, untested: what on-call gets (Debian package prometheus-alertmanager)"
        );
    }
    found
}

pub(super) fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).expect("a free port").local_addr().expect("bound").port()
}

/// Killed when it is dropped.
pub(super) struct Process {
    child: Child,
    pub(super) port: u16,
}

impl Process {
    fn start(command: &mut Command, log: &Path, port: u16) -> Process {
        let log = std::fs::File::create(log).expect("a log");
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().expect("a handle")).stderr(log).spawn();
        Process { child: child.expect("it starts"), port }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop and waits until it has.
    pub(super) fn stop(&mut self) {
        signal("TERM", self.child.id());
        let _ = self.child.wait();
    }

    pub(super) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends a signal by its name.
pub(super) fn signal(name: &str, process: u32) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(process.to_string()).status();
    assert!(sent.expect("kill runs").success());
}

/// What the receiver was told, and what the target says.
#[derive(Clone, Default)]
struct Outside {
    notifications: Arc<Mutex<Vec<Value>>>,
    arrived: Arc<Notify>,
    metrics: Arc<Mutex<String>>,
}

/// The folder, the target and the receiver of one test.
pub(super) struct World {
    pub(super) dir: tempfile::TempDir,
    outside: Outside,
    addr: String,
    pub(super) client: Client,
    program: PathBuf,
}

impl World {
    /// None where there is no Alertmanager.
    pub(super) async fn new() -> Option<World> {
        let program = alertmanager_program()?;
        let outside = Outside::default();
        let hook = |State(outside): State<Outside>, Json(payload): Json<Value>| async move {
            outside.notifications.lock().expect("fine").push(payload);
            outside.arrived.notify_waiters();
        };
        let metrics = |State(outside): State<Outside>| async move {
            ([("content-type", "text/plain; version=0.0.4")], outside.metrics.lock().expect("fine").clone())
        };
        let router =
            Router::new().route("/hook", post(hook)).route("/metrics", get(metrics)).with_state(outside.clone());
        let listener = service::http::bind(([127, 0, 0, 1], 0).into(), "test").await.expect("port 0");
        let addr = listener.local_addr().expect("bound").to_string();
        service::task::spawn("outside", service::http::serve(listener, router, Shutdown::new()));
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("it.rules.yml"), RULES).expect("written");
        let routes = format!("{ROUTES}receivers: [{{name: hook, webhook_configs: [{{url: 'http://{addr}/hook'}}]}}]\n");
        std::fs::write(dir.path().join("alertmanager.yml"), routes).expect("written");
        let client = Client::builder().timeout(Duration::from_secs(5)).build().expect("a client");
        Some(World { dir, outside, addr, client, program })
    }

    /// Sets what the target says from the next scrape on: `failing order 1`, one line per series.
    pub(super) fn says(&self, series: &[(&str, &str, u8)]) {
        let lines = series.iter().map(|(name, service, value)| format!("{name}{{service=\"{service}\"}} {value}\n"));
        *self.outside.metrics.lock().expect("fine") = lines.collect();
    }

    /// An Alertmanager that is ready; without further arguments it is alone.
    pub(super) async fn alertmanager(&self, port: u16, more: &[String]) -> Process {
        let process = self.start_alertmanager(port, more);
        self.until("Alertmanager is ready", async || self.is_ok(&process.url("/-/ready")).await).await;
        process
    }

    pub(super) fn start_alertmanager(&self, port: u16, more: &[String]) -> Process {
        let storage = self.dir.path().join(format!("am-{port}"));
        let mut command = Command::new(&self.program);
        command.arg(format!("--config.file={}", self.dir.path().join("alertmanager.yml").display()));
        command.arg(format!("--storage.path={}", storage.display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        if !more.iter().any(|argument| argument.starts_with("--cluster.")) {
            command.arg("--cluster.listen-address=");
        }
        Process::start(command.args(more), &storage.with_extension("log"), port)
    }

    /// The collector `name` with a data directory of its own, telling these; `more` is configuration.
    pub(super) async fn collector(&self, name: &str, alertmanagers: &[u16], more: &str) -> Process {
        self.configure(name, QUICK, &entry(alertmanagers), more);
        self.launch(name).await
    }

    /// Writes the configuration of the collector `name`; `alertmanagers` is a list in YAML.
    pub(super) fn configure(&self, name: &str, timing: &str, alertmanagers: &str, more: &str) -> PathBuf {
        let yaml = format!(
            "{timing}\nscrape_configs: [{{job_name: app, static_configs: [{{targets: ['{}']}}]}}]\n\
             rule_files: ['{}']\nalerting: {{evidence: {{enabled: false}}, alertmanagers: {alertmanagers}}}\n{more}\n",
            self.addr,
            self.dir.path().join("it.rules.yml").display(),
        );
        let config = self.config(name);
        std::fs::write(&config, yaml).expect("written");
        config
    }

    pub(super) fn config(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.yml"))
    }

    /// Starts the collector `name` as it is configured and waits until it is ready.
    pub(super) async fn launch(&self, name: &str) -> Process {
        let (port, config) = (free_port(), self.config(name));
        let mut command = Command::new(env!("CARGO_BIN_EXE_collector"));
        command.arg("serve").arg("--config").arg(&config).arg("--data").arg(self.dir.path().join(name));
        command.arg("--listen").arg(format!("127.0.0.1:{port}"));
        let process = Process::start(&mut command, &config.with_extension("log"), port);
        self.until("the collector is ready", async || self.is_ok(&process.url("/-/ready")).await).await;
        process
    }

    /// What the collector `name` has saved of its alerts, as the next process will find it.
    pub(super) async fn saved(&self, name: &str) -> Vec<AlertRow> {
        let data = self.dir.path().join(name);
        let state = StateConfig::default().open(&data, &Metrics::new()).await.expect("the collector made it");
        state.load_group("it.rules.yml/now").await.map(|rows| rows.alerts).unwrap_or_default()
    }

    pub(super) async fn is_ok(&self, url: &str) -> bool {
        self.client.get(url).send().await.is_ok_and(|answer| answer.status().is_success())
    }

    pub(super) async fn json(&self, url: &str) -> Value {
        let Ok(answer) = self.client.get(url).send().await else { return Value::Null };
        answer.json().await.unwrap_or_default()
    }

    pub(super) async fn metric(&self, process: &Process, line: &str) -> f64 {
        let Ok(answer) = self.client.get(process.url("/metrics")).send().await else { return 0.0 };
        let text = answer.text().await.unwrap_or_default();
        let of = |found: &str| found.strip_prefix(line)?.trim().parse::<f64>().ok();
        text.lines().filter_map(of).sum()
    }

    pub(super) async fn until(&self, what: &str, holds: impl AsyncFnMut() -> bool) {
        self.until_within(PATIENCE, what, holds).await;
    }

    pub(super) async fn until_within(&self, patience: Duration, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let started = Instant::now();
        while !holds().await {
            assert!(started.elapsed() < patience, "never: {what}; {}", self.logs());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The ends of all logs, for a failed test.
    pub(super) fn logs(&self) -> String {
        let entries = std::fs::read_dir(self.dir.path()).into_iter().flatten().flatten();
        let logs = entries.filter(|entry| entry.path().extension().is_some_and(|e| e == "log"));
        let end = |entry: std::fs::DirEntry| {
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            let lines: Vec<&str> = text.lines().rev().take(8).collect();
            format!("\n== {}\n{}", entry.path().display(), lines.join("\n"))
        };
        logs.map(end).collect()
    }

    pub(super) fn notifications(&self) -> Vec<Value> {
        self.outside.notifications.lock().expect("fine").clone()
    }

    /// How often on-call was told of an alert, as `(firing, resolved)`.
    pub(super) fn told(&self, alert: &str) -> (usize, usize) {
        let of = |status: &str| {
            let notifications = self.notifications();
            let about =
                notifications.iter().filter(|n| n["groupLabels"]["alertname"] == alert && n["status"] == status);
            about.count()
        };
        (of("firing"), of("resolved"))
    }

    pub(super) async fn until_told(&self, alert: &str, told: (usize, usize)) {
        let wait = async {
            loop {
                // Asked for before looking, so that none is missed.
                let arrived = self.outside.arrived.notified();
                if self.told(alert) == told {
                    break;
                }
                arrived.await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        assert!(waited.is_ok(), "{alert}: told {:?}, not {told:?}; {}", self.told(alert), self.logs());
    }

    /// The alerts of a collector by name, as its API shows them.
    pub(super) async fn alert(&self, collector: &Process, name: &str) -> Option<Value> {
        let alerts = self.json(&collector.url("/api/v1/alerts")).await;
        let of = |alert: &&Value| alert["labels"]["alertname"] == name;
        alerts["data"]["alerts"].as_array()?.iter().find(of).cloned()
    }
}
