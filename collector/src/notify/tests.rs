use std::path::Path;
use std::sync::Mutex;

use axum::extract::State as Shared;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use service::Shutdown;
use telemetry::{Labels, Timestamp};
use tokio::sync::{Notify, watch};

use super::*;
use crate::config::Config as WholeConfig;
use crate::discovery::{StopReason, StoppedTask, Target};
use crate::rules::alerting::Fingerprint;

/// Takes alerts as Alertmanager does and remembers each request.
#[derive(Clone, Default)]
struct FakeAlertmanager(Arc<FakeInner>);

#[derive(Default)]
struct FakeInner {
    requests: Mutex<Vec<Vec<Value>>>,
    /// Answers of the next requests; 200 when there are none.
    answers: Mutex<Vec<StatusCode>>,
    arrived: Notify,
}

impl FakeAlertmanager {
    async fn start() -> (Self, String) {
        let fake = FakeAlertmanager::default();
        let take = |Shared(fake): Shared<FakeAlertmanager>, Json(alerts): Json<Vec<Value>>| async move {
            let answer = fake.0.answers.lock().expect("fine").pop().unwrap_or(StatusCode::OK);
            fake.0.requests.lock().expect("fine").push(alerts);
            fake.0.arrived.notify_one();
            answer
        };
        let router = Router::new().route("/am/api/v2/alerts", post(take)).with_state(fake.clone());
        (fake, serve(router).await)
    }

    /// The first `count` requests, as soon as they are there.
    async fn requests(&self, count: usize) -> Vec<Vec<Value>> {
        loop {
            let requests = self.0.requests.lock().expect("fine").clone();
            if requests.len() >= count {
                return requests;
            }
            let arrived = tokio::time::timeout(Duration::from_secs(20), self.0.arrived.notified()).await;
            arrived.unwrap_or_else(|_| panic!("only {} of {count} requests came", requests.len()));
        }
    }

    /// The annotation's value as soon as a request has it; the requests before are forgotten.
    async fn until(&self, annotation: &str) -> Value {
        loop {
            let requests = self.requests(1).await;
            self.0.requests.lock().expect("fine").clear();
            let value = &requests.last().expect("one")[0]["annotations"][annotation];
            if !value.is_null() {
                return value.clone();
            }
        }
    }
}

async fn serve(router: Router) -> String {
    let listener = service::http::bind(([127, 0, 0, 1], 0).into(), "test").await.expect("port 0");
    let addr = listener.local_addr().expect("bound");
    service::task::spawn("fake", service::http::serve(listener, router, Shutdown::new()));
    addr.to_string()
}

/// The stage with everything it needs, and the ends that a test holds.
struct Stage {
    outbox: Outbox,
    status: Status,
    metrics: Metrics,
    stops: Stops,
    shutdown: Shutdown,
    running: tokio::task::JoinHandle<anyhow::Result<()>>,
    _config: watch::Sender<Arc<WholeConfig>>,
}

impl Stage {
    fn start(alertmanagers: &[String], targets: Vec<Target>, state: Option<State>) -> Stage {
        let list = alertmanagers.iter().map(|target| format!("'{target}'")).collect::<Vec<_>>().join(", ");
        let entry = format!("  - {{path_prefix: /am/, static_configs: [{{targets: [{list}]}}]}}\n");
        Stage::start_with(&entry, targets, state)
    }

