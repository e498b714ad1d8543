//! The cases of the Prometheus project's compliance suite for alert generators (prometheus/compliance,
//! alert_generator 1.0): new alerts beside old ones and order within a group, pending to firing to resolved
//! and again, pending to resolved, no `for` and a small one. There they take forty minutes of real time and
//! allow for its tolerance; on a virtual clock every time is exact.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use telemetry::{Labels, Timestamp};
use url::Url;

use super::alerting::{AlertState, Notice};
use super::file::{self, NameValidation};
use super::group::{Group, GroupTiming};
use super::template::Globals;
use super::unit_test::series::{MemoryStore, parse};

/// Between samples, as the suite writes them.
const SCRAPE: Duration = Duration::from_secs(15);
const EVALUATE: Duration = Duration::from_secs(30);
const RESEND: Duration = Duration::from_secs(60);

/// One evaluated group and everything that could be seen of it.
struct Run {
    /// By alert (name and variant): from which second on it was in which state, as name, value, active since.
    states: BTreeMap<String, Vec<(i64, String)>>,
    /// What was sent: second, what, ends at.
    sent: Vec<(i64, Notice)>,
    store: MemoryStore,
}

async fn run(rules: &str, series: &[(&str, &str)], seconds: i64) -> Run {
    let globals =
        Globals { external_url: Url::parse("http://localhost/").expect("a URL"), external_labels: Labels::empty() };
    let file = file::parse(rules, Path::new("r.yml"), &globals, NameValidation::Utf8).expect("a rule file");
    let timing = GroupTiming { interval: EVALUATE, query_offset: Duration::ZERO, resend_delay: RESEND };
    let mut group = Group::new(file.groups[0].clone(), timing);
    let store = MemoryStore::new(EVALUATE);
    let mut input: Vec<_> =
        series.iter().map(|(name, values)| parse(name, values, Timestamp(0), SCRAPE).expect("a series")).collect();
    let mut run = Run { states: BTreeMap::new(), sent: Vec::new(), store };
    for second in (0..=seconds).step_by(30) {
        let at = Timestamp(second * 1000);
        for series in &mut input {
            let due = series.samples.partition_point(|(t, _)| *t <= at);
            run.store.append(&series.labels, series.samples.drain(..due));
        }
        let outcome = group.evaluate(&run.store, at).await;
        assert_eq!(outcome.failures, []);
        run.sent.extend(outcome.notices.into_iter().map(|notice| (second, notice)));
        run.note(&group, second);
        run.check_series(&group, at);
    }
    run
}

impl Run {
    fn note(&mut self, group: &Group, second: i64) {
        let mut now = BTreeMap::new();
        for (_, alert) in group.alerts().filter(|(_, alert)| alert.state != AlertState::Inactive) {
            let state =
                format!("{} {} since {}", alert.state.as_str(), alert.value, alert.active_at.as_millis() / 1000);
            now.insert(named(&alert.labels), state);
        }
        for name in self.states.keys().chain(now.keys()).cloned().collect::<Vec<_>>() {
            let state = now.get(&name).cloned().unwrap_or_else(|| "inactive".to_owned());
            let states = self.states.entry(name).or_default();
            if states.last().is_none_or(|(_, last)| *last != state) {
                states.push((second, state));
            }
        }
    }

    /// `ALERTS` says the same as the rules.
    fn check_series(&self, group: &Group, at: Timestamp) {
        let mut written: Vec<Labels> =
            self.store.query("ALERTS", at).expect("a vector").into_iter().map(|(labels, _)| labels).collect();
        let active = group.alerts().filter(|(_, alert)| alert.state != AlertState::Inactive);
        let mut expected: Vec<Labels> = active
            .map(|(_, alert)| alert.labels.with("__name__", "ALERTS").with("alertstate", alert.state.as_str()))
            .collect();
        written.sort();
        expected.sort();
        assert_eq!(written, expected, "at {at:?}");
    }

    fn states(&self, alert: &str) -> Vec<(i64, &str)> {
        self.states[alert].iter().map(|(second, state)| (*second, state.as_str())).collect()
    }

