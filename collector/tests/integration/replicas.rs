//! Several replicas on one Postgres: what they share, and who alone may do what.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use collector::state::lease::{self, LeaseName};
use collector::state::{AlertRow, Config, EvidenceRow, FiringRow, Published, ScalingEntry, State};
use service::metrics::Metrics;
use service::{Shutdown, Tasks};
use telemetry::{Labels, Timestamp};

use crate::postgres::Postgres;
use crate::rig::Rig;

async fn open(url: &str) -> State {
    Config { url: Some(url.to_owned()) }.open(Path::new("/nowhere"), &Metrics::new()).await.expect("a good URL")
}

fn row(fingerprint: &str) -> AlertRow {
    AlertRow {
        rule_key: "Down{}#0".to_owned(),
        fingerprint: fingerprint.to_owned(),
        state: "firing".to_owned(),
        labels: Labels::from_pairs([("alertname", "Down"), ("service", "order")]),
        annotations: Labels::from_pairs([("summary", "it is \"down\"")]),
        value: f64::INFINITY,
        active_at: Timestamp(1000),
        fired_at: Some(Timestamp(2000)),
        keep_firing_since: None,
        resolved_at: None,
        last_sent_at: Some(Timestamp(3000)),
    }
}

#[tokio::test]
async fn replicas_on_one_postgres_see_what_the_other_wrote() {
    let Some(postgres) = Postgres::start().await else { return };
    // Both come at once: each finds the schema made or makes it.
    let (a, b) = (open(&postgres.url()).await, open(&postgres.url()).await);
    let (first, second) = tokio::join!(a.load_group("g"), b.load_group("g"));
    assert_eq!((first.expect("made").alerts, second.expect("made").alerts), (Vec::new(), Vec::new()));

    a.save_group("g", Timestamp(5000), &[row("aa"), row("bb")], &BTreeSet::new()).await.expect("saved");
    let seen = b.load_group("g").await.expect("readable");
    assert_eq!((seen.evaluated_at, seen.alerts), (Some(Timestamp(5000)), vec![row("aa"), row("bb")]));
    let gone = BTreeSet::from([("Down{}#0".to_owned(), "aa".to_owned())]);
    b.save_group("g", Timestamp(6000), &[], &gone).await.expect("saved");
    assert_eq!(a.load_group("g").await.expect("readable").alerts, [row("bb")]);

    let evidence = |text: &str| EvidenceRow {
        fingerprint: "aa".to_owned(),
        fired_at: Timestamp(2000),
        annotations: Labels::from_pairs([("evidence_logs", text)]),
        gathered_at: Timestamp(2500),
    };
    a.save_evidence(&evidence("first")).await.expect("saved");
    b.save_evidence(&evidence("second")).await.expect("saved");
    assert_eq!(b.evidence("aa").await.expect("readable"), Some(evidence("first")));
    assert_eq!(b.forget_evidence(Timestamp(9000)).await.expect("deleted"), 1);

    let dashboard = Published {
        kind: "dashboard".to_owned(),
        name: "order".to_owned(),
        hash: "1".to_owned(),
        body: "{}".to_owned(),
        published_at: Timestamp(1),
    };
    a.save_published(&dashboard).await.expect("saved");
    assert_eq!(b.published("dashboard").await.expect("readable"), [dashboard]);
    b.forget_published("dashboard", "order").await.expect("deleted");

    let entry = |at, resource: &str| ScalingEntry {
        at: Timestamp(at),
        resource: resource.to_owned(),
        schedule: "s".to_owned(),
        outcome: "applied".to_owned(),
        min_before: Some(1),
        max_before: None,
        min_after: Some(2),
        max_after: Some(6),
        reason: "window began".to_owned(),
    };
    a.append_scaling(&entry(1, "x")).await.expect("saved");
    b.append_scaling(&entry(2, "y")).await.expect("saved");
    assert_eq!(a.scaling_history(None, 9).await.expect("readable"), [entry(2, "y"), entry(1, "x")]);
    assert_eq!(a.scaling_history(Some("x"), 9).await.expect("readable"), [entry(1, "x")]);

    let firing = |resolved_at| FiringRow {
        rule_group: "g".to_owned(),
        alert: "Down".to_owned(),
        fingerprint: "aa".to_owned(),
        fired_at: Timestamp(2000),
        resolved_at,
        labels: row("aa").labels,
    };
    a.note_firings(&[firing(Some(Timestamp(4000)))]).await.expect("saved");
    b.note_firings(&[firing(None)]).await.expect("saved");
    assert_eq!(a.firings(Timestamp(0)).await.expect("readable"), [firing(Some(Timestamp(4000)))]);
}

#[tokio::test]
async fn a_lease_is_one_holders_until_it_ends_and_its_epoch_grows_with_each_holder() {
    let Some(postgres) = Postgres::start().await else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let sqlite = Config::default().open(dir.path(), &Metrics::new()).await.expect("a file");
    for state in [open(&postgres.url()).await, sqlite] {
        let (short, long) = (Duration::from_millis(300), Duration::from_secs(60));
        assert_eq!(state.take_lease("l", "a", long).await.expect("asked"), Some(1));
        assert_eq!(state.take_lease("l", "b", long).await.expect("asked"), None, "it is a's");
        assert_eq!(state.take_lease("l", "a", short).await.expect("asked"), Some(1), "renewed");
        let started = Instant::now();
        let epoch = loop {
            if let Some(epoch) = state.take_lease("l", "b", long).await.expect("asked") {
                break epoch;
            }
        };
        assert_eq!(epoch, 2);
        assert!(started.elapsed() >= Duration::from_millis(200), "not before its end: {:?}", started.elapsed());
        assert_eq!(state.take_lease("l", "a", long).await.expect("asked"), None);
        assert!(state.holds_lease("l", 2).await.expect("asked") && !state.holds_lease("l", 1).await.expect("asked"));
        state.release_lease("l", "a").await.expect("asked");
        assert_eq!(state.take_lease("l", "a", long).await.expect("asked"), None, "only its holder gives it up");
        state.release_lease("l", "b").await.expect("asked");
        assert_eq!(state.take_lease("l", "a", long).await.expect("asked"), Some(3));
    }
}

