use super::*;

async fn verdict(directory: &Path, test: &str) -> Verdict {
    let file = directory.join("it.test.yml");
    std::fs::write(&file, test).expect("written");
    run(&file).await
}

const RULES: &str = r#"
groups:
  - name: second
    rules:
      - alert: Slow
        expr: service:latency > 2
        for: 2m
        labels: {severity: page}
        annotations: {summary: '{{ $labels.service }} takes {{ $value }}s'}
  - name: first
    rules:
      - record: service:latency
        expr: max by (service) (latency)
"#;

fn with_rules() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("it.rules.yml"), RULES).expect("written");
    directory
}

#[tokio::test]
async fn a_test_passes_when_every_alert_and_sample_is_as_expected() {
    let directory = with_rules();
    let test = r#"
rule_files: ["*.rules.yml"]
group_eval_order: [first, second]
tests:
  - input_series:
      - {series: 'latency{service="order",task="a"}', values: '3x10'}
      - {series: 'latency{service="user"}', values: '1x10'}
    alert_rule_test:
      - {eval_time: 1m, alertname: Slow, exp_alerts: []}
      - eval_time: 2m30s
        alertname: Slow
        exp_alerts:
          - exp_labels: {severity: page, service: order}
            exp_annotations: {summary: 'order takes 3s'}
    promql_expr_test:
      - expr: service:latency
        eval_time: 3m
        exp_samples:
          - {labels: 'service:latency{service="order"}', value: 3}
          - {labels: 'service:latency{service="user"}', value: 1}
"#;
    let verdict = verdict(directory.path(), test).await;
    assert_eq!(verdict.failures(), Vec::<String>::new());
    assert_eq!(verdict.tests.len(), 1);
    let covered: Vec<_> =
        verdict.coverage.iter().map(|((_, line, name), fired)| (*line, name.as_str(), *fired)).collect();
    assert_eq!(covered, [(5, "Slow", true)]);
}

#[tokio::test]
async fn recorded_histograms_can_be_expected() {
    let directory = tempfile::tempdir().expect("a directory");
    let rules = "groups: [{name: g, rules: [{record: 'job:seconds', expr: sum by (job) (seconds)}]}]";
    std::fs::write(directory.path().join("it.rules.yml"), rules).expect("written");
    let test = r#"
rule_files: [it.rules.yml]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {series: 'seconds{job="j",i="1"}', values: '{{count:3 sum:4 buckets:[1 2]}}x4'}
      - {series: 'seconds{job="j",i="2"}', values: '{{count:1 sum:2 buckets:[0 1]}} stale'}
    promql_expr_test:
      - expr: job:seconds
        eval_time: 0
        exp_samples: [{labels: 'job:seconds{job="j"}', histogram: '{{count:4 sum:6 buckets:[1 3]}}'}]
      - expr: job:seconds
        eval_time: 2m
        exp_samples: [{labels: 'job:seconds{job="j"}', histogram: '{{count:EXPECTED sum:4 counter_reset_hint:not_reset buckets:[1 2]}}'}]
"#;
    let right = verdict(directory.path(), &test.replace("EXPECTED", "3")).await;
    assert_eq!(right.failures(), Vec::<String>::new());
    let wrong = verdict(directory.path(), &test.replace("EXPECTED", "4")).await.failures().join("");
    assert!(wrong.contains("{{count:3 sum:4 counter_reset_hint:not_reset buckets:[1 2]}}"), "{wrong}");
}

#[tokio::test]
async fn what_differs_is_shown_as_expected_and_got() {
    let directory = with_rules();
    let test = r#"
rule_files: [it.rules.yml]
group_eval_order: [first, second]
tests:
  - name: wrong
    input_series:
      - {series: 'latency{service="order"}', values: '3x10'}
    alert_rule_test:
      - {eval_time: 5m, alertname: Slow, exp_alerts: []}
    promql_expr_test:
      - {expr: 'latency', eval_time: 0, exp_samples: []}
"#;
    let verdict = verdict(directory.path(), test).await;
    assert_eq!(
        verdict.failures(),
        [
            "wrong: alertname: Slow, time: 5m,\n    exp: []\n    got: [\n      Labels:{alertname=\"Slow\", \
             service=\"order\", severity=\"page\"} Annotations:{summary=\"order takes 3s\"}]",
            "wrong: expr: \"latency\", time: 0s,\n    exp: nil\n    got: \n      latency{service=\"order\"} 3",
        ]
    );
}

#[tokio::test]
async fn a_file_that_is_wrong_says_where() {
    let directory = with_rules();
    let unknown = verdict(directory.path(), "tests:\n  - inputs: []\n").await;
    assert!(unknown.failures()[0].contains("it.test.yml:2:5: "), "{:?}", unknown.failures());
    let missing = verdict(directory.path(), "rule_files: [none.yml]\n").await;
    assert!(missing.failures()[0].contains("none.yml` does not exist"), "{:?}", missing.failures());
    let order = verdict(directory.path(), "group_eval_order: [a, a]\n").await;
    assert_eq!(order.failures(), ["group name repeated in evaluation order: a"]);
}

/// Others' test files, where they are at hand: promtool's verdict on each.
#[tokio::test]
async fn promtools_own_test_files_get_promtools_verdict() {
    let Some(shared) = shared() else { return };
    let directory = shared.join("conformance/promtool-rules");
    for (file, passes) in [
        ("no-test-group-interval.yml", true),
        ("negative-offset-test.yml", true),
        ("unittest.yml", true),
        ("failing.yml", false),
        ("rules_run.yml", false),
        ("bad-input-series.yml", false),
        ("bad-promql.yml", false),
    ] {
        let verdict = run(&directory.join(file)).await;
        assert_eq!(verdict.passed(), passes, "{file}: {:#?}", verdict.failures());
    }
    let seeds = run(&shared.join("fixtures/rules/seed-alerts.test.yml")).await;
    assert_eq!(seeds.failures(), Vec::<String>::new());
}

/// The folder beside the checkout with others' test cases; tests pass without it.
fn shared() -> Option<PathBuf> {
    use service::config::{Env, ProcessEnv};
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let path = ProcessEnv.get("PICKET_SHARED").map_or(beside, PathBuf::from);
    path.is_dir().then_some(path)
}