    /// Seconds at which an alert was sent as firing, and as resolved.
    fn sent(&self, alert: &str) -> (Vec<i64>, Vec<i64>) {
        let of = |resolved: bool| {
            let found = self.sent.iter().filter(|(_, notice)| named(&notice.labels) == alert);
            found.filter(|(_, notice)| notice.resolved == resolved).map(|(second, _)| *second).collect()
        };
        (of(false), of(true))
    }
}

fn named(labels: &Labels) -> String {
    let name = labels.get("alertname").unwrap_or_default();
    labels.get("variant").map_or_else(|| name.to_owned(), |variant| format!("{name}/{variant}"))
}

#[tokio::test]
async fn new_alerts_join_old_ones_and_a_rule_sees_what_the_one_above_it_has_just_written() {
    let rules = r#"
groups:
  - name: g
    interval: 30s
    rules:
      - alert: First
        expr: metric > 10
        for: 3m
        labels: {foo: bar}
      - alert: Second
        expr: >
          (ALERTS{alertstate="firing", alertname="First", variant="one"}
            + ignoring(variant) ALERTS{alertstate="firing", alertname="First", variant="two"}) == 2
        labels: {ba_dum: tss, foo: baz}
        annotations: {description: 'was {{ $labels.alertname }}, foo was {{ .Labels.foo }}'}
"#;
    let series = [(r#"metric{variant="one"}"#, "1x7 11x64 9x20"), (r#"metric{variant="two"}"#, "1x31 11x32 9x20")];
    let run = run(rules, &series, 1400).await;
    assert_eq!(
        run.states("First/one"),
        [(120, "pending 11 since 120"), (300, "firing 11 since 120"), (1110, "inactive")]
    );
    assert_eq!(
        run.states("First/two"),
        [(480, "pending 11 since 480"), (660, "firing 11 since 480"), (990, "inactive")]
    );
    // In the evaluation in which the second one fires, and no longer than in that in which it ends.
    assert_eq!(run.states("Second"), [(660, "firing 2 since 660"), (990, "inactive")]);
    let (_, second) = run.sent.iter().find(|(_, notice)| named(&notice.labels) == "Second").expect("sent");
    assert_eq!(
        second.labels,
        Labels::from_pairs([("alertname", "Second"), ("alertstate", "firing"), ("ba_dum", "tss"), ("foo", "baz")])
    );
    assert_eq!(second.annotations.get("description"), Some("was First, foo was bar"));
}

#[tokio::test]
async fn an_alert_goes_from_pending_to_firing_to_resolved_and_again() {
    let rules = r#"
groups:
  - name: g
    interval: 30s
    rules:
      - alert: Simple
        expr: metric > 10
        for: 6m
        annotations: {summary: 'The value is {{ $value }} {{ .Value }}'}
"#;
    let series = [("metric", "3 5x2 9x3 11x12 15x31 19x15 9x19 15x44 8x15")];
    let run = run(rules, &series, 3200).await;
    assert_eq!(
        run.states("Simple"),
        [
            (120, "pending 11 since 120"),
            (330, "pending 15 since 120"),
            (480, "firing 15 since 120"),
            (810, "firing 19 since 120"),
            (1050, "inactive"),
            (1350, "pending 15 since 1350"),
            (1710, "firing 15 since 1350"),
            (2010, "inactive"),
        ]
    );
    // At once, and then whenever more than the resend delay has passed; resolved for a quarter of an hour, or
    // until it is pending again.
    let (firing, resolved) = run.sent("Simple");
    assert_eq!(firing, [480, 570, 660, 750, 840, 930, 1020, 1710, 1800, 1890, 1980]);
    let again: Vec<i64> = (0..=10).map(|n| 2010 + 90 * n).collect();
    assert_eq!(resolved, [vec![1050, 1140, 1230, 1320], again].concat());
    for (second, notice) in &run.sent {
        let starts_at = if *second < 1700 { 480 } else { 1710 };
        let ends_at = match notice.resolved {
            true if *second < 1700 => 1050,
            true => 2010,
            false => second + 240,
        };
        assert_eq!((notice.starts_at, notice.ends_at), (Timestamp(starts_at * 1000), Timestamp(ends_at * 1000)));
        let value = if (810..1700).contains(second) { 19 } else { 15 };
        assert_eq!(notice.annotations.get("summary"), Some(format!("The value is {value} {value}").as_str()));
    }
}

#[tokio::test]
async fn an_alert_that_does_not_last_is_never_sent_and_neither_is_one_that_never_was() {
    let rules = r#"
groups:
  - name: g
    interval: 30s
    rules:
      - {alert: Short, expr: metric > 10, for: 3m}
      - {alert: Never, expr: metric > 99, for: 3m}
      - {alert: Cut, expr: ends > 10, for: 8m}
"#;
    // The last one ends without a marker: what is not scraped any more is looked up for five minutes.
    let series = [("metric", "3 5x2 9x3 11x10 9"), ("ends", "3 5x2 9x3 11x10")];
    let run = run(rules, &series, 900).await;
    assert_eq!(run.states("Short"), [(120, "pending 11 since 120"), (300, "inactive")]);
    assert_eq!(run.states("Cut"), [(120, "pending 11 since 120"), (570, "inactive")]);
    assert!(!run.states.contains_key("Never"));
    assert_eq!(run.sent, [], "nothing was sent");
}

#[tokio::test]
async fn without_for_it_fires_at_once_and_with_a_small_one_at_the_next_evaluation() {
    let rules = r#"
groups:
  - name: g
    interval: 30s
    rules:
      - alert: Zero
        expr: metric > 10
        annotations:
          numbers: '{{ humanize 1048576 }} {{ humanize1024 1048576 }} {{ humanizeDuration 135.3563 }} {{ humanizePercentage 0.959 }} {{ humanizeTimestamp 1643114203 }}'
          queried: '{{ define "x" }}{{ .arg0 }} {{ .arg1 }} {{ .arg2 }}: {{ with query "ids" }}{{ . | sortByLabel "id" | first | label "id" }},{{ range $v := sortByLabel "id" . }}{{ . | label "id" }}:{{ . | value }},{{ end }}{{ end }}{{ end }}{{ template "x" (args "foo" "bar" 99) }}'
      - alert: Small
        expr: metric > 13
        for: 15s
        annotations:
          texts: '{{ title "this part" }} {{ toUpper "is testing" }} {{ toLower "THE STRINGS" }}. {{ stripPort "[::1]:6006" }} {{ stripPort "127.0.0.1:4004" }}. {{ parseDuration "2h10m15s" }}. {{ if match "[0-9]+" "1234" }}{{ reReplaceAll "r.*d" "replaced" "rpld text" }}{{ end }}. {{ if match "[0-9]+$" "1234a" }}WRONG{{ end }}.'
"#;
    let series = [
        ("metric", "3 5x2 9x3 15x12 9x71 11x12 9"),
        (r#"ids{id="102"}"#, "2x27 4x200"),
        (r#"ids{id="101"}"#, "1x27 2x200"),
    ];
    let run = run(rules, &series, 2700).await;
    assert_eq!(
        run.states("Zero"),
        [(120, "firing 15 since 120"), (330, "inactive"), (1410, "firing 11 since 1410"), (1590, "inactive")]
    );
    assert_eq!(run.states("Small"), [(120, "pending 15 since 120"), (150, "firing 15 since 120"), (330, "inactive")]);
    // Resolved at 330 s, told until a quarter of an hour later, and then not until it fires again.
    let (firing, resolved) = run.sent("Zero");
    assert_eq!(firing, [120, 210, 300, 1410, 1500]);
    assert_eq!(resolved.iter().filter(|second| **second < 1410).max(), Some(&1230));
    assert_eq!(run.sent("Small").0, [150, 240]);
    let annotation = |second: i64, alert: &str, name: &str| {
        let found = run.sent.iter().find(|(s, notice)| *s == second && named(&notice.labels) == alert).expect("sent");
        found.1.annotations.get(name).unwrap_or_default().to_owned()
    };
    assert_eq!(annotation(120, "Zero", "numbers"), "1.049M 1Mi 2m 15s 95.9% 2022-01-25 12:36:43 +0000 UTC");
    assert_eq!(annotation(120, "Zero", "queried"), "foo bar 99: 101,101:1,102:2,");
    assert_eq!(annotation(1410, "Zero", "queried"), "foo bar 99: 101,101:2,102:4,");
    let texts = "This Part IS TESTING the strings. ::1 127.0.0.1. 7815. replaced text. .";
    assert_eq!(annotation(150, "Small", "texts"), texts);
}
