use axum::routing::post;
use axum::{Form, Json, Router};
use serde_json::{Value, json};
use service::Shutdown;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

const RULES: &str = r#"
groups:
  - name: g
    rules:
      - {record: service:failing, expr: 'max by (service) (failing{env="prod"} offset 1m)'}
      - alert: Failing
        expr: service:failing > 0 and avg_over_time(failing[10m]) >= 0
        for: 1m
      - {alert: Quiet, expr: service:failing > 5}
"#;

fn file(directory: &Path, rules: &str) -> std::path::PathBuf {
    let path = directory.join("r.yml");
    std::fs::write(&path, rules).expect("written");
    path
}

fn window(url: &str) -> Window {
    let (start, end) = (Timestamp(0) + 60 * MINUTE, Timestamp(0) + 120 * MINUTE);
    Window { url: Url::parse(url).expect("a URL"), token: None, start, end, interval: MINUTE }
}

#[test]
fn what_is_fetched_reaches_back_as_far_as_the_expressions_do_and_leaves_out_what_is_recorded() {
    let directory = tempfile::tempdir().expect("a directory");
    let external_url = Url::parse("http://localhost/").expect("a URL");
    let globals = Globals { external_url, external_labels: Labels::empty() };
    let file = file::load(&file(directory.path(), RULES), &globals, NameValidation::Utf8).expect("good");
    let needs = Needs::of(&file);
    let selectors: Vec<_> = needs.selectors.iter().map(String::as_str).collect();
    assert_eq!(selectors, [r#"{__name__="failing"}"#, r#"{env="prod",__name__="failing"}"#]);
    assert_eq!(needs.before, 15 * MINUTE);
}

/// Answers like an engine that has one series, failing from minute 70 to 79, 85 to 89, and from 115 on.
async fn engine() -> String {
    let answer = |Form(form): Form<BTreeMap<String, String>>| async move {
        assert!(form["query"].ends_with("[4500000ms]"), "{form:?}");
        assert_eq!(form["time"], "7200");
        let failing = |n: u32| (70..80).contains(&n) || (85..90).contains(&n) || n >= 115;
        let value = |n: u32| json!([f64::from(n) * 60.0, if failing(n) { "1" } else { "0" }]);
        let values: Vec<Value> = (45..=120).map(value).collect();
        let metric = json!({"__name__": "failing", "service": "order", "env": "prod"});
        Json(
            json!({"status": "success", "data": {"resultType": "matrix", "result": [{"metric": metric, "values": values}]}}),
        )
    };
    let router = Router::new().route("/api/v1/query", post(answer));
    let listener = service::http::bind(([127, 0, 0, 1], 0).into(), "test").await.expect("port 0");
    let url = format!("http://{}/", listener.local_addr().expect("bound"));
    service::task::spawn("engine", service::http::serve(listener, router, Shutdown::new()));
    url
}

#[tokio::test]
async fn rules_are_replayed_over_what_an_engine_has() {
    let directory = tempfile::tempdir().expect("a directory");
    let rules = RULES.replace("and avg", "and on (service) avg");
    let window = window(&engine().await);
    let report = run(&file(directory.path(), &rules), &window).await.expect("an answer");
    assert_eq!(
        report.to_string(),
        "Failing: fired 3 times, 16m in all, 9m at the longest, 1 flaps, 1 still firing\nQuiet: never fired\n"
    );
    let stricter =
        run(&file(directory.path(), &rules.replace("for: 1m", "for: 6m")), &window).await.expect("an answer");
    assert_eq!(
        stricter.against(&report),
        "Failing:\n  before: fired 3 times, 16m in all, 9m at the longest, 1 flaps, 1 still firing\n  after:  fired 1 \
         times, 4m in all, 4m at the longest, 0 flaps\nQuiet: never fired, as before\n"
    );
}
