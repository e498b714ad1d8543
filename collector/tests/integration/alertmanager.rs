//! The collector's own program with a real Alertmanager: what on-call gets is counted at a webhook receiver.
//!
//! Every part is a process of its own, is killed rather than asked to stop, and speaks over loopback. Times are
//! short (scrapes and evaluations four times a second), nothing waits for longer than what it waits for.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use reqwest::Client;
use serde_json::{Value, json};
use service::Shutdown;
use service::config::{Env, ProcessEnv};

use crate::postgres::Postgres;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

const RULES: &str = r#"
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

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).expect("a free port").local_addr().expect("bound").port()
}

/// Killed when it is dropped.
struct Process {
    child: Child,
    port: u16,
}

impl Process {
    fn start(mut command: Command, log: &Path, port: u16) -> Process {
        let log = std::fs::File::create(log).expect("a log");
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().expect("a handle")).stderr(log).spawn();
        Process { child: child.expect("it starts"), port }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What the receiver was told, and what the target says.
#[derive(Clone, Default)]
struct Outside {
    notifications: Arc<Mutex<Vec<Value>>>,
    metrics: Arc<Mutex<String>>,
}

/// The folder, the target and the receiver of one test.
struct World {
    dir: tempfile::TempDir,
    outside: Outside,
    addr: String,
    client: Client,
    program: PathBuf,
}

impl World {
    /// None where there is no Alertmanager.
    async fn new() -> Option<World> {
        let program = alertmanager_program()?;
        let outside = Outside::default();
        let hook = |State(outside): State<Outside>, Json(payload): Json<Value>| async move {
            outside.notifications.lock().expect("fine").push(payload);
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
    fn says(&self, series: &[(&str, &str, u8)]) {
        let lines = series.iter().map(|(name, service, value)| format!("{name}{{service=\"{service}\"}} {value}\n"));
        *self.outside.metrics.lock().expect("fine") = lines.collect();
    }

    async fn alertmanager(&self, port: u16, cluster: &[String]) -> Process {
        let storage = self.dir.path().join(format!("am-{port}"));
        let mut command = Command::new(&self.program);
        command.arg(format!("--config.file={}", self.dir.path().join("alertmanager.yml").display()));
        command.arg(format!("--storage.path={}", storage.display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        match cluster.is_empty() {
            true => command.arg("--cluster.listen-address="),
            false => command.args(cluster),
        };
        let process = Process::start(command, &storage.with_extension("log"), port);
        self.until("Alertmanager is ready", async || self.is_ok(&process.url("/-/ready")).await).await;
        process
    }

    /// The collector `name` with a data directory of its own; `more` is configuration.
    async fn collector(&self, name: &str, alertmanagers: &[u16], more: &str) -> Process {
        let (port, config) = (free_port(), self.dir.path().join(format!("{name}.yml")));
        let list: Vec<_> = alertmanagers.iter().map(|port| format!("'127.0.0.1:{port}'")).collect();
        let yaml = format!(
            "global: {{scrape_interval: 250ms, scrape_timeout: 250ms, evaluation_interval: 250ms}}\n\
             scrape_configs: [{{job_name: app, static_configs: [{{targets: ['{}']}}]}}]\n\
             rule_files: ['{}']\nrules: {{resend_delay: 500ms}}\n\
             alerting: {{evidence: {{enabled: false}}, alertmanagers: [{{static_configs: [{{targets: [{}]}}]}}]}}\n{more}\n",
            self.addr,
            self.dir.path().join("it.rules.yml").display(),
            list.join(", "),
        );
        std::fs::write(&config, yaml).expect("written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_collector"));
        command.arg("serve").arg("--config").arg(&config).arg("--data").arg(self.dir.path().join(name));
        command.arg("--listen").arg(format!("127.0.0.1:{port}"));
        let process = Process::start(command, &config.with_extension("log"), port);
        self.until("the collector is ready", async || self.is_ok(&process.url("/-/ready")).await).await;
        process
    }

    async fn is_ok(&self, url: &str) -> bool {
        self.client.get(url).send().await.is_ok_and(|answer| answer.status().is_success())
    }

    async fn json(&self, url: &str) -> Value {
        let Ok(answer) = self.client.get(url).send().await else { return Value::Null };
        answer.json().await.unwrap_or_default()
    }

    async fn metric(&self, process: &Process, line: &str) -> f64 {
        let Ok(answer) = self.client.get(process.url("/metrics")).send().await else { return 0.0 };
        let text = answer.text().await.unwrap_or_default();
        let of = |found: &str| found.strip_prefix(line)?.trim().parse::<f64>().ok();
        text.lines().filter_map(of).sum()
    }

    async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let started = Instant::now();
        while !holds().await {
            assert!(started.elapsed() < PATIENCE, "never: {what}; {}", self.logs());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The ends of all logs, for a failed test.
    fn logs(&self) -> String {
        let entries = std::fs::read_dir(self.dir.path()).into_iter().flatten().flatten();
        let logs = entries.filter(|entry| entry.path().extension().is_some_and(|e| e == "log"));
        let end = |entry: std::fs::DirEntry| {
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            let lines: Vec<&str> = text.lines().rev().take(8).collect();
            format!("\n== {}\n{}", entry.path().display(), lines.join("\n"))
        };
        logs.map(end).collect()
    }

    fn notifications(&self) -> Vec<Value> {
        self.outside.notifications.lock().expect("fine").clone()
    }

    /// How often on-call was told of an alert, as `(firing, resolved)`.
    fn told(&self, alert: &str) -> (usize, usize) {
        let of = |status: &str| {
            let notifications = self.notifications();
            let about =
                notifications.iter().filter(|n| n["groupLabels"]["alertname"] == alert && n["status"] == status);
            about.count()
        };
        (of("firing"), of("resolved"))
    }

    async fn until_told(&self, alert: &str, told: (usize, usize)) {
        self.until(&format!("{alert} told {told:?}"), async || self.told(alert) == told).await;
    }

    /// The alerts of a collector by name, as its API shows them.
    async fn alert(&self, collector: &Process, name: &str) -> Option<Value> {
        let alerts = self.json(&collector.url("/api/v1/alerts")).await;
        let of = |alert: &&Value| alert["labels"]["alertname"] == name;
        alerts["data"]["alerts"].as_array()?.iter().find(of).cloned()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alerts_of_one_name_are_one_notification_and_its_end_is_another() {
    let Some(world) = World::new().await else { return };
    let alertmanager = world.alertmanager(free_port(), &[]).await;
    world.says(&[("failing", "order", 1), ("failing", "user", 1), ("failing", "product", 0)]);
    let _collector = world.collector("c", &[alertmanager.port], "").await;
    world.until_told("Failing", (1, 0)).await;
    let alerts = world.notifications()[0]["alerts"].as_array().cloned().expect("alerts");
    let mut summaries: Vec<_> = alerts.iter().map(|a| a["annotations"]["summary"].clone()).collect();
    summaries.sort_by_key(ToString::to_string);
    assert_eq!(summaries, [json!("order fails"), json!("user fails")]);
    world.says(&[("failing", "order", 0), ("failing", "user", 0)]);
    world
        .until("both are over", async || {
            let all = world.notifications();
            all.last().is_some_and(|last| last["status"] == "resolved")
        })
        .await;
    assert_eq!(world.told("Failing").0, 1, "one page: {:#?}", world.notifications());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_inhibited_or_silenced_reaches_nobody() {
    let Some(world) = World::new().await else { return };
    let alertmanager = world.alertmanager(free_port(), &[]).await;
    let silence = json!({
        "matchers": [{"name": "service", "value": "user", "isRegex": false, "isEqual": true}],
        "startsAt": "2020-01-01T00:00:00Z", "endsAt": "2099-01-01T00:00:00Z", "createdBy": "test", "comment": "test",
    });
    let silenced = world.client.post(alertmanager.url("/api/v2/silences")).json(&silence).send().await.expect("asked");
    assert!(silenced.status().is_success());
    world.says(&[("failing", "order", 1), ("failing", "user", 1)]);
    let _collector = world.collector("c", &[alertmanager.port], "").await;
    world.until_told("Failing", (1, 0)).await;
    // Now the warnings: one is inhibited by its critical sister, one is silenced, one may pass.
    world.says(&[("failing", "order", 1), ("slow", "order", 1), ("slow", "user", 1), ("slow", "product", 1)]);
    world.until_told("Slow", (1, 0)).await;
    world
        .until("Alertmanager has all three", async || {
            let alerts = world.json(&alertmanager.url("/api/v2/alerts?filter=alertname%3DSlow")).await;
            alerts.as_array().is_some_and(|alerts| alerts.len() == 3)
        })
        .await;
    let alerts = world.json(&alertmanager.url("/api/v2/alerts?filter=alertname%3DSlow")).await;
    for alert in alerts.as_array().expect("a list") {
        let why = match alert["labels"]["service"].as_str().expect("a service") {
            "order" => ("suppressed", 1, 0),
            "user" => ("suppressed", 0, 1),
            _ => ("active", 0, 0),
        };
        let count = |by: &str| alert["status"][by].as_array().map_or(0, Vec::len);
        let state = alert["status"]["state"].as_str().expect("a state");
        assert_eq!((state, count("inhibitedBy"), count("silencedBy")), why, "{alert:#}");
    }
    let told: Vec<String> = world
        .notifications()
        .iter()
        .flat_map(|n| n["alerts"].as_array().cloned().unwrap_or_default())
        .map(|a| format!("{} {}", a["labels"]["alertname"], a["labels"]["service"]).replace('"', ""))
        .collect();
    assert!(!told.iter().any(|t| t == "Slow order" || t.ends_with(" user")), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_killed_inside_for_loses_no_time() {
    let Some(world) = World::new().await else { return };
    let alertmanager = world.alertmanager(free_port(), &[]).await;
    world.says(&[("lasting", "order", 1)]);
    let mut collector = world.collector("c", &[alertmanager.port], "").await;
    world.until("it is pending", async || world.alert(&collector, "Lasting").await.is_some()).await;
    let before = world.alert(&collector, "Lasting").await.expect("there")["activeAt"].clone();
    // What was evaluated has been saved: the state is offered with each evaluation.
    tokio::time::sleep(Duration::from_secs(1)).await;
    collector.kill();
    let collector = world.collector("c", &[alertmanager.port], "").await;
    world.until("it is there again", async || world.alert(&collector, "Lasting").await.is_some()).await;
    assert_eq!(world.alert(&collector, "Lasting").await.expect("there")["activeAt"], before);
    world.until_told("Lasting", (1, 0)).await;
    let started = world.notifications()[0]["alerts"][0]["startsAt"].as_str().expect("a time").to_owned();
    let seconds = |time: &str| time.parse::<jiff::Timestamp>().expect("RFC 3339").as_millisecond() as f64 / 1e3;
    let waited = seconds(&started) - seconds(before.as_str().expect("a time"));
    // Five seconds after it began, up to the start of the new process if that took longer.
    assert!((5.0..7.5).contains(&waited), "fired {waited} s after it became active");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_killed_while_an_alert_fires_pages_nobody_again() {
    let Some(world) = World::new().await else { return };
    let alertmanager = world.alertmanager(free_port(), &[]).await;
    world.says(&[("failing", "order", 1)]);
    let mut collector = world.collector("c", &[alertmanager.port], "").await;
    world.until_told("Failing", (1, 0)).await;
    let started = world.alert(&collector, "Failing").await.expect("fires")["activeAt"].clone();
    tokio::time::sleep(Duration::from_secs(1)).await;
    collector.kill();
    let collector = world.collector("c", &[alertmanager.port], "").await;
    // It goes on telling Alertmanager, which tells nobody.
    let sent = format!("collector_notifications_sent_total{{alertmanager=\"{}\"}}", alertmanager.url(""));
    world.until("five more sends", async || world.metric(&collector, &sent).await >= 5.0).await;
    assert_eq!(world.alert(&collector, "Failing").await.expect("fires")["activeAt"], started);
    assert_eq!(world.told("Failing"), (1, 0));
    world.says(&[("failing", "order", 0)]);
    world.until_told("Failing", (1, 1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fired_while_alertmanager_was_away_is_told_when_it_is_back() {
    let Some(world) = World::new().await else { return };
    let port = free_port();
    world.says(&[("failing", "order", 1)]);
    let collector = world.collector("c", &[port], "").await;
    let failed =
        format!("collector_notifications_errors_total{{alertmanager=\"http://127.0.0.1:{port}\",reason=\"connect\"}}");
    world.until("three attempts failed", async || world.metric(&collector, &failed).await >= 3.0).await;
    let _alertmanager = world.alertmanager(port, &[]).await;
    world.until_told("Failing", (1, 0)).await;
    world.says(&[("failing", "order", 0)]);
    world.until_told("Failing", (1, 1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_collectors_and_two_alertmanagers_page_once_and_a_killed_holder_is_replaced() {
    let Some(world) = World::new().await else { return };
    let Some(postgres) = Postgres::start().await else { return };
    let (gossip_a, gossip_b) = (free_port(), free_port());
    let cluster = |own: u16, peer: u16| -> Vec<String> {
        [
            format!("--cluster.listen-address=127.0.0.1:{own}"),
            format!("--cluster.peer=127.0.0.1:{peer}"),
            // The second one waits this long for the first one's word that it has told.
            "--cluster.peer-timeout=2s".to_owned(),
            "--cluster.settle-timeout=2s".to_owned(),
        ]
        .into()
    };
    let (first, second) = (cluster(gossip_a, gossip_b), cluster(gossip_b, gossip_a));
    let (a, b) = tokio::join!(world.alertmanager(free_port(), &first), world.alertmanager(free_port(), &second));
    world
        .until("they are a cluster", async || {
            let mut peers = Vec::new();
            for process in [&a, &b] {
                let status = world.json(&process.url("/api/v2/status")).await;
                peers.push((
                    status["cluster"]["status"].clone(),
                    status["cluster"]["peers"].as_array().map_or(0, Vec::len),
                ));
            }
            peers.iter().all(|(status, peers)| status == "ready" && *peers == 2)
        })
        .await;
    let state = format!("state: {{url: '{}'}}", postgres.url());
    world.says(&[("failing", "order", 1)]);
    let ports = [a.port, b.port];
    let (one, two) = tokio::join!(world.collector("one", &ports, &state), world.collector("two", &ports, &state));
    world.until_told("Failing", (1, 0)).await;
    // The log of notifications is asked after the wait for the peer and right before telling: both have decided.
    world
        .until("both Alertmanagers have decided", async || {
            let decided = "alertmanager_nflog_queries_total";
            world.metric(&a, decided).await >= 3.0 && world.metric(&b, decided).await >= 3.0
        })
        .await;
    for (collector, alertmanager) in [(&one, &a), (&one, &b), (&two, &a), (&two, &b)] {
        let sent = format!("collector_notifications_sent_total{{alertmanager=\"{}\"}}", alertmanager.url(""));
        world.until("everybody sends to everybody", async || world.metric(collector, &sent).await >= 1.0).await;
    }
    assert_eq!(world.told("Failing"), (1, 0), "{:#?}", world.notifications());

    let held = "collector_lease_held{lease=\"scaling\"}";
    world
        .until("somebody holds the lease", async || {
            world.metric(&one, held).await + world.metric(&two, held).await == 1.0
        })
        .await;
    let (mut holder, other) = if world.metric(&one, held).await == 1.0 { (one, two) } else { (two, one) };
    let killed = Instant::now();
    holder.kill();
    world.until("the other holds it", async || world.metric(&other, held).await == 1.0).await;
    assert!(killed.elapsed() < Duration::from_secs(20), "the lease moved after {:?}", killed.elapsed());
    assert_eq!(world.metric(&other, "collector_lease_epoch{lease=\"scaling\"}").await, 2.0);
    eprintln!("the lease moved {:.1} s after its holder was killed", killed.elapsed().as_secs_f64());
    assert_eq!(world.told("Failing"), (1, 0), "the one that is left pages nobody again");
}