#[tokio::test]
async fn a_replica_that_stops_hands_its_leases_over_at_once() {
    let Some(postgres) = Postgres::start().await else { return };
    let start = async |metrics: &Metrics| {
        let (state, mut tasks, stop) = (open(&postgres.url()).await, Tasks::new(), Shutdown::new());
        let leases = lease::spawn(&state, metrics, &mut tasks, &stop);
        let running = service::task::spawn("leases", tasks.run(stop.clone(), Duration::from_secs(5)));
        (leases, stop, running)
    };
    let (metrics_a, metrics_b) = (Metrics::new(), Metrics::new());
    let (a, stop_a, running_a) = start(&metrics_a).await;
    tokio::join!(a.publish.until_held(), a.scaling.until_held(), a.rules_write.until_held());
    let (b, stop_b, running_b) = start(&metrics_b).await;
    stop_a.request();
    running_a.await.expect("no panic").expect("stops");
    assert_eq!(a.scaling.epoch(), None);
    let started = Instant::now();
    b.scaling.until_held().await;
    assert!(started.elapsed() < lease::TTL, "no waiting for the end: {:?}", started.elapsed());
    assert_eq!((b.scaling.name(), b.scaling.epoch()), (LeaseName::Scaling, Some(2)));
    assert!(metrics_b.expose().contains("collector_lease_held{lease=\"scaling\"} 1"));
    stop_b.request();
    running_b.await.expect("no panic").expect("stops");
}

#[tokio::test]
async fn a_postgres_that_is_away_keeps_nobody_from_starting_and_is_used_when_it_comes() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let metrics = Metrics::new();
    let config = Config { url: Some(format!("postgres://u:hunter2@{free}/d")) };
    let state = config.open(Path::new("/nowhere"), &metrics).await.expect("it starts");
    let error = format!("{:#}", anyhow::Error::from(state.load_group("g").await.expect_err("away")));
    assert!(!error.contains("hunter2"), "{error}");
    assert!(metrics.expose().contains("collector_state_errors_total{operation=\"load alerts\"} 1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_replicas_the_holder_alone_sends_what_rules_recorded_and_the_other_goes_on_for_it() {
    let Some(postgres) = Postgres::start().await else { return };
    let receiver = Rig::start("").await;
    let start = async |replica: &str| {
        // The first server is told by the holder, the second by everybody.
        let entry = |name: &str, more: &str| {
            format!(
                "{{name: {name}, url: 'http://{}/api/v1/write', queue_config: {{batch_send_deadline: 50ms}}, {more}, \
                 write_relabel_configs: [{{target_label: replica, replacement: {replica}}}, {{target_label: way, \
                 replacement: {name}}}]}}",
                receiver.addr
            )
        };
        let (one, every) = (entry("one", "remote_timeout: 5s"), entry("every", "recorded_series: every_replica"));
        let more = format!("rule_files: [r.yml]\nstate: {{url: '{}'}}\nremote_write: [{one}, {every}]", postgres.url());
        let rules = "groups: [{name: g, rules: [{record: 'jobs:sum', expr: 'sum(jobs_total)'}]}]";
        Rig::start_with(&more, &[("r.yml", rules)]).await
    };
    let (a, b) = tokio::join!(start("a"), start("b"));
    let replicas = async |query: &str| -> BTreeSet<String> {
        let (_, answer) = receiver.json(&format!("/api/v1/query?query={query}")).await;
        let result = answer["data"]["result"].as_array().cloned().unwrap_or_default();
        result.iter().filter_map(|series| Some(series["metric"]["replica"].as_str()?.to_owned())).collect()
    };
    let both = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
    let until = async |query: &str, expected: &BTreeSet<String>| {
        let wait = async {
            while replicas(query).await != *expected {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(30), wait).await;
        assert!(waited.is_ok(), "{query}: {:?}, not {expected:?}", replicas(query).await);
    };
    until("jobs_total{way=%22one%22}", &both).await;
    until("jobs:sum{way=%22every%22}", &both).await;
    let recorded = "jobs:sum{way=%22one%22}";
    let left = async |rig: &Rig| {
        let metrics = rig.get("/metrics").send().await.expect("an answer").text().await.expect("text");
        let line = metrics.lines().find(|line| {
            line.starts_with("prometheus_remote_storage_samples_left_to_holder_total") && line.contains("\"one\"")
        });
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).unwrap_or(0.0)
    };
    // Whoever does not hold the lease has left several evaluations to the other.
    let holds_a = loop {
        let (of_a, of_b) = (left(&a).await, left(&b).await);
        if of_a.max(of_b) >= 5.0 && !replicas(recorded).await.is_empty() {
            break of_b > of_a;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let (holder, other, names) = if holds_a { (a, b, ["a", "b"]) } else { (b, a, ["b", "a"]) };
    assert_eq!(replicas(recorded).await, BTreeSet::from([names[0].to_owned()]));
    drop(holder);
    until(recorded, &both).await;
    drop(other);
}