    fn start_with(alertmanagers: &str, targets: Vec<Target>, state: Option<State>) -> Stage {
        let yaml = format!(
            "global: {{external_labels: {{region: eu-1, severity: never}}}}\nalerting:\n  alert_relabel_configs: [{{action: labeldrop, regex: \
             replica}}, {{action: drop, source_labels: [mute], regex: 'yes'}}]\n  alertmanagers:\n{alertmanagers}"
        );
        let config: WholeConfig = service::config::parse_yaml(&yaml, Path::new("c.yml")).expect("a configuration");
        let (sender, config) = watch::channel(Arc::new(config));
        let (_, targets) = watch::channel(Arc::from(targets));
        let clock = Clock::starting_at(Timestamp(1_700_000_000_000));
        let listen_url = Url::parse("http://127.0.0.1:9090/").expect("a URL");
        let stops = Stops::default();
        let (metrics, mut tasks, shutdown) = (Metrics::new(), Tasks::new(), Shutdown::new());
        let aws = Aws::new(&Metrics::new());
        let inputs = Inputs { config, clock, targets, stops: stops.clone(), aws, state, lease: None, listen_url };
        let (outbox, status) = spawn(inputs, &metrics, &mut tasks, &shutdown).expect("built");
        let running = service::task::spawn("stage", tasks.run(shutdown.clone(), Duration::from_secs(5)));
        Stage { outbox, status, metrics, stops, shutdown, running, _config: sender }
    }

    /// The stop: nothing more comes, what is queued is sent.
    async fn stop(self) -> Metrics {
        drop(self.outbox);
        self.shutdown.request();
        self.running.await.expect("no panic").expect("no failure");
        self.metrics
    }
}

fn notice(name: &str, labels: &[(&str, &str)]) -> Notice {
    let labels = Labels::from_pairs(labels.iter().copied()).with("alertname", name);
    Notice {
        fingerprint: Fingerprint::of(&labels),
        labels,
        annotations: Labels::from_pairs([("summary", "it is down")]),
        starts_at: Timestamp(1_700_000_000_000),
        ends_at: Timestamp(1_700_000_240_000),
        resolved: false,
        expr: "up == 0".to_owned(),
    }
}

fn target(addr: &str, labels: &[(&str, &str)]) -> Target {
    let job: crate::scrape::Config = serde_json::from_value(json!({"job_name": "sidecars"})).expect("a job");
    Target {
        labels: Labels::from_pairs(labels.iter().copied()),
        discovered: Labels::empty(),
        pool: "sidecars".into(),
        scrape_url: Url::parse(&format!("http://{addr}/metrics")).expect("a URL"),
        scrape_interval: Duration::from_secs(15),
        scrape_timeout: Duration::from_secs(10),
        settings: Arc::new(crate::scrape::Settings::new(&job, &crate::config::Global::default())),
        refused: None,
    }
}

#[tokio::test]
async fn an_alert_arrives_in_alertmanagers_form_with_external_labels() {
    let (fake, addr) = FakeAlertmanager::start().await;
    let stage = Stage::start(&[addr], Vec::new(), None);
    let muted = notice("Muted", &[("mute", "yes")]);
    stage.outbox.push(vec![muted, notice("Down", &[("severity", "page"), ("replica", "a")])]);
    let requests = fake.requests(1).await;
    assert_eq!(
        requests[0],
        [json!({
            "labels": {"alertname": "Down", "severity": "page", "region": "eu-1"},
            "annotations": {"summary": "it is down"},
            "startsAt": "2023-11-14T22:13:20.000Z",
            "endsAt": "2023-11-14T22:17:20.000Z",
            "generatorURL": "http://127.0.0.1:9090/graph?g0.expr=up+%3D%3D+0&g0.tab=1",
        })]
    );
    let text = stage.stop().await.expose();
    assert!(text.contains("collector_notifications_sent_total{alertmanager=\"http://127.0.0.1:"), "{text}");
    assert!(text.contains("collector_notifications_dropped_total{reason=\"relabelled\"} 1"), "{text}");
}

#[tokio::test]
async fn a_silent_alertmanager_does_not_delay_the_other_and_batches_are_bounded() {
    let black_hole = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("port 0");
    let silent = black_hole.local_addr().expect("bound").to_string();
    let (fake, addr) = FakeAlertmanager::start().await;
    let stage = Stage::start(&[silent, addr], Vec::new(), None);
    stage.outbox.push((0..300).map(|n| notice(&format!("A{n}"), &[])).collect());
    let mut lens = Vec::new();
    while lens.iter().sum::<usize>() < 300 {
        lens = fake.requests(lens.len() + 1).await.iter().map(Vec::len).collect();
    }
    assert!(lens.iter().all(|len| *len <= 256), "{lens:?}");
}

