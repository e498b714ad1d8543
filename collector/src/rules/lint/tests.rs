use std::path::Path;

use telemetry::Labels;
use url::Url;

use super::super::file::{NameValidation, parse};
use super::super::template::Globals;
use super::*;

fn findings(text: &str) -> Vec<Finding> {
    let external_url = Url::parse("http://localhost/").expect("a URL");
    let globals = Globals { external_url, external_labels: Labels::empty() };
    lint(&parse(text, Path::new("r.yml"), &globals, NameValidation::Utf8).expect("a rule file"), None)
}

/// The codes found in an alert that lacks nothing but what its expression says.
fn codes(expr: &str) -> Vec<&'static str> {
    let text = format!(
        "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: '{}'\n    for: 5m\n    annotations: {{summary: s, runbook_url: r}}\n",
        expr.replace('\'', "''")
    );
    findings(&text).into_iter().map(|finding| finding.code.as_str()).collect()
}

#[test]
fn expressions_that_are_seldom_meant_are_found_and_right_ones_are_not() {
    for (expr, expected) in [
        // The founding documents' rules, each with its fault.
        (r#"sum by (service) (rate(http_requests_total{status=~"5.."}[5m])) > 0.05"#, &["R004"][..]),
        ("histogram_quantile(0.95, sum by (service) (http_request_duration_seconds)) > 2", &["R003"]),
        ("db_connections_active > 80", &["R009"]),
        // Rates of gauges.
        ("sum by (service) (rate(queue_depth[5m])) > 1", &["R001"]),
        ("sum by (service) (rate(jobs_total[5m])) > 1", &[]),
        // Ratios.
        (r#"max by (service) (rate(x_total{status="500"}[5m]) / rate(x_total[5m])) > 0.1"#, &["R002"]),
        ("max by (service) (rate(x_sum[5m]) / rate(x_count[5m])) > 0.1", &[]),
        (r#"sum by (service) (rate(x_total{status="500"}[5m])) / sum by (service) (rate(x_total[5m])) > 0.1"#, &[]),
        // Quantiles.
        ("histogram_quantile(0.9, sum by (service) (rate(x_bucket[5m]))) > 1", &["R003"]),
        ("histogram_quantile(0.9, sum by (service, le) (rate(x_bucket[5m]))) > 1", &[]),
        ("histogram_quantile(0.9, sum without (task_id, instance) (rate(x_bucket[5m]))) > 1", &[]),
        // Tasks.
        ("up == 0", &["R009"]),
        ("max by (service) (up) == 0", &[]),
        ("service:errors:ratio > 0.1", &[]),
        (r#"absent(up{job="x"})"#, &[]),
        ("count by (service) (up == 0) and on (service) max by (service) (up) == 1", &[]),
        // Never and always.
        (r#"max by (service) (up{service="a", service="b"}) == 0"#, &["R010"]),
        (r#"max by (service) (up{service="a", service=~"b.*"}) == 0"#, &["R010"]),
        ("max by (service) (up)", &["R011"]),
        ("max by (service) (up) == bool 0", &["R011"]),
    ] {
        assert_eq!(codes(expr), expected, "{expr}");
    }
}

#[test]
fn what_an_alert_lacks_is_named_but_a_dead_mans_switch_may_be_bare() {
    let text =
        "groups: [{name: g, rules: [{alert: A, expr: 'max by (s) (up) == 0'}, {alert: Watchdog, expr: vector(1)}]}]";
    let found: Vec<_> = findings(text).iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "r.yml:1:28: R005: A: has no `for`: one bad evaluation pages",
            "r.yml:1:28: R006: A: has no summary annotation",
            "r.yml:1:28: R007: A: has no runbook_url annotation",
        ]
    );
}

#[test]
fn the_place_in_the_expression_is_underlined() {
    let text = "groups:\n- name: g\n  rules:\n  - record: r\n    expr: |\n      1 +\n      rate(queue_depth[5m]) * 2\n";
    let found = findings(text);
    assert_eq!(
        found[0].to_string(),
        "r.yml:4:5: R001: r: rate of queue_depth, whose name is not that of a counter\n    \
         rate(queue_depth[5m]) * 2\n    ^^^^^^^^^^^^^^^^^^^^^"
    );
}

#[test]
fn every_code_is_found_by_its_number_and_explains_itself() {
    for code in Code::ALL {
        assert_eq!(Code::parse(code.as_str()), Some(code));
        assert!(code.explanation().len() > 40, "{code}");
    }
    assert_eq!(Code::parse("r001"), Some(Code::RateOfGauge));
    assert_eq!(Code::parse("R999"), None);
}

#[test]
fn a_metric_that_nothing_exposes_is_named_with_the_nearest_name() {
    let text = r#"
groups:
- name: g
  rules:
  - {record: 'job:x:sum', expr: sum by (job) (http_request_total)}
  - {record: y, expr: 'job:x:sum + up + absent(nobody) + scrape_duration_seconds'}
  - {record: z, expr: wholly_other_thing}
"#;
    let external_url = Url::parse("http://localhost/").expect("a URL");
    let globals = Globals { external_url, external_labels: Labels::empty() };
    let file = parse(text, Path::new("r.yml"), &globals, NameValidation::Utf8).expect("a rule file");
    let mut known = KnownMetrics::new(["http_requests_total", "queue_depth"].map(str::to_owned));
    known.add_recorded(&file);
    let said: Vec<_> = lint(&file, Some(&known)).into_iter().map(|f| (f.code.as_str(), f.problem.message)).collect();
    assert_eq!(
        said,
        [
            (
                "R008",
                "job:x:sum: no target exposes http_request_total; the nearest name is http_requests_total".to_owned()
            ),
            ("R008", "z: no target exposes wholly_other_thing".to_owned())
        ]
    );
}
