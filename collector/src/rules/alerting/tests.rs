use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn minute(n: u32) -> Timestamp {
    Timestamp(0) + n * MINUTE
}

fn observed(service: &str, value: f64) -> Observed {
    Observed {
        labels: Labels::from_pairs([("alertname", "A"), ("service", service)]),
        annotations: Labels::from_pairs([("summary", format!("{service} {value}"))]),
        value,
    }
}

fn timing(hold: u32, keep: u32) -> Timing {
    Timing { hold: hold * MINUTE, keep_firing_for: keep * MINUTE }
}

/// Runs one service through minutes 0, 1, 2…: `#` is in the result, `.` is not. Returns one letter per minute:
/// p(ending), f(iring), r(esolved), `-` unknown.
fn life(timing: Timing, result: &str) -> String {
    let mut alerts = ActiveAlerts::default();
    let step = |(n, c): (u32, char)| {
        let vector = if c == '#' { vec![observed("order", 1.0)] } else { Vec::new() };
        alerts.advance(minute(n), timing, 0, vector).expect("no limit");
        match alerts.iter().next().map(|alert| alert.state) {
            None => '-',
            Some(AlertState::Pending) => 'p',
            Some(AlertState::Firing) => 'f',
            Some(AlertState::Inactive) => 'r',
        }
    };
    (0..).zip(result.chars()).map(step).collect()
}

#[test]
fn an_alert_lives_as_in_prometheus() {
    for (hold, keep, result, expected) in [
        (0, 0, "##..", "ffrr"),
        (2, 0, "#####.", "ppfffr"),
        // A gap restarts `for`.
        (2, 0, "##.###", "pp-ppf"),
        (2, 0, "##..", "pp--"),
        // keep_firing_for counts from the first minute without it.
        (0, 3, "#.....", "ffffrr"),
        (0, 3, "#..#..", "ffffff"),
        // Pending alerts are not kept.
        (3, 5, "##..", "pp--"),
        // Resolved for 15 minutes and not a minute more.
        (0, 0, "#.................", "frrrrrrrrrrrrrrrr-"),
        // Firing again while resolved is a new alert.
        (1, 0, "##.##", "pfrpf"),
    ] {
        let got = life(timing(hold, keep), result);
        assert!(got.starts_with(expected), "for {hold}m keep {keep}m over {result}: {got}, expected {expected}");
    }
}

#[test]
fn raising_for_by_a_reload_makes_a_firing_alert_pending_again() {
    let mut alerts = ActiveAlerts::default();
    for n in 0..2 {
        alerts.advance(minute(n), timing(1, 0), 0, vec![observed("order", 1.0)]).expect("fine");
    }
    assert_eq!(alerts.iter().next().expect("one").fired_at, Some(minute(1)));
    alerts.advance(minute(2), timing(5, 0), 0, vec![observed("order", 1.0)]).expect("fine");
    let alert = alerts.iter().next().expect("one");
    assert_eq!((alert.state, alert.fired_at, alert.active_at), (AlertState::Pending, None, minute(0)));
}

#[test]
fn value_and_annotations_follow_the_result_and_stay_when_it_is_gone() {
    let mut alerts = ActiveAlerts::default();
    alerts.advance(minute(0), timing(0, 0), 0, vec![observed("order", 1.0)]).expect("fine");
    alerts.advance(minute(1), timing(0, 0), 0, vec![observed("order", 2.0)]).expect("fine");
    alerts.advance(minute(2), timing(0, 0), 0, Vec::new()).expect("fine");
    let alert = alerts.iter().next().expect("one");
    assert_eq!((alert.value, alert.annotations.get("summary")), (2.0, Some("order 2")));
    assert_eq!(alert.resolved_at, Some(minute(2)));
}

#[test]
fn duplicates_change_nothing_and_too_many_alerts_forget_all() {
    let mut alerts = ActiveAlerts::default();
    alerts.advance(minute(0), timing(0, 0), 2, vec![observed("order", 1.0)]).expect("within the limit");
    let before = alerts.clone();
    let twice = vec![observed("user", 1.0), observed("user", 2.0)];
    assert_eq!(alerts.advance(minute(1), timing(0, 0), 2, twice), Err(AlertingError::DuplicateLabels));
    assert_eq!(alerts, before);
    let three = vec![observed("a", 1.0), observed("b", 1.0), observed("c", 1.0)];
    let error = alerts.advance(minute(1), timing(0, 0), 2, three).expect_err("too many");
    assert_eq!(error.to_string(), "exceeded limit of 2 with 3 alerts");
    assert_eq!(alerts.iter().count(), 0);
}

