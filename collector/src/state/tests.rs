use std::collections::BTreeSet;

use telemetry::{Labels, Timestamp};

use super::*;

async fn open(directory: &Path) -> State {
    Config::default().open(directory, &Metrics::new()).await.expect("a new database")
}

fn row(rule_key: &str, fingerprint: &str) -> AlertRow {
    AlertRow {
        rule_key: rule_key.to_owned(),
        fingerprint: fingerprint.to_owned(),
        state: "firing".to_owned(),
        labels: Labels::from_pairs([("alertname", "Down"), ("service", "order")]),
        annotations: Labels::from_pairs([("summary", "it is \"down\"")]),
        value: 0.25,
        active_at: Timestamp(1000),
        fired_at: Some(Timestamp(2000)),
        keep_firing_since: None,
        resolved_at: None,
        last_sent_at: Some(Timestamp(3000)),
    }
}

#[tokio::test]
async fn alert_state_survives_a_reopened_database_and_follows_what_is_saved() {
    let directory = tempfile::tempdir().expect("a directory");
    let state = open(directory.path()).await;
    assert_eq!(state.load_group("g").await.expect("readable"), GroupRows::default());
    let (a, mut b) = (row("Down#0", "aa"), row("Down#0", "bb"));
    state.save_group("g", Timestamp(5000), &[a.clone(), b.clone()], &BTreeSet::new()).await.expect("saved");
    state.close().await;

    let state = open(directory.path()).await;
    let loaded = state.load_group("g").await.expect("readable");
    assert_eq!(loaded, GroupRows { evaluated_at: Some(Timestamp(5000)), alerts: vec![a.clone(), b.clone()] });
    assert_eq!(state.load_group("other").await.expect("readable").alerts, []);

    b.state = "inactive".to_owned();
    b.resolved_at = Some(Timestamp(6000));
    b.value = f64::INFINITY;
    let gone = BTreeSet::from([(a.rule_key, a.fingerprint)]);
    state.save_group("g", Timestamp(6000), std::slice::from_ref(&b), &gone).await.expect("saved");
    let loaded = state.load_group("g").await.expect("readable");
    assert_eq!(loaded, GroupRows { evaluated_at: Some(Timestamp(6000)), alerts: vec![b] });
}

#[tokio::test]
async fn evidence_of_one_firing_is_not_replaced_but_the_next_firing_replaces_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let state = open(directory.path()).await;
    let row = |fired_at, text: &str| EvidenceRow {
        fingerprint: "aa".to_owned(),
        fired_at: Timestamp(fired_at),
        annotations: Labels::from_pairs([("evidence_logs", text)]),
        gathered_at: Timestamp(fired_at + 10),
    };
    state.save_evidence(&row(1000, "first")).await.expect("saved");
    state.save_evidence(&row(1000, "second replica")).await.expect("saved");
    assert_eq!(state.evidence("aa").await.expect("readable"), Some(row(1000, "first")));
    state.save_evidence(&row(2000, "fired again")).await.expect("saved");
    assert_eq!(state.evidence("aa").await.expect("readable"), Some(row(2000, "fired again")));
    assert_eq!(state.forget_evidence(Timestamp(5000)).await.expect("deleted"), 1);
    assert_eq!(state.evidence("aa").await.expect("readable"), None);
}

#[tokio::test]
async fn published_things_and_scaling_history_are_kept() {
    let directory = tempfile::tempdir().expect("a directory");
    let state = open(directory.path()).await;
    let dashboard = |hash: &str| Published {
        kind: "dashboard".to_owned(),
        name: "order".to_owned(),
        hash: hash.to_owned(),
        body: "{}".to_owned(),
        published_at: Timestamp(1),
    };
    state.save_published(&dashboard("1")).await.expect("saved");
    state.save_published(&dashboard("2")).await.expect("saved");
    assert_eq!(state.published("dashboard").await.expect("readable"), [dashboard("2")]);
    state.forget_published("dashboard", "order").await.expect("deleted");
    assert_eq!(state.published("dashboard").await.expect("readable"), []);

    let entry = |at, resource: &str| ScalingEntry {
        at: Timestamp(at),
        resource: resource.to_owned(),
        schedule: "business-hours".to_owned(),
        outcome: "applied".to_owned(),
        min_before: Some(1),
        max_before: None,
        min_after: Some(2),
        max_after: Some(6),
        reason: "window began".to_owned(),
    };
    for (at, resource) in [(1, "a"), (2, "b"), (3, "a")] {
        state.append_scaling(&entry(at, resource)).await.expect("saved");
    }
    assert_eq!(state.scaling_history(None, 2).await.expect("readable"), [entry(3, "a"), entry(2, "b")]);
    assert_eq!(state.scaling_history(Some("a"), 9).await.expect("readable"), [entry(3, "a"), entry(1, "a")]);
}

#[tokio::test]
async fn a_database_that_cannot_be_opened_is_one_clear_message() {
    let metrics = Metrics::new();
    let missing = Config::default().open(Path::new("/proc/nowhere"), &metrics).await.err().expect("refused");
    assert_eq!(
        missing.to_string(),
        "failed to open the state database `/proc/nowhere/state.db`: check that its directory exists and is writable"
    );
    let other = Config { url: Some("mysql://u:secret@h/d".to_owned()) };
    let error = other.open(Path::new("."), &metrics).await.err().expect("refused").to_string();
    assert_eq!(
        error,
        "state.url \"mysql://u:***@h/d\" is not supported: write sqlite://PATH or postgres://USER@HOST/DATABASE"
    );
}

#[tokio::test]
async fn a_failing_call_is_counted() {
    let directory = tempfile::tempdir().expect("a directory");
    let metrics = Metrics::new();
    let state = Config::default().open(directory.path(), &metrics).await.expect("a new database");
    state.close().await;
    assert!(state.evidence("aa").await.is_err());
    assert!(metrics.expose().contains("collector_state_errors_total{operation=\"load evidence\"} 1"));
}
