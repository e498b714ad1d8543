use telemetry::Labels;

use super::super::alerting::Observed;
use super::super::file::{GroupSpec, Place, RuleSpec};
use super::super::group::GroupTiming;
use super::*;
use crate::state;
use service::metrics::Metrics;

const MINUTE: Duration = Duration::from_secs(60);

fn minute(n: u32) -> Timestamp {
    Timestamp(0) + n * MINUTE
}

fn group(hold: Duration) -> Group {
    let kind = RuleKind::Alert {
        name: "Down".into(),
        hold,
        hold_stated: true,
        keep_firing_for: Duration::ZERO,
        annotations: Vec::new(),
    };
    let rule = RuleSpec { kind, expr: "up == 0".into(), labels: Vec::new(), place: Place::default() };
    let spec = GroupSpec {
        name: "g".into(),
        file: "/etc/rules/r.yml".into(),
        interval: None,
        query_offset: None,
        limit: 0,
        rules: vec![rule],
    };
    let timing = GroupTiming { interval: MINUTE, query_offset: Duration::ZERO, resend_delay: MINUTE };
    Group::new(spec, timing)
}

fn observed() -> Observed {
    Observed {
        labels: Labels::from_pairs([("alertname", "Down"), ("service", "order")]),
        annotations: Labels::empty(),
        value: 0.0,
    }
}

/// A group whose alert has been active from minute 0 to `until`.
fn running(hold: Duration, until: u32) -> Group {
    let mut group = group(hold);
    for n in 0..=until {
        let timing = super::super::alerting::Timing { hold, keep_firing_for: Duration::ZERO };
        group.rules[0].alerts.advance(minute(n), timing, 0, vec![observed()]).expect("fine");
        group.rules[0].alerts.take_due(minute(n), MINUTE, MINUTE, "up == 0");
        group.last_evaluation = Some(minute(n));
    }
    group
}

/// The state and activity after a process that knew `old` was away until `now`.
fn after(old: &Group, hold: Duration, now: Timestamp) -> Option<Alert> {
    let rows = GroupRows { evaluated_at: old.last_evaluation, alerts: rows(old).into_values().collect() };
    let mut new = group(hold);
    restore(&mut new, rows, &Config::default(), now);
    new.rules[0].alerts.iter().next().cloned()
}

#[test]
fn a_short_restart_loses_no_time_of_for() {
    let hold = 5 * MINUTE;
    let alert = after(&running(hold, 2), hold, minute(3)).expect("restored");
    assert_eq!((alert.state, alert.active_at), (AlertState::Pending, minute(0)));
    assert_eq!(alert.held_until, Some(minute(3) + Config::default().restore_hold));
}

#[test]
fn an_outage_does_not_count_towards_for_and_leaves_a_long_for_its_grace() {
    let short = 5 * MINUTE;
    let alert = after(&running(short, 2), short, minute(32)).expect("restored");
    assert_eq!(alert.active_at, minute(30), "two of five minutes are done, the outage is not");
    let long = 60 * MINUTE;
    let early = after(&running(long, 20), long, minute(50)).expect("restored");
    assert_eq!(early.active_at, minute(30));
    let late = after(&running(long, 55), long, minute(80)).expect("restored");
    assert_eq!(late.active_at + long, minute(90), "fires after the grace period of ten minutes");
    assert_eq!(after(&running(short, 2), short, minute(70)), None, "older than the outage tolerance");
}

#[test]
fn a_firing_alert_comes_back_firing_and_is_not_sent_again_at_once() {
    let alert = after(&running(Duration::ZERO, 3), Duration::ZERO, minute(4)).expect("restored");
    assert_eq!(
        (alert.state, alert.fired_at, alert.last_sent_at),
        (AlertState::Firing, Some(minute(0)), Some(minute(2)))
    );
}

#[tokio::test]
async fn what_groups_offer_is_in_the_database_and_what_is_gone_is_deleted() {
    let directory = tempfile::tempdir().expect("a directory");
    let state = state::Config::default().open(directory.path(), &Metrics::new()).await.expect("opened");
    let memory = Memory::new(state.clone());
    let mut saved = BTreeMap::new();
    memory.offer(&running(5 * MINUTE, 2));
    memory.save(&mut saved).await.expect("saved");
    let rows = state.load_group("r.yml/g").await.expect("readable");
    assert_eq!(rows.evaluated_at, Some(minute(2)));
    assert_eq!(rows.alerts[0].state, "pending");

    // A new process knows nothing of the row until it has read it; its group has no alert any more.
    let mut empty = group(5 * MINUTE);
    empty.last_evaluation = Some(minute(3));
    let memory = Memory::new(state.clone());
    memory.offer(&empty);
    memory.save(&mut BTreeMap::new()).await.expect("saved");
    assert_eq!(state.load_group("r.yml/g").await.expect("readable").alerts, []);
}

#[tokio::test]
async fn a_database_that_is_away_keeps_the_offer_for_later() {
    let directory = tempfile::tempdir().expect("a directory");
    let state = state::Config::default().open(directory.path(), &Metrics::new()).await.expect("opened");
    let memory = Memory::new(state.clone());
    state.close().await;
    memory.offer(&running(Duration::ZERO, 1));
    assert!(memory.save(&mut BTreeMap::new()).await.is_err());
    assert_eq!(memory.0.offered.lock().expect("fine").len(), 1);
    let mut fresh = group(Duration::ZERO);
    memory.restore(&mut fresh, &Config::default(), minute(2)).await;
    assert_eq!(fresh.alerts().count(), 0, "starts without it");
}