#[tokio::test]
async fn a_request_that_failed_is_tried_again_and_one_that_was_refused_is_not() {
    let (fake, addr) = FakeAlertmanager::start().await;
    *fake.0.answers.lock().expect("fine") =
        vec![StatusCode::BAD_REQUEST, StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE];
    let stage = Stage::start(std::slice::from_ref(&addr), Vec::new(), None);
    stage.outbox.push(vec![notice("Retried", &[])]);
    let names = |requests: Vec<Vec<Value>>| -> Vec<String> {
        requests.iter().map(|r| r[0]["labels"]["alertname"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(names(fake.requests(2).await), ["Retried", "Retried"]);
    stage.outbox.push(vec![notice("Refused", &[])]);
    assert_eq!(names(fake.requests(3).await)[2], "Refused");
    stage.outbox.push(vec![notice("Next", &[])]);
    assert_eq!(names(fake.requests(4).await)[3], "Next");
    let status = stage.status.clone();
    let text = stage.stop().await.expose();
    assert!(text.contains("collector_notifications_dropped_total{reason=\"refused\"} 1"), "{text}");
    assert!(text.contains("reason=\"unavailable\"} 1"), "{text}");
    let refused = status.delivery(notice("Refused", &[]).fingerprint).expect("known");
    let receipt = &refused.receipts[&format!("http://{addr}/am")];
    assert!(receipt.error.as_deref().expect("an error").starts_with("answered 400"), "{receipt:?}");
    assert_eq!(status.alertmanagers()[&format!("http://{addr}/am")].last_error, None, "the last attempt went well");
}

#[tokio::test]
async fn what_is_queued_is_sent_at_the_stop() {
    let (fake, addr) = FakeAlertmanager::start().await;
    let stage = Stage::start(&[addr], Vec::new(), None);
    stage.outbox.push(vec![notice("Last", &[])]);
    stage.stop().await;
    assert_eq!(fake.0.requests.lock().expect("fine").len(), 1);
}

#[tokio::test]
async fn an_alertmanager_that_is_away_does_not_hold_up_the_stop() {
    let stage = Stage::start(&["127.0.0.1:1".to_owned()], Vec::new(), None);
    stage.outbox.push(vec![notice("Lost", &[])]);
    let status = stage.status.clone();
    while status.alertmanagers().values().all(|alertmanager| alertmanager.last_error.is_none()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let began = std::time::Instant::now();
    let text = stage.stop().await.expose();
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(text.contains("collector_notifications_dropped_total{reason=\"stopping\"} 1"), "{text}");
    assert!(text.contains("reason=\"connect\"}"), "{text}");
}

async fn sidecar(records: Value) -> String {
    serve(Router::new().route("/logs/recent", get(move || async move { Json(records) }))).await
}

fn record(second: u32, message: &str) -> Value {
    json!({
        "timestamp": format!("2026-01-01T00:00:{second:02}.000Z"), "level": "error", "service": "order",
        "version": "1", "environment": "prod", "trace_id": "0af7651916cd43dd8448eb211c80319c", "message": message,
    })
}

fn stopped(service: &str) -> StoppedTask {
    StoppedTask {
        cluster: "demo".to_owned(),
        service: service.to_owned(),
        task_id: "t0".to_owned(),
        at: Timestamp(1_700_000_000_000),
        reason: StopReason::ContainerExited,
        text: "Task failed; app: exit code 1, password=hunter2".to_owned(),
    }
}

#[tokio::test]
async fn the_first_send_waits_for_nothing_and_the_second_carries_the_evidence() {
    let directory = tempfile::tempdir().expect("a directory");
    let state = crate::state::Config::default().open(directory.path(), &Metrics::new()).await.expect("opened");
    let (fake, addr) = FakeAlertmanager::start().await;
    let failing =
        sidecar(json!({"records": [record(1, "payment refused, token=abc"), record(2, "gave up")], "dropped": 0}))
            .await;
    let targets = vec![
        target(&failing, &[("service", "order"), ("environment", "prod"), ("task_id", "t1")]),
        target("127.0.0.1:1", &[("service", "order"), ("environment", "prod"), ("task_id", "t2")]),
        target("127.0.0.1:1", &[("service", "user"), ("environment", "prod"), ("task_id", "t3")]),
    ];
    let alert = notice("HighErrorRate", &[("service", "order"), ("environment", "prod")]);
    let mut targets = targets;
    targets[0].discovered = Labels::from_pairs([
        ("__meta_ecs_service", "prod-order"),
        ("__meta_ecs_task_image_digests", "app sha256:12, sidecar sha256:34"),
        ("__meta_ecs_service_deployment", "order:12 IN_PROGRESS, 1 of 3 running"),
    ]);
    let stage = Stage::start(std::slice::from_ref(&addr), targets, Some(state.clone()));
    stage.stops.add("arn".into(), stopped("prod-order"), true);
    stage.stops.add("other".into(), stopped("prod-user"), true);
    stage.outbox.push(vec![alert.clone()]);
    let requests = fake.requests(2).await;
    assert_eq!(requests[0][0]["annotations"], json!({"summary": "it is down"}));
    assert_eq!(
        requests[1][0]["annotations"],
        json!({
            "summary": "it is down",
            "evidence_logs": "2026-01-01T00:00:01.000Z payment refused, token=[redacted]\n2026-01-01T00:00:02.000Z gave up",
            "evidence_trace_id": "0af7651916cd43dd8448eb211c80319c",
            "evidence_task": "t1",
            "evidence_error": "t2: connection refused or unreachable",
            "evidence_image_digest": "app sha256:12, sidecar sha256:34",
            "evidence_deployment": "order:12 IN_PROGRESS, 1 of 3 running",
            "evidence_stops": "2023-11-14T22:13:20.000Z t0 Task failed; app: exit code 1, password=[redacted]",
        })
    );
    assert_eq!(requests[0][0]["labels"], requests[1][0]["labels"], "evidence never changes the alert's identity");
    let delivery = stage.status.delivery(alert.fingerprint).expect("known");
    assert_eq!(delivery.evidence.get("evidence_task"), Some("t1"));

    // A resend carries it without asking again, and so does another process with the same database.
    stage.outbox.push(vec![alert.clone()]);
    assert_eq!(fake.requests(3).await[2][0]["annotations"]["evidence_task"], "t1");
    stage.stop().await;
    fake.0.requests.lock().expect("fine").clear();
    let stage = Stage::start(&[addr], Vec::new(), Some(state));
    stage.outbox.push(vec![alert]);
    // What SQL knows may be there before the first request has left.
    assert_eq!(fake.until("evidence_task").await, "t1");
}

#[tokio::test]
async fn an_alert_without_known_targets_says_so() {
    let (fake, addr) = FakeAlertmanager::start().await;
    let stage = Stage::start(&[addr], Vec::new(), None);
    stage.outbox.push(vec![notice("Down", &[("service", "order")])]);
    assert_eq!(fake.until("evidence_error").await, "no target of {service=\"order\"} is known");
}

/// Who asked, and the alerts that came.
type Seen = Arc<Mutex<Vec<(String, Value)>>>;

/// Remembers each request with its credentials.
async fn guarded() -> (Seen, String) {
    let seen = Seen::default();
    let take = |Shared(seen): Shared<Seen>, headers: HeaderMap, Json(alerts): Json<Value>| async move {
        let who = headers.get("authorization").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        seen.lock().expect("fine").push((who, alerts));
    };
    let router = Router::new().route("/deep/api/v2/alerts", post(take)).with_state(seen.clone());
    (seen, serve(router).await)
}

#[tokio::test]
async fn alertmanagers_come_from_files_and_each_entry_has_its_own_labels_and_credentials() {
    let (seen, addr) = guarded().await;
    let (later, later_addr) = guarded().await;
    let dir = tempfile::tempdir().expect("a directory");
    let (file, token) = (dir.path().join("am.yml"), dir.path().join("token"));
    std::fs::write(&file, format!("[{{targets: ['{addr}'], labels: {{use: 'yes'}}}}, {{targets: ['127.0.0.1:1']}}]"))
        .expect("written");
    std::fs::write(&token, "first\n").expect("written");
    let entry = format!(
        "  - path_prefix: deep\n    file_sd_configs: [{{files: ['{}']}}]\n    authorization: {{credentials_file: '{}'}}\n    \
         relabel_configs: [{{action: keep, source_labels: [use], regex: 'yes'}}]\n    \
         alert_relabel_configs: [{{target_label: team, replacement: a}}]\n",
        file.display(),
        token.display()
    );
    let stage = Stage::start_with(&entry, Vec::new(), None);
    assert_eq!(stage.status.alertmanagers().len(), 0, "nothing is known before the first look at discovery");
    stage.outbox.push(vec![notice("Down", &[])]);
    let until = async |seen: &Mutex<Vec<(String, Value)>>, count: usize| {
        let wait = async {
            while seen.lock().expect("fine").len() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("it arrives");
    };
    until(&seen, 1).await;
    let (who, alerts) = seen.lock().expect("fine")[0].clone();
    assert_eq!((who.as_str(), &alerts[0]["labels"]["team"]), ("Bearer first", &json!("a")));
    assert_eq!(stage.status.alertmanagers().into_keys().collect::<Vec<_>>(), [format!("http://{addr}/deep")]);

    // A rotated token, and another Alertmanager.
    std::fs::write(&token, "second").expect("written");
    std::fs::write(&file, format!("[{{targets: ['{addr}', '{later_addr}'], labels: {{use: 'yes'}}}}]"))
        .expect("written");
    let two = async {
        while stage.status.alertmanagers().len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), two).await.expect("the file is read again");
    stage.outbox.push(vec![notice("Down", &[])]);
    until(&seen, 2).await;
    until(&later, 1).await;
    assert_eq!(later.lock().expect("fine")[0].0, "Bearer second");
    stage.stop().await;
}

#[tokio::test]
async fn an_alertmanager_that_a_servers_list_names_late_is_told_what_fires_already() {
    let (fake, addr) = FakeAlertmanager::start().await;
    let listed = Arc::new(Mutex::new(json!([])));
    let list = listed.clone();
    let answer = move || async move { Json(list.lock().expect("fine").clone()) };
    let server = serve(Router::new().route("/list", get(answer))).await;
    let entry = format!(
        "  - path_prefix: am\n    http_sd_configs: [{{url: 'http://{server}/list', refresh_interval: 20ms}}]\n"
    );
    let stage = Stage::start_with(&entry, Vec::new(), None);
    let resolved = Notice { resolved: true, ..notice("Over", &[]) };
    stage.outbox.push(vec![notice("Down", &[]), resolved, notice("Muted", &[("mute", "yes")])]);
    // The alerts have been taken while the list named nobody.
    while stage.outbox.0.queue.len() > 0 {
        tokio::task::yield_now().await;
    }
    *listed.lock().expect("fine") = json!([{"targets": [addr]}]);
    let requests = fake.requests(1).await;
    let names: Vec<_> = requests[0].iter().map(|alert| alert["labels"]["alertname"].clone()).collect();
    assert_eq!(names, ["Down"]);
    assert_eq!(stage.status.alertmanagers().into_keys().collect::<Vec<_>>(), [format!("http://{addr}/am")]);
    stage.stop().await;
}

#[test]
fn what_cannot_be_spoken_to_is_refused_by_name() {
    for (entry, expected) in [
        ("static_configs: [{targets: ['http://x']}]", "alertmanager target \"http://x\" is not HOST:PORT"),
        ("tls_config: {cert_file: a.pem}", "tls_config: cert_file needs key_file beside it"),
        ("timeout: 0s", "alertmanagers: timeout cannot be 0"),
        ("http_sd_configs: [{url: 'ftp://x'}]", "http_sd_configs: url \"ftp://x\" is not http or https"),
        (
            "{basic_auth: {username: u}, authorization: {credentials: c}}",
            "alertmanagers: at most one of basic_auth and authorization must be configured",
        ),
    ] {
        let entry: AlertmanagerConfig = serde_saphyr::from_str(entry).expect(entry);
        let config = Config { alertmanagers: vec![entry], ..Config::default() };
        assert_eq!(config.check(), Err(expected.to_owned()));
    }
    let missing = TlsConfig { ca_file: Some("/nowhere/ca.pem".into()), ..TlsConfig::default() };
    let error =
        AlertmanagerConfig { tls_config: missing, ..AlertmanagerConfig::default() }.client().expect_err("missing");
    assert_eq!(error.to_string(), "tls_config: failed to read `/nowhere/ca.pem`");
}

/// A receiver of messages, and where it is.
async fn hook() -> (Seen, String) {
    let seen = Seen::default();
    let take = |Shared(seen): Shared<Seen>, Json(message): Json<Value>| async move {
        let mut seen = seen.lock().expect("fine");
        seen.push((String::new(), message));
        // The first message meets a receiver that is not quite there.
        if seen.len() == 1 { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }
    };
    let router = Router::new().route("/secret-path", post(take)).with_state(seen.clone());
    (seen, serve(router).await)
}

async fn messages(seen: &Seen, count: usize) -> Vec<Value> {
    let wait = async {
        loop {
            let messages: Vec<Value> = seen.lock().expect("fine").iter().map(|(_, message)| message.clone()).collect();
            if messages.len() >= count {
                return messages;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("messages")
}

#[tokio::test]
async fn a_webhook_is_told_once_of_a_firing_and_once_of_its_end_also_over_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let state = crate::state::Config::default().open(directory.path(), &Metrics::new()).await.expect("opened");
    let (seen, addr) = hook().await;
    let hooks = format!(
        "    []\n  webhooks: [{{url: 'http://{addr}/secret-path', group_wait: 50ms, group_by: [alertname]}}]\n"
    );
    let start = |state: &State| Stage::start_with(&hooks, Vec::new(), Some(state.clone()));
    // Of no service: no evidence comes between the first message and the second.
    let (order, user) = (notice("Down", &[("queue", "order")]), notice("Down", &[("queue", "user")]));

    let stage = start(&state);
    stage.outbox.push(vec![order.clone(), user.clone()]);
    let first = messages(&seen, 2).await;
    assert_eq!(first[0], first[1], "a receiver that was away is told again");
    let message = &first[1];
    assert_eq!(
        (message["version"].as_str(), message["status"].as_str(), message["groupKey"].as_str()),
        (Some("4"), Some("firing"), Some("{}:{alertname=\"Down\"}"))
    );
    assert_eq!(message["groupLabels"], json!({"alertname": "Down"}));
    assert_eq!(message["commonAnnotations"], json!({"summary": "it is down"}));
    assert_eq!(message["alerts"].as_array().map(Vec::len), Some(2));
    assert_eq!(message["alerts"][0]["endsAt"], "0001-01-01T00:00:00Z");
    let metrics = stage.stop().await.expose();
    assert!(
        metrics.contains(&format!("collector_notifications_sent_total{{alertmanager=\"webhook http://{addr}\"}} 2"))
    );
    assert!(!metrics.contains("secret-path"));

    // The next process: one alert goes on, which nobody is told again, the other is over, which is told once.
    let stage = start(&state);
    let over = Notice { resolved: true, ends_at: Timestamp(1_700_000_000_500), ..user };
    stage.outbox.push(vec![order.clone(), over.clone()]);
    let all = messages(&seen, 3).await;
    let mut told: Vec<_> =
        all[2]["alerts"].as_array().expect("alerts").iter().filter_map(|alert| alert["status"].as_str()).collect();
    told.sort_unstable();
    assert_eq!(told, ["firing", "resolved"], "one message about the group");
    stage.outbox.push(vec![order, over]);
    stage.stop().await;
    assert_eq!(messages(&seen, 3).await.len(), 3, "and no more");
}
