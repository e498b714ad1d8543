use std::sync::Mutex;

use telemetry::is_stale_nan;
use url::Url;

use super::super::alerting::AlertState;
use super::super::file::Place;
use super::super::template::Globals;
use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn minute(n: u32) -> Timestamp {
    Timestamp(0) + n * MINUTE
}

/// Answers by expression; remembers what was asked and written, in order.
#[derive(Default)]
struct Scripted {
    answers: Mutex<BTreeMap<String, QueryAnswer>>,
    log: Mutex<Vec<String>>,
}

impl Scripted {
    fn answer(&self, expr: &str, answer: QueryAnswer) {
        self.answers.lock().expect("fine").insert(expr.to_owned(), answer);
    }

    fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().expect("fine"))
    }
}

impl Backend for Scripted {
    async fn instant(&self, expr: &str, at: Timestamp) -> QueryAnswer {
        self.log.lock().expect("fine").push(format!("ask {expr} @{}", at.as_millis() / 1000));
        self.answers.lock().expect("fine").get(expr).cloned().unwrap_or(Ok(Vec::new()))
    }

    async fn write(&self, recorded: Recorded) -> Result<(), String> {
        let value = |value: f64| if is_stale_nan(value) { "stale".to_owned() } else { value.to_string() };
        let print = |s: Sample| format!("write {} {} @{}", s.labels, value(s.value), s.timestamp.as_millis() / 1000);
        self.log.lock().expect("fine").extend(recorded.floats.into_iter().map(print));
        Ok(())
    }
}

fn series(pairs: &[(&str, &str)], value: f64) -> VectorSample {
    let labels = Labels::from_pairs(pairs.iter().copied());
    VectorSample { labels, timestamp: Timestamp(0), value, histogram: None }
}

fn template(text: &str) -> Template {
    let external_url = Url::parse("http://localhost/").expect("a URL");
    let globals = Globals { external_url, external_labels: Labels::empty() };
    Template::parse("t", text, &globals).expect("a template")
}

fn alert(name: &str, expr: &str, labels: &[(&str, &str)], annotations: &[(&str, &str)]) -> RuleSpec {
    let texts = |pairs: &[(&str, &str)]| pairs.iter().map(|(n, t)| ((*n).to_owned(), template(t))).collect();
    let (hold, keep_firing_for) = (Duration::ZERO, Duration::ZERO);
    let kind = RuleKind::Alert {
        name: name.to_owned(),
        hold,
        hold_stated: true,
        keep_firing_for,
        annotations: texts(annotations),
    };
    RuleSpec { kind, expr: expr.to_owned(), labels: texts(labels), place: Place::default() }
}

fn record(name: &str, expr: &str) -> RuleSpec {
    let kind = RuleKind::Record { name: name.to_owned() };
    RuleSpec { kind, expr: expr.to_owned(), labels: Vec::new(), place: Place::default() }
}

fn spec(rules: Vec<RuleSpec>) -> GroupSpec {
    GroupSpec { name: "g".into(), file: "r.yml".into(), interval: None, query_offset: None, limit: 0, rules }
}

fn group(rules: Vec<RuleSpec>) -> Group {
    let timing = GroupTiming { interval: MINUTE, query_offset: Duration::from_secs(10), resend_delay: MINUTE };
    Group::new(spec(rules), timing)
}

