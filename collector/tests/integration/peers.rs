//! Beside a real Prometheus: the same configuration file and the same target, and then the same questions to both.
//!
//! Needs `prometheus` and `promtool`. Without them the tests say what stays untested; under CI that is a failure.
//! Debian's is Prometheus 2; what Prometheus 3 changed is left out here, by name:
//! `format_query` (a space after `by`), `parse_query`, `features`, `stats`' `samplesRead`, `scrape_pools/config`,
//! `droppedTargetCounts`, the one spelling of bounds (`le="1.0"`), filters of `rules` by name, errors that begin with
//! the parameter's name, warnings of `sort` in a range, and the place of an error in an empty text.

use std::process::{Output, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use service::config::{Env, ProcessEnv};
use tokio::process::{Child, Command};

use crate::rig::Rig;

const RULES: &str = "groups:\n- name: g\n  interval: 300ms\n  limit: 7\n  rules:\n\
    \x20 - {record: 'jobs:sum', expr: sum(jobs_total), labels: {team: x}}\n\
    \x20 - {alert: Busy, expr: jobs_total > 5, labels: {severity: warning}, annotations: {summary: 'queue {{ $labels.queue }}'}}\n\
    \x20 - {alert: Later, expr: vector(0.0512), for: 1h, keep_firing_for: 5m}\n\
    \x20 - {alert: Never, expr: jobs_total > 1000}\n";

async fn is_installed(untested: &str) -> bool {
    let found = Command::new("promtool").arg("--version").output().await.is_ok();
    if !found {
        assert!(ProcessEnv.get("CI").is_none_or(|ci| ci != "true"), "prometheus is not installed: {untested}");
        eprintln!("prometheus is not installed (Debian package prometheus), so this stays untested: {untested}");
    }
    found
}

/// Samples with a time of their own: both stores hold exactly the same.
fn metrics(seconds: u64) -> String {
    let at = seconds * 1000;
    format!(
        "# HELP jobs_total Jobs done.\n# TYPE jobs_total counter\n\
         jobs_total{{queue=\"mail\"}} 7 {at}\njobs_total{{queue=\"web\"}} 3 {at}\n\
         # HELP wait_seconds Waiting.\n# TYPE wait_seconds histogram\n\
         wait_seconds_bucket{{le=\"0.1\"}} 1 {at}\nwait_seconds_bucket{{le=\"1.0\"}} 5 {at}\n\
         wait_seconds_bucket{{le=\"+Inf\"}} 6 {at}\nwait_seconds_sum 3.5 {at}\nwait_seconds_count 6 {at}\n\
         # TYPE odd gauge\nodd{{kind=\"nan\"}} NaN {at}\nodd{{kind=\"inf\"}} -Inf {at}\n\
         odd{{kind=\"tiny\"}} 1e-9 {at}\nodd{{kind=\"huge\"}} 1.5e300 {at}\nodd{{kind=\"\\\"\\\\\\n<&>\"}} 0.1 {at}\n"
    )
}

struct Prometheus {
    url: String,
    _process: Child,
    _dir: tempfile::TempDir,
}

impl Prometheus {
    async fn start(config: &std::path::Path) -> Prometheus {
        let dir = tempfile::tempdir().expect("a directory");
        // Prometheus cannot be asked which port it got: one that was free a moment ago, and another if it is taken.
        for _ in 0..5 {
            let free = std::net::TcpListener::bind(("127.0.0.1", 0)).and_then(|l| l.local_addr()).expect("a port");
            let mut process = Command::new("prometheus")
                .arg(format!("--config.file={}", config.display()))
                .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
                .arg(format!("--web.listen-address={free}"))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .kill_on_drop(true)
                .spawn()
                .expect("prometheus starts");
            let url = format!("http://{free}");
            for _ in 0..500 {
                let ready = Client::new().get(format!("{url}/-/ready")).send().await;
                if ready.is_ok_and(|answer| answer.status() == StatusCode::OK) {
                    return Prometheus { url, _process: process, _dir: dir };
                }
                if process.try_wait().expect("waited for").is_some() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        panic!("prometheus does not become ready");
    }

    async fn json(&self, path: &str) -> (u16, Value) {
        let answer = Client::new().get(format!("{}{path}", self.url)).send().await.expect("an answer");
        (answer.status().as_u16(), answer.json().await.expect("JSON"))
    }

    async fn until(&self, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        for _ in 0..1000 {
            last = self.json(path).await.1["data"].take();
            if holds(&last) {
                return last;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{path} never answered what was expected, last: {last:#}");
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// Both, after both have scraped the target and evaluated the rules.
async fn both(at: u64) -> (Rig, Prometheus) {
    let rig = Rig::start_scraping(metrics(at), "rule_files: ['*.rules.yml']", &[("a.rules.yml", RULES)]).await;
    let theirs = Prometheus::start(&rig.dir.path().join("collector.yml")).await;
    let evaluated = |data: &Value| data["groups"][0]["rules"][3]["health"] == "ok";
    let filled = |data: &Value| data["result"][0]["value"][1] == "10";
    for (path, holds) in [
        ("/api/v1/query?query=jobs:sum", &filled as &dyn Fn(&Value) -> bool),
        ("/api/v1/rules", &evaluated),
        ("/api/v1/alerts", &|data| data["alerts"].as_array().is_some_and(|alerts| alerts.len() == 2)),
    ] {
        rig.until(path, holds).await;
        theirs.until(path, holds).await;
    }
    (rig, theirs)
}

/// The documents without what may differ: times of evaluation, and the order where none is promised.
fn settled(mut value: Value) -> Value {
    fn walk(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for (name, field) in fields.iter_mut() {
                    match name.as_str() {
                        "error" => {
                            // Prometheus 2 named the parameter in some places only, and wrote it large in others.
                            let text = field.as_str().unwrap_or_default();
                            let text = text.trim_start_matches("invalid parameter \"query\": ");
                            *field = json!(text.replace("Invalid time", "invalid time"));
                        }
                        "evaluationTime" | "lastScrapeDuration" => *field = json!(field.is_number()),
                        "lastEvaluation" | "activeAt" | "lastScrape" => {
                            *field =
                                json!(field.as_str().is_some_and(|text| text.starts_with("20") && text.ends_with('Z')));
                        }
                        _ => walk(field),
                    }
                }
            }
            Value::Array(items) => {
                items.iter_mut().for_each(walk);
                if items.iter().all(Value::is_object) {
                    items.sort_by_key(Value::to_string);
                }
            }
            // 0 and 0.0 are the same number.
            Value::Number(_) => *value = json!(value.as_f64()),
            _ => {}
        }
    }
    walk(&mut value);
    value
}

fn encoded(query: &str) -> String {
    url::form_urlencoded::byte_serialize(query.as_bytes()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_those_of_prometheus_field_by_field() {
    if !is_installed("whether our documents are Prometheus'").await {
        return;
    }
    let at = now();
    let (rig, theirs) = both(at).await;
    let (mut paths, from, to) = (Vec::new(), at - 20, at + 40);
    for query in [
        "jobs_total",
        "odd",
        "-odd",
        "odd * 1e25",
        "odd{kind=\"tiny\"} / 1e3",
        "sum(jobs_total)",
        "sum without (queue) (jobs_total)",
        "topk(1, jobs_total)",
        "histogram_quantile(0.9, wait_seconds_bucket)",
        "jobs_total > bool 5",
        "label_replace(jobs_total, \"new\", \"$1-x\", \"queue\", \"(.*)\")",
        "scalar(sum(jobs_total))",
        "1/3",
        "1/0",
        "absent(nothing{job=\"x\"})",
        "count_values(\"v\", odd)",
        "jobs_total / on(queue) group_left() jobs_total",
        "timestamp(jobs_total)",
        "vector(-0.0)",
        "sum_over_time(jobs_total[1m])",
        "max_over_time(jobs_total[1m:7s])",
        // Errors.
        "up{",
        "sum(",
        "rate(up)",
        "foo(1)",
        "up{a=\"b\",}x",
    ] {
        let query = encoded(query);
        paths.push(format!("query?query={query}&time={}", at + 1));
        paths.push(format!("query_range?query={query}&start={from}&end={to}&step=7"));
    }
    paths.push(format!("query?query=jobs_total[1m]&time={}.5", at + 1));
    paths.push(format!("query?query=%27text%27&time={at}"));
    for path in [
        "query?query=up&time=x",
        "query?query=up&timeout=x",
        "query_range?query=up&start=5&end=1&step=1",
        "query_range?query=up&start=1&end=5&step=0",
        "query_range?query=up&start=1&end=5&step=-1",
        "query_range?query=up&start=0&end=11001&step=1",
        "query_range?query=up&end=5&step=1",
        "query_range?query=up&start=1&end=5",
        "query_range?query=%27text%27&start=1&end=5&step=1",
        "query_range?query=up[1m]&start=1&end=5&step=1",
        "query_exemplars?query=jobs_total",
        "query_exemplars?query=sum(",
        "query_exemplars?query=up&start=5&end=4",
        "format_query?query=1%2B1",
        "format_query?query=sum(",
        "series",
        "series?match[]=up+up",
        "series?match[]={job=\"app\"}",
        "series?match[]=odd&match[]=jobs_total",
        "series?match[]=odd&start=5&end=4",
        "series?match[]={}",
        "labels?match[]={job=\"app\"}",
        "labels?match[]=up{",
        "labels?match[]={}",
        "label/__name__/values?match[]={job=\"app\"}",
        "label/queue/values",
        "label/nothing/values",
        "label/kind/values?match[]=odd",
        "label/kind/values?match[]={job=~\".*\"}",
        "metadata?metric=jobs_total",
        "metadata?metric=odd",
        "metadata?metric=nothing",
        "metadata?metric=jobs_total&limit=0",
        "metadata?limit=x",
        "targets/metadata?match_target={job=\"app\"}",
        "targets/metadata?match_target={job=\"app\"}&metric=jobs_total",
        "targets/metadata?match_target={job=\"app\"}&limit=0",
        "targets/metadata?match_target=up{",
        "targets/metadata?limit=x",
        "rules",
        "rules?type=alert",
        "rules?type=record",
        "rules?type=x",
        "alerts",
        "alertmanagers",
        "status/walreplay",
        "admin/nonsense",
    ] {
        paths.push(path.to_owned());
    }
    let mut differences = Vec::new();
    for path in &paths {
        let path = format!("/api/v1/{path}");
        let (status, ours) = rig.json(&path).await;
        let answer = Client::new().get(format!("{}{path}", theirs.url)).send().await.expect("an answer");
        let (their_status, text) = (answer.status(), answer.text().await.expect("text"));
        // Where Prometheus has no such path it says so without JSON.
        let theirs = serde_json::from_str(&text).unwrap_or_else(|_| ours.clone());
        if (status, settled(ours.clone())) != (their_status, settled(theirs.clone())) {
            differences.push(format!("{path}\n  ours   {status} {ours}\n  theirs {their_status} {theirs}"));
        }
    }
    assert!(differences.is_empty(), "{} of {}:\n{}", differences.len(), paths.len(), differences.join("\n"));

    let fields = |value: &Value| value.as_object().map(|fields| fields.keys().cloned().collect::<Vec<_>>());
    for path in ["status/buildinfo", "status/tsdb", "status/config", "targets?scrapePool=app&state=active"] {
        let path = format!("/api/v1/{path}");
        let ((_, ours), (_, mut theirs)) = (rig.json(&path).await, theirs.json(&path).await);
        if path.contains("targets") {
            theirs["data"]["droppedTargetCounts"] = json!({});
            assert_eq!(settled(ours), settled(theirs));
        } else {
            assert_eq!(fields(&ours["data"]), fields(&theirs["data"]), "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_prints_the_same_of_both() {
    if !is_installed("promtool against our API").await {
        return;
    }
    let at = now();
    let (rig, theirs) = both(at).await;
    let ours = format!("http://{}", rig.addr);
    let time = |seconds: u64| seconds.to_string();
    let (start, end) = (time(at - 10), time(at + 20));
    for arguments in [
        vec!["query", "instant", "--time", &end, "URL", "odd"],
        vec!["query", "instant", "--time", &end, "URL", "sum("],
        vec!["query", "range", "--start", &start, "--end", &end, "--step", "5s", "URL", "jobs_total * 2"],
        vec!["query", "series", "--match", "jobs_total", "--match", "odd", "--start", &start, "--end", &end, "URL"],
        vec!["query", "labels", "URL", "queue"],
        vec!["query", "instant", "-o", "json", "--time", &end, "URL", "wait_seconds_bucket"],
    ] {
        let run = async |url: &str| {
            let arguments = arguments.iter().map(|argument| if *argument == "URL" { url } else { argument });
            let Output { status, stdout, stderr } =
                Command::new("promtool").args(arguments).output().await.expect("promtool runs");
            let lines = |bytes: Vec<u8>| {
                // The order of series is not promised.
                let text = String::from_utf8(bytes).expect("text").replace(url, "URL");
                let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
                lines.sort();
                lines
            };
            (status.code(), lines(stdout), lines(stderr))
        };
        let (mut got, mut expected) = (run(&ours).await, run(&theirs.url).await);
        if arguments.contains(&"json") {
            let parsed = |lines: &[String]| settled(serde_json::from_str(&lines.join("")).expect("JSON")).to_string();
            (got.1, expected.1) = (vec![parsed(&got.1)], vec![parsed(&expected.1)]);
        }
        assert_eq!(got, expected, "promtool {arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_federates_from_us() {
    if !is_installed("Prometheus reading /federate").await {
        return;
    }
    let rig = Rig::start_with("rule_files: ['*.rules.yml']", &[("a.rules.yml", RULES)]).await;
    rig.until("/api/v1/query?query=jobs:sum", |data| data["result"][0]["value"][1] == "7").await;
    let config = format!(
        "global: {{scrape_interval: 500ms, scrape_timeout: 500ms, external_labels: {{}}}}\n\
         scrape_configs:\n- job_name: federate\n  honor_labels: true\n  metrics_path: /federate\n\
         \x20 params: {{'match[]': ['jobs_total', '{{__name__=~\"jobs:.*\"}}', 'up{{job=\"app\"}}']}}\n\
         \x20 static_configs: [{{targets: ['{}']}}]\n",
        rig.addr
    );
    let file = rig.dir.path().join("prometheus.yml");
    std::fs::write(&file, config).expect("written");
    let theirs = Prometheus::start(&file).await;
    let instance = rig.target.to_string();
    let expected = json!({"__name__": "jobs_total", "instance": instance, "job": "app", "queue": "mail"});
    let data = theirs.until("/api/v1/query?query=jobs_total", |data| data["result"][0]["value"][1] == "7").await;
    assert_eq!(data["result"][0]["metric"], expected, "labels stay those of the first scrape");
    let data = theirs.until("/api/v1/query?query=jobs:sum", |data| data["result"][0]["value"][1] == "7").await;
    assert_eq!(data["result"][0]["metric"], json!({"__name__": "jobs:sum", "team": "x", "job": "federate"}));
    // The sample's own time comes along, not that of the second scrape.
    let ours = rig.json("/api/v1/query?query=timestamp(up{job=\"app\"})").await.1["data"].take();
    let data =
        theirs.until("/api/v1/query?query=timestamp(up{job=\"app\"})", |data| data["result"][0].is_object()).await;
    let seconds =
        |data: &Value| data["result"][0]["value"][1].as_str().expect("a value").parse::<f64>().expect("seconds");
    assert!((seconds(&ours) - seconds(&data)).abs() < 60.0, "{ours} {data}");
    let (status, body) = {
        let answer = rig.get("/federate?match[]=up{").send().await.expect("an answer");
        (answer.status(), answer.text().await.expect("text"))
    };
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body.contains("parse error"), "{body}");
    let open = rig.get("/federate?match[]=jobs_total").header("accept", "application/openmetrics-text").send().await;
    let text = open.expect("an answer").text().await.expect("text");
    assert!(text.starts_with("# TYPE jobs_total unknown\njobs_total{") && text.ends_with("# EOF\n"), "{text}");
}