#[test]
fn alerts_are_written_as_series_while_pending_or_firing() {
    let mut alerts = ActiveAlerts::default();
    let print = |alerts: &ActiveAlerts, at| -> Vec<String> {
        alerts.samples(at).iter().map(|s| format!("{} {} {:?}", s.labels, s.value, s.timestamp)).collect()
    };
    alerts.advance(minute(1), timing(1, 0), 0, vec![observed("order", 1.0)]).expect("fine");
    assert_eq!(
        print(&alerts, minute(1)),
        [
            r#"ALERTS{alertname="A", alertstate="pending", service="order"} 1 60000ms"#,
            r#"ALERTS_FOR_STATE{alertname="A", service="order"} 60 60000ms"#,
        ]
    );
    alerts.advance(minute(2), timing(1, 0), 0, vec![observed("order", 1.0)]).expect("fine");
    assert!(print(&alerts, minute(2))[0].contains("firing"));
    alerts.advance(minute(3), timing(1, 0), 0, Vec::new()).expect("fine");
    assert_eq!(alerts.samples(minute(3)), []);
}

#[test]
fn notices_are_due_at_once_then_by_the_resend_delay_and_at_once_when_resolved() {
    let resend = 3 * MINUTE;
    let mut alerts = ActiveAlerts::default();
    let mut sent = Vec::new();
    for n in 0..26 {
        let vector = if n < 8 { vec![observed("order", f64::from(n))] } else { Vec::new() };
        alerts.advance(minute(n), timing(1, 0), 0, vector).expect("fine");
        for notice in alerts.take_due(minute(n), resend, MINUTE, "up == 0") {
            assert_eq!(notice.starts_at, minute(1));
            let ends_in = (notice.ends_at.as_millis() - minute(n).as_millis()) / 60_000;
            sent.push((n, notice.resolved, ends_in));
        }
    }
    // Pending at 0; fires at 1; a resend needs more than three minutes since the last; resolves at 8 and is
    // re-sent until it is forgotten at 24.
    assert_eq!(sent, [(1, false, 12), (5, false, 12), (8, true, 0), (12, true, -4), (16, true, -8), (20, true, -12)]);
}

#[test]
fn a_restored_alert_is_held_until_seen_or_until_the_hold_ends() {
    let restored = |state| Alert {
        state,
        fired_at: Some(minute(0)),
        last_sent_at: Some(minute(9)),
        held_until: Some(minute(12)),
        ..Alert::new(observed("order", 1.0), minute(0))
    };
    let mut unseen = ActiveAlerts::default();
    unseen.restore([restored(AlertState::Firing)]);
    for (n, expected) in [(10, AlertState::Firing), (11, AlertState::Firing), (12, AlertState::Inactive)] {
        unseen.advance(minute(n), timing(1, 0), 0, Vec::new()).expect("fine");
        assert_eq!(unseen.iter().next().expect("kept").state, expected, "minute {n}");
    }
    let mut seen = ActiveAlerts::default();
    seen.restore([restored(AlertState::Firing)]);
    seen.advance(minute(10), timing(1, 0), 0, vec![observed("order", 1.0)]).expect("fine");
    assert_eq!(seen.take_due(minute(10), 2 * MINUTE, MINUTE, ""), [], "sent a minute ago: no second page");
    seen.advance(minute(11), timing(1, 0), 0, Vec::new()).expect("fine");
    assert_eq!(seen.iter().next().expect("kept").state, AlertState::Inactive, "seen once, then gone: resolved");
}

#[test]
fn labels_of_rule_and_name_lie_over_those_of_the_result() {
    let result = Labels::from_pairs([("__name__", "up"), ("service", "order"), ("team", "x"), ("alertname", "no")]);
    let rule = [("team".to_owned(), String::new()), ("severity".to_owned(), "page".to_owned())];
    assert_eq!(
        alert_labels(&result, &rule, "Down").to_string(),
        r#"{alertname="Down", service="order", severity="page"}"#
    );
}

/// The value was computed by Alertmanager (`GET /api/v2/alerts`, field `fingerprint`).
#[test]
fn fingerprints_are_those_of_alertmanager() {
    assert_eq!(Fingerprint::of(&Labels::empty()).to_string(), "cbf29ce484222325");
    let labels = Labels::from_pairs([("alertname", "Down"), ("service", "order")]);
    assert_eq!(Fingerprint::of(&labels).to_string(), "597731a95cd0c06d");
}