#[tokio::test]
async fn rules_run_in_order_at_the_offset_and_vanished_series_end() {
    let backend = Scripted::default();
    backend.answer("first", Ok(vec![series(&[("s", "a")], 1.0), series(&[("s", "b")], 2.0)]));
    let mut group = group(vec![record("r1", "first"), record("r2", "second")]);
    group.evaluate(&backend, minute(1)).await;
    assert_eq!(
        backend.take_log(),
        ["ask first @50", r#"write r1{s="a"} 1 @50"#, r#"write r1{s="b"} 2 @50"#, "ask second @50"]
    );
    backend.answer("first", Ok(vec![series(&[("s", "b")], 3.0)]));
    group.evaluate(&backend, minute(2)).await;
    assert_eq!(
        backend.take_log(),
        ["ask first @110", r#"write r1{s="b"} 3 @110"#, r#"write r1{s="a"} stale @110"#, "ask second @110"]
    );
}

#[tokio::test]
async fn an_alert_is_told_before_its_samples_are_stored_and_the_next_rule_is_asked() {
    let backend = Scripted::default();
    backend.answer("up == 0", Ok(vec![series(&[("s", "a")], 0.0)]));
    // It reads what the rule above it writes, so that it has to wait for it.
    let mut group = group(vec![alert("Down", "up == 0", &[], &[]), record("firing", "ALERTS")]);
    let tell = |rule, notices: Vec<Notice>| {
        backend.log.lock().expect("fine").push(format!("tell {rule} {}", notices[0].labels));
    };
    group.evaluate_and_tell(&backend, minute(1), &tell).await;
    assert_eq!(
        backend.take_log(),
        [
            "ask up == 0 @50",
            r#"tell 0 {alertname="Down", s="a"}"#,
            r#"write ALERTS{alertname="Down", alertstate="firing", s="a"} 1 @50"#,
            r#"write ALERTS_FOR_STATE{alertname="Down", s="a"} 60 @50"#,
            "ask ALERTS @50",
        ]
    );
}

#[tokio::test]
async fn a_failing_rule_keeps_its_state_and_the_others_go_on() {
    let backend = Scripted::default();
    backend.answer("up == 0", Ok(vec![series(&[("s", "a")], 0.0)]));
    backend.answer("1", Ok(vec![series(&[], 1.0)]));
    let mut group = group(vec![alert("Down", "up == 0", &[], &[]), record("one", "1")]);
    group.evaluate(&backend, minute(1)).await;
    backend.take_log();
    backend.answer("up == 0", Err("storage is away".to_owned()));
    let outcome = group.evaluate(&backend, minute(2)).await;
    assert_eq!(outcome.failures, [("Down".to_owned(), "storage is away".to_owned())]);
    assert_eq!(backend.take_log(), ["ask up == 0 @110", "ask 1 @110", "write one 1 @110"], "nothing of Down has ended");
    let states: Vec<_> = group.alerts().map(|(_, alert)| alert.state).collect();
    assert_eq!(states, [AlertState::Firing]);
    assert_eq!(group.rules[0].health, RuleHealth::Failed("storage is away".to_owned()));
    assert_eq!(group.rules[1].health, RuleHealth::Ok);
}

#[tokio::test]
async fn labels_and_annotations_are_expanded_and_errors_become_text() {
    let backend = Scripted::default();
    backend.answer("x", Ok(vec![series(&[("__name__", "x"), ("service", "order")], 0.5)]));
    backend.answer("n", Ok(vec![series(&[], 42.0)]));
    let labels = [("team", "{{ $labels.service }}-team"), ("service", "")];
    let annotations = [
        ("summary", "{{ $value | humanizePercentage }} {{ with query \"n\" }}{{ . | first | value }}{{ end }}"),
        ("broken", "{{ $value | first }}"),
    ];
    let mut group = group(vec![alert("A", "x", &labels, &annotations)]);
    let outcome = group.evaluate(&backend, minute(1)).await;
    let notice = &outcome.notices[0];
    assert_eq!(notice.labels.to_string(), r#"{alertname="A", team="order-team"}"#);
    assert_eq!(notice.annotations.get("summary"), Some("50% 42"));
    let broken = notice.annotations.get("broken").expect("there");
    assert!(broken.starts_with("<error expanding template: ") && broken.ends_with('>'), "{broken}");
    assert_eq!(notice.expr, "x");
}

#[tokio::test]
async fn a_reload_keeps_the_state_of_rules_with_the_same_name_and_labels() {
    let backend = Scripted::default();
    backend.answer("a", Ok(vec![series(&[("s", "a")], 1.0)]));
    backend.answer("b", Ok(vec![series(&[("s", "b")], 1.0)]));
    let mut old = group(vec![alert("A", "a", &[], &[]), alert("B", "b", &[], &[]), record("gone", "a")]);
    old.evaluate(&backend, minute(1)).await;
    // A moved down and has another expression, B has another label, the recording rule is gone.
    let mut new = group(vec![alert("B", "b", &[("severity", "page")], &[]), alert("A", "a or b", &[], &[])]);
    let orphans: Vec<_> = new.take_over(old).iter().map(ToString::to_string).collect();
    assert_eq!(
        orphans,
        [
            r#"ALERTS{alertname="B", alertstate="firing", s="b"}"#,
            r#"ALERTS_FOR_STATE{alertname="B", s="b"}"#,
            r#"gone{s="a"}"#,
        ]
    );
    let known: Vec<_> = new.alerts().map(|(rule, alert)| (rule.spec.name(), alert.active_at)).collect();
    assert_eq!(known, [("A", minute(1))]);
}

#[test]
fn alike_rules_have_keys_of_their_own() {
    let keys = group(vec![record("a", "1"), record("a", "2"), alert("a", "1", &[("x", "y")], &[])]).rule_keys();
    assert_eq!(keys, ["a{}#0", "a{}#1", "a{x=\"y\"}#0"]);
}

#[test]
fn the_grid_is_aligned_and_missed_points_are_counted() {
    let interval = Duration::from_secs(15);
    let grid = Grid::new(&spec(Vec::new()), interval, interval);
    let first = grid.after(Timestamp(1_700_000_000_000));
    assert!(first > Timestamp(1_700_000_000_000) && first <= Timestamp(1_700_000_015_000));
    assert_eq!(grid.after(first), first + interval, "strictly after");
    assert_eq!(grid.after(Timestamp(first.as_millis() - 1)), first);
    assert_eq!(Grid::new(&spec(Vec::new()), interval, interval), grid, "the same in every replica");
    let after = |millis| grid.next(first, Timestamp(first.as_millis() + millis));
    assert_eq!(after(3), (first + interval, 0));
    assert_eq!(after(14_999), (first + interval, 0));
    assert_eq!(after(29_999), (first + interval, 0), "the next point is due at once, not missed");
    assert_eq!(after(30_000), (first + 2 * interval, 1));
    assert_eq!(after(100_000), (first + 6 * interval, 5));
}
